"""One archive, open: which of its members are images, by the rules for files in a folder, and their bytes."""

from __future__ import annotations

import os
import re
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from imgnorm.sources.bytestream import FileBytes, GzipBytes, no_heartbeat
from imgnorm.sources.files import (
    LARGE_MEMBER,
    SUFFIX,
    InPlaceOfImages,
    about_to_read,
    demand_plausible,
    looks_like_an_image,
    open_regular,
    rule_against,
    rule_against_file,
    unreadable,
    wanted_of,
)
from imgnorm.sources.patterns import Patterns
from imgnorm.sources.signatures import START_BYTES, format_by_signature
from imgnorm.sources.source import Listing, Reread, Unit
from imgnorm.sources.tar import BLOCK, TarReader, is_header
from imgnorm.sources.zip import ZipReader
from imgnorm.tally.skipped import Reason, Skipped, Unreadable

_SIZE_BITS = 32
_SLASHES = (b"", b"/")
_NOT_A_FILE = ("", ".")  # the last character of an empty name, or of "." and ".."
_FILE_SYSTEM = sys.getfilesystemencoding()


class ArchiveFile:
    """One archive, open until it is closed or forgotten.

    The place of a member is a number: in a zip, the offset of its record in the directory; in a tar, the
    number of the block with which its data begin, and in the lower 32 bits their size.

    Raises:
        Unreadable: it is not an archive.
        OSError: it cannot be read.
    """

    def __init__(self, path: str, still_alive: Callable[[], None] = no_heartbeat) -> None:
        self._handle = -1
        self._still_alive = still_alive
        self._handle, _ = open_regular(path)
        self.version = self.version_now()
        self.packing = packing_of(self._handle)
        if self.packing is None:
            raise _not_an_archive(self._handle)
        file = FileBytes(self._handle, still_alive)
        self._zip = ZipReader(file) if self.packing == "zip" else None
        self.bytes: FileBytes | GzipBytes = file
        self._rewind()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def version_now(self) -> tuple[int, int]:
        """Its size, and when it was last changed: the same for a copy on another machine."""
        status = os.fstat(self._handle)
        return status.st_size, status.st_mtime_ns

    def changed(self) -> bool:
        """Whether it changed since it was opened."""
        return self.version_now() != self.version

    def reader(self, *, passing: bool) -> ZipReader | TarReader:
        """What finds its members, from the beginning.

        Args:
            passing: as for TarReader.
        """
        if self._zip:
            return self._zip
        self._rewind()
        return TarReader(self.bytes, passing=passing)

    def content(self, place: int) -> bytes:
        """The bytes of the member at this place.

        Raises:
            Unreadable: it is damaged; or large, compressed and not an image.
        """
        if self._zip:
            return self._zip.content(place)
        start, size = (place >> _SIZE_BITS) * BLOCK, place & (1 << _SIZE_BITS) - 1
        if isinstance(self.bytes, GzipBytes):
            if self.bytes.is_past(start):
                self._rewind()
            if size > LARGE_MEMBER and (first := self.bytes.read(start, START_BYTES)):
                format_by_signature(first)
                before = self.bytes.consumed
                expanded = len(self.bytes.read(start, LARGE_MEMBER))
                demand_plausible(expanded, self.bytes.consumed - before)
        else:
            size = wanted_of(size)
        about_to_read(size)
        data = self.bytes.read(start, size)
        if len(data) < size:
            raise self.bytes.fault or Unreadable(
                Reason.ARCHIVE_TRUNCATED, f"the archive ends within its {size:,} bytes"
            )
        return data

    def _rewind(self) -> None:
        if self.packing == "tar.gz":
            self.bytes = GzipBytes(self._handle, self._still_alive)


