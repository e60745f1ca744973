"""Stats or a pipeline config -> torchvision transforms, the same as in an emitted module."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgnorm._torch import torchvision_module
from imgnorm.errors import TransformError
from imgnorm.pipeline.augmentations import Api
from imgnorm.pipeline.config import read_normalized
from imgnorm.pipeline.steps import (
    Call,
    Member,
    Name,
    default_api,
    pipeline_steps,
    steps_of,
    usable_std,
)
from imgnorm.stats.stats import Stats
from imgnorm.wording import clause

if TYPE_CHECKING:
    from torchvision.transforms import Compose


@dataclass(frozen=True)
class BuiltPipeline:
    """The transforms of a pipeline config, as `imgnorm.build` makes them.

    Each turns a PIL image into a normalized float32 tensor, (C, H, W).

    Example:
        >>> from PIL import Image
        >>> built = imgnorm.build("configs/imagenet.yaml")
        >>> built.eval(Image.new("RGB", (500, 375))).shape
        torch.Size([3, 224, 224])
    """

    train: Compose  # with the augmentation
    eval: Compose


def build(path: str | os.PathLike[str], *, eps: float | None = None) -> BuiltPipeline:
    """The train and the eval transform that a pipeline config describes, in the API that it chooses.

    Args:
        eps: the least std to divide by, in (0, 1]; needed if a channel is constant.

    Raises:
        SourceError: the config does not exist or cannot be read.
        InvalidDocument: the config or its stats file has faults; the error holds all of them.
        TransformError: v1 for 16-bit stats, a constant channel without eps, an eps that is not in
            (0, 1], or an argument that torchvision refuses.
        MissingDependency: torchvision cannot be imported.

    Example:
        >>> built = imgnorm.build("configs/cifar10.yaml")
        >>> [type(step).__name__ for step in built.train.transforms]
        ['RandomCrop', 'RandomHorizontalFlip', 'ToTensor', 'Normalize']
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


def to_transform(stats: Stats, *, api: Api | None = None, eps: float | None = None) -> Compose:
    """A Compose that turns a PIL image into a normalized float32 tensor, (C, H, W).

    With v1 it is Compose([ToTensor(), Normalize(mean, std)]), with v2 Compose([ToImage(),
    ToDtype(float32, scale=True), Normalize(mean, std)]). Before these come the Resize and CenterCrop
    that the images were measured with, and Grayscale if the mode is L, or if gray images were measured as RGB.

    For float stats it is Normalize alone: it takes float tensors, (..., C, H, W), in the data's unit.

    Args:
        api: "v1" is torchvision.transforms, "v2" is torchvision.transforms.v2; None: v1, and v2 for
            16-bit stats, which v1 cannot scale.
        eps: the least std to divide by, in (0, 1]; needed if a channel is constant.

    Raises:
        TransformError: v1 for 16-bit stats, a constant channel without eps, or an eps that is not in
            (0, 1].
        MissingDependency: torchvision cannot be imported.

    Example:
        >>> from PIL import Image
        >>> stats = imgnorm.read_stats("configs/stats/shapes.yaml")  # Resize(64), CenterCrop(56)
        >>> transform = imgnorm.to_transform(stats)
        >>> transform(Image.new("RGB", (200, 100))).shape
        torch.Size([3, 56, 56])
    """
    api = api or default_api(stats)
    steps = steps_of(stats, api)
    std = usable_std(stats, eps)
    module = _transforms(api)
    names = {"MEAN": list(stats.mean), "STD": list(std)}
    return module.Compose([built_step(module, step, names) for step in steps])


def to_inverse(stats: Stats, *, api: Api | None = None, eps: float | None = None) -> Any:
    """The Normalize that takes normalized float tensors, (..., C, H, W), back to [0, 1].

    With float stats it takes them back to the unit of the data.

    Args:
        api: "v1" is torchvision.transforms, "v2" is torchvision.transforms.v2; None: v1, and v2 for
            16-bit stats, which v1 cannot scale.
        eps: the same as for `to_transform`.

    Raises:
        TransformError: a constant channel without eps, or an eps that is not in (0, 1].
        MissingDependency: torchvision cannot be imported.

    Example:
        >>> from PIL import Image
        >>> stats = imgnorm.read_stats("configs/stats/shapes.yaml")
        >>> normalized = imgnorm.to_transform(stats)(Image.new("RGB", (64, 64), (255, 128, 0)))
        >>> image = imgnorm.to_inverse(stats)(normalized)
        >>> (255 * image[:, 0, 0]).round().int().tolist()
        [255, 128, 0]
    """
    std = usable_std(stats, eps)
    return _transforms(api or default_api(stats)).Normalize(
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
