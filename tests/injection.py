"""What the tests of faults share: the real command as a process, images to feed it, sources that fail."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest
from PIL import Image

from imgnorm.sources.folder import FolderSource

ROOT = Path(__file__).resolve().parents[1]
LINUX = sys.platform == "linux"
ROOT_USER = hasattr(os, "geteuid") and os.geteuid() == 0

needs_posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX")
needs_linux = pytest.mark.skipif(not LINUX, reason="needs Linux: /proc, address space limits")
needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None
    or subprocess.run(["strace", "-qq", "true"], capture_output=True).returncode != 0,
    reason="needs strace",
)
needs_mount = pytest.mark.skipif(not (LINUX and ROOT_USER), reason="needs root, to mount a disk")

WITHOUT_POWERS = """
import ctypes, os
if os.geteuid() == 0:  # root without the right to ignore permissions
    for power in (1, 2, 3):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
        assert ctypes.CDLL(None).prctl(24, power, 0, 0, 0) == 0  # PR_CAPBSET_DROP
"""


# ── the command ──


def command(*arguments: str | os.PathLike[str], before: str = "") -> list[str]:
    """The real command; `before` is Python that runs in its process before it becomes imgnorm."""
    words = ["-m", "imgnorm", *map(os.fspath, arguments)]
    if not before:
        return [sys.executable, *words]
    program = f"{before}\nimport os, sys\nos.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    return [sys.executable, "-c", program, *words]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without Python's settings, except the path to the checkout."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


def imgnorm(
    *arguments: str | os.PathLike[str],
    before: str = "",
    cwd: str | os.PathLike[str] | None = None,
    around: Sequence[str] = (),
    timeout: float = 60,
    stdout: int = subprocess.PIPE,
    **changes: str,
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; `around` is a program that runs it, such as strace."""
    return subprocess.run(
        [*around, *command(*arguments, before=before)],
        cwd=cwd,
        env=environment(**changes),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=timeout,
        encoding="utf-8",
        errors="backslashreplace",
    )


def here(
    *arguments: str | os.PathLike[str],
    cwd: str | os.PathLike[str] | None = None,
    merged: bool = False,
) -> subprocess.CompletedProcess[str]:
    """What `imgnorm` gives, in this process and in a tenth of the time.

    Args:
        merged: `stdout` has what both streams get, in its order, and `stderr` is empty.
    """
    from imgnorm.cli import run

    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2)]
    before = os.getcwd()
    try:
        os.chdir(cwd or before)
        with redirect_stdout(streams[0]), redirect_stderr(streams[0 if merged else 1]):
            code = run([os.fspath(argument) for argument in arguments])
    finally:
        os.chdir(before)
    for stream in streams:
        stream.seek(0)
    return subprocess.CompletedProcess(arguments, code, *(stream.read() for stream in streams))


