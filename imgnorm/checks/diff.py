"""Two measurements -> what differs between them, and what that means for normalization.

An image is the sampling unit: its pixels are taken together or not at all. So whether two datasets
differ by more than random draws of the same images would is judged from how far the images' own counts,
Σx and Σx² scatter (the cross sums of a stats file, see stats/estimate.py), by Welch's test (Welch 1947,
Biometrika 34, 28-35) with the fewer images' degrees of freedom, which is the careful choice.

Distances are of the exact histograms, per channel:

- Jensen-Shannon divergence in bits, from 0 (equal) to 1 (no value in common): Lin 1991, "Divergence
  measures based on the Shannon entropy", IEEE Transactions on Information Theory 37, eq. 4.1, weights 1/2.
- Wasserstein distance of order 1, in [0, 1]: the area between the cumulative distributions (Vallender
  1974, Theory of Probability and its Applications 18, 784-786): how far pixels move on average.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from numbers import Real
from typing import Any

from imgnorm.documents.document import STATS_LIMITS, Document, Path
from imgnorm.documents.reader import read_document
from imgnorm.errors import IncompatibleStats, Problem, Severity
from imgnorm.settings import frames_text
from imgnorm.stats.estimate import Sample, squared_errors, t_quantile
from imgnorm.stats.file import stats_in
from imgnorm.stats.format import STATS
from imgnorm.stats.measurement import Measurement
from imgnorm.stats.per_image import is_table
from imgnorm.stats.stats import NO_IMAGES, Stats
from imgnorm.tally.moments import square_root
from imgnorm.tally.overview import Distribution
from imgnorm.wording import printable

CONFIDENCE = 0.99
"""With which two random draws of the same images are not reported as different, all numbers together."""
FEWEST = 30
"""Images of each side: with fewer, their scatter is not known well enough to judge by it."""
_FEWEST_OF_A_CLASS = 5  # expected on each side, for the normal approximation of a share


@dataclass(frozen=True)
class ChannelDifference:
    """One channel of two measurements: a is the first, b the second."""

    channel: str
    mean: tuple[float, float]  # of a and b
    std: tuple[float, float]
    shift: float  # (mean of b - mean of a) / std of a: the mean of b's images through a's Normalize
    gain: float  # std of b / std of a: their std through it
    quantiles: Mapping[str, tuple[float, float]]
    """q01 … q99 of a and b, in [0, 1]; {} without histograms."""
    wasserstein: float | None  # in [0, 1]
    jensen_shannon: float | None  # in bits; None, too, if one has 8 bits and the other 16
    errors: tuple[float, float] | None
    """How many standard errors mean and variance differ by; None if that is not known."""
    margins: tuple[float, float]
    """How far shift and gain may be from the exact ones: 0 but for estimates."""


@dataclass(frozen=True)
class ClassDifference:
    """A class that only one of the two has, or whose share of the images or whose pixels moved."""

    name: str
    images: tuple[int, int]  # in a and b
    share: tuple[float, float]  # of all images
    moved: bool  # whether the shares differ by more than random draws of the same images give
    shift: float | None
    """Of its mean, in stds of a, in the channel where it is largest; with `per_class` only."""


@dataclass(frozen=True)
class Difference:
    """What differs between two measurements; `str()` of it is what the command prints.

    Example:
        >>> circles = imgnorm.measure("examples/shapes/circle")
        >>> difference = imgnorm.diff(imgnorm.measure("examples/shapes"), circles)
        >>> [(one.channel, round(one.shift, 2), round(one.gain, 2)) for one in difference.channels]
        [('R', -0.09, 1.04), ('G', -0.1, 0.98), ('B', 0.01, 0.93)]
    """

    names: tuple[str, str]  # of the two files
    sources: tuple[str, str]  # what was measured
    images: tuple[int, int]  # counted; 0 in constants
    channels: tuple[ChannelDifference, ...]  # those that both have
    unlike: tuple[str, ...]  # what cannot be compared, and why: a sentence each
    settings: Mapping[str, tuple[str, str]]  # by name, those that differ: mode, preprocess, ...
    classes: tuple[ClassDifference, ...]  # all; none if one of the two has no classes
    counts: Mapping[str, Mapping[str, tuple[int, int]]]
    """By kind (modes, formats, skipped, ignored, notes) and name: the images of a and b."""
    sizes: Mapping[str, tuple[str, str]]
    """Width x height of the smallest, the median and the largest image; {} if one does not have them."""
    same_names: bool  # whether both are of files of the same names
    confidence: float  # with which random draws of the same images are not reported as different
    allowed: float | None  # standard errors that random draws of the same images differ by, at most
    basis: str  # what the judgement about sampling rests on, or why there is none
    fail_over: float | None  # as given
    problems: tuple[Problem, ...]

    @property
    def failed(self) -> bool:
        """Whether a channel changed by more than `fail_over`."""
        return any(problem.severity == "error" for problem in self.problems)

    @property
    def by_chance(self) -> bool | None:
        """Whether two random draws of the same images may differ so; None if that is not known.

        It is not known where the files have the same names, so that they may be the same files.
        """
        errors = [error for one in self.channels for error in one.errors or ()]
        if self.allowed is None or not errors:
            return None
        if max(errors) > self.allowed:
            return False
        return None if self.same_names else True

    @property
    def verdict(self) -> str:
        """A line about a `fail_over` that holds: the largest change, and what was not judged; else ""."""
        from imgnorm.checks.diff_table import verdict

        return verdict(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them: None where a constant channel makes a number infinite."""
        problems = [problem.to_dict() for problem in self.problems]
        plain = _finite(dataclasses.asdict(dataclasses.replace(self, problems=())))
        return {**plain, "by_chance": self.by_chance, "problems": problems}

    def __str__(self) -> str:
        from imgnorm.checks.diff_table import difference_table

        return difference_table(self)


