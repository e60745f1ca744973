"""Stats or a pipeline config -> torchvision transforms, the same that an emitted module holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgnorm._torch import torchvision_module
from imgnorm.errors import TransformError
from imgnorm.pipeline.augmentations import Api
from imgnorm.pipeline.config import read_normalized
from imgnorm.pipeline.steps import Call, Member, Name, pipeline_steps, steps_of, usable_std
from imgnorm.stats.stats import Stats
from imgnorm.wording import clause

if TYPE_CHECKING:
    from torchvision.transforms import Compose  # type: ignore[import-untyped]


@dataclass(frozen=True)
class BuiltPipeline:
    """The transforms of a pipeline config, each from PIL image to normalized float32 tensor."""

    train: Compose  # with the augmentation
    eval: Compose


def build(path: str | os.PathLike[str], *, eps: float | None = None) -> BuiltPipeline:
    """The transforms that a pipeline config describes, in the API it chooses.

    Args:
        eps: the least std, for stats with a constant channel.

    Raises:
        SourceError: there is no such config, or it cannot be read.
        InvalidDocument: the config or its stats file has faults; all of them are in it.
        TransformError: v1 for 16-bit stats, a constant channel without eps, or an argument that
            torchvision refuses.
        MissingDependency: torchvision cannot be imported.
    """
    pipeline, stats = read_normalized(path)
    module = _transforms(pipeline.api)
    names = {"MEAN": list(stats.mean), "STD": list(usable_std(stats, eps))}
    train, evaluation = pipeline_steps(pipeline, stats)
    return BuiltPipeline(
        *(
            module.Compose([built_step(module, step, names) for step in steps])
            for steps in (train, evaluation)
        )
    )


def to_transform(stats: Stats, *, api: Api = "v1", eps: float | None = None) -> Compose:
    """A Compose from PIL image to normalized float32 tensor, (C, H, W); of float stats, from tensors.

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
    return module.Compose([built_step(module, step, names) for step in steps])


def to_inverse(stats: Stats, *, api: Api = "v1", eps: float | None = None) -> Any:
    """The Normalize that takes normalized float tensors, (..., C, H, W), back to [0, 1].

    Of float stats, which no transform scales, back to the unit of the data.

    Args:
        eps: as it was given to `to_transform`.

    Raises:
        TransformError: a constant channel without eps.
        MissingDependency: torchvision cannot be imported.
    """
    std = usable_std(stats, eps)
    return _transforms(api).Normalize(
        mean=[-m / s for m, s in zip(stats.mean, std, strict=True)], std=[1 / s for s in std]
    )


def built_step(module: Any, step: Call, names: dict[str, list[float]]) -> Any:
    """A step as torchvision's object.

    Raises:
        TransformError: torchvision refuses its arguments.
    """
    arguments = {key: _value(module, value, names) for key, value in step.arguments.items()}
    try:
        return getattr(module, step.name)(**arguments)
    except (TypeError, ValueError) as error:
        raise TransformError(
            f"{step.name}: torchvision refuses its arguments: {clause(error)}"
        ) from error


def _value(module: Any, value: Any, names: dict[str, list[float]]) -> Any:
    if value == Name("torch.float32"):
        import torch

        return torch.float32
    if isinstance(value, Name):
        return names[value]
    if isinstance(value, Member):
        return getattr(module, value.enum)(value.value)
    return value


def _transforms(api: Api) -> Any:
    return torchvision_module("transforms" if api == "v1" else "transforms.v2")
