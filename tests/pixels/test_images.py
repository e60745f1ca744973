"""Histograms and sums of images, against NumPy int64 and Python's own integers."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from counting import (
    MemorySource,
    by_hand,
    encoded,
    job_count,
    noise,
    power_sums,
    reference,
    sums_of,
    tally_of,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from imgnorm.pixels import planes
from imgnorm.pixels.count import Counting
from imgnorm.pixels.images import count_arrays, cross_sums_of
from imgnorm.pixels.jpeg import JpegDecoder
from imgnorm.pixels.planes import PlaneCounter
from imgnorm.settings import CHANNELS, Digits, ImageSettings
from imgnorm.sources.folder import FolderSource
from imgnorm.sources.listing import all_names_of
from imgnorm.tally.moments import UNIT_BITS, CrossSums, ImageSums
from imgnorm.tally.tally import Tally, in_mode

ONE_PIXEL, SEVERAL = encoded(noise(1, 1, seed=8)), encoded(noise(7, 9, seed=1))


# Images that are an array already


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_array_counts_as_the_same_images_in_files(mode):
    channels = len(CHANNELS[mode])
    images = np.random.default_rng(11).integers(0, 256, (50, 6, 5, channels), np.uint8)
    files = {
        f"{i:02d}": encoded(Image.fromarray(image[:, :, 0] if channels == 1 else image))
        for i, image in enumerate(images)
    }

    expected = tally_of(files, mode).counted[mode]

    assert {mode: replace(expected, modes={mode: 50}, formats={"array": 50})} == (
        count_arrays(images, mode, list(files)).counted
    )


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.just(3)))
)
def test_any_array_gives_numpy_s_sums(images):
    counted = count_arrays(images, "RGB").counted["RGB"]

    assert power_sums(list(images.astype(np.int64))) == counted.histogram.moments()


def test_blocks_of_an_array_do_not_matter():
    """2,097,152 pixels are counted at once: here 32 images, then the other 5."""
    images = np.random.default_rng(12).integers(0, 256, (37, 256, 256, 3), np.uint8)

    alone = [count_arrays(images[i : i + 1], "RGB") for i in range(len(images))]

    assert sum(alone, Tally()) == count_arrays(images, "RGB")


def test_an_array_of_any_layout_in_memory_counts_the_same():
    images = np.random.default_rng(13).integers(0, 256, (7, 3, 5, 4), np.uint8)
    view = images.transpose(0, 2, 3, 1)

    assert count_arrays(np.ascontiguousarray(view), "RGB") == count_arrays(view, "RGB")


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_any_number_of_threads_counts_an_array_alike(monkeypatch, threads):
    monkeypatch.setattr(planes, "_PIXELS", 100)
    images = np.random.default_rng(14).integers(0, 256, (99, 6, 4, 3), np.uint8)

    assert count_arrays(images, "RGB") == (count_arrays(images, "RGB", threads=threads))


def test_what_goes_wrong_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(planes, "_PIXELS", 100)
    images = np.random.default_rng(15).integers(0, 256, (99, 6, 4, 3), np.uint8)

    def fail(self: PlaneCounter, images: np.ndarray, ends: bool) -> None:
        raise MemoryError("in a thread")

    monkeypatch.setattr(PlaneCounter, "count", fail)
    with pytest.raises(MemoryError, match="in a thread"):
        count_arrays(images, "RGB", threads=2)


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (0, 0, 0, 3)])
def test_no_images_in_an_array_are_an_empty_tally(shape):
    assert Tally() == count_arrays(np.zeros(shape, np.uint8), "RGB")


# Per-image sums


def random_histograms(images: int, channels: int, bins: int, pixels: int) -> np.ndarray:
    rng = np.random.default_rng(images + bins + pixels)
    values = rng.integers(0, bins, (images, channels, pixels))
    rows = [[np.bincount(c, minlength=bins) for c in image] for image in values]
    return np.array(rows, np.int64)


@pytest.mark.parametrize("bins", [256, 65536])
@pytest.mark.parametrize(("images", "pixels"), [(1, 1), (1, 2), (5, 1), (3, 1000), (40, 7)])
def test_per_image_sums_are_those_of_a_plain_loop(images, pixels, bins):
    images = min(images, 5) if bins == 65536 else images
    histograms = random_histograms(images, 3, bins, pixels)

    assert by_hand(histograms) == sums_of(histograms)


def test_per_image_sums_of_more_images_than_an_int64_holds_mantissas_of():
    """1,024 mantissas of 53 bits fill an int64: here all are as large as can be."""
    histograms = np.zeros((2100, 1, 256), np.int64)
    histograms[:, 0, 254] = 3
    histograms[:, 0, 255] = 1

    assert by_hand(histograms) == sums_of(histograms)


def test_the_true_per_image_values_are_met_to_the_last_digits():
    """Against the true rational values: each float is rounded at most 3 times."""
    histograms = random_histograms(1, 1, 65536, 5000)
    (counts,) = histograms[0].tolist()
    pixels = sum(counts)
    mean = Fraction(sum(v * n for v, n in enumerate(counts)), pixels * 65535)
    mean_sq = Fraction(sum(v * v * n for v, n in enumerate(counts)), pixels * 65535**2)

    sums = sums_of(histograms)

    found = [Fraction(s[0], 2**UNIT_BITS) for s in (sums.mean, sums.mean_sq, sums.std, sums.std_1)]
    variance = mean_sq - mean**2
    assert abs(found[0] / mean - 1) <= Fraction(2, 2**53)
    assert abs(found[1] / mean_sq - 1) <= Fraction(3, 2**53)
    assert abs(found[2] ** 2 / variance - 1) <= Fraction(6, 2**53)
    assert abs(found[3] ** 2 / (variance * pixels / (pixels - 1)) - 1) <= Fraction(6, 2**53)


WIDE = {
    "12 megapixels, half white": {0: 6_100_000, 255: 6_100_000},
    "40 megapixels, a tenth white, between 2^63 and 2^64": {0: 36_000_000, 255: 4_000_000},
    "179 megapixels, white": {255: 178_956_970},
    "179 megapixels, one dim pixel": {0: 178_956_969, 1: 1},
    "2^31 pixels, all levels": dict.fromkeys(range(256), 2**23),
}


@pytest.mark.parametrize("counts", WIDE.values(), ids=WIDE)
def test_images_above_12_megapixels_are_counted_in_wide_integers(counts):
    """n · Σx² no longer fits into an int64."""
    histograms = np.zeros((1, 2, 256), np.int64)
    for value, pixels in counts.items():
        histograms[0, :, value] = pixels

    assert by_hand(histograms) == sums_of(histograms)


def test_a_large_16_bit_image_is_counted_in_wide_integers():
    histograms = np.zeros((1, 1, 65536), np.int64)
    histograms[0, 0, [0, 40000, 65535]] = 50_000_000, 1, 128_956_969

    assert by_hand(histograms) == sums_of(histograms)


def test_a_large_image_in_a_batch_changes_no_digit_of_the_small_ones():
    histograms = random_histograms(4, 1, 256, 100)
    histograms[2, 0, :] = 200_000

    together = sums_of(histograms)

    assert sum((sums_of(h[np.newaxis]) for h in histograms), ImageSums.zero(1)) == together


def test_a_real_image_above_12_megapixels_is_counted():
    pixels = np.zeros((3500, 3500), np.uint8)
    pixels[:, 1000:] = 255
    picture = Image.fromarray(pixels)

    sums = tally_of({"a": encoded(picture, "PPM")}).counted["L"].sums

    mean = 2500 / 3500
    # 0/255 pixels: mean of squares = mean, std = sqrt(p (1 - p)) of p = 5/7.
    assert (mean, mean) == (sums.mean[0] / 2**UNIT_BITS, sums.mean_sq[0] / 2**UNIT_BITS)
    assert Fraction(sums.std[0], 2**UNIT_BITS) == pytest.approx(math.sqrt(10 / 49), rel=1e-15)


def test_a_constant_image_has_exactly_no_std():
    histograms = np.zeros((256, 1, 256), np.int64)
    histograms[range(256), 0, range(256)] = 12_345

    sums = sums_of(histograms)

    assert ((0,), (0,), 0) == (sums.std, sums.std_1, sums.one_pixel)


def test_one_pixel_images_are_told_apart():
    counted = tally_of({"a": ONE_PIXEL, "b": SEVERAL}).counted["RGB"]

    assert 1 == counted.sums.one_pixel
    assert "mean_of_image_std_correction_1" not in counted.sums.conventions()


# Small images share a count


SIZES = [(1, 1), (1, 7), (32, 32), (31, 33), (128, 128), (1, 16384), (129, 128), (16385, 1)]


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_small_and_large_images_are_counted_alike(mode, format_):
    """Images of up to 128x128 pixels are collected and counted together; here with larger ones."""
    rng = np.random.default_rng(5)
    pictures = []
    for index in range(120):
        height, width = SIZES[index % len(SIZES)]
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        pixels[:, :, index % 3] = index
        pictures.append(Image.fromarray(pixels).convert("L" if mode == "L" else "RGB"))
    files = {f"{index:03}": encoded(p, format_) for index, p in enumerate(pictures)}
    shown = [
        np.asarray(Image.open(io.BytesIO(data)).convert(mode)) for _, data in sorted(files.items())
    ]
    for jpeg in (None, JpegDecoder()):
        source = MemorySource(files)
        counting = Counting(Digits(ImageSettings(mode), 10**8), jpeg=jpeg)
        done = job_count(source, sorted(files), counting)

        assert 120 == done.images
        counted = done.tally.counted[mode]
        assert reference(shown) == (counted.histogram.counts, counted.sums)


def test_white_images_at_the_limit_do_not_overflow():
    white = Image.new("L", (128, 128), 255)
    files = {f"{index}": encoded(white, "PNG") for index in range(40)}

    counted = tally_of(files).counted["L"]

    assert reference([np.full((128, 128), 255, np.uint8)] * 40) == (
        counted.histogram.counts,
        counted.sums,
    )


@pytest.mark.parametrize(("height", "width"), [(255, 257), (256, 256), (300, 300)])
def test_large_white_arrays_do_not_overflow(height, width):
    """The Σx² of 2**16 white pixels is the last that fits into 32 bits."""
    images = np.full((3, height, width, 1), 255, np.uint8)

    counted = count_arrays(images, "L").counted["L"]

    assert reference(list(images)) == (counted.histogram.counts, counted.sums)


# Cross sums


def cross_sums_by_hand(images: list[np.ndarray]) -> CrossSums:
    """Of (H, W, C), in Python's integers."""
    rows = []
    for image in images:
        channels = [[int(x) for x in image[..., c].ravel()] for c in range(image.shape[2])]
        rows.append([(len(c), sum(c), sum(x * x for x in c)) for c in channels])
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    return CrossSums(
        *(
            tuple(sum(row[c][i] * row[c][j] for row in rows) for c in range(len(rows[0])))
            for i, j in pairs
        )
    )


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (40, 5, 7, 3), np.uint8)


