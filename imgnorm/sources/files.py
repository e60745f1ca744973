"""Reading one file from disk, suspiciously: never waits, never trusts what the name says."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from imgnorm.errors import SourceError
from imgnorm.sources.names import for_message
from imgnorm.tally.skipped import Reason, Unreadable

MAX_FILE_BYTES = 2 << 30
"""Far above any image within the pixel limit; a larger file is not read into memory."""

IMG_EXTENSIONS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".ppm",
    ".bmp",
    ".pgm",
    ".tif",
    ".tiff",
    ".webp",
)
"""torchvision.datasets.folder.IMG_EXTENSIONS, in its order."""

_REASONS = {
    errno.ENOENT: Reason.VANISHED,
    errno.ENOTDIR: Reason.VANISHED,
    errno.EACCES: Reason.UNREADABLE,
    errno.EPERM: Reason.UNREADABLE,
    errno.ELOOP: Reason.SYMLINK_LOOP,
    errno.ENAMETOOLONG: Reason.PATH_TOO_LONG,
    errno.EISDIR: Reason.NOT_A_REGULAR_FILE,
    errno.ENXIO: Reason.NOT_A_REGULAR_FILE,  # a socket
}


_asked_before_reading: list[Callable[[int], None]] = []


def ask_before_reading(reserve: Callable[[int], None]) -> None:
    """Have `reserve` called in this process with the size of what is about to be read into memory.

    It may wait, or raise Unreadable.
    """
    _asked_before_reading[:] = [reserve]


def about_to_read(size: int) -> None:
    for reserve in _asked_before_reading:
        reserve(size)


def read_file(path: str) -> bytes:
    """The whole file.

    Raises:
        Unreadable: not a regular file, not readable, too large, or changed while it was read.
    """
    try:
        return _read(path)
    except OSError as error:
        if error.errno in _REASONS:
            raise unreadable(error) from error
    try:  # a passing fault of the storage: once more, then give up
        return _read(path)
    except OSError as error:
        raise unreadable(error) from error


def unreadable(error: OSError) -> Unreadable:
    reason = _REASONS.get(error.errno or 0, Reason.READ_ERROR)
    return Unreadable(reason, os.strerror(error.errno) if error.errno else str(error))


def refused(path: str, error: OSError) -> SourceError:
    """That a file which the user named cannot be read."""
    return SourceError(
        f"{for_message(path)}: cannot be read ({unreadable(error).detail}); see that you may read it, and "
        "that its storage answers"
    )


def open_regular(path: str) -> tuple[int, os.stat_result]:
    """A handle of a regular file, which the caller closes, and its status; waits for nothing.

    Raises:
        Unreadable: it is no regular file, or a link to nothing.
        OSError: it cannot be opened.
    """
    try:
        # Before opening: a FIFO would wait for a writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unreadable(Reason.NOT_A_REGULAR_FILE, "not a regular file")
        handle = os.open(path, os.O_RDONLY | _NONBLOCK | _BINARY)
    except FileNotFoundError as error:
        if os.path.islink(path):
            raise Unreadable(Reason.DANGLING_LINK, "a link to nothing") from error
        raise
    except ValueError as error:  # a NUL in the name
        raise Unreadable(Reason.UNREADABLE, str(error)) from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):  # it became something else in between
        os.close(handle)
        raise Unreadable(Reason.NOT_A_REGULAR_FILE, "not a regular file")
    return handle, status


def _read(path: str) -> bytes:
    handle, before = open_regular(path)
    try:
        if before.st_size > MAX_FILE_BYTES:
            raise too_large(before.st_size)
        about_to_read(before.st_size)
        data = os.read(
            handle, before.st_size + 1
        )  # a file object costs more than a tiny image's bytes
        while data and len(data) < before.st_size and (more := os.read(handle, before.st_size)):
            data += more
        after = os.fstat(handle)
    finally:
        os.close(handle)
    unchanged = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if not unchanged or len(data) != after.st_size:
        raise Unreadable(Reason.CHANGED_DURING_READ, "its size or time changed while it was read")
    return data


def too_large(size: int) -> Unreadable:
    return Unreadable(Reason.TOO_LARGE_FILE, f"{size:,} bytes; the limit is {MAX_FILE_BYTES:,}")


_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)


_JUNK_FOLDERS = {"__MACOSX", "@eaDir"}  # left behind by macOS archives and Synology


def rule_against(entry: str) -> str | None:
    """The rule that passes over a file or folder of this name (without its path), if there is one."""
    if entry.startswith("."):
        return "hidden"
    return "junk" if entry in _JUNK_FOLDERS else None


def looks_like_an_image(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS)
