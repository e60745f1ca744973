"""What decides the digits of a measurement, and what bounds its seconds.

Digits: the mode of the images (channels and kind of values), the steps between loader and ToTensor,
and the decoder. Seconds: the limits on one image. How modes are named is defined here, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

TORCHVISION = "torchvision:"
"""How the name of one of torchvision's datasets or models begins: `torchvision:CIFAR10`."""

Mode = str
"""The channels of an image and the kind of its values, as PIL names them: L, RGB and RGBA have 8 bits,
I;16 is 16-bit gray, F is float gray. Arrays have more: RGB;16 and RGBA;16, RGB;F and RGBA;F, and with
any number of channels C2, C13;16, C13;F."""

Kind = Literal["8-bit", "16-bit", "float"]
"""The kind of the values."""

Decoder = Literal["auto", "pillow", "nvjpeg"]
"""auto: the fastest decoder whose pixels equal Pillow's. pillow: Pillow alone. nvjpeg: a CUDA device,
whose pixels differ from Pillow's."""
NVJPEG = "nvjpeg"
"""What the name of that decoder begins with in a stats file."""


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
    strict_channels: bool = False  # skip images with other channels than the mode's; convert none


@dataclass(frozen=True)
class Limits:
    """What one image may cost before it is skipped."""

    max_pixels: int = 178_956_970  # above it Pillow itself refuses: 2 * Image.MAX_IMAGE_PIXELS
    timeout_s: float = 30.0


CHANNELS: dict[Mode, tuple[str, ...]] = {
    "L": ("L",),
    "RGB": ("R", "G", "B"),
    "RGBA": ("R", "G", "B", "A"),
    "I;16": ("I",),
}
"""The channels of the modes that image files can be converted to; `channels_of` knows all modes."""
SCALE: dict[Mode, int] = {"L": 255, "RGB": 255, "RGBA": 255, "I;16": 65535}
"""The pixel value of these modes that becomes 1.0 in the tensor; `scale_of` knows all modes."""

KINDS: tuple[Kind, ...] = ("8-bit", "16-bit", "float")
_SUFFIXES: dict[Kind, str] = {"8-bit": "", "16-bit": ";16", "float": ";F"}
_SCALES: dict[Kind, int] = {"8-bit": 255, "16-bit": 65535, "float": 1}
_BANDS: dict[int, Mode] = {1: "L", 3: "RGB", 4: "RGBA"}
_MANY = re.compile(r"C([1-9]\d{0,3})")


def mode_of(channels: int, kind: Kind) -> Mode:
    """The mode of arrays with this number of channels and this kind of values."""
    if channels == 1:
        return {"8-bit": "L", "16-bit": "I;16", "float": "F"}[kind]
    return _BANDS.get(channels, f"C{channels}") + _SUFFIXES[kind]


def channels_of(mode: Mode) -> tuple[str, ...]:
    """The names of a mode's channels."""
    bands = mode.partition(";")[0]
    many = _MANY.fullmatch(bands)
    return channel_names(int(many[1])) if many else tuple(bands)


def channel_names(count: int) -> tuple[str, ...]:
    """The names of this many channels, if nothing else is known of them."""
    return tuple(_BANDS.get(count, ())) or tuple(f"c{i}" for i in range(count))


def kind_of(mode: Mode) -> Kind:
    """The kind of a mode's values."""
    if mode == "F" or mode.endswith(";F"):
        return "float"
    return "16-bit" if mode.endswith(";16") else "8-bit"


def scale_of(mode: Mode) -> int:
    """The value that means 1.0; 1 for floats, which keep their own unit."""
    return _SCALES[kind_of(mode)]
