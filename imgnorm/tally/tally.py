"""Tally: what one piece of work counted. Tallies add up, in any order, to the same whole."""

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
"""The format of images that came as floats and were 8-bit before they were divided by 255."""


@dataclass(frozen=True)
class Counted:
    """Images that were counted in one mode."""

    images: int
    pixels: Histogram | FloatPixels
    sums: ImageSums
    modes: Mapping[str, int]  # as the files have them: P, CMYK, ... -> images
    formats: Mapping[str, int]  # JPEG, PNG, ... -> images
    cross_sums: CrossSums | None = None  # where they were asked for: error bars need them

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
        """Of 8- and 16-bit images."""
        assert isinstance(self.pixels, Histogram)
        return self.pixels

    def __add__(self, other: Counted) -> Counted:
        return Counted(
            self.images + other.images,
            self.pixels + other.pixels,  # type: ignore[operator]  # of one mode, so of one kind
            self.sums + other.sums,
            Counter(self.modes) + Counter(other.modes),
            Counter(self.formats) + Counter(other.formats),
            self.cross_sums + other.cross_sums if self.cross_sums and other.cross_sums else None,
        )

    def replicated(self, channels: int) -> Counted:
        """The same grayscale images as `convert("RGB")` shows them."""
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
    """What one piece of work counted, and what it could not."""

    counted: Mapping[Mode, Counted] = field(default_factory=dict)
    names_16bit: tuple[str, ...] = ()  # met by mode "auto", which may yet skip these images
    skipped: tuple[Skipped, ...] = ()
    decoders: Mapping[str, str] = field(default_factory=dict)  # format -> library and version
    bytes_read: int = 0
    names: int = 0  # provenance.names_sum of all it looked at; 0 where no worker has made it
    divided: Mapping[Mode, Counted] = field(default_factory=dict)
    """The images of format DIVIDED once more, as the floats that they came as: among other floats, they
    are floats."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            _joined(self.counted, other.counted),
            self.names_16bit + other.names_16bit,
            self.skipped + other.skipped,
            joined_decoders([self.decoders, other.decoders]),
            self.bytes_read + other.bytes_read,
            self.names + other.names,
            _joined(self.divided, other.divided),
        )

    def of_floats(self) -> Tally:
        """The same, with the images that came as floats as these floats."""
        floats = {mode: one for mode, one in self.counted.items() if kind_of(mode) == "float"}
        return replace(self, counted=_joined(floats, self.divided), divided={})

    @property
    def has_other_floats(self) -> bool:
        """Whether all images came as floats, and some of them were not 8-bit before."""
        eight_bits = sum(c.images for mode, c in self.counted.items() if kind_of(mode) == "8-bit")
        divided = sum(counted.images for counted in self.divided.values())
        return eight_bits == divided and any(kind_of(mode) == "float" for mode in self.counted)

    @property
    def all_divided(self) -> bool:
        """Whether all images came as floats, and all of them were 8-bit before."""
        return 0 < self.images == sum(counted.images for counted in self.divided.values())

    @property
    def images(self) -> int:
        return sum(counted.images for counted in self.counted.values())


BETWEEN = "; "  # of several decoders of one format


def joined_decoders(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """By format, all that decoded it: several where a device left some files to the CPU, say."""
    found: dict[str, str] = {}
    for part in parts:
        for format_, decoders in part.items():
            there = found.setdefault(format_, decoders)
            if there != decoders:
                both = {*there.split(BETWEEN), *decoders.split(BETWEEN)}
                found[format_] = BETWEEN.join(sorted(both))
    return found


def _joined(a: Mapping[Mode, Counted], b: Mapping[Mode, Counted]) -> dict[Mode, Counted]:
    counted = dict(a)
    for mode, more in b.items():
        counted[mode] = counted[mode] + more if mode in counted else more
    return counted


GRAY: dict[Mode, Mode] = {"RGB": "L", "RGB;F": "F"}
"""Colored -> gray images that may be among them."""


def in_mode(counted: Mapping[Mode, Counted], mode: Mode) -> Counted:
    """All that belongs to a whole of this mode: among RGB images, gray ones as `convert` shows them."""
    whole = counted.get(mode)
    its_gray = counted.get(GRAY.get(mode, ""))
    if its_gray is not None:
        gray = its_gray.replicated(len(channels_of(mode)))
        whole = whole + gray if whole else gray
    return whole or Counted.zero(mode)


def common_mode(modes: Collection[Mode]) -> Mode | None:
    """The mode of a whole whose images have these modes: gray ones become RGB among RGB ones.

    None if they do not belong together.
    """
    met = set(modes)
    for colored, gray in GRAY.items():
        if met == {colored, gray}:
            return colored
    return met.pop() if len(met) == 1 else None
