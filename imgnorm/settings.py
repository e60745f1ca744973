"""What decides the digits of a measurement, what bounds its seconds, and which options exclude others.

Digits: the mode of the images (channels and kind of values), the steps between loader and ToTensor,
and the decoder. Seconds: the limits on one image. How modes are named is defined here, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
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
DEVICES = re.compile(r"cpu|auto|cuda(:\d{1,3})?", re.ASCII)
"""How devices are named."""
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


def fix_size(steps: tuple[Step, ...]) -> bool:
    """Whether all images have the same size after these steps."""
    last = steps[-1] if steps else None
    return isinstance(last, CenterCrop) or (
        isinstance(last, Resize) and not isinstance(last.size, int)
    )


@dataclass(frozen=True)
class ImageSettings:
    """How encoded bytes become pixels. Stats with different settings never merge."""

    mode: Mode | Literal["auto"] = "auto"
    preprocess: tuple[Step, ...] = ()
    strict_channels: bool = False  # skip images with other channels than the mode's; convert none
    frames: int = 0  # of each file: every n-th from the first on; 0: the first only

    def take(self, mode: Mode) -> bool:
        """Whether arrays of this mode can be counted: none is converted, except gray to RGB."""
        gray_as_rgb = (self.mode, mode) == ("RGB", "L") and not self.strict_channels
        return self.mode in ("auto", mode) or gray_as_rgb


_FRAMES = re.compile(r"first|all|every:([1-9]\d{0,5})", re.ASCII)


def frames_of(text: str) -> int:
    """`ImageSettings.frames` from "first", "all" or "every:N".

    Raises:
        ValueError: it is none of them.
    """
    found = _FRAMES.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is not first, all or every:N, as in every:10")
    return int(found[1]) if found[1] else int(text == "all")


def frames_text(step: int) -> str:
    """The text that `frames_of` reads: "first", "all" or "every:N"."""
    return ("first", "all")[step] if step < 2 else f"every:{step}"


SizesOption = Literal["exact", "sampled"]
"""What an estimate knows of the sizes of images: that of each, or those in the sample."""
SIZES: tuple[SizesOption, ...] = ("exact", "sampled")

MAX_PIXELS = 178_956_970
"""Of an image, by default; above it Pillow itself refuses: 2 * Image.MAX_IMAGE_PIXELS."""
TIMEOUT_S = 30.0
"""For an image, by default."""


@dataclass(frozen=True)
class Digits:
    """What is counted of each image. How it is counted (`workers.executor.Work`) changes no digit."""

    settings: ImageSettings
    max_pixels: int = MAX_PIXELS  # of an image; a larger one is skipped
    per_class: bool = False  # the moments of each class, too
    per_image: bool = False  # each image by itself, too: tally/rows.py
    per_image_sha256: bool = False  # with the SHA-256 of its file
    sizes: bool = False  # of each image by its header, and nothing else


@dataclass(frozen=True)
class Conflict:
    """Options of `measure` and `imgnorm stats` that are refused, since they would do nothing or cannot be had.

    The conditions are options that are given, and facts:

    - `path`, `torchvision`, `object`: what the user named: a path, torchvision:NAME, a Dataset or iterable.
    - `several`: the user named several paths.
    - `once`, `made_here`, `in_blocks`, `in_memory`: traits of the source that was opened.
    - `nvjpeg`, `cuda`, `RGB`, `exact`: values of options.
    """

    options: tuple[str, ...]  # any of these
    why: str  # what follows the option's name; {limit} is the name of another one
    beside: tuple[str, ...] = ()  # refused where all of these hold
    unless: tuple[str, ...] = ()  # and none of these


_NO_NAMES = "needs names, and these images come one after the other without any; "

CONFLICTS = (
    Conflict(("key",), "is for Datasets and iterables; leave it out", unless=("object",)),
    Conflict(("listed",), "is for a text file of paths; leave it out", unless=("path",)),
    Conflict(
        ("root", "split", "download"),
        "is for torchvision:NAME; leave it out",
        unless=("torchvision",),
    ),
    Conflict(
        ("confidence", "seed", "sizes"),
        "is for {tolerance}; leave it out, or give both",
        unless=("tolerance",),
    ),
    Conflict(
        ("tolerance",), "takes as many images as it needs; leave {limit} out", beside=("limit",)
    ),
    Conflict(
        ("limit", "tolerance"),
        "is for one source; leave it out, or name one: a folder above them, or a list of their files",
        beside=("several",),
    ),
    Conflict(
        ("shard", "keep_names"),
        "is for merging, and an estimate does not merge; leave it out, or {tolerance}",
        beside=("tolerance",),
    ),
    Conflict(
        ("per_image",),
        "has a row for each image, and an estimate looks at some of them; leave it out, or {tolerance}",
        beside=("tolerance",),
    ),
    Conflict(
        ("per_image",),
        "is counted on the CPU, where each image is seen by itself; leave it out, or {device} cuda and "
        "{decoder} nvjpeg",
        beside=("cuda",),
    ),
    Conflict(
        ("tolerance",),
        "is about the whole, and takes too few images of each class for {per_class}; leave one out",
        beside=("per_class",),
    ),
    Conflict(
        ("sizes",),
        "exact needs each image by itself, and a device that decodes counts many at once; leave it out, or "
        "{decoder} nvjpeg",
        beside=("exact", "nvjpeg"),
    ),
    Conflict(
        ("strict_channels",),
        "needs a {mode} that says which channels are right, such as RGB",
        unless=("mode",),
    ),
    Conflict(
        ("executor",),
        "does nothing: this process has the images; leave it out",
        beside=("in_memory",),
    ),
    Conflict(
        ("executor",),
        "does nothing: your own Python makes the images, in this process; leave it out",
        beside=("made_here",),
        unless=("in_memory",),
    ),
    Conflict(
        ("device", "profile"),
        "is for this machine; leave it out, or {executor}",
        beside=("executor",),
    ),
    Conflict(("batch_size",), "is for {device} cuda or auto; leave it out", unless=("device",)),
    Conflict(
        ("resize", "center_crop", "preprocess"),
        "is not done by {decoder} nvjpeg; leave it out, or let the workers decode",
        beside=("nvjpeg",),
    ),
    Conflict(
        ("mode",),
        "must be auto or RGB with {decoder} nvjpeg, which cannot convert",
        beside=("nvjpeg",),
        unless=("RGB",),
    ),
    Conflict(
        ("decoder",),
        "nvjpeg gives other digits than the CPU, so it needs {device} cuda",
        beside=("nvjpeg",),
        unless=("cuda",),
    ),
    Conflict(
        ("decoder",),
        "does nothing: a torchvision dataset opens its images itself; leave it out",
        beside=("torchvision",),
    ),
    Conflict(
        ("decoder",), "does nothing: these are pixels already; leave it out", beside=("in_blocks",)
    ),
    Conflict(
        ("decoder",),
        "does nothing: your own Python decodes the images; leave it out",
        beside=("made_here",),
    ),
    Conflict(
        ("timeout_s",),
        "does nothing: this process reads the images, and nothing can interrupt it; leave it out",
        beside=("made_here",),
        unless=("in_memory",),
    ),
    Conflict(
        ("device",),
        "does nothing: with {workers}, the processes that make the images count them; leave one out, "
        "or measure a DataLoader of the dataset",
        beside=("made_here", "workers", "cuda"),
        unless=("in_memory", "once"),
    ),
    Conflict(
        ("workers",),
        "does nothing: your own Python reads the images; give num_workers to its DataLoader, if it has one",
        beside=("once",),
    ),
    *(
        Conflict(
            ("frames", "include", "exclude"),
            "is for image files in folders, lists and archives; leave it out",
            beside=(what,),
        )
        for what in ("torchvision", "object", "in_blocks", "made_here")
    ),
    Conflict(("shard",), _NO_NAMES + "shard the dataset itself", beside=("once",)),
    Conflict(
        ("per_class", "keep_names"), _NO_NAMES + "measure the dataset itself", beside=("once",)
    ),
    Conflict(
        ("tolerance",),
        "needs a random sample, and these images come in an order of their own; measure the dataset itself",
        beside=("once",),
    ),
)


def conflicts(facts: Collection[str], spelled: Mapping[str, str] | None = None) -> Iterator[str]:
    """Which options do not go together, and why: a sentence each.

    Args:
        facts: the options that are given, and what else holds (see `Conflict`).
        spelled: how the user writes an option, where that is not its name: `--shard`.
    """
    names, held = _Names(spelled or {}), set(facts)
    for conflict in CONFLICTS:
        if held.issuperset(conflict.beside) and held.isdisjoint(conflict.unless):
            for option in filter(held.__contains__, conflict.options):
                yield f"{names[option]} {conflict.why.format_map(names)}"


class _Names(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return name


CHANNELS: dict[Mode, tuple[str, ...]] = {
    "L": ("L",),
    "RGB": ("R", "G", "B"),
    "RGBA": ("R", "G", "B", "A"),
    "I;16": ("I",),
}
"""The channels of the modes that image files can be converted to; `channels_of` knows all modes."""

MODES = ("auto", *CHANNELS)
"""What users choose from."""
LAYOUTS = ("NHWC", "NCHW", "NHW", "HWC", "CHW", "HW")
"""The dimensions of arrays, in which users may choose: images, height, width, channels."""

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
