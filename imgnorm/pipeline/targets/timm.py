"""timm: config.json, which `timm.create_model("local-dir:FOLDER")` and the Hub read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgnorm.pipeline.targets.target import Normalization, Target


def _render(numbers: Normalization) -> dict[str, Any]:
    values = {"mean": list(numbers.mean), "std": list(numbers.std)}
    return {"imgnorm": numbers.note(), "pretrained_cfg": values}


def _placed(values: dict[str, Any], present: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without `pretrained_cfg` timm takes the whole file for it, and allows no key that it does not know."""
    flat = not {"architecture", "mean", "std"}.isdisjoint(present)
    return values["pretrained_cfg"] if flat and "pretrained_cfg" not in present else values


TIMM = Target(
    "timm",
    "timm",
    "config.json",
    "pretrained_cfg.mean, std",
    _render,
    channels=(1, 3),
    kinds=(255,),
    placed=_placed,
)
