"""Each text is read by both of PyYAML's parsers, which must agree to the letter."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from parsing import JSON, LOADERS, parse

from imgnorm.documents import reader
from imgnorm.documents.document import CONFIG_LIMITS, STATS_LIMITS, DocumentLimits
from imgnorm.documents.kinds import Key, ListOf, MapOf, Record, Text, Whole
from imgnorm.documents.reader import read_through
from imgnorm.errors import InvalidDocument, Problem


def value_of(data: str | bytes, limits: DocumentLimits = CONFIG_LIMITS) -> Any:
    return parse(data, limits).value


def faults_of(data: str | bytes, limits: DocumentLimits = CONFIG_LIMITS) -> str:
    with pytest.raises(InvalidDocument) as caught:
        parse(data, limits)
    return "\n".join(map(str, caught.value.problems))


# Values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(word, None) for word in ("null", "Null", "NULL", "~")],
        *[(word, True) for word in ("true", "True", "TRUE")],
        *[(word, False) for word in ("false", "False", "FALSE")],
        *[("0", 0), ("-0", 0), ("+12", 12), ("-7", -7), ("010", 10), ("0o17", 15), ("0xfF", 255)],
        *[("1e-3", 1e-3), ("1e3", 1e3), ("5e-324", 5e-324), ("-1.E+2", -100.0), (".5", 0.5)],
        *[(".inf", math.inf), ("+.Inf", math.inf), ("-.INF", -math.inf), ("01.50", 1.5)],
    ],
)
def test_a_plain_scalar_is_what_the_core_schema_says(text, value):
    read = value_of(f"- {text}")

    assert [value] == read
    assert type(value) is type(read[0])


@pytest.mark.parametrize(
    "text",
    [
        *["no", "yes", "on", "off", "y", "nUll", "tRue", "none", "1:30", "1_000", "2020-01-01"],
        *[
            "0b1",
            "-0x1",
            "0o8",
            "0X1",
            "0xg",
            ".",
            "-a",
            "+",
            "-.",
            "e3",
            ".e3",
            "1e",
            "1e+",
            "1.2.3",
        ],
        *["-.nan", ".iNF", "inf", "nan", "=", "١", "1\u00a02", "0,5", "<<"],
    ],
)
def test_whatever_else_is_plain_is_text(text):
    assert {"key": text} == value_of(f"key: {text} # not {text}")


def test_nan_is_a_number():
    assert [True] * 3 == [math.isnan(number) for number in value_of("[.nan, .NaN, .NAN]")]


@pytest.mark.parametrize("text", ["'1'", '"1"', "|-\n  1", ">-\n  1", "! 1"])
def test_a_quoted_scalar_is_text(text):
    assert {"key": "1"} == value_of(f"key: {text}")


def test_keys_are_the_text_of_the_source():
    expected = {"null": 1, "true": 2, "1e3": 3, "010": 4, "": 5, "<<": 6}

    assert expected == value_of('null: 1\ntrue: 2\n1e3: 3\n"010": 4\n? \n: 5\n"<<": 6\n')


@pytest.mark.parametrize("text", ["key:\n", "key: \n", "{key: }", "{key}", "? key\n"])
@pytest.mark.parametrize("loader", LOADERS)
def test_no_value_is_null(loader, text, monkeypatch):
    """The parsers give the missing value of `{key: }` different places, and agree on all others."""
    monkeypatch.setattr(reader, "_Loader", loader)

    assert {"key": None} == reader.parse(text.encode(), "f.yaml", CONFIG_LIMITS).value


@pytest.mark.parametrize("text", ["\ufeffa: 1\nb: [x]\n", "a: 1\r\nb: [x]\r\n", "a: 1\rb:\r- x\r"])
def test_a_byte_order_mark_and_any_line_ends_are_fine(text):
    assert {"a": 1, "b": ["x"]} == value_of(text)


def test_escapes_are_read_as_yaml_has_them():
    assert "\0\x1bé😀" == value_of(r'"\0\e\xe9\U0001f600"')


def test_the_directive_of_yaml_1_2_is_fine():
    assert {"a": "no"} == value_of("%YAML 1.2\n---\na: no\n")


def test_a_number_of_1300_digits_is_read_exactly():
    assert [10**1299, -(10**1299)] == value_of(f"[1{'0' * 1299}, -1{'0' * 1299}]")


def test_a_name_from_the_file_cannot_command_the_terminal():
    assert (
        r"f.yaml:1:14: '\x1b[2J': given again (first on line 1)" + "\n    keep one"
        == faults_of(r'{"\e[2J": 1, "\e[2J": 2}')
    )  # fmt: skip


# Faults

FAULTS = [
    ("", "1:1: the file is empty"),
    ("# nothing\n\n", "1:1: the file is empty"),
    (
        "a: 1\nb:\n  c: 2\n  c: 3\n  c: 4\na: 5\n",
        (
            "4:3: b.c: given again (first on line 3)\n    keep one\n"
            "f.yaml:5:3: b.c: given again (first on line 3)\n    keep one\n"
            "f.yaml:6:1: a: given again (first on line 1)\n    keep one"
        ),
    ),
    ("{1: a, '1': b}", "1:8: 1: given again (first on line 1)\n    keep one"),
    (
        "a: &x 1\nb: [2, *x]\n",
        (
            "1:4: a: the anchor &x is not allowed\n"
            "    remove it, and write the value out where it is used\n"
            "f.yaml:2:8: b[1]: the alias *x is not allowed\n    write out what it stands for"
        ),
    ),
    (
        "&x a: 1\n",
        "1:1: the anchor &x is not allowed\n    remove it, and write the value out where it is used",
    ),
    (
        "? *x\n: 1\n? *x\n: 2\n",
        (
            "1:3: the alias *x is not allowed\n    write out what it stands for\n"
            "f.yaml:3:3: the alias *x is not allowed\n    write out what it stands for"
        ),
    ),
    (
        "a: !!python/object/apply:os.system [id]\n",
        (
            "1:4: a: the tag !!python/object/apply:os.system is not allowed\n"
            "    remove it; text that looks like a number is written in quotes"
        ),
    ),
    (
        "- !!str 1\n- !local {}\n- !<x:y> []\n",
        (
            "1:3: [0]: the tag !!str is not allowed\n"
            "    remove it; text that looks like a number is written in quotes\n"
            "f.yaml:2:3: [1]: the tag !local is not allowed\n"
            "    remove it; text that looks like a number is written in quotes\n"
            "f.yaml:3:3: [2]: the tag x:y is not allowed\n"
            "    remove it; text that looks like a number is written in quotes"
        ),
    ),
    (
        "a:\n  <<: {b: 1}\n  <<: {c: 1}\n",
        (
            "2:3: a.<<: merge keys are not allowed\n    write the merged keys out\n"
            "f.yaml:3:3: a.<<: merge keys are not allowed\n    write the merged keys out"
        ),
    ),
    (
        "[1, 2]: a\n{b: {[c]: d}}: e\nf: 1\nf: 2\n",
        (
            "1:1: a key must be text, not a list or mapping\n    quote it if it is text\n"
            "f.yaml:2:1: a key must be text, not a list or mapping\n    quote it if it is text\n"
            "f.yaml:4:1: f: given again (first on line 3)\n    keep one"
        ),
    ),
    ("a: 1\n---\nb: 1\n", "2:1: a second document starts here\n    keep one document per file"),
    ("%YAML 1.1\n--- no\n", "1:1: %YAML 1.1: the file is read as YAML 1.2\n    remove this line"),
    ("a: [1" + "0" * 1300 + "]", "1:5: a[0]: a number of 1,301 digits\n    at most 1,300 are read"),
    ("a: 0x" + "f" * 1301, "1:4: a: a number of 1,301 digits\n    at most 1,300 are read"),
    (
        "a: -1e999",
        "1:4: a: -1e999 is beyond the range of a 64-bit float\n    write .inf if infinity is meant",
    ),
    (b"a: 1\nb: caf\xe9\n", "2:7: byte 0xe9 is not UTF-8\n    save the file as UTF-8"),
    (b"\xef\xbb\xbfa\r\n\xe9", "2:1: byte 0xe9 is not UTF-8\n    save the file as UTF-8"),
    ("a: 1".encode("utf-16"), "1:1: the file is in UTF-16\n    save it as UTF-8"),
    ("a: 1".encode("utf-16-be"), "1:1: the file is in UTF-16\n    save it as UTF-8"),
    ("a: 1".encode("utf-32"), "1:1: the file is in UTF-32\n    save it as UTF-8"),
    ("a: 1".encode("utf-32-le"), "1:1: the file is in UTF-32\n    save it as UTF-8"),
    (
        "a: 1\nb: x\0\0\0y\x1b\nb: 2\n",
        (
            "2:5: control character U+0000, 3 times\n    remove it\n"
            "f.yaml:2:9: control character U+001B\n    remove it\n"
            "f.yaml:3:1: b: given again (first on line 2)\n    keep one"
        ),
    ),
    (b"a: 1\n" + b"\0" * 4091, "2:1: control character U+0000, 4,091 times\n    remove it"),
    ("a: [\x7f", "1:5: control character U+007F\n    remove it"),
    ("a:\n\tb: 2\n", "2:1: a tab is not allowed here\n    use spaces"),
    ("a: @x\n", "1:4: a value cannot start with '@'\n    put the value in quotes"),
    (
        "a: b: c\n",
        (
            "1:5: a key or ':' is not allowed here\n"
            "    align it with the keys it belongs to; text with ': ' in it needs quotes"
        ),
    ),
    (
        "a: 1\na: 2\nb: 'x\n",
        (
            "2:1: a: given again (first on line 1)\n    keep one\n"
            "f.yaml:4:1: not valid YAML: found unexpected end of stream"
            " while scanning a quoted scalar that starts on line 3"
        ),
    ),
]


@pytest.mark.parametrize(("text", "faults"), FAULTS)
def test_every_fault_is_told_at_its_place(text, faults):
    assert f"f.yaml:{faults}" == faults_of(text)


@pytest.mark.parametrize("loader", LOADERS)
def test_half_of_a_surrogate_pair_is_refused(loader, monkeypatch):
    """The parsers differ in words, not in the verdict."""
    monkeypatch.setattr(reader, "_Loader", loader)

    with pytest.raises(
        InvalidDocument, match=r"\Af\.yaml:1:\d+: (a: '\\ud83d' has half|not valid)"
    ):
        reader.parse(rb'a: "\ud83d"', "f.yaml", CONFIG_LIMITS)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("text", [r'a: "\UFFFFFFFF"', r'a: "\U00110000"', "%YAML 1." + "1" * 9999])
def test_what_escapes_from_the_pure_parser_is_caught(loader, text, monkeypatch):
    monkeypatch.setattr(reader, "_Loader", loader)

    with pytest.raises(InvalidDocument, match=r"\Af\.yaml:1:\d+: not valid YAML: "):
        reader.parse(text.encode(), "f.yaml", CONFIG_LIMITS)


def test_problems_carry_the_rule_that_found_them():
    text = "a: &x !y [*x]\n? []\n: 1\n<<: 1\na: 1e999\n"
    with pytest.raises(InvalidDocument) as caught:
        parse(text)

    assert [
        *["anchor", "tag", "alias", "key-not-text", "merge-key", "duplicate-key"],
        "number-too-large",
    ] == [problem.rule for problem in caught.value.problems]


# Limits


LIMITS = DocumentLimits(max_bytes=12, max_nodes=5, max_depth=2)


@pytest.mark.parametrize("text", ["{a: 1, b: 2}", "[[1], 2, 3]", "[1, 2, 3, 4]"])
def test_limits_are_inclusive(text):
    assert json.loads(text.replace("a", '"a"').replace("b", '"b"')) == value_of(text, LIMITS)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{a: 1, b: 22}", "1:1: the file is larger than 12 bytes"),
        ("[1,2,3,4,5]", "1:10: more than 5 values in one file"),
        ("a: [[]]", "1:5: a[0]: nested deeper than 2 levels"),
    ],
)
def test_reading_ends_at_a_limit(text, fault):
    assert f"f.yaml:{fault}" == faults_of(text, LIMITS)


def test_faults_before_a_limit_are_told_too():
    limits = DocumentLimits(max_bytes=99, max_nodes=99, max_depth=1)

    assert (
        "f.yaml:2:1: a: given again (first on line 1)\n    keep one\n"
        "f.yaml:3:4: b: nested deeper than 1 levels"
    ) == faults_of("a: 1\na: 2\nb: {}\na: 3\n", limits)


HOSTILE = {
    "alias bomb": "a: &a [x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "merge-key bomb": "a: &a {x: 1}\n" + "".join(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "recursive alias": "&a [*a, {b: *a}]",
    "python tags": "- !!python/name:os.system\n- !!python/object/new:os.system [id]\n",
    "braces": "{" * 50_000,
    "brackets": "[" * 50_000,
    "dashes": "- " * 50_000,
    "question marks": "? " * 50_000,
    "braces of a mapping": "{a: " * 50_000,
    "100 MB": b"a" * 100_000_000,
    "NULs": b"\0" * (1 << 20),
    "UTF-16": ("a" * (1 << 19)).encode("utf-16"),
    "digits": "9" * 1_000_000,
    "hexadecimal digits": "0x" + "f" * 1_000_000,
    "aliases": "[" + "*a," * 300_000,
    "keys": "a: 1\n" * 10_000,
    "documents": "---\n" * 200_000,
    "anchors": "&a " * 300_000,
    "directives": "".join(f"%TAG !a{i}! b\n" for i in range(60_000)),
    "directives of a second document": "a\n...\n" + "".join(f"%TAG !a{i}! b\n" for i in range(60_000)),
    "values": "[" + "1," * 500_000,
    "control characters": "\x01\x02" * 250_000,
    "quote": '"' + "\n" * 500_000,
    "image": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 1000,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_soon(name):
    text: str | bytes = HOSTILE[name]
    data = text.encode() if isinstance(text, str) else text
    start = time.process_time()

    with pytest.raises(InvalidDocument) as caught:
        reader.parse(data, "f.yaml", CONFIG_LIMITS)

    assert time.process_time() - start < 5
    assert len(str(caught.value)) < 200_000


@pytest.mark.parametrize("opening", ["{", "[", "- ", "? ", "{a: "])
def test_nesting_is_refused_where_it_gets_too_deep(opening):
    last = faults_of(opening * 50_000).splitlines()[-1]

    assert "nested deeper than 16 levels" == last.split(": ")[-1]
    assert f"f.yaml:1:{16 * len(opening) + 1}" == last.split(": ")[0]


def test_each_alias_of_a_bomb_is_told_and_none_followed():
    assert 8 * 9 + 9 == faults_of(HOSTILE["alias bomb"]).count(" is not allowed\n")


def test_a_thousand_faults_are_enough():
    reported = faults_of("a: 1\n" * 1003).splitlines()

    assert "f.yaml:1001:1: too many faults; the rest of the file was not read" == reported[-1]
    assert 1000 == sum("given again" in line for line in reported)


def test_too_many_directives_are_refused():
    text = "".join(f"%TAG !a{i}! b\n" for i in range(101)) + "--- a\n"

    assert "f.yaml:1:1: more than 100 %TAG directives\n    remove them" == faults_of(text)


def test_a_place_costs_twelve_bytes():
    places = parse(f"[{'1,' * 10_000}]", STATS_LIMITS)._places

    assert 12 * 10_001 == sum(a.itemsize * len(a) for a in (places.marks, places.spans))


# Anything at all

YAMLISH = st.lists(
    st.sampled_from(
        [
            "a",
            "b",
            "1",
            "- ",
            ": ",
            "? ",
            "[",
            "]",
            "{",
            "}",
            ",",
            "\n",
            " ",
            "  ",
            "\t",
            "#",
            "'",
            '"',
            "|",
            ">",
            "&a ",
            "*a",
            "!",
            "!!int ",
            "%TAG ! !",
            "%YAML 1.1",
            "---",
            "...",
            "\\",
            "<<",
            "@",
            "\r\n",
            "\u2028",
            "\x85",
            "\ufeff",
            "\x00",
            "é",
            "😀",
            "\\x",
            "\\ud800",
            "~",
        ]
    ),
    max_size=40,
).map("".join)


@pytest.mark.parametrize("loader", LOADERS)
@given(data=st.binary() | YAMLISH.map(str.encode) | st.text().map(str.encode))
@settings(deadline=None, max_examples=500)
@example(data=b"\xff\xfe")
@example(data=b"{")
def test_nothing_but_invalid_document_is_ever_raised(loader, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_Loader", loader)
        problems: tuple[Problem, ...] = ()
        try:
            read = reader.parse(data, "f.yaml", CONFIG_LIMITS)
            json.dumps(read.value, ensure_ascii=False).encode()
        except InvalidDocument as error:
            problems = error.problems

    assert all(problem.line > 0 and problem.column > 0 for problem in problems)


@given(value=JSON)
@settings(deadline=None)
@example(value={"": [], "a": {}, "<<": [[]], "\x7f\x85\ufeff": -0.0})
def test_what_json_wrote_is_read_back_equal(value):
    read = value_of(json.dumps(value), DocumentLimits(1 << 20, 20_000, 100))

    assert repr(value) == repr(read)


@given(value=JSON)
@settings(deadline=None)
def test_places_are_those_of_a_parser_that_composes_nodes(value):
    text = yaml.safe_dump(value, allow_unicode=True)
    try:
        read = parse(text, DocumentLimits(1 << 20, 20_000, 100))
    except InvalidDocument:  # PyYAML writes anchors, and text of its own 1.1 schema
        return
    waiting: list[tuple[tuple[str | int, ...], yaml.Node | None]] = [((), yaml.compose(text))]
    while waiting:
        path, node = waiting.pop()
        assert (node.start_mark.line + 1, node.start_mark.column + 1) == read.place(path)
        if isinstance(node, yaml.MappingNode):
            for key, inner in node.value:
                mark = key.start_mark
                place = read.place((*path, key.value), of_key=True)
                assert (mark.line + 1, mark.column + 1) == place
                waiting.append(((*path, key.value), inner))
        elif isinstance(node, yaml.SequenceNode):
            waiting += [((*path, index), inner) for index, inner in enumerate(node.value)]


# What is left of a file in spite of its faults


def left_of(text: str):
    reading = read_through(text.encode(), "f.yaml", CONFIG_LIMITS)

    return reading.document and reading.document.value, [p.rule for p in reading.problems]


@pytest.mark.parametrize(
    ("text", "value", "rules"),
    [
        ("a: 1\nb: 2\na: {c: 3}\nd: 4", {"a": 1, "b": 2, "d": 4}, ["duplicate-key"]),
        ("a: {<<: {b: 1}, c: 2}", {"a": {"c": 2}}, ["merge-key"]),
        ("a: *b\nc: 1", {"a": None, "c": 1}, ["alias"]),
        ("? [a, b]\n: 1\nc: 2", {"c": 2}, ["key-not-text"]),
        ("a: !!int 5\nb: &x [1]", {"a": "5", "b": [1]}, ["tag", "anchor"]),
        ("a: 1\n---\nb: 2", {"a": 1}, ["multiple-documents"]),
        ("a: 1\nb: [1, {c: 2\nd: 3", {"a": 1, "b": [1, {"c": "2 d"}]}, ["syntax"]),
        ("a: 1\nb:\n\tc", {"a": 1, "b": None}, ["syntax"]),
        ("a: \x00 1", {"a": 1}, ["control-character"]),
        ("[" * 20, None, ["limit"]),
        ("\ufffe", None, ["encoding"]),
        ("", None, ["empty"]),
    ],
)
def test_what_is_sound_is_left_of_a_file_with_faults(text, value, rules):
    if text == "\ufffe":
        reading = read_through(b"\xff\xfea\0", "f.yaml", CONFIG_LIMITS)

        assert (None, rules) == (reading.document, [p.rule for p in reading.problems])
    else:
        assert (value, rules) == left_of(text)


def test_what_is_left_has_its_places():
    document = read_through(
        b"a: 1\na: [2, 3]\nb: {<<: {x: 1}, c: 2}\nd: 4", "f.yaml", CONFIG_LIMITS
    ).document
    assert document is not None

    assert (1, 4) == document.place(["a"])
    assert (3, 17) == document.place(["b", "c"], of_key=True)
    assert (4, 1) == document.place(["d"], of_key=True)


@given(st.text(alphabet="ab:-[]{}, \n!&*<'\"#", max_size=60))
@settings(max_examples=300, deadline=None)
def test_every_place_in_what_is_left_can_be_told(text):
    reading = read_through(text.encode(), "f.yaml", CONFIG_LIMITS)
    if reading.document is None:
        return

    def walk(value, path):
        line, column = reading.document.place(path, of_key=True)
        assert line >= 1
        assert column >= 1
        entries = value.items() if isinstance(value, dict) else enumerate(value or ())
        for key, inner in entries if isinstance(value, (dict, list)) else ():
            walk(inner, (*path, key))

    walk(reading.document.value, ())
    for path in reading.ended_in:
        assert reading.document.place(path)


def test_reading_ends_where_hardly_any_key_is_known():
    """A large file of another kind is refused at once, wherever its keys lie."""
    known = Record(Key("a", ListOf(Record(Key("b", Text())))), Key("c", MapOf(Whole())))
    keys = ", ".join(f"k{i}: {{l{i}: 1}}" for i in range(6_000))
    texts = {
        "top": f"{{{keys}, a: []}}",
        "beneath unknown": f"x: {{{keys}}}",
        "in a list": f"a: [{{{keys}}}]",
        "a list": f"x: [{'1, ' * 12_000}]",
        "in text": f"a: [b: {{{keys}}}]",
    }
    for where, text in texts.items():
        with pytest.raises(InvalidDocument) as caught:
            reader.parse(text.encode(), "f.yaml", STATS_LIMITS, known)
        (problem,) = caught.value.problems

        assert (
            problem.message == "more than 10,000 unknown keys and values; the rest was not read"
        ), where
    reader.parse(
        f"c: {{{', '.join(f'k{i}: 1' for i in range(2_000))}}}".encode(), "f", STATS_LIMITS, known
    )
