"""Stats <-> YAML: exact, whole, versioned, and refused when its numbers do not follow from its integers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from imgnorm.document import STATS_LIMITS, Document, parse, read_document
from imgnorm.errors import ImgnormError, InvalidDocument, OutputError, Problem
from imgnorm.estimatefile import estimate_faults, estimate_in
from imgnorm.floats import FloatPixels
from imgnorm.histogram import Histogram
from imgnorm.image import STEPS, Mode, Step, channels_of, mode_of, scale_of
from imgnorm.measured import ClassStats, Measurement
from imgnorm.moments import UNIT_BITS, ImageSums, Moments
from imgnorm.output import write_whole
from imgnorm.provenance import Provenance, Shards, combined, names_digest, names_in
from imgnorm.reasons import Reason, Skipped
from imgnorm.stats import Stats, channel_names, merge
from imgnorm.statsmodel import (
    AsFloatsModel,
    ClassModel,
    ConstantsModel,
    ExactModel,
    FloatClassModel,
    FloatConstantsModel,
    FloatExactModel,
    FloatMeasuredModel,
    ImageModel,
    MeasuredModel,
    MergedModel,
    SizeModel,
    SourceModel,
)
from imgnorm.statstext import document_of, text_of
from imgnorm.tally import Counted
from imgnorm.typed import validated


def write_stats(path: str | os.PathLike[str], stats: Stats, *, force: bool = True) -> None:
    """Write a stats file, whole or not at all; with `force`, an existing one is replaced.

    The same stats give the same bytes. What was written is read back before it takes its place.

    Raises:
        OutputError: it cannot be written.
    """
    data = text_of(stats).encode()
    file = os.fspath(path)
    if len(data) > STATS_LIMITS.max_bytes:
        raise OutputError(
            f"{file}: would take {len(data):,} bytes, and a stats file has {STATS_LIMITS.max_bytes:,} at "
            "most; leave the names out (--keep-names)"
        )
    write_whole(file, data, force=force, check=lambda written: parse_stats(written, file))


def read_stats(path: str | os.PathLike[str]) -> Stats:
    """Read a stats file, or constants: a file with only `format`, `mean` and `std`.

    Raises:
        SourceError: there is no such file, or it cannot be read.
        InvalidDocument: it is not a stats file, or its numbers do not follow from its integers.
    """
    return stats_in(read_document(path, STATS_LIMITS))


def parse_stats(data: bytes, file: str) -> Stats:
    """The same from bytes; `file` is what problems call them."""
    return stats_in(parse(data, file, STATS_LIMITS))


def merge_files(
    paths: Sequence[str | os.PathLike[str]],
    *,
    allow_missing: bool = False,
    allow_overlap: bool = False,
    allow_decoders: bool = False,
) -> Stats:
    """The stats files as one; `merge`, of one file after the other, so that memory does not grow.

    Raises:
        ImgnormError: files cannot be read (all of them are told), or do not belong together.
    """
    labels = [os.fspath(path) for path in paths]
    return merge(
        _each_read(labels),
        labels=labels,
        allow_missing=allow_missing,
        allow_overlap=allow_overlap,
        allow_decoders=allow_decoders,
    )


def _each_read(paths: Sequence[str]) -> Iterator[Stats]:
    faults: list[str] = []
    for path in paths:
        try:
            stats = read_stats(path)
        except ImgnormError as error:
            faults.append(str(error))
        else:
            if not faults:  # what follows a fault is read for its faults only
                yield stats
    if faults:
        raise ImgnormError("\n".join(faults))


def stats_in(document: Document) -> Stats:
    """The same from a document.

    Raises:
        InvalidDocument: it is not a stats file, or its numbers do not follow from its integers.
    """
    value = document.value
    of_floats = isinstance(value, dict) and value.get("scale") == 1
    if isinstance(value, dict) and ("exact" in value or "histogram" in value):
        if of_floats:
            return _measured_stats(document, validated(document, FloatMeasuredModel))
        return _measured_stats(document, validated(document, MeasuredModel))
    if of_floats:
        return _constants(document, validated(document, FloatConstantsModel))
    return _constants(document, validated(document, ConstantsModel))


def _constants(document: Document, model: ConstantsModel | FloatConstantsModel) -> Stats:
    channels = tuple(model.channels or channel_names(len(model.mean)))
    problems = [*_length_problems(document, {"mean": model.mean, "std": model.std}, len(channels))]
    if model.image:
        mode: Mode = model.image.mode
        if len(channels) != len(channels_of(mode)):
            message = f"mode {mode} has {list(channels_of(mode))}"
            problems.append(document.problem(("channels",), "channels", message))
        if model.scale != scale_of(mode):
            message = f"{model.scale}; in mode {mode} it is {scale_of(mode)}"
            problems.append(document.problem(("scale",), "unit", message))
    if problems:
        raise InvalidDocument(problems)
    return Stats(
        channels,
        tuple(model.mean),
        tuple(model.std),
        model.scale,
        model.image.mode if model.image else None,
        _steps(model.image),
    )


def _measured_stats(document: Document, model: MeasuredModel | FloatMeasuredModel) -> Stats:
    mode: Mode = model.image.mode
    names = channels_of(mode)
    problems = []
    if tuple(model.channels) != names:
        problems.append(
            document.problem(("channels",), "channels", f"mode {mode} has {list(names)}")
        )
    if isinstance(model, MeasuredModel):
        problems += _histogram_problems(document, model, mode)
        if model.as_floats:
            problems += _float_length_problems(document, model.as_floats, len(names), "as_floats")
    else:
        problems += _float_length_problems(document, model, len(names))
        if model.scale != scale_of(mode):
            message = f"{model.scale}; in mode {mode} it is {scale_of(mode)}"
            problems.append(document.problem(("scale",), "unit", message))
    problems += _image_sums_length_problems(document, model.exact, len(names))
    if model.exact.image_products:
        vectors = dict(model.exact.image_products)
        problems += _length_problems(document, vectors, len(names), "exact", "image_products")
    problems += _class_length_problems(document, model.classes, len(names))
    problems += _source_problems(document, model)
    problems += _names_problems(document, model)
    for index, entry in enumerate(model.skipped):
        if entry.reason not in set(Reason):
            message = f"unknown reason {entry.reason!r}"
            problems.append(document.problem(("skipped", index, "reason"), "reason", message))
    if not problems:
        problems += _impossible_images(document, model)
        if isinstance(model, MeasuredModel):
            problems += _impossible_counts(document, model, scale_of(mode))
            if model.as_floats:
                problems += _impossible_floats(document, model.as_floats, model.images, "as_floats")
                if model.as_floats.exact.count != model.exact.count:
                    message = (
                        f"{model.as_floats.exact.count:,}, but exact.count is {model.exact.count:,}"
                    )
                    path = ("as_floats", "exact", "count")
                    problems.append(_impossible(document, path, message))
        else:
            problems += _impossible_floats(document, model, model.images)
    if not problems and isinstance(model, MeasuredModel):
        moments = _pixels(model, mode).moments()
        problems += [
            _impossible(document, path, message)
            for path, message in estimate_faults(model, moments, scale_of(mode))
        ]
    if problems:
        raise InvalidDocument(problems)
    stats = _rebuilt(model, mode)
    _check_derived(document, stats)
    return stats


def _float_length_problems(
    document: Document, model: FloatMeasuredModel | AsFloatsModel, channels: int, *where: str
) -> Iterator[Problem]:
    vectors: dict[str, list[Any]] = {"min": model.min, "max": model.max}
    yield from _length_problems(document, vectors, channels, *where)
    vectors = {"total": model.exact.total, "total_sq": model.exact.total_sq}
    yield from _length_problems(document, vectors, channels, *where, "exact")
    if isinstance(model, AsFloatsModel):
        yield from _image_sums_length_problems(document, model.exact, channels, *where)
        yield from _class_length_problems(document, model.classes, channels, *where)


def _image_sums_length_problems(
    document: Document, exact: ExactModel, channels: int, *where: str
) -> Iterator[Problem]:
    sums = exact.image_sums
    vectors = {"mean": sums.mean, "mean_sq": sums.mean_sq, "std": sums.std, "std_1": sums.std_1}
    yield from _length_problems(document, vectors, channels, *where, "exact", "image_sums")


def _class_length_problems(
    document: Document,
    classes: Mapping[str, ClassModel] | Mapping[str, FloatClassModel],
    channels: int,
    *where: str,
) -> Iterator[Problem]:
    for name, one in classes.items():
        vectors = {"total": one.total or [], "total_sq": one.total_sq or []}
        if one.count is not None:
            yield from _length_problems(document, vectors, channels, *where, "classes", name)


def _histogram_problems(document: Document, model: MeasuredModel, mode: Mode) -> Iterator[Problem]:
    names, bins = channels_of(mode), scale_of(mode) + 1
    if list(model.histogram) != list(names):
        yield document.problem(("histogram",), "channels", f"mode {mode} has {list(names)}")
    for name, counts in model.histogram.items():
        if len(counts) > bins:
            message = f"{len(counts)} pixel values; mode {mode} has {bins}"
            yield document.problem(("histogram", name), "channels", message)
        elif not any(counts):
            yield document.problem(("histogram", name), "channels", "counts no pixel")


def _impossible(document: Document, path: tuple[str | int, ...], message: str) -> Problem:
    """A number that no images have, from which nothing may be computed."""
    return document.problem(path, "impossible", message, _NOT_EDITED)


def _impossible_images(
    document: Document, model: MeasuredModel | FloatMeasuredModel
) -> Iterator[Problem]:
    images = {
        "modes": sum(model.modes.values()),
        "formats": sum(model.formats.values()),
        "classes": sum(one.images for one in model.classes.values()),
    }
    for key, count in images.items():
        if count > model.images or (count < model.images and key != "classes"):
            message = f"{count:,} images in all; images is {model.images:,}"
            yield _impossible(document, (key,), message)


def _impossible_counts(document: Document, model: MeasuredModel, scale: int) -> Iterator[Problem]:
    pixels = {name: sum(counts) for name, counts in model.histogram.items()}
    for name, count in pixels.items():
        if count != model.exact.count and len(set(pixels.values())) > 1:
            message = f"counts {count:,} pixels; exact.count is {model.exact.count:,}"
            yield _impossible(document, ("histogram", name), message)
    sums = model.exact.image_sums
    vectors = {"mean": sums.mean, "mean_sq": sums.mean_sq, "std": sums.std, "std_1": sums.std_1}
    for key, values in vectors.items():
        for index, value in enumerate(values):
            if not 0 <= value <= model.images << UNIT_BITS:
                message = f"{_short(value)} is not the sum of {model.images:,} numbers in [0, 1]"
                yield _impossible(document, ("exact", "image_sums", key, index), message)
    for name, one in model.classes.items():
        moments = _class_stats(one).moments
        if moments is None:
            continue
        for index, (total, total_sq) in enumerate(
            zip(moments.total, moments.total_sq, strict=True)
        ):
            if not total * total <= moments.count * total_sq <= moments.count * scale * total:
                message = (
                    f"{_short(total_sq)} is not the sum of the squares of {moments.count:,} "
                    f"pixel values that add up to {_short(total)}"
                )
                yield _impossible(document, ("classes", name, "total_sq", index), message)


def _impossible_floats(
    document: Document, model: FloatMeasuredModel | AsFloatsModel, images: int, *where: str
) -> Iterator[Problem]:
    """Also whatever would give a mean or a std beyond the range of a float."""
    exact, sums = model.exact, model.exact.image_sums
    if not exact.count:
        yield _impossible(document, (*where, "exact", "count"), "counts no pixel")
        return
    for index, (least, greatest) in enumerate(zip(model.min, model.max, strict=True)):
        bounds = Fraction(least), Fraction(greatest)
        if not _are_sums(exact, index, *bounds):
            message = (
                f"{_short(exact.total[index])} and its squares are not sums of {exact.count:,} values "
                f"from {least!r} to {greatest!r}"
            )
            yield _impossible(document, (*where, "exact", "total", index), message)
        size = max(map(abs, bounds))
        ranges = {
            "mean": (bounds[0], bounds[1], sums.mean),
            "mean_sq": (Fraction(0), size * size, sums.mean_sq),
            "std": (Fraction(0), 2 * size, sums.std),
            "std_1": (Fraction(0), 2 * size, sums.std_1),
        }
        for key, (low, high, values) in ranges.items():
            unit = images << UNIT_BITS
            if not low * unit - images <= values[index] <= high * unit:
                message = f"{_short(values[index])} is not the sum of {images:,} such numbers"
                yield _impossible(document, (*where, "exact", "image_sums", key, index), message)
        for name, one in model.classes.items():
            if one.count and one.total and one.total_sq and not _are_sums(one, index, *bounds):
                message = f"not the sum of {one.count:,} values from {least!r} to {greatest!r}"
                yield _impossible(document, (*where, "classes", name, "total", index), message)


def _are_sums(
    sums: FloatExactModel | FloatClassModel, index: int, least: Fraction, greatest: Fraction
) -> bool:
    """Whether numbers between the two can add up to this, and their squares to that."""
    assert sums.count
    assert sums.total
    assert sums.total_sq
    total = Fraction(sums.total[index], 1 << sums.unit_bits)
    total_sq = Fraction(sums.total_sq[index], 1 << 2 * sums.unit_bits)
    return (
        sums.count * least <= total <= sums.count * greatest
        and total * total <= sums.count * total_sq
        and total_sq <= sums.count * max(least * least, greatest * greatest)
    )


def _source_problems(
    document: Document, model: MeasuredModel | FloatMeasuredModel
) -> Iterator[Problem]:
    source = model.source
    if isinstance(source, MergedModel):
        total = sum(part.images for part in source.parts)
        if total != model.images:
            message = f"{total:,} images in all, but the file counts {model.images:,}"
            yield document.problem(("source", "parts"), "derived", message)
    parts = source.parts if isinstance(source, MergedModel) else [source]
    for place, part in enumerate(parts):
        path = ("source", "parts", place) if isinstance(source, MergedModel) else ("source",)
        for index, number in enumerate(part.shards.counted if part.shards else ()):
            if part.shards and not 1 <= number <= part.shards.of:
                message = f"there is no shard {number} of {part.shards.of}"
                yield document.problem((*path, "shards", "counted", index), "derived", message)


def _names_problems(
    document: Document, model: MeasuredModel | FloatMeasuredModel
) -> Iterator[Problem]:
    source = model.source
    digests = [
        part.names_sha256
        for part in (source.parts if isinstance(source, MergedModel) else [source])
    ]
    if model.names is None:
        return
    if len(model.names) != len(digests):
        message = f"names of {len(model.names):,} sources, but there are {len(digests):,}"
        yield document.problem(("names",), "derived", message)
        return
    for index, (lines, digest) in enumerate(zip(model.names, digests, strict=True)):
        if names_digest(names_in(lines)) != digest:
            message = f"not those of the source, whose digest is {digest[:8]}..."
            yield document.problem(("names", index), "derived", message, _NOT_EDITED)


def _rebuilt(model: MeasuredModel | FloatMeasuredModel, mode: Mode) -> Stats:
    """The stats that follow from the integers, and nothing else of the file's numbers."""
    pixels = _pixels(model, mode)
    estimate = None
    if isinstance(model, MeasuredModel):
        estimate = estimate_in(model, pixels.moments(), scale_of(mode))
    measurement = Measurement(
        images=model.images,
        pixels=pixels,
        sums=_image_sums(model.exact, model.images),
        modes=model.modes,
        formats=model.formats,
        decoders=model.decoders,
        source=_provenance(model),
        classes=_classes(model),
        skipped=tuple(Skipped(s.name, Reason(s.reason)) for s in model.skipped),
        ignored=model.ignored,
        estimate=estimate,
        as_floats=_as_floats(model) if isinstance(model, MeasuredModel) else None,
    )
    return Stats.of(
        measurement,
        mode,
        _steps(model.image),
        auto=bool(model.image.auto),
        strict_channels=bool(model.image.strict_channels),
    )


