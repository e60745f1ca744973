"""scripts/: one environment, made once, kept while nothing changed, never half made."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def environment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", ROOT / "scripts/environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a folder with spaces, whose program tells how it was called."""
    root = tmp_path / "a check out"
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__*__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    package = root / "imgnorm"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import os, sys\nprint(sys.argv[1:], os.getcwd(), __file__)\nsys.exit(7)\n"
    )
    return root


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the environment of these tests goes."""
    place = tmp_path / "environments" / "one of them"
    monkeypatch.setenv("IMGNORM_VENV", str(place))
    return place


class Installer:
    """Stands in for the commands of a set-up: makes the files of an environment, notes the rest."""

    def __init__(self, environment: ModuleType) -> None:
        self.environment = environment
        self.steps: list[str] = []  # in order: "create", "install .[test]", "uninstall imgnorm"
        self.fail_with: BaseException | None = None

    def run(self, command: Sequence[str], cwd: Path | None, lock: int) -> None:
        if "venv" in command:
            self.steps.append(" ".join(["create", *(o for o in command if o == "--clear")]))
            self.make(Path(command[-1]))
            return
        what = [part for part in command[1:] if part in ("install", "uninstall", "imgnorm")]
        self.steps.append(" ".join([*what, *(part for part in command if part[0] == ".")]))
        time.sleep(0.05)
        if self.fail_with is not None:
            raise self.fail_with

    def make(self, place: Path, version: str = MINOR) -> None:
        python = self.environment.python_of(place)
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        (place / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}.1\n")


@pytest.fixture
def installer(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Installer:
    installer = Installer(environment)
    monkeypatch.setattr(environment, "run", installer.run)
    monkeypatch.setattr(environment, "succeeded", lambda command: True)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return installer


SetUp = Callable[..., list[str]]


@pytest.fixture
def set_up(environment: ModuleType, installer: Installer, checkout: Path, place: Path) -> SetUp:
    """Set up, and tell the steps that it took."""

    def steps_of_set_up(*extras: str) -> list[str]:
        installer.steps.clear()
        assert environment.python_of(place) == environment.set_up(extras, checkout)
        return installer.steps.copy()

    return steps_of_set_up


def test_the_project_is_not_left_in_the_environment(set_up: SetUp) -> None:
    """A shared environment would otherwise run one checkout's code for another."""
    assert ["create", "install .", "uninstall imgnorm"] == set_up()


def test_a_second_set_up_does_nothing(set_up: SetUp, capsys: pytest.CaptureFixture[str]) -> None:
    set_up()
    capsys.readouterr()

    assert [] == set_up()
    assert ("", "") == capsys.readouterr()


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_file_updates_the_environment(set_up: SetUp, checkout: Path, name: str) -> None:
    set_up()
    with open(checkout / name, "a") as file:
        file.write("# changed\n")

    assert ["install .", "uninstall imgnorm"] == set_up()
    assert [] == set_up()


def test_more_extras_than_needed_are_accepted(set_up: SetUp) -> None:
    set_up("test")

    assert [] == set_up()


def test_a_missing_extra_is_added(set_up: SetUp) -> None:
    set_up()

    assert ["install .[test]", "uninstall imgnorm"] == set_up("test")


def test_an_update_keeps_the_extras(set_up: SetUp, checkout: Path) -> None:
    set_up("test")
    (checkout / "constraints.txt").write_text("")

    assert ["install .[test]", "uninstall imgnorm"] == set_up()
    assert [] == set_up("test")


def test_an_interrupted_install_is_done_again(
    set_up: SetUp, installer: Installer, checkout: Path
) -> None:
    set_up()
    (checkout / "constraints.txt").write_text("")
    installer.fail_with = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        set_up()
    installer.fail_with = None

    assert ["install .", "uninstall imgnorm"] == set_up()


def test_a_full_disk_is_told_in_a_sentence(
    set_up: SetUp, installer: Installer, place: Path, environment: ModuleType
) -> None:
    installer.fail_with = OSError(28, "No space left on device")
    with pytest.raises(environment.SetUpError) as error:
        set_up()

    assert (
        f"the environment in {place} cannot be written ([Errno 28] No space left on device): "
        "make room there, or set IMGNORM_VENV to another folder"
    ) == str(error.value)


def test_an_environment_of_another_python_is_made_again(
    set_up: SetUp, place: Path, environment: ModuleType
) -> None:
    set_up()
    stamp = place / environment.STAMP
    stamp.write_text(stamp.read_text().replace(f'"{MINOR}"', '"3.9"'))

    assert ["create --clear", "install .", "uninstall imgnorm"] == set_up()


def test_an_environment_without_a_stamp_is_adopted(
    set_up: SetUp, installer: Installer, place: Path
) -> None:
    installer.make(place)

    assert ["install .", "uninstall imgnorm"] == set_up()


def test_somebody_elses_environment_of_another_python_is_left_alone(
    set_up: SetUp, installer: Installer, place: Path, environment: ModuleType
) -> None:
    installer.make(place, "3.9")
    with pytest.raises(environment.SetUpError) as error:
        set_up()

    assert (
        f"{place} belongs to Python 3.9 and this is Python {MINOR}: "
        "delete it, or set IMGNORM_VENV to another folder"
    ) == str(error.value)


