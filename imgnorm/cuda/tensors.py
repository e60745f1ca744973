"""Tensors that lie on a device already -> their tally, counted there, on the stream they were made on."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from imgnorm.cuda.counter import Counts
from imgnorm.cuda.errors import cuda_errors_translated
from imgnorm.cuda.kernel import kernel_for
from imgnorm.pixels.buffer import PackedImages
from imgnorm.settings import Mode
from imgnorm.tally.tally import Tally

_TOGETHER = 1 << 20  # values: smaller images are collected until others of their shape fill a block
_AT_ONCE = 1 << 26  # pixels; torch's operations take some bytes of memory for each


class TensorCounter:
    """Counts uint8 images on one device. It waits for the device after every 65,536 images and at the end."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._counts = Counts()
        self._block: Tensor | None = None  # (N, H, W, C), of small images
        self._mode: Mode = ""
        self._filled = 0  # images in the block

    def add(self, images: Tensor, mode: Mode) -> None:
        """
        Args:
            images: (N, H, W, C), in any layout in memory; they may change afterwards.

        Raises:
            DeviceError: the device failed.
        """
        with cuda_errors_translated(self._device), self._on_device():
            if images.numel() >= _TOGETHER or not len(images):
                self._count(images, mode)
                return
            for image in images:
                self._collect(image, mode)

    def tally(self) -> Tally:
        """All that was added; nothing is added after it.

        Raises:
            DeviceError: the device failed.
        """
        with cuda_errors_translated(self._device), self._on_device():
            self._flush()
            return self._counts.taken().get("", Tally())

    def _on_device(self) -> torch.cuda.device | nullcontext[None]:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _collect(self, image: Tensor, mode: Mode) -> None:
        """Copies an image: the code that yields a tensor may write into it again."""
        if self._block is not None:
            full = self._filled == len(self._block)
            if full or mode != self._mode or image.shape != self._block.shape[1:]:
                self._flush()
        if self._block is None:
            capacity = max(1, _TOGETHER // max(1, image.numel()))
            height, width, channels = image.shape
            if image.permute(2, 0, 1).is_contiguous():  # its planes stay planes
                block = image.new_empty((capacity, channels, height, width)).permute(0, 2, 3, 1)
            else:
                block = image.new_empty((capacity, height, width, channels))
            self._block, self._mode = block, mode
        self._block[self._filled] = image
        self._filled += 1

    def _flush(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            self._count(block[: self._filled], self._mode)
        self._filled = 0

    def _count(self, images: Tensor, mode: Mode) -> None:
        at_once = max(1, _AT_ONCE // max(1, images.shape[1] * images.shape[2]))
        for some in torch.split(images, at_once) if len(images) else ():
            self._count_some(some, mode)

    def _count_some(self, images: Tensor, mode: Mode) -> None:
        """Where memory runs out, half of them at once; an image that does not fit alone, on the CPU."""
        try:
            found = _counts_of(images)
        except torch.OutOfMemoryError:
            found = None  # the error keeps tensors alive: try again only when it is gone
        if found is None:
            torch.cuda.empty_cache()
            if len(images) > 1:
                for half in images.chunk(2):
                    self._count_some(half, mode)
                return
            found = _counts_of(images.cpu())
        number, height, width, channels = images.shape
        packed = [PackedImages(mode, height * width, channels, mode, "array")] * number
        self._counts.add("", [(packed, *found)])


def _counts_of(images: Tensor) -> tuple[Tensor, Tensor]:
    kernel, _ = kernel_for(images.device)
    number, height, width, channels = images.shape
    planes = images.permute(0, 3, 1, 2)
    if planes.is_contiguous():
        return kernel(planes.reshape(-1, 1), [height * width] * (number * channels), channels)
    pixels = images.contiguous().view(-1, channels)
    return kernel(pixels, [height * width] * number, 1)
