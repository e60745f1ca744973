"""`imgnorm validate` and `schema`: the files that imgnorm reads, checked and described."""

from __future__ import annotations

import click

from imgnorm.checks.reports import REPORTERS
from imgnorm.cli import options as shared
from imgnorm.cli.terminal import note, print_result, reported


@click.command
@click.argument(
    "paths", nargs=-1, required=True, metavar="FILE|FOLDER...", shell_complete=shared.files
)
@click.option(
    "--format",
    "report",
    type=click.Choice([*REPORTERS]),
    default="text",
    help="How problems are written to standard output.",
)
@shared.select
@shared.ignore
@click.option(
    "--skip-others",
    is_flag=True,
    help="Pass over YAML files that are neither configs nor stats files, even if named.  [default: in folders only]",
)
@shared.strict
@click.option(
    "--build",
    is_flag=True,
    help="Build each pipeline that has no error, too, and run it on a generated image (loads torch).",
)
@shared.explain
@shared.quiet("No summary on standard error.")
def validate(
    paths: tuple[str, ...],
    report: str,
    select: set[str],
    ignore: set[str],
    skip_others: bool,
    strict: bool,
    build: bool,
    quiet: bool,
) -> int:
    """Check pipeline configs and stats files.

    \b
    Examples:
      imgnorm validate configs
      imgnorm validate pipeline.yaml --build         # build it and run it, too

    In a folder, all of them are checked. Every problem of every file is reported: file:line:column:
    rule: what is wrong. Exit 1 if there is an error. The comment `# imgnorm: ignore[rule]` ignores a
    rule on its line.
    """
    from imgnorm.checks.validate import validate as check

    found = check(paths, select=select or None, ignore=ignore, skip_others=skip_others, build=build)
    written = reported(found.problems, report, found.files)
    if written:
        print_result(written)
    if not quiet:
        note(found.summary())
    return 1 if found.count("error") or (strict and found.count("warning")) else 0


@click.command
@click.argument("kind", type=click.Choice(["pipeline", "stats"]))
def schema(kind: str) -> None:
    """Print the JSON Schema of a file format, for editors.

    \b
    Examples:
      imgnorm schema pipeline > pipeline.json

    This line at the top of a config makes them use it:

    \b
    # yaml-language-server: $schema=pipeline.json
    """
    import json

    from imgnorm.pipeline.config import pipeline_schema
    from imgnorm.stats.format import stats_schema

    content = pipeline_schema() if kind == "pipeline" else stats_schema()
    print_result(json.dumps(content, indent=2))
