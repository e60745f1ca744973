"""Problems with the numbers that a pipeline normalizes with, and with the stats file that it names."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from imgnorm.constants.findings import Finding, findings
from imgnorm.constants.presets import dataset_key, presets_of
from imgnorm.documents.document import Document, Path
from imgnorm.errors import InvalidDocument, Problem, Rule, SourceError
from imgnorm.settings import CHANNELS, TORCHVISION, Step, frames_text
from imgnorm.stats.stats import NO_IMAGES, Stats

if TYPE_CHECKING:
    from imgnorm.pipeline.pipeline import Pipeline

UNUSABLE = ("length", "not-usable")
"""The rules that find numbers with which nothing can be normalized, whatever their unit."""

Outcome = Stats | InvalidDocument | SourceError


def read_once(path: str, cache: dict[str, Outcome], read_stats: Callable[[str], Stats]) -> Outcome:
    """A stats file's content, or why it cannot be read. Each file is read once."""
    if path not in cache:
        try:
            cache[path] = read_stats(path)
        except (InvalidDocument, SourceError) as error:
            cache[path] = error
    return cache[path]


_MISSING_STATS = Rule(
    "missing-stats",
    "a stats file where the config says it is",
    "`normalize: {stats: …}` names a file that does not exist or cannot be read. The path is relative "
    "to the config; `~` and environment variables are not expanded.",
    "normalize: {stats: nowhere.yaml}",
    "normalize: {stats: ../stats/cifar10.yaml}",
)

_UNSOUND_STATS = Rule(
    "unsound-stats",
    "a stats file without faults",
    "The stats file that the config names has faults itself. Run `imgnorm validate` on it to see all of them.",
    "normalize: {stats: edited-by-hand.yaml}",
    "normalize: {stats: as-measured.yaml}",
)


def reference_problems(
    document: Document, pipeline: Pipeline, outcome: Outcome
) -> Iterator[Problem]:
    """What is wrong with `normalize: {stats: …}`."""
    path = ("normalize", "stats")
    if isinstance(outcome, SourceError):
        hint = f"measure it with `imgnorm stats {pipeline.file} -o {pipeline.stats_path}`"
        yield document.problem(path, _MISSING_STATS.id, str(outcome).partition(";")[0], hint)
    elif isinstance(outcome, InvalidDocument):
        # The config may be a stranger's, and may name any file: nothing of its content is shown.
        hint = f"`imgnorm validate {shlex.quote(pipeline.stats_path or '')}` says why"
        message = f"{pipeline.stats_path} is not a valid stats file"
        yield document.problem(path, _UNSOUND_STATS.id, message, hint)
    elif not outcome.mean:
        fault, _, hint = NO_IMAGES.partition("; ")
        yield document.problem(path, _UNSOUND_STATS.id, f"{pipeline.stats_path}: {fault}", hint)
    else:
        yield from _mismatches(document, pipeline, outcome)


_ESTIMATE = Rule(
    "estimate",
    "exact numbers, not an estimate",
    "The stats file was measured with --tolerance, on a random sample of the images. Its numbers are "
    "within the tolerance of the exact ones, with the confidence that the file states. That may be what you "
    "want; such a file cannot be merged or verified.",
    "normalize: {stats: measured-with-tolerance.yaml}",
    "normalize: {stats: measured-without.yaml}",
    severity="info",
)


def estimate_note(document: Document, stats: Stats, path: Path, named: str = "") -> Problem:
    """A note that the numbers are an estimate, which may be on purpose.

    Args:
        stats: an estimate.
        path: the place of the estimate in the document, or that of the name of its file.
        named: the name of its file, if it is not the document itself.
    """
    assert stats.estimate
    message = (
        f"{f'{named} is an estimate: ' if named else ''}mean and std are within "
        f"{stats.estimate.tolerance:g} of the exact ones only ({stats.estimate})"
    )
    hint = "for exact ones, measure all images, without --tolerance"
    return document.problem(path, _ESTIMATE.id, message, hint, of_key=not named, severity="info")


def constant_problems(document: Document, pipeline: Pipeline) -> Iterator[Problem]:
    """Why `normalize: {mean: …, std: …}` cannot be used at all."""
    channels = possible_channels(pipeline.mode, pipeline.source.get("source"), len(pipeline.mean))
    every = findings(pipeline.mean, pipeline.std, channels=channels)
    found = [finding for finding in every if finding.rule in UNUSABLE]
    yield from dict.fromkeys(problem_of(document, ("normalize",), finding) for finding in found)


