"""What commands print, where the terminal decides it."""

from __future__ import annotations

import io
import os
import re
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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of(*progress: Progress, tolerance: float | None = None) -> list[str]:
    """The lines that the bar draws, one over the other."""
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with images_bar(quiet=False, tolerance=tolerance) as on_progress:
            for one in progress:
                time.sleep(0.15)  # tqdm draws ten times a second
                on_progress(one)
    return [line for line in map(str.strip, terminal.getvalue().split("\r")) if line]


def test_the_bar_shows_the_interval_shrink():
    shown = lines_of(Progress(200, 250, 10), Progress(250, 313, 20, 0.0123), tolerance=0.004)

    assert "± 0.0123, wanted 0.004" in shown[-1]


def test_the_bar_has_no_end_until_all_images_are_found():
    start, searching, found = lines_of(
        Progress(12_345, None, 10**9), Progress(20_000, 50_000, 10**9)
    )

    assert start.startswith("0 images so far [")
    assert re.fullmatch(r"12,345 images so far \[00:00, [\d.]+ images/s, [\d,]+ MB/s\]", searching)
    assert re.fullmatch(r"40%\|.*\| 20,000/50,000 \[00:00<00:00, .* images/s, .* MB/s\]", found)


def test_the_sizes_of_archives_show_how_far_it_is():
    """Their images are counted only when they are opened."""
    *_, opened, found = lines_of(
        Progress(100, None, 0),
        Progress(12_345, None, 10**9, fraction=0.25),
        Progress(20_000, 50_000, 10**9, fraction=0.5),
    )

    assert re.fullmatch(r"25%\|.*\| 12,345 images so far \[00:00<00:0\d, [\d,]+ MB/s\]", opened)
    assert re.fullmatch(r"50%\|.*\| 20,000 images \[00:00<00:00, [\d,]+ MB/s\]", found)


def test_the_bar_goes_back_when_a_larger_sample_begins():
    *_, last = lines_of(Progress(250, 250, 0), Progress(10, 20, 0))

    assert last.startswith("50%|")
