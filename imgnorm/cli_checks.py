"""The commands that check files: parse, one call, print."""

from __future__ import annotations

import difflib
import json
import sys
from typing import Any

import click

_FORMATS = ["text", "json", "github", "sarif", "junit"]


def _rules(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> set[str]:
    """The ids in `--select a,b --select c`."""
    names = {name.strip() for part in value for name in part.split(",")} - {""}
    if not names:
        return names
    for name in sorted(names):
        _known_rule(ctx, param, name)
    return names


def _known_rule(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    from imgnorm.rules import RULES

    if name is not None and name not in RULES:
        near = difflib.get_close_matches(name, RULES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(RULES)}"
        raise click.BadParameter(f"there is no rule {name!r}; {hint}", ctx, param)
    return name


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
@click.option(
    "--select", multiple=True, callback=_rules, metavar="RULES", help="Ask these rules only: a,b,c."
)
@click.option(
    "--ignore", multiple=True, callback=_rules, metavar="RULES", help="Do not ask these rules."
)
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
    "--explain", callback=_known_rule, metavar="RULE", help="Print what a rule is about, and stop."
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
        from imgnorm.reports import page
        from imgnorm.rules import RULES

        _print(page(RULES[explain]))
        return 0
    if not paths:
        raise click.UsageError("name a file or a folder to check")
    from imgnorm.reports import REPORTERS
    from imgnorm.validate import validate as check

    trial: Any = None
    if build:
        from imgnorm.trial import trial_problems as trial
    found = check(paths, select=select or None, ignore=ignore, skip_others=skip_others, trial=trial)
    written = REPORTERS[report](found.problems, found.files)
    if written:
        _print(written)
    if not quiet:
        _note(found.summary())
    return 1 if found.count("error") or (strict and found.count("warning")) else 0


@click.command(no_args_is_help=True)
@click.argument("kind", type=click.Choice(["pipeline", "stats"]))
def schema(kind: str) -> None:
    """Print the JSON Schema of a file format, for editors.

    This line at the top of a config makes them use it:

    \b
    # yaml-language-server: $schema=pipeline.json
    """
    from imgnorm import config, statsmodel

    content = config.schema() if kind == "pipeline" else statsmodel.schema()
    _print(json.dumps(content, indent=2))


def _print(text: str) -> None:
    if sys.stdout is not None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _note(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
