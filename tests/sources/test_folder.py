"""Folders as found in the wild: every entry is listed, skipped or ignored."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import find_classes
from trees import as_user, posix, tree

from imgnorm.measuring.measure import measure
from imgnorm.sources.filelist import ListSource
from imgnorm.sources.folder import FolderSource
from imgnorm.sources.listing import all_names_of
from imgnorm.sources.names import as_text, name_bytes
from imgnorm.sources.source import Unit
from imgnorm.stats.stats import Stats
from imgnorm.tally.skipped import Reason, Skipped, skipped_order


@dataclass
class Found:
    """What a folder has: names in the order of their bytes, and the others in that of their names."""

    names: list[str]
    skipped: tuple[Skipped, ...] = ()
    ignored: dict[str, int] = field(default_factory=dict)


def found_in(root: Path) -> Found:
    """All entries, after checking that names are unique, relative, and once in a unit."""
    source = FolderSource(str(root))
    listing = all_names_of(source)
    names = list(listing)
    assert sorted({*names}, key=name_bytes) == names
    assert not any(name.startswith("/") for name in names)
    units = [unit for unit in source.units() if isinstance(unit, Unit)]
    assert sorted(name for unit in units for name in unit.names or ()) == sorted(names)
    assert len({unit.id for unit in units}) == len(units)
    return Found(names, tuple(sorted(listing.skipped, key=skipped_order)), dict(listing.ignored))


def entries_of(root: Path) -> int:
    """Files and links below `root`, and what is hidden or junk as one: what a listing must add up to."""
    count = 0
    for folder, folders, names in os.walk(root):
        passed_over = [n for n in folders if n.startswith(".") or n in ("__MACOSX", "@eaDir")]
        links = [n for n in folders if os.path.islink(os.path.join(folder, n))]
        count += len(names) + len({*passed_over, *links})
        folders[:] = [n for n in folders if n not in passed_over]
    return count


def entries_in(found: Found) -> int:
    return len(found.names) + len(found.skipped) + sum(found.ignored.values())


def test_a_plain_tree_has_the_files_and_classes_that_imagefolder_finds(tmp_path):
    tree(
        tmp_path,
        "dog/1.jpg",
        "dog/deep/er/2.PNG",
        "cat/Z.webp",
        "cat/a.JPEG",
        "cat/notes.txt",
        "cat/10.tiff",
        "cat/9.Tif",
        "Émile/x.bmp",
        "Émile/y.pgm",
        "zebra/z.ppm",
    )
    theirs = ImageFolder(str(tmp_path))
    source = FolderSource(str(tmp_path))

    names = list(all_names_of(source))

    assert {os.path.relpath(path, tmp_path) for path, _ in theirs.samples} == set(names)
    assert set(find_classes(str(tmp_path))[0]) == {source.class_of(name) for name in names}
    for path, label in theirs.samples:
        assert theirs.classes[label] == source.class_of(os.path.relpath(path, tmp_path))


def test_names_are_sorted_by_their_bytes_and_not_by_folder(tmp_path):
    """'-' and '.' come before '/': the order does not depend on how the walk goes."""
    tree(tmp_path, "a/1.jpg", "a-b/1.jpg", "a.jpg", "B.jpg", "é.jpg", "z.jpg", "a/b/1.jpg")

    expected = ["B.jpg", "a-b/1.jpg", "a.jpg", "a/1.jpg", "a/b/1.jpg", "z.jpg", "é.jpg"]
    assert expected == list(found_in(tmp_path).names)


def test_what_is_passed_over_is_counted_by_rule(tmp_path):
    tree(
        tmp_path,
        "a/1.jpg",
        "a/.hidden.jpg",
        ".git/objects/1.jpg",
        "a/.ipynb_checkpoints/1.jpg",
        "__MACOSX/a/1.jpg",
        "a/@eaDir/1.jpg",
        "a/Thumbs.db",
        "README",
        "a/1.jpg.part",
        "a/.DS_Store",
    )

    found = found_in(tmp_path)

    assert ["a/1.jpg"] == list(found.names)
    assert {"hidden": 4, "junk": 2, "suffix": 3} == found.ignored
    assert () == found.skipped
    assert entries_of(tmp_path) == entries_in(found)


def test_a_folder_called_like_an_image_is_a_folder(tmp_path):
    tree(tmp_path, "album.jpg/1.png")

    assert Found(["album.jpg/1.png"]) == found_in(tmp_path)


def test_images_outside_class_folders_have_no_class(tmp_path):
    source = FolderSource(str(tree(tmp_path, "1.jpg", "a/b/2.jpg")))

    assert [None, "a"] == [source.class_of(name) for name in all_names_of(source)]


def test_an_empty_folder_is_an_empty_listing(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)

    assert Found([]) == found_in(tmp_path)


def test_a_folder_that_is_gone_is_skipped_by_name(tmp_path):
    expected = (Skipped("./", Reason.VANISHED, "No such file or directory"),)

    assert expected == found_in(tmp_path / "gone").skipped


def test_sources_are_what_they_claim_to_be():
    assert ("folder", "list") == (FolderSource("data").kind, ListSource("list.txt").kind)


@posix
def test_links_to_files_and_folders_are_followed(tmp_path):
    """As ImageFolder does; an image reached twice by links to files counts twice, as it does there."""
    tree(tmp_path, "store/1.jpg", "data/a/2.jpg")
    data = tmp_path / "data"
    (data / "linked").symlink_to("../store")
    (data / "a" / "3.jpg").symlink_to("2.jpg")
    (data / "4.jpg").symlink_to(tmp_path / "store" / "1.jpg")
    (data / "notes").symlink_to("a/2.jpg")

    found = found_in(data)

    assert Found(["4.jpg", "a/2.jpg", "a/3.jpg", "linked/1.jpg"], (), {"suffix": 1}) == found
    for name in found.names:
        assert b"x" == FolderSource(str(data)).read(name)


@posix
def test_a_folder_that_is_linked_twice_is_visited_once_and_by_its_real_name(tmp_path):
    tree(tmp_path, "z/deep/1.jpg")
    (tmp_path / "a").symlink_to("z/deep")
    (tmp_path / "b").symlink_to("z/deep")

    assert Found(["z/deep/1.jpg"], (), {"folder-linked-twice": 2}) == found_in(tmp_path)


@posix
def test_two_links_to_a_folder_outside_are_one(tmp_path):
    tree(tmp_path, "store/1.jpg", "data/x.jpg")
    for name in "ab":
        (tmp_path / "data" / name).symlink_to("../store")

    expected = Found(["a/1.jpg", "x.jpg"], (), {"folder-linked-twice": 1})
    assert expected == found_in(tmp_path / "data")


@posix
def test_links_that_go_round_in_circles_are_named(tmp_path):
    """They hang os.walk(followlinks=True) and glob("**")."""
    tree(tmp_path, "a/b/1.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to("..")
    (tmp_path / "a" / "root").symlink_to("..")
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "self.jpg").symlink_to("self.jpg")

    found = found_in(tmp_path)

    words = os.strerror(errno.ELOOP)
    assert ["a/b/1.jpg"] == list(found.names)
    assert (
        Skipped("a/b/up/", Reason.SYMLINK_LOOP, "a link to a folder above it"),
        Skipped("a/root/", Reason.SYMLINK_LOOP, "a link to a folder above it"),
        Skipped("self", Reason.SYMLINK_LOOP, words),
        Skipped("self.jpg", Reason.SYMLINK_LOOP, words),
        Skipped("x", Reason.SYMLINK_LOOP, words),
        Skipped("y", Reason.SYMLINK_LOOP, words),
    ) == found.skipped
    assert entries_of(tmp_path) == entries_in(found)


@posix
def test_two_folders_that_link_to_each_other_end(tmp_path):
    tree(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "b").symlink_to("../b")
    (tmp_path / "b" / "a").symlink_to("../a")

    assert Found(["a/1.jpg", "b/2.jpg"], (), {"folder-linked-twice": 2}) == found_in(tmp_path)


@posix
def test_links_to_nothing_are_named_if_they_look_like_images(tmp_path):
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "gone").symlink_to("nowhere")
    tree(tmp_path, "file")
    (tmp_path / "through.jpg").symlink_to("file/below.jpg")

    found = found_in(tmp_path)

    assert (
        Skipped("gone.jpg", Reason.DANGLING_LINK, "a link to nothing"),
        Skipped("through.jpg", Reason.DANGLING_LINK, "a link to nothing"),
    ) == found.skipped
    assert {"suffix": 2} == found.ignored


@posix
def test_what_is_no_regular_file_is_named_and_never_opened(tmp_path, monkeypatch):
    """A FIFO called x.jpg hangs Pillow and ImageFolder for ever."""
    os.mkfifo(tmp_path / "fifo.jpg")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")

        found = found_in(tmp_path)

    odd, link = "not a regular file", "a link to something that is not a file"
    assert (
        Skipped("device.jpg", Reason.NOT_A_REGULAR_FILE, link),
        Skipped("fifo.jpg", Reason.NOT_A_REGULAR_FILE, odd),
        Skipped("socket.jpg", Reason.NOT_A_REGULAR_FILE, odd),
    ) == found.skipped
    assert {"suffix": 1} == found.ignored


@posix
@as_user
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    """os.walk drops it without a word."""
    tree(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a").chmod(0)

    found = found_in(tmp_path)

    (tmp_path / "a").chmod(0o700)
    assert Found(["b/2.jpg"], (Skipped("a/", Reason.UNREADABLE, "Permission denied"),)) == found


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """The same for root, who may read everything but a broken disk."""
    tree(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    real_scandir = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        faults = {"a": errno.EACCES, "c": errno.EIO}
        if os.path.basename(path) in faults:
            raise OSError(faults[os.path.basename(path)], "no")
        return real_scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)

    assert Found(
        ["b/2.jpg"],
        (
            Skipped("a/", Reason.UNREADABLE, os.strerror(errno.EACCES)),
            Skipped("c/", Reason.READ_ERROR, os.strerror(errno.EIO)),
        ),
    ) == found_in(tmp_path)


def test_an_entry_whose_type_cannot_be_told_is_named(tmp_path, monkeypatch):
    """On XFS without ftype, and on some network drives, scandir's entries must ask the disk."""

    def ask(follow_symlinks: bool = True) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    odd = SimpleNamespace(name="odd.jpg", is_symlink=lambda: False, is_dir=ask, is_file=ask)
    monkeypatch.setattr(os, "scandir", lambda path: nullcontext([odd]))

    expected = Skipped("odd.jpg", Reason.READ_ERROR, os.strerror(errno.EIO))
    assert Found([], (expected,)) == found_in(tmp_path)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Callable[[str, int], Path]]:
    """A folder in a folder in a folder, with an image in the innermost; deeper than rmtree can remove."""
    root = tmp_path / "chain"
    root.mkdir()

    def made(part: str, levels: int) -> Path:
        handle = os.open(root, os.O_RDONLY)
        for _ in range(levels):
            os.mkdir(part, dir_fd=handle)
            below = os.open(part, os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = below
        os.close(os.open("1.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
        os.close(handle)
        return root

    yield made
    subprocess.run(["rm", "-rf", root], check=True)


@posix
def test_a_tree_of_1100_levels_is_walked(chain):
    """os.walk, rglob and glob end in RecursionError on Python 3.11."""
    root = chain("d", 1100)

    found = found_in(root)

    assert Found(["d/" * 1100 + "1.jpg"]) == found
    assert b"" == FolderSource(str(root)).read(found.names[0])


@posix
def test_a_path_that_is_too_long_for_the_system_is_named(chain):
    root = chain("x" * 250, 20)

    found = found_in(root)

    (skipped,) = found.skipped
    expected = Reason.PATH_TOO_LONG, os.strerror(errno.ENAMETOOLONG)
    assert expected == (skipped.reason, skipped.detail)


ODD_NAMES = [
    b"-rf.jpg",
    b"new\nline.jpg",
    b"tab\t.jpg",
    b"\xff\xfe not utf-8.jpg",
    "😀.jpg".encode(),
    "e\u0301.jpg".encode(),
    "é.jpg".encode(),
    b"back\\slash.jpg",
    b"quote'\".jpg",
    b" space .jpg",
    b"%00.jpg",
    b"*.jpg",
    b"~.jpg",
    b"$HOME.jpg",
    b"\x1b[31mred.jpg",
    b"x" * 251 + b".jpg",
]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse some of these names")
def test_any_name_that_the_file_system_takes_is_listed_and_read(tmp_path):
    for index, name in enumerate(ODD_NAMES):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(bytes([index]))
    source = FolderSource(str(tmp_path))

    names = list(all_names_of(source))

    assert sorted(ODD_NAMES) == [name_bytes(name) for name in names]
    assert {name: bytes([index]) for index, name in enumerate(ODD_NAMES)} == {
        name_bytes(name): source.read(name) for name in names
    }
    for name in names:
        as_text(name).encode()  # can be printed and stored anywhere


@pytest.mark.parametrize("suffix", ["", "/", "/."])
def test_a_folder_may_end_in_a_slash(suffix, tmp_path):
    source = FolderSource(str(tree(tmp_path, "a/1.jpg")) + suffix)

    assert (["a/1.jpg"], b"x") == (list(all_names_of(source)), source.read("a/1.jpg"))


def test_the_working_folder_can_be_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "a/1.jpg"))

    assert (["a/1.jpg"], b"x") == (
        list(all_names_of(FolderSource("."))),
        FolderSource(".").read("a/1.jpg"),
    )


# ── other extensions ──


@pytest.mark.parametrize("packing", ["", "zip", "tar", "tar.gz"])
def test_extensions_that_imagefolder_leaves_out_count_where_there_are_no_others(tmp_path, packing):
    """GIF, AVIF, JPEG 2000 and QOI files are read, but beside others only what ImageFolder would read."""
    pictures = tree(tmp_path / "pictures", "a/1.gif", "b/2.AVIF", "3.txt")
    for file, format_ in (("a/1.gif", "GIF"), ("b/2.AVIF", "AVIF")):
        Image.new("RGB", (4, 4), (255, 0, 51)).save(pictures / file, format_)
    alone = measured(pictures, packing)
    shutil.copytree(tmp_path / "pictures", tmp_path / "more")
    more = tree(tmp_path / "more", "c/9.heic", "c/x.heic")
    Image.new("RGB", (4, 4)).save(more / "c" / "5.png")
    beside = measured(more, packing)

    assert (2, {"suffix": 1}) == (alone.images, dict(alone.measurement.ignored))
    assert (1.0, 0.0) == alone.mean[:2]
    assert 1 == beside.images
    assert {
        "suffix": 1,
        "suffix .avif": 1,
        "suffix .gif": 1,
        "suffix .heic": 2,
    } == dict(sorted(beside.measurement.ignored.items()))


def measured(folder: Path, packing: str) -> Stats:
    if not packing:
        return measure(folder, workers=1)
    file = f"{folder}.{packing}"
    if packing == "zip":
        shutil.make_archive(str(folder), "zip", folder)
    else:
        with tarfile.open(file, "w:gz" if packing == "tar.gz" else "w") as archive:
            archive.add(folder, "")
    return measure(file, workers=1)
