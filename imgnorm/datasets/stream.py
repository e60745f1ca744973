"""Images that come one after the other, once, as a source: an iterable, or a loader's batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children
from typing import Any

from PIL import Image

from imgnorm.datasets.counter import ItemCounter
from imgnorm.datasets.items import ItemFormat, check_first_item, image_count, images_in
from imgnorm.datasets.source import StreamResult
from imgnorm.errors import SourceError
from imgnorm.pixels.buffer import Device, Sender
from imgnorm.progress import Progress
from imgnorm.settings import ImageSettings, Limits
from imgnorm.sources.names import NumberedNames, Run
from imgnorm.sources.source import Listing
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.tally.tally import Tally
from imgnorm.wording import describe

_END = object()


@dataclass(frozen=True)
class StreamSource:
    """Images that come one after the other, once. Their names are their places in the stream."""

    kind: str  # iterable; dataset, if a loader reads one
    ref: str
    items: Iterable[Any]
    item_format: ItemFormat
    promised: int | None = None  # images, by len()
    promised_items: int | None = None  # items, where the number of images is unknown
    dropped: int = 0  # images that drop_last leaves out
    notes: tuple[str, ...] = ()
    explain: Callable[[Exception], str] = describe

    @property
    def options(self) -> dict[str, str | int]:
        return {} if self.item_format.key is None else {"key": str(self.item_format.key)}

    def class_of(self, name: str) -> str | None:
        return None

    def read_all(
        self,
        settings: ImageSettings,
        limits: Limits,
        limit: int | None,
        on_progress: Callable[[Progress], None],
        device: Device | None = None,
    ) -> StreamResult:
        """All images, or the first `limit`.

        Raises:
            SourceError: nothing came, the first item is not an image, or the iteration itself failed.
            DeviceError: the device failed.
        """
        sender = Sender(device) if device else None
        counter = ItemCounter(settings, limits.max_pixels, sender=sender)
        digits = len(str(max(0, self.promised - 1))) if self.promised else 1
        came = items = 0
        with children_end_at_once():
            iterator = self._next(lambda: iter(self.items), came)
            while (item := self._next(lambda: next(iterator, _END), came)) is not _END:
                items += 1
                if items == 1 and item is not None:
                    check_first_item(item, self.item_format, settings, self.ref)
                try:
                    found = images_in(item, self.item_format)
                except Unreadable as fault:
                    counter.skip(_places(came, 1, digits)[0], fault)
                    came += 1
                    continue
                for images in found:
                    count = image_count(images)
                    if limit is not None and came + count > limit:
                        count = limit - came
                        images = images if isinstance(images, Image.Image) else images[:count]
                    if count:
                        counter.add(images, _places(came, count, digits))
                        came += count
                on_progress(Progress(came, self._total(limit), 0))
                if limit is not None and came >= limit:
                    break
        tally = counter.tally()
        if sender:
            tally += sender.taken().get("", Tally())
        return self._result(tally, came, items, digits, limit)

    def _next(self, step: Callable[[], Any], came: int) -> Any:
        try:
            return step()
        except Exception as error:  # a user's code may raise anything
            raise SourceError(
                f"{self.ref}: failed after {came:,} images: {self.explain(error)}"
            ) from error

    def _total(self, limit: int | None) -> int | None:
        known = [number for number in (limit, self.promised) if number is not None]
        return min(known) if known else None

    def _result(
        self, tally: Tally, came: int, items: int, digits: int, limit: int | None
    ) -> StreamResult:
        """The tally, with the names that came, and notes about those that did not."""
        if not came:
            once = (
                "; an iterator is empty after its first reading: make a new one"
                if iter(self.items) is self.items
                else ""
            )
            raise SourceError(f"{self.ref}: no images came{once}")
        whole = limit is None or came < limit or came == self.promised
        notes = list(self.notes)
        missing: list[Skipped] = []
        ignored: dict[str, int] = {}
        if self.promised is not None:
            if came > self.promised:
                notes.append(_too_many(self.ref, self.promised, came))
            detail = f"{self.promised:,} images were promised, and {came:,} came"
            lost = max(0, self.promised - came)
        else:
            detail = f"len() is {self.promised_items}, but {items:,} came"
            lost = max(0, (self.promised_items or 0) - items)
        if not whole:
            ignored = {"limit": self.promised - came} if self.promised else {}
        else:
            missing = [
                Skipped(name, Reason.VANISHED, detail) for name in _places(came, lost, digits)
            ]
            if self.dropped:
                ignored = {"drop-last": self.dropped}
                images = "1 image" if self.dropped == 1 else f"{self.dropped:,} images"
                notes.append(
                    f"{self.ref}: drop_last=True left {images} out, which these numbers lack; "
                    "measure with drop_last=False"
                )
        listing = Listing(
            _places(0, came, digits),
            tuple(missing),
            {rule: count for rule, count in ignored.items() if count},
        )
        return StreamResult(listing, tally, not whole, tuple(notes))


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


def _places(start: int, count: int, digits: int) -> Sequence[str]:
    """Places in a stream, with leading zeros: so their order as text is their order."""
    if count < 2:
        return [f"{start:0{digits}d}"] * count
    return NumberedNames([Run("", range(start, start + count), digits)])


def _too_many(ref: str, promised: int, came: int) -> str:
    return (
        f"{ref}: {promised:,} images were promised, and {came:,} came; each worker gives all of an "
        "IterableDataset that does not ask get_worker_info()"
    )
