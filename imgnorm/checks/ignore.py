"""Which problems are told: of the rules that were chosen, and not ignored by a comment on their line."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from imgnorm.checks.rules import RULES
from imgnorm.errors import Problem
from imgnorm.wording import quoted

MARK = b"imgnorm:"
"""Without it, a file has no such comment."""
_IGNORE = re.compile(r"#\s*imgnorm:\s*ignore\b(?:\[([^\]\n]*)\])?")


def chosen(
    problems: Iterable[Problem], select: Collection[str] | None, ignore: Collection[str]
) -> Iterator[Problem]:
    """Those of the rules to ask.

    Args:
        select: their ids; None: all.
        ignore: the ids of the rules not to ask.
    """
    for problem in problems:
        if (select is None or problem.rule in select) and problem.rule not in ignore:
            yield problem


def not_silenced(problems: Iterable[Problem], lines: Sequence[str], file: str) -> list[Problem]:
    """Without those that `# imgnorm: ignore[rule]` silences; and what is wrong with such comments.

    Args:
        lines: of the file.
    """
    told: list[Problem] = []
    silenced: dict[int, set[str]] = {}
    for number, line in enumerate(lines, 1):
        for comment in _IGNORE.finditer(line):
            rules = {rule.strip() for rule in (comment[1] or "").split(",")} - {""}
            silenced.setdefault(number, set()).update(rules)
            told += _faults(rules, file, number, comment.start() + 1)
    told += (p for p in problems if p.rule not in silenced.get(p.line, ()))
    return sorted(told, key=lambda p: (p.line, p.column))


def _faults(rules: set[str], file: str, line: int, column: int) -> Iterator[Problem]:
    if not rules:
        hint = "write `# imgnorm: ignore[rule]`"
        yield Problem(file, line, column, "unknown-ignore", "names no rule", hint, "warning")
    for rule in sorted(rules - set(RULES)):
        hint = "`imgnorm validate --explain RULE` knows the rules"
        message = f"there is no rule {quoted(rule)}"
        yield Problem(file, line, column, "unknown-ignore", message, hint, "warning")
