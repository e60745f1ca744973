"""JSON: a file of its own, or values put into a file that exists, whose other text stays as it is."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imgnorm.wording import clause

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_INDENT = 2
_Edit = tuple[int, int, str]  # from, to, and what to write there


def text_of_json(values: Mapping[str, Any]) -> str:
    """A file with these values and nothing else."""
    return json.dumps(values, indent=_INDENT, ensure_ascii=False) + "\n"


def read_json(data: bytes) -> tuple[str, dict[str, Any]]:
    """The text of a JSON object, and what is in it.

    Raises:
        ValueError: it is not UTF-8, not JSON, not an object, or has a key twice in one object.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise ValueError("begins with a byte order mark; save it as UTF-8 without one")
    try:
        text = data.decode()
        values = json.loads(text, object_pairs_hook=_each_key_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({clause(error)}){_hint(text, error.pos)}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"is not JSON ({clause(error)})") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("is not a JSON object, which takes keys")
    return text, values


def _each_key_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"has the key {key!r} twice in one object; remove one")
        found[key] = value
    return found


def _hint(text: str, at: int) -> str:
    """What to do about a fault at this place, if it is one that other readers of JSON allow."""
    if text[at : at + 1] in ("/", "#"):
        return "; JSON has no comments: remove them"
    if text[at : at + 1] == "," or text[:at].rstrip().endswith(","):
        return "; remove the comma behind the last value"
    return ""


def merged_json(text: str, values: Mapping[Any, Any]) -> str:
    """The text of a JSON object with these values in it: mappings are merged, all else is replaced.

    What is not replaced keeps its place, its order and every character. New keys stand behind the
    others, in their indentation.

    Args:
        values: what to put in; of a list in the file, a mapping from indices.

    Raises:
        ValueError: see `read_json`; or where a mapping belongs, the file has another value.
    """
    wanted = _merged(read_json(text.encode())[1], values)
    start = _skip(text, 0)
    step = text[start + 1 : _skip(text, start + 1)].rpartition("\n")[2] or " " * _INDENT
    for begin, end, new in sorted(_edits(text, start, values, step), reverse=True):
        text = text[:begin] + new + text[end:]
    if repr(json.loads(text)) != repr(wanted):  # repr: in the same order, and NaN is NaN
        raise ValueError("cannot be changed in its own form; write a new file with -o")
    return text


def _merged(present: Any, values: Mapping[Any, Any]) -> Any:
    """The content that the text is to have: by this, what is written is checked."""
    merged = dict(present if isinstance(present, dict) else enumerate(present))
    for key, value in values.items():
        if isinstance(value, Mapping) and key in merged:
            inner, kind = merged[key], list if all(isinstance(k, int) for k in value) else dict
            if not isinstance(inner, kind):
                raise ValueError(
                    f"has {json.dumps(inner)[:40]} as {key!r}, which must be an object"
                )
            value = _merged(inner, value)
        merged[key] = value
    return merged if isinstance(present, dict) else list(merged.values())


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
        if isinstance(value, Mapping):
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
