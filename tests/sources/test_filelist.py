"""Lists however they were written: a name for each line, relative to the list, each once."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from trees import posix, tree

import imgnorm
from imgnorm.errors import SourceError
from imgnorm.sources.filelist import ListSource
from imgnorm.sources.listing import all_names_of
from imgnorm.sources.names import as_text
from imgnorm.tally.skipped import Reason, Skipped, Unreadable


def write_list(folder: Path, content: bytes) -> ListSource:
    (folder / "list.txt").write_bytes(content)
    return ListSource(str(folder / "list.txt"))


@pytest.mark.parametrize(
    "content",
    [
        b"b/2.jpg\na/1.jpg\n",
        b"b/2.jpg\na/1.jpg",
        b"b/2.jpg\r\na/1.jpg\r\n",
        b"\xef\xbb\xbfb/2.jpg\na/1.jpg\n",
        b"\n\n  \nb/2.jpg\n\t\na/1.jpg\n\n",
        b"./b/2.jpg\na/.//1.jpg\n",
    ],
)
def test_a_list_is_read_however_it_was_written(content, tmp_path):
    tree(tmp_path, "a/1.jpg", "b/2.jpg")
    source = write_list(tmp_path, content)

    names = list(all_names_of(source))

    assert ["a/1.jpg", "b/2.jpg"] == names
    assert [b"x", b"x"] == [source.read(name) for name in names]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_dots_behind_a_link_are_what_the_kernel_makes_of_them(tmp_path):
    """`link/..` is not the folder that holds the link; another file was read without a word."""
    tree(tmp_path, "a/1.jpg", "far/a/deep/x.jpg")
    (tmp_path / "far/a/1.jpg").write_bytes(b"the right one")
    (tmp_path / "link").symlink_to("far/a/deep")

    source = write_list(tmp_path, b"link/../1.jpg\n")

    assert [b"the right one"] == [source.read(name) for name in all_names_of(source)]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_absolute_lines_hold_in_a_list_that_is_reached_through_a_link(tmp_path):
    tree(tmp_path, "far/away/list.txt", "images/1.jpg")
    (tmp_path / "far/away/list.txt").write_text(f"{tmp_path}/images/1.jpg\n")
    (tmp_path / "near").symlink_to("far/away")

    source = ListSource(str(tmp_path / "near" / "list.txt"))

    assert ["../../images/1.jpg"] == list(all_names_of(source))
    assert b"x" == source.read("../../images/1.jpg")


def test_a_file_that_is_listed_twice_is_counted_once_and_named(tmp_path):
    source = write_list(tmp_path, b"a.jpg\nb.jpg\n./a.jpg\na.jpg\n")

    listing = all_names_of(source)

    double = Skipped("a.jpg", Reason.DUPLICATE_NAME, "listed more than once")
    assert (["a.jpg", "b.jpg"], [double, double]) == (list(listing), listing.skipped)


def test_a_file_that_is_listed_twice_is_among_the_names_that_were_counted(tmp_path):
    """It was skipped once and counted once; its name was missing from names_sha256."""
    for name in ("a.ppm", "b.ppm"):
        (tmp_path / name).write_bytes(b"P5 1 1 255 x")
    once = write_list(tmp_path, b"a.ppm\nb.ppm\n")
    expected = imgnorm.measure(once, workers=1).measurement

    twice = write_list(tmp_path, b"a.ppm\nb.ppm\na.ppm\n")
    with pytest.warns(imgnorm.SkippedImagesWarning, match=r"^1 of 3 images were skipped; "):
        measurement = imgnorm.measure(twice, workers=1).measurement

    assert (2, 3) == (measurement.images, measurement.found)
    assert expected.source.names_sha256 == measurement.source.names_sha256


def test_absolute_paths_become_relative_to_the_list(tmp_path):
    """Names are the same on every machine, as far as they can be."""
    tree(tmp_path, "lists/in.png", "images/1.jpg")
    content = f"{tmp_path}/images/1.jpg\n{tmp_path}/lists/in.png\n"
    source = write_list(tmp_path / "lists", content.encode())

    names = list(all_names_of(source))

    assert ["../images/1.jpg", "in.png"] == names
    assert [b"x", b"x"] == [source.read(name) for name in names]


def test_a_list_in_the_working_folder_is_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "a/1.jpg"))
    Path("list.txt").write_text(f"a/1.jpg\n{tmp_path}/a/2.jpg\n")
    source = ListSource("list.txt")

    assert ["a/1.jpg", "a/2.jpg"] == list(all_names_of(source))
    assert b"x" == source.read("a/1.jpg")


def test_any_suffix_is_looked_at(tmp_path):
    tree(tmp_path, "photo", "x.dat", ".hidden", "y.JPG.bak")
    source = write_list(tmp_path, b"photo\nx.dat\n.hidden\ny.JPG.bak\n")

    assert [".hidden", "photo", "x.dat", "y.JPG.bak"] == list(all_names_of(source))
    assert b"x" == source.read("x.dat")


def test_a_listed_file_that_is_missing_is_found_out_when_it_is_read(tmp_path):
    source = write_list(tmp_path, b"gone.jpg\n")

    assert ["gone.jpg"] == list(all_names_of(source))
    with pytest.raises(Unreadable) as caught:
        source.read("gone.jpg")
    assert f"vanished: {os.strerror(errno.ENOENT)}" == str(caught.value)


def test_a_list_has_no_classes(tmp_path):
    assert write_list(tmp_path, b"cat/1.jpg\n").class_of("cat/1.jpg") is None


def test_what_is_no_text_is_refused(tmp_path):
    """A photo that is given as a list by mistake."""
    source = write_list(tmp_path, b"\xff\xd8\xff\xe0\0\x10JFIF\n\0\0\xfe\n" + bytes(range(256)))

    with pytest.raises(SourceError, match="is not a text with one path a line"):
        all_names_of(source)


def test_garbage_in_a_long_list_is_skipped_by_name(tmp_path):
    source = write_list(tmp_path, b"gone.jpg\n" * 500 + bytes(range(256)))

    names = [name for name in all_names_of(source) if name != "gone.jpg"]

    assert names
    for name in names:
        as_text(name).encode()
        with pytest.raises(Unreadable) as caught:
            source.read(name)
        assert caught.value.reason in (Reason.UNREADABLE, Reason.VANISHED)


@pytest.mark.parametrize(
    ("make", "detail"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "not a regular file"),
        pytest.param(os.mkfifo if os.name == "posix" else None, "not a regular file", marks=posix),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(make, detail, tmp_path):
    path = tmp_path / "list.txt"
    make(path)
    with pytest.raises(SourceError) as caught:
        all_names_of(ListSource(str(path)))

    expected = f"{path}: cannot be read as a list ({detail}); name a text file with one path a line"
    assert expected == str(caught.value)
