"""kornia: a Python module with `normalize`, for tensors (N, C, H, W)."""

from __future__ import annotations

from imgnorm.pipeline.targets.target import Normalization, Target, list_lines


def _render(numbers: Normalization) -> str:
    lines = [
        "import torch",
        "from kornia.enhance import Normalize",
        "",
        "normalize = Normalize(",
        *list_lines("    mean=torch.tensor(", numbers.mean, "),"),
        *list_lines("    std=torch.tensor(", numbers.std, "),"),
        ")",
    ]
    divided = f"In 0..1: pixels divided by {numbers.scale}."
    more = [divided] if numbers.scale > 1 else []
    return "\n".join([*numbers.comments(*more), "", *lines, ""])


KORNIA = Target("kornia", "kornia", "normalization.py", "normalize: mean, std", _render)
