"""Tally: what one piece of work counted. Tallies add up, in any order, to the same whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from imgnorm.histogram import Histogram
from imgnorm.image import CHANNELS, SCALE, Mode
from imgnorm.moments import ImageSums
from imgnorm.reasons import Skipped


@dataclass(frozen=True)
class Counted:
    """Images that were counted in one mode."""

    images: int
    histogram: Histogram
    sums: ImageSums
    modes: Mapping[str, int]  # as the files have them: P, CMYK, ... -> images
    formats: Mapping[str, int]  # JPEG, PNG, ... -> images

    @classmethod
    def zero(cls, mode: Mode) -> Counted:
        channels = len(CHANNELS[mode])
        histogram = Histogram.zero(channels, SCALE[mode] + 1)
        return cls(0, histogram, ImageSums.zero(channels), {}, {})

    def __add__(self, other: Counted) -> Counted:
        return Counted(
            self.images + other.images,
            self.histogram + other.histogram,
            self.sums + other.sums,
            Counter(self.modes) + Counter(other.modes),
            Counter(self.formats) + Counter(other.formats),
        )

    def replicated(self, channels: int) -> Counted:
        """The same grayscale images as `convert("RGB")` shows them."""
        return Counted(
            self.images,
            self.histogram.replicated(channels),
            self.sums.replicated(channels),
            self.modes,
            self.formats,
        )


@dataclass(frozen=True)
class Tally:
    """What one piece of work counted, and what it could not."""

    counted: Mapping[Mode, Counted] = field(default_factory=dict)
    names_16bit: tuple[
        str, ...
    ] = ()  # of 16-bit images met by mode "auto", which may yet skip them
    skipped: tuple[Skipped, ...] = ()
    decoders: Mapping[str, str] = field(default_factory=dict)  # format -> library and version
    bytes_read: int = 0

    def __add__(self, other: Tally) -> Tally:
        counted = dict(self.counted)
        for mode, more in other.counted.items():
            counted[mode] = counted[mode] + more if mode in counted else more
        return Tally(
            counted,
            self.names_16bit + other.names_16bit,
            self.skipped + other.skipped,
            {**self.decoders, **other.decoders},
            self.bytes_read + other.bytes_read,
        )

    @property
    def images(self) -> int:
        return sum(counted.images for counted in self.counted.values())


def in_mode(counted: Mapping[Mode, Counted], mode: Mode) -> Counted:
    """All that belongs to a whole of this mode: among RGB images, gray ones as `convert` shows them."""
    whole = counted.get(mode, Counted.zero(mode))
    if mode == "RGB" and "L" in counted:
        whole += counted["L"].replicated(len(CHANNELS[mode]))
    return whole


def common_mode(modes: Collection[Mode]) -> Mode | None:
    """The mode of a whole whose images have these modes: gray ones become RGB among RGB ones.

    None if they do not belong together.
    """
    met = set(modes)
    if met == {"L", "RGB"}:
        return "RGB"
    return met.pop() if len(met) == 1 else None
