"""What tests of a device share: where they count, and devices that fail.

They count on a CUDA device if this machine has one, and on the CPU in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from imgnorm.cuda import kernel as kernels
from imgnorm.settings import CHANNELS, Mode

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])]
CPU = torch.device("cpu")
Pixels = npt.NDArray[np.uint8]

CUDA_ERROR = (
    "CUDA error: an illegal memory access was encountered\n"
    "CUDA kernel errors might be asynchronously reported at some other API call.\n"
)
OUT_OF_MEMORY = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has"
)


def noise(seed: int, pixels: int, mode: Mode) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (pixels, len(CHANNELS[mode])), np.uint8)


class Failing:
    """`image_histograms`, which fails in some of its calls."""

    def __init__(self, error: Exception, when: Any) -> None:
        self.calls = 0
        self.sizes: list[int] = []
        self._error = error
        self._when = when
        self._kernel = kernels.image_histograms

    def __call__(self, pixels: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        self.calls += 1
        self.sizes.append(pixels.numel())
        if self._when(self, pixels, sizes):
            raise self._error
        return self._kernel(pixels, sizes)


def wrong_by_one(pixels: torch.Tensor, sizes: Sequence[int], planes: int = 1) -> Any:
    histogram, powers = kernels.counts_by_torch(pixels, sizes, planes)
    histogram[0, 7] += 1
    return histogram, powers
