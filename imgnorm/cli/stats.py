"""`imgnorm stats`, `show` and `merge`: measure, print the table again, add stats files up."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

import imgnorm
from imgnorm.cli import options as shared
from imgnorm.cli.help import GroupedCommand
from imgnorm.cli.screen import columns_of
from imgnorm.cli.terminal import (
    advise,
    beside_files,
    draws_blocks,
    note,
    print_result,
    print_text,
    warnings_as_notes,
)
from imgnorm.errors import SourceError
from imgnorm.settings import DEVICES, MODES, SIZES, Decoder, frames_text
from imgnorm.wording import per_second, plural

if TYPE_CHECKING:
    from imgnorm.progress import Profile
    from imgnorm.sources.source import Source
    from imgnorm.stats.per_image import ImageTable
    from imgnorm.stats.stats import Stats
    from imgnorm.tally.skipped import Allowance

_Found = TypeVar("_Found")
_SET_BY_A_CONFIG = (
    "include",
    "exclude",
    "frames",
    "listed",
    "root",
    "split",
    "layout",
    "mode",
    "resize",
    "center_crop",
)
_GROUPS = {
    "Source": "--list --include --exclude --dataset --key --layout --root --split --download",
    "Pixels": "--mode --strict-channels --frames --resize --center-crop --max-pixels",
    "Sample": "--limit --shard --tolerance --confidence --seed --sizes --dry-run",
    "Speed": "--workers --timeout --decoder --device --batch-size --ray --profile",
    "Output": "--output --report --force --rejects --max-skipped --strict --ignore-outliers --per-class --keep-names --per-image --per-image-sha256 --json --verbose --quiet --help",
}
_SHARD_NOTE = f"{__name__}.shard"
_MANY = 100_000  # skipped images and classes, which take seconds to write
_LONG_LIST = 8 << 20  # bytes of a list, which take half a second to read
_output = shared.output("Write the stats file here.  [default: only print]")
_verbose = shared.verbose("Print the other conventions, the quantiles, and every skipped image.")


def _size(value: str) -> int | tuple[int, int]:
    """256, or 224x320 for (height, width)."""
    edges = value.lower().split("x")
    short = re.fullmatch(r"\d{1,9}(x\d{1,9})?", value.lower(), re.ASCII)
    if short is None or not all(map(int, edges)):
        raise ValueError(f"{value!r} is not a size; give 256, or HEIGHTxWIDTH as in 224x320")
    return int(edges[0]) if len(edges) == 1 else (int(edges[0]), int(edges[1]))


def _shard(value: str) -> tuple[int, int]:
    """2/4: the second of four; a part that the environment names is noted later."""
    from imgnorm.cli.shard import shard_of

    part = shard_of(value, os.environ)
    if part.found:
        click.get_current_context().meta[_SHARD_NOTE] = f"shard    {part}"
    return part.index, part.total


def _executor(value: str) -> str:
    """The address of a Ray cluster as `measure` takes it."""
    if value.startswith("ray://"):
        return value
    if not value:
        raise ValueError("is empty; give auto, or the address of a cluster")
    return "ray" if value == "auto" else f"ray:{value}"


def _reasons(value: Sequence[str]) -> tuple[str, ...]:
    """Those in `--ignore-outliers a,b --ignore-outliers c`."""
    from imgnorm.stats.outliers import known_reasons

    return known_reasons([name.strip() for part in value for name in part.split(",")])


def _device(value: str) -> str:
    if not DEVICES.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a device; give cpu, cuda, auto, or a number as in cuda:1"
        )
    return value


def _estimated(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """An option of an estimate, checked as the estimate's plan checks it."""
    if value is not None:
        from imgnorm.stats.estimate import PLAN_FAULTS

        if fault := PLAN_FAULTS[str(param.name)](value):
            raise click.BadParameter(fault, ctx, param)
    return value


