"""Rows: each counted image by itself, in exact numbers. The way of a row, and how to get at it:

1. Where images are counted, many together, `pixels/each.py` has their numbers side by side: `EachImage`,
   NumPy columns of pixels, Σx and Σx², with names and files. It is made for every image of every run; what
   is to be added up of single images (as the sums of each image's own mean and std are) is added there.
2. With `Digits.per_image`, `EachImage` also has the least and the greatest value and how many pixels are 0
   or the largest value that the mode has. It is packed into `Tally.rows`: bytes, which are sent to the
   process that measures as they are. Without it nothing of this is computed or sent.
3. There, a `Work` with a `take_rows` gets the packed rows while images are being counted, and no tally keeps
   them: memory is flat. Without `take_rows`, they are in the tally of the whole.
4. `rows_in` unpacks them, without NumPy; spool.py keeps them in a file and gives them back in the order
   of their names, as the tables of stats/per_image.py have them.

Float images of format `float k/255` have two rows, in an 8-bit and in a float mode: which of them counts
is known when all are counted. It is the one whose values are of the kind of the whole's mode. Gray rows
(L) stand for a gray RGB image if the whole is RGB.
"""

from __future__ import annotations

import os
import pickle
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from imgnorm.settings import Mode

_HEAD = struct.Struct("<I")  # how many bytes what `head_of` returns takes


class ImageFile(NamedTuple):
    """What is known of an image before its pixels are counted: that of its file, if it has one."""

    format: str  # JPEG, PNG, NPY, array, ...
    mode: str  # of the file itself: P, CMYK, ...
    width: int  # before any preprocessing
    height: int
    bytes: int | None = None  # of the whole file; None if it is no file of its own
    sha256: str = ""  # of these bytes, if it is asked for


FileFields = tuple[str, str, int, int, int | None, str]
"""Those of an `ImageFile`: a plain tuple, since it is made for every image of every run."""


class Row(NamedTuple):
    """One counted image. All numbers are exact; one a channel of `mode`."""

    name: str
    file: ImageFile
    mode: Mode  # that it was counted in
    pixels: int  # per channel, after preprocessing
    total: tuple[int, ...]  # Σx, in units of 2**-unit_bits
    total_sq: tuple[int, ...]  # Σx², in units of 2**(-2 · unit_bits)
    least: tuple[float, ...]
    greatest: tuple[float, ...]
    zeros: tuple[int, ...] = ()  # pixels of value 0; () for floats
    full: tuple[int, ...] = ()  # pixels of the largest value, 255 or 65535; () for floats
    unit_bits: int = 0  # above 0 for floats only, see `tally.moments.Moments`


def packed(
    mode: Mode,
    names: Sequence[str],
    files: Sequence[FileFields],
    columns: Sequence[bytes | list[int]],
) -> bytes:
    """Rows of 8- or 16-bit images in one mode.

    Args:
        columns: pixels, one for each image; then total, total_sq, least, greatest, zeros and full, one for
            each image and channel. As the bytes of int64, or as integers where these are too small.
    """
    names = list(names)
    return _with_head(names, (mode, names, files, columns))


def packed_rows(rows: list[Row]) -> bytes:
    """Rows of any images, one by one: floats, for example, whose sums may have any number of digits."""
    return _with_head([row.name for row in rows], rows)


def _with_head(names: Sequence[str], content: object) -> bytes:
    order = [*map(name_order, names)]
    head = pickle.dumps((min(order), max(order), len(order)), pickle.HIGHEST_PROTOCOL)
    body = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return _HEAD.pack(len(head)) + head + body


def name_order(name: str) -> bytes:
    """What rows are sorted by: the name as text, in UTF-8."""
    try:
        return name.encode()
    except UnicodeEncodeError:  # it has bytes that are no text
        return os.fsencode(name).decode("utf-8", "backslashreplace").encode()


def head_of(data: bytes) -> tuple[bytes, bytes, int]:
    """The first and the last name in packed rows, as `name_order`, and how many rows there are."""
    first, last, rows = pickle.loads(memoryview(data)[_HEAD.size :])
    return first, last, rows


def rows_in(data: bytes) -> Iterator[Row]:
    """The rows in packed ones."""
    (head,) = _HEAD.unpack_from(data)
    found = pickle.loads(memoryview(data)[_HEAD.size + head :])
    if isinstance(found, list):
        yield from found
        return
    mode, names, files, columns = found
    pixels, *others = (
        array("q", column).tolist() if isinstance(column, bytes) else column for column in columns
    )
    channels = len(others[0]) // len(pixels)
    grouped = (zip(*[iter(column)] * channels, strict=True) for column in others)
    for name, file, count, *values in zip(names, files, pixels, *grouped, strict=True):
        yield Row(name, ImageFile(*file), mode, count, *values)
