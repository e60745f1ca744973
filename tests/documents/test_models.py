"""Documents as models: what does not fit is reported in plain words, at its place."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parsing import JSON, parse
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

from imgnorm.documents.document import DocumentLimits
from imgnorm.documents.models import validated
from imgnorm.errors import InvalidDocument, Problem


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(Strict):
    mode: Literal["auto", "L", "RGB"] = "auto"
    resize: int | Literal["none"] | None = None
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    names: dict[str, bool] = {}
    scale: float = Field(default=1, gt=0, le=65535, allow_inf_nan=False)
    text: str = Field(default="x", min_length=1)


class Crop(Strict):
    kind: Literal["crop"]
    height: int
    width: int


class Flip(Strict):
    kind: Literal["flip"]
    chance: float = 0.5

    @field_validator("chance")
    @classmethod
    def _is_a_probability(cls, chance: float) -> float:
        if not 0 <= chance <= 1:
            raise ValueError(f"expected a probability; got {chance}")
        return chance


class Resize(Strict):
    resize: int
    antialias: bool = True


class Pad(Strict):
    pad: int | Crop


def key_of(step: object) -> str | None:
    """The tag of a step that a config writes as `{resize: 32}`."""
    known = (key for key in ("resize", "pad") if isinstance(step, dict) and key in step)
    return next(known, None)


Step = Annotated[
    Annotated[Resize, Tag("resize")] | Annotated[Pad, Tag("pad")], Discriminator(key_of)
]


class Config(Strict):
    format: str
    image: Image = Image()
    augment: list[Annotated[Crop | Flip, Field(discriminator="kind")]] = []
    steps: tuple[Step, ...] = ()


def faults_in(text: str) -> str:
    with pytest.raises(InvalidDocument) as caught:
        validated(parse(text), Config)
    return str(caught.value)


def test_a_document_that_fits_becomes_the_model():
    text = "format: x\nimage: {mode: L, mean: [0, .5, 1e-3], scale: 255}\nsteps: [resize: 32]\n"

    read = validated(parse(text), Config)

    assert "x" == read.format
    assert Image(mode="L", mean=(0, 0.5, 1e-3), scale=255) == read.image
    assert (Resize(resize=32),) == read.steps


@given(number=st.floats())
def test_validating_keeps_every_digit(number):
    class Numbers(BaseModel):
        numbers: list[float]

    text = ".nan" if math.isnan(number) else repr(number).replace("inf", ".inf")
    read = validated(parse(f"numbers: [{text}]"), Numbers)

    assert repr([number]) == repr(read.numbers)


def test_every_fault_of_the_model_is_told_in_line_order():
    assert (
        "f.yaml:1:1: format: missing key\n"
        "f.yaml:2:3: image.resise: unknown key\n"
        "    did you mean 'resize'?\n"
        "f.yaml:3:9: image.mode: expected one of 'auto', 'L', 'RGB'; got 'rgb'\n"
        "    did you mean 'RGB'?\n"
        "f.yaml:4:13: image.mean[1]: expected a number; got 'abc' (text)\n"
        "f.yaml:5:10: image.scale: expected a number above 0; got 0\n"
        "f.yaml:6:1: extra: unknown key"
    ) == faults_in(
        "image:\n  resise: 3\n  mode: rgb\n  mean: [0, abc, 1]\n  scale: 0\nextra: 1\n"
    )  # fmt: skip


WRONG = [
    ("image: {resize: a}", "1:17: image.resize: expected a whole number or 'none'; got 'a'"),
    ("image: {resize: 1.5}", "1:17: image.resize: expected a whole number or 'none'; got 1.5"),
    ("image: {resize: true}", "1:17: image.resize: expected a whole number or 'none'; got true"),
    ("image: [1]", "1:8: image: expected a mapping; got a list"),
    ("image:", "1:7: image: expected a mapping; got nothing"),
    ("image: {text: 1}", "1:15: image.text: expected text; got 1"),
    ("image: {text: ''}", "1:15: image.text: expected at least 1 character; got '' (text)"),
    ("image: {mean: 1}", "1:15: image.mean: expected a list; got 1"),
    ("image: {mean: [1]}", "1:15: image.mean: expected 3 items; got 1"),
    ("image: {mean: [1, 2, 3, 4]}", "1:15: image.mean: expected at most 3 items; got 4"),
    ("image: {names: {a b: no}}", "1:22: image.names.'a b': expected true or false; got 'no' (text)"),
    ("image: {names: {a: 1}}", "1:20: image.names.a: expected true or false; got 1"),
    ("image: {scale: .inf}", "1:16: image.scale: expected a finite number; got .inf"),
    ("image: {scale: 70000}", "1:16: image.scale: expected at most 65535; got 70000"),
    ("augment: [{kind: crop, width: 1}]", "1:11: augment[0].height: missing key"),
    (
        "augment: [{kind: crop, width: 1, heigth: 1}]",
        "1:34: augment[0].heigth: unknown key\n    did you mean 'height'?",
    ),
    ("augment: [{kind: flop}]", "1:18: augment[0].kind: expected one of 'crop', 'flip'; got 'flop'\n    did you mean 'flip'?"),
    ("augment: [{}]", "1:11: augment[0].kind: missing key"),
    ("augment: [{kind: flip, chance: 2}]", "1:32: augment[0].chance: expected a probability; got 2.0"),
    ("steps: [{resize: x}]", "1:18: steps[0].resize: expected a whole number; got 'x' (text)"),
    (
        "steps: [{resize: 1, antialais: no}]",
        "1:21: steps[0].antialais: unknown key\n    did you mean 'antialias'?",
    ),
    ("steps: [{pad: x}]", "1:15: steps[0].pad: expected a whole number or a mapping; got 'x' (text)"),
    ("steps: [{pad: {kind: crop, width: 1}}]", "1:15: steps[0].pad.height: missing key"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault"), WRONG)
def test_what_does_not_fit_is_told_in_plain_words(text, fault):
    line, rest = fault.split(":", 1)

    assert f"f.yaml:{int(line) + 1}:{rest}" == faults_in(f"format: x\n{text}\n")


def test_a_value_that_is_no_mapping_is_told_once():
    assert "f.yaml:1:1: expected a mapping; got a list" == faults_in("[1]")
    assert "f.yaml:1:1: expected a mapping; got 'abc' (text)" == faults_in("abc")
    assert "f.yaml:1:1: expected a mapping; got nothing" == faults_in("~")


def test_faults_of_the_model_that_are_not_told_are_counted():
    reported = faults_in(
        f"format: x\nimage: {{names: {{{', '.join(f'n{i}: 1' for i in range(1003))}}}}}"
    )

    assert "f.yaml:1:1: 1,003 faults, of which 1,000 are listed" == reported.splitlines()[0]
    assert 1001 == len(reported.splitlines())


def test_a_key_that_is_misspelt_is_not_missing_too():
    assert "f.yaml:1:1: formt: unknown key\n    did you mean 'format'?" == faults_in("formt: x")


def test_faults_of_the_model_carry_their_rule():
    text = "image: {resise: 1, mode: 1, scale: x, text: ''}\n"
    with pytest.raises(InvalidDocument) as caught:
        validated(parse(text), Config)

    assert ["missing-key", "unknown-key", "wrong-value", "wrong-type", "wrong-value"] == [
        problem.rule for problem in caught.value.problems
    ]


@given(value=JSON)
@settings(deadline=None)
def test_no_value_makes_validation_fail_in_another_way(value):
    wrapped = {"format": value, "image": value, "augment": [value], "steps": [value, value]}
    problems: list[Problem] = []
    for text in (json.dumps(value), json.dumps(wrapped)):
        read = parse(text, DocumentLimits(1 << 20, 20_000, 100))
        try:
            validated(read, Config)
        except InvalidDocument as error:
            problems += error.problems

    assert not [problem for problem in problems if "pydantic" in str(problem)]
