"""Estimates: mean and std of a random sample of images, and how far they can be from those of all images.

Where the number of pixels of every image is known, images are drawn in proportion to it, and `betting` gives
intervals that hold for all images whatever they are (`Bounds`). Where sizes are sampled too, the interval is
linearised, and holds if the sizes of all images are like those that were seen:

An image is a cluster of pixels: it is taken whole or not at all, so what varies are the count, total
and total_sq of each image. The pooled mean R = Σtotal / Σcount is a ratio estimator, and the variance
V = Σtotal_sq / Σcount - R² is a function of two. Both are linearised (Cochran 1977, Sampling
Techniques, ch. 6; Särndal, Swensson & Wretman 1992, Model Assisted Survey Sampling, ch. 5): with

    e = total - R · count                                 of each image, for the mean
    g = total_sq - 2 R · total + (2 R² - M) · count       with M = Σtotal_sq / Σcount, for V

the standard error of R is sqrt((1 - f) / m · Σe² / (m - 1)) / (Σcount / m), for m images that are the
fraction f of all; with g in place of e it is that of V. The interval of the std is the square root of
the interval of V.

That alone fails where few images matter. If 1 % of the images differ from the rest, one sample of 200
in eight has none of them: its images all agree, and sampling would stop. So a second term is added,
for images unlike all that were seen. If their share is p, m images miss them with the probability
(1 - p)**m; so with the probability 1 - a, p is at most ln(1/a) / m. At worst each of them is black or
white, and it is weighted by the root mean square of the counts. No sample is enough while p may be
above 1 %, so that large images among them are seen. This is the form of Bernstein's bound (Maurer &
Pontil 2009, Empirical Bernstein Bounds, theorem 4), with the constants that Poisson's distribution
of rare images needs: it covers z · SE + ln(1/a) at every expected number of them.

The confidence holds for all numbers at once: the error is split among channels x {mean, std}
(Bonferroni). No error is reserved for looking more than once: a rule that stops when the interval
has a fixed width is consistent (Chow & Robbins 1965), and the second term covers what such a rule
costs in finite samples. docs/estimates.md has the measured coverages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from fractions import Fraction
from typing import Any, Literal

from imgnorm.settings import SizesOption
from imgnorm.tally.moments import CrossSums, Moments, square_root

MIN_IMAGES = 200
"""With fewer images, their spread is too uncertain for an interval to mean much."""

MAX_UNSEEN = 0.01
"""The largest share of images unlike all seen ones with which a sample can be enough."""

_GROWTH: dict[SizesOption, Fraction] = {"exact": Fraction(11, 10), "sampled": Fraction(5, 4)}
"""How the sample grows from look to look. `Bounds` hold at every look, so there may be many."""

_DIGITS = Context(prec=4, rounding=ROUND_CEILING)
"""How margins are rounded. More digits would be useless, and could differ where two machines' logarithms
differ in a bit."""
_DECIMALS = 12  # far more than the ends of bounds have


@dataclass(frozen=True)
class Plan:
    """How good an estimate must be.

    Raises:
        ValueError: a value is not possible; PLAN_FAULTS has the messages.
    """

    tolerance: float  # for every mean and std, in ToTensor's [0, 1]
    confidence: float = 0.99  # the probability that all of them are within it
    seed: int = 0  # decides the order in which images are taken
    sizes: SizesOption | None = None  # None: exact, unless reading those of all images takes long

    def __post_init__(self) -> None:
        for name, fault_of in PLAN_FAULTS.items():
            if fault := fault_of(getattr(self, name)):
                raise ValueError(fault)


def _tolerance_fault(tolerance: float) -> str | None:
    if 0 < tolerance < 1:
        return None
    remedy = f"; if it is for [0, 255], give {tolerance / 255:.2g}" if 1 <= tolerance < 255 else ""
    return (
        f"tolerance is {tolerance:g}; expected more than 0 and less than 1, since mean and std are "
        f"in [0, 1]{remedy}"
    )


def _confidence_fault(confidence: float) -> str | None:
    if 0 < confidence < 1:
        return None
    remedy = f"; {confidence:g} % is {confidence / 100:g}" if 1 < confidence < 100 else ""
    return f"confidence is {confidence:g}; expected more than 0 and less than 1{remedy}"


def _seed_fault(seed: int) -> str | None:
    return None if 0 <= seed < 1 << 64 else f"seed is {seed}; expected 0 to 2**64 - 1"


PLAN_FAULTS: dict[str, Callable[[Any], str | None]] = {
    "tolerance": _tolerance_fault,
    "confidence": _confidence_fault,
    "seed": _seed_fault,
}
"""For each field of a plan: the message about a wrong value, None for a right one."""


@dataclass(frozen=True)
class Margins:
    """How far the exact numbers may be from the estimated ones, per channel, in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    unseen: float  # the largest likely share of images unlike all that were seen

    @property
    def widest(self) -> float:
        return max(*self.mean, *self.std)


