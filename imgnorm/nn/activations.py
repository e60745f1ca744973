"""The inputs of BatchNorm layers: watched while a model runs, and pooled in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from imgnorm.errors import ModelError


@dataclass(frozen=True)
class Pooled:
    """Count, mean and squared deviations per channel, in float64.

    `a + b` is what the two batches give together: it has the variance between them, and each counts
    by its number of values (Chan, Golub & LeVeque 1983, eq. 2.1).
    """

    count: int  # values per channel
    mean: Tensor  # (C,)
    squared: Tensor  # (C,), Σ(x − mean)²

    def __add__(self, other: Pooled) -> Pooled:
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        delta = other.mean - self.mean
        return Pooled(
            count,
            self.mean + delta * (other.count / count),
            self.squared + other.squared + delta.square() * (self.count * other.count / count),
        )

    @property
    def variance(self) -> Tensor:
        """Population variance: correction 0."""
        return self.squared / self.count

    def to(self, device: torch.device) -> Pooled:
        return Pooled(self.count, self.mean.to(device), self.squared.to(device))


def pooled_of(activations: Tensor) -> Pooled:
    """The statistics of one batch.

    Args:
        activations: float, (N, C, ...); N may be 0.
    """
    channels = activations.shape[1]
    count = activations.numel() // channels if channels else 0
    if not count:
        nothing = activations.new_zeros(channels, dtype=torch.float64)
        return Pooled(0, nothing, nothing)
    dims = [0, *range(2, activations.ndim)]
    variance, mean = torch.var_mean(activations.double(), dims, correction=0)
    return Pooled(count, mean, variance * count)


class Reached(BaseException):
    """Ends a forward pass behind the layer that it was for.

    A BaseException, so that no `except Exception` in a model catches it.
    """


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every batch normalization that runs inside it: in eager, TorchScript and exported code.

    A call belongs to the layer whose running_mean it reads.

    Args:
        layers: the layers to watch, by name.
        normalize_with_batch: normalize with the batch's own statistics, as in training, instead of
            the running ones.
        stop_after: end the forward pass behind the first layer that is seen, by raising `Reached`.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        *,
        normalize_with_batch: bool = False,
        stop_after: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = {_place(layer.running_mean): name for name, layer in layers.items()}
        self.normalize_with_batch = normalize_with_batch
        self.stop_after = stop_after
        self.pooled: dict[str, Pooled] = {}  # the inputs of each layer so far
        self.calls: dict[str, int] = {}  # in this forward pass
        self.images = ""  # which images run, for messages
        self.fault: ModelError | None = None  # TorchScript would wrap it in an error of its own

    def __enter__(self) -> Watch:
        self.calls = {}
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        names = [argument.name for argument in func._schema.arguments]
        if "running_mean" in names:
            call = dict(zip(names, args, strict=False)) | given
            name = self.names.get(_place(call["running_mean"]))
            if name is not None:
                try:
                    return self._seen(name, call, func, args, given)
                except ModelError as error:
                    self.fault = error
                    raise
        return func(*args, **given)

    def _seen(
        self, name: str, call: dict[str, Any], func: Any, args: Sequence[Any], given: dict[str, Any]
    ) -> Any:
        if call.get("training") or "functional" in func._schema.name:
            raise ModelError(
                f"{name}: was exported or traced in training mode, where it never uses its running "
                "statistics; export model.eval()"
            )
        activations = call["input"]
        self.calls[name] = self.calls.get(name, 0) + 1
        self._pool(name, activations)
        if self.stop_after:
            raise Reached
        result = func(*args, **given)
        if not self.normalize_with_batch:
            return result
        if activations.numel() == activations.shape[1]:
            raise ModelError(
                f"{name}: has one value per channel in the batch of {self.images}, "
                f"{tuple(activations.shape)}, so its variance is 0; use larger batches, all of one "
                "size, or mode sequential"
            )
        normalized = F.batch_norm(
            activations,
            None,
            None,
            call["weight"],
            call["bias"],
            training=True,
            momentum=0.0,
            eps=call["eps"] if "eps" in call else call["epsilon"],  # cuDNN's name for it
        )
        # In inference mode torch does not decompose the operator, so its result is one tensor.
        return normalized if isinstance(result, Tensor) else (normalized, *result[1:])

    def _pool(self, name: str, activations: Tensor) -> None:
        seen = pooled_of(activations)
        if not bool(torch.isfinite(seen.mean).all() & torch.isfinite(seen.squared).all()):
            raise ModelError(
                f"{name}: its input has NaN or Inf in {self.images}; look at the images, and at the layers "
                "before it"
            )
        if name in self.pooled:
            seen = self.pooled[name] + seen
        self.pooled[name] = seen


def _place(tensor: object) -> tuple[torch.device, int] | None:
    return (tensor.device, tensor.data_ptr()) if isinstance(tensor, Tensor) else None
