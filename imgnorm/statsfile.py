"""Stats <-> YAML: exact, whole, versioned, and refused when its numbers do not follow from its integers."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from imgnorm.document import STATS_LIMITS, Document, parse, read_document, validated
from imgnorm.errors import InvalidDocument, Problem
from imgnorm.histogram import Histogram
from imgnorm.image import CHANNELS, SCALE, STEPS, Mode, Step
from imgnorm.moments import UNIT_BITS, ImageSums, Moments
from imgnorm.output import write_whole
from imgnorm.reasons import Reason, Skipped
from imgnorm.stats import ClassStats, Measurement, Provenance, Stats, channel_names

FORMAT = "imgnorm-stats/1"
_HEADER = "# Written by imgnorm. mean and std are for ToTensor's [0, 1]: pooled over all pixels, population.\n"


def write_stats(path: str | os.PathLike[str], stats: Stats) -> None:
    """Write a stats file, whole or not at all; an existing one is replaced.

    The same stats give the same bytes. What was written is read back before it takes its place.

    Raises:
        OutputError: it cannot be written.
    """
    data = text_of(stats).encode()
    write_whole(os.fspath(path), data, lambda written: parse_stats(written, os.fspath(path)))


def read_stats(path: str | os.PathLike[str]) -> Stats:
    """Read a stats file, or constants: a file with only `format`, `mean` and `std`.

    Raises:
        SourceError: there is no such file, or it cannot be read.
        InvalidDocument: it is not a stats file, or its numbers do not follow from its integers.
    """
    return _stats_in(read_document(path, STATS_LIMITS))


def parse_stats(data: bytes, file: str) -> Stats:
    """The same from bytes; `file` is what problems call them."""
    return _stats_in(parse(data, file, STATS_LIMITS))


# ── Stats -> YAML ──


def text_of(stats: Stats) -> str:
    """The whole stats file."""
    content = document_of(stats)
    histogram = content.pop("histogram", {})
    text = _HEADER + yaml.dump(
        content,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=math.inf,
    )
    if histogram:  # up to 65,536 numbers a line, which PyYAML takes seconds to write
        text += "histogram:\n"
        text += "".join(f"  {name}: {counts}\n" for name, counts in histogram.items())
    return text


def document_of(stats: Stats) -> dict[str, Any]:
    """The stats file's content as plain values, in its order."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "channels": list(stats.channels),
        "mean": _finite(stats.mean),
        "std": _finite(stats.std),
        "scale": stats.scale,
    }
    if stats.mode:
        content["image"] = {
            "mode": stats.mode,
            "preprocess": [_step_document(step) for step in stats.preprocess],
        }
    if stats.measurement:
        content |= _measurement_document(stats.measurement, stats.channels, stats.scale)
    return content


def _measurement_document(
    measured: Measurement, channels: tuple[str, ...], scale: int
) -> dict[str, Any]:
    moments = measured.histogram.moments()
    sums = measured.sums
    source: dict[str, Any] = {
        "kind": measured.source.kind,
        "ref": measured.source.ref,
        **measured.source.options,
        "names_sha256": measured.source.names_sha256,
    }
    return {
        "images": measured.images,
        "pixels": moments.count,
        "min": list(measured.histogram.minimum()),
        "max": list(measured.histogram.maximum()),
        "quantiles": {name: list(values) for name, values in measured.quantiles().items()},
        "conventions": {
            name: {"mean": _finite(c.mean), "std": _finite(c.std)}
            for name, c in measured.conventions().items()
        },
        "modes": dict(sorted(measured.modes.items())),
        "formats": dict(sorted(measured.formats.items())),
        "decoders": dict(sorted(measured.decoders.items())),
        "source": source,
        "classes": {
            name: _class_document(one, scale) for name, one in sorted(measured.classes.items())
        },
        "skipped": [{"name": s.name, "reason": s.reason.value} for s in measured.skipped],
        "ignored": dict(sorted(measured.ignored.items())),
        "exact": {
            **_moments_document(moments),
            "image_sums": {
                "unit_bits": UNIT_BITS,
                "mean": list(sums.mean),
                "mean_sq": list(sums.mean_sq),
                "std": list(sums.std),
                "std_1": list(sums.std_1),
                "one_pixel": sums.one_pixel,
            },
        },
        "histogram": {
            name: _trimmed(counts)
            for name, counts in zip(channels, measured.histogram.counts, strict=True)
        },
    }


def _class_document(one: ClassStats, scale: int) -> dict[str, Any]:
    if one.moments is None:
        return {"images": one.images}
    return {
        "images": one.images,
        "mean": _finite(one.moments.mean(scale=scale)),
        "std": _finite(one.moments.std(scale=scale)),
        **_moments_document(one.moments),
    }


