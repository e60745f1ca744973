"""Source -> Tally, with worker processes: every core busy, and no image able to end the run.

Each worker is driven by one thread of this process, which waits for its answers; the thread that
called `scan` only adds tallies up. A worker that dies or hangs costs the image that it was at (its
pulse tells which): that image is tried once more, alone, and then listed.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from queue import Empty
from time import monotonic

from imgnorm.errors import ImgnormError
from imgnorm.pixels.buffer import BufferCounter, BufferSize, Device
from imgnorm.progress import Profile, Progress, Spent, Step, no_lap
from imgnorm.settings import Decoder, ImageSettings, Limits
from imgnorm.sources.names import for_message, name_bytes
from imgnorm.sources.source import EncodedSource
from imgnorm.tally.names import names_sum
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.tally.tally import Tally
from imgnorm.workers import forkserver, process
from imgnorm.workers.forkserver import ForkServer
from imgnorm.workers.messages import Bug, Setup
from imgnorm.workers.process import WorkerProcess
from imgnorm.workers.work_queue import Task, WorkQueue, batches

_POLL_S = 0.1
_MAX_FAILED_STARTS = 5
_MAX_STUCK = 16
"""Processes that wait for storage and cannot be ended: with more, it is not one file's fault."""


Scan = Callable[[Mapping[str, Sequence[str]], Callable[[Progress], None]], dict[str, Tally]]
"""Groups of names -> the tally of each group."""


@contextmanager
def scanning(
    source: EncodedSource,
    settings: ImageSettings,
    limits: Limits,
    *,
    workers: int,
    decoder: Decoder = "auto",
    device: Device | None = None,
    cross_sums: bool = False,
    profile: Profile | None = None,
) -> Iterator[Scan]:
    """A function that scans groups of names, once or more often, with the same workers.

    Its tallies depend on the images only, not on how the work was shared.

    Args:
        device: counts what the workers have decoded; they count themselves without it.
        cross_sums: count what error bars need, too.
        profile: told where the time went.

    Raises:
        ImgnormError: worker processes cannot be started.
        DeviceError: the device failed.
    """
    lap = profile.lap if profile else no_lap
    profiled = profile is not None
    buffer = BufferSize.of(device.batch, settings) if device else None
    setup = Setup(source, settings, limits.max_pixels, decoder, profiled, cross_sums, buffer)
    counters = [device.counter(cross_sums=cross_sums) for _ in range(workers)] if device else []
    with _crew(setup, limits.timeout_s, workers, profile, counters) as queue:

        def scan(
            groups: Mapping[str, Sequence[str]], on_progress: Callable[[Progress], None]
        ) -> dict[str, Tally]:
            total = sum(map(len, groups.values()))
            tallies = {group: Tally() for group in groups}
            done = bytes_read = 0
            queue.add(batches(source, groups))
            lap("start")
            while done < total:
                try:
                    outcome = queue.outcomes.get(timeout=_POLL_S)
                    lap("wait")
                except Empty:
                    lap("wait")
                    on_progress(Progress(done, total, bytes_read))
                    continue
                if isinstance(outcome, BaseException):
                    raise outcome
                group, tally, images = outcome
                tallies[group] += tally
                done += images
                bytes_read += tally.bytes_read
                on_progress(Progress(done, total, bytes_read))
                lap("merge")
            for counter in counters:
                for group, tally in counter.taken().items():
                    tallies[group] += tally
                lap("merge")
            return tallies

        yield scan
    lap("wait")


@contextmanager
def _crew(
    setup: Setup,
    timeout_s: float,
    workers: int,
    profile: Profile | None,
    counters: Sequence[BufferCounter],
) -> Iterator[WorkQueue]:
    """Workers at work; leaving the context ends them, finished or not."""
    queue = WorkQueue(workers)
    fork_server = forkserver.opened()
    drivers = [
        _Driver(f"worker {number}", queue, setup, timeout_s, profile, counter, fork_server)
        for number, counter in zip_longest(range(1, workers + 1), counters)
    ]
    queue.drivers = len(drivers)
    try:
        watch = threading.Thread(target=_watch, args=(queue, drivers), daemon=True)
        try:
            watch.start()
        except RuntimeError as error:
            raise _no_thread(error) from error
        for driver in drivers:
            driver.begin()
        yield queue
    finally:
        queue.close()
        if fork_server:
            fork_server.abandon()
        for driver in drivers:
            driver.stop()
        for driver in drivers:
            if driver.is_alive():  # a signal may have come before all were started
                driver.join()
            driver.clear_up()
        if fork_server:
            fork_server.close()


def _watch(queue: WorkQueue, drivers: Sequence[_Driver]) -> None:
    """Ends workers that stay at one image for too long."""
    try:
        while not queue.closed.wait(_POLL_S):
            for driver in drivers:
                driver.check_time()
    except Exception as error:  # noqa: BLE001 - raised again in the thread that called scan
        queue.fail(error)


class _CannotStart(ImgnormError):
    """The system grants no further process."""


def _no_thread(error: RuntimeError) -> _CannotStart:
    """What Python means when the system grants no further thread."""
    return _CannotStart(f"a worker could not start ({error}); try fewer --workers")


