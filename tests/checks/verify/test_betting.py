"""Evidence that drawn images are others than those of the stats file: its false alarms, its power."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from imgnorm.checks.verify import betting as sampling
from imgnorm.checks.verify.betting import PixelRange, Shift
from imgnorm.tally.moments import UNIT_BITS, ImageSums

IMAGES = 5_000


def in_units(value: float) -> int:
    return int(Fraction(value) * (1 << UNIT_BITS))


def shifts(population: ImageSums, drawn: list[ImageSums], **options: float) -> list[Shift]:
    return sampling.shifts(population, [PixelRange(Fraction(0), Fraction(1))], drawn, **options)


def images_of(means: np.ndarray, stds: np.ndarray) -> list[ImageSums]:
    """Images of one channel, by the mean and std of each."""
    return [
        ImageSums(1, (in_units(m),), (in_units(m * m + s * s),), (in_units(s),), (0,), 0)
        for m, s in zip(means.tolist(), stds.tolist(), strict=True)
    ]


def whole(images: list[ImageSums]) -> ImageSums:
    total = ImageSums.zero(1)
    for image in images:
        total += image
    return total


def photos(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    means = np.clip(rng.normal(0.47, 0.12, IMAGES), 0.02, 0.98)
    stds = np.clip(rng.normal(0.24, 0.05, IMAGES), 0.01, np.sqrt(means * (1 - means)))
    return means, stds


def a_black_class(rng):
    means, stds = photos(rng)
    black = rng.random(IMAGES) < 0.1
    return np.where(black, 0, means), np.where(black, 0, stds)


def outliers(rng):
    """All alike, but for 1 in 100."""
    odd = rng.random(IMAGES) < 0.01
    return np.where(odd, 0.9, 0.1 + rng.normal(0, 0.001, IMAGES)), np.full(IMAGES, 0.05)


def rare_white(rng):
    """Most samples have none of the few images that make up the mean."""
    return np.where(np.arange(IMAGES) < 5, 1.0, 0.0), np.zeros(IMAGES)


def heavy_tails(rng):
    means = np.clip(0.001 * rng.pareto(1.1, IMAGES), 0, 1)
    return means, np.minimum(means, np.sqrt(means * (1 - means))) / 2


def all_alike(rng):
    return np.full(IMAGES, 0.3), np.full(IMAGES, 0.2)


def alarms(
    population: ImageSums, images: list[ImageSums], *, size: int, runs: int, chance: float
) -> int:
    draw = random.Random(7)
    return sum(
        bool(shifts(population, draw.sample(images, size), false_alarms=chance))
        for _ in range(runs)
    )


@pytest.mark.parametrize("size", [20, 200])
@pytest.mark.parametrize(
    "data", [photos, a_black_class, outliers, rare_white, heavy_tails, all_alike]
)
def test_unchanged_data_raises_no_more_false_alarms_than_promised(data, size):
    """At 1 in 20, so that a bound that is too tight shows; the promise follows from the same inequality."""
    images = images_of(*data(np.random.default_rng(1)))

    # 300 at 1 in 20 are 15; more than 30 has a chance of 1 in 5,000.
    assert alarms(whole(images), images, size=size, runs=300, chance=1 / 20) <= 30


@pytest.mark.parametrize("data", [photos, a_black_class, outliers, rare_white, heavy_tails])
def test_unchanged_data_raises_no_false_alarm_at_the_default(data):
    images = images_of(*data(np.random.default_rng(2)))

    # 100 at 1 in 1,000; two or more have a chance of 1 in 200, and these seeds have none
    assert 0 == alarms(whole(images), images, size=1000, runs=100, chance=1 / 1000)


@pytest.mark.parametrize(
    ("number", "change"),
    [
        ("mean", lambda means, stds: (means + 0.02, stds)),
        ("mean", lambda means, stds: (means * 0.95, stds * 0.95)),
        ("mean_of_image_std", lambda means, stds: (means, stds * 0.95)),
        ("std", lambda means, stds: (0.47 + (means - 0.47) * 1.3, stds)),
    ],
    ids=[
        "brighter by 0.02",
        "darker by 5 %",
        "less contrast by 5 %",
        "images further apart by 30 %",
    ],
)
def test_a_change_is_found(number, change):
    """Photos whose means have a std of 0.12: a thousand of them have a standard error of 0.0038."""
    means, stds = photos(np.random.default_rng(3))
    population = whole(images_of(means, stds))
    means, stds = change(means, stds)
    images = images_of(np.clip(means, 0, 1), stds)
    draw = random.Random(8)
    found = [
        any(shift.number == number for shift in shifts(population, draw.sample(images, 1000)))
        for _ in range(40)
    ]

    assert sum(found) >= 34


def test_a_shift_is_told_in_standard_errors():
    means, stds = photos(np.random.default_rng(4))
    population = whole(images_of(means, stds))
    drawn = random.Random(9).sample(images_of(np.clip(means + 0.05, 0, 1), stds), 1000)
    shift = next(s for s in shifts(population, drawn) if s.number == "mean")
    sample = np.array([image.mean[0] / (1 << UNIT_BITS) for image in drawn])
    error = sample.std(ddof=1) / math.sqrt(1000) * math.sqrt(1 - 1000 / IMAGES)

    assert means.mean() == pytest.approx(shift.then)
    assert sample.mean() == pytest.approx(shift.now)
    assert (sample.mean() - means.mean()) / error == pytest.approx(shift.sigmas)


def test_a_mean_that_moved_takes_no_std_with_it():
    means, stds = photos(np.random.default_rng(5))
    population = whole(images_of(means, stds))
    drawn = random.Random(1).sample(images_of(means * 0.5 + 0.5 * 0.9, stds * 0 + stds), 1000)
    moved = images_of(np.clip(means + 0.15, 0, 1), stds)

    assert {"mean"} == {s.number for s in shifts(population, random.Random(1).sample(moved, 1000))}
    assert {"mean", "std"} == {s.number for s in shifts(population, drawn)}


def test_images_that_together_exceed_the_whole_are_proof():
    """All images of the file are black but one, and the sample has two that are not."""
    black, white = images_of(np.array([0.0, 1.0]), np.zeros(2))
    population = whole([black] * 99 + [white])
    (mean, *_) = shifts(population, [white, white, black])

    assert ("mean", 0) == (mean.number, mean.channel)


@pytest.mark.parametrize("size", [1, 2, 10])
def test_the_whole_as_a_sample_agrees_with_itself(size):
    images = images_of(*photos(np.random.default_rng(6)))[:10]

    assert [] == shifts(whole(images), images[:size])
