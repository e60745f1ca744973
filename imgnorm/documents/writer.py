"""Plain values -> YAML: what PyYAML writes, without importing it, and 20 times as fast."""

from __future__ import annotations

import re
from typing import Any

_PLAIN = re.compile(r"(?![yYnN]$)[A-Za-z_/][\w./, -]*", re.ASCII)
_NOT_TEXT = re.compile(
    "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF|null|Null|NULL"
)
"""What looks like text, and is a boolean or null for readers of YAML 1.1."""
_ESCAPED = re.compile('["\\\\]|[^ -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]')
_ESCAPES = dict(zip('\0\a\b\t\n\v\f\r\x1b"\\\x85\u2028\u2029', '0abtnvfre"\\NLP', strict=True))
_BREAK = re.compile("[\n\x85\u2028\u2029]")
_LONGEST_KEY = 122  # characters; a longer one, or one with a line break, stands after "? "


class TextLines(str):
    """Text that is written line by line, as a block."""

    __slots__ = ()


def yaml_of(value: dict[str, Any] | list[Any], indent: str = "") -> str:
    """A mapping or list of plain values, none of them NaN or infinite, as YAML in several lines.

    Lists and mappings stand on one line each if they hold nothing but plain scalars. Text that some
    YAML reader could read as something else is quoted.

    Example:
        >>> print(yaml_of({"mean": [0.5, 1e-05], "ref": "1:30", "parts": [{"a": 1}, {"b": "é"}]}))
        mean: [0.5, 1.0e-05]
        ref: "1:30"
        parts:
        - {a: 1}
        - b: "é"
        <BLANKLINE>
    """
    parts: list[str] = []
    if isinstance(value, list):
        for item in value:
            parts += indent, "- ", _inside(item, indent)
        return "".join(parts)
    for key, item in value.items():
        text = yaml_scalar(key)
        if not key or len(key) > _LONGEST_KEY or _BREAK.search(key):
            parts += indent, "? ", text, "\n", indent, ": ", _inside(item, indent)
            continue
        line = _line(item)
        parts += indent, text, ":"
        if line is not None:
            parts += " ", line, "\n"
        else:
            parts += "\n", yaml_of(item, indent if isinstance(item, list) else indent + "  ")
    return "".join(parts)


def values_in(value: Any) -> int:
    """How many values a plain value has: mappings, lists, keys and scalars."""
    if not isinstance(value, (dict, list)):
        return 1
    keys = len(value) if isinstance(value, dict) else 0
    inner = value.values() if isinstance(value, dict) else value
    if set(map(type, inner)) <= {int, float, str}:
        return 1 + keys + len(inner)
    return 1 + keys + sum(map(values_in, inner))


def _inside(item: Any, indent: str) -> str:
    """What follows "- " or ": "."""
    within = indent + "  "
    if isinstance(item, TextLines):
        return "|-\n" + within + item.replace("\n", "\n" + within) + "\n"
    line = _line(item)
    return yaml_of(item, within)[len(within) :] if line is None else line + "\n"


def _line(value: Any) -> str | None:
    """A value on one line; None if it takes several."""
    if not isinstance(value, (list, dict)):
        return yaml_scalar(value)
    if isinstance(value, list):
        kinds = set(map(type, value))
        if kinds == {int}:  # up to 65,536 of them
            return str(value)
        if kinds == {float}:
            return f"[{', '.join(map(yaml_scalar, value))}]"
        texts = [_in_line(one) for one in value]
        return None if None in texts else f"[{', '.join(map(str, texts))}]"
    pairs = [(_in_line(key), _in_line(one)) for key, one in value.items()]
    if any(None in pair for pair in pairs) or max(map(len, value), default=0) > _LONGEST_KEY:
        return None
    return "{" + ", ".join([f"{key}: {one}" for key, one in pairs]) + "}"


def _in_line(value: Any) -> str | None:
    """A plain scalar inside brackets; None if the value is none."""
    if isinstance(value, (list, dict)):
        return None
    text = yaml_scalar(value)
    if not isinstance(value, str):
        return text
    if text[0] == '"':
        return None
    return f"'{text}'" if "," in text and text[0] != "'" else text


def yaml_scalar(value: str | float | bool) -> str:
    """A plain value in a form that every YAML reader reads alike."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value):
            return f"'{value}'" if value[-1] == " " or _NOT_TEXT.fullmatch(value) else value
        return '"' + _ESCAPED.sub(_escape, value) + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    # Readers of YAML 1.1 take no number without a point for a float.
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] in _ESCAPES:
        return "\\" + _ESCAPES[found[0]]
    return (
        f"\\x{code:02X}" if code < 256 else f"\\u{code:04X}" if code < 65536 else f"\\U{code:08X}"
    )
