"""Products of an image's own sums: exact, and the same however the images are grouped."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imgnorm.pixels.count import count, count_arrays, products_of
from imgnorm.settings import ImageSettings
from imgnorm.sources.folder import FolderSource
from imgnorm.tally.moments import Products
from imgnorm.tally.tally import in_mode


def by_hand(images: list[np.ndarray]) -> Products:
    """Of (H, W, C), in Python's integers."""
    rows = []
    for image in images:
        channels = [[int(x) for x in image[..., c].ravel()] for c in range(image.shape[2])]
        rows.append([(len(c), sum(c), sum(x * x for x in c)) for c in channels])
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    return Products(
        *(
            tuple(sum(row[c][i] * row[c][j] for row in rows) for c in range(len(rows[0])))
            for i, j in pairs
        )
    )


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (40, 5, 7, 3), np.uint8)


def test_they_are_those_that_python_computes(images):
    counted = count_arrays(images, "RGB", products=True).counted["RGB"]

    assert by_hand(list(images)) == counted.products


def test_they_are_those_of_large_and_small_files(tmp_path):
    rng = np.random.default_rng(4)
    sizes = [(3, 5), (400, 300), (1, 1), (40, 30), (1200, 900)]
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    source = FolderSource(str(tmp_path))
    names = source.listing().names
    tally, done = count(source, names, ImageSettings(), max_pixels=10**7, products=True)

    assert 5 == done
    assert by_hand(images) == tally.counted["RGB"].products


def test_they_are_those_of_16_bit_files(tmp_path):
    images = [np.random.default_rng(5).integers(0, 65536, (30, 20, 1), np.uint16)]
    Image.fromarray(images[0][..., 0]).save(tmp_path / "0.png")
    source = FolderSource(str(tmp_path))
    tally, _ = count(source, ["0.png"], ImageSettings("I;16"), max_pixels=10**7, products=True)

    assert by_hand(images) == tally.counted["I;16"].products


def test_they_never_overflow():
    """A white 16-bit image of 10**8 pixels: the square of its Σx² has 118 bits."""
    total, total_sq = 10**8 * 65535, 10**8 * 65535**2
    products = products_of(*(np.full((2, 1), x, np.int64) for x in (10**8, total, total_sq)))

    assert (2 * total**2, 2 * total * total_sq, 2 * total_sq**2) == (
        *products.total_total,
        *products.total_total_sq,
        *products.total_sq_total_sq,
    )


def test_nobody_pays_for_what_was_not_asked(images):
    assert count_arrays(images, "RGB").counted["RGB"].products is None


def test_they_add_up(images):
    parts = [count_arrays(part, "RGB", products=True) for part in (images[:1], images[1:])]

    assert count_arrays(images, "RGB", products=True) == parts[0] + parts[1]
    assert by_hand(list(images)) + Products.zero(3) == by_hand(list(images))


def test_gray_images_among_rgb_ones_count_in_each_channel(images):
    gray = images[:7, ..., :1]
    both = count_arrays(images, "RGB", products=True) + count_arrays(gray, "L", products=True)
    converted = [np.asarray(Image.fromarray(g[..., 0]).convert("RGB")) for g in gray]

    assert by_hand([*images, *converted]) == in_mode(both.counted, "RGB").products


def test_gray_images_alone_may_be_asked_for_in_rgb(images):
    gray = count_arrays(images[..., :1], "L", products=True)
    converted = [np.asarray(Image.fromarray(g[..., 0]).convert("RGB")) for g in images]

    assert by_hand(converted) == in_mode(gray.counted, "RGB").products