@click.command(cls=GroupedCommand, groups=_GROUPS, epilog=shared.EXIT_CODES)
@click.argument("source", nargs=-1, shell_complete=shared.files)
@click.option(
    "--dataset",
    "factory",
    metavar="MODULE:FACTORY",
    help="Measure what this function of yours returns: a torch Dataset or DataLoader, or any iterable of images. This imports the module, from the current folder first, and runs its code.  [default: none; SOURCE is measured]",
)
@click.option(
    "--key",
    metavar="KEY",
    help="Where the image is in the items of --dataset: a dict's key, or the place in a tuple.  [default: the first of a tuple; of a dict, image, images, img, imgs, pixel_values, x, input or inputs]",
)
@shared.listed
@shared.include
@shared.exclude
@shared.root
@shared.split
@click.option("--download", is_flag=True, help="Let torchvision download the dataset.")
@shared.layout(
    "the dimensions of .npy and .npz arrays, and of the arrays of --dataset: N images of H x W, C channels.  [default: what the shape shows]"
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="auto",
    help="Convert each image to this mode. auto: the mode that all share (L for gray, I;16 for 16-bit gray), else RGB, without alpha.",
)
@click.option(
    "--strict-channels",
    is_flag=True,
    help="Skip images that have other channels than --mode (gray, alpha or CMYK among RGB) as channel-mismatch, instead of converting them; with --max-skipped 0, one of them fails the run.",
)
@shared.frames
@click.option(
    "--resize",
    callback=shared.parsed(_size),
    metavar="SIZE",
    help="Resize first, as torchvision.transforms.Resize does: the shorter edge, or HEIGHTxWIDTH.  [default: native sizes]",
)
@click.option(
    "--center-crop",
    callback=shared.parsed(_size),
    metavar="SIZE",
    help="Then crop, as torchvision.transforms.CenterCrop does: a square's edge, or HEIGHTxWIDTH.  [default: no crop]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that decode, or threads that count pixels in memory.  [default: the cores this process may use]",
)
@click.option(
    "--device",
    callback=shared.parsed(_device),
    metavar="DEVICE",
    help="Where 8-bit pixels are counted, with the same digits: cpu; cuda or cuda:N; auto: cuda, if there is one that works. Other pixels are counted on the CPU.  [default: cpu; cuda with --decoder nvjpeg]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1, max=1024),
    metavar="MEGAPIXELS",
    help="What is sent to the device at once; a larger image may be counted by its worker.  [default: 8]",
)
@click.option(
    "--ray",
    "executor",
    callback=shared.parsed(_executor),
    metavar="auto|ADDRESS",
    help="Count on all nodes of a Ray cluster: the one of this machine, or HOST:PORT or ray://HOST:PORT. The nodes must see the images at the same path; --workers are those of each node. Needs `pip install ray`.  [default: this machine]",
)
@click.option(
    "--decoder",
    type=click.Choice(get_args(Decoder)),
    default="auto",
    help="What decodes. pillow: the reference, for all images. auto: a faster decoder where every pixel is the same (simplejpeg for ordinary JPEGs). Both give the same digits. nvjpeg: a CUDA device decodes JPEGs, and digits do change: some pixels differ by a level. The stats file records that, and does not merge with the others. Needs torchcodec.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure only this many images, spread evenly over the sorted names.  [default: all]",
)
@click.option(
    "--shard",
    callback=shared.parsed(_shard),
    metavar="I/N",
    help="Measure every N-th unit only, from the I-th on; a unit is an archive, or a run of about 100 files. `imgnorm merge` adds the N stats files up. env/N takes I from the task's place in a Slurm array of N tasks, or else from RANK, plus 1.  [default: all]",
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
    help="The probability that all of them are within T, with --tolerance.  [default: 0.99]",
)
@click.option(
    "--seed",
    type=int,
    callback=_estimated,
    metavar="N",
    help="Decides which images are taken, with --tolerance.  [default: 0]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only print how many images there are, of which kinds and how large, and about how long measuring takes: it measures some of them for about two seconds. Nothing is written.",
)
@click.option(
    "--per-image",
    type=click.Path(),
    help="Write a table, too, with a row for each counted image, in the order of names: class, format, size, bytes, and of each channel mean, std, min, max and the shares of 0 and of the maximum. FILE ends in .csv or .parquet; Parquet needs `pip install pyarrow`.",
    metavar="FILE",
)
@click.option(
    "--per-image-sha256",
    is_flag=True,
    help="With the SHA-256 of each image's file in the table of --per-image.",
)
@click.option(
    "--sizes",
    type=click.Choice(SIZES),
    help="With --tolerance. exact: read the size of every image first, from its header; the error bars are guaranteed, whatever the images are. sampled: read no header more; they hold if the sizes of all images are like those in the sample.  [default: exact; sampled where that takes over a minute, or headers show no sizes]",
)
@shared.max_skipped
@click.option(
    "--strict",
    is_flag=True,
    help="Fail (exit 1, nothing is written) if the table has notes: frames or bits that are lost, files left out, splits or masks counted together.",
)
@click.option(
    "--ignore-outliers",
    multiple=True,
    callback=shared.parsed(_reasons),
    metavar="REASONS",
    help="Name no images that stand out for these reasons: gray,small, or all (docs/outliers.md). The stats file records them.  [default: name all]",
)
@shared.max_pixels("Skip larger images before they are decoded.")
@shared.timeout
@shared.rejects
@shared.as_json
@_output
@click.option(
    "--report",
    type=click.Path(),
    help="Write a report, too: one HTML file for people (see `imgnorm report --help`).",
)
@shared.force
@shared.quiet("No progress and no notes on standard error.")
@click.option(
    "--profile",
    is_flag=True,
    help="Print to standard error where the time went, in seconds by step and process; send it with a report about speed.",
)
@_verbose
def stats(
    source: tuple[str, ...],
    factory: str | None,
    key: str | None,
    dry_run: bool,
    max_skipped: Allowance | None,
    strict: bool,
    rejects: str | None,
    per_image: str | None,
    per_image_sha256: bool,
    as_json: bool,
    output: str | None,
    report: str | None,
    force: int,
    quiet: bool,
    profile: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Measure the mean and std of a dataset.

    \b
    Examples:
      imgnorm stats data/train -o stats.yaml
      imgnorm stats data/train --resize 256 --center-crop 224 -o stats.yaml
      imgnorm stats 'shards/train-*.tar' --tolerance 0.001     # an estimate
      imgnorm stats data/train --dry-run                       # how long?
      imgnorm stats torchvision:CIFAR10 --download
      imgnorm stats --dataset my_code:make_dataset             # your own Dataset

    SOURCE is a folder of images, an archive, .npy or .npz arrays, a list (--list), torchvision:NAME, or
    a pipeline config. Several sources are counted together, as `imgnorm merge` adds their stats files up.
    Instead of SOURCE, --dataset names a Dataset of your own.

    An archive is a zip, tar or tar.gz, or many of them: 'shards/train-*.tar' and
    'train-{000000..000127}.tar', quoted. They are read in place; nothing is unpacked. A config (a file
    whose name ends in .yaml or .yml) sets what is measured, in which mode and after which
    preprocessing.

    The mean and std are pooled over all pixels of all images, population, for ToTensor's [0, 1], and
    exact: no option about speed changes a digit. With --tolerance they are an estimate, from as few
    images as it allows, and the stats file says that they are.
    """
    import json

    from imgnorm.errors import DeviceWarning, SkippedImagesWarning, SourceWarning
    from imgnorm.measuring.measure import (
        call_facts,
        default_device,
        demand_no_notes,
        find_device,
        measure,
    )
    from imgnorm.measuring.opening import names_a_config
    from imgnorm.measuring.survey import survey
    from imgnorm.progress import Profile
    from imgnorm.tally.skipped import write_rejects

    written = shared.written_files(
        output=output, rejects=rejects, per_image=per_image, report=report
    )
    if per_image_sha256 and per_image is None:
        raise click.UsageError("--per-image-sha256 is for --per-image; leave it out, or give both")
    if not source and factory is None:
        raise click.UsageError(
            "missing SOURCE: name a folder of images, an archive, arrays or a pipeline config, or give "
            "--dataset"
        )
    if source and factory is not None:
        raise click.UsageError("give SOURCE or --dataset, one of them")
    measured_source: Any = source[0] if len(source) == 1 else source
    if source and not options["listed"] and any(map(names_a_config, source)):
        if len(source) > 1:
            raise click.UsageError("a pipeline config says what is measured; name it alone")
        measured_source = _open_config(source[0], options)
    options["device"] = options["device"] or default_device(options["decoder"])
    table = None if per_image is None else _empty_table(per_image, sha256=per_image_sha256)
    options["per_image"] = table
    facts = call_facts(measured_source, key=key, profile=profile or None, **options)
    shared.refuse_conflicts(facts)
    if report is not None:
        from imgnorm.report.page import check_report, write_report

        check_report(report)
    shared.check_files(
        output=output, rejects=rejects, per_image=per_image, report=report, force=force
    )
    shard_note = click.get_current_context().meta.get(_SHARD_NOTE)
    if shard_note and not quiet:
        note(shard_note)
    if verbose and not quiet and options["device"] != "cpu":
        note(f"device   {find_device(options['device']).description}")

    for path in source if options["listed"] and not quiet else ():
        if os.path.isfile(path) and os.path.getsize(path) >= _LONG_LIST:
            note(f"reading  {path}")
    started = monotonic()
    spent = Profile.of_command() if profile else None
    noting = warnings_as_notes(
        SourceWarning, DeviceWarning, ignored=SkippedImagesWarning, quiet=quiet
    )
    # What the user's code prints, or Ray of a node that is lost, is not part of the result.
    with noting, redirect_stdout(sys.stderr):
        if dry_run:
            found = _of_source(survey, measured_source, factory, key, **options)
        else:
            options |= {"progress": not quiet, "profile": spent}
            measured = _of_source(measure, measured_source, factory, key, **options)
    if dry_run:
        if as_json:
            print_result(json.dumps(found.to_dict()))
        else:
            print_text(str(found))
        return 0
    seconds = monotonic() - started

    if spent:
        note(_profile_text(spent, seconds, measured))
    done: list[str] = []
    try:
        if rejects is not None:
            write_rejects(rejects, measured.skipped, force=bool(force))
            done.append(rejects)
        looked_at = measured.images + len(measured.skipped)
        if measured.estimate and measured.estimate.bounds:  # all headers were read
            looked_at = measured.estimate.total
        shared.demand_few_skipped(len(measured.skipped), looked_at, max_skipped, "stats file")
        if strict:
            demand_no_notes(measured)
        if table is not None and per_image is not None:
            _write_table(per_image, table, measured, force=bool(force), quiet=quiet)
            done.append(per_image)
        if output is not None:
            _write(output, measured, force=bool(force), quiet=quiet)
            done.append(output)
        if report is not None:
            write_report(report, measured, force=bool(force))
            done.append(report)
    finally:  # the result is not lost when it cannot be written
        with beside_files(done):
            _print_stats(measured, as_json=as_json, verbose=verbose)
    if not quiet:
        if options["tolerance"] is not None and measured.estimate is None:
            note(
                "exact    no estimate: all images were looked at, since fewer are not enough for "
                f"--tolerance {options['tolerance']:g}"
            )
        note(f"time     {seconds:.1f} s, {per_second(measured.images, seconds, 'images')}")
        for path in written:
            note(f"wrote    {path}")
        if not (as_json and output is None) and (text := _next_step(measured, output)):
            advise(f"next     {text}")
    return 3 if measured.skipped and max_skipped is None else 0


@click.command
@click.argument("stats_file", shell_complete=shared.files)
@_verbose
def show(stats_file: str, verbose: bool) -> None:
    """Print the table of a stats file again.

    \b
    Examples:
      imgnorm show stats.yaml
      imgnorm show stats.yaml --verbose
    """
    from imgnorm.stats.file import read_stats

    _print_stats(read_stats(stats_file), as_json=False, verbose=verbose)


@click.command
@click.argument("stats_files", nargs=-1, required=True, shell_complete=shared.files)
@_output
@click.option(
    "--per-image",
    type=click.Path(),
    metavar="FILE",
    help="Join the tables that `stats --per-image` wrote, too, to this one. Name them among STATS_FILES, one for each: part-*.yaml part-*.parquet.",
)
@shared.force
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Continue without shards that are missing; the stats file records which it has, and later merges can add the rest.",
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
    help="Leave out the names that `stats --keep-names` kept: they are compared, but not written.",
)
@shared.as_json
@shared.quiet("No notes on standard error.")
@_verbose
def merge(
    stats_files: tuple[str, ...],
    output: str | None,
    per_image: str | None,
    force: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **allowed: bool,
) -> None:
    """Add stats files up to one, exactly.

    \b
    Examples:
      imgnorm merge part-*.yaml -o stats.yaml
      imgnorm merge day1.yaml day2.yaml                # only print the sum
      imgnorm merge part-*.yaml part-*.csv -o stats.yaml --per-image images.csv

    The sum is the same as if all images had been measured at once, in whatever order STATS_FILES are
    given.

    Refused: other settings (mode, resize, crop), decoders whose digits may differ, shards that are
    missing, and the same listing of names or the same set of counted names twice. Images that
    listings of different names share are found if both files were measured with --keep-names; the
    sum keeps names if all of its files do.
    """
    from imgnorm.stats.file import merge_files
    from imgnorm.stats.per_image import ImageTable, check_table_path, is_table

    written = shared.written_files(output=output, per_image=per_image)
    tables = [path for path in stats_files if is_table(path)]
    to_merge = [path for path in stats_files if path not in tables]
    if not to_merge:
        raise click.UsageError(f"{tables[0]}: is a table of images; name its stats file, too")
    if bool(tables) != (per_image is not None):
        raise click.UsageError(
            f"{tables[0]}: is a table of images; name the joined one with --per-image"
            if tables
            else "--per-image joins tables; name them among STATS_FILES, as in part-*.yaml part-*.csv"
        )
    if per_image is not None:
        check_table_path(per_image)
    shared.check_files(output=output, per_image=per_image, force=force)
    merged = merge_files(to_merge, **allowed)
    done: list[str] = []
    if per_image is not None:  # what is no table of these stats is refused before anything is shown
        joined = ImageTable.joined([ImageTable.read(path) for path in tables], merged)
        _write_table(per_image, joined, merged, force=bool(force), quiet=quiet)
        done.append(per_image)
    try:
        if output is not None:
            _write(output, merged, force=bool(force), quiet=quiet)
            done.append(output)
    finally:  # the result is not lost when it cannot be written
        with beside_files(done):
            _print_stats(merged, as_json=as_json, verbose=verbose)
    for path in () if quiet else written:
        note(f"wrote    {path}")


def _open_config(path: str, options: dict[str, Any]) -> Source:
    """The source of a config, which sets some of the options, too.

    Raises:
        UsageError: an option on the command line sets the same thing.
    """
    from imgnorm.measuring.opening import source_of
    from imgnorm.pipeline.config import read_pipeline

    shared.refuse_beside_config(path, *_SET_BY_A_CONFIG)
    pipeline = read_pipeline(path)
    options |= {
        "mode": pipeline.mode,
        "frames": frames_text(pipeline.frames),
        "preprocess": pipeline.preprocess,
        "ignore_outliers": (*options["ignore_outliers"], *pipeline.ignore_outliers),
    }
    return source_of(pipeline, download=options["download"])


def _of_source(
    look: Callable[..., _Found], source: Any, factory: str | None, key: str | None, **options: Any
) -> _Found:
    """What `measure` or `survey` finds in a source, or in what the user's `--dataset` makes."""
    if factory is None:
        return look(source, **options)
    from imgnorm.datasets.user_code import UserCode
    from imgnorm.measuring.opening import open_object

    code = UserCode(factory, SourceError, "--dataset")
    with code.exits_refused():
        made = code.dataset()
        try:
            opened = open_object(made, key=key, layout=options.pop("layout"), ref=factory)
        except TypeError as error:
            raise SourceError(
                f"--dataset {factory}: returned something of type {type(made).__name__}; return a Dataset, "
                "a DataLoader or another iterable of images"
            ) from error
        return look(opened, **options)


def _next_step(measured: Stats, output: str | None) -> str:
    """What to do with the stats, if there is one thing that most users do; else ""."""
    shards = measured.measurement and any(one.shards for one in measured.measurement.source.sources)
    if shards:
        return (
            "`imgnorm merge` adds the stats files of all parts up"
            if output
            else "`-o part.yaml` keeps these numbers, for `imgnorm merge`"
        )
    can_emit = all(measured.std) and not measured.looks_normalized
    if output is None:
        users = "`imgnorm emit` and `verify`" if can_emit else "`imgnorm verify`"
        return f"`-o stats.yaml` keeps these numbers, for {users}"
    if not can_emit:
        return ""
    return f"`imgnorm emit {shlex.quote(output)} -o transforms.py` writes the transforms"


def _write(output: str, stats: Stats, *, force: bool, quiet: bool) -> None:
    from imgnorm.stats.file import write_stats

    classes = stats.measurement.classes if stats.measurement else ()
    if len(stats.skipped) + len(classes) >= _MANY and not quiet:
        note(f"writing  {output}")
    write_stats(output, stats, force=force)


def _empty_table(path: str, *, sha256: bool) -> ImageTable:
    """The table that is to be written to this file, whose name was checked."""
    from imgnorm.stats.per_image import ImageTable, check_table_path

    check_table_path(path)
    return ImageTable(sha256=sha256)


def _write_table(path: str, table: ImageTable, stats: Stats, *, force: bool, quiet: bool) -> None:
    if stats.images >= _MANY and not quiet:
        note(f"writing  {path}")
    table.write(path, force=force)


def _print_stats(measured: Stats, *, as_json: bool, verbose: bool) -> None:
    if as_json:
        import json
        from dataclasses import asdict

        from imgnorm.stats.format import document_of

        content = document_of(measured)
        if measured.sizes:
            told = [{**asdict(one), "text": one.text} for one in measured.outliers]
            content["outliers"] = told
        print_result(json.dumps(content))
    else:
        from imgnorm.stats.table import table

        print_text(
            table(
                measured,
                unicode=draws_blocks(),
                verbose=verbose,
                columns=columns_of(sys.stdout),
            )
        )


def _profile_text(profile: Profile, seconds: float, measured: Stats) -> str:
    from imgnorm.stats.table import aligned

    head = (
        f"profile  {plural(profile.images, 'image')} in {seconds:.2f} s; main took {profile.main_share:.1%} of "
        "the CPU time; seconds by step:"
    )
    has_jpegs = measured.measurement and "JPEG" in measured.measurement.formats
    decoder = [f"JPEG by {profile.jpeg}"] if profile.jpeg and has_jpegs else []
    notes = [profile.note] if profile.note else []
    return "\n".join([head, *aligned(profile.rows()), _environment(), *decoder, *notes])


def _environment() -> str:
    """What a report about speed needs to know about the machine, and nothing about its user."""
    import platform
    from importlib.metadata import version

    from imgnorm.machine import usable_cores

    cores = usable_cores()
    packages = ", ".join(f"{name} {version(name)}" for name in ("NumPy", "Pillow"))
    return (
        f"imgnorm {imgnorm.__version__}, Python {platform.python_version()}, {packages}, "
        f"{platform.system()} {platform.machine()}, {plural(cores, 'core')}"
    )
