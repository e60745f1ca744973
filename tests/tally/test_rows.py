"""Rows of single images are exact, whatever their road to the process that measures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from imgnorm.measuring.opening import open_source, with_frames
from imgnorm.settings import CenterCrop, Digits, ImageSettings, mode_of
from imgnorm.sources.source import Unit
from imgnorm.tally.rows import ImageFile, Row, rows_in
from imgnorm.tally.tally import Tally
from imgnorm.workers.executor import Work
from imgnorm.workers.pool import in_processes
from imgnorm.workers.this_process import in_this_process

AS_IT_IS = ImageSettings()
SHAPES = [(1, 1), (5, 7), (32, 32), (32, 32), (200, 300), (400, 400)]  # small and large ones


def images_of(channels: int, dtype: type = np.uint8) -> list[np.ndarray]:
    """With zeros and the largest value in some, and neither in others."""
    rng = np.random.default_rng(channels)
    most = np.iinfo(dtype).max
    ranges = [(0, most), (1, most - 1), (0, 3), (most - 2, most), (7, 7), (0, most)]
    return [
        rng.integers(low, high + 1, (*shape, channels)).astype(dtype)
        for shape, (low, high) in zip(SHAPES, ranges, strict=True)
    ]


def row_of(name: str, image: np.ndarray, file: ImageFile) -> Row:
    """By NumPy's int64."""
    most = np.iinfo(image.dtype).max
    kind = "8-bit" if image.dtype == np.uint8 else "16-bit"
    wide = image.reshape(-1, image.shape[2]).astype(np.int64)
    return Row(
        name,
        file,
        mode_of(image.shape[2], kind),
        len(wide),
        total=tuple(wide.sum(axis=0).tolist()),
        total_sq=tuple((wide * wide).sum(axis=0).tolist()),
        least=tuple(wide.min(axis=0).tolist()),
        greatest=tuple(wide.max(axis=0).tolist()),
        zeros=tuple((wide == 0).sum(axis=0).tolist()),
        full=tuple((wide == most).sum(axis=0).tolist()),
    )


def rows_of(tally: Tally) -> list[Row]:
    return sorted(row for packed in tally.rows for row in rows_in(packed))


def counted(
    source: object, settings: ImageSettings = AS_IT_IS, layout: str | None = None, **options: object
) -> Tally:
    opened = with_frames(open_source(source, layout=layout), settings)
    opened.open()
    digits = Digits(settings, per_image=True, per_image_sha256=bool(options.pop("sha256", False)))
    work = Work(digits, **options)
    units = [unit for unit in opened.units() if isinstance(unit, Unit)]
    own = opened.executor(work)
    if own:
        return own(units, lambda progress: None)
    with in_processes(opened, work) as count:
        tally = count(units, lambda progress: None)
    here = in_this_process(opened, work)(units, lambda progress: None)
    assert rows_of(tally) == rows_of(here)
    return tally


def saved(folder: Path, images: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    names = {f"{number}.png": image for number, image in enumerate(images)}
    for name, image in names.items():
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(folder / name)
    return names


def file_of(path: Path) -> ImageFile:
    with Image.open(path) as picture:
        size = picture.size
        mode = "I;16" if picture.mode.startswith("I") else picture.mode
    data = path.read_bytes()
    return ImageFile("PNG", mode, *size, len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (1, np.uint16)])
def test_rows_of_files_are_exact(tmp_path, channels, dtype):
    images = saved(tmp_path, images_of(channels, dtype))

    tally = counted(tmp_path, sha256=True, workers=2)

    assert rows_of(tally) == [row_of(n, i, file_of(tmp_path / n)) for n, i in images.items()]


