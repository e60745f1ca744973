"""Every expected number comes from Fraction or from Decimal with 80 digits: none can be rounded."""

from __future__ import annotations

import math
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgnorm.tally.moments import UNIT_BITS, ImageSums, Moments, square_root

DIGITS = Context(prec=80)

pixel_lists = st.lists(st.integers(0, 65535), min_size=1, max_size=30)
unit_floats = st.floats(0, 1, allow_subnormal=False).map(lambda x: x if x > 1e-9 else 0.0)


def power_sums(pixels: list[int]) -> Moments:
    return Moments(len(pixels), (sum(pixels),), (sum(p * p for p in pixels),))


def decimal(value: Fraction) -> Decimal:
    return DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))


def nearest(value: Fraction) -> float:
    """The float64 nearest to a rational number: Python reads a decimal number with one rounding."""
    return float(decimal(value))


def assert_within_1_ulp_of_root(value: Fraction, root: float) -> None:
    true = decimal(value).sqrt(DIGITS)

    assert abs(Decimal(root) - true) <= Decimal(math.ulp(root))


def true_variance(pixels: list[int], correction: int = 0) -> Fraction:
    mean = Fraction(sum(pixels), len(pixels))
    return sum(((p - mean) ** 2 for p in pixels), Fraction(0)) / (len(pixels) - correction)


# Power sums


@given(st.data())
def test_any_partition_in_any_order_adds_up_to_the_whole(data):
    pixels = data.draw(pixel_lists)
    shuffled = data.draw(st.permutations(pixels))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(pixels)), max_size=6)))
    parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(pixels)], strict=True)]

    merged = sum(map(power_sums, parts), Moments.zero(1))

    assert power_sums(pixels) == merged


def test_ten_thousand_states_add_up_in_any_grouping():
    rng = np.random.default_rng(0)
    states = [power_sums(rng.integers(0, 65536, 3).tolist()) for _ in range(10_000)]

    in_order = sum(states, Moments.zero(1))
    by_hundreds = [sum(states[i::100], Moments.zero(1)) for i in range(100)]

    assert in_order == sum(by_hundreds, Moments.zero(1))


def test_moments_of_different_channels_do_not_add():
    with pytest.raises(ValueError, match=r"^zip\(\) argument 2 is longer than argument 1$"):
        Moments.zero(1) + Moments.zero(3)


@pytest.mark.parametrize("scale", [1, 255, 65535])
@given(pixels=pixel_lists)
def test_the_mean_is_the_float_nearest_to_the_true_one(pixels, scale):
    expected = nearest(Fraction(sum(pixels), len(pixels) * scale))

    assert (expected,) == power_sums(pixels).mean(scale=scale)


@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("scale", [1, 255, 65535])
@given(pixels=pixel_lists.filter(lambda pixels: len(pixels) > 1))
def test_the_variance_is_the_float_nearest_to_the_true_one(pixels, scale, correction):
    expected = nearest(true_variance(pixels, correction) / scale**2)

    assert (expected,) == power_sums(pixels).variance(scale=scale, correction=correction)


@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("scale", [1, 255, 65535])
@given(pixels=pixel_lists.filter(lambda pixels: len(pixels) > 1))
def test_the_std_is_within_1_ulp_of_the_true_one(pixels, scale, correction):
    (std,) = power_sums(pixels).std(scale=scale, correction=correction)

    assert_within_1_ulp_of_root(true_variance(pixels, correction) / scale**2, std)


def test_numpy_agrees_in_float64():
    pixels = np.random.default_rng(1).integers(0, 256, 100_000)
    moments = power_sums(pixels.tolist())
    scaled = pixels / 255

    # NumPy rounds each of 100,000 pairwise additions: 17 levels of 2**-53, far below 1e-14.
    assert moments.mean(scale=255)[0] == pytest.approx(np.mean(scaled), rel=1e-14)
    assert moments.std(scale=255)[0] == pytest.approx(np.std(scaled), rel=1e-14)
    assert moments.std(scale=255, correction=1)[0] == pytest.approx(
        np.std(scaled, ddof=1), rel=1e-14
    )


def test_channels_are_independent():
    moments = Moments(2, (0, 10, 510), (0, 100, 130050))

    assert (0.0, nearest(Fraction(5, 255)), 1.0) == moments.mean(scale=255)
    assert (0.0, 5.0, 0.0) == moments.std()


@pytest.mark.parametrize("value", [0, 1, 254, 65535])
@pytest.mark.parametrize("count", [1, 3, 2**40])
def test_constant_pixels_have_a_std_of_exactly_zero(value, count):
    moments = Moments(count, (count * value,), (count * value**2,))

    assert (0.0,) == moments.std(scale=65535)


@pytest.mark.parametrize(("count", "correction"), [(0, 0), (1, 1), (0, 1)])
def test_too_few_pixels_have_no_std(count, correction):
    with pytest.raises(ValueError, match="variance") as caught:
        Moments(count, (0,), (0,)).std(correction=correction)

    assert f"a variance needs more than {correction} pixels; there are {count}" == str(caught.value)


LARGE = [2**31 - 1, 2**31 + 1, 2**53 - 1, 2**53 + 1, 2**64, 10**30]


