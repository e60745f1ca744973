"""The pool of worker processes: groups of names -> the tally of each.

One thread drives each worker (driver.py). One more looks for workers that hang. The thread that scans
only adds tallies up. An image that kills its worker or hangs costs itself: it never ends the scan.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from queue import Empty

from imgnorm.pixels.buffer import BufferCounter, BufferSize, Device
from imgnorm.progress import Profile, Progress, no_lap
from imgnorm.settings import Decoder, ImageSettings, Limits
from imgnorm.sources.source import EncodedSource
from imgnorm.tally.tally import Tally
from imgnorm.workers import forkserver
from imgnorm.workers.driver import Driver, no_thread
from imgnorm.workers.messages import Setup
from imgnorm.workers.work_queue import WorkQueue, batches

_POLL_S = 0.1

Scan = Callable[[Mapping[str, Sequence[str]], Callable[[Progress], None]], dict[str, Tally]]
"""Groups of names -> the tally of each group."""


@contextmanager
def scanning(
    source: EncodedSource,
    settings: ImageSettings,
    limits: Limits,
    *,
    workers: int,
    decoder: Decoder = "auto",
    device: Device | None = None,
    cross_sums: bool = False,
    profile: Profile | None = None,
) -> Iterator[Scan]:
    """A function that scans groups of names, once or more often, with the same workers.

    Its tallies depend on the images only, not on how the work was shared.

    Args:
        device: counts what the workers have decoded; without it, they count themselves.
        cross_sums: count what error bars need, too.
        profile: records where the time went.

    Raises:
        ImgnormError: worker processes cannot be started.
        DeviceError: the device failed.
    """
    lap = profile.lap if profile else no_lap
    profiled = profile is not None
    buffer = BufferSize.of(device.batch, settings) if device else None
    setup = Setup(source, settings, limits.max_pixels, decoder, profiled, cross_sums, buffer)
    counters = [device.counter(cross_sums=cross_sums) for _ in range(workers)] if device else []
    with _drivers(setup, limits.timeout_s, workers, profile, counters) as queue:

        def scan(
            groups: Mapping[str, Sequence[str]], on_progress: Callable[[Progress], None]
        ) -> dict[str, Tally]:
            total = sum(map(len, groups.values()))
            tallies = {group: Tally() for group in groups}
            done = bytes_read = 0
            queue.add(batches(source, groups))
            lap("start")
            while done < total:
                try:
                    outcome = queue.outcomes.get(timeout=_POLL_S)
                    lap("wait")
                except Empty:
                    lap("wait")
                    on_progress(Progress(done, total, bytes_read))
                    continue
                if isinstance(outcome, BaseException):
                    raise outcome
                group, tally, images = outcome
                tallies[group] += tally
                done += images
                bytes_read += tally.bytes_read
                on_progress(Progress(done, total, bytes_read))
                lap("merge")
            for counter in counters:
                for group, tally in counter.taken().items():
                    tallies[group] += tally
                lap("merge")
            return tallies

        yield scan
    lap("wait")


@contextmanager
def _drivers(
    setup: Setup,
    timeout_s: float,
    workers: int,
    profile: Profile | None,
    counters: Sequence[BufferCounter],
) -> Iterator[WorkQueue]:
    """The queue of running drivers; leaving the context ends them and their workers, finished or not."""
    queue = WorkQueue(workers)
    fork_server = forkserver.start_server()
    drivers = [
        Driver(f"worker {number}", queue, setup, timeout_s, profile, counter, fork_server)
        for number, counter in zip_longest(range(1, workers + 1), counters)
    ]
    queue.drivers = len(drivers)
    try:
        watch = threading.Thread(target=_watch, args=(queue, drivers), daemon=True)
        try:
            watch.start()
        except RuntimeError as error:
            raise no_thread(error) from error
        for driver in drivers:
            driver.begin()
        yield queue
    finally:
        queue.close()
        if fork_server:
            fork_server.abandon()
        for driver in drivers:
            driver.kill_worker()
        for driver in drivers:
            if driver.is_alive():  # a signal may have come before all were started
                driver.join()
            driver.clean_up()
        if fork_server:
            fork_server.close()


def _watch(queue: WorkQueue, drivers: Sequence[Driver]) -> None:
    """Ends workers that stay at one image for too long."""
    try:
        while not queue.closed.wait(_POLL_S):
            for driver in drivers:
                driver.check_time()
    except Exception as error:  # noqa: BLE001 - raised again in the thread that scans
        queue.fail(error)
