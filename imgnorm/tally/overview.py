"""What images are like, without a number for each: their sizes, their means, and how many look odd.

All of it adds up exactly, in any order: images in fixed ranges, the few at both ends, and counts with the
first names. What stands out among them is judged from the whole, in stats/outliers.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from imgnorm.settings import Mode, kind_of
from imgnorm.tally.notes import Noted

CONSTANT = "constant"  # all pixels have one color
ALMOST_BLACK = "almost-black"  # 8-bit images whose root mean square is at most ALMOST
ALMOST_WHITE = "almost-white"  # the same of what is missing to white
GRAY = "gray"  # all color channels have the same Σx and Σx²; of one channel, each image

ALMOST = 1 / 16
"""In [0, 1]: half of it over the whole image is below it, and so are white pixels that are 1 in 256."""

_AT_AN_END = 3
_STEP_OF_MEANS = {"8-bit": 1, "16-bit": 16}  # of the ranges of image means, in raw pixel values


@dataclass(frozen=True)
class Distribution:
    """How many images have a number in each of some fixed ranges."""

    starts: tuple[float, ...] = ()  # of the ranges that have images, ascending
    images: tuple[int, ...] = ()  # in each of these ranges
    step: int = 0  # how wide each range is; 0: an eighth of the power of two at or below its start

    @classmethod
    def of(cls, counts: Mapping[float, int], step: int = 0) -> Distribution:
        """
        Args:
            counts: images by `starts`.
        """
        starts = sorted(start for start, images in counts.items() if images)
        return cls(tuple(starts), tuple(counts[start] for start in starts), step)

    def __add__(self, other: Distribution) -> Distribution:
        counts = Counter(dict(zip(self.starts, self.images, strict=True)))
        counts.update(dict(zip(other.starts, other.images, strict=True)))
        return Distribution.of(counts, self.step)

    @property
    def stops(self) -> tuple[float, ...]:
        """Where each of the ranges ends: the first number that it does not have."""
        return tuple(start + (self.step or _width_at(start)) for start in self.starts)


def start_of(value: float) -> float:
    """The start of the range of a number above 0, where ranges grow with it: its first four binary digits."""
    if isinstance(value, int):
        spare = max(0, value.bit_length() - 4)
        return value >> spare << spare
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.floor(mantissa * 16), exponent - 4)


def _width_at(start: float) -> float:
    width = math.ldexp(1, math.frexp(start)[1] - 4)
    return max(1, int(width)) if isinstance(start, int) else width


@dataclass(frozen=True)
class End:
    """Images that have one of the lowest or highest numbers."""

    value: float  # the number: an image's mean in [0, 1], its pixels, or its width / height
    images: int  # how many have it, and this size
    name: str  # the first of them, in the order of the texts
    size: tuple[int, int] | None = None  # width and height, if the number follows from them


@dataclass(frozen=True)
class Sizes:
    """The sizes of the images in pixels, before Resize and CenterCrop."""

    width: Distribution = Distribution()
    height: Distribution = Distribution()
    pixels: Distribution = Distribution()  # width · height
    aspect: Distribution = Distribution()  # width / height
    smallest: tuple[End, ...] = ()  # the three sizes of the fewest pixels, the lowest first
    largest: tuple[End, ...] = ()  # of the most, the highest first
    tallest: tuple[End, ...] = ()  # of the lowest width / height
    widest: tuple[End, ...] = ()  # of the highest

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(
            self.width + other.width,
            self.height + other.height,
            self.pixels + other.pixels,
            self.aspect + other.aspect,
            lowest((*self.smallest, *other.smallest)),
            highest((*self.largest, *other.largest)),
            lowest((*self.tallest, *other.tallest)),
            highest((*self.widest, *other.widest)),
        )


@dataclass(frozen=True)
class ImageMeans:
    """The images' own means, over all color channels."""

    raw: Distribution = Distribution(step=1)  # of raw pixel values
    lowest: tuple[End, ...] = ()  # the three lowest means, in [0, 1]
    highest: tuple[End, ...] = ()  # the three highest, the highest first

    @classmethod
    def zero(cls, mode: Mode) -> ImageMeans | None:
        """Those of no image; None of floats, whose range is not known."""
        step = _STEP_OF_MEANS.get(kind_of(mode))
        return ImageMeans(Distribution(step=step)) if step else None

    def __add__(self, other: ImageMeans) -> ImageMeans:
        return ImageMeans(
            self.raw + other.raw,
            lowest((*self.lowest, *other.lowest)),
            highest((*self.highest, *other.highest)),
        )


@dataclass(frozen=True)
class Overview:
    """What the images of one mode are like."""

    sizes: Sizes = Sizes()
    means: ImageMeans | None = None  # of 8- and 16-bit images
    looks: Mapping[str, Noted] = field(default_factory=dict)  # CONSTANT, GRAY, ... -> these images

    @classmethod
    def zero(cls, mode: Mode) -> Overview:
        return cls(means=ImageMeans.zero(mode))

    def __add__(self, other: Overview) -> Overview:
        looks = dict(self.looks)
        for look, noted in other.looks.items():
            looks[look] = looks[look] + noted if look in looks else noted
        means = self.means + other.means if self.means and other.means else None
        return Overview(self.sizes + other.sizes, means, looks)


def lowest(ends: Iterable[End]) -> tuple[End, ...]:
    """The images with the three lowest numbers; each number, and size, once."""
    return _first(ends, 1)


def highest(ends: Iterable[End]) -> tuple[End, ...]:
    return _first(ends, -1)


def _first(ends: Iterable[End], sign: int) -> tuple[End, ...]:
    found: dict[tuple[float, tuple[int, int]], End] = {}
    for one in ends:
        key = sign * one.value, one.size or (0, 0)
        before = found.get(key)
        if before:
            name, images = min(before.name, one.name), before.images + one.images
            one = End(one.value, images, name, one.size)
        found[key] = one
    return tuple(found[key] for key in sorted(found)[:_AT_AN_END])
