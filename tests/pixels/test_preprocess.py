"""Resize and CenterCrop, pixel for pixel against both of torchvision's own."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from imgnorm.pixels.preprocess import preprocessed
from imgnorm.settings import CenterCrop, Resize, Step
from imgnorm.tally.skipped import Unreadable

MODES = ["L", "RGB", "RGBA"]
LIMIT = 10**7


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    width, height = size
    rng = np.random.default_rng(width * 1000 + height)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    return Image.fromarray(rng.integers(0, 256, (height, width, *channels), np.uint8))


def pixels(picture: Image.Image) -> tuple[str, tuple[int, int], bytes]:
    return picture.mode, picture.size, picture.tobytes()


def assert_as_torchvision(picture: Image.Image, *steps: Step) -> None:
    ours = pixels(preprocessed(picture, steps, LIMIT))
    for transforms in (v1, v2):
        theirs = picture
        for step in steps:
            theirs = getattr(transforms, type(step).__name__)(step.size)(theirs)

        assert pixels(theirs) == ours, (picture.size, steps, transforms.__name__)


def sizes(count: int, largest: int) -> list[tuple[int, int]]:
    rng = random.Random(count)
    return [(rng.randint(1, largest), rng.randint(1, largest)) for _ in range(count)]


CORNERS = [(1, 1), (1, 2), (2, 1), (1, 70), (70, 1), (7, 7), (32, 32), (33, 32), (32, 33), (69, 70)]


@pytest.mark.parametrize("mode", MODES)
def test_resize_to_a_shorter_edge_is_torchvision_s(mode):
    for size in CORNERS + sizes(60, 70):
        for edge in (1, 2, 7, 31, 32, 33, 64, min(size), max(size)):
            assert_as_torchvision(noise(size, mode), Resize(edge))


@pytest.mark.parametrize("mode", MODES)
def test_resize_to_height_and_width_is_torchvision_s(mode):
    for size, target in zip(CORNERS + sizes(120, 70), sizes(130, 70), strict=True):
        assert_as_torchvision(noise(size, mode), Resize(target))
        assert_as_torchvision(noise(size, mode), Resize((size[1], size[0])))


@pytest.mark.parametrize("mode", MODES)
def test_center_crop_is_torchvision_s_whether_it_cuts_or_pads_or_both(mode):
    for size, target in zip(CORNERS + sizes(250, 70), sizes(260, 90), strict=True):
        assert_as_torchvision(noise(size, mode), CenterCrop(target))
        assert_as_torchvision(noise(size, mode), CenterCrop(target[0]))


def test_center_crop_rounds_every_odd_remainder_as_torchvision_does():
    """Half a pixel goes to the even side: Python's round, not +0.5."""
    for length, crop in itertools.product(range(1, 14), range(1, 16)):
        assert_as_torchvision(noise((length, 3)), CenterCrop((2, crop)))
        assert_as_torchvision(noise((3, length)), CenterCrop((crop, 2)))


@pytest.mark.parametrize("mode", MODES)
def test_the_usual_evaluation_transform_is_torchvision_s(mode):
    for size in [(500, 375), (375, 500), (31, 400), (400, 31), (224, 224), (257, 256)]:
        assert_as_torchvision(noise(size, mode), Resize(256), CenterCrop(224))


def test_the_shorter_edge_is_exact_where_a_factor_would_round():
    """size * long / short, in this order: 3 * (long / short) is off by one for some."""
    for width, height in itertools.product(range(1, 40), repeat=2):
        assert_as_torchvision(noise((width, height), "L"), Resize(3))


def test_gray_resized_and_replicated_is_gray_replicated_and_resized():
    """So `--mode auto` may convert gray to RGB after counting."""
    steps = (Resize(24), CenterCrop((30, 20)))
    for size in CORNERS + sizes(60, 70):
        gray = noise(size, "L")

        later = preprocessed(gray, steps, LIMIT).convert("RGB")

        assert pixels(preprocessed(gray.convert("RGB"), steps, LIMIT)) == pixels(later)


def test_16_bit_gray_is_resized_to_within_one_level_of_the_same_in_floats():
    values = np.random.default_rng(0).integers(0, 65536, (23, 41), np.uint16)
    expected = np.asarray(
        Image.fromarray(values.astype(np.float32)).resize((17, 10), Image.Resampling.BILINEAR)
    )

    found = preprocessed(Image.fromarray(values), (Resize((10, 17)),), LIMIT)

    assert "I;16" == found.mode
    assert np.abs(np.asarray(found).astype(np.float64) - expected).max() <= 1  # it rounds twice


def test_16_bit_gray_is_cropped_and_padded_with_black():
    values = np.arange(1, 13, dtype=np.uint16).reshape(3, 4) * 5000
    expected = np.zeros((5, 2), np.uint16)
    expected[1:4] = values[:, 1:3]

    found = preprocessed(Image.fromarray(values), (CenterCrop((5, 2)),), LIMIT)

    assert expected.tolist() == np.asarray(found).tolist()


def test_no_steps_give_the_picture_itself():
    picture = noise((3, 4))

    assert picture is preprocessed(picture, (), 1)


def test_a_resize_to_the_same_size_keeps_every_pixel():
    picture = noise((31, 17))

    assert pixels(picture) == pixels(preprocessed(picture, (Resize(17),), LIMIT))


def too_large(picture: Image.Image, step: Step, max_pixels: int) -> str:
    with pytest.raises(Unreadable) as caught:
        preprocessed(picture, (step,), max_pixels)
    return str(caught.value)


def test_a_long_image_that_a_resize_would_blow_up_is_refused():
    """100,000 x 1 pixels to a shorter edge of 256 would be 6.5 billion."""
    expected = (
        "too-large: resizing 100000x1 to 25600000x256 makes 6,553,600,000 pixels; "
        "the limit is 178,956,970 (--max-pixels)"
    )
    assert expected == too_large(Image.new("L", (100_000, 1)), Resize(256), 178_956_970)


def test_a_crop_that_pads_beyond_the_limit_is_refused():
    """Pillow itself would raise DecompressionBombError, which ends the worker."""
    expected = (
        "too-large: cropping 5x4 to 60x50 makes 3,000 pixels; the limit is 2,999 (--max-pixels)"
    )
    assert expected == too_large(Image.new("L", (5, 4)), CenterCrop((50, 60)), 2999)


def test_what_is_exactly_at_the_limit_is_made():
    picture = Image.new("L", (5, 4))
    for step in (Resize((50, 60)), CenterCrop((50, 60))):
        assert (60, 50) == preprocessed(picture, (step,), 3000).size
