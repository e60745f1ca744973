"""The rule about plain scalars that readers of YAML 1.1, such as PyYAML's `safe_load`, read otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from imgnorm.documents.reader import core_value, events_in
from imgnorm.documents.writer import yaml_scalar
from imgnorm.errors import Problem, Rule
from imgnorm.wording import cut

OTHER_READERS = Rule(
    "other-readers",
    "scalars that every YAML reader reads alike",
    "imgnorm reads scalars by YAML 1.2, in which 1e-3 is a number, and `no`, 010 and 1:30 are text or "
    "decimal. Readers of YAML 1.1, such as yaml.safe_load, see something else. Nothing is wrong as long "
    "as imgnorm alone reads the file. Files of more than 1 MiB are not checked, since people do not write "
    "them by hand.",
    "- RandomErasing: {p: 1e-1}",
    "- RandomErasing: {p: 0.1}",
    severity="info",
)
RULES = (OTHER_READERS,)

# Matches what may be such a scalar. Most files have none, and are not parsed again.
_CANDIDATE = r"""(?<![\w.])(?:
        (?:[yY][eE][sS] | [nN][oO] | [oO][nN] | [oO][fF][fF])(?!\w)          # booleans
        | [-+]?\.?\d[\d_.]*[eE] | [-+]?0[0-9oObBxX_] | [-+]?\d[\d_]*[_:]\d    # numbers
        | \d{4}-\d | = | [-+]?\.[\d_]
    )"""
_IN_BYTES = re.compile(_CANDIDATE.encode(), re.VERBOSE)
_IN_TEXT = re.compile(_CANDIDATE, re.VERBOSE | re.ASCII)
_KINDS: dict[str, str] = {
    "tag:yaml.org,2002:bool": "a boolean",
    "tag:yaml.org,2002:int": "a whole number",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:null": "null",
    "tag:yaml.org,2002:timestamp": "a date",
    "tag:yaml.org,2002:merge": "a merge key",
    "tag:yaml.org,2002:value": "a value key",
    "tag:yaml.org,2002:str": "text",
}


def portability_problems(data: bytes, file: str) -> Iterator[Problem]:
    """Where readers of YAML 1.1 read something else, in a file that was parsed without a fault."""
    if not _IN_BYTES.search(data):
        return
    for event in events_in(data):
        if not isinstance(event, yaml.ScalarEvent) or event.style or event.tag:
            continue
        text = event.value
        if not _IN_TEXT.search(text):
            continue
        ours, theirs = core_value(text), _yaml_1_1(text)
        if repr(ours) == repr(theirs):  # by repr, since a NaN is not equal to itself
            continue
        mark = event.start_mark
        assert mark is not None
        seen = theirs if isinstance(theirs, str) else str(theirs).lower()
        kind = "text" if isinstance(ours, str) else "a number"
        message = f"{cut(text)} is {kind}; readers of YAML 1.1 see {seen}"
        hint = f'write "{cut(text)}"' if isinstance(ours, str) else f"write {yaml_scalar(ours)}"
        yield Problem(file, mark.line + 1, mark.column + 1, OTHER_READERS.id, message, hint, "info")


def _yaml_1_1(text: str) -> Any:
    """The value that YAML 1.1 gives, or the name of its type where that is not built here."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], [])
    tag = next((tag for tag, pattern in resolvers if pattern.match(text)), None)
    if tag is None:
        return text if isinstance(core_value(text), str) else "text"
    if tag not in _BUILT or len(text) > 60:  # a long base-60 number takes quadratic time
        return _KINDS.get(tag, "something else")
    return yaml.SafeLoader.yaml_constructors[tag](_CONSTRUCTOR, yaml.ScalarNode(tag, text))


_BUILT = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null")}
_CONSTRUCTOR = yaml.SafeLoader("")
