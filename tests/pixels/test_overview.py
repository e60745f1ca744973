"""Sizes, means and looks of images, against NumPy and Python's integers, image by image."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imgnorm
from imgnorm.stats.format import text_of
from imgnorm.tally.overview import End

MODES = {"L": 1, "RGB": 3, "RGBA": 4}


def some_images(seed: int = 0, images: int = 60) -> dict[str, np.ndarray]:
    """Of few sizes, some of one color, gray, nearly black or nearly white; the names are not ASCII."""
    rng = np.random.default_rng(seed)
    made: dict[str, np.ndarray] = {}
    for index in range(images):
        height, width = rng.integers(1, 40, 2) if index % 3 else (17, 23)
        channels = 1 if index % 11 == 5 else 3
        low, high = [(0, 256), (0, 20), (240, 256), (7, 8)][index % 4]
        pixels = rng.integers(low, high, (height, width, channels), np.uint8)
        if index % 5 == 1:
            pixels = np.repeat(pixels[:, :, :1], channels, axis=2)
        made[f"é{index % 7}/{index:02d}.png"] = pixels
    return made


def written(folder: Path, images: dict[str, np.ndarray]) -> Path:
    for name, pixels in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)
    return folder


def range_start(number: float) -> float:
    """The greatest m · 2**k with m from 8 to 15 that is not above it; of whole numbers, itself below 8."""
    starts = {m * 2.0**k for m in range(8, 16) for k in range(-40, 40)}
    if isinstance(number, int):
        starts = {start for start in starts if start == int(start)} | set(map(float, range(1, 8)))
    return max(start for start in starts if start <= number)


def ends(numbers: dict[str, tuple[float, tuple[int, int]]], *, highest: bool) -> tuple[End, ...]:
    by_number: dict[tuple[float, tuple[int, int]], list[str]] = {}
    for name, number in numbers.items():
        by_number.setdefault(number, []).append(name)
    ordered = sorted(by_number, key=lambda one: (-one[0] if highest else one[0], one[1]))
    return tuple(
        End(value, len(by_number[value, size]), min(by_number[value, size]), size)
        for value, size in ordered[:3]
    )


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    return some_images()


@pytest.fixture(scope="module")
def stats(images: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> imgnorm.Stats:
    return imgnorm.measure(written(tmp_path_factory.mktemp("images"), images), mode="RGB")


def test_sizes_are_those_of_numpy(images, stats):
    sizes = {name: (pixels.shape[1], pixels.shape[0]) for name, pixels in images.items()}
    numbers = {
        "width": {name: width for name, (width, _) in sizes.items()},
        "height": {name: height for name, (_, height) in sizes.items()},
        "pixels": {name: width * height for name, (width, height) in sizes.items()},
        "aspect": {name: width / height for name, (width, height) in sizes.items()},
    }
    for key, of in numbers.items():
        found = getattr(stats.sizes, key)

        assert Counter(map(range_start, of.values())) == found.counts
        assert all(
            start <= number < stop
            for number in of.values()
            for start, stop in zip(found.starts, found.stops, strict=True)
            if start == range_start(number)
        )
    for key, of in (
        ("smallest", "pixels"),
        ("largest", "pixels"),
        ("tallest", "aspect"),
        ("widest", "aspect"),
    ):
        both = {name: (number, sizes[name]) for name, number in numbers[of].items()}

        assert ends(both, highest=key in ("largest", "widest")) == getattr(stats.sizes, key)


def test_any_number_of_sizes_is_added_up_in_parts(monkeypatch, images, stats):
    monkeypatch.setattr("imgnorm.pixels.overview._MOST_SIZES", 3)
    monkeypatch.setattr("imgnorm.pixels.images._TOGETHER", 2000)
    arrays = [pixels.repeat(3 // pixels.shape[2], axis=2) for pixels in images.values()]
    found = imgnorm.measure([Image.fromarray(pixels) for pixels in arrays]).sizes

    assert [stats.sizes.width, stats.sizes.aspect] == [found.width, found.aspect]
    assert [end[:2] for end in stats.sizes.smallest] == [end[:2] for end in found.smallest]
    assert [end.size for end in stats.sizes.widest] == [end.size for end in found.widest]


def test_means_are_those_of_numpy(images, stats):
    totals = {name: int(p.astype(np.int64).sum()) for name, p in images.items()}
    means = {name: (totals[name] / (p.size * 255), (0, 0)) for name, p in images.items()}

    assert Counter(totals[name] // p.size for name, p in images.items()) == (
        stats.image_means.raw.counts
    )
    assert ends(means, highest=False) == stats.image_means.lowest
    assert ends(means, highest=True) == stats.image_means.highest


def test_looks_are_those_of_the_pixels(images, stats):
    def rms(pixels: np.ndarray) -> float:
        return float(np.sqrt((pixels.astype(np.float64) ** 2).mean()) / 255)

    looks = {
        "constant": lambda p: (p == p[0, 0]).all(),
        "almost-black": lambda p: rms(p) <= 1 / 16,
        "almost-white": lambda p: rms(255 - p) <= 1 / 16,
        "gray": lambda p: (p == p[:, :, :1]).all() and not (p == p[0, 0]).all(),
    }
    for look, has in looks.items():
        names = sorted(name for name, pixels in images.items() if has(pixels))

        assert len(names) == stats.overview.looks[look].images
        assert tuple(names[:3]) == stats.overview.looks[look].examples


@pytest.mark.parametrize("mode", MODES)
def test_arrays_files_and_one_by_one_give_the_same(tmp_path, mode):
    """All roads end in the same counts: only the names are others."""
    shape = (10, 9, 12, MODES[mode])
    pixels = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    pixels[5:8] = 7
    pixels[9] = pixels[9, :, :, :1]
    np.save(tmp_path / "x.npy", pixels)
    files = {f"{i}.png": image for i, image in enumerate(pixels)}
    overviews = [
        imgnorm.measure(written(tmp_path / "files", files), mode=mode).overview,
        imgnorm.measure(tmp_path / "x.npy", workers=2, layout="NHWC").overview,
        imgnorm.measure(list(pixels)).overview,
        imgnorm.measure([Image.fromarray(p.squeeze()) for p in pixels], mode=mode).overview,
    ]

    def digits(name: str) -> str:
        return "".join(c for c in name.split("/")[-1] if c.isdigit())

    def renamed(overview):
        parts = [*vars(overview.sizes).values(), *vars(overview.means).values()]
        found = [
            [one._replace(name=digits(one.name)) for one in part]
            if isinstance(part, tuple)
            else part
            for part in parts
        ]
        looks = {
            look: (noted.images, tuple(map(digits, noted.examples)))
            for look, noted in overview.looks.items()
        }
        return found, looks

    first, *others = map(renamed, overviews)

    assert ["5", "6", "7"] == list(first[1]["constant"][1])
    assert [first] * 3 == others


def test_sizes_are_those_before_resizing(tmp_path):
    images = {"a.png": np.zeros((30, 40, 3), np.uint8), "b.png": np.zeros((50, 20, 3), np.uint8)}
    found = imgnorm.measure(written(tmp_path, images), resize=(8, 8))

    assert [(20, 50)] == [end.size for end in found.sizes.tallest[:1]]
    assert {40: 1, 20: 1} == found.sizes.width.counts


def test_shards_merge_to_the_bytes_of_the_whole_in_any_order(tmp_path):
    folder = written(tmp_path, some_images(seed=5, images=400))
    parts = [imgnorm.measure(folder, shard=(i, 3), workers=1) for i in (3, 1, 2)]

    assert all(part.images for part in parts)
    assert text_of(imgnorm.measure(folder)) == text_of(imgnorm.merge(parts))


def test_gray_parts_merge_with_colored_ones(tmp_path):
    """A part that was gray by itself is gray among color in the whole."""
    images = some_images(seed=6, images=200)
    gray = {name: pixels[:, :, :1] for name, pixels in images.items() if name < "é1"}
    images = {name: pixels for name, pixels in images.items() if name >= "é1"}
    a, b = written(tmp_path / "a", images), written(tmp_path / "b", gray)
    parts = [imgnorm.measure(folder) for folder in (a, b)]
    together = imgnorm.measure([a, b])

    assert ("RGB", "L") == (parts[0].mode, parts[1].mode)
    of_parts = [part.overview.looks["gray"] for part in parts]
    assert of_parts[0] + of_parts[1] == together.overview.looks["gray"]
    assert of_parts[1].images == sum(len(np.unique(pixels)) > 1 for pixels in gray.values())


def test_float_images_have_sizes_and_looks_and_no_means():
    rng = np.random.default_rng(4)
    images = [rng.uniform(1, 9, (5, 6, 3)) for _ in range(4)]
    images[1][:] = 2.5
    images[2] = np.repeat(images[2][:, :, :1], 3, axis=2)
    stats = imgnorm.measure(images)

    assert stats.image_means is None
    assert [End(30, 4, "0", (6, 5))] == list(stats.sizes.smallest)
    assert {"constant": ("1",), "gray": ("2",)} == {
        look: noted.examples for look, noted in stats.overview.looks.items()
    }
