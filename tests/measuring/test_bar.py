"""The progress bar, and when `measure` shows it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import imgnorm
from imgnorm.measuring.bar import images_bar
from imgnorm.progress import Progress

ROOT = Path(__file__).parents[2]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of(*progress: Progress, tolerance: float | None = None) -> list[str]:
    """The lines that the bar draws, one over the other."""
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with images_bar(shown=True, tolerance=tolerance) as on_progress:
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
    assert re.fullmatch(
        r"12,345 images so far \[00:00, [\d,]+ images/s, [\d,.]+ [kMG]B/s\]", searching
    )
    assert re.fullmatch(
        r"40%\|.*\| 20,000/50,000 images \[00:00<00:00, .* images/s, .* [kMG]B/s\]", found
    )


def test_the_sizes_of_archives_show_how_far_it_is():
    """Their images are counted only when they are opened."""
    *_, opened, found = lines_of(
        Progress(100, None, 0),
        Progress(12_345, None, 10**9, fraction=0.25),
        Progress(20_000, 50_000, 10**9, fraction=0.5),
    )

    assert re.fullmatch(
        r"25%\|.*\| 12,345 images so far \[00:00<00:0\d, [\d,]+ images/s, [\d,.]+ [kMG]B/s\]",
        opened,
    )
    assert re.fullmatch(
        r"50%\|.*\| 20,000 images \[00:00<00:00, [\d,]+ images/s, [\d,.]+ [kMG]B/s\]", found
    )


def test_the_bar_goes_back_when_a_larger_sample_begins():
    *_, last = lines_of(Progress(250, 250, 0), Progress(10, 20, 0))

    assert last.startswith("50%|")


def test_measure_shows_a_bar_if_it_is_asked_to(monkeypatch):
    calls: list[Progress] = []
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.chdir(ROOT)

    imgnorm.measure("examples/shapes", progress=True, on_progress=calls.append, workers=1)

    assert "0 images so far [00:00]" in terminal.getvalue()
    assert 24 == calls[-1].done


def test_nobody_pays_for_a_bar_without_asking():
    program = "import sys, imgnorm; imgnorm.measure('examples/shapes', limit=2); print('tqdm' in sys.modules)"

    assert "False\n" == subprocess.check_output(
        [sys.executable, "-c", program], cwd=ROOT, text=True
    )


def test_no_bar_goes_into_a_pipe_or_a_log(capsys):
    imgnorm.measure(ROOT / "examples" / "shapes", progress=True)

    assert "" == capsys.readouterr().err
