"""Stats file + source -> does the file still describe its data?"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from imgnorm.checks.verify.findings import Findings, Request
from imgnorm.checks.verify.listings import compare_names, listed
from imgnorm.checks.verify.recount import compare_all
from imgnorm.checks.verify.sample import compare_sample, drawn_from
from imgnorm.documents.document import STATS_LIMITS
from imgnorm.documents.reader import read_document
from imgnorm.errors import IncompatibleStats, Problem
from imgnorm.progress import Progress
from imgnorm.settings import MAX_PIXELS, TIMEOUT_S
from imgnorm.sources.source import Source
from imgnorm.stats.file import stats_in
from imgnorm.stats.format import STATS
from imgnorm.stats.measurement import Measurement
from imgnorm.stats.stats import NO_IMAGES, Stats
from imgnorm.wording import printable

SAMPLE = 1000
"""Images that are measured again by default: it takes seconds, and finds photos that became 5 % brighter."""


@dataclass(frozen=True)
class Verification:
    """What `verify` compared, and every difference between the file and the data.

    Example:
        >>> imgnorm.write_stats("stats.yaml", imgnorm.measure("examples/shapes"))
        >>> found = imgnorm.verify("stats.yaml")
        >>> found.stale, found.images, found.problems
        (False, 24, ())
    """

    file: str  # as the user named it
    problems: tuple[Problem, ...]  # in line order; if one is an error, the file is stale
    measured: int  # images that were measured again
    images: int  # images that the file counts
    seed: int | None  # of the sample; None if all images were measured again

    @property
    def stale(self) -> bool:
        """Whether the data changed since it was measured."""
        return any(problem.severity == "error" for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them, and whether the file is `stale`."""
        problems = [problem.to_dict() for problem in self.problems]
        return {**vars(self), "problems": problems, "stale": self.stale}

    def summary(self) -> str:
        """One line: `verified stats.yaml: true (1,000 of 50,000 images measured again, seed 0)`."""
        verdict = "stale" if self.stale else "true"
        which, seed = "all", ""
        if self.seed is not None:
            which, seed = f"{self.measured:,} of {self.images:,}", f", seed {self.seed}"
        return f"verified {printable(self.file)}: {verdict} ({which} images measured again{seed})"


def verify(
    stats_file: str | os.PathLike[str],
    source: str | os.PathLike[str] | Source | None = None,
    *,
    sample: int | Literal["all"] = SAMPLE,
    seed: int = 0,
    root: str | os.PathLike[str] = "data",
    layout: str | None = None,
    max_pixels: int = MAX_PIXELS,
    timeout_s: float = TIMEOUT_S,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Verification:
    """Compare a stats file with its data.

    The names are compared by their digest. A random sample of the images is measured again, with the
    file's own mode and preprocess. It must not have more of anything than the file counts, and the
    averages of the images' means, variances and stds must be those of the file. On unchanged data,
    whatever its distribution, this reports a difference with a chance of at most 1 in 1,000 (see
    `imgnorm.checks.verify.betting`). With `sample="all"`, or where the sample would be all images,
    every integer must be equal.

    Args:
        source: a folder, archive, list or torchvision:NAME, as for `measure`, or a pipeline config.
            None: the file's own `source`, with paths relative to the current folder.
        sample: how many images are measured again.
        seed: decides which images.
        root: the folder of a torchvision dataset.
        layout: the dimensions of arrays whose shape is ambiguous, as for `measure`. A config has its
            own.
        max_pixels: larger images are skipped, as for `measure`.
        timeout_s: for one image.
        workers: processes that decode; None: one per core.

    Raises:
        SourceError: the file or its data does not exist, or cannot be read.
        InvalidDocument: the file is not a valid stats file.
        IncompatibleStats: the file holds nothing that can be verified: constants, an estimate, no images,
            or some shards of an older imgnorm.

    Example:
        >>> imgnorm.write_stats("stats.yaml", imgnorm.measure("examples/shapes"))
        >>> print(imgnorm.verify("stats.yaml", sample=12).summary())
        verified stats.yaml: true (12 of 24 images measured again, seed 0)
    """
    if sample != "all" and not sample > 0:
        raise ValueError(f"sample is {sample!r}; expected 'all' or a positive number")
    file = os.fspath(stats_file)
    document = read_document(file, STATS_LIMITS, STATS)
    stats = stats_in(document)
    measured = _verifiable(stats, file)
    request = Request(
        file, stats, measured, os.fspath(root), layout, max_pixels, timeout_s, workers, on_progress
    )
    findings = Findings(document, request.remedy(source))
    parts = [listed(request, origin, source) for origin in measured.source.sources]
    for index, part in enumerate(parts):
        compare_names(findings, measured, part, index if measured.source.parts else None)
    everything = sum(len(part.counted) for part in parts)
    if not everything:
        return Verification(file, findings.sorted(), 0, measured.images, seed)
    if sample == "all" or sample >= min(everything, measured.images):
        compare_all(findings, request, parts)
        return Verification(file, findings.sorted(), everything, measured.images, None)
    drawn = drawn_from(parts, sample, seed)
    compare_sample(findings, request, parts, drawn)
    return Verification(file, findings.sorted(), sample, measured.images, seed)


def _verifiable(stats: Stats, file: str) -> Measurement:
    if stats.measurement is None:
        raise IncompatibleStats(
            f"{file}: holds constants, and does not say which images they are from; measure the images "
            "with `imgnorm stats`, or compare with `imgnorm explain NUMBERS --stats FILE`"
        )
    if stats.estimate is not None:
        raise IncompatibleStats(
            f"{file}: holds an estimate from a sample of the images, which is true only within its "
            "margins; measure all images with `imgnorm stats`, and verify that"
        )
    if not stats.images:
        raise IncompatibleStats(f"{file}: {NO_IMAGES}")
    for part in stats.measurement.source.sharded:
        if part.shards and len(set(part.shards.counted)) < len(part.shards.counted):
            raise IncompatibleStats(
                f"{file}: counts images of {part.called!r} twice ({part.shards}), so no data can "
                "match it; merge each shard once"
            )
        if not part.units_sha256:
            raise IncompatibleStats(
                f"{file}: counts {part.shards} of {part.called!r}, measured by an older imgnorm, which divided "
                "images differently; merge all of its shards and verify the whole, or measure again"
            )
    return stats.measurement
