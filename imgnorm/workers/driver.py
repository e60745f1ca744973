"""A driver: the thread of this process that keeps one worker process busy, and replaces it when it dies."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from imgnorm.errors import ImgnormError
from imgnorm.pixels.buffer import BufferCounter
from imgnorm.progress import Profile, Spent, Stage
from imgnorm.sources.names import for_message, name_bytes
from imgnorm.tally.names import names_sum
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.tally.tally import Tally
from imgnorm.workers import process
from imgnorm.workers.forkserver import ForkServer
from imgnorm.workers.messages import Bug, Done, Ready, Setup
from imgnorm.workers.process import WorkerProcess
from imgnorm.workers.work_queue import Task, WorkQueue

_MAX_FAILED_STARTS = 5
_MAX_UNKILLABLE = 16
"""Processes that wait for storage and cannot be ended: with more, it is not the fault of one file."""


class CannotStart(ImgnormError):
    """The system grants no further process or thread."""


def no_thread(error: RuntimeError) -> CannotStart:
    """What Python's RuntimeError means when a thread does not start."""
    return CannotStart(f"a worker could not start ({error}); try fewer --workers")


class Driver(threading.Thread):
    """Takes tasks from the queue, has its worker do them, and reports the outcomes.

    An image at which a worker dies or hangs goes back to the queue, to be tried once more, alone.
    The second time it is listed as skipped.
    """

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

    def begin(self) -> None:
        """Starts the thread; where the system grants none, the other drivers do its work."""
        try:
            self.start()
        except RuntimeError as error:
            self._queue.withdraw(self, no_thread(error))

    def check_time(self) -> None:
        """Kills the worker if it has been at one image for too long; called by another thread."""
        worker = self._worker
        if worker:
            worker.check_time(self._timeout_s)

    def kill_worker(self) -> None:
        """Called by another thread when the scan is over."""
        with self._lock:
            if self._worker:
                self._worker.kill()

    def clean_up(self) -> None:
        """Leaves neither a zombie nor an open pipe behind; call it once the thread has ended."""
        if self._worker:
            self._reap()

    def run(self) -> None:
        try:
            self._ready_worker()  # starts it while names are still being listed
            while (task := self._queue.take(self)) is not None:
                try:
                    self._do(task)
                finally:
                    self._queue.done()
        except CannotStart as error:
            self._queue.withdraw(self, error)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that scans
            self._queue.fail(error)

    def _do(self, task: Task) -> None:
        try:
            worker = self._ready_worker()
        except CannotStart:
            self._queue.give_back(task)
            raise
        if worker is None:
            self._queue.give_back(task)
            return
        try:
            on_device = self._setup.decoder == "nvjpeg" and not task.refused
            answer = worker.do(task.names, decode=not on_device)
        except EOFError:
            self._handle_death(task, worker)
            return
        if isinstance(answer, Bug):
            raise RuntimeError(f"a worker process failed:\n{answer.traceback}")
        self._handle_answer(task, worker, answer)

    def _handle_answer(self, task: Task, worker: WorkerProcess, answer: Done) -> None:
        refused: Sequence[int] = ()
        if self._counter:
            refused = self._counter.count(task.group, worker.buffer, answer.images)
        if self._profile and answer.spent:
            self._profile.add(self.name, answer.spent)
        if refused:
            again = [task.names[index] for index in refused]
            self._queue.give_back(replace(task, names=again, refused=True, batch=None))
        if answer.done < len(task.names):
            self._queue.give_back(task.with_names(task.names[answer.done :]))
        self._report(task, answer.tally, answer.done - len(refused))

    def _handle_death(self, task: Task, worker: WorkerProcess) -> None:
        index, timed_out = worker.index(), worker.timed_out
        _, code = self._reap()
        if self._queue.closed.is_set():
            return
        name = task.names[index]
        if worker.unkillable and self._queue.count_unkillable() > _MAX_UNKILLABLE:
            raise ImgnormError(
                f"{for_message(name)}: reading it hangs, as did {_MAX_UNKILLABLE} others, and the "
                "processes that do so cannot be ended; see whether the storage still answers"
            )
        if not task.alone:
            self._queue.give_back(
                task.with_names(task.names[:index]),
                replace(task, names=[name], alone=True, batch=None),
                task.with_names(task.names[index + 1 :]),
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
        lost = Tally(skipped=(fault,), names_sum=names_sum([name_bytes(name)]))
        self._report(task, lost, 1)

    def _report(self, task: Task, tally: Tally, images: int) -> None:
        if task.refused:  # its names were hashed before the device refused them
            tally = replace(tally, names_sum=0)
        self._queue.report(task.group, tally, images)

    def _ready_worker(self) -> WorkerProcess | None:
        """The worker, started if necessary; None if it died while starting, or the scan is over."""
        if self._worker is None:
            started = monotonic()
            worker = self._start_worker()
            if worker is None:
                return None
            try:
                ready = worker.wait_until_ready()
            except EOFError:
                self._handle_failed_start(worker)
                return None
            self._failed_starts = 0
            self._note_start(ready, monotonic() - started)
        return self._worker

    def _start_worker(self) -> WorkerProcess | None:
        with self._lock:
            if self._queue.closed.is_set():
                return None
            try:
                self._worker = WorkerProcess(self._setup, self._queue.memory, self._fork_server)
            except OSError as error:
                raise CannotStart(
                    f"a worker process could not start ({error.strerror}); try fewer --workers"
                ) from error
            return self._worker

    def _handle_failed_start(self, worker: WorkerProcess) -> None:
        """Returns if another start may succeed.

        Raises:
            ImgnormError: it would not.
        """
        timed_out = worker.timed_out
        last_line, code = self._reap()
        self._failed_starts += 1
        if self._queue.closed.is_set():
            return
        if timed_out:
            raise CannotStart(
                f"a worker process was not ready after {process.START_TIMEOUT_S:g} s; try fewer "
                "--workers, and see whether the storage answers"
            ) from None
        by_signal = code is None or code < 0  # which may be chance
        if not by_signal or self._failed_starts == _MAX_FAILED_STARTS:
            raise ImgnormError(
                f"a worker process could not start ({last_line or _how_it_ended(code)})"
            ) from None

    def _note_start(self, ready: Ready, seconds: float) -> None:
        if self._profile:
            self._profile.jpeg = ready.jpeg
            self._profile.add(self.name, Spent(Counter[Stage]({"start": seconds})))
            if ready.fork_server_s is not None:
                self._profile.processes["fork server"] = Spent(cpu_s=ready.fork_server_s)

    def _reap(self) -> tuple[str, int | None]:
        """The last line that the worker wrote to standard error, and its exit code, if that is known."""
        with self._lock:
            worker, self._worker = self._worker, None
        assert worker is not None
        return worker.reap()


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "exit code unknown"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
