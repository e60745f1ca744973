"""What the commands print: results on standard output, notes and progress on standard error."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from imgnorm.cli.screen import Paint, as_typed, columns_of, laid_out
from imgnorm.errors import ImgnormError, InvalidDocument
from imgnorm.wording import harmless

if TYPE_CHECKING:
    from imgnorm.errors import Problem

_SHOWN = 5  # problems of a document that a command wanted to read; `imgnorm validate` shows all


def print_result(text: str) -> None:
    """Print a result as it is: a module, JSON, a diff."""
    _write(text, sys.stdout)


def print_text(text: str) -> None:
    """Print a result for people."""
    _write(laid_out(text, sys.stdout), sys.stdout)


def reported(problems: Sequence[Problem], report: str, files: Sequence[str] = ()) -> str:
    """Problems in a format; as text on a terminal, with severities and the lines of the files."""
    from imgnorm.checks.reports import REPORTERS

    if report != "text":
        return REPORTERS[report](problems, files)
    return _shown(problems, sys.stdout) or as_typed(REPORTERS["text"](problems, files))


def _shown(problems: Sequence[Problem], stream: IO[str] | None) -> str | None:
    """Problems as a terminal shows them; None if the stream is none."""
    columns = columns_of(stream)
    if columns is None:
        return None
    from imgnorm.checks.reports import for_terminal

    return as_typed(for_terminal(problems, columns, Paint(stream)))


def note(text: str) -> None:
    """Print what is not part of the result."""
    with suppress(OSError):  # a closed standard error does not fail the command
        _write(laid_out(harmless(text), sys.stderr), sys.stderr)


def advise(text: str) -> None:
    """A note for somebody who looks at a terminal, and needless in a log."""
    if columns_of(sys.stderr):
        note(text)


def failed(why: str | ImgnormError) -> None:
    """Print why a command failed; where it did is in color, and a terminal shows the lines of a document."""
    paint = Paint(sys.stderr)
    with suppress(OSError):
        if isinstance(why, InvalidDocument) and len(why.problems) <= _SHOWN:
            shown = _shown(why.problems, sys.stderr)
            if shown is not None:
                _write(shown, sys.stderr)
                return
        lines = laid_out(harmless(str(why)), sys.stderr).split("\n")
        _write(
            "\n".join(
                re.sub(r"^\S+(?: \S+)?:(?= )", lambda m: paint(m[0], "red"), one) for one in lines
            ),
            sys.stderr,
        )


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


def _write(text: str, stream: IO[str] | None) -> None:
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()
