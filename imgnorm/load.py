"""A name -> the pixels that are to be counted: read, decode, preprocess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from imgnorm.decode import Decoded, decode, decoded_picture
from imgnorm.image import ImageSettings
from imgnorm.jpeg import JpegDecoder
from imgnorm.preprocess import preprocessed
from imgnorm.profile import Step, no_lap
from imgnorm.sources import EncodedSource


@dataclass
class Loader:
    """Loads the images of one source, one after the other; mutable, one for each thread."""

    source: EncodedSource
    settings: ImageSettings
    max_pixels: int
    reserve: Callable[[int], None] = lambda size: None  # before memory is taken; may wait or raise
    jpeg: JpegDecoder | None = None
    lap: Callable[[Step], None] = no_lap  # a step is done
    bytes_read: int = 0
    size: int | None = None  # of the last image's file

    def load(self, name: str) -> Decoded:
        """The image's pixels, valid until the next call.

        Raises:
            Unreadable: it cannot be counted, with the reason.
            MemoryError: there is not enough memory to decode it.
        """
        self.size = None
        found = self.source.read(name)
        self.lap("read")
        if isinstance(found, bytes):
            self.size = len(found)
            self.bytes_read += self.size
            image = decode(
                found,
                self.settings.mode,
                max_pixels=self.max_pixels,
                reserve=self.reserve,
                jpeg=self.jpeg,
            )
        else:
            image = decoded_picture(found, self.settings.mode, max_pixels=self.max_pixels)
        self.lap("decode")
        if self.settings.preprocess:
            steps = self.settings.preprocess
            image = replace(image, content=preprocessed(image.picture, steps, self.max_pixels))
            self.lap("preprocess")
        return image
