"""What is left to do of a scan, and what came of it: shared by the threads that drive workers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from imgnorm.errors import ImgnormError
from imgnorm.machine import available_memory
from imgnorm.sources.source import BlockSource, EncodedSource, ShardedSource, StreamedSource
from imgnorm.tally.tally import Tally
from imgnorm.workers.memory import Budgets

_MAX_NAMES = 1024  # of one job


@dataclass(frozen=True)
class Task:
    """Names of one group, to be counted by one worker."""

    group: str
    names: Sequence[str]
    alone: bool = False  # a worker died or hung at this name before
    refused: bool = False  # by the device, which was to decode these files
    batch: NameBatch | None = None  # to which it goes back, if that is for one worker

    def of(self, names: Sequence[str]) -> Task:
        """Some of its names."""
        return replace(self, names=names)


class WorkQueue:
    """What is left to do, and what came of it; shared by all drivers."""

    def __init__(self, workers: int) -> None:
        self.outcomes: SimpleQueue[Any] = SimpleQueue()  # (group, Tally, images) or an exception
        self.closed = threading.Event()
        self.drivers = 0  # that have not resigned
        self.memory = Budgets(available_memory())
        self._again: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._stuck = 0  # processes that cannot be ended
        self._in_hand = 0  # pieces of work that drivers have
        self._undealt = 0  # names
        self._workers = workers
        self._untouched: deque[NameBatch] = deque()
        self._touched: list[NameBatch] = []
        self._pile_of: dict[object, NameBatch] = {}
        self._changed = threading.Condition()

    def add(self, batches: Sequence[NameBatch]) -> None:
        with self._changed:
            self._undealt += sum(batch.left for batch in batches)
            self._untouched.extend(batches)
            self._changed.notify_all()

    def take(self, worker: object) -> Task | None:
        """The next piece of work, until `done`; None when the board is closed.

        Waits while others may still give some back, or more may be added. Suspects come last, one
        by one, with nothing else going on: an image is not skipped for what its neighbours take.
        """
        with self._changed:
            while not self.closed.is_set():
                task = self._next(worker)
                if task is not None:
                    self._in_hand += 1
                    return task
                self._changed.wait()
        return None

    def _next(self, worker: object) -> Task | None:
        if self._again:
            return self._again.popleft()
        if self._undealt:
            return self._dealt(worker)
        if self._suspects and not self._in_hand:
            return self._suspects.popleft()
        return None

    def done(self) -> None:
        """A driver is done with what it took."""
        with self._changed:
            self._in_hand -= 1
            self._changed.notify_all()

    def give_back(self, *works: Task) -> None:
        with self._changed:
            for task in works:
                if task.names and not task.batch:
                    (self._suspects if task.alone else self._again).append(task)
            for task in reversed(works):
                if task.names and task.batch:
                    task.batch.put_back(task)
                    self._undealt += len(task.names)
            self._changed.notify_all()

    def report(self, group: str, tally: Tally, images: int) -> None:
        self.outcomes.put((group, tally, images))

    def fail(self, error: BaseException) -> None:
        self.outcomes.put(error)
        self.close()

    def withdraw(self, worker: object, error: ImgnormError) -> None:
        """One driver less: too many open files, say. The others do its work, if there are any.

        It has given back what it had in hand: nobody else may take the rest of a pile for one worker.
        """
        with self._changed:
            self.drivers -= 1
            last = not self.drivers
            batch = self._pile_of.pop(worker, None)
            if batch and batch.for_one and batch.left:
                self._untouched.append(batch)
            self._changed.notify_all()
        if last:
            self.fail(error)

    def count_stuck(self) -> int:
        """One more process that cannot be ended; how many those are."""
        with self._changed:
            self._stuck += 1
            return self._stuck

    def close(self) -> None:
        self.closed.set()
        self.memory.close()
        with self._changed:
            self._changed.notify_all()

    def _dealt(self, worker: object) -> Task | None:
        """Pieces that shrink towards the end, so that the workers finish together.

        A worker stays with its shard, then begins another one, and helps out when there is none;
        None if nobody may be helped.
        """
        batch = self._pile_of.get(worker)
        if batch is None or not batch.left:
            if self._untouched:
                batch = self._untouched.popleft()
                if not batch.for_one:
                    self._touched.append(batch)
            else:
                worth_it = [batch for batch in self._touched if self._is_worth_help(batch)]
                if not worth_it:
                    return None
                batch = max(worth_it, key=lambda batch: batch.left)
            self._pile_of[worker] = batch
        share = self._undealt // (self._workers * 3)
        task = batch.piece(min(batch.at_once, max(batch.at_least, share)))
        self._undealt -= len(task.names)
        if not batch.left and not batch.for_one:
            self._touched.remove(batch)
        return task

    def _is_worth_help(self, batch: NameBatch) -> bool:
        """Not near the end of a stream: whoever has it is there before a helper has passed over the rest."""
        near_end = 3 * batch.left < batch.size
        return not (batch.is_stream and near_end and batch in self._pile_of.values())


class NameBatch:
    """The names of one shard that nobody has taken; of all images, in a source without shards."""

    def __init__(
        self,
        parts: Sequence[tuple[str, Sequence[str]]],
        at_once: int,
        at_least: int = 1,
        *,
        for_one: bool = False,
        is_stream: bool = False,
    ) -> None:
        """
        Args:
            parts: groups, and the names of each. None is empty.
            at_once: so many names make a piece, at most.
            at_least: so many do, even towards the end.
            for_one: one worker takes all pieces.
            is_stream: each worker that takes some must pass over all that lies before them.
        """
        self.at_once = at_once
        self.at_least = at_least
        self.for_one = for_one
        self.is_stream = is_stream
        self.size = self.left = sum(len(names) for _, names in parts)
        self._parts = deque(parts)
        self._start = 0  # in the first part

    def piece(self, size: int) -> Task:
        group, names = self._parts[0]
        piece = names[self._start : self._start + size]
        self._start += len(piece)
        if self._start == len(names):
            self._parts.popleft()
            self._start = 0
        self.left -= len(piece)
        return Task(group, piece, batch=self if self.for_one else None)

    def put_back(self, task: Task) -> None:
        if self._start:
            group, names = self._parts.popleft()
            self._parts.appendleft((group, names[self._start :]))
            self._start = 0
        self._parts.appendleft((task.group, task.names))
        self.left += len(task.names)


def batches(source: EncodedSource, groups: Mapping[str, Sequence[str]]) -> list[NameBatch]:
    parts: dict[str, list[tuple[str, Sequence[str]]]] = {}
    for group, names in groups.items():
        whole = [("", names)]
        for shard, part in source.shards(names) if isinstance(source, ShardedSource) else whole:
            if part:
                parts.setdefault(shard, []).append((group, part))
    if not isinstance(source, BlockSource):
        is_stream = source.is_stream if isinstance(source, StreamedSource) else lambda shard: False
        return [
            NameBatch(its, _MAX_NAMES, is_stream=is_stream(shard)) for shard, its in parts.items()
        ]
    return [
        NameBatch(its, source.names_at_once, source.names_at_least, for_one=source.for_one(shard))
        for shard, its in parts.items()
    ]
