"""The names and parameters of torchvision's transforms, known without importing torchvision.

The table is augmentations.json. `scripts/make_transform_table` makes it from torchvision itself.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Api = Literal["v1", "v2"]

TENSOR_STEPS: dict[str, tuple[str, ...]] = {"v1": ("ToTensor",), "v2": ("ToImage", "ToDtype")}
"""The steps from a PIL image to a float tensor, in order. A pipeline adds those that are not written."""
NORMALIZE = "Normalize"


@dataclass(frozen=True)
class Parameter:
    """An argument of a transform."""

    types: tuple[Any, ...]  # "integer", "number", …, {"list": …, "length": …}, {"choices": …}
    required: bool

    def accepts(self, value: object) -> bool:
        return any(_fits(value, kind) for kind in self.types)

    def expected(self) -> str:
        """Its types in words: `a whole number or a list of whole numbers`."""
        return " or ".join(_words(kind) for kind in self.types)

    @property
    def choices(self) -> list[str]:
        return [c for kind in self.types if isinstance(kind, dict) for c in kind.get("choices", [])]

    @property
    def enum(self) -> str | None:
        """The name of the torchvision enum that a text value is a member of."""
        enums = (kind.get("enum") for kind in self.types if isinstance(kind, dict))
        return next((name for name in enums if name), None)


@dataclass(frozen=True)
class Transform:
    """What a config has to know about a transform of torchvision."""

    takes: frozenset[str]  # the forms of image that it accepts: pil, uint8, float
    random: bool
    parameters: dict[str, Parameter]


@cache
def transforms_of(api: Api) -> dict[str, Transform]:
    """Every transform that takes plain values only, by torchvision's name."""
    return {name: _transform(row) for name, row in _table()[api].items()}


def left_out(api: Api) -> frozenset[str]:
    """torchvision's other transforms: they take functions, transforms or boxes, or return no image."""
    return frozenset(_table()["left_out"][api])


def schema_of(kind: Any) -> dict[str, Any]:
    """A type of the table as JSON Schema."""
    if isinstance(kind, str):
        return {"type": "string" if kind == "text" else kind}
    if "choices" in kind:
        return {"enum": kind["choices"]}
    length = {"minItems": kind["length"], "maxItems": kind["length"]} if "length" in kind else {}
    return {"type": "array", "items": schema_of(kind["list"]), **length}


@cache
def _table() -> dict[str, Any]:
    text = Path(__file__).with_name("augmentations.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def _transform(row: dict[str, Any]) -> Transform:
    parameters = {
        name: Parameter(tuple(entry["types"]), "default" not in entry)
        for name, entry in row["parameters"].items()
    }
    return Transform(frozenset(row["takes"]), row["random"], parameters)


def _fits(value: object, kind: Any) -> bool:
    if isinstance(kind, dict):
        if "choices" in kind:
            return isinstance(value, str) and value in kind["choices"]
        if not isinstance(value, list) or len(value) != kind.get("length", len(value)):
            return False
        return bool(value) and all(_fits(item, kind["list"]) for item in value)
    if kind == "null":
        return value is None
    if isinstance(value, bool):
        return bool(kind == "boolean")
    if kind == "integer":
        return isinstance(value, int)
    if kind == "number":
        return isinstance(value, (int, float)) and math.isfinite(value)
    return kind == "text" and isinstance(value, str)


def _words(kind: Any) -> str:
    if isinstance(kind, str):
        return {
            "integer": "a whole number",
            "number": "a number",
            "boolean": "true or false",
            "text": "text",
            "null": "null",
        }[kind]
    if "choices" in kind:
        several = "one of " if len(kind["choices"]) > 1 else ""
        return several + ", ".join(repr(choice) for choice in kind["choices"])
    items = {"integer": "whole numbers", "number": "numbers"}[kind["list"]]
    return f"a list of {kind['length']} {items}" if "length" in kind else f"a list of {items}"
