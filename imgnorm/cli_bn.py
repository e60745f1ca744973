"""The commands `imgnorm bn …`: parse, one call, print. torch is loaded when one of them runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from imgnorm.nn.calibration import Calibration, Progress


@click.group()
def bn() -> None:
    """Look at and recompute the running statistics of BatchNorm layers."""


@bn.command(no_args_is_help=True)
@click.argument("model")
@click.option(
    "--weights", type=click.Path(), help="The checkpoint of MODEL, unless MODEL is a file."
)
@click.option("--data", "source", required=True, help="The images: a folder, or torchvision:NAME.")
@click.option(
    "--stats",
    "stats_file",
    type=click.Path(),
    help="Make tensors of the images with this stats file's transform.",
)
@click.option(
    "--transform",
    metavar="MODULE:NAME",
    help="Make tensors of the images with this callable instead; its module is imported and runs.",
)
@click.option(
    "--root", default="data", show_default=True, help="Where a torchvision dataset lives."
)
@click.option(
    "--split", default="train", show_default=True, help="The split of a torchvision dataset."
)
@click.option(
    "--mode",
    type=click.Choice(["one-pass", "sequential"]),
    default="one-pass",
    show_default=True,
    help="one-pass: all layers at once, each batch normalized by itself on the way. sequential: a pass for each layer, in eval mode; the result does not depend on the batch size.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Processes that decode images; 0: this one.",
)
@click.option("--device", help="cpu, cuda, cuda:1.  [default: cuda if there is one, else cpu]")
@click.option(
    "--num-classes", type=click.IntRange(min=1), help="Of a torchvision model.  [default: its own]"
)
@click.option(
    "-o", "--output", type=click.Path(), required=True, help="Write the calibrated checkpoint here."
)
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on standard error.")
def calibrate(
    model: str,
    weights: str | None,
    source: str,
    stats_file: str | None,
    transform: str | None,
    mode: Any,
    device: str | None,
    num_classes: int | None,
    output: str,
    force: bool,
    quiet: bool,
    **reading: Any,
) -> None:
    """Recompute the running statistics of MODEL's BatchNorm layers over all images of a dataset.

    MODEL is torchvision:NAME, or package.module:factory, which is imported (looked for here first)
    and called, so that its code runs; both with --weights. Or it is a TorchScript or torch.export
    file, whose program runs. The output is the same file with other running_mean and running_var.
    A checkpoint is loaded without running anything in it.
    """
    from imgnorm.nn.batches import Batches
    from imgnorm.nn.calibration import calibrate as calibrate_model
    from imgnorm.nn.models import imported, open_model, placed
    from imgnorm.output import check_output, write_whole
    from imgnorm.statsfile import read_stats

    if (stats_file is None) == (transform is None):
        raise click.UsageError("give one of --stats and --transform: how images become tensors")
    if weights is None and not os.path.isfile(model):
        raise click.UsageError(
            "give --weights: a model without its checkpoint is not worth calibrating"
        )
    check_output(output, force=force)
    to_tensor: Any = read_stats(stats_file) if stats_file else imported(transform or "")
    opened = open_model(model, weights=weights, num_classes=num_classes)
    placed(opened.module, device)
    batches = Batches(source, to_tensor, **reading)
    with _bar(quiet) as on_progress:
        done = calibrate_model(opened.module, batches, mode=mode, on_progress=on_progress)
    try:
        write_whole(output, opened.saved(), force=force)
    finally:  # the result is not lost when it cannot be written
        click.echo(_table(done))
    if not quiet:
        for name in done.unreached:
            click.echo(
                f"note     {name}: no image reached it in eval mode; left as it was", err=True
            )
        click.echo(f"wrote    {output}", err=True)


@bn.command(no_args_is_help=True)
@click.argument("model")
@click.option("--weights", type=click.Path(), help="The checkpoint of MODEL.")
@click.option(
    "--num-classes", type=click.IntRange(min=1), help="Of a torchvision model.  [default: its own]"
)
@click.option("--strict", is_flag=True, help="Exit 1 if anything is wrong with a layer.")
def inspect(model: str, weights: str | None, num_classes: int | None, strict: bool) -> int:
    """A table of all BatchNorm layers of MODEL, and what about them hurts.

    MODEL is a checkpoint, which is loaded without running anything in it; or what `imgnorm bn
    calibrate --help` says. A checkpoint alone tells neither eps (taken to be 1e-5) nor momentum,
    nor of layers without running statistics.
    """
    from imgnorm.nn.inspection import inspect as inspect_model
    from imgnorm.nn.inspection import table_of
    from imgnorm.nn.models import file_kind, open_model, read_checkpoint

    if os.path.isfile(model) and file_kind(model) == "checkpoint" and weights is None:
        reports = inspect_model(read_checkpoint(model).state)
    else:
        reports = inspect_model(open_model(model, weights=weights, num_classes=num_classes).module)
    click.echo(table_of(reports))
    return int(strict and any(report.faults for report in reports))


def _table(done: Calibration) -> str:
    from imgnorm.table import aligned

    rows = [["layer", "values", "mean shift", "old variance / new"]]
    for layer in done.layers:
        low, high = layer.variance_ratio
        rows.append(
            [
                layer.name,
                f"{layer.count:,}",
                f"{layer.mean_shift:.3g} std",
                f"{low:.4g} .. {high:.4g}",
            ]
        )
    return "\n".join([*aligned(rows), "", f"images   {done.images:,}"])


@contextmanager
def _bar(quiet: bool) -> Iterator[Any]:
    """A function that shows Progress on a terminal, and does nothing elsewhere."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda progress: None
        return
    from tqdm import tqdm

    with tqdm(unit=" batches", file=sys.stderr, dynamic_ncols=True, leave=False) as bar:

        def on_progress(progress: Progress) -> None:
            bar.total = progress.total
            bar.set_postfix_str(progress.layer, refresh=False)
            bar.update(progress.done - bar.n)

        yield on_progress