def test_rows_of_cropped_images_have_the_size_of_the_file(tmp_path):
    images = saved(tmp_path, images_of(3)[4:])
    settings = ImageSettings(preprocess=(CenterCrop(50),))

    rows = rows_of(counted(tmp_path, settings))

    assert [(300, 200), (400, 400)] == [(row.file.width, row.file.height) for row in rows]
    tops = [(image.shape[0] - 50) // 2 for image in images.values()]
    lefts = [(image.shape[1] - 50) // 2 for image in images.values()]
    crops = [
        image[top : top + 50, left : left + 50]
        for image, top, left in zip(images.values(), tops, lefts, strict=True)
    ]
    assert rows == [row_of(r.name, c, r.file) for r, c in zip(rows, crops, strict=True)]


def test_each_frame_has_a_row_with_the_bytes_and_the_digest_of_its_file(tmp_path):
    frames = [Image.new("L", (4, 4), value) for value in (3, 200)]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    data = path.read_bytes()

    rows = rows_of(counted(tmp_path, ImageSettings(frames=1), sha256=True))

    assert ["a.gif", "a.gif#2"] == [row.name for row in rows]
    whole = (len(data), hashlib.sha256(data).hexdigest())
    assert [whole, whole] == [(row.file.bytes, row.file.sha256) for row in rows]


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (5, np.uint8), (3, np.uint16)]
)
def test_rows_of_array_files_are_exact(tmp_path, channels, dtype):
    for number, image in enumerate(images_of(channels, dtype)):
        np.save(tmp_path / f"{number}.npy", np.stack([image, image[::-1, ::-1] // 2]))
    expected = []
    for path in sorted(tmp_path.iterdir()):
        for place, image in enumerate(np.load(path)):
            file = ImageFile("NPY", mode_of(channels, "8-bit" if dtype == np.uint8 else "16-bit"),
                             image.shape[1], image.shape[0])  # fmt: skip
            expected.append(row_of(f"{path.name}/{place}", image, file))

    assert expected == rows_of(counted(f"{tmp_path}/*.npy", layout="NHWC"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_of_floats_are_exact(tmp_path, dtype):
    images = np.random.default_rng(1).normal(size=(30, 9, 11, 3)).astype(dtype)
    images[3, 0, 0, 0] = np.nan  # an image that is not counted
    np.save(tmp_path / "a.npy", images)

    rows = rows_of(counted(tmp_path / "a.npy"))

    assert [f"a.npy/{i:02d}" for i in range(30) if i != 3] == [row.name for row in rows]
    for row in rows:
        wide = images[int(row.name[-2:])].reshape(-1, 3)
        unit = Fraction(1, 1 << row.unit_bits)
        for channel in range(3):
            values = [Fraction(float(value)) for value in wide[:, channel]]
            assert sum(values) == row.total[channel] * unit
            assert sum(v * v for v in values) == row.total_sq[channel] * unit**2
            assert [min(values), max(values)] == [row.least[channel], row.greatest[channel]]


class ADataset:
    def __init__(self, items: Iterable[object]) -> None:
        self.items = list(items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        return self.items[index]


@pytest.mark.parametrize("workers", [None, 2])
def test_rows_of_a_dataset_are_exact(workers):
    images = images_of(3)
    pictures = [Image.fromarray(image) for image in images]

    rows = rows_of(counted(ADataset([*images, *pictures]), workers=workers))

    files = [ImageFile("array", "RGB", i.shape[1], i.shape[0]) for i in images]
    files += [file._replace(format="PIL") for file in files]
    each = zip([*images, *images], files, strict=True)
    assert rows == [row_of(f"{n:02d}", image, file) for n, (image, file) in enumerate(each)]


def test_rows_of_batches_are_exact():
    images = np.random.default_rng(2).integers(0, 256, (10, 3, 8, 8), np.uint8)

    tally = counted(DataLoader(torch.from_numpy(images), batch_size=4))

    file = ImageFile("array", "RGB", 8, 8)
    expected = [row_of(str(n), i.transpose(1, 2, 0), file) for n, i in enumerate(images)]
    assert expected == rows_of(tally)


def test_images_divided_by_255_have_a_row_as_bytes_and_one_as_floats():
    image = np.random.default_rng(3).integers(0, 256, (4, 4, 3), np.uint8)

    as_floats, as_bytes = rows_of(counted(ADataset([(image / 255).astype(np.float32)])))

    file = ImageFile("float k/255", "RGB", 4, 4)
    assert row_of("0", image, file) == as_bytes
    assert ("RGB;F", 16) == (as_floats.mode, as_floats.pixels)


def test_the_process_that_measures_need_not_keep_the_rows(tmp_path):
    images = saved(tmp_path, images_of(1))
    taken: list[bytes] = []

    tally = counted(tmp_path, take_rows=taken.extend)

    assert () == tally.rows
    assert set(images) == {row.name for packed in taken for row in rows_in(packed)}
