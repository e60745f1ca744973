"""Promise 1, pixel for pixel, and promise 4, reason by reason.

The reference is torchvision's own `default_loader`, never `imgnorm`. TIFF and PNG files that Pillow
cannot write are put together here byte by byte.
"""

from __future__ import annotations

import io
import itertools
import random
import re
import struct
import subprocess
import tracemalloc
import zlib

import numpy as np
import PIL
import pytest
from PIL import Image, features
from torchvision.datasets.folder import default_loader

from imgnorm import decode as decode_module
from imgnorm.decode import Decoded, decode, decoded_picture, decoder_of
from imgnorm.reasons import Reason, Unreadable

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's own, as in count()

LIMIT = 10**8
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
ADAM7 += ((0, 1, 1, 2),)  # x, y, dx, dy of each pass


def decoded(data: bytes, mode: str = "RGB", max_pixels: int = LIMIT) -> Decoded:
    return decode(data, mode, max_pixels=max_pixels, reserve=lambda size: None)


def pixels_of(data: bytes, mode: str = "RGB") -> list:
    return np.asarray(decoded(data, mode).picture).tolist()


def refusal(data: bytes, mode: str = "RGB", max_pixels: int = LIMIT) -> str:
    with pytest.raises(Unreadable) as caught:
        decoded(data, mode, max_pixels)
    return str(caught.value)


