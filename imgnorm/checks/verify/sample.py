"""Does a random sample of the images fit what a stats file counts?"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import islice
from math import isfinite
from operator import gt, lt

from imgnorm.checks.verify.betting import PixelRange, Shift, shifts
from imgnorm.checks.verify.findings import Findings, Request, compare_decoders, faults_of, some_of
from imgnorm.checks.verify.listings import Part
from imgnorm.documents.document import Path
from imgnorm.measuring.routes import executing
from imgnorm.progress import Progress
from imgnorm.settings import Digits, fix_size
from imgnorm.sources.names import as_text, name_bytes
from imgnorm.tally.floats import FloatPixels
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import ImageSums
from imgnorm.tally.names import names_sum
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.tally.tally import GRAY, Counted, Tally, in_mode
from imgnorm.wording import printable
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
    sample = _measured(request, parts, drawn, _to_retry(request, parts))
    if sample.broken:
        message = f"counted then, but unreadable now: {faults_of(sample.broken)}"
        findings.add(("skipped",), "skipped", message)
    if sample.readable:
        names = [printable(name) for name in sample.readable]
        message = f"skipped then, but readable now: {some_of(names)}"
        findings.add(("skipped",), "skipped", message)
    if sample.unlike:
        unlike = [
            f"{printable(parts[index].names.name(place))} ({modes})"
            for (index, place), modes in sorted(sample.unlike.items())
        ]
        message = f"all {mode} then, but of another mode now: {some_of(unlike)}"
        findings.add(("image", "mode"), "mode", message)
    if compare_decoders(findings, request.measured.decoders, sample.whole.decoders):
        _compare_with_counts(findings, request, in_mode(sample.whole.counted, mode))
        _compare_sizes(findings, request, sample.seen)
    order = [sample.seen[key].sums for key in drawn if key in sample.seen]
    _compare_averages(findings, request, order)


@dataclass(frozen=True)
class _Seen:
    """One image of the sample that could be measured."""

    sums: ImageSums
    pixels: int


@dataclass
class _Sample:
    """What was found when the images of a sample were measured again."""

    whole: Tally = field(default_factory=Tally)
    seen: dict[_Key, _Seen] = field(default_factory=dict)
    unlike: dict[_Key, str] = field(default_factory=dict)  # image -> modes that the file has not
    broken: list[Skipped] = field(default_factory=list)  # by the order of the names
    readable: list[str] = field(default_factory=list)  # those that were skipped then


def _to_retry(request: Request, parts: Sequence[Part]) -> list[_Key]:
    """Images that were skipped for their own faults, and may have been repaired since."""
    names = {s.name for s in request.measured.skipped if s.reason not in _NOT_THE_IMAGES_FAULT}
    if not names:
        return []
    listed = (
        (index, place)
        for index, part in enumerate(parts)
        for place, name in enumerate(part.names)
        if as_text(name) in names
    )
    return [*islice(listed, _RETRIED)]


def _measured(
    request: Request, parts: Sequence[Part], drawn: Sequence[_Key], retried: Sequence[_Key]
) -> _Sample:
    sample = _Sample()
    total = len(drawn) + len(retried)
    done = bytes_read = 0

    def on_progress(progress: Progress) -> None:
        request.on_progress(Progress(done + progress.done, total, bytes_read + progress.bytes_read))

    for index, part in enumerate(parts):
        name, only = part.names.name, part.names.only
        places, again = ([p for i, p in keys if i == index] for keys in (drawn, retried))
        if not (places or again):
            continue
        keys = {names_sum([name_bytes(name(place))]): (index, place) for place in places}
        work = Work(
            Digits(request.settings, request.max_pixels),
            request.timeout_s,
            workers=request.workers,
            each=partial(_note, request, sample, keys),
        )
        with executing(part.source, work, len(places) + len(again)) as count:
            tally = count(only(places), on_progress)
            sample.whole += tally
            sample.broken += sorted(tally.skipped, key=lambda one: name_bytes(one.name))
            done += len(places)
            bytes_read += tally.bytes_read
            if not again:
                continue
            tally = count(only(again), on_progress)
            # 16-bit images among 8-bit ones are readable, and skipped all the same.
            deep = () if request.stats.mode == "I;16" else tally.names_16bit
            lost = {*deep, *(one.name for one in tally.skipped)}
            sample.readable += [name(place) for place in again if name(place) not in lost]
            done += len(again)
            bytes_read += tally.bytes_read
    return sample


def _note(request: Request, sample: _Sample, keys: Mapping[int, _Key], tally: Tally) -> None:
    """Note what was counted of one image, if it was drawn."""
    key, mode = keys.get(tally.names_sum), request.stats.mode
    if key is None or tally.skipped:
        return
    gray = GRAY.get(str(mode)) if request.stats.auto else None
    if not {*tally.counted} <= {mode, gray}:
        sample.unlike[key] = ", ".join(tally.counted)
        return
    assert mode is not None
    counted = in_mode(tally.counted, mode)
    if counted.images == 1:
        sample.seen[key] = _Seen(counted.sums, _pixels(counted.pixels))


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
    pixels = _pixels(request.measured.pixels)
    average = pixels / request.measured.images
    sampled = sum(one.pixels for one in seen.values()) / len(seen)
    if fix_size(request.stats.preprocess) and any(
        one.pixels * request.measured.images != pixels for one in seen.values()
    ):
        message = f"{average:,.0f} pixels an image then, {sampled:,.0f} in the sample"
        findings.add(("pixels",), "pixels", message)
    elif not average / 2 <= sampled <= average * 2:
        # A warning only: a few huge images that the sample missed could explain it.
        message = f"{average:,.0f} pixels an image then, {sampled:,.0f} in the sample"
        findings.add(
            ("pixels",),
            "sizes",
            message,
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
