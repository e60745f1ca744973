"""Where results go: looked at before the work, written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from imgnorm.errors import OutputError


def check_output(path: str, *, force: bool) -> None:
    """Find out now whether `path` can be written later, and leave no trace.

    Raises:
        OutputError: it exists (without `force`), is no regular file, or its folder takes no file.
    """
    if path in ("", "-"):
        raise OutputError(f"{path!r}: is no file; name one, or leave the option out and use `>`")
    target = os.path.realpath(path)
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise _refused(path, error) from error
    else:
        if stat.S_ISDIR(mode):
            raise OutputError(f"{path}: is a folder; name a file in it")
        if not stat.S_ISREG(mode):
            raise OutputError(f"{path}: is not a regular file; name one, or leave the option out")
        if not force:
            raise OutputError(
                f"{path}: exists already; replace it with --force, or name another file"
            )
    if not os.path.isdir(os.path.dirname(target)):
        raise OutputError(f"{path}: its folder does not exist; create it first")
    temporary = _temporary(target)
    try:
        os.close(_created(temporary))
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def write_whole(
    path: str,
    data: bytes,
    *,
    force: bool = True,
    check: Callable[[bytes], object] = lambda written: None,
) -> None:
    """Write a file so that a reader finds the old bytes or the new ones, never anything else.

    A temporary file in the same folder, flushed to the disk, read back, then renamed. A link is
    followed and kept; the permissions of a file that is replaced are kept.

    Args:
        force: replace a file that is there; without it, one that was made meanwhile is left alone.
        check: called with what was read back; raises if that is not what it should be.

    Raises:
        OutputError: the file cannot be written. What was there before is untouched, unless all went
            well up to the last step, the flush of the folder.
    """
    target = os.path.realpath(path)
    temporary = _temporary(target)
    try:
        with open(_created(temporary), "w+b") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            check(file.read())
        with suppress(OSError):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        _publish(temporary, target, force=force)
        _sync_folder(os.path.dirname(target))
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def _publish(temporary: str, target: str, *, force: bool) -> None:
    if force:
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)  # unlike a rename, fails where there is a file
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.replace(temporary, target)


def read_whole(path: str) -> bytes | None:
    """The bytes of a result that was written before; None if there is none.

    Raises:
        OutputError: there is something, but it cannot be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would wait for a writer
            raise OutputError(f"{path}: is not a regular file; name one")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({os.strerror(error.errno or 0)})") from error


def _temporary(target: str) -> str:
    """A name beside the target; hidden, so that a scan of this folder passes over it.

    Known before the file exists: a signal that ends us right after its creation leaves none behind.
    """
    return os.path.join(os.path.dirname(target), f".imgnorm-{os.urandom(8).hex()}.tmp")


def _created(temporary: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.open(temporary, flags, 0o666)


def _sync_folder(folder: str) -> None:
    if os.name == "nt":  # Windows has no handle of a folder to flush
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that takes files and shows none; the file itself is flushed
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that flush no folders
            raise
    finally:
        os.close(handle)


def _refused(path: str, error: OSError | ValueError) -> OutputError:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return OutputError(f"{path}: cannot be written ({reason}); name a place that can")
