"""Stats -> charts: the histograms of the channels, and the classes that differ most. They are plain SVG.

A chart is the same in a notebook, in a paper and in the page of `imgnorm report`, whose style sheet recolors
it for dark screens. Texts are escaped; no chart has a style or a script of its own.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING, Literal
from unicodedata import east_asian_width

from imgnorm.output import write_whole
from imgnorm.stats.table import digits
from imgnorm.tally.histogram import Histogram
from imgnorm.wording import printable

if TYPE_CHECKING:
    from imgnorm.stats.stats import Stats
    from imgnorm.tally.overview import Distribution, Sizes

_BINS = 1024  # the most that are drawn; 8-bit images have 256
_CHANNELS = 24  # the most that are drawn
_CLASSES = 20  # the most that are drawn
_WIDE = 500  # from here on, the names of classes have room beside their rows

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 328, 28, 176
"""A histogram's size, and the edges of its plot area: the report's script draws in them, too."""

_INK, _FAINT, _GRID, _BAND = "#1f2328", "#59636e", "#d1d9e0", "#e6eaef"
_HUES = {"R": "r", "G": "g", "B": "b", "L": "l", "I": "l", "F": "l"}  # of other channels: 0 to 3
_COLORS = {
    "r": "#cf222e",
    "g": "#1a7f37",
    "b": "#0969da",
    "l": "#59636e",
    "0": "#8250df",
    "1": "#0e7490",
    "2": "#9a6700",
    "3": "#bf3989",
}
_MARKS = (  # of the channels: a circle, a square, a diamond; from the middle
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "m-3.5 -3.5h7v7h-7z",
    "m0 -4.8l4.8 4.8l-4.8 4.8l-4.8 -4.8z",
)


@dataclass(frozen=True)
class Chart:
    """A picture of stats, which a notebook shows.

    Example:
        >>> chart = imgnorm.measure("examples/shapes").plot()
        >>> chart.save("histograms.svg")
        >>> chart.svg[:4]
        '<svg'
    """

    svg: str = field(repr=False)

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an SVG file, as browsers, Inkscape and LaTeX's `svg` package read it.

        Raises:
            OutputError: it cannot be written.
        """
        write_whole(os.fspath(path), self.svg.encode())


@dataclass(frozen=True)
class Bins:
    """The histogram of one channel, as it is drawn."""

    counts: tuple[int, ...]
    width: int  # pixel values in each


@dataclass(frozen=True)
class Heights:
    """The vertical axis of histograms: the part of a channel's pixels that a bin has, from 0 to 1."""

    least: float  # of the bins that are not empty
    most: float
    log: bool

    def y(self, part: float) -> float:
        low = math.floor(math.log10(self.least))
        if not self.log:
            height = part / self.most
        elif part:
            height = (math.log10(part) - low) / (math.log10(self.most) - low or 1)
        else:
            height = 0
        return BOTTOM - (BOTTOM - TOP) * min(1.0, max(0.0, height))

    def ticks(self) -> list[float]:
        if not self.log:
            return _steps(0, self.most, 4)
        low, high = math.floor(math.log10(self.least)), math.floor(math.log10(self.most))
        every = (high - low) // 5 + 1
        return [10.0**power for power in range(low, high + 1) if not (high - power) % every]


def chart_of(stats: Stats, kind: Literal["histograms", "images", "classes"], *, log: bool) -> Chart:
    """What `Stats.plot` returns.

    Raises:
        ValueError: the stats do not have what is to be drawn.
    """
    if kind == "histograms":
        if not drawn(stats):
            raise ValueError("only 8- and 16-bit images that were measured have a histogram")
        return Chart(_beside_each_other(histogram_charts(stats, log=log)))
    if kind == "images":
        charts = image_charts(stats)
        if not charts:
            raise ValueError(
                "only images that were all measured, not sampled, have means and sizes of their own"
            )
        return Chart(_beside_each_other(charts))
    if kind == "classes":
        classes = differing_classes(stats)
        if not classes:
            raise ValueError("no class has a mean; measure with per_class=True")
        return Chart(class_chart(stats, classes))
    raise ValueError(f"kind is {kind!r}; expected 'histograms', 'images' or 'classes'")


# Histograms


