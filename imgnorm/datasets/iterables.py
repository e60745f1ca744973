"""Images that a user's own Python hands out: an indexed Dataset image by image, all else as a stream.

torch is not imported here: lists and generators of arrays or PIL images are measured without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing import active_children
from typing import Any

from PIL import Image

from imgnorm.datasets.counter import ItemCounter
from imgnorm.datasets.items import Reading, images_in, images_of, is_pixels
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
_NOT_A_SOURCE = "neither a path nor a Dataset, a DataLoader or another iterable of images"
_MOST = 200_000_000  # images of a Dataset, whose names take 200 bytes each
_PER_JOB = 64  # images of one job: few enough to tell of progress and to stop

Job = tuple[str, Sequence[str]]
"""A group, and some names of it."""


class IndexedSource:
    """The images of a Dataset of map style: `dataset[i]` for each i below `len(dataset)`.

    Args:
        ref: what the user called it, if not by its class.
    """

    kind = "dataset"

    def __init__(self, dataset: Any, reading: Reading, ref: str | None = None) -> None:
        self.dataset = dataset
        self.reading = replace(reading, single=True)
        self._ref = ref

    @property
    def ref(self) -> str:
        return self._ref or called(self.dataset)

    @property
    def options(self) -> dict[str, str | int]:
        return {} if self.reading.key is None else {"key": str(self.reading.key)}

    def listing(self) -> Listing:
        """The paths of the images where the dataset keeps them, as ImageFolder does; else index numbers.

        Raises:
            SourceError: it is empty, or does not tell how many images it has.
        """
        if not self._size:
            raise SourceError(f"{self.ref}: is empty; give it images")
        return Listing(sorted(self._indices, key=os.fsencode))

    def index_of(self, name: str) -> int:
        return self._indices[name]

    def class_of(self, name: str) -> str | None:
        if self._labels is None or self._class_names is None:
            return None
        label = self._labels[self._indices[name]]
        return self._class_names[label] if 0 <= label < len(self._class_names) else None

    def check(self, settings: ImageSettings) -> None:
        """Whether its items are images at all; better told now than after an hour."""
        try:
            item = self._item(min(self._indices, key=os.fsencode))
        except Unreadable:  # one broken image, maybe: the count will name it
            return
        if item is not None:
            _check(item, self.reading, settings, self.ref)

    def tallies(
        self,
        groups: Mapping[str, Sequence[str]],
        settings: ImageSettings,
        limits: Limits,
        on_progress: Callable[[Progress], None],
        *,
        cross_sums: bool = False,
        device: Device | None = None,
    ) -> dict[str, Tally]:
        """The tally of each group of names.

        Raises:
            DeviceError: the device failed.
        """
        jobs = self.jobs(groups)
        sender = Sender(device, cross_sums=cross_sums) if device else None
        counted = (
            self.count_items(names, settings, limits, cross_sums, sender, group)
            for group, names in jobs
        )
        tallies = added(jobs, counted, groups, on_progress)
        for group, tally in sender.taken().items() if sender else ():
            tallies[group] += tally
        return tallies

    def jobs(self, groups: Mapping[str, Sequence[str]]) -> list[Job]:
        return jobs_of(groups, _PER_JOB)

    def count_items(
        self,
        names: Sequence[str],
        settings: ImageSettings,
        limits: Limits,
        cross_sums: bool,
        sender: Sender | None = None,
        group: str = "",
    ) -> Tally:
        """
        Args:
            sender: has a device count what it can, which is then not in the tally.
            group: of that.
        """
        counter = ItemCounter(
            settings,
            limits.max_pixels,
            cross_sums=cross_sums,
            device_counter=self.reading.device_counter,
            sender=sender,
            group=group,
        )
        for name in names:
            try:
                (images,) = images_in(self._item(name), self.reading)
            except Unreadable as fault:
                counter.skip(name, fault)
            else:
                counter.add(images, [name])
        return counter.tally()

    def _item(self, name: str) -> object:
        try:
            return self.dataset[self._indices[name]]
        except Exception as error:  # a user's code may raise anything
            raise _fault(error) from error

    @cached_property
    def _size(self) -> int:
        try:
            size = len(self.dataset)
        except Exception as error:  # a user's code may raise anything
            why = (
                ""
                if isinstance(error, (NotImplementedError, TypeError))
                else f" ({describe(error)})"
            )
            raise SourceError(
                f"{called(self.dataset)}: does not tell how many images it has{why}; give it a __len__, "
                "or measure it as an iterable"
            ) from error
        if size > _MOST:  # each has a name here; a `__len__` for endless epochs, probably
            raise SourceError(
                f"{called(self.dataset)}: more than {_MOST:,} images are measured as an iterable only: give a "
                "generator, or a Subset of it"
            )
        return size

    @cached_property
    def _indices(self) -> dict[str, int]:
        """Name -> index."""
        digits = len(str(max(0, self._size - 1)))
        numbers = {f"{index:0{digits}d}": index for index in range(self._size)}
        return _paths(self.dataset, self._size) or numbers

    @cached_property
    def _labels(self) -> list[int] | None:
        return labels_of(self.dataset)

    @cached_property
    def _class_names(self) -> list[str] | None:
        return class_names_of(self.dataset)


def jobs_of(groups: Mapping[str, Sequence[str]], at_most: int) -> list[Job]:
    """The groups' names in parts, so many in each."""
    return [
        (group, names[start : start + at_most])
        for group, names in groups.items()
        for start in range(0, len(names), at_most)
    ]


