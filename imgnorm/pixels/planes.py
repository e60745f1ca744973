"""Pixels of arrays -> histograms and each image's own power sums, in exact integers.

All is done on planes, one channel's pixels side by side, in memory that is reused from block to
block: taking new memory for each would cost more time than the arithmetic. Histograms are Pillow's.
Σx and Σx² are sums of floats that are whole numbers, and so few at a time that each stays exact.
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

_PIXELS = 1 << 21
"""So many of a channel are counted at once: a histogram's way into NumPy takes as long as 100,000."""
_VALUES = 1 << 24  # of all channels at once: what bounds the memory
_FLOATS = 1 << 19  # at once: in few enough calls, and yet not out of the cache
_WORDS = 1 << 14  # of 8 bytes, at once
_LARGE = 1 << 17
"""From so many pixels on, an image's sums are sooner told by a histogram of its own. Below, the sum
of so many numbers of at most 2**7 is one that float32 holds exactly."""
_SQUARES = {np.dtype(np.float32): 1 << 10, np.dtype(np.float64): _LARGE}
"""How many squares add up exactly: of 7 bits in a float of 24 digits, of 16 bits in one of 53."""
_MANY = 1 << 17  # bytes
_MIDDLE = 128


def images_at_once(shape: tuple[int, ...]) -> int:
    """How many images of an array (N, H, W, C) `PlaneCounter.count` takes best; at least one."""
    _, height, width, channels = shape
    return max(1, _pixels_at_once(channels) // max(1, height * width))


def _pixels_at_once(channels: int) -> int:
    return max(1, min(_PIXELS, _VALUES // channels))


class PlaneCounter:
    """Counts one block of images after the other. Its memory is reused: one for each thread."""

    def __init__(self) -> None:
        self._memory: dict[str, Bytes] = {}  # by what it is for

    def count(self, images: npt.NDArray[Any]) -> tuple[Integers, Integers, Integers]:
        """The histogram of all, (C, bins), and each image's Σx and Σx², (N, C).

        Args:
            images: uint8 or uint16, (N, H, W, C) in any layout in memory; at least one, of any
                size, and no more than `images_at_once`.
        """
        number, height, width, channels = images.shape
        if height * width < _LARGE:
            planes = self._planes(images)
            total, total_sq = self._powers(planes.reshape(channels * number, -1))
            total, total_sq = (sums.reshape(channels, number).T for sums in (total, total_sq))
            return self._histogram(planes), total, total_sq
        rows = max(1, _pixels_at_once(channels) // width)
        each = np.zeros((number, channels, 1 << 8 * images.itemsize), np.int64)
        for histogram, image in zip(each, images, strict=True):
            for top in range(0, height, rows):
                histogram += self._histogram(self._planes(image[np.newaxis, top : top + rows]))
        return each.sum(axis=0), *powers_of(each)

    def _room(self, use: str, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        """Memory with anything in it."""
        size = prod(shape) * np.dtype(dtype).itemsize
        if use not in self._memory or self._memory[use].size < size:
            self._memory[use] = np.empty(size, np.uint8)
        room: npt.NDArray[Any] = self._memory[use][:size].view(dtype)
        return room.reshape(shape)

    def _planes(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(C, N, pixels); the pixels of each image in any order, but in the same in all channels."""
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
        """R, G and B apart, 8 pixels at a time, twice as fast as byte by byte.

        Their 24 bytes are three words, and in no two of them does a channel have the same places: what
        each word has of a channel makes a word of it, together.
        """
        groups = interleaved.view(np.uint64).reshape(-1, 3)
        targets = planes.view(np.uint64)
        for start in range(0, len(groups), _WORDS):
            part = groups[start : start + _WORDS]
            first, second, third, some = self._room("words", (4, len(part)), np.uint64)
            for column, word in enumerate((first, second, third)):
                np.copyto(word, part[:, column])
            for target, places in zip(targets, _PLACES, strict=True):
                whole = target[start : start + len(part)]
                np.bitwise_and(first, places[0], out=whole)
                np.bitwise_or(whole, np.bitwise_and(second, places[1], out=some), out=whole)
                np.bitwise_or(whole, np.bitwise_and(third, places[2], out=some), out=whole)

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
                np.bitwise_xor(part, _MIDDLE, out=centered)
                part = centered.view(np.int8)
            np.copyto(floats, part)
            total[start : start + at_once] = np.einsum("ij->i", floats)
            total_sq[start : start + at_once] = _squares_added_up(floats)
        if rows.dtype == np.uint8:  # (y + m)² = y² + 2my + m²
            total_sq += 2 * _MIDDLE * total + _MIDDLE**2 * pixels
            total += _MIDDLE * pixels
        return total, total_sq


_PLACES: npt.NDArray[np.uint64] = (
    np.where(np.arange(24) % 3 == np.arange(3)[:, np.newaxis], 255, 0)
    .astype(np.uint8)
    .view(np.uint64)
)
"""By channel and word: the bytes that the channel has of three words of RGBRGB..."""


def _bytes_counted(values: Bytes) -> Integers:
    """By Pillow, several times as fast as by NumPy's bincount.

    Many are counted as the bands of a picture: four times 256 counters, so that equal neighbors, which
    photographs are full of, do not wait for one another's sum.
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
    """Σx² of each row, by dot products: BLAS has the fastest sums of squares there are."""
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


def powers_of(histograms: Integers) -> tuple[Integers, Integers]:
    """Σx and Σx² of images whose histograms are known, (images, channels).

    Args:
        histograms: int64, (images, channels, bins).
    """
    bins = histograms.shape[2]
    values = np.arange(bins, dtype=np.int64)
    weights = np.stack([values, values * values], axis=1)
    most = int(histograms[:, 0].sum(axis=1).max())
    if most * (bins - 1) ** 2 >= 1 << 63:  # one 16-bit image of 2.1 gigapixels
        powers = histograms.astype(object) @ weights.astype(object)
    else:
        powers = histograms @ weights  # (images, channels, 2)
    return powers[:, :, 0], powers[:, :, 1]
