"""Numbers and presets in words, for `imgnorm explain` and `imgnorm presets`.

Which known set the numbers are, by which convention, what is wrong with it, and what to use instead.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
from imgnorm.stats.table import aligned, in_digits

_FIELDS: tuple[Field, Field] = ("mean", "std")
_BGR = ", in BGR order"
_BRACKETS = str.maketrans(",;()[]", "      ")

Given = str | Iterable[str | float]
"""Numbers as a user has them: a text such as "0.2023, 0.1994, 0.2010", or one text or number each."""


@dataclass(frozen=True)
class Answer:
    """One thing that numbers are, or what is wrong with them."""

    what: str  # a line
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """By name: preset, mean, std, convention, mark, source, use, ..."""
    notes: tuple[str, ...] = ()  # more lines

    def __str__(self) -> str:
        return "\n".join([self.what, *_fact_lines(self.facts), *(f"  {n}" for n in self.notes)])


@dataclass(frozen=True)
class Explanation:
    """What is known about a mean or a std; `str()` of it is what the command prints.

    Example:
        >>> imgnorm.explain("0.2023 0.1994 0.2010").answers[0].facts["preset"]
        'cifar10-image-std-1'
    """

    given: tuple[str, ...]
    mean: tuple[str, ...] | None  # that was given, too
    answers: tuple[Answer, ...]  # none if nothing is known about these numbers

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return asdict(self)

    def __str__(self) -> str:
        if self.answers:
            return "\n\n".join(map(str, self.answers))
        known = "`imgnorm presets` lists what is"
        return f"{' '.join(self.given)}: nothing is known about these numbers; {known}"


def explain(
    given: Given,
    *,
    mean: Given | None = None,
    stats: Stats | str | os.PathLike[str] | None = None,
) -> Explanation:
    """Which published mean or std a set of numbers is, by which convention, and what is wrong with it.

    The digits that are given decide: 0.2470 is within rounding of 0.24703223, 0.2471 is not. A float
    has no zeros at its end, so give texts where you have them.

    Args:
        given: a std; without `mean`, it may also be a mean. One number per channel, in 0..1 or in
            0..255: a text, or texts or floats.
        mean: the mean that belongs to it.
        stats: a measurement or its file; the numbers are compared with its conventions.

    Raises:
        ValueError: there are no numbers, or not as many as in the mean, or one is not finite.
        IncompatibleStats: the stats have no images.
        SourceError, InvalidDocument: the stats file cannot be read, or has faults.

    Example:
        >>> found = imgnorm.explain([0.485, 0.456, 0.406])
        >>> print(found.answers[0].what)
        0.485 0.456 0.406 is the mean of ImageNet-1k, torchvision's weights
    """
    numbers, means = _texts(given), None if mean is None else _texts(mean)
    if not numbers or means == ():
        raise ValueError("no numbers; give one for each channel, such as 0.2470")
    if means is not None and len(means) != len(numbers):
        raise ValueError(f"{len(means)} numbers for the mean, {len(numbers)} for the std")
    name = "the stats"
    if stats is not None and not isinstance(stats, Stats):
        from imgnorm.stats.file import read_stats

        name = os.fspath(stats)
        stats = read_stats(name)
    return Explanation(numbers, means, tuple(_answers(numbers, means, stats, name)))


def _texts(numbers: Given) -> tuple[str, ...]:
    """The numbers alone, without the commas and brackets of pasted code."""
    if isinstance(numbers, str):
        return tuple(numbers.translate(_BRACKETS).split())
    return tuple(map(str, numbers))


def _answers(
    given: Sequence[str], mean: Sequence[str] | None, stats: Stats | None, stats_name: str
) -> list[Answer]:
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
        if scale and not (answers and means and "but" not in answers[0].facts):
            answers, formed = [scale], True
    answers += () if answers else _near(given, mean, unit)
    a_mean = bool(answers) and not means  # if it has a 0, for no known std has
    if stats:
        answers += _measured(given, numbers, stats, stats_name, means, unit)
    if not formed and not (stats and stats.of_floats):
        said = {"known-wrong", "other-dataset", "convention", "near-miss"} if answers else set()
        if answers and not any("but" in answer.facts for answer in answers):
            said.add("channel-order")
        if a_mean:
            said.add("not-usable")
        for fault in _faults(given, mean, unit, said):
            answers += [] if fault in answers else [fault]
    return answers


def description(preset: Preset) -> str:
    """Everything about a preset, with the names of the other sets of its dataset."""
    lines = [f"{preset.name}: {preset.title}", *_fact_lines(_facts(preset))]
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


def presets_table(columns: int | None = None) -> str:
    """All presets, a line each.

    Args:
        columns: how wide the terminal is. If the table is wider, it lacks the conventions, and a long
            name or many numbers have a line of their own.
    """
    rows = [["preset", "mark", "mean", "std", "convention"]]
    rows += [
        [p.name, p.mark, _short(p.mean), _short(p.std), p.convention] for p in PRESETS.values()
    ]
    lines = aligned(rows)
    if columns and len(lines[0]) > columns:
        lines = _narrow([row[:4] for row in rows])
    return "\n".join([*lines, "", *(f"{mark}: {meaning}" for mark, meaning in MARKS.items())])


def _narrow(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = []
    for name, mark, mean, std in rows:
        start = f"{name:23}" if len(name) <= 23 else f"{name}\n{'':23}"
        gap = "  " if len(mean) <= 20 else f"\n{'':35}"
        lines.append(f"{start}  {mark:8}  {mean:20}{gap}{std}".rstrip())
    return lines


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
) -> Iterator[Answer]:
    symmetric = all(n.reversed.values == n.values for n in (numbers, means or numbers))
    orders: list[tuple[str, Numbers, Numbers | None]] = [("", numbers, means)]
    if not symmetric:
        reverse = (_BGR, numbers.reversed, means.reversed if means else None)
        whole = [one for one in (*orders, reverse) if one[2] and _of_both(one[1], one[2])]
        orders = whole or [*orders, reverse]
    for order, in_rgb, means_in_rgb in orders:
        stds = [p for p in matches("std", in_rgb) if p.name != "identity"]  # _scale tells it
        found: list[tuple[Preset, Field]] = [(p, "std") for p in stds]
        foreign_mean: dict[str, str] = {}
        if means and means_in_rgb:
            both = [p for p in _of_both(in_rgb, means_in_rgb) if p in stds]
            foreign_mean = {} if both else _foreign_mean(means, means_in_rgb, found)
            found = [(p, "std") for p in both] or found
        else:
            found += [(p, "mean") for p in matches("mean", in_rgb) if _mean_says_which(p)]
        seen: set[tuple[str, str]] = set()
        for preset, field in found:
            if (preset.dataset, field) not in seen:  # the nearest of each dataset
                seen.add((preset.dataset, field))
                what = f"{' '.join(given)} is the {field} of {preset.title}{order}"
                fits = _fits(unit, "BGR" if order else "RGB", symmetric=symmetric)
                fits = {} if preset.mark == "wrong" else fits
                yield Answer(what, {**foreign_mean, **_facts(preset), **fits})


def _of_both(numbers: Numbers, means: Numbers) -> list[Preset]:
    """The presets with this std and this mean."""
    return [p for p in matches("std", numbers) if means.same(p.numbers("mean"))]


def _fits(unit: float, order: Order, *, symmetric: bool) -> dict[str, str]:
    """The frameworks whose files take such numbers."""
    names = ", ".join(frameworks_for(unit, order))
    what = f"0..{unit:g}" + ("" if symmetric else f", {order}")
    return {"fits": f"{names} ({what})"} if names else {}


def _foreign_mean(
    means: Numbers, in_rgb: Numbers, found: Sequence[tuple[Preset, Field]]
) -> dict[str, str]:
    """Of a mean that belongs to none of the sets with this std."""
    known = matches("mean", in_rgb)
    whose = f": it is that of {known[0].title}" if known else ""
    for preset, _ in found if not known else ():
        slip = _slip(means, preset.numbers("mean"), 1.0)
        whose = f": it has {slip}" if slip else whose
    return {"but": f"mean {_digits(means)} is not that of this set{whose}"}


def _inverses(given: Sequence[str], mean: Sequence[str] | None) -> Iterator[Answer]:
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
            yield Answer(what, {"preset": preset.name, "undoes": undone})
            break


def _same(numbers: Numbers, values: Sequence[float]) -> bool:
    """Whether numbers are values, rounded to the digits of the numbers; with too few, they are not."""
    tolerance = min(numbers.tolerance, 10 * WIDEST_TOLERANCE)
    return len(numbers.values) == len(values) and all(
        abs(a - b) <= tolerance * (1 + 1e-6) + 1e-6 * abs(b)
        for a, b in zip(numbers.values, values, strict=True)
    )


def _scale(given: Sequence[str], mean: Sequence[str] | None, unit: float) -> Answer | None:
    """What a std does that is one value for all channels, and no known set's; None for other stds."""
    stds, means = [float(text) for text in given], [float(text) for text in mean or ()]
    std, one = stds[0], " ".join(given)
    if set(stds) != {std}:
        return None
    if std == 1 and mean and not any(means):
        source = PRESETS["identity"].source
        what = f"{one} with mean {' '.join(mean)} is the identity: no value changes"
        return Answer(what, {"preset": "identity", "source": source})
    sets = "imagenet-caffe, detectron2, maskrcnn-benchmark, ssd"
    which = {} if mean else {"weights": f"{sets} have it; --mean tells which"}
    if abs(std * 255 - 1) < 1e-3:
        return Answer(f"{one} is 1/255: a scale, not a std; 0..1 becomes 0..255", which)
    if std == 1:
        return Answer(f"{one} is a scale of 1, not a std: only the mean is subtracted", which)
    if std == 255:
        return Answer(f"{one} is 255: a scale, not a std; 0..255 becomes 0..1")
    if len(stds) == 1 or not mean or matches("std", numbers_in(given, unit=unit)):
        return None
    maps = ""
    if len(set(means)) == 1:
        low, high = -means[0] / std, (unit - means[0]) / std
        maps = f"; 0..{unit:g} becomes {low:.3g}..{high:.3g}"
    return Answer(f"{one} is one value for all channels: a scale, not a std of images{maps}")


