"""The process that counts: takes pieces of work from its standard input, answers with tallies.

It is started as a plain Python, not through multiprocessing, so that the user's own program is
neither forked nor imported again.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from functools import partial
from typing import IO, Any

from imgnorm.pulse import Pulse
from imgnorm.reasons import Reason, Unreadable
from imgnorm.sources import BlockSource, ShardedSource
from imgnorm.wire import Bug, Done, Job, NeedsMemory, Ready, Setup, receive, send

_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""A worker is one of many: NumPy's thread pools would only cost memory."""

FREE_BYTES = 64 << 20
"""Images that take less memory than this are decoded without asking."""


def serve(pulse_handle: int | str) -> None:
    """Work until the parent closes our standard input, or is gone."""
    try:
        _serve(pulse_handle)
    except BaseException:  # noqa: BLE001 - the outermost edge of this process
        traceback.print_exc()
    os._exit(1)  # an ordinary exit would wait for the thread that reads standard input


def _serve(pulse_handle: int | str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    pulse = Pulse(pulse_handle)
    setup: Setup = receive(sys.stdin.buffer)
    os.environ.update(_ONE_THREAD)
    from imgnorm.arraycount import count_blocks  # NumPy and Pillow
    from imgnorm.count import count

    setup.prepare()
    # Only now: on Windows, a thread that waits for a pipe can hold up the imports above.
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, messages), daemon=True).start()
    if isinstance(setup.source, ShardedSource):
        setup.source.keep_alive(pulse.breathe)
    send(answers, Ready())
    _silence()

    def reserve(size: int) -> None:
        if size <= FREE_BYTES:
            return
        send(answers, NeedsMemory(size))
        if not messages.get():
            raise Unreadable(
                Reason.OUT_OF_MEMORY,
                f"decoding takes about {size >> 20:,} MiB, more than this machine has to spare",
            )

    source = setup.source
    in_blocks = isinstance(source, BlockSource) and not setup.settings.preprocess
    work = partial(count_blocks if in_blocks else count, source)  # type: ignore[arg-type]
    while True:
        job: Job = messages.get()
        number = job.number
        try:
            tally, done = work(
                job.names,
                setup.settings,
                max_pixels=setup.max_pixels,
                starting=lambda index, number=number: pulse.beat(number, index),  # type: ignore[misc]
                reserve=reserve,
            )
            answer: Done | Bug = Done(tally, done)
        except Exception:  # noqa: BLE001 - raised again in the parent
            answer = Bug(traceback.format_exc())
        send(answers, answer)


def _listen(stream: IO[bytes], messages: queue.SimpleQueue[Any]) -> None:
    """Ends this process as soon as its parent ends, in the middle of an image if need be."""
    try:
        while True:
            messages.put(receive(stream))
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a message that cannot be read; nobody else would tell
        traceback.print_exc()
        os._exit(1)


def _silence() -> None:
    """C libraries write warnings about broken images straight to the terminal."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
