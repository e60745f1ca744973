"""What commands print, where the terminal decides it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imgnorm.cli.terminal import images_bar
from imgnorm.progress import Progress

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


def test_the_bar_shows_the_interval_shrink(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with images_bar(quiet=False, tolerance=0.004) as on_progress:
        on_progress(Progress(200, 250, 10))
        time.sleep(0.15)  # tqdm draws ten times a second
        on_progress(Progress(250, 313, 20, 0.0123))

    assert "± 0.0123, wanted 0.004" in terminal.getvalue()
