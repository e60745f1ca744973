"""A tar's members, read strictly: what the standard library ignores silently is a fault here.

tarfile, and WebDataset with it, takes a damaged header, or a file that ends between two members, for
the end of the archive, and never looks after the end. Here an archive ends with two zero blocks and
has only zeros after them. After a damaged header the next intact one is searched for, as GNU tar does.
What follows the end mark is not read, because no standard reader reads it, but it is a fault of the
archive.

The format: https://www.gnu.org/software/tar/manual/html_node/Standard.html, and "pax Interchange
Format" in https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from zlib import adler32

from imgnorm.sources.bytestream import FileBytes, GzipBytes
from imgnorm.sources.files import MAX_FILE_BYTES, too_large
from imgnorm.tally.skipped import Reason, Unreadable

BLOCK = 512
_ZEROS = bytes(BLOCK)
_MAX_HEADER = 1 << 20  # bytes of the name or the attributes of one member
_SEARCHED = 1 << 20  # bytes at a time

TarEntry = tuple[bytes, int, int, Unreadable | None]
"""Raw name, offset of the data, size, and why it cannot be read."""

_UNSAFE = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
}
_NOT_A_MEMBER = b"5DV"  # a directory, GNU's list of a directory, a volume's label
_FILE, _EXTENSION, _WITHOUT_DATA, _OTHER = range(4)  # roles of headers

_HEADER = struct.Struct("100s24x12s12x8s")  # name, size, checksum
_TAIL_AT = 156
_MAX_TAILS = 64  # a hostile archive has any number of them
_BLANKS = 8 * 0x20  # stand for the checksum in its own sum
_USED = (b"path", b"size", b"GNU.sparse.name")  # a hostile archive has any number of others

_Header = tuple[bytes, int, bytes, int]
"""Name, size, kind as the tar has it, role."""


class TarReader:
    """The members of one tar, once, from its beginning to its end."""

    def __init__(self, bytes_: FileBytes | GzipBytes, *, passing: bool = True) -> None:
        """
        Args:
            passing: check that all of a member's data exist; if not, the data can be read until the
                next entry is asked for.
        """
        self._bytes = bytes_
        self._passing = passing
        self.fault: Unreadable | None = None  # the archive's first, once all entries were read

    def entries(self) -> Iterator[TarEntry]:
        """The members, in the order of the archive."""
        headers, extensions = _Headers(), _Extensions()
        window, window_at, window_end = b"", 0, 0
        position = 0
        while True:
            if position + BLOCK > window_end:
                window, window_at = self._bytes.ahead(position), position
                window_end = window_at + len(window)
                if len(window) < BLOCK:
                    self._blame(_cut_off())
                    return
            at, data = position - window_at, position + BLOCK
            try:
                header = headers.header_at(at, window)
                if header is None:
                    if extensions.pending:
                        self._blame(_zero_block(position))
                        extensions.drop()
                    if self._at_end(position):
                        return
                    position = data
                    continue
                name, size, kind, role = header
                if role is _EXTENSION:
                    text = window[at + BLOCK : at + BLOCK + size]
                    extensions.add(kind, text if len(text) == size else self._text(data, size))
                    position = data + size + -size % BLOCK
                    continue
                sparse = kind == b"S"
                if extensions.pending or extensions.of_all:
                    name, size, sparse = extensions.applied(name, size, sparse)
            except _Cut:
                self._blame(_cut_off())
                return
            except ValueError:
                self._blame(_corrupt(f"damaged header at byte {position:,}"))
                following = self._next_header(data)
                if following is None:
                    return
                position = following
                extensions.drop()
                continue
            if kind == b"S":
                data = self._after_sparse_headers(window[at : at + BLOCK], data)
            position = data if role is _WITHOUT_DATA else data + size + -size % BLOCK
            if role is _FILE and not sparse and position <= window_end:
                if name[-1:] != b"/" or kind == b"7":
                    yield name, data, size, None
            elif kind not in _NOT_A_MEMBER and (name[-1:] != b"/" or kind not in b"0\0"):
                yield name, data, size, self._fault_of(kind, sparse, data, size)

    def _fault_of(self, kind: bytes, sparse: bool, data: int, size: int) -> Unreadable | None:
        if kind in _UNSAFE:
            return _unsafe(f"{_UNSAFE[kind]}, not a file")
        too_many = size > MAX_FILE_BYTES
        if (self._passing or too_many) and not self._bytes.reaches(data + size):
            return self._bytes.fault or Unreadable(
                Reason.ARCHIVE_TRUNCATED, f"the archive ends within its {size:,} bytes"
            )
        if sparse:
            return _unsafe("a sparse file; pack it without --sparse")
        if kind not in b"0\x007":
            return _unsafe(f"a member of unknown type {kind.decode('latin-1')!r}")
        return too_large(size) if too_many else None

    def _blame(self, fault: Unreadable) -> None:
        self.fault = self.fault or self._bytes.fault or fault

    def _text(self, data: int, size: int) -> bytes:
        if size > _MAX_HEADER:
            raise ValueError
        text = self._bytes.read(data, size)
        if len(text) < size:
            raise _Cut
        return text

    def _at_end(self, position: int) -> bool:
        """Whether the zero block at `position` ends the archive, correctly or not."""
        second = self._bytes.read(position + BLOCK, BLOCK)
        if len(second) < BLOCK:
            self._blame(
                Unreadable(
                    Reason.ARCHIVE_TRUNCATED,
                    f"one zero block at byte {position:,} ends it, where there should be two",
                )
            )
            return True
        if second != _ZEROS:
            self._blame(_zero_block(position))
            return False
        position += 2 * BLOCK
        while rest := self._bytes.read(position, _SEARCHED):
            if rest.count(0) < len(rest):
                start = position + len(rest) - len(rest.lstrip(b"\0"))
                self._blame(_corrupt(f"data follow the end of the archive at byte {start:,}"))
                if isinstance(self._bytes, FileBytes):
                    return True
            position += len(rest)  # a gzip stream is read up to its checksum
        if self._bytes.fault:
            self._blame(self._bytes.fault)
        return True

    def _next_header(self, position: int) -> int | None:
        """Where the next intact header is; only one with "ustar" is distinct from data."""
        while len(chunk := self._bytes.read(position, _SEARCHED)) >= BLOCK:
            found = chunk.find(b"ustar")
            while found >= 0:
                start = found - 257
                if start >= 0 and start % BLOCK == 0 and start + BLOCK <= len(chunk):
                    try:
                        _size_in(chunk[start : start + BLOCK])
                    except ValueError:
                        pass
                    else:
                        return position + start
                found = chunk.find(b"ustar", found + 1)
            position += len(chunk) // BLOCK * BLOCK
        return None

    def _after_sparse_headers(self, block: bytes, data: int) -> int:
        more = block[482:483]
        while more not in (b"", b"\0"):
            more = self._bytes.read(data, BLOCK)[504:505]
            data += BLOCK
        return data


def is_header(block: bytes) -> bool:
    """Whether an archive that starts like this is a tar, even a damaged one."""
    if len(block) < BLOCK:
        return False
    try:
        _size_in(block)
    except ValueError:
        return block[257:262] == b"ustar" or block == _ZEROS
    return True


class _Cut(Exception):
    """The archive ends within a header."""


class _Tail(NamedTuple):
    """A header from its kind on. Most members of an archive share theirs."""

    sum: int  # of its bytes, and of the blanks that stand for the checksum
    kind: bytes
    role: int
    folder: bytes  # the beginning of the name, with a slash


class _Headers:
    """Parses headers quickly: remembers the parts that most members of an archive share."""

    def __init__(self) -> None:
        self._tails: dict[bytes, _Tail] = {}
        self._raw_tail = b""  # of the last header
        self._tail: _Tail | None = None  # the same, parsed, if it is known
        self._extensions: tuple[bytes, ...] = ()  # the last header of an extension, if any
        self._extension: _Header = (b"", 0, b"", _EXTENSION)

    def header_at(self, at: int, window: bytes) -> _Header | None:
        """The header at this place of the window; None if it is a block of zeros.

        Raises:
            ValueError: it is damaged, or not a header.
        """
        if window.startswith(self._extensions, at):  # Python's tarfile repeats it for each member
            return self._extension
        raw_name, digits, checksum = _HEADER.unpack_from(window, at)
        if not window.startswith(self._raw_tail, at + _TAIL_AT):
            self._raw_tail = window[at + _TAIL_AT : at + BLOCK]
            self._tail = self._tails.get(self._raw_tail)
        tail, size = self._tail, None
        if tail is not None and checksum == _plain_checksum(
            (adler32(window[at : at + 148]) & 0xFFFF) + tail.sum
        ):
            size = _plain_number(digits)
        if tail is None or size is None:
            block = window[at : at + BLOCK]
            if block == _ZEROS:
                return None
            size, tail = _size_in(block), self._remembered(block[_TAIL_AT:])
        _, kind, role, folder = tail
        name, _, _ = raw_name.partition(b"\0")
        header = (folder + name if folder else name), size, kind, role
        if role is _EXTENSION:
            self._extensions, self._extension = (window[at : at + BLOCK],), header
        return header

    def _remembered(self, raw: bytes) -> _Tail:
        if len(self._tails) >= _MAX_TAILS:
            self._tails.clear()
        self._raw_tail = raw
        self._tail = self._tails[raw] = tail = _tail_of(raw)
        return tail


class _Extensions:
    """What comes before a member and changes its header: attributes of pax, and GNU's long names."""

    def __init__(self) -> None:
        self.pending = False  # a member must follow
        self.of_all: dict[bytes, bytes] = {}  # attributes of all members that follow
        self._attributes: dict[bytes, bytes] = {}  # of the next member
        self._long_name: bytes | None = None

    def add(self, kind: bytes, text: bytes) -> None:
        """Take what an extension's header says about members that follow.

        Raises:
            ValueError: the text is damaged.
        """
        if kind == b"x" and text.startswith(_mtime_alone(len(text))) and text[-1:] == b"\n":
            self._attributes = {}  # Python's tarfile writes nothing else for most members
        elif kind in b"xX":
            self._attributes = _records(text)
        elif kind == b"g":
            self.of_all |= _records(text)
        elif kind == b"L":  # K is the long target of a link, which is not needed
            self._long_name = text.partition(b"\0")[0]
        self.pending = self._long_name is not None or self._attributes != {}

    def drop(self) -> None:
        """Their member does not follow."""
        self.pending, self._attributes, self._long_name = False, {}, None

    def applied(self, name: bytes, size: int, sparse: bool) -> tuple[bytes, int, bool]:
        """The member's name and size, and whether it is sparse; `pending` ends.

        Raises:
            ValueError: its size is damaged.
        """
        attributes = {**self.of_all, **self._attributes}
        name = name if self._long_name is None else self._long_name
        self.drop()
        name = attributes.get(b"GNU.sparse.name", attributes.get(b"path", name))
        size = int(attributes.get(b"size", size))
        if size < 0:
            raise ValueError
        return name, size, sparse or any(key.startswith(b"GNU.sparse.") for key in attributes)


