"""jpeg.py: on the fast path, every pixel and every refusal is that of Pillow."""

from __future__ import annotations

import itertools
import random
import struct
import sys

import numpy as np
import pytest
from pictures import FORMATS, LIMIT, encoded, mutated, noise
from PIL import Image

from imgnorm.pixels import jpeg as jpeg_module
from imgnorm.pixels.decode import Decoded, FramesOfFile, decode
from imgnorm.pixels.jpeg import (
    Frame,
    JpegDecoder,
    fault_of_the_fast_path,
    ordinary_frame,
    whole_frame,
)
from imgnorm.tally.skipped import Unreadable

simplejpeg = pytest.importorskip("simplejpeg")
pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's own, as in count()

MODES = ("auto", "L", "RGB", "RGBA", "I;16")


@pytest.fixture(scope="module")
def decoder() -> JpegDecoder:
    return JpegDecoder()


def outcome(data: bytes, mode: str, decoder: JpegDecoder | None, max_pixels: int = LIMIT) -> tuple:
    """All of a decoded image, or the message with which it is refused."""
    try:
        image = decode(data, mode, max_pixels=max_pixels, reserve=lambda size: None, jpeg=decoder)
    except Unreadable as fault:
        return (str(fault),)
    shown = image.picture
    return image.mode, image.file_mode, image.format, shown.mode, shown.size, shown.tobytes()


def assert_same(data: bytes, mode: str, decoder: JpegDecoder, what: object) -> None:
    assert outcome(data, mode, None) == outcome(data, mode, decoder), what


