"""What a source of images offers: its units, and the images of each unit.

A unit is what one process best reads in one go: an archive, a run of a folder's files, an array. A
source lists its units without opening them. Where a unit is worked on, `images` lists and reads it in
one pass. So no process needs the names of all images at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING
from zlib import crc32

from imgnorm.settings import Mode
from imgnorm.sources.names import encoded
from imgnorm.tally.skipped import Reason, Skipped, Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from imgnorm.settings import ImageSettings
    from imgnorm.workers.executor import Executor, Work


@dataclass(frozen=True)
class Unit:
    """Images that one process best reads in one go. It is sent to that process, so keep it small.

    Attributes:
        id: the same on every machine that has the same images, and different from all other ids of
            the source. `--shard` divides units, and its parts compare their ids.
        names: the names of its images, in the order in which they are best read; None if only `images`
            or `listed` finds them. A name is a text that identifies one image in the whole source:
            relative, with '/', and the same on every machine that has the same images.
        bytes: how many bytes its images take, if that is known without opening it.
        places: where each of its images lies, for sources that list a unit before they read it.
        version: what must not change between listing and reading it.
        forward: its images can only be read in this order, so one process reads all of them.

    Example:
        >>> imgnorm.Unit("cats", names=["cats/1.png", "cats/2.png"]).part(1, 2)
        Unit(id='cats', names=['cats/2.png'], bytes=None, places=(), version=(), forward=False)
    """

    id: str
    names: Sequence[str] | None = None
    bytes: int | None = None
    places: Sequence[int] = ()
    version: tuple[int, ...] = ()
    forward: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise TypeError(f"id is {self.id!r}; expected a text")
        if not (self.names is None or hasattr(self.names, "__getitem__")):
            raise TypeError(f"unit {self.id!r}: names are {self.names!r}; give a list")

    def __len__(self) -> int:
        """How many images it has; 0 if that is not known."""
        return len(self.names or ())

    @property
    def content(self) -> str:
        """What shows that it is another unit, as far as that is known without opening it."""
        if self.names is None:
            return str(self.bytes or 0)
        check = crc32(b"\0".join(encoded(self.names)))
        return f"{len(self)} {check:08x}"

    def part(self, start: int, stop: int) -> Unit:
        """Its images from `start` to `stop`, by their places in `names`."""
        assert self.names is not None
        if not start and stop >= len(self.names):
            return self
        return replace(self, names=self.names[start:stop], places=self.places[start:stop])

    def only(self, indices: Sequence[int]) -> Unit:
        """Its images at these places in `names`, which are ascending."""
        assert self.names is not None
        names = [self.names[index] for index in indices]
        places = [self.places[index] for index in indices] if self.places else ()
        return replace(self, names=names, places=places)


@dataclass(frozen=True)
class FileFrame:
    """A frame of an image file that is not its first."""

    data: bytes  # the whole file
    number: int  # counted from 0


@dataclass(frozen=True)
class Unread:
    """An image of a unit, not yet read: what `Source.images` gives.

    Example:
        >>> unread = imgnorm.Unread("cats/1.png", lambda: b"encoded bytes")
        >>> unread.read()
        b'encoded bytes'
    """

    name: str
    read: Callable[[], bytes | FileFrame | Picture | Block]
    """Its encoded bytes, the image that another loader made of them, or its pixels. Call it before the
    next image of the unit is asked for.

    Raises:
        Unreadable: it cannot be read, with the reason. Every OSError must be turned into it.
    """


@dataclass(frozen=True)
class Ignored:
    """Entries that are not images by a rule, and are not measured: their number by rule.

    Example:
        >>> imgnorm.measure("examples/shapes").measurement.ignored
        {}
    """

    rules: Mapping[str, int]


@dataclass(frozen=True)
class Block:
    """Images of one shape, as they lie in memory: what NumPy needs to see them as (N, H, W, C)."""

    names: Sequence[str]
    mode: Mode
    data: bytes | memoryview  # valid until the next block of the same unit is read
    dtype: str  # as NumPy writes it: "|u1", "<f4", ">u2"
    shape: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]  # in bytes


@dataclass(frozen=True)
class Blocks:
    """Images of a unit that are pixels already, not yet read: as blocks, in the order of their names."""

    names: Sequence[str]
    read: Callable[[], Block]
    """
    Raises:
        Unreadable: none of them can be read, with the reason.
    """


Entry = Unread | Blocks | Skipped | Ignored
"""What is found in a unit. `Skipped` is an image that is known to be unreadable without reading it."""


class Reread(Exception):
    """What was read of a unit may be wrong, and must be forgotten: list the unit, then read it again."""


@dataclass(frozen=True)
class Listing:
    """A unit that was opened to find its names, without reading its images."""

    unit: Unit  # with names
    skipped: tuple[Skipped, ...] = ()  # known to be unreadable without reading them
    ignored: Mapping[str, int] = field(default_factory=dict)  # rule -> entries that it ignored


class Source(ABC):
    """Where images are. Subclass it for a source of your own, and give an instance to `imgnorm.measure`.

    `units` and `read` are enough where every name is known. It is pickled and sent to worker processes,
    so it keeps no open file in its state: open it in `open`, or leave it out in `__getstate__`. Ids and
    names that are not unique are not noticed: their images are counted twice.

    Attributes:
        kind: what the stats file calls this kind of source: "folder", "archive".
        ref: what the user called it, with '/' between folders.
        options: the options that chose its images, as the stats file records them.
        notes: for the user, once it was measured: what the numbers do not show.
        in_order: the units come in the order of their names as bytes, and so do the names in each.
        once: its images come one after the other, once, and without names of their own; a limit takes
            the first ones (see `first`).
        made_here: a user's own Python makes the images, in this process.
        in_blocks: its images are pixels already; `images` gives `Blocks`.
        in_memory: its pixels are in memory, and this process counts them.
        job_names: a worker is given at least and at most this many images at a time.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> class InMemory(imgnorm.Source):
        ...     kind = "memory"
        ...     ref = "example"
        ...     in_order = True
        ...
        ...     def __init__(self, files):
        ...         self.files = files  # name -> encoded bytes
        ...
        ...     def units(self):
        ...         yield imgnorm.Unit("all", names=sorted(self.files))
        ...
        ...     def read(self, name):
        ...         return self.files[name]
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (4, 4), (255, 0, 51)).save(file, "PNG")
        >>> stats = imgnorm.measure(InMemory({"red.png": file.getvalue()}))
        >>> stats.images, stats.mean
        (1, (1.0, 0.0, 0.2))
    """

    kind: str
    ref: str
    options: Mapping[str, str | int | tuple[str, ...]] = {}
    notes: Sequence[str] = ()
    in_order = False
    once = False
    made_here = False
    in_blocks = False
    in_memory = False
    job_names = (1, 1024)

    @property
    def joins_units(self) -> bool:
        """Whether the names of several units may be given to `images` as one unit: where `read` does all."""
        return type(self).images is Source.images

    @abstractmethod
    def units(self) -> Iterable[Unit | Skipped | Ignored]:
        """All units, always in the same order, and what is skipped or ignored outside of them.

        Units are not opened, and it is an iterator where there may be many: it is read once, while the
        first units are being measured.

        Raises:
            SourceError: the source as a whole cannot be measured.
        """

    def read(self, name: str) -> bytes | Picture | Block:
        """One image: its encoded bytes, the image that another loader made of them, or its pixels.

        Raises:
            Unreadable: it cannot be read, with the reason. Every OSError must be turned into it.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither read() nor images()")

    def images(self, unit: Unit) -> Iterator[Entry]:
        """The entries of a unit, listed and read in one pass. By default, those of its `names`.

        If the unit has `names`, exactly these are given, in this order: each as an image, or as skipped.

        Raises:
            Unreadable: while iterating: the unit as a whole cannot be read, with the reason.
            Reread: all entries so far must be forgotten.
        """
        if unit.names is None:
            raise TypeError(
                f"{self!r}: unit {unit.id!r} has no names; write images(), which finds them"
            )
        return (Unread(name, partial(self.read, name)) for name in unit.names)

    def rest(self, entries: Iterator[Entry]) -> Unit | None:
        """The images that `images` has not yet given, for other processes; None if it must go on.

        After a unit was returned, `entries` gives no further images, but all that is skipped or ignored.

        Raises:
            Reread: all entries so far must be forgotten.
        """
        return None

    def listed(self, unit: Unit) -> Listing:
        """A unit with its names, without reading its images.

        For what needs all names at once, as a limit does, and where several processes share a unit. By
        default, the names that `images` gives.

        Raises:
            Unreadable: the unit as a whole cannot be read, with the reason.
        """
        if unit.names is not None:
            return Listing(unit)
        names: list[str] = []
        skipped: list[Skipped] = []
        ignored: Counter[str] = Counter()
        for entry in self.images(unit):
            if isinstance(entry, Skipped):
                skipped.append(entry)
            elif isinstance(entry, Ignored):
                ignored.update(entry.rules)
            else:
                names += entry.names if isinstance(entry, Blocks) else [entry.name]
        return Listing(replace(unit, names=names), tuple(skipped), ignored)

    def size_of(self, unit: Unit) -> tuple[int, int] | None:
        """The width and height of all images of a unit, where they are the same and known without reading."""
        return None

    def class_of(self, name: str) -> str | None:
        """The class that ImageFolder or the dataset puts this image in, for `--per-class`."""
        return None

    def member_of(self, name: str) -> str | None:
        """The part of a name that lies inside an archive, if it does."""
        return None

    def open(self) -> None:  # noqa: B027 - most have nothing to open
        """Do what takes long; called in each process before it lists or reads, perhaps more than once."""

    def keep_alive(self, still_alive: Callable[[], None]) -> None:  # noqa: B027 - most are not slow
        """Call `still_alive` from now on where reading is slow but not stuck: while it seeks, say.

        A worker that gives no sign of life for too long is ended, and its image is skipped.
        """

    def check(self, settings: ImageSettings) -> None:  # noqa: B027 - most can become anything
        """Check that the images can be measured with these settings; called before they are read.

        Raises:
            SourceError: they cannot become what the settings ask for.
        """

    def hint_if_empty(self) -> str:
        """What to do if it has no images: the end of a message."""
        return ""

    def first(self, images: int) -> Source:
        """Only the first images; for sources whose images come `once`."""
        raise NotImplementedError

    def executor(self, work: Work) -> Executor | None:
        """What counts its units; None: worker processes."""
        return None


