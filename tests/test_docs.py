"""Every block of the pages in docs/ runs, in its order, and prints what the page shows."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from blocks import ROOT, assert_page, blocks_of, copy_checkout

PAGES = sorted((ROOT / "docs").glob("*.md"))
RELIABILITY = ROOT / "docs" / "reliability.md"


@pytest.mark.skipif(sys.platform == "win32", reason="the pages' shell is a POSIX one")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_does_what_it_shows(page, tmp_path):
    by_other_tests = {  # stats/test_estimate.py, test_recipes.py
        block
        for _, block in blocks_of(page)
        if re.search(r"error_bars|torchvision:MNIST|^# \w+_images\.py$", block, re.MULTILINE)
    }

    assert_page(page, copy_checkout(tmp_path), run_elsewhere=by_other_tests)


def links_of(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(r'(?:\]\(|src(?:set)?=")(?!https?://)([^)"\s]+)[)"]', text)


def anchors_of(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page

        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_every_page_can_be_reached_from_the_readme():
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links_of(ROOT / "README.md")}

    assert set() == {page.resolve() for page in PAGES} - linked


def test_the_tests_of_every_fault_are_there():
    """docs/reliability.md names them; a test that is renamed or lost must not stay promised."""
    named = re.findall(
        r"`([\w/]+)::(\w+)`", RELIABILITY.read_text(encoding="utf-8").split("| fault |")[1]
    )
    there = {
        (
            path.relative_to(ROOT / "tests").with_suffix("").as_posix().replace("test_", ""),
            node.name.removeprefix("test_"),
        )
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }

    assert len(named) > 40
    assert set() == set(named) - there


def test_the_page_of_the_rules_is_made_from_the_rules():
    """Made again by scripts/make_rule_pages."""
    script = runpy.run_path(str(ROOT / "scripts" / "make_rule_pages"))

    assert script["page_of_rules"]() == script["PAGE"].read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
def test_the_pictures_show_what_commands_print():
    """Made again by scripts/make_pictures."""
    made = runpy.run_path(str(ROOT / "scripts" / "make_pictures"))["made"]()

    assert set(made) == set((ROOT / "docs" / "pictures").iterdir())
    assert [] == [path.name for path, svg in made.items() if svg != path.read_text("utf-8")]


def test_the_reference_is_made_from_commands_and_docstrings():
    """Made again by scripts/make_reference."""
    script = runpy.run_path(str(ROOT / "scripts" / "make_reference"))

    assert [] == [
        page.name
        for page, text_of in script["PAGES"].items()
        if text_of() != page.read_text(encoding="utf-8")
    ]


def printed_of_mnist(script: str, shared_data: Path) -> str:
    """What a script prints that trains networks on MNIST."""
    command = [sys.executable, str(Path("scripts") / script), "--mnist", str(shared_data / "mnist")]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout


def comparison_in(text: str) -> dict[str, list[float | None]]:
    """The rows of the comparison of BatchNorm statistics, by their names."""
    rows = re.findall(r"^\| (.*) \|$", text[text.index("| statistics |") :], re.MULTILINE)[1:]
    cells = [row.split(" | ") for row in rows]
    return {
        name: [None if value == "-" else float(value.removesuffix(" %")) for value in values]
        for name, *values in cells
        if len(values) == 6
    }


def test_the_comparison_on_mnist_is_what_the_page_shows(shared_data):
    """Training amplifies rounding, so other versions of torch and other processors give other digits:
    errors are compared by their order of magnitude, accuracies within 4 points (10 where the batch is
    2 images). The accuracy with torch's average depends on the last few batches alone (88.4 % and
    69.2 % on two processors), so it is only compared with that of exact statistics."""
    shown = comparison_in((ROOT / "docs" / "normalization.md").read_text(encoding="utf-8"))
    found = comparison_in(printed_of_mnist("bn_comparison", shared_data))
    if not find_spec("fvcore"):
        del shown["fvcore's update_bn_stats"]

    assert list(shown) == list(found)
    for name, expected in shown.items():
        for error, printed in zip(expected[:2], found[name][:2], strict=True):
            assert (error is None) is (printed is None), name
            assert error is None or 0.2 < printed / error < 5, name
        for accuracy, printed in zip(expected[2:], found[name][2:], strict=True):
            if name.startswith("torch's average"):
                assert printed < found["imgnorm's, sequential"][2]
                continue
            assert abs(accuracy - printed) < (10 if accuracy < 80 else 4), name
    average, update_bn, *_, one_pass, sequential, _ = found.values()
    assert max(one_pass[0], sequential[1]) < 1e-6 < update_bn[0] < average[0]


def scales_in(text: str) -> dict[str, list[float]]:
    """The rows of the table of scripts/why_normalize, by their names; "over 800" is 800."""
    table = text[text.index("| input | mean |") :].split("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]
    return {
        name: [float(cell.removeprefix("over ")) for cell in cells[:5]] for name, *cells in rows
    }


@pytest.mark.heavy  # it trains sixty networks
def test_normalize_is_worth_what_the_page_shows(shared_data):
    """Inputs are as they are, to the digit; steps of training within a third, since it amplifies rounding."""
    shown = scales_in((ROOT / "docs" / "normalization.md").read_text(encoding="utf-8"))
    found = scales_in(printed_of_mnist("why_normalize", shared_data))

    assert list(shown) == list(found)
    for name, (mean, std, derivative, *steps) in shown.items():
        assert [mean, std] == found[name][:2], name
        assert derivative == pytest.approx(found[name][2], abs=0.02), name  # another random network
        assert steps == pytest.approx(found[name][3:], rel=1 / 3), name
    raw, wrong, scaled, _, own = (steps for *_, steps in found.values())
    assert own < scaled < raw <= wrong
