"""What is wrong with a stats file that fits its model.

Lists of the wrong length, numbers that no images can have, and numbers that do not follow from the
file's integers; each with the place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from imgnorm.documents.document import Document
from imgnorm.errors import Problem
from imgnorm.settings import Mode, channels_of, scale_of
from imgnorm.stats.estimate import Estimate, Sample, margins_of
from imgnorm.stats.schema import (
    AsFloatsModel,
    ClassModel,
    ConstantsModel,
    EmptyModel,
    EstimateModel,
    ExactModel,
    FloatClassModel,
    FloatConstantsModel,
    FloatExactModel,
    FloatMeasuredModel,
    MeasuredModel,
    MergedModel,
    SourceModel,
)
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import UNIT_BITS, CrossSums, Moments
from imgnorm.tally.names import names_digest, names_in
from imgnorm.tally.skipped import Reason
from imgnorm.wording import cut

_ABSENT = object()
_NOT_EDITED = "measure again; do not edit these numbers by hand"
_FACTORS = {
    "count_count": ("count", "count"),
    "count_total": ("count", "total"),
    "count_total_sq": ("count", "total_sq"),
    "total_total": ("total", "total"),
    "total_total_sq": ("total", "total_sq"),
    "total_sq_total_sq": ("total_sq", "total_sq"),
}

_Fault = tuple[tuple[str | int, ...], str]
"""The path of a key, and what is wrong with its value."""


def constants_problems(
    document: Document, model: ConstantsModel | FloatConstantsModel, channels: tuple[str, ...]
) -> list[Problem]:
    """Values of constants that do not fit together."""
    problems = [*_length_problems(document, {"mean": model.mean, "std": model.std}, len(channels))]
    if model.image:
        mode: Mode = model.image.mode
        if len(channels) != len(channels_of(mode)):
            message = f"mode {mode} has {list(channels_of(mode))}"
            problems.append(document.problem(("channels",), "channels", message))
        problems += _scale_problems(document, model.scale, mode)
    return problems


def measured_problems(
    document: Document, model: MeasuredModel | FloatMeasuredModel
) -> list[Problem]:
    """Numbers that no images can have. Without such problems, stats can be computed from the integers."""
    problems = [
        *_all_length_problems(document, model),
        *_source_problems(document, model),
        *_names_problems(document, model),
        *_reason_problems(document, model),
    ]
    if not problems:
        problems += _impossible_numbers(document, model)
    if not problems and isinstance(model, MeasuredModel):
        moments = Histogram(tuple(map(tuple, model.histogram.values()))).moments()
        problems += [
            _impossible(document, path, message)
            for path, message in _estimate_faults(model, moments, scale_of(model.image.mode))
        ]
    return problems


def empty_problems(document: Document, model: EmptyModel) -> list[Problem]:
    """What is wrong with a part without images."""
    return [*_source_problems(document, model), *_reason_problems(document, model)]


def derived_problems(document: Document, derived: dict[str, Any]) -> list[Problem]:
    """Numbers in a file that do not follow from its integers.

    Args:
        derived: the whole document as it follows from them.
    """
    problems = []
    for path, found, wanted in _differences(document.value, derived, ()):
        if wanted is _ABSENT:
            message, hint = "does not follow from the integers below", None
        else:
            message = f"does not follow from the file's integers, which give {_for_message(wanted)}"
            hint = _NOT_EDITED
        problems.append(document.problem(path, "derived", f"{_for_message(found)} {message}", hint))
    return problems


def cross_sums_in(model: MeasuredModel) -> CrossSums:
    """The cross sums of an estimate's file."""
    cross_sums = model.exact.image_products
    assert cross_sums
    return CrossSums(**{name: tuple(sums) for name, sums in cross_sums})


def estimate_that_follows(estimate: EstimateModel, sample: Sample) -> Estimate:
    """The estimate with the margins that follow from a file's sums.

    Raises:
        ValueError: the cross sums and the other sums cannot be those of the same images.
    """
    margins = margins_of(sample, estimate.images, estimate.of, estimate.confidence)
    if margins is None:
        raise ValueError("one image has no margins")
    return Estimate(
        estimate.tolerance,
        estimate.confidence,
        estimate.images,
        estimate.of,
        estimate.seed,
        sample.cross_sums,
        margins,
    )


