"""Reports in a browser: what is drawn, what works, and that no name of a dataset runs.

They take a Chromium (`apt-get install chromium`, or the path of one in the variable CHROMIUM), and its driver
(`pip install playwright`). Accessibility is checked by axe.min.js of the npm package axe-core, in the variable
AXE. With --heavy, all of them must be there.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import imgnorm
from imgnorm import Reason, Skipped, Stats
from imgnorm.report.page import write_report
from imgnorm.stats.plot import histogram_charts

ROOT = Path(__file__).parents[1]
SIZES = [(width, scheme) for width in (400, 1280, 1920) for scheme in ("light", "dark")]
OWNED = "document.title = 'owned'; window.owned = 1"
HOSTILE = (
    f"<script>{OWNED}</script>",
    f'"><img src=x onerror="{OWNED}">',
    f"</script><script>{OWNED}</script>",
    f"</title></style></textarea><svg onload='{OWNED}'>",
    f"' autofocus onfocus='{OWNED}' x='",
    f"<a href='javascript:{OWNED}'>click</a>",
    "<iframe srcdoc='<script>parent.owned=1</script>'>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "{{ 7 * 7 }}",
)
"""Names that a dataset of a stranger may have."""


def missing(request: pytest.FixtureRequest, what: str) -> Any:
    if request.config.getoption("--heavy"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        missing(request, "no Chromium; install it with `apt-get install chromium`")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing(request, "no driver of the browser; install it with `pip install playwright`")
    with sync_playwright() as playwright:
        root = hasattr(os, "geteuid") and os.geteuid() == 0  # who has no sandbox
        opened = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"] if root else []
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def axe(request: pytest.FixtureRequest) -> str:
    path = os.environ.get("AXE")
    if path is None:
        missing(request, "no axe-core; name its axe.min.js in the variable AXE")
    return Path(str(path)).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def stats() -> Stats:
    measured = imgnorm.measure(ROOT / "examples" / "shapes", per_class=True, workers=1)
    skipped = tuple(
        Skipped(f"{shape}/{number}.png", reason)
        for shape in ("circle", "square")
        for number, reason in enumerate(Reason)
    )
    return replace(measured, measurement=replace(measured.measurement, skipped=skipped))


@pytest.fixture(scope="module")
def report(stats: Stats, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, stats)
    return path


class Opened:
    """A report in the browser, with all that the browser has to say of it."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=False
        )
        self.page = context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda one: self.asked.append(one.url))
        self.page.goto(path.as_uri())

    def areas(self) -> list[list[float]]:
        """The numbers of each histogram's path, in tenths of a pixel."""
        paths = self.page.eval_on_selector_all(
            "[data-channel] .area", "paths => paths.map(path => path.getAttribute('d'))"
        )
        return [numbers(path) for path in paths]

    def close(self) -> None:
        self.page.context.close()


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[\d.]+", text)]


def demand_alike(expected: list[list[float]], drawn: list[list[float]]) -> None:
    """Python and JavaScript may round a tie to other tenths of a pixel."""
    for ours, theirs in zip(expected, drawn, strict=True):
        assert len(ours) == len(theirs)
        assert all(abs(a - b) < 0.11 for a, b in zip(ours, theirs, strict=True))


def test_no_name_of_a_dataset_runs(browser, stats, tmp_path):
    measured = stats.measurement
    one = next(iter(measured.classes.values()))
    note = next(iter(measured.notes.values()))
    hostile = replace(
        measured,
        classes=dict.fromkeys(HOSTILE, one),
        skipped=tuple(Skipped(name, Reason.CORRUPT, name) for name in HOSTILE),
        source=replace(measured.source, ref=HOSTILE, kind=HOSTILE[0]),
        formats=dict.fromkeys(HOSTILE, 3),
        decoders=dict.fromkeys(HOSTILE, HOSTILE[1]),
        notes={"alpha": replace(note, examples=HOSTILE)},
    )
    path = tmp_path / "hostile.html"
    write_report(path, replace(stats, channels=HOSTILE[:3], measurement=hostile))
    opened = Opened(browser, path)
    opened.page.fill("[data-table=class-table]", "script")
    opened.page.hover("h1")

    assert opened.page.evaluate("window.owned") is None
    assert "owned" != opened.page.title()
    assert [] == opened.said
    assert {path.as_uri()} == {url for url in opened.asked if not url.startswith("data:")}
    for name in HOSTILE:
        assert opened.page.locator("#skipped-table th", has_text=name).count()
    opened.close()


