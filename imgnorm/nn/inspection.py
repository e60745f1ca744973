"""The BatchNorm layers of a model or a checkpoint, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from imgnorm.errors import ModelError
from imgnorm.nn.models import unwrapped
from imgnorm.stats.table import aligned

TORCH_EPS = 1e-5
"""torch's default. A checkpoint does not hold the eps of its layers."""

_MEAN, _VARIANCE = "running_mean", "running_var"
_DEAD = 1e-6  # with a |weight| below this, the channel's output is its bias
_MANY_EPS = 10  # for a smaller variance / eps, sqrt(variance + eps) is off by more than 4 %


@dataclass(frozen=True)
class LayerReport:
    """One BatchNorm layer. Ranges are (least, largest) over its channels, None where it has no such tensor."""

    name: str
    channels: int
    eps: float | None  # None in a checkpoint, which does not hold it
    momentum: float | None  # None: cumulative, or a checkpoint
    affine: bool
    batches: int | None  # num_batches_tracked, if it has one
    mean: tuple[float, float] | None  # of running_mean
    variance: tuple[float, float] | None  # of running_var
    weight: tuple[float, float] | None
    faults: tuple[str, ...]  # what is wrong with it, one sentence each


def inspect(model: nn.Module | Mapping[str, Tensor]) -> tuple[LayerReport, ...]:
    """Every BatchNorm layer of a model, or of a state_dict, with its faults.

    A state_dict shows only layers with a running_mean, and not their eps, which is then assumed to be
    torch's default, 1e-5.

    Raises:
        ModelError: it has no BatchNorm layer.

    Example:
        >>> import torch
        >>> (report,) = imgnorm.nn.inspect(torch.nn.BatchNorm2d(8))
        >>> report.name, report.channels, report.faults
        ('BatchNorm2d', 8, ('never updated: running_mean is 0 and running_var 1; calibrate it',))
    """
    if isinstance(model, nn.Module):
        model = unwrapped(model)
        found = [
            _of_module(name or type(layer).__name__, layer)
            for name, layer in model.named_modules()
            if is_batchnorm(layer)
        ]
        what = type(model).__name__
    else:
        names = [key.removesuffix(_MEAN) for key in model if key.split(".")[-1] == _MEAN]
        found = [_of_tensors(name.rstrip("."), _part(model, name)) for name in names]
        what = "the checkpoint"
    if not found:
        raise ModelError(
            f"{what}: has no BatchNorm layer; name a model or a checkpoint that has one"
        )
    return tuple(found)


def table_of(reports: tuple[LayerReport, ...]) -> str:
    """A table for people, and below it the faults, one per line."""
    rows = [["layer", "channels", "eps", "momentum", "affine", "batches", "running_mean"]]
    rows[0] += ["running_var", "weight"]
    for one in reports:
        rows.append(
            [
                one.name,
                str(one.channels),
                "?" if one.eps is None else f"{one.eps:g}",
                "-" if one.momentum is None else f"{one.momentum:g}",
                "yes" if one.affine else "no",
                "-" if one.batches is None else f"{one.batches:,}",
                _range(one.mean),
                _range(one.variance),
                _range(one.weight),
            ]
        )
    faults = [f"{one.name}: {fault}" for one in reports for fault in one.faults]
    return "\n".join([*aligned(rows), *([""] if faults else []), *faults])


def batchnorm_names(model: nn.Module) -> dict[str, nn.Module]:
    """The BatchNorm layers that have a running_mean and a running_var, by name, each once.

    They are recognized by these buffers, since layers of TorchScript and exported programs are not
    instances of torch's classes. A model that is such a layer itself gets the name of its class.
    """
    return {
        name or type(module).__name__: module
        for name, module in model.named_modules()
        if _has_statistics(module)
    }


def is_batchnorm(module: nn.Module) -> bool:
    """Whether it is a BatchNorm layer by its class, or by its buffers."""
    return isinstance(module, _BatchNorm) or _has_statistics(module)


