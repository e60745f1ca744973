"""What is lost on the way of an image that is counted: frames, bits, alpha, its orientation.

Nothing here raises: what is asked for is only told to the user, and damage is found elsewhere.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import NamedTuple

from PIL import Image

from imgnorm.pixels.damage import RAISED_BY_PILLOW
from imgnorm.pixels.jpeg import orientation_in
from imgnorm.settings import Mode
from imgnorm.tally.notes import ALPHA, DEPTH, FEW_COLORS, ROTATION

_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_GRAY_OR_PALETTE = {"1", "L", "P", "I;16", "I;16B", "I;16L", "I;16N"}
_TURNED_BY_PILLOW = {"TIFF"}  # at loading
_FRAMED = {"GIF", "TIFF", "WEBP", "AVIF", "PNG"}
"""The formats whose files may have several frames or pages. A JPEG with several images (MPF) has a preview
or a gain map behind the first, or the other eye's view: no frames."""
_HEADER = 16  # bytes, of a BigTIFF; all others are shorter
_IMAGE, _EXTENSION, _TRAILER = b",!;"  # how the blocks of a GIF begin


def losses_of(picture: Image.Image, target: Mode, data: bytes, format_: str) -> dict[str, int]:
    """What a loaded picture has lost, or loses when it is converted to `target`, by kind.

    Args:
        data: its file.
    """
    lost = {}
    if target != "I;16" and _bits_of(picture, data, format_) > 8:
        lost[DEPTH] = 1
    if target != "RGBA" and _is_transparent(picture, format_):
        lost[ALPHA] = 1
    exif = picture.info.get("exif")
    if isinstance(exif, bytes) and format_ not in _TURNED_BY_PILLOW and orientation_in(exif) != 1:
        lost[ROTATION] = 1
    return lost


class Frames(NamedTuple):
    """The frames or pages of one file."""

    whole: int = 1  # at least 1: the first is looked at in any case
    missing: bool = False  # whether the file is damaged, or ends, where a further one should be


def frames_in(data: bytes, format_: str, picture: Image.Image | None = None) -> Frames:
    """The frames that a file leads to.

    Args:
        picture: its first frame, if it is open and not yet loaded.
    """
    if format_ not in _FRAMED or len(data) < _HEADER:
        return Frames()
    if format_ == "TIFF":
        return _pages(data)
    if format_ == "GIF":
        return _gif_frames(data)
    try:
        if picture is not None:
            return Frames(max(1, int(getattr(picture, "n_frames", 1))))
        with Image.open(BytesIO(data), formats=(format_,)) as whole:
            return Frames(max(1, int(getattr(whole, "n_frames", 1))))
    except (*RAISED_BY_PILLOW, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Frames()


def _pages(data: bytes) -> Frames:
    """Each directory of a TIFF ends with the place of the next: the specification of TIFF 6.0, section 2."""
    order = "<" if data.startswith(b"II") else ">"
    big = 43 in data[2:4]  # BigTIFF, not 42
    place, count = struct.Struct(order + "IQ"[big]), struct.Struct(order + "HQ"[big])
    tag = 20 if big else 12  # bytes
    (at,) = place.unpack_from(data, 8 if big else 4)
    found: set[int] = set()
    while at and at not in found:  # Pillow takes a loop for the end
        behind = at + count.size
        if behind <= len(data):
            behind += tag * count.unpack_from(data, at)[0]
        if behind + place.size > len(data) or not any(data[behind - tag : behind]):
            return Frames(max(1, len(found)), missing=bool(found))
        found.add(at)
        (at,) = place.unpack_from(data, behind)
    return Frames(max(1, len(found)))


def _gif_frames(data: bytes) -> Frames:
    """Blocks, each one of a known kind, up to the trailer: https://www.w3.org/Graphics/GIF/spec-gif89a.txt"""
    at, frames = 13 + _color_table(data[10]), 0
    while at < len(data) and data[at] != _TRAILER:
        if data[at] == _IMAGE and at + 10 < len(data):
            frames += 1
            at += 11 + _color_table(data[at + 9])
        elif data[at] == _EXTENSION:
            at += 2
        elif data[at]:  # Pillow and browsers pass over zeros
            break
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    # Some writers leave out the trailer: then the last block is whole.
    whole = at == len(data) or (at < len(data) and data[at] == _TRAILER)
    return Frames(max(1, frames), missing=not whole and frames > 0)


def _color_table(flags: int) -> int:
    """Its bytes."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def looks_like_a_mask(picture: Image.Image, file_mode: str) -> bool:
    """Whether a picture is gray, has a palette, or has few colors."""
    return file_mode in _GRAY_OR_PALETTE or picture.getcolors(FEW_COLORS) is not None


def _is_transparent(picture: Image.Image, format_: str) -> bool:
    if (
        format_ == "GIF"
    ):  # its transparent color is how a frame leaves out what the one before it has
        return False
    if picture.mode in _WITH_ALPHA:  # which many images have without use
        low, _ = picture.getchannel(len(picture.getbands()) - 1).getextrema()
        return low != 255
    return format_ == "PNG" and "transparency" in picture.info


def _bits_of(picture: Image.Image, data: bytes, format_: str) -> int:
    """Bits a channel of a file, where they may be more than 8 and Pillow gives 8; else 8."""
    if format_ == "PNG":
        return data[24]
    if format_ == "TIFF":
        bits = picture.tag_v2.get(258)  # type: ignore[attr-defined]
        return int(max(bits)) if bits and isinstance(bits, tuple) else 8
    if format_ == "PPM":
        return _bits_of_ppm(data)
    if format_ == "JPEG2000":
        start = data.find(b"\xff\x4f\xff\x51")  # SOC, SIZ: Ssiz of the first component
        return (data[start + 42] & 127) + 1 if 0 <= start < len(data) - 42 else 8
    if format_ == "AVIF":
        start = data.find(b"av1C", 0, 1 << 16)  # its third byte: seq_tier, high_bitdepth, ...
        return 10 if 0 <= start < len(data) - 6 and data[start + 6] & 0x40 else 8
    return 8


def _bits_of_ppm(data: bytes) -> int:
    """From the greatest value, which is the fourth word of the header without comments."""
    words: list[bytes] = []
    for line in data[:4096].splitlines():
        words += line.partition(b"#")[0].split()
        if len(words) >= 4:
            break
    if len(words) < 4 or words[0] in (b"P1", b"P4") or not words[3].isdigit():
        return 8
    return int(words[3][:9]).bit_length()
