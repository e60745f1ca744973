"""Images -> histograms and sums, of one mode.

A large image leaves behind only its histogram: Pillow makes it faster than anything that would first
copy the pixels, and count, Σx and Σx² follow from it in integers. Small images are collected until
there are many, and share one histogram; the sums of each are then taken side by side, in NumPy.
Images that are arrays already go to `PlaneCounter`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgnorm.pixels.decode import Decoded
from imgnorm.pixels.each import EachImage
from imgnorm.pixels.jpeg import Pixels
from imgnorm.pixels.overview import OverviewCounter
from imgnorm.pixels.planes import (
    Bytes,
    Floats,
    Integers,
    PlaneCounter,
    ends_of,
    images_at_once,
    powers_of,
)
from imgnorm.settings import Mode, channels_of, scale_of
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import UNIT_BITS, CrossSums, ImageSums
from imgnorm.tally.rows import FileFields
from imgnorm.tally.tally import Counted, Tally

_SMALL = 1 << 14  # pixels
"""Images of at most this size share a histogram; the Σx² of one fits into 32 bits."""
_TOGETHER = 1 << 18  # pixels of small images that are counted at once
_HISTOGRAMS = 128  # of large images, whose sums are taken at once


def count_arrays(
    images: npt.NDArray[Any],
    mode: Mode,
    names: Sequence[str] = (),
    *,
    format_: str = "array",
    per_image: bool = False,
    threads: int = 1,
) -> Tally:
    """The tally of images that are an array already.

    Args:
        images: uint8, or uint16 in a 16-bit mode, (N, H, W, C) with the channels of `mode`, in any
            layout in memory. N may be 0.
        names: one for each image; by default they have none.
        format_: what the stats file calls the images' format.
        threads: how many count side by side; the tally is the same.
    """
    if not len(images):
        return Tally()
    names = names or [""] * len(images)
    at_once = images_at_once(images.shape)
    starts = range(0, len(images), at_once)
    counters = [ModeCounter(mode, per_image=per_image) for _ in range(min(threads, len(starts)))]
    idle: SimpleQueue[ModeCounter] = SimpleQueue()
    for counter in counters:
        idle.put(counter)

    def add(start: int) -> None:
        counter = idle.get()
        try:
            part = slice(start, start + at_once)
            counter.add_arrays(images[part], names[part], format_)
        finally:
            idle.put(counter)

    if len(counters) == 1:
        for start in starts:
            add(start)
    else:
        with ThreadPoolExecutor(len(counters)) as pool:
            for _ in pool.map(add, starts):
                pass
    first, *others = (counter.counted() for counter in counters)
    rows = tuple(row for counter in counters for row in counter.rows)
    return Tally({mode: sum(others, first)}, rows=rows)


class ModeCounter:
    """Collects the images of one mode. Not thread-safe: make one per thread.

    Args:
        planes: counts arrays, with memory that it took for earlier ones.
        per_image: make rows, too.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        per_image: bool = False,
        planes: PlaneCounter | None = None,
    ) -> None:
        self.mode = mode
        self.modes: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self._channels = len(channels_of(mode))
        self._bins = scale_of(mode) + 1
        self._raw = "RGBX" if mode == "RGB" else mode  # how small images lie in `_together`
        self._depth = 1 if mode == "L" else 4  # bytes a pixel there
        self._total = np.zeros((self._channels, self._bins), np.int64)
        self._sums = ImageSums.zero(self._channels)
        self._cross_sums = CrossSums.zero(self._channels)
        self.rows: list[bytes] = []  # packed, of all images that `counted` has
        self._per_image = per_image
        self._histograms: list[Integers] = []  # of large images
        self._large = _Named()  # the same images
        self._overview = OverviewCounter(mode)
        self._planes = planes or PlaneCounter()
        self._together: Bytes | None = None  # the pixels of small images, one after the other
        self._starts: list[int] = []  # of each small image, in pixels
        self._small = _Named()  # the same images
        self._filled = 0  # pixels

    def add(
        self, image: Decoded, name: str = "", bytes_: int | None = None, sha256: str = ""
    ) -> None:
        """Count an image.

        Args:
            bytes_: of its file.
            sha256: of its file, if that is to be in its row.
        """
        content = image.content
        if isinstance(content, Image.Image):
            width, height = content.size
        else:
            height, width, _ = content.shape
        pixels = width * height
        if image.size:  # that of the file
            width, height = image.size
        file = image.format, image.file_mode, width, height, bytes_, sha256
        if self.mode == "I;16":
            row = np.bincount(np.asarray(content).ravel(), minlength=self._bins)
            self._histograms.append(row.astype(np.int64, copy=False))
            self._large.add(name, file)
            self._count_large()
        elif pixels <= _SMALL:
            if isinstance(content, Image.Image):
                self._put(np.frombuffer(content.tobytes("raw", self._raw), np.uint8), pixels)
            else:
                self._put(content.reshape(-1), pixels)
            self._small.add(name, file)
        else:
            if not isinstance(content, Image.Image):
                content = self._picture(content)
            self._histograms.append(self._histogram(content))
            self._large.add(name, file)
            if len(self._histograms) == _HISTOGRAMS:
                self._count_large()

    def add_arrays(
        self, images: npt.NDArray[Any], names: Sequence[str], format_: str = "array"
    ) -> None:
        """Count images, as `count_arrays` takes them; N is at least 1.

        Raises:
            MemoryError: there is not enough memory; none of them is counted.
        """
        number, height, width, _ = images.shape
        at_once = images_at_once(images.shape)
        parts = [
            self._planes.count(images[start : start + at_once], ends=self._per_image)
            for start in range(0, number, at_once)
        ]
        histograms, total, total_sq, ends = zip(*parts, strict=True)
        histogram = sum(histograms[1:], histograms[0])
        files = [(format_, self.mode, width, height, None, "")] * number
        pixels = np.full((number, 1), height * width, np.int64)
        powers = np.concatenate(total), np.concatenate(total_sq)
        all_ends = np.concatenate(ends, axis=1) if self._per_image else None
        self._add_each(EachImage(self.mode, names, files, pixels, *powers, all_ends))
        self._total += histogram

    def counted(self) -> Counted:
        self._count_small()
        self._count_large()
        histogram = Histogram(tuple(tuple(c) for c in self._total.tolist()))
        return Counted(
            self._sums.images,
            histogram,
            self._sums,
            dict(self.modes),
            dict(self.formats),
            self._cross_sums,
            self._overview.overview(),
        )

    def _picture(self, content: Pixels) -> Image.Image:
        """The same memory as a picture, for its histogram only: X is overwritten."""
        height, width, _ = content.shape
        if self._raw == "RGBX":
            # Pillow counts X, too, and adding 1 to one and the same bin takes longest of all: each time
            # the processor waits for the last addition. So every second X gets another value.
            content.reshape(-1)[3::8] = 0
        return Image.frombuffer(self._raw, (width, height), content, "raw", self._raw, 0, 1)

    def _histogram(self, picture: Image.Image) -> Integers:
        """The histograms of all channels, one after the other; without that of an X behind R, G, B."""
        return np.array(picture.histogram()[: self._channels * self._bins], np.int64)

    def _put(self, content: Bytes, pixels: int) -> None:
        if self._together is None:
            self._together = np.empty(_TOGETHER * self._depth, np.uint8)
        if self._filled + pixels > _TOGETHER:
            self._count_small()
        start = self._filled * self._depth
        self._together[start : start + pixels * self._depth] = content
        self._starts.append(self._filled)
        self._filled += pixels

    def _count_small(self) -> None:
        if not self._filled or self._together is None:
            return
        content = self._together[: self._filled * self._depth]
        together = self._picture(content.reshape(1, -1, self._depth))
        self._total += self._histogram(together).reshape(self._total.shape)
        starts = np.array(self._starts)
        counts = np.diff(starts, append=self._filled)
        powers = np.empty((2, len(starts), self._channels), np.int64)
        ends = np.empty((4, len(starts), self._channels), np.int64) if self._per_image else None
        pixels = content if self._depth == 1 else content.view("<u4")
        values = np.empty(self._filled, np.uint32)
        for channel in range(self._channels):
            np.right_shift(pixels, 8 * channel, out=values)
            np.bitwise_and(values, 255, out=values)
            if ends is not None:
                ends[:, :, channel] = _ends_of_each(values.astype(np.uint8), starts)
            powers[0, :, channel] = _sum_of_each(values, starts, counts)
            np.multiply(values, values, out=values)
            powers[1, :, channel] = _sum_of_each(values, starts, counts)
        total, total_sq = powers
        self._add_each(
            EachImage(self.mode, *self._small.taken(), counts[:, np.newaxis], total, total_sq, ends)
        )
        self._starts.clear()
        self._filled = 0

    def _count_large(self) -> None:
        if self._histograms:
            shape = (len(self._histograms), self._channels, self._bins)
            histograms = np.concatenate(self._histograms).reshape(shape)
            self._total += histograms.sum(axis=0)
            pixels = histograms[:, :1].sum(axis=2)
            ends = ends_of(histograms) if self._per_image else None
            total, total_sq = powers_of(histograms)
            self._add_each(
                EachImage(self.mode, *self._large.taken(), pixels, total, total_sq, ends)
            )
            self._histograms.clear()

    def _add_each(self, each: EachImage) -> None:
        formats, modes, widths, heights, *_ = zip(*each.files, strict=True)
        self.formats.update(formats)
        self.modes.update(modes)
        self._overview.add(each, list(zip(widths, heights, strict=True)))
        self._sums += sums_of_powers(each.pixels, each.total, each.total_sq, self._bins - 1)
        self._cross_sums += cross_sums_of(each.pixels, each.total, each.total_sq)
        if self._per_image:
            self.rows += each.packed()


