"""Numbers and presets in words, for `imgnorm explain` and `imgnorm presets`.

Which known set the numbers are, by which convention, what is wrong with it, and what to use instead.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

from imgnorm.constants.findings import Order, findings, wrong_field
from imgnorm.constants.frameworks import frameworks_for
from imgnorm.constants.presets import (
    CONVENTIONS,
    MARKS,
    PRESETS,
    WIDEST_TOLERANCE,
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
_BUT = "  but         "


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
    answers = list(_inverses(given, mean))
    formed = bool(answers)  # what the numbers are by their form; the rules are about measured ones
    if not formed:
        answers += _known(given, numbers, means, unit)
        scale = _scale(given, mean, unit)
        if scale and not (answers and means and _BUT not in answers[0]):
            answers, formed = [scale], True
    answers += () if answers else _near(given, mean, unit)
    a_mean = bool(answers) and not means  # if it has a 0, for no known std has
    if stats:
        answers += _measured(given, numbers, stats, stats_name, means)
    if not formed:
        told = {"known-wrong", "other-dataset", "convention", "near-miss"} if answers else set()
        if answers and not any(_BUT in answer for answer in answers):
            told.add("channel-order")
        if a_mean:
            told.add("not-usable")
        answers += dict.fromkeys(_faults(given, mean, unit, told))
    return answers


def description(preset: Preset) -> str:
    """Everything about a preset, with the names of the other sets of its dataset."""
    lines = [f"{preset.name}: {preset.title}", *_facts(preset)]
    lines += [f"  also        {name}: {source}" for name, source in preset.weights.items()]
    others = [p for p in presets_of(preset.dataset) if p.name != preset.name]
    if others:
        lines.append("  others      " + ", ".join(f"{p.name} ({p.mark})" for p in others))
    return "\n".join(lines)


def comparison(preset: Preset, stats: Stats) -> tuple[bool, list[str]]:
    """Whether data has a preset's numbers by the preset's convention, and the lines that show it.

    Where the convention is not stated, that which fits best counts.
    """
    measured = _by_convention(stats)
    own = {preset.convention: measured[preset.convention]} if preset.convention in measured else {}

    def agreeing(name: str) -> int:
        pairs = zip(_FIELDS, measured[name], strict=True)
        return sum(preset.numbers(f).same(Numbers(values, 0)) for f, values in pairs)

    best = max(measured, key=agreeing)
    shown = next(iter(own), best)
    lines = [f"  convention  {shown}: {CONVENTIONS[shown]}"]
    for field, values in zip(_FIELDS, measured[shown], strict=True):
        digits = " ".join(f"{value:.8f}" for value in values)
        published = _digits(preset.numbers(field))
        lines += [f"  {field:<10}  {digits} measured", f"              {published} published"]
    if agreeing(shown) < 2 and agreeing(best) == 2:
        lines.append(f"  but         they are the numbers by {best}: {CONVENTIONS[best]}")
    return agreeing(shown) == 2, lines


def _by_convention(stats: Stats) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """The data's mean and std by each convention."""
    known = stats.measurement.conventions() if stats.measurement else {}
    pairs = {"pooled": (stats.mean, stats.std)}
    for name, one in known.items():  # per-image stds are published beside the pooled mean
        pairs[name] = one.mean if name == "image_weighted" else stats.mean, one.std
    return pairs


def presets_table() -> str:
    """All presets, a line each."""
    rows = [["preset", "mark", "mean", "std", "convention"]]
    rows += [
        [p.name, p.mark, _short(p.mean), _short(p.std), p.convention] for p in PRESETS.values()
    ]
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
    largest = max(float(text) for text in texts)
    return 1.0 if largest <= 1 else 255.0 if largest <= 255 else 65535.0


def _known(
    given: Sequence[str], numbers: Numbers, means: Numbers | None, unit: float
) -> Iterator[str]:
    symmetric = all(n.reversed.values == n.values for n in (numbers, means or numbers))
    orders: list[tuple[str, Numbers, Numbers | None]] = [("", numbers, means)]
    if not symmetric:
        reverse = (", in BGR order", numbers.reversed, means.reversed if means else None)
        whole = [one for one in (*orders, reverse) if one[2] and _of_both(one[1], one[2])]
        orders = whole or [*orders, reverse]
    for order, in_rgb, means_in_rgb in orders:
        stds = [p for p in matches("std", in_rgb) if p.name != "identity"]  # _scale tells it
        found: list[tuple[Preset, Field]] = [(p, "std") for p in stds]
        foreign_mean: list[str] = []
        if means and means_in_rgb:
            both = [p for p in _of_both(in_rgb, means_in_rgb) if p in stds]
            foreign_mean = [] if both else [_foreign_mean(means, means_in_rgb, found)]
            found = [(p, "std") for p in both] or found
        else:
            found += [(p, "mean") for p in matches("mean", in_rgb) if _mean_says_which(p)]
        seen: set[tuple[str, str]] = set()
        for preset, field in found:
            if (preset.dataset, field) not in seen:  # the nearest of each dataset
                seen.add((preset.dataset, field))
                what = f"{' '.join(given)} is the {field} of {preset.title}{order}"
                fits = _fits(unit, "BGR" if order else "RGB", symmetric=symmetric)
                fits = [] if preset.mark == "wrong" else fits
                yield "\n".join([what, *foreign_mean, *_facts(preset), *fits])


