"""Images in memory -> Tally, by threads of this process: a worker would have to load them all anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from imgnorm.datasets.iterables import Job, added, jobs_of
from imgnorm.pixels.buffer import Device, Sender
from imgnorm.pixels.count import count
from imgnorm.progress import Profile, Progress
from imgnorm.settings import ImageSettings, Limits
from imgnorm.sources.source import Readable
from imgnorm.tally.tally import Tally
from imgnorm.workers.pool import Scan

_PER_JOB = 256  # images: so many tiny ones are worth a count of their own


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
    """A function that counts groups of names, as `scan.scanning` gives it.

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

        def tally_of(job: Job) -> Tally:
            if not senders:
                return counted_by(None, *job)
            sender = idle.get()
            try:
                return counted_by(sender, *job)
            finally:  # also if the device failed: the next piece of work waits for a sender
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
                tallies = added(jobs, pool.map(tally_of, jobs), groups, on_progress)
            finally:
                stopped.set()  # after an interrupt, a thread should not finish its piece of work
        for sender in senders:
            for group, tally in sender.taken().items():
                tallies[group] += tally
        if profile:
            profile.lap("count")
            profile.note = "pixels in memory: `count` converts and preprocesses them, too"
        return tallies

    return scan
