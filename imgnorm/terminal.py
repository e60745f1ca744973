"""What the commands show: results on standard output, notes and progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any


def show(text: str) -> None:
    """A result."""
    _write(text, sys.stdout)


def note(text: str) -> None:
    """What is no part of the result."""
    with suppress(OSError):  # nobody can be told
        _write(text, sys.stderr)


@contextmanager
def progress_bar(
    unit: str, *, quiet: bool, told: Callable[[Any], str]
) -> Iterator[Callable[[Any], None]]:
    """A function that shows progress on a terminal, and does nothing elsewhere or if `quiet`.

    Args:
        unit: what `done` and `total` of the progress count.
        told: from the progress to what stands behind the bar.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda progress: None
        return
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", file=sys.stderr, dynamic_ncols=True, leave=False) as bar:

        def on_progress(progress: Any) -> None:
            bar.total = progress.total
            bar.set_postfix_str(told(progress), refresh=False)
            bar.update(progress.done - bar.n)

        yield on_progress


def _write(text: str, stream: IO[str] | None) -> None:
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()
