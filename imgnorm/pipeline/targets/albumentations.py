"""albumentations: JSON for `A.load` and `A.from_dict`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from imgnorm.pipeline.targets.target import Normalization, Target

_CLASS = "__class_fullname__"


def _render(numbers: Normalization) -> dict[str, Any]:
    values = {
        _CLASS: "Normalize",
        "p": 1.0,  # left out, it would be 0.5
        "mean": list(numbers.mean),
        "std": list(numbers.std),
        "max_pixel_value": float(numbers.scale),
        "normalization": "standard",
    }
    return {"imgnorm": numbers.note(), "transform": values}


def _placed(values: dict[str, Any], present: Mapping[str, Any]) -> Mapping[Any, Any]:
    """The values at the one Normalize of a pipeline that exists."""
    found = list(_normalizes(present.get("transform"), ("transform",)))
    if len(found) != 1:
        count = "more than one" if found else "no"
        raise ValueError(f"has {count} transform Normalize, where one takes the numbers")
    numbers = values["transform"]
    placed: dict[Any, Any] = {
        key: numbers[key] for key in ("mean", "std", "max_pixel_value", "normalization")
    }
    for step in reversed(found[0]):
        placed = {step: placed}
    return {**placed, "imgnorm": values["imgnorm"]}


def _normalizes(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if not isinstance(value, dict):
        return
    if str(value.get(_CLASS)).rpartition(".")[2] == "Normalize":
        yield path
    inside = value.get("transforms")
    for index, one in enumerate(inside if isinstance(inside, list) else ()):
        yield from _normalizes(one, (*path, "transforms", index))


ALBUMENTATIONS = Target(
    "albumentations",
    "albumentations",
    "albumentations.json",
    "transform: mean, std, max_pixel_value",
    _render,
    placed=_placed,
)
