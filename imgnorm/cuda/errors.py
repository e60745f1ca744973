"""CUDA's errors, which torch raises as RuntimeError -> DeviceError, one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from imgnorm.errors import DeviceError
from imgnorm.wording import headline


@contextmanager
def cuda_errors_translated(device: torch.device) -> Iterator[None]:
    """A CUDA error becomes a DeviceError. Any other RuntimeError is a bug, and passes unchanged."""
    try:
        yield
    except RuntimeError as error:
        if not is_cuda_error(error):
            raise
        raise DeviceError(f"device {device}: {headline(error)}; try again, or use cpu") from error


def is_cuda_error(error: RuntimeError) -> bool:
    kinds = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))
    return isinstance(error, kinds) or re.search("CUDA|NVML", str(error)) is not None
