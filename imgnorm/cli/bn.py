"""The commands `imgnorm bn …`: parse, one call, print. torch is loaded when one of them runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from imgnorm._torch import torch_needed
from imgnorm.cli.options import given, max_skipped, rejects
from imgnorm.cli.terminal import note, progress_bar, show
from imgnorm.errors import ModelError, OutputError, TooManySkipped
from imgnorm.settings import TORCHVISION

if TYPE_CHECKING:
    from imgnorm.nn.batches import Batches
    from imgnorm.nn.calibration import Calibration
    from imgnorm.settings import Mode
    from imgnorm.sources.source import Source
    from imgnorm.tally.skipped import Allowance


@click.group()
def bn() -> None:
    """Look at and recompute the running statistics of BatchNorm layers."""


@bn.command(no_args_is_help=True)
@click.argument("model")
@click.option(
    "--weights", type=click.Path(), help="The checkpoint of MODEL, unless MODEL is a file."
)
@click.option(
    "--data",
    required=True,
    metavar="SOURCE|CONFIG",
    help="The images: whatever `imgnorm stats` takes, a pipeline config included, whose eval transform then makes the tensors.",
)
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
    "--eps",
    type=click.FloatRange(min=0, min_open=True, max=1),
    help="The least std to divide by: max(std, eps).  [default: refuse constant channels]",
)
@click.option("--list", "listed", is_flag=True, help="SOURCE is a text file with one path a line.")
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
    default=1,
    show_default=True,
    help="Processes that decode images. 0: this one, which an image that crashes its decoder then ends.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto (cuda if there is one, else cpu), cpu, cuda, cuda:1.",
)
@click.option(
    "--num-classes", type=click.IntRange(min=1), help="Of a torchvision model.  [default: its own]"
)
@max_skipped
@rejects
@click.option(
    "-o", "--output", type=click.Path(), required=True, help="Write the calibrated checkpoint here."
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on standard error.")
@click.option("-v", "--verbose", is_flag=True, help="Print every skipped image.")
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
    force: bool,
    quiet: bool,
    verbose: bool,
    **where: Any,
) -> int:
    """Recompute the running statistics of MODEL's BatchNorm layers over all images of a dataset.

    MODEL is torchvision:NAME, or package.module:factory, which is imported (looked for here first)
    and called, so that its code runs; both with --weights. Or it is a TorchScript or torch.export
    file, whose program runs. The output is the same file with other running_mean and running_var.
    A checkpoint is loaded without running anything in it.

    Images that cannot be read are skipped and listed, as by `imgnorm stats`.
    """
    with torch_needed():
        from imgnorm.nn.batches import Batches
        from imgnorm.nn.calibration import calibrate as calibrate_model
        from imgnorm.nn.models import open_model, placed
    from imgnorm.output import check_output, write_whole
    from imgnorm.tally.skipped import write_rejects

    if weights is None and not os.path.isfile(model):
        raise click.UsageError(
            "give --weights: a model without its checkpoint is not worth calibrating"
        )
    written = [path for path in (output, rejects) if path is not None]
    if len(set(map(os.path.realpath, written))) < len(written):
        raise click.UsageError("-o and --rejects name the same file; give each its own")
    for path in written:
        check_output(path, force=force)
    source, to_tensor, image_mode = _images(data, stats_file, transform, eps, where)
    opened = open_model(model, weights=weights, num_classes=num_classes)
    placed(opened.module, device)
    batches = Batches(source, to_tensor, mode=image_mode, batch_size=batch_size, workers=workers)
    with progress_bar("batches", quiet=quiet, told=lambda progress: progress.layer) as on_progress:
        done = calibrate_model(opened.module, batches, mode=mode, on_progress=on_progress)
    skipped = batches.skipped
    report = _report(done, batches, verbose)
    if rejects is not None:
        try:
            write_rejects(rejects, skipped, force=force)
        except OutputError:  # the result is not lost with the list
            show(report)
            raise
    if max_skipped is not None and not max_skipped.covers(len(skipped), done.images + len(skipped)):
        show(report)
        raise TooManySkipped(
            f"{len(skipped):,} images skipped, more than --max-skipped {max_skipped}; no checkpoint was "
            "written: mend them, or allow more"
        )
    try:
        write_whole(output, opened.saved(), force=force)
    finally:
        show(report)
    if not quiet:
        for name in done.unreached:
            note(f"note     {name}: no image reached it in eval mode; left as it was")
        for path in written:
            note(f"wrote    {path}")
    return 3 if skipped and max_skipped is None else 0


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
    show(table_of(reports))
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
    from imgnorm.measuring.opening import names_a_config, open_named
    from imgnorm.pipeline.config import read_normalized
    from imgnorm.pipeline.transforms import build, to_transform
    from imgnorm.stats.file import read_stats

    if names_a_config(data) and not where["listed"]:
        _refuse(
            ["stats_file", "transform", "listed", "root", "split"],
            f"{data} says it; leave the option out",
        )
        pipeline, stats = read_normalized(data)
        named: dict[str, Any] = {**pipeline.source, "listed": pipeline.listed}
        source = open_named(**named)
        mode = pipeline.mode if pipeline.mode != "auto" else stats.image_mode
        return source, build(data, eps=eps).eval, mode
    if (stats_file is None) == (transform is None):
        raise click.UsageError("give one of --stats and --transform: how images become tensors")
    if transform is not None:
        _refuse(["eps"], "is for --stats; leave it out")
    if not data.startswith(TORCHVISION):
        _refuse(["root", "split"], "is for torchvision:NAME; leave it out")
    source = open_named(data, **where)
    if transform is not None:
        return source, UserCode(transform, ModelError, "--transform").function(), None
    assert stats_file is not None
    stats = read_stats(stats_file)
    api: Any = "v1" if stats.scale == 255 else "v2"  # v1 has no 16-bit
    return source, to_transform(stats, api=api, eps=eps), stats.image_mode


def _refuse(options: Sequence[str], why: str) -> None:
    """An option that would do nothing is a misunderstanding."""
    for option in given(*options):
        raise click.UsageError(f"{option}: {why}")


def _report(done: Calibration, batches: Batches, verbose: bool) -> str:
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