def _of_both(numbers: Numbers, means: Numbers) -> list[Preset]:
    """The presets with this std and this mean."""
    return [p for p in matches("std", numbers) if means.same(p.numbers("mean"))]


def _fits(unit: float, order: Order, *, symmetric: bool) -> list[str]:
    """A line with the frameworks whose files take such numbers."""
    names = ", ".join(frameworks_for(unit, order))
    what = f"0..{unit:g}" + ("" if symmetric else f", {order}")
    return [f"  fits        {names} ({what})"] if names else []


def _foreign_mean(means: Numbers, in_rgb: Numbers, found: Sequence[tuple[Preset, Field]]) -> str:
    """A line about a mean that belongs to none of the sets with this std."""
    known = matches("mean", in_rgb)
    whose = f": it is that of {known[0].title}" if known else ""
    for preset, _ in found if not known else ():
        slip = _slip(means, preset.numbers("mean"), 1.0)
        whose = f": it has {slip}" if slip else whose
    return f"{_BUT}mean {_digits(means)} is not that of this set{whose}"


def _inverses(given: Sequence[str], mean: Sequence[str] | None) -> Iterator[str]:
    """Numbers that undo a normalization: x * std + mean is Normalize with -mean/std and 1/std."""
    values, means = numbers_in(given), numbers_in(mean) if mean else None
    std, found = " ".join(given), set()
    with_mean = f"{std} with mean {' '.join(mean)}" if mean else std
    for preset in PRESETS.values():
        if preset.dataset in found or preset.name == "identity":
            continue
        varied = len(set(preset.std)) > 1
        for unit in (1.0, 255.0):
            gain = tuple(1 / (unit * one) for one in preset.std)
            shift = tuple(-m / s for m, s in zip(preset.mean, preset.std, strict=True))
            back = tuple(-unit * m for m in preset.mean)
            is_gain = _same(values, gain) and varied == (len(set(values.values)) > 1)
            if means and is_gain and _same(means, shift):
                what = f"{with_mean} is the inverse of {preset.title}: it gives 0..{unit:g} back"
            elif means and is_gain and varied and not any(means.values):
                what = (
                    f"{std} is 1/std of {preset.title}: the first of two steps back to 0..{unit:g}"
                )
            elif means and set(values.values) == {1.0} and _same(means, back):
                what = f"{with_mean} adds the mean of {preset.title}: the second of two steps back to 0..{unit:g}"
            elif not means and is_gain and varied:
                rest = " ".join(f"{one:.4g}" for one in shift)
                what = f"{std} is 1/std of {preset.title}: the std of its inverse, whose mean is {rest}"
            elif not means and unit == 1 and varied and _same(values, shift):
                rest = " ".join(f"{one:.4g}" for one in gain)
                what = f"{std} is -mean/std of {preset.title}: the mean of its inverse, whose std is {rest}"
            elif not means and varied and _same(values, back):
                what = f"{std} is the negative mean of {preset.title}: it adds the mean back"
            else:
                continue
            found.add(preset.dataset)
            undone = f"mean {_digits(preset.numbers('mean'))}, std {_digits(preset.numbers('std'))}"
            yield f"{what}\n  preset      {preset.name}\n  undoes      {undone}"
            break


def _same(numbers: Numbers, values: Sequence[float]) -> bool:
    """Whether numbers are values, rounded to the digits of the numbers; with too few, they are not."""
    tolerance = min(numbers.tolerance, 10 * WIDEST_TOLERANCE)
    return len(numbers.values) == len(values) and all(
        abs(a - b) <= tolerance * (1 + 1e-6) + 1e-6 * abs(b)
        for a, b in zip(numbers.values, values, strict=True)
    )


