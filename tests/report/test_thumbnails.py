"""Thumbnails: of images in folders and archives that are where the stats say, and of nothing else."""

from __future__ import annotations

import base64
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imgnorm
from imgnorm.report.thumbnails import Thumbnail, thumbnails_of

ROOT = Path(__file__).parents[2]
NAME = "circle/png.png"


def picture(thumbnail: Thumbnail) -> Image.Image:
    head, _, data = thumbnail.uri.partition(",")

    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return Image.open(BytesIO(base64.b64decode(data)))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(ROOT / "examples/shapes", tmp_path_factory.mktemp("t") / "shapes"))


def test_small_images_are_shown_as_they_are(shapes):
    stats = imgnorm.measure(shapes, workers=1)
    found = thumbnails_of(stats, [NAME])
    with Image.open(shapes / NAME) as image:
        assert image.convert("RGB").tobytes() == picture(found[NAME]).tobytes()
        assert image.size == (found[NAME].width, found[NAME].height)


@pytest.mark.parametrize("packing", ["zip", "tar", "gztar"])
def test_members_of_archives_are_found_but_not_in_packed_tars(shapes, packing):
    archive = Path(shutil.make_archive(str(shapes.parent / packing), packing, shapes))
    name = f"{archive.name}/{NAME}"
    found = thumbnails_of(imgnorm.measure(archive, workers=1), [name])

    assert ([] if packing == "gztar" else [name]) == [*found]


def test_large_images_are_small_and_deep_ones_have_8_bits(tmp_path):
    deep = (np.arange(300 * 200, dtype=np.uint16) % 4096).reshape(200, 300)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    found = thumbnails_of(imgnorm.measure(tmp_path, workers=1), ["deep.png"])
    small = picture(found["deep.png"])

    assert (96, 64) == small.size == found["deep.png"].shown
    assert small.getextrema()[1] > 200  # 12 bits


def test_images_that_are_gone_damaged_or_outside_are_left_out(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (200, 2), (9, 99, 199)).save(tmp_path / name)
    (tmp_path / "in").mkdir()
    shutil.copy(tmp_path / "a.png", tmp_path / "in")
    stats = imgnorm.measure(tmp_path / "in", workers=1)
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    names = ["a.png", "b.png", "gone.png", "../c.png", str(tmp_path / "c.png")]

    assert ["a.png"] == [*thumbnails_of(stats, names)]
    shutil.rmtree(tmp_path / "in")
    assert {} == thumbnails_of(stats, names)


def test_sources_that_are_no_files_have_none():
    stats = imgnorm.measure([Image.new("L", (4, 4), 9), Image.new("L", (4, 4), 99)])

    assert {} == thumbnails_of(stats, ["0"])
    assert {} == thumbnails_of(replace(stats), [])


def test_tiny_images_are_enlarged_by_whole_numbers():
    for size, shown in (((32, 20), (96, 60)), ((97, 1), (96, 1)), ((60, 90), (60, 90))):
        assert shown == Thumbnail("", *size).shown
