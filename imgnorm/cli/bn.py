"""`imgnorm bn calibrate` and `inspect`: BatchNorm layers of a model. torch is loaded when one runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from imgnorm._torch import torch_needed
from imgnorm.cli import options as shared
from imgnorm.cli.help import CommandGroup
from imgnorm.cli.terminal import beside_files, note, print_text
from imgnorm.errors import ModelError

if TYPE_CHECKING:
    from imgnorm.nn.batches import Batches
    from imgnorm.nn.calibration import Calibration
    from imgnorm.settings import Mode
    from imgnorm.sources.source import Source
    from imgnorm.tally.skipped import Allowance


_num_classes = click.option(
    "--num-classes",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many classes a torchvision model has.  [default: its own]",
)


@click.group(cls=CommandGroup)
def bn() -> None:
    """Inspect or recompute the statistics of BatchNorm layers.

    \b
    Examples:
      imgnorm bn inspect model.pt
      imgnorm bn calibrate --help
    """


@bn.command
@click.argument("model", shell_complete=shared.files)
@click.option(
    "--weights", type=click.Path(), help="The checkpoint of MODEL, unless MODEL is a file."
)
@click.option(
    "--data",
    required=True,
    metavar="SOURCE|CONFIG",
    shell_complete=shared.files,
    help="The images: whatever `imgnorm stats` takes. The eval transform of a pipeline config makes the tensors.",
)
@click.option(
    "--stats",
    "stats_file",
    type=click.Path(),
    help="Turn the images into tensors with this stats file's transform.",
)
@click.option(
    "--transform",
    metavar="MODULE:NAME",
    help="Turn the images into tensors with this callable instead; its module is imported and runs.",
)
@shared.eps
@shared.listed
@shared.root
@shared.split
@click.option(
    "--mode",
    type=click.Choice(["one-pass", "sequential"]),
    default="one-pass",
    help="one-pass: all layers at once, each batch normalized by itself on the way. sequential: a pass for each layer, in eval mode; the result does not depend on the batch size.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    default=64,
    help="Images that run through the model at once.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    default=1,
    help="Processes that decode images. 0: this process decodes, and an image that crashes its decoder ends it.",
)
@click.option(
    "--device",
    default="auto",
    help="auto (cuda if there is one, else cpu), cpu, cuda, cuda:1.",
)
@_num_classes
@shared.max_skipped
@shared.rejects
@shared.output("Write the calibrated checkpoint here.", required=True)
@shared.force
@shared.quiet("No progress and no notes on standard error.")
@shared.verbose("Print every skipped image.")
def calibrate(
    model: str,
    weights: str | None,
    data: str,
    stats_file: str | None,
    transform: str | None,
    eps: float | None,
    mode: Any,
    batch_size: int,
    workers: int,
    device: str,
    num_classes: int | None,
    max_skipped: Allowance | None,
    rejects: str | None,
    output: str,
    force: int,
    quiet: bool,
    verbose: bool,
    **where: Any,
) -> int:
    """Recompute running statistics over all images of a dataset.

    \b
    Examples:
      imgnorm bn calibrate torchvision:resnet18 --weights model.pt
              --data data/train --stats stats.yaml -o calibrated.pt
      imgnorm bn calibrate my_code:make_model --weights model.pt
              --data pipeline.yaml -o calibrated.pt

    MODEL is torchvision:NAME, or package.module:factory, which is imported (from the current folder
    first) and called, so that its code runs; both with --weights. Or it is a TorchScript or
    torch.export file, whose program runs. The output is the same file with other running_mean and
    running_var of its BatchNorm layers. A checkpoint is loaded without running anything in it.

    Images that cannot be read are skipped and listed, as by `imgnorm stats`.
    """
    with torch_needed():
        from imgnorm.nn.batches import Batches
        from imgnorm.nn.calibration import calibrate as calibrate_model
        from imgnorm.nn.models import open_model, placed
    from imgnorm.measuring.bar import progress_bar
    from imgnorm.output import write_whole
    from imgnorm.tally.skipped import write_rejects

    if weights is None and not os.path.isfile(model):
        raise click.UsageError(
            "give --weights: a model without its checkpoint is not worth calibrating"
        )
    written = shared.written_files(output=output, rejects=rejects)
    shared.check_files(output=output, rejects=rejects, kind=None, force=force)
    source, to_tensor, image_mode = _images(data, stats_file, transform, eps, where)
    opened = open_model(model, weights=weights, num_classes=num_classes)
    placed(opened.module, device)
    batches = Batches(source, to_tensor, mode=image_mode, batch_size=batch_size, workers=workers)
    with progress_bar("batches", shown=not quiet, describe=lambda one: one.layer) as on_progress:
        done = calibrate_model(opened.module, batches, mode=mode, on_progress=on_progress)
    skipped = batches.skipped
    complete: list[str] = []
    try:
        if rejects is not None:
            write_rejects(rejects, skipped, force=bool(force))
            complete.append(rejects)
        looked_at = done.images + len(skipped)
        shared.demand_few_skipped(len(skipped), looked_at, max_skipped, "checkpoint")
        write_whole(output, opened.saved(), force=bool(force))
        complete.append(output)
    finally:  # the result is not lost when it cannot be written
        with beside_files(complete):
            print_text(_calibration_table(done, batches, verbose))
    if not quiet:
        for name in done.unreached:
            note(f"note     {name}: no image reached it in eval mode; left as it was")
        for path in written:
            note(f"wrote    {path}")
    return 3 if skipped and max_skipped is None else 0


@bn.command
@click.argument("model", shell_complete=shared.files)
@click.option("--weights", type=click.Path(), help="The checkpoint of MODEL.")
@_num_classes
@click.option("--strict", is_flag=True, help="Exit 1 if anything is wrong with a layer.")
def inspect(model: str, weights: str | None, num_classes: int | None, strict: bool) -> int:
    """List the BatchNorm layers of MODEL, and their faults.

    \b
    Examples:
      imgnorm bn inspect model.pt
      imgnorm bn inspect torchvision:resnet18 --weights model.pt --strict

    MODEL is a checkpoint, which is loaded without running anything in it; or a model as in `imgnorm
    bn calibrate --help`. A checkpoint alone holds neither eps (assumed to be 1e-5) nor momentum, and
    nothing about layers without running statistics.
    """
    with torch_needed():
        from imgnorm.nn.inspection import inspect as inspect_model
        from imgnorm.nn.inspection import table_of
        from imgnorm.nn.models import file_kind, open_model, read_checkpoint

    if os.path.isfile(model) and file_kind(model) == "checkpoint" and weights is None:
        if num_classes is not None:
            raise click.UsageError("--num-classes is for torchvision:NAME; leave it out")
        reports = inspect_model(read_checkpoint(model).state)
    else:
        reports = inspect_model(open_model(model, weights=weights, num_classes=num_classes).module)
    print_text(table_of(reports))
    return int(strict and any(report.faults for report in reports))


def _images(
    data: str,
    stats_file: str | None,
    transform: str | None,
    eps: float | None,
    where: dict[str, Any],
) -> tuple[Source, Callable[[Any], Any], Mode | None]:
    """The source that `data` names, how its images become tensors, and in which mode they come."""
    from imgnorm.datasets.user_code import UserCode
    from imgnorm.measuring.measure import call_facts
    from imgnorm.measuring.opening import names_a_config, open_named, source_of, with_frames
    from imgnorm.pipeline.config import read_normalized
    from imgnorm.pipeline.transforms import build, to_transform
    from imgnorm.settings import ImageSettings
    from imgnorm.stats.file import read_stats

    if names_a_config(data) and not where["listed"]:
        shared.refuse_beside_config(data, "stats_file", "transform", "listed", "root", "split")
        pipeline, stats = read_normalized(data)
        source = with_frames(source_of(pipeline), ImageSettings(frames=pipeline.frames))
        mode = pipeline.mode if pipeline.mode != "auto" else stats.image_mode
        return source, build(data, eps=eps).eval, mode
    if (stats_file is None) == (transform is None):
        raise click.UsageError("give one of --stats and --transform: how images become tensors")
    if transform is not None:
        shared.refuse("eps", why="is for --stats; leave it out")
    shared.refuse_conflicts(call_facts(data, **where))
    source = open_named(data, **where)
    if transform is not None:
        return source, UserCode(transform, ModelError, "--transform").function(), None
    assert stats_file is not None
    stats = read_stats(stats_file)
    return source, to_transform(stats, eps=eps), stats.image_mode


def _calibration_table(done: Calibration, batches: Batches, verbose: bool) -> str:
    from imgnorm.stats.table import aligned, found_line, skipped_lines

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
    return "\n".join(
        [
            *aligned(rows),
            "",
            found_line(done.images, batches.skipped, batches.ignored),
            *skipped_lines(batches.skipped, verbose=verbose),
        ]
    )
