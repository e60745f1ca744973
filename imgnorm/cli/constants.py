"""`imgnorm presets` and `explain`: published means and stds, and which of them given numbers are."""

from __future__ import annotations

import os
import re
import sys

import click

from imgnorm.cli import options as shared
from imgnorm.cli.help import CommandGroup
from imgnorm.cli.screen import columns_of
from imgnorm.cli.terminal import print_text, warnings_as_notes
from imgnorm.errors import SkippedImagesWarning, SourceWarning

_EXPLAIN_CODES = """\b
Exit codes:
  0    at least one answer
  1    nothing is known about these numbers
  2    wrong usage, or the stats file cannot be read
"""
_VERIFY_CODES = """\b
Exit codes:
  0    the data has the preset's numbers, to all digits that were published
  1    it has others
  2    wrong usage, or the data cannot be measured
"""
_NEGATIVE = re.compile(r"-\.?\d")


def _presets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from imgnorm.constants.presets import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


@click.group(cls=CommandGroup, invoke_without_command=True)
@click.pass_context
def presets(context: click.Context) -> None:
    """List published means and stds, and how far to trust them.

    \b
    Examples:
      imgnorm presets                             # the list
      imgnorm presets show imagenet
      imgnorm presets verify cifar10 --root data  # is it so?
    """
    if context.invoked_subcommand is None:
        from imgnorm.constants.explain import presets_table

        print_text(presets_table(columns_of(sys.stdout)))


@presets.command("show")
@click.argument("name", shell_complete=_presets)
def show_preset(name: str) -> None:
    """Show one preset: its digits, its source, and its faults.

    \b
    Examples:
      imgnorm presets show imagenet
    """
    from imgnorm.constants.explain import description
    from imgnorm.constants.presets import preset_entry

    print_text(description(preset_entry(name)))


@presets.command("verify", epilog=_VERIFY_CODES)
@click.argument("name", shell_complete=_presets)
@shared.root
@shared.quiet("No progress on standard error.")
def verify_preset(name: str, root: str, quiet: bool) -> int:
    """Measure the data of a preset, and compare.

    \b
    Examples:
      imgnorm presets verify cifar10 --root data

    --root is torchvision's, if it has the dataset there, else a folder of images.
    """
    from imgnorm.checks.preset import verify_preset as verify
    from imgnorm.measuring.bar import images_bar

    noting = warnings_as_notes(SourceWarning, ignored=SkippedImagesWarning, quiet=quiet)
    with noting, images_bar(shown=not quiet) as on_progress:
        found = verify(name, root, on_progress=on_progress)
    print_text(found.report)
    return 0 if found.equal else 1


class _ManyMeans(click.Command):
    """`--mean 0.49 0.48 0.45`: the option takes all numbers up to the next option. -2.1 is a number."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--mean" in args:
            start = args.index("--mean") + 1
            end = start
            while end < len(args) and not args[end].startswith("--"):
                end += 1
            if end > start:
                args = [*args[:start], " ".join(args[start:end]), *args[end:]]
        args = [f" {arg}" if _NEGATIVE.match(arg) else arg for arg in args]
        return super().parse_args(ctx, args)


@click.command(cls=_ManyMeans, epilog=_EXPLAIN_CODES)
@click.argument("numbers", nargs=-1, required=True, shell_complete=shared.files)
@click.option(
    "--mean", metavar="NUMBERS...", help="The mean that belongs to NUMBERS; NUMBERS are a std then."
)
@click.option(
    "--stats",
    "stats_file",
    metavar="FILE",
    shell_complete=shared.files,
    help="A stats file: report which of its conventions the numbers follow.",
)
def explain(numbers: tuple[str, ...], mean: str | None, stats_file: str | None) -> int:
    """Find out which published mean or std NUMBERS are.

    \b
    Examples:
      imgnorm explain 0.2023 0.1994 0.2010
      imgnorm explain 0.229 0.224 0.225 --mean 0.485 0.456 0.406
      imgnorm explain 0.247 0.243 0.261 --stats stats.yaml   # is it your data's?
      imgnorm explain config.yaml --stats stats.yaml         # those of a file

    Prints the dataset, the convention, and what to use if they are wrong. Give one number for each
    channel, in 0..1 or in 0..255. As many digits are compared as you give, so give all that you have.
    In place of NUMBERS, a file that lint reads: every mean with its std in it.
    """
    from imgnorm.constants.explain import explain as explained

    if len(numbers) == 1 and os.path.isfile(numbers[0]):
        return _explain_file(numbers[0], mean, stats_file)
    try:
        explanation = explained(" ".join(numbers), mean=mean, stats=stats_file)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    print_text(str(explanation))
    return 0 if explanation.answers else 1


def _explain_file(path: str, mean: str | None, stats_file: str | None) -> int:
    from imgnorm.checks.lint.explained import explain_file

    if mean is not None:
        raise click.UsageError("--mean: the file has its own; leave --mean out")
    found = explain_file(path, stats_file)
    print_text("\n\n".join(map(str, found)) or f"{path}: no mean with a std in it")
    return 0 if any(one.explanation.answers for one in found) else 1
