"""Does a random sample of the images fit what a stats file counts?"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import isfinite
from operator import gt, lt

from imgnorm.checks.verify.betting import PixelRange, Shift, shifts
from imgnorm.checks.verify.findings import Findings, Request, compare_decoders, faults_of, some_of
from imgnorm.checks.verify.listings import Part
from imgnorm.documents.document import Path
from imgnorm.measuring.routes import executing
from imgnorm.progress import Progress
from imgnorm.settings import CenterCrop, Limits, Resize
from imgnorm.sources.names import as_text, for_message
from imgnorm.sources.source import Unit
from imgnorm.tally.floats import FloatPixels
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import ImageSums
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.tally.tally import Counted, Tally, in_mode
from imgnorm.workers.executor import Work

_RETRIED = 100  # of the images that were skipped then, how many are tried again
_NOT_THE_IMAGES_FAULT = {
    Reason.DUPLICATE_NAME,
    Reason.OUT_OF_MEMORY,
    Reason.TIMEOUT,
    Reason.TOO_LARGE,
    Reason.WORKER_DIED,
}

_Key = tuple[int, int]  # which part, and the image's index in its names

_PLACES: dict[str, Path] = {
    "mean": ("mean",),
    "std": ("std",),
    "mean_of_image_std": ("conventions", "mean_of_image_std", "std"),
}
"""The place in the stats file of each number that `betting` compares."""
_NAMES = {
    "mean": "mean (each image with the same weight)",
    "std": "std (each image with the same weight)",
    "mean_of_image_std": "mean of the images' stds",
}
"""The same numbers, as messages call them."""


def drawn_from(parts: Sequence[Part], sample: int, seed: int) -> list[_Key]:
    """Images in a random order, without replacement."""
    starts: list[int] = [0]
    for part in parts:
        starts.append(starts[-1] + len(part.counted))
    drawn: list[_Key] = []
    for place in random.Random(seed).sample(range(starts[-1]), sample):
        index = max(i for i in range(len(parts)) if starts[i] <= place)
        drawn.append((index, parts[index].counted[place - starts[index]]))
    return drawn


def compare_sample(
    findings: Findings, request: Request, parts: Sequence[Part], drawn: Sequence[_Key]
) -> None:
    """Find differences that images drawn at random show.

    Args:
        drawn: in their random order, on which the bound depends; see `betting`.
    """
    mode = request.stats.mode
    assert mode is not None
    retried = _names_to_retry(request, parts)
    whole = Counted.zero(mode)
    seen: dict[_Key, _Seen] = {}
    broken: list[Skipped] = []
    readable: list[str] = []
    unlike: list[str] = []
    decoders: dict[str, str] = {}
    for key, tally in _tallies(request, parts, [*drawn, *retried]):
        part, index = key
        name = for_message(parts[part].names.name(index))
        if key in retried:
            readable += [name] if tally.images and not tally.skipped else []
            continue
        decoders |= tally.decoders
        if tally.skipped:
            broken += tally.skipped
            continue
        if any(counted_as not in _modes_of(request) for counted_as in tally.counted):
            unlike.append(f"{name} ({', '.join(tally.counted)})")
            continue
        counted = in_mode(tally.counted, mode)
        if counted.images != 1:
            continue
        whole += counted
        seen[key] = _Seen(counted.sums, _pixels(counted.pixels))
    if broken:
        message = f"counted then, but unreadable now: {faults_of(broken)}"
        findings.add(("skipped",), "skipped", message)
    if readable:
        message = f"skipped then, but readable now: {some_of(readable)}"
        findings.add(("skipped",), "skipped", message)
    if unlike:
        message = f"all {mode} then, but of another mode now: {some_of(unlike)}"
        findings.add(("image", "mode"), "mode", message)
    if compare_decoders(findings, request.measured.decoders, decoders):
        _compare_with_counts(findings, request, whole)
        _compare_sizes(findings, request, seen)
    order = [seen[key].sums for key in drawn if key in seen]
    _compare_averages(findings, request, order)


@dataclass(frozen=True)
class _Seen:
    """One image of the sample that could be measured."""

    sums: ImageSums
    pixels: int


def _modes_of(request: Request) -> tuple[str, ...]:
    """The modes in which images of the file were counted."""
    mode = request.stats.mode
    return ("L", "RGB") if mode == "RGB" and request.stats.auto else (str(mode),)


def _names_to_retry(request: Request, parts: Sequence[Part]) -> set[_Key]:
    """Images that were skipped for their own faults, and may have been repaired since."""
    names = {s.name for s in request.measured.skipped if s.reason not in _NOT_THE_IMAGES_FAULT}
    if not names:
        return set()
    listed = (
        (index, place)
        for index, part in enumerate(parts)
        for place, name in enumerate(part.names)
        if as_text(name) in names
    )
    return set(islice(listed, _RETRIED))


def _tallies(
    request: Request, parts: Sequence[Part], keys: Iterable[_Key]
) -> Iterator[tuple[_Key, Tally]]:
    """One tally per image, in the order in which they are best read."""
    by_part: dict[int, list[int]] = {}
    for index, place in keys:
        by_part.setdefault(index, []).append(place)
    work = Work(
        request.settings,
        Limits(request.max_pixels, request.timeout_s),
        workers=request.workers,
    )
    total = sum(map(len, by_part.values()))
    done = bytes_read = 0
    for index, places in sorted(by_part.items()):
        names = parts[index].names
        place_of = {names.name(place): place for place in places}
        with executing(parts[index].source, work, len(places)) as count:
            for one in _one_by_one(names.only(places)):
                assert one.names is not None
                tally = count([one], lambda progress: None)
                yield (index, place_of[one.names[0]]), tally
                done += 1
                bytes_read += tally.bytes_read
                request.on_progress(Progress(done, total, bytes_read))


def _one_by_one(units: Iterable[Unit]) -> Iterator[Unit]:
    """Units of one image each."""
    for unit in units:
        for place in range(len(unit)):
            yield unit.part(place, place + 1)


def _pixels(pixels: Histogram | FloatPixels) -> int:
    """The number of pixels in one channel."""
    return sum(pixels.counts[0]) if isinstance(pixels, Histogram) else pixels.moments().count


def _compare_with_counts(findings: Findings, request: Request, whole: Counted) -> None:
    """A part cannot have more than the whole: where the sample has more than the file, data changed."""
    then = request.measured
    in_file, in_sample = then.pixels, whole.pixels
    for channel, name in enumerate(request.stats.channels if whole.images else ()):
        if isinstance(in_file, Histogram) and isinstance(in_sample, Histogram):
            counts = list(zip(in_sample.counts[channel], in_file.counts[channel], strict=True))
            more = [value for value, (some, total) in enumerate(counts) if some > total]
            if more:
                some, total = counts[more[0]]
                several = f" ({len(more):,} such values)" if len(more) > 1 else ""
                message = f"{some:,} pixels of value {more[0]} in the sample, {total:,} in the file"
                findings.add(("histogram", name), "pixels", message + several)
            continue
        for key, new, old, outside in (
            ("min", in_sample.minimum(), in_file.minimum(), lt),
            ("max", in_sample.maximum(), in_file.maximum(), gt),
        ):
            if outside(new[channel], old[channel]):
                message = f"{name}: {new[channel]!r} in the sample, {old[channel]!r} in the file"
                findings.add((key,), "pixels", message)
    for key, sampled, counted in (
        ("modes", whole.modes, then.modes),
        ("formats", whole.formats, then.formats),
    ):
        for name, images in sorted(sampled.items()):
            if images > counted.get(name, 0):
                message = f"{images:,} images in the sample, {counted.get(name, 0):,} in the file"
                findings.add((key, name), key, message)


def _compare_sizes(findings: Findings, request: Request, seen: Mapping[_Key, _Seen]) -> None:
    """The file has the sum of the sizes only, which gives each one where `preprocess` makes them equal."""
    if not seen:
        return
    last = request.stats.preprocess[-1] if request.stats.preprocess else None
    pixels = _pixels(request.measured.pixels)
    average = pixels / request.measured.images
    equal = isinstance(last, CenterCrop) or (
        isinstance(last, Resize) and not isinstance(last.size, int)
    )
    sampled = sum(one.pixels for one in seen.values()) / len(seen)
    if equal and any(one.pixels * request.measured.images != pixels for one in seen.values()):
        message = f"{average:,.0f} pixels an image then, {sampled:,.0f} in the sample"
        findings.add(("pixels",), "pixels", message)
    elif not average / 2 <= sampled <= average * 2:
        # A warning only: a few huge images that the sample missed could explain it.
        message = f"{average:,.0f} pixels an image then, {sampled:,.0f} in the sample"
        findings.add(
            ("pixels",),
            "sizes",
            message,
            severity="warning",
            hint="`--sample all` shows whether images were resized",
        )


def _compare_averages(findings: Findings, request: Request, drawn: Sequence[ImageSums]) -> None:
    if not drawn:
        return
    pixels, scale = request.measured.pixels, request.stats.scale
    bounds = [
        PixelRange(Fraction(least) / scale, Fraction(greatest) / scale)
        for least, greatest in zip(pixels.minimum(), pixels.maximum(), strict=True)
    ]
    found = shifts(request.measured.sums, bounds, drawn[: request.measured.images])
    for number in dict.fromkeys(shift.number for shift in found):
        moved = [shift for shift in found if shift.number == number]
        shown = "; ".join(_described(shift, request.stats.channels) for shift in moved)
        findings.add(_PLACES[number], "moved", f"{_NAMES[number]} moved: {shown}")


def _described(shift: Shift, channels: Sequence[str]) -> str:
    sigmas = f": {shift.sigmas:.1f} σ" if isfinite(shift.sigmas) else ""
    name = channels[shift.channel]
    return f"{name} by {shift.by:+.4f} ({shift.then:.4f} then, about {shift.now:.4f} now{sigmas})"
