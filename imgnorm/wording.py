"""How messages say values and exceptions: short, on one line, and harmless to a terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_OF_ANOTHER = 300  # characters of what others say


def cut(text: str, at_most: int = 60) -> str:
    """So many characters at most; an ellipsis stands for the rest."""
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"


def quoted(text: str) -> str:
    """In quotes, and short."""
    return ascii(cut(text)) if not cut(text).isprintable() else repr(cut(text))


def printable(text: str) -> str:
    """On one line, without commands to a terminal: what is none of it becomes \\n, \\x1b, \\u2028."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """What others say, as it can be printed, and not too much of it."""
    return cut(printable(" ".join(text.split())), _OF_ANOTHER)


def clause(error: BaseException) -> str:
    """What an exception says; its type if it says nothing."""
    return one_line(str(error)) or type(error).__name__


def describe(error: BaseException) -> str:
    """An exception's type, and what it says."""
    name, words = type(error).__name__, one_line(str(error))
    return f"{name}: {words}" if words else name


def headline(error: BaseException | str) -> str:
    """The first line of what an exception says, where the rest is advice for programmers."""
    return one_line(str(error).strip().partition("\n")[0]).rstrip(".") or type(error).__name__


def nearest(word: str, known: Iterable[str], *, at_most: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known names that are spelled most like a word, the nearest first.

    Case, dashes and underscores make no difference; a name that differs in these only is the one.

    Args:
        cutoff: how much alike they must be, from 0 to 1, as `difflib` has it.
    """
    folded = {_folded(name): name for name in known}
    meant = _folded(word)
    if meant in folded:
        return [folded[meant]]
    return [folded[one] for one in difflib.get_close_matches(meant, folded, at_most, cutoff)]


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
