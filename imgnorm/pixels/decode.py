"""Encoded bytes -> the pixels that torchvision's default loader returns, or the reason why not.

The reference is Pillow's `Image.open(file).convert(mode)`, with checks around it. Before: the format
is decided by content, the size is checked before memory is taken, and damage that Pillow does not
notice is looked for. After: modes for which `convert` would silently give wrong values are refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from types import ModuleType
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from imgnorm.pixels.damage import (
    COMPRESSED,
    RAISED_BY_PILLOW,
    above_limit,
    check_bytes,
    check_header,
    check_pixels,
    check_size,
    damaged,
)
from imgnorm.pixels.formats import format_of
from imgnorm.pixels.jpeg import Frame, JpegDecoder, Pixels, check_data, whole_frame
from imgnorm.pixels.losses import frames_in, losses_of
from imgnorm.settings import Mode, channels_of
from imgnorm.tally.notes import FRAMES, FURTHER_FRAMES, ROTATION
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.wording import clause, plural

_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What Pillow raises for large images: the second one where the user has turned warnings into errors."""
_GRAY = {"1", "L", "LA", "La"}
_DEEP = {"I;16", "I;16B", "I;16L", "I;16N"}
_ROTATED = {ROTATION: 1}
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


class Decoded(NamedTuple):  # made faster than a dataclass, once for each image
    """One image's pixels."""

    content: Image.Image | Pixels  # in `mode`; Pixels are valid until the next image is decoded
    mode: Mode
    file_mode: str  # Pillow's mode of the file itself
    format: str  # Pillow's name of the format, or "PIL" for an image that was never encoded
    lost: Mapping[str, int] | None = None  # what only the file has, by kind: tally/notes.py
    size: tuple[int, int] | None = None  # width and height before preprocessing; None: as they are

    @property
    def picture(self) -> Image.Image:
        """The content as a picture in `mode`."""
        if isinstance(self.content, Image.Image):
            return self.content
        return _picture(self.content)


def prepare_process(max_pixels: int) -> None:
    """Set Pillow's limit and the filter of warnings, which are global: only in a process of our own.

    Pillow's limit also covers sizes that it finds while it parses; its warnings are about metadata and
    palettes. In the user's process both stay as the user has set them.
    """
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("ignore")


def decode(
    data: bytes,
    mode: Mode | Literal["auto"],
    *,
    max_pixels: int,
    reserve: Callable[[int], None],
    jpeg: JpegDecoder | None = None,
) -> Decoded:
    """The image that `Image.open(...).convert(mode)` gives: first frame, no EXIF rotation.

    Mode "auto" keeps gray as L and 16-bit gray as I;16, and converts all else to RGB, without alpha.

    Args:
        max_pixels: an image with more is refused before it is decoded.
        reserve: called with the bytes of memory that decoding will take, before it takes them; may
            wait, or raise Unreadable.
        jpeg: decodes ordinary JPEGs instead of Pillow, to the same pixels.

    Raises:
        Unreadable: the image cannot be counted, with the reason.
    """
    format_ = format_of(data)
    check_bytes(data, format_)
    if jpeg and format_ == "JPEG":
        image = _decoded_by(jpeg, data, mode, max_pixels, reserve)
        if image:
            return image
    with _opened(data, format_, max_pixels) as picture:
        check_size(picture.size, max_pixels)
        check_header(picture.size, data, format_)
        frames = frames_in(data, format_, picture)
        reserve(_memory_needed(picture.size, picture.mode, _target(picture, mode), format_))
        _load(picture, data)
        check_pixels(picture, data, format_)
        decoded = _decoded(picture, mode, format_, data)
        further = frames.whole - 1 + frames.missing
        if further:
            lost = {**(decoded.lost or {}), FRAMES: 1, FURTHER_FRAMES: further}
            decoded = decoded._replace(lost=lost)
        return decoded


class FramesOfFile:
    """The frames of one file, best read in their order: most formats make each from the one before it."""

    def __init__(self, data: bytes, max_pixels: int) -> None:
        """
        Raises:
            Unreadable: it cannot be opened.
        """
        self.data = data
        self.format = format_of(data)
        self._max_pixels = max_pixels
        check_bytes(data, self.format)
        self._picture = _opened(data, self.format, max_pixels)

    def size(self, frame: int) -> tuple[int, int]:
        """Its width and height, by its header.

        Raises:
            Unreadable: it cannot be found.
        """
        _seek(self._picture, frame)
        return self._picture.size

    def decode(
        self, frame: int, mode: Mode | Literal["auto"], *, reserve: Callable[[int], None]
    ) -> Decoded:
        """As the function `decode`, for a frame that is not the first.

        Raises:
            Unreadable: the frame cannot be counted, with the reason. Then open the file again.
        """
        picture = self._picture
        _seek(picture, frame)
        check_size(picture.size, self._max_pixels)
        target = _target(picture, mode)
        reserve(_memory_needed(picture.size, picture.mode, target, self.format))
        _load(picture, self.data)
        return _decoded(picture, mode, self.format, self.data)


