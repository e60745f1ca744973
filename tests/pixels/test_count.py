"""What one worker counts, against NumPy int64 sums over the pixels of torchvision's own loader."""

from __future__ import annotations

import io
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from torchvision.datasets.folder import pil_loader

from imgnorm.pixels import planes
from imgnorm.pixels.count import count, count_arrays, sums_of
from imgnorm.pixels.formats import decoder_of
from imgnorm.pixels.jpeg import JpegDecoder
from imgnorm.pixels.planes import PlaneCounter
from imgnorm.settings import CHANNELS, SCALE, CenterCrop, ImageSettings, Resize
from imgnorm.sources.source import Listing
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import UNIT_BITS, ImageSums, Moments
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.tally.tally import Counted, Tally


@dataclass
class MemorySource:
    """Encoded images by name; an exception in place of an image is raised."""

    images: dict[str, bytes | Image.Image | Exception]
    kind: str = "memory"
    ref: str = "memory"
    reads: list[str] = field(default_factory=list)

    def listing(self) -> Listing:
        return Listing(sorted(self.images))

    def class_of(self, name: str) -> str | None:
        return None

    def read(self, name: str) -> bytes | Image.Image:
        self.reads.append(name)
        found = self.images[name]
        if isinstance(found, Exception):
            raise found
        return found


def encoded(picture: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Image.fromarray(rng.integers(0, 256, shape, np.uint8))


def tally_of(
    images: dict[str, bytes | Image.Image | Exception], mode: str = "auto", **options: object
) -> Tally:
    limits = {"max_pixels": 10**8, **options}
    tally, done = count(MemorySource(images), list(images), ImageSettings(mode), **limits)
    assert len(images) == done
    return tally


def as_images(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels.reshape(*pixels.shape[:2], -1).astype(np.int64)


def power_sums(pictures: list[np.ndarray]) -> Moments:
    return Moments(
        sum(p.shape[0] * p.shape[1] for p in pictures),
        tuple(sum(p.sum(axis=(0, 1)) for p in pictures).tolist()),
        tuple(sum((p * p).sum(axis=(0, 1)) for p in pictures).tolist()),
    )


def histogram(pictures: list[np.ndarray], bins: int = 256) -> Histogram:
    channels = pictures[0].shape[2]
    flat = [np.concatenate([p[:, :, c].ravel() for p in pictures]) for c in range(channels)]
    return Histogram(tuple(tuple(np.bincount(c, minlength=bins).tolist()) for c in flat))


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
    """170 RGB histograms are summed at once; alone, each is a batch of its own."""
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

    # 7 x 9 pixels of 4 bytes, and 6 a pixel for what the decoder keeps.
    expected = Skipped("rgb.png", Reason.OUT_OF_MEMORY, "630 bytes", len(ASSORTED["rgb.png"]))
    assert (expected,) == tally_of({"rgb.png": ASSORTED["rgb.png"]}, reserve=refuse).skipped


def test_each_image_is_announced_before_it_is_touched():
    """What the parent reads after a crash: the index of the image that did it."""
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


# Images that are an array already


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_array_counts_as_the_same_images_in_files(mode):
    channels = len(CHANNELS[mode])
    images = np.random.default_rng(11).integers(0, 256, (50, 6, 5, channels), np.uint8)
    files = {
        f"{i:02d}": encoded(Image.fromarray(image[:, :, 0] if channels == 1 else image))
        for i, image in enumerate(images)
    }

    expected = tally_of(files, mode).counted[mode]

    assert {mode: replace(expected, modes={mode: 50}, formats={"array": 50})} == (
        count_arrays(images, mode).counted
    )


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.just(3)))
)
def test_any_array_gives_numpy_s_sums(images):
    counted = count_arrays(images, "RGB").counted["RGB"]

    assert power_sums(list(images.astype(np.int64))) == counted.histogram.moments()


def test_blocks_of_an_array_do_not_matter():
    """2,097,152 pixels are counted at once: here 32 images, and the rest."""
    images = np.random.default_rng(12).integers(0, 256, (37, 256, 256, 3), np.uint8)

    alone = [count_arrays(images[i : i + 1], "RGB") for i in range(len(images))]

    assert sum(alone, Tally()) == count_arrays(images, "RGB")


def test_an_array_of_any_layout_in_memory_counts_the_same():
    images = np.random.default_rng(13).integers(0, 256, (7, 3, 5, 4), np.uint8)
    view = images.transpose(0, 2, 3, 1)

    assert count_arrays(np.ascontiguousarray(view), "RGB") == count_arrays(view, "RGB")


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_any_number_of_threads_counts_an_array_alike(monkeypatch, threads):
    monkeypatch.setattr(planes, "_PIXELS", 100)
    images = np.random.default_rng(14).integers(0, 256, (99, 6, 4, 3), np.uint8)

    assert count_arrays(images, "RGB", cross_sums=True) == (
        count_arrays(images, "RGB", cross_sums=True, threads=threads)
    )


