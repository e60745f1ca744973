"""Images that Python makes or that are in memory -> `Tally`, in this process: the executor of items.

Units are cut into jobs of a few names each. A job's images are counted by an `ItemCounter`, in the thread
that called, or in several where the images are pixels in memory: a worker process would load them again.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, takewhile
from queue import SimpleQueue

from imgnorm.datasets.counter import Found, ItemCounter
from imgnorm.pixels.buffer import Sender
from imgnorm.progress import Profile, Progress, Stage
from imgnorm.sources.names import looked_at
from imgnorm.sources.source import Unit
from imgnorm.tally.tally import Tally, TallySum
from imgnorm.workers.executor import Work

MADE_HERE = "the user's own Python makes the images: `count` is its time, too"

ImagesOf = Callable[[Sequence[str]], Iterable[tuple[Sequence[str], Found]]]
"""What gives the images of some names, one or several at a time, with their names."""


@dataclass(frozen=True)
class NamesJob:
    """Images that are counted together. After each job, progress is reported and Ctrl-C obeyed."""

    names: Sequence[str]
    class_: str | None = None  # of all of them, if the moments of each class are counted


@dataclass(frozen=True)
class ItemExecutor:
    """An executor that counts images in this process.

    Args:
        job_images: how many names a job has at most.
        in_memory: the images are pixels in memory, which several threads may read at once, and the
            device counts all of them. Else a user's own Python makes them, in the thread that calls.
        threads: how many count side by side, if they are in memory.
    """

    images_of: ImagesOf
    class_of: Callable[[str], str | None]
    work: Work
    job_images: int
    in_memory: bool = False
    threads: int = 1
    note: str = MADE_HERE  # for a profile

    def __call__(self, units: Iterable[Unit], on_progress: Callable[[Progress], None]) -> Tally:
        """
        Raises:
            DeviceError: the device failed.
        """
        units = list(units)
        stopped = threading.Event()
        senders = [sender_of(self.work) for _ in range(self.threads)]
        idle: SimpleQueue[Sender | None] = SimpleQueue()
        for sender in senders:
            idle.put(sender)

        def tally_of(job: NamesJob) -> Tally:
            sender = idle.get()
            try:
                return self._counted(job, sender, stopped)
            finally:  # also if the device failed: the next job waits for a sender
                idle.put(sender)

        at_most = 1 if self.work.each else self.job_images
        jobs = jobs_of(units, at_most, self.class_of if self.work.digits.per_class else None)
        pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        try:
            tallies = pool.map(tally_of, jobs) if pool else map(tally_of, jobs)
            total = sum_of(tallies, sum(map(len, units)), on_progress, self.work)
        finally:
            stopped.set()  # after an interrupt, threads must not finish their jobs
            if pool:
                pool.shutdown(cancel_futures=True)
        for sender in senders:
            total.add(sent_by(sender))
        note_time(self.work.profile, "count", self.note)
        return total.tally()

    def _counted(self, job: NamesJob, sender: Sender | None, stopped: threading.Event) -> Tally:
        counter = ItemCounter(
            self.work,
            sender,
            job.class_,
            sends_pictures=self.in_memory,
            threads=1 if self.in_memory else None,
        )
        found = takewhile(lambda _: not stopped.is_set(), self.images_of(job.names))
        return counted(job, found, counter, self.class_of)


def jobs_of(
    units: Iterable[Unit], at_most: int, class_of: Callable[[str], str | None] | None = None
) -> Iterator[NamesJob]:
    """The names of units, at most `at_most` in each job.

    Args:
        class_of: keep the classes apart, so that a job has names of one class.
    """
    names = (name for unit in units for name in unit.names or ())
    classes: dict[str | None, Iterable[str]] = {None: names}
    if class_of:
        by_class: defaultdict[str | None, list[str]] = defaultdict(list)
        for name in names:
            by_class[class_of(name)].append(name)
        classes = dict(by_class)
    for class_, its_names in classes.items():
        rest = iter(its_names)
        while some := list(islice(rest, at_most)):
            yield NamesJob(some, class_)


def counted(
    job: NamesJob,
    found: Iterable[tuple[Sequence[str], Found]],
    counter: ItemCounter,
    class_of: Callable[[str], str | None],
) -> Tally:
    """The tally of a job, from a fresh counter."""
    for names, images in found:
        counter.add(images, names)
    return looked_at(_of_class(counter.tally(), job.class_), job.names, class_of)


def sum_of(
    tallies: Iterable[Tally],
    images: int,
    on_progress: Callable[[Progress], None],
    work: Work,
) -> TallySum:
    """All tallies of jobs as one.

    Args:
        images: how many the jobs look at.
    """
    total = TallySum(work.take_rows)
    for tally in tallies:
        total.add(tally)
        if work.each:
            work.each(tally)
        on_progress(Progress(total.names, images, 0))
    return total


def sender_of(work: Work) -> Sender | None:
    return Sender(work.device) if work.device else None


def sent_by(sender: Sender | None) -> Tally:
    """What the device counted of all that a sender sent it; its groups are classes."""
    total = TallySum()
    for class_, tally in sender.taken().items() if sender else ():
        total.add(_of_class(tally, class_ or None))
    return total.tally()


def note_time(profile: Profile | None, stage: Stage, note: str = MADE_HERE) -> None:
    """Record that this stage has ended, and what the profile cannot keep apart."""
    if profile:
        profile.lap(stage)
        profile.note = note


def _of_class(tally: Tally, class_: str | None) -> Tally:
    return tally if class_ is None else tally.with_class(class_)
