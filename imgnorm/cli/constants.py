"""The commands about numbers that somebody wrote down: presets, explain, lint."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import click

from imgnorm.cli.options import ignore, select
from imgnorm.cli.terminal import note, show


@click.group(invoke_without_command=True)
@click.pass_context
def presets(context: click.Context) -> None:
    """List published means and stds: convention, and how far to trust them."""
    if context.invoked_subcommand is None:
        from imgnorm.constants.explain import listing

        show(listing())


@presets.command("show", no_args_is_help=True)
@click.argument("name")
def show_preset(name: str) -> None:
    """Everything about one preset: its digits, its source, and what is wrong with it."""
    from imgnorm.constants.explain import description
    from imgnorm.constants.presets import shown_preset

    show(description(shown_preset(name)))


class _ManyMeans(click.Command):
    """`--mean 0.49 0.48 0.45`: the option takes all numbers that follow it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--mean" in args:
            start = args.index("--mean") + 1
            end = start
            while end < len(args) and not args[end].startswith("--"):
                end += 1
            if end > start:
                args = [*args[:start], " ".join(args[start:end]), *args[end:]]
        return super().parse_args(ctx, args)


_EXPLAIN_CODES = """\b
Exit codes:
  0    at least one answer
  1    nothing is known of these numbers
  2    wrong usage, or the stats file cannot be read
"""


@click.command(cls=_ManyMeans, no_args_is_help=True, epilog=_EXPLAIN_CODES)
@click.argument("numbers", nargs=-1, required=True)
@click.option(
    "--mean", metavar="NUMBERS...", help="The mean that belongs to NUMBERS, which are a std then."
)
@click.option(
    "--stats",
    "stats_file",
    metavar="FILE",
    help="A stats file: say which of its conventions the numbers follow.",
)
def explain(numbers: tuple[str, ...], mean: str | None, stats_file: str | None) -> int:
    """Say what NUMBERS are: of which dataset, by which convention, and what to use if they are wrong.

    One number for each channel, in 0..1 or in 0..255. The digits you give decide what they can be:
    give all you have.
    """
    from imgnorm.constants.explain import explain as explained

    stats = None
    if stats_file is not None:
        from imgnorm.stats.file import read_stats

        stats = read_stats(stats_file)
    given, means = _split(numbers), _split([mean]) if mean is not None else None
    if not given or means == []:
        raise click.UsageError("no numbers; give one for each channel, such as 0.2470")
    if means is not None and len(means) != len(given):
        raise click.UsageError(f"{len(means)} numbers for the mean, {len(given)} for the std")
    try:
        answers = explained(given, mean=means, stats=stats, stats_name=stats_file or "")
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not answers:
        show(
            f"{' '.join(given)}: nothing is known of these numbers; `imgnorm presets` lists what is"
        )
        return 1
    show("\n\n".join(answers))
    return 0


def _split(texts: Sequence[str]) -> list[str]:
    """Commas and brackets of pasted code are no part of a number."""
    return [part for text in texts for part in text.translate(_BRACKETS).split()]


_BRACKETS = str.maketrans(",;()[]", "      ")

_LINT_CODES = """\b
Exit codes:
  0    no errors (with --strict: no warnings either)
  1    problems
  2    wrong usage, or a path that cannot be read
"""


@click.command(no_args_is_help=True, epilog=_LINT_CODES)
@click.argument("paths", nargs=-1, required=True)
@select
@ignore
@click.option("--strict", is_flag=True, help="Exit 1 for warnings, too.")
@click.option(
    "--format",
    "report",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="For people, for programs, or as annotations of a pull request on GitHub.",
)
@click.option("-q", "--quiet", is_flag=True, help="No summary on standard error.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Name the files that could not be read, and why."
)
def lint(
    paths: tuple[str, ...],
    select: Collection[str],
    ignore: Collection[str],
    strict: bool,
    report: str,
    quiet: bool,
    verbose: bool,
) -> int:
    """Look for wrong means and stds in source code and configs: Python, YAML, JSON, TOML.

    PATHS are files or folders. Nothing is imported or run. Files that are not valid, or not in the
    subset of YAML that imgnorm reads, are passed over. `# imgnorm: ignore[RULE]` at the end of a line
    silences a rule there.
    """
    from imgnorm.checks.lint.lint import lint as linted
    from imgnorm.checks.reports import REPORTERS

    result = linted(paths, select=select or None, ignore=ignore)
    printed = REPORTERS[report](result.problems)
    if printed:
        show(printed)
    if verbose:
        for name, reason in result.unread:
            note(f"not read  {name}: {reason}")
    if not quiet:
        hint = " (-v says why)" if result.unread and not verbose else ""
        note(result.summary() + hint)
    failing = ("error", "warning") if strict else ("error",)
    return int(any(problem.severity in failing for problem in result.problems))
