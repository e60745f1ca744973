"""Charts: valid SVG, with the heights and places that follow from the counts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

import imgnorm
from imgnorm import Stats
from imgnorm.stats.plot import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Heights,
    class_chart,
    differing_classes,
    drawn,
)

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def stats() -> Stats:
    return imgnorm.measure(ROOT / "examples" / "shapes", per_class=True, workers=1)


def areas(svg: str) -> list[list[float]]:
    """The heights of the steps of each histogram, from 0 to 1."""
    paths = [path.get("d", "") for path in ElementTree.fromstring(svg).iter(f"{SVG}path")]
    steps = [re.findall(r"V([\d.]+)H", path) for path in paths]
    return [[(BOTTOM - float(y)) / (BOTTOM - TOP) for y in one] for one in steps]


@pytest.mark.parametrize("log", [False, True])
def test_a_histogram_is_as_high_as_its_counts(stats, log):
    import math

    histogram = stats.measurement.histogram.counts
    total = sum(histogram[0])
    most = max(max(counts if log else counts[1:-1]) for counts in histogram) / total
    low = math.floor(math.log10(min(n for counts in histogram for n in counts if n) / total))

    for counts, heights in zip(histogram, areas(stats.plot(log=log).svg), strict=True):
        for count, height in zip(counts, heights, strict=True):
            part = count / total
            expected = min(1, part / most)
            if log:
                height_of = (math.log10(part) - low) / (math.log10(most) - low) if part else 0
                expected = max(0, height_of)

            assert abs(expected - height) < 0.001  # SVG has one decimal of 148 pixels


def test_16_bit_histograms_end_at_the_greatest_value(tmp_path):
    import numpy as np

    values = np.arange(4238, dtype=np.uint16).reshape(1, 2, 2119)
    np.save(tmp_path / "deep.npy", values)
    (bins,) = drawn(imgnorm.measure(tmp_path / "deep.npy", layout="NHW"))

    assert 8 == bins.width
    assert (8,) * 529 + (6,) == bins.counts


@pytest.mark.parametrize("width", [340, 680])
def test_long_names_of_classes_are_cut_at_their_end(stats, width):
    names = ("W" * 90, "n01440764_Tinca_tinca_and_all_of_its_friends_by_the_long_river", "大" * 60)
    classes = [
        replace(one, name=name) for one, name in zip(differing_classes(stats), names, strict=True)
    ]
    texts = list(ElementTree.fromstring(class_chart(stats, classes, width)).iter(f"{SVG}text"))
    shown = [one for one in texts if (one.text or "").endswith("…")]

    assert 3 == len(shown)
    for name, one in zip(names, shown, strict=True):
        room = width if one.get("text-anchor") == "start" else float(one.get("x"))
        widest = 12 if name[0] == "大" else 11 if name[0] == "W" else 6
        assert name.startswith(one.text[:-1])
        assert widest * len(one.text) <= room * 1.1


def test_the_line_of_the_mean_is_at_the_mean(stats):
    lines = ElementTree.fromstring(stats.plot().svg).iter(f"{SVG}line")
    places = [float(line.get("x1")) for line in lines if line.get("class") == "mean"]
    means = [((place - LEFT) / (RIGHT - LEFT) * 256 - 0.5) / 255 for place in places]

    assert [round(mean, 2) for mean in stats.mean] == [round(mean, 2) for mean in means]


def test_ticks_are_round_numbers():
    assert [0, 0.05, 0.1] == Heights(0.01, 0.12, False).ticks()
    assert [1e-3, 1e-2, 1e-1] == Heights(0.002, 0.12, True).ticks()


def test_the_classes_that_differ_most_come_first(stats):
    texts = [
        one.text for one in ElementTree.fromstring(stats.plot("classes").svg).iter(f"{SVG}text")
    ]

    assert ["triangle", "0.47 std", "square", "0.40 std", "circle", "0.10 std"] == [
        text for text in texts if text in stats.measurement.classes or text.endswith(" std")
    ]


def test_the_bars_of_sizes_are_as_high_as_the_images_are_many(stats):
    *_, width, height, aspect = ElementTree.fromstring(stats.plot("images").svg).findall(
        f"{SVG}svg"
    )
    distributions = (stats.sizes.width, stats.sizes.height, stats.sizes.aspect)
    for panel, distribution in zip((width, height, aspect), distributions, strict=True):
        bars = [r for r in panel.iter(f"{SVG}rect") if r.get("class", "").startswith("area")]
        tall = [float(bar.get("height")) / (BOTTOM - TOP) for bar in bars]
        most = max(distribution.images)

        assert [images / most for images in distribution.images] == pytest.approx(tall, abs=0.001)
        assert 24 == sum(distribution.images)


def test_a_notebook_shows_the_chart_that_is_saved(stats, tmp_path):
    chart = stats.plot()
    chart.save(tmp_path / "chart.svg")

    assert chart._repr_svg_() == (tmp_path / "chart.svg").read_text()


def test_what_cannot_be_drawn_is_refused(stats):
    constants = Stats(("L",), (0.5,), (0.25,))
    for draw, message in (
        (constants.plot, "only 8- and 16-bit images that were measured have a histogram"),
        (lambda: constants.plot("classes"), "no class has a mean; measure with per_class=True"),
        (
            lambda: stats.plot("class"),
            "kind is 'class'; expected 'histograms', 'images' or 'classes'",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            draw()
