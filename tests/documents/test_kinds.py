"""Documents and the kinds of their values: what does not fit is reported in plain words, at its place."""

from __future__ import annotations

import json
from types import SimpleNamespace

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsing import JSON, parse

from imgnorm.documents.document import DocumentLimits
from imgnorm.documents.kinds import (
    Choice,
    Either,
    Key,
    ListOf,
    MapOf,
    Number,
    Record,
    Tagged,
    Text,
    Whole,
    check,
)
from imgnorm.errors import InvalidDocument


def probability(value: float) -> str | None:
    return None if 0 <= value <= 1 else f"expected a probability; got {value}"


IMAGE = Record(
    Key("mode", Choice("auto", "L", "RGB"), default="auto"),
    Key("resize", Either(Whole(), ListOf(Whole(1), 2, 2)), default=None),
    Key("mean", ListOf(Number(), 3, 3), default=(0.5, 0.5, 0.5)),
    Key("names", MapOf(Text("^[a-z]+$")), default={}),
    Key("scale", Whole(1, 65535), default=1),
    Key("level", Choice("low", also="^[0-9]+$"), default="low"),
)
CROP = Record(Key("kind", Choice("crop")), Key("height", Whole()), Key("width", Whole()))
FLIP = Record(Key("kind", Choice("flip")), Key("chance", Number().that(probability), default=0.5))
CONFIG = Record(
    Key("format", Text()),
    Key("image", IMAGE, default=None),
    Key("augment", ListOf(Tagged("kind", {"crop": CROP, "flip": FLIP})), default=()),
)


def faults_in(text: str) -> str:
    with pytest.raises(InvalidDocument) as caught:
        check(parse(text), CONFIG)
    return str(caught.value)


def read(text: str) -> SimpleNamespace:
    document = parse(text)
    check(document, CONFIG)
    found: SimpleNamespace = CONFIG.read(document.value)
    return found


def test_a_document_that_fits_is_read():
    found = read("format: x\nimage: {mode: L, mean: [0, .5, 1e-3], resize: [3, 4], level: '17'}\n")

    assert ("x", ()) == (found.format, found.augment)
    assert ("L", (0.0, 0.5, 0.001), (3, 4)) == (
        found.image.mode,
        found.image.mean,
        found.image.resize,
    )
    assert (1, "17") == (found.image.scale, found.image.level)


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_reading_and_writing_keep_every_digit(number):
    kind = ListOf(Number())

    assert repr([number]) == repr(kind.plain(kind.read([number])))


def test_what_is_read_and_written_again_is_the_same():
    text = "format: x\nimage: {mode: L, resize: [3, 4], names: {a: b}}\n"

    written = CONFIG.plain(read(text))

    assert {"mode": "L", "resize": [3, 4], "names": {"a": "b"}}.items() <= written["image"].items()
    assert CONFIG.plain(CONFIG.read(written)) == written


def test_every_fault_of_the_model_is_told_in_line_order():
    assert (
        "f.yaml:1:1: format: missing key\n"
        "f.yaml:2:3: image.resise: unknown key\n"
        "    did you mean 'resize'?\n"
        "f.yaml:3:9: image.mode: expected one of 'auto', 'L', 'RGB'; got 'rgb'\n"
        "    did you mean 'RGB'?\n"
        "f.yaml:4:13: image.mean[1]: expected a number; got 'abc' (text)\n"
        "f.yaml:5:10: image.scale: expected at least 1; got 0\n"
        "f.yaml:6:1: extra: unknown key"
    ) == faults_in(
        "image:\n  resise: 3\n  mode: rgb\n  mean: [0, abc, 1]\n  scale: 0\nextra: 1\n"
    )  # fmt: skip


