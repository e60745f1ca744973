"""Images that lie in two tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import imgnorm
from imgnorm.cli import run
from imgnorm.errors import IncompatibleStats

SHAPES = Path(__file__).parents[2] / "examples" / "shapes"


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Train has 16 images. Val has 8 others, three of train by other names, and one of them twice."""
    monkeypatch.chdir(tmp_path)
    for folder, names in (("train", ("circle", "square")), ("val", ("triangle",))):
        for name in names:
            shutil.copytree(SHAPES / name, Path(folder, name))
    for copy, original in (("z/1", "circle/png"), ("a", "square/png"), ("z/2", "circle/png")):
        Path("val", copy).parent.mkdir(exist_ok=True)
        shutil.copy(f"train/{original}.png", f"val/{copy}.png")
    for name in ("train", "val"):
        table = imgnorm.ImageTable(sha256=True)
        imgnorm.measure(name, per_image=table)
        table.write(f"{name}.csv")
    return "train.csv", "val.csv"


def test_equal_files_are_found_whatever_their_names(tables):
    found = imgnorm.shared_images(*tables)

    assert ((16, 11), 3) == (found.images, found.shared)
    assert (
        ("square/png.png", "a.png"),
        ("circle/png.png", "z/1.png"),
        ("circle/png.png", "z/2.png"),
    ) == found.pairs
    assert ["a.png"] == [p.split(" is ")[0] for p in (found.problems[0].message,)]
    assert 2 == imgnorm.shared_images("val.csv", "train.csv").shared


def test_names_are_bounded_and_the_number_is_not(tables):
    found = imgnorm.shared_images(*tables, limit=1)

    assert (3, 1, 1) == (found.shared, len(found.pairs), len(found.problems))
    assert "  a.png = square/png.png\n  and 2 more" in str(found)


def test_fail_over_is_the_part_that_may_be_shared(tables):
    assert not imgnorm.shared_images(*tables).failed
    assert imgnorm.shared_images(*tables, fail_over=0).failed
    assert imgnorm.shared_images(*tables, fail_over=0.27).failed
    assert not imgnorm.shared_images(*tables, fail_over=3 / 11).failed


def test_tables_without_digests_are_refused(tables):
    table = imgnorm.ImageTable()
    imgnorm.measure("val", per_image=table)
    with pytest.raises(IncompatibleStats, match="b: has no digests of the files; measure it with"):
        imgnorm.shared_images("train.csv", table)


def test_images_that_are_no_files_are_in_no_other_table(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 4, 3), np.uint8))
    table = imgnorm.ImageTable(sha256=True)
    imgnorm.measure(tmp_path / "a.npy", layout="NHWC", per_image=table)

    assert 0 == imgnorm.shared_images(table, table).shared


def test_the_command_takes_two_tables(tables, capsys):
    assert 0 == run(["diff", *tables])
    assert f"{imgnorm.shared_images(*tables)}\n" == capsys.readouterr().out
    assert 1 == run(["diff", *tables, "--fail-over", "0", "--format", "json"])
    expected = imgnorm.shared_images(*tables, fail_over=0).to_dict()
    assert json.loads(json.dumps(expected)) == json.loads(capsys.readouterr().out)
    assert 1 == run(["diff", *tables, "--fail-over", "0", "--format", "github"])
    assert "::error file=val.csv,line=2,col=1,title=imgnorm shared::a.png is square/png.png" in (
        capsys.readouterr().out
    )
    assert 2 == run(["diff", "train.csv", "stats.yaml"])
    assert "train.csv is a table of images, and stats.yaml is not" in capsys.readouterr().err
