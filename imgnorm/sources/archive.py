"""Zip, tar and tar.gz archives, WebDataset shards included, read in place: nothing is unpacked."""

from __future__ import annotations

import os
import re
import sys
from array import array
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice, pairwise
from operator import eq
from typing import Any, NamedTuple

from imgnorm.sources.bytestream import FileBytes, GzipBytes, no_heartbeat
from imgnorm.sources.files import (
    about_to_read,
    looks_like_an_image,
    opened,
    refused,
    rule_against,
    unreadable,
)
from imgnorm.sources.names import name_bytes
from imgnorm.sources.paths import labelled
from imgnorm.sources.source import Listing
from imgnorm.sources.tar import BLOCK, TarEntry, TarReader, is_header
from imgnorm.sources.zip import ZipEntry, ZipReader
from imgnorm.tally.skipped import Reason, Skipped, Unreadable

_OPEN_SHARDS = 2  # in one process: its own, and one that it helps with
_SIZE_BITS = 32
_MARKED = 64  # one of so many members

Version = tuple[int, int, int]  # of a file: its size, when it was last changed, its inode
Doubles = dict[bytes, int]  # member -> how many have this name, where it is more than one


class ArchiveSource:
    """The images in one archive or many. A name is the archive's file name and the member's place.

    Archives of the same file name are told apart by the folders that they lie in.

    Args:
        ref: what the user called them.
        paths: of the archives; each is listed as a whole if it is none.
    """

    kind = "archive"

    def __init__(self, ref: str, paths: Iterable[str]) -> None:
        self.ref = ref.replace(os.sep, "/")
        self._paths = labelled(paths)
        self._versions: dict[str, Version] = {}  # of each archive, when it was listed
        self._doubles: dict[str, Doubles] = {}  # of archives that have some
        self._marks: dict[str, _Marks] = {}
        self._streams: set[str] = set()  # compressed as a whole
        self._member_order: dict[str, list[str]] = {}  # where it is not the order of the names
        self._open: OrderedDict[str, _Shard] = OrderedDict()
        self._still_alive: Callable[[], None] = no_heartbeat

    def __getstate__(self) -> dict[str, Any]:
        # A worker opens archives itself, and finds the members of those that it gets to read.
        return {
            **vars(self),
            "_member_order": {},
            "_open": OrderedDict(),
            "_still_alive": no_heartbeat,
        }

    def listing(self) -> Listing:
        for told in (
            self._versions,
            self._doubles,
            self._marks,
            self._streams,
            self._member_order,
        ):
            told.clear()  # by an earlier listing, of what may be other archives by now
        names: list[str] = []
        skipped: list[Skipped] = []
        ignored: Counter[str] = Counter()
        for shard in self._paths:
            found = _Contents(shard)
            try:
                with closing(self._opened(shard)) as archive:
                    self._versions[shard] = archive.version
                    if isinstance(archive.bytes, GzipBytes):
                        self._streams.add(shard)
                    found.take(archive)
            except Unreadable as fault:
                found.skip(shard, fault)
            except OSError as error:
                found.skip(shard, unreadable(error))
            names += found.sorted_names()
            skipped += found.skipped
            ignored += found.ignored
            if found.doubles:
                self._doubles[shard] = found.doubles
            if found.member_order is not None:
                self._member_order[shard] = found.member_order
            elif found.marks.members:
                self._marks[shard] = found.marks
        skipped.sort(key=lambda s: name_bytes(s.name))
        return Listing(names, tuple(skipped), dict(sorted(ignored.items())))

    def class_of(self, name: str) -> str | None:
        folder, slash, _ = name[len(self.shard_of(name)) + 1 :].partition("/")
        return folder if slash else None

    def shard_of(self, name: str) -> str:
        end = name.find("/")
        while end >= 0 and name[:end] not in self._paths:
            end = name.find("/", end + 1)
        return name[:end] if end >= 0 else name  # a shard's own name, where it is listed as damaged

    def shards(self, names: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
        start = 0
        while start < len(names):
            shard = self.shard_of(names[start])
            above, end = shard + "/", start + 1
            while end < len(names) and names[end].startswith(above):
                end += 1
            part, start = names[start:end], end
            order = self._member_order.get(shard)
            if order is None or len(part) == 1:
                yield shard, part
            else:
                wanted = set(part)
                yield shard, [name for name in order if name in wanted]

    def is_stream(self, shard: str) -> bool:
        return shard in self._streams

    def keep_alive(self, still_alive: Callable[[], None]) -> None:
        self._still_alive = still_alive

    def read(self, name: str) -> bytes:
        shard = self.shard_of(name)
        try:
            return self._read(shard, name)
        except OSError:  # a passing fault of the storage: once more, then give up
            self._close(shard)
        try:
            return self._read(shard, name)
        except OSError as error:
            self._close(shard)
            raise unreadable(error) from error

    def _read(self, shard: str, name: str) -> bytes:
        archive = self._open.get(shard)
        if archive is None:
            while len(self._open) >= _OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
            archive = self._open[shard] = self._opened(shard)
        self._open.move_to_end(shard)
        expected = self._versions.get(shard, archive.version)
        if archive.version == expected:
            data = archive.content(name)
            if archive.version_now() == expected:
                return data
        self._close(shard)
        raise Unreadable(Reason.CHANGED_DURING_READ, "the archive changed while it was measured")

    def _opened(self, shard: str) -> _Shard:
        doubles, marks = self._doubles.get(shard, {}), self._marks.get(shard, _no_marks())
        return _Shard(shard, self._paths[shard], doubles, marks, self._still_alive)

    def _close(self, shard: str) -> None:
        if shard in self._open:
            self._open.pop(shard).close()


class _Marks(NamedTuple):
    """Some members of an archive that holds them in the order of their names, and where they begin."""

    members: list[bytes]
    places: array[int]

    def around(self, member: bytes) -> tuple[int, int]:
        """The part of the archive that a member is in, if it is there at all."""
        following = bisect_right(self.members, member)
        end = self.places[following] if following < len(self.places) else sys.maxsize
        return self.places[following - 1] if following else 0, end


def _no_marks() -> _Marks:
    return _Marks([], array("Q"))


class _Shard:
    """One archive, open."""

    def __init__(
        self,
        label: str,
        path: str,
        doubles: Doubles,
        marks: _Marks,
        still_alive: Callable[[], None],
    ) -> None:
        """
        Raises:
            Unreadable: it is no archive.
            OSError: it cannot be read.
        """
        self._label = label
        self._doubles = doubles
        self._marks = marks
        self._still_alive = still_alive
        self._handle, _ = opened(path)
        try:
            self.version = self.version_now()
            self._kind = _kind_of(self._handle)
            if self._kind is None:
                raise _no_archive(self._handle)
            self.bytes: FileBytes | GzipBytes = FileBytes(self._handle, still_alive)
            self._places: dict[bytes, int] | None = None  # by member; the size in the lower bits
            self._entries: Iterator[TarEntry | ZipEntry] = iter(())  # that were not passed yet
            self._passed: Counter[bytes] = Counter()  # doubles
            self.reader: ZipReader | TarReader
            if self._kind == "zip":
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
        """
        Raises:
            Unreadable: there is no such member, or it is damaged.
        """
        member = _bytes(name[len(self._label) + 1 :])
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
        """Its place and size."""
        if isinstance(self.bytes, GzipBytes):
            return self._on_stream(member)
        if self._places is None:
            if member not in self._doubles:
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
        """Most are asked for in their order; where one that is not may be, the marks tell."""
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
        """Forward to a member, or to the first one that does not begin there."""
        for raw, place, size, fault in self._entries:
            if fault is None and (raw == member or _plain(raw) == member):
                return place, size
            if not start <= self.reader.began < end:
                break
        return None

    def _on_stream(self, member: bytes) -> tuple[int, int] | None:
        """Forward to the last member of this name; from the beginning again if it lies behind."""
        wanted = self._doubles.get(member, 0)
        for _ in range(2):
            if not wanted or self._passed[member] < wanted:
                for raw, place, size, fault in self._entries:
                    here = raw if raw == member else _plain(raw)
                    if fault is not None or here is None:
                        continue
                    if here in self._doubles:
                        self._passed[here] += 1
                    if here == member and self._passed[here] >= wanted:
                        return place, size
            self._rewind()
        return None

    def _rewind(self) -> None:
        if self._kind == "tar.gz":
            self.bytes = GzipBytes(self._handle, self._still_alive)
        self.reader = TarReader(self.bytes)
        self._entries = self.reader.entries(passing=self._kind == "tar")
        self._passed = Counter()


class _Contents:
    """What one archive holds, sorted out by the rules for files in a folder."""

    def __init__(self, label: str) -> None:
        self.skipped: list[Skipped] = []
        self.ignored: Counter[str] = Counter()
        self.doubles: Doubles = {}
        self.marks = _no_marks()
        self.member_order: list[str] | None = None  # if it is not the order of the names
        self._label = label
        self._names: list[str] = []
        self._folders: dict[bytes, tuple[str, str | None] | None] = {}
        self._rules: dict[str, str | None] = {"": None}  # by folder

    def take(self, archive: _Shard) -> None:
        names, folders, reader = self._names, self._folders, archive.reader
        marking = isinstance(archive.bytes, FileBytes)
        for raw, _, size, fault in reader.entries():
            start = raw.rfind(b"/") + 1
            above, file = raw[:start], _text(raw[start:])
            folder = folders[above] if above in folders else self._folder_of(above)
            if folder is None or file[-1:] in _NO_FILE or "\\" in file or "\0" in file:
                member = _plain(raw)
                if member is None:
                    fault = Unreadable(Reason.ARCHIVE_ENTRY_UNSAFE, "not a place below the archive")
                    self.skip(f"{self._label}/{_text(raw)}", fault, size)
                    continue
                start = member.rfind(b"/") + 1
                folder, file = self._folder_of(member[:start]), _text(member[start:])
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
                    self.marks.members.append(self._member(prefix + file))
                    self.marks.places.append(reader.began)
                names.append(prefix + file)
        if not reader.apart:
            self.marks = _no_marks()
        if archive.reader.fault is not None:
            self.skip(self._label, archive.reader.fault, archive.version[0])
        if isinstance(archive.bytes, GzipBytes) and archive.bytes.distrusted:
            fault = Unreadable(
                Reason.ARCHIVE_CORRUPT,
                "the archive's checksum is wrong, perhaps because of this one",
            )
            for name in names:
                self.skip(name, fault)
            names.clear()
        if archive.version_now() != archive.version:
            fault = Unreadable(
                Reason.CHANGED_DURING_READ, "its size or time changed while it was read"
            )
            self.skip(self._label, fault)

    def sorted_names(self) -> list[str]:
        """Each once. Of members that share a name it is the last one, which unpacking leaves."""
        plain = all(map(str.isascii, self._names))  # which is the order of the bytes already
        ordered = sorted(self._names, key=None if plain else name_bytes)
        if any(map(eq, ordered, islice(ordered, 1, None))):
            again = [name for name, next_ in pairwise(ordered) if name == next_]
            fault = Unreadable(Reason.DUPLICATE_NAME, "a later member of the same name is counted")
            for name in again:
                self.skip(name, fault)
            self.doubles = {self._member(n): count + 1 for n, count in Counter(again).items()}
            self._names = list(dict.fromkeys(reversed(self._names)))[::-1]
            ordered = list(dict.fromkeys(ordered))
        if ordered != self._names:
            self.member_order = self._names
        return ordered

    def skip(self, name: str, fault: Unreadable, size: int | None = None) -> None:
        self.skipped.append(fault.skipped(name, size))

    def _folder_of(self, above: bytes) -> tuple[str, str | None] | None:
        """How the names in a folder begin, and the rule against it; None if it is elsewhere."""
        place = _plain(above + b"file")
        found = None
        if place is not None:
            folder = _text(place[: -len("/file")])
            found = (
                f"{self._label}/{folder}/" if folder else f"{self._label}/",
                self._rule_of(folder),
            )
        self._folders[above] = found
        return found

    def _member(self, name: str) -> bytes:
        return _bytes(name[len(self._label) + 1 :])

    def _rule_of(self, folder: str) -> str | None:
        above, _, last = folder.rpartition("/")
        rule = self._rules[above] if above in self._rules else self._rule_of(above)
        self._rules[folder] = rule = rule or rule_against(last)
        return rule


def is_archive(path: str) -> bool:
    """Whether a file starts like a zip, a tar or a tar.gz, whatever its suffix.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        handle, _ = opened(path)
    except Unreadable:
        return False
    except OSError as error:
        raise refused(path, error) from error
    try:
        return _kind_of(handle) is not None
    except OSError as error:
        raise refused(path, error) from error
    finally:
        os.close(handle)


def _kind_of(handle: int) -> str | None:
    start = FileBytes(handle, no_heartbeat).read(0, BLOCK)
    if start.startswith((b"PK\3\4", b"PK\5\6")):
        return "zip"
    if start.startswith(b"\x1f\x8b\x08"):
        return "tar.gz" if is_header(GzipBytes(handle, no_heartbeat).read(0, BLOCK)) else None
    return "tar" if is_header(start) else None


def _no_archive(handle: int) -> Unreadable:
    start = FileBytes(handle, no_heartbeat).read(0, BLOCK)
    if not start:
        return Unreadable(Reason.EMPTY_FILE, "no bytes at all")
    if start.startswith(b"version https://git-lfs"):
        return Unreadable(Reason.GIT_LFS_POINTER, "run `git lfs pull` to get the archive")
    return Unreadable(Reason.ARCHIVE_CORRUPT, "neither a zip, nor a tar, nor a tar.gz")


_SLASHES = (b"", b"/")
_NO_FILE = ("", ".")  # nothing, or a folder
_FILE_SYSTEM = sys.getfilesystemencoding()


def _hides_an_image(reader: TarReader | ZipReader) -> bool:
    """Whether a zip's entry that a rule passes over is an image by the name that lies beside it: a
    damaged directory."""
    if not isinstance(reader, ZipReader):
        return False
    name = _text(reader.name_inside())
    return looks_like_an_image(name) and not any(map(rule_against, name.split("/")))


def _plain(raw: bytes) -> bytes | None:
    """A member's place below the archive, plainly; None if it is elsewhere, or nowhere."""
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


def _text(raw: bytes) -> str:
    return raw.decode(_FILE_SYSTEM, "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode(_FILE_SYSTEM, "surrogateescape")