def textured(height: int, width: int, seed: int) -> np.ndarray:
    """Edges, gradients and noise: they show differences in upsampling and rounding."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((height, width))
    waves = [np.sin(x / (1 + c) + y * c) * 100 + 128 for c in range(3)]
    pixels = np.stack(waves, axis=2) + rng.normal(0, 25, (height, width, 3))
    pixels[y * 2 > x] = rng.integers(0, 256, 3)
    return pixels.clip(0, 255).astype(np.uint8)


SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
RESTARTS = ({}, {"restart_marker_blocks": 1}, {"restart_marker_rows": 1})


@pytest.mark.parametrize("quality", [1, 30, 75, 95, 100])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("sampling", [*SAMPLINGS, "gray"])
def test_every_size_has_the_pixels_of_pillow(decoder, sampling, progressive, quality):
    """All widths and heights from 1 to 67, with and without restart markers."""
    for width in range(1, 68):
        height = width * 29 % 67 + 1  # each height once, too
        image = Image.fromarray(textured(height, width, width))
        options = {"subsampling": SAMPLINGS[sampling]} if sampling in SAMPLINGS else {}
        image = image if options else image.convert("L")
        options |= RESTARTS[width % 3] | {"optimize": width % 2 == 0}
        data = encoded(image, "JPEG", quality=quality, progressive=progressive, **options)

        assert Frame(width, height, sampling == "gray") == ordinary_frame(data)
        for mode in ("auto", "L", "RGB", "RGBA") if width % 10 == 0 else ("auto",):
            assert_same(data, mode, decoder, (width, height, mode))


@pytest.mark.parametrize("quality", [1, 30, 75, 95, 100])
def test_every_size_of_4_4_0_has_the_pixels_of_pillow(decoder, quality):
    """Pillow cannot write such files, libjpeg-turbo can."""
    for width in range(1, 68):
        height = width * 29 % 67 + 1
        pixels = textured(height, width, width)
        data = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="440")

        assert Frame(width, height, gray=False) == ordinary_frame(data)
        assert_same(data, "auto", decoder, (width, height))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restart", RESTARTS, ids=["no restarts", "blocks", "rows"])
def test_4_4_0_of_every_kind_has_the_pixels_of_pillow(decoder, progressive, restart):
    """Squares of 16: 4:2:2 has as many blocks as 4:4:0 there, in the same order."""
    for edge in (16, 32, 48, 64):
        image = Image.fromarray(textured(edge, edge, edge))
        data = encoded(image, "JPEG", subsampling=1, progressive=progressive, **restart)
        start = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
        assert b"\x21" == data[start + 11 : start + 12]
        turned = data[: start + 11] + b"\x12" + data[start + 12 :]

        assert ordinary_frame(turned)
        assert_same(turned, "auto", decoder, edge)


def test_real_photos_have_the_pixels_of_pillow(decoder, shared_data):
    paths = [p for p in sorted((shared_data / "photos").rglob("*")) if p.is_file()]
    paths += sorted((shared_data / "cifar10-jpeg").rglob("*.jpg"))
    assert len(paths) > 2000
    for path in paths:
        data = path.read_bytes()

        assert ordinary_frame(data), path
        assert_same(data, "auto", decoder, path)


def test_a_header_met_before_says_what_it_said_then(shared_data):
    """Files of one encoder and others, whole and cut off anywhere in the header, in any order."""
    paths = sorted((shared_data / "cifar10-jpeg").rglob("*.jpg"))[::40]
    whole = [path.read_bytes() for path in paths] + [FORMATS[name] for name in JPEGS]
    cut = [data[:length] for data in whole[:3] for length in range(0, 700, 7)]
    files = 2 * (whole + cut)
    random.Random(5).shuffle(files)
    decoder = JpegDecoder()

    assert [ordinary_frame(data) for data in files] == [decoder.frame(data) for data in files]


JPEGS = sorted(name for name in FORMATS if FORMATS[name].startswith(b"\xff\xd8\xff"))


def test_every_kind_of_jpeg_is_the_same_in_every_mode(decoder):
    for name, mode in itertools.product(JPEGS, MODES):
        assert_same(FORMATS[name], mode, decoder, name)


def test_what_is_not_ordinary_is_left_to_pillow():
    for name in JPEGS:
        unusual = "CMYK" in name or name in ("mpo", "jpeg-rgb")

        assert name == "jpeg-rgb" or unusual == (ordinary_frame(FORMATS[name]) is None), name


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


BODY = encoded(Image.fromarray(noise(23, 37)), "JPEG")[2:]
BARE = BODY[2 + struct.unpack(">H", BODY[2:4])[0] :]  # without JFIF, whose resolution counts
EXIF = b"Exif\0\0MM\0*\0\0\0\x08"
HEADERS = {
    "bare": b"",
    "short JFIF": segment(0xE0, b"JFIF\0\1"),
    "empty APP0": segment(0xE0, b""),
    "JFXX": segment(0xE0, b"JFXX\0\x10"),
    "short ICC": segment(0xE2, b"ICC_PROFILE\0\1"),
    "ICC": segment(0xE2, b"ICC_PROFILE\0\1\1abc"),
    "part of an ICC": segment(0xE2, b"ICC_PROFILE\0\2\2abc"),
    "MPF": segment(0xE2, b"MPF\0MM\0*\0\0\0\x08\0\0"),
    "broken MPF": segment(0xE2, b"MPF\0"),
    "Photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\2ab"),
    "short Photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\4\4"),
    "shorter Photoshop": segment(0xED, b"Photoshop 3.0\x008BIM\4"),
    "Photoshop, short resolution": segment(0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\2ab"),
    "short Adobe": segment(0xEE, b"Adobe\0"),
    "Adobe without a transform": segment(0xEE, b"Adobe\0\x64\0\0\0\0"),
    "Adobe RGB": segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"),
    "Adobe YCbCr": segment(0xEE, b"Adobe\0\x64\0\0\0\0\1"),
    "Adobe YCCK": segment(0xEE, b"Adobe\0\x64\0\0\0\0\2"),
    "XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
    "empty Exif": segment(0xE1, b"Exif\0\0"),
    "no Exif": segment(0xE1, b"Exif\0\0nonsense"),
    "Exif cut off": segment(0xE1, EXIF + b"\0\5\1\x1a"),
    "Exif, empty resolution": segment(
        0xE1,
        EXIF + b"\0\2\1\x1a\0\2\0\0\0\0\0\0\0\0\1\x28\0\3\0\0\0\1\0\2\0\0\0\0\0\0",
    ),
    "Exif, text for a resolution": segment(
        0xE1,
        EXIF + b"\0\2\1\x1a\0\2\0\0\0\3ab\0\0\1\x28\0\3\0\0\0\1\0\2\0\0\0\0\0\0",
    ),
    "Exif, resolution": segment(
        0xE1,
        EXIF
        + b"\0\2\1\x1a\0\5\0\0\0\1\0\0\0\x26\1\x28\0\3\0\0\0\1\0\2\0\0\0\0\0\0"
        + b"\0\0\0\x48\0\0\0\1",
    ),
    "Exif, resolution of 1/0": segment(
        0xE1,
        EXIF
        + b"\0\2\1\x1a\0\5\0\0\0\1\0\0\0\x26\1\x28\0\3\0\0\0\1\0\2\0\0\0\0\0\0"
        + b"\0\0\0\x48\0\0\0\0",
    ),
    "two Exifs": segment(0xE1, EXIF + b"\0\0\0\0\0\0") + segment(0xE1, b"Exif\0\0more"),
    "comment": segment(0xFE, b"\xff\xd9 hello"),
    "DAC": segment(0xCC, b"\0\0"),
    "DNL": segment(0xDC, b"\0\x17"),
    "a restart marker": b"\xff\xd0",
    "TEM": b"\xff\x01",
    "fill bytes": b"\xff\xff\xff",
    "zeros": bytes(5),
    "a length of 0": b"\xff\xfe\0\0",
    "a second start": b"\xff\xd8",
    "an end": b"\xff\xd9",
    "DQT of nothing": segment(0xDB, b""),
    "half a DQT": segment(0xDB, bytes(30)),
    "a 16-bit DQT": segment(0xDB, b"\x10" + b"\0\1" * 64),
    "DQT 7": segment(0xDB, b"\7" + b"\1" * 64),
    "a 12-bit frame": segment(0xC0, b"\x0c\0\x17\0\x25\3\1\x22\0\2\x11\1\3\x11\1"),
    "two frames": segment(0xC0, b"\x08\0\x17\0\x25\3\1\x22\0\2\x11\1\3\x11\1"),
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_strange_header_has_the_same_outcome(decoder, header):
    """Pillow's reader of headers fails for some that libjpeg-turbo ignores."""
    for rest in (BODY, BARE):
        for mode in ("auto", "L"):
            assert_same(b"\xff\xd8" + header + rest, mode, decoder, mode)


