"""The format of a file, by its first bytes and from a short list; the suffix means nothing.

Also the libraries behind Pillow that decode each format, with their versions.
"""

from __future__ import annotations

from importlib import import_module

import PIL
from PIL import Image, features

from imgnorm.tally.skipped import Reason, Unreadable

_LIBRARIES = {
    "JPEG": ("libjpeg-turbo", "libjpeg_turbo"),
    "WEBP": ("libwebp", "webp"),
    "AVIF": ("libavif", "avif"),
    "JPEG2000": ("OpenJPEG", "jpg_2000"),
    "TIFF": ("libtiff", "libtiff"),
    "PIL": ("libjpeg-turbo", "libjpeg_turbo"),  # opened by the caller: most often JPEG
}
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
_loaded: set[str] = set()  # formats whose plugin is imported


def format_of(data: bytes) -> str:
    """Pillow's name of a file's format. Its plugin is loaded.

    Raises:
        Unreadable: it is not an image, or not of a format that Pillow decodes here.
    """
    format_ = _sniffed(data)
    if format_ not in _loaded:
        try:
            import_module(f"PIL.{_PLUGINS[format_]}")
        except ImportError as error:
            raise _unsupported(format_) from error
        if format_ not in Image.OPEN:
            raise _unsupported(format_)
        _loaded.add(format_)
    return format_


def decoder_of(format_: str) -> str:
    """The libraries that decode this format, with versions: the digits of lossy formats depend on them."""
    pillow = f"Pillow {PIL.__version__}"
    name, feature = _LIBRARIES.get(format_, ("", ""))
    version = features.version(feature) if feature else None
    return f"{pillow}, {name} {version}" if version else pillow


def _unsupported(format_: str) -> Unreadable:
    return Unreadable(Reason.UNSUPPORTED_FORMAT, f"this Pillow cannot read {format_}")


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
