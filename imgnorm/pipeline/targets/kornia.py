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
    return "\n".join([*numbers.comments(), "", *lines, ""])


KORNIA = Target("kornia", "kornia", "normalization.py", "normalize: mean, std", _render)
