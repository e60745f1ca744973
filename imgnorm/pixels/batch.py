"""Tray: the pixels that a worker has decoded, in memory that it shares with its parent.

Only where a device counts: a worker then puts its images here, one behind the other, and says which
they are; on the CPU it counts them itself, and pixels never leave it. Where the device decodes, too,
they are files, as they were read.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from imgnorm.settings import ImageSettings, Mode
from imgnorm.tally.tally import Tally
from imgnorm.workers.heartbeat import PAGE_BYTES


@dataclass(frozen=True)
class Packed:
    """One image on a tray, or many that are alike; the next one begins where it ends."""

    mode: Mode
    pixels: int  # of one
    depth: int  # bytes a pixel; what comes after its channels means nothing
    met: str  # Pillow's mode of the file itself
    format: str
    images: int = 1
    planes: bool = False  # of each image: its channels lie one behind the other

    @property
    def bytes(self) -> int:
        return self.images * self.pixels * self.depth

    def each(self) -> Sequence[Packed]:
        return [self] if self.images == 1 else [replace(self, images=1)] * self.images


@dataclass(frozen=True)
class PackedFile:
    """A JPEG file on a tray, whose pixels the device is to find."""

    index: int  # of its name in the piece of work
    bytes: int
    mode: Mode
    pixels: int
    met: str
    format: str = "JPEG"
    images: int = 1
    planes: bool = True

    @property
    def depth(self) -> int:
        """Bytes of a pixel, once it is decoded."""
        return 1 if self.met == "L" else 3

    def each(self) -> Sequence[PackedFile]:
        return [self]


class TrayCounter(Protocol):
    """Counts trays on a device, for one thread at a time."""

    def count(self, group: str, tray: Any, images: Sequence[Packed | PackedFile]) -> Sequence[int]:
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

    def counter(self, *, products: bool = False) -> TrayCounter:
        """
        Args:
            products: count what error bars need, too.
        """

    def count_arrays(self, images: Any, mode: Mode, *, products: bool = False) -> Tally:
        """The tally of uint8 images that are one array already, (N, H, W, C)."""


@dataclass(frozen=True)
class Found:
    """What stands behind the name of a device."""

    device: Any | None  # torch's; None: the workers count
    words: str  # for a person


@dataclass(frozen=True)
class TraySize:
    """How many bytes make a tray full."""

    full: int

    @classmethod
    def of(cls, batch: int, settings: ImageSettings) -> TraySize:
        """
        Args:
            batch: pixels.
        """
        return cls(batch * (1 if settings.mode == "L" else 4))

    @property
    def bytes(self) -> int:
        """Twice as much: until it is full, an image of a whole batch has room."""
        return 2 * self.full


class Tray:
    """The worker's side."""

    def __init__(self, memory: mmap.mmap, size: TraySize) -> None:
        self._memory = memory
        self._size = size
        self._used = self._decoded = 0
        self._images: list[Packed | PackedFile] = []

    def put(self, image: Packed | PackedFile, content: Callable[[], bytes | memoryview]) -> bool:
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

    def cleared(self) -> tuple[Packed | PackedFile, ...]:
        """What lies on it; from now on it counts as empty."""
        images, self._images, self._used, self._decoded = tuple(self._images), [], 0, 0
        return images


def tray_memory(handle: int | str, size: TraySize) -> mmap.mmap:
    """The memory behind a worker's pulse.

    Args:
        handle: the pulse's.
    """
    if isinstance(handle, int):
        return mmap.mmap(handle, size.bytes, offset=PAGE_BYTES)
    return mmap.mmap(-1, size.bytes, tagname=f"{handle}-tray")  # type: ignore[call-arg]
