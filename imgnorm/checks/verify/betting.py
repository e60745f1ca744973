"""The test by betting: do images drawn at random come from the population that a stats file describes?

The file holds exact sums over all images: of their means, mean squares and stds. All of these lie
within what the least and the greatest pixel allow. So the hypothesis is sharp (these numbers have
exactly this average), and a bet decides: start with a capital of 1 and, image by image, stake a part
of it on the number lying above (below) the average of the images not yet drawn. If the hypothesis is
true, no strategy gains on average, whatever the distribution: skew, heavy tails and few images do no
harm. The chance that the capital ever reaches 1/p is then at most p (Ville's inequality). The bet
takes into account that images are drawn without replacement, so it becomes sharper as the sample
nears the whole.

Source: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS B
2024, section 4.2 (the hedged capital, with the predictable plug-in bets of equation 26) and section 5
(without replacement). A single bet is that of stats/capital.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, exp, floor, fsum, inf, log, log1p, sqrt

from imgnorm.stats.capital import log_growth
from imgnorm.tally.moments import UNIT_BITS, ImageSums

FALSE_ALARMS = 1 / 1000
"""At most this chance, over all numbers together, to report unchanged data as moved."""

_ROUNDING = 50
"""Bits of slack: far more than the rounding of one image's numbers, far less than one pixel value."""
_ONE = 1 << UNIT_BITS
_NUMBERS = ("mean", "std", "mean_of_image_std")
"""What is compared for each channel, in the order of the result."""


@dataclass(frozen=True)
class Shift:
    """A number of one channel that differs from the stats file."""

    number: str  # mean, std or mean_of_image_std; each image with the same weight
    channel: int
    then: float  # in the file
    now: float  # in the sample
    sigmas: float  # the difference in standard errors; inf if all images of the sample agree

    @property
    def by(self) -> float:
        return self.now - self.then


@dataclass(frozen=True)
class PixelRange:
    """The least and the greatest value of all pixels of one channel, by the file."""

    least: Fraction  # in the unit of mean and std
    greatest: Fraction


def shifts(
    population: ImageSums,
    pixels: Sequence[PixelRange],
    drawn: Sequence[ImageSums],
    *,
    false_alarms: float = FALSE_ALARMS,
) -> list[Shift]:
    """The numbers of the population that have moved, judged by images drawn from it at random.

    On unchanged data the list is empty, except with a chance of at most `false_alarms`, whatever the
    distribution of the data.

    Args:
        pixels: for each channel.
        drawn: the sums of one image each, in the random order in which they were drawn, without
            replacement.
    """
    channels = len(population.mean)
    wanted = log(3 * channels / false_alarms)  # Bonferroni: three numbers of each channel
    found = [
        shift
        for channel in range(channels)
        for shift in _Channel(population, channel, pixels[channel], drawn).shifts(wanted)
    ]
    return sorted(found, key=lambda shift: _NUMBERS.index(shift.number))


@dataclass(frozen=True)
class _Population:
    """A number that each image has, as an integer from 0 to `top`."""

    total: int  # over all images
    images: int
    top: int
    variance: float  # a guess, for numbers in [0, 1]: decides how much is staked, not what is true