def _all_length_problems(
    document: Document, model: MeasuredModel | FloatMeasuredModel
) -> Iterator[Problem]:
    """Channels, and lists of values per channel, that do not fit the mode."""
    mode: Mode = model.image.mode
    names = channels_of(mode)
    if tuple(model.channels) != names:
        yield document.problem(("channels",), "channels", f"mode {mode} has {list(names)}")
    if isinstance(model, MeasuredModel):
        yield from _histogram_problems(document, model, mode)
        if model.as_floats:
            yield from _float_length_problems(document, model.as_floats, len(names), "as_floats")
    else:
        yield from _float_length_problems(document, model, len(names))
        yield from _scale_problems(document, model.scale, mode)
    yield from _image_sums_length_problems(document, model.exact, len(names))
    if model.exact.image_products:
        vectors = dict(model.exact.image_products)
        yield from _length_problems(document, vectors, len(names), "exact", "image_products")
    yield from _class_length_problems(document, model.classes, len(names))


def _scale_problems(document: Document, scale: int, mode: Mode) -> Iterator[Problem]:
    if scale != scale_of(mode):
        yield document.problem(
            ("scale",), "unit", f"{scale}; in mode {mode} it is {scale_of(mode)}"
        )


def _source_problems(
    document: Document, model: MeasuredModel | FloatMeasuredModel | EmptyModel
) -> Iterator[Problem]:
    source = model.source
    if isinstance(source, MergedModel):
        total = sum(part.images for part in source.parts)
        if total != model.images:
            message = f"{total:,} images in all, but the file counts {model.images:,}"
            yield document.problem(("source", "parts"), "derived", message)
    for path, part, images in _parts_of(model):
        if not images and not part.shards:
            message = "no images, though it is not one of several shards"
            yield document.problem(path, "impossible", message)
        for index, number in enumerate(part.shards.counted if part.shards else ()):
            if part.shards and not 1 <= number <= part.shards.of:
                message = f"shard {number} of {part.shards.of} does not exist"
                yield document.problem((*path, "shards", "counted", index), "derived", message)


def _parts_of(
    model: MeasuredModel | FloatMeasuredModel | EmptyModel,
) -> Iterator[tuple[tuple[str | int, ...], SourceModel, int]]:
    """The source, or the sources that were merged: the place in the file, and how many images it has."""
    source = model.source
    if isinstance(source, MergedModel):
        for place, part in enumerate(source.parts):
            yield ("source", "parts", place), part, part.images
    else:
        yield ("source",), source, model.images


def _names_problems(
    document: Document, model: MeasuredModel | FloatMeasuredModel
) -> Iterator[Problem]:
    digests = [part.names_sha256 for _, part, images in _parts_of(model) if images]
    if model.names is None:
        return
    if len(model.names) != len(digests):
        message = f"names of {len(model.names):,} sources; the file has {len(digests):,}"
        yield document.problem(("names",), "derived", message)
        return
    for index, (lines, digest) in enumerate(zip(model.names, digests, strict=True)):
        if names_digest(names_in(lines)) != digest:
            message = f"not those of the source, whose digest is {digest[:8]}..."
            yield document.problem(("names", index), "derived", message, _NOT_EDITED)


def _reason_problems(
    document: Document, model: MeasuredModel | FloatMeasuredModel | EmptyModel
) -> Iterator[Problem]:
    reasons = set(Reason)
    for index, entry in enumerate(model.skipped):
        if entry.reason not in reasons:
            message = f"unknown reason {entry.reason!r}"
            yield document.problem(("skipped", index, "reason"), "reason", message)


def _length_problems(
    document: Document, vectors: Mapping[str, list[Any]], channels: int, *where: str
) -> Iterator[Problem]:
    for key, values in vectors.items():
        if len(values) != channels:
            message = f"{len(values)} values for {channels} channels"
            yield document.problem((*where, key), "channels", message)


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
    vectors = _image_sums(exact)
    yield from _length_problems(document, vectors, channels, *where, "exact", "image_sums")


def _image_sums(exact: ExactModel) -> dict[str, list[int]]:
    sums = exact.image_sums
    return {"mean": sums.mean, "mean_sq": sums.mean_sq, "std": sums.std, "std_1": sums.std_1}


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
    """A number that no images can have. Nothing must be computed from it."""
    return document.problem(path, "impossible", message, _NOT_EDITED)


