"""One archive of a source: what it contains, by the rules for files in a folder, and its members' bytes.

A shard is listed once, by `ShardContents`. Later, `Shard` finds members again on the way through the
archive: most are read in the order in which the archive holds them. `Marks`, and the number of members
that share a name, are what the listing passes on to make that quick.
"""

from __future__ import annotations

import os
import re
import sys
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from operator import eq

from imgnorm.sources.bytestream import FileBytes, GzipBytes, no_heartbeat
from imgnorm.sources.files import about_to_read, looks_like_an_image, open_regular, rule_against
from imgnorm.sources.names import name_bytes
from imgnorm.sources.tar import BLOCK, TarEntry, TarReader, is_header
from imgnorm.sources.zip import ZipEntry, ZipReader
from imgnorm.tally.skipped import Reason, Skipped, Unreadable

_SIZE_BITS = 32
_MARKED = 64  # one in this many members
_SLASHES = (b"", b"/")
_NOT_A_FILE = ("", ".")  # the last character of an empty name, or of "." and ".."
_FILE_SYSTEM = sys.getfilesystemencoding()

Version = tuple[int, int, int]  # of a file: its size, when it was last changed, its inode
Duplicates = dict[bytes, int]  # member -> how many have this name, if more than one


class Marks:
    """Some members of an archive, and where they begin, if it has them in the order of their names."""

    def __init__(self) -> None:
        self.members: list[bytes] = []
        self.places = array("Q")

    def add(self, member: bytes, place: int) -> None:
        self.members.append(member)
        self.places.append(place)

    def around(self, member: bytes) -> tuple[int, int]:
        """The part of the archive in which a member is, if it exists."""
        following = bisect_right(self.members, member)
        end = self.places[following] if following < len(self.places) else sys.maxsize
        return self.places[following - 1] if following else 0, end


class Shard:
    """One archive, open."""

    def __init__(
        self,
        label: str,
        path: str,
        duplicates: Duplicates,
        marks: Marks,
        still_alive: Callable[[], None],
    ) -> None:
        """
        Raises:
            Unreadable: it is not an archive.
            OSError: it cannot be read.
        """
        self._label = label
        self._duplicates = duplicates
        self._marks = marks
        self._still_alive = still_alive
        self._handle, _ = open_regular(path)
        try:
            self.version = self.version_now()
            self._packing = packing_of(self._handle)
            if self._packing is None:
                raise _not_an_archive(self._handle)
            self.bytes: FileBytes | GzipBytes = FileBytes(self._handle, still_alive)
            self._places: dict[bytes, int] | None = None  # by member; the size in the lower bits
            self._entries: Iterator[TarEntry | ZipEntry] = iter(())  # that were not passed yet
            self._passed: Counter[bytes] = Counter()  # members that share their name
            self.reader: ZipReader | TarReader
            if self._packing == "zip":
                self.reader = ZipReader(self.bytes)
                self._entries = self.reader.entries()
            else:
                self._rewind()
        except BaseException:
            os.close(self._handle)
            raise

    def close(self) -> None:
        os.close(self._handle)

    def version_now(self) -> Version:
        status = os.fstat(self._handle)
        return status.st_size, status.st_mtime_ns, status.st_ino

    def content(self, name: str) -> bytes:
        """The bytes of the member of this name.

        Raises:
            Unreadable: there is no such member, or it is damaged.
        """
        member = _encoded(name[len(self._label) + 1 :])
        found = self._found(member)
        if found is None:
            raise Unreadable(Reason.VANISHED, "the archive no longer holds it")
        place, size = found
        about_to_read(size)
        if isinstance(self.reader, ZipReader):
            return self.reader.content(place)
        data = self.bytes.read(place, size)
        if len(data) < size:
            raise self.bytes.fault or Unreadable(
                Reason.ARCHIVE_TRUNCATED, f"the archive ends within its {size:,} bytes"
            )
        return data

    def _found(self, member: bytes) -> tuple[int, int] | None:
        """A member's place and size."""
        if isinstance(self.bytes, GzipBytes):
            return self._on_stream(member)
        if self._places is None:
            if member not in self._duplicates:
                found = self._on_the_way(member)
                if found is not None:
                    return found
            self._places = {
                here: place << _SIZE_BITS | size
                for raw, place, size, fault in self.reader.entries()
                if fault is None and (here := _plain(raw)) is not None
            }
        packed = self._places.get(member)
        return None if packed is None else (packed >> _SIZE_BITS, packed & (1 << _SIZE_BITS) - 1)

    def _on_the_way(self, member: bytes) -> tuple[int, int] | None:
        """Forward from the last member: most are read in order. Marks help with the others."""
        found = self._within(0, 0, member)
        if found is not None:
            return found
        start, end = self._marks.around(member)
        if start <= self.reader.began < end:
            found = self._within(start, end, member)
        if found is None and self._marks.members:
            self._entries = self.reader.entries(start)
            found = self._within(start, end, member)
        return found

    def _within(self, start: int, end: int, member: bytes) -> tuple[int, int] | None:
        """Forward to a member, or to the first one that does not begin in this part."""
        for raw, place, size, fault in self._entries:
            if fault is None and (raw == member or _plain(raw) == member):
                return place, size
            if not start <= self.reader.began < end:
                break
        return None

    def _on_stream(self, member: bytes) -> tuple[int, int] | None:
        """Forward to the last member of this name; if it lies behind, again from the beginning."""
        wanted = self._duplicates.get(member, 0)
        for _ in range(2):
            if not wanted or self._passed[member] < wanted:
                for raw, place, size, fault in self._entries:
                    here = raw if raw == member else _plain(raw)
                    if fault is not None or here is None:
                        continue
                    if here in self._duplicates:
                        self._passed[here] += 1
                    if here == member and self._passed[here] >= wanted:
                        return place, size
            self._rewind()
        return None

    def _rewind(self) -> None:
        if self._packing == "tar.gz":
            self.bytes = GzipBytes(self._handle, self._still_alive)
        self.reader = TarReader(self.bytes)
        self._entries = self.reader.entries(passing=self._packing == "tar")
        self._passed = Counter()