def _moments_document(moments: Moments) -> dict[str, Any]:
    return {
        "count": moments.count,
        "total": list(moments.total),
        "total_sq": list(moments.total_sq),
    }


def _step_document(step: Step) -> dict[str, Any]:
    size = step.size if isinstance(step.size, int) else list(step.size)
    return {type(step).__name__: {"size": size}}


def _trimmed(counts: tuple[int, ...]) -> list[int]:
    """Without the zeros at the end: the index is the pixel value, what is missing is 0."""
    end = len(counts)
    while end and not counts[end - 1]:
        end -= 1
    return list(counts[:end])


def _finite(values: tuple[float, ...]) -> list[float]:
    if not all(map(math.isfinite, values)):
        raise ValueError(f"a stats file holds no NaN or Inf: {values}")
    return [float(value) for value in values]


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some YAML reader could take for something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    plain = re.fullmatch(r"[A-Za-z_/][\w./, -]*", text, re.ASCII)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)


# ── YAML -> Stats ──

_Numbers = Annotated[list[float], Field(min_length=1)]
_Counts = Annotated[list[int], Field(min_length=1)]
_Natural = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    # Built when first used: most checks are of configs, and never meet a stats file.
    model_config = ConfigDict(strict=True, extra="forbid", defer_build=True)


class _Size(_Model):
    size: int | Annotated[list[int], Field(min_length=2, max_length=2)]


class _Step(_Model):
    Resize: _Size | None = None
    CenterCrop: _Size | None = None


class _Image(_Model):
    mode: Literal["L", "RGB", "RGBA", "I;16"]
    preprocess: list[_Step] = []


class _Constants(_Model):
    format: Literal["imgnorm-stats/1"]
    channels: list[str] | None = None
    mean: _Numbers
    std: _Numbers
    scale: Literal[255, 65535] = 255
    image: _Image | None = None


class _Convention(_Model):
    mean: _Numbers
    std: _Numbers


class _Source(_Model):
    kind: str
    ref: str
    split: str | None = None
    limit: _Natural | None = None
    names_sha256: str


class _Class(_Model):
    images: _Natural
    mean: _Numbers | None = None
    std: _Numbers | None = None
    count: _Natural | None = None
    total: _Counts | None = None
    total_sq: _Counts | None = None


class _Skipped(_Model):
    name: str
    reason: str


class _ImageSums(_Model):
    unit_bits: Literal[160]
    mean: _Counts
    mean_sq: _Counts
    std: _Counts
    std_1: _Counts
    one_pixel: _Natural


class _Exact(_Model):
    count: _Natural
    total: _Counts
    total_sq: _Counts
    image_sums: _ImageSums


class _Measured(_Constants):
    channels: list[str]
    scale: Literal[255, 65535]
    image: _Image
    images: Annotated[int, Field(gt=0)]
    pixels: _Natural
    min: _Counts
    max: _Counts
    quantiles: dict[str, list[int]]
    conventions: dict[str, _Convention]
    modes: dict[str, int]
    formats: dict[str, int]
    decoders: dict[str, str]
    source: _Source
    classes: dict[str, _Class]
    skipped: list[_Skipped]
    ignored: dict[str, int]
    exact: _Exact
    histogram: dict[str, list[_Natural]]


