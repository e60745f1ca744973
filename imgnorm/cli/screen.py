"""How text looks on a terminal: as wide as it is, in color, and with the command as it was typed.

What does not go to a terminal stays as it is, one line each: programs read it.
"""

from __future__ import annotations

import os
import re
from typing import IO

from imgnorm.wording import LABEL, wrapped

_CODES = {"bold": "1", "faint": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}
_LABELS = {
    "note": "yellow",
    "outliers": "yellow",
    "partial": "yellow",
    "range": "yellow",
    "skipped": "red",
    "wrote": "green",
}
_TITLES = re.compile(r"(?:.* )?mean {2,}(?:std|shift).*|(?:target|layer|BatchNorm) {2,}.*| +q01 .*")


def columns_of(stream: IO[str] | None) -> int | None:
    """How wide the terminal is; None if this is none."""
    if stream is None or not stream.isatty():
        return None
    try:
        width = int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):
        width = 0
    return max(width, 20) if width > 0 else 80


def has_colors(stream: IO[str] | None) -> bool:
    """See https://no-color.org and https://force-color.org; without either, a terminal that nobody logs."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    if stream is None or not stream.isatty() or os.environ.get("CI"):
        return False
    return os.environ.get("TERM") != "dumb" and (os.name != "nt" or "WT_SESSION" in os.environ)


class Paint:
    """Puts text into a color of the stream, or leaves it as it is."""

    def __init__(self, stream: IO[str] | None) -> None:
        self._on = has_colors(stream)

    def __call__(self, text: str, *styles: str) -> str:
        if not self._on or not text:
            return text
        return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"


def laid_out(text: str, stream: IO[str] | None) -> str:
    """A table, notes and sentences of ours: wrapped at the width, labels and titles in color."""
    columns, paint = columns_of(stream), Paint(stream)
    lines = []
    for line in as_typed(text).split("\n"):
        first, *others = wrapped(line, columns) if columns else [line]
        label = LABEL.match(first)
        if label:
            first = paint(label[0], _LABELS.get(label[0].strip(), "faint")) + first[label.end() :]
        elif _TITLES.fullmatch(first):
            first = paint(first, "bold")
        lines += [first, *others]
    return "\n".join(lines)


def program() -> str:
    """The command as it was typed: `imgnorm`, or the path of a checkout's scripts/imgnorm."""
    return os.environ.get("IMGNORM_PROGRAM") or "imgnorm"


def as_typed(text: str) -> str:
    """Commands in a text as the user can type them."""
    return text.replace("`imgnorm ", f"`{program()} ")
