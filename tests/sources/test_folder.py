"""Trees, lists and files as they are met in the wild: every entry is listed, skipped or ignored."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS as TORCHVISION_EXTENSIONS
from torchvision.datasets.folder import find_classes

import imgnorm
from imgnorm.datasets.source import ArraySource
from imgnorm.errors import SourceError
from imgnorm.sources import files as files_module
from imgnorm.sources.filelist import ListSource
from imgnorm.sources.files import IMG_EXTENSIONS, read_file
from imgnorm.sources.folder import FolderSource
from imgnorm.sources.names import as_text, name_bytes
from imgnorm.sources.source import EncodedSource, Listing
from imgnorm.tally.skipped import Reason, Skipped, Unreadable

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX file system")
as_user = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def listing_of(root: Path) -> Listing:
    """The listing, after checking that names are unique, sorted by their bytes and relative."""
    listing = FolderSource(str(root)).listing()
    assert sorted({*listing.names}, key=name_bytes) == list(listing.names)
    assert not any(name.startswith("/") for name in listing.names)
    return listing


def entries_of(root: Path) -> int:
    """Files and links below `root`, and what is hidden or junk as one: what a listing must add up to."""
    count = 0
    for folder, folders, names in os.walk(root):
        passed_over = [n for n in folders if n.startswith(".") or n in ("__MACOSX", "@eaDir")]
        links = [n for n in folders if os.path.islink(os.path.join(folder, n))]
        count += len(names) + len({*passed_over, *links})
        folders[:] = [n for n in folders if n not in passed_over]
    return count


def found(listing: Listing) -> int:
    return len(listing.names) + len(listing.skipped) + sum(listing.ignored.values())


# Folders


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

    names = source.listing().names

    assert {os.path.relpath(path, tmp_path) for path, _ in theirs.samples} == set(names)
    assert set(find_classes(str(tmp_path))[0]) == {source.class_of(name) for name in names}
    for path, label in theirs.samples:
        assert theirs.classes[label] == source.class_of(os.path.relpath(path, tmp_path))


def test_the_suffixes_are_torchvision_s():
    assert TORCHVISION_EXTENSIONS == IMG_EXTENSIONS


def test_names_are_sorted_by_their_bytes_and_not_by_folder(tmp_path):
    """'-' and '.' come before '/': the order does not depend on how the walk goes."""
    tree(tmp_path, "a/1.jpg", "a-b/1.jpg", "a.jpg", "B.jpg", "é.jpg", "z.jpg", "a/b/1.jpg")

    expected = ["B.jpg", "a-b/1.jpg", "a.jpg", "a/1.jpg", "a/b/1.jpg", "z.jpg", "é.jpg"]
    assert expected == list(listing_of(tmp_path).names)


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

    listing = listing_of(tmp_path)

    assert ["a/1.jpg"] == list(listing.names)
    assert {"hidden": 4, "junk": 2, "suffix": 3} == listing.ignored
    assert () == listing.skipped
    assert entries_of(tmp_path) == found(listing)


def test_a_folder_called_like_an_image_is_a_folder(tmp_path):
    tree(tmp_path, "album.jpg/1.png")

    assert Listing(["album.jpg/1.png"]) == listing_of(tmp_path)


def test_images_outside_class_folders_have_no_class(tmp_path):
    source = FolderSource(str(tree(tmp_path, "1.jpg", "a/b/2.jpg")))

    assert [None, "a"] == [source.class_of(name) for name in source.listing().names]


def test_an_empty_folder_is_an_empty_listing(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)

    assert Listing([]) == listing_of(tmp_path)


def test_a_folder_that_is_gone_is_skipped_by_name(tmp_path):
    expected = (Skipped("./", Reason.VANISHED, "No such file or directory"),)

    assert expected == listing_of(tmp_path / "gone").skipped


def test_sources_are_what_they_claim_to_be(tmp_path):
    for source in (FolderSource("data"), ListSource("list.txt")):
        assert isinstance(source, EncodedSource)
        assert not isinstance(source, ArraySource)
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

    listing = listing_of(data)

    assert Listing(["4.jpg", "a/2.jpg", "a/3.jpg", "linked/1.jpg"], (), {"suffix": 1}) == listing
    for name in listing.names:
        assert b"x" == FolderSource(str(data)).read(name)


@posix
def test_a_folder_that_is_linked_twice_is_visited_once_and_by_its_real_name(tmp_path):
    tree(tmp_path, "z/deep/1.jpg")
    (tmp_path / "a").symlink_to("z/deep")
    (tmp_path / "b").symlink_to("z/deep")

    assert Listing(["z/deep/1.jpg"], (), {"folder-linked-twice": 2}) == listing_of(tmp_path)


@posix
def test_two_links_to_a_folder_outside_are_one(tmp_path):
    tree(tmp_path, "store/1.jpg", "data/x.jpg")
    for name in "ab":
        (tmp_path / "data" / name).symlink_to("../store")

    expected = Listing(["a/1.jpg", "x.jpg"], (), {"folder-linked-twice": 1})
    assert expected == listing_of(tmp_path / "data")


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

    listing = listing_of(tmp_path)

    words = os.strerror(errno.ELOOP)
    assert ["a/b/1.jpg"] == list(listing.names)
    assert (
        Skipped("a/b/up/", Reason.SYMLINK_LOOP, "a link to a folder above it"),
        Skipped("a/root/", Reason.SYMLINK_LOOP, "a link to a folder above it"),
        Skipped("self", Reason.SYMLINK_LOOP, words),
        Skipped("self.jpg", Reason.SYMLINK_LOOP, words),
        Skipped("x", Reason.SYMLINK_LOOP, words),
        Skipped("y", Reason.SYMLINK_LOOP, words),
    ) == listing.skipped
    assert entries_of(tmp_path) == found(listing)


@posix
def test_two_folders_that_link_to_each_other_end(tmp_path):
    tree(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "b").symlink_to("../b")
    (tmp_path / "b" / "a").symlink_to("../a")

    assert Listing(["a/1.jpg", "b/2.jpg"], (), {"folder-linked-twice": 2}) == listing_of(tmp_path)


@posix
def test_links_to_nothing_are_named_if_they_look_like_images(tmp_path):
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "gone").symlink_to("nowhere")
    tree(tmp_path, "file")
    (tmp_path / "through.jpg").symlink_to("file/below.jpg")

    listing = listing_of(tmp_path)

    assert (
        Skipped("gone.jpg", Reason.DANGLING_LINK, "a link to nothing"),
        Skipped("through.jpg", Reason.DANGLING_LINK, "a link to nothing"),
    ) == listing.skipped
    assert {"suffix": 2} == listing.ignored


@posix
def test_what_is_no_regular_file_is_named_and_never_opened(tmp_path, monkeypatch):
    """A FIFO called x.jpg hangs Pillow and ImageFolder for ever."""
    os.mkfifo(tmp_path / "fifo.jpg")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")

        listing = listing_of(tmp_path)

    odd, link = "not a regular file", "a link to something that is not a file"
    assert (
        Skipped("device.jpg", Reason.NOT_A_REGULAR_FILE, link),
        Skipped("fifo.jpg", Reason.NOT_A_REGULAR_FILE, odd),
        Skipped("socket.jpg", Reason.NOT_A_REGULAR_FILE, odd),
    ) == listing.skipped
    assert {"suffix": 1} == listing.ignored


@posix
@as_user
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    """os.walk drops it without a word."""
    tree(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a").chmod(0)

    listing = listing_of(tmp_path)

    (tmp_path / "a").chmod(0o700)
    assert Listing(["b/2.jpg"], (Skipped("a/", Reason.UNREADABLE, "Permission denied"),)) == listing


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

    assert Listing(
        ["b/2.jpg"],
        (
            Skipped("a/", Reason.UNREADABLE, os.strerror(errno.EACCES)),
            Skipped("c/", Reason.READ_ERROR, os.strerror(errno.EIO)),
        ),
    ) == listing_of(tmp_path)


def test_an_entry_whose_type_cannot_be_told_is_named(tmp_path, monkeypatch):
    """On XFS without ftype, and on some network drives, scandir's entries must ask the disk."""

    def ask(follow_symlinks: bool = True) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    odd = SimpleNamespace(name="odd.jpg", is_symlink=lambda: False, is_dir=ask, is_file=ask)
    monkeypatch.setattr(os, "scandir", lambda path: nullcontext([odd]))

    expected = Skipped("odd.jpg", Reason.READ_ERROR, os.strerror(errno.EIO))
    assert Listing([], (expected,)) == listing_of(tmp_path)


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

    listing = listing_of(root)

    assert Listing(["d/" * 1100 + "1.jpg"]) == listing
    assert b"" == FolderSource(str(root)).read(listing.names[0])


