"""Means and stds in Python source: read with `ast`, never imported, never run."""

from __future__ import annotations

import ast
import io
import re
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from imgnorm.checks.lint.evidence import Evidence, Names
from imgnorm.checks.lint.flow import Flow
from imgnorm.checks.lint.frameworks import ARGUMENT_KEYS, TARGET_KEYS, Facts, facts_of
from imgnorm.checks.lint.names import (
    Named,
    dataset_in,
    named,
    pixels_and_dataset,
    spread_of,
    words_of,
)
from imgnorm.checks.lint.pair import Dataset, Mention, Pair, Written, linked
from imgnorm.checks.lint.values import (
    Evaluator,
    assignments,
    last_name,
    name_of,
    positional,
    statements_in,
)
from imgnorm.constants.presets import dataset_key
from imgnorm.documents.tree import LINE_BREAK, Lines, Place

_LEAVES = (ast.Constant, ast.Name, ast.expr_context, ast.operator, ast.alias)
"""Nodes in which no pair can be."""
_POSITIONS = {  # of mean and std among the arguments; -1: given by keyword only
    "Normalize": (0, 1),
    "NormalizeVideo": (0, 1),
    "NormalizeImage": (0, 1),
    "normalize": (1, 2),
    "crop_mirror_normalize": (-1, -1),
    "CropMirrorNormalize": (-1, -1),
    "from_stats": (0, 1),
    "normalize_image": (1, 2),
    "NormalizeIntensity": (0, 1),
    "NormalizeIntensityd": (1, 2),
    "substract_mean_normalize": (0, 1),
}
_WORTH = re.compile(
    r"mean|std|normaliz|sigma|\bmu|offset|subtrahend|compose|sequential|\.\d+,\s*\d?\.\d"
)
"""In a line of each statement that is read: a name of a mean or a std, a transform, or decimals."""
_TO_FAIL = {"raises", "assertRaises", "assertRaisesRegex"}
_NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
_MAX_PIECE = 60  # lines of one statement, in a file that is read piece by piece
_BRACKETS = re.compile(r"""(#.*)|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|([([{])|([)\]}])""")


def pairs_in(data: bytes, file: str = "") -> list[Pair]:
    """Every mean with its std.

    Of a file whose syntax this Python does not know, those statements are read that it does know.

    Raises:
        ValueError: this is not Python of any version.
    """
    try:
        encoding = "utf-8-sig" if data[:3] == b"\xef\xbb\xbf" else _encoding(data)
        text = data.decode(encoding, errors="replace")
    except (SyntaxError, LookupError) as error:
        raise ValueError("not Python") from error
    statements = _statements(text)
    if not statements and text.strip():
        raise ValueError("no line of it is valid Python")
    return _PythonReader(ast.Module(statements, []), text, file).pairs()


def pairs_in_blocks(blocks: Sequence[tuple[int, str]], text: str, file: str) -> list[Pair]:
    """Every mean with its std in pieces of code that stand in a text, as if they were one file.

    Args:
        blocks: the line of the text at which each begins, and its code, with its columns.
    """
    statements: list[ast.stmt] = []
    for line, block in blocks:
        for statement in _statements(block):
            statements.append(ast.increment_lineno(statement, line - 1))
    if not statements:
        return []
    return _PythonReader(ast.Module(statements, []), text, file).pairs()


def comments_in(data: bytes) -> list[str]:
    """The lines of Python source, reduced to their comments, each at its column."""
    import tokenize  # slow to import, and rarely needed

    lines = LINE_BREAK.split(data.decode(_encoding(data), errors="replace"))
    comments = [""] * len(lines)
    with suppress(tokenize.TokenError, SyntaxError):  # the comments before the error are known
        for token in tokenize.generate_tokens(iter([f"{line}\n" for line in lines]).__next__):
            if token.type == tokenize.COMMENT:
                line, column = token.start
                comments[line - 1] = " " * column + token.string
    return comments


def _encoding(data: bytes) -> str:
    if b"coding" not in data[:400]:
        return "utf-8"
    import tokenize

    return tokenize.detect_encoding(io.BytesIO(data).readline)[0]


