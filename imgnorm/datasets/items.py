"""What a user's Dataset, DataLoader or iterable yields -> images, or the reason why it holds none.

Tensors are recognised without importing torch: code that yields one has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgnorm.errors import SourceError
from imgnorm.settings import LAYOUTS, ImageSettings
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.wording import cut

ImageArray = npt.NDArray[Any]
"""Images (N, H, W, C); or a uint8 tensor of that shape, if it lies on a CUDA device."""

KEYS = ("image", "images", "img", "imgs", "pixel_values", "x", "input", "inputs")
"""The usual keys of the image in a dict."""

_CHANNELS = (1, 3, 4)
_DTYPES = ("uint8", "uint16", "float16", "float32", "float64")
_BYTES_AS_FLOAT32 = (
    np.arange(256, dtype=np.float32) / np.float32(255),  # ToTensor
    np.arange(256, dtype=np.float32) * np.float32(1 / 255),  # v2.ToDtype(scale=True)
)
"""k/255 in float32: rounded once, and rounded twice."""
_BYTES_AS_FLOAT64 = (
    np.arange(256) / 255,
    np.arange(256) * (1 / 255),
    *(table.astype(np.float64) for table in _BYTES_AS_FLOAT32),
)


@dataclass(frozen=True)
class ItemFormat:
    """Where the images of an item are, and how their pixels lie."""

    key: str | int | None = None  # in a dict or a namedtuple, or the index in a tuple
    layout: str | None = None  # one of LAYOUTS, if the shape is ambiguous; N may be left out
    batches: bool = False  # items are batches, made by torch's own collate function
    single: bool = False  # an item is one image


def images_in(item: object, item_format: ItemFormat) -> list[Image.Image | ImageArray]:
    """All images of an item: PIL images one by one, and arrays (N, H, W, C).

    Raises:
        Unreadable: it holds no image, or it is unclear which part is the image or how its pixels lie.
    """
    found = [_with_layout(one, item_format) for one in _leaves(item, item_format)]
    count = sum(map(image_count, found))
    if item_format.single and count != 1:
        raise Unreadable(
            Reason.UNSUPPORTED_FORMAT,
            f"{count:,} images in one item of a Dataset, where one is expected; measure "
            "`DataLoader(dataset, batch_size=None)` instead",
        )
    return found


def check_first_item(
    item: object, item_format: ItemFormat, settings: ImageSettings, ref: str
) -> None:
    """
    Raises:
        SourceError: the first item of a source is not an image that can be measured with these settings.
    """
    try:
        first = images_in(item, item_format)[0]
    except Unreadable as fault:
        raise SourceError(f"{ref}: the first item is {fault.detail}") from fault
    if settings.preprocess and not isinstance(first, Image.Image):
        raise SourceError(
            f"{ref}: yields {first.dtype} arrays, but only PIL images are resized or cropped here, as torchvision "
            "does it; do it in the dataset, and leave resize and center_crop out"
        )


def image_count(found: Image.Image | ImageArray) -> int:
    return 1 if isinstance(found, Image.Image) else len(found)


def is_array_or_tensor(value: object) -> bool:
    return isinstance(value, np.ndarray) or is_tensor(value)


def is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_counted_on_device(value: object) -> bool:
    """Whether a value is a uint8 tensor on a CUDA device, which is counted where it lies."""
    return is_tensor(value) and value.is_cuda and _dtype(value) == "uint8"  # type: ignore[attr-defined]


def eight_bits(images: ImageArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """The 8-bit values that float images had before they were divided by 255, and which images had them.

    Args:
        images: floats, (N, H, W, C).

    Returns:
        uint8 of that shape, which is correct where the second array, of shape (N,), is true.
    """
    # In float32, 1e-46 is 0 and 1 + 1e-9 is 1, so float64 stays float64.
    double = images.dtype.itemsize == 8
    tables = _BYTES_AS_FLOAT64 if double else _BYTES_AS_FLOAT32
    floats = images.astype(np.float64 if double else np.float32, copy=False)
    with np.errstate(invalid="ignore"):  # NaN equals no value
        values = np.rint(np.clip(floats, 0, 1) * floats.dtype.type(255)).astype(np.uint8)
    equal = reduce(np.logical_or, (floats == table[values] for table in tables))
    return values, equal.all(axis=(1, 2, 3))


def _leaves(item: object, item_format: ItemFormat) -> list[Any]:
    """The images of an item, whatever their layout."""
    if isinstance(item, list) and item and all(isinstance(one, Mapping) for one in item):
        # Samples that no collate function has joined.
        return [leaf for one in item for leaf in _leaves(one, item_format)]
    if item_format.key is not None:
        return _images(_value_at(item, item_format.key), item_format)
    if isinstance(item, Mapping):
        return _images(_only_image(item), item_format)
    if isinstance(item, (tuple, list)):
        return _images_of_sequence(item, item_format)
    return _images(item, item_format)


def _images_of_sequence(item: tuple[Any, ...] | list[Any], item_format: ItemFormat) -> list[Any]:
    """Of (image, label), (images, labels), or a list of such samples that no collate function joined."""
    if not item:
        raise Unreadable(Reason.NOT_AN_IMAGE, f"an empty {type(item).__name__}")
    first = item[0]
    alike = all(map(_looks_like_an_image, item)) and len(set(map(_shape, item))) == 1
    if len(item) > 1 and (alike or all(map(_are_images, item))):
        raise Unreadable(
            Reason.UNSUPPORTED_FORMAT,
            f"a {type(item).__name__} of {len(item)} images, which may be a batch or views of one image; "
            "choose with `key=0` (--key 0), or yield them one by one",
        )
    if _looks_like_an_image(first) or _are_images(first):
        return _images(first, item_format)
    samples = isinstance(item, list) and isinstance(first, (tuple, list))
    if samples and all(isinstance(one, type(first)) for one in item):
        return [leaf for one in item for leaf in _images_of_sequence(one, item_format)]
    return _images(first, item_format)


def _images(value: object, item_format: ItemFormat) -> list[Any]:
    """An image, a batch of images, or several of different sizes."""
    if isinstance(value, (tuple, list)) and _are_images(value):
        if item_format.batches and len(value) > 1:
            raise Unreadable(
                Reason.UNSUPPORTED_FORMAT,
                f"{len(value)} images where one is expected, perhaps views of it; give the loader one of them",
            )
        return list(value)
    if isinstance(value, Image.Image) or is_array_or_tensor(value):
        return [value]
    raise _no_image(value)


def _are_images(value: object) -> bool:
    return (
        isinstance(value, (tuple, list)) and bool(value) and all(map(_looks_like_an_image, value))
    )


def _looks_like_an_image(value: object) -> bool:
    return isinstance(value, Image.Image) or (is_array_or_tensor(value) and value.ndim >= 2)  # type: ignore[attr-defined]


def _shape(value: Any) -> object:
    if isinstance(value, Image.Image):
        return value.size, value.mode
    if is_tensor(value) and value.is_nested:  # it has no shape, so it differs from all others
        return object()
    return tuple(value.shape)


def _value_at(item: Any, key: str | int) -> Any:
    if isinstance(item, Mapping):
        for one in (key, str(key)):  # --key 1 arrives as a number, but may be the key "1"
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
            Reason.NOT_AN_IMAGE, f"a {type(item).__name__} of {len(item)}; it has no index {key}"
        )
    raise Unreadable(Reason.NOT_AN_IMAGE, f"a {type(item).__name__}; it has no key {key!r}")


def _only_image(item: Mapping[Any, Any]) -> Any:
    """The image of a dict: under one of the usual keys, or the only value that looks like one."""
    known = [key for key in KEYS if key in item]
    images = [key for key, one in item.items() if _looks_like_an_image(one) or _are_images(one)]
    candidates = [key for key in known if key in images] or images
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


def _no_image(value: object) -> Unreadable:
    what = _with_article(type(value).__name__) if value is not None else "None"
    advice = ""
    if isinstance(value, (str, bytes)):
        advice = "; open it with Pillow in the dataset"
    elif isinstance(value, (int, float, complex)):
        advice = "; if it is the label, name the image with `key=` (--key)"
    return Unreadable(Reason.NOT_AN_IMAGE, f"{what}, not an image{advice}")


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _with_layout(value: Any, item_format: ItemFormat) -> Image.Image | ImageArray:
    if isinstance(value, Image.Image):
        return value
    _check_values(value)
    dtype = _dtype(value)
    if dtype not in _DTYPES and dtype != "bfloat16":
        raise Unreadable(
            Reason.UNSUPPORTED_MODE,
            f"{dtype} of shape {tuple(value.shape)}; pixels are uint8, uint16 or float: convert them in the "
            "dataset, or, if these are labels, name the image with `key=` (--key)",
        )
    if is_tensor(value):
        return _channels_last(_array(value), "CHW", item_format)
    return _channels_last(value, "HWC", item_format)


def _check_values(value: Any) -> None:
    """
    Raises:
        Unreadable: an array or tensor has elements without a value that can be read.
    """
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


def _array(tensor: Any) -> ImageArray:
    tensor = tensor.detach().resolve_neg()
    if _dtype(tensor) == "bfloat16":  # NumPy lacks it; float32 has all its values
        tensor = tensor.float()
    array: ImageArray = tensor if is_counted_on_device(tensor) else tensor.cpu().numpy()
    return array


def _channels_last(array: ImageArray, usual: str, item_format: ItemFormat) -> ImageArray:
    """(N, H, W, C).

    Args:
        usual: the layout where the shape decides: CHW for tensors, HWC for arrays, as in torch.
    """
    shape = tuple(array.shape)
    if item_format.layout is not None:
        layout = item_format.layout.removeprefix("N")
        if array.ndim == len(layout):
            return _transposed(array[np.newaxis], layout)
        if array.ndim == len(layout) + 1:
            return _transposed(array, layout)
        raise Unreadable(Reason.UNSUPPORTED_MODE, f"shape {shape} is not {item_format.layout}")
    if array.ndim == 4 and shape[1:][usual.index("C")] in _CHANNELS:
        return _transposed(array, usual)
    if array.ndim == 3 and item_format.batches:  # torch's collate stacks: the first axis is N
        return _transposed(array, "HW")
    if array.ndim == 3 and shape[usual.index("C")] in _CHANNELS:
        return _transposed(array[np.newaxis], usual)
    if array.ndim == 2 and not item_format.batches:
        return _transposed(array[np.newaxis], "HW")
    raise Unreadable(Reason.UNSUPPORTED_MODE, _unclear_shape(shape, usual))


def _transposed(array: ImageArray, layout: str) -> ImageArray:
    """(N, H, W, C), from N and that layout."""
    if layout == "HW":
        return array[..., np.newaxis]
    if layout != "CHW":
        return array
    return array.permute(0, 2, 3, 1) if is_tensor(array) else array.transpose(0, 2, 3, 1)  # type: ignore[attr-defined]


def _unclear_shape(shape: tuple[int, ...], usual: str) -> str:
    what = "a tensor" if usual == "CHW" else "an array"
    if len(shape) not in (3, 4):
        return f"{what} of shape {shape}, not an image; if these are labels, name the image with `key=` (--key)"
    candidates = (layout for layout in LAYOUTS if len(layout) == len(shape))
    options = " or ".join(f'"{layout}"' for layout in candidates)
    return f"{what} of shape {shape}, not {usual} of 1, 3 or 4 channels; give layout={options} (--layout)"
