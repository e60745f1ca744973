"""What stands out among the images of a measurement: each reason in one sentence, with how many and which.

All is judged from counts that add up (tally/overview.py), so a merge of all shards names the same images as
one run. "Far" is meant as in Iglewicz & Hoaglin 1993, "How to detect and handle outliers": by the distance
from the median, in units of the median of all such distances. docs/outliers.md lists the thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from imgnorm.settings import Mode
from imgnorm.stats.measurement import Measurement
from imgnorm.tally.notes import Noted
from imgnorm.tally.overview import (
    ALMOST_BLACK,
    ALMOST_WHITE,
    CONSTANT,
    GRAY,
    Distribution,
    End,
    Overview,
)
from imgnorm.wording import cut, nearest, shown

DARK, BRIGHT = "dark", "bright"  # their means are far from the others'
SMALL, LARGE = "small", "large"  # so are their pixels
TALL, WIDE = "tall", "wide"  # so is their width / height
CLASS = "class"  # the mean of a class is far from those of the others

_SAID = {
    CONSTANT: "of one color",
    ALMOST_BLACK: "almost black",
    ALMOST_WHITE: "almost white",
    DARK: "much darker than the rest",
    BRIGHT: "much brighter than the rest",
    SMALL: "much smaller than the rest",
    LARGE: "much larger than the rest",
    TALL: "much taller than the rest in proportion",
    WIDE: "much wider than the rest in proportion",
    GRAY: "gray among color",
    CLASS: "far from the others, by their mean",
}
REASONS = tuple(_SAID)
"""Why images stand out, in the order in which they are told."""

ALL_REASONS = "all"
"""In place of all reasons, where some are to be ignored."""

_FAR = 4 / 0.6745  # median distances: 4 standard deviations of a normal distribution
_LEAST_MEAN = 0.1  # of the range of the values; nearer to the median is never far
_LEAST_PIXELS = math.log2(16)  # 16 times as many
_LEAST_ASPECT = math.log2(3)  # three times as wide
_LEAST_CLASS = 0.2
_FEWEST_CLASSES = 3
_PART, _FEW, _PART_OF_FEW = 100, 10, 20
"""At most one image in 100 stands out, or 10 if that is at most one in 20: more are a group of their own."""


@dataclass(frozen=True)
class Outlier:
    """One reason why images stand out, how many do, and the first of them."""

    reason: str  # one of `REASONS`: "constant", "almost-black", "dark", "small", "class", ...
    images: int  # how many; of the reason "class", how many classes
    examples: tuple[str, ...]  # their names, at most three; those of classes for "class"
    details: tuple[str, ...] = ()  # of each example, where there is more to say: "16 x 16"

    @property
    def text(self) -> str:
        """For people: how many, why, and the examples."""
        what = ("class", "classes") if self.reason == CLASS else ("image", "images")
        number = f"1 {what[0]} is" if self.images == 1 else f"{self.images:,} {what[1]} are"
        details = self.details or [""] * len(self.examples)
        named = [
            f"{shown(name)} {detail}".rstrip()
            for name, detail in zip(self.examples, details, strict=True)
        ]
        more = ["…"] if self.images > len(named) else []
        return f"{number} {_SAID[self.reason]} ({', '.join(named + more)})"

    def __str__(self) -> str:
        return self.text


def known_reasons(given: str | Sequence[str]) -> tuple[str, ...]:
    """Reasons that are to be ignored, once each.

    Args:
        given: some of `REASONS`, or "all".

    Raises:
        ValueError: there is no such reason.
        TypeError: it is not text.
    """
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"ignore_outliers has {name!r}; expected reasons, as texts")
        if name not in (ALL_REASONS, *REASONS):
            near = nearest(name, (ALL_REASONS, *REASONS))
            hint = f"did you mean {near[0]!r}?" if near else f"there are all, {', '.join(REASONS)}"
            raise ValueError(f"nothing stands out as {cut(name)!r}; {hint}")
    return tuple(sorted(set(names)))


def outliers_of(measured: Measurement, mode: Mode, scale: int) -> tuple[Outlier, ...]:
    """All that stands out and is not to be ignored, in the order of `REASONS`."""
    found = [*_far_classes(measured, scale)]
    overview = measured.overview
    if overview:
        found += _looks(overview, mode, measured.images)
        found += _far_means(overview, measured, scale)
        found += _far_sizes(overview)
    ignored = REASONS if ALL_REASONS in measured.ignore_outliers else measured.ignore_outliers
    told = (one for one in found if one.reason not in ignored)
    return tuple(sorted(told, key=lambda one: REASONS.index(one.reason)))


def _looks(overview: Overview, mode: Mode, images: int) -> Iterator[Outlier]:
    for look, noted in overview.looks.items():
        among_color = mode.startswith("RGB") and noted.images <= _most(images)
        if among_color if look == GRAY else 2 * noted.images <= images:
            yield Outlier(look, noted.images, noted.examples)


def _far_means(overview: Overview, measured: Measurement, scale: int) -> Iterator[Outlier]:
    means = overview.means
    if means is None:
        return
    # 16-bit values often have 12 bits.
    top = 255 if scale == 255 else (1 << int(max(measured.pixels.maximum())).bit_length()) - 1
    far = _Far(means.raw, float, _LEAST_MEAN * top)
    for reason, ends, look in (
        (DARK, means.lowest, ALMOST_BLACK),
        (BRIGHT, means.highest, ALMOST_WHITE),
    ):
        images, has = far.side(upper=reason == BRIGHT)
        if images > overview.looks.get(look, Noted(0)).images:  # else those are the same
            named = [one for one in ends if has(one.value * scale)]
            details = (f"(mean {one.value:.3f})" for one in named)
            yield Outlier(reason, images, tuple(one.name for one in named), tuple(details))


def _far_sizes(overview: Overview) -> Iterator[Outlier]:
    sizes = overview.sizes
    pixels = _Far(sizes.pixels, math.log2, _LEAST_PIXELS)
    aspect = _Far(sizes.aspect, math.log2, _LEAST_ASPECT)
    sides: tuple[tuple[str, _Far, Sequence[End]], ...] = (
        (SMALL, pixels, sizes.smallest),
        (LARGE, pixels, sizes.largest),
        (TALL, aspect, sizes.tallest),
        (WIDE, aspect, sizes.widest),
    )
    for reason, far, ends in sides:
        images, has = far.side(upper=reason in (LARGE, WIDE))
        if images:
            named = [one for one in ends if has(one.value)]
            details = (f"({one.size[0]} x {one.size[1]})" for one in named)
            yield Outlier(reason, images, tuple(one.name for one in named), tuple(details))


def _far_classes(measured: Measurement, scale: int) -> Iterator[Outlier]:
    """Classes whose mean, in one of the channels, is far from the means of the classes."""
    means = {
        name: one.moments.mean(scale=scale)
        for name, one in measured.classes.items()
        if one.moments and one.moments.count
    }
    if len(means) < _FEWEST_CLASSES or measured.estimate or scale == 1:
        return
    names: list[str] = []
    for channel in zip(*means.values(), strict=True):
        ordered = [(value, 1) for value in sorted(channel)]
        center, far = _center_and_far(ordered, _LEAST_CLASS)
        names += (
            name for name, value in zip(means, channel, strict=True) if abs(value - center) >= far
        )
    if names:
        far_off = sorted(set(names))[:_FEW]
        details = (f"(mean {' '.join(f'{v:.3f}' for v in means[name])})" for name in far_off)
        yield Outlier(CLASS, len(set(names)), tuple(far_off), tuple(details))


class _Far:
    """Which images are far from the rest, on either side of a distribution.

    Args:
        place: where a number stands on the scale on which distances are measured.
        least: what is nearer to the median than this is not far.
    """

    def __init__(
        self, distribution: Distribution, place: Callable[[float], float], least: float
    ) -> None:
        self._ranges = [
            (start, stop, images)
            for start, stop, images in zip(
                distribution.starts, distribution.stops, distribution.images, strict=True
            )
        ]
        self._place = place
        middles = [(place((start + stop) / 2), images) for start, stop, images in self._ranges]
        self._center, self._far = _center_and_far(middles, least) if middles else (0.0, math.inf)

    def side(self, *, upper: bool) -> tuple[int, Callable[[float], bool]]:
        """How many images are far off on one side, and whether a number is that of one of them.

        Whole ranges, from the end on, as long as they have few images.
        """
        most = _most(sum(images for _, _, images in self._ranges))
        images, edge = 0, math.nan
        for start, stop, more in reversed(self._ranges) if upper else self._ranges:
            inner = start if upper else stop
            away = (self._place(inner) - self._center) * (1 if upper else -1)
            if away < self._far or images + more > most:
                break
            images, edge = images + more, inner
        return images, (lambda value: value >= edge) if upper else (lambda value: value < edge)


def _most(images: int) -> int:
    """How many of these images can stand out for one reason that compares them."""
    return max(images // _PART, min(_FEW, images // _PART_OF_FEW))


def _center_and_far(values: Sequence[tuple[float, int]], least: float) -> tuple[float, float]:
    """The median, and how far from it is far; values with their numbers, ascending."""
    center = _median(values)
    distances = sorted((abs(value - center), images) for value, images in values)
    return center, max(least, _FAR * _median(distances))


def _median(values: Sequence[tuple[float, int]]) -> float:
    """The lower one, if there are two in the middle."""
    seen = list(accumulate(images for _, images in values))
    middle = (seen[-1] + 1) // 2
    return next(value for (value, _), end in zip(values, seen, strict=True) if end >= middle)
