"""Damage that Pillow does not notice: it would return pixels that the file does not have.

The checks follow the way of an image: its size, the bytes of its file before it is opened, its header
before memory is taken, its pixels once they are loaded. Each format has its own signs of damage.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.wording import clause

RAISED_BY_PILLOW = (
    OSError,
    SyntaxError,  # how its PNG reader reports a broken file
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RuntimeError,
    AssertionError,
    BufferError,
    EOFError,
    struct.error,
    zlib.error,
)
"""What Pillow's plugins raise for damaged files, as found with the corpora of fuzzers."""

_JPEG_PIXELS_PER_BYTE = 512  # a constant JPEG needs 1/256 byte a pixel; half of that to be sure
_DEFLATE_MAX_RATIO = 1032  # bytes from one byte of deflate: https://zlib.net/zlib_tech.html
_TAIL = 64  # zeros at the end of a file that mean that its end was never written

_SHORT_TAIL = 16  # the same, where no whole file ends so

COMPRESSED = {"JPEG", "PNG", "GIF", "WEBP", "AVIF"}
_END_MARKS = {
    "JPEG": (b"\xff\xd9", _TAIL),
    "PNG": (b"IEND\xaeB`\x82", _TAIL),
    "GIF": (b"\0;", _SHORT_TAIL),
    "QOI": (b"\0\0\0\0\0\0\0\1", _SHORT_TAIL),
    "AVIF": (b"", _SHORT_TAIL),  # the last byte of AV1's data is not zero
}
"""The last bytes of a whole file of these formats, and how many zeros behind them mean something."""


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """
    Raises:
        Unreadable: an image of this width and height has no pixels, or too many.
    """
    width, height = size
    if not width or not height:
        raise Unreadable(Reason.ZERO_AREA, f"{width}x{height}")
    if width * height > max_pixels:
        above = above_limit(width * height, max_pixels)
        raise Unreadable(Reason.TOO_LARGE, f"{width}x{height} is {above}")


def above_limit(pixels: int, max_pixels: int) -> str:
    return f"{pixels:,} pixels; the limit is {max_pixels:,} (--max-pixels)"


def check_bytes(data: bytes, format_: str) -> None:
    """Check a file before it is opened.

    Raises:
        Unreadable: its end was never written.
    """
    end_mark, zeros = _END_MARKS.get(format_, (b"", 0))
    if zeros and _has_zero_tail(data, zeros) and not (end_mark and _padded(data, end_mark)):
        raise _zero_filled(data)


def check_header(size: tuple[int, int], data: bytes, format_: str) -> None:
    """Check a file whose size is known, before memory is taken for the pixels.

    Raises:
        Unreadable: the file is too short for its pixels, ends too early or has a damaged part.
    """
    check = _HEADER_CHECKS.get(format_)
    if check:
        check(size, data)


def check_pixels(picture: Image.Image, data: bytes, format_: str) -> None:
    """Check the pixels that Pillow has loaded.

    Raises:
        Unreadable: the file does not have some of them.
    """
    if format_ == "PNG":
        _check_png_rows(picture, data)
    elif format_ == "WEBP":
        _check_webp(picture, data)


def damaged(error: Exception) -> Unreadable:
    """What an exception of Pillow or zlib becomes."""
    reason = Reason.TRUNCATED if "truncated" in str(error).lower() else Reason.CORRUPT
    return Unreadable(reason, clause(error))


def _has_zero_tail(data: bytes, zeros: int) -> bool:
    return data.endswith(bytes(zeros))


def _zero_filled(data: bytes) -> Unreadable:
    zeros = len(data) - len(data.rstrip(b"\0"))
    return Unreadable(Reason.ZERO_FILLED_TAIL, f"the last {zeros:,} bytes are all zero")


def _padded(data: bytes, end_mark: bytes) -> bool:
    """Whether only zeros follow the end of a whole image, if any."""
    return data.rstrip(b"\0").endswith(end_mark)


def _check_webp(picture: Image.Image, data: bytes) -> None:
    """Check that a tail of zeros was written: that the pixels depend on it.

    The arithmetic coder of lossy WebP writes rows of one color as zeros, and its decoder does not notice
    where it stops in its data: data that were not written are used up long before their end. A lossless
    image does not end in that many zeros.

    Sources: https://developers.google.com/speed/webp/docs/riff_container, RFC 6386 (VP8)
    """
    kind, end = _webp_data(data)
    if not kind or not _has_zero_tail(data[:end], _SHORT_TAIL):
        return
    if kind == b"VP8 ":
        changed = bytearray(data)
        changed[end - 8 : end - 2] = (
            b"\xff" * 6
        )  # an encoder may write a few bytes that are not read
        try:
            with Image.open(BytesIO(changed), formats=("WEBP",)) as other:
                if other.tobytes() != picture.tobytes():
                    return
        except RAISED_BY_PILLOW:
            return
    raise _zero_filled(data[:end])


