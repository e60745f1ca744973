"""The table on the screen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from blocks import ROOT

from imgnorm import read_stats
from imgnorm.stats.stats import Stats
from imgnorm.stats.table import aligned, table


@pytest.fixture
def constants() -> Stats:
    return replace(read_stats(ROOT / "configs" / "stats" / "shapes.yaml"), measurement=None)


def test_numbers_have_four_decimals_and_at_least_three_digits(constants):
    """12-bit values in 16 bits, and almost black images, have a mean and a std of this size."""
    shown = table(replace(constants, mean=(0.49139, 0.01, 0.0039217), std=(0.2, 0.0000321, 0.0)))

    rows = [line.split() for line in shown.splitlines()[1:4]]
    assert [
        ["R", "0.4914", "0.2000"],
        ["G", "0.0100", "0.0000321"],
        ["B", "0.00392", "0.0000"],
    ] == rows


def test_numbers_of_a_column_stand_at_their_points():
    rows = [["", "mean"], ["R", "-0.0987"], ["G", "1.5"], ["B", "20"]]

    assert ["      mean", "R  -0.0987", "G   1.5", "B  20"] == aligned(rows)
