"""The bytes of an archive by their offset: a file's in any order, or a gzip stream's forward only."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable

from imgnorm.tally.skipped import Reason, Unreadable

_WINDOW = 1 << 16  # bytes that are read at once where reads follow one another
_NEAR = 1 << 13  # reads at most this far apart follow one another
_CHUNK = 1 << 18
_SMALL_STEP = 1 << 9

FREE_EXPANSION = 1 << 30
MAX_EXPANSION = 200
"""A gzip stream may expand to 1 GiB plus 200 times its size: images hardly compress at all."""


def no_heartbeat() -> None:
    """Called while seeking takes long; does nothing by default."""


class FileBytes:
    """The bytes of a file. Never mapped into memory: a file that shrinks would kill the process."""

    def __init__(self, handle: int, still_alive: Callable[[], None]) -> None:
        self.size = os.fstat(handle).st_size
        self.fault: Unreadable | None = None  # why it ends where it ends
        self._handle = handle
        self._still_alive = still_alive
        self._window = b""
        self._window_at = -1 - _NEAR  # so that no offset is near it

    def read(self, offset: int, size: int) -> bytes:
        """Fewer bytes only at the end. Small reads are cheap where each is close to the one before."""
        start = offset - self._window_at
        if start < 0 or start + size > len(self._window):
            if size > _NEAR:
                return self._at(offset, size)
            self._look(offset, size)
            start = 0
        return self._window[start : start + size]

    def fill(self, offset: int, room: memoryview) -> int:
        """Read into `room`; returns how many bytes, fewer than fit only at the end."""
        if not hasattr(os, "preadv"):
            data = self._at(offset, len(room))
            room[: len(data)] = data
            return len(data)
        done = 0
        while done < len(room) and (more := os.preadv(self._handle, [room[done:]], offset + done)):
            done += more
        return done

    def ahead(self, offset: int) -> bytes:
        """At least 512 bytes, fewer only at the end; more if `offset` is close to the last one."""
        start = offset - self._window_at
        if not 0 <= start <= len(self._window) - 512:
            self._look(offset, 512)
            self._still_alive()
            start = 0
        return self._window[start:]

    def reaches(self, offset: int) -> bool:
        """Whether the file has at least this many bytes."""
        return offset <= self.size

    def _look(self, offset: int, size: int) -> None:
        near = 0 <= offset - self._window_at <= len(self._window) + _NEAR
        self._window = self._at(offset, _WINDOW if near else size)
        self._window_at = offset

    def _at(self, offset: int, size: int) -> bytes:
        if offset >= self.size:  # or it may be too large for `pread`
            return b""
        data = _read_at(self._handle, size, offset)
        while len(data) < min(size, self.size - offset):
            more = _read_at(self._handle, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data


class GzipBytes:
    """What a gzip file expands to, read forward.

    Offsets may only grow, except within what the last `read` returned.
    """

    def __init__(self, handle: int, still_alive: Callable[[], None]) -> None:
        self.fault: Unreadable | None = None  # why it ends where it ends
        self.distrusted = False  # a checksum is wrong, so any byte may be wrong
        self._handle = handle
        self._still_alive = still_alive
        self.consumed = 0  # compressed bytes that were read
        self._expanded = 0
        self._step = _CHUNK
        self._inflate = zlib.decompressobj(31)
        self._buffer = b""
        self._at = 0  # the buffer's offset

    def read(self, offset: int, size: int) -> bytes:
        """Fewer bytes only at the end."""
        assert self._at <= offset, "a gzip stream cannot be read backwards"
        if not self.reaches(offset):
            return b""
        start = offset - self._at
        if start + size > len(self._buffer):
            parts = [self._buffer[start:]]
            length = len(parts[0])
            while length < size and (more := self._more()):
                parts.append(more)
                length += len(more)
            self._buffer, self._at, start = b"".join(parts), offset, 0
        return self._buffer[start : start + size]

    def is_past(self, offset: int) -> bool:
        """Whether the bytes at `offset` were forgotten."""
        return offset < self._at

    def ahead(self, offset: int) -> bytes:
        """At least 512 bytes, fewer only at the end; more if they are in the buffer already."""
        self.read(offset, 512)
        return self._buffer[max(0, offset - self._at) :]

    def reaches(self, offset: int) -> bool:
        """Whether it has at least this many bytes; expands, and forgets, all bytes before them."""
        while self._at + len(self._buffer) < offset:
            more = self._more()
            if not more:
                return False
            self._at += len(self._buffer)
            self._buffer = more
        return True

    def _more(self) -> bytes:
        """The next piece; empty at the end."""
        self._still_alive()
        try:
            while self.fault is None:
                if self._inflate.eof and not self._at_next_stream():
                    break
                data = self._inflate.unconsumed_tail or self._input()
                more = self._inflated(data)
                if more:
                    return more if self._expands(len(more)) else b""
                if not data and not self._inflate.eof:
                    self.fault = Unreadable(Reason.ARCHIVE_TRUNCATED, "its gzip stream is cut off")
        except zlib.error as error:
            self.distrusted = "incorrect data check" in str(error)
            what = "the checksum is wrong" if self.distrusted else "not decompressible"
            self.fault = Unreadable(
                Reason.ARCHIVE_CORRUPT, f"damaged gzip stream near byte {self.consumed:,}: {what}"
            )
        return b""

    def _inflated(self, data: bytes) -> bytes:
        """
        Raises:
            zlib.error: the stream is damaged, within the next few bytes.
        """
        before = self._inflate.copy()
        try:
            return self._inflate.decompress(data, self._step)
        except zlib.error:
            if self._step == _SMALL_STEP:
                raise
        # A call that runs into damage loses what it expanded before: repeat it in small steps.
        self._inflate, self._step = before, _SMALL_STEP
        return self._inflated(data)

    def _at_next_stream(self) -> bool:
        """Several gzip streams in a row count as one (RFC 1952); zeros after them are padding."""
        rest = self._inflate.unused_data
        while not (rest := rest.lstrip(b"\0")):
            rest = self._input()
            if not rest:
                return False
        if len(rest) < 2:
            rest += self._input()
        if not rest.startswith(b"\x1f\x8b"):
            self.fault = Unreadable(
                Reason.ARCHIVE_CORRUPT, "data follow the end of the gzip stream"
            )
            return False
        self.consumed -= len(rest)  # read again, as the input of that stream
        self._inflate = zlib.decompressobj(31)
        return True

    def _input(self) -> bytes:
        data = _read_at(self._handle, _CHUNK, self.consumed)
        self.consumed += len(data)
        return data

    def _expands(self, size: int) -> bool:
        """Whether `size` more bytes are within the limit of expansion."""
        self._expanded += size
        if self._expanded <= FREE_EXPANSION + MAX_EXPANSION * self.consumed:
            return True
        self.fault = Unreadable(
            Reason.ARCHIVE_ENTRY_UNSAFE, f"its gzip stream expands more than {MAX_EXPANSION} times"
        )
        return False


def _read_at(handle: int, size: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(handle, size, offset)
    os.lseek(handle, offset, os.SEEK_SET)
    return os.read(handle, size)
