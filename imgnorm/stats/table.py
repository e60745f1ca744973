"""Stats -> the table on the screen."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imgnorm.stats.measurement import Measurement
from imgnorm.stats.notes import NORMALIZED
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.skipped import Skipped
from imgnorm.tally.tally import DIVIDED
from imgnorm.wording import plural, printable, shown

if TYPE_CHECKING:
    from imgnorm.stats.stats import Stats

_BLOCKS = " ▁▂▃▄▅▆▇█"
_BLOCKS_ASCII = " .:-=+*#@"
_BINS = 32
_NUMBER = re.compile(r"|-?(?:[\d,]+(?:\.\d+)?(?:e[+-]\d+)?|inf)|nan")
_LISTED = 20  # skipped names on the screen; all of them are in the stats file and in --rejects


def table(
    stats: Stats, *, unicode: bool = True, verbose: bool = False, columns: int | None = None
) -> str:
    """The numbers per channel, and what they were measured from.

    Args:
        unicode: draw with block characters, not with ASCII.
        verbose: add the other conventions and the quantiles, and list all skipped inputs.
        columns: how wide the terminal is; histograms are shortened or left out to fit. None: any width.
    """
    measured = stats.measurement
    if measured and not measured.images:
        return "\n".join(_without_images(measured, verbose=verbose))
    histogram = measured and measured.histogram and without_empty_end(measured.histogram)
    rows = [["", "mean", "std"]]
    rows[0] += ["min", "max"] if measured else []
    least, greatest = stats.min, stats.max
    for index, name in enumerate(stats.channels):
        row = [name, *mean_and_std(stats, index, "±" if unicode else "+/-")]
        if measured:
            row += [f"{least[index]:g}", f"{greatest[index]:g}"]
        rows.append(row)
    if histogram:
        whole = histogram.bins == stats.scale + 1
        title = "histogram" if whole else f"histogram, 0 to {histogram.bins - 1}"
        room = _BINS if columns is None else columns - 2 - max(map(len, aligned(rows)))
        bins = next((n for n in (_BINS, _BINS // 2, _BINS // 4) if n <= room), 0)
        if bins and (columns is None or len(title) <= room):
            drawn = [title, *_drawings(histogram, bins, unicode)]
            rows = [[*row, cell] for row, cell in zip(rows, drawn, strict=True)]
    lines = aligned(rows)
    if stats.estimate:
        lines.append(f"{' ' * (max(map(len, stats.channels)) + 2)}({stats.estimate})")
    if not measured:
        return "\n".join([*lines, "", "constants, written by hand"])
    lines.append("")
    lines += _provenance(stats, measured)
    lines += _classes(stats, measured)
    if verbose:
        lines += _conventions(stats) + _quantiles(stats, measured)
        lines += [""] if measured.skipped else []
    lines += skipped_lines(measured.skipped, verbose=verbose)
    if verbose:
        lines += _ends(stats)
    lines += [f"outliers {one}" for one in stats.outliers]
    return "\n".join(lines)


def in_two_lines(stats: Stats) -> str:
    """What was measured, and the numbers of the first four channels: two lines."""
    measured = stats.measurement
    what = "constants" if measured is None else plural(measured.images, "image")
    if measured:
        sources = measured.source.sources
        several = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
        what = f"of {sources[0].kind} {sources[0].called!r}{several}: {what}"
    if stats.pixels:
        what += f", {plural(stats.pixels, 'pixel')}"
    what += f", mode {stats.mode}" if stats.mode else ""
    what += ", an estimate" if stats.estimate else ""
    if not stats.mean:
        return f"<Stats {what}\n without mean and std>"
    few = slice(0, 4)
    more = f" ... of {len(stats.mean)} channels" if len(stats.mean) > 4 else ""
    return f"<Stats {what}\n mean {_row(stats.mean[few], stats)}  std {_row(stats.std[few], stats)}{more}>"


def found_line(images: int, skipped: Sequence[Skipped], ignored: Mapping[str, int]) -> str:
    """How many inputs were found, counted, skipped and ignored."""
    reasons, rules = counts_text(_by_reason(skipped)), counts_text(ignored)
    passed_over = sum(ignored.values())
    return (
        f"found    {images + len(skipped) + passed_over:,} = {images:,} counted"
        f" + {len(skipped):,} skipped{f' ({reasons})' if reasons else ''}"
        f" + {passed_over:,} ignored{f' ({rules})' if rules else ''}"
    )


def skipped_lines(skipped: Sequence[Skipped], *, verbose: bool) -> list[str]:
    """Skipped inputs with their reasons: the first few, or all if `verbose`."""
    lines = [
        f"skipped  {shown(s.name)}: {s.reason}{f' ({printable(s.detail)})' if s.detail else ''}"
        for s in skipped[: None if verbose else _LISTED]
    ]
    if len(lines) < len(skipped):
        lines.append(f"skipped  and {len(skipped) - len(lines):,} more (-v lists them all)")
    return lines


def with_margin(value: float, margin: float, sign: str) -> str:
    """ "0.4914 ± 0.0019": the margin rounded up, with at least two significant digits."""
    digits = max(4, 1 - math.floor(math.log10(margin))) if margin else 4
    shown = math.ceil(margin * 10**digits - 1e-6) / 10**digits
    return f"{value:.{digits}f} {sign} {shown:.{digits}f}"


def in_digits(value: float) -> str:
    """A mean or std in [0, 1] with four decimals, with more where these are fewer than three digits.

    Example:
        >>> in_digits(0.25), in_digits(0.00321)
        ('0.2500', '0.00321')
    """
    return f"{value:.{max(4, 2 - math.floor(math.log10(abs(value)))) if value else 4}f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns below their titles: text aligned to the left, numbers at their points, to the right.

    Example:
        >>> print(*aligned([["", "mean"], ["R", "-0.25"], ["G", "1.5"]]), sep="\\n")
            mean
        R  -0.25
        G   1.5
    """
    names, *others = zip(*rows, strict=True)
    columns = [_to_the_left(names), *map(_padded, others)]
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def _without_images(measured: Measurement, *, verbose: bool) -> list[str]:
    parts = (f"{source.shards} of {source.called!r}" for source in measured.source.sources)
    return [
        f"0 images: {'; '.join(parts)}",
        "",
        found_line(0, measured.skipped, measured.ignored),
        *skipped_lines(measured.skipped, verbose=verbose),
    ]