@pytest.mark.parametrize("name", ["jpeg-RGB-95", "jpeg-RGB-75-progressive", "jpeg-L-95"])
def test_a_file_that_is_cut_off_or_filled_with_zeros_is_refused_in_the_same_words(
    decoder, name, capfd
):
    data = FORMATS[name]
    for length in range(len(data)):
        for end in (b"", b"\xff\xd9", bytes(200)):
            assert_same(data[:length] + end, "RGB", decoder, (length, end))


@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_bytes_are_the_outcome_is_the_same(decoder, seed, capfd):
    """4,000 mutations, of headers and of pixels."""
    rng = random.Random(seed)
    for _ in range(400):
        name = rng.choice(JPEGS)
        data = mutated(FORMATS[name], rng)
        mode = rng.choice(MODES)

        expected = outcome(data, mode, None, 100_000)
        assert expected == outcome(data, mode, decoder, 100_000), (name, mode)


def test_data_that_libjpeg_turbo_calls_damaged_are_refused_and_no_others(decoder):
    """Pillow ignores its warnings. `None`: the file is counted, with the pixels of the whole one."""
    end = b"\xff\xd9"
    cut = "truncated: Corrupt JPEG data: premature end of data segment"
    wrong = []
    for name in ("jpeg-RGB-95", "jpeg-RGB-75-progressive", "jpeg-L-95", "jpeg-CMYK-95"):
        data = FORMATS[name]
        scan = data.rindex(b"\xff\xda") + 14
        for faulty, expected in (
            (data[: (scan + len(data)) // 2] + end, cut),
            (data[: scan + 2] + end, cut),
            (data[:-2] + b"not in any scan" + end, None),
            (data + b"behind the end", None),
        ):
            found = outcome(faulty, "RGB", decoder)
            expected_outcome = (expected,) if expected else outcome(data, "RGB", None)
            wrong += [(name, found, expected)] if found != expected_outcome else []

    assert [] == wrong


def test_the_further_images_of_an_mpo_are_checked_too():
    whole = FORMATS["mpo"]
    data = whole[: len(whole) - 300] + b"\xff\xd9"  # its last image is cut

    def frame(data: bytes, number: int) -> Decoded:
        file = FramesOfFile(data, LIMIT)
        return file.decode(number, "RGB", reserve=lambda size: None)

    assert frame(whole, 0).picture.tobytes() == frame(data, 0).picture.tobytes()
    assert frame(whole, 1).picture.tobytes() != frame(whole, 0).picture.tobytes()
    with pytest.raises(Unreadable, match="premature end of data segment"):
        frame(data, 1)


def test_a_lost_restart_marker_and_a_code_that_does_not_exist_are_corrupt(decoder):
    data = file_of(64, 64, quality=90, restart_marker_blocks=1)
    lost = data.replace(b"\xff\xd1", b"\xff\xd3", 1)
    plain = FORMATS["jpeg-L-95"]
    scan = plain.index(b"\xff\xda") + 10
    no_code = plain[: scan + 100] + b"\xff\0" * 4 + plain[scan + 108 :]

    for faulty, expected in (
        (lost, "corrupt: Corrupt JPEG data: found marker 0xd3 instead of RST1"),
        (no_code, "corrupt: Corrupt JPEG data: bad Huffman code"),
    ):
        assert (expected,) == outcome(faulty, "RGB", decoder)
        assert (expected,) == outcome(faulty, "RGB", None)


def test_limits_hold_on_the_fast_path(decoder):
    data = FORMATS["jpeg-RGB-95"]
    tall = bytearray(data)
    frame = tall.index(b"\xff\xc0")
    tall[frame + 5 : frame + 9] = struct.pack(">HH", 12_000, 8_000)

    for max_pixels in (1, 400, 850, 851):
        assert outcome(data, "RGB", None, max_pixels) == outcome(data, "RGB", decoder, max_pixels)
    assert (f"truncated: {len(tall):,} bytes cannot hold 96,000,000 pixels",) == outcome(
        bytes(tall), "RGB", decoder
    )


def test_memory_is_asked_for_as_pillow_would(decoder):
    for name, mode in itertools.product(("jpeg-RGB-95", "jpeg-L-95"), ("auto", "L", "RGB")):
        asked: dict[bool, list[int]] = {}
        for fast in (True, False):
            asked[fast] = []
            decode(
                FORMATS[name],
                mode,
                max_pixels=LIMIT,
                reserve=asked[fast].append,
                jpeg=decoder if fast else None,
            )

        assert asked[False] == asked[True]


def test_pixels_of_the_last_image_are_gone_and_the_buffer_grows_and_stays(decoder):
    small = encoded(Image.new("RGB", (8, 8), "red"), "JPEG")
    large = encoded(Image.fromarray(noise(700, 600)), "JPEG")

    for data in (small, large, small):
        assert_same(data, "RGB", decoder, len(data))


def test_the_fast_path_is_taken(decoder):
    image = decode(
        FORMATS["jpeg-RGB-95"], "RGB", max_pixels=LIMIT, reserve=lambda size: None, jpeg=decoder
    )

    assert isinstance(image.content, np.ndarray)


@pytest.fixture
def unchecked():
    fault_of_the_fast_path.cache_clear()
    yield
    fault_of_the_fast_path.cache_clear()


def test_without_simplejpeg_there_is_no_fast_path(monkeypatch, unchecked):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)

    assert fault_of_the_fast_path().startswith("simplejpeg cannot be imported (")


class Other:
    """A libjpeg with another IDCT."""

    encode_jpeg = staticmethod(simplejpeg.encode_jpeg)

    @staticmethod
    def decode_jpeg(data: bytes, colorspace: str) -> np.ndarray:
        return simplejpeg.decode_jpeg(data, colorspace, fastdct=True)


def test_a_libjpeg_with_other_pixels_is_not_taken(monkeypatch, unchecked):
    monkeypatch.setattr(jpeg_module, "_simplejpeg", lambda: Other)

    expected = "simplejpeg's pixels differ from those of Pillow, which has another libjpeg"
    assert expected == fault_of_the_fast_path()


def test_another_upsampling_is_noticed_too(monkeypatch, unchecked):
    def decode_jpeg(data: bytes, colorspace: str) -> np.ndarray:
        return simplejpeg.decode_jpeg(data, colorspace, fastupsample=True)

    monkeypatch.setattr(Other, "decode_jpeg", staticmethod(decode_jpeg))
    monkeypatch.setattr(jpeg_module, "_simplejpeg", lambda: Other)

    assert "differ from those of Pillow" in fault_of_the_fast_path()


def file_of(width: int, height: int, *, gray: bool = False, **options: object) -> bytes:
    image = Image.fromarray(textured(height, width, width * height))
    return encoded(image.convert("L") if gray else image, "JPEG", **options)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 16), (17, 33), (64, 48), (67, 5)], ids=str)
