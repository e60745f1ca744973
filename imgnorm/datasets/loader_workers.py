"""A Dataset counted by the worker processes of a DataLoader, which send tallies, not pixels."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import DataLoader, Dataset

from imgnorm.datasets.counter import ItemCounter
from imgnorm.datasets.executor import ImagesOf, NamesJob, counted, jobs_of, note_time, sum_of
from imgnorm.datasets.stream import children_end_at_once
from imgnorm.errors import SourceError
from imgnorm.progress import Progress
from imgnorm.sources.names import looked_at
from imgnorm.sources.source import Unit
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.tally.tally import Tally, TallySum
from imgnorm.wording import describe, one_line
from imgnorm.workers.executor import Work

_NOTE = "the workers are a DataLoader's, which does not report their time: main waits for them"


@dataclass(frozen=True)
class LoaderWorkers:
    """An executor that counts images in the worker processes of a DataLoader.

    If a worker dies, its images are tried again one by one. An image at which a worker dies again is
    skipped.

    Args:
        ref: what messages call the source.
        job_images: how many names a job has at most.
    """

    ref: str
    images_of: ImagesOf
    class_of: Callable[[str], str | None]
    work: Work
    job_images: int
    workers: int

    def __call__(self, units: Iterable[Unit], on_progress: Callable[[Progress], None]) -> Tally:
        """
        Raises:
            SourceError: workers die from the start, or cannot be started.
        """
        at_most = 1 if self.work.each else self.job_images
        jobs = list(jobs_of(units, at_most, self.class_of if self.work.digits.per_class else None))
        images = sum(len(job.names) for job in jobs)
        # What only this process can use is not sent to others.
        work = replace(self.work, device=None, profile=None, each=None, take_rows=None)
        counting = _Jobs(jobs, self.images_of, self.class_of, work)
        try:
            with children_end_at_once():
                tallies = _surviving(counting, self.workers)
                total = sum_of(tallies, images, on_progress, self.work)
        except Exception as error:  # a user's object may raise anything when it is sent to a worker
            if not is_from_loader(error):
                raise
            raise SourceError(f"{self.ref}: {explained(error)}") from error
        note_time(self.work.profile, "wait", _NOTE)
        return total.tally()


@dataclass(frozen=True)
class _Jobs(Dataset[Tally]):
    jobs: Sequence[NamesJob]
    images_of: ImagesOf
    class_of: Callable[[str], str | None]
    work: Work

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> Tally:
        job = self.jobs[index]
        return counted(job, self.images_of(job.names), ItemCounter(self.work), self.class_of)


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
            if not done and len(died) == len(work.jobs[0].names):  # workers die at every image
                raise
            yield tally
            done += 1


def _name_by_name(work: _Jobs, job: NamesJob) -> Tally:
    """The tally of one job. An image is skipped if it kills a worker that has read nothing else."""
    whole, left = TallySum(), list(job.names)
    while left:
        fresh = True
        alone = [replace(job, names=[name]) for name in left]
        try:
            for tally in _loader(replace(work, jobs=alone), 1, ahead=1):
                whole.add(tally)
                del left[0]
                fresh = False
        except Exception as error:
            if not _died(error):
                raise
            if fresh:
                fault = Unreadable(
                    Reason.WORKER_DIED, f"the worker that read it died{_signal_of(error)}"
                )
                name = left.pop(0)
                whole.add(looked_at(Tally(skipped=(fault.skipped(name),)), [name], work.class_of))
    return whole.tally()


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


def is_from_loader(error: Exception) -> bool:
    return "DataLoader worker" in str(error) or isinstance(error, (ConnectionError, EOFError))
