"""Images in .npy and .npz files: pixels, which are read in blocks, and never unpickled."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby
from typing import Any

from imgnorm.errors import SourceError
from imgnorm.settings import CHANNELS, ImageSettings, Mode, mode_of
from imgnorm.sources.arrayfile import ArrayFile
from imgnorm.sources.bytestream import FileBytes, no_heartbeat
from imgnorm.sources.files import open_regular, refused, unreadable
from imgnorm.sources.names import NumberedNames, Run, name_bytes
from imgnorm.sources.npy import MAGIC, Header, UnclearLayout, header_of, layout_of
from imgnorm.sources.paths import labelled
from imgnorm.sources.source import Block, Blocks, Ignored, Source, Unit
from imgnorm.sources.zip import DEFLATE, STORED, PackedMember
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.wording import printable

_MAX_CHANNELS = 9999
_MAX_CHANNELS_16_BIT = 16  # a histogram of each has 65,536 counts
_BLOCK_BYTES = 4 << 20
_UNIT_BYTES = 64 << 20
_TASK_BYTES = 64 << 20  # large enough for few tallies, small enough to be done soon
_LEAST_BYTES = 1 << 20  # fewer are counted sooner than handed out
_MAX_NAMES = 1 << 16  # in one task
_SCATTERED_BYTES = 16 << 20  # a block of images that are scattered over the whole file


class ArrayFileSource(Source):
    """The images in one .npy or .npz file, or many.

    A name is the file's label, in an .npz the array's name, and the image's number: `a.npz/x/07`. A unit
    is an array, or about 64 MiB of it.

    Args:
        ref: what the user called them.
        paths: of the files.
        layout: one of LAYOUTS; None: the shapes show it.
        member: the name of the array in each .npz file; None: the one that holds images.
    """

    kind = "array"
    in_order = True
    in_blocks = True
    joins_units = True  # the names say which array they are in
    job_names = (1, 1)  # until the headers are read

    def __init__(
        self,
        ref: str,
        paths: Iterable[str],
        layout: str | None = None,
        member: str | None = None,
    ) -> None:
        self.ref = ref.replace(os.sep, "/")
        self._paths = labelled(paths)
        self._layout = layout
        self._member = member
        self._versions: dict[str, tuple[int, int]] = {}  # of each file, when it was listed
        self._others: list[Skipped | Ignored] = []
        self._open: dict[str, ArrayFile] = {}
        self._still_alive: Callable[[], None] = no_heartbeat

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": {}, "_still_alive": no_heartbeat}

    def units(self) -> Iterator[Unit | Skipped | Ignored]:
        """As `Source.units`. All headers are read first, once.

        Raises:
            SourceError: a shape fits several layouts, or the arrays have different modes.
        """
        for key, array in self._arrays.items():
            yield from array.units(key)
        yield from self._others

    @cached_property
    def _arrays(self) -> dict[str, _Array]:
        """By the part of a name before the number, in the order of the names.

        Raises:
            SourceError: as `units`.
        """
        found: dict[str, _Array] = {}
        skipped: list[Skipped] = []
        ignored: Counter[str] = Counter()
        unclear: list[str] = []
        for label, path in self._paths.items():
            try:
                with ArrayFile(path) as file:
                    self._versions[label] = file.version
                    key, array = self._array_in(label, file, ignored)
            except Unreadable as fault:
                skipped.append(fault.skipped(label))
            except OSError as error:
                skipped.append(unreadable(error).skipped(label))
            except UnclearLayout as error:
                unclear.append(f"{printable(path)}: {error}")
            else:
                found[key] = array
        modes: dict[Mode, str] = {}
        for key, array in found.items():
            modes.setdefault(array.mode, key)
        if len(modes) > 1 and not unclear:
            (first, a), (second, b), *_ = modes.items()
            unclear.append(
                f"{self._path_of(b, found[b])}: has mode {second}, but {self._path_of(a, found[a])} has "
                f"mode {first}; measure them separately"
            )
        if unclear:
            more = f"\nand {len(unclear) - 5:,} more" if len(unclear) > 5 else ""
            raise SourceError("\n".join(unclear[:5]) + more)
        self._others = [*skipped, Ignored(ignored)]
        if found:
            images = sum(array.images for array in found.values())
            size = sum(array.header.size for array in found.values()) // images
            self.job_names = _names_in(_LEAST_BYTES, size), _names_in(_TASK_BYTES, size)
        return dict(sorted(found.items(), key=lambda one: name_bytes(one[1].run(one[0]).name(0))))

    def check(self, settings: ImageSettings) -> None:
        mode = next((array.mode for array in self._arrays.values()), "RGB")
        if settings.preprocess and mode not in CHANNELS:
            raise SourceError(
                f"{printable(self.ref)}: has mode {mode}, which no PIL image has; leave out --resize and "
                "--center-crop, or resize the arrays themselves"
            )
        if not settings.take(mode):
            raise SourceError(
                f"{printable(self.ref)}: has mode {mode}, and arrays are not converted to "
                f"{settings.mode}; leave out --mode"
            )

    def size_of(self, unit: Unit) -> tuple[int, int]:
        height, width, _ = self._arrays[self._key_of((unit.names or ())[0])].shape()
        return width, height

    def keep_alive(self, still_alive: Callable[[], None]) -> None:
        self._still_alive = still_alive

    def read(self, name: str) -> Block:
        (blocks,) = self.images(Unit(name, [name]))
        return blocks.read()

    def images(self, unit: Unit) -> Iterator[Blocks]:
        assert unit.names is not None
        # Reused for all blocks: allocating memory takes longer than reading.
        room = bytearray()
        for key, runs in groupby(self._numbered(unit.names).runs, lambda run: run.key):
            array = self._arrays[key]
            for part in array.blocks(runs):
                size = len(part) * array.image_bytes
                if len(room) < size <= _BLOCK_BYTES and not array.header.fortran:
                    room = bytearray(size)
                yield Blocks(part, partial(self._read, array, part, room))

    def _read(self, array: _Array, names: NumberedNames, room: bytearray) -> Block:
        try:
            return self._block(array, names, room)
        except OSError as error:
            self._close(array.file)
            raise unreadable(error) from error

    def _block(self, array: _Array, names: NumberedNames, room: bytearray) -> Block:
        """
        Args:
            room: for the block's bytes; too small if the block is one large image.
        """
        file = self._file(array)
        shape = (len(names), *array.shape())
        dtype, start = array.header.dtype, array.header.start
        data: bytes | memoryview
        if array.header.fortran:  # the values of one pixel in all images lie side by side
            item = array.header.itemsize
            data = file.strided(
                array.packed,
                start + names.runs[0].numbers[0] * item,
                width=len(names) * item,
                gap=array.images * item,
                rows=array.image_bytes // item,
            )
        elif len(names) * array.image_bytes > len(room):
            offset = start + names.runs[0].numbers[0] * array.image_bytes
            data = file.bytes_of(array.packed, offset, array.image_bytes)
        else:
            size = array.image_bytes
            data = memoryview(room)[: len(names) * size]
            at = 0
            for numbers in _stretches(names.runs):
                end = at + len(numbers) * size
                file.fill(array.packed, start + numbers[0] * size, data[at:end])
                at = end
        if file.version_now() != self._versions[array.file]:
            self._close(array.file)
            raise Unreadable(Reason.CHANGED_DURING_READ, "the file changed while it was measured")
        return Block(names, array.mode, data, dtype, shape, array.strides(len(names)))

    def _file(self, array: _Array) -> ArrayFile:
        file = self._open.get(array.file)
        if file is None:
            for label in list(self._open):
                self._close(label)
            file = self._open[array.file] = ArrayFile(self._paths[array.file], self._still_alive)
        return file

    def _close(self, label: str) -> None:
        if label in self._open:
            self._open.pop(label).close()

    def _key_of(self, name: str) -> str:
        return name if name in self._arrays else name.rpartition("/")[0]

    def _path_of(self, key: str, array: _Array) -> str:
        """An array, as the user would name it."""
        return printable(self._paths[array.file] + key[len(array.file) :])

    def _numbered(self, names: Sequence[str]) -> NumberedNames:
        if isinstance(names, NumberedNames):
            return names
        runs = []
        for name in names:
            key = self._key_of(name)
            number = 0 if key == name else int(name[len(key) + 1 :])
            runs.append(replace(self._arrays[key].run(key), numbers=range(number, number + 1)))
        return NumberedNames(runs)

    def _array_in(self, label: str, file: ArrayFile, ignored: Counter[str]) -> tuple[str, _Array]:
        """The array of images in a file, by its name.

        Raises:
            Unreadable: it cannot be counted.
            UnclearLayout: the user must choose an array, or its layout.
        """
        if not file.is_zip:
            header = header_of(file.bytes.read)
            _demand_size(header, file.bytes.size)
            return label, self._array(label, header, None)
        found: dict[str, _Array] = {}
        faults: list[Unreadable] = []
        others: list[str] = []
        for key, packed, fault in file.members():
            if self._member is not None and key != self._member:
                others.append(key)
                continue
            try:
                if packed is None:
                    raise fault or Unreadable(Reason.CORRUPT, "it cannot be read")
                header = header_of(partial(file.bytes_of, packed, short=True))
                if self._member is None and len(header.shape) < 3 and self._layout != "HW":
                    others.append(key)  # labels
                    continue
                if self._member is None and header.kind is None:
                    others.append(key)
                    faults.append(_refusal_of(header))
                    continue
                _demand_size(header, packed.size)
                array = self._array(label, header, packed)
                if header.fortran and packed.method != STORED:
                    raise Unreadable(
                        Reason.ARCHIVE_UNSUPPORTED_COMPRESSION,
                        "compressed in Fortran order; save it with np.savez, or in C order",
                    )
                file.check(packed)
            except Unreadable as error:
                raise Unreadable(error.reason, f"{key}: {error.detail}") from error
            except UnclearLayout as error:
                raise UnclearLayout(f"{key}: {error}") from error
            found[key] = array
        if len(found) > 1:
            first = next(iter(found))
            raise UnclearLayout(
                f"holds the images {' and '.join(found)}; name one of them, such as "
                f"{printable(self._paths[label])}/{first}"
            )
        if not found:
            if faults:
                raise faults[0]
            known = f"it has {', '.join(others)}" if others else "it is empty"
            wanted = self._member or "array of images (3 or 4 dimensions)"
            raise Unreadable(Reason.NOT_AN_IMAGE, f"no {wanted} in it; {known}")
        if others:
            ignored["not-images"] += len(others)
        ((key, array),) = found.items()
        return f"{label}/{key}", array

    def _array(self, label: str, header: Header, packed: PackedMember | None) -> _Array:
        kind = header.demand_pixels()
        if not math.prod(header.shape):
            raise Unreadable(Reason.ZERO_AREA, f"shape {header.shape} has no pixels")
        layout = layout_of(header.shape, self._layout)
        channels = header.shape[layout.index("C")] if "C" in layout else 1
        most = _MAX_CHANNELS_16_BIT if kind == "16-bit" else _MAX_CHANNELS
        if channels > most:
            raise Unreadable(
                Reason.CHANNEL_MISMATCH,
                f"{channels:,} channels of {kind} values; at most {most:,} are supported"
                + (", so save it as float32, which is as exact" if kind == "16-bit" else ""),
            )
        return _Array(label, header, layout, mode_of(channels, kind), packed)


def is_array_file(path: str) -> bool:
    """Whether a file starts as .npy or .npz files do, whatever its extension.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        handle, _ = open_regular(path)
        try:
            start = FileBytes(handle, no_heartbeat).read(0, 30 + 512)
        finally:
            os.close(handle)
    except Unreadable:
        return False
    except OSError as error:
        raise refused(path, error) from error
    length = int.from_bytes(start[26:28], "little")
    is_zip = start[:4] == b"PK\3\4" and start[30 : 30 + length].endswith(b".npy")
    return is_zip or start.startswith(MAGIC)


