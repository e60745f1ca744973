"""Means and stds in Python source: read with `ast`, never imported, never run."""

from __future__ import annotations

import ast
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from imgnorm.checks.lint.names import Named, named, pixels_and_dataset, words_of
from imgnorm.checks.lint.pair import Dataset, Pair
from imgnorm.checks.lint.values import Evaluator, assignments, last_name, name_of, positional
from imgnorm.constants.findings import Order
from imgnorm.constants.presets import dataset_key

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_LEAVES = (ast.Constant, ast.Name, ast.expr_context, ast.operator, ast.alias)
"""Nodes in which no pair can be."""
_POSITIONS = {  # of mean and std among the arguments; -1: given by keyword only
    "Normalize": (0, 1),
    "NormalizeVideo": (0, 1),
    "NormalizeImage": (0, 1),
    "normalize": (1, 2),
    "crop_mirror_normalize": (-1, -1),
    "CropMirrorNormalize": (-1, -1),
}


def pairs_in(data: bytes) -> list[Pair]:
    """Every mean with its std.

    Raises:
        ValueError: this is not Python, or not of the version that runs here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an invalid escape in a string, for example
            tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError("not valid Python 3") from error
    text = data.decode(errors="replace").removeprefix("\ufeff")
    return list(_PythonReader(tree, text).pairs())


def comments_in(data: bytes) -> list[str]:
    """The lines of Python source, reduced to their comments, each at its column."""
    import tokenize  # slow to import, and rarely needed

    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    lines = _LINE_BREAK.split(data.decode(encoding, errors="replace"))
    comments = [""] * len(lines)
    with suppress(tokenize.TokenError, SyntaxError):  # the comments before the error are known
        for token in tokenize.generate_tokens(iter([f"{line}\n" for line in lines]).__next__):
            if token.type == tokenize.COMMENT:
                line, column = token.start
                comments[line - 1] = " " * column + token.string
    return comments


@dataclass(frozen=True)
class _CodeContext:
    """What the code around a node says about it."""

    dataset: str | None = None
    tensor_before: bool = False  # in a Compose, after torchvision's ToTensor


class _PythonReader:
    """Finds the pairs of one file: in calls, dictionaries, defaults, and assignments."""

    def __init__(self, tree: ast.Module, text: str) -> None:
        self._tree = tree
        self._evaluator = Evaluator(_LINE_BREAK.split(text))
        self._modules: dict[str, str] = {}  # what an imported name stands for
        for node in ast.walk(tree):
            self._note_import(node)
            self._evaluator.note(node)

    def pairs(self) -> Iterator[Pair]:
        waiting: list[tuple[ast.AST, _CodeContext]] = [(self._tree, _CodeContext())]
        while waiting:
            node, context = waiting.pop()
            if isinstance(node, ast.Call):
                yield from self._call(node, context)
            elif isinstance(node, ast.Dict):
                yield from self._of_items(_constant_items(node), context)
            elif isinstance(node, (ast.Tuple, ast.List)):
                yield from self._two_lists(node, context)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from self._of_items(_defaults(node.args), context)
            for block in _blocks(node):
                inside = replace(context, dataset=_compared_dataset(node, block) or context.dataset)
                yield from self._block(block, inside)
            waiting.extend(reversed(list(self._children(node, context))))

    def _note_import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                self._modules[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                self._modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def _children(
        self, node: ast.AST, context: _CodeContext
    ) -> Iterator[tuple[ast.AST, _CodeContext]]:
        """The nodes inside, each with its context."""
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                text = key.value if isinstance(key, ast.Constant) else None
                dataset = dataset_key(text) if isinstance(text, str) else None
                yield value, replace(context, dataset=dataset or context.dataset)
            return
        if isinstance(node, ast.If):
            yield node.test, context
            inside = replace(context, dataset=_compared_dataset(node, node.body) or context.dataset)
            yield from ((child, inside) for child in node.body)
            yield from ((child, context) for child in node.orelse)
            return
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            name = name_of(node.targets[0])
            _, dataset = pixels_and_dataset(words_of(name)) if name else (False, None)
            yield node.value, replace(context, dataset=dataset or context.dataset)
            return
        if isinstance(node, ast.Call) and last_name(node.func) in ("Compose", "Sequential"):
            yield from self._steps(node, context)
            return
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, _LEAVES):
                yield child, context

    def _steps(
        self, node: ast.Call, context: _CodeContext
    ) -> Iterator[tuple[ast.AST, _CodeContext]]:
        first = node.args[0] if node.args else None
        steps = first.elts if isinstance(first, (ast.List, ast.Tuple)) else node.args
        for step in steps:
            yield step, context
            if isinstance(step, ast.Call) and self._scales(step):
                context = replace(context, tensor_before=True)
        for keyword in node.keywords:
            yield keyword.value, context

    def _scales(self, step: ast.Call) -> bool:
        """Whether this is torchvision's own conversion to 0..1."""
        if not self._home(step.func).startswith("torchvision."):
            return False
        name = last_name(step.func)
        scale = any(k.arg == "scale" and _is_true(k.value) for k in step.keywords)
        return name == "ToTensor" or (name == "ToDtype" and scale)

    def _home(self, function: ast.expr) -> str:
        """The full name of a function, by the imports: torchvision.transforms.Normalize."""
        parts: list[str] = []
        while isinstance(function, ast.Attribute):
            parts.append(function.attr)
            function = function.value
        if not isinstance(function, ast.Name):
            return ""
        parts.append(self._modules.get(function.id, ""))
        return ".".join(reversed(parts))

    def _call(self, node: ast.Call, context: _CodeContext) -> Iterator[Pair]:
        name = last_name(node.func)
        if name in _POSITIONS:
            pair = self._normalize(node, name, context)
            if pair:
                yield pair
        elif node.keywords:
            items = [(k.arg, k.value) for k in node.keywords if k.arg]
            yield from self._of_items(items, context)

    def _normalize(self, node: ast.Call, name: str, context: _CodeContext) -> Pair | None:
        given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        at_mean, at_std = _POSITIONS[name]
        if len(node.args) == 1 and isinstance(node.args[0], ast.Starred) and at_mean == 0:
            both = self._evaluator.resolved(node.args[0].value)
            nodes = both.elts if isinstance(both, (ast.Tuple, ast.List)) else []
            mean_node, std_node = nodes if len(nodes) == 2 else (None, None)
        else:
            mean_node = given.get("mean") or positional(node.args, at_mean)
            std_node = given.get("std") or given.get("stddev") or positional(node.args, at_std)
        mean, std = self._evaluator.value_of(mean_node), self._evaluator.value_of(std_node)
        if not mean or not std:
            return None
        if "mean" not in given and "number" in (mean.kind, std.kind):
            return None  # matplotlib's Normalize(0, 1)
        pixels, unit, order = self._conventions(node, given, context)
        datasets = _datasets(context.dataset, mean.written.place)
        return Pair(mean.written, std.written, pixels, unit, order, datasets)

    def _conventions(
        self, node: ast.Call, given: dict[str, ast.expr], context: _CodeContext
    ) -> tuple[bool, float | None, Order | None]:
        """Whether the call is about pixels, their unit, and the order of the channels."""
        home, name = self._home(node.func), last_name(node.func)
        framework = home.split(".")[0]
        if name in ("Normalize", "normalize") and framework == "torchvision":
            # OpenCV's images are BGR, and where it is imported the images may come from it.
            order: Order | None = "RGB" if "cv2" not in self._modules.values() else None
            if context.tensor_before:
                return True, 1.0, order
            return True, None, None
        if name == "Normalize" and framework == "albumentations":
            most = self._evaluator.value_of(given.get("max_pixel_value"))
            way = given.get("normalization")
            usual = most is None or most.written.effective[0] in (255, 65535)
            plain = way is None or (isinstance(way, ast.Constant) and way.value == "standard")
            return True, 1.0 if usual and plain else None, None
        if name == "NormalizeImage" and framework == "ffcv":
            return True, 255.0, None
        if name.lower().replace("_", "") == "cropmirrornormalize":
            return True, None if "scale" in given else 255.0, None
        return framework == "kornia" or name == "NormalizeImage", None, None

    def _of_items(
        self, items: Sequence[tuple[str, ast.expr]], context: _CodeContext
    ) -> Iterator[Pair]:
        """Pairs among keywords, the keys of a dictionary, or default values."""
        keys = dict(items)
        order: Order | None = None
        for key in ("to_rgb", "bgr_to_rgb"):  # mmcv, mmengine
            if key in keys and _is_true(keys[key]):
                order = "RGB"  # False means nothing: not converted, or RGB from the start
        collected = _Collected()
        for key, value in items:
            collected.add(named(key), value)
        for name, mean_node, std_node in collected.pairs:
            yield from self._pair(name, mean_node, std_node, context, order=order)

    def _block(self, statements: Sequence[ast.stmt], context: _CodeContext) -> Iterator[Pair]:
        """Pairs of variables that are assigned in the same block: CIFAR10_MEAN and CIFAR10_STD."""
        collected = _Collected()
        for statement in statements:
            if isinstance(statement, (ast.Assign, ast.AnnAssign)):
                for target, value in assignments(statement):
                    collected.add(*_named_target(target), value)
        for name, mean_node, std_node in collected.pairs:
            means, stds = _by_key(mean_node), _by_key(std_node)
            for key in means:
                if key in stds:
                    yield from self._pair(name, means[key], stds[key], context, key=key)
            if not means and not stds:
                yield from self._pair(name, mean_node, std_node, context)

    def _pair(
        self,
        name: Named,
        mean_node: ast.expr,
        std_node: ast.expr,
        context: _CodeContext,
        *,
        key: str = "",
        order: Order | None = None,
    ) -> Iterator[Pair]:
        mean, std = self._evaluator.value_of(mean_node), self._evaluator.value_of(std_node)
        if not mean or not std:
            return
        dataset = dataset_key(key) or name.dataset or context.dataset
        if "number" in (mean.kind, std.kind) and not dataset:
            return  # may be the mean and std of anything: of initial weights, of a price
        pixels = name.pixels or order is not None or dataset is not None
        datasets = _datasets(dataset, mean.written.place)
        yield Pair(mean.written, std.written, pixels, None, order, datasets)

    def _two_lists(self, node: ast.Tuple | ast.List, context: _CodeContext) -> Iterator[Pair]:
        """`stats = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))`."""
        if len(node.elts) == 2 and all(
            isinstance(part, (ast.Tuple, ast.List)) and len(part.elts) == 3 for part in node.elts
        ):
            mean, std = (
                self._evaluator.value_of(node.elts[0]),
                self._evaluator.value_of(node.elts[1]),
            )
            if mean and std:
                datasets = _datasets(context.dataset, mean.written.place)
                yield Pair(mean.written, std.written, datasets=datasets)


