"""Lists, generators and Datasets of map style are counted exactly; an image that fails is listed by name."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import imgnorm
from imgnorm.errors import IncompatibleStats, SourceError
from imgnorm.progress import Profile
from imgnorm.tally.moments import Moments
from imgnorm.tally.skipped import Reason

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "examples" / "shapes"
RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (20, 6, 5, 3), np.uint8)


def power_sums(images) -> Moments:
    """Of (H, W, C) images of any sizes, in NumPy's int64."""
    wide = np.concatenate([np.asarray(i).reshape(-1, np.asarray(i).shape[-1]) for i in images])
    wide = wide.astype(np.int64)
    return Moments(
        len(wide), tuple(wide.sum(axis=0).tolist()), tuple((wide * wide).sum(axis=0).tolist())
    )


def moments_of(stats: imgnorm.Stats) -> Moments:
    return stats.measurement.histogram.moments()


def bytes_of(stats: imgnorm.Stats, folder: Path) -> bytes:
    path = folder / "stats.yaml"
    imgnorm.write_stats(path, stats)
    assert imgnorm.read_stats(path) == stats
    return path.read_bytes()


def pictures():
    return [Image.fromarray(image) for image in IMAGES]


class Indexed:
    """A Dataset of map style, which needs no torch."""

    def __init__(self, items) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index):
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


@pytest.fixture
def small_units(monkeypatch) -> None:
    """Units of two images, so that a small Dataset has some for each shard."""
    monkeypatch.setattr("imgnorm.datasets.indexed._UNIT_IMAGES", 2)


# Exact


@pytest.mark.parametrize(
    "source",
    [
        list(IMAGES),
        tuple(IMAGES),
        IMAGES,
        [IMAGES[:7], IMAGES[7:]],
        Indexed(IMAGES),
        Indexed(pictures()),
        Indexed([(image, 1) for image in IMAGES]),
        Indexed([{"image": image, "label": 1} for image in pictures()]),
        pictures(),
        torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy()),
        [torch.from_numpy(image.transpose(2, 0, 1).copy()) / 255 for image in IMAGES],
        Indexed([image / 255 for image in IMAGES]),
        [image.astype(np.float32) * np.float32(1 / 255) for image in IMAGES],
    ],
    ids=lambda source: type(source).__name__,
)
def test_every_kind_of_iterable_has_the_sums_of_its_pixels(source):
    stats = imgnorm.measure(source)

    assert (20, ("R", "G", "B"), ()) == (stats.images, stats.channels, stats.skipped)
    assert power_sums(IMAGES) == moments_of(stats)


def test_an_array_that_is_written_into_again_is_counted_as_it_was():
    """A generator may yield the same buffer each time."""

    def frames():
        buffer = np.empty((6, 5, 3), np.uint8)
        for image in IMAGES:
            buffer[:] = image
            yield buffer

    assert power_sums(IMAGES) == moments_of(imgnorm.measure(frames()))


