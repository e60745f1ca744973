"""`imgnorm diff`: what differs between two measurements, and which images two tables share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from imgnorm.checks.reports import REPORTERS
from imgnorm.cli import options as shared
from imgnorm.cli.terminal import note, print_result, print_text

if TYPE_CHECKING:
    from imgnorm.checks.diff import Difference
    from imgnorm.checks.shared_images import SharedImages

_EXIT_CODES = """\b
Exit codes:
  0    compared
  1    with --fail-over: a mean or a std changed by more, or more images are
       in both tables
  2    wrong usage, or a file cannot be read or compared
"""


def _fail_over(value: float) -> float | None:
    from imgnorm.checks.diff import fail_over_of

    return fail_over_of(value)


@click.command(epilog=_EXIT_CODES)
@click.argument("first", shell_complete=shared.files)
@click.argument("second", shell_complete=shared.files)
@click.option(
    "--fail-over",
    type=float,
    callback=shared.parsed(_fail_over),
    metavar="X",
    help="Exit 1 if a mean is off by more than X stds, or a std by more than the part X. 0.05 is 5 %.",
)
@click.option(
    "--format",
    "report",
    type=click.Choice([*REPORTERS]),
    default="text",
    help="A table; all numbers for programs; or only the problems, for CI.",
)
@shared.explain
@shared.quiet("Nothing on standard error about --fail-over.")
def diff(first: str, second: str, fail_over: float | None, report: str, quiet: bool) -> int:
    """Compare two stats files: train and val, last month and this one, before and after a change.

    \b
    Examples:
      imgnorm diff train.yaml val.yaml
      imgnorm diff old.yaml new.yaml --fail-over 0.05   # for CI
      imgnorm diff train.csv val.csv --fail-over 0      # images in both

    Prints means, stds and quantiles, how far pixels moved, which classes and kinds of files came and went,
    what the first file's Normalize makes of the second images, and whether the difference is more than
    chance. FIRST may hold constants, too.

    Of two tables of `stats --per-image` with digests, it names the images of SECOND that lie in FIRST, byte
    for byte. --fail-over is the part of them that may.
    """
    import json

    found = _compared(first, second, fail_over)
    if report == "text":
        print_text(str(found))
    elif report == "json":
        print_result(json.dumps(found.to_dict(), indent=2))
    elif written := REPORTERS[report](found.problems, [second]):
        print_result(written)
    if found.verdict and not quiet:
        note(found.verdict)
    if report == "text" and not quiet:
        for problem in found.problems:
            if problem.rule == "shift" and problem.severity == "error":
                note(f"{problem.file}: {problem.message}")
    return int(found.failed)


def _compared(first: str, second: str, fail_over: float | None) -> Difference | SharedImages:
    from imgnorm.stats.per_image import is_table

    if is_table(first) and is_table(second):
        from imgnorm.checks.shared_images import shared_images

        return shared_images(first, second, fail_over=fail_over)
    if is_table(first) or is_table(second):
        table, other = (first, second) if is_table(first) else (second, first)
        raise click.UsageError(
            f"{table} is a table of images, and {other} is not; give two tables, or two stats files"
        )
    from imgnorm.checks.diff import diff

    return diff(first, second, fail_over=fail_over)
