"""What is kept of the pixels of 8- and 16-bit images: how often each value occurs, per channel.

All other numbers of a stats file follow from it, except those that need each image's own sums. Python
integers only: they never overflow, and the process that adds histograms up needs no NumPy.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, count
from math import ceil
from operator import mul

from imgnorm.tally.moments import Moments

QUANTILES = {
    "q01": Fraction(1, 100),
    "q10": Fraction(1, 10),
    "q25": Fraction(1, 4),
    "q50": Fraction(1, 2),
    "q75": Fraction(3, 4),
    "q90": Fraction(9, 10),
    "q99": Fraction(99, 100),
}


@dataclass(frozen=True)
class Histogram:
    """How often each pixel value occurs, per channel; histograms add up in any order."""

    counts: tuple[tuple[int, ...], ...]  # (channels, 256) or (channels, 65536); without images ()

    @classmethod
    def zero(cls, channels: int, bins: int) -> Histogram:
        return cls(((0,) * bins,) * channels)

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(
            tuple(
                tuple(x + y for x, y in zip(a, b, strict=True))
                for a, b in zip(self.counts, other.counts, strict=True)
            )
        )

    @property
    def channels(self) -> int:
        return len(self.counts)

    @property
    def bins(self) -> int:
        return len(self.counts[0])

    def replicated(self, channels: int) -> Histogram:
        """The same gray pixels in `channels` equal channels."""
        return Histogram(self.counts * channels)

    def moments(self) -> Moments:
        return self._moments

    @cached_property
    def _moments(self) -> Moments:
        # Cached: reading or writing stats asks several times, and 65,536 bins take long.
        return Moments(
            count=sum(self.counts[0]) if self.counts else 0,
            total=tuple(sum(map(mul, count(), c)) for c in self.counts),
            total_sq=tuple(sum(map(mul, count(), map(mul, count(), c))) for c in self.counts),
        )

    def minimum(self) -> tuple[int, ...]:
        return tuple(next(v for v, n in enumerate(c) if n) for c in self.counts)

    def maximum(self) -> tuple[int, ...]:
        return tuple(next(v for v in reversed(range(len(c))) if c[v]) for c in self.counts)

    def quantile(self, q: Fraction) -> tuple[int, ...]:
        """The smallest raw value v such that at least the part `q` of all pixels is at most v.

        NumPy calls this method "inverted_cdf".

        Raises:
            ValueError: there are no pixels.
        """
        return tuple(_quantile(c, q) for c in self.counts)

    def rebinned(self, bins: int) -> tuple[tuple[int, ...], ...]:
        """Counts per channel in `bins` equal ranges, for drawing; `bins` divides `self.bins`."""
        width = self.bins // bins
        return tuple(
            tuple(sum(c[i : i + width]) for i in range(0, len(c), width)) for c in self.counts
        )


def _quantile(counts: tuple[int, ...], q: Fraction) -> int:
    seen = list(accumulate(counts))
    if not seen[-1]:
        raise ValueError("an empty histogram has no quantiles")
    return bisect_left(seen, max(1, ceil(q * seen[-1])))
