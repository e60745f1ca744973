"""What a BatchNorm layer does in eval mode: a scale and a shift per channel, and then something else."""

from __future__ import annotations

import copy
import inspect
import operator
from collections import OrderedDict
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from imgnorm.nn.models import RAISED_BY_USER_CODE
from imgnorm.nn.tracing import users_of
from imgnorm.wording import headline

_CHECKS = ("_check_input_dim", "_check_non_zero_input_channels")
"""What torch's layers ask of their input first. torch.fx cannot trace the question."""


@dataclass(frozen=True)
class Channelwise:
    """`rest(scale * input + shift)`."""

    scale: Tensor  # (C,) or (1,), float64, on the CPU
    shift: Tensor  # (C,) or (1,)
    rest: nn.Module  # an Identity where the layer does nothing else; an activation, for example


def channelwise(layer: nn.Module, ndim: int) -> Channelwise | str:
    """What a layer in eval mode does to its input (N, C, ...), or why that is not known.

    The layer's forward is traced with torch.fx. So a layer is known by what it does: torch's BatchNorm,
    timm's BatchNormAct2d, torchvision's and Detectron2's FrozenBatchNorm2d, and any other whose first
    steps are `torch.nn.functional.batch_norm`, or sums and products with one constant per channel.

    Args:
        ndim: how many dimensions its input has.
    """
    kind = type(layer).__name__
    if "forward" in layer.__dict__ or isinstance(layer, torch.jit.ScriptModule):
        return f"is {kind} whose forward is not that of its class"
    with torch.random.fork_rng(devices=[]):
        found, constants = _traced(layer, kind, ndim)
        if isinstance(found, str):
            return found
        torch.rand(1)
        _, again = _traced(layer, kind, ndim)
    if any(not torch.equal(constant, again[name]) for name, constant in constants.items()):
        return f"is {kind}, whose own forward draws random numbers"
    return found


def _traced(layer: nn.Module, kind: str, ndim: int) -> tuple[Channelwise | str, dict[str, Tensor]]:
    """What `channelwise` returns, and the tensors that this call of the layer's forward has made."""
    layer = copy.copy(layer)
    layer.__dict__.update(dict.fromkeys(_CHECKS, lambda *_: None))
    tracer = _LayerTracer()
    try:
        graph = tracer.trace(layer)
    except RAISED_BY_USER_CODE as error:
        return f"is {kind}, whose own forward torch.fx cannot trace ({headline(error)})", {}
    made = {name: one for name, one in vars(layer).items() if name.startswith("_tensor_constant")}
    entry = value = next(node for node in graph.nodes if node.op == "placeholder")
    scale, shift = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    steps: list[fx.Node] = []
    while len(users := users_of(value)) == 1:
        step = _Step(users[0], value, layer, ndim).scale_and_shift()
        if step is None:
            break
        value = users[0]
        steps.append(value)
        scale, shift = scale * step[0], shift * step[0] + step[1]
    if not steps:
        first = ", ".join(_described(user, layer) for user in users) or "nothing"
        reason = f"is {kind}, whose own forward begins with {first}, not with a normalization alone"
        return reason, made
    return Channelwise(scale, shift, _rest(layer, graph, entry, steps)), made


class _LayerTracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val  # parameters as they are: what is computed of them alone is a constant

    def to_bool(self, obj: fx.Proxy) -> bool:
        node = obj.node
        if node.target is getattr and node.args[1] == "requires_grad":
            return False  # Detectron2 asks, and does the same in both cases
        return super().to_bool(obj)


@dataclass(frozen=True)
class _Step:
    """A use of a value, in a layer's forward."""

    node: fx.Node
    value: fx.Node
    layer: nn.Module
    ndim: int

    def scale_and_shift(self) -> tuple[Tensor, Tensor] | None:
        """What it does to each channel; None if it does something else."""
        if self.node.op != "call_function":
            return None
        if self.node.target is F.batch_norm:
            return self._batch_norm()
        if len(self.node.args) != 2 or self.node.kwargs:
            return None
        left, right = self.node.args
        swapped = right is self.value
        constant = self._constant(left if swapped else right)
        if constant is None:
            return None
        one, zero = torch.ones_like(constant), torch.zeros_like(constant)
        match self.node.target, swapped:
            case operator.mul, _:
                return constant, zero
            case operator.add, _:
                return one, constant
            case operator.sub, False:
                return one, -constant
            case operator.truediv, False:
                return 1 / constant, zero
        return None

    def _batch_norm(self) -> tuple[Tensor, Tensor] | None:
        given = inspect.signature(F.batch_norm).bind(*self.node.args, **self.node.kwargs)
        given.apply_defaults()
        named = given.arguments
        mean, variance = (self._tensor(named[key]) for key in ("running_mean", "running_var"))
        weight, bias = (self._tensor(named[key]) for key in ("weight", "bias"))
        if named["training"] is not False or mean is None or variance is None:
            return None
        scale = (variance + named["eps"]).rsqrt()
        scale = scale if weight is None else scale * weight
        shift = -mean * scale
        return scale, shift if bias is None else shift + bias

    def _tensor(self, argument: Any) -> Tensor | None:
        if not isinstance(argument, fx.Node) or argument.op != "get_attr":
            return None
        found = attrgetter(str(argument.target))(self.layer)
        return found.detach().cpu().double() if isinstance(found, Tensor) else None

    def _constant(self, argument: Any) -> Tensor | None:
        """One number per channel, if the argument is that or one number."""
        if isinstance(argument, (int, float)):
            return torch.tensor([argument], dtype=torch.float64)
        found = self._tensor(argument)
        if found is None or found.ndim > self.ndim:
            return None
        per_channel = found.ndim >= self.ndim - 1 and found.shape[1 - self.ndim] == found.numel()
        return found.flatten() if per_channel or found.numel() == 1 else None


def _rest(layer: nn.Module, graph: fx.Graph, entry: fx.Node, steps: list[fx.Node]) -> nn.Module:
    """The layer without these first steps: its modules if it runs one after the other, else a program."""
    modules: dict[str, nn.Module] = {}
    node = steps[-1]
    while len(users := users_of(node)) == 1:
        (user,) = users
        if user.op == "output" and user.args == (node,):
            return nn.Sequential(OrderedDict(modules)) if modules else nn.Identity()
        name = str(user.target)
        if user.op != "call_module" or user.args != (node,) or user.kwargs or name in modules:
            break
        if "." in name:
            break
        module = layer.get_submodule(name)
        if type(module) is not nn.Identity:
            modules[name] = module
        node = user
    steps[-1].replace_all_uses_with(entry)
    for step in reversed(steps):
        graph.erase_node(step)
    for node in graph.find_nodes(op="get_attr"):
        if not node.users:  # the running statistics, which would be kept
            graph.erase_node(node)
    return fx.GraphModule(layer, graph, type(layer).__name__)


def _described(node: fx.Node, layer: nn.Module) -> str:
    if node.op == "call_module":
        return f"{node.target} ({type(layer.get_submodule(str(node.target))).__name__})"
    return str(getattr(node.target, "__name__", node.target))
