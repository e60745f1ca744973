"""Source -> Tally, with worker processes: every core busy, and no image able to end the run.

Each worker is driven by one thread of this process, which waits for its answers; the thread that
called `scan` only adds tallies up. A worker that dies or hangs costs the image that it was at (its
pulse tells which): that image is tried once more, alone, and then listed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from imgnorm.errors import ImgnormError
from imgnorm.image import ImageSettings
from imgnorm.memory import available_memory
from imgnorm.reasons import Reason, Skipped
from imgnorm.sources import EncodedSource, ShardedSource
from imgnorm.tally import Tally
from imgnorm.worker import Bug, Done, Job, NeedsMemory, Pulse, Ready, Setup, receive, send

_MAX_NAMES = 256  # of one job
_POLL_S = 0.1
_MAX_FAILED_STARTS = 5


@dataclass(frozen=True)
class Limits:
    """What one image may cost before it is skipped."""

    max_pixels: int = 178_956_970  # Pillow's own limit
    timeout_s: float = 30.0


@dataclass(frozen=True)
class Progress:
    """How far a scan has come."""

    done: int  # images counted or skipped
    total: int | None  # None if nobody knows
    bytes_read: int


def scan(
    source: EncodedSource,
    groups: Mapping[str, Sequence[str]],
    settings: ImageSettings,
    limits: Limits,
    *,
    workers: int,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Tally]:
    """The tally of each group of names. Depends on the images only, not on how the work was shared.

    Raises:
        ImgnormError: worker processes cannot be started.
    """
    total = sum(map(len, groups.values()))
    tallies = {group: Tally() for group in groups}
    done = bytes_read = 0
    with _crew(source, groups, settings, limits, workers) as outcomes:
        while done < total:
            try:
                outcome = outcomes.get(timeout=_POLL_S)
            except Empty:
                on_progress(Progress(done, total, bytes_read))
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            group, tally, images = outcome
            tallies[group] += tally
            done += images
            bytes_read += tally.bytes_read
            on_progress(Progress(done, total, bytes_read))
    return tallies


@contextmanager
def _crew(
    source: EncodedSource,
    groups: Mapping[str, Sequence[str]],
    settings: ImageSettings,
    limits: Limits,
    workers: int,
) -> Iterator[SimpleQueue[Any]]:
    """Workers at work; leaving the context ends them, finished or not."""
    total = sum(map(len, groups.values()))
    board = _Board(_piles(source, groups), workers)
    setup = Setup(source, settings, limits.max_pixels)
    drivers = [_Driver(board, setup, limits.timeout_s) for _ in range(min(workers, max(1, total)))]
    board.drivers = len(drivers)
    try:
        for driver in drivers:
            driver.begin()
        watch = threading.Thread(target=_watch, args=(board, drivers), daemon=True)
        watch.start()
        yield board.outcomes
    finally:
        board.close()
        for driver in drivers:
            driver.stop()
        for driver in drivers:
            if driver.is_alive():  # a signal may have come before all were started
                driver.join()
            driver.clear_up()


def _watch(board: _Board, drivers: Sequence[_Driver]) -> None:
    """Ends workers that stay at one image for too long."""
    try:
        while not board.closed.wait(_POLL_S):
            for driver in drivers:
                driver.check_time()
    except Exception as error:  # noqa: BLE001 - raised again in the thread that called scan
        board.fail(error)


@dataclass(frozen=True)
class _Work:
    """Names of one group, to be counted by one worker."""

    group: str
    names: Sequence[str]
    alone: bool = False  # a worker died or hung at this name before


class _Board:
    """What is left to do, and what came of it; shared by all drivers."""

    def __init__(self, piles: Sequence[_Pile], workers: int) -> None:
        self.outcomes: SimpleQueue[Any] = SimpleQueue()  # (group, Tally, images) or an exception
        self.closed = threading.Event()
        self.drivers = 0  # that have not resigned
        self.memory = _MemoryBudget(available_memory())
        self._again: deque[_Work] = deque()
        self._suspects: deque[_Work] = deque()
        self._in_hand = 0  # pieces of work that drivers have
        self._left = sum(pile.left for pile in piles)  # names without an outcome
        self._undealt = self._left
        self._workers = workers
        self._untouched = deque(piles)
        self._touched: list[_Pile] = []
        self._pile_of: dict[object, _Pile] = {}
        self._changed = threading.Condition()

    def take(self, worker: object) -> _Work | None:
        """The next piece of work, until `put_down`; None when all is done.

        Waits while others may still give some back. Suspects come last, one by one, with nothing
        else going on: an image is not skipped for what its neighbours take.
        """
        with self._changed:
            while not self.closed.is_set() and self._left:
                work = self._next(worker)
                if work is not None:
                    self._in_hand += 1
                    return work
                self._changed.wait()
        return None

    def _next(self, worker: object) -> _Work | None:
        if self._again:
            return self._again.popleft()
        if self._undealt:
            return self._dealt(worker)
        if self._suspects and not self._in_hand:
            return self._suspects.popleft()
        return None

    def put_down(self) -> None:
        """A driver is done with what it took."""
        with self._changed:
            self._in_hand -= 1
            self._changed.notify_all()

    def give_back(self, *works: _Work) -> None:
        with self._changed:
            for work in works:
                if work.names:
                    (self._suspects if work.alone else self._again).append(work)
            self._changed.notify_all()

    def report(self, group: str, tally: Tally, images: int) -> None:
        with self._changed:
            self._left -= images
            self._changed.notify_all()
        self.outcomes.put((group, tally, images))

    def fail(self, error: BaseException) -> None:
        self.outcomes.put(error)
        self.close()

    def resign(self, error: _CannotStart) -> None:
        """One driver less: too many open files, say. The others do its work, if there are any."""
        with self._changed:
            self.drivers -= 1
            last = not self.drivers
        if last:
            self.fail(error)

    def close(self) -> None:
        self.closed.set()
        self.memory.close()
        with self._changed:
            self._changed.notify_all()

    def _dealt(self, worker: object) -> _Work:
        """Pieces that shrink towards the end, so that the workers finish together.

        A worker stays with its shard, then begins another one, and helps out when there is none.
        """
        pile = self._pile_of.get(worker)
        if pile is None or not pile.left:
            if self._untouched:
                pile = self._untouched.popleft()
                self._touched.append(pile)
            else:
                pile = max(self._touched, key=lambda pile: pile.left)
            self._pile_of[worker] = pile
        work = pile.piece(min(_MAX_NAMES, max(1, self._undealt // (self._workers * 8))))
        self._undealt -= len(work.names)
        if not pile.left:
            self._touched.remove(pile)
        return work


class _Pile:
    """The names of one shard that nobody has taken; of all images, in a source without shards."""

    def __init__(self, parts: Sequence[tuple[str, Sequence[str]]]) -> None:
        """
        Args:
            parts: groups, and the names of each. None is empty.
        """
        self.left = sum(len(names) for _, names in parts)
        self._parts = deque(parts)
        self._start = 0  # in the first part

    def piece(self, size: int) -> _Work:
        group, names = self._parts[0]
        piece = names[self._start : self._start + size]
        self._start += len(piece)
        if self._start == len(names):
            self._parts.popleft()
            self._start = 0
        self.left -= len(piece)
        return _Work(group, piece)


def _piles(source: EncodedSource, groups: Mapping[str, Sequence[str]]) -> list[_Pile]:
    parts: dict[str, list[tuple[str, Sequence[str]]]] = {}
    for group, names in groups.items():
        whole = [("", names)]
        for shard, part in source.shards(names) if isinstance(source, ShardedSource) else whole:
            if part:
                parts.setdefault(shard, []).append((group, part))
    return [_Pile(its) for its in parts.values()]


class _CannotStart(ImgnormError):
    """The system grants no further process."""


class _Driver(threading.Thread):
    """Keeps one worker process busy, and replaces it when it dies."""

    def __init__(self, board: _Board, setup: Setup, timeout_s: float) -> None:
        super().__init__(daemon=True)
        self._board = board
        self._setup = setup
        self._timeout_s = timeout_s
        self._worker: _Worker | None = None
        self._lock = threading.Lock()
        self._failed_starts = 0

    def run(self) -> None:
        try:
            while (work := self._board.take(self)) is not None:
                try:
                    self._do(work)
                finally:
                    self._board.put_down()
        except _CannotStart as error:
            self._board.resign(error)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that called scan
            self._board.fail(error)

    def begin(self) -> None:
        try:
            self.start()
        except RuntimeError as error:  # the system grants no further thread
            self._board.resign(
                _CannotStart(f"a worker could not start ({error}); try fewer --workers")
            )

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

    def _do(self, work: _Work) -> None:
        try:
            worker = self._hired()
        except _CannotStart:
            self._board.give_back(work)
            raise
        if worker is None:
            self._board.give_back(work)
            return
        try:
            answer = worker.do(work.names)
        except EOFError:
            self._after_death(work, worker)
            return
        if isinstance(answer, Bug):
            raise RuntimeError(f"a worker process failed:\n{answer.traceback}")
        if answer.done < len(work.names):
            self._board.give_back(_Work(work.group, work.names[answer.done :]))
        self._board.report(work.group, answer.tally, answer.done)

    def _hired(self) -> _Worker | None:
        """The worker; None when it died before it was ready, or all is over."""
        if self._worker is None:
            with self._lock:
                if self._board.closed.is_set():
                    return None
                try:
                    self._worker = _Worker(self._setup, self._board.memory)
                except OSError as error:
                    raise _CannotStart(
                        f"a worker process could not start ({error.strerror}); try fewer --workers"
                    ) from error
            try:
                self._worker.wait_until_ready()
                self._failed_starts = 0
            except EOFError:
                words, code = self._dismissed()
                self._failed_starts += 1
                if self._board.closed.is_set():
                    return None
                if code >= 0 or self._failed_starts == _MAX_FAILED_STARTS:  # a signal may be chance
                    raise ImgnormError(
                        f"a worker process could not start ({words or _how_it_ended(code)})"
                    ) from None
        return self._worker

    def _after_death(self, work: _Work, worker: _Worker) -> None:
        index, timed_out = worker.index(), worker.timed_out
        _, code = self._dismissed()
        if self._board.closed.is_set():
            return
        name = work.names[index]
        if not work.alone:
            self._board.give_back(
                _Work(work.group, work.names[:index]),
                _Work(work.group, [name], alone=True),
                _Work(work.group, work.names[index + 1 :]),
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
        self._board.report(work.group, Tally(skipped=(fault,)), 1)

    def _dismissed(self) -> tuple[str, int]:
        """The dead worker's last words and its exit code."""
        with self._lock:
            worker, self._worker = self._worker, None
        assert worker is not None
        return worker.bury()


