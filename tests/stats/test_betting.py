"""Bounds by betting: that no bet can win on average, that intervals hold, and what they are made of."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice, permutations

import numpy as np
import pytest

from imgnorm.stats.betting import (
    Drawn,
    SquareBets,
    bets_on_mean,
    bounds_of,
    weighted_order,
)
from imgnorm.stats.estimate import Plan

PLAN = Plan(0.05, 0.99)

Image = tuple[int, Fraction | None]
"""Its pixels, and its number; None if it cannot be counted."""

TINY: dict[str, list[Image]] = {
    "alike": [(1, Fraction(1, 3))] * 5,
    "of all sizes": [(1, Fraction(0)), (2, Fraction(1)), (9, Fraction(1, 7)), (30, Fraction(2, 3))],
    "one is most of all": [
        (1, Fraction(1, 10)),
        (1, Fraction(1, 5)),
        (50, Fraction(9, 10)),
        (2, Fraction(0)),
    ],
    "some are broken": [
        (3, None),
        (5, Fraction(1, 4)),
        (1, Fraction(1)),
        (7, Fraction(1, 9)),
        (4, None),
    ],
}


def drawn_of(images: list[Image], order: list[int]) -> Drawn:
    whole = sum(pixels for pixels, _ in images)
    chosen = [images[place] for place in order]
    numbers = [None if x is None else ([float(x)], [float(x) ** 2]) for _, x in chosen]
    return Drawn.of([pixels / whole for pixels, _ in chosen], numbers, channels=1)


def mean_of(images: list[Image]) -> Fraction:
    counted = [(pixels, x) for pixels, x in images if x is not None]
    return sum((w * x for w, x in counted), Fraction(0)) / sum(w for w, _ in counted)


def next_images(images: list[Image], past: tuple[int, ...]) -> Iterator[tuple[int, Fraction]]:
    """Each image that may come next, with its chance."""
    left = [place for place in range(len(images)) if place not in past]
    whole = sum(images[place][0] for place in left)
    for place in left:
        yield place, Fraction(images[place][0], whole)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("above", [True, False])
def test_no_bet_wins_on_average_if_m_is_the_mean(name, above):
    """After each order of images that there can be: the law on which all else rests."""
    images = TINY[name]
    m = float(mean_of(images))
    places = range(len(images))
    for past in (one for size in range(len(images)) for one in permutations(places, size)):
        average = 0.0
        for place, chance in next_images(images, past):
            bets = bets_on_mean(drawn_of(images, [*past, place]), 0, 0.3)
            capital = np.exp(bets.log_capital(m, above=above))
            before = capital[-2] if past else 1.0
            average += float(chance) * capital[-1] / before

        assert average == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("confidence", [0.05, 0.3])
def test_a_tiny_sets_intervals_fail_as_seldom_as_they_say(name, confidence):
    """Added up over all orders, whatever look is the one that fails."""
    images = TINY[name]
    mean, plan = mean_of(images), Plan(0.3, confidence)
    fails = Fraction(0)
    for order in permutations(range(len(images))):
        chance = Fraction(1)
        for size, place in enumerate(order):
            chance *= dict(next_images(images, order[:size]))[place]
        looks = (
            bounds_of(drawn_of(images, list(order[:size])), plan).mean[0]
            for size in range(1, len(images))
        )
        if any(not low <= mean <= high for low, high in looks):
            fails += chance

    assert fails <= 1 - confidence


def test_bets_on_squares_do_not_look_ahead():
    """Neither does the mean around which they are: what comes next changes no stake."""
    rng = np.random.default_rng(4)
    numbers = rng.random((80, 1)) * 0.5
    squares = numbers**2 + 0.02
    shares = np.full(80, 1 / 1000)
    found = []
    for last in (0.0, 0.3, 1.0):
        numbers[-1], squares[-1] = last, last**2
        drawn = Drawn(shares, np.full(80, True), numbers.copy(), squares.copy())
        found.append(SquareBets(drawn, 0, 0.05))
    first, *others = found
    for bets in others:
        assert np.array_equal(first._stakes, bets._stakes)
        assert np.array_equal(
            first.log_capital(0.1, above=True)[:-1], bets.log_capital(0.1, above=True)[:-1]
        )


def test_the_images_that_the_squares_are_around_are_not_bet_on():
    drawn = some_drawn(1, 70, 400)

    assert 20 == len(SquareBets(drawn, 0, 0.05).log_capital(0.1, above=True))


@pytest.mark.parametrize("mean", [(0.1, 0.3), (0.4, 0.6), (0.8, 0.9)])
def test_the_interval_of_the_std_has_every_std_that_two_intervals_allow(mean):
    """And no more: its ends are reached, or 0."""
    bets = SquareBets(some_drawn(1, 70, 400), 0, 0.05)
    around, top, square = bets._around, bets._top, (0.05, 0.4)
    allowed = [
        math.sqrt(max(0.0, y * top - (m - around) ** 2))
        for m in np.linspace(mean[0], mean[1], 201)
        for y in square
    ]
    inside = [math.sqrt(square[1] * top)] * (mean[0] <= around <= mean[1])

    assert [min(allowed), max(allowed + inside)] == pytest.approx([*bets.std(mean, square)])


def test_no_bet_on_squares_wins_on_average():
    rng = np.random.default_rng(5)
    images = 60
    pixels = rng.integers(1, 20, images)
    x, noise = rng.random(images), rng.random(images) * 0.1
    q = x**2 + noise * x * (1 - x)
    order = list(weighted_order(pixels, 3))[:55]
    left = [place for place in range(images) if place not in order]
    shares = pixels / pixels.sum()

    def bets(last: int) -> SquareBets:
        these = [*order, last]
        every = np.full(len(these), True)
        return SquareBets(Drawn(shares[these], every, x[these, None], q[these, None]), 0, 0.05)

    a, top = bets(left[0])._around, bets(left[0])._top
    m = float((shares * (q - 2 * a * x + a * a)).sum() / top)
    for above in (True, False):
        average = 0.0
        for place in left:
            capital = np.exp(bets(place).log_capital(m, above=above))
            average += pixels[place] / pixels[left].sum() * capital[-1] / capital[-2]

        assert average == pytest.approx(1, abs=1e-9)


def some_drawn(seed: int, images: int, of: int) -> Drawn:
    rng = np.random.default_rng(seed)
    pixels = rng.lognormal(5, 1.5, of)
    order = np.fromiter(islice(weighted_order(pixels, seed), images), int)
    means = rng.random((images, 2))
    return Drawn(pixels[order] / pixels.sum(), rng.random(images) < 0.9, means, means**1.5)


@pytest.mark.parametrize("seed", range(4))
def test_the_capital_falls_or_rises_with_m_throughout(seed):
    """So the m that are not refuted are an interval, and halving finds its ends."""
    bets = bets_on_mean(some_drawn(seed, 150, 400), 0, 0.05)
    low, high = bets._sure
    grid = np.linspace(low, high, 60)
    rising = np.array([bets.log_capital(m, above=False) for m in grid])
    falling = np.array([bets.log_capital(m, above=True) for m in grid])

    assert (np.diff(rising, axis=0) >= -1e-9).all()
    assert (np.diff(falling, axis=0) <= 1e-9).all()


def test_a_later_look_never_takes_back_what_an_earlier_one_said():
    drawn = some_drawn(9, 300, 1000)
    low, high = 0.0, 1.0
    for images in (50, 100, 200, 300):
        part = Drawn(
            *(getattr(drawn, name)[:images] for name in ("shares", "counted", "means", "squares"))
        )
        found = bounds_of(part, PLAN).mean[0]

        assert low <= found[0] < found[1] <= high
        low, high = found


def test_no_bet_takes_more_than_three_quarters():
    drawn = Drawn.of([1e-9] * 2, [([0.0], [0.0]), ([1.0], [1.0])], channels=1)
    capital = np.exp(bets_on_mean(drawn, 0, 0.9).log_capital(0.5, above=True))

    assert [0.25, 0.25 * 1.75] == pytest.approx(capital.tolist())


def test_nothing_counted_bounds_nothing():
    drawn = Drawn.of([1e-4] * 300, [None] * 300, channels=1)
    bounds = bounds_of(drawn, PLAN)

    assert ((0.0, 1.0),) == bounds.mean
    assert bounds.std[0][0] == 0


def test_what_is_left_of_all_pixels_may_be_black_or_white():
    """Without bets that win, these are the bounds: here, images of 0.5 that are 0.9 of all pixels."""
    bounds = bounds_of(Drawn.of([0.3] * 3, [([0.5], [0.25])] * 3, channels=1), PLAN)

    assert ((0.44999, 0.55001),) == bounds.mean  # rounded outwards


# ── the order ──


def test_large_images_come_first_as_often_as_they_should():
    """The chances of the first two, in 6,000 orders: within 5 standard errors."""
    pixels = [1, 2, 5, 0]
    found = Counter(tuple(weighted_order(pixels, seed))[:2] for seed in range(6000))
    for first, second in permutations(range(3), 2):
        chance = pixels[first] / 8 * pixels[second] / (8 - pixels[first])

        error = math.sqrt(6000 * chance * (1 - chance))
        assert abs(found[first, second] - 6000 * chance) < 5 * error
    assert sum(found.values()) == sum(n for pair, n in found.items() if 3 not in pair)


def test_a_weighted_order_has_every_image_once_and_those_without_pixels_last():
    rng = random.Random(3)
    pixels = [rng.choice([0, 1, 10, 10**9]) for _ in range(500)]
    order = list(weighted_order(pixels, 7))

    assert list(range(500)) == sorted(order)
    assert [0] * pixels.count(0) == [pixels[place] for place in order[-pixels.count(0) :]]


def test_a_weighted_order_is_the_same_for_ever():
    """It follows from the seed in the file, also years later and on another machine."""
    assert [7, 8, 3, 5, 9, 4, 2, 6, 1, 0] == list(weighted_order(range(1, 11), 0))


def test_ends_that_cross_by_bad_luck_are_still_an_interval():
    """With a confidence of a half, both sides refute all now and then."""
    random = np.random.default_rng(0)
    widest = 0.0
    for _ in range(60):
        values = random.integers(0, 2, 205).astype(float)
        images = [([value], [value]) for value in values]
        drawn = Drawn.of([1 / 210] * 205, images, 1)
        bounds = bounds_of(drawn, Plan(0.05, confidence=0.02))
        for low, high in (*bounds.mean, *bounds.std):
            assert 0 <= low <= high <= 1
            widest = max(widest, high - low)
    assert widest > 0
