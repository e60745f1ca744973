"""What the commands show: results on standard output, notes and progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgnorm.progress import Progress


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


def images_bar(
    *, quiet: bool, tolerance: float | None = None
) -> AbstractContextManager[Callable[[Any], None]]:
    """The progress bar of a scan: images, and how fast their bytes come in.

    Args:
        tolerance: where the interval has to shrink to; the bar itself ends at the next look.
    """
    started = monotonic()

    def rate(progress: Progress) -> str:
        told = []
        if progress.bytes_read:
            megabytes = progress.bytes_read / 1e6
            told.append(f"{megabytes / max(monotonic() - started, 1e-9):,.0f} MB/s")
        if progress.margin is not None:
            told.append(f"± {progress.margin:.3g}, wanted {tolerance:g}")
        return ", ".join(told)

    return progress_bar("images", quiet=quiet, told=rate)


def _write(text: str, stream: IO[str] | None) -> None:
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()
