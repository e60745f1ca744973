"""Pixels of arrays -> histograms and each image's own power sums, in exact integers.

All is done on planes, one channel's pixels side by side, in memory that is used again for the next
block: taking new memory for each would cost more time than the arithmetic. Pillow makes the
histograms of bytes. Σx and Σx² are sums of floats that are whole numbers, and of few enough at a time
to be exact.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

# How much is done at once.
_PIXELS = 1 << 21
"""Of one channel. Pillow's histogram becomes an array in the time that counting 100,000 pixels takes."""
_VALUES = 1 << 24  # pixel values of all channels: this limits the memory
_FLOATS = 1 << 19  # so that calls are few, and the floats still fit into the cache
_WORDS = 1 << 14  # of 8 bytes

_LARGE = 1 << 17  # pixels
"""The sums of an image of at least this size follow faster from a histogram of its own. Below, the
absolute values of its bytes (at most 2**7, see _MIDDLE) add up to less than 2**24: exact in float32."""
_SQUARES = {np.dtype(np.float32): 1 << 10, np.dtype(np.float64): _LARGE}
"""How many squares add up exactly: 2**10 of 14 bits in 24 digits, 2**17 of 32 bits in 53."""
_MANY = 1 << 17  # bytes from which on four histograms at once are faster than one
_MIDDLE = 128  # is subtracted from bytes, so that their squares have 14 bits, not 16


