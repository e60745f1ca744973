"""Sums over pixels and over images, and the means and stds that follow from them.

All are sums of Python integers, so that they add up in any order without rounding:

- `Moments`: count, Σx and Σx² of all pixels. They give the *pooled* mean and std, by default those of
  the population.
- `ImageSums`: each image's mean, mean of squares and std, in units of 2**-160. They give the conventions
  in which every image has the same weight. For 8- and 16-bit images each number is one float64; for
  float images it is rounded down to a whole unit.
- `CrossSums`: products of each image's own count, Σx and Σx². They give the error bars of an estimate, and
  those of a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from math import isqrt

UNIT_BITS = 160
"""Per-image numbers are added in units of 2**-UNIT_BITS. In 8- and 16-bit images the smallest one is the
mean square of an image with a single dim pixel, 1 / (65535**2 * pixels): its last bit is a multiple of
2**-160 for every image of fewer than 2**76 pixels. The numbers of float images have no lower limit; the
last bit of every float64 from 1e-32 on is larger than 2**-160."""


@dataclass(frozen=True)
class Moments:
    """Exact power sums of raw pixel values, per channel.

    A float is a whole number of some power of two, so the sums of floats are integers too, in the
    largest unit that divides all of them. The unit is at most 1, which is that of integers.
    """

    count: int  # pixels per channel
    total: tuple[int, ...]  # Σx, in units of 2**-unit_bits
    total_sq: tuple[int, ...]  # Σx², in units of 2**(-2 · unit_bits)
    unit_bits: int = 0

    @classmethod
    def zero(cls, channels: int) -> Moments:
        return cls(0, (0,) * channels, (0,) * channels)

    @classmethod
    def in_units(
        cls, count: int, total: Sequence[int], total_sq: Sequence[int], unit_bits: int
    ) -> Moments:
        """The sums in the largest unit that divides them, so that equal sums are equal objects."""
        if not unit_bits:
            return cls(count, tuple(total), tuple(total_sq))
        spare = min(
            [unit_bits, *map(_low_zeros, filter(None, total))]
            + [_low_zeros(value) // 2 for value in total_sq if value]
        )
        if not any(total_sq):
            spare = unit_bits
        return cls(
            count,
            tuple(value >> spare for value in total),
            tuple(value >> 2 * spare for value in total_sq),
            unit_bits - spare,
        )

    def __add__(self, other: Moments) -> Moments:
        unit_bits = max(self.unit_bits, other.unit_bits)
        a, b = self._shifted(unit_bits), other._shifted(unit_bits)
        return Moments.in_units(
            self.count + other.count, _added(a[0], b[0]), _added(a[1], b[1]), unit_bits
        )

    def _shifted(self, unit_bits: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        shift = unit_bits - self.unit_bits
        if not shift:
            return self.total, self.total_sq
        return (
            tuple(value << shift for value in self.total),
            tuple(value << 2 * shift for value in self.total_sq),
        )

    def replicated(self, channels: int) -> Moments:
        """The sums of the same gray pixels in `channels` equal channels."""
        return Moments(self.count, self.total * channels, self.total_sq * channels, self.unit_bits)

    def mean(self, *, scale: int = 1) -> tuple[float, ...]:
        """The float64 nearest to Σx / (count · scale); `scale` is the raw value that means 1.0."""
        divisor = self.count * scale << self.unit_bits
        return tuple(total / divisor for total in self.total)

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
        divisor = self.count * (self.count - correction) << 2 * self.unit_bits
        return [
            Fraction(self.count * total_sq - total * total, divisor)
            for total, total_sq in zip(self.total, self.total_sq, strict=True)
        ]


@dataclass(frozen=True)
class ImageSums:
    """Sums over images of per-image numbers in [0, 1], as integers in units of 2**-UNIT_BITS."""

    images: int
    mean: tuple[int, ...]  # the sum of each image's mean
    mean_sq: tuple[int, ...]  # the sum of each image's mean of x²
    std: tuple[int, ...]  # the sum of each image's std, correction 0
    std_1: tuple[int, ...]  # the sum of each image's std, correction 1, without images of one pixel
    one_pixel: int  # images of one pixel, which have no std with correction 1

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
        """The sums of the same gray images in `channels` equal channels."""
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

        image_weighted: as pooled, but every image has the same weight, whatever its size.
        mean_of_image_std: the average of the images' stds, correction 0. It is smaller than a std of the
            whole, because the differences between images are missing.
        mean_of_image_std_correction_1: the same with torch.std's default; left out if an image has one
            pixel.
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


@dataclass(frozen=True)
class Convention:
    """A mean and a std of a dataset, averaged over its images in one way; per channel, in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class CrossSums:
    """Sums over images of the products of an image's own count, total and total_sq.

    Per channel, of raw pixel values. Together with the sums themselves they give, exactly, the sum over
    images of (a · count + b · total + c · total_sq)² for any a, b and c.
    """

    count_count: tuple[int, ...]
    count_total: tuple[int, ...]
    count_total_sq: tuple[int, ...]
    total_total: tuple[int, ...]
    total_total_sq: tuple[int, ...]
    total_sq_total_sq: tuple[int, ...]

    @classmethod
    def zero(cls, channels: int) -> CrossSums:
        return cls(*[(0,) * channels] * len(fields(cls)))

    def __add__(self, other: CrossSums) -> CrossSums:
        return CrossSums(*map(_added, vars(self).values(), vars(other).values()))

    def replicated(self, channels: int) -> CrossSums:
        """The cross sums of the same gray images in `channels` equal channels."""
        return CrossSums(*(sums * channels for sums in vars(self).values()))


def square_root(value: Fraction) -> float:
    """The square root of a rational number as a float64, within 1 ulp."""
    numerator, denominator = value.numerator, value.denominator
    # The integer root has at least 64 bits: more than the 53 of a float64.
    shift = max(0, 66 + (denominator.bit_length() - numerator.bit_length()) // 2)
    return isqrt((numerator << 2 * shift) // denominator) / (1 << shift)


def _low_zeros(value: int) -> int:
    """How many zeros a number's binary digits end with."""
    return (value & -value).bit_length() - 1


def _added(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))
