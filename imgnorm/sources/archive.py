"""Zip, tar and tar.gz archives, WebDataset shards included, read in place: nothing is unpacked."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from imgnorm.sources.bytestream import GzipBytes, no_heartbeat
from imgnorm.sources.files import open_regular, refused, unreadable
from imgnorm.sources.names import name_bytes
from imgnorm.sources.paths import labelled
from imgnorm.sources.shard import Duplicates, Marks, Shard, ShardContents, Version, packing_of
from imgnorm.sources.source import Listing
from imgnorm.tally.skipped import Reason, Skipped, Unreadable

_OPEN_SHARDS = 2  # in one process: its own, and one that it helps with


class ArchiveSource:
    """The images in one archive or many. A name is the archive's file name and the member's path.

    Archives of the same file name have the names of their folders before it, as many as are needed.

    Args:
        ref: what the user called them.
        paths: of the archives; a file that is not an archive is listed as skipped.
    """

    kind = "archive"

    def __init__(self, ref: str, paths: Iterable[str]) -> None:
        self.ref = ref.replace(os.sep, "/")
        self._paths = labelled(paths)
        self._versions: dict[str, Version] = {}  # of each archive, when it was listed
        self._duplicates: dict[str, Duplicates] = {}  # of archives that have some
        self._marks: dict[str, Marks] = {}  # of archives in the order of their names
        self._streams: set[str] = set()  # compressed as a whole
        self._member_order: dict[str, list[str]] = {}  # if it is not the order of the names
        self._open: OrderedDict[str, Shard] = OrderedDict()
        self._still_alive: Callable[[], None] = no_heartbeat

    def __getstate__(self) -> dict[str, Any]:
        # A worker opens archives itself, and finds the members that it reads.
        return {
            **vars(self),
            "_member_order": {},
            "_open": OrderedDict(),
            "_still_alive": no_heartbeat,
        }

    def listing(self) -> Listing:
        # The archives may have changed since an earlier listing.
        self._versions, self._duplicates, self._marks = {}, {}, {}
        self._streams, self._member_order = set(), {}
        names: list[str] = []
        skipped: list[Skipped] = []
        ignored: Counter[str] = Counter()
        for label in self._paths:
            found = ShardContents(label)
            try:
                with closing(self._opened(label)) as shard:
                    self._versions[label] = shard.version
                    if isinstance(shard.bytes, GzipBytes):
                        self._streams.add(label)
                    found.take(shard)
            except Unreadable as fault:
                found.skip(label, fault)
            except OSError as error:
                found.skip(label, unreadable(error))
            names += found.sorted_names()
            skipped += found.skipped
            ignored += found.ignored
            if found.duplicates:
                self._duplicates[label] = found.duplicates
            if found.member_order is not None:
                self._member_order[label] = found.member_order
            elif found.marks.members:
                self._marks[label] = found.marks
        skipped.sort(key=lambda s: name_bytes(s.name))
        return Listing(names, tuple(skipped), dict(sorted(ignored.items())))

    def class_of(self, name: str) -> str | None:
        folder, slash, _ = name[len(self.shard_of(name)) + 1 :].partition("/")
        return folder if slash else None

    def shard_of(self, name: str) -> str:
        end = name.find("/")
        while end >= 0 and name[:end] not in self._paths:
            end = name.find("/", end + 1)
        return name[:end] if end >= 0 else name  # a damaged archive is listed by its own name

    def shards(self, names: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
        start = 0
        while start < len(names):
            shard = self.shard_of(names[start])
            above, end = shard + "/", start + 1
            while end < len(names) and names[end].startswith(above):
                end += 1
            part, start = names[start:end], end
            order = self._member_order.get(shard)
            if order is None or len(part) == 1:
                yield shard, part
            else:
                wanted = set(part)
                yield shard, [name for name in order if name in wanted]

    def is_stream(self, shard: str) -> bool:
        return shard in self._streams

    def keep_alive(self, still_alive: Callable[[], None]) -> None:
        self._still_alive = still_alive

    def read(self, name: str) -> bytes:
        label = self.shard_of(name)
        try:
            return self._read(label, name)
        except OSError:  # perhaps a passing fault of the storage: try once more
            self._close(label)
        try:
            return self._read(label, name)
        except OSError as error:
            self._close(label)
            raise unreadable(error) from error

    def _read(self, label: str, name: str) -> bytes:
        shard = self._open.get(label)
        if shard is None:
            while len(self._open) >= _OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
            shard = self._open[label] = self._opened(label)
        self._open.move_to_end(label)
        expected = self._versions.get(label, shard.version)
        if shard.version == expected:
            data = shard.content(name)
            if shard.version_now() == expected:
                return data
        self._close(label)
        raise Unreadable(Reason.CHANGED_DURING_READ, "the archive changed while it was measured")

    def _opened(self, label: str) -> Shard:
        return Shard(
            label,
            self._paths[label],
            self._duplicates.get(label, {}),
            self._marks.get(label, Marks()),
            self._still_alive,
        )

    def _close(self, label: str) -> None:
        if label in self._open:
            self._open.pop(label).close()


def is_archive(path: str) -> bool:
    """Whether a file starts like a zip, a tar or a tar.gz, whatever its suffix.

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
