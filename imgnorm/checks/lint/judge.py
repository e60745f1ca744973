"""Which of the rules about numbers make sense for a pair, what they find, and what would fix it.

Files rarely say what a field is for, and a false alarm is worse than a miss. So a rule is applied only
where it makes sense, and numbers are put right only where the file says which dataset it is about.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from imgnorm.checks.lint.pair import Pair, Spread, Written, linked
from imgnorm.constants.findings import Finding, findings
from imgnorm.constants.presets import Field, matches, numbers_of
from imgnorm.documents.tree import Place
from imgnorm.errors import Problem

_FOR_ANY_NUMBERS = {"known-wrong", "swapped", "channel-order", "other-dataset", "near-miss"}
"""Rules that recognize published numbers, so they need not know that a pair is about images."""
_AS_STD: dict[Spread, Callable[[float], float]] = {
    "std": lambda value: value,
    "variance": lambda value: math.sqrt(value) if value > 0 else value,
    "1/std": lambda value: 1 / value if value else math.inf,
}
_FROM_STD: dict[Spread, Callable[[float], float]] = {
    "std": lambda std: std,
    "variance": lambda std: std * std,
    "1/std": lambda std: 1 / std,
}
_MORE_DIGITS: dict[Spread, int] = {"std": 0, "variance": -1, "1/std": 1}
"""How many more decimals of a std are known than of what is written, for stds near 0.2."""


_TESTS = re.compile(r"(^|[/\\])(tests?[/\\]|test_[^/\\]*$|[^/\\]*_test\.py$)")
"""Files of tests."""


@dataclass(frozen=True)
class Edit:
    """A number of the file, and what to write in its place."""

    place: Place
    old: str
    new: str


@dataclass(frozen=True)
class Judged:
    """A problem, and the edits that fix it: none where the right numbers are not sure."""

    problem: Problem
    edits: tuple[Edit, ...] = ()


def judged(pairs: Iterable[Pair], file: str) -> list[Judged]:
    """The problems of all pairs of a file, in the order of their places."""
    known = _in_tables(_joined(pairs))
    shared = _contested(known)
    found: dict[tuple[int, int, str], Judged] = {}
    for pair in known:
        for one in _problems(pair, file):
            key = (one.problem.line, one.problem.column, one.problem.rule)
            if any(edit.place in shared for edit in one.edits):
                one = replace(one, edits=())
            if key not in found or (one.edits and not found[key].edits):
                found[key] = one
    return [found[key] for key in sorted(found)]


def _joined(pairs: Iterable[Pair]) -> list[Pair]:
    """A pair that is found where its variables are set and where they are used, once.

    What is known in one place is true in the other, unless they contradict each other.
    """
    joined: dict[tuple[Place, Place], list[Pair]] = {}
    for pair in pairs:
        same = joined.setdefault((pair.mean.place, pair.std.place), [])
        for index, other in enumerate(same):
            both = _both(pair, other)
            if both:
                same[index] = both
                break
        else:
            same.append(pair)
    return [pair for same in joined.values() for pair in same]


def _both(one: Pair, other: Pair) -> Pair | None:
    """The facts of two pairs with the same numbers; None if they contradict each other."""
    facts: dict[str, Any] = {}
    for name in ("unit", "order", "table"):
        given = {getattr(pair, name) for pair in (one, other)} - {None}
        if len(given) > 1:
            return None
        facts[name] = given.pop() if given else None
    if (one.mean, one.std, one.spread) != (other.mean, other.std, other.spread):
        return None
    certain = [d for pair in (one, other) for d in pair.datasets if d.by != "nearby"]
    nearby = [d for pair in (one, other) for d in pair.datasets if d.by == "nearby"]
    both = replace(
        one,
        **facts,
        pixels=one.pixels or other.pixels,
        datasets=tuple(certain),
        framework=one.framework or other.framework,
        order_by=one.order_by or other.order_by,
        pretrained=one.pretrained or other.pretrained,
        normalizes_inside=one.normalizes_inside or other.normalizes_inside,
        in_model=one.in_model or other.in_model,
        before=one.before or other.before,
    )
    return linked(both, nearby=nearby)


def _in_tables(pairs: Sequence[Pair]) -> list[Pair]:
    """With the unit of most entries of a table for the others too: one piece of code reads all of them."""
    units: dict[Place, list[float]] = {}
    for pair in pairs:
        if pair.table and (unit := _unit_of_entry(pair)):
            units.setdefault(pair.table, []).append(unit)
    usual = {
        table: min(set(u), key=lambda unit: (-u.count(unit), unit)) for table, u in units.items()
    }
    return [
        replace(pair, unit=usual[pair.table], framework=_TABLE)
        if pair.table in usual and len(set(units[pair.table])) > 1 and _unit_of_entry(pair)
        else pair
        for pair in pairs
    ]


_TABLE = "table"
"""In the place of a framework: the unit is that of the other entries of the same table."""


def _unit_of_entry(pair: Pair) -> float | None:
    if pair.unit is not None or pair.spread != "std" or len(set(pair.std.values)) < 2:
        return None
    mean, std = pair.mean.effective, pair.std.effective
    return _unit_by_size(mean, std) if min(*mean, *std) > 0 else None


def _contested(pairs: Sequence[Pair]) -> set[Place]:
    """Numbers that are used for more than one dataset, unit or order: no other number is right for all."""
    used: dict[Place, set[tuple[object, ...]]] = {}
    for pair in pairs:
        for text in (*pair.mean.texts, *pair.std.texts):
            if text:
                used.setdefault(text.place, set()).add((_name(pair), pair.unit, pair.order))
    return {
        place
        for place, facts in used.items()
        if any(len({fact[i] for fact in facts} - {None}) > 1 for i in range(3))
    }


def _name(pair: Pair) -> str | None:
    """The dataset that the numbers are surely for: a preset's key, or the name in the file."""
    surest = [found for found in pair.datasets if found.by == pair.datasets[0].by]
    names = {found.key or found.text for found in surest if found.by != "nearby"}
    return names.pop() if len(names) == 1 else None


