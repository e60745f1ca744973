"""Stats -> the report, one HTML page."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from imgnorm.errors import IncompatibleStats, MissingDependency, OutputError, TransformError
from imgnorm.output import write_whole
from imgnorm.pipeline.targets.torchvision import stats_module
from imgnorm.report.thumbnails import thumbnails_of
from imgnorm.stats.measurement import Measurement
from imgnorm.stats.notes import NORMALIZED
from imgnorm.stats.outliers import ALL_REASONS, CLASS
from imgnorm.stats.plot import (
    class_chart,
    differing_classes,
    drawn,
    histogram_charts,
    image_charts,
    one_size,
)
from imgnorm.stats.provenance import Provenance
from imgnorm.stats.stats import NO_IMAGES, Stats
from imgnorm.stats.table import counts_text, digits, mean_and_std, range_notes
from imgnorm.tally.overview import End
from imgnorm.tally.skipped import Skipped
from imgnorm.wording import cut, plural, printable

_CHANNELS = 64  # rows of a table; the stats file has all
_CLASSES = 1000
_SKIPPED = 2000
_SOURCES = 50
_NAME = 200  # characters of a name in a table
_WIDTH = 88  # characters of a line of code

_FILES = Path(__file__).parent

CONVENTIONS = {
    "pooled": "over all pixels of all images: what Normalize needs, so that the data get mean 0 and std 1",
    "image_weighted": "the same, but each image has the same weight, whatever its size",
    "mean_of_image_std": "the average of the images' own stds: too small, the differences between images are missing",
    "mean_of_image_std_correction_1": "the same with torch.std's default, correction 1",
}
"""What each convention is, in the words of the report."""


def write_report(
    path: str | os.PathLike[str],
    stats: Stats,
    *,
    thumbnails: bool = True,
    force: bool = True,
) -> None:
    """Write a report of a measurement: one HTML file, with all that it shows inside.

    It has mean and std by every convention, the histograms, the classes that differ most, what was skipped
    and why, where the numbers come from, and the transform to paste. The same stats give the same bytes.

    Args:
        path: its name ends in .html or .htm.
        thumbnails: show small pictures of what stands out, if the images are where the stats say.
        force: replace an existing file.

    Raises:
        IncompatibleStats: the stats are constants, or a part without images.
        MissingDependency: jinja2 is not installed.
        OutputError: its name ends otherwise, it cannot be written, or it exists and `force` is false.

    Example:
        >>> stats = imgnorm.measure("examples/shapes", per_class=True)
        >>> imgnorm.write_report("report.html", stats)
    """
    check_report(path)
    page = report_page(stats, thumbnails=thumbnails)
    write_whole(os.fspath(path), page.encode("utf-8", "backslashreplace"), force=force)


def check_report(path: str | os.PathLike[str]) -> None:
    """Check, before the work, that a report can be made and may have this name.

    Raises:
        OutputError: the name ends in neither .html nor .htm.
        MissingDependency: jinja2, which reports are made with, is not installed.
    """
    if not os.fspath(path).lower().endswith((".html", ".htm")):
        raise OutputError(f"{os.fspath(path)}: a report is an .html file; name one")
    _demand_jinja2()


def _demand_jinja2() -> None:
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "reports need jinja2, which is not installed; install it with `pip install jinja2`"
        ) from error


def report_page(stats: Stats, *, thumbnails: bool = False) -> str:
    """The text of the report, HTML.

    Raises:
        IncompatibleStats: the stats are constants, or a part without images.
        MissingDependency: jinja2 is not installed.
    """
    measured = stats.measurement
    if measured is None:
        raise IncompatibleStats(
            "constants, written by hand, say nothing about images; measure the images with `imgnorm stats`, and "
            "report that"
        )
    if not stats.images:
        raise IncompatibleStats(NO_IMAGES)
    _demand_jinja2()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FILES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "name": _name,
        "line": printable,
        "whole": "{:,}".format,
        "plural": plural,
    }
    style, script = ((_FILES / name).read_text("utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html").render(
        **_content(stats, measured),
        **_to_paste(stats),
        **_standing_out(stats, thumbnails),
        style=style,
        script=script,
        style_digest=_digest(style),
        script_digest=_digest(script),
    )


def _digest(text: str) -> str:
    """As a Content-Security-Policy names a style or a script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _content(stats: Stats, measured: Measurement) -> dict[str, Any]:
    """What the sections show, by the names of the template."""
    return {
        "title": _title(measured.source),
        "stats": stats,
        "measured": measured,
        "unit": "floats as they are" if stats.of_floats else f"0..{stats.scale} becomes 0..1",
        "channels": _channels(stats, measured),
        "conventions": _conventions(stats),
        "quantiles": list(measured.quantiles()),
        "histograms": _histograms(stats),
        "notes": _notes(stats, measured),
        "classes": _classes(stats, measured),
        "skipped": _skipped(measured.skipped),
        "facts": _facts(stats, measured),
        "image_charts": image_charts(stats),
        "one_size": stats.sizes and one_size(stats.sizes),
        "extremes": (extremes := _extremes(stats)),
        "numbers_at_ends": ", ".join(
            sorted({"size" if e.size[0] else "mean" for _, e in extremes})
        ),
    }


