"""Bytes -> Document: YAML with line and column, and every fault of a file at once.

`parse` reads a subset of YAML: one document, no anchors, aliases, tags or merge keys, no key twice,
scalars by YAML 1.2's core schema. It builds values from the parser's events. So nothing in the input
is executed or expanded, deep nesting does not recurse, and the limits hold while it reads.
"""

from __future__ import annotations

import math
import os
import re
import typing
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from imgnorm.documents.document import (
    CONFIG_LIMITS,
    MAX_PROBLEMS,
    Document,
    DocumentLimits,
    Path,
    Places,
    read_bytes,
    too_many_bytes,
    with_path,
)
from imgnorm.documents.kinds import Record, ValueKind
from imgnorm.errors import InvalidDocument, Problem
from imgnorm.wording import cut

MAX_DIGITS = 1300  # the sum of squares of any float64 has fewer; int() and str() stop at 4,300
MAX_TAG_DIRECTIVES = 100
MAX_UNKNOWN = 10_000  # keys, and values beneath them; with more it is some other file

NOT_YAML = (yaml.YAMLError, ValueError, OverflowError, IndexError)
"""What `events_in` raises at a fault. The last three escape from PyYAML's parser in pure Python."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_document(
    path: str | os.PathLike[str], limits: DocumentLimits, kind: ValueKind | None = None
) -> Document:
    """The document in a file.

    Raises:
        SourceError: the file does not exist, is not a regular file, or cannot be read.
        InvalidDocument: the file has faults; it holds all that were found.
    """
    return parse(read_bytes(path, limits), os.fspath(path), limits, kind)


def parse(
    data: bytes, file: str, limits: DocumentLimits, kind: ValueKind | None = None
) -> Document:
    """The document that `data` holds.

    Keys are always text, as the file has them. A plain scalar is null, a boolean, a number or text
    by YAML 1.2's core schema: `no`, `1:30` and `1_000` are text, `010` is ten. A quoted one is text.

    Args:
        kind: what the document should be. Where hardly any key is one of its keys, reading ends early.

    Raises:
        InvalidDocument: with all faults that can be found. Reading ends at a fault in the syntax, or
            at a limit.
    """
    reading = read_through(data, file, limits, kind)
    if reading.problems or reading.document is None:
        raise InvalidDocument(reading.problems)
    return reading.document


@dataclass(frozen=True)
class Reading:
    """What could be read of a file, and what was wrong with it as YAML."""

    document: Document | None  # None if too little could be read to check it
    problems: tuple[Problem, ...]
    ended_in: tuple[Path, ...] = ()  # the paths of what may be incomplete, where reading ended


def read_through(
    data: bytes, file: str, limits: DocumentLimits, kind: ValueKind | None = None
) -> Reading:
    """Like `parse`, but returns the problems, and a document without the faulty parts.

    The first value of a key that is given twice stays. An alias becomes null, a tagged scalar its
    text. Merge keys, and keys that are not text, are left out with their values.
    """
    builder = _Builder(file, limits, kind)
    ended_in: tuple[Path, ...] = ()
    try:
        text = _text_of(data, builder)
        damaged = bool(builder.problems)
        try:
            for event in events_in(text):
                builder.take(event)
        except NOT_YAML as error:
            # After control characters were blanked out, a syntax error is likely their consequence.
            if not damaged:
                builder.report(*_syntax_fault(error, text, builder.last), "syntax")
            ended_in = builder.close()
        else:
            if not builder.documents and not damaged:
                builder.report((0, 0), "the file is empty", None, "empty")
    except _ReadingStopped:
        if builder.documents < 2:  # the first document is whole if a second one begins
            return Reading(None, tuple(builder.problems))
    document = Document(file, builder.root, builder.places) if builder.places.marks else None
    return Reading(document, tuple(builder.problems), ended_in)


def declared_format(data: bytes) -> str:
    """The value of `format` in a YAML file; "" if it has none, or is not YAML up to there."""
    depth, key = 0, None
    try:
        for event in events_in(data):
            if isinstance(event, CollectionStartEvent):
                depth += 1
                if depth == 1 and not isinstance(event, MappingStartEvent):
                    return ""
            elif isinstance(event, CollectionEndEvent):
                depth -= 1
                key = None if depth == 1 else key
            elif depth == 1 and isinstance(event, ScalarEvent):
                if key == "format":
                    return event.value
                key = event.value if key is None else None
            if depth > CONFIG_LIMITS.max_depth:
                return ""
    except NOT_YAML:
        pass
    return ""


def events_in(text: str | bytes) -> Iterator[Event]:
    """PyYAML's events, from its C parser if PyYAML was built with it.

    Raises:
        NOT_YAML: one of these, at a fault in the syntax.
    """
    return yaml.parse(text, _Loader)


def core_value(text: str) -> Any:
    """A plain scalar's value by YAML 1.2's core schema, for text of a document without faults."""
    return _Builder("", CONFIG_LIMITS)._resolved(text)


_NOTHING = Record()  # the kind of what lies beneath a key that is unknown


class _ReadingStopped(Exception):
    """Reading ends here; the last problem says why."""


@dataclass
class _OpenContainer:
    """A mapping or list whose end event has not come yet. The last four fields are for mappings."""

    entry: int
    value: dict[str, Any] | list[Any]
    is_key: bool  # a fault, but its end must be found
    kind: ValueKind | None  # what it should be; None if that does not matter
    key: str | None = None  # the key whose value comes next
    first: dict[str, int] = field(default_factory=dict)  # the entry of each key
    drop: bool = False  # the next value is not kept
    dropped: bool = False  # some values were not kept


class _Builder:
    """Builds values and places from events, and collects the problems.

    After a problem, the value only serves to find the places of further ones.
    """

    def __init__(self, file: str, limits: DocumentLimits, kind: ValueKind | None = None) -> None:
        self.limits = limits
        self._kind = kind
        self._unknown = 0  # keys that the kind does not have, and all beneath them
        self.problems: list[Problem] = []
        self.places = Places()
        self.root: Any = None
        self.documents = 0
        self.last = (0, 0)  # the place of the latest event
        self._file = file
        self._stack: list[_OpenContainer] = []

    def report(
        self,
        mark: tuple[int, int],
        message: str,
        hint: str | None,
        rule: str,
        path: Path = (),
    ) -> None:
        place = mark[0] + 1, mark[1] + 1
        self.problems.append(Problem(self._file, *place, rule, with_path(path, message), hint))
        if rule != "limit" and len(self.problems) == MAX_PROBLEMS:
            self.stop(mark, "too many faults; the rest of the file was not read", None)

    def stop(self, mark: tuple[int, int], message: str, hint: str | None) -> typing.NoReturn:
        self.report(mark, message, hint, "limit")
        raise _ReadingStopped

    def take(self, event: Event) -> None:
        if isinstance(event, ScalarEvent):
            self._scalar(event)
        elif isinstance(event, CollectionStartEvent):
            self._start(event)
        elif isinstance(event, CollectionEndEvent):
            self._end()
        elif isinstance(event, AliasEvent):
            self._alias(event)
        elif isinstance(event, DocumentStartEvent):
            self._document(event)

    def _document(self, event: DocumentStartEvent) -> None:
        mark = self._reach(event)
        self.documents += 1
        if self.documents > 1:
            hint = "keep one document per file"
            self.report(mark, "a second document starts here", hint, "multiple-documents")
            raise _ReadingStopped
        version = event.version
        if version and version != (1, 2):
            message = f"%YAML {version[0]}.{version[1]}: the file is read as YAML 1.2"
            self.report(mark, message, "remove this line", "directive")

    def _scalar(self, event: ScalarEvent) -> None:
        entry = self._enter(event)
        if event.anchor is not None or event.tag is not None:
            self._refuse_properties(event)
        text = event.value
        if not text.isascii() and _SURROGATE.search(text):
            message = f"{cut(text)!r} has half of a surrogate pair"
            self._at_node(message, r"write the whole character, or \U and 8 digits", "syntax")
        if self._expects_key():
            self._key(text, plain=not event.style, entry=entry)
        elif event.style or event.tag is not None:
            self._attach(text)
        else:
            self._attach(self._resolved(text))

    def _resolved(self, text: str) -> Any:
        """A plain scalar's value by the core schema.

        https://yaml.org/spec/1.2.2/#1032-tag-resolution
        """
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in "+-.0123456789":
            return text
        if _DECIMAL.fullmatch(text):
            base, digits = 10, text.lstrip("+-")
        elif _FLOAT.fullmatch(text):
            number = float(text)
            if math.isinf(number):
                message = f"{cut(text)} is beyond the range of a 64-bit float"
                self._at_node(message, "write .inf if infinity is meant", "number-too-large")
            return number
        elif _BASED.fullmatch(text):
            base, digits = (8 if text[1] == "o" else 16), text[2:]
        else:
            return text
        if len(digits) > MAX_DIGITS:
            message = f"a number of {len(digits):,} digits"
            self._at_node(message, f"at most {MAX_DIGITS:,} are read", "number-too-large")
            return 0
        return int(text if base == 10 else digits, base)

    def _key(self, key: str, *, plain: bool, entry: int) -> None:
        mapping = self._stack[-1]
        mapping.key = key
        if mapping.kind and mapping.kind.inside(key) is None:
            self._count_unknown()
        if plain and key == "<<":
            self._at_node("merge keys are not allowed", "write the merged keys out", "merge-key")
            mapping.drop = True
        elif key in mapping.first:
            mapping.drop = True
            line, _ = self.places[mapping.first[key]]
            self._at_node(f"given again (first on line {line})", "keep one", "duplicate-key")
        else:
            mapping.first[key] = entry

    def _count_unknown(self) -> None:
        self._unknown += 1
        if self._unknown > MAX_UNKNOWN:
            message = f"more than {MAX_UNKNOWN:,} unknown keys and values; the rest was not read"
            self.stop(self.last, message, None)

    def _start(self, event: CollectionStartEvent) -> None:
        entry = self._enter(event)
        if event.anchor is not None or event.tag is not None:
            self._refuse_properties(event)
        is_key = self._expects_key()
        if is_key and not any(outer.is_key for outer in self._stack):
            hint = "quote it if it is text"
            self._at_node("a key must be text, not a list or mapping", hint, "key-not-text")
        if len(self._stack) == self.limits.max_depth:
            message = f"nested deeper than {self.limits.max_depth} levels"
            self.stop(self.last, with_path(self._path(), message), None)
        value: dict[str, Any] | list[Any] = {} if isinstance(event, MappingStartEvent) else []
        kind = self._kind
        if kind and self._stack:
            outer = self._stack[-1]
            kind = (outer.kind and outer.kind.inside(outer.key)) or _NOTHING
        self._stack.append(_OpenContainer(entry, value, is_key, kind))

    def _end(self) -> None:
        closed = self._stack.pop()
        self.places.spans[closed.entry] = len(self.places.marks) - closed.entry
        if closed.dropped:
            self.places.keep(closed.entry, closed.first)
        if self._expects_key():
            self._drop_key()
        else:
            self._attach(closed.value)

    def _drop_key(self) -> None:
        """Leaves out a key that is not text, and its value."""
        self._stack[-1].key = "?"
        self._stack[-1].drop = True

    def close(self) -> tuple[Path, ...]:
        """Ends the containers that are open where reading ended; returns the paths of all that may be incomplete."""
        steps = [len(o.value) if isinstance(o.value, list) else o.key for o in self._stack]
        ended_in = [tuple(s for s in steps[:i] if s is not None) for i in range(len(steps))]
        if self._stack:  # a syntax error may have made the latest value too long
            value, key = self._stack[-1].value, self._stack[-1].key
            latest = len(value) - 1 if isinstance(value, list) else key or next(reversed(value), 0)
            ended_in += [(*ended_in[-1], latest)] if value or key else []
        while self._stack:
            innermost = self._stack[-1]
            if innermost.key is not None:  # its value is missing
                self.places.marks.append(self.last[0] << 32 | self.last[1])
                self.places.spans.append(1)
                self._attach(None)
            self._end()
        return tuple(ended_in)

    def _alias(self, event: AliasEvent) -> None:
        self._enter(event)
        message = f"the alias *{cut(str(event.anchor))} is not allowed"
        self._at_node(message, "write out what it stands for", "alias")
        if self._expects_key():
            self._drop_key()
        else:
            self._attach(None)

    def _enter(self, event: NodeEvent) -> int:
        """Records the place of a node; returns its entry."""
        line, column = self._reach(event)
        marks = self.places.marks
        entry = len(marks)
        if entry == self.limits.max_nodes:
            message = f"more than {self.limits.max_nodes:,} values in one file"
            self.stop(self.last, message, None)
        if self._stack and self._stack[-1].kind is _NOTHING:
            self._count_unknown()
        marks.append(line << 32 | column)
        self.places.spans.append(1)
        return entry

    def _reach(self, event: Event) -> tuple[int, int]:
        mark = event.start_mark
        assert mark is not None
        self.last = (mark.line, mark.column)
        return self.last

    def _refuse_properties(self, event: ScalarEvent | CollectionStartEvent) -> None:
        if event.anchor is not None:
            message = f"the anchor &{cut(event.anchor)} is not allowed"
            self._at_node(message, "remove it, and write the value out where it is used", "anchor")
        if event.tag not in (None, "!"):  # "!" alone marks text, whatever it looks like
            tag = str(event.tag)
            core = "tag:yaml.org,2002:"
            tag = f"!!{tag[len(core) :]}" if tag.startswith(core) else tag
            hint = "remove it; text that looks like a number is written in quotes"
            self._at_node(f"the tag {cut(tag)} is not allowed", hint, "tag")

    def _at_node(self, message: str, hint: str, rule: str) -> None:
        self.report(self.last, message, hint, rule, self._path())

    def _expects_key(self) -> bool:
        if not self._stack:
            return False
        parent = self._stack[-1]
        return parent.key is None and isinstance(parent.value, dict)

    def _attach(self, value: Any) -> None:
        if not self._stack:
            self.root = value
            return
        parent = self._stack[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
        else:
            assert parent.key is not None
            if parent.drop:
                parent.drop, parent.dropped = False, True
            else:
                parent.value[parent.key] = value
            parent.key = None

    def _path(self) -> Path:
        """The path of the node that is being read; of its mapping, if the node is a new key."""
        steps = (len(o.value) if isinstance(o.value, list) else o.key for o in self._stack)
        return tuple(step for step in steps if step is not None)


_CONSTANTS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((s + i for s in ("", "+") for i in (".inf", ".Inf", ".INF")), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")

_SURROGATE = re.compile("[\ud800-\udfff]")
# Whatever YAML does not call printable. Its parsers refuse that too, but report the first only.
# https://yaml.org/spec/1.2.2/#51-character-set
_UNPRINTABLE = re.compile(
    "([^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff])\\1*"
)
_TAG_DIRECTIVE = re.compile("(?:^|[\n\r\x85\u2028\u2029])%TAG")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def _text_of(data: bytes, builder: _Builder) -> str:
    """The file's text, without byte order mark, and with spaces in place of control characters."""
    max_bytes = builder.limits.max_bytes
    if len(data) > max_bytes:
        builder.stop((0, 0), too_many_bytes(builder.limits), None)
    wide = _wide_encoding(data)
    if wide:
        builder.report((0, 0), f"the file is in {wide}", "save it as UTF-8", "encoding")
        raise _ReadingStopped
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        lines = _LINE_BREAK.split(data[: error.start].decode())
        mark = (len(lines) - 1, len(lines[-1]))
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        builder.report(mark, message, "save the file as UTF-8", "encoding")
        raise _ReadingStopped from error
    # Tags are refused, so these directives are useless; libyaml takes quadratic time for them.
    if text.count("%TAG") > MAX_TAG_DIRECTIVES < len(_TAG_DIRECTIVE.findall(text)):
        builder.stop((0, 0), f"more than {MAX_TAG_DIRECTIVES} %TAG directives", "remove them")
    if not _UNPRINTABLE.search(text):
        return text
    starts = [0, *(found.end() for found in _LINE_BREAK.finditer(text))]
    for found in _UNPRINTABLE.finditer(text):
        line = bisect_right(starts, found.start()) - 1
        times = len(found[0])
        message = f"control character U+{ord(found[1]):04X}" + (f", {times:,} times" * (times > 1))
        mark = (line, found.start() - starts[line])
        builder.report(mark, message, "remove it", "control-character")
    return _UNPRINTABLE.sub(lambda found: " " * len(found[0]), text)


