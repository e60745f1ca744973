"""The format of a file, by its first bytes and from a short list; the extension means nothing.

Also the libraries behind Pillow that decode each format, with their versions.
"""

from __future__ import annotations

from importlib import import_module

import PIL
from PIL import Image, features

from imgnorm.sources.signatures import format_by_signature
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
_loaded: set[str] = set()  # formats whose plugin is imported


def format_of(data: bytes) -> str:
    """Pillow's name of a file's format. Its plugin is loaded.

    Raises:
        Unreadable: it is not an image, or not of a format that Pillow decodes here.
    """
    format_ = format_by_signature(data)
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
