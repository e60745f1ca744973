"""Workers are forked from one process, and nothing is lost where that is impossible or dies."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from injection import Running, Suicidal, folder_of, kill, needs_linux, slow_folder, until

import imgnorm as library
from imgnorm.stats.format import text_of
from imgnorm.workers import forkserver
from imgnorm.workers.forkserver import Forked, ForkServer

pytestmark = [needs_linux, pytest.mark.usefixtures("own_fork_servers")]

VICTIM = "a/00004.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("forkserver") / "data", 40)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few seconds of work for two workers."""
    return slow_folder(tmp_path_factory.mktemp("slow") / "data", 80)


@pytest.fixture
def server() -> Iterator[ForkServer]:
    one = forkserver.start_server()
    assert one is not None
    yield one
    one.close()


def forked(one: ForkServer) -> Forked:
    """A worker that waits for its setup."""
    heartbeat = os.memfd_create("heartbeat")
    os.truncate(heartbeat, 1 << 16)
    try:
        worker = one.fork(heartbeat)
    finally:
        os.close(heartbeat)
    assert worker is not None
    return worker


def ended(worker: Forked) -> int:
    code = worker.wait(10)
    for stream in (worker.stdin, worker.stdout, worker.stderr):
        stream.close()
    return code


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def streams(worker: Forked) -> list[str]:
    """Its open pipes and sockets; the pipe of its output is open twice once it has been duplicated."""
    targets = []
    for handle in Path(f"/proc/{worker._pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            targets.append(os.readlink(handle))
    return [target for target in targets if target.startswith(("pipe:", "socket:"))]


def measured(source: Any, **options: Any) -> library.Stats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", library.SkippedImagesWarning)
        return library.measure(source, **options)


# ── workers ──


def test_all_workers_are_forked_from_one_process_that_has_one_thread(slow: Path) -> None:
    """Otherwise a fork would not be safe."""
    with Running("stats", slow, "--workers", "4") as run:
        until(lambda: len(run.workers_at_work()) == 4)
        (fork_server,) = run.fork_servers()

        assert "1" == status(fork_server)["Threads"]
        assert str(run.pid) == status(fork_server)["PPid"]
        assert {str(fork_server)} == {status(pid)["PPid"] for pid in run.workers_at_work()}


def test_how_a_worker_ended_is_told(server: ForkServer) -> None:
    by_signal, by_itself = forked(server), forked(server)
    by_signal.kill()
    by_itself.stdin.close()

    assert -signal.SIGKILL == ended(by_signal)
    assert 1 == ended(by_itself)  # it had not received its setup


def test_a_worker_that_has_ended_keeps_its_number_until_it_is_buried(server: ForkServer) -> None:
    """Otherwise a signal could hit another process."""
    worker = forked(server)
    worker.kill()
    until(lambda: status(worker._pid)["State"].startswith("Z"))
    worker.kill()

    assert -signal.SIGKILL == ended(worker)
    assert not Path(f"/proc/{worker._pid}").exists()


def test_waiting_for_a_worker_that_goes_on_ends(server: ForkServer) -> None:
    worker = forked(server)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.05)
    worker.kill()

    assert -signal.SIGKILL == ended(worker)


def test_a_worker_has_the_open_files_of_nobody_else(server: ForkServer) -> None:
    """It would notice too late that its parent is gone, and its parent that a sibling is gone."""
    one, other = forked(server), forked(server)
    # Once its output is duplicated, it waits for its setup. Just before that it may still have the socket
    # of its fork server.
    until(
        lambda: (
            all(len(streams(worker)) == 4 for worker in (one, other))
            and not set(streams(one)) & set(streams(other))
        )
    )

    for worker in (one, other):
        worker.kill()
        ended(worker)


def test_too_few_open_files_are_an_error_of_the_system(server: ForkServer) -> None:
    """The system leaves out descriptors that the fork server may not open."""
    resource.prlimit(server._process.pid, resource.RLIMIT_NOFILE, (5, 5))
    with pytest.raises(OSError, match="Too many open files"):
        forked(server)


# ── without a fork server ──


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "_FORK_IS_SAFE", False)


def dying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "python_command", lambda program: [sys.executable, "-c", ""])


def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(forkserver, "ForkServer", refuse)


