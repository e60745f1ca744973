"""Each frame of a file as an image: the pixels that Pillow gives, whatever the road."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from PIL.TiffImagePlugin import TiffImageFile

from imgnorm.checks.verify.verify import verify
from imgnorm.measuring.measure import measure
from imgnorm.sources.names import as_text
from imgnorm.stats.file import read_stats, write_stats
from imgnorm.stats.stats import Stats, merge

FORMATS = {"gif": {}, "tif": {"compression": "tiff_lzw"}, "webp": {"lossless": True}, "png": {}}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four animated files of 7 frames and an ordinary one, in two folders."""
    root = tmp_path_factory.mktemp("stack")
    for index, (suffix, options) in enumerate(FORMATS.items()):
        chance = np.random.default_rng(index)
        first, *others = (
            Image.fromarray(chance.integers(0, 256, (9, 12, 3), dtype=np.uint8)) for _ in range(7)
        )
        (root / f"{index % 2}").mkdir(exist_ok=True)
        file = root / f"{index % 2}" / f"{index}.{suffix}"
        first.save(file, save_all=True, append_images=others, **options)
    first.save(root / "0" / "one.png")
    return root


def frames_by_pillow(root: Path, step: int) -> dict[str, np.ndarray]:
    found = {}
    for file in sorted(root.rglob("*.*")):
        with Image.open(file) as picture:
            for number, frame in enumerate(ImageSequence.Iterator(picture)):
                if number % step == 0:
                    name = f"{file.relative_to(root)}#{number + 1}".removesuffix("#1")
                    found[name] = np.asarray(frame.convert("RGB"), np.int64)
    return found


def measured(root: Path, frames: str, **options: object) -> Stats:
    return measure(root, frames=frames, include=["*.gif", "*.tif", "*.webp", "*.png"], **options)


@pytest.mark.parametrize(("frames", "step"), [("all", 1), ("every:3", 3), ("every:50", 50)])
def test_frames_are_counted_as_pillow_gives_them(stack, frames, step):
    expected = frames_by_pillow(stack, step)
    stats = measured(stack, frames, keep_names=True, per_class=True)
    values = np.concatenate([pixels.reshape(-1, 3) for pixels in expected.values()])

    assert sorted(expected) == stats.measurement.source.names.split("\n")
    assert len(expected) == stats.images
    assert tuple(values.sum(axis=0).tolist()) == stats.measurement.pixels.moments().total
    assert float(Fraction(int(values[:, 0].sum()), 255 * len(values))) == stats.mean[0]
    classes = {name: one.images for name, one in stats.measurement.classes.items()}
    assert {c: sum(name[0] == c for name in expected) for c in "01"} == classes
    assert () == stats.notes


def test_the_way_it_runs_never_changes_which_frames_are_counted(stack, tmp_path):
    """One pass, listed first, in shards, in an archive; and the file can be read and verified."""
    stats = measured(stack, "all")
    write_stats(tmp_path / "stats.yaml", stats)
    shutil.make_archive(str(tmp_path / "stack"), "zip", stack)
    archived = measured(tmp_path / "stack.zip", "all", workers=1)
    parts = [measured(stack, "all", shard=(i, 3), workers=1) for i in (1, 2, 3)]
    limited = measured(stack, "all", limit=10, keep_names=True, workers=1)
    names = sorted(frames_by_pillow(stack, 1), key=str.encode)

    assert read_stats(tmp_path / "stats.yaml") == stats
    assert [] == [*verify(tmp_path / "stats.yaml", stack).problems]
    assert [] == [*verify(tmp_path / "stats.yaml", stack, sample="all").problems]
    assert merge(parts) == stats
    assert archived.measurement.histogram == stats.measurement.histogram
    assert [names[i * len(names) // 10] for i in range(10)] == [
        as_text(name) for name in limited.measurement.source.names.split("\n")
    ]


def test_a_damaged_frame_is_skipped_by_its_own_name(stack, tmp_path):
    """A TIFF of which the data of the last page are overwritten: the other six count."""
    shutil.copy(stack / "1" / "1.tif", tmp_path / "1.tif")
    with TiffImageFile(tmp_path / "1.tif") as picture:
        picture.seek(6)
        (start,) = picture.tag_v2[273]
        (length,) = picture.tag_v2[279]
    data = bytearray((tmp_path / "1.tif").read_bytes())
    data[start : start + length] = b"\xff" * length
    (tmp_path / "1.tif").write_bytes(data)
    with pytest.warns(UserWarning, match="1 of 7"):
        stats = measure(tmp_path, frames="all", workers=1)

    assert (6, ["1.tif#7"]) == (stats.images, [one.name for one in stats.skipped])


@pytest.mark.parametrize("frames", ["all", "every:50"])
@pytest.mark.parametrize("name", ["0/0.gif", "1/1.tif"])
def test_frames_that_a_file_has_lost_are_never_passed_over(stack, tmp_path, name, frames):
    """Where it is cut, or was never written: Pillow says that there are fewer frames."""
    data = (stack / name).read_bytes()
    damaged = [data[: len(data) * tenths // 10] for tenths in range(2, 9)]
    damaged += [one + bytes(len(data) - len(one)) for one in damaged]
    for index, one in enumerate(damaged):
        (tmp_path / f"{index:02}{name[-4:]}").write_bytes(one)
    with pytest.warns(UserWarning, match="skipped"):
        stats = measured(tmp_path, frames, workers=1)
    skipped = {one.name.partition("#")[0] for one in stats.skipped}

    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(skipped)