def _pixels(model: MeasuredModel | FloatMeasuredModel, mode: Mode) -> Histogram | FloatPixels:
    if isinstance(model, MeasuredModel):
        bins = scale_of(mode) + 1
        return Histogram(tuple(tuple(c) + (0,) * (bins - len(c)) for c in model.histogram.values()))
    return _float_pixels(model)


def _float_pixels(model: FloatMeasuredModel | AsFloatsModel) -> FloatPixels:
    exact = model.exact
    moments = Moments.in_units(exact.count, exact.total, exact.total_sq, exact.unit_bits)
    return FloatPixels(moments, tuple(model.min), tuple(model.max))


def _image_sums(exact: ExactModel, images: int) -> ImageSums:
    sums = exact.image_sums
    return ImageSums(
        images,
        tuple(sums.mean),
        tuple(sums.mean_sq),
        tuple(sums.std),
        tuple(sums.std_1),
        sums.one_pixel,
    )


def _as_floats(model: MeasuredModel) -> Counted | None:
    if model.as_floats is None:
        return None
    return Counted(
        model.images,
        _float_pixels(model.as_floats),
        _image_sums(model.as_floats.exact, model.images),
        {mode_of(len(channels_of(mode)), "float"): n for mode, n in model.modes.items()},
        {"array": model.images},
    )