def mean_and_std(stats: Stats, channel: int, sign: str) -> list[str]:
    """The mean and the std of one channel, each with its margin if they are estimates."""
    values = stats.mean[channel], stats.std[channel]
    if stats.estimate is None:
        return [digits(value, stats) for value in values]
    margins = stats.estimate.margins
    return [
        with_margin(value, margin, sign)
        for value, margin in zip(values, (margins.mean[channel], margins.std[channel]), strict=True)
    ]


def _provenance(stats: Stats, measured: Measurement) -> list[str]:
    unit = "floats as they are" if stats.of_floats else f"0..{stats.scale} becomes 0..1"
    lines = [
        f"images   {measured.images:,} ({counts_text(measured.modes)}; {counts_text(measured.formats)})",
        f"pixels   {stats.pixels:,} in mode {stats.mode}; {unit}",
    ]
    lines += [f"range    {one}" for one in range_notes(stats)]
    if DIVIDED in measured.formats:
        lines.append(
            f"values   {plural(measured.formats[DIVIDED], 'image')} came as floats, every value k/255: counted as the "
            "8-bit images that they come from"
        )
    if stats.looks_normalized:
        lines.append(f"note     {NORMALIZED}")
    if stats.preprocess:
        lines.append("after    " + ", ".join(map(repr, stats.preprocess)))
    if measured.estimate:
        estimate = measured.estimate
        lines.append(
            f"estimate --tolerance {estimate.tolerance!r} --confidence {estimate.confidence!r} "
            f"--seed {estimate.seed} --sizes {estimate.sizes}"
        )
    lines.append(found_line(measured.images, measured.skipped, measured.ignored))
    lines += [f"partial  {part}" for part in measured.source.incomplete]
    lines += [f"note     {one}" for one in stats.notes]
    return lines


