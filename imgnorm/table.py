"""Stats -> the table that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imgnorm.histogram import Histogram
from imgnorm.measured import Measurement
from imgnorm.reasons import Skipped
from imgnorm.sources import printable
from imgnorm.stats import Stats

_BLOCKS = " ▁▂▃▄▅▆▇█"
_BLOCKS_ASCII = " .:-=+*#@"
_BINS = 32
_LISTED = 20  # skipped names on the screen; all of them are in the stats file and in --rejects


def table(stats: Stats, *, unicode: bool = True, verbose: bool = False) -> str:
    """The numbers per channel, and what they were made of.

    Args:
        unicode: draw with block characters; else with ASCII.
        verbose: the other conventions and quantiles, and every skipped input, not the first few.
    """
    measured = stats.measurement
    rows = [["", "mean", "std", *(["min", "max", "histogram"] if measured else [])]]
    drawings = _drawings(measured.histogram, unicode) if measured else []
    for index, name in enumerate(stats.channels):
        row = [name, f"{stats.mean[index]:.4f}", f"{stats.std[index]:.4f}"]
        if measured:
            row.append(str(measured.histogram.minimum()[index]))
            row.append(str(measured.histogram.maximum()[index]))
            row.append(drawings[index])
        rows.append(row)
    lines = aligned(rows)
    if not measured:
        return "\n".join([*lines, "", "constants, written by hand"])
    lines.append("")
    lines += _provenance(stats, measured)
    lines += _classes(stats, measured)
    if verbose:
        lines += _conventions(stats, measured) + _quantiles(stats, measured)
        lines += [""] if measured.skipped else []
    lines += _skipped(measured.skipped, None if verbose else _LISTED)
    return "\n".join(lines)


def _provenance(stats: Stats, measured: Measurement) -> list[str]:
    pixels = measured.histogram.moments().count
    lines = [
        f"images   {measured.images:,} ({_counts(measured.modes)}; {_counts(measured.formats)})",
        f"pixels   {pixels:,} in mode {stats.mode}, {stats.scale} is 1.0",
    ]
    if stats.preprocess:
        lines.append("through  " + ", ".join(map(repr, stats.preprocess)))
    lines.append(_found(measured))
    lines += [f"partial  {part}" for part in measured.source.incomplete]
    return lines


def _found(measured: Measurement) -> str:
    skipped = _counts(_by_reason(measured.skipped))
    ignored = _counts(measured.ignored)
    return (
        f"found    {measured.found:,} = {measured.images:,} counted"
        f" + {len(measured.skipped):,} skipped{f' ({skipped})' if skipped else ''}"
        f" + {sum(measured.ignored.values()):,} ignored{f' ({ignored})' if ignored else ''}"
    )


def _classes(stats: Stats, measured: Measurement) -> list[str]:
    if not measured.classes:
        return []
    if all(one.moments is None for one in measured.classes.values()):
        shown = [f"{one.images:,} {printable(name)}" for name, one in measured.classes.items()]
        more = f", and {len(shown) - 10} more" if len(shown) > 10 else ""
        return [f"classes  {len(shown)}: {', '.join(shown[:10])}{more}"]
    rows = [["class", "images", "mean", "std"]]
    for name, one in measured.classes.items():
        if one.moments:
            mean, std = one.moments.mean(scale=stats.scale), one.moments.std(scale=stats.scale)
            rows.append([printable(name), f"{one.images:,}", _four(mean), _four(std)])
    return ["", *aligned(rows)]


def _conventions(stats: Stats, measured: Measurement) -> list[str]:
    rows = [["convention", "mean", "std"], ["pooled", _four(stats.mean), _four(stats.std)]]
    for name, convention in measured.conventions().items():
        rows.append([name, _four(convention.mean), _four(convention.std)])
    return ["", *aligned(rows)]


def _quantiles(stats: Stats, measured: Measurement) -> list[str]:
    quantiles = measured.quantiles()
    rows = [["", *quantiles]]
    for index, name in enumerate(stats.channels):
        rows.append([name, *(str(values[index]) for values in quantiles.values())])
    return ["", *aligned(rows)]


def _four(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _skipped(skipped: Sequence[Skipped], limit: int | None) -> list[str]:
    lines = [
        f"skipped  {printable(s.name)}: {s.reason}{f' ({printable(s.detail)})' if s.detail else ''}"
        for s in skipped[:limit]
    ]
    if len(lines) < len(skipped):
        lines.append(f"skipped  and {len(skipped) - len(lines):,} more (-v lists them all)")
    return lines


def _by_reason(skipped: Sequence[Skipped]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in skipped:
        counts[one.reason.value] = counts.get(one.reason.value, 0) + 1
    return counts


def _counts(counts: Mapping[str, int]) -> str:
    """ "977 RGB, 23 L": the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {name}" for name, count in ordered)


def _drawings(histogram: Histogram, unicode: bool) -> list[str]:
    blocks = _BLOCKS if unicode else _BLOCKS_ASCII
    drawn = []
    for counts in histogram.rebinned(_BINS):
        tallest = max(counts)
        # Rounded up: a bin that holds anything is never drawn as empty.
        heights = [-(-count * (len(blocks) - 1) // tallest) for count in counts]
        drawn.append("".join(blocks[height] for height in heights).rstrip())
    return drawn


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns below their titles: names and text to the left, numbers to the right."""
    names, *others = zip(*rows, strict=True)
    columns = [_to_the_left(names), *map(_padded, others)]
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def _padded(column: Sequence[str]) -> list[str]:
    title, *cells = column
    if title and all(set(cell) <= set("0123456789.,") for cell in cells):
        width = max(map(len, column))
        return [cell.rjust(width) for cell in column]
    return _to_the_left(column)


def _to_the_left(column: Sequence[str]) -> list[str]:
    width = max(map(len, column))
    return [cell.ljust(width) for cell in column]
