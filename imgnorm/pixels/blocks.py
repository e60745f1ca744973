"""Blocks of arrays -> Tally: the job of one worker where nothing has to be decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

import numpy as np
import numpy.typing as npt

from imgnorm.pixels.buffer import PackedImages, PixelBuffer
from imgnorm.pixels.count import JOB_SECONDS
from imgnorm.pixels.damage import check_size
from imgnorm.pixels.floats import count_floats
from imgnorm.pixels.images import ModeCounter
from imgnorm.pixels.load import array_of
from imgnorm.pixels.planes import PlaneCounter
from imgnorm.progress import Stage, no_lap
from imgnorm.settings import ImageSettings, Mode, kind_of
from imgnorm.sources.source import Block, BlockSource
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.tally.tally import Tally

_FORMAT = "NPY"
_WIDENED = 8  # bytes: a float16, or a byte of an image that is not contiguous, becomes this wide


def count_blocks(
    source: BlockSource,
    names: Sequence[str],
    settings: ImageSettings,
    *,
    max_pixels: int,
    cross_sums: bool = False,
    starting: Callable[[int], None] = lambda index: None,
    reserve: Callable[[int], None] = lambda size: None,
    buffer: PixelBuffer | None = None,
    lap: Callable[[Stage], None] = no_lap,
    planes: PlaneCounter | None = None,
) -> tuple[Tally, int]:
    """The tally of the first images of `names`, and how many that is.

    Args:
        settings: not used; `count.count` takes them, and workers call either of the two.
        cross_sums, starting, reserve, buffer, lap: as in `count.count`.
        planes: counts arrays, with memory that it took for earlier ones.
    """
    tally = Tally()
    planes = planes or PlaneCounter()
    counters: dict[Mode, ModeCounter] = {}

    def counter_of(mode: Mode) -> ModeCounter:
        if mode not in counters:
            counters[mode] = ModeCounter(mode, cross_sums=cross_sums, planes=planes)
        return counters[mode]

    done = 0
    deadline = monotonic() + JOB_SECONDS
    starting(0)
    for block in source.blocks(names):
        lap("read")
        if isinstance(block, Block):
            tally += _tally_of(block, max_pixels, counter_of, reserve, buffer)
            done += len(block.names)
        else:
            unreadable, fault = block
            tally += Tally(skipped=tuple(fault.skipped(name) for name in unreadable))
            done += len(unreadable)
        lap("count")
        if done == len(names) or monotonic() >= deadline or (buffer and buffer.full):
            break
        starting(done)
    counted = {mode: counter.counted() for mode, counter in counters.items()}
    tally += Tally({mode: one for mode, one in counted.items() if one.images})
    lap("count")
    return tally, done


def _tally_of(
    block: Block,
    max_pixels: int,
    counter_of: Callable[[Mode], ModeCounter],
    reserve: Callable[[int], None],
    buffer: PixelBuffer | None,
) -> Tally:
    """What a block adds to the tally, except images that are now in a counter or in the buffer."""
    _, height, width, _ = block.shape
    try:
        check_size((width, height), max_pixels)
        images = array_of(block)
        reserve(images.nbytes if len(images) > 1 else _WIDENED * images.size)
        read = Tally(bytes_read=images.nbytes)
        kind = kind_of(block.mode)
        if kind == "float":
            return read + count_floats(images, block.names, format_=_FORMAT)
        if kind == "8-bit" and buffer is not None and _put(buffer, images, block.mode):
            return read
        counter_of(block.mode).add_arrays(images, _FORMAT)
        return read
    except Unreadable as fault:
        return Tally(skipped=tuple(fault.skipped(name) for name in block.names))
    except MemoryError:
        detail = "not enough memory to count it"
        faults = (Skipped(name, Reason.OUT_OF_MEMORY, detail) for name in block.names)
        return Tally(skipped=tuple(faults))


def _put(buffer: PixelBuffer, images: npt.NDArray[np.uint8], mode: Mode) -> bool:
    """Put these images into the buffer, if there is room for all of them.

    Returns:
        whether there was room.
    """
    number, height, width, channels = images.shape
    packed = PackedImages(mode, height * width, channels, mode, _FORMAT, number)
    return buffer.put(packed, lambda: np.ascontiguousarray(images).reshape(-1).data)
