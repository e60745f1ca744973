"""What is lost on the way of an image that is counted: frames, bits, alpha, its orientation.

Nothing here raises: what is asked for is only told to the user, and damage is found elsewhere.
"""

from __future__ import annotations

from io import BytesIO

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


def losses_of(picture: Image.Image, target: Mode, data: bytes, format_: str) -> dict[str, int]:
    """What a loaded picture has lost, or loses when it is converted to `target`, by kind.

    Args:
        data: its file.
    """
    lost = {}
    if target != "I;16" and _bits_of(picture, data, format_) > 8:
        lost[DEPTH] = 1
    # A GIF's transparent color is how a frame leaves out what the one before it has.
    transparent = format_ == "PNG" and "transparency" in picture.info
    if format_ != "GIF" and (picture.mode in _WITH_ALPHA or transparent) and target != "RGBA":
        lost[ALPHA] = 1
    exif = picture.info.get("exif")
    if isinstance(exif, bytes) and format_ not in _TURNED_BY_PILLOW and orientation_in(exif) != 1:
        lost[ROTATION] = 1
    return lost


def frames_in(data: bytes, format_: str, picture: Image.Image | None = None) -> int:
    """How many frames or pages a file has, as far as Pillow finds them; at least 1.

    Args:
        picture: its first frame, if it is open and not yet loaded: most files show with it that they have one.
    """
    if format_ not in _FRAMED:
        return 1
    try:
        if picture is not None and format_ != "GIF":
            if format_ != "TIFF":
                return max(1, int(getattr(picture, "n_frames", 1)))
            if not picture.tag_v2.next:  # type: ignore[attr-defined]
                return 1
        with Image.open(BytesIO(data), formats=(format_,)) as whole:
            return max(1, int(getattr(whole, "n_frames", 1)))
    except (*RAISED_BY_PILLOW, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return 1


def looks_like_a_mask(picture: Image.Image, file_mode: str) -> bool:
    """Whether a picture is gray, has a palette, or has few colors."""
    return file_mode in _GRAY_OR_PALETTE or picture.getcolors(FEW_COLORS) is not None


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
