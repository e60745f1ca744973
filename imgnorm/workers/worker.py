"""The worker process: counts the names that it reads from standard input, and answers with tallies.

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
from typing import IO, Any, Literal

from imgnorm.pixels.buffer import PixelBuffer
from imgnorm.progress import Stage, Stopwatch, no_lap
from imgnorm.sources.files import ask_before_reading
from imgnorm.sources.names import encoded
from imgnorm.sources.source import BlockSource, ShardedSource
from imgnorm.tally.names import names_sum
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.tally.tally import Tally
from imgnorm.workers.heartbeat import Heartbeat, buffer_memory
from imgnorm.workers.messages import (
    Bug,
    Done,
    Job,
    NeedsMemory,
    Ready,
    Setup,
    receive,
    send,
    send_first,
)

_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""A worker is one of many: NumPy's thread pools would only take memory."""

FREE_BYTES = 64 << 20
"""Files and images that take less memory than this are read and decoded without asking."""

_Count = Callable[..., tuple[Tally, int]]
"""`count` or `count_blocks`, with what all jobs have in common."""


def load() -> None:
    """Import and check what every worker needs, before it is known what they will count."""
    os.environ.update(_ONE_THREAD)
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
        count, jpeg = _counting(setup)
        setup.prepare()
        # After the imports: on Windows, a thread that waits for a pipe can hold them up.
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(sys.stdin.buffer, messages), daemon=True).start()
        if isinstance(setup.source, ShardedSource):
            setup.source.keep_alive(heartbeat.still_alive)
        send_first(answers, Ready(jpeg, fork_server_s))
        _silence()
        _answer_jobs(setup, count, messages, answers, heartbeat, buffer)
    except BaseException:  # noqa: BLE001 - the outermost edge of this process
        _print_traceback()
    os._exit(1)  # an ordinary exit would wait for the thread that reads standard input


def _counting(setup: Setup) -> tuple[_Count, str]:
    """The function that counts names, and what decodes ordinary JPEGs for it."""
    os.environ.update(_ONE_THREAD)
    from imgnorm.pixels.blocks import count_blocks  # imports NumPy and Pillow
    from imgnorm.pixels.count import count
    from imgnorm.pixels.decode import prepare_process
    from imgnorm.pixels.jpeg import JpegDecoder, fast_path_version, fault_of_the_fast_path
    from imgnorm.pixels.planes import PlaneCounter

    fault = "as requested" if setup.decoder == "pillow" else fault_of_the_fast_path()
    prepare_process(setup.max_pixels)  # after the check above, which decodes an image of its own
    jpeg = f"Pillow: {fault}" if fault else fast_path_version()
    source = setup.source
    if isinstance(source, BlockSource) and not setup.settings.preprocess:
        _keep_memory()
        return partial(count_blocks, source, planes=PlaneCounter()), jpeg
    return partial(count, source, jpeg=None if fault else JpegDecoder()), jpeg


def _answer_jobs(
    setup: Setup,
    count: _Count,
    messages: queue.SimpleQueue[Any],
    answers: IO[bytes],
    heartbeat: Heartbeat,
    buffer: PixelBuffer | None,
) -> None:
    """Answers each job with Done or Bug, until the process ends; in between, it may ask for memory."""
    watch = Stopwatch()
    lap = watch.lap if setup.profiled else no_lap
    ask = partial(_ask_for_memory, messages, answers, lap)
    ask_before_reading(partial(ask, "file"))
    while True:
        job: Job = messages.get()
        lap("wait")
        number = job.number
        try:
            counting = count if job.decode else partial(count, leave_files=True)
            tally, done = counting(
                job.names,
                setup.settings,
                max_pixels=setup.max_pixels,
                cross_sums=setup.cross_sums,
                starting=lambda index, number=number: heartbeat.begin(number, index),
                reserve=partial(ask, "pixels"),
                buffer=buffer,
                lap=lap,
            )
            tally = replace(tally, names_sum=names_sum(encoded(job.names[:done])))
            lap("list")
            images = buffer.take() if buffer else ()
            spent = watch.taken() if setup.profiled else None
            answer: Done | Bug = Done(tally, done, images, spent)
        except Exception:  # noqa: BLE001 - raised again in the parent
            import traceback

            answer = Bug(traceback.format_exc())
        send(answers, answer)


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