@posix
def test_a_path_that_is_too_long_for_the_system_is_named(chain):
    root = chain("x" * 250, 20)

    listing = listing_of(root)

    (skipped,) = listing.skipped
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

    listing = source.listing()

    assert sorted(ODD_NAMES) == [name_bytes(name) for name in listing.names]
    assert {name: bytes([index]) for index, name in enumerate(ODD_NAMES)} == {
        name_bytes(name): source.read(name) for name in listing.names
    }
    for name in listing.names:
        as_text(name).encode()  # can be printed and stored anywhere


def test_undecodable_bytes_are_shown_as_escapes():
    assert r"a\xff\xfeé.jpg" == as_text(os.fsdecode(b"a\xff\xfe\xc3\xa9.jpg"))


@pytest.mark.parametrize("suffix", ["", "/", "/."])
def test_a_folder_may_end_in_a_slash(suffix, tmp_path):
    source = FolderSource(str(tree(tmp_path, "a/1.jpg")) + suffix)

    assert (["a/1.jpg"], b"x") == (source.listing().names, source.read("a/1.jpg"))


def test_the_working_folder_can_be_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "a/1.jpg"))

    assert (["a/1.jpg"], b"x") == (
        FolderSource(".").listing().names,
        FolderSource(".").read("a/1.jpg"),
    )


