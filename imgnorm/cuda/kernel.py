"""Counting pixels with torch's own operations, and which kernel a device counts with.

A pixel's value, its image and its channel together are the index of one int64 counter. One
`scatter_add_` therefore gives the histograms of all images of a batch, and their sums follow from the
histograms. It moves 24 bytes for each value. (`torch.histc` counts in float32, which stops at 2**24;
`torch.bincount` waits until the device has found the largest value.)

`triton_kernel` reads each value once. It is used where it works and gives the same counts. Triton is not
made for every system, so this module loads without it. All operations here are the same on CPU tensors,
which is how they are tested without a device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor

from imgnorm.wording import headline

_BINS = 256
_PIECE = 1 << 21  # pixels
_CPU = torch.device("cpu")

Kernel = Callable[[Tensor, Sequence[int], int], tuple[Tensor, Tensor]]
"""`counts_by_torch`, or a function that gives the same."""


@cache
def kernel_for(device: torch.device) -> tuple[Kernel, str]:
    """The fastest kernel that counts correctly on this device, and its name for messages."""
    if device.type != "cuda":
        return counts_by_torch, "torch"
    try:
        from imgnorm.cuda.triton_kernel import VERSION, counts_by_triton

        _check_counts(counts_by_triton, device)
    except Exception as error:  # noqa: BLE001 - a compiler may raise anything, and torch counts without it
        return counts_by_torch, f"torch, since Triton's kernel does not work ({headline(error)})"
    return counts_by_triton, f"Triton {VERSION}"


def counts_by_torch(pixels: Tensor, sizes: Sequence[int], planes: int = 1) -> tuple[Tensor, Tensor]:
    """One histogram of all images of a batch, and Σx and Σx² of each image.

    Args:
        pixels: uint8, (all pixels, channels), one image after the other; other bytes may lie between
            two pixels.
        sizes: the number of pixels of each image.
        planes: where the channels of an image lie one behind the other, the number of channels. Each
            plane then counts as an image of one channel in `pixels` and `sizes`.

    Returns:
        int64, (channels * planes, 256) and (images, channels * planes, 2).
    """
    shape = len(sizes) // planes, planes * pixels.shape[1], _BINS
    histograms = image_histograms(pixels, sizes).view(shape)
    return histograms.sum(0), power_sums_of(histograms)


def histograms_of(pixels: Tensor, rows: Tensor, number: int) -> Tensor:
    """How often each value occurs in each row: int64, (number, 256).

    Integers only, so the result depends neither on the device nor on the order of its threads. Needs
    8 bytes for each value. Does not wait for the device.

    Args:
        pixels: uint8, of any shape and on any device.
        rows: int64, broadcast to that shape: the row that each pixel is counted in. For images
            (N, C, H, W), `torch.arange(N * C).view(N, C, 1, 1)` keeps all channels apart.
        number: of rows.
    """
    return _add_pixels(_no_counts(number, pixels.device), pixels, rows).view(number, _BINS)


def image_histograms(pixels: Tensor, sizes: Sequence[int]) -> Tensor:
    """The histograms of images of different sizes: int64, (images, channels, 256).

    Like `histograms_of`, but counted piece by piece: a large batch, too, needs only 8 bytes for each
    pixel, not for each value.

    Args:
        pixels: uint8, (all pixels, channels), one image after the other.
        sizes: the number of pixels of each image.
    """
    device, number, channels = pixels.device, len(sizes), pixels.shape[1]
    repeats = torch.tensor(sizes, device=_CPU)  # whatever torch.set_default_device says
    if pixels.is_cuda:  # a copy from ordinary memory would wait for the device
        repeats = repeats.pin_memory().to(device, non_blocking=True)
    first_rows = torch.arange(0, number * channels, channels, device=device)
    rows = first_rows.repeat_interleave(repeats, output_size=len(pixels))
    channel = torch.arange(channels, device=device)
    counts = _no_counts(number * channels, device)
    for piece, piece_rows in zip(
        torch.split(pixels, _PIECE), torch.split(rows, _PIECE), strict=True
    ):
        _add_pixels(counts, piece, piece_rows[:, None] + channel)
    return counts.view(number, channels, _BINS)


def power_sums_of(histograms: Tensor) -> Tensor:
    """Σx and Σx² of each histogram: int64, (..., 2).

    Args:
        histograms: int64, (..., 256).
    """
    values = torch.arange(_BINS, device=histograms.device)
    return torch.stack([(histograms * v).sum(-1) for v in (values, values * values)], -1)


def _no_counts(rows: int, device: torch.device) -> Tensor:
    return torch.zeros(rows * _BINS, dtype=torch.int64, device=device)


def _add_pixels(counts: Tensor, pixels: Tensor, rows: Tensor) -> Tensor:
    """Adds pixels to the counts, in place, and returns the counts."""
    if pixels.dtype != torch.uint8:
        raise TypeError(f"pixels are {pixels.dtype}; expected torch.uint8")
    places = torch.add(pixels, rows, alpha=_BINS).reshape(-1)  # alpha: rows * _BINS would be a copy
    one = torch.ones(1, dtype=torch.int64, device=pixels.device)
    return counts.scatter_add_(0, places, one.expand_as(places))


def _check_counts(kernel: Kernel, device: torch.device) -> None:
    """Compares a kernel with torch's operations: noise, equal pixels, images of one pixel and of many.

    Raises:
        ArithmeticError: their counts differ.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = [1, 5_000, 2_048, 255, 150_000, 3]
    noise = torch.randint(
        0, 256, (sum(sizes), 4), dtype=torch.uint8, device=_CPU, generator=generator
    )
    noise[:7_000] = 255
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        pixels = noise.to(device)
        for channels, planes in ((3, 1), (1, 1), (1, 3)):
            batch = pixels[:, :channels] if channels > 1 else pixels[:, 0].contiguous()[:, None]
            found, expected = kernel(batch, sizes, planes), counts_by_torch(batch, sizes, planes)
            if not all(map(torch.equal, found, expected)):
                raise ArithmeticError("its counts differ from those of torch's own operations")
