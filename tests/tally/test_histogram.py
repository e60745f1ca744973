from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgnorm.tally.histogram import QUANTILES, Histogram
from imgnorm.tally.moments import Moments

pixel_lists = st.lists(st.integers(0, 255), min_size=1, max_size=200)


def histogram_of(*channels: list[int], bins: int = 256) -> Histogram:
    return Histogram(tuple(tuple(np.bincount(c, minlength=bins).tolist()) for c in channels))


def single(bins: int, counts: dict[int, int]) -> Histogram:
    return Histogram((tuple(counts.get(value, 0) for value in range(bins)),))


@given(st.data())
def test_any_partition_in_any_order_adds_up_to_the_whole(data):
    pixels = data.draw(pixel_lists)
    shuffled = data.draw(st.permutations(pixels))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(pixels)), max_size=6)))
    parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(pixels)], strict=True)]

    merged = sum((histogram_of(part) for part in parts), Histogram.zero(1, 256))

    assert histogram_of(pixels) == merged


def test_histograms_of_other_bins_or_channels_do_not_add():
    for other in (Histogram.zero(1, 65536), Histogram.zero(3, 256)):
        with pytest.raises(ValueError, match=r"^zip\(\) argument 2 is longer than argument 1$"):
            Histogram.zero(1, 256) + other


@pytest.mark.parametrize("bins", [256, 65536])
def test_moments_are_the_integer_sums_of_the_pixels(bins):
    pixels = np.random.default_rng(2).integers(0, bins, (3, 5000))

    moments = histogram_of(*pixels, bins=bins).moments()

    expected = Moments(
        5000,
        tuple(sum(channel.tolist()) for channel in pixels),
        tuple(sum(p * p for p in channel.tolist()) for channel in pixels),
    )
    assert expected == moments


@given(pixel_lists)
def test_minimum_and_maximum_are_those_of_the_pixels(pixels):
    histogram = histogram_of(pixels, [0, 255] * len(pixels))

    assert ((min(pixels), 0), (max(pixels), 255)) == (histogram.minimum(), histogram.maximum())


@given(pixel_lists)
def test_quantiles_are_exact_order_statistics(pixels):
    """The smallest value v such that at least the part q of all pixels is at most v; no floats."""
    ordered = sorted(pixels)
    expected = {name: (ordered[math.ceil(q * len(pixels)) - 1],) for name, q in QUANTILES.items()}

    histogram = histogram_of(pixels)

    assert expected == {name: histogram.quantile(q) for name, q in QUANTILES.items()}


@given(pixel_lists)
def test_numpy_calls_these_quantiles_inverted_cdf(pixels):
    """Only for quarters, which are exact floats: with others, NumPy rounds its product."""
    for q in (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4)):
        expected = np.quantile(pixels, float(q), method="inverted_cdf")

        assert (expected,) == histogram_of(pixels).quantile(q)


def test_the_ends_are_minimum_and_maximum():
    histogram = histogram_of([3, 7, 7, 200])

    assert ((3,), (200,)) == (histogram.quantile(Fraction(0)), histogram.quantile(Fraction(1)))


def test_an_empty_histogram_has_no_quantiles():
    with pytest.raises(ValueError, match="empty") as caught:
        Histogram.zero(1, 256).quantile(Fraction(1, 2))

    assert "an empty histogram has no quantiles" == str(caught.value)


@given(pixel_lists, st.sampled_from([1, 2, 16, 64, 256]))
def test_rebinned_counts_are_those_of_equal_ranges(pixels, bins):
    expected, _ = np.histogram(pixels, bins=bins, range=(0, 256))

    assert (tuple(expected.tolist()),) == histogram_of(pixels).rebinned(bins)


@given(pixel_lists)
def test_replicated_gray_counts_as_three_equal_channels(pixels):
    assert histogram_of(pixels, pixels, pixels) == histogram_of(pixels).replicated(3)


@pytest.mark.parametrize("count", [2**31 - 1, 2**31 + 1, 2**53 - 1, 2**53 + 1, 2**64, 2**64 + 1])
def test_counts_beyond_every_machine_integer_stay_exact(count):
    histogram = single(256, {0: count, 1: 1, 255: count})

    expected = Moments(2 * count + 1, (255 * count + 1,), (65025 * count + 1,))
    assert expected == histogram.moments()
    assert (1,) == histogram.quantile(Fraction(1, 2))
    assert Moments(4 * count + 2, (510 * count + 2,), (130050 * count + 2,)) == (
        (histogram + histogram).moments()
    )


def test_white_16_bit_images_of_two_billion_pixels_do_not_wrap():
    """Σx² passes 2^63 at 2.15e9 pixels."""
    moments = single(65536, {65535: 2_200_000_000}).moments()

    assert moments.total_sq[0] == 2_200_000_000 * 65535**2 > 2**63
    assert ((1.0,), (0.0,)) == (moments.mean(scale=65535), moments.std(scale=65535))


def test_half_black_half_white_16_bit_has_a_std_of_one_half_at_any_size():
    for count in (1, 2_200_000_000, 2**64):
        moments = single(65536, {0: count, 65535: count}).moments()

        assert ((0.5,), (0.5,)) == (moments.mean(scale=65535), moments.std(scale=65535))