# Lists


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

    listing = source.listing()

    assert Listing(["a/1.jpg", "b/2.jpg"]) == listing
    assert [b"x", b"x"] == [source.read(name) for name in listing.names]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_dots_behind_a_link_are_what_the_kernel_makes_of_them(tmp_path):
    """`link/..` is not the folder that holds the link; another file was read without a word."""
    tree(tmp_path, "a/1.jpg", "far/a/deep/x.jpg")
    (tmp_path / "far/a/1.jpg").write_bytes(b"the right one")
    (tmp_path / "link").symlink_to("far/a/deep")

    source = write_list(tmp_path, b"link/../1.jpg\n")

    assert [b"the right one"] == [source.read(name) for name in source.listing().names]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_absolute_lines_hold_in_a_list_that_is_reached_through_a_link(tmp_path):
    tree(tmp_path, "far/away/list.txt", "images/1.jpg")
    (tmp_path / "far/away/list.txt").write_text(f"{tmp_path}/images/1.jpg\n")
    (tmp_path / "near").symlink_to("far/away")

    source = ListSource(str(tmp_path / "near" / "list.txt"))

    assert ["../../images/1.jpg"] == source.listing().names
    assert b"x" == source.read("../../images/1.jpg")


def test_a_file_that_is_listed_twice_is_counted_once_and_named(tmp_path):
    source = write_list(tmp_path, b"a.jpg\nb.jpg\n./a.jpg\na.jpg\n")

    double = Skipped("a.jpg", Reason.DUPLICATE_NAME, "listed more than once")
    assert Listing(["a.jpg", "b.jpg"], (double, double)) == source.listing()


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

    names = source.listing().names

    assert ["../images/1.jpg", "in.png"] == names
    assert [b"x", b"x"] == [source.read(name) for name in names]


