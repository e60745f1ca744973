"""Every block of the README runs, in its order, and prints what the README shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import imgnorm

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
THE_TESTS_THEMSELVES = "$ ./scripts/test\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what the README's commands touch."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("imgnorm", "scripts", "examples", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for file in ("pyproject.toml", "constraints.txt", "README.md"):
        shutil.copy(ROOT / file, copy)
    return copy


def run(command: str, checkout: Path) -> str:
    """What a command prints on both streams, standard error last."""
    prefix = Path(sys.prefix)
    if not (prefix / "imgnorm-stamp.json").exists():  # not the environment that scripts/ make
        command = command.replace("./scripts/imgnorm", f"{sys.executable} -m imgnorm")
    done = subprocess.run(
        command,
        shell=True,
        cwd=checkout,
        env={**os.environ, "IMGNORM_VENV": str(prefix), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def comparable(text: str) -> str:
    """Without the time it took; numbers to 6 digits, since the last ones depend on libjpeg's version."""
    text = re.sub(r"^time .*$", "time", text, flags=re.MULTILINE)
    return re.sub(r"\d\.\d{7,}", lambda number: f"{float(number[0]):.6f}", text)


@pytest.mark.skipif(sys.platform == "win32", reason="the README's shell is a POSIX one")
def test_every_block_does_what_it_shows(checkout):
    for language, block in BLOCKS:
        if block == THE_TESTS_THEMSELVES:
            continue
        if language == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, expected = part.partition("\n")

                assert comparable(expected) == comparable(run(command, checkout)), command
        elif language == "python":
            program = checkout / "block.py"
            program.write_text(block, encoding="utf-8")
            run(f"{sys.executable} block.py", checkout)
        elif language == "yaml" and "imgnorm-pipeline/1" in block:
            (checkout / "pipeline.yaml").write_text(block, encoding="utf-8")
        elif language == "yaml" and "runs-on:" in block:
            *_, step = yaml.safe_load(block)["jobs"]["validate"]["steps"]
            action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))

            assert set(step["with"]) <= set(action["inputs"])
        elif language == "yaml":
            constants = checkout / "constants.yaml"
            constants.write_text(block, encoding="utf-8")

            assert imgnorm.read_stats(constants).mean == (0.4914, 0.4822, 0.4465)
        else:
            pytest.fail(f"a block of language {language!r} that nothing runs")


def test_the_test_command_is_the_one_that_ci_calls():
    assert ("console", THE_TESTS_THEMSELVES) in BLOCKS
    assert "./scripts/test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_python_use_writes_the_bytes_of_the_command(checkout):
    assert (checkout / "stats.yaml").read_bytes() == (checkout / "again.yaml").read_bytes()


def test_every_command_is_in_the_readme():
    from imgnorm.cli import commands

    missing = [name for name in commands.commands if f"imgnorm {name}" not in README]

    assert missing == []
