"""Ctrl-C, kill, a lost terminal, a closed pipe: the command ends quickly, quietly and cleanly."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from injection import (
    Running,
    environment,
    folder_of,
    imgnorm,
    kill,
    needs_linux,
    needs_posix,
    slow_folder,
    until,
)

import imgnorm as library

pytestmark = needs_posix

OLD = b"# Written by imgnorm. old bytes\n"
MOMENTS = 8
CODES = {
    name: code
    for name, code in {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}.items()
    # Ignored where the tests run under nohup or in the background, and then by the command, too.
    if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN
}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of work for two workers."""
    return slow_folder(tmp_path_factory.mktemp("slow") / "data", 800)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("small") / "data", 200, (40, 40))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A stats file that exists, alone in its folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "stats.yaml").write_bytes(OLD)
    return folder / "stats.yaml"


def assert_clean(run: Running, ended: subprocess.CompletedProcess[str]) -> None:
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    until(lambda: not run.processes())


# ── signals ──


@needs_linux
@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
@pytest.mark.parametrize("name", CODES)
def test_a_signal_ends_a_scan_at_once(slow: Path, output: Path, name: str, group: bool) -> None:
    """Ctrl-C reaches the whole group of processes, kill only one: the result is the same."""
    with Running("stats", slow, "--workers", "4", "-o", output, "--force") as run:
        until(lambda: len(run.workers_at_work()) == 4)
        run.send(getattr(signal, name), group=group)
        asked = time.monotonic()
        ended = run.end()
        seconds = time.monotonic() - asked

        assert CODES[name] == ended.returncode
        assert seconds < 10  # of half a minute of work; it takes 0.2 s
        assert (ended.stdout, ended.stderr) == ("", f"stopped by {name}\n")
        assert_clean(run, ended)
    assert {"stats.yaml": OLD} == {path.name: path.read_bytes() for path in output.parent.iterdir()}


@needs_linux
@pytest.mark.parametrize("pause", [0, 0.02, 0.2])
def test_a_second_ctrl_c_leaves_at_once(slow: Path, output: Path, pause: float) -> None:
    with Running("stats", slow, "--workers", "4", "-o", output, "--force") as run:
        until(lambda: len(run.workers_at_work()) == 4)
        for _ in range(2):
            run.send(signal.SIGINT, group=True)
            time.sleep(pause)
        ended = run.end(timeout=10)

        assert ended.returncode in (130, -signal.SIGINT)  # the same to a shell
        assert_clean(run, ended)
    assert ["stats.yaml"] == os.listdir(output.parent)


@needs_linux
@pytest.mark.parametrize("name", CODES)
def test_a_signal_at_any_moment_leaves_the_old_file_or_the_new_one(
    small: Path, output: Path, name: str
) -> None:
    """Import, listing, scan, write, exit: moments from the start to the end of the command."""
    undisturbed = output.with_name("undisturbed.yaml")
    with Running("stats", small, "--workers", "2", "-o", undisturbed) as run:
        assert 0 == run.end().returncode
        life = time.monotonic() - run.started
    new = undisturbed.read_bytes()
    undisturbed.unlink()
    chance = random.Random(name)
    ends = set()
    for moment in range(MOMENTS):
        output.write_bytes(OLD)
        with Running("stats", small, "--workers", "2", "-o", output, "--force") as run:
            run.wait_until_listening()
            due = run.started + life * (moment + chance.random()) / MOMENTS
            time.sleep(max(0.0, due - time.monotonic()))
            run.send(getattr(signal, name), group=bool(moment % 2))
            asked = time.monotonic()
            ended = run.end()

            assert ended.returncode in (0, CODES[name], -getattr(signal, name))
            assert time.monotonic() - asked < 10
            assert_clean(run, ended)
        ends.add(ended.returncode)
        assert output.read_bytes() in ((OLD, new) if ended.returncode else (new,))
        assert ["stats.yaml"] == os.listdir(output.parent)
    assert CODES[name] in ends


@needs_linux
@pytest.mark.parametrize("name", CODES)
def test_a_signal_while_leaving_shows_no_traceback(name: str) -> None:
    """The last milliseconds, when all is written and Python shuts down."""
    for delay in range(8):
        with Running("--help") as run:
            run.wait_until_listening()
            run.stdout.readline()
            time.sleep(delay / 400)
            run.send(getattr(signal, name))
            ended = run.end()

            # Minus the signal: our handlers were gone already; a shell shows 128 + signal for both.
            assert ended.returncode in (0, CODES[name], -getattr(signal, name))
            assert ended.stderr in ("", f"stopped by {name}\n")


