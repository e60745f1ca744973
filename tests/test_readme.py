"""Every block of the README runs, in its order, and prints what the README shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from blocks import ROOT, assert_console, blocks_of, copy_checkout, run_python

import imgnorm

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = blocks_of(ROOT / "README.md")
THE_TESTS_THEMSELVES = "$ ./scripts/test\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.mark.skipif(sys.platform == "win32", reason="the README's shell is a POSIX one")
def test_every_block_does_what_it_shows(checkout):
    for language, block in BLOCKS:
        if block == THE_TESTS_THEMSELVES:
            continue
        if language == "console":
            assert_console(block, checkout)
        elif language == "python":
            run_python(block, checkout)
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