WRONG = [
    ("image: {resize: a}", "1:17: image.resize: expected a whole number or a list; got 'a' (text)"),
    ("image: {resize: 1.5}", "1:17: image.resize: expected a whole number or a list; got 1.5"),
    ("image: {resize: true}", "1:17: image.resize: expected a whole number or a list; got true"),
    ("image: {resize: [1, 0]}", "1:21: image.resize[1]: expected at least 1; got 0"),
    ("image: [1]", "1:8: image: expected a mapping; got a list"),
    ("image: {mode: ~}", "1:15: image.mode: expected one of 'auto', 'L', 'RGB'; got nothing"),
    ("image: {names: {a: 1}}", "1:20: image.names.a: expected text; got 1"),
    (
        "image: {names: {a b: A}}",
        "1:22: image.names.'a b': expected text that matches ^[a-z]+$; got 'A' (text)",
    ),
    ("image: {mean: 1}", "1:15: image.mean: expected a list; got 1"),
    ("image: {mean: [1]}", "1:15: image.mean: expected at least 3 items; got 1"),
    ("image: {mean: [1, 2, 3, 4]}", "1:15: image.mean: expected at most 3 items; got 4"),
    ("image: {mean: [1, .inf, 3]}", "1:19: image.mean[1]: expected a finite number; got .inf"),
    (
        f"image: {{mean: [1, 2, 1{'0' * 400}]}}",
        "1:22: image.mean[2]: expected a finite number; got .inf",
    ),
    ("image: {scale: 70000}", "1:16: image.scale: expected at most 65535; got 70000"),
    ("image: {scale: 1.0}", "1:16: image.scale: expected a whole number; got 1.0"),
    ("image: {level: lo}", "1:16: image.level: expected 'low'; got 'lo'\n    did you mean 'low'?"),
    ("augment: [{kind: crop, width: 1}]", "1:11: augment[0].height: missing key"),
    (
        "augment: [{kind: crop, width: 1, heigth: 1}]",
        "1:34: augment[0].heigth: unknown key\n    did you mean 'height'?",
    ),
    (
        "augment: [{kind: flop}]",
        "1:18: augment[0].kind: expected one of 'crop', 'flip'; got 'flop'\n    did you mean 'flip'?",
    ),
    ("augment: [{}]", "1:11: augment[0].kind: missing key"),
    ("augment: [{kind: []}]", "1:18: augment[0].kind: expected one of 'crop', 'flip'; got a list"),
    (
        "augment: [{kind: flip, chance: 2}]",
        "1:32: augment[0].chance: expected a probability; got 2.0",
    ),
]


def test_what_does_not_fit_is_told_in_plain_words():
    for text, fault in WRONG:
        line, rest = fault.split(":", 1)

        assert f"f.yaml:{int(line) + 1}:{rest}" == faults_in(f"format: x\n{text}\n")


def test_a_value_that_is_no_mapping_is_told_once():
    assert "f.yaml:1:1: expected a mapping; got a list" == faults_in("[1]")
    assert "f.yaml:1:1: expected a mapping; got 'abc' (text)" == faults_in("abc")
    assert "f.yaml:1:1: expected a mapping; got nothing" == faults_in("~")


def test_faults_of_the_model_that_are_not_told_are_counted():
    names = ", ".join(f"n{i}: 1" for i in range(1003))
    with pytest.raises(InvalidDocument) as caught:
        check(parse(f"format: x\nimage: {{names: {{{names}}}}}"), CONFIG)
    lines = str(caught.value).splitlines()

    assert "f.yaml:1:1: more than 1,000 faults, the rest is not listed" == lines[0]
    assert (1001, 20) == (len(caught.value.problems), len(lines))
    assert "and more: 1,001 problems in all" == lines[-1]


def test_a_key_that_is_misspelt_is_not_missing_too():
    assert "f.yaml:1:1: formt: unknown key\n    did you mean 'format'?" == faults_in("formt: x")


def test_faults_carry_their_rule():
    text = "image: {resise: 1, mode: 1, scale: x, mean: []}\n"
    with pytest.raises(InvalidDocument) as caught:
        check(parse(text), CONFIG)

    assert ["missing-key", "unknown-key", "wrong-value", "wrong-type", "wrong-value"] == [
        problem.rule for problem in caught.value.problems
    ]


@given(value=JSON)
@settings(deadline=None)
def test_no_value_makes_checking_fail_in_another_way(value):
    wrapped = {"format": value, "image": value, "augment": [value]}
    for text in (json.dumps(value), json.dumps(wrapped)):
        document = parse(text, DocumentLimits(1 << 20, 20_000, 100))
        try:
            check(document, CONFIG)
        except InvalidDocument:
            continue
        CONFIG.read(document.value)


def test_schemas_accept_what_is_accepted():
    schema = jsonschema.Draft202012Validator(CONFIG.schema())

    assert schema.is_valid({"format": "x", "image": None, "augment": [{"kind": "flip"}]})
    assert not schema.is_valid({"format": "x", "augment": [{"kind": "flop"}]})
    assert not schema.is_valid({"format": "x", "image": {"mean": [1, 2]}})
    assert not schema.is_valid({"format": "x", "image": {"scale": 0}})
    assert not schema.is_valid({"format": "x", "images": {}})
