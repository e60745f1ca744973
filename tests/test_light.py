"""An install without torch: everything that needs no torch works, all else says what to install."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import click
import pytest
import yaml

import imgnorm
from imgnorm import nn
from imgnorm.cli import commands

if sys.version_info >= (3, 11):
    import tomllib

ROOT = Path(__file__).parents[1]
REMEDY = "is not installed; install it with `pip install torch torchvision`"
SENTENCES = {f"torch {REMEDY}", f"torchvision {REMEDY}"}


def needed_by(requirements: list[str]) -> Iterator[str]:
    """The names of the packages that these requirements bring, those of this Python and system."""
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None
        if "extra ==" not in requirement:
            try:
                below = distribution(name[0]).requires or []
            except PackageNotFoundError:  # for other systems, or older Pythons
                continue
            yield name[0]
            yield from needed_by(below)


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with what `pip install .` brings, linked from this one."""
    if sys.version_info < (3, 11) or os.name == "nt":
        pytest.skip("needs tomllib and links")
    place = tmp_path_factory.mktemp("light") / "venv"
    venv.create(place, with_pip=False)
    (site,) = place.glob("lib/python3*/site-packages")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name in set(needed_by(project["dependencies"])):
        for file in distribution(name).files or ():
            first = file.parts[0]
            if first not in ("..", "__pycache__") and not (site / first).exists():
                (site / first).symlink_to(Path(distribution(name).locate_file(first)))
    (site / "imgnorm").symlink_to(ROOT / "imgnorm")
    return place / "bin" / "python"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the files that the commands below are given."""
    for folder in ("examples", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    imgnorm.write_stats(tmp_path / "s.yaml", imgnorm.measure(str(ROOT / "examples/shapes")))
    (tmp_path / "mine.py").write_text("import torch\n")
    (tmp_path / "mnist.yaml").write_text(
        "format: imgnorm-pipeline/1\nsource: {kind: torchvision, name: MNIST}\n"
        "normalize: {preset: mnist}\n"
    )
    (tmp_path / "model.pt").write_bytes(b"")
    return tmp_path


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [python, *arguments], cwd=cwd, env=variables, capture_output=True, text=True
    )


WITHOUT_TORCH = [
    "--version",
    "stats examples/shapes --resize 32 --center-crop 24 -q",
    "stats examples/shapes --tolerance 0.5 -q",
    "show s.yaml",
    "merge s.yaml -o merged.yaml",
    "emit s.yaml -o transforms.py",
    "emit s.yaml --api v2",
    "emit configs/cifar10.yaml",
    "validate configs s.yaml",
    "validate --explain known-wrong",
    "lint configs",
    "verify s.yaml examples/shapes",
    "diff s.yaml s.yaml",
    "presets",
    "presets show cifar10",
    "explain 0.2023 0.1994 0.2010",
    "schema pipeline",
]
WITH_TORCH = [
    "stats torchvision:MNIST",
    "stats mnist.yaml",
    "stats examples/shapes --device cuda",
    "stats examples/shapes --decoder nvjpeg",
    "validate --build configs",
    "presets verify mnist",
    "bn inspect model.pt",
    "bn inspect torchvision:resnet18",
    "bn calibrate torchvision:resnet18 --weights model.pt --data examples/shapes -o out.pt",
]
WITH_JINJA2 = ["report s.yaml", "stats examples/shapes --report report.html"]


def test_it_is_an_environment_without_torch(light: Path, tmp_path: Path) -> None:
    done = run(light, "-c", "import torch", cwd=tmp_path)

    assert done.stderr.endswith("ModuleNotFoundError: No module named 'torch'\n")


def test_every_command_is_tried() -> None:
    def names(command: click.Command, before: str = "") -> Iterator[str]:
        if isinstance(command, click.Group):
            for name in command.commands:
                yield from names(command.commands[name], f"{before}{name} ")
        else:
            yield before.strip()

    tried = [*WITHOUT_TORCH, *WITH_TORCH, *WITH_JINJA2]

    assert [] == [name for name in names(commands) if not any(f"{name} " in f"{t} " for t in tried)]


@pytest.mark.parametrize("command", WITHOUT_TORCH)
def test_a_command_that_needs_no_torch_works(light: Path, here: Path, command: str) -> None:
    done = run(light, "-m", "imgnorm", *command.split(), cwd=here)

    assert 0 == done.returncode, done.stderr


@pytest.mark.parametrize("command", WITH_TORCH)
def test_a_command_that_needs_torch_says_how_to_install_it(
    light: Path, here: Path, command: str
) -> None:
    done = run(light, "-m", "imgnorm", *command.split(), cwd=here)

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.removesuffix("\n") in SENTENCES


@pytest.mark.parametrize("command", WITH_JINJA2)
def test_a_report_says_how_to_install_what_it_needs_before_images_are_read(
    light: Path, here: Path, command: str
) -> None:
    done = run(light, "-m", "imgnorm", *command.split(), cwd=here)

    assert (2, "") == (done.returncode, done.stdout)
    assert (
        "reports need jinja2, which is not installed; install it with `pip install jinja2`\n"
    ) == done.stderr


def test_a_dataset_whose_module_needs_torch_says_how_to_install_it(light: Path, here: Path) -> None:
    done = run(light, "-m", "imgnorm", "stats", "--dataset", "mine:dataset", cwd=here)

    assert 2 == done.returncode
    assert done.stderr.endswith("; install it with `pip install torch torchvision`\n")
    assert 1 == len(done.stderr.splitlines())


def test_a_device_that_is_used_if_there_is_one_needs_no_torch(light: Path, here: Path) -> None:
    arguments = ["stats", "examples/shapes", "--device", "auto", "-v"]
    done = run(light, "-m", "imgnorm", *arguments, cwd=here)

    assert 0 == done.returncode
    assert f"device   cpu: torch {REMEDY}" in done.stderr


CALLS = {  # what needs torch only once it is called
    "build": "('configs/cifar10.yaml')",
    "to_transform": "(imgnorm.read_stats('s.yaml'))",
    "to_inverse": "(imgnorm.read_stats('s.yaml'))",
}


def test_every_public_name_works_or_says_how_to_install_torch(light: Path, here: Path) -> None:
    names = [f"imgnorm.{name}{CALLS.get(name, '')}" for name in imgnorm.__all__]
    names += [f"imgnorm.nn.{name}" for name in nn.__all__]
    program = (
        "import imgnorm\n"
        f"for name in {names!r}:\n"
        "    try:\n        eval(name)\n        print()\n"
        "    except imgnorm.errors.MissingDependency as error:\n        print(error)"
    )
    done = run(light, "-c", program, cwd=here)
    needing = {name for name in names if "imgnorm.nn." in name or name.endswith(")")}

    assert "" == done.stderr
    for name, printed in zip(names, done.stdout.split("\n"), strict=False):
        assert printed in (SENTENCES if name in needing else {""}), name


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A checkout with modules of the names that checking it imports: they must not be run."""
    for name in ("pip", "yaml", "imgnorm", "click"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the checkout ran')\n")
    (tmp_path / "wrong.yaml").write_text("format: imgnorm-pipeline/1\n")
    return tmp_path


def test_the_hooks_and_the_action_run_nothing_of_the_checkout(light: Path, hostile: Path) -> None:
    steps = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    programs = [step["run"] for step in steps] + [hook["entry"] for hook in hooks]

    assert [True] * 4 == [program.startswith("python -I -m ") for program in programs]
    for command in ("validate", "lint"):
        done = run(light, "-I", "-m", "imgnorm", command, "wrong.yaml", cwd=hostile)

        assert "of the checkout ran" not in done.stdout + done.stderr
    assert 0 == run(Path(sys.executable), "-I", "-m", "pip", "--version", cwd=hostile).returncode


def test_nobody_is_told_to_install_a_package_of_another_project() -> None:
    """The name imgnorm on the package index is not ours: see CONTRIBUTING.md."""
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    told = [
        f"{file}: {line.strip()}"
        for file in files
        if file.endswith((".py", ".md", ".yml", ".yaml", ".toml", ".txt"))
        and "test_light" not in file
        for line in (ROOT / file).read_text(encoding="utf-8", errors="replace").splitlines()
        if re.search(r"(install|add|run|--with) +['\"]?imgnorm\b(?!\.|/)|\bimgnorm\[", line)
    ]

    assert [] == told
