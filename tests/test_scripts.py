"""scripts/: an environment that is made once, noticed when it is out of date, and never half made."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a folder with spaces, whose program prints how it was called."""
    root = tmp_path / "a check out"
    shutil.copytree(ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__*__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    package = root / "imgnorm"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import os, sys\nprint(sys.argv[1:], os.getcwd(), __file__)\n"
        "print(os.environ['IMGNORM_PROGRAM'])\nsys.exit(7)\n"
    )
    return root


@pytest.fixture
def environment(checkout: Path) -> ModuleType:
    """scripts/environment.py of that checkout."""
    spec = importlib.util.spec_from_file_location(
        "environment", checkout / "scripts/environment.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the environment of these tests goes."""
    place = tmp_path / "environments" / "one of them"
    monkeypatch.setenv("IMGNORM_VENV", str(place))
    return place


SetUp = Callable[..., list[str]]


@pytest.fixture
def set_up(environment: ModuleType, place: Path, monkeypatch: pytest.MonkeyPatch) -> SetUp:
    """Set up with steps that only make the files of an environment, and return these steps."""
    steps: list[str] = []

    def call(*command: str) -> None:
        if "venv" in command:
            steps.append(" ".join(["venv", *(part for part in command if part == "--clear")]))
            python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
            (place / "pyvenv.cfg").touch()
        else:
            steps.append(" ".join(part for part in command[1:] if part[0] != "-" or part == "-e"))
            if steps[-1].endswith("[broken]"):
                raise SystemExit(2)

    def steps_of_set_up(*extras: str) -> list[str]:
        steps.clear()
        environment.set_up(*extras)
        return steps.copy()

    monkeypatch.setattr(environment, "call", call)
    return steps_of_set_up


INSTALL = "pip install constraints.txt -e "


def test_a_first_set_up_makes_an_environment_and_says_what_it_costs(
    set_up: SetUp, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ["venv", INSTALL + "."] == set_up()
    assert (
        f"imgnorm: installing imgnorm in {place} (once: 0.2 GB, less than a minute)\n"
    ) == capsys.readouterr().err


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

    assert [INSTALL + "."] == set_up()
    assert [] == set_up()


def test_more_extras_than_needed_are_accepted(set_up: SetUp) -> None:
    set_up("test", "torch")

    assert [] == set_up("torch")
    assert [] == set_up()


def test_a_missing_extra_is_added(set_up: SetUp) -> None:
    set_up("test")

    assert [INSTALL + ".[test,torch]"] == set_up("torch")


def test_an_update_keeps_the_extras(set_up: SetUp, checkout: Path) -> None:
    set_up("test")
    (checkout / "constraints.txt").write_text("")

    assert [INSTALL + ".[test]"] == set_up()
    assert [] == set_up("test")


def test_an_interrupted_install_is_done_again(set_up: SetUp) -> None:
    set_up()
    with pytest.raises(SystemExit):
        set_up("broken")

    assert ["venv", INSTALL + "."] == set_up()


def test_an_environment_whose_python_is_gone_is_made_again(set_up: SetUp, place: Path) -> None:
    set_up()
    shutil.rmtree(place / ("Scripts" if os.name == "nt" else "bin"))

    assert ["venv --clear", INSTALL + "."] == set_up()


def test_a_folder_that_is_no_environment_is_left_alone(
    set_up: SetUp, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.mkdir(parents=True)
    (place / "thesis.tex").touch()
    with pytest.raises(SystemExit) as ended:
        set_up()

    assert 2 == ended.value.code
    assert (
        f"imgnorm: {place} is not an environment: move it, or set IMGNORM_VENV to another folder\n"
    ) == capsys.readouterr().err
    assert ["thesis.tex"] == [path.name for path in place.iterdir()]


def test_a_file_in_the_place_of_the_environment_is_left_alone(
    set_up: SetUp, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.parent.mkdir(parents=True)
    place.write_text("a thesis")
    with pytest.raises(SystemExit):
        set_up()

    assert capsys.readouterr().err.startswith(f"imgnorm: {place} is not an environment: ")
    assert "a thesis" == place.read_text()


def test_a_failed_step_shows_its_own_words_and_what_to_do(
    environment: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        environment.call(sys.executable, "-c", "print('no space left'); raise SystemExit(5)")

    said = (
        "no space left\nimgnorm: this step failed, see above; check the network and the disk, then "
        "run this again\n"
    )

    assert 2 == ended.value.code
    assert ("", said) == capfd.readouterr()


def test_an_old_python_is_told_so(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9))
    monkeypatch.setattr(sys, "argv", ["scripts/test"])
    with pytest.raises(SystemExit):
        environment.set_up()

    assert (
        "imgnorm: Python 3.9 is too old: use 3.10 or newer, such as `python3.12 scripts/test`\n"
    ) == capsys.readouterr().err


@pytest.fixture
def empty_environment(set_up: SetUp, environment: ModuleType, place: Path) -> Path:
    """A real environment without any package, which is up to date."""
    set_up()
    note = (place / environment.DIGEST).read_text()
    venv.create(place, with_pip=False, clear=True)
    (place / environment.DIGEST).write_text(note)
    return place


def run_imgnorm(checkout: Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(checkout / "scripts/imgnorm"), "stats", "two words"],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.usefixtures("empty_environment")
def test_imgnorm_runs_this_checkout_where_the_user_is(checkout: Path, tmp_path: Path) -> None:
    """Arguments, folder and exit code are the program's own, with a real environment; hints can name it."""
    # A folder of the user's that happens to be called imgnorm must not be run in its place.
    here = tmp_path / "here"
    (here / "imgnorm").mkdir(parents=True)
    (here / "imgnorm/__init__.py").write_text("raise RuntimeError('not this one')")
    done = run_imgnorm(checkout, here, PYTHONPATH=str(here))
    main = (checkout / "imgnorm/__main__.py").resolve()

    assert (7, "") == (done.returncode, done.stderr)
    typed = f"{'python ' * (os.name == 'nt')}{checkout / 'scripts/imgnorm'}"
    assert f"['stats', 'two words'] {here.resolve()} {main}\n{typed}\n" == done.stdout


def test_torch_is_installed_when_a_command_imports_it_and_that_is_said(
    checkout: Path, empty_environment: Path, tmp_path: Path
) -> None:
    (checkout / "imgnorm/__main__.py").write_text("import torch\nprint(torch.NAME)\n")
    site = next(empty_environment.glob("**/site-packages"))
    (site / "pip.py").write_text(
        f"import sys\nopen({str(tmp_path / 'calls')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        f"open({str(site / 'torch.py')!r}, 'w').write('NAME = \"a torch\"')\n"
    )
    first = run_imgnorm(checkout, tmp_path)
    second = run_imgnorm(checkout, tmp_path)
    (call,) = (tmp_path / "calls").read_text().splitlines()

    assert ("a torch\n", "a torch\n") == (first.stdout, second.stdout)
    assert (
        "imgnorm: this needs torch and torchvision, which are not installed yet\n"
        f"imgnorm: installing imgnorm and torch in {empty_environment} (once: 5 GB, minutes)\n"
    ) == first.stderr
    assert "" == second.stderr
    assert call.endswith("-e .[torch]")


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
    assert f"argument {option}: {path!r} is not a file in a folder that exists\n" in done.stderr


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
