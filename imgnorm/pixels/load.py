"""An image of a unit -> the pixels to count: read, decode, preprocess."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgnorm.pixels.decode import (
    Decoded,
    FramesOfFile,
    decode,
    decoded_picture,
    demand_channels,
)
from imgnorm.pixels.jpeg import JpegDecoder
from imgnorm.pixels.losses import looks_like_a_mask
from imgnorm.pixels.preprocess import preprocessed
from imgnorm.progress import Stage, no_lap
from imgnorm.settings import CHANNELS, ImageSettings
from imgnorm.sources.files import unreadable
from imgnorm.sources.source import Block, FileFrame, Unread
from imgnorm.tally.notes import FRAMES, FURTHER_FRAMES, MASK, MASK_LIKE, kinds_of_folder
from imgnorm.tally.skipped import Reason, Unreadable


@dataclass
class Loader:
    """Loads images, one after the other. Not thread-safe: make one per thread."""

    settings: ImageSettings
    max_pixels: int
    reserve: Callable[[int], None] = lambda size: None  # before memory is taken; may wait or raise
    jpeg: JpegDecoder | None = None
    lap: Callable[[Stage], None] = no_lap  # called after each step, for a profile
    leave: Callable[[bytes], bool] = lambda data: False  # whether a device will decode this file
    bytes_read: int = 0
    size: int | None = None  # of the last image's file
    data: bytes | None = None  # that file; of a later frame, too
    noted: Mapping[str, int] = field(
        default_factory=dict
    )  # of the last image, by kind: tally/notes.py
    _folder: str = ""  # of the last image
    _of_folder: Mapping[str, int] = field(default_factory=dict)
    _file: FramesOfFile | None = None  # of the last frame

    def load(self, image: Unread) -> Decoded | None:
        """The image's pixels, valid until the next call; None if a device will decode the file.

        Raises:
            Unreadable: it cannot be counted, with the reason.
            MemoryError: there is not enough memory to decode it.
        """
        self.size = self.data = None
        found = given_by(image)
        self.lap("read")
        name = image.name
        folder = name[: name.rfind("/") + 1]
        if folder != self._folder:  # it seldom is
            self._folder, self._of_folder = folder, dict.fromkeys(kinds_of_folder(folder), 1)
        self.noted = self._of_folder
        if isinstance(found, bytes):
            self.data = found
            self.size = len(found)
            self.bytes_read += self.size
            if self.leave(found):
                return None
            decoded = decode(
                found,
                self.settings.mode,
                max_pixels=self.max_pixels,
                reserve=self.reserve,
                jpeg=self.jpeg,
            )
        elif isinstance(found, FileFrame):
            self.data = found.data
            decoded = self._frame(found)
        else:
            if isinstance(found, Block):
                self.reserve(picture_bytes(found))
                found = picture_of(found)
            decoded = decoded_picture(found, self.settings.mode, max_pixels=self.max_pixels)
        if self.settings.strict_channels:
            demand_channels(decoded)
        if decoded.lost or self.noted:
            self._note(decoded)
        self.lap("decode")
        if self.settings.preprocess:
            steps = self.settings.preprocess
            picture = decoded.picture
            content = preprocessed(picture, steps, self.max_pixels)
            decoded = decoded._replace(content=content, size=picture.size)
            self.lap("preprocess")
        return decoded

    def _frame(self, frame: FileFrame) -> Decoded:
        file, self._file = self._file, None
        if file is None or file.data is not frame.data:
            file = FramesOfFile(frame.data, self.max_pixels)
        decoded = file.decode(frame.number, self.settings.mode, reserve=self.reserve)
        self._file = file
        return decoded

    def _note(self, decoded: Decoded) -> None:
        noted = {**self.noted, **(decoded.lost or {})}
        if self.settings.frames:  # all those that are wanted are counted
            for kind in (FRAMES, FURTHER_FRAMES):
                noted.pop(kind, None)
        if MASK in noted and looks_like_a_mask(decoded.picture, decoded.file_mode):
            noted[MASK_LIKE] = 1
        self.noted = noted


def given_by(image: Unread) -> bytes | FileFrame | Image.Image | Block:
    """What an image's source gives.

    Raises:
        Unreadable: it cannot be read.
        TypeError, RuntimeError: its source is wrong: it gives something else, or raises what it should not.
    """
    try:
        found = image.read()
    except (Unreadable, MemoryError):
        raise
    except OSError as error:
        raise unreadable(error) from error
    except Exception as error:
        raise RuntimeError(
            f"{image.name!r}: reading it raised {error!r}; raise Unreadable"
        ) from error
    if isinstance(found, (bytearray, memoryview)):
        found = bytes(found)
    if not isinstance(found, (bytes, FileFrame, Block, Image.Image)):
        raise TypeError(
            f"{image.name!r}: reading it gave {found!r:.100}; give bytes or a PIL image"
        )
    return found


def array_of(block: Block) -> npt.NDArray[Any]:
    """The block as (N, H, W, C)."""
    return np.ndarray(block.shape, block.dtype, block.data, 0, block.strides)


def picture_of(block: Block) -> Image.Image:
    """A block of one image as the PIL image that torchvision's ToPILImage makes from it.

    Raises:
        Unreadable: PIL has no images of its mode.
    """
    if block.mode not in CHANNELS:
        raise Unreadable(Reason.UNSUPPORTED_MODE, f"mode {block.mode}, which PIL has no images of")
    (pixels,) = array_of(block)
    if block.mode == "I;16":
        return Image.fromarray(np.ascontiguousarray(pixels[..., 0], "<u2"))
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if block.mode == "L" else pixels))


def picture_bytes(block: Block) -> int:
    """How much memory the PIL image takes, at most."""
    return 4 * block.shape[1] * block.shape[2]
