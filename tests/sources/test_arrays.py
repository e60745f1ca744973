"""Arrays in .npy and .npz files: the integers of NumPy, whatever their layout, order and compression."""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from counting import job_count, sums_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import imgnorm
from imgnorm.cli import run
from imgnorm.errors import ImgnormError, IncompatibleStats, SourceError
from imgnorm.pixels import planes
from imgnorm.pixels.count import Counting
from imgnorm.pixels.floats import count_floats
from imgnorm.pixels.images import count_arrays
from imgnorm.pixels.load import array_of
from imgnorm.settings import Digits, ImageSettings, mode_of
from imgnorm.sources import arrayfile, arrays
from imgnorm.sources.arrayfile import ArrayFile
from imgnorm.sources.arrays import ArrayFileSource
from imgnorm.sources.listing import all_names_of
from imgnorm.sources.names import NumberedNames
from imgnorm.sources.npy import header_of
from imgnorm.sources.source import Block, Source, Unit
from imgnorm.stats.file import parse_stats
from imgnorm.stats.format import text_of
from imgnorm.stats.stats import Stats, merge
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.workers.work_queue import Task, WorkQueue

Array = npt.NDArray[Any]
KINDS = {"|u1": "8-bit", "<u2": "16-bit", ">u2": "16-bit", "<f4": "float", ">f8": "float"}


def pixels(*shape: int, dtype: str = "u1", seed: int = 0) -> Array:
    random_ = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return random_.standard_normal(shape).astype(dtype)
    return random_.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def saved(path: Path, array: Array) -> str:
    np.save(path, array)
    return str(path)


def names_of(source: Source) -> NumberedNames:
    """The names of all images."""
    units = [entry for entry in source.units() if isinstance(entry, Unit)]
    return NumberedNames(run for unit in units for run in unit.names.runs)  # type: ignore[union-attr]


def blocks_of(
    source: ArrayFileSource, names: Sequence[str]
) -> Iterator[Block | tuple[Sequence[str], Unreadable]]:
    """What is read of these images, block by block."""
    for blocks in source.images(Unit("some", names)):
        try:
            yield blocks.read()
        except Unreadable as fault:
            yield blocks.names, fault


def measured(path: str | Path, **options: Any) -> Stats:
    return imgnorm.measure(path, workers=2, **options)


def assert_counts(stats: Stats, images: Array) -> None:
    """As NumPy's int64 says of (N, H, W, C); of floats, as Fractions do in test_floatcount."""
    assert stats.measurement is not None
    assert len(images) == stats.images
    if images.dtype.kind == "f":
        (wanted,) = count_floats(images).counted.values()
        assert wanted.pixels == stats.measurement.pixels
        assert wanted.sums == stats.measurement.sums
        return
    whole = images.astype(np.int64)
    moments = stats.measurement.pixels.moments()
    assert images[..., 0].size == moments.count
    assert tuple(whole.sum(axis=(0, 1, 2)).tolist()) == moments.total
    assert tuple((whole**2).sum(axis=(0, 1, 2)).tolist()) == moments.total_sq
    histogram = stats.measurement.histogram
    assert histogram is not None
    for channel in range(images.shape[3]):
        counts = np.bincount(images[..., channel].ravel(), minlength=histogram.bins)
        assert tuple(counts.tolist()) == histogram.counts[channel]


# Counted as NumPy counts


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", list(KINDS))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_every_dtype_layout_and_order_gives_the_same_pixels(
    tmp_path, dtype, order, layout, channels
):
    images = pixels(7, 9, 11, channels, dtype=dtype)
    stored = images if layout == "NHWC" else images.transpose(0, 3, 1, 2)
    path = saved(tmp_path / "a.npy", np.asarray(stored, order=order))
    source = ArrayFileSource(path, [path])
    names = names_of(source)
    mode = mode_of(channels, KINDS[dtype])  # type: ignore[arg-type]
    counted = job_count(source, names, Counting(Digits(ImageSettings(), 1000)))

    assert [f"a.npy/{i}" for i in range(7)] == list(names)
    assert 7 == counted.images
    one = counted.tally.counted[mode]
    wanted = (
        count_floats(images)
        if KINDS[dtype] == "float"
        else count_arrays(images.astype(images.dtype.newbyteorder("=")), mode)
    ).counted[mode]
    assert (wanted.pixels, wanted.sums) == (one.pixels, one.sums)
    assert ({mode: 7}, {"NPY": 7}) == (one.modes, one.formats)