def _records(text: bytes) -> dict[bytes, bytes]:
    """The attributes in a pax header: lines of "length key=value", where the length is the line's.

    Raises:
        ValueError: it has another form.
    """
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(text) and text[position]:
        length, space, _ = text[position : position + 12].partition(b" ")
        end = position + (int(length) if length.isdigit() else 0)
        key, equals, value = text[position + len(length) + 1 : end - 1].partition(b"=")
        if end <= position or not space or not equals or end > len(text) or text[end - 1] != 0x0A:
            raise ValueError
        if key in _USED:
            records[key] = value
        elif key.startswith(b"GNU.sparse."):
            records[b"GNU.sparse."] = b""
        position = end
    return records


@lru_cache(1 << 6)
def _mtime_alone(size: int) -> bytes:
    """How a pax header of this size begins if the time is its only attribute."""
    return b"%d mtime=" % size


def _tail_of(raw: bytes) -> _Tail:
    kind, magic, prefix = raw[:1], raw[101:107], raw[189:344]
    folder = prefix.partition(b"\0")[0] + b"/" if prefix[0] and magic == b"ustar\0" else b""
    role = _OTHER
    if kind in b"0\x007":
        role = _FILE
    elif kind in b"LKxXg":
        role = _EXTENSION
    elif kind in _UNSAFE or kind == b"5":
        role = _WITHOUT_DATA
    return _Tail(_sum(raw) + _BLANKS - 1, kind, role, folder)


