"""What was counted, exactly, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from imgnorm.floats import FloatPixels
from imgnorm.histogram import QUANTILES, Histogram
from imgnorm.moments import Convention, ImageSums, Moments
from imgnorm.provenance import Provenance
from imgnorm.reasons import Skipped

if TYPE_CHECKING:
    from imgnorm.estimate import Estimate


@dataclass(frozen=True)
class ClassStats:
    """One class of the dataset."""

    images: int
    moments: Moments | None = None  # with `per_class`

    def __add__(self, other: ClassStats) -> ClassStats:
        both = self.moments and other.moments and self.moments + other.moments
        return ClassStats(self.images + other.images, both)

    def replicated(self, channels: int) -> ClassStats:
        """The same grayscale images as `convert("RGB")` shows them."""
        if self.moments is None:
            return self
        gray = self.moments
        wide = replace(gray, total=gray.total * channels, total_sq=gray.total_sq * channels)
        return ClassStats(self.images, wide)


@dataclass(frozen=True)
class Measurement:
    """What was counted, exactly."""

    images: int
    pixels: Histogram | FloatPixels
    sums: ImageSums
    modes: Mapping[str, int]  # as the files have them -> images
    formats: Mapping[str, int]
    decoders: Mapping[str, str]  # format -> library and version
    source: Provenance
    classes: Mapping[str, ClassStats] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)  # rule -> entries
    estimate: Estimate | None = None  # where these are only a sample of the images, its error bars

    @property
    def found(self) -> int:
        return self.images + len(self.skipped) + sum(self.ignored.values())

    @property
    def histogram(self) -> Histogram | None:
        """None of float images, which have none."""
        return self.pixels if isinstance(self.pixels, Histogram) else None

    def conventions(self) -> dict[str, Convention]:
        return self.sums.conventions()

    def quantiles(self) -> dict[str, tuple[int, ...]]:
        """By name (q01 … q99), raw pixel values; none of float images."""
        if self.histogram is None:
            return {}
        return {name: self.histogram.quantile(q) for name, q in QUANTILES.items()}


def skipped_order(skipped: Skipped) -> tuple[str, str]:
    """How a stats file sorts them, whatever was measured together and whatever merged."""
    return skipped.name, skipped.reason.value
