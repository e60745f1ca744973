"""Fork server: one process imports what all workers need, and each worker is forked from it.

A forked worker is ready in milliseconds instead of a tenth of a second, and shares the memory of the
imported modules. The fork is safe because the fork server has a single thread: in a forked process,
a lock that another thread held stays locked (https://man7.org/linux/man-pages/man2/fork.2.html).
Without a fork server, or after it has died, workers are started as plain processes.

An ended worker is a zombie until it is waited for, so its pid cannot be reused and a signal cannot
hit another process.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

_FORK_IS_SAFE = sys.platform == "linux"  # elsewhere, libraries of the system do not survive a fork

_IMPORT_S = 600.0
"""For the fork server to import: from a slow disk, beside many others."""
_ANSWER_S = 10.0
"""For its answers after that; a fork server that takes longer has been stopped."""
_KILL_S = 2.0
"""For a killed process to end."""

_FORK, _RUNNING = 0, 1 << 20
_MESSAGE = struct.Struct("<q")
# To the fork server: _FORK, with the descriptors of a worker's input, output, errors and heartbeat;
# or the process id of a worker to reap.
# From it: the process id of the new worker, or a negative errno; the exit code, or _RUNNING.

_early: list[ForkServer] = []


@contextmanager
def starting_early() -> Iterator[None]:
    """Start a fork server that `start_server` will find: it imports while files are being listed."""
    if _FORK_IS_SAFE:
        with suppress(OSError):
            _early.append(ForkServer())
    try:
        yield
    finally:
        close_early()


def close_early() -> None:
    """End the fork server that was started early, if none has asked for it."""
    while _early:
        _early.pop().close()


def start_server() -> ForkServer | None:
    """A fork server; None where forking is not safe, or the system grants no process."""
    while _early:
        fork_server = _early.pop()
        if fork_server.path == import_path():
            return fork_server
        fork_server.close()
    if _FORK_IS_SAFE:
        with suppress(OSError):
            return ForkServer()
    return None


class ForkServer:
    """The fork server, seen from the process that needs workers; threads may share it."""

    def __init__(self) -> None:
        """
        Raises:
            OSError: the system grants no further process, or no further open file.
        """
        self.path = import_path()
        self._lock = threading.Lock()
        self._ready = self._gone = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as stack:
            stack.callback(self._socket.close)
            with theirs:
                self._process = subprocess.Popen(
                    python_command(
                        "from imgnorm.workers.forkserver import run_server; run_server()"
                    ),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            stack.pop_all()

    def fork(self, heartbeat: int) -> Forked | None:
        """A new worker; None if the fork server is gone.

        Raises:
            OSError: the system grants no further process, or no further open file.
        """
        with ExitStack() as ours, ExitStack() as theirs:
            handles = []
            for to_worker in (True, False, False):
                read, write = os.pipe()
                theirs.callback(os.close, read if to_worker else write)
                ours.callback(os.close, write if to_worker else read)
                handles.append((read, write) if to_worker else (write, read))
            pid = self._ask(_FORK, [*(its for its, _ in handles), heartbeat])
            if pid is None:
                return None
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
            ours.pop_all()
        return Forked(self, pid, *(our for _, our in handles))

    def exit_code_of(self, pid: int) -> int | None:
        """The exit code of a worker, as in Popen.returncode; None while it runs.

        Raises:
            ChildProcessError: the fork server is gone, so the exit code cannot be known.
        """
        code = self._ask(pid)
        if code is None:
            raise ChildProcessError
        return None if code == _RUNNING else code

    def abandon(self) -> None:
        """Ends a fork server that is not ready, so that no thread waits for it any longer."""
        if not self._ready:
            self._process.kill()

    def close(self) -> None:
        """Ends the fork server; its workers live on."""
        self._socket.close()
        self._process.kill()
        try:
            self._process.wait(_KILL_S)
        except subprocess.TimeoutExpired:
            self._process.returncode = -signal.SIGKILL  # or Popen would warn that it still runs

    def _ask(self, number: int, handles: Sequence[int] = ()) -> int | None:
        """The answer; None if the fork server is gone."""
        with self._lock:
            if self._gone:
                return None
            try:
                self._socket.settimeout(_ANSWER_S if self._ready else _IMPORT_S)
                socket.send_fds(self._socket, [_MESSAGE.pack(number)], handles)
                answer = self._socket.recv(_MESSAGE.size)
            except OSError:
                answer = b""
            if not answer:
                self._gone = True
                self._process.kill()
                return None
            self._ready = True
            return int(_MESSAGE.unpack(answer)[0])


class Forked:
    """A worker that a fork server has forked: the part of Popen that is needed."""

    def __init__(
        self, fork_server: ForkServer, pid: int, stdin: int, stdout: int, stderr: int
    ) -> None:
        self.stdin: IO[bytes] = os.fdopen(stdin, "wb")
        self.stdout: IO[bytes] = os.fdopen(stdout, "rb")
        self.stderr: IO[bytes] = os.fdopen(stderr, "rb")
        self.returncode: int | None = None
        self._fork_server = fork_server
        self._pid = pid
        self._lock = threading.Lock()  # a worker must not be killed while it is reaped

    def kill(self) -> None:
        with self._lock:
            if self.returncode is None:
                with suppress(ProcessLookupError):  # without a fork server, the system reaps it
                    os.kill(self._pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """
        Raises:
            TimeoutExpired: it has not ended.
            ChildProcessError: its fork server is gone, so the exit code cannot be known.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                self.returncode = self._fork_server.exit_code_of(self._pid)
            if self.returncode is not None:
                return self.returncode
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            time.sleep(0.01)


def run_server() -> None:
    """Be the fork server, until the other end of standard input is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: the parent decides
    # With SIG_IGN the system would reap dead workers itself (https://man7.org/linux/man-pages/man2/wait.2.html).
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    gc.disable()
    from imgnorm.workers import worker

    worker.load()
    gc.enable()
    gc.freeze()  # the collector leaves what was imported alone, so that its memory stays shared
    if _threads() > 1:  # a debugger's, say: a lock that it held would stay locked in every worker
        os._exit(1)
    ready_s = time.process_time()
    parent = socket.socket(fileno=0)
    while True:
        message, handles, _, _ = socket.recv_fds(parent, _MESSAGE.size, 4)
        if not message:
            os._exit(0)
        (number,) = _MESSAGE.unpack(message)
        if number != _FORK:
            answer = _reap(number)
        elif len(handles) < 4:
            answer = -errno.EMFILE
        else:
            try:
                answer = os.fork()
            except OSError as error:
                answer = -(error.errno or errno.EAGAIN)
            if not answer:
                parent.detach()  # the worker's own standard input takes its place
                for place, handle in enumerate(handles[:3]):
                    os.dup2(handle, place)
                    os.close(handle)
                worker.run_worker(handles[3], ready_s)
        for handle in handles:
            os.close(handle)
        parent.send(_MESSAGE.pack(answer))


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _reap(pid: int) -> int:
    """The exit code of a child that was killed or has closed its output; waits a few ms for its end."""
    for _ in range(20):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    return _RUNNING


def python_command(program: str) -> list[str]:
    """The command that runs a program in a Python that finds the same modules as this one."""
    return [sys.executable, "-c", f"import sys; sys.path[:] = {import_path()!a}\n{program}"]


def import_path() -> list[str]:
    """The texts in `sys.path`; Python's import ignores other objects in it."""
    entries: list[object] = list(sys.path)
    return [entry for entry in entries if isinstance(entry, str)]
