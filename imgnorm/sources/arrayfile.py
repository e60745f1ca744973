"""One .npy or .npz file, open: the bytes of its arrays, also those that are compressed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator

from imgnorm.sources.bytestream import FileBytes, no_heartbeat
from imgnorm.sources.files import open_regular
from imgnorm.sources.zip import DEFLATE, STORED, PackedMember, ZipReader
from imgnorm.tally.skipped import Reason, Unreadable

_CHUNK = 1 << 18
_WINDOW = 1 << 20
_NEAR = 1 << 14  # reading this many unneeded bytes takes less time than another call


class ArrayFile:
    """One .npy or .npz file, open.

    Raises:
        Unreadable: it is not a regular file.
        OSError: it cannot be read.
    """

    def __init__(self, path: str, still_alive: Callable[[], None] = no_heartbeat) -> None:
        self._handle, _ = open_regular(path)
        self._still_alive = still_alive
        self._stream: _Inflating | None = None
        try:
            self.bytes = FileBytes(self._handle, still_alive)
            self.version = self.version_now()
            self.is_zip = self.bytes.read(0, 2) == b"PK"
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._handle)

    def version_now(self) -> tuple[int, int]:
        status = os.fstat(self._handle)
        return status.st_size, status.st_mtime_ns

    def members(self) -> Iterator[tuple[str, PackedMember | None, Unreadable | None]]:
        """The arrays in a zip: name without .npy, place, and the fault if it cannot be read."""
        reader = ZipReader(self.bytes)
        entries = list(reader.entries())
        if reader.fault:
            raise reader.fault
        for raw, place, _, fault in entries:
            name = raw.decode("utf-8", "backslashreplace")
            # A large one is fine here: it is not read as a whole.
            if fault and fault.reason is not Reason.TOO_LARGE_FILE:
                yield name.removesuffix(".npy"), None, fault
                continue
            packed = reader.packed(place)
            if packed.method not in (STORED, DEFLATE):
                fault = Unreadable(
                    Reason.ARCHIVE_UNSUPPORTED_COMPRESSION,
                    "neither stored nor deflated; save it with np.savez",
                )
                yield name.removesuffix(".npy"), None, fault
            else:
                yield name.removesuffix(".npy"), packed, None

    def bytes_of(
        self, packed: PackedMember | None, offset: int, size: int, *, short: bool = False
    ) -> bytes:
        """`size` bytes of an array.

        Args:
            packed: the array in a zip; None: the array is the file.
            offset: in the array, from the beginning of its header.
            short: at the end, fewer bytes are fine.

        Raises:
            Unreadable: there are fewer bytes, or they are damaged.
        """
        if packed is None:
            data = self.bytes.read(offset, size)
        elif packed.method == STORED:
            size = max(0, min(size, packed.size - offset)) if short else size
            data = self.bytes.read(packed.start + offset, size)
        else:
            if self._stream is None or not self._stream.leads_to(packed, offset):
                self._stream = _Inflating(self.bytes, packed, self._still_alive)
            data = self._stream.read(offset, size)
        if len(data) < size and not short:
            raise _shorter()
        return data

    def fill(self, packed: PackedMember | None, offset: int, room: memoryview) -> None:
        """Fill `room` with what `bytes_of` returns, if possible without a copy.

        Raises:
            Unreadable: as `bytes_of`.
        """
        if packed is None or packed.method == STORED:
            start = packed.start if packed else 0
            if self.bytes.fill(start + offset, room) < len(room):
                raise _shorter()
        else:
            room[:] = self.bytes_of(packed, offset, len(room))

    def strided(
        self, packed: PackedMember | None, offset: int, width: int, gap: int, rows: int
    ) -> bytes:
        """The first `width` bytes of every `gap`, `rows` times: images scattered over an array.

        Read, not mapped into memory: then a file that shrinks would kill the process.
        """
        at_once = max(1, _WINDOW // gap) if gap - width < _NEAR else 1
        parts = []
        for row in range(0, rows, at_once):
            many = min(at_once, rows - row)
            size = (many - 1) * gap + width
            parts.append(_picked(self.bytes_of(packed, offset + row * gap, size), width, gap, many))
            self._still_alive()
        return b"".join(parts)

    def check(self, packed: PackedMember) -> None:
        """Compare the member's bytes with its checksum.

        Raises:
            Unreadable: they do not fit it, or some are missing.
        """
        checksum = position = 0
        while position < packed.size:
            data = self.bytes_of(packed, position, min(_CHUNK, packed.size - position), short=True)
            if not data:
                break
            checksum = zlib.crc32(data, checksum)
            position += len(data)
        if position < packed.size:
            raise Unreadable(
                Reason.ARCHIVE_TRUNCATED, f"it has {position:,} of its {packed.size:,} bytes"
            )
        if checksum != packed.checksum:
            raise Unreadable(Reason.ARCHIVE_CORRUPT, "its checksum is wrong")


class _Inflating:
    """A deflated member, read forward only."""

    def __init__(
        self, bytes_: FileBytes, packed: PackedMember, still_alive: Callable[[], None]
    ) -> None:
        self._bytes = bytes_
        self._packed = packed
        self._still_alive = still_alive
        self._inflate = zlib.decompressobj(-15)
        self._next = packed.start
        self._position = 0  # of the next byte to expand

    def leads_to(self, packed: PackedMember, offset: int) -> bool:
        return packed == self._packed and offset >= self._position

    def read(self, offset: int, size: int) -> bytes:
        while self._position < offset:
            if not self._more(min(_CHUNK, offset - self._position)):
                return b""
        parts = []
        left = size
        while left and (data := self._more(left)):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def _more(self, at_most: int) -> bytes:
        end = self._packed.start + self._packed.packed
        data = b""
        while not data and not self._inflate.eof:
            source = self._inflate.unconsumed_tail
            if not source:
                source = self._bytes.read(self._next, min(_CHUNK, end - self._next))
                self._next += len(source)
                self._still_alive()
            if not source:
                break
            try:
                data = self._inflate.decompress(source, at_most)
            except zlib.error as error:
                raise Unreadable(
                    Reason.ARCHIVE_CORRUPT, f"it cannot be decompressed ({error})"
                ) from error
        self._position += len(data)
        return data


def _shorter() -> Unreadable:
    return Unreadable(Reason.CHANGED_DURING_READ, "the file became shorter while it was measured")


def _picked(data: bytes, width: int, gap: int, rows: int) -> bytes:
    if width == gap:
        return data
    if rows <= width:
        return b"".join(data[start : start + width] for start in range(0, rows * gap, gap))
    picked = bytearray(rows * width)
    for column in range(width):  # there are fewer columns than rows
        picked[column::width] = data[column::gap]
    return bytes(picked)
