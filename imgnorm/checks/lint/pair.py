"""A mean and a std that were found in a file, and the rules that make sense for them.

Files rarely say what a field is for, and a false alarm is worse than a miss. So a rule is applied only
where it makes sense: `pixels` says that the numbers are about images, and `unit` and `order` are None
unless the framework decides them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from imgnorm.constants.findings import Finding, Order, findings
from imgnorm.constants.presets import dataset_key, matches, numbers_of
from imgnorm.errors import Problem

Place = tuple[int, int]  # line and column, from 1

MAX_VALUES = 16  # longer lists are not means or stds of channels

_FOR_ANY_NUMBERS = {"known-wrong", "swapped", "channel-order", "other-dataset"}
"""Rules that recognize published numbers, so they need not know that a pair is about images."""
_MEAN = {"mean", "means"}
_STD = {"std", "stds", "stdev", "stddev", "stdv"}
_PIXELS = {"image", "images", "img", "imgs", "pixel", "pixels", "rgb", "bgr"}
_FILLERS = {"default", "train", "training", "dataset", "data", "norm", "normalize", "stats", "the"}
"""Words of a name that are not part of a dataset's name."""
_CAMEL = re.compile(r"([a-z0-9])([A-Z])")


@dataclass(frozen=True)
class Written:
    """A list of numbers as it is written in a file. A single number is a list of one."""

    values: tuple[float, ...]
    place: Place
    places: tuple[Place, ...]  # of each value
    divisor: float = 1.0  # 255 in `[x / 255 for x in (125.3, 113.9)]`, 1/255 in `0.485 * 255`

    @property
    def effective(self) -> tuple[float, ...]:
        return tuple(value / self.divisor for value in self.values)

    def divided(self) -> Written:
        """With the division done; 12 digits, so that it adds none of its own."""
        if self.divisor == 1:
            return self
        values = tuple(float(f"{value:.12g}") for value in self.effective)
        return replace(self, values=values, divisor=1.0)


@dataclass(frozen=True)
class Pair:
    """A mean, the std that belongs to it, and what is known from where they stand."""

    mean: Written
    std: Written
    pixels: bool = False  # whether a name or a framework says that they are about images
    unit: float | None = None  # the pixel value that is 1.0, where the framework decides
    order: Order | None = None  # of the channels, where the framework decides
    dataset: str | None = None  # by a name nearby: `CIFAR10_MEAN`, `if args.dataset == "cifar10"`


def problems_of(pair: Pair, file: str) -> list[Problem]:
    """The problems of a pair, at their places."""
    problems = []
    for finding in _applied(pair):
        written = pair.mean if finding.field == "mean" else pair.std
        line, column = written.place if finding.index is None else written.places[finding.index]
        message = f"{finding.field}: {finding.message}"
        problems.append(
            Problem(file, line, column, finding.rule, message, finding.hint, finding.severity)
        )
    return problems


@dataclass(frozen=True)
class Named:
    """What the name of a variable, a keyword or a key says."""

    role: str  # mean or std
    stem: str  # the rest of the name, which is the same for a mean and its std
    pixels: bool  # whether it speaks of pixels, or of a dataset of images
    dataset: str | None


def named(name: str) -> Named | None:
    """`CIFAR10_MEAN` -> a mean of cifar10; None if the name has no word for mean or std, or several."""
    if len(name) > 80:
        return None
    words = words_of(name)
    roles = [word for word in words if word in _MEAN or word in _STD]
    if len(roles) != 1:
        return None
    role = "mean" if roles[0] in _MEAN else "std"
    rest = [word for word in words if word != roles[0]]
    pixels, dataset = pixels_and_dataset(rest)
    return Named(role, "_".join(rest), pixels, dataset)


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: `pixelMean` and `PIXEL_MEAN` -> pixel, mean."""
    return [word for word in re.split(r"[^a-z0-9]+", _CAMEL.sub(r"\1_\2", name).lower()) if word]


def pixels_and_dataset(words: Iterable[str]) -> tuple[bool, str | None]:
    """Whether words speak of pixels, and which dataset they name."""
    listed = list(words)
    dataset = dataset_key("".join(word for word in listed if word not in _FILLERS))
    return dataset is not None or not _PIXELS.isdisjoint(listed), dataset


def _applied(pair: Pair) -> list[Finding]:
    """What the rules find that make sense for a pair."""
    mean, std = pair.mean, pair.std
    if mean.divisor != std.divisor:
        mean, std = mean.divided(), std.divided()
    values = (*mean.effective, *std.effective)
    if not all(map(math.isfinite, values)):
        return [f for f in findings(mean.values, std.values) if pair.pixels]
    if min(mean.effective) < 0 or (not any(mean.values) and max(std.effective) > 1):
        return []  # an inverse transform, or data other than pixels
    unit = pair.unit or _unit_by_size(mean.effective, std.effective)
    if unit is None:
        return []
    found = _findings(pair, mean, std, round(unit * mean.divisor, 9))  # 255 * (1 / 255) is 1
    return [finding for finding in found if _makes_sense(finding, pair, mean, std)]


def _unit_by_size(mean: tuple[float, ...], std: tuple[float, ...]) -> float | None:
    """0..1 (1.0) or 0..255 (255.0), judged by the size of the numbers; None if they fit neither."""
    if max(mean) <= 1:
        return 1.0 if max(std) <= 1 else None
    if max(*mean, *std) <= 255 and (min(std) > 1 or set(std) == {1}):
        return 255.0
    return None


def _findings(pair: Pair, mean: Written, std: Written, unit: float) -> list[Finding]:
    order = pair.order or "RGB"
    found = findings(mean.values, std.values, unit=unit, order=order, dataset=pair.dataset)
    if pair.order is None:
        # Where the order is unknown, only a mean and a std in different orders are wrong.
        other = findings(mean.values, std.values, unit=unit, order="BGR", dataset=pair.dataset)
        if "channel-order" not in {finding.rule for finding in other}:
            found = [finding for finding in found if finding.rule != "channel-order"]
    return found


def _makes_sense(finding: Finding, pair: Pair, mean: Written, std: Written) -> bool:
    varied = len(set(std.values)) >= 3
    if finding.rule == "known-wrong":  # one number by itself occurs anywhere
        return varied or pair.pixels or pair.dataset is not None
    if finding.rule in _FOR_ANY_NUMBERS:
        return True
    if finding.rule == "std-equals-mean":
        numbers = numbers_of(mean.values, unit=(pair.unit or 1.0) * mean.divisor)
        return (pair.pixels and varied) or bool(varied and matches("mean", numbers))
    if finding.rule == "impossible-std":
        return pair.pixels and (pair.unit is not None or len(std.values) == 3)
    if finding.rule == "std-is-scale":  # written as 1 / 255, or with all its digits, it is intended
        return pair.pixels and numbers_of(std.values).tolerance > 1e-12
    if finding.rule in ("unit", "mean-range"):
        return pair.unit is not None
    return pair.pixels
