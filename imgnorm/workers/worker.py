"""The worker process: counts the units that it reads from standard input, and answers with tallies.

It is forked from the fork server, or started as a plain Python. Not by multiprocessing, which would
import the user's own program again, or fork it
(https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods).
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Literal

from imgnorm.pixels.buffer import PixelBuffer
from imgnorm.progress import Stage, Stopwatch, no_lap
from imgnorm.sources.files import ask_before_reading
from imgnorm.sources.source import Reread, Unit
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.tally.tally import Tally
from imgnorm.workers.heartbeat import Heartbeat, buffer_memory
from imgnorm.workers.messages import (
    Bug,
    Done,
    Forget,
    Job,
    NeedsMemory,
    Ready,
    Setup,
    receive,
    send,
    send_first,
)

if TYPE_CHECKING:
    from imgnorm.pixels.count import Counting, UnitEntries

_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""A worker is one of many: NumPy's thread pools would only take memory."""

_BRIEF_S = 0.05
"""A brief job takes about this long: it is all that an archive needs that is not worth dividing."""

FREE_BYTES = 64 << 20
"""Files and images that take less memory than this are read and decoded without asking."""


def load() -> None:
    """Import and check what every worker needs, before it is known what they will count."""
    os.environ.update(_ONE_THREAD)
    import imgnorm.pixels.count  # noqa: F401 - else each worker would import it
    from imgnorm.pixels.jpeg import fault_of_the_fast_path

    fault_of_the_fast_path()


def run_worker(heartbeat_handle: int | str, fork_server_s: float | None = None) -> None:
    """Work until the parent closes our standard input, or is gone. Never returns.

    Args:
        fork_server_s: CPU time of the fork server, if this process comes from one.
    """
    try:
        # Ctrl-C reaches all processes: the parent decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        answers = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)  # what a module prints while it is imported must not be among the answers
        heartbeat = Heartbeat(heartbeat_handle)
        setup: Setup = receive(sys.stdin.buffer)
        buffer = None
        if setup.buffer:
            buffer = PixelBuffer(buffer_memory(heartbeat_handle, setup.buffer), setup.buffer)
        reader, jpeg = _reader(setup, heartbeat, buffer)
        setup.source.open()
        # After the imports: on Windows, a thread that waits for a pipe can hold them up.
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(sys.stdin.buffer, messages), daemon=True).start()
        setup.source.keep_alive(heartbeat.still_alive)
        send_first(answers, Ready(jpeg, fork_server_s))
        _silence()
        _answer_jobs(reader, messages, answers)
    except BaseException:  # noqa: BLE001 - the outermost edge of this process
        _print_traceback()
    os._exit(1)  # an ordinary exit would wait for the thread that reads standard input


def _reader(setup: Setup, heartbeat: Heartbeat, buffer: PixelBuffer | None) -> tuple[_Reader, str]:
    """What does the jobs, and what decodes ordinary JPEGs for it."""
    os.environ.update(_ONE_THREAD)
    from imgnorm.pixels.count import Counting  # imports NumPy and Pillow
    from imgnorm.pixels.decode import prepare_process
    from imgnorm.pixels.jpeg import jpeg_decoder_of

    jpeg, version = jpeg_decoder_of(setup.decoder)
    prepare_process(
        setup.digits.max_pixels
    )  # after the line above, which decodes images of its own
    if setup.source.in_blocks:
        _keep_memory()
    watch = Stopwatch()
    counting = Counting(
        setup.digits,
        class_of=setup.source.class_of,
        jpeg=jpeg,
        buffer=buffer,
        lap=watch.lap if setup.profiled else no_lap,
    )
    return _Reader(setup, counting, heartbeat, watch), version


def _answer_jobs(reader: _Reader, messages: queue.SimpleQueue[Any], answers: IO[bytes]) -> None:
    """Answers each job with Done, Forget or Bug, until the process ends; in between, it may ask for memory."""
    lap = reader.counting.lap
    ask = partial(_ask_for_memory, messages, answers, lap)
    ask_before_reading(partial(ask, "file"))
    reader.counting = replace(reader.counting, reserve=partial(ask, "pixels"))
    while True:
        job: Job = messages.get()
        lap("wait")
        try:
            answer: Done | Forget | Bug = reader.do(job)
        except Reread:
            answer = Forget()
        except Exception:  # noqa: BLE001 - raised again in the parent
            import traceback

            answer = Bug(traceback.format_exc())
        send(answers, answer)