def test_they_are_those_that_python_computes(images):
    counted = count_arrays(images, "RGB").counted["RGB"]

    assert cross_sums_by_hand(list(images)) == counted.cross_sums


def test_they_are_those_of_large_and_small_files(tmp_path):
    rng = np.random.default_rng(4)
    sizes = [(3, 5), (400, 300), (1, 1), (40, 30), (1200, 900)]
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    source = FolderSource(str(tmp_path))
    names = list(all_names_of(source))
    done = job_count(source, names, Counting(Digits(ImageSettings(), 10**7)))

    assert 5 == done.images
    assert cross_sums_by_hand(images) == done.tally.counted["RGB"].cross_sums


def test_they_are_those_of_16_bit_files(tmp_path):
    images = [np.random.default_rng(5).integers(0, 65536, (30, 20, 1), np.uint16)]
    Image.fromarray(images[0][..., 0]).save(tmp_path / "0.png")
    source = FolderSource(str(tmp_path))
    counting = Counting(Digits(ImageSettings("I;16"), 10**7))
    tally = job_count(source, ["0.png"], counting).tally

    assert cross_sums_by_hand(images) == tally.counted["I;16"].cross_sums


@pytest.mark.parametrize(
    ("images", "pixels"),
    # White 8-bit images around the most whose products fit into 63 bits; sums that need one more bit.
    [(1, 46_700), (1, 46_704), (1, 46_705), (8192, 516), (8192, 517), (2, 33_024), (2, 33_025)],
)
def test_they_do_not_overflow_at_the_end_of_64_bits(images, pixels):
    total, total_sq = pixels * 255, pixels * 255**2
    given = (np.full((images, 1), x, np.int64) for x in (pixels, total, total_sq))
    found = cross_sums_of(*given)

    assert (images * total_sq**2,) == found.total_sq_total_sq
    assert (images * pixels * total_sq,) == found.count_total_sq


