"""Every block of the README runs, in its order, and prints what the README shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from blocks import ROOT, assert_page, blocks_of, copy_checkout
from injection import here

README = (ROOT / "README.md").read_text(encoding="utf-8")
WITHOUT_INSTALLING = "$ ./scripts/imgnorm stats examples/shapes\n$ ./scripts/test\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.mark.skipif(sys.platform == "win32", reason="the README's shell is a POSIX one")
def test_every_block_does_what_it_shows(checkout):
    assert_page(ROOT / "README.md", checkout, run_elsewhere={WITHOUT_INSTALLING})


def test_it_says_it_in_a_few_screens():
    assert len(README.splitlines()) <= 120


def test_nothing_needs_to_be_installed():
    """tests/test_scripts.py makes the environment; CI calls the second command."""
    assert ("console", WITHOUT_INSTALLING) in blocks_of(ROOT / "README.md")
    assert here("stats", "examples/shapes", cwd=ROOT).returncode == 0
    assert "./scripts/test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_python_use_writes_the_bytes_of_the_command(checkout):
    assert (checkout / "stats.yaml").read_bytes() == (checkout / "again.yaml").read_bytes()


def test_every_command_is_in_the_readme():
    from imgnorm.cli import commands

    missing = [name for name in commands.commands if f"imgnorm {name}" not in README]

    assert missing == []