class _Reader:
    """Does one job after the other; a unit may take several."""

    def __init__(
        self, setup: Setup, counting: Counting, heartbeat: Heartbeat, watch: Stopwatch
    ) -> None:
        self.counting = counting
        self._setup = setup
        self._heartbeat = heartbeat
        self._watch = watch
        self._entries: UnitEntries | None = None  # of a unit that is not finished

    def do(self, job: Job) -> Done:
        """
        Raises:
            Reread: what was counted of the unit so far must be forgotten.
        """
        self._heartbeat.begin(job.number, 0)
        if job.task == "list":
            assert job.unit is not None
            done = self._listed(job.unit)
        elif job.task == "divide":
            done = self._divided()
        else:
            done = self._counted(job)
        buffer = self.counting.buffer
        return replace(
            done,
            buffered=buffer.take() if buffer else (),
            spent=self._watch.taken() if self._setup.profiled else None,
        )

    def _listed(self, unit: Unit) -> Done:
        """Hand back the whole unit, with names."""
        self._entries = None
        try:
            listing = self._setup.source.listed(unit)
        except Unreadable as fault:
            return Done(Tally(skipped=(fault.skipped(unit.id),)), 0, finished=True)
        self.counting.lap("list")
        tally = Tally(skipped=listing.skipped, ignored=listing.ignored)
        return Done(tally, 0, finished=True, rest=listing.unit)

    def _divided(self) -> Done:
        """What is left of the unit of the last job, if other processes can read it.

        The unit is not finished then: what it skips or ignores is still to come.
        """
        assert self._entries is not None
        rest = self._setup.source.rest(self._entries.entries)
        self.counting.lap("list")
        return Done(Tally(), 0, finished=False, rest=rest)

    def _counted(self, job: Job) -> Done:
        from imgnorm.pixels.count import UnitEntries, count

        if job.unit is not None:
            singly = bool(self._setup.digits.settings.preprocess)
            self._entries = UnitEntries(self._setup.source, job.unit, singly=singly)
        assert self._entries is not None
        number = job.number
        counted = count(
            self._entries,
            self.counting,
            starting=lambda index: self._heartbeat.begin(number, index),
            leave_files=not job.decode,
            again=job.again,
            seconds=_BRIEF_S if job.brief else None,
        )
        return Done(counted.tally, counted.images, counted.finished, counted.group)


def _ask_for_memory(
    messages: queue.SimpleQueue[Any],
    answers: IO[bytes],
    lap: Callable[[Stage], None],
    kind: Literal["file", "pixels"],
    size: int,
) -> None:
    """Waits until the parent grants memory for a file or for the pixels of an image.

    Raises:
        Unreadable: it does not.
    """
    if size <= FREE_BYTES:
        return
    lap("read" if kind == "file" else "decode")
    send(answers, NeedsMemory(size, kind))
    granted = messages.get()
    lap("wait")
    if not granted:
        doing = "reading" if kind == "file" else "decoding"
        raise Unreadable(
            Reason.OUT_OF_MEMORY,
            f"{doing} takes about {size >> 20:,} MiB, more than this machine has to spare",
        )


def _keep_memory() -> None:
    """Have glibc keep freed memory, instead of giving it back to the system and asking for it anew.

    Freeing a block that was mapped raises the size from which glibc maps blocks, if the block is no
    larger than 32 MiB. It then keeps up to twice that size. The block itself is never touched
    (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD in https://man7.org/linux/man-pages/man3/mallopt.3.html).
    """
    bytes(31 << 20)


def _listen(stream: IO[bytes], messages: queue.SimpleQueue[Any]) -> None:
    """Ends this process as soon as its parent ends, in the middle of an image if need be."""
    try:
        while True:
            messages.put(receive(stream))
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a message that cannot be read would be lost in this thread
        _print_traceback()
        os._exit(1)


def _print_traceback() -> None:
    import traceback  # slow to load, and seldom needed

    traceback.print_exc()


def _silence() -> None:
    """C libraries write warnings about broken images straight to the terminal."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
