"""The tasks of a scan and their outcomes, shared by the threads that drive workers.

Units come in. Tasks are cut from those with names: large ones first, smaller ones towards the end, so that
the workers finish together. A unit without names is one task. What a worker could not finish comes back
and is given out again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

from imgnorm.errors import ImgnormError
from imgnorm.machine import available_memory
from imgnorm.sources.names import NumberedNames
from imgnorm.sources.source import Unit
from imgnorm.tally.tally import Tally
from imgnorm.workers.memory import Budgets

_AHEAD = 4  # tasks for each worker, of the largest size, are kept ready


@dataclass(frozen=True)
class Task:
    """A unit, or some images of it, for one worker to count."""

    unit: Unit
    alone: bool = False  # a worker died or hung here before
    refused: bool = False  # by the device that was to decode these files
    listed: bool = False  # the unit has no names, and must be listed before it is read
    batch: Batch | None = None  # where unfinished images go back to, if it is for one worker

    def part(self, start: int, stop: int) -> Task:
        """The same task for some of its images."""
        return replace(self, unit=self.unit.part(start, stop))


@dataclass(frozen=True)
class Report:
    """What a driver reports."""

    tally: Tally | None = None  # None as long as it may still have to be forgotten
    images: int = 0  # looked at; below 0 if what was reported before is to be counted again
    bytes_read: int = 0
    opened: Unit | None = None  # the unit without names that these images belong to
    left: int | None = None  # how many more images it has; None: that is not known yet
    rows: Iterable[bytes] = ()  # packed, beside those of the tally


class WorkQueue:
    """Gives tasks to drivers and collects outcomes; all drivers share it."""

    def __init__(
        self, workers: int, job_names: tuple[int, int], *, joins_units: bool = False
    ) -> None:
        """
        Args:
            job_names: a task has at least and at most this many images, if its unit has names.
            joins_units: images of several units may be in one task.
        """
        self.outcomes: SimpleQueue[Any] = SimpleQueue()  # Report, an exception, or None at the end
        self.closed = threading.Event()
        self.drivers = 0  # that have not withdrawn
        self.memory = Budgets(available_memory())
        self._least, self._most = job_names
        self._joins_units = joins_units
        self._returned: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._unkillable = 0  # processes
        self._tasks_out = 0  # that drivers have taken
        self._names_left = 0  # in all batches
        self._workers = workers
        self._all_added = False
        self._unlisted: deque[Task] = deque()  # units without names
        self._unstarted: deque[Batch] = deque()
        self._started: list[Batch] = []  # only those for several workers
        self._batch_of: dict[object, Batch] = {}
        self._changed = threading.Condition()

    @property
    def hungry(self) -> bool:
        """Whether further units should be added now."""
        enough = self._workers * _AHEAD
        return self._names_left < enough * self._most and len(self._unlisted) < enough

    def add(self, unit: Unit) -> None:
        with self._changed:
            self._all_added = False
            if unit.names is None:
                self._unlisted.append(Task(unit))
            else:
                self._add_names(unit)
            self._changed.notify_all()

    def end(self) -> None:
        """No further unit comes. None is put among the outcomes when all units are done."""
        with self._changed:
            self._all_added = True
            self._note_the_end()
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
            self._note_the_end()
            self._changed.notify_all()

    def give_back(self, *tasks: Task) -> None:
        """What is left of a driver's task, in order."""
        with self._changed:
            for task in tasks:
                if task.unit.names is None:
                    (self._suspects if task.alone else self._unlisted).append(task)
                elif len(task.unit) and not task.batch:
                    (self._suspects if task.alone else self._returned).append(task)
            for task in reversed(tasks):
                if task.batch and len(task.unit):
                    task.batch.put_back(task.unit)
                    self._names_left += len(task.unit)
            self._changed.notify_all()

    def add_rest(self, unit: Unit) -> None:
        """What a worker hands back of a unit, with names, for all workers."""
        assert unit.names is not None
        with self._changed:
            self._add_names(unit)
            self._changed.notify_all()

    def others_are_idle(self) -> bool:
        """Whether other drivers have nothing to do, now or soon."""
        with self._changed:
            waiting = len(self._unlisted) + len(self._returned) + len(self._suspects)
            return self.drivers > 1 and self._all_added and not waiting and not self._names_left

    def report(self, outcome: Report) -> None:
        self.outcomes.put(outcome)

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
            if batch and batch.forward and batch.left:
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

    def _add_names(self, unit: Unit) -> None:
        if not len(unit):
            return
        self._names_left += len(unit)
        for batch in (*self._unstarted, *self._started):
            if batch.joins and not unit.forward:
                batch.add(unit)
                return
        self._unstarted.append(Batch(unit, joins=self._joins_units))

    def _note_the_end(self) -> None:
        waiting = self._returned or self._suspects or self._unlisted or self._names_left
        if self._all_added and not waiting and not self._tasks_out:
            self._all_added = False  # so that it is noted once
            self.outcomes.put(None)

    def _next(self, driver: object) -> Task | None:
        if self._returned:
            return self._returned.popleft()
        if self._names_left and (task := self._cut(driver)):
            return task
        if self._unlisted:
            return self._unlisted.popleft()
        if self._suspects and not self._tasks_out and not self._names_left:
            return self._suspects.popleft()
        return None

    def _cut(self, driver: object) -> Task | None:
        """A task from the driver's batch; None if it has none and cannot help with another's."""
        batch = self._batch_for(driver)
        if batch is None:
            return None
        share = self._names_left // (self._workers * 3) if self._all_added else self._most
        unit = batch.take(min(self._most, max(self._least, share)))
        self._names_left -= len(unit)
        if not batch.left and not batch.forward:
            self._started.remove(batch)
        return Task(unit, batch=batch if batch.forward else None)

    def _batch_for(self, driver: object) -> Batch | None:
        """The batch that the driver has; when it is finished, a new one, or the longest of another driver."""
        batch = self._batch_of.get(driver)
        if batch is not None and batch.left:
            return batch
        if self._unstarted:
            batch = self._unstarted.popleft()
            if not batch.forward:
                self._started.append(batch)
        elif self._started:
            batch = max(self._started, key=lambda batch: batch.left)
        else:
            return None
        self._batch_of[driver] = batch
        return batch


