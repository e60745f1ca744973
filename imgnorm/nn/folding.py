"""Folding: a normalization becomes part of the weights of the layer next to it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import getitem
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from imgnorm.errors import FoldError
from imgnorm.nn.channelwise import Channelwise, channelwise
from imgnorm.nn.inspection import is_batchnorm
from imgnorm.nn.models import unwrapped
from imgnorm.nn.tracing import (
    CONVOLUTIONS,
    TRANSPOSED,
    Traced,
    linear_kind,
    own_name,
    traced,
    users_of,
)
from imgnorm.pipeline.steps import usable_std
from imgnorm.stats.stats import Stats
from imgnorm.wording import headline


class FoldedInput(nn.Module):
    """A first layer that takes pixels: it casts integers to the weights' dtype, and pads with the mean.

    `fold_input_norm` makes it. Takes uint8, uint16 or float images, (N, C, H, W) before a
    two-dimensional convolution.

    Args:
        layer: the convolution or linear layer, without padding of its own if `border` is given.
        padding: as torch.nn.functional.pad has it: the last dimension first.
        border: (C,), the value to pad with in each channel.

    Example:
        >>> import torch
        >>> stats = imgnorm.Stats(("L",), mean=(0.5,), std=(0.25,))
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, padding=1))
        >>> folded = imgnorm.nn.fold_input_norm(model, stats, padding="mean", pixels="raw")
        >>> type(folded[0]).__name__, folded[0].padding, folded[0].border
        ('FoldedInput', (1, 1, 1, 1), tensor([127.5000]))
    """

    border: Tensor | None

    def __init__(
        self, layer: nn.Module, padding: Sequence[int] = (), border: Tensor | None = None
    ) -> None:
        super().__init__()
        self.layer = layer
        self.padding = tuple(padding)
        self.register_buffer("border", border)

    def forward(self, images: Tensor) -> Tensor:
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        pixels = images if images.is_floating_point() else images.to(weight.dtype)
        if self.border is not None:
            dims = len(self.padding) // 2
            # Not F.pad(pixels - border) + border, which would round the pixels themselves.
            inside = F.pad(torch.ones_like(pixels.narrow(-dims - 1, 0, 1)), self.padding)
            border = self.border.view(-1, *[1] * dims)
            pixels = F.pad(pixels, self.padding) + (1 - inside) * border
        result: Tensor = self.layer(pixels)
        return result

    def extra_repr(self) -> str:
        return f"padding={self.padding}" if self.padding else ""


def fold_input_norm(
    model: nn.Module,
    stats: Stats,
    *,
    padding: Literal["refuse", "mean"] = "refuse",
    pixels: Literal["unit", "raw"] = "unit",
    eps: float | None = None,
) -> nn.Module:
    """A copy of the model that takes pixels where the model takes normalized images.

    torch.fx finds the first convolution or linear layer, and `Normalize` becomes part of its weights.
    Without padding, and with padding modes reflect, replicate and circular, this is exact. With zero
    padding it is not: a 0 means the mean before the fold and black after it, so the border would
    differ. It is not exact for a transposed convolution either: an output near the border, or between
    strides, is the sum of fewer taps, so it has another share of the mean.

    Args:
        padding: "mean" replaces zero padding by padding with the mean, which is exact again. The
            layer is then a `FoldedInput`, and its keys in the state_dict get `.layer`.
        pixels: what the copy takes: "unit", floats in [0, 1], or "raw", 0 to 255 (65535 for 16-bit
            stats) as integers or floats. For "raw", the layer is a `FoldedInput`, too.
        eps: the least std, for stats with a constant channel.

    Raises:
        FoldError: the model cannot be traced, its images do not go into exactly one layer, or that
            layer cannot absorb the shift exactly.
        TransformError: a channel is constant, and eps is None.

    Example:
        >>> import torch
        >>> stats = imgnorm.Stats(("L",), mean=(0.5,), std=(0.25,))
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3))
        >>> folded = imgnorm.nn.fold_input_norm(model, stats)
        >>> images = torch.rand(2, 1, 4, 4)
        >>> torch.allclose(folded(images), model((images - 0.5) / 0.25), atol=1e-5)
        True
    """
    if padding not in ("refuse", "mean"):
        raise ValueError(f"padding is {padding!r}; expected 'refuse' or 'mean'")
    if pixels not in ("unit", "raw"):
        raise ValueError(f"pixels is {pixels!r}; expected 'unit' or 'raw'")
    scale = stats.scale if pixels == "raw" else 1
    mean = torch.tensor(stats.mean, dtype=torch.float64) * scale
    std = torch.tensor(usable_std(stats, eps), dtype=torch.float64) * scale
    holder = _held_copy(model)
    trace = traced(holder)
    if "0" in trace.opaque:
        raise _cannot_begin(trace)
    name, flattened = _first_layer(trace)
    layer = holder.get_submodule(name)
    reason = _entangled(name, layer, trace)
    if reason:
        raise FoldError(
            f"{own_name(name)}: {reason}, so it cannot be changed; keep InputNorm in front"
        )
    around: tuple[Sequence[int], Tensor | None] = ((), None)
    if isinstance(layer, nn.Linear):
        _fold_into_linear(name, layer, mean, std, flattened)
    else:
        assert isinstance(layer, CONVOLUTIONS)
        around = _fold_into_convolution(name, layer, mean, std, padding)
    if pixels == "raw" or around[0]:
        _replace(holder, name, FoldedInput(layer, *around).train(layer.training))
    return holder[0]


def fold_batchnorm(
    model: nn.Module, *, untraceable: Literal["leave", "parts"] = "leave"
) -> nn.Module:
    """A copy of the model in which convolutions and linear layers have absorbed the BatchNorm after them.

    The model must be in eval mode, where BatchNorm is a fixed scale and shift. torch.fx finds the
    pairs, and what each layer does: of timm's BatchNormAct2d the activation stays, FrozenBatchNorm2d is
    folded, too. In the copy, an absorbed BatchNorm is an Identity, or what it did behind its
    normalization, so the names of all other layers stay. Behind a linear layer it is a check that the
    input is (N, C): in (N, L, C), BatchNorm1d would have normalized L.

    A BatchNorm stays as it is if that cannot be done exactly; `unfolded` tells why.

    The model is traced with its first argument alone: what it does with further ones between a layer and
    its BatchNorm is not seen. Code of yours that reads a BatchNorm's own attributes does not find them in
    the copy.

    Args:
        untraceable: what to do about modules whose forward torch.fx cannot trace, because it depends on
            its input. "leave" leaves what is in them. "parts" traces their children, each by itself,
            and so on. This is exact if such a forward calls its children only as a whole, with default
            arguments, and never a layer inside of a child.

    Raises:
        FoldError: nothing can be folded, or a BatchNorm is in training mode.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)).eval()
        >>> imgnorm.nn.fold_batchnorm(model)[1]
        Identity()
    """
    holder = _held_copy(model)
    folds, left = _plan(holder, untraceable)
    if not folds:
        raise FoldError(_nothing_folds(holder, left, untraceable))
    for fold in folds:
        _absorb(fold, holder.get_submodule(fold.layer))
        _replace(holder, fold.batchnorm, fold.rest)
    return holder[0]


def unfolded(
    model: nn.Module, *, untraceable: Literal["leave", "parts"] = "leave"
) -> dict[str, str]:
    """The BatchNorm layers that `fold_batchnorm` leaves as they are, by name, and why.

    Takes the model itself, or what `fold_batchnorm` made of it, in which the same layers are left.

    Raises:
        FoldError: a BatchNorm is in training mode, or the model itself cannot be traced.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(8)).eval()
        >>> imgnorm.nn.unfolded(model)
        {'1': 'follows 0 (ReLU), not a convolution or linear layer'}
    """
    return {own_name(name): why for name, why in _plan(_held_copy(model), untraceable)[1].items()}


@dataclass(frozen=True)
class _Fold:
    batchnorm: str  # its name
    layer: str  # the name of the layer before it
    does: Channelwise
    rest: nn.Module  # what takes its place


class _Flat(nn.Module):
    """Takes the place of a BatchNorm behind a linear layer, which normalized dimension 1."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        torch._assert(
            input.ndim == 2,
            "a BatchNorm was folded into the linear layer before it, which is right for (N, C) only: "
            "this input has other dimensions; use the model without folding",
        )
        return input


