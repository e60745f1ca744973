from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from imgnorm.constants.presets import (
    PRESETS,
    Numbers,
    dataset_key,
    matches,
    numbers_in,
    numbers_of,
    preset,
    preset_entry,
    presets_of,
)
from imgnorm.errors import SourceError
from imgnorm.tally.histogram import Histogram

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist" / "MNIST" / "raw"


def mnist_pixels() -> np.ndarray:
    for name, opened in (
        ("train-images-idx3-ubyte", open),
        ("train-images-idx3-ubyte.gz", gzip.open),
    ):
        if (MNIST / name).exists():
            with opened(MNIST / name, "rb") as file:
                return np.frombuffer(file.read()[16:], np.uint8)
    pytest.skip("needs MNIST in shared/data")


def test_mnist_is_verified_on_the_data():
    """The only dataset that we have; every other entry quotes others."""
    counts = np.bincount(mnist_pixels(), minlength=256)
    moments = Histogram((tuple(map(int, counts)),)).moments()

    assert 60_000 * 28 * 28 == moments.count
    assert (round(moments.mean(scale=255)[0], 8),) == PRESETS["mnist"].mean
    assert (round(moments.std(scale=255)[0], 8),) == PRESETS["mnist"].std
    source = PRESETS["mnist"].source
    assert f"computed: {moments.mean(scale=255)[0]}, {moments.std(scale=255)[0]};" in source


def test_the_wrong_stds_of_mnist_are_averages_of_per_image_stds():
    images = mnist_pixels().reshape(-1, 784) / 255

    assert PRESETS["mnist-image-std"].std == (round(images.std(axis=1).mean(), 4),)
    assert PRESETS["mnist-image-std-1"].std == (round(images.std(axis=1, ddof=1).mean(), 4),)


def test_only_what_a_test_verifies_is_marked_so():
    assert ["mnist"] == [p.name for p in PRESETS.values() if p.mark == "verified"]


@pytest.mark.parametrize("name", PRESETS)
def test_an_entry_is_whole_and_possible(name):
    entry = PRESETS[name]

    assert name == entry.name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert len(entry.mean) == len(entry.std)
    assert len(entry.mean) in (1, 3, 13)
    assert entry.title
    assert entry.source
    if name not in ("cifar100-typo", "identity"):  # wrong because it is impossible; no statistic
        for mean, std in zip(entry.mean, entry.std, strict=True):
            assert 0 < std <= (mean * (1 - mean)) ** 0.5 + 1e-4  # four digits


@pytest.mark.parametrize("name", [p.name for p in PRESETS.values() if p.mark == "wrong"])
def test_a_wrong_entry_says_why_and_what_is_right(name):
    entry = PRESETS[name]

    assert entry.remark
    if entry.use:
        assert PRESETS[entry.use].mark in ("verified", "quoted")
        assert PRESETS[entry.use].dataset == entry.dataset
        assert (PRESETS[entry.use].mean, PRESETS[entry.use].std) != (entry.mean, entry.std)
    else:
        assert [] == [p for p in presets_of(entry.dataset) if p.mark in ("verified", "quoted")]


def test_averages_of_per_image_stds_are_below_the_pooled_std():
    """Jensen: the average of stds never exceeds the pooled one; this would show an error in the table."""
    for entry in PRESETS.values():
        if entry.use and entry.convention.startswith("mean_of_image_std"):
            right = PRESETS[entry.use]

            assert all(a < b for a, b in zip(entry.std, right.std, strict=True)), entry.name


