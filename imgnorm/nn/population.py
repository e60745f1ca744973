"""BatchNorm layers whose running statistics are those of all data so far, not a moving average."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

from imgnorm.errors import ModelError
from imgnorm.nn.activations import Pooled, pooled_of


class PopulationBatchNorm(_BatchNorm):
    """What all population layers have in common.

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
    normalizes with its own batch, as torch's BatchNorm does, and with all batches in what was a
    SyncBatchNorm.
    """

    _name = ""  # in a converted layer: its name in the model, for messages
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

    @property
    def affine(self) -> bool:
        """Whether it has a weight and a bias.

        Raises:
            ModelError: torch's or timm's convert_sync_batchnorm asks, which would replace the layer by
                one that knows nothing of the population.
        """
        # No hook of torch's is called for a layer that convert_sync_batchnorm replaces; this is read.
        if sys._getframe(1).f_code.co_name == "convert_sync_batchnorm":
            raise ModelError(
                f"{self._said}: is a population layer, whose population convert_sync_batchnorm would lose; "
                "call convert_sync_batchnorm first, then imgnorm.nn.convert, which keeps SyncBatchNorm"
            )
        learns: bool = self.__dict__["affine"]
        return learns

    @affine.setter
    def affine(self, learns: bool) -> None:
        self.__dict__["affine"] = learns

    @property
    def _said(self) -> str:
        return self._name or type(self).__name__

    def reset_running_stats(self) -> None:
        super().reset_running_stats()
        self._pooled = None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name, which callers may use
        self._check_input_dim(input)
        if self.momentum is not None or not self.training or self.running_mean is None:
            return super().forward(input)
        with _untracked(self):
            normalized = super().forward(input)
        self._observe(input.detach())
        return normalized

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - as above
        super()._check_input_dim(input)  # type: ignore[no-untyped-call]
        if input.shape[1] != self.num_features:
            raise ValueError(
                f"{self._said}: normalizes {self.num_features} channels, but its input has "
                f"{input.shape[1]}, {tuple(input.shape)}; make the layer with "
                f"num_features={input.shape[1]}, or give it the output of the layer that it belongs to"
            )

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


def convert(model: nn.Module) -> nn.Module:
    """Turn every BatchNorm of a model into a population layer, in place.

    Returns the model. Parameters, buffers, hooks and names stay, so optimizers and checkpoints still
    work. `revert` undoes it. BatchNorm1d, 2d, 3d and SyncBatchNorm are converted, and subclasses that
    do what these do, in their forward or in timm's (BatchNormAct2d, which keeps its activation).
    FrozenBatchNorm2d is no such layer, and stays. To use SyncBatchNorm, call
    `nn.SyncBatchNorm.convert_sync_batchnorm` first; it refuses a converted model.

    Raises:
        ModelError: the model has no such layer, a lazy one, or a subclass with a forward of its own.
            No layer is converted then.

    Example:
        >>> import torch
        >>> model = imgnorm.nn.convert(torch.nn.Sequential(torch.nn.BatchNorm2d(8)))
        >>> type(model[0]).__name__, model[0].momentum
        ('PopulationBatchNorm2d', None)
    """
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, _BatchNorm) and not isinstance(layer, PopulationBatchNorm)
    }
    if not layers:
        raise ModelError(
            f"{type(model).__name__}: has no BatchNorm layer to convert; convert a model that has one"
        )
    for name, layer in layers.items():
        said = name or type(model).__name__
        if isinstance(layer, LazyModuleMixin):
            raise ModelError(
                f"{said}: is lazy and does not know its channels yet; run one batch through the model first"
            )
        if not _is_known(type(layer)) or "forward" in layer.__dict__:
            raise ModelError(
                f"{said}: is a {type(layer).__name__}, whose forward is its own and may normalize "
                "otherwise; convert the parts of the model without it"
            )
    for name, layer in layers.items():
        momentum = layer.momentum
        # torch's lazy modules change their class, too. The object stays, and all references to it.
        layer.__class__ = _population_of(type(layer))
        layer.__dict__.update(_name=name, _torch_momentum=momentum, momentum=None)
    return model


def revert(model: nn.Module) -> nn.Module:
    """Turn every population layer of a model into what it was, or torch's own, in place.

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
        for key in ("_name", "_pooled"):
            layer.__dict__.pop(key, None)
        layer.__class__ = next(  # type: ignore[assignment]
            kind for kind in type(layer).__mro__ if not issubclass(kind, PopulationBatchNorm)
        )
        layer.momentum = momentum
    return model


def _is_known(kind: type[nn.Module]) -> bool:
    """Whether the forward of a subclass of torch's _BatchNorm is one that we know.

    Known ones neither read nor write running statistics in training while `track_running_stats` is off.
    """
    owner = next(base for base in kind.__mro__ if "forward" in vars(base))
    return owner in (_BatchNorm, nn.SyncBatchNorm) or (
        owner.__module__.startswith("timm.")
        and owner.__name__ in ("BatchNormAct2d", "SyncBatchNormAct")
    )


def _population_of(kind: type[nn.Module]) -> type[PopulationBatchNorm]:
    """The population layer that is also of this class."""

    def reduced(self: PopulationBatchNorm, protocol: int) -> tuple[Any, ...]:
        return _new, (kind,), self.__dict__

    if kind not in _POPULATION:
        members = {"__module__": __name__, "__reduce_ex__": reduced}
        made = type(f"Population{kind.__name__}", (PopulationBatchNorm, kind), members)
        _POPULATION[kind] = made
    return _POPULATION[kind]


def _new(kind: type[nn.Module]) -> PopulationBatchNorm:
    """A layer without any state, for copies and pickles of classes that no module holds."""
    made = _population_of(kind)
    return made.__new__(made)


@contextmanager
def _untracked(layer: PopulationBatchNorm) -> Iterator[None]:
    """In this block, a training pass leaves the running statistics alone."""
    tracks = layer.track_running_stats
    layer.track_running_stats = False
    try:
        yield
    finally:
        layer.track_running_stats = tracks


def _over_processes(own: Pooled) -> Pooled:
    """The statistics of all processes' batches, added in the order of ranks, so equal in each process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return own
    message = torch.cat([own.mean.new_tensor([own.count]), own.mean, own.squared])
    answers = [torch.empty_like(message) for _ in range(dist.get_world_size())]
    dist.all_gather(answers, message)
    channels = len(own.mean)
    return reduce(add, (Pooled(int(a[0]), a[1 : channels + 1], a[channels + 1 :]) for a in answers))
