"""Tensors that lie on a device already: counted there, on the stream that they were made on."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from imgnorm.cuda.device import Counts, counting_on, translated
from imgnorm.pixels.buffer import PackedImages
from imgnorm.settings import Mode
from imgnorm.tally.tally import Tally

_TOGETHER = 1 << 20  # values: images smaller than this wait for others of their shape
_AT_ONCE = 1 << 26  # pixels, for which the plain kernel takes some bytes each


class TensorCounter:
    """Counts uint8 images on one device. It is waited for after every 65,536 of them, and at the end."""

    def __init__(self, device: torch.device, *, cross_sums: bool = False) -> None:
        self._device = device
        self._counts = Counts(cross_sums=cross_sums)
        self._block: Tensor | None = None  # (N, H, W, C), of images that wait
        self._mode: Mode = ""
        self._waiting = 0

    def add(self, images: Tensor, mode: Mode) -> None:
        """
        Args:
            images: (N, H, W, C), in any layout in memory; they may change afterwards.

        Raises:
            DeviceError: the device failed.
        """
        with translated(self._device), self._on_device():
            if images.numel() >= _TOGETHER or not len(images):
                self._count(images, mode)
                return
            for image in images:
                self._wait(image, mode)

    def tally(self) -> Tally:
        """All that was added; nothing is added after it.

        Raises:
            DeviceError: the device failed.
        """
        with translated(self._device), self._on_device():
            self._flush()
            return self._counts.taken().get("", Tally())

    def _on_device(self) -> torch.cuda.device | nullcontext[None]:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _wait(self, image: Tensor, mode: Mode) -> None:
        """Copied, as whoever yields a tensor may write into it again."""
        if self._block is not None:
            full = self._waiting == len(self._block)
            if full or mode != self._mode or image.shape != self._block.shape[1:]:
                self._flush()
        if self._block is None:
            many = max(1, _TOGETHER // max(1, image.numel()))
            height, width, channels = image.shape
            if image.permute(2, 0, 1).is_contiguous():  # its planes stay planes
                whole = image.new_empty((many, channels, height, width)).permute(0, 2, 3, 1)
            else:
                whole = image.new_empty((many, height, width, channels))
            self._block, self._mode = whole, mode
        self._block[self._waiting] = image
        self._waiting += 1

    def _flush(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            self._count(block[: self._waiting], self._mode)
        self._waiting = 0

    def _count(self, images: Tensor, mode: Mode) -> None:
        at_once = max(1, _AT_ONCE // max(1, images.shape[1] * images.shape[2]))
        for some in torch.split(images, at_once) if len(images) else ():
            self._count_some(some, mode)

    def _count_some(self, images: Tensor, mode: Mode) -> None:
        """With less memory, half of them at once; a single image for which there is none, on the CPU."""
        try:
            found = _counts_of(images)
        except torch.OutOfMemoryError:
            found = None  # the error holds on to tensors: it goes before the next try
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
    counting, _ = counting_on(images.device)
    number, height, width, channels = images.shape
    planes = images.permute(0, 3, 1, 2)
    if planes.is_contiguous():
        return counting(planes.reshape(-1, 1), [height * width] * (number * channels), channels)
    pixels = images.contiguous().view(-1, channels)
    return counting(pixels, [height * width] * number, 1)