def _wide_encoding(data: bytes) -> str | None:
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    even, odd = data[:64:2], data[1:64:2]
    if odd and any(even) != any(odd):  # every other byte is 0, and not all are
        return "UTF-16" if all(even) or all(odd) else "UTF-32"
    return None


def _syntax_fault(
    error: Exception, text: str, last: tuple[int, int]
) -> tuple[tuple[int, int], str, str | None]:
    """Place, message and hint; the same for both of PyYAML's parsers where that is possible."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return last, f"not valid YAML: {str(error).splitlines()[0]}", None
    at = error.problem_mark or error.context_mark
    mark = (at.line, at.column) if at else last
    reason = error.problem or "not understood"
    character = text[at.index : at.index + 1] if at else ""
    if "cannot start any token" in reason or "tab character" in reason:
        if character == "\t":
            return mark, "a tab is not allowed here", "use spaces"
        return mark, f"a value cannot start with {cut(character)!r}", "put the value in quotes"
    if "mapping values are not allowed" in reason:
        hint = "align it with the keys it belongs to; text with ': ' in it needs quotes"
        return mark, "a key or ':' is not allowed here", hint
    message = f"not valid YAML: {reason}"
    if error.context:
        message += f" {error.context}"
        if error.context_mark and error.context_mark.line != mark[0]:
            message += f" that starts on line {error.context_mark.line + 1}"
    return mark, message, None
