"""The progress bar of the commands that read images."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgnorm.scan import Progress


@contextmanager
def bar(quiet: bool) -> Iterator[Any]:
    """A function that shows Progress on a terminal, and does nothing elsewhere."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda progress: None
        return
    from tqdm import tqdm

    with tqdm(unit=" images", file=sys.stderr, dynamic_ncols=True, leave=False) as shown:
        started = monotonic()

        def on_progress(progress: Progress) -> None:
            shown.total = progress.total
            rate = progress.bytes_read / 1e6 / max(monotonic() - started, 1e-9)
            shown.set_postfix_str(f"{rate:,.0f} MB/s", refresh=False)
            shown.update(progress.done - shown.n)

        yield on_progress