def _statements(text: str) -> list[ast.stmt]:
    """The statements of source code; where a whole file is not valid, those that are by themselves."""
    tree = _parsed(text)
    return list(_pieces(LINE_BREAK.split(text))) if tree is None else tree


def _parsed(text: str) -> list[ast.stmt] | None:
    """The statements; None if this is not Python. Code may begin indented, and keeps its columns."""
    indented = text.lstrip("\r\n")[:1] in (" ", "\t")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an invalid escape in a string, for example
            tree = ast.parse(f"if 1:\n{text}" if indented else text)
    except _NOT_PYTHON:
        return None
    first = tree.body[0] if tree.body else None
    if not indented or not isinstance(first, ast.If):
        return tree.body
    return [ast.increment_lineno(part, -1) for part in (*first.body, *tree.body[1:])]


def _pieces(lines: Sequence[str]) -> Iterator[ast.stmt]:
    """The simple statements that this Python can read, each at its place."""
    at = 0
    while at < len(lines):
        end, depth = at, 0
        while end < min(len(lines), at + _MAX_PIECE):
            for bracket in _BRACKETS.finditer(lines[end]):
                depth += bool(bracket[2]) - bool(bracket[3])
            end += 1
            if depth <= 0:
                break
        piece = "\n".join(lines[at:end])
        found = _parsed(piece) if depth <= 0 and piece.strip() else None
        for statement in found or ():
            yield ast.increment_lineno(statement, at)
        at = end if depth <= 0 else at + 1


@dataclass(frozen=True)
class _CodeContext:
    """What the code around a node says about it."""

    datasets: tuple[Dataset, ...] = ()
    tensor_before: bool = False  # in a Compose, after torchvision's ToTensor
    before: Place | None = None  # of another Normalize in the same Compose
    above: str = ""  # the name, keyword or key whose value this node is
    target: str = ""  # the class that gets a dictionary's items as its arguments
    table: Place | None = None


