"""The rules about numbers: what is wrong with a mean and a std, known from the numbers alone.

Each rule is its page (a `Rule`) and a pure function below it. `findings` calls them in turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Literal

from imgnorm.constants.presets import (
    PRESETS,
    WIDEST_TOLERANCE,
    Field,
    Numbers,
    Preset,
    dataset_key,
    matches,
    numbers_of,
    presets_of,
)
from imgnorm.errors import Rule, Severity

Order = Literal["RGB", "BGR"]

_OTHER_ORDER: dict[Order, Order] = {"RGB": "BGR", "BGR": "RGB"}

_FIELDS: tuple[Field, Field] = ("mean", "std")


@dataclass(frozen=True)
class Finding:
    """One fault of a mean and a std."""

    rule: str  # id, as "known-wrong"
    severity: Severity
    message: str  # lower case, with the offending value
    hint: str | None
    field: Field  # the list that it is about
    index: int | None  # the value in the list; None: the whole list
    right: Mapping[Field, Numbers] = dataclass_field(default_factory=dict)
    """What to write instead, in the field's unit and order; empty unless it is sure."""


def findings(
    mean: Sequence[float],
    std: Sequence[float],
    *,
    channels: int | Sequence[int] | None = None,
    unit: float = 1.0,
    order: Order = "RGB",
    dataset: str | None = None,
) -> list[Finding]:
    """What is wrong with a mean and a std: the fault, not its consequences.

    Args:
        channels: the number of channels, or the numbers that are possible. Without it, one value may
            stand for all.
        unit: the pixel value that means 1.0: 255 if the field is for pixels in 0..255.
        order: the order of the channels that the field is for.
        dataset: the data's name, if it is known: CIFAR10, cifar-10, or that of a dataset without preset.
    """
    means, stds = (tuple(map(_float_or_infinite, values)) for values in (mean, std))
    key = dataset_key(dataset) if dataset else None
    named = [known.title.partition(",")[0] for known in presets_of(key)] if key else []
    pair = _Pair(means, stds, unit, order, key, named[0] if named else dataset)
    lengths = list(_length(pair, channels))
    unusable = list(_not_usable(pair))
    if lengths or unusable:
        return lengths + unusable
    for rules in _IN_TURN:
        found = [finding for rule in rules for finding in rule(pair)]
        if found:
            return found
    return []


