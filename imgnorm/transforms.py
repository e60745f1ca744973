"""Stats -> torchvision transforms, the same that an emitted module holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgnorm.emit import Api, Call, steps_of, usable_std
from imgnorm.stats import Stats
from imgnorm.torchvision_pair import torchvision_module

if TYPE_CHECKING:
    from torchvision.transforms import Compose  # type: ignore[import-untyped]


def to_transform(stats: Stats, *, api: Api = "v1", eps: float | None = None) -> Compose:
    """A Compose from PIL image to normalized float32 tensor, (C, H, W).

    v1 is Compose([ToTensor(), Normalize(mean, std)]), v2 is Compose([ToImage(), ToDtype(float32,
    scale=True), Normalize(mean, std)]); what was measured through Resize or CenterCrop has the same
    steps in front.

    Args:
        eps: the least std, for stats with a constant channel.

    Raises:
        TransformError: v1 for 16-bit stats, or a constant channel without eps.
        MissingDependency: torchvision cannot be imported.
    """
    steps = steps_of(stats, api)
    std = usable_std(stats, eps)
    module = _transforms(api)
    names = {"MEAN": list(stats.mean), "STD": list(std)}
    return module.Compose([_called(module, step, names) for step in steps])


def to_inverse(stats: Stats, *, api: Api = "v1", eps: float | None = None) -> Any:
    """The Normalize that takes normalized tensors back to [0, 1].

    Raises:
        TransformError: a constant channel without eps.
        MissingDependency: torchvision cannot be imported.
    """
    std = usable_std(stats, eps)
    return _transforms(api).Normalize(
        mean=[-m / s for m, s in zip(stats.mean, std, strict=True)], std=[1 / s for s in std]
    )


def _called(module: Any, step: Call, names: dict[str, list[float]]) -> Any:
    arguments: dict[str, Any] = dict(step.arguments)
    for key, value in arguments.items():
        if value == "torch.float32":
            import torch

            arguments[key] = torch.float32
        elif isinstance(value, str):
            arguments[key] = names[value]
    return getattr(module, step.name)(**arguments)


def _transforms(api: Api) -> Any:
    return torchvision_module("transforms" if api == "v1" else "transforms.v2")
