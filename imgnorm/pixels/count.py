"""Entries of a unit -> Tally: the job of one worker.

`count` takes one entry after the other and adds its images to a `Tallying`, which has one counter for
each mode. An error of one image is listed, and the next image follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgnorm.pixels.buffer import PackedFile, PackedImages, PixelBuffer
from imgnorm.pixels.damage import check_size
from imgnorm.pixels.decode import Decoded, frame_to_leave
from imgnorm.pixels.floats import count_floats
from imgnorm.pixels.formats import decoder_of
from imgnorm.pixels.images import ModeCounter
from imgnorm.pixels.jpeg import JpegDecoder
from imgnorm.pixels.load import Loader, array_of
from imgnorm.pixels.planes import PlaneCounter
from imgnorm.pixels.sizes import HeaderReader
from imgnorm.progress import Stage, no_lap
from imgnorm.settings import Digits, Mode, kind_of
from imgnorm.sources.names import as_text, looked_at
from imgnorm.sources.source import Block, Blocks, Entry, Source, Unit, Unread, entries_of
from imgnorm.tally.notes import ROTATION, NoteCounter
from imgnorm.tally.rows import Row, packed_rows
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.tally.tally import Tally, TallySum, total_of

JOB_SECONDS = 0.5
_JOB_BYTES = 64 << 20
"""A job ends early at either limit, so that a few huge images do not delay all others."""
_ARRAY_FILE = "NPY"  # what the stats file calls the format of arrays in files
_WIDENED = 8  # bytes: a float16, or a byte of an image that is not contiguous, becomes this wide


class UnitEntries:
    """The entries of one unit, of which one may be put back. Several jobs may read them one after the other.

    Args:
        singly: no blocks of images.
    """

    def __init__(self, source: Source, unit: Unit, *, singly: bool = False) -> None:
        self.id = unit.id
        self.entries = entries_of(source, unit, singly=singly)
        self._next: list[Entry] = []

    def next(self) -> Entry | None:
        """None at the end."""
        return self._next.pop() if self._next else next(self.entries, None)

    def put_back(self, entry: Entry) -> None:
        self._next.append(entry)


@dataclass(frozen=True)
class Counting:
    """What is counted of each image, and how: the same for all jobs of a worker.

    Args:
        class_of: the class of a name.
        reserve: called with the bytes of memory that an image will take; may wait or raise Unreadable.
        jpeg: decodes ordinary JPEGs instead of Pillow, to the same pixels.
        buffer: takes the images that it has room for. A device counts those: the tally has only their
            decoders.
        planes: counts arrays, with memory that it took for earlier ones.
        lap: called after each step, for a profile.
    """

    digits: Digits
    class_of: Callable[[str], str | None] = lambda name: None
    reserve: Callable[[int], None] = lambda size: None
    jpeg: JpegDecoder | None = None
    buffer: PixelBuffer | None = None
    planes: PlaneCounter = field(default_factory=PlaneCounter)
    lap: Callable[[Stage], None] = no_lap


@dataclass(frozen=True)
class JobCount:
    """What one job counted."""

    tally: Tally
    images: int  # how many were looked at
    finished: bool  # the unit has no further entries
    group: str = ""  # the class of the images in the buffer, with `per_class`


def count(
    entries: UnitEntries,
    counting: Counting,
    *,
    starting: Callable[[int], None] = lambda index: None,
    leave_files: bool = False,
    again: bool = False,
    seconds: float | None = None,
) -> JobCount:
    """The tally of the next images of a unit: of all, or of those that fit into a job.

    Args:
        starting: called with the number of images before an image is read.
        leave_files: put whole JPEG files into the buffer, not their pixels, where the device may decode
            them.
        again: the images were looked at before.
        seconds: after which the job ends; by default JOB_SECONDS.

    Raises:
        Reread: all entries of the unit so far must be forgotten.
    """
    job = _Job(entries, counting, starting, leave_files, again)
    return job.run(JOB_SECONDS if seconds is None else seconds)


class _Job:
    """One job: what it has counted so far."""

    def __init__(
        self,
        entries: UnitEntries,
        counting: Counting,
        starting: Callable[[int], None],
        leave_files: bool,
        again: bool,
    ) -> None:
        self._entries = entries
        self._counting = counting
        self._starting = starting
        self._again = again
        self._buffer = counting.buffer
        self._loader = Loader(
            counting.digits.settings,
            counting.digits.max_pixels,
            counting.reserve,
            counting.jpeg,
            counting.lap,
        )
        if leave_files:
            self._loader.leave = self._leave
        digits = counting.digits
        self._headers = (
            HeaderReader(digits.settings.preprocess, digits.max_pixels) if digits.sizes else None
        )
        self._sizes: list[Row] = []
        self._by_class: dict[str, Tallying] = {}
        self._group = ""
        self._names: list[str] = []
        self._notes = NoteCounter()
        self._digests = counting.digits.per_image_sha256
        self._digest: tuple[bytes, str] | None = None  # of the last file
        self._not_read = TallySum()  # what the unit itself skips or ignores

    def run(self, seconds: float) -> JobCount:
        deadline = monotonic() + seconds
        while True:
            try:
                entry = self._entries.next()
            except Unreadable as fault:
                self._not_read.add(Tally(skipped=(fault.skipped(self._entries.id),)))
                entry = None
            if entry is None:
                return self._counted(finished=True)
            if isinstance(entry, Unread):
                if self._headers:
                    self._take_header(entry, self._headers)
                elif not self._take(entry):
                    return self._counted(finished=False)
            elif isinstance(entry, Blocks):
                self._take_blocks(entry)
            elif isinstance(entry, Skipped):
                self._not_read.add(Tally(skipped=(entry,)))
            else:
                self._not_read.add(Tally(ignored=entry.rules))
            full = self._buffer is not None and self._buffer.full
            if self._loader.bytes_read >= _JOB_BYTES or full or monotonic() >= deadline:
                return self._counted(finished=False)

    def _take(self, image: Unread) -> bool:
        """Count an image; False if it must wait for the next job, since its class is another one."""
        name, loader, settings = image.name, self._loader, self._counting.digits.settings
        group = self._counting.class_of(name) or "" if self._counting.digits.per_class else ""
        if self._buffer is not None and self._names and group != self._group:
            self._entries.put_back(image)
            return False
        self._group = group
        self._starting(len(self._names))
        tallying = self._tallying_of(group)
        self._names.append(name)
        try:
            decoded = loader.load(image)
            if decoded is not None:
                data = loader.data
                digest = self._sha256_of(data) if data and self._digests else ""
                tallying.add(decoded, name, None if data is None else len(data), digest)
            if loader.noted and not self._again:
                self._note(name)
        except Unreadable as fault:
            tallying.skip(fault.skipped(name, loader.size))
        except MemoryError:
            detail = "not enough memory to decode it"
            tallying.skip(Skipped(name, Reason.OUT_OF_MEMORY, detail, loader.size))
        else:
            if decoded is not None and decoded.mode == "I;16" and settings.mode == "auto":
                tallying.names_16bit.append(name)
        self._counting.lap("count")
        return True

    def _sha256_of(self, data: bytes) -> str:
        """Of a whole file; the frames of one file follow each other."""
        if self._digest is None or self._digest[0] is not data:
            self._digest = data, sha256(data).hexdigest()
        return self._digest[1]

    def _take_header(self, image: Unread, headers: HeaderReader) -> None:
        self._starting(len(self._names))
        self._names.append(image.name)
        try:
            self._sizes.append(headers.row(image))
        except Unreadable as fault:
            self._not_read.add(Tally(skipped=(fault.skipped(image.name),)))

    def _note(self, name: str) -> None:
        text = as_text(name)
        for kind, number in self._loader.noted.items():
            self._notes.add(kind, text, number)

    def _take_blocks(self, blocks: Blocks) -> None:
        counting, loader = self._counting, self._loader
        self._starting(len(self._names))
        tallying = self._tallying_of("")
        self._names += blocks.names
        try:
            block = blocks.read()
            counting.lap("read")
            images = array_of(block)
            tallying.add_block(block, images, counting.digits.max_pixels, counting.reserve)
            loader.bytes_read += images.nbytes
        except Unreadable as fault:
            for name in blocks.names:
                tallying.skip(fault.skipped(name))
        except MemoryError:
            for name in blocks.names:
                tallying.skip(Skipped(name, Reason.OUT_OF_MEMORY, "not enough memory to count it"))
        counting.lap("count")

    def _counted(self, *, finished: bool) -> JobCount:
        if self._headers:
            rows = (packed_rows(self._sizes),) if self._sizes else ()
            self._not_read.add(Tally(names=len(self._names), rows=rows))
            return JobCount(self._not_read.tally(), len(self._names), finished)
        parts = {group: one.tally() for group, one in self._by_class.items()}
        if self._counting.digits.per_class:
            parts = {g: one.with_class(g) if g else one for g, one in parts.items()}
        job = Tally(bytes_read=self._loader.bytes_read, notes=self._notes.notes())
        whole = total_of([*parts.values(), job])
        self._counting.lap("count")
        whole = looked_at(whole, self._names, self._counting.class_of, again=self._again)
        self._counting.lap("list")
        self._not_read.add(whole)
        return JobCount(self._not_read.tally(), len(self._names), finished, self._group)

    def _tallying_of(self, group: str) -> Tallying:
        found = self._by_class.get(group)
        if found is None:
            counting = self._counting
            found = Tallying(counting.digits, counting.buffer, counting.planes)
            self._by_class[group] = found
        return found

    def _leave(self, data: bytes) -> bool:
        """Leave a JPEG file to the device, if it decodes such files."""
        counting, buffer = self._counting, self._buffer
        found = frame_to_leave(
            data, counting.digits.settings.mode, max_pixels=counting.digits.max_pixels
        )
        if found is None or buffer is None:
            return False
        frame, mode = found
        if counting.digits.settings.strict_channels and frame.gray and mode != "L":
            return False  # it will be skipped
        if frame.rotated:
            self._loader.noted = {**self._loader.noted, ROTATION: 1}
        size, file_mode = (frame.width, frame.height), "L" if frame.gray else "RGB"
        index, name = len(self._names) - 1, self._names[-1]
        pixels = frame.width * frame.height
        file = PackedFile(index, len(data), mode, pixels, file_mode, size, (name,))
        return buffer.put(file, lambda: data)


class Tallying:
    """Collects the images of one job, of any mode, and gives their tally."""

    def __init__(
        self,
        digits: Digits,
        buffer: PixelBuffer | None = None,
        planes: PlaneCounter | None = None,
    ) -> None:
        self.names_16bit: list[str] = []
        self._digits = digits
        self._buffer = buffer
        self._planes = planes
        self._formats: set[str] = set()
        self._counters: dict[Mode, ModeCounter] = {}
        self._floats = Tally()
        self._skipped: list[Skipped] = []

    def add(self, image: Decoded, name: str, bytes_: int | None, sha256: str) -> None:
        """
        Args:
            bytes_, sha256: of its file.
        """
        self._formats.add(image.format)
        if self._buffer is None or not _put(self._buffer, image, name):
            self._counter(image.mode).add(image, name, bytes_, sha256)

    def add_block(
        self,
        block: Block,
        images: npt.NDArray[Any],
        max_pixels: int,
        reserve: Callable[[int], None],
    ) -> None:
        """
        Args:
            images: the pixels of the block, (N, H, W, C).
            reserve: as in `Counting`.

        Raises:
            Unreadable: none of these images can be counted.
            MemoryError: there is not enough memory; none of them is counted.
        """
        _, height, width, _ = images.shape
        check_size((width, height), max_pixels)
        reserve(images.nbytes if len(images) > 1 else _WIDENED * images.size)
        kind = kind_of(block.mode)
        if kind == "float":
            per_image = self._digits.per_image
            self._floats += count_floats(
                images, block.names, format_=_ARRAY_FILE, per_image=per_image
            )
        elif kind != "8-bit" or self._buffer is None or not _put_array(self._buffer, block, images):
            self._counter(block.mode).add_arrays(images, block.names, _ARRAY_FILE)

    def skip(self, skipped: Skipped) -> None:
        self._skipped.append(skipped)

    def tally(self) -> Tally:
        counted = {mode: counter.counted() for mode, counter in self._counters.items()}
        return self._floats + Tally(
            {mode: one for mode, one in counted.items() if one.images},
            tuple(self.names_16bit),
            tuple(self._skipped),
            {format_: decoder_of(format_) for format_ in self._formats},
            rows=tuple(row for counter in self._counters.values() for row in counter.rows),
        )

    def _counter(self, mode: Mode) -> ModeCounter:
        if mode not in self._counters:
            self._counters[mode] = ModeCounter(
                mode,
                per_image=self._digits.per_image,
                planes=self._planes,
            )
        return self._counters[mode]


_RAW: dict[Mode, str] = {"L": "L", "RGB": "RGBX", "RGBA": "RGBA"}
"""How 8-bit pixels lie in memory, in Pillow's images and in those of the other decoders."""


def _put(buffer: PixelBuffer, image: Decoded, name: str) -> bool:
    """Put the image's pixels into the buffer as they lie in memory, which is fastest.

    Returns:
        whether the buffer had room.
    """
    if image.mode not in _RAW:
        return False
    content, raw = image.content, _RAW[image.mode]
    if isinstance(content, Image.Image):
        width, height = content.size
    else:
        height, width, _ = content.shape

    def data() -> bytes | memoryview:
        if isinstance(content, Image.Image):
            return content.tobytes("raw", raw)
        return content.reshape(-1).data

    of_file = image.file_mode, image.format, image.size or (width, height)
    packed = PackedImages(image.mode, width * height, len(raw), *of_file, (name,))
    return buffer.put(packed, data)


def _put_array(buffer: PixelBuffer, block: Block, images: npt.NDArray[Any]) -> bool:
    """Put the images of a block into the buffer, if there is room for all of them.

    Returns:
        whether there was room.
    """
    _, height, width, channels = images.shape
    of_file = block.mode, _ARRAY_FILE, (width, height)
    packed = PackedImages(block.mode, height * width, channels, *of_file, block.names)
    return buffer.put(packed, lambda: np.ascontiguousarray(images).reshape(-1).data)
