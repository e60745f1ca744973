"""Dataset normalization as a layer of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
import torch.fx
from torch import Tensor, nn

from imgnorm.errors import TransformError
from imgnorm.pipeline.steps import usable_std
from imgnorm.stats.stats import Stats


class InputNorm(nn.Module):
    """(x − mean) / std per channel, with mean and std as buffers.

    Takes uint8 images, uint16 images (65535 means 1.0) or float images in [0, 1], (N, C, H, W) or
    (C, H, W). For uint8 images the result is, bit for bit, that of ToTensor and Normalize. Train and
    eval mode are the same, and the layer has no parameters.

    The buffers are float32 or wider and stay so, and with them the arithmetic: `half()`, `bfloat16()`
    and `to(dtype)` of the layer, or of a model that it is in, decide only the dtype of the result for
    integers. Float images keep their own dtype.

    It is traced by torch.fx and scripted by TorchScript, as one operation. What comes out is a program
    with plain buffers, which `half()` rounds; convert the model first.

    Args:
        mean: one number per channel, in [0, 1].
        std: one number per channel, above 0.
        device: of the buffers; None: torch's default.
        dtype: of the result for integers; None: torch's default.

    Raises:
        ValueError: mean and std are not finite, differ in length, or a std is not above 0.

    Example:
        >>> import torch
        >>> images = torch.tensor([[[0, 255]]], dtype=torch.uint8)  # (C, H, W)
        >>> imgnorm.nn.InputNorm([0.5], [0.25])(images)
        tensor([[[-2.,  2.]]])
    """

    if TYPE_CHECKING:  # TorchScript cannot read annotations that are text
        mean: Tensor
        std: Tensor
        _result: Tensor  # empty; its dtype is that of the result for integers

    def __init__(
        self,
        mean: Iterable[float],
        std: Iterable[float],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        means, stds = _numbers("mean", mean), _numbers("std", std)
        if len(means) != len(stds) or not means:
            raise ValueError(
                f"mean has {len(means)} numbers and std has {len(stds)}; give one per channel to each"
            )
        if min(stds) <= 0:
            raise ValueError(f"std is {stds}; every channel's must be above 0")
        result = torch.empty(0, device=device, dtype=dtype)
        exact = torch.promote_types(result.dtype, torch.float32)
        self.register_buffer("mean", torch.tensor(means, device=device, dtype=exact))
        self.register_buffer("std", torch.tensor(stds, device=device, dtype=exact))
        self.register_buffer("_result", result, persistent=False)

    @classmethod
    def of(
        cls,
        stats: Stats,
        *,
        eps: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> InputNorm:
        """The layer for a dataset.

        Args:
            eps: the least std, for stats with a constant channel.

        Raises:
            TransformError: a channel is constant, and eps is None.
        """
        return cls(stats.mean, usable_std(stats, eps), device=device, dtype=dtype)

    def forward(self, images: Tensor) -> Tensor:
        return _normalized(images, self.mean, self.std, self._result)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InputNorm:
        exact = {"mean": self.mean, "std": self.std}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in exact.items():
            new = self.get_buffer(name)
            if torch.promote_types(new.dtype, torch.float32) != new.dtype:
                self.register_buffer(name, old.to(new.device))
        return self

    def inverse(self) -> InputNorm:
        """The layer that takes normalized float images back to [0, 1]."""
        mean, std = self.mean.double(), self.std.double()
        return InputNorm(
            (-mean / std).tolist(),
            (1 / std).tolist(),
            device=self.mean.device,
            dtype=self._result.dtype,
        )

    def extra_repr(self) -> str:
        return f"mean={_four(self.mean)}, std={_four(self.std)}"


def to_batchnorm(
    stats: Stats, *, eps: float = 1e-5, dtype: torch.dtype | None = None
) -> nn.BatchNorm2d:
    """A BatchNorm2d(affine=False) in eval mode that normalizes with the dataset's mean and std.

    BatchNorm divides by sqrt(running_var + eps), so running_var is the variance minus eps. It takes
    only float images (N, C, H, W) in [0, 1], and after `model.train()` it normalizes with the batch
    instead. `InputNorm` has neither limit.

    Raises:
        TransformError: a channel's variance is below eps.
        ValueError: eps is negative or not finite.

    Example:
        >>> import torch
        >>> layer = imgnorm.nn.to_batchnorm(imgnorm.Stats(("L",), mean=(0.5,), std=(0.25,)))
        >>> layer(torch.ones(1, 1, 1, 1)).item()
        2.0
    """
    if not (eps >= 0 and math.isfinite(eps)):
        raise ValueError(f"eps is {eps!r}; it must be 0 or a positive number")
    variance = [std * std for std in stats.std]
    low = [name for name, v in zip(stats.channels, variance, strict=True) if v < eps]
    if low:
        raise TransformError(
            f"channel {', '.join(low)}: the variance is {min(variance):.3g}, below eps {eps:.3g}, so "
            "running_var would be negative; give a smaller eps, or use InputNorm"
        )
    if min(variance, default=0) == 0:
        usable_std(stats, None)  # raises, and names the constant channel
    layer = nn.BatchNorm2d(len(stats.mean), eps=eps, affine=False, dtype=dtype).eval()
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(torch.tensor(stats.mean, dtype=torch.float64))
    layer.running_var.copy_(torch.tensor(variance, dtype=torch.float64) - eps)
    return layer


def _numbers(what: str, values: Iterable[float]) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except TypeError as error:
        raise TypeError(f"{what} is {values!r}; give a sequence of numbers") from error
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{what} is {numbers}; every number must be finite")
    return numbers


def _normalized(images: Tensor, mean: Tensor, std: Tensor, result: Tensor) -> Tensor:
    """A function without annotations or names that TorchScript does not know: it compiles this, too."""
    if not torch.jit.is_scripting():
        _check(images, len(mean))
    elif images.ndim not in (3, 4) or images.shape[-3] != len(mean):
        raise ValueError(f"images have the shape {images.shape}, mean and std have {len(mean)}")
    dtype = images.dtype if images.is_floating_point() else result.dtype
    wide = torch.float32
    if mean.dtype == torch.float64 or dtype == torch.float64:
        wide = torch.float64
    unit = images.to(wide)
    if images.dtype == torch.uint8:
        unit = unit.div(255)
    elif images.dtype == torch.uint16:
        unit = unit.div(65535)
    elif not images.is_floating_point():
        raise TypeError(
            f"images are {images.dtype}; InputNorm takes uint8, uint16, or floats in [0, 1]"
        )
    return unit.sub(mean.to(wide).view(-1, 1, 1)).div(std.to(wide).view(-1, 1, 1)).to(dtype)


torch.fx.wrap("_normalized")  # one operation in every trace


def _check(images: Tensor, channels: int) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images are a {type(images).__name__}; InputNorm takes tensors; torch.from_numpy makes one"
        )
    if images.ndim not in (3, 4):
        raise ValueError(
            f"images have the shape {tuple(images.shape)}; InputNorm takes (N, C, H, W) or (C, H, W)"
        )
    if images.shape[-3] != channels:
        raise ValueError(
            f"images have {images.shape[-3]} channels (shape {tuple(images.shape)}), mean and std have "
            f"{channels}; convert the images, or use their own statistics"
        )


def _four(values: Tensor) -> str:
    return f"[{', '.join(f'{value:.4f}' for value in values.tolist())}]"
