"""What the names of variables, keywords, keys and folders say about numbers and datasets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from imgnorm.checks.lint.pair import Spread
from imgnorm.constants.presets import PRESETS, dataset_key

_MEAN = {"mean", "means"}
_STD = {"std", "stds", "stdev", "stddev", "stdv"}
_OTHER_MEAN = {"mu", "mus", "offset", "subtrahend"}
_OTHER_STD: dict[str, tuple[set[str], Spread]] = {
    "sigma": ({"mu", "mus", "mean", "means"}, "std"),
    "sigmas": ({"mu", "mus", "mean", "means"}, "std"),
    "scale": ({"offset", "mean", "means"}, "std"),
    "divisor": ({"subtrahend", "mean"}, "std"),
    "variance": ({"mean", "means"}, "variance"),
    "var": ({"mean", "means"}, "variance"),
    "norm": ({"mean", "means"}, "1/std"),  # ncnn's norm_vals
}
"""Words for a std that mean other things too: the words for a mean that they go with, and what they hold."""
_PIXELS = {"image", "images", "img", "imgs", "pixel", "pixels", "rgb", "bgr"}
_FILLERS = {"default", "train", "training", "dataset", "data", "norm", "normalize", "stats", "the"}
"""Words of a name that are not part of a dataset's name."""
_CAMEL = re.compile(r"([a-z0-9])([A-Z])")
_PARTS = re.compile(r"[a-z]+|[0-9]+")
_SUBSETS = {
    "mini", "tiny", "restricted", "custom", "subset", "sketch", "colored", "moving", "permuted", "rotated",
    "a", "c", "e", "k", "o", "p", "q", "r", "v", "style", "lt", "like", "binary", "small",
}  # fmt: skip
"""Words that make another dataset of the one whose name stands beside them: mini-imagenet, cifar10-c."""
_WEIGHTS = {p.dataset for p in PRESETS.values() if p.for_weights} - {"imagenet", "kinetics"}


@dataclass(frozen=True)
class Named:
    """What the name of a variable, a keyword or a key says."""

    name: str
    role: Literal["mean", "std"]
    word: str  # which of the words for it: stddev
    stem: str  # the rest of the name, which is the same for a mean and its std
    pixels: bool  # whether it speaks of pixels, or of a dataset of images
    dataset: str | None


def named(name: str) -> Named | None:
    """`CIFAR10_MEAN` -> a mean of cifar10; None if the name has no word for mean or std, or several."""
    if len(name) > 80:
        return None
    words = words_of(name)
    for means, stds in ((_MEAN, _STD), (_OTHER_MEAN, _OTHER_STD)):
        roles = [word for word in words if word in means or word in stds]
        if len(roles) > 1:
            return None
        if roles:
            rest = [word for word in words if word != roles[0]]
            pixels, dataset = pixels_and_dataset(rest)
            role: Literal["mean", "std"] = "mean" if roles[0] in means else "std"
            return Named(name, role, roles[0], "_".join(rest), pixels, dataset)
    return None


def spread_of(mean: Named, std: Named) -> Spread | None:
    """What the values called `std` hold beside this mean; None if the two are not used together."""
    if std.word in _STD:
        return "std" if mean.word in _MEAN else None
    means, spread = _OTHER_STD[std.word]
    return spread if mean.word in means else None


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: `pixelMean` and `PIXEL_MEAN` -> pixel, mean."""
    return [word for word in re.split(r"[^a-z0-9]+", _CAMEL.sub(r"\1_\2", name).lower()) if word]


def pixels_and_dataset(words: Iterable[str]) -> tuple[bool, str | None]:
    """Whether words speak of pixels, and which dataset they name."""
    listed = list(words)
    dataset = dataset_key("".join(word for word in listed if word not in _FILLERS))
    return dataset is not None or not _PIXELS.isdisjoint(listed), dataset


def dataset_in(text: str) -> str | None:
    """The dataset that a longer name contains: `train_cifar10.py`, `./data/tiny-imagenet-200/train`.

    None if it contains none, two, or a variant of one (`mini-imagenet`).
    """
    parts = _PARTS.findall(text.lower()[:400])
    found: set[str] = set()
    start = 0
    while start < len(parts):
        for end in range(min(len(parts), start + 4), start, -1):
            key = dataset_key("".join(parts[start:end]))
            if key and key not in _WEIGHTS:
                around = {parts[start - 1] if start else "", *parts[end : end + 1]}
                digits = end < len(parts) and parts[end].isdigit() and key.isalpha()
                if around & _SUBSETS or digits:  # imagenet100 is not ImageNet
                    return None
                found.add(key)
                start = end - 1
                break
        start += 1
    return found.pop() if len(found) == 1 else None
