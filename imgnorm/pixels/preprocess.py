"""Resize and CenterCrop as torchvision does them on PIL images, pixel for pixel, without torch.

The arithmetic is that of `_compute_resized_output_size` and `center_crop` in
https://github.com/pytorch/vision/blob/main/torchvision/transforms/functional.py.
"""

from __future__ import annotations

from PIL import Image

from imgnorm.pixels.damage import above_limit
from imgnorm.settings import Resize, Step
from imgnorm.tally.skipped import Reason, Unreadable


def preprocessed(picture: Image.Image, steps: tuple[Step, ...], max_pixels: int) -> Image.Image:
    """The picture after all steps.

    Raises:
        Unreadable: a step would make more than `max_pixels` pixels: Resize of the shorter edge of a very
            long image, or CenterCrop where it pads.
    """
    for step in steps:
        if isinstance(step, Resize):
            picture = _resized(picture, step.size, max_pixels)
        else:
            picture = _center_cropped(picture, step.size, max_pixels)
    return picture


def _resized(picture: Image.Image, size: int | tuple[int, int], max_pixels: int) -> Image.Image:
    width, height = picture.size
    if isinstance(size, int):
        short, long = min(width, height), max(width, height)
        new_long = int(size * long / short)
        new_width, new_height = (size, new_long) if width <= height else (new_long, size)
    else:
        new_height, new_width = size
    _check_size("resizing", picture, (new_width, new_height), max_pixels)
    if (new_width, new_height) == (width, height):
        return picture
    return picture.resize((new_width, new_height), Image.Resampling.BILINEAR)


def _center_cropped(
    picture: Image.Image, size: int | tuple[int, int], max_pixels: int
) -> Image.Image:
    height, width = (size, size) if isinstance(size, int) else size
    _check_size("cropping", picture, (width, height), max_pixels)
    left = _crop_start(picture.width, width)
    top = _crop_start(picture.height, height)
    return picture.crop((left, top, left + width, top + height))


def _check_size(
    doing: str, picture: Image.Image, new_size: tuple[int, int], max_pixels: int
) -> None:
    width, height = new_size
    if width * height > max_pixels:
        raise Unreadable(
            Reason.TOO_LARGE,
            f"{doing} {picture.width}x{picture.height} to {width}x{height} makes "
            + above_limit(width * height, max_pixels),
        )


def _crop_start(length: int, crop: int) -> int:
    if crop > length:
        return -((crop - length) // 2)  # Pillow fills the outside with 0, as torchvision does
    return round((length - crop) / 2.0)
