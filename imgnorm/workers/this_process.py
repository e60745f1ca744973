"""An executor in this process, for a source that worker processes cannot have."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from imgnorm.progress import Progress, no_lap
from imgnorm.sources.source import Reread, Source, Unit
from imgnorm.tally.skipped import Unreadable
from imgnorm.tally.tally import Tally, TallySum
from imgnorm.workers.executor import Executor, Work

if TYPE_CHECKING:
    from imgnorm.pixels.count import Counting


def reason_to_stay(source: Source) -> str | None:
    """Why worker processes cannot have this source, and what to do; None if they can.

    They import the module of its class, but not the program that measures: that would run it again.
    """
    kind = type(source)
    if kind.__module__ == "__main__":
        return (
            f"{kind.__qualname__} is defined in the program itself; move it to a module of its own"
        )
    if not kind.__module__.startswith("imgnorm."):
        try:
            pickle.Pickler(_Nowhere(), pickle.HIGHEST_PROTOCOL).dump(source)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            return f"it cannot be pickled ({error}); leave what is open out of its state"
    return None


class _Nowhere:
    """A file that keeps nothing: the pickle of a source may take gigabytes."""

    def write(self, data: bytes) -> int:
        return len(data)


def in_this_process(source: Source, work: Work) -> Executor:
    """Counts one unit after the other. An image that takes for ever, or ends its process, ends the scan."""

    def scan(units: Iterable[Unit], on_progress: Callable[[Progress], None]) -> Tally:
        counting = _counting(source, work)
        source.keep_alive(lambda: None)
        whole = TallySum(work.take_rows)
        for unit in _each_alone(units) if work.each else units:
            before, read = whole.names, whole.bytes_read

            def on_unit(
                images: int, bytes_read: int, before: int = before, read: int = read
            ) -> None:
                on_progress(Progress(before + images, None, read + bytes_read))

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's are about metadata and palettes
                tally = _counted(source, unit, counting, on_unit)
            whole.add(tally)
            if work.each:
                work.each(tally)
        on_progress(Progress(whole.names, whole.names, whole.bytes_read))
        return whole.tally()

    return scan


def _each_alone(units: Iterable[Unit]) -> Iterator[Unit]:
    """Units of one image each."""
    return (unit.part(place, place + 1) for unit in units for place in range(len(unit)))


def _counting(source: Source, work: Work) -> Counting:
    from imgnorm.pixels.count import Counting  # imports NumPy and Pillow
    from imgnorm.pixels.jpeg import jpeg_decoder_of

    jpeg, _ = jpeg_decoder_of(work.decoder)
    return Counting(
        work.digits,
        class_of=source.class_of,
        jpeg=jpeg,
        lap=work.profile.lap if work.profile else no_lap,
    )


def _counted(
    source: Source, unit: Unit, counting: Counting, on_progress: Callable[[int, int], None]
) -> Tally:
    try:
        return _counted_once(source, unit, counting, on_progress)
    except Reread:
        try:
            listing = source.listed(unit)
        except Unreadable as fault:
            return Tally(skipped=(fault.skipped(unit.id),))
        return Tally(skipped=listing.skipped, ignored=listing.ignored) + _counted_once(
            source, listing.unit, counting, on_progress
        )


def _counted_once(
    source: Source, unit: Unit, counting: Counting, on_progress: Callable[[int, int], None]
) -> Tally:
    from imgnorm.pixels.count import UnitEntries, count

    entries = UnitEntries(source, unit, singly=bool(counting.digits.settings.preprocess))
    part, finished = TallySum(), False
    while not finished:
        job = count(entries, counting)
        part.add(job.tally)
        on_progress(part.names, part.bytes_read)
        finished = job.finished
    return part.tally()
