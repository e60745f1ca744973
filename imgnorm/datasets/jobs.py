"""Groups of names -> jobs of a few names each, and the jobs' tallies -> the tally of each group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from imgnorm.progress import Progress
from imgnorm.tally.tally import Tally

GroupJob = tuple[str, Sequence[str]]
"""A group, and some of its names."""


def jobs_of(groups: Mapping[str, Sequence[str]], at_most: int) -> list[GroupJob]:
    """The names of all groups, at most `at_most` in each job."""
    return [
        (group, names[start : start + at_most])
        for group, names in groups.items()
        for start in range(0, len(names), at_most)
    ]


def sum_by_group(
    jobs: Sequence[GroupJob],
    counted: Iterable[Tally],
    groups: Iterable[str],
    on_progress: Callable[[Progress], None],
) -> dict[str, Tally]:
    """The tally of each group.

    Args:
        counted: the tally of each job, in the order of the jobs.
    """
    tallies = {group: Tally() for group in groups}
    total, done = sum(len(names) for _, names in jobs), 0
    for (group, names), tally in zip(jobs, counted, strict=True):
        tallies[group] += tally
        done += len(names)
        on_progress(Progress(done, total, 0))
    return tallies
