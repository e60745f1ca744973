"""Zip, tar and tar.gz archives, WebDataset shards included, read in place: nothing is unpacked."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from itertools import chain
from typing import Any

from imgnorm.sources.archivefile import ArchiveFile, Contents, packing_of
from imgnorm.sources.bytestream import no_heartbeat
from imgnorm.sources.files import IMG_EXTENSIONS, open_regular, refused, unreadable
from imgnorm.sources.names import as_text
from imgnorm.sources.paths import labelled
from imgnorm.sources.patterns import ALL, Patterns
from imgnorm.sources.source import Entry, Ignored, Listing, Reread, Source, Unit, Unread
from imgnorm.tally.skipped import Reason, Unreadable

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_MAX_OPEN = 2  # archives in one process


class ArchiveSource(Source):
    """The images in one archive or many. A name is the archive's file name and the member's path.

    Archives of the same file name have the names of their folders before it, as many as are needed.
    A unit is an archive.

    Args:
        ref: what the user called them.
        paths: of the archives; a file that is not an archive is skipped.
        patterns: which of the members are chosen, by their paths in the archive.
    """

    kind = "archive"

    def __init__(self, ref: str, paths: Iterable[str], patterns: Patterns = ALL) -> None:
        self.ref = ref.replace(os.sep, "/")
        self._patterns = patterns
        self.options = patterns.options
        self._paths = labelled(paths)
        self._open: OrderedDict[str, ArchiveFile] = OrderedDict()
        self._still_alive: Callable[[], None] = no_heartbeat

    def __getstate__(self) -> dict[str, Any]:
        # A worker opens archives itself.
        return {**vars(self), "_open": OrderedDict(), "_still_alive": no_heartbeat}

    def units(self) -> Iterator[Unit]:
        for label, path in self._paths.items():
            try:
                size = os.stat(path).st_size
            except (OSError, ValueError):  # the reason is found where it is opened
                size = None
            yield Unit(label, bytes=size)

    def images(self, unit: Unit) -> Iterator[Entry]:
        if unit.names is None:
            return _OnePass(unit.id, self._paths[unit.id], self._patterns, self._still_alive)
        return (
            Unread(name, partial(self._read, unit.id, unit.version, place))
            for name, place in zip(unit.names, unit.places, strict=True)
        )

    def rest(self, entries: Iterator[Entry]) -> Unit | None:
        return entries.rest() if isinstance(entries, _OnePass) else None

    def listed(self, unit: Unit) -> Listing:
        self._close(unit.id)  # it may have changed since
        try:
            archive = self._opened(unit.id)
        except OSError as error:
            raise unreadable(error) from error
        return Contents(unit.id, archive, self._patterns).listing()

    def class_of(self, name: str) -> str | None:
        folder, slash, _ = name[len(self._label_of(name)) + 1 :].partition("/")
        return folder if slash else None

    def member_of(self, name: str) -> str | None:
        return as_text(name[len(self._label_of(name)) + 1 :]) or None

    def keep_alive(self, still_alive: Callable[[], None]) -> None:
        self._still_alive = still_alive

    def hint_if_empty(self) -> str:
        return (
            f"looked for {' '.join(IMG_EXTENSIONS)}; name an archive that holds such files, or rename those "
            "in it and pack them again"
        )

    def _label_of(self, name: str) -> str:
        end = name.find("/")
        while end >= 0 and name[:end] not in self._paths:
            end = name.find("/", end + 1)
        return name[:end] if end >= 0 else name  # a damaged archive is skipped by its own name

    def _read(self, label: str, version: tuple[int, ...], place: int) -> bytes:
        try:
            return self._read_once(label, version, place)
        except OSError:  # perhaps a passing fault of the storage: try once more
            self._close(label)
        try:
            return self._read_once(label, version, place)
        except OSError as error:
            self._close(label)
            raise unreadable(error) from error

    def _read_once(self, label: str, version: tuple[int, ...], place: int) -> bytes:
        archive = self._opened(label)
        if archive.version == version:
            data = archive.content(place)
            if not archive.changed():
                return data
        self._close(label)
        raise Unreadable(Reason.CHANGED_DURING_READ, "the archive changed while it was measured")

    def _opened(self, label: str) -> ArchiveFile:
        archive = self._open.get(label)
        if archive is None:
            while len(self._open) >= _MAX_OPEN:
                self._open.popitem(last=False)[1].close()
            archive = self._open[label] = ArchiveFile(self._paths[label], self._still_alive)
        self._open.move_to_end(label)
        return archive

    def _close(self, label: str) -> None:
        if label in self._open:
            self._open.pop(label).close()


class _OnePass(Iterator[Entry]):
    """The entries of one archive, which is read while it is listed."""

    def __init__(
        self, label: str, path: str, patterns: Patterns, still_alive: Callable[[], None]
    ) -> None:
        self._label = label
        self._path = path
        self._patterns = patterns
        self._still_alive = still_alive
        self._failed = False  # a read, perhaps by a passing fault of the storage, or at the end

    def __next__(self) -> Entry:
        self._demand_no_failure()
        for name, place in self._images:
            return Unread(name, partial(self._read, place))
        return next(self._others)

    def rest(self) -> Unit | None:
        """As `Source.rest`. A gzip stream would have to be expanded again to read it."""
        self._demand_no_failure()
        if self._archive.packing == "tar.gz":
            return None
        left = list(self._images)
        return self._contents.unit([name for name, _ in left], [place for _, place in left])

    @cached_property
    def _archive(self) -> ArchiveFile:
        try:
            return ArchiveFile(self._path, self._still_alive)
        except OSError as error:
            raise unreadable(error) from error

    @cached_property
    def _contents(self) -> Contents:
        return Contents(self._label, self._archive, self._patterns)

    @cached_property
    def _images(self) -> Iterator[tuple[str, int]]:
        return self._contents.stream()

    @cached_property
    def _others(self) -> Iterator[Entry]:
        """What is skipped and ignored, once all images were given."""
        return chain(self._contents.skipped, [Ignored(self._contents.ignored)])

    def _read(self, place: int) -> bytes:
        try:
            return self._archive.content(place)
        except OSError as error:
            self._failed = True
            raise unreadable(error) from error
        except Unreadable as fault:
            # Listing it says how many bytes it should have.
            self._failed = self._failed or fault.reason is Reason.ARCHIVE_TRUNCATED
            raise

    def _demand_no_failure(self) -> None:
        if self._failed:
            raise Reread(f"{self._label}: reading it failed")


def is_archive(path: str) -> bool:
    """Whether a file starts like a zip, a tar or a tar.gz, whatever its extension.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        handle, _ = open_regular(path)
    except Unreadable:
        return False
    except OSError as error:
        raise refused(path, error) from error
    try:
        return packing_of(handle) is not None
    except OSError as error:
        raise refused(path, error) from error
    finally:
        os.close(handle)
