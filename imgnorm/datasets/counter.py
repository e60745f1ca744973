"""Images that Python made, or that are in memory -> `Tally`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imgnorm.datasets.items import ImageArray, eight_bits, is_counted_on_device
from imgnorm.machine import usable_cores
from imgnorm.pixels.buffer import Sender
from imgnorm.pixels.damage import check_size
from imgnorm.pixels.floats import count_floats
from imgnorm.pixels.formats import decoder_of
from imgnorm.pixels.images import ModeCounter, count_arrays
from imgnorm.pixels.load import Loader
from imgnorm.settings import Kind, Mode, mode_of
from imgnorm.sources.source import Unread
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.tally.tally import DIVIDED, Tally, TallySum, total_of
from imgnorm.workers.executor import Work

if TYPE_CHECKING:
    from imgnorm.cuda.tensors import TensorCounter

Found = Image.Image | ImageArray | Unreadable
"""One PIL image; an array (N, H, W, C) of uint8, uint16 or floats; or why it cannot be counted."""

_BLOCK_VALUES = 1 << 18
"""Small arrays are counted this many values at a time: a call for each array would take longer."""
_16_BIT = (np.dtype("<u2"), np.dtype(">u2"))


class ItemCounter:
    """Counts images of all kinds. Mutable: make one per job."""

    def __init__(
        self,
        work: Work,
        sender: Sender | None = None,
        class_: str | None = None,
        *,
        sends_pictures: bool = False,
        threads: int | None = None,
    ) -> None:
        """
        Args:
            sender: has a device count 8-bit arrays. The sender's tally has them then, not the one of
                this counter.
            class_: the class that all images belong to, if classes are counted.
            sends_pictures: the sender has the device count PIL images, too.
            threads: how many count a large array; by default, as many as this process may use cores.
        """
        self._sender = sender
        self._group = class_ or ""
        self._sends_pictures = sends_pictures
        self._on_devices: dict[Any, TensorCounter] = {}  # by torch's device
        self._settings = work.digits.settings
        self._per_image = work.digits.per_image
        self._max_pixels = work.digits.max_pixels
        self._loader = Loader(self._settings, self._max_pixels)
        self._given_threads = threads
        self._pictures: dict[Mode, ModeCounter] = {}
        self._formats: set[str] = set()
        self._rows: list[bytes] = []
        self._arrays = TallySum(self._rows.extend)
        self._block = _Block()
        self._names_16bit: list[str] = []
        self._skipped: list[Skipped] = []

    @cached_property
    def _threads(self) -> int:
        # It reads files, so only once, and only if it is needed.
        return self._given_threads or usable_cores()

    def add(self, images: Found, names: Sequence[str]) -> None:
        """
        Args:
            names: one for each image.
        """
        if isinstance(images, Image.Image):
            self._add_picture(images, names[0])
        elif isinstance(images, Unreadable):
            self._skipped += map(images.skipped, names)
        elif fault := self._fault_of(images):
            self._skipped += map(fault.skipped, names)
        elif is_counted_on_device(images) and not self._per_image:
            self._add_on_device(images, names)
        elif is_counted_on_device(images):
            self.add(images.cpu().numpy(), names)  # type: ignore[attr-defined]
        elif self._sender and images.dtype == np.uint8:
            self._sender.add(self._group, images, mode_of(images.shape[3], "8-bit"), names)
        elif images.dtype in _16_BIT:
            self._add_16bit(images, names)
        elif images.dtype == np.uint8 and images.size >= _BLOCK_VALUES:  # needs no collecting
            self._count(images, names, threads=self._threads)
        else:
            for image, name in zip(images, names, strict=True):
                if not self._block.takes(image):
                    self._flush()
                self._block.add(image, name)

    def tally(self) -> Tally:
        """All that was added; nothing is added after it."""
        self._flush()
        counted = {mode: counter.counted() for mode, counter in self._pictures.items()}
        decoders = {format_: decoder_of(format_) for format_ in self._formats}
        on_devices = sum((counter.tally() for counter in self._on_devices.values()), Tally())
        pictures = Tally(
            counted,
            tuple(self._names_16bit),
            tuple(self._skipped),
            decoders,
            rows=self.taken_rows(),
        )
        return total_of([self._arrays.tally(), on_devices, pictures])

    def taken_rows(self) -> tuple[bytes, ...]:
        """The rows so far, which it forgets."""
        counters = self._pictures.values()
        taken = (*self._rows, *(row for counter in counters for row in counter.rows))
        for rows in (self._rows, *(counter.rows for counter in counters)):
            rows.clear()
        return taken

    def _add_picture(self, picture: Image.Image, name: str) -> None:
        try:
            image = self._loader.load(Unread(name, lambda: picture))
        except Unreadable as fault:
            self._skipped.append(fault.skipped(name))
            return
        except MemoryError:
            detail = "not enough memory to decode it"
            self._skipped.append(Skipped(name, Reason.OUT_OF_MEMORY, detail))
            return
        assert image  # no device decodes it
        self._formats.add(image.format)
        if self._sender and self._sends_pictures and image.mode != "I;16":
            pixels = np.asarray(image.picture).reshape(*image.picture.size[::-1], -1)
            self._sender.add(
                self._group,
                pixels[np.newaxis],
                image.mode,
                [name],
                size=image.size,
                file_mode=image.file_mode,
                format_=image.format,
            )
            return
        self._counter(image.mode).add(image, name)
        if image.mode == "I;16" and self._settings.mode == "auto":
            self._names_16bit.append(name)

    def _add_on_device(self, images: Any, names: Sequence[str]) -> None:
        from imgnorm.cuda.tensors import TensorCounter  # not above: it imports torch

        if self._sender:
            self._sender.device.note_use()
        device = images.device
        if device not in self._on_devices:
            self._on_devices[device] = TensorCounter(device)
        self._on_devices[device].add(images, mode_of(images.shape[3], "8-bit"), names)

    def _fault_of(self, images: ImageArray) -> Unreadable | None:
        """Why these arrays cannot be counted."""
        _, height, width, channels = images.shape
        if self._settings.preprocess:
            return Unreadable(
                Reason.UNSUPPORTED_MODE,
                f"{_dtype(images)} pixels, but only PIL images are resized or cropped here; do it in the "
                "dataset",
            )
        try:
            check_size((width, height), self._max_pixels)
        except Unreadable as fault:
            return fault
        kind: Kind = "16-bit" if images.dtype in _16_BIT else "8-bit"
        if not self._settings.take(mode_of(channels, kind)):
            detail = (
                f"{_dtype(images)} of {channels} channel{'s' if channels > 1 else ''}, not mode "
                f"{self._settings.mode}; convert it in the dataset, or measure it separately"
            )
            return Unreadable(Reason.CHANNEL_MISMATCH, detail)
        return None

    def _flush(self) -> None:
        images, names = self._block.taken()
        self._block = _Block()
        if not len(images):
            return
        if images.dtype == np.uint8:
            self._count(images, names)
            return
        channels = images.shape[3]
        values, were_bytes = eight_bits(images)
        for divided in (True, False):
            places = np.flatnonzero(were_bytes == divided).tolist()
            if not places:
                continue
            its_names = [names[place] for place in places]
            floats = count_floats(images[places], its_names, per_image=self._per_image)
            if divided:
                mode = mode_of(channels, "8-bit")
                counted = count_arrays(
                    values[places],
                    mode,
                    its_names,
                    format_=DIVIDED,
                    per_image=self._per_image,
                )
                floats = replace(counted, divided=floats.counted, rows=counted.rows + floats.rows)
            self._arrays.add(floats)

    def _count(self, images: ImageArray, names: Sequence[str], threads: int = 1) -> None:
        mode = mode_of(images.shape[3], "8-bit")
        self._arrays.add(
            count_arrays(
                images,
                mode,
                names,
                per_image=self._per_image,
                threads=threads,
            )
        )

    def _add_16bit(self, images: ImageArray, names: Sequence[str]) -> None:
        mode = mode_of(images.shape[3], "16-bit")
        counter = self._counter(mode)
        for image, name in zip(images, names, strict=True):  # one by one, as they may be large
            counter.add_arrays(image[np.newaxis], [name])
        if self._settings.mode == "auto" and mode == "I;16":
            self._names_16bit += names

    def _counter(self, mode: Mode) -> ModeCounter:
        if mode not in self._pictures:
            self._pictures[mode] = ModeCounter(mode, per_image=self._per_image)
        return self._pictures[mode]


class _Block:
    """Copies of images of one shape and type: code that yields an array may write into it again."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._pixels: ImageArray = np.empty((0, 0, 0, 0), np.uint8)

    def takes(self, image: ImageArray) -> bool:
        if not self._names:
            return True
        alike = (image.shape, image.dtype) == (self._pixels.shape[1:], self._pixels.dtype)
        return alike and len(self._names) < len(self._pixels)

    def add(self, image: ImageArray, name: str) -> None:
        if not self._names:
            capacity = max(1, _BLOCK_VALUES // image.size)
            self._pixels = np.empty((capacity, *image.shape), image.dtype)
        self._pixels[len(self._names)] = image
        self._names.append(name)

    def taken(self) -> tuple[ImageArray, Sequence[str]]:
        return self._pixels[: len(self._names)], self._names


def _dtype(images: ImageArray) -> str:
    return str(images.dtype).removeprefix("torch.")
