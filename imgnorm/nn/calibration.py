"""BatchNorm's running statistics made those of a whole dataset."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from imgnorm.errors import ModelError
from imgnorm.nn.inspection import batchnorm_names
from imgnorm.nn.models import RAISED_BY_USER_CODE, unwrapped
from imgnorm.wording import describe

CalibrationMode = Literal["one-pass", "sequential"]
_AT_ONCE = 8
"""Images that sequential mode runs at once, whatever their batches.

A float32 kernel is chosen by the number of images, so the last digits would depend on it: by 4e-5
in resnet18's last layers, where six images of 32x32 leave six values per channel. Eight are few
enough for any memory that the model was trained in, and enough to keep a CPU busy.
"""


@dataclass(frozen=True)
class CalibratedLayer:
    """How one layer's statistics changed."""

    name: str
    count: int  # values per channel that its statistics are made of
    mean_shift: float  # the largest |new − old| running_mean, in new standard deviations
    variance_ratio: tuple[float, float]  # least and largest old / new running_var


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` did."""

    images: int  # in one pass over the batches
    layers: tuple[CalibratedLayer, ...]  # in the order in which they run
    unreached: tuple[str, ...]  # BatchNorm layers that no image reached in eval mode: unchanged


@dataclass(frozen=True)
class CalibrationProgress:
    """Where a calibration is."""

    done: int  # batches, over all passes
    total: int | None  # where the number of batches is known
    layer: str  # that this pass is for; empty if for all


def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    mode: CalibrationMode = "one-pass",
    on_progress: Callable[[CalibrationProgress], None] = lambda progress: None,
) -> Calibration:
    """Set every BatchNorm's running_mean and running_var to the population statistics of its input.

    The statistics are pooled over all batches in float64, with correction 0 and the variance between
    batches included. The model stays where it is, torch.compile's, DataParallel's and
    DistributedDataParallel's wrappers are looked through, and all of it runs in eval mode, so
    dropout is off. Its training flags and momentum are what they were afterwards, and after an
    exception so are its statistics. Under torch.distributed, each process calibrates its own model
    on the batches that it is given.

    Args:
        batches: of images, or of tuples that begin with images, (N, ...), N from 0 on. A DataLoader,
            say. For "sequential" it must give the same images each time it is iterated; those that
            it leaves out because they cannot be read are counted if it has a `skipped`.
        mode: "one-pass" normalizes with each batch's own statistics on the way, as in training
            ("precise BN", Wu & Johnson 2021, section 3.1), so that the result depends somewhat on
            the batch size. "sequential" takes one pass for each layer, and each layer sees what it
            will see in eval mode: a fixed point. The images are run eight at a time, so how they
            were batched changes no digit; a program that was exported for one batch size gets that.

    Raises:
        ModelError: no BatchNorm layer, no batch, a batch that the model cannot take, NaN or Inf in a
            layer's input, a layer for which there is no variance to compute, or statistics that its
            dtype cannot hold.
    """
    if mode not in ("one-pass", "sequential"):
        raise ValueError(f"mode is {mode!r}; expected 'one-pass' or 'sequential'")
    if mode == "sequential" and isinstance(batches, Iterator):
        raise ValueError(
            "batches is an iterator, which gives its images once; give a list or a DataLoader"
        )
    if isinstance(batches, Tensor):
        raise TypeError("batches is one tensor; give a list of batches, images.split(64) say")
    model = unwrapped(model)
    layers = batchnorm_names(model)
    if not layers:
        raise ModelError(
            f"{type(model).__name__}: has no BatchNorm layer with running statistics; there is nothing "
            "to calibrate"
        )
    lazy = [name for name, layer in layers.items() if is_lazy(_buffers(layer)[0])]
    if lazy:
        raise ModelError(
            f"{lazy[0]}: is lazy and knows no channels yet; run one batch through the model first"
        )
    run = _Run(model, layers, batches, on_progress)
    with _restored_flags(model), _restored_if_raised(layers), torch.no_grad():
        before = {name: _statistics(layer) for name, layer in layers.items()}
        pooled = run.one_pass() if mode == "one-pass" else run.sequential()
    return Calibration(
        run.images,
        tuple(_change(name, seen, before[name]) for name, seen in pooled.items()),
        tuple(name for name in layers if name not in pooled),
    )


class _Run:
    """The passes over the batches."""

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Module],
        batches: Iterable[Any],
        on_progress: Callable[[CalibrationProgress], None],
    ) -> None:
        self.model = model
        self.layers = layers
        self.batches = batches
        self.on_progress = on_progress
        self.device = next(
            (t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu")
        )
        self.images = 0
        self.found = 0  # images, and those that were left out
        self.done = 0
        self.passes = 1

    def one_pass(self) -> dict[str, Pooled]:
        watch = _Watch(self.layers, normalize_with_batch=True)
        self._pass(watch, self._batches(""))
        for name, seen in watch.pooled.items():
            _store(name, self.layers[name], seen)
        return watch.pooled

    def sequential(self) -> dict[str, Pooled]:
        at_once = _exported_for(self.model) or _AT_ONCE
        order = self._order(at_once)
        self.passes = len(order)
        found = {}
        for name in order:
            watch = _Watch({name: self.layers[name]}, stop_after=self._can_stop())
            self._pass(watch, _regrouped(self._batches(name), at_once))
            found[name] = watch.pooled[name]
            _store(name, self.layers[name], watch.pooled[name])
        return found

    def _order(self, at_once: int) -> list[str]:
        """The layers in the order in which the first images reach them."""
        watch = _Watch(self.layers)
        for images in _regrouped(map(_images_of, self.batches, count()), at_once):
            self._forward(watch, images, 0)
            break
        else:
            raise _no_batch()
        twice = [name for name, calls in watch.calls.items() if calls > 1]
        if twice:
            raise ModelError(
                f"{twice[0]}: runs more than once in a pass, so its statistics depend on themselves; use "
                "mode one-pass"
            )
        if not watch.pooled:
            raise _unreached(self.layers)
        return list(watch.pooled)

    def _batches(self, layer: str) -> Iterator[Tensor]:
        length = getattr(self.batches, "__len__", None)
        total = length() * self.passes if length is not None else None
        for number, batch in enumerate(self.batches):
            yield _images_of(batch, number)
            self.done += 1
            self.on_progress(CalibrationProgress(self.done, total, layer))

    def _pass(self, watch: _Watch, batches: Iterable[Tensor]) -> None:
        self.images = 0
        for images in batches:
            if len(images):
                self._forward(watch, images, self.images)
                self.images += len(images)
        if not self.images:
            raise _no_batch()
        found = self.images + len(getattr(self.batches, "skipped", ()))
        if self.found not in (0, found):
            raise ModelError(
                f"the batches held {self.found} images in one pass and {found} in another; give the same "
                "images in each"
            )
        self.found = found
        if not watch.pooled:
            raise _unreached(self.layers)

    def _forward(self, watch: _Watch, images: Tensor, first: int) -> None:
        watch.images = _span(first, len(images))
        try:
            with watch, suppress(_Reached), _as_written(self.model):
                self.model(images.to(self.device))
        except RAISED_BY_USER_CODE as error:
            if watch.fault is not None:
                raise watch.fault from None
            where = _layer_in(error, self.model)
            raise ModelError(
                f"{where}: fails on {watch.images}, {tuple(images.shape)} {images.dtype} "
                f"({describe(error)}); {self._remedy(error)}"
            ) from error

    def _remedy(self, error: Exception) -> str:
        if isinstance(error, torch.OutOfMemoryError):
            return "give smaller batches or smaller images, or another device"
        exported_for = _exported_for(self.model)
        if exported_for is not None:
            return (
                f"it was exported for batches of {exported_for} only: give batches of {exported_for}, a "
                "multiple in all, or export it with a dynamic batch size"
            )
        if isinstance(self.model, fx.GraphModule):
            return "give it what it was exported for, or export it with dynamic shapes"
        return "give it images as it was trained on"

    def _can_stop(self) -> bool:
        # TorchScript would wrap what ends a forward pass early in an error of its own.
        return not isinstance(self.model, torch.jit.ScriptModule)


def _exported_for(model: nn.Module) -> int | None:
    """The one batch size that a program was exported for, if it is one and has no other."""
    if isinstance(model, fx.GraphModule):
        for node in model.graph.find_nodes(op="placeholder"):
            value = node.meta.get("val")
            if isinstance(value, Tensor) and value.ndim and type(value.shape[0]) is int:
                return value.shape[0]
    return None


def _regrouped(batches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same images in groups of `size`, whatever their batches; the last has up to twice as many,
    since a program may have been exported for two images and more. A new shape begins a new group."""
    waiting: Tensor | None = None
    for images in batches:
        if waiting is None or _kind(waiting) == _kind(images):
            waiting = images if waiting is None else torch.cat([waiting, images])
        else:
            if len(waiting):
                yield waiting.clone()
            waiting = images
        while len(waiting) >= 2 * size:
            # A copy: what a kernel does at the edges may depend on where in memory a tensor lies.
            yield waiting[:size].clone()
            waiting = waiting[size:]
    if waiting is not None and len(waiting):
        yield waiting.clone()


def _kind(images: Tensor) -> tuple[Any, ...]:
    return images.shape[1:], images.dtype, images.device


@contextmanager
def _as_written(model: nn.Module) -> Iterator[None]:
    """Without TorchScript's optimizer, which runs operators of its own on the way, even wrong ones."""
    if not isinstance(model, torch.jit.ScriptModule):
        yield
        return
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        yield


class _Reached(BaseException):
    """Ends a forward pass behind the layer that it was for; nothing may swallow it on the way."""


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every batch normalization below it, in eager, TorchScript and exported code alike.

    A call belongs to the layer whose running_mean it reads.
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
        self.pooled: dict[str, Pooled] = {}
        self.calls: dict[str, int] = {}
        self.images = ""  # which ones run: for people
        self.fault: ModelError | None = None  # TorchScript would wrap it in an error of its own

    def __enter__(self) -> _Watch:
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
            raise _Reached
        result = func(*args, **given)
        if not self.normalize_with_batch:
            return result
        if activations.numel() == activations.shape[1]:
            raise ModelError(
                f"{name}: has one value per channel in the batch of {self.images}, "
                f"{tuple(activations.shape)}, whose variance is 0; use larger batches of one size, or "
                "mode sequential"
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
        # One tensor in inference mode, where torch does not take the operator apart.
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


def _images_of(batch: Any, number: int) -> Tensor:
    first = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
    if not isinstance(first, Tensor) or not first.ndim:
        raise ModelError(
            f"batch {number} is a {type(batch).__name__}; give tensors, or tuples that begin with one"
        )
    return first


def _span(first: int, images: int) -> str:
    return f"image {first}" if images == 1 else f"images {first} to {first + images - 1}"


def _store(name: str, layer: nn.Module, seen: Pooled) -> None:
    if seen.count < 2:
        raise ModelError(
            f"{name}: saw {seen.count} value per channel in all, which has no variance; give more images"
        )
    mean, variance = _buffers(layer)
    mean.copy_(seen.mean)
    variance.copy_(seen.variance)
    if not bool(torch.isfinite(mean).all() & torch.isfinite(variance).all()):
        largest = float(torch.cat([seen.mean.abs(), seen.variance]).max())
        raise ModelError(
            f"{name}: its statistics reach {largest:.3g}, which {variance.dtype} does not hold; look at the "
            "layers before it"
        )


def _buffers(layer: nn.Module) -> tuple[Tensor, Tensor]:
    mean, variance = layer.running_mean, layer.running_var
    assert isinstance(mean, Tensor)
    assert isinstance(variance, Tensor)
    return mean, variance


def _statistics(layer: nn.Module) -> tuple[Tensor, Tensor]:
    mean, variance = _buffers(layer)
    return mean.detach().clone(), variance.detach().clone()


@contextmanager
def _restored_flags(model: nn.Module) -> Iterator[None]:
    """All modules in eval mode, and each one's own flag again afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, training in flags:
            if training:  # flags only: an exported program refuses eval()
                module.training = False
        yield
    finally:
        for module, training in flags:
            if module.training != training:
                module.training = training


@contextmanager
def _restored_if_raised(layers: Mapping[str, nn.Module]) -> Iterator[None]:
    before = {name: _statistics(layer) for name, layer in layers.items()}
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for name, statistics in before.items():
                for buffer, old in zip(_buffers(layers[name]), statistics, strict=True):
                    buffer.copy_(old)
        raise


def _change(name: str, seen: Pooled, before: tuple[Tensor, Tensor]) -> CalibratedLayer:
    mean, variance = before[0].double(), before[1].double()
    # A channel that never changes has variance 0; what it is compared with must not be.
    floor = seen.variance.clamp_min(torch.finfo(torch.float32).tiny)
    ratio = variance / floor
    return CalibratedLayer(
        name,
        seen.count,
        float(((seen.mean - mean).abs() / floor.sqrt()).max()),
        (float(ratio.min()), float(ratio.max())),
    )


def _layer_in(error: BaseException, model: nn.Module) -> str:
    """The name of the innermost module of the model that was running."""
    names = {
        id(module): name
        for name, module in model.named_modules()
        if name != "_guards_fn"  # no layer, but torch.export's check of the arguments
    }
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = names.get(id(frame.f_locals.get("self")), "") or found
    return found or type(model).__name__


def _no_batch() -> ModelError:
    return ModelError("the batches are empty; give at least two images")


def _unreached(layers: Mapping[str, nn.Module]) -> ModelError:
    return ModelError(
        f"{', '.join(list(layers)[:3])}: no image reached a BatchNorm layer; give a model whose forward "
        "uses them"
    )


@dataclass(frozen=True)
class Pooled:
    """Count, mean and squared deviations per channel, in float64.

    `a + b` is what the two batches together would give: between-batch variance is in it, and a
    short batch weighs what it holds (Chan, Golub & LeVeque 1983, eq. 2.1).
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
