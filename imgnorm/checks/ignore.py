"""Which problems are reported: those of the chosen rules that no comment on their line ignores."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from imgnorm.checks.rules import RULES
from imgnorm.errors import Problem
from imgnorm.wording import cut

MARK = b"imgnorm:"
"""A file without these bytes has no ignore comment."""
_IGNORE = re.compile(r"#\s*imgnorm:\s*ignore\b(?:\[([^\]\n]*)\])?")


def chosen(
    problems: Iterable[Problem], select: Collection[str] | None, ignore: Collection[str]
) -> Iterator[Problem]:
    """The problems of the rules that are to be checked.

    Args:
        select: the ids of these rules; None: all.
        ignore: the ids of rules to leave out.
    """
    for problem in problems:
        if (select is None or problem.rule in select) and problem.rule not in ignore:
            yield problem


def not_ignored(problems: Iterable[Problem], lines: Sequence[str], file: str) -> list[Problem]:
    """The problems without those that `# imgnorm: ignore[rule]` on their line ignores.

    A comment that names no rule, or an unknown one, is a problem itself. Sorted by place.

    Args:
        lines: the lines of the file.
    """
    found: list[Problem] = []
    ignored: dict[int, set[str]] = {}
    for number, line in enumerate(lines, 1):
        for comment in _IGNORE.finditer(line):
            rules = {rule.strip() for rule in (comment[1] or "").split(",")} - {""}
            ignored.setdefault(number, set()).update(rules)
            found += _faults(rules, file, number, comment.start() + 1)
    found += (p for p in problems if p.rule not in ignored.get(p.line, ()))
    return sorted(found, key=lambda p: (p.line, p.column))


def _faults(rules: set[str], file: str, line: int, column: int) -> Iterator[Problem]:
    if not rules:
        hint = "write `# imgnorm: ignore[rule]`"
        yield Problem(file, line, column, "unknown-ignore", "names no rule", hint, "warning")
    for rule in sorted(rules - set(RULES)):
        hint = "`imgnorm validate --explain RULE` explains the rules"
        message = f"there is no rule {cut(rule)!r}"
        yield Problem(file, line, column, "unknown-ignore", message, hint, "warning")
