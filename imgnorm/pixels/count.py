"""Names -> Tally: the job of one worker.

`count` loads one image after the other and adds it to a `Tallying`, which has one counter for each
mode. An error of one image is listed, and the next image follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from PIL import Image

from imgnorm.pixels.buffer import PackedFile, PackedImages, PixelBuffer
from imgnorm.pixels.decode import Decoded, frame_to_leave
from imgnorm.pixels.formats import decoder_of
from imgnorm.pixels.images import ModeCounter
from imgnorm.pixels.jpeg import JpegDecoder
from imgnorm.pixels.load import Loader
from imgnorm.progress import Stage, no_lap
from imgnorm.settings import ImageSettings, Mode
from imgnorm.sources.source import Readable
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.tally.tally import Tally

JOB_SECONDS = 0.5
_JOB_BYTES = 64 << 20
"""A job ends early at either limit, so that a few huge images do not delay all others."""


def count(
    source: Readable,
    names: Sequence[str],
    settings: ImageSettings,
    *,
    max_pixels: int,
    cross_sums: bool = False,
    starting: Callable[[int], None] = lambda index: None,
    reserve: Callable[[int], None] = lambda size: None,
    jpeg: JpegDecoder | None = None,
    buffer: PixelBuffer | None = None,
    leave_files: bool = False,
    lap: Callable[[Stage], None] = no_lap,
) -> tuple[Tally, int]:
    """The tally of the first images of `names`, and how many images that is.

    Args:
        cross_sums: count also what error bars need.
        starting: called with the index of each name before the image is read.
        reserve: called with the bytes of memory that an image will take; may wait or raise Unreadable.
        jpeg: decodes ordinary JPEGs instead of Pillow, to the same pixels.
        buffer: takes the images that it has room for. A device counts those: the tally has only their
            decoders.
        leave_files: put whole JPEG files into the buffer, not their pixels, where the device may decode
            them.
        lap: called after each step, for a profile.
    """
    loader = Loader(source, settings, max_pixels, reserve, jpeg, lap)
    tallying = Tallying(cross_sums=cross_sums, buffer=buffer)
    deadline = monotonic() + JOB_SECONDS
    done = 0

    def leave(data: bytes) -> bool:
        found = frame_to_leave(data, settings.mode, max_pixels=max_pixels)
        if found is None or buffer is None:
            return False
        frame, mode = found
        if settings.strict_channels and frame.gray and mode != "L":
            return False  # it will be skipped
        pixels, file_mode = frame.width * frame.height, "L" if frame.gray else "RGB"
        return buffer.put(PackedFile(done - 1, len(data), mode, pixels, file_mode), lambda: data)

    if leave_files:
        loader.leave = leave
    for done, name in enumerate(names, 1):
        starting(done - 1)
        try:
            image = loader.load(name)
            if image is not None:
                tallying.add(image)
        except Unreadable as fault:
            tallying.skip(fault.skipped(name, loader.size))
        except MemoryError:
            detail = "not enough memory to decode it"
            tallying.skip(Skipped(name, Reason.OUT_OF_MEMORY, detail, loader.size))
        else:
            if image is not None and image.mode == "I;16" and settings.mode == "auto":
                tallying.names_16bit.append(name)
        lap("count")
        if loader.bytes_read >= _JOB_BYTES or monotonic() >= deadline or (buffer and buffer.full):
            break
    tally = tallying.tally(loader.bytes_read)
    lap("count")
    return tally, done


class Tallying:
    """Collects the images of one job, of any mode, and gives their tally."""

    def __init__(self, *, cross_sums: bool = False, buffer: PixelBuffer | None = None) -> None:
        self.names_16bit: list[str] = []
        self._cross_sums = cross_sums
        self._buffer = buffer
        self._formats: set[str] = set()
        self._counters: dict[Mode, ModeCounter] = {}
        self._skipped: list[Skipped] = []

    def add(self, image: Decoded) -> None:
        self._formats.add(image.format)
        if self._buffer is not None and _put(self._buffer, image):
            return
        counter = self._counters.get(image.mode)
        if counter is None:
            counter = self._counters[image.mode] = ModeCounter(
                image.mode, cross_sums=self._cross_sums
            )
        counter.add(image)

    def skip(self, skipped: Skipped) -> None:
        self._skipped.append(skipped)

    def tally(self, bytes_read: int) -> Tally:
        counted = {mode: counter.counted() for mode, counter in self._counters.items()}
        decoders = {format_: decoder_of(format_) for format_ in self._formats}
        return Tally(counted, tuple(self.names_16bit), tuple(self._skipped), decoders, bytes_read)


_RAW: dict[Mode, str] = {"L": "L", "RGB": "RGBX", "RGBA": "RGBA"}
"""How 8-bit pixels lie in memory, in Pillow's images and in those of the other decoders."""


def _put(buffer: PixelBuffer, image: Decoded) -> bool:
    """Put the image's pixels into the buffer as they lie in memory, which is fastest.

    Returns:
        whether the buffer had room.
    """
    if image.mode not in _RAW:
        return False
    content, raw = image.content, _RAW[image.mode]
    if isinstance(content, Image.Image):
        pixels = content.width * content.height
    else:
        pixels = content.shape[0] * content.shape[1]

    def data() -> bytes | memoryview:
        if isinstance(content, Image.Image):
            return content.tobytes("raw", raw)
        return content.reshape(-1).data

    packed = PackedImages(image.mode, pixels, len(raw), image.file_mode, image.format)
    return buffer.put(packed, data)
