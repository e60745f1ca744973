"""The progress bar: in a terminal, and in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from imgnorm.wording import in_bytes, per_second

if TYPE_CHECKING:
    from imgnorm.progress import Progress

_SO_FAR = "{desc} [{elapsed}{postfix}]"
_OF_ALL = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}{postfix}]"


@contextmanager
def progress_bar(
    unit: str,
    *,
    shown: bool,
    describe: Callable[[Any], str],
    fraction: Callable[[Any], float | None] = lambda progress: None,
) -> Iterator[Callable[[Any], None]]:
    """A function that shows progress in a terminal or a notebook; elsewhere it does nothing.

    Args:
        shown: whether to show it at all.
        unit: what `done` and `total` of the progress count.
        describe: from the progress to the text behind the bar.
        fraction: from the progress to the part that is done, if that is not `done` of `total`.
    """
    notebook = "ipykernel" in sys.modules
    if not shown or not (notebook or (sys.stderr is not None and sys.stderr.isatty())):
        yield lambda progress: None
        return
    if notebook:
        from tqdm.auto import tqdm as bar_class
    else:
        from tqdm import tqdm as bar_class  # type: ignore[assignment]  # the other's base class
    started = monotonic()

    # Of a whole of 1: the bar may go from one unit to another, and a notebook's cannot change its end.
    with bar_class(
        total=1,
        desc=f"0 {unit} so far",
        file=sys.stderr,
        bar_format=_SO_FAR,
        smoothing=0,
        miniters=0,
        dynamic_ncols=True,
        leave=False,
    ) as bar:

        def on_progress(progress: Any) -> None:
            part, counted = fraction(progress), f"{progress.done:,} {unit}"
            if progress.total is None:
                counted += " so far"
            elif part is None:
                part = progress.done / max(progress.total, 1)
                counted = f"{progress.done:,}/{progress.total:,} {unit}"
            words = [per_second(progress.done, monotonic() - started, unit)]
            words += filter(None, [describe(progress)])
            bar.bar_format = _SO_FAR if part is None else _OF_ALL
            bar.set_description_str(counted, refresh=False)
            bar.set_postfix_str(", ".join(words), refresh=False)
            bar.update((part or 0) - bar.n)

        yield on_progress


def images_bar(
    *, shown: bool, tolerance: float | None = None
) -> AbstractContextManager[Callable[[Progress], None]]:
    """The progress bar of a scan: images, and how many bytes are read per second.

    Args:
        tolerance: what the margin of an estimate must shrink to; the bar itself shows only how far
            the current sample is.
    """
    started = monotonic()

    def describe(progress: Progress) -> str:
        words = [progress.doing] if progress.doing else []
        if progress.bytes_read:
            rate = progress.bytes_read / max(monotonic() - started, 1e-9)
            words.append(f"{in_bytes(rate)}/s")
        if progress.margin is not None:
            words.append(f"± {progress.margin:.3g}, wanted {tolerance:g}")
        return ", ".join(words)

    return progress_bar(
        "images", shown=shown, describe=describe, fraction=lambda progress: progress.fraction
    )
