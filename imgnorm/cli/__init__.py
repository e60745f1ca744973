"""The commands: parse, one call, print. No loops over images, no arithmetic, no YAML."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

import imgnorm
from imgnorm.cli import bn as cli_bn
from imgnorm.cli import checks as cli_checks
from imgnorm.cli import constants as cli_numbers
from imgnorm.cli.options import given, max_skipped, rejects
from imgnorm.cli.terminal import images_bar
from imgnorm.cli.terminal import note as _note
from imgnorm.cli.terminal import show as _print
from imgnorm.errors import ImgnormError, OutputError, SourceError, TooManySkipped, TransformError
from imgnorm.settings import TORCHVISION

if TYPE_CHECKING:
    from imgnorm.progress import Profile
    from imgnorm.stats.stats import Stats
    from imgnorm.tally.skipped import Allowance

_EXIT_CODES = """\b
Exit codes:
  0    all that was found is counted, or the check passed
  1    a check failed: a file is not up to date, more images skipped than --max-skipped allows
  2    wrong usage, or the work could not be done; nothing was written
  3    written, but some images were skipped, and no --max-skipped said that this is fine
  70   a bug in imgnorm
  130  Ctrl-C (143 SIGTERM, 129 SIGHUP, 141 the reader of the output is gone)
"""


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    output = sys.stdout
    try:
        code = commands.main(list(arguments), prog_name="imgnorm", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit:
        if sys.stdout is output:
            raise
        raise BrokenPipeError from None  # click had wrapped the output, to exit with 1
    except click.Abort as error:  # what click makes of a KeyboardInterrupt, which is the user's own
        raise error.__cause__ or error from None
    except click.exceptions.NoArgsIsHelpError as error:
        _note(error.format_message())
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "imgnorm"
        _note(f"{error.format_message()} (see `{command} --help`)")
        return 2
    except TooManySkipped as error:
        _note(str(error))
        return 1
    except ImgnormError as error:
        _note(str(error))
        return 2


def _size(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> int | tuple[int, int] | None:
    """256, or 224x320 for (height, width)."""
    if value is None:
        return None
    edges = value.lower().split("x")
    short = re.fullmatch(r"\d{1,9}(x\d{1,9})?", value.lower(), re.ASCII)
    if short is None or not all(map(int, edges)):
        raise click.BadParameter(
            f"{value!r} is not a size; give 256, or HEIGHTxWIDTH as in 224x320", ctx, param
        )
    return int(edges[0]) if len(edges) == 1 else (int(edges[0]), int(edges[1]))


def _shard(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """2/4: the second of four."""
    if value is None:
        return None
    number, _, of = value.partition("/")
    if not re.fullmatch(r"\d{1,9}/\d{1,9}", value, re.ASCII) or not 1 <= int(number) <= int(of):
        raise click.BadParameter(
            f"{value!r} is not a shard; give I/N with I from 1 to N, as in 2/4", ctx, param
        )
    return int(number), int(of)


def _device(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from imgnorm.measuring.measure import DEVICES

    if value is None:
        return None
    if not DEVICES.fullmatch(value):
        raise click.BadParameter(
            f"{value!r} is not a device; give cpu, cuda, auto, or a number as in cuda:1", ctx, param
        )
    return value


def _estimated(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """An option of an estimate, if it can be had."""
    if value is not None:
        from imgnorm.stats.estimate import PLAN_FAULTS

        if fault := PLAN_FAULTS[str(param.name)](value):
            raise click.BadParameter(fault, ctx, param)
    return value


@click.group(epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(imgnorm.__version__, message="imgnorm %(version)s")
def commands() -> None:
    """Exact per-channel mean and std of image datasets, and the transforms that use them.

    \b
    imgnorm stats data/train -o stats.yaml      measure a folder
    imgnorm emit stats.yaml -o transforms.py    write the torchvision transforms
    imgnorm merge part-*.yaml -o stats.yaml     add up what was measured in parts
    """


_SET_BY_A_CONFIG = ("listed", "root", "split", "layout", "mode", "resize", "center_crop")


@commands.command(
    no_args_is_help=True, epilog=_EXIT_CODES, context_settings={"allow_extra_args": True}
)
@click.argument("source", required=False)
@click.option(
    "--dataset",
    "factory",
    metavar="MODULE:FACTORY",
    help="Measure what this function of yours returns: a torch Dataset or DataLoader, or any iterable of images. This imports the module, from the current folder first, and runs its code.  [default: none; SOURCE is measured]",
)
@click.option(
    "--key",
    help="Where the items of --dataset have the image: a dict's key, or the place in a tuple.  [default: the first of a tuple; of a dict, image, images, img, imgs, pixel_values, x, input or inputs]",
)
@click.option(
    "--list",
    "listed",
    is_flag=True,
    help="SOURCE is a text file with one path a line, relative to that file; each is looked at whatever its suffix.",
)
@click.option(
    "--root",
    default="data",
    show_default=True,
    help="Where a torchvision dataset lives: its own `root`.",
)
@click.option(
    "--split",
    default="train",
    show_default=True,
    help="The split of a torchvision dataset: train, test, or what its `split` accepts.",
)
@click.option("--download", is_flag=True, help="Let torchvision download the dataset.")
@click.option(
    "--layout",
    type=click.Choice(["NHWC", "NCHW", "NHW", "HWC", "CHW", "HW"]),
    help="The dimensions of .npy and .npz arrays, and of the arrays of --dataset: N images of H x W, C channels.  [default: what the shape tells]",
)
@click.option(
    "--mode",
    type=click.Choice(["auto", "L", "RGB", "RGBA", "I;16"]),
    default="auto",
    show_default=True,
    help="Convert each image to this mode. auto: the mode that all share (L for gray, I;16 for 16-bit gray), else RGB, without alpha.",
)
@click.option(
    "--strict-channels",
    is_flag=True,
    help="Skip images that have other channels than --mode (gray, alpha or CMYK among RGB) as channel-mismatch, instead of converting them; with --max-skipped 0, one of them fails the run.",
)
@click.option(
    "--resize",
    callback=_size,
    metavar="SIZE",
    help="Resize first, as torchvision.transforms.Resize does: the shorter edge, or HEIGHTxWIDTH.  [default: native sizes]",
)
@click.option(
    "--center-crop",
    callback=_size,
    metavar="SIZE",
    help="Then crop, as torchvision.transforms.CenterCrop does: a square's edge, or HEIGHTxWIDTH.  [default: no crop]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that decode, or threads that count pixels in memory.  [default: the cores this process may use]",
)
@click.option(
    "--device",
    callback=_device,
    metavar="DEVICE",
    help="Where pixels of 8 bits are counted, to the same digits: cpu; cuda or cuda:N; auto: cuda, if there is one that works. Others are counted on the CPU.  [default: cpu; cuda with --decoder nvjpeg]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1, max=1024),
    metavar="MEGAPIXELS",
    help="What is sent to the device at once; larger images may be counted by their worker.  [default: 8]",
)
@click.option(
    "--decoder",
    type=click.Choice(["auto", "pillow", "nvjpeg"]),
    default="auto",
    show_default=True,
    help="Who decodes. pillow: the reference, always. auto: faster ones, where every pixel is the same (ordinary JPEGs, by simplejpeg). Neither changes a digit. nvjpeg: a CUDA device decodes JPEGs, and digits do change: pixels differ by a level here and there; the stats file says so, and merges with none of the others. Needs torchcodec.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Measure N images only, spread evenly over the sorted names.  [default: all]",
)
@click.option(
    "--shard",
    callback=_shard,
    metavar="I/N",
    help="Measure every N-th of these names only, from the I-th on; `imgnorm merge` adds the N stats files up.  [default: all]",
)
@click.option("--per-class", is_flag=True, help="Mean and std of each class folder, too.")
@click.option(
    "--keep-names",
    is_flag=True,
    help="Keep the names of the counted images in the stats file, one a line, so that `imgnorm merge` sees which of them two files share.",
)
@click.option(
    "--tolerance",
    type=float,
    callback=_estimated,
    metavar="T",
    help="Look at a random sample of the images that is just large enough for every mean and std to be within T of the exact one; prints error bars.  [default: look at all, exactly]",
)
@click.option(
    "--confidence",
    type=float,
    callback=_estimated,
    metavar="P",
    help="The probability that all of them are, with --tolerance.  [default: 0.99]",
)
@click.option(
    "--seed",
    type=int,
    callback=_estimated,
    help="Decides which images are taken, with --tolerance.  [default: 0]",
)
@max_skipped
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=178_956_970,
    show_default=True,
    help="Skip larger images before they are decoded.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    default=30.0,
    show_default=True,
    help="Seconds for one image; it is tried twice.",
)
@rejects
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the content of the stats file as JSON, instead of the table.",
)
@click.option(
    "-o", "--output", type=click.Path(), help="Write the stats file here.  [default: only print]"
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notes on standard error.")
@click.option(
    "--profile",
    "profiled",
    is_flag=True,
    help="Print to standard error where the time went, in seconds by step and process; send it with a report about speed.",
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Print the other conventions, the quantiles, and every skipped image.",
)
def stats(
    source: str | None,
    factory: str | None,
    key: str | None,
    max_skipped: Allowance | None,
    rejects: str | None,
    as_json: bool,
    output: str | None,
    force: bool,
    quiet: bool,
    profiled: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Measure SOURCE: a folder of images, an archive, .npy or .npz arrays, a list (--list),
    torchvision:NAME, or a pipeline config; or a Dataset of your own (--dataset).

    An archive is a zip, tar or tar.gz, or many of them: 'shards/train-*.tar' and
    'train-{000000..000127}.tar', quoted. They are read in place; nothing is unpacked. A config (a file
    whose name ends in .yaml or .yml) says itself what is measured, in which mode and through which
    preprocess.

    The mean and std are pooled over all pixels of all images, population, for ToTensor's [0, 1], and
    exact: no option about speed changes a digit. With --tolerance they are an estimate, from as few
    images as it allows, and the file says so.
    """
    from imgnorm.measuring.measure import (
        DeviceWarning,
        SkippedImagesWarning,
        SourceWarning,
        default_device,
        find_device,
        measure,
    )
    from imgnorm.measuring.opening import names_a_config, open_object
    from imgnorm.output import check_output
    from imgnorm.progress import Profile
    from imgnorm.tally.skipped import write_rejects

    options["device"] = options["device"] or default_device(options["decoder"])
    if options["batch_size"] is not None and options["device"] == "cpu":
        raise click.UsageError("--batch-size is for --device cuda or auto; leave it out")
    written = [path for path in (output, rejects) if path is not None]
    if len(set(map(os.path.realpath, written))) < len(written):
        raise click.UsageError("-o and --rejects name the same file; give each its own")
    _refuse_idle_estimate(**options)
    if extra := click.get_current_context().args:  # a pattern that the shell has replaced, mostly
        raise click.UsageError(
            f"there are {1 + len(extra):,} sources, and {extra[0]!r} is the second; name one, or quote a pattern, "
            "as in 'shards/*.tar'"
        )
    if (source is None) == (factory is None):
        raise click.UsageError("give SOURCE or --dataset, one of them")
    if factory is None and key is not None:
        raise click.UsageError("--key is for --dataset; leave it out")
    from_config = source is not None and not options["listed"] and names_a_config(source)
    if source is None:
        _refuse_idle_options("", options["listed"], dataset=True)
    elif not from_config:
        _refuse_idle_options(source, options["listed"])
    for path in written:
        check_output(path, force=force)
    if from_config:
        assert source is not None
        options |= _config_options(source)
        source = options.pop("source")
    if options["strict_channels"] and options["mode"] == "auto":
        raise click.UsageError(
            "--strict-channels needs a mode that says which channels are right: give --mode RGB, say"
        )
    if verbose and not quiet and options["device"] != "cpu":
        _note(f"device   {find_device(options['device']).words}")
    started = monotonic()
    profile = Profile.of_command() if profiled else None
    noting = _noting(SourceWarning, DeviceWarning, ignored=SkippedImagesWarning, quiet=quiet)
    bar = images_bar(quiet=quiet, tolerance=options["tolerance"])
    with noting, bar as on_progress:
        options |= {"on_progress": on_progress, "profile": profile}
        if factory is None:
            measured = measure(source, **options)
        else:
            from imgnorm.datasets.user_code import UserCode

            code = UserCode(factory, SourceError, "--dataset")
            # What the user's code prints is no result.
            with redirect_stdout(sys.stderr), code.exits_refused():
                made, layout = code.dataset(), options.pop("layout")
                try:
                    found = open_object(made, key=key, layout=layout, ref=factory)
                except TypeError as error:
                    raise SourceError(
                        f"--dataset {factory}: gave something of type {type(made).__name__}; return a Dataset, "
                        "a DataLoader or another iterable of images"
                    ) from error
                measured = measure(found, **options)
    seconds = monotonic() - started
    if profile:
        _note(_shown_profile(profile, seconds, measured))
    if rejects is not None:
        try:
            write_rejects(rejects, measured.skipped, force=force)
        except OutputError:  # the result is not lost with the list
            _print_result(measured, as_json, verbose)
            raise
    looked_at = measured.images + len(measured.skipped)
    if max_skipped is not None and not max_skipped.covers(len(measured.skipped), looked_at):
        _print_result(measured, as_json, verbose)
        raise TooManySkipped(
            f"{len(measured.skipped):,} images skipped, more than --max-skipped {max_skipped}; no stats "
            "file was written: mend them, or allow more"
        )
    try:
        if output is not None:
            from imgnorm.stats.file import write_stats

            write_stats(output, measured, force=force)
    finally:  # the result is not lost when it cannot be written
        _print_result(measured, as_json, verbose)
    if not quiet:
        if options["tolerance"] is not None and measured.estimate is None:
            _note(
                "exact    no estimate: all images were looked at, since fewer are not enough for "
                f"--tolerance {options['tolerance']:g}"
            )
        _note(f"time     {seconds:.1f} s, {measured.images / max(seconds, 1e-9):,.0f} images/s")
        for path in written:
            _note(f"wrote    {path}")
    return 3 if measured.skipped and max_skipped is None else 0