@dataclass(frozen=True)
class _Pair:
    """A mean and a std as given; `numbers` converts them to RGB and [0, 1], as presets are."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    unit: float
    order: Order
    dataset: str | None  # its key among the presets; None: unknown, or not among them
    name: str | None  # the dataset's name, for people

    def given(self, field: Field) -> tuple[float, ...]:
        return self.mean if field == "mean" else self.std

    def numbers(self, field: Field) -> Numbers:
        numbers = numbers_of(self.given(field), unit=self.unit)
        return numbers.reversed if self.order == "BGR" else numbers

    def finding(
        self,
        rule: Rule,
        field: Field,
        message: str,
        hint: str | None = None,
        index: int | None = None,
        *,
        severity: Severity | None = None,
        right: Mapping[Field, Numbers] | None = None,
    ) -> Finding:
        return Finding(rule.id, severity or rule.severity, message, hint, field, index, right or {})

    def turned(self, known: Numbers) -> Numbers:
        """A preset's numbers in this field's unit and order; gray ones repeated as often as given."""
        numbers = known.reversed if self.order == "BGR" else known
        if len(known.values) == 1:
            numbers = Numbers(known.values * len(self.std), known.tolerance)
        values = tuple(value * self.unit for value in numbers.values)
        return Numbers(values, numbers.tolerance * self.unit)

    def written(self, known: Numbers, digits: int | None = None) -> str:
        """A preset's values in this field's unit and order, with 4 digits, or as many as are given."""
        given = max(numbers_of(self.given(field)).decimals for field in _FIELDS)
        digits = min(digits or max(4, given), known.decimals) if self.unit == 1 else 3
        return ", ".join(f"{value:.{digits}f}" for value in self.turned(known).values)

    def right(self, known: Preset, *fields: Field) -> Mapping[Field, Numbers]:
        """What to write, if these are surely the numbers of the preset's dataset; else nothing."""
        if known.dataset != self.dataset:
            return {}
        return {field: self.turned(known.numbers(field)) for field in fields or _FIELDS}

    def effect(self, known: Preset, field: Field) -> str:
        """How far a field is from a preset's numbers: `18 to 23 % too small`."""
        given, right = self.given(field), self.turned(known.numbers(field)).values
        if len(given) != len(right):
            given = given * len(right)
        if field == "mean":
            stds = self.turned(known.numbers("std")).values
            most = max(abs(a - b) / s for a, b, s in zip(given, right, stds, strict=True))
            return f"off by {'up to ' if len(given) > 1 else ''}{most:.2g} stds"
        percents = [100 * a / b - 100 for a, b in zip(given, right, strict=True)]
        apart = sorted((p for p in percents if abs(p) > 0.05), key=abs)
        if not apart:
            return "less than 0.1 % off"
        ends = dict.fromkeys(f"{abs(p):.{0 if abs(p) > 2 else 1}f}" for p in (apart[0], apart[-1]))
        if min(apart) < 0 < max(apart):
            return f"up to {[*ends][-1]} % off"
        return f"{' to '.join(ends)} % too {'small' if apart[0] < 0 else 'large'}"

    def own_numbers(self) -> str:
        """What to use for the dataset whose name is known."""
        own = PRESETS.get(self.dataset or "")
        if own is None or own.mark == "wrong":
            return "measure it with `imgnorm stats`"
        mean, std = (self.written(own.numbers(field), 4) for field in _FIELDS)
        return f"use mean {mean}, std {std} (preset {own.name})"

    @property
    def only_scales(self) -> bool:
        """Mean 0, or std 1 as in Caffe: at least one of the two is not meant as a statistic."""
        return not any(self.mean) or set(self.std) == {1}

    @property
    def uniform_std(self) -> bool:
        """One std for several channels is a scale that somebody chose; no images have it."""
        return len(self.std) > 1 and len(set(self.std)) == 1


def _float_or_infinite(value: float) -> float:
    """The value, or infinity for an integer beyond float64: YAML has integers of any length."""
    try:
        float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    return value


def _as_written(values: Sequence[float]) -> str:
    """As it was probably written: 0.201 beside 0.2023 was 0.2010."""
    texts = [f"{value:g}" if len(repr(value)) > 12 else repr(value) for value in values]
    width = max(map(len, texts))
    if max(map(abs, values)) < 1 and width <= 12 and not any("e" in text for text in texts):
        return ", ".join(text.ljust(width, "0") if "." in text else text for text in texts)
    return ", ".join(texts)


def _range(unit: float) -> str:
    return f"0..{unit:g}"


_LENGTH = Rule(
    "length",
    "as many values as channels",
    "mean and std have one value for each channel of the images: one for gray, three for RGB. Where "
    "the number of channels is not known, the two lists must have the same length, but a single value may "
    "stand for all, as torchvision allows.",
    "normalize: {mean: [0.4914, 0.4822, 0.4465], std: [0.2470, 0.2435]}",
    "normalize: {mean: [0.4914, 0.4822, 0.4465], std: [0.2470, 0.2435, 0.2616]}",
)


def _length(pair: _Pair, channels: int | Sequence[int] | None) -> Iterator[Finding]:
    lengths: dict[Field, int] = {"mean": len(pair.mean), "std": len(pair.std)}
    possible = (channels,) if isinstance(channels, int) else channels
    if possible is not None and not {*lengths.values()} <= {*possible}:
        *others, last = map(str, possible)
        many = f"{', '.join(others)} or {last}" if others else last
        ending = "s" * (many != "1")
        for field, length in lengths.items():
            if length not in possible:
                message = f"{_values(length)} for {many} channel{ending}"
                yield pair.finding(_LENGTH, field, message, f"give {many} value{ending}")
    elif 0 in lengths.values():
        empty: Field = "std" if pair.mean else "mean"
        yield pair.finding(_LENGTH, empty, "no values", "give one for each channel")
    elif lengths["mean"] != lengths["std"] and 1 not in lengths.values():
        message = f"{_values(lengths['std'])}, but mean has {lengths['mean']}"
        yield pair.finding(_LENGTH, "std", message, "give one for each channel in both")


