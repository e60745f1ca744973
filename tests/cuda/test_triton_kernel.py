"""The Triton kernel counts what torch's own operations count: interpreted here, compiled on a device."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from imgnorm.cuda.kernel import _check_counts

pytest.importorskip("triton")  # not made for every system

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
runs = pytest.mark.skipif(
    not (INTERPRETED or torch.cuda.is_available()), reason="runs in a process of its own, below"
)
DEVICE = torch.device("cpu" if INTERPRETED or not torch.cuda.is_available() else "cuda")
BLOCK = 64  # lanes, so that few pixels fill many blocks


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch):
    from imgnorm.cuda import triton_kernel

    monkeypatch.setattr(triton_kernel, "_PIECE", 5 * BLOCK)
    return triton_kernel


def equal(
    found: tuple[torch.Tensor, torch.Tensor], pixels: np.ndarray, sizes: list[int], planes: int
):
    """Against NumPy, image by image and channel by channel."""
    histogram, powers = (tensor.cpu().numpy() for tensor in found)
    ends = np.cumsum(sizes)
    parts = [pixels[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    columns = [column for part in parts for column in part.astype(np.int64).T]
    of_image = pixels.shape[1] * planes
    counts = [np.bincount(column, minlength=256) for column in columns]
    shape = (len(sizes) // planes, of_image, 256)
    assert np.array_equal(np.reshape(counts, shape).sum(0), histogram)
    sums = [(column.sum(), (column * column).sum()) for column in columns]
    assert np.array_equal(np.reshape(np.array(sums, np.int64), (*shape[:2], 2)), powers)


SIZES = [[n] for n in range(4)] + [
    [BLOCK - 1],
    [BLOCK],
    [BLOCK + 1],
    [5 * BLOCK],
    [5 * BLOCK + 1],
    [3, 1, 6 * BLOCK + 5, 2, 0, BLOCK],
]


@runs
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 4])
def test_noise_of_any_size_is_counted_as_numpy_counts(kernel, sizes, channels):
    pixels = np.random.default_rng(3).integers(0, 256, (sum(sizes), channels), np.uint8)
    on_device = torch.from_numpy(pixels).to(DEVICE)

    equal(kernel.counts_by_triton(on_device, sizes, block=BLOCK), pixels, sizes, 1)


@runs
@pytest.mark.parametrize("value", [0, 1, 255])
def test_equal_pixels_are_counted_as_numpy_counts(kernel, value):
    """Lanes without a pixel read 0: those must not count as black."""
    pixels = np.full((1_000, 1), value, np.uint8)

    equal(kernel.counts_by_triton(torch.from_numpy(pixels).to(DEVICE), [1_000]), pixels, [1_000], 1)


@runs
def test_the_padding_of_rgbx_is_not_counted(kernel):
    pixels = np.random.default_rng(4).integers(0, 256, (900, 4), np.uint8)
    on_device = torch.from_numpy(pixels).to(DEVICE)[:, :3]

    equal(kernel.counts_by_triton(on_device, [400, 500], block=BLOCK), pixels[:, :3], [400, 500], 1)


@runs
def test_planes_of_an_image_are_its_channels(kernel):
    """As a decoder gives them: all of red, then all of green."""
    sizes = [700, 700, 700, 30, 30, 30]
    pixels = np.random.default_rng(5).integers(0, 256, (sum(sizes), 1), np.uint8)
    on_device = torch.from_numpy(pixels).to(DEVICE)

    equal(kernel.counts_by_triton(on_device, sizes, 3, block=BLOCK), pixels, sizes, 3)


@runs
def test_the_brightest_piece_does_not_overflow():
    """65,536 white pixels are Σx² of 4.3e9: more than 32 bits, unless the lanes share it."""
    from imgnorm.cuda import triton_kernel

    pixels = np.full((triton_kernel._PIECE + 5, 1), 255, np.uint8)
    found = triton_kernel.counts_by_triton(torch.from_numpy(pixels).to(DEVICE), [len(pixels)])

    equal(found, pixels, [len(pixels)], 1)


@runs
def test_other_pixels_are_refused(kernel):
    with pytest.raises(
        TypeError, match=r"^pixels are torch\.float32, \(3, 1\); expected uint8, dense$"
    ):
        kernel.counts_by_triton(torch.zeros(2, 3), [2])


@pytest.mark.heavy if INTERPRETED else runs
def test_it_passes_the_check_that_it_has_to_pass_before_use(kernel):
    _check_counts(kernel.counts_by_triton, DEVICE)


def test_all_of_this_holds_in_the_interpreter(request):
    """Triton decides when it is imported whether it compiles, so this takes another process."""
    heavy = ["--heavy"] if request.config.getoption("--heavy") else []
    if INTERPRETED:
        pytest.skip("this is that process")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            __file__,
            *heavy,
        ],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stdout
    passed, skipped = (28, 1) if heavy else (27, 2)
    assert f"{passed} passed, {skipped} skipped" in done.stdout