def frame_to_leave(
    data: bytes, mode: Mode | Literal["auto"], *, max_pixels: int
) -> tuple[Frame, Mode] | None:
    """What a JPEG holds that a device may decode, and the mode that `decode` would give.

    None if this process must decode it: to find damage, or to convert its colors.
    """
    if not data.startswith(b"\xff\xd8\xff") or mode not in ("auto", "RGB"):
        return None
    frame = whole_frame(data)
    if frame is None or frame.width * frame.height > max_pixels:
        return None
    check_header((frame.width, frame.height), data, "JPEG")
    return frame, "L" if frame.gray and mode == "auto" else "RGB"


def decoded_picture(
    picture: Image.Image, mode: Mode | Literal["auto"], *, max_pixels: int
) -> Decoded:
    """What `decode` gives, of an image that the caller has opened; the same modes are refused."""
    check_size(picture.size, max_pixels)
    _target(picture, mode)
    _load(picture)
    return _decoded(picture, mode, picture.format or "PIL")


def demand_channels(image: Decoded) -> None:
    """
    Raises:
        Unreadable: the file does not have the channels of the mode that it was converted to.
    """
    # A palette is a way to store colors; its one band is not a channel.
    found = {"P": 3, "PA": 4}.get(image.file_mode) or Image.getmodebands(image.file_mode)
    wanted = len(channels_of(image.mode))
    if found != wanted:
        raise Unreadable(
            Reason.CHANNEL_MISMATCH,
            f"{plural(found, 'channel')} ({image.file_mode}), not the {wanted} of mode {image.mode}",
        )


def _decoded_by(
    jpeg: JpegDecoder,
    data: bytes,
    mode: Mode | Literal["auto"],
    max_pixels: int,
    reserve: Callable[[int], None],
) -> Decoded | None:
    """The image, if it is an ordinary file; None for all others, which Pillow decodes or refuses."""
    frame = jpeg.frame(data)
    if frame is None or frame.width * frame.height > max_pixels or mode == "I;16":
        return None
    check_header((frame.width, frame.height), data, "JPEG")
    file_mode: Mode = "L" if frame.gray else "RGB"
    target = file_mode if mode == "auto" else mode
    reserve(_memory_needed((frame.width, frame.height), file_mode, target, "JPEG"))
    pixels = jpeg.pixels(data, frame, gray=frame.gray and target == "L")
    if pixels is None:
        return None
    lost = _ROTATED if frame.rotated else None
    if target in (file_mode, "RGB"):
        return Decoded(pixels, target, file_mode, "JPEG", lost)
    return Decoded(_converted(_picture(pixels), target), target, file_mode, "JPEG", lost)


def _picture(pixels: Pixels) -> Image.Image:
    height, width, bytes_a_pixel = pixels.shape
    mode, raw = ("L", "L") if bytes_a_pixel == 1 else ("RGB", "RGBX")
    return Image.frombytes(mode, (width, height), pixels, "raw", raw)


# Each call into Pillow has a `try` of its own, so that a bug of ours is not taken for a broken image.


def _opened(data: bytes, format_: str, max_pixels: int) -> Image.Image:
    try:
        return Image.open(BytesIO(data), formats=(format_,))
    except UnidentifiedImageError as error:  # its text has a memory address
        unreadable = _tiff().unsupported(data) if format_ == "TIFF" else None
        raise unreadable or Unreadable(Reason.CORRUPT, f"not a readable {format_} file") from error
    except _BOMBS as error:
        raise Unreadable(Reason.TOO_LARGE, _too_large(error, max_pixels)) from error
    except RAISED_BY_PILLOW as error:
        raise damaged(error) from error


def _seek(picture: Image.Image, frame: int) -> None:
    try:
        picture.seek(frame)
    except _BOMBS as error:
        raise Unreadable(Reason.TOO_LARGE, clause(error)) from error
    except RAISED_BY_PILLOW as error:
        raise damaged(error) from error


def _load(picture: Image.Image, data: bytes = b"") -> None:
    """
    Args:
        data: its file, if it comes from one here.
    """
    try:
        if data and picture.format == "TIFF":
            _tiff().load_checked(picture, data)
        else:
            picture.load()
    except _BOMBS as error:
        raise Unreadable(Reason.TOO_LARGE, clause(error)) from error
    except RAISED_BY_PILLOW as error:
        raise damaged(error) from error
    if data and picture.format in ("JPEG", "MPO"):
        check_data(data[getattr(picture, "offset", 0) :])  # of the frame of an MPO