class Contents:
    """What one archive contains, sorted by the rules for files in a folder. Use it once.

    Attributes:
        skipped: what is not to be read, of what was found so far.
        ignored: how many members each rule ignores.
    """

    def __init__(self, label: str, archive: ArchiveFile, patterns: Patterns) -> None:
        self.skipped: list[Skipped] = []
        self.ignored: Counter[str] = Counter()
        self._label = label
        self._archive = archive
        self._patterns = patterns
        self._instead = InPlaceOfImages()
        self._folders: dict[bytes, tuple[str, str | None] | None] = {}
        self._rules: dict[str, str | None] = {"": None}  # by folder

    def listing(self) -> Listing:
        """All images. Of members that share a name, the last is listed, which unpacking leaves."""
        names: list[str] = []
        places: list[int] = []
        try:
            for name, place in self._images(passing=True):
                names.append(name)
                places.append(place)
        except OSError as error:
            self._skip(self._label, unreadable(error))
        found = self._archive.bytes
        if isinstance(found, GzipBytes) and found.distrusted:
            fault = Unreadable(
                Reason.ARCHIVE_CORRUPT,
                "the archive's checksum is wrong, perhaps because of this one",
            )
            for name in names:
                self._skip(name, fault)
            names, places = [], []
        if len(set(names)) < len(names):
            last = self._last_of_each(names)
            names, places = [names[index] for index in last], [places[index] for index in last]
        unit = self.unit(names, places)
        return Listing(unit, tuple(self.skipped), dict(sorted(self.ignored.items())))

    def stream(self) -> Iterator[tuple[str, int]]:
        """The names and places of the images, each of which is read before the next one is asked for.

        Raises:
            Reread: some of the images before must not be counted.
        """
        archive = self._archive
        images: Iterator[tuple[str, int]]
        try:
            if archive.packing == "zip":  # which has a directory
                unit = self.listing().unit
                images = zip(unit.names or (), unit.places, strict=True)
            else:
                images = self._once_each(self._images(passing=archive.packing == "tar"))
            for image in images:
                yield image
                self._demand_trust()
            self._demand_trust()
        except OSError as error:
            raise Reread(f"{self._label}: {error}") from error

    def unit(self, names: Sequence[str], places: Sequence[int]) -> Unit:
        """Some of the images."""
        version = self._archive.version
        return Unit(self._label, names, version[0], _compact(places), version)

    def _images(self, *, passing: bool) -> Iterator[tuple[str, int]]:
        """The names and places of the images; the other members are skipped or ignored.

        There may be millions of them: the usual ones take a short path.

        Args:
            passing: as for TarReader.
        """
        folders, reader = self._folders, self._archive.reader(passing=passing)
        in_directory = isinstance(reader, ZipReader)
        for raw, offset, size, fault in reader.entries():
            start = raw.rfind(b"/") + 1
            above, file = raw[:start], _decoded(raw[start:])
            folder = folders[above] if above in folders else self._folder_of(above)
            if folder is None or file[-1:] in _NOT_A_FILE or "\\" in file or "\0" in file:
                member = _plain(raw)
                if member is None:
                    fault = Unreadable(Reason.ARCHIVE_ENTRY_UNSAFE, "not a place below the archive")
                    self._skip(f"{self._label}/{_decoded(raw)}", fault, size)
                    continue
                start = member.rfind(b"/") + 1
                folder, file = self._folder_of(member[:start]), _decoded(member[start:])
                assert folder is not None
            prefix, rule = folder
            rule = rule or rule_against(file)
            if rule is None:
                rule = rule_against_file((prefix + file)[len(self._label) + 1 :], self._patterns)
                unsafe = fault is not None and fault.reason is Reason.ARCHIVE_ENTRY_UNSAFE
                if unsafe and rule and rule.startswith(SUFFIX):
                    rule = None  # images may lie behind a link
            if rule is not None and _hides_an_image(reader):
                fault = Unreadable(Reason.ARCHIVE_CORRUPT, "its local header has another name")
                self._skip(prefix + file, fault, size)
                continue
            place = offset if in_directory else offset // BLOCK << _SIZE_BITS | size
            if rule is not None:
                if fault is not None or not self._instead.holds(rule, prefix + file, place):
                    self.ignored[rule] += 1
            elif fault is not None:
                self._skip(prefix + file, fault, size)
            else:
                if self._instead.none_yet:
                    self._instead.note_image(self.ignored)
                yield prefix + file, place
        yield from self._instead.held
        if reader.fault is not None:
            self._skip(self._label, reader.fault, self._archive.version[0])
        if self._archive.changed():
            fault = Unreadable(
                Reason.CHANGED_DURING_READ, "its size or time changed while it was read"
            )
            self._skip(self._label, fault)

    def _demand_trust(self) -> None:
        if self._archive.changed() or self._archive.bytes.fault:
            raise Reread(f"{self._label}: it changed, or its gzip stream is damaged")

    def _once_each(self, images: Iterator[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        seen: set[str] = set()
        for name, place in images:
            if name in seen:
                raise Reread(f"{name}: an earlier member has this name")
            seen.add(name)
            yield name, place

    def _last_of_each(self, names: Sequence[str]) -> list[int]:
        """Where the last member of each name is. The others are skipped."""
        fault = Unreadable(Reason.DUPLICATE_NAME, "a later member of the same name is counted")
        seen: set[str] = set()
        last = []
        for index in reversed(range(len(names))):
            name = names[index]
            if name in seen:
                self._skip(name, fault)
            else:
                seen.add(name)
                last.append(index)
        return last[::-1]

    def _skip(self, name: str, fault: Unreadable, size: int | None = None) -> None:
        self.skipped.append(fault.skipped(name, size))

    def _folder_of(self, above: bytes) -> tuple[str, str | None] | None:
        """How names in a folder begin, and the rule against the folder; None if it leads outside."""
        place = _plain(above + b"file")
        found = None
        if place is not None:
            folder = _decoded(place[: -len("/file")])
            found = (
                f"{self._label}/{folder}/" if folder else f"{self._label}/",
                self._rule_of(folder),
            )
        self._folders[above] = found
        return found

    def _rule_of(self, folder: str) -> str | None:
        above, _, last = folder.rpartition("/")
        rule = self._rules[above] if above in self._rules else self._rule_of(above)
        self._rules[folder] = rule = rule or rule_against(last)
        return rule


def packing_of(handle: int) -> str | None:
    """How an archive that starts like this is packed: "zip", "tar" or "tar.gz"."""
    start = FileBytes(handle, no_heartbeat).read(0, BLOCK)
    if start.startswith((b"PK\3\4", b"PK\5\6")):
        return "zip"
    if start.startswith(b"\x1f\x8b\x08"):
        return "tar.gz" if is_header(GzipBytes(handle, no_heartbeat).read(0, BLOCK)) else None
    return "tar" if is_header(start) else None


def _not_an_archive(handle: int) -> Unreadable:
    start = FileBytes(handle, no_heartbeat).read(0, BLOCK)
    if not start:
        return Unreadable(Reason.EMPTY_FILE, "no bytes at all")
    if start.startswith(b"version https://git-lfs"):
        return Unreadable(Reason.GIT_LFS_POINTER, "run `git lfs pull` to get the archive")
    return Unreadable(Reason.ARCHIVE_CORRUPT, "neither a zip, nor a tar, nor a tar.gz")


def _hides_an_image(reader: TarReader | ZipReader) -> bool:
    """Whether a zip's entry that a rule ignores has another name in its local header, that of an image.

    The directory is then damaged.
    """
    if not isinstance(reader, ZipReader):
        return False
    name = _decoded(reader.other_name())
    return looks_like_an_image(name) and not any(map(rule_against, name.split("/")))


def _plain(raw: bytes) -> bytes | None:
    """A member's path in the archive, without dots; None if it leads outside, or is empty."""
    plain = (
        raw[:1] not in _SLASHES
        and raw[-1:] != b"."
        and raw[1:2] != b":"
        and not (b"./" in raw or b"//" in raw or b"\\" in raw or b"\0" in raw)
    )
    if plain:
        return raw
    steps = re.split(rb"[/\\]", raw)
    if b"\0" in raw or not steps[0] or b".." in steps or re.match(rb"[A-Za-z]:[/\\]", raw):
        return None
    return b"/".join(step for step in raw.split(b"/") if step not in (b"", b".")) or None


def _decoded(raw: bytes) -> str:
    return raw.decode(_FILE_SYSTEM, "surrogateescape")


def _compact(places: Sequence[int]) -> Sequence[int]:
    """In 8 bytes each, unless the archive expands to more than 2 TiB."""
    try:
        return array("Q", places)
    except OverflowError:
        return places
