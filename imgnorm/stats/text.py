"""Stats -> plain values -> the text of a stats file. The same stats give the same bytes."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from imgnorm.settings import Step
from imgnorm.stats.estimate import Estimate
from imgnorm.stats.measurement import ClassStats, Measurement
from imgnorm.stats.provenance import Provenance
from imgnorm.stats.schema import STATS_FORMAT
from imgnorm.stats.stats import Stats
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import UNIT_BITS, ImageSums, Moments

_HEADER = "# Written by imgnorm. mean and std are for ToTensor's [0, 1]: pooled over all pixels, population.\n"
_EMPTY_HEADER = (
    "# Written by imgnorm. A part without images: merge it with the other parts of its source.\n"
)
_FLOAT_HEADER = "# Written by imgnorm. mean and std are of the float values as they are: pooled over all pixels, population.\n"


def text_of(stats: Stats) -> str:
    """The text of the stats file."""
    content = document_of(stats)
    histogram = content.pop("histogram", {})
    names = content.pop("names", [])
    header = _FLOAT_HEADER if stats.of_floats else _HEADER if stats.mean else _EMPTY_HEADER
    if stats.estimate:
        header += f"# An estimate ({stats.estimate}), not exact.\n"
    text = header + yaml.dump(
        content,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=math.inf,
    )
    if histogram:  # up to 65,536 numbers per line, for which PyYAML takes seconds
        text += "histogram:\n"
        text += "".join(f"  {name}: {counts}\n" for name, counts in histogram.items())
    if names:  # can be a million lines
        text += "names:\n"
        text += "".join("- |-\n  " + lines.replace("\n", "\n  ") + "\n" for lines in names)
    return text


def document_of(stats: Stats) -> dict[str, Any]:
    """The content of the stats file as plain values, in the order of the file."""
    content: dict[str, Any] = {"format": STATS_FORMAT}
    if stats.mean:
        content |= {
            "channels": list(stats.channels),
            "mean": _finite(stats.mean),
            "std": _finite(stats.std),
            **({"estimate": _estimate_document(stats.estimate)} if stats.estimate else {}),
            "scale": stats.scale,
        }
    if stats.mode or stats.measurement:
        content["image"] = {
            **({"mode": stats.mode} if stats.mode else {}),
            **({"auto": True} if stats.auto else {}),
            **({"strict_channels": True} if stats.strict_channels else {}),
            "preprocess": [_step_document(step) for step in stats.preprocess],
        }
    if stats.measurement:
        content |= _measurement_document(stats.measurement, stats.channels, stats.scale)
    return content


def _estimate_document(estimate: Estimate) -> dict[str, Any]:
    margins = estimate.margins
    return {
        "tolerance": float(estimate.tolerance),
        "confidence": float(estimate.confidence),
        "images": estimate.images,
        "of": estimate.total,
        "seed": estimate.seed,
        "margin": {"mean": list(margins.mean), "std": list(margins.std)},
    }


def _measurement_document(
    measured: Measurement, channels: tuple[str, ...], scale: int
) -> dict[str, Any]:
    found = {
        "source": _source_document(measured.source),
        "skipped": [{"name": s.name, "reason": s.reason.value} for s in measured.skipped],
        "ignored": dict(sorted(measured.ignored.items())),
    }
    if not measured.images:
        return {"images": 0, **found}
    moments = measured.pixels.moments()
    histogram = measured.histogram
    quantiles = {name: list(values) for name, values in measured.quantiles().items()}
    names = [source.names for source in measured.source.sources if source.images]
    return {
        "images": measured.images,
        "pixels": moments.count,
        "min": list(measured.pixels.minimum()),
        "max": list(measured.pixels.maximum()),
        **({"quantiles": quantiles} if histogram else {}),
        "conventions": {
            name: {"mean": _finite(c.mean), "std": _finite(c.std)}
            for name, c in measured.conventions().items()
        },
        "modes": dict(sorted(measured.modes.items())),
        "formats": dict(sorted(measured.formats.items())),
        "decoders": dict(sorted(measured.decoders.items())),
        "source": found["source"],
        "classes": {
            name: _class_document(one, scale, floats=histogram is None)
            for name, one in sorted(measured.classes.items())
        },
        "skipped": found["skipped"],
        "ignored": found["ignored"],
        "exact": {
            **_moments_document(moments, floats=histogram is None),
            "image_sums": _image_sums_document(measured.sums),
            **(
                {"image_products": _cross_sums_document(measured.estimate)}
                if measured.estimate
                else {}
            ),
        },
        **({"as_floats": _as_floats_document(measured)} if measured.as_floats else {}),
        **({"histogram": _histogram_document(histogram, channels)} if histogram else {}),
        **({"names": names} if all(names) else {}),
    }


def _cross_sums_document(estimate: Estimate) -> dict[str, Any]:
    return {name: list(sums) for name, sums in vars(estimate.cross_sums).items()}


def _as_floats_document(measured: Measurement) -> dict[str, Any]:
    floats = measured.as_floats
    assert floats
    return {
        "min": list(floats.pixels.minimum()),
        "max": list(floats.pixels.maximum()),
        "exact": {
            **_moments_document(floats.pixels.moments(), floats=True),
            "image_sums": _image_sums_document(floats.sums),
        },
        "classes": {
            name: {"images": one.images, **_moments_document(one.as_floats, floats=True)}
            for name, one in sorted(measured.classes.items())
            if one.as_floats
        },
    }


def _image_sums_document(sums: ImageSums) -> dict[str, Any]:
    return {
        "unit_bits": UNIT_BITS,
        "mean": list(sums.mean),
        "mean_sq": list(sums.mean_sq),
        "std": list(sums.std),
        "std_1": list(sums.std_1),
        "one_pixel": sums.one_pixel,
    }


def _histogram_document(histogram: Histogram, channels: tuple[str, ...]) -> dict[str, list[int]]:
    return {name: _trimmed(counts) for name, counts in zip(channels, histogram.counts, strict=True)}


def _source_document(source: Provenance) -> dict[str, Any]:
    if source.parts:
        parts = [{**_source_document(part), "images": part.images} for part in source.parts]
        return {"kind": source.kind, "parts": parts, "names_sha256": source.names_sha256}
    shards = source.shards and {
        "of": source.shards.total,
        "counted": list(source.shards.counted),
        **({"units_sha256": source.units_sha256} if source.units_sha256 else {}),
    }
    return {
        "kind": source.kind,
        "ref": source.ref if isinstance(source.ref, str) else list(source.ref),
        **source.options,
        **({"shards": shards} if shards else {}),
        "listing_sha256": source.listing_sha256,
        "names_sha256": source.names_sha256,
    }


def _class_document(one: ClassStats, scale: int, *, floats: bool) -> dict[str, Any]:
    if one.moments is None:
        return {"images": one.images}
    return {
        "images": one.images,
        "mean": _finite(one.moments.mean(scale=scale)),
        "std": _finite(one.moments.std(scale=scale)),
        **_moments_document(one.moments, floats=floats),
    }


def _moments_document(moments: Moments, *, floats: bool) -> dict[str, Any]:
    return {
        **({"unit_bits": moments.unit_bits} if floats else {}),
        "count": moments.count,
        "total": list(moments.total),
        "total_sq": list(moments.total_sq),
    }


def _step_document(step: Step) -> dict[str, Any]:
    size = step.size if isinstance(step.size, int) else list(step.size)
    return {type(step).__name__: {"size": size}}


def _trimmed(counts: tuple[int, ...]) -> list[int]:
    """The counts without the zeros at the end. The index is the pixel value; missing counts are 0."""
    end = len(counts)
    while end and not counts[end - 1]:
        end -= 1
    return list(counts[:end])


def _finite(values: tuple[float, ...]) -> list[float]:
    if not all(map(math.isfinite, values)):
        raise ValueError(f"a stats file cannot hold NaN or Inf: {values}")
    return [float(value) for value in values]


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some YAML reader could read as something else, and writes no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    plain = re.fullmatch(r"(?![yYnN]$)[A-Za-z_/][\w./, -]*", text, re.ASCII)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)
