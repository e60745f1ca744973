"""YAML as PyYAML writes it, which is the reference here."""

from __future__ import annotations

import math
import re

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from yaml.events import NodeEvent

from imgnorm.documents.writer import TextLines, values_in, yaml_of


class Reference(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def represent_text(dumper: Reference, text: str) -> yaml.ScalarNode:
    plain = re.fullmatch(r"(?![yYnN]$)[A-Za-z_/][\w./, -]*", text, re.ASCII)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


Reference.add_representer(str, represent_text)
TEXTS = st.one_of(
    st.text(max_size=10),
    st.text("abyn ,._/-:#'\"\\\n\t\x85\u2028\ufeff\U0001f600\x07~", max_size=8),
    st.sampled_from(["true", "No", "OFF", "null", "y", "a, b", "no ", "", "x" * 122]),
)
SCALARS = st.one_of(
    TEXTS, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=20,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=3), st.sampled_from(["x" * 123, "a\nb", "key"]))
@settings(deadline=None)
def test_the_bytes_are_those_of_pyyaml(content, key):
    content = {"first": [1, [2]], **content, key: [content]}

    assert yaml.dump(
        content,
        Dumper=Reference,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=math.inf,
    ) == yaml_of(content)


@given(VALUES)
def test_values_are_counted_as_the_reader_counts_them(value):
    events = yaml.parse(yaml_of({"a": value}))

    assert values_in({"a": value}) == sum(isinstance(event, NodeEvent) for event in events)


def test_a_key_that_is_too_long_for_one_line_is_read_back():
    content = {"outer": [{"x" * 2000: 1}], "\N{PILE OF POO}" * 300: {"inner": "text"}}

    assert content == yaml.safe_load(yaml_of(content))


def test_lines_stay_lines():
    text = yaml_of({"names": [TextLines("a\nb: c\n#d"), TextLines("e")]})

    assert "names:\n- |-\n  a\n  b: c\n  #d\n- |-\n  e\n" == text
    assert {"names": ["a\nb: c\n#d", "e"]} == yaml.safe_load(text)
