"""Tray: the pixels that a worker has decoded, in memory that it shares with its parent.

Only where a device counts: a worker then puts its images here, one behind the other, and says which
they are; on the CPU it counts them itself, and pixels never leave it. Where the device decodes, too,
they are files, as they were read.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from imgnorm.errors import DeviceError
from imgnorm.settings import ImageSettings, Mode
from imgnorm.tally.tally import Tally

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class PackedImages:
    """One image on a tray, or many that are alike; the next one begins where it ends."""

    mode: Mode
    pixels: int  # of one
    depth: int  # bytes a pixel; what comes after its channels means nothing
    file_mode: str  # Pillow's mode of the file itself
    format: str
    images: int = 1
    planes: bool = False  # of each image: its channels lie one behind the other

    @property
    def bytes(self) -> int:
        return self.images * self.pixels * self.depth

    def each(self) -> Sequence[PackedImages]:
        return [self] if self.images == 1 else [replace(self, images=1)] * self.images


@dataclass(frozen=True)
class PackedFile:
    """A JPEG file on a tray, whose pixels the device is to find."""

    index: int  # of its name in the piece of work
    bytes: int
    mode: Mode
    pixels: int
    file_mode: str
    format: str = "JPEG"
    images: int = 1
    planes: bool = True

    @property
    def depth(self) -> int:
        """Bytes of a pixel, once it is decoded."""
        return 1 if self.file_mode == "L" else 3

    def each(self) -> Sequence[PackedFile]:
        return [self]


class BufferCounter(Protocol):
    """Counts trays on a device, for one thread at a time."""

    def count(
        self, group: str, buffer: Any, images: Sequence[PackedImages | PackedFile]
    ) -> Sequence[int]:
        """Adds the images that lie on a tray; afterwards it may be filled anew.

        Returns:
            the `index` of each file that the device does not decode.
        """

    def taken(self) -> Mapping[str, Tally]:
        """All that was counted, by group; from now on it counts from zero."""


class Device(Protocol):
    """What counts in the place of the workers."""

    @property
    def used(self) -> bool:
        """Whether a device has counted any image."""

    def note_use(self) -> None:
        """Say that one has: images that lie on a device are counted there, whichever was asked for."""

    @property
    def batch(self) -> int:
        """How many pixels it is sent at once."""

    def counter(self, *, cross_sums: bool = False) -> BufferCounter:
        """
        Args:
            cross_sums: count what error bars need, too.
        """

    def count_arrays(self, images: Any, mode: Mode, *, cross_sums: bool = False) -> Tally:
        """The tally of uint8 images that are one array already, (N, H, W, C)."""


@dataclass(frozen=True)
class Found:
    """What stands behind the name of a device."""

    device: Any | None  # torch's; None: the workers count
    words: str  # for a person


@dataclass(frozen=True)
class BufferSize:
    """How many bytes make a tray full."""

    full: int

    @classmethod
    def of(cls, batch: int, settings: ImageSettings) -> BufferSize:
        """
        Args:
            batch: pixels.
        """
        return cls(batch * (1 if settings.mode == "L" else 4))

    @property
    def bytes(self) -> int:
        """Twice as much: until it is full, an image of a whole batch has room."""
        return 2 * self.full


class PixelBuffer:
    """The worker's side."""

    def __init__(self, memory: mmap.mmap, size: BufferSize) -> None:
        self._memory = memory
        self._size = size
        self._used = self._decoded = 0
        self._images: list[PackedImages | PackedFile] = []

    def put(
        self, image: PackedImages | PackedFile, content: Callable[[], bytes | memoryview]
    ) -> bool:
        """Whether there was room; what there is no room for, the worker counts itself."""
        end = self._used + image.bytes
        if end > self._size.bytes:
            return False
        self._memory[self._used : end] = content()
        self._used = end
        self._decoded += image.images * image.pixels * image.depth
        self._images.append(image)
        return True

    @property
    def full(self) -> bool:
        """Of bytes, or of what files will become: the device has memory for so much, too."""
        return max(self._used, self._decoded) >= self._size.full

    def take(self) -> tuple[PackedImages | PackedFile, ...]:
        """What lies on it; from now on it counts as empty."""
        images, self._images, self._used, self._decoded = tuple(self._images), [], 0, 0
        return images


_LARGE = 1 << 20
"""Arrays of so many bytes are sent from where they lie; smaller ones wait on a tray for one another."""


class Sender:
    """Has a device count; for one thread at a time.

    Attributes:
        buffer: takes images for `send`, as a worker's does.
    """

    def __init__(self, device: Device, *, cross_sums: bool = False) -> None:
        """
        Raises:
            DeviceError: there is no memory for a batch.
        """
        size = BufferSize(4 * device.batch)
        try:
            self._memory = mmap.mmap(-1, size.bytes)  # none is taken before it is written to
        except OSError as error:
            raise DeviceError(
                f"there are no {size.bytes:,} bytes of memory for what is sent to the device "
                f"({error.strerror}); use a smaller --batch-size"
            ) from error
        self.buffer = PixelBuffer(self._memory, size)
        self.device = device
        self._counter = device.counter(cross_sums=cross_sums)
        self._group = ""  # of what lies on the tray

    def add(self, group: str, images: npt.NDArray[np.uint8], mode: Mode) -> None:
        """
        Args:
            images: (N, H, W, C) with the channels of `mode`, in any layout in memory; they may change
                afterwards. N may be 0.

        Raises:
            DeviceError: the device failed.
        """
        if group != self._group:
            self.send(self._group)
            self._group = group
        at_once = max(1, self.device.batch // max(1, images.shape[1] * images.shape[2]))
        for start in range(0, len(images), at_once):
            self._add(images[start : start + at_once], mode)

    def send(self, group: str) -> None:
        """What lies on the tray is of this group, and is counted.

        Raises:
            DeviceError: the device failed.
        """
        self._counter.count(group, self._memory, self.buffer.take())

    def taken(self) -> Mapping[str, Tally]:
        """All that was sent, by group; from now on it counts from zero.

        Raises:
            DeviceError: the device failed.
        """
        self.send(self._group)
        return self._counter.taken()

    def _add(self, images: npt.NDArray[np.uint8], mode: Mode) -> None:
        import numpy as np  # not above: the main process knows batches without loading it

        number, height, width, channels = images.shape
        planes = images.transpose(0, 3, 1, 2)
        in_planes = channels > 1 and planes.flags.c_contiguous
        dense = planes if in_planes else np.ascontiguousarray(images)
        packed = PackedImages(mode, height * width, channels, mode, "array", number, in_planes)
        if packed.bytes < _LARGE and self.buffer.put(packed, lambda: dense.reshape(-1).data):
            if self.buffer.full:
                self.send(self._group)
            return
        if not dense.flags.writeable:  # torch would warn, though it only reads
            dense = dense.copy()
        self._counter.count(self._group, dense, [packed])
