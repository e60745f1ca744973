"""Source + options -> Stats: the one entry point."""

from __future__ import annotations

import glob
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from imgnorm.errors import SourceError
from imgnorm.image import (
    CenterCrop,
    ImageSettings,
    Mode,
    Resize,
    Step,
    channels_of,
    kind_of,
    mode_of,
)
from imgnorm.measured import ClassStats, Measurement, skipped_order
from imgnorm.provenance import Provenance, Shards, names_digest
from imgnorm.reasons import Reason, Skipped, Unreadable
from imgnorm.scan import Limits, Progress, scan
from imgnorm.sources import (
    ArraySource,
    BlockSource,
    CountingSource,
    EncodedSource,
    Listing,
    ShardedSource,
    Source,
    StreamingSource,
    name_bytes,
    printable,
    shown,
)
from imgnorm.sources.archive import ArchiveSource, is_archive, is_pattern, matching
from imgnorm.sources.arrays import ArrayFileSource, is_array_file, member_of
from imgnorm.sources.filelist import ListSource
from imgnorm.sources.files import IMG_EXTENSIONS
from imgnorm.sources.folder import FolderSource
from imgnorm.sources.layout import LAYOUTS
from imgnorm.stats import NORMALIZED, Stats
from imgnorm.tally import Tally, common_mode, in_mode

