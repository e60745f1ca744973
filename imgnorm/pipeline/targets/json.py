"""JSON for programs of one's own."""

from __future__ import annotations

from typing import Any

from imgnorm.pipeline.targets.target import Normalization, Target


def _render(numbers: Normalization) -> dict[str, Any]:
    return {
        "imgnorm": numbers.note(),
        "mean": list(numbers.mean),
        "std": list(numbers.std),
        "unit": numbers.unit,
        "scale": numbers.scale,
        "channel_order": numbers.order,
    }


JSON = Target(
    "json", "imgnorm", "normalization.json", "mean, std, unit, scale, channel_order", _render
)
