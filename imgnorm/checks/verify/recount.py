"""Are all integers of a stats file those of its data? Everything is measured again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from imgnorm.checks.verify.findings import Findings, Task, compare_decoders, faults_of, some_of
from imgnorm.checks.verify.listings import Part
from imgnorm.documents.document import Path
from imgnorm.errors import SourceError
from imgnorm.measuring.measure import SkippedImagesWarning, SourceWarning, measure
from imgnorm.progress import Progress
from imgnorm.stats.measurement import ClassStats
from imgnorm.stats.stats import Stats, merge
from imgnorm.tally.moments import UNIT_BITS, ImageSums
from imgnorm.tally.skipped import Skipped
from imgnorm.wording import cut, printable


def compare_all(findings: Findings, task: Task, parts: Sequence[Part]) -> None:
    """Find every integer that measuring all images again gives otherwise."""
    try:
        now = _measured_again(task, parts)
    except SourceError as error:
        findings.add(("images",), "differs", f"cannot be measured any more: {error}")
        return
    assert now.measurement is not None
    then, measured = task.measured, now.measurement
    compare_decoders(findings, then.decoders, measured.decoders)
    if now.mode != task.stats.mode:
        message = f"mode {task.stats.mode} then, {now.mode} now"
        findings.add(("image", "mode"), "differs", message)
        return
    for path, before, after in _facts(task.stats, now):
        if before != after:
            findings.add(
                path, "differs", f"{cut(str(before), 100)} then, {cut(str(after), 100)} now"
            )
    _compare_skipped(findings, then.skipped, measured.skipped)


def _measured_again(task: Task, parts: Sequence[Part]) -> Stats:
    jobs = [
        (part, shard)
        for part in parts
        for shard in (
            [(i, part.origin.shards.total) for i in part.origin.shards.counted]
            if part.origin.shards
            else [None]
        )
    ]
    total = task.measured.images + len(task.measured.skipped)
    done = 0
    stats: list[Stats] = []
    for part, shard in jobs:
        limit = part.origin.options.get("limit")

        def on_progress(progress: Progress, done: int = done) -> None:
            ahead = max(total, done + (progress.total or 0))
            task.on_progress(replace(progress, done=done + progress.done, total=ahead))

        with warnings.catch_warnings():
            for of_ours in (SkippedImagesWarning, SourceWarning):
                warnings.simplefilter("ignore", of_ours)
            one = measure(
                part.source,
                mode=task.settings.mode,
                preprocess=task.settings.preprocess,
                strict_channels=task.settings.strict_channels,
                limit=limit if isinstance(limit, int) else None,
                shard=shard,
                per_class=any(one.moments for one in task.measured.classes.values()),
                max_pixels=task.max_pixels,
                timeout_s=task.timeout_s,
                workers=task.workers,
                on_progress=on_progress,
            )
        done += one.images + len(one.skipped)
        stats.append(one)
    return merge(stats, allow_missing=True, allow_overlap=True)


def _facts(then: Stats, now: Stats) -> Iterator[tuple[Path, str, str]]:
    """All that was counted, and the two numbers that people use; the rest follows from them."""
    a, b = then.measurement, now.measurement
    assert a is not None
    assert b is not None
    yield ("mean",), str(list(then.mean)), str(list(now.mean))
    yield ("std",), str(list(then.std)), str(list(now.std))
    yield ("images",), f"{a.images:,}", f"{b.images:,}"
    for key, mine, theirs in (
        ("modes", a.modes, b.modes),
        ("formats", a.formats, b.formats),
        ("ignored", a.ignored, b.ignored),
    ):
        before, after = _unequal(mine, theirs)
        yield (key,), before, after
    before, after = _unequal(_in_words(a.classes), _in_words(b.classes))
    yield ("classes",), before, after
    for key in ("count", "unit_bits", "total", "total_sq"):
        sums = [getattr(one.pixels.moments(), key) for one in (a, b)]
        before, after = (str(s if isinstance(s, int) else list(s)) for s in sums)
        yield ("exact", key), before, after
    # Where one of them differs, the others usually do: the first is told.
    for key in ("mean", "std", "mean_sq", "std_1", "one_pixel"):
        if getattr(a.sums, key) != getattr(b.sums, key):
            before, after = _average(a.sums, key), _average(b.sums, key)
            yield ("exact", "image_sums", key), before, after
            break
    if a.histogram is None or b.histogram is None:
        yield ("min",), str(a.pixels.minimum()), str(b.pixels.minimum())
        yield ("max",), str(a.pixels.maximum()), str(b.pixels.maximum())
        return
    for channel, name in enumerate(then.channels):
        before, after = _differing(a.histogram.counts[channel], b.histogram.counts[channel])
        yield ("histogram", name), before, after


def _average(sums: ImageSums, key: str) -> str:
    """Over the images, in full: it may differ in the last digit only."""
    values = getattr(sums, key)
    if isinstance(values, int):
        return str(values)
    return str([value / (sums.images << UNIT_BITS) for value in values])


def _in_words(classes: Mapping[str, ClassStats]) -> dict[str, str]:
    def words(one: ClassStats) -> str:
        moments = (
            one.moments and f" with sums {list(one.moments.total)} {list(one.moments.total_sq)}"
        )
        return f"{one.images:,}{moments or ''}"

    return {printable(name): words(one) for name, one in classes.items()}


def _unequal(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """What differs of two mappings: in the one, in the other."""
    names = [n for n in sorted({*before, *after}) if before.get(n, 0) != after.get(n, 0)]
    return [some_of([f"{side.get(n, 0)} {n}" for n in names]) for side in (before, after)]


def _differing(before: Sequence[int], after: Sequence[int]) -> tuple[str, str]:
    """The first pixel value whose count differs."""
    places = [i for i, (x, y) in enumerate(zip(before, after, strict=True)) if x != y]
    if not places:
        return "", ""
    first = places[0]
    return (
        f"{before[first]:,} pixels of value {first}",
        f"{after[first]:,} ({len(places):,} of {len(before):,} values differ)",
    )


def _compare_skipped(findings: Findings, then: Sequence[Skipped], now: Sequence[Skipped]) -> None:
    before, after = ({(s.name, s.reason): s for s in skipped} for skipped in (then, now))
    fresh = [s for key, s in after.items() if key not in before]
    mended = [s for key, s in before.items() if key not in after]
    if fresh:
        findings.add(("skipped",), "skipped", f"unreadable now: {faults_of(fresh)}")
    if mended:
        names = [f"{printable(s.name)} ({s.reason})" for s in mended]
        findings.add(("skipped",), "skipped", f"skipped then, and not now: {some_of(names)}")
