"""Source + options -> Stats: the one entry point."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from imgnorm._torch import torch_needed
from imgnorm.datasets.source import ArraySource, CountingSource, StreamingSource
from imgnorm.errors import DeviceError, MissingDependency, SourceError
from imgnorm.measuring.opening import open_source
from imgnorm.measuring.result import finished
from imgnorm.measuring.routes import MADE_HERE, counting, refuse_idle
from imgnorm.measuring.selection import NO_CLASS, aside_of, listing_digest, origin_of, selection_of
from imgnorm.pixels.buffer import Found
from imgnorm.progress import Profile, Progress, Stage, no_lap
from imgnorm.settings import (
    NVJPEG,
    CenterCrop,
    Decoder,
    ImageSettings,
    Limits,
    Resize,
    Step,
)
from imgnorm.sources.names import as_text
from imgnorm.sources.source import BlockSource, OpenedSource, Source
from imgnorm.stats.stats import NORMALIZED, Stats
from imgnorm.tally.names import digest_of
from imgnorm.tally.tally import Tally

if TYPE_CHECKING:
    from imgnorm.cuda import device as gpu
    from imgnorm.pixels.buffer import Device
    from imgnorm.stats.estimate import Estimate, Plan

MODES = ("auto", "L", "RGB", "RGBA", "I;16")
DEVICES = re.compile(r"cpu|auto|cuda(:\d{1,3})?", re.ASCII)
_Number = TypeVar("_Number", int, float)
_MEGAPIXEL = 1 << 20
_BATCH = 8  # megapixels


class DeviceWarning(UserWarning):
    """The device could not do all that it was asked to; the CPU did it."""


class SkippedImagesWarning(UserWarning):
    """Some images were not counted; `stats.skipped` names them."""


class SourceWarning(UserWarning):
    """Something about the source that the numbers do not tell."""


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
    `device` and `batch_size` decide only the seconds, but for the decoder "nvjpeg".

    Args:
        source: a folder; a zip, tar or tar.gz, or a pattern of such archives ("shards/train-*.tar",
            "train-{000000..000127}.tar"); a .npy or .npz file, "data.npz/x_train" or a pattern of
            them; a text file with one path a line (with `listed`);
            "torchvision:NAME", a dataset below `root` (`split` and `download` as its constructor has
            them); a torch Dataset or DataLoader; any iterable of tensors, NumPy arrays or PIL images;
            or a Source.
        key: where a Dataset's or iterable's items have the image: a dict's key, or the place in a
            tuple. By default, the item itself, the first of a tuple, or "image", "images", "img",
            "imgs", "pixel_values", "x", "input" or "inputs" of a dict.
        layout: NHWC, NCHW, NHW, HWC, CHW or HW: which dimensions arrays and tensors have, where their
            shape does not tell. By default, CHW and NCHW of tensors, HWC and NHWC of arrays.
        mode: what each image is converted to: L, RGB, RGBA, I;16; "auto" is the mode that all
            images share (L for gray, I;16 for 16-bit gray, RGB for the rest), else RGB.
        resize: the shorter edge, or (height, width): torchvision's Resize on PIL images.
        center_crop: a square's edge, or (height, width), after `resize`: torchvision's CenterCrop.
        preprocess: these steps, in this order, instead of `resize` and `center_crop`.
        strict_channels: skip images that have other channels than `mode` has (gray, alpha or CMYK
            among RGB ones) as "channel-mismatch", instead of converting them. Not with mode "auto".
        limit: look at so many images only, spread evenly over the sorted names; of a DataLoader or
            another iterable, the first ones.
        shard: (i, n) measures every n-th of these names, from the i-th on, counted from 1. The stats
            of all n shards merge to those of all images.
        per_class: mean and std of each class folder, too.
        keep_names: the stats hold the names of the counted images, so that `merge` sees which of them
            two listings share.
        tolerance: do not look at all images, but at a random sample that is large enough: with the
            probability `confidence` (0.99), no mean and no std of the result is farther from the
            exact one than this. `stats.estimate` holds the error bars. Where all images had to be
            looked at, it is None, and the result exact.
        seed: decides which images those are (0).
        max_pixels: an image with more is skipped before it is decoded.
        timeout_s: an image that takes longer, twice, is skipped.
        workers: processes that decode, or threads that see to pixels in memory; the cores that this
            process may use by default. A Dataset is read in this process by default, and by a
            DataLoader's workers otherwise.
        decoder: "pillow" decodes all images, the reference; "auto" takes faster decoders where their
            pixels are the same to the last bit (ordinary JPEGs, with simplejpeg). "nvjpeg" decodes JPEGs
            on a CUDA device, to other digits: pixels differ by a level here and there. The stats say so,
            and do not merge with others.
        device: "cpu", the default, save with "nvjpeg"; "cuda" or "cuda:1" counts there, in integers, what
            the workers decode, and what a dataset or an iterable gives as uint8 tensors or arrays; "auto"
            does if it can. What else there is (16 bits, floats, PIL images of an iterable) is counted on
            the CPU. Tensors that lie on a device are counted there in any case.
        batch_size: megapixels (2**20) that are sent to the device at once, 8 by default; images have all
            sizes. One that is larger may be counted by its worker.
        on_progress: called a few times a second from this thread.
        profile: an empty Profile, to be filled: where the time went, by step and process.

    Raises:
        SourceError: there is nothing to measure, or not a single image could be counted.
        DeviceError: there is no such device, or it failed.
        MissingDependency: torch, torchvision or torchcodec is wanted and cannot be imported.

    Warns:
        SkippedImagesWarning: some images were skipped; `stats.skipped` names them.
        DeviceWarning: the device ran out of memory, it failed and `device` is "auto", it was asked for and
            counted no image, or "nvjpeg" did not take all JPEGs.
        SourceWarning: a loader left images out, say.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    steps = _steps(resize, center_crop) if preprocess is None else tuple(preprocess)
    if strict_channels and mode == "auto":
        raise ValueError("strict_channels needs a mode that says which are right, not 'auto'")
    settings = ImageSettings(mode, steps, strict_channels)
    if decoder not in get_args(Decoder):
        raise ValueError(f"decoder is {decoder!r}; expected one of {', '.join(get_args(Decoder))}")
    device = device or default_device(decoder)
    plan = _plan(tolerance, confidence, seed)
    if plan and (limit is not None or shard is not None or per_class or keep_names):
        raise ValueError("a tolerance goes without limit, shard, per_class and keep_names")
    if decoder == NVJPEG:
        _demand_whole_images(settings, device)
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
    run = _Run(workers, decoder, on_device, device == "auto", on_progress, profile)
    run.lap("start")  # importing torch for a device takes seconds
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
        stats = _of_stream(opened, settings, limits, limit, run)
    else:
        stats = _of_names(opened, settings, limits, limit, shard, per_class, keep_names, plan, run)
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
class _Run:
    """What decides the seconds, and no digit."""

    workers: int | None
    decoder: Decoder
    device: gpu.CudaDevice | None  # None: the workers count
    may_fall_back: bool  # to the workers, if the device fails
    on_progress: Callable[[Progress], None]
    profile: Profile | None

    @property
    def lap(self) -> Callable[[Stage], None]:
        return self.profile.lap if self.profile else no_lap


def _of_names(
    opened: Source,
    settings: ImageSettings,
    limits: Limits,
    limit: int | None,
    shard: tuple[int, int] | None,
    per_class: bool,
    keep_names: bool,
    plan: Plan | None,
    run: _Run,
) -> Stats:
    if isinstance(opened, ArraySource) and isinstance(opened, OpenedSource):
        opened.open()  # listing it would do so, too, and look slow
        run.lap("start")
    listing = opened.listing()
    choice = selection_of(
        opened, listing, limit=limit, shard=shard, per_class=per_class, keep_names=keep_names
    )
    names = choice.names
    if isinstance(opened, BlockSource):
        opened.check(settings)
    run.lap("list")

    listed = ""
    all_of_them = names is listing.names and not plan

    def counted(device: Device | None) -> tuple[Sequence[str], dict[str, Tally], Estimate | None]:
        """The names that were looked at, what was counted of them, and how sure it is."""
        nonlocal listed
        with counting(
            opened,
            settings,
            limits,
            images=len(names),
            workers=run.workers,
            decoder=run.decoder,
            device=device,
            cross_sums=bool(plan),
            profile=run.profile,
        ) as count:
            if not all_of_them:  # or each worker hashes the names that it looks at
                listed = listed or listing_digest(listing)
                run.lap("list")
            if not plan:
                return names, count(choice.groups, run.on_progress), None
            from imgnorm.measuring.sampling import estimated

            sample = estimated(names, settings, plan, count, run.on_progress)
            return sample.names, {NO_CLASS: sample.tally}, sample.estimate

    try:
        taken, tallies, estimate = counted(run.device)
    except DeviceError as error:
        if not run.may_fall_back:
            raise
        warnings.warn(f"{error}; all is counted anew on the CPU", DeviceWarning, stacklevel=3)
        taken, tallies, estimate = counted(None)
    _tell_of(run)
    if run.device and run.decoder == NVJPEG:
        jpegs = sum(
            counted.formats.get("JPEG", 0)
            for tally in tallies.values()
            for counted in tally.counted.values()
        )
        if left := jpegs - run.device.decoded:
            warnings.warn(
                f"{left:,} of {jpegs:,} JPEGs were decoded on the CPU: they are none that nvJPEG takes, or "
                "their markers do not tell that they are whole",
                DeviceWarning,
                stacklevel=3,
            )
    if not listed:
        hashed = sum(tally.names for tally in tallies.values())
        listed = digest_of(hashed) if hashed else listing_digest(listing)
    ignored = {"limit": choice.beyond, "tolerance": len(names) - len(taken)}
    aside = aside_of(listing, {rule: left for rule, left in ignored.items() if left}, shard)
    origin = origin_of(opened, listed, limit if choice.beyond else None, shard)
    found = len(listing.names)
    return finished(
        opened,
        origin,
        aside,
        taken,
        tallies,
        settings,
        per_class,
        found,
        estimate,
        keep_names=keep_names,
    )


def _tell_of(run: _Run) -> None:
    """What the device could not do."""
    if run.device and (shortage := run.device.shortage()):
        warnings.warn(shortage, DeviceWarning, stacklevel=4)
    elif run.device and not run.device.used and not run.may_fall_back:
        warnings.warn(
            "the device counted none of these images: it takes pixels of 8 bits, from files or as "
            "arrays and tensors, that have room in a batch; the CPU counted them all",
            DeviceWarning,
            stacklevel=4,
        )


def _of_stream(
    opened: StreamingSource,
    settings: ImageSettings,
    limits: Limits,
    limit: int | None,
    run: _Run,
) -> Stats:
    read_all = opened.read_all(settings, limits, limit, run.on_progress, run.device)
    _tell_of(run)
    run.lap("count")
    if run.profile:
        run.profile.note = MADE_HERE
    for note in read_all.notes:
        warnings.warn(note, SourceWarning, stacklevel=3)
    listing = read_all.listing
    aside = aside_of(listing, {}, None)
    origin = origin_of(opened, listing_digest(listing), limit if read_all.limited else None, None)
    tallies = {NO_CLASS: read_all.tally}
    found = len(listing.names)
    return finished(opened, origin, aside, listing.names, tallies, settings, False, found, None)


def default_device(decoder: Decoder) -> str:
    return "cuda" if decoder == NVJPEG else "cpu"


def find_device(name: str) -> Found:
    """What stands behind "cuda", "cuda:1" or "auto", which may be the CPU.

    Raises:
        DeviceError: there is no such device, or it does not work.
        MissingDependency: torch cannot be imported.
    """
    try:
        with torch_needed():
            from imgnorm.cuda import device as gpu
    except MissingDependency as error:
        if name == "auto":
            return Found(None, f"cpu: {error}")
        raise
    return gpu.find(name)


def _demand_whole_images(settings: ImageSettings, device: str) -> None:
    """
    Raises:
        SourceError: a device that decodes cannot do what is asked for.
    """
    faults = []
    if settings.preprocess:
        faults.append(
            "resizes and crops nothing: leave out resize and center_crop, or have the workers decode"
        )
    if settings.mode not in ("auto", "RGB"):
        faults.append(f"converts nothing to mode {settings.mode}: use auto or RGB")
    if device in ("cpu", "auto"):
        faults.append(
            f"gives digits of its own, so it takes no other device than cuda: not {device}"
        )
    if faults:
        raise SourceError(f"decoder {NVJPEG} " + "; and ".join(faults))


def _device_of(
    name: str, batch_size: int | None, decoder: Decoder = "auto"
) -> gpu.CudaDevice | None:
    """None: the workers count."""
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
        raise ValueError(f"{what} is {value}; it must be positive")
    return value


def _whole(what: str, value: object) -> int:
    """As Python's own: NumPy's numbers cannot be written to a file."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{what} is {value!r}; expected a whole number")
    return int(value)


def _number(what: str, value: object) -> float:
    """As Python's own."""
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