@pytest.mark.parametrize("dtype", list(KINDS))
def test_a_whole_run_gives_numpys_sums(tmp_path, dtype):
    images = pixels(50, 8, 9, 3, dtype=dtype)

    assert_counts(measured(saved(tmp_path / "a.npy", images)), images)


def test_gray_arrays_are_gray_and_become_rgb_when_asked(tmp_path):
    images = pixels(6, 8, 9, 1)
    path = saved(tmp_path / "a.npy", images[..., 0])

    assert "L" == measured(path).mode
    assert_counts(measured(path), images)
    assert_counts(measured(path, mode="RGB"), images.repeat(3, axis=3))


@pytest.mark.parametrize(
    ("shape", "layout", "images"),
    [((8, 9, 3), "HWC", 1), ((3, 8, 9), "CHW", 1), ((8, 9), "HW", 1), ((3, 8, 9), "NHW", 3)],
)
def test_the_layout_may_be_said(tmp_path, shape, layout, images):
    array = pixels(*shape)
    path = saved(tmp_path / "a.npy", array)
    in_order = {
        "HWC": array[np.newaxis],
        "CHW": np.moveaxis(array, 0, -1)[np.newaxis],
        "HW": array[np.newaxis, ..., np.newaxis],
        "NHW": array[..., np.newaxis],
    }[layout]
    stats = measured(path, layout=layout)

    assert images == stats.images
    assert_counts(stats, in_order)


def test_satellite_images_have_as_many_channels_as_they_have(tmp_path):
    images = pixels(3, 13, 10, 12)
    stats = measured(saved(tmp_path / "a.npy", images), layout="NCHW")

    assert ("C13", tuple(f"c{i}" for i in range(13))) == (stats.mode, stats.channels)
    assert_counts(stats, images.transpose(0, 2, 3, 1))
    assert stats == parse_stats(text_of(stats).encode(), "f.yaml")


def test_a_16_bit_file_of_several_channels_is_read_back(tmp_path):
    images = pixels(3, 8, 9, 3, dtype="u2")
    stats = measured(saved(tmp_path / "a.npy", images))

    assert ("RGB;16", 65535) == (stats.mode, stats.scale)
    assert stats == parse_stats(text_of(stats).encode(), "f.yaml")


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_the_way_it_runs_never_changes_a_byte(tmp_path, dtype):
    images = pixels(101, 8, 9, 3, dtype=dtype)
    path = saved(tmp_path / "a.npy", images)
    texts = {text_of(imgnorm.measure(path, workers=workers)) for workers in (1, 2, 3)}
    parts = [imgnorm.measure(path, workers=1, shard=(i, 3)) for i in (2, 3, 1)]

    assert {text_of(merge(parts))} == texts


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_an_image_larger_than_a_block_is_counted_in_strips(monkeypatch, dtype, block):
    images = pixels(2, 30, 40, 3, dtype=dtype)
    mode = mode_of(3, KINDS[np.dtype(dtype).str])  # type: ignore[arg-type]
    wanted = count_arrays(images, mode)
    monkeypatch.setattr(planes, "_PIXELS", block)
    monkeypatch.setattr(planes, "_LARGE", 0)

    assert wanted == count_arrays(images, mode)


@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([1, 2, 3]),
    st.randoms(),
)
@settings(max_examples=50, deadline=None)
def test_per_image_sums_of_16_bit_arrays_are_those_of_their_histograms(n, h, w, c, chance):
    images = pixels(n, h, w, c, dtype="u2", seed=chance.randrange(1 << 30))
    histograms = np.stack(
        [[np.bincount(i[..., k].ravel(), minlength=65536) for k in range(c)] for i in images]
    )
    mode = mode_of(c, "16-bit")

    assert sums_of(histograms) == count_arrays(images, mode).counted[mode].sums


# Many files, and .npz


def test_a_pattern_is_all_its_files_and_one_image_each_is_fine(tmp_path):
    images = pixels(5, 8, 9, 3)
    for index, image in enumerate(images):
        saved(tmp_path / f"{index}.npy", image)
    stats = measured(f"{tmp_path}/*.npy")
    source = ArrayFileSource("x", [str(p) for p in tmp_path.glob("*.npy")])

    assert_counts(stats, images)
    assert [f"{i}.npy" for i in range(5)] == names_of(source)


def test_shards_of_many_images_add_up(tmp_path):
    images = pixels(9, 8, 9, 3)
    saved(tmp_path / "a.npy", images[:4])
    saved(tmp_path / "b.npy", images[4:])

    assert_counts(measured(f"{tmp_path}/{{a,b}}.npy"), images)


