"""Exact power sums of float pixels, in NumPy.

A float is a whole number of some power of two, so a sum of floats is one, too; only float64 cannot
hold it. So each value is split at one place of its binary digits, far enough up that all the upper
parts add up to 53 digits: NumPy adds these in any order without a rounding. What is left is split
again, until nothing is left. (Rump, Ogita & Oishi 2008, "Accurate floating-point summation", AccSum.)
The partial sums become Python integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from imgnorm.pixels.planes import Floats
from imgnorm.settings import mode_of
from imgnorm.tally.floats import FloatPixels
from imgnorm.tally.moments import UNIT_BITS, ImageSums, Moments
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.tally.tally import Counted, Tally

_BLOCK = (
    1 << 16
)  # values that are looked at together: 512 KiB of float64, which a core's cache holds
_LEAST = -1074  # the exponent of the smallest float64
_FINEST = {2: 24, 4: 149, 8: 1074}  # bytes of a dtype -> every value is a whole number of 2**-this
_SAFE = 480  # squares of float64 within 2**-480..2**480 neither overflow nor lose their last digits
_FAR = 600  # to the power of which two brings all others there


def count_floats(
    images: npt.NDArray[Any], names: Sequence[str] | None = None, *, format_: str = "array"
) -> Tally:
    """The tally of float images. Exact: it depends on neither batches nor their order.

    The images that hold a NaN or an infinity are not counted, but listed as `nonfinite-pixels`. The
    values are taken as they are, in whatever unit they have.

    Args:
        images: float16, float32 or float64, (N, H, W, C), in any layout in memory and byte order. N
            may be 0.
        names: what to call each image if it cannot be counted; by default its number.
        format_: what the stats file calls the images' format.

    Raises:
        TypeError: the images are of another dtype or shape.
    """
    if images.ndim != 4:
        raise TypeError(f"images are {images.ndim}-dimensional; give (N, H, W, C)")
    counter = FloatCounter(images.shape[3])
    counter.add(images, names)
    return counter.tally(format_)


class FloatCounter:
    """Collects float images of so many channels; mutable, and alive during one piece of work."""

    def __init__(self, channels: int) -> None:
        self.mode = mode_of(channels, "float")
        self._channels = channels
        self._pixels = FloatPixels.zero(channels)
        self._sums = ImageSums.zero(channels)
        self._skipped: list[Skipped] = []
        self._seen = 0

    def add(self, images: npt.NDArray[Any], names: Sequence[str] | None = None) -> None:
        """Count images, as `count_floats` takes them."""
        if images.dtype.kind != "f" or images.dtype.itemsize not in _FINEST:
            raise TypeError(f"images are {images.dtype}; give float16, float32 or float64")
        if names is None:
            names = [str(i) for i in range(self._seen, self._seen + len(images))]
        self._seen += len(images)
        per_block = max(1, _BLOCK // max(1, images[0].size)) if len(images) else 1
        for start in range(0, len(images), per_block):
            self._add_block(images[start : start + per_block], names[start : start + per_block])

    def tally(self, format_: str) -> Tally:
        """All that was added so far."""
        count = self._sums.images
        counted = Counted(count, self._pixels, self._sums, {self.mode: count}, {format_: count})
        return Tally({self.mode: counted} if count else {}, skipped=tuple(self._skipped))

    def _add_block(self, images: npt.NDArray[Any], names: Sequence[str]) -> None:
        pixels = images.shape[1] * images.shape[2]
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), self._channels, pixels)
        rows = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("="))  # else 4 times slower
        if not pixels:
            self._skipped += (Skipped(n, Reason.ZERO_AREA, "it has no pixels") for n in names)
            return
        least, greatest = rows.min(axis=2), rows.max(axis=2)  # NaN if there is one
        finite = (np.isfinite(least) & np.isfinite(greatest)).all(axis=1)
        if not finite.all():
            self._skipped += (
                _nonfinite(names[i], images[i]) for i in np.flatnonzero(~finite).tolist()
            )
            rows, least, greatest = rows[finite], least[finite], greatest[finite]
            if not len(rows):
                return
        finest = _FINEST[images.dtype.itemsize]
        total, total_sq = _power_sums(rows.reshape(-1, pixels), finest)
        channels = range(self._channels)
        self._sums += _image_sums(pixels, total, total_sq, finest, self._channels)
        sums = Moments.in_units(
            len(rows) * pixels,
            [sum(total[c :: self._channels]) for c in channels],
            [sum(total_sq[c :: self._channels]) for c in channels],
            finest,
        )
        # -0.0 + 0.0 is 0.0: of the two zeros, which the order would choose between, one is left.
        lowest = tuple(float(v) + 0.0 for v in least.min(axis=0))
        highest = tuple(float(v) + 0.0 for v in greatest.max(axis=0))
        self._pixels += FloatPixels(sums, lowest, highest)


def _nonfinite(name: str, image: npt.NDArray[Any]) -> Skipped:
    bad = image.size - int(np.isfinite(image).sum())
    detail = f"{bad:,} of {image.size:,} pixel values are NaN or Inf"
    return Skipped(name, Reason.NONFINITE_PIXELS, detail)


def _image_sums(
    pixels: int, total: list[int], total_sq: list[int], finest: int, channels: int
) -> ImageSums:
    """The per-image numbers, each rounded down to a multiple of 2**-UNIT_BITS."""
    columns: list[tuple[int, int, int, int]] = []
    for channel in range(channels):
        mean = mean_sq = std = std_1 = 0
        for t, t2 in zip(total[channel::channels], total_sq[channel::channels], strict=True):
            spread = (pixels * t2 - t * t) << 2 * UNIT_BITS >> 2 * finest
            mean += (t << UNIT_BITS) // (pixels << finest)
            mean_sq += (t2 << UNIT_BITS) // (pixels << 2 * finest)
            std += isqrt(spread // (pixels * pixels))
            std_1 += isqrt(spread // (pixels * (pixels - 1))) if pixels > 1 else 0
        columns.append((mean, mean_sq, std, std_1))
    images = len(total) // channels
    means, means_sq, stds, stds_1 = zip(*columns, strict=True)
    return ImageSums(images, means, means_sq, stds, stds_1, images if pixels == 1 else 0)


def _power_sums(rows: npt.NDArray[Any], finest: int) -> tuple[list[int], list[int]]:
    """Σx and Σx² of each row, in units of 2**-finest and 2**(-2 · finest); all values are finite."""
    total, total_sq = [0] * len(rows), [0] * len(rows)
    width = max(1, _BLOCK // len(rows))
    for start in range(0, rows.shape[1], width):
        part = rows[:, start : start + width].astype(np.float64, order="C")
        for values, power in _within_range(part) if finest > 149 else [(part, 0)]:
            for square, weight in _squares(values, finest):
                _add_sums(square, total_sq, 2 * (finest + power) + weight)
            _add_sums(values, total, finest + power)
    return total, total_sq


def _squares(values: Floats, finest: int) -> Iterator[tuple[Floats, int]]:
    """Arrays, and the powers of two to multiply them with, that add up to the squares exactly."""
    if finest <= 149:  # 24 digits, so that the square has 48
        yield values * values, 0
        return
    # Halves of 26 digits each, since the lower one has a sign.
    whole = np.ascontiguousarray(values)
    upper = ((whole.view(np.int64) + (1 << 26)) & -(1 << 27)).view(np.float64)
    lower = whole - upper
    yield upper * upper, 0
    yield upper * lower, 1
    yield lower * lower, 0


def _within_range(values: Floats) -> Iterator[tuple[Floats, int]]:
    """Arrays of which the squares are safe, and the powers of two to multiply them with."""
    sizes = np.abs(values)
    tiny = (sizes < 2.0**-_SAFE) & (sizes > 0)
    huge = sizes > 2.0**_SAFE
    far = tiny | huge
    if not far.any():
        yield values, 0
        return
    yield np.where(far, 0.0, values), 0
    if tiny.any():
        yield np.where(tiny, values, 0.0) * 2.0**_FAR, -_FAR
    if huge.any():
        yield np.where(huge, values, 0.0) * 2.0**-_FAR, _FAR


def _add_sums(values: Floats, sums: list[int], unit: int) -> None:
    """Adds the exact sum of each row, times 2**unit, which makes it whole. Uses up `values`."""
    digits = max(2, values.shape[1].bit_length())
    upper = np.empty_like(values)
    while True:
        top = max(float(values.max()), -float(values.min()))
        if not top:
            return
        # Multiples of 2**place, of which so many add up to less than 2**53.
        place = max(_LEAST, math.frexp(top)[1] + digits - 53)
        shift = math.ldexp(1.5, place + 52)  # adding it rounds to such a multiple
        np.add(values, shift, out=upper)
        upper -= shift
        parts = np.ldexp(upper.sum(axis=1), -place).astype(np.int64).tolist()
        up = place + unit
        for row, part in enumerate(parts):
            sums[row] += part << up if up >= 0 else part >> -up
        values -= upper
