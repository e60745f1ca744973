"""The report: what it shows, that it loads nothing, and that no name of a dataset becomes a part of the page."""

from __future__ import annotations

import base64
import hashlib
import re
import runpy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import imgnorm
from imgnorm import Reason, Skipped, Stats
from imgnorm.errors import IncompatibleStats, MissingDependency
from imgnorm.report.page import report_page, write_report
from imgnorm.stats.measurement import ClassStats
from imgnorm.tally.moments import Moments

ROOT = Path(__file__).parents[2]

HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "'onmouseover='document.title=1",
    "</script><script>document.title='owned'</script>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:document.title='owned'",
    "</title></style><svg onload=document.title='owned'>",
    "\u202egpj.exe\n\x1b[31m",
)
"""Names that a dataset of a stranger may have."""


class Page(HTMLParser):
    """A report as a browser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        self.open = self.open[: len(self.open) - self.open[::-1].index(tag) - 1]

    def handle_data(self, data):
        kinds = {"script": self.scripts, "style": self.styles}
        kinds.get(self.open[-1] if self.open else "", self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def rows(self, table: str) -> int:
        """How many rows the table with this id has, without its heading."""
        names = [(tag, attributes.get("id")) for tag, attributes in self.elements]
        behind = names[names.index(("table", table)) :]
        ends = [place for place, (tag, _) in enumerate(behind) if tag in ("section", "footer")]
        return sum(tag == "tr" for tag, _ in behind[: ends[0]]) - 1


@pytest.fixture(scope="module")
def stats() -> Stats:
    """24 images in three classes."""
    return imgnorm.measure(ROOT / "examples" / "shapes", per_class=True, workers=1)


def changed(stats: Stats, **fields) -> Stats:
    """The same stats with another measurement."""
    return replace(stats, measurement=replace(stats.measurement, **fields))


def with_hostile_names(stats: Stats) -> Stats:
    one = next(iter(stats.measurement.classes.values()))
    note = next(iter(stats.measurement.notes.values()))
    return replace(
        changed(
            stats,
            classes=dict.fromkeys(HOSTILE, one),
            skipped=tuple(Skipped(name, Reason.CORRUPT, name) for name in HOSTILE),
            source=replace(stats.measurement.source, ref=HOSTILE, kind=HOSTILE[0]),
            modes=dict.fromkeys(HOSTILE, 3),
            formats=dict.fromkeys(HOSTILE, 3),
            decoders=dict.fromkeys(HOSTILE, HOSTILE[1]),
            ignored=dict.fromkeys(HOSTILE, 1),
            notes={"alpha": replace(note, examples=HOSTILE)},
        ),
        channels=HOSTILE[:3],
    )


def test_a_report_shows_the_numbers_and_where_they_come_from(stats):
    text = Page(report_page(stats)).text

    for shown in (
        "images 24",
        "pixels 87,598",
        "R 0.5704 0.3013 0 255",
        "pooled use this one",
        "mean_of_image_std the average of the images' own stds",
        "0.1926 0.1361 0.1397",
        f"mean=[{', '.join(map(repr, stats.mean))}]",
        "train_transform = transforms.Compose(",
        "1 file has transparency, dropped as ImageFolder does",
        "triangle 8 0.6599 0.6693 0.6619 0.2943 0.2420 0.1937 0.47 std",
        "24 found = 24 counted + 0 skipped + 0 ignored",
        stats.measurement.source.names_sha256,
        "None of the images that were looked at.",
    ):
        assert shown in text, shown


def test_the_same_stats_give_the_same_bytes(stats, tmp_path):
    imgnorm.write_stats(tmp_path / "stats.yaml", stats)
    for name, one in (("a.html", stats), ("b.html", imgnorm.read_stats(tmp_path / "stats.yaml"))):
        write_report(tmp_path / name, one)

    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_report_loads_nothing_and_runs_its_own_script_alone(stats):
    page = Page(report_page(with_hostile_names(stats)))
    policies = [a["content"] for _, a in page.elements if "http-equiv" in a]
    digests = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (*page.styles, *page.scripts)
    ]

    expected = (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert [expected] == policies
    assert 2 == len(digests)
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        links = [attributes[name] for name in ("src", "href", "action") if name in attributes]
        assert all(link.startswith(("#", "data:")) for link in links), tag


def test_no_name_becomes_a_part_of_the_page(stats):
    usual, hostile = Page(report_page(stats)), Page(report_page(with_hostile_names(stats)))

    assert {tag for tag, _ in hostile.elements} <= {tag for tag, _ in usual.elements}
    assert usual.scripts == hostile.scripts
    for name in HOSTILE[:-1]:
        assert " ".join(name.split()) in hostile.text
    assert "\\u202egpj.exe\\n\\x1b[31m" in hostile.text


def many_classes(stats: Stats, number: int) -> Stats:
    names = (f"n{index:08}_Rhodesian ridgeback" for index in range(number))
    return changed(
        stats,
        classes={
            name: ClassStats(1, Moments(100, (index % 255 * 100,) * 3, (6_502_500,) * 3))
            for index, name in enumerate(names)
        },
    )


def test_a_thousand_classes_and_a_hundred_thousand_skipped_images_are_a_small_page(stats):
    reasons = [Reason.CORRUPT] * 98_990 + [Reason.TRUNCATED] * 1_000 + [Reason.TIMEOUT] * 10
    skipped = tuple(Skipped(f"train/{i:0100}.jpg", one) for i, one in enumerate(reasons))
    text = report_page(changed(many_classes(stats, 1_000), skipped=skipped))
    page = Page(text)

    assert len(text) < 1_500_000
    assert 1_000 == page.rows("class-table")
    assert 666 + 666 + 10 == page.rows("skipped-table")
    assert "98,990 corrupt 1,000 truncated 10 timeout" in page.text
    assert "1,342 of 100,000 are shown; 98,658 more are in the stats file" in page.text


def test_more_classes_than_a_page_bears_are_counted(stats):
    page = Page(report_page(many_classes(stats, 1_001)))

    assert 1_000 == page.rows("class-table")
    assert "1,000 of 1,001 are shown; 1 more are in the stats file" in page.text


def test_an_estimate_has_its_margins(estimated):
    text = Page(report_page(estimated)).text

    assert f"They are an estimate ({estimated.estimate}), not exact" in text
    assert " ± " in text
    assert f"may be off by {estimated.estimate.margins.widest:g}" in text


def test_floats_have_no_histogram(tmp_path):
    import numpy as np

    np.save(tmp_path / "f.npy", np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("f4"))
    page = Page(report_page(imgnorm.measure(tmp_path / "f.npy")))

    assert "Histograms" not in page.text
    assert "of the float values as they are" in page.text
    assert "the values look normalized already" in page.text


def test_where_nothing_stands_out_the_report_says_so_if_it_looked(stats):
    for one, text in (
        (stats, "What stands out Nothing among the images."),
        (
            changed(stats, ignore_outliers=("gray",)),
            "What stands out Nothing among the images; these reasons are ignored: gray.",
        ),
    ):
        assert text in Page(report_page(one)).text
    for blind in (changed(stats, overview=None), changed(stats, ignore_outliers=("all",))):
        assert "What stands out" not in Page(report_page(blind)).text


def test_many_channels_are_pasted_on_lines_of_code(stats):
    import ast

    from imgnorm.report.page import _to_paste

    many = replace(
        stats, channels=("x",) * 13, mean=stats.mean * 4 + (0.5,), std=stats.std * 4 + (0.5,)
    )
    call = _to_paste(many)["normalize"]
    lists = [node for node in ast.walk(ast.parse(call)) if isinstance(node, ast.List)]

    assert max(map(len, call.splitlines())) <= 88
    assert [[*many.mean], [*many.std]] == [*map(ast.literal_eval, lists)]


def test_one_image_is_not_both_darkest_and_brightest(tmp_path):
    from PIL import Image

    (tmp_path / "a").mkdir()
    Image.linear_gradient("L").save(tmp_path / "a" / "a.png")
    text = Page(report_page(imgnorm.measure(tmp_path, workers=1))).text

    assert "darkest" not in text
    assert "1 image each" in text


def test_float_images_of_one_size_have_no_line_about_charts(tmp_path):
    import numpy as np

    values = np.random.default_rng(0).random((4, 8, 6, 3), dtype=np.float32)
    np.save(tmp_path / "f.npy", values + 1 / 3)
    text = Page(report_page(imgnorm.measure(tmp_path / "f.npy"))).text

    assert "Every image has 6 × 8 pixels." in text
    assert "How many images" not in text


def test_a_constant_channel_has_no_transform(tmp_path):
    from PIL import Image

    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "a.png")
    text = Page(report_page(imgnorm.measure(tmp_path, workers=1))).text

    assert "No transform: channels R, G, B are constant (std 0)" in text


def test_constants_and_empty_parts_are_refused(stats):
    for one, message in (
        (
            replace(stats, measurement=None),
            (
                "constants, written by hand, say nothing about images; measure the images with `imgnorm "
                "stats`, and report that"
            ),
        ),
        (
            Stats.of(replace(stats.measurement, images=0), "RGB", ()),
            "a part without images has no mean and std; merge it with the other parts of its source",
        ),
    ):
        with pytest.raises(IncompatibleStats) as caught:
            report_page(one)

        assert message == str(caught.value)


def test_without_jinja2_one_sentence_says_what_to_install(stats, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingDependency) as caught:
        report_page(stats)

    assert (
        "reports need jinja2, which is not installed; install it with `pip install jinja2`"
    ) == str(caught.value)


def test_the_example_in_the_docs_is_current():
    """Made again by scripts/make_report_example. Other versions of Pillow pack thumbnails into other bytes."""
    made = runpy.run_path(str(ROOT / "scripts" / "make_report_example"))["example"]()
    pixels = re.compile('src="data:[^"]*"')

    for name, text in made.items():
        shown = (ROOT / "docs" / name).read_text(encoding="utf-8")

        assert pixels.sub("", shown) == pixels.sub("", text), name
        assert len(pixels.findall(shown)) == len(pixels.findall(text))


def test_the_script_draws_where_the_charts_are():
    """page.js draws a histogram again when one zooms, in the same place."""
    from imgnorm.stats import plot

    script = (ROOT / "imgnorm" / "report" / "page.js").read_text()
    (edges,) = re.findall(r"const \[LEFT, RIGHT, TOP, BOTTOM\] = \[(.*)\];", script)

    assert f"{plot.LEFT}, {plot.RIGHT}, {plot.TOP}, {plot.BOTTOM}" == edges