@pytest.mark.heavy
@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_a_report_fits_everywhere_and_everyone_can_read_it(browser, axe, width, scheme):
    opened = Opened(browser, ROOT / "docs" / "report-example.html", width, scheme)
    page = opened.page
    # bypass_csp would hide what the policy refuses; evaluating a text is the driver's own right.
    page.evaluate(axe)
    found = page.evaluate("axe.run().then(result => result.violations)")
    boxes = page.eval_on_selector_all(
        "svg .area",
        "all => all.map(one => one.getBoundingClientRect()).map(b => [b.width, b.height])",
    )

    assert [] == [(one["id"], one["nodes"][0]["html"]) for one in found]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert sum(w > 2 and h > 2 for w, h in boxes) >= 3
    assert [] == opened.said
    opened.close()


@pytest.mark.heavy
def test_search_shows_the_rows_that_have_every_word(browser, report):
    opened = Opened(browser, report)
    box = opened.page.locator("[data-table=skipped-table]")
    rows = opened.page.locator("#skipped-table tbody tr:visible")
    everything = rows.count()
    box.fill("ARCHIVE  circle")

    assert 2 * len(Reason) == everything
    assert sum("archive" in reason.value for reason in Reason) == rows.count()
    assert f"{rows.count()} of {everything}" == opened.page.inner_text(
        "[data-matches=skipped-table]"
    )
    box.fill("")
    assert everything == rows.count()
    assert [] == opened.said
    opened.close()


@pytest.mark.heavy
def test_the_script_draws_what_plot_draws(browser, report, stats):
    """Both draw histograms: Python for paper and notebooks, the script when somebody zooms."""
    opened = Opened(browser, report)
    for log in (True, False):
        opened.page.set_checked("#log", log)
        expected = [
            numbers(re.findall(r' d="(.*?)"', chart)[0])
            for chart in histogram_charts(stats, log=log)
        ]
        demand_alike(expected, opened.areas())
    opened.close()


@pytest.mark.heavy
def test_a_drag_zooms_and_a_button_shows_all_again(browser, report):
    opened = Opened(browser, report)
    page, before = opened.page, opened.areas()
    chart = page.locator("[data-channel] svg").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    scale = box["width"] / 340
    for x, act in ((46 + 141, page.mouse.down), (328, page.mouse.up)):  # the upper half
        page.mouse.move(box["x"] + x * scale, box["y"] + 100 * scale)
        act()
    ends = page.input_value("#from"), page.input_value("#to")

    assert ("128", "255") == ends
    assert 2 + 2 * 128 + 1 == len(opened.areas()[0])  # a corner, the steps, the other corner
    page.click("#whole")
    demand_alike(before, opened.areas())
    page.fill("#from", "250")
    texts = page.locator("[data-channel] .columns text").all_text_contents()[:6]
    assert ["250", "251", "252", "253", "254", "255"] == texts
    assert [] == opened.said
    opened.close()


@pytest.mark.heavy
def test_a_chart_is_saved_and_the_transform_is_copied(browser, report, stats, tmp_path):
    opened = Opened(browser, report)
    page = opened.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    with page.expect_download() as saved:
        page.locator("[data-save='histogram-1.svg']").click(force=True)
    saved.value.save_as(tmp_path / "chart.svg")
    page.click("[data-copy=normalize]")
    page.wait_for_function(
        "document.querySelector('[data-copy=normalize]').textContent == 'Copied'"
    )

    drawn = [
        re.findall(r' d="(.*?)"', text)
        for text in (histogram_charts(stats)[0], (tmp_path / "chart.svg").read_text())
    ]
    assert drawn[0] == drawn[1]
    assert f"mean={list(stats.mean)!r}" in page.evaluate("navigator.clipboard.readText()")
    assert [] == opened.said
    opened.close()


@pytest.mark.heavy
def test_a_printed_report_is_light_and_whole(browser, report, tmp_path):
    opened = Opened(browser, report, scheme="dark")
    page = opened.page
    page.emulate_media(media="print", color_scheme="dark")
    page.pdf(path=tmp_path / "report.pdf")

    assert "rgb(255, 255, 255)" == page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert 0 == page.locator("button:visible, input:visible").count()
    last = page.locator("#skipped-table tbody tr").last
    assert last.is_visible()
    inside = "one => one.closest('.scroll').scrollHeight <= one.closest('.scroll').clientHeight + 1"
    assert last.evaluate(inside)
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    opened.close()
