"""Resize and CenterCrop as torchvision does them on PIL images, pixel for pixel, without torch.

The arithmetic is that of `_compute_resized_output_size` and `center_crop` in
https://github.com/pytorch/vision/blob/main/torchvision/transforms/functional.py.
"""

from __future__ import annotations

from PIL import Image

from imgnorm.pixels.damage import above_limit
from imgnorm.settings import CenterCrop, Resize, Step
from imgnorm.tally.skipped import Reason, Unreadable


def preprocessed(picture: Image.Image, steps: tuple[Step, ...], max_pixels: int) -> Image.Image:
    """The picture after all steps.

    Raises:
        Unreadable: a step would make more than `max_pixels` pixels: Resize of the shorter edge of a very
            long image, or CenterCrop where it pads.
    """
    for step in steps:
        size = _size_after(step, picture.size, max_pixels)
        if isinstance(step, CenterCrop):
            left, top = map(_crop_start, picture.size, size)
            picture = picture.crop((left, top, left + size[0], top + size[1]))
        elif size != picture.size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
    return picture


def size_after(steps: tuple[Step, ...], size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """The width and height that a picture of this width and height has after all steps.

    Raises:
        Unreadable: as `preprocessed`.
    """
    for step in steps:
        size = _size_after(step, size, max_pixels)
    return size


def _size_after(step: Step, size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    (width, height), new = size, step.size
    if not isinstance(new, int):
        new_height, new_width = new
    elif isinstance(step, CenterCrop):
        new_height = new_width = new
    else:
        long = int(new * max(size) / min(size))
        new_width, new_height = (new, long) if width <= height else (long, new)
    if new_width * new_height > max_pixels:
        doing = "resizing" if isinstance(step, Resize) else "cropping"
        raise Unreadable(
            Reason.TOO_LARGE,
            f"{doing} {width}x{height} to {new_width}x{new_height} makes "
            + above_limit(new_width * new_height, max_pixels),
        )
    return new_width, new_height


def _crop_start(length: int, crop: int) -> int:
    if crop > length:
        return -((crop - length) // 2)  # Pillow fills the outside with 0, as torchvision does
    return round((length - crop) / 2.0)
