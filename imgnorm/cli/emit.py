"""`imgnorm emit`: the transforms for a stats file or a config, as a Python module."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from imgnorm.cli import options as shared
from imgnorm.cli.screen import columns_of
from imgnorm.cli.terminal import note, print_result
from imgnorm.errors import OutputError


def _list_targets(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from imgnorm.pipeline.emit import targets_table

    if value == "" and not ctx.resilient_parsing:  # which is for completion
        print_result(targets_table(columns_of(sys.stdout)))
        ctx.exit()
    return value


def _targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from imgnorm.pipeline.emit import TO_TORCHVISION
    from imgnorm.pipeline.targets import TARGETS

    return [name for name in (TO_TORCHVISION, *TARGETS) if name.startswith(incomplete)]


@click.command
@click.argument("stats_file", metavar="FILE", shell_complete=shared.files)
@shared.output("The file to write.  [default: print it]")
@click.option(
    "--to",
    is_flag=False,
    flag_value="",
    is_eager=True,  # `--to` alone needs no FILE
    callback=_list_targets,
    metavar="[TARGET]",
    shell_complete=_targets,
    help="Write another framework's file; --to alone lists the targets.  [default: torchvision]",
)
@click.option(
    "--api",
    type=click.Choice(["v1", "v2"]),
    help="torchvision.transforms, or torchvision.transforms.v2.  [default: what a pipeline config says, else v1; v2 for 16-bit]",
)
@shared.eps
@click.option(
    "--into",
    type=click.Path(),
    metavar="JSON",
    help="Put the numbers into this file of the framework, and keep all else in it.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Write nothing; exit 1 if the file is not what would be written now.",
)
@shared.force
def emit(
    stats_file: str,
    output: str | None,
    to: str | None,
    api: Any,
    eps: float | None,
    into: str | None,
    check: bool,
    force: int,
) -> int:
    """Write a Python module with the transforms for FILE, or the file of another framework.

    \b
    Examples:
      imgnorm emit stats.yaml                             # only print it
      imgnorm emit stats.yaml -o transforms.py
      imgnorm emit stats.yaml -o transforms.py --check    # is it up to date?
      imgnorm emit --to                                   # other frameworks
      imgnorm emit stats.yaml --to hf --into preprocessor_config.json

    FILE is a stats file or a pipeline config. The module imports torch and torchvision only, and has
    MEAN, STD, train_transform, eval_transform and inverse_transform. A config's augmentation is in
    train_transform. The file of another framework has the numbers in the keys, the unit and the channel
    order that the framework reads.
    """
    from imgnorm.output import check_output, read_whole, write_whole
    from imgnorm.pipeline.emit import TO_TORCHVISION
    from imgnorm.pipeline.emit import emit as emitted

    if into is not None and output is not None:
        raise click.UsageError("-o: --into names the file already; leave -o out")
    written = into or output
    if check and written is None:
        raise click.UsageError("--check needs -o: the module to compare")
    if written and os.path.realpath(written) == os.path.realpath(stats_file):
        option = "-o" if output else "--into"
        raise click.UsageError(f"{option} names the stats file itself; give the module its own")
    if into is not None:
        shared.refuse("force", why="does nothing here: --into keeps all else in the file")
    elif output is not None:
        _demand_fitting(output, to)
    if into and not check and os.path.isfile(into) and not os.stat(into).st_mode & 0o222:
        raise OutputError(f"{into}: is read-only; make it writable first")
    if written is not None and not check:
        try:
            check_output(written, kind="file of `imgnorm emit`", force=2 if into else force)
        except OutputError as error:
            keeps = to is not None and written.endswith(".json") and os.path.isfile(written)
            hint = f", or keep what is in it with --into {written}" if keeps else ""
            raise OutputError(f"{error}{hint}") from error
    try:
        made = emitted(
            stats_file, to=to or TO_TORCHVISION, api=api, eps=eps, output=output, into=into
        )
    except ValueError as error:
        if api is not None and to is None:
            shared.refuse_beside_config(stats_file, "api")
        option, _, why = str(error).partition(": ")
        raise click.UsageError(f"--{option}: {why}") from error
    if written is None:
        if made.is_binary:
            raise click.UsageError(f"--to {to} is binary: name a file with -o")
        print_result(made.text.rstrip("\n"))
    elif not check:
        write_whole(written, made.data, force=bool(force or into))
        note(f"wrote    {written}")
    elif (present := read_whole(written)) != made.data:
        state = "does not exist" if present is None else "is not what `imgnorm emit` writes now"
        replaces = into is None and present is not None
        remedy = "without --check" + (" and with --force" if replaces else "")
        note(f"{written}: {state}; run the same command {remedy}")
        return 1
    return 0


def _demand_fitting(output: str, to: str | None) -> None:
    """Refuse `--to timm -o norm.py`: the name of another kind of file."""
    from imgnorm.pipeline.targets import TARGETS

    usual = TARGETS[to].file if to in TARGETS else "transforms.py"
    ending = os.path.splitext(usual)[1]
    given = os.path.splitext(output)[1].lower().replace(".yml", ".yaml")
    if given in (".py", ".json", ".yaml", ".onnx") and given != ending:
        name = to or "torchvision"
        raise click.UsageError(f"-o: the file of {name} ends in {ending}, not {given}, as {usual}")
