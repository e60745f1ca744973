"""One bet: by what factor a capital grows. All tests and bounds that rest on bets rest on it.

A part of the capital is staked on the next number lying above what is expected of it. If that is its
expectation indeed, given all numbers before, the capital stays the same on average: it is a martingale, and
the chance that it ever reaches 1/p times what it was is at most p (Ville's inequality).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

MOST_STAKED = 0.75
"""Of the capital: one lost bet never takes all of it."""


def log_growth(
    deviation: Any,
    expected: Any,
    stake: Any,
    log1p: Callable[[Any], Any] = math.log1p,
    least: Callable[[Any, Any], Any] = min,
) -> Any:
    """The logarithm of the factor. For a bet that the number lies below, give -deviation and 1 - expected.

    Args:
        deviation: of the number, in [0, 1], from what was expected.
        expected: above 0, at most 1.
        stake: what part of the capital is staked for each unit of the deviation, if MOST_STAKED allows it.
        log1p, least: NumPy's, where these are arrays.

    Example:
        >>> round(math.exp(log_growth(deviation=0.1, expected=0.4, stake=1.0)), 6)
        1.1
    """
    return log1p(least(stake, MOST_STAKED / expected) * deviation)
