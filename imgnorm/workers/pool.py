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
from imgnorm.pixels.batch import Device, TrayCounter, TraySize
from imgnorm.progress import Profile, Progress, Spent, Step, no_lap
from imgnorm.settings import Decoder, ImageSettings, Limits
from imgnorm.sources.names import name_bytes, said
from imgnorm.sources.source import EncodedSource
from imgnorm.tally.names import names_sum
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.tally.tally import Tally
from imgnorm.workers import forkserver as nursery
from imgnorm.workers import process
from imgnorm.workers.forkserver import Nursery
from imgnorm.workers.messages import Bug, Setup
from imgnorm.workers.process import WorkerProcess
from imgnorm.workers.work_queue import Board, Work, piles

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
    products: bool = False,
    profile: Profile | None = None,
) -> Iterator[Scan]:
    """A function that scans groups of names, once or more often, with the same workers.

    Its tallies depend on the images only, not on how the work was shared.

    Args:
        device: counts what the workers have decoded; they count themselves without it.
        products: count what error bars need, too.
        profile: told where the time went.

    Raises:
        ImgnormError: worker processes cannot be started.
        DeviceError: the device failed.
    """
    lap = profile.lap if profile else no_lap
    profiled = profile is not None
    tray = TraySize.of(device.batch, settings) if device else None
    setup = Setup(source, settings, limits.max_pixels, decoder, profiled, products, tray)
    counters = [device.counter(products=products) for _ in range(workers)] if device else []
    with _crew(setup, limits.timeout_s, workers, profile, counters) as board:

        def scan(
            groups: Mapping[str, Sequence[str]], on_progress: Callable[[Progress], None]
        ) -> dict[str, Tally]:
            total = sum(map(len, groups.values()))
            tallies = {group: Tally() for group in groups}
            done = bytes_read = 0
            board.add(piles(source, groups))
            lap("start")
            while done < total:
                try:
                    outcome = board.outcomes.get(timeout=_POLL_S)
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
    counters: Sequence[TrayCounter],
) -> Iterator[Board]:
    """Workers at work; leaving the context ends them, finished or not."""
    board = Board(workers)
    nurse = nursery.opened()
    drivers = [
        _Driver(f"worker {number}", board, setup, timeout_s, profile, counter, nurse)
        for number, counter in zip_longest(range(1, workers + 1), counters)
    ]
    board.drivers = len(drivers)
    try:
        watch = threading.Thread(target=_watch, args=(board, drivers), daemon=True)
        try:
            watch.start()
        except RuntimeError as error:
            raise _no_thread(error) from error
        for driver in drivers:
            driver.begin()
        yield board
    finally:
        board.close()
        if nurse:
            nurse.give_up()
        for driver in drivers:
            driver.stop()
        for driver in drivers:
            if driver.is_alive():  # a signal may have come before all were started
                driver.join()
            driver.clear_up()
        if nurse:
            nurse.close()


def _watch(board: Board, drivers: Sequence[_Driver]) -> None:
    """Ends workers that stay at one image for too long."""
    try:
        while not board.closed.wait(_POLL_S):
            for driver in drivers:
                driver.check_time()
    except Exception as error:  # noqa: BLE001 - raised again in the thread that called scan
        board.fail(error)


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
        board: Board,
        setup: Setup,
        timeout_s: float,
        profile: Profile | None,
        counter: TrayCounter | None,
        nursery: Nursery | None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._nursery = nursery
        self._counter = counter
        self._profile = profile
        self._board = board
        self._setup = setup
        self._timeout_s = timeout_s
        self._worker: WorkerProcess | None = None
        self._lock = threading.Lock()
        self._failed_starts = 0

    def run(self) -> None:
        try:
            self._hired()  # already, while names are still being prepared
            while (work := self._board.take(self)) is not None:
                try:
                    self._do(work)
                finally:
                    self._board.put_down()
        except _CannotStart as error:
            self._board.resign(self, error)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that called scan
            self._board.fail(error)

    def begin(self) -> None:
        try:
            self.start()
        except RuntimeError as error:  # the system grants no further thread
            self._board.resign(self, _no_thread(error))

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

    def _do(self, work: Work) -> None:
        try:
            worker = self._hired()
        except _CannotStart:
            self._board.give_back(work)
            raise
        if worker is None:
            self._board.give_back(work)
            return
        try:
            on_device = self._setup.decoder == "nvjpeg" and not work.refused
            answer = worker.do(work.names, decode=not on_device)
        except EOFError:
            self._after_death(work, worker)
            return
        if isinstance(answer, Bug):
            raise RuntimeError(f"a worker process failed:\n{answer.traceback}")
        refused: Sequence[int] = ()
        if self._counter:
            refused = self._counter.count(work.group, worker.tray, answer.images)
        if self._profile and answer.spent:
            self._profile.add(self.name, answer.spent)
        if refused:
            again = [work.names[index] for index in refused]
            self._board.give_back(replace(work, names=again, refused=True, pile=None))
        if answer.done < len(work.names):
            self._board.give_back(work.of(work.names[answer.done :]))
        self._report(work, answer.tally, answer.done - len(refused))

    def _hired(self) -> WorkerProcess | None:
        """The worker; None when it died before it was ready, or all is over."""
        if self._worker is None:
            with self._lock:
                if self._board.closed.is_set():
                    return None
                started = monotonic()
                try:
                    self._worker = WorkerProcess(self._setup, self._board.memory, self._nursery)
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
                    if ready.nursery_s is not None:
                        self._profile.processes["nursery"] = Spent(cpu_s=ready.nursery_s)
            except EOFError:
                timed_out = self._worker.timed_out
                words, code = self._dismissed()
                self._failed_starts += 1
                if self._board.closed.is_set():
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

    def _after_death(self, work: Work, worker: WorkerProcess) -> None:
        index, timed_out = worker.index(), worker.timed_out
        _, code = self._dismissed()
        if self._board.closed.is_set():
            return
        name = work.names[index]
        if worker.stuck and self._board.count_stuck() > _MAX_STUCK:
            raise ImgnormError(
                f"{said(name)}: reading it hangs, as did {_MAX_STUCK} others, and the "
                "processes that do so cannot be ended; see whether the storage still answers"
            )
        if not work.alone:
            self._board.give_back(
                work.of(work.names[:index]),
                replace(work, names=[name], alone=True, pile=None),
                work.of(work.names[index + 1 :]),
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
        self._report(work, lost, 1)

    def _report(self, work: Work, tally: Tally, images: int) -> None:
        if work.refused:  # their names were hashed when the device was to decode them
            tally = replace(tally, names=0)
        self._board.report(work.group, tally, images)

    def _dismissed(self) -> tuple[str, int | None]:
        """The dead worker's last words and its exit code, if that is known."""
        with self._lock:
            worker, self._worker = self._worker, None
        assert worker is not None
        return worker.bury()


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "exit code unknown"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