def diff(
    a: Stats | str | os.PathLike[str],
    b: Stats | str | os.PathLike[str],
    *,
    fail_over: float | None = None,
) -> Difference:
    """Compare two measurements: train and val, last month and this one, before and after a change.

    What one of them lacks, or what cannot be compared, is named in `unlike`, and the rest is compared:
    a channel that only one of them has is not judged.

    Args:
        a, b: stats, or the paths of stats files. b is compared with a.
        fail_over: the largest shift (the difference of the means, in stds of a) and the largest change of
            the std (0.05: 5 %) that are not a problem of severity "error". Those of estimates may be
            larger by their margins.

    Raises:
        SourceError, InvalidDocument: a file cannot be read, or has faults.
        IncompatibleStats: one of them has no images; or `fail_over` is given, and they have no channel
            in common.
        ValueError: `fail_over` is below 0, or no number.

    Example:
        >>> stats = imgnorm.measure("examples/shapes")
        >>> imgnorm.diff(stats, imgnorm.measure("examples/shapes", limit=8), fail_over=0.05).failed
        True
    """
    fail_over = fail_over_of(fail_over)
    sides = _Side.of(a, "a"), _Side.of(b, "b")
    first, second = (side.stats for side in sides)
    errors, basis = _errors(first, second)
    channels = tuple(_channel(first, second, i, j, errors) for i, j in _common(first, second))
    if fail_over is not None and not channels:
        raise IncompatibleStats(
            f"{sides[1].name}: has no channel to compare with {sides[0].name} "
            f"({'; '.join(_unlike(first, second))}); measure both with the same --mode"
        )
    measured = first.measurement, second.measurement
    difference = Difference(
        names=(sides[0].name, sides[1].name),
        sources=(_called(measured[0]), _called(measured[1])),
        images=(first.images, second.images),
        channels=channels,
        unlike=tuple(_unlike(first, second)),
        settings=_settings(first, second),
        classes=tuple(_classes(first, second)),
        counts=_counts(*measured),
        sizes=_sizes(*measured),
        same_names=_same_names(*measured),
        confidence=CONFIDENCE,
        allowed=_allowed(first, second, len(channels)) if errors else None,
        basis=basis,
        fail_over=fail_over,
        problems=(),
    )
    problems = tuple(_problems(difference, sides[1], fail_over))
    return dataclasses.replace(difference, problems=problems)