def _values(count: int) -> str:
    return "1 value" if count == 1 else f"{count} values"


_NOT_USABLE = Rule(
    "not-usable",
    "finite numbers, and a std above 0",
    "Normalize divides by std: 0 gives infinities (torchvision refuses it), and a std is never negative. "
    "A NaN or an infinity makes every pixel of the channel NaN or 0. They usually come from a sum that "
    "overflowed, or from a variance that rounding made negative. A channel that really is constant needs "
    "a least std, as `imgnorm emit --eps 1e-3` writes it.",
    "normalize: {mean: [0.5, 0.5, 0.5], std: [0.25, 0, 0.25]}",
    "normalize: {mean: [0.5, 0.5, 0.5], std: [0.25, 0.22, 0.25]}",
    alone=True,
)


def _not_usable(pair: _Pair) -> Iterator[Finding]:
    for field in _FIELDS:
        for index, value in enumerate(pair.given(field)):
            if not math.isfinite(value):
                message = f"{value!r} is {'not a number' if math.isnan(value) else 'infinite'}"
                hint = "measure the data again, and look for what overflowed"
                yield pair.finding(_NOT_USABLE, field, message, hint, index)
            elif field == "std" and value <= 0:
                message = f"{value!r} is not above 0"
                least = "a constant channel needs a least std, such as 1e-3" if value == 0 else None
                yield pair.finding(_NOT_USABLE, field, message, least, index)


_UNIT = Rule(
    "unit",
    "values in the unit of the field",
    "The numbers are for pixels in 0..255 where the field takes pixels in 0..1, or the reverse. After "
    "ToTensor, pixels are in 0..1; with mean 123.675 and std 58.395 the network gets values of about -2 "
    "for every image.",
    "normalize: {mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375]}",
    "normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
    alone=True,
)


def _unit(pair: _Pair) -> Iterator[Finding]:
    if pair.only_scales:
        return
    for field in _FIELDS:
        values = pair.given(field)
        if pair.unit == 1 and min(values) > 1 and max(values) <= 255:
            yield _unit_finding(pair, field, 1 / 255, "divide by 255", 4)
        elif pair.unit > 1 and _for_one(pair, field):
            yield _unit_finding(pair, field, pair.unit, f"multiply by {pair.unit:g}", 3)


def _unit_finding(pair: _Pair, field: Field, factor: float, how: str, digits: int) -> Finding:
    values = pair.given(field)
    converted = [value * factor if factor > 1 else value / 255 for value in values]
    tolerance = min(0.5 * 10**-digits, numbers_of(values).tolerance * factor)  # no digit is lost
    right = Numbers(tuple(converted), tolerance)
    while any(round(v, digits) != round(v, right.decimals) for v in converted):
        digits += 1
    listed = ", ".join(f"{value:.{digits}f}" for value in converted)
    theirs = _range(255 if pair.unit == 1 else 1)
    message = f"{_as_written(values)} is for {theirs}, this field for {_range(pair.unit)}"
    return pair.finding(_UNIT, field, message, f"{how}: {listed}", right={field: right})


def _for_one(pair: _Pair, field: Field) -> bool:
    """Whether a list is for pixels in 0..1: if both are; one of them only if it is a published one."""
    values = pair.given(field)
    if max(*pair.mean, *pair.std) <= 1:
        return True
    return max(values) <= 1 and len(set(values)) >= 3 and bool(matches(field, numbers_of(values)))


_SWAPPED = Rule(
    "swapped",
    "mean and std not exchanged",
    "The mean is the std of a known set, and the std is its mean: the two were passed in the wrong order, "
    "or pasted under the wrong names.",
    "normalize: {mean: [0.229, 0.224, 0.225], std: [0.485, 0.456, 0.406]}",
    "normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
)


def _swapped(pair: _Pair) -> Iterator[Finding]:
    if pair.mean == pair.std:
        return
    for known in matches("std", pair.numbers("mean")):
        if pair.numbers("std").same(known.numbers("mean")):
            message = f"{_as_written(pair.mean)} is the std of {known.title}, and std its mean"
            right = {field: pair.turned(known.numbers(field)) for field in _FIELDS}
            hint = "exchange mean and std"
            yield pair.finding(_SWAPPED, "mean", message, hint, right=right)
            return