class _PythonReader:
    """Finds the pairs of one file: in calls, dictionaries, defaults, and assignments."""

    def __init__(self, tree: ast.Module, text: str, file: str) -> None:
        self._tree = tree
        self._file = file
        lines = LINE_BREAK.split(text)
        statements = statements_in(tree)
        self._evaluator = Evaluator(statements, lines)
        self._names = Names(statements)
        self._lines = _lines_of(_WORTH, text.lower())
        self._calls: dict[int, list[int]] = {}  # the pairs that a call was given, by its id
        self._found: list[Pair] = []

    @cached_property
    def _evidence(self) -> Evidence:
        return Evidence(self._tree, self._names, self._evaluator, self._file)

    def pairs(self) -> list[Pair]:
        waiting: list[tuple[ast.AST, _CodeContext]] = [(self._tree, _CodeContext())]
        while waiting:
            node, context = waiting.pop()
            if isinstance(node, ast.stmt) and not self._is_worth_reading(node):
                continue
            if isinstance(node, (ast.With, ast.AsyncWith)) and _is_to_fail(node):
                continue
            if isinstance(node, ast.Call):
                pairs = list(self._call(node, context))
                self._calls[id(node)] = list(range(len(self._found), len(self._found) + len(pairs)))
                self._found += pairs
            elif isinstance(node, ast.Dict):
                self._found += self._of_items(_constant_items(node), context)
            elif isinstance(node, (ast.Tuple, ast.List)):
                self._found += self._two_lists(node, context)
            elif isinstance(node, ast.BinOp):
                self._found += self._formula(node, context)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                context = self._in_definition(node, context)
                self._found += self._of_items(_defaults(node.args), context)
            elif isinstance(node, ast.ClassDef):
                context = self._in_definition(node, context)
                self._found += self._of_self(node, context)
            for block in _blocks(node):
                self._found += self._block(block, self._in_block(node, block, context))
            waiting.extend(reversed(list(self._children(node, context))))
        return self._completed()

    def _is_worth_reading(self, node: ast.stmt) -> bool:
        """Whether a pair can be inside a statement, by a look at its lines."""
        at = bisect_left(self._lines, node.lineno)
        return at < len(self._lines) and self._lines[at] <= (node.end_lineno or node.lineno)

    def _completed(self) -> list[Pair]:
        """With the datasets into which the calls flow, and what the whole file says."""
        if not self._found:
            return []
        built: dict[int, list[Dataset]] = {}
        normalizing = {call for call, indices in self._calls.items() if indices}
        for call, reaching in Flow(self._tree).calls() if normalizing else ():
            dataset = self._evidence.dataset_of(call, transformed=True)
            if dataset:
                for index in (i for made in reaching() & normalizing for i in self._calls[made]):
                    built.setdefault(index, []).append(dataset)
        pairs = [
            replace(pair, datasets=(*built.get(index, ()), *pair.datasets))
            for index, pair in enumerate(self._found)
        ]
        return [
            linked(self._evidence.added_to(pair), nearby=self._evidence.datasets) for pair in pairs
        ]

    def _children(
        self, node: ast.AST, context: _CodeContext
    ) -> Iterator[tuple[ast.AST, _CodeContext]]:
        """The nodes inside, each with its context."""
        plain = context
        if context.above or context.target:
            plain = replace(context, above="", target="")
        if isinstance(node, ast.Dict):
            yield from self._entries(node, plain)
        elif isinstance(node, (ast.If, ast.IfExp)):
            yield node.test, plain
            for part in (node.body, node.orelse):
                block = part if isinstance(part, list) else [part]
                yield from ((child, self._in_block(node, block, plain)) for child in block)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                yield from ((value, plain) for value in node.value.elts)
                return
            name = name_of(node.targets[0]) or ""
            _, dataset = pixels_and_dataset(words_of(name))
            yield node.value, replace(_with(plain, name, dataset, node), above=name)
        elif isinstance(node, ast.keyword):
            yield node.value, replace(plain, above=node.arg or "")
        elif isinstance(node, ast.Call) and last_name(node.func) in ("Compose", "Sequential"):
            yield from self._steps(node, plain)
        else:
            for value in node.__dict__.values():
                for child in value if isinstance(value, list) else (value,):
                    if isinstance(child, ast.AST) and not isinstance(child, _LEAVES):
                        yield child, plain

    def _entries(
        self, node: ast.Dict, context: _CodeContext
    ) -> Iterator[tuple[ast.AST, _CodeContext]]:
        target = _target(_constants(dict(_constant_items(node))))
        entries = [
            value
            for value in node.values
            if isinstance(value, (ast.Dict, ast.Tuple, ast.List, ast.Call))
        ]
        if len(entries) > 1:
            context = replace(context, table=self._evaluator.place_of(node))
        for key, value in zip(node.keys, node.values, strict=True):
            text = key.value if isinstance(key, ast.Constant) else None
            inside = context
            if isinstance(text, str):
                inside = replace(_with(context, text, dataset_key(text), key), above=text)
            yield value, replace(inside, target=target if text in ARGUMENT_KEYS else "")

    def _in_definition(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, context: _CodeContext
    ) -> _CodeContext:
        return _with(context, node.name, dataset_in("_".join(words_of(node.name))), node)

    def _in_block(
        self, node: ast.AST, block: Sequence[ast.AST], context: _CodeContext
    ) -> _CodeContext:
        if isinstance(node, ast.If) and list(block) != node.body and context.table:
            return context
        dataset = _compared_dataset(node, block)
        if not dataset:
            return context
        assert isinstance(node, (ast.If, ast.IfExp))
        table = context.table or self._evaluator.place_of(node)
        return replace(_with(context, *dataset, node), table=table)

    def _steps(
        self, node: ast.Call, context: _CodeContext
    ) -> Iterator[tuple[ast.AST, _CodeContext]]:
        first = self._evaluator.resolved(node.args[0]) if node.args else None
        steps = first.elts if isinstance(first, (ast.List, ast.Tuple)) else node.args
        for step in steps:
            made = self._evaluator.resolved(step)
            if not isinstance(made, ast.Call) or last_name(made.func) in ("Compose", "Sequential"):
                made = step  # which is read where it is made
            yield made, context
            if isinstance(made, ast.Call):
                if self._scales(made):
                    context = replace(context, tensor_before=True)
                elif self._centers(made, context) and not context.before:
                    context = replace(context, before=self._evaluator.place_of(made))
        for keyword in node.keywords:
            yield keyword, context

    def _centers(self, step: ast.Call, context: _CodeContext) -> bool:
        """Whether this is a Normalize with image statistics, not one that only scales to 0..1."""
        if last_name(step.func) != "Normalize":
            return False
        pair = self._normalize(step, "Normalize", self._names.home(step.func), context)
        return pair is not None and 0 < min(pair.mean.effective) <= max(pair.mean.effective) <= 1

    def _scales(self, step: ast.Call) -> bool:
        """Whether this is torchvision's own conversion to 0..1."""
        home = self._names.home(step.func)
        if not home.startswith("torchvision."):
            return False
        scale = any(k.arg == "scale" and _is_true(k.value) for k in step.keywords)
        name = home.rpartition(".")[2]
        return name in ("ToTensor", "to_tensor") or (name == "ToDtype" and scale)

    def _call(self, node: ast.Call, context: _CodeContext) -> Iterator[Pair]:
        home = self._names.home(node.func)
        name = home.rpartition(".")[2]
        if name in _POSITIONS:
            pair = self._normalize(node, name, home, context)
            if pair:
                yield pair
        elif node.keywords:
            items = [(k.arg, k.value) for k in node.keywords if k.arg]
            target = "" if name == "dict" else home
            yield from self._of_items(items, replace(context, target=target))

    def _normalize(
        self, node: ast.Call, name: str, home: str, context: _CodeContext
    ) -> Pair | None:
        given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        roles = {known.role: (known, given[key]) for key in given if (known := named(key))}
        at_mean, at_std = _POSITIONS[name]
        if len(node.args) == 1 and isinstance(node.args[0], ast.Starred) and at_mean == 0:
            both = self._evaluator.resolved(node.args[0].value)
            nodes = both.elts if isinstance(both, (ast.Tuple, ast.List)) else []
            mean_node, std_node = nodes if len(nodes) == 2 else (None, None)
        else:
            mean_node = roles["mean"][1] if "mean" in roles else positional(node.args, at_mean)
            std_node = roles["std"][1] if "std" in roles else positional(node.args, at_std)
        mean, std = self._evaluator.value_of(mean_node), self._evaluator.value_of(std_node)
        if not mean or not std:
            return None
        facts = facts_of(_constants(given), target=home, above=context.above)
        if "mean" not in roles and "number" in (mean.kind, std.kind) and not facts.framework:
            return None  # matplotlib's Normalize(0, 1)
        if facts.framework == "torchvision":
            first = positional(node.args, 0)
            scaled = isinstance(first, ast.Call) and self._scales(first)
            if not context.tensor_before and not scaled:
                facts = replace(facts, unit=None)
            elif name == "normalize":
                facts = replace(facts, unit=1.0 if scaled else None)
        pair = self._made(mean.written, std.written, facts, given, context)
        return replace(
            pair,
            before=context.before,
            spread="1/std" if name == "substract_mean_normalize" else "std",
            pixels=facts.pixels or name == "NormalizeImage",
        )

    def _made(
        self,
        mean: Written,
        std: Written,
        facts: Facts,
        given: Mapping[str, ast.expr],
        context: _CodeContext,
    ) -> Pair:
        flag = given.get(facts.order_key) if facts.order else None
        by = None
        if flag:
            by = Mention(f"{facts.order_key}={ast.unparse(flag)}", self._evaluator.place_of(flag))
        return Pair(
            mean,
            std,
            facts.pixels,
            facts.unit,
            facts.order,
            context.datasets,
            framework=facts.framework,
            order_by=by,
            table=context.table,
        )

    def _of_items(
        self, items: Sequence[tuple[str, ast.expr]], context: _CodeContext
    ) -> Iterator[Pair]:
        """Pairs among keywords, the keys of a dictionary, or default values."""
        given = dict(items)
        collected = _Collected()
        for key, value in items:
            collected.add(named(key), "", value)
        if collected.pairs:
            constants = _constants(given)
            target = context.target or _target(constants)
            facts = facts_of(constants, target=target, above=context.above)
            for mean, std, mean_node, std_node, _ in collected.pairs:
                yield from self._pair(
                    mean, std, mean_node, std_node, context, facts=facts, given=given
                )

    def _block(self, statements: Sequence[ast.stmt], context: _CodeContext) -> Iterator[Pair]:
        """Pairs of variables that are assigned in the same block: CIFAR10_MEAN and CIFAR10_STD."""
        collected = _Collected()
        for statement in statements:
            for name, owner, value in _set_by(statement):
                collected.add(name, owner, value)
        yield from self._collected(collected, context)

    def _of_self(self, node: ast.ClassDef, context: _CodeContext) -> Iterator[Pair]:
        """Pairs of attributes that the methods of a class set: `self.mean`, a buffer called "mean"."""
        collected = _Collected()
        buffer = False
        for inside in statements_in(node):
            for name, owner, value in _set_by(inside):
                if owner == _SELF:
                    collected.add(name, owner, value)
                    buffer = buffer or isinstance(inside, ast.Expr)
        for pair in self._collected(collected, context):
            yield replace(pair, in_model=buffer)

    def _collected(self, collected: _Collected, context: _CodeContext) -> Iterator[Pair]:
        for mean, std, mean_node, std_node, owner in collected.pairs:
            means, stds = _by_key(mean_node), _by_key(std_node)
            for key in means:
                if key in stds:
                    inside = replace(
                        _with(context, key, dataset_key(key), mean_node),
                        table=self._evaluator.place_of(mean_node),
                    )
                    yield from self._pair(mean, std, means[key], stds[key], inside)
            if not means and not stds:
                given = {mean.name: None, std.name: None}
                above = owner.rpartition(".")[2]
                facts = facts_of(given, above=above, root=self._evidence.root)
                yield from self._pair(mean, std, mean_node, std_node, context, facts=facts)

    def _pair(
        self,
        mean_name: Named,
        std_name: Named,
        mean_node: ast.expr,
        std_node: ast.expr,
        context: _CodeContext,
        *,
        facts: Facts | None = None,
        given: Mapping[str, ast.expr] | None = None,
    ) -> Iterator[Pair]:
        mean, std = self._evaluator.value_of(mean_node), self._evaluator.value_of(std_node)
        spread = spread_of(mean_name, std_name)
        if not mean or not std or not spread:
            return
        context = _with(context, mean_name.stem, mean_name.dataset, mean_node)
        keys = [dataset.key for dataset in context.datasets if dataset.by == "named"]
        pair = self._made(mean.written, std.written, facts or Facts(), given or {}, context)
        sure = bool(any(keys) and mean_name.dataset) or pair.framework == "Hugging Face"
        if "number" in (mean.kind, std.kind) and not sure and not any(keys):
            return  # may be the mean and std of anything: of initial weights, of a price
        pixels = pair.pixels or mean_name.pixels or pair.order is not None or any(keys)
        yield replace(pair, pixels=bool(pixels), spread=spread)

    def _two_lists(self, node: ast.Tuple | ast.List, context: _CodeContext) -> Iterator[Pair]:
        """`stats = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))`."""
        if len(node.elts) == 2 and all(
            isinstance(part, (ast.Tuple, ast.List)) and len(part.elts) == 3 for part in node.elts
        ):
            mean, std = map(self._evaluator.value_of, node.elts)
            if mean and std:
                yield self._made(mean.written, std.written, Facts(), {}, context)

    def _formula(self, node: ast.BinOp, context: _CodeContext) -> Iterator[Pair]:
        """`(image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]`."""
        left = node.left
        if (
            isinstance(node.op, ast.Div)
            and isinstance(left, ast.BinOp)
            and isinstance(left.op, ast.Sub)
        ):
            std, mean = self._evaluator.value_of(node.right), self._evaluator.value_of(left.right)
            if mean and std and "number" not in (mean.kind, std.kind):
                yield self._made(mean.written, std.written, Facts(), {}, context)


