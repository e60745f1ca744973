"""What is wrong with a stats file whose values are of the right kinds.

Lists of the wrong length, numbers that no images can have, and numbers that do not follow from the
file's integers; each with the place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import combinations_with_replacement
from typing import Any

from imgnorm.documents.document import Document
from imgnorm.errors import Problem, Rule
from imgnorm.settings import channel_names, channels_of, scale_of
from imgnorm.stats.estimate import Sample, squared_errors
from imgnorm.stats.format import ESTIMATE, estimate_that_follows
from imgnorm.stats.provenance import MERGED
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import UNIT_BITS, CrossSums, Moments
from imgnorm.tally.names import names_digest, names_in
from imgnorm.tally.overview import LOOKS, ImageMeans
from imgnorm.wording import cut

RULES = (
    Rule(
        "channels",
        "as many values as channels, in a stats file",
        "Each list of a stats file has one value per channel, and the channels are those of its mode.",
        "channels: [R, G, B]\nmean: [0.5]",
        "channels: [L]\nmean: [0.5]",
    ),
    Rule(
        "reason",
        "reasons that imgnorm knows",
        "The reason of a skipped image in a stats file is one of a fixed list.",
        "skipped: [{name: a.png, reason: broken}]",
        "skipped: [{name: a.png, reason: corrupt}]",
    ),
    Rule(
        "derived",
        "numbers that follow from the integers",
        "A measured stats file holds integers, and all its other numbers are computed from them. A number "
        "that does not follow from the integers was edited, or the file is damaged. Measure again.",
        "exact: {count: 4, total: [510], …}\nmean: [0.4]",
        "exact: {count: 4, total: [510], …}\nmean: [0.5]",
    ),
    Rule(
        "impossible",
        "numbers that some images can have",
        "No images can have these numbers: a class with more images than the dataset, or sums that no pixel "
        "values add up to. Nothing can be computed from them. Measure again.",
        "images: 23\nmodes: {RGB: 24}",
        "images: 24\nmodes: {RGB: 24}",
    ),
)

_ABSENT = object()
_NOT_EDITED = "measure again; do not edit these numbers by hand"
_PER_IMAGE = ("mean", "mean_sq", "std", "std_1")

_Path = tuple[str | int, ...]
_Fault = tuple[_Path, str]
"""The path of a key, and what is wrong with its value."""


def file_problems(document: Document) -> list[Problem]:
    """Values that do not fit together. Without such problems, stats can be computed from the integers."""
    value = document.value
    if "exact" in value:
        return _measured_problems(document, value)
    if "source" in value:
        return [*_source_problems(document, value)]
    return [*_constants_problems(document, value)]


def derived_problems(
    document: Document, derived: dict[str, Any], older: Mapping[_Path, float]
) -> list[Problem]:
    """Numbers in a file that do not follow from its integers.

    Args:
        derived: the whole document as it follows from them.
        older: path -> a number as imgnorm 0.1 wrote it.
    """
    problems = []
    # Files of older versions have no notes, nor those with nothing to note.
    if "notes" not in document.value:
        derived = {key: one for key, one in derived.items() if key != "notes"}
    for path, found, wanted in _differences(document.value, derived, ()):
        if path in older and found == older[path]:
            continue
        if wanted is _ABSENT:
            message, hint = "does not follow from the integers below", None
        else:
            message = f"does not follow from the file's integers, which give {_for_message(wanted)}"
            hint = _NOT_EDITED
        problems.append(document.problem(path, "derived", f"{_for_message(found)} {message}", hint))
    return problems


def _constants_problems(document: Document, value: dict[str, Any]) -> Iterator[Problem]:
    names = tuple(value.get("channels") or channel_names(len(value["mean"])))
    yield from _length_problems(
        document, [(("mean",), value["mean"]), (("std",), value["std"])], len(names)
    )
    if value.get("image"):
        mode = value["image"]["mode"]
        if len(names) != len(channels_of(mode)):
            message = f"mode {mode} has {list(channels_of(mode))}"
            yield document.problem(("channels",), "channels", message)
        yield from _scale_problems(document, value.get("scale", 255), mode)


def _measured_problems(document: Document, value: dict[str, Any]) -> list[Problem]:
    problems = [
        *_all_length_problems(document, value),
        *_source_problems(document, value),
        *_names_problems(document, value),
    ]
    if not problems:
        problems += [_impossible(document, *fault) for fault in _impossible_numbers(value)]
    if not problems and "histogram" in value:
        moments = Histogram(tuple(map(tuple, value["histogram"].values()))).moments()
        problems += [_impossible(document, *f) for f in _sample_faults(value, moments)]
    return problems


def _all_length_problems(document: Document, value: dict[str, Any]) -> Iterator[Problem]:
    """Channels, and lists of values per channel, that do not fit the mode."""
    mode, exact = value["image"]["mode"], value["exact"]
    names = channels_of(mode)
    if tuple(value["channels"]) != names:
        yield document.problem(("channels",), "channels", f"mode {mode} has {list(names)}")
    if "histogram" in value:
        yield from _histogram_problems(document, value["histogram"], mode)
    else:
        yield from _scale_problems(document, value["scale"], mode)
    places: list[tuple[_Path, Mapping[str, Any], tuple[str, ...]]] = [
        ((), value, ("min", "max")),
        (("exact",), exact, ("total", "total_sq")),
        (("exact", "image_sums"), exact["image_sums"], _PER_IMAGE),
    ]
    cross_sums = exact.get("image_products") or {}
    places.append((("exact", "image_products"), cross_sums, tuple(cross_sums)))
    bounds = (value.get("estimate") or {}).get("bounds") or {}
    places.append((("estimate", "bounds"), bounds, tuple(bounds)))
    for name, one in value["classes"].items():
        if one.get("count") is not None:
            one = {key: one.get(key) or () for key in ("total", "total_sq")}
            places.append((("classes", name), one, ("total", "total_sq")))
    vectors = [((*path, key), holder[key]) for path, holder, keys in places for key in keys]
    yield from _length_problems(document, vectors, len(names))


def _scale_problems(document: Document, scale: int, mode: str) -> Iterator[Problem]:
    if scale != scale_of(mode):
        message = f"{scale}; in mode {mode} it is {scale_of(mode)}"
        yield document.problem(("scale",), "unit", message)


def _source_problems(document: Document, value: dict[str, Any]) -> Iterator[Problem]:
    if value["source"]["kind"] == MERGED:
        total = sum(part["images"] for part in value["source"]["parts"])
        if total != value["images"]:
            message = f"{total:,} images in all, but the file counts {value['images']:,}"
            yield document.problem(("source", "parts"), "derived", message)
    for path, part, images in _parts_of(value):
        shards: dict[str, Any] = part.get("shards") or {}
        if not images and not shards:
            message = "no images, though it is not one of several shards"
            yield document.problem(path, "impossible", message)
        for index, number in enumerate(shards.get("counted", ())):
            if not 1 <= number <= shards["of"]:
                message = f"shard {number} of {shards['of']} does not exist"
                yield document.problem((*path, "shards", "counted", index), "derived", message)


def _parts_of(value: dict[str, Any]) -> Iterator[tuple[_Path, dict[str, Any], int]]:
    """The source, or the sources that were merged: the place in the file, and how many images it has."""
    source = value["source"]
    if source["kind"] == MERGED:
        for place, part in enumerate(source["parts"]):
            yield ("source", "parts", place), part, part["images"]
    else:
        yield ("source",), source, value["images"]


def _names_problems(document: Document, value: dict[str, Any]) -> Iterator[Problem]:
    names = value.get("names")
    if names is None:
        return
    digests = [part["names_sha256"] for _, part, images in _parts_of(value) if images]
    if len(names) != len(digests):
        message = f"names of {len(names):,} sources; the file has {len(digests):,}"
        yield document.problem(("names",), "derived", message)
        return
    for index, (lines, digest) in enumerate(zip(names, digests, strict=True)):
        if names_digest(names_in(lines)) != digest:
            message = f"not those of the source, whose digest is {digest[:8]}..."
            yield document.problem(("names", index), "derived", message, _NOT_EDITED)


def _length_problems(
    document: Document, vectors: list[tuple[_Path, list[Any]]], channels: int
) -> Iterator[Problem]:
    for path, values in vectors:
        if len(values) != channels:
            message = f"{len(values)} values for {channels} channels"
            yield document.problem(path, "channels", message)


def _histogram_problems(
    document: Document, histogram: dict[str, list[int]], mode: str
) -> Iterator[Problem]:
    names, bins = channels_of(mode), scale_of(mode) + 1
    if list(histogram) != list(names):
        yield document.problem(("histogram",), "channels", f"mode {mode} has {list(names)}")
    for name, counts in histogram.items():
        if len(counts) > bins:
            message = f"{len(counts)} pixel values; mode {mode} has {bins}"
            yield document.problem(("histogram", name), "channels", message)
        elif not any(counts):
            yield document.problem(("histogram", name), "channels", "counts no pixel")


def _impossible(document: Document, path: _Path, message: str) -> Problem:
    """A number that no images can have. Nothing must be computed from it."""
    return document.problem(path, "impossible", message, _NOT_EDITED)


def _impossible_numbers(value: dict[str, Any]) -> Iterator[_Fault]:
    images = {
        "modes": sum(value["modes"].values()),
        "formats": sum(value["formats"].values()),
        "classes": sum(one["images"] for one in value["classes"].values()),
    }
    for key, count in images.items():
        if count > value["images"] or (count < value["images"] and key != "classes"):
            yield (key,), f"{count:,} images in all; images is {value['images']:,}"
    yield from _impossible_overview(value)
    yield from _impossible_counts(value) if "histogram" in value else _impossible_floats(value)


def _impossible_overview(value: dict[str, Any]) -> Iterator[_Fault]:
    """Images by their sizes and means that are not all of them, and looks of more than all."""
    images, sizes, means = value["images"], value.get("sizes") or {}, value.get("image_means") or {}
    for path, holder in (("sizes",), sizes), (("image_means",), means):
        for key, one in holder.items():
            count = sum(one["images"]) if isinstance(one, dict) else images
            if count != images:
                yield (*path, key, "images"), f"{count:,} images in all; images is {images:,}"
    if means:
        zero = ImageMeans.zero(value["image"]["mode"])
        assert zero
        if means["step"] != zero.raw.step:
            yield ("image_means", "step"), f"{means['step']}; of this mode it is {zero.raw.step}"
        elif any(start % zero.raw.step for start in means["raw"]["starts"]):
            yield ("image_means", "raw", "starts"), "are not those of ranges"
        if (last := means["raw"]["starts"][-1]) > scale_of(value["image"]["mode"]):
            yield ("image_means", "raw", "starts"), f"{last} is above the largest pixel value"
    for look, noted in (value.get("looks") or {}).items():
        if look not in LOOKS:
            yield ("looks", look), f"is not known; expected some of {', '.join(LOOKS)}"
        if noted["images"] > images:
            yield ("looks", look), f"{noted['images']:,} images; images is {images:,}"


def _impossible_counts(value: dict[str, Any]) -> Iterator[_Fault]:
    images, exact, scale = value["images"], value["exact"], scale_of(value["image"]["mode"])
    pixels = {name: sum(counts) for name, counts in value["histogram"].items()}
    for name, count in pixels.items():
        if count != exact["count"] and len(set(pixels.values())) > 1:
            yield ("histogram", name), f"counts {count:,} pixels; exact.count is {exact['count']:,}"
    for key in _PER_IMAGE:
        for index, one in enumerate(exact["image_sums"][key]):
            if not 0 <= one <= images << UNIT_BITS:
                message = f"{_for_message(one)} is not the sum of {images:,} numbers in [0, 1]"
                yield ("exact", "image_sums", key, index), message
    for name, one in value["classes"].items():
        for index, (count, total, total_sq) in enumerate(_sums_of(one)):
            if not total * total <= count * total_sq <= count * scale * total:
                message = (
                    f"{_for_message(total_sq)} is not the sum of the squares of {count:,} "
                    f"pixel values that add up to {_for_message(total)}"
                )
                yield ("classes", name, "total_sq", index), message


def _impossible_floats(value: dict[str, Any]) -> Iterator[_Fault]:
    """Also reports what would give a mean or a std beyond the range of a float."""
    images, exact = value["images"], value["exact"]
    count = exact["count"]
    if not count:
        yield ("exact", "count"), "counts no pixel"
        return
    for index, (least, greatest) in enumerate(zip(value["min"], value["max"], strict=True)):
        low, high = Fraction(least), Fraction(greatest)
        if not _are_sums(exact, index, low, high):
            message = (
                f"{_for_message(exact['total'][index])} and its squares are not sums of {count:,} values "
                f"from {float(least)!r} to {float(greatest)!r}"
            )
            yield ("exact", "total", index), message
        size = max(abs(low), abs(high))
        ranges = ((low, high), (Fraction(0), size * size), *[(Fraction(0), 2 * size)] * 2)
        for key, (lowest, highest) in zip(_PER_IMAGE, ranges, strict=True):
            one, unit = exact["image_sums"][key][index], images << UNIT_BITS
            if not lowest * unit - images <= one <= highest * unit:
                message = f"{_for_message(one)} is not the sum of {images:,} such numbers"
                yield ("exact", "image_sums", key, index), message
        for name, one in value["classes"].items():
            if _sums_of(one) and not _are_sums(one, index, low, high):
                message = f"not the sum of {one['count']:,} values from {float(least)!r} to {float(greatest)!r}"
                yield ("classes", name, "total", index), message


def _sums_of(one: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Count, total and total_sq of each channel of a class; none if it has no such sums."""
    count, total, total_sq = (one.get(key) for key in ("count", "total", "total_sq"))
    if not (count and total and total_sq):
        return []
    return [(count, a, b) for a, b in zip(total, total_sq, strict=True)]


