"""Numbers and presets in words, for `imgnorm explain` and `imgnorm presets`.

Which known set the numbers are, by which convention, what is wrong with it, and what to use instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from imgnorm.constants.findings import findings, wrong_field
from imgnorm.constants.presets import (
    CONVENTIONS,
    MARKS,
    PRESETS,
    Field,
    Numbers,
    Preset,
    matches,
    numbers_in,
    presets_of,
)
from imgnorm.errors import IncompatibleStats
from imgnorm.stats.stats import NO_IMAGES, Stats
from imgnorm.stats.table import aligned

_FIELDS: tuple[Field, Field] = ("mean", "std")


def explain(
    given: Sequence[str],
    *,
    mean: Sequence[str] | None = None,
    stats: Stats | None = None,
    stats_name: str = "the stats file",
) -> list[str]:
    """What a set of numbers is, a paragraph for each answer; empty if nothing is known about it.

    The digits that were given decide: 0.2470 is within rounding of 0.24703223, 0.2471 is not.

    Args:
        given: a std; without `mean`, it may also be a mean. In 0..1 or in 0..255.
        mean: the mean that belongs to it.
        stats: a measurement; the numbers are compared with its conventions.

    Raises:
        ValueError: one of the texts is not a finite number.
        IncompatibleStats: the stats have no images.
    """
    if stats and not stats.mean:
        raise IncompatibleStats(f"{stats_name}: {NO_IMAGES}")
    unit = _unit_of([*given, *(mean or ())])
    if stats and stats.of_floats:
        unit = 1.0
    numbers = numbers_in(given, unit=unit)
    means = numbers_in(mean, unit=unit) if mean else None
    answers = list(_known(given, numbers, means))
    if stats:
        answers += _measured(given, numbers, stats, stats_name, means)
    answers += _faults(given, mean, unit, known=bool(answers))
    return answers


def description(preset: Preset) -> str:
    """Everything about a preset, with the names of the other sets of its dataset."""
    lines = [f"{preset.name}: {preset.title}", *_facts(preset)]
    others = [p for p in presets_of(preset.dataset) if p.name != preset.name]
    if others:
        lines.append("  others      " + ", ".join(f"{p.name} ({p.mark})" for p in others))
    return "\n".join(lines)


def presets_table() -> str:
    """All presets, a line each."""
    rows = [["preset", "mark", "mean", "std", "convention"]]
    rows += [[p.name, p.mark, _four(p.mean), _four(p.std), p.convention] for p in PRESETS.values()]
    return "\n".join(
        [*aligned(rows), "", *(f"{mark}: {meaning}" for mark, meaning in MARKS.items())]
    )


def _unit_of(texts: Sequence[str]) -> float:
    for text in texts:
        try:
            finite = math.isfinite(float(text))
        except ValueError:
            finite = False
        if not finite:
            raise ValueError(f"{text!r} is not a number; give numbers such as 0.2470")
    return 255.0 if max(float(text) for text in texts) > 1 else 1.0


def _known(given: Sequence[str], numbers: Numbers, means: Numbers | None) -> Iterator[str]:
    for order, in_rgb in (("", numbers), (", in BGR order", numbers.reversed)):
        if order and in_rgb.values == numbers.values:
            continue
        found = [(preset, "std") for preset in matches("std", in_rgb)]
        foreign_mean: list[str] = []
        if means:
            means_in_rgb = means.reversed if order else means
            both = [(p, f) for p, f in found if means_in_rgb.same(p.numbers("mean"))]
            foreign_mean = [] if both else [_foreign_mean(means, means_in_rgb)]
            found = both or found
        else:
            found += [(p, "mean") for p in matches("mean", in_rgb) if _mean_says_which(p)]
        seen: set[tuple[str, str]] = set()
        for preset, field in found:
            if (preset.dataset, field) not in seen:  # the nearest of each dataset
                seen.add((preset.dataset, field))
                what = f"{' '.join(given)} is the {field} of {preset.title}{order}"
                yield "\n".join([what, *foreign_mean, *_facts(preset)])


def _foreign_mean(means: Numbers, in_rgb: Numbers) -> str:
    """A line about a mean that belongs to none of the sets with this std."""
    known = matches("mean", in_rgb)
    whose = f": it is that of {known[0].title}" if known else ""
    return f"  but         mean {_digits(means)} is not that of this set{whose}"


def _mean_says_which(preset: Preset) -> bool:
    """Whether the mean identifies the set: most wrong sets have the right mean and a wrong std."""
    return preset.mark != "wrong" or preset.use is None or wrong_field(preset) == "mean"


def _facts(preset: Preset) -> list[str]:
    lines = [
        f"  preset      {preset.name}",
        f"  mean        {_digits(preset.numbers('mean'))}",
        f"  std         {_digits(preset.numbers('std'))}",
        f"  convention  {preset.convention}: {CONVENTIONS[preset.convention]}",
    ]
    if preset.mark == "wrong":
        lines.append(f"  mark        wrong: {preset.remark}")
    else:
        lines.append(f"  mark        {preset.mark}: {MARKS[preset.mark]}")
        lines += [f"  remark      {preset.remark}"] if preset.remark else []
    lines.append(f"  source      {preset.source}")
    if preset.use:
        right = PRESETS[preset.use]
        lines.append(
            f"  use         mean {_four(right.mean)}, std {_four(right.std)} (preset {right.name})"
        )
    elif preset.mark == "wrong":
        lines.append("  use         no pooled std is published: measure with `imgnorm stats`")
    return lines


def _digits(numbers: Numbers) -> str:
    """With the digits that were published."""
    return " ".join(f"{value:.{numbers.decimals}f}" for value in numbers.values)


def _four(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _measured(
    given: Sequence[str], numbers: Numbers, stats: Stats, stats_name: str, means: Numbers | None
) -> Iterator[str]:
    matched = False
    for field in _FIELDS if means is None else _FIELDS[1:]:
        equal = {
            name: meaning
            for name, meaning, values in _candidates(stats, field)
            if numbers.same(Numbers(values, 0))
        }
        if equal:
            matched = True
            first, *others = equal
            also = f" (also {', '.join(others)})" if others else ""
            what = f"{' '.join(given)} is the {field} of {stats_name}"
            within = f"\n  an estimate ({stats.estimate})" if stats.estimate else ""
            yield f"{what}: {first}{also}\n  {equal[first]}{within}"
    if means and means.same(Numbers(stats.mean, 0)):
        yield f"mean {_four(means.values)} is the mean of {stats_name}"
    if not matched and len(numbers.values) == len(stats.std) and all(stats.std):
        ratios = [100 * a / b - 100 for a, b in zip(numbers.values, stats.std, strict=True)]
        differ = ", ".join(f"{ratio:+.1f} %" for ratio in ratios)
        yield (
            f"{' '.join(given)} matches no convention of {stats_name}\n"
            f"  its pooled std is {_four(stats.std)}: as a std, these differ by {differ}"
        )


def _candidates(stats: Stats, field: Field) -> Iterator[tuple[str, str, tuple[float, ...]]]:
    """The data's numbers by each convention: the convention's name, its meaning, the values."""
    yield "pooled", f"{CONVENTIONS['pooled']}: what Normalize needs", getattr(stats, field)
    if field == "std":
        squared = tuple(std * std for std in stats.std)
        yield "variance", "the pooled std squared; Normalize needs the root", squared
    meanings = {str(name): meaning for name, meaning in CONVENTIONS.items()}
    conventions = stats.measurement.conventions() if stats.measurement else {}
    for name, value in conventions.items():
        if field == "std":
            yield name, meanings[name], value.std
        elif name == "image_weighted":  # the averages of per-image stds have the same mean
            yield name, meanings[name], value.mean


def _faults(
    given: Sequence[str], mean: Sequence[str] | None, unit: float, *, known: bool
) -> Iterator[str]:
    """What else is wrong with the numbers, whether or not they are a known set."""
    std = [float(text) for text in given]
    # Without a mean, 0.5 leaves a std the most room.
    means = [float(text) for text in mean] if mean else [unit / 2] * len(std)
    for finding in findings(means, std, unit=unit):
        if known and finding.rule in ("known-wrong", "other-dataset", "convention"):
            continue  # the answer says it
        if not mean and finding.rule not in ("not-usable",):
            continue  # the other rules need the true mean
        text = f"{finding.rule} ({finding.severity}): {finding.field} {finding.message}"
        yield f"{text}\n  {finding.hint}" if finding.hint else text
