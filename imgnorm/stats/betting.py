"""Betting: what images drawn at random say about a mean over all of them, whatever the images are.

Is m the mean of a number over all pixels? Start with a capital of 1 and, image by image, stake a part of it
on the next image's number lying above (below) what the images that are left have on average, if m is the
mean. If it is, no strategy gains on average: the capital is a supermartingale, and the chance that it *ever*
reaches 1/p is at most p (Ville's inequality). So the m at which it has not yet reached 1/p are an interval
that contains the mean with a chance of 1 - p at every look, for any images and any number of looks. What is
staked may depend on all images before, and on nothing else. It decides the width, never the truth.

Images are drawn one after the other, without replacement, each with a chance in proportion to its pixels
among those that are left. `shares` are their pixels over those of all images, W and S the sums of the shares
and of share · number over the images before. The images that are left have (m - S) / (1 - W) on average.

Sources: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024,
sections 4 and 5; with weights: Shekhar, Xu, Lipton, Liang & Ramdas, "Risk-limiting financial audits via
weighted sampling without replacement", UAI 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from imgnorm.stats.capital import log_growth
from imgnorm.stats.estimate import Bounds, Interval, Plan

Column = npt.NDArray[np.float64]

_PILOT = 50
"""Of so many images, the mean is taken around which squares are formed: their own squares are not bet on."""
_HALVINGS = 30


def weighted_order(pixels: Sequence[int], seed: int) -> Iterator[int]:
    """The places of these images, in a random order that the seed decides: large ones tend to come first.

    Each is the next with a chance in proportion to its pixels among those that are left. Images of 0
    pixels come last. (Efraimidis & Spirakis 2006, "Weighted random sampling with a reservoir".)
    """
    draw = Random(seed).random
    uniform = np.fromiter((draw() for _ in range(len(pixels))), np.float64, len(pixels))
    weights = np.asarray(pixels, np.float64)
    keys = np.full(len(pixels), np.inf)
    np.divide(-np.log1p(-uniform), weights, out=keys, where=weights > 0)
    return map(int, np.argsort(keys, kind="stable"))


@dataclass(frozen=True)
class Drawn:
    """Images in the order in which they were drawn.

    An image that could not be counted has no number. It is not part of the mean, and nobody knows which of
    those that are left are like it. No assumption is needed: give it the number m, whatever m is. Then m is
    the mean over all images exactly if it is the mean over those that can be counted.
    """

    shares: Column  # (images,): pixels over those of all images, drawn or not; above 0
    counted: npt.NDArray[np.bool_]  # (images,)
    means: Column  # (images, channels): mean of the pixels, in [0, 1]; of images that were counted
    squares: Column  # (images, channels): mean of their squares

    @classmethod
    def of(
        cls,
        shares: Sequence[float],
        images: Sequence[tuple[Sequence[float], Sequence[float]] | None],
        channels: int,
    ) -> Drawn:
        """
        Args:
            images: mean and mean square of each channel; None if it could not be counted.
        """
        nothing = [0.0] * channels
        numbers = np.array([one or (nothing, nothing) for one in images], np.float64)
        counted = np.array([one is not None for one in images], np.bool_)
        return cls(np.array(shares, np.float64), counted, numbers[:, 0], numbers[:, 1])


def bounds_of(drawn: Drawn, plan: Plan, channels: int | None = None) -> Bounds:
    """Intervals that contain mean and std of all images with the plan's confidence, all at once.

    Args:
        channels: that have these numbers so far, and may have others in the images that are left; by
            default, each has its own numbers.

    Valid at every look: the chance that a single one ever fails, whatever the number of looks, is at most
    1 - confidence. The ends are rounded outwards, to a thousandth of the tolerance.
    """
    counted = drawn.means.shape[1]
    error = (1 - plan.confidence) / (
        4 * (channels or counted)
    )  # two numbers of a channel, two ends of each
    places = 3 + max(0, math.ceil(-math.log10(plan.tolerance)))
    means, stds = [], []
    for channel in range(counted):
        mean = bets_on_mean(drawn, channel, plan.tolerance).interval(error)
        squares = SquareBets(drawn, channel, plan.tolerance)
        means.append(_outwards(mean, places))
        stds.append(_outwards(squares.std(mean, squares.interval(error)), places))
    return Bounds(tuple(means), tuple(stds))


class Bets:
    """Bets on one number of each image.

    Args:
        numbers: in [0, 1]; of each image that was counted.
        stakes: each from the images before it only.
        after: this many images are not bet on.
    """

    def __init__(self, drawn: Drawn, numbers: Column, stakes: Column, after: int = 0) -> None:
        shares, self._counted = drawn.shares, drawn.counted[after:]
        lost = np.where(drawn.counted, 0.0, shares)  # their number is m
        found = np.where(drawn.counted, shares * numbers, 0.0)
        self._left = np.maximum(1 - (np.cumsum(shares) - shares), 1e-300)[after:]
        self._found = (np.cumsum(found) - found)[after:]
        self._part = (1 - (np.cumsum(lost) - lost))[after:]
        self._numbers, self._stakes = numbers[after:], stakes[after:]
        # Images that are left have numbers from 0 to 1.
        total, part = float(found.sum()), max(1 - float(lost.sum()), 1e-300)
        most = total + max(0.0, 1 - float(shares.sum()))
        self._sure = min(1.0, total / part), min(1.0, most / part)

    def log_capital(self, m: float, *, above: bool) -> Column:
        """After each draw, if m is the mean, by bets that numbers lie above what it lets expect, or below."""
        expected = np.clip((m * self._part - self._found) / self._left, 0, 1)
        deviations = np.where(self._counted, self._numbers, m) - expected
        if not above:
            deviations, expected = -deviations, 1 - expected
        expected = np.maximum(expected, 1e-300)  # 0 only where the number is 0, too
        gains = log_growth(deviations, expected, self._stakes, np.log1p, np.minimum)
        return np.asarray(np.cumsum(gains))

    def interval(self, error: float) -> Interval:
        """What the bets do not refute: either end is wrong with a chance of at most `error`, ever.

        The capital of each side falls or rises with m throughout, so its end is found by halving.
        """
        wanted = -math.log(error)

        def end(sure: float, other: float, *, above: bool) -> float:
            """The last m from `sure` on that is refuted."""
            if self.log_capital(sure, above=above).max(initial=0.0) < wanted:
                return sure
            for _ in range(_HALVINGS):
                middle = (sure + other) / 2
                if self.log_capital(middle, above=above).max(initial=0.0) >= wanted:
                    sure = middle
                else:
                    other = middle
            return sure

        low, high = self._sure
        ends = end(low, high, above=True), end(high, low, above=False)
        return min(ends), max(ends)  # they cross where both sides have refuted all, by bad luck


def bets_on_mean(drawn: Drawn, channel: int, tolerance: float) -> Bets:
    """Stakes are those that let the capital grow fastest where m is the tolerance away (Kelly 1956)."""
    x = drawn.means[:, channel]
    before = _before(x, drawn.counted, 0.5)
    return Bets(drawn, x, tolerance / _before((x - before) ** 2, drawn.counted, 0.25))


class SquareBets(Bets):
    """Bets on the mean of (pixel - a)², where a is the mean of the first few images.

    Around the mean, little is lost where the intervals of the two are joined to that of the std.
    """

    def __init__(self, drawn: Drawn, channel: int, tolerance: float) -> None:
        counted, x = drawn.counted, drawn.means[:, channel]
        pilot = x[:_PILOT][counted[:_PILOT]]
        self._around = a = float(pilot.mean()) if len(pilot) else 0.5
        self._top = top = max(a, 1 - a) ** 2  # no pixel is farther
        y = np.clip((drawn.squares[:, channel] - 2 * a * x + a * a) / top, 0, 1)
        before = _before(y, counted, 0.25)
        spread = _before((y - before) ** 2, counted, 0.0625)
        variance = before * top - (_before(x, counted, 0.5) - a) ** 2
        stakes = 2 * np.sqrt(np.maximum(variance, 1e-6)) * tolerance / (top * spread)
        super().__init__(drawn, y, stakes, after=_PILOT)

    def std(self, mean: Interval, square: Interval) -> Interval:
        """The interval of the std, by those of the mean and of these squares."""
        a, top = self._around, self._top
        ends = (mean[0] - a) ** 2, (mean[1] - a) ** 2
        nearest = 0.0 if mean[0] <= a <= mean[1] else min(ends)
        low, high = square[0] * top - max(ends), square[1] * top - nearest
        return math.sqrt(max(0.0, low)), math.sqrt(max(0.0, high))


def _before(numbers: Column, counted: npt.NDArray[np.bool_], prior: float) -> Column:
    """For each draw, the average over the images before it that were counted, and one of `prior`."""
    values = np.where(counted, numbers, 0.0)
    images: Column = np.cumsum(counted, dtype=np.float64) - counted
    return np.asarray((prior + np.cumsum(values) - values) / (1 + images))


def _outwards(interval: Interval, places: int) -> Interval:
    """Rounded, and by far more than the rounding of the sums."""
    unit: Any = 10**places
    low, high = interval
    return (
        max(0, math.floor(low * unit - 1e-6)) / unit,
        min(unit, math.ceil(high * unit + 1e-6)) / unit,
    )
