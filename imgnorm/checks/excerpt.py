"""The line of a file that a problem is about, with a mark below the place."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from functools import cache

from imgnorm.wording import cells, printable

_MOST = 16 << 20  # bytes of a file that is read again to be shown
_TAB = 4
_MARKED = re.compile(r"""[\w.+-]+|\[[^\[\]]*\]|\([^()]*\)|\{[^{}]*\}|"[^"]*"|'[^']*'|.""")
_BREAKS = re.compile("\r\n|\r|\n")


@cache
def text_lines(path: str) -> Sequence[str]:
    """The lines of a text file; none if it cannot be shown."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would wait for a writer
            return ()
        with open(path, "rb") as file:
            data = file.read(_MOST)
    except (OSError, ValueError):
        return ()
    return () if b"\0" in data else _BREAKS.split(data.decode("utf-8-sig", "replace"))


def excerpt(lines: Sequence[str], line: int, column: int, columns: int) -> list[str]:
    """A line of a file and a mark below the word, list or string at a column, or nothing if there is no such place.

    Tabs become spaces, commands to a terminal are written out, and a line that is too long is cut on
    both sides of the place.

    Args:
        line: from 1.
        column: from 1, in characters.
        columns: how wide the terminal is.

    Example:
        >>> print(*excerpt(["a", "std: [0.2023, 0.1994]"], 2, 7, 80), sep="\\n")
          2 | std: [0.2023, 0.1994]
            |       ^^^^^^
    """
    if not 1 <= line <= len(lines) or not 1 <= column <= len(lines[line - 1]):
        return []
    text, start = lines[line - 1], column - 1
    found = _MARKED.match(text, start)
    end = found.end() if found else column
    gutter = f"  {line} | "
    room = columns - len(gutter) - 2  # an ellipsis on both sides
    end = min(end, start + room)
    before, marked = _shown(text[max(0, start - room) : start]), _shown(text[start:end])
    after = _shown(text[end : end + room])
    while cells(marked) > room:
        marked = marked[:-1]
    left = max(0, min(room - cells(marked), room // 2))
    cut_before = cells(before) > left and cells(before) + cells(marked) + cells(after) > room
    while cut_before and cells(before) > left:
        before = before[1:]
    head = ("…" if cut_before or start > room else "") + before
    whole = head + marked + after
    if cells(whole) > room + 1 or len(text) > end + room:
        while cells(whole) > room + 1:
            whole = whole[:-1]
        whole += "…"
    mark = " " * cells(head) + "^" * max(1, cells(marked))
    return [f"{gutter}{whole}", f"{' ' * (len(gutter) - 2)}| {mark}"]


def _shown(text: str) -> str:
    return printable(text.replace("\t", " " * _TAB))