def range_notes(stats: Stats) -> list[str]:
    """A note about floats outside [0, 1], for networks that get other images."""
    if not stats.of_floats or (min(stats.min) >= 0 and max(stats.max) <= 1):
        return []
    note = (
        f"{min(stats.min):g} to {max(stats.max):g}, not [0, 1]: mean and std are for these values; if the "
        "network gets others, such as those of ToTensor, measure them"
    )
    return [note]


def _classes(stats: Stats, measured: Measurement) -> list[str]:
    if not measured.classes:
        return []
    if all(one.moments is None for one in measured.classes.values()):
        shown = [f"{one.images:,} {printable(name)}" for name, one in measured.classes.items()]
        more = f", and {len(shown) - 10} more" if len(shown) > 10 else ""
        return [f"classes  {len(shown)}: {', '.join(shown[:10])}{more}"]
    rows = [["class", "images", "mean", "std"]]
    for name, one in stats.classes.items():
        if one.mean and one.std:
            numbers = _row(one.mean, stats), _row(one.std, stats)
            rows.append([printable(name), f"{one.images:,}", *numbers])
    return ["", *aligned(rows)]


def _ends(stats: Stats) -> list[str]:
    """The smallest and the largest image, and those of the lowest and the highest mean."""
    lines = []
    if sizes := stats.sizes:
        for title, (end, *_) in (("smallest", sizes.smallest), ("largest ", sizes.largest)):
            lines.append(f"{title} {end.size[0]} x {end.size[1]} ({shown(end.name)})")
    if means := stats.image_means:
        for title, (end, *_) in (("lowest  ", means.lowest), ("highest ", means.highest)):
            lines.append(f"{title} mean {digits(end.value, stats)} ({shown(end.name)})")
    return lines


def _conventions(stats: Stats) -> list[str]:
    rows = [["convention", "mean", "std"]]
    for name, convention in stats.conventions.items():
        rows.append([name, _row(convention.mean, stats), _row(convention.std, stats)])
    return ["", *aligned(rows)]


def _quantiles(stats: Stats, measured: Measurement) -> list[str]:
    quantiles = measured.quantiles()
    if not quantiles:
        return []
    rows = [["", *quantiles]]
    for index, name in enumerate(stats.channels):
        rows.append([name, *(str(values[index]) for values in quantiles.values())])
    return ["", *aligned(rows)]


def _row(values: Sequence[float], stats: Stats) -> str:
    return " ".join(digits(value, stats) for value in values)


def digits(value: float, stats: Stats) -> str:
    return f"{value:.6g}" if stats.of_floats else in_digits(value)


def _by_reason(skipped: Sequence[Skipped]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in skipped:
        counts[one.reason.value] = counts.get(one.reason.value, 0) + 1
    return counts


def counts_text(counts: Mapping[str, int]) -> str:
    """ "977 RGB, 23 L": the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {name}" for name, count in ordered)


def without_empty_end(histogram: Histogram) -> Histogram:
    """Of 16-bit images, the values up to the power of two that is above all of them."""
    if histogram.bins <= 256:
        return histogram
    bins = max(256, 1 << max(histogram.maximum()).bit_length())
    return Histogram(tuple(counts[:bins] for counts in histogram.counts))


def _drawings(histogram: Histogram, bins: int, unicode: bool) -> list[str]:
    blocks = _BLOCKS if unicode else _BLOCKS_ASCII
    drawn = []
    for counts in histogram.rebinned(bins):
        tallest = max(counts)
        # Rounded up, so that only an empty bin is drawn as empty.
        heights = [-(-count * (len(blocks) - 1) // tallest) for count in counts]
        drawn.append("".join(blocks[height] for height in heights).rstrip())
    return drawn


def _padded(column: Sequence[str]) -> list[str]:
    title, *cells = column
    if title and all(map(_NUMBER.fullmatch, cells)):
        behind = [len(cell.partition(".")[2]) + ("." in cell) for cell in cells]
        cells = [
            cell + " " * (max(behind) - digits) for cell, digits in zip(cells, behind, strict=True)
        ]
        width = max(map(len, (title, *cells)))
        return [cell.rjust(width) for cell in (title, *cells)]
    return _to_the_left(column)


def _to_the_left(column: Sequence[str]) -> list[str]:
    width = max(map(len, column))
    return [cell.ljust(width) for cell in column]
