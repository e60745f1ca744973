"""open_clip: open_clip_config.json. Its images are RGB always: gray ones have three equal channels."""

from __future__ import annotations

from typing import Any

from imgnorm.pipeline.targets.target import Normalization, Target


def _render(numbers: Normalization) -> dict[str, Any]:
    times = 3 if numbers.gray else 1
    values = {"mean": list(numbers.mean * times), "std": list(numbers.std * times)}
    return {"imgnorm": numbers.note(), "preprocess_cfg": values}


OPEN_CLIP = Target(
    "open_clip",
    "open_clip",
    "open_clip_config.json",
    "preprocess_cfg.mean, std",
    _render,
    channels=(1, 3),
    kinds=(255,),
)
