"""The process that counts: takes pieces of work from its standard input, answers with tallies.

It comes from a nursery or is started as a plain Python, and not through multiprocessing, so that the
user's own program is neither forked nor imported again.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from dataclasses import replace
from functools import partial
from typing import IO, Any, Literal

from imgnorm.pixels.buffer import PixelBuffer
from imgnorm.progress import Stopwatch, no_lap
from imgnorm.sources.files import ask_before_reading
from imgnorm.sources.names import encoded
from imgnorm.sources.source import BlockSource, ShardedSource
from imgnorm.tally.names import names_sum
from imgnorm.tally.skipped import Reason, Unreadable
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
"""A worker is one of many: NumPy's thread pools would only cost memory."""

FREE_BYTES = 64 << 20
"""Files and images that take less memory than this are read and decoded without asking."""


def load() -> None:
    """Import and try out ahead of time what workers need, whatever they will be asked for."""
    os.environ.update(_ONE_THREAD)
    from imgnorm.pixels.jpeg import fault_of_the_fast_path

    fault_of_the_fast_path()


def serve(pulse_handle: int | str, fork_server_s: float | None = None) -> None:
    """Work until the parent closes our standard input, or is gone.

    Args:
        fork_server_s: the CPU time of the nursery that has imported everything already.
    """
    try:
        _serve(pulse_handle, fork_server_s)
    except BaseException:  # noqa: BLE001 - the outermost edge of this process
        _print_traceback()
    os._exit(1)  # an ordinary exit would wait for the thread that reads standard input


def _serve(pulse_handle: int | str, fork_server_s: float | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a module prints while it is imported is no answer
    heartbeat = Heartbeat(pulse_handle)
    setup: Setup = receive(sys.stdin.buffer)
    buffer = (
        PixelBuffer(buffer_memory(pulse_handle, setup.buffer), setup.buffer)
        if setup.buffer
        else None
    )
    os.environ.update(_ONE_THREAD)
    from imgnorm.pixels.blocks import count_blocks  # NumPy and Pillow
    from imgnorm.pixels.count import count
    from imgnorm.pixels.decode import own_process
    from imgnorm.pixels.jpeg import JpegDecoder, fast_path_version, fault_of_the_fast_path
    from imgnorm.pixels.planes import PlaneCounter

    fault = "told to" if setup.decoder == "pillow" else fault_of_the_fast_path()
    own_process(setup.max_pixels)  # only now: the check above decodes an image of its own
    jpeg = None if fault else JpegDecoder()
    setup.prepare()
    # Only now: on Windows, a thread that waits for a pipe can hold up the imports above.
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, messages), daemon=True).start()
    if isinstance(setup.source, ShardedSource):
        setup.source.keep_alive(heartbeat.still_alive)
    send_first(answers, Ready(f"Pillow: {fault}" if fault else fast_path_version(), fork_server_s))
    _silence()
    watch = Stopwatch()
    lap = watch.lap if setup.profiled else no_lap

    def ask(size: int, of: Literal["file", "pixels"]) -> None:
        if size <= FREE_BYTES:
            return
        lap("read" if of == "file" else "decode")
        send(answers, NeedsMemory(size, of))
        granted = messages.get()
        lap("wait")
        if not granted:
            doing = "reading" if of == "file" else "decoding"
            raise Unreadable(
                Reason.OUT_OF_MEMORY,
                f"{doing} takes about {size >> 20:,} MiB, more than this machine has to spare",
            )

    ask_before_reading(lambda size: ask(size, "file"))

    def reserve(size: int) -> None:
        ask(size, "pixels")

    source, task = setup.source, partial(count, setup.source, jpeg=jpeg)
    if isinstance(source, BlockSource) and not setup.settings.preprocess:
        task = partial(count_blocks, source, planes=PlaneCounter())
        _keep_memory()
    while True:
        job: Job = messages.get()
        lap("wait")
        number = job.number
        try:
            counting = task if job.decode else partial(task, leave_files=True)
            tally, done = counting(
                job.names,
                setup.settings,
                max_pixels=setup.max_pixels,
                cross_sums=setup.cross_sums,
                starting=lambda index, number=number: heartbeat.at(number, index),
                reserve=reserve,
                buffer=buffer,
                lap=lap,
            )
            tally = replace(tally, names=names_sum(encoded(job.names[:done])))
            lap("list")
            images = buffer.take() if buffer else ()
            spent = watch.taken() if setup.profiled else None
            answer: Done | Bug = Done(tally, done, images, spent)
        except Exception:  # noqa: BLE001 - raised again in the parent
            import traceback

            answer = Bug(traceback.format_exc())
        send(answers, answer)


def _keep_memory() -> None:
    """Have glibc keep memory that is freed, instead of taking it from the system anew, page by page: it
    keeps twice as much as the largest piece that was ever freed, which need not be used."""
    bytes(31 << 20)  # of 32 MiB on, it does not look at it


def _listen(stream: IO[bytes], messages: queue.SimpleQueue[Any]) -> None:
    """Ends this process as soon as its parent ends, in the middle of an image if need be."""
    try:
        while True:
            messages.put(receive(stream))
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a message that cannot be read; nobody else would tell
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
