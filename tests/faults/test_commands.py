"""Several writers of one file, clocks that jump, hostile command lines: what holds for every command."""

from __future__ import annotations

import ast
import errno
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import injection
import pytest
from commands import Command
from injection import (
    ROOT,
    environment,
    folder_of,
    imgnorm,
    kill,
    needs_linux,
    needs_posix,
    needs_strace,
    noise,
)

import imgnorm as library
from imgnorm.cli import run

pytestmark = needs_posix

OLD = b"# Written by imgnorm. old bytes\n"
RUNS = int(os.environ.get("IMGNORM_TEST_RUNS", "1"))
"""Runs of each of eight writers; 50 take some minutes."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("commands") / "data", 6)


@pytest.fixture(scope="module")
def parts(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The stats files of two shards."""
    folder = tmp_path_factory.mktemp("parts")
    images = sorted(data.rglob("*.png"))
    for number in (1, 2):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for image in images[number - 1 :: 2]:
                tar.add(image, image.name)
    for number in (1, 2):
        measured = library.measure(folder / "*.tar", shard=(number, 2))
        library.write_stats(folder / f"{number}.yaml", measured)
    return [folder / "1.yaml", folder / "2.yaml"]


# ── one way to write ──


def test_no_module_but_output_writes_files() -> None:
    """What holds for write_whole then holds for every file that imgnorm writes."""
    writing = []
    for path in sorted((ROOT / "imgnorm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and _may_write(node):
                writing.append((path.relative_to(ROOT / "imgnorm").as_posix(), node.lineno))

    assert {"output.py"} == {module for module, _ in writing}, writing


def _may_write(call: ast.Call) -> bool:
    """Opens a file for anything but reading, or makes, moves or removes one."""
    function = ast.unparse(call.func)
    if function in ("open", "os.fdopen", "io.open") or function.endswith(".open_file"):
        modes = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "mode")]
        texts = [mode.value for mode in modes if isinstance(mode, ast.Constant)]
        if function == "os.fdopen":  # the worker's stream to its parent
            return False
        return len(texts) < len(modes) or any(set(str(text)) & set("wax+") for text in texts)
    changes = (
        "write_text", "write_bytes", "touch", "mkdir", "makedirs", "rename", "replace", "unlink",
        "rmdir", "rmtree", "remove", "symlink", "symlink_to", "link", "hardlink_to", "chmod",
    )  # fmt: skip
    module, _, name = function.rpartition(".")
    if module in ("os", "shutil") and name in changes:
        return True
    if isinstance(call.func, ast.Attribute) and call.func.attr in changes[:2]:
        return True
    return function == "os.open" and "O_CREAT" in ast.unparse(call)


NET = """
from torch import nn
def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
"""
CONSTANTS = "format: imgnorm-stats/1\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.25, 0.3]\n"


