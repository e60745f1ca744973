"""What a user is told about images that are counted: once, in words, and the same however it is measured."""

from __future__ import annotations

import itertools
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgnorm.errors import IncompatibleStats, NotesFound, SourceError
from imgnorm.measuring.measure import measure
from imgnorm.stats.file import read_stats, write_stats
from imgnorm.stats.stats import Stats, merge

SIDE = 8


def picture(seed: int, mode: str = "RGB", values: int = 256) -> Image.Image:
    size = (SIDE, SIDE, 4)
    pixels = np.random.default_rng(seed).integers(0, values, size, dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if mode == "L" else pixels[..., : len(mode)])


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos and masks of two splits, with some of everything that is lost."""
    root = tmp_path_factory.mktemp("pooled")
    for split, kind in itertools.product(("train2017", "val"), ("images", "masks")):
        (root / split / kind).mkdir(parents=True)
        for index in range(40):
            image = picture(index) if kind == "images" else picture(index, "L", 3)
            image.save(root / split / kind / f"{index:02}.png")
    photos = root / "train2017" / "images"
    orientation = Image.Exif()
    orientation[0x0112] = 6
    picture(1, "RGBA").save(photos / "clear.png")
    picture(2).save(photos / "turned.jpg", exif=orientation)
    picture(3).save(photos / "pages.tif", save_all=True, append_images=[picture(4), picture(5)])
    for name in ("a.heic", "b.HEIC", "c.gif"):
        (photos / name).write_bytes(b"x")
    return root


NOTES = {
    "alpha": "1 file has transparency, dropped as ImageFolder does (train2017/images/clear.png); --mode RGBA "
    "keeps it",
    "frames": "1 file has more frames or pages than the first, 2 in all, which are not counted "
    "(train2017/images/pages.tif); --frames all measures them",
    "mask": "80 of 163 images are masks or labels, by their folder and their colors (train2017/masks/00.png, "
    "train2017/masks/01.png, train2017/masks/02.png, …); leave them out with --exclude masks",
    "rotation": "1 file has an EXIF orientation, not applied, as in ImageFolder (train2017/images/turned.jpg); "
    "turn the files, if they should be upright (it changes mean and std only where you crop)",
    "split": "several splits are counted together, 83 of train, 80 of val; a transform takes its numbers from "
    "the training images alone: --exclude val",
    "suffix .gif": "1 file with another file extension (.gif), left out as in ImageFolder; --include '*.gif' "
    "measures them, with one --include more for each other extension",
    "suffix .heic": "2 files with another file extension (.heic), left out, since such files are not read; "
    "convert them to PNG or JPEG",
}


def test_what_is_lost_is_told_with_what_to_do(pooled, tmp_path):
    stats = measure(pooled, workers=1)
    write_stats(tmp_path / "stats.yaml", stats)
    again = read_stats(tmp_path / "stats.yaml")
    told = {note.kind: str(note) for note in again.notes}

    assert NOTES == {kind: told[kind] for kind in sorted(told)}
    assert stats == again
    line = "  mask:\n    images: 80\n    examples: [train2017/masks/00.png, train2017/masks/01.png"
    assert line in (tmp_path / "stats.yaml").read_text()


def test_shards_merge_to_the_same_bytes_in_any_order(pooled, tmp_path):
    """A shard may have one split only: what folders tell is judged where all shards are together."""

    def text(stats: Stats, name: str) -> str:
        write_stats(tmp_path / name, stats)
        return (tmp_path / name).read_text()

    whole = text(measure(pooled, workers=1), "whole")
    parts = []
    for number in (1, 2, 3):
        text(measure(pooled, shard=(number, 3), workers=1), f"{number}")
        parts.append(read_stats(tmp_path / f"{number}"))
    orders = [merge(order) for order in itertools.permutations(parts)]
    orders.append(merge([merge(parts[:2], allow_missing=True), parts[2]]))

    assert {whole} == {text(stats, "merged") for stats in orders}
    assert "folders:" in (tmp_path / "1").read_text()
    assert "folders:" not in whole


def test_what_is_excluded_is_counted_and_recorded(pooled, tmp_path):
    """Only photos of the training split: nothing is pooled any more, and other shards must choose alike."""
    stats = measure(
        pooled, include="train2017/**", exclude=["masks", "*.[hH]*", "*.gif", "*.tif"], workers=1
    )
    write_stats(tmp_path / "stats.yaml", stats)
    first = measure(pooled, exclude="masks", shard=(1, 2), workers=1)
    second = measure(pooled, exclude="val", shard=(2, 2), workers=1)

    assert 42 == stats.images
    assert {"exclude": 84, "include": 40} == dict(stats.measurement.ignored)
    assert ["alpha", "rotation"] == [note.kind for note in stats.notes]
    assert read_stats(tmp_path / "stats.yaml") == stats
    with pytest.raises(
        IncompatibleStats,
        match=r"measured with --exclude val, but .* with --exclude masks; measure all shards with the same",
    ):
        merge([first, second])


def test_strict_makes_a_failure_of_every_note(pooled):
    with pytest.raises(NotesFound) as error:
        measure(pooled, strict=True, workers=1)

    assert (
        "7 notes, and strict allows none, so nothing was written: alpha (1), frames (1), mask (80), rotation "
        "(1), suffix .gif (1), suffix .heic (2), split (163); change the data or the options as they say, or "
        "leave strict out"
    ) == str(error.value)


def test_folders_that_are_classes_are_not_taken_for_masks(tmp_path):
    """Photos of faces with masks, a class of trains, one split alone: nothing to note."""
    for folder in ("with_mask", "without_mask", "train/cats", "train/dogs", "thumbs_up"):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(3):
            picture(index).save(tmp_path / folder / f"{index}.png")

    assert () == measure(tmp_path, workers=1).notes
    assert {} == measure(tmp_path, workers=1).measurement.notes


@pytest.mark.parametrize("other", ["nomask", "no mask", "without_mask", "Non-Masked", "unmask"])
def test_gray_faces_with_masks_are_no_masks_beside_faces_without(tmp_path, other):
    """Gray is a mark of masks, but here of all images."""
    for folder in ("mask", other):
        (tmp_path / folder).mkdir()
        for index in range(3):
            picture(index, "L").save(tmp_path / folder / f"{index}.png")

    assert () == measure(tmp_path, workers=1).notes


def test_the_pattern_that_is_proposed_is_printable_and_chooses_the_folder(tmp_path):
    for name in ("[old] masks", "masks\x1b[31m", "it's masks*", "!masks"):
        folders = [tmp_path / name / part for part in (name, "photos")]
        for index, folder in enumerate(folders):
            folder.mkdir(parents=True)
            picture(index, "RGB", 2 if folder.name == name else 256).save(folder / "0.png")
        (note,) = measure(tmp_path / name, workers=1).notes
        pattern = shlex.split(str(note).partition("--exclude ")[2])

        assert str(note).isprintable()
        assert str(note).startswith("1 of 2 images are masks or labels, by their folder")
        assert () == measure(tmp_path / name, exclude=pattern, workers=1).notes


def test_of_archives_that_are_splits_no_pattern_is_proposed(pooled, tmp_path):
    """Patterns choose inside of an archive."""
    for split in ("train2017", "val"):
        shutil.make_archive(str(tmp_path / split), "tar", pooled / split / "images")
    (note,) = [
        note for note in measure(f"{tmp_path}/*.tar", workers=1).notes if note.kind == "split"
    ]

    assert str(note).endswith("the training images alone: a source without val.tar")


def test_patterns_that_leave_nothing_are_named(pooled):
    with pytest.raises(SourceError, match="leave none; change them"):
        measure(pooled, exclude="*", workers=1)


@pytest.mark.parametrize(
    ("highest", "bits"),
    [(4095, 12), (4000, 12), (1023, 10), (255, 8), (4096, 0), (2500, 0), (65535, 0)],
)
def test_data_of_fewer_bits_in_16_are_known_by_their_greatest_value(tmp_path, highest, bits):
    Image.fromarray(np.array([[0, highest]], np.uint16)).save(tmp_path / "1.png")
    stats = measure(tmp_path, workers=1)

    assert [f"bits {bits}"] * bool(bits) == [note.kind for note in stats.notes]
    assert all(f"{bits}-bit data in 16 bits" in str(note) for note in stats.notes)


def test_an_exclude_that_leaves_nothing_out_is_noted_and_not_in_a_shard(tmp_path):
    """A typing error would otherwise count what should be left out; a shard may have nothing of it."""
    for index in range(4):
        picture(index).save(tmp_path / f"{index}.png")
    nothing = measure(tmp_path, exclude=["5.png", "*.PNG"], workers=1)
    write_stats(tmp_path / "stats.yaml", nothing)
    sentence = (
        "--exclude 5.png --exclude '*.PNG' leaves nothing out; patterns are for names inside the source, "
        "capital letters matter, and there are no braces"
    )

    assert [sentence] == [str(note) for note in nothing.notes]
    assert nothing.notes == read_stats(tmp_path / "stats.yaml").notes
    assert () == measure(tmp_path, exclude=["3.png"], workers=1).notes
    assert () == measure(tmp_path, exclude=["5.png"], shard=(2, 2), workers=1).notes
