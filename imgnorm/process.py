"""One worker process, seen from the one that started it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from time import monotonic

from imgnorm.memory import MemoryBudget
from imgnorm.pulse import Pulse, page
from imgnorm.wire import Bug, Done, Job, NeedsMemory, Ready, Setup, receive, send


class WorkerProcess:
    """One process, from its start to its funeral."""

    def __init__(self, setup: Setup, memory: MemoryBudget) -> None:
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
                handle = page(stack)
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


def _import_path() -> list[str]:
    """`sys.path`, without what is no text there: Python itself passes over that."""
    entries: list[object] = list(sys.path)
    return [entry for entry in entries if isinstance(entry, str)]
