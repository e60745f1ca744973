"""Problems -> text for people, for programs and for CI. One function per format, all in REPORTERS.

Every command starts with this module, for the names of the formats: what only one of them needs is
imported where it is used (4 ms).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import imgnorm
from imgnorm.errors import Problem, Rule, Severity
from imgnorm.wording import plural, printable, wrapped

_PLACES = 10  # of equal problems, in a text
_SEVERITIES: dict[Severity, tuple[str, str]] = {
    "error": ("error", "red"),
    "warning": ("warning", "yellow"),
    "info": ("note", "blue"),
}
_GITHUB_COMMANDS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "notice"}
_SARIF_LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}


class Reporter(Protocol):
    def __call__(self, problems: Sequence[Problem], files: Sequence[str] = ()) -> str:
        """The report, without a line break at its end. `files` are all files that were checked."""


def text(problems: Sequence[Problem], files: Sequence[str] = ()) -> str:
    """`file:line:column: severity[rule]: message`, the hint, and other places, on lines of their own."""
    return "\n".join(
        f"{_headline(problem)}{_below(problem, after)}"
        for problem, after in zip(problems, [*problems[1:], None], strict=False)
    )


def for_terminal(problems: Sequence[Problem], columns: int, paint: Callable[..., str]) -> str:
    """The same for a terminal of this width: in color, with the line of the file with a mark below it.

    Args:
        paint: puts a text into a color: paint("3:1", "bold").
    """
    from imgnorm.checks.excerpt import excerpt, text_lines

    text_lines.cache_clear()  # files may have changed
    blocks = []
    for problem, after in zip(problems, [*problems[1:], None], strict=False):
        severity, color = _SEVERITIES[problem.severity]
        place = _place(problem.file, problem.line, problem.column)
        head, *others = wrapped(_headline(problem), columns)
        plain = f"{place}: {severity}[{problem.rule}]:"
        if head.startswith(plain):
            head = f"{paint(place, 'bold')}: {paint(plain[len(place) + 2 :], color)}{head[len(plain) :]}"
        shown = excerpt(text_lines(problem.file), problem.line, problem.column, columns)
        if shown:
            gutter = shown[1].index("|") + 1
            shown = [
                f"{paint(shown[0][:gutter], 'faint')}{shown[0][gutter:]}",
                f"{paint(shown[1][:gutter], 'faint')}{paint(shown[1][gutter:], color)}",
            ]
        below = [
            part for line in _below(problem, after).split("\n") for part in wrapped(line, columns)
        ]
        blocks.append("\n".join([head, *others, *shown, *below[1:]]))
    return "\n\n".join(blocks)


def as_json(problems: Sequence[Problem], files: Sequence[str] = ()) -> str:
    """A list with one object per problem."""
    import json

    return json.dumps([problem.to_dict() for problem in problems], indent=2)


def github(problems: Sequence[Problem], files: Sequence[str] = ()) -> str:
    """GitHub's workflow commands, which it shows beside the lines of a pull request.

    https://docs.github.com/actions/using-workflows/workflow-commands-for-github-actions
    """
    return "\n".join(
        _command(replace(problem, file=file.removeprefix("./"), line=line, column=column))
        for problem in problems
        for file, line, column in ((problem.file, problem.line, problem.column), *problem.also)
    )


def sarif(problems: Sequence[Problem], files: Sequence[str] = ()) -> str:
    """SARIF 2.1.0, for code scanning."""
    import json

    rules = sorted({problem.rule for problem in problems})
    driver = {
        "name": "imgnorm",
        "version": imgnorm.__version__,
        "rules": [_sarif_rule(rule) for rule in rules],
    }
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "artifacts": [{"location": {"uri": _uri(file)}} for file in files],
        "results": [_sarif_result(problem, rules.index(problem.rule)) for problem in problems],
    }
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(log, indent=2)


def junit(problems: Sequence[Problem], files: Sequence[str] = ()) -> str:
    """JUnit's XML: one test per file, which fails if the file has an error or a warning."""
    names = list(dict.fromkeys([*files, *(problem.file for problem in problems)]))
    cases = [(name, [p for p in problems if p.file == name]) for name in names]
    failures = sum(any(p.severity != "info" for p in found) for _, found in cases)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="imgnorm" tests="{len(cases)}" failures="{failures}" errors="0">',
        f'  <testsuite name="imgnorm" tests="{len(cases)}" failures="{failures}" errors="0" skipped="0">',
        *(line for name, found in cases for line in _junit_case(name, found)),
        "  </testsuite>",
        "</testsuites>",
    ]
    return "\n".join(lines)


REPORTERS: dict[str, Reporter] = {
    "text": text,
    "json": as_json,
    "github": github,
    "sarif": sarif,
    "junit": junit,
}


