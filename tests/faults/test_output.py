"""Full disks, folders that refuse, crashes at every call: the old file or the new one remains."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from commands import Command
from injection import (
    WITHOUT_POWERS,
    environment,
    folder_of,
    imgnorm,
    needs_linux,
    needs_mount,
    needs_posix,
    needs_strace,
    noise,
)

import imgnorm as library

pytestmark = needs_posix

OLD = b"# Written by imgnorm. old bytes\n"
TOUCHING = (
    "openat,write,pwrite64,fsync,fdatasync,ftruncate,close,read,chmod,fchmod,fchmodat,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat"
)
NO_SPACE = "No space left on device"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("output") / "data", 4)


@pytest.fixture(scope="module")
def table(data: Path) -> str:
    """What the command prints for `data`."""
    ended = imgnorm("stats", data, "-q")
    assert (0, "") == (ended.returncode, ended.stderr)
    return ended.stdout


@pytest.fixture(scope="module")
def new(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The stats file of `data`."""
    path = tmp_path_factory.mktemp("new") / "stats.yaml"
    library.write_stats(path, library.measure(data))
    return path.read_bytes()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A stats file that exists, alone in its folder."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "stats.yaml").write_bytes(OLD)
    return folder / "stats.yaml"


# ── crashes and errors at each system call ──


def traced(*options: str) -> list[str]:
    """Without -f, which would add the threads that drive workers: results are written by the main thread."""
    return ["strace", "-y", "-qq", "-e", f"trace={TOUCHING}", *options]


def calls_on(folder: Path, log: Path) -> list[tuple[str, int, str]]:
    """Each call on something in the folder: its name, its number among those of that name, its line."""
    counts: dict[str, int] = {}
    found = []
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"(\w+)\(", line)
        if match:
            name = match[1]
            counts[name] = counts.get(name, 0) + 1
            if f"{folder}" in line:
                found.append((name, counts[name], line))
    return found