_KNOWN_WRONG = Rule(
    "known-wrong",
    "not a set that is known to be wrong",
    "Some published numbers are wrong and have been copied for years: most are averages of per-image "
    "stds, which miss the differences between images (CIFAR-10's 0.2023, 0.1994, 0.2010; SVHN's "
    "0.1201, 0.1231, 0.1052), others are typing errors. The hint has the right numbers where they are "
    "known. A checkpoint that was trained with a wrong set needs that set: keep it, and mark it with "
    "`# imgnorm: ignore[known-wrong]`.",
    "normalize: {mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.2010]}",
    "normalize: {mean: [0.4914, 0.4822, 0.4465], std: [0.2470, 0.2435, 0.2616]}",
)
_CHECKPOINTS = "checkpoints that were trained with the old numbers need them"


def _known_wrong(pair: _Pair) -> Iterator[Finding]:
    mean, std = pair.numbers("mean"), pair.numbers("std")
    # A wrong set is wrong in BGR too. Whether BGR is right is the question of another rule.
    for given, turned in (((mean, std), False), ((mean.reversed, std.reversed), True)):
        known = _wrong_set(*given, pair.dataset)
        if known is None:
            continue
        field = wrong_field(known)
        values = pair.given(field)
        target = pair if not turned else replace(pair, order=_OTHER_ORDER[pair.order])
        right = PRESETS[known.use] if known.use else None
        effect = f", {target.effect(right, field)}" if right else ""
        message = (
            f"{_as_written(values)} is a wrong {field} of {known.title}{effect}: {known.remark}"
        )
        if known.evidence:
            message += f" ({known.evidence})"
        data = known.title.partition(",")[0]
        if pair.name and pair.dataset != known.dataset:
            hint = f"these are numbers of {data}, not of {pair.name}: {pair.own_numbers()}"
        elif right:
            hint = f"use {target.written(right.numbers(field))} (preset {right.name})"
            if not pair.name:
                data = f"for {data}" if right.for_weights else data
                hint = f"if this is {data}: {hint}; else measure with `imgnorm stats`"
        else:
            hint = f"no pooled {field} of it is published that we know of: measure with `imgnorm stats`"
        fix = target.right(right, field) if right else {}
        yield pair.finding(_KNOWN_WRONG, field, message, f"{hint}; {_CHECKPOINTS}", right=fix)
        return


def _wrong_set(mean: Numbers, std: Numbers, dataset: str | None) -> Preset | None:
    given = {"mean": mean, "std": std}
    for known in (*matches("std", std), *matches("mean", mean)):
        if known.mark != "wrong":
            continue
        field = wrong_field(known)
        other: Field = "std" if field == "mean" else "mean"
        if not given[field].same(known.numbers(field)):
            continue
        if given[field].tolerance > WIDEST_TOLERANCE and dataset != known.dataset:
            continue  # 0.15 and 0.15 may come from any dataset
        if known.use and given[field].same(PRESETS[known.use].numbers(field)):
            continue  # with so few digits it may be the right set
        if _distinctive(given[field]) or given[other].same(known.numbers(other)):
            return known
    return None


def wrong_field(known: Preset) -> Field:
    """The list of a wrong set that is wrong; std if both are."""
    right = PRESETS[known.use] if known.use else None
    mean_alone = right and right.numbers("std").same(known.numbers("std"))
    return "mean" if mean_alone else "std"


def _distinctive(numbers: Numbers) -> bool:
    """Three different values of four decimals are not a coincidence, whatever the other list is."""
    return len(set(numbers.values)) >= 3 and numbers.tolerance <= WIDEST_TOLERANCE / 10


_CHANNEL_ORDER = Rule(
    "channel-order",
    "values in the order of the channels",
    "The values are those of a known set from last to first: BGR, as in OpenCV and Caffe, where the field "
    "is for RGB, or the reverse. PIL and torchvision use RGB. If mean and std are in different orders, one "
    "of them is wrong for any images.",
    "normalize: {mean: [0.406, 0.456, 0.485], std: [0.225, 0.224, 0.229]}",
    "normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
    severity="warning",
)