def _classes(model: MeasuredModel | FloatMeasuredModel) -> dict[str, ClassStats]:
    classes = {name: _class_stats(one) for name, one in model.classes.items()}
    if isinstance(model, MeasuredModel) and model.as_floats:
        for name, one in model.as_floats.classes.items():
            if name in classes:
                classes[name] = replace(classes[name], as_floats=_class_stats(one).moments)
    return classes


def _provenance(model: MeasuredModel | FloatMeasuredModel) -> Provenance:
    source = model.source
    many = len(source.parts) if isinstance(source, MergedModel) else 1
    names: Sequence[str | None] = model.names or [None] * many
    if isinstance(source, MergedModel):
        return combined(
            [
                _one_source(part, part.images, its)
                for part, its in zip(source.parts, names, strict=True)
            ]
        )
    return combined([_one_source(source, model.images, names[0])])


def _one_source(source: SourceModel, images: int, names: str | None) -> Provenance:
    options = {"split": source.split, "key": source.key, "limit": source.limit}
    return Provenance(
        source.kind,
        source.ref if isinstance(source.ref, str) else tuple(sorted(set(source.ref))),
        source.names_sha256,
        source.listing_sha256,
        images,
        {key: option for key, option in options.items() if option is not None},
        Shards(source.shards.of, tuple(sorted(source.shards.counted))) if source.shards else None,
        names=names,
    )