def possible_channels(mode: object, source: object, given: int) -> Sequence[int]:
    """How many channels the images of a config have, as far as it says.

    Args:
        mode: its `image.mode`.
        source: the name of its source, for one of torchvision's datasets.
        given: how many numbers it has; if all modes are possible, one with so many channels is meant.
    """
    if isinstance(mode, str) and mode in CHANNELS:
        return (len(CHANNELS[mode]),)
    named = dataset_key(source.removeprefix(TORCHVISION)) if isinstance(source, str) else None
    if named:
        return (len(presets_of(named)[0].mean),)
    every = sorted({len(channels) for channels in CHANNELS.values()})
    return (given,) if given in every else every


def problem_of(document: Document, path: Path, found: Finding) -> Problem:
    """A finding about numbers, at its place below `path`."""
    where: Path = (*path, found.field, *(() if found.index is None else (found.index,)))
    value = document.value
    if path == ("normalize",) and value["normalize"].get("preset") is not None:
        where = (*path, "preset")
    return document.problem(where, found.rule, found.message, found.hint, severity=found.severity)


_OTHER_PREPROCESS = Rule(
    "other-preprocess",
    "stats measured with the config's preprocess",
    "Resizing and cropping change the statistics: resizing to half lowers the std by several percent. "
    "So does counting all frames of a file, and not only the first. "
    "The stats file records the steps that its images went through, and they differ from the config's.",
    "preprocess: [{Resize: {size: 256}}]\nnormalize: {stats: measured-without-resize.yaml}",
    "preprocess: [{Resize: {size: 256}}]\nnormalize: {stats: measured-with-resize-256.yaml}",
)

_OTHER_MODE = Rule(
    "other-mode",
    "stats measured in the config's mode",
    "The stats file was measured in another mode than the config's, with other channels.",
    "image: {mode: RGB}\nnormalize: {stats: measured-in-L.yaml}",
    "image: {mode: L}\nnormalize: {stats: measured-in-L.yaml}",
)


def _mismatches(document: Document, pipeline: Pipeline, stats: Stats) -> Iterator[Problem]:
    path = ("normalize", "stats")
    again = f"measure again with `imgnorm stats {pipeline.file} -o {pipeline.stats_path} --force`"
    if stats.mode is not None and stats.preprocess != pipeline.preprocess:
        yield document.problem(
            path,
            _OTHER_PREPROCESS.id,
            f"{pipeline.stats_path} was measured with preprocess {_as_text(stats.preprocess)}, but the config has "
            f"{_as_text(pipeline.preprocess)}",
            again,
        )
    if stats.measurement and stats.frames != pipeline.frames:
        yield document.problem(
            path,
            _OTHER_PREPROCESS.id,
            f"{pipeline.stats_path} was measured with --frames {frames_text(stats.frames)}, but image.frames is "
            f"{frames_text(pipeline.frames)}",
            again,
        )
    if pipeline.mode == "auto":
        if stats.of_floats or (stats.mode is not None and stats.mode not in CHANNELS):
            what = f"arrays of mode {stats.mode}" if stats.mode else "float values"
            yield document.problem(
                path,
                _OTHER_MODE.id,
                f"{pipeline.stats_path} was measured on {what}, but a pipeline starts from PIL images",
                f"`imgnorm emit {pipeline.stats_path}` writes the transform for such arrays; for images, {again}",
            )
        elif stats.mode is None:
            possible = possible_channels("auto", pipeline.source.get("source"), len(stats.mean))
            for finding in findings(stats.mean, stats.std, channels=possible)[:1]:
                if finding.rule == "length":
                    message = f"{pipeline.stats_path} has {finding.message}"
                    yield document.problem(path, _OTHER_MODE.id, message)
        return
    if stats.mode is not None and stats.mode != pipeline.mode:
        yield document.problem(
            path,
            _OTHER_MODE.id,
            f"{pipeline.stats_path} was measured in mode {stats.mode}, but image.mode is "
            f"{pipeline.mode}",
            again,
        )
    elif len(stats.channels) != len(CHANNELS[pipeline.mode]):
        yield document.problem(
            path,
            _OTHER_MODE.id,
            f"{pipeline.stats_path} has {len(stats.channels)} channels, but mode {pipeline.mode} has "
            f"{len(CHANNELS[pipeline.mode])}",
        )


def _as_text(steps: tuple[Step, ...]) -> str:
    sizes = [
        (type(step).__name__, step.size if isinstance(step.size, int) else list(step.size))
        for step in steps
    ]
    return "[" + ", ".join(f"{name}: {size}" for name, size in sizes) + "]"


RULES = tuple(page for page in globals().values() if isinstance(page, Rule))
