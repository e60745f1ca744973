"""What the names of variables, keywords and keys say about the numbers that they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from imgnorm.constants.presets import dataset_key

_MEAN = {"mean", "means"}
_STD = {"std", "stds", "stdev", "stddev", "stdv"}
_PIXELS = {"image", "images", "img", "imgs", "pixel", "pixels", "rgb", "bgr"}
_FILLERS = {"default", "train", "training", "dataset", "data", "norm", "normalize", "stats", "the"}
"""Words of a name that are not part of a dataset's name."""
_CAMEL = re.compile(r"([a-z0-9])([A-Z])")


@dataclass(frozen=True)
class Named:
    """What the name of a variable, a keyword or a key says."""

    role: str  # mean or std
    stem: str  # the rest of the name, which is the same for a mean and its std
    pixels: bool  # whether it speaks of pixels, or of a dataset of images
    dataset: str | None


def named(name: str) -> Named | None:
    """`CIFAR10_MEAN` -> a mean of cifar10; None if the name has no word for mean or std, or several."""
    if len(name) > 80:
        return None
    words = words_of(name)
    roles = [word for word in words if word in _MEAN or word in _STD]
    if len(roles) != 1:
        return None
    role = "mean" if roles[0] in _MEAN else "std"
    rest = [word for word in words if word != roles[0]]
    pixels, dataset = pixels_and_dataset(rest)
    return Named(role, "_".join(rest), pixels, dataset)


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: `pixelMean` and `PIXEL_MEAN` -> pixel, mean."""
    return [word for word in re.split(r"[^a-z0-9]+", _CAMEL.sub(r"\1_\2", name).lower()) if word]


def pixels_and_dataset(words: Iterable[str]) -> tuple[bool, str | None]:
    """Whether words speak of pixels, and which dataset they name."""
    listed = list(words)
    dataset = dataset_key("".join(word for word in listed if word not in _FILLERS))
    return dataset is not None or not _PIXELS.isdisjoint(listed), dataset
