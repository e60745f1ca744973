"""What a .npy file says about its array, read without NumPy and never unpickled, and its layout.

The header: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. The layout says
which dimension is the images, the rows, the columns and the channels.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass

from imgnorm.settings import LAYOUTS, Kind
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.wording import plural

MAGIC = b"\x93NUMPY"

_MAX_HEADER = 10_000  # NumPy's own limit
_MAX_DIMENSIONS = 32
_MAX_EDGE = 1 << 48
_FEW = 4  # a dimension of at most this many is channels; images are larger
_KINDS: dict[str, Kind] = {
    "u1": "8-bit",
    "u2": "16-bit",
    "f2": "float",
    "f4": "float",
    "f8": "float",
}
_REMEDIES = {
    "b": "booleans are not pixels; save them as uint8, 0 and 255 if they are black and white",
    "i": "save them as uint8 or uint16, or as float32 if they are something else",
    "u": "save them as uint8 or uint16, or as float64",
    "f": "save them as float64",
    "c": "complex numbers are not pixels; save their parts as floats",
    "O": "it is pickled, and unpickling runs code; save an array of numbers",
}


class UnclearLayout(Exception):
    """The shape fits several layouts, or none: the user must choose."""


@dataclass(frozen=True)
class Header:
    """What a .npy file says about its array."""

    start: int  # of the data, in bytes from the beginning
    dtype: str  # as NumPy writes it: "|u1", "<f4", ">u2", "|O"
    shape: tuple[int, ...]
    fortran: bool  # the first index runs fastest

    @property
    def kind(self) -> Kind | None:
        """The kind of its values; None if they are not pixels."""
        return _KINDS.get(self.dtype[1:])

    @property
    def itemsize(self) -> int:
        return int(self.dtype[2:])

    @property
    def size(self) -> int:
        """The size of the data, in bytes."""
        return math.prod(self.shape) * self.itemsize

    def demand_pixels(self) -> Kind:
        """The kind of its values.

        Raises:
            Unreadable: they are not pixels.
        """
        if self.kind is None:
            remedy = _REMEDIES.get(self.dtype[1:2], "save an array of uint8, uint16 or floats")
            raise Unreadable(Reason.UNSUPPORTED_MODE, f"dtype {self.dtype!r}: {remedy}")
        return self.kind


def header_of(read: Callable[[int, int], bytes]) -> Header:
    """The header at the beginning of what `read(offset, size)` reads.

    Raises:
        Unreadable: it is missing, or damaged.
    """
    start = read(0, 12)
    if not start:
        raise Unreadable(Reason.EMPTY_FILE, "0 bytes")
    if start[:6] != MAGIC:
        raise Unreadable(Reason.NOT_AN_IMAGE, f"starts with {start[:8]!r}, not as a .npy file")
    if len(start) < 12:
        raise Unreadable(Reason.TRUNCATED, "the header is cut off")
    version = start[6]
    if version not in (1, 2, 3):
        raise Unreadable(Reason.UNSUPPORTED_FORMAT, f"version {version} of the .npy format")
    at = 10 if version == 1 else 12
    length = int.from_bytes(start[8:at], "little")
    if length > _MAX_HEADER:
        raise _damaged(f"a header of {length:,} bytes")
    text = read(at, length)
    if len(text) < length:
        raise Unreadable(Reason.TRUNCATED, "the header is cut off")
    return _parsed(text, at + length)


def layout_of(shape: tuple[int, ...], asked: str | None) -> str:
    """The layout of an array of this shape.

    Args:
        asked: what the user chose, one of LAYOUTS.

    Raises:
        UnclearLayout: the shape fits several layouts, or not the one that was asked for.
    """
    fitting = [layout for layout in LAYOUTS if len(layout) == len(shape)]
    if asked is not None:
        if len(asked) != len(shape):
            raise UnclearLayout(
                f"shape {shape} has {len(shape)} dimensions, and --layout {asked} has {len(asked)}"
            )
        return asked
    if not fitting:
        raise UnclearLayout(
            f"shape {shape} is not a shape of images; reshape it to 3 or 4 dimensions, such as NHWC"
        )
    clear = [layout for layout in fitting if _is_clear(shape, layout)]
    if len(clear) == 1:
        return clear[0]
    if "NHW" in clear and shape[0] == 1:  # one gray image either way
        return "NHW"
    if fitting == ["HW"]:
        raise UnclearLayout(
            f"shape {shape} may be one gray image, or a table; give --layout HW if it is an image, or "
            "reshape it if it is many images, flattened"
        )
    may_be = " or ".join(f"{layout} ({_meaning(shape, layout)})" for layout in clear or fitting)
    raise UnclearLayout(f"shape {shape} may be {may_be}; choose with --layout")


def _parsed(text: bytes, start: int) -> Header:
    try:
        fields = ast.literal_eval(text.decode("utf-8" if not text.isascii() else "ascii").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise _damaged("its header is not a dictionary") from error
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise _damaged("its header has other keys than descr, fortran_order and shape")
    dtype, shape, fortran = fields["descr"], fields["shape"], fields["fortran_order"]
    if isinstance(dtype, list):
        raise Unreadable(
            Reason.UNSUPPORTED_MODE, "an array of records; save the field that holds the images"
        )
    if not isinstance(dtype, str) or not isinstance(fortran, bool) or dtype[:1] not in "<>|=":
        raise _damaged("its header has no dtype, or no order")
    if dtype[2:] and not (dtype[2:].isascii() and dtype[2:].isdigit()):  # a datetime, for example
        raise Unreadable(Reason.UNSUPPORTED_MODE, f"dtype {dtype!r}: save an array of numbers")
    if not (isinstance(shape, tuple) and all(type(edge) is int for edge in shape)):
        raise _damaged("its header has no shape")
    if len(shape) > _MAX_DIMENSIONS:
        raise _damaged(f"its shape has {len(shape):,} dimensions")
    if min(shape, default=0) < 0:
        raise _damaged("its shape has a negative dimension")
    if max(shape, default=0) >= _MAX_EDGE:
        raise _damaged("its shape is larger than any file")
    return Header(start, dtype if dtype[2:] else f"{dtype}8", shape, fortran)


def _damaged(detail: str) -> Unreadable:
    return Unreadable(Reason.CORRUPT, detail)


def _is_clear(shape: tuple[int, ...], layout: str) -> bool:
    edges = dict(zip(layout, shape, strict=True))
    if layout == "HW":  # it may also be a table of numbers
        return False
    return edges.get("C", 1) <= _FEW < min(edges["H"], edges["W"])


def _meaning(shape: tuple[int, ...], layout: str) -> str:
    edges = dict(zip(layout, shape, strict=True))
    images, channels = edges.get("N", 1), edges.get("C", 1)
    return (
        f"{plural(images, 'image')} of {edges['H']:,}x{edges['W']:,}, {plural(channels, 'channel')}"
    )
