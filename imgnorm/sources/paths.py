"""Paths of many files: what a pattern means, and the shortest labels that differ for each path."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod

from imgnorm.errors import SourceError
from imgnorm.sources.names import name_bytes
from imgnorm.wording import printable

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)", re.ASCII)
_LETTERS = re.compile(r"[a-z]\.\.[a-z]|[A-Z]\.\.[A-Z]")
_MAX_PATHS = 1_000_000
_FEWER = "name fewer at once, and merge their stats"


def is_pattern(text: str) -> bool:
    """Whether it is meant as a pattern, even one that `matching` refuses."""
    return glob.has_magic(text) or any(
        ".." in found[1] or _alternatives(found[1]) for found in _BRACES.finditer(text)
    )


def matching(pattern: str) -> list[str]:
    """The files that a pattern such as `shards/train-*.tar` or `train-{000000..000127}.tar` matches.

    Raises:
        SourceError: there are none, or a file that braces name is missing.
    """
    paths: list[str] = []
    missing: list[str] = []
    expanded = _expanded(pattern)
    for text in expanded:
        if os.path.lexists(text) or not glob.has_magic(text):
            (paths if os.path.lexists(text) else missing).append(text)
            continue
        found = sorted(glob.glob(text), key=name_bytes)
        if not found:
            raise SourceError(
                f"{printable(text)}: no such file or folder, and no file matches this pattern; check its folders, "
                "and quote it so that the shell does not expand it"
            )
        paths += found
    if missing:
        for braces in _BRACES.finditer(missing[0]):
            if ".." in braces[1]:
                raise SourceError(
                    f"{printable(pattern)}: {printable(braces[0])} is not a range; write it like {{000..127}}, "
                    "{a..k} or {a,b,c}"
                )
        raise SourceError(
            f"{printable(missing[0])}: no such file ({len(missing):,} of the {len(expanded):,} that "
            f"{printable(pattern)} names are missing); get it, or name only the files that exist"
        )
    return paths


def labelled(paths: Iterable[str]) -> dict[str, str]:
    """Paths by their labels: the fewest last parts that differ for each path.

    They are in the order of the names of their members, which begin with the label and a slash. No
    label is a folder in another one.
    """
    parts = {
        path: os.path.abspath(path).replace(os.sep, "/").lstrip("/").split("/")
        for path in {os.path.abspath(path): path for path in paths}.values()
    }
    depths = dict.fromkeys(parts, 1)
    while True:
        labels = {path: "/".join(parts[path][-depth:]) for path, depth in depths.items()}
        taken = Counter(labels.values())
        unclear = [
            path
            for path, label in labels.items()
            if taken[label] > 1 or any(above in taken for above in _folders_above(label))
        ]
        if not unclear:
            break
        for path in unclear:
            depths[path] += 1
    ordered = sorted(labels, key=lambda path: name_bytes(labels[path] + "/"))
    return {labels[path]: path for path in ordered}


def _expanded(pattern: str) -> list[str]:
    """All texts that `{a,b}` and `{00..12}` stand for, each once; other braces stay as they are."""
    too_many = SourceError(f"{printable(pattern)}: names more than {_MAX_PATHS:,} files; {_FEWER}")
    if (
        prod(len(_alternatives(braces[1])) or 1 for braces in _BRACES.finditer(pattern))
        > _MAX_PATHS
    ):
        raise too_many
    texts = [pattern]
    done: dict[str, None] = {}
    while texts:
        text = texts.pop()
        for braces in _BRACES.finditer(text):
            words = _alternatives(braces[1])
            if words:
                if len(texts) + len(words) + len(done) > _MAX_PATHS:
                    raise too_many
                before, after = text[: braces.start()], text[braces.end() :]
                texts += [before + word + after for word in reversed(words)]
                break
        else:
            done[text] = None
    return list(done)


def _alternatives(text: str) -> list[str]:
    if _LETTERS.fullmatch(text):
        return list(map(chr, _from_to(ord(text[0]), ord(text[-1]))))
    limits = _RANGE.fullmatch(text)
    if limits is None:
        return text.split(",") if "," in text else []
    first, last = int(limits[1]), int(limits[2])
    if abs(last - first) >= _MAX_PATHS:
        raise SourceError(f"{{{text}}}: names more than {_MAX_PATHS:,} files; {_FEWER}")
    padded = any(len(end) > 1 and end.lstrip("-")[0] == "0" for end in limits.groups())
    width = max(map(len, limits.groups())) if padded else 0
    return [f"{number:0{width}d}" for number in _from_to(first, last)]


def _from_to(first: int, last: int) -> range:
    step = 1 if last >= first else -1
    return range(first, last + step, step)


def _folders_above(label: str) -> Iterator[str]:
    end = label.find("/")
    while end >= 0:
        yield label[:end]
        end = label.find("/", end + 1)
