"""Tally: what one job counted. Tallies add up, in any order, to the same whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from imgnorm.settings import Mode, channels_of, kind_of, scale_of
from imgnorm.tally.floats import FloatPixels
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import CrossSums, ImageSums, Moments
from imgnorm.tally.notes import Noted
from imgnorm.tally.overview import Overview
from imgnorm.tally.skipped import Skipped

DIVIDED = "float k/255"
"""The format of images that came as floats, but were 8-bit images divided by 255."""
BETWEEN = "; "  # several decoders of one format
TakeRows = Callable[[Iterable[bytes]], None]
"""Is given packed rows (see rows.py) while images are being counted, in any order."""
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
    cross_sums: CrossSums | None = None  # of integer pixels; stats files may lack them
    overview: Overview | None = None  # None if not known of all images

    @classmethod
    def zero(cls, mode: Mode) -> Counted:
        channels = len(channels_of(mode))
        pixels: Histogram | FloatPixels
        if kind_of(mode) == "float":
            pixels, cross_sums = FloatPixels.zero(channels), None
        else:
            pixels = Histogram.zero(channels, scale_of(mode) + 1)
            cross_sums = CrossSums.zero(channels)
        overview = Overview.zero(mode)
        return cls(0, pixels, ImageSums.zero(channels), {}, {}, cross_sums, overview)

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
            self.overview + other.overview if self.overview and other.overview else None,
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
            self.overview,  # an image of one channel is gray there, too
        )


@dataclass(frozen=True)
class ClassTally:
    """The images of one class that were counted."""

    images: int = 0
    moments: Mapping[Mode, Moments] = field(default_factory=dict)  # only with `--per-class`
    divided: Mapping[Mode, Moments] = field(default_factory=dict)  # of images of format DIVIDED

    def __add__(self, other: ClassTally) -> ClassTally:
        return ClassTally(
            self.images + other.images,
            joined(self.moments, other.moments),
            joined(self.divided, other.divided),
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
    divided: Mapping[Mode, Counted] = field(default_factory=dict)
    """The images of format DIVIDED once more, counted as floats: they are floats if others are."""
    classes: Mapping[str, ClassTally] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)  # rule -> entries
    names: int = 0  # how many were looked at
    names_sum: int = 0  # `names.names_sum` of these
    counted_sum: int = 0  # of those among them that were counted
    notes: Mapping[str, Noted] = field(default_factory=dict)  # kind -> what counted images lost
    rows: tuple[bytes, ...] = ()  # of counted images, packed (see rows.py); with `Digits.per_image`

    def __add__(self, other: Tally) -> Tally:
        return total_of([self, other])

    def with_class(self, name: str) -> Tally:
        """The same tally, with the moments of its pixels as those of a class."""
        moments = {mode: one.pixels.moments() for mode, one in self.counted.items()}
        divided = {mode: one.pixels.moments() for mode, one in self.divided.items()}
        one = ClassTally(0, moments, divided)
        return replace(self, classes=joined(self.classes, {name: one}))

    def of_floats(self) -> Tally:
        """The same tally, in which the images of format DIVIDED are floats."""
        classes = {
            name: replace(one, moments=joined(_floats_of(one.moments), one.divided), divided={})
            for name, one in self.classes.items()
        }
        return replace(
            self,
            counted=joined(_floats_of(self.counted), self.divided),
            divided={},
            classes=classes,
        )

    @property
    def has_other_floats(self) -> bool:
        """Whether all images came as floats, and some are not of format DIVIDED."""
        eight_bits = sum(c.images for mode, c in self.counted.items() if kind_of(mode) == "8-bit")
        divided = sum(counted.images for counted in self.divided.values())
        return eight_bits == divided and any(kind_of(mode) == "float" for mode in self.counted)

    @property
    def images(self) -> int:
        return sum(counted.images for counted in self.counted.values())


class TallySum:
    """A tally that others are added to, at a cost that does not grow with what it holds.

    Args:
        take_rows: is given the rows of each tally, and they are not kept.
    """

    def __init__(self, take_rows: TakeRows | None = None) -> None:
        self._rows: list[bytes] = []
        self.take_rows = take_rows or self._rows.extend
        self.bytes_read = self.names = self._names_sum = self._counted_sum = 0
        self._counted: dict[Mode, Counted] = {}
        self._divided: dict[Mode, Counted] = {}
        self._classes: dict[str, ClassTally] = {}
        self._names_16bit: list[str] = []
        self._skipped: list[Skipped] = []
        self._decoders: dict[str, str] = {}
        self._ignored: Counter[str] = Counter()
        self._notes: dict[str, Noted] = {}

    def add(self, tally: Tally) -> None:
        add_to(self._counted, tally.counted)
        add_to(self._divided, tally.divided)
        add_to(self._classes, tally.classes)
        self._names_16bit += tally.names_16bit
        self._skipped += tally.skipped
        if tally.decoders:
            self._decoders = joined_decoders([self._decoders, tally.decoders])
        self._ignored.update(tally.ignored)
        add_to(self._notes, tally.notes)
        self.bytes_read += tally.bytes_read
        self.names += tally.names
        self._names_sum += tally.names_sum
        self._counted_sum += tally.counted_sum
        if tally.rows:
            self.take_rows(tally.rows)

    def tally(self) -> Tally:
        return Tally(
            dict(self._counted),
            tuple(self._names_16bit),
            tuple(self._skipped),
            self._decoders,
            self.bytes_read,
            dict(self._divided),
            dict(self._classes),
            dict(self._ignored),
            self.names,
            self._names_sum,
            self._counted_sum,
            dict(self._notes),
            tuple(self._rows),
        )


def total_of(tallies: Iterable[Tally]) -> Tally:
    """All of them as one."""
    total = TallySum()
    for tally in tallies:
        total.add(tally)
    return total.tally()


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


class _Adds(Protocol):
    def __add__(self: _Sum, other: _Sum, /) -> _Sum: ...


_Sum = TypeVar("_Sum", bound=_Adds)


def _floats_of(sums: Mapping[str, _Sum]) -> dict[str, _Sum]:
    return {mode: one for mode, one in sums.items() if kind_of(mode) == "float"}


def joined(a: Mapping[str, _Sum], b: Mapping[str, _Sum]) -> dict[str, _Sum]:
    joined = dict(a)
    add_to(joined, b)
    return joined


def add_to(sums: dict[str, _Sum], more: Mapping[str, _Sum]) -> None:
    for key, one in more.items():
        sums[key] = sums[key] + one if key in sums else one