TORCHVISION = "torchvision:"
MODES = ("auto", "L", "RGB", "RGBA", "I;16")
_NO_CLASS = ""


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
    limit: int | None = None,
    shard: tuple[int, int] | None = None,
    per_class: bool = False,
    max_pixels: int = Limits.max_pixels,
    timeout_s: float = Limits.timeout_s,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Stats:
    """Exact per-channel statistics of a dataset, in one pass.

    The digits depend on the images, `mode`, `resize` and `center_crop` alone; `workers` decides only
    the seconds.

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
        limit: look at so many images only, spread evenly over the sorted names; of a DataLoader or
            another iterable, the first ones.
        shard: (i, n) measures every n-th of these names, from the i-th on, counted from 1. The stats
            of all n shards merge to those of all images.
        per_class: mean and std of each class folder, too.
        max_pixels: an image with more is skipped before it is decoded.
        timeout_s: an image that takes longer, twice, is skipped.
        workers: processes that decode; the cores that this process may use by default. A Dataset is
            read in this process by default, and by a DataLoader's workers otherwise.
        on_progress: called a few times a second from this thread.

    Raises:
        SourceError: there is nothing to measure, or not a single image could be counted.
        MissingDependency: a torchvision dataset is wanted and torchvision cannot be imported.

    Warns:
        SkippedImagesWarning: some images were skipped; `stats.skipped` names them.
        SourceWarning: a loader left images out, say.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    steps = _steps(resize, center_crop) if preprocess is None else tuple(preprocess)
    settings = ImageSettings(mode, steps)
    opened = open_source(
        source, listed=listed, root=root, split=split, download=download, key=key, layout=layout
    )
    limits = Limits(_positive("max_pixels", max_pixels), _positive("timeout_s", timeout_s))
    if workers is not None:
        _positive("workers", workers)
    if limit is not None:
        _positive("limit", limit)
    if isinstance(opened, StreamingSource):
        idle = {"shard": shard, "per_class": per_class or None, "workers": workers}
        _refuse(opened, {**idle, "timeout_s": _other_timeout(limits)})
        stats = _of_stream(opened, settings, limits, limit, on_progress)
    else:
        stats = _of_names(opened, settings, limits, limit, shard, per_class, workers, on_progress)
    if isinstance(opened, (CountingSource, StreamingSource)) and stats.looks_normalized:
        warnings.warn(f"{shown(opened.ref)}: {NORMALIZED}", SourceWarning, stacklevel=2)
    if stats.skipped:
        warnings.warn(
            f"{len(stats.skipped)} of {stats.images + len(stats.skipped)} images were skipped; "
            "stats.skipped names them with their reasons",
            SkippedImagesWarning,
            stacklevel=2,
        )
    return stats


def _of_names(
    opened: Source,
    settings: ImageSettings,
    limits: Limits,
    limit: int | None,
    shard: tuple[int, int] | None,
    per_class: bool,
    workers: int | None,
    on_progress: Callable[[Progress], None],
) -> Stats:
    listing = opened.listing()
    if not listing.names and not listing.skipped:
        raise SourceError(_nothing_found(opened, listing))
    chosen, beyond = _limited(listing.names, limit)
    names = _shard_of(opened, chosen, shard)
    if per_class:
        _demand_classes(opened, chosen)
    groups = _by_class(opened, names) if per_class else {_NO_CLASS: names}
    if isinstance(opened, BlockSource):
        opened.suit(settings)
    if isinstance(opened, ArraySource) and opened.holds_pixels(settings):
        tallies = {group: opened.count(part) for group, part in groups.items()}
    elif isinstance(opened, CountingSource):
        _refuse(opened, {"timeout_s": _other_timeout(limits)})
        opened.check(settings)
        if workers is None:
            tallies = opened.tallies(groups, settings, limits, on_progress)
        else:
            from imgnorm.loaders import tallies_in_workers
            from imgnorm.sources.iterables import IndexedSource

            assert isinstance(opened, IndexedSource)
            tallies = tallies_in_workers(
                opened, groups, settings, limits, on_progress, workers=workers
            )
    elif isinstance(opened, EncodedSource):
        crew = usable_cores() if workers is None else workers
        tallies = scan(opened, groups, settings, limits, workers=crew, on_progress=on_progress)
    else:
        raise TypeError(f"{opened!r} is not a source: it has neither read() nor count()")
    aside = _aside(listing, beyond, shard)
    origin = _origin(opened, listing, limit if beyond else None, shard)
    found = len(listing.names)
    return _finished(opened, origin, aside, names, tallies, settings, per_class, found)


def _of_stream(
    opened: StreamingSource,
    settings: ImageSettings,
    limits: Limits,
    limit: int | None,
    on_progress: Callable[[Progress], None],
) -> Stats:
    drained = opened.drained(settings, limits, limit, on_progress)
    for note in drained.notes:
        warnings.warn(note, SourceWarning, stacklevel=3)
    listing = drained.listing
    aside = _aside(listing, 0, None)
    origin = _origin(opened, listing, limit if drained.limited else None, None)
    tallies = {_NO_CLASS: drained.tally}
    found = len(listing.names)
    return _finished(opened, origin, aside, listing.names, tallies, settings, False, found)


def _other_timeout(limits: Limits) -> float | None:
    return None if limits.timeout_s == Limits.timeout_s else limits.timeout_s


def _refuse(opened: Source | StreamingSource, options: Mapping[str, object]) -> None:
    """
    Raises:
        SourceError: an option is given (not None) that can do nothing here.
    """
    why = {
        "shard": "its images come one after the other and not by name; shard the dataset itself",
        "per_class": "its images come without the names of classes; measure the dataset itself",
        "workers": "the user's own Python reads it; give num_workers to its DataLoader, if it has one",
        "timeout_s": "it is read in this process, where nothing can be ended",
    }
    faults = [f"{name}: {why[name]}" for name, value in options.items() if value is not None]
    if faults:
        raise SourceError(f"{shown(opened.ref)}: leave out " + "; and ".join(faults))


def open_source(
    source: str | os.PathLike[str] | Source | Any,
    *,
    listed: bool = False,
    root: str | os.PathLike[str] = "data",
    split: str = "train",
    download: bool = False,
    key: str | int | None = None,
    layout: str | None = None,
) -> Source | StreamingSource:
    """The source that a user means by a path, a name, or an object that yields images.

    Raises:
        SourceError: there is no such thing.
        TypeError: it is nothing that yields images.
    """
    if not isinstance(source, (str, os.PathLike)):
        given = {
            "listed": listed,
            "download": download,
            "root": root != "data",
            "split": split != "train",
        }
        for name in (name for name, value in given.items() if value):
            raise ValueError(f"{name} is for paths and names; leave it out")
        return open_object(source, key=key, layout=layout)
    if key is not None:
        raise ValueError("key is for Datasets and iterables; leave it out")
    path = os.fspath(source)
    if layout not in (None, *LAYOUTS):
        raise ValueError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    if path.startswith(TORCHVISION):
        _demand_arrays(path, layout)
        from imgnorm.datasets import TorchvisionSource

        return TorchvisionSource(
            path.removeprefix(TORCHVISION), os.fspath(root), split, download=download
        )
    file, member = (path, None) if listed else member_of(path)
    if not path or "\0" in path or not os.path.lexists(file):
        if is_pattern(file) and "\0" not in path and not listed:
            paths = matching(file)
            if any(map(is_array_file, paths[:1])):
                return ArrayFileSource(path, paths, layout, member)
            _demand_arrays(path, layout)
            return ArchiveSource(path, paths)
        what = (
            "list; name a text file with one path a line"
            if listed
            else "folder; name a folder of images, an archive, a list (with --list) or "
            f"{TORCHVISION}NAME"
        )
        raise SourceError(f"{shown(path) or repr(path)}: no such {what}")
    if not listed and not os.path.isdir(file) and is_array_file(file):
        return ArrayFileSource(path, [file], layout, member)
    _demand_arrays(path, layout)
    if listed:
        return ListSource(path)
    if not os.path.isdir(path):
        if is_archive(path):
            return ArchiveSource(path, [path])
        raise SourceError(
            f"{shown(path)}: is neither a folder nor a zip, tar, tar.gz, .npy or .npz; if it lists one path a "
            "line, add --list"
        )
    return FolderSource(path)


def open_object(
    source: Any, *, key: str | int | None, layout: str | None, ref: str | None = None
) -> Source | StreamingSource:
    """The source that a user means by a Dataset, a DataLoader or an iterable.

    Args:
        ref: what the user called it, if not by its class.

    Raises:
        SourceError: it does not tell its images.
        TypeError: it is nothing that yields images.
    """
    if hasattr(source, "listing") or hasattr(source, "drained"):
        opened: Source | StreamingSource = source
        return opened
    from imgnorm.items import Reading
    from imgnorm.sources.iterables import open_iterable

    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    if isinstance(key, str) and key.isdecimal():  # from the command line
        key = int(key)
    reading = Reading(key, layout)
    if "torch" in sys.modules:  # whoever has a Dataset has loaded torch
        from imgnorm.loaders import open_torch

        of_torch = open_torch(source, reading, ref)
        if of_torch is not None:
            return of_torch
    return open_iterable(source, reading, ref)


def _demand_arrays(path: str, layout: str | None) -> None:
    if layout is not None:
        raise SourceError(f"{shown(path)}: --layout is for .npy and .npz files; leave it out")


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _positive(what: str, value: float) -> int:
    if not value > 0:  # NaN too
        raise ValueError(f"{what} is {value}; it must be positive")
    return value  # type: ignore[return-value]


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


def _nothing_found(source: Source, listing: Listing) -> str:
    if isinstance(source, FolderSource) and glob.glob(glob.escape(source.path) + "/*.npy"):
        return (
            f"{shown(source.ref)}: no image files in it, but arrays; if each is one of the images, or many "
            f"of them, name them as '{shown(source.ref)}/*.npy'"
        )
    passed_over = ", ".join(f"{count:,} {rule}" for rule, count in listing.ignored.items())
    return (
        f"{shown(source.ref)}: no images in it"
        + (f" (passed over: {passed_over})" if passed_over else "")
        + f"; looked for {' '.join(IMG_EXTENSIONS)}; for other names, write them to a file and use --list"
    )


def _limited(names: Sequence[str], limit: int | None) -> tuple[Sequence[str], int]:
    """At most `limit` names, evenly spread so that every class folder is met, and how many are left."""
    if limit is None or limit >= len(names):
        return names, 0
    chosen = [names[i * len(names) // limit] for i in range(limit)]
    return chosen, len(names) - limit


def _by_class(source: Source, names: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(source.class_of(name) or _NO_CLASS, []).append(name)
    return groups


def _demand_classes(source: Source, names: Sequence[str]) -> None:
    if not any(map(source.class_of, names)):
        raise SourceError(
            f"{shown(source.ref)}: has no class folders; measure it without --per-class"
        )


def _shard_of(source: Source, names: Sequence[str], shard: tuple[int, int] | None) -> Sequence[str]:
    """Every n-th name, so that each shard meets every class and all shards take about as long."""
    if shard is None:
        return names
    number, of = shard
    if not 1 <= number <= of:
        raise ValueError(f"shard is {shard!r}; expected (i, n) with i from 1 to n")
    if of > len(names):
        raise SourceError(
            f"{shown(source.ref)}: {len(names):,} images cannot be shared among {of:,} shards; make at "
            f"most {len(names):,}"
        )
    return names[number - 1 :: of]


def _aside(listing: Listing, beyond: int, shard: tuple[int, int] | None) -> Listing:
    """What was found and not looked at. Every shard sees it, the first one tells: shards add up."""
    if shard and shard[0] > 1:
        return Listing([])
    beyond_limit = {"limit": beyond} if beyond else {}
    return Listing([], listing.skipped, {**listing.ignored, **beyond_limit})


def _origin(
    source: Source | StreamingSource,
    listing: Listing,
    limit: int | None,
    shard: tuple[int, int] | None,
) -> Provenance:
    """The provenance, as far as it is known before anything is counted."""
    options: dict[str, str | int] = dict(getattr(source, "options", {}))
    if limit is not None:
        options["limit"] = limit
    return Provenance(
        source.kind,
        shown(source.ref),
        names_sha256="",
        listing_sha256=names_digest(map(name_bytes, listing.names)),
        images=0,
        options=options,
        shards=Shards(shard[1], (shard[0],)) if shard and shard[1] > 1 else None,
    )


def _finished(
    source: Source | StreamingSource,
    origin: Provenance,
    aside: Listing,
    names: Sequence[str],
    tallies: Mapping[str, Tally],
    settings: ImageSettings,
    per_class: bool,
    found: int,
) -> Stats:
    whole = sum(tallies.values(), Tally())
    if whole.has_other_floats:
        whole = whole.of_floats()
        tallies = {group: tally.of_floats() for group, tally in tallies.items()}
    mode = _mode_of(whole, settings)
    too_deep = () if mode == "I;16" else whole.names_16bit
    skipped = sorted(
        (*aside.skipped, *whole.skipped, *map(_too_deep, too_deep)),
        key=lambda s: name_bytes(s.name),
    )
    if mode is None:
        raise SourceError(
            _unlike(source, whole) if whole.counted else _all_skipped(source, skipped)
        )
    left_out = {*(s.name for s in whole.skipped), *too_deep}  # a name listed twice is counted once
    kept = [name for name in names if name not in left_out]
    counted = in_mode(whole.counted, mode)
    measurement = Measurement(
        images=counted.images,
        pixels=counted.pixels,
        sums=counted.sums,
        modes=counted.modes,
        formats=counted.formats,
        decoders={f: d for f, d in whole.decoders.items() if f in counted.formats},
        source=replace(
            origin,
            names_sha256=_digest_of(kept, origin, everything=len(kept) == found),
            images=counted.images,
        ),
        classes=_classes(source, kept, tallies if per_class else {}, mode),
        skipped=tuple(
            sorted(
                (replace(s, name=shown(s.name), member=_member(source, s.name)) for s in skipped),
                key=skipped_order,
            )
        ),
        ignored=aside.ignored,
    )
    return Stats.of(measurement, mode, settings.preprocess, auto=settings.mode == "auto")


def _member(source: object, name: str) -> str | None:
    """The part of a name that lies inside an archive, if there is one."""
    if not isinstance(source, ShardedSource):
        return None
    return shown(name[len(source.shard_of(name)) + 1 :]) or None


def _digest_of(kept: Sequence[str], origin: Provenance, *, everything: bool) -> str:
    return origin.listing_sha256 if everything else names_digest(map(name_bytes, kept))


def _mode_of(whole: Tally, settings: ImageSettings) -> Mode | None:
    """The mode of the whole; None if nothing was counted."""
    met = set(whole.counted)
    if settings.mode == "auto":
        return common_mode(met if met == {"I;16"} else met - {"I;16"})
    kinds = {kind_of(mode) for mode in met}
    if kinds == {"float"}:  # which no image file is: of as many channels as were asked for
        return mode_of(len(channels_of(settings.mode)), "float")
    return settings.mode if len(kinds) == 1 else None


def _unlike(source: Source | StreamingSource, whole: Tally) -> str:
    counts = ", ".join(
        f"{counted.images:,} of mode {mode}" for mode, counted in sorted(whole.counted.items())
    )
    return (
        f"{shown(source.ref)}: images that do not belong together, {counts}; measure them apart, or make them "
        "alike in the dataset"
    )


def _too_deep(name: str) -> Skipped:
    return Unreadable(
        Reason.UNSUPPORTED_MODE,
        "16-bit grayscale among 8-bit images; measure it apart, with --mode 'I;16'",
    ).skipped(name)


def _all_skipped(source: Source | StreamingSource, skipped: Sequence[Skipped]) -> str:
    examples = "".join(
        f"\n  {printable(shown(s.name))}: {s.reason} ({s.detail})" for s in skipped[:5]
    )
    more = f"\n  and {len(skipped) - 5:,} more" if len(skipped) > 5 else ""
    return (
        f"{shown(source.ref)}: not one of {len(skipped):,} images could be counted; "
        f"mend the files or the options:{examples}{more}"
    )


def _classes(
    source: Source | StreamingSource, kept: Sequence[str], tallies: Mapping[str, Tally], mode: Mode
) -> dict[str, ClassStats]:
    images: dict[str, int] = {}
    for name in kept:
        group = source.class_of(name)
        if group is not None:
            images[group] = images.get(group, 0) + 1
    classes: dict[str, ClassStats] = {}
    for group, count in sorted(images.items()):
        moments = in_mode(tallies[group].counted, mode).pixels.moments() if tallies else None
        name, one = shown(group), ClassStats(count, moments)
        # Two names may look the same, where one holds a byte that is not UTF-8.
        classes[name] = classes[name] + one if name in classes else one
    return classes
