"""What one worker counts, against NumPy int64 sums over the pixels of torchvision's own loader."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
from counting import (
    MemorySource,
    as_images,
    encoded,
    histogram,
    job_count,
    noise,
    power_sums,
    tally_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets.folder import pil_loader

from imgnorm.pixels.count import Counting, JobCount, UnitEntries, count
from imgnorm.pixels.formats import decoder_of
from imgnorm.settings import CHANNELS, CenterCrop, Digits, ImageSettings, Resize, scale_of
from imgnorm.sources.source import Ignored, Unit, Unread
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
        job_count(
            MemorySource({"a": encoded(picture, "TIFF")}), ["a"], Counting(Digits(settings_, 10**6))
        ).tally
        for picture in (Image.fromarray(pixels), big)
    ]

    assert parts[0].counted["I;16"].histogram == parts[1].counted["I;16"].histogram


def test_preprocessed_pixels_are_counted():
    picture = noise(40, 30)
    steps = (Resize(16), CenterCrop(12))

    source = MemorySource({"a": encoded(picture)})
    tally = job_count(source, ["a"], Counting(Digits(ImageSettings("RGB", steps), 10**6))).tally

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
    source, counting = MemorySource(ASSORTED), Counting(Digits(ImageSettings(), 10**6))
    entries = UnitEntries(source, Unit("all", list(ASSORTED)))

    pieces, finished = [], False
    while not finished:
        counted = count(entries, counting)
        pieces.append(counted.tally)
        finished = counted.finished

    assert len(ASSORTED) > len(pieces) > 1
    assert list(ASSORTED) == source.reads
    assert whole == sum(pieces, Tally())


def test_a_piece_of_work_ends_when_its_time_is_up(monkeypatch):
    monkeypatch.setattr("imgnorm.pixels.count.JOB_SECONDS", 0.0)

    counted = job_count(
        MemorySource(ASSORTED), list(ASSORTED), Counting(Digits(ImageSettings(), 10**6))
    )

    assert (1, 1) == (counted.images, counted.tally.images)
    assert not counted.finished


def test_no_names_are_no_work():
    counting = Counting(Digits(ImageSettings(), 1))

    assert JobCount(Tally(), 0, finished=True) == job_count(MemorySource({}), [], counting)


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

    job_count(
        source,
        list(ASSORTED),
        Counting(Digits(ImageSettings(), 10**6)),
        starting=lambda index: seen.append((index, len(source.reads))),
    )

    assert [(i, i) for i in range(len(ASSORTED))] == seen


# What follows from the names


class _InClasses(MemorySource):
    def class_of(self, name: str) -> str | None:
        folder, slash, _ = name.partition("/")
        return folder if slash else None


class _Given(MemorySource):
    """Gives these entries."""

    def __init__(self, entries):
        super().__init__({})
        self.entries = entries

    def images(self, unit):
        return iter(self.entries)


def _sha_sum(names: list[str]) -> int:
    return sum(int.from_bytes(sha256(name.encode()).digest(), "big") for name in names)


def test_a_tally_has_the_digests_and_the_classes_of_what_was_counted():
    files = {"a/1": ASSORTED["rgb.png"], "a/2": b"", "b/1": ASSORTED["one.png"], "c": b"x"}

    tally = job_count(
        _InClasses(files),
        list(files),
        Counting(Digits(ImageSettings(), 10**6), class_of=_InClasses(files).class_of),
    ).tally

    assert 4 == tally.names
    assert _sha_sum(list(files)) == tally.names_sum
    assert _sha_sum(["a/1", "b/1"]) == tally.counted_sum
    assert {"a": 1, "b": 1} == {name: one.images for name, one in tally.classes.items()}
    assert not any(one.moments for one in tally.classes.values())


def test_moments_of_classes_are_those_of_their_images():
    files = {"a/1": ASSORTED["rgb.png"], "b/1": ASSORTED["one.png"], "a/2": ASSORTED["gray.png"]}
    source = _InClasses(files)
    counting = Counting(
        Digits(ImageSettings("RGB"), 10**6, per_class=True), class_of=source.class_of
    )

    classes = job_count(source, list(files), counting).tally.classes

    for name in ("a", "b"):
        alone = tally_of({n: data for n, data in files.items() if n[0] == name}, "RGB")
        assert {"RGB": alone.counted["RGB"].pixels.moments()} == classes[name].moments
        assert alone.images == classes[name].images


def test_what_a_unit_skips_or_ignores_is_not_looked_at():
    entries = [
        Skipped("link.png", Reason.ARCHIVE_ENTRY_UNSAFE, "a hard link, not a file"),
        Unread("a.png", lambda: ASSORTED["rgb.png"]),
        Ignored({"suffix": 2}),
    ]

    counted = count(
        UnitEntries(_Given(entries), Unit("x.tar")), Counting(Digits(ImageSettings(), 10**6))
    )

    assert (1, 1, True) == (counted.images, counted.tally.names, counted.finished)
    assert (entries[0],) == counted.tally.skipped
    assert {"suffix": 2} == counted.tally.ignored
    assert counted.tally.names_sum == counted.tally.counted_sum == _sha_sum(["a.png"])


def test_a_unit_that_cannot_be_read_is_skipped_by_its_id():
    def entries():
        yield Unread("x.tar/a.png", lambda: ASSORTED["rgb.png"])
        raise Unreadable(Reason.READ_ERROR, "Input/output error")

    counted = count(
        UnitEntries(_Given(entries()), Unit("x.tar")), Counting(Digits(ImageSettings(), 10**6))
    )

    assert (1, True) == (counted.tally.images, counted.finished)
    assert (Skipped("x.tar", Reason.READ_ERROR, "Input/output error"),) == counted.tally.skipped


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
    assert scale_of(mode) + 1 == counted.histogram.bins
