"""A document as a pydantic model, or every value that does not fit, in plain words and at its place."""

from __future__ import annotations

import itertools
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

from imgnorm.documents.document import MAX_PROBLEMS, Document, Path
from imgnorm.errors import InvalidDocument, Problem
from imgnorm.wording import cut, nearest, quoted

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    M = TypeVar("M", bound=BaseModel)

_LARGE = 1 << 20  # characters of JSON
_KINDS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "decimal_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "none_required": "nothing",
}
"""Types of pydantic's errors, and what was expected."""
_BOUNDS = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "at least {min_length} items",
    "too_long": "at most {max_length} items",
}
"""The same, of values that have the right type."""
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_OTHERWISE = ("wrong-value", None)  # rule and hint of what our validators raise, except a Fault


def validated(document: Document, model: type[M]) -> M:
    """The document as a model, strictly: text never becomes a number, and a number never text.

    Raises:
        InvalidDocument: with everything that does not fit the model, each at its place.
    """
    from pydantic import ValidationError

    # Through JSON: in strict mode, pydantic refuses a Python list where a model declares a tuple.
    # https://docs.pydantic.dev/latest/concepts/strict_mode/
    try:
        text = json.dumps(document.value)
        if len(text) > _LARGE:  # each of pydantic's faults holds a copy of the mapping around it
            model.model_validate_json(json.dumps(_outline(document.value)), strict=True)
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise InvalidDocument(_problems_of(details, document, model)) from error


