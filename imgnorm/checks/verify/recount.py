"""Everything is measured again, and every integer of the stats file must be equal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from imgnorm.checks.verify.findings import Findings, Request, compare_decoders, faults_of, some_of
from imgnorm.checks.verify.listings import Part
from imgnorm.documents.document import Path
from imgnorm.errors import SkippedImagesWarning, SourceError, SourceWarning
from imgnorm.measuring.measure import measure
from imgnorm.progress import Progress
from imgnorm.settings import frames_text
from imgnorm.stats.measurement import ClassStats
from imgnorm.stats.stats import Stats, merge
from imgnorm.tally.moments import UNIT_BITS, ImageSums
from imgnorm.tally.skipped import Skipped
from imgnorm.wording import cut, printable


def compare_all(findings: Findings, request: Request, parts: Sequence[Part]) -> None:
    """Find every integer that is another one when all images are measured again."""
    try:
        now = _measured_again(request, parts)
    except SourceError as error:
        findings.add(("images",), "differs", f"cannot be measured any more: {error}")
        return
    assert now.measurement is not None
    then, measured = request.measured, now.measurement
    compare_decoders(findings, then.decoders, measured.decoders)
    if now.mode != request.stats.mode:
        message = f"mode {request.stats.mode} then, {now.mode} now"
        findings.add(("image", "mode"), "differs", message)
        return
    for path, before, after in _facts(request.stats, now):
        if before != after:
            findings.add(
                path, "differs", f"{cut(str(before), 100)} then, {cut(str(after), 100)} now"
            )
    _compare_skipped(findings, then.skipped, measured.skipped)


def _measured_again(request: Request, parts: Sequence[Part]) -> Stats:
    jobs = [
        (part, shard)
        for part in parts
        for shard in (
            [(i, part.origin.shards.total) for i in part.origin.shards.counted]
            if part.origin.shards
            else [None]
        )
    ]
    total = request.measured.images + len(request.measured.skipped)
    done = 0
    stats: list[Stats] = []
    for part, shard in jobs:
        limit = part.origin.options.get("limit")

        def on_progress(progress: Progress, done: int = done) -> None:
            ahead = max(total, done + (progress.total or 0))
            request.on_progress(replace(progress, done=done + progress.done, total=ahead))

        with warnings.catch_warnings():
            for category in (SkippedImagesWarning, SourceWarning):  # they become findings
                warnings.simplefilter("ignore", category)
            one = measure(
                part.source,
                mode=request.settings.mode,
                preprocess=request.settings.preprocess,
                strict_channels=request.settings.strict_channels,
                frames=frames_text(request.settings.frames),
                limit=limit if isinstance(limit, int) else None,
                shard=shard,
                per_class=any(one.moments for one in request.measured.classes.values()),
                max_pixels=request.max_pixels,
                timeout_s=request.timeout_s,
                workers=request.workers,
                on_progress=on_progress,
            )
        done += one.images + len(one.skipped)
        stats.append(one)
    return merge(stats, allow_missing=True, allow_overlap=True)


def _facts(then: Stats, now: Stats) -> Iterator[tuple[Path, str, str]]:
    """(place in the file, then, now) for mean, std and all that was counted; the rest follows from it."""
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
    notes = [{kind: one.images for kind, one in side.notes.items()} for side in (a, b)]
    before, after = _unequal(*notes)
    yield ("notes",), before, after
    before, after = _unequal(_described_classes(a.classes), _described_classes(b.classes))
    yield ("classes",), before, after
    for key in ("count", "unit_bits", "total", "total_sq"):
        sums = [getattr(one.pixels.moments(), key) for one in (a, b)]
        before, after = (str(s if isinstance(s, int) else list(s)) for s in sums)
        yield ("exact", key), before, after
    # Where one of them differs, the others usually do, so only the first is reported.
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
    """The average over the images with all digits, since only the last may differ."""
    values = getattr(sums, key)
    if isinstance(values, int):
        return str(values)
    return str([value / (sums.images << UNIT_BITS) for value in values])


def _described_classes(classes: Mapping[str, ClassStats]) -> dict[str, str]:
    def described(one: ClassStats) -> str:
        moments = (
            one.moments and f" with sums {list(one.moments.total)} {list(one.moments.total_sq)}"
        )
        return f"{one.images:,}{moments or ''}"

    return {printable(name): described(one) for name, one in classes.items()}


def _unequal(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """The entries in which two mappings differ: as they are in the one, and in the other."""
    names = [n for n in sorted({*before, *after}) if before.get(n, 0) != after.get(n, 0)]
    return [some_of([f"{side.get(n, 0)} {n}" for n in names]) for side in (before, after)]


def _differing(before: Sequence[int], after: Sequence[int]) -> tuple[str, str]:
    """The first pixel value whose count differs, as it is in the one, and in the other."""
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
    readable = [s for key, s in before.items() if key not in after]
    if fresh:
        findings.add(("skipped",), "skipped", f"unreadable now: {faults_of(fresh)}")
    if readable:
        names = [f"{printable(s.name)} ({s.reason})" for s in readable]
        findings.add(("skipped",), "skipped", f"skipped then, but not now: {some_of(names)}")
