"""`measure`: a source and options -> Stats."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from imgnorm._torch import torch_needed
from imgnorm.datasets.source import ArraySource, CountingSource, StreamingSource
from imgnorm.errors import DeviceError, MissingDependency, SourceError
from imgnorm.measuring.opening import open_source
from imgnorm.measuring.result import result_of
from imgnorm.measuring.routes import MADE_HERE, counting, refuse_idle
from imgnorm.measuring.selection import (
    NO_CLASS,
    Selection,
    SelectionOptions,
    listing_digest,
    provenance_of,
    rest_of,
    selection_of,
)
from imgnorm.pixels.buffer import FoundDevice
from imgnorm.progress import Profile, Progress, Stage, no_lap
from imgnorm.settings import (
    CHANNELS,
    NVJPEG,
    CenterCrop,
    Decoder,
    ImageSettings,
    Limits,
    Resize,
    Step,
)
from imgnorm.sources.names import as_text
from imgnorm.sources.source import BlockSource, Listing, OpenedSource, Source
from imgnorm.stats.stats import NORMALIZED, Stats
from imgnorm.tally.names import digest_of
from imgnorm.tally.tally import Tally

if TYPE_CHECKING:
    from imgnorm.cuda.device import CudaDevice
    from imgnorm.pixels.buffer import Device
    from imgnorm.stats.estimate import Estimate, Plan

MODES = ("auto", *CHANNELS)
DEVICES = re.compile(r"cpu|auto|cuda(:\d{1,3})?", re.ASCII)
_Number = TypeVar("_Number", int, float)
_MEGAPIXEL = 1 << 20
_BATCH = 8  # megapixels


class DeviceWarning(UserWarning):
    """The device could not do everything that it was asked for; the CPU did the rest.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", imgnorm.DeviceWarning)  # rather fail than be slow
        ...     stats = imgnorm.measure("examples/shapes", device="auto")
    """


class SkippedImagesWarning(UserWarning):
    """Some images were not counted; `stats.skipped` names them.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", imgnorm.SkippedImagesWarning)
        ...     stats = imgnorm.measure("examples/shapes", max_pixels=6_000)
        >>> stats.images, len(stats.skipped)
        (20, 4)
    """


class SourceWarning(UserWarning):
    """Something about the source that cannot be seen in the numbers.

    Example:
        >>> import warnings
        >>> import numpy
        >>> image = numpy.array([[-1.0, 1.0], [0.5, -0.5]], dtype="float32")
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always", imgnorm.SourceWarning)
        ...     stats = imgnorm.measure([image])
        >>> "look normalized already" in str(caught[0].message)
        True
    """


def measure(
    source: str | os.PathLike[str] | Source | Any,
    *,
    key: str | int | None = None,
    layout: str | None = None,
    listed: bool = False,
    root: str | os.PathLike[str] = "data",
    split: str = "train",
    download: bool = False,
    mode: str = "auto",
    resize: int | tuple[int, int] | None = None,
    center_crop: int | tuple[int, int] | None = None,
    preprocess: Sequence[Step] | None = None,
    strict_channels: bool = False,
    limit: int | None = None,
    shard: tuple[int, int] | None = None,
    per_class: bool = False,
    keep_names: bool = False,
    tolerance: float | None = None,
    confidence: float | None = None,
    seed: int | None = None,
    max_pixels: int = Limits.max_pixels,
    timeout_s: float = Limits.timeout_s,
    workers: int | None = None,
    decoder: Decoder = "auto",
    device: str | None = None,
    batch_size: int | None = None,
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
            them); a torch Dataset or DataLoader; any iterable of tensors, NumPy arrays or PIL images;
            or a Source.
        key: where the image is in the items of a Dataset or iterable: a dict's key, or the place in a
            tuple. By default, the item itself, the first of a tuple, or "image", "images", "img",
            "imgs", "pixel_values", "x", "input" or "inputs" of a dict.
        layout: NHWC, NCHW, NHW, HWC, CHW or HW: the dimensions of arrays and tensors, where their shape
            allows several. By default, CHW and NCHW of tensors, HWC and NHWC of arrays.
        mode: what each image is converted to: L, RGB, RGBA, I;16; "auto" is the mode that all
            images share (L for gray, I;16 for 16-bit gray, RGB for the rest), else RGB.
        resize: the shorter edge, or (height, width): torchvision's Resize on PIL images.
        center_crop: a square's edge, or (height, width), after `resize`: torchvision's CenterCrop.
        preprocess: these steps, in this order, instead of `resize` and `center_crop`.
        strict_channels: skip images that have other channels than `mode` has (gray, alpha or CMYK
            among RGB ones) as "channel-mismatch", instead of converting them. Not with mode "auto".
        limit: look at this many images only, spread evenly over the sorted names; of a DataLoader or
            another iterable, the first ones.
        shard: (i, n) measures every n-th of these names, from the i-th on, counted from 1. The stats
            of all n shards merge to those of all images.
        per_class: mean and std of each class folder, too.
        keep_names: the stats hold the names of the counted images, so that `merge` sees which of them
            two stats share.
        tolerance: do not look at all images, but at a random sample that is large enough: with the
            probability `confidence` (0.99 by default), no mean and no std of the result is farther from
            the exact one than this. `stats.estimate` holds the error bars; it is None if all images had
            to be looked at, and then the result is exact.
        confidence: see `tolerance`; above 0 and below 1.
        seed: decides which images the sample has; 0 by default.
        max_pixels: an image with more is skipped before it is decoded.
        timeout_s: an image that takes longer, twice, is skipped.
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
        on_progress: called a few times a second from this thread.
        profile: an empty Profile, which is filled: where the time went, by stage and process.

    Raises:
        SourceError: there is nothing to measure, or no image could be counted.
        DeviceError: the device does not exist, or it failed.
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
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    steps = _steps(resize, center_crop) if preprocess is None else tuple(preprocess)
    if strict_channels and mode == "auto":
        raise ValueError(
            "strict_channels needs a mode that says which channels are right, not 'auto'"
        )
    settings = ImageSettings(mode, steps, strict_channels)
    if decoder not in get_args(Decoder):
        raise ValueError(f"decoder is {decoder!r}; expected one of {', '.join(get_args(Decoder))}")
    device = device or default_device(decoder)
    plan = _plan(tolerance, confidence, seed)
    if plan and (limit is not None or shard is not None or per_class or keep_names):
        raise ValueError(
            "a tolerance cannot be combined with limit, shard, per_class or keep_names"
        )
    if decoder == NVJPEG:
        _check_nvjpeg(settings, device)
    on_device = _device_of(device, batch_size, decoder)
    opened = open_source(
        source, listed=listed, root=root, split=split, download=download, key=key, layout=layout
    )
    limits = Limits(
        _positive("max_pixels", _whole("max_pixels", max_pixels)),
        _positive("timeout_s", _number("timeout_s", timeout_s)),
    )
    workers = None if workers is None else _positive("workers", _whole("workers", workers))
    limit = None if limit is None else _positive("limit", _whole("limit", limit))
    speed = _Speed(workers, decoder, on_device, device == "auto", on_progress, profile)
    speed.lap("start")  # importing torch for a device takes seconds
    refuse_idle(
        opened,
        settings,
        limits,
        decoder=decoder,
        device=device,
        shard=shard,
        per_class=per_class,
        keep_names=keep_names,
        tolerance=plan,
        workers=workers,
    )
    if isinstance(opened, StreamingSource):
        stats = _measure_stream(opened, settings, limits, limit, speed)
    else:
        options = SelectionOptions(limit, shard, per_class, keep_names)
        stats = _measure_names(opened, settings, limits, options, plan, speed)
    if profile:
        profile.lap("merge")
        profile.finish(stats.images)
    if isinstance(opened, (CountingSource, StreamingSource)) and stats.looks_normalized:
        warnings.warn(f"{as_text(opened.ref)}: {NORMALIZED}", SourceWarning, stacklevel=2)
    if stats.skipped:
        warnings.warn(
            f"{len(stats.skipped)} of {stats.images + len(stats.skipped)} images were skipped; "
            "stats.skipped names them with their reasons",
            SkippedImagesWarning,
            stacklevel=2,
        )
    return stats


def default_device(decoder: Decoder) -> str:
    """The device if none is given."""
    return "cuda" if decoder == NVJPEG else "cpu"


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


def _plan(tolerance: float | None, confidence: float | None, seed: int | None) -> Plan | None:
    given = {"tolerance": tolerance, "confidence": confidence, "seed": seed}
    options: dict[str, Any] = {
        name: _whole(name, value) if name == "seed" else _number(name, value)
        for name, value in given.items()
        if value is not None
    }
    if not options:
        return None
    if tolerance is None:
        raise ValueError(f"{' and '.join(options)}: only with a tolerance")
    from imgnorm.stats.estimate import Plan

    return Plan(**options)


@dataclass(frozen=True)
class _Speed:
    """What decides the seconds, and no digit."""

    workers: int | None
    decoder: Decoder
    device: CudaDevice | None  # None: the workers count
    may_fall_back: bool  # to the workers, if the device fails
    on_progress: Callable[[Progress], None]
    profile: Profile | None

    @property
    def lap(self) -> Callable[[Stage], None]:
        return self.profile.lap if self.profile else no_lap


@dataclass(frozen=True)
class _Counted:
    """What was counted of the selected names."""

    names: Sequence[str]  # that were looked at
    tallies: Mapping[str, Tally]
    estimate: Estimate | None
    listing_sha256: str  # "" if each worker has hashed the names that it looked at


def _measure_names(
    source: Source,
    settings: ImageSettings,
    limits: Limits,
    options: SelectionOptions,
    plan: Plan | None,
    speed: _Speed,
) -> Stats:
    if isinstance(source, ArraySource) and isinstance(source, OpenedSource):
        source.open()  # else listing does it, and looks slow in a profile
        speed.lap("start")
    listing = source.listing()
    selection = selection_of(source, listing, options)
    if isinstance(source, BlockSource):
        source.check(settings)
    speed.lap("list")

    count = partial(_count, source, listing, selection, settings, limits, plan, speed)
    try:
        counted = count(speed.device)
    except DeviceError as error:
        if not speed.may_fall_back:
            raise
        message = f"{error}; everything is counted again on the CPU"
        warnings.warn(message, DeviceWarning, stacklevel=3)
        counted = count(None)
    _warn_about_device(speed)
    _warn_about_jpegs(speed, counted.tallies)

    hashed = sum(tally.names_sum for tally in counted.tallies.values())
    listing_sha256 = counted.listing_sha256 or (
        digest_of(hashed) if hashed else listing_digest(listing)
    )
    left_out = {"limit": selection.beyond, "tolerance": len(selection.names) - len(counted.names)}
    limit = options.limit if selection.beyond else None
    return result_of(
        source,
        provenance_of(source, listing_sha256, limit, options.shard),
        rest_of(listing, {rule: n for rule, n in left_out.items() if n}, options.shard),
        counted.names,
        counted.tallies,
        settings,
        found=len(listing.names),
        estimate=counted.estimate,
        per_class=options.per_class,
        keep_names=options.keep_names,
    )


def _count(
    source: Source,
    listing: Listing,
    selection: Selection,
    settings: ImageSettings,
    limits: Limits,
    plan: Plan | None,
    speed: _Speed,
    device: Device | None,
) -> _Counted:
    listing_sha256 = ""
    with counting(
        source,
        settings,
        limits,
        images=len(selection.names),
        workers=speed.workers,
        decoder=speed.decoder,
        device=device,
        cross_sums=bool(plan),
        profile=speed.profile,
    ) as count:
        if plan or selection.names is not listing.names:  # no worker sees all names
            listing_sha256 = listing_digest(listing)
            speed.lap("list")
        if not plan:
            tallies = count(selection.groups, speed.on_progress)
            return _Counted(selection.names, tallies, None, listing_sha256)
        from imgnorm.measuring.sampling import sampled

        sample = sampled(selection.names, settings, plan, count, speed.on_progress)
        return _Counted(sample.names, {NO_CLASS: sample.tally}, sample.estimate, listing_sha256)


def _warn_about_device(speed: _Speed) -> None:
    """Report what the device could not do."""
    if speed.device and (shortage := speed.device.shortage()):
        warnings.warn(shortage, DeviceWarning, stacklevel=4)
    elif speed.device and not speed.device.used and not speed.may_fall_back:
        warnings.warn(
            "the device counted none of these images: it takes 8-bit pixels, from files or as arrays "
            "and tensors, that fit into a batch; the CPU counted all images",
            DeviceWarning,
            stacklevel=4,
        )


def _warn_about_jpegs(speed: _Speed, tallies: Mapping[str, Tally]) -> None:
    """Report JPEGs that a device should have decoded, and did not."""
    if speed.device is None or speed.decoder != NVJPEG:
        return
    jpegs = sum(
        counted.formats.get("JPEG", 0)
        for tally in tallies.values()
        for counted in tally.counted.values()
    )
    if left := jpegs - speed.device.decoded:
        warnings.warn(
            f"{left:,} of {jpegs:,} JPEGs were decoded on the CPU: nvJPEG does not take them, or their "
            "markers do not show that they are whole",
            DeviceWarning,
            stacklevel=4,
        )


def _measure_stream(
    source: StreamingSource,
    settings: ImageSettings,
    limits: Limits,
    limit: int | None,
    speed: _Speed,
) -> Stats:
    result = source.read_all(settings, limits, limit, speed.on_progress, speed.device)
    _warn_about_device(speed)
    speed.lap("count")
    if speed.profile:
        speed.profile.note = MADE_HERE
    for note in result.notes:
        warnings.warn(note, SourceWarning, stacklevel=3)
    listing = result.listing
    limit = limit if result.limited else None
    return result_of(
        source,
        provenance_of(source, listing_digest(listing), limit, None),
        rest_of(listing, {}, None),
        listing.names,
        {NO_CLASS: result.tally},
        settings,
        found=len(listing.names),
    )


def _check_nvjpeg(settings: ImageSettings, device: str) -> None:
    """
    Raises:
        SourceError: nvJPEG cannot decode for these settings, or not for this device.
    """
    faults = []
    if settings.preprocess:
        faults.append(
            "cannot resize or crop: leave out resize and center_crop, or let the workers decode"
        )
    if settings.mode not in ("auto", "RGB"):
        faults.append(f"cannot convert to mode {settings.mode}: use auto or RGB")
    if device in ("cpu", "auto"):
        faults.append(f"gives other digits than the CPU, so it needs the device cuda: not {device}")
    if faults:
        raise SourceError(f"decoder {NVJPEG} " + "; and ".join(faults))


def _device_of(name: str, batch_size: int | None, decoder: Decoder) -> CudaDevice | None:
    """The device that counts; None: the workers count."""
    if not DEVICES.fullmatch(name):
        raise ValueError(f"device is {name!r}; expected cpu, cuda, cuda:N or auto")
    if name == "cpu":
        if batch_size is not None:
            raise ValueError("batch_size is for a device; leave it out with the cpu")
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