_SELF = "self"


class _Collected:
    """Pairs a mean with the std next to it whose name has the same rest."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Named, Named, ast.expr, ast.expr, str]] = []
        self._alone: dict[tuple[str, str], dict[str, tuple[Named, ast.expr]]] = {}

    def add(self, name: Named | None, owner: str, value: ast.expr) -> None:
        if name is None:
            return
        waiting = self._alone.setdefault((owner, name.stem), {})
        waiting[name.role] = (name, value)
        if len(waiting) == 2:
            (mean, mean_node), (std, std_node) = waiting["mean"], waiting["std"]
            if spread_of(mean, std):
                self.pairs.append((mean, std, mean_node, std_node, owner))
                waiting.clear()


def _set_by(statement: ast.stmt) -> Iterator[tuple[Named | None, str, ast.expr]]:
    """The names that a statement gives a value, with the key or object that they belong to."""
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        for target, value in assignments(statement):
            yield *_named_target(target), value
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        first = positional(call.args, 0)
        if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
            return
        if last_name(call.func) == "register_buffer":
            tensor = positional(call.args, 1) or _keyword(call, "tensor")
            if tensor:
                yield named(first.value), _SELF, tensor
        elif last_name(call.func) == "add_argument":
            default = _keyword(call, "default")
            if default:
                yield named(first.value.lstrip("-")), "", default


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _named_target(target: ast.expr) -> tuple[Named | None, str]:
    """What a target's name says, and the key or object that it belongs to.

    `mean["cifar10"]` belongs to the key cifar10, `cfg.PIXEL_MEAN` to the object cfg.
    """
    if isinstance(target, ast.Name):
        return named(target.id), ""
    if isinstance(target, ast.Attribute):
        return named(target.attr), ast.unparse(target.value)
    if (
        isinstance(target, ast.Subscript)
        and isinstance(target.slice, ast.Constant)
        and isinstance(target.slice.value, str)
    ):
        base, key = name_of(target.value) or "", target.slice.value
        name = named(base)
        if name is None:
            return named(key), ast.unparse(target.value)
        dataset = dataset_key(key) or name.dataset
        return replace(name, dataset=dataset, pixels=name.pixels or dataset is not None), key
    return None, ""


def _with(context: _CodeContext, text: str, key: str | None, node: ast.AST | None) -> _CodeContext:
    if not key or node is None:
        return context
    place = (getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1)
    return replace(context, datasets=(Dataset(text, place, key, "named"),))


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            yield block


def _compared_dataset(node: ast.AST, block: Sequence[ast.AST]) -> tuple[str, str] | None:
    """The dataset of `if args.dataset == "cifar10":`, in its body."""
    if not isinstance(node, (ast.If, ast.IfExp)):
        return None
    body = node.body if isinstance(node.body, list) else [node.body]
    test = node.test
    if (
        list(block) != body
        or not isinstance(test, ast.Compare)
        or len(test.ops) != 1
        or not isinstance(test.ops[0], (ast.Eq, ast.In))
    ):
        return None
    for variable, value in (
        (test.left, test.comparators[0]),
        (test.comparators[0], test.left),
    ):
        name = (name_of(variable) or "").lower()
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            key = dataset_key(value.value)
            if key and ("data" in name or "dset" in name or name in ("name", "ds", "ds_name")):
                return value.value, key
    return None


def _lines_of(pattern: re.Pattern[str], text: str) -> list[int]:
    """The lines in which a pattern is found."""
    lines = Lines(text)
    return sorted({lines.place(found.start())[0] for found in pattern.finditer(text)})


def _is_to_fail(node: ast.With | ast.AsyncWith) -> bool:
    """Whether this is `with pytest.raises(…)`: what is wrong inside is the test."""
    return any(
        isinstance(item.context_expr, ast.Call) and last_name(item.context_expr.func) in _TO_FAIL
        for item in node.items
    )


def _constant_items(node: ast.Dict) -> list[tuple[str, ast.expr]]:
    return [
        (key.value, value)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]


def _constants(given: Mapping[str, ast.expr]) -> dict[str, object]:
    """The values that are known; `1 / 255` is one, too."""
    found: dict[str, object] = {}
    for key, node in given.items():
        try:
            found[key] = ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            text = ast.unparse(node) if isinstance(node, ast.BinOp) else ""
            divided = re.fullmatch(r"1(?:\.0)? / (\d+)(?:\.0)?", text)
            found[key] = 1 / int(divided[1]) if divided and int(divided[1]) else None
    return found


def _target(given: Mapping[str, object]) -> str:
    return next((str(given[key]) for key in TARGET_KEYS if isinstance(given.get(key), str)), "")


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
