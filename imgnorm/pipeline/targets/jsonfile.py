"""JSON: a file of its own, or values put into a file that exists, whose other text stays as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_INDENT = 2
_Edit = tuple[int, int, str]  # from, to, and what to write there


def text_of_json(values: Mapping[str, Any]) -> str:
    """A file with these values and nothing else."""
    return json.dumps(values, indent=_INDENT, ensure_ascii=False) + "\n"


def merged_json(text: str, values: Mapping[Any, Any]) -> str:
    """The text of a JSON object with these values in it: mappings are merged, all else is replaced.

    What is not replaced keeps its place, its order and every character. New keys stand behind the
    others, in their indentation.

    Args:
        values: what to put in; of a list in the file, a mapping from indices.
    """
    start = _skip(text, 0)
    step = text[start + 1 : _skip(text, start + 1)].rpartition("\n")[2] or " " * _INDENT
    for begin, end, new in sorted(_edits(text, start, values, step), reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def _edits(text: str, start: int, values: Mapping[Any, Any], step: str) -> Iterator[_Edit]:
    """What makes the object or the list that begins here hold the values."""
    members = _members(text, start)
    first = _skip(text, start + 1)
    gap = text[start + 1 : first] if members else ""  # before each key
    added = []
    for key, value in values.items():
        if key not in members:
            added.append(f"{json.dumps(key, ensure_ascii=False)}: {_written(value, gap, step)}")
            continue
        begin, end = members[key]
        if isinstance(value, Mapping) and text[begin] in "{[":
            yield from _edits(text, begin, value, step)
        else:
            yield begin, end, _written(value, gap if "\n" in text[begin:end] else "", step)
    if added and members:
        last = max(end for _, end in members.values())
        yield last, last, "".join(f",{gap or ' '}{one}" for one in added)
    elif added:
        yield start + 1, first, ", ".join(added)


def _members(text: str, start: int) -> dict[str | int, tuple[int, int]]:
    """Where the values of an object or array begin and end, by key or index; of equal keys the last."""
    found: dict[str | int, tuple[int, int]] = {}
    is_object, at, index = text[start] == "{", _skip(text, start + 1), 0
    while text[at] not in "}]":
        key: str | int = index
        if is_object:
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, at)
        found[key], index = (at, end), index + 1
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _written(value: Any, gap: str, step: str) -> str:
    """A value behind a key that has `gap` before it: over several lines if that has a line break."""
    if "\n" not in gap:
        return json.dumps(value, ensure_ascii=False)
    newline = "\r\n" if "\r\n" in gap else "\n"
    text = json.dumps(value, indent=step, ensure_ascii=False)
    return text.replace("\n", newline + gap.rpartition("\n")[2])
