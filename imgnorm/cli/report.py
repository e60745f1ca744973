"""`imgnorm report`: a stats file as a page that people read."""

from __future__ import annotations

import os

import click

from imgnorm.cli import options as shared
from imgnorm.cli.terminal import note
from imgnorm.errors import IncompatibleStats


@click.command
@click.argument("stats_file", shell_complete=shared.files)
@shared.output("The page to write.  [default: report.html]")
@click.option(
    "--no-thumbnails",
    "thumbnails",
    flag_value=False,
    default=True,
    show_default=False,
    help="Show no pictures of what stands out, even if the images are there.",
)
@shared.force
def report(stats_file: str, output: str | None, thumbnails: bool, force: int) -> None:
    """Write a report of a stats file, as one HTML file.

    \b
    Examples:
      imgnorm report stats.yaml
      imgnorm report stats.yaml -o docs/data.html --force

    The page has mean and std by every convention, the histograms of the channels, the classes that differ
    most, what stands out, what was skipped and why, and the transform to paste. It needs no network, and
    nothing but a browser. Making it needs `pip install jinja2`.
    """
    from imgnorm.output import check_output
    from imgnorm.report.page import check_report, write_report
    from imgnorm.stats.file import read_stats

    path = output or "report.html"
    if os.path.realpath(path) == os.path.realpath(stats_file):
        raise click.UsageError("-o names the stats file itself; give the page its own")
    check_report(path)
    check_output(path, kind="report", force=force)
    stats = read_stats(stats_file)
    try:
        write_report(path, stats, thumbnails=thumbnails, force=bool(force))
    except IncompatibleStats as error:
        raise IncompatibleStats(f"{stats_file}: {error}") from error
    note(f"wrote    {path}")
