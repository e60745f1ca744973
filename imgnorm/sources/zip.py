"""A zip's members: the central directory lists them, and each local header must agree with it.

The format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT.
"""

from __future__ import annotations

import stat
import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from imgnorm.machine import available_memory
from imgnorm.sources.bytestream import FileBytes
from imgnorm.sources.files import (
    LARGE_MEMBER,
    MAX_FILE_BYTES,
    about_to_read,
    demand_plausible,
    too_large,
    wanted_of,
)
from imgnorm.sources.signatures import START_BYTES, format_by_signature
from imgnorm.tally.skipped import Reason, Unreadable

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_SPAN = struct.Struct(
    "<4s16xL4x3H8xL"
)  # of a central record, only sizes and where its member begins
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = 0xFFFF
_MAX_DIRECTORY = 1 << 29

STORED, DEFLATE, _BZIP2, _LZMA = 0, 8, 12, 14
_MAX_DEFLATE = 1032  # how many times deflate expands at most: 258 bytes from two bits
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
_SIZES_AFTER_DATA = 1 << 3  # and not in the local header
_PATCH = 1 << 5
_UTF8 = 1 << 11
_UNIX = 3
_STARTS_WITHIN = 1 << 20  # bytes that expand to the first ones: a block of bzip2 takes the most

ZipEntry = tuple[bytes, int, int, Unreadable | None]
"""Raw name, offset of its record in the directory, size, and why it cannot be read."""


class _Record(NamedTuple):
    """A member, as the central directory describes it."""

    name: bytes  # as stored
    made_on: int
    flags: int
    method: int
    checksum: int
    packed: int  # bytes
    size: int
    mode: int  # if it was made on Unix
    start: int  # of its local header
    end: int  # of the record itself


class PackedMember(NamedTuple):
    """Where a member's bytes lie in the archive."""

    start: int
    packed: int  # bytes
    size: int  # bytes, unpacked
    method: int
    checksum: int