def _channel_order(pair: _Pair) -> Iterator[Finding]:
    mean, std = pair.numbers("mean"), pair.numbers("std")
    known = _known_reversed("mean", mean)
    if known:
        both = std.reversed.same(known.numbers("std")) and not std.same(known.numbers("std"))
        mixed = std.same(known.numbers("std")) and not both
        yield _order_finding(pair, "mean", known, both=both, mixed=mixed)
        return
    known = _known_reversed("std", std)
    # Three stds alone are too close to one another to show an order: the mean must match, too.
    if known and mean.same(known.numbers("mean")):
        yield _order_finding(pair, "std", known, both=False, mixed=True)


def _order_finding(pair: _Pair, field: Field, known: Preset, *, both: bool, mixed: bool) -> Finding:
    reverse = "BGR" if pair.order == "RGB" else "RGB"
    given = _as_written(pair.given(field)) + (" and std are" if both else " is")
    other = "std" if field == "mean" else "mean"
    against = f"but {other}" if mixed else "this field"
    message = f"{given} in {reverse} order ({known.title}), {against} in {pair.order}"
    fields = _FIELDS if both else (field,)
    hint = f"write {' and '.join(_as_written(pair.given(one)[::-1]) for one in fields)}"
    right = {one: pair.turned(known.numbers(one)) for one in fields}
    return pair.finding(_CHANNEL_ORDER, field, message, hint, right=right)


def _known_reversed(field: Field, numbers: Numbers) -> Preset | None:
    if len(numbers.values) != 3 or numbers.tolerance > WIDEST_TOLERANCE or matches(field, numbers):
        return None
    return next(iter(matches(field, numbers.reversed)), None)


_STD_EQUALS_MEAN = Rule(
    "std-equals-mean",
    "std not a copy of mean",
    "All values of std equal those of mean: the same list was pasted twice. (0.5 and 0.5 are a convention, "
    "which this rule does not report.)",
    "normalize: {mean: [0.485, 0.456, 0.406], std: [0.485, 0.456, 0.406]}",
    "normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
)


def _std_equals_mean(pair: _Pair) -> Iterator[Finding]:
    if pair.mean != pair.std or pair.uniform_std or _half(pair.mean, pair.unit):
        return
    # 0.3 and 0.3 may well be right for a gray set; 0.306 and 0.306 would be a strange coincidence.
    if len(set(pair.std)) > 1 or pair.numbers("std").tolerance <= WIDEST_TOLERANCE:
        for field, other in (_FIELDS, _FIELDS[::-1]):
            for known in matches(field, pair.numbers(field)):
                if known.mark != "wrong":
                    message = f"{_as_written(pair.given(other))} is a copy of {field}"
                    hint = f"the {other} of {known.title} is {pair.written(known.numbers(other))}"
                    right = pair.right(known, other)
                    yield pair.finding(_STD_EQUALS_MEAN, other, message, hint, right=right)
                    return
        message = f"{_as_written(pair.std)} is a copy of mean"
        yield pair.finding(_STD_EQUALS_MEAN, "std", message)


_OUT_OF_RANGE = Rule(
    "out-of-range",
    "a mean and a std that pixels can have",
    "The mean of pixels lies between the smallest and the largest value that a pixel can have; a negative "
    "mean usually belongs to an inverse transform (-mean/std). Values in [0, 1] with a given mean have a "
    "std of at most sqrt(mean * (1 - mean)), which is never above 0.5 (Bhatia and Davis 2000): it is that "
    "large only if every pixel is 0 or 1. Anything else is a typing error, a sum that was not divided, or "
    "in another unit. The rule allows for the rounding of the given digits, and for one std for all "
    "channels, which is a scale.",
    "normalize: {mean: [0.52, 0.48, 0.41], std: [0.6298, 0.6112, 0.2531]}",
    "normalize: {mean: [0.52, 0.48, 0.41], std: [0.2698, 0.2612, 0.2531]}",
)


def _mean_range(pair: _Pair) -> Iterator[Finding]:
    if pair.unit == 1 and min(pair.mean) > 1 and max(pair.mean) <= 255:
        return  # in another unit, which the rule `unit` reports, or with std 1, which only subtracts
    for index, value in enumerate(pair.mean):
        if not 0 <= value <= pair.unit:
            message = f"{value!r} is not within {_range(pair.unit)}"
            yield pair.finding(_OUT_OF_RANGE, "mean", message, None, index)


