"""Stats, the result of a measurement or constants from a file, and `merge`, which adds stats up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from imgnorm.settings import CHANNELS, Mode, Step, channels_of, scale_of
from imgnorm.stats.measurement import Measurement
from imgnorm.tally.moments import Convention
from imgnorm.tally.skipped import Skipped

if TYPE_CHECKING:
    from imgnorm.stats.estimate import Estimate
    from imgnorm.stats.notes import Note
    from imgnorm.stats.outliers import Outlier
    from imgnorm.stats.plot import Chart
    from imgnorm.tally.overview import ImageMeans, Overview, Sizes

NO_IMAGES = "a part without images has no mean and std; merge it with the other parts of its source"
"""Why stats without images are refused."""


class OfClass(NamedTuple):
    """One class of a dataset."""

    images: int  # counted
    mean: tuple[float, ...] | None  # per channel, like that of Stats; None without `per_class`
    std: tuple[float, ...] | None


@dataclass(frozen=True, repr=False)
class Stats:
    """Mean and std per channel, and the measurement that they follow from.

    They are pooled over all pixels of all images; std is the population's (`correction=0`). Integer
    pixels are divided by `scale` first, as ToTensor does, so that they are in [0, 1]. Float pixels,
    which no transform scales, are taken as they are.

    In a shard whose images were all skipped, or that got none, `images` is 0, and `channels`, `mean` and
    `std` are empty. It merges with the other shards of its source.

    `imgnorm.measure`, `imgnorm.merge` and `imgnorm.read_stats` return them. `a + b` is `merge([a, b],
    allow_missing=True)`.

    `repr` is two lines; `str`, and what a notebook shows, is the table that `imgnorm stats` prints.

    Example:
        >>> stats = imgnorm.measure("examples/shapes")
        >>> stats
        <Stats of folder 'examples/shapes': 24 images, 87,598 pixels, mode RGB
         mean 0.5704 0.5602 0.5762  std 0.3013 0.2334 0.1967>
        >>> print(stats)  # doctest: +ELLIPSIS
             mean     std  min  max  histogram
        R  0.5704  0.3013    0  255  ▄▁...
        >>> stats.images, stats.pixels, stats.channels, stats.max
        (24, 87598, ('R', 'G', 'B'), (255, 255, 255))
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
        bounds = measurement.estimate and measurement.estimate.bounds
        return cls(
            channels_of(mode),
            bounds.middles("mean") if bounds else moments.mean(scale=scale),
            bounds.middles("std") if bounds else moments.std(scale=scale),
            scale,
            mode,
            preprocess,
            measurement,
            auto,
            strict_channels,
            frames,
        )

    def __hash__(self) -> int:
        """Of the numbers and settings: equal stats have equal ones. A measurement has no hash of its own."""
        return hash((self.channels, self.mean, self.std, self.scale, self.mode, self.preprocess))

    def __repr__(self) -> str:
        from imgnorm.stats.table import (
            in_two_lines,  # here, as below: most ask for the numbers only
        )

        return in_two_lines(self)

    def __str__(self) -> str:
        from imgnorm.stats.table import table

        return table(self)

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"

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
    def pixels(self) -> int:
        """How many pixels each channel has, over all images; 0 in constants."""
        return self.measurement.pixels.moments().count if self.measurement else 0

    @property
    def min(self) -> tuple[int, ...] | tuple[float, ...]:
        """The least raw pixel value of each channel, 0 to `scale`; of floats, the least value. () in constants."""
        return self.measurement.pixels.minimum() if self.measurement else ()

    @property
    def max(self) -> tuple[int, ...] | tuple[float, ...]:
        """The greatest raw pixel value of each channel."""
        return self.measurement.pixels.maximum() if self.measurement else ()

    @property
    def histogram(self) -> tuple[tuple[int, ...], ...] | None:
        """How often each raw pixel value occurs: 256 or 65,536 counts per channel.

        None in constants, and of floats, which have no histogram.

        Example:
            >>> red, green, blue = imgnorm.measure("examples/shapes").histogram
            >>> len(red), sum(red)
            (256, 87598)
        """
        counted = self.measurement and self.measurement.histogram
        return counted.counts if counted else None

    @property
    def classes(self) -> dict[str, OfClass]:
        """The class folders: how many images, and with `per_class` their mean and std.

        Example:
            >>> stats = imgnorm.measure("examples/shapes", per_class=True)
            >>> for name, of_class in stats.classes.items():
            ...     print(name, of_class.images, f"{of_class.mean[0]:.4f}")
            circle 8 0.5441
            square 8 0.5150
            triangle 8 0.6599
        """
        counted = self.measurement.classes if self.measurement else {}
        found = {}
        for name, one in counted.items():
            sums, scale = one.moments, self.scale
            numbers = (sums.mean(scale=scale), sums.std(scale=scale)) if sums else (None, None)
            found[name] = OfClass(one.images, *numbers)
        return found

    @property
    def conventions(self) -> dict[str, Convention]:
        """The mean and std by each convention, of which "pooled" is `mean` and `std` themselves.

        The others are for recognizing numbers: "image_weighted", "mean_of_image_std" and
        "mean_of_image_std_correction_1". Constants have "pooled" alone.

        Example:
            >>> stats = imgnorm.measure("examples/shapes")
            >>> for name, convention in stats.conventions.items():
            ...     print(f"{name:30}", *(f"{std:.4f}" for std in convention.std))
            pooled                         0.3013 0.2334 0.1967
            image_weighted                 0.2909 0.2218 0.2055
            mean_of_image_std              0.1926 0.1361 0.1397
            mean_of_image_std_correction_1 0.1927 0.1362 0.1398
        """
        others = self.measurement.conventions() if self.images and self.measurement else {}
        return {"pooled": Convention(self.mean, self.std), **others}

    def to_dict(self) -> dict[str, Any]:
        """The content of the stats file as plain values, which JSON and YAML can hold; its keys are in
        docs/stats-file.md.

        Example:
            >>> content = imgnorm.measure("examples/shapes").to_dict()
            >>> content["format"], content["images"], content["source"]["ref"]
            ('imgnorm-stats/1', 24, 'examples/shapes')
        """
        from imgnorm.stats.format import document_of

        return document_of(self)

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

    @property
    def outliers(self) -> tuple[Outlier, ...]:
        """What stands out among the images, and why; nothing in estimates and in files of imgnorm 0.1.

        Each has a `reason` ("constant", "small", ...), how many `images` it has, the names of at most three
        of them (`examples`) with `details`, and a `text` for people. docs/outliers.md has the limits.

        Example:
            >>> import numpy as np
            >>> black, *others = np.random.default_rng(0).integers(64, 192, (30, 8, 8, 3), np.uint8)
            >>> [one.text for one in imgnorm.measure([black * 0, *others]).outliers]
            ['1 image is of one color (0)', '1 image is almost black (0)']
        """
        from imgnorm.stats.outliers import outliers_of

        if self.measurement is None or self.mode is None or not self.images:
            return ()
        return outliers_of(self.measurement, self.mode, self.scale)

    @property
    def sizes(self) -> Sizes | None:
        """The sizes of the images, in pixels; None in constants, estimates and files of imgnorm 0.1.

        `width`, `height`, `pixels` (width · height) and `aspect` (width / height) say how many `images` are
        in each range, from one of its `starts` to the same of its `stops`. `smallest`, `largest`, `tallest`
        and `widest` have at most three sizes each: the `size`, how many `images` have it, and the `name` of
        the first.

        Example:
            >>> sizes = imgnorm.measure("examples/shapes").sizes
            >>> sizes.largest[0].size, sizes.largest[0].images
            ((72, 96), 1)
        """
        return self.overview.sizes if self.overview else None

    @property
    def image_means(self) -> ImageMeans | None:
        """The images' own means over all color channels; None where `sizes` is None, and of float images.

        `raw` says how many images have their mean in which range of raw pixel values; `lowest` and
        `highest` have at most three means each: the `value` in [0, 1], how many `images` have it, and the
        `name` of the first.
        """
        return self.overview.means if self.overview else None

    @property
    def overview(self) -> Overview | None:
        """What `sizes`, `image_means` and `outliers` follow from."""
        return self.measurement.overview if self.measurement and self.images else None

    def plot(
        self, kind: Literal["histograms", "images", "classes"] = "histograms", *, log: bool = False
    ) -> Chart:
        """A chart, which a notebook shows.

        Args:
            kind: the histograms of the channels; how many images have which mean and size; or the means of
                the classes that differ most.
            log: draw the histograms' counts on a logarithmic axis, so that rare values show.

        Raises:
            ValueError: these stats do not have what is to be drawn: floats and constants have no histogram.
        """
        from imgnorm.stats.plot import chart_of

        return chart_of(self, kind, log=log)


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
