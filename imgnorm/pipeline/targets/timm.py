"""timm: config.json, which `timm.create_model("local-dir:FOLDER")` and the Hub read."""

from __future__ import annotations

from typing import Any

from imgnorm.pipeline.targets.target import Normalization, Target


def _render(numbers: Normalization) -> dict[str, Any]:
    values = {"mean": list(numbers.mean), "std": list(numbers.std)}
    return {"imgnorm": numbers.note(), "pretrained_cfg": values}


TIMM = Target(
    "timm",
    "timm",
    "config.json",
    "pretrained_cfg.mean, std",
    _render,
    channels=(1, 3),
    kinds=(255,),
)