def _class_stats(one: ClassModel | FloatClassModel) -> ClassStats:
    if not one.count or one.total is None or one.total_sq is None:
        return ClassStats(one.images)
    unit_bits = one.unit_bits if isinstance(one, FloatClassModel) else 0
    return ClassStats(one.images, Moments.in_units(one.count, one.total, one.total_sq, unit_bits))


def _steps(image: ImageModel | None) -> tuple[Step, ...]:
    steps: list[Step] = []
    for entry in image.preprocess if image else []:
        for name, step in STEPS.items():
            arguments: SizeModel | None = getattr(entry, name)
            if arguments:
                size = arguments.size
                steps.append(step(size if isinstance(size, int) else (size[0], size[1])))
    return tuple(steps)


def _length_problems(
    document: Document, vectors: Mapping[str, list[Any]], channels: int, *where: str
) -> Iterator[Problem]:
    for key, values in vectors.items():
        if len(values) != channels:
            message = f"{len(values)} values for {channels} channels"
            yield document.problem((*where, key), "channels", message)


def _check_derived(document: Document, stats: Stats) -> None:
    """
    Raises:
        InvalidDocument: a number of the file is not the one that its integers give.
    """
    problems = [
        document.problem(
            path, "derived", f"{_short(there)} does not follow from the integers below"
        )
        if wanted is _ABSENT
        else document.problem(
            path,
            "derived",
            f"{_short(there)} does not follow from the file's integers, which give {_short(wanted)}",
            _NOT_EDITED,
        )
        for path, there, wanted in _differences(document.value, document_of(stats), ())
    ]
    if problems:
        raise InvalidDocument(problems)


_ABSENT = object()
_NOT_EDITED = "measure again; these numbers are not edited by hand"


def _differences(
    there: Any, wanted: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Any, Any]]:
    """Where two documents differ: path, value found, value wanted."""
    if there == wanted:
        return
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in there if key not in wanted)]:
            yield from _differences(there.get(key, _ABSENT), wanted.get(key, _ABSENT), (*path, key))
    elif isinstance(there, list) and isinstance(wanted, list) and len(there) == len(wanted):
        for index, (a, b) in enumerate(zip(there, wanted, strict=True)):
            yield from _differences(a, b, (*path, index))
    else:
        yield path, there, wanted


def _short(value: Any) -> str:
    text = "nothing" if value is _ABSENT else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