def _datasets(key: str | None, place: tuple[int, int]) -> tuple[Dataset, ...]:
    return (Dataset(key, place, key, "named"),) if key else ()


class _Collected:
    """Pairs a mean with the std next to it whose name has the same rest."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Named, ast.expr, ast.expr]] = []
        self._alone: dict[tuple[str, str], dict[str, tuple[Named, ast.expr]]] = {}

    def add(self, name: Named | None, *rest: ast.expr | str) -> None:
        *owner, value = rest
        if name is None or not isinstance(value, ast.expr):
            return
        waiting = self._alone.setdefault((str(*owner), name.stem), {})
        waiting[name.role] = (name, value)
        if len(waiting) == 2:
            self.pairs.append((name, waiting["mean"][1], waiting["std"][1]))
            waiting.clear()


def _named_target(target: ast.expr) -> tuple[Named | None, str]:
    """What a target's name says, and the key or object that it belongs to.

    `mean["cifar10"]` belongs to the key cifar10, `cfg.PIXEL_MEAN` to the object cfg.
    """
    if isinstance(target, ast.Name):
        return named(target.id), ""
    if isinstance(target, ast.Attribute):
        return named(target.attr), ast.dump(target.value)
    if (
        isinstance(target, ast.Subscript)
        and isinstance(target.slice, ast.Constant)
        and isinstance(target.slice.value, str)
    ):
        base, key = name_of(target.value) or "", target.slice.value
        name = named(base)
        if name is None:
            return named(key), ast.dump(target.value)
        dataset = dataset_key(key) or name.dataset
        return replace(name, dataset=dataset, pixels=name.pixels or dataset is not None), key
    return None, ""


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            yield block


def _compared_dataset(node: ast.AST, block: list[ast.stmt]) -> str | None:
    """The dataset of `if args.dataset == "cifar10":`, in its body."""
    if not isinstance(node, ast.If) or block is not node.body:
        return None
    test = node.test
    if (
        not isinstance(test, ast.Compare)
        or len(test.ops) != 1
        or not isinstance(test.ops[0], ast.Eq)
    ):
        return None
    variable, value = test.left, test.comparators[0]
    if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
        return None
    name = name_of(variable) or ""
    return dataset_key(value.value) if "data" in name.lower() or "dset" in name.lower() else None


def _constant_items(node: ast.Dict) -> list[tuple[str, ast.expr]]:
    return [
        (key.value, value)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]


def _by_key(node: ast.expr) -> dict[str, ast.expr]:
    return dict(_constant_items(node)) if isinstance(node, ast.Dict) else {}


def _defaults(arguments: ast.arguments) -> list[tuple[str, ast.expr]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    last = positional[len(positional) - len(arguments.defaults) :]
    found = list(zip(last, arguments.defaults, strict=True))
    found += [
        (argument, value)
        for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if value is not None
    ]
    return [(argument.arg, value) for argument, value in found]


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True
