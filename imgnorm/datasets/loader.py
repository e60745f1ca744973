"""A torch Dataset or DataLoader of the user's own as a source."""

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

from imgnorm.datasets.items import Reading
from imgnorm.datasets.iterables import (
    IndexedSource,
    StreamSource,
    added,
    called,
    length,
    workers_end_at_once,
)
from imgnorm.datasets.source import StreamResult
from imgnorm.datasets.torchvision import HeldSource, holds_its_pixels
from imgnorm.errors import SourceError
from imgnorm.pixels.buffer import Device
from imgnorm.progress import Progress
from imgnorm.settings import ImageSettings, Limits
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.tally.tally import Tally
from imgnorm.wording import describe, one_line


def open_torch(
    source: Any, reading: Reading, ref: str | None = None
) -> IndexedSource | StreamSource | None:
    """The source that a user means by a Dataset or DataLoader; None if it is neither.

    Args:
        ref: what the user called it, if not by its class.
    """
    if isinstance(source, DataLoader):
        return _of_loader(source, reading, ref)
    if isinstance(source, IterableDataset):
        return StreamSource(
            "dataset", ref or _called(source), source, reading, promised_items=length(source)
        )
    if isinstance(source, Dataset):
        first = reading.key in (None, 0)  # of (image, label)
        kind = HeldSource if first and holds_its_pixels(source) else IndexedSource
        return kind(source, reading, ref or _called(source))
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
    """`source.tallies` by the worker processes of a DataLoader, which hand over tallies, not pixels.

    An image at which a worker dies is tried once more, alone; then it is skipped.

    Raises:
        SourceError: workers die from the start, or cannot be started.
    """
    jobs = source.jobs(groups)
    work = _Jobs(source, [names for _, names in jobs], settings, limits, cross_sums)
    try:
        with workers_end_at_once():
            return added(jobs, _surviving(work, workers), groups, on_progress)
    except Exception as error:  # whatever a user's object raises when it is sent to a worker
        if not _is_of_loader(error):
            raise
        raise SourceError(f"{source.ref}: {explained(error)}") from error


def _surviving(work: _Jobs, workers: int) -> Iterator[Tally]:
    """The tally of each job, in their order; where a worker dies, that of the first that is missing is
    made name by name, and one at which a process dies that has read nothing else is skipped."""
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
            if not done and len(died) == len(work.jobs[0]):  # they always do
                raise
            yield tally
            done += 1


def _name_by_name(work: _Jobs, names: Sequence[str]) -> Tally:
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
                    Reason.WORKER_DIED, f"the worker that read it ended{_how(error)}"
                )
                whole += Tally(skipped=(fault.skipped(left.pop(0)),))
    return whole


def _loader(work: _Jobs, workers: int, ahead: int | None = None) -> DataLoader[Any]:
    """
    Args:
        ahead: jobs that each worker is given at once; of one alone, it is known who has it.
    """
    return DataLoader(
        work,
        batch_size=None,
        num_workers=min(workers, len(work)),
        prefetch_factor=ahead,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_signals_to_the_parent,
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


def _as_it_is(tally: Any) -> Any:
    return tally


def _leave_signals_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
        except RuntimeError as error:  # torch raises it wherever we are when a worker dies
            if not _is_of_loader(error):
                raise
            raise SourceError(f"{self.ref}: {explained(error)}") from error


def explained(error: Exception) -> str:
    """What torch's DataLoader means, on one line."""
    text = str(error)
    if _died(error):
        return (
            f"a worker of the DataLoader died{_how(error)}; if it was short of memory, use "
            "fewer workers or smaller batches, else look into the dataset with num_workers=0"
        )
    if "DataLoader timed out" in text:
        return "a worker of the DataLoader gave nothing within its `timeout`; raise it, or find out why"
    if text.startswith("Caught ") and "Original Traceback" in text:
        lines = [line for line in text.splitlines() if line.strip()]
        frames = [place for place, line in enumerate(lines) if line.startswith("  ")]
        said = lines[frames[-1] + 1 :] if frames else []
        text = one_line(" ".join(said or lines[-1:]))
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


def _died(error: Exception) -> bool:
    """Whether torch says that a worker of a DataLoader did."""
    # Tensors travel over a socket, which breaks off if the worker died while it sent them.
    broke_off = isinstance(error, (ConnectionError, EOFError))
    return broke_off or ("DataLoader worker" in str(error) and "pid" in str(error))


def _how(error: Exception) -> str:
    signal_ = str(error).partition("by signal: ")[2].split(".")[0]
    return f" of {signal_}" if signal_ else ""


def _of_loader(loader: DataLoader[Any], reading: Reading, ref: str | None) -> StreamSource:
    batches = loader.batch_sampler is not None
    joined = batches and loader.collate_fn is default_collate
    promised, dropped, notes = _promise(loader)
    own = batches and not isinstance(loader.batch_sampler, BatchSampler)  # it knows batches only
    reading = replace(reading, batches=joined, single=False)
    return LoaderSource(
        "dataset",
        ref or _called(loader.dataset),
        loader,
        reading,
        promised=promised,
        promised_items=length(loader) if own else None,
        dropped=dropped,
        notes=notes,
        explain=explained,
    )


def _promise(loader: DataLoader[Any]) -> tuple[int | None, int, tuple[str, ...]]:
    """How many images will come, how many are dropped, and what is to be said of it."""
    if isinstance(loader.dataset, IterableDataset):
        images = None if loader.drop_last else length(loader.dataset)
        return images, 0, tuple(_notes_on_a_stream(loader, images))
    sampler, batch_size, drop_last = loader.sampler, loader.batch_size, loader.drop_last
    if isinstance(loader.batch_sampler, BatchSampler):
        inner = loader.batch_sampler
        sampler, batch_size, drop_last = inner.sampler, inner.batch_size, inner.drop_last
    elif loader.batch_sampler is not None:  # somebody's own
        return None, 0, ()
    images = length(sampler)
    if images is None or not drop_last or not batch_size:
        return images, 0, ()
    return images - images % batch_size, images % batch_size, ()


def _notes_on_a_stream(loader: DataLoader[Any], promised: int | None) -> Iterator[str]:
    stream, workers = _called(loader.dataset), loader.num_workers
    if loader.drop_last:
        yield (
            f"{stream}: drop_last=True drops up to {(loader.batch_size or 1) - 1:,} images of each worker, "
            "and these numbers lack them; measure with drop_last=False"
        )
    if workers > 1 and promised is None:  # else more come than were promised, which is told
        yield (
            f"{stream}: each of the {workers} workers gives all of it, unless it asks get_worker_info() "
            f"for its part; if it does not, every image is counted {workers} times: measure with "
            "num_workers=0"
        )


def _is_of_loader(error: Exception) -> bool:
    return "DataLoader worker" in str(error) or isinstance(error, (ConnectionError, EOFError))


def _called(dataset: Any) -> str:
    if type(dataset) is Subset:
        many = length(dataset)
        return f"Subset({type(dataset.dataset).__name__})[{many}]"
    return called(dataset)
