"""Where a transform goes: from the call that makes it, over names and functions, into a dataset."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from imgnorm.checks.lint.values import assignments, last_name, name_of

_MAX_STEPS = 12  # of names and calls between a transform and its dataset

_MAX_VISITS = 300_000  # of nodes in one file; code that people write takes some thousands
_MAX_DEFINITIONS = 100  # of one name
_GROWING = {"append", "insert", "extend"}

Branch = tuple[tuple[int, str], ...]
"""The statements around a node, from outside in, and in which of their parts it stands."""


@dataclass(frozen=True)
class _Definition:
    value: ast.expr
    line: int
    branch: Branch
    replaces: bool  # not so of `steps.append(…)`


@dataclass
class _Scope:
    outer: _Scope | None = None
    definitions: dict[str, list[_Definition]] = field(default_factory=dict)
    returned: list[tuple[ast.expr, Branch]] = field(default_factory=list)


class Flow:
    """What the names of a file hold where they are used.

    A class's `self.x` is a name of the class, whichever method sets it.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._module = _Scope()
        self._functions: dict[str, _Scope] = {}
        self._calls: list[tuple[ast.Call, _Scope, Branch]] = []
        self._left_to_do = _MAX_VISITS
        self._left: set[tuple[int, str]] = set()  # parts of statements that end with a return
        waiting: list[tuple[ast.AST, _Scope, _Scope, Branch]] = [
            (tree, self._module, self._module, ())
        ]
        while waiting:
            node, scope, owner, branch = waiting.pop()
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                scope, branch = _Scope(owner if owner is not self._module else scope), ()
                self._functions.setdefault(node.name, scope)
            elif isinstance(node, ast.ClassDef):
                scope = owner = _Scope(scope)
                branch = ()
            elif isinstance(node, ast.Return) and node.value:
                scope.returned.append((node.value, branch))
            elif isinstance(node, ast.Call):
                self._calls.append((node, scope, branch))
            self._note(node, scope, owner, branch)
            for name, value in ast.iter_fields(node):
                inside = (*branch, (id(node), name)) if isinstance(node, _BRANCHING) else branch
                if isinstance(value, list) and value and isinstance(value[-1], _LEAVING):
                    self._left.add((id(node), name))
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST) and not isinstance(child, _LEAVES):
                        waiting.append((child, scope, owner, inside))

    def calls(self) -> Iterator[tuple[ast.Call, Callable[[], set[int]]]]:
        """Every call, and a function that gives the ids of the calls whose results reach its arguments."""
        for call, scope, branch in self._calls:
            yield call, partial(self._reaching, call, scope, branch)

    def _reaching(self, call: ast.Call, scope: _Scope, branch: Branch) -> set[int]:
        found: set[int] = set()
        seen: set[int] = set()
        waiting: list[tuple[ast.AST, _Scope, Branch, int]] = [
            (part, scope, branch, 0) for part in (*call.args, *(k.value for k in call.keywords))
        ]
        while waiting:
            node, scope, branch, steps = waiting.pop()
            self._left_to_do -= 1
            if self._left_to_do < 0:
                return set()
            if id(node) in seen or steps > _MAX_STEPS:
                continue
            seen.add(id(node))
            if isinstance(node, ast.Call):
                found.add(id(node))
                function = self._functions.get(last_name(node.func))
                if function:
                    waiting += [
                        (value, function, place, steps + 1) for value, place in function.returned
                    ]
            name = _variable(node)
            if name:
                line = getattr(node, "lineno", 0)
                waiting += [
                    (definition.value, home, definition.branch, steps + 1)
                    for definition, home in _definitions(name, scope, line, branch)
                    if not self._left.intersection(set(definition.branch) - set(branch))
                ]
                continue
            waiting += [(child, scope, branch, steps) for child in ast.iter_child_nodes(node)]
        return found

    def _note(self, node: ast.AST, scope: _Scope, owner: _Scope, branch: Branch) -> None:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target, value in assignments(node):
                base = target.value if isinstance(target, ast.Subscript) else target
                self._define(base, value, scope, owner, branch, replaces=base is target)
        elif isinstance(node, ast.AugAssign):
            self._define(node.target, node.value, scope, owner, branch, replaces=False)
        elif isinstance(node, ast.Call) and last_name(node.func) in _GROWING and node.args:
            base = node.func
            while isinstance(base, ast.Attribute) and not _variable(base):
                base = base.value
            self._define(base, node.args[-1], scope, owner, branch, replaces=False)

    def _define(
        self,
        target: ast.expr,
        value: ast.expr,
        scope: _Scope,
        owner: _Scope,
        branch: Branch,
        *,
        replaces: bool,
    ) -> None:
        name = _variable(target)
        if name:
            home = owner if name.startswith("self.") else scope
            definition = _Definition(value, target.lineno, branch, replaces)
            home.definitions.setdefault(name, []).append(definition)


_LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_BRANCHING = (ast.If, ast.For, ast.While, ast.With, ast.Try)
_LEAVES = (ast.Constant, ast.expr_context, ast.operator, ast.alias)


def _variable(node: ast.AST) -> str | None:
    """`x`, or `self.x`; None of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and name_of(node.value) == "self":
        return f"self.{node.attr}"
    return None


def _definitions(
    name: str, scope: _Scope, line: int, branch: Branch
) -> Iterator[tuple[_Definition, _Scope]]:
    """Those that may hold where the name is used: none that another replaces, or of another branch."""
    home: _Scope | None = scope
    while home and name not in home.definitions:
        home = home.outer
    if home is None:
        return
    known = home.definitions[name]
    if len(known) > _MAX_DEFINITIONS:
        return
    if home is not scope or name.startswith("self."):  # run before, in whatever order
        yield from ((definition, home) for definition in known)
        return
    for definition in sorted(known, key=lambda d: d.line, reverse=True):
        if definition.line > line or _exclusive(definition.branch, branch):
            continue
        yield definition, home
        if definition.replaces and branch[: len(definition.branch)] == definition.branch:
            return


def _exclusive(one: Branch, other: Branch) -> bool:
    """Whether two places are in different parts of one `if`."""
    for a, b in zip(one, other, strict=False):
        if a != b:
            return a[0] == b[0]
    return False
