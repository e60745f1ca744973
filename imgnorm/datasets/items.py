"""What a user's Dataset, DataLoader or iterable yields -> images, or the reason why it is none.

Tensors are known without importing torch: whoever yields one has loaded it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgnorm.settings import Mode
from imgnorm.sources.npy import LAYOUTS
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.tally.tally import Tally
from imgnorm.wording import cut

Pixels = npt.NDArray[Any]
"""(N, H, W, C); of uint8 tensors that lie on a device, such a tensor."""

KEYS = ("image", "images", "img", "imgs", "pixel_values", "x", "input", "inputs")
"""Where a dict has its image, by custom."""

_CHANNELS = (1, 3, 4)
_PIXELS = ("uint8", "uint16", "float16", "float32", "float64")


class TensorCounter(Protocol):
    """Counts uint8 tensors on the device where they lie: `gpu_tensors.TensorCounter`."""

    def add(self, images: Any, mode: Mode) -> None:
        """Images (N, H, W, C), which may change afterwards."""

    def tally(self) -> Tally: ...


DeviceCounterFor = Callable[[Any, bool], TensorCounter]
"""A torch device, and whether error bars are wanted -> what counts there."""


@dataclass(frozen=True)
class Reading:
    """How the images of an item are found."""

    key: str | int | None = None  # of a dict or a namedtuple, or the place in a tuple
    layout: str | None = None  # one of LAYOUTS, where the shape does not tell; N may be left out
    batches: bool = False  # items are batches that torch's own collate made
    single: bool = False  # an item is one image
    device_counter: DeviceCounterFor | None = (
        None  # for tensors on devices; they are fetched without it
    )


def images_in(item: object, reading: Reading) -> list[Image.Image | Pixels]:
    """All images of an item: PIL images one by one, and arrays (N, H, W, C).

    Raises:
        Unreadable: there is no image in it, or it does not tell which or how it lies.
    """
    found = [_laid_out(one, reading) for one in _leaves(item, reading)]
    count = sum(map(images_of, found))
    if reading.single and count != 1:
        raise Unreadable(
            Reason.UNSUPPORTED_FORMAT,
            f"{count:,} images in one item of a Dataset, which should be one; measure "
            "`DataLoader(dataset, batch_size=None)` instead",
        )
    return found


def images_of(found: Image.Image | Pixels) -> int:
    return 1 if isinstance(found, Image.Image) else len(found)


def is_pixels(value: object) -> bool:
    """Whether a value is an array or a tensor, of whatever shape."""
    return isinstance(value, np.ndarray) or is_tensor(value)


def stays_there(value: object) -> bool:
    """Whether a value is a tensor of bytes on a CUDA device, where it can be counted."""
    return is_tensor(value) and value.is_cuda and _dtype(value) == "uint8"  # type: ignore[attr-defined]


def is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _leaves(item: object, reading: Reading) -> list[Any]:
    """The images of an item, before it is known how they lie."""
    if isinstance(item, list) and item and all(isinstance(one, Mapping) for one in item):
        # Samples that no collate has joined.
        return [leaf for one in item for leaf in _leaves(one, reading)]
    if reading.key is not None:
        return _images(_at(item, reading.key), reading)
    if isinstance(item, Mapping):
        return _images(_by_custom(item), reading)
    if isinstance(item, (tuple, list)):
        return _of_a_sequence(item, reading)
    return _images(item, reading)


def _of_a_sequence(item: tuple[Any, ...] | list[Any], reading: Reading) -> list[Any]:
    """(image, label), (images, labels), or a list of such samples that no collate has joined."""
    if not item:
        raise Unreadable(Reason.NOT_AN_IMAGE, f"an empty {type(item).__name__}")
    first = item[0]
    alike = all(map(_looks_like_an_image, item)) and len(set(map(_shape, item))) == 1
    if len(item) > 1 and (alike or all(map(_are_images, item))):
        raise Unreadable(
            Reason.UNSUPPORTED_FORMAT,
            f"a {type(item).__name__} of {len(item)} that are all images, which may be a batch or views of "
            "one; choose with `key=0` (--key 0), or yield them one by one",
        )
    if _looks_like_an_image(first) or _are_images(first):
        return _images(first, reading)
    samples = isinstance(item, list) and isinstance(first, (tuple, list))
    if samples and all(isinstance(one, type(first)) for one in item):
        return [leaf for one in item for leaf in _of_a_sequence(one, reading)]
    return _images(first, reading)


def _images(value: object, reading: Reading) -> list[Any]:
    """An image, a batch of images, or several of different sizes."""
    if isinstance(value, (tuple, list)) and _are_images(value):
        if reading.batches and len(value) > 1:
            raise Unreadable(
                Reason.UNSUPPORTED_FORMAT,
                f"{len(value)} images in the place of one: views of it? give the loader one of them",
            )
        return list(value)
    if isinstance(value, Image.Image) or is_pixels(value):
        return [value]
    raise _no_image(value)


def _are_images(value: object) -> bool:
    return (
        isinstance(value, (tuple, list)) and bool(value) and all(map(_looks_like_an_image, value))
    )


def _looks_like_an_image(value: object) -> bool:
    return isinstance(value, Image.Image) or (is_pixels(value) and value.ndim >= 2)  # type: ignore[attr-defined]


def _shape(value: Any) -> object:
    if isinstance(value, Image.Image):
        return value.size, value.mode
    if is_tensor(value) and value.is_nested:  # has no shape, and so none that another has
        return object()
    return tuple(value.shape)


def _at(item: Any, key: str | int) -> Any:
    if isinstance(item, Mapping):
        for one in (key, str(key)):  # digits are a number, and may be a dict's key
            if one in item:
                return item[one]
        raise Unreadable(
            Reason.NOT_AN_IMAGE, f"a dict without the key {key!r}; it has {_listed(item)}"
        )
    if isinstance(item, tuple) and isinstance(key, str) and key in getattr(item, "_fields", ()):
        return getattr(item, key)
    if isinstance(item, (tuple, list)) and isinstance(key, int):
        if -len(item) <= key < len(item):
            return item[key]
        raise Unreadable(
            Reason.NOT_AN_IMAGE, f"a {type(item).__name__} of {len(item)}; it has no place {key}"
        )
    raise Unreadable(Reason.NOT_AN_IMAGE, f"a {type(item).__name__}; it has no key {key!r}")


def _by_custom(item: Mapping[Any, Any]) -> Any:
    known = [key for key in KEYS if key in item]
    held = [key for key, one in item.items() if _looks_like_an_image(one) or _are_images(one)]
    candidates = [key for key in known if key in held] or held
    if len(candidates) == 1:
        return item[candidates[0]]
    if not candidates:
        raise Unreadable(
            Reason.NOT_AN_IMAGE, f"a dict in which no value is an image; it has {_listed(item)}"
        )
    raise Unreadable(
        Reason.UNSUPPORTED_FORMAT,
        f"a dict with several images ({_listed(candidates)}); choose one with `key=` (--key)",
    )


def _listed(keys: Any) -> str:
    shown = [cut(repr(key), 40) for key in keys]
    return ", ".join(shown[:8]) + (", …" if len(shown) > 8 else "") if shown else "no keys"


def _a(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _no_image(value: object) -> Unreadable:
    what = _a(type(value).__name__) if value is not None else "None"
    advice = ""
    if isinstance(value, (str, bytes)):
        advice = "; open it with Pillow in the dataset"
    elif isinstance(value, (int, float, complex)):
        advice = "; if it is the label, name the image with `key=` (--key)"
    return Unreadable(Reason.NOT_AN_IMAGE, f"{what}, not an image{advice}")


def _laid_out(value: Any, reading: Reading) -> Image.Image | Pixels:
    if isinstance(value, Image.Image):
        return value
    tensor = is_tensor(value)
    _demand_values(value)
    dtype = _dtype(value)
    if dtype not in _PIXELS and dtype != "bfloat16":
        raise Unreadable(
            Reason.UNSUPPORTED_MODE,
            f"{dtype} of shape {tuple(value.shape)}; pixels are uint8, uint16 or float: convert them in the "
            "dataset, or, if these are labels, name the image with `key=` (--key)",
        )
    array = _array(value) if tensor else value
    return _with_channels_last(array, "CHW" if tensor else "HWC", reading)


def _demand_values(value: Any) -> None:
    """That each place of an array or tensor holds a value that can be read."""
    fault = None
    if isinstance(value, np.ndarray):
        if np.ma.is_masked(value):
            fault = "an array with masked values; fill them"
    elif value.is_nested or str(value.layout) != "torch.strided":
        fault = "a nested or sparse tensor; make it dense"
    elif value.is_meta:
        fault = "a tensor on the meta device, without values"
    if fault:
        raise Unreadable(Reason.UNSUPPORTED_MODE, fault)


def _dtype(value: Any) -> str:
    name: str = value.dtype.name if isinstance(value, np.ndarray) else str(value.dtype)
    return name.removeprefix("torch.")


def _array(tensor: Any) -> Pixels:
    tensor = tensor.detach().resolve_neg()
    if _dtype(tensor) == "bfloat16":  # NumPy has no such type; every value is a float32, too
        tensor = tensor.float()
    array: Pixels = tensor if stays_there(tensor) else tensor.cpu().numpy()
    return array


def _with_channels_last(array: Pixels, custom: str, reading: Reading) -> Pixels:
    """(N, H, W, C). `custom` is the order that torch has for it: CHW of tensors, HWC of arrays."""
    shape = tuple(array.shape)
    if reading.layout is not None:
        core = reading.layout.removeprefix("N")
        if array.ndim == len(core):
            return _moved(array[np.newaxis], core)
        if array.ndim == len(core) + 1:
            return _moved(array, core)
        raise Unreadable(Reason.UNSUPPORTED_MODE, f"shape {shape} is not {reading.layout}")
    if array.ndim == 4 and shape[1:][custom.index("C")] in _CHANNELS:
        return _moved(array, custom)
    if array.ndim == 3 and reading.batches:  # torch's collate stacks: the first axis is N
        return _moved(array, "HW")
    if array.ndim == 3 and shape[custom.index("C")] in _CHANNELS:
        return _moved(array[np.newaxis], custom)
    if array.ndim == 2 and not reading.batches:
        return _moved(array[np.newaxis], "HW")
    raise Unreadable(Reason.UNSUPPORTED_MODE, _puzzle(shape, custom))


def _moved(array: Pixels, core: str) -> Pixels:
    if core == "HW":
        return array[..., np.newaxis]
    if core != "CHW":
        return array
    return array.permute(0, 2, 3, 1) if is_tensor(array) else array.transpose(0, 2, 3, 1)  # type: ignore[attr-defined]


def _puzzle(shape: tuple[int, ...], custom: str) -> str:
    what = "a tensor" if custom == "CHW" else "an array"
    if len(shape) not in (3, 4):
        return f"{what} of shape {shape}, no image; if these are labels, name the image with `key=` (--key)"
    candidates = (layout for layout in LAYOUTS if len(layout) == len(shape))
    options = " or ".join(f'"{layout}"' for layout in candidates)
    return f"{what} of shape {shape}, not {custom} of 1, 3 or 4 channels; say layout={options} (--layout)"


_EIGHTHS = (
    np.arange(256, dtype=np.float32) / np.float32(255),  # ToTensor
    np.arange(256, dtype=np.float32) * np.float32(1 / 255),  # v2.ToDtype(scale=True)
)
"""k/255 in float32: rounded correctly, and one rounding later."""


def eight_bits(images: Pixels) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """What float images were before they were divided by 255, and which of them were that.

    Args:
        images: floats, (N, H, W, C).

    Returns:
        uint8 of that shape, right where the second, of shape (N,), is true.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # NaN fits nothing
        narrow = images.astype(np.float32, copy=False)
        values = np.rint(np.clip(narrow, 0, 1) * np.float32(255)).astype(np.uint8)
    fits = (narrow == _EIGHTHS[0][values]) | (narrow == _EIGHTHS[1][values])
    return values, fits.all(axis=(1, 2, 3))
