"""Images from a user's own Python -> Tally."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from imgnorm.count import ModeCounter, count_arrays
from imgnorm.decode import decoded_picture, decoder_of
from imgnorm.image import CHANNELS, ImageSettings, Mode
from imgnorm.items import Pixels, eight_bits
from imgnorm.preprocess import preprocessed
from imgnorm.reasons import Reason, Skipped, Unreadable
from imgnorm.tally import Tally

EIGHT_BITS = "float k/255"
"""The format of float images that were 8-bit before they were divided by 255."""

_BLOCK_PIXELS = 1 << 18
"""Small arrays are counted so many pixels at a time: one call for each would take longer than they do."""


class ItemCounter:
    """Collects images, of whatever kind; mutable, and alive only during one piece of work."""

    def __init__(self, settings: ImageSettings, max_pixels: int) -> None:
        self._settings = settings
        self._max_pixels = max_pixels
        self._pictures: dict[Mode, ModeCounter] = {}
        self._arrays = Tally()
        self._block = _Block()
        self._names_16bit: list[str] = []
        self._skipped: list[Skipped] = []

    def skip(self, name: str, fault: Unreadable) -> None:
        self._skipped.append(fault.skipped(name))

    def add(self, images: Image.Image | Pixels, names: Sequence[str]) -> None:
        """One PIL image, or an array (N, H, W, C) of uint8, uint16 or floats; a name for each."""
        if isinstance(images, Image.Image):
            self._add_picture(images, names[0])
            return
        for fault in self._faults_of(images):
            for name in names:
                self.skip(name, fault)
            return
        if images.dtype == np.uint8:
            self._add_8bit(images, "array")
        elif images.dtype == np.uint16:
            self._add_16bit(images, names)
        else:
            self._add_floats(images, names)

    def tally(self) -> Tally:
        """All that was added; nothing is added after it."""
        self._flush()
        counted = {mode: counter.counted() for mode, counter in self._pictures.items()}
        formats = {format_ for one in counted.values() for format_ in one.formats}
        decoders = {format_: decoder_of(format_) for format_ in formats - {"array"}}
        return self._arrays + Tally(
            counted, tuple(self._names_16bit), tuple(self._skipped), decoders
        )

    def _add_picture(self, picture: Image.Image, name: str) -> None:
        settings = self._settings
        try:
            image = decoded_picture(picture, settings.mode, max_pixels=self._max_pixels)
            picture = preprocessed(image.picture, settings.preprocess, self._max_pixels)
        except Unreadable as fault:
            self.skip(name, fault)
            return
        self._counter(image.mode).add(picture, image)
        if image.mode == "I;16" and settings.mode == "auto":
            self._names_16bit.append(name)

    def _faults_of(self, images: Pixels) -> list[Unreadable]:
        """Why none of these arrays can be counted: at most one reason."""
        _, height, width, channels = images.shape
        mode = _native_mode(images)
        asked = self._settings.mode
        if self._settings.preprocess:
            return [
                Unreadable(
                    Reason.UNSUPPORTED_MODE,
                    f"{_kind(images)} pixels, which are not resized or cropped here, but in the dataset; only "
                    "PIL images are",
                )
            ]
        if not height * width:
            return [Unreadable(Reason.ZERO_AREA, f"{width}x{height}")]
        if height * width > self._max_pixels:
            return [
                Unreadable(
                    Reason.TOO_LARGE,
                    f"{width}x{height} is {width * height:,} pixels; the limit is {self._max_pixels:,}",
                )
            ]
        if mode is None:
            detail = f"{_kind(images)} of {channels} channels; 16-bit images have 1"
            return [Unreadable(Reason.UNSUPPORTED_MODE, detail)]
        if asked not in ("auto", mode) and (asked, mode) != ("RGB", "L"):
            detail = (
                f"{_kind(images)} of {channels} channel{'s' if channels > 1 else ''}, not mode {asked}; "
                "convert it in the dataset, or measure it apart"
            )
            return [Unreadable(Reason.CHANNEL_MISMATCH, detail)]
        return []

    def _add_8bit(self, images: Pixels, format_: str) -> None:
        for start in range(len(images)):
            if not self._block.takes(images[start], format_):
                self._flush()
            self._block.add(images[start], format_)

    def _flush(self) -> None:
        block = self._block
        if block.filled:
            mode = _native_mode(block.pixels)
            assert mode is not None
            self._arrays += count_arrays(block.pixels[: block.filled], mode, block.format)
        self._block = _Block()

    def _add_16bit(self, images: Pixels, names: Sequence[str]) -> None:
        counter = self._counter("I;16")
        for image in images:
            counter.add_rows(np.bincount(image.ravel(), minlength=1 << 16)[np.newaxis])
        counter.modes["I;16"] += len(images)
        counter.formats["array"] += len(images)
        if self._settings.mode == "auto":
            self._names_16bit += names

    def _add_floats(self, images: Pixels, names: Sequence[str]) -> None:
        finite = np.isfinite(images).all(axis=(1, 2, 3))
        for index in np.flatnonzero(~finite).tolist():
            bad = images[index].size - int(np.isfinite(images[index]).sum())
            detail = f"{bad:,} of {images[index].size:,} values are NaN or Inf"
            self.skip(names[index], Unreadable(Reason.NONFINITE_PIXELS, detail))
        places = np.flatnonzero(finite).tolist()
        values, were = eight_bits(images[finite])
        self._add_8bit(values[were], EIGHT_BITS)
        for index in np.flatnonzero(~were).tolist():
            detail = "float values that are not k/255"
            self.skip(names[places[index]], Unreadable(Reason.UNSUPPORTED_MODE, detail))

    def _counter(self, mode: Mode) -> ModeCounter:
        if mode not in self._pictures:
            self._pictures[mode] = ModeCounter(mode)
        return self._pictures[mode]


class _Block:
    """uint8 images of one shape, copied: whoever yields an array may write into it again."""

    def __init__(self) -> None:
        self.filled = 0
        self.format = ""
        self.pixels: Pixels = np.empty((0, 0, 0, 0), np.uint8)

    def takes(self, image: Pixels, format_: str) -> bool:
        if not self.filled:
            return True
        room = self.filled < len(self.pixels)
        return room and image.shape == self.pixels.shape[1:] and format_ == self.format

    def add(self, image: Pixels, format_: str) -> None:
        if not self.filled:
            many = max(1, _BLOCK_PIXELS // max(1, image.size))
            self.pixels = np.empty((many, *image.shape), np.uint8)
            self.format = format_
        self.pixels[self.filled] = image
        self.filled += 1


def _native_mode(images: Pixels) -> Mode | None:
    channels = images.shape[3]
    if images.dtype == np.uint16:
        return "I;16" if channels == 1 else None
    by_count: dict[int, Mode] = {len(CHANNELS[mode]): mode for mode in ("L", "RGB", "RGBA")}
    return by_count[channels]


def _kind(images: Pixels) -> str:
    return str(images.dtype)