def _problems(pair: Pair, file: str) -> Iterator[Judged]:
    for finding in _applied(pair):
        written = _written(pair, finding.field)
        line, column = written.place_of(finding.index)
        field = pair.spread if finding.field == "std" else "mean"
        message, hint, severity = f"{field}: {finding.message}", finding.hint, finding.severity
        if finding.rule == "channel-order" and pair.order_by:
            message += f" (line {pair.order_by.place[0]}: {pair.order_by.text})"
            if pair.order == "BGR" and "imread" in pair.order_by.text:
                # Weights may have been trained on images of OpenCV, with the numbers as they are.
                severity, hint = (
                    "info",
                    f"{hint}, or give RGB images, unless the weights need it so",
                )
        if finding.rule == "unit" and pair.framework == _TABLE and pair.table:
            others = f"the other entries of the table in line {pair.table[0]}"
            message = message.replace("this field", others)
        if finding.rule == "known-wrong" and hint:
            hint += _what_the_file_says(pair)
        if finding.rule == "other-dataset" and severity == "info" and _from_scratch(pair):
            severity = "warning"
        if pair.in_model and finding.rule in _FOR_ANY_NUMBERS:
            severity = "info"  # its weights need what they were trained with
        if finding.rule == "near-miss" and _TESTS.search(file):
            severity = "info"  # nothing depends on the numbers of a test
        problem = Problem(file, line, column, finding.rule, message, hint, severity)
        yield Judged(problem, () if severity == "info" else _edits(pair, finding))
    if pair.stated:
        yield _other_order(pair, file)
    yield from _again(pair, file)


def _other_order(pair: Pair, file: str) -> Judged:
    """Settings that were changed in a file of `emit --to`, whose header was not."""
    by = f" ({pair.order_by.text})" if pair.order_by else ""
    message = f"mean: the file is written for {pair.stated} images, but takes {pair.order}{by}"
    back = "change the setting back"
    if pair.framework == "mmengine":
        back = "set bgr_to_rgb=True (mmpretrain: to_rgb=True)"
    hint = f"{back}, or write the file again with `imgnorm emit --to`"
    return Judged(Problem(file, *pair.mean.place, "channel-order", message, hint, "warning"))


def _what_the_file_says(pair: Pair) -> str:
    said = ""
    if not _name(pair) and pair.datasets:
        first = pair.datasets[0]
        said += f" (line {first.place[0]} names {first.text})"
    if pair.pretrained:
        said += f" (line {pair.pretrained.place[0]} loads weights: {pair.pretrained.text})"
    return said


def _from_scratch(pair: Pair) -> bool:
    """Whether the images of a dataset get numbers of weights in a file that loads no weights."""
    return bool(pair.datasets) and pair.datasets[0].by == "built" and not pair.pretrained


