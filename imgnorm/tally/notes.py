"""What was lost on the way of images that are counted: numbers by kind, which add up in any order.

A kind is a text: one of the constants below, or one of them with a word after it (`SPLIT + " train"`).
What each means to a user is in stats/notes.py.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

FRAMES = "frames"  # files with more frames or pages than the first, the only one that is counted
FURTHER_FRAMES = "further-frames"  # those that are not counted
DEPTH = "depth"  # more than 8 bits a channel in the file, 8 in the pixels
ALPHA = "alpha"  # transparency that the mode has no channel for
ROTATION = "rotation"  # an EXIF orientation that is not applied
SPLIT = "split"  # in a folder or archive named after a split: train, val, test
MASK = "mask"  # in a folder named like masks or labels
MASK_LIKE = "mask-like"  # those of them that have a gray or palette mode, or few colors
NO_MASK = "no-mask"  # in a folder for what has no mask: then those with one are a class of images
THUMBNAIL = "thumbnail"  # in a folder named like thumbnails

FEW_COLORS = 32
EXAMPLES = 3

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # train_masks, SegmentationClass, val2017
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_BESIDE_A_SPLIT = {
    "data",
    "image",
    "images",
    "img",
    "imgs",
    "set",
    "split",
    "tar",
    "tgz",
    "gz",
    "zip",
}
_MASKS = {
    *("mask", "masks", "label", "labels", "annotation", "annotations", "gt", "groundtruth"),
    *("segmentation", "segmentations", "seg", "trimap", "trimaps", "instance", "instances"),
    *("semantic", "panoptic", "depth", "disparity"),
}
_NO_MASK = re.compile(
    r"(?<![a-z])(?:no|non|not|un|without)[ _-]?mask(?:s|ed)?(?![a-z])", re.IGNORECASE
)
_THUMBNAILS = {"thumb", "thumbs", "thumbnail", "thumbnails"}


@dataclass(frozen=True)
class Noted:
    """The images of one kind."""

    images: int
    examples: tuple[str, ...] = ()  # the first names of them, in the order of the texts

    def __add__(self, other: Noted) -> Noted:
        names = tuple(sorted({*self.examples, *other.examples})[:EXAMPLES])
        return Noted(self.images + other.images, names)


class NoteCounter:
    """Counts the images of each kind, and keeps their first names."""

    def __init__(self) -> None:
        self._images: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, kind: str, name: str, images: int = 1) -> None:
        self._images[kind] += images
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES or name < examples[-1]:
            self._examples[kind] = sorted({*examples, name})[:EXAMPLES]

    def notes(self) -> dict[str, Noted]:
        return {
            kind: Noted(images, tuple(self._examples[kind]))
            for kind, images in self._images.items()
        }


@lru_cache(1 << 12)
def kinds_of_folder(folder: str) -> tuple[str, ...]:
    """The kinds that the path of a folder tells, with '/': at most one of them for each part of the path."""
    return tuple({kind: None for part in folder.split("/") if (kind := kind_of_name(part))})


def kind_of_name(name: str) -> str | None:
    """The kind that the name of one folder or archive tells."""
    if _NO_MASK.search(name):
        return NO_MASK
    words = {word.lower() for word in _WORD.findall(name)}
    if words & _MASKS:
        return MASK
    if words & _THUMBNAILS and words <= {*_THUMBNAILS, *_SPLITS, *_BESIDE_A_SPLIT}:
        return THUMBNAIL  # thumbs_up is a class
    splits = {_SPLITS[word] for word in words if word in _SPLITS}
    if len(splits) == 1 and words <= {*_SPLITS, *_BESIDE_A_SPLIT}:
        return f"{SPLIT} {splits.pop()}"
    return None