def _plan(holder: nn.Sequential, untraceable: str) -> tuple[list[_Fold], dict[str, str]]:
    """What can be folded; and the BatchNorm layers that cannot, with the reason."""
    if untraceable not in ("leave", "parts"):
        raise ValueError(f"untraceable is {untraceable!r}; expected 'leave' or 'parts'")
    layers = {name: layer for name, layer in holder.named_modules() if is_batchnorm(layer)}
    for name, layer in layers.items():
        if isinstance(layer, _BatchNorm) and layer.training:
            raise FoldError(
                f"{own_name(name)}: is in training mode, where BatchNorm depends on the batch; call "
                "model.eval() first"
            )
    trace = traced(holder, parts=untraceable == "parts")
    if "0" in trace.opaque and untraceable == "leave":
        raise FoldError(
            f"{type(holder[0]).__name__}: torch.fx cannot trace its forward ({trace.opaque['0']}); fold its "
            'parts with untraceable="parts", which is exact if it calls them as a whole'
        )
    plans = {name: _fold_or_reason(name, layer, trace) for name, layer in layers.items()}
    return (
        [plan for plan in plans.values() if isinstance(plan, _Fold)],
        {name: plan for name, plan in plans.items() if isinstance(plan, str)},
    )


def _nothing_folds(holder: nn.Sequential, left: dict[str, str], untraceable: str) -> str:
    kind = type(holder[0]).__name__
    if not left:
        return f"{kind}: has no BatchNorm layer; use it as it is"
    said = "; ".join(f"{own_name(name)} {why}" for name, why in list(left.items())[:3])
    more = f"; and {len(left) - 3} more, which imgnorm.nn.unfolded lists" if len(left) > 3 else ""
    return f"{kind}: no BatchNorm can be folded: {said}{more}"


