"""torchvision datasets as sources: by their pixels if those are in memory, else by their PIL images."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgnorm._torch import torchvision_module
from imgnorm.datasets.attributes import classes_of
from imgnorm.datasets.counter import Found
from imgnorm.datasets.executor import ItemExecutor
from imgnorm.datasets.indexed import IndexedSource, numbered_units
from imgnorm.errors import SourceError
from imgnorm.machine import usable_cores
from imgnorm.pixels.damage import RAISED_BY_PILLOW
from imgnorm.settings import ImageSettings, mode_of
from imgnorm.sources.source import Source, Unit
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.wording import clause, nearest
from imgnorm.workers.executor import Executor, Work

_JOB_SLICES = 1024
_JOB_PICTURES = 256  # enough, even tiny ones, that handing out a job costs little


class TorchvisionSource(Source):
    """The images of `torchvision.datasets.<name>`, by their index.

    Args:
        root: the folder that the dataset's own `root` argument names.
        split: "train" or "test" for datasets with a `train` argument, else a value of their `split`;
            for EMNIST, "letters/train" and the like.
        download: let torchvision download it.
    """

    kind = "torchvision"
    in_order = True

    def __init__(
        self, name: str, root: str, split: str = "train", *, download: bool = False
    ) -> None:
        self.ref = name
        self.root = root
        self.split = split
        self.download = download

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker opens the dataset itself: pixels never cross a process boundary.
        return type(self), (self.ref, self.root, self.split)

    @property
    def options(self) -> Mapping[str, str | int]:  # type: ignore[override]
        return {"split": self.split} if self._accepted & {"split", "image_set", "train"} else {}

    def units(self) -> Iterator[Unit]:
        """Runs of index numbers.

        Raises:
            SourceError: the dataset does not exist, or not below `root`.
            MissingDependency: torchvision cannot be imported.
        """
        try:
            size = len(self._dataset)
        except (NotImplementedError, TypeError) as error:  # a base class, or a stream
            raise SourceError(
                f"torchvision:{self.ref}: does not report how many images it has; choose another dataset"
            ) from error
        if size:
            self._check_first_image()
        yield from numbered_units(size)

    def size_of(self, unit: Unit) -> tuple[int, int] | None:
        return self._pixels.size if self._pixels else None

    def class_of(self, name: str) -> str | None:
        return None if self._classes is None else self._classes[int(name)]

    def open(self) -> None:
        """Imports torchvision and opens the dataset: seconds that are not part of any image's time limit."""
        _ = self._dataset

    def read(self, name: str) -> Image.Image:
        """
        Raises:
            Unreadable: the dataset itself cannot make this image.
        """
        try:
            image = _image_of(self._dataset[int(name)])
        except Image.DecompressionBombError as error:
            raise Unreadable(Reason.TOO_LARGE, str(error)) from error
        except RAISED_BY_PILLOW as error:
            raise Unreadable(Reason.CORRUPT, clause(error)) from error
        assert image is not None
        return image

    def executor(self, work: Work) -> Executor | None:
        if self._pixels:
            return self._pixels.executor(work, self.class_of)
        if work.profile:
            work.profile.note = "the dataset opens its images itself: `read` may include decoding"
        return None

    @cached_property
    def _dataset(self) -> Any:
        kind = _dataset_class(self.ref)
        accepted = self._accepted
        arguments: dict[str, Any] = {}
        if "root" in accepted:
            arguments["root"] = self.root
        if self.ref == "EMNIST":
            arguments["split"], _, part = self.split.partition("/")
            arguments["train"] = _is_train(self.ref, part or "train")
        elif "split" in accepted:
            arguments["split"] = self.split
        elif "image_set" in accepted:
            arguments["image_set"] = self.split
        elif "train" in accepted:
            arguments["train"] = _is_train(self.ref, self.split)
        if "download" in accepted:
            arguments["download"] = self.download
        try:
            return kind(**arguments)
        except (RuntimeError, OSError, ValueError, ImportError, TypeError) as error:
            raise SourceError(
                f"torchvision:{self.ref}: cannot be opened below --root {self.root} with --split "
                f"{self.split} ({clause(error)}); check both, or add --download"
            ) from error

    @cached_property
    def _accepted(self) -> set[str]:
        """The names of the constructor's arguments, those passed on to its parents included."""
        names: set[str] = set()
        for kind in _dataset_class(self.ref).__mro__:
            parameters = inspect.signature(kind).parameters
            names |= set(parameters)
            if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
                break
        return names

    @cached_property
    def _classes(self) -> list[str | None] | None:
        return classes_of(self._dataset)

    @cached_property
    def _pixels(self) -> ImagesInMemory | None:
        return ImagesInMemory.of(self._dataset, int)

    def _check_first_image(self) -> None:
        try:
            image = _image_of(self._dataset[0])
        except (Image.DecompressionBombError, *RAISED_BY_PILLOW):  # it will be skipped
            return
        if image is None:
            raise SourceError(
                f"torchvision:{self.ref}: its items are not images; choose an image dataset"
            )


