"""Does a random sample of the images fit into what a stats file counts?"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isfinite

from imgnorm.checks.verify.betting import PixelRange, Shift, shifts
from imgnorm.checks.verify.findings import Findings, Task, compare_decoders, faults_of, some_of
from imgnorm.checks.verify.listings import Part
from imgnorm.documents.document import Path
from imgnorm.measuring.routes import counting
from imgnorm.progress import Progress
from imgnorm.settings import CenterCrop, Limits, Resize
from imgnorm.sources.names import as_text, for_message, name_bytes
from imgnorm.sources.source import Source, in_reading_order
from imgnorm.tally.floats import FloatPixels
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import ImageSums
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.tally.tally import Counted, Tally, in_mode

_BLOCK = {"I;16": 64}  # images whose histograms are in memory at a time, each by itself
_MENDED = 100  # images skipped then that are tried again
_NOT_THE_IMAGE_S_FAULT = {
    Reason.DUPLICATE_NAME,
    Reason.OUT_OF_MEMORY,
    Reason.TIMEOUT,
    Reason.TOO_LARGE,
    Reason.WORKER_DIED,
}


_Key = tuple[int, str]  # the part, the name


@dataclass(frozen=True)
class _Seen:
    """One image of the sample that could be measured."""

    sums: ImageSums
    pixels: int


def drawn_from(parts: Sequence[Part], sample: int, seed: int) -> list[_Key]:
    """Names in a random order, without replacement."""
    starts: list[int] = [0]
    for part in parts:
        starts.append(starts[-1] + len(part.counted))
    drawn: list[_Key] = []
    for place in random.Random(seed).sample(range(starts[-1]), sample):
        index = max(i for i in range(len(parts)) if starts[i] <= place)
        drawn.append((index, parts[index].counted[place - starts[index]]))
    return drawn


def compare_sample(
    findings: Findings, task: Task, parts: Sequence[Part], drawn: Sequence[_Key]
) -> None:
    """Find what images that were drawn at random show of a change of all.

    Args:
        drawn: in their random order, on which the bound depends; see `sampling`.
    """
    mode = task.stats.mode
    assert mode is not None
    tried = _mended_names(task, parts)
    whole = Counted.zero(mode)
    seen: dict[_Key, _Seen] = {}
    broken: list[Skipped] = []
    mended: list[str] = []
    unlike: list[str] = []
    decoders: dict[str, str] = {}
    for key, tally in _tallies(task, parts, [*drawn, *tried]):
        name = for_message(key[1])
        faults = [*tally.skipped]
        if key in tried:
            mended += [name] if tally.images and not faults else []
            continue
        decoders |= tally.decoders
        if faults:
            broken += faults
            continue
        if any(met not in _welcome(task) for met in tally.counted):
            unlike.append(f"{name} ({', '.join(tally.counted)})")
            continue
        counted = in_mode(tally.counted, mode)
        if counted.images != 1:
            continue
        whole += counted
        seen[key] = _Seen(counted.sums, _pixels(counted.pixels))
    if broken:
        message = f"counted then, and unreadable now: {faults_of(broken)}"
        findings.add(("skipped",), "skipped", message)
    if mended:
        message = f"skipped then, and readable now: {some_of(mended)}"
        findings.add(("skipped",), "skipped", message)
    if unlike:
        message = f"all {mode} then, and of another mode now: {some_of(unlike)}"
        findings.add(("image", "mode"), "mode", message)
    if compare_decoders(findings, task.measured.decoders, decoders):
        _compare_with_counts(findings, task, whole)
        _compare_sizes(findings, task, seen)
    order = [seen[key].sums for key in drawn if key in seen]
    _compare_averages(findings, task, order)


def _welcome(task: Task) -> tuple[str, ...]:
    """The modes that images of the file were counted in."""
    mode = task.stats.mode
    return ("L", "RGB") if mode == "RGB" and task.stats.auto else (str(mode),)


def _mended_names(task: Task, parts: Sequence[Part]) -> set[_Key]:
    """Images that were skipped for what they were: some may be whole by now."""
    names = {s.name for s in task.measured.skipped if s.reason not in _NOT_THE_IMAGE_S_FAULT}
    if not names:
        return set()
    there = [
        (index, name)
        for index, part in enumerate(parts)
        for name in part.listing.names
        if as_text(name) in names
    ]
    return set(there[:_MENDED])


def _tallies(
    task: Task, parts: Sequence[Part], keys: Iterable[_Key]
) -> Iterator[tuple[_Key, Tally]]:
    """The tally of each image by itself."""
    block = _BLOCK.get(str(task.stats.mode), 1000)
    by_part: dict[int, list[str]] = {}
    for index, name in keys:
        by_part.setdefault(index, []).append(name)
    total = sum(map(len, by_part.values()))
    done = 0
    for index, names in sorted(by_part.items()):
        source = parts[index].source
        ordered = in_reading_order(source, sorted(names, key=name_bytes))
        for start in range(0, len(ordered), block):
            some = ordered[start : start + block]

            def on_progress(progress: Progress, done: int = done) -> None:
                task.on_progress(replace(progress, done=done + progress.done, total=total))

            for name, tally in _each(task, source, some, on_progress):
                yield (index, name), tally
            done += len(some)


def _each(
    task: Task, source: Source, names: Sequence[str], on_progress: Callable[[Progress], None]
) -> Iterator[tuple[str, Tally]]:
    limits = Limits(task.max_pixels, task.timeout_s)
    groups = {name: [name] for name in names}
    with counting(source, task.settings, limits, images=len(names), workers=task.workers) as count:
        yield from count(groups, on_progress).items()


def _pixels(pixels: Histogram | FloatPixels) -> int:
    """Of one channel."""
    return sum(pixels.counts[0]) if isinstance(pixels, Histogram) else pixels.moments().count


def _compare_with_counts(findings: Findings, task: Task, whole: Counted) -> None:
    """A part is no more than the whole: what the sample has more of than the file is proof of a change."""
    then = task.measured
    there, here = then.pixels, whole.pixels
    for channel, name in enumerate(task.stats.channels if whole.images else ()):
        if isinstance(there, Histogram) and isinstance(here, Histogram):
            counts = list(zip(here.counts[channel], there.counts[channel], strict=True))
            more = [value for value, (sampled, all_) in enumerate(counts) if sampled > all_]
            if more:
                sampled, all_ = counts[more[0]]
                several = f" ({len(more):,} such values)" if len(more) > 1 else ""
                message = (
                    f"{sampled:,} pixels of value {more[0]} in the sample, {all_:,} in the file"
                )
                findings.add(("histogram", name), "pixels", message + several)
            continue
        least, greatest = here.minimum()[channel], here.maximum()[channel]
        if least < there.minimum()[channel]:
            message = f"{name}: {least!r} in the sample, {there.minimum()[channel]!r} in the file"
            findings.add(("min",), "pixels", message)
        if greatest > there.maximum()[channel]:
            message = (
                f"{name}: {greatest!r} in the sample, {there.maximum()[channel]!r} in the file"
            )
            findings.add(("max",), "pixels", message)
    for key, some, all_of in (
        ("modes", whole.modes, then.modes),
        ("formats", whole.formats, then.formats),
    ):
        for name, images in sorted(some.items()):
            if images > all_of.get(name, 0):
                message = f"{images:,} images in the sample, {all_of.get(name, 0):,} in the file"
                findings.add((key, name), key, message)


def _compare_sizes(findings: Findings, task: Task, seen: Mapping[_Key, _Seen]) -> None:
    """Sizes are no part of the file but for their sum: known only where `preprocess` makes them equal."""
    if not seen:
        return
    last = task.stats.preprocess[-1] if task.stats.preprocess else None
    pixels = _pixels(task.measured.pixels)
    average = pixels / task.measured.images
    equal = isinstance(last, CenterCrop) or (
        isinstance(last, Resize) and not isinstance(last.size, int)
    )
    sampled = sum(one.pixels for one in seen.values()) / len(seen)
    if equal and any(one.pixels * task.measured.images != pixels for one in seen.values()):
        message = f"{average:,.0f} pixels an image then, {sampled:,.0f} in the sample"
        findings.add(("pixels",), "pixels", message)
    elif not average / 2 <= sampled <= average * 2:
        # No error: a few huge images that the sample missed could explain it.
        message = f"{average:,.0f} pixels an image then, {sampled:,.0f} in the sample"
        findings.add(
            ("pixels",),
            "sizes",
            message,
            severity="warning",
            hint="`--sample all` tells whether images were resized",
        )


def _compare_averages(findings: Findings, task: Task, drawn: Sequence[ImageSums]) -> None:
    if not drawn:
        return
    pixels, scale = task.measured.pixels, task.stats.scale
    bounds = [
        PixelRange(Fraction(least) / scale, Fraction(greatest) / scale)
        for least, greatest in zip(pixels.minimum(), pixels.maximum(), strict=True)
    ]
    found = shifts(task.measured.sums, bounds, drawn[: task.measured.images])
    for number in dict.fromkeys(shift.number for shift in found):
        moved = [shift for shift in found if shift.number == number]
        told = "; ".join(_told(shift, task.stats.channels) for shift in moved)
        findings.add(_PLACES[number], "moved", f"{_CALLED[number]} moved: {told}")


_PLACES: dict[str, Path] = {
    "mean": ("mean",),
    "std": ("std",),
    "mean_of_image_std": ("conventions", "mean_of_image_std", "std"),
}
_CALLED = {
    "mean": "mean, each image with the same weight,",
    "std": "std, each image with the same weight,",
    "mean_of_image_std": "mean of the images' stds",
}


def _told(shift: Shift, channels: Sequence[str]) -> str:
    sigmas = f": {shift.sigmas:.1f} σ" if isfinite(shift.sigmas) else ""
    name = channels[shift.channel]
    return f"{name} by {shift.by:+.4f} ({shift.then:.4f} then, about {shift.now:.4f} now{sigmas})"
