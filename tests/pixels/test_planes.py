"""Pixels of arrays -> histograms and each image's own power sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgnorm.pixels import planes
from imgnorm.pixels.planes import PlaneCounter, images_at_once, powers_of


def random_images(*shape: int, dtype: str = "u1", seed: int = 5) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def assert_counts(images: npt.NDArray[Any]) -> None:
    """As NumPy counts in int64, one image and one channel at a time."""
    channels = images.shape[3]
    bins = np.iinfo(images.dtype).max + 1
    counted, total, total_sq, ends = PlaneCounter().count(images, ends=True)
    whole = images.astype(np.int64)
    histogram = [np.bincount(whole[..., c].ravel(), minlength=bins) for c in range(channels)]

    assert np.array_equal(whole.sum(axis=(1, 2)), total)
    assert np.array_equal((whole**2).sum(axis=(1, 2)), total_sq)
    assert np.array_equal(histogram, counted)
    edges = [whole.min(axis=(1, 2)), whole.max(axis=(1, 2))]
    edges += [(whole == value).sum(axis=(1, 2)) for value in (0, bins - 1)]
    assert np.array_equal(edges, ends)
    assert PlaneCounter().count(images)[3] is None


@given(
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 5),
    st.sampled_from(["u1", "u2"]),
    st.permutations(range(4)),
)
@settings(max_examples=150, deadline=None)
def test_any_shape_in_any_layout_gives_numpys_sums(n, h, w, c, dtype, order):
    images = random_images(n, h, w, c, dtype=dtype)

    assert_counts(images)
    assert_counts(images.transpose(order).copy().transpose(np.argsort(order)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("edges", [(32, 32), (32, 31), (33, 31), (40, 50), (64, 32), (361, 363)])
def test_images_longer_than_a_sum_of_squares_are_summed_in_parts(edges, channels):
    assert_counts(random_images(3, *edges, channels))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 129, 255])
@pytest.mark.parametrize("pixels", [1023, 1024, 1025, (1 << 17) - 1, 1 << 17])
def test_the_largest_sums_are_exact(value, pixels):
    """Black is the worst case: 0 - 128, whose square has 14 bits."""
    assert_counts(np.full((2, 1, pixels, 1), value, np.uint8))


@pytest.mark.parametrize("value", [0, 32768, 65535])
def test_the_largest_sums_of_16_bits_are_exact(value):
    assert_counts(np.full((2, 1, (1 << 17) - 1, 1), value, np.uint16))


@pytest.mark.parametrize("dtype", [">u2", "<u2"])
def test_the_order_of_a_files_bytes_does_not_matter(dtype):
    images = random_images(3, 5, 7, 2, dtype="u2")

    assert_counts(images.astype(dtype))


def test_each_channel_of_many_words_is_taken_apart(monkeypatch):
    monkeypatch.setattr(planes, "_WORDS", 5)
    images = np.arange(3 * 8 * 13 * 3, dtype=np.uint8).reshape(3, 8, 13, 3)

    assert_counts(images)
    assert_counts(random_images(3, 8, 13, 3))


def test_an_array_that_may_not_be_written_to_is_left_as_it_was():
    for channels in (1, 3):
        images = random_images(4, 8, 8, channels)
        before = images.copy()
        images.setflags(write=False)
        PlaneCounter().count(images)

        assert np.array_equal(before, images)


def test_memory_that_is_used_again_holds_nothing_of_the_last_block():
    counter = PlaneCounter()
    first, second = random_images(9, 8, 8, 3), random_images(4, 5, 7, 3, seed=6)
    (histogram, *sums, _), (_, total, *_), (again, *sums_again, _) = map(
        counter.count, (first, second, first)
    )

    assert np.array_equal(sums, sums_again)
    assert np.array_equal(histogram, again)
    assert np.array_equal(second.sum(axis=(1, 2), dtype=np.int64), total)


@pytest.mark.parametrize("channels", [1, 3, 13, 9999])
@pytest.mark.parametrize("edge", [1, 28, 224, 5000])
def test_what_is_counted_at_once_is_bounded_whatever_the_shape(channels, edge):
    at_once = images_at_once((10, edge, edge, channels))

    assert 1 == at_once or at_once * edge * edge * channels <= 1 << 24


def test_a_gigapixel_of_16_bits_needs_more_than_64_bits():
    histograms = np.zeros((1, 1, 65536), np.int64)
    histograms[0, 0, 65535] = 1 << 32
    total, total_sq = powers_of(histograms)

    assert (65535 << 32, 65535**2 << 32) == (total[0, 0], total_sq[0, 0])