def test_a_list_in_the_working_folder_is_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "a/1.jpg"))
    Path("list.txt").write_text(f"a/1.jpg\n{tmp_path}/a/2.jpg\n")
    source = ListSource("list.txt")

    assert ["a/1.jpg", "a/2.jpg"] == source.listing().names
    assert b"x" == source.read("a/1.jpg")


def test_any_suffix_is_looked_at(tmp_path):
    tree(tmp_path, "photo", "x.dat", ".hidden", "y.JPG.bak")
    source = write_list(tmp_path, b"photo\nx.dat\n.hidden\ny.JPG.bak\n")

    assert [".hidden", "photo", "x.dat", "y.JPG.bak"] == source.listing().names
    assert b"x" == source.read("x.dat")


def test_a_listed_file_that_is_missing_is_found_out_when_it_is_read(tmp_path):
    source = write_list(tmp_path, b"gone.jpg\n")

    assert ["gone.jpg"] == source.listing().names
    with pytest.raises(Unreadable) as caught:
        source.read("gone.jpg")
    assert f"vanished: {os.strerror(errno.ENOENT)}" == str(caught.value)


def test_a_list_has_no_classes(tmp_path):
    assert write_list(tmp_path, b"cat/1.jpg\n").class_of("cat/1.jpg") is None


def test_what_is_no_text_lists_nothing_that_can_be_read(tmp_path):
    """A photo given as a list by mistake: lines of garbage, each skipped by name, no crash."""
    source = write_list(tmp_path, b"\xff\xd8\xff\xe0\0\x10JFIF\n\0\0\xfe\n" + bytes(range(256)))

    names = source.listing().names

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
        ListSource(str(path)).listing()

    expected = f"{path}: cannot be read as a list ({detail}); name a text file with one path a line"
    assert expected == str(caught.value)


# Files


def fault_of(path: str | Path) -> str:
    with pytest.raises(Unreadable) as caught:
        read_file(str(path))
    return str(caught.value)


def test_a_file_is_read_whole(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "x").write_bytes(data)

    assert data == read_file(str(tmp_path / "x"))


def test_an_empty_file_is_read(tmp_path):
    (tmp_path / "x").write_bytes(b"")

    assert b"" == read_file(str(tmp_path / "x"))


def test_a_missing_file_has_vanished(tmp_path):
    tree(tmp_path, "file")
    words = os.strerror(errno.ENOENT), os.strerror(errno.ENOTDIR)

    assert f"vanished: {words[0]}" == fault_of(tmp_path / "gone")
    assert f"vanished: {words[1]}" == fault_of(tmp_path / "file" / "below")


@posix
def test_what_is_no_regular_file_is_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "to-fifo").symlink_to("fifo")
    (tmp_path / "to-zero").symlink_to("/dev/zero")
    for path in ("fifo", "to-fifo", "to-zero", "."):
        assert "not-a-regular-file: not a regular file" == fault_of(tmp_path / path)
    assert "not-a-regular-file: not a regular file" == fault_of("/dev/null")


@posix
def test_a_file_that_becomes_a_fifo_before_it_is_opened_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"x")
    real_open = os.open

    def open_late(path: str, flags: int) -> int:
        os.unlink(path)
        os.mkfifo(path)
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", open_late)

    assert "not-a-regular-file: not a regular file" == fault_of(path)


@posix
def test_links_in_circles_and_long_names_have_their_own_reasons(tmp_path):
    (tmp_path / "loop").symlink_to("loop")

    assert f"symlink-loop: {os.strerror(errno.ELOOP)}" == fault_of(tmp_path / "loop")
    assert f"path-too-long: {os.strerror(errno.ENAMETOOLONG)}" == fault_of(tmp_path / ("x" * 256))


def test_a_name_with_a_nul_is_unreadable(tmp_path):
    assert "unreadable: embedded null byte" == fault_of(f"{tmp_path}/a\0b")