def _tiff() -> ModuleType:
    from imgnorm.pixels import tiff  # not above: Pillow's plugin takes long to import

    return tiff


def _decoded(
    picture: Image.Image, mode: Mode | Literal["auto"], format_: str, data: bytes = b""
) -> Decoded:
    """
    Args:
        data: its file, if it comes from one here.
    """
    _check_finite(picture)
    target = _target(picture, mode)  # again: loading may change the mode, as with some GIF files
    lost = losses_of(picture, target, data, format_) if data else None
    return Decoded(_converted(picture, target), target, picture.mode, format_, lost)


def _too_large(error: Exception, max_pixels: int) -> str:
    """In our words: Pillow's message gives twice the limit as the limit, and does not name the option."""
    pixels = re.search(r"\d+", str(error))
    return above_limit(int(pixels[0]) if pixels else 0, max_pixels)


def _target(picture: Image.Image, mode: Mode | Literal["auto"]) -> Mode:
    """The mode to convert to.

    Raises:
        Unreadable: the conversion would silently give wrong values.
    """
    file_mode = picture.mode
    samples, bits = _tiff_layout(picture)
    extra = samples - len(picture.getbands())
    if extra > 0:
        raise Unreadable(
            Reason.UNSUPPORTED_MODE, f"{samples} channels; {file_mode} would drop {extra}"
        )
    if file_mode in _DEEP:
        if bits not in (0, 16):
            raise Unreadable(Reason.UNSUPPORTED_MODE, f"{bits}-bit grayscale")
        if mode in ("auto", "I;16"):
            return "I;16"
        raise Unreadable(
            Reason.UNSUPPORTED_MODE,
            f"16-bit grayscale, which convert({mode!r}) would clip; measure it with --mode 'I;16'",
        )
    if file_mode == "F":
        return "L"  # refused after loading, when we know whether its values are finite
    if file_mode not in _EIGHT_BIT:
        raise Unreadable(Reason.UNSUPPORTED_MODE, f"mode {file_mode}")
    if mode == "I;16":
        raise Unreadable(Reason.UNSUPPORTED_MODE, f"mode {file_mode}, not 16-bit grayscale")
    if mode == "auto":
        return "L" if file_mode in _GRAY else "RGB"
    return mode


def _tiff_layout(picture: Image.Image) -> tuple[int, int]:
    """Samples a pixel and bits a sample of a TIFF (its tags 277 and 258); 0 for other formats."""
    tags = getattr(picture, "tag_v2", None)
    if picture.format != "TIFF" or tags is None:
        return 0, 0
    try:  # Pillow parses a tag when it is read
        bits = tags.get(258, (1,))
        return int(tags.get(277, 1)), int(bits[0] if isinstance(bits, tuple) else bits)
    except RAISED_BY_PILLOW as error:
        raise damaged(error) from error


def _check_finite(picture: Image.Image) -> None:
    if picture.mode != "F":
        return
    pixels = np.asarray(picture)
    bad = pixels.size - int(np.isfinite(pixels).sum())
    if bad:
        raise Unreadable(
            Reason.NONFINITE_PIXELS, f"{bad:,} of {pixels.size:,} pixels are NaN or Inf"
        )
    raise Unreadable(Reason.UNSUPPORTED_MODE, "mode F: float pixels have no declared range")


def _converted(picture: Image.Image, target: Mode) -> Image.Image:
    if picture.mode == target:
        return picture  # convert() would copy
    if target == "I;16":
        # Pillow's convert() and resize() mix up the bytes of I;16B; NumPy does not.
        return Image.fromarray(np.asarray(picture).astype("<u2"))
    try:
        return picture.convert(target)
    except RAISED_BY_PILLOW as error:
        raise damaged(error) from error


def _memory_needed(size: tuple[int, int], file_mode: str, target: Mode, format_: str) -> int:
    """A generous estimate, in bytes: Pillow keeps 1, 2 or 4 bytes a pixel, decoders their own copy."""
    per_pixel = _stored_bytes(file_mode) + _stored_bytes(target) * (file_mode != target)
    if format_ in COMPRESSED:
        per_pixel += 6  # the coefficients of a progressive JPEG: 3 x int16
    return size[0] * size[1] * per_pixel


def _stored_bytes(mode: str) -> int:
    if mode in ("1", "L", "P"):
        return 1
    return 2 if mode in _DEEP else 4
