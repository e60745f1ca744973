"""`to_transform` makes what people write by hand, with the right numbers."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

import imgnorm
from imgnorm.errors import MissingDependency, TransformError
from imgnorm.settings import CenterCrop, Resize
from imgnorm.stats.stats import Stats

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "examples" / "shapes"

RGB = Stats(("R", "G", "B"), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GRAY = Stats(("L",), (0.1306604762738429,), (0.3081078038564627,))
RGBA = Stats(("R", "G", "B", "A"), (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8))


def picture(mode: str) -> Image.Image:
    noise = np.random.default_rng(7).integers(0, 256, (45, 67, 4), dtype=np.uint8)
    return Image.fromarray(noise, "RGBA").convert(mode)


# The same as by hand


@pytest.mark.parametrize(("stats", "mode"), [(RGB, "RGB"), (GRAY, "L"), (RGBA, "RGBA")])
def test_v1_is_totensor_and_normalize(stats, mode):
    by_hand = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(stats.mean, stats.std)]
    )

    made = imgnorm.to_transform(stats)

    assert isinstance(made, transforms.Compose)
    assert torch.equal(by_hand(picture(mode)), made(picture(mode)))
    assert torch.float32 == made(picture(mode)).dtype


@pytest.mark.parametrize(("stats", "mode"), [(RGB, "RGB"), (GRAY, "L"), (RGBA, "RGBA")])
def test_v2_is_toimage_todtype_and_normalize(stats, mode):
    by_hand = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(stats.mean, stats.std)]
    )

    made = imgnorm.to_transform(stats, api="v2")

    assert isinstance(made, v2.Compose)
    assert torch.equal(by_hand(picture(mode)), made(picture(mode)))


@pytest.mark.parametrize(("stats", "mode"), [(RGB, "RGB"), (GRAY, "L"), (RGBA, "RGBA")])
def test_v1_and_v2_agree(stats, mode):
    one = imgnorm.to_transform(stats, api="v1")(picture(mode))
    two = imgnorm.to_transform(stats, api="v2")(picture(mode))

    # Both divide by 255 in float32; v2 may multiply by the inverse: one rounding of 2**-24 apart.
    assert torch.allclose(one, two, rtol=0, atol=1e-6)


def test_a_pixel_becomes_what_the_formula_says():
    image = Image.new("RGB", (1, 1), (0, 128, 255))
    exact = [
        (Fraction(value, 255) - Fraction(mean)) / Fraction(std)
        for value, mean, std in zip((0, 128, 255), RGB.mean, RGB.std, strict=True)
    ]

    # float32 has 24 bits, and the formula has three operations.
    assert imgnorm.to_transform(RGB)(image).ravel().tolist() == pytest.approx(
        list(map(float, exact)), rel=1e-6
    )


@pytest.mark.parametrize("size", [40, (40, 30)], ids=["the shorter edge", "a height and a width"])
def test_what_was_measured_through_resize_and_crop_goes_through_them(size):
    stats = Stats(RGB.channels, RGB.mean, RGB.std, preprocess=(Resize(size), CenterCrop((20, 24))))
    by_hand = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop((20, 24)),
            transforms.ToTensor(),
            transforms.Normalize(RGB.mean, RGB.std),
        ]
    )

    assert torch.equal(by_hand(picture("RGB")), imgnorm.to_transform(stats)(picture("RGB")))


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_a_measured_folder_comes_out_with_mean_0_and_std_1(api):
    """From `measure` to numbers for a network, without a file in between."""
    stats = imgnorm.measure(SHAPES, resize=(32, 32), workers=1)
    dataset = torchvision.datasets.ImageFolder(
        str(SHAPES), transform=imgnorm.to_transform(stats, api=api)
    )
    pixels = torch.stack([image for image, _ in dataset]).double().transpose(0, 1).flatten(1)

    # The transform computes in float32.
    assert pixels.mean(1).abs().max() < 1e-6
    assert (pixels.std(1, correction=0) - 1).abs().max() < 1e-6


# 16 bits


def test_16_bit_images_go_through_v2():
    image = Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16))
    stats = Stats(("I",), (0.5,), (0.25,), scale=65535, mode="I;16")

    made = imgnorm.to_transform(stats, api="v2")(image)

    # (x / 65535 - 0.5) / 0.25, in float32
    assert made.ravel().tolist() == pytest.approx([-2.0, (32768 / 65535 - 0.5) * 4, 2.0], abs=1e-6)


def test_16_bit_stats_have_no_v1_transform():
    stats = Stats(("I",), (0.5,), (0.25,), scale=65535, mode="I;16")

    with pytest.raises(TransformError) as caught:
        imgnorm.to_transform(stats, api="v1")

    assert (
        "16-bit stats have no v1 transform: ToTensor does not scale mode I;16, and wraps its values "
        "at 32768; use api v2 (--api v2)"
    ) == str(caught.value)


# Constant channels


@pytest.mark.parametrize("function", [imgnorm.to_transform, imgnorm.to_inverse])
def test_constant_channels_are_refused_by_name(function):
    stats = Stats(("R", "G", "B"), (0.5, 0.5, 0.0), (0.1, 0.0, 0.0))

    with pytest.raises(TransformError) as caught:
        function(stats)

    assert (
        "channels G, B are constant (std 0): normalizing would divide by 0; look at the images, or "
        "allow it with an eps (such as --eps 1e-3)"
    ) == str(caught.value)


def test_eps_is_the_least_std():
    stats = Stats(("R", "G", "B"), (0.5, 0.5, 0.0), (0.25, 0.001, 0.0))

    normalize = imgnorm.to_transform(stats, eps=0.01).transforms[-1]

    assert [0.25, 0.01, 0.01] == list(normalize.std)


# Back


@pytest.mark.parametrize("api", ["v1", "v2"])
@pytest.mark.parametrize(("stats", "mode"), [(RGB, "RGB"), (GRAY, "L"), (RGBA, "RGBA")])
def test_the_inverse_brings_the_image_back(stats, mode, api):
    image = picture(mode)
    tensor = imgnorm.to_transform(stats, api=api)(image)

    back = imgnorm.to_inverse(stats, api=api)(tensor)

    # float32 has 24 bits; a pixel level is 1 / 255.
    assert (back - transforms.ToTensor()(image)).abs().max() < 1e-6


# torchvision that cannot be used


def test_a_torchvision_that_does_not_fit_torch_is_told_in_one_sentence(monkeypatch):
    """`operator torchvision::nms does not exist` does not say what to do."""
    import imgnorm._torch as pair

    def broken(name: str) -> object:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(pair, "import_module", broken)

    with pytest.raises(MissingDependency) as caught:
        imgnorm.to_transform(RGB)

    assert (
        "torchvision cannot be imported (operator torchvision::nms does not exist); torch and "
        "torchvision must be a pair: install both anew with `pip install --force-reinstall torch "
        "torchvision`"
    ) == str(caught.value)


def test_reading_stats_needs_no_torch(tmp_path):
    """It is loaded when a transform is made, not before."""
    imgnorm.write_stats(tmp_path / "s.yaml", RGB)
    program = (
        f"import sys, imgnorm; stats = imgnorm.read_stats({str(tmp_path / 's.yaml')!r});"
        "imgnorm.to_transform; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "False\n" == done.stdout
