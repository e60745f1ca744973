"""The code blocks of a Markdown page: run in their order, and compared with what the page shows.

A block of `console` is commands, each with what it prints. What a block of `python` prints stands in
a block of `text` below it. A block of `yaml` is a file for the blocks behind it.
"""

from __future__ import annotations

import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Collection
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import yaml
from injection import here

ROOT = Path(__file__).parents[1]


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """Language and content of every fenced block."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def copy_checkout(copy: Path) -> Path:
    """A copy of what the pages' commands touch."""
    for folder in ("imgnorm", "scripts", "examples", "configs", "benchmarks"):
        shutil.copytree(ROOT / folder, copy / folder)  # with compiled modules
    for file in ("pyproject.toml", "constraints.txt", "README.md"):
        shutil.copy(ROOT / file, copy)
    installed = copy / "bin" / "imgnorm"
    installed.parent.mkdir()
    installed.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m imgnorm "$@"\n')
    installed.chmod(0o755)
    return copy


def assert_page(page: Path, checkout: Path, *, run_elsewhere: Collection[str] = ()) -> None:
    """Every block of a page does what the page shows, but for those that a test of their own runs."""
    printed = ""
    for language, block in blocks_of(page):
        if block in run_elsewhere:
            continue
        if language == "text":
            assert comparable(block) == comparable(printed)
            printed = ""
            continue
        assert "" == printed, "what a block prints stands below it"
        if language == "python":
            printed = run_python(block, checkout)
        elif language == "console":
            assert_console(block, checkout)
        elif language == "yaml":
            keep_yaml(block, checkout)
        else:
            raise AssertionError(f"a block of language {language!r} that nothing runs")
    assert "" == printed, "what a block prints stands below it"


def keep_yaml(block: str, checkout: Path) -> None:
    """A file under the name that the page's commands give it; what CI reads is compared with the action and the hooks."""
    if "imgnorm-pipeline/1" in block:
        (checkout / "pipeline.yaml").write_text(block, encoding="utf-8")
    elif "imgnorm-stats/1" in block:
        (checkout / "constants.yaml").write_text(block, encoding="utf-8")
    elif block.startswith("repos:"):
        (repository,) = yaml.safe_load(block)["repos"]
        hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))

        assert repository["hooks"] == [{"id": hook["id"]} for hook in hooks]
    else:
        *_, step = yaml.safe_load(block)["jobs"]["validate"]["steps"]
        action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))

        assert set(step["with"]) <= set(action["inputs"])


def run(command: str, checkout: Path) -> str:
    """What a command prints on both streams, in the order in which a terminal shows it."""
    program, *arguments = command.split()
    if program in ("imgnorm", "./scripts/imgnorm") and not set(command) & set("|>&;$*'\"\\"):
        done = here(*arguments, cwd=checkout, merged=True)
    else:
        path = os.pathsep.join([str(checkout / "bin"), os.environ["PATH"]])
        done = subprocess.run(
            command,
            shell=True,
            cwd=checkout,
            env={**os.environ, "PATH": path, "PYTHONUTF8": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
    # Pages may show what goes wrong; what fails without a word would not be seen.
    assert done.returncode == 0 or done.stdout, command
    return done.stdout


def run_python(block: str, checkout: Path) -> str:
    """What a block of Python prints. `# name.py` as its first line names the file that it is."""
    named = re.match(r"# (\w+\.py)\n", block)
    file = named[1] if named else "block.py"
    (checkout / file).write_text(block, encoding="utf-8")
    if find_spec("torch") is None or "torch" not in block:
        return run(f"{sys.executable} {file}", checkout)
    modules, path, place = (
        set(sys.modules),
        [*sys.path],
        os.getcwd(),
    )  # torch takes seconds to import
    printed = io.StringIO()
    try:
        os.chdir(checkout)
        sys.path.insert(0, str(checkout))
        with redirect_stdout(printed), redirect_stderr(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runpy.run_path(file, run_name="__main__")
    finally:
        os.chdir(place)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None)).startswith(str(checkout)):
                del sys.modules[name]
    return printed.getvalue()


def assert_console(block: str, checkout: Path) -> None:
    """Every command of a console block prints what stands below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")

        assert comparable(expected) == comparable(run(command, checkout)), command


def comparable(text: str) -> str:
    """Without the time it took; numbers to 6 digits, since the last ones depend on libjpeg's version."""
    text = re.sub(r"^time .*$", "time", text, flags=re.MULTILINE)
    return re.sub(r"\d\.\d{7,}", lambda number: f"{float(number[0]):.6f}", text)
