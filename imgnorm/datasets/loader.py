"""A user's torch Dataset or DataLoader -> its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    default_collate,
)

from imgnorm.datasets.attributes import length_of, ref_of
from imgnorm.datasets.indexed import IndexedSource
from imgnorm.datasets.items import ItemFormat
from imgnorm.datasets.loader_workers import explained, is_from_loader
from imgnorm.datasets.stream import Promise, StreamSource
from imgnorm.datasets.torchvision import InMemoryDataset, may_hold_pixels
from imgnorm.errors import SourceError
from imgnorm.progress import Progress
from imgnorm.tally.tally import Tally
from imgnorm.workers.executor import Work


def open_torch(
    source: Any, item_format: ItemFormat, ref: str | None = None
) -> IndexedSource | StreamSource | None:
    """The source for a torch Dataset or DataLoader; None if the object is neither.

    Args:
        ref: the user's name for it; by default, its class and length.
    """
    if isinstance(source, DataLoader):
        return _open_loader(source, item_format, ref)
    if isinstance(source, IterableDataset):
        promise = Promise(items=length_of(source))
        return StreamSource("dataset", ref or _ref_of(source), source, item_format, promise)
    if isinstance(source, Dataset):
        first = item_format.key in (None, 0)  # of (image, label)
        kind = InMemoryDataset if first and may_hold_pixels(source) else IndexedSource
        return kind(source, item_format, ref or _ref_of(source))
    return None


class LoaderSource(StreamSource):
    """The batches of a DataLoader."""

    def read_all(self, work: Work, on_progress: Callable[[Progress], None]) -> Tally:
        try:
            return super().read_all(work, on_progress)
        except RuntimeError as error:  # raised by torch's handler of SIGCHLD, at any line
            if not is_from_loader(error):
                raise
            raise SourceError(f"{self.ref}: {explained(error)}") from error


def _open_loader(loader: DataLoader[Any], item_format: ItemFormat, ref: str | None) -> StreamSource:
    batches = loader.batch_sampler is not None
    joined = batches and loader.collate_fn is default_collate
    return LoaderSource(
        "dataset",
        ref or _ref_of(loader.dataset),
        loader,
        replace(item_format, batches=joined, single=False),
        _promise(loader),
        explain=explained,
    )


def _promise(loader: DataLoader[Any]) -> Promise:
    if isinstance(loader.dataset, IterableDataset):
        images = None if loader.drop_last else length_of(loader.dataset)
        return Promise(images, notes=tuple(_notes_on_a_stream(loader, images)))
    sampler, batch_size, drop_last = loader.sampler, loader.batch_size, loader.drop_last
    if isinstance(loader.batch_sampler, BatchSampler):
        inner = loader.batch_sampler
        sampler, batch_size, drop_last = inner.sampler, inner.batch_size, inner.drop_last
    elif loader.batch_sampler is not None:  # the user's own: its length is a number of batches
        return Promise(items=length_of(loader))
    images = length_of(sampler)
    if images is None or not drop_last or not batch_size:
        return Promise(images)
    return Promise(images - images % batch_size, dropped=images % batch_size)


def _notes_on_a_stream(loader: DataLoader[Any], promised: int | None) -> Iterator[str]:
    stream, workers = _ref_of(loader.dataset), loader.num_workers
    if loader.drop_last:
        yield (
            f"{stream}: drop_last=True drops up to {(loader.batch_size or 1) - 1:,} images of each worker, "
            "and these numbers lack them; measure with drop_last=False"
        )
    if workers > 1 and promised is None:  # else the count shows it: more come than were promised
        yield (
            f"{stream}: each of the {workers} workers gives all of it, unless it asks get_worker_info() "
            f"for its part; if it does not, every image is counted {workers} times: measure with "
            "num_workers=0"
        )


def _ref_of(dataset: Any) -> str:
    if type(dataset) is Subset:
        return f"Subset({type(dataset.dataset).__name__})[{length_of(dataset)}]"
    return ref_of(dataset)
