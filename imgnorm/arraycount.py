"""Blocks of arrays -> Tally: the work of one worker where nothing has to be decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from imgnorm.count import JOB_SECONDS, array_of, count_arrays
from imgnorm.floatcount import count_floats
from imgnorm.image import ImageSettings, kind_of
from imgnorm.reasons import Reason, Skipped, Unreadable
from imgnorm.sources import Block, BlockSource
from imgnorm.tally import Tally

_FORMAT = "NPY"
_WIDENED = 8  # a float16, or a byte of an image that is not contiguous, is looked at as 8 bytes


def count_blocks(
    source: BlockSource,
    names: Sequence[str],
    settings: ImageSettings,
    *,
    max_pixels: int,
    starting: Callable[[int], None] = lambda index: None,
    reserve: Callable[[int], None] = lambda size: None,
) -> tuple[Tally, int]:
    """The tally of the first images of `names`, and how many those are; as `count.count`."""
    tally = Tally()
    done = 0
    deadline = monotonic() + JOB_SECONDS
    starting(0)
    for block in source.blocks(names):
        if isinstance(block, Block):
            tally += _tally_of(block, max_pixels, reserve)
            done += len(block.names)
        else:
            unreadable, fault = block
            tally += Tally(skipped=tuple(fault.skipped(name) for name in unreadable))
            done += len(unreadable)
        if done == len(names) or monotonic() >= deadline:
            break
        starting(done)
    return tally, done


def _tally_of(block: Block, max_pixels: int, reserve: Callable[[int], None]) -> Tally:
    _, height, width, _ = block.shape
    try:
        if height * width > max_pixels:
            raise Unreadable(
                Reason.TOO_LARGE,
                f"{width}x{height} is {height * width:,} pixels; the limit is {max_pixels:,}"
                " (--max-pixels)",
            )
        images = array_of(block)
        reserve(images.nbytes if len(images) > 1 else _WIDENED * images.size)
        tally = (
            count_floats(images, block.names, format_=_FORMAT)
            if kind_of(block.mode) == "float"
            else count_arrays(images, block.mode, format_=_FORMAT)
        )
        return tally + Tally(bytes_read=images.nbytes)
    except Unreadable as fault:
        return Tally(skipped=tuple(fault.skipped(name) for name in block.names))
    except MemoryError:
        detail = "not enough memory to look at it"
        faults = (Skipped(name, Reason.OUT_OF_MEMORY, detail) for name in block.names)
        return Tally(skipped=tuple(faults))
