"""A source of one's own takes one file, and all that a folder can do: options, shards, skipped images."""

from __future__ import annotations

import importlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from blocks import ROOT, blocks_of
from PIL import Image
from stores import RUN, Database, database_of

import imgnorm
from imgnorm.errors import SourceError
from imgnorm.settings import Digits, ImageSettings
from imgnorm.sources.listing import Catalogue
from imgnorm.stats.format import text_of
from imgnorm.workers.executor import Work
from imgnorm.workers.this_process import in_this_process

CLASSES, IMAGES = 3, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise in three classes, and one file that is empty."""
    folder = tmp_path_factory.mktemp("own") / "images"
    rng = np.random.default_rng(0)
    for index in range(CLASSES * IMAGES):
        path = folder / f"c{index % CLASSES}" / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (5 + index % 4, 7, 3), np.uint8)).save(path)
    (folder / "c1" / "empty.png").touch()
    return folder


@pytest.fixture(scope="module")
def database(folder: Path) -> Path:
    return database_of(folder, folder.parent / "images.db")


pytestmark = pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")


def pixels_of(files: list[Path]) -> list[np.ndarray]:
    """The pixels of images, as int64 of shape (N, 3)."""
    return [np.asarray(Image.open(file)).reshape(-1, 3).astype(np.int64) for file in files]


@pytest.mark.parametrize("workers", [1, 2])
def test_it_counts_what_numpy_counts_and_a_folder(database, folder, workers):
    stats = imgnorm.measure(Database(database), workers=workers)
    pixels = np.concatenate(pixels_of(sorted(folder.glob("*/[0-9]*"))))
    of_folder = imgnorm.measure(folder)

    moments = stats.measurement.pixels.moments()
    assert len(pixels) == moments.count
    assert tuple(pixels.sum(axis=0)) == moments.total
    assert tuple((pixels**2).sum(axis=0)) == moments.total_sq
    assert of_folder.measurement.pixels == stats.measurement.pixels
    assert of_folder.measurement.classes == stats.measurement.classes
    assert of_folder.skipped == stats.skipped
    assert of_folder.measurement.source.names_sha256 == stats.measurement.source.names_sha256
    assert ("sqlite", "images.db") == (
        stats.measurement.source.kind,
        stats.measurement.source.ref,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 7},
        {"per_class": True},
        {"keep_names": True},
        {"resize": 4, "mode": "L"},
        {"tolerance": 0.05, "seed": 3},
        {"limit": 7, "per_class": True, "keep_names": True},
    ],
    ids=lambda options: "-".join(options),
)
def test_its_options_do_what_those_of_a_folder_do(database, folder, options):
    stats = imgnorm.measure(Database(database), workers=2, **options)
    of_folder = imgnorm.measure(folder, **options)

    assert text_of(of_folder).replace("kind: folder", "kind: sqlite").replace(
        f"ref: {of_folder.measurement.source.ref}", "ref: images.db"
    ) == text_of(stats)


@pytest.mark.parametrize("shards", [2, 5, 20])
def test_its_shards_merge_to_the_whole(database, shards):
    parts = [
        imgnorm.measure(Database(database), shard=(index, shards), keep_names=True, workers=2)
        for index in range(1, shards + 1)
    ]
    whole = imgnorm.measure(Database(database), keep_names=True, workers=2)

    assert text_of(whole) == text_of(imgnorm.merge(parts))
    units = -(-(CLASSES * IMAGES + 1) // RUN)
    assert max(part.images for part in parts) <= -(-units // shards) * RUN


def test_what_it_cannot_read_is_skipped_with_its_reason(database, tmp_path):
    copy = shutil.copy(database, tmp_path / "images.db")
    whole = imgnorm.measure(Database(copy))

    class Gone(Database):
        def units(self):
            yield from super().units()
            yield imgnorm.Unit("gone", names=["z/gone.png"])

    with pytest.warns(imgnorm.SourceWarning):  # a class inside a function cannot be pickled
        stats = imgnorm.measure(Gone(copy))

    gone = imgnorm.Skipped("z/gone.png", imgnorm.Reason.VANISHED, "no such row")
    assert (*whole.skipped, gone) == stats.skipped
    assert whole.measurement.pixels == stats.measurement.pixels


def test_its_stats_can_be_written_and_read(database, tmp_path):
    stats = imgnorm.measure(Database(database))
    imgnorm.write_stats(tmp_path / "stats.yaml", stats)

    assert text_of(stats) == text_of(imgnorm.read_stats(tmp_path / "stats.yaml"))


def test_an_empty_one_is_refused(tmp_path):
    with closing(sqlite3.connect(tmp_path / "images.db")) as database, database:
        database.execute("CREATE TABLE images (name TEXT PRIMARY KEY, file BLOB)")

    with pytest.raises(SourceError, match=r"^images\.db: no images in it"):
        imgnorm.measure(Database(tmp_path / "images.db"))


def test_the_page_about_lmdb_is_right(folder, tmp_path, monkeypatch):
    """Its class, as it stands there."""
    lmdb = pytest.importorskip("lmdb")
    (block,) = (
        text
        for _, text in blocks_of(ROOT / "docs" / "own-sources.md")
        if "# lmdb_source.py" in text
    )
    (tmp_path / "lmdb_source.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with (
        lmdb.open(str(tmp_path / "images.lmdb"), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for file in folder.glob("*/*"):
            transaction.put(file.relative_to(folder).as_posix().encode(), file.read_bytes())
    source = importlib.import_module("lmdb_source").Lmdb(str(tmp_path / "images.lmdb"))
    of_folder = imgnorm.measure(folder, per_class=True)
    stats = imgnorm.measure(source, per_class=True, workers=2)

    assert of_folder.measurement.pixels == stats.measurement.pixels
    assert of_folder.measurement.classes == stats.measurement.classes
    assert of_folder.skipped == stats.skipped


# Mistakes in a source of one's own


class Own(imgnorm.Source):
    kind = "own"
    ref = "own"

    def __init__(self, read=None, units=None, ref="own"):
        self.ref = ref
        self._read = read
        self._units = units or [imgnorm.Unit("all", names=["a", "b"])]

    def units(self):
        return self._units

    def read(self, name):
        return self._read(name)


def raises(error: Exception):
    def read(name):
        raise error

    return read


def measured_here(source: Own):
    count = in_this_process(source, Work(Digits(ImageSettings())))
    return count(Catalogue(source), lambda progress: None)


def test_an_error_of_the_system_costs_one_image_each():
    tally = measured_here(Own(raises(PermissionError(13, "Permission denied"))))

    assert ["a", "b"] == [one.name for one in tally.skipped]
    assert imgnorm.Reason.UNREADABLE == tally.skipped[0].reason


def test_bytes_may_be_those_of_a_buffer(folder):
    data = (folder / "c0" / "000.png").read_bytes()

    assert 2 == measured_here(Own(lambda name: memoryview(data))).images


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (Own(lambda name: None), TypeError, "'a': reading it gave None; give bytes or a PIL image"),
        (Own(raises(KeyError("x"))), RuntimeError, r"'a': reading it raised KeyError\('x'\)"),
        (Own(units=[imgnorm.Unit("x")]), TypeError, "unit 'x' has no names; write images()"),
        (Own(units=["a"]), TypeError, "units() gives 'a'; expected an imgnorm.Unit"),
    ],
)
def test_a_mistake_in_a_source_is_one_sentence(source, error, message):
    with pytest.raises(error, match=message.replace("()", r"\(\)")):
        measured_here(source)


def test_what_stats_files_call_it_is_demanded_before_anything_is_read():
    with pytest.raises(TypeError, match="has no ref; give it a text"):
        imgnorm.measure(Own(ref=None))


@pytest.mark.parametrize("options", [{"id": 3}, {"id": "x", "names": iter("ab")}])
def test_a_unit_has_a_text_as_its_id_and_a_list_of_names(options):
    with pytest.raises(TypeError):
        imgnorm.Unit(**options)
