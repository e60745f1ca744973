"""Images that were counted together -> the numbers of each by itself, and what adds up of them.

`EachImage` is made for every image of every run, wherever it is counted: files and arrays here, what a
device counts in imgnorm.cuda. tally/rows.py says how rows of it get to the process that measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from imgnorm.pixels.planes import Integers
from imgnorm.settings import Mode
from imgnorm.tally.rows import FileFields, packed

_TOGETHER = 1 << 11  # rows


@dataclass(frozen=True)
class EachImage:
    """Images of one mode that were counted together, side by side."""

    mode: Mode  # of 8 or 16 bits
    names: Sequence[str]
    files: Sequence[FileFields]  # one for each name
    pixels: Integers  # (images, 1); per channel
    total: Integers  # Σx, (images, channels); of Python's integers if these need more than 63 bits
    total_sq: Integers  # Σx², the same
    ends: Integers | None = None  # see `planes.ends_of`; only with `Digits.per_image`

    def packed(self) -> Iterator[bytes]:
        """As rows, some at a time: whoever sorts them unpacks as many at once."""
        assert self.ends is not None
        columns = (self.pixels, self.total, self.total_sq, *self.ends)
        for start in range(0, len(self.names), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            numbers = [_column(one[part]) for one in columns]
            yield packed(self.mode, self.names[part], self.files[part], numbers)


def _column(values: Integers) -> bytes | list[int]:
    if values.dtype == object:
        whole: list[int] = values.reshape(-1).tolist()
        return whole
    return np.ascontiguousarray(values, np.int64).tobytes()
