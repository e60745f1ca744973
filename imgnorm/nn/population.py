"""BatchNorm layers whose running statistics are those of all data so far, not a moving average."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from imgnorm.errors import ModelError
from imgnorm.nn.activations import Pooled, pooled_of


class PopulationBatchNorm(_BatchNorm):
    """What PopulationBatchNorm1d, 2d and 3d have in common.

    With `momentum=None`, the default here, `running_mean` and `running_var` are the pooled mean and
    population variance (correction 0) of everything seen in training mode since the last
    `reset_running_stats()`, kept in float64. torch's own `momentum=None` averages the batches'
    means and Bessel-corrected variances instead: the variance between batches is missing, and a
    short batch counts as much as a full one. With a number as `momentum`, the layer does what torch's
    does, digit for digit. All else is as in torch: what training and eval normalize with, `affine`,
    `track_running_stats`, and the checkpoint's keys.

    A checkpoint does not hold the count of the population. So after `load_state_dict`, its statistics
    are used until the next batch in training mode, which starts a new population. After `convert` it
    is the same.

    If torch.distributed is initialized, each forward pass in training mode is a collective: all
    processes must make it, and all get the statistics of all data. In training, each process
    normalizes with its own batch, as torch's BatchNorm does.
    """

    _pooled: Pooled | None = None
    _torch_momentum: float | None = None  # in a converted layer: what `revert` restores

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = None,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype
        )

    def reset_running_stats(self) -> None:
        super().reset_running_stats()
        self._pooled = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name, which callers may use
        if self.momentum is not None or not self.training or self.running_mean is None:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        normalized = F.batch_norm(
            input, None, None, self.weight, self.bias, training=True, momentum=0.0, eps=self.eps
        )
        self._observe(input.detach())
        return normalized

    @torch.no_grad()
    def _observe(self, activations: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        seen = _over_processes(pooled_of(activations))
        self.num_batches_tracked.add_(1)
        if not seen.count:
            return
        if self._pooled is not None:
            seen = self._pooled.to(activations.device) + seen
        self._pooled = seen
        self.running_mean.copy_(seen.mean)
        self.running_var.copy_(seen.variance)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._pooled = None


class PopulationBatchNorm1d(PopulationBatchNorm, nn.BatchNorm1d):
    """torch.nn.BatchNorm1d with the running statistics of the whole population.

    Takes (N, C) or (N, C, L).

    Example:
        >>> import torch
        >>> layer = imgnorm.nn.PopulationBatchNorm1d(1)
        >>> for batch in torch.arange(6.0).reshape(6, 1).split(4):
        ...     normalized = layer(batch)
        >>> layer.running_mean, layer.running_var
        (tensor([2.5000]), tensor([2.9167]))
    """


class PopulationBatchNorm2d(PopulationBatchNorm, nn.BatchNorm2d):
    """torch.nn.BatchNorm2d with the running statistics of the whole population.

    Takes (N, C, H, W).

    Example:
        >>> import torch
        >>> layer = imgnorm.nn.PopulationBatchNorm2d(1)
        >>> for batch in torch.arange(6.0).reshape(6, 1, 1, 1).split(4):
        ...     normalized = layer(batch)
        >>> layer.running_mean, layer.running_var
        (tensor([2.5000]), tensor([2.9167]))
    """


class PopulationBatchNorm3d(PopulationBatchNorm, nn.BatchNorm3d):
    """torch.nn.BatchNorm3d with the running statistics of the whole population.

    Takes (N, C, D, H, W).

    Example:
        >>> import torch
        >>> layer = imgnorm.nn.PopulationBatchNorm3d(1)
        >>> for batch in torch.arange(6.0).reshape(6, 1, 1, 1, 1).split(4):
        ...     normalized = layer(batch)
        >>> layer.running_mean, layer.running_var
        (tensor([2.5000]), tensor([2.9167]))
    """


_POPULATION: dict[type[nn.Module], type[PopulationBatchNorm]] = {
    nn.BatchNorm1d: PopulationBatchNorm1d,
    nn.BatchNorm2d: PopulationBatchNorm2d,
    nn.BatchNorm3d: PopulationBatchNorm3d,
}
_TORCH = {population: layer for layer, population in _POPULATION.items()}


def convert(model: nn.Module) -> nn.Module:
    """Turn every torch BatchNorm1d, 2d and 3d of a model into a population layer, in place.

    Returns the model. Parameters, buffers, hooks and names stay, so optimizers and checkpoints still
    work. SyncBatchNorm and subclasses are left as they are. `revert` undoes it.

    Raises:
        ModelError: the model has no such layer.

    Example:
        >>> import torch
        >>> model = imgnorm.nn.convert(torch.nn.Sequential(torch.nn.BatchNorm2d(8)))
        >>> type(model[0]).__name__, model[0].momentum
        ('PopulationBatchNorm2d', None)
    """
    layers = [layer for layer in model.modules() if type(layer) in _POPULATION]
    if not layers:
        raise ModelError(
            f"{type(model).__name__}: has no BatchNorm1d, 2d or 3d layer to convert; convert a model "
            "that has one"
        )
    for layer in layers:
        assert isinstance(layer, _BatchNorm)
        momentum = layer.momentum
        # torch's lazy modules change their class, too. The object stays, and all references to it.
        layer.__class__ = _POPULATION[type(layer)]
        layer.__dict__.update(_torch_momentum=momentum, momentum=None)
    return model


def revert(model: nn.Module) -> nn.Module:
    """Turn every population layer of a model into torch's own again, in place.

    Returns the model. The running statistics stay, and a converted layer gets its momentum back.

    Raises:
        ModelError: the model has no such layer.

    Example:
        >>> import torch
        >>> model = imgnorm.nn.convert(torch.nn.Sequential(torch.nn.BatchNorm2d(8)))
        >>> model = imgnorm.nn.revert(model)
        >>> type(model[0]).__name__, model[0].momentum
        ('BatchNorm2d', 0.1)
    """
    layers = [layer for layer in model.modules() if isinstance(layer, PopulationBatchNorm)]
    if not layers:
        raise ModelError(
            f"{type(model).__name__}: has no population BatchNorm layer to revert; convert it first"
        )
    for layer in layers:
        momentum = layer.__dict__.pop("_torch_momentum", layer.momentum)
        layer.__dict__.pop("_pooled", None)
        layer.__class__ = _TORCH[type(layer)]  # type: ignore[assignment]
        layer.momentum = momentum
    return model


def _over_processes(own: Pooled) -> Pooled:
    """The statistics of all processes' batches, added in the order of ranks, so equal in each process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return own
    message = torch.cat([own.mean.new_tensor([own.count]), own.mean, own.squared])
    answers = [torch.empty_like(message) for _ in range(dist.get_world_size())]
    dist.all_gather(answers, message)
    channels = len(own.mean)
    return reduce(add, (Pooled(int(a[0]), a[1 : channels + 1], a[channels + 1 :]) for a in answers))
