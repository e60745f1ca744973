"""Images that come one after the other, once, as a source: an iterable, or a loader's batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import active_children
from typing import Any

from PIL import Image

from imgnorm.datasets.counter import ItemCounter
from imgnorm.datasets.executor import note_time, sender_of, sent_by
from imgnorm.datasets.items import ItemFormat, check_first_item, image_count, images_in
from imgnorm.errors import SourceError
from imgnorm.progress import Progress
from imgnorm.sources.names import NumberedNames, Run, looked_at
from imgnorm.sources.source import Source, Unit
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.tally.tally import Tally, TallySum
from imgnorm.wording import describe, plural
from imgnorm.workers.executor import Executor, Work

_END = object()


@dataclass(frozen=True)
class Promise:
    """What is known of a stream before it is read."""

    images: int | None = None  # by len()
    items: int | None = None  # by len(), where the number of images is unknown
    dropped: int = 0  # images that drop_last leaves out
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class StreamSource(Source):
    """Images that come one after the other, once. Their names are their places in the stream.

    `options` and `notes` are complete once it was read.
    """

    kind: str  # iterable; dataset, if a loader reads one
    ref: str
    items: Iterable[Any]
    item_format: ItemFormat
    promise: Promise = Promise()
    explain: Callable[[Exception], str] = describe
    limit: int | None = None

    once = True
    made_here = True

    def __post_init__(self) -> None:
        key = self.item_format.key
        self.options = {} if key is None else {"key": str(key)}

    def units(self) -> Iterator[Unit]:
        yield Unit("all")

    def first(self, images: int) -> StreamSource:
        return replace(self, limit=images)

    def executor(self, work: Work) -> Executor:
        def count(units: Iterable[Unit], on_progress: Callable[[Progress], None]) -> Tally:
            (_,) = units
            whole = TallySum(work.take_rows)
            whole.add(self.read_all(work, on_progress))
            tally = whole.tally()
            note_time(work.profile, "count")
            return tally

        return count

    def read_all(self, work: Work, on_progress: Callable[[Progress], None]) -> Tally:
        """The tally of all images, or of the first ones.

        Raises:
            SourceError: nothing came, the first item is not an image, or the iteration itself failed.
            DeviceError: the device failed.
        """
        sender = sender_of(work)
        counter = ItemCounter(work, sender)
        came = items = 0
        with children_end_at_once():
            iterator = self._next(lambda: iter(self.items), came)
            while (item := self._next(lambda: next(iterator, _END), came)) is not _END:
                items += 1
                if items == 1 and item is not None:
                    check_first_item(item, self.item_format, work.digits.settings, self.ref)
                try:
                    found = images_in(item, self.item_format)
                except Unreadable as fault:
                    counter.add(fault, self._places(came, 1))
                    came += 1
                    continue
                for images in found:
                    count = image_count(images)
                    if self.limit is not None and came + count > self.limit:
                        count = self.limit - came
                        images = images if isinstance(images, Image.Image) else images[:count]
                    if count:
                        counter.add(images, self._places(came, count))
                        came += count
                if work.take_rows:
                    work.take_rows(counter.taken_rows())
                on_progress(Progress(came, self._total, 0))
                if self.limit is not None and came >= self.limit:
                    break
        if not came:
            once = (
                "; an iterator is empty after its first reading: make a new one"
                if iter(self.items) is self.items
                else ""
            )
            raise SourceError(f"{self.ref}: no images came{once}")
        tally = looked_at(counter.tally() + sent_by(sender), self._places(0, came), self.class_of)
        return tally + self._not_read(came, items)

    def _next(self, step: Callable[[], Any], came: int) -> Any:
        try:
            return step()
        except Exception as error:  # a user's code may raise anything
            raise SourceError(
                f"{self.ref}: failed after {plural(came, 'image')}: {self.explain(error)}"
            ) from error

    @property
    def _total(self) -> int | None:
        known = [number for number in (self.limit, self.promise.images) if number is not None]
        return min(known) if known else None

    def _not_read(self, came: int, items: int) -> Tally:
        """What was promised and did not come, as skipped or ignored; notes about it go to `notes`."""
        promise = self.promise
        notes = list(promise.notes)
        self.notes = notes
        if promise.images is not None and came > promise.images:
            notes.append(_too_many(self.ref, promise.images, came))
        if self.limit is not None and came >= self.limit and came != promise.images:
            self.options = {**self.options, "limit": self.limit}
            beyond = (promise.images or 0) - came
            return Tally(ignored={"limit": beyond} if beyond > 0 else {})
        if promise.images is not None:
            detail = f"{promise.images:,} images were promised, and {came:,} came"
            lost = max(0, promise.images - came)
        else:
            detail = f"len() is {promise.items}, but {items:,} came"
            lost = max(0, (promise.items or 0) - items)
        if promise.dropped:
            notes.append(
                f"{self.ref}: drop_last=True left {plural(promise.dropped, 'image')} out, which these numbers lack; "
                "measure with drop_last=False"
            )
        missing = (Skipped(name, Reason.VANISHED, detail) for name in self._places(came, lost))
        ignored = {"drop-last": promise.dropped} if promise.dropped else {}
        return Tally(skipped=tuple(missing), ignored=ignored)

    def _places(self, start: int, count: int) -> Sequence[str]:
        """Places in a stream, with leading zeros: so their order as text is their order."""
        digits = len(str(max(0, (self.promise.images or 0) - 1)))
        if count < 2:
            return [f"{start:0{digits}d}"] * count
        return NumberedNames([Run("", range(start, start + count), digits)])


@contextmanager
def children_end_at_once() -> Iterator[None]:
    """When a signal ends this process, also ends the processes that the user's code started meanwhile.

    A DataLoader would wait five seconds for its workers.
    """
    before = set(active_children())
    try:
        yield
    except Exception:
        raise
    except BaseException:
        for process in set(active_children()) - before:
            process.terminate()
        raise


def _too_many(ref: str, promised: int, came: int) -> str:
    return (
        f"{ref}: {promised:,} images were promised, and {came:,} came; each worker gives all of an "
        "IterableDataset that does not ask get_worker_info()"
    )
