"""Every block of docs/normalization.md runs, in its order, and prints what the page shows."""

from __future__ import annotations

import sys

import pytest
from blocks import ROOT, assert_console, blocks_of, comparable, copy_checkout, run_python

PAGE = ROOT / "docs" / "normalization.md"


@pytest.mark.skipif(sys.platform == "win32", reason="the page's shell is a POSIX one")
def test_every_block_does_what_it_shows(tmp_path):
    checkout = copy_checkout(tmp_path)
    printed = ""
    for language, block in blocks_of(PAGE):
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
