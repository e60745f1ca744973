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
from imgnorm.sources.names import looked_at
from imgnorm.sources.source import Unit
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.tally.spool import TemporaryRows
from imgnorm.tally.tally import Tally, TallySum
from imgnorm.wording import printable
from imgnorm.workers import process
from imgnorm.workers.forkserver import ForkServer
from imgnorm.workers.messages import Bug, Done, Forget, Ready, Setup, TaskKind
from imgnorm.workers.process import WorkerProcess
from imgnorm.workers.work_queue import Report, Task, WorkQueue

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
            self._ready_worker()  # starts it while units are still being listed
            while (task := self._queue.take(self)) is not None:
                try:
                    self._do(task)
                except CannotStart:
                    self._queue.done()  # it was given back
                    raise
                self._queue.done()  # not after an error: it would look like the end of the scan
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
        elif task.unit.names is None:
            self._count_unlisted(task, worker)
        else:
            self._count_named(task, worker)

    def _count_named(self, task: Task, worker: WorkerProcess) -> None:
        names = task.unit.names
        assert names is not None
        on_device = self._setup.decoder == "nvjpeg" and not task.refused
        try:
            answer = worker.do(task.unit, decode=not on_device, again=task.refused)
        except EOFError:
            self._handle_death(task, names, worker)
            return
        done = self._demand_done(answer)
        refused = self._take_buffer(worker, done)
        if refused:
            self._queue.give_back(
                replace(task, unit=task.unit.only(refused), refused=True, batch=None)
            )
        if done.images < len(names):
            self._queue.give_back(task.part(done.images, len(names)))
        self._report(done.tally, done.images - len(refused))

    def _count_unlisted(self, task: Task, worker: WorkerProcess) -> None:
        """Has the worker read a unit in one pass, or list it and hand it back with names.

        What is counted in one pass, and what the worker hands back of it, is final when the unit ends. Where
        other workers have nothing to do, the unit is divided, or listed if it can only be read from its
        beginning and has hardly been begun.
        """
        rows = TemporaryRows()
        held = TallySum(rows.take)
        unit: Unit | None = task.unit
        rest: Unit | None = None
        list_first = task.listed or self._counter is not None
        job: TaskKind = "list" if list_first else "count"
        counted, divisible = 0, True  # jobs that counted; whether dividing it was not yet tried
        idle = self._queue.others_are_idle()
        while True:
            try:
                answer = worker.do(unit, job, brief=idle and not counted)
            except EOFError:
                self._forget(task, held)
                self._handle_death_in_unlisted(task, worker)
                return
            if isinstance(answer, Forget):
                break
            done = self._demand_done(answer)
            self._take_buffer(worker, done)
            held.add(done.tally)
            rest = done.rest or rest
            progress = Report(None, done.images, done.tally.bytes_read, task.unit)
            if done.finished:
                if rest:
                    self._queue.add_rest(rest)
                left = len(rest) if rest else 0
                self._queue.report(replace(progress, tally=held.tally(), left=left, rows=rows))
                return
            self._queue.report(progress)
            if job == "divide":
                divisible = False
                if done.rest is None and counted == 1:
                    break
            counted += job == "count"
            idle = divisible and self._queue.others_are_idle()
            unit, job = None, "divide" if idle else "count"
        self._forget(task, held)
        self._queue.give_back(replace(task, listed=True))

    def _demand_done(self, answer: Done | Forget | Bug) -> Done:
        """
        Raises:
            RuntimeError: the answer is a bug in imgnorm, or in a user's source.
        """
        if isinstance(answer, Bug):
            raise RuntimeError(f"a worker process failed:\n{answer.traceback}")
        assert isinstance(answer, Done)
        if self._profile and answer.spent:
            self._profile.add(self.name, answer.spent)
        return answer

    def _take_buffer(self, worker: WorkerProcess, done: Done) -> Sequence[int]:
        """Has the device count what is in the buffer; returns the images whose files it refuses."""
        if self._counter is None:
            return ()
        return self._counter.count(done.group, worker.buffer, done.buffered)

    def _forget(self, task: Task, held: TallySum) -> None:
        """What was counted of a unit must be counted again."""
        self._queue.report(Report(None, -held.names, -held.bytes_read, task.unit))

    def _handle_death(self, task: Task, names: Sequence[str], worker: WorkerProcess) -> None:
        index = min(worker.index(), len(names) - 1)
        name = names[index]
        code = self._ended(worker, name)
        if self._queue.closed.is_set():
            return
        if task.alone:
            lost = Tally(skipped=(self._fault_of(worker, name, code),))
            class_of = self._setup.source.class_of
            self._report(looked_at(lost, [name], class_of, again=task.refused), 1)
            return
        self._queue.give_back(
            task.part(0, index),
            replace(task.part(index, index + 1), alone=True, batch=None),
            task.part(index + 1, len(names)),
        )

    def _handle_death_in_unlisted(self, task: Task, worker: WorkerProcess) -> None:
        """The unit is listed next: if an image is at fault, it is found among the names."""
        code = self._ended(worker, task.unit.id)
        if self._queue.closed.is_set():
            return
        if not task.alone:
            self._queue.give_back(replace(task, listed=True, alone=task.listed))
        else:
            lost = Tally(skipped=(self._fault_of(worker, task.unit.id, code),))
            self._queue.report(Report(lost, opened=task.unit, left=0))

    def _ended(self, worker: WorkerProcess, name: str) -> int | None:
        """The exit code of a worker that died at an image or unit of this name.

        Raises:
            ImgnormError: too many processes cannot be ended.
        """
        _, code = self._reap()
        closed = self._queue.closed.is_set()
        if not closed and worker.unkillable and self._queue.count_unkillable() > _MAX_UNKILLABLE:
            raise ImgnormError(
                f"{printable(name)}: reading it hangs, as did {_MAX_UNKILLABLE} others, and the "
                "processes that do so cannot be ended; see whether the storage still answers"
            )
        return code

    def _fault_of(self, worker: WorkerProcess, name: str, code: int | None) -> Skipped:
        if worker.timed_out:
            return Skipped(name, Reason.TIMEOUT, f"took longer than {self._timeout_s:g} s, twice")
        detail = f"the process that decoded it ended, twice: {_how_it_ended(code)}"
        return Skipped(name, Reason.WORKER_DIED, detail)

    def _report(self, tally: Tally, images: int) -> None:
        self._queue.report(Report(tally, images, tally.bytes_read))

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
