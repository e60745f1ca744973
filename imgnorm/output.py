"""Files of results: checked before the work, then written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Literal

from imgnorm.errors import OutputError

if sys.platform != "win32":
    import fcntl

WRITTEN_BY = "Written by imgnorm"
"""It is in the first 1,000 bytes of all stats files, reports, tables in Parquet, and files of `emit`."""
FileKind = Literal[
    "stats file", "list of skipped images", "table of images", "report", "file of `imgnorm emit`"
]


def check_output(path: str, *, kind: FileKind | None = None, force: int) -> None:
    """Check whether `path` can be written later. Leaves no file behind.

    Args:
        kind: what will be written; None is another kind than those of imgnorm.
        force: how often --force is given: once replaces an empty file, or one of this kind that imgnorm
            wrote; twice any file, such as an image of the dataset or a module that somebody has written.

    Raises:
        OutputError: it exists (without `force`), is not a regular file, or cannot be created.
    """
    if path in ("", "-"):
        raise OutputError(f"{path!r}: is not a file; name one, or leave the option out and use `>`")
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
        present = _present(target)
        same = present is not None and present in ("", kind)
        if force < (1 if same else 2):
            exists, option = "exists already", "--force"
            if not same:
                other = f"is a {present}" if present else "imgnorm did not write it"
                exists, option = f"{exists}, and {other}", "--force --force"
            raise OutputError(f"{path}: {exists}; replace it with {option}, or name another file")
    if not os.path.isdir(os.path.dirname(target)):
        raise OutputError(f"{path}: its folder does not exist; create it first")
    temporary = _temporary_name(target)
    try:
        os.close(_create(temporary))
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def write_whole(path: str, data: bytes, *, force: bool = True) -> None:
    """Write a file as `whole_file` does.

    Raises:
        OutputError: as there.
    """
    with whole_file(path, force=force) as file:
        file.write(data)


@contextmanager
def whole_file(path: str, *, force: bool = True) -> Iterator[IO[bytes]]:
    """A file to be written so that a reader finds the old bytes or the new ones, never anything else.

    A temporary file in the same folder is written, flushed to the disk, then renamed, if the block raises
    nothing. A link is followed and kept; the permissions of a replaced file are kept. Temporary files that
    killed runs left for the same target are removed.

    Args:
        force: replace an existing file; without it, a file that was made since the check is kept.

    Raises:
        OutputError: the file cannot be written. The old file is untouched, unless only the last step
            failed, the flush of the folder.
    """
    target = os.path.realpath(path)
    temporary = _temporary_name(target)
    lock = None
    try:
        with open(_create(temporary), "wb") as file:
            if sys.platform != "win32":  # which renames no open file
                lock = os.dup(file.fileno())  # the file stays locked until it has its name
            yield file
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        _publish(temporary, target, force=force)
        _sync_folder(os.path.dirname(target))
        _remove_abandoned(target)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)
        if lock is not None:
            os.close(lock)


def read_whole(path: str) -> bytes | None:
    """The bytes of a result that was written earlier; None if there is none.

    Raises:
        OutputError: it exists, but cannot be read.
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


def _present(path: str) -> FileKind | Literal[""] | None:
    """What a file is that imgnorm wrote, by how it begins; "" if it is empty, None if it is foreign.

    Parquet has the mark at its end.
    """
    parquet = False
    try:
        with open(path, "rb") as file:
            start = file.read(1000)
            parquet = start.startswith(b"PAR1")
            if parquet:
                file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 16)))
                start = file.read()
    except OSError:
        return None
    mark = WRITTEN_BY.encode()
    if not start:
        return ""
    if start.startswith(b'{"name": ') and b', "reason": "' in start:
        return "list of skipped images"
    if start.startswith(b"name,class,format,mode,width,height,bytes,pixels"):
        return "table of images"
    if mark not in start:
        return None
    if parquet:
        return "table of images"
    if start.startswith(b"# " + mark + b". "):
        return "stats file"
    is_page = b'<meta name="generator" content="' + mark in start
    return "report" if is_page else "file of `imgnorm emit`"


def _publish(temporary: str, target: str, *, force: bool) -> None:
    if force:
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)  # unlike a rename, it fails if the target exists
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.replace(temporary, target)


def _temporary_name(target: str) -> str:
    """A name beside the target; hidden, so that a scan of this folder ignores it.

    It is known before the file exists, so that a signal right after the creation leaves no file behind.
    """
    return f"{_temporary_start(target)}{os.urandom(8).hex()}.tmp"


def _temporary_start(target: str) -> str:
    """How the names of all temporary files of a target begin."""
    folder, name = os.path.split(target)
    import hashlib  # loads OpenSSL, which workers have no need for

    return os.path.join(folder, f".imgnorm-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}-")


def _create(temporary: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        handle = os.open(temporary, flags, 0o666)
        if not _locked(handle, wait=True) or os.fstat(handle).st_nlink:
            return handle
        os.close(handle)  # another run saw it unlocked, took it for abandoned and removed it


def _locked(handle: int, *, wait: bool) -> bool:
    """Lock an open file until it is closed; the system unlocks it when its process dies.

    False if another process holds the lock, or if the system has none: Windows, some network drives.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_abandoned(target: str) -> None:
    """Remove the temporary files of a target that no living process has locked."""
    start = os.path.basename(_temporary_start(target))
    with suppress(OSError), os.scandir(os.path.dirname(target)) as entries:
        for entry in entries:
            if not (entry.name.startswith(start) and entry.name.endswith(".tmp")):
                continue
            with suppress(OSError):
                handle = os.open(entry.path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
                try:
                    if _locked(handle, wait=False):
                        os.unlink(entry.path)
                finally:
                    os.close(handle)


def _sync_folder(folder: str) -> None:
    if os.name == "nt":  # Windows cannot flush a folder
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # it may be written to but not read; the file itself is flushed
        return
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot flush folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _refused(path: str, error: OSError | ValueError) -> OutputError:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return OutputError(f"{path}: cannot be written ({reason}); name a place that can")
