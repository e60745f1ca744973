"""Which names are images, and reading one file carefully: it never waits, and never trusts a name."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imgnorm.errors import SourceError
from imgnorm.sources.patterns import Patterns
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.wording import printable

MAX_FILE_BYTES = 2 << 30
"""Far above any image within the pixel limit; a larger file is not read into memory."""

IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""torchvision.datasets.folder.IMG_EXTENSIONS, in its order."""

FORMAT_EXTENSIONS = (
    *(".gif", ".avif", ".jp2", ".j2k", ".jpx", ".jpc", ".qoi"),
    *(".jfif", ".jpe", ".apng", ".pbm", ".pnm", ".dib"),
)
"""Extensions of formats that are read, which ImageFolder leaves out: read where there are no others."""

_UNREAD_EXTENSIONS = {
    *(".heic", ".heif", ".hif", ".jxl", ".psd", ".tga", ".exr", ".hdr", ".dcm", ".svs", ".ndpi"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
}
"""Extensions of images that are in no format that is read."""

_RECIPES = {
    "Parquet": (".parquet", ".arrow", ".feather"),
    "Tensors of torch": (".pt", ".pth"),
    "HDF5": (".h5", ".hdf5"),
    "LMDB": (".mdb", ".lmdb"),
    "Video": (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"),
    "DICOM": (".dcm", ".dicom"),
    "HEIC": (".heic", ".heif", ".hif"),
}
"""Section of docs/recipes.md that reads files with these extensions."""
URLS = "URLs and object stores"
"""Another section."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

SUFFIX = "suffix"
"""The rule against files whose extension is not one of an image; `suffix .heic` if it is one of an image."""

_JUNK_FOLDERS = {"__MACOSX", "@eaDir"}  # left behind by macOS archives and Synology
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0)
    for name in (
        "O_NONBLOCK",  # a FIFO without a writer would be waited for
        "O_NOCTTY",  # a terminal must not become ours
        "O_BINARY",
    )
)
_REASONS = {
    errno.ENOENT: Reason.VANISHED,
    errno.ENOTDIR: Reason.VANISHED,
    errno.EACCES: Reason.UNREADABLE,
    errno.EPERM: Reason.UNREADABLE,
    errno.ELOOP: Reason.SYMLINK_LOOP,
    errno.ENAMETOOLONG: Reason.PATH_TOO_LONG,
    errno.EISDIR: Reason.NOT_A_REGULAR_FILE,
}

_asked_before_reading: list[Callable[[int], None]] = []  # in a worker: its budget of memory
HEADER_BYTES = 1 << 15
"""The header of an image, which has its size, is rarely longer."""
_wanted = MAX_FILE_BYTES  # how many bytes of each image are read


def looks_like_an_image(name: str) -> bool:
    """By its extension."""
    return name.lower().endswith(IMG_EXTENSIONS)


def way_to_read(name: str) -> str | None:
    """What to do to measure a URL or a file of a kind that no source opens: the end of a message.

    Returns:
        None if it is neither.
    """
    if name.startswith("file://"):
        return "is a URL of a file here; leave file:// out"
    if _URL.match(name):
        return (
            "is a URL, and imgnorm reads files; copy the files to this machine or mount their store, or read "
            f"them by a Dataset of yours and --dataset: {URLS!r} in docs/recipes.md shows how"
        )
    for recipe, extensions in _RECIPES.items():
        if name.lower().endswith(extensions):
            return (
                "is read by a Dataset of yours of a few lines; give that to --dataset or to imgnorm.measure: "
                f"{recipe!r} in docs/recipes.md shows how"
            )
    return None


def rule_against(entry: str) -> str | None:
    """The rule by which a file or folder of this name (without its path) is ignored, if any."""
    if entry.startswith("."):
        return "hidden"
    return "junk" if entry in _JUNK_FOLDERS else None


def rule_against_file(name: str, patterns: Patterns) -> str | None:
    """The rule by which a file that is neither hidden nor junk is ignored, if any.

    Args:
        name: its path below the top.
    """
    image = looks_like_an_image(name)
    if patterns.choose_all:
        return None if image else _extension_rule(name)
    if patterns.excludes(name):
        return "exclude"
    if not patterns.includes(name):
        return "include"
    return None if image or patterns.names_extension_of(name) else _extension_rule(name)


def _extension_rule(name: str) -> str:
    extension = os.path.splitext(name)[1].lower()
    known = extension in FORMAT_EXTENSIONS or extension in _UNREAD_EXTENSIONS
    return f"{SUFFIX} {extension}" if known else SUFFIX


class InPlaceOfImages:
    """Files of other extensions that can be read: they are images if no file is one by its extension."""

    def __init__(self) -> None:
        self.held: list[tuple[str, int]] = []  # name, and its place in an archive
        self.none_yet = True

    def holds(self, rule: str, name: str, place: int = 0) -> bool:
        """Whether a file that a rule ignores is held back, so that it is not yet ignored."""
        extension = rule.removeprefix(f"{SUFFIX} ")
        if self.none_yet and extension in FORMAT_EXTENSIONS:
            self.held.append((name, place))
            return True
        return False

    def note_image(self, ignored: Counter[str]) -> None:
        """Ignores all that is held back, since there is an image."""
        self.none_yet = False
        for name, _ in self.held:
            ignored[f"{SUFFIX} {os.path.splitext(name)[1].lower()}"] += 1
        self.held = []


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
    try:  # perhaps a passing fault of the storage: try once more
        return _read(path)
    except OSError as error:
        raise unreadable(error) from error


def open_regular(path: str) -> tuple[int, os.stat_result]:
    """A handle of a regular file, which the caller closes, and its status; never waits.

    Raises:
        Unreadable: it is not a regular file, or a link to nothing.
        OSError: it cannot be opened.
    """
    try:
        # Opened at once: a look before would cost a tiny image a tenth of its time.
        handle = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno == errno.ENOENT and os.path.islink(path):
            raise Unreadable(Reason.DANGLING_LINK, "a link to nothing") from error
        if error.errno == errno.ENXIO or os.path.isdir(path):  # a socket; on Windows, a folder
            raise _not_regular() from error
        raise
    except ValueError as error:  # a NUL in the name
        raise Unreadable(Reason.UNREADABLE, str(error)) from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise _not_regular()
    return handle, status


def _not_regular() -> Unreadable:
    return Unreadable(Reason.NOT_A_REGULAR_FILE, "not a regular file")


def unreadable(error: OSError) -> Unreadable:
    """The reason to skip an image, from the error at reading it."""
    reason = _REASONS.get(error.errno or 0, Reason.READ_ERROR)
    return Unreadable(reason, os.strerror(error.errno) if error.errno else str(error))


def refused(path: str, error: OSError) -> SourceError:
    """The error for a file that the user named and that cannot be read."""
    return SourceError(
        f"{printable(path)}: cannot be read ({unreadable(error).detail}); check its permissions, and "
        "that its storage works"
    )


def too_large(size: int) -> Unreadable:
    return Unreadable(Reason.TOO_LARGE_FILE, f"{size:,} bytes; the limit is {MAX_FILE_BYTES:,}")


LARGE_MEMBER = 64 << 20
"""Bytes of a compressed member of an archive that are expanded without another look."""
_MAX_MEMBER_EXPANSION = 100


def demand_plausible(size: int, packed: int) -> None:
    """
    Args:
        size: of a large member of an archive, or of its first part, in bytes.
        packed: what that takes in the archive.

    Raises:
        Unreadable: it expands more than images do, which are compressed already, or large and not blank.
    """
    if size > _MAX_MEMBER_EXPANSION * packed:
        raise Unreadable(
            Reason.ARCHIVE_ENTRY_UNSAFE,
            f"it expands more than {_MAX_MEMBER_EXPANSION} times; unpack it, and measure the file",
        )


def ask_before_reading(reserve: Callable[[int], None]) -> None:
    """Have `reserve` called in this process with the size of what is about to be read into memory.

    It may wait, or raise Unreadable.
    """
    _asked_before_reading[:] = [reserve]


@contextmanager
def reading_starts() -> Iterator[None]:
    """Meanwhile, files and members of archives that can be read in part give their HEADER_BYTES only."""
    global _wanted
    before, _wanted = _wanted, HEADER_BYTES
    try:
        yield
    finally:
        _wanted = before


def wanted_of(size: int) -> int:
    """How many bytes of an image are read, which has `size`."""
    return min(size, _wanted)


def about_to_read(size: int) -> None:
    """Called before this many bytes are read into memory; may wait, or raise Unreadable."""
    for reserve in _asked_before_reading:
        reserve(size)


def _read(path: str) -> bytes:
    handle, before = open_regular(path)
    try:
        if before.st_size > MAX_FILE_BYTES:
            raise too_large(before.st_size)
        size = min(before.st_size, _wanted)
        about_to_read(size)
        # os.read: making a file object takes longer than reading a tiny image.
        data = os.read(handle, size + (size == before.st_size))
        while data and len(data) < size and (more := os.read(handle, size - len(data))):
            data += more
        after = os.fstat(handle)
    finally:
        os.close(handle)
    unchanged = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if not unchanged or len(data) != min(after.st_size, _wanted):
        raise Unreadable(Reason.CHANGED_DURING_READ, "its size or time changed while it was read")
    return data
