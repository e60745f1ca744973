"""Problems -> text for people, for programs and for CI."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from imgnorm.errors import Problem, Severity


def text(problems: Sequence[Problem]) -> str:
    """`file:line:column: rule: message`, and the hint on a line of its own."""
    return "\n".join(map(_lines, problems))


def as_json(problems: Sequence[Problem]) -> str:
    """A list with an object for each problem."""
    return json.dumps([vars(problem) for problem in problems], indent=2)


def github(problems: Sequence[Problem]) -> str:
    """Workflow commands, which GitHub shows beside the lines of a pull request."""
    return "\n".join(map(_command, problems))


REPORTERS: dict[str, Callable[[Sequence[Problem]], str]] = {
    "text": text,
    "json": as_json,
    "github": github,
}


def _lines(problem: Problem) -> str:
    severity = "" if problem.severity == "error" else f" ({problem.severity})"
    place = f"{_visible(problem.file)}:{problem.line}:{problem.column}"
    line = f"{place}: {problem.rule}{severity}: {problem.message}"
    return f"{line}\n    {problem.hint}" if problem.hint else line


def _visible(name: str) -> str:
    return name if name.isprintable() else ascii(name)[1:-1]


_COMMANDS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "notice"}


def _command(problem: Problem) -> str:
    properties = {
        "file": problem.file,
        "line": str(problem.line),
        "col": str(problem.column),
        "title": f"imgnorm {problem.rule}",
    }
    listed = ",".join(
        f"{key}={_escaped(value).replace(':', '%3A').replace(',', '%2C')}"
        for key, value in properties.items()
    )
    message = f"{problem.message}\n{problem.hint}" if problem.hint else problem.message
    return f"::{_COMMANDS[problem.severity]} {listed}::{_escaped(message)}"


def _escaped(value: str) -> str:
    """As @actions/core writes it: a message cannot start another command."""
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
