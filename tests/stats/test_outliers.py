"""What stands out: seeds among ordinary images, and what must not be named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import imgnorm
from imgnorm.errors import InvalidDocument
from imgnorm.stats.file import read_stats, write_stats
from imgnorm.stats.outliers import REASONS
from imgnorm.stats.table import table


def ordinary(rng: np.random.Generator, height: int = 32, width: int = 32) -> np.ndarray:
    return rng.integers(64, 192, (height, width, 3), np.uint8)


def seeds() -> dict[str, Any]:
    """Each is named after the reasons that are to be told of it."""
    rng = np.random.default_rng(0)
    gray = np.repeat(ordinary(rng)[:, :, :1], 3, axis=2)
    return {
        "constant": np.full((32, 32, 3), (90, 160, 130), np.uint8),
        "constant almost-black dark": np.zeros((32, 32, 3), np.uint8) + np.uint8([0, 1, 0]),
        "almost-black dark": rng.integers(0, 16, (32, 32, 3), np.uint8),
        "almost-white bright": rng.integers(240, 256, (32, 32, 3), np.uint8),
        "dark": rng.integers(0, 120, (32, 32, 3), np.uint8),
        "bright": rng.integers(130, 256, (32, 32, 3), np.uint8),
        "small": ordinary(rng, 7, 8),
        "large": ordinary(rng, 200, 170),
        "tall": ordinary(rng, 64, 16),
        "wide": ordinary(rng, 16, 64),
        "gray": gray,
        "gray too": Image.fromarray(gray[:, :, 0]),
    }


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeded")
    rng = np.random.default_rng(1)
    images = {f"ordinary {i:03d}": ordinary(rng, *rng.integers(24, 48, 2)) for i in range(250)}
    for name, pixels in {**images, **seeds()}.items():
        picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        picture.save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def stats(seeded: Path) -> imgnorm.Stats:
    return imgnorm.measure(seeded)


def test_each_seed_is_named_with_its_reasons_and_nothing_else_is(stats):
    told = {one.reason: (one.images, one.examples) for one in stats.outliers}
    expected = {
        reason: sorted(f"{name}.png" for name in seeds() if reason in name.split())
        for reason in REASONS
    }

    assert {r: (len(names), set(names)) for r, names in expected.items() if names} == {
        reason: (images, set(examples)) for reason, (images, examples) in told.items()
    }
    assert list(told) == [reason for reason in REASONS if reason in told]


def test_shards_name_the_same(seeded, stats):
    merged = imgnorm.merge([imgnorm.measure(seeded, shard=(i, 2)) for i in (2, 1)])

    assert stats.outliers == merged.outliers


def test_the_file_keeps_what_they_follow_from(tmp_path, stats):
    write_stats(tmp_path / "s.yaml", stats)
    back = read_stats(tmp_path / "s.yaml")

    assert stats.outliers == back.outliers
    assert stats == back


def test_the_table_ends_with_them(stats):
    lines = [line for line in table(stats).splitlines() if line.startswith("outliers ")]

    assert [f"outliers {one}" for one in stats.outliers] == lines
    assert "outliers 1 image is much smaller than the rest (small.png (8 x 7))" in lines
    assert "outliers 2 images are gray among color (gray too.png, gray.png)" in lines


def test_reasons_can_be_ignored_from_python_the_command_line_and_configs(
    command, tmp_path, seeded, stats
):
    (tmp_path / "c.yaml").write_text(
        "format: imgnorm-pipeline/1\n"
        f"source: {{kind: folder, path: {seeded}}}\n"
        "normalize: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}\n"
        "ignore_outliers: [gray, small]\n"
    )
    out = str(tmp_path / "s.yaml")
    expected = [one.reason for one in stats.outliers if one.reason not in ("gray", "small")]

    python = imgnorm.measure(seeded, ignore_outliers=["small", "gray"])
    command("stats", str(seeded), "--ignore-outliers", "gray,small", "-o", out)
    found = command("stats", str(tmp_path / "c.yaml"), "--json")

    assert expected == [one.reason for one in python.outliers]
    assert python == read_stats(out)
    assert expected == [one["reason"] for one in json.loads(found.out)["outliers"]]
    assert () == imgnorm.measure(seeded, ignore_outliers="all").outliers


def test_a_reason_that_does_not_exist_is_refused(seeded):
    with pytest.raises(ValueError, match=r"^nothing stands out as 'grey'; did you mean 'gray'\?$"):
        imgnorm.measure(seeded, ignore_outliers=["grey"])


def test_strict_does_not_fail_on_them(seeded, stats):
    assert stats == imgnorm.measure(seeded, strict=True)


def test_an_estimate_and_an_older_file_name_nothing(tmp_path, seeded, stats):
    estimate = imgnorm.measure(seeded, tolerance=0.05)
    text = (tmp_path / "old.yaml", tmp_path / "new.yaml")
    write_stats(text[1], stats)
    lines, kept = text[1].read_text().splitlines(keepends=True), []
    new = False
    for line in lines:
        if line[0] not in " -":
            new = line.split(":")[0] in ("sizes", "image_means", "looks")
        kept += [] if new else [line]
    text[0].write_text("".join(kept))
    old = read_stats(text[0])

    assert estimate.estimate
    for one in (estimate, old):
        assert (None, None, ()) == (one.sizes, one.image_means, one.outliers)
    assert None is imgnorm.merge([stats, old], allow_overlap=True).sizes


def test_a_class_whose_mean_is_far_is_named(tmp_path):
    rng = np.random.default_rng(2)
    for name in ("a", "b", "c", "inverted"):
        (tmp_path / name).mkdir()
        for index in range(3):
            pixels = rng.integers(0, 100, (8, 8), np.uint8)
            Image.fromarray(255 - pixels if name == "inverted" else pixels).save(
                tmp_path / name / f"{index}.png"
            )
    *_, told = imgnorm.measure(tmp_path, per_class=True).outliers
    others = imgnorm.measure(tmp_path).outliers

    assert ("class", 1, ("inverted",)) == (told.reason, told.images, told.examples)
    assert str(told).startswith("1 class is far from the others, by their mean (inverted (mean 0.8")
    assert "class" not in [one.reason for one in others]


def test_12_bits_in_16_are_judged_by_the_bits_that_are_used():
    rng = np.random.default_rng(3)
    images = [rng.integers(1000, 3000, (9, 9), np.uint16) for _ in range(40)]
    images[7] //= 4
    (told,) = imgnorm.measure(images).outliers

    assert ("dark", 1, ("7",)) == (told.reason, told.images, told.examples)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photos", {"gray": 2}),  # of 125: these are stored as gray
        ("cifar10-jpeg", {}),
    ],
)
def test_of_real_photos_none_is_far_from_the_rest(shared_data, name, expected):
    found = imgnorm.measure(shared_data / name, per_class=name != "photos").outliers

    assert expected == {one.reason: one.images for one in found}


def test_numbers_that_no_images_have_are_faults(tmp_path, stats):
    """Each of these edits is found, and none of them makes the reader fail."""
    path = tmp_path / "s.yaml"
    write_stats(path, stats)
    sound = path.read_text()
    edits = {
        "starts: [": "starts: [1, ",
        "aspect:\n    starts: [": "aspect:\n    starts: [-1.0, ",
        "smallest:\n": "smallest:\n  - {name: x, width: 0, height: 1, images: 1}\n",
        "lowest:\n": "lowest:\n  - {name: x, mean: 1.5, images: 1}\n",
        "  step: 1\n": "  step: 0\n",
        "  gray:\n    images: 2\n": "  gray:\n    images: 2000\n",
    }
    pairs = [
        *edits.items(),
        ("  step: 1\n", "  step: 7\n"),
        ("  gray:\n", "  grey:\n"),
        (last_range := re.search(r"raw:\n    starts: .*\]", sound)[0], f"{last_range[:-4]}300]"),
    ]
    missed = []
    for before, after in pairs:
        assert before in sound
        path.write_text(sound.replace(before, after, 1))
        try:
            read_stats(path)
        except InvalidDocument:
            continue
        missed.append(before)

    assert [] == missed
