"""Packed rows, kept in a temporary file, and given back in the order of their names.

Each packed run of rows is written as it comes, and its first and last name are kept. Names of most sources
come almost in order, so that few runs overlap, and a run is read when its first name is next. Where more
rows would be held at once than memory should have, they are sorted into longer runs first.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import starmap
from operator import itemgetter
from typing import NamedTuple

from imgnorm.tally.rows import Row, head_of, name_order, packed_rows, rows_in

_IN_MEMORY = 8 << 20  # bytes of rows that may still have to be forgotten
_OPEN = 1 << 15  # rows; each takes about a kilobyte of memory
_SORTED = 1 << 15  # rows that are sorted in memory
_TOGETHER = 1 << 8  # rows of a run that was sorted here
_ROW = itemgetter(1)


class _Run(NamedTuple):
    first: bytes  # as `name_order`
    last: bytes
    rows: int
    start: int  # in the file
    size: int


class RowSpool:
    """Rows on their way to a table. Not thread-safe."""

    def __init__(self) -> None:
        self._file = _Scratch()
        self._runs: list[_Run] = []
        self._long: list[list[_Run]] = []  # the same rows, in long runs, if that was needed

    def take(self, packed: Iterable[bytes]) -> None:
        """
        Args:
            packed: rows, as `Tally.rows` has them.
        """
        self._runs += map(self._written, packed)
        self._long.clear()

    def __iter__(self) -> Iterator[Row]:
        runs = sorted(self._runs)
        if not self._long and _most_open(runs) <= _OPEN:
            yield from self._merged(runs)
            return
        self._long = self._long or [*self._sorted(runs)]
        yield from heapq.merge(*map(self._read_all, self._long), key=_order)

    def _merged(self, runs: Sequence[_Run]) -> Iterator[Row]:
        """The rows of runs that are sorted by their first names."""
        held: list[tuple[bytes, Row]] = []
        for run in runs:
            before = bisect_left(held, (run.first,))
            yield from map(_ROW, held[:before])
            held = held[before:]
            held += [(_order(row), row) for row in self._read(run)]
            held.sort()  # which takes little longer than to see that it is sorted, if it almost is
        yield from map(_ROW, held)

    def _written(self, data: bytes) -> _Run:
        return _Run(*head_of(data), *self._file.add(data))

    def _read(self, run: _Run) -> Iterator[Row]:
        return rows_in(self._file.read(run.start, run.size))

    def _read_all(self, runs: Iterable[_Run]) -> Iterator[Row]:
        for run in runs:
            yield from self._read(run)

    def _sorted(self, runs: Sequence[_Run]) -> Iterator[list[_Run]]:
        held: list[Row] = []
        for number, run in enumerate(runs, 1):
            held += self._read(run)
            if len(held) >= _SORTED or number == len(runs):
                held.sort(key=_order)
                starts = range(0, len(held), _TOGETHER)
                parts = (packed_rows(held[start : start + _TOGETHER]) for start in starts)
                yield [*map(self._written, parts)]
                held.clear()


class TemporaryRows:
    """Packed rows that may still have to be forgotten, in the order in which they came; many, in a file."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._bytes = 0
        self._file: _Scratch | None = None
        self._places: list[tuple[int, int]] = []  # in the file

    def take(self, packed: Iterable[bytes]) -> None:
        for data in packed:
            self._held.append(data)
            self._bytes += len(data)
        if self._bytes > _IN_MEMORY:
            self._file = self._file or _Scratch()
            self._places += map(self._file.add, self._held)
            self._held.clear()
            self._bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        if self._file:
            yield from starmap(self._file.read, self._places)
        yield from self._held


class _Scratch:
    """A file that ends with this object."""

    def __init__(self) -> None:
        from tempfile import TemporaryFile  # slow to load, and seldom needed

        self._file = TemporaryFile()  # noqa: SIM115
        self._end = 0

    def __del__(self) -> None:
        self._file.close()

    def add(self, data: bytes) -> tuple[int, int]:
        """Returns its place and its size, as `read` takes them."""
        self._file.seek(self._end)
        self._file.write(data)
        start, self._end = self._end, self._end + len(data)
        return start, len(data)

    def read(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)


def _order(row: Row) -> bytes:
    return name_order(row.name)


def _most_open(runs: Sequence[_Run]) -> int:
    """How many rows are open at once, at most, of runs that are sorted by their first names."""
    opened: list[tuple[bytes, int]] = []  # last name, rows
    rows = most = 0
    for run in runs:
        while opened and opened[0][0] < run.first:
            rows -= heapq.heappop(opened)[1]
        heapq.heappush(opened, (run.last, run.rows))
        rows += run.rows
        most = max(most, rows)
    return most