def test_a_folder_of_arrays_says_how_to_name_them(tmp_path):
    saved(tmp_path / "a.npy", pixels(8, 9, 3))
    with pytest.raises(SourceError) as caught:
        measured(tmp_path)

    assert (
        f"{tmp_path}: no images in it (passed over: 1 suffix); it has arrays: if each holds one image or "
        f"many, name them as '{tmp_path}/*.npy'"
    ) == str(caught.value)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".zip"])
def test_a_folder_of_archives_says_how_to_name_them(tmp_path, suffix):
    (tmp_path / f"train-000{suffix}").touch()
    with pytest.raises(SourceError) as caught:
        measured(tmp_path)

    assert (
        f"{tmp_path}: no images in it (passed over: 1 suffix); it has archives: name them as "
        f"'{tmp_path}/*{suffix}'"
    ) == str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_images_of_an_npz_are_counted_and_its_labels_are_not(tmp_path, save):
    images = pixels(300, 8, 9, 3)
    path = tmp_path / "a.npz"
    save(path, x_train=images, y_train=np.arange(300), names=np.array(["a", None]))
    stats = measured(path)

    assert_counts(stats, images)
    assert stats.measurement is not None
    assert {"not-images": 2} == stats.measurement.ignored


def test_one_of_several_arrays_is_named_behind_the_file(tmp_path):
    train, test = pixels(20, 8, 9, 3), pixels(10, 8, 9, 3, seed=1)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x_train=train, x_test=test)

    assert_counts(measured(f"{path}/x_test"), test)
    assert_counts(measured(f"{path}/x_train"), train)
    with pytest.raises(SourceError) as caught:
        measured(path)
    assert (
        f"{path}: holds the images x_train and x_test; name one of them, such as {path}/x_train"
        == str(caught.value)
    )  # fmt: skip


def test_an_array_with_a_slash_in_its_name_is_named_behind_the_file(tmp_path):
    train, test = pixels(20, 8, 9, 3), pixels(10, 8, 9, 3, seed=1)
    path = tmp_path / "a.npz"
    np.savez(path, **{"x/train": train, "x/test": test})

    assert_counts(measured(f"{path}/x/test"), test)


def test_compressed_images_are_read_in_any_order(tmp_path):
    images = pixels(40, 8, 9, 3)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images)
    source = ArrayFileSource("a.npz", [str(path)])
    names = list(names_of(source))
    random.Random(0).shuffle(names)
    counted = job_count(source, names, Counting(Digits(ImageSettings(), 1000)))

    assert 40 == counted.images
    assert count_arrays(images, "RGB").counted["RGB"].pixels == counted.tally.counted["RGB"].pixels


# Options


def queue_of(paths: list[Path], workers: int) -> tuple[WorkQueue, ArrayFileSource]:
    source = ArrayFileSource("a", map(str, paths))
    queue = WorkQueue(workers, (1, 1024), joins_units=source.joins_units)  # few images a task
    for unit in source.units():
        if isinstance(unit, Unit):
            queue.add(unit)
    queue.end()
    return queue, source


