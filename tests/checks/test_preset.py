"""Presets, measured on the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgnorm.checks.preset import verify_preset
from imgnorm.cli import run
from imgnorm.errors import IncompatibleStats, SourceError

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def pixels(tmp_path):
    """Three small images in `tmp_path`, and all their pixels, in 0..1."""
    images = np.random.default_rng(5).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    return images.reshape(-1, 3) / 255


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="needs MNIST in shared/data")
@pytest.mark.parametrize("name", ["MNIST", "mnist-image-std-1"])
def test_whoever_has_mnist_verifies_it(name):
    """A wrong set is what it is said to be, too: the average of per-image stds."""
    found = verify_preset(name, DATA / "mnist")

    assert found.equal
    assert found.report.startswith(
        f"{name.lower()}: verified on 60,000 images of torchvision:MNIST"
    )


@pytest.mark.skipif(not (DATA / "cifar10-jpeg").is_dir(), reason="needs images in shared/data")
def test_a_folder_of_images_is_measured_as_numpy_does():
    """2,000 of the test images, as JPEGs: near CIFAR-10's numbers, but not to their eight digits."""
    files = sorted((DATA / "cifar10-jpeg").rglob("*.jp*g"))
    images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    flat = images.reshape(-1, 3).astype(np.int64)
    mean = flat.sum(axis=0) / len(flat)
    std = np.sqrt((flat**2).sum(axis=0) / len(flat) - mean**2)
    found = verify_preset("CIFAR-10", DATA / "cifar10-jpeg")
    lines = found.report.splitlines()

    assert not found.equal
    assert f"cifar10: differs on {len(files):,} images of {DATA / 'cifar10-jpeg'}" == lines[0]
    assert " ".join(f"{v / 255:.8f}" for v in mean) in lines[2]
    assert " ".join(f"{v / 255:.8f}" for v in std) in lines[4]


def test_other_data_differs_and_both_numbers_are_shown(tmp_path, pixels, capsys):
    mean, std = (" ".join(f"{v:.8f}" for v in f(pixels, axis=0)) for f in (np.mean, np.std))

    assert 1 == run(["presets", "verify", "coco", "--root", str(tmp_path)])
    assert (
        f"coco: differs on 3 images of {tmp_path}\n"
        "  convention  pooled: over all pixels of all images, population\n"
        f"  mean        {mean} measured\n"
        "              0.47026115 0.44719302 0.40789654 published\n"
        f"  std         {std} measured\n"
        "              0.27809835 0.27408164 0.28863828 published\n"
    ) == capsys.readouterr().out


def test_skipped_images_are_counted_in_the_first_line(tmp_path, pixels, capfd):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")

    assert 1 == run(["presets", "verify", "coco", "--root", str(tmp_path), "-q"])
    shown = capfd.readouterr()
    assert f"coco: differs on 3 images of {tmp_path}; 1 skipped" == shown.out.splitlines()[0]
    assert "" == shown.err


def test_what_no_data_has_cannot_be_verified(tmp_path):
    with pytest.raises(IncompatibleStats) as caught:
        verify_preset("ssd", tmp_path)

    assert "ssd: is a choice, not a statistic of data" == str(caught.value)


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(SourceError) as caught:
        verify_preset("coco", tmp_path)

    assert (
        f"{tmp_path}: has no images of COCO 2017, train; name torchvision's root or a folder of images"
    ) == str(caught.value)


def test_numbers_by_another_convention_are_recognized(tmp_path, pixels, monkeypatch):
    """As if somebody had published the average of per-image stds as the pooled std."""
    from dataclasses import replace

    from imgnorm.constants.presets import PRESETS

    of_images = pixels.reshape(3, -1, 3).std(axis=1).mean(axis=0)
    claimed = replace(
        PRESETS["coco"], mean=tuple(pixels.mean(axis=0)), std=tuple(of_images), std_tolerance=1e-8
    )
    monkeypatch.setitem(PRESETS, "coco", claimed)
    found = verify_preset("coco", tmp_path)

    assert not found.equal
    assert (
        "  but         they are the numbers by mean_of_image_std: the average of per-image stds, correction 0"
        == found.report.splitlines()[-1]
    )
