"""Estimates: measuring a random sample that is large enough."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgnorm.errors import SourceError, SourceWarning
from imgnorm.measuring import headers
from imgnorm.measuring.headers import KnownSizes
from imgnorm.measuring.measure import SkippedImagesWarning, measure
from imgnorm.pixels.images import count_arrays
from imgnorm.pixels.sizes import HeaderReader
from imgnorm.progress import Progress
from imgnorm.settings import CenterCrop
from imgnorm.sources.files import read_file
from imgnorm.sources.source import Source, Unit, Unread
from imgnorm.stats import file as statsfile
from imgnorm.stats import format as statsformat
from imgnorm.stats.betting import weighted_order
from imgnorm.stats.estimate import (
    MIN_IMAGES,
    random_order,
)
from imgnorm.tally.names import names_digest
from imgnorm.tally.tally import Tally
from imgnorm.workers.executor import Executor, Work

IMAGES = 600


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def test_an_estimate_is_that_of_its_images(plain, estimated, tmp_path):
    """Checked independently: the first images of the order, measured alone, have the same pixels."""
    files = files_of(plain)
    taken = sorted(islice(random_order(IMAGES, 0), estimated.estimate.images))
    for index in taken:
        (tmp_path / f"{index}.png").write_bytes(files[index].read_bytes())
    alone = measure(tmp_path)

    bounds = estimated.estimate.bounds

    assert (alone.measurement.pixels, alone.images) == (
        estimated.measurement.pixels,
        estimated.images,
    )
    assert estimated.mean == tuple(pytest.approx((low + high) / 2) for low, high in bounds.mean)
    assert estimated.std == tuple(pytest.approx((low + high) / 2) for low, high in bounds.std)
    assert MIN_IMAGES < len(taken) < IMAGES
    assert IMAGES == estimated.estimate.total
    assert estimated.estimate.margins.widest <= 0.06
    assert {"tolerance": IMAGES - len(taken)} == estimated.measurement.ignored
    assert len(taken) == sum(one.images for one in estimated.measurement.classes.values())


@pytest.mark.parametrize("workers", [2, 3])
def test_the_way_it_runs_never_changes_a_digit(plain, estimated, workers):
    again = measure(plain, tolerance=0.06, workers=workers)

    assert statsformat.text_of(estimated) == statsformat.text_of(again)


def test_another_seed_takes_other_images(plain, estimated):
    other = measure(plain, tolerance=0.06, seed=1)

    assert estimated.measurement.source.names_sha256 != other.measurement.source.names_sha256
    assert estimated.measurement.source.listing_sha256 == other.measurement.source.listing_sha256


def test_the_exact_numbers_are_within_the_margins(plain, estimated):
    exact = measure(plain)
    margins = estimated.estimate.margins

    for found, true, margin in (
        (estimated.mean, exact.mean, margins.mean),
        (estimated.std, exact.std, margins.std),
    ):
        assert all(abs(a - b) <= m for a, b, m in zip(found, true, margin, strict=True))


def test_a_tolerance_out_of_reach_gives_the_exact_file(plain):
    out_of_reach = measure(plain, tolerance=1e-6)

    assert out_of_reach.estimate is None
    assert statsformat.text_of(measure(plain)) == statsformat.text_of(out_of_reach)


def test_gray_images_become_rgb_when_a_later_look_meets_color(plain, tmp_path):
    """The first look sees gray images only; the mode is that of all that were taken."""
    taken = list(random_order(IMAGES, 0))
    for place, file in enumerate(files_of(plain)):
        image = Image.open(file)
        late = taken.index(place) >= 205
        (image if late else image.convert("L")).save(tmp_path / f"{place:03}.png")
    stats = measure(tmp_path, tolerance=0.03)

    assert ("RGB", True) == (stats.mode, stats.auto)
    assert 205 == stats.measurement.modes["L"]
    assert stats.estimate.images == stats.images < IMAGES


def test_the_bounds_of_a_gray_sample_hold_for_rgb_too(plain, tmp_path):
    """As one with colors among the images that were not looked at would make all of them."""
    for place, file in enumerate(files_of(plain)):
        Image.open(file).convert("L").save(tmp_path / f"{place:03}.png")
    auto = measure(tmp_path, tolerance=0.06, confidence=0.97).estimate
    gray = measure(tmp_path, tolerance=0.06, confidence=0.99, mode="L").estimate

    assert auto.bounds
    assert (gray.images, gray.bounds) == (auto.images, auto.bounds)


def test_broken_images_of_the_sample_are_skipped(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "d")
    for file in files_of(folder)[::4]:
        file.write_bytes(b"")
    with pytest.warns(SkippedImagesWarning):
        stats = measure(folder, tolerance=0.08)

    assert {"empty-file"} == {one.reason.value for one in stats.skipped}
    assert IMAGES / 4 == len(stats.skipped)  # their headers cannot be read
    assert MIN_IMAGES <= stats.images == stats.estimate.images < IMAGES == stats.measurement.found
    assert statsfile.parse_stats(statsformat.text_of(stats).encode(), "s.yaml").estimate


def test_it_goes_with_resize_and_crop(plain):
    stats = measure(plain, tolerance=0.06, resize=6, center_crop=(5, 3))

    assert stats.estimate
    assert 15 * stats.images == stats.measurement.pixels.moments().count


def test_it_goes_with_archives(plain, estimated, tmp_path):
    path = shutil.make_archive(str(tmp_path / "plain"), "zip", plain)
    stats = measure(path, tolerance=0.06)

    assert (estimated.mean, estimated.std) == (stats.mean, stats.std)


class Made(Source):
    """Each image is a number: decoding is a stub, listing is not."""

    kind = "made"
    in_order = True

    def __init__(self, images: int) -> None:
        self.ref = f"made {images}"
        self.total = images
        self.counted = 0

    def units(self) -> Iterator[Unit]:
        digits = len(str(self.total))
        yield Unit("all", [f"{index:0{digits}}" for index in range(self.total)])

    def executor(self, work: Work) -> Executor:
        return lambda units, on_progress: self.count(
            [n for unit in units for n in unit.names or ()]
        )

    def count(self, names: list[str]) -> Tally:
        self.counted += len(names)
        value = np.array([int(name) for name in names]) * 2654435761 >> 7 & 255
        return count_arrays(value.astype(np.uint8).reshape(-1, 1, 1, 1), "L")


def test_a_million_images_cost_no_more_than_fifty_thousand():
    few, many = Made(50_000), Made(1_000_000)
    estimates = [measure(source, tolerance=0.03).estimate for source in (few, many)]

    assert estimates[0].images == estimates[1].images == few.counted == many.counted < 2_000


@pytest.mark.parametrize("sizes", [None, "sampled"])
def test_values_that_may_be_anything_have_no_error_bars(tmp_path, sizes):
    np.save(tmp_path / "x.npy", np.full((300, 2, 2), 0.123, np.float32))
    message = (
        "a tolerance is for pixels in [0, 1]; these images have mode F, whose values may be "
        "anything: measure them all, without --tolerance"
    )
    with pytest.raises(SourceError) as caught:
        measure(tmp_path / "x.npy", tolerance=0.1, layout="NHW", sizes=sizes)

    assert message == str(caught.value)


def test_torchvision_datasets_are_sampled_too(shared_data):
    stats = measure("torchvision:MNIST", root=shared_data / "mnist", tolerance=0.01)

    assert "99 %, guaranteed, 847 of 60,000 images" == str(stats.estimate)
    assert abs(stats.mean[0] - 0.1306604762738429) <= stats.estimate.margins.mean[0]
    assert abs(stats.std[0] - 0.3081078038564627) <= stats.estimate.margins.std[0]


def test_progress_tells_the_margin(plain):
    every: list[Progress] = []
    measure(plain, tolerance=0.06, on_progress=every.append)
    seen = [progress for progress in every if not progress.doing]
    margins = [progress.margin for progress in seen]
    known = [margin for margin in margins if margin is not None]

    assert margins[0] is None
    assert known == sorted(known, reverse=True)
    assert len(set(known)) > 1
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert all(p.done <= p.total for p in seen)
    assert {"reading sizes"} == {progress.doing for progress in every} - {""}


# ── sizes ──


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def sized(tmp_path_factory) -> Path:
    """900 images of which the dark ones are small, and the few bright ones large."""
    folder = tmp_path_factory.mktemp("sized") / "sized"
    folder.mkdir()
    rng = np.random.default_rng(11)
    for index in range(900):
        bright = index % 30 == 0
        edge = int(rng.integers(30, 40)) if bright else int(rng.integers(2, 9))
        level = 250 if bright else int(rng.integers(20, 90))
        pixels = rng.integers(level - 5, level + 5, (edge, edge + 1), np.uint8)
        format_ = ("png", "jpg", "bmp", "tif")[index % 4]
        Image.fromarray(pixels).save(folder / f"{index:03}.{format_}")
    return folder


def pixels_of(folder: Path) -> list[int]:
    """By Pillow."""
    pixels = []
    for file in files_in(folder):
        with Image.open(file) as image:
            pixels.append(image.width * image.height)
    return pixels


def test_headers_decide_which_images_are_taken(sized, tmp_path):
    stats = measure(sized, tolerance=0.06)
    files = files_in(sized)
    order = weighted_order(pixels_of(sized), 0)
    for index in islice(order, stats.estimate.images):
        shutil.copy(files[index], tmp_path)

    assert "exact" == stats.estimate.sizes
    assert stats.estimate.images == stats.images < 900
    assert measure(tmp_path).measurement.pixels == stats.measurement.pixels


def test_large_images_do_not_spoil_what_is_guaranteed(sized):
    exact = measure(sized)
    for seed in range(5):
        stats = measure(sized, tolerance=0.06, seed=seed)
        assert abs(stats.mean[0] - exact.mean[0]) <= stats.estimate.margins.mean[0] <= 0.06
        assert abs(stats.std[0] - exact.std[0]) <= stats.estimate.margins.std[0] <= 0.06


@pytest.mark.parametrize("way", ["3 workers", "zip", "tar", "tar.gz", "list"])
def test_every_road_reads_the_same_sizes(sized, tmp_path, way):
    stats = measure(sized, tolerance=0.06, workers=1)
    source, options = sized, {}
    if way == "3 workers":
        options = {"workers": 3}
    elif way == "list":
        source = tmp_path / "list.txt"
        source.write_text("".join(f"{file}\n" for file in reversed(files_in(sized))))
        options = {"listed": True}
    else:
        packing = {"tar.gz": "gztar"}.get(way, way)
        source = Path(shutil.make_archive(str(tmp_path / "sized"), packing, sized))
    again = measure(source, tolerance=0.06, **options)

    assert stats.estimate == again.estimate
    if way == "3 workers":
        assert statsformat.text_of(stats) == statsformat.text_of(again)


def test_sizes_are_those_after_preprocessing(sized):
    """With one size for all there is nothing to read, and every image is as likely."""
    stats = measure(sized, tolerance=0.06, resize=8)
    cropped = measure(sized, tolerance=0.06, center_crop=8)
    files = [file.name for file in files_in(sized)]
    expected = [files[index] for index in islice(random_order(900, 0), cropped.estimate.images)]
    digest = names_digest(map(str.encode, expected))

    assert ("exact", "exact") == (stats.estimate.sizes, cropped.estimate.sizes)
    assert digest == cropped.measurement.source.names_sha256
    assert digest != stats.measurement.source.names_sha256


def test_arrays_of_several_shapes_are_weighted(tmp_path):
    """One image of the second array has as many pixels as 100 of the first."""
    rng = np.random.default_rng(2)
    small, large = (
        rng.integers(0, 90, (2000, 3, 3), np.uint8),
        rng.integers(150, 255, (20, 30, 30), np.uint8),
    )
    np.save(tmp_path / "a.npy", small)
    np.save(tmp_path / "b.npy", large)
    stats = measure(f"{tmp_path}/*.npy", tolerance=0.05, layout="NHW")
    exact = measure(f"{tmp_path}/*.npy", layout="NHW")

    assert "exact" == stats.estimate.sizes
    assert abs(stats.mean[0] - exact.mean[0]) <= stats.estimate.margins.mean[0]
    assert stats.estimate.images < 1000


def test_sizes_may_be_sampled(plain, tmp_path):
    """As 0.1.0 does it, whose files have the same keys."""
    stats = measure(plain, tolerance=0.06, sizes="sampled")
    taken = sorted(islice(random_order(IMAGES, 0), stats.estimate.images))
    for index in taken:
        shutil.copy(files_of(plain)[index], tmp_path)
    alone = measure(tmp_path)
    text = statsformat.text_of(stats)

    assert (alone.mean, alone.std) == (stats.mean, stats.std)
    assert "sampled" == stats.estimate.sizes
    assert f"(99 %, if sizes are like those seen, {len(taken)} of 600 images)" in text
    assert "bounds" not in text
    assert stats == statsfile.parse_stats(text.encode(), "s.yaml")


def test_too_many_headers_are_not_read(plain, monkeypatch):
    monkeypatch.setattr(headers, "_TIMED", 10)
    monkeypatch.setattr(headers, "_MOST_SECONDS", -1)
    with pytest.warns(SourceWarning, match="with --sizes exact, all are read") as caught:
        stats = measure(plain, tolerance=0.06)
    demanded = measure(plain, tolerance=0.06, sizes="exact")

    assert 1 == len(caught)
    assert ("sampled", "exact") == (stats.estimate.sizes, demanded.estimate.sizes)


def test_images_that_a_user_makes_have_no_headers():
    with pytest.raises(
        SourceError, match="have no headers that show their sizes; leave --sizes out"
    ):
        measure(Made(1000), tolerance=0.1, sizes="exact")


def test_an_image_whose_header_lies_is_as_good_as_unreadable(plain, tmp_path, monkeypatch):
    """Nothing is assumed of it: the bounds are those that one more broken image gives."""
    known = KnownSizes(3, [16, 20, 16])

    assert known.is_of(0, 16)
    assert not known.is_of(1, 16)


@pytest.mark.parametrize("exif_bytes", [0, 60_000])
def test_only_the_beginning_of_a_large_file_is_read_for_its_size(tmp_path, exif_bytes):
    """And more of it where the size comes late, behind long EXIF data."""
    folder = tmp_path / "large"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010E] = "x" * exif_bytes
    rng = np.random.default_rng(1)
    for index in range(240):
        edge = int(rng.integers(4, 30))
        image = Image.fromarray(rng.integers(0, 255, (edge, edge, 3), np.uint8))
        image.save(folder / f"{index:03}.jpg", exif=exif)
        with open(folder / f"{index:03}.jpg", "ab") as file:
            file.write(b"trailing" * 8000)
    tar = shutil.make_archive(str(tmp_path / "large"), "tar", folder)
    with zipfile.ZipFile(tmp_path / "large.zip", "w") as archive:  # stored
        for image_file in files_in(folder):
            archive.write(image_file, image_file.name)
    of_folder, *others = (
        measure(source, tolerance=0.2) for source in (folder, tar, tmp_path / "large.zip")
    )

    assert 200 == of_folder.images
    assert not of_folder.skipped
    assert [of_folder.estimate] * 2 == [stats.estimate for stats in others]


def test_headers_take_few_bytes(tmp_path):
    large = tmp_path / "large.jpg"
    Image.new("L", (7, 5)).save(large)
    size = large.stat().st_size
    large.write_bytes(large.read_bytes() + bytes(9) * 100_000)
    reader = HeaderReader((CenterCrop((2, 3)),), 10**6)

    assert 6 == reader.row(Unread("large.jpg", lambda: read_file(str(large)))).pixels
    assert size < reader.bytes_read == 1 << 15


def test_what_one_image_that_is_left_could_change_is_not_guaranteed(tmp_path):
    """16 bits in mode auto, and names that a frame and a file share."""
    deep = tmp_path / "deep"
    deep.mkdir()
    for place in range(300):
        values = np.full((2, 2), 100 * place, np.uint16)
        Image.fromarray(values).save(deep / f"{place}.png")
    with pytest.raises(SourceError, match="give --mode 'I;16'"):
        measure(deep, tolerance=0.2)
    assert measure(deep, tolerance=0.2, mode="I;16").estimate.bounds
    frames = [Image.new("L", (3, 3), value) for value in (0, 255)]
    for name in ("a.gif", "a.gif#2"):
        frames[0].save(tmp_path / name, "GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "list").write_text("a.gif\na.gif#2\n")
    with pytest.raises(SourceError, match="have the same name"):
        measure(tmp_path / "list", listed=True, frames="all", tolerance=0.1)