def added(
    jobs: Sequence[Job],
    counted: Iterable[Tally],
    groups: Iterable[str],
    on_progress: Callable[[Progress], None],
) -> dict[str, Tally]:
    """The tally of each group, from those of the jobs, in their order."""
    tallies = {group: Tally() for group in groups}
    total, done = sum(len(names) for _, names in jobs), 0
    for (group, names), tally in zip(jobs, counted, strict=True):
        tallies[group] += tally
        done += len(names)
        on_progress(Progress(done, total, 0))
    return tallies


@dataclass(frozen=True)
class StreamSource:
    """Images that come one after the other, once: an iterable, or a loader's batches.

    Their names are their places in the stream.
    """

    kind: str  # iterable; dataset, if a loader reads one
    ref: str
    items: Iterable[Any]
    reading: Reading
    promised: int | None = None  # how many images len() says that there are
    promised_items: int | None = None  # how many items, where images are not known
    dropped: int = 0  # images that drop_last leaves out
    notes: tuple[str, ...] = ()
    explain: Callable[[Exception], str] = describe

    @property
    def options(self) -> dict[str, str | int]:
        return {} if self.reading.key is None else {"key": str(self.reading.key)}

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
            SourceError: nothing came, the first item is no image, or the iteration itself failed.
            DeviceError: the device failed.
        """
        there = self.reading.device_counter
        sender = Sender(device) if device else None
        counter = ItemCounter(settings, limits.max_pixels, device_counter=there, sender=sender)
        digits = len(str(max(0, self.promised - 1))) if self.promised else 1
        came = items = 0
        with workers_end_at_once():
            iterator = self._next(lambda: iter(self.items), came)
            while (item := self._next(lambda: next(iterator, _END), came)) is not _END:
                items += 1
                if items == 1 and item is not None:
                    _check(item, self.reading, settings, self.ref)
                try:
                    found = images_in(item, self.reading)
                except Unreadable as fault:
                    counter.skip(_places(came, 1, digits)[0], fault)
                    came += 1
                    continue
                for images in found:
                    many = images_of(images)
                    if limit is not None and came + many > limit:
                        images = (
                            images if isinstance(images, Image.Image) else images[: limit - came]
                        )
                        many = limit - came
                    if many:
                        counter.add(images, _places(came, many, digits))
                        came += many
                on_progress(Progress(came, self._total(limit), 0))
                if limit is not None and came >= limit:
                    break
        tally = counter.tally()
        if sender:
            tally += sender.taken().get("", Tally())
        return self._told(tally, came, items, digits, limit)

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

    def _told(
        self, tally: Tally, came: int, items: int, digits: int, limit: int | None
    ) -> StreamResult:
        """What is to be said of what came, and of what did not."""
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
            detail = f"len() says {self.promised_items}, and {items:,} came"
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


def _check(item: object, reading: Reading, settings: ImageSettings, ref: str) -> None:
    """Whether the first item is an image that can be measured as `settings` ask."""
    try:
        first = images_in(item, reading)[0]
    except Unreadable as fault:
        raise SourceError(f"{ref}: the first item is {fault.detail}") from fault
    if settings.preprocess and not isinstance(first, Image.Image):
        raise SourceError(
            f"{ref}: yields {first.dtype} arrays, and only PIL images are resized or cropped here, as torchvision "
            "does it; do it in the dataset, and leave resize and center_crop out"
        )


@contextmanager
def workers_end_at_once() -> Iterator[None]:
    """When a signal ends us, processes that the user's code has started meanwhile end, too.

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