class ShardContents:
    """What one archive contains, sorted by the rules for files in a folder."""

    def __init__(self, label: str) -> None:
        self.skipped: list[Skipped] = []
        self.ignored: Counter[str] = Counter()
        self.duplicates: Duplicates = {}
        self.marks = Marks()
        self.member_order: list[str] | None = None  # if it is not the order of the names
        self._label = label
        self._names: list[str] = []
        self._folders: dict[bytes, tuple[str, str | None] | None] = {}
        self._rules: dict[str, str | None] = {"": None}  # by folder

    def take(self, shard: Shard) -> None:
        """Put each member among the names, the skipped or the ignored ones.

        There may be millions of them: the usual ones take a short path.
        """
        names, folders, reader = self._names, self._folders, shard.reader
        marking = isinstance(shard.bytes, FileBytes)
        for raw, _, size, fault in reader.entries():
            start = raw.rfind(b"/") + 1
            above, file = raw[:start], _decoded(raw[start:])
            folder = folders[above] if above in folders else self._folder_of(above)
            if folder is None or file[-1:] in _NOT_A_FILE or "\\" in file or "\0" in file:
                member = _plain(raw)
                if member is None:
                    fault = Unreadable(Reason.ARCHIVE_ENTRY_UNSAFE, "not a place below the archive")
                    self.skip(f"{self._label}/{_decoded(raw)}", fault, size)
                    continue
                start = member.rfind(b"/") + 1
                folder, file = self._folder_of(member[:start]), _decoded(member[start:])
                assert folder is not None
            prefix, rule = folder
            rule = rule or rule_against(file)
            if rule is None and not looks_like_an_image(file):
                unsafe = fault is not None and fault.reason is Reason.ARCHIVE_ENTRY_UNSAFE
                rule = None if unsafe else "suffix"  # images may lie behind a link
            if rule is not None and _hides_an_image(reader):
                fault = Unreadable(Reason.ARCHIVE_CORRUPT, "its local header has another name")
                self.skip(prefix + file, fault, size)
            elif rule is not None:
                self.ignored[rule] += 1
            elif fault is not None:
                self.skip(prefix + file, fault, size)
            else:
                if marking and not len(names) % _MARKED:
                    self.marks.add(self._member(prefix + file), reader.began)
                names.append(prefix + file)
        if not reader.independent:
            self.marks = Marks()
        self._take_faults_of(shard)

    def sorted_names(self) -> list[str]:
        """The names, each once: of members that share one, the last, which unpacking leaves.

        Sets `duplicates` and `member_order`, and lists the other members of a shared name as skipped.
        """
        plain = all(map(str.isascii, self._names))  # which is the order of the bytes already
        ordered = sorted(self._names, key=None if plain else name_bytes)
        if any(map(eq, ordered, islice(ordered, 1, None))):
            again = [name for name, next_ in pairwise(ordered) if name == next_]
            fault = Unreadable(Reason.DUPLICATE_NAME, "a later member of the same name is counted")
            for name in again:
                self.skip(name, fault)
            self.duplicates = {self._member(n): count + 1 for n, count in Counter(again).items()}
            self._names = list(dict.fromkeys(reversed(self._names)))[::-1]
            ordered = list(dict.fromkeys(ordered))
        if ordered != self._names:
            self.member_order = self._names
        return ordered

    def skip(self, name: str, fault: Unreadable, size: int | None = None) -> None:
        self.skipped.append(fault.skipped(name, size))

    def _take_faults_of(self, shard: Shard) -> None:
        """The faults of the archive itself, known once all of it was read."""
        if shard.reader.fault is not None:
            self.skip(self._label, shard.reader.fault, shard.version[0])
        if isinstance(shard.bytes, GzipBytes) and shard.bytes.distrusted:
            fault = Unreadable(
                Reason.ARCHIVE_CORRUPT,
                "the archive's checksum is wrong, perhaps because of this one",
            )
            for name in self._names:
                self.skip(name, fault)
            self._names.clear()
        if shard.version_now() != shard.version:
            fault = Unreadable(
                Reason.CHANGED_DURING_READ, "its size or time changed while it was read"
            )
            self.skip(self._label, fault)

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

    def _member(self, name: str) -> bytes:
        return _encoded(name[len(self._label) + 1 :])

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
    """Whether a zip's entry that a rule ignores is an image by its local header's name.

    The directory, which has the other name, is then damaged.
    """
    if not isinstance(reader, ZipReader):
        return False
    name = _decoded(reader.name_inside())
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


def _encoded(text: str) -> bytes:
    return text.encode(_FILE_SYSTEM, "surrogateescape")
