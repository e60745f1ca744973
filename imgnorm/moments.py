"""Power sums, and the numbers that are read off them.

Two kinds of sum, both made of Python integers, so that they add in any order without a rounding:

- `Moments`: count, Σx, Σx² over all pixels. From them the *pooled* mean and std, population by default.
- `ImageSums`: per image a mean, a mean of squares and a std, each one float64, added up as integers
  in units of 2**-160. From them the conventions that give every image the same weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

UNIT_BITS = 160
"""Per-image floats are added in units of 2**-UNIT_BITS. The smallest that can occur is the mean
square of an image with a single dim pixel, 1 / (65535**2 * pixels): its last bit is a multiple of
2**-160 for every image of fewer than 2**76 pixels."""


def square_root(value: Fraction) -> float:
    """The float64 nearest to the root of a rational number, within 1 ulp."""
    numerator, denominator = value.numerator, value.denominator
    # Shift so that the integer root has at least 64 bits, more than a float64 can tell apart.
    shift = max(0, 66 + (denominator.bit_length() - numerator.bit_length()) // 2)
    return isqrt((numerator << 2 * shift) // denominator) / (1 << shift)


@dataclass(frozen=True)
class Moments:
    """Exact power sums of raw pixel values, per channel."""

    count: int  # pixels per channel
    total: tuple[int, ...]  # Σx
    total_sq: tuple[int, ...]  # Σx²

    @classmethod
    def zero(cls, channels: int) -> Moments:
        return cls(0, (0,) * channels, (0,) * channels)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count,
            _added(self.total, other.total),
            _added(self.total_sq, other.total_sq),
        )

    def mean(self, *, scale: int = 1) -> tuple[float, ...]:
        """The float64 nearest to Σx / (count · scale); `scale` is the raw value that means 1.0."""
        return tuple(total / (self.count * scale) for total in self.total)

    def variance(self, *, scale: int = 1, correction: int = 0) -> tuple[float, ...]:
        return tuple(float(v / scale**2) for v in self._variances(correction))

    def std(self, *, scale: int = 1, correction: int = 0) -> tuple[float, ...]:
        """The std within 1 ulp of the true value.

        Raises:
            ValueError: there are not more pixels than `correction`.
        """
        return tuple(square_root(v / scale**2) for v in self._variances(correction))

    def _variances(self, correction: int) -> list[Fraction]:
        if self.count <= correction:
            raise ValueError(
                f"a variance needs more than {correction} pixels; there are {self.count}"
            )
        divisor = self.count * (self.count - correction)
        return [
            Fraction(self.count * total_sq - total * total, divisor)
            for total, total_sq in zip(self.total, self.total_sq, strict=True)
        ]


@dataclass(frozen=True)
class Convention:
    """One way to average mean and std over a dataset, per channel, in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ImageSums:
    """Sums over images of per-image numbers in [0, 1], as integers in units of 2**-UNIT_BITS."""

    images: int
    mean: tuple[int, ...]  # of each image's mean
    mean_sq: tuple[int, ...]  # of each image's mean of x²
    std: tuple[int, ...]  # of each image's std, correction 0
    std_1: tuple[int, ...]  # of each image's std, correction 1; images of one pixel add nothing
    one_pixel: int  # images of one pixel: they have no std with correction 1

    @classmethod
    def zero(cls, channels: int) -> ImageSums:
        nothing = (0,) * channels
        return cls(0, nothing, nothing, nothing, nothing, 0)

    def __add__(self, other: ImageSums) -> ImageSums:
        return ImageSums(
            self.images + other.images,
            _added(self.mean, other.mean),
            _added(self.mean_sq, other.mean_sq),
            _added(self.std, other.std),
            _added(self.std_1, other.std_1),
            self.one_pixel + other.one_pixel,
        )

    def replicated(self, channels: int) -> ImageSums:
        """The sums of the same grayscale images, each shown in `channels` equal channels."""
        return ImageSums(
            self.images,
            self.mean * channels,
            self.mean_sq * channels,
            self.std * channels,
            self.std_1 * channels,
            self.one_pixel,
        )

    def conventions(self) -> dict[str, Convention]:
        """The conventions other than pooled, by name.

        image_weighted: pooled, but every image has the same weight whatever its size.
        mean_of_image_std: the average of per-image stds, correction 0: smaller than any std of the
            data, since the differences between images are missing.
        mean_of_image_std_correction_1: the same from torch.std's default; left out if an image has
            one pixel.
        """
        mean = self._averages(self.mean)
        means = tuple(map(float, mean))
        second = self._averages(self.mean_sq)
        spread = [max(Fraction(0), b - a * a) for a, b in zip(mean, second, strict=True)]
        found = {
            "image_weighted": Convention(means, tuple(map(square_root, spread))),
            "mean_of_image_std": Convention(means, tuple(map(float, self._averages(self.std)))),
        }
        if not self.one_pixel:
            stds = tuple(map(float, self._averages(self.std_1)))
            found["mean_of_image_std_correction_1"] = Convention(means, stds)
        return found

    def _averages(self, sums: tuple[int, ...]) -> list[Fraction]:
        return [Fraction(value, self.images << UNIT_BITS) for value in sums]


def _added(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))