def _impossible_std(pair: _Pair) -> Iterator[Finding]:
    if pair.only_scales or pair.uniform_std:
        return
    means, stds = numbers_of(pair.mean, unit=pair.unit), numbers_of(pair.std, unit=pair.unit)
    given = pair.mean * (len(pair.std) if len(pair.mean) == 1 else 1)
    values = means.values * (len(pair.std) if len(pair.mean) == 1 else 1)
    for index, std in enumerate(stds.values * (len(values) if len(stds.values) == 1 else 1)):
        if not 0 <= values[index] <= 1:
            continue
        low, high = values[index] - means.tolerance, values[index] + means.tolerance
        roomiest = min(max(0.5, low), high)  # before rounding: the mean that allows the largest std
        if std > math.sqrt(max(0.0, roomiest * (1 - roomiest))) + stds.tolerance + 1e-9:
            place = index if len(pair.std) > 1 else 0
            bound = math.sqrt(values[index] * (1 - values[index])) * pair.unit
            message = (
                f"{pair.std[place]!r} is impossible: pixels with mean {given[index]!r} have a std of "
                f"at most {bound:.4g}"
            )
            yield pair.finding(_OUT_OF_RANGE, "std", message, None, place)
            if len(pair.std) == 1:
                return


_OTHER_DATASET = Rule(
    "other-dataset",
    "the numbers of this dataset, not another's",
    "The numbers belong to another dataset than the one they are used for, as CIFAR-10's for CIFAR-100, or "
    "the mean to one dataset and the std to another. Those of pretrained weights (ImageNet's, CLIP's) are "
    "right for any data that such weights are used on, so they get a note only.",
    "source: {kind: torchvision, name: CIFAR100}\n"
    "normalize: {mean: [0.4914, 0.4822, 0.4465], std: [0.2470, 0.2435, 0.2616]}",
    "source: {kind: torchvision, name: CIFAR100}\n"
    "normalize: {mean: [0.5071, 0.4865, 0.4409], std: [0.2673, 0.2564, 0.2762]}",
    severity="warning",
)


def _other_dataset(pair: _Pair) -> Iterator[Finding]:
    if _half(pair.mean, pair.unit):
        return
    known = _of_both(pair)
    if not known:
        yield from _of_two_datasets(pair)
        return
    if pair.dataset is None or any(one.dataset == pair.dataset for one in known):
        return
    first = known[0]
    own = PRESETS.get(pair.dataset)
    right = pair.right(own) if own and own.mark != "wrong" else {}
    effect = (
        f": mean {pair.effect(own, 'mean')}, std {pair.effect(own, 'std')}" if right and own else ""
    )
    if first.for_weights:
        message = f"{_as_written(pair.mean)} belongs to weights: {first.title}"
        hint = f"right for a network that starts from such weights; else {pair.own_numbers()}"
        yield pair.finding(_OTHER_DATASET, "mean", message, hint, severity="info")
    else:
        message = (
            f"{_as_written(pair.mean)} is the mean of {first.title}, not of {pair.name}{effect}"
        )
        yield pair.finding(_OTHER_DATASET, "mean", message, pair.own_numbers(), right=right)


def _of_both(pair: _Pair) -> list[Preset]:
    """The presets whose mean and std these are."""
    mean = pair.numbers("mean")
    found = matches("std", pair.numbers("std"))
    return [known for known in found if mean.same(known.numbers("mean"))]


def _of_two_datasets(pair: _Pair) -> Iterator[Finding]:
    mean, std = pair.numbers("mean"), pair.numbers("std")
    if any(len({*n.values}) < 3 or n.tolerance > WIDEST_TOLERANCE for n in (mean, std)):
        return
    means, stds = matches("mean", mean), matches("std", std)
    if means and stds and {p.dataset for p in means}.isdisjoint(p.dataset for p in stds):
        message = f"{_as_written(pair.mean)} is the mean of {means[0].title}, but std that of {stds[0].title}"
        hint = "take both from the dataset that this is, or from the weights that it starts from"
        yield pair.finding(_OTHER_DATASET, "mean", message, hint)


