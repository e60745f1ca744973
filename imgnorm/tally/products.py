"""Products: what tells how much images differ from one another, as integers that add up."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields


@dataclass(frozen=True)
class Products:
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
    def zero(cls, channels: int) -> Products:
        return cls(*[(0,) * channels] * len(fields(cls)))

    def __add__(self, other: Products) -> Products:
        return Products(
            *(
                tuple(x + y for x, y in zip(a, b, strict=True))
                for a, b in zip(astuple(self), astuple(other), strict=True)
            )
        )

    def replicated(self, channels: int) -> Products:
        """The products of the same grayscale images, each shown in `channels` equal channels."""
        return Products(*(sums * channels for sums in astuple(self)))
