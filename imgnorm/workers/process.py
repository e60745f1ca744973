"""One worker process, seen from the process that started it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import monotonic
from typing import IO, Any

from imgnorm.sources.source import Unit
from imgnorm.workers.forkserver import Forked, ForkServer, python_command
from imgnorm.workers.heartbeat import Heartbeat, buffer_memory, shared_page
from imgnorm.workers.memory import Budgets, Share
from imgnorm.workers.messages import (
    Bug,
    Done,
    Forget,
    Job,
    NeedsMemory,
    Ready,
    Setup,
    TaskKind,
    receive,
    receive_first,
    send,
)

START_TIMEOUT_S = 600.0
"""For a worker to import what it needs, and to open its source: from a slow disk, beside many others."""

_KILL_S = 2.0
"""For a killed process to end; one that waits for storage that is gone does not end."""

_KILLED = -9  # the exit code of SIGKILL, as in Popen.returncode


class WorkerProcess:
    """One worker process, from its start until it is reaped."""

    def __init__(self, setup: Setup, memory: Budgets, fork_server: ForkServer | None) -> None:
        """Starts the process.

        Raises:
            OSError: the system grants no further process, or no further open file.
        """
        self.timed_out = False
        self.unkillable = False  # it was killed, and did not end
        self._killed_at: float | None = None
        self._memory = Share(memory)
        self._jobs = 0
        self._busy = False
        self._last_change = (b"", monotonic())  # the last heartbeat seen, and since when
        with ExitStack() as stack:
            if sys.platform == "win32":
                handle: int | str = f"imgnorm-{os.getpid()}-{id(self)}"
                inherited: tuple[int, ...] = ()
            else:
                handle = shared_page(stack, behind=setup.buffer.bytes if setup.buffer else 0)
                inherited = (handle,)
            self._heartbeat = Heartbeat(handle)
            self.buffer = buffer_memory(handle, setup.buffer) if setup.buffer else None
            forked = fork_server.fork(handle) if fork_server and isinstance(handle, int) else None
            self._process: Forked | subprocess.Popen[bytes] = forked or subprocess.Popen(
                python_command(
                    f"from imgnorm.workers.worker import run_worker; run_worker({handle!r})"
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=inherited,
            )
        self._started_at: float | None = monotonic()  # None as soon as it is ready
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._errors = self._process.stderr
        self._setup = setup

    def wait_until_ready(self) -> Ready:
        """
        Raises:
            EOFError: the worker died.
        """
        self._send(self._setup)
        answer = self._receive(receive_first)
        assert isinstance(answer, Ready)
        self._started_at = None
        return answer

    def do(
        self,
        unit: Unit | None,
        task: TaskKind = "count",
        *,
        brief: bool = False,
        decode: bool = True,
        again: bool = False,
    ) -> Done | Forget | Bug:
        """Sends a `Job` with these arguments to the worker, and waits for the answer.

        Raises:
            EOFError: the worker died, at the image of `index()`.
        """
        self._jobs += 1
        self._send(Job(self._jobs, unit, task, brief, decode, again))
        try:
            while True:
                self._last_change = (self._heartbeat.state(), monotonic())
                self._busy = True
                answer = self._receive()
                self._busy = False
                if not isinstance(answer, NeedsMemory):
                    assert isinstance(answer, (Done, Forget, Bug))
                    return answer
                for_file = answer.kind == "file"
                ask = self._memory.ask_for_file if for_file else self._memory.ask_for_pixels
                self._send(ask(answer.bytes))
        finally:
            self._busy = False
            self._memory.release()

    def index(self) -> int:
        """The index, in the last job, of the image that the worker was at."""
        job, index = self._heartbeat.last()
        return index if job == self._jobs else 0

    def check_time(self, timeout_s: float) -> None:
        """Kills a worker that is not ready in time, or that is busy with one image for too long."""
        started = self._started_at
        if started is not None:
            if monotonic() - started > START_TIMEOUT_S:
                self.timed_out = True
                self.kill()
            return
        heartbeat, since = self._last_change
        now = self._heartbeat.state()
        if not self._busy or now != heartbeat:
            self._last_change = (now, monotonic())
        elif monotonic() - since > timeout_s:
            self.timed_out = True
            self.kill()

    def kill(self) -> None:
        if self._killed_at is None:
            self._killed_at = monotonic()
        self._process.kill()

    def reap(self) -> tuple[str, int | None]:
        """The last line that it wrote to standard error, and its exit code, if that is known.

        A process that does not end although it was killed is left to the system.
        """
        code: int | None
        try:
            code = self._process.wait(None if self._killed_at is None else self._kill_time_left())
        except ChildProcessError:
            code = None
        except subprocess.TimeoutExpired:
            self.unkillable = True
            for stream in (self._from, self._errors):
                stream.close()
            with suppress(OSError):
                self._to.close()
            self._process.returncode = _KILLED  # or Popen would warn that it still runs
            return "", _KILLED
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        for stream in (self._from, self._errors):
            stream.close()
        with suppress(OSError):  # closing writes what the worker had not read yet
            self._to.close()
        return (lines[-1] if lines else "", code)

    def _receive(self, receive_message: Callable[[IO[bytes]], Any] = receive) -> Any:
        """
        Raises:
            EOFError: the worker died, or was killed and does not end.
        """
        if hasattr(select, "poll"):  # elsewhere, waiting for a pipe cannot be limited in time
            poll = select.poll()
            poll.register(self._from, select.POLLIN)
            while not poll.poll(500):
                if self._killed_at is not None and not self._kill_time_left():
                    raise EOFError
        return receive_message(self._from)

    def _kill_time_left(self) -> float:
        """Seconds that a killed process still has to end."""
        assert self._killed_at is not None
        return max(0.0, self._killed_at + _KILL_S - monotonic())

    def _send(self, message: object) -> None:
        try:
            send(self._to, message)
        except OSError as error:  # a dead worker's input is closed
            raise EOFError from error
