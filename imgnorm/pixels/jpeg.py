"""JPEG at the speed of libjpeg-turbo: of ordinary files, the very pixels that Pillow would make.

On a tiny JPEG Pillow spends more time with the header than libjpeg-turbo with the pixels, and for a
large one it takes fresh memory each time. So ordinary files take a way around it: baseline or
progressive, Huffman-coded, gray or 4:4:4, 4:2:2, 4:2:0, 4:4:0. Nothing is refused here: whatever is
unusual, damaged or warned about is left to Pillow, whose word counts.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgnorm.pixels.damage import RAISED_BY_PILLOW
from imgnorm.wording import clause

Pixels = npt.NDArray[np.uint8]  # (height, width, 1) gray, or (height, width, 4) with R, G, B, X

_KEPT_BYTES = 16 << 20
"""A buffer of up to this size is used again; larger images get memory of their own."""


class Frame(NamedTuple):
    """What the header of an ordinary JPEG says."""

    width: int
    height: int
    gray: bool


def ordinary_frame(data: bytes) -> Frame | None:
    """The frame of a JPEG that Pillow opens without a word; None where that is not sure."""
    return _frame_and_header(data)[0]


def _frame_and_header(data: bytes) -> tuple[Frame | None, int]:
    """`ordinary_frame`, and how many bytes it depends on; 0 where it is None."""
    frame = exif = None
    has_dpi = False
    position = 2
    try:
        while True:
            lead, marker, length = _SEGMENT.unpack_from(data, position)
            start = position + 4
            position += 2 + length
            if lead != 0xFF or length < 2:
                return None, 0
            if marker == _SOS:
                break
            if marker in _SKIPPED:
                continue
            if marker == _DQT:
                if not _is_plain_dqt(data, start, position):
                    return None, 0
            elif marker in _SOF:
                frame = None if frame else _frame_in(data, start, length)
                if frame is None:
                    return None, 0
            elif marker == _APP0:
                if data.startswith(b"JFIF", start):
                    if length < 16:
                        return None, 0
                    has_dpi = has_dpi or data[start + 7] in (1, 2)
            elif marker in _APP:
                body = data[start:position]
                if body.startswith(b"Exif\0\0"):
                    if exif is not None:
                        return None, 0
                    exif = body
                elif not _is_plain_app(marker, body):
                    return None, 0
            else:
                return None, 0
    except (struct.error, IndexError):
        return None, 0
    if exif is not None and not has_dpi and not _is_plain_exif(exif):
        return None, 0
    return (frame, position - length + 2) if frame else (None, 0)


_SEGMENT = struct.Struct(">BBH")
_FRAME = struct.Struct(">BHHB")
_SOS, _DQT, _APP0 = 0xDA, 0xDB, 0xE0
_SOF = {0xC0, 0xC2}  # baseline, progressive; both Huffman-coded
_SKIPPED = {0xC4, 0xDD, 0xFE}  # DHT, DRI, COM
_APP = set(range(0xE1, 0xF0))
_SAMPLINGS = {
    b"\x11\x11\x11",  # 4:4:4
    b"\x21\x11\x11",  # 4:2:2
    b"\x22\x11\x11",  # 4:2:0
    b"\x12\x11\x11",  # 4:4:0
}


def _frame_in(data: bytes, start: int, length: int) -> Frame | None:
    bits, height, width, layers = _FRAME.unpack_from(data, start)
    if bits != 8 or not height or not width or length != 8 + 3 * layers:
        return None
    samplings = data[start + 7 : start + 6 + 3 * layers : 3]
    if layers == 1 and samplings == b"\x11":
        return Frame(width, height, gray=True)
    if layers == 3 and samplings in _SAMPLINGS:
        return Frame(width, height, gray=False)
    return None


def _is_plain_dqt(data: bytes, start: int, end: int) -> bool:
    """8-bit tables, and nothing behind them."""
    return (end - start) % 65 == 0 and all(data[table] < 4 for table in range(start, end, 65))


def _is_plain_app(marker: int, body: bytes) -> bool:
    """Whether Pillow's reader of this segment cannot stumble over it."""
    if marker == 0xE2:
        if body.startswith(b"MPF\0"):  # several images in one file
            return False
        return len(body) >= 14 or not body.startswith(b"ICC_PROFILE\0")
    if marker == 0xED:
        return body[-6:-2] != b"8BIM"  # it would look for a length right behind
    if marker == 0xEE:
        return len(body) >= 12 or not body.startswith(b"Adobe")
    return True


def _is_plain_exif(exif: bytes) -> bool:
    """Whether Pillow, which looks there for the resolution, gets over it."""
    try:
        tags = Image.Exif()
        tags.load(exif)
        unit, resolution = tags.get(0x0128), tags.get(0x011A)
    except RAISED_BY_PILLOW:
        return False
    return all(value is None or isinstance(value, Real) for value in (unit, resolution))


