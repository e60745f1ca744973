"""Keras 3: a Python module with a layer for images (N, H, W, C). It takes the variance."""

from __future__ import annotations

from decimal import Decimal

from imgnorm.pipeline.targets.target import Normalization, Target, list_lines


def _render(numbers: Normalization) -> str:
    variance = [float(Decimal(repr(std)) ** 2) for std in numbers.std]
    lines = [
        "import keras",
        "",
        "normalize = keras.layers.Normalization(",
        "    axis=-1,",
        *list_lines("    mean=", numbers.mean, ","),
        *list_lines("    variance=", variance, ","),
        ")",
    ]
    return "\n".join([*numbers.comments(), "", *lines, ""])


KERAS = Target("keras", "Keras", "normalization.py", "normalize: mean, variance", _render)
