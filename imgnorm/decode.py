"""Encoded bytes -> the pixels that torchvision's default loader would hand over, or the reason why not.

The only module that knows decoders. Pillow's `Image.open(file).convert(mode)` is the reference; it
is fenced in on both sides. Before it: the format is decided by content from a short list, sizes are
checked before memory is taken, and damage that Pillow does not notice (it then invents pixels) is
looked for. After it: modes that `convert` would map to wrong values without a word are refused.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from typing import Literal

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError, features

from imgnorm.image import Mode
from imgnorm.reasons import Reason, Unreadable

RAISED_BY_PILLOW = (
    OSError,
    SyntaxError,  # its PNG reader's word for a broken file
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
"""What Pillow's plugins raise on hostile files, as found by replaying fuzzing corpora."""

_JPEG_PIXELS_PER_BYTE = 512  # a constant JPEG needs 1/256 byte a pixel; twice that to be sure
_DEFLATE_MAX_RATIO = 1032  # the most bytes that one byte of deflate can stand for
_TAIL = 64

_GRAY = {"1", "L", "LA", "La"}
_DEEP = {"I;16", "I;16B", "I;16L", "I;16N"}
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


@dataclass(frozen=True)
class Decoded:
    """One image's pixels."""

    picture: Image.Image  # in `mode`
    mode: Mode
    met: str  # Pillow's mode of the file itself
    format: str  # Pillow's name of the format, or "PIL" for an image that was never encoded


def decode(
    data: bytes,
    mode: Mode | Literal["auto"],
    *,
    max_pixels: int,
    reserve: Callable[[int], None],
) -> Decoded:
    """The image that `Image.open(...).convert(mode)` yields: first frame, no EXIF rotation.

    Mode "auto" keeps gray as L, 16-bit gray as I;16, and makes RGB of all else; alpha is dropped.

    Args:
        max_pixels: an image with more is refused before it is decoded.
        reserve: called with the bytes of memory that decoding will take, before it takes them; may
            wait, or raise Unreadable.

    Raises:
        Unreadable: the image cannot be counted, with the reason.
    """
    format_ = _format_of(data)
    zero_tail = format_ in _COMPRESSED and data[-_TAIL:].count(0) == _TAIL
    if zero_tail and format_ in _END_MARKS and not _padded(data, _END_MARKS[format_]):
        raise _zero_filled()
    with _opened(data, format_, max_pixels) as picture:
        _check_size(picture.size, max_pixels)
        _CHECKS.get(format_, _no_check)(picture, data)
        reserve(_memory_needed(picture, format_, _target(picture, mode)))
        _load(picture)
        if format_ == "PNG":
            _check_png_rows(picture, data)
        if zero_tail and format_ not in _END_MARKS and not _ends_in_zeros_by_itself(picture, data):
            raise _zero_filled()
        return _decoded(picture, mode, format_)


def decoded_picture(
    picture: Image.Image, mode: Mode | Literal["auto"], *, max_pixels: int
) -> Decoded:
    """The same for an image that somebody else has opened, under the same policy of modes."""
    _check_size(picture.size, max_pixels)
    _target(picture, mode)
    _load(picture)
    return _decoded(picture, mode, picture.format or "PIL")


# Each call into Pillow is fenced in by itself: a bug of ours must not pass for a broken image.


def _opened(data: bytes, format_: str, max_pixels: int) -> Image.Image:
    Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow's own guard, for sizes met while parsing
    try:
        return Image.open(BytesIO(data), formats=(format_,))
    except UnidentifiedImageError as error:  # its text holds a memory address
        raise Unreadable(Reason.CORRUPT, f"not a readable {format_} file") from error
    except Image.DecompressionBombError as error:
        raise Unreadable(Reason.TOO_LARGE, _too_large(error, max_pixels)) from error
    except RAISED_BY_PILLOW as error:
        raise _damaged(error) from error


def _load(picture: Image.Image) -> None:
    try:
        picture.load()
    except Image.DecompressionBombError as error:
        raise Unreadable(Reason.TOO_LARGE, _clause(error)) from error
    except RAISED_BY_PILLOW as error:
        raise _damaged(error) from error


def _decoded(picture: Image.Image, mode: Mode | Literal["auto"], format_: str) -> Decoded:
    _check_finite(picture)
    target = _target(
        picture, mode
    )  # after loading, which may change the mode, as for some GIF files
    return Decoded(_converted(picture, target), target, picture.mode, format_)


def _damaged(error: Exception) -> Unreadable:
    reason = Reason.TRUNCATED if "truncated" in str(error).lower() else Reason.CORRUPT
    return Unreadable(reason, _clause(error))


def decoder_of(format_: str) -> str:
    """The libraries that decoded this format, with versions: digits of lossy formats depend on them."""
    pillow = f"Pillow {PIL.__version__}"
    name, feature = _LIBRARIES.get(format_, ("", ""))
    version = features.version(feature) if feature else None
    return f"{pillow}, {name} {version}" if version else pillow