def test_what_goes_wrong_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(planes, "_PIXELS", 100)
    images = np.random.default_rng(15).integers(0, 256, (99, 6, 4, 3), np.uint8)

    def fail(self: PlaneCounter, images: np.ndarray) -> None:
        raise MemoryError("in a thread")

    monkeypatch.setattr(PlaneCounter, "count", fail)
    with pytest.raises(MemoryError, match="in a thread"):
        count_arrays(images, "RGB", threads=2)


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (0, 0, 0, 3)])
def test_no_images_in_an_array_are_an_empty_tally(shape):
    assert Tally() == count_arrays(np.zeros(shape, np.uint8), "RGB")


# Per-image sums


def by_hand(histograms: np.ndarray) -> ImageSums:
    """One image and one channel at a time, by Python's own integers and floats."""
    scale = histograms.shape[2] - 1
    channels = range(histograms.shape[1])
    totals: Counter[tuple[str, int]] = Counter()
    one_pixel = 0
    for image in histograms.tolist():
        pixels = sum(image[0])
        one_pixel += pixels == 1
        for c in channels:
            total = sum(v * n for v, n in enumerate(image[c]))
            total_sq = sum(v * v * n for v, n in enumerate(image[c]))
            spread = float(pixels * total_sq - total * total)
            values = {
                "mean": total / float(pixels * scale),
                "mean_sq": total_sq / float(pixels * scale * scale),
                "std": math.sqrt(spread) / float(pixels * scale),
                "std_1": math.sqrt(spread / float(pixels * (pixels - 1))) / scale
                if pixels > 1
                else 0.0,
            }
            for name, value in values.items():
                units = Fraction(value) * 2**UNIT_BITS
                assert units.denominator == 1
                totals[name, c] += int(units)
    columns = {
        name: tuple(totals[name, c] for c in channels)
        for name in ("mean", "mean_sq", "std", "std_1")
    }
    return ImageSums(len(histograms), **columns, one_pixel=one_pixel)


def random_histograms(images: int, channels: int, bins: int, pixels: int) -> np.ndarray:
    rng = np.random.default_rng(images + bins + pixels)
    values = rng.integers(0, bins, (images, channels, pixels))
    rows = [[np.bincount(c, minlength=bins) for c in image] for image in values]
    return np.array(rows, np.int64)


@pytest.mark.parametrize("bins", [256, 65536])
@pytest.mark.parametrize(("images", "pixels"), [(1, 1), (1, 2), (5, 1), (3, 1000), (40, 7)])
def test_per_image_sums_are_those_of_a_plain_loop(images, pixels, bins):
    images = min(images, 5) if bins == 65536 else images
    histograms = random_histograms(images, 3, bins, pixels)

    assert by_hand(histograms) == sums_of(histograms)


def test_per_image_sums_of_more_images_than_an_int64_holds_mantissas_of():
    """1,024 mantissas of 53 bits fill an int64: here all are as large as can be."""
    histograms = np.zeros((2100, 1, 256), np.int64)
    histograms[:, 0, 254] = 3
    histograms[:, 0, 255] = 1

    assert by_hand(histograms) == sums_of(histograms)


def test_the_true_per_image_values_are_met_to_the_last_digits():
    """Against the true rational values: each float is rounded at most 3 times."""
    histograms = random_histograms(1, 1, 65536, 5000)
    (counts,) = histograms[0].tolist()
    pixels = sum(counts)
    mean = Fraction(sum(v * n for v, n in enumerate(counts)), pixels * 65535)
    mean_sq = Fraction(sum(v * v * n for v, n in enumerate(counts)), pixels * 65535**2)

    sums = sums_of(histograms)

    found = [Fraction(s[0], 2**UNIT_BITS) for s in (sums.mean, sums.mean_sq, sums.std, sums.std_1)]
    variance = mean_sq - mean**2
    assert abs(found[0] / mean - 1) <= Fraction(2, 2**53)
    assert abs(found[1] / mean_sq - 1) <= Fraction(3, 2**53)
    assert abs(found[2] ** 2 / variance - 1) <= Fraction(6, 2**53)
    assert abs(found[3] ** 2 / (variance * pixels / (pixels - 1)) - 1) <= Fraction(6, 2**53)


WIDE = {
    "12 megapixels, half white": {0: 6_100_000, 255: 6_100_000},
    "40 megapixels, a tenth white, between 2^63 and 2^64": {0: 36_000_000, 255: 4_000_000},
    "179 megapixels, white": {255: 178_956_970},
    "179 megapixels, one dim pixel": {0: 178_956_969, 1: 1},
    "2^31 pixels, all levels": dict.fromkeys(range(256), 2**23),
}


