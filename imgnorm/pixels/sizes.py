"""The size of an image by its header: nothing is decoded, and only the beginning of its file is read."""

from __future__ import annotations

import struct

from PIL import Image

from imgnorm.pixels.damage import check_size
from imgnorm.pixels.decode import FramesOfFile
from imgnorm.pixels.formats import format_of
from imgnorm.pixels.load import given_by
from imgnorm.pixels.preprocess import size_after
from imgnorm.settings import Step
from imgnorm.sources.files import HEADER_BYTES, reading_starts
from imgnorm.sources.source import Block, FileFrame, Unread
from imgnorm.tally.rows import ImageFile, Row
from imgnorm.tally.skipped import Unreadable

_SEGMENT = struct.Struct(">BBH")  # of a JPEG: 0xFF, marker, length
_SIZE = struct.Struct(">HH")
_PNG_SIZE = struct.Struct(">II")
_NO_FRAME = {0xC4, 0xC8, 0xCC}  # markers among those of frames that are not


class HeaderReader:
    """Reads headers, one after the other. Not thread-safe: make one per thread."""

    def __init__(self, steps: tuple[Step, ...], max_pixels: int) -> None:
        self._steps = steps
        self._max_pixels = max_pixels
        self._file: FramesOfFile | None = None  # of the last frame
        self.bytes_read = 0

    def row(self, image: Unread) -> Row:
        """The image's row, without sums.

        Raises:
            Unreadable: it cannot be opened, so it cannot be counted.
        """
        with reading_starts():
            found = given_by(image)
        try:
            format_, size = self._size(found)
        except Unreadable:
            if not (isinstance(found, bytes) and len(found) == HEADER_BYTES):
                raise
            format_, size = self._size(given_by(image))  # its header is longer
        check_size(size, self._max_pixels)
        width, height = size_after(self._steps, size, self._max_pixels)
        return Row(image.name, ImageFile(format_, "", *size), "", width * height, (), (), (), ())

    def _size(self, found: bytes | FileFrame | Image.Image | Block) -> tuple[str, tuple[int, int]]:
        """The format, and width and height."""
        if isinstance(found, Block):
            return "array", (found.shape[2], found.shape[1])
        if isinstance(found, Image.Image):
            return found.format or "PIL", found.size
        if isinstance(found, FileFrame):
            if self._file is None or self._file.data is not found.data:
                self._file = FramesOfFile(found.data, self._max_pixels)
            return self._file.format, self._file.size(found.number)
        self.bytes_read += len(found)
        format_ = format_of(found)
        size = _size_in(found, format_)
        return format_, size or FramesOfFile(found, self._max_pixels).size(0)


def _size_in(data: bytes, format_: str) -> tuple[int, int] | None:
    """Width and height of the most frequent formats, quickly; None: Pillow knows."""
    try:
        if format_ == "PNG" and data[12:16] == b"IHDR":
            width, height = _PNG_SIZE.unpack_from(data, 16)
            return width, height
        if format_ == "JPEG":
            return _size_in_jpeg(data)
    except struct.error:
        pass
    return None


def _size_in_jpeg(data: bytes) -> tuple[int, int] | None:
    position = 2
    while True:
        lead, marker, length = _SEGMENT.unpack_from(data, position)
        without_length = 0xD0 <= marker <= 0xD9
        if lead != 0xFF or not 0xC0 <= marker < 0xFF or without_length or length < 2:
            return None
        if marker < 0xD0 and marker not in _NO_FRAME:
            height, width = _SIZE.unpack_from(data, position + 5)
            return (width, height) if height else None
        position += 2 + length
