"""The commands about numbers that somebody wrote down: presets, explain."""

from __future__ import annotations

from collections.abc import Sequence

import click

from imgnorm.errors import OutputError


@click.group(invoke_without_command=True)
@click.pass_context
def presets(context: click.Context) -> None:
    """List published means and stds: convention, and how far to trust them."""
    if context.invoked_subcommand is None:
        from imgnorm.explain import listing

        _print(listing())


@presets.command(no_args_is_help=True)
@click.argument("name")
def show(name: str) -> None:
    """Everything about one preset: its digits, its source, and what is wrong with it."""
    from imgnorm.explain import description
    from imgnorm.presets import shown_preset

    _print(description(shown_preset(name)))


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
    from imgnorm.explain import explain as explained

    stats = None
    if stats_file is not None:
        from imgnorm.statsfile import read_stats

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
        _print(
            f"{' '.join(given)}: nothing is known of these numbers; `imgnorm presets` lists what is"
        )
        return 1
    _print("\n\n".join(answers))
    return 0


def _split(texts: Sequence[str]) -> list[str]:
    """Commas and brackets of pasted code are no part of a number."""
    return [part for text in texts for part in text.translate(_BRACKETS).split()]


_BRACKETS = str.maketrans(",;()[]", "      ")


def _print(text: str) -> None:
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise OutputError(
            f"standard output: cannot be written ({reason}); send it elsewhere"
        ) from error
