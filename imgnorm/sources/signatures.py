"""The format of a file, by its first bytes and from a short list; the extension means nothing."""

from __future__ import annotations

from imgnorm.tally.skipped import Reason, Unreadable

START_BYTES = 4096
"""As many bytes of a file as matter here."""

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


def format_by_signature(data: bytes) -> str:
    """Pillow's name of the format of a file that begins like this.

    Raises:
        Unreadable: it is not an image, or not of a format that is decoded.
    """
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
    if not any(data[:START_BYTES]):
        raise Unreadable(Reason.NOT_AN_IMAGE, "starts with zeros only")
    raise Unreadable(Reason.NOT_AN_IMAGE, f"starts with {data[:8]!r}")
