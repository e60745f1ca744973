"""Counting in one pass over the pixels, by a Triton kernel. Importing this module needs Triton.

Each program counts one channel of a piece of an image. It makes a histogram in shared memory, where the
hardware joins the atomic additions of threads that have the same value, and takes Σx and Σx² from the
pixels themselves. 32-bit integers are wide enough for one piece; the results of a program are int64.

With TRITON_INTERPRET=1 the same program runs on CPU tensors, which is how it is tested.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

VERSION: str = triton.__version__
_BINS = 256
_PIECE = 1 << 16
"""Values that one program counts: a lane's share of their Σx² must fit into 31 bits."""
_BLOCK = 1 << 11  # values that a program reads at once: its lanes
_WARPS = 4
_LAUNCH = threading.Lock()
"""Triton's table of compiled kernels is not thread-safe."""
_POINTERS = ["pixels", "starts", "lengths", "owners", "histogram", "powers"]


def counts_by_triton(
    pixels: Tensor, sizes: Sequence[int], planes: int = 1, *, block: int = _BLOCK
) -> tuple[Tensor, Tensor]:
    """Like `kernel.counts_by_torch`, without memory for each pixel. Does not wait for the device."""
    device, channels = pixels.device, pixels.shape[1]
    if pixels.dtype != torch.uint8 or (channels > 1 and len(pixels) and pixels.stride(1) != 1):
        raise TypeError(f"pixels are {pixels.dtype}, {pixels.stride()}; expected uint8, dense")
    image_channels = channels * planes
    histogram = torch.zeros(image_channels, _BINS, dtype=torch.int64, device=device)
    powers = torch.zeros(len(sizes) // planes, image_channels, 2, dtype=torch.int64, device=device)
    pieces = torch.from_numpy(_pieces(sizes))
    programs = pieces.shape[1] * channels
    if pixels.is_cuda:  # a copy from ordinary memory would wait for the device
        pieces = pieces.pin_memory().to(device, non_blocking=True)
    if programs:
        with _LAUNCH:
            _count[(programs,)](
                pixels,
                *pieces,
                histogram,
                powers,
                pixels.stride(0),
                channels,
                image_channels,
                BINS=_BINS,
                BLOCK=block,
                num_warps=_WARPS,
            )
    return histogram, powers


def _pieces(sizes: Sequence[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Of each piece: its first pixel, its length and the number of its image: (3, pieces)."""
    lengths = np.array(sizes, np.int64)
    counts = -(-lengths // _PIECE)
    owners = np.repeat(np.arange(len(lengths)), counts)
    within = (np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)) * _PIECE
    starts = (np.cumsum(lengths) - lengths)[owners] + within
    return np.stack([starts, np.minimum(_PIECE, lengths[owners] - within), owners])


# One program for all arguments: Triton would compile another one for each alignment, during the scan.
@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=["depth", "channels", "image_channels"],
    do_not_specialize_on_alignment=_POINTERS,
)
def _count(  # type: ignore[no-untyped-def]
    pixels,
    starts,
    lengths,
    owners,
    histogram,
    powers,
    depth,
    channels,
    image_channels,
    BINS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    program = tl.program_id(0)
    piece = program // channels  # neighbors read the same bytes
    channel = program % channels
    first = tl.load(starts + piece)
    length = tl.load(lengths + piece).to(tl.int32)
    values = pixels + first * depth + channel
    lanes = tl.arange(0, BLOCK)
    bins = tl.arange(0, BINS)
    counts = tl.zeros([BINS], tl.int32)
    total = tl.zeros([BLOCK], tl.int32)
    total_sq = tl.zeros([BLOCK], tl.int32)
    for start in range(0, length, BLOCK):
        places = start + lanes
        some = tl.load(values + places * depth, mask=places < length, other=0).to(tl.int32)
        # Lanes without a pixel read 0, and must not count as black.
        beyond = tl.maximum(start + BLOCK - length, 0)
        counts += tl.histogram(some, BINS) - tl.where(bins == 0, beyond, 0)
        total += some
        total_sq += some * some
    target = tl.load(owners + piece) * channels + channel
    tl.atomic_add(histogram + (target % image_channels) * BINS + bins, counts.to(tl.int64))
    tl.atomic_add(powers + target * 2, tl.sum(total.to(tl.int64), 0))
    tl.atomic_add(powers + target * 2 + 1, tl.sum(total_sq.to(tl.int64), 0))
