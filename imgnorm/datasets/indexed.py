"""A Dataset of map style as a source: any object with `dataset[i]` and `len(dataset)`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from PIL import Image

from imgnorm.datasets.attributes import class_names_of, labels_of, paths_of, ref_of
from imgnorm.datasets.counter import ItemCounter
from imgnorm.datasets.items import ItemFormat, check_first_item, images_in
from imgnorm.datasets.jobs import GroupJob, jobs_of, sum_by_group
from imgnorm.errors import SourceError
from imgnorm.pixels.buffer import Device, Sender
from imgnorm.progress import Progress
from imgnorm.settings import ImageSettings, Limits
from imgnorm.sources.source import Listing
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.tally.tally import Tally
from imgnorm.wording import describe

_MOST = 200_000_000  # images of a Dataset: each name takes 200 bytes
_PER_JOB = 64  # images of a job: progress is reported, and Ctrl-C obeyed, after each job


class IndexedSource:
    """The images of a Dataset of map style: `dataset[i]` for each i below `len(dataset)`.

    Args:
        ref: the user's name for it; by default, its class and length.
    """

    kind = "dataset"

    def __init__(self, dataset: Any, item_format: ItemFormat, ref: str | None = None) -> None:
        self.dataset = dataset
        self.item_format = replace(item_format, single=True)
        self._ref = ref

    @property
    def ref(self) -> str:
        return self._ref or ref_of(self.dataset)

    @property
    def options(self) -> dict[str, str | int]:
        return {} if self.item_format.key is None else {"key": str(self.item_format.key)}

    def listing(self) -> Listing:
        """The relative paths of the images if the dataset lists them, as ImageFolder does; else numbers.

        Raises:
            SourceError: it is empty, or does not report how many images it has.
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
        """Looks at the first item, so that a wrong source fails now and not after an hour.

        Raises:
            SourceError: it is not an image that can be measured with these settings.
        """
        try:
            item = self._item(min(self._indices, key=os.fsencode))
        except Unreadable:  # this image may be the only broken one: the count lists it as skipped
            return
        if item is not None:
            check_first_item(item, self.item_format, settings, self.ref)

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
        tallies = sum_by_group(jobs, counted, groups, on_progress)
        for group, tally in sender.taken().items() if sender else ():
            tallies[group] += tally
        return tallies

    def jobs(self, groups: Mapping[str, Sequence[str]]) -> list[GroupJob]:
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
            sender: has a device count 8-bit arrays; the sender's tally has them then, not this one.
            group: the group that the names belong to.
        """
        counter = ItemCounter(
            settings, limits.max_pixels, cross_sums=cross_sums, sender=sender, group=group
        )
        for name in names:
            try:
                (images,) = images_in(self._item(name), self.item_format)
            except Unreadable as fault:
                counter.skip(name, fault)
            else:
                counter.add(images, [name])
        return counter.tally()

    def _item(self, name: str) -> object:
        try:
            return self.dataset[self._indices[name]]
        except Exception as error:  # a user's code may raise anything
            raise _unreadable(error) from error

    @cached_property
    def _size(self) -> int:
        try:
            size = len(self.dataset)
        except Exception as error:  # a user's code may raise anything
            missing = isinstance(error, (NotImplementedError, TypeError))
            why = "" if missing else f" ({describe(error)})"
            raise SourceError(
                f"{ref_of(self.dataset)}: does not report how many images it has{why}; give it a __len__, "
                "or measure it as an iterable"
            ) from error
        if size > _MOST:  # probably a `__len__` that stands for endless epochs
            raise SourceError(
                f"{ref_of(self.dataset)}: more than {_MOST:,} images can only be measured as an iterable: "
                "give a generator, or a Subset of it"
            )
        return size

    @cached_property
    def _indices(self) -> dict[str, int]:
        """Name -> index."""
        digits = len(str(max(0, self._size - 1)))
        numbers = {f"{index:0{digits}d}": index for index in range(self._size)}
        return paths_of(self.dataset, self._size) or numbers

    @cached_property
    def _labels(self) -> list[int] | None:
        return labels_of(self.dataset)

    @cached_property
    def _class_names(self) -> list[str] | None:
        return class_names_of(self.dataset)


def _unreadable(error: Exception) -> Unreadable:
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