@pytest.mark.parametrize("counts", WIDE.values(), ids=WIDE)
def test_images_above_12_megapixels_are_counted_in_wide_integers(counts):
    """n · Σx² no longer fits into an int64."""
    histograms = np.zeros((1, 2, 256), np.int64)
    for value, pixels in counts.items():
        histograms[0, :, value] = pixels

    assert by_hand(histograms) == sums_of(histograms)


def test_a_large_16_bit_image_is_counted_in_wide_integers():
    histograms = np.zeros((1, 1, 65536), np.int64)
    histograms[0, 0, [0, 40000, 65535]] = 50_000_000, 1, 128_956_969

    assert by_hand(histograms) == sums_of(histograms)


def test_a_large_image_in_a_batch_changes_no_digit_of_the_small_ones():
    histograms = random_histograms(4, 1, 256, 100)
    histograms[2, 0, :] = 200_000

    together = sums_of(histograms)

    assert sum((sums_of(h[np.newaxis]) for h in histograms), ImageSums.zero(1)) == together


def test_a_real_image_above_12_megapixels_is_counted():
    pixels = np.zeros((3500, 3500), np.uint8)
    pixels[:, 1000:] = 255
    picture = Image.fromarray(pixels)

    sums = tally_of({"a": encoded(picture, "PPM")}).counted["L"].sums

    mean = 2500 / 3500
    # 0/255 pixels: mean of squares = mean, std = sqrt(p (1 - p)) of p = 5/7.
    assert (mean, mean) == (sums.mean[0] / 2**UNIT_BITS, sums.mean_sq[0] / 2**UNIT_BITS)
    assert Fraction(sums.std[0], 2**UNIT_BITS) == pytest.approx(math.sqrt(10 / 49), rel=1e-15)


def test_a_constant_image_has_exactly_no_std():
    histograms = np.zeros((256, 1, 256), np.int64)
    histograms[range(256), 0, range(256)] = 12_345

    sums = sums_of(histograms)

    assert ((0,), (0,), 0) == (sums.std, sums.std_1, sums.one_pixel)


def test_one_pixel_images_are_told_apart():
    counted = tally_of({"a": ASSORTED["one.png"], "b": ASSORTED["rgb.png"]}).counted["RGB"]

    assert 1 == counted.sums.one_pixel
    assert "mean_of_image_std_correction_1" not in counted.sums.conventions()


# Gray among colour


def test_gray_that_is_replicated_later_equals_gray_that_is_replicated_first():
    """mode auto costs no second pass."""
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


# Small images share a count


def reference(pictures: list[np.ndarray], scale: int = 255) -> tuple:
    """NumPy int64 over each image by itself."""
    shown = [p.reshape(-1, p.shape[2] if p.ndim == 3 else 1).astype(np.int64) for p in pictures]
    channels = shown[0].shape[1]
    histograms = np.stack(
        [[np.bincount(p[:, c], minlength=scale + 1) for c in range(channels)] for p in shown]
    )
    return tuple(map(tuple, histograms.sum(axis=0).tolist())), by_hand(histograms)


SIZES = [(1, 1), (1, 7), (32, 32), (31, 33), (128, 128), (1, 16384), (129, 128), (16385, 1)]


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_small_and_large_images_are_counted_alike(mode, format_):
    """Up to 128x128 pixels they wait for others, in memory of their own; mixed here, and many."""
    rng = np.random.default_rng(5)
    pictures = []
    for index in range(120):
        height, width = SIZES[index % len(SIZES)]
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        pixels[:, :, index % 3] = index
        pictures.append(Image.fromarray(pixels).convert("L" if mode == "L" else "RGB"))
    files = {f"{index:03}": encoded(p, format_) for index, p in enumerate(pictures)}
    shown = [
        np.asarray(Image.open(io.BytesIO(data)).convert(mode)) for _, data in sorted(files.items())
    ]
    for jpeg in (None, JpegDecoder()):
        source = MemorySource(files)
        tally, done = count(source, sorted(files), ImageSettings(mode), max_pixels=10**8, jpeg=jpeg)

        assert 120 == done
        counted = tally.counted[mode]
        assert reference(shown) == (counted.histogram.counts, counted.sums)


def test_white_images_at_the_limit_do_not_overflow():
    white = Image.new("L", (128, 128), 255)
    files = {f"{index}": encoded(white, "PNG") for index in range(40)}

    counted = tally_of(files).counted["L"]

    assert reference([np.full((128, 128), 255, np.uint8)] * 40) == (
        counted.histogram.counts,
        counted.sums,
    )


@pytest.mark.parametrize(("height", "width"), [(255, 257), (256, 256), (300, 300)])
def test_large_white_arrays_do_not_overflow(height, width):
    """The Σx² of 2**16 white pixels is the last that fits into 32 bits."""
    images = np.full((3, height, width, 1), 255, np.uint8)

    counted = count_arrays(images, "L").counted["L"]

    assert reference(list(images)) == (counted.histogram.counts, counted.sums)
