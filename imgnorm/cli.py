"""The commands: parse, one call, print. No loops over images, no arithmetic, no YAML."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

import click

import imgnorm
from imgnorm.cli_bn import bn
from imgnorm.errors import ImgnormError, TooManySkipped

if TYPE_CHECKING:
    from imgnorm.scan import Progress
    from imgnorm.stats import Stats

_EXIT_CODES = """\b
Exit codes:
  0    all that was found is counted, or the check passed
  1    a check failed: a file is not up to date, more images skipped than --max-skipped allows
  2    wrong usage, or the work could not be done; nothing was written
  3    written, but some images were skipped, and no --max-skipped said that this is fine
  70   a bug in imgnorm
  130  Ctrl-C (143 SIGTERM, 129 SIGHUP, 141 the reader of the output is gone)
"""


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = commands.main(list(arguments), prog_name="imgnorm", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        _note(error.format_message())
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "imgnorm"
        _note(f"{error.format_message()} (see `{command} --help`)")
        return 2
    except TooManySkipped as error:
        _note(str(error))
        return 1
    except ImgnormError as error:
        _note(str(error))
        return 2


def _size(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> int | tuple[int, int] | None:
    """256, or 224x320 for (height, width)."""
    if value is None:
        return None
    edges = value.lower().split("x")
    if len(edges) > 2 or not all(edge.isdecimal() and int(edge) for edge in edges):
        raise click.BadParameter(
            f"{value!r} is not a size; give 256, or HEIGHTxWIDTH as in 224x320", ctx, param
        )
    return int(edges[0]) if len(edges) == 1 else (int(edges[0]), int(edges[1]))


def _allowance(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """How many images may be skipped: N, or P% of them; it takes a scan to know which number that is."""
    if value is not None and not re.fullmatch(r"\d+|\d+(\.\d+)?%", value, re.ASCII):
        raise click.BadParameter(
            f"{value!r} is neither a number of images nor a percentage; give 10, or 0.5%",
            ctx,
            param,
        )
    return value


def _allowed(allowance: str, images: int) -> float:
    if allowance.endswith("%"):
        return float(allowance[:-1]) * images / 100
    return int(allowance)


@click.group(epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(imgnorm.__version__, message="imgnorm %(version)s")
def commands() -> None:
    """Exact per-channel mean and std of image datasets, and the transforms that use them.

    \b
    imgnorm stats data/train -o stats.yaml      measure a folder
    imgnorm emit stats.yaml -o transforms.py    write the torchvision transforms
    """


@commands.command(no_args_is_help=True, epilog=_EXIT_CODES)
@click.argument("source")
@click.option(
    "--list",
    "listed",
    is_flag=True,
    help="SOURCE is a text file with one path a line, relative to that file; each is looked at whatever its suffix.",
)
@click.option(
    "--root",
    default="data",
    show_default=True,
    help="Where a torchvision dataset lives: its own `root`.",
)
@click.option(
    "--split",
    default="train",
    show_default=True,
    help="The split of a torchvision dataset: train, test, or what its `split` accepts.",
)
@click.option("--download", is_flag=True, help="Let torchvision download the dataset.")
@click.option(
    "--mode",
    type=click.Choice(["auto", "L", "RGB", "RGBA", "I;16"]),
    default="auto",
    show_default=True,
    help="Convert each image to this mode. auto: the mode that all share (L for gray, I;16 for 16-bit gray), else RGB, without alpha.",
)
@click.option(
    "--resize",
    callback=_size,
    metavar="SIZE",
    help="Resize first, as torchvision.transforms.Resize does: the shorter edge, or HEIGHTxWIDTH.  [default: native sizes]",
)
@click.option(
    "--center-crop",
    callback=_size,
    metavar="SIZE",
    help="Then crop, as torchvision.transforms.CenterCrop does: a square's edge, or HEIGHTxWIDTH.  [default: no crop]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that decode.  [default: the cores this process may use]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Measure N images only, spread evenly over the sorted names.  [default: all]",
)
@click.option("--per-class", is_flag=True, help="Mean and std of each class folder, too.")
@click.option(
    "--max-skipped",
    callback=_allowance,
    metavar="N|P%",
    help="So many skipped images are fine (exit 0); with more, nothing is written (exit 1).  [default: any number, exit 3]",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=178_956_970,
    show_default=True,
    help="Skip larger images before they are decoded.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds for one image; it is tried twice.",
)
@click.option(
    "--rejects",
    type=click.Path(),
    help="Write skipped images to this file as JSON lines: name, member, reason, detail, bytes.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the content of the stats file as JSON, instead of the table.",
)
@click.option(
    "-o", "--output", type=click.Path(), help="Write the stats file here.  [default: only print]"
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on standard error.")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Print the other conventions, the quantiles, and every skipped image.",
)
def stats(
    source: str,
    max_skipped: str | None,
    rejects: str | None,
    as_json: bool,
    output: str | None,
    force: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Measure SOURCE: a folder of images, a list (--list), or torchvision:NAME.

    The mean and std are pooled over all pixels of all images, population, for ToTensor's [0, 1], and
    exact: no option about speed changes a digit.
    """
    from imgnorm.measure import SkippedImagesWarning, measure
    from imgnorm.output import check_output
    from imgnorm.rejects import write_rejects

    if output is not None and output == rejects:
        raise click.UsageError("-o and --rejects name the same file; give each its own")
    for path in filter(None, (output, rejects)):
        check_output(path, force=force)
    warnings.simplefilter("ignore", SkippedImagesWarning)
    started = monotonic()
    with _bar(quiet) as on_progress:
        measured = measure(source, on_progress=on_progress, **options)
    seconds = monotonic() - started
    if rejects is not None:
        write_rejects(rejects, measured.skipped)
    found = measured.images + len(measured.skipped)
    if max_skipped is not None and len(measured.skipped) > _allowed(max_skipped, found):
        raise TooManySkipped(_too_many(measured, max_skipped))
    try:
        if output is not None:
            from imgnorm.statsfile import write_stats

            write_stats(output, measured)
    finally:  # the result is not lost when it cannot be written
        _print_result(measured, as_json, verbose)
    if not quiet:
        _note(f"time     {seconds:.1f} s, {measured.images / max(seconds, 1e-9):,.0f} images/s")
        for path in filter(None, (output, rejects)):
            _note(f"wrote    {path}")
    return 3 if measured.skipped and max_skipped is None else 0


