"""Outputs are checked before the work, and written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from imgnorm.errors import OutputError
from imgnorm.output import FileKind, check_output, read_whole, write_whole
from imgnorm.sources.folder import FolderSource
from imgnorm.sources.source import Unit

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and links")
without_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one, so that messages are short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


ROOT = Path(__file__).parents[1]
REJECTS = '{"name": "a.png", "member": null, "reason": "empty-file", "detail": "", "bytes": 0}\n'


def refusal(function: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises(OutputError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def mode_of(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# Before the work


def test_looking_leaves_no_trace(here):
    check_output("new.yaml", force=False)
    check_output(str(here / "new.yaml"), force=True)

    assert [] == list(here.iterdir())


def test_a_file_that_exists_needs_force(here):
    """One --force for what imgnorm wrote, two for what it would be a pity to lose."""
    for kind, ours in (
        ("report", ""),
        ("stats file", "# Written by imgnorm. mean"),
        ("list of skipped images", REJECTS),
    ):
        Path("old.yaml").write_text(ours)

        assert "old.yaml: exists already; replace it with --force, or name another file" == refusal(
            check_output, "old.yaml", kind=kind, force=0
        )
        check_output("old.yaml", kind=kind, force=1)
    for foreign in ("old", "format: imgnorm-stats/1\n", " " * 1000 + "Written by imgnorm"):
        Path("old.yaml").write_text(foreign)

        for force in (0, 1):
            assert (
                "old.yaml: exists already, and imgnorm did not write it; replace it with "
                "--force --force, or name another file"
            ) == refusal(check_output, "old.yaml", force=force)
        check_output("old.yaml", force=2)
        assert foreign == Path("old.yaml").read_text()


def test_one_force_replaces_only_a_file_of_the_same_kind(here, command):
    """What the commands themselves write: each takes its own kind, and no other one."""
    images = str(ROOT / "examples" / "shapes")
    command("stats", images, "-o", "s.yaml", "--report", "r.html", "--per-image", "t.csv", "-q")
    command("emit", "s.yaml", "-o", "t.py")
    command("emit", "s.yaml", "--to", "hf", "-o", "h.json")
    Path("x.jsonl").write_text(REJECTS)
    kinds: dict[str, FileKind] = {
        "s.yaml": "stats file",
        "r.html": "report",
        "t.csv": "table of images",
        "t.py": "file of `imgnorm emit`",
        "h.json": "file of `imgnorm emit`",
        "x.jsonl": "list of skipped images",
    }
    for path, present in kinds.items():
        for kind in {*kinds.values()}:
            if kind == present:
                check_output(path, kind=kind, force=1)
            else:
                assert (
                    f"{path}: exists already, and is a {present}; replace it with --force --force, or "
                    "name another file"
                ) == refusal(check_output, path, kind=kind, force=1)
    before = Path("s.yaml").read_bytes(), Path("t.py").read_bytes()

    assert 2 == command("stats", images, "--rejects", "s.yaml", "--force").code
    assert 2 == command("stats", images, "-o", "t.py", "--force").code
    assert 2 == command("emit", "s.yaml", "-o", "r.html", "--force").code
    assert 2 == command("report", "s.yaml", "-o", "t.py", "--force").code
    assert before == (Path("s.yaml").read_bytes(), Path("t.py").read_bytes())


def test_a_link_to_a_file_counts_as_that_file(here):
    Path("old.yaml").touch()
    Path("link").symlink_to("old.yaml")

    assert "link: exists already; replace it with --force, or name another file" == refusal(
        check_output, "link", force=False
    )


@pytest.mark.parametrize("path", ["", "-"])
def test_what_names_no_file_is_refused(path):
    expected = f"{path!r}: is not a file; name one, or leave the option out and use `>`"

    assert expected == refusal(check_output, path, force=True)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder", "is a folder; name a file in it"),
        ("folder/", "is a folder; name a file in it"),
        (".", "is a folder; name a file in it"),
        ("link to folder", "is a folder; name a file in it"),
        ("fifo", "is not a regular file; name one, or leave the option out"),
        ("/dev/null", "is not a regular file; name one, or leave the option out"),
        ("/dev/full", "is not a regular file; name one, or leave the option out"),
        ("missing/new.yaml", "its folder does not exist; create it first"),
        ("link to nothing/new.yaml", "its folder does not exist; create it first"),
        ("file/new.yaml", "cannot be written (Not a directory); name a place that can"),
        ("x" * 256, "cannot be written (File name too long); name a place that can"),
    ],
)
def test_what_can_never_be_a_file_is_refused_before_the_work(here, path, message, force):
    os.mkdir("folder")
    os.mkfifo("fifo")
    Path("file").touch()
    Path("link to folder").symlink_to("folder")
    Path("link to nothing").symlink_to("nothing")

    assert f"{path}: {message}" == refusal(check_output, path, force=force)


@without_root
def test_a_folder_that_takes_no_file_is_refused_before_the_work(here):
    os.mkdir("locked", 0o500)

    assert (
        "locked/new.yaml: cannot be written (Permission denied); name a place that can"
    ) == refusal(check_output, "locked/new.yaml", force=False)


def test_a_full_disk_is_noticed_before_the_work(here, monkeypatch):
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)

    assert (
        "new.yaml: cannot be written (No space left on device); name a place that can"
    ) == refusal(check_output, "new.yaml", force=False)


# Writing


@pytest.mark.parametrize("data", [b"", b"new\n", bytes(range(256)) * 5000])
def test_the_file_holds_exactly_what_was_given(here, data):
    write_whole("new", data)
    write_whole("new", data)

    assert data == Path("new").read_bytes()
    assert ["new"] == os.listdir()


def test_a_link_is_kept_and_what_it_points_to_replaced(here):
    os.mkdir("far")
    Path("far/real").write_text("old")
    Path("link").symlink_to("far/real")

    write_whole("link", b"new")

    assert "far/real" == os.readlink("link")
    assert "new" == Path("far/real").read_text()
    assert ["real"] == os.listdir("far")


def test_a_link_to_nothing_gets_its_file(here):
    Path("link").symlink_to("real")
    check_output("link", force=False)

    write_whole("link", b"new")

    assert "new" == Path("real").read_text()
    assert Path("link").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_permissions_of_a_replaced_file_are_kept(here, mode):
    Path("old").write_text("old")
    os.chmod("old", mode)

    write_whole("old", b"new")

    assert mode == mode_of("old")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_permissions_that_the_umask_leaves(here, umask, mode):
    """The tempfile module would make a file that only its owner can read."""
    before = os.umask(umask)
    try:
        write_whole("new", b"new")
    finally:
        os.umask(before)

    assert mode == mode_of("new")


def test_a_name_as_long_as_names_may_be_is_written(here):
    """The temporary name is not longer."""
    name = "n" * 255

    check_output(name, force=False)
    write_whole(name, b"new")

    assert [name] == os.listdir()


def test_the_temporary_file_is_beside_the_target_and_hidden(here, monkeypatch):
    """A rename is atomic within one file system only, and a scan must not find half a file."""
    os.mkdir("far")
    Path("link").symlink_to("far/real.png")
    seen = []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: seen.append(os.listdir("far")) or flush(file))

    write_whole("link", b"new")

    (temporary,) = seen[0]
    assert temporary.startswith(".imgnorm-")
    assert temporary.endswith(".tmp")
    assert ["real.png"] == os.listdir("far")


def test_a_scan_passes_over_a_temporary_file(here):
    Path(".imgnorm-0123456789abcdef.tmp").touch()

    assert [] == [one for one in FolderSource(".").units() if isinstance(one, Unit)]


def test_what_a_killed_run_left_is_removed_by_the_next_that_writes_there(here):
    """But not what a living run is writing to the same place, nor what belongs to another target."""
    hang = "import sys; print(flush=True); sys.stdin.read()"
    write = (
        "import os; from imgnorm.output import write_whole; flush = os.fsync\n"
        f"os.fsync = lambda file: (exec({hang!r}), setattr(os, 'fsync', flush))\n"
        "write_whole(NAME, b'x')"
    )
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", write.replace("NAME", repr(name))],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
                )
            )
            for name in ("new", "new", "other")
        ]
        killed, living, elsewhere = runs
        for run in runs:
            assert os.linesep.encode() == run.stdout.readline()
        killed.kill()
        elsewhere.kill()
        assert [-9, -9] == [killed.wait(), elsewhere.wait()]
        assert 3 == len(os.listdir())

        write_whole("new", b"mine")
        left = sorted(os.listdir())
        living.communicate()

    assert 0 == living.returncode
    assert ["new", 2] == [
        left[-1],
        len(left[:-1]),
    ]  # that of the living run, and the other target's
    assert b"x" == Path("new").read_bytes()
    write_whole("other", b"mine")
    assert ["new", "other"] == sorted(os.listdir())


def test_when_writing_is_interrupted_the_old_file_stays(here, monkeypatch):
    Path("old").write_text("old")

    def interrupt(file: int) -> None:
        assert "old" == Path("old").read_text()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole("old", b"new")

    assert "old" == Path("old").read_text()
    assert ["old"] == os.listdir()


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_when_the_system_fails_the_old_file_stays(here, monkeypatch, call, number):
    Path("old").write_text("old")

    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        message = refusal(write_whole, "old", b"new")

    assert (f"old: cannot be written ({os.strerror(number)}); name a place that can") == message
    assert "old" == Path("old").read_text()
    assert ["old"] == os.listdir()


def test_the_bytes_are_on_the_disk_before_the_name_changes(here, monkeypatch):
    """Otherwise a power cut could leave an empty file under the final name."""
    steps = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def noted_replace(old: str, new: str) -> None:
        steps.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_whole("new", b"new")

    assert ["file", "rename", "folder"] == steps


def test_a_missing_folder_is_named(here):
    assert (
        "missing/new: cannot be written (No such file or directory); name a place that can"
    ) == refusal(write_whole, "missing/new", b"new")


# Reading back


def test_what_was_written_is_read_and_what_is_missing_is_none(here):
    write_whole("new", b"new")

    assert b"new" == read_whole("new")
    assert read_whole("missing") is None


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_what_is_no_file_is_never_waited_for(here, kind):
    os.mkdir("folder")
    os.mkfifo("fifo")

    assert f"{kind}: is not a regular file; name one" == refusal(read_whole, kind)


@without_root
def test_a_file_that_may_not_be_read_is_named(here):
    Path("secret").touch(0o000)

    assert "secret: cannot be read (Permission denied)" == refusal(read_whole, "secret")


def test_without_force_a_file_that_was_made_meanwhile_is_left_alone(here):
    """The check before the work may be hours old."""
    check_output("new", force=False)
    Path("new").write_bytes(b"theirs")

    message = refusal(write_whole, "new", b"ours", force=False)

    assert "new: cannot be written (File exists); name a place that can" == message
    assert b"theirs" == Path("new").read_bytes()