def _title(source: Provenance) -> str:
    """The last part of each path that the user called the data."""
    refs = [source.ref] if isinstance(source.ref, str) else source.ref
    parts = (ref.replace("\\", "/").rstrip("/").rpartition("/")[2] or ref for ref in refs)
    return cut(printable(", ".join(dict.fromkeys(parts))), 80)


@dataclass(frozen=True)
class _Rows:
    """The rows of a table, and how many there are in all."""

    rows: Sequence[Any]
    total: int

    @property
    def left_out(self) -> int:
        return self.total - len(self.rows)


def _channels(stats: Stats, measured: Measurement) -> _Rows:
    """Name, mean, std, least and greatest value, and quantiles of each channel."""
    quantiles = measured.quantiles()
    shown = range(min(_CHANNELS, len(stats.channels)))
    rows = [
        [
            stats.channels[index],
            *mean_and_std(stats, index, "±"),
            f"{stats.min[index]:g}",
            f"{stats.max[index]:g}",
            *(str(values[index]) for values in quantiles.values()),
        ]
        for index in shown
    ]
    return _Rows(rows, len(stats.channels))


def _conventions(stats: Stats) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "about": CONVENTIONS[name],
            "mean": _values(one.mean, stats),
            "std": _values(one.std, stats),
        }
        for name, one in stats.conventions.items()
    ]


def _values(values: Sequence[float], stats: Stats) -> list[str]:
    return [digits(value, stats) for value in values[:_CHANNELS]]


def _histograms(stats: Stats) -> list[dict[str, Any]]:
    """Charts, and what the script needs to draw them again."""
    return [
        {
            "chart": chart,
            "counts": ",".join(map(str, bins.counts)),
            "width": bins.width,
            "last": len(bins.counts) * bins.width - 1,
            "mean": stats.mean[index] * stats.scale,
            "std": stats.std[index] * stats.scale,
        }
        for index, (chart, bins) in enumerate(
            zip(histogram_charts(stats), drawn(stats), strict=True)
        )
    ]


def _notes(stats: Stats, measured: Measurement) -> list[str]:
    about_values = [NORMALIZED] if stats.looks_normalized else []
    about_values += range_notes(stats)
    return [*about_values, *measured.source.incomplete, *map(str, stats.notes)]


def _classes(stats: Stats, measured: Measurement) -> dict[str, Any] | None:
    """The classes that differ most first; those without a mean by their number of images."""
    if not measured.classes:
        return None
    images = [one.images for one in measured.classes.values()]
    found = {"number": len(images), "fewest": min(images), "most": max(images)}
    if differing := differing_classes(stats):
        rows = [
            (one, _values(one.mean, stats), _values(one.std, stats)) for one in differing[:_CLASSES]
        ]
        return found | {
            "charts": [class_chart(stats, differing, width) for width in (680, 340)],
            "rows": _Rows(rows, len(differing)),
        }
    counts = sorted(measured.classes.items(), key=lambda one: (-one[1].images, one[0]))
    return found | {"charts": [], "rows": _Rows(counts[:_CLASSES], len(counts))}


def _extremes(stats: Stats) -> list[tuple[str, End]]:
    """The images at the ends: what they are, and the first of them."""
    sizes, means = stats.sizes, stats.image_means
    pairs: list[tuple[str, str, tuple[End, ...], tuple[End, ...]]] = []
    if means:
        pairs.append(("darkest", "brightest", means.lowest, means.highest))
    if sizes:
        pairs.append(("fewest pixels", "most pixels", sizes.smallest, sizes.largest))
        pairs.append(("tallest", "widest", sizes.tallest, sizes.widest))
    return [
        row
        for low, high, lowest, highest in pairs
        if lowest and lowest[0].value != highest[0].value  # else it is the same image, or all are
        for row in ((low, lowest[0]), (high, highest[0]))
    ]


