"""Means and stds in Python source: read with `ast`, never imported, never run."""

from __future__ import annotations

import ast
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from imgnorm.checks.lint.pair import (
    MAX_VALUES,
    Named,
    Pair,
    Place,
    Written,
    named,
    told_by,
    words_of,
)
from imgnorm.constants.findings import Order
from imgnorm.constants.presets import dataset_key

MAX_STEPS = 8  # of names, calls and arithmetic between a mean and its numbers


def pairs_in(data: bytes) -> list[Pair]:
    """Every mean with its std.

    Raises:
        ValueError: this is not Python, or not this Python's.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape in somebody's string
            tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError("not valid Python 3") from error
    text = data.decode(errors="replace").removeprefix("\ufeff")
    return list(_Reader(tree, text).pairs())


def comments_in(data: bytes) -> list[str]:
    """The lines of Python source with nothing but their comments, each at its column."""
    import tokenize  # slow to import, and rarely needed

    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    lines = _LINE_BREAK.split(data.decode(encoding, errors="replace"))
    comments = [""] * len(lines)
    with suppress(tokenize.TokenError, SyntaxError):  # what comes before it is known all the same
        for token in tokenize.generate_tokens(iter([f"{line}\n" for line in lines]).__next__):
            if token.type == tokenize.COMMENT:
                line, column = token.start
                comments[line - 1] = " " * column + token.string
    return comments


_LINE_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class _Context:
    """What surrounds a node."""

    dataset: str | None = None
    tensor_before: bool = False  # in a Compose, after torchvision's ToTensor


@dataclass(frozen=True)
class _Value:
    """Numbers, and how Python's operators treat them."""

    written: Written
    kind: Literal["number", "list", "array"]


