"""What one worker counts, against NumPy int64 sums over the pixels of torchvision's own loader."""

from __future__ import annotations

import numpy as np
import pytest
from counting import MemorySource, as_images, encoded, histogram, noise, power_sums, tally_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets.folder import pil_loader

from imgnorm.pixels.count import count
from imgnorm.pixels.formats import decoder_of
from imgnorm.settings import CHANNELS, SCALE, CenterCrop, ImageSettings, Resize
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.tally.tally import Counted, Tally

ASSORTED = {
    "rgb.png": encoded(noise(7, 9, seed=1)),
    "gray.png": encoded(noise(5, 4, 1, seed=2)),
    "rgba.png": encoded(noise(6, 6, 4, seed=3)),
    "palette.gif": encoded(noise(8, 8, seed=4).quantize(16), "GIF"),
    "photo.jpg": encoded(noise(33, 17, seed=5), "JPEG"),
    "cmyk.jpg": encoded(noise(9, 9, seed=6).convert("CMYK"), "JPEG"),
    "bilevel.tif": encoded(noise(12, 13, 1, seed=7).convert("1"), "TIFF"),
    "one.png": encoded(noise(1, 1, seed=8)),
}


def loaded(data: bytes, mode: str, tmp_path) -> np.ndarray:
    path = tmp_path / "image"
    path.write_bytes(data)
    if mode == "RGB":
        return as_images(pil_loader(path))
    with Image.open(path) as picture:
        return as_images(picture.convert(mode))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_histogram_and_sums_are_those_of_the_pixels_that_torchvision_loads(mode, tmp_path):
    pictures = [loaded(data, mode, tmp_path) for data in ASSORTED.values()]

    counted = tally_of(ASSORTED, mode).counted

    assert [mode] == list(counted)
    assert histogram(pictures) == counted[mode].histogram
    assert power_sums(pictures) == counted[mode].histogram.moments()
    assert len(ASSORTED) == counted[mode].images


def test_mode_auto_keeps_gray_apart_and_both_parts_are_exact(tmp_path):
    gray = ("gray.png", "bilevel.tif")
    parts = {
        "L": [loaded(ASSORTED[name], "L", tmp_path) for name in gray],
        "RGB": [loaded(ASSORTED[name], "RGB", tmp_path) for name in ASSORTED if name not in gray],
    }

    counted = tally_of(ASSORTED).counted

    assert {mode: histogram(part) for mode, part in parts.items()} == {
        mode: part.histogram for mode, part in counted.items()
    }


def test_what_was_met_is_reported_as_the_files_have_it():
    counted = tally_of(ASSORTED, "RGB").counted["RGB"]

    assert {"RGB": 3, "L": 1, "RGBA": 1, "P": 1, "CMYK": 1, "1": 1} == dict(counted.modes)
    assert {"PNG": 4, "GIF": 1, "JPEG": 2, "TIFF": 1} == dict(counted.formats)


def test_every_format_met_has_its_decoder():
    decoders = tally_of({**ASSORTED, "open": noise(3, 3)}, "RGB").decoders

    assert {name: decoder_of(name) for name in ("PNG", "GIF", "JPEG", "TIFF", "PIL")} == decoders


def test_the_bytes_that_were_read_are_counted():
    broken = {**ASSORTED, "empty": b"", "text": b"hello"}

    assert sum(map(len, ASSORTED.values())) + 5 == tally_of(broken).bytes_read


def test_an_image_that_was_opened_by_somebody_else_counts_the_same():
    picture = noise(6, 5)

    opened, read = tally_of({"a": picture}), tally_of({"a": encoded(picture)})

    assert read.counted["RGB"].histogram == opened.counted["RGB"].histogram
    assert {"PIL": 1} == dict(opened.counted["RGB"].formats)


def test_16_bit_images_are_counted_in_65536_bins():
    rng = np.random.default_rng(9)
    pixels = [rng.integers(0, 65536, shape, np.uint16) for shape in ((5, 7), (1, 1), (30, 2))]
    images = {str(i): encoded(Image.fromarray(p)) for i, p in enumerate(pixels)}
    wide = [p.astype(np.int64)[:, :, np.newaxis] for p in pixels]

    tally = tally_of(images)

    assert histogram(wide, 65536) == tally.counted["I;16"].histogram
    assert power_sums(wide) == tally.counted["I;16"].histogram.moments()
    assert tuple(images) == tally.names_16bit


def test_16_bit_images_that_were_asked_for_are_not_held_in_doubt():
    images = {"a": encoded(Image.fromarray(np.full((2, 2), 40000, np.uint16)))}

    assert () == tally_of(images, "I;16").names_16bit


def test_big_endian_16_bit_counts_as_little_endian():
    pixels = np.random.default_rng(10).integers(0, 65536, (11, 8), np.uint16)
    big = Image.frombytes("I;16B", (8, 11), pixels.astype(">u2").tobytes())
    settings_ = ImageSettings("I;16", (Resize(5), CenterCrop(9)))

    parts = [
        count(MemorySource({"a": encoded(picture, "TIFF")}), ["a"], settings_, max_pixels=10**6)[0]
        for picture in (Image.fromarray(pixels), big)
    ]

    assert parts[0].counted["I;16"].histogram == parts[1].counted["I;16"].histogram