def array_in(path: str) -> tuple[str, str | None]:
    """The file and the array that a path such as `data.npz/x_train` names; None for no array."""
    end = path.lower().rfind(".npz/") + len(".npz")
    file, member = path[:end], path[end + 1 :]
    if end >= len(".npz") and member and not os.path.lexists(path):
        return file, member
    return path, None


@dataclass(frozen=True)
class _Array:
    """An array of images, and where its bytes are."""

    file: str  # the label of its file
    header: Header
    layout: str
    mode: Mode
    packed: PackedMember | None  # in an .npz

    @property
    def images(self) -> int:
        return self.header.shape[0] if self.layout[0] == "N" else 1

    @property
    def image_bytes(self) -> int:
        return self.header.size // max(1, self.images)

    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of each image."""
        edges = dict(zip(self.layout, self.header.shape, strict=True))
        return edges["H"], edges["W"], edges.get("C", 1)

    def run(self, key: str) -> Run:
        """The names of all its images."""
        digits = len(str(self.images - 1)) if self.layout[0] == "N" else 0
        return Run(key, range(self.images), digits)

    def units(self, key: str) -> Iterator[Unit]:
        """All its images. A new image at the end leaves the other units as they are."""
        run = self.run(key)
        forward = self.packed is not None and self.packed.method == DEFLATE
        step = len(run) if forward else max(1, _UNIT_BYTES // self.image_bytes)
        for start in range(0, len(run), step):
            names = NumberedNames([replace(run, numbers=run.numbers[start : start + step])])
            yield Unit(names[0], names, len(names) * self.image_bytes, forward=forward)

    def blocks(self, runs: Iterable[Run]) -> Iterator[NumberedNames]:
        """The images in parts of about one size, each of which is read at once."""
        runs = list(runs)
        if self.header.fortran:  # each part may only have images side by side
            each = [[replace(runs[0], numbers=numbers)] for numbers in _stretches(runs)]
            block_bytes = _SCATTERED_BYTES
        else:
            each, block_bytes = [runs], _BLOCK_BYTES
        for names in map(NumberedNames, each):
            blocks = math.ceil(len(names) / max(1, block_bytes // self.image_bytes))
            if blocks == 1:
                yield names
                continue
            size = math.ceil(len(names) / blocks)
            for start in range(0, len(names), size):
                yield names[start : start + size]

    def strides(self, images: int) -> tuple[int, int, int, int]:
        """(N, H, W, C), in bytes, of this many images in memory, in the order of the file."""
        axes = self.layout if self.header.fortran else self.layout[::-1]
        edges = {**dict(zip(self.layout, self.header.shape, strict=True)), "N": images}
        steps = {"N": 0, "C": 0}
        step = self.header.itemsize
        for axis in axes:
            steps[axis] = step
            step *= edges[axis]
        return steps["N"], steps["H"], steps["W"], steps["C"]


def _names_in(size: int, image_bytes: int) -> int:
    """How many images of a task have about this many bytes."""
    return min(_MAX_NAMES, max(1, size // image_bytes))


def _stretches(runs: Iterable[Run]) -> Iterator[range]:
    """The numbers of the images, joined where they follow one another in the array."""
    stretch = range(0)
    for run in runs:
        alone = run.numbers.step > 1
        for part in (range(n, n + 1) for n in run.numbers) if alone else [run.numbers]:
            if stretch and part.start == stretch.stop:
                stretch = range(stretch.start, part.stop)
                continue
            if stretch:
                yield stretch
            stretch = part
    if stretch:
        yield stretch


def _demand_size(header: Header, size: int) -> None:
    """
    Raises:
        Unreadable: the array is cut off, or something follows it.
    """
    wanted = header.start + header.size if header.kind else size
    if size < wanted:
        raise Unreadable(
            Reason.TRUNCATED,
            f"shape {header.shape} of {header.dtype} takes {wanted:,} bytes; there are {size:,}",
        )
    if size > wanted:
        raise Unreadable(
            Reason.CORRUPT, f"{size - wanted:,} bytes follow the array, perhaps another one"
        )


def _refusal_of(header: Header) -> Unreadable:
    try:
        header.demand_pixels()
    except Unreadable as refusal:
        return refusal
    raise AssertionError("its values are pixels")