class _Reader:
    def __init__(self, tree: ast.Module, text: str) -> None:
        self._tree = tree
        self._lines = _LINE_BREAK.split(text)
        self._modules: dict[str, str] = {}  # what an imported name stands for
        self._assigned: dict[str, list[ast.expr]] = {}
        for node in ast.walk(tree):
            self._note(node)

    def _note(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                self._modules[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                self._modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target, value in _assignments(node):
                if isinstance(target, ast.Name):
                    self._assigned.setdefault(target.id, []).append(value)
        elif isinstance(node, (ast.AugAssign, ast.For)) and isinstance(node.target, ast.Name):
            self._assigned.setdefault(node.target.id, []).extend((ast.Constant(None),) * 2)

    def pairs(self) -> Iterator[Pair]:
        waiting: list[tuple[ast.AST, _Context]] = [(self._tree, _Context())]
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
                inside = replace(context, dataset=_asked_for(node, block) or context.dataset)
                yield from self._block(block, inside)
            waiting.extend(reversed(list(self._children(node, context))))

    def _children(self, node: ast.AST, context: _Context) -> Iterator[tuple[ast.AST, _Context]]:
        """The nodes inside, each with its context."""
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                text = key.value if isinstance(key, ast.Constant) else None
                dataset = dataset_key(text) if isinstance(text, str) else None
                yield value, replace(context, dataset=dataset or context.dataset)
            return
        if isinstance(node, ast.If):
            yield node.test, context
            inside = replace(context, dataset=_asked_for(node, node.body) or context.dataset)
            yield from ((child, inside) for child in node.body)
            yield from ((child, context) for child in node.orelse)
            return
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            name = _name_of(node.targets[0])
            _, dataset = told_by(words_of(name)) if name else (False, None)
            yield node.value, replace(context, dataset=dataset or context.dataset)
            return
        if isinstance(node, ast.Call) and _last(node.func) in ("Compose", "Sequential"):
            yield from self._steps(node, context)
            return
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, _LEAVES):
                yield child, context

    def _steps(self, node: ast.Call, context: _Context) -> Iterator[tuple[ast.AST, _Context]]:
        first = node.args[0] if node.args else None
        steps = first.elts if isinstance(first, (ast.List, ast.Tuple)) else node.args
        for step in steps:
            yield step, context
            if isinstance(step, ast.Call) and self._scales(step):
                context = replace(context, tensor_before=True)
        for keyword in node.keywords:
            yield keyword.value, context

    def _scales(self, step: ast.Call) -> bool:
        """Whether this is torchvision's own step to 0..1."""
        if not self._home(step.func).startswith("torchvision."):
            return False
        name = _last(step.func)
        scale = any(k.arg == "scale" and _is_true(k.value) for k in step.keywords)
        return name == "ToTensor" or (name == "ToDtype" and scale)

    def _home(self, function: ast.expr) -> str:
        """The dotted name behind imports: torchvision.transforms.Normalize."""
        parts: list[str] = []
        while isinstance(function, ast.Attribute):
            parts.append(function.attr)
            function = function.value
        if not isinstance(function, ast.Name):
            return ""
        parts.append(self._modules.get(function.id, ""))
        return ".".join(reversed(parts))

    def _call(self, node: ast.Call, context: _Context) -> Iterator[Pair]:
        name = _last(node.func)
        if name in _POSITIONS:
            pair = self._normalize(node, name, context)
            if pair:
                yield pair
        elif node.keywords:
            items = [(k.arg, k.value) for k in node.keywords if k.arg]
            yield from self._of_items(items, context)

    def _normalize(self, node: ast.Call, name: str, context: _Context) -> Pair | None:
        given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        at_mean, at_std = _POSITIONS[name]
        if len(node.args) == 1 and isinstance(node.args[0], ast.Starred) and at_mean == 0:
            both = self._resolved(node.args[0].value)
            nodes = both.elts if isinstance(both, (ast.Tuple, ast.List)) else []
            mean_node, std_node = nodes if len(nodes) == 2 else (None, None)
        else:
            mean_node = given.get("mean") or _positional(node.args, at_mean)
            std_node = given.get("std") or given.get("stddev") or _positional(node.args, at_std)
        mean, std = self._value(mean_node), self._value(std_node)
        if not mean or not std:
            return None
        if "mean" not in given and "number" in (mean.kind, std.kind):
            return None  # matplotlib's Normalize(0, 1)
        pixels, unit, order = self._told_by_call(node, given, context)
        return Pair(mean.written, std.written, pixels, unit, order, context.dataset)

    def _told_by_call(
        self, node: ast.Call, given: dict[str, ast.expr], context: _Context
    ) -> tuple[bool, float | None, Order | None]:
        """Whether it is about pixels, their unit and the order of the channels."""
        home, name = self._home(node.func), _last(node.func)
        framework = home.split(".")[0]
        if name in ("Normalize", "normalize") and framework == "torchvision":
            # OpenCV's images are BGR, and nothing here tells which ones come in.
            order: Order | None = "RGB" if "cv2" not in self._modules.values() else None
            if context.tensor_before:
                return True, 1.0, order
            return True, None, None
        if name == "Normalize" and framework == "albumentations":
            most = self._value(given.get("max_pixel_value"))
            way = given.get("normalization")
            usual = most is None or most.written.effective[0] in (255, 65535)
            plain = way is None or (isinstance(way, ast.Constant) and way.value == "standard")
            return True, 1.0 if usual and plain else None, None
        if name == "NormalizeImage" and framework == "ffcv":
            return True, 255.0, None
        if name.lower().replace("_", "") == "cropmirrornormalize":
            return True, None if "scale" in given else 255.0, None
        return framework == "kornia" or name == "NormalizeImage", None, None

    def _of_items(self, items: Sequence[tuple[str, ast.expr]], context: _Context) -> Iterator[Pair]:
        """Pairs among keywords, the keys of a dictionary, or default values."""
        keys = dict(items)
        order: Order | None = None
        for key in ("to_rgb", "bgr_to_rgb"):  # mmcv, mmengine
            if key in keys and _is_true(keys[key]):
                order = "RGB"  # false says nothing: not converted, or RGB from the start
        collected = _Collected()
        for key, value in items:
            collected.add(named(key), value)
        for name, mean_node, std_node in collected.pairs:
            yield from self._pair(name, mean_node, std_node, context, order=order)

    def _block(self, statements: Sequence[ast.stmt], context: _Context) -> Iterator[Pair]:
        """Pairs of variables that are set in the same block: CIFAR10_MEAN and CIFAR10_STD."""
        collected = _Collected()
        for statement in statements:
            if isinstance(statement, (ast.Assign, ast.AnnAssign)):
                for target, value in _assignments(statement):
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
        context: _Context,
        *,
        key: str = "",
        order: Order | None = None,
    ) -> Iterator[Pair]:
        mean, std = self._value(mean_node), self._value(std_node)
        if not mean or not std:
            return
        dataset = dataset_key(key) or name.dataset or context.dataset
        if "number" in (mean.kind, std.kind) and not dataset:
            return  # the mean and std of anything: of initial weights, of a price
        pixels = name.pixels or order is not None or dataset is not None
        yield Pair(mean.written, std.written, pixels, None, order, dataset)

    def _two_lists(self, node: ast.Tuple | ast.List, context: _Context) -> Iterator[Pair]:
        """`stats = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))`."""
        if len(node.elts) == 2 and all(
            isinstance(part, (ast.Tuple, ast.List)) and len(part.elts) == 3 for part in node.elts
        ):
            mean, std = self._value(node.elts[0]), self._value(node.elts[1])
            if mean and std:
                yield Pair(mean.written, std.written, dataset=context.dataset)

    def _resolved(self, node: ast.expr | None) -> ast.expr | None:
        """What a name stands for, if it is set only once in this file."""
        for _ in range(MAX_STEPS):
            if not isinstance(node, ast.Name):
                return node
            values = self._assigned.get(node.id, [])
            node = values[0] if len(values) == 1 else None
        return None

    def _value(self, node: ast.expr | None, steps: int = MAX_STEPS) -> _Value | None:
        """The numbers that an expression gives, if it takes no running to know them."""
        node = self._resolved(node)
        if node is None or steps == 0:
            return None
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self._value(node.operand, steps - 1)
            if value is None or isinstance(node.op, ast.UAdd):
                return value
            return _changed(value, values=tuple(-v for v in value.written.values))
        if isinstance(node, (ast.List, ast.Tuple)):
            return self._list(node, steps)
        if isinstance(node, ast.BinOp):
            return self._arithmetic(node, steps)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return self._comprehension(node, steps)
        if isinstance(node, ast.Call):
            return self._converted(node, steps)
        return None

    def _constant(self, node: ast.Constant) -> _Value | None:
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            return None
        try:
            number = float(node.value)
        except OverflowError:
            return None
        place = self._place(node)
        return _Value(Written((number,), place, (place,)), "number")

    def _list(self, node: ast.List | ast.Tuple, steps: int) -> _Value | None:
        if not 0 < len(node.elts) <= MAX_VALUES:
            return None
        parts = [self._value(element, steps - 1) for element in node.elts]
        numbers = [part.written for part in parts if part and part.kind == "number"]
        if len(numbers) != len(parts):
            return None
        if len({number.divisor for number in numbers}) > 1:
            numbers = [number.divided() for number in numbers]
        values = tuple(number.values[0] for number in numbers)
        places = tuple(number.place for number in numbers)
        return _Value(Written(values, self._place(node), places, numbers[0].divisor), "list")

    def _arithmetic(self, node: ast.BinOp, steps: int) -> _Value | None:
        left, right = self._value(node.left, steps - 1), self._value(node.right, steps - 1)
        if not left or not right:
            return None
        if isinstance(node.op, ast.Mult):
            for many, one in ((left, right), (right, left)):
                if many.kind == "list" and one.kind == "number":
                    return _repeated(many, one.written.effective[0])
            if right.kind == "array" or (
                right.kind == left.kind == "number" and right.written.values[0] < 1
            ):
                left, right = right, left  # 255 * 0.485
            return _divided(left, right, inverse=True)
        if isinstance(node.op, ast.Div) and left.kind != "list":
            return _divided(left, right)
        return None

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp, steps: int) -> _Value | None:
        """`[x / 255 for x in …]` and `[0.5 for _ in range(3)]`."""
        loop = node.generators[0]
        if len(node.generators) > 1 or loop.ifs or not isinstance(loop.target, ast.Name):
            return None
        if isinstance(loop.iter, ast.Call) and _last(loop.iter.func) == "range":
            times = self._value(_positional(loop.iter.args, 0), steps - 1)
            once = self._value(node.elt, steps - 1)
            if not times or not once or once.kind != "number" or len(loop.iter.args) != 1:
                return None
            return _repeated(replace(once, kind="list"), times.written.values[0])
        items = self._value(loop.iter, steps - 1)
        if not items or items.kind == "number" or not isinstance(node.elt, ast.BinOp):
            return None
        operand = self._value(node.elt.right, steps - 1)
        of_item = isinstance(node.elt.left, ast.Name) and node.elt.left.id == loop.target.id
        if not operand or not of_item or not isinstance(node.elt.op, (ast.Div, ast.Mult)):
            return None
        value = _divided(items, operand, inverse=isinstance(node.elt.op, ast.Mult))
        return replace(value, kind="list") if value else None

    def _converted(self, node: ast.Call, steps: int) -> _Value | None:
        """`np.array([…])`, `torch.tensor([…]).view(3, 1, 1)`, `tuple(…)`."""
        name = _last(node.func)
        if name in _TO_ARRAY or name in _TO_LIST:
            value = self._value(_positional(node.args, 0), steps - 1)
            if value is None or value.kind == "number":
                return value
            return replace(value, kind="array" if name in _TO_ARRAY else "list")
        if name in _RESHAPING and isinstance(node.func, ast.Attribute):
            return self._value(node.func.value, steps - 1)
        return None

    def _place(self, node: ast.expr) -> Place:
        """Columns count characters, where `ast` counts bytes."""
        line = self._lines[node.lineno - 1] if node.lineno <= len(self._lines) else ""
        before = line.encode()[: node.col_offset].decode(errors="replace")
        return node.lineno, len(before) + 1


