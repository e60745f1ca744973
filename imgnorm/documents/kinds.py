"""What a value in a document can be: a `ValueKind` checks a value, reads and writes it, and has its JSON Schema.

A format is a `Record` of keys, declared once: what `faults` reports, what `read` makes of a document without
faults, what `plain` makes of that again, and what `imgnorm schema` prints all follow from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, TypeVar

from imgnorm.documents.document import MAX_PROBLEMS, Document, Path
from imgnorm.errors import InvalidDocument
from imgnorm.wording import cut, nearest, plural

REQUIRED: Any = object()
"""The default of a key that must be given."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a value, or with its key."""

    message: str
    rule: str = "wrong-value"
    hint: str | None = None
    path: Path = ()
    of_key: bool = False


Check = Callable[[Any], "str | Fault | None"]
"""Looks at a value that has the right type; returns what else is wrong with it."""

_K = TypeVar("_K", bound="ValueKind")


def parsed_by(parse: Callable[[Any], object]) -> Check:
    """The check of what `parse` takes: what is wrong is its ValueError."""

    def check(value: Any) -> str | None:
        try:
            parse(value)
        except ValueError as error:
            return str(error)
        return None

    return check


def check(document: Document, kind: ValueKind) -> None:
    """
    Raises:
        InvalidDocument: with everything in the document that is not of this kind, each at its place.
    """
    faults = list(islice(kind.faults(document.value), MAX_PROBLEMS + 1))
    if len(faults) > MAX_PROBLEMS:
        faults[-1] = Fault(f"more than {MAX_PROBLEMS:,} faults, the rest is not listed", "limit")
    if faults:
        raise InvalidDocument(
            [document.problem(f.path, f.rule, f.message, f.hint, of_key=f.of_key) for f in faults]
        )