class Scene:
    """A command that writes `path`, the only file in its folder."""

    def __init__(self, arguments: Sequence[str | Path], path: Path) -> None:
        self.path = path
        self.arguments = [*arguments, path, "--force", "--force"]
        self.reset(OLD)
        self.run()  # compiles the modules
        self.calls = self.calls_with(OLD)

    def calls_with(self, old: bytes | None) -> list[tuple[str, int, str]]:
        self.reset(old)
        ended = self.run(traced("-o", str(self._log)))
        assert (0, "") == (ended.returncode, ended.stderr.replace(f"wrote    {self.path}\n", ""))
        self.printed = ended.stdout
        self.new = self.path.read_bytes()
        calls = calls_on(self.path.parent, self._log)
        assert {"openat", "write", "fsync", "rename"} <= {name for name, _, _ in calls}
        return calls

    @property
    def _log(self) -> Path:
        return self.path.parent.with_name("log")

    def run(self, around: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        return imgnorm(*self.arguments, around=around)

    def injected(self, name: str, count: int, fault: str) -> subprocess.CompletedProcess[str]:
        """The command with a fault at one call; checks that the call is on the folder, as in the first run."""
        ended = self.run(traced("-o", str(self._log), "-e", f"inject={name}:{fault}:when={count}"))
        assert (name, count) in [call[:2] for call in calls_on(self.path.parent, self._log)]
        return ended

    def last(self, call: str, *, of_temporary: bool) -> int:
        """The number of the last such call on the temporary file, or on the folder itself.

        The first close belongs to the check before the scan.
        """
        return [
            count
            for name, count, line in self.calls
            if name == call and (".tmp" in line) is of_temporary
        ][-1]

    def reset(self, old: bytes | None) -> None:
        for path in self.path.parent.iterdir():
            path.unlink()
        if old is not None:
            self.path.write_bytes(old)

    def left(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.path.parent.iterdir()}


SCENES = ["emit", "stats", "rejects", "merge"]


@pytest.fixture(scope="module", params=SCENES)
def scene(
    request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Scene:
    """Each command that writes a file. (bn calibrate imports torch: see test_commands.py.)"""
    return scene_of(request.param, data, tmp_path_factory.mktemp(request.param))


@pytest.fixture(
    scope="module",
    params=[SCENES[0], *(pytest.param(s, marks=pytest.mark.heavy) for s in SCENES[1:])],
)
def whole_scene(
    request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Scene:
    """The same for tests that run it once for each system call.

    The quickest command is enough for most days: all write by one function (see test_commands.py).
    """
    return scene_of(request.param, data, tmp_path_factory.mktemp(request.param))


def scene_of(name: str, data: Path, folder: Path) -> Scene:
    (folder / "out").mkdir()
    parts = []
    if name in ("emit", "merge"):
        for shard in (1, 2):
            parts.append(folder / f"{shard}.yaml")
            library.write_stats(parts[-1], library.measure(data, shard=(shard, 2)))
    scan: list[str | Path] = ["stats", data, "--workers", "1", "-q"]
    if name == "rejects":
        bad = folder_of(folder / "data", 1)
        (bad / "bad.png").touch()
        scan = ["stats", bad, "--workers", "1", "-q", "--max-skipped", "1"]
    arguments: list[str | Path] = {
        "stats": [*scan, "-o"],
        "rejects": [*scan, "--rejects"],
        "emit": ["emit", *parts[:1], "-o"],
        "merge": ["merge", *parts, "-q", "-o"],
    }[name]
    return Scene(arguments, folder / "out" / "result")


@needs_strace
@pytest.mark.parametrize("old", [OLD, None], ids=["replacing", "creating"])
def test_a_crash_at_any_call_leaves_the_old_file_or_the_new_one(
    whole_scene: Scene, old: bytes | None
) -> None:
    """kill -9 on entry to each system call on the folder, as SQLite tests its own writes."""
    for name, count, line in whole_scene.calls_with(old):
        whole_scene.reset(old)
        whole_scene.injected(name, count, "signal=SIGKILL")

        left = whole_scene.left()
        assert left.pop(whole_scene.path.name, None) in (old, whole_scene.new), line
        assert all(
            re.fullmatch(r"\.imgnorm-[0-9a-f]{16}-[0-9a-f]{16}\.tmp", one) for one in left
        ), line


@needs_strace
def test_after_a_crash_the_same_command_does_its_work(whole_scene: Scene) -> None:
    """No lock and no half-written file disturbs the next run."""
    whole_scene.reset(OLD)
    whole_scene.injected("rename", whole_scene.last("rename", of_temporary=True), "signal=SIGKILL")
    ended = whole_scene.run()

    assert 0 == ended.returncode
    assert whole_scene.new == whole_scene.path.read_bytes()


@needs_strace
def test_a_signal_at_any_call_leaves_no_temporary_file(whole_scene: Scene) -> None:
    """Even right after the file was created, before Python could store its descriptor."""
    codes = set()
    for name, count, line in whole_scene.calls:
        whole_scene.reset(OLD)
        ended = whole_scene.injected(name, count, "signal=SIGTERM")

        left = whole_scene.left()
        assert [whole_scene.path.name] == list(left), line
        assert left[whole_scene.path.name] in (OLD, whole_scene.new), line
        assert ended.stderr.endswith("stopped by SIGTERM\n"), line
        codes.add(ended.returncode)
    assert {143} == codes


@needs_strace
@pytest.mark.parametrize(
    ("call", "error", "reason"),
    [
        ("write", "ENOSPC", NO_SPACE),
        ("write", "EDQUOT", "Disk quota exceeded"),
        ("write", "EIO", "Input/output error"),
        ("fsync", "EIO", "Input/output error"),
        ("fsync", "ENOSPC", NO_SPACE),
        ("close", "EIO", "Input/output error"),
        ("rename", "ENOSPC", NO_SPACE),
        ("rename", "EACCES", "Permission denied"),
    ],
)
def test_every_fault_of_the_disk_is_told_and_the_old_file_kept(
    whole_scene: Scene, call: str, error: str, reason: str
) -> None:
    assert_told(whole_scene, call, error, reason)


@needs_strace
def test_a_result_that_cannot_be_written_is_shown_and_the_old_file_kept(scene: Scene) -> None:
    """Hours of work are not lost when the disk fails: the table is on standard output."""
    assert_told(scene, "fsync", "EIO", "Input/output error")


def assert_told(scene: Scene, call: str, error: str, reason: str) -> None:
    scene.reset(OLD)
    ended = scene.injected(call, scene.last(call, of_temporary=True), f"error={error}")

    assert 2 == ended.returncode
    assert f"{scene.path}: cannot be written ({reason}); name a place that can\n" == ended.stderr
    assert scene.printed == ended.stdout
    assert {scene.path.name: OLD} == scene.left()


@needs_strace
def test_a_folder_that_cannot_be_flushed_is_reported(whole_scene: Scene) -> None:
    """The name might be lost in a power failure, so the command fails; the file is whole anyway."""
    whole_scene.reset(OLD)
    ended = whole_scene.injected(
        "fsync", whole_scene.last("fsync", of_temporary=False), "error=EIO"
    )

    assert 2 == ended.returncode
    assert "(Input/output error)" in ended.stderr
    assert {whole_scene.path.name: whole_scene.new} == whole_scene.left()


@needs_strace
def test_a_file_system_that_flushes_no_folders_is_good_enough(whole_scene: Scene) -> None:
    whole_scene.reset(OLD)
    ended = whole_scene.injected(
        "fsync", whole_scene.last("fsync", of_temporary=False), "error=EINVAL"
    )

    assert 0 == ended.returncode
    assert {whole_scene.path.name: whole_scene.new} == whole_scene.left()


def test_what_a_crash_left_behind_is_not_measured(tmp_path: Path) -> None:
    """A stats file may live among the images; its temporary files are hidden, and ignored."""
    noise(1).save(tmp_path / "image.png")
    (tmp_path / ".imgnorm-0123456789abcdef.tmp").write_bytes(b"half a file")
    stats = library.measure(tmp_path)

    assert (1, 0) == (stats.images, len(stats.skipped))


# ── disks that are full or read-only ──


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB with 1 kB free."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder])
    if made.returncode:
        pytest.skip("mount does not work here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _fill(disk: Path) -> None:
    with open(disk / "filler", "wb", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError:
            pass


@needs_mount
def test_a_full_disk_is_told_in_one_line_and_the_result_is_shown(
    disk: Path, data: Path, table: str, command: Command
) -> None:
    path = disk / "stats.yaml"
    path.write_bytes(OLD)
    _fill(disk)
    ended = command("stats", data, "-o", path, "--force", "-q")

    message = f"{path}: cannot be written ({NO_SPACE}); name a place that can\n"
    assert (2, table, message) == ended
    assert ["filler", "stats.yaml"] == sorted(os.listdir(disk))
    assert OLD == path.read_bytes()


@needs_mount
def test_a_full_disk_for_the_rejects_does_not_lose_the_result(
    disk: Path, tmp_path: Path, command: Command
) -> None:
    folder = folder_of(tmp_path / "data", 2)
    (folder / "bad.png").write_bytes(b"")
    _fill(disk)
    path = disk / "rejects.jsonl"
    ended = command("stats", folder, "--rejects", path, "-q")

    assert 2 == ended.code
    assert f"{path}: cannot be written ({NO_SPACE}); name a place that can\n" == ended.err
    assert "images   2 (2 RGB; 2 PNG)" in ended.out
    assert ["filler"] == os.listdir(disk)


@needs_mount
def test_a_module_on_a_full_disk_is_told_in_one_line(
    disk: Path, data: Path, tmp_path: Path, command: Command
) -> None:
    stats = tmp_path / "stats.yaml"
    library.write_stats(stats, library.measure(data))
    _fill(disk)
    path = disk / "transforms.py"
    ended = command("emit", stats, "-o", path)

    assert 2 == ended.code
    assert f"{path}: cannot be written ({NO_SPACE}); name a place that can\n" == ended.err
    assert ["filler"] == os.listdir(disk)


@needs_mount
def test_a_read_only_disk_is_found_out_before_the_scan(disk: Path, command: Command) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    path = disk / "stats.yaml"
    ended = command("stats", "no such folder", "-o", path)

    message = f"{path}: cannot be written (Read-only file system); name a place that can\n"
    assert (2, message) == (ended.code, ended.err)


@needs_mount
def test_no_place_for_temporary_files_is_needed(data: Path, table: str) -> None:
    """A container whose disks are all read-only can still measure, and print."""
    script = """
        mount --make-rprivate / || exit 77
        for folder in /tmp /var/tmp /usr/tmp /dev/shm; do
            test ! -d $folder || mount --bind $folder $folder && mount -o remount,ro,bind $folder
        done 2>/dev/null
        cd /proc && exec "$@"
    """
    around = ["unshare", "-m", "sh", "-c", script, "sh"]
    if subprocess.run([*around, "true"], env=environment(), capture_output=True).returncode:
        pytest.skip("unshare does not work here")
    ended = imgnorm("stats", data, "-q", around=around)

    assert (0, table, "") == (ended.returncode, ended.stdout, ended.stderr)


# ── places that take no file: found before the scan, so the source does not matter ──

NOWHERE = "/no such folder/of images"


@pytest.fixture
def refused(command: Command) -> Callable[..., str]:
    """The reason, in one line. The source does not exist: a scan would have reported that first."""

    def reason(path: Path | str, *options: str) -> str:
        for arguments in (["-o", path], ["--rejects", path]):
            ended = command("stats", NOWHERE, *arguments, *options)

            assert (2, "") == (ended.code, ended.out)
            assert ended.err.startswith(f"{path}: ")
        return ended.err.removeprefix(f"{path}: ").rstrip("\n")

    return reason


def test_a_file_that_exists_is_refused_before_the_scan(
    output: Path, refused: Callable[..., str]
) -> None:
    said = (
        "exists already, and is a stats file; replace it with --force --force, or name another file"
    )
    assert said == refused(output)  # for the list of skipped images
    assert OLD == output.read_bytes()


@pytest.mark.parametrize("name", ["folder", "folder/"])
def test_a_folder_as_output_is_refused_before_the_scan(
    tmp_path: Path, name: str, refused: Callable[..., str]
) -> None:
    (tmp_path / "folder").mkdir()

    assert "is a folder; name a file in it" == refused(tmp_path / name, "--force")
    assert [] == os.listdir(tmp_path / "folder")


def test_a_fifo_as_output_is_refused_before_the_scan(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    """Opening it would wait for a reader."""
    os.mkfifo(tmp_path / "fifo")

    message = refused(tmp_path / "fifo", "--force")
    assert "is not a regular file; name one, or leave the option out" == message


def test_a_device_as_output_is_refused_and_still_a_device(refused: Callable[..., str]) -> None:
    message = refused(Path(os.devnull), "--force")
    assert "is not a regular file; name one, or leave the option out" == message
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_folder_that_is_missing_is_refused_before_the_scan(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    message = refused(tmp_path / "missing" / "stats.yaml")
    assert "its folder does not exist; create it first" == message


def test_a_file_as_folder_is_refused_before_the_scan(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "file").touch()

    assert refused(tmp_path / "file" / "stats.yaml")


@needs_linux
def test_a_folder_without_permission_is_refused_before_the_scan(output: Path) -> None:
    output.parent.chmod(0o555)
    ended = imgnorm("stats", NOWHERE, "-o", output, "--force", before=WITHOUT_POWERS)
    output.parent.chmod(0o755)

    message = f"{output}: cannot be written (Permission denied); name a place that can\n"
    assert (2, message) == (ended.returncode, ended.stderr)
    assert OLD == output.read_bytes()


@needs_linux
def test_a_folder_that_takes_files_but_shows_none_takes_this_one(
    output: Path, data: Path, new: bytes
) -> None:
    """It cannot be opened and so not flushed; the file itself is flushed."""
    output.parent.chmod(0o333)
    ended = imgnorm("stats", data, "-o", output, "--force", "-q", before=WITHOUT_POWERS)
    output.parent.chmod(0o755)

    assert (0, "") == (ended.returncode, ended.stderr)
    assert new == output.read_bytes()


def test_a_name_that_is_too_long_is_refused_before_the_scan(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    message = refused(tmp_path / ("x" * 300))
    assert "cannot be written (File name too long); name a place that can" == message


def test_a_circle_of_links_as_output_is_refused_before_the_scan(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")

    assert refused(tmp_path / "loop", "--force").startswith("cannot be written (Too many levels")


def test_the_same_file_for_both_results_is_refused_before_the_scan(
    tmp_path: Path, command: Command
) -> None:
    path = tmp_path / "both"
    ended = command("stats", NOWHERE, "-o", path, "--rejects", path)

    assert 2 == ended.code
    assert "-o and --rejects name the same file; give each its own" in ended.err


# ── links and permissions ──


@pytest.mark.parametrize("there", [True, False], ids=["good", "dangling"])
def test_a_link_is_kept_and_its_target_written(
    tmp_path: Path, data: Path, new: bytes, command: Command, there: bool
) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target.yaml"
    if there:
        target.write_bytes(OLD)
    link = tmp_path / "link.yaml"
    link.symlink_to("elsewhere/target.yaml")
    ended = command("stats", data, "-o", link, "-q", *(["--force"] if there else []))

    assert (0, "") == (ended.code, ended.err)
    assert "elsewhere/target.yaml" == os.readlink(link)
    assert new == target.read_bytes()
    assert ["target.yaml"] == os.listdir(target.parent)


@pytest.mark.parametrize("mode", [0o600, 0o444, 0o664])
def test_the_permissions_of_a_replaced_file_are_kept(
    output: Path, data: Path, new: bytes, command: Command, mode: int
) -> None:
    output.chmod(mode)
    ended = command("stats", data, "-o", output, "--force", "-q")

    assert (0, "") == (ended.code, ended.err)
    assert new == output.read_bytes()
    assert mode == stat.S_IMODE(output.stat().st_mode)


def test_a_new_file_has_the_permissions_that_others_get(tmp_path: Path, data: Path) -> None:
    """Not the permissions of a private temporary file."""
    path = tmp_path / "stats.yaml"
    imgnorm("stats", data, "-o", path, before="import os; os.umask(0o027)")

    assert 0o640 == stat.S_IMODE(path.stat().st_mode)


def test_the_whole_command_touches_nothing_but_its_output(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", 6)
    home = tmp_path / "home"
    home.mkdir()
    before = _seen(tmp_path)
    ended = imgnorm(
        "stats", data, "-o", tmp_path / "stats.yaml", "--rejects", tmp_path / "rejects.jsonl",
        cwd=home, HOME=str(home), TMPDIR=str(home),
    )  # fmt: skip

    assert 0 == ended.returncode
    after = _seen(tmp_path)
    assert {"stats.yaml", "rejects.jsonl"} == set(after) - set(before)
    assert before == {name: seen for name, seen in after.items() if name in before}


def _seen(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes())
        if path.is_file()
        else (path.stat().st_mode, b"")
        for path in folder.rglob("*")
    }
