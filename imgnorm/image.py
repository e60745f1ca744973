"""What decides the digits of a measurement: the mode, and the steps between loader and ToTensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["L", "RGB", "RGBA", "I;16"]

Decoder = Literal["auto", "pillow"]
"""Who decodes: Pillow alone, or whoever is fastest among those with the same pixels."""

CHANNELS: dict[Mode, tuple[str, ...]] = {
    "L": ("L",),
    "RGB": ("R", "G", "B"),
    "RGBA": ("R", "G", "B", "A"),
    "I;16": ("I",),
}
SCALE: dict[Mode, int] = {"L": 255, "RGB": 255, "RGBA": 255, "I;16": 65535}
"""The pixel value that becomes 1.0 in the tensor."""


@dataclass(frozen=True)
class Resize:
    """torchvision.transforms.Resize on a PIL image, bilinear."""

    size: int | tuple[int, int]  # the shorter edge, or (height, width)


@dataclass(frozen=True)
class CenterCrop:
    """torchvision.transforms.CenterCrop on a PIL image; pads with black where the image is smaller."""

    size: int | tuple[int, int]  # a square's edge, or (height, width)


Step = Resize | CenterCrop
STEPS: dict[str, type[Resize] | type[CenterCrop]] = {"Resize": Resize, "CenterCrop": CenterCrop}


@dataclass(frozen=True)
class ImageSettings:
    """How encoded bytes become pixels. Stats with different settings never merge."""

    mode: Mode | Literal["auto"] = "auto"
    preprocess: tuple[Step, ...] = ()
