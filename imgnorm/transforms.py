"""Stats or a pipeline config -> torchvision transforms, the same that an emitted module holds; and the
two normalizations that need no dataset.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from imgnorm.augmentations import Api
from imgnorm.config import read_normalized
from imgnorm.emit import Call, Member, Name, pipeline_steps, steps_of, usable_std
from imgnorm.errors import TransformError
from imgnorm.stats import Stats
from imgnorm.torchvision_pair import torchvision_module

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
            module.Compose([called(module, step, names) for step in steps])
            for steps in (train, evaluation)
        )
    )


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
    return module.Compose([called(module, step, names) for step in steps])


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


class PerImageStandardize(nn.Module):
    """Each image minus its own mean, over its own std, both over all its channels and pixels.

    This is `tf.image.per_image_standardization`, not what `Normalize` does: brightness and contrast
    of the image are removed, so what tells images apart by them is lost, and no dataset statistics
    are needed. For each channel by itself there is torch.nn.InstanceNorm2d. Takes float images,
    (..., C, H, W); the arithmetic is in float32 or wider.

    Args:
        eps: the least std to divide by, so that a constant image becomes 0 everywhere.

    Example:
        >>> PerImageStandardize()(torch.tensor([[[0.0, 0.5, 1.0, 0.5]]]))
        tensor([[[-1.4142,  0.0000,  1.4142,  0.0000]]])
    """

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = _positive("eps", eps)

    def forward(self, images: Tensor) -> Tensor:
        values = _wide(images)
        if values.ndim < 3:
            raise ValueError(
                f"images have the shape {tuple(images.shape)}; PerImageStandardize takes (..., C, H, W)"
            )
        std, mean = torch.std_mean(values, dim=(-3, -2, -1), correction=0, keepdim=True)
        return values.sub(mean).div(std.clamp_min(self.eps)).to(images.dtype)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"


class LpNormalize(nn.Module):
    """Each vector along `dim` divided by its own p-norm: `torch.nn.functional.normalize` as a transform.

    Nothing is subtracted, and the result has norm 1, not mean 0 and std 1: this is for embeddings and
    directions, and is what the name `normalize` in torch misleads to. The arithmetic is in float32
    or wider, so that neither eps nor the norm leaves the range of float16.

    Args:
        p: of the norm, above 0; `inf` for the largest value.
        dim: the dimensions of one vector. The default is the channels of (..., C, H, W); torch's
            own default, 1, would be the rows of a (C, H, W) image.
        eps: the least norm to divide by, so that a vector of zeros stays 0.

    Example:
        >>> LpNormalize(dim=0)(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """

    def __init__(self, p: float = 2.0, dim: int | Sequence[int] = -3, eps: float = 1e-12) -> None:
        super().__init__()
        self.p = _positive("p", p)
        self.dim = dim if isinstance(dim, int) else tuple(dim)
        self.eps = _positive("eps", eps)

    def forward(self, values: Tensor) -> Tensor:
        wide = _wide(values)
        norm = torch.linalg.vector_norm(wide, self.p, self.dim, keepdim=True)
        return wide.div(norm.clamp_min(self.eps)).to(values.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p}, dim={self.dim}, eps={self.eps}"


def _positive(what: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{what} is {value!r}; it must be above 0")
    return value


def _wide(values: Tensor) -> Tensor:
    if not values.is_floating_point():
        raise TypeError(f"the dtype is {values.dtype}; convert to floats first, as ToTensor does")
    return values.to(torch.promote_types(values.dtype, torch.float32))


def called(module: Any, step: Call, names: dict[str, list[float]]) -> Any:
    """A step as torchvision's object.

    Raises:
        TransformError: torchvision refuses its arguments.
    """
    arguments = {key: _value(module, value, names) for key, value in step.arguments.items()}
    try:
        return getattr(module, step.name)(**arguments)
    except (TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise TransformError(f"{step.name}: torchvision refuses its arguments: {said}") from error


def _value(module: Any, value: Any, names: dict[str, list[float]]) -> Any:
    if value == Name("torch.float32"):
        return torch.float32
    if isinstance(value, Name):
        return names[value]
    if isinstance(value, Member):
        return getattr(module, value.enum)(value.value)
    return value


def _transforms(api: Api) -> Any:
    return torchvision_module("transforms" if api == "v1" else "transforms.v2")
