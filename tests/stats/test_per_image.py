"""Tables with a row for each image: exact, in the order of names, and the same bytes however they are made."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Command, Ended
from PIL import Image
from torch.utils.data import DataLoader

import imgnorm
from imgnorm import ImageRow, ImageTable
from imgnorm.stats import per_image
from imgnorm.tally import spool
from imgnorm.tally.rows import ImageFile, Row, packed_rows
from imgnorm.tally.spool import TemporaryRows

KINDS = ("csv", "parquet")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return str(request.param)


@pytest.fixture
def run(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Ended]:
    """A command line in the folder of `folder`."""
    monkeypatch.chdir(tmp_path)
    return lambda line: command(*line.split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """80 images in two classes, of several sizes and kinds; the first ones are gray."""
    rng = np.random.default_rng(7)
    for number in range(80):
        place = tmp_path / "images" / "ab"[number // 50]
        place.mkdir(parents=True, exist_ok=True)
        shape = tuple(rng.integers(1, 60, 2)) if number % 9 else (150, 130)
        if number < 60 or number % 2:
            picture = Image.fromarray(rng.integers(0, 256, shape, np.uint8))
        else:
            picture = Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8))
        if number % 7 == 5 and number > 50:
            picture = picture.quantize(16)
        picture.save(place / f"{number:02d}.png")
    return tmp_path / "images"


def measured(source: object, **options: object) -> tuple[imgnorm.Stats, ImageTable]:
    table = ImageTable(sha256=bool(options.pop("sha256", False)))
    return imgnorm.measure(source, per_image=table, **options), table


def within_an_ulp(value: float, square: Fraction) -> bool:
    """Whether a float is the root of a number, within 1 ulp."""
    low, high = (Fraction(value) + sign * Fraction(np.spacing(value)) for sign in (-1, 1))
    return low * low <= square <= high * high


def assert_follows(row: ImageRow, pixels: np.ndarray, most: int) -> None:
    """
    Args:
        pixels: (H, W, C).
    """
    channels = pixels.reshape(-1, pixels.shape[2]).astype(np.int64).T
    count = channels.shape[1]

    assert count == row.pixels
    for place, channel in enumerate(channels):
        total, total_sq = int(channel.sum()), int((channel * channel).sum())
        assert total / (count * most) == row.mean[place]
        variance = Fraction(total_sq, count) - Fraction(total, count) ** 2
        assert within_an_ulp(row.std[place], variance / most**2)
        assert [channel.min(), channel.max()] == [row.min[place], row.max[place]]
        assert int((channel == 0).sum()) / count == row.share_zero[place]
        assert int((channel == most).sum()) / count == row.share_full[place]


@pytest.mark.parametrize("mode", ["auto", "L"])
def test_rows_are_those_of_pillow_and_numpy(folder, mode):
    stats, table = measured(folder, mode=mode, sha256=True)

    found = list(table)
    paths = sorted(folder.rglob("*.png"))
    assert [str(path.relative_to(folder).as_posix()) for path in paths] == [r.name for r in found]
    assert stats.images == len(found)
    for path, row in zip(paths, found, strict=True):
        data = path.read_bytes()
        with Image.open(path) as picture:
            facts = (path.parent.name, "PNG", picture.mode, *picture.size, len(data))
            pixels = np.asarray(picture.convert("RGB" if mode == "auto" else mode))
        assert facts == row[1:7]
        assert hashlib.sha256(data).hexdigest() == row.sha256
        assert_follows(row, pixels.reshape(*pixels.shape[:2], -1), 255)


def test_their_averages_are_those_of_the_stats(folder):
    stats, table = measured(folder)
    found = list(table)

    assert stats.measurement is not None
    convention = stats.measurement.sums.conventions()["mean_of_image_std"]
    for channel in range(3):
        mean = np.mean([row.mean[channel] for row in found])
        std = np.mean([row.std[channel] for row in found])
        assert np.allclose([convention.mean[channel], convention.std[channel]], [mean, std], 1e-14)


def test_the_stats_are_the_same_with_and_without(folder, tmp_path):
    for name, stats in (("a", imgnorm.measure(folder)), ("b", measured(folder)[0])):
        imgnorm.write_stats(tmp_path / name, stats)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def as_tar(folder: Path, path: Path, order: int) -> Path:
    """The files in any order, and in a folder of their own: the names are the same."""
    files = sorted(folder.rglob("*.png"))
    np.random.default_rng(order).shuffle(files)
    with tarfile.open(path, "w") as tar:
        for file in files:
            tar.add(file, file.relative_to(folder))
    return path


def test_a_table_has_the_same_bytes_whatever_the_way_it_was_made(
    folder, tmp_path, kind, monkeypatch
):
    tables = {}
    for workers in (1, 3):
        tables[f"{workers} workers"] = measured(folder, workers=workers)[1]
    tables["Pillow"] = measured(folder, decoder="pillow")[1]
    tar = tmp_path / "x.tar"
    as_tar(folder, tar, 0)
    tables["a"] = measured(tar)[1]
    tables["b"] = measured(as_tar(folder, tar, 1), workers=2)[1]
    monkeypatch.setattr(spool, "_OPEN", 4)
    monkeypatch.setattr(spool, "_SORTED", 16)
    monkeypatch.setattr(spool, "_TOGETHER", 3)
    tables["c"] = measured(as_tar(folder, tar, 2), workers=2)[1]

    for name, table in tables.items():
        table.write(tmp_path / f"{name}.{kind}")
    written = {name: (tmp_path / f"{name}.{kind}").read_bytes() for name in tables}
    assert written["1 workers"] == written["3 workers"] == written["Pillow"]
    assert written["a"] == written["b"] == written["c"]
    assert list(tables["c"]) == list(ImageTable.read(tmp_path / f"c.{kind}"))


@pytest.mark.parametrize("shards", [2, 3])
def test_tables_of_shards_join_to_that_of_the_whole(folder, kind, shards, run):
    """One shard has only gray images, and the third none."""
    for name in "ab":
        as_tar(folder / name, Path(f"p-{name}.tar"), 3)
    digests = "--per-image-sha256"
    assert 0 == run(f"stats p-*.tar --per-image all.{kind} -o all.yaml {digests}").code
    for i in range(1, shards + 1):
        part = f"p-*.tar --shard {i}/{shards} --per-image {i}.{kind} -o {i}.yaml"
        assert 0 == run(f"stats {part} {digests}").code
    parts = [f"{i}.{ending}" for i in range(shards, 0, -1) for ending in ("yaml", kind)]

    ended = run(f"merge {' '.join(parts)} -o m.yaml --per-image m.{kind}")

    assert 0 == ended.code
    assert ended.err.endswith(f"wrote    m.yaml\nwrote    m.{kind}\n")
    for ending in ("yaml", kind):
        assert Path(f"all.{ending}").read_bytes() == Path(f"m.{ending}").read_bytes()
    channels = [ImageTable.read(f"{i}.{kind}").channels for i in range(1, shards + 1)]
    assert [("L",), ("R", "G", "B"), ()][:shards] == channels


def test_images_of_several_sources_are_in_one_table(folder, tmp_path):
    other = tmp_path / "more"
    other.mkdir()
    for name in ("a", "b"):
        (other / name).mkdir()
    (other / "a" / "00.png").write_bytes((folder / "b" / "79.png").read_bytes())
    one, both = measured(folder)[1], measured([folder, other])[1]

    found = list(both)
    assert sorted([*one, *measured(other, mode="RGB")[1]], key=lambda r: (r.name, repr(r))) == found
    assert found == list(measured([other, folder])[1])


def test_what_is_skipped_has_no_row(folder, run):
    (folder / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.fromarray(np.full((2, 2), 700, np.uint16)).save(folder / "a" / "deep.png")

    ended = run(f"stats {folder} --per-image all.csv --max-skipped 2")

    assert 0 == ended.code
    assert 80 == len(list(ImageTable.read("all.csv")))
    assert 1 == run(f"stats {folder} --per-image none.csv --max-skipped 1").code
    assert not Path("none.csv").exists()


def test_rows_of_16_bits_are_exact(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 65536, (9, 7), np.uint16)
    pixels[0, :3] = 65535
    pixels[1, :2] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")

    (row,) = measured(tmp_path)[1]

    assert_follows(row, pixels[..., None], 65535)


class ADataset:
    def __init__(self, items: object) -> None:
        self.items = items
        self.targets = [0, 1] * (len(self) // 2)
        self.classes = ["x", "y"]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.items[index], self.targets[index]


@pytest.mark.filterwarnings("ignore:.*look normalized already:imgnorm.errors.SourceWarning")
@pytest.mark.parametrize("divided", [False, True])
def test_rows_of_float_images_are_exact(tmp_path, kind, divided):
    """Images of k/255 among other floats are floats."""
    images = np.random.default_rng(2).normal(size=(4, 5, 6, 3)).astype(np.float32)
    if divided:
        images[1] = np.random.default_rng(3).integers(0, 256, (5, 6, 3)) / np.float32(255)
    _, table = measured(ADataset(images))
    table.write(tmp_path / f"a.{kind}")

    found = list(ImageTable.read(tmp_path / f"a.{kind}"))

    assert list(table) == found
    for image, row in zip(images, found, strict=True):
        for place, channel in enumerate(image.reshape(-1, 3).T):
            values = [Fraction(float(value)) for value in channel]
            mean = sum(values) / len(values)
            assert float(mean) == row.mean[place]
            variance = sum(v * v for v in values) / len(values) - mean * mean
            assert within_an_ulp(row.std[place], variance)
            assert [min(channel), max(channel)] == [row.min[place], row.max[place]]
        assert ((), ()) == (row.share_zero, row.share_full)


def test_images_divided_by_255_are_8_bit_images():
    pixels = np.random.default_rng(3).integers(0, 256, (6, 5, 6, 3), np.uint8)
    _, table = measured(ADataset((pixels / 255).astype(np.float32)))

    found = list(table)

    assert ["float k/255"] * 6 == [row.format for row in found]
    for image, row in zip(pixels, found, strict=True):
        assert_follows(row, image, 255)


@pytest.mark.parametrize("road", ["Dataset", "workers", "DataLoader", "generator"])
def test_rows_of_items_are_exact(road):
    pixels = np.random.default_rng(4).integers(0, 256, (12, 3, 9, 8), np.uint8)
    dataset = ADataset(torch.from_numpy(pixels))
    roads = {
        "Dataset": lambda: measured(dataset),
        "workers": lambda: measured(dataset, workers=2),
        "DataLoader": lambda: measured(DataLoader(dataset, batch_size=5)),
        "generator": lambda: measured(iter(torch.from_numpy(pixels))),
    }
    _, table = roads[road]()

    found = sorted(table, key=lambda row: int(row.name))

    assert 12 == len(found)
    for image, row in zip(pixels, found, strict=True):
        assert_follows(row, image.transpose(1, 2, 0), 255)
    if road in ("Dataset", "workers"):
        assert ["x", "y"] * 6 == [row.class_ for row in found]


HOSTILE = ["=1+1.png", "-1.png", "./=x.png", "@a.png", '"a",b.png', "a\rb.png", "a\nb.png", "\t.png", "ü.png"]  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_no_name_is_lost_or_run_as_a_formula(tmp_path, kind):
    files = tmp_path / "files"
    for name in HOSTILE:
        path = files / "=c" / name.removeprefix("./")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(path)
    _, table = measured(files)
    table.write(tmp_path / f"a.{kind}")

    assert sorted({f"=c/{name.removeprefix('./')}" for name in HOSTILE}) == [r.name for r in table]
    assert list(table) == list(ImageTable.read(tmp_path / f"a.{kind}"))
    if kind == "csv":
        with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
            cells = [cell for line in csv.reader(file) for cell in line]
        assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n")]


def test_a_path_that_begins_with_a_dot_stays_as_it_is():
    written = [*map(per_image._harmless, ("=x", "./=x", "a=b", "./a"))]

    assert ["./=x", "././=x", "a=b", "./a"] == written


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are no text")
def test_a_name_that_is_no_text_is_written_as_the_stats_file_has_it(tmp_path):
    Image.new("L", (2, 2)).save(os.fsencode(tmp_path) + b"/\xff.png", "PNG")

    assert ["\\xff.png"] == [row.name for row in measured(tmp_path)[1]]


def test_a_table_without_images_has_only_a_header(folder, tmp_path, kind):
    _, empty = measured(folder, shard=(99, 99))
    empty.write(tmp_path / f"a.{kind}")

    assert [] == list(empty) == list(ImageTable.read(tmp_path / f"a.{kind}"))
    assert () == ImageTable.read(tmp_path / f"a.{kind}").channels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "stats d --per-image a.txt",
            "a.txt: a table of images is a .csv or a .parquet file; name one\n",
        ),
        (
            "stats d --per-image-sha256",
            "--per-image-sha256 is for --per-image; leave it out, or give both (see `imgnorm stats --help`)\n",
        ),
        (
            "stats d --per-image a.csv --tolerance 0.1",
            (
                "--per-image has a row for each image, and an estimate looks at some of them; leave it out, or "
                "--tolerance (see `imgnorm stats --help`)\n"
            ),
        ),
        (
            "stats d --per-image a.csv --device cuda",
            (
                "--per-image is counted on the CPU, where each image is seen by itself; leave it out, or --device "
                "cuda and --decoder nvjpeg (see `imgnorm stats --help`)\n"
            ),
        ),
        (
            "merge a.yaml --per-image a.csv",
            (
                "--per-image joins tables; name them among STATS_FILES, as in part-*.yaml part-*.csv (see "
                "`imgnorm merge --help`)\n"
            ),
        ),
        (
            "merge a.csv b.csv --per-image c.csv",
            "a.csv: is a table of images; name its stats file, too (see `imgnorm merge --help`)\n",
        ),
        (
            "merge a.yaml a.csv",
            "a.csv: is a table of images; name the joined one with --per-image (see `imgnorm merge --help`)\n",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(run, arguments, message):
    ended = run(arguments)

    assert message == ended.err
    assert 0 != ended.code


def test_tables_of_other_images_do_not_join(folder, tmp_path):
    stats, table = measured(folder)
    _, part = measured(folder, limit=79)
    _, digests = measured(folder, sha256=True)
    renamed = ImageTable()
    renamed.channels = table.channels
    renamed._parts = [lambda: (row._replace(name=f"x/{row.name}") for row in table)]

    refusals = {}
    for name, tables in {
        "part": [part],
        "renamed": [renamed],
        "digests": [digests, table],
        "channels": [measured(folder, mode="RGBA")[1]],
    }.items():
        with pytest.raises(imgnorm.errors.IncompatibleStats) as refused:
            ImageTable.joined(tables, stats).write(tmp_path / "a.csv")
        refusals[name] = str(refused.value)

    end = "; name one table for each stats file, of the same run"
    assert {
        "part": f"the tables have 79 images, and the stats 80{end}",
        "renamed": f"the tables have 80 images, and the stats 80 others{end}",
        "digests": "some tables have digests of the files, and others have none",
        "channels": "a table has the channels R, G, B, A, and the stats R, G, B; name the tables of these "
        "stats files",
    } == refusals
    assert not (tmp_path / "a.csv").exists()


def test_tables_of_the_same_names_and_other_pixels_do_not_join(folder, tmp_path, run):
    assert 0 == run(f"stats {folder} -o a.yaml").code
    unlike = {}
    for options in ("--resize 8", "--center-crop 9"):
        assert 0 == run(f"stats {folder} {options} --per-image b.csv --force").code
        ended = run("merge a.yaml b.csv --per-image c.csv")
        unlike[options] = ended.code, ended.out, ended.err
    for change in ("mean", "share_zero", "class_", "format", "mode"):
        stats, table = measured(folder)
        first = next(iter(table))
        other = {"mean": (0.5,) * 3, "share_zero": (0.1,) * 3}.get(change, "other")
        rows = [first._replace(**{change: other}), *list(table)[1:]]
        table._parts = [lambda rows=rows: iter(rows)]
        with pytest.raises(imgnorm.errors.IncompatibleStats) as refused:
            ImageTable.joined([table], stats).write(tmp_path / "c.csv")
        unlike[change] = str(refused.value)

    start, end = "the tables have the names of the stats, and other ", "; name one table for each stats file, of the same run"  # fmt: skip
    assert {
        "--resize 8": (2, "", f"{start}pixels, means, shares{end}\n"),
        "--center-crop 9": (2, "", f"{start}pixels, means, shares{end}\n"),
        "mean": f"{start}means{end}",
        "share_zero": f"{start}shares{end}",
        "class_": f"{start}classes{end}",
        "format": f"{start}formats{end}",
        "mode": f"{start}modes{end}",
    } == unlike
    assert not Path("c.csv").exists()


def test_tables_of_floats_and_16_bits_join(tmp_path, kind):
    rng = np.random.default_rng(5)
    for number, pixels in enumerate(
        (
            rng.normal(size=(250, 5, 6, 3)).astype(np.float32),
            rng.integers(0, 65536, (250, 5, 6, 3), np.uint16),
            rng.random((250, 5, 6)).astype(np.float64),
        )
    ):
        path = tmp_path / f"{number}.npy"
        np.save(path, pixels)
        parts = [measured(path, shard=(i, 2)) for i in (1, 2)]
        whole = imgnorm.merge([stats for stats, _ in parts])
        ImageTable.joined([table for _, table in parts], whole).write(tmp_path / f"{number}.{kind}")

        read = list(ImageTable.read(tmp_path / f"{number}.{kind}"))
        assert list(measured(path)[1]) == read


def test_a_table_is_replaced_as_other_results_are(folder, run, kind):
    assert 0 == run(f"stats {folder} --per-image a.{kind}").code
    again = run(f"stats {folder} --per-image a.{kind}")
    forced = run(f"stats {folder} --per-image a.{kind} --force")

    message = f"a.{kind}: exists already; replace it with --force, or name another file\n"
    assert (2, message) == (again.code, again.err)
    assert 0 == forced.code


def test_a_file_that_is_no_table_is_refused(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"name,class\na,b\n")

    with pytest.raises(imgnorm.ImgnormError, match=r"no table of images|is not a table that"):
        ImageTable.read(path)
    with pytest.raises(imgnorm.ImgnormError, match="cannot be read"):
        ImageTable.read(tmp_path / f"missing.{kind}")


def refusal(path: Path) -> str:
    with pytest.raises(imgnorm.ImgnormError) as refused:
        list(ImageTable.read(path))
    return str(refused.value)


def test_a_damaged_row_is_refused_where_it_is_read(folder, tmp_path):
    path = tmp_path / "a.csv"
    measured(folder)[1].write(path)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    columns = lines[0].strip().split(",")
    faults = {
        "name": ("", "name is empty; expected a text"),
        "format": ("", "format is empty; expected a text"),
        "width": ("1.5", "width is 1.5; expected a whole number above 0"),
        "height": ("9" * 40, f"height is {'9' * 40}; expected a whole number above 0"),
        "bytes": ("-1", "bytes is -1.0; expected a whole number"),
        "pixels": ("0", "pixels is 0; expected a whole number above 0"),
        "mean_R": ("inf", "mean_R is inf; expected a number"),
        "mean_G": ("many", "mean_G is many; expected a number"),
        "std_B": ("-1", "std_B is -1.0; expected a number from 0 on"),
        "min_R": ("300", "a mean or std is not that of values from min to max"),
        "max_G": ("0", "a mean or std is not that of values from min to max"),
        "share_zero_R": ("", "some shares are empty, and others are not"),
        "share_full_B": ("2", "share_full_B is 2; expected a number from 0 to 1"),
    }

    found = {}
    for column, (value, _) in faults.items():
        cells = lines[7].split(",")
        cells[columns.index(column)] = value
        path.write_text("".join([*lines[:7], ",".join(cells)]), encoding="utf-8")
        found[column] = value, refusal(path)

    start, end = f"{path}:8: ", "; write the table again, or leave it out"
    assert {name: (value, f"{start}{text}{end}") for name, (value, text) in faults.items()} == found
    path.write_text("".join([*lines[:7], lines[7][:40]]), encoding="utf-8")
    assert f"{start}has {lines[7][:40].count(',') + 1} columns; expected 26{end}" == refusal(path)


def test_a_table_that_a_spreadsheet_saved_again_is_read(folder, tmp_path):
    """With a byte order mark, and ends of lines of its own."""
    table = measured(folder)[1]
    table.write(tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text(encoding="utf-8")
    (tmp_path / "b.csv").write_text(text, encoding="utf-8-sig", newline="\r\n")

    assert list(table) == list(ImageTable.read(tmp_path / "b.csv"))


def test_a_failed_measurement_leaves_no_rows(folder):
    _, table = measured(folder)

    with pytest.raises(imgnorm.ImgnormError):
        imgnorm.measure(folder / "missing", per_image=table)
    assert 80 == len(list(table))  # nothing was begun


def named(names: list[str]) -> Iterator[bytes]:
    for start in range(0, len(names), 7):
        yield packed_rows(
            [
                Row(name, ImageFile("PNG", "L", 1, 1), "L", 1, (1,), (1,), (1,), (1,), (0,), (0,))
                for name in names[start : start + 7]
            ]
        )


@pytest.mark.parametrize("most", [0, 50, 1 << 15])
def test_a_spool_gives_rows_in_the_order_of_their_names(monkeypatch, most):
    monkeypatch.setattr(spool, "_OPEN", most)
    monkeypatch.setattr(spool, "_SORTED", 100)
    names = [f"{number:04d}" for number in range(1000)]
    shuffled = [str(name) for name in np.random.default_rng(1).permutation(names)]
    kept = spool.RowSpool()
    kept.take(named(shuffled))

    for _ in range(2):
        assert names == [row.name for row in kept]


def test_rows_that_may_be_forgotten_are_kept_in_a_file_if_they_are_many(monkeypatch):
    monkeypatch.setattr(spool, "_IN_MEMORY", 1000)
    held = TemporaryRows()
    parts = [bytes([number]) * 100 for number in range(250)]
    for start in range(0, 250, 7):
        held.take(parts[start : start + 7])

    assert parts == list(held) == list(held)
    assert len(held._held) < 20


def test_csv_is_what_others_read(folder, tmp_path):
    """Column by column."""
    measured(folder)[1].write(tmp_path / "a.csv")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text(encoding="utf-8"))))

    found = list(ImageTable.read(tmp_path / "a.csv"))
    assert [row.name for row in found] == [line["name"] for line in lines]
    assert [row.class_ for row in found] == [line["class"] for line in lines]
    assert [row.std[1] for row in found] == [float(line["std_G"]) for line in lines]
    assert [row.share_full[2] for row in found] == [float(line["share_full_B"]) for line in lines]