def _config_options(path: str) -> dict[str, Any]:
    """What a config tells `measure`.

    Raises:
        UsageError: an option on the command line says the same thing.
    """
    from imgnorm.measuring.opening import source_of
    from imgnorm.pipeline.config import read_pipeline

    for option in given(*_SET_BY_A_CONFIG):
        raise click.UsageError(f"{option}: {path} says it; change it there, or leave {option} out")
    pipeline = read_pipeline(path)
    download = click.get_current_context().params["download"]
    if download and pipeline.kind != "torchvision":
        raise click.UsageError("--download is for torchvision datasets; leave it out")
    return {
        "source": source_of(pipeline, download=download),
        "listed": False,
        "mode": pipeline.mode,
        "preprocess": pipeline.preprocess,
    }


@commands.command(no_args_is_help=True)
@click.argument("stats_file")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Print the other conventions, the quantiles, and every skipped image.",
)
def show(stats_file: str, verbose: bool) -> None:
    """Print the table of a stats file again."""
    from imgnorm.stats.file import read_stats

    _print_result(read_stats(stats_file), False, verbose)


@commands.command(no_args_is_help=True)
@click.argument("stats_files", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(), help="Write the stats file here.  [default: only print]"
)
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Go on without shards that are missing; the stats file tells which it has, and later merges can add the rest.",
)
@click.option(
    "--allow-overlap",
    is_flag=True,
    help="Count images twice that two files count, or that have the same names and are not the same.",
)
@click.option(
    "--allow-decoders",
    is_flag=True,
    help="Add up what other decoders or other versions decoded, whose pixels may differ by a level; the stats file names them all.",
)
@click.option(
    "--drop-names",
    is_flag=True,
    help="Leave the names out that `stats --keep-names` kept: they are compared, and not written.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the content of the stats file as JSON, instead of the table.",
)
@click.option("-q", "--quiet", is_flag=True, help="No notes on standard error.")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Print the other conventions, the quantiles, and every skipped image.",
)
def merge(
    stats_files: tuple[str, ...],
    output: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **allowed: bool,
) -> None:
    """Add STATS_FILES up to one, exactly: as if all had been measured at once, in any order.

    Refused: other settings (mode, resize, crop), decoders whose digits may differ, shards that are
    missing, and the same listing of names or the same set of counted names twice. Images that
    listings of different names share are seen if both files were measured with --keep-names; the
    sum keeps names if all of its files do.
    """
    from imgnorm.output import check_output
    from imgnorm.stats.file import merge_files, write_stats

    if output is not None:
        check_output(output, force=force)
    merged = merge_files(stats_files, **allowed)
    try:
        if output is not None:
            write_stats(output, merged, force=force)
    finally:  # the result is not lost when it cannot be written
        _print_result(merged, as_json, verbose)
    if output is not None and not quiet:
        _note(f"wrote    {output}")


