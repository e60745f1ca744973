"""Batches of images from a folder or a torchvision dataset, the same pixels that `imgnorm stats` counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imgnorm.datasets import TorchvisionSource
from imgnorm.decode import decode, decoded_picture
from imgnorm.errors import SourceError
from imgnorm.image import Mode
from imgnorm.reasons import Unreadable
from imgnorm.scan import Limits
from imgnorm.sources import shown
from imgnorm.sources.folder import FolderSource
from imgnorm.stats import Stats
from imgnorm.transforms import to_transform

_TORCHVISION = "torchvision:"
_MODES: dict[int, Mode] = {1: "L", 3: "RGB", 4: "RGBA"}


class Batches:
    """All images of a source, in the order of their names, as often as it is iterated.

    Args:
        source: a folder, or "torchvision:NAME" below `root`.
        transform: Stats, for `to_transform(stats)`; or a callable from PIL image to tensor, which
            gets RGB images from a folder and the dataset's own from torchvision, as
            torchvision's loaders have it.
        workers: processes that decode; 0 for this one.

    Raises:
        SourceError: there is no such source, it is empty, or a file in it is known to be unreadable.
            While iterating: an image cannot be read, or images of one batch differ in size. A
            calibration without some images would not be that of the dataset, so none is skipped.
    """

    def __init__(
        self,
        source: str,
        transform: Stats | Callable[[Any], Tensor],
        *,
        root: str = "data",
        split: str = "train",
        batch_size: int = 64,
        workers: int = 0,
    ) -> None:
        self._source = source
        images = _Images(_opened(source, root, split), transform)
        self._loader: DataLoader[Any] = DataLoader(
            images, batch_size=batch_size, num_workers=workers, collate_fn=_stacked
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Tensor]:
        try:
            for batch in self._loader:
                if isinstance(batch, SourceError):
                    raise batch
                yield batch
        except RuntimeError as error:  # a process that decodes died
            reason = " ".join(str(error).split())[:200]
            raise SourceError(f"{self._source}: {reason}; try --workers 0") from error


class _Images(Dataset[Any]):
    def __init__(
        self,
        source: FolderSource | TorchvisionSource,
        transform: Stats | Callable[[Any], Tensor],
    ) -> None:
        listing = source.listing()
        if listing.skipped:
            first = listing.skipped[0]
            raise SourceError(
                f"{shown(first.name)}: {first.reason} ({first.detail}); mend or remove it"
            )
        if not listing.names:
            raise SourceError(f"{source.ref}: has no images; name a folder that has some")
        self.names = listing.names
        self.source = source
        if isinstance(transform, Stats):
            self.mode = transform.mode or _MODES.get(len(transform.mean), "RGB")
            self.transform: Callable[[Any], Tensor] = to_transform(transform)
        else:
            self.mode = "RGB"
            self.transform = transform
        self.converts = isinstance(transform, Stats)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[str, Tensor] | SourceError:
        # A fault is a value: raised, it would reach the parent process with a traceback in its text.
        name = self.names[index]
        try:
            tensor = self.transform(self._picture(name))
        except Unreadable as fault:
            return SourceError(f"{shown(name)}: {fault.reason} ({fault.detail}); mend or remove it")
        if not isinstance(tensor, Tensor):
            return SourceError(
                f"{shown(name)}: the transform gives a {type(tensor).__name__}; end it with ToTensor"
            )
        return name, tensor

    def _picture(self, name: str) -> Any:
        found = self.source.read(name)
        if isinstance(found, bytes):
            return decode(
                found, self.mode, max_pixels=Limits.max_pixels, reserve=lambda size: None
            ).picture
        if not self.converts:
            return found
        return decoded_picture(found, self.mode, max_pixels=Limits.max_pixels).picture


def _opened(source: str, root: str, split: str) -> FolderSource | TorchvisionSource:
    if source.startswith(_TORCHVISION):
        return TorchvisionSource(source.removeprefix(_TORCHVISION), root, split)
    if not os.path.isdir(source):
        raise SourceError(
            f"{shown(source)}: no such folder; name a folder of images, or {_TORCHVISION}NAME"
        )
    return FolderSource(source)


def _stacked(items: list[tuple[str, Tensor] | SourceError]) -> Tensor | SourceError:
    """One batch, or the first thing that is wrong with it."""
    tensors: list[Tensor] = []
    for item in items:
        if isinstance(item, SourceError):
            return item
        name, tensor = item
        if tensors and tensor.shape != tensors[0].shape:
            return SourceError(
                f"{shown(name)}: becomes {tuple(tensor.shape)}, others of its batch {tuple(tensors[0].shape)}; "
                "resize them (measure with --resize and --center-crop), or use --batch-size 1"
            )
        tensors.append(tensor)
    return torch.stack(tensors)
