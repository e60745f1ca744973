"""Storage that fails, stalls, answers in small pieces, holds very many files, or changes meanwhile."""

from __future__ import annotations

import errno
import gc
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
import warnings
from pathlib import Path
from typing import Literal

import pytest
from injection import (
    environment,
    folder_of,
    imgnorm,
    needs_linux,
    needs_posix,
    needs_strace,
    noise,
    until,
)

import imgnorm as library
from imgnorm.sources import files
from imgnorm.sources.archive import ArchiveSource
from imgnorm.sources.folder import FolderSource
from imgnorm.sources.listing import all_names_of
from imgnorm.sources.source import Unread

pytestmark = needs_posix

VICTIM = "a/00002.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("storage") / "data", 8)


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "stats.yaml"
    assert 0 == imgnorm("stats", "data", "-o", path, cwd=folder.parent).returncode
    return path.read_bytes()


def injecting(path: Path, fault: str, *, call: str = "read", log: Path | None = None) -> list[str]:
    """strace around the command: a fault in one kind of call on one file, in any process."""
    return ["strace", "-f", "-qq", "-o", str(log or os.devnull), "-P", str(path), "-e",
            f"trace={call}", "-e", f"inject={call}:{fault}"]  # fmt: skip


# ── faults of reading ──


@needs_strace
@pytest.mark.parametrize("call", ["read", "openat", "fstat"])
@pytest.mark.parametrize("error", ["EIO", "ETIMEDOUT", "ESTALE", "EREMOTEIO"])
def test_a_passing_fault_of_the_storage_costs_nothing(
    folder: Path, whole: bytes, tmp_path: Path, error: str, call: str
) -> None:
    """It is tried once more; these are also the errors of a network file system whose server restarts."""
    path = tmp_path / "stats.yaml"
    calls = "fstat,newfstatat" if call == "fstat" else call
    around = injecting(folder / VICTIM, f"error={error}:when=1", call=calls)
    if call == "fstat":
        around[-1] = f"inject=fstat:error={error}:when=1"
    ended = imgnorm("stats", "data", "--workers", "1", "-o", path, cwd=folder.parent, around=around)

    assert 0 == ended.returncode, ended.stderr
    assert whole == path.read_bytes()


@needs_strace
@pytest.mark.parametrize("error", ["EIO", "ETIMEDOUT", "ESTALE"])
def test_a_lasting_fault_of_the_storage_is_a_read_error_and_exit_3(
    folder: Path, tmp_path: Path, error: str
) -> None:
    """Not "corrupt": nothing is known about the file."""
    path = tmp_path / "stats.yaml"
    around = injecting(folder / VICTIM, f"error={error}")
    ended = imgnorm("stats", folder, "--workers", "1", "-o", path, around=around)
    stats = library.read_stats(path)

    assert 3 == ended.returncode
    assert [(VICTIM, "read-error")] == [(s.name, str(s.reason)) for s in stats.skipped]
    assert (
        f"skipped  {VICTIM}: read-error ({os.strerror(getattr(errno, error))})"
        == ended.stdout.splitlines()[-1]
    )
    assert 7 == stats.images


@needs_strace
@pytest.mark.parametrize("when", ["1", "1..5"])
def test_an_interrupted_read_is_no_fault(
    folder: Path, whole: bytes, tmp_path: Path, when: str
) -> None:
    """EINTR: a signal interrupted the call, and nothing is wrong."""
    path = tmp_path / "stats.yaml"
    around = injecting(folder / VICTIM, f"error=EINTR:when={when}")
    ended = imgnorm("stats", "data", "--workers", "1", "-o", path, cwd=folder.parent, around=around)

    assert (0, whole) == (ended.returncode, path.read_bytes())


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_short_reads_give_the_whole_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """A pipe, a network drive and a signal may each deliver less than was asked for."""
    real = os.read
    monkeypatch.setattr(os, "read", lambda handle, size: real(handle, min(size, piece)))

    for path in folder.rglob("*.png"):
        assert path.read_bytes() == files.read_file(str(path))