_LEAVES = (ast.Constant, ast.Name, ast.expr_context, ast.operator, ast.alias)
_POSITIONS = {  # where mean and std stand
    "Normalize": (0, 1),
    "NormalizeVideo": (0, 1),
    "NormalizeImage": (0, 1),
    "normalize": (1, 2),
    "crop_mirror_normalize": (-1, -1),
    "CropMirrorNormalize": (-1, -1),
}
_TO_ARRAY = {"array", "asarray", "tensor", "as_tensor", "FloatTensor", "Tensor", "constant"}
_TO_LIST = {"list", "tuple"}
_RESHAPING = {
    "view", "reshape", "to", "cuda", "float", "double", "astype", "unsqueeze", "permute", "tolist",
    "type",
}  # fmt: skip


class _Collected:
    """Means and stds by the rest of their name; each mean goes with the std that follows or precedes it."""

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
    """A target's name, and what it is an item or attribute of: `mean["cifar10"]`, `cfg.PIXEL_MEAN`."""
    if isinstance(target, ast.Name):
        return named(target.id), ""
    if isinstance(target, ast.Attribute):
        return named(target.attr), ast.dump(target.value)
    if (
        isinstance(target, ast.Subscript)
        and isinstance(target.slice, ast.Constant)
        and isinstance(target.slice.value, str)
    ):
        base, key = _name_of(target.value) or "", target.slice.value
        name = named(base)
        if name is None:
            return named(key), ast.dump(target.value)
        dataset = dataset_key(key) or name.dataset
        return replace(name, dataset=dataset, pixels=name.pixels or dataset is not None), key
    return None, ""


