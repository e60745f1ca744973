"""JPEG files -> pixels on a CUDA device, by nvJPEG, which comes with TorchCodec.

nvJPEG rounds its inverse transform in its own way: some of its pixels differ from other decoders' by one
level, and so do the digits. A stats file therefore names it, with its version and the device.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from threading import BoundedSemaphore
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imgnorm.errors import DeviceError, MissingDependency
from imgnorm.settings import NVJPEG
from imgnorm.wording import headline

OLDEST = (0, 17)
"""Before it, nvJPEG's hardware wrote into memory that kernels of the same stream were still reading
(pytorch/vision#9606, meta-pytorch/torchcodec#1634)."""
_AT_ONCE = 4
"""Threads that decode at the same time, each a batch. TorchCodec keeps a core busy while it waits for the
device, and reading needs the cores. It keeps 32 decoders of a device; with more, some are made each time."""
_TOLERANCE = 2.0
"""Levels that pixels may differ from Pillow's on average, as in torchvision's own tests."""


class NvJpeg:
    """Decodes on one device. Thread-safe."""

    def __init__(self, device: torch.device, decode: Callable[..., Any], name: str) -> None:
        """
        Args:
            decode: TorchCodec's `decode_jpeg`, or a function like it.
            name: of the decoder, with its version and the device, for stats files.
        """
        self.name = name
        self._device = device
        self._decode = decode
        self._turns = BoundedSemaphore(_AT_ONCE)

    def pixels_of(self, files: Sequence[Tensor]) -> list[Tensor]:
        """uint8, (C, H, W), of each file, on the device. Work that is queued on the current stream later
        sees the pixels.

        Args:
            files: the bytes of each, uint8, in ordinary memory, which may be reused afterwards.

        Raises:
            RuntimeError: one of them cannot be decoded, or the device failed.
        """
        with self._turns:
            found: list[Tensor] = self._decode(list(files), mode="UNCHANGED", device=self._device)
        return found


def find_decoder(device: torch.device) -> NvJpeg:
    """nvJPEG on a device.

    Raises:
        MissingDependency: TorchCodec is not installed, or too old.
        DeviceError: it does not work on this device.
    """
    decode, version = _torchcodec()
    device_name = torch.cuda.get_device_name(device)
    nvjpeg = NvJpeg(device, decode, f"{NVJPEG} by torchcodec {version} on {device_name}")
    try:
        _check_samples(nvjpeg)
    except RuntimeError as error:
        raise DeviceError(
            f"nvJPEG does not work on {device} ({headline(error)}); leave out --decoder {NVJPEG}"
        ) from error
    return nvjpeg


def _torchcodec() -> tuple[Callable[..., Any], str]:
    wanted = f"--decoder {NVJPEG} needs torchcodec {OLDEST[0]}.{OLDEST[1]} or newer, built for CUDA"
    remedy = "install it with `pip install torchcodec`, or leave the decoder out"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its video decoders
            import torchcodec  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependency(
            f"{wanted}, which cannot be imported ({headline(error)}); {remedy}"
        ) from error
    version = str(torchcodec.__version__)
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        raise MissingDependency(f"{wanted}; this is {version}; {remedy}")
    decode: Callable[..., Any] = torchcodec.decoders.decode_jpeg
    return decode, version


def _check_samples(nvjpeg: NvJpeg) -> None:
    """Decodes a small picture of each kind that nvJPEG is given, and compares the pixels with Pillow's:
    colors, planes and images must not be mixed up.

    Raises:
        RuntimeError: they differ by more than rounding.
    """
    y, x = np.mgrid[0:43, 0:61]
    smooth = np.stack([x * 4, y * 5, 255 - x * 2 - y * 2], 2).astype(np.uint8)
    files, expected = [], []
    for mode, options in (
        ("RGB", {"subsampling": 2}),
        ("L", {}),
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 1, "progressive": True}),
    ):
        file = BytesIO()
        Image.fromarray(smooth).convert(mode).save(file, "JPEG", quality=95, **options)
        files.append(torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8))
        with Image.open(file) as picture:
            pixels = torch.from_numpy(np.array(picture))
        expected.append(pixels[None] if mode == "L" else pixels.permute(2, 0, 1))
    for found, wanted in zip(nvjpeg.pixels_of(files), expected, strict=True):
        if found.shape != wanted.shape or found.dtype != torch.uint8:
            raise RuntimeError(f"a sample became {found.dtype} of shape {tuple(found.shape)}")
        difference = (found.cpu().float() - wanted.float()).abs().mean().item()
        if difference > _TOLERANCE:
            raise RuntimeError(
                f"a sample differs from Pillow's by {difference:.1f} levels on average"
            )
