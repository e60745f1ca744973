"""Stats, the result of a measurement or constants from a file, and `merge`, which adds stats up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from imgnorm.settings import CHANNELS, Mode, Step, channels_of, scale_of
from imgnorm.stats.measurement import Measurement
from imgnorm.tally.skipped import Skipped

if TYPE_CHECKING:
    from imgnorm.stats.estimate import Estimate
    from imgnorm.stats.notes import Note

NORMALIZED = (
    "the values look normalized already (some are below 0, and every mean is near it); if they are, leave "
    "Normalize out of the transform while you measure"
)
"""The note about stats that `looks_normalized`."""

NO_IMAGES = "a part without images has no mean and std; merge it with the other parts of its source"
"""Why stats without images are refused."""


@dataclass(frozen=True)
class Stats:
    """Mean and std per channel, and the measurement that they follow from.

    They are pooled over all pixels of all images; std is the population's (`correction=0`). Integer
    pixels are divided by `scale` first, as ToTensor does, so that they are in [0, 1]. Float pixels,
    which no transform scales, are taken as they are.

    In a shard whose images were all skipped, or that got none, `images` is 0, and `channels`, `mean` and
    `std` are empty. It merges with the other shards of its source.

    `imgnorm.measure`, `imgnorm.merge` and `imgnorm.read_stats` return them. `a + b` is `merge([a, b],
    allow_missing=True)`.

    Example:
        >>> stats = imgnorm.measure("examples/shapes")
        >>> stats.images, stats.channels
        (24, ('R', 'G', 'B'))
        >>> [round(mean, 2) for mean in stats.mean]
        [0.57, 0.56, 0.58]
    """

    channels: tuple[str, ...]  # names: R, G, B
    mean: tuple[float, ...]  # per channel
    std: tuple[float, ...]  # per channel
    scale: int = 255  # the pixel value that ToTensor maps to 1.0; 65535 for 16 bits, 1 for floats
    mode: Mode | None = None
    """The images' mode; None in constants that do not name it, and without images if `auto`."""
    preprocess: tuple[Step, ...] = ()  # between loading and ToTensor
    measurement: Measurement | None = None  # None in constants
    auto: bool = False  # mode "auto" found `mode`; merged with other images it may become RGB
    strict_channels: bool = False  # images with other channels than the mode's were skipped
    frames: int = 0  # of each file: every n-th was counted; 0: the first

    @classmethod
    def of(
        cls,
        measurement: Measurement,
        mode: Mode | None,
        preprocess: tuple[Step, ...],
        *,
        auto: bool = False,
        strict_channels: bool = False,
        frames: int = 0,
    ) -> Stats:
        """The stats that follow from a measurement.

        Args:
            mode: None only without images, if mode "auto" would have found it.
        """
        if not measurement.images:
            settings = (mode, preprocess, measurement, auto, strict_channels, frames)
            return cls((), (), (), 255, *settings)
        assert mode
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
            frames,
        )

    def __add__(self, other: Stats) -> Stats:
        """One measurement of the images of both. If they are shards, the result notes which are missing.

        Raises:
            IncompatibleStats: they do not belong together, or count the same images.
        """
        if not isinstance(other, Stats):
            return NotImplemented
        return merge([self, other], allow_missing=True)

    @property
    def image_mode(self) -> Mode | None:
        """The images' mode, or the mode of image files with these channels and this scale, if any."""
        like = (
            mode
            for mode, channels in CHANNELS.items()
            if len(channels) == len(self.mean) and scale_of(mode) == self.scale
        )
        return self.mode or next(like, None)

    @property
    def of_floats(self) -> bool:
        """Whether mean and std are those of unscaled float values, not of pixels in [0, 1]."""
        return self.scale == 1

    @property
    def looks_normalized(self) -> bool:
        """Whether the measured float pixels seem to have been through a Normalize."""
        if self.measurement is None or not self.of_floats:
            return False
        lowest = min(self.measurement.pixels.minimum())
        highest = max(self.measurement.pixels.maximum())
        # Normalize stays within ±255: it divides [0, 1] by 1/255 or more, or subtracts from 0..255.
        below = -255 <= lowest < 0 and highest <= 255
        return below and all(abs(mean) < std for mean, std in zip(self.mean, self.std, strict=True))

    @property
    def images(self) -> int:
        """How many images were counted; 0 in constants, and in shards without any."""
        return self.measurement.images if self.measurement else 0

    @property
    def estimate(self) -> Estimate | None:
        """How far mean and std may be from the exact ones; None if they are exact, or constants."""
        return self.measurement.estimate if self.measurement else None

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The images that were found and could not be counted, with their reasons."""
        return self.measurement.skipped if self.measurement else ()

    @property
    def notes(self) -> tuple[Note, ...]:
        """What is lost of the images that are counted, left out or odd, and what to do."""
        from imgnorm.stats.notes import notes_of  # here: most ask for the numbers only

        return notes_of(self.measurement, self.mode) if self.measurement else ()


def merge(
    parts: Iterable[Stats],
    *,
    labels: Iterable[str] | None = None,
    allow_missing: bool = False,
    allow_overlap: bool = False,
    allow_decoders: bool = False,
    drop_names: bool = False,
) -> Stats:
    """One measurement of all images that the parts counted: exact, whatever the order of the parts.

    Merging all shards of a listing gives the same stats as measuring the listing at once.

    Args:
        labels: how messages call each part, in order; the default is its source.
        allow_missing: allow missing shards; the result notes which shards it has.
        allow_overlap: allow images to be counted more than once.
        allow_decoders: allow parts from different decoders, whose pixels may differ; the result names
            all of them.
        drop_names: leave the names of the images out of the result, after looking for overlaps with
            them. The default keeps names if all parts have them.

    Raises:
        IncompatibleStats: the parts do not belong together; the message lists every reason.
        TypeError: a part is not a Stats.
        ValueError: `parts` is empty.

    Example:
        >>> first = imgnorm.measure("examples/shapes", shard=(1, 2))
        >>> second = imgnorm.measure("examples/shapes", shard=(2, 2))
        >>> imgnorm.merge([first, second]) == imgnorm.measure("examples/shapes")
        True
    """
    from imgnorm.stats.merging import Merger  # here, because measuring does not need it

    merger = Merger()
    labelled = (
        ((None, part) for part in parts) if labels is None else zip(labels, parts, strict=True)
    )
    for label, part in labelled:
        if not isinstance(part, Stats):
            raise TypeError(f"expected Stats, not {part!r}; read files with imgnorm.read_stats")
        merger.add(label, part)
    measured, settings = merger.result(
        allow_missing=allow_missing, allow_overlap=allow_overlap, allow_decoders=allow_decoders
    )
    if drop_names:
        measured = replace(measured, source=measured.source.without_names)
    return Stats.of(measured, **settings)