class Batch:
    """Units with names, from which tasks are cut: one, or several that may be read as one."""

    def __init__(self, unit: Unit, *, joins: bool = False) -> None:
        self.forward = unit.forward  # one worker takes all tasks, in order
        self.joins = joins and not self.forward  # a task may have images of several units
        self.left = len(unit)
        self._units = deque([unit])
        self._start = 0  # in the first unit

    def add(self, unit: Unit) -> None:
        self._units.append(unit)
        self.left += len(unit)

    def take(self, size: int) -> Unit:
        """The next images, at most `size`."""
        parts: list[Unit] = []
        while size and self._units:
            unit = self._units[0]
            part = unit.part(self._start, self._start + size)
            self._start += len(part)
            if self._start == len(unit):
                self._units.popleft()
                self._start = 0
            parts.append(part)
            size -= len(part)
            if not self.joins:
                break
        self.left -= sum(map(len, parts))
        return _joined(parts)

    def put_back(self, unit: Unit) -> None:
        """Puts images in front of those that are left."""
        if self._start:
            first = self._units.popleft()
            self._units.appendleft(first.part(self._start, len(first)))
            self._start = 0
        self._units.appendleft(unit)
        self.left += len(unit)


def _joined(parts: list[Unit]) -> Unit:
    """Units that may be read as one."""
    if len(parts) == 1:
        return parts[0]
    runs = [
        run for part in parts if isinstance(part.names, NumberedNames) for run in part.names.runs
    ]
    if sum(map(len, runs)) == sum(map(len, parts)):
        return Unit(parts[0].id, NumberedNames(runs))
    return Unit(parts[0].id, [name for part in parts for name in part.names or ()])
