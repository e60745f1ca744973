"""A source in which each frame of a file is an image: `--frames all`, `--frames every:N`.

The first frame keeps the name of its file, `a.gif`; the others are `a.gif#2`, `a.gif#3`. How many there are
is only known once a file is read. So a unit is read in one pass, or, where names are needed, listed first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from PIL.Image import Image

from imgnorm.pixels.formats import format_of
from imgnorm.pixels.losses import Frames, frames_in
from imgnorm.settings import ImageSettings
from imgnorm.sources.source import (
    Block,
    Entry,
    FileFrame,
    Ignored,
    Listing,
    Source,
    Unit,
    Unread,
    entries_of,
)
from imgnorm.tally.skipped import Reason, Skipped, Unreadable


@dataclass(frozen=True)
class _FrameUnit(Unit):
    """Frames of the files of another unit.

    Without names, all frames of all files. With names, `files` has the file of each frame, and `places` the
    numbers of the frames, counted from 0.
    """

    files: Unit = field(default_factory=partial(Unit, ""))

    @property
    def content(self) -> str:
        return self.files.content

    def part(self, start: int, stop: int) -> Unit:
        return self.only(range(start, min(stop, len(self))))

    def only(self, indices: Sequence[int]) -> Unit:
        assert self.names is not None
        names = [self.names[index] for index in indices]
        places = [self.places[index] for index in indices]
        return replace(self, names=names, places=places, files=self.files.only(indices))


class FramesSource(Source):
    """Every `step`-th frame of each file of a source, from the first on."""

    def __init__(self, files: Source, step: int) -> None:
        self.files = files
        self.kind, self.ref = files.kind, files.ref
        self.options, self.notes, self.job_names = files.options, files.notes, files.job_names
        self._step = step

    def units(self) -> Iterator[Unit | Skipped | Ignored]:
        for entry in self.files.units():
            if isinstance(entry, Unit):
                yield _FrameUnit(entry.id, bytes=entry.bytes, files=entry)
            else:
                yield entry

    def images(self, unit: Unit) -> Iterator[Entry]:
        assert isinstance(unit, _FrameUnit)
        entries = entries_of(self.files, unit.files)
        if unit.names is None:
            return self._all_frames(entries)
        return self._chosen_frames(unit, entries)

    def listed(self, unit: Unit) -> Listing:
        assert isinstance(unit, _FrameUnit)
        listing = self.files.listed(unit.files)
        names: list[str] = []
        files: list[int] = []
        numbers: list[int] = []
        for index, entry in enumerate(entries_of(self.files, listing.unit)):
            assert isinstance(entry, Unread)
            for number in _File(entry).numbers(self._step):
                names.append(_name_of(entry.name, number))
                files.append(index)
                numbers.append(number)
        chosen = listing.unit.only(files)
        return replace(listing, unit=replace(unit, names=names, places=numbers, files=chosen))

    def class_of(self, name: str) -> str | None:
        return self.files.class_of(name)

    def member_of(self, name: str) -> str | None:
        return self.files.member_of(name)

    def open(self) -> None:
        self.files.open()

    def keep_alive(self, still_alive: Callable[[], None]) -> None:
        self.files.keep_alive(still_alive)

    def check(self, settings: ImageSettings) -> None:
        self.files.check(settings)

    def hint_if_empty(self) -> str:
        return self.files.hint_if_empty()

    def _all_frames(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if not isinstance(entry, Unread):
                yield entry
                continue
            file = _File(entry)
            yield Unread(entry.name, file.read)
            for number in file.numbers(self._step)[1:]:
                yield Unread(_name_of(entry.name, number), partial(file.frame, number))

    def _chosen_frames(self, unit: _FrameUnit, entries: Iterator[Entry]) -> Iterator[Entry]:
        last = None
        for name, number, entry in zip(unit.names or (), unit.places, entries, strict=True):
            assert isinstance(entry, Unread)
            file = last if last and last.name == entry.name else _File(entry)
            yield Unread(name, partial(file.frame, number))
            last = file


class _File:
    """A file of which several frames are read."""

    def __init__(self, entry: Unread) -> None:
        self.name = entry.name
        self._entry = entry
        self._content: bytes | Image | Block | FileFrame | None = None

    def read(self) -> bytes | Image | Block | FileFrame:
        if self._content is None:
            self._content = self._entry.read()
        return self._content

    def frame(self, number: int) -> bytes | Image | Block | FileFrame:
        content = self.read()
        if not number or not isinstance(content, bytes):
            return content
        if number >= self._frames.whole:
            raise Unreadable(Reason.TRUNCATED, "the file is damaged, or ends, where it should be")
        return FileFrame(content, number)

    def numbers(self, step: int) -> list[int]:
        """The numbers of the frames to be counted, from 0. The last may be one that is missing."""
        return [*range(0, self._frames.whole, step), *[self._frames.whole] * self._frames.missing]

    @cached_property
    def _frames(self) -> Frames:
        try:
            content = self.read()
            return (
                frames_in(content, format_of(content)) if isinstance(content, bytes) else Frames()
            )
        except Unreadable:  # which is found again where it is counted
            return Frames()


def _name_of(file: str, number: int) -> str:
    return f"{file}#{number + 1}" if number else file
