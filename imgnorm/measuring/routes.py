"""A source and what is to be counted -> its executor, and the options that it does not go with."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from imgnorm.errors import SourceError, SourceWarning
from imgnorm.settings import conflicts
from imgnorm.sources.names import as_text
from imgnorm.sources.source import Source
from imgnorm.workers.executor import Executor, Work
from imgnorm.workers.forkserver import close_early
from imgnorm.workers.pool import in_processes
from imgnorm.workers.this_process import in_this_process, reason_to_stay

_TRAITS = ("once", "made_here", "in_blocks", "in_memory")


@contextmanager
def executing(source: Source, work: Work, images: int | None = None) -> Iterator[Executor]:
    """What counts the units of a source: its own executor, or worker processes.

    Args:
        images: how many it is called for at most, if that is known; no more workers are started.

    Raises:
        SourceError: the source yields no images, or none that the settings can be applied to; or workers
            are asked for that cannot have it.

    Warns:
        SourceWarning: the source is counted in this process, since worker processes cannot have it.
    """
    source.check(work.digits.settings)
    own = source.executor(work)
    if work.cluster is not None:
        if reason := reason_to_stay(source):
            raise SourceError(
                f"{as_text(source.ref)}: the nodes of a cluster cannot have this source: {reason}"
            )
        from imgnorm.workers.ray import in_cluster

        with in_cluster(source, work, work.cluster) as executor:
            yield executor
        return
    if own is None and (reason := reason_to_stay(source)):
        ref = as_text(source.ref)
        if work.workers is not None:
            raise SourceError(
                f"{ref}: workers cannot have this source: {reason}, or leave workers out"
            )
        text = (
            f"{ref}: one process counts all images, since workers cannot have this source: {reason}"
        )
        warnings.warn(text, SourceWarning, stacklevel=7)
        own = in_this_process(source, work)
    if own is not None:
        close_early()
        yield own
        return
    with in_processes(source, work, images) as executor:
        yield executor


def check_options(source: Source, facts: Collection[str]) -> None:
    """Check that options go with the source that was opened.

    Args:
        facts: of the call, from `call_facts`.

    Raises:
        SourceError: some do not.
    """
    traits = {name for name in _TRAITS if getattr(source, name)}
    if faults := "; and ".join(conflicts(traits.union(facts))):
        raise SourceError(f"{as_text(source.ref)}: {faults}")
