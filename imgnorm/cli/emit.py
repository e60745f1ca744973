"""`imgnorm emit`: the transforms for a stats file or a config, as a Python module."""

from __future__ import annotations

import os
from typing import Any

import click

from imgnorm.cli import options as shared
from imgnorm.cli.terminal import note, print_result


@click.command
@click.argument("stats_file", metavar="FILE", shell_complete=shared.files)
@shared.output("The module to write.  [default: print it]")
@click.option(
    "--api",
    type=click.Choice(["v1", "v2"]),
    help="torchvision.transforms, or torchvision.transforms.v2.  [default: what a pipeline config says, else v1]",
)
@shared.eps
@click.option(
    "--check",
    is_flag=True,
    help="Write nothing; exit 1 if the module is not what would be written now.",
)
@shared.force
def emit(
    stats_file: str, output: str | None, api: Any, eps: float | None, check: bool, force: bool
) -> int:
    """Write a Python module with the transforms for FILE.

    \b
    Examples:
      imgnorm emit stats.yaml                             # only print it
      imgnorm emit stats.yaml -o transforms.py
      imgnorm emit stats.yaml -o transforms.py --check    # is it up to date?

    FILE is a stats file or a pipeline config. The module imports torch and torchvision only, and has
    MEAN, STD, train_transform, eval_transform and inverse_transform. A config's augmentation is in
    train_transform.
    """
    from imgnorm.output import check_output, read_whole, write_whole
    from imgnorm.pipeline.emit import emit as emitted

    if check and output is None:
        raise click.UsageError("--check needs -o: the module to compare")
    if output and os.path.realpath(output) == os.path.realpath(stats_file):
        raise click.UsageError("-o names the stats file itself; give the module its own")
    if output is not None and not check:
        check_output(output, force=force)
    try:
        module = emitted(stats_file, api=api, eps=eps, output=output or "transforms.py").text
    except ValueError:
        shared.refuse_beside_config(stats_file, "api")
        raise
    if output is None:
        print_result(module.rstrip("\n"))
    elif not check:
        write_whole(output, module.encode(), force=force)
        note(f"wrote    {output}")
    elif (present := read_whole(output)) != module.encode():
        state = "does not exist" if present is None else "is not what `imgnorm emit` writes now"
        note(f"{output}: {state}; run the same command without --check and with --force")
        return 1
    return 0
