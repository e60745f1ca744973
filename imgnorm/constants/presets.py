"""Published constants: value, convention, source and how far to trust them; the known wrong ones too.

The table is presets.json: RGB or gray, in ToTensor's [0, 1], with the digits that were published.
`imgnorm presets`, `normalize: {preset: …}`, the rules about numbers and `explain` all read it. MNIST
is the only dataset that our tests measure, so `mnist` alone is `verified`; `quoted` repeats others.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, Literal

from imgnorm.errors import SourceError
from imgnorm.wording import cut, nearest, printable

Mark = Literal["verified", "quoted", "disputed", "wrong"]
Field = Literal["mean", "std"]

MARKS: dict[Mark, str] = {
    "verified": "computed by a test of ours from the data, exactly, and equal",
    "quoted": "published, and consistent with what else is known; not measured by us",
    "disputed": "published, but sources contradict each other or do not say how",
    "wrong": "published, and not what Normalize needs; listed so that it is recognized",
}
CONVENTIONS: dict[str, str] = {
    "pooled": "over all pixels of all images, population",
    "image_weighted": "pooled, with the same weight for every image",
    "mean_of_image_std": "the average of per-image stds, correction 0",
    "mean_of_image_std_correction_1": "the average of per-image stds, correction 1",
    "scaling": "a choice, not a statistic",
    "unknown": "how it was computed is not stated",
}

FLOAT32_NOISE = 1e-6
"""Two float32 loops over the same data differ in the seventh decimal: too little to be another set."""

WIDEST_TOLERANCE = 0.00051
"""Half of the third decimal. Numbers with fewer decimals are within rounding of too many sets."""

_OTHER_NAMES = {
    "fmnist": "fashion-mnist",
    "imagenet1k": "imagenet",
    "ilsvrc2012": "imagenet",
    "tinyimagenet200": "tiny-imagenet",
    "vocdetection": "voc",
    "vocsegmentation": "voc",
    "mscoco": "coco",
    "coco2017": "coco",
    "cocodetection": "coco",
    "cococaptions": "coco",
    "cocostuff164k": "cocostuff",
    "cub": "cub200",
    "cub2002011": "cub200",
    "cub2011": "cub200",
    "flowers": "flowers102",
    "oxfordflowers": "flowers102",
    "oxfordflowers102": "flowers102",
    "food": "food101",
}


@dataclass(frozen=True)
class Numbers:
    """A mean or a std as it was written: the number of digits decides what it can be equal to."""

    values: tuple[float, ...]  # in [0, 1]
    tolerance: float  # half of the last digit

    def same(self, other: Numbers) -> bool:
        """Equal when both are rounded to the digits of the less precise; gray may be replicated."""
        tolerance = max(self._usable_tolerance, other._usable_tolerance) * (1 + 1e-6)
        ours = self.values
        if len(ours) > 1 == len(other.values) and len(set(ours)) == 1:
            ours = ours[:1]
        return len(ours) == len(other.values) and all(
            abs(a - b) <= tolerance for a, b in zip(ours, other.values, strict=True)
        )

    @property
    def _usable_tolerance(self) -> float:
        """Numbers with few digits are not rounded: they would be equal to too many sets."""
        rounds = self.tolerance <= WIDEST_TOLERANCE
        return max(self.tolerance, FLOAT32_NOISE) if rounds else FLOAT32_NOISE

    @property
    def decimals(self) -> int:
        """How many decimals were given, of values in [0, 1]."""
        return round(-math.log10(2 * self.tolerance)) if self.tolerance else 17

    @property
    def reversed(self) -> Numbers:
        return Numbers(self.values[::-1], self.tolerance)


def numbers_of(values: Sequence[float], *, unit: float = 1.0) -> Numbers:
    """Values in 0..unit as Numbers. The list's longest decimal counts: 0.201 may have been 0.2010."""
    decimals = max((_decimals(repr(float(v)).removesuffix(".0")) for v in values), default=0)
    return Numbers(tuple(value / unit for value in values), 0.5 * 10.0**-decimals / unit)


def numbers_in(texts: Sequence[str], *, unit: float = 1.0) -> Numbers:
    """The same from text, whose trailing zeros count.

    Raises:
        ValueError: one of the texts is not a number.
    """
    values = tuple(float(text) / unit for text in texts)
    decimals = max((_decimals(text) for text in texts), default=0)
    return Numbers(values, 0.5 * 10.0**-decimals / unit)


