"""A user's torch Dataset or DataLoader -> its source, and a Dataset counted by a DataLoader's workers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from imgnorm.datasets.jobs import sum_by_group
from imgnorm.datasets.source import StreamResult
from imgnorm.datasets.stream import StreamSource, children_end_at_once
from imgnorm.datasets.torchvision import InMemoryDataset, may_hold_pixels
from imgnorm.errors import SourceError
from imgnorm.pixels.buffer import Device
from imgnorm.progress import Progress
from imgnorm.settings import ImageSettings, Limits
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.tally.tally import Tally
from imgnorm.wording import describe, one_line


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
        ref = ref or _ref_of(source)
        return StreamSource("dataset", ref, source, item_format, promised_items=length_of(source))
    if isinstance(source, Dataset):
        first = item_format.key in (None, 0)  # of (image, label)
        kind = InMemoryDataset if first and may_hold_pixels(source) else IndexedSource
        return kind(source, item_format, ref or _ref_of(source))
    return None


def tallies_in_workers(
    source: IndexedSource,
    groups: Mapping[str, Sequence[str]],
    settings: ImageSettings,
    limits: Limits,
    on_progress: Callable[[Progress], None],
    *,
    workers: int,
    cross_sums: bool = False,
) -> dict[str, Tally]:
    """`source.tallies` by the worker processes of a DataLoader, which send tallies, not pixels.

    If a worker dies, its images are tried again one by one. An image at which a worker dies again is
    skipped.

    Raises:
        SourceError: workers die from the start, or cannot be started.
    """
    jobs = source.jobs(groups)
    work = _Jobs(source, [names for _, names in jobs], settings, limits, cross_sums)
    try:
        with children_end_at_once():
            return sum_by_group(jobs, _surviving(work, workers), groups, on_progress)
    except Exception as error:  # a user's object may raise anything when it is sent to a worker
        if not _is_from_loader(error):
            raise
        raise SourceError(f"{source.ref}: {explained(error)}") from error


class LoaderSource(StreamSource):
    """The batches of a DataLoader."""

    def read_all(
        self,
        settings: ImageSettings,
        limits: Limits,
        limit: int | None,
        on_progress: Callable[[Progress], None],
        device: Device | None = None,
    ) -> StreamResult:
        try:
            return super().read_all(settings, limits, limit, on_progress, device)
        except RuntimeError as error:  # raised by torch's handler of SIGCHLD, at any line
            if not _is_from_loader(error):
                raise
            raise SourceError(f"{self.ref}: {explained(error)}") from error


def explained(error: Exception) -> str:
    """An error of torch's DataLoader in one line, with what to do."""
    text = str(error)
    if _died(error):
        return (
            f"a worker of the DataLoader died{_signal_of(error)}; if it was short of memory, use "
            "fewer workers or smaller batches, else look into the dataset with num_workers=0"
        )
    if "DataLoader timed out" in text:
        return "a worker of the DataLoader gave nothing within its `timeout`; raise it, or find out why"
    if text.startswith("Caught ") and "Original Traceback" in text:
        lines = [line for line in text.splitlines() if line.strip()]
        frames = [index for index, line in enumerate(lines) if line.startswith("  ")]
        message = lines[frames[-1] + 1 :] if frames else []
        text = one_line(" ".join(message or lines[-1:]))
    else:
        text = describe(error)
    if "found <class 'PIL" in text:
        return "its dataset gives PIL images, which torch cannot batch; measure the dataset itself"
    if "stack expects each tensor to be equal size" in text:
        return (
            "its images differ in size, which torch cannot batch; measure the dataset itself, or use "
            "batch_size=1"
        )
    return f"{text}; measure the dataset itself, which skips and lists such images"


def _surviving(work: _Jobs, workers: int) -> Iterator[Tally]:
    """The tally of each job, in their order.

    When a worker dies, the first job without a tally is counted name by name, and the workers start again
    with the job after it.
    """
    done = 0
    while done < len(work):
        try:
            for tally in _loader(replace(work, jobs=work.jobs[done:]), workers):
                yield tally
                done += 1
        except Exception as error:
            if not _died(error):
                raise
            tally = _name_by_name(work, work.jobs[done])
            died = [one for one in tally.skipped if one.reason is Reason.WORKER_DIED]
            if not done and len(died) == len(work.jobs[0]):  # workers die at every image
                raise
            yield tally
            done += 1