def test_one_worker_inflates_a_compressed_array(tmp_path):
    """Another one would inflate it from its beginning, too, which takes longer than counting."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=pixels(5000, 5, 5, 3))
    queue, source = queue_of([path], 2)
    counted: list[str] = []
    suspects: list[str] = []
    turn = 0
    while queue._names_left:
        task = queue.take(0)
        assert task is not None
        assert queue._next(1) is None  # it waits
        names = list(task.unit.names or ())
        if turn % 5 == 3 and len(names) > 3:  # it had no time for all of them
            queue.give_back(task.part(2, len(names)))
            names = names[:2]
        elif turn % 5 == 4 and len(names) > 3:  # it died at the third
            suspect = Task(task.unit.part(2, 3), alone=True)
            queue.give_back(task.part(0, 2), suspect, task.part(3, len(names)))
            suspects.append(names[2])
            names = []
        counted += names
        queue.done()
        turn += 1

    assert len(suspects) > 1
    assert [name for name in names_of(source) if name not in suspects] == counted
    assert suspects[:1] == queue.take(1).unit.names  # type: ignore[union-attr]


def test_a_compressed_array_goes_on_without_its_worker(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=pixels(50, 5, 5, 3))
    queue, source = queue_of([path], 2)
    queue.drivers = 2
    task = queue.take(0)
    queue.give_back(task)  # type: ignore[arg-type]
    queue.done()
    queue.withdraw(0, ImgnormError("no process"))
    left: list[str] = []
    while queue._names_left:
        left += queue.take(1).unit.names  # type: ignore[union-attr,operator]

    assert names_of(source) == left


def test_compressed_arrays_have_a_worker_each_and_stored_ones_all(tmp_path):
    for name in "ab":
        np.savez_compressed(tmp_path / f"{name}.npz", x=pixels(50, 5, 5, 3))
        np.save(tmp_path / f"{name}.npy", pixels(50, 5, 5, 3))
    compressed, _ = queue_of([tmp_path / "a.npz", tmp_path / "b.npz"], 2)
    stored, _ = queue_of([tmp_path / "a.npy", tmp_path / "b.npy"], 2)
    takers: dict[str, set[int]] = {}
    for queue in (compressed, stored):
        while queue._names_left:
            for worker in (0, 1):
                task = queue._next(worker)
                for name in (task.unit.names if task else None) or ():
                    takers.setdefault(name.partition("/")[0], set()).add(worker)

    assert {"a.npz": {0}, "b.npz": {1}, "a.npy": {0, 1}, "b.npy": {0, 1}} == takers


def test_a_large_array_is_several_units_that_stay_where_they_are(tmp_path, monkeypatch):
    """`--shard` divides units: today's are tomorrow's, also when images were added at the end."""
    monkeypatch.setattr(arrays, "_UNIT_BYTES", 10 * 8 * 9 * 3)
    ids = []
    for images in (95, 99):
        path = saved(tmp_path / "a.npy", pixels(images, 8, 9, 3))
        source = ArrayFileSource(path, [path])
        units = [unit for unit in source.units() if isinstance(unit, Unit)]
        ids.append([unit.id for unit in units])

        assert [*[10] * 9, images - 90] == list(map(len, units))
        assert [f"a.npy/{n:02}" for n in range(images)] == names_of(source)
    assert [f"a.npy/{n:02}" for n in range(0, 99, 10)] == ids[0] == ids[1]


def test_images_larger_than_a_unit_are_a_unit_each(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_UNIT_BYTES", 1)
    path = saved(tmp_path / "a.npy", pixels(3, 8, 9, 3))

    units = [unit for unit in ArrayFileSource(path, [path]).units() if isinstance(unit, Unit)]
    assert [(1, 216, False)] * 3 == [(len(unit), unit.bytes, unit.forward) for unit in units]


def test_a_compressed_array_is_one_unit_to_be_read_forward(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_UNIT_BYTES", 1)
    np.savez_compressed(tmp_path / "a.npz", x=pixels(50, 5, 5, 3))
    source = ArrayFileSource("a", [str(tmp_path / "a.npz")])

    (unit,) = (unit for unit in source.units() if isinstance(unit, Unit))
    assert (50, True) == (len(unit), unit.forward)


def test_the_headers_are_read_once(tmp_path, monkeypatch):
    """Also if it is asked first whether the settings fit: a compressed array is expanded for that."""
    np.savez_compressed(tmp_path / "a.npz", x=pixels(50, 5, 5, 3))
    opened: list[str] = []
    open_ = arrays.ArrayFile
    monkeypatch.setattr(arrays, "ArrayFile", lambda path, *_: opened.append(path) or open_(path))
    source = ArrayFileSource("a", [str(tmp_path / "a.npz")])
    source.check(ImageSettings())
    units = list(source.units())

    assert units == list(source.units())
    assert [str(tmp_path / "a.npz")] == opened


def test_the_order_of_the_units_is_that_of_the_names(tmp_path):
    for name in ("a", "a-b", "a.npy", "b"):
        saved(tmp_path / f"{name}.npy", pixels(1 if "b" in name else 12, 8, 9, 3))
    single = saved(tmp_path / "a.npy-", pixels(8, 9, 3)) + ".npy"
    source = ArrayFileSource("a", [*map(str, tmp_path.glob("*.npy")), single])

    names = list(names_of(source))
    assert sorted(names, key=os.fsencode) == names


def saved_as(folder: Path, how: str, images: Array) -> str:
    if how == "npz":
        np.savez(folder / "a.npz", x=images)
    elif how == "compressed":
        np.savez_compressed(folder / "a.npz", x=images)
    else:
        np.save(folder / "a.npy", np.asarray(images, order=how))  # type: ignore[call-overload]
    return str(next(folder.iterdir()))


SAVED = ["C", "F", "npz", "compressed"]


LIMITED = [i * 100 // 77 for i in range(77)]


@pytest.mark.parametrize("how", SAVED)
def test_scattered_images_are_counted(tmp_path, how):
    images = pixels(100, 8, 9, 3)

    assert_counts(measured(saved_as(tmp_path, how, images), limit=77), images[LIMITED])


@pytest.mark.parametrize("how", ["C", "F", "npz"])
@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({"shard": (2, 3)}, [i for i in range(100) if i // 10 % 3 == 1]),
        ({"limit": 77, "shard": (1, 2)}, [i for i in LIMITED if i // 10 % 2 == 0]),
    ],
)
def test_a_shard_has_every_so_many_units_of_an_array(tmp_path, monkeypatch, how, options, places):
    monkeypatch.setattr(arrays, "_UNIT_BYTES", 10 * 8 * 9 * 3)
    images = pixels(100, 8, 9, 3)

    assert_counts(measured(saved_as(tmp_path, how, images), **options), images[places])


def test_a_compressed_array_belongs_to_one_shard(tmp_path):
    images = pixels(100, 8, 9, 3)
    path = saved_as(tmp_path, "compressed", images)

    assert_counts(measured(path, shard=(1, 3)), images)
    assert 0 == measured(path, shard=(2, 3)).images


@pytest.mark.parametrize("how", SAVED)
@pytest.mark.parametrize("block_bytes", [1, 2000, 1 << 20])
@pytest.mark.parametrize("places", [range(100), range(1, 100, 3), [0, 1, 2, 50, 51, 7, 99, 98]])
def test_scattered_images_are_gathered_into_blocks(tmp_path, monkeypatch, how, block_bytes, places):
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", block_bytes)
    images = pixels(100, 8, 9, 3)
    path = saved_as(tmp_path, how, images)
    source = ArrayFileSource(path, [path])
    names = names_of(source)
    numbered = names[places.start :: places.step] if isinstance(places, range) else []
    for some in (numbered, [names[place] for place in places]):
        left = list(zip(some, places, strict=False))
        for block in blocks_of(source, some):
            assert isinstance(block, Block)
            (its_names, its_places), left = (
                zip(*left[: len(block.names)], strict=True),
                left[len(block.names) :],
            )
            assert list(its_names) == list(block.names)
            assert (images[list(its_places)] == array_of(block)).all()
        assert not left


def test_a_limit_is_spread_over_all_images(tmp_path):
    images = pixels(100, 8, 9, 3)

    assert_counts(measured(saved(tmp_path / "a.npy", images), limit=10), images[::10])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_resizing_is_that_of_the_same_images_in_files(tmp_path, channels, mode):
    images = pixels(5, 20, 30, channels)
    path = saved(tmp_path / "a.npy", images)
    folder = tmp_path / "png"
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image[..., 0] if channels == 1 else image).save(folder / f"{index}.png")
    options = {"resize": 12, "center_crop": 10, "mode": mode}
    a, b = measured(path, **options).measurement, measured(folder, **options).measurement

    assert a is not None
    assert b is not None
    assert (b.pixels, b.sums) == (a.pixels, a.sums)


def test_16_bit_gray_is_resized_too(tmp_path):
    images = pixels(5, 20, 30, 1, dtype="u2")
    stats = measured(saved(tmp_path / "a.npy", images), center_crop=(20, 30))

    assert_counts(stats, images)


REFUSED = [
    ({"resize": 4}, (5, 8, 9, 3), "f4", "has mode RGB;F, which no PIL image has; leave out --resize and --center-crop, or resize the arrays themselves"),
    ({"mode": "L"}, (5, 8, 9, 3), "u1", "has mode RGB, and arrays are not converted to L; leave out --mode"),
    ({"per_class": True}, (5, 8, 9, 3), "u1", "has no class folders; measure it without --per-class"),
    ({"layout": "HWC"}, (5, 8, 9, 3), "u1", "shape (5, 8, 9, 3) has 4 dimensions, and --layout HWC has 3"),
    ({}, (3, 20, 30), "u1", "shape (3, 20, 30) may be NHW (3 images of 20x30, 1 channel) or CHW (1 image of 20x30, 3 channels); choose with --layout"),
    ({}, (9, 13, 20, 30), "u1", "shape (9, 13, 20, 30) may be NHWC (9 images of 13x20, 30 channels) or NCHW (9 images of 20x30, 13 channels); choose with --layout"),
    ({}, (60, 784), "u1", "shape (60, 784) may be one gray image, or a table; give --layout HW if it is an image, or reshape it if it is many images, flattened"),
    ({}, (60,), "u1", "shape (60,) is not a shape of images; reshape it to 3 or 4 dimensions, such as NHWC"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "shape", "dtype", "message"), REFUSED)
def test_what_cannot_be_is_refused_with_what_to_do(
    tmp_path, monkeypatch, options, shape, dtype, message
):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "a.npy", pixels(*shape, dtype=dtype))
    with pytest.raises(SourceError) as caught:
        measured("a.npy", **options)

    assert f"a.npy: {message}" == str(caught.value)


@pytest.mark.parametrize("how", ["C", "npz", "compressed"])
def test_an_image_that_is_read_alone_takes_no_more_memory_than_its_bytes(tmp_path, how):
    path = saved_as(tmp_path, how, pixels(100, 8, 9, 3))
    source = ArrayFileSource(path, [path])
    block = source.read(names_of(source)[50])

    assert isinstance(block.data, memoryview)
    assert 8 * 9 * 3 == len(block.data.obj)


def test_a_source_that_reports_to_its_process_can_be_sent_to_another(tmp_path):
    """What it calls while it seeks belongs to one process, and stays behind."""
    images = pixels(2, 8, 9, 3)
    path = saved(tmp_path / "a.npy", images)
    source = ArrayFileSource(path, [path])
    names = names_of(source)
    source.keep_alive(lambda: None)  # cannot be pickled
    (block,) = blocks_of(pickle.loads(pickle.dumps(source)), names)

    assert isinstance(block, Block)
    assert (images == array_of(block)).all()


def test_a_file_of_another_folder_is_named_as_the_user_did(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir").mkdir()
    saved(tmp_path / "dir" / "a.npy", pixels(5, 6))

    assert 2 == run(["stats", "dir/a.npy"])
    assert capsys.readouterr().err.startswith("dir/a.npy: shape (5, 6) may be one gray image, or ")


def test_arrays_that_do_not_belong_together_are_refused(tmp_path):
    saved(tmp_path / "a.npy", pixels(5, 8, 9, 3))
    saved(tmp_path / "b.npy", pixels(5, 8, 9, 3, dtype="f4"))
    with pytest.raises(SourceError) as caught:
        measured(f"{tmp_path}/*.npy")

    assert (
        f"{tmp_path}/b.npy: has mode RGB;F, but {tmp_path}/a.npy has mode RGB; measure them separately"
        == str(caught.value)
    )  # fmt: skip


def test_16_bit_arrays_do_not_merge_with_8_bit_ones(tmp_path):
    a = measured(saved(tmp_path / "a.npy", pixels(2, 8, 9, 3)))
    b = measured(saved(tmp_path / "b.npy", pixels(2, 8, 9, 3, dtype="u2")))
    with pytest.raises(IncompatibleStats) as caught:
        merge([a, b], labels=["a", "b"])

    assert (
        "b: 16-bit (mode RGB;16), but a is 8-bit (RGB); the scales of their values differ, so keep "
        "them apart"
    ) == str(caught.value)


@pytest.mark.parametrize("source", ["folder", "torchvision:MNIST"])
def test_a_layout_for_what_is_no_array_is_refused(tmp_path, source, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()

    assert 2 == run(["stats", source, "--layout", "NHWC"])
    assert (
        f"{source}: --layout is for .npy and .npz files; leave it out\n"
        == capsys.readouterr().err
    )  # fmt: skip


def test_an_unknown_layout_is_a_callers_bug(tmp_path):
    with pytest.raises(ValueError, match="layout is 'WHC'; expected one of NHWC, NCHW"):
        measured(saved(tmp_path / "a.npy", pixels(8, 9, 3)), layout="WHC")


def test_the_command_measures_and_shows_floats(tmp_path, capsys):
    path = saved(tmp_path / "a.npy", pixels(5, 8, 9, 3, dtype="f4"))
    out = str(tmp_path / "stats.yaml")

    assert 0 == run(["stats", path, "-o", out, "-q"])
    assert 0 == run(["show", out])
    assert "images   5 (5 RGB;F; 5 NPY)" in capsys.readouterr().out


# Faults


def refusal(path: Path) -> str:
    with pytest.raises(ImgnormError) as caught:
        measured(path)
    return str(caught.value).splitlines()[-1].strip()


DAMAGED = [
    (lambda d: d[:-1], "truncated (shape (5, 8, 9, 3) of |u1 takes 1,208 bytes; there are 1,207)"),
    (lambda d: d + d, "corrupt (1,208 bytes follow the array, perhaps another one)"),
    (lambda d: d[:50], "truncated (the header is cut off)"),
    (lambda d: d[:8], "truncated (the header is cut off)"),
    (lambda d: d[:10] + b"!" + d[11:], "corrupt (its header is not a dictionary)"),
    (lambda d: d[:6] + b"\x09" + d[7:], "unsupported-format (version 9 of the .npy format)"),
    (lambda d: d[:8] + b"\xff\xff" + d[10:], "corrupt (a header of 65,535 bytes)"),
    (lambda d: d.replace(b"'shape'", b"'shpae'"), "corrupt (its header has other keys than descr, fortran_order and shape)"),
    (lambda d: d.replace(b"(5, 8, 9, 3)", b"(5, 8, 9,-3)"), "corrupt (its shape has a negative dimension)"),
    (lambda d: d.replace(b"(5, 8, 9, 3), }      ", b"(0x1000000000000,), }"), "corrupt (its shape is larger than any file)"),
    (lambda d: d[:10] + (b"{'descr':'|u1','fortran_order':False,'shape':(%s)}" % (b"5," * 33)).ljust(118) + d[128:], "corrupt (its shape has 33 dimensions)"),
    (lambda d: d.replace(b"(5, 8, 9, 3)", b"[5, 8, 9, 3]"), "corrupt (its header has no shape)"),
    (lambda d: d.replace(b"'|u1'", b"'|i1'"), "unsupported-mode (dtype '|i1': save them as uint8 or uint16, or as float32 if they are something else)"),
    (lambda d: d.replace(b"'|u1'", b"'|b1'"), "unsupported-mode (dtype '|b1': booleans are not pixels; save them as uint8, 0 and 255 if they are black and white)"),
    (lambda d: d.replace(b"'|u1'", b"'|O' "), "unsupported-mode (dtype '|O8': it is pickled, and unpickling runs code; save an array of numbers)"),
    (lambda d: d.replace(b"'|u1'", b"'M8' "), "corrupt (its header has no dtype, or no order)"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "told"), DAMAGED)
def test_a_damaged_file_is_named_and_nothing_of_it_is_counted(tmp_path, damage, told):
    path = tmp_path / "a.npy"
    saved(path, pixels(5, 8, 9, 3))
    path.write_bytes(damage(path.read_bytes()))

    assert f"a.npy: {told}" == refusal(path)


def test_the_other_files_are_counted_beside_a_damaged_one(tmp_path):
    images = pixels(5, 8, 9, 3)
    saved(tmp_path / "a.npy", images)
    (tmp_path / "b.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    (tmp_path / "c.npy").write_bytes(b"")
    with pytest.warns(imgnorm.SkippedImagesWarning):
        stats = measured(f"{tmp_path}/*.npy")

    assert_counts(stats, images)
    assert [("b.npy", Reason.TRUNCATED), ("c.npy", Reason.EMPTY_FILE)] == [
        (s.name, s.reason) for s in stats.skipped
    ]


def test_pickles_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    np.save(tmp_path / "a.npy", np.array([Bomb()], object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", x=np.array([[[Bomb()]]], object))
    pickled = "it is pickled, and unpickling runs code; save an array of numbers"

    assert f"a.npy: unsupported-mode (dtype '|O8': {pickled})" == refusal(tmp_path / "a.npy")
    assert f"b.npz: unsupported-mode (dtype '|O8': {pickled})" == refusal(tmp_path / "b.npz")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_in_an_npz_is_found(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, x=pixels(50, 8, 9, 3))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    assert refusal(path).startswith("a.npz: archive-corrupt (x: ")


def test_a_cut_npz_is_found(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=pixels(50, 8, 9, 3))
    path.write_bytes(path.read_bytes()[:-100])

    assert refusal(path).startswith("a.npz: archive-truncated (")


def test_an_npz_without_images_says_what_it_has(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, y=np.arange(5), z=np.arange(3))

    assert (
        "a.npz: not-an-image (no array of images (3 or 4 dimensions) in it; it has y, z)"
        == refusal(path)
    )  # fmt: skip


def test_compressed_fortran_order_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.asfortranarray(pixels(5, 8, 9, 3)))

    assert (
        "a.npz: archive-unsupported-compression (x: compressed in Fortran order; save it with "
        "np.savez, or in C order)"
    ) == refusal(path)


def test_other_compressions_are_refused(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, pixels(5, 8, 9, 3))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", buffer.getvalue())

    assert (
        "a.npz: archive-unsupported-compression (x: neither stored nor deflated; save it with np.savez)"
        == refusal(tmp_path / "a.npz")
    )


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_changes_while_it_is_read_is_not_counted(tmp_path, order):
    path = saved(tmp_path / "a.npy", np.asarray(pixels(5, 8, 9, 3), order=order))
    source = ArrayFileSource(path, [path])
    names = names_of(source)
    os.utime(path, ns=(1, 1))
    counted = job_count(source, names, Counting(Digits(ImageSettings(), 1000)))
    fault = (Reason.CHANGED_DURING_READ, "the file changed while it was measured")

    assert (5, {}) == (counted.images, counted.tally.counted)
    assert tuple(Skipped(name, *fault) for name in names) == counted.tally.skipped


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_is_cut_while_it_is_read_is_named(tmp_path, order):
    """Mapped into memory it would kill the worker, and be listed as that."""
    images = pixels(50, 60, 90, 3)
    path = saved(tmp_path / "a.npy", np.asarray(images, order=order))
    source = ArrayFileSource(path, [path])
    names = names_of(source)
    first = next(blocks_of(source, names[:2]))
    os.truncate(path, 400_000)
    (_, fault), *_ = blocks_of(source, names[40:])  # type: ignore[misc]

    assert (images[:2] == array_of(first)).all()
    assert Reason.CHANGED_DURING_READ == fault.reason
    assert "the file became shorter while it was measured" == fault.detail


@pytest.mark.parametrize("dtype", ["u1", ">u2", "f4"])
@pytest.mark.parametrize("window", [1, 100, 3000, 1 << 20])
@pytest.mark.parametrize(("shape", "layout"), [((50, 7, 3, 3), "NHWC"), ((9, 8, 3), "HWC")])
def test_images_in_fortran_order_are_gathered_whatever_is_read_at_once(
    tmp_path, monkeypatch, dtype, window, shape, layout
):
    monkeypatch.setattr(arrayfile, "_WINDOW", window)
    images = np.asfortranarray(pixels(*shape, dtype=dtype))
    path = saved(tmp_path / "a.npy", images)
    source = ArrayFileSource(path, [path], layout)
    names = names_of(source)
    blocks = [
        block for part in (names[:3], names[3:4], names[4:]) for block in blocks_of(source, part)
    ]

    expected = images if layout == "NHWC" else images[np.newaxis]
    assert (expected == np.concatenate([array_of(block) for block in blocks])).all()


def test_images_above_the_limit_of_pixels_are_skipped(tmp_path):
    path = saved(tmp_path / "a.npy", pixels(5, 8, 9, 3))
    with pytest.raises(SourceError) as caught:
        measured(path, max_pixels=71)

    assert (
        "a.npy/0: too-large (9x8 is 72 pixels; the limit is 71 (--max-pixels))"
        == str(caught.value).splitlines()[1].strip()
    )  # fmt: skip


def test_nan_costs_its_image_only(tmp_path):
    images = pixels(5, 8, 9, 3, dtype="f4")
    images[2, 3, 4, 1] = np.nan
    with pytest.warns(imgnorm.SkippedImagesWarning):
        stats = measured(saved(tmp_path / "a.npy", images))

    assert_counts(stats, np.delete(images, 2, axis=0))
    assert [("a.npy/2", Reason.NONFINITE_PIXELS)] == [(s.name, s.reason) for s in stats.skipped]


@given(st.binary(max_size=200), st.integers(0, 300))
@settings(max_examples=200, deadline=None)
def test_no_header_ends_in_a_traceback(tmp_path_factory, junk, at):
    buffer = io.BytesIO()
    np.save(buffer, pixels(2, 5, 5, 3))
    data = buffer.getvalue()
    data = data[:at] + junk + data[at + len(junk) :]
    path = tmp_path_factory.mktemp("junk") / "a.npy"
    path.write_bytes(data)
    try:
        listing = all_names_of(ArrayFileSource("a", [str(path)]))
    except SourceError:
        return
    assert bool(len(listing)) != bool(listing.skipped)


def test_a_header_of_version_2_is_read(tmp_path):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, pixels(5, 8, 9, 3), version=(2, 0))
    with ArrayFile(str(path)) as file:
        header = header_of(file.bytes.read)

    assert ("|u1", (5, 8, 9, 3), False) == (header.dtype, header.shape, header.fortran)


def test_memory_does_not_grow_with_the_file(tmp_path):
    """A block is what is read at once, however many images there are."""
    path = saved(tmp_path / "a.npy", np.zeros((40, 500, 500, 3), np.uint8))
    source = ArrayFileSource(path, [path])
    sizes = [b.shape[0] for b in blocks_of(source, names_of(source)) if isinstance(b, Block)]

    assert 40 == sum(sizes)
    assert max(sizes) * 500 * 500 * 3 <= 4 << 20


def test_a_decoder_for_pixels_is_refused(tmp_path):
    path = saved(tmp_path / "a.npy", pixels(2, 8, 8, 3))

    with pytest.raises(
        SourceError, match=r"decoder does nothing: these are pixels already; leave it out$"
    ):
        measured(path, decoder="pillow")
