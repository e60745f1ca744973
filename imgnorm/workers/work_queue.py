"""The tasks of a scan and their outcomes, shared by the threads that drive workers.

The names of a shard form a batch. Tasks are cut from batches: large ones first, smaller ones towards the
end, so that the workers finish together. What a worker could not finish comes back and is given out again.
"""

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

_MAX_NAMES = 1024  # in a task


@dataclass(frozen=True)
class Task:
    """Names of one group, for one worker to count."""

    group: str
    names: Sequence[str]
    alone: bool = False  # a worker died or hung at this name before
    refused: bool = False  # by the device that was to decode these files
    batch: NameBatch | None = None  # where unfinished names go back to, if it is for one worker

    def with_names(self, names: Sequence[str]) -> Task:
        """The same task for some of its names."""
        return replace(self, names=names)


class WorkQueue:
    """Gives tasks to drivers and collects outcomes; all drivers share it."""

    def __init__(self, workers: int) -> None:
        self.outcomes: SimpleQueue[Any] = SimpleQueue()  # (group, Tally, images) or an exception
        self.closed = threading.Event()
        self.drivers = 0  # that have not withdrawn
        self.memory = Budgets(available_memory())
        self._returned: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._unkillable = 0  # processes
        self._tasks_out = 0  # that drivers have taken
        self._names_left = 0  # in all batches
        self._workers = workers
        self._unstarted: deque[NameBatch] = deque()
        self._started: list[NameBatch] = []  # only those for several workers
        self._batch_of: dict[object, NameBatch] = {}
        self._changed = threading.Condition()

    def add(self, batches: Sequence[NameBatch]) -> None:
        with self._changed:
            self._names_left += sum(batch.left for batch in batches)
            self._unstarted.extend(batches)
            self._changed.notify_all()

    def take(self, driver: object) -> Task | None:
        """The next task, which the driver has until `done`; None when the queue is closed.

        Waits while other drivers may give something back, or more may be added. Suspects come last, one
        by one, while no other task is out: an image must not be skipped because of what others take.
        """
        with self._changed:
            while not self.closed.is_set():
                task = self._next(driver)
                if task is not None:
                    self._tasks_out += 1
                    return task
                self._changed.wait()
        return None

    def done(self) -> None:
        """A driver has finished its task, or given it back."""
        with self._changed:
            self._tasks_out -= 1
            self._changed.notify_all()

    def give_back(self, *tasks: Task) -> None:
        """What is left of a driver's task, in order."""
        with self._changed:
            for task in tasks:
                if task.names and not task.batch:
                    (self._suspects if task.alone else self._returned).append(task)
            for task in reversed(tasks):
                if task.names and task.batch:
                    task.batch.put_back(task)
                    self._names_left += len(task.names)
            self._changed.notify_all()

    def report(self, group: str, tally: Tally, images: int) -> None:
        self.outcomes.put((group, tally, images))

    def fail(self, error: BaseException) -> None:
        """Ends the scan; the error is raised in the thread that scans."""
        self.outcomes.put(error)
        self.close()

    def withdraw(self, driver: object, error: ImgnormError) -> None:
        """Continues with one driver less, if any is left: too many open files, say.

        It has given its task back already. If it had a batch for one worker, another driver takes over.
        """
        with self._changed:
            self.drivers -= 1
            last = not self.drivers
            batch = self._batch_of.pop(driver, None)
            if batch and batch.for_one and batch.left:
                self._unstarted.append(batch)
            self._changed.notify_all()
        if last:
            self.fail(error)

    def count_unkillable(self) -> int:
        """Counts one more process that cannot be ended; returns their number."""
        with self._changed:
            self._unkillable += 1
            return self._unkillable

    def close(self) -> None:
        self.closed.set()
        self.memory.close()
        with self._changed:
            self._changed.notify_all()

    def _next(self, driver: object) -> Task | None:
        if self._returned:
            return self._returned.popleft()
        if self._names_left:
            return self._cut(driver)
        if self._suspects and not self._tasks_out:
            return self._suspects.popleft()
        return None

    def _cut(self, driver: object) -> Task | None:
        """A task from the driver's batch; None if it has none and cannot help with another's."""
        batch = self._batch_for(driver)
        if batch is None:
            return None
        share = self._names_left // (self._workers * 3)
        task = batch.take(min(batch.max_names, max(batch.min_names, share)))
        self._names_left -= len(task.names)
        if not batch.left and not batch.for_one:
            self._started.remove(batch)
        return task

    def _batch_for(self, driver: object) -> NameBatch | None:
        """The batch that the driver has; when it is finished, a new one, or the longest of another driver."""
        batch = self._batch_of.get(driver)
        if batch is not None and batch.left:
            return batch
        if self._unstarted:
            batch = self._unstarted.popleft()
            if not batch.for_one:
                self._started.append(batch)
        else:
            shareable = [batch for batch in self._started if self._is_shareable(batch)]
            if not shareable:
                return None
            batch = max(shareable, key=lambda batch: batch.left)
        self._batch_of[driver] = batch
        return batch

    def _is_shareable(self, batch: NameBatch) -> bool:
        """Not the last third of a stream: its driver is done before a helper has passed over the rest."""
        near_end = 3 * batch.left < batch.size
        return not (batch.is_stream and near_end and batch in self._batch_of.values())


class NameBatch:
    """Names of one shard, or of a source without shards, from which tasks are cut."""

    def __init__(
        self,
        parts: Sequence[tuple[str, Sequence[str]]],
        max_names: int,
        min_names: int = 1,
        *,
        for_one: bool = False,
        is_stream: bool = False,
    ) -> None:
        """
        Args:
            parts: groups with their names. No group is empty.
            max_names: a task has at most this many names.
            min_names: a task has at least this many, even towards the end.
            for_one: one worker takes all tasks.
            is_stream: each worker that takes a task must pass over all that lies before it.
        """
        self.max_names = max_names
        self.min_names = min_names
        self.for_one = for_one
        self.is_stream = is_stream
        self.size = self.left = sum(len(names) for _, names in parts)
        self._parts = deque(parts)
        self._start = 0  # in the first part

    def take(self, size: int) -> Task:
        """The next names of one group, at most `size`."""
        group, names = self._parts[0]
        taken = names[self._start : self._start + size]
        self._start += len(taken)
        if self._start == len(names):
            self._parts.popleft()
            self._start = 0
        self.left -= len(taken)
        return Task(group, taken, batch=self if self.for_one else None)

    def put_back(self, task: Task) -> None:
        """Puts names in front of those that are left."""
        if self._start:
            group, names = self._parts.popleft()
            self._parts.appendleft((group, names[self._start :]))
            self._start = 0
        self._parts.appendleft((task.group, task.names))
        self.left += len(task.names)


def batches(source: EncodedSource, groups: Mapping[str, Sequence[str]]) -> list[NameBatch]:
    """The batches of all groups: one for each shard."""
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
        NameBatch(its, source.max_names, source.min_names, for_one=source.for_one(shard))
        for shard, its in parts.items()
    ]
