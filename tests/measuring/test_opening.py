"""Several sources in one call, lists on standard input, and what to do with what no source opens."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import imgnorm
from imgnorm.errors import ImgnormError
from imgnorm.measuring.opening import open_sources
from imgnorm.sources.paths import matching


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Two folders whose images have the same names, and three archives of one image each."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    pixels = {}
    for folder in ("left", "right"):
        for place in range(3):
            path = f"{folder}/{place}.png"
            os.makedirs(folder, exist_ok=True)
            pixels[path] = random.integers(0, 256, (5 + place, 7, 3), np.uint8)
            Image.fromarray(pixels[path]).save(path)
    for place in range(3):
        path = f"right/{place}.png"
        with tarfile.open(f"t-{place:02d}.tar", "w") as tar:
            tar.add(path, "x.png")
        pixels[f"t-{place:02d}.tar"] = pixels[path]
    return pixels


def _counted_by_numpy(images):
    values = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.int64)
    return len(values), tuple(values.sum(0).tolist()), tuple((values**2).sum(0).tolist())


@pytest.mark.parametrize(
    ("named", "counted"),
    [
        (["left", "right"], ["left/", "right/"]),
        (["left", "t-01.tar"], ["left/", "t-01.tar"]),
        (["t-02.tar", "left", "t-00.tar"], ["left/", "t-02.tar", "t-00.tar"]),
        (["t-00.tar", "t-01.tar", "t-02.tar"], ["t-0"]),
        ([Path("left"), "t-0{1,2}.tar"], ["left/", "t-01.tar", "t-02.tar"]),
    ],
)
def test_several_sources_are_counted_together_and_each_once(sources, named, counted):
    stats = imgnorm.measure(named, workers=1)
    images = [image for path, image in sources.items() if path.startswith(tuple(counted))]
    moments = stats.measurement.pixels.moments()
    assert (moments.count, moments.total, moments.total_sq) == _counted_by_numpy(images)
    assert stats.images == len(images)


def test_several_sources_give_what_merging_their_files_gives(sources, tmp_path):
    done = []
    whole = imgnorm.measure(["left", "t-01.tar"], on_progress=lambda now: done.append(now.done))
    parts = [imgnorm.measure("left"), imgnorm.measure("t-01.tar")]
    assert whole == imgnorm.merge(parts)
    assert done == sorted(done)
    assert done[-1] == 4
    shards = [imgnorm.measure(["left", "t-01.tar"], shard=(i, 2)) for i in (1, 2)]
    assert imgnorm.merge(shards) == whole


@pytest.mark.parametrize(
    "paths",
    [
        ["a/circle.tar", "a/square.tar"],
        ["t-000.tar", "t-001.tar", "t-002.tar"],
        ["8.tar", "9.tar", "10.tar"],
        ["1.zip", "11.zip"],
        ["x/a-8.tar", "x/a-9.tar", "y/a-8.tgz"],
    ],
)
def test_archives_that_the_shell_names_are_one_source(tmp_path, monkeypatch, paths):
    monkeypatch.chdir(tmp_path)
    for path in map(Path, paths):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (source,) = open_sources(paths)
    assert sorted(matching(source.ref)) == sorted(paths)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["left", "left"], "left: would be counted twice; name it once"),
        (["left", "./left"], "./left: is also in left, and so would be counted twice; name it once"),
        (["t-00.tar", "*.tar"], "t-00.tar: is also in t-00.tar, and so would be counted twice"),
        (["left", "."], "left: lies in ., so it would be counted twice; leave it out"),
        (["left", "none"], "none: no such file or folder"),
        (["left", "hollow"], "hollow: no images in it"),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_together_is_refused(sources, named, message):
    os.mkdir("hollow")
    with pytest.raises(ImgnormError) as fault:
        imgnorm.measure(named)
    assert str(fault.value).startswith(message)


def test_options_for_one_source_are_refused_beside_several(sources):
    for option in ({"limit": 2}, {"tolerance": 0.1}):
        with pytest.raises(ValueError, match=" is for one source; leave it out, or name one"):
            imgnorm.measure(["left", "right"], **option)


def test_a_list_on_standard_input_is_relative_to_the_current_folder(sources, command, monkeypatch):
    listed = b"left/0.png\nright/1.png\n\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(listed)))
    assert command("stats", "--list", "-", "-q", "-o", "s.yaml").code == 0
    stats = imgnorm.read_stats("s.yaml")
    images = [sources["left/0.png"], sources["right/1.png"]]
    moments = stats.measurement.pixels.moments()
    assert (moments.count, moments.total, moments.total_sq) == _counted_by_numpy(images)
    ended = command("verify", "s.yaml")
    assert (ended.code, "from a list on standard input" in ended.err) == (2, True)
    assert command("report", "s.yaml").code == 0  # waits for nobody to type a list again
    Path("list.txt").write_bytes(listed)
    assert command("verify", "s.yaml", "list.txt").code == 0
    Path("list.txt").write_bytes(b"left/0.png\0left/1.png\0")
    ended = command("stats", "--list", "list.txt")
    assert (ended.code, "it has null bytes" in ended.err) == (2, True)
    assert command("stats", f"file://{Path.cwd()}").err.endswith("; leave file:// out\n")
    monkeypatch.setattr(sys, "stdin", None)
    ended = command("stats", "--list", "-")
    assert (ended.code, ended.err.startswith("-: standard input cannot be read")) == (2, True)


def test_what_no_source_opens_has_a_way_out(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("scans/one").mkdir(parents=True)
    for name in ("a.h5", "a.parquet", "a.pt", "a.mp4", "scans/one/a.dcm"):
        Path(name).write_bytes(b"something")
    Path("list").write_text("s3://bucket/a.png\n")
    Path("list2").write_text("a.h5\nb.h5\n")
    with zipfile.ZipFile("a.pt", "w") as file:  # as torch.save writes it
        file.writestr("archive/data.pkl", b"")
    expected = {
        "s3://bucket/train": "s3://bucket/train: is a URL, and imgnorm reads files",
        "https://host/{1,2}.tar": "https://host/{1,2}.tar: is a URL",
        "a.h5": "a.h5: is read by a Dataset of yours",
        "a.parquet": "a.parquet: is read by a Dataset of yours",
        "a.pt": "a.pt: is read by a Dataset of yours",
        "a.mp4": "a.mp4: is read by a Dataset of yours",
        "scans": "scans: no images in it (passed over: 1 suffix .dcm); a.dcm is read by a Dataset",
        "scans/one/*.dcm": "scans/one/a.dcm: is read by a Dataset of yours",
        "--list list2": "list2: 'a.h5' is read by a Dataset of yours",
        "--list list": "list: 's3://bucket/a.png' is a URL, and imgnorm reads files",
    }
    recipes = (Path(__file__).parents[2] / "docs/recipes.md").read_text(encoding="utf-8")
    for arguments, begins in expected.items():
        ended = command("stats", *arguments.split())
        assert (ended.code, ended.err[: len(begins)]) == (2, begins)
        assert f"\n## {ended.err.split(chr(39))[-2]}\n" in recipes, arguments