# ── formats, by content ──


_LIBRARIES = {
    "JPEG": ("libjpeg-turbo", "libjpeg_turbo"),
    "WEBP": ("libwebp", "webp"),
    "AVIF": ("libavif", "avif"),
    "JPEG2000": ("OpenJPEG", "jpg_2000"),
    "TIFF": ("libtiff", "libtiff"),
    "PIL": ("libjpeg-turbo", "libjpeg_turbo"),  # opened by others: JPEG, more often than not
}
_COMPRESSED = {"JPEG", "PNG", "GIF", "WEBP", "AVIF"}
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b"\0;"}
"""What stands at the end of a whole file of these formats."""
_PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
    "WEBP": "WebPImagePlugin",
    "AVIF": "AvifImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "QOI": "QoiImagePlugin",
}
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"qoif", "QOI"),
)
_FOREIGN = (
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "PDF"),
    (b"8BPS", "Photoshop"),
    (b"<svg", "SVG"),
    (b"\0\0\1\0", "Windows icon"),
    (b"\x01\xda", "SGI"),
    (b"SIMPLE  =", "FITS"),
    (b"DDS ", "DirectDraw"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"\x89HDF", "HDF5"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"PK\x03\x04", "zip archive"),
    (b"\x1f\x8b", "gzip"),
)
_loaded: set[str] = set()


def _format_of(data: bytes) -> str:
    """Pillow's name of the format, its plugin loaded."""
    format_ = _sniffed(data)
    if format_ not in _loaded:
        try:
            import_module(f"PIL.{_PLUGINS[format_]}")
        except ImportError as error:
            raise Unreadable(
                Reason.UNSUPPORTED_FORMAT, f"this Pillow reads no {format_}"
            ) from error
        if format_ not in Image.OPEN:
            raise Unreadable(Reason.UNSUPPORTED_FORMAT, f"this Pillow reads no {format_}")
        _loaded.add(format_)
    return format_


def _sniffed(data: bytes) -> str:
    if not data:
        raise Unreadable(Reason.EMPTY_FILE, "0 bytes")
    for signature, format_ in _SIGNATURES:
        if data.startswith(signature):
            return format_
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if data[:1] == b"P" and data[1:2] in b"123456fy" and data[2:3].isspace():
        return "PPM"
    if data.startswith(b"version https://git-lfs.github.com/spec/"):
        raise Unreadable(Reason.GIT_LFS_POINTER, "a Git LFS pointer; fetch it with `git lfs pull`")
    for signature, what in _FOREIGN:
        if data.startswith(signature):
            raise Unreadable(Reason.UNSUPPORTED_FORMAT, what)
    if data[4:8] == b"ftyp":
        raise Unreadable(Reason.UNSUPPORTED_FORMAT, f"ISO media, {data[8:12]!r}")
    if not any(data[:4096]):
        raise Unreadable(Reason.NOT_AN_IMAGE, "starts with zeros only")
    raise Unreadable(Reason.NOT_AN_IMAGE, f"starts with {data[:8]!r}")


# ── sizes and damage ──


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if not width or not height:
        raise Unreadable(Reason.ZERO_AREA, f"{width}x{height}")
    if width * height > max_pixels:
        raise Unreadable(
            Reason.TOO_LARGE,
            f"{width}x{height} is {width * height:,} pixels; the limit is {max_pixels:,}"
            " (--max-pixels)",
        )


def _too_large(error: Image.DecompressionBombError, max_pixels: int) -> str:
    """Pillow's words name twice the limit, and no option."""
    pixels = re.search(r"\d+", str(error))
    return f"{int(pixels[0]) if pixels else 0:,} pixels; the limit is {max_pixels:,} (--max-pixels)"


def _zero_filled() -> Unreadable:
    return Unreadable(Reason.ZERO_FILLED_TAIL, f"the last {_TAIL} bytes are all zero")


def _padded(data: bytes, end_mark: bytes) -> bool:
    """Whether the zeros stand behind the end of a whole image."""
    return data.rstrip(b"\0").endswith(end_mark)


def _is_lossless_webp(data: bytes) -> bool:
    position = 12
    while data[:4] == b"RIFF" and position + 8 <= len(data):
        if data[position : position + 4] == b"VP8L":
            return True
        (length,) = struct.unpack_from("<I", data, position + 4)
        position += 8 + length + length % 2
    return False


def _ends_in_zeros_by_itself(picture: Image.Image, data: bytes) -> bool:
    """Whether the last rows have one colour: the arithmetic coders of VP8 and AVIF write zeros then.

    A tail that was never written decodes to a smear of what stands above it instead. (Lossless
    WebP has no such coder: rows of one colour are not zeros there, and a missing tail may be one.)
    """
    if _is_lossless_webp(data):
        return False
    rows = picture.crop((0, max(0, picture.height - 16), picture.width, picture.height))
    return rows.getcolors(maxcolors=1) is not None