Interval = tuple[float, float]
"""The least and the greatest value."""


@dataclass(frozen=True)
class Bounds:
    """Intervals that contain the exact numbers, per channel, in [0, 1]."""

    mean: tuple[Interval, ...]
    std: tuple[Interval, ...]

    def middles(self, number: Literal["mean", "std"]) -> tuple[float, ...]:
        return tuple(round((low + high) / 2, _DECIMALS) for low, high in getattr(self, number))

    @property
    def margins(self) -> Margins:
        """Half the widths."""
        mean, std = (
            tuple(round((high - low) / 2, _DECIMALS) for low, high in intervals)
            for intervals in (self.mean, self.std)
        )
        return Margins(mean, std, unseen=0.0)


@dataclass(frozen=True)
class Estimate:
    """What makes stats an estimate: they were measured on a random sample of the images."""

    tolerance: float
    confidence: float
    images: int  # that were taken: counted, or skipped
    total: int  # images of the source
    seed: int
    margins: Margins
    bounds: Bounds | None = None  # mean and std are their middles; None where sizes are sampled

    @classmethod
    def bounded(cls, plan: Plan, images: int, total: int, bounds: Bounds) -> Estimate:
        given = plan.tolerance, plan.confidence, images, total, plan.seed
        return cls(*given, bounds.margins, bounds=bounds)

    @property
    def sizes(self) -> SizesOption:
        return "exact" if self.bounds else "sampled"

    def enough(self, plan: Plan) -> bool:
        """Whether the plan needs no larger sample."""
        return self.margins.widest <= plan.tolerance and self.margins.unseen <= MAX_UNSEEN

    def __str__(self) -> str:
        rests_on = "guaranteed" if self.bounds else "if sizes are like those seen"
        return f"{percent(self.confidence)}, {rests_on}, {self.images:,} of {self.total:,} images"


def percent(confidence: float) -> str:
    """ "99.9 %", without the noise digits of a float, and "100 %" for 1 only."""
    text = f"{confidence * 100:.12g}"
    return f"{text if text != '100' else repr(confidence * 100)} %"


@dataclass(frozen=True)
class Sample:
    """The sums of the images that were taken so far."""

    images: int  # counted
    moments: Moments
    cross_sums: CrossSums
    scale: int  # the pixel value that is 1.0


def random_order(count: int, seed: int) -> Iterator[int]:
    """The numbers below `count`, each once, in an order that the seed decides.

    This is Fisher and Yates's shuffle, one step at a time: numbers that are not taken cost nothing. It
    only uses `Random.random`, whose sequence Python promises not to change:
    https://docs.python.org/3/library/random.html#notes-on-reproducibility
    """
    from random import Random  # slow to import, and rarely needed

    draw = Random(seed).random
    moved: dict[int, int] = {}  # place -> the number at it, where a swap has changed it
    for place in range(count):
        other = place + int(draw() * (count - place))
        yield moved.get(other, other)
        moved[other] = moved.pop(place, place)


def until_within(
    plan: Plan, population: int, sizes: SizesOption, look: Callable[[int], Estimate | None]
) -> Estimate | None:
    """Take images until an estimate is good enough; None if only all images are.

    How many are taken depends on the data and the arguments, not on the number of workers.

    Args:
        population: images of the source.
        look: takes a number of images, in random order; the estimate that so many give, or None if too few
            of them could be counted.
    """
    taken = MIN_IMAGES
    while taken < population:
        estimate = look(taken)
        if estimate and estimate.enough(plan):
            return estimate
        taken = math.ceil(taken * _GROWTH[sizes])
    return None


def linearised(plan: Plan, taken: int, population: int, sample: Sample) -> Estimate | None:
    """The estimate where sizes are sampled, too; None if too few images were counted.

    Args:
        taken: images that were taken; `sample` has those of them that could be counted.
        population: images of the source, more than `taken`.
    """
    margins = margins_of(sample, taken, population, plan.confidence)
    if margins is None or sample.images < MIN_IMAGES:
        return None
    given = plan.tolerance, plan.confidence, taken, population, plan.seed
    return Estimate(*given, margins)


