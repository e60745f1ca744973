"""`measure`: a source and options -> Stats."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from imgnorm._torch import torch_needed
from imgnorm.errors import (
    DeviceError,
    DeviceWarning,
    MissingDependency,
    NotesFound,
    SkippedImagesWarning,
    SourceError,
    SourceWarning,
)
from imgnorm.measuring.bar import images_bar
from imgnorm.measuring.opening import named_paths, open_sources, with_frames
from imgnorm.measuring.result import result_of
from imgnorm.measuring.routes import check_options, executing
from imgnorm.measuring.selection import Selection, SelectionOptions, nothing_found, selection_of
from imgnorm.pixels.buffer import FoundDevice
from imgnorm.progress import Profile, Progress, no_lap
from imgnorm.settings import (
    DEVICES,
    MAX_PIXELS,
    MODES,
    NVJPEG,
    SIZES,
    TIMEOUT_S,
    TORCHVISION,
    CenterCrop,
    Decoder,
    Digits,
    ImageSettings,
    Resize,
    Step,
    conflicts,
    frames_of,
)
from imgnorm.sources.names import as_text
from imgnorm.sources.patterns import Patterns
from imgnorm.sources.source import Source
from imgnorm.stats.notes import NORMALIZED
from imgnorm.stats.outliers import known_reasons
from imgnorm.stats.provenance import Provenance
from imgnorm.stats.stats import Stats, merge
from imgnorm.tally.names import digest_of
from imgnorm.workers.executor import Work

if TYPE_CHECKING:
    from imgnorm.cuda.device import CudaDevice
    from imgnorm.stats.estimate import Plan
    from imgnorm.stats.per_image import Filling, ImageTable

_Number = TypeVar("_Number", int, float)
_MEGAPIXEL = 1 << 20
_BATCH = 8  # megapixels


def measure(
    source: str | os.PathLike[str] | Source | Any,
    *,
    key: str | int | None = None,
    layout: str | None = None,
    listed: bool = False,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    root: str | os.PathLike[str] = "data",
    split: str = "train",
    download: bool = False,
    mode: str = "auto",
    resize: int | tuple[int, int] | None = None,
    center_crop: int | tuple[int, int] | None = None,
    preprocess: Sequence[Step] | None = None,
    strict_channels: bool = False,
    frames: str = "first",
    limit: int | None = None,
    shard: tuple[int, int] | None = None,
    per_class: bool = False,
    keep_names: bool = False,
    per_image: ImageTable | None = None,
    tolerance: float | None = None,
    confidence: float | None = None,
    seed: int | None = None,
    sizes: str | None = None,
    max_pixels: int = MAX_PIXELS,
    timeout_s: float = TIMEOUT_S,
    strict: bool = False,
    ignore_outliers: str | Sequence[str] = (),
    workers: int | None = None,
    decoder: Decoder = "auto",
    device: str | None = None,
    batch_size: int | None = None,
    executor: str | None = None,
    progress: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    profile: Profile | None = None,
) -> Stats:
    """Exact per-channel statistics of a dataset, in one pass.

    The digits depend on the images, `mode`, `resize` and `center_crop` alone; `workers`, `decoder`,
    `device` and `batch_size` decide only the seconds. The decoder "nvjpeg" is the exception.

    Args:
        source: a folder; a zip, tar or tar.gz, or a pattern of such archives ("shards/train-*.tar",
            "train-{000000..000127}.tar"); a .npy or .npz file, "data.npz/x_train" or a pattern of
            them; a text file with one path a line (with `listed`);
            "torchvision:NAME", a dataset below `root` (`split` and `download` as its constructor takes
            them); a list of several of these, which gives what `merge` of their stats gives; a torch
            Dataset or DataLoader; any iterable of tensors, NumPy arrays or PIL images;
            or a Source.
        key: where the image is in the items of a Dataset or iterable: a dict's key, or the place in a
            tuple. By default, the item itself, the first of a tuple, or "image", "images", "img",
            "imgs", "pixel_values", "x", "input" or "inputs" of a dict.
        layout: NHWC, NCHW, NHW, HWC, CHW or HW: the dimensions of arrays and tensors, where their shape
            allows several. By default, CHW and NCHW of tensors, HWC and NHWC of arrays.
        include: measure only the files that one of these patterns matches, as in .gitignore: "train/**". A
            pattern that ends in an extension, "*.gif", also chooses files that are left out by default.
            Patterns match paths below the folder, beside the list or in the archive.
        exclude: leave out the files, and all in the folders, that one of these patterns matches: "masks".
        mode: what each image is converted to: L, RGB, RGBA, I;16; "auto" is the mode that all
            images share (L for gray, I;16 for 16-bit gray, RGB for the rest), else RGB.
        resize: the shorter edge, or (height, width): torchvision's Resize on PIL images.
        center_crop: a square's edge, or (height, width), after `resize`: torchvision's CenterCrop.
        preprocess: these steps, in this order, instead of `resize` and `center_crop`.
        strict_channels: skip images that have other channels than `mode` has (gray, alpha or CMYK
            among RGB ones) as "channel-mismatch", instead of converting them. Not with mode "auto".
        frames: which frames or pages of each file are images: "first", "all", or "every:N" from the first
            on. The second frame of a.gif has the name a.gif#2.
        limit: look at this many images only, spread evenly over the sorted names; of a DataLoader or
            another iterable, the first ones.
        shard: (i, n) measures every n-th unit of the source, from the i-th on, counted from 1: an
            archive, or a run of about 100 files of a folder. The stats of all n shards merge to those
            of all images. A shard may be empty.
        per_class: mean and std of each class folder, too.
        keep_names: the stats hold the names of the counted images, so that `merge` sees which of them
            two stats share.
        per_image: an empty ImageTable, which is filled: a row for each counted image, in the order of their
            names. They are counted on the CPU.
        tolerance: do not look at all images, but at a random sample that is large enough: with the
            probability `confidence` (0.99 by default), no mean and no std of the result is farther from
            the exact one than this. `stats.estimate` holds the error bars; it is None if all images had
            to be looked at, and then the result is exact.
        confidence: see `tolerance`; above 0 and below 1.
        seed: decides which images the sample has; 0 by default.
        sizes: with `tolerance`, "exact" reads the size of every image first, from its header, so that the
            error bars are guaranteed, whatever the images are; "sampled" does not, and they hold if the
            sizes of all images are like those in the sample. By default exact, unless that would take more
            than a minute, or no header shows the sizes; `stats.estimate.sizes` says which.
        max_pixels: an image with more is skipped before it is decoded.
        timeout_s: an image that takes longer, twice, is skipped.
        strict: raise if `stats.notes` would have anything to note.
        ignore_outliers: reasons for which `stats.outliers` names no images ("gray", "small", ...), or
            "all". The stats record them.
        workers: processes that decode, or threads that count pixels in memory; by default, the cores
            that this process may use. A Dataset is read in this process by default, and by a
            DataLoader's workers otherwise.
        decoder: "pillow" decodes all images with Pillow, the reference; "auto" takes a faster decoder
            where its pixels are the same to the last bit (simplejpeg, for ordinary JPEGs). "nvjpeg"
            decodes JPEGs on a CUDA device, with other digits: some pixels differ by a level. The stats
            record the decoder, and do not merge with others.
        device: "cuda" or "cuda:1" counts there, in integers, what the workers decode, and what a dataset
            or an iterable gives as uint8 tensors or arrays; "auto" does so if it can. All other images
            (16 bits, floats, PIL images of an iterable) are counted on the CPU. Tensors on a device are
            counted there in any case. The default is "cpu", except with "nvjpeg": then it is "cuda".
        batch_size: megapixels (2**20 pixels) that are sent to the device at once, 8 by default. A larger
            image may be counted by its worker.
        executor: "ray", "ray:HOST:PORT" or "ray://HOST:PORT": the nodes of this Ray cluster count, each
            with `workers` processes. They must see the images at the same path. "ray" is the cluster that
            runs on this machine, or that RAY_ADDRESS names.
        progress: show a bar while it runs, on standard error or in the notebook.
        on_progress: called a few times a second from this thread.
        profile: an empty Profile, which is filled: where the time went, by stage and process.

    Raises:
        SourceError: there is nothing to measure, or no image could be counted.
        DeviceError: the device does not exist, or it failed.
        NotesFound: there are notes, and `strict` is given.
        MissingDependency: torch, torchvision or torchcodec is needed and cannot be imported.
        ValueError, TypeError: an argument has a wrong value or type.

    Warns:
        SkippedImagesWarning: some images were skipped; `stats.skipped` names them.
        DeviceWarning: the device ran out of memory; it failed and `device` is "auto"; it was asked for and
            counted no image; or "nvjpeg" did not take all JPEGs.
        SourceWarning: the images look normalized already, or a loader left some out.

    Example:
        >>> stats = imgnorm.measure("examples/shapes")
        >>> stats.images, stats.channels
        (24, ('R', 'G', 'B'))
        >>> [round(mean, 4) for mean in stats.mean]
        [0.5704, 0.5602, 0.5762]
        >>> imgnorm.measure("examples/shapes", workers=1, decoder="pillow").mean == stats.mean
        True
    """
    call = prepared(**locals())
    sources, work, on_device = call.sources, call.work, call.device

    def count(work: Work) -> Stats:
        filling = _filling(per_image)
        with images_bar(shown=progress, tolerance=tolerance) as advance:
            stats = _measured_all(
                sources, call.options, call.plan, work, _both(advance, on_progress), filling
            )
        if filling:
            filling.finish(stats.mode)
        return stats

    try:
        stats = count(work)
    except DeviceError as error:
        if on_device is None or not call.may_fall_back or sources[0].once:
            raise
        message = f"{error}; everything is counted again on the CPU"
        warnings.warn(message, DeviceWarning, stacklevel=2)
        stats = count(replace(work, device=None))
    _warn(sources, stats, on_device, decoder, may_fall_back=call.may_fall_back)
    if profile:
        profile.lap("merge")
        profile.finish(stats.images)
    if call.ignore_outliers and stats.measurement:
        measured = replace(stats.measurement, ignore_outliers=call.ignore_outliers)
        stats = replace(stats, measurement=measured)
    if strict:
        demand_no_notes(stats)
    return stats


def _filling(table: ImageTable | None) -> Filling | None:
    if table is None:
        return None
    from imgnorm.stats.per_image import Filling  # loads csv

    return Filling(table)


def _both(
    first: Callable[[Progress], None], second: Callable[[Progress], None]
) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        first(progress)
        second(progress)

    return report


@dataclass(frozen=True)
class Prepared:
    """What the arguments of `measure` mean."""

    sources: Sequence[Source]
    options: SelectionOptions
    plan: Plan | None
    work: Work
    device: CudaDevice | None  # that of `work`
    may_fall_back: bool  # to the CPU, if the device fails
    ignore_outliers: tuple[str, ...]  # reasons


def prepared(source: Any, **given: Any) -> Prepared:
    """The arguments of `measure`, checked, with the sources that they name.

    Raises:
        ImgnormError, ValueError, TypeError: as `measure`, before it looks at an image.
    """
    call: dict[str, Any] = {**(measure.__kwdefaults__ or {}), **given}
    facts = call_facts(source, **given)
    mode, decoder = call["mode"], call["decoder"]
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    preprocess = call["preprocess"]
    steps = _steps(call["resize"], call["center_crop"]) if preprocess is None else tuple(preprocess)
    settings = ImageSettings(mode, steps, call["strict_channels"], frames_of(call["frames"]))
    if decoder not in get_args(Decoder):
        raise ValueError(f"decoder is {decoder!r}; expected one of {', '.join(get_args(Decoder))}")
    device = call["device"] or default_device(decoder)
    for fault in conflicts(facts):
        raise ValueError(fault)
    per_image = call["per_image"]
    if per_image is not None and device == "auto":
        device = "cpu"
    ignore_outliers = known_reasons(call["ignore_outliers"])
    plan = _plan(*(call[name] for name in ("tolerance", "confidence", "seed", "sizes")))
    on_device = _device_of(device, call["batch_size"], decoder)
    sources = open_sources(
        source,
        patterns=Patterns(*(_patterns(name, call[name]) for name in ("include", "exclude"))),
        **{name: call[name] for name in ("listed", "root", "split", "download", "key", "layout")},
    )
    max_pixels = _positive("max_pixels", _whole("max_pixels", call["max_pixels"]))
    timeout_s = _positive("timeout_s", _number("timeout_s", call["timeout_s"]))
    workers, limit = (
        None if call[name] is None else _positive(name, _whole(name, call[name]))
        for name in ("workers", "limit")
    )
    profile = call["profile"]
    lap = profile.lap if profile else no_lap
    lap("start")  # importing torch for a device takes seconds
    options = SelectionOptions(limit, call["shard"], call["per_class"], call["keep_names"])
    for opened in sources:
        check_options(opened, facts)
    sources = [with_frames(opened, settings) for opened in sources]
    if limit is not None and sources[0].once:
        sources, options = [sources[0].first(limit)], replace(options, limit=None)
    work = Work(
        Digits(
            settings,
            max_pixels,
            call["per_class"],
            per_image=per_image is not None,
            per_image_sha256=per_image is not None and per_image.sha256,
        ),
        timeout_s,
        workers,
        decoder,
        on_device,
        profile,
        _cluster_of(call["executor"]),
    )
    fallback = device == "auto"
    return Prepared(sources, options, plan, work, on_device, fallback, ignore_outliers)


def _cluster_of(executor: str | None) -> str | None:
    """The address of the Ray cluster that this names."""
    if executor is None or executor.startswith("ray://"):
        return executor
    kind, colon, address = executor.partition(":")
    if kind != "ray" or (colon and not address):
        raise ValueError(
            f"executor is {executor!r}; expected 'ray', 'ray:HOST:PORT' or 'ray://HOST:PORT'"
        )
    return address or "auto"


def demand_no_notes(stats: Stats) -> None:
    """
    Raises:
        NotesFound: there is something to note.
    """
    if notes := stats.notes:
        several = "s" if len(notes) > 1 else ""
        named = ", ".join(f"{note.kind} ({note.images:,})" for note in notes)
        raise NotesFound(
            f"{len(notes)} note{several}, and strict allows none, so nothing was written: {named}; change the "
            "data or the options as they say, or leave strict out"
        )


def default_device(decoder: Decoder | None) -> str:
    """The device if none is given."""
    return "cuda" if decoder == NVJPEG else "cpu"


def call_facts(source: Any, **options: Any) -> set[str]:
    """What `settings.CONFLICTS` asks about a call of `measure` with some of its arguments."""
    defaults = measure.__kwdefaults__ or {}
    facts = {name for name, value in options.items() if value != defaults[name]}
    for name in ("preprocess", "include", "exclude", "ignore_outliers"):
        if not options.get(name):  # empty is the same as not given
            facts.discard(name)
    decoder = options.get("decoder")
    device = options.get("device") or default_device(decoder)
    if isinstance(source, Source):
        facts |= {"torchvision"} & {source.kind}
    elif paths := named_paths(source):
        of_torchvision = [path.startswith(TORCHVISION) for path in paths]
        facts |= {"torchvision" if one else "path" for one in of_torchvision}
        if len(paths) > 1:
            facts.add("several")
    else:
        facts.add("object")
    if device == "cpu":
        facts.discard("device")
    held = {
        "nvjpeg": decoder == NVJPEG,
        "cuda": device.startswith("cuda"),
        "RGB": options.get("mode") == "RGB",
        "exact": options.get("sizes") == "exact",
    }
    return facts | {fact for fact, holds in held.items() if holds}


def find_device(name: str) -> FoundDevice:
    """The device that "cuda", "cuda:1" or "auto" means; for "auto", it may be the CPU.

    Raises:
        DeviceError: the device does not exist, or it does not work.
        MissingDependency: torch cannot be imported.
    """
    try:
        with torch_needed():
            from imgnorm.cuda import device as gpu
    except MissingDependency as error:
        if name == "auto":
            return FoundDevice(None, f"cpu: {error}")
        raise
    return gpu.find(name)


def _plan(
    tolerance: float | None, confidence: float | None, seed: int | None, sizes: str | None
) -> Plan | None:
    if sizes not in (None, *SIZES):
        raise ValueError(f"sizes is {sizes!r}; expected {' or '.join(SIZES)}")
    given = {"tolerance": tolerance, "confidence": confidence, "seed": seed}
    options: dict[str, Any] = {
        name: _whole(name, value) if name == "seed" else _number(name, value)
        for name, value in given.items()
        if value is not None
    }
    if not options:
        return None
    from imgnorm.stats.estimate import Plan

    return Plan(**options, sizes=sizes)


def _measured_all(
    sources: Sequence[Source],
    options: SelectionOptions,
    plan: Plan | None,
    work: Work,
    on_progress: Callable[[Progress], None],
    filling: Filling | None,
) -> Stats:
    """The stats of one source, or of several as merging their stats gives them."""
    if len(sources) == 1:
        return _measured(sources[0], options, plan, work, on_progress, filling)
    parts: list[Stats] = []
    before = latest = Progress(0, None, 0)

    def on_part(progress: Progress) -> None:
        nonlocal latest
        done, read = before.done + progress.done, before.bytes_read + progress.bytes_read
        latest = Progress(done, None, read)
        on_progress(latest)

    for source in sources:
        parts.append(_measured(source, options, plan, work, on_part, filling))
        before = latest
    # The user names them as different: equal names in two folders are different images.
    sharded = options.shard is not None
    return merge(parts, allow_missing=sharded, allow_overlap=not sharded)


def _measured(
    source: Source,
    options: SelectionOptions,
    plan: Plan | None,
    work: Work,
    on_progress: Callable[[Progress], None],
    filling: Filling | None,
) -> Stats:
    lap = work.profile.lap if work.profile else no_lap
    if filling:
        work = replace(work, take_rows=filling.begin(source.class_of))
    source.open()
    lap("start")
    chosen = selection_of(source, options, sample=bool(plan))
    lap("list")
    estimate = None
    if plan and chosen.names:
        from imgnorm.measuring.sampling import sampled

        sample = sampled(source, chosen.names, plan, work, on_progress)
        whole, estimate = sample.tally, sample.estimate
        chosen.found.ignored["tolerance"] = len(chosen.names) - sample.images
    else:
        with executing(source, work, chosen.images) as count:
            whole = count(chosen.units, on_progress)
    found = chosen.found
    if not (whole.images or whole.skipped or found.skipped or options.shards):
        raise nothing_found(source, found.ignored + Counter(whole.ignored))
    if options.per_class and not whole.classes and not options.shards:
        raise SourceError(
            f"{as_text(source.ref)}: has no class folders; measure it without --per-class"
        )
    names_sum = whole.names_sum if chosen.names_sum is None else chosen.names_sum
    return result_of(
        source,
        _provenance_of(source, options, chosen, names_sum),
        whole,
        work.digits.settings,
        skipped=found.skipped,
        ignored=found.ignored,
        estimate=estimate,
        names=chosen.looked_at() if options.keep_names else None,
    )


def _provenance_of(
    source: Source, options: SelectionOptions, chosen: Selection, names_sum: int
) -> Provenance:
    """The provenance, as far as it is known before the images are counted."""
    given = dict(source.options)
    if options.limit is not None and chosen.limited:
        given["limit"] = options.limit
    return Provenance(
        source.kind,
        as_text(source.ref),
        names_sha256="",
        listing_sha256=digest_of(names_sum),
        images=0,
        options=given,
        shards=options.shards,
        units_sha256=chosen.catalogue.sha256,
    )


def _warn(
    sources: Sequence[Source],
    stats: Stats,
    device: CudaDevice | None,
    decoder: Decoder,
    *,
    may_fall_back: bool,
) -> None:
    """Report what was lost, and what the numbers do not show."""
    for note in (note for source in sources for note in source.notes):
        warnings.warn(note, SourceWarning, stacklevel=3)
    for note in _notes_on_device(stats, device, decoder, may_fall_back=may_fall_back):
        warnings.warn(note, DeviceWarning, stacklevel=3)
    made_here = [source for source in sources if source.made_here]
    if made_here and stats.looks_normalized:
        warnings.warn(f"{as_text(made_here[0].ref)}: {NORMALIZED}", SourceWarning, stacklevel=3)
    if stats.skipped:
        warnings.warn(
            f"{len(stats.skipped)} of {stats.images + len(stats.skipped)} images were skipped; "
            "stats.skipped names them with their reasons",
            SkippedImagesWarning,
            stacklevel=3,
        )


def _notes_on_device(
    stats: Stats, device: CudaDevice | None, decoder: Decoder, *, may_fall_back: bool
) -> Iterator[str]:
    """What the device could not do, and JPEGs that it should have decoded and did not."""
    if device is None:
        return
    if shortage := device.shortage():
        yield shortage
    elif stats.estimate and stats.estimate.bounds and not may_fall_back:
        yield (
            "the CPU counted the images: where sizes are exact, each is counted by itself; with --sizes sampled, "
            "the device counts"
        )
    elif stats.images and not device.used and not may_fall_back:
        yield (
            "the device counted none of these images: it takes 8-bit pixels, from files or as arrays "
            "and tensors, that fit into a batch; the CPU counted all images"
        )
    jpegs = stats.measurement.formats.get("JPEG", 0) if stats.measurement else 0
    if decoder == NVJPEG and (left := jpegs - device.decoded):
        yield (
            f"{left:,} of {jpegs:,} JPEGs were decoded on the CPU: nvJPEG does not take them, or their "
            "markers do not show that they are whole"
        )


def _device_of(name: str, batch_size: int | None, decoder: Decoder) -> CudaDevice | None:
    """The device that counts; None: the workers count."""
    if not DEVICES.fullmatch(name):
        raise ValueError(f"device is {name!r}; expected cpu, cuda, cuda:N or auto")
    if name == "cpu":
        return None
    found = find_device(name)
    if found.device is None:
        return None
    from imgnorm.cuda.device import CudaDevice

    megapixels = (
        _BATCH if batch_size is None else _positive("batch_size", _whole("batch_size", batch_size))
    )
    if decoder != NVJPEG:
        return CudaDevice(found.device, megapixels * _MEGAPIXEL)
    from imgnorm.cuda import nvjpeg

    return CudaDevice(found.device, megapixels * _MEGAPIXEL, nvjpeg.find_decoder(found.device))


def _patterns(what: str, given: str | Sequence[str]) -> tuple[str, ...]:
    patterns = (given,) if isinstance(given, str) else given
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(p, str) for p in patterns):
        raise TypeError(f"{what} is {given!r}; expected a pattern, or a list of patterns")
    return tuple(patterns)


def _positive(what: str, value: _Number) -> _Number:
    if not value > 0:  # NaN too
        raise ValueError(f"{what} is {value}; it must be above 0")
    return value


def _whole(what: str, value: object) -> int:
    """As an int of Python: NumPy's numbers cannot be written to a file."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{what} is {value!r}; expected a whole number")
    return int(value)


def _number(what: str, value: object) -> float:
    """As a float of Python, for the same reason."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{what} is {value!r}; expected a number")
    return float(value)


def _steps(
    resize: int | tuple[int, int] | None, center_crop: int | tuple[int, int] | None
) -> tuple[Step, ...]:
    steps: list[Step] = []
    if resize is not None:
        steps.append(Resize(_size("resize", resize)))
    if center_crop is not None:
        steps.append(CenterCrop(_size("center_crop", center_crop)))
    return tuple(steps)


def _size(what: str, size: int | tuple[int, int]) -> int | tuple[int, int]:
    edges = (size,) if isinstance(size, int) else tuple(size)
    if len(edges) not in (1, 2) or any(edge < 1 for edge in edges):
        raise ValueError(f"{what} is {size!r}; expected a positive edge, or (height, width)")
    return edges[0] if len(edges) == 1 else (edges[0], edges[1])
