"""Measurement: everything that was counted, as integers, and the source that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from imgnorm.stats.provenance import Provenance
from imgnorm.tally.floats import FloatPixels
from imgnorm.tally.histogram import QUANTILES, Histogram
from imgnorm.tally.moments import Convention, CrossSums, ImageSums, Moments
from imgnorm.tally.notes import Noted
from imgnorm.tally.overview import Overview
from imgnorm.tally.skipped import Skipped

if TYPE_CHECKING:
    from imgnorm.stats.estimate import Estimate


@dataclass(frozen=True)
class ClassStats:
    """One class of the dataset."""

    images: int
    moments: Moments | None = None  # only with `per_class`

    def __add__(self, other: ClassStats) -> ClassStats:
        both = self.moments and other.moments and self.moments + other.moments
        return ClassStats(self.images + other.images, both)

    def replicated(self, channels: int) -> ClassStats:
        """The same gray images in `channels` equal channels."""
        return ClassStats(self.images, self.moments and self.moments.replicated(channels))


@dataclass(frozen=True)
class Measurement:
    """What was counted. All numbers are integers, so measurements add up exactly."""

    images: int
    pixels: Histogram | FloatPixels
    sums: ImageSums
    modes: Mapping[str, int]  # mode of the file -> images
    formats: Mapping[str, int]  # JPEG, PNG, ... -> images
    decoders: Mapping[str, str]  # format -> library and version
    source: Provenance
    classes: Mapping[str, ClassStats] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)  # rule -> entries
    notes: Mapping[str, Noted] = field(default_factory=dict)
    """Kind -> what was lost of the images, and what the folders of whole sources tell: tally/notes.py."""
    cross_sums: CrossSums | None = None  # of integer pixels; older files have none
    estimate: Estimate | None = None  # the error bars, if only a sample of the images was counted
    overview: Overview | None = None
    """What the images are like: None in files of imgnorm 0.1, and if only a sample was counted."""
    ignore_outliers: tuple[str, ...] = ()  # reasons that `stats.outliers` leaves out, or "all"

    @classmethod
    def without_images(cls, source: Provenance, **found: Any) -> Measurement:
        """That of shards in which no image was counted. Their modes, so their channels, are unknown.

        Args:
            found: the fields that such shards have, too: skipped, ignored.
        """
        nothing = Histogram.zero(0, 0)
        source = replace(source, images=0, names=None)
        return cls(0, nothing, ImageSums.zero(0), {}, {}, {}, source, **found)

    @property
    def found(self) -> int:
        return self.images + len(self.skipped) + sum(self.ignored.values())

    @property
    def histogram(self) -> Histogram | None:
        """None for float images."""
        return self.pixels if isinstance(self.pixels, Histogram) else None

    def conventions(self) -> dict[str, Convention]:
        """Those of `ImageSums.conventions`; a channel in which all pixels are equal has std 0."""
        found = self.sums.conventions()
        mean, std = vars(found["image_weighted"]).values()
        ends = zip(self.pixels.minimum(), self.pixels.maximum(), strict=True)
        spread = (0.0 if low == high else one for one, (low, high) in zip(std, ends, strict=True))
        return found | {"image_weighted": Convention(mean, tuple(spread))}

    def rounded_std(self) -> tuple[float, ...]:
        """The std of image_weighted from rounded means and squares alone, as imgnorm 0.1 gave it.

        Where all pixels are equal, it may be about 1e-10.
        """
        return self.sums.conventions()["image_weighted"].std

    def quantiles(self) -> dict[str, tuple[int, ...]]:
        """Raw pixel values per channel, by name (q01 … q99); empty for float images."""
        if self.histogram is None:
            return {}
        return {name: self.histogram.quantile(q) for name, q in QUANTILES.items()}
