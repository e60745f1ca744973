"""Counting in one pass over the pixels: a Triton kernel, for devices on which it is right.

Each program counts one channel of a piece of an image: a histogram in shared memory, whose atomic
additions the hardware joins where all threads meet the same value, and beside it Σx and Σx² from the
pixels themselves. 32-bit integers are wide enough for a piece; what leaves a program is int64.

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
"""Values of one program: their Σx² must fit into 31 bits times the lanes of a block."""
_BLOCK = 1 << 11  # values that a program takes at once
_WARPS = 4
_LAUNCH = threading.Lock()
"""Triton's table of compiled kernels is not made for threads."""


def counts_of(
    pixels: Tensor, sizes: Sequence[int], planes: int = 1, *, block: int = _BLOCK
) -> tuple[Tensor, Tensor]:
    """As `gpu.counts_of`, without memory for each pixel. Does not wait for the device."""
    device, channels = pixels.device, pixels.shape[1]
    if pixels.dtype != torch.uint8 or (channels > 1 and len(pixels) and pixels.stride(1) != 1):
        raise TypeError(f"pixels are {pixels.dtype}, {pixels.stride()}; expected uint8, dense")
    of_image = channels * planes
    histogram = torch.zeros(of_image, _BINS, dtype=torch.int64, device=device)
    powers = torch.zeros(len(sizes) // planes, of_image, 2, dtype=torch.int64, device=device)
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
                of_image,
                BINS=_BINS,
                BLOCK=block,
                num_warps=_WARPS,
            )
    return histogram, powers


def _pieces(sizes: Sequence[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Where each piece starts, how long it is, and whose it is: (3, pieces)."""
    lengths = np.array(sizes, np.int64)
    many = -(-lengths // _PIECE)
    whose = np.repeat(np.arange(len(lengths)), many)
    within = (np.arange(len(whose)) - np.repeat(np.cumsum(many) - many, many)) * _PIECE
    starts = (np.cumsum(lengths) - lengths)[whose] + within
    return np.stack([starts, np.minimum(_PIECE, lengths[whose] - within), whose])


_ANY = ["pixels", "starts", "lengths", "whose", "histogram", "powers"]


# One program for all arguments: another one for each alignment would be compiled in the middle of a scan.
@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=["depth", "channels", "of_image"], do_not_specialize_on_alignment=_ANY
)
def _count(  # type: ignore[no-untyped-def]
    pixels,
    starts,
    lengths,
    whose,
    histogram,
    powers,
    depth,
    channels,
    of_image,
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
        beyond = tl.maximum(
            start + BLOCK - length, 0
        )  # lanes that have no pixel, and count as black
        counts += tl.histogram(some, BINS) - tl.where(bins == 0, beyond, 0)
        total += some
        total_sq += some * some
    target = tl.load(whose + piece) * channels + channel
    tl.atomic_add(histogram + (target % of_image) * BINS + bins, counts.to(tl.int64))
    tl.atomic_add(powers + target * 2, tl.sum(total.to(tl.int64), 0))
    tl.atomic_add(powers + target * 2 + 1, tl.sum(total_sq.to(tl.int64), 0))
