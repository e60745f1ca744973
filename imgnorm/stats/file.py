"""Reading and writing stats files, and merging them.

A file is written whole or not at all. Reading takes the integers of a file, computes the stats that
follow from them, and refuses the file if any other number in it differs from those.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from imgnorm.documents.document import STATS_LIMITS, Document
from imgnorm.documents.models import validated
from imgnorm.documents.reader import parse, read_document
from imgnorm.errors import ImgnormError, InvalidDocument, OutputError
from imgnorm.output import write_whole
from imgnorm.settings import STEPS, Mode, Step, channel_names, channels_of, mode_of, scale_of
from imgnorm.stats.estimate import Estimate, Sample
from imgnorm.stats.faults import (
    constants_problems,
    cross_sums_in,
    derived_problems,
    empty_problems,
    estimate_that_follows,
    measured_problems,
)
from imgnorm.stats.measurement import ClassStats, Measurement
from imgnorm.stats.provenance import Provenance, Shards, combined
from imgnorm.stats.schema import (
    STATS_FORMAT,
    AsFloatsModel,
    ClassModel,
    ConstantsModel,
    CountedModel,
    EmptyImageModel,
    EmptyModel,
    ExactModel,
    FloatClassModel,
    FloatConstantsModel,
    FloatMeasuredModel,
    ImageModel,
    MeasuredModel,
    MergedModel,
    SizeModel,
    SourceModel,
)
from imgnorm.stats.stats import Stats, merge
from imgnorm.stats.text import document_of, text_of
from imgnorm.tally.floats import FloatPixels
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import ImageSums, Moments
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.tally.tally import Counted


def write_stats(path: str | os.PathLike[str], stats: Stats, *, force: bool = True) -> None:
    """Write a stats file, whole or not at all.

    The same stats give the same bytes. The new file is read back and checked before it takes its place.

    Args:
        force: replace an existing file.

    Raises:
        OutputError: it cannot be written, or it exists and `force` is false.

    Example:
        >>> stats = imgnorm.measure("examples/shapes")
        >>> imgnorm.write_stats("stats.yaml", stats)
        >>> imgnorm.read_stats("stats.yaml") == stats
        True
    """
    data = text_of(stats).encode()
    file = os.fspath(path)
    if len(data) > STATS_LIMITS.max_bytes:
        measured = stats.measurement
        named = measured and any(one.names is not None for one in measured.source.sources)
        advice = (
            "leave the names out: stats without --keep-names, merge with --drop-names"
            if named
            else "fix or remove the skipped images, which it lists, or leave --per-class out"
        )
        raise OutputError(
            f"{file}: would take {len(data):,} bytes, but a stats file has at most "
            f"{STATS_LIMITS.max_bytes:,}; {advice}"
        )
    write_whole(file, data, force=force, check=lambda written: parse_stats(written, file))


def read_stats(path: str | os.PathLike[str]) -> Stats:
    """Read a stats file, or constants: a file with only `format`, `mean` and `std`.

    Raises:
        SourceError: the file does not exist, or cannot be read.
        InvalidDocument: it is not a stats file, or its numbers do not follow from its integers.

    Example:
        >>> from pathlib import Path
        >>> text = "format: imgnorm-stats/1\\nmean: [0.5, 0.4, 0.3]\\nstd: [0.25, 0.2, 0.15]\\n"
        >>> _ = Path("constants.yaml").write_text(text)
        >>> stats = imgnorm.read_stats("constants.yaml")
        >>> stats.mean, stats.measurement
        ((0.5, 0.4, 0.3), None)
    """
    return stats_in(read_document(path, STATS_LIMITS))


def parse_stats(data: bytes, file: str) -> Stats:
    """Like `read_stats`, from bytes; `file` is their name in problems."""
    return stats_in(parse(data, file, STATS_LIMITS))


def merge_files(
    paths: Sequence[str | os.PathLike[str]],
    *,
    allow_missing: bool = False,
    allow_overlap: bool = False,
    allow_decoders: bool = False,
    drop_names: bool = False,
) -> Stats:
    """`merge` of stats files. They are read one after the other, so memory does not grow with them.

    Raises:
        ImgnormError: files cannot be read (the message lists all of these), or do not belong together.
    """
    labels = [os.fspath(path) for path in paths]
    return merge(
        _each_read(labels),
        labels=labels,
        allow_missing=allow_missing,
        allow_overlap=allow_overlap,
        allow_decoders=allow_decoders,
        drop_names=drop_names,
    )


def stats_in(document: Document) -> Stats:
    """The stats in a document that was read from a stats file.

    Raises:
        InvalidDocument: it is not a stats file, or its numbers do not follow from its integers.
    """
    value = document.value
    _refuse_a_config(document)
    of_floats = isinstance(value, dict) and value.get("scale") == 1
    if isinstance(value, dict) and ("exact" in value or "histogram" in value):
        if of_floats:
            return _measured_stats(document, validated(document, FloatMeasuredModel))
        return _measured_stats(document, validated(document, MeasuredModel))
    if isinstance(value, dict) and value.get("images") == 0:
        return _empty_stats(document, validated(document, EmptyModel))
    if of_floats:
        return _constants(document, validated(document, FloatConstantsModel))
    return _constants(document, validated(document, ConstantsModel))


def _each_read(paths: Sequence[str]) -> Iterator[Stats]:
    faults: list[str] = []
    for path in paths:
        try:
            stats = read_stats(path)
        except ImgnormError as error:
            faults.append(str(error))
        else:
            if not faults:  # files after a fault are only read to report their faults
                yield stats
    if faults:
        raise ImgnormError("\n".join(faults))


def _refuse_a_config(document: Document) -> None:
    """One problem for a pipeline config, instead of one for each of its keys.

    Raises:
        InvalidDocument: the document is a pipeline config.
    """
    value = document.value
    given = value.get("format") if isinstance(value, dict) else None
    if not isinstance(given, str) or not given.startswith("imgnorm-pipeline/"):
        return
    normalize = value.get("normalize")
    named = normalize.get("stats") if isinstance(normalize, dict) else None
    message = f"expected {STATS_FORMAT!r}; got {given!r}, a pipeline config"
    hint = f"measure it with `imgnorm stats {document.file} -o stats.yaml`, and give that file"
    if isinstance(named, str):
        path = os.path.normpath(os.path.join(os.path.dirname(document.file), named))
        hint = f"give the stats file that it names, {path}"
    raise InvalidDocument([document.problem(("format",), "wrong-value", message, hint)])


def _constants(document: Document, model: ConstantsModel | FloatConstantsModel) -> Stats:
    channels = tuple(model.channels or channel_names(len(model.mean)))
    if problems := constants_problems(document, model, channels):
        raise InvalidDocument(problems)
    return Stats(
        channels,
        tuple(model.mean),
        tuple(model.std),
        model.scale,
        model.image.mode if model.image else None,
        _steps(model.image),
    )


def _empty_stats(document: Document, model: EmptyModel) -> Stats:
    if problems := empty_problems(document, model):
        raise InvalidDocument(problems)
    measurement = Measurement.without_images(_provenance(model), _skipped(model), model.ignored)
    stats = Stats.of(
        measurement,
        model.image.mode,
        _steps(model.image),
        auto=bool(model.image.auto),
        strict_channels=bool(model.image.strict_channels),
    )
    if problems := derived_problems(document, document_of(stats)):
        raise InvalidDocument(problems)
    return stats


def _measured_stats(document: Document, model: MeasuredModel | FloatMeasuredModel) -> Stats:
    mode: Mode = model.image.mode
    if problems := measured_problems(document, model):
        raise InvalidDocument(problems)
    stats = _rebuilt(model, mode)
    if problems := derived_problems(document, document_of(stats)):
        raise InvalidDocument(problems)
    return stats


def _rebuilt(model: MeasuredModel | FloatMeasuredModel, mode: Mode) -> Stats:
    """The stats that follow from the file's integers; its other numbers are not used."""
    pixels = _pixels(model, mode)
    estimate = None
    if isinstance(model, MeasuredModel):
        estimate = _estimate_in(model, pixels.moments(), scale_of(mode))
    measurement = Measurement(
        images=model.images,
        pixels=pixels,
        sums=_image_sums(model.exact, model.images),
        modes=model.modes,
        formats=model.formats,
        decoders=model.decoders,
        source=_provenance(model),
        classes=_classes(model),
        skipped=_skipped(model),
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


def _estimate_in(model: MeasuredModel, moments: Moments, scale: int) -> Estimate | None:
    """The estimate that follows from the integers of a file without faults."""
    if not model.estimate:
        return None
    cross_sums = cross_sums_in(model)
    return estimate_that_follows(model.estimate, Sample(model.images, moments, cross_sums, scale))


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


def _skipped(model: CountedModel | EmptyModel) -> tuple[Skipped, ...]:
    return tuple(Skipped(s.name, Reason(s.reason)) for s in model.skipped)


def _provenance(model: CountedModel | EmptyModel) -> Provenance:
    source = model.source
    names = iter((isinstance(model, CountedModel) and model.names) or ())
    if isinstance(source, MergedModel):
        return combined(
            _one_source(part, part.images, next(names, None) if part.images else None)
            for part in source.parts
        )
    return combined([_one_source(source, model.images, next(names, None))])


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
        (source.shards and source.shards.units_sha256) or "",
        names=names,
    )


def _class_stats(one: ClassModel | FloatClassModel) -> ClassStats:
    if not one.count or one.total is None or one.total_sq is None:
        return ClassStats(one.images)
    unit_bits = one.unit_bits if isinstance(one, FloatClassModel) else 0
    return ClassStats(one.images, Moments.in_units(one.count, one.total, one.total_sq, unit_bits))


def _steps(image: ImageModel | EmptyImageModel | None) -> tuple[Step, ...]:
    steps: list[Step] = []
    for entry in image.preprocess if image else []:
        for name, step in STEPS.items():
            arguments: SizeModel | None = getattr(entry, name)
            if arguments:
                size = arguments.size
                steps.append(step(size if isinstance(size, int) else (size[0], size[1])))
    return tuple(steps)
