"""A tar's members, read strictly: what the standard library passes over in silence is a fault here.

tarfile (and WebDataset with it) takes a damaged header, and a file that ends between two members, for
the end of the archive, and never looks behind the end. Here an archive ends with two zero blocks and
nothing but zeros behind them. After a damaged header the next whole one is searched for, as GNU tar
does. What follows the end mark is not read, since no standard reader does; the archive is at fault.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from zlib import adler32

from imgnorm.reasons import Reason, Unreadable
from imgnorm.sources.files import MAX_FILE_BYTES, too_large
from imgnorm.sources.tape import FileTape, Tape

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


class TarReader:
    """The members of one tar, once, from its beginning to its end."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.fault: Unreadable | None = None  # the archive's first, once all entries were read

    def entries(self, *, passing: bool = True) -> Iterator[Entry]:
        """
        Args:
            passing: look whether a member's data are all there; otherwise they can be read from the
                tape as long as the next entry is not asked for.
        """
        tape = self._tape
        everywhere: dict[bytes, bytes] = {}  # attributes of all members
        attributes: dict[bytes, bytes] = {}  # of the next one
        long_name: bytes | None = None
        position = 0
        while True:
            block = tape.block(position)
            if len(block) < BLOCK:
                self._blame(_cut_off())
                return
            if block == _ZEROS:
                if self._at_end(position):
                    return
                position += BLOCK
                continue
            try:
                size = _whole_header(block)
                kind = block[156:157]
                data = position + BLOCK
                if kind in b"LKxXg":
                    text = self._text(data, size)
                    if kind == b"L":
                        long_name = text.partition(b"\0")[0]
                    elif kind == b"g":
                        everywhere |= _records(text)
                    elif kind != b"K":  # a link's target concerns nobody
                        attributes = _records(text)
                    position = data + _padded(size)
                    continue
                attributes = {**everywhere, **attributes} if everywhere else attributes
                name = _name(block) if long_name is None else long_name
                sparse = kind == b"S"
                if attributes:
                    size = int(attributes.get(b"size", size))
                    name = attributes.get(b"path", name)
                    name = attributes.get(b"GNU.sparse.name", name)
                    sparse = sparse or any(key.startswith(b"GNU.sparse.") for key in attributes)
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
                position = following
                attributes, long_name = {}, None
                continue
            if attributes:
                attributes = {}
            long_name = None
            if kind == b"S":
                data = self._behind_sparse_headers(block, data)
            position = data + (0 if kind in _UNSAFE or kind == b"5" else _padded(size))
            if kind in _NO_MEMBER or (name[-1:] == b"/" and kind in b"0\0"):
                continue
            yield name, data, size, self._fault_of(kind, sparse, data, size, passing)

    def _fault_of(
        self, kind: bytes, sparse: bool, data: int, size: int, passing: bool
    ) -> Unreadable | None:
        if kind in _UNSAFE:
            return _unsafe(f"{_UNSAFE[kind]}, not a file")
        if passing and not self._tape.reaches(data + size):
            return self._tape.fault or Unreadable(
                Reason.ARCHIVE_TRUNCATED, f"the archive ends within its {size:,} bytes"
            )
        if sparse:
            return _unsafe("a sparse file; pack it without --sparse")
        if kind not in b"0\x007":
            return _unsafe(f"a member of unknown type {kind.decode('latin-1')!r}")
        return too_large(size) if size > MAX_FILE_BYTES else None

    def _blame(self, fault: Unreadable) -> None:
        self.fault = self.fault or self._tape.fault or fault

    def _text(self, data: int, size: int) -> bytes:
        if size > _MAX_HEADER:
            raise ValueError
        text = self._tape.read(data, size)
        if len(text) < size:
            raise _Cut
        return text

    def _at_end(self, position: int) -> bool:
        """Whether a zero block is the end, as it should be or not."""
        second = self._tape.block(position + BLOCK)
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
        while rest := self._tape.read(position, _SEARCHED):
            if rest.count(0) < len(rest):
                start = position + len(rest) - len(rest.lstrip(b"\0"))
                self._blame(_corrupt(f"data follow the end of the archive at byte {start:,}"))
                if isinstance(self._tape, FileTape):
                    return True
            position += len(rest)  # a stream is read to its checksum
        if self._tape.fault:
            self._blame(self._tape.fault)
        return True

    def _next_header(self, position: int) -> int | None:
        """Where the next whole header is; only those that say "ustar" can be told from data."""
        while len(chunk := self._tape.read(position, _SEARCHED)) >= BLOCK:
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
            more = self._tape.block(data)[504:505]
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
    # Adler-32's lower half is 1 + the sum of the bytes, as long as it stays below 65,521.
    total = (
        (adler32(block[:256]) & 0xFFFF)
        + (adler32(block[256:]) & 0xFFFF)
        - (adler32(block[148:156]) & 0xFFFF)
        - 1
        + 8 * 0x20
    )
    if stored != total and stored != _signed_sum(block):
        raise ValueError
    return _number(block[124:136])


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
    return sum(values) + 8 * 0x20


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


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    if block[345] and block[257:263] == b"ustar\0":
        return block[345:500].partition(b"\0")[0] + b"/" + name
    return name


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
        if not space or not equals or end > len(text) or text[end - 1] != 0x0A:
            raise ValueError
        if key in _USED:
            records[key] = value
        elif key.startswith(b"GNU.sparse."):
            records[b"GNU.sparse."] = b""
        position = end
    return records


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _cut_off() -> Unreadable:
    return Unreadable(
        Reason.ARCHIVE_TRUNCATED, "it ends without its end mark, which is two zero blocks"
    )


def _corrupt(detail: str) -> Unreadable:
    return Unreadable(Reason.ARCHIVE_CORRUPT, detail)


def _unsafe(detail: str) -> Unreadable:
    return Unreadable(Reason.ARCHIVE_ENTRY_UNSAFE, detail)