def margins_of(sample: Sample, taken: int, population: int, confidence: float) -> Margins | None:
    """The margins that follow from a sample's sums where sizes are sampled; None below two images.

    Args:
        taken: images that were taken; `sample` has those of them that could be counted.
        population: images of the source, more than `taken`.

    Raises:
        ValueError: no images can have these sums.
    """
    images, moments, scale = sample.images, sample.moments, sample.scale
    if images < 2:
        return None
    error = (1 - confidence) / (2 * len(moments.total))  # for one number; half of it on each side
    quantile = t_quantile(error / 2, images - 1)
    left_out = 1 - Fraction(taken, population)
    # Sampling is without replacement. Of all images, the same share can be counted as of the sample.
    unseen = math.log(2 / error) / (-math.log(left_out) * population * images / taken)
    means, stds = [], []
    for channel, errors in enumerate(squared_errors(sample)):
        mean = Fraction(moments.total[channel], moments.count * scale)
        variance = Fraction(moments.total_sq[channel], moments.count * scale**2) - mean**2
        squares = sample.cross_sums.count_count[channel]
        weight = square_root(Fraction(images * squares, moments.count**2))
        farthest = max(mean, 1 - mean)  # black, or white
        extreme = max(farthest**2 - variance, variance)
        se_mean, se_variance = (square_root(left_out * error) for error in errors)
        means.append(quantile * se_mean + unseen * weight * float(farthest))
        half = quantile * se_variance + unseen * weight * float(extreme)
        stds.append(_of_the_root(float(variance), half))
    return Margins(
        tuple(map(_rounded_up, means)), tuple(map(_rounded_up, stds)), _rounded_up(unseen)
    )


def squared_errors(sample: Sample) -> list[tuple[Fraction, Fraction]]:
    """The squared standard errors of the mean and of the variance in [0, 1], per channel.

    They are those of images that were drawn from endlessly many. One image has none, so they are 0.

    Raises:
        ValueError: no images can have these sums.
    """
    images, moments, cross_sums = sample.images, sample.moments, sample.cross_sums
    factor, scale = Fraction(images, max(1, images - 1)), sample.scale
    found = []
    for channel, (total, total_sq) in enumerate(zip(moments.total, moments.total_sq, strict=True)):
        squares_e, squares_g = _residual_squares(sample, channel)
        squares = cross_sums.count_count, cross_sums.total_total, cross_sums.total_sq_total_sq
        sums = moments.count, total, total_sq
        if min(squares_e, squares_g) < 0 or any(
            images * square[channel] < one**2  # Cauchy-Schwarz inequality
            for square, one in zip(squares, sums, strict=True)
        ):
            raise ValueError("the sums and the cross sums are not those of the same images")
        of_mean = factor * squares_e / (moments.count * scale) ** 2
        found.append((of_mean, factor * squares_g / (moments.count * scale**2) ** 2))
    return found


def _residual_squares(sample: Sample, channel: int) -> tuple[Fraction, Fraction]:
    """Σe² and Σg², in raw pixel values."""
    count = sample.moments.count
    cross_sums = sample.cross_sums
    mean = Fraction(sample.moments.total[channel], count)
    weight = 2 * mean**2 - Fraction(sample.moments.total_sq[channel], count)
    nn, nt = cross_sums.count_count[channel], cross_sums.count_total[channel]
    nq, tt = cross_sums.count_total_sq[channel], cross_sums.total_total[channel]
    tq, qq = cross_sums.total_total_sq[channel], cross_sums.total_sq_total_sq[channel]
    squares_e = tt - 2 * mean * nt + mean**2 * nn
    squares_g = (
        qq
        + 4 * mean**2 * tt
        + weight**2 * nn
        - 4 * mean * tq
        + 2 * weight * nq
        - 4 * mean * weight * nt
    )
    return squares_e, squares_g


def _of_the_root(variance: float, half: float) -> float:
    """Half the width of the std's interval, its longer side, from that of the variance's."""
    std = math.sqrt(variance)
    below = std - math.sqrt(max(0.0, variance - half))
    above = math.sqrt(variance + half) - std
    return max(below, above)


def t_quantile(tail: float, freedom: float) -> float:
    """The t that Student's distribution exceeds with this probability (Abramowitz & Stegun 26.7.5).

    From 30 degrees of freedom on, the error is below 0.1 % for tails down to 1e-4.
    """
    from statistics import NormalDist  # slow to import, and rarely needed

    z = -NormalDist().inv_cdf(tail)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def _rounded_up(margin: float) -> float:
    return float(_DIGITS.create_decimal_from_float(margin))