def _are_sums(sums: dict[str, Any], index: int, least: Fraction, greatest: Fraction) -> bool:
    """Whether values in this range can have this sum, and this sum of squares."""
    count: int = sums["count"]
    unit_bits = sums.get("unit_bits", 0)
    total = Fraction(sums["total"][index], 1 << unit_bits)
    total_sq = Fraction(sums["total_sq"][index], 1 << 2 * unit_bits)
    return (
        count * least <= total <= count * greatest
        and total * total <= count * total_sq
        and total_sq <= count * max(least * least, greatest * greatest)
    )


def _sample_faults(value: dict[str, Any], moments: Moments) -> Iterator[_Fault]:
    """Cross sums that no images have, and what no sample of images can give.

    Args:
        moments: those of the histogram.
    """
    estimate, cross_sums = value.get("estimate"), value["exact"].get("image_products")
    if not cross_sums:
        if estimate:
            yield ("estimate",), "has no exact.image_products, from which its margins follow"
        return
    if estimate and not value["images"] <= estimate["images"] < estimate["of"]:
        message = f"{estimate['images']:,} of {estimate['of']:,} images; the file counts {value['images']:,}"
        yield ("estimate", "images"), message
        return
    too_large = list(_too_large(cross_sums, moments))
    if too_large:
        yield from too_large
        return
    sums = CrossSums(**{name: tuple(one) for name, one in cross_sums.items()})
    sample = Sample(value["images"], moments, sums, scale_of(value["image"]["mode"]))
    try:
        squared_errors(sample)
        found = estimate and estimate_that_follows(ESTIMATE.read(estimate), sample)
    except ValueError as error:
        yield ("exact", "image_products"), str(error)
        return
    if found and found.margins.widest > found.tolerance:
        message = (
            f"{found.tolerance:g} is less than the margins that follow, {found.margins.widest:g}"
        )
        yield ("estimate", "tolerance"), message


def _too_large(cross_sums: dict[str, list[int]], moments: Moments) -> Iterator[_Fault]:
    sums = {
        "count": (moments.count,) * len(moments.total),
        "total": moments.total,
        "total_sq": moments.total_sq,
    }
    for (a, left), (b, right) in combinations_with_replacement(sums.items(), 2):
        for index, value in enumerate(cross_sums[f"{a}_{b}"]):
            if value > left[index] * right[index]:
                message = f"more than the product of all {a} and all {b}"
                yield ("exact", "image_products", f"{a}_{b}", index), message


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
