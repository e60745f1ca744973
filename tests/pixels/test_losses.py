"""What is lost on the way of an image, and which files have further frames."""

from __future__ import annotations

import io
import random
import struct

import numpy as np
import pytest
from pictures import LIMIT, decoded, encoded, noise, png
from PIL import Image

from imgnorm.pixels.decode import decode
from imgnorm.pixels.jpeg import JpegDecoder, orientation_in

UPRIGHT = Image.fromarray(noise(16, 24))
CLEAR = Image.fromarray(noise(16, 24, 4))
FRAMES = [Image.fromarray(noise(16, 24, seed=seed)) for seed in range(5)]


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def animated(format_: str, **options: object) -> bytes:
    return encoded(FRAMES[0], format_, save_all=True, append_images=FRAMES[1:], **options)


def test_what_is_lost_is_known_by_its_kind():
    deep = np.arange(16 * 24 * 3, dtype=np.uint16).reshape(16, 24, 3)
    files = {
        "gray png": (encoded(UPRIGHT.convert("L"), "PNG"), ()),
        "jpeg": (encoded(UPRIGHT, "JPEG"), ()),
        "turned jpeg": (encoded(UPRIGHT, "JPEG", exif=exif(6)), ("rotation",)),
        "upright jpeg": (encoded(UPRIGHT, "JPEG", exif=exif(1)), ()),
        "turned png": (encoded(UPRIGHT, "PNG", exif=exif(8)), ("rotation",)),
        "turned webp": (encoded(UPRIGHT, "WEBP", exif=exif(3)), ("rotation",)),
        "turned avif": (encoded(UPRIGHT, "AVIF", exif=exif(3)), ("rotation",)),
        "tiff, which Pillow turns": (encoded(UPRIGHT, "TIFF", exif=exif(3)), ()),
        "alpha": (encoded(CLEAR, "PNG"), ("alpha",)),
        "gray with alpha": (encoded(CLEAR.convert("LA"), "PNG"), ("alpha",)),
        "alpha without use": (encoded(UPRIGHT.convert("RGBA"), "PNG"), ()),
        "palette with a clear color": (
            encoded(UPRIGHT.quantize(16), "PNG", transparency=3),
            ("alpha",),
        ),
        "gif with a clear color": (encoded(UPRIGHT.quantize(16), "GIF", transparency=3), ()),
        "16-bit png": (png(deep, 16, 2), ("depth",)),
        "16-bit ppm": (
            b"P6 24 16\n# a comment\n65535\n" + deep.astype(">u2").tobytes(),
            ("depth",),
        ),
        "8-bit ppm": (b"P6 24 16 255\n" + noise(16, 24).tobytes(), ()),
    }

    assert {name: kinds for name, (_, kinds) in files.items()} == {
        name: tuple(decoded(data, "auto").lost or ()) for name, (data, _) in files.items()
    }
    assert not decoded(encoded(CLEAR, "PNG"), "RGBA").lost


@pytest.mark.parametrize("orientation", range(9))
def test_the_fast_path_knows_the_orientation_that_pillow_finds(orientation):
    data = encoded(UPRIGHT, "JPEG", exif=exif(orientation))
    with Image.open(io.BytesIO(data)) as picture:
        found = picture.getexif()[0x0112]
    fast = decode(data, "RGB", max_pixels=LIMIT, reserve=lambda size: None, jpeg=JpegDecoder())

    assert found == orientation
    assert ({"rotation": 1} if 2 <= found <= 8 else None) == fast.lost


def test_hostile_exif_has_no_orientation_and_raises_nothing():
    chance = random.Random(0)
    whole = exif(6).tobytes()
    mutants = [whole[:end] for end in range(len(whole))]
    for _ in range(2000):
        mutant = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            mutant[chance.randrange(len(mutant))] = chance.randrange(256)
        mutants.append(bytes(mutant))

    assert {orientation_in(mutant) for mutant in mutants} <= set(range(1, 9))
    assert 1 == orientation_in(struct.pack(">2sHIH", b"MM", 42, 8, 65535))


def test_further_frames_are_found_in_every_format_that_has_them():
    frames = {
        "TIFF": (animated("TIFF"), 5),
        "packed TIFF": (animated("TIFF", compression="tiff_lzw"), 5),
        "GIF": (animated("GIF"), 5),
        "WEBP": (animated("WEBP", lossless=True), 5),
        "AVIF": (animated("AVIF"), 5),
        "APNG": (animated("PNG"), 5),
        "one TIFF": (encoded(UPRIGHT, "TIFF"), 1),
        "one GIF": (encoded(UPRIGHT, "GIF"), 1),
        "one PNG": (encoded(UPRIGHT, "PNG"), 1),
        "MPO, a JPEG with another view": (animated("MPO"), 1),
    }

    assert {name: count for name, (_, count) in frames.items()} == {
        name: 1 + (decoded(data).lost or {}).get("further-frames", 0)
        for name, (data, _) in frames.items()
    }