def _assignments(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Targets with their values; `mean, std = …, …` taken apart."""
    if node.value is None:
        return
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        value = node.value
        if isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (ast.Tuple, ast.List)):
            if len(target.elts) == len(value.elts):
                yield from zip(target.elts, value.elts, strict=True)
        else:
            yield target, value


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            yield block


def _asked_for(node: ast.AST, block: list[ast.stmt]) -> str | None:
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
    asked, answer = test.left, test.comparators[0]
    if not isinstance(answer, ast.Constant) or not isinstance(answer.value, str):
        return None
    name = _name_of(asked) or ""
    return dataset_key(answer.value) if "data" in name.lower() or "dset" in name.lower() else None


def _name_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def _last(function: ast.expr) -> str:
    return _name_of(function) or ""


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


def _positional(arguments: Sequence[ast.expr], index: int) -> ast.expr | None:
    before = arguments[: index + 1]
    if index < 0 or len(before) <= index or any(isinstance(a, ast.Starred) for a in before):
        return None
    return before[index]


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _changed(value: _Value, *, values: tuple[float, ...]) -> _Value:
    return replace(value, written=replace(value.written, values=values))


def _repeated(value: _Value, times: float) -> _Value | None:
    written = value.written
    if times not in range(1, MAX_VALUES // len(written.values) + 1):
        return None
    count = int(times)
    places = written.places * count
    return replace(value, written=replace(written, values=written.values * count, places=places))


def _divided(value: _Value, by: _Value, *, inverse: bool = False) -> _Value | None:
    """By a number that is positive; the digits stay those that were written."""
    if by.kind != "number":
        return None
    divisor = by.written.effective[0]
    if not 1e-9 < divisor < 1e9:
        return None
    written = value.written
    total = written.divisor * divisor if not inverse else written.divisor / divisor
    changed = replace(written, divisor=total)
    if set(written.values) == {1}:  # 1 / 255 is a number of its own, not a 1 in 0..255
        changed = replace(written, values=changed.effective, divisor=1.0)
    return replace(value, written=changed)
