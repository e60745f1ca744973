"""Stats file + source -> is the file still true of the data?"""

from __future__ import annotations

import os
import random
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from math import isfinite
from typing import Literal

from imgnorm.document import STATS_LIMITS, Document, Path, parse, read_bytes
from imgnorm.errors import IncompatibleStats, Problem, Severity, SourceError
from imgnorm.floats import FloatPixels
from imgnorm.histogram import Histogram
from imgnorm.image import CenterCrop, ImageSettings, Resize
from imgnorm.measured import ClassStats, Measurement
from imgnorm.measurement import (
    TORCHVISION,
    SkippedImagesWarning,
    SourceWarning,
    counting,
    limited,
    measure,
    open_named,
    open_source,
    refuse_idle,
)
from imgnorm.moments import UNIT_BITS, ImageSums
from imgnorm.provenance import MERGED, Provenance, names_digest
from imgnorm.reasons import Reason, Skipped
from imgnorm.sampling import Pixels, Shift, shifts
from imgnorm.scan import Limits, Progress
from imgnorm.sources import (
    Listing,
    ShardedSource,
    Source,
    StreamingSource,
    name_bytes,
    printable,
    shown,
)
from imgnorm.stats import Stats, merge
from imgnorm.statsfile import parse_stats
from imgnorm.tally import Counted, Tally, in_mode

SAMPLE = 1000
"""Images that are measured again by default: seconds, and photos that became 5 % brighter are found."""

_NAMED = 5  # names that a message gives before it says how many more there are
_PAIRS = 200_000  # names among which two are looked for whose digests make up a difference
_BLOCK = {"I;16": 64}  # images whose histograms are in memory at a time, each by itself
_MENDED = 100  # images skipped then that are tried again
_NOT_THE_IMAGE_S_FAULT = {
    Reason.DUPLICATE_NAME,
    Reason.OUT_OF_MEMORY,
    Reason.TIMEOUT,
    Reason.TOO_LARGE,
    Reason.WORKER_DIED,
}


@dataclass(frozen=True)
class Verification:
    """What was looked at, and everything in which the file and the data differ."""

    file: str  # as the user named it
    problems: tuple[Problem, ...]  # errors: the file is stale; warnings and infos: good to know
    measured: int  # images that were measured again
    images: int  # images that the file counts
    seed: int | None  # None if all were measured again

    @property
    def stale(self) -> bool:
        return any(problem.severity == "error" for problem in self.problems)

    def summary(self) -> str:
        """One line: `verified stats.yaml: true, by 1,000 of its 50,000 images (seed 0)`."""
        verdict = "stale" if self.stale else "true"
        if self.seed is None:
            return f"verified {printable(self.file)}: {verdict}, by all of its images"
        what = f"{self.measured:,} of its {self.images:,} images (seed {self.seed})"
        return f"verified {printable(self.file)}: {verdict}, by {what}"


