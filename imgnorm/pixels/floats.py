"""Exact power sums of float pixels, in NumPy.

A float is a whole number of some power of two, so a sum of floats is one too, but float64 cannot
always hold it. Therefore all values are split at one place of their binary digits, high enough that the
sum of the upper parts has at most 53 digits: NumPy adds these in any order without rounding. The lower
parts are split again, until nothing is left. The partial sums become Python integers.

Source: Rump, Ogita & Oishi 2008, "Accurate floating-point summation", AccSum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from imgnorm.pixels.overview import OverviewCounter
from imgnorm.pixels.planes import Floats
from imgnorm.settings import mode_of
from imgnorm.tally.floats import FloatPixels
from imgnorm.tally.moments import UNIT_BITS, ImageSums, Moments
from imgnorm.tally.rows import ImageFile, Row, packed_rows
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.tally.tally import Counted, Tally

_BLOCK = 1 << 16  # values that are added at once: 512 KiB of float64 fit into a core's cache
_LEAST = -1074  # the exponent of the smallest float64
_FINEST = {2: 24, 4: 149, 8: 1074}  # bytes of a dtype -> n: every value is a whole number of 2**-n
_SAFE = 480  # squares of float64 within 2**-480..2**480 neither overflow nor lose their last digits
_FAR = 600  # multiplied with 2**600 or 2**-600, all other values are within that range


def count_floats(
    images: npt.NDArray[Any],
    names: Sequence[str] | None = None,
    *,
    format_: str = "array",
    per_image: bool = False,
) -> Tally:
    """The tally of float images: exact, and the same in batches of any size and order.

    Images that have a NaN or an infinity are not counted, but listed as `nonfinite-pixels`. The values
    are counted as they are, in their own unit.

    Args:
        images: float16, float32 or float64, (N, H, W, C), in any layout in memory and byte order. N
            may be 0.
        names: of the images, by default their numbers.
        format_: what the stats file calls the images' format.
        per_image: make rows, too.

    Raises:
        TypeError: the images have another dtype or number of dimensions.
    """
    if images.ndim != 4:
        raise TypeError(f"images are {images.ndim}-dimensional; give (N, H, W, C)")
    counter = FloatCounter(images.shape[3], format_, per_image=per_image)
    counter.add(images, names)
    return counter.tally()


class FloatCounter:
    """Collects float images that all have `channels` channels; the arguments are those of `count_floats`."""

    def __init__(self, channels: int, format_: str = "array", *, per_image: bool = False) -> None:
        self.mode = mode_of(channels, "float")
        self._channels = channels
        self._pixels = FloatPixels.zero(channels)
        self._sums = ImageSums.zero(channels)
        self._skipped: list[Skipped] = []
        self._seen = 0
        self._format = format_
        self._overview = OverviewCounter(self.mode)
        self._rows: list[bytes] | None = [] if per_image else None

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

    def tally(self) -> Tally:
        """All images that were added so far."""
        count = self._sums.images
        counted = Counted(
            count,
            self._pixels,
            self._sums,
            {self.mode: count},
            {self._format: count},
            overview=self._overview.overview(),
        )
        return Tally(
            {self.mode: counted} if count else {},
            skipped=tuple(self._skipped),
            rows=tuple(self._rows or ()),
        )

    def _add_block(self, images: npt.NDArray[Any], names: Sequence[str]) -> None:
        pixels = images.shape[1] * images.shape[2]
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), self._channels, pixels)
        rows = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("="))  # else 4 times slower
        if not pixels:
            self._skipped += (Skipped(n, Reason.ZERO_AREA, "it has no pixels") for n in names)
            return
        least, greatest = rows.min(axis=2), rows.max(axis=2)  # NaN if any value is
        finite = (np.isfinite(least) & np.isfinite(greatest)).all(axis=1)
        if not finite.all():
            self._skipped += (
                _nonfinite(names[i], images[i]) for i in np.flatnonzero(~finite).tolist()
            )
            rows, least, greatest = rows[finite], least[finite], greatest[finite]
            names = [names[i] for i in np.flatnonzero(finite).tolist()]
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
        # -0.0 + 0.0 is 0.0: which of the two zeros min() and max() return depends on the order.
        lowest = tuple(float(v) + 0.0 for v in least.min(axis=0))
        highest = tuple(float(v) + 0.0 for v in greatest.max(axis=0))
        self._pixels += FloatPixels(sums, lowest, highest)
        size = images.shape[2], images.shape[1]
        self._overview.add_floats(names, size, least == greatest, (total, total_sq))
        if self._rows is not None:
            file = ImageFile(self._format, self.mode, images.shape[2], images.shape[1])
            ends = [(one.astype(np.float64) + 0.0).tolist() for one in (least, greatest)]
            powers = [zip(*[iter(one)] * self._channels, strict=True) for one in (total, total_sq)]
            each = (Moments.in_units(pixels, t, t2, finest) for t, t2 in zip(*powers, strict=True))
            self._rows.append(
                packed_rows(
                    [
                        Row(
                            name,
                            file,
                            self.mode,
                            pixels,
                            one.total,
                            one.total_sq,
                            tuple(low),
                            tuple(high),
                            unit_bits=one.unit_bits,
                        )
                        for name, one, low, high in zip(names, each, *ends, strict=True)
                    ]
                )
            )


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
    """Σx and Σx² of each row, whose values are finite, in units of 2**-finest and 2**(-2 · finest)."""
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
    """Pairs (array, power): the arrays times 2**power add up to the squares exactly."""
    if finest <= 149:  # values have 24 digits, so squares have 48
        yield values * values, 0
        return
    # Both halves have 26 digits: 53 in all, because the lower one has a sign.
    whole = np.ascontiguousarray(values)
    upper = ((whole.view(np.int64) + (1 << 26)) & -(1 << 27)).view(np.float64)
    lower = whole - upper
    yield upper * upper, 0
    yield upper * lower, 1
    yield lower * lower, 0


def _within_range(values: Floats) -> Iterator[tuple[Floats, int]]:
    """Pairs (array, power): the arrays times 2**power add up to the values, and their squares are safe."""
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
    """Add the exact sum of each row to `sums`, times 2**unit, which makes it whole. Overwrites `values`."""
    digits = max(2, values.shape[1].bit_length())
    upper = np.empty_like(values)
    while True:
        top = max(float(values.max()), -float(values.min()))
        if not top:
            return
        # The upper parts are multiples of 2**place, and a row of them adds up to less than 2**53 of it.
        place = max(_LEAST, math.frexp(top)[1] + digits - 53)
        shift = math.ldexp(1.5, place + 52)  # adding and subtracting it rounds to such a multiple
        np.add(values, shift, out=upper)
        upper -= shift
        parts = np.ldexp(upper.sum(axis=1), -place).astype(np.int64).tolist()
        up = place + unit
        for row, part in enumerate(parts):
            sums[row] += part << up if up >= 0 else part >> -up
        values -= upper
