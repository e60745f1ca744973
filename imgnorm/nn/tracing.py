"""A model as torch.fx sees it: which layers run, and whose output goes where."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch._ops import OpOverload
from torch.fx.proxy import TraceError

from imgnorm.errors import FoldError
from imgnorm.nn.inspection import is_batchnorm
from imgnorm.nn.models import RAISED_BY_USER_CODE
from imgnorm.wording import headline

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LINEAR = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)

_SAME_AFTER_FOLDING = ("shape", "ndim", "device", "requires_grad")


@dataclass(frozen=True)
class Traced:
    """A trace of a model that lies in a holder, so that the model itself has a name, too."""

    holder: nn.Sequential
    graph: fx.Graph  # to be read only: it is no program if it has parts
    opaque: dict[str, str]  # modules whose forward cannot be traced, and why
    parts: bool  # whether their children were traced

    def around(self, name: str) -> str | None:
        """The innermost module that this layer is in and that cannot be traced."""
        return max((o for o in self.opaque if name.startswith(f"{o}.")), key=len, default=None)

    def why_opaque(self, name: str) -> str:
        kind = type(self.holder.get_submodule(name)).__name__
        return (
            f"{own_name(name)} ({kind}), whose forward torch.fx cannot trace ({self.opaque[name]})"
        )

    def described(self, node: fx.Node) -> str:
        if node.op == "call_module":
            kind = type(self.holder.get_submodule(str(node.target))).__name__
            return f"{own_name(str(node.target))} ({kind})"
        if node.op == "output":
            return "the output"
        if node.op == "placeholder":
            return "the input"
        return str(getattr(node.target, "__name__", node.target))


def traced(holder: nn.Sequential, *, parts: bool = False) -> Traced:
    """The graph of the one model in the holder.

    A module whose forward cannot be traced is one node, as a layer is.

    Args:
        parts: trace the children of such a module, too, each as if it were called by itself.

    Raises:
        FoldError: the model was exported.
    """
    # A forward may keep what it computes in an attribute. So it runs in a copy, which shares the tensors.
    tensors = {id(tensor): tensor for tensor in (*holder.parameters(), *holder.buffers())}
    tracer = _Tracer(parts)
    graph = tracer.trace(copy.deepcopy(holder, tensors))
    if any(isinstance(node.target, OpOverload) for node in graph.nodes):
        raise FoldError(
            f"{type(holder[0]).__name__}: was exported, so it has operators in place of layers; fold the "
            "model before it is exported"
        )
    return Traced(holder, graph, tracer.opaque, parts)


def own_name(name: str) -> str:
    """The name that the user knows, of a name inside the holder."""
    return name.partition(".")[2] or "the model itself"


def users_of(node: fx.Node) -> list[fx.Node]:
    """What uses the values of this node, not only its shape."""
    return [user for user in node.users if not _reads_shape(user)]


def linear_kind(layer: nn.Module) -> type[nn.Module] | None:
    """torch's convolution or linear layer that this is: a subclass may not have a forward of its own."""
    kind = next((kind for kind in LINEAR if isinstance(layer, kind)), None)
    if kind is None or "forward" in layer.__dict__:
        return None
    own = [getattr(type(layer), method, None) for method in ("forward", "_conv_forward")]
    return kind if own == [getattr(kind, m, None) for m in ("forward", "_conv_forward")] else None


class _Tracer(fx.Tracer):
    def __init__(self, parts: bool) -> None:
        super().__init__()
        self.parts = parts
        self.opaque: dict[str, str] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = type(m).__module__.startswith("imgnorm.")  # their forward reads shapes and dtypes
        layer = is_batchnorm(m) or (isinstance(m, LINEAR) and not any(m.children()))
        return ours or layer or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        name = self.path_of_module(m)
        if self.is_leaf_module(m, name):
            return self.create_proxy("call_module", name, args, kwargs)
        before = set(self.graph.nodes)
        try:
            return forward(*args, **kwargs)
        except RAISED_BY_USER_CODE as error:
            for node in reversed([node for node in self.graph.nodes if node not in before]):
                self.graph.erase_node(node)
            for inner in [inner for inner in self.opaque if inner.startswith(f"{name}.")]:
                del self.opaque[inner]
            self.opaque[name] = _why(error)
            return self.create_proxy("call_module", name, args, kwargs)

    def create_args_for_root(
        self, root_fn: Any, *rest: Any, **options: Any
    ) -> tuple[Any, list[Any]]:
        forward, arguments = super().create_args_for_root(root_fn, *rest, **options)

        def with_parts(*given: Any) -> Any:
            result = forward(*given)
            done: set[str] = set()
            while self.parts and (waiting := [name for name in self.opaque if name not in done]):
                done.add(waiting[0])
                self._trace_children(self.root.get_submodule(waiting[0]))
            return result

        return with_parts, arguments

    def _trace_children(self, module: nn.Module) -> None:
        for child in module.children():
            if type(child).forward is nn.Module.forward:  # a list or dictionary of modules
                self._trace_children(child)
                continue
            needed = [
                self.create_proxy("placeholder", parameter.name, (), {})
                for parameter in inspect.signature(child.forward).parameters.values()
                if parameter.default is parameter.empty
                and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            ]
            self.create_node("output", "output", (self.create_arg(child(*needed)),), {})


def _why(error: Exception) -> str:
    said = headline(error).partition(". ")[0]
    return said if isinstance(error, TraceError) else f"{type(error).__name__}: {said}"


def _reads_shape(node: fx.Node) -> bool:
    """Whether this node reads only what folding does not change, such as the shape of the images."""
    if node.target is getattr:
        return node.args[1] in _SAME_AFTER_FOLDING
    return node.op == "call_method" and node.target in ("size", "dim")