def fail_over_of(value: Any) -> float | None:
    """The value of `fail_over`, of which -0.0 is 0.

    Raises:
        ValueError: it is below 0, infinite, or no number.
    """
    if value is None:
        return None
    if not (isinstance(value, Real) and 0 <= value <= sys.float_info.max):  # type: ignore[operator]
        raise ValueError(f"fail_over is {value!r}; expected a number from 0 on, such as 0.05")
    return float(value) + 0.0


@dataclass(frozen=True)
class _Side:
    name: str
    stats: Stats
    document: Document | None

    @classmethod
    def of(cls, given: Stats | str | os.PathLike[str], name: str) -> _Side:
        document = None
        if not isinstance(given, Stats):
            name = os.fspath(given)
            if is_table(name):
                raise IncompatibleStats(
                    f"{name}: a table of images, not a stats file; shared_images compares two tables"
                )
            document = read_document(name, STATS_LIMITS, STATS)
            given = stats_in(document)
        if not given.mean:
            raise IncompatibleStats(f"{name}: {NO_IMAGES}")
        return cls(name, given, document)

    def problem(self, path: Path, rule: str, message: str, severity: Severity) -> Problem:
        if self.document is None:
            return Problem(self.name, 1, 1, rule, message, severity=severity)
        return dataclasses.replace(self.document.problem(path, rule, message), severity=severity)


def _common(a: Stats, b: Stats) -> list[tuple[int, int]]:
    """The channels of the same name, by their places; and gray ones of 8 and 16 bits."""
    if a.of_floats != b.of_floats:
        return []
    if len(a.channels) == len(b.channels) == 1:
        return [(0, 0)]
    return [(i, b.channels.index(c)) for i, c in enumerate(a.channels) if c in b.channels]


def _channel(a: Stats, b: Stats, i: int, j: int, errors: _Errors | None) -> ChannelDifference:
    quantiles: dict[str, tuple[float, float]] = {}
    wasserstein_, divergence = None, None
    before, after = (s.measurement and s.measurement.histogram for s in (a, b))
    if before and after and a.measurement and b.measurement:
        theirs = b.measurement.quantiles()
        quantiles = {
            q: (values[i] / a.scale, theirs[q][j] / b.scale)
            for q, values in a.measurement.quantiles().items()
        }
        wasserstein_ = wasserstein(before.counts[i], after.counts[j])
        if a.scale == b.scale:
            divergence = jensen_shannon(before.counts[i], after.counts[j])
    return ChannelDifference(
        b.channels[j],
        (a.mean[i], b.mean[j]),
        (a.std[i], b.std[j]),
        _ratio(b.mean[j] - a.mean[i], a.std[i]),
        _ratio(b.std[j], a.std[i]) if b.std[j] or a.std[i] else 1.0,
        quantiles,
        wasserstein_,
        divergence,
        _in_errors(errors, a, b, i, j) if errors else None,
        _margins(a, b, i, j),
    )


def _margins(a: Stats, b: Stats, i: int, j: int) -> tuple[float, float]:
    """How far shift and gain may be off, if all means and stds are within their error bars."""

    def margin_of(stats: Stats, channel: int) -> tuple[float, float]:
        margins = stats.estimate and stats.estimate.margins
        return (margins.mean[channel], margins.std[channel]) if margins else (0.0, 0.0)

    (mean_a, std_a), (mean_b, std_b) = margin_of(a, i), margin_of(b, j)
    if not (mean_a or std_a or mean_b or std_b):
        return 0.0, 0.0
    apart, either = abs(b.mean[j] - a.mean[i]), mean_a + mean_b
    shift = _ratio(apart + either, max(0.0, a.std[i] - std_a)) - _ratio(apart, a.std[i])
    gain = _ratio(b.std[j] + std_b, max(0.0, a.std[i] - std_a)) - _ratio(b.std[j], a.std[i])
    return shift, gain


