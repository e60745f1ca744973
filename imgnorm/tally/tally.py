"""Tally: what one job counted. Tallies add up, in any order, to the same whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from imgnorm.settings import Mode, channels_of, kind_of, scale_of
from imgnorm.tally.floats import FloatPixels
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import CrossSums, ImageSums
from imgnorm.tally.skipped import Skipped

DIVIDED = "float k/255"
"""The format of images that came as floats, but were 8-bit images divided by 255."""
BETWEEN = "; "  # several decoders of one format
GRAY: dict[Mode, Mode] = {"RGB": "L", "RGB;F": "F"}
"""Mode of colored images -> mode of the gray images that may be among them."""


@dataclass(frozen=True)
class Counted:
    """The images that were counted in one mode."""

    images: int
    pixels: Histogram | FloatPixels
    sums: ImageSums
    modes: Mapping[str, int]  # of the files themselves: P, CMYK, ... -> images
    formats: Mapping[str, int]  # JPEG, PNG, ... -> images
    cross_sums: CrossSums | None = None  # if asked for: error bars need them

    @classmethod
    def zero(cls, mode: Mode) -> Counted:
        channels = len(channels_of(mode))
        pixels: Histogram | FloatPixels = (
            FloatPixels.zero(channels)
            if kind_of(mode) == "float"
            else Histogram.zero(channels, scale_of(mode) + 1)
        )
        return cls(0, pixels, ImageSums.zero(channels), {}, {})

    @property
    def histogram(self) -> Histogram:
        """The pixels of 8- and 16-bit images."""
        assert isinstance(self.pixels, Histogram)
        return self.pixels

    def __add__(self, other: Counted) -> Counted:
        return Counted(
            self.images + other.images,
            self.pixels + other.pixels,  # type: ignore[operator]  # one mode, so one class
            self.sums + other.sums,
            Counter(self.modes) + Counter(other.modes),
            Counter(self.formats) + Counter(other.formats),
            self.cross_sums + other.cross_sums if self.cross_sums and other.cross_sums else None,
        )

    def replicated(self, channels: int) -> Counted:
        """The same gray images, converted to a mode of `channels` equal channels."""
        return Counted(
            self.images,
            self.pixels.replicated(channels),
            self.sums.replicated(channels),
            self.modes,
            self.formats,
            self.cross_sums and self.cross_sums.replicated(channels),
        )


@dataclass(frozen=True)
class Tally:
    """What one job counted, and what it skipped."""

    counted: Mapping[Mode, Counted] = field(default_factory=dict)
    names_16bit: tuple[str, ...] = ()
    """Images that mode "auto" counted as 16-bit; they are skipped in the end if others are not."""
    skipped: tuple[Skipped, ...] = ()
    decoders: Mapping[str, str] = field(default_factory=dict)  # format -> library and version
    bytes_read: int = 0
    names_sum: int = 0  # of all names of the job; 0 if no worker has computed it
    divided: Mapping[Mode, Counted] = field(default_factory=dict)
    """The images of format DIVIDED once more, counted as floats: they are floats if others are."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            _joined(self.counted, other.counted),
            self.names_16bit + other.names_16bit,
            self.skipped + other.skipped,
            joined_decoders([self.decoders, other.decoders]),
            self.bytes_read + other.bytes_read,
            self.names_sum + other.names_sum,
            _joined(self.divided, other.divided),
        )

    def of_floats(self) -> Tally:
        """The same tally, in which the images of format DIVIDED are floats."""
        floats = {mode: one for mode, one in self.counted.items() if kind_of(mode) == "float"}
        return replace(self, counted=_joined(floats, self.divided), divided={})

    @property
    def has_other_floats(self) -> bool:
        """Whether all images came as floats, and some are not of format DIVIDED."""
        eight_bits = sum(c.images for mode, c in self.counted.items() if kind_of(mode) == "8-bit")
        divided = sum(counted.images for counted in self.divided.values())
        return eight_bits == divided and any(kind_of(mode) == "float" for mode in self.counted)

    @property
    def all_divided(self) -> bool:
        """Whether all images are of format DIVIDED."""
        return 0 < self.images == sum(counted.images for counted in self.divided.values())

    @property
    def images(self) -> int:
        return sum(counted.images for counted in self.counted.values())


def joined_decoders(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """By format, all decoders of it: several if, for example, a device left some files to the CPU."""
    found: dict[str, str] = {}
    for part in parts:
        for format_, decoders in part.items():
            known = found.setdefault(format_, decoders)
            if known != decoders:
                both = {*known.split(BETWEEN), *decoders.split(BETWEEN)}
                found[format_] = BETWEEN.join(sorted(both))
    return found


def in_mode(counted: Mapping[Mode, Counted], mode: Mode) -> Counted:
    """All images of a measurement of this mode: with RGB images, the gray ones as RGB."""
    whole = counted.get(mode)
    its_gray = counted.get(GRAY.get(mode, ""))
    if its_gray is not None:
        gray = its_gray.replicated(len(channels_of(mode)))
        whole = whole + gray if whole else gray
    return whole or Counted.zero(mode)


def common_mode(modes: Collection[Mode]) -> Mode | None:
    """The mode of a measurement of images of these modes: with RGB images, gray ones become RGB.

    None if there is no such mode.
    """
    found = set(modes)
    for colored, gray in GRAY.items():
        if found == {colored, gray}:
            return colored
    return found.pop() if len(found) == 1 else None


def _joined(a: Mapping[Mode, Counted], b: Mapping[Mode, Counted]) -> dict[Mode, Counted]:
    counted = dict(a)
    for mode, more in b.items():
        counted[mode] = counted[mode] + more if mode in counted else more
    return counted