def _impossible_numbers(
    document: Document, model: MeasuredModel | FloatMeasuredModel
) -> Iterator[Problem]:
    yield from _impossible_images(document, model)
    if not isinstance(model, MeasuredModel):
        yield from _impossible_floats(document, model, model.images)
        return
    yield from _impossible_counts(document, model, scale_of(model.image.mode))
    if model.as_floats:
        yield from _impossible_floats(document, model.as_floats, model.images, "as_floats")
        if model.as_floats.exact.count != model.exact.count:
            message = f"{model.as_floats.exact.count:,}, but exact.count is {model.exact.count:,}"
            yield _impossible(document, ("as_floats", "exact", "count"), message)


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
    for key, values in _image_sums(model.exact).items():
        for index, value in enumerate(values):
            if not 0 <= value <= model.images << UNIT_BITS:
                message = (
                    f"{_for_message(value)} is not the sum of {model.images:,} numbers in [0, 1]"
                )
                yield _impossible(document, ("exact", "image_sums", key, index), message)
    for name, one in model.classes.items():
        if not one.count or one.total is None or one.total_sq is None:
            continue
        for index, (total, total_sq) in enumerate(zip(one.total, one.total_sq, strict=True)):
            if not total * total <= one.count * total_sq <= one.count * scale * total:
                message = (
                    f"{_for_message(total_sq)} is not the sum of the squares of {one.count:,} "
                    f"pixel values that add up to {_for_message(total)}"
                )
                yield _impossible(document, ("classes", name, "total_sq", index), message)


def _impossible_floats(
    document: Document, model: FloatMeasuredModel | AsFloatsModel, images: int, *where: str
) -> Iterator[Problem]:
    """Also reports what would give a mean or a std beyond the range of a float."""
    exact, sums = model.exact, model.exact.image_sums
    if not exact.count:
        yield _impossible(document, (*where, "exact", "count"), "counts no pixel")
        return
    for index, (least, greatest) in enumerate(zip(model.min, model.max, strict=True)):
        bounds = Fraction(least), Fraction(greatest)
        if not _are_sums(exact, index, *bounds):
            message = (
                f"{_for_message(exact.total[index])} and its squares are not sums of {exact.count:,} values "
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
                message = f"{_for_message(values[index])} is not the sum of {images:,} such numbers"
                yield _impossible(document, (*where, "exact", "image_sums", key, index), message)
        for name, one in model.classes.items():
            if one.count and one.total and one.total_sq and not _are_sums(one, index, *bounds):
                message = f"not the sum of {one.count:,} values from {least!r} to {greatest!r}"
                yield _impossible(document, (*where, "classes", name, "total", index), message)


def _are_sums(
    sums: FloatExactModel | FloatClassModel, index: int, least: Fraction, greatest: Fraction
) -> bool:
    """Whether values in this range can have this sum, and this sum of squares."""
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


def _estimate_faults(model: MeasuredModel, moments: Moments, scale: int) -> Iterator[_Fault]:
    """What no sample of images can give.

    Args:
        moments: those of the histogram.
    """
    estimate, cross_sums = model.estimate, model.exact.image_products
    if not estimate and not cross_sums:
        return
    if not cross_sums:
        yield ("estimate",), "has no exact.image_products, from which its margins follow"
        return
    if not estimate:
        yield ("exact", "image_products"), "belongs to an estimate, but the file has none"
        return
    if not model.images <= estimate.images < estimate.of:
        message = f"{estimate.images:,} of {estimate.of:,} images; the file counts {model.images:,}"
        yield ("estimate", "images"), message
        return
    too_large = list(_too_large(model, moments))
    if too_large:
        yield from too_large
        return
    try:
        found = estimate_that_follows(
            estimate, Sample(model.images, moments, cross_sums_in(model), scale)
        )
    except ValueError as error:
        yield ("exact", "image_products"), str(error)
        return
    if found.margins.widest > estimate.tolerance:
        message = (
            f"{estimate.tolerance:g} is less than the margins that follow, {found.margins.widest:g}"
        )
        yield ("estimate", "tolerance"), message


def _too_large(model: MeasuredModel, moments: Moments) -> Iterator[_Fault]:
    sums = {
        "count": (moments.count,) * len(moments.total),
        "total": moments.total,
        "total_sq": moments.total_sq,
    }
    for name, (a, b) in _FACTORS.items():
        for index, value in enumerate(getattr(model.exact.image_products, name)):
            if value > sums[a][index] * sums[b][index]:
                message = f"more than the product of all {a} and all {b}"
                yield ("exact", "image_products", name, index), message


def _differences(
    found: Any, wanted: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Any, Any]]:
    """Where two documents differ: path, value found, value wanted."""
    if found == wanted:
        return
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            yield from _differences(found.get(key, _ABSENT), wanted.get(key, _ABSENT), (*path, key))
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for index, (a, b) in enumerate(zip(found, wanted, strict=True)):
            yield from _differences(a, b, (*path, index))
    else:
        yield path, found, wanted


def _for_message(value: Any) -> str:
    return "nothing" if value is _ABSENT else cut(repr(value))
