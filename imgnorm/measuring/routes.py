"""A source and what is to be counted -> its executor, and the options that would do nothing for it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from imgnorm.errors import SourceError, SourceWarning
from imgnorm.settings import ImageSettings
from imgnorm.sources.names import as_text
from imgnorm.sources.source import Source
from imgnorm.workers.executor import Executor, Work
from imgnorm.workers.pool import in_processes
from imgnorm.workers.this_process import in_this_process, reason_to_stay


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
    source.check(work.settings)
    own = source.executor(work)
    if own is None and (reason := reason_to_stay(source)):
        ref = as_text(source.ref)
        if work.workers is not None:
            raise SourceError(
                f"{ref}: workers cannot have this source: {reason}, or leave workers out"
            )
        text = (
            f"{ref}: one process counts all images, since workers cannot have this source: {reason}"
        )
        warnings.warn(text, SourceWarning, stacklevel=5)
        own = in_this_process(source, work)
    if own is not None:
        yield own
        return
    with in_processes(source, work, images) as executor:
        yield executor


def refuse_idle(source: Source, given: Mapping[str, object], settings: ImageSettings) -> None:
    """Refuse options that would do nothing for this source.

    Args:
        given: the options of `measure` that have another value than their default.

    Raises:
        SourceError: some are given.
    """
    idle = source.idle_options(given, settings)
    if idle:
        faults = "; and ".join(f"{name}: {why}" for name, why in idle.items())
        raise SourceError(f"{as_text(source.ref)}: leave out {faults}")