def test_preprocessed_pixels_are_counted():
    picture = noise(40, 30)
    steps = (Resize(16), CenterCrop(12))

    tally, _ = count(
        MemorySource({"a": encoded(picture)}),
        ["a"],
        ImageSettings("RGB", steps),
        max_pixels=10**6,
    )

    small = picture.resize((16, 21), Image.Resampling.BILINEAR).crop((2, 4, 14, 16))
    assert histogram([as_images(small)]) == tally.counted["RGB"].histogram


# How it runs never changes a digit


@pytest.mark.parametrize("images", [1, 169, 170, 171, 345])
def test_the_size_of_a_batch_does_not_matter(images):
    """Small images share a histogram; alone, each has its own."""
    encoded_images = {
        str(i): encoded(noise(1 + i % 3, 1 + i % 5, seed=i), "PPM") for i in range(images)
    }

    alone = [tally_of({name: data}) for name, data in encoded_images.items()]

    assert sum(alone, Tally()) == tally_of(encoded_images)


def test_work_in_pieces_adds_up_to_the_whole(monkeypatch):
    whole = tally_of(ASSORTED)
    monkeypatch.setattr("imgnorm.pixels.count._JOB_BYTES", 300)
    source, names = MemorySource(ASSORTED), list(ASSORTED)

    pieces = []
    while names:
        tally, done = count(source, names, ImageSettings(), max_pixels=10**6)
        pieces.append(tally)
        names = names[done:]

    assert len(ASSORTED) > len(pieces) > 1
    assert list(ASSORTED) == source.reads
    assert whole == sum(pieces, Tally())


def test_a_piece_of_work_ends_when_its_time_is_up(monkeypatch):
    monkeypatch.setattr("imgnorm.pixels.count.JOB_SECONDS", 0.0)

    tally, done = count(MemorySource(ASSORTED), list(ASSORTED), ImageSettings(), max_pixels=10**6)

    assert (1, 1) == (done, tally.images)


def test_no_names_are_no_work():
    assert (Tally(), 0) == count(MemorySource({}), [], ImageSettings(), max_pixels=1)


@given(st.permutations(list(ASSORTED)), st.integers(0, len(ASSORTED)))
@settings(deadline=None, max_examples=25)
def test_tallies_add_up_in_any_order(names, cut):
    images = {name: ASSORTED[name] for name in names}
    parts = [tally_of({n: images[n] for n in part}) for part in (names[:cut], names[cut:])]

    merged = parts[1] + parts[0]

    assert tally_of(ASSORTED).counted == merged.counted


# What cannot be counted


def test_one_broken_image_costs_one_image():
    images = {
        "a.png": ASSORTED["rgb.png"],
        "b.png": b"",
        "c.png": Unreadable(Reason.VANISHED, "No such file or directory"),
        "d.png": MemoryError(),
        "e.png": b"GIF89a",
        "f.png": ASSORTED["one.png"],
    }

    tally = tally_of(images)

    assert 2 == tally.images
    assert (
        Skipped("b.png", Reason.EMPTY_FILE, "0 bytes", 0),
        Skipped("c.png", Reason.VANISHED, "No such file or directory", None),
        Skipped("d.png", Reason.OUT_OF_MEMORY, "not enough memory to decode it", None),
        Skipped("e.png", Reason.CORRUPT, "not a readable GIF file", 6),
    ) == tally.skipped


def test_an_image_for_which_there_is_no_memory_is_skipped():
    def refuse(size: int) -> None:
        raise Unreadable(Reason.OUT_OF_MEMORY, f"{size} bytes")

    # 7 x 9 pixels of 4 bytes, and 6 bytes a pixel for the decoder.
    expected = Skipped("rgb.png", Reason.OUT_OF_MEMORY, "630 bytes", len(ASSORTED["rgb.png"]))
    assert (expected,) == tally_of({"rgb.png": ASSORTED["rgb.png"]}, reserve=refuse).skipped


def test_each_image_is_announced_before_it_is_touched():
    """After a crash the main process reads the index of the image that caused it."""
    source = MemorySource(ASSORTED)
    seen: list[tuple[int, int]] = []

    count(
        source,
        list(ASSORTED),
        ImageSettings(),
        max_pixels=10**6,
        starting=lambda index: seen.append((index, len(source.reads))),
    )

    assert [(i, i) for i in range(len(ASSORTED))] == seen


# Gray images among colored ones


def test_gray_that_is_replicated_later_equals_gray_that_is_replicated_first():
    """So `--mode auto` needs no second pass."""
    images = {"a": encoded(noise(5, 6, 1, seed=1)), "b": encoded(noise(4, 4, 1, seed=2))}

    later = tally_of(images, "auto").counted["L"].replicated(3)

    assert later == tally_of(images, "RGB").counted["RGB"]


@pytest.mark.parametrize("mode", CHANNELS)
def test_nothing_counted_is_the_neutral_element(mode):
    images = {"a": encoded(Image.fromarray(np.full((2, 3), 70, np.uint16)))}
    data = images if mode == "I;16" else {"a": ASSORTED["rgb.png"]}

    counted = tally_of(data, mode).counted[mode]

    assert counted == counted + Counted.zero(mode)
    assert SCALE[mode] + 1 == counted.histogram.bins
