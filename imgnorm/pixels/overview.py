"""Each image's own numbers -> `Overview`: what images are like, in counts that add up.

It is made for every run, so it must take next to no time: a job has about 100 images, and NumPy takes a
microsecond for each call, whatever it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest

import numpy as np
import numpy.typing as npt

from imgnorm.pixels.each import EachImage
from imgnorm.pixels.planes import Floats, Integers
from imgnorm.settings import Mode, channels_of, kind_of, scale_of
from imgnorm.sources.names import NumberedNames, as_text
from imgnorm.tally.notes import EXAMPLES, Noted
from imgnorm.tally.overview import (
    ALMOST,
    ALMOST_BLACK,
    ALMOST_WHITE,
    AT_AN_END,
    CONSTANT,
    GRAY,
    Distribution,
    End,
    Ends,
    ImageMeans,
    Overview,
    Sizes,
    joined_ends,
    start_of,
)

Size = tuple[int, int]
"""Width and height."""
Mask = npt.NDArray[np.bool_]

_PART = round(1 / ALMOST**2)
_MOST_SIZES = 4096


class OverviewCounter:
    """Collects images of one mode. Not thread-safe: make one per thread."""

    def __init__(self, mode: Mode) -> None:
        channels = len(channels_of(mode))
        self._colors = 3 if mode.startswith("RGB") else channels  # without alpha
        self._shows_gray = self._colors in (1, 3)
        self._8_bit = kind_of(mode) == "8-bit"
        self._scale = scale_of(mode)
        self._looks: dict[str, Noted] = {}
        self._sizes: dict[Size, tuple[int, str]] = {}  # images, and the first name
        self._earlier: Sizes | None = None  # what is no longer in `_sizes`
        self._means = ImageMeans.zero(mode)
        self._lowest: Ends = ()  # means
        self._highest: Ends = ()
        self._raw = np.zeros(self._scale + 1, np.int64)  # images by their mean

    def add(self, each: EachImage, sizes: Sequence[Size]) -> None:
        """Count images of 8 or 16 bits.

        Args:
            sizes: of each of them, before preprocessing.
        """
        names, pixels, total, total_sq = each.names, each.pixels, each.total, each.total_sq
        if total.shape[1] > self._colors:
            total, total_sq = total[:, : self._colors], total_sq[:, : self._colors]
        whole = total.sum(axis=1)
        values = pixels[:, 0] * self._colors
        self._raw += np.bincount((whole // values).astype(np.int64), minlength=len(self._raw))
        lowest, highest = self._add_means(names, whole / (values * self._scale))
        # Few images are so in their first channel, and only these are looked at closely.
        constant: Mask | None = None
        if not (total[:, 0] % pixels[:, 0]).all():
            value = total // pixels
            same = (value * pixels == total) & (value * value * pixels == total_sq)
            constant = np.asarray(same.all(axis=1))
            self._add_look(CONSTANT, names, constant)
        if self._shows_gray and (total[:, 0] == total[:, -1]).any():
            gray = _all_equal(total) & _all_equal(total_sq)
            self._add_look(GRAY, names, gray if constant is None else gray & ~constant)
        if self._8_bit and (lowest <= ALMOST or 1 - highest <= ALMOST):
            most, square = values * 255**2, total_sq.sum(axis=1)
            self._add_look(ALMOST_BLACK, names, square * _PART <= most)
            self._add_look(ALMOST_WHITE, names, (most - 510 * whole + square) * _PART <= most)
        self._add_sizes(names, sizes)

    def add_floats(
        self, names: Sequence[str], size: Size, same: Mask, sums: Sequence[Sequence[int]]
    ) -> None:
        """Count float images of one size.

        Args:
            same: whether all pixels of a channel are equal, (images, channels).
            sums: Σx and Σx², of all channels of the first image, then of the next.
        """
        constant = np.asarray(same[:, : self._colors].all(axis=1))
        self._add_look(CONSTANT, names, constant)
        if self._shows_gray:
            rows = (np.array(one, object).reshape(same.shape)[:, : self._colors] for one in sums)
            gray = np.logical_and(*map(_all_equal, rows))
            self._add_look(GRAY, names, gray & ~constant)
        self._add_sizes(names, [size] * len(names))

    def overview(self) -> Overview:
        """That of all images that were added."""
        means = self._means
        if means:
            step = means.raw.step
            raw = self._raw if step == 1 else self._raw.reshape(-1, step).sum(axis=1)
            starts = raw.nonzero()[0]
            counts = dict(zip((starts * step).tolist(), raw[starts].tolist(), strict=True))
            means = ImageMeans(Distribution(counts, step), self._lowest, self._highest)
        return Overview(self._all_sizes(), means, dict(self._looks))

    def _all_sizes(self) -> Sizes:
        widths, heights, pixels, aspects = _Ranges(), _Ranges(), _Ranges(), _Ranges()
        for (width, height), (images, _) in self._sizes.items():
            widths.add(width, images)
            heights.add(height, images)
            pixels.add(width * height, images)
            aspects.add(width / height, images)
        sizes = Sizes(
            Distribution(widths.counts),
            Distribution(heights.counts),
            Distribution(pixels.counts),
            Distribution(aspects.counts),
            self._ends(lambda size: size[0] * size[1], 1),
            self._ends(lambda size: size[0] * size[1], -1),
            self._ends(lambda size: size[0] / size[1], 1),
            self._ends(lambda size: size[0] / size[1], -1),
        )
        return self._earlier + sizes if self._earlier else sizes

    def _ends(self, value_of: Callable[[Size], float], sign: int) -> Ends:
        sizes: Iterable[Size] = self._sizes
        if len(self._sizes) > 1:
            sizes = nsmallest(AT_AN_END, sizes, lambda size: (sign * value_of(size), size))
        return tuple([End(value_of(size), *self._sizes[size], size) for size in sizes])

    def _add_look(self, look: str, names: Sequence[str], has: Mask) -> None:
        images = int(np.count_nonzero(has))
        if not images:
            return
        if images < len(names):
            names = [names[place] for place in has.nonzero()[0].tolist()]
        noted = Noted(images, tuple(nsmallest(EXAMPLES, set(_texts(names, EXAMPLES)))))
        self._looks[look] = self._looks[look] + noted if look in self._looks else noted

    def _add_means(self, names: Sequence[str], means: Floats) -> tuple[float, float]:
        """
        Returns:
            the least and the greatest.
        """
        order: list[int] = means.argsort().tolist()
        values: list[float] = means.tolist()
        least, greatest = values[order[0]], values[order[-1]]
        if len(self._lowest) < AT_AN_END or least <= self._lowest[-1].value:
            self._lowest = joined_ends(self._lowest, _ends_of(order, values, names), 1)
        if len(self._highest) < AT_AN_END or greatest >= self._highest[-1].value:
            order.reverse()
            self._highest = joined_ends(self._highest, _ends_of(order, values, names), -1)
        return least, greatest

    def _add_sizes(self, names: Sequence[str], sizes: Sequence[Size]) -> None:
        by_size: dict[Size, list[str]] = {}
        if sizes.count(sizes[0]) == len(sizes):
            self._add_size(sizes[0], len(names), min(_texts(names, 1)))
            return
        for size, name in zip(sizes, names, strict=True):
            by_size.setdefault(size, []).append(name)
        for size, its_names in by_size.items():
            self._add_size(size, len(its_names), min(_texts(its_names, 1)))
        if len(self._sizes) > _MOST_SIZES:  # or memory would grow with the images
            self._earlier, self._sizes = self._all_sizes(), {}

    def _add_size(self, size: Size, images: int, name: str) -> None:
        known = self._sizes.get(size)
        self._sizes[size] = (images + known[0], min(name, known[1])) if known else (images, name)


class _Ranges:
    """Images by the range of a number."""

    def __init__(self) -> None:
        self.counts: dict[float, int] = {}

    def add(self, number: float, images: int) -> None:
        start = start_of(number)
        self.counts[start] = self.counts.get(start, 0) + images


def _all_equal(sums: Integers) -> Mask:
    return np.asarray((sums == sums[:, :1]).all(axis=1))


def _ends_of(order: Sequence[int], values: Sequence[float], names: Sequence[str]) -> Ends:
    """The first three different values in this order."""
    found: list[End] = []
    for place in order:
        value, name = values[place], names[place]
        name = name if name.isascii() else as_text(name)
        if found and found[-1].value == value:
            found[-1] = End(value, found[-1].images + 1, min(name, found[-1].name))
        elif len(found) == AT_AN_END:
            break
        else:
            found.append(End(value, 1, name))
    return tuple(found)


def _texts(names: Sequence[str], first: int) -> Sequence[str]:
    """The names as texts; of numbered ones, at least the first few."""
    if type(names) is NumberedNames:
        # Where all have as many digits, their order as text is their order.
        alike = all(len(run.name(0)) == len(run.name(len(run) - 1)) for run in names.runs)
        few = (run.name(place) for run in names.runs for place in range(min(first, len(run))))
        names = list(few if alike else names)
    return names if "".join(names).isascii() else list(map(as_text, names))
