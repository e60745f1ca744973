"""Images counted from memory, and the same counts made plainly with NumPy and Python's integers."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from PIL import Image

from imgnorm.pixels.count import Counting, JobCount, UnitEntries, count
from imgnorm.pixels.images import sums_of_powers
from imgnorm.pixels.planes import powers_of
from imgnorm.settings import Digits, ImageSettings
from imgnorm.sources.source import Source, Unit
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import UNIT_BITS, ImageSums, Moments
from imgnorm.tally.tally import Tally


class MemorySource(Source):
    """Encoded images by name; an exception in place of an image is raised."""

    kind = "memory"
    ref = "memory"
    in_order = True

    def __init__(self, images: dict[str, bytes | Image.Image | Exception]) -> None:
        self.files = images
        self.reads: list[str] = []

    def units(self) -> Iterator[Unit]:
        yield Unit("all", sorted(self.files))

    def read(self, name: str) -> bytes | Image.Image:
        self.reads.append(name)
        found = self.files[name]
        if isinstance(found, Exception):
            raise found
        return found


def encoded(picture: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format_, **options)
    return file.getvalue()


def noise(height: int, width: int, channels: int = 3, *, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Image.fromarray(rng.integers(0, 256, shape, np.uint8))


def job_count(
    source: Source, names: Sequence[str], counting: Counting, **options: object
) -> JobCount:
    """One job over these names."""
    entries = UnitEntries(source, Unit("all", names))
    return count(entries, counting, **options)


def tally_of(
    images: dict[str, bytes | Image.Image | Exception], mode: str = "auto", **options: object
) -> Tally:
    digits = {n: options.pop(n) for n in ("max_pixels", "per_class") if n in options}
    counting = Counting(Digits(ImageSettings(mode), **{"max_pixels": 10**8, **digits}), **options)
    source = MemorySource(images)
    counted = job_count(
        source, list(images), counting, seconds=60.0
    )  # for all, however busy it is here
    assert len(images) == counted.images
    return counted.tally


def as_images(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels.reshape(*pixels.shape[:2], -1).astype(np.int64)


def power_sums(pictures: list[np.ndarray]) -> Moments:
    return Moments(
        sum(p.shape[0] * p.shape[1] for p in pictures),
        tuple(sum(p.sum(axis=(0, 1)) for p in pictures).tolist()),
        tuple(sum((p * p).sum(axis=(0, 1)) for p in pictures).tolist()),
    )


def histogram(pictures: list[np.ndarray], bins: int = 256) -> Histogram:
    channels = pictures[0].shape[2]
    flat = [np.concatenate([p[:, :, c].ravel() for p in pictures]) for c in range(channels)]
    return Histogram(tuple(tuple(np.bincount(c, minlength=bins).tolist()) for c in flat))


def sums_of(histograms: np.ndarray) -> ImageSums:
    """The sums that imgnorm makes of images, from their histograms: int64, (images, channels, bins)."""
    pixels = histograms[:, :1].sum(axis=2)
    return sums_of_powers(pixels, *powers_of(histograms), histograms.shape[2] - 1)


def by_hand(histograms: np.ndarray) -> ImageSums:
    """One image and one channel at a time, by Python's own integers and floats."""
    scale = histograms.shape[2] - 1
    channels = range(histograms.shape[1])
    totals: Counter[tuple[str, int]] = Counter()
    one_pixel = 0
    for image in histograms.tolist():
        pixels = sum(image[0])
        one_pixel += pixels == 1
        for c in channels:
            total = sum(v * n for v, n in enumerate(image[c]))
            total_sq = sum(v * v * n for v, n in enumerate(image[c]))
            spread = float(pixels * total_sq - total * total)
            values = {
                "mean": total / float(pixels * scale),
                "mean_sq": total_sq / float(pixels * scale * scale),
                "std": math.sqrt(spread) / float(pixels * scale),
                "std_1": math.sqrt(spread / float(pixels * (pixels - 1))) / scale
                if pixels > 1
                else 0.0,
            }
            for name, value in values.items():
                units = Fraction(value) * 2**UNIT_BITS
                assert units.denominator == 1
                totals[name, c] += int(units)
    columns = {
        name: tuple(totals[name, c] for c in channels)
        for name in ("mean", "mean_sq", "std", "std_1")
    }
    return ImageSums(len(histograms), **columns, one_pixel=one_pixel)


def reference(pictures: list[np.ndarray], scale: int = 255) -> tuple:
    """NumPy int64 over each image by itself."""
    shown = [p.reshape(-1, p.shape[2] if p.ndim == 3 else 1).astype(np.int64) for p in pictures]
    channels = shown[0].shape[1]
    histograms = np.stack(
        [[np.bincount(p[:, c], minlength=scale + 1) for c in range(channels)] for p in shown]
    )
    return tuple(map(tuple, histograms.sum(axis=0).tolist())), by_hand(histograms)