def _scale(given: Sequence[str], mean: Sequence[str] | None, unit: float) -> str | None:
    """What a std does that is one value for all channels, and no known set's; None for other stds."""
    stds, means = [float(text) for text in given], [float(text) for text in mean or ()]
    std, one = stds[0], " ".join(given)
    if set(stds) != {std}:
        return None
    if std == 1 and mean and not any(means):
        source = PRESETS["identity"].source
        what = f"{one} with mean {' '.join(mean)} is the identity: no value changes"
        return f"{what}\n  preset      identity\n  source      {source}"
    sets = "imagenet-caffe, detectron2, maskrcnn-benchmark, ssd"
    which = "" if mean else f"\n  weights     {sets} have it; --mean tells which"
    if abs(std * 255 - 1) < 1e-3:
        return f"{one} is 1/255: a scale, not a std; 0..1 becomes 0..255{which}"
    if std == 1:
        return f"{one} is a scale of 1, not a std: only the mean is subtracted{which}"
    if std == 255:
        return f"{one} is 255: a scale, not a std; 0..255 becomes 0..1"
    if len(stds) == 1 or not mean or matches("std", numbers_in(given, unit=unit)):
        return None
    maps = ""
    if len(set(means)) == 1:
        low, high = -means[0] / std, (unit - means[0]) / std
        maps = f"; 0..{unit:g} becomes {low:.3g}..{high:.3g}"
    return f"{one} is one value for all channels: a scale, not a std of images{maps}"


def _near(given: Sequence[str], mean: Sequence[str] | None, unit: float) -> Iterator[str]:
    """Sets from which the numbers differ by one digit."""
    numbers, means = numbers_in(given, unit=unit), numbers_in(mean, unit=unit) if mean else None
    seen = set()
    for preset in PRESETS.values():
        right_mean = means is not None and means.same(preset.numbers("mean"))
        if preset.dataset in seen or (means and not right_mean):
            continue
        for field in _FIELDS if means is None else _FIELDS[1:]:
            slip = _slip(numbers, preset.numbers(field), unit)
            if slip and (right_mean or len(given) >= 3):
                seen.add(preset.dataset)
                what = f"{' '.join(given)} is nearly the {field} of {preset.title}: {slip}"
                yield "\n".join([what, *_facts(preset)])
                break


def _slip(numbers: Numbers, known: Numbers, unit: float) -> str:
    """`0.2024 for 0.2023`, if one value differs in one digit, or in two that are exchanged; else ""."""
    if len(numbers.values) != len(known.values) or numbers.tolerance > WIDEST_TOLERANCE:
        return ""
    decimals = max(0, round(-math.log10(2 * numbers.tolerance * unit)))
    pairs = [
        (f"{a * unit:.{decimals}f}", f"{b * unit:.{decimals}f}")
        for a, b in zip(numbers.values, known.values, strict=True)
    ]
    apart = [(a, b) for a, b in pairs if a != b]
    if len(apart) != 1 or len(apart[0][0]) != len(apart[0][1]):
        return ""
    a, b = apart[0]
    places = [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
    exchanged = len(places) == 2 and [a[i] for i in places] == [b[i] for i in places[::-1]]
    return f"{a} for {b}" if len(places) == 1 or exchanged else ""


def _mean_says_which(preset: Preset) -> bool:
    """Whether the mean identifies the set: most wrong sets have the right mean and a wrong std."""
    return preset.mark != "wrong" or preset.use is None or wrong_field(preset) == "mean"


def _facts(preset: Preset) -> list[str]:
    lines = [
        f"  preset      {preset.name}",
        f"  mean        {_published(preset, 'mean')}",
        f"  std         {_published(preset, 'std')}",
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


def _published(preset: Preset, field: Field) -> str:
    """With the digits that were published, and in the unit in which they were."""
    numbers, unit = preset.numbers(field), preset.unit
    if unit == 1:
        return _digits(numbers)
    decimals = max(0, round(-math.log10(2 * numbers.tolerance * unit)))
    values = " ".join(f"{value * unit:.{decimals}f}" for value in numbers.values)
    return f"{_short(numbers.values)} ({values} in 0..{unit:g})"


def _short(values: Sequence[float]) -> str:
    """With four digits, and of many values only the first three."""
    return _four(values) if len(values) <= 4 else f"{_four(values[:3])} ... ({len(values)} values)"


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
    for name, (mean, std) in _by_convention(stats).items():
        if name == "pooled":
            yield name, f"{CONVENTIONS[name]}: what Normalize needs", getattr(stats, field)
            if field == "std":
                squared = tuple(one * one for one in std)
                yield "variance", "the pooled std squared; Normalize needs the root", squared
        elif field == "std" or name == "image_weighted":  # the others have the pooled mean
            yield name, CONVENTIONS[name], std if field == "std" else mean


def _faults(
    given: Sequence[str], mean: Sequence[str] | None, unit: float, told: Collection[str]
) -> Iterator[str]:
    """What else is wrong with the numbers, by rules that say more than the answers have told."""
    std = [float(text) for text in given]
    # Without a mean, 0.5 leaves a std the most room.
    means = [float(text) for text in mean] if mean else [unit / 2] * len(std)
    for finding in findings(means, std, unit=unit):
        if finding.rule in told:
            continue
        if not mean and finding.rule != "not-usable":
            continue  # the other rules need the true mean
        text = f"{finding.rule} ({finding.severity}): {finding.field} {finding.message}"
        yield f"{text}\n  {finding.hint}" if finding.hint else text