class _Driver(threading.Thread):
    """Keeps one worker process busy, and replaces it when it dies."""

    def __init__(
        self,
        name: str,
        queue: WorkQueue,
        setup: Setup,
        timeout_s: float,
        profile: Profile | None,
        counter: BufferCounter | None,
        fork_server: ForkServer | None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._fork_server = fork_server
        self._counter = counter
        self._profile = profile
        self._queue = queue
        self._setup = setup
        self._timeout_s = timeout_s
        self._worker: WorkerProcess | None = None
        self._lock = threading.Lock()
        self._failed_starts = 0

    def run(self) -> None:
        try:
            self._hired()  # already, while names are still being prepared
            while (task := self._queue.take(self)) is not None:
                try:
                    self._do(task)
                finally:
                    self._queue.done()
        except _CannotStart as error:
            self._queue.withdraw(self, error)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that called scan
            self._queue.fail(error)

    def begin(self) -> None:
        try:
            self.start()
        except RuntimeError as error:  # the system grants no further thread
            self._queue.withdraw(self, _no_thread(error))

    def stop(self) -> None:
        with self._lock:
            if self._worker:
                self._worker.kill()

    def clear_up(self) -> None:
        """Leaves neither a zombie nor an open pipe behind; once the thread has ended."""
        if self._worker:
            self._dismissed()

    def check_time(self) -> None:
        worker = self._worker
        if worker:
            worker.check_time(self._timeout_s)

    def _do(self, task: Task) -> None:
        try:
            worker = self._hired()
        except _CannotStart:
            self._queue.give_back(task)
            raise
        if worker is None:
            self._queue.give_back(task)
            return
        try:
            on_device = self._setup.decoder == "nvjpeg" and not task.refused
            answer = worker.do(task.names, decode=not on_device)
        except EOFError:
            self._after_death(task, worker)
            return
        if isinstance(answer, Bug):
            raise RuntimeError(f"a worker process failed:\n{answer.traceback}")
        refused: Sequence[int] = ()
        if self._counter:
            refused = self._counter.count(task.group, worker.buffer, answer.images)
        if self._profile and answer.spent:
            self._profile.add(self.name, answer.spent)
        if refused:
            again = [task.names[index] for index in refused]
            self._queue.give_back(replace(task, names=again, refused=True, batch=None))
        if answer.done < len(task.names):
            self._queue.give_back(task.of(task.names[answer.done :]))
        self._report(task, answer.tally, answer.done - len(refused))

    def _hired(self) -> WorkerProcess | None:
        """The worker; None when it died before it was ready, or all is over."""
        if self._worker is None:
            with self._lock:
                if self._queue.closed.is_set():
                    return None
                started = monotonic()
                try:
                    self._worker = WorkerProcess(self._setup, self._queue.memory, self._fork_server)
                except OSError as error:
                    raise _CannotStart(
                        f"a worker process could not start ({error.strerror}); try fewer --workers"
                    ) from error
            try:
                ready = self._worker.wait_until_ready()
                self._failed_starts = 0
                if self._profile:
                    self._profile.jpeg = ready.jpeg
                    seconds = Counter[Step]({"start": monotonic() - started})
                    self._profile.add(self.name, Spent(seconds))
                    if ready.fork_server_s is not None:
                        self._profile.processes["fork server"] = Spent(cpu_s=ready.fork_server_s)
            except EOFError:
                timed_out = self._worker.timed_out
                words, code = self._dismissed()
                self._failed_starts += 1
                if self._queue.closed.is_set():
                    return None
                if timed_out:
                    raise _CannotStart(
                        f"a worker process was not ready after {process.START_S:g} s; try fewer "
                        "--workers, and see whether the storage answers"
                    ) from None
                died = code is None or code < 0  # which may be chance
                if not died or self._failed_starts == _MAX_FAILED_STARTS:
                    raise ImgnormError(
                        f"a worker process could not start ({words or _how_it_ended(code)})"
                    ) from None
        return self._worker

    def _after_death(self, task: Task, worker: WorkerProcess) -> None:
        index, timed_out = worker.index(), worker.timed_out
        _, code = self._dismissed()
        if self._queue.closed.is_set():
            return
        name = task.names[index]
        if worker.stuck and self._queue.count_stuck() > _MAX_STUCK:
            raise ImgnormError(
                f"{for_message(name)}: reading it hangs, as did {_MAX_STUCK} others, and the "
                "processes that do so cannot be ended; see whether the storage still answers"
            )
        if not task.alone:
            self._queue.give_back(
                task.of(task.names[:index]),
                replace(task, names=[name], alone=True, batch=None),
                task.of(task.names[index + 1 :]),
            )
            return
        if timed_out:
            fault = Skipped(name, Reason.TIMEOUT, f"took longer than {self._timeout_s:g} s, twice")
        else:
            fault = Skipped(
                name,
                Reason.WORKER_DIED,
                f"the process that decoded it ended, twice: {_how_it_ended(code)}",
            )
        lost = Tally(skipped=(fault,), names=names_sum([name_bytes(name)]))
        self._report(task, lost, 1)

    def _report(self, task: Task, tally: Tally, images: int) -> None:
        if task.refused:  # their names were hashed when the device was to decode them
            tally = replace(tally, names=0)
        self._queue.report(task.group, tally, images)

    def _dismissed(self) -> tuple[str, int | None]:
        """The dead worker's last words and its exit code, if that is known."""
        with self._lock:
            worker, self._worker = self._worker, None
        assert worker is not None
        return worker.reap()


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "exit code unknown"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
