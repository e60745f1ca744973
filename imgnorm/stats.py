"""Stats: a finished measurement with its provenance, or constants that somebody wrote down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from imgnorm.histogram import QUANTILES, Histogram
from imgnorm.image import CHANNELS, SCALE, Mode, Step
from imgnorm.moments import Convention, ImageSums, Moments
from imgnorm.reasons import Skipped


@dataclass(frozen=True)
class ClassStats:
    """One class of the dataset."""

    images: int
    moments: Moments | None = None  # with `per_class`


@dataclass(frozen=True)
class Provenance:
    """Where a measurement comes from."""

    kind: str  # folder, list, torchvision
    ref: str  # what the user called it
    names_sha256: str  # of the names of all counted images, in order
    options: Mapping[str, str | int] = field(
        default_factory=dict
    )  # that chose images: split, limit


@dataclass(frozen=True)
class Measurement:
    """What was counted, exactly."""

    images: int
    histogram: Histogram
    sums: ImageSums
    modes: Mapping[str, int]  # as the files have them -> images
    formats: Mapping[str, int]
    decoders: Mapping[str, str]  # format -> library and version
    source: Provenance
    classes: Mapping[str, ClassStats] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)  # rule -> entries

    @property
    def found(self) -> int:
        return self.images + len(self.skipped) + sum(self.ignored.values())

    def conventions(self) -> dict[str, Convention]:
        return self.sums.conventions()

    def quantiles(self) -> dict[str, tuple[int, ...]]:
        """By name (q01 … q99), raw pixel values."""
        return {name: self.histogram.quantile(q) for name, q in QUANTILES.items()}


@dataclass(frozen=True)
class Stats:
    """Per-channel mean and std for ToTensor's [0, 1]: pooled over all pixels, population."""

    channels: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: int = 255  # the pixel value that ToTensor makes 1.0
    mode: Mode | None = None  # the images' mode; None in constants that do not tell
    preprocess: tuple[Step, ...] = ()  # between loading and ToTensor
    measurement: Measurement | None = None  # None in constants

    @classmethod
    def of(cls, measurement: Measurement, mode: Mode, preprocess: tuple[Step, ...]) -> Stats:
        moments = measurement.histogram.moments()
        scale = SCALE[mode]
        return cls(
            CHANNELS[mode],
            moments.mean(scale=scale),
            moments.std(scale=scale),
            scale,
            mode,
            preprocess,
            measurement,
        )

    @property
    def images(self) -> int:
        """How many images were counted; 0 in constants."""
        return self.measurement.images if self.measurement else 0

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What was found and could not be counted, with its reason."""
        return self.measurement.skipped if self.measurement else ()


def channel_names(count: int) -> tuple[str, ...]:
    """The names that constants without `channels` get."""
    by_count: dict[int, Sequence[str]] = {1: "L", 3: "RGB", 4: "RGBA"}
    return tuple(by_count.get(count, [f"c{i}" for i in range(count)]))


def names_digest(names: Iterable[bytes]) -> str:
    """SHA-256 over the names, each followed by a zero byte, which no name holds."""
    digest = sha256()
    for name in names:
        digest.update(name + b"\0")
    return digest.hexdigest()