_NEAR_MISS = Rule(
    "near-miss",
    "a known set without typing errors",
    "One of the two lists is that of a known set, and the other differs from it in one value, or by little, "
    "but by more than rounding: somebody typed the set and slipped. Those who compare their results with "
    "others' do not have the numbers that they believe to have.",
    "normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.255]}",
    "normalize: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}",
    severity="warning",
)
_NEAR = 0.004
"""So little apart in [0, 1], a list is a slip rather than that of another dataset."""


def _near_miss(pair: _Pair) -> Iterator[Finding]:
    for sound, field in (_FIELDS, _FIELDS[::-1]):
        exact, given = pair.numbers(sound), pair.numbers(field)
        known = matches(sound, exact)
        same = {p.dataset for p in matches(field, given)}  # of another edition of the set
        if len(set(exact.values)) < 3 or any(p.dataset in same for p in known):
            continue
        near = [p for p in known if p.mark != "wrong" and _slipped(given, p.numbers(field))]
        if not near:
            continue
        numbers = near[0].numbers(field)
        effect = f"{near[0].title}, {pair.effect(near[0], field)}"
        message = f"{_as_written(pair.given(field))} is nearly the {field} of {effect}"
        hint = f"write {pair.written(numbers)}, or say in a comment where the numbers are from"
        yield pair.finding(_NEAR_MISS, field, message, hint, right=pair.right(near[0], field))
        return


def _slipped(given: Numbers, known: Numbers) -> bool:
    """Whether a list is a known one with one wrong value, or one that is a little apart from it."""
    if len(given.values) != len(known.values) or given.tolerance > WIDEST_TOLERANCE:
        return False
    if len(set(known.values)) == 1:
        return False  # a scale, which is chosen
    # Digits that were cut off, not rounded, are up to a whole last digit apart.
    cut_off = 2 * given.tolerance if given.tolerance > known.tolerance else known.tolerance
    apart = [abs(a - b) for a, b in zip(given.values, known.values, strict=True)]
    wrong = [one for one in apart if one > cut_off * (1 + 1e-6)]
    return bool(wrong) and (len(wrong) == 1 or max(apart) <= _NEAR)


_CONVENTION = Rule(
    "convention",
    "measured numbers, not a convention",
    "Mean 0.5 and std 0.5 map [0, 1] to [-1, 1], and one std for all channels is a scale, not a "
    "measurement. No dataset has these statistics; the numbers are a choice, right for weights that were "
    "trained with it (Inception, many ViTs, Caffe's) and for generators that end in tanh.",
    "normalize: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}",
    "normalize: {mean: [0.4914, 0.4822, 0.4465], std: [0.2470, 0.2435, 0.2616]}",
    severity="info",
)


def _convention(pair: _Pair) -> Iterator[Finding]:
    scale = pair.uniform_std and len(set(pair.mean)) > 1 and not _of_both(pair)
    if scale or (_half(pair.mean, pair.unit) and _half(pair.std, pair.unit)):
        mean = _as_written(pair.mean if len(set(pair.mean)) > 1 else pair.mean[:1])
        message = f"{mean} with std {_as_written(pair.std[:1])} is a convention, not a statistic"
        hint = (
            "right for weights that were trained with it; `imgnorm stats` measures the data's own"
        )
        yield pair.finding(_CONVENTION, "mean", message, hint)


def _half(values: Sequence[float], unit: float) -> bool:
    middles = (0.5,) if unit == 1 else (unit / 2, (unit + 1) / 2, (unit - 1) / 2)
    # 127.502231 is 1 / 0.00784313, as Caffe's scale is often rounded.
    return all(any(abs(v - middle) < 3e-5 * unit for middle in middles) for v in values)


# The first group with findings has found the fault; later groups would report its consequences.
_IN_TURN = (
    (_swapped,),
    (_known_wrong,),
    (_unit, _mean_range),
    (_std_equals_mean,),
    (_impossible_std, _channel_order),
    (_near_miss, _other_dataset),
    (_convention,),
)

RULES = tuple(page for page in globals().values() if isinstance(page, Rule))