def as_yaml(value: object) -> str:
    """A value for a message: short, safe for a terminal, and spelled as in YAML."""
    if isinstance(value, str):
        return repr(cut(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else (".inf" if value > 0 else "-.inf")
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return cut(str(value))


class ValueKind:
    """Any value. The other kinds override what they know better."""

    expected = "a value"
    types: tuple[type, ...] = ()  # of a value that fits; () for any
    json: Mapping[str, Any] = {}
    _check: Check | None = None

    def that(self: _K, check: Check) -> _K:
        """The same kind, with one more check."""
        kind = copy(self)
        kind._check = check
        return kind

    def faults(self, value: Any, path: Path = ()) -> Iterator[Fault]:
        """What is wrong with a value of a document, and with all inside it."""
        if not self.fits(value):
            yield self._unfit(value, path)
            return
        bound = self._bound(value)
        if bound:
            got = str(len(value)) if isinstance(value, list) else _got(value, bound)
            yield Fault(f"expected {bound}; got {got}", path=path)
            return
        sound = True
        for fault in self._inner_faults(value, path):
            sound = False
            yield fault
        found = self._check(value) if sound and self._check else None
        if found:
            yield replace(found if isinstance(found, Fault) else Fault(found), path=path)

    def fits(self, value: Any) -> bool:
        """Whether a value has the right type."""
        return not self.types or type(value) in self.types

    def inside(self, key: str | None) -> ValueKind | None:
        """The kind of a key's value, or of a list's items (key None); None if such a value has none."""
        return None

    def read(self, value: Any) -> Any:
        """What a value of a document without faults means."""
        return value

    def plain(self, value: Any) -> Any:
        """The value of a document that means this: `read`, backwards."""
        return value

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of a value. It does not know everything that `faults` does."""
        return dict(self.json)

    def _unfit(self, value: Any, path: Path) -> Fault:
        message = f"expected {self.expected}; got {_got(value, self.expected)}"
        return Fault(message, "wrong-type", path=path)

    def _bound(self, value: Any) -> str | None:
        """What was expected of a value that has the right type, if it is not so."""
        return None

    def _inner_faults(self, value: Any, path: Path) -> Iterator[Fault]:
        return iter(())


class Text(ValueKind):
    expected, types = "text", (str,)

    def __init__(self, pattern: str | None = None) -> None:
        self._pattern = pattern and re.compile(pattern)
        self.json = {"type": "string", **({"pattern": pattern} if pattern else {})}

    def _bound(self, value: Any) -> str | None:
        if not self._pattern or self._pattern.search(value):
            return None
        return f"text that matches {self._pattern.pattern}"


class Whole(ValueKind):
    """A whole number from `least` to `most`."""

    expected, types = "a whole number", (int,)

    def __init__(self, least: int | None = None, most: int | None = None) -> None:
        self._least, self._most = least, most
        bounds = {"minimum": least, "maximum": most}
        self.json = {"type": "integer"} | {k: v for k, v in bounds.items() if v is not None}

    def _bound(self, value: Any) -> str | None:
        if self._least is not None and value < self._least:
            return f"at least {self._least}"
        if self._most is not None and value > self._most:
            return f"at most {self._most}"
        return None

    def sound(self, values: list[Any]) -> bool:
        """Whether all of them are such numbers; a histogram has up to 65,536 a channel."""
        return (
            set(map(type, values)) <= {int}
            and (self._least is None or min(values, default=self._least) >= self._least)
            and self._most is None
        )


class Number(ValueKind):
    """A number; with `finite`, neither infinite nor NaN."""

    expected, types = "a number", (float, int)

    def __init__(self, *, finite: bool = True) -> None:
        self._finite = finite
        self.json = {"type": "number"}

    def faults(self, value: Any, path: Path = ()) -> Iterator[Fault]:
        if type(value) is int:
            value = self.read(value)
        if self._finite and type(value) is float and not math.isfinite(value):
            yield Fault(f"expected a finite number; got {as_yaml(value)}", "wrong-type", path=path)
        else:
            yield from super().faults(value, path)

    def read(self, value: Any) -> float:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf

    def plain(self, value: Any) -> float:
        if not math.isfinite(value):
            raise ValueError(f"a file cannot hold NaN or Inf: {value}")
        return float(value)


class Choice(ValueKind):
    """One of these values; or, unless `also` is None, text that matches it."""

    def __init__(self, *values: str | int, also: str | None = None) -> None:
        self.values = values
        self._spelled = [repr(v) if isinstance(v, str) else as_yaml(v) for v in values]
        listed = ", ".join(self._spelled)
        self.expected = f"one of {listed}" if len(values) > 1 else listed
        self._also = also and re.compile(also)
        self.json = {"enum": list(values)} if len(values) > 1 else {"const": values[0]}
        if also:
            self.json = {"anyOf": [self.json, {"type": "string", "pattern": also}]}

    def fits(self, value: Any) -> bool:
        if self._also and isinstance(value, str) and self._also.search(value):
            return True
        return any(type(value) is type(one) and value == one for one in self.values)

    def _unfit(self, value: Any, path: Path) -> Fault:
        near = nearest(f"'{value}'", self._spelled, cutoff=0.7) if isinstance(value, str) else []
        hint = f"did you mean {near[0]}?" if near else None
        return replace(super()._unfit(value, path), rule="wrong-value", hint=hint)


class ListOf(ValueKind):
    """A list of `least` to `most` values; a tuple in Python."""

    expected, types = "a list", (list,)

    def __init__(self, item: ValueKind, least: int = 0, most: int | None = None) -> None:
        self._item, self._least, self._most = item, least, most

    def inside(self, key: str | None) -> ValueKind | None:
        return self._item if key is None else None

    def read(self, value: Any) -> Any:
        return tuple(map(self._item.read, value))

    def plain(self, value: Any) -> Any:
        return list(map(self._item.plain, value))

    def schema(self) -> dict[str, Any]:
        bounds = {"minItems": self._least or None, "maxItems": self._most}
        given = {key: bound for key, bound in bounds.items() if bound is not None}
        return {"type": "array", "items": self._item.schema(), **given}

    def _bound(self, value: Any) -> str | None:
        if len(value) < self._least:
            return f"at least {plural(self._least, 'item')}"
        if self._most is not None and len(value) > self._most:
            return f"at most {plural(self._most, 'item')}"
        return None

    def _inner_faults(self, value: Any, path: Path) -> Iterator[Fault]:
        if isinstance(self._item, Whole) and self._item.sound(value):
            return
        for index, one in enumerate(value):
            yield from self._item.faults(one, (*path, index))


class MapOf(ValueKind):
    """A mapping of any keys; written in the order of its keys, if not `as_is`."""

    expected, types = "a mapping", (dict,)

    def __init__(self, value: ValueKind, *, as_is: bool = False) -> None:
        self._value, self._as_is = value, as_is

    def inside(self, key: str | None) -> ValueKind | None:
        return None if key is None else self._value

    def read(self, value: Any) -> Any:
        return {key: self._value.read(one) for key, one in value.items()}

    def plain(self, value: Any) -> Any:
        items = value.items() if self._as_is else sorted(value.items())
        return {key: self._value.plain(one) for key, one in items}

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self._value.schema()}

    def _inner_faults(self, value: Any, path: Path) -> Iterator[Fault]:
        for key, one in value.items():
            yield from self._value.faults(one, (*path, key))


class Key:
    """A key of a record.

    Args:
        get: what the key holds, from the object that the record is written from; None leaves the key
            out. The default is the attribute of that name.
        default: what is read where the key is left out, or null if this is None.
        follows: its value follows from others, and is not read.
        about: what it means, for editors.
    """

    def __init__(
        self,
        name: str,
        kind: ValueKind,
        get: Callable[[Any], Any] | None = None,
        *,
        default: Any = REQUIRED,
        follows: bool = False,
        about: str | None = None,
    ) -> None:
        self.name, self.kind, self.get = name, kind, get or attrgetter(name)
        self.default, self.follows, self.about = default, follows, about

    def schema(self) -> dict[str, Any]:
        schema = self.kind.schema()
        if self.default is None:
            schema = {"anyOf": [schema, {"type": "null"}]}
        elif isinstance(self.default, (str, int)):
            schema["default"] = self.default
        return {**schema, "description": self.about} if self.about else schema


class Record(ValueKind):
    """A mapping of known keys.

    Args:
        make: called with the values of all keys that do not follow from others, by name.
    """

    expected, types = "a mapping", (dict,)

    def __init__(self, *keys: Key, make: Callable[..., Any] = SimpleNamespace) -> None:
        self.keys = {key.name: key for key in keys}
        self._make = make

    def inside(self, key: str | None) -> ValueKind | None:
        return self.keys[key].kind if key in self.keys else None

    def read(self, value: Any) -> Any:
        values = {}
        for name, key in self.keys.items():
            if not key.follows:
                one = value.get(name, key.default)
                values[name] = one if one is key.default else key.kind.read(one)
        return self._make(**values)

    def plain(self, value: Any) -> Any:
        written = {}
        for name, key in self.keys.items():
            one = key.get(value)
            if one is not None:
                written[name] = key.kind.plain(one)
        return written

    def schema(self) -> dict[str, Any]:
        required = [name for name, key in self.keys.items() if key.default is REQUIRED]
        return {
            "type": "object",
            "properties": {name: key.schema() for name, key in self.keys.items()},
            "additionalProperties": False,
            **({"required": required} if required else {}),
        }

    def _inner_faults(self, value: Any, path: Path) -> Iterator[Fault]:
        absent = [name for name in self.keys if name not in value]
        meant: set[str] = set()
        for name, one in value.items():
            key = self.keys.get(name)
            if key is None:
                near = nearest(name, absent)
                meant.update(near)
                hint = f"did you mean '{near[0]}'?" if near else None
                yield Fault("unknown key", "unknown-key", hint, (*path, name), of_key=True)
            elif one is not None or key.default is not None:
                yield from key.kind.faults(one, (*path, name))
        for name in absent:
            if self.keys[name].default is REQUIRED and name not in meant:
                yield Fault("missing key", "missing-key", path=(*path, name))


class Either(ValueKind):
    """A value of one of these kinds, which differ in type."""

    def __init__(self, *kinds: ValueKind) -> None:
        self._kinds = kinds
        self.expected = " or ".join(kind.expected for kind in kinds)

    def fits(self, value: Any) -> bool:
        return any(kind.fits(value) for kind in self._kinds)

    def inside(self, key: str | None) -> ValueKind | None:
        return next(filter(None, (kind.inside(key) for kind in self._kinds)), None)

    def read(self, value: Any) -> Any:
        return self._like(value).read(value)

    def plain(self, value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [kind.schema() for kind in self._kinds]}

    def _inner_faults(self, value: Any, path: Path) -> Iterator[Fault]:
        return self._like(value).faults(value, path)

    def _like(self, value: Any) -> ValueKind:
        return next(kind for kind in self._kinds if kind.fits(value))


class Tagged(ValueKind):
    """A mapping in which the value of `key` says which record it is; `otherwise` if it names none."""

    expected, types = "a mapping", (dict,)

    def __init__(
        self, key: str, records: Mapping[str, Record], otherwise: Record | None = None
    ) -> None:
        self._key, self._records, self._otherwise = key, records, otherwise

    def inside(self, key: str | None) -> ValueKind | None:
        found = (record.inside(key) for record in self._all())
        return next(filter(None, found), None)

    def read(self, value: Any) -> Any:
        record = self._of(value)
        assert record
        return record.read(value)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [record.schema() for record in self._all()]}

    def _inner_faults(self, value: Any, path: Path) -> Iterator[Fault]:
        record = self._of(value)
        if record:
            yield from record.faults(value, path)
        elif self._key in value:
            yield from Choice(*self._records).faults(value[self._key], (*path, self._key))
        else:
            yield Fault("missing key", "missing-key", path=(*path, self._key))

    def _of(self, value: Any) -> Record | None:
        tag = value.get(self._key)
        return self._records.get(tag, self._otherwise) if isinstance(tag, str) else self._otherwise

    def _all(self) -> Sequence[Record]:
        return [*self._records.values(), *([self._otherwise] if self._otherwise else [])]


def _got(value: Any, expected: str) -> str:
    """A value in a message; text says that it is text, if nothing shows that text was expected."""
    text = isinstance(value, str) and "'" not in expected
    return as_yaml(value) + " (text)" * text
