"""Sets BatchNorm's running statistics to those of a whole dataset, in one pass or layer by layer."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from imgnorm.errors import ModelError
from imgnorm.nn.activations import Pooled, Reached, Watch
from imgnorm.nn.inspection import batchnorm_names
from imgnorm.nn.models import RAISED_BY_USER_CODE, unwrapped
from imgnorm.nn.ranks import Ranks
from imgnorm.wording import describe

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

CalibrationMode = Literal["one-pass", "sequential"]
_AT_ONCE = 8
"""Images that sequential mode runs at once, however they were batched.

Libraries choose a float32 kernel by the number of images, so the last digits depend on it: by 4e-5
in resnet18's last layers, where six images of 32x32 leave six values per channel. Eight images fit
into any memory that the model was trained in, and are enough to keep a CPU busy.
"""


@dataclass(frozen=True)
class CalibratedLayer:
    """How one layer's statistics changed."""

    name: str
    count: int  # values per channel in its statistics
    mean_shift: float  # the largest |new − old| running_mean, in new standard deviations
    variance_ratio: tuple[float, float]  # least and largest old / new running_var


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` did.

    Example:
        >>> import torch
        >>> done = imgnorm.nn.calibrate(torch.nn.BatchNorm1d(1), [torch.tensor([[0.0], [2.0]])])
        >>> done.images, done.layers[0].name, done.layers[0].count, done.unreached
        (2, 'BatchNorm1d', 2, ())
    """

    images: int  # in one pass over the batches, of all ranks
    layers: tuple[CalibratedLayer, ...]  # in the order in which they run
    unreached: tuple[str, ...]  # BatchNorm layers that no image reached in eval mode: unchanged


@dataclass(frozen=True)
class CalibrationProgress:
    """How far a calibration is."""

    done: int  # batches, over all passes
    total: int | None  # None where the number of batches is unknown
    layer: str  # the one that this pass is for; empty in mode one-pass


def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    mode: CalibrationMode = "one-pass",
    process_group: ProcessGroup | None = None,
    on_progress: Callable[[CalibrationProgress], None] = lambda progress: None,
) -> Calibration:
    """Set every BatchNorm's running_mean and running_var to the population statistics of its input.

    The statistics are pooled over all batches in float64, with correction 0, and include the variance
    between batches. The model stays on its device and runs in eval mode, so dropout is off. Wrappers
    of torch.compile, DataParallel and DistributedDataParallel are taken off for this. Afterwards, its
    training flags and momentum are what they were; after an exception, so are its statistics.

    If torch.distributed is initialized, this is a collective: every rank calls it, with the same model
    and its own images, of any number, even none, and all get the statistics of all images. What fails
    on one rank fails on all. SyncBatchNorm is a BatchNorm here: in "one-pass", too, a rank normalizes
    with its own batch. FrozenBatchNorm2d is none, and stays as it is.

    Args:
        batches: a DataLoader, for example: batches of images (N, ...), N may be 0, or tuples that
            begin with images. In "sequential" mode it must give the same images each time it is
            iterated, but an image may move into its attribute `skipped`, if it has one.
        mode: "one-pass" normalizes with each batch's own statistics on the way, as in training
            ("precise BN", Wu & Johnson 2021, section 3.1), so the result depends somewhat on the
            batch size. "sequential" makes one pass for each layer, and each layer sees what it will
            see in eval mode: a fixed point. It runs eight images at a time, so that their batches
            change no digit; a program that was exported for one batch size gets batches of that size.
        process_group: the ranks whose images belong together; all by default.

    Raises:
        ModelError: no BatchNorm layer, no batch, a batch that the model cannot take, NaN or Inf in a
            layer's input, a layer with too few values for a variance, statistics that its dtype
            cannot hold, or ranks with different models.

    Example:
        >>> import torch
        >>> layer = torch.nn.BatchNorm1d(1)
        >>> done = imgnorm.nn.calibrate(layer, torch.arange(6.0).reshape(6, 1).split(4))
        >>> layer.running_mean, layer.running_var
        (tensor([2.5000]), tensor([2.9167]))
    """
    ranks = Ranks(process_group)
    model = unwrapped(model)
    layers = {
        name: layer
        for name, layer in batchnorm_names(model).items()
        if not type(layer).__name__.startswith("FrozenBatchNorm")  # whose statistics are constants
    }
    _demand_equal(ranks.each(lambda: _checked(model, layers, batches, mode)))
    run = _Passes(model, layers, batches, ranks, on_progress)
    with _restored_flags(model), _restored_if_raised(layers), torch.no_grad():
        before = {name: _statistics(layer) for name, layer in layers.items()}
        pooled = run.one_pass() if mode == "one-pass" else run.sequential()
    return Calibration(
        run.images,
        tuple(_change(name, seen, before[name]) for name, seen in pooled.items()),
        tuple(name for name in layers if name not in pooled),
    )


def _checked(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    batches: Iterable[Any],
    mode: CalibrationMode,
) -> tuple[str, dict[str, int]]:
    """The mode, and the channels of each layer, once nothing speaks against calibrating them."""
    if mode not in ("one-pass", "sequential"):
        raise ValueError(f"mode is {mode!r}; expected 'one-pass' or 'sequential'")
    if mode == "sequential" and isinstance(batches, Iterator):
        raise ValueError(
            "batches is an iterator, which gives its images once; give a list or a DataLoader"
        )
    if isinstance(batches, Tensor):
        raise TypeError("batches is one tensor; give a list of batches, such as images.split(64)")
    if not layers:
        raise ModelError(
            f"{type(model).__name__}: has no BatchNorm layer with running statistics; there is nothing "
            "to calibrate"
        )
    lazy = [name for name, layer in layers.items() if is_lazy(_buffers(layer)[0])]
    if lazy:
        raise ModelError(
            f"{lazy[0]}: is lazy and does not know its channels yet; run one batch through the model first"
        )
    return mode, {name: len(_buffers(layer)[0]) for name, layer in layers.items()}


def _demand_equal(found: Sequence[tuple[str, Mapping[str, int]]]) -> None:
    """Refuse ranks whose models or modes differ: the statistics of one would become those of another."""
    mode, channels = found[0]
    for rank, (its_mode, theirs) in enumerate(found):
        if its_mode != mode:
            raise ModelError(
                f"mode is {its_mode!r} on rank {rank}, but {mode!r} on rank 0; give every rank the same"
            )
        odd = sorted(dict(channels.items() ^ theirs.items()))
        if odd:
            raise ModelError(
                f"{odd[0]}: is not the same BatchNorm layer on rank {rank} as on rank 0; give every rank "
                "the same model, or calibrate each in a process_group of its own"
            )


class _Passes:
    """The passes over the batches."""

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Module],
        batches: Iterable[Any],
        ranks: Ranks,
        on_progress: Callable[[CalibrationProgress], None],
    ) -> None:
        self.model = model
        self.layers = layers
        self.batches = batches
        self.ranks = ranks
        self.on_progress = on_progress
        self.device = next(
            (t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu")
        )
        self.images = 0  # in one pass, of all ranks
        self.found: int | None = None  # this rank's in a pass, with those that were left out
        self.done = 0
        self.passes = 1

    def one_pass(self) -> dict[str, Pooled]:
        watch = Watch(self.layers, normalize_with_batch=True)
        return self._pass(watch, self._batches(""))

    def sequential(self) -> dict[str, Pooled]:
        at_once = _exported_for(self.model) or _AT_ONCE
        # Of the first rank that has images.
        order = next(filter(None, self.ranks.each(lambda: self._order(at_once))), None)
        if order is None:
            raise _no_batch()
        self.passes = len(order)
        found: dict[str, Pooled] = {}
        for name in order:
            watch = Watch({name: self.layers[name]}, stop_after=self._can_stop())
            found |= self._pass(watch, _regrouped(self._batches(name), at_once))
        return found

    def _order(self, at_once: int) -> list[str]:
        """The layers in the order in which the first images reach them; none without images."""
        watch = Watch(self.layers)
        for images in _regrouped(map(_images_of, self.batches, count()), at_once):
            self._forward(watch, images, 0)
            break
        else:
            return []
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

    def _pass(self, watch: Watch, batches: Iterable[Tensor]) -> dict[str, Pooled]:
        """Run all images of all ranks, and store what reached the layers that are watched."""
        shares = self.ranks.each(lambda: self._run(watch, batches))
        self.images = sum(images for images, _ in shares)
        if not self.images:
            raise _no_batch()
        pooled: dict[str, Pooled] = {}
        for _, share in shares:
            for name, seen in share.items():
                pooled[name] = pooled[name] + seen if name in pooled else seen
        if not pooled:
            raise _unreached(self.layers)
        for name, seen in pooled.items():
            _store(name, self.layers[name], seen)
        return pooled

    def _run(self, watch: Watch, batches: Iterable[Tensor]) -> tuple[int, dict[str, Pooled]]:
        """Run the images of this rank: how many there were, and what reached each layer."""
        ran = 0
        for images in batches:
            if len(images):
                self._forward(watch, images, ran)
                ran += len(images)
        found = ran + len(getattr(self.batches, "skipped", ()))
        if self.found not in (None, found):
            raise ModelError(
                f"the batches held {self.found} images in one pass and {found} in another; give the same "
                "images in each"
            )
        self.found = found
        cpu = torch.device("cpu")
        return ran, {name: seen.to(cpu) for name, seen in watch.pooled.items()}

    def _forward(self, watch: Watch, images: Tensor, first: int) -> None:
        watch.images = _span(first, len(images))
        try:
            with watch, suppress(Reached), _as_written(self.model):
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
                f"it was exported for batches of {exported_for} only: give a multiple of {exported_for} "
                f"images in batches of {exported_for}, or export it with a dynamic batch size"
            )
        if isinstance(self.model, fx.GraphModule):
            return "give it what it was exported for, or export it with dynamic shapes"
        return "give it images like those that it was trained on"

    def _can_stop(self) -> bool:
        # TorchScript would wrap the exception that ends a forward pass in an error of its own.
        return not isinstance(self.model, torch.jit.ScriptModule)


def _exported_for(model: nn.Module) -> int | None:
    """The only batch size that a program accepts; None for other models, and for dynamic sizes."""
    if isinstance(model, fx.GraphModule):
        for node in model.graph.find_nodes(op="placeholder"):
            value = node.meta.get("val")
            if isinstance(value, Tensor) and value.ndim and type(value.shape[0]) is int:
                return value.shape[0]
    return None


def _regrouped(batches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same images in groups of `size`, however they were batched. A new shape begins a new group.

    The last group may have nearly twice as many instead of a small rest: a program that was exported
    with a dynamic batch size may refuse a single image.
    """
    waiting: Tensor | None = None
    for images in batches:
        if waiting is None or _kind(waiting) == _kind(images):
            waiting = images if waiting is None else torch.cat([waiting, images])
        else:
            if len(waiting):
                yield waiting.clone()
            waiting = images
        while len(waiting) >= 2 * size:
            # A copy: a kernel's last digits may depend on how a tensor is aligned in memory.
            yield waiting[:size].clone()
            waiting = waiting[size:]
    if waiting is not None and len(waiting):
        yield waiting.clone()


def _kind(images: Tensor) -> tuple[Any, ...]:
    return images.shape[1:], images.dtype, images.device


@contextmanager
def _as_written(model: nn.Module) -> Iterator[None]:
    """Without TorchScript's optimizer, which replaces operators, sometimes by wrong ones."""
    if not isinstance(model, torch.jit.ScriptModule):
        yield
        return
    with torch.jit.optimized_execution(False):
        yield


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
            f"{name}: got {seen.count} value per channel in all, which has no variance; give more images"
        )
    mean, variance = _buffers(layer)
    mean.copy_(seen.mean)
    variance.copy_(seen.variance)
    if not bool(torch.isfinite(mean).all() & torch.isfinite(variance).all()):
        largest = float(torch.cat([seen.mean.abs(), seen.variance]).max())
        raise ModelError(
            f"{name}: its statistics reach {largest:.3g}, which {variance.dtype} cannot hold; look at the "
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
    """All modules in eval mode; afterwards each has its own flag again."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, training in flags:
            if training:  # only the flags: an exported program refuses eval()
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
    mean, variance = (old.double().cpu() for old in before)
    # A constant channel has variance 0, and nothing can be divided by that.
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
        if name != "_guards_fn"  # not a layer: torch.export's check of the arguments
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
