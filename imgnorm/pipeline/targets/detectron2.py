"""Detectron2: a YAML config for `cfg.merge_from_file`. Its images have 8 bits, and are BGR by default."""

from __future__ import annotations

from imgnorm.pipeline.targets.target import Normalization, Target, list_lines

_FORMATS = {"gray": "L", "BGR": "BGR", "RGBA": "RGBA"}


def _render(numbers: Normalization) -> str:
    lines = [
        "MODEL:",
        *list_lines("  PIXEL_MEAN: ", numbers.mean),
        *list_lines("  PIXEL_STD: ", numbers.std),
    ]
    image = _FORMATS.get(numbers.order)
    lines += ["INPUT:", f"  FORMAT: {image}"] if image else []
    return "\n".join([*numbers.comments(), *lines, ""])


DETECTRON2 = Target(
    "detectron2",
    "Detectron2",
    "normalization.yaml",
    "MODEL.PIXEL_MEAN, PIXEL_STD, INPUT.FORMAT",
    _render,
    channels=(1, 3, 4),
    kinds=(255,),
)
