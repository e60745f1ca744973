"""Every block of the pages in docs/ runs, in its order, and prints what the page shows."""

from __future__ import annotations

import ast
import re
import sys

import pytest
from blocks import ROOT, assert_console, blocks_of, comparable, copy_checkout, run_python

PAGES = sorted((ROOT / "docs").glob("*.md"))
RELIABILITY = ROOT / "docs" / "reliability.md"


@pytest.mark.skipif(sys.platform == "win32", reason="the pages' shell is a POSIX one")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_does_what_it_shows(page, tmp_path):
    checkout = copy_checkout(tmp_path)
    printed = ""
    for language, block in blocks_of(page):
        if language == "python":
            assert "" == printed, "what a block prints stands below it"
            printed = run_python(block, checkout)
        elif language == "text":
            assert comparable(block) == comparable(printed)
            printed = ""
        elif language == "console":
            assert_console(block, checkout)
        else:
            pytest.fail(f"a block of language {language!r} that nothing runs")
    assert "" == printed


def test_the_tests_of_every_fault_are_there():
    """docs/reliability.md names them; a test that is renamed or lost must not stay promised."""
    named = re.findall(
        r"`(\w+)::(\w+)`", RELIABILITY.read_text(encoding="utf-8").split("| fault |")[1]
    )
    there = {
        (path.stem.removeprefix("test_"), node.name.removeprefix("test_"))
        for path in (ROOT / "tests").glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }

    assert len(named) > 40
    assert set() == set(named) - there
