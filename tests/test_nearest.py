"""Suggestions: what was meant, whatever its case and dashes, and nothing where nothing is near."""

from __future__ import annotations

import pytest

from imgnorm.wording import nearest

KNOWN = ("RandomHorizontalFlip", "RandomVerticalFlip", "Resize", "center_crop")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("RandomHorizontallFlip", ["RandomHorizontalFlip"]),
        ("resise", ["Resize"]),
        ("Center-Crop", ["center_crop"]),
        ("xyz", []),
        ("", []),
    ],
)
def test_the_nearest_name_is_found(word, meant):
    assert meant == nearest(word, KNOWN)


def test_a_name_that_differs_in_case_and_dashes_only_is_alone():
    assert ["cifar-10"] == nearest("CIFAR_10", ["cifar-100", "cifar-10", "cifar-11"], at_most=3)


def test_several_come_the_nearest_first():
    assert ["cifar-10", "cifar-100"] == nearest("cifar-1", ["cifar-100", "cifar-10"], at_most=3)