def test_a_preset_gives_its_numbers():
    assert (0.24703223, 0.24348513, 0.26158784) == preset("cifar10").std


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashion-mnits", "no preset 'fashion-mnits'; did you mean 'fashion-mnist'?"),
        ("cifar11", "no preset 'cifar11'; did you mean 'cifar10' or 'cifar100' or 'cifar10-255'?"),
        ("zzzzz", "no preset 'zzzzz'; `imgnorm presets` lists them"),
        ("a\nb", "no preset 'a\\nb'; `imgnorm presets` lists them"),
        (
            "cifar10-image-std-1",
            (
                "preset 'cifar10-image-std-1' is a known wrong set (the average of per-image stds from "
                "torch.std; the differences between images are missing); use preset 'cifar10', or write "
                "the numbers out if a checkpoint depends on them"
            ),
        ),
        (
            "eurosat-image-std",
            (
                "preset 'eurosat-image-std' is a known wrong set (the average of per-image stds; the "
                "differences between images are missing); measure the data, or write the numbers out if "
                "a checkpoint depends on them"
            ),
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_nearest_names(name, message):
    with pytest.raises(SourceError) as caught:
        preset(name)

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("CIFAR-10", "cifar10"),
        ("FashionMNIST", "fashion-mnist"),
        ("imagenet_1k", "imagenet"),
        ("ILSVRC2012", "imagenet"),
        ("SigLIP", "inception"),
        ("DINOv2", "imagenet"),
        ("dinov3", "imagenet"),
        ("DINOv3-SAT493M", "dinov3-sat493m"),
        ("Qwen2_VL", "clip"),
        ("CocoDetection", "coco"),
        ("CUB-200-2011", "cub200"),
    ],
)
def test_names_are_taken_as_people_type_them(typed, name):
    assert name == preset(typed).name


def test_no_two_names_are_told_apart_by_what_does_not_count():
    names = [n for p in PRESETS.values() for n in (p.name, *p.weights)]
    folded = [re.sub("[^a-z0-9]", "", n.lower()) for n in names]

    assert len(folded) == len({*folded})
    assert [] == [
        n
        for n, key in zip(names, folded, strict=True)
        if preset_entry(key).name not in (n, preset_entry(n).name)
    ]


def test_every_name_of_weights_has_a_source_with_a_line():
    """Package, version, file and line."""
    sources = [s for p in PRESETS.values() for s in p.weights.values()]

    assert [] == [
        s for s in sources if not re.fullmatch(r"[\w.-]+ [\d.\w]+ [\w/.-]+\.py:\d+(-\d+)?", s)
    ]


def test_a_wrong_set_can_be_shown():
    assert "wrong" == preset_entry("cifar10-image-std-1").mark


@pytest.mark.parametrize("text", ["CIFAR-10", "Cifar10", "cifar_10", "CIFAR 10", "cifar10"])
def test_a_dataset_is_known_by_any_spelling(text):
    assert "cifar10" == dataset_key(text)


def test_what_is_no_dataset_has_no_key():
    assert [None, None, None] == [dataset_key(text) for text in ("", "cifar", "my data")]


@pytest.mark.parametrize(
    ("texts", "same"),
    [
        ("0.2470 0.2435 0.2616", True),
        ("0.247 0.243 0.262", True),
        ("0.24703223 0.24348513 0.26158784", True),
        ("0.24703233320 0.24348512800 0.26158784172", True),  # float32 loops: the 7th digit differs
        ("0.2471 0.2435 0.2616", False),
        ("0.25 0.24 0.26", False),  # too few digits to say anything
        ("0.2470 0.2435", False),
        ("0.2616 0.2435 0.2470", False),
    ],
)
def test_the_number_of_digits_given_decides(texts, same):
    assert same == numbers_in(texts.split()).same(PRESETS["cifar10"].numbers("std"))


def test_gray_may_be_replicated():
    assert numbers_of([0.1307] * 3).same(PRESETS["mnist"].numbers("mean"))


def test_a_lost_trailing_zero_is_told_by_the_other_values():
    assert Numbers((0.2023, 0.1994, 0.201), 0.00005) == numbers_of([0.2023, 0.1994, 0.201])


def test_the_unit_may_be_255():
    assert ["cifar10-image-std-1"] == [
        p.name for p in matches("std", numbers_of([51.5865, 50.847, 51.255], unit=255))
    ]


def test_the_nearest_preset_comes_first():
    found = matches("mean", numbers_in(["0.4914", "0.4822", "0.4465"]))

    assert found[0].dataset == "cifar10"
    assert {p.dataset for p in found} == {"cifar10"}
