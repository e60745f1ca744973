"""What commands print, where the terminal decides it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(os.name == "nt", reason="a pseudo-terminal")
@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_for_people_at_a_terminal(whole, quiet):
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "imgnorm", "stats", "d", *["-q"] * quiet],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)

    assert b"images/s" not in done.stdout
    assert quiet != (b" images" in shown)
