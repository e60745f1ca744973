"""How messages show values, names and exceptions: short, on one line, and harmless to a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable

LABEL = re.compile(
    r"(?:(?=.{8} \S)(?:[a-z]+ {2,}|(?:estimate|outliers|smallest|verified) )|  [a-z]+ {2,})(?=\S)"
)
"""What stands before a line of notes, or of facts: "note     ", "skipped  ", "  source      "."""
_FOREIGN = 300  # characters of a text that is not ours
_LONGEST = 2000  # characters of a line of a message; names of files have up to 4,096 bytes


def printable(text: str) -> str:
    """The text on one line, without commands to a terminal: they become \\n, \\x1b, \\u2028 and so on.

    A byte of a file's name that is not UTF-8 becomes \\xff, as in stats files.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # Python's surrogateescape
        return f"\\x{ord(character) - 0xDC00:x}"
    return character.encode("unicode_escape").decode()


def cut(text: str, at_most: int = 60) -> str:
    """At most this many characters; an ellipsis stands for the rest."""
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"


def shown(name: str) -> str:
    """A name in a table: printable, and at most 2,000 characters, as in a message."""
    return cut(printable(name), _LONGEST)


def one_line(text: str) -> str:
    """A text that is not ours: printable, and at most 300 characters."""
    return cut(printable(" ".join(text.split())), _FOREIGN)


def harmless(text: str) -> str:
    """A message of ours with its lines, each printable and at most 2,000 characters long."""
    if len(text) <= _LONGEST and text.isprintable():
        return text
    return "\n".join(cut(printable(line), _LONGEST) for line in text.split("\n"))


def per_second(amount: float, seconds: float, unit: str) -> str:
    """
    Example:
        >>> per_second(1_200, 1.0, "images"), per_second(1, 30.0, "images")
        ('1,200 images/s', '0.033 images/s')
    """
    speed = amount / max(seconds, 1e-9)
    return f"{speed:,.0f} {unit}/s" if speed >= 10 or not speed else f"{speed:.2g} {unit}/s"


def cells(text: str) -> int:
    """How many columns of a terminal a text takes.

    Example:
        >>> cells("mean"), cells("平均"), cells("e\u0301")
        (4, 4, 1)
    """
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text)


def wrapped(line: str, columns: int) -> list[str]:
    """A line, broken at spaces so that it fits; words and commands in backticks stay whole.

    What follows stands below the text behind a label or an indent, else four columns further in. A row
    of a table, whose columns two spaces part, is left alone.

    Example:
        >>> wrapped("note     all images are gray", 24)
        ['note     all images are', '         gray']
    """
    if cells(line) <= columns:
        return [line]
    label = LABEL.match(line)
    start = label.end() if label else len(line) - len(line.lstrip(" "))
    indent = " " * (start or 4)
    if re.search(r"\S {2,}\S", line[start:]):
        return [line]
    lines = [line[:start]]
    for word in re.findall(r"(?:`[^`]*`|[^\s`]|`)+", line[start:]):
        gap = " " * (lines != [line[:start]])
        if gap and cells(lines[-1] + gap + word) > columns:
            lines.append(indent + word)
        else:
            lines[-1] += gap + word
    return lines


def plural(number: int, noun: str) -> str:
    """
    Example:
        >>> plural(1, "image"), plural(2_000, "image")
        ('1 image', '2,000 images')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def clause(error: BaseException) -> str:
    """An exception's message; its type if it has none."""
    return one_line(str(error)) or type(error).__name__


def describe(error: BaseException) -> str:
    """An exception's type and message."""
    name, words = type(error).__name__, one_line(str(error))
    return f"{name}: {words}" if words else name


def headline(error: BaseException | str) -> str:
    """The first line of an exception's message, where the rest is advice for programmers."""
    return one_line(str(error).strip().partition("\n")[0]).rstrip(".") or type(error).__name__


def nearest(word: str, known: Iterable[str], *, at_most: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known names that are spelled most like a word, the nearest first.

    Case, dashes and underscores are ignored. A name that differs in nothing else comes alone.

    Args:
        cutoff: how similar they must be, from 0 to 1, as in `difflib.get_close_matches`.
    """
    import difflib

    folded = {_folded(name): name for name in known}
    meant = _folded(word)
    if meant in folded:
        return [folded[meant]]
    return [folded[one] for one in difflib.get_close_matches(meant, folded, at_most, cutoff)]


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def in_bytes(size: float) -> str:
    """A number of bytes in the unit that fits: "912 bytes", "1.2 kB", "114 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def in_time(seconds: float) -> str:
    """Seconds in the unit that fits: "0.2 s", "48 s", "21 min", "3.4 h", "2 days"."""
    for unit, size, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds / 86400:,.0f} days"
