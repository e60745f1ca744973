"""TIFF: damage that libtiff does not report to Pillow, and what Pillow cannot read.

Source of the tags: TIFF 6.0, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import Lock
from typing import IO

from PIL import Image
from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2

from imgnorm.pixels.damage import RAISED_BY_PILLOW
from imgnorm.tally.skipped import Reason, Unreadable

_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_SAMPLES, _PLANAR, _SAMPLE_FORMAT, _JPEG_TABLES = 277, 284, 339, 347
_PARTS = ((273, 279), (324, 325))  # offsets and lengths of strips, and of tiles
_KINDS = {1: "integer", 2: "integer", 3: "float", 5: "complex integer", 6: "complex float"}
_COMMON = {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg"}
"""Compressions of which libtiff reports nothing that Pillow does not raise."""
_FAX_FAULT = re.compile(rb"Bad code word|Uncompressed data \(not supported\)")
_FEW = 16
"""Fewer zeros than this may be the end of compressed pixels: most compressions end them with a code or a
checksum, and PackBits has to write three equal bytes as a run (TIFF 6.0, section 9)."""


def load_checked(picture: Image.Image, data: bytes) -> None:
    """Load a picture from its file, as `picture.load()`.

    Raises:
        Unreadable: libtiff would go on with pixels that the file does not have.
    """
    _check_end(picture, data)
    compression = picture.info["compression"]
    if compression in _COMMON:
        picture.load()
        return
    with _standard_error() as printed:
        failure = None
        try:
            picture.load()
        except RAISED_BY_PILLOW as error:
            failure = error
        printed.seek(0)
        reported = printed.read()
    if b"support is not configured" in reported:
        detail = f"this Pillow cannot read TIFF with {compression} compression"
        raise Unreadable(Reason.UNSUPPORTED_FORMAT, detail)
    if failure:
        raise failure
    fault = _FAX_FAULT.search(reported)
    if fault:
        raise Unreadable(Reason.CORRUPT, f"libtiff reports: {fault[0].decode()}")


def unsupported(data: bytes) -> Unreadable | None:
    """Why Pillow cannot open a TIFF that is in order, but of a kind that Pillow has no mode for."""
    file = BytesIO(data)
    header = file.read(16 if b"+" in data[2:4] else 8)
    try:  # of a damaged file, any value may be of any type
        tags = ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(file)
        return _unsupported(tags, len(data))
    except RAISED_BY_PILLOW:
        return None


def _unsupported(tags: ImageFileDirectory_v2, size: int) -> Unreadable | None:
    channels, compression = int(tags.get(_SAMPLES, 1)), tags.get(_COMPRESSION, 1)
    bits, kinds = tags.get(_BITS, (1,)), {_KINDS[k] for k in tags.get(_SAMPLE_FORMAT, (1,))}
    bytes_needed = tags[_WIDTH] * tags[_HEIGHT] * channels * min(bits) // 8
    parts = list(_parts(tags))
    bytes_stored = sum(end - start for start, end in parts)
    if not bytes_stored > 0 or (compression == 1 and bytes_stored < bytes_needed):
        return None
    if max(end for _, end in parts) > size:
        return Unreadable(Reason.TRUNCATED, "the file ends before its pixels")
    if compression not in COMPRESSION_INFO:
        detail = (
            f"TIFF with compression {compression}, which Pillow cannot read; save it with another"
        )
        return Unreadable(Reason.UNSUPPORTED_FORMAT, detail)
    each = f"{'/'.join(map(str, sorted(set(bits))))}-bit {'/'.join(sorted(kinds))}"
    planes = " in planes" if tags.get(_PLANAR) == 2 else ""
    return Unreadable(
        Reason.UNSUPPORTED_MODE,
        f"{channels} channel{'s' if channels > 1 else ''} of {each}{planes}, which Pillow cannot read from "
        "TIFF; save the pixels as .npy",
    )


def _check_end(picture: Image.Image, data: bytes) -> None:
    """Check that the end of the file was written.

    libtiff does not look for the end of a strip whose pixels it has. Behind the pixels it writes where they
    are, and the tables of JPEG; it takes zeros there for valid values.

    Raises:
        Unreadable: the compressed pixels of the picture, or what belongs to them, end in zeros.
    """
    if data[-_FEW:].count(0) < _FEW:
        return
    written = len(data.rstrip(b"\0"))
    compression = picture.info["compression"]
    tags: ImageFileDirectory_v2 = picture.tag_v2  # type: ignore[attr-defined]
    parts = [(start, end) for start, end in _parts(tags) if start < end]
    cut = compression != "raw" and any(end - max(start, written) >= _FEW for start, end in parts)
    if cut and compression == "jpeg":
        cut = not data[:written].endswith(b"\xff\xd9")
    in_header = any(start == 0 for start, _ in parts)
    if cut or in_header or bytes(tags.get(_JPEG_TABLES, b"")).endswith(bytes(_FEW)):
        zeros = len(data) - written
        raise Unreadable(Reason.ZERO_FILLED_TAIL, f"the last {zeros:,} bytes are all zero")


def _parts(tags: ImageFileDirectory_v2) -> Iterator[tuple[int, int]]:
    """Where each strip or tile begins and ends."""
    for offsets, lengths in _PARTS:
        for start, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False):
            yield start, start + length


_lock = Lock()


@contextmanager
def _standard_error() -> Iterator[IO[bytes]]:
    """What the process writes to its standard error meanwhile, in a file: libtiff's only way to report."""
    from tempfile import TemporaryFile  # takes longer to import than most TIFFs to decode

    with _lock, TemporaryFile() as file:
        try:
            terminal = os.dup(2)
        except OSError:  # closed; then the file, which takes the lowest free number, is number 2
            yield file
            return
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
