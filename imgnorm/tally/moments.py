"""Power sums, and the numbers that are read off them.

Two kinds of sum, both made of Python integers, so that they add in any order without a rounding:

- `Moments`: count, Σx, Σx² over all pixels. From them the *pooled* mean and std, population by default.
- `ImageSums`: per image a mean, a mean of squares and a std, added up as integers in units of
  2**-160. From them the conventions that give every image the same weight. Of 8- and 16-bit images
  these are one float64 each; of float images they are rounded down to the unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from fractions import Fraction
from math import isqrt

UNIT_BITS = 160
"""Per-image numbers are added in units of 2**-UNIT_BITS. Of 8- and 16-bit images, the smallest that
can occur is the mean square of an image with a single dim pixel, 1 / (65535**2 * pixels): its last bit
is a multiple of 2**-160 for every image of fewer than 2**76 pixels. Of float images, whose numbers have
no smallest, 2**-160 is below the last bit of every float64 from 1e-32 on."""


def square_root(value: Fraction) -> float:
    """The float64 nearest to the root of a rational number, within 1 ulp."""
    numerator, denominator = value.numerator, value.denominator
    # Shift so that the integer root has at least 64 bits, more than a float64 can tell apart.
    shift = max(0, 66 + (denominator.bit_length() - numerator.bit_length()) // 2)
    return isqrt((numerator << 2 * shift) // denominator) / (1 << shift)


@dataclass(frozen=True)
class Moments:
    """Exact power sums of raw pixel values, per channel.

    A float is a whole number of some power of two, so that the sums of floats are integers, too, in
    the largest unit of which all of them are multiples. It is at most 1: integers have no other.
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
        """The same sums in their own unit, which depends on nothing else."""
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
        """The sums of the same gray pixels, shown in `channels` equal channels."""
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


def _low_zeros(value: int) -> int:
    """How many zeros stand at the end of a number's binary digits."""
    return (value & -value).bit_length() - 1


def _added(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


@dataclass(frozen=True)
class CrossSums:
    """Sums over images of products of two of an image's own count, total and total_sq.

    Per channel, raw pixel values. From them and the sums themselves follows, exactly, the sum over
    images of the square of any a · count + b · total + c · total_sq.
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
        return CrossSums(
            *(
                tuple(x + y for x, y in zip(a, b, strict=True))
                for a, b in zip(astuple(self), astuple(other), strict=True)
            )
        )

    def replicated(self, channels: int) -> CrossSums:
        """The products of the same grayscale images, each shown in `channels` equal channels."""
        return CrossSums(*(sums * channels for sums in astuple(self)))