class Fault(ValueError):
    """Raised by our validators where a fault has a rule of its own, or a hint."""

    def __init__(self, message: str, *, rule: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.rule = rule
        self.hint = hint


def as_yaml(value: object) -> str:
    """A value for a message: short, safe for a terminal, and spelled as in YAML."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else (".inf" if value > 0 else "-.inf")
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return cut(str(value))


def _outline(value: Any) -> Any:
    """The value without most of the counts in long lists, which are valid in every model."""
    if isinstance(value, dict):
        return {key: _outline(part) for key, part in value.items()}
    if isinstance(value, list) and len(value) > 10:
        counts = all(type(part) is int and part >= 0 for part in value)
        return value[:1] if counts else [_outline(part) for part in value]
    return value


@dataclass
class _Expected:
    """What was expected at a path; each member of a union adds its own."""

    kinds: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)  # as Python spells them: 'RGB', 3
    bounds: list[str] = field(default_factory=list)
    of_key: bool = False


def _problems_of(
    details: Sequence[ErrorDetails], document: Document, model: type[BaseModel]
) -> list[Problem]:
    problems: list[Problem] = []
    expected: dict[Path, _Expected] = {}
    missing: dict[Path, None] = {}
    suggested: set[Path] = set()
    deeper: set[Path] = set()  # everything above a fault
    for detail in details[:MAX_PROBLEMS]:
        kind, context = detail["type"], detail.get("ctx", {})
        path = _path_of(detail, document.value)
        deeper.update(path[:i] for i in range(len(path)))
        here = expected.setdefault(path, _Expected())
        here.of_key |= "[key]" in detail["loc"][-1:]
        if kind in _UNKNOWN:
            problem, suggestion = _unknown_key(detail, path, document, model)
            problems.append(problem)
            suggested.add(suggestion)
        elif kind in ("missing", "missing_argument"):
            missing[path] = None
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            tag = context["discriminator"].strip("'")
            if kind == "union_tag_invalid":
                path = (*path, tag) if _exists((*path, tag), document.value) else path
                expected.setdefault(path, _Expected()).choices += _choices(context["expected_tags"])
            elif tag.isidentifier():
                missing[(*path, tag)] = None
            else:
                here.kinds.append("one of the forms in the documentation")
        elif kind in ("literal_error", "enum"):
            here.choices += _choices(context["expected"])
        elif kind in _KINDS:
            here.kinds.append(_KINDS[kind])
        elif kind in _BOUNDS:
            here.bounds.append(_bound(kind, context))
        else:
            raised = context.get("error")
            rule, hint = (raised.rule, raised.hint) if isinstance(raised, Fault) else _OTHERWISE
            message = _own_words(detail)
            problems.append(document.problem(path, rule, message, hint, of_key=here.of_key))
    problems += _wrong(expected, deeper, document)
    problems += _missing([path for path in missing if path not in suggested], document)
    if len(details) > MAX_PROBLEMS:
        message = f"{len(details):,} faults, of which {MAX_PROBLEMS:,} are listed"
        problems.append(document.problem((), "limit", message))
    return problems


def _bound(kind: str, context: Mapping[str, Any]) -> str:
    whole = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in context.items()
    }
    return re.sub(r"\b1 (character|item)s", r"1 \1", _BOUNDS[kind].format_map(whole))


def _path_of(detail: ErrorDetails, value: object) -> Path:
    """Where pydantic's `loc` leads in the document.

    A `loc` also names members of unions and tags of discriminated unions, which may or may not be
    keys of the document. The longest path that exists, and can have the fault, is the right one.
    """
    *way, last = detail["loc"] or ("[key]",)
    paths: list[Path] = [()]
    for step in way:
        onward = [(*path, step) for path in paths if _exists((*path, step), value)]
        paths = onward + (paths if isinstance(step, str) else [])
    paths.sort(key=len, reverse=True)
    existing = [(*path, last) for path in paths if _exists((*path, last), value)]
    if detail["type"] in ("missing", "missing_argument"):
        holders = (list,) if isinstance(last, int) else (dict,)
        absent = ((*p, last) for p in paths if isinstance(_at(p, value), holders))
        return next((path for path in absent if path not in existing), (*paths[0], last))
    return (existing or paths)[0]


def _at(path: Path, value: Any) -> Any:
    for step in path:
        value = value[step]
    return value


def _exists(path: Path, value: Any) -> bool:
    for step in path:
        steps = (
            value
            if isinstance(value, dict)
            else range(len(value))
            if isinstance(value, list)
            else ()
        )
        if step not in steps:
            return False
        value = value[step]
    return True


def _unknown_key(
    detail: ErrorDetails, path: Path, document: Document, model: type[BaseModel]
) -> tuple[Problem, Path]:
    """The problem, and the path of the key that the user probably meant."""
    key, parent = str(path[-1]), path[:-1]
    given = _at(parent, document.value)
    free = [name for name in _keys_at(model, detail["loc"][:-1]) if name not in given]
    meant = next(iter(nearest(key, free)), None)
    hint = f"did you mean '{meant}'?" if meant else None
    problem = document.problem(path, "unknown-key", "unknown key", hint, of_key=True)
    return problem, (*parent, meant) if meant else path


def _keys_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The names of the fields of every model at which `loc` can point."""
    kinds = _members(model)
    for step in loc:
        below = [inner for kind in kinds for inner in _members_below(kind, step)]
        tagged = [kind for kind in kinds if _tagged(kind, step)]
        # A step may be both a tag and a field's name.
        outer = tagged or kinds if len(kinds) > 1 else []
        kinds = below + outer or kinds
    return [name for kind in kinds for name in _fields(kind)]


def _members(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, without Annotated, Optional, aliases and root models."""
    found, waiting = [], [annotation]
    while waiting:
        kind = waiting.pop()
        origin = get_origin(kind)
        if origin is typing.Annotated:
            waiting.append(get_args(kind)[0])
        elif origin in (Union, types.UnionType):
            waiting.extend(get_args(kind))
        elif hasattr(kind, "__value__"):
            waiting.append(kind.__value__)
        elif getattr(kind, "__pydantic_root_model__", False):
            waiting.append(kind.model_fields["root"].annotation)
        else:
            found.append(kind)
    return found


def _members_below(kind: Any, step: str | int) -> list[Any]:
    if isinstance(step, str) and step in _fields(kind):
        return _members(_fields(kind)[step])
    arguments = [argument for argument in get_args(kind) if argument is not Ellipsis]
    origin = get_origin(kind)
    if not isinstance(origin, type):
        return []
    if issubclass(origin, Mapping):
        return _members(arguments[1]) if isinstance(step, str) else []
    if issubclass(origin, Iterable) and isinstance(step, int):
        return [member for argument in arguments for member in _members(argument)]
    return []


def _fields(kind: Any) -> dict[str, Any]:
    fields = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "model_fields", {})
    return {info.alias or name: info.annotation for name, info in fields.items()}


def _tagged(kind: Any, step: str | int) -> bool:
    literals = (a for a in _fields(kind).values() if get_origin(a) is Literal)
    return getattr(kind, "__name__", None) == step or any(step in get_args(a) for a in literals)


def _wrong(
    expected: Mapping[Path, _Expected], deeper: set[Path], document: Document
) -> Iterator[Problem]:
    for path, here in expected.items():
        # The union's member that fits furthest down is the one that the user meant.
        kinds = [] if path in deeper else list(dict.fromkeys(here.kinds))
        choices = list(dict.fromkeys(here.choices))
        if len(choices) > 1:
            kinds.append("one of " + ", ".join(choices))
        else:
            kinds += choices
        what = " or ".join(kinds) or " and ".join(dict.fromkeys(here.bounds))
        if not what:
            continue
        value: Any = path[-1] if here.of_key and path else _at(path, document.value)
        sized = " item" in what and isinstance(value, list)
        got = str(len(value)) if sized else as_yaml(value)
        if isinstance(value, str) and not any(choice.startswith("'") for choice in choices):
            got += " (text)"
        rule = "wrong-type" if here.kinds and not here.choices else "wrong-value"
        hint = _meant(value, choices)
        yield document.problem(path, rule, f"expected {what}; got {got}", hint, of_key=here.of_key)


def _meant(value: object, choices: Sequence[str]) -> str | None:
    near = nearest(f"'{value}'", choices, cutoff=0.7) if isinstance(value, str) else []
    return f"did you mean {near[0]}?" if near else None


def _choices(listed: str) -> list[str]:
    """The choices in pydantic's list of what it expected: `'a', 'b' or 3`."""
    return re.findall(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\b(?!or\b)[^\s,'"]+""", listed)


def _own_words(detail: ErrorDetails) -> str:
    """The message of our own validator; of other validators, pydantic's message in our style."""
    raised = detail.get("ctx", {}).get("error")
    if isinstance(raised, Exception):
        return str(raised)
    message = detail["msg"].replace("Input should be ", "expected ")
    return message[:1].lower() + message[1:]


def _missing(paths: Sequence[Path], document: Document) -> Iterator[Problem]:
    for parent, group in itertools.groupby(paths, key=lambda path: path[:-1]):
        lacking = list(group)
        last = lacking[-1][-1]  # an index, where a list is too short
        if isinstance(last, int):
            got = len(_at(parent, document.value))
            message = f"expected {last + 1} items; got {got}"
            yield document.problem(parent, "wrong-value", message)
        else:
            for path in lacking:
                yield document.problem(path, "missing-key", "missing key")
