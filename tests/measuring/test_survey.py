"""What a dry run finds, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from imgnorm.errors import SourceError
from imgnorm.measuring.survey import survey


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with three images and a broken one, and 20 archives of two images each."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("d")
    Image.new("RGB", (8, 8)).save("d/a.png")
    Image.new("L", (8, 8)).save("d/b.PNG")
    Image.new("RGB", (8, 8)).save("d/c.jpg")
    with open("d/broken.jpg", "wb") as file:
        file.write(b"no image")
    for place in range(20):
        with tarfile.open(f"{place:02d}.tar", "w") as tar:
            tar.add("d/a.png", "1.png")
            tar.add("d/c.jpg", "2.jpg")
    np.save("x.npy", np.zeros((7, 5, 6, 3), np.uint8))
    return tmp_path


def _size(*paths):
    return sum(os.path.getsize(path) for path in paths)


def test_all_of_a_small_folder_is_looked_at(here):
    found = survey("d", workers=1)
    assert (found.images, found.sample, found.skipped, found.exact) == (4, 4, 1, True)
    assert found.extensions == {".png": 2, ".jpg": 2}
    assert (found.modes, found.formats) == ({"RGB": 2, "L": 1}, {"PNG": 2, "JPEG": 1})
    assert found.bytes == _size("d/a.png", "d/b.PNG", "d/c.jpg", "d/broken.jpg")
    assert found.seconds > 0


def test_of_many_archives_some_are_opened(here):
    found = survey("*.tar", workers=1)
    assert (found.images, found.archives, found.opened, found.exact) == (40, 20, 8, False)
    assert (found.bytes, found.bytes_exact) == (20 * _size("00.tar"), True)
    few = survey("*.tar", workers=1, shard=(1, 5))
    assert (few.images, few.archives, few.exact) == (8, 4, True)


def test_surveys_of_several_sources_add_up(here):
    found = survey(["d", "00.tar", "x.npy"], workers=1)
    assert (found.images, found.archives, found.sample) == (4 + 2 + 7, 1, 13)
    assert found.extensions == {".png": 3, ".jpg": 3, "": 7}
    limited = survey("d", workers=1, limit=2)
    assert (limited.images, sum(limited.extensions.values())) == (2, 2)


def test_a_dry_run_writes_nothing(here, command):
    ended = command("stats", "*.tar", "--dry-run", "-o", "s.yaml", "--workers", "1")
    assert (ended.code, ended.err, os.path.exists("s.yaml")) == (0, "", False)
    found, sample, time = ended.out.splitlines()
    assert found.startswith(
        "found    about 40 images in 20 archives, of which 8 were opened (8 .png,"
    )
    assert sample == "sample   16 measured: 16 RGB; 8 PNG, 8 JPEG; 0 skipped"
    assert time.startswith("time     about ")
    ended = command("stats", "x.npy", "--dry-run", "--json")
    assert json.loads(ended.out)["images"] == 7
    ended = command("stats", "d", "--dry-run", "--tolerance", "0.1")
    assert (ended.code, ended.err.startswith("a dry run says how long all images take")) == (
        2,
        True,
    )


def test_a_source_that_can_be_read_once_is_left_alone():
    images = iter([Image.new("RGB", (2, 2))])
    with pytest.raises(SourceError, match="its images come once"):
        survey(images)
    assert len(list(images)) == 1


def test_a_source_without_an_image_that_can_be_counted_is_refused(here):
    with pytest.raises(SourceError, match="no image could be counted, out of 1"):
        survey("d", include="broken.*", workers=1)
    with pytest.raises(SourceError, match="no images in it"):
        survey("d", include="none", workers=1)
