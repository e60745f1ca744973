"""Workers that die, hang or starve, files that change: the scan ends, and names each lost image."""

from __future__ import annotations

import gc
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import threading
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from injection import (
    WITHOUT_POWERS,
    Buggy,
    Dawdling,
    Leaving,
    Running,
    Sleepy,
    Starved,
    Stillborn,
    Suicidal,
    folder_of,
    imgnorm,
    kill,
    needs_linux,
    needs_posix,
    needs_strace,
    noise,
    slow_folder,
    until,
)

import imgnorm as library
from imgnorm.stats.stats import Stats
from imgnorm.workers import driver, forkserver, process

pytestmark = [needs_posix, pytest.mark.usefixtures("own_fork_servers")]

VICTIM = "a/00004.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("scan") / "data", 40)


@pytest.fixture(scope="module")
def others(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Stats:
    """The statistics of all images but VICTIM."""
    rest = tmp_path_factory.mktemp("others") / "data"
    shutil.copytree(folder, rest)
    (rest / VICTIM).unlink()
    return library.measure(rest)


def measured(source: Any, **options: Any) -> Stats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", library.SkippedImagesWarning)
        return library.measure(source, **options)


def skipped(stats: Stats) -> list[tuple[str, str, str]]:
    return [(s.name, str(s.reason), s.detail) for s in stats.skipped]


def assert_same_digits(expected: Stats, stats: Stats) -> None:
    assert expected.measurement is not None
    assert stats.measurement is not None
    assert expected.measurement.histogram == stats.measurement.histogram
    assert expected.measurement.sums == stats.measurement.sums
    assert expected.images == stats.images


# ── one image that costs its worker ──


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_an_image_that_kills_its_decoder_is_listed_and_the_others_counted(
    folder: Path, others: Stats, number: int, workers: int
) -> None:
    """It is tried twice, since a signal may be chance; never more, and no other image is lost."""
    stats = measured(Suicidal(str(folder), VICTIM, number), workers=workers)

    detail = f"the process that decoded it ended, twice: signal {int(number)}"
    assert [(VICTIM, "worker-died", detail)] == skipped(stats)
    assert_same_digits(others, stats)


def test_a_decoder_that_calls_exit_costs_its_image_only(folder: Path, others: Stats) -> None:
    stats = measured(Leaving(str(folder), VICTIM), workers=2)

    detail = "the process that decoded it ended, twice: exit code 3"
    assert [(VICTIM, "worker-died", detail)] == skipped(stats)
    assert_same_digits(others, stats)


def test_an_image_that_takes_for_ever_is_listed_after_two_timeouts(
    folder: Path, others: Stats
) -> None:
    started = time.monotonic()
    stats = measured(Sleepy(str(folder), VICTIM), workers=2, timeout_s=1.5)

    assert [(VICTIM, "timeout", "took longer than 1.5 s, twice")] == skipped(stats)
    assert_same_digits(others, stats)
    assert time.monotonic() - started < 30


def test_memory_that_is_not_there_costs_the_image_only(folder: Path, others: Stats) -> None:
    stats = measured(Starved(str(folder), VICTIM), workers=2)

    assert [(VICTIM, "out-of-memory", "not enough memory to decode it")] == skipped(stats)
    assert_same_digits(others, stats)


def test_half_of_the_images_may_kill_their_workers(tmp_path: Path) -> None:
    """No number of deaths ends the run or makes it wait for ever."""
    folder = folder_of(tmp_path, 8)
    stats = measured(Suicidal(str(folder), "a/"), workers=2)

    assert [f"a/{index:05}.png" for index in range(0, 8, 2)] == [s.name for s in stats.skipped]
    assert 4 == stats.images


def test_an_only_image_that_kills_its_worker_is_an_error(tmp_path: Path) -> None:
    noise(1).save(tmp_path / "only.png")

    with pytest.raises(library.ImgnormError) as caught:
        library.measure(Suicidal(str(tmp_path), "only.png"), workers=2)

    assert (
        f"{tmp_path}: no image could be counted, out of 1; fix the files or the options:\n"
        "  only.png: worker-died (the process that decoded it ended, twice: signal 11)"
        == str(caught.value)
    )


def test_a_bug_in_a_worker_is_raised_with_its_traceback(folder: Path) -> None:
    with pytest.raises(
        RuntimeError, match=r"(?s)a worker process failed:.*KeyError: 'a/00004.png'"
    ):
        library.measure(Buggy(str(folder), VICTIM), workers=2)


def test_a_system_without_threads_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose number of processes is limited."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(library.ImgnormError) as caught:
        library.measure(folder, workers=2)

    assert "a worker could not start (can't start new thread); try fewer --workers" == str(
        caught.value
    )


def test_workers_that_never_start_are_an_error(folder: Path) -> None:
    with pytest.raises(library.ImgnormError) as caught:
        library.measure(Stillborn(str(folder)), workers=2)

    assert "a worker process could not start (signal 9)" == str(caught.value)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_that_never_get_ready_are_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Python itself may lie on storage that is gone, or a dataset wait for something."""
    monkeypatch.setattr(process, "START_TIMEOUT_S", 0.7)
    started = time.monotonic()
    with pytest.raises(library.ImgnormError) as caught:
        library.measure(Dawdling(str(folder)), workers=workers)

    assert (
        "a worker process was not ready after 0.7 s; try fewer --workers, and see whether the "
        "storage answers" == str(caught.value)
    )
    assert time.monotonic() - started < 20


def test_one_worker_that_never_gets_ready_is_done_without(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "START_TIMEOUT_S", 6.0)
    stats = measured(Dawdling(str(folder), only=str(tmp_path / "first")), workers=2)

    assert_same_digits(library.measure(folder), stats)


# ── processes that cannot be ended ──


@pytest.fixture
def _immortal(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL does nothing to a process that waits in the kernel for storage that is gone."""
    monkeypatch.setattr(process, "_KILL_S", 0.2)
    for kind in (subprocess.Popen, forkserver.Forked):
        monkeypatch.setattr(kind, "kill", lambda self: None)


@pytest.mark.usefixtures("_immortal")
def test_an_image_whose_process_cannot_be_ended_is_listed_and_the_others_counted(
    folder: Path, others: Stats
) -> None:
    stats = measured(Sleepy(str(folder), VICTIM), workers=2, timeout_s=1.5)

    assert [(VICTIM, "timeout", "took longer than 1.5 s, twice")] == skipped(stats)
    assert_same_digits(others, stats)


@pytest.mark.usefixtures("_immortal")
def test_storage_that_never_answers_ends_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each of a million images could take a minute."""
    monkeypatch.setattr(driver, "_MAX_UNKILLABLE", 2)
    with pytest.raises(library.ImgnormError) as caught:
        library.measure(Sleepy(str(folder), "a/"), workers=2, timeout_s=1.5)

    assert re.fullmatch(
        r"a/\d{5}\.png: reading it hangs, as did 2 others, and the processes that do so cannot be "
        "ended; see whether the storage still answers",
        str(caught.value),
    )


def test_a_scan_leaves_no_process_thread_or_open_file(folder: Path) -> None:
    library.measure(folder, workers=2)
    gc.collect()  # close what earlier tests have left open
    before = threading.active_count(), _handles()
    for source in (folder, Suicidal(str(folder), VICTIM), Sleepy(str(folder), VICTIM)):
        measured(source, workers=2, timeout_s=0.3)

    until(lambda: threading.active_count() <= before[0])
    gc.collect()
    assert before[1] >= _handles()


def _handles() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


# ── workers that are killed or stopped from outside ──


@contextmanager
def _beside(act: Callable[[threading.Event], None]) -> Iterator[None]:
    """`act` runs in a thread, and is asked to stop at the end."""
    over = threading.Event()
    thread = threading.Thread(target=act, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@needs_linux
def test_workers_killed_at_random_moments_cost_at_most_the_images_they_were_at(
    tmp_path: Path,
) -> None:
    """As the kernel kills when memory runs out, thirty times in one scan."""
    images = 300
    folder = slow_folder(tmp_path / "data", images, edge=600)
    alone = library.measure(folder, limit=1)
    assert alone.measurement is not None
    chance = random.Random(10)
    kills = 0
    with Running("stats", folder, "--workers", "2", "-o", tmp_path / "stats.yaml") as run:

        def killer(over: threading.Event) -> None:
            nonlocal kills
            while kills < 30 and not over.wait(chance.uniform(0, 0.2)):
                workers = run.workers_at_work()
                if workers:
                    kill(chance.choice(workers), signal.SIGKILL)
                    kills += 1

        with _beside(killer):
            ended = run.end(timeout=60)
    stats = library.read_stats(tmp_path / "stats.yaml")

    assert "Traceback" not in ended.stderr
    print(f"{kills} kills, {len(stats.skipped)} skipped")
    assert kills > 5
    assert (3 if stats.skipped else 0) == ended.returncode
    assert {"worker-died"} >= {str(s.reason) for s in stats.skipped}
    assert images == stats.images + len({s.name for s in stats.skipped})
    assert stats.measurement is not None
    one = alone.measurement.histogram.counts
    assert tuple(tuple(n * stats.images for n in channel) for channel in one) == (
        stats.measurement.histogram.counts
    )


@needs_linux
def test_a_worker_that_is_stopped_is_replaced_after_the_timeout(tmp_path: Path) -> None:
    folder = slow_folder(tmp_path / "data", 60)
    with Running("stats", folder, "--workers", "2", "--timeout", "1.5", "--json") as run:
        until(lambda: len(run.workers_at_work()) == 2)
        for worker in run.children():
            kill(worker, signal.SIGSTOP)
        ended = run.end(timeout=30)

    assert 0 == ended.returncode
    assert '"images": 60' in ended.stdout


# ── files that change while they are read ──


def _mutate(folder: Path, names: list[str], chance: random.Random, over: threading.Event) -> None:
    """Changes each file once, in one of ten ways, one every few hundred microseconds."""
    files = [folder / name for name in names]
    chance.shuffle(files)
    added = 0
    while files and not over.wait(0.0005):
        file = files.pop()
        try:
            match chance.randrange(10):
                case 0:
                    file.unlink()
                case 1:
                    os.truncate(file, file.stat().st_size // 2)
                case 2:
                    with file.open("ab") as end:
                        end.write(bytes(4096))
                case 3:
                    other = file.with_name(".other")
                    other.write_bytes(file.read_bytes())
                    other.replace(file)
                case 4:
                    file.unlink()
                    os.mkfifo(file)
                case 5:
                    file.unlink()
                    file.mkdir()
                case 6:
                    file.unlink()
                    file.symlink_to("/dev/zero")
                case 7:
                    file.chmod(0)
                case 8:
                    file.rename(file.with_suffix(".moved.png"))
                case 9:
                    file.with_name(f"added{added}.png").write_bytes(b"")
                    added += 1
        except OSError:
            continue


@pytest.mark.parametrize("listed", [True, False], ids=["list", "folder"])
@pytest.mark.parametrize("seed", range(2))
def test_files_that_change_during_the_scan_are_each_counted_or_named(
    tmp_path: Path, seed: int, listed: bool
) -> None:
    """Deleted, cut, grown, swapped, made a FIFO, a folder, a link to /dev/zero, locked, renamed."""
    folder = tmp_path / "data"
    folder.mkdir()
    picture = tmp_path / "picture.png"
    noise(seed, (60, 60)).save(picture)
    data = picture.read_bytes()
    names = [f"{index:05}.png" for index in range(2000)]
    for name in names:
        (folder / name).write_bytes(data)
    names_file = folder / "names.txt"
    names_file.write_text("\n".join(names))
    path, rejects = tmp_path / "stats.yaml", tmp_path / "rejects.jsonl"
    source = ["--list", names_file] if listed else [folder]
    chance = random.Random(seed)
    with _beside(lambda over: _mutate(folder, names, chance, over)):
        ended = imgnorm(
            "stats", *source, "--workers", "2", "-o", path, "--rejects", rejects,
            before=WITHOUT_POWERS,
        )  # fmt: skip
    stats = library.read_stats(path)

    assert "Traceback" not in ended.stderr
    assert 3 == ended.returncode
    assert stats.measurement is not None
    reasons = Counter(str(s.reason) for s in stats.skipped)
    assert {
        "vanished", "not-a-regular-file", "unreadable", "truncated", "corrupt", "empty-file",
        "zero-filled-tail", "changed-during-read",
    } >= set(reasons)  # fmt: skip
    assert len(stats.skipped) == len({s.name for s in stats.skipped})
    if listed:
        assert 2000 == stats.images + len(stats.skipped)
        assert {s.name for s in stats.skipped} <= set(names)
    assert stats.measurement.found == stats.images + len(stats.skipped) + sum(
        stats.measurement.ignored.values()
    )
    assert len(stats.skipped) == len(rejects.read_text().splitlines())
    # All counted images are the same picture: no pixel of a cut or grown one was counted.
    assert stats.images * 3600 == sum(stats.measurement.histogram.counts[0])
    alone = library.measure(_alone(tmp_path, data))
    assert alone.mean == stats.mean


def _alone(tmp_path: Path, data: bytes) -> Path:
    folder = tmp_path / "alone"
    folder.mkdir()
    (folder / "picture.png").write_bytes(data)
    return folder


@needs_strace
@pytest.mark.parametrize(
    ("when", "code", "reason"),
    [("1", 0, None), ("1+", 3, "read-error")],
    ids=["once", "always"],
)
def test_a_read_error_of_the_storage_is_tried_once_more(
    tmp_path: Path, when: str, code: int, reason: str | None
) -> None:
    folder = folder_of(tmp_path / "data", 4)
    bad = folder / "a" / "00000.png"
    inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", str(bad), "-e", "trace=read",
              "-e", f"inject=read:error=EIO:when={when}"]  # fmt: skip
    path = tmp_path / "stats.yaml"
    ended = imgnorm("stats", folder, "--workers", "1", "-o", path, around=inject)

    assert code == ended.returncode
    assert [("a/00000.png", reason)] * bool(reason) == [
        (s.name, str(s.reason)) for s in library.read_stats(path).skipped
    ]


# ── memory, processes, open files ──


def limited(**limits: int) -> str:
    """A program that lowers resource limits, by their names in lower case."""
    lines = [
        f"resource.setrlimit(resource.RLIMIT_{name.upper()}, ({value}, {value}))"
        for name, value in limits.items()
    ]
    return "import resource\n" + "\n".join(lines)


def png_of(width: int, height: int, bits: int, color_type: int) -> bytes:
    """A PNG of equal bytes, made row by row: the whole image is never in memory."""
    samples = {0: 1, 2: 3, 3: 1}[color_type]
    row = b"\0" + b"\x55" * ((width * bits * samples + 7) // 8)
    deflate = zlib.compressobj(1)
    data = b"".join(deflate.compress(row * 100) for _ in range(height // 100)) + deflate.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if color_type == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def giants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30,000 x 30,000 pixels, with a palette and with 1 bit; beside them, a good image."""
    folder = tmp_path_factory.mktemp("giants") / "data"
    folder.mkdir()
    (folder / "one-bit.png").write_bytes(png_of(30_000, 30_000, 1, 0))
    (folder / "palette.png").write_bytes(png_of(30_000, 30_000, 8, 3))
    noise(1).save(folder / "good.png")
    return folder


def test_giant_images_are_skipped_before_they_are_decoded(giants: Path) -> None:
    ended = imgnorm("stats", giants, "-q")

    assert 3 == ended.returncode
    for name, line in zip(
        ["one-bit.png", "palette.png"], ended.stdout.splitlines()[-2:], strict=True
    ):
        assert line.startswith(f"skipped  {name}: too-large (")
        assert line.endswith("900,000,000 pixels; the limit is 178,956,970 (--max-pixels))")


@needs_linux
def test_giant_images_that_are_allowed_cost_themselves_and_no_more(
    giants: Path, tmp_path: Path
) -> None:
    """Four processes, each with one gigabyte of address space."""
    path = tmp_path / "stats.yaml"
    ended = imgnorm(
        "stats", giants, "--max-pixels", "1000000000", "--workers", "4", "-o", path,
        before=limited(**{"as": 1 << 30}),
    )  # fmt: skip

    assert 3 == ended.returncode
    assert "Traceback" not in ended.stderr
    stats = library.read_stats(path)
    assert 3 == stats.images + len(stats.skipped)
    assert {"out-of-memory"} == {str(s.reason) for s in stats.skipped}


@needs_linux
@pytest.mark.parametrize("format_", ["png", "jpg", "tif", "bmp"])
def test_an_image_beyond_the_memory_is_out_of_memory_whatever_its_format(
    tmp_path: Path, format_: str
) -> None:
    """Not "corrupt": nothing is wrong with the file."""
    from PIL import Image

    folder = tmp_path / "data"
    folder.mkdir()
    noise(1).save(folder / "good.png")
    Image.new("RGB", (11_000, 11_000), (1, 2, 3)).save(folder / f"large.{format_}")
    path = tmp_path / "stats.yaml"
    ended = imgnorm(
        "stats", folder, "--workers", "1", "-o", path, "-q", before=limited(**{"as": 400 << 20})
    )

    assert (3, "") == (ended.returncode, ended.stderr)
    assert [(f"large.{format_}", "out-of-memory")] == [
        (s.name, str(s.reason)) for s in library.read_stats(path).skipped
    ]


@needs_linux
@pytest.mark.parametrize("handles", [8, 14, 20, 32])
def test_few_open_files_mean_fewer_workers_or_one_line(
    folder: Path, tmp_path: Path, handles: int
) -> None:
    """On a machine with 128 cores, the usual limit of 1,024 is just as tight."""
    path = tmp_path / "stats.yaml"
    ended = imgnorm(
        "stats", folder, "--workers", "16", "-o", path, "-q", before=limited(nofile=handles)
    )

    if ended.returncode:
        assert 2 == ended.returncode
        assert (
            "a worker process could not start (Too many open files); try fewer --workers\n"
            == ended.stderr
        )
        assert handles < 32
    else:
        assert 40 == library.read_stats(path).images


@needs_linux
def test_a_signal_while_workers_start_is_no_bug(tmp_path: Path, folder: Path) -> None:
    """Some of their drivers are not yet running then, and a thread cannot be joined before it runs."""
    for pause in (0, 0.005, 0.02, 0.05):
        with Running("stats", folder, "--workers", "40") as run:
            until(lambda run=run: bool(run.children()))  # type: ignore[misc]
            time.sleep(pause)
            run.send(signal.SIGTERM)
            ended = run.end()

        assert (143, "stopped by SIGTERM\n") == (ended.returncode, ended.stderr)
