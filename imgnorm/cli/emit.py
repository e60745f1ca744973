"""`imgnorm emit`: the transforms for a stats file or a config, as a Python module."""

from __future__ import annotations

import os
from typing import Any

import click

from imgnorm.cli import options as shared
from imgnorm.cli.terminal import note, print_result
from imgnorm.errors import TransformError


@click.command(no_args_is_help=True)
@click.argument("stats_file", metavar="FILE")
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

    FILE is a stats file or a pipeline config. The module imports torch and torchvision only, and has
    MEAN, STD, train_transform, eval_transform and inverse_transform. A config's augmentation is in
    train_transform.
    """
    from imgnorm.output import check_output, read_whole, write_whole

    if check and output is None:
        raise click.UsageError("--check needs -o: the module to compare")
    if output and os.path.realpath(output) == os.path.realpath(stats_file):
        raise click.UsageError("-o names the stats file itself; give the module its own")
    if output is not None and not check:
        check_output(output, force=force)
    try:
        module = _module_of(stats_file, output, api, eps)
    except TransformError as error:
        raise TransformError(f"{stats_file}: {error}") from error
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


def _module_of(path: str, output: str | None, api: Any, eps: float | None) -> str:
    """The text of the module for a stats file or a config."""
    from imgnorm.documents import reader
    from imgnorm.documents.document import STATS_LIMITS, read_bytes
    from imgnorm.pipeline import config, emit
    from imgnorm.stats.file import parse_stats

    data, module = read_bytes(path, STATS_LIMITS), output or "transforms.py"
    if not reader.declared_format(data).startswith("imgnorm-pipeline/"):
        stats = parse_stats(data, path)
        return emit.emit(stats, api=api or "v1", eps=eps, stats_path=path, module_path=module)
    shared.refuse_beside_config(path, "api")
    pipeline, stats = config.read_normalized(path)
    return emit.emit_pipeline(pipeline, stats, eps=eps, config_path=path, module_path=module)
