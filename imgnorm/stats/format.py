"""The stats file's format: each of its keys is described here, once.

A line says what a key's value can be, how it follows from `Stats`, and whether it is read back. What is
checked, written (`document_of`) and read (`read_content`) follows from that, and so does the JSON Schema.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from imgnorm.documents.kinds import (
    Choice,
    Either,
    Fault,
    Key,
    ListOf,
    MapOf,
    Number,
    Record,
    Tagged,
    Text,
    ValueKind,
    Whole,
    as_yaml,
    parsed_by,
)
from imgnorm.documents.writer import TextLines, yaml_of
from imgnorm.settings import STEPS, Step, channel_names, frames_of, frames_text, scale_of
from imgnorm.stats.estimate import PLAN_FAULTS, Bounds, Estimate, Sample, margins_of
from imgnorm.stats.measurement import ClassStats, Measurement
from imgnorm.stats.notes import counted_in, counts_of
from imgnorm.stats.outliers import ALL_REASONS, REASONS
from imgnorm.stats.provenance import MERGED, Provenance, Shards, combined
from imgnorm.tally.floats import FloatPixels
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import UNIT_BITS, CrossSums, ImageSums, Moments
from imgnorm.tally.notes import Noted
from imgnorm.tally.overview import Distribution, End, Ends, ImageMeans, Overview, Sizes, start_of
from imgnorm.tally.skipped import Reason, Skipped

if TYPE_CHECKING:
    from imgnorm.stats.stats import Stats

STATS_FORMAT = "imgnorm-stats/1"


def record_of(value: Any) -> Record:
    """The format of a stats file with this content, whatever else is wrong with it."""
    if not isinstance(value, dict):
        return CONSTANTS
    floats = value.get("scale") == 1
    if "exact" in value or "histogram" in value:
        return FLOATS_MEASURED if floats else MEASURED
    if value.get("images") == 0:
        return EMPTY
    return FLOAT_CONSTANTS if floats else CONSTANTS


def document_of(stats: Stats) -> dict[str, Any]:
    """The content of the stats file as plain values, in the order of the file."""
    if stats.images:
        record = FLOATS_MEASURED if stats.of_floats else MEASURED
    elif stats.measurement:
        record = EMPTY
    else:
        record = FLOAT_CONSTANTS if stats.of_floats else CONSTANTS
    content: dict[str, Any] = record.plain(stats)
    return content


def text_of(stats: Stats, content: dict[str, Any] | None = None) -> str:
    """The text of the stats file, whose content is `document_of(stats)`. The same stats give the same bytes."""
    what = "pooled over all pixels, population"
    header = f"mean and std are for ToTensor's [0, 1]: {what}."
    if stats.of_floats:
        header = f"mean and std are of the float values as they are: {what}."
    elif not stats.mean:
        header = "A part without images: merge it with the other parts of its source."
    if stats.estimate:
        header += f"\n# An estimate ({stats.estimate}), not exact."
    return f"# Written by imgnorm. {header}\n{yaml_of(content or document_of(stats))}"


def read_content(value: dict[str, Any]) -> tuple[Measurement | None, dict[str, Any]]:
    """The measurement and the other fields of the stats in a file without faults.

    The measurement is None in constants; otherwise it gives the fields that are not here.
    """
    content: tuple[Measurement | None, dict[str, Any]] = record_of(value).read(value)
    return content


def stats_schema() -> dict[str, Any]:
    """The stats file's JSON Schema, for editors: measured or constants, of integer or float pixels.

    Or a part without images.
    """
    integers = {"anyOf": [{"required": ["exact"]}, {"required": ["histogram"]}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "imgnorm stats file",
        "if": {"properties": {"images": {"const": 0}}, "required": ["images"]},
        "then": EMPTY.schema(),
        "else": {
            "if": {"properties": {"scale": {"const": 1}}, "required": ["scale"]},
            "then": {
                "if": integers,
                "then": FLOATS_MEASURED.schema(),
                "else": FLOAT_CONSTANTS.schema(),
            },
            "else": {"if": integers, "then": MEASURED.schema(), "else": CONSTANTS.schema()},
        },
    }


def _known_format(text: str) -> str | None:
    if text == STATS_FORMAT:
        return None
    newer = re.fullmatch(r"imgnorm-stats/\d+", text)
    remedy = "; upgrade imgnorm, which is older than the file" if newer else ""
    return f"expected {STATS_FORMAT!r}; got {text!r}{remedy}"


def _in_unit(value: float) -> Fault | None:
    if not math.isfinite(value):
        return Fault(f"{as_yaml(value)} is not in [0, 1]", "not-usable")
    if not 0 <= value <= 255:
        return Fault(f"{value!r} is not in [0, 1]")
    return None  # values above 1 are reported for the list as a whole


def _all_in_unit(values: list[float]) -> Fault | None:
    if max(values) <= 1:
        return None
    listed = ", ".join(f"{value:g}" for value in values)
    divided = ", ".join(f"{value / 255:.4f}" for value in values)
    hint = f"divide by 255: {divided}" if min(values) > 1 else None
    return Fault(f"{listed} is not in [0, 1]", "unit", hint)


def _ascending(interval: list[float]) -> str | None:
    low, high = interval
    return None if low <= high <= 1 else f"expected the lower end, then the upper; got {interval}"


def _positive(size: int | list[int]) -> str | None:
    if all(edge >= 1 for edge in ([size] if isinstance(size, int) else size)):
        return None
    return f"expected edges of at least 1; got {size}"


def _mode_or_auto(image: dict[str, Any]) -> str | None:
    known = (image.get("mode") is None) == bool(image.get("auto"))
    return None if known else "expected mode, or auto"


def _written_frames(text: str) -> None:
    if not frames_of(text):
        raise ValueError("'first' is not written")


def _frames_of(stats: Stats) -> str | None:
    return frames_text(stats.frames) if stats.frames else None


def _one_step(entry: dict[str, Any]) -> str | None:
    given = [name for name in STEPS if entry.get(name) is not None]
    return None if len(given) == 1 else "expected one step: Resize or CenterCrop"


def _reason(text: str) -> Fault | None:
    return None if text in set(Reason) else Fault(f"unknown reason {text!r}", "reason")


class _ImageNames(Text):
    """Names, one a line; there can be millions."""

    def plain(self, value: str) -> TextLines:
        return TextLines(value)


class _AsReason(Text):
    def read(self, value: str) -> Reason:
        return Reason(value)

    def plain(self, value: Reason) -> str:
        return value.value


def _only(value: Any) -> Callable[[Any], Any]:
    return lambda stats: value


def _itself(stats: Stats) -> Stats:
    return stats


def _counted(name: str, kind: ValueKind) -> Key:
    """A key with the field of this name of `Measurement`."""
    return Key(name, kind, lambda stats: getattr(stats.measurement, name))


_TEXT = Text()
_NATURAL = Whole(0)
_WHOLES = ListOf(Whole(), 1)
_COUNTS = ListOf(_NATURAL, 1)
_FLOATS = ListOf(Number(), 1)
_UNITS = ListOf(Number(finite=False).that(_in_unit), 1).that(_all_in_unit)
_INTERVAL = ListOf(Number().that(_in_unit), 2, 2).that(_ascending)
_DIGEST = Text("^[0-9a-f]{64}$")
_MODE = Choice(
    "L", "RGB", "RGBA", "I;16", also=r"^(F|(RGB|RGBA);(16|F)|C(2|[5-9]|[1-9][0-9]{1,3})(;16|;F)?)$"
)
_FORMAT = Key("format", _TEXT.that(_known_format), _only(STATS_FORMAT), follows=True)


# Image settings


def _step_key(name: str, step: type[Step]) -> Key:
    arguments = Record(Key("size", _SIZE), make=step)
    return Key(name, arguments, lambda one: one if isinstance(one, step) else None, default=None)


_SIZE = Either(Whole(), ListOf(Whole(), 2, 2)).that(_positive)
_STEP = Record(
    *(_step_key(name, step) for name, step in STEPS.items()),
    make=lambda **steps: next(filter(None, steps.values())),
).that(_one_step)


def _image_keys(mode: Key) -> Record:
    return Record(
        mode,
        Key("auto", Choice(True), lambda stats: stats.auto or None, default=None),
        Key("strict_channels", Choice(True), lambda s: s.strict_channels or None, default=None),
        Key("frames", _TEXT.that(parsed_by(_written_frames)), _frames_of, default=None),
        Key("preprocess", ListOf(_STEP), default=()),
    )


_IMAGE = _image_keys(Key("mode", _MODE))
_EMPTY_IMAGE = _image_keys(Key("mode", _MODE, default=None)).that(_mode_or_auto)


# Sources


_SHARDS = Record(
    Key("of", Whole(2), lambda source: source.shards.total),
    Key("counted", _WHOLES, lambda source: source.shards.counted),
    # Before units were divided among shards, names were.
    Key("units_sha256", _DIGEST, lambda source: source.units_sha256 or None, default=None),
)


def _provenance(
    kind: str,
    ref: str | tuple[str, ...],
    listing_sha256: str,
    names_sha256: str,
    shards: SimpleNamespace | None,
    folders: dict[str, Noted] | None,
    images: int = 0,
    **options: str | int | tuple[str, ...] | None,
) -> Provenance:
    return Provenance(
        kind,
        ref if isinstance(ref, str) else tuple(sorted(set(ref))),
        names_sha256,
        listing_sha256,
        images,
        {key: option for key, option in options.items() if option is not None},
        Shards(shards.of, tuple(sorted(shards.counted))) if shards else None,
        (shards and shards.units_sha256) or "",
        folders=folders or {},
    )


def _option(name: str, kind: ValueKind) -> Key:
    return Key(name, kind, lambda source: source.options.get(name), default=None)


_NOTED = Record(
    Key("images", Whole(1)),
    Key("examples", ListOf(_TEXT, 1), lambda noted: noted.examples or None, default=None),
    make=lambda images, examples: Noted(images, examples or ()),
)
_ONE_SOURCE = (
    Key("kind", _TEXT),
    Key("ref", Either(_TEXT, ListOf(_TEXT, 2))),
    _option("split", _TEXT),
    _option("key", _TEXT),
    _option("limit", _NATURAL),
    _option("include", ListOf(_TEXT, 1)),
    _option("exclude", ListOf(_TEXT, 1)),
    Key("shards", _SHARDS, lambda source: source if source.shards else None, default=None),
    Key("folders", MapOf(_NOTED), lambda source: source.folders or None, default=None),
    Key("listing_sha256", _DIGEST),
    Key("names_sha256", _DIGEST),
)
_PART = Record(*_ONE_SOURCE, Key("images", _NATURAL), make=_provenance)
_MERGED = Record(
    Key("kind", _TEXT),
    Key("parts", ListOf(_PART, 2)),
    Key("names_sha256", _DIGEST, follows=True),
    make=lambda kind, parts: parts,
)


class _Source(Tagged):
    def plain(self, value: Provenance) -> Any:
        return (_MERGED if value.parts else _SOURCE).plain(value)


_SOURCE = Record(*_ONE_SOURCE, make=lambda **values: (_provenance(**values),))
_SOURCES = _Source("kind", {MERGED: _MERGED}, _SOURCE)


# What was counted


def _sums(floats: bool, moments: Callable[[Any], Moments | None], **key: Any) -> tuple[Key, ...]:
    """The keys of power sums; `moments` gets them from what the record is written from."""

    def get(name: str) -> Callable[[Any], Any]:
        return lambda one: getattr(moments(one), name, None)

    keys = [("count", _NATURAL), ("total", _WHOLES), ("total_sq", _WHOLES)]
    unit = Key("unit_bits", _UNIT_BITS, get("unit_bits"), **(key and {"default": 0}))
    return (*[unit] * floats, *(Key(name, kind, get(name), **key) for name, kind in keys))


def _class(images: int, mean: Any, std: Any, **sums: Any) -> ClassStats:
    if not (sums["count"] and sums["total"] and sums["total_sq"]):  # without `per_class`
        return ClassStats(images)
    return ClassStats(images, _moments(**sums))


def _moments(
    count: int, total: tuple[int, ...], total_sq: tuple[int, ...], unit_bits: int = 0
) -> Moments:
    return Moments.in_units(count, total, total_sq, unit_bits)


def _classes(floats: bool) -> Key:
    numbers = _FLOATS if floats else _UNITS

    def number(name: str) -> Key:
        def get(one: tuple[ClassStats, int]) -> Any:
            return one[0].moments and getattr(one[0].moments, name)(scale=one[1])

        return Key(name, numbers, get, default=None)

    record = Record(
        Key("images", _NATURAL, lambda one: one[0].images),
        number("mean"),
        number("std"),
        *_sums(floats, lambda one: one[0].moments, default=None),
        make=_class,
    )
    return Key(
        "classes",
        MapOf(record),
        lambda s: {name: (one, s.scale) for name, one in s.measurement.classes.items()},
    )


_UNIT_BITS = Whole(0, 1074)  # the smallest float64 is 2**-1074
_SUMS_OF_IMAGES = Record(
    Key("unit_bits", Choice(UNIT_BITS), _only(UNIT_BITS), follows=True),
    Key("mean", _WHOLES),
    Key("mean_sq", _WHOLES),
    Key("std", _WHOLES),
    Key("std_1", _WHOLES),
    Key("one_pixel", _NATURAL),
    make=dict,
)
_CROSS_SUMS = Record(*(Key(field.name, _COUNTS) for field in fields(CrossSums)), make=CrossSums)
_MARGIN = Record(Key("mean", _UNITS), Key("std", _UNITS))
_INTERVALS = ListOf(_INTERVAL, 1)
_BOUNDS = Record(Key("mean", _INTERVALS), Key("std", _INTERVALS), make=Bounds)
ESTIMATE = Record(
    Key("tolerance", Number().that(PLAN_FAULTS["tolerance"])),
    Key("confidence", Number().that(PLAN_FAULTS["confidence"])),
    Key("images", Whole(1)),
    Key("of", Whole(1), lambda estimate: estimate.total),
    Key("seed", Whole().that(PLAN_FAULTS["seed"])),
    Key("sizes", Choice("exact"), lambda one: "exact" if one.bounds else None, default=None),
    Key("bounds", _BOUNDS, default=None),
    Key("margin", _MARGIN, lambda estimate: estimate.margins, follows=True),
    make=dict,
)
_SKIPPED = Record(Key("name", _TEXT), Key("reason", _AsReason().that(_reason)), make=Skipped)


# What the images are like


def _ranges(start: ValueKind, is_start: Callable[[Any], bool]) -> ValueKind:
    def check(value: dict[str, Any]) -> str | None:
        starts = value["starts"]
        if len(starts) != len(value["images"]):
            return f"{len(value['images'])} numbers of images for {len(starts)} starts"
        if not all(map(is_start, starts)) or sorted(set(starts)) != starts:
            return "the starts are not those of ranges, ascending"
        return None

    keys = Key("starts", ListOf(start, 1)), Key("images", ListOf(Whole(1), 1))
    return Record(*keys, make=_distribution).that(check)


def _distribution(starts: tuple[float, ...], images: tuple[int, ...]) -> Distribution:
    return Distribution(dict(zip(starts, images, strict=True)))


def _ends(*keys: Key, make: Callable[..., End]) -> ValueKind:
    return ListOf(Record(Key("name", _TEXT), *keys, Key("images", Whole(1)), make=make), 1, 3)


_EDGE = Whole(1, 1 << 40)


def _sized(value_of: Callable[[int, int], float]) -> ValueKind:
    """Images at an end, whose number follows from their width and height."""
    return _ends(
        Key("width", _EDGE, lambda end: end.size[0]),
        Key("height", _EDGE, lambda end: end.size[1]),
        make=lambda name, width, height, images: End(
            value_of(width, height), images, name, (width, height)
        ),
    )


_IN_PIXELS = _ranges(Whole(1, 1 << 80), lambda start: start_of(start) == start)
_PIXEL_ENDS = _sized(lambda width, height: width * height)
_ASPECT_ENDS = _sized(lambda width, height: width / height)
_SIZES = Record(
    Key("width", _IN_PIXELS),
    Key("height", _IN_PIXELS),
    Key("pixels", _IN_PIXELS),
    Key("aspect", _ranges(Number(), lambda start: start > 0 and start_of(float(start)) == start)),
    Key("smallest", _PIXEL_ENDS),
    Key("largest", _PIXEL_ENDS),
    Key("tallest", _ASPECT_ENDS),
    Key("widest", _ASPECT_ENDS),
    make=Sizes,
)
_MEAN_ENDS = _ends(
    Key("mean", Number().that(_in_unit), lambda end: end.value),
    make=lambda name, mean, images: End(mean, images, name),
)


def _image_means(step: int, raw: Distribution, **ends: Ends) -> ImageMeans:
    return ImageMeans(replace(raw, step=step), **ends)


_IMAGE_MEANS = Record(
    Key("step", Whole(1), lambda means: means.raw.step),
    Key("raw", _ranges(Whole(0, 65535), lambda start: True)),
    Key("lowest", _MEAN_ENDS),
    Key("highest", _MEAN_ENDS),
    make=_image_means,
)


def _names(stats: Stats) -> list[str | None] | None:
    assert stats.measurement
    names = [source.names for source in stats.measurement.source.sources if source.images]
    return names if all(names) else None


def _counts(stats: Stats) -> dict[str, tuple[int, ...]] | None:
    """The histogram without the zeros at the end. The index is the pixel value; missing counts are 0."""
    assert stats.measurement
    assert stats.measurement.histogram
    counts = stats.measurement.histogram.counts
    ends = (len(c) - next(i for i, n in enumerate(reversed(c)) if n) for c in counts)
    return {name: c[:end] for name, c, end in zip(stats.channels, counts, ends, strict=True)}


def _measured(*, floats: bool) -> Record:
    numbers = _FLOATS if floats else _UNITS
    raw = _FLOATS if floats else _WHOLES
    convention = Record(Key("mean", numbers), Key("std", numbers))

    def pixels(stats: Stats) -> Histogram | FloatPixels:
        assert stats.measurement
        return stats.measurement.pixels

    def only(*keys: Key, of_floats: bool) -> tuple[Key, ...]:
        return keys if floats == of_floats else ()

    return Record(
        _FORMAT,
        Key("channels", ListOf(_TEXT), follows=True),
        Key("mean", numbers, follows=True),
        Key("std", numbers, follows=True),
        *only(Key("estimate", ESTIMATE, default=None), of_floats=False),
        Key("scale", Choice(1) if floats else Choice(255, 65535), follows=True),
        Key("image", _IMAGE, _itself),
        Key("images", Whole(1)),
        Key("pixels", _NATURAL, lambda s: pixels(s).moments().count, follows=True),
        Key("min", raw, lambda s: pixels(s).minimum(), follows=not floats),
        Key("max", raw, lambda s: pixels(s).maximum(), follows=not floats),
        *only(
            Key(
                "quantiles",
                MapOf(ListOf(Whole()), as_is=True),
                lambda s: s.measurement.quantiles(),
                follows=True,
            ),
            of_floats=False,
        ),
        Key(
            "conventions",
            MapOf(convention, as_is=True),
            lambda s: s.measurement.conventions(),
            follows=True,
        ),
        _counted("modes", MapOf(_NATURAL)),
        _counted("formats", MapOf(_NATURAL)),
        _counted("decoders", MapOf(_TEXT)),
        _counted("source", _SOURCES),
        _classes(floats),
        _counted("skipped", ListOf(_SKIPPED)),
        _counted("ignored", MapOf(_NATURAL)),
        Key(
            "notes",
            MapOf(_NOTED),
            lambda s: counts_of(s.measurement, s.mode) or None,
            default=None,
        ),
        Key("sizes", _SIZES, default=None),
        *only(Key("image_means", _IMAGE_MEANS, default=None), of_floats=False),
        Key("looks", MapOf(_NOTED), lambda s: s.overview and s.overview.looks, default=None),
        Key(
            "ignore_outliers",
            ListOf(Choice(ALL_REASONS, *REASONS)),
            lambda s: s.measurement.ignore_outliers or None,
            default=(),
        ),
        Key(
            "exact",
            Record(
                *_sums(floats, lambda s: pixels(s).moments()),
                Key("image_sums", _SUMS_OF_IMAGES, lambda s: s.measurement.sums),
                *only(
                    Key(
                        "image_products",
                        _CROSS_SUMS,
                        lambda s: s.measurement.cross_sums,
                        default=None,
                    ),
                    of_floats=False,
                ),
                make=dict,
            ),
            _itself,
        ),
        *only(
            Key("histogram", MapOf(_COUNTS, as_is=True), _counts),
            of_floats=False,
        ),
        Key("names", ListOf(_ImageNames(), 1), _names, default=None),
        make=_stats,
    )


def _stats(
    image: SimpleNamespace,
    images: int,
    source: tuple[Provenance, ...],
    exact: dict[str, Any],
    names: tuple[str, ...] | None,
    estimate: dict[str, Any] | None = None,
    histogram: dict[str, tuple[int, ...]] | None = None,
    notes: dict[str, Noted] | None = None,
    sizes: Sizes | None = None,
    image_means: ImageMeans | None = None,
    looks: dict[str, Noted] | None = None,
    **counted: Any,
) -> tuple[Measurement, dict[str, Any]]:
    sums, cross_sums = exact.pop("image_sums"), exact.pop("image_products", None)
    moments, scale = _moments(**exact), scale_of(image.mode)
    pixels: Histogram | FloatPixels
    if histogram:
        pixels = Histogram(tuple(c + (0,) * (scale + 1 - len(c)) for c in histogram.values()))
    else:
        pixels = FloatPixels(moments, counted.pop("min"), counted.pop("max"))
    sample = estimate and Sample(images, pixels.moments(), cross_sums, scale)
    measurement = Measurement(
        images=images,
        pixels=pixels,
        sums=ImageSums(images, **sums),
        source=_combined(source, images, names or ()),
        estimate=estimate_that_follows(estimate, sample) if estimate and sample else None,
        notes=counted_in(notes or {}),
        cross_sums=cross_sums,
        overview=Overview(sizes, image_means, looks or {}) if sizes else None,
        **counted,
    )
    return _with_image(measurement, image)


def _empty(
    image: SimpleNamespace, source: tuple[Provenance, ...], **found: Any
) -> tuple[Measurement, dict[str, Any]]:
    return _with_image(Measurement.without_images(_combined(source, 0, ()), **found), image)


def _with_image(
    measurement: Measurement, image: SimpleNamespace
) -> tuple[Measurement, dict[str, Any]]:
    return measurement, {
        "mode": image.mode,
        "preprocess": image.preprocess,
        "auto": bool(image.auto),
        "strict_channels": bool(image.strict_channels),
        "frames": frames_of(image.frames or "first"),
    }


def _combined(parts: tuple[Provenance, ...], images: int, names: tuple[str, ...]) -> Provenance:
    if len(parts) == 1:
        parts = (replace(parts[0], images=images),)
    lines = iter(names)
    return combined(replace(p, names=next(lines, None) if p.images else None) for p in parts)


def estimate_that_follows(estimate: Mapping[str, Any], sample: Sample) -> Estimate:
    """The estimate with the margins that follow from a file's bounds, or from its sums.

    Raises:
        ValueError: the cross sums and the other sums cannot be those of the same images.
    """
    given = {key: one for key, one in estimate.items() if key not in ("margin", "sizes")}
    images, total, bounds = given.pop("images"), given.pop("of"), given["bounds"]
    if bounds:
        return Estimate(images=images, total=total, margins=bounds.margins, **given)
    margins = margins_of(sample, images, total, given["confidence"])
    if margins is None:
        raise ValueError("one image has no margins")
    return Estimate(images=images, total=total, margins=margins, **given)


def _constants(*, floats: bool) -> Record:
    numbers = _FLOATS if floats else _UNITS
    scale = Key("scale", Choice(1)) if floats else Key("scale", Choice(255, 65535), default=255)
    return Record(
        _FORMAT,
        Key("channels", ListOf(_TEXT), default=None),
        Key("mean", numbers),
        Key("std", numbers),
        scale,
        Key("image", _IMAGE, lambda stats: stats if stats.mode else None, default=None),
        make=_constant_stats,
    )


def _constant_stats(
    channels: tuple[str, ...] | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    scale: int,
    image: SimpleNamespace | None,
) -> tuple[None, dict[str, Any]]:
    given = {"mode": image.mode, "preprocess": image.preprocess} if image else {}
    channels = channels or channel_names(len(mean))
    return None, {"channels": channels, "mean": mean, "std": std, "scale": scale, **given}


MEASURED = _measured(floats=False)
FLOATS_MEASURED = _measured(floats=True)
CONSTANTS = _constants(floats=False)
FLOAT_CONSTANTS = _constants(floats=True)
EMPTY = Record(
    _FORMAT,
    Key("image", _EMPTY_IMAGE, _itself),
    Key("images", Choice(0), follows=True),
    _counted("source", _SOURCES),
    _counted("skipped", ListOf(_SKIPPED)),
    _counted("ignored", MapOf(_NATURAL)),
    make=_empty,
)
"""A part of a source in which no image was counted."""
STATS = Either(MEASURED, FLOATS_MEASURED, CONSTANTS, FLOAT_CONSTANTS, EMPTY)
