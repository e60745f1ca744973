"""Stats: a finished measurement with its provenance, or constants that somebody wrote down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imgnorm.settings import CHANNELS, SCALE, Mode, Step, channels_of, scale_of
from imgnorm.stats.measurement import Measurement
from imgnorm.tally.skipped import Skipped

if TYPE_CHECKING:
    from imgnorm.stats.estimate import Estimate

NORMALIZED = (
    "the values look normalized already (some are below 0, and every mean is near it); if they are, leave "
    "Normalize out of the transform while you measure"
)


@dataclass(frozen=True)
class Stats:
    """Per-channel mean and std for ToTensor's [0, 1]: pooled over all pixels, population.

    Of float images, which no transform scales, they are those of the values as they are.
    """

    channels: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: int = 255  # the pixel value that ToTensor makes 1.0; 1 of floats
    mode: Mode | None = None  # the images' mode; None in constants that do not tell
    preprocess: tuple[Step, ...] = ()  # between loading and ToTensor
    measurement: Measurement | None = None  # None in constants
    auto: bool = False  # `mode` is what mode "auto" found; with others it may become RGB
    strict_channels: bool = False  # images of other channels than the mode's were skipped

    @classmethod
    def of(
        cls,
        measurement: Measurement,
        mode: Mode,
        preprocess: tuple[Step, ...],
        *,
        auto: bool = False,
        strict_channels: bool = False,
    ) -> Stats:
        moments = measurement.pixels.moments()
        scale = scale_of(mode)
        return cls(
            channels_of(mode),
            moments.mean(scale=scale),
            moments.std(scale=scale),
            scale,
            mode,
            preprocess,
            measurement,
            auto,
            strict_channels,
        )

    def __add__(self, other: Stats) -> Stats:
        """One measurement of all images of both; of shards, what is still missing is noted.

        Raises:
            IncompatibleStats: they do not belong together, or count the same images.
        """
        if not isinstance(other, Stats):
            return NotImplemented
        return merge([self, other], allow_missing=True)

    @property
    def image_mode(self) -> Mode | None:
        """The images' mode, or what image files with these channels and this scale have; None if none has."""
        like = (
            mode
            for mode, channels in CHANNELS.items()
            if len(channels) == len(self.mean) and SCALE[mode] == self.scale
        )
        return self.mode or next(like, None)

    @property
    def of_floats(self) -> bool:
        """Whether mean and std are of float values as they are, not of pixels in [0, 1]."""
        return self.scale == 1

    @property
    def looks_normalized(self) -> bool:
        """Whether the float pixels that were measured have been through a Normalize."""
        if self.measurement is None or not self.of_floats:
            return False
        lowest = min(self.measurement.pixels.minimum())
        highest = max(self.measurement.pixels.maximum())
        # No Normalize gives more: it divides [0, 1] by 1/255 at least, or is of 0..255 less a mean.
        below = -255 <= lowest < 0 and highest <= 255
        return below and all(abs(mean) < std for mean, std in zip(self.mean, self.std, strict=True))

    @property
    def images(self) -> int:
        """How many images were counted; 0 in constants."""
        return self.measurement.images if self.measurement else 0

    @property
    def estimate(self) -> Estimate | None:
        """How far mean and std may be from the exact ones; None where they are exact, or constants."""
        return self.measurement.estimate if self.measurement else None

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What was found and could not be counted, with its reason."""
        return self.measurement.skipped if self.measurement else ()


def merge(
    parts: Iterable[Stats],
    *,
    labels: Iterable[str] | None = None,
    allow_missing: bool = False,
    allow_overlap: bool = False,
    allow_decoders: bool = False,
    drop_names: bool = False,
) -> Stats:
    """One measurement of all that the parts counted, exactly; their order changes nothing.

    All shards of a listing give the stats of measuring it at once.

    Args:
        labels: what messages call each part, in their order; by default, its source.
        allow_missing: shards may be missing; the result tells which it has.
        allow_overlap: images may be counted more than once.
        allow_decoders: other decoders may have decoded them, whose pixels differ; the result names all.
        drop_names: names that were kept are looked at for overlaps, and not kept in the result; without
            it they are if all parts have them.

    Raises:
        IncompatibleStats: the parts do not belong together; with everything that is against it.
        TypeError: a part is no Stats.
        ValueError: there are no parts.
    """
    from imgnorm.stats.merging import Merger  # nothing that a scan needs

    merger = Merger()
    for label, part in _labelled(parts, labels):
        if not isinstance(part, Stats):
            raise TypeError(f"expected Stats, not {part!r}; read files with imgnorm.read_stats")
        merger.add(
            label,
            part.measurement,
            part.mode,
            part.preprocess,
            auto=part.auto,
            strict_channels=part.strict_channels,
        )
    whole = merger.result(
        allow_missing=allow_missing, allow_overlap=allow_overlap, allow_decoders=allow_decoders
    )
    measured = whole.measurement
    if drop_names:
        measured = replace(measured, source=measured.source.without_names)
    return Stats.of(
        measured,
        whole.mode,
        whole.preprocess,
        auto=whole.auto,
        strict_channels=whole.strict_channels,
    )


def _labelled(
    parts: Iterable[Stats], labels: Iterable[str] | None
) -> Iterator[tuple[str | None, Stats]]:
    if labels is None:
        return ((None, part) for part in parts)
    return zip(labels, parts, strict=True)