def drawn(stats: Stats) -> list[Bins]:
    """The histograms of the first 24 channels; none of floats and constants."""
    histogram = stats.measurement and stats.measurement.histogram
    if not histogram or not stats.images:
        return []
    shown = Histogram(histogram.counts[:_CHANNELS])
    values = 256 if shown.bins == 256 else max(256, max(shown.maximum()) + 1)
    width = 1
    while values > width * _BINS:
        width *= 2
    bins = -(-values // width)
    return [
        Bins(tuple(sum(counts[i * width : (i + 1) * width]) for i in range(bins)), width)
        for counts in shown.counts
    ]


def histogram_charts(stats: Stats, *, log: bool = False) -> list[str]:
    """The histograms that are `drawn`, as SVG. All have the same axes."""
    every = drawn(stats)
    return [_histogram_chart(stats, every, channel, log) for channel in range(len(every))]


def _histogram_chart(stats: Stats, every: Sequence[Bins], channel: int, log: bool) -> str:
    bins, name = every[channel], printable(stats.channels[channel])
    total = sum(bins.counts)
    most = _highest(every, log) / total
    least = min(min(filter(None, one.counts)) for one in every) / total
    heights = Heights(least, most, log)
    values = len(bins.counts) * bins.width

    def x(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (value + 0.5) / values

    mean, std = stats.mean[channel] * stats.scale, stats.std[channel] * stats.scale
    low, high = x(max(-0.5, mean - std)), x(min(values - 0.5, mean + std))
    numbers = f"mean {digits(stats.mean[channel], stats)}, std {digits(stats.std[channel], stats)}"
    hue = _hue(name, channel)
    ends = [
        (LEFT + 5, "start", bins.counts[0] / total),
        (RIGHT - 5, "end", bins.counts[-1] / total),
    ]
    cut_off = [
        _text(place, TOP + 10, f"↑ {_percent(part)}", _INK, anchor=anchor, size=10)
        for place, anchor, part in ends
        if part > most
    ]
    steps = "".join(
        f"V{heights.y(count / total):.1f}H{x((index + 1) * bins.width - 0.5):.1f}"
        for index, count in enumerate(bins.counts)
    )
    parts = [
        _text(LEFT, 16, name, _INK, size=13, weight=600),
        _text(RIGHT, 16, numbers, _FAINT, anchor="end"),
        f'<rect class="band" x="{low:.1f}" y="{TOP}" width="{high - low:.1f}" height="{BOTTOM - TOP}" fill="{_BAND}"/>',
        _group("rows", [_row_tick(heights.y(part), _percent(part)) for part in heights.ticks()]),
        f'<path class="area hue-{hue}" fill="{_COLORS[hue]}" d="M{LEFT} {BOTTOM}{steps}V{BOTTOM}Z"/>',
        f'<line class="mean" x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="{TOP}" y2="{BOTTOM}" stroke="{_INK}" stroke-width="1.5"/>',
        _group("cut-off", cut_off),
        _group("columns", [_tick(x(v), BOTTOM, f"{v:,.0f}") for v in _steps(0, values - 1, 6)]),
    ]
    return _svg(WIDTH, HEIGHT, f"Histogram of channel {name}: {numbers}", parts)


def _highest(every: Sequence[Bins], log: bool) -> int:
    """The count at the top of the axis.

    On a linear one the first and the last value do not decide it, which in most images are many: those that
    were too dark or too bright for the camera. Where they are higher, the chart says how high.
    """
    inner = max(max(bins.counts[1:-1]) for bins in every)
    return inner if inner and not log else max(max(bins.counts) for bins in every)


def _percent(part: float) -> str:
    return f"{100 * part:.3g} %"


def _row_tick(y: float, text: str) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}" stroke-width="0.5"/>'
    return line + _text(LEFT - 6, y + 3.5, text, _FAINT, anchor="end", size=10)


def _tick(x: float, y: float, text: str) -> str:
    """A number below an axis."""
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 4}" stroke="{_GRID}"/>'
    return line + _text(x, y + 16, text, _FAINT, anchor="middle", size=10)


# Images


def image_charts(stats: Stats) -> list[str]:
    """How many images have which mean, width, height and ratio of both, as SVG; those that are known."""
    charts = []
    if stats.image_means:
        values = len(drawn(stats)[0].counts) * drawn(stats)[0].width
        charts.append(_means_chart(stats.image_means.raw, values, stats.scale))
    sizes = stats.sizes
    if sizes and one_size(sizes) is None:
        charts += [
            _sizes_chart(title, distribution)
            for title, distribution in (
                ("width", sizes.width),
                ("height", sizes.height),
                ("width / height", sizes.aspect),
            )
        ]
    return charts