def images_at_once(shape: tuple[int, ...]) -> int:
    """How many images of an array (N, H, W, C) `PlaneCounter.count` should be given; at least one."""
    _, height, width, channels = shape
    return max(1, _pixels_at_once(channels) // max(1, height * width))


def _pixels_at_once(channels: int) -> int:
    return max(1, min(_PIXELS, _VALUES // channels))


class PlaneCounter:
    """Counts one block of images after the other. Not thread-safe: make one per thread."""

    def __init__(self) -> None:
        self._memory: dict[str, Bytes] = {}  # by use; kept for the next block

    def count(
        self, images: npt.NDArray[Any], *, ends: bool = False
    ) -> tuple[Integers, Integers, Integers, Integers | None]:
        """The histogram of all, (C, bins); each image's Σx and Σx², (N, C); and its `ends_of`, (4, N, C).

        Args:
            ends: whether the last is asked for; else it is None.
            images: uint8 or uint16, (N, H, W, C), of any size and layout in memory. N is from 1 to
                `images_at_once`.
        """
        number, height, width, channels = images.shape
        if height * width < _LARGE:
            planes = self._planes(images)
            total, total_sq = self._powers(planes.reshape(channels * number, -1))
            total, total_sq = (sums.reshape(channels, number).T for sums in (total, total_sq))
            return self._histogram(planes), total, total_sq, _ends(planes) if ends else None
        rows = max(1, _pixels_at_once(channels) // width)
        each = np.zeros((number, channels, 1 << 8 * images.itemsize), np.int64)
        for histogram, image in zip(each, images, strict=True):
            for top in range(0, height, rows):
                histogram += self._histogram(self._planes(image[np.newaxis, top : top + rows]))
        return each.sum(axis=0), *powers_of(each), ends_of(each) if ends else None

    def _room(self, use: str, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        """An array that is not initialized; the last one for the same use is overwritten."""
        size = prod(shape) * np.dtype(dtype).itemsize
        if use not in self._memory or self._memory[use].size < size:
            self._memory[use] = np.empty(size, np.uint8)
        room: npt.NDArray[Any] = self._memory[use][:size].view(dtype)
        return room.reshape(shape)

    def _planes(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(C, N, pixels): each channel has the pixels of an image in some order of its own."""
        number, height, width, channels = images.shape
        shape = channels, number, height * width
        whole = images.flags.c_contiguous
        if whole and channels == 1:
            return images.reshape(shape)
        planes = self._room("planes", shape, images.dtype.newbyteorder("="))
        if whole and channels == 3 and images.itemsize == 1 and not height * width % 8:
            self._take_apart(images.reshape(-1), planes.reshape(3, -1))
        else:
            np.copyto(planes.reshape(channels, number, height, width), images.transpose(3, 0, 1, 2))
        return planes

    def _take_apart(self, interleaved: Bytes, planes: Bytes) -> None:
        """Separate R, G and B, 8 pixels at a time, twice as fast as byte by byte.

        8 pixels are three words of 8 bytes. In each of them a channel is at other places, and in the
        three together at all 8: its bytes, or-ed, are one word of its plane.
        """
        groups = interleaved.view(np.uint64).reshape(-1, 3)
        targets = planes.view(np.uint64)
        for start in range(0, len(groups), _WORDS):
            part = groups[start : start + _WORDS]
            first, second, third, masked = self._room("words", (4, len(part)), np.uint64)
            for column, word in enumerate((first, second, third)):
                np.copyto(word, part[:, column])
            for target, places in zip(targets, _PLACES, strict=True):
                whole = target[start : start + len(part)]
                np.bitwise_and(first, places[0], out=whole)
                np.bitwise_or(whole, np.bitwise_and(second, places[1], out=masked), out=whole)
                np.bitwise_or(whole, np.bitwise_and(third, places[2], out=masked), out=whole)

    def _histogram(self, planes: npt.NDArray[Any]) -> Integers:
        count = _bytes_counted if planes.dtype == np.uint8 else _words_counted
        return np.stack([count(plane.reshape(-1)) for plane in planes])

    def _powers(self, rows: npt.NDArray[Any]) -> tuple[Integers, Integers]:
        """Σx and Σx² of each row."""
        number, pixels = rows.shape
        total, total_sq = (np.empty(number, np.int64) for _ in range(2))
        at_once = _FLOATS // pixels
        for start in range(0, number, at_once):
            part: npt.NDArray[Any] = rows[start : start + at_once]
            wide = part.itemsize > 1
            floats = self._room("floats", part.shape, np.float64 if wide else np.float32)
            if not wide:
                centered = self._room("centered", part.shape, np.uint8)
                np.bitwise_xor(part, _MIDDLE, out=centered)  # read as int8, this is x - 128
                part = centered.view(np.int8)
            np.copyto(floats, part)
            total[start : start + at_once] = np.einsum("ij->i", floats)
            total_sq[start : start + at_once] = _squares_added_up(floats)
        if rows.dtype == np.uint8:  # x = y + m, x² = y² + 2my + m², where m is _MIDDLE
            total_sq += 2 * _MIDDLE * total + _MIDDLE**2 * pixels
            total += _MIDDLE * pixels
        return total, total_sq


def ends_of(histograms: Integers) -> Integers:
    """The least and the greatest value, and how many pixels are 0 and the largest value that there is.

    Args:
        histograms: (images, channels, bins), each of some pixels.

    Returns:
        (4, images, channels).
    """
    found = histograms > 0
    greatest = histograms.shape[2] - 1 - found[:, :, ::-1].argmax(axis=2)
    return np.stack([found.argmax(axis=2), greatest, histograms[:, :, 0], histograms[:, :, -1]])


def _ends(planes: npt.NDArray[Any]) -> Integers:
    """The same of pixels, (channels, images, pixels)."""
    most = np.iinfo(planes.dtype).max
    ends = [planes.min(axis=2), planes.max(axis=2)]
    ends += [np.count_nonzero(planes == value, axis=2) for value in (0, most)]
    return np.stack([one.T for one in ends]).astype(np.int64)


def powers_of(histograms: Integers) -> tuple[Integers, Integers]:
    """Σx and Σx² of images, (images, channels), from their histograms.

    Args:
        histograms: int64, (images, channels, bins).
    """
    bins = histograms.shape[2]
    values = np.arange(bins, dtype=np.int64)
    weights = np.stack([values, values * values], axis=1)
    most = int(histograms[:, 0].sum(axis=1).max())
    if most * (bins - 1) ** 2 >= 1 << 63:  # from 2.1 gigapixels of 16 bits on
        powers = histograms.astype(object) @ weights.astype(object)
    else:
        powers = histograms @ weights  # (images, channels, 2)
    return powers[:, :, 0], powers[:, :, 1]


_PLACES: npt.NDArray[np.uint64] = (
    np.where(np.arange(24) % 3 == np.arange(3)[:, np.newaxis], 255, 0)
    .astype(np.uint8)
    .view(np.uint64)
)
"""(channel, word): a mask of the bytes that belong to the channel in three words of RGBRGB..."""


def _bytes_counted(values: Bytes) -> Integers:
    """The histogram of bytes by Pillow, several times as fast as by NumPy's bincount.

    Many bytes are counted as an image of four channels, each with 256 counters of its own: photographs
    have many equal neighbors, and two increments of one counter must wait for one another.
    """
    mode, bands = ("RGBX", 4) if values.size >= _MANY else ("L", 1)
    pixels = values.size // bands
    picture = Image.frombuffer(mode, (pixels, 1), values, "raw", mode, 0, 1)
    counts = np.zeros(256, np.int64)
    for band in np.array(picture.histogram(), np.int64).reshape(bands, 256):
        counts += band
    counts += np.bincount(values[bands * pixels :], minlength=256)
    return counts


def _words_counted(values: npt.NDArray[np.uint16]) -> Integers:
    return np.bincount(values, minlength=1 << 16).astype(np.int64, copy=False)


def _squares_added_up(rows: npt.NDArray[Any]) -> Floats:
    """Σx² of each row, by dot products: no sum of squares is faster than BLAS's."""
    number, pixels = rows.shape
    most = _SQUARES[rows.dtype]
    parts = pixels // most
    whole = rows[:, : parts * most].reshape(number, parts, most)
    sums = np.matmul(whole[:, :, np.newaxis, :], whole[:, :, :, np.newaxis])
    total: Floats = sums.sum(axis=(1, 2, 3), dtype=np.float64)
    rest = rows[:, parts * most :]
    if rest.size:
        total += np.matmul(rest[:, np.newaxis, :], rest[:, :, np.newaxis])[:, 0, 0]
    return total