def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing on storage that does not answer."""
    monkeypatch.setattr(forkserver, "_IMPORT_S", 0.2)
    program = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(forkserver, "python_command", lambda _: program)


@pytest.mark.parametrize("spoil", [without, dying, refused, silent])
def test_workers_are_started_without_a_nursery_to_the_same_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    source = Suicidal(str(folder), VICTIM, signal.SIGSEGV)
    expected = measured(source, workers=2)
    spoil(monkeypatch)
    stats = measured(source, workers=2)

    assert text_of(expected) == text_of(stats)
    assert [(VICTIM, "the process that decoded it ended, twice: signal 11")] == [
        (s.name, s.detail) for s in stats.skipped
    ]


def test_a_nursery_in_which_a_thread_runs_forks_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a debugger or a tracer in every Python: what it has locked would stay locked."""
    (tmp_path / "sitecustomize.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"
    )
    expected = library.measure(folder, workers=2)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    profile = library.Profile()
    stats = library.measure(folder, workers=2, profile=profile)

    assert text_of(expected) == text_of(stats)
    assert "fork server" not in profile.processes


@pytest.mark.parametrize("spoil", [None, without])
def test_what_the_user_prints_as_python_starts_is_no_answer_of_a_worker(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any
) -> None:
    """Nor what a module prints while the worker imports it."""
    (tmp_path / "sitecustomize.py").write_text("print('hello', flush=True)\n")
    (tmp_path / "simplejpeg.py").write_text("print('good bye', flush=True)\nraise ImportError\n")
    expected = library.measure(folder, workers=2)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    if spoil:
        spoil(monkeypatch)

    assert text_of(expected) == text_of(library.measure(folder, workers=2))


# ── a fork server that dies ──


def test_a_nursery_that_is_killed_costs_nothing(slow: Path, tmp_path: Path) -> None:
    path = tmp_path / "stats.yaml"
    with Running("stats", slow, "--workers", "2", "-o", path) as run:
        until(lambda: len(run.workers_at_work()) == 2)
        kill(run.fork_servers()[0], signal.SIGKILL)
        done = run.end(timeout=60)

        until(lambda: not run.processes())
    assert 0 == done.returncode
    assert 80 == library.read_stats(path).images


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_workers_that_die_after_their_nursery_are_replaced(
    slow: Path, tmp_path: Path, number: int
) -> None:
    path = tmp_path / "stats.yaml"
    with Running("stats", slow, "--workers", "2", "-o", path) as run:
        until(lambda: len(run.workers_at_work()) == 2)
        (fork_server,) = run.fork_servers()
        workers = run.workers_at_work()
        kill(fork_server, number)
        for pid in workers:
            kill(pid, signal.SIGKILL)
        done = run.end(timeout=60)

        until(lambda: not run.processes())
    assert 0 == done.returncode
    assert 80 == library.read_stats(path).images


def test_how_a_worker_ended_is_unknown_without_its_nursery(server: ForkServer) -> None:
    worker = forked(server)
    server._process.kill()
    worker.stdin.close()
    with pytest.raises(ChildProcessError):
        worker.wait()
    worker.kill()
    for stream in (worker.stdout, worker.stderr):
        stream.close()
    assert server.fork(0) is None


# ── one that is started early ──


def test_a_nursery_is_there_before_it_is_asked_for() -> None:
    with forkserver.starting_early():
        (early,) = forkserver._early
        found = forkserver.start_server()

        assert early is found
    found.close()


def test_one_that_finds_other_modules_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker would not find the user's own source."""
    with forkserver.starting_early():
        (early,) = forkserver._early
        monkeypatch.syspath_prepend("/somewhere/else")
        found = forkserver.start_server()

        assert found is not None
        assert found.path == forkserver.import_path() != early.path
        assert early._process.returncode is not None
    found.close()


def test_one_that_nobody_asks_for_ends() -> None:
    with forkserver.starting_early():
        (early,) = forkserver._early

    assert early._process.returncode is not None
    assert [] == forkserver._early


def test_one_ends_where_this_process_counts() -> None:
    with forkserver.starting_early():
        (early,) = forkserver._early
        library.measure([np.zeros((4, 5, 3), np.uint8)])

        assert early._process.returncode is not None


@pytest.mark.parametrize("arguments", [["stats", "nowhere"], ["stats", "--nonsense"]])
def test_a_command_that_fails_leaves_no_nursery(arguments: list[str]) -> None:
    with Running(*arguments) as run:
        assert 2 == run.end().returncode
        assert [] == run.processes()


def test_a_nursery_ends_with_its_parent() -> None:
    program = (
        "import os, sys, time\n"
        "from imgnorm.workers.forkserver import start_server\n"
        "print(start_server()._process.pid, flush=True)\n"
        "time.sleep(0.3)\n"
        "os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    pid = int(done.stdout)
    started = time.monotonic()

    until(lambda: not _lives(pid), timeout=5)
    assert time.monotonic() - started < 5


def _lives(pid: int) -> bool:
    try:
        return status(pid)["State"][0] not in "ZX"
    except OSError:
        return False
