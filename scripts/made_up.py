"""The data of scripts/bench: images that look like photographs to a decoder, and files made of them.

`python scripts/made_up.py NAME OPERANDS…` makes what needs a package that the bench does not load.
"""

import os
import pickle
import random
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

PHOTOS, TINY = 1_000, 50_000  # images in the datasets
DIFFERENT_PHOTOS, DIFFERENT_TINY = 100, 2_000  # synthetic images that differ; the rest repeats them
CLASSES = 10
SEED = 12
TARS = 10
MEGABYTE = 1_000_000


def command(name: str, *operands: str) -> list[str]:
    """The command that makes something."""
    return [sys.executable, str(Path(__file__).resolve()), name, *operands]


def photos_in(folder: Path, given: list[Path] | None) -> Path:
    originals = given or synthetic(photo, DIFFERENT_PHOTOS, folder / "different-photos")
    return repeated(originals, folder / "photos", PHOTOS)


def tiny_in(folder: Path, given: list[Path] | None) -> Path:
    originals = given or synthetic(thumbnail, DIFFERENT_TINY, folder / "different-tiny")
    return repeated(originals, folder / "tiny", TINY)


def repeated(originals: list[Path], target: Path, count: int) -> Path:
    """Images in class folders, the originals again and again, unless an earlier bench made them."""
    if target.exists():
        return target
    for number in range(CLASSES):
        (target / f"class-{number}").mkdir(parents=True)
    copies: list[Path] = []
    for index in range(count):
        image = target / f"class-{index % CLASSES}" / f"{index:05}.jpg"
        if index < len(originals):
            copies.append(Path(shutil.copyfile(originals[index], image)))
        else:
            os.link(copies[index % len(copies)], image)
    return target


def synthetic(
    draw: Callable[[random.Random], "Image.Image"], count: int, target: Path
) -> list[Path]:
    target.mkdir(exist_ok=True)
    paths = [target / f"{index:05}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        if not path.exists():
            draw(random.Random(f"{SEED} {index}")).save(path, quality=90)
    return paths


def photo(rng: random.Random) -> "Image.Image":
    width, height = rng.choice([(500, 375), (375, 500), (500, 333), (480, 360)])
    return clouds(rng, width, height)


def thumbnail(rng: random.Random) -> "Image.Image":
    return clouds(rng, 32, 32)


def clouds(rng: random.Random, width: int, height: int) -> "Image.Image":
    """Noise at every scale, weaker at finer scales, as in photographs."""
    from PIL import Image

    image = Image.new("RGB", (width, height), "gray")
    for octave in range(1, max(width, height).bit_length() + 1):
        grid = (min(2**octave, width), min(2**octave, height))
        layer = Image.frombytes("RGB", grid, rng.randbytes(3 * grid[0] * grid[1]))
        weight = 0.6 * 0.8**octave
        image = Image.blend(image, layer.resize((width, height), Image.Resampling.BICUBIC), weight)
    return image


def size_of(images: Path) -> str:
    sizes = [path.stat().st_size for path in images.rglob("*") if path.is_file()]
    return f"{len(sizes):,} images, {sum(sizes) / MEGABYTE:.0f} MB"


def convert(photos: str, target: str, suffix: str) -> None:
    from PIL import Image

    options = {"png": {"compress_level": 6}, "tiff": {"compression": "tiff_lzw"}}.get(suffix, {})
    made: dict[int, Path] = {}
    for path in sorted(path for path in Path(photos).rglob("*") if path.is_file()):
        image = Path(target, path.parent.name, f"{path.stem}.{suffix}")
        image.parent.mkdir(parents=True, exist_ok=True)
        original = path.stat().st_ino  # the same photo again is a link
        if original in made:
            os.link(made[original], image)
        else:
            with Image.open(path) as opened:
                opened.save(image, **options)
            made[original] = image


def write_cifar(root: str) -> None:
    import numpy as np

    generator = np.random.default_rng(SEED)
    folder = Path(root, "cifar-10-batches-py")
    folder.mkdir()
    for number in range(1, 6):
        data = generator.integers(0, 256, (10_000, 3072), dtype=np.uint8)
        batch = {"data": data, "labels": [index % CLASSES for index in range(10_000)]}
        (folder / f"data_batch_{number}").write_bytes(pickle.dumps(batch))
    names = {"label_names": [str(label) for label in range(CLASSES)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names))


def write_array(path: str, count: str) -> None:
    import numpy as np

    shape = (int(count), 32, 32, 3)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    generator = np.random.default_rng(SEED)
    for start in range(0, len(images), 10_000):
        part = images[start : start + 10_000]
        part[:] = generator.integers(0, 256, part.shape, dtype=np.uint8)


def pack(images: str, tars: str) -> None:
    """Tars as WebDataset's are: each has a part of the sorted files."""
    Path(tars).mkdir()
    paths = sorted(path for path in Path(images).rglob("*") if path.is_file())
    for number in range(TARS):
        part = paths[number * len(paths) // TARS : (number + 1) * len(paths) // TARS]
        # Dereferenced, since the bench's own copies are hard links, which a tar would keep.
        with tarfile.open(Path(tars, f"{number:03}.tar"), "w", dereference=True) as tar:
            for path in part:
                tar.add(path, path.relative_to(images))


def write_shards(folder: str, count: str) -> None:
    from imgnorm.stats.file import write_stats
    from imgnorm.stats.measurement import Measurement
    from imgnorm.stats.provenance import Provenance, Shards
    from imgnorm.stats.stats import Stats
    from imgnorm.tally.histogram import Histogram
    from imgnorm.tally.moments import UNIT_BITS, ImageSums
    from imgnorm.tally.names import names_digest

    Path(folder).mkdir(exist_ok=True)
    for i in range(int(count)):
        rng = random.Random(f"{SEED} {i}")
        counts = [rng.randrange(1 << 24) for _ in range(256)]
        channels = tuple(tuple(rng.sample(counts, 256)) for _ in range(3))
        sums = [tuple(rng.randrange(1 << UNIT_BITS) for _ in range(3)) for _ in range(4)]
        shards = Shards(int(count), (i + 1,))
        own = names_digest([b"%d" % i])
        units = "0" * 64
        source = Provenance("folder", "data", own, own, 1, {}, shards, units_sha256=units)
        measurement = Measurement(
            1,
            Histogram(channels),
            ImageSums(1, sums[0], sums[1], sums[2], sums[3], 0),
            {"RGB": 1},
            {"JPEG": 1},
            {"JPEG": "Pillow 13.0.0, libjpeg-turbo 3.1.0"},
            source,
        )
        write_stats(Path(folder, f"{i:05}.yaml"), Stats.of(measurement, "RGB", ()))


MAKERS: dict[str, Callable[..., None]] = {
    "convert": convert,
    "pack": pack,
    "write-array": write_array,
    "write-cifar": write_cifar,
    "write-shards": write_shards,
}

if __name__ == "__main__":
    MAKERS[sys.argv[1]](*sys.argv[2:])
