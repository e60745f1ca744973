"""TIFF: libtiff goes on where it should not, and Pillow calls what it cannot read broken."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from pictures import decoded, encoded, noise, picture, pixels_of, refusal, tiff
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from imgnorm.tally.skipped import Unreadable

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's own, as in count()

ROWS = 200


def strips_of(data: bytes) -> list[tuple[int, int]]:
    """Where the data of each strip begin and end."""
    with TiffImageFile(io.BytesIO(data)) as opened:
        offsets, lengths = opened.tag_v2[273], opened.tag_v2[279]
    return [(start, start + size) for start, size in zip(offsets, lengths, strict=True)]


@pytest.mark.parametrize("zeros", [20, 63, 100])
def test_tables_of_a_jpeg_that_are_zeros_are_noticed(zeros):
    """libtiff writes them behind the pixels: they are the end of the file."""
    data = encoded(Image.fromarray(noise(ROWS, 100)), "TIFF", compression="jpeg")

    expected = f"zero-filled-tail: the last {zeros} bytes are all zero"
    assert expected == refusal(data[:-zeros] + bytes(zeros))


def test_places_of_strips_that_are_zeros_are_noticed():
    """libtiff would take the header of the file for pixels."""
    data = encoded(Image.fromarray(noise(400, 300)), "TIFF", compression="packbits")
    starts = struct.pack("<6I", *(start for start, _ in strips_of(data)))
    assert data.endswith(starts)

    assert "zero-filled-tail: the last 23 bytes are all zero" == refusal(data[:-20] + bytes(20))


def test_compressed_pixels_that_were_not_written_are_noticed():
    """The directory is in front of them, and the decoder content with less than was written."""
    counted = []
    for compression in (
        "tiff_lzw",
        "tiff_adobe_deflate",
        "zstd",
        "jpeg",
        "packbits",
        "group3",
        "group4",
    ):
        image = picture("1" if compression.startswith("group") else "RGB", ROWS, 300)
        data = encoded(image, "TIFF", compression=compression)
        start, end = strips_of(data)[-1]
        for zeros in (20, 40, (end - start) // 2):
            faulty = bytearray(data)
            faulty[end - zeros : end] = bytes(zeros)
            moved = tags_moved(bytes(faulty))
            with contextlib.suppress(Unreadable):
                if decoded(moved).picture.tobytes() != decoded(data).picture.tobytes():
                    counted.append((compression, zeros))
        assert decoded(data).picture.tobytes() == decoded(tags_moved(data)).picture.tobytes()

    assert [] == counted


def tags_moved(data: bytes) -> bytes:
    """The same little-endian TIFF with its directory in front of its pixels."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    tags = bytearray(data[start:])
    for place in range(2, 2 + 12 * count, 12):
        tag, kind, number, value = struct.unpack_from("<HHII", tags, place)
        if number * {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}[kind] > 4:
            value -= start
            struct.pack_into("<I", tags, place + 8, value + 8)
        else:
            value = place + 8
        if tag == 273:
            for at in range(value, value + 4 * number, 4):
                (offset,) = struct.unpack_from("<I", tags, at)
                struct.pack_into("<I", tags, at, offset + len(tags))
    return data[:4] + struct.pack("<I", 8) + tags + data[8:start]


@pytest.mark.parametrize("compression", ["raw", "packbits"])
def test_black_rows_at_the_end_are_no_fault(compression):
    pixels = noise(ROWS, 30)
    pixels[50:] = 0

    assert pixels.tolist() == pixels_of(
        encoded(Image.fromarray(pixels), "TIFF", compression=compression)
    )


def test_zeros_behind_the_end_of_a_jpeg_strip_are_no_fault():
    data = tags_moved(encoded(Image.fromarray(noise(16, 16)), "TIFF", compression="jpeg"))

    assert pixels_of(data) == pixels_of(data + bytes(100))


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
def test_codes_that_do_not_exist_are_noticed(compression):
    """libtiff only prints that it met them, and goes on with the next row."""
    data = encoded(picture("1", ROWS, 300), "TIFF", compression=compression)
    start, end = strips_of(data)[0]
    outcomes = set()
    for place in range(start + 50, end - 50, 20):
        faulty = bytearray(data)
        faulty[place : place + 16] = b"\0\1\0\5" * 4
        try:
            decoded(bytes(faulty))
        except Unreadable as fault:
            outcomes.add(str(fault))

    assert {"corrupt: libtiff reports: Bad code word"} <= outcomes


def test_what_others_print_meanwhile_stays_and_libtiff_is_silent(capfd):
    data = encoded(picture("1", ROWS, 300), "TIFF", compression="group4")
    os.write(2, b"before\n")
    decoded(data)
    os.write(2, b"after\n")

    assert "before\nafter\n" == capfd.readouterr().err


def test_a_fax_is_decoded_where_standard_error_is_closed(tmp_path):
    (tmp_path / "fax").write_bytes(encoded(picture("1", ROWS, 300), "TIFF", compression="group4"))
    program = """
import os, sys
from imgnorm.pixels.decode import decode
os.close(2)
for _ in range(2):
    data = open(sys.argv[1], "rb").read()
    image = decode(data, "auto", max_pixels=10**6, reserve=lambda size: None)
    print(image.mode)
"""
    run = [sys.executable, "-c", program, str(tmp_path / "fax")]

    assert "L\nL\n" == subprocess.run(run, stdout=subprocess.PIPE, text=True, check=True).stdout


FLOATS = np.arange(36, dtype="<f4").tobytes()
UNSUPPORTED = {
    "3 channels of 32-bit float": tiff(FLOATS, 4, 3, (32,) * 3, photometric=2, sample_format=3),
    "1 channel of 64-bit float": tiff(bytes(96), 4, 3, (64,), sample_format=3),
    "1 channel of 16-bit float": tiff(bytes(24), 4, 3, (16,), sample_format=3, order=">"),
    "13 channels of 16-bit integer": tiff(bytes(312), 4, 3, (16,) * 13, extra=(0,) * 12),
    "1 channel of 64-bit complex float": tiff(bytes(96), 4, 3, (64,), sample_format=6),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_what_pillow_has_no_mode_for_is_unsupported_and_not_corrupt(what):
    data = UNSUPPORTED[what]
    expected = (
        f"unsupported-mode: {what}, which Pillow cannot read from TIFF; save the pixels as .npy"
    )

    assert expected == refusal(data)
    assert "truncated: the file ends before its pixels" == refusal(data[:-1])


def test_planes_are_named():
    data = bytearray(tiff(FLOATS * 1, 4, 3, (32,) * 3, photometric=2, sample_format=3))
    # The tag of the samples a pixel, which is 3 values of bits already, becomes that of planes.
    entry = data.index(struct.pack("<HHI", 277, 3, 1))
    data[entry : entry + 12] = struct.pack("<HHIHH", 284, 3, 1, 2, 0)

    assert "32-bit float in planes, which Pillow cannot read" in refusal(bytes(data))


def test_a_compression_that_pillow_does_not_know_is_unsupported():
    data = bytearray(tiff(FLOATS[:36], 4, 3, (8,) * 3, photometric=2))
    entry = data.index(struct.pack("<HHI", 259, 3, 1))
    data[entry : entry + 12] = struct.pack("<HHIHH", 259, 3, 1, 34887, 0)

    expected = "unsupported-format: TIFF with compression 34887, which Pillow cannot read; save it with another"
    assert expected == refusal(bytes(data))