def schema() -> dict[str, Any]:
    """The stats file's JSON Schema, for editors: measured, or constants."""
    from pydantic.json_schema import models_json_schema

    kinds: list[tuple[type[BaseModel], Literal["validation"]]]
    kinds = [(_Measured, "validation"), (_Constants, "validation")]
    references, content = models_json_schema(kinds, ref_template="#/$defs/{model}")
    measured, constants = (references[kind] for kind in kinds)
    integers = {"anyOf": [{"required": ["exact"]}, {"required": ["histogram"]}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "imgnorm stats file",
        "if": integers,
        "then": measured,
        "else": constants,
        **content,
    }


def _stats_in(document: Document) -> Stats:
    value = document.value
    if isinstance(value, dict) and ("exact" in value or "histogram" in value):
        return _measured_stats(document, validated(document, _Measured))
    return _constants(document, validated(document, _Constants))


def _constants(document: Document, model: _Constants) -> Stats:
    channels = tuple(model.channels or channel_names(len(model.mean)))
    problems = [*_length_problems(document, {"mean": model.mean, "std": model.std}, len(channels))]
    for index, mean in enumerate(model.mean):
        if not 0 <= mean <= 1:
            problems.append(_range_problem(document, ("mean", index), mean, "in [0, 1]"))
    for index, std in enumerate(model.std):
        if not 0 <= std <= 1:
            problems.append(_range_problem(document, ("std", index), std, "in [0, 1]"))
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


def _range_problem(document: Document, path: tuple[str, int], value: float, wanted: str) -> Problem:
    hint = "divide values for 0..255 by 255" if 1 < value <= 255 else None
    return document.problem(path, "unit", f"{value!r} is not {wanted}", hint)


def _measured_stats(document: Document, model: _Measured) -> Stats:
    mode: Mode = model.image.mode
    names, bins = CHANNELS[mode], SCALE[mode] + 1
    problems = []
    if tuple(model.channels) != names:
        problems.append(
            document.problem(("channels",), "channels", f"mode {mode} has {list(names)}")
        )
    if list(model.histogram) != list(names):
        problems.append(
            document.problem(("histogram",), "channels", f"mode {mode} has {list(names)}")
        )
    for name, counts in model.histogram.items():
        if len(counts) > bins:
            message = f"{len(counts)} pixel values; mode {mode} has {bins}"
            problems.append(document.problem(("histogram", name), "channels", message))
        elif not any(counts):
            problems.append(document.problem(("histogram", name), "channels", "counts no pixel"))
    sums = model.exact.image_sums
    vectors = {"mean": sums.mean, "mean_sq": sums.mean_sq, "std": sums.std, "std_1": sums.std_1}
    problems += _length_problems(document, vectors, len(names), "exact", "image_sums")
    for name, one in model.classes.items():
        vectors = {"total": one.total or [], "total_sq": one.total_sq or []}
        if one.count is not None:
            problems += _length_problems(document, vectors, len(names), "classes", name)
    for index, entry in enumerate(model.skipped):
        if entry.reason not in set(Reason):
            message = f"unknown reason {entry.reason!r}"
            problems.append(document.problem(("skipped", index, "reason"), "reason", message))
    if problems:
        raise InvalidDocument(problems)
    stats = _rebuilt(model, mode, bins)
    _check_derived(document, stats)
    return stats


def _rebuilt(model: _Measured, mode: Mode, bins: int) -> Stats:
    """The stats that follow from the integers, and nothing else of the file's numbers."""
    sums = model.exact.image_sums
    padded = (tuple(c) + (0,) * (bins - len(c)) for c in model.histogram.values())
    source = model.source
    options = {"split": source.split, "limit": source.limit}
    measurement = Measurement(
        images=model.images,
        histogram=Histogram(tuple(padded)),
        sums=ImageSums(
            model.images,
            tuple(sums.mean),
            tuple(sums.mean_sq),
            tuple(sums.std),
            tuple(sums.std_1),
            sums.one_pixel,
        ),
        modes=model.modes,
        formats=model.formats,
        decoders=model.decoders,
        source=Provenance(
            source.kind,
            source.ref,
            source.names_sha256,
            {key: option for key, option in options.items() if option is not None},
        ),
        classes={name: _class_stats(one) for name, one in model.classes.items()},
        skipped=tuple(Skipped(s.name, Reason(s.reason)) for s in model.skipped),
        ignored=model.ignored,
    )
    return Stats.of(measurement, mode, _steps(model.image))


def _class_stats(one: _Class) -> ClassStats:
    if not one.count or one.total is None or one.total_sq is None:
        return ClassStats(one.images)
    return ClassStats(one.images, Moments(one.count, tuple(one.total), tuple(one.total_sq)))


def _steps(image: _Image | None) -> tuple[Step, ...]:
    steps: list[Step] = []
    for entry in image.preprocess if image else []:
        for name, step in STEPS.items():
            arguments: _Size | None = getattr(entry, name)
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
            "measure again; these numbers are not edited by hand",
        )
        for path, there, wanted in _differences(document.value, document_of(stats), ())
    ]
    if problems:
        raise InvalidDocument(problems)


_ABSENT = object()


def _differences(
    there: Any, wanted: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Any, Any]]:
    """Where two documents differ: path, value found, value wanted."""
    if isinstance(there, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in there if key not in wanted)]:
            yield from _differences(there.get(key, _ABSENT), wanted.get(key, _ABSENT), (*path, key))
    elif isinstance(there, list) and isinstance(wanted, list) and len(there) == len(wanted):
        for index, (a, b) in enumerate(zip(there, wanted, strict=True)):
            yield from _differences(a, b, (*path, index))
    elif there != wanted:
        yield path, there, wanted


def _short(value: Any) -> str:
    text = "nothing" if value is _ABSENT else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
