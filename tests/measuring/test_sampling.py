"""Estimates: measuring a random sample that is large enough."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgnorm.errors import SourceError
from imgnorm.measuring.measure import SkippedImagesWarning, measure
from imgnorm.pixels.images import count_arrays
from imgnorm.progress import Progress
from imgnorm.sources.source import Source, Unit
from imgnorm.stats import file as statsfile
from imgnorm.stats import format as statsformat
from imgnorm.stats.estimate import (
    MIN_IMAGES,
    random_order,
)
from imgnorm.tally.tally import Tally
from imgnorm.workers.executor import Executor, Work

IMAGES = 600


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def test_an_estimate_is_that_of_its_images(plain, estimated, tmp_path):
    """Checked independently: the first images of the order, measured alone, give mean and std."""
    files = files_of(plain)
    taken = sorted(islice(random_order(IMAGES, 0), estimated.estimate.images))
    for index in taken:
        (tmp_path / f"{index}.png").write_bytes(files[index].read_bytes())
    alone = measure(tmp_path)

    assert (alone.mean, alone.std, alone.images) == (
        estimated.mean,
        estimated.std,
        estimated.images,
    )
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
    stats = measure(tmp_path, tolerance=0.06)

    assert ("RGB", True) == (stats.mode, stats.auto)
    assert 205 == stats.measurement.modes["L"]
    assert stats.estimate.images == stats.images < IMAGES


def test_broken_images_of_the_sample_are_skipped(plain, tmp_path):
    folder = shutil.copytree(plain, tmp_path / "d")
    for file in files_of(folder)[::4]:
        file.write_bytes(b"")
    with pytest.warns(SkippedImagesWarning):
        stats = measure(folder, tolerance=0.08)

    assert {"empty-file"} == {one.reason.value for one in stats.skipped}
    assert stats.estimate.images == stats.images + len(stats.skipped)
    assert MIN_IMAGES <= stats.images < stats.estimate.images < IMAGES == stats.measurement.found
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


def test_values_that_may_be_anything_have_no_error_bars(tmp_path):
    """Float images have no known largest value, so they have no cross sums."""
    values = np.random.default_rng(1).random((300, 2, 2, 1), np.float32) * 300
    np.save(tmp_path / "floats.npy", values)
    message = (
        "a tolerance is for pixels in [0, 1]; these images have mode F, whose values may be "
        "anything: measure them all, without --tolerance"
    )
    with pytest.raises(SourceError) as caught:
        measure(tmp_path / "floats.npy", layout="NHWC", tolerance=0.1)

    assert message == str(caught.value)


def test_torchvision_datasets_are_sampled_too(shared_data):
    stats = measure("torchvision:MNIST", root=shared_data / "mnist", tolerance=0.01)

    assert "99 %, 1,199 of 60,000 images" == str(stats.estimate)
    assert abs(stats.mean[0] - 0.1306604762738429) <= stats.estimate.margins.mean[0]
    assert abs(stats.std[0] - 0.3081078038564627) <= stats.estimate.margins.std[0]


def test_progress_tells_the_margin(plain):
    seen: list[Progress] = []
    measure(plain, tolerance=0.06, on_progress=seen.append)
    margins = [progress.margin for progress in seen]
    known = [margin for margin in margins if margin is not None]

    assert margins[0] is None
    assert known == sorted(known, reverse=True)
    assert len(set(known)) > 1
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert all(p.done <= p.total for p in seen)
