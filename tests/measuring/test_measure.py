"""The arguments of `measure`: which are refused, and which mean the same."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest

from imgnorm.measuring.measure import measure
from imgnorm.stats import format as statsformat


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0}, "tolerance is 0; expected more than 0 and less than 1"),
        ({"tolerance": -0.1}, "tolerance is -0.1; expected more than 0 and less than 1"),
        ({"tolerance": math.nan}, "tolerance is nan; expected more than 0 and less than 1"),
        ({"tolerance": 5}, "are in [0, 1]; if it is for [0, 255], give 0.02"),
        ({"tolerance": 0.1, "confidence": 1}, "confidence is 1; expected more than 0 and less"),
        ({"tolerance": 0.1, "confidence": 99}, "less than 1; 99 % is 0.99"),
        ({"tolerance": 0.1, "confidence": math.nan}, "confidence is nan; expected more than 0"),
        ({"tolerance": 0.1, "seed": -1}, "seed is -1; expected 0 to 2**64 - 1"),
        (
            {"tolerance": 0.1, "limit": 9},
            "tolerance takes as many images as it needs; leave limit out",
        ),
        (
            {"tolerance": 0.1, "shard": (1, 2)},
            "shard is for merging, and an estimate does not merge; leave it out, or tolerance",
        ),
        ({"tolerance": 0.1, "keep_names": True}, "keep_names is for merging, and an estimate does"),
        (
            {"tolerance": 0.1, "per_class": True},
            "tolerance is about the whole, and takes too few images of each class for per_class",
        ),
        ({"frames": 2}, "2 is not first, all or every:N"),
        ({"confidence": 0.9, "seed": 3}, "confidence is for tolerance; leave it out, or give both"),
    ],
)
def test_what_cannot_be_had_is_a_callers_bug(plain, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        measure(plain, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": "0.1"}, "tolerance is '0.1'; expected a number"),
        ({"tolerance": True}, "tolerance is True; expected a number"),
        ({"tolerance": 0.1, "confidence": "0.9"}, "confidence is '0.9'; expected a number"),
        ({"tolerance": 0.1, "seed": 1.5}, "seed is 1.5; expected a whole number"),
        ({"tolerance": 0.1, "seed": True}, "seed is True; expected a whole number"),
        ({"include": 3}, "include is 3; expected a pattern, or a list of patterns"),
        ({"exclude": ["a", 3]}, "exclude is ['a', 3]; expected a pattern, or a list of patterns"),
    ],
)
def test_what_no_stats_file_could_hold_is_refused_before_anything_is_measured(
    plain, options, message
):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        measure(plain, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"tolerance": Fraction(1, 10), "confidence": Fraction(9, 10), "seed": np.int64(3)},
        {"tolerance": np.float64(0.1), "confidence": np.float64(0.9), "seed": np.uint8(3)},
    ],
)
def test_numbers_of_other_kinds_are_those_numbers(plain, options):
    expected = measure(plain, tolerance=0.1, confidence=0.9, seed=3)

    assert statsformat.text_of(expected) == statsformat.text_of(measure(plain, **options))