class ZipReader:
    """The members of one zip, and their contents.

    Raises:
        Unreadable: it has no directory.
    """

    def __init__(self, bytes_: FileBytes) -> None:
        self._bytes = bytes_
        self.fault: Unreadable | None = None  # the archive's first, once all entries were read
        self._shift = 0  # how many bytes lie before the archive
        self._count = 0
        self._directory_at = 0
        self._directory = self._found_directory()
        self._starts = array("Q")  # of all local headers, sorted
        self._overlap: set[int] | None = None
        self._last: tuple[int, _Record] | None = None  # of the last entry: its place and record

    def entries(self) -> Iterator[ZipEntry]:
        """The members, in the order of the directory."""
        if self._overlap is None:
            self._overlap = self._overlapping()
        for place, record in self._records():
            if record.name[-1:] != b"/":
                fault = _fault_of(record)
                if fault is None and record.start in self._overlap:
                    fault = _corrupt("it overlaps another member")
                self._last = place, record
                yield _utf8(record), place, record.size, fault

    def other_name(self) -> bytes:
        """The last entry's name in its local header, if that is another than the directory's; else b""."""
        assert self._last is not None
        record = self._last[1]
        header = self._bytes.read(record.start, _LOCAL.size + len(record.name))
        name = header[_LOCAL.size :] if header[:4] == b"PK\3\4" else b""
        return name if name != record.name else b""

    def content(self, place: int) -> bytes:
        """The bytes of the member whose record is at this place.

        Raises:
            Unreadable: it is damaged, not what the directory says, or large and not an image.
        """
        packed = self.packed(place)
        wanted = wanted_of(packed.size)
        if packed.method == STORED and wanted < packed.size:
            return self._bytes.read(packed.start, wanted)
        if packed.method != STORED and packed.size > LARGE_MEMBER:
            self._demand_image(packed)
        about_to_read(packed.size)
        data = self._bytes.read(packed.start, packed.packed)
        if packed.method != STORED:
            data = _unpacked(data, packed.method, packed.size)
        if len(data) != packed.size:
            raise _corrupt(f"it does not expand to the {packed.size:,} bytes of the directory")
        if zlib.crc32(data) != packed.checksum:
            raise _corrupt("its checksum is wrong")
        return data

    def packed(self, place: int) -> PackedMember:
        """Where the bytes of the member are whose record is at this place.

        Raises:
            Unreadable: its local header is damaged, or not what the directory says.
        """
        record = self._last[1] if self._last and self._last[0] == place else self._record(place)
        header = self._bytes.read(record.start, _LOCAL.size + len(record.name))
        if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
            raise _corrupt(f"no local header at byte {record.start:,}")
        _, _, flags, method, _, _, checksum, packed, size, name_size, extra_size = (
            _LOCAL.unpack_from(header)
        )
        if flags & _ENCRYPTED:
            raise Unreadable(Reason.ARCHIVE_ENCRYPTED, "its local header says that it is encrypted")
        if header[_LOCAL.size :] != record.name or name_size != len(record.name):
            raise _corrupt("its local header has another name")
        if method != record.method or (
            not flags & _SIZES_AFTER_DATA
            and not (
                checksum in (record.checksum, 0xFFFFFFFF)
                and packed in (record.packed, 0xFFFFFFFF)
                and size in (record.size, 0xFFFFFFFF)
            )
        ):
            raise _corrupt("its local header contradicts the directory")
        start = record.start + _LOCAL.size + name_size + extra_size
        following = bisect_right(self._starts, record.start)
        limit = self._starts[following] if following < len(self._starts) else self._directory_at
        if start + record.packed > limit:
            raise _corrupt("it overlaps another member")
        return PackedMember(start, record.packed, record.size, record.method, record.checksum)

    def _demand_image(self, packed: PackedMember) -> None:
        """
        Raises:
            Unreadable: it does not begin like an image, or expands more than images do.
        """
        data = self._bytes.read(packed.start, min(packed.packed, _STARTS_WITHIN))
        start = _unpacked(data, packed.method, START_BYTES)
        if start:
            format_by_signature(start)
        demand_plausible(packed.size, packed.packed)

    def _found_directory(self) -> bytes:
        tail_at = max(0, self._bytes.size - _END.size - _MAX_COMMENT)
        tail = self._bytes.read(tail_at, self._bytes.size - tail_at)
        found = tail.rfind(b"PK\5\6")
        if found < 0 or found + _END.size > len(tail):
            raise Unreadable(
                Reason.ARCHIVE_TRUNCATED, "its directory, which is at its end, is missing"
            )
        _, disk, first_disk, _, count, size, start, comment = _END.unpack_from(tail, found)
        at = tail_at + found
        behind = self._bytes.size - (at + _END.size + comment)
        if behind < 0:
            self._blame(Unreadable(Reason.ARCHIVE_TRUNCATED, "its comment is cut off"))
        elif behind > 0:
            self._blame(_corrupt(f"{behind:,} bytes follow the end of the archive"))
        if 0xFFFF in (disk, first_disk, count) or 0xFFFFFFFF in (size, start):
            at, disk, first_disk, count, size, start = self._end_64(at)
        if disk or first_disk:
            raise _corrupt("one of several volumes")
        self._shift = at - size - start
        if self._shift > 0 and behind > 0:  # this is the end of another zip inside this one
            raise Unreadable(
                Reason.ARCHIVE_TRUNCATED, "its directory, which is at its end, is missing"
            )
        if self._shift > 0:
            self._blame(_corrupt(f"{self._shift:,} bytes in front of the archive"))
        if self._shift < 0 or size > _MAX_DIRECTORY:
            raise _corrupt("its directory is not where its end says")
        self._count = count
        self._directory_at = at - size
        return self._bytes.read(self._directory_at, size)

    def _end_64(self, end: int) -> tuple[int, int, int, int, int, int]:
        locator = self._bytes.read(max(0, end - _LOCATOR_64.size), _LOCATOR_64.size)
        if locator[:4] != b"PK\6\7" or len(locator) < _LOCATOR_64.size:
            raise _corrupt("its zip64 end is missing")
        at = end - _LOCATOR_64.size - _END_64.size  # its place, except with rare extensions
        record = self._bytes.read(max(0, at), _END_64.size)
        if record[:4] != b"PK\6\6":
            at = _LOCATOR_64.unpack(locator)[2]
            record = self._bytes.read(at, _END_64.size)
        if record[:4] != b"PK\6\6" or len(record) < _END_64.size:
            raise _corrupt("its zip64 end is missing")
        _, _, _, _, disk, first_disk, _, count, size, start = _END_64.unpack(record)
        return at, disk, first_disk, count, size, start

    def _records(self) -> Iterator[tuple[int, _Record]]:
        place = count = 0
        while place < len(self._directory):
            try:
                record = self._record(place)
            except (ValueError, struct.error):
                self._blame(_corrupt(f"its directory is damaged after {count:,} members"))
                return
            yield place, record
            place = record.end
            count += 1
        if count != self._count:
            self._blame(
                _corrupt(f"its directory holds {count:,} members, its end says {self._count:,}")
            )

    def _record(self, place: int) -> _Record:
        """
        Raises:
            ValueError, struct.error: the directory has no record at this place.
        """
        directory = self._directory
        fields = _CENTRAL.unpack_from(directory, place)
        signature, made_by, _, flags, method, _, _, checksum, packed, size = fields[:10]
        name_size, extra_size, comment_size, _, _, attributes, start = fields[10:]
        name_at = place + _CENTRAL.size
        extra_at = name_at + name_size
        end = extra_at + extra_size + comment_size
        if signature != b"PK\1\2" or end > len(directory):
            raise ValueError
        if 0xFFFFFFFF in (packed, size, start):
            extra = directory[extra_at : extra_at + extra_size]
            size, packed, start = _widened(extra, size, packed, start)
        return _Record(
            directory[name_at:extra_at],
            made_by >> 8,
            flags,
            method,
            checksum,
            packed,
            size,
            attributes >> 16,
            min(start + self._shift, self._directory_at),  # if it is too large: it overlaps
            end,
        )

    def _overlapping(self) -> set[int]:
        """The starts of members that share bytes with another member, or with the directory."""
        starts, ends = array("Q"), array("Q")
        apart, reached = True, 0
        for start, size in self._spans():
            apart = apart and start >= reached
            reached = start + size
            starts.append(start)
            ends.append(min(reached, self._bytes.size))
        order = range(len(starts)) if apart else sorted(range(len(starts)), key=starts.__getitem__)
        self._starts = array("Q", map(starts.__getitem__, order)) if not apart else starts
        if apart and reached <= self._directory_at:
            return set()
        nexts = [*self._starts[1:], self._directory_at]
        return {starts[i] for i, following in zip(order, nexts, strict=True) if ends[i] > following}

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Where the members begin, and how many bytes each takes at least."""
        directory, shift, last = self._directory, self._shift, self._directory_at
        place, end = 0, len(directory) - _SPAN.size
        while place <= end:
            signature, packed, name_size, extra_size, comment_size, start = _SPAN.unpack_from(
                directory, place
            )
            following = place + _SPAN.size + name_size + extra_size + comment_size
            if signature != b"PK\1\2" or following > len(directory):
                return
            if packed == 0xFFFFFFFF or start == 0xFFFFFFFF:
                try:
                    record = self._record(place)
                except (ValueError, struct.error):
                    return
                packed, start = record.packed, record.start
            else:
                start = min(start + shift, last)
            yield start, _LOCAL.size + name_size + packed
            place = following

    def _blame(self, fault: Unreadable) -> None:
        self.fault = self.fault or fault


def _widened(extra: bytes, *values: int) -> tuple[int, ...]:
    """The values, those that did not fit replaced from zip64's extra field, in its order."""
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, position)
        if kind == 1:
            wide = list(struct.unpack_from(f"<{size // 8}Q", extra, position + 4))
            return tuple(wide.pop(0) if v == 0xFFFFFFFF and wide else v for v in values)
        position += 4 + size
    return values