def _no_check(picture: Image.Image, data: bytes) -> None:
    pass


def _check_jpeg(picture: Image.Image, data: bytes) -> None:
    pixels = picture.width * picture.height
    if len(data) * _JPEG_PIXELS_PER_BYTE < pixels:
        raise Unreadable(Reason.TRUNCATED, f"{len(data):,} bytes cannot hold {pixels:,} pixels")


def _check_png(picture: Image.Image, data: bytes) -> None:
    """What Pillow does not look at: the checksums of the image data, the end, the palette."""
    header = _png_header(data)
    if header.raw_bytes() > len(data) * _DEFLATE_MAX_RATIO:
        raise Unreadable(
            Reason.TRUNCATED,
            f"{len(data):,} bytes cannot hold {header.raw_bytes():,} bytes of pixels",
        )
    has_palette = False
    for kind, body, checksum in _png_chunks(data):
        # Ancillary chunks (lower case) do not touch the pixels; tRNS decides how P becomes RGB.
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
    """Rows that are missing come out of Pillow as black: if the last one is, count the bytes."""
    header = _png_header(data)
    last_row = picture.crop((0, picture.height - 1, picture.width, picture.height))
    # The last bytes of an interlaced image are its odd rows, and the last row may be an even one.
    if not header.interlaced and last_row.tobytes().strip(b"\0"):
        return
    wanted = header.raw_bytes()
    try:
        inflated = _inflated_bytes(data, wanted)
    except zlib.error as error:
        raise _damaged(error) from error
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
    if inflated < enough:  # else flush() would inflate all that follows, without a limit
        inflated += len(inflate.flush())
    return inflated


def _check_jpeg2000(picture: Image.Image, data: bytes) -> None:
    """Data cut off right after the header come out of OpenJPEG as one flat colour."""
    start = data.find(b"\xff\x4f\xff\x51")  # SOC; no packet holds the two bytes of EOC
    if data.find(b"\xff\xd9", start) < 0:
        raise Unreadable(Reason.TRUNCATED, "the file ends before its last marker")


_CHECKS: dict[str, Callable[[Image.Image, bytes], None]] = {
    "JPEG": _check_jpeg,
    "PNG": _check_png,
    "JPEG2000": _check_jpeg2000,
}


# ── modes ──


def _target(picture: Image.Image, mode: Mode | Literal["auto"]) -> Mode:
    """The mode to convert to, or a refusal where the conversion would be silently wrong."""
    met = picture.mode
    samples, bits = _tiff_layout(picture)
    if samples > len(picture.getbands()):
        raise Unreadable(Reason.UNSUPPORTED_MODE, f"{samples} channels, of which {met} shows fewer")
    if met in _DEEP:
        if bits not in (0, 16):
            raise Unreadable(Reason.UNSUPPORTED_MODE, f"{bits}-bit grayscale")
        if mode in ("auto", "I;16"):
            return "I;16"
        raise Unreadable(
            Reason.UNSUPPORTED_MODE,
            f"16-bit grayscale, which convert({mode!r}) would clip; measure it with --mode 'I;16'",
        )
    if met == "F":
        return "L"  # refused after loading, when it is known whether its values are finite
    if met not in _EIGHT_BIT:
        raise Unreadable(Reason.UNSUPPORTED_MODE, f"mode {met}")
    if mode == "I;16":
        raise Unreadable(Reason.UNSUPPORTED_MODE, f"mode {met}, not 16-bit grayscale")
    if mode == "auto":
        return "L" if met in _GRAY else "RGB"
    return mode


def _tiff_layout(picture: Image.Image) -> tuple[int, int]:
    """Samples a pixel and bits a sample of a TIFF; 0 for other formats."""
    tags = getattr(picture, "tag_v2", None)
    if picture.format != "TIFF" or tags is None:
        return 0, 0
    try:  # Pillow parses a tag when it is asked for
        bits = tags.get(258, (1,))
        return int(tags.get(277, 1)), int(bits[0] if isinstance(bits, tuple) else bits)
    except RAISED_BY_PILLOW as error:
        raise _damaged(error) from error


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
        raise _damaged(error) from error


def _memory_needed(picture: Image.Image, format_: str, target: Mode) -> int:
    """A generous estimate, in bytes: Pillow keeps 1, 2 or 4 bytes a pixel, decoders their own copy."""
    per_pixel = _stored_bytes(picture.mode) + _stored_bytes(target) * (picture.mode != target)
    if format_ in _COMPRESSED:
        per_pixel += 6  # the coefficients of a progressive JPEG: 3 x int16
    return picture.width * picture.height * per_pixel


def _stored_bytes(mode: str) -> int:
    if mode in ("1", "L", "P"):
        return 1
    return 2 if mode in _DEEP else 4


def _clause(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
