"""What is kept of the pixels of float images: exact power sums, and the range. Python numbers only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from imgnorm.tally.moments import Moments


@dataclass(frozen=True)
class FloatPixels:
    """The exact power sums and the range of float pixel values, per channel; they add up in any order."""

    sums: Moments
    least: tuple[float, ...]  # inf without pixels
    greatest: tuple[float, ...]  # -inf without pixels

    @classmethod
    def zero(cls, channels: int) -> FloatPixels:
        return cls(Moments.zero(channels), (math.inf,) * channels, (-math.inf,) * channels)

    def __add__(self, other: FloatPixels) -> FloatPixels:
        return FloatPixels(
            self.sums + other.sums,
            tuple(map(min, self.least, other.least)),
            tuple(map(max, self.greatest, other.greatest)),
        )

    @property
    def channels(self) -> int:
        return len(self.least)

    def replicated(self, channels: int) -> FloatPixels:
        """The same gray pixels in `channels` equal channels."""
        sums = self.sums.replicated(channels)
        return FloatPixels(sums, self.least * channels, self.greatest * channels)

    def moments(self) -> Moments:
        return self.sums

    def minimum(self) -> tuple[float, ...]:
        return self.least

    def maximum(self) -> tuple[float, ...]:
        return self.greatest
