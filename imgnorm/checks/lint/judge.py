"""Which of the rules about numbers make sense for a pair, and the problems that they find.

Files rarely say what a field is for, and a false alarm is worse than a miss. So a rule is applied only
where it makes sense.
"""

from __future__ import annotations

import math

from imgnorm.checks.lint.pair import Pair, Written
from imgnorm.constants.findings import Finding, findings
from imgnorm.constants.presets import matches, numbers_of
from imgnorm.errors import Problem

_FOR_ANY_NUMBERS = {"known-wrong", "swapped", "channel-order", "other-dataset"}
"""Rules that recognize published numbers, so they need not know that a pair is about images."""


def problems_of(pair: Pair, file: str) -> list[Problem]:
    """The problems of a pair, at their places."""
    problems = []
    for finding in _applied(pair):
        written = pair.mean if finding.field == "mean" else pair.std
        line, column = written.place_of(finding.index)
        message = f"{finding.field}: {finding.message}"
        problems.append(
            Problem(file, line, column, finding.rule, message, finding.hint, finding.severity)
        )
    return problems


def _applied(pair: Pair) -> list[Finding]:
    """What the rules find that make sense for a pair."""
    mean, std = pair.mean, pair.std
    if mean.divisor != std.divisor:
        mean, std = mean.divided(), std.divided()
    values = (*mean.effective, *std.effective)
    if not all(map(math.isfinite, values)):
        return [f for f in findings(mean.values, std.values) if pair.pixels]
    if min(mean.effective) < 0 or (not any(mean.values) and max(std.effective) > 1):
        return []  # an inverse transform, or data other than pixels
    unit = pair.unit or _unit_by_size(mean.effective, std.effective)
    if unit is None:
        return []
    found = _findings(pair, mean, std, round(unit * mean.divisor, 9))  # 255 * (1 / 255) is 1
    return [finding for finding in found if _makes_sense(finding, pair, mean, std)]


def _unit_by_size(mean: tuple[float, ...], std: tuple[float, ...]) -> float | None:
    """0..1 (1.0) or 0..255 (255.0), judged by the size of the numbers; None if they fit neither."""
    if max(mean) <= 1:
        return 1.0 if max(std) <= 1 else None
    if max(*mean, *std) <= 255 and (min(std) > 1 or set(std) == {1}):
        return 255.0
    return None


def _findings(pair: Pair, mean: Written, std: Written, unit: float) -> list[Finding]:
    order = pair.order or "RGB"
    found = findings(mean.values, std.values, unit=unit, order=order, dataset=pair.dataset)
    if pair.order is None:
        # Where the order is unknown, only a mean and a std in different orders are wrong.
        other = findings(mean.values, std.values, unit=unit, order="BGR", dataset=pair.dataset)
        if "channel-order" not in {finding.rule for finding in other}:
            found = [finding for finding in found if finding.rule != "channel-order"]
    return found


def _makes_sense(finding: Finding, pair: Pair, mean: Written, std: Written) -> bool:
    varied = len(set(std.values)) >= 3
    if finding.rule == "known-wrong":  # one number by itself occurs anywhere
        return varied or pair.pixels or pair.dataset is not None
    if finding.rule in _FOR_ANY_NUMBERS:
        return True
    if finding.rule == "std-equals-mean":
        numbers = numbers_of(mean.values, unit=(pair.unit or 1.0) * mean.divisor)
        return (pair.pixels and varied) or bool(varied and matches("mean", numbers))
    if finding.rule == "impossible-std":
        return pair.pixels and (pair.unit is not None or len(std.values) == 3)
    if finding.rule == "std-is-scale":  # written as 1 / 255, or with all its digits, it is intended
        return pair.pixels and numbers_of(std.values).tolerance > 1e-12
    if finding.rule in ("unit", "mean-range"):
        return pair.unit is not None
    return pair.pixels