@pytest.mark.parametrize("format_", ["w", "w:gz"])
def test_short_reads_of_an_archive_give_its_whole_members(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    format_: Literal["w", "w:gz"],
) -> None:
    path = tmp_path / "images.tar"
    with tarfile.open(path, format_) as tar:
        tar.add(folder, "data")
    real_read, real_pread = os.read, os.pread
    monkeypatch.setattr(os, "read", lambda handle, size: real_read(handle, min(size, 100)))
    monkeypatch.setattr(
        os, "pread", lambda handle, size, at: real_pread(handle, min(size, 100), at)
    )
    source = ArchiveSource(str(path), [str(path)])

    (unit,) = source.units()
    for way in (unit, source.listed(unit).unit):
        images = {
            image.name: image.read() for image in source.images(way) if isinstance(image, Unread)
        }
        assert 8 == len(images)
        for name, data in images.items():
            assert (folder / name.removeprefix("images.tar/data/")).read_bytes() == data


@needs_strace
@pytest.mark.parametrize("workers", [1, 2])
def test_one_shard_of_many_archives_opens_its_own_archive_and_no_other(
    folder: Path, tmp_path: Path, workers: int
) -> None:
    """Once in each process: the others may be far away, or not be there yet."""
    for number in range(50):
        with tarfile.open(tmp_path / f"{number:02}.tar", "w") as tar:
            tar.add(folder, "data")
    log = tmp_path / "log"
    around = ["strace", "-f", "-qq", "-e", "trace=openat", "-o", str(log)]
    ended = imgnorm(
        "stats", "*.tar", "--shard", "3/50", "--workers", str(workers), "-o", "stats.yaml",
        cwd=tmp_path, around=around,
    )  # fmt: skip

    assert (0, 8) == (ended.returncode, library.read_stats(tmp_path / "stats.yaml").images)
    opened = re.findall(r'^(\d+) .*"(\d+\.tar)"', log.read_text(), re.MULTILINE)
    assert {"02.tar"} == {name for _, name in opened}
    assert len(opened) == len(set(opened)) <= workers


# ── storage that stalls ──


@needs_strace
def test_a_file_on_stalled_storage_is_named_and_the_others_go_on(
    folder: Path, tmp_path: Path
) -> None:
    """As on a network drive whose server is gone: even SIGKILL does not end a process that waits for it.

    The delay is strace's, which holds a killed process just as the kernel does.
    """
    path = tmp_path / "stats.yaml"
    around = injecting(folder / VICTIM, "delay_enter=15s")
    ended = imgnorm(
        "stats", folder, "--workers", "2", "--timeout", "1.5", "-o", path, around=around, timeout=90
    )
    stats = library.read_stats(path)

    assert 3 == ended.returncode
    assert float(ended.stderr.split("time ")[1].split()[0]) < 15
    assert f"skipped  {VICTIM}: timeout (took longer than 1.5 s, twice)" in ended.stdout.split("\n")
    assert [(VICTIM, "timeout")] == [(s.name, str(s.reason)) for s in stats.skipped]
    assert 7 == stats.images


# ── files that change while they are read ──


def writer(act: str, path: Path, log: Path) -> threading.Thread:
    """Changes a file as soon as the log shows that it is being read."""

    def change() -> None:
        until(lambda: log.exists() and "read(" in log.read_text(errors="replace"))
        time.sleep(0.3)  # within the delay of that call
        if act == "append":
            with path.open("ab") as file:
                file.write(b"more")
        elif act == "overwrite":
            data = path.read_bytes()
            with path.open("r+b") as file:
                file.write(data[::-1])
        elif act == "truncate":
            os.truncate(path, 20)
        elif act == "replace":
            other = path.with_name(".other")
            noise(99).save(other, "PNG")
            other.replace(path)
        elif act == "delete":
            path.unlink()

    thread = threading.Thread(target=change)
    thread.start()
    return thread


@needs_strace
@pytest.mark.parametrize("act", ["append", "overwrite", "truncate"])
def test_a_file_that_is_written_to_while_it_is_read_is_not_counted(
    tmp_path: Path, act: str
) -> None:
    """Its size or its time in nanoseconds differ before and after: half old, half new."""
    folder = folder_of(tmp_path / "data", 4)
    path, log = tmp_path / "stats.yaml", tmp_path / "log"
    around = injecting(folder / VICTIM, "delay_enter=1500000", log=log)
    thread = writer(act, folder / VICTIM, log)
    ended = imgnorm("stats", folder, "--workers", "1", "-o", path, around=around)
    thread.join()
    stats = library.read_stats(path)

    assert 3 == ended.returncode
    assert [(VICTIM, "changed-during-read")] == [(s.name, str(s.reason)) for s in stats.skipped]
    assert 3 == stats.images