class _Named:
    """Images whose sums are not taken yet."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._files: list[FileFields] = []

    def add(self, name: str, file: FileFields) -> None:
        self._names.append(name)
        self._files.append(file)

    def taken(self) -> tuple[list[str], list[FileFields]]:
        taken = self._names, self._files
        self._names, self._files = [], []
        return taken


def sums_of_powers(pixels: Integers, total: Integers, total_sq: Integers, scale: int) -> ImageSums:
    """The per-image mean, mean of squares and std of each image, added up exactly.

    Each is computed once in float64, by operations that IEEE 754 rounds correctly, so it is the same
    on every machine. The sums of these numbers are integers.

    Args:
        pixels: (images, 1).
        total: Σx, (images, channels).
        total_sq: Σx², (images, channels).
        scale: the pixel value that becomes 1.0.
    """
    spread = _spread(pixels, total, total_sq)
    count = pixels.astype(np.float64)
    many = pixels > 1
    pairs = np.where(many, count * (count - 1), 1.0)
    columns = (
        total.astype(np.float64) / (count * scale),
        total_sq.astype(np.float64) / (count * (scale * scale)),
        np.sqrt(spread) / (count * scale),
        np.where(many, np.sqrt(spread / pairs) / scale, 0.0),
    )
    channels = total.shape[1]
    sums = _exact_sums(np.concatenate(columns, axis=1))
    mean, mean_sq, std, std_1 = (
        sums[start : start + channels] for start in range(0, 4 * channels, channels)
    )
    return ImageSums(len(total), mean, mean_sq, std, std_1, one_pixel=int((~many).sum()))


def cross_sums_of(pixels: Integers, total: Integers, total_sq: Integers) -> CrossSums:
    """The products of each image's count, total and total_sq, added up exactly.

    Args:
        pixels: (images, 1).
        total: (images, channels).
        total_sq: (images, channels).
    """
    kind = object if total_sq.dtype == object else np.int64
    powers: Integers = np.empty((total.shape[1], len(total), 3), kind)
    powers[:, :, 0], powers[:, :, 1], powers[:, :, 2] = pixels.T, total.T, total_sq.T
    if int(powers.max()) * int(powers.sum(axis=1).max()) >= 1 << 63:
        powers = powers.astype(object)  # the square of a large image's total_sq needs 120 bits
    matrices = (powers.transpose(0, 2, 1) @ powers).tolist()  # (channels, 3, 3)
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    return CrossSums(*(tuple(matrix[i][j] for matrix in matrices) for i, j in pairs))


def _sum_of_each(
    values: npt.NDArray[np.uint32], starts: npt.NDArray[np.intp], counts: npt.NDArray[np.intp]
) -> npt.NDArray[np.uint32]:
    """The sum of each image's values, which fits into 32 bits."""
    if (counts == counts[0]).all():  # faster than reduceat
        sums = values.reshape(len(starts), -1).sum(axis=1, dtype=np.uint32)
    else:
        sums = np.add.reduceat(values, starts)
    return np.asarray(sums)


