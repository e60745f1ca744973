"""Normalizations of one image by itself, without a dataset, which are also called "normalize"."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PerImageStandardize(nn.Module):
    """Each image minus its own mean, divided by its own std, both over all its channels and pixels.

    This is `tf.image.per_image_standardization`, not what `Normalize` does: it needs no statistics of
    a dataset, and it removes brightness and contrast, so images that differ only in these become
    equal. torch.nn.InstanceNorm2d does the same for each channel by itself. Takes float images,
    (..., C, H, W); the arithmetic is in float32 or wider.

    Args:
        eps: the least std to divide by, so that a constant image becomes 0 everywhere.

    Example:
        >>> import torch
        >>> imgnorm.nn.PerImageStandardize()(torch.tensor([[[0.0, 0.5, 1.0, 0.5]]]))
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

    Nothing is subtracted, and the result has norm 1, not mean 0 and std 1. It is meant for embeddings
    and directions; do not take it for `Normalize`. Takes floats of any shape. The arithmetic is in
    float32 or wider, so that neither eps nor the norm leaves the range of float16.

    Args:
        p: of the norm, above 0; `inf` for the largest absolute value.
        dim: the dimensions of one vector. The default is the channels of (..., C, H, W); torch's
            own default, 1, would be the rows of a (C, H, W) image.
        eps: the least norm to divide by, so that a vector of zeros stays 0.

    Example:
        >>> import torch
        >>> imgnorm.nn.LpNormalize(dim=0)(torch.tensor([3.0, 4.0]))
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
    if not isinstance(values, Tensor):
        raise TypeError(f"got a {type(values).__name__}; put ToTensor in front of this transform")
    if not values.is_floating_point():
        raise TypeError(f"the dtype is {values.dtype}; convert to floats first, as ToTensor does")
    return values.to(torch.promote_types(values.dtype, torch.float32))
