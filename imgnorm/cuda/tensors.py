"""Tensors that lie on a device already -> their tally, counted there, on the stream they were made on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from imgnorm.cuda.counter import Counts, places_of
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
        self._names: list[str] = []  # of the images in the block

    def add(self, images: Tensor, mode: Mode, names: Sequence[str] = ()) -> None:
        """
        Args:
            images: (N, H, W, C), in any layout in memory; they may change afterwards.
            names: one for each image; by default they have none.

        Raises:
            DeviceError: the device failed.
        """
        names = names or [""] * len(images)
        with cuda_errors_translated(self._device), self._on_device():
            if images.numel() >= _TOGETHER or not len(images):
                self._count(images, mode, names)
                return
            for image, name in zip(images, names, strict=True):
                self._collect(image, mode, name)

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

    def _collect(self, image: Tensor, mode: Mode, name: str) -> None:
        """Copies an image: the code that yields a tensor may write into it again."""
        if self._block is not None:
            full = len(self._names) == len(self._block)
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
        self._block[len(self._names)] = image
        self._names.append(name)

    def _flush(self) -> None:
        (block, self._block), (names, self._names) = (self._block, None), (self._names, [])
        if block is not None:
            self._count(block[: len(names)], self._mode, names)

    def _count(self, images: Tensor, mode: Mode, names: Sequence[str]) -> None:
        at_once = max(1, _AT_ONCE // max(1, images.shape[1] * images.shape[2]))
        for start in range(0, len(images), at_once):
            part = slice(start, start + at_once)
            self._count_some(images[part], mode, names[part])

    def _count_some(self, images: Tensor, mode: Mode, names: Sequence[str]) -> None:
        """Where memory runs out, half of them at once; an image that does not fit alone, on the CPU."""
        try:
            found = _counts_of(images)
        except torch.OutOfMemoryError:
            found = None  # the error keeps tensors alive: try again only when it is gone
        if found is None:
            torch.cuda.empty_cache()
            if len(images) > 1:
                half = len(images) // 2
                self._count_some(images[:half], mode, names[:half])
                self._count_some(images[half:], mode, names[half:])
                return
            found = _counts_of(images.cpu())
        _, height, width, channels = images.shape
        size = width, height
        packed = PackedImages(mode, height * width, channels, mode, "array", size, names)
        self._counts.add("", [(places_of([packed]), *found)])


def _counts_of(images: Tensor) -> tuple[Tensor, Tensor]:
    kernel, _ = kernel_for(images.device)
    number, height, width, channels = images.shape
    planes = images.permute(0, 3, 1, 2)
    if planes.is_contiguous():
        return kernel(planes.reshape(-1, 1), [height * width] * (number * channels), channels)
    pixels = images.contiguous().view(-1, channels)
    return kernel(pixels, [height * width] * number, 1)