@posix
@as_user
def test_a_file_that_may_not_be_read_is_unreadable(tmp_path):
    (tmp_path / "x").touch(mode=0)

    assert "unreadable: Permission denied" == fault_of(tmp_path / "x")


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"12345")
    monkeypatch.setattr(files_module, "MAX_FILE_BYTES", 5)
    assert b"12345" == read_file(str(tmp_path / "x"))

    monkeypatch.setattr(files_module, "MAX_FILE_BYTES", 4)
    assert "too-large-file: 5 bytes; the limit is 4" == fault_of(tmp_path / "x")


def test_three_gigabytes_of_nothing_are_not_read(tmp_path):
    with open(tmp_path / "sparse.jpg", "wb") as file:
        file.truncate(3 << 30)

    expected = "too-large-file: 3,221,225,472 bytes; the limit is 2,147,483,648"
    assert expected == fault_of(tmp_path / "sparse.jpg")


@dataclass
class Faulty:
    """An os.open that fails `failures` times."""

    failures: int
    number: int
    calls: int = 0

    def __call__(self, path: str, flags: int) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError(self.number, os.strerror(self.number))
        return REAL_OPEN(path, flags)


REAL_OPEN = os.open


def test_a_passing_fault_of_the_storage_is_tried_once_more(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"x")
    faulty = Faulty(failures=1, number=errno.EIO)
    monkeypatch.setattr(os, "open", faulty)

    assert (b"x", 2) == (read_file(str(tmp_path / "x")), faulty.calls)


def test_a_lasting_fault_of_the_storage_is_a_read_error(tmp_path, monkeypatch):
    """And not "corrupt": the file may be whole."""
    (tmp_path / "x").write_bytes(b"x")
    faulty = Faulty(failures=9, number=errno.EIO)
    monkeypatch.setattr(os, "open", faulty)

    expected = f"read-error: {os.strerror(errno.EIO)}"
    assert (expected, 2) == (fault_of(tmp_path / "x"), faulty.calls)


def test_what_will_not_pass_is_not_tried_again(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"x")
    faulty = Faulty(failures=9, number=errno.EACCES)
    monkeypatch.setattr(os, "open", faulty)

    expected = f"unreadable: {os.strerror(errno.EACCES)}"
    assert (expected, 1) == (fault_of(tmp_path / "x"), faulty.calls)


def test_a_file_that_vanishes_between_two_tries_has_vanished(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"x")

    def open_and_lose(path: str, flags: int) -> int:
        os.unlink(path)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "open", open_and_lose)

    assert f"vanished: {os.strerror(errno.ENOENT)}" == fault_of(path)


@pytest.mark.parametrize(
    "change",
    [
        {"st_size": 6},  # it grew after the last byte was read
        {"st_size": 4},
        {"st_mtime_ns": 2},  # it was overwritten in place
    ],
)
def test_a_file_that_changes_while_it_is_read_is_not_counted(change, tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"12345")
    status = {"st_mode": stat.S_IFREG, "st_size": 5, "st_mtime_ns": 1}
    answers = iter([SimpleNamespace(**status), SimpleNamespace(**status | change)])
    monkeypatch.setattr(files_module, "os", OsWith(fstat=lambda handle: next(answers)))

    expected = "changed-during-read: its size or time changed while it was read"
    assert expected == fault_of(tmp_path / "x")


class OsWith(SimpleNamespace):
    """The module os, with some functions of our own."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


def test_a_file_that_is_shorter_than_it_says_is_not_counted(tmp_path, monkeypatch):
    """As on a network drive, or in /proc: Pillow would call it truncated."""
    (tmp_path / "x").write_bytes(b"12345")
    status = SimpleNamespace(st_mode=stat.S_IFREG, st_size=6, st_mtime_ns=1)
    monkeypatch.setattr(files_module, "os", OsWith(fstat=lambda handle: status))

    expected = "changed-during-read: its size or time changed while it was read"
    assert expected == fault_of(tmp_path / "x")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_no_file_is_left_open(tmp_path):
    (tmp_path / "x").write_bytes(b"x")
    (tmp_path / "d").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        read_file(str(tmp_path / "x"))
        fault_of(tmp_path / "d")
        listing_of(tmp_path)

    assert before == len(os.listdir("/proc/self/fd"))
