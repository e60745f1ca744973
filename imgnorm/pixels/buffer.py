"""Pixels on their way to a device that counts them.

Only where a device counts: a worker puts its decoded images into a `PixelBuffer`, in memory that it
shares with the main process, and sends a list of what is in it; a `BufferCounter` of the `Device`
counts it. Where the device also decodes, the buffer has whole JPEG files. Arrays of the main process
go through a `Sender`, which has a buffer of its own. On the CPU a worker counts its images itself.
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

_LARGE = 1 << 20  # bytes
"""Arrays of at least this size are sent from where they lie; smaller ones are collected in the buffer."""


@dataclass(frozen=True)
class PackedImages:
    """One image in a buffer, or several of the same size and mode; they lie one after the other."""

    mode: Mode
    pixels: int  # of each image
    depth: int  # bytes a pixel; those after the mode's channels have no meaning
    file_mode: str  # Pillow's mode of the file itself
    format: str
    size: tuple[int, int]  # width and height of each image, before preprocessing
    names: Sequence[str]  # of the images
    planes: bool = False  # each channel of an image is contiguous, not each pixel

    @property
    def bytes(self) -> int:
        return len(self.names) * self.pixels * self.depth


@dataclass(frozen=True)
class PackedFile:
    """A JPEG file in a buffer, which the device decodes."""

    index: int  # of its name in the job
    bytes: int
    mode: Mode
    pixels: int
    file_mode: str
    size: tuple[int, int]
    names: tuple[str]
    format: str = "JPEG"
    planes: bool = True

    @property
    def depth(self) -> int:
        """Bytes a pixel, once it is decoded."""
        return 1 if self.file_mode == "L" else 3


@dataclass(frozen=True)
class BufferSize:
    """How many bytes make a buffer full."""

    full: int

    @classmethod
    def of(cls, batch: int, settings: ImageSettings) -> BufferSize:
        """The size for a batch of `batch` pixels."""
        return cls(batch * (1 if settings.mode == "L" else 4))

    @property
    def bytes(self) -> int:
        """Twice as much: as long as it is not full, an image of a whole batch has room."""
        return 2 * self.full


class PixelBuffer:
    """Memory that images are put into, and the list of what is in it. Not thread-safe."""

    def __init__(self, memory: mmap.mmap, size: BufferSize) -> None:
        self._memory = memory
        self._size = size
        self._used = self._decoded = 0
        self._images: list[PackedImages | PackedFile] = []

    def put(
        self, image: PackedImages | PackedFile, content: Callable[[], bytes | memoryview]
    ) -> bool:
        """Put an image after the others, if there is room; else the caller counts it itself.

        Returns:
            whether there was room.
        """
        end = self._used + image.bytes
        if end > self._size.bytes:
            return False
        self._memory[self._used : end] = content()
        self._used = end
        self._decoded += len(image.names) * image.pixels * image.depth
        self._images.append(image)
        return True

    @property
    def full(self) -> bool:
        """Whether its bytes make a batch, or the pixels of its files will: the device needs memory for
        these too."""
        return max(self._used, self._decoded) >= self._size.full

    def take(self) -> tuple[PackedImages | PackedFile, ...]:
        """What is in it; from now on it counts as empty."""
        images, self._images, self._used, self._decoded = tuple(self._images), [], 0, 0
        return images


class Device(Protocol):
    """What counts instead of the workers."""

    @property
    def used(self) -> bool:
        """Whether a device has counted any image."""

    def note_use(self) -> None:
        """Note that a device has counted images: tensors are counted where they lie, whichever device
        was asked for."""

    @property
    def batch(self) -> int:
        """How many pixels it is sent at once."""

    def counter(self) -> BufferCounter: ...


class BufferCounter(Protocol):
    """Counts the images of buffers on a device. Not thread-safe: make one per thread."""

    def count(
        self, group: str, buffer: Any, images: Sequence[PackedImages | PackedFile]
    ) -> Sequence[int]:
        """Add the images of a buffer to a group. Afterwards the buffer may be filled again.

        Returns:
            the `index` of each file that the device does not decode.
        """

    def taken(self) -> Mapping[str, Tally]:
        """All that was counted, by group; from now on it counts from zero."""


@dataclass(frozen=True)
class FoundDevice:
    """The device that a name stands for."""

    device: Any | None  # torch's; None: the workers count
    description: str  # for people: its name and what counts there, or why there is none


class Sender:
    """Sends arrays to a device. Not thread-safe: make one per thread."""

    def __init__(self, device: Device) -> None:
        """
        Raises:
            DeviceError: there is no memory for a batch.
        """
        size = BufferSize(4 * device.batch)
        try:
            self._memory = mmap.mmap(-1, size.bytes)  # takes no memory until it is written to
        except OSError as error:
            raise DeviceError(
                f"cannot reserve {size.bytes:,} bytes of memory for what is sent to the device "
                f"({error.strerror}); use a smaller --batch-size"
            ) from error
        self._buffer = PixelBuffer(self._memory, size)
        self.device = device
        self._counter = device.counter()
        self._group = ""  # of what is in the buffer

    def add(
        self,
        group: str,
        images: npt.NDArray[np.uint8],
        mode: Mode,
        names: Sequence[str] = (),
        *,
        size: tuple[int, int] | None = None,
        file_mode: str | None = None,
        format_: str = "array",
    ) -> None:
        """Have images counted in a group, now or with later ones.

        Args:
            images: (N, H, W, C) with the channels of `mode`, in any layout in memory; the caller may
                change them afterwards. N may be 0.
            names: one for each image; by default they have none.
            size: their width and height before preprocessing, if not the same.
            file_mode: what they were before they were converted to `mode`, if not the same.
            format_: what the stats file calls their format.

        Raises:
            DeviceError: the device failed.
        """
        if group != self._group:
            self._send()
            self._group = group
        number, height, width, channels = images.shape
        names, size = names or [""] * number, size or (width, height)
        at_once = max(1, self.device.batch // max(1, height * width))
        for start in range(0, number, at_once):
            part = slice(start, start + at_once)
            of_file = file_mode or mode, format_, size
            self._add(
                images[part],
                PackedImages(mode, height * width, channels, *of_file, names[part]),
            )

    def taken(self) -> Mapping[str, Tally]:
        """The tallies of all that was sent, by group; from now on it counts from zero.

        Raises:
            DeviceError: the device failed.
        """
        self._send()
        return self._counter.taken()

    def _send(self) -> None:
        self._counter.count(self._group, self._memory, self._buffer.take())

    def _add(self, images: npt.NDArray[np.uint8], packed: PackedImages) -> None:
        import numpy as np  # not at the top: the main process uses this module, and does not load NumPy

        planes = images.transpose(0, 3, 1, 2)
        in_planes = packed.depth > 1 and planes.flags.c_contiguous
        dense = planes if in_planes else np.ascontiguousarray(images)
        packed = replace(packed, planes=in_planes)
        if packed.bytes < _LARGE and self._buffer.put(packed, lambda: dense.reshape(-1).data):
            if self._buffer.full:
                self._send()
            return
        if not dense.flags.writeable:  # torch would warn, though it only reads
            dense = dense.copy()
        self._counter.count(self._group, dense, [packed])