def _ends_of_each(values: Bytes, starts: npt.NDArray[np.intp]) -> tuple[Integers, ...]:
    """The `ends_of` of each image."""
    ends = np.append(starts, len(values))
    counts = (np.diff(np.searchsorted(np.flatnonzero(values == value), ends)) for value in (0, 255))
    return np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts), *counts


def _spread(pixels: Integers, total: Integers, total_sq: Integers) -> Floats:
    """n · Σx² − (Σx)²: exact, then rounded once."""
    if int(pixels.max()) * int(total_sq.max()) >= 1 << 63:  # from about 12 megapixels on
        wide = [a.astype(object) for a in (pixels, total, total_sq)]
        spread = wide[0] * wide[2] - wide[1] * wide[1]
    else:
        spread = pixels * total_sq - total * total
    return np.asarray(spread, dtype=np.float64)


_STEP = 40  # binary digits
_TERMS = 1 << 13
"""The sum of this many integers of at most 2**_STEP is at most 2**53: float64 holds it exactly."""


def _exact_sums(values: Floats) -> tuple[int, ...]:
    """The exact sum of each column, in units of 2**-UNIT_BITS. All values are from 0 to 1."""
    columns = np.ascontiguousarray(values.T)
    sums = [0] * len(columns)
    for start in range(0, len(values), _TERMS):
        rest = columns[:, start : start + _TERMS]
        unit = UNIT_BITS
        while rest.any():
            unit -= _STEP
            rest = rest * float(1 << _STEP)
            whole = np.floor(rest)
            rest -= whole
            for column, digits in enumerate(whole.sum(axis=1).tolist()):
                sums[column] += int(digits) << unit
    return tuple(sums)