def test_large_batches_are_counted_as_they_were():
    """They are counted where they lie; small ones between them are collected first."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (3000, 28, 28, 3), np.uint8)

    def batches():
        buffer = np.empty((1200, 28, 28, 3), np.uint8)
        yield images[:7]
        for start in (7, 1207):
            buffer[:] = images[start : start + 1200]
            yield buffer
        yield images[2407:].copy()

    stats = imgnorm.measure(batches())

    assert (3000, power_sums(images)) == (stats.images, moments_of(stats))
    assert power_sums(images) == moments_of(imgnorm.measure(images))
    grays = imgnorm.measure(torch.from_numpy(images[..., :1]).permute(0, 3, 1, 2))
    assert power_sums(images[..., :1]) == moments_of(grays)


def test_a_dataset_of_the_images_of_a_folder_has_its_integers():
    names = sorted(path for path in SHAPES.rglob("*") if path.is_file())

    folder = imgnorm.measure(SHAPES)
    opened = imgnorm.measure(Indexed([Image.open(name) for name in names]))
    as_rgb = imgnorm.measure(np.asarray(Image.open(name).convert("RGB")) for name in names)

    for stats in (opened, as_rgb):
        assert folder.measurement.histogram == stats.measurement.histogram
        assert folder.measurement.sums == stats.measurement.sums
        assert (folder.mean, folder.std) == (stats.mean, stats.std)
    assert folder.measurement.modes == opened.measurement.modes
    assert folder.measurement.formats == opened.measurement.formats
    assert folder.measurement.decoders == opened.measurement.decoders


def test_sizes_and_gray_and_color_mix_as_in_a_folder():
    mixed = [IMAGES[0], IMAGES[1][:4, :3], IMAGES[2][:, :, :1], IMAGES[3][..., 0]]

    stats = imgnorm.measure(mixed)

    wide = [*mixed[:2], *(np.repeat(i.reshape(6, 5, 1), 3, axis=2) for i in mixed[2:])]
    assert power_sums(wide) == moments_of(stats)
    assert {"RGB": 2, "L": 2} == dict(stats.measurement.modes)


def test_gray_alone_stays_gray_unless_asked_for():
    gray = list(IMAGES[..., 0])

    assert power_sums(IMAGES[..., :1]) == moments_of(imgnorm.measure(gray))
    replicated = np.repeat(IMAGES[..., :1], 3, axis=3)
    assert power_sums(replicated) == moments_of(imgnorm.measure(gray, mode="RGB"))


def test_16_bit_arrays_are_counted_in_65536_values():
    deep = RNG.integers(0, 65536, (4, 6, 5, 1), np.uint16)

    stats = imgnorm.measure(list(deep))

    assert (65535, ("I",)) == (stats.scale, stats.channels)
    assert power_sums(deep) == moments_of(stats)
    assert power_sums(deep) == moments_of(
        imgnorm.measure(torch.from_numpy(deep[..., 0]), layout="NHW")
    )


@pytest.mark.parametrize("mode", ["auto", "I;16"])
def test_16_bit_arrays_are_counted_in_either_byte_order(mode):
    """FITS files and PGM are big-endian."""
    deep = RNG.integers(0, 65536, (4, 6, 5, 1), np.uint16)

    assert power_sums(deep) == moments_of(imgnorm.measure(deep.astype(">u2"), mode=mode))


def test_pil_images_are_resized_as_torchvision_does_it():
    from torchvision.transforms import functional

    stats = imgnorm.measure(Indexed(pictures()), resize=4, center_crop=3)

    seen = [functional.center_crop(functional.resize(image, 4), 3) for image in pictures()]
    assert power_sums(map(np.asarray, seen)) == moments_of(stats)


# Choosing


def test_a_limit_is_spread_over_a_dataset_and_takes_the_first_of_a_stream():
    spread = imgnorm.measure(Indexed(IMAGES), limit=4)
    first = imgnorm.measure(iter(IMAGES), limit=4)
    within_a_batch = imgnorm.measure([IMAGES[:3], IMAGES[3:]], limit=4)

    assert power_sums(IMAGES[::5]) == moments_of(spread)
    assert power_sums(IMAGES[:4]) == moments_of(first) == moments_of(within_a_batch)
    assert {"limit": 16} == dict(spread.measurement.ignored)
    assert {"limit": 4} == dict(first.measurement.source.options)


def test_an_endless_iterable_ends_at_the_limit():
    stats = imgnorm.measure(itertools.cycle(IMAGES), limit=50)

    assert 50 == stats.images
    assert power_sums([*IMAGES, *IMAGES, *IMAGES[:10]]) == moments_of(stats)


@pytest.mark.usefixtures("small_units")
def test_shards_of_a_dataset_merge_to_the_whole(tmp_path):
    parts = [imgnorm.measure(Indexed(IMAGES), shard=(i, 3)) for i in (1, 2, 3)]

    assert [8, 6, 6] == [part.images for part in parts]
    whole = bytes_of(imgnorm.measure(Indexed(IMAGES)), tmp_path)
    assert whole == bytes_of(imgnorm.merge(parts), tmp_path)


class Labelled(Indexed):
    classes = ("cat", "dog")
    targets = (0, 1) * 10


def test_each_class_of_a_dataset_has_the_sums_of_its_images():
    stats = imgnorm.measure(Labelled(IMAGES), per_class=True)

    found = {name: (one.images, one.moments) for name, one in stats.measurement.classes.items()}
    assert {
        "cat": (10, power_sums(IMAGES[::2])),
        "dog": (10, power_sums(IMAGES[1::2])),
    } == found


class OfFiles(Labelled):
    def __init__(self, root: Path) -> None:
        self.root = str(root)
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        self.samples = [(str(path), 0) for path in paths]
        super().__init__([Image.open(path) for path in paths])


def test_a_dataset_that_keeps_its_paths_has_them_for_names():
    stats, folder = imgnorm.measure(OfFiles(SHAPES)), imgnorm.measure(SHAPES)

    assert folder.measurement.source.names_sha256 == stats.measurement.source.names_sha256


def test_paths_outside_the_root_are_no_names(tmp_path):
    dataset = OfFiles(SHAPES)
    dataset.root = str(tmp_path)

    numbers = Indexed(dataset.items)

    digest = imgnorm.measure(numbers).measurement.source.names_sha256
    assert digest == imgnorm.measure(dataset).measurement.source.names_sha256


def test_where_it_comes_from_is_told():
    def frames():
        yield from IMAGES

    found = [
        (source.measurement.source.kind, source.measurement.source.ref)
        for source in map(
            imgnorm.measure, [Indexed(IMAGES), list(IMAGES), frames(), IMAGES, iter(IMAGES)]
        )
    ]

    assert [
        ("dataset", "Indexed[20]"),
        ("iterable", "list[20]"),
        ("iterable", "generator frames"),
        ("iterable", "ndarray"),
        ("iterable", "iterator"),
    ] == found


def test_the_key_is_kept_with_the_numbers(tmp_path):
    pairs = Indexed([{"left": image, "right": image[::2]} for image in IMAGES])

    left, right = (imgnorm.measure(pairs, key=key) for key in ("left", "right"))

    assert {"key": "right"} == dict(right.measurement.source.options)
    assert "key: right\n" in bytes_of(right, tmp_path).decode()
    assert 40 == (left + right).images


# What goes wrong


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_an_item_that_raises_is_skipped_by_name():
    class Ours(Exception):
        pass

    bad = [
        (OSError("image file is truncated (3 bytes not processed)"), Reason.TRUNCATED),
        (FileNotFoundError(2, "No such file"), Reason.VANISHED),
        (PermissionError(13, "Permission denied"), Reason.UNREADABLE),
        (MemoryError(), Reason.OUT_OF_MEMORY),
        (Image.DecompressionBombError("too big"), Reason.TOO_LARGE),
        (KeyError("label"), Reason.CORRUPT),
        (Ours("what only\nthis dataset raises"), Reason.CORRUPT),
        (None, Reason.NOT_AN_IMAGE),
        (np.zeros((4, 0, 3), np.uint8), Reason.ZERO_AREA),
        (np.zeros((4, 4), np.int32), Reason.UNSUPPORTED_MODE),
        (np.full((4, 4), np.nan), Reason.NONFINITE_PIXELS),
    ]

    stats = imgnorm.measure(Indexed([*IMAGES, *(item for item, _ in bad)]))

    assert power_sums(IMAGES) == moments_of(stats)
    assert [(str(20 + i), reason) for i, (_, reason) in enumerate(bad)] == [
        (skipped.name, skipped.reason) for skipped in stats.skipped
    ]
    assert "Ours: what only this dataset raises" == stats.skipped[6].detail
    assert 31 == stats.measurement.found


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_arrays_of_another_mode_than_asked_for_are_skipped():
    stats = imgnorm.measure([IMAGES[0], IMAGES[1][..., :1]], mode="L")

    assert power_sums([IMAGES[1][..., :1]]) == moments_of(stats)
    assert [("0", Reason.CHANNEL_MISMATCH)] == [(s.name, s.reason) for s in stats.skipped]
    assert (
        "uint8 of 3 channels, not mode L; convert it in the dataset, or measure it separately"
        == stats.skipped[0].detail
    )


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_an_image_above_the_limit_of_pixels_is_skipped():
    stats = imgnorm.measure([IMAGES[0], np.zeros((10, 10, 3), np.uint8)], max_pixels=50)

    told = "10x10 is 100 pixels; the limit is 50 (--max-pixels)"
    assert [("1", Reason.TOO_LARGE, told)] == [(s.name, s.reason, s.detail) for s in stats.skipped]


class Sized:
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        yield from IMAGES


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_an_iterable_that_ends_early_lists_what_did_not_come():
    stats = imgnorm.measure(Sized(23))

    assert 20 == stats.images
    assert [(name, Reason.VANISHED, "len() is 23, but 20 came") for name in ("20", "21", "22")] == [
        (s.name, s.reason, s.detail) for s in stats.skipped
    ]
    assert 23 == stats.measurement.found


class Limitless:
    def __getitem__(self, index):
        return IMAGES[0]

    def __len__(self):
        return 1 << 40


def test_a_length_that_no_list_of_names_can_have_is_refused():
    with pytest.raises(SourceError) as caught:
        imgnorm.measure(Limitless(), limit=3)

    assert (
        "Limitless[1099511627776]: more than 200,000,000 images can only be measured as an iterable: "
        "give a generator, or a Subset of it"
    ) == str(caught.value)


class Raises:
    def __iter__(self):
        yield from IMAGES[:7]
        raise OSError("the disk is gone")


class Endless:
    def __getitem__(self, index):
        return IMAGES[0]

    def __len__(self):
        raise NotImplementedError


def exhausted():
    iterator = iter(list(IMAGES))
    list(iterator)
    return iterator


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        (
            exhausted(),
            {},
            "list_iterator: no images came; an iterator is empty after its first reading: make a new one",
        ),
        ([], {}, "list[0]: no images came"),
        (Indexed([]), {}, "Indexed[0]: is empty; give it images"),
        (Raises(), {}, "Raises: failed after 7 images: OSError: the disk is gone"),
        (
            Endless(),
            {},
            "Endless: does not report how many images it has; give it a __len__, or measure it as an iterable",
        ),
        (
            {"train": IMAGES},
            {},
            (
                "dict[1]: is a dict, whose images have no order; measure one of its values, or `[source]` if it is "
                "a batch"
            ),
        ),
        (
            [(7, IMAGES[0])],
            {},
            "list[1]: the first item is an int, not an image; if it is the label, name the image with `key=` (--key)",
        ),
        (
            Indexed([np.zeros((28, 28), np.int64)]),
            {},
            (
                "Indexed[1]: the first item is int64 of shape (28, 28); pixels are uint8, uint16 or float: convert "
                "them in the dataset, or, if these are labels, name the image with `key=` (--key)"
            ),
        ),
        (
            Indexed([IMAGES]),
            {},
            (
                "Indexed[1]: the first item is 20 images in one item of a Dataset, where one is expected; measure "
                "`DataLoader(dataset, batch_size=None)` instead"
            ),
        ),
        (
            Indexed(IMAGES),
            {"resize": 4},
            (
                "Indexed[20]: yields uint8 arrays, but only PIL images are resized or cropped here, as torchvision "
                "does it; do it in the dataset, and leave resize and center_crop out"
            ),
        ),
        (
            list(IMAGES),
            {"center_crop": 4},
            (
                "list[20]: yields uint8 arrays, but only PIL images are resized or cropped here, as torchvision does "
                "it; do it in the dataset, and leave resize and center_crop out"
            ),
        ),
        (
            list(IMAGES),
            {"shard": (1, 2), "per_class": True, "workers": 2, "timeout_s": 1.0},
            (
                "list[20]: timeout_s does nothing: this process reads the images, and nothing can interrupt it; "
                "leave it out; and workers does nothing: your own Python reads the images; give num_workers to "
                "its DataLoader, if it has one; and shard needs names, and these images come one after the other "
                "without any; shard the dataset itself; and per_class needs names, and these images come one "
                "after the other without any; measure the dataset itself"
            ),
        ),
        (
            list(IMAGES),
            {"tolerance": 0.1, "decoder": "pillow"},
            (
                "list[20]: decoder does nothing: your own Python decodes the images; leave it out; and tolerance "
                "needs a random sample, and these images come in an order of their own; measure the dataset itself"
            ),
        ),
        (
            Indexed(IMAGES),
            {"decoder": "pillow"},
            "Indexed[20]: decoder does nothing: your own Python decodes the images; leave it out",
        ),
        (
            Indexed(IMAGES),
            {"timeout_s": 1.0},
            "Indexed[20]: timeout_s does nothing: this process reads the images, and nothing can interrupt it; leave it out",
        ),
        (
            Indexed(IMAGES),
            {"per_class": True},
            "Indexed[20]: has no class folders; measure it without --per-class",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(source, options, expected):
    with pytest.raises(SourceError) as caught:
        imgnorm.measure(source, **options)

    assert expected == str(caught.value)


@pytest.mark.parametrize("source", [7, b"bytes", object, None])
def test_what_yields_no_images_is_a_type_error(source):
    with pytest.raises(
        TypeError, match=r"is neither a path nor a Dataset, a DataLoader or another"
    ):
        imgnorm.measure(source)


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        (SHAPES, {"key": "image"}, "key is for Datasets and iterables; leave it out"),
        (IMAGES, {"split": "test"}, "split is for torchvision:NAME; leave it out"),
        (IMAGES, {"layout": "W"}, "layout is 'W'; expected one of NHWC, NCHW, NHW, HWC, CHW, HW"),
        (IMAGES, {"limit": 0}, "limit is 0; it must be above 0"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(source, options, expected):
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        imgnorm.measure(source, **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"workers": True}, "workers is True; expected a whole number"),
        ({"limit": 2.5}, "limit is 2.5; expected a whole number"),
        ({"max_pixels": "9"}, "max_pixels is '9'; expected a whole number"),
        ({"timeout_s": "9"}, "timeout_s is '9'; expected a number"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused(options, expected):
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
        imgnorm.measure(IMAGES, **options)


# What it costs


@pytest.mark.parametrize("images", ["list(pixels)", "[PIL.Image.fromarray(p) for p in pixels]"])
def test_arrays_and_pil_images_are_measured_without_torch(images):
    program = (
        "import sys, numpy, PIL.Image, imgnorm; pixels = numpy.zeros((4, 5, 6, 3), numpy.uint8); "
        f"print(imgnorm.measure({images}).images, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "4 False\n" == done.stdout


def test_progress_is_told_with_the_total_if_it_is_known():
    told: list[tuple[int, int | None]] = []

    def note(progress):
        told.append((progress.done, progress.total))

    imgnorm.measure(Indexed(np.zeros((130, 2, 2, 3), np.uint8)), on_progress=note)
    imgnorm.measure(iter([IMAGES, IMAGES]), on_progress=note)

    assert [(64, 130), (128, 130), (130, 130), (20, None), (40, None)] == told


# Floats


FLOATS = RNG.normal(0.4, 0.2, (9, 6, 5, 3)).astype(np.float32)


def float_moments(images) -> tuple[list[Fraction], list[Fraction]]:
    """Mean and variance of (H, W, C) images, in rational numbers."""
    columns = np.concatenate([np.asarray(image).reshape(-1, image.shape[-1]) for image in images]).T
    means, variances = [], []
    for column in columns:
        values = [Fraction(float(value)) for value in column]
        mean = sum(values) / len(values)
        means.append(mean)
        variances.append(sum(value * value for value in values) / len(values) - mean * mean)
    return means, variances


def assert_exact(stats: imgnorm.Stats, images) -> None:
    means, variances = float_moments(images)
    assert tuple(map(float, means)) == stats.mean
    moments = stats.measurement.pixels.moments()
    unit = Fraction(1, 1 << moments.unit_bits)
    assert [mean * moments.count for mean in means] == [total * unit for total in moments.total]
    assert [(v + m * m) * moments.count for m, v in zip(means, variances, strict=True)] == [
        total * unit * unit for total in moments.total_sq
    ]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_summed_exactly_as_they_are(dtype, tmp_path):
    images = FLOATS.astype(dtype)

    stats = imgnorm.measure(list(images))

    assert "RGB;F" == stats.mode
    assert_exact(stats, images)
    assert bytes_of(stats, tmp_path) == bytes_of(imgnorm.measure([images[:4], images[4:]]), tmp_path).replace(
        b"list[2]", b"list[9]"
    )  # fmt: skip


def test_half_precision_is_summed_as_the_rounded_values_that_it_is():
    tensors = [(torch.from_numpy(i.transpose(2, 0, 1).copy()) / 255).bfloat16() for i in IMAGES]

    stats = imgnorm.measure(tensors)

    assert_exact(stats, [t.float().permute(1, 2, 0).numpy() for t in tensors])


def test_recognised_floats_among_others_stay_the_floats_that_they_are():
    """As 8-bit images either these would lose their last digits, or the others would."""
    recognised = [image / np.float32(255) for image in IMAGES[:3].astype(np.float32)]
    mixed = [*recognised, *FLOATS, recognised[0][:2]]

    stats = imgnorm.measure(mixed)

    assert_exact(stats, mixed)
    assert (13, {"RGB;F": 13}, {"array": 13}) == (
        stats.images,
        dict(stats.measurement.modes),
        dict(stats.measurement.formats),
    )
    back = imgnorm.measure(mixed[::-1]).measurement
    assert (stats.measurement.pixels, stats.measurement.sums) == (back.pixels, back.sums)


def test_recognised_floats_among_others_do_so_in_each_class():
    items = [
        image / np.float32(255) if i % 2 else FLOATS[i % 9]
        for i, image in enumerate(IMAGES.astype(np.float32))
    ]

    stats = imgnorm.measure(Labelled(items), per_class=True)

    assert_exact(stats, items)
    dog = stats.measurement.classes["dog"].moments
    assert tuple(map(float, float_moments(items[1::2])[0])) == dog.mean()


RECOGNISED = [image / np.float32(255) for image in IMAGES.astype(np.float32)]


@pytest.mark.usefixtures("small_units")
def test_shards_of_recognised_floats_merge_to_the_whole(tmp_path):
    items = [*RECOGNISED]
    items[1] = items[1][..., :1]
    dataset = Labelled(items)

    whole = bytes_of(imgnorm.measure(dataset, per_class=True), tmp_path)
    a, b, c, d = (imgnorm.measure(dataset, per_class=True, shard=(i, 4)) for i in range(1, 5))

    for merged in (imgnorm.merge([a, b, c, d]), (d + b) + (c + a), ((a + c) + b) + d):
        assert whole == bytes_of(merged, tmp_path)


@pytest.mark.usefixtures("small_units")
def test_shards_of_which_only_some_have_other_floats_do_not_merge():
    """Each was right to take its floats for what they are; together, all are floats."""
    items = [*RECOGNISED]
    items[2] = FLOATS[2]
    parts = [imgnorm.measure(Indexed(items), shard=(i, 2)) for i in (1, 2)]
    with pytest.raises(IncompatibleStats) as caught:
        imgnorm.merge(parts, labels=["a.yaml", "b.yaml"])

    assert (
        "b.yaml: float, but a.yaml was counted as 8-bit images, since all of its floats were k/255; "
        "measure both in one run, which counts all as floats"
    ) == str(caught.value)


def test_recognised_floats_are_told_in_the_report_and_in_the_file(tmp_path):
    from imgnorm.stats.table import table

    stats = imgnorm.measure([image / 255 for image in IMAGES])

    assert "formats: {float k/255: 20}\n" in bytes_of(stats, tmp_path).decode()
    told = "values   20 images came as floats, every value k/255: counted as the 8-bit images that they come from"
    assert told in table(stats).splitlines()


def test_gray_floats_are_three_equal_channels_among_colored_ones():
    mixed = [FLOATS[0], FLOATS[1][..., :1]]

    stats = imgnorm.measure(mixed)

    assert_exact(stats, [mixed[0], np.repeat(mixed[1], 3, axis=2)])


def test_a_mode_asked_for_is_that_of_as_many_channels():
    stats = imgnorm.measure([FLOATS[0][..., :1]], mode="RGB")

    assert "RGB;F" == stats.mode
    assert_exact(stats, [np.repeat(FLOATS[0][..., :1], 3, axis=2)])


def test_values_that_look_normalized_are_told():
    from imgnorm.stats.table import table

    normalized = [(image / 255 - 0.5) / 0.25 for image in IMAGES]

    with pytest.warns(imgnorm.SourceWarning) as caught:
        stats = imgnorm.measure(normalized)

    assert_exact(stats, normalized)
    note = (
        "the values look normalized already (some are below 0, and every mean is near it); if they are, "
        "leave Normalize out of the transform while you measure"
    )
    assert f"list[20]: {note}" == str(caught[0].message)
    assert f"note     {note}" in table(stats).splitlines()


@pytest.mark.parametrize(("low", "high"), [(-1e308, 1e308), (-256.0, 200.0), (0.0, 1.0)])
def test_values_that_no_normalize_gives_look_like_none(low, high):
    images = [np.full((2, 2, 3), value, np.float64) for value in (low, high)]

    assert not imgnorm.measure(images).looks_normalized


def test_gray_values_less_their_mean_look_normalized():
    with pytest.warns(imgnorm.SourceWarning):
        stats = imgnorm.measure([np.full((2, 2, 3), value) for value in (-127.5, 127.5)])

    assert stats.looks_normalized


@pytest.mark.parametrize(
    ("images", "options", "counts"),
    [
        ([IMAGES[0], FLOATS[0]], {}, "1 of mode RGB, 1 of mode RGB;F"),
        ([IMAGES[0], FLOATS[0]], {"mode": "RGB"}, "1 of mode RGB, 1 of mode RGB;F"),
        ([IMAGES[0], IMAGES[0] / 255, FLOATS[0]], {}, "2 of mode RGB, 1 of mode RGB;F"),
        ([IMAGES[0], np.zeros((4, 4, 4), np.uint8)], {}, "1 of mode RGB, 1 of mode RGBA"),
    ],
)
def test_images_that_do_not_belong_together_are_refused(images, options, counts):
    with pytest.raises(SourceError) as caught:
        imgnorm.measure(images, **options)

    assert (
        f"list[{len(images)}]: images that do not belong together, {counts}; measure them separately, or make "
        "them alike in the dataset" == str(caught.value)
    )  # fmt: skip


def test_integers_and_recognised_floats_are_both_8_bit():
    stats = imgnorm.measure([IMAGES[0], IMAGES[1] / 255])

    assert power_sums(IMAGES[:2]) == moments_of(stats)


def test_many_channels_are_counted_where_the_layout_tells():
    cubes = RNG.integers(0, 256, (4, 13, 6, 5), np.uint8)

    stats = imgnorm.measure(list(cubes), layout="NCHW")

    assert ("C13", 13) == (stats.mode, len(stats.mean))
    assert power_sums(cubes.transpose(0, 2, 3, 1)) == moments_of(stats)


# Error bars, profiles, verification

MANY = np.random.default_rng(4).integers(90, 160, (600, 6, 5, 3), np.uint8)


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize(
    "items",
    [
        MANY,
        [Image.fromarray(image) for image in MANY],
        [image.astype(np.float32) / np.float32(255) for image in MANY],
    ],
    ids=["arrays", "pictures", "floats that were 8-bit"],
)
def test_an_estimate_of_a_dataset_is_that_of_its_images_as_a_file(items, workers, tmp_path):
    np.save(tmp_path / "images.npy", MANY)
    of_file = imgnorm.measure(tmp_path / "images.npy", tolerance=0.03, sizes="sampled")
    stats = imgnorm.measure(Indexed(items), tolerance=0.03, workers=workers)

    assert stats.images < 600
    assert stats.estimate is not None
    assert of_file.estimate == stats.estimate
    assert (of_file.mean, of_file.std) == (stats.mean, stats.std)


def test_an_estimate_of_sixteen_bits_is_that_of_its_images_as_a_file(tmp_path):
    deep = MANY[:, :, :, 0].astype(np.uint16) * 256
    np.save(tmp_path / "images.npy", deep)
    of_file = imgnorm.measure(
        tmp_path / "images.npy", tolerance=0.03, sizes="sampled", layout="NHW"
    )
    stats = imgnorm.measure(Indexed(deep), tolerance=0.03)

    assert stats.estimate is not None
    assert of_file.estimate == stats.estimate


def test_floats_that_may_be_anything_have_no_error_bars():
    with pytest.raises(SourceError, match="a tolerance is for pixels in"):
        imgnorm.measure(Indexed(MANY.astype(np.float32) * 0.013), tolerance=0.03)


@pytest.mark.parametrize(
    ("source", "workers", "step", "note"),
    [
        (
            list(IMAGES),
            None,
            "count",
            "the user's own Python makes the images: `count` is its time, too",
        ),
        (
            Indexed(IMAGES),
            None,
            "count",
            "the user's own Python makes the images: `count` is its time, too",
        ),
        (
            Indexed(IMAGES),
            2,
            "wait",
            "the workers are a DataLoader's, which does not report their time: main waits for them",
        ),
    ],
)
def test_a_profile_says_what_it_cannot_tell_apart(source, workers, step, note):
    profile = Profile()
    imgnorm.measure(source, workers=workers, profile=profile)

    assert (20, note) == (profile.images, profile.note)
    assert ["main"] == list(profile.processes)
    assert profile.processes["main"].seconds[step] > 0


@pytest.fixture
def of_dataset(tmp_path) -> Path:
    imgnorm.write_stats(
        tmp_path / "stats.yaml", imgnorm.measure(Indexed([(0, image) for image in MANY]), key=1)
    )
    return tmp_path / "stats.yaml"


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("sample", [50, "all"])
def test_a_file_is_true_of_the_dataset_it_was_measured_from(of_dataset, sample, workers):
    """With the key from the file."""
    source = Indexed([(0, image) for image in MANY])
    found = imgnorm.verify(of_dataset, source, sample=sample, workers=workers)

    assert () == found.problems


@pytest.mark.parametrize("sample", [50, "all"])
def test_a_file_is_stale_where_the_dataset_has_changed(of_dataset, sample):
    found = imgnorm.verify(of_dataset, Indexed([(0, image + 40) for image in MANY]), sample=sample)

    assert found.stale
    assert {"measure it again with imgnorm.measure, and write it with imgnorm.write_stats"} == {
        problem.hint for problem in found.problems
    }


def test_a_stream_cannot_be_verified(of_dataset):
    with pytest.raises(IncompatibleStats) as caught:
        imgnorm.verify(of_dataset, list(MANY))

    assert (
        f"{of_dataset}: a stream without names cannot be compared with it; measure it again"
        == str(caught.value)
    )


def test_a_dataset_cannot_be_opened_by_its_name(of_dataset):
    with pytest.raises(IncompatibleStats) as caught:
        imgnorm.verify(of_dataset)

    assert (
        f"{of_dataset}: was measured from a source of kind 'dataset', which cannot be opened by its name; "
        "call imgnorm.verify with the source itself" == str(caught.value)
    )


def test_a_time_limit_of_a_verified_dataset_is_refused(of_dataset):
    with pytest.raises(SourceError) as caught:
        imgnorm.verify(of_dataset, Indexed([(0, image) for image in MANY]), timeout_s=1)

    assert (
        "Indexed[600]: timeout_s does nothing: this process reads the images, and nothing can interrupt it; leave it out"
        == str(caught.value)
    )


def test_the_dataset_of_a_factory_is_measured_again_by_its_command(tmp_path):
    from imgnorm.measuring.opening import open_object

    def source(images):
        return open_object(Indexed([(0, i) for i in images]), key=1, layout=None, ref="data:train")

    imgnorm.write_stats(tmp_path / "stats.yaml", imgnorm.measure(source(MANY)))
    found = imgnorm.verify(tmp_path / "stats.yaml", source(MANY + 40))

    assert {
        f"measure again: `imgnorm stats --dataset data:train --key 1 -o {tmp_path}/stats.yaml --force`"
    } == {problem.hint for problem in found.problems}


@pytest.mark.parametrize("sample", [50, "all"])
def test_floats_of_a_mode_that_was_asked_for_are_verified(tmp_path, sample):
    source = Indexed(MANY.astype(np.float32) * np.float32(0.013))
    imgnorm.write_stats(tmp_path / "stats.yaml", imgnorm.measure(source, mode="RGB"))

    assert () == imgnorm.verify(tmp_path / "stats.yaml", source, sample=sample).problems