def _ratio(value: float, divisor: float) -> float:
    """Of numbers that may be 0: a constant channel has a std of 0."""
    return value / divisor if divisor else math.copysign(math.inf, value) if value else 0.0


def jensen_shannon(a: Sequence[int], b: Sequence[int]) -> float:
    """The Jensen-Shannon divergence of two histograms, in bits: 0 to 1. The sums may differ."""
    totals = sum(a), sum(b)

    def terms() -> Iterator[float]:
        for x, y in zip(a, b, strict=True):
            p, q = x / totals[0], y / totals[1]
            middle = (p + q) / 2
            if p:
                yield p * math.log2(p / middle) / 2
            if q:
                yield q * math.log2(q / middle) / 2

    return min(1.0, max(0.0, math.fsum(terms())))


def wasserstein(a: Sequence[int], b: Sequence[int]) -> float:
    """The Wasserstein distance of order 1 of two histograms of 256 or 65,536 values, in [0, 1].

    It is computed in integers, and rounded once. A value v of 255 is the same as 257 · v of 65,535.
    """
    bins = max(len(a), len(b))
    a, b = _spread(a, bins), _spread(b, bins)
    totals = sum(a), sum(b)
    area = sum(
        abs(x * totals[1] - y * totals[0])
        for x, y in zip(accumulate(a), accumulate(b), strict=True)
    )
    return area / (totals[0] * totals[1] * (bins - 1))


def _spread(counts: Sequence[int], bins: int) -> Sequence[int]:
    if len(counts) == bins:
        return counts
    step = (bins - 1) // (len(counts) - 1)
    spread = [0] * bins
    spread[::step] = counts
    return spread


# Sampling


@dataclass(frozen=True)
class _Errors:
    """The squared standard errors of mean and variance, per channel, of both."""

    of_a: Sequence[tuple[Any, Any]]
    of_b: Sequence[tuple[Any, Any]]


def _errors(a: Stats, b: Stats) -> tuple[_Errors | None, str]:
    """The standard errors, if both have what they follow from, and what that is."""
    found = []
    for which, stats in (("first", a), ("second", b)):
        measured = stats.measurement
        if measured is None:
            return None, f"the {which} file holds constants, which do not say how images differ"
        if measured.histogram is None:
            return None, f"the {which} file is of float values, of which no cross sums are kept"
        if measured.cross_sums is None:
            return None, (
                f"the {which} file is of an older imgnorm, which did not keep how images differ (cross "
                "sums); measure again"
            )
        if stats.estimate and stats.estimate.bounds:
            return None, (
                f"the {which} file is an estimate, of images that were drawn by their sizes; its error bars say "
                "how far it may be off"
            )
        if measured.images < FEWEST:
            return None, f"the {which} file has fewer than {FEWEST} images"
        moments = measured.histogram.moments()
        sample = Sample(measured.images, moments, measured.cross_sums, stats.scale)
        found.append(squared_errors(sample))
    basis = "(Images are taken as drawn one by one; copies, and frames of a video, count as fewer.)"
    return _Errors(*found), basis


def _in_errors(errors: _Errors, a: Stats, b: Stats, i: int, j: int) -> tuple[float, float]:
    of_mean, of_variance = (
        square_root(x + y) for x, y in zip(errors.of_a[i], errors.of_b[j], strict=True)
    )
    variance = b.std[j] ** 2 - a.std[i] ** 2
    return abs(_ratio(b.mean[j] - a.mean[i], of_mean)), abs(_ratio(variance, of_variance))


def _allowed(a: Stats, b: Stats, channels: int) -> float | None:
    """Standard errors; the error is split among all means and stds (Bonferroni)."""
    if not channels:
        return None
    return t_quantile((1 - CONFIDENCE) / (2 * channels) / 2, min(a.images, b.images) - 1)


def _same_names(a: Measurement | None, b: Measurement | None) -> bool:
    """Whether the files have the same names; the names of what is in arrays and datasets are numbers."""
    kinds = {one.kind for measured in (a, b) if measured for one in measured.source.sources}
    same = a and b and a.source.names_sha256 == b.source.names_sha256
    return bool(same) and kinds <= {"archive", "folder", "list"}


