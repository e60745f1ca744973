"""Which files `--include` and `--exclude` choose: patterns of names, as .gitignore files have them.

- `*` and `?` stand for any text and for one character, but for no `/`; `[a-z]` and `[!a-z]` for one
  character of a set; `\\*` is a plain `*`.
- `**/` stands for any folders, none included; `/**` at the end for all that a folder has.
- A pattern without `/`, or with one at its end only, matches at any depth: `masks`, `*.gif`, `masks/`.
  One with `/` begins at the top: `train/masks`, `/masks`, `*/masks`.
- What matches a folder matches all that is in it; a pattern that ends in `/` matches folders only.

Capital letters matter. There is no `!pattern`: what an include leaves out needs no exception.
Source: https://git-scm.com/docs/gitignore#_pattern_format
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

_TOKEN = re.compile(r"\[[!^]?[^\]][^\]]*\]|\\.|.", re.DOTALL)
_NUMBERS = itertools.count()  # a regular expression of many patterns has each group once
_EXTENSION = re.compile(r"(?:^|/)\*(\.\w+)", re.ASCII)


@dataclass(frozen=True)
class Patterns:
    """Those of `--include` and `--exclude`. A name is a path with '/', in an archive the path inside it.

    Raises:
        ValueError: one of them is not a pattern.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in (*self.include, *self.exclude):
            _demand_pattern(pattern)

    @cached_property
    def choose_all(self) -> bool:
        return not (self.include or self.exclude)

    def excludes(self, name: str) -> bool:
        return bool(self.exclude) and self._excluded.match(name) is not None

    def includes(self, name: str) -> bool:
        return not self.include or self._included.match(name) is not None

    def names_extension_of(self, name: str) -> bool:
        """Whether an include that ends in an extension, as `*.gif` does, chooses a file of this name."""
        return bool(self.include) and any(one.match(name) for one in self._of_extensions)

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        """As the stats file records them."""
        given = {"include": self.include, "exclude": self.exclude}
        return {name: patterns for name, patterns in given.items() if patterns}

    @cached_property
    def _included(self) -> re.Pattern[str]:
        return _joined(self.include)

    @cached_property
    def _excluded(self) -> re.Pattern[str]:
        return _joined(self.exclude)

    @cached_property
    def _of_extensions(self) -> list[re.Pattern[str]]:
        ending = [one for one in self.include if _EXTENSION.search(one) and one[-1] != "/"]
        return [_joined([one]) for one in ending]


ALL = Patterns()
"""Chooses all names."""


def _demand_pattern(pattern: str) -> None:
    if not pattern.strip("/") or "\0" in pattern:
        raise ValueError(
            f"{pattern!r} is not a pattern; give one such as masks, '*.gif' or 'val/**'"
        )
    if pattern.startswith("!"):
        raise ValueError(
            f"{pattern!r}: there are no exceptions; choose with include and exclude, and write '\\!' where a "
            "name begins with it"
        )
    if ".." in pattern.split("/") or "." in pattern.split("/"):
        raise ValueError(f"{pattern!r}: names have no '.' and '..'; leave them out")
    try:
        _joined([pattern])
    except re.error as error:
        raise ValueError(
            f"{pattern!r} is not a pattern ({error.msg}); write '\\[' for a bracket"
        ) from error


def _joined(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{_expression(one)})" for one in patterns), re.DOTALL)


def _expression(pattern: str) -> str:
    """The regular expression of one pattern, for `match`."""
    folders_only = pattern.endswith("/")
    body = pattern.rstrip("/")
    parts = body.lstrip("/").split("/")
    anchored = "/" in body
    found = "" if anchored else "(?:.*/)?"
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if part == "**":
            found += ".+" if last else "(?:.*/)?"
        else:
            found += _of_part(part) + ("" if last else "/")
    return found + ("/" if folders_only else r"(?:/|\Z)" if parts[-1] != "**" else r"\Z")


def _of_part(part: str) -> str:
    texts = [""]  # between the stars
    for token in _TOKEN.findall(part):
        if token == "*":
            texts.append("")
        elif token == "?":
            texts[-1] += "[^/]"
        elif len(token) > 2:
            negated = token[1] in "!^"
            inside = re.sub(r"([^\w-])", r"\\\1", token[1 + negated : -1])
            texts[-1] += f"(?!/)[{'^' * negated}{inside}]"
        else:
            texts[-1] += re.escape(token[-1])
    if len(texts) == 1:
        return texts[0]
    # The first place where a text fits is as good as any later one. Python 3.10 has no (?>...).
    between = (
        f"(?=(?P<_{number}>[^/]*?{text}))(?P=_{number})"
        for number, text in zip(_NUMBERS, texts[1:-1], strict=False)
        if text
    )
    return f"{texts[0]}{''.join(between)}[^/]*{texts[-1]}"
