"""The format of a file is that of its first bytes; a format that cannot be decoded is named."""

from __future__ import annotations

import subprocess

import PIL
import pytest
from pictures import FORMATS, encoded, refusal
from PIL import Image, features

from imgnorm.pixels import formats as formats_module
from imgnorm.pixels.formats import decoder_of

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's own, as in count()


def test_a_decoder_is_named_with_its_version():
    pillow = f"Pillow {PIL.__version__}"

    assert pillow == decoder_of("PNG")
    assert f"{pillow}, libjpeg-turbo {features.version('libjpeg_turbo')}" == decoder_of("JPEG")


def test_an_empty_file_is_told():
    assert "empty-file: 0 bytes" == refusal(b"")


def test_a_git_lfs_pointer_is_told():
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"

    assert "git-lfs-pointer: a Git LFS pointer; fetch it with `git lfs pull`" == refusal(pointer)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"hello, world", "starts with b'hello, w'"),
        (b"<!DOCTYPE html><html>404", "starts with b'<!DOCTYP'"),
        (b"\0", "starts with zeros only"),
        (bytes(10_000), "starts with zeros only"),
        (b"\x89PNG\r\n\x1a", r"starts with b'\x89PNG\r\n\x1a'"),
        (b"\xff\xd8", r"starts with b'\xff\xd8'"),
        (b"P7 2 2", "starts with b'P7 2 2'"),
        (b"RIFF\0\0\0\0WAVEfmt ", r"starts with b'RIFF\x00\x00\x00\x00'"),
    ],
)
def test_what_is_no_image_is_told_by_its_first_bytes(data, detail):
    assert f"not-an-image: {detail}" == refusal(data)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6\x1e\0\0\0", "PostScript"),
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"<svg xmlns=", "SVG"),
        (b"\0\0\1\0\1\0", "Windows icon"),
        (b"\x01\xda\1\1", "SGI"),
        (b"SIMPLE  =   T", "FITS"),
        (b"DDS |\0\0\0", "DirectDraw"),
        (b"\x76\x2f\x31\x01", "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance HDR"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x93NUMPY\1\0", "NumPy array"),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"PK\x03\x04", "zip archive"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "ISO media, b'heic'"),
    ],
)
def test_formats_that_are_not_decoded_are_named(start, what):
    assert f"unsupported-format: {what}" == refusal(start + bytes(100))


def test_ghostscript_is_never_started(monkeypatch):
    """Pillow runs `gs` on PostScript, whatever the file is called."""
    started: list[object] = []
    for name in ("Popen", "run", "check_call", "check_output", "call"):
        monkeypatch.setattr(subprocess, name, lambda *args, **kwargs: started.append(args))
    eps = encoded(Image.new("RGB", (8, 8)), "EPS")

    assert ("unsupported-format: PostScript", []) == (refusal(eps), started)


def test_a_format_that_this_pillow_lacks_is_unsupported(monkeypatch):
    data = FORMATS["webp-RGB"]
    monkeypatch.setattr(formats_module, "_loaded", set())
    monkeypatch.delitem(Image.OPEN, "WEBP")

    assert "unsupported-format: this Pillow cannot read WEBP" == refusal(data)


def test_a_plugin_that_cannot_be_imported_is_unsupported(monkeypatch):
    monkeypatch.setattr(formats_module, "_loaded", set())
    monkeypatch.setattr(formats_module, "_PLUGINS", {"WEBP": "NoSuchImagePlugin"})

    assert "unsupported-format: this Pillow cannot read WEBP" == refusal(FORMATS["webp-RGB"])