@dataclass(frozen=True)
class Preset:
    """One published set of constants."""

    name: str  # as in `normalize: {preset: cifar10}`
    dataset: str  # the key of the data or weights it was made for: cifar10
    title: str  # for people: CIFAR-10, train
    mean: tuple[float, ...]  # RGB or gray, in [0, 1]
    std: tuple[float, ...]
    mean_tolerance: float  # half of the last digit published
    std_tolerance: float
    convention: str  # one of CONVENTIONS
    mark: Mark
    source: str  # who published it
    remark: str = ""  # for a wrong set: what is wrong with it
    use: str | None = None  # for a wrong set: the preset with the right numbers, if one is known
    for_weights: bool = False  # belongs to pretrained weights, and may be right for any data
    evidence: str = ""  # for a wrong set: where somebody shows it
    unit: float = 1.0  # the pixel value that is 1.0 where it was published: 255 or 65535
    weights: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)
    """Other names, of weights that were trained with it, and the source of each."""

    def numbers(self, field: Field) -> Numbers:
        if field == "mean":
            return Numbers(self.mean, self.mean_tolerance)
        return Numbers(self.std, self.std_tolerance)


def preset(name: str) -> Preset:
    """The constants of that name, to normalize with.

    Raises:
        SourceError: no preset has that name, or it is a known wrong set.
    """
    found = preset_entry(name)
    if found.mark == "wrong":
        other = f"use preset '{found.use}'" if found.use else "measure the data"
        raise SourceError(
            f"preset '{name}' is a known wrong set ({found.remark}); {other}, or write the numbers "
            "out if a checkpoint depends on them"
        )
    return found


def preset_entry(name: str) -> Preset:
    """The entry of that name, whatever its mark.

    Case, dashes, underscores and spaces do not matter. A dataset may be named as torchvision does, and a
    set of weights by the network: CIFAR-10, FashionMNIST, siglip, dinov2.

    Raises:
        SourceError: no preset has that name; the nearest names are in the message.

    Example:
        >>> preset_entry("Fashion_MNIST").name, preset_entry("DINOv2").name
        ('fashion-mnist', 'imagenet')
    """
    found = _NAMES.get(_folded(name)) or dataset_key(name) or ""
    if found in PRESETS:
        return PRESETS[found]
    usable = [n for p in PRESETS.values() if p.mark != "wrong" for n in (p.name, *p.weights)]
    names = nearest(name, usable, at_most=3)
    if names:
        hint = f"did you mean {' or '.join(repr(n) for n in names)}?"
    else:
        hint = "`imgnorm presets` lists them"
    raise SourceError(f"no preset '{cut(printable(name))}'; {hint}")


@lru_cache(maxsize=256)
def matches(field: Field, numbers: Numbers) -> Sequence[Preset]:
    """All presets with these numbers, the most precise agreement first."""
    lengths = {len(numbers.values), 1} if len(set(numbers.values)) == 1 else {len(numbers.values)}
    found = []
    for length in lengths:
        for entry, known in _known(field, length):
            near = abs(known.values[0] - numbers.values[0]) < 2 * WIDEST_TOLERANCE
            if near and numbers.same(known):
                found.append(entry)
    return tuple(sorted(found, key=lambda p: _distance(numbers.values, p.numbers(field).values)))


def presets_of(dataset: str) -> list[Preset]:
    """Every entry about a dataset, right and wrong, in the table's order."""
    return [p for p in PRESETS.values() if p.dataset == dataset]


def dataset_key(text: str) -> str | None:
    """A dataset's key, from any spelling: 'CIFAR-10', 'Cifar10' and 'cifar_10' are cifar10."""
    return _KEYS.get(_folded(text))


@cache
def _known(field: Field, length: int) -> list[tuple[Preset, Numbers]]:
    everything = ((p, p.numbers(field)) for p in PRESETS.values())
    return [(p, known) for p, known in everything if len(known.values) == length]


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=False))


def _folded(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _decimals(text: str) -> int:
    exponent = Decimal(text).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0  # NaN and Inf have none


def _presets() -> dict[str, Preset]:
    with open(os.path.join(os.path.dirname(__file__), "presets.json"), encoding="utf-8") as file:
        return {name: _preset(name, entry) for name, entry in json.load(file).items()}


def _preset(name: str, entry: dict[str, Any]) -> Preset:
    unit = entry.get("unit", 1.0)
    mean, std = (numbers_in(entry[key].split(), unit=unit) for key in ("mean", "std"))
    entry |= {"mean": mean.values, "mean_tolerance": mean.tolerance}
    entry |= {"std": std.values, "std_tolerance": std.tolerance}
    return Preset(name, **entry)


PRESETS = _presets()
"""The table, by name, in the order of presets.json."""

_KEYS = {_folded(p.dataset): p.dataset for p in PRESETS.values()} | _OTHER_NAMES
_NAMES = {_folded(name): p.name for p in PRESETS.values() for name in (*p.weights, p.name)}