class Running:
    """The running command, in a session of its own, and all processes that it starts."""

    def __init__(self, *arguments: str | os.PathLike[str], before: str = "") -> None:
        self._mark = f"FAULTS={uuid.uuid4().hex}"
        key, _, value = self._mark.partition("=")
        self.started = time.monotonic()
        # A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
        before_us = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self._process = subprocess.Popen(
                command(*arguments, before=before),
                env=environment(**{key: value}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before_us)
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self.stdout = self._process.stdout

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.processes():
            kill(pid, signal.SIGKILL)
        self._process.communicate()

    def processes(self) -> list[int]:
        """All processes with our mark that are not dead, orphans included."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    marked = self._mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                    dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
                except OSError:
                    continue
                if marked and not dead:
                    found.append(int(entry.name))
        return found

    def children(self) -> list[int]:
        """The workers, and the fork server that they come from."""
        return [pid for pid in self.processes() if pid != self.pid]

    def fork_servers(self) -> list[int]:
        """The children whose standard input is a socket."""
        return [pid for pid in self.children() if _stream(pid, 0).startswith("socket:")]

    def workers_at_work(self) -> list[int]:
        """The workers that are ready: from then on their standard error is /dev/null."""
        return [
            pid
            for pid in self.children()
            if _stream(pid, 2) == os.devnull and _stream(pid, 0).startswith("pipe:")
        ]

    def wait_until_listening(self) -> None:
        """Until imgnorm's handler of SIGTERM is in place; before that, Python is still starting."""

        def listening() -> bool:
            status = Path(f"/proc/{self.pid}/status").read_text()
            caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
            return bool(int(caught.split()[1], 16) >> signal.SIGTERM - 1 & 1)

        until(listening)

    def send(self, number: int, *, group: bool = False) -> None:
        if self._process.poll() is None:
            (os.killpg if group else os.kill)(self.pid, number)

    def end(self, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        out, err = self._process.communicate(timeout=timeout)
        return subprocess.CompletedProcess([], self._process.returncode, out, err)


def _stream(pid: int, number: int) -> str:
    """The file behind a standard stream of a process."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return ""


def kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def until(true: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"waited {timeout} s"
        time.sleep(0.01)


# ── images ──


def noise(seed: int, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    """Pixels that no codec can compress, the same for the same seed."""
    data = random.Random(seed).randbytes(
        size[0] * size[1] * len(Image.new(mode, (1, 1)).getbands())
    )
    return Image.frombytes(mode, size, data)


def folder_of(folder: Path, images: int, size: tuple[int, int] = (8, 8)) -> Path:
    """PNG files of noise in two class folders."""
    for index in range(images):
        path = folder / "ab"[index % 2] / f"{index:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(index, size).save(path)
    return folder


def slow_folder(folder: Path, images: int, edge: int = 1400) -> Path:
    """The same large image under many names: about 60 ms each."""
    folder.mkdir()
    noise(1, (edge, edge)).save(folder / "0.png", compress_level=1)
    for index in range(1, images):
        (folder / f"{index}.png").symlink_to("0.png")
    return folder


# ── sources that fail in the worker ──


class WithVictim(FolderSource):
    def __init__(self, path: str, victim: str = "") -> None:
        super().__init__(path)
        self.victim = victim


class Suicidal(WithVictim):
    """A process that reads a name starting with `victim` ends by a signal, as one with a bug would."""

    def __init__(self, path: str, victim: str = "", by: int = signal.SIGSEGV) -> None:
        super().__init__(path, victim)
        self.by = by

    def read(self, name: str) -> bytes:
        if name.startswith(self.victim):
            os.kill(os.getpid(), self.by)
        return super().read(name)


class Leaving(WithVictim):
    """The process that reads `victim` calls exit(), as some C libraries do."""

    def read(self, name: str) -> bytes:
        if name == self.victim:
            os._exit(3)
        return super().read(name)


class Sleepy(WithVictim):
    """Reading a name that starts with `victim` takes for ever, as on storage that is gone."""

    def read(self, name: str) -> bytes:
        if name.startswith(self.victim):
            time.sleep(3600)
        return super().read(name)


class Starved(WithVictim):
    """There is no memory for `victim`."""

    def read(self, name: str) -> bytes:
        if name == self.victim:
            raise MemoryError
        return super().read(name)


class Buggy(WithVictim):
    """Reading `victim` raises what no source may raise."""

    def read(self, name: str) -> bytes:
        if name == self.victim:
            raise KeyError(name)
        return super().read(name)


class Stillborn(FolderSource):
    """A worker that receives it dies."""

    def __setstate__(self, state: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def __getstate__(self) -> object:
        return {"path": self.path}


class Dawdling(FolderSource):
    """No worker becomes ready; with `only`, a path, the first one does not, and all others do."""

    def __init__(self, path: str, only: str = "") -> None:
        super().__init__(path)
        self.only = only
        self.home = os.getpid()

    def open(self) -> None:
        if os.getpid() == self.home:  # not a worker
            return
        if self.only:
            try:
                os.mkdir(self.only)
            except FileExistsError:
                return
        time.sleep(3600)
