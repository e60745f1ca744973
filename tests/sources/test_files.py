"""One file: read whole, or the reason why not; never waited for."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchvision.datasets.folder import IMG_EXTENSIONS as TORCHVISION_EXTENSIONS
from trees import as_user, posix, tree

from imgnorm.sources import files as files_module
from imgnorm.sources.files import IMG_EXTENSIONS, read_file
from imgnorm.sources.folder import FolderSource
from imgnorm.sources.listing import all_names_of
from imgnorm.tally.skipped import Unreadable


def test_the_suffixes_are_torchvision_s():
    assert TORCHVISION_EXTENSIONS == IMG_EXTENSIONS


def fault_of(path: str | Path) -> str:
    with pytest.raises(Unreadable) as caught:
        read_file(str(path))
    return str(caught.value)


def test_a_file_is_read_whole(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "x").write_bytes(data)

    assert data == read_file(str(tmp_path / "x"))


def test_an_empty_file_is_read(tmp_path):
    (tmp_path / "x").write_bytes(b"")

    assert b"" == read_file(str(tmp_path / "x"))


def test_a_missing_file_has_vanished(tmp_path):
    tree(tmp_path, "file")
    words = os.strerror(errno.ENOENT), os.strerror(errno.ENOTDIR)

    assert f"vanished: {words[0]}" == fault_of(tmp_path / "gone")
    assert f"vanished: {words[1]}" == fault_of(tmp_path / "file" / "below")


@posix
def test_what_is_no_regular_file_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "to-fifo").symlink_to("fifo")
    (tmp_path / "to-zero").symlink_to("/dev/zero")
    for path in ("fifo", "to-fifo", "to-zero", "."):
        assert "not-a-regular-file: not a regular file" == fault_of(tmp_path / path)
    assert "not-a-regular-file: not a regular file" == fault_of("/dev/null")


@posix
def test_a_file_that_becomes_a_fifo_before_it_is_opened_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"x")
    real_open = os.open

    def open_late(path: str, flags: int) -> int:
        os.unlink(path)
        os.mkfifo(path)
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", open_late)

    assert "not-a-regular-file: not a regular file" == fault_of(path)


@posix
def test_links_in_circles_and_long_names_have_their_own_reasons(tmp_path):
    (tmp_path / "loop").symlink_to("loop")

    assert f"symlink-loop: {os.strerror(errno.ELOOP)}" == fault_of(tmp_path / "loop")
    assert f"path-too-long: {os.strerror(errno.ENAMETOOLONG)}" == fault_of(tmp_path / ("x" * 256))


def test_a_name_with_a_nul_is_unreadable(tmp_path):
    assert "unreadable: embedded null byte" == fault_of(f"{tmp_path}/a\0b")


@posix
@as_user
def test_a_file_that_may_not_be_read_is_unreadable(tmp_path):
    (tmp_path / "x").touch(mode=0)

    assert "unreadable: Permission denied" == fault_of(tmp_path / "x")


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"12345")
    monkeypatch.setattr(files_module, "MAX_FILE_BYTES", 5)
    assert b"12345" == read_file(str(tmp_path / "x"))

    monkeypatch.setattr(files_module, "MAX_FILE_BYTES", 4)
    assert "too-large-file: 5 bytes; the limit is 4" == fault_of(tmp_path / "x")


def test_three_gigabytes_of_nothing_are_not_read(tmp_path):
    with open(tmp_path / "sparse.jpg", "wb") as file:
        file.truncate(3 << 30)

    expected = "too-large-file: 3,221,225,472 bytes; the limit is 2,147,483,648"
    assert expected == fault_of(tmp_path / "sparse.jpg")


@dataclass
class Faulty:
    """An os.open that fails `failures` times."""

    failures: int
    number: int
    calls: int = 0

    def __call__(self, path: str, flags: int) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError(self.number, os.strerror(self.number))
        return REAL_OPEN(path, flags)


REAL_OPEN = os.open


def test_a_passing_fault_of_the_storage_is_tried_once_more(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"x")
    faulty = Faulty(failures=1, number=errno.EIO)
    monkeypatch.setattr(os, "open", faulty)

    assert (b"x", 2) == (read_file(str(tmp_path / "x")), faulty.calls)


def test_a_lasting_fault_of_the_storage_is_a_read_error(tmp_path, monkeypatch):
    """And not "corrupt": the file may be whole."""
    (tmp_path / "x").write_bytes(b"x")
    faulty = Faulty(failures=9, number=errno.EIO)
    monkeypatch.setattr(os, "open", faulty)

    expected = f"read-error: {os.strerror(errno.EIO)}"
    assert (expected, 2) == (fault_of(tmp_path / "x"), faulty.calls)


def test_what_will_not_pass_is_not_tried_again(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"x")
    faulty = Faulty(failures=9, number=errno.EACCES)
    monkeypatch.setattr(os, "open", faulty)

    expected = f"unreadable: {os.strerror(errno.EACCES)}"
    assert (expected, 1) == (fault_of(tmp_path / "x"), faulty.calls)


def test_a_file_that_vanishes_between_two_tries_has_vanished(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"x")

    def open_and_lose(path: str, flags: int) -> int:
        os.unlink(path)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "open", open_and_lose)

    assert f"vanished: {os.strerror(errno.ENOENT)}" == fault_of(path)


@pytest.mark.parametrize(
    "change",
    [
        {"st_size": 6},  # it grew after the last byte was read
        {"st_size": 4},
        {"st_mtime_ns": 2},  # it was overwritten in place
    ],
)
def test_a_file_that_changes_while_it_is_read_is_not_counted(change, tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"12345")
    status = {"st_mode": stat.S_IFREG, "st_size": 5, "st_mtime_ns": 1}
    answers = iter([SimpleNamespace(**status), SimpleNamespace(**status | change)])
    monkeypatch.setattr(files_module, "os", OsWith(fstat=lambda handle: next(answers)))

    expected = "changed-during-read: its size or time changed while it was read"
    assert expected == fault_of(tmp_path / "x")


class OsWith(SimpleNamespace):
    """The module os, with some functions of our own."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


def test_a_file_that_is_shorter_than_it_says_is_not_counted(tmp_path, monkeypatch):
    """As on a network drive, or in /proc: Pillow would call it truncated."""
    (tmp_path / "x").write_bytes(b"12345")
    status = SimpleNamespace(st_mode=stat.S_IFREG, st_size=6, st_mtime_ns=1)
    monkeypatch.setattr(files_module, "os", OsWith(fstat=lambda handle: status))

    expected = "changed-during-read: its size or time changed while it was read"
    assert expected == fault_of(tmp_path / "x")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_no_file_is_left_open(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    (tmp_path / "d").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read_file(str(tmp_path / "x"))
        fault_of(tmp_path / "d")
        all_names_of(FolderSource(str(tmp_path)))

    assert before == len(os.listdir("/proc/self/fd"))
