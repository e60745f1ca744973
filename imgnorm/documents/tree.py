"""YAML, JSON and TOML as trees of nodes that know their place.

Lenient on purpose: whoever looks for numbers does not judge the file around them. YAML may have
anchors, aliases, merge keys, tags and several documents. Tags are ignored, and nothing is built from
them. JSON may have comments and trailing commas, and TOML is read by every Python.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    MappingStartEvent,
    ScalarEvent,
)

from imgnorm.documents.reader import NOT_YAML, events_in

Place = tuple[int, int]
"""Line and column in the file, from 1. Lines end with \\n, \\r\\n or \\r; columns count characters (after
a byte order mark)."""

MAX_DEPTH = 64
MAX_NODES = 200_000

LINE_BREAK = re.compile(r"\r\n|\r|\n")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")

_TOKEN = re.compile(
    r"""(?P<space>[\s,]+|\#[^\n\r]*|//[^\n\r]*|/\*(?s:.*?)\*/)
    |(?P<text>\"{3}(?s:.*?)\"{3}|'{3}(?s:.*?)'{3}|"[^"\\]*(?:\\(?s:.)[^"\\]*)*"|'[^'\n]*')
    |(?P<mark>[][{}:=])
    |(?P<word>[\w.+-]+(?::\d\d[\w.+-]*)*)""",
    re.VERBOSE,
)
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_SPECIAL = {"nan": math.nan, ".nan": math.nan, "infinity": math.inf, "-infinity": -math.inf}
_SPECIAL |= {".inf": math.inf, "-.inf": -math.inf}


@dataclass(frozen=True)
class Node:
    """A value of a file, with its place."""

    __slots__ = ("place", "text", "value")

    value: Content
    place: Place
    text: str  # of a scalar, as the file has it; "" of others


Content = dict[str, Node] | list[Node] | str | float | bool | None


class Lines:
    """A file's text by lines."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(found.end() for found in LINE_BREAK.finditer(text))]

    def place(self, position: int) -> Place:
        """Line and column of a character, counted from 0 in the text."""
        line = bisect_right(self._starts, position)
        return line, position - self._starts[line - 1] + 1

    def has(self, place: Place, text: str) -> bool:
        """Whether exactly this stands there."""
        line, column = place
        return line <= len(self._starts) and self._text.startswith(
            text, self._starts[line - 1] + column - 1
        )


def plain(node: Node | None) -> Any:
    """A scalar's value, or a short list's; None for what is larger."""
    if node is None or isinstance(node.value, dict):
        return None
    if isinstance(node.value, list):
        return [plain(item) for item in node.value] if len(node.value) <= 4 else None
    return node.value


def json_tree(text: str, *, left_out: Collection[str] = ()) -> Node:
    """
    Args:
        left_out: keys whose values are read over.

    Raises:
        ValueError: this is not JSON, or beyond the limits.
    """
    reader = _TreeReader(text, "JSON", left_out)
    root = reader.value(0)
    if not reader.ended():
        raise reader.fault()
    return root


def toml_tree(text: str) -> Node:
    """
    Raises:
        ValueError: this is not TOML, or beyond the limits.
    """
    reader = _TreeReader(text, "TOML")
    root: dict[str, Node] = {}
    table = root
    while not reader.ended():
        place = reader.lines.place(reader.position)
        if reader.follows("["):
            twice = reader.follows("[")
            names = reader.key().split(".")
            if not all(reader.follows("]") for _ in range(1 + twice)):
                raise reader.fault()
            table = _table(root, names, place, twice=twice)
        else:
            *above, last = reader.key().split(".")
            if not reader.follows("="):
                raise reader.fault()
            _table(table, above, place, twice=False)[last] = reader.value(0)
    return Node(root, (1, 1), "")


def yaml_trees(text: str) -> list[Node]:
    """The documents of a file of YAML.

    Raises:
        ValueError: this is not YAML, or beyond the limits.
    """

    roots: list[Node] = []
    anchors: dict[str, Node] = {}
    open_: list[tuple[Node, list[Node]]] = []  # collections, and the keys and values in them so far
    for count, event in enumerate(_events(text)):
        if count > 2 * MAX_NODES:  # a collection has two events
            raise ValueError(f"more than {MAX_NODES:,} values")
        if isinstance(event, CollectionEndEvent):
            done, parts = open_.pop()
            _fill(done, parts)
        elif isinstance(event, AliasEvent):
            if event.anchor not in anchors:
                raise ValueError("not valid YAML")
            open_[-1][1].append(anchors[event.anchor])
        elif isinstance(event, (ScalarEvent, CollectionStartEvent)):
            mark: Any = event.start_mark
            place = (mark.line + 1, mark.column + 1)
            if isinstance(event, ScalarEvent):
                value = event.value if event.style in ("'", '"') else _scalar(event.value)
                node = Node(value, place, event.value)
            else:
                node = Node({} if isinstance(event, MappingStartEvent) else [], place, "")
            if event.anchor:
                anchors[event.anchor] = node
            (open_[-1][1] if open_ else roots).append(node)
            if isinstance(event, CollectionStartEvent):
                if len(open_) == MAX_DEPTH:
                    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
                open_.append((node, []))
    return roots


def _events(text: str) -> Iterator[Any]:
    try:
        yield from events_in(text)
    except NOT_YAML as error:
        raise ValueError("not valid YAML") from error


def _fill(collection: Node, parts: list[Node]) -> None:
    """Puts its items into a collection: of a mapping, keys and values in turn."""
    if isinstance(collection.value, list):
        collection.value.extend(parts)
        return
    mapping = collection.value
    assert isinstance(mapping, dict)
    merged: list[Node] = []
    for key, value in zip(parts[::2], parts[1::2], strict=True):
        if key.text == "<<":
            merged += value.value if isinstance(value.value, list) else [value]
        else:
            mapping[key.text] = value
    for other in merged:
        if isinstance(other.value, dict):
            for name, value in list(other.value.items()):
                mapping.setdefault(name, value)


def _scalar(text: str) -> str | float | bool | None:
    if NUMBER.fullmatch(text):
        return float(text)
    word = text.lower()
    return _WORDS[word] if word in _WORDS else _SPECIAL.get(word.lstrip("+"), text)


class _TreeReader:
    """Values of JSON, and those of TOML, which are nearly the same."""

    def __init__(self, text: str, language: str, left_out: Collection[str] = ()) -> None:
        self._left_out = left_out
        self.lines = Lines(text)
        self._text = text
        self._language = language
        self.position = 0
        self._count = 0

    def token(self) -> tuple[str, str, int]:
        """Kind, text and position of the next one; at the end, with the kind ""."""
        while self.position < len(self._text):
            found = _TOKEN.match(self._text, self.position)
            if not found or not found.lastgroup:
                raise self.fault()
            self.position = found.end()
            if found.lastgroup != "space":
                return found.lastgroup, found[0], found.start()
        return "", "", self.position

    def ended(self) -> bool:
        """Whether nothing follows."""
        before = self.position
        kind, _, start = self.token()
        self.position = start if kind else before
        return not kind

    def fault(self) -> ValueError:
        return ValueError(f"not valid {self._language}")

    def follows(self, mark: str) -> bool:
        """Whether this comes next; then it is taken."""
        before = self.position
        if self.token()[1] == mark:
            return True
        self.position = before
        return False

    def key(self) -> str:
        kind, text, _ = self.token()
        if kind not in ("text", "word"):
            raise self.fault()
        return _unquoted(text) if kind == "text" else text

    def value(self, depth: int) -> Node:
        self._count += 1
        if self._count > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES:,} values")
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        kind, text, start = self.token()
        place = self.lines.place(start)
        if text == "[":
            items = []
            while not self.follows("]"):
                items.append(self.value(depth + 1))
            return Node(items, place, "")
        if text == "{":
            mapping = {}
            while not self.follows("}"):
                name = self.key()
                if not (self.follows(":") or self.follows("=")):
                    raise self.fault()
                before = self._count
                value = self.value(depth + 1)
                if name in self._left_out:
                    self._count = before
                else:
                    mapping[name] = value
            return Node(mapping, place, "")
        if kind == "text":
            return Node(_unquoted(text), place, text)
        if kind == "word":
            return Node(_scalar(text), place, text)
        raise self.fault()


def _unquoted(text: str) -> str:
    if text[:3] in ('"""', "'''"):
        return text[3:-3]
    if text[0] == '"':
        try:
            return str(json.loads(text, strict=False))
        except ValueError:
            pass  # an escape of TOML
    return text[1:-1]


def _table(
    root: dict[str, Node], names: list[str], place: Place, *, twice: bool
) -> dict[str, Node]:
    """The table of that name, which is made; the last of an array of tables."""
    table = root
    for index, name in enumerate(names):
        last = index == len(names) - 1
        node = table.get(name)
        if node is None:
            node = table[name] = Node([] if last and twice else {}, place, "")
        if isinstance(node.value, list):
            if (last and twice) or not node.value:
                node.value.append(Node({}, place, ""))
            node = node.value[-1]
        if not isinstance(node.value, dict):
            raise ValueError("not valid TOML")
        table = node.value
    return table
