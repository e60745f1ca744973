"""The numbers that a Python expression gives, found without running it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from imgnorm.checks.lint.pair import MAX_VALUES, NumberText, Written
from imgnorm.documents.tree import Place

_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
MAX_STEPS = 8  # of names, calls and arithmetic between a mean and its numbers

_TO_ARRAY = {
    "array", "asarray", "tensor", "as_tensor", "FloatTensor", "Tensor", "constant", "new_tensor",
    "to_tensor", "float32", "Parameter", "Variable", "convert_to_tensor",
}  # fmt: skip
_TO_LIST = {"list", "tuple", "ListConfig"}
_RESHAPING = {
    "view", "reshape", "to", "cuda", "float", "double", "astype", "unsqueeze", "permute", "tolist",
    "type",
}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """Numbers, and how Python's operators treat them."""

    written: Written
    kind: Literal["number", "list", "array"]


class Evaluator:
    """Evaluates expressions of one file. It follows names that are assigned once in the file."""

    def __init__(self, statements: Iterable[ast.stmt], lines: Sequence[str]) -> None:
        self._lines = lines
        self._assigned: dict[str, list[ast.expr]] = {}
        for node in statements:
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                for target, value in assignments(node):
                    if isinstance(target, ast.Name):
                        self._assigned.setdefault(target.id, []).append(value)
            elif isinstance(node, (ast.AugAssign, ast.For)) and isinstance(node.target, ast.Name):
                # Two entries: the name has more than one value.
                self._assigned.setdefault(node.target.id, []).extend((ast.Constant(None),) * 2)

    def resolved(self, node: ast.expr | None) -> ast.expr | None:
        """The expression that a name stands for, if the name is assigned only once in the file."""
        for _ in range(MAX_STEPS):
            if not isinstance(node, ast.Name):
                return node
            values = self._assigned.get(node.id, [])
            node = values[0] if len(values) == 1 else None
        return None

    def value_of(self, node: ast.expr | None, steps: int = MAX_STEPS) -> Value | None:
        """The numbers that an expression gives, if they can be known without running it."""
        node = self.resolved(node)
        if node is None or steps == 0:
            return None
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self.value_of(node.operand, steps - 1)
            if value is None or isinstance(node.op, ast.UAdd):
                return value
            return self._negative(node, value)
        if isinstance(node, (ast.List, ast.Tuple)):
            return self._list(node, steps)
        if isinstance(node, ast.BinOp):
            return self._arithmetic(node, steps)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return self._comprehension(node, steps)
        if isinstance(node, ast.Call):
            return self._converted(node, steps)
        if isinstance(node, ast.Subscript):
            return self._part(node, steps)
        return None

    def _constant(self, node: ast.Constant) -> Value | None:
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            return None
        try:
            number = float(node.value)
        except OverflowError:
            return None
        place = self.place_of(node)
        return Value(Written((number,), place, (self._text(node, place),)), "number")

    def _list(self, node: ast.List | ast.Tuple, steps: int) -> Value | None:
        if not 0 < len(node.elts) <= MAX_VALUES:
            return None
        parts = [self.value_of(element, steps - 1) for element in node.elts]
        if all(part and part.kind == "list" and len(part.written.values) == 1 for part in parts):
            parts = [
                replace(part, kind="number") for part in parts if part
            ]  # [[[0.5]], [[0.4]], …]
        elif len(parts) == 1 and parts[0] and parts[0].kind == "list":
            return parts[0]  # [[[0.5, 0.4, 0.3]]]
        numbers = [part.written for part in parts if part and part.kind == "number"]
        if len(numbers) != len(parts):
            return None
        if len({number.divisor for number in numbers}) > 1:
            numbers = [number.divided() for number in numbers]
        values = tuple(number.values[0] for number in numbers)
        texts = tuple(number.texts[0] for number in numbers)
        return Value(Written(values, self.place_of(node), texts, numbers[0].divisor), "list")

    def _arithmetic(self, node: ast.BinOp, steps: int) -> Value | None:
        left, right = self.value_of(node.left, steps - 1), self.value_of(node.right, steps - 1)
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

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp, steps: int) -> Value | None:
        """`[x / 255 for x in …]` and `[0.5 for _ in range(3)]`."""
        loop = node.generators[0]
        if len(node.generators) > 1 or loop.ifs or not isinstance(loop.target, ast.Name):
            return None
        if isinstance(loop.iter, ast.Call) and last_name(loop.iter.func) == "range":
            times = self.value_of(positional(loop.iter.args, 0), steps - 1)
            once = self.value_of(node.elt, steps - 1)
            if not times or not once or once.kind != "number" or len(loop.iter.args) != 1:
                return None
            return _repeated(replace(once, kind="list"), times.written.values[0])
        items = self.value_of(loop.iter, steps - 1)
        if not items or items.kind == "number" or not isinstance(node.elt, ast.BinOp):
            return None
        operand = self.value_of(node.elt.right, steps - 1)
        of_item = isinstance(node.elt.left, ast.Name) and node.elt.left.id == loop.target.id
        if not operand or not of_item or not isinstance(node.elt.op, (ast.Div, ast.Mult)):
            return None
        value = _divided(items, operand, inverse=isinstance(node.elt.op, ast.Mult))
        return replace(value, kind="list") if value else None

    def _converted(self, node: ast.Call, steps: int) -> Value | None:
        """`np.array([…])`, `torch.tensor([…]).view(3, 1, 1)`, `tuple(…)`."""
        name = last_name(node.func)
        if name in _TO_ARRAY or name in _TO_LIST:
            value = self.value_of(positional(node.args, 0), steps - 1)
            if value is None or value.kind == "number":
                return value
            return replace(value, kind="array" if name in _TO_ARRAY else "list")
        if name in _RESHAPING and isinstance(node.func, ast.Attribute):
            return self.value_of(node.func.value, steps - 1)
        return None

    def _part(self, node: ast.Subscript, steps: int) -> Value | None:
        """`STD["cifar10"]`, `mean[::-1]`, `mean[:, None, None]`."""
        base = self.resolved(node.value)
        if isinstance(base, ast.Dict) and isinstance(node.slice, ast.Constant):
            for key, item in zip(base.keys, base.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == node.slice.value:
                    return self.value_of(item, steps - 1)
            return None
        value = self.value_of(base, steps - 1)
        if value is None or value.kind == "number":
            return None
        axes = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if ast.unparse(axes[0]) == "::-1" and len(axes) == 1:
            written = value.written
            turned = replace(written, values=written.values[::-1], texts=written.texts[::-1])
            return replace(value, written=turned)
        added = all(ast.unparse(axis) in (":", "None", "...", "np.newaxis") for axis in axes)
        return value if added and value.kind == "array" else None

    def _negative(self, node: ast.UnaryOp, value: Value) -> Value:
        values, place = tuple(-v for v in value.written.values), self.place_of(node)
        written = replace(value.written, values=values, texts=(None,) * len(values))
        if isinstance(node.operand, ast.Constant):
            written = replace(written, place=place, texts=(self._text(node, place),))
        return replace(value, written=written)

    def _text(self, node: ast.expr, place: Place) -> NumberText | None:
        """The number that stands there, if it is written as `float` reads it."""
        line = self._lines[node.lineno - 1] if node.lineno <= len(self._lines) else ""
        if node.end_lineno != node.lineno or node.end_col_offset is None:
            return None
        text = line.encode()[node.col_offset : node.end_col_offset].decode(errors="replace")
        return NumberText(text, place) if _NUMBER.fullmatch(text) else None

    def place_of(self, node: ast.expr | ast.stmt) -> Place:
        """Columns count characters, where `ast` counts bytes."""
        line = self._lines[node.lineno - 1] if node.lineno <= len(self._lines) else ""
        before = line.encode()[: node.col_offset].decode(errors="replace")
        return node.lineno, len(before) + 1


def nodes_in(tree: ast.AST) -> list[ast.AST]:
    """All nodes; `ast.walk` is several times slower."""
    found = [tree]
    for node in found:
        for value in node.__dict__.values():
            if isinstance(value, ast.AST):
                found.append(value)
            elif isinstance(value, list):
                found.extend(item for item in value if isinstance(item, ast.AST))
    return found


def statements_in(tree: ast.AST) -> list[ast.stmt]:
    """All statements, also those in others."""
    found: list[ast.AST] = [tree]
    for node in found:
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            inside = getattr(node, part, None)
            if isinstance(inside, list):
                found += inside
    return [node for node in found if isinstance(node, ast.stmt)]


def assignments(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[ast.expr, ast.expr]]:
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


def name_of(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def last_name(function: ast.expr) -> str:
    return name_of(function) or ""


def positional(arguments: Sequence[ast.expr], index: int) -> ast.expr | None:
    before = arguments[: index + 1]
    if index < 0 or len(before) <= index or any(isinstance(a, ast.Starred) for a in before):
        return None
    return before[index]


def _repeated(value: Value, times: float) -> Value | None:
    written = value.written
    if times not in range(1, MAX_VALUES // len(written.values) + 1):
        return None
    count = int(times)
    texts = written.texts * count
    return replace(value, written=replace(written, values=written.values * count, texts=texts))


def _divided(value: Value, by: Value, *, inverse: bool = False) -> Value | None:
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
        texts = (None,) * len(written.values)
        changed = replace(written, values=changed.effective, divisor=1.0, texts=texts)
    return replace(value, written=changed)
