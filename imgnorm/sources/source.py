"""What a source of images in files must offer: a list of their names, and one image by its name.

`Source` and `EncodedSource` are enough for most kinds. The others are for files that hold many images,
and add what makes reading them quick.
"""

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
    """Everything that a source found: found = names + skipped + ignored."""

    names: Sequence[str]  # to be measured, sorted by their bytes, each once
    skipped: tuple[Skipped, ...] = ()  # known to be unreadable without reading them
    ignored: dict[str, int] = field(default_factory=dict)  # rule -> entries that it ignored


class Source(Protocol):
    """Where images live.

    A name is a text that identifies one image: relative, with '/', and the same on every machine that
    has the same images. A source is pickled and sent to worker processes, so it keeps no open file in
    its state.
    """

    @property
    def kind(self) -> str:
        """What the stats file calls this kind of source: "folder", "archive"."""

    @property
    def ref(self) -> str:
        """What the user called it, with '/' between folders."""

    def listing(self) -> Listing:
        """Everything that the source has, without decoding an image.

        Each entry is a name to be measured, or skipped with a reason, or counted as ignored by a rule;
        none is left out silently. It is called before anything is read.

        Raises:
            SourceError: the source as a whole cannot be measured.
        """

    def class_of(self, name: str) -> str | None:
        """The class that ImageFolder or the dataset puts this image in, for `--per-class`."""


class Readable(Protocol):
    """What reads images one by one."""

    def read(self, name: str) -> bytes | Image | Block:
        """One image: its encoded bytes, the image that another loader made of them, or its pixels.

        Raises:
            Unreadable: it cannot be read, with the reason. Every OSError must be turned into it.
        """


@runtime_checkable
class EncodedSource(Source, Readable, Protocol):
    """Images that must be decoded: worker processes read them one by one."""


@runtime_checkable
class OpenedSource(EncodedSource, Protocol):
    """Encoded images in something that takes long to open: each worker opens it once, at its start."""

    def open(self) -> None: ...


@runtime_checkable
class ShardedSource(EncodedSource, Protocol):
    """Images in files that hold many each, which are best read one file (shard) after the other."""

    def shard_of(self, name: str) -> str:
        """The shard that an image is in; the image's name begins with it and a slash."""

    def shards(self, names: Sequence[str]) -> Iterable[tuple[str, Sequence[str]]]:
        """The names by shard, in the order in which the shard holds them."""

    def keep_alive(self, still_alive: Callable[[], None]) -> None:
        """Call `still_alive` from now on where `read` is slow but not stuck: while it seeks, say.

        A worker that gives no sign of life for too long is ended, and its image is skipped.
        """


@runtime_checkable
class StreamedSource(ShardedSource, Protocol):
    """Shards of which some can only be read from their beginning, such as tar.gz."""

    def is_stream(self, shard: str) -> bool:
        """Whether reading an image of this shard means to pass over all images before it."""


@dataclass(frozen=True)
class Block:
    """Images of one shape, as they lie in memory: what NumPy needs to see them as (N, H, W, C)."""

    names: Sequence[str]
    mode: Mode
    data: bytes | memoryview  # valid until the next block of the same call of `blocks` is read
    dtype: str  # as NumPy writes it: "|u1", "<f4", ">u2"
    shape: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]  # in bytes


@runtime_checkable
class BlockSource(EncodedSource, Protocol):
    """Images that are pixels already, many of one shape side by side: read and counted in blocks."""

    max_names: int
    """A task has at most this many names."""

    min_names: int
    """A task has at least this many, if they are left: handing out fewer takes longer than counting them."""

    def for_one(self, shard: str) -> bool:
        """Whether one worker should read all of a shard, because it must be read from its beginning.

        Shards are those of `ShardedSource.shards`; in a source without it, all images are one, "".
        """

    def check(self, settings: ImageSettings) -> None:
        """Check that the images can be measured with these settings.

        Raises:
            SourceError: they cannot become what the settings ask for.
        """

    def blocks(self, names: Sequence[str]) -> Iterator[Block | tuple[Sequence[str], Unreadable]]:
        """The images, in the order of their names; names that cannot be read come with the reason."""


def in_reading_order(source: object, names: Sequence[str]) -> Sequence[str]:
    """Shard by shard, each in the order of its file: a compressed one cannot be read backwards."""
    if not isinstance(source, ShardedSource):
        return names
    return [name for _, part in source.shards(names) for name in part]
