"""YAML with line and column; every fault of a file at once.

`parse` reads the subset of YAML that means the same to everybody: one document, no anchors,
aliases, tags or merge keys, no key twice, scalars by YAML 1.2's core schema. It reads events, not
objects, so nothing of the input is executed, expanded or recursed into, and the limits hold while
it reads.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import stat
import typing
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Any

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

from imgnorm.errors import InvalidDocument, Problem, SourceError
from imgnorm.wording import cut, quoted

Path = tuple[str | int, ...]

MAX_PROBLEMS = 1000  # more would be a hostile file, and its report larger than the file
MAX_DIGITS = 1300  # the sum of squares of any float64 has fewer; int() and str() refuse some 4,300
MAX_TAG_DIRECTIVES = 100

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NOT_YAML = (yaml.YAMLError, ValueError, OverflowError, IndexError)
"""What `events_in` raises where there is a fault; the pure Python parser lets the latter three escape."""


@dataclass(frozen=True)
class Limits:
    """How much of a file is read before it is refused."""

    max_bytes: int
    max_nodes: int  # mappings, lists and scalars; keys count too
    max_depth: int  # mappings and lists inside one another
    max_numbers: int = 0  # in long lists of whole numbers, which cost little, and are no nodes then


CONFIG_LIMITS = Limits(max_bytes=1 << 20, max_nodes=20_000, max_depth=16)
STATS_LIMITS = Limits(max_bytes=64 << 20, max_nodes=2_000_000, max_depth=16, max_numbers=4_000_000)
FOREIGN_STATS_LIMITS = Limits(
    max_bytes=12 << 20, max_nodes=400_000, max_depth=16, max_numbers=1_100_000
)
"""For files that anybody may have sent: about a second. Histograms of 16 channels of 16 bits fit."""


@dataclass(frozen=True)
class Document:
    """A YAML file's value, and where each part of it stands."""

    file: str  # as the user named it
    value: Any  # dict, list, str, int, float, bool or None; to be left as it is
    _places: _Places = field(repr=False, compare=False)

    def place(self, path: Sequence[str | int], *, of_key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at `path`, or of its key.

        A path that does not exist has the place of its nearest ancestor that does.
        """
        value, entry, key_entry = self.value, 0, 0
        for step in path:
            children = self._places.children(entry, value)
            if isinstance(children, dict):
                if step not in children:
                    return self._places[entry]
                key_entry = children[step]
                entry = key_entry + 1
            else:
                if not isinstance(step, int) or not 0 <= step < len(children):
                    return self._places[entry]
                entry = key_entry = children[step]
            value = value[step]
        return self._places[key_entry if of_key else entry]

    def problem(
        self,
        path: Sequence[str | int],
        rule: str,
        message: str,
        hint: str | None = None,
        *,
        of_key: bool = False,
    ) -> Problem:
        """A problem at the place of `path`, its message led by the path: `image.mode: …`."""
        line, column = self.place(path, of_key=of_key)
        return Problem(self.file, line, column, rule, _led_by(path, message), hint)


def read_document(path: str | os.PathLike[str], limits: Limits) -> Document:
    """The document in a file.

    Raises:
        SourceError: there is no such regular file, or it cannot be read.
        InvalidDocument: the file has faults; all that could be found are in it.
    """
    return parse(read_bytes(path, limits), os.fspath(path), limits)


def read_bytes(path: str | os.PathLike[str], limits: Limits) -> bytes:
    """A file's bytes, which are not read if there are too many.

    Raises:
        SourceError: there is no such regular file, or it cannot be read.
        InvalidDocument: it is larger than the limit.
    """
    file = os.fspath(path)
    with _opened(file) as stream:
        if os.fstat(stream.fileno()).st_size > limits.max_bytes:
            raise InvalidDocument([Problem(file, 1, 1, "limit", _too_large(limits))])
        return stream.read(limits.max_bytes + 1)


def read_head(path: str | os.PathLike[str], limits: Limits) -> bytes:
    """The first bytes of a file; one more than allowed if it is too large, which `parse` then refuses.

    Raises:
        SourceError: there is no such regular file, or it cannot be read.
    """
    with _opened(os.fspath(path)) as stream:
        return stream.read(limits.max_bytes + 1)


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    try:
        with open(file, "rb", opener=open_at_once) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise SourceError(f"{file}: not a regular file; save it as one and name that")
            yield stream
    except FileNotFoundError as error:
        raise SourceError(f"{file}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise SourceError(f"{file}: a folder; name a YAML file in it") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        message = f"{file}: cannot be read ({reason}); check the path and its permissions"
        raise SourceError(message) from error


def _too_large(limits: Limits) -> str:
    return f"the file is larger than {limits.max_bytes:,} bytes"


@dataclass(frozen=True)
class Reading:
    """What could be read of a file, and what was wrong with it as YAML."""

    document: Document | None  # None if nothing could be read that is worth to be looked at
    problems: tuple[Problem, ...]
    ended_in: tuple[Path, ...] = ()  # what is perhaps not there to its end


def parse(data: bytes, file: str, limits: Limits) -> Document:
    """The document that `data` holds.

    Keys are always text, as the source has them. A plain scalar is null, a boolean, a number or
    text by YAML 1.2's core schema (`no`, `1:30` and `1_000` are text, `010` is ten); a quoted one
    is text.

    Raises:
        InvalidDocument: with all faults that can be found; at a fault in the syntax, or at a limit,
            reading ends.
    """
    reading = read_through(data, file, limits)
    if reading.problems or reading.document is None:
        raise InvalidDocument(reading.problems)
    return reading.document


def read_through(data: bytes, file: str, limits: Limits) -> Reading:
    """The same, and in spite of faults what is left without them.

    Of a key that is given twice the first value is left, of an alias nothing (null), of a merge key
    or a key that is no text neither key nor value; of a tagged scalar its text.
    """
    builder = _Builder(file, limits)
    ended_in: tuple[Path, ...] = ()
    try:
        text = _text_of(data, builder)
        damaged = bool(builder.problems)
        quick = None if damaged else _with_lists_apart(text, file, limits)
        if quick:
            return Reading(Document(file, quick.root, quick.places), ())
        try:
            for event in events_in(text):
                builder.take(event)
        except NOT_YAML as error:
            # Where control characters were blanked out, it is likely to be their consequence.
            if not damaged:
                builder.report(*_syntax_fault(error, text, builder.last), "syntax")
            ended_in = builder.close()
        else:
            if not builder.documents and not damaged:
                builder.report((0, 0), "the file is empty", None, "empty")
    except _Stopped:
        if builder.documents < 2:  # the first document is whole if a second one begins
            return Reading(None, tuple(builder.problems))
    document = Document(file, builder.root, builder.places) if builder.places.marks else None
    return Reading(document, tuple(builder.problems), ended_in)


_LONG = 70  # characters; a shorter list is as fast by itself
_ASIDE = "imgnorm.list."
_KEY = re.compile(r" *[A-Za-z_]\w*", re.ASCII)
_TOO_LONG = re.compile(f"[0-9]{{{MAX_DIGITS + 1}}}")


def _with_lists_apart(text: str, file: str, limits: Limits) -> _Builder | None:
    """What is read of a file with long lists of whole numbers, without an event for each number.

    A histogram is most of a stats file, and its events are most of the time to read it. A line
    `key: [1, 2, ...]` goes to the parser as `key: imgnorm.list.0`. Unless each of these comes back
    as a plain value, and nothing is wrong with the rest, this returns None, and the whole file is
    read event by event: only that way are faults found and told.
    """
    if _ASIDE in text:
        return None
    rest: list[str] = []  # the text around the lists
    lists: dict[str, str] = {}
    end = numbers = 0
    for found in _long_lists(_LONG).finditer(text):
        start = text.rfind("\n", end, found.start()) + 1 or end
        body = found[1]
        if _KEY.fullmatch(text, start, found.start()) and _are_whole_numbers(body):
            aside = f"{_ASIDE}{len(lists)}"
            lists[aside] = body
            numbers += body.count(",") + 1
            rest += text[end : found.start()], f": {aside}"
            end = found.end()
    if not lists or numbers > limits.max_numbers:
        return None
    builder = _Builder(file, limits, lists)
    try:
        for event in events_in("".join([*rest, text[end:]])):
            builder.take(event)
    except (_Stopped, *NOT_YAML):
        return None
    return None if builder.problems or builder.aside else builder


@cache
def _long_lists(least: int) -> re.Pattern[str]:
    """What may be the list of whole numbers that ends a line, with the colon before it."""
    return re.compile(rf": \[([0-9, ]{{{max(1, least)},}})\]$", re.MULTILINE)


def _are_whole_numbers(body: str) -> bool:
    """Digits with `, ` between them, of a text that has no other characters than these."""
    tight = body.replace(", ", ",")
    misplaced = " " in tight or ",," in tight or tight[0] == "," or tight[-1] == ","
    return not misplaced and not _TOO_LONG.search(tight)


def events_in(text: str | bytes) -> Iterator[Event]:
    """PyYAML's events, by its C parser where there is one.

    Raises:
        NOT_YAML: one of these, when the fault in the syntax is met.
    """
    return yaml.parse(text, _Loader)


def core_value(text: str) -> Any:
    """A plain scalar's value by YAML 1.2's core schema, for text from a document without fault."""
    return _Builder("", CONFIG_LIMITS)._resolved(text)


def open_at_once(file: str, flags: int) -> int:
    """Opens without waiting for the writer of a FIFO, and without taking over a terminal."""
    return os.open(file, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


class _Places:
    """Where every node stands: two flat arrays in the order of the file, 12 bytes per node.

    A mapping is followed by its first key, that by its value, then comes the second key …; a list
    by its items. Looking up a path steps from child to child; the steps within a large container
    are remembered.
    """

    def __init__(self) -> None:
        self.marks = array("Q")  # line << 32 | column, from 0
        self.spans = array("I")  # how many entries a node takes, with all that is in it
        self._children: dict[int, dict[str, int] | Sequence[int]] = {}

    def __getitem__(self, entry: int) -> tuple[int, int]:
        mark = self.marks[entry]
        return (mark >> 32) + 1, (mark & 0xFFFFFFFF) + 1

    def children(self, entry: int, value: object) -> dict[str, int] | Sequence[int]:
        """The entries of a mapping's keys, by key, or of a list's items."""
        if not isinstance(value, (dict, list)):
            return ()
        if isinstance(value, list) and self.spans[entry] == len(value) + 1:
            return range(entry + 1, entry + 1 + len(value))
        found = self._children.get(entry)
        if found is None:
            if isinstance(value, dict):
                found = dict(zip(value, self._steps(entry, keys=True), strict=True))
            else:
                found = array("I", self._steps(entry, keys=False))
            self._children[entry] = found
        return found

    def keep(self, entry: int, keys: dict[str, int]) -> None:
        """Of a mapping, these keys only: others stand there that are not among its values."""
        self._children[entry] = keys

    def _steps(self, entry: int, *, keys: bool) -> Iterator[int]:
        end = entry + self.spans[entry]
        child = entry + 1
        while child < end:
            yield child
            child += keys  # from a key to its value
            child += self.spans[child]


class _Stopped(Exception):
    """Nothing more is to be read; the last problem says why."""


@dataclass
class _Open:
    """A mapping or list whose end has not come yet."""

    entry: int
    value: dict[str, Any] | list[Any]
    is_key: bool  # a fault, but its end must be found
    key: str | None = None  # of a mapping: the key whose value comes next
    first: dict[str, int] = field(default_factory=dict)  # of a mapping: where each key stands
    drop: bool = False  # of a mapping: the value that comes next is not kept
    dropped: bool = False  # of a mapping: some were not


class _Builder:
    """Builds values and places from events, and collects what must not be there.

    After a problem the value is only good for naming the places of further ones.
    """

    def __init__(self, file: str, limits: Limits, aside: dict[str, str] | None = None) -> None:
        self.problems: list[Problem] = []
        self.aside = aside or {}  # lists that a plain scalar stands for, until it is met
        self._apart = 0  # numbers in those that were met
        self.places = _Places()
        self.root: Any = None
        self.documents = 0
        self.last = (0, 0)  # the place of the latest event
        self._file = file
        self.limits = limits
        self._stack: list[_Open] = []

    def report(
        self,
        mark: tuple[int, int],
        message: str,
        hint: str | None,
        rule: str,
        path: Path = (),
    ) -> None:
        line, column = mark[0] + 1, mark[1] + 1
        message = _led_by(path, message)
        self.problems.append(Problem(self._file, line, column, rule, message, hint))
        if len(self.problems) == MAX_PROBLEMS:
            self.stop(mark, "too many faults; the rest of the file was not read", None)

    def stop(self, mark: tuple[int, int], message: str, hint: str | None) -> typing.NoReturn:
        line, column = mark[0] + 1, mark[1] + 1
        self.problems.append(Problem(self._file, line, column, "limit", message, hint))
        raise _Stopped

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
            raise _Stopped
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
            message = f"{quoted(text)} has half of a surrogate pair"
            self._at_node(message, r"write the whole character, or \U and 8 digits", "syntax")
        if self._expects_key():
            self._key(text, plain=not event.style, entry=entry)
        elif event.style or event.tag is not None:
            self._attach(text)
        elif text in self.aside:
            self._attach(self._list(entry, self.aside.pop(text).split(", ")))
        else:
            self._attach(self._resolved(text))

    def _resolved(self, text: str) -> Any:
        """A plain scalar's value by the core schema (YAML 1.2.2, section 10.3.2)."""
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

    def _list(self, entry: int, numbers: list[str]) -> list[int]:
        """A list of whole numbers with its places, as its events would have given it."""
        marks, spans = self.places.marks, self.places.spans
        self._apart += len(numbers)
        if len(self._stack) == self.limits.max_depth:
            raise _Stopped
        first = marks[entry] + 1  # after the bracket; a column is the lower part of a mark
        steps = (len(number) + 2 for number in numbers[:-1])
        marks.extend(itertools.accumulate(steps, initial=first))
        spans[entry] += len(numbers)
        spans.extend(itertools.repeat(1, len(numbers)))
        return list(map(int, numbers))

    def _key(self, key: str, *, plain: bool, entry: int) -> None:
        mapping = self._stack[-1]
        mapping.key = key
        if plain and key == "<<":
            self._at_node("merge keys are not allowed", "write the merged keys out", "merge-key")
            mapping.drop = True
        elif key in mapping.first:
            mapping.drop = True
            line, _ = self.places[mapping.first[key]]
            self._at_node(f"given again (first on line {line})", "keep one", "duplicate-key")
        else:
            mapping.first[key] = entry

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
            self.stop(self.last, _led_by(self._path(), message), None)
        value: dict[str, Any] | list[Any] = {} if isinstance(event, MappingStartEvent) else []
        self._stack.append(_Open(entry, value, is_key))

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
        """A key that is no text, and its value, are passed over."""
        self._stack[-1].key = "?"
        self._stack[-1].drop = True

    def close(self) -> tuple[Path, ...]:
        """Ends what is open where reading ended; the paths of it."""
        steps = [len(o.value) if isinstance(o.value, list) else o.key for o in self._stack]
        ended_in = [tuple(s for s in steps[:i] if s is not None) for i in range(len(steps))]
        if self._stack:  # the latest value may have swallowed what comes next
            value, key = self._stack[-1].value, self._stack[-1].key
            latest = len(value) - 1 if isinstance(value, list) else key or next(reversed(value), 0)
            ended_in += [(*ended_in[-1], latest)] if value or key else []
        while self._stack:
            innermost = self._stack[-1]
            if innermost.key is not None:  # its value did not come
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
        """Notes the place of a node; returns its entry."""
        line, column = self._reach(event)
        marks = self.places.marks
        entry = len(marks)
        if entry - self._apart == self.limits.max_nodes:
            message = f"more than {self.limits.max_nodes:,} values in one file"
            self.stop(self.last, message, None)
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
        if event.tag not in (None, "!"):  # "!" alone says: text, whatever it looks like
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
        """The path of the node that is being read; of its mapping, if it is a key not yet known."""
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
# What YAML calls printable, and what its parsers refuse otherwise, but only the first time.
_UNPRINTABLE = re.compile(
    "([^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff])\\1*"
)
_TAG_DIRECTIVE = re.compile("(?:^|[\n\r\x85\u2028\u2029])%TAG")
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def _text_of(data: bytes, builder: _Builder) -> str:
    """The file's text, without byte order mark and with spaces for what must not be in it."""
    max_bytes = builder.limits.max_bytes
    if len(data) > max_bytes:
        builder.stop((0, 0), _too_large(builder.limits), None)
    wide = _wide_encoding(data)
    if wide:
        builder.report((0, 0), f"the file is in {wide}", "save it as UTF-8", "encoding")
        raise _Stopped
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        lines = _LINE_BREAK.split(data[: error.start].decode())
        mark = (len(lines) - 1, len(lines[-1]))
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        builder.report(mark, message, "save the file as UTF-8", "encoding")
        raise _Stopped from error
    # Tags are refused, so nobody needs these; libyaml takes quadratic time for them.
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
    """Where, what and what to do, the same for both of PyYAML's parsers where it can be."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return last, f"not valid YAML: {str(error).splitlines()[0]}", None
    at = error.problem_mark or error.context_mark
    mark = (at.line, at.column) if at else last
    said = error.problem or "not understood"
    character = text[at.index : at.index + 1] if at else ""
    if "cannot start any token" in said or "tab character" in said:
        if character == "\t":
            return mark, "a tab is not allowed here", "use spaces"
        return mark, f"a value cannot start with {quoted(character)}", "put the value in quotes"
    if "mapping values are not allowed" in said:
        hint = "align it with the keys it belongs to; text with ': ' in it needs quotes"
        return mark, "a key or ':' is not allowed here", hint
    message = f"not valid YAML: {said}"
    if error.context:
        message += f" {error.context}"
        if error.context_mark and error.context_mark.line != mark[0]:
            message += f" that starts on line {error.context_mark.line + 1}"
    return mark, message, None


def _led_by(path: Sequence[str | int], message: str) -> str:
    steps = (
        f"[{step}]"
        if isinstance(step, int)
        else f".{step if _NAME.fullmatch(step) else quoted(step)}"
        for step in path
    )
    dotted = "".join(steps).removeprefix(".")
    return f"{dotted}: {message}" if dotted else message


_NAME = re.compile(r"[\w?*<-]{1,60}")
