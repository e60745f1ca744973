"""Which names patterns choose: as .gitignore files read them, and as pathspec does."""

from __future__ import annotations

import itertools
import random

import pytest

from imgnorm.sources.patterns import Patterns

PARTS = (
    "a",
    "b",
    "ab",
    "*",
    "?",
    "**",
    "a*",
    "*.g",
    "[ab]",
    "[!a]",
    "a?",
    "x.g",
    "[a-b]c",
    "\\*",
    "*a*b*",
    "*ab*b",
)
NAMES = ("a", "b", "ab", "c", "x.g", "y.g", "ac", "*", "aa", "abac", "bab")


def test_patterns_match_what_pathspec_matches():
    """An independent reader of the same format: https://pypi.org/project/pathspec (mypy needs it, too)."""
    pathspec = pytest.importorskip("pathspec")
    chance = random.Random(0)
    names = [
        "/".join(name) for depth in (1, 2, 3) for name in itertools.product(NAMES, repeat=depth)
    ]
    unlike = []
    for _ in range(200):
        parts = [chance.choice(PARTS) for _ in range(chance.randint(1, 4))]
        pattern = chance.choice(["", "", "/"]) + "/".join(parts)
        if parts[-1] != "**":  # pathspec takes `a/**/` for `a/**`, and git does not
            pattern += chance.choice(["", "", "/"])
        matched = {*pathspec.GitIgnoreSpec.from_lines([pattern]).match_files(names)}
        ours = Patterns(exclude=(pattern,))
        unlike += [(pattern, name) for name in names if ours.excludes(name) != (name in matched)]

    assert [] == unlike


def test_no_pattern_takes_long_for_any_name():
    """Each star that is tried at every place, for every other, would take hours."""
    pattern = "*a" * 20 + "*b"

    assert not Patterns(exclude=(pattern,)).excludes("a" * 255)
    assert Patterns(exclude=("x", pattern, pattern)).excludes("a" * 254 + "b")


def test_no_set_has_the_slash():
    """As `git check-ignore`; pathspec takes `a/c`."""
    names = ["ac", "abc", "a/c", "axc"]

    assert ["axc"] == [name for name in names if Patterns(exclude=("a[!b]c",)).excludes(name)]


def test_what_is_no_pattern_is_refused():
    faults = {
        "": "'' is not a pattern; give one such as masks, '*.gif' or 'val/**'",
        "//": "'//' is not a pattern; give one such as masks, '*.gif' or 'val/**'",
        "!a": "'!a': there are no exceptions; choose with include and exclude, and write '\\!' where a "
        "name begins with it",
        "../a": "'../a': names have no '.' and '..'; leave them out",
        "[b-a]": "'[b-a]' is not a pattern (bad character range b-a); write '\\[' for a bracket",
    }

    assert faults == {pattern: refusal(pattern) for pattern in faults}


def refusal(pattern: str) -> str:
    try:
        Patterns(include=(pattern,))
    except ValueError as error:
        return str(error)
    return ""
