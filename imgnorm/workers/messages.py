"""Messages between a worker process and its parent: pickles, each after its length."""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from typing import IO, Any, Literal

from imgnorm.pixels.buffer import BufferSize, PackedFile, PackedImages
from imgnorm.progress import Spent
from imgnorm.settings import Decoder, Digits
from imgnorm.sources.source import Source, Unit
from imgnorm.tally.tally import Tally

_LENGTH = struct.Struct("<Q")
_BEGIN = b"\0imgnorm\n"  # comes before the first message, and after all that others have printed


@dataclass(frozen=True)
class Setup:
    """To the worker, first: what all jobs have in common."""

    source: Source
    digits: Digits
    decoder: Decoder
    profiled: bool  # whether to send the seconds that each step took
    buffer: BufferSize | None  # for pixels, if a device counts them


TaskKind = Literal["count", "list", "divide"]
"""What to do with a unit.

"count" counts its images, or those that it has not yet counted. "list" gives it back with names.
"divide" gives the rest of a unit that is being counted back, with names, if others can read it.
"""


@dataclass(frozen=True)
class Job:
    """To the worker: a unit, and what to do with it."""

    number: int
    unit: Unit | None  # None: the one of the last job
    task: TaskKind = "count"
    brief: bool = False  # end it soon, since others have nothing to do
    decode: bool = True  # False: leave to the device what it may decode
    again: bool = False  # its images were looked at before: the device refused them


@dataclass(frozen=True)
class Ready:
    """From the worker, first: it has imported what it needs."""

    jpeg: str  # what decodes ordinary JPEGs; if that is Pillow, also why
    fork_server_s: float | None  # CPU time of the fork server until then; None without one


@dataclass(frozen=True)
class NeedsMemory:
    """From the worker, which waits for a bool: may it take this much memory?"""

    bytes: int
    kind: Literal["file", "pixels"]


@dataclass(frozen=True)
class Done:
    """From the worker: what it counted."""

    tally: Tally
    images: int  # how many it looked at
    finished: bool  # it has nothing more of this unit
    group: str = ""  # the class of the images in the buffer, if classes are counted
    rest: Unit | None = None  # the images that it hands back, with names
    buffered: tuple[PackedImages | PackedFile, ...] = ()  # in the buffer, not yet counted
    spent: Spent | None = None  # since the last answer, if that is asked for


@dataclass(frozen=True)
class Forget:
    """From the worker: what it counted of this unit may be wrong. It must be listed before it is read."""


@dataclass(frozen=True)
class Bug:
    """From the worker: an error that is not the image's fault."""

    traceback: str


def send(stream: IO[bytes], message: object) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def send_first(stream: IO[bytes], message: object) -> None:
    """Send the first message to a reader that calls `receive_first`."""
    stream.write(_BEGIN)
    send(stream, message)


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


def receive_first(stream: IO[bytes]) -> Any:
    """Receive the first message; skips what modules of the user print while Python starts.

    Raises:
        EOFError: the other side is gone.
    """
    while line := stream.readline():
        if line.endswith(_BEGIN):
            return receive(stream)
    raise EOFError
