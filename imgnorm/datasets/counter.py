"""Images from a user's own Python -> Tally."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from imgnorm.datasets.items import DeviceCounterFor, Pixels, TensorCounter, eight_bits, stays_there
from imgnorm.machine import usable_cores
from imgnorm.pixels.buffer import Sender
from imgnorm.pixels.damage import check_size
from imgnorm.pixels.decode import decoded_picture, demand_channels
from imgnorm.pixels.floats import FloatCounter
from imgnorm.pixels.formats import decoder_of
from imgnorm.pixels.images import ModeCounter, count_arrays
from imgnorm.pixels.preprocess import preprocessed
from imgnorm.settings import ImageSettings, Kind, Mode, mode_of
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.tally.tally import DIVIDED, Tally

_BLOCK_VALUES = 1 << 18
"""Small arrays are counted so many values at a time: one call for each would take longer than they do."""


class ItemCounter:
    """Collects images, of whatever kind; mutable, and alive only during one piece of work."""

    def __init__(
        self,
        settings: ImageSettings,
        max_pixels: int,
        *,
        cross_sums: bool = False,
        device_counter: DeviceCounterFor | None = None,
        sender: Sender | None = None,
        group: str = "",
    ) -> None:
        """
        Args:
            device_counter: counts tensors that lie on a device; without it, none may come.
            sender: has a device count what are arrays of bytes, which are then in no tally of ours.
            group: of those.
        """
        self._device_counter = device_counter
        self._sender = sender
        self._group = group
        self._there: dict[Any, TensorCounter] = {}  # by device
        self._settings = settings
        self._cross_sums = cross_sums
        self._max_pixels = max_pixels
        self._pictures: dict[Mode, ModeCounter] = {}
        self._arrays = Tally()
        self._block = _Block()
        self._names_16bit: list[str] = []
        self._skipped: list[Skipped] = []

    @cached_property
    def _threads(self) -> int:
        return usable_cores()  # which reads files: once, and only where it is asked for

    def skip(self, name: str, fault: Unreadable) -> None:
        self._skipped.append(fault.skipped(name))

    def add(self, images: Image.Image | Pixels, names: Sequence[str]) -> None:
        """One PIL image, or an array (N, H, W, C) of uint8, uint16 or floats; a name for each."""
        if isinstance(images, Image.Image):
            self._add_picture(images, names[0])
            return
        for fault in self._faults_of(images):
            for name in names:
                self.skip(name, fault)
            return
        if stays_there(images):
            self._add_there(images)
            return
        if self._sender and images.dtype == np.uint8:
            self._sender.add(self._group, images, mode_of(images.shape[3], "8-bit"))
            return
        if images.dtype in _WORDS:
            self._add_16bit(images, names)
            return
        if images.dtype == np.uint8 and images.size >= _BLOCK_VALUES:  # enough to count at once
            self._count(images, threads=self._threads)
            return
        for image, name in zip(images, names, strict=True):
            if not self._block.takes(image):
                self._flush()
            self._block.add(image, name)

    def tally(self) -> Tally:
        """All that was added; nothing is added after it."""
        self._flush()
        counted = {mode: counter.counted() for mode, counter in self._pictures.items()}
        formats = {format_ for one in counted.values() for format_ in one.formats}
        decoders = {format_: decoder_of(format_) for format_ in formats - {"array"}}
        there = sum((counter.tally() for counter in self._there.values()), Tally())
        return (
            self._arrays
            + there
            + Tally(counted, tuple(self._names_16bit), tuple(self._skipped), decoders)
        )

    def _add_picture(self, picture: Image.Image, name: str) -> None:
        settings = self._settings
        try:
            image = decoded_picture(picture, settings.mode, max_pixels=self._max_pixels)
            if settings.strict_channels:
                demand_channels(image)
            if settings.preprocess:
                steps = settings.preprocess
                image = replace(image, content=preprocessed(image.picture, steps, self._max_pixels))
        except Unreadable as fault:
            self.skip(name, fault)
            return
        self._counter(image.mode).add(image)
        if image.mode == "I;16" and settings.mode == "auto":
            self._names_16bit.append(name)

    def _add_there(self, images: Any) -> None:
        assert self._device_counter is not None
        if self._sender:
            self._sender.device.note_use()
        if images.device not in self._there:
            self._there[images.device] = self._device_counter(images.device, self._cross_sums)
        self._there[images.device].add(images, mode_of(images.shape[3], "8-bit"))

    def _faults_of(self, images: Pixels) -> list[Unreadable]:
        """Why none of these arrays can be counted: at most one reason."""
        _, height, width, channels = images.shape
        if self._settings.preprocess:
            return [
                Unreadable(
                    Reason.UNSUPPORTED_MODE,
                    f"{_kind(images)} pixels, which are not resized or cropped here, but in the dataset; only "
                    "PIL images are",
                )
            ]
        try:
            check_size((width, height), self._max_pixels)
        except Unreadable as fault:
            return [fault]
        if not _fits(images, self._settings):
            detail = (
                f"{_kind(images)} of {channels} channel{'s' if channels > 1 else ''}, not mode "
                f"{self._settings.mode}; convert it in the dataset, or measure it apart"
            )
            return [Unreadable(Reason.CHANNEL_MISMATCH, detail)]
        return []

    def _flush(self) -> None:
        images, names = self._block.taken()
        self._block = _Block()
        if not len(images):
            return
        if images.dtype == np.uint8:
            self._count(images)
            return
        channels = images.shape[3]
        values, were = eight_bits(images)
        if were.any():
            floats = FloatCounter(channels)
            floats.add(images[were])
            mode = mode_of(channels, "8-bit")
            counted = count_arrays(values[were], mode, format_=DIVIDED, cross_sums=self._cross_sums)
            self._arrays += replace(counted, divided=floats.tally("array").counted)
        if not were.all():
            floats = FloatCounter(channels)
            others = np.flatnonzero(~were).tolist()
            floats.add(images[others], [names[index] for index in others])
            self._arrays += floats.tally("array")

    def _count(self, images: Pixels, threads: int = 1) -> None:
        mode = mode_of(images.shape[3], "8-bit")
        self._arrays += count_arrays(images, mode, cross_sums=self._cross_sums, threads=threads)

    def _add_16bit(self, images: Pixels, names: Sequence[str]) -> None:
        mode = mode_of(images.shape[3], "16-bit")
        counter = self._counter(mode)
        for image in images:  # of any size, so one by one
            counter.add_arrays(image[np.newaxis])
        if self._settings.mode == "auto" and mode == "I;16":
            self._names_16bit += names

    def _counter(self, mode: Mode) -> ModeCounter:
        if mode not in self._pictures:
            self._pictures[mode] = ModeCounter(mode, cross_sums=self._cross_sums)
        return self._pictures[mode]


class _Block:
    """Images of one shape and type, copied: whoever yields an array may write into it again."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._pixels: Pixels = np.empty((0, 0, 0, 0), np.uint8)

    def takes(self, image: Pixels) -> bool:
        if not self._names:
            return True
        alike = (image.shape, image.dtype) == (self._pixels.shape[1:], self._pixels.dtype)
        return alike and len(self._names) < len(self._pixels)

    def add(self, image: Pixels, name: str) -> None:
        if not self._names:
            many = max(1, _BLOCK_VALUES // image.size)
            self._pixels = np.empty((many, *image.shape), image.dtype)
        self._pixels[len(self._names)] = image
        self._names.append(name)

    def taken(self) -> tuple[Pixels, Sequence[str]]:
        return self._pixels[: len(self._names)], self._names


_WORDS = (np.dtype("<u2"), np.dtype(">u2"))


def _fits(images: Pixels, settings: ImageSettings) -> bool:
    """Whether arrays are counted where a mode is asked for. They are converted to no other, save that
    gray may be shown as RGB."""
    mode = settings.mode
    if mode == "auto":
        return True
    kind: Kind = "16-bit" if images.dtype in _WORDS else "8-bit"
    own = mode_of(images.shape[3], kind)
    return own == mode or ((own, mode) == ("L", "RGB") and not settings.strict_channels)


def _kind(images: Pixels) -> str:
    return str(images.dtype).removeprefix("torch.")
