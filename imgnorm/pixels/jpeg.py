"""Decoding ordinary JPEGs with libjpeg-turbo directly, to the same pixels as Pillow.

On a tiny JPEG Pillow spends more time on the header than libjpeg-turbo on the pixels, and for a large
one it takes fresh memory each time. So ordinary files take this fast path: baseline or progressive,
Huffman-coded, gray or 4:4:4, 4:2:2, 4:2:0, 4:4:0. What is unusual, damaged or causes a warning is left
to Pillow. Pillow does not pass on the warning, and shows pixels that libjpeg-turbo made up: so what
Pillow decodes is checked by `check_data`.

Source of the format: ITU-T T.81, https://www.w3.org/Graphics/JPEG/itu-t81.pdf
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
from imgnorm.settings import Decoder
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.wording import clause

Pixels = npt.NDArray[np.uint8]  # (height, width, 1) gray, or (height, width, 4) with R, G, B, X

_KEPT_BYTES = 16 << 20
"""A buffer of up to this size is used again; larger images get memory of their own."""

_SEGMENT = struct.Struct(">BBH")  # 0xFF, marker, length
_FRAME = struct.Struct(">BHHB")  # bits, height, width, components
_SOF = {0xC0, 0xC2}  # baseline, progressive; both Huffman-coded
_DHT, _EOI, _SOS, _DQT, _DRI, _APP0, _APP14, _COM = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE, 0xFE
_APP = set(range(0xE1, 0xF0))
_SKIPPED = {_DHT, _DRI, _COM}
_BETWEEN_SCANS = {_DHT, _DRI, _COM, _SOS}
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_CUT = ("Premature end of JPEG file", "Corrupt JPEG data: premature end of data segment")
_DAMAGED = re.compile(
    "Corrupt JPEG data: (bad (Huffman|arithmetic) code|found marker)|Inconsistent progression"
)
"""Warnings of libjpeg-turbo (jerror.h) about data without which pixels are made up.

"Extraneous bytes before marker" is not among them: some encoders write bytes that mean nothing.
"""
_SAMPLINGS = {
    b"\x11\x11\x11",  # 4:4:4
    b"\x21\x11\x11",  # 4:2:2
    b"\x22\x11\x11",  # 4:2:0
    b"\x12\x11\x11",  # 4:4:0
}


class Frame(NamedTuple):
    """What the header of an ordinary JPEG says."""

    width: int
    height: int
    gray: bool
    rotated: bool = False  # EXIF says that viewers should turn or mirror it


def ordinary_frame(data: bytes) -> Frame | None:
    """The frame of a JPEG that Pillow opens without an error or a warning; None where that is not sure."""
    return _frame_and_header(data)[0]


def whole_frame(data: bytes) -> Frame | None:
    """The frame of an ordinary JPEG that is complete, as far as its markers show; else None.

    For decoders that do not report damage: each scan has all the restart markers that its size needs, in
    their order, all components have a scan, and the file ends with its end marker. The colors are surely
    YCbCr: decoders have different ways to find out whether they are.
    """
    frame = ordinary_frame(data)
    if frame is None:
        return None
    components: dict[int, tuple[int, int]] = {}  # id -> horizontal and vertical sampling
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
                    components[data[place]] = data[place + 1] >> 4, data[place + 1] & 15
            elif marker == _APP14 and data.startswith(b"Adobe", start) and not frame.gray:
                if data[start + 11] != 1:
                    return None
            elif marker == _DRI:
                interval = int.from_bytes(data[start : start + 2], "big")
            elif marker == _SOS:
                ids = data[start + 1 : start + 1 + 2 * data[start] : 2]
                scanned.update(ids)
                these = [components[id_] for id_ in ids]
                end = _end_of_scan(data, position, _restarts(frame, these, components, interval))
                if end is None:
                    return None
                position = end
        at_end = data[position] == 0xFF and position + 2 == len(data)
    except (struct.error, LookupError):
        return None
    whole = at_end and scanned == set(components) and bytes(components) != b"RGB"
    return frame if whole else None


class JpegDecoder:
    """libjpeg-turbo, with memory that it uses again. Not thread-safe: make one per thread.

    Only for processes in which `fault_of_the_fast_path` is empty.
    """

    def __init__(self) -> None:
        self._decode = _simplejpeg().decode_jpeg
        self._buffer = np.empty(1 << 18, np.uint8)
        self._header = b""  # of the last file
        self._frame: Frame | None = None

    def frame(self, data: bytes) -> Frame | None:
        """The `ordinary_frame`, known already if the last file began with the same header.

        The images of a dataset often come from one encoder, in one size, and so have the same header.
        """
        if not (self._header and data.startswith(self._header)):
            self._frame, length = _frame_and_header(data)
            self._header = data[:length]
        return self._frame

    def pixels(self, data: bytes, frame: Frame, *, gray: bool) -> Pixels | None:
        """The pixels, valid until the next call; None where libjpeg-turbo fails or warns.

        Args:
            gray: give one byte a pixel, for a gray image; otherwise four.
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


def check_data(data: bytes) -> None:
    """Check the compressed data of a JPEG of any kind, by decoding it to an eighth of its size.

    Without simplejpeg, nothing is checked.

    Raises:
        Unreadable: libjpeg-turbo reports damaged data.
    """
    report = _report(data)
    if report in _CUT:
        raise Unreadable(Reason.TRUNCATED, report)
    if _DAMAGED.match(report):
        raise Unreadable(Reason.CORRUPT, report)


