"""The sizes of all images of a source, before any of them is decoded.

They may be the same for all: those of an array, or after a crop. Else each stands in the header of its file,
and workers read those.
"""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter

from imgnorm.errors import SourceError, SourceWarning
from imgnorm.measuring.routes import executing
from imgnorm.measuring.selection import spread
from imgnorm.progress import Progress
from imgnorm.settings import NVJPEG, SizesOption, fix_size
from imgnorm.sources.listing import AllNames
from imgnorm.sources.names import as_text
from imgnorm.sources.source import Source, Unit
from imgnorm.tally.rows import rows_in
from imgnorm.tally.skipped import Skipped, Unreadable
from imgnorm.tally.tally import Tally
from imgnorm.workers.executor import Executor, Work

_TIMED = 1000
"""The headers of so many images show how long those of all take."""
_MOST_SECONDS = 60
_BATCH = 1 << 16  # headers that are asked for at once: their names are in memory twice


@dataclass(frozen=True)
class KnownSizes:
    """How many pixels each image has, after preprocessing."""

    images: int  # that have pixels, as far as headers show
    pixels: Sequence[int] | None = None  # by index; 0 where a header shows none. None: all the same
    unreadable: tuple[Skipped, ...] = ()  # images without a header that can be read
    same: int | None = None  # the pixels of each, if all headers show the same

    def share(self, index: int) -> float:
        """The part of all pixels that an image has."""
        return self.pixels[index] / self._whole if self.pixels else 1 / self.images

    def is_of(self, index: int, pixels: int) -> bool:
        """Whether an image has so many pixels."""
        header = self.pixels[index] if self.pixels else self.same
        return header in (None, pixels)

    @cached_property
    def _whole(self) -> int:
        return sum(self.pixels or ())


def known_sizes(
    source: Source,
    names: AllNames,
    sizes: SizesOption | None,
    work: Work,
    on_progress: Callable[[Progress], None],
) -> KnownSizes | None:
    """The sizes of these images; None if they are to be sampled.

    Args:
        sizes: "exact" reads the headers of all images, where they are needed, "sampled" none; None: those of
            all images, if a few show that this takes a minute at most.

    Raises:
        SourceError: they are to be exact, and there are no headers.

    Warns:
        SourceWarning: there are too many headers.
    """
    if sizes == "sampled" or work.decoder == NVJPEG:  # a device counts many images at once
        return None
    steps = work.digits.settings.preprocess
    if fix_size(steps):
        return KnownSizes(len(names))
    found = [source.size_of(unit) for unit in names.units]
    shown = [size for size in found if size]
    if shown and len(shown) == len(found):
        return _of_units(names, shown, work)
    if type(source).executor is not Source.executor:  # its images are not encoded files
        if sizes:
            raise SourceError(
                f"{as_text(source.ref)}: its images have no headers that show their sizes; leave --sizes out, "
                "or preprocess them to one size"
            )
        return None
    return _HeaderPass(source, names, work, on_progress).read(demanded=sizes == "exact")


def _of_units(names: AllNames, sizes: Sequence[tuple[int, int]], work: Work) -> KnownSizes | None:
    from imgnorm.pixels.preprocess import size_after  # imports Pillow

    pixels: list[int] = []
    for size in sizes:
        try:
            width, height = size_after(
                work.digits.settings.preprocess, size, work.digits.max_pixels
            )
        except Unreadable:  # as images of arrays, they will all be skipped
            return None
        pixels.append(width * height)
    if len(set(pixels)) == 1:
        return KnownSizes(len(names))
    each = array("Q")
    for unit, count in zip(names.units, pixels, strict=True):
        each.extend([count] * len(unit))
    return KnownSizes(len(names), [each[position] for position in names.order])


class _HeaderPass:
    """Reads headers, in worker processes where the source allows it."""

    def __init__(
        self,
        source: Source,
        names: AllNames,
        work: Work,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._source = source
        self._names = names
        digits = replace(work.digits, sizes=True)
        self._work = replace(work, digits=digits, device=None, cluster=None)
        self._on_progress = on_progress

    def read(self, *, demanded: bool) -> KnownSizes | None:
        """The sizes of all images; None if that would take too long, and nobody demands it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SourceWarning)  # counting gives the same ones
            with executing(self._source, self._work, len(self._names)) as count:
                if demanded or (seconds := self._seconds(count)) <= _MOST_SECONDS:
                    return self._read_all(count)
        warnings.warn(
            f"{as_text(self._source.ref)}: reading the sizes of {len(self._names):,} images would take about "
            f"{seconds:,.0f} s, so the error bars hold if sizes are like those seen; with --sizes exact, all "
            "are read",
            SourceWarning,
            stacklevel=6,
        )
        return None

    def _seconds(self, count: Executor) -> float:
        """How long the headers of all images take."""
        images = len(self._names)
        if images <= _TIMED:
            return 0.0
        self._read(count, self._names.only(range(1)), 0)  # the workers start
        started = perf_counter()
        self._read(count, self._names.only(spread(images, _TIMED)), 0)
        return (perf_counter() - started) * images / _TIMED

    def _read_all(self, count: Executor) -> KnownSizes:
        pixels = array("Q")
        unreadable: list[Skipped] = []
        for units in _batches(self._names.units):
            tally = self._read(count, units, len(pixels))
            found = {row.name: row.pixels for data in tally.rows for row in rows_in(data)}
            for unit in units:
                pixels.extend(found.get(name, 0) for name in unit.names or ())
            unreadable += tally.skipped
        order = self._names.order
        if not isinstance(order, range):
            pixels = array("Q", [pixels[position] for position in order])
        if len(set(pixels)) == 1 and pixels[0]:
            return KnownSizes(len(pixels), same=pixels[0])
        return KnownSizes(len(pixels) - pixels.count(0), pixels, tuple(unreadable))

    def _read(self, count: Executor, units: Iterable[Unit], before: int) -> Tally:
        total = len(self._names)

        def on_progress(progress: Progress) -> None:
            self._on_progress(Progress(before + progress.done, total, 0, doing="reading sizes"))

        return count(units, on_progress)


def _batches(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    batch: list[Unit] = []
    images = 0
    for unit in units:
        batch.append(unit)
        images += len(unit)
        if images >= _BATCH:
            yield batch
            batch, images = [], 0
    if batch:
        yield batch
