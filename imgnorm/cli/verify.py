"""`imgnorm verify`: whether a stats file still describes its data."""

from __future__ import annotations

from typing import Any

import click

from imgnorm.cli import options as shared
from imgnorm.cli.terminal import note, print_result, reported

_EXIT_CODES = """\b
Exit codes:
  0    true: the file describes its data
  1    stale: every difference is reported, with what to do
  2    wrong usage, or the check could not be done
"""


def _sample(value: str) -> int | str:
    if value == "all":
        return value
    if not (value.isascii() and value.isdigit() and len(value) <= 12 and int(value)):
        raise ValueError(f"{value!r} is neither 'all' nor a number of images")
    return int(value)


@click.command(epilog=_EXIT_CODES)
@click.argument("stats_file", shell_complete=shared.files)
@click.argument("source", required=False, shell_complete=shared.files)
@click.option(
    "--sample",
    default="1000",
    callback=shared.parsed(_sample),
    metavar="N|all",
    help="Images that are measured again; all: every integer of the file must be equal.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Decides which images.")
@shared.root
@shared.layout(
    "the dimensions of .npy and .npz arrays, as they were measured.  [default: what the shape shows]"
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that decode.  [default: the cores this process may use]",
)
@shared.max_pixels("Larger images are not decoded; as it was when the file was measured.")
@shared.timeout
@shared.report_format
@shared.explain
@shared.quiet("No progress and no summary on standard error.")
def verify(stats_file: str, source: str | None, report: str, quiet: bool, **options: Any) -> int:
    """Check whether STATS_FILE still describes its data.

    \b
    Examples:
      imgnorm verify stats.yaml
      imgnorm verify stats.yaml /mnt/copy/train       # the data is there now
      imgnorm verify stats.yaml --sample all          # every image again

    SOURCE is where the data is now; by default, what the file's `source` says, relative to the
    current folder. Names that were added or removed show in their digest. A random sample of the
    images is measured again, and compared with the file by a bound that raises a false alarm for at
    most 1 in 1,000 unchanged datasets, whatever is in them.
    """
    from imgnorm.checks.verify.verify import verify as check
    from imgnorm.measuring.bar import images_bar
    from imgnorm.measuring.measure import call_facts

    if options["sample"] == "all":
        shared.refuse("seed", why="decides which images a sample has; leave it out with all")
    if source is not None:
        shared.refuse_conflicts(call_facts(source, root=options["root"]))
    with images_bar(shown=not quiet) as on_progress:
        found = check(stats_file, source, on_progress=on_progress, **options)
    written = reported(found.problems, report)
    if written:
        print_result(written)
    if not quiet:
        note(found.summary())
    return int(found.stale)
