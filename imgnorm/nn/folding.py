"""Folding: a normalization becomes part of the weights of the layer next to it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from operator import getitem
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from imgnorm.errors import FoldError
from imgnorm.nn.models import RAISED_BY_USER_CODE, unwrapped
from imgnorm.nn.population import (
    PopulationBatchNorm1d,
    PopulationBatchNorm2d,
    PopulationBatchNorm3d,
)
from imgnorm.pipeline.steps import usable_std
from imgnorm.stats.stats import Stats

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCHNORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    PopulationBatchNorm1d,
    PopulationBatchNorm2d,
    PopulationBatchNorm3d,
)


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
    graph = _traced(holder)
    name, flattened = _first_layer(graph, holder)
    layer = holder.get_submodule(name)
    _refuse_entangled(name, layer, graph, holder)
    around: tuple[Sequence[int], Tensor | None] = ((), None)
    if isinstance(layer, nn.Linear):
        _fold_into_linear(name, layer, mean, std, flattened)
    else:
        assert isinstance(layer, _CONVOLUTIONS)
        around = _fold_into_convolution(name, layer, mean, std, padding)
    if pixels == "raw" or around[0]:
        _replace(holder, name, FoldedInput(layer, *around).train(layer.training))
    return holder[0]


def fold_batchnorm(model: nn.Module) -> nn.Module:
    """A copy of the model in which convolutions have absorbed the BatchNorm that follows them.

    The model must be in eval mode, where BatchNorm is a fixed scale and shift. torch.fx finds the
    pairs. In the copy, each absorbed BatchNorm is an Identity, so the names of all other layers stay.
    A BatchNorm stays as it is if it has no running statistics, does not follow a convolution
    directly, or if its convolution is used elsewhere, has hooks, or computes its weight.

    Raises:
        FoldError: the model cannot be traced, a BatchNorm is in training mode, or it has no pair.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)).eval()
        >>> imgnorm.nn.fold_batchnorm(model)[1]
        Identity()
    """
    holder = _held_copy(model)
    training = [
        name
        for name, layer in holder.named_modules()
        if isinstance(layer, _BatchNorm) and layer.training
    ]
    if training:
        raise FoldError(
            f"{_shown(training[0])}: is in training mode, where BatchNorm depends on the batch; call "
            "model.eval() first"
        )
    graph = _traced(holder)
    pairs = [pair for node in graph.nodes if (pair := _pair_at(node, graph, holder)) is not None]
    if not pairs:
        raise FoldError(
            f"{type(model).__name__}: has no convolution followed by a BatchNorm that can be folded; use "
            "it as it is"
        )
    for convolution, batchnorm in pairs:
        _absorb(batchnorm, holder.get_submodule(convolution), holder.get_submodule(batchnorm))
        _replace(holder, batchnorm, nn.Identity().eval())
    return holder[0]


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
    return nn.Sequential(copy.deepcopy(model))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = type(m).__module__.startswith("imgnorm.")  # their forward reads shapes and dtypes
        return ours or super().is_leaf_module(m, module_qualified_name)


def _traced(holder: nn.Sequential) -> fx.Graph:
    try:
        graph = _Tracer().trace(holder)
    except RAISED_BY_USER_CODE as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise FoldError(
            f"{type(holder[0]).__name__}: torch.fx cannot trace its forward "
            f"({type(error).__name__}: {reason}); fold the part of it that can be traced"
        ) from error
    if any(isinstance(node.target, OpOverload) for node in graph.nodes):
        raise FoldError(
            f"{type(holder[0]).__name__}: was exported, so it has operators in place of layers; fold the "
            "model before it is exported"
        )
    return graph


def _first_layer(graph: fx.Graph, holder: nn.Module) -> tuple[str, bool]:
    """The name of the one layer that the images go into, and whether they are flattened before it."""
    node = next(node for node in graph.nodes if node.op == "placeholder")
    flattened = False
    while True:
        users = [user for user in node.users if not _reads_shape(user)]
        if len(users) != 1:
            found = ", ".join(_described(user, holder) for user in users) or "nothing"
            raise FoldError(
                f"the images go to {found}, not to one convolution or linear layer; keep InputNorm in front"
            )
        node = users[0]
        if node.op == "call_module":
            layer = holder.get_submodule(str(node.target))
            if type(layer) in (*_CONVOLUTIONS, nn.Linear):
                return str(node.target), flattened
            if type(layer) is nn.Identity:
                continue
            if type(layer) in _TRANSPOSED:
                raise FoldError(
                    f"{_described(node, holder)}: each of its outputs has another share of the mean, "
                    "which a bias cannot express; keep InputNorm in front"
                )
        if not flattened and _flattens(node, holder):
            flattened = True
            continue
        raise FoldError(
            f"the images go to {_described(node, holder)}, which cannot absorb a normalization; keep "
            "InputNorm in front"
        )


def _flattens(node: fx.Node, holder: nn.Module) -> bool:
    """Whether this node makes (N, C·H·W) of (N, C, H, W)."""
    if node.op == "call_module":
        layer = holder.get_submodule(str(node.target))
        return type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)
    if node.target in ("view", "reshape", torch.reshape) and len(node.args) > 1:
        sizes = node.args[1] if isinstance(node.args[1], (tuple, list)) else node.args[1:]
        return len(sizes) == 2 and _is_batch_size(sizes[0], node.args[0]) and bool(sizes[1] == -1)
    if node.target not in (torch.flatten, "flatten"):
        return False
    given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
    return bool(given.get("start_dim", 0) == 1 and given.get("end_dim", -1) == -1)


def _reads_shape(node: fx.Node) -> bool:
    """Whether this node reads only what folding does not change: the images' shape or device."""
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim", "device")
    return node.op == "call_method" and node.target in ("size", "dim")


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