def test_a_folder_that_is_no_environment_is_left_alone(
    set_up: SetUp, place: Path, environment: ModuleType
) -> None:
    place.mkdir(parents=True)
    (place / "thesis.tex").touch()
    with pytest.raises(environment.SetUpError) as error:
        set_up()

    assert (
        f"{place} is not a virtual environment: move it away, or set IMGNORM_VENV to another folder"
    ) == str(error.value)
    assert ["thesis.tex"] == [path.name for path in place.iterdir()]


def test_two_set_ups_at_once_install_once(
    installer: Installer, environment: ModuleType, checkout: Path, place: Path
) -> None:
    threads = [threading.Thread(target=environment.set_up, args=((), checkout)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["create", "install .", "uninstall imgnorm"] == installer.steps


def test_uv_is_used_where_there_is_one(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    pip = environment.pip_of(tmp_path, 0)
    python = str(environment.python_of(tmp_path))

    assert ["/bin/uv", "pip", "install", "--quiet", "--python", python] == pip("install")


def test_a_failure_shows_the_last_lines_and_what_to_do(
    environment: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = "import sys; print(*range(100), sep='\\n'); sys.exit(5)"
    with pytest.raises(environment.SetUpError) as error:
        environment.run([sys.executable, "-c", talk], None, os.open(os.devnull, os.O_RDONLY))

    assert "".join(f"    {n}\n" for n in range(85, 100)) == capsys.readouterr().err
    assert (
        "pip failed (exit code 5; its last lines are above): "
        "see to it that the network is up and the disk has 8 GB to spare, then run this again"
    ) == str(error.value)


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ((3, 9), "Python 3.9 is too old: run it with Python 3.10 or newer"),
        ((2, 7), "Python 2.7 is too old: run it with Python 3.10 or newer"),
    ],
)
def test_an_old_python_is_told_so(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch, python: tuple[int, int], said: str
) -> None:
    monkeypatch.setattr(sys, "version_info", python)
    monkeypatch.setattr(sys, "argv", ["scripts/test"])
    with pytest.raises(environment.SetUpError) as error:
        environment.set_up()

    assert f"{said}, for example `python3.12 scripts/test`" == str(error.value)


def test_a_python_without_venv_is_told_what_to_install(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(environment.SetUpError) as error:
        environment.create(tmp_path, 0)

    assert (
        f"{sys.executable} has no venv module: install it "
        "(`apt install python3-venv` on Debian and Ubuntu), or use another Python"
    ) == str(error.value)


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [("KeyboardInterrupt", 130, ""), ("environment.SetUpError('no')", 2, "imgnorm: no\n")],
)
def test_a_failed_set_up_ends_without_a_traceback(raised: str, code: int, said: str) -> None:
    script = (
        f"import environment\ndef main(arguments): raise {raised}\nenvironment.run_script(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "scripts", capture_output=True, text=True
    )

    assert (code, said) == (done.returncode, done.stderr)


def test_the_checkout_comes_before_the_users_python_path(environment: ModuleType) -> None:
    root = Path("checkout")

    assert "checkout" == environment.python_path(root, None)
    assert os.pathsep.join(["checkout", "a", "b"]) == environment.python_path(
        root, os.pathsep.join(["a", "b"])
    )


def test_imgnorm_runs_this_checkout_where_the_user_is(
    environment: ModuleType, checkout: Path, place: Path, tmp_path: Path
) -> None:
    """Arguments, folder and exit code are the program's own, with a real environment."""
    venv.create(place, with_pip=False)
    (place / environment.STAMP).write_text(
        environment.json.dumps(environment.stamp_of(checkout, []))
    )
    # A folder of the user's that happens to be called imgnorm must not be run in its place.
    here = tmp_path / "here"
    (here / "imgnorm").mkdir(parents=True)
    if sys.version_info >= (3, 11):
        (here / "imgnorm/__init__.py").write_text("raise RuntimeError('not this one')")
    done = subprocess.run(
        [sys.executable, str(checkout / "scripts/imgnorm"), "stats", "two words"],
        cwd=here,
        capture_output=True,
        text=True,
    )
    main = (checkout / "imgnorm/__main__.py").resolve()

    assert (7, "") == (done.returncode, done.stderr)
    assert f"['stats', 'two words'] {here.resolve()} {main}\n" == done.stdout


@pytest.mark.parametrize("option", ["--markdown", "--json"])
def test_a_bench_that_could_not_be_written_down_does_not_start(tmp_path: Path, option: str) -> None:
    """The races take minutes."""
    path = str(tmp_path / "missing" / "results")
    done = subprocess.run(
        [sys.executable, "scripts/bench", "--here", "--only", "start", option, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert (2, "") == (done.returncode, done.stdout)
    assert f"argument {option}: {path!r} is no file in a folder that is there\n" in done.stderr


def test_the_checks_pass() -> None:
    """Lint, formatting and types of the whole checkout."""
    done = subprocess.run(
        [sys.executable, "scripts/check", "--here"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    assert 0 == done.returncode, done.stdout
