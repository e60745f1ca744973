"""Which known names somebody may have meant by another one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
