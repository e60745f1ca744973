"""Where images live: a source lists names, and reads one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from imgnorm.settings import Mode
from imgnorm.tally.skipped import Skipped, Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

    from imgnorm.settings import ImageSettings


@dataclass(frozen=True)
class Listing:
    """All that a source holds: found = names + skipped + ignored."""

    names: Sequence[str]  # to be measured, in the order of their bytes, each once
    skipped: tuple[Skipped, ...] = ()  # found, and known to be unreadable without looking inside
    ignored: dict[str, int] = field(default_factory=dict)  # rule -> entries it passed over


class Source(Protocol):
    """Where images live. It is sent to other processes, so it holds no open file."""

    @property
    def kind(self) -> str:
        """What the stats file calls this kind of source."""

    @property
    def ref(self) -> str:
        """What the user called it."""

    def listing(self) -> Listing: ...

    def class_of(self, name: str) -> str | None:
        """The class that ImageFolder or the dataset puts this image in."""


class Readable(Protocol):
    """What hands out images one by one."""

    def read(self, name: str) -> bytes | Image | Block:
        """One image's encoded bytes, the image that a foreign loader made of them, or its pixels.

        Raises:
            Unreadable: it cannot be read, with the reason.
        """


@runtime_checkable
class EncodedSource(Source, Readable, Protocol):
    """Images that must be decoded: worker processes read them one by one."""


@runtime_checkable
class OpenedSource(EncodedSource, Protocol):
    """Encoded images behind something that takes long to open: each worker does it once, first."""

    def open(self) -> None: ...


@runtime_checkable
class ShardedSource(EncodedSource, Protocol):
    """Images in files that hold many each: best read one shard after the other."""

    def shard_of(self, name: str) -> str:
        """The file that holds it; the name begins with it and a slash."""

    def shards(self, names: Sequence[str]) -> Iterable[tuple[str, Sequence[str]]]:
        """The names by shard, in the order in which the shard holds them."""

    def keep_alive(self, still_alive: Callable[[], None]) -> None:
        """Have `still_alive` called while `read` is slow for no fault of its image: seeking, say."""


@runtime_checkable
class StreamedSource(ShardedSource, Protocol):
    """Shards of which some can only be read from their beginning on."""

    def is_stream(self, shard: str) -> bool: ...


@dataclass(frozen=True)
class Block:
    """Images of one shape, as they lie in memory: what NumPy needs to see them as (N, H, W, C)."""

    names: Sequence[str]
    mode: Mode
    data: bytes | memoryview  # until the next block of the same call of `blocks` is read
    dtype: str  # as NumPy writes it: "|u1", "<f4", ">u2"
    shape: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]  # in bytes


@runtime_checkable
class BlockSource(EncodedSource, Protocol):
    """Images that are pixels already, many of one shape side by side: read and counted in blocks."""

    names_at_once: int
    """So many names make a piece of work, at most."""

    names_at_least: int
    """Of fewer, a piece takes less time than to hand it out."""

    def for_one(self, shard: str) -> bool:
        """Whether one worker should take all of a shard: it can only be read from its beginning on."""

    def check(self, settings: ImageSettings) -> None:
        """
        Raises:
            SourceError: its images cannot become what the settings ask for.
        """

    def blocks(self, names: Sequence[str]) -> Iterator[Block | tuple[Sequence[str], Unreadable]]:
        """The images, in their order; names that cannot be read come with the reason."""


def in_reading_order(source: object, names: Sequence[str]) -> Sequence[str]:
    """Shard by shard, each as it lies in its file: a compressed one cannot be read backwards."""
    if not isinstance(source, ShardedSource):
        return names
    return [name for _, held in source.shards(names) for name in held]
