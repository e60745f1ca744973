"""imgnorm.nn.batches: all images of any source, in one order, whatever becomes of some."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import PILToTensor

from imgnorm.errors import SourceError
from imgnorm.nn.batches import Batches
from imgnorm.sources.filelist import ListSource
from imgnorm.sources.folder import FolderSource
from imgnorm.sources.source import Block, Blocks, Entry, Source, Unit
from imgnorm.tally.skipped import Reason, Skipped, Unreadable


def gray(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (2, 2), level).save(file, "PNG")
    return file.getvalue()


def levels(batches: Batches) -> list[list[int]]:
    """The levels of the images of each batch."""
    return [images[:, 0, 0, 0].tolist() for images in batches]


def batches_of(source: Source, **options) -> Batches:
    return Batches(source, PILToTensor(), **{"mode": "L", "batch_size": 2, **options})


class Files(Source):
    """Encoded images by their names; None cannot be read."""

    kind, ref = "memory", "files"

    def __init__(self, files: dict[str, bytes | None], *units: Unit) -> None:
        self.files = files
        self._units = units or (Unit("all", [*files]),)

    def units(self) -> Iterable[Unit | Skipped]:
        return self._units

    def read(self, name: str) -> bytes:
        data = self.files[name]
        if data is None:
            raise Unreadable(Reason.VANISHED, "gone")
        return data


def test_images_come_in_the_order_of_their_names_whatever_their_units():
    files = {f"{i}.png": gray(i) for i in range(5)}
    source = Files(files, Unit("x", ["4.png", "1.png"]), Unit("y", ["0.png", "3.png", "2.png"]))

    assert [[0, 1], [2, 3], [4]] == levels(batches_of(source))
    assert [[0, 1, 2], [3, 4]] == levels(batches_of(source, batch_size=3, workers=2))


@pytest.mark.parametrize(
    "trait", [{"places": [7, 8]}, {"forward": True}], ids=["places", "forward"]
)
def test_what_has_places_in_a_file_is_read_in_its_order(trait):
    files = {f"{i}.png": gray(i) for i in range(4)}
    source = Files(files, Unit("x", ["3.png", "1.png"], **trait), Unit("y", ["2.png", "0.png"]))

    assert [[3, 1], [2, 0]] == levels(batches_of(source))


def test_a_folder_and_a_list_of_it_give_the_same_batches(tmp_path):
    """Folders are walked level by level, which is another order than that of the names."""
    for level, name in enumerate(["a/b/c.png", "a/d.png", "a-b/e.png", "f.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(gray(level))
    names = [os.path.relpath(path, tmp_path) for path in tmp_path.rglob("*.png")]
    (tmp_path / "list.txt").write_text("\n".join(names))
    listed = ListSource(str(tmp_path / "list.txt"))

    assert [[2, 0], [1, 3]] == levels(batches_of(FolderSource(str(tmp_path))))
    assert [[2, 0], [1, 3]] == levels(batches_of(listed))


def test_a_line_that_is_listed_twice_costs_nothing_but_itself(tmp_path):
    for level in (1, 2):
        (tmp_path / f"{level}.png").write_bytes(gray(level))
    (tmp_path / "list.txt").write_text("1.png\n2.png\n1.png\n")
    batches = batches_of(ListSource(str(tmp_path / "list.txt")))

    assert [[1, 2]] == levels(batches)
    assert 1 == len(batches)
    assert [("1.png", Reason.DUPLICATE_NAME)] == [(s.name, s.reason) for s in batches.skipped]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_left_out_from_then_on(workers):
    files = {f"{i}.png": gray(i) for i in range(5)} | {"1.png": None}
    batches = batches_of(Files(files), workers=workers)

    assert 3 == len(batches)
    assert [[0], [2, 3], [4]] == levels(batches)
    assert 2 == len(batches)
    assert [[0, 2], [3, 4]] == levels(batches)
    assert [("1.png", Reason.VANISHED)] == [(s.name, s.reason) for s in batches.skipped]


class Broken(Files):
    """A file of images that breaks off."""

    def images(self, unit: Unit) -> Iterator[Entry]:
        for entry in super().images(unit):
            if entry.name == "2.png":
                raise Unreadable(Reason.ARCHIVE_TRUNCATED, "ends early")
            yield Skipped("1.png", Reason.TOO_LARGE, "") if entry.name == "1.png" else entry


def test_what_a_unit_does_not_give_is_skipped_with_its_fault():
    batches = batches_of(Broken({f"{i}.png": gray(i) for i in range(4)}), batch_size=4)

    assert [[0]] == levels(batches)
    assert [
        ("1.png", Reason.TOO_LARGE),
        ("2.png", Reason.ARCHIVE_TRUNCATED),
        ("3.png", Reason.ARCHIVE_TRUNCATED),
    ] == [(s.name, s.reason) for s in batches.skipped]


class Pixels(Source):
    """Images of one array, read as one block."""

    kind, ref = "memory", "pixels"
    in_blocks = in_order = True

    def __init__(self, images: np.ndarray) -> None:
        self.pixels = images

    def units(self) -> Iterable[Unit]:
        return [Unit("all", [str(i) for i in range(len(self.pixels))])]

    def images(self, unit: Unit) -> Iterator[Entry]:
        images = self.pixels[[int(name) for name in unit.names]]
        mode = "L" if images.shape[3] == 1 else "RGB"
        layout = ("|u1", images.shape, images.strides)
        yield Blocks(unit.names, lambda: Block(unit.names, mode, images.tobytes(), *layout))


@pytest.mark.parametrize("channels", [1, 3])
def test_blocks_of_pixels_are_images(channels):
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, channels), dtype=np.uint8)
    batches = batches_of(Pixels(images), mode="L" if channels == 1 else "RGB", batch_size=3)

    assert torch.equal(torch.from_numpy(images).permute(0, 3, 1, 2), torch.cat([*batches]))


class Opened(Files):
    """Readable only where it was opened."""

    opened_by = 0

    def __getstate__(self):
        return {**vars(self), "opened_by": 0}

    def open(self) -> None:
        self.opened_by = os.getpid()

    def read(self, name: str) -> bytes:
        assert self.opened_by == os.getpid()
        return super().read(name)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_process_opens_the_source(workers):
    source = Opened({f"{i}.png": gray(i) for i in range(4)})

    assert [[0, 1], [2, 3]] == levels(batches_of(source, workers=workers))


@pytest.mark.parametrize("trait", ["once", "made_here"])
def test_what_cannot_be_read_one_by_one_is_refused(trait):
    source = Files({"0.png": gray(0)})
    setattr(source, trait, True)
    with pytest.raises(SourceError) as caught:
        batches_of(source)

    assert "files: its images cannot be read one by one; give the images themselves" == str(
        caught.value
    )
