"""The wheel: what users get is the whole package, and works where there is no checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKED = ("imgnorm", "scripts", "tests", "pyproject.toml", "README.md", "LICENSE", ".gitignore")


def run(*arguments: str | Path, cwd: Path, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkout = tmp_path_factory.mktemp("checkout")
    for name in PACKED:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "cases")
            shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, checkout)
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", cwd=checkout)
    (wheel,) = (checkout / "dist").iterdir()
    return wheel


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    package = ROOT / "imgnorm"
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert {path.relative_to(ROOT).as_posix() for path in files} == names
    assert "imgnorm/py.typed" in names


def test_an_installed_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run("-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=elsewhere)
    said = run("-m", "imgnorm", "--version", cwd=elsewhere, PYTHONPATH=str(target))
    (version,) = re.findall(
        r'^__version__ = "(.+)"$', (ROOT / "imgnorm/__init__.py").read_text(), re.M
    )

    assert version in said
    assert wheel.name.startswith(f"imgnorm-{version}-")


def test_the_command_is_the_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        entry_points = archive.read(name).decode()

    assert "[console_scripts]\nimgnorm = imgnorm.__main__:main\n" == entry_points
