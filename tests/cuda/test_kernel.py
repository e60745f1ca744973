"""The plain kernel counts what NumPy counts, and Triton's is used only where it counts the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from devices import CPU, DEVICES, noise, wrong_by_one

from imgnorm.cuda import kernel as kernels


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (1, 1, 1, 1), (64, 3, 32, 32), (2, 4, 100, 3)])
def test_a_histogram_of_each_image_and_channel_is_numpys(shape, device):
    images = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    N, C, _, _ = shape
    rows = torch.arange(N * C, device=device).view(N, C, 1, 1)
    found = kernels.histograms_of(torch.from_numpy(images).to(device), rows, N * C)

    assert torch.int64 == found.dtype
    assert [
        np.bincount(images[n, c].ravel(), minlength=256).tolist()
        for n in range(N)
        for c in range(C)
    ] == found.tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_channels_last_images_take_the_same_kernel(device):
    images = np.random.default_rng(6).integers(0, 256, (5, 9, 11, 3), np.uint8)
    rows = torch.arange(15, device=device).view(5, 1, 1, 3)
    found = kernels.histograms_of(torch.from_numpy(images).to(device), rows, 15)

    assert [
        np.bincount(images[n, ..., c].ravel(), minlength=256).tolist()
        for n in range(5)
        for c in range(3)
    ] == found.tolist()


def test_images_need_not_be_contiguous():
    images = np.random.default_rng(6).integers(0, 256, (5, 9, 11, 3), np.uint8)
    rows = torch.arange(15).view(5, 3, 1, 1)
    last = torch.from_numpy(images).permute(0, 3, 1, 2)

    assert torch.equal(
        kernels.histograms_of(last.contiguous(), rows, 15), kernels.histograms_of(last, rows, 15)
    )


@pytest.mark.parametrize("device", DEVICES)
def test_more_than_2_to_the_24_equal_pixels_are_all_counted(device):
    """float32 stops there: that is why torch.histc is not used."""
    pixels = torch.full(((1 << 24) + 5,), 7, dtype=torch.uint8, device=device)
    found = kernels.histograms_of(pixels, torch.zeros(1, dtype=torch.int64, device=device), 1)

    assert (1 << 24) + 5 == int(found[0, 7]) == int(found.sum())


def test_only_uint8_is_counted():
    with pytest.raises(TypeError) as caught:
        kernels.histograms_of(torch.zeros(3), torch.zeros(1, dtype=torch.int64), 1)

    assert "pixels are torch.float32; expected torch.uint8" == str(caught.value)


def test_the_powers_of_a_histogram_are_those_of_its_pixels():
    pixels = noise(3, 10_000, "RGB").astype(np.int64)
    histograms = kernels.image_histograms(torch.from_numpy(pixels.astype(np.uint8)), [10_000])

    assert [pixels.sum(0).tolist(), (pixels**2).sum(0).tolist()] == kernels.power_sums_of(
        histograms
    )[0].T.tolist()


def test_powers_do_not_wrap_at_32_bits():
    """2**40 white pixels: Σx² is 7e16."""
    histogram = torch.zeros(256, dtype=torch.int64)
    histogram[255] = 1 << 40

    assert [255 << 40, 255 * 255 << 40] == kernels.power_sums_of(histogram).tolist()


def test_a_kernel_that_counts_otherwise_is_not_used():
    kernels._check_counts(kernels.counts_by_torch, CPU)
    with pytest.raises(
        ArithmeticError, match=r"^its counts differ from those of torch's own operations$"
    ):
        kernels._check_counts(wrong_by_one, CPU)


@pytest.fixture
def fake_device() -> Iterator[Any]:
    """What passes for a CUDA device until its kernel is chosen."""
    kernels.kernel_for.cache_clear()
    yield torch.device("cuda", 0)
    kernels.kernel_for.cache_clear()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("Failed to find C compiler.\nPlease specify"), "Failed to find C compiler"),
        (ImportError("No module named 'triton'"), "No module named 'triton'"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_a_kernel_that_does_not_work_is_replaced_by_the_plain_one(
    fake_device, monkeypatch, error, why
):
    def check(kernel: Any, device: Any) -> None:
        raise error

    pytest.importorskip("triton")
    monkeypatch.setattr("imgnorm.cuda.kernel._check_counts", check)

    assert (
        kernels.counts_by_torch,
        f"torch, since Triton's kernel does not work ({why})",
    ) == kernels.kernel_for(fake_device)


def test_a_kernel_that_works_is_used_and_named(fake_device, monkeypatch):
    pytest.importorskip("triton")
    from imgnorm.cuda.triton_kernel import VERSION, counts_by_triton

    monkeypatch.setattr("imgnorm.cuda.kernel._check_counts", lambda kernel, device: None)

    assert (counts_by_triton, f"Triton {VERSION}") == kernels.kernel_for(fake_device)