def whole_frame(data: bytes) -> Frame | None:
    """The frame of an ordinary JPEG that holds all that it promises, as far as its markers tell.

    For decoders that do not tell of damage: each scan has the restart markers that its size asks for,
    in their order, all channels have a scan, and the file ends with its end marker. Nor may the colors
    be anything but YCbCr, which decoders find out in ways of their own. None where that is not sure.
    """
    frame = ordinary_frame(data)
    if frame is None:
        return None
    layers: dict[int, tuple[int, int]] = {}  # id -> samplings
    scanned: set[int] = set()
    interval, position = 0, 2
    try:
        while data[position + 1] != _EOI:
            lead, marker, length = _SEGMENT.unpack_from(data, position)
            start, position = position + 4, position + 2 + length
            if lead != 0xFF or (scanned and marker not in _BETWEEN_SCANS):
                return None
            if marker in _SOF:
                for place in range(start + 6, position, 3):
                    layers[data[place]] = data[place + 1] >> 4, data[place + 1] & 15
            elif marker == _APP14 and data.startswith(b"Adobe", start) and not frame.gray:
                if data[start + 11] != 1:
                    return None
            elif marker == _DRI:
                interval = int.from_bytes(data[start : start + 2], "big")
            elif marker == _SOS:
                these = list(data[start + 1 : start + 1 + 2 * data[start] : 2])
                scanned.update(these)
                restarts = _restarts(frame, [layers[one] for one in these], layers, interval)
                end = _end_of_scan(data, position, restarts)
                if end is None:
                    return None
                position = end
        ends_there = data[position] == 0xFF and position + 2 == len(data)
    except (struct.error, LookupError):
        return None
    whole = ends_there and scanned == set(layers) and bytes(layers) != b"RGB"
    return frame if whole else None


_EOI, _DRI, _APP14 = 0xD9, 0xDD, 0xEE
_BETWEEN_SCANS = {0xC4, _DRI, 0xFE, _SOS}  # DHT, COM
_MARKER = re.compile(rb"\xff[^\x00\xff]")


def _restarts(
    frame: Frame,
    these: list[tuple[int, int]],
    layers: dict[int, tuple[int, int]],
    interval: int,
) -> int:
    """How many restart markers a scan of these layers has."""
    if not interval:
        return 0
    units = (
        1  # a scan of one layer is made of its own blocks; one of several, of what covers them all
    )
    for axis, edge in enumerate((frame.width, frame.height)):
        most = max(samplings[axis] for samplings in layers.values())
        if len(these) > 1:
            units *= -(-edge // (8 * most))
        else:
            units *= -(-edge * these[0][axis] // (8 * most))
    return -(-units // interval) - 1


def _end_of_scan(data: bytes, start: int, restarts: int) -> int | None:
    """Where the marker behind a scan stands; None if it is not as whole as that."""
    for met, found in enumerate(_MARKER.finditer(data, start)):
        marker = data[found.start() + 1]
        if not 0xD0 <= marker <= 0xD7:
            return found.start() if met == restarts else None
        if marker != 0xD0 + met % 8:
            return None
    return None


class JpegDecoder:
    """libjpeg-turbo, with memory that it uses again; mutable, one for each thread.

    Only where `fault_of_the_fast_path` finds none.
    """

    def __init__(self) -> None:
        self._decode = _simplejpeg().decode_jpeg
        self._buffer = np.empty(1 << 18, np.uint8)
        self._header = b""  # of the last file
        self._frame: Frame | None = None

    def frame(self, data: bytes) -> Frame | None:
        """`ordinary_frame`, looked up where the last file began with the same bytes.

        The images of one dataset often come from one encoder, in one size: then all have one header.
        """
        if not (self._header and data.startswith(self._header)):
            self._frame, length = _frame_and_header(data)
            self._header = data[:length]
        return self._frame

    def pixels(self, data: bytes, frame: Frame, *, gray: bool) -> Pixels | None:
        """The pixels, valid until the next call; None where libjpeg-turbo so much as warns.

        Args:
            gray: one byte a pixel, of a gray image; otherwise four.
        """
        size = frame.width * frame.height * (1 if gray else 4)
        if size > len(self._buffer) and size <= _KEPT_BYTES:
            self._buffer = np.empty(min(_KEPT_BYTES, size * 5 // 4), np.uint8)
        buffer = self._buffer if size <= len(self._buffer) else None
        try:
            pixels: Pixels = self._decode(data, "GRAY" if gray else "RGBX", buffer=buffer)
        except ValueError:
            return None
        return pixels


def fast_path_version() -> str:
    return f"simplejpeg {_simplejpeg().__version__}"


def _simplejpeg() -> Any:
    import simplejpeg  # type: ignore[import-untyped]

    return simplejpeg


@cache
def fault_of_the_fast_path() -> str:
    """Why Pillow decodes all JPEGs of this process; empty if there is nothing against the fast path."""
    try:
        simplejpeg = _simplejpeg()
    except (ImportError, ValueError) as error:  # ValueError: built for another NumPy
        return f"simplejpeg cannot be imported ({clause(error)})"
    for data in _samples(simplejpeg):
        with Image.open(BytesIO(data), formats=("JPEG",)) as picture:
            expected = np.asarray(picture.convert("RGB"))
        try:
            found = simplejpeg.decode_jpeg(data, "RGBX")[:, :, :3]
        except ValueError as error:
            return f"simplejpeg does not decode what Pillow does ({error})"
        if not np.array_equal(expected, found):
            return "simplejpeg's pixels are not those of Pillow, which has another libjpeg"
    return ""


def _samples(simplejpeg: Any) -> Iterator[bytes]:
    """Strong colors and edges, in sizes that fill no block: what decoders differ in would show."""
    y, x, channel = np.indices((29, 43, 3))
    pixels = ((x * (7 + channel) ^ y * 5) * (1 + channel) & 0xFF).astype(np.uint8)
    for sampling in ("444", "422", "420", "440"):
        yield simplejpeg.encode_jpeg(pixels, quality=70, colorsubsampling=sampling)
    yield simplejpeg.encode_jpeg(pixels[:, :, :1].copy(), 70, "GRAY", "GRAY")
    progressive = BytesIO()
    Image.fromarray(pixels).save(progressive, "JPEG", quality=70, progressive=True)
    yield progressive.getvalue()