@cache
def fault_of_the_fast_path() -> str:
    """Why this process cannot use the fast path, so that Pillow decodes all JPEGs; empty if it can."""
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
            return f"simplejpeg cannot decode what Pillow can ({error})"
        if not np.array_equal(expected, found):
            return "simplejpeg's pixels differ from those of Pillow, which has another libjpeg"
    return ""


def jpeg_decoder_of(decoder: Decoder) -> tuple[JpegDecoder | None, str]:
    """What decodes ordinary JPEGs in this process, with its version; for Pillow, None and the reason."""
    fault = "as requested" if decoder == "pillow" else fault_of_the_fast_path()
    if fault:
        return None, f"Pillow: {fault}"
    return JpegDecoder(), f"simplejpeg {_simplejpeg().__version__}"


def _frame_and_header(data: bytes) -> tuple[Frame | None, int]:
    """The `ordinary_frame`, and how many bytes it depends on; 0 where it is None."""
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
    if frame and exif is not None and orientation_in(exif) != 1:
        frame = frame._replace(rotated=True)
    return (frame, position - length + 2) if frame else (None, 0)


def orientation_in(exif: bytes) -> int:
    """The orientation that EXIF data give, 1 to 8; 1, which is upright, if they give none.

    Source: tag 0x0112 of CIPA DC-008, https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf
    """
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    order = "<" if exif.startswith(b"II", start) else ">"
    try:
        (first,) = struct.unpack_from(order + "4xI", exif, start)
        (entries,) = struct.unpack_from(order + "H", exif, start + first)
        # The tags are sorted, and this one is among the first.
        for place in range(start + first + 2, start + first + 2 + 12 * entries, 12):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", exif, place)
            if tag == 0x0112:
                return value if (kind, count) == (3, 1) and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _frame_in(data: bytes, start: int, length: int) -> Frame | None:
    bits, height, width, components = _FRAME.unpack_from(data, start)
    if bits != 8 or not height or not width or length != 8 + 3 * components:
        return None
    samplings = data[start + 7 : start + 6 + 3 * components : 3]
    if components == 1 and samplings == b"\x11":
        return Frame(width, height, gray=True)
    if components == 3 and samplings in _SAMPLINGS:
        return Frame(width, height, gray=False)
    return None


def _is_plain_dqt(data: bytes, start: int, end: int) -> bool:
    """Whether the segment has 8-bit tables, and nothing after them."""
    return (end - start) % 65 == 0 and all(data[table] < 4 for table in range(start, end, 65))


def _is_plain_app(marker: int, body: bytes) -> bool:
    """Whether Pillow reads this segment without an error or a warning."""
    if marker == 0xE2:
        if body.startswith(b"MPF\0"):  # several images in one file
            return False
        return len(body) >= 14 or not body.startswith(b"ICC_PROFILE\0")
    if marker == 0xED:
        return body[-6:-2] != b"8BIM"  # Pillow would look for a length after it
    if marker == 0xEE:
        return len(body) >= 12 or not body.startswith(b"Adobe")
    return True


def _is_plain_exif(exif: bytes) -> bool:
    """Whether Pillow, which reads the resolution from it, does so without an error."""
    try:
        tags = Image.Exif()
        tags.load(exif)
        unit, resolution = tags.get(0x0128), tags.get(0x011A)
    except RAISED_BY_PILLOW:
        return False
    return all(value is None or isinstance(value, Real) for value in (unit, resolution))


def _restarts(
    frame: Frame,
    these: list[tuple[int, int]],
    components: dict[int, tuple[int, int]],
    interval: int,
) -> int:
    """How many restart markers a scan of these components has."""
    if not interval:
        return 0
    # The unit (MCU) of a scan of one component is a block of 8x8 samples; that of a scan of several has
    # blocks of all of them.
    units = 1
    for axis, edge in enumerate((frame.width, frame.height)):
        most = max(samplings[axis] for samplings in components.values())
        if len(these) > 1:
            units *= -(-edge // (8 * most))
        else:
            units *= -(-edge * these[0][axis] // (8 * most))
    return -(-units // interval) - 1


def _end_of_scan(data: bytes, start: int, restarts: int) -> int | None:
    """Where the marker after a scan begins; None if the scan does not have all its restart markers."""
    for number, found in enumerate(_MARKER.finditer(data, start)):
        marker = data[found.start() + 1]
        if not 0xD0 <= marker <= 0xD7:
            return found.start() if number == restarts else None
        if marker != 0xD0 + number % 8:
            return None
    return None


def _report(data: bytes) -> str:
    """The first warning or error of libjpeg-turbo; empty if there is none, or no simplejpeg."""
    try:
        decode = _simplejpeg().decode_jpeg
    except (ImportError, ValueError):
        return ""
    try:
        decode(data, "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        return str(error)
    return ""


def _simplejpeg() -> Any:
    import simplejpeg

    return simplejpeg


def _samples(simplejpeg: Any) -> Iterator[bytes]:
    """Strong colors and edges, in sizes that are not whole blocks: they show where decoders differ."""
    y, x, channel = np.indices((29, 43, 3))
    pixels = ((x * (7 + channel) ^ y * 5) * (1 + channel) & 0xFF).astype(np.uint8)
    for sampling in ("444", "422", "420", "440"):
        yield simplejpeg.encode_jpeg(pixels, quality=70, colorsubsampling=sampling)
    yield simplejpeg.encode_jpeg(pixels[:, :, :1].copy(), 70, "GRAY", "GRAY")
    progressive = BytesIO()
    Image.fromarray(pixels).save(progressive, "JPEG", quality=70, progressive=True)
    yield progressive.getvalue()