def test_they_never_overflow():
    """A white 16-bit image of 10**8 pixels: the square of its Σx² has 118 bits."""
    total, total_sq = 10**8 * 65535, 10**8 * 65535**2
    cross_sums = cross_sums_of(*(np.full((2, 1), x, np.int64) for x in (10**8, total, total_sq)))

    assert (2 * total**2, 2 * total * total_sq, 2 * total_sq**2) == (
        *cross_sums.total_total,
        *cross_sums.total_total_sq,
        *cross_sums.total_sq_total_sq,
    )


def test_cross_sums_of_images_whose_squares_need_more_than_64_bits_are_exact():
    """From 2.1 gigapixels of 16 bits on, sums come as Python's integers."""
    pixels, total, total_sq = 3 * 10**9, 65535 * 3 * 10**9, 65535**2 * 3 * 10**9
    sums = (np.full((2, 1), one, object) for one in (total, total_sq))
    found = cross_sums_of(np.full((2, 1), pixels), *sums)

    assert (2 * total_sq**2,) == found.total_sq_total_sq
    assert (2 * pixels * total,) == found.count_total


def test_they_add_up(images):
    parts = [count_arrays(part, "RGB") for part in (images[:1], images[1:])]

    assert count_arrays(images, "RGB") == parts[0] + parts[1]
    assert cross_sums_by_hand(list(images)) + CrossSums.zero(3) == cross_sums_by_hand(list(images))


def test_gray_images_among_rgb_ones_count_in_each_channel(images):
    gray = images[:7, ..., :1]
    both = count_arrays(images, "RGB") + count_arrays(gray, "L")
    converted = [np.asarray(Image.fromarray(g[..., 0]).convert("RGB")) for g in gray]

    assert cross_sums_by_hand([*images, *converted]) == in_mode(both.counted, "RGB").cross_sums


def test_gray_images_alone_may_be_asked_for_in_rgb(images):
    gray = count_arrays(images[..., :1], "L")
    converted = [np.asarray(Image.fromarray(g[..., 0]).convert("RGB")) for g in images]

    assert cross_sums_by_hand(converted) == in_mode(gray.counted, "RGB").cross_sums