def test_a_signal_that_python_wraps_is_still_no_bug() -> None:
    """Python turns what a handler raises in __set_name__, as in an import, into a RuntimeError."""
    program = """
import os, signal, imgnorm.cli, imgnorm.__main__ as entry
class Field:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.SIGTERM)
        sum(range(1000))
imgnorm.cli.run = lambda arguments: type("Listing", (), {"ignored": Field()})
entry.main()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True
    )

    assert (143, "", "stopped by SIGTERM\n") == (ended.returncode, ended.stdout, ended.stderr)


@needs_linux
def test_a_lost_terminal_does_not_end_a_run_under_nohup(small: Path, tmp_path: Path) -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    with Running("stats", small, "-o", tmp_path / "stats.yaml", before=ignoring) as run:
        until(lambda: bool(run.children()))
        run.send(signal.SIGHUP, group=True)

        assert 0 == run.end().returncode
    assert 200 == library.read_stats(tmp_path / "stats.yaml").images


@needs_linux
def test_workers_end_when_their_parent_is_killed(slow: Path) -> None:
    """kill -9 gives the parent no chance to end them: none may continue alone and hold memory."""
    with Running("stats", slow, "--workers", "4") as run:
        until(lambda: len(run.workers_at_work()) == 4)
        kill(run.pid, signal.SIGKILL)

        until(lambda: not run.processes())
        assert -signal.SIGKILL == run.end().returncode


# ── standard streams ──


def test_a_reader_that_is_gone_is_no_fault(small: Path, tmp_path: Path) -> None:
    """`imgnorm stats | head -0`: exit 141 as for SIGPIPE, no traceback, and the file is whole."""
    read, write = os.pipe()
    os.close(read)
    path = tmp_path / "stats.yaml"
    ended = imgnorm("stats", small, "-o", path, "-q", stdout=write)
    os.close(write)

    assert (141, "") == (ended.returncode, ended.stderr)
    assert 200 == library.read_stats(path).images


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["stats", "--help"]])
def test_help_that_nobody_reads_exits_141(arguments: list[str], buffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    ended = imgnorm(*arguments, stdout=write, PYTHONUNBUFFERED=buffered)
    os.close(write)

    assert (141, "") == (ended.returncode, ended.stderr)


def test_head_gets_its_line_and_the_file_is_whole(small: Path, tmp_path: Path) -> None:
    """Output larger than the pipe, so that imgnorm is in the middle of writing it."""
    with Running("stats", small, "--json", "-v", "-o", tmp_path / "stats.yaml") as run:
        run.stdout.read(10)
        run.stdout.close()
        run._process.stdout = None
        ended = run.end()

        assert ended.returncode in (0, 141)
        assert "Traceback" not in ended.stderr
    assert 200 == library.read_stats(tmp_path / "stats.yaml").images


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["stats", "-q"], ["stats", "-q", "--json"], ["--help"]])
def test_standard_output_without_space_is_told_in_one_line(
    small: Path, arguments: list[str], buffered: str
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    if arguments[0] == "stats":
        arguments = [*arguments, str(small)]
    ended = imgnorm(*arguments, stdout=full, PYTHONUNBUFFERED=buffered)
    os.close(full)

    assert 74 == ended.returncode
    assert (
        "standard output: cannot be written (No space left on device); send it elsewhere\n"
        == ended.stderr
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["stats", "merge"])
def test_standard_output_without_space_does_not_hide_what_was_written(
    small: Path, tmp_path: Path, command: str
) -> None:
    one, path = tmp_path / "one.yaml", tmp_path / "stats.yaml"
    imgnorm("stats", small, "-o", one)
    with open("/dev/full", "w") as full:
        source = one if command == "merge" else small
        ended = imgnorm(command, "-q", source, "-o", path, stdout=full.fileno())

    assert 74 == ended.returncode
    assert (
        f"wrote    {path}\n"
        "standard output: cannot be written (No space left on device); send it elsewhere\n"
    ) == ended.stderr
    assert one.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
def test_closed_standard_streams_change_nothing_in_the_file(
    small: Path, tmp_path: Path, closed: tuple[int, ...]
) -> None:
    """As in a daemon or a cron job: files that are opened later get the numbers 0, 1 and 2."""
    imgnorm("stats", small, "-o", tmp_path / "expected.yaml")
    path = tmp_path / "stats.yaml"
    ended = imgnorm("stats", small, "-o", path, before=f"import os; [*map(os.close, {closed})]")

    assert 0 == ended.returncode
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "expected.yaml").read_bytes() == path.read_bytes()
