"""A source and options -> how its images are counted: by worker processes, by threads, or in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imgnorm.datasets.source import ArraySource, CountingSource, StreamingSource
from imgnorm.errors import SourceError
from imgnorm.machine import usable_cores
from imgnorm.progress import Profile, Progress
from imgnorm.settings import NVJPEG, Decoder, ImageSettings, Limits
from imgnorm.sources.names import as_text
from imgnorm.sources.source import BlockSource, EncodedSource, Source
from imgnorm.tally.tally import Tally
from imgnorm.workers.pool import Scan, scanning

if TYPE_CHECKING:
    from imgnorm.pixels.buffer import Device

MADE_HERE = "the user's own Python makes the images: `count` is its time, too"
_MADE_BY_WORKERS = (
    "the workers are a DataLoader's, which does not report their time: main waits for them"
)
_WHY_IDLE = {
    "shard": "its images come one after the other, without names; shard the dataset itself",
    "per_class": "its images come without the names of classes; measure the dataset itself",
    "keep_names": "its images come without names; measure the dataset itself",
    "tolerance": "its images come in an order of their own, which is not a random sample; measure the "
    "dataset itself",
    "workers": "the user's own Python reads it; give num_workers to its DataLoader, if it has one",
    "timeout_s": "it is read in this process, where nothing can be interrupted",
    "decoder": "the user's own Python decodes its images",
    "device": "with workers, the processes that make the images count them; or leave out workers, and "
    "measure a DataLoader of the dataset",
}


@contextmanager
def counting(
    source: Source,
    settings: ImageSettings,
    limits: Limits,
    *,
    images: int,
    workers: int | None = None,
    decoder: Decoder = "auto",
    device: Device | None = None,
    cross_sums: bool = False,
    profile: Profile | None = None,
) -> Iterator[Scan]:
    """A function that counts groups of a source's names, once or more often.

    Args:
        images: how many images it is called for at most; no more workers are started.

    Raises:
        SourceError: the source yields no images, or none that the settings can be applied to.
    """
    share = usable_cores() if workers is None else workers
    if isinstance(source, ArraySource) and source.holds_pixels(settings):
        yield _count_in_memory(source, share, device, cross_sums, profile)
    elif isinstance(source, ArraySource) and (pictures := source.pictures()):
        from imgnorm.datasets.threads import counting_in_threads

        yield counting_in_threads(
            pictures,
            settings,
            limits,
            threads=share,
            device=device,
            cross_sums=cross_sums,
            profile=profile,
        )
    elif isinstance(source, CountingSource):
        source.check(settings)
        yield _count_user_items(source, settings, limits, workers, device, cross_sums, profile)
    elif isinstance(source, EncodedSource):
        with scanning(
            source,
            settings,
            limits,
            workers=min(share, max(1, images)),
            decoder=decoder,
            device=device,
            cross_sums=cross_sums,
            profile=profile,
        ) as scan:
            yield scan
        if profile and source.kind == "torchvision":
            profile.note = "the dataset opens its images itself: `read` may include decoding"
    else:
        raise TypeError(f"{source!r} is not a source: it has neither read() nor count()")


def refuse_idle(
    opened: Source | StreamingSource,
    settings: ImageSettings,
    limits: Limits,
    *,
    decoder: Decoder = "auto",
    device: str = "cpu",
    **by_name: object,
) -> None:
    """Refuse options that would do nothing for this source.

    Args:
        by_name: the options for images that have names; images of a stream have none.

    Raises:
        SourceError: some are given.
    """
    if not isinstance(opened, (CountingSource, StreamingSource)):
        encoded = not isinstance(opened, BlockSource) and opened.kind != "torchvision"
        if decoder == NVJPEG and not encoded:
            raise SourceError(
                f"{as_text(opened.ref)}: holds no JPEG files; leave out decoder {NVJPEG}"
            )
        if decoder != "auto" and isinstance(opened, BlockSource):
            raise SourceError(
                f"{as_text(opened.ref)}: holds pixels, which nothing decodes; leave out decoder {decoder}"
            )
        return
    in_memory = isinstance(opened, ArraySource) and opened.holds_pixels(settings)
    in_threads = isinstance(opened, ArraySource) and opened.pictures() is not None
    by_workers = isinstance(opened, CountingSource) and by_name.get("workers") is not None
    given = {
        **(by_name if isinstance(opened, StreamingSource) else {}),
        "timeout_s": limits.timeout_s != Limits.timeout_s and not in_memory,
        "decoder": decoder != "auto",
        "device": device not in ("cpu", "auto") and by_workers and not in_threads,
    }
    faults = [f"{name}: {_WHY_IDLE[name]}" for name, value in given.items() if value]
    if faults:
        raise SourceError(f"{as_text(opened.ref)}: leave out " + "; and ".join(faults))


def _count_in_memory(
    source: ArraySource,
    threads: int,
    device: Device | None,
    cross_sums: bool,
    profile: Profile | None,
) -> Scan:
    """Counts pixels where they are in memory."""

    def count(
        groups: Mapping[str, Sequence[str]], on_progress: Callable[[Progress], None]
    ) -> dict[str, Tally]:
        tallies = {
            group: source.count(names, cross_sums=cross_sums, device=device, threads=threads)
            for group, names in groups.items()
        }
        if profile:
            profile.lap("count")
            profile.note = "pixels in memory: `count` reads them, too, and nothing is decoded"
        return tallies

    return count


def _count_user_items(
    source: CountingSource,
    settings: ImageSettings,
    limits: Limits,
    workers: int | None,
    device: Device | None,
    cross_sums: bool,
    profile: Profile | None,
) -> Scan:
    """Counts what the user's own Python makes, in this process or in a DataLoader's workers."""

    def count(
        groups: Mapping[str, Sequence[str]], on_progress: Callable[[Progress], None]
    ) -> dict[str, Tally]:
        if workers is None:
            tallies = source.tallies(
                groups, settings, limits, on_progress, cross_sums=cross_sums, device=device
            )
        else:
            from imgnorm.datasets.indexed import IndexedSource
            from imgnorm.datasets.loader import tallies_in_workers

            assert isinstance(source, IndexedSource)
            tallies = tallies_in_workers(
                source,
                groups,
                settings,
                limits,
                on_progress,
                workers=workers,
                cross_sums=cross_sums,
            )
        if profile:
            profile.lap("count" if workers is None else "wait")
            profile.note = MADE_HERE if workers is None else _MADE_BY_WORKERS
        return tallies

    return count
