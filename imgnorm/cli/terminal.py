"""What the commands print: results on standard output, notes and progress on standard error."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

from imgnorm.wording import harmless

if TYPE_CHECKING:
    from imgnorm.progress import Progress

_SO_FAR = "{n:,}{unit} so far [{elapsed}, {rate_fmt}{postfix}]"
_OF_ALL = "{percentage:3.0f}%|{bar}| {n:,}/{total:,} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_PART = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}{postfix}]"


def print_result(text: str) -> None:
    _write(text, sys.stdout)


def note(text: str) -> None:
    """Print what is not part of the result."""
    with suppress(OSError):  # a closed standard error does not fail the command
        _write(harmless(text), sys.stderr)


@contextmanager
def beside_files(written: Sequence[str]) -> Iterator[None]:
    """Around the printing of a result: if that fails, say which files were written before.

    Args:
        written: these files; more may be added until then.
    """
    try:
        yield
    except BrokenPipeError:  # the reader has seen enough
        raise
    except OSError:
        for path in written:
            note(f"wrote    {path}")
        raise


@contextmanager
def warnings_as_notes(*noted: type[Warning], ignored: type[Warning], quiet: bool) -> Iterator[None]:
    """Print warnings of these classes as notes, or not at all if `quiet`; others as Python does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ignored)
        for category in noted:
            warnings.simplefilter("ignore" if quiet else "always", category)
        show = warnings.showwarning

        def show_as_note(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, noted):
                note(f"note     {message}")
            else:
                show(message, category, *rest, **more)

        warnings.showwarning = show_as_note
        yield


def draws_blocks() -> bool:
    """Whether standard output can show the blocks that histograms are drawn with."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        "▁█".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


@contextmanager
def progress_bar(
    unit: str,
    *,
    quiet: bool,
    describe: Callable[[Any], str],
    fraction: Callable[[Any], float | None] = lambda progress: None,
) -> Iterator[Callable[[Any], None]]:
    """A function that shows progress on a terminal, and does nothing elsewhere or if `quiet`.

    Args:
        unit: what `done` and `total` of the progress count.
        describe: from the progress to the text behind the bar.
        fraction: from the progress to the part that is done, if that is not `done` of `total`.
    """
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda progress: None
        return
    from tqdm import tqdm

    # The bar may go on in another unit, so its speed is an average, and no step is too small for it.
    with tqdm(
        unit=f" {unit}",
        file=sys.stderr,
        bar_format=_SO_FAR,
        smoothing=0,
        miniters=0,
        dynamic_ncols=True,
        leave=False,
    ) as bar:

        def on_progress(progress: Any) -> None:
            bar.set_postfix_str(describe(progress), refresh=False)
            part, found = fraction(progress), progress.total is not None
            if part is None:
                bar.bar_format = _OF_ALL if found else _SO_FAR
                bar.total, done = progress.total, progress.done
                bar.n = round(bar.n)  # it may have been a part
            else:
                text = f"{progress.done:,} {unit}" + " so far" * (not found)
                bar.set_description_str(text, refresh=False)
                bar.bar_format, bar.total, done = _PART, 1, part
            bar.update(done - bar.n)

        yield on_progress


def images_bar(
    *, quiet: bool, tolerance: float | None = None
) -> AbstractContextManager[Callable[[Any], None]]:
    """The progress bar of a scan: images, and how many bytes are read per second.

    Args:
        tolerance: what the margin of an estimate must shrink to; the bar itself shows only how far
            the current sample is.
    """
    started = monotonic()

    def describe(progress: Progress) -> str:
        words = []
        if progress.bytes_read:
            megabytes = progress.bytes_read / 1e6
            words.append(f"{megabytes / max(monotonic() - started, 1e-9):,.0f} MB/s")
        if progress.margin is not None:
            words.append(f"± {progress.margin:.3g}, wanted {tolerance:g}")
        return ", ".join(words)

    return progress_bar(
        "images", quiet=quiet, describe=describe, fraction=lambda progress: progress.fraction
    )


def _write(text: str, stream: IO[str] | None) -> None:
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()