@needs_strace
@pytest.mark.parametrize("act", ["replace", "delete"])
def test_a_file_that_is_replaced_whole_while_it_is_read_is_counted_as_it_was(
    tmp_path: Path, act: str
) -> None:
    """An open file stays as it was (its name belongs to another inode now): never half old, half new."""
    folder = folder_of(tmp_path / "data", 4)
    expected = library.measure(folder)
    path, log = tmp_path / "stats.yaml", tmp_path / "log"
    around = injecting(folder / VICTIM, "delay_enter=1500000", log=log)
    thread = writer(act, folder / VICTIM, log)
    ended = imgnorm("stats", folder, "--workers", "1", "-o", path, around=around)
    thread.join()

    assert 0 == ended.returncode
    assert expected == library.read_stats(path)


# ── very many files ──


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20,000 names of one image."""
    folder = tmp_path_factory.mktemp("many") / "data"
    folder.mkdir()
    noise(1).save(folder / "00000.png")
    for index in range(1, 20_000):
        os.link(folder / "00000.png", folder / f"{index:05}.png")
    return folder


@needs_linux
def test_twenty_thousand_files_and_sixty_four_handles(many: Path, tmp_path: Path) -> None:
    path = tmp_path / "stats.yaml"
    before = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"
    ended = imgnorm("stats", many, "--workers", "4", "-o", path, before=before)

    assert 0 == ended.returncode, ended.stderr
    assert 20_000 == library.read_stats(path).images


@needs_linux
def test_thirty_two_workers_and_sixty_four_handles(folder: Path, tmp_path: Path) -> None:
    """Each worker takes three; the scan continues without those that find none left."""
    path = tmp_path / "stats.yaml"
    before = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"
    ended = imgnorm("stats", folder, "--workers", "32", "-o", path, before=before)

    assert 0 == ended.returncode, ended.stderr
    assert 8 == library.read_stats(path).images


def handles() -> set[tuple[str, str]]:
    found = set()
    for entry in os.scandir("/proc/self/fd"):
        try:
            found.add((entry.name, os.readlink(entry.path)))
        except OSError:  # the descriptor of this loop
            continue
    return found


@needs_linux
def test_no_handle_is_left_after_measuring_merging_and_writing(
    folder: Path, tmp_path: Path
) -> None:
    """As libvips's test_descriptors: the same descriptors are open before and after."""

    def everything() -> None:
        parts = [library.measure(folder, shard=(number, 2), workers=32) for number in (1, 2)]
        for number, part in enumerate(parts):
            library.write_stats(tmp_path / f"{number}.yaml", part)
        library.merge(library.read_stats(tmp_path / f"{number}.yaml") for number in (0, 1))
        with warnings.catch_warnings(), pytest.raises(library.ImgnormError):
            library.measure(tmp_path / "no such folder")

    everything()
    gc.collect()
    before = handles()
    everything()
    gc.collect()

    assert before == handles()


@needs_linux
def test_many_folders_and_files_take_little_memory(tmp_path: Path) -> None:
    """5,000 empty folders beside 5,000 files; a listing holds names and nothing else."""
    folder = tmp_path / "data"
    for index in range(5_000):
        (folder / f"{index:05}").mkdir(parents=True)
    noise(1).save(folder / "image.png")
    for index in range(4_999):
        os.link(folder / "image.png", folder / f"{index:05}.png")
    names = all_names_of(FolderSource(str(folder)))

    assert [*(f"{index:05}.png" for index in range(4_999)), "image.png"] == list(names)
    program = (
        "import re, sys; from imgnorm.sources.folder import FolderSource\n"
        "from imgnorm.sources.listing import all_names_of\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = peak()\n"  # getrusage would report the peak of the process that started this one
        "names = all_names_of(FolderSource(sys.argv[1]))\n"
        "print(peak() - before)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, folder], env=environment(), capture_output=True, text=True
    )
    assert (
        int(ended.stdout) < 5 << 10
    )  # kB; it takes 2.3 MB, and 11 if the status of each file is kept