def _how_it_ended(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class _Worker:
    """One process, seen from here."""

    def __init__(self, setup: Setup, memory: _MemoryBudget) -> None:
        self.timed_out = False
        self._memory = memory
        self._jobs = 0
        self._busy = False
        self._moved = (b"", monotonic())  # the last pulse seen, and since when
        with ExitStack() as stack:
            if sys.platform == "win32":
                handle: int | str = f"imgnorm-{os.getpid()}-{id(self)}"
                inherited: tuple[int, ...] = ()
            else:
                handle = _page(stack)
                inherited = (handle,)
            self._pulse = Pulse(handle)
            program = (
                f"import sys; sys.path[:] = {_import_path()!a}\n"
                f"from imgnorm.worker import serve; serve({handle!r})"
            )
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=inherited,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._errors = self._process.stderr
        self._setup = setup

    def wait_until_ready(self) -> None:
        """
        Raises:
            EOFError: the worker died.
        """
        self._send(self._setup)
        answer = receive(self._from)
        assert isinstance(answer, Ready)

    def do(self, names: Sequence[str]) -> Done | Bug:
        """
        Raises:
            EOFError: the worker died, at the name of `index()`.
        """
        self._jobs += 1
        self._send(Job(self._jobs, names))
        reserved = 0
        try:
            while True:
                self._moved = (self._pulse.sign_of_life(), monotonic())
                self._busy = True
                answer = receive(self._from)
                self._busy = False
                if not isinstance(answer, NeedsMemory):
                    assert isinstance(answer, (Done, Bug))
                    return answer
                self._memory.release(reserved)
                reserved = answer.bytes if self._memory.acquire(answer.bytes) else 0
                self._send(reserved > 0)
        finally:
            self._busy = False
            self._memory.release(reserved)

    def index(self) -> int:
        """The index, in the last job, of the name that the worker was at."""
        job, index = self._pulse.last()
        return index if job == self._jobs else 0

    def check_time(self, timeout_s: float) -> None:
        pulse, since = self._moved
        now = self._pulse.sign_of_life()
        if not self._busy or now != pulse:
            self._moved = (now, monotonic())
        elif monotonic() - since > timeout_s:
            self.timed_out = True
            self.kill()

    def kill(self) -> None:
        self._process.kill()

    def bury(self) -> tuple[str, int]:
        code = self._process.wait()
        words = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        for stream in (self._from, self._errors):
            stream.close()
        with suppress(OSError):  # what it had not read yet
            self._to.close()
        return (words[-1] if words else "", code)

    def _send(self, message: object) -> None:
        try:
            send(self._to, message)
        except OSError as error:  # a dead worker's input is closed
            raise EOFError from error


_PAGE_BYTES = 1 << 16


def _page(stack: ExitStack) -> int:
    """The handle of an empty page that a child inherits; closed with the stack."""
    if hasattr(os, "memfd_create"):  # needs no folder for temporary files, which may be full
        page = os.memfd_create("imgnorm-pulse")
    else:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(_PAGE_BYTES))
            file.flush()
            page = os.dup(file.fileno())
    stack.callback(os.close, page)
    os.truncate(page, _PAGE_BYTES)
    if sys.platform != "win32" and page <= 2:
        # Ours, where our own input or output is closed; the child's 0, 1 and 2 are pipes.
        import fcntl

        page = fcntl.fcntl(page, fcntl.F_DUPFD_CLOEXEC, 3)
        stack.callback(os.close, page)
    return page


class _MemoryBudget:
    """What all workers together may take for large images."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._closed = False
        self._changed = threading.Condition()

    def acquire(self, size: int) -> bool:
        """Waits until `size` bytes are free; False if there will never be so many."""
        with self._changed:
            if size > self._total:
                return False
            self._changed.wait_for(lambda: self._closed or self._taken + size <= self._total)
            self._taken += size
            return True

    def release(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _import_path() -> list[str]:
    """`sys.path`, without what is no text there: Python itself passes over that."""
    entries: list[object] = list(sys.path)
    return [entry for entry in entries if isinstance(entry, str)]
