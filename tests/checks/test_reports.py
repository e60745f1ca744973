"""Reports for programs: what each format demands, for hostile names and texts, too."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from imgnorm.checks.reports import REPORTERS, page
from imgnorm.checks.rules import PAGES
from imgnorm.checks.validate import validate
from imgnorm.errors import Problem

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"
# Copied from the npm package @microsoft/jest-sarif 1.0.0-beta.0, which ships OASIS's own.
SARIF = json.loads((ROOT / "tests" / "schemas" / "sarif-2.1.0.json").read_text(encoding="utf-8"))

PROBLEMS = [
    Problem("a b/ä.yaml", 3, 5, "unknown-key", "x: unknown key", "try 'y'"),
    Problem("a b/ä.yaml", 4, 1, "convention", "0.5 <&> is a convention", None, "info"),
    Problem("c.yaml", 1, 2, "channel-order", "100% \x1b::error::\r\n", None, "warning"),
]
FILES = ["a b/ä.yaml", "c.yaml", "fine.yaml"]


def test_text():
    assert (
        "a b/ä.yaml:3:5: error[unknown-key]: x: unknown key\n"
        "    try 'y'\n"
        "a b/ä.yaml:4:1: note[convention]: 0.5 <&> is a convention"
    ) == REPORTERS["text"](PROBLEMS[:2], FILES)


def test_json_has_every_field():
    read = json.loads(REPORTERS["json"](PROBLEMS, FILES))

    assert PROBLEMS == [Problem(**entry) for entry in read]


def test_github_commands_cannot_be_broken_out_of():
    lines = REPORTERS["github"](PROBLEMS, FILES).split("\n")

    assert [
        "::error file=a b/ä.yaml,line=3,col=5,title=imgnorm unknown-key::x: unknown key%0Atry 'y'",
        "::notice file=a b/ä.yaml,line=4,col=1,title=imgnorm convention::0.5 <&> is a convention",
        "::warning file=c.yaml,line=1,col=2,title=imgnorm channel-order::100%25 \\x1b::error::\\r%0A",
    ] == lines


def test_sarif_is_what_its_schema_demands():
    problems = [*PROBLEMS, *(p for path in CASES.rglob("*.yaml") for p in found_in(path))]
    log = json.loads(REPORTERS["sarif"](problems, FILES))

    jsonschema.Draft4Validator(SARIF, format_checker=jsonschema.FormatChecker()).validate(log)
    assert len(problems) == len(log["runs"][0]["results"])


def test_sarif_tells_place_level_and_rule():
    (run,) = json.loads(REPORTERS["sarif"](PROBLEMS, FILES))["runs"]
    first, *_ = run["results"]

    assert ["error", "note", "warning"] == [result["level"] for result in run["results"]]
    assert {
        "artifactLocation": {"uri": "a%20b/%C3%A4.yaml"},
        "region": {"startLine": 3, "startColumn": 5},
    } == first["locations"][0]["physicalLocation"]
    assert "unknown-key" == run["tool"]["driver"]["rules"][first["ruleIndex"]]["id"]


def test_junit_has_a_test_for_each_file():
    (suite,) = ElementTree.fromstring(REPORTERS["junit"](PROBLEMS, FILES))
    failures = {case.get("name"): case.find("failure") for case in suite}

    assert ("3", "2") == (suite.get("tests"), suite.get("failures"))
    assert FILES == list(failures)
    assert failures["fine.yaml"] is None
    assert "1 problem" == failures["c.yaml"].get("message")
    assert "c.yaml:1:2: warning[channel-order]: 100% \\x1b::error::\\r\n" == failures["c.yaml"].text


@pytest.mark.parametrize("kind", REPORTERS)
def test_without_problems_there_is_a_report_all_the_same(kind):
    report = REPORTERS[kind]([], FILES)

    assert {"text": True, "github": True}.get(kind, False) == (report == "")
    if kind in ("json", "sarif"):
        json.loads(report)


@pytest.mark.parametrize("rule", PAGES)
def test_every_rule_has_a_page(rule):
    reported = page(PAGES[rule])

    assert reported.startswith(f"{rule} ({PAGES[rule].severity}): ")
    assert "\n\nwrong:\n    " in reported
    assert "\n\nright:\n    " in reported


def found_in(path: Path) -> list[Problem]:
    return list(validate([str(path)]).problems)
