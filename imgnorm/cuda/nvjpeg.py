"""JPEG files -> pixels on a CUDA device, by nvJPEG, which TorchCodec brings along.

nvJPEG rounds its inverse transform in a way of its own, so its pixels are a level off here and there,
and no two decoders' digits are the same: a stats file names it, with its version and the device.
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
"""Threads that decode, each with a batch. TorchCodec waits for the device at full speed, and the cores are
wanted for reading; of a device it keeps 32 decoders, and with more it makes some anew each time."""
_ALIKE = 2.0  # levels: how far pixels may be from Pillow's on average, as torchvision's own tests have it


class NvJpeg:
    """Decodes on one device; for any number of threads."""

    def __init__(self, device: torch.device, decode: Callable[..., Any], words: str) -> None:
        """
        Args:
            decode: as TorchCodec's `decode_jpeg`.
            words: which decoder this is, for stats files.
        """
        self.words = words
        self._device = device
        self._decode = decode
        self._turns = BoundedSemaphore(_AT_ONCE)

    def pixels_of(self, files: Sequence[Tensor]) -> list[Tensor]:
        """uint8, (C, H, W), on the device, of each file; ordered on the current stream as if it had
        written them.

        Args:
            files: the bytes of each, uint8, in ordinary memory, which is free when this returns.

        Raises:
            RuntimeError: one of them cannot be decoded, or the device failed.
        """
        with self._turns:
            found: list[Tensor] = self._decode(list(files), mode="UNCHANGED", device=self._device)
        return found


def find(device: torch.device) -> NvJpeg:
    """nvJPEG on a device.

    Raises:
        MissingDependency: TorchCodec is not there, or too old.
        DeviceError: it does not work on this device.
    """
    decode, version = _torchcodec()
    there = torch.cuda.get_device_name(device)
    nvjpeg = NvJpeg(device, decode, f"{NVJPEG} by torchcodec {version} on {there}")
    try:
        _demand_alike(nvjpeg)
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
            warnings.simplefilter("ignore")  # of its video decoders
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


def _demand_alike(nvjpeg: NvJpeg) -> None:
    """Whether it decodes small pictures, of each kind that it is given, to about what Pillow makes of
    them: it has not mixed up colors, planes or images.

    Raises:
        RuntimeError: it does not.
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
            raise RuntimeError(f"a sample came out as {found.dtype}, {tuple(found.shape)}")
        off = (found.cpu().float() - wanted.float()).abs().mean().item()
        if off > _ALIKE:
            raise RuntimeError(f"a sample came out {off:.1f} levels off Pillow's pixels")