def _again(pair: Pair, file: str) -> Iterator[Judged]:
    """A second normalization of the same images."""
    line, column = pair.mean.place
    if pair.before:
        message = f"mean: the images are normalized already, in line {pair.before[0]}"
        yield Judged(Problem(file, line, column, "normalized-twice", message, "keep one"))
    elif pair.normalizes_inside and any(pair.mean.values):
        inside = pair.normalizes_inside
        message = f"mean: {inside.text} in line {inside.place[0]} normalizes its images itself"
        hint = (
            "give it images in 0..1, or build it with image_mean=[0, 0, 0] and image_std=[1, 1, 1]"
        )
        problem = Problem(file, line, column, "normalized-twice", message, hint, "warning")
        yield Judged(problem)


def _applied(pair: Pair) -> list[Finding]:
    """What the rules find that make sense for a pair."""
    mean, std = comparable(pair)
    values = (*mean.effective, *std.effective)
    if not all(map(math.isfinite, values)):
        return [f for f in findings(mean.values, std.values) if pair.pixels]
    if min(mean.effective) < 0 or (not any(mean.values) and max(std.effective) > 1):
        return []  # an inverse transform, or data other than pixels
    unit = pair.unit or _unit_by_size(mean.effective, std.effective)
    if unit is None:
        return _without_unit(pair, mean, std)
    if pair.spread == "variance" and (found := _not_squared(pair, unit)):
        return found
    found = _findings(pair, mean, std, round(unit * mean.divisor, 9))  # 255 * (1 / 255) is 1
    if pair.spread == "variance":  # a variance of 0 is no fault: Keras adds an epsilon
        found = [finding for finding in found if finding.rule != "not-usable"]
    return [finding for finding in found if _makes_sense(finding, pair, mean, std, unit)]


def _without_unit(pair: Pair, mean: Written, std: Written) -> list[Finding]:
    """Faults of a mean and a std that are in no unit, or in two."""
    found = findings(mean.effective, std.effective, unit=255.0)
    wrong = {"length"} if pair.spread == "variance" else {"length", "not-usable"}
    faults = [finding for finding in found if finding.rule in wrong and pair.pixels]
    for finding in found:
        other = std if finding.field == "mean" else mean
        if finding.rule == "unit" and min(other.effective) > 1 and max(other.effective) <= 255:
            message, name = (
                finding.message.partition(", this")[0],
                "std" if other is std else "mean",
            )
            hint = "give both in the unit of the images"
            message += f", but {name} for 0..255"
            faults.append(
                replace(finding, message=message, hint=hint, severity="warning", right={})
            )
    return faults


def _not_squared(pair: Pair, unit: float) -> list[Finding]:
    """A published std where its square belongs."""
    mean, std = (numbers_of(w.divided().values, unit=unit) for w in (pair.mean, pair.std))
    for known in matches("mean", mean):
        if len(set(std.values)) >= 3 and std.same(known.numbers("std")):
            given, squares = zip(
                *((f"{v:g}", f"{v * v:.6g}") for v in pair.std.effective), strict=True
            )
            message = f"{', '.join(given)} is the std of {known.title}, not its square"
            hint = f"write {', '.join(squares)}"
            return [Finding("unit", "error", message, hint, "std", None)]
    return []


def comparable(pair: Pair) -> tuple[Written, Written]:
    """The mean and the std, both with the same divisor."""
    mean, std = pair.mean, pair.std
    if mean.divisor == std.divisor and pair.spread == "std":
        return mean, std
    mean, std = mean.divided(), std.divided()
    if pair.spread == "std":
        return mean, std
    decimals = numbers_of(std.values).decimals + _MORE_DIGITS[pair.spread]
    values = (round(_AS_STD[pair.spread](value), max(0, decimals)) for value in std.values)
    return mean, replace(std, values=tuple(values))


def _unit_by_size(mean: tuple[float, ...], std: tuple[float, ...]) -> float | None:
    """0..1 (1.0) or 0..255 (255.0), judged by the size of the numbers; None if they fit neither."""
    if max(mean) <= 1:
        return 1.0 if max(std) <= 1 else None
    if max(*mean, *std) <= 255 and (min(std) > 1 or set(std) == {1}):
        return 255.0
    return None


def _findings(pair: Pair, mean: Written, std: Written, unit: float) -> list[Finding]:
    order, dataset = pair.order or "RGB", _name(pair)
    found = findings(mean.values, std.values, unit=unit, order=order, dataset=dataset)
    if pair.order is None:
        # Where the order is unknown, only a mean and a std in different orders are wrong.
        other = findings(mean.values, std.values, unit=unit, order="BGR", dataset=dataset)
        if "channel-order" not in {finding.rule for finding in other}:
            found = [finding for finding in found if finding.rule != "channel-order"]
    return found


