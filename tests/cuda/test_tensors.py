"""Tensors on a device are counted there, as NumPy counts them; without a device, the CPU takes its place."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from devices import DEVICES
from torch.utils.data import DataLoader, TensorDataset

import imgnorm
from imgnorm.cuda import kernel as kernels
from imgnorm.cuda import tensors
from imgnorm.datasets import counter as item_counter
from imgnorm.datasets import items
from imgnorm.pixels.images import count_arrays
from imgnorm.tally.tally import Tally


def noise(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Without CUDA, CPU tensors pass for tensors on a device."""
    if request.param == "cpu":
        for module in (items, item_counter):
            monkeypatch.setattr(
                module,
                "is_counted_on_device",
                lambda value: isinstance(value, torch.Tensor) and value.dtype == torch.uint8,
            )
    return torch.device(request.param)


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that were counted on a device: else these tests would compare the CPU with itself."""
    shapes: list[tuple[int, ...]] = []
    count = tensors._counts_of

    def counted(images: torch.Tensor) -> Any:
        shapes.append(tuple(images.shape))
        return count(images)

    monkeypatch.setattr(tensors, "_counts_of", counted)
    return shapes


def tally_of(batches: list[torch.Tensor], mode: str, device: torch.device) -> Tally:
    counter = tensors.TensorCounter(device)
    for batch in batches:
        mine = batch.to(device, copy=True)
        counter.add(mine, mode)
        mine.zero_()  # as code that yields the next images may
    return counter.tally()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("together", [1, 500, 1 << 20])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (13, "C13")])
def test_batches_of_any_size_are_counted_as_on_the_cpu(
    monkeypatch, device, together, planes, channels, mode
):
    monkeypatch.setattr(tensors, "_TOGETHER", together)
    monkeypatch.setattr(tensors, "_AT_ONCE", 300)
    arrays = [noise((n, 9, 7 + n % 2, channels), n) for n in (1, 1, 5, 2, 0, 30)]
    batches = [torch.from_numpy(array) for array in arrays]
    if planes:
        batches = [b.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for b in batches]
    expected = sum((count_arrays(array, mode) for array in arrays), Tally())

    assert expected == tally_of(batches, mode, torch.device(device))


def test_what_is_not_contiguous_is_counted_too():
    array = noise((6, 10, 12, 3))

    assert count_arrays(array[::2, 1:, ::3], "RGB") == tally_of(
        [torch.from_numpy(array)[::2, 1:, ::3]], "RGB", torch.device("cpu")
    )


def test_modes_are_kept_apart():
    gray, colored = noise((3, 4, 5, 1)), noise((2, 4, 5, 3))
    counter = tensors.TensorCounter(torch.device("cpu"))
    counter.add(torch.from_numpy(gray), "L")
    counter.add(torch.from_numpy(colored), "RGB")

    assert count_arrays(gray, "L") + count_arrays(colored, "RGB") == counter.tally()


@pytest.mark.parametrize("most", [0, 400])
def test_a_device_without_memory_gets_half_and_changes_no_digit(monkeypatch, most):
    array = noise((12, 10, 10, 3))
    kernel = kernels.image_histograms
    failed: list[int] = []

    def image_histograms(pixels: torch.Tensor, sizes: Any) -> torch.Tensor:
        if len(pixels) > max(most, 100) or (most == 0 and len(failed) < 30 and len(sizes) > 1):
            failed.append(len(pixels))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kernel(pixels, sizes)

    monkeypatch.setattr(kernels, "image_histograms", image_histograms)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    assert count_arrays(array, "RGB") == tally_of(
        [torch.from_numpy(array)], "RGB", torch.device("cpu")
    )
    assert failed


@pytest.mark.parametrize("shape", [(40, 3, 8, 9), (40, 1, 8, 9)])
def test_a_tensor_is_measured_where_it_lies(device, there, shape):
    array = noise(shape)
    stats = imgnorm.measure(torch.from_numpy(array).to(device))

    assert [(40, 8, 9, shape[1])] == there
    assert (
        imgnorm.measure(array.transpose(0, 2, 3, 1)).measurement.pixels == stats.measurement.pixels
    )
    assert imgnorm.measure(array.transpose(0, 2, 3, 1)).measurement.sums == stats.measurement.sums


def test_a_dataset_of_such_tensors_is_measured_where_they_lie(device, there):
    array = noise((50, 3, 8, 9))
    dataset = TensorDataset(torch.from_numpy(array).to(device), torch.zeros(50))
    stats = imgnorm.measure(dataset)

    assert 50 == sum(shape[0] for shape in there)
    assert (
        imgnorm.measure(array.transpose(0, 2, 3, 1)).measurement.pixels == stats.measurement.pixels
    )


def test_a_loader_and_an_iterable_are_measured_where_their_tensors_lie(device, there):
    array = noise((50, 3, 8, 9))
    whole = torch.from_numpy(array).to(device)

    def batches() -> Iterator[torch.Tensor]:
        yield from whole.split(7)

    expected = imgnorm.measure(array.transpose(0, 2, 3, 1)).measurement.sums
    loader = DataLoader(TensorDataset(whole), batch_size=7)

    assert expected == imgnorm.measure(loader).measurement.sums
    assert expected == imgnorm.measure(batches()).measurement.sums
    assert 100 == sum(shape[0] for shape in there)


def test_what_cannot_be_counted_there_is_skipped_with_its_reason(device, there):
    whole = torch.from_numpy(noise((4, 3, 8, 9))).to(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stats = imgnorm.measure([*whole, torch.zeros(3, 0, 4, dtype=torch.uint8, device=device)])

    assert 4 == stats.images
    assert ["zero-area"] == [str(skipped.reason) for skipped in stats.skipped]


def test_floats_are_fetched_and_counted_as_ever(device):
    array = noise((20, 3, 8, 9))
    floats = torch.from_numpy(array).to(device).float() / 255

    assert imgnorm.measure(array.transpose(0, 2, 3, 1)).mean == imgnorm.measure(floats).mean


def test_a_limit_ends_in_the_middle_of_a_batch(device, there):
    array = noise((40, 3, 8, 9))
    stats = imgnorm.measure(torch.from_numpy(array).to(device), limit=25)

    assert 25 == sum(shape[0] for shape in there) == stats.images
