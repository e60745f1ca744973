"""A Dataset of map style as a source: any object with `dataset[i]` and `len(dataset)`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from PIL import Image

from imgnorm.datasets.attributes import classes_of, paths_of, ref_of
from imgnorm.datasets.counter import Found
from imgnorm.datasets.executor import ItemExecutor
from imgnorm.datasets.items import ItemFormat, check_first_item, images_in
from imgnorm.errors import SourceError
from imgnorm.settings import ImageSettings
from imgnorm.sources.names import NumberedNames, Run, name_bytes, runs_of
from imgnorm.sources.source import Source, Unit
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.wording import describe
from imgnorm.workers.executor import Executor, Work

_MOST = 200_000_000  # images of a Dataset; a longer one probably stands for endless epochs
_UNIT_IMAGES = 128  # few, so that many shards have equal parts
_JOB_IMAGES = 64


class IndexedSource(Source):
    """The images of a Dataset of map style: `dataset[i]` for each i below `len(dataset)`.

    Their names are the relative paths of the images if the dataset lists them, as ImageFolder does; else
    numbers.

    Args:
        ref: the user's name for it; by default, its class and length.
    """

    kind = "dataset"
    in_order = True
    made_here = True

    def __init__(self, dataset: Any, item_format: ItemFormat, ref: str | None = None) -> None:
        self.dataset = dataset
        self.item_format = replace(item_format, single=True)
        self.ref = ref or ref_of(dataset)
        self.options = {} if item_format.key is None else {"key": str(item_format.key)}

    def units(self) -> Iterator[Unit]:
        """
        Raises:
            SourceError: it is empty, or does not report how many images it has.
        """
        if not self._size:
            raise SourceError(f"{self.ref}: is empty; give it images")
        if self._paths is None:
            yield from numbered_units(self._size)
        else:
            for names in runs_of(sorted(self._paths, key=name_bytes)):
                yield Unit(names[0], names)

    def class_of(self, name: str) -> str | None:
        return None if self._classes is None else self._classes[self.index_of(name)]

    def check(self, settings: ImageSettings) -> None:
        """Looks at the first item, so that a wrong source fails now and not after an hour.

        Raises:
            SourceError: it is not an image that can be measured with these settings.
        """
        first = next(iter(self.units())).names
        assert first
        try:
            item = self._item(first[0])
        except Unreadable:  # this image may be the only broken one: the count lists it as skipped
            return
        if item is not None:
            check_first_item(item, self.item_format, settings, self.ref)

    def executor(self, work: Work) -> Executor:
        if work.workers is None:
            return ItemExecutor(self.images_of, self.class_of, work, _JOB_IMAGES)
        from imgnorm.datasets.loader_workers import LoaderWorkers  # not above: it imports torch

        return LoaderWorkers(
            self.ref, self.images_of, self.class_of, work, _JOB_IMAGES, work.workers
        )

    def images_of(self, names: Sequence[str]) -> Iterator[tuple[Sequence[str], Found]]:
        for name in names:
            found: Found
            try:
                (found,) = images_in(self._item(name), self.item_format)
            except Unreadable as fault:
                found = fault
            yield [name], found

    def index_of(self, name: str) -> int:
        return int(name) if self._paths is None else self._paths[name]

    def _item(self, name: str) -> object:
        try:
            return self.dataset[self.index_of(name)]
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
    def _paths(self) -> dict[str, int] | None:
        """Name -> index; None if the names are numbers."""
        return paths_of(self.dataset, self._size)

    @cached_property
    def _classes(self) -> list[str | None] | None:
        return classes_of(self.dataset)


def numbered_units(images: int) -> Iterator[Unit]:
    """Units of numbers with leading zeros: so their order as text is their order."""
    digits = len(str(images - 1))
    for start in range(0, images, _UNIT_IMAGES):
        numbers = range(start, min(start + _UNIT_IMAGES, images))
        names = NumberedNames([Run("", numbers, digits)])
        yield Unit(names[0], names)


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