# What else was counted


def _called(measured: Measurement | None) -> str:
    if measured is None:
        return "constants"
    refs = [one.called for one in measured.source.sources]
    return ", ".join(refs[:2]) + (f" and {len(refs) - 2} more" if len(refs) > 2 else "")


def _unlike(a: Stats, b: Stats) -> Iterator[str]:
    if a.of_floats != b.of_floats:
        floats, scaled = ("first", "second") if a.of_floats else ("second", "first")
        yield (
            f"means and stds: those of the {floats} file are of float values as they are, those of the "
            f"{scaled} file are in [0, 1]"
        )
        return
    common = _common(a, b)
    alone = [
        [c for i, c in enumerate(stats.channels) if all(i != pair[side] for pair in common)]
        for side, stats in enumerate((a, b))
    ]
    if any(alone):
        sides = zip(("the first file", "the second file"), alone, strict=True)
        told = "; ".join(f"only {which} has {', '.join(names)}" for which, names in sides if names)
        yield f"channels: {told}"
    lacking: dict[str, list[str]] = {}
    for which, stats in (("first", a), ("second", b)):
        if what := _lacks(stats.measurement):
            lacking.setdefault(what, []).append(which)
    for what, files in lacking.items():
        if not (files[1:] and what.startswith("sizes")):  # what none has is not missed
            yield f"{what}: {'both files' if files[1:] else f'the {files[0]} file'}"
    if "shards" in _settings(a, b):
        yield (
            "images and classes: a shard has only some of them, so what only one file has need not be new or "
            "lost; merge all shards first"
        )
    if a.scale != b.scale and not a.of_floats:
        yield "Jensen-Shannon: one file has values of 8 bits, the other of 16"


def _lacks(measured: Measurement | None) -> str:
    """What a file does not have, and why."""
    if measured is None:
        return "all but mean and std (constants)"
    if measured.histogram is None:
        return "quantiles and distances (float values have no histogram)"
    if measured.overview is None:
        return f"sizes ({'an estimate' if measured.estimate else 'of an older imgnorm'})"
    return ""


def _settings(a: Stats, b: Stats) -> dict[str, tuple[str, str]]:
    def told(stats: Stats) -> dict[str, str]:
        found = {"mode": stats.mode or "not said"}
        if stats.measurement is None:
            return found
        steps = ", ".join(map(repr, stats.preprocess))
        found |= {"preprocess": steps or "none", "frames": frames_text(stats.frames)}
        shards = [f"{one.shards}" for one in stats.measurement.source.sharded]
        found["shards"] = ", ".join(shards) or "all of them"
        found["strict channels"] = "yes" if stats.strict_channels else "no"
        estimate = stats.estimate
        if estimate:
            found["images"] = f"an estimate ({estimate}), off by up to {estimate.margins.widest:g}"
        else:
            found["images"] = "all of them"
        found |= {f"decoder of {f}": by for f, by in stats.measurement.decoders.items()}
        return found

    first, second = told(a), told(b)
    return {
        key: (value, second[key])
        for key, value in first.items()
        if key in second and second[key] != value
    }


def _counts(a: Measurement | None, b: Measurement | None) -> dict[str, dict[str, tuple[int, int]]]:
    if a is None or b is None:
        return {}

    def counted(one: Measurement) -> dict[str, Mapping[str, int]]:
        return {
            "modes": one.modes,
            "formats": one.formats,
            "skipped": Counter(skipped.reason.value for skipped in one.skipped),
            "ignored": one.ignored,
            "notes": {kind: noted.images for kind, noted in one.notes.items()},
        }

    first, second = counted(a), counted(b)
    return {
        kind: {
            name: (first[kind].get(name, 0), second[kind].get(name, 0))
            for name in sorted({*first[kind], *second[kind]})
        }
        for kind in first
    }