class _Channel:
    """One channel of population and sample, as integers in units of 2**-UNIT_BITS."""

    def __init__(
        self, population: ImageSums, channel: int, pixels: PixelRange, drawn: Sequence[ImageSums]
    ) -> None:
        self._channel = channel
        self._images = population.images
        self._mean = population.mean[channel]
        self._mean_sq = population.mean_sq[channel]
        self._std = population.std[channel]
        self._means = [one.mean[channel] for one in drawn]
        self._squares = [one.mean_sq[channel] for one in drawn]
        self._stds = [one.std[channel] for one in drawn]
        # The rounded mean of equal values may lie a little outside of them.
        beside = (ceil(max(abs(pixels.least), abs(pixels.greatest)) * _ONE) >> _ROUNDING) + 1
        self._low = floor(pixels.least * _ONE) - beside
        self._high = ceil(pixels.greatest * _ONE) + beside

    def shifts(self, wanted: float) -> Iterator[Shift]:
        mean, mean_sq, std = (s / self._images / _ONE for s in self._sums)
        now = [sum(values) / len(values) / _ONE for values in self._drawn]
        # The variances of the images' means and of their stds add up to this.
        between = max(0.0, mean_sq - mean * mean - std * std)
        mean_moved = self._means_moved(between, wanted)
        if mean_moved:
            sigmas = _sigmas(self._means, self._mean, self._images)
            yield Shift("mean", self._channel, mean, now[0], sigmas)
        if self._variance_moved(wanted):
            around = sum(self._means) * self._images // len(self._means)  # the sample's own mean
            variance = self._mean_sq - self._mean**2 // (self._images * _ONE)
            unit = self._images * _ONE
            sigmas = _sigmas(self._centered(around), variance * self._images * unit, self._images)
            # Where the mean moved, so do the squares around the old mean.
            if not mean_moved or sigmas > 3:
                then = sqrt(max(0.0, mean_sq - mean * mean))
                after = sqrt(max(0.0, now[1] - now[0] * now[0]))
                yield Shift("std", self._channel, then, after, sigmas)
        if self._stds_moved(between, wanted):
            sigmas = _sigmas(self._stds, self._std, self._images)
            yield Shift("mean_of_image_std", self._channel, std, now[2], sigmas)

    @property
    def _sums(self) -> tuple[int, int, int]:
        return self._mean, self._mean_sq, self._std

    @property
    def _drawn(self) -> tuple[list[int], list[int], list[int]]:
        return self._means, self._squares, self._stds

    def _means_moved(self, between: float, wanted: float) -> bool:
        low, top = self._low, self._high - self._low
        total = self._mean - self._images * low
        guess = between / (top / _ONE) ** 2
        values = [value - low for value in self._means]
        return _moved(_Population(total, self._images, top, guess), values, wanted)

    def _stds_moved(self, between: float, wanted: float) -> bool:
        top = (self._high - self._low) // 2 + 1  # no std is larger
        guess = between / (top / _ONE) ** 2
        return _moved(_Population(self._std, self._images, top, guess), self._stds, wanted)

    def _variance_moved(self, wanted: float) -> bool:
        """Tests the images' means of (pixel - a)², where a is the population's mean."""
        n, total = self._images, self._mean
        farthest = max(self._high * n - total, total - self._low * n)
        reach = max(abs(self._low), abs(self._high)) * n
        slack = (reach * reach >> _ROUNDING) + n * n * _ONE
        top = farthest * farthest + 2 * slack
        whole = n * n * _ONE * self._mean_sq - n * total * total + n * slack
        part = whole / (n * top)
        values = [value + slack for value in self._centered(total)]
        return _moved(_Population(whole, n, top, part * (1 - part)), values, wanted)

    def _centered(self, total: int) -> list[int]:
        """Each image's mean of (pixel - a)², where a is total / images; in units of (_ONE · images)**-2.

        It is linear in the numbers that the file adds up, so its sum over the population is exact.
        """
        n = self._images
        return [
            n * n * _ONE * square - 2 * n * total * mean + total * total
            for square, mean in zip(self._squares, self._means, strict=True)
        ]


def _moved(population: _Population, drawn: Sequence[int], wanted: float) -> bool:
    return _log_evidence(population, drawn, wanted) >= wanted


def _log_evidence(population: _Population, drawn: Sequence[int], wanted: float) -> float:
    """The logarithm of the largest capital that 1 became; inf if the numbers are impossible."""
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
            above += log_growth(deviation, expected, stake)
        if expected < 1:
            below += log_growth(-deviation, 1 - expected, stake)
        most = max(most, max(above, below) + log1p(exp(-abs(above - below))) - log(2))
        spread += (value / top - usual) ** 2
        remaining -= value
        left -= 1
    return most if 0 <= remaining <= left * top else inf


def _sigmas(values: Sequence[int], total: int, images: int) -> float:
    """How many standard errors the average is away, for people to read (Cochran 1977, theorem 2.2).

    Args:
        total: of all images.
    """
    n = len(values)
    # The integers have a thousand bits and their differences matter, so scale before floats.
    scale = max(1, max(map(abs, values)), abs(total) // images)
    parts = [value / scale for value in values]
    average = fsum(parts) / n
    variance = fsum((part - average) ** 2 for part in parts) / max(1, n - 1)
    error = sqrt(variance / n * (1 - n / images))
    distance = abs(sum(values) * images - total * n) / (scale * n * images)
    return distance / error if error else inf