def _name_by_name(work: _Jobs, names: Sequence[str]) -> Tally:
    """The tally of one job. An image is skipped if it kills a worker that has read nothing else."""
    whole, left = Tally(), list(names)
    while left:
        fresh = True
        try:
            for tally in _loader(replace(work, jobs=[[name] for name in left]), 1, ahead=1):
                whole += tally
                del left[0]
                fresh = False
        except Exception as error:
            if not _died(error):
                raise
            if fresh:
                fault = Unreadable(
                    Reason.WORKER_DIED, f"the worker that read it died{_signal_of(error)}"
                )
                whole += Tally(skipped=(fault.skipped(left.pop(0)),))
    return whole


def _loader(work: _Jobs, workers: int, ahead: int | None = None) -> DataLoader[Any]:
    """
    Args:
        ahead: jobs that each worker is given at once; with 1, it is known which job a worker has.
    """
    return DataLoader(
        work,
        batch_size=None,
        num_workers=min(workers, len(work)),
        prefetch_factor=ahead,
        collate_fn=_unchanged,
        worker_init_fn=_ignore_interrupts,
    )


@dataclass(frozen=True)
class _Jobs(Dataset[Tally]):
    source: IndexedSource
    jobs: Sequence[Sequence[str]]
    settings: ImageSettings
    limits: Limits
    cross_sums: bool

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> Tally:
        names = self.jobs[index]
        return self.source.count_items(names, self.settings, self.limits, self.cross_sums)


def _unchanged(tally: Any) -> Any:
    return tally


def _ignore_interrupts(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _died(error: Exception) -> bool:
    """Whether a worker of a DataLoader died, by torch's message."""
    # Tensors are sent over a socket, which is closed if the worker dies while it sends them.
    closed = isinstance(error, (ConnectionError, EOFError))
    return closed or ("DataLoader worker" in str(error) and "pid" in str(error))


def _signal_of(error: Exception) -> str:
    signal_ = str(error).partition("by signal: ")[2].split(".")[0]
    return f" ({signal_})" if signal_ else ""


def _open_loader(loader: DataLoader[Any], item_format: ItemFormat, ref: str | None) -> StreamSource:
    batches = loader.batch_sampler is not None
    joined = batches and loader.collate_fn is default_collate
    promised, dropped, notes = _promise(loader)
    # A user's own batch sampler has a number of batches, not of images.
    own = batches and not isinstance(loader.batch_sampler, BatchSampler)
    return LoaderSource(
        "dataset",
        ref or _ref_of(loader.dataset),
        loader,
        replace(item_format, batches=joined, single=False),
        promised=promised,
        promised_items=length_of(loader) if own else None,
        dropped=dropped,
        notes=notes,
        explain=explained,
    )


def _promise(loader: DataLoader[Any]) -> tuple[int | None, int, tuple[str, ...]]:
    """How many images will come, how many are dropped, and notes about that."""
    if isinstance(loader.dataset, IterableDataset):
        images = None if loader.drop_last else length_of(loader.dataset)
        return images, 0, tuple(_notes_on_a_stream(loader, images))
    sampler, batch_size, drop_last = loader.sampler, loader.batch_size, loader.drop_last
    if isinstance(loader.batch_sampler, BatchSampler):
        inner = loader.batch_sampler
        sampler, batch_size, drop_last = inner.sampler, inner.batch_size, inner.drop_last
    elif loader.batch_sampler is not None:  # the user's own
        return None, 0, ()
    images = length_of(sampler)
    if images is None or not drop_last or not batch_size:
        return images, 0, ()
    return images - images % batch_size, images % batch_size, ()


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


def _is_from_loader(error: Exception) -> bool:
    return "DataLoader worker" in str(error) or isinstance(error, (ConnectionError, EOFError))


def _ref_of(dataset: Any) -> str:
    if type(dataset) is Subset:
        return f"Subset({type(dataset.dataset).__name__})[{length_of(dataset)}]"
    return ref_of(dataset)