def _classes(a: Stats, b: Stats) -> Iterator[ClassDifference]:
    """All classes; by the test of two proportions (Fleiss, Levin & Paik 2003, ch. 3)."""
    if not (a.measurement and b.measurement):
        return
    first, second = a.measurement.classes, b.measurement.classes
    if not first or not second:
        return
    names = sorted({*first, *second})
    allowed = t_quantile((1 - CONFIDENCE) / len(names) / 2, math.inf)
    for name in names:
        mine, theirs = first.get(name), second.get(name)
        n, m = (one.images if one else 0 for one in (mine, theirs))
        pooled = (n + m) / (a.images + b.images)
        fewest = min(a.images, b.images) * min(pooled, 1 - pooled)
        error = math.sqrt(pooled * (1 - pooled) * (1 / a.images + 1 / b.images))
        shares = n / a.images, m / b.images
        far = fewest >= _FEWEST_OF_A_CLASS and abs(shares[1] - shares[0]) > allowed * error
        shift = None
        if mine and theirs and mine.moments and theirs.moments:
            before, after = mine.moments.mean(scale=a.scale), theirs.moments.mean(scale=b.scale)
            shifts = [_ratio(after[j] - before[i], a.std[i]) for i, j in _common(a, b)]
            shift = max(shifts, key=abs, default=None)
        yield ClassDifference(name, (n, m), shares, far, shift)


def _sizes(a: Measurement | None, b: Measurement | None) -> dict[str, tuple[str, str]]:
    found = []
    for measured in (a, b):
        sizes = measured and measured.overview and measured.overview.sizes
        if not sizes or not sizes.smallest or not sizes.largest:
            return {}
        ends = [
            f"{width} x {height}"
            for width, height in (sizes.smallest[0].size, sizes.largest[0].size)
        ]
        median = f"{_median(sizes.width)} x {_median(sizes.height)}"
        if ends[0] == ends[1]:
            median = ends[0]
        found.append({"smallest": ends[0], "median": median, "largest": ends[1]})
    first, second = found
    return {key: (value, second[key]) for key, value in first.items()}


def _median(distribution: Distribution) -> str:
    """With a tilde, if the images are counted in ranges that are wider than 1 there."""
    seen = list(accumulate(distribution.images))
    index = next(i for i, images in enumerate(seen) if 2 * images >= seen[-1])
    start, stop = distribution.starts[index], distribution.stops[index]
    return f"{start:g}" if stop - start <= 1 else f"~{(start + stop - 1) / 2:.0f}"


# Problems


def _problems(found: Difference, side: _Side, fail_over: float | None) -> Iterator[Problem]:
    for key, (before, after) in found.settings.items():
        message = f"{key}: {printable(after)}; {printable(before)} in {found.names[0]}"
        yield side.problem(("image",), "settings", message, "warning")
    for one in found.channels:
        index = side.stats.channels.index(one.channel)
        of_mean, of_std = one.errors or (0.0, 0.0)
        limit = fail_over or 0.0
        changes = (
            (
                "mean",
                one.mean,
                abs(one.shift),
                f"a shift of {_apart(one.shift, '+.3g', -limit, limit)} stds",
                of_mean,
            ),
            (
                "std",
                one.std,
                abs(one.gain - 1),
                f"{_apart(one.gain, '.4f', 1, 1 - limit, 1 + limit)} times",
                of_std,
            ),
        )
        for (name, (old, new), change, what, errors), margin in zip(
            changes, one.margins, strict=True
        ):
            over = fail_over is not None and change - margin > fail_over
            told = found.allowed is not None and errors > found.allowed
            if over or told:
                more = f", more than --fail-over {fail_over:g}" if over else ""
                message = (
                    f"channel {one.channel}: {_apart(new, '.4f', old)}, "
                    f"{_apart(old, '.4f', new)} in {found.names[0]}: {what}{more}"
                )
                yield side.problem((name, index), "shift", message, "error" if over else "info")


def _apart(value: float, form: str, *others: float) -> str:
    """A number in this form, with more digits if one of the others would read the same."""
    start, kind = int(form[-2]), form[-1]
    for digits in range(start, 18):
        longer = f"{form[:-2]}{digits}{kind}"
        text = format(value, longer)
        if all(value == other or text != format(other, longer) for other in others):
            return text
    return repr(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