def verify(
    stats_file: str | os.PathLike[str],
    source: str | os.PathLike[str] | Source | None = None,
    *,
    sample: int | Literal["all"] = SAMPLE,
    seed: int = 0,
    root: str | os.PathLike[str] = "data",
    max_pixels: int = Limits.max_pixels,
    timeout_s: float = Limits.timeout_s,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Verification:
    """Whether a stats file is still true of its data.

    The names are compared by their digest. Of the images, a random sample is measured again, with the
    file's own mode and preprocess: what it shows must fit into the file's counts, and the images' means,
    variances and stds must average what the file says, which they do on unchanged data but for a chance
    of 1 in 1,000, whatever the data (see `sampling`). With `sample="all"`, every integer must be equal;
    so it is, too, where the sample would be all images.

    Args:
        source: a folder, archive, list or torchvision:NAME, as `measure` has it, or a pipeline config;
            None: what the file's `source` says, paths as seen from the current folder.
        sample: how many images are measured again.
        seed: decides which.
        root: where a torchvision dataset lives.

    Raises:
        SourceError: the file or its data is not there, or cannot be read.
        InvalidDocument: the file is no sound stats file.
        IncompatibleStats: the file says nothing that can be verified.
    """
    if sample != "all" and not sample > 0:
        raise ValueError(f"sample is {sample!r}; expected 'all' or a positive number")
    file = os.fspath(stats_file)
    data = read_bytes(file, STATS_LIMITS)
    stats = parse_stats(data, file)
    measured = _verifiable(stats, file)
    task = _Task(
        file, stats, measured, os.fspath(root), max_pixels, timeout_s, workers, on_progress
    )
    findings = _Findings(parse(data, file, STATS_LIMITS), task.remedy(source))
    parts = [_listed(task, origin, source) for origin in measured.source.sources]
    for index, part in enumerate(parts):
        _compare_names(findings, measured, part, index if measured.source.parts else None)
    everything = sum(len(part.counted) for part in parts)
    if not everything:
        return Verification(file, findings.sorted(), 0, measured.images, seed)
    if sample == "all" or sample >= min(everything, measured.images):
        _compare_all(findings, task, parts)
        return Verification(file, findings.sorted(), everything, measured.images, None)
    drawn = _drawn(parts, sample, seed)
    _compare_sample(findings, task, parts, drawn)
    return Verification(file, findings.sorted(), sample, measured.images, seed)


def _verifiable(stats: Stats, file: str) -> Measurement:
    if stats.measurement is None:
        raise IncompatibleStats(
            f"{file}: holds constants, which do not tell what images they are of; measure these with "
            f"`imgnorm stats`, or compare with `imgnorm explain NUMBERS --stats FILE`"
        )
    if getattr(stats, "estimate", None) is not None:
        raise IncompatibleStats(
            f"{file}: holds an estimate, from a sample of the images, which is true within its margins "
            "only; measure all images with `imgnorm stats`, and verify that"
        )
    for part in stats.measurement.source.sharded:
        if part.shards and len(set(part.shards.counted)) < len(part.shards.counted):
            raise IncompatibleStats(
                f"{file}: counts images of {part.called!r} twice ({part.shards}), so it is true of no "
                "data; merge each shard once"
            )
    return stats.measurement


@dataclass(frozen=True)
class _Task:
    """What the caller asked for."""

    file: str
    stats: Stats
    measured: Measurement
    root: str
    max_pixels: int
    timeout_s: float
    workers: int | None
    on_progress: Callable[[Progress], None]

    @property
    def settings(self) -> ImageSettings:
        """With mode auto as it was, so that a color image among gray ones is seen as such."""
        assert self.stats.mode is not None
        return ImageSettings("auto" if self.stats.auto else self.stats.mode, self.stats.preprocess)

    def remedy(self, source: str | os.PathLike[str] | Source | None) -> str:
        """The command that makes the file true."""
        origin, file = self.measured.source, shlex.quote(self.file)
        if origin.kind == MERGED or origin.shards:
            return f"measure its parts again, and merge them: `imgnorm merge ... -o {file} --force`"
        named = os.fspath(source) if isinstance(source, (str, os.PathLike)) else _called(origin)
        options = ["--list"] if origin.kind == "list" else []
        if not named.endswith((".yaml", ".yml")):
            if not self.stats.auto:
                options += ["--mode", str(self.stats.mode)]
            options += _step_options(self.stats)
            if "split" in origin.options and origin.options["split"] != "train":
                options += ["--split", str(origin.options["split"])]
        if "limit" in origin.options:
            options += ["--limit", str(origin.options["limit"])]
        if any(one.moments for one in self.measured.classes.values()):
            options.append("--per-class")
        command = shlex.join(["imgnorm", "stats", named, *options])
        return f"measure again: `{command} -o {file} --force`"


def _step_options(stats: Stats) -> list[str]:
    options: list[str] = []
    for step in stats.preprocess:
        size = str(step.size) if isinstance(step.size, int) else f"{step.size[0]}x{step.size[1]}"
        options += ["--resize" if isinstance(step, Resize) else "--center-crop", size]
    return options


def _called(origin: Provenance) -> str:
    """What a user names on the command line."""
    ref = origin.ref if isinstance(origin.ref, str) else origin.ref[0]
    return TORCHVISION + ref if origin.kind == "torchvision" else ref


class _Findings:
    """Collects what differs, each at the line of the stats file that says otherwise."""

    def __init__(self, document: Document, remedy: str) -> None:
        self._document = document
        self._remedy = remedy
        self._problems: list[Problem] = []

    def add(
        self, path: Path, rule: str, message: str, *, severity: Severity = "error", hint: str = ""
    ) -> None:
        problem = self._document.problem(path, rule, message, hint or self._remedy, of_key=True)
        self._problems.append(replace(problem, severity=severity))

    def sorted(self) -> tuple[Problem, ...]:
        return tuple(sorted(self._problems, key=lambda p: (p.line, p.column)))


# ── what there is ──


@dataclass(frozen=True)
class _Part:
    """One source of the file, as it is now."""

    origin: Provenance
    source: Source
    listing: Listing
    counted: Sequence[str]  # the names that should be counted: by limit and shard, not skipped then


def _listed(
    task: _Task, origin: Provenance, source: str | os.PathLike[str] | Source | None
) -> _Part:
    if source is not None and task.measured.source.parts:
        raise IncompatibleStats(
            f"{task.file}: was merged from {len(task.measured.source.parts):,} sources, for which one cannot "
            "stand; leave SOURCE out, or verify the files that it was merged from"
        )
    opened = _opened(task, origin, source)
    refuse_idle(opened, task.settings, Limits(task.max_pixels, task.timeout_s))
    listing = opened.listing()
    limit = origin.options.get("limit")
    chosen, _ = limited(listing.names, limit if isinstance(limit, int) else None)
    names = (
        [name for i in origin.shards.counted for name in chosen[i - 1 :: origin.shards.of]]
        if origin.shards
        else chosen
    )
    aside = {s.name for s in task.measured.skipped if s.reason is not Reason.DUPLICATE_NAME}
    counted = [name for name in names if shown(name) not in aside] if aside else names
    return _Part(origin, opened, listing, counted)


def _opened(
    task: _Task, origin: Provenance, source: str | os.PathLike[str] | Source | None
) -> Source:
    root, split = task.root, str(origin.options.get("split", "train"))
    if source is None:
        return _named_by_the_file(task, origin, root, split)
    if not isinstance(source, (str, os.PathLike)):
        opened = open_source(source, key=origin.options.get("key"))
        if isinstance(opened, StreamingSource):
            raise IncompatibleStats(
                f"{task.file}: a stream without names cannot be compared with it; measure it again"
            )
        return opened
    path = os.fspath(source)
    if path.endswith((".yaml", ".yml")) and os.path.isfile(path):
        from imgnorm.config import read_pipeline

        pipeline = read_pipeline(path)
        named = pipeline.source
        return open_named(
            named["source"],
            listed=pipeline.listed,
            root=named.get("root", root),
            split=named.get("split", split),
        )
    listed = origin.kind == "list" and os.path.isfile(path)
    return open_named(path, listed=listed, root=root, split=split)


_NAMED_BY_A_USER = ("folder", "list", "archive", "torchvision")


def _named_by_the_file(task: _Task, origin: Provenance, root: str, split: str) -> Source:
    refs = [origin.ref] if isinstance(origin.ref, str) else origin.ref
    ref = next((ref for ref in refs if os.path.exists(ref)), refs[0])
    if origin.kind not in _NAMED_BY_A_USER and not os.path.exists(ref):
        raise IncompatibleStats(
            f"{task.file}: was measured from a source of kind {origin.kind!r}, which cannot be opened by "
            "its name; call imgnorm.verify with the source itself"
        )
    ref = TORCHVISION + ref if origin.kind == "torchvision" else ref
    try:
        return open_named(ref, listed=origin.kind == "list", root=root, split=split)
    except SourceError as error:
        raise SourceError(
            f"{error}\n    {task.file} was measured from it, in the folder that its path is seen from: go "
            "there, or name it as it is called here: `imgnorm verify FILE SOURCE`"
        ) from error


def _compare_names(
    findings: _Findings, measured: Measurement, part: _Part, index: int | None
) -> None:
    path: Path = ("source",) if index is None else ("source", "parts", index)
    now, then = names_digest(map(name_bytes, part.listing.names)), part.origin.listing_sha256
    if now != then:
        message = f"listing changed: {_counts_of(part)}"
        named = _named_change(part.listing.names, measured.skipped, int(now, 16) - int(then, 16))
        if index is None:
            named += _class_changes(measured, part)
        message += "".join(f"; {one}" for one in named)
        findings.add((*path, "listing_sha256"), "names", message)
    if part.origin.shards and 1 not in part.origin.shards.counted:
        return  # the first shard tells what was skipped without being looked into
    known = {s.name for s in measured.skipped}
    fresh = [s for s in part.listing.skipped if shown(s.name) not in known]
    if fresh:
        findings.add(("skipped",), "skipped", f"found now, and unreadable: {_faults(fresh)}")


def _counts_of(part: _Part) -> str:
    now, then = len(part.counted), part.origin.images
    if now == then:
        return f"{now:,} names as then, and not the same ones"
    return f"{now:,} names now, {then:,} then"


def _named_change(names: Sequence[str], skipped: Sequence[Skipped], difference: int) -> list[str]:
    """Which names make up a difference of digests, if it is one or two: a digest is a sum."""
    difference %= 1 << 256

    def number(name: str) -> int:
        return int.from_bytes(sha256(name_bytes(name)).digest(), "big")

    for one in skipped:  # the names that the file knows
        if number(one.name) == -difference % (1 << 256):
            return [f"{printable(one.name)!r} is gone"]
    few = len(names) <= _PAIRS
    seen: dict[int, str] = {}
    for name in names:
        value = number(name)
        if value == difference:
            return [f"{printable(shown(name))!r} is new"]
        other = seen.get((difference - value) % (1 << 256))
        if other is not None:
            pair = [repr(printable(shown(n))) for n in (other, name)]
            return [f"{' and '.join(pair)} are new"]
        if few:
            seen[value] = name
    return []


def _class_changes(measured: Measurement, part: _Part) -> list[str]:
    now: dict[str, int] = {}
    for name in part.counted:
        group = part.source.class_of(name)
        if group is not None:
            now[shown(group)] = now.get(shown(group), 0) + 1
    then = {name: one.images for name, one in measured.classes.items()}
    changed = [
        f"{printable(name)} {now.get(name, 0):,} now, {then.get(name, 0):,} then"
        for name in sorted({*now, *then})
        if now.get(name, 0) != then.get(name, 0)
    ]
    return [f"classes: {_some(changed)}"] if changed else []


# ── all images ──


def _compare_all(findings: _Findings, task: _Task, parts: Sequence[_Part]) -> None:
    try:
        now = _measured_again(task, parts)
    except SourceError as error:
        findings.add(("images",), "differs", f"cannot be measured any more: {error}")
        return
    assert now.measurement is not None
    then, measured = task.measured, now.measurement
    _compare_decoders(findings, then.decoders, measured.decoders)
    if now.mode != task.stats.mode:
        message = f"mode {task.stats.mode} then, {now.mode} now"
        findings.add(("image", "mode"), "differs", message)
        return
    for path, before, after in _facts(task.stats, now):
        if before != after:
            findings.add(path, "differs", f"{_short(before)} then, {_short(after)} now")
    _compare_skipped(findings, then.skipped, measured.skipped)


def _measured_again(task: _Task, parts: Sequence[_Part]) -> Stats:
    jobs = [
        (part, shard)
        for part in parts
        for shard in (
            [(i, part.origin.shards.of) for i in part.origin.shards.counted]
            if part.origin.shards
            else [None]
        )
    ]
    total = sum(len(part.counted) for part in parts)
    done = 0
    stats: list[Stats] = []
    for part, shard in jobs:
        limit = part.origin.options.get("limit")

        def on_progress(progress: Progress, done: int = done) -> None:
            task.on_progress(replace(progress, done=done + progress.done, total=total))

        with warnings.catch_warnings():
            for of_ours in (SkippedImagesWarning, SourceWarning):
                warnings.simplefilter("ignore", of_ours)
            one = measure(
                part.source,
                mode=task.settings.mode,
                preprocess=task.settings.preprocess,
                limit=limit if isinstance(limit, int) else None,
                shard=shard,
                per_class=any(one.moments for one in task.measured.classes.values()),
                max_pixels=task.max_pixels,
                timeout_s=task.timeout_s,
                workers=task.workers,
                on_progress=on_progress,
            )
        done += one.images
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
    return [_some([f"{side.get(n, 0)} {n}" for n in names]) for side in (before, after)]


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


def _compare_skipped(findings: _Findings, then: Sequence[Skipped], now: Sequence[Skipped]) -> None:
    before, after = ({(s.name, s.reason): s for s in skipped} for skipped in (then, now))
    fresh = [s for key, s in after.items() if key not in before]
    mended = [s for key, s in before.items() if key not in after]
    if fresh:
        findings.add(("skipped",), "skipped", f"unreadable now: {_faults(fresh)}")
    if mended:
        names = [f"{printable(s.name)} ({s.reason})" for s in mended]
        findings.add(("skipped",), "skipped", f"skipped then, and not now: {_some(names)}")


def _compare_decoders(findings: _Findings, then: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether the same libraries decode; if not, digits may differ for that alone."""
    other = [name for name in sorted(now) if name in then and now[name] != then[name]]
    for name in other:
        findings.add(
            ("decoders", name),
            "decoders",
            f"{then[name]} then, {now[name]} now: pixels may differ by a level for that alone",
            severity="warning",
        )
    return not other


# ── a sample ──


_Key = tuple[int, str]  # the part, the name


@dataclass(frozen=True)
class _Seen:
    """One image of the sample that could be measured."""

    sums: ImageSums
    pixels: int


def _drawn(parts: Sequence[_Part], sample: int, seed: int) -> list[_Key]:
    """Names in a random order, without replacement."""
    starts: list[int] = [0]
    for part in parts:
        starts.append(starts[-1] + len(part.counted))
    drawn: list[_Key] = []
    for place in random.Random(seed).sample(range(starts[-1]), sample):
        index = max(i for i in range(len(parts)) if starts[i] <= place)
        drawn.append((index, parts[index].counted[place - starts[index]]))
    return drawn


def _compare_sample(
    findings: _Findings, task: _Task, parts: Sequence[_Part], drawn: Sequence[_Key]
) -> None:
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
        name = printable(shown(key[1]))
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
        message = f"counted then, and unreadable now: {_faults(broken)}"
        findings.add(("skipped",), "skipped", message)
    if mended:
        message = f"skipped then, and readable now: {_some(mended)}"
        findings.add(("skipped",), "skipped", message)
    if unlike:
        message = f"all {mode} then, and of another mode now: {_some(unlike)}"
        findings.add(("image", "mode"), "mode", message)
    if _compare_decoders(findings, task.measured.decoders, decoders):
        _compare_with_counts(findings, task, whole)
        _compare_sizes(findings, task, seen)
    order = [seen[key].sums for key in drawn if key in seen]
    _compare_averages(findings, task, order, parts)


def _welcome(task: _Task) -> tuple[str, ...]:
    """The modes that images of the file were counted in."""
    mode = task.stats.mode
    return ("L", "RGB") if mode == "RGB" and task.stats.auto else (str(mode),)


def _mended_names(task: _Task, parts: Sequence[_Part]) -> set[_Key]:
    """Images that were skipped for what they were: some may be whole by now."""
    names = {s.name for s in task.measured.skipped if s.reason not in _NOT_THE_IMAGE_S_FAULT}
    if not names:
        return set()
    there = [
        (index, name)
        for index, part in enumerate(parts)
        for name in part.listing.names
        if shown(name) in names
    ]
    return set(there[:_MENDED])


def _tallies(
    task: _Task, parts: Sequence[_Part], keys: Iterable[_Key]
) -> Iterator[tuple[_Key, Tally]]:
    """The tally of each image by itself."""
    block = _BLOCK.get(str(task.stats.mode), SAMPLE)
    by_part: dict[int, list[str]] = {}
    for index, name in keys:
        by_part.setdefault(index, []).append(name)
    total = sum(map(len, by_part.values()))
    done = 0
    for index, names in sorted(by_part.items()):
        source = parts[index].source
        ordered = _in_reading_order(source, names)
        for start in range(0, len(ordered), block):
            some = ordered[start : start + block]

            def on_progress(progress: Progress, done: int = done) -> None:
                task.on_progress(replace(progress, done=done + progress.done, total=total))

            for name, tally in _each(task, source, some, on_progress):
                yield (index, name), tally
            done += len(some)


def _in_reading_order(source: Source, names: Iterable[str]) -> list[str]:
    ordered = sorted(names, key=name_bytes)
    if not isinstance(source, ShardedSource):
        return ordered
    return [name for _, part in source.shards(ordered) for name in part]


def _each(
    task: _Task, source: Source, names: Sequence[str], on_progress: Callable[[Progress], None]
) -> Iterator[tuple[str, Tally]]:
    limits = Limits(task.max_pixels, task.timeout_s)
    groups = {name: [name] for name in names}
    with counting(source, task.settings, limits, images=len(names), workers=task.workers) as count:
        yield from count(groups, on_progress).items()


def _pixels(pixels: Histogram | FloatPixels) -> int:
    """Of one channel."""
    return sum(pixels.counts[0]) if isinstance(pixels, Histogram) else pixels.moments().count


def _compare_with_counts(findings: _Findings, task: _Task, whole: Counted) -> None:
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


def _compare_sizes(findings: _Findings, task: _Task, seen: Mapping[_Key, _Seen]) -> None:
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


def _compare_averages(
    findings: _Findings, task: _Task, drawn: Sequence[ImageSums], parts: Sequence[_Part]
) -> None:
    if not drawn:
        return
    pixels, scale = task.measured.pixels, task.stats.scale
    bounds = [
        Pixels(Fraction(least) / scale, Fraction(greatest) / scale)
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


# ── words ──


def _faults(skipped: Sequence[Skipped]) -> str:
    return _some([f"{printable(shown(s.name))} ({s.reason})" for s in skipped])


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _NAMED:,} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."
