"""Image files of every kind, made here, for the tests of decoding.

TIFF and PNG files that Pillow cannot write are put together byte by byte.
"""

from __future__ import annotations

import io
import itertools
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from imgnorm.pixels.decode import Decoded, decode
from imgnorm.tally.skipped import Unreadable

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
    """Every 8-bit mode in every format that this Pillow can write, and some more."""
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
