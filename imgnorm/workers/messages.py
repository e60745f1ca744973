"""Messages between a worker process and its parent: pickles, each after its length."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

from imgnorm.pixels.buffer import BufferSize, PackedFile, PackedImages
from imgnorm.progress import Spent
from imgnorm.settings import Decoder, ImageSettings
from imgnorm.sources.source import EncodedSource, OpenedSource
from imgnorm.tally.tally import Tally

_LENGTH = struct.Struct("<Q")
_BEGIN = b"\0imgnorm\n"  # comes before the first message, and after all that others have printed


@dataclass(frozen=True)
class Setup:
    """To the worker, first: what all jobs have in common."""

    source: EncodedSource
    settings: ImageSettings
    max_pixels: int
    decoder: Decoder
    profiled: bool  # whether to send the seconds that each step took
    cross_sums: bool  # whether to count what error bars need
    buffer: BufferSize | None  # for pixels, if a device counts them

    def prepare(self) -> None:
        """Opens the source, if it is to be opened, before the time of its first image runs."""
        if isinstance(self.source, OpenedSource):
            self.source.open()


@dataclass(frozen=True)
class Job:
    """To the worker: names to count."""

    number: int
    names: Sequence[str]
    decode: bool = True  # False: leave to the device what it may decode


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
    """From the worker: the tally of the first `done` names of a job."""

    tally: Tally
    done: int
    images: tuple[PackedImages | PackedFile, ...]  # of these names, in the buffer, not yet counted
    spent: Spent | None  # since the last answer, if that is asked for


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