@commands.command(no_args_is_help=True)
@click.argument("stats_file")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Print the other conventions, the quantiles, and every skipped image.",
)
def show(stats_file: str, verbose: bool) -> None:
    """Print the table of a stats file again."""
    from imgnorm.statsfile import read_stats

    _print_result(read_stats(stats_file), False, verbose)


@commands.command(no_args_is_help=True)
@click.argument("stats_file")
@click.option("-o", "--output", type=click.Path(), help="The module to write.  [default: print it]")
@click.option(
    "--api",
    type=click.Choice(["v1", "v2"]),
    default="v1",
    show_default=True,
    help="torchvision.transforms, or torchvision.transforms.v2.",
)
@click.option(
    "--eps",
    type=click.FloatRange(min=0, min_open=True, max=1),
    help="The least std to divide by: max(std, eps).  [default: refuse constant channels]",
)
@click.option(
    "--check",
    is_flag=True,
    help="Write nothing; exit 1 if the module is not what would be written now.",
)
@click.option("--force", is_flag=True, help="Replace a module that exists.")
def emit(
    stats_file: str, output: str | None, api: Any, eps: float | None, check: bool, force: bool
) -> int:
    """Write a Python module with the transforms for STATS_FILE.

    It imports torch and torchvision only, and has MEAN, STD, train_transform, eval_transform and
    inverse_transform.
    """
    from imgnorm.emit import emit_for
    from imgnorm.output import check_output, read_whole, write_whole
    from imgnorm.statsfile import read_stats

    if check and output is None:
        raise click.UsageError("--check needs -o: the module to compare")
    if output is not None and not check:
        check_output(output, force=force)
    module = emit_for(
        read_stats(stats_file), stats_path=stats_file, module_path=output, api=api, eps=eps
    )
    if output is None:
        _print(module.rstrip("\n"))
    elif not check:
        write_whole(output, module.encode())
        _note(f"wrote    {output}")
    elif read_whole(output) != module.encode():
        _note(f"{output}: is not what `imgnorm emit` writes now; run it again with --force")
        return 1
    return 0


commands.add_command(bn)


def _print_result(measured: Stats, as_json: bool, verbose: bool) -> None:
    if as_json:
        from imgnorm.statsfile import document_of

        _print(json.dumps(document_of(measured)))
    else:
        from imgnorm.table import table

        _print(table(measured, unicode=_draws_blocks(), verbose=verbose))


def _too_many(measured: Stats, allowance: str) -> str:
    from imgnorm.table import skipped_lines

    return "\n".join(
        [
            *skipped_lines(measured.skipped),
            f"{len(measured.skipped):,} images skipped, more than --max-skipped {allowance}: mend them, or allow more",
        ]
    )


@contextmanager
def _bar(quiet: bool) -> Iterator[Any]:
    """A function that shows Progress on a terminal, and does nothing elsewhere."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda progress: None
        return
    from tqdm import tqdm

    with tqdm(unit=" images", file=sys.stderr, dynamic_ncols=True, leave=False) as bar:
        started = monotonic()

        def on_progress(progress: Progress) -> None:
            bar.total = progress.total
            rate = progress.bytes_read / 1e6 / max(monotonic() - started, 1e-9)
            bar.set_postfix_str(f"{rate:,.0f} MB/s", refresh=False)
            bar.update(progress.done - bar.n)

        yield on_progress


def _draws_blocks() -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        "▁█".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _print(text: str) -> None:
    _write(text, sys.stdout)


def _note(text: str) -> None:
    with suppress(OSError):  # nobody can be told
        _write(text, sys.stderr)


def _write(text: str, stream: IO[str] | None) -> None:
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()