def _pair_at(node: fx.Node, graph: fx.Graph, holder: nn.Module) -> tuple[str, str] | None:
    """The names of a convolution and its BatchNorm, if `node` is a BatchNorm that can be folded."""
    if node.op != "call_module" or len(node.all_input_nodes) != 1:
        return None
    before = node.all_input_nodes[0]
    if before.op != "call_module" or len(before.users) != 1:
        return None
    convolution = holder.get_submodule(str(before.target))
    batchnorm = holder.get_submodule(str(node.target))
    if type(convolution) not in (*_CONVOLUTIONS, *_TRANSPOSED):
        return None
    if type(batchnorm) not in _BATCHNORMS or batchnorm.running_mean is None:
        return None
    if _entangled(str(before.target), convolution, graph, holder):
        return None
    if _entangled(str(node.target), batchnorm, graph, holder):
        return None
    if batchnorm.num_features != convolution.out_channels:
        raise FoldError(
            f"{_shown(str(node.target))}: has {batchnorm.num_features} channels and follows "
            f"{_shown(str(before.target))} with {convolution.out_channels}; fix the model"
        )
    return str(before.target), str(node.target)


def _entangled(name: str, layer: nn.Module, graph: fx.Graph, holder: nn.Module) -> str | None:
    """Why a change of this layer's parameters would change more than this one call; None if it would not."""
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
    if is_parametrized(layer):
        return "has its weight computed by a parametrization"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "has hooks"
    return None


def _refuse_entangled(name: str, layer: nn.Module, graph: fx.Graph, holder: nn.Module) -> None:
    reason = _entangled(name, layer, graph, holder)
    if reason:
        raise FoldError(
            f"{_shown(name)}: {reason}, so it cannot be changed; keep InputNorm in front"
        )


def _described(node: fx.Node, holder: nn.Module) -> str:
    if node.op == "call_module":
        kind = type(holder.get_submodule(str(node.target))).__name__
        return f"{_shown(str(node.target))} ({kind})"
    if node.op == "output":
        return "the output"
    return str(getattr(node.target, "__name__", node.target))


def _shown(name: str) -> str:
    """The name that the user knows, of a name inside the holder."""
    return name.partition(".")[2] or "the model itself"


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
            f"{_shown(name)}: takes {layer.in_channels} channels, the statistics have {len(mean)}; measure "
            "the images that the model takes"
        )
    amounts = list(layer._reversed_padding_repeated_twice) if layer.padding != "valid" else []
    needs_mean = layer.padding_mode == "zeros" and any(amounts) and bool(mean.any())
    if needs_mean and padding == "refuse":
        raise FoldError(
            f"{_shown(name)}: pads with zeros, which mean black after folding and the mean before it, so "
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
            f"{_shown(name)}: takes {layer.in_features} features, not {len(mean)} flattened channels; put "
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


def _absorb(name: str, convolution: nn.Module, batchnorm: nn.Module) -> None:
    """w·x + b becomes f·w·x + (b − mean)·f + bias, where f = weight / sqrt(variance + eps)."""
    assert isinstance(convolution, (*_CONVOLUTIONS, *_TRANSPOSED))
    assert isinstance(batchnorm, _BatchNorm)
    assert batchnorm.running_mean is not None
    assert batchnorm.running_var is not None
    factor = (batchnorm.running_var.double() + batchnorm.eps).rsqrt()
    shift = -batchnorm.running_mean.double()
    if convolution.bias is not None:
        shift = shift + convolution.bias.detach().double()
    if batchnorm.weight is not None:
        factor = factor * batchnorm.weight.detach().double()
    bias = shift * factor
    if batchnorm.bias is not None:
        bias = bias + batchnorm.bias.detach().double()
    weight = convolution.weight.detach().double()
    if isinstance(convolution, _TRANSPOSED):  # (in, out / groups, ...)
        groups = convolution.groups
        factors = factor.view(groups, -1).repeat_interleave(len(weight) // groups, 0)
    else:  # (out, in / groups, ...)
        factors = factor.view(-1, 1)
    factors = factors.view(*factors.shape, *[1] * (weight.ndim - 2))
    _set(name, convolution, weight * factors, bias)


def _set(name: str, layer: Any, weight: Tensor, bias: Tensor) -> None:
    learns = layer.weight.requires_grad
    target = layer.weight
    if not all(bool(torch.isfinite(new.to(target)).all()) for new in (weight, bias)):
        raise FoldError(
            f"{_shown(name)}: folding it gives NaN or Inf in {target.dtype}; look at its numbers with "
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