class InMemoryDataset(IndexedSource):
    """An instance of a torchvision dataset without a transform, which may have its pixels in memory."""

    def check(self, settings: ImageSettings) -> None:
        if not self._pixels:
            super().check(settings)

    def executor(self, work: Work) -> Executor:
        if self._pixels:
            return self._pixels.executor(work, self.class_of)
        return super().executor(work)

    def size_of(self, unit: Unit) -> tuple[int, int] | None:
        return self._pixels.size if self._pixels else None

    @property
    def in_memory(self) -> bool:  # type: ignore[override]
        return self._pixels is not None

    @cached_property
    def _pixels(self) -> ImagesInMemory | None:
        return ImagesInMemory.of(self.dataset, self.index_of)


@dataclass(frozen=True)
class ImagesInMemory:
    """The images of a dataset that are slices of one array in memory."""

    array: npt.NDArray[np.uint8]  # (N, H, W, C)
    index_of: Callable[[str], int]

    @classmethod
    def of(cls, dataset: Any, index_of: Callable[[str], int]) -> ImagesInMemory | None:
        """None if the dataset's images are not in memory."""
        array = _pixels_in_memory(dataset)
        return None if array is None else cls(array, index_of)

    @property
    def size(self) -> tuple[int, int]:
        """The width and height of each."""
        return self.array.shape[2], self.array.shape[1]

    def match(self, settings: ImageSettings) -> bool:
        """Whether the array has the pixels that these settings ask for."""
        return settings.take(mode_of(self.array.shape[3], "8-bit")) and not settings.preprocess

    def executor(self, work: Work, class_of: Callable[[str], str | None]) -> Executor:
        threads = usable_cores() if work.workers is None else work.workers
        if not self.match(work.digits.settings):
            # Pillow lets other threads run while it resizes, crops or counts an image.
            note = "pixels in memory: `count` converts and preprocesses them, too"
            return ItemExecutor(
                self.pictures, class_of, work, _JOB_PICTURES, True, threads, note=note
            )
        note = "pixels in memory: `count` reads them, too, and nothing is decoded"
        # The limit of pixels is for images that are yet to be decoded.
        work = replace(work, digits=replace(work.digits, max_pixels=self.array.size))
        threads = 1 if work.device else threads
        return ItemExecutor(self.slices, class_of, work, _JOB_SLICES, True, threads, note=note)

    def slices(self, names: Sequence[str]) -> Iterator[tuple[Sequence[str], Found]]:
        """All these images as one array."""
        indices = list(map(self.index_of, names))
        run = slice(indices[0], indices[-1] + 1)
        alone = indices != list(range(run.start, run.stop))  # such an index makes a copy
        yield names, self.array[np.array(indices, np.intp) if alone else run]

    def pictures(self, names: Sequence[str]) -> Iterator[tuple[Sequence[str], Found]]:
        """The PIL images that the dataset makes."""
        for name in names:
            image = self.array[self.index_of(name)]
            yield [name], Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def may_hold_pixels(dataset: Any) -> bool:
    """Whether a dataset may be an InMemoryDataset: torchvision's own, without transforms."""
    own = type(dataset).__module__.startswith("torchvision.datasets.")
    return own and getattr(dataset, "transforms", None) is None


def _pixels_in_memory(dataset: Any) -> npt.NDArray[np.uint8] | None:
    """The dataset's own array as (N, H, W, C), if its images are slices of one."""
    data = getattr(dataset, "data", None)
    if data is None or not hasattr(data, "__array__"):
        return None
    array = np.asarray(data)
    if array.dtype != np.uint8 or len(array) != len(dataset):
        return None
    few = {0, len(array) // 2, len(array) - 1} if len(array) else ()
    for candidate in _layouts(array):
        if all(_shows(dataset, candidate, index) for index in few):
            return candidate
    return None


def _shows(dataset: Any, pixels: npt.NDArray[np.uint8], index: int) -> bool:
    """Whether the dataset's image `index` is that slice of the array, pixel for pixel."""
    image = np.asarray(_image_of(dataset[index]))
    return bool(np.array_equal(image.reshape(*image.shape[:2], -1), pixels[index]))


def _layouts(array: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    if array.ndim == 3:
        return [array[..., np.newaxis]]
    if array.ndim != 4:
        return []
    return [a for a in (array, array.transpose(0, 2, 3, 1)) if a.shape[3] == 3]


def _image_of(item: object) -> Image.Image | None:
    """The image of a dataset's item: the item itself, or the first of a tuple."""
    first = item[0] if isinstance(item, (tuple, list)) and item else item
    return first if isinstance(first, Image.Image) else None


def _is_train(name: str, split: str) -> bool:
    if split not in ("train", "test"):
        raise SourceError(f"torchvision:{name}: has no split {split!r}; choose train or test")
    return split == "train"


def _dataset_class(name: str) -> type[Any]:
    module = torchvision_module("datasets")
    if name not in module.__all__ or not isinstance(getattr(module, name), type):
        near = nearest(name, module.__all__, at_most=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "torchvision.datasets lists them"
        raise SourceError(f"torchvision:{name}: torchvision has no such dataset; {hint}")
    found: type[Any] = getattr(module, name)
    return found