def _has_statistics(module: nn.Module) -> bool:
    return (
        isinstance(getattr(module, _MEAN, None), Tensor)
        and isinstance(getattr(module, _VARIANCE, None), Tensor)
        and not isinstance(module, _InstanceNorm)
        and not getattr(module, "original_name", "").startswith("InstanceNorm")
    )


def _of_module(name: str, layer: nn.Module) -> LayerReport:
    tensors = {
        key: value
        for key in (_MEAN, _VARIANCE, "num_batches_tracked", "weight", "bias")
        if isinstance(value := getattr(layer, key, None), Tensor)
    }
    eps, momentum = getattr(layer, "eps", None), getattr(layer, "momentum", None)
    if any(map(is_lazy, tensors.values())):
        fault = "is lazy and does not know its channels yet; run one batch through the model first"
        return LayerReport(name, 0, eps, momentum, True, None, None, None, None, (fault,))
    return _of_tensors(name, tensors, eps, momentum, getattr(layer, "num_features", None))


def _of_tensors(
    name: str,
    tensors: Mapping[str, Tensor],
    eps: float | None = None,
    momentum: float | None = None,
    channels: int | None = None,
) -> LayerReport:
    lengths = {key: value.numel() for key, value in tensors.items() if key != "num_batches_tracked"}
    if channels is None:
        channels = next(iter(lengths.values()), 0)
    batches = tensors.get("num_batches_tracked")
    return LayerReport(
        name,
        channels,
        eps,
        momentum,
        "weight" in tensors,
        int(batches) if batches is not None and batches.numel() == 1 else None,
        _limits(tensors.get(_MEAN)),
        _limits(tensors.get(_VARIANCE)),
        _limits(tensors.get("weight")),
        tuple(_faults(tensors, lengths, channels, eps)),
    )


def _faults(
    tensors: Mapping[str, Tensor], lengths: Mapping[str, int], channels: int, eps: float | None
) -> list[str]:
    faults = []
    odd = {key: length for key, length in lengths.items() if length != channels}
    if odd:
        sizes = ", ".join(f"{key} has {length}" for key, length in odd.items())
        faults.append(f"channel counts differ: {sizes}, the layer has {channels}")
    for key, value in tensors.items():
        broken = int((~torch.isfinite(value)).sum())
        if broken:
            faults.append(f"{key} has NaN or Inf in {broken} of {value.numel()} channels")
    mean, variance = tensors.get(_MEAN), tensors.get(_VARIANCE)
    if mean is None or variance is None:
        faults.append(
            "no running statistics (track_running_stats=False): results depend on the batch, and are "
            "noisy if it is small"
        )
    elif not mean.any() and bool((variance == 1).all()):
        faults.append("never updated: running_mean is 0 and running_var 1; calibrate it")
    else:
        faults += _variance_faults(variance, TORCH_EPS if eps is None else eps)
    if "weight" in tensors:
        dead = int((tensors["weight"].abs() < _DEAD).sum())
        if dead:
            faults.append(f"{dead} of {channels} channels are dead: |weight| below {_DEAD:g}")
    return faults


def _variance_faults(variance: Tensor, eps: float) -> list[str]:
    faults = []
    negative = int((variance < 0).sum())
    if negative:
        faults.append(f"running_var is negative in {negative} channels")
    low = int(((variance >= 0) & (variance < _MANY_EPS * eps)).sum())
    if low:
        faults.append(
            f"running_var is below {_MANY_EPS} eps ({_MANY_EPS * eps:g}) in {low} of {variance.numel()} "
            "channels: eps, not the data, decides their scale"
        )
    return faults


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    keys = (_MEAN, _VARIANCE, "num_batches_tracked", "weight", "bias")
    return {key: state[prefix + key] for key in keys if prefix + key in state}


def _limits(values: Tensor | None) -> tuple[float, float] | None:
    if values is None or not values.numel():
        return None
    return float(values.detach().min()), float(values.detach().max())


def _range(limits: tuple[float, float] | None) -> str:
    return "-" if limits is None else f"{limits[0]:.3g} .. {limits[1]:.3g}"
