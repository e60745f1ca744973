"""Stats file + source -> is the file still true of the data?"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from imgnorm.checks.verify.findings import Findings, Task
from imgnorm.checks.verify.listings import compare_names, listed
from imgnorm.checks.verify.recount import compare_all
from imgnorm.checks.verify.sample import compare_sample, drawn_from
from imgnorm.documents.document import STATS_LIMITS
from imgnorm.documents.reader import read_document
from imgnorm.errors import IncompatibleStats, Problem
from imgnorm.progress import Progress
from imgnorm.settings import Limits
from imgnorm.sources.source import Source
from imgnorm.stats.file import stats_in
from imgnorm.stats.measurement import Measurement
from imgnorm.stats.stats import Stats
from imgnorm.wording import printable

SAMPLE = 1000
"""Images that are measured again by default: seconds, and photos that became 5 % brighter are found."""


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
    layout: str | None = None,
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
        layout: of arrays whose shape does not tell, as `measure` has it; a config says it itself.

    Raises:
        SourceError: the file or its data is not there, or cannot be read.
        InvalidDocument: the file is no sound stats file.
        IncompatibleStats: the file says nothing that can be verified.
    """
    if sample != "all" and not sample > 0:
        raise ValueError(f"sample is {sample!r}; expected 'all' or a positive number")
    file = os.fspath(stats_file)
    document = read_document(file, STATS_LIMITS)
    stats = stats_in(document)
    measured = _verifiable(stats, file)
    task = Task(
        file, stats, measured, os.fspath(root), layout, max_pixels, timeout_s, workers, on_progress
    )
    findings = Findings(document, task.remedy(source))
    parts = [listed(task, origin, source) for origin in measured.source.sources]
    for index, part in enumerate(parts):
        compare_names(findings, measured, part, index if measured.source.parts else None)
    everything = sum(len(part.counted) for part in parts)
    if not everything:
        return Verification(file, findings.sorted(), 0, measured.images, seed)
    if sample == "all" or sample >= min(everything, measured.images):
        compare_all(findings, task, parts)
        return Verification(file, findings.sorted(), everything, measured.images, None)
    drawn = drawn_from(parts, sample, seed)
    compare_sample(findings, task, parts, drawn)
    return Verification(file, findings.sorted(), sample, measured.images, seed)


def _verifiable(stats: Stats, file: str) -> Measurement:
    if stats.measurement is None:
        raise IncompatibleStats(
            f"{file}: holds constants, which do not tell what images they are of; measure these with "
            "`imgnorm stats`, or compare with `imgnorm explain NUMBERS --stats FILE`"
        )
    if stats.estimate is not None:
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
