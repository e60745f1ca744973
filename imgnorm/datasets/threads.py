"""Images in memory -> `Tally`, by threads of this process: each worker would have to load them all again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from imgnorm.datasets.jobs import GroupJob, jobs_of, sum_by_group
from imgnorm.pixels.buffer import Device, Sender
from imgnorm.pixels.count import count
from imgnorm.progress import Profile, Progress
from imgnorm.settings import ImageSettings, Limits
from imgnorm.sources.source import Readable
from imgnorm.tally.tally import Tally
from imgnorm.workers.pool import Scan

_PER_JOB = 256  # images: enough, even tiny ones, that handing out a job costs little


def counting_in_threads(
    pictures: Readable,
    settings: ImageSettings,
    limits: Limits,
    *,
    threads: int,
    device: Device | None = None,
    cross_sums: bool,
    profile: Profile | None,
) -> Scan:
    """A function that counts groups of names, like the one of `workers.pool.scanning`.

    Pillow lets other threads run while it resizes, crops or counts an image.

    Args:
        device: counts what the threads have converted and preprocessed.
    """

    def scan(
        groups: Mapping[str, Sequence[str]], on_progress: Callable[[Progress], None]
    ) -> dict[str, Tally]:
        jobs = jobs_of(groups, _PER_JOB)
        stopped = threading.Event()
        senders = [Sender(device, cross_sums=cross_sums) for _ in range(threads)] if device else []
        idle: SimpleQueue[Sender] = SimpleQueue()
        for sender in senders:
            idle.put(sender)

        def tally_of(job: GroupJob) -> Tally:
            if not senders:
                return counted_by(None, *job)
            sender = idle.get()
            try:
                return counted_by(sender, *job)
            finally:  # also if the device failed: the next job waits for a sender
                idle.put(sender)

        def counted_by(sender: Sender | None, group: str, names: Sequence[str]) -> Tally:
            tally = Tally()
            while names and not stopped.is_set():
                some, done = count(
                    pictures,
                    names,
                    settings,
                    max_pixels=limits.max_pixels,
                    cross_sums=cross_sums,
                    buffer=sender.buffer if sender else None,
                )
                tally += some
                names = names[done:]
                if sender:
                    sender.send(group)
            return tally

        with ThreadPoolExecutor(threads) as pool:
            try:
                tallies = sum_by_group(jobs, pool.map(tally_of, jobs), groups, on_progress)
            finally:
                stopped.set()  # after an interrupt, threads must not finish their jobs
        for sender in senders:
            for group, tally in sender.taken().items():
                tallies[group] += tally
        if profile:
            profile.lap("count")
            profile.note = "pixels in memory: `count` converts and preprocesses them, too"
        return tallies

    return scan
