"""Nursery: a process that imports once what all workers need, and forks each of them from itself.

A worker is then there in milliseconds instead of a tenth of a second, and shares the memory of what
was imported. Forking is safe there: that process has one thread. Where there is no nursery, or none
any more, workers are started as plain processes.

A worker that has ended keeps its process id until it is buried: a signal meets nobody else.
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

_IMPORT_S = 600.0
"""For a nursery to import: from a slow disk, beside many."""
_ANSWER_S = 10.0
"""For one that has imported; somebody has stopped the one that takes longer."""
_DEATH_S = 2.0
"""For a killed process to end."""

_FORK, _ALIVE = 0, 1 << 20
_MESSAGE = struct.Struct("<q")
# To the nursery: _FORK, with a worker's input, output, errors and pulse; or whom to bury.
# From it: a process id, or an error number below 0; an exit code, or _ALIVE.


class ForkServer:
    """The nursery as the process sees it that needs workers; for any number of threads."""

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
                    python("from imgnorm.workers.forkserver import serve; serve()"),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            stack.pop_all()

    def fork(self, heartbeat: int) -> Forked | None:
        """A new worker; None where the nursery is gone.

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
            pid = self._asked(_FORK, [*(its for its, _ in handles), heartbeat])
            if pid is None:
                return None
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
            ours.pop_all()
        return Forked(self, pid, *(our for _, our in handles))

    def exit_code_of(self, pid: int) -> int | None:
        """Of a worker that has ended, as in Popen.returncode; None while it has not.

        Raises:
            ChildProcessError: the nursery is gone, and nobody knows.
        """
        code = self._asked(pid)
        if code is None:
            raise ChildProcessError
        return None if code == _ALIVE else code

    def abandon(self) -> None:
        """Nobody waits any longer for one that is not ready."""
        if not self._ready:
            self._process.kill()

    def close(self) -> None:
        """Ends it; its workers live on."""
        self._socket.close()
        self._process.kill()
        try:
            self._process.wait(_DEATH_S)
        except subprocess.TimeoutExpired:
            self._process.returncode = -signal.SIGKILL  # or Popen would complain that it runs

    def _asked(self, number: int, handles: Sequence[int] = ()) -> int | None:
        """Its answer; None where it is gone."""
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
    """A worker that a nursery has forked: as much of Popen as is needed."""

    def __init__(
        self, fork_server: ForkServer, pid: int, stdin: int, stdout: int, stderr: int
    ) -> None:
        self.stdin: IO[bytes] = os.fdopen(stdin, "wb")
        self.stdout: IO[bytes] = os.fdopen(stdout, "rb")
        self.stderr: IO[bytes] = os.fdopen(stderr, "rb")
        self.returncode: int | None = None
        self._fork_server = fork_server
        self._pid = pid
        self._lock = threading.Lock()  # nobody is killed while he is buried

    def kill(self) -> None:
        with self._lock:
            if self.returncode is None:
                with suppress(ProcessLookupError):  # where no nursery keeps it
                    os.kill(self._pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """
        Raises:
            TimeoutExpired: it has not ended.
            ChildProcessError: its nursery is gone, and nobody knows how it ended.
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


def serve() -> None:
    """Be the nursery, until the other end of standard input is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: the parent decides
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would bury whoever dies
    gc.disable()
    from imgnorm.workers import worker

    worker.load()
    gc.enable()
    gc.freeze()  # nobody looks for garbage there again, and its memory stays shared
    if _threads() > 1:  # of a debugger, say: after a fork, what they had locked stays locked
        os._exit(1)
    ready_s = time.process_time()
    parent = socket.socket(fileno=0)
    while True:
        message, handles, _, _ = socket.recv_fds(parent, _MESSAGE.size, 4)
        if not message:
            os._exit(0)
        (number,) = _MESSAGE.unpack(message)
        if number != _FORK:
            answer = _buried(number)
        elif len(handles) < 4:
            answer = -errno.EMFILE
        else:
            try:
                answer = os.fork()
            except OSError as error:
                answer = -(error.errno or errno.EAGAIN)
            if not answer:
                parent.detach()  # its place is that of our standard input
                for place, handle in enumerate(handles[:3]):
                    os.dup2(handle, place)
                    os.close(handle)
                worker.serve(handles[3], ready_s)
        for handle in handles:
            os.close(handle)
        parent.send(_MESSAGE.pack(answer))


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def _buried(pid: int) -> int:
    """The exit code of a child that was killed or has closed its output; waits for it, but not long."""
    for _ in range(20):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    return _ALIVE


def python(program: str) -> list[str]:
    """The command that runs a program in a Python that finds the modules that this one finds."""
    return [sys.executable, "-c", f"import sys; sys.path[:] = {import_path()!a}\n{program}"]


def import_path() -> list[str]:
    """`sys.path`, without what is no text there: Python itself passes over that."""
    entries: list[object] = list(sys.path)
    return [entry for entry in entries if isinstance(entry, str)]


_early: list[ForkServer] = []


@contextmanager
def opened_early() -> Iterator[None]:
    """Begin to open a nursery that `opened` will find: while imports and listings take their time."""
    if _SAFE:
        with suppress(OSError):
            _early.append(ForkServer())
    try:
        yield
    finally:
        while _early:  # nobody has asked for it
            _early.pop().close()


def opened() -> ForkServer | None:
    """None where forking is not safe, or the system grants no nursery."""
    while _early:
        fork_server = _early.pop()
        if fork_server.path == import_path():
            return fork_server
        fork_server.close()
    if _SAFE:
        with suppress(OSError):
            return ForkServer()
    return None


_SAFE = sys.platform == "linux"  # elsewhere, libraries of the system do not survive a fork