@commands.command(no_args_is_help=True)
@click.argument("stats_file", metavar="FILE")
@click.option("-o", "--output", type=click.Path(), help="The module to write.  [default: print it]")
@click.option(
    "--api",
    type=click.Choice(["v1", "v2"]),
    help="torchvision.transforms, or torchvision.transforms.v2.  [default: what a pipeline config says, else v1]",
)
@click.option(
    "--eps",
    type=click.FloatRange(min=0, min_open=True, max=1),
    help="The least std to divide by: max(std, eps).  [default: refuse constant channels]",
)
@click.option(
    "--check",
    is_flag=True,
    help="Write nothing; exit 1 if the module is not what would be written now.",
)
@click.option("--force", is_flag=True, help="Replace a module that exists.")
def emit(
    stats_file: str, output: str | None, api: Any, eps: float | None, check: bool, force: bool
) -> int:
    """Write a Python module with the transforms for FILE: a stats file, or a pipeline config.

    It imports torch and torchvision only, and has MEAN, STD, train_transform, eval_transform and
    inverse_transform. A config's augmentation is in train_transform.
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
        _print(module.rstrip("\n"))
    elif not check:
        write_whole(output, module.encode(), force=force)
        _note(f"wrote    {output}")
    elif (there := read_whole(output)) != module.encode():
        state = "does not exist" if there is None else "is not what `imgnorm emit` writes now"
        _note(f"{output}: {state}; run the same command without --check and with --force")
        return 1
    return 0


def _refuse_idle_options(source: str, listed: bool, *, dataset: bool = False) -> None:
    """An option that would do nothing is a misunderstanding."""
    if dataset and listed:
        raise click.UsageError("--list is for a text file of paths; leave it out")
    if source.startswith(TORCHVISION):
        if listed:
            raise click.UsageError("--list is for a text file of paths; leave it out")
        if given("decoder"):
            raise click.UsageError(
                "--decoder is for encoded files; a torchvision dataset opens its images itself, so leave "
                "it out"
            )
        return
    for option in given("root", "split", "download"):
        raise click.UsageError(f"{option} is for torchvision:NAME; leave it out")


def _refuse_idle_estimate(
    *,
    tolerance: float | None,
    limit: object,
    shard: object,
    per_class: bool,
    keep_names: bool,
    **others: object,
) -> None:
    if tolerance is None:
        for name in ("confidence", "seed"):
            if others[name] is not None:
                raise click.UsageError(f"--{name} is for --tolerance; leave it out, or give both")
    elif limit is not None:
        raise click.UsageError("--tolerance takes as many images as it needs; leave --limit out")
    elif shard is not None:
        raise click.UsageError(
            "--tolerance gives an estimate, and estimates do not merge; leave --shard out"
        )
    elif keep_names:
        raise click.UsageError(
            "--tolerance gives an estimate, and estimates do not merge; leave --keep-names out"
        )
    elif per_class:
        raise click.UsageError(
            "--tolerance is of the whole, and too few images of each class would be taken for "
            "--per-class; leave one out"
        )


commands.add_command(cli_checks.validate)
commands.add_command(cli_checks.verify)
commands.add_command(cli_checks.schema)
commands.add_command(cli_numbers.presets)
commands.add_command(cli_numbers.explain)
commands.add_command(cli_numbers.lint)
commands.add_command(cli_bn.bn)


def _module_of(path: str, output: str | None, api: Any, eps: float | None) -> str:
    from imgnorm.documents.document import STATS_LIMITS, read_bytes
    from imgnorm.pipeline import config, emit
    from imgnorm.stats.file import parse_stats

    data = read_bytes(path, STATS_LIMITS)
    if not config.declared_format(data).startswith("imgnorm-pipeline/"):
        stats = parse_stats(data, path)
        return emit.emit_for(stats, stats_path=path, module_path=output, api=api or "v1", eps=eps)
    if api is not None:
        raise click.UsageError(f"--api: {path} says it; change it there, or leave --api out")
    pipeline, stats = config.read_normalized(path)
    seen, module = emit.seen_from(path, output)
    return emit.emit_pipeline(pipeline, stats, eps=eps, config_path=seen, module_path=module)


def _print_result(measured: Stats, as_json: bool, verbose: bool) -> None:
    if as_json:
        import json

        from imgnorm.stats.text import document_of

        _print(json.dumps(document_of(measured)))
    else:
        from imgnorm.stats.table import table

        _print(table(measured, unicode=_draws_blocks(), verbose=verbose))


def _shown_profile(profile: Profile, seconds: float, measured: Stats) -> str:
    from imgnorm.stats.table import aligned

    head = (
        f"profile  {profile.images:,} images in {seconds:.2f} s; main took {profile.main_share:.1%} of "
        "the CPU time; seconds by step:"
    )
    has_jpegs = measured.measurement and "JPEG" in measured.measurement.formats
    by = [f"JPEG by {profile.jpeg}"] if profile.jpeg and has_jpegs else []
    notes = [profile.note] if profile.note else []
    return "\n".join([head, *aligned(profile.rows()), _made_with(), *by, *notes])


def _made_with() -> str:
    """What a report about speed has to tell, and nothing of who sends it."""
    import platform
    from importlib.metadata import version

    from imgnorm.machine import usable_cores

    cores = usable_cores()
    packages = ", ".join(f"{name} {version(name)}" for name in ("NumPy", "Pillow"))
    return (
        f"imgnorm {imgnorm.__version__}, Python {platform.python_version()}, {packages}, "
        f"{platform.system()} {platform.machine()}, {cores} core{'s' * (cores != 1)}"
    )


@contextmanager
def _noting(*shown: type[Warning], ignored: type[Warning], quiet: bool) -> Iterator[None]:
    """Warnings of ours as notes, not as lines of Python; those of others as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ignored)
        for one in shown:
            warnings.simplefilter("ignore" if quiet else "always", one)
        show = warnings.showwarning

        def note(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, shown):
                _note(f"note     {message}")
            else:
                show(message, category, *rest, **more)

        warnings.showwarning = note
        yield


def _draws_blocks() -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        "▁█".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