@pytest.fixture
def calibrating(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], Path]:
    """`bn calibrate` of a checkpoint onto a file that exists."""
    torch = pytest.importorskip("torch")
    from torch import nn

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command looks for modules here first
    Path("net_of_faults.py").write_text(NET)
    Path("constants.yaml").write_text(CONSTANTS)
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict(), "weights.pt")
    output = tmp_path / "out" / "weights.pt"
    output.parent.mkdir()
    output.write_bytes(OLD)
    options = ["--weights", "weights.pt", "--data", str(data), "--stats", "constants.yaml"]
    start = ["bn", "calibrate", "net_of_faults:small", *options, "--device", "cpu", "-q"]
    return [*start, "-o", str(output)], output


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_calibration_that_cannot_be_written_is_shown_and_the_old_file_kept(
    calibrating: tuple[list[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    call: str,
    number: int,
) -> None:
    """In this process, since torch takes seconds to import: the system fails at one call."""
    arguments, output = calibrating
    real: Any = getattr(os, call)
    calls = 0

    def failing(*given: Any, **options: Any) -> Any:
        nonlocal calls
        if call == "open" and ".imgnorm-" not in str(given[0]):
            return real(*given, **options)
        calls += 1
        if call == "open" and calls == 1:  # the check before the work
            return real(*given, **options)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, failing)
    code = run([*arguments, "--force", "--force"])
    monkeypatch.undo()
    printed = capsys.readouterr()

    assert 2 == code
    assert calls
    assert (
        f"{output}: cannot be written ({os.strerror(number)}); name a place that can\n"
        == printed.err
    )
    assert "found    6 = 6 counted" in printed.out
    assert {output.name: OLD} == {path.name: path.read_bytes() for path in output.parent.iterdir()}


def test_a_checkpoint_that_was_made_meanwhile_is_left_alone(
    calibrating: tuple[list[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without --force: it did not exist when the command began."""
    arguments, output = calibrating
    output.unlink()
    real = os.fsync

    def meanwhile(handle: int) -> None:
        output.write_bytes(OLD)
        real(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)

    assert 2 == run(arguments), capsys.readouterr()
    assert "(File exists)" in capsys.readouterr().err
    assert {output.name: OLD} == {path.name: path.read_bytes() for path in output.parent.iterdir()}


# ── several writers of one file ──


def beside(arguments: Sequence[str | Path]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        injection.command(*arguments),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_of_eight_that_create_one_file_exactly_one_does(parts: list[Path], tmp_path: Path) -> None:
    """Without --force no file is replaced: seven commands report that it exists."""
    target = tmp_path / "all.yaml"
    for _ in range(RUNS):
        target.unlink(missing_ok=True)
        running = [beside(["merge", *parts, "-o", target]) for _ in range(8)]
        codes = sorted(process.wait(timeout=60) for process in running)

        assert [0] + [2] * 7 == codes
        assert ["all.yaml"] == os.listdir(tmp_path)
        assert 6 == library.read_stats(target).images


def test_a_reader_finds_a_whole_file_while_eight_commands_replace_it(
    parts: list[Path], tmp_path: Path
) -> None:
    """And a writer that is killed leaves nothing that would block the others."""
    target = tmp_path / "all.yaml"
    written = set()
    sources: list[list[Path]] = [[parts[0]], [parts[1]], parts, parts[::-1]]
    for source in sources:
        ended = imgnorm("merge", *source, "--allow-missing", "-o", target, "--force", "-q")
        assert 0 == ended.returncode
        written.add(target.read_bytes())
    assert 3 == len(written)
    chance = random.Random(20)
    left = [RUNS] * 8
    writers: dict[int, subprocess.Popen[bytes]] = {}
    killed = reads = 0
    while any(left) or writers:
        for number in range(8):
            if number not in writers and left[number]:
                left[number] -= 1
                source = sources[number % len(sources)]
                arguments = ["merge", *source, "--allow-missing", "-o", target, "--force"]
                writers[number] = beside(arguments)
        for number, writer in list(writers.items()):
            if writer.poll() is not None:
                assert writer.returncode in (0, -9)
                del writers[number]
            elif chance.random() < 0.002:
                kill(writer.pid, 9)
                killed += 1
        assert target.read_bytes() in written
        reads += 1
        time.sleep(0.001)
    print(f"{reads} reads, {killed} writers killed")

    assert reads > 10
    temporary = [name for name in os.listdir(tmp_path) if name != "all.yaml"]
    assert len(temporary) <= killed
    assert 0 == imgnorm("merge", *parts, "-o", target, "--force").returncode
    assert 6 == library.read_stats(target).images


# ── clocks ──

JUMPING = """
import itertools, time
real, hours = time.time, itertools.cycle([0, 3600, -3600, 4e9, -2e9])
time.time = lambda: real() + next(hours)
"""


def test_no_clock_changes_a_byte(data: Path, tmp_path: Path) -> None:
    """Wall clocks that jump, time zones, a date for reproducible builds: durations come from a monotonic clock."""
    path = tmp_path / "here.yaml"
    library.write_stats(path, library.measure(data, workers=1))
    results = [path.read_bytes()]
    for epoch, zone in (("0", "Pacific/Kiritimati"), ("x", "Etc/GMT+12")):
        path = tmp_path / f"{epoch}.yaml"
        ended = imgnorm("stats", data, "-o", path, SOURCE_DATE_EPOCH=epoch, TZ=zone)
        assert 0 == ended.returncode
        results.append(path.read_bytes())
    path = tmp_path / "jumping.yaml"
    (tmp_path / "sitecustomize.py").write_text(JUMPING)  # in every process, workers included
    jumping = f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}"
    ended = imgnorm("stats", data, "-o", path, PYTHONPATH=jumping)
    results.append(path.read_bytes())

    assert 0 == ended.returncode, ended.stderr
    seconds = float(ended.stderr.split("time ")[1].split()[0])
    assert 0 <= seconds < 60
    assert 1 == len(set(results))


def test_files_of_any_time_are_measured(tmp_path: Path, command: Command) -> None:
    """1970, before it, 2099, around the end of 32 bits: nothing is too old, and nothing is stale."""
    moments = [0, 1, -86_400, 4_070_908_800, 2**31 - 1, 2**31 + 1]
    folder = folder_of(tmp_path / "data", len(moments))
    expected = library.measure(folder, workers=1)
    for path, moment in zip(folder.rglob("*.png"), moments, strict=True):
        os.utime(path, (moment, moment))
    stats = tmp_path / "stats.yaml"
    stats.write_bytes(OLD)
    os.utime(stats, (4_070_908_800, 4_070_908_800))  # "newer" than everything

    assert 0 == command("stats", folder, "-o", stats, "--force", "--workers", "1").code
    assert expected == library.read_stats(stats)


def test_a_module_is_out_of_date_by_its_bytes_and_not_by_its_time(
    parts: list[Path], tmp_path: Path, command: Command
) -> None:
    stats, module = shutil.copy(parts[0], tmp_path), tmp_path / "transforms.py"
    assert 0 == command("emit", stats, "-o", module).code
    os.utime(stats, (4_070_908_800, 4_070_908_800))
    os.utime(module, (0, 0))

    assert 0 == command("emit", stats, "-o", module, "--check").code
    shutil.copyfile(parts[1], stats)
    os.utime(stats, (0, 0))
    assert 1 == command("emit", stats, "-o", module, "--check").code


# ── command lines ──


def argument_bytes() -> int:
    """The bytes that the system takes in one command line, less the environment."""
    return os.sysconf("SC_ARG_MAX") - sum(len(k) + len(v) + 16 for k, v in os.environ.items())


def test_as_many_arguments_as_the_system_takes(parts: list[Path], tmp_path: Path) -> None:
    """`merge part-*.yaml` with a hundred thousand files: one line for each fault, no crash."""
    folder = tmp_path / ("n" * 40)
    folder.mkdir()
    room = min(argument_bytes(), 10_000_000) // 2
    paths = [f"{folder.name}/{index:06}.yaml" for index in range(room // (54 + 8))]
    ended = imgnorm("merge", *paths, cwd=tmp_path)

    assert (2, "") == (ended.returncode, ended.stdout)
    assert len(paths) == len(ended.stderr.splitlines())
    assert f"{paths[-1]}: no such file; check the path" == ended.stderr.splitlines()[-1]


def test_a_list_of_ten_megabytes_is_measured(tmp_path: Path) -> None:
    """What is too long for a command line goes through --list."""
    noise(1).save(tmp_path / "a.png")
    (tmp_path / "names").write_text(
        "".join(f"{'./' * 200}{'missing' * 8}{index}.png\n" for index in range(22_000)) + "a.png\n"
    )
    assert (tmp_path / "names").stat().st_size > 10_000_000
    rejects = tmp_path / "rejects.jsonl"
    ended = imgnorm("stats", "names", "--list", "--rejects", rejects, "-q", cwd=tmp_path)

    assert (3, "") == (ended.returncode, ended.stderr)
    assert (
        "found    22,001 = 1 counted + 22,000 skipped (22,000 vanished) + 0 ignored" in ended.stdout
    )
    assert 22_000 == len(rejects.read_text().splitlines())


@pytest.mark.parametrize("length", [5_000, 100_000])
def test_an_argument_of_any_length_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, length: int
) -> None:
    monkeypatch.chdir(tmp_path)
    long, digits = "x" * length, "9" * length
    lines: list[list[str]] = [
        ["stats", long],
        ["stats", "--list", long],
        ["stats", f"{long}.tar"],
        ["stats", ".", "--mode", long],
        ["stats", ".", "--limit", digits],
        ["stats", ".", "--shard", f"1/{digits}"],
        ["stats", ".", "--max-skipped", digits],
        ["stats", ".", "--resize", digits],
        ["stats", ".", "--timeout", digits],
        ["show", long],
        ["merge", long],
        ["emit", long],
        ["emit", "missing.yaml", "-o", long],
        ["validate", long],
        ["lint", long],
        ["explain", "0.1" + digits],
        ["presets", "show", long],
        [long],
    ]

    for line in lines:
        ended = command(*line)
        assert ended.code in (1, 2), line[:-1]
        assert ended.out or ended.err, line[:-1]
    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["-", ""])
def test_standard_output_is_no_file(
    data: Path,
    parts: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    name: str,
) -> None:
    """A file called - would surprise, and a half-written stream cannot be undone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(data)
    shutil.copy(parts[0], tmp_path)
    before = sorted(os.listdir(tmp_path))
    message = f"{name!r}: is not a file; name one, or leave the option out and use `>`\n"

    for line in ("stats data -o", "stats data --rejects", "merge 1.yaml -o", "emit 1.yaml -o"):
        assert (2, "", message) == command(*line.split(), name), line
    assert before == sorted(os.listdir(tmp_path))


@pytest.mark.parametrize("name", ["-o", "--", "--help", "-rf", "-", "--output=x", "-q"])
def test_names_that_look_like_options_are_names_behind_two_dashes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data, tmp_path / name)
    stats = f"{name}.yaml"
    rejects = f"--rejects={name}.jsonl"

    assert 0 == command("stats", rejects, f"-o{stats}", "--workers=1", "--", name).code
    assert 0 == command("show", "--", stats).code
    assert 0 == command("merge", f"-o{name}.all.yaml", "-q", "--", stats).code
    assert 0 == command("emit", f"-o{name}.py", "--", stats).code
    expected = [name, f"{name}.all.yaml", f"{name}.jsonl", f"{name}.py", stats]
    assert sorted(expected) == sorted(os.listdir(tmp_path))


def test_command_lines_that_mean_nothing_are_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        ["--"], ["--", "--"], ["stats", "--"], ["merge", "--"], ["-"], ["stats", "-"], [""],
        ["stats", ""], ["merge", "", ""], ["emit", ""], ["show", "-"], ["stats", "--list", "-"],
        ["validate", ""], ["lint", ""], ["explain", ""], ["stats", "{"],
        ["stats", "{0..99999999999999999999}.tar"], ["stats", "*" * 3000],
        ["stats", "{a,b}" * 40], ["stats", "[" * 999],
    ]  # fmt: skip

    for line in lines:
        ended = command(*line)
        assert ended.code in (1, 2), line
        assert ended.err, line
    assert [] == os.listdir(tmp_path)


# ── archives ──

CHANGING = (
    "openat,open,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,link,linkat,symlink,"
    "symlinkat,unlink,unlinkat,rmdir,truncate,chmod,fchmodat,execve,connect"
)


@needs_linux
@needs_strace
@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
def test_measuring_an_archive_changes_nothing_but_the_output(tmp_path: Path, suffix: str) -> None:
    """By every system call of every process: no file is made, moved or removed; nothing is run."""
    folder = folder_of(tmp_path / "data", 4)
    (folder / "run.sh").write_text("#!/bin/sh\ntouch pwned\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "a" / "payload.png").write_text("#!/bin/sh\ntouch pwned\n")
    kind = {"zip": "zip", "tar": "tar", "tar.gz": "gztar"}[suffix]
    archive = shutil.make_archive(str(tmp_path / "images"), kind, folder)
    output = tmp_path / "out" / "stats.yaml"
    output.parent.mkdir()
    log = tmp_path / "log"
    around = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={CHANGING}"]
    ended = imgnorm(
        "stats", archive, "-o", output, "-q", around=around, PYTHONDONTWRITEBYTECODE="1"
    )

    assert 3 == ended.returncode
    changes = [line for line in log.read_text(errors="replace").splitlines() if _changes(line)]
    assert changes
    assert [] == [line for line in changes if f'"{output.parent}/' not in line]
    started = [line for line in log.read_text(errors="replace").splitlines() if "execve(" in line]
    assert all(f'execve("{sys.executable}"' in line for line in started if "= 0" in line)


def _changes(line: str) -> bool:
    """Whether a line of strace shows that something was changed, or opened for it."""
    _, _, call = line.partition(" ")
    call = call.strip()
    if " = -1 " in call or "execve(" in call or "resumed>" in call or "(" not in call:
        return False
    if call.startswith("???("):  # the process was ended before strace could ask it which call
        return False
    if call.startswith(("openat(", "open(")):
        return ("O_WRONLY" in call or "O_RDWR" in call or "O_CREAT" in call) and (
            '"/dev/null"' not in call
        )
    return True