def one_size(sizes: Sizes) -> tuple[int, int] | None:
    """Width and height, if all images have the same."""
    ends = {end.size for end in (*sizes.smallest, *sizes.tallest)}
    return ends.pop() if len(ends) == 1 else None


def _means_chart(means: Distribution, values: int, scale: int) -> str:
    width = max(1, values // 64 // means.step) * means.step
    images: Counter[int] = Counter()
    for start, number in zip(means.starts, means.images, strict=True):
        images[int(start) // width * width] += number

    def x(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * value / values

    bars = [(x(start), x(min(start + width, values)), number) for start, number in images.items()]
    ticks = [(x(part * scale), f"{part:g}") for part in _steps(0, (values - 1) / scale, 5)]
    return _bars("mean", bars, ticks)


def _sizes_chart(title: str, sizes: Distribution) -> str:
    """Sizes are on a logarithmic axis, as their ranges are."""
    least, greatest = math.log2(sizes.starts[0]), math.log2(sizes.stops[-1])
    margin = max(0.0, 1 - (greatest - least)) / 2  # at least a factor of two is shown
    least, greatest = least - margin, greatest + margin
    first, last = 2**least, 2**greatest

    def x(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (math.log2(value) - least) / (greatest - least)

    bars = [
        (x(start), x(stop), number)
        for start, stop, number in zip(sizes.starts, sizes.stops, sizes.images, strict=True)
    ]
    round_numbers = [digit * 10.0**power for power in range(-5, 10) for digit in (1, 2, 5)]
    inside = [number for number in round_numbers if first <= number <= last]
    if len(inside) < 3:
        inside = _steps(first, last, 4)
    ticks = [(x(number), f"{number:g}") for number in inside[:: len(inside) // 8 + 1]]
    return _bars(title, bars, ticks)


def _bars(
    title: str, bars: Sequence[tuple[float, float, int]], ticks: Sequence[tuple[float, str]]
) -> str:
    """
    Args:
        bars: from where to where, and how many images.
        ticks: where, and what is written there.
    """
    most = max(images for _, _, images in bars)

    def y(images: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * images / most

    counts = [images for images in _steps(0, most, 4) if images == int(images)]
    parts = [
        _text(LEFT, 16, title, _INK, size=13, weight=600),
        _text(RIGHT, 16, "images", _FAINT, anchor="end"),
        _group("rows", [_row_tick(y(images), f"{images:,.0f}") for images in counts]),
        *(
            f'<rect class="area hue-l" fill="{_COLORS["l"]}" x="{start:.1f}" y="{y(images):.1f}" width="{max(1.0, stop - start - 0.5):.1f}" height="{BOTTOM - y(images):.1f}"/>'
            for start, stop, images in bars
        ),
        _group("columns", [_tick(place, BOTTOM, text) for place, text in ticks]),
    ]
    return _svg(WIDTH, HEIGHT, f"How many images have which {title}", parts)


# Classes


@dataclass(frozen=True)
class DifferingClass:
    """A class, and how far its mean is from that of all images."""

    name: str
    images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    distance: float
    """The largest of any channel, in stds of all pixels: |mean of the class - mean| / std."""


def differing_classes(stats: Stats) -> list[DifferingClass]:
    """The classes that have a mean, the one that differs most from all images first."""
    classes = [
        DifferingClass(name, one.images, one.mean, one.std, _distance(one.mean, stats))
        for name, one in stats.classes.items()
        if one.mean and one.std
    ]
    return sorted(classes, key=lambda one: (-one.distance, one.name))


def _distance(mean: Sequence[float], stats: Stats) -> float:
    distances = (
        abs(of_class - of_all) / std
        for of_class, of_all, std in zip(mean, stats.mean, stats.std, strict=True)
        if std
    )
    return max(distances, default=0.0)


def class_chart(stats: Stats, differing: Sequence[DifferingClass], width: int = 680) -> str:
    """The means of the first of these classes, as SVG: a row for each, a mark for each channel."""
    classes = differing[:_CLASSES]
    hues = [_hue(name, index) for index, name in enumerate(stats.channels)][:_CHANNELS]
    marked = [
        f"{name} {mark}"
        for name, mark in zip(map(printable, stats.channels[:3]), "●■◆", strict=False)
    ]
    every = [value for one in classes for value in one.mean] + list(stats.mean)
    least, greatest = min(every), max(every)
    around = 0.04 * (greatest - least) or 0.01
    least, greatest = least - around, greatest + around
    above = width < _WIDE  # names stand above their rows, else beside them
    left, right, top, step = (
        10 if above else round(width * 0.3),
        width - 66,
        28,
        36 if above else 22,
    )
    bottom = top + step * len(classes)

    def x(value: float) -> float:
        return left + (right - left) * (value - least) / (greatest - least)

    parts = [
        _text(4, 14, f"mean of {', '.join(marked)}; dashed: all images", _FAINT, size=10),
        _text(width - 4, 14, "differs by", _FAINT, anchor="end", size=10),
        *(
            f'<line class="all hue-{hue}" x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="{top}" y2="{bottom}" stroke="{_COLORS[hue]}" stroke-dasharray="3 3"/>'
            for hue, mean in zip(hues, stats.mean, strict=False)
        ),
    ]
    for index, one in enumerate(classes):
        y = top + step * index + (25 if above else step / 2)
        low, high = x(min(one.mean)), x(max(one.mean))
        name = _fitting(printable(one.name), width - 8 if above else left - 14)
        parts += [
            _text(4, y - 11, name, _INK)
            if above
            else _text(left - 10, y + 4, name, _INK, anchor="end"),
            f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}" stroke="{_GRID}" stroke-width="0.5"/>',
            f'<line class="span" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{_GRID}" stroke-width="3"/>',
            *(
                f'<path class="area hue-{hue}" fill="{_COLORS[hue]}" d="M{x(mean):.1f} {y}{_MARKS[place % 3]}"/>'
                for place, (hue, mean) in enumerate(zip(hues, one.mean, strict=False))
            ),
            _text(width - 4, y + 4, f"{one.distance:.2f} std", _FAINT, anchor="end"),
        ]
    ticks = [
        _tick(x(value), bottom, f"{value:.10g}") for value in _steps(least, greatest, width // 110)
    ]
    title = f"Mean of the {len(classes)} classes that differ most, per channel"
    return _svg(width, bottom + 24, title, [*parts, *ticks])


# SVG


def _hue(channel: str, index: int) -> str:
    return _HUES.get(channel) or str(index % 4)


def _steps(least: float, greatest: float, about: int) -> list[float]:
    """Round numbers from `least` to `greatest`, about so many: steps of 1, 2 or 5 times a power of ten."""
    rough = (greatest - least) / about or 1
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(least / step - 1e-9), math.floor(greatest / step + 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}" '
        f'font-family="system-ui, sans-serif">'
        f'<rect class="paper" width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def _beside_each_other(panels: Sequence[str]) -> str:
    """Panels in rows of three."""
    columns = min(3, len(panels))
    placed = [
        panel.replace("<svg ", f'<svg x="{index % 3 * WIDTH}" y="{index // 3 * HEIGHT}" ', 1)
        for index, panel in enumerate(panels)
    ]
    rows = -(-len(panels) // 3)
    return _svg(columns * WIDTH, rows * HEIGHT, "Histograms of the channels", placed)


def _group(name: str, parts: Sequence[str]) -> str:
    return f'<g class="{name}">{"".join(parts)}</g>'


def _fitting(text: str, width: float) -> str:
    """A text of 11 px, cut where it would be wider than this; letters are taken for wide ones."""
    for end, right in enumerate(accumulate(map(_letter_width, text))):
        if right > width:
            return f"{text[: max(0, end - 2)]}…"
    return text


def _letter_width(letter: str) -> float:
    if east_asian_width(letter) in "WF":
        return 12
    return 10 if letter in "mwMW@%" else 8.5 if letter.isupper() else 6.5


def _text(
    x: float,
    y: float,
    text: str,
    fill: str,
    *,
    anchor: str = "start",
    size: int = 11,
    weight: int = 400,
) -> str:
    kind = "ink" if fill == _INK else "faint"
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}" '
        f'font-size="{size}" font-weight="{weight}">{escape(text)}</text>'
    )
