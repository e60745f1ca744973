"""Names -> Tally: the work of one worker.

One histogram per channel is all that an image leaves behind: Pillow counts it faster than anything
that would first copy the pixels out, and count, Σx and Σx² follow from it in integers.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgnorm.decode import Decoded, decode, decoded_picture
from imgnorm.formats import decoder_of
from imgnorm.histogram import Histogram
from imgnorm.image import ImageSettings, Mode, channels_of, scale_of
from imgnorm.moments import UNIT_BITS, ImageSums
from imgnorm.preprocess import preprocessed
from imgnorm.reasons import Reason, Skipped, Unreadable
from imgnorm.sources import EncodedSource
from imgnorm.tally import Counted, Tally

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_JOB_SECONDS = 0.5
_JOB_BYTES = 64 << 20
"""A piece of work ends early here, so that a few huge images neither starve nor delay the others."""


def count(
    source: EncodedSource,
    names: Sequence[str],
    settings: ImageSettings,
    *,
    max_pixels: int,
    starting: Callable[[int], None] = lambda index: None,
    reserve: Callable[[int], None] = lambda size: None,
) -> tuple[Tally, int]:
    """The tally of the first images of `names`, and how many those are.

    Args:
        starting: called with the index of each name before it is touched.
        reserve: called with the bytes of memory that an image will take; may wait or raise Unreadable.
    """
    counters: dict[Mode, ModeCounter] = {}
    names_16bit: list[str] = []
    skipped: list[Skipped] = []
    bytes_read = 0
    deadline = monotonic() + _JOB_SECONDS
    warnings.simplefilter("ignore")  # Pillow's, about metadata and palettes
    done = 0
    for done, name in enumerate(names, 1):
        starting(done - 1)
        size: int | None = None
        try:
            found = source.read(name)
            if isinstance(found, bytes):
                size = len(found)
                bytes_read += size
                image = decode(found, settings.mode, max_pixels=max_pixels, reserve=reserve)
            else:
                image = decoded_picture(found, settings.mode, max_pixels=max_pixels)
            picture = preprocessed(image.picture, settings.preprocess, max_pixels)
            if image.mode not in counters:
                counters[image.mode] = ModeCounter(image.mode)
            counters[image.mode].add(picture, image)
        except Unreadable as fault:
            skipped.append(fault.skipped(name, size))
        except MemoryError:
            detail = "not enough memory to decode it"
            skipped.append(Skipped(name, Reason.OUT_OF_MEMORY, detail, size))
        else:
            if image.mode == "I;16" and settings.mode == "auto":
                names_16bit.append(name)
        if bytes_read >= _JOB_BYTES or monotonic() >= deadline:
            break
    counted = {mode: counter.counted() for mode, counter in counters.items()}
    formats = {format_ for one in counted.values() for format_ in one.formats}
    decoders = {format_: decoder_of(format_) for format_ in formats}
    return Tally(counted, tuple(names_16bit), tuple(skipped), decoders, bytes_read), done


def count_arrays(images: npt.NDArray[Any], mode: Mode, format_: str = "array") -> Tally:
    """The tally of images that are an array already.

    Args:
        images: uint8, (N, H, W, C) with the channels of `mode`. N may be 0.
        format_: what the tally calls them.
    """
    counter = ModeCounter(mode)
    channels = images.shape[3]
    per_block = max(1, (1 << 20) // max(1, images[0].size)) if len(images) else 1
    for start in range(0, len(images), per_block):
        block = images[start : start + per_block]
        rows = np.empty((len(block), channels * 256), np.int64)
        # One bincount for the whole block: image and channel are part of the counted value.
        place = np.arange(len(block) * channels).reshape(len(block), 1, 1, channels) * 256
        rows[:] = np.bincount(
            (block + place).ravel(), minlength=len(block) * channels * 256
        ).reshape(rows.shape)
        counter.add_rows(rows)
    counter.modes[mode] = counter.formats[format_] = len(images)
    return Tally({mode: counter.counted()} if len(images) else {})


class ModeCounter:
    """Collects the images of one mode; mutable, and alive only during one piece of work."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.modes: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self._channels = len(channels_of(mode))
        self._bins = scale_of(mode) + 1
        self._total = np.zeros((self._channels, self._bins), np.int64)
        self._sums = ImageSums.zero(self._channels)
        width = self._channels * self._bins
        self._rows = np.empty((max(1, (1 << 17) // width), width), np.int64)
        self._filled = 0

    def add(self, picture: Image.Image, image: Decoded) -> None:
        self._rows[self._filled] = self._histogram(picture)
        self._filled += 1
        self.modes[image.met] += 1
        self.formats[image.format] += 1
        if self._filled == len(self._rows):
            self._flush()

    def add_rows(self, rows: Integers) -> None:
        """One row per image: the histograms of its channels, one after the other."""
        shape = (len(rows), self._channels, self._bins)
        histograms = rows.reshape(shape)
        self._total += histograms.sum(axis=0)
        self._sums += sums_of(histograms)

    def counted(self) -> Counted:
        self._flush()
        histogram = Histogram(tuple(tuple(c) for c in self._total.tolist()))
        return Counted(
            self._sums.images, histogram, self._sums, dict(self.modes), dict(self.formats)
        )

    def _histogram(self, picture: Image.Image) -> Integers | list[int]:
        if self.mode == "I;16":
            return np.bincount(np.asarray(picture).ravel(), minlength=self._bins)
        return np.fromiter(picture.histogram(), np.int64, self._rows.shape[1])

    def _flush(self) -> None:
        if self._filled:
            self.add_rows(self._rows[: self._filled])
            self._filled = 0


def sums_of(histograms: Integers) -> ImageSums:
    """The per-image mean, mean of squares and std of each image, added up exactly.

    Each is computed once in float64, by operations that IEEE 754 rounds correctly, so that they are
    the same on every machine; from there on they are integers.

    Args:
        histograms: int64, (images, channels, bins).
    """
    bins = histograms.shape[2]
    scale = bins - 1
    values = np.arange(bins, dtype=np.int64)
    powers = histograms @ np.stack([values, values * values], axis=1)  # (images, channels, 2)
    pixels = histograms[:, :1, :].sum(axis=2)  # (images, 1)
    spread = _spread(pixels, powers[:, :, 0], powers[:, :, 1])
    count = pixels.astype(np.float64)
    many = pixels > 1
    pairs = np.where(many, count * (count - 1), 1.0)
    return ImageSums(
        images=len(histograms),
        mean=_sum(powers[:, :, 0] / (count * scale)),
        mean_sq=_sum(powers[:, :, 1] / (count * (scale * scale))),
        std=_sum(np.sqrt(spread) / (count * scale)),
        std_1=_sum(np.where(many, np.sqrt(spread / pairs) / scale, 0.0)),
        one_pixel=int((~many).sum()),
    )


def _spread(pixels: Integers, total: Integers, total_sq: Integers) -> Floats:
    """n · Σx² − (Σx)², exactly, rounded once."""
    if int(pixels.max()) * int(total_sq.max()) >= 1 << 63:  # from about 12 megapixels on
        wide = [a.astype(object) for a in (pixels, total, total_sq)]
        spread = wide[0] * wide[2] - wide[1] * wide[1]
    else:
        spread = pixels * total_sq - total * total
    return np.asarray(spread, dtype=np.float64)


def _sum(values: Floats) -> tuple[int, ...]:
    """The exact sum over images, per channel, in units of 2**-UNIT_BITS."""
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * (1 << 53)).astype(np.int64)
    sums = []
    for channel in range(values.shape[1]):
        column, powers = whole[:, channel], exponents[:, channel]
        # At most 1,024 mantissas of 53 bits fit into an int64.
        total = 0
        for start in range(0, len(column), 1024):
            part, shifts = column[start : start + 1024], powers[start : start + 1024]
            for shift in np.unique(shifts).tolist():
                mass = int(part[shifts == shift].sum())
                total += mass << (UNIT_BITS - 53 + shift) if mass else 0
        sums.append(total)
    return tuple(sums)
