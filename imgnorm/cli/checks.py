"""The commands that check files: parse, one call, print."""

from __future__ import annotations

from typing import Any

import click

from imgnorm.cli.options import given, ignore, known_rule, select
from imgnorm.cli.terminal import images_bar, note, show
from imgnorm.settings import TORCHVISION

_FORMATS = ["text", "json", "github", "sarif", "junit"]


@click.command(no_args_is_help=True)
@click.argument("paths", nargs=-1, metavar="FILE|FOLDER...")
@click.option(
    "--format",
    "report",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    help="How problems are written to standard output.",
)
@select
@ignore
@click.option(
    "--skip-others",
    is_flag=True,
    help="Pass over YAML files that are neither configs nor stats files, even if named.  [default: in folders only]",
)
@click.option("--strict", is_flag=True, help="Exit 1 for warnings, too.")
@click.option(
    "--build",
    is_flag=True,
    help="Build each pipeline that has no error, too, and run it on a generated image (loads torch).",
)
@click.option(
    "--explain", callback=known_rule, metavar="RULE", help="Print what a rule is about, and stop."
)
@click.option("-q", "--quiet", is_flag=True, help="No summary on standard error.")
def validate(
    paths: tuple[str, ...],
    report: str,
    select: set[str],
    ignore: set[str],
    skip_others: bool,
    strict: bool,
    build: bool,
    explain: str | None,
    quiet: bool,
) -> int:
    """Check pipeline configs and stats files, and all of them in folders.

    Every problem of every file is told: file:line:column: rule: what is wrong. A comment
    `# imgnorm: ignore[rule]` on its line silences one. Exit 1 if there is an error.
    """
    if explain is not None:
        _show_page(explain)
        return 0
    if not paths:
        raise click.UsageError("name a file or a folder to check")
    from imgnorm.checks.reports import REPORTERS
    from imgnorm.checks.validate import validate as check

    dry_run: Any = None
    if build:
        from imgnorm._torch import torch_needed

        with torch_needed():
            from imgnorm.pipeline.dry_run import dry_run_problems as dry_run
    found = check(
        paths, select=select or None, ignore=ignore, skip_others=skip_others, dry_run=dry_run
    )
    written = REPORTERS[report](found.problems, found.files)
    if written:
        show(written)
    if not quiet:
        note(found.summary())
    return 1 if found.count("error") or (strict and found.count("warning")) else 0


def _show_page(rule: str) -> None:
    from imgnorm.checks.reports import page
    from imgnorm.checks.rules import PAGES

    show(page(PAGES[rule]))


def _explained(ctx: click.Context, param: click.Parameter, name: str | None) -> None:
    """Before a file is asked for."""
    rule = known_rule(ctx, param, name)
    if rule is not None:
        _show_page(rule)
        ctx.exit()


def _sample(ctx: click.Context, param: click.Parameter, value: str) -> int | str:
    if value == "all":
        return value
    if not (value.isascii() and value.isdigit() and len(value) <= 12 and int(value)):
        raise click.BadParameter(f"{value!r} is neither 'all' nor a number of images", ctx, param)
    return int(value)


_VERIFY_CODES = """\b
Exit codes:
  0    true
  1    stale: every difference is told, with what to do
  2    wrong usage, or it could not be found out
"""


@click.command(no_args_is_help=True, epilog=_VERIFY_CODES)
@click.argument("stats_file")
@click.argument("source", required=False)
@click.option(
    "--sample",
    default="1000",
    callback=_sample,
    show_default=True,
    metavar="N|all",
    help="Images that are measured again; all: every integer of the file must be equal.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Decides which images."
)
@click.option(
    "--root",
    default="data",
    show_default=True,
    help="Where a torchvision dataset lives: its own `root`.",
)
@click.option(
    "--layout",
    type=click.Choice(["NHWC", "NCHW", "NHW", "HWC", "CHW", "HW"]),
    help="The dimensions of .npy and .npz arrays, as they were measured.  [default: what the shape tells]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that decode.  [default: the cores this process may use]",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=178_956_970,
    show_default=True,
    help="Larger images are not decoded; as it was when the file was measured.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    default=30.0,
    show_default=True,
    help="Seconds for one image; it is tried twice.",
)
@click.option(
    "--format",
    "report",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="For people, for programs, or as annotations of a pull request on GitHub.",
)
@click.option(
    "--explain",
    is_eager=True,
    expose_value=False,
    callback=_explained,
    metavar="RULE",
    help="Print what a finding is about, and stop.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary on standard error.")
def verify(stats_file: str, source: str | None, report: str, quiet: bool, **options: Any) -> int:
    """Is STATS_FILE still true of its data?

    SOURCE is where the data lives now; by default, what the file's `source` says, seen from the
    current folder. Names that were added or removed show in their digest. A random sample of the
    images is measured again, and compared with the file by a bound that raises a false alarm for at
    most 1 in 1,000 unchanged datasets, whatever is in them.
    """
    from imgnorm.checks.reports import REPORTERS
    from imgnorm.checks.verify.verify import verify as verified

    _refuse_idle_options(source, options["sample"])
    with images_bar(quiet=quiet) as on_progress:
        found = verified(stats_file, source, on_progress=on_progress, **options)
    written = REPORTERS[report](found.problems)
    if written:
        show(written)
    if not quiet:
        note(found.summary())
    return int(found.stale)


@click.command(no_args_is_help=True)
@click.argument("kind", type=click.Choice(["pipeline", "stats"]))
def schema(kind: str) -> None:
    """Print the JSON Schema of a file format, for editors.

    This line at the top of a config makes them use it:

    \b
    # yaml-language-server: $schema=pipeline.json
    """
    from imgnorm.pipeline.config import pipeline_schema
    from imgnorm.stats.schema import stats_schema

    content = pipeline_schema() if kind == "pipeline" else stats_schema()
    import json

    show(json.dumps(content, indent=2))


def _refuse_idle_options(source: str | None, sample: int | str) -> None:
    """An option that would do nothing is a misunderstanding."""
    if sample == "all" and given("seed"):
        raise click.UsageError("--seed decides which images a sample has; leave it out with all")
    elsewhere = source is not None and not source.startswith(TORCHVISION)
    if elsewhere and given("root"):
        raise click.UsageError("--root is for torchvision:NAME; leave it out")
