"""What images are like, without a number for each: their sizes, their means, and how many look odd.

All of it adds up exactly, in any order: images in fixed ranges, the few at both ends, and counts with the
first names. What stands out among them is judged from the whole, in stats/outliers.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from imgnorm.settings import Mode, kind_of
from imgnorm.tally.notes import Noted

CONSTANT = "constant"  # all pixels have one color
ALMOST_BLACK = "almost-black"  # 8-bit images whose root mean square is at most ALMOST
ALMOST_WHITE = "almost-white"  # the same of what is missing to white
GRAY = "gray"  # not constant, and all color channels have the same Σx and Σx²: with one, each image
LOOKS = (CONSTANT, ALMOST_BLACK, ALMOST_WHITE, GRAY)

ALMOST = 1 / 16
"""In [0, 1]: half of it over the whole image is below it, and so are white pixels that are 1 in 256."""

AT_AN_END = 3  # numbers that are kept with names
_STEP_OF_MEANS = {"8-bit": 1, "16-bit": 16}  # of the ranges of image means, in raw pixel values


@dataclass(frozen=True)
class Distribution:
    """How many images have a number in each of some fixed ranges."""

    counts: Mapping[float, int] = field(default_factory=dict)  # start of a range -> images in it
    step: int = 0  # how wide each range is; 0: an eighth of the power of two at or below its start

    def __add__(self, other: Distribution) -> Distribution:
        counts = dict(self.counts)
        for start, images in other.counts.items():
            counts[start] = counts.get(start, 0) + images
        return Distribution(counts, self.step)

    @property
    def starts(self) -> tuple[float, ...]:
        """Where the ranges begin that have images, ascending."""
        return tuple(sorted(self.counts))

    @property
    def images(self) -> tuple[int, ...]:
        """How many are in each of these ranges."""
        return tuple(self.counts[start] for start in self.starts)

    @property
    def stops(self) -> tuple[float, ...]:
        """Where each of them ends: the first number that it does not have."""
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


class End(NamedTuple):
    """Images that have one of the lowest or highest numbers."""

    value: float  # the number: an image's mean in [0, 1], its pixels, or its width / height
    images: int  # how many have it, and this size
    name: str  # the first of them, in the order of the texts
    size: tuple[int, int] = (0, 0)  # width and height, if the number follows from them


Ends = tuple[End, ...]
"""At most three, of different numbers."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of the images in pixels, before Resize and CenterCrop."""

    width: Distribution = field(default_factory=Distribution)
    height: Distribution = field(default_factory=Distribution)
    pixels: Distribution = field(default_factory=Distribution)  # width · height
    aspect: Distribution = field(default_factory=Distribution)  # width / height
    smallest: Ends = ()  # the three sizes of the fewest pixels, the lowest first
    largest: Ends = ()  # of the most, the highest first
    tallest: Ends = ()  # of the lowest width / height
    widest: Ends = ()  # of the highest

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(
            self.width + other.width,
            self.height + other.height,
            self.pixels + other.pixels,
            self.aspect + other.aspect,
            joined_ends(self.smallest, other.smallest, 1),
            joined_ends(self.largest, other.largest, -1),
            joined_ends(self.tallest, other.tallest, 1),
            joined_ends(self.widest, other.widest, -1),
        )


@dataclass(frozen=True)
class ImageMeans:
    """The images' own means, over all color channels."""

    raw: Distribution  # of raw pixel values
    lowest: Ends = ()  # the three lowest means, in [0, 1]
    highest: Ends = ()  # the three highest, the highest first

    @classmethod
    def zero(cls, mode: Mode) -> ImageMeans | None:
        """Those of no image; None of floats, whose range is not known."""
        step = _STEP_OF_MEANS.get(kind_of(mode))
        return ImageMeans(Distribution({}, step)) if step else None

    def __add__(self, other: ImageMeans) -> ImageMeans:
        return ImageMeans(
            self.raw + other.raw,
            joined_ends(self.lowest, other.lowest, 1),
            joined_ends(self.highest, other.highest, -1),
        )


@dataclass(frozen=True)
class Overview:
    """What the images of one mode are like."""

    sizes: Sizes = field(default_factory=Sizes)
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


def joined_ends(a: Ends, b: Ends, sign: int) -> Ends:
    """The three lowest numbers of both; each number, and size, once.

    Args:
        sign: -1 for the highest.
    """
    if not a or not b:
        return a or b
    if len(a) == AT_AN_END and _order(b[0], sign) > _order(a[-1], sign):
        return a  # as nearly always in a long sum
    if len(a) == len(b) == 1 and _order(a[0], sign) == _order(b[0], sign):
        return (_both(a[0], b[0]),)
    found: dict[Any, End] = {}
    for one in a + b:
        key = _order(one, sign)
        found[key] = _both(found[key], one) if key in found else one
    return tuple([found[key] for key in sorted(found)[:AT_AN_END]])


def _both(a: End, b: End) -> End:
    """Images with the same number."""
    return End(a.value, a.images + b.images, min(a.name, b.name), a.size)


def _order(end: End, sign: int) -> tuple[float, tuple[int, int]]:
    return sign * end.value, end.size
