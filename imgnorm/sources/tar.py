"""A tar's members, read strictly: what the standard library passes over in silence is a fault here.

tarfile (and WebDataset with it) takes a damaged header, and a file that ends between two members, for
the end of the archive, and never looks behind the end. Here an archive ends with two zero blocks and
nothing but zeros behind them. After a damaged header the next whole one is searched for, as GNU tar
does. What follows the end mark is not read, since no standard reader does; the archive is at fault.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from zlib import adler32

from imgnorm.sources.bytestream import FileBytes, GzipBytes
from imgnorm.sources.files import MAX_FILE_BYTES, too_large
from imgnorm.tally.skipped import Reason, Unreadable

BLOCK = 512
_ZEROS = bytes(BLOCK)
_MAX_HEADER = 1 << 20  # of a name or the attributes of one member
_SEARCHED = 1 << 20

Entry = tuple[bytes, int, int, Unreadable | None]
"""Raw name, offset of the data, size, and why it cannot be read."""

_UNSAFE = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
}
_NO_MEMBER = b"5DV"  # a directory, GNU's list of one, a volume's label

_HEADER = struct.Struct("100s24x12s12x8s")  # name, size, checksum
_KIND_AT = 156
_MAX_KNOWN = 64  # a hostile archive has other ones without end
_Rest = tuple[int, bytes, int, bytes]
"""What a header says from its kind on: the sum of its bytes, with blanks for the checksum; the kind;
one of the roles below; the beginning of the name. Most members of an archive share theirs."""
_FILE, _EXTENDS, _HOLLOW, _OTHER = range(4)
_UNKNOWN: _Rest = (0, b"", _OTHER, b"")


class TarReader:
    """The members of one tar, once, from its beginning to its end."""

    def __init__(self, bytes_: FileBytes | GzipBytes) -> None:
        self._bytes = bytes_
        self.fault: Unreadable | None = None  # the archive's first, once all entries were read
        self.began = 0  # where the headers of the last entry do
        self.apart = True  # what an entry is does not depend on those before it

    def entries(self, start: int = 0, *, passing: bool = True) -> Iterator[Entry]:
        """
        Args:
            start: where the headers of an entry begin; they must be `apart`.
            passing: look whether a member's data are all there; otherwise they can be read from the
                bytes until the next entry is asked for.
        """
        everywhere: dict[bytes, bytes] = {}  # attributes of all members
        attributes: dict[bytes, bytes] = {}  # of the next one
        long_name: bytes | None = None
        known: dict[bytes, _Rest] = {}
        rest, said = b"", _UNKNOWN  # of the last header
        repeated: tuple[bytes, ...] = ()  # the last header that told of a member to come
        repeated_size, repeated_said = 0, _UNKNOWN
        position = began = held_at = held_end = start
        held = b""
        while True:
            if position + BLOCK > held_end:
                held, held_at = self._bytes.ahead(position), position
                held_end = held_at + len(held)
                if len(held) < BLOCK:
                    self._blame(_cut_off())
                    return
            at = position - held_at
            try:
                if held.startswith(repeated, at):  # as Python's tarfile writes it for each member
                    size, (_, kind, role, folder) = repeated_size, repeated_said
                else:
                    raw_name, digits, checksum = _HEADER.unpack_from(held, at)
                    if not held.startswith(rest, at + _KIND_AT):
                        rest = held[at + _KIND_AT : at + BLOCK]
                        said = known.get(rest, _UNKNOWN)
                    plain_size = None
                    if said is not _UNKNOWN and checksum == _checksum(
                        (adler32(held[at : at + 148]) & 0xFFFF) + said[0]
                    ):
                        plain_size = _plain_number(digits)
                    if plain_size is not None:
                        size = plain_size
                    else:
                        block = held[at : at + BLOCK]
                        if block == _ZEROS:
                            if attributes or long_name is not None:  # of a member to come
                                self._blame(
                                    _corrupt(
                                        f"a zero block in place of a header at byte {position:,}"
                                    )
                                )
                                attributes, long_name = {}, None
                            if self._at_end(position):
                                return
                            position = began = position + BLOCK
                            continue
                        size, rest = _whole_header(block), block[_KIND_AT:]
                        if len(known) >= _MAX_KNOWN:
                            known.clear()
                        said = known[rest] = _rest_of(rest)
                    _, kind, role, folder = said
                    if role is _EXTENDS:
                        repeated = (held[at : at + BLOCK],)
                        repeated_size, repeated_said = size, said
                data = position + BLOCK
                if role is _EXTENDS:
                    text_at, text_end = at + BLOCK, at + BLOCK + size
                    if (
                        kind == b"x"
                        and held.startswith(_mtime_alone(size), text_at)
                        and held[text_end - 1 : text_end] == b"\n"
                    ):
                        attributes = {}  # all that Python's tarfile writes there
                    else:
                        text = held[text_at:text_end]
                        if len(text) < size:
                            text = self._text(data, size)
                        if kind in b"xX":
                            attributes = _records(text)
                        elif kind == b"g":
                            everywhere |= _records(text)
                            self.apart = not everywhere
                        elif kind == b"L":  # K is a link's target, which concerns nobody
                            long_name = text.partition(b"\0")[0]
                    position = data + size + -size % BLOCK
                    continue
                name, _, _ = raw_name.partition(b"\0")
                if folder:
                    name = folder + name
                if long_name is not None:
                    name, long_name = long_name, None
                sparse = kind == b"S"
                if attributes or everywhere:
                    attributes = {**everywhere, **attributes}
                    size = int(attributes.get(b"size", size))
                    name = attributes.get(b"path", name)
                    name = attributes.get(b"GNU.sparse.name", name)
                    sparse = sparse or any(key.startswith(b"GNU.sparse.") for key in attributes)
                    attributes = {}
                    if size < 0:
                        raise ValueError
            except _Cut:
                self._blame(_cut_off())
                return
            except ValueError:
                self._blame(_corrupt(f"damaged header at byte {position:,}"))
                following = self._next_header(position + BLOCK)
                if following is None:
                    return
                position = began = following
                attributes, long_name = {}, None
                continue
            if kind == b"S":
                data = self._behind_sparse_headers(held[at : at + BLOCK], data)
            self.began = began
            position = began = data if role is _HOLLOW else data + size + -size % BLOCK
            if role is _FILE and not sparse and position <= held_end:
                if name[-1:] != b"/" or kind == b"7":
                    yield name, data, size, None
            elif kind not in _NO_MEMBER and (name[-1:] != b"/" or kind not in b"0\0"):
                yield name, data, size, self._fault_of(kind, sparse, data, size, passing)

    def _fault_of(
        self, kind: bytes, sparse: bool, data: int, size: int, passing: bool
    ) -> Unreadable | None:
        if kind in _UNSAFE:
            return _unsafe(f"{_UNSAFE[kind]}, not a file")
        if passing and not self._bytes.reaches(data + size):
            return self._bytes.fault or Unreadable(
                Reason.ARCHIVE_TRUNCATED, f"the archive ends within its {size:,} bytes"
            )
        if sparse:
            return _unsafe("a sparse file; pack it without --sparse")
        if kind not in b"0\x007":
            return _unsafe(f"a member of unknown type {kind.decode('latin-1')!r}")
        return too_large(size) if size > MAX_FILE_BYTES else None

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
        """Whether a zero block is the end, as it should be or not."""
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
            self._blame(_corrupt(f"a zero block in place of a header at byte {position:,}"))
            return False
        position += 2 * BLOCK
        while rest := self._bytes.read(position, _SEARCHED):
            if rest.count(0) < len(rest):
                start = position + len(rest) - len(rest.lstrip(b"\0"))
                self._blame(_corrupt(f"data follow the end of the archive at byte {start:,}"))
                if isinstance(self._bytes, FileBytes):
                    return True
            position += len(rest)  # a stream is read to its checksum
        if self._bytes.fault:
            self._blame(self._bytes.fault)
        return True

    def _next_header(self, position: int) -> int | None:
        """Where the next whole header is; only those that say "ustar" can be told from data."""
        while len(chunk := self._bytes.read(position, _SEARCHED)) >= BLOCK:
            found = chunk.find(b"ustar")
            while found >= 0:
                start = found - 257
                if start >= 0 and start % BLOCK == 0 and start + BLOCK <= len(chunk):
                    try:
                        _whole_header(chunk[start : start + BLOCK])
                    except ValueError:
                        pass
                    else:
                        return position + start
                found = chunk.find(b"ustar", found + 1)
            position += len(chunk) // BLOCK * BLOCK
        return None

    def _behind_sparse_headers(self, block: bytes, data: int) -> int:
        more = block[482:483]
        while more not in (b"", b"\0"):
            more = self._bytes.read(data, BLOCK)[504:505]
            data += BLOCK
        return data


class _Cut(Exception):
    """The archive ends within a header."""


def _whole_header(block: bytes) -> int:
    """The size of the member.

    Raises:
        ValueError: this is no header, or a damaged one.
    """
    stored = _number(block[148:156])
    if stored != _sum(block[:148]) + _BLANKS + _sum(block[156:]) and stored != _signed_sum(block):
        raise ValueError
    return _number(block[124:136])


@lru_cache(1 << 12)
def _checksum(total: int) -> bytes:
    """As nearly all tars have it."""
    return b"%06o\0 " % total


@lru_cache(1 << 12)
def _plain_number(field: bytes) -> int | None:
    """Eleven octal digits, as nearly all tars have them; None of another form.

    Raises:
        ValueError: these digits are not octal.
    """
    return int(field[:11], 8) if field[:11].isdigit() and field[11] in b"\0 " else None


@lru_cache(1 << 6)
def _mtime_alone(size: int) -> bytes:
    """How an extended header of this size begins that holds nothing else."""
    return b"%d mtime=" % size


_BLANKS = 8 * 0x20  # stand in for the checksum in its own sum


def _sum(data: bytes) -> int:
    """The sum of at most 512 bytes: the lower half of Adler-32 is one more, while that is below 65,521."""
    return (adler32(data[:256]) & 0xFFFF) - 1 + (adler32(data[256:]) & 0xFFFF) - 1


def _rest_of(rest: bytes) -> _Rest:
    kind, magic, prefix = rest[:1], rest[101:107], rest[189:344]
    folder = prefix.partition(b"\0")[0] + b"/" if prefix[0] and magic == b"ustar\0" else b""
    role = _OTHER
    if kind in b"0\x007":
        role = _FILE
    elif kind in b"LKxXg":
        role = _EXTENDS
    elif kind in _UNSAFE or kind == b"5":
        role = _HOLLOW
    return _sum(rest) + _BLANKS - 1, kind, role, folder


def is_header(block: bytes) -> bool:
    """Whether an archive that starts like this is a tar, be it a damaged one."""
    if len(block) < BLOCK:
        return False
    try:
        _whole_header(block)
    except ValueError:
        return block[257:262] == b"ustar" or block == _ZEROS
    return True


def _signed_sum(block: bytes) -> int:
    """As some tars of old add bytes up."""
    values: tuple[int, ...] = struct.unpack("148b8x356b", block)
    return sum(values) + _BLANKS


def _number(field: bytes) -> int:
    """Octal digits, or GNU's base 256.

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


_USED = (b"path", b"size", b"GNU.sparse.name")  # a hostile archive has others without end


def _records(text: bytes) -> dict[bytes, bytes]:
    """The attributes in an extended header: lines of "length key=value", the length theirs.

    Raises:
        ValueError: it is not of that form.
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


def _cut_off() -> Unreadable:
    return Unreadable(
        Reason.ARCHIVE_TRUNCATED, "it ends without its end mark, which is two zero blocks"
    )


def _corrupt(detail: str) -> Unreadable:
    return Unreadable(Reason.ARCHIVE_CORRUPT, detail)


def _unsafe(detail: str) -> Unreadable:
    return Unreadable(Reason.ARCHIVE_ENTRY_UNSAFE, detail)
