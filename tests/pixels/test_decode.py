"""Decoded pixels are those of torchvision's loader; modes and sizes that are refused.

The reference is torchvision's own `default_loader`, never `imgnorm`.
"""

from __future__ import annotations

import io
import random
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from pictures import (
    FORMATS,
    LIMIT,
    chunk,
    decoded,
    encoded,
    mutated,
    picture,
    png,
    png_of,
    refusal,
    tiff,
)
from PIL import Image
from torchvision.datasets.folder import default_loader

from imgnorm.pixels.decode import decode, decoded_picture
from imgnorm.tally.skipped import Reason, Unreadable

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's own, as in count()


# What your loader sees


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

        assert expected == (image.mode, image.file_mode, image.picture.tobytes()), name


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
        "unsupported-mode: 2 channels; L would drop 1",
    ),
    "rgb-and-infrared": (
        tiff(bytes(48), 4, 3, (8,) * 4, photometric=2, extra=(0,)),
        "unsupported-mode: 4 channels; RGB would drop 1",
    ),
    "5-channels": (
        tiff(bytes(60), 4, 3, (8,) * 5, photometric=2, extra=(0, 0)),
        "unsupported-mode: 5 channels; RGB would drop 2",
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


# Sizes


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_an_image_beyond_the_limit_is_refused(format_):
    data = encoded(picture("RGB", 20, 30), format_)

    assert (30, 20) == decoded(data, max_pixels=600).picture.size
    assert "too-large: 30x20 is 600 pixels; the limit is 599 (--max-pixels)" == refusal(
        data, max_pixels=599
    )


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_an_image_beyond_pillow_s_own_limit_is_refused_in_our_words(format_, monkeypatch):
    """Above twice the limit Pillow itself refuses, and its message has neither the limit nor the option."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)  # as prepare_process() sets it
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
    assert ("RGB", "RGBA", "PIL") == (image.mode, image.file_mode, image.format)
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


# Anything at all


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


# ── the user's process ──


def test_decoding_leaves_the_process_as_it_is():
    """Pillow's limit and the filters of warnings belong to the caller."""
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    data = encoded(picture("RGB", 20, 20), "PNG")
    decode(data, "RGB", max_pixels=400, reserve=lambda size: None)
    with pytest.raises(Unreadable, match="too-large"):
        decode(data, "RGB", max_pixels=399, reserve=lambda size: None)

    assert before == (Image.MAX_IMAGE_PIXELS, list(warnings.filters))


def test_pillow_s_own_limit_is_too_large_where_warnings_are_errors(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # one pixel more is a warning
    data = encoded(picture("RGB", 20, 20), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert "too-large: 400 pixels; the limit is 1000 (--max-pixels)" == refusal(
            data, max_pixels=1000
        ).replace(",", "")
