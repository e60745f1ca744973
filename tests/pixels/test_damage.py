"""No invented pixels, and no whole image taken for a damaged one."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from pictures import (
    FORMATS,
    chunk,
    decoded,
    encoded,
    noise,
    pixels_of,
    png,
    png_of,
    refusal,
    scanlines,
)
from PIL import Image

from imgnorm.tally.skipped import Unreadable

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's own, as in count()


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
    """At every length up to 400 bytes, and at 300 longer ones; never other pixels."""
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
    "name", ["jpeg-RGB-95", "png-RGB", "gif-P", "webp-RGB", "webp-lossless", "avif-RGB", "qoi-RGB"]
)
def test_a_tail_of_zeros_is_a_copy_that_stopped_half_way(name):
    """WebP and AVIF decode "ok" with a zero tail, in every decoder."""
    data = FORMATS[name]
    half = data[: len(data) // 2].rstrip(b"\0")
    zeros = len(data) - len(half)

    assert f"zero-filled-tail: the last {zeros:,} bytes are all zero" == refusal(
        half + bytes(zeros)
    )


@pytest.fixture(scope="module")
def lossy_webps() -> dict[str, bytes]:
    """Of noise, of one color, and of noise over and beside one color."""
    over = noise(400, 300)
    over[150:] = 255
    beside = np.full((400, 300, 3), 90, np.uint8)
    beside[100:200, 100:200] = noise(100, 100)
    arrays = {"noise": noise(200, 300), "over": over, "beside": beside}
    images = {name: Image.fromarray(array) for name, array in arrays.items()}
    images |= {f"{colour}": Image.new("RGB", (1024, 1024), colour) for colour in ("white", "black")}
    return {
        f"{name} {options}": encoded(image, "WEBP", **options)
        for name, image in images.items()
        for options in (
            {"quality": 5, "method": 0},
            {"quality": 80, "method": 4},
            {"quality": 80, "method": 0, "save_all": True, "append_images": [image.copy()]},
        )
    }


def test_a_webp_of_which_the_first_bytes_were_written_is_refused(lossy_webps):
    """It decodes to one color, or to a smear of the rows that were written."""
    counted = []
    for name, data in lossy_webps.items():
        whole = decoded(data).picture.tobytes()
        for written in (40, 100, 512, len(data) // 2, len(data) * 9 // 10):
            faulty = data[:written].ljust(len(data), b"\0")
            with contextlib.suppress(Unreadable):
                if whole != decoded(faulty).picture.tobytes():
                    counted.append((name, written, len(data)))

    assert [] == counted


def test_a_webp_whose_data_end_in_zeros_is_counted(lossy_webps):
    """Rows of one color do, and what follows the data of the image may."""
    exif = encoded(Image.fromarray(noise(20, 30)), "WEBP", exif=b"Exif\0\0" + bytes(100))

    assert any(bytes(16) == data[-18:-2] for data in lossy_webps.values())
    for data in (*lossy_webps.values(), exif):
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.convert("RGB").tobytes() == decoded(data).picture.tobytes()


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


def test_a_tail_of_zeros_is_no_fault_of_formats_that_are_not_compressed():
    black = np.zeros((9, 9, 3), np.uint8)
    for format_ in ("BMP", "PPM", "TIFF"):
        assert black.tolist() == pixels_of(encoded(Image.fromarray(black), format_))


def test_a_jpeg_that_is_only_a_header_is_refused():
    """Every decoder shows its header as 96 megapixels of gray."""
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
    """Pillow does not check the image data."""
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
            assert [255] == np.unique(np.asarray(image.picture)).tolist(), (height, width, missing)


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