def _standing_out(stats: Stats, thumbnails: bool) -> dict[str, Any]:
    """What stands out, with pictures of the examples that are there."""
    names = {name for one in stats.outliers if one.reason != CLASS for name in one.examples}
    found = thumbnails_of(stats, names) if thumbnails and names else {}
    pictures = [
        [(name, found[name]) for name in one.examples if name in found] for one in stats.outliers
    ]
    ignored = stats.measurement.ignore_outliers if stats.measurement else ()
    return {
        "outliers": list(zip(stats.outliers, pictures, strict=True)),
        "looked": stats.image_means is not None and ALL_REASONS not in ignored,
        "ignored_reasons": ", ".join(ignored),
    }


def _skipped(skipped: Sequence[Skipped]) -> dict[str, Any]:
    """How many for each reason, and the first of each."""
    reasons = Counter(one.reason.value for one in skipped)
    most = max(1, _SKIPPED // max(1, len(reasons)))
    seen: Counter[str] = Counter()
    rows = []
    for one in skipped:
        seen[one.reason.value] += 1
        if seen[one.reason.value] <= most:
            rows.append(one)
    by_number = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    return {"reasons": by_number, "rows": _Rows(rows, len(skipped))}


def _facts(stats: Stats, measured: Measurement) -> list[tuple[str, str]]:
    """Where the numbers come from, a line each."""
    facts: list[tuple[str, str]] = []
    sources = measured.source.sources
    for source in sources[:_SOURCES]:
        facts += _facts_of(source, len(sources) > 1)
    if len(sources) > _SOURCES:
        facts.append(("sources", f"and {len(sources) - _SOURCES:,} more, in the stats file"))
    facts.append(("image modes", counts_text(measured.modes)))
    facts.append(("formats", counts_text(measured.formats)))
    if measured.ignored:
        facts.append(("ignored", counts_text(measured.ignored)))
    decoders = (f"{name} by {decoder}" for name, decoder in sorted(measured.decoders.items()))
    facts += [("decoders", ", ".join(decoders))] * bool(measured.decoders)
    if stats.preprocess:
        facts.append(("preprocessing", ", ".join(map(repr, stats.preprocess))))
    if estimate := stats.estimate:
        facts.append(("estimate", str(estimate)))
        facts.append(("may be off by", f"{estimate.margins.widest:g}, any mean and std"))
        facts.append(("seed", str(estimate.seed)))
    return facts


def _facts_of(source: Provenance, several: bool) -> Iterator[tuple[str, str]]:
    options = "".join(
        f", {key} {' '.join(value) if isinstance(value, tuple) else value}"
        for key, value in source.options.items()
    )
    images = f", {source.images:,} images" if several else ""
    yield "source", _name(f"{source.kind} {source.called}{options}") + images
    if source.shards:
        yield "shards", str(source.shards)
    if source.listing_sha256:
        yield "names found, SHA-256", source.listing_sha256
    yield "names counted, SHA-256", source.names_sha256


def _to_paste(stats: Stats) -> dict[str, str]:
    """The call of Normalize and the module of `imgnorm emit`; or why there is none."""
    try:
        module = stats_module(stats, api="v2" if stats.scale == 65535 else "v1", stats_path=None)
    except TransformError as error:
        return {"normalize": "", "module": "", "no_transform": str(error)}
    return {
        "normalize": f"transforms.Normalize(\n{_argument('mean', stats.mean)}\n{_argument('std', stats.std)}\n)",
        "module": module,
        "no_transform": "",
    }


def _argument(name: str, values: Sequence[float]) -> str:
    """An argument of Normalize: on one line, or on as many as its values take."""
    line = f"    {name}={list(values)!r},"
    if len(line) <= _WIDTH:
        return line
    joined = f"{', '.join(map(repr, values))},"
    inner = fill(joined, _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return f"    {name}=[\n{inner}\n    ],"


def _name(text: str) -> str:
    """A stranger's text, on one line, and not longer than a table bears."""
    return cut(printable(text), _NAME)