def _near(given: Sequence[str], mean: Sequence[str] | None, unit: float) -> Iterator[Answer]:
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
                yield Answer(what, _facts(preset))
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


def _facts(preset: Preset) -> dict[str, str]:
    facts = {
        "preset": preset.name,
        "mean": _published(preset, "mean"),
        "std": _published(preset, "std"),
        "convention": f"{preset.convention}: {CONVENTIONS[preset.convention]}",
    }
    if preset.mark == "wrong":
        facts["mark"] = f"wrong: {preset.remark}"
    else:
        facts["mark"] = f"{preset.mark}: {MARKS[preset.mark]}"
        facts |= {"remark": preset.remark} if preset.remark else {}
    facts["source"] = preset.source
    if preset.use:
        right = PRESETS[preset.use]
        numbers = f"mean {_four(right.mean)}, std {_four(right.std)}"
        facts["use"] = f"{numbers} (preset {right.name})"
    elif preset.mark == "wrong":
        facts["use"] = "no pooled std is published: measure with `imgnorm stats`"
    return facts


def _fact_lines(facts: Mapping[str, str]) -> list[str]:
    return [f"  {key:<12}{value}" for key, value in facts.items()]


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
    return " ".join(map(in_digits, values))


def _measured(
    given: Sequence[str],
    numbers: Numbers,
    stats: Stats,
    stats_name: str,
    means: Numbers | None,
    unit: float,
) -> Iterator[Answer]:
    matched = False
    for field in _FIELDS if means is None else _FIELDS[1:]:
        candidates = list(_candidates(stats, field, unit))
        for order, ordered in _orders(numbers):
            equal = {
                name: meaning
                for name, meaning, values in candidates
                if ordered.same(Numbers(values, 0))
            }
            if equal:
                matched = True
                first, *others = equal
                also = f" (also {', '.join(others)})" if others else ""
                what = f"{' '.join(given)} is the {field} of {stats_name}{order}"
                within = [f"an estimate ({stats.estimate})"] if stats.estimate else []
                yield Answer(f"{what}: {first}{also}", notes=(equal[first], *within))
                break
    for order, ordered in _orders(means) if means else ():
        assert means
        if ordered.same(Numbers(stats.mean, 0)):
            yield Answer(f"mean {_four(means.values)} is the mean of {stats_name}{order}")
            break
    if not matched and len(numbers.values) == len(stats.std) and all(stats.std):
        ratios = [100 * a / b - 100 for a, b in zip(numbers.values, stats.std, strict=True)]
        differ = ", ".join(f"{ratio:+.1f} %" for ratio in ratios)
        pooled = f"its pooled std is {_four(stats.std)}: as a std, these differ by {differ}"
        yield Answer(f"{' '.join(given)} matches no convention of {stats_name}", notes=(pooled,))


