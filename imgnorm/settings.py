"""What decides the digits of a measurement: the mode, and the steps between loader and ToTensor."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

TORCHVISION = "torchvision:"
"""How the name of one of torchvision's datasets or models begins: `torchvision:CIFAR10`."""

Mode = str
"""The channels of an image and the kind of its values, as PIL writes it: L, RGB and RGBA have 8 bits,
I;16 is 16-bit gray, F is float gray. Arrays have more: RGB;16 and RGBA;16, RGB;F and RGBA;F, and with
any number of channels C2, C13;16, C13;F."""

Decoder = Literal["auto", "pillow", "nvjpeg"]
"""Who decodes: Pillow alone, whoever is fastest among those with the same pixels, or a device, whose
pixels are others."""
NVJPEG = "nvjpeg"
"""How the words begin by which a stats file names that device."""

CHANNELS: dict[Mode, tuple[str, ...]] = {
    "L": ("L",),
    "RGB": ("R", "G", "B"),
    "RGBA": ("R", "G", "B", "A"),
    "I;16": ("I",),
}
"""Of the modes that image files can be converted to; `channels_of` knows those of arrays, too."""
SCALE: dict[Mode, int] = {"L": 255, "RGB": 255, "RGBA": 255, "I;16": 65535}
"""The pixel value that becomes 1.0 in the tensor; `scale_of` knows it of every mode."""

Kind = Literal["8-bit", "16-bit", "float"]
KINDS: tuple[Kind, ...] = ("8-bit", "16-bit", "float")
_SUFFIXES: dict[Kind, str] = {"8-bit": "", "16-bit": ";16", "float": ";F"}
_SCALES: dict[Kind, int] = {"8-bit": 255, "16-bit": 65535, "float": 1}
_BANDS: dict[int, Mode] = {1: "L", 3: "RGB", 4: "RGBA"}
_MANY = re.compile(r"C([1-9]\d{0,3})")


def mode_of(channels: int, kind: Kind) -> Mode:
    """The mode of arrays with so many channels and values of this kind."""
    if channels == 1:
        return {"8-bit": "L", "16-bit": "I;16", "float": "F"}[kind]
    return _BANDS.get(channels, f"C{channels}") + _SUFFIXES[kind]


def channels_of(mode: Mode) -> tuple[str, ...]:
    """The names of a mode's channels."""
    bands = mode.partition(";")[0]
    many = _MANY.fullmatch(bands)
    return channel_names(int(many[1])) if many else tuple(bands)


def channel_names(count: int) -> tuple[str, ...]:
    """The names of so many channels, of which nothing else is known."""
    return tuple(_BANDS.get(count, ())) or tuple(f"c{i}" for i in range(count))


def kind_of(mode: Mode) -> Kind:
    if mode == "F" or mode.endswith(";F"):
        return "float"
    return "16-bit" if mode.endswith(";16") else "8-bit"


def scale_of(mode: Mode) -> int:
    """The value that means 1.0; floats are in a unit of their own, and stay as they are."""
    return _SCALES[kind_of(mode)]


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
    strict_channels: bool = False  # skip images of other channels than the mode's; convert none


@dataclass(frozen=True)
class Limits:
    """What one image may cost before it is skipped."""

    max_pixels: int = 178_956_970  # Pillow's own limit
    timeout_s: float = 30.0
