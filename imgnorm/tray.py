"""Tray: the pixels that a worker has decoded, in memory that it shares with its parent.

Only where a device counts: a worker then puts its images here, one behind the other, and says which
they are; on the CPU it counts them itself, and pixels never leave it.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

from imgnorm.image import CHANNELS, ImageSettings, Mode

TRAY_MODES: frozenset[Mode] = frozenset({"L", "RGB", "RGBA"})
"""One byte a channel; the others are counted by the worker."""


@dataclass(frozen=True)
class Packed:
    """One image on a tray; the next one begins where it ends."""

    mode: Mode
    pixels: int
    met: str  # Pillow's mode of the file itself
    format: str

    @property
    def bytes(self) -> int:
        return self.pixels * len(CHANNELS[self.mode])


@dataclass(frozen=True)
class TraySize:
    """How many bytes make a tray full, and how many it holds."""

    full: int

    @classmethod
    def of(cls, megapixels: int, settings: ImageSettings) -> TraySize:
        channels = len(CHANNELS["RGB" if settings.mode == "auto" else settings.mode])
        return cls((megapixels << 20) * channels)

    @property
    def bytes(self) -> int:
        """Twice as much: what is not yet full takes any image of a full tray's size."""
        return 2 * self.full


class Tray:
    """The worker's side."""

    def __init__(self, memory: mmap.mmap, full: int) -> None:
        self._memory = memory
        self._full = full
        self._used = 0
        self.images: list[Packed] = []

    def put(self, data: bytes | memoryview, image: Packed) -> bool:
        """Whether there was room for these pixels."""
        end = self._used + len(data)
        if end > len(self._memory):
            return False
        self._memory[self._used : end] = data
        self._used = end
        self.images.append(image)
        return True

    @property
    def full(self) -> bool:
        return self._used >= self._full

    def cleared(self) -> tuple[Packed, ...]:
        """What lies on it; it then counts as empty."""
        images, self.images, self._used = tuple(self.images), [], 0
        return images
