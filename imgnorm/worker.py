"""The process that counts: takes pieces of work from its standard input, answers with tallies.

It is started as a plain Python, not through multiprocessing, so that the user's own program is
neither forked nor imported again. Messages are pickles with their length in front.
"""

from __future__ import annotations

import mmap
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from imgnorm.image import ImageSettings
from imgnorm.reasons import Reason, Unreadable
from imgnorm.sources import EncodedSource, OpenedSource, ShardedSource
from imgnorm.tally import Tally

_LENGTH = struct.Struct("<Q")
_PULSE = struct.Struct("<q")
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""A worker is one of many: NumPy's thread pools would only cost memory."""

FREE_BYTES = 64 << 20
"""Images that take less memory than this are decoded without asking."""


@dataclass(frozen=True)
class Setup:
    """The first message to a worker."""

    source: EncodedSource
    settings: ImageSettings
    max_pixels: int
    products: bool = False  # count what error bars need, too

    def prepare(self) -> None:
        """Opens a source that has something to open, before the time of its first image runs."""
        if isinstance(self.source, OpenedSource):
            self.source.open()


@dataclass(frozen=True)
class Job:
    """A piece of work."""

    number: int
    names: Sequence[str]


@dataclass(frozen=True)
class Ready:
    """The worker has imported what it needs."""


@dataclass(frozen=True)
class NeedsMemory:
    """The worker waits for a bool: may it take this much?"""

    bytes: int


@dataclass(frozen=True)
class Done:
    """The tally of the first `done` names of a job."""

    tally: Tally
    done: int


@dataclass(frozen=True)
class Bug:
    """Something broke that is not the image's fault."""

    traceback: str


class Pulse:
    """Where a worker is, in memory that it shares with its parent: survives any way to die."""

    def __init__(self, handle: int | str) -> None:
        """
        Args:
            handle: a file descriptor of one page; on Windows, the name of a shared mapping.
        """
        if isinstance(handle, int):
            self._memory = mmap.mmap(handle, mmap.PAGESIZE)
        else:
            self._memory = mmap.mmap(-1, mmap.PAGESIZE, tagname=handle)  # type: ignore[call-arg]

    def beat(self, job: int, index: int) -> None:
        _PULSE.pack_into(self._memory, 0, job << 20 | index)

    def breathe(self) -> None:
        """Still at the same name, but not stuck."""
        (breaths,) = _PULSE.unpack_from(self._memory, _PULSE.size)
        _PULSE.pack_into(self._memory, _PULSE.size, breaths + 1)

    def sign_of_life(self) -> bytes:
        """Differs from the last one unless the worker is stuck, or has nothing to do."""
        return self._memory[: 2 * _PULSE.size]

    def last(self) -> tuple[int, int]:
        """The number of the job, and the index of the name that is being read."""
        (value,) = _PULSE.unpack_from(self._memory, 0)
        return value >> 20, value & (1 << 20) - 1

    def close(self) -> None:
        self._memory.close()


def send(stream: IO[bytes], message: object) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """
    Raises:
        EOFError: the other side is gone.
    """
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(header)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)


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
    from imgnorm.count import count  # NumPy and Pillow

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

    while True:
        job: Job = messages.get()
        number = job.number
        try:
            tally, done = count(
                setup.source,
                job.names,
                setup.settings,
                max_pixels=setup.max_pixels,
                products=setup.products,
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
