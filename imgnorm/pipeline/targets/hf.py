"""Hugging Face: preprocessor_config.json of an image processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgnorm.pipeline.targets.target import Normalization, Target


def _render(numbers: Normalization) -> dict[str, Any]:
    scaled = numbers.scale > 1
    return {
        "imgnorm": numbers.note(),
        "do_rescale": scaled,
        **({"rescale_factor": 1 / numbers.scale} if scaled else {}),
        "do_normalize": True,
        "image_mean": list(numbers.mean),
        "image_std": list(numbers.std),
    }


def _placed(values: dict[str, Any], present: Mapping[str, Any]) -> Mapping[str, Any]:
    """In a processor_config.json the image processor has an object of its own, which is read first."""
    return {"image_processor": values} if "image_processor" in present else values


HF = Target(
    "hf",
    "Hugging Face",
    "preprocessor_config.json",
    "image_mean, image_std, rescale_factor",
    _render,
    placed=_placed,
)