def _orders(numbers: Numbers) -> list[tuple[str, Numbers]]:
    """The numbers, and those of three channels from the last to the first."""
    return [("", numbers), *([(_BGR, numbers.reversed)] if len(numbers.values) == 3 else [])]


def _candidates(
    stats: Stats, field: Field, unit: float
) -> Iterator[tuple[str, str, tuple[float, ...]]]:
    """The data's numbers by each convention: the convention's name, its meaning, the values.

    Args:
        unit: what the given numbers were divided by.
    """
    for name, (mean, std) in _by_convention(stats).items():
        if name == "pooled":
            yield name, f"{CONVENTIONS[name]}: what Normalize needs", getattr(stats, field)
            if field == "std":
                for scale in dict.fromkeys((1, stats.scale)):
                    squared = tuple((scale * one) ** 2 / (unit if scale > 1 else 1) for one in std)
                    of = "" if scale == 1 else f" in 0..{scale}"
                    yield (
                        f"variance{of}",
                        f"the pooled std{of} squared; Normalize needs the root",
                        squared,
                    )
        elif field == "std" or name == "image_weighted":  # the others have the pooled mean
            yield name, CONVENTIONS[name], std if field == "std" else mean


def _faults(
    given: Sequence[str], mean: Sequence[str] | None, unit: float, said: Collection[str]
) -> Iterator[Answer]:
    """What else is wrong with the numbers, by rules that say more than the answers have said."""
    std = [float(text) for text in given]
    # Without a mean, 0.5 leaves a std the most room.
    means = [float(text) for text in mean] if mean else [unit / 2] * len(std)
    for finding in findings(means, std, unit=unit):
        if finding.rule in said:
            continue
        if not mean and finding.rule != "not-usable":
            continue  # the other rules need the true mean
        text = f"{finding.rule} ({finding.severity}): {finding.field} {finding.message}"
        yield Answer(text, notes=(finding.hint,) if finding.hint else ())
