"""The pool of worker processes: units in, a tally out.

One thread drives each worker (driver.py). One more looks for workers that hang. The thread that scans
hands units out and adds tallies up. An image that kills its worker or hangs costs itself: it never ends
the scan.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, zip_longest
from queue import Empty
from time import monotonic

from imgnorm.machine import usable_cores
from imgnorm.pixels.buffer import BufferCounter, BufferSize
from imgnorm.progress import Progress, no_lap
from imgnorm.sources.source import Source, Unit
from imgnorm.tally.tally import Tally, TallySum
from imgnorm.workers import forkserver
from imgnorm.workers.driver import Driver, no_thread
from imgnorm.workers.executor import Executor, Work
from imgnorm.workers.messages import Setup
from imgnorm.workers.work_queue import Report, WorkQueue

_POLL_S = 0.1
_ADDING_S = 0.05
"""For so long units are added, if the queue is short of them, before outcomes are looked at."""
_BYTES_FOR_ONE = 1 << 16
"""A unit without names is worth one more worker for each 64 KiB."""


@contextmanager
def in_processes(source: Source, work: Work, images: int | None = None) -> Iterator[Executor]:
    """An executor whose worker processes live as long as the context.

    Args:
        images: how many it is called for at most; no more workers are started. None: what the first
            call is for decides.

    Raises:
        ImgnormError: worker processes cannot be started.
        DeviceError: the device failed.
    """
    with ExitStack() as stack:
        pool: _Pool | None = None

        def scan(units: Iterable[Unit], on_progress: Callable[[Progress], None]) -> Tally:
            nonlocal pool
            all_units = iter(units)
            most = work.workers or usable_cores()
            if pool is None:
                begun, known = _begun(all_units, most)
                all_units = chain(begun, all_units)
                workers = min(most, max(1, known if images is None else images))
                pool = stack.enter_context(_started(source, work, workers))
            return pool.scan(all_units, on_progress)

        yield scan
    if work.profile:
        work.profile.lap("wait")


def _begun(units: Iterator[Unit], wanted: int) -> tuple[list[Unit], int]:
    """The first units, until they are enough for the wanted number of workers, and for how many they are."""
    begun: list[Unit] = []
    enough_for = 0
    for unit in units:
        begun.append(unit)
        if unit.names is not None:
            enough_for += len(unit)
        else:
            enough_for += wanted if unit.bytes is None else 1 + unit.bytes // _BYTES_FOR_ONE
        if enough_for >= wanted:
            break
    return begun, enough_for


class _Pool:
    """Running workers."""

    def __init__(self, queue: WorkQueue, counters: Sequence[BufferCounter], work: Work) -> None:
        self._queue = queue
        self._counters = counters
        self._each = work.each
        self._take_rows = work.take_rows
        self._lap = work.profile.lap if work.profile else no_lap

    def scan(self, units: Iterator[Unit], on_progress: Callable[[Progress], None]) -> Tally:
        queue, lap = self._queue, self._lap
        whole, total = TallySum(self._take_rows), _Total()
        all_added = False
        lap("start")
        look_at = monotonic()
        while True:
            adding = not all_added and queue.hungry
            if adding and monotonic() < look_at:
                unit = next(units, None)
                if unit is None:
                    all_added = True
                    queue.end()
                else:
                    queue.add(unit)
                    total.add(unit)
                lap("list")
                continue
            try:
                outcome = queue.outcomes.get(timeout=0 if adding else _POLL_S)
            except Empty:
                lap("wait")
                look_at = monotonic() + _ADDING_S
                if not adding:
                    on_progress(total.progress(complete=all_added))
                continue
            lap("wait")
            if outcome is None:
                break
            if isinstance(outcome, BaseException):
                raise outcome
            total.note(outcome)
            if outcome.tally is not None:
                whole.add(outcome.tally)
                whole.take_rows(outcome.rows)
                if self._each:
                    self._each(outcome.tally)
            on_progress(total.progress(complete=all_added))
            lap("merge")
        for counter in self._counters:
            for group, tally in counter.taken().items():
                whole.add(tally.with_class(group) if group else tally)
            lap("merge")
        return whole.tally()


class _Total:
    """How much is to be done, as far as it is known, and how much is done."""

    def __init__(self) -> None:
        self._done = self._bytes_read = 0
        self._found = 0  # images
        self._opened: dict[str, int] = {}  # units without names that are not finished: bytes read
        self._bytes = 0  # of all units without names
        self._finished = 0  # of those among them that are finished
        self._unknown = False  # whether the size of one of them is not known

    def add(self, unit: Unit) -> None:
        self._found += len(unit)
        if unit.names is None:
            self._opened[unit.id] = 0
            self._bytes += unit.bytes or 0
            self._unknown = self._unknown or unit.bytes is None

    def note(self, report: Report) -> None:
        self._done += report.images
        self._bytes_read += report.bytes_read
        unit = report.opened
        if unit is None:
            return
        self._found += report.images
        self._opened[unit.id] = self._opened.get(unit.id, 0) + report.bytes_read
        if report.left is not None:
            self._found += report.left
            self._finished += unit.bytes or 0
            del self._opened[unit.id]

    def progress(self, *, complete: bool) -> Progress:
        """
        Args:
            complete: all units were added.
        """
        total = self._found if complete and not self._opened else None
        fraction = None
        if complete and self._opened and not self._unknown and self._bytes:
            read = self._finished + sum(self._opened.values())
            # A compressed archive has fewer bytes than its images.
            fraction = min(1.0, read / self._bytes)
        return Progress(self._done, total, self._bytes_read, fraction=fraction)


@contextmanager
def _started(source: Source, work: Work, workers: int) -> Iterator[_Pool]:
    """The pool, with running drivers; leaving the context ends them and their workers, finished or not."""
    device, profile = work.device, work.profile
    buffer = BufferSize.of(device.batch, work.digits.settings) if device else None
    setup = Setup(
        source,
        work.digits,
        work.decoder,
        profile is not None,
        buffer,
    )
    counters = [device.counter() for _ in range(workers)] if device else []
    job_names = (1, 1) if work.each else source.job_names
    queue = WorkQueue(workers, job_names, joins_units=source.joins_units)
    fork_server = forkserver.start_server()
    drivers = [
        Driver(f"worker {number}", queue, setup, work.timeout_s, profile, counter, fork_server)
        for number, counter in zip_longest(range(1, workers + 1), counters)
    ]
    queue.drivers = len(drivers)
    try:
        watch = threading.Thread(target=_watch, args=(queue, drivers), daemon=True)
        try:
            watch.start()
        except RuntimeError as error:
            raise no_thread(error) from error
        for driver in drivers:
            driver.begin()
        yield _Pool(queue, counters, work)
    finally:
        queue.close()
        if fork_server:
            fork_server.abandon()
        for driver in drivers:
            driver.kill_worker()
        for driver in drivers:
            if driver.is_alive():  # a signal may have come before all were started
                driver.join()
            driver.clean_up()
        if fork_server:
            fork_server.close()


def _watch(queue: WorkQueue, drivers: Sequence[Driver]) -> None:
    """Ends workers that stay at one image for too long."""
    try:
        while not queue.closed.wait(_POLL_S):
            for driver in drivers:
                driver.check_time()
    except Exception as error:  # noqa: BLE001 - raised again in the thread that scans
        queue.fail(error)
