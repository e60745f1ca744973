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
from imgnorm.sources import Block, EncodedSource
from imgnorm.tally import Counted, Tally

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BLOCK = 1 << 20  # values of arrays that are counted at once
JOB_SECONDS = 0.5
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
    deadline = monotonic() + JOB_SECONDS
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
                if isinstance(found, Block):
                    reserve(picture_bytes(found))
                    found = picture_of(found)
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


def count_arrays(images: npt.NDArray[Any], mode: Mode, *, format_: str = "array") -> Tally:
    """The tally of images that are an array already.

    Args:
        images: uint8, or uint16 in a 16-bit mode, (N, H, W, C) with the channels of `mode`, in any
            layout in memory. N may be 0.
        format_: what the stats file calls the images' format.
    """
    if not len(images):
        return Tally()
    counter = ModeCounter(mode)
    per_block = max(1, _BLOCK // max(1, images[0].size))
    for start in range(0, len(images), per_block):
        counter.add_array(images[start : start + per_block])
    counter.modes[mode] = counter.formats[format_] = len(images)
    return Tally({mode: counter.counted()})


def array_of(block: Block) -> npt.NDArray[Any]:
    """The block as (N, H, W, C)."""
    return np.ndarray(block.shape, block.dtype, block.data, block.offset, block.strides)


def picture_of(block: Block) -> Image.Image:
    """A block of one image as the PIL image that torchvision's ToPILImage makes of it."""
    (pixels,) = array_of(block)
    if block.mode == "I;16":
        return Image.fromarray(np.ascontiguousarray(pixels[..., 0], "<u2"))
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if block.mode == "L" else pixels))


def picture_bytes(block: Block) -> int:
    return 4 * block.shape[1] * block.shape[2]


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

    def add_array(self, images: npt.NDArray[Any]) -> None:
        """Images as `count_arrays` takes them, but few, or a single one of any size."""
        planes = images.transpose(3, 0, 1, 2)
        total, total_sq = (np.zeros(planes.shape[:2], np.int64) for _ in range(2))
        height = max(1, _BLOCK // max(1, planes[:, :, :1].size))  # rows that are looked at at once
        for top in range(0, planes.shape[2], height):
            strip = np.ascontiguousarray(planes[:, :, top : top + height])
            strip = strip.reshape(*strip.shape[:2], -1)
            for channel, values in enumerate(strip):
                self._total[channel] += self._counts(values)
            sums = _power_sums(strip) if self._bins == 256 else _wide_power_sums(strip)
            total += sums[0]
            total_sq += sums[1]
        pixels = np.full((planes.shape[1], 1), planes.shape[2] * planes.shape[3], np.int64)
        self._sums += sums_of_powers(pixels, total.T, total_sq.T, self._bins - 1)

    def _counts(self, values: npt.NDArray[Any]) -> Integers | list[int]:
        if self._bins > 256:
            return np.bincount(values.ravel(), minlength=self._bins)
        # Pillow counts bytes several times as fast as bincount, which first makes them int64.
        size = (values.shape[1], values.shape[0])
        return Image.frombuffer("L", size, values, "raw", "L", 0, 1).histogram()

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


_EXACT = 256
"""Squares of so many bytes add up to less than 2**24, which float32 holds exactly."""


def _power_sums(planes: npt.NDArray[np.uint8]) -> tuple[Integers, Integers]:
    """Σx and Σx² of (channels, images, pixels), exactly, at the speed of float32."""
    pixels = planes.shape[2]
    width = min(_EXACT, pixels)
    parts = -(-pixels // width)
    values = np.zeros((*planes.shape[:2], parts * width), np.float32)
    values[:, :, :pixels] = planes
    values = values.reshape(*planes.shape[:2], parts, width)
    total = np.einsum("cnpi->cnp", values)
    total_sq = np.einsum("cnpi,cnpi->cnp", values, values)
    return (
        total.sum(axis=2, dtype=np.float64).astype(np.int64),
        total_sq.sum(axis=2, dtype=np.float64).astype(np.int64),
    )


def _wide_power_sums(planes: npt.NDArray[np.uint16]) -> tuple[Integers, Integers]:
    wide = planes.astype(np.int64)
    return wide.sum(axis=2), np.einsum("cni,cni->cn", wide, wide)


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
    return sums_of_powers(pixels, powers[:, :, 0], powers[:, :, 1], scale)


def sums_of_powers(pixels: Integers, total: Integers, total_sq: Integers, scale: int) -> ImageSums:
    """The same from each image's number of pixels, (images, 1), Σx and Σx², (images, channels)."""
    spread = _spread(pixels, total, total_sq)
    count = pixels.astype(np.float64)
    many = pixels > 1
    pairs = np.where(many, count * (count - 1), 1.0)
    return ImageSums(
        images=len(pixels),
        mean=_sum(total / (count * scale)),
        mean_sq=_sum(total_sq / (count * (scale * scale))),
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