def entries_of(source: Source, unit: Unit, *, singly: bool = False) -> Iterator[Entry]:
    """The entries of a unit. If it has names, each name comes once, whatever `source.images` gives.

    Args:
        singly: no blocks of images, since what preprocesses them takes one after the other.
    """
    if (singly and source.in_blocks) or type(source).images is Source.images:
        return Source.images(source, unit)
    entries = source.images(unit)
    return entries if unit.names is None else _each_once(source, unit.names, entries)


def _each_once(source: Source, names: Sequence[str], entries: Iterator[Entry]) -> Iterator[Entry]:
    """
    Raises:
        TypeError: the source gives other images than those that it was asked for.
    """
    place = 0
    fault = Unreadable(Reason.VANISHED, "its source no longer gives it")
    try:
        for entry in entries:
            if isinstance(entry, Ignored):
                yield entry
                continue
            if isinstance(entry, Skipped):
                entry = Unread(entry.name, partial(_refuse, Unreadable(entry.reason, entry.detail)))
            given = entry.names if isinstance(entry, Blocks) else (entry.name,)
            if not given or place >= len(names) or names[place] != given[0]:
                wanted = repr(names[place]) if place < len(names) else "nothing more"
                raise TypeError(
                    f"{source!r}: images() gives {given[:1]}, but was asked for {wanted}"
                )
            yield entry
            place += len(given)
    except Unreadable as error:
        fault = error
    except Reread as error:
        raise TypeError(f"{source!r}: images() cannot read a unit that has names") from error
    for name in names[place:]:
        yield Unread(name, partial(_refuse, fault))


def _refuse(fault: Unreadable) -> bytes:
    raise fault