def _webp_data(data: bytes) -> tuple[bytes, int]:
    """The kind of the first frame's chunk, and where it ends; no kind if it is not found."""
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        position += 8
        if kind in (b"VP8 ", b"VP8L"):
            return kind, min(position + length, len(data))
        position += 16 if kind == b"ANMF" else length + length % 2  # a frame has chunks of its own
    return b"", 0


def _check_jpeg(size: tuple[int, int], data: bytes) -> None:
    pixels = size[0] * size[1]
    if len(data) * _JPEG_PIXELS_PER_BYTE < pixels:
        raise Unreadable(Reason.TRUNCATED, f"{len(data):,} bytes cannot hold {pixels:,} pixels")


def _check_png(size: tuple[int, int], data: bytes) -> None:
    """Check what Pillow does not: the checksums of the image data, the end, the palette.

    Source: https://www.w3.org/TR/png-3/
    """
    header = _png_header(data)
    if header.raw_bytes() > len(data) * _DEFLATE_MAX_RATIO:
        raise Unreadable(
            Reason.TRUNCATED,
            f"{len(data):,} bytes cannot hold {header.raw_bytes():,} bytes of pixels",
        )
    has_palette = False
    for kind, body, checksum in _png_chunks(data):
        # Ancillary chunks (lower case) do not change the pixels, except tRNS: it decides how P becomes RGB.
        if (kind[:1].isupper() or kind == b"tRNS") and zlib.crc32(
            body, zlib.crc32(kind)
        ) != checksum:
            raise Unreadable(Reason.CORRUPT, f"wrong checksum of chunk {kind!r}")
        has_palette = has_palette or kind == b"PLTE"
    if header.color_type == 3 and not has_palette:
        raise Unreadable(Reason.CORRUPT, "a palette image without its palette")


@dataclass(frozen=True)
class _PngHeader:
    width: int
    height: int
    bits: int
    color_type: int
    interlaced: bool

    def raw_bytes(self) -> int:
        """The length of the inflated image data, filter bytes included."""
        if not self.interlaced:
            return self._rows(self.width, self.height)
        adam7 = (
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        )
        return sum(
            self._rows(-(-(self.width - x) // dx), -(-(self.height - y) // dy))
            for x, y, dx, dy in adam7
            if self.width > x and self.height > y
        )

    def _rows(self, width: int, height: int) -> int:
        samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(self.color_type, 1)
        return height * (1 + (width * self.bits * samples + 7) // 8)


def _png_header(data: bytes) -> _PngHeader:
    if len(data) < 29 or data[12:16] != b"IHDR":
        raise Unreadable(Reason.TRUNCATED, "the header is cut off")
    width, height, bits, color_type, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    return _PngHeader(width, height, bits, color_type, interlace != 0)


def _png_chunks(data: bytes) -> list[tuple[bytes, memoryview, int]]:
    """Kind, body and checksum of each chunk up to IEND."""
    view = memoryview(data)
    chunks = []
    position = 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        kind = data[position + 4 : position + 8]
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        chunks.append((kind, view[position + 8 : end - 4], checksum))
        if kind == b"IEND":
            return chunks
        position = end
    raise Unreadable(Reason.TRUNCATED, "the file ends before its last chunk")


def _check_png_rows(picture: Image.Image, data: bytes) -> None:
    """Count the bytes if the last row is black: Pillow shows missing rows as black."""
    header = _png_header(data)
    last_row = picture.crop((0, picture.height - 1, picture.width, picture.height))
    # An interlaced image ends with its odd rows, and the last row may be an even one.
    if not header.interlaced and last_row.tobytes().strip(b"\0"):
        return
    wanted = header.raw_bytes()
    try:
        inflated = _inflated_bytes(data, wanted)
    except zlib.error as error:
        raise damaged(error) from error
    if inflated < wanted:
        raise Unreadable(
            Reason.TRUNCATED, f"{inflated:,} of {wanted:,} bytes of pixels; the rest would be black"
        )


def _inflated_bytes(data: bytes, enough: int) -> int:
    """How many bytes a PNG's image data inflate to; stops counting at `enough`."""
    inflated = 0
    inflate = zlib.decompressobj()
    for kind, body, _ in _png_chunks(data):
        if kind != b"IDAT":
            continue
        pending: bytes | memoryview = body
        while pending and inflated < enough and not inflate.eof:
            inflated += len(inflate.decompress(pending, 1 << 20))
            pending = inflate.unconsumed_tail
    if inflated < enough:  # otherwise flush() would inflate all that follows, without a limit
        inflated += len(inflate.flush())
    return inflated


def _check_jpeg2000(size: tuple[int, int], data: bytes) -> None:
    """Check the end of the file: OpenJPEG shows data that are cut off after the header as one flat color."""
    start = data.find(b"\xff\x4f\xff\x51")  # SOC, SIZ; no packet has the two bytes of EOC
    if data.find(b"\xff\xd9", start) < 0:
        raise Unreadable(Reason.TRUNCATED, "the file ends before its last marker")


_HEADER_CHECKS: dict[str, Callable[[tuple[int, int], bytes], None]] = {
    "JPEG": _check_jpeg,
    "PNG": _check_png,
    "JPEG2000": _check_jpeg2000,
}
