"""Whatever the road of an image, file, array, Dataset, iterable or loader: the same sums, and the true ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset
from torchvision.transforms import functional

import imgnorm
from imgnorm.measuring.opening import open_source
from imgnorm.settings import Digits, ImageSettings
from imgnorm.sources.source import Unit
from imgnorm.tally.moments import Moments
from imgnorm.workers.executor import Work
from imgnorm.workers.this_process import in_this_process

Images = np.ndarray
NO_BYTE = 0.3  # times 255 is no whole number


class ADataset:
    """What has a length and items."""

    def __init__(self, items: Iterable[object]) -> None:
        self.items = list(items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.items[index], 0


class AStream(IterableDataset):
    def __init__(self, items: Iterable[object]) -> None:
        self.items = list(items)

    def __iter__(self) -> Iterator[object]:
        return iter(self.items)


def moments_of(stats: imgnorm.Stats) -> Moments:
    return stats.measurement.pixels.moments()


def counted_at(path: Path, cut: int | None = None, layout: str | None = None) -> Moments:
    """What a worker counts of a file or folder; with `cut`, two shards do, added up."""
    source = open_source(path, layout=layout)
    source.open()
    units = [unit for unit in source.units() if isinstance(unit, Unit)]
    if cut is not None:
        (unit,) = units
        units = [part for part in (unit.part(0, cut), unit.part(cut, len(unit))) if len(part)]
    count = in_this_process(source, Work(Digits(ImageSettings())))
    parts = [count([unit], lambda progress: None) for unit in units]
    (counted,) = sum(parts[1:], parts[0]).counted.values()
    return counted.pixels.moments()


def npy(images: Images, cut: int | None = None) -> Moments:
    with TemporaryDirectory() as folder:
        path = Path(folder, "images.npy")
        np.save(path, images)
        return counted_at(path, cut, layout="NHWC")


def png_files(images: Images) -> Moments:
    with TemporaryDirectory() as folder:
        for number, picture in enumerate(pictures(images)):
            picture.save(Path(folder, f"{number}.png"))
        return counted_at(Path(folder))


def shards_of(items: list[object]) -> Moments:
    parts = [imgnorm.measure(ADataset(items), shard=(i, 2)) for i in (1, 2)]
    return moments_of(imgnorm.merge(parts))


def pictures(images: Images) -> list[Image.Image]:
    return [Image.fromarray(image[..., 0] if image.shape[2] == 1 else image) for image in images]


def tensors(images: Images) -> torch.Tensor:
    """Channels first, as torch has them."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def roads_of_objects(images: Images) -> dict[str, Callable[[], Moments]]:
    items, batches = list(images), tensors(images)
    loader = DataLoader(ADataset(batches), batch_size=2)
    return {
        "Dataset": lambda: moments_of(imgnorm.measure(ADataset(items))),
        "Dataset of tensors": lambda: moments_of(imgnorm.measure(ADataset(batches))),
        "iterable": lambda: moments_of(imgnorm.measure(AStream(items))),
        "DataLoader": lambda: moments_of(imgnorm.measure(loader)),
        "shards of a Dataset": lambda: shards_of(items),
    }


def assert_all(expected: Moments, roads: dict[str, Callable[[], Moments]]) -> None:
    found = {name: road() for name, road in roads.items()}

    assert dict.fromkeys(roads, expected) == found


@given(
    arrays.arrays(
        np.uint8,
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3])),
    ),
    st.data(),
)
@settings(max_examples=12, deadline=None)
def test_8_bit_images_have_the_same_sums_on_every_road(images, data):
    """As bytes, and as the floats that ToTensor, `/ 255` and a float64 copy of either make of them."""
    wide = images.astype(np.int64)
    expected = Moments(
        images[..., 0].size,
        tuple(wide.sum((0, 1, 2)).tolist()),
        tuple((wide * wide).sum((0, 1, 2)).tolist()),
    )
    to_tensor = [functional.to_tensor(picture) for picture in pictures(images)]
    as_floats = {
        "ToTensor": to_tensor,
        "ToTensor, as float64": [tensor.double() for tensor in to_tensor],
        "float64 / 255": list(images / 255),
        "float32 / 255": list((images / 255).astype(np.float32)),
    }
    cut = data.draw(st.integers(0, len(images)))

    roads = {
        "files": lambda: png_files(images),
        ".npy": lambda: npy(images),
        "shards of .npy": lambda: npy(images, cut),
        "Dataset of pictures": lambda: moments_of(imgnorm.measure(ADataset(pictures(images)))),
        **roads_of_objects(images),
    }
    for name, items in as_floats.items():
        roads[name] = lambda items=items: moments_of(imgnorm.measure(ADataset(items)))
    assert_all(expected, roads)


@st.composite
def float_images(draw: st.DrawFn) -> Images:
    """Each with many values that are k/255, or that only round to it in float32."""
    dtype = np.dtype(draw(st.sampled_from([np.float32, np.float64])))
    shape = draw(st.tuples(*[st.integers(1, 3)] * 3, st.sampled_from([1, 3])))
    levels = st.integers(0, 255).map(lambda level: level / 255)
    close = st.sampled_from([0.0, 5e-324, 1e-46, 1e-17, 1e-9, -1e-12])
    anything = st.floats(allow_nan=False, allow_infinity=False, width=8 * dtype.itemsize)
    values = st.one_of(st.builds(lambda level, more: level + more, levels, close), anything)
    images = draw(arrays.arrays(np.float64, shape, elements=values)).astype(dtype)
    images[:, 0, 0, 0] = NO_BYTE
    return images


@pytest.mark.filterwarnings("ignore:.*look normalized already:imgnorm.errors.SourceWarning")
@given(float_images(), st.data())
@settings(max_examples=20, deadline=None)
def test_float_images_have_their_true_sums_on_every_road(images, data):
    cut = data.draw(st.integers(0, len(images)))
    expected = npy(images)

    unit = Fraction(1, 1 << expected.unit_bits)
    for channel in range(images.shape[3]):
        values = [Fraction(float(value)) for value in images[..., channel].ravel()]
        assert sum(values) == expected.total[channel] * unit
        assert sum(value * value for value in values) == expected.total_sq[channel] * unit**2
    assert_all(expected, {"shards of .npy": lambda: npy(images, cut), **roads_of_objects(images)})


@pytest.mark.parametrize(
    "pixels",
    [np.full((1, 4, 4, 3), 1e-46), 1 + 1e-9 * np.random.default_rng(1).random((1, 20, 20, 3))],
)
def test_values_that_only_round_to_bytes_in_float32_are_floats(pixels):
    """They had mean 0 or 1, and std 0."""
    stats = imgnorm.measure(ADataset(pixels))

    assert "RGB;F" == stats.mode
    assert npy(pixels) == moments_of(stats)
    assert np.allclose(pixels.mean((0, 1, 2)), stats.mean, rtol=1e-15)