def _makes_sense(finding: Finding, pair: Pair, mean: Written, std: Written, unit: float) -> bool:
    varied = len(set(std.values)) >= 3
    if finding.rule == "known-wrong":  # one number by itself occurs anywhere
        return varied or pair.pixels or pair.dataset is not None
    if finding.rule in _FOR_ANY_NUMBERS:
        return True
    if finding.rule == "std-equals-mean":
        return (pair.pixels and varied) or any(_published(mean, std, unit))
    if finding.rule == "out-of-range":
        return pair.pixels and (pair.unit is not None or len(std.values) == 3)
    if finding.rule == "unit":
        return pair.unit is not None
    if finding.rule == "length" and not pair.pixels:
        return any(_published(mean, std, unit))
    return pair.pixels


def _published(mean: Written, std: Written, unit: float) -> tuple[bool, bool]:
    """Whether mean and std are those of some published set, each with three different values."""
    fields: tuple[Field, Field] = ("mean", "std")
    lists = [numbers_of(one.values, unit=unit * one.divisor) for one in (mean, std)]
    found = (
        len(set(one.values)) >= 3 and bool(matches(field, one))
        for field, one in zip(fields, lists, strict=True)
    )
    return next(found), next(found)


def _edits(pair: Pair, finding: Finding) -> tuple[Edit, ...]:
    """What fixes a finding: the right numbers, in the file's own unit, order and digits."""
    by_call = pair.order_by is not None and "(" in pair.order_by.text  # of some images of the file
    if finding.rule == "channel-order" and (pair.order is None or pair.stated or by_call):
        return ()
    if finding.rule == "unit" and pair.framework == _TABLE:
        return ()
    exchanged = _exchanged(pair, finding)
    if exchanged:
        return exchanged
    converted = pair.mean.divisor != pair.std.divisor or pair.spread != "std"
    edits: dict[Place, Edit] = {}
    for field, numbers in finding.right.items():
        written = _written(pair, field)
        spread: Spread = "std" if field == "mean" else pair.spread
        factor = written.divisor if converted else 1.0
        values = [_FROM_STD[spread](value) * factor for value in numbers.values]
        least = None if finding.rule == "unit" else _digits(written)
        most = numbers.decimals if spread == "std" and factor == 1 else 17
        for text, value in zip(written.texts, values, strict=False):
            if text is None or len(values) != len(written.texts) or not _plain(text.text):
                return ()
            new = _number(value, text.text, least, most)
            if edits.setdefault(text.place, Edit(text.place, text.text, new)).new != new:
                return ()  # `[0.2] * 3` cannot hold three numbers
    return tuple(edit for edit in edits.values() if edit.new != edit.old)


def _exchanged(pair: Pair, finding: Finding) -> tuple[Edit, ...]:
    """The file's own numbers where they belong: from last to first, or those of mean and std exchanged."""
    mean, std = pair.mean, pair.std
    if finding.rule == "channel-order":
        lists = [_written(pair, field).texts for field in finding.right]
        moves = [(texts, texts[::-1]) for texts in lists]
    elif finding.rule == "swapped" and pair.spread == "std" and mean.divisor == std.divisor:
        moves = [(mean.texts, std.texts), (std.texts, mean.texts)]
    else:
        return ()
    both = [pair for olds, news in moves for pair in zip(olds, news, strict=False)]
    if len({old.place for old, _ in both if old}) != sum(len(olds) for olds, _ in moves):
        return ()
    return tuple(
        Edit(old.place, old.text, new.text)
        for old, new in both
        if old and new and old.text != new.text
    )


def _written(pair: Pair, field: Field) -> Written:
    return pair.mean if field == "mean" else pair.std


def _digits(written: Written) -> tuple[int, int]:
    """The fewest and the most decimals in a list."""
    decimals = [len(text.text.partition(".")[2]) for text in written.texts if text]
    return min(decimals, default=0), max(decimals, default=0)


def _plain(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _number(value: float, old: str, digits: tuple[int, int] | None, published: int) -> str:
    """A number as the file writes its neighbours: their decimals, and `.5` if the old one was so."""
    fewest, most = digits or (1, published)
    decimals = min(most, max(1, published)) if most else 0
    new = f"{value:.{decimals}f}"
    while decimals > fewest and new.endswith("0"):
        new, decimals = new[:-1], decimals - 1
    return new[1:] if old.startswith(".") and new.startswith("0.") else new