def _fault_of(record: _Record) -> Unreadable | None:
    kind = stat.S_IFMT(record.mode) if record.made_on == _UNIX else 0
    if kind not in (0, stat.S_IFREG):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a special file"
        return Unreadable(Reason.ARCHIVE_ENTRY_UNSAFE, f"{what}, not a file")
    if record.flags & _ENCRYPTED:
        return Unreadable(Reason.ARCHIVE_ENCRYPTED, "it needs a password")
    if record.method not in (STORED, *_UNPACK) or record.flags & _PATCH:
        return Unreadable(
            Reason.ARCHIVE_UNSUPPORTED_COMPRESSION, f"compressed by method {record.method}"
        )
    if record.size > MAX_FILE_BYTES:
        return too_large(record.size)
    if record.packed > MAX_FILE_BYTES:
        return too_large(record.packed)
    if (record.method == STORED and record.size != record.packed) or (
        record.method == DEFLATE and record.size > _MAX_DEFLATE * record.packed
    ):
        return _corrupt(f"{record.packed:,} bytes cannot expand to {record.size:,}")
    return None


def _utf8(record: _Record) -> bytes:
    if record.flags & _UTF8 or record.name.isascii():
        return record.name
    return record.name.decode("cp437").encode()


def _unpacked(data: bytes, method: int, size: int) -> bytes:
    """What the data expand to, but at most one byte more than `size`."""
    if size > LARGE_MEMBER and 3 * size > available_memory():
        raise Unreadable(
            Reason.OUT_OF_MEMORY,
            f"expanding it takes about {3 * size >> 20:,} MiB, more than this machine has to spare",
        )
    try:
        return _UNPACK[method](data, size)
    except (zlib.error, _lzma_error, struct.error, OSError, EOFError, ValueError) as error:
        raise _corrupt(f"it cannot be decompressed ({error})") from error


def _inflated(data: bytes, size: int) -> bytes:
    return zlib.decompressobj(-15).decompress(data, size + 1)


def _from_bzip2(data: bytes, size: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, size + 1)


def _from_lzma(data: bytes, size: int) -> bytes:
    """The data are two bytes of version, the size of the properties, these, and the raw stream."""
    lengths, dictionary = struct.unpack_from("<BL", data, 4)
    options = {
        "id": lzma.FILTER_LZMA1,
        "lc": lengths % 9,
        "lp": lengths // 9 % 5,
        "pb": lengths // 45,
        "dict_size": max(1 << 12, min(dictionary, size)),  # more than `size` is never needed
    }
    start = 4 + int.from_bytes(data[2:4], "little")
    unpacking = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[options])
    return unpacking.decompress(data[start:], size + 1)


_UNPACK: dict[int, Callable[[bytes, int], bytes]] = {DEFLATE: _inflated}
_lzma_error: type[Exception] = zlib.error
with suppress(ImportError):  # a Python may be built without it
    import bz2

    _UNPACK[_BZIP2] = _from_bzip2
with suppress(ImportError):
    import lzma

    _UNPACK[_LZMA] = _from_lzma
    _lzma_error = lzma.LZMAError


def _corrupt(detail: str) -> Unreadable:
    return Unreadable(Reason.ARCHIVE_CORRUPT, detail)
