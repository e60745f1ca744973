"""Do images that were drawn at random come from the population that a stats file describes?

Of that population the file holds exact sums over images: of their means, mean squares and stds, all
in [0, 1]. So the hypothesis is sharp (these numbers have exactly this average), and a bet decides:
start with a capital of 1 and, image by image, stake a part of it on the number lying above (below)
the average of the images not yet drawn. If the hypothesis is true, no strategy gains on average,
whatever the distribution: skew, heavy tails and few images do no harm, and the chance that the
capital ever reaches 1/p is at most p (Ville's inequality). Drawing without replacement is part of
the bet, so it grows sharper as the sample nears the whole.

Source: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS B
2024, section 4.2 (the hedged capital, with the predictable plug-in bets of equation 26) and section 5
(without replacement).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log, log1p, sqrt

from imgnorm.moments import UNIT_BITS, ImageSums

FALSE_ALARMS = 1 / 1000
"""The chance at most, over all numbers together, to find that unchanged data has moved."""

_STAKE = 0.75  # of the capital, at most: a bet that fails never ruins
_ROUNDING = (
    50  # bits; far coarser than what rounding does to one image's numbers, far finer than a pixel
)


@dataclass(frozen=True)
class Shift:
    """A number of one channel that is another than in the stats file."""

    number: str  # mean, std or mean_of_image_std; each image with the same weight
    channel: int
    then: float
    now: float  # as the sample has it
    sigmas: float  # the difference in standard errors; inf if all images of the sample agree

    @property
    def by(self) -> float:
        return self.now - self.then


@dataclass(frozen=True)
class _Population:
    """A number that each image has, as an integer from 0 to `top`."""

    total: int  # over all images
    images: int
    top: int
    variance: (
        float  # a guess, for numbers in [0, 1]: it decides how much is staked, not what is true
    )


def shifts(
    population: ImageSums, drawn: Sequence[ImageSums], *, false_alarms: float = FALSE_ALARMS
) -> list[Shift]:
    """Which numbers of the population have moved, going by images drawn from it at random.

    On unchanged data the list is empty but for a chance of `false_alarms`, whatever the data.

    Args:
        drawn: the sums of one image each, in the random order in which they were drawn, without
            replacement.
    """
    channels = len(population.mean)
    wanted = log(3 * channels / false_alarms)  # Bonferroni: three numbers of each channel
    found: list[Shift] = []
    for channel in range(channels):
        unit = 1 << UNIT_BITS
        means = [one.mean[channel] for one in drawn]
        stds = [one.std[channel] for one in drawn]
        squares = [one.mean_sq[channel] for one in drawn]
        total, images = population.mean[channel], population.images
        mean, std = (s / (images * unit) for s in (total, population.std[channel]))
        mean_sq = population.mean_sq[channel] / (images * unit)
        # The variances of the images' means and of their stds add up to this.
        between = max(0.0, mean_sq - mean * mean - std * std)
        of_means = _Population(total, images, unit, between)
        half = unit // 2  # no std is larger, for values in [0, 1]
        of_stds = _Population(population.std[channel], images, half, 4 * between)
        around, centered = _around(total, images, population.mean_sq[channel], squares, means)
        now = [sum(values) / (len(values) * unit) for values in (means, squares, stds)]
        then_std = sqrt(max(0.0, mean_sq - mean * mean))
        now_std = sqrt(max(0.0, now[1] - now[0] * now[0]))
        mean_moved = _log_evidence(of_means, means, wanted) >= wanted
        if mean_moved:
            sigmas = _sigmas(means, mean * unit, images)
            found.append(Shift("mean", channel, mean, now[0], sigmas))
        if _log_evidence(around, centered, wanted) >= wanted:
            _, recentered = _around(
                sum(means) * images // len(means),
                images,
                population.mean_sq[channel],
                squares,
                means,
            )
            sigmas = _sigmas(recentered, then_std**2 * images**2 * unit**2, images)
            # A mean that moved takes the squares around the old one with it.
            if not mean_moved or sigmas > 3:
                found.append(Shift("std", channel, then_std, now_std, sigmas))
        if _log_evidence(of_stds, stds, wanted) >= wanted:
            sigmas = _sigmas(stds, std * unit, images)
            found.append(Shift("mean_of_image_std", channel, std, now[2], sigmas))
    return sorted(found, key=lambda shift: ("mean", "std", "mean_of_image_std").index(shift.number))


def _around(
    total: int, images: int, total_sq: int, squares: Sequence[int], means: Sequence[int]
) -> tuple[_Population, list[int]]:
    """The mean of (pixel - a)² of each image, where a is total / images; in units of (2**160 · images)**-2.

    Their sum is the population's variance around a, exactly, since they are linear in what is added up.
    """
    unit = images << UNIT_BITS
    slack = unit * unit >> _ROUNDING  # a mean square that was rounded down may leave it below 0

    def centered(square: int, mean: int, count: int) -> int:
        return images * unit * square - 2 * images * total * mean + count * (total * total + slack)

    top = max(total, unit - total) ** 2 + 2 * slack
    whole = centered(total_sq, total, images)
    part = whole / (images * top)
    values = [centered(square, mean, 1) for square, mean in zip(squares, means, strict=True)]
    return _Population(whole, images, top, part * (1 - part)), values


def _log_evidence(population: _Population, drawn: Sequence[int], wanted: float) -> float:
    """The logarithm of the most that a capital of 1 became; of an infinite one if it cannot be."""
    left, remaining, top = population.images, population.total, population.top
    usual = remaining / (left * top)
    spread = population.variance + 1e-12
    above = below = most = 0.0
    for done, value in enumerate(drawn):
        if not (0 <= remaining <= left * top and 0 <= value <= top):
            return inf
        expected = remaining / (left * top)
        deviation = (value * left - remaining) / (left * top)  # exact, rounded once
        stake = sqrt(2 * (wanted + log(2)) * (done + 1) / (len(drawn) * spread))
        if expected > 0:
            above += log1p(min(stake, _STAKE / expected) * deviation)
        if expected < 1:
            below += log1p(-min(stake, _STAKE / (1 - expected)) * deviation)
        most = max(most, max(above, below) + log1p(exp(-abs(above - below))) - log(2))
        spread += (value / top - usual) ** 2
        remaining -= value
        left -= 1
    return most if 0 <= remaining <= left * top else inf


def _sigmas(values: Sequence[int], expected: float, images: int) -> float:
    """How many standard errors the average is away, for a person (Cochran 1977, theorem 2.2)."""
    n = len(values)
    average = sum(values) / n
    variance = sum((value - average) ** 2 for value in values) / max(1, n - 1)
    error = sqrt(variance / n * (1 - n / images))
    distance = abs(average - expected)
    return distance / error if error and isfinite(error) else inf