def test_whole_files_are_known_as_whole_and_those_that_lack_their_end_are_not(size):
    kinds = [(0, False), (1, False), (2, False), (0, True)]
    for progressive, restarts, (sampling, gray) in itertools.product(
        [False, True], [0, 1, 3, 7], kinds
    ):
        options = {"progressive": progressive, "restart_marker_blocks": restarts}
        data = file_of(*size, gray=gray, subsampling=sampling, **options)

        assert (*size, gray, False) == ordinary_frame(data) == whole_frame(data), options
        for wrong in (data[:-1], data[:-2], data + b"\0", data + data, data[:-2] + b"\xff\xff"):
            assert whole_frame(wrong) is None, options


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}], ids=str
)
def test_no_file_that_is_cut_is_known_as_whole(options):
    """Wherever it ends, and whatever the rest was filled with."""
    data = file_of(40, 30, **options)
    for end in range(2, len(data)):
        for rest in (b"", bytes(len(data) - end), b"\xff" * (len(data) - end)):
            if data[:end] + rest != data:
                assert whole_frame(data[:end] + rest) is None, (end, rest[:1])


def test_a_scan_that_lost_a_part_between_its_restart_markers_is_not_whole():
    data = file_of(64, 48, restart_marker_blocks=1)
    first, second, ninth = (
        data.index(b"\xff\xd0"),
        data.index(b"\xff\xd1"),
        data.index(b"\xff\xd0", data.index(b"\xff\xd7")),
    )
    for wrong in (
        data[:first] + data[second:],  # one of them
        data[:first] + data[ninth:],  # eight of them, so that their numbers go on
        data[:first] + b"\xff\xd9",
        data[: first + 1] + b"\xd5" + data[first + 2 :],
        data[: second + 2] + data[second:],
    ):
        assert whole_frame(data) is not None
        assert ordinary_frame(wrong) is not None
        assert whole_frame(wrong) is None


