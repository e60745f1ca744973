"""Counts beyond the integers of machines: all digits are those of fractions.Fraction, and nothing wraps."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from counting import sums_of

import imgnorm as library
from imgnorm.settings import CHANNELS, Mode, scale_of
from imgnorm.stats.format import text_of
from imgnorm.stats.measurement import ClassStats, Measurement
from imgnorm.stats.provenance import Provenance
from imgnorm.stats.stats import Stats
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import UNIT_BITS, ImageSums, Moments
from imgnorm.tally.names import names_digest

WIDE = [2**31 - 1, 2**31 + 1, 2**53 - 1, 2**53 + 1, 2**63 + 1, 2**64]
ULP = Fraction(1, 2**52)


def state(number: int, counts: dict[int, int], mode: Mode = "RGB") -> Stats:
    """The stats of one image that has `counts` pixels of each value."""
    channels, scale = len(CHANNELS[mode]), scale_of(mode)
    row = [0] * (scale + 1)
    for value, pixels in counts.items():
        row[value] = pixels
    histogram = Histogram((tuple(row),) * channels)
    moments = histogram.moments()
    mean = Fraction(moments.total[0], moments.count * scale)
    mean_sq = Fraction(moments.total_sq[0], moments.count * scale**2)
    sums = [(int(value * 2**UNIT_BITS),) * channels for value in (mean, mean_sq)]
    digest = names_digest([b"%d.png" % number])
    source = Provenance("folder", str(number), digest, digest, 1)
    measurement = Measurement(
        1, histogram, ImageSums(1, sums[0], sums[1], sums[0], sums[1], 0), {mode: 1}, {"PNG": 1},
        {"PNG": "Pillow 12.0.0"}, source, classes={f"class-{number % 3}": ClassStats(1, moments)},
    )  # fmt: skip
    return Stats.of(measurement, mode, ())


@pytest.mark.parametrize("pixels", WIDE)
def test_any_number_of_pixels_gives_the_true_mean_and_std(pixels: int, tmp_path: Path) -> None:
    stats = state(0, {0: pixels, 1: pixels + 1, 254: 1, 255: 2 * pixels})
    count = 4 * pixels + 2
    total = pixels + 1 + 254 + 255 * 2 * pixels
    total_sq = pixels + 1 + 254**2 + 255**2 * 2 * pixels
    variance = Fraction(total_sq, count * 255**2) - Fraction(total, count * 255) ** 2
    library.write_stats(tmp_path / "stats.yaml", stats)

    assert stats.measurement is not None
    moments = stats.measurement.pixels.moments()
    assert Moments(count, (total,) * 3, (total_sq,) * 3) == moments
    assert (float(Fraction(total, count * 255)),) * 3 == stats.mean
    assert abs(Fraction(stats.std[0]) ** 2 / variance - 1) <= 2 * ULP
    assert stats == library.read_stats(tmp_path / "stats.yaml")


@pytest.mark.parametrize("pixels", WIDE)
def test_one_pixel_that_differs_from_any_number_of_others_gives_the_true_std(pixels: int) -> None:
    """n · Σx² and (Σx)² are equal in all digits that a float has: only integers show the difference."""
    stats = state(0, {254: pixels, 255: 1})
    variance = Fraction(pixels, (pixels + 1) ** 2 * 255**2)

    assert abs(Fraction(stats.std[0]) ** 2 / variance - 1) <= 2 * ULP


@pytest.mark.parametrize("pixels", [2**31 + 1, 2**53 - 1, 2**64])
def test_many_states_keep_every_convention_class_and_quantile(pixels: int) -> None:
    states = 1000
    merged = library.merge(state(i, {0: pixels, 255: i + 1}) for i in range(states))

    measurement = merged.measurement
    assert measurement is not None
    ones = sum(range(1, states + 1))
    count = states * pixels + ones
    assert (
        Moments(count, (255 * ones,) * 3, (255**2 * ones,) * 3) == measurement.histogram.moments()
    )
    weighted = sum(Fraction(i + 1, pixels + i + 1) for i in range(states)) / states
    # Each image's mean is stored to 2**-UNIT_BITS.
    found = measurement.conventions()["image_weighted"].mean[0]
    assert abs(Fraction(found) / weighted - 1) <= ULP
    for number in range(3):
        mine = [i + 1 for i in range(states) if i % 3 == number]
        assert ClassStats(
            len(mine),
            Moments(len(mine) * pixels + sum(mine), (255 * sum(mine),) * 3, (255**2 * sum(mine),) * 3),
        ) == measurement.classes[f"class-{number}"]  # fmt: skip


def test_the_order_of_wide_states_changes_no_byte() -> None:
    states = [state(i, {i % 255: 2**53 + i, 255: 1}) for i in range(400)]
    halves = library.merge([library.merge(states[1::2]), library.merge(states[::2])])

    assert text_of(library.merge(states)) == text_of(library.merge(states[::-1])) == text_of(halves)


def test_white_16_bit_pixels_beyond_int64_are_added_up() -> None:
    """65535² · 2.2e9 is 9.4e18, above 2^63: each state has it, and a hundred of them."""
    pixels = 2_200_000_000
    assert pixels * 65535**2 > 2**63
    merged = library.merge(state(i, {65535: pixels, 0: i}, "I;16") for i in range(100))

    assert merged.measurement is not None
    blacks = sum(range(100))
    whites = 100 * pixels
    assert Moments(whites + blacks, (whites * 65535,), (whites * 65535**2,)) == (
        merged.measurement.histogram.moments()
    )
    assert (float(Fraction(whites, whites + blacks)),) == merged.mean


@pytest.mark.parametrize("whites", [2_147_516_416, 2_147_516_417, 2_200_000_000, 2**40])
@pytest.mark.parametrize("blacks", [0, 1, 2_200_000_000])
def test_one_16_bit_image_beyond_int64_has_its_true_mean_and_std(whites: int, blacks: int) -> None:
    """The sums of one image in a worker: Σx² of 2,147,516,417 white pixels is the first above 2^63."""
    row = np.zeros((1, 1, 65536), np.int64)
    row[0, 0, [0, 65535]] = blacks, whites
    sums = sums_of(row)

    count = whites + blacks
    unit = Fraction(2**UNIT_BITS)
    mean = Fraction(whites, count)
    variance = mean - mean**2
    # One rounding of the total, one of the division; the sum of squares has one more.
    assert abs(sums.mean[0] / unit / mean - 1) <= 2 * ULP
    assert abs(sums.mean_sq[0] / unit / mean - 1) <= 2 * ULP
    if variance:
        assert abs((sums.std[0] / unit) ** 2 / variance - 1) <= 4 * ULP
        assert abs((sums.std_1[0] / unit) ** 2 / (variance * count / (count - 1)) - 1) <= 4 * ULP
    else:
        assert (0,) == sums.std == sums.std_1


def test_a_small_image_beside_a_wide_one_keeps_its_digits() -> None:
    rows = np.zeros((2, 1, 65536), np.int64)
    rows[0, 0, 65535] = 2_200_000_000
    rows[1, 0, [7, 500]] = 3, 5
    small, both = sums_of(rows[1:]), sums_of(rows)
    white = ImageSums(1, (1 << UNIT_BITS,), (1 << UNIT_BITS,), (0,), (0,), 0)

    assert replace(small) + white == both