def _held_copy(model: nn.Module) -> nn.Sequential:
    """A copy of the model, inside a holder so that the model itself has a name, too."""
    model = unwrapped(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise FoldError(
            f"{type(model).__name__}: is TorchScript, whose code is fixed; fold the model before it is "
            "scripted or traced"
        )
    tensors = (*model.named_parameters(), *model.named_buffers())
    lazy = [name for name, tensor in tensors if is_lazy(tensor)]
    if lazy:
        raise FoldError(
            f"{lazy[0]}: is lazy and has no values yet; run one batch through the model first"
        )
    try:
        return nn.Sequential(copy.deepcopy(model))
    except RuntimeError as error:  # torch.nn.utils.weight_norm leaves such tensors behind
        raise FoldError(
            f"{type(model).__name__}: cannot be copied ({headline(error)}); remove weight_norm first, or use "
            "torch.nn.utils.parametrizations.weight_norm"
        ) from error


def _cannot_begin(trace: Traced) -> FoldError:
    """Why the model's own forward gives no first layer."""
    model = trace.holder[0]
    kind, why = type(model).__name__, trace.opaque["0"]
    inside = _normalizes_inside(trace.holder)
    if inside:
        return FoldError(f"{kind}: {inside}")
    parts = [name for name, child in model.named_children() if _has_first_layer(child)]
    remedy = (
        f"fold the part that takes the images, such as model.{parts[0]} = "
        f"fold_input_norm(model.{parts[0]}, stats)"
        if parts
        else "keep InputNorm in front"
    )
    return FoldError(f"{kind}: torch.fx cannot trace its forward ({why}); {remedy}")


def _has_first_layer(child: nn.Module) -> bool:
    if type(child).forward is nn.Module.forward:
        return False
    try:
        _first_layer(traced(nn.Sequential(child)))
    except FoldError:
        return False
    return True


_OWN_CONSTANTS = (("image_mean", "image_std"), ("pixel_mean", "pixel_std"), ("mean", "std"))
"""What torchvision's, Detectron2's and mmdet's models call the numbers that they normalize with."""


def _normalizes_inside(holder: nn.Sequential) -> str:
    """A sentence about the normalization that a model does itself; empty if none is known."""
    for name, module in holder.named_modules():
        for mean, std in _OWN_CONSTANTS:
            if mean == "mean" and "data_preprocessor" not in name:
                continue
            if getattr(module, mean, None) is not None and getattr(module, std, None) is not None:
                where = f"{own_name(name)} ({type(module).__name__})"
                return (
                    f"normalizes its images itself, in {where} by {mean} and {std}; set these to the "
                    "statistics, and put no other normalization in front, which would be a second one"
                )
    return ""


def _first_layer(trace: Traced) -> tuple[str, bool]:
    """The name of the one layer that the images go into, and whether they are flattened before it."""
    holder = trace.holder
    node = next(node for node in trace.graph.nodes if node.op == "placeholder")
    flattened = False
    while True:
        users = users_of(node)
        if len(users) != 1:
            found = ", ".join(map(trace.described, users)) or "nothing"
            raise FoldError(
                f"the images go to {found}, not to one convolution or linear layer; "
                f"{_in_front(trace)}"
            )
        node = users[0]
        if node.op == "call_module":
            name = str(node.target)
            layer = holder.get_submodule(name)
            if linear_kind(layer) in (*CONVOLUTIONS, nn.Linear):
                return name, flattened
            if _is_identity(node, holder):
                continue
            if linear_kind(layer) in TRANSPOSED:
                raise FoldError(
                    f"{trace.described(node)}: each of its outputs has another share of the mean, "
                    "which a bias cannot express; keep InputNorm in front"
                )
            if name in trace.opaque:
                raise FoldError(f"the images go to {trace.why_opaque(name)}; {_in_front(trace)}")
        if not flattened and _flattens(node, holder):
            flattened = True
            continue
        raise FoldError(
            f"the images go to {trace.described(node)}, which cannot absorb a normalization; "
            f"{_in_front(trace)}"
        )


def _in_front(trace: Traced) -> str:
    inside = _normalizes_inside(trace.holder)
    return f"the model {inside}" if inside else "keep InputNorm in front"


def _flattens(node: fx.Node, holder: nn.Module) -> bool:
    """Whether this node makes (N, C·H·W) of (N, C, H, W)."""
    if node.op == "call_module":
        layer = holder.get_submodule(str(node.target))
        return (
            type(layer) is nn.Flatten
            and not _is_changed(layer)
            and (layer.start_dim, layer.end_dim) == (1, -1)
        )
    if node.target in ("view", "reshape", torch.reshape) and len(node.args) > 1:
        sizes = node.args[1] if isinstance(node.args[1], (tuple, list)) else node.args[1:]
        return len(sizes) == 2 and _is_batch_size(sizes[0], node.args[0]) and bool(sizes[1] == -1)
    if node.target not in (torch.flatten, "flatten"):
        return False
    given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
    return bool(given.get("start_dim", 0) == 1 and given.get("end_dim", -1) == -1)


def _is_batch_size(size: object, images: object) -> bool:
    """Whether a size is images.size(0) or images.shape[0]."""
    if not isinstance(size, fx.Node):
        return False
    if size.target == "size":
        return size.args == (images, 0)
    shape, index = size.args if size.target is getitem else (None, None)
    if index != 0 or not isinstance(shape, fx.Node):
        return False
    return (shape.target, *shape.args) in ((getattr, images, "shape"), ("size", images))


def _fold_or_reason(name: str, layer: nn.Module, trace: Traced) -> _Fold | str:
    """How a BatchNorm layer is folded, or why it cannot be."""
    around = trace.around(name)
    calls = [n for n in trace.graph.nodes if n.op == "call_module" and n.target == name]
    if not calls:
        return f"is inside {trace.why_opaque(around)}" if around else "does not run in eval mode"
    reason = _entangled(name, layer, trace)
    if reason or len(calls[0].all_input_nodes) != 1:
        return reason or "does not take one input"
    value = calls[0]
    others: list[fx.Node] = []
    while value is calls[0] or _is_identity(value, trace.holder):
        (before,) = value.all_input_nodes
        others += [user for user in users_of(before) if user is not value]
        value = before
    if before.op == "placeholder" and around:
        return f"is called by {trace.why_opaque(around)}"
    follows = f"follows {trace.described(before)}"
    former = trace.holder.get_submodule(str(before.target)) if before.op == "call_module" else None
    kind = linear_kind(former) if former is not None else None
    if former is None or kind is None:
        own = isinstance(former, (*CONVOLUTIONS, *TRANSPOSED, nn.Linear))
        return f"{follows}, {_OWN_FORWARD if own else _NOT_LINEAR}"
    reason = _entangled(str(before.target), former, trace)
    if reason or others:
        return (
            f"{follows}, which {reason}"
            if reason
            else f"{follows}, which also goes to {', '.join(map(trace.described, others))}"
        )
    is_flat = kind is nn.Linear
    if is_flat and not isinstance(layer, (nn.BatchNorm1d, nn.SyncBatchNorm)):
        return f"{follows}, and is not a BatchNorm1d"
    assert isinstance(former, (*CONVOLUTIONS, *TRANSPOSED, nn.Linear))
    if getattr(layer, "running_mean", None) is None:
        return "has no running statistics, so it depends on the batch"
    does = channelwise(layer, former.weight.ndim)
    if isinstance(does, str):
        return does
    outputs = former.out_features if isinstance(former, nn.Linear) else former.out_channels
    if is_flat and len(does.scale) != outputs:
        return f"{follows}, and normalizes another dimension than its {outputs} features"
    if len(does.scale) not in (1, outputs):
        raise FoldError(
            f"{own_name(name)}: has {len(does.scale)} channels and follows {own_name(str(before.target))} with "
            f"{outputs}; fix the model"
        )
    rest = does.rest
    if is_flat:
        rest = _Flat() if type(rest) is nn.Identity else nn.Sequential(_Flat(), rest)
    return _Fold(name, str(before.target), does, rest.train(layer.training))


_NOT_LINEAR = "not a convolution or linear layer"
_OWN_FORWARD = "whose forward is not torch's own"


def _is_identity(node: fx.Node, holder: nn.Module) -> bool:
    if node.op != "call_module":
        return False
    layer = holder.get_submodule(str(node.target))
    return type(layer) is nn.Identity and not _is_changed(layer)


def _is_changed(layer: nn.Module) -> bool:
    """Whether it may do something else than its class says."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or "forward" in layer.__dict__)


def _entangled(name: str, layer: nn.Module, trace: Traced) -> str | None:
    """Why a change of this layer's parameters would change more than this one call; None if it would not."""
    holder, graph = trace.holder, trace.graph
    own = {id(parameter) for parameter in layer.parameters()}
    owners = Counter(
        id(parameter)
        for module in holder.modules()
        for parameter in module._parameters.values()
        if parameter is not None
    )
    named = {n for n, module in holder.named_modules(remove_duplicate=False) if module is layer}
    calls = [n for n in graph.nodes if n.op == "call_module" and n.target in named]
    reads = [n for n in graph.nodes if n.op == "get_attr" and str(n.target).startswith(f"{name}.")]
    if len(calls) > 1:
        return "runs more than once"
    if reads or any(owners[parameter] > 1 for parameter in own):
        return "shares its weight"
    if any(
        trace.around(other) != trace.around(name) or (trace.around(other) and not trace.parts)
        for other in named
    ):
        return "is also in a part that torch.fx cannot trace"
    if is_parametrized(layer):
        return "has its weight computed by a parametrization"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "has hooks"
    return None


def _fold_into_convolution(
    name: str,
    layer: nn.Conv1d | nn.Conv2d | nn.Conv3d,
    mean: Tensor,
    std: Tensor,
    padding: str,
) -> tuple[Sequence[int], Tensor | None]:
    """Fold into a convolution; what to pad in front of it: how much, and with which values."""
    if layer.in_channels != len(mean):
        raise FoldError(
            f"{own_name(name)}: takes {layer.in_channels} channels, the statistics have {len(mean)}; measure "
            "the images that the model takes"
        )
    amounts = list(layer._reversed_padding_repeated_twice) if layer.padding != "valid" else []
    needs_mean = layer.padding_mode == "zeros" and any(amounts) and bool(mean.any())
    if needs_mean and padding == "refuse":
        raise FoldError(
            f"{own_name(name)}: pads with zeros, which mean black after folding and the mean before it, so "
            'the border would differ; fold with padding="mean", which is exact'
        )
    per_group = layer.in_channels // layer.groups
    rows = torch.arange(layer.out_channels) // (layer.out_channels // layer.groups)
    channels = rows[:, None] * per_group + torch.arange(per_group)  # (out, in / groups)
    _store(name, layer, mean[channels], std[channels])
    if not needs_mean:
        return (), None
    # torch reads a layer's padding from two attributes.
    layer.padding = (0,) * len(layer.kernel_size)
    layer._reversed_padding_repeated_twice = [0] * len(amounts)
    return amounts, mean.to(layer.weight)


def _fold_into_linear(
    name: str, layer: nn.Linear, mean: Tensor, std: Tensor, flattened: bool
) -> None:
    if not flattened or layer.in_features % len(mean):
        raise FoldError(
            f"{own_name(name)}: takes {layer.in_features} features, not {len(mean)} flattened channels; put "
            "torch.nn.Flatten in front of it, or keep InputNorm"
        )
    pixels = layer.in_features // len(mean)
    shape = (layer.out_features, layer.in_features)
    _store(
        name,
        layer,
        mean.repeat_interleave(pixels).expand(shape),
        std.repeat_interleave(pixels).expand(shape),
    )


def _store(
    name: str, layer: nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear, mean: Tensor, std: Tensor
) -> None:
    """Σ w·(x − m)/s + b = Σ (w/s)·x + (b − Σ (w/s)·m); mean and std are (out, in)."""
    weight = layer.weight.detach().double()
    shape = (*mean.shape, *[1] * (weight.ndim - 2))
    scaled = weight / std.to(weight.device).view(shape)
    shift = (scaled * mean.to(weight.device).view(shape)).flatten(1).sum(1)
    bias = layer.bias.detach().double() if layer.bias is not None else 0
    _set(name, layer, scaled, bias - shift)


def _absorb(fold: _Fold, layer: nn.Module) -> None:
    """w·x + b becomes f·w·x + f·b + g, where the BatchNorm layer does f·y + g."""
    assert isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED, nn.Linear))
    factor, shift = fold.does.scale, fold.does.shift
    weight = layer.weight.detach().cpu().double()
    if isinstance(layer, TRANSPOSED):  # (in, out / groups, ...)
        factor = factor.expand(layer.out_channels)
        groups = layer.groups
        factors = factor.view(groups, -1).repeat_interleave(len(weight) // groups, 0)
    else:  # (out, in / groups, ...)
        factor = factor.expand(len(weight))
        factors = factor.view(-1, 1)
    factors = factors.view(*factors.shape, *[1] * (weight.ndim - 2))
    bias = layer.bias.detach().cpu().double() if layer.bias is not None else torch.zeros(1)
    _set(fold.batchnorm, layer, weight * factors, bias * factor + shift)


def _set(name: str, layer: Any, weight: Tensor, bias: Tensor) -> None:
    learns = layer.weight.requires_grad
    target = layer.weight
    if not all(bool(torch.isfinite(new.to(target)).all()) for new in (weight, bias)):
        raise FoldError(
            f"{own_name(name)}: folding it gives NaN or Inf in {target.dtype}; look at its numbers with "
            "imgnorm.nn.inspect, or fold in float32"
        )
    layer.weight = nn.Parameter(
        weight.to(target).contiguous(memory_format=_format_of(target)), requires_grad=learns
    )
    layer.bias = nn.Parameter(bias.to(target), requires_grad=learns)


def _format_of(weight: Tensor) -> torch.memory_format:
    if weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def _replace(holder: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(holder.get_submodule(parent), last, module)