def open_iterable(
    source: Any, reading: Reading, ref: str | None = None
) -> IndexedSource | StreamSource:
    """The source that a user means by an object which is no torch Dataset or DataLoader.

    Args:
        ref: what the user called it, if not by its class.

    Raises:
        TypeError: it is nothing of the kind.
        SourceError: it cannot tell its images.
    """
    if isinstance(source, Image.Image) or is_pixels(source):
        return StreamSource("iterable", ref or type(source).__name__, [source], reading)
    if isinstance(source, Mapping):
        raise SourceError(
            f"{called(source)}: is a dict, whose images have no order; measure one of its values, or "
            "`[source]` if it is a batch"
        )
    if isinstance(source, (type, bytes, bytearray)):
        raise TypeError(f"{source!r} is {_NOT_A_SOURCE}")
    builtin = isinstance(source, (list, tuple))
    if not builtin and hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return IndexedSource(source, reading, ref)
    if isinstance(source, Iterable):
        return StreamSource(
            "iterable", ref or called(source), source, reading, promised_items=length(source)
        )
    raise TypeError(f"{source!r} is {_NOT_A_SOURCE}")


def called(source: Any) -> str:
    """An object as a person calls it: its class, and how many it has."""
    name = getattr(source, "__name__", None) if isinstance(source, Iterator) else None
    kind = type(source).__name__
    many = length(source)
    return (f"{kind} {name}" if name else kind) + (f"[{many}]" if many is not None else "")


def labels_of(dataset: Any) -> list[int] | None:
    """The label of each item; None where they have none, or one that is no number: boxes, masks."""
    for attribute in ("targets", "labels"):
        labels = getattr(dataset, attribute, None)
        if labels is None:
            continue
        try:
            if len(labels) == len(dataset):
                return [int(label) for label in labels]
        except (TypeError, ValueError, RuntimeError):
            return None
    return None


def class_names_of(dataset: Any) -> list[str] | None:
    classes = getattr(dataset, "classes", None)
    return [str(name) for name in classes] if isinstance(classes, (list, tuple)) else None


def _paths(dataset: Any, size: int) -> dict[str, int] | None:
    """Relative path -> index, of a dataset that keeps its files in `samples` or `imgs`."""
    samples = getattr(dataset, "samples", None) or getattr(dataset, "imgs", None)
    root = getattr(dataset, "root", None)
    if not isinstance(samples, (list, tuple)) or len(samples) != size or not root:
        return None
    paths: dict[str, int] = {}
    for index, sample in enumerate(samples):
        path = sample[0] if isinstance(sample, (tuple, list)) and sample else sample
        if not isinstance(path, (str, os.PathLike)):
            return None
        name = os.path.relpath(path, root).replace(os.sep, "/")
        if name.startswith("../"):
            return None
        paths[name] = index
    return paths if len(paths) == size else None


def _places(start: int, many: int, digits: int) -> Sequence[str]:
    """Places in a stream, with zeros in front, so that their order as text is their order."""
    if many < 2:
        return [f"{start:0{digits}d}"] * many
    return NumberedNames([Run("", range(start, start + many), digits)])


def length(source: Any) -> int | None:
    try:
        return len(source)
    except Exception:  # noqa: BLE001 - none, or the user's code failed, which may raise anything
        return None


def _too_many(ref: str, promised: int, came: int) -> str:
    return (
        f"{ref}: {promised:,} images were promised, and {came:,} came; an IterableDataset that does not "
        "ask get_worker_info() comes whole from each worker"
    )


def _fault(error: Exception) -> Unreadable:
    """Why a Dataset could not give an item."""
    reason = Reason.CORRUPT
    if isinstance(error, MemoryError):
        return Unreadable(Reason.OUT_OF_MEMORY, "not enough memory for it")
    if isinstance(error, Image.DecompressionBombError):
        reason = Reason.TOO_LARGE
    elif isinstance(error, FileNotFoundError):
        reason = Reason.VANISHED
    elif isinstance(error, PermissionError):
        reason = Reason.UNREADABLE
    elif "truncated" in str(error).lower():
        reason = Reason.TRUNCATED
    return Unreadable(reason, describe(error))
