"""What a user's object reports about itself: its length, its labels, the paths of its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any


def ref_of(source: Any) -> str:
    """An object's name in messages and stats files: its class, and its length if it has one."""
    name = getattr(source, "__name__", None) if isinstance(source, Iterator) else None
    kind = type(source).__name__
    length = length_of(source)
    return (f"{kind} {name}" if name else kind) + (f"[{length}]" if length is not None else "")


def length_of(source: Any) -> int | None:
    try:
        return len(source)
    except Exception:  # noqa: BLE001 - it has none, or the user's code failed, which may raise anything
        return None


def classes_of(dataset: Any) -> list[str | None] | None:
    """The name of each item's class; None where it has none, or all of them have none."""
    labels, names = _labels_of(dataset), getattr(dataset, "classes", None)
    if labels is None or not isinstance(names, (list, tuple)):
        return None
    texts = [str(name) for name in names]
    return [texts[label] if 0 <= label < len(texts) else None for label in labels]


def _labels_of(dataset: Any) -> list[int] | None:
    """The label of each item; None where it has none, or they are not numbers (boxes, masks)."""
    for attribute in ("targets", "labels"):
        labels = getattr(dataset, attribute, None)
        if labels is None:
            continue
        try:
            if len(labels) == len(dataset):
                return [int(label) for label in labels]
        except (TypeError, ValueError, RuntimeError):
            return None
    return None


def paths_of(dataset: Any, size: int) -> dict[str, int] | None:
    """Relative path -> index, if a dataset of that size lists its files in `samples` or `imgs`."""
    samples = getattr(dataset, "samples", None) or getattr(dataset, "imgs", None)
    root = getattr(dataset, "root", None)
    if not isinstance(samples, (list, tuple)) or len(samples) != size or not root:
        return None
    paths: dict[str, int] = {}
    for index, sample in enumerate(samples):
        path = sample[0] if isinstance(sample, (tuple, list)) and sample else sample
        if not isinstance(path, (str, os.PathLike)):
            return None
        name = os.path.relpath(path, root).replace(os.sep, "/")
        if name.startswith("../"):
            return None
        paths[name] = index
    return paths if len(paths) == size else None