def _size_in(block: bytes) -> int:
    """The size that a header gives its member.

    Raises:
        ValueError: this is not a header, or a damaged one.
    """
    stored = _number(block[148:156])
    if stored != _sum(block[:148]) + _BLANKS + _sum(block[156:]) and stored != _signed_sum(block):
        raise ValueError
    return _number(block[124:136])


@lru_cache(1 << 12)
def _plain_checksum(total: int) -> bytes:
    """As nearly all tars write it."""
    return b"%06o\0 " % total


@lru_cache(1 << 12)
def _plain_number(field: bytes) -> int | None:
    """The number in eleven octal digits, as nearly all tars write it; None in another form.

    Raises:
        ValueError: these digits are not octal.
    """
    return int(field[:11], 8) if field[:11].isdigit() and field[11] in b"\0 " else None


def _number(field: bytes) -> int:
    """The number in octal digits, or in GNU's base 256.

    Raises:
        ValueError: it is neither, or negative.
    """
    if field[0] >= 0x80:
        if field[0] == 0xFF:
            raise ValueError
        return int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
    digits = field.strip(b" \0")
    if digits.isdigit():
        return int(digits, 8)
    if digits:
        raise ValueError
    return 0


def _sum(data: bytes) -> int:
    """The sum of at most 512 bytes.

    The lower half of Adler-32 is one more than the sum while that is below 65,521: so for 256 bytes.
    """
    return (adler32(data[:256]) & 0xFFFF) - 1 + (adler32(data[256:]) & 0xFFFF) - 1


def _signed_sum(block: bytes) -> int:
    """As some old tars add bytes up."""
    values: tuple[int, ...] = struct.unpack("148b8x356b", block)
    return sum(values) + _BLANKS


def _cut_off() -> Unreadable:
    return Unreadable(
        Reason.ARCHIVE_TRUNCATED, "it ends without its end mark, which is two zero blocks"
    )


def _zero_block(position: int) -> Unreadable:
    return _corrupt(f"a zero block in place of a header at byte {position:,}")


def _corrupt(detail: str) -> Unreadable:
    return Unreadable(Reason.ARCHIVE_CORRUPT, detail)


def _unsafe(detail: str) -> Unreadable:
    return Unreadable(Reason.ARCHIVE_ENTRY_UNSAFE, detail)