@pytest.mark.parametrize("count", LARGE)
def test_counts_beyond_every_machine_integer_stay_exact(count):
    """One bright pixel more among 2^53 is lost by a float, and by an int64 at 2^63."""
    moments = Moments(2 * count, (255 * (count + 1),), (65025 * (count + 1),))
    mean = Fraction(count + 1, 2 * count)

    assert (nearest(mean),) == moments.mean(scale=255)
    assert (nearest(mean * (1 - mean)),) == moments.variance(scale=255)
    assert_within_1_ulp_of_root(mean * (1 - mean), moments.std(scale=255)[0])


@pytest.mark.parametrize("bright", [1, 2])
def test_a_small_spread_at_a_large_mean_does_not_cancel(bright):
    """Float sums of squares give a negative variance here."""
    count = 3_000_000_000
    moments = Moments(
        count, (65534 * count + bright,), (65534**2 * count + bright * (65535**2 - 65534**2),)
    )
    p = Fraction(bright, count)

    assert (nearest(p * (1 - p) / 65535**2),) == moments.variance(scale=65535)
    assert_within_1_ulp_of_root(p * (1 - p) / 65535**2, moments.std(scale=65535)[0])


# Roots


@given(
    st.integers(0, 10**40),
    st.integers(1, 10**40),
    st.sampled_from([1, 2**53 + 1, 2**200, 10**60]),
)
def test_roots_are_within_1_ulp_over_all_magnitudes(numerator, denominator, factor):
    for value in (
        Fraction(numerator * factor, denominator),
        Fraction(numerator, denominator * factor),
    ):
        assert_within_1_ulp_of_root(value, square_root(value))


@given(st.integers(0, 2**53), st.integers(0, 60))
def test_roots_of_squares_are_exact(root, power):
    assert math.ldexp(root, -power) == square_root(Fraction(root, 2**power) ** 2)


# Conventions


def image_sums(images: list[tuple[float, float, float, float | None]]) -> ImageSums:
    """Of (mean, mean of squares, std, std with correction 1 or None) of each image."""

    def exactly(column: int) -> tuple[int]:
        values = [Fraction(image[column]) for image in images if image[column] is not None]
        total = sum(values, Fraction(0)) * 2**UNIT_BITS
        assert total.denominator == 1
        return (int(total),)

    one_pixel = sum(image[3] is None for image in images)
    return ImageSums(len(images), exactly(0), exactly(1), exactly(2), exactly(3), one_pixel)


def average(values: list[float]) -> Fraction:
    return sum(map(Fraction, values), Fraction(0)) / len(values)


some_images = st.lists(
    st.tuples(unit_floats, unit_floats, unit_floats, unit_floats), min_size=1, max_size=20
)


@given(some_images)
def test_conventions_are_the_exact_averages_of_per_image_values(images):
    means, squares, stds, stds_1 = map(list, zip(*images, strict=True))

    found = image_sums(images).conventions()

    assert [
        "image_weighted",
        "mean_of_image_std",
        "mean_of_image_std_correction_1",
    ] == list(found)
    assert (nearest(average(means)),) == found["image_weighted"].mean
    assert (nearest(average(means)),) == found["mean_of_image_std"].mean
    assert (nearest(average(stds)),) == found["mean_of_image_std"].std
    assert (nearest(average(means)),) == found["mean_of_image_std_correction_1"].mean
    assert (nearest(average(stds_1)),) == found["mean_of_image_std_correction_1"].std
    spread = max(Fraction(0), average(squares) - average(means) ** 2)
    assert_within_1_ulp_of_root(spread, found["image_weighted"].std[0])


@given(some_images, st.randoms(use_true_random=False))
def test_image_sums_add_in_any_order(images, random):
    parts = [image_sums([image]) for image in images]
    random.shuffle(parts)

    assert image_sums(images) == sum(parts, ImageSums.zero(1))


def test_the_convention_with_correction_1_is_left_out_if_an_image_has_one_pixel():
    images = image_sums([(0.5, 0.25, 0.0, None), (0.5, 0.5, 0.5, 0.625)])

    assert ["image_weighted", "mean_of_image_std"] == list(images.conventions())


def test_replicated_gray_has_equal_channels_in_every_convention():
    gray = image_sums([(0.25, 0.125, 0.25, 0.375), (0.75, 0.625, 0.25, 0.5)])

    gray_found, rgb_found = gray.conventions(), gray.replicated(3).conventions()

    assert gray.images == gray.replicated(3).images
    for name, convention in gray_found.items():
        assert (convention.mean * 3, convention.std * 3) == (
            rgb_found[name].mean,
            rgb_found[name].std,
        )


def test_black_and_white_images_alone_have_a_spread_between_images_only():
    """What mean_of_image_std misses: here it is all of the std."""
    found = image_sums([(0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0)]).conventions()

    assert (0.5,) == found["image_weighted"].std
    assert (0.0,) == found["mean_of_image_std"].std


def test_constant_images_have_no_std_that_shows():
    """mean and mean of squares are one float64 each, so up to 2**-53 is left of their difference."""
    for value in range(256):
        found = image_sums([(value / 255, value**2 / 65025, 0.0, 0.0)] * 5).conventions()

        assert found["image_weighted"].std[0] <= 2.0**-26
        assert (0.0,) == found["mean_of_image_std"].std