def test_a_file_without_a_scan_of_every_channel_is_not_whole():
    data = file_of(40, 30, subsampling=0, progressive=True)
    scan = data.index(b"\xff\xda")
    luma_only = data[scan + 4 : scan + 5] + b"\1\0"  # of three channels, the first scan names three
    assert luma_only[0] == 3
    header = struct.pack(">BBHBBBBBB", 0xFF, 0xDA, 8, 1, data[scan + 5], 0, 0, 0, 1)
    after = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")

    assert whole_frame(data[:scan] + header + data[after : after + 60] + b"\xff\xd9") is None


@pytest.mark.parametrize(("transform", "whole"), [(0, False), (1, True), (2, False)])
def test_colors_that_are_not_ycbcr_for_sure_are_not_left_to_others(transform, whole):
    """libjpeg and nvJPEG have different rules for what the three channels are."""
    adobe = struct.pack(">BBH5sHHHB", 0xFF, 0xEE, 14, b"Adobe", 100, 0, 0, transform)
    colored, gray = (file_of(20, 10, gray=gray) for gray in (False, True))

    assert whole == (whole_frame(colored[:2] + adobe + colored[2:]) is not None)
    assert whole_frame(gray[:2] + adobe + gray[2:]) is not None
    assert whole_frame(file_of(20, 10, keep_rgb=True)) is None