# Files, made here


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> np.ndarray:
    """Half noise, half flat, so that every format has something to compress."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    pixels[: height // 2] //= 64
    return pixels[:, :, 0] if channels == 1 else pixels


def picture(mode: str, height: int = 23, width: int = 37) -> Image.Image:
    rgb = Image.fromarray(noise(height, width))
    if mode in ("RGBA", "LA"):
        rgb.putalpha(Image.fromarray(noise(height, width, 1, seed=1)))
        return rgb.convert(mode)
    return rgb.quantize(16) if mode == "P" else rgb.convert(mode)


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.copy().save(file, format_, **options)  # save() leaves one format's options in the image
    return file.getvalue()


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, bits: int, color_type: int, interlaced: bool, *chunks) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks)


def scanlines(pixels: np.ndarray, bits: int, interlaced: bool) -> bytes:
    """Unfiltered rows, of all passes, of samples as (height, width, samples a pixel)."""
    rows = b""
    for x, y, dx, dy in ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = pixels[y::dy, x::dx]
        if not part.size:
            continue
        for row in part.reshape(len(part), -1):
            wide = row.astype(">u2").tobytes() if bits == 16 else packed(row.tolist(), bits)
            rows += b"\0" + wide
    return rows


def packed(samples: list[int], bits: int) -> bytes:
    text = "".join(f"{sample:0{bits}b}" for sample in samples)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def png(
    pixels: np.ndarray,
    bits: int = 8,
    color_type: int = 0,
    *,
    interlaced: bool = False,
    before: tuple[bytes, ...] = (),
    missing: int = 0,
) -> bytes:
    """A PNG whose image data are a whole zlib stream, of all rows but the last `missing` bytes."""
    rows = scanlines(pixels, bits, interlaced)
    data = zlib.compress(rows[: len(rows) - missing])
    height, width = pixels.shape[:2]
    return png_of(
        width, height, bits, color_type, interlaced, *before, chunk(b"IDAT", data), chunk(b"IEND")
    )


def tiff(
    pixels: bytes,
    width: int,
    height: int,
    bits: tuple[int, ...],
    *,
    photometric: int = 1,
    extra: tuple[int, ...] = (),
    sample_format: int = 1,
    order: str = "<",
) -> bytes:
    """An uncompressed TIFF of one strip."""
    shorts = {258: bits, 259: (1,), 262: (photometric,), 277: (len(bits),)}
    shorts |= {338: extra} if extra else {}
    shorts[339] = (sample_format,) * len(bits)
    longs = {256: (width,), 257: (height,), 278: (height,), 279: (len(pixels),)}
    start = 8 + 2 + 12 * (len(shorts) + len(longs) + 1) + 4
    beyond = b""
    longs[273] = (start + sum(2 * len(v) for v in shorts.values() if len(v) > 2),)
    entries = b""
    for tag, values in sorted((shorts | longs).items()):
        kind, code = ("H", 3) if tag in shorts else ("I", 4)
        value = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(value) > 4:
            value, beyond = struct.pack(f"{order}I", start + len(beyond)), beyond + value
        entries += struct.pack(f"{order}HHI", tag, code, len(values)) + value.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    count = struct.pack(f"{order}H", len(shorts) + len(longs))
    return head + count + entries + bytes(4) + beyond + pixels


def formats() -> dict[str, bytes]:
    """Every 8-bit mode in every format that this Pillow can write, and then some."""
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    other = Image.fromarray(noise(23, 37, seed=9))
    rgb = picture("RGB")
    made: dict[str, bytes] = {
        "jpeg-exif-rotated": encoded(rgb, "JPEG", exif=exif),
        "jpeg-icc": encoded(rgb, "JPEG", icc_profile=b"\0" * 128),
        "jpeg-rgb": encoded(rgb, "JPEG", keep_rgb=True),
        "mpo": encoded(rgb, "MPO", save_all=True, append_images=[other.copy()]),
        "gif-frames": encoded(
            picture("P"), "GIF", save_all=True, append_images=[other.quantize(8)], disposal=2
        ),
        "gif-transparent": encoded(picture("P"), "GIF", transparency=3),
        "gif-rows-in-order": encoded(picture("P"), "GIF", interlace=0),
        "png-p-alpha": encoded(picture("P"), "PNG", transparency=bytes(range(0, 160, 10))),
        "png-rgb-transparent": encoded(rgb, "PNG", transparency=(1, 2, 3)),
        "png-exif-rotated": encoded(rgb, "PNG", exif=exif),
        "apng": encoded(rgb, "PNG", save_all=True, append_images=[other.copy()]),
        "png-1-interlaced": png(noise(9, 11, 1)[:, :, None] & 1, 1, interlaced=True),
        "png-2-interlaced": png(noise(9, 11, 1)[:, :, None] & 3, 2, interlaced=True),
        "png-4": png(noise(9, 11, 1)[:, :, None] & 15, 4),
        "png-l-interlaced": png(noise(9, 11, 1)[:, :, None], interlaced=True),
        "png-rgb-interlaced": png(noise(23, 37), 8, 2, interlaced=True),
        "png-rgba-interlaced": png(noise(23, 37, 4), 8, 6, interlaced=True),
        "png-p-interlaced": png(
            noise(9, 11, 1)[:, :, None] & 3,
            2,
            3,
            interlaced=True,
            before=(chunk(b"PLTE", bytes(range(12))),),
        ),
        "png-rgb-16-bit": png(noise(9, 11).astype(np.uint16) * 257 + 90, 16, 2),
        "png-rgba-16-bit": png(noise(9, 11, 4).astype(np.uint16) * 257 + 90, 16, 6),
        "png-la-16-bit": png(noise(9, 11, 2).astype(np.uint16) * 257 + 90, 16, 4),
        "tiff-frames": encoded(rgb, "TIFF", save_all=True, append_images=[other.copy()]),
        "tiff-big-endian": tiff(
            noise(23, 37).tobytes(), 37, 23, (8, 8, 8), photometric=2, order=">"
        ),
        "tiff-white-is-zero": tiff(noise(23, 37, 1).tobytes(), 37, 23, (8,), photometric=0),
        "tiff-4-bit": tiff(noise(4, 6, 1).tobytes(), 12, 4, (4,)),
        "tiff-rgb-16-bit": tiff(noise(6, 12).tobytes(), 6, 6, (16, 16, 16), photometric=2),
        "tiff-bigtiff": encoded(rgb, "TIFF", big_tiff=True),
        "tiff-exif-rotated": encoded(rgb, "TIFF", exif=exif),
        "webp-lossless": encoded(rgb, "WEBP", lossless=True),
        "webp-frames": encoded(rgb, "WEBP", save_all=True, append_images=[other.copy()]),
        "ppm-text": b"P3 2 2 255 0 1 2 3 4 5 250 251 252 253 255 4\n",
        "pgm-text": b"P2 # a comment\n3 1 255 0 128 255\n",
        "pbm-text": b"P1 3 2 010 101\n",
        "pgm-15-levels": b"P5 3 1 15 " + bytes([0, 7, 15]),
        "ppm-16-bit": b"P6 2 2 65535 " + noise(2, 12, 1).tobytes(),
    }
    for mode in ("L", "RGB", "CMYK"):
        for quality, progressive in ((30, False), (95, False), (75, True)):
            name = f"jpeg-{mode}-{quality}{'-progressive' * progressive}"
            made[name] = encoded(picture(mode), "JPEG", quality=quality, progressive=progressive)
    for name in ("4:4:4", "4:2:2", "4:2:0"):
        made[f"jpeg-{name}"] = encoded(rgb, "JPEG", subsampling=name)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        made[f"png-{mode}"] = encoded(picture(mode), "PNG")
        made[f"tiff-{mode}"] = encoded(picture(mode), "TIFF")
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        made[f"gif-{mode}"] = encoded(picture(mode), "GIF")
        made[f"bmp-{mode}"] = encoded(picture(mode), "BMP")
    for mode in ("1", "L", "RGB"):
        made[f"ppm-{mode}"] = encoded(picture(mode), "PPM")
    for mode in ("CMYK", "YCbCr"):
        made[f"tiff-{mode}"] = encoded(picture(mode), "TIFF")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"):
        for mode in ("1", "L", "P", "RGB", "RGBA"):
            made[f"tiff-{compression}-{mode}"] = encoded(
                picture(mode), "TIFF", compression=compression
            )
    for compression in ("group3", "group4"):
        made[f"tiff-{compression}"] = encoded(picture("1"), "TIFF", compression=compression)
    for mode in ("L", "RGB"):
        made[f"tiff-jpeg-{mode}"] = encoded(picture(mode), "TIFF", compression="jpeg")
    for mode in ("RGB", "RGBA"):
        made[f"webp-{mode}"] = encoded(picture(mode), "WEBP")
        if features.check("avif"):
            made[f"avif-{mode}"] = encoded(picture(mode), "AVIF")
    if features.check("jpg_2000"):
        for mode in ("L", "LA", "RGB", "RGBA"):
            made[f"jpeg2000-{mode}"] = encoded(picture(mode), "JPEG2000")
        made["jpeg2000-lossy"] = encoded(
            picture("RGB"), "JPEG2000", irreversible=True, quality_layers=[20]
        )
        made["jpeg2000-bare"] = encoded(rgb, "JPEG2000", no_jp2=True)
    if "QOI" in Image.SAVE:
        made |= {f"qoi-{mode}": encoded(picture(mode), "QOI") for mode in ("RGB", "RGBA")}
    for format_, size in itertools.product(
        ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"), ((1, 1), (1, 5), (8, 1), (16, 16))
    ):
        made[f"{format_.lower()}-{size[1]}x{size[0]}"] = encoded(picture("RGB", *size), format_)
    return made


FORMATS = formats()


# Promise 1: what your loader sees


@pytest.mark.parametrize("data", FORMATS.values(), ids=FORMATS)
def test_pixels_are_those_of_torchvision_s_loader(data, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(data)
    theirs = default_loader(path)

    ours = decoded(data)

    assert ("RGB", theirs.size, theirs.tobytes()) == (
        ours.picture.mode,
        ours.picture.size,
        ours.picture.tobytes(),
    )


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_another_mode_is_pillow_s_convert_to_it(mode):
    for name, data in FORMATS.items():
        with Image.open(io.BytesIO(data)) as opened:
            expected = opened.convert(mode)

        assert expected.tobytes() == decoded(data, mode).picture.tobytes(), name


def test_mode_auto_keeps_gray_and_makes_rgb_of_all_else():
    for name, data in FORMATS.items():
        with Image.open(io.BytesIO(data)) as opened:
            mode = "L" if opened.mode in ("1", "L", "LA") else "RGB"
            expected = mode, opened.mode, opened.convert(mode).tobytes()
        image = decoded(data, "auto")

        assert expected == (image.mode, image.met, image.picture.tobytes()), name


def test_the_suffix_means_nothing_and_the_format_is_that_of_the_content():
    kinds = {"jpeg2000": "JPEG2000", "mpo": "JPEG", "apng": "PNG", "pgm": "PPM", "pbm": "PPM"}
    for name, data in FORMATS.items():
        kind = name.partition("-")[0]

        assert kinds.get(kind, kind.upper()) == decoded(data).format, name


def test_real_photos_decode_as_torchvision_s_loader_does(shared_data):
    paths = sorted((shared_data / "photos").iterdir())
    assert paths
    for path in paths:
        assert default_loader(path).tobytes() == decoded(path.read_bytes()).picture.tobytes(), path


def test_no_real_image_is_taken_for_damaged(shared_data):
    paths = [path for path in (shared_data / "cifar10-jpeg").rglob("*") if path.is_file()]
    assert len(paths) == 2000
    for path in paths:
        assert (32, 32) == decoded(path.read_bytes()).picture.size, path


def test_a_decoder_is_named_with_its_version():
    pillow = f"Pillow {PIL.__version__}"

    assert pillow == decoder_of("PNG")
    assert f"{pillow}, libjpeg-turbo {features.version('libjpeg_turbo')}" == decoder_of("JPEG")


# The policy of modes


DEEP = np.random.default_rng(3).integers(0, 65536, (5, 7), np.uint16)
DEEP_FILES = {
    "png": encoded(Image.fromarray(DEEP), "PNG"),
    "png-interlaced": png(DEEP[:, :, None], 16, interlaced=True),
    "tiff": encoded(Image.fromarray(DEEP), "TIFF"),
    "tiff-lzw": encoded(Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"),
    "tiff-big-endian": tiff(DEEP.astype(">u2").tobytes(), 7, 5, (16,), order=">"),
}


@pytest.mark.parametrize("mode", ["auto", "I;16"])
@pytest.mark.parametrize("data", DEEP_FILES.values(), ids=DEEP_FILES)
def test_16_bit_gray_is_exact_where_it_is_wanted(data, mode):
    image = decoded(data, mode)

    assert ("I;16", "I;16", DEEP.tolist()) == (
        image.mode,
        image.picture.mode,
        np.asarray(image.picture).tolist(),
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("data", DEEP_FILES.values(), ids=DEEP_FILES)
def test_16_bit_gray_is_refused_where_it_would_be_clipped(data, mode):
    expected = (
        f"unsupported-mode: 16-bit grayscale, which convert('{mode}') would clip; "
        "measure it with --mode 'I;16'"
    )
    assert expected == refusal(data, mode)


FLOATS = np.linspace(0, 1, 12, dtype=np.float32)
NAN = np.where(FLOATS > 0.8, np.float32("nan"), FLOATS)
INF = np.where(FLOATS > 0.95, np.float32("-inf"), FLOATS)
REFUSED_MODES = {
    "int32": (
        tiff(bytes(48), 4, 3, (32,), sample_format=2),
        "unsupported-mode: mode I",
    ),
    "uint32": (tiff(bytes(48), 4, 3, (32,)), "unsupported-mode: mode I"),
    "int16": (tiff(bytes(24), 4, 3, (16,), sample_format=2), "unsupported-mode: mode I"),
    "pgm-16-bit": (b"P5 2 1 65535 \0\1\2\3", "unsupported-mode: mode I"),
    "12-bit": (tiff(bytes(18), 4, 3, (12,)), "unsupported-mode: 12-bit grayscale"),
    "float": (
        tiff(FLOATS.tobytes(), 4, 3, (32,), sample_format=3),
        "unsupported-mode: mode F: float pixels have no declared range",
    ),
    "pfm": (
        b"Pf 4 3 -1.0\n" + FLOATS.tobytes(),
        "unsupported-mode: mode F: float pixels have no declared range",
    ),
    "float-nan": (
        tiff(NAN.tobytes(), 4, 3, (32,), sample_format=3),
        "nonfinite-pixels: 3 of 12 pixels are NaN or Inf",
    ),
    "float-inf": (
        tiff(INF.tobytes(), 4, 3, (32,), sample_format=3),
        "nonfinite-pixels: 1 of 12 pixels are NaN or Inf",
    ),
    "2-channels": (
        tiff(bytes(24), 4, 3, (8, 8), extra=(0,)),
        "unsupported-mode: 2 channels, of which L shows fewer",
    ),
    "rgb-and-infrared": (
        tiff(bytes(48), 4, 3, (8,) * 4, photometric=2, extra=(0,)),
        "unsupported-mode: 4 channels, of which RGB shows fewer",
    ),
    "5-channels": (
        tiff(bytes(60), 4, 3, (8,) * 5, photometric=2, extra=(0, 0)),
        "unsupported-mode: 5 channels, of which RGB shows fewer",
    ),
    "lab": (encoded(Image.new("LAB", (4, 3)), "TIFF"), "unsupported-mode: mode LAB"),
}


@pytest.mark.parametrize("mode", ["auto", "L", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize(("data", "expected"), REFUSED_MODES.values(), ids=REFUSED_MODES)
def test_modes_that_would_be_silently_wrong_are_refused_under_every_mode(data, expected, mode):
    assert expected == refusal(data, mode)


def test_8_bit_is_refused_where_16_bit_is_wanted():
    for mode, data in (("RGB", FORMATS["jpeg-RGB-95"]), ("P", FORMATS["gif-P"])):
        expected = f"unsupported-mode: mode {mode}, not 16-bit grayscale"

        assert expected == refusal(data, "I;16")


# What is no image


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
    monkeypatch.setattr(decode_module, "_loaded", set())
    monkeypatch.delitem(Image.OPEN, "WEBP")

    assert "unsupported-format: this Pillow reads no WEBP" == refusal(data)


def test_a_plugin_that_cannot_be_imported_is_unsupported(monkeypatch):
    monkeypatch.setattr(decode_module, "_loaded", set())
    monkeypatch.setattr(decode_module, "_PLUGINS", {"WEBP": "NoSuchImagePlugin"})

    assert "unsupported-format: this Pillow reads no WEBP" == refusal(FORMATS["webp-RGB"])


# Sizes


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_an_image_beyond_the_limit_is_refused(format_):
    data = encoded(picture("RGB", 20, 30), format_)

    assert (30, 20) == decoded(data, max_pixels=600).picture.size
    assert "too-large: 30x20 is 600 pixels; the limit is 599 (--max-pixels)" == refusal(
        data, max_pixels=599
    )


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_an_image_beyond_pillow_s_own_limit_is_refused_in_our_words(format_):
    """Above twice the limit Pillow itself refuses, and names neither the limit nor the option."""
    data = encoded(picture("RGB", 20, 30), format_)

    assert "too-large: 600 pixels; the limit is 299 (--max-pixels)" == refusal(data, max_pixels=299)


def test_a_bomb_of_900_megapixels_is_refused_without_taking_memory():
    bomb = png_of(30_000, 30_000, 8, 2, False, chunk(b"IDAT", zlib.compress(bytes(10**6))))
    bomb += chunk(b"IEND")
    tracemalloc.start()

    message = refusal(bomb, max_pixels=178_956_970)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "too-large: 900,000,000 pixels; the limit is 178,956,970 (--max-pixels)" == message
    assert peak < 1 << 20


def test_an_opened_image_beyond_the_limit_or_without_area_is_refused():
    for size, expected in (
        ((30, 20), "too-large: 30x20 is 600 pixels; the limit is 599 (--max-pixels)"),
        ((0, 20), "zero-area: 0x20"),
        ((30, 0), "zero-area: 30x0"),
    ):
        with pytest.raises(Unreadable) as caught:
            decoded_picture(Image.new("RGB", size), "RGB", max_pixels=599)

        assert expected == str(caught.value)


def test_an_opened_image_is_held_to_the_same_policy():
    image = decoded_picture(picture("RGBA"), "RGB", max_pixels=LIMIT)
    assert ("RGB", "RGBA", "PIL") == (image.mode, image.met, image.format)
    assert picture("RGBA").convert("RGB").tobytes() == image.picture.tobytes()

    for mode, expected in (
        ("F", "unsupported-mode: mode F: float pixels have no declared range"),
        ("I", "unsupported-mode: mode I"),
        ("HSV", "unsupported-mode: mode HSV"),
    ):
        with pytest.raises(Unreadable) as caught:
            decoded_picture(Image.new(mode, (2, 2)), "RGB", max_pixels=LIMIT)

        assert expected == str(caught.value)


def test_an_opened_image_whose_file_is_cut_off_is_refused():
    data = FORMATS["jpeg-RGB-95"]
    opened = Image.open(io.BytesIO(data[: len(data) // 2]))
    with opened, pytest.raises(Unreadable) as caught:
        decoded_picture(opened, "RGB", max_pixels=LIMIT)

    assert Reason.TRUNCATED == caught.value.reason


@pytest.mark.parametrize(
    ("name", "mode", "bytes_a_pixel"),
    [
        ("ppm-RGB", "RGB", 4),
        ("ppm-RGB", "L", 5),
        ("ppm-L", "RGB", 5),
        ("png-RGB", "RGB", 10),
        ("jpeg-CMYK-95", "RGB", 14),
    ],
)
def test_memory_is_asked_for_before_it_is_taken(name, mode, bytes_a_pixel):
    asked: list[int] = []

    def refuse(size: int) -> None:
        asked.append(size)
        raise Unreadable(Reason.OUT_OF_MEMORY, "no")

    with pytest.raises(Unreadable, match=r"^out-of-memory: no$"):
        decode(FORMATS[name], mode, max_pixels=LIMIT, reserve=refuse)

    assert [37 * 23 * bytes_a_pixel] == asked


# Damage


CUT = [
    "jpeg-RGB-95",
    "jpeg-RGB-75-progressive",
    "jpeg-L-95",
    "jpeg-CMYK-95",
    "mpo",
    "png-RGB",
    "png-P",
    "png-rgb-interlaced",
    "png-1-interlaced",
    "apng",
    "gif-P",
    "gif-frames",
    "gif-rows-in-order",
    "bmp-RGB",
    "bmp-P",
    "bmp-1",
    "tiff-RGB",
    "tiff-tiff_lzw-RGB",
    "tiff-tiff_adobe_deflate-RGB",
    "tiff-packbits-P",
    "tiff-group4",
    "tiff-jpeg-RGB",
    "tiff-frames",
    "webp-RGB",
    "webp-RGBA",
    "webp-lossless",
    "webp-frames",
    "ppm-RGB",
    "ppm-L",
    "ppm-1",
    "ppm-text",
    "avif-RGB",
    "jpeg2000-RGB",
    "jpeg2000-bare",
    "qoi-RGB",
]


@pytest.mark.parametrize("name", [name for name in CUT if name in FORMATS])
def test_a_file_that_is_cut_off_is_refused_or_all_its_pixels_were_there(name, capfd):
    """At every length up to 400 bytes, and at 300 lengths beyond; never other pixels."""
    data = FORMATS[name]
    whole = decoded(data).picture.tobytes()
    lengths = {*range(min(400, len(data))), *range(400, len(data), max(1, len(data) // 300))}
    lengths |= set(range(max(0, len(data) - 30), len(data)))
    survivors = []
    for length in sorted(lengths):
        try:
            image = decoded(data[:length])
        except Unreadable:
            continue
        assert whole == image.picture.tobytes(), length
        survivors.append(length)

    # What follows the last pixel: end markers, directories, other frames.
    assert len(lengths) // 2 > len(survivors) or name in (
        "apng",
        "mpo",
        "gif-frames",
        "tiff-frames",
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("jpeg-RGB-95", "truncated: image file is truncated (N bytes not processed)"),
        ("png-RGB", "truncated: the file ends before its last chunk"),
        ("gif-P", "truncated: image file is truncated (N bytes not processed)"),
        ("bmp-RGB", "truncated: image file is truncated (N bytes not processed)"),
        ("tiff-RGB", "truncated: image file is truncated (N bytes not processed)"),
        ("tiff-tiff_lzw-RGB", "corrupt: not a readable TIFF file"),
        ("webp-RGB", "corrupt: could not create decoder object"),
        ("ppm-RGB", "truncated: image file is truncated (N bytes not processed)"),
        ("jpeg2000-RGB", "truncated: the file ends before its last marker"),
        ("ppm-text", "corrupt: not enough image data"),
    ],
)
def test_half_a_file_says_what_is_wrong_with_it(name, expected, capfd):
    data = FORMATS[name]

    message = refusal(data[: len(data) // 2])

    # How much lies in Pillow's buffer depends on the encoder that made the file.
    assert expected == re.sub(r"\d+ bytes not", "N bytes not", message)


@pytest.mark.parametrize(
    "name", ["jpeg-RGB-95", "png-RGB", "gif-P", "webp-RGB", "webp-lossless", "avif-RGB"]
)
def test_a_tail_of_zeros_is_a_copy_that_stopped_half_way(name):
    """WebP and AVIF decode "ok" with a zero tail, in every decoder."""
    data = FORMATS[name]
    half = data[: len(data) // 2].ljust(len(data), b"\0")

    assert "zero-filled-tail: the last 64 bytes are all zero" == refusal(half)


@pytest.mark.parametrize("keep", [0.5, 0.58, 0.7, 0.9])
def test_a_lossless_webp_whose_tail_is_zeros_is_refused_though_it_ends_in_one_colour(keep):
    """Noise over white over noise: the missing tail decodes to rows of one colour."""
    pixels = np.full((600, 600, 3), 255, np.uint8)
    for rows in (slice(0, 200), slice(400, 600)):
        pixels[rows] = np.random.default_rng(3).integers(0, 256, (200, 600, 3), np.uint8)
    data = encoded(Image.fromarray(pixels), "WEBP", lossless=True)
    kept = int(len(data) * keep)

    with pytest.raises(Unreadable):
        decoded(data[:kept].ljust(len(data), b"\0"), "RGB")


@pytest.mark.parametrize("name", ["jpeg-RGB-95", "png-RGB", "gif-P"])
def test_zeros_behind_the_end_of_a_whole_image_are_no_fault(name):
    """Some cameras fill the last block."""
    data = FORMATS[name]

    assert pixels_of(data) == pixels_of(data + bytes(5000))


@pytest.mark.parametrize("colour", ["black", "white", (90, 90, 90)])
@pytest.mark.parametrize("size", [(1024, 1024), (2048, 300)])
def test_a_webp_of_one_colour_is_counted_though_it_ends_in_zeros(colour, size):
    data = encoded(Image.new("RGB", size, colour), "WEBP", quality=75)
    assert size == (2048, 300) or bytes(64) == data[-64:]

    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).tolist()
    assert expected == pixels_of(data)


def test_a_tail_of_zeros_is_no_fault_of_formats_that_are_not_compressed():
    black = np.zeros((9, 9, 3), np.uint8)
    for format_ in ("BMP", "PPM", "TIFF"):
        assert black.tolist() == pixels_of(encoded(Image.fromarray(black), format_))


def test_a_jpeg_that_is_only_a_header_is_refused():
    """Every decoder makes 144 megapixels of gray of it."""
    data = bytearray(FORMATS["jpeg-L-95"])
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 12_000, 8_000)

    expected = f"truncated: {len(data):,} bytes cannot hold 96,000,000 pixels"
    assert expected == refusal(bytes(data))


def test_the_smallest_jpeg_that_there_can_be_is_counted():
    """A constant image: 1/256 byte a pixel, half of what is allowed."""
    data = encoded(Image.new("L", (4096, 4096), 128), "JPEG", quality=1, optimize=True)

    assert (4096, 4096) == decoded(data, "L").picture.size


def test_a_png_that_is_only_a_header_is_refused_before_memory_is_taken():
    data = png_of(8000, 8000, 8, 2, False, chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND"))

    expected = f"truncated: {len(data)} bytes cannot hold 192,008,000 bytes of pixels"
    assert expected == refusal(data)


def test_the_best_compressed_png_that_there_can_be_is_counted():
    data = encoded(Image.new("L", (5000, 5000)), "PNG", compress_level=9)

    assert 5000 * 5001 / len(data) > 1000
    assert (5000, 5000) == decoded(data, "L").picture.size


def test_a_wrong_checksum_of_a_png_is_noticed():
    """Pillow does not look at the checksum of the image data."""
    pixels = noise(9, 11, 1)[:, :, None]
    palette = chunk(b"PLTE", bytes(range(12)))
    for kind, data in (
        (b"IDAT", png(pixels)),
        (b"PLTE", png(pixels & 3, 2, 3, before=(palette,))),
        (b"tRNS", png(pixels & 3, 2, 3, before=(palette, chunk(b"tRNS", b"\0\1\2\3")))),
    ):
        start = data.index(kind)
        (length,) = struct.unpack(">I", data[start - 4 : start])
        broken = bytearray(data)
        broken[start + 4 + length] ^= 1

        assert pixels_of(data)
        assert refusal(bytes(broken)) in (
            f"corrupt: wrong checksum of chunk {kind!r}",
            "corrupt: not a readable PNG file",  # Pillow itself, where it reads the chunk
        )


def test_a_wrong_checksum_of_the_image_data_is_named():
    data = png(noise(9, 11, 1)[:, :, None])
    crc = data.index(b"IEND") - 8

    expected = "corrupt: wrong checksum of chunk b'IDAT'"
    assert expected == refusal(data[:crc] + b"\0\0\0\0" + data[crc + 4 :])


def test_a_palette_image_without_its_palette_is_refused():
    """Pillow shows it all black."""
    data = png(noise(9, 11, 1)[:, :, None] & 3, 2, 3)

    assert "corrupt: a palette image without its palette" == refusal(data)


def test_a_png_without_its_end_is_refused():
    data = png(noise(9, 11, 1)[:, :, None])

    assert "truncated: the file ends before its last chunk" == refusal(data[:-12])


@pytest.mark.parametrize("interlaced", [False, True])
def test_rows_that_are_missing_from_a_whole_zlib_stream_are_noticed(interlaced):
    """Checksums hold, the stream ends in order, and Pillow fills the rest with black."""
    white = np.full((9, 11, 1), 255, np.uint8)
    wanted = len(scanlines(white, 8, interlaced))
    for missing in range(12 if not interlaced else 1, wanted):
        message = refusal(png(white, interlaced=interlaced, missing=missing))

        assert message in (
            f"truncated: {wanted - missing:,} of {wanted:,} bytes of pixels; the rest would be black",
            "truncated: image file is truncated (0 bytes not processed)",
        )


def test_the_missing_odd_rows_of_an_interlaced_image_are_noticed():
    """Its last row is an even one and whole, so looking at that alone is not enough."""
    white = np.full((9, 9, 1), 255, np.uint8)

    expected = "truncated: 90 of 100 bytes of pixels; the rest would be black"
    assert expected == refusal(png(white, interlaced=True, missing=10))


SAMPLES = {"1-bit": (1, 0, 1), "4-bit": (4, 0, 1), "gray": (8, 0, 1), "rgb": (8, 2, 3)}


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("bits", "color_type", "samples"), SAMPLES.values(), ids=SAMPLES)
def test_a_png_that_ends_in_black_is_counted(bits, color_type, samples, interlaced):
    """No false alarm: all sizes that Adam7 cuts differently, all black and black at the end."""
    for height, width in itertools.product(range(1, 10), repeat=2):
        for lit in (0, height // 2):
            pixels = np.zeros((height, width, samples), np.uint8)
            pixels[:lit] = 2**bits - 1
            image = decoded(png(pixels, bits, color_type, interlaced=interlaced), "RGB")
            expected = np.zeros((height, width, 3), np.uint8)
            expected[:lit] = 255

            assert expected.tobytes() == image.picture.tobytes(), (height, width, lit)


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_of_any_size_that_lacks_its_last_row_is_never_counted_with_other_pixels(interlaced):
    for height, width in itertools.product(range(1, 10), repeat=2):
        pixels = np.full((height, width, 1), 255, np.uint8)
        for missing in range(1, min(width + 2, len(scanlines(pixels, 8, interlaced)))):
            data = png(pixels, interlaced=interlaced, missing=missing)
            try:
                image = decoded(data)
            except Unreadable:
                continue
            assert [255] == np.unique(image.picture).tolist(), (height, width, missing)


def test_looking_for_missing_rows_takes_no_memory():
    """One black pixel, and image data that inflate to 100 MB."""
    idat = chunk(b"IDAT", zlib.compress(bytes(100_000_000)))
    data = png_of(1, 1, 8, 0, False, idat, chunk(b"IEND"))
    tracemalloc.start()

    pixels = pixels_of(data, "L")

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [[0]] == pixels
    assert peak < 8 << 20  # 1 MiB at a time, and Pillow's own buffers


def test_image_data_in_many_chunks_are_one_stream():
    pixels = np.zeros((40, 40, 1), np.uint8)
    stream = zlib.compress(scanlines(pixels, 8, False), 0)
    parts = [chunk(b"IDAT", stream[i : i + 100]) for i in range(0, len(stream), 100)]
    whole = png_of(40, 40, 8, 0, False, *parts, chunk(b"IDAT"), chunk(b"IEND"))

    assert pixels.reshape(40, 40).tolist() == pixels_of(whole, "L")


def test_every_byte_of_a_png_is_guarded():
    """One wrong byte anywhere: the file is refused, or shows the same pixels as before."""
    comment = chunk(b"tEXt", b"Comment\0about nothing")
    data = png(noise(9, 11), 8, 2, before=(comment,))
    whole = decoded(data).picture.tobytes()
    for position, flip in itertools.product(range(len(data)), (0x01, 0x20, 0xFF)):
        broken = bytearray(data)
        broken[position] ^= flip
        try:
            image = decoded(bytes(broken))
        except Unreadable:
            continue
        assert whole == image.picture.tobytes(), (position, flip)


# Anything at all


def mutated(data: bytes, rng: random.Random) -> bytes:
    broken = bytearray(data)
    kind = rng.randrange(6)
    if kind == 0:
        for _ in range(rng.choice((1, 1, 2, 8))):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        for _ in range(rng.choice((1, 4))):  # where headers are
            broken[rng.randrange(min(64, len(broken)))] = rng.randrange(256)
    elif kind == 2:
        del broken[rng.randrange(len(broken)) :]
    elif kind == 3:
        start = rng.randrange(len(broken))
        del broken[start : start + rng.randrange(1, 40)]
    elif kind == 4:
        a, b = sorted(rng.sample(range(len(broken)), 2))
        size = min(b - a, len(broken) - b, 40)
        broken[a : a + size], broken[b : b + size] = broken[b : b + size], broken[a : a + size]
    else:
        start = rng.randrange(len(broken))
        broken[start:start] = rng.randbytes(rng.randrange(1, 40))
    return bytes(broken)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_bytes_are_they_are_decoded_or_refused(seed, capfd):
    """3,000 mutations: no exception but Unreadable, no image beyond the limit."""
    rng = random.Random(seed)
    names = sorted(FORMATS)
    for _ in range(300):
        name = rng.choice(names)
        data = mutated(FORMATS[name], rng)
        mode = rng.choice(("auto", "L", "RGB", "RGBA", "I;16"))
        try:
            image = decoded(data, mode, max_pixels=100_000)
        except Unreadable:
            continue
        assert mode in ("auto", image.mode), name
        assert 0 < image.picture.width * image.picture.height <= 100_000, name
