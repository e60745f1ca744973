"""What a worker process and its parent say to each other: pickles with their length in front."""

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
_BEGIN = b"\0imgnorm\n"


@dataclass(frozen=True)
class Setup:
    """The first message to a worker."""

    source: EncodedSource
    settings: ImageSettings
    max_pixels: int
    decoder: Decoder
    profiled: bool  # whether tallies come with the seconds they took
    cross_sums: bool  # whether they come with what error bars need
    buffer: BufferSize | None  # where a device counts

    def prepare(self) -> None:
        """Opens a source that has something to open, before the time of its first image runs."""
        if isinstance(self.source, OpenedSource):
            self.source.open()


@dataclass(frozen=True)
class Job:
    """A piece of work."""

    number: int
    names: Sequence[str]
    decode: bool = True  # else leave to the device what it may decode


@dataclass(frozen=True)
class Ready:
    """The worker has imported what it needs."""

    jpeg: str  # who decodes ordinary JPEGs, and why Pillow if it does
    fork_server_s: float | None  # the CPU time of the nursery that imported it, if there is one


@dataclass(frozen=True)
class NeedsMemory:
    """The worker waits for a bool: may it take this much?"""

    bytes: int
    of: Literal["file", "pixels"]


@dataclass(frozen=True)
class Done:
    """The tally of the first `done` names of a job."""

    tally: Tally
    done: int
    images: tuple[
        PackedImages | PackedFile, ...
    ]  # of those names, on the tray: counted by nobody yet
    spent: Spent | None  # since the last answer, if that is asked for


@dataclass(frozen=True)
class Bug:
    """Something broke that is not the image's fault."""

    traceback: str


def send(stream: IO[bytes], message: object) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def send_first(stream: IO[bytes], message: object) -> None:
    stream.write(_BEGIN)
    send(stream, message)


def receive_first(stream: IO[bytes]) -> Any:
    """Passes over what the user's own modules, which Python imports as it starts, have printed.

    Raises:
        EOFError: the other side is gone.
    """
    while line := stream.readline():
        if line.endswith(_BEGIN):
            return receive(stream)
    raise EOFError


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
