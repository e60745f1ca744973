"""The options that commands share, and what their help says."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from imgnorm.tally.skipped import Allowance

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("percent", ["0.57%", "0.29%", "1.1%"])
def test_a_percentage_of_skipped_images_is_exact(percent):
    """0.57% of 10,000 is 57; in floats it is a little less."""
    exactly = int(Fraction(percent[:-1]) * 100)

    assert Allowance.parse(percent).covers(exactly, 10_000)
    assert not Allowance.parse(percent).covers(exactly + 1, 10_000)