def summary(files: int, problems: Sequence[Problem]) -> str:
    """One line: `checked  3 files: 1 error, 0 warnings, 0 notes`."""
    nouns: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}
    counts = Counter(problem.severity for problem in problems)
    found = ", ".join(plural(counts[severity], noun) for severity, noun in nouns.items())
    return f"checked  {plural(files, 'file')}: {found}"


def grouped(problems: Iterable[Problem]) -> list[Problem]:
    """Equal problems in several places as one, with all its places."""
    first: dict[tuple[str, str, str | None, str], Problem] = {}
    for problem in problems:
        key = (problem.rule, problem.message, problem.hint, problem.severity)
        one = first.get(key)
        place = (problem.file, problem.line, problem.column)
        first[key] = replace(one, also=(*one.also, place)) if one else problem
    return list(first.values())


def page(rule: Rule) -> str:
    """What `--explain` prints."""
    import textwrap

    return "\n\n".join(
        [
            f"{rule.id} ({rule.severity}): {rule.summary}",
            textwrap.fill(rule.explanation, 88),
            "wrong:\n" + textwrap.indent(rule.bad, "    "),
            "right:\n" + textwrap.indent(rule.good, "    "),
        ]
    )


def _lines(problem: Problem) -> str:
    return f"{_headline(problem)}{_below(problem, None)}"


def _headline(problem: Problem) -> str:
    place = _place(problem.file, problem.line, problem.column)
    return f"{place}: {_SEVERITIES[problem.severity][0]}[{problem.rule}]: {problem.message}"


def _below(problem: Problem, after: Problem | None) -> str:
    """The hint, once for problems in a row that share it, and the first of the other places."""
    shared = after is not None and after.hint == problem.hint
    lines = [f"    {problem.hint}"] if problem.hint and not shared else []
    lines += [f"    also {_place(*place)}" for place in problem.also[:_PLACES]]
    if len(problem.also) > _PLACES:
        more = len(problem.also) - _PLACES
        lines.append(f"    also {plural(more, 'other place')} (--format json lists them all)")
    return "".join(f"\n{line}" for line in lines)


def _place(file: str, line: int, column: int) -> str:
    return f"{printable(file)}:{line}:{column}"


def _command(problem: Problem) -> str:
    properties = {
        "file": printable(problem.file),
        "line": str(problem.line),
        "col": str(problem.column),
        "title": f"imgnorm {problem.rule}",
    }
    listed = ",".join(
        f"{key}={_escaped(value).replace(':', '%3A').replace(',', '%2C')}"
        for key, value in properties.items()
    )
    return f"::{_GITHUB_COMMANDS[problem.severity]} {listed}::{_escaped(_message(problem))}"


def _escaped(value: str) -> str:
    """As @actions/core escapes it, so that no message can start another command."""
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _message(problem: Problem) -> str:
    return f"{problem.message}\n{problem.hint}" if problem.hint else problem.message


def _sarif_rule(name: str) -> dict[str, Any]:
    from imgnorm.checks.rules import PAGES  # slow to load; the commands import this module early

    rule = PAGES[name]
    return {
        "id": name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.explanation},
        "defaultConfiguration": {"level": _SARIF_LEVELS[rule.severity]},
    }


def _sarif_result(problem: Problem, index: int) -> dict[str, Any]:
    region = {"startLine": problem.line, "startColumn": problem.column}
    place = {"artifactLocation": {"uri": _uri(problem.file)}, "region": region}
    return {
        "ruleId": problem.rule,
        "ruleIndex": index,
        "level": _SARIF_LEVELS[problem.severity],
        "message": {"text": _message(problem)},
        "locations": [{"physicalLocation": place}],
    }


def _uri(file: str) -> str:
    """A path as a URI reference, relative or absolute. Bytes that are not UTF-8 stay the same bytes."""
    from urllib.parse import quote

    return quote(file.replace("\\", "/").encode("utf-8", "surrogateescape"), safe="/-._~")


def _junit_case(name: str, problems: Sequence[Problem]) -> list[str]:
    from html import escape

    case = f'    <testcase classname="imgnorm" name="{escape(printable(name))}"'
    failing = [problem for problem in problems if problem.severity != "info"]
    notes = [problem for problem in problems if problem.severity == "info"]
    lines = []
    if failing:
        content = escape(_xml_text("\n".join(map(_lines, failing))))
        lines.append(
            f'      <failure message="{plural(len(failing), "problem")}">{content}</failure>'
        )
    if notes:
        content = escape(_xml_text("\n".join(map(_lines, notes))))
        lines.append(f"      <system-out>{content}</system-out>")
    return [f"{case}>", *lines, "    </testcase>"] if lines else [f"{case}/>"]


def _xml_text(content: str) -> str:
    """With a question mark for each character that XML 1.0 does not allow, or would change.

    https://www.w3.org/TR/xml/#charsets
    """
    return "".join(
        c if c in "\n\t" or (c >= " " and c not in "\ufffe\uffff") else "?" for c in content
    )
