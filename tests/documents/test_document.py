"""Documents in memory, and the files that they are read from."""

from __future__ import annotations

import os
import sys
import tracemalloc

import pytest
from parsing import parse

from imgnorm.documents.document import CONFIG_LIMITS
from imgnorm.documents.reader import read_document
from imgnorm.errors import InvalidDocument, Problem, SourceError

# Places

PLACES = """\
# a comment
image:
  mode: RGB
  "two words": [1, [2, 3], {a: 4}, 5]
é😀: {x: 1, y: 2}
empty:
steps:
- resize: 32
- flip
"""


@pytest.mark.parametrize(
    ("path", "of_value", "of_key"),
    [
        ((), (2, 1), (2, 1)),
        (("image",), (3, 3), (2, 1)),
        (("image", "mode"), (3, 9), (3, 3)),
        (("image", "two words"), (4, 16), (4, 3)),
        (("image", "two words", 0), (4, 17), (4, 17)),
        (("image", "two words", 1), (4, 20), (4, 20)),
        (("image", "two words", 1, 1), (4, 24), (4, 24)),
        (("image", "two words", 2, "a"), (4, 32), (4, 29)),
        (("image", "two words", 3), (4, 36), (4, 36)),
        (("é😀", "y"), (5, 15), (5, 12)),
        (("empty",), (6, 7), (6, 1)),
        (("steps",), (8, 1), (7, 1)),
        (("steps", 0), (8, 3), (8, 3)),
        (("steps", 0, "resize"), (8, 11), (8, 3)),
        (("steps", 1), (9, 3), (9, 3)),
    ],
)
def test_every_value_and_key_has_its_place(path, of_value, of_key):
    read = parse(PLACES)

    assert of_value == read.place(path)
    assert of_key == read.place(path, of_key=True)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("size",), (2, 1)),
        (("image", "size", "width"), (3, 3)),
        (("image", "mode", "deeper"), (3, 9)),
        (("image", "mode", 0), (3, 9)),
        (("image", "two words", 4), (4, 16)),
        (("image", "two words", -1), (4, 16)),
        (("image", "two words", "a"), (4, 16)),
        (("image", 0), (3, 3)),
    ],
)
@pytest.mark.parametrize("of_key", [False, True])
def test_a_path_that_does_not_exist_has_the_place_of_its_nearest_ancestor(path, place, of_key):
    assert place == parse(PLACES).place(path, of_key=of_key)


def test_a_place_after_a_byte_order_mark_counts_from_one():
    assert (1, 1) == parse("\ufeffa: 1").place(("a",), of_key=True)


def test_a_problem_is_led_by_its_path():
    read = parse(PLACES)

    assert (
        "f.yaml:3:9: image.mode: unknown mode\n    use L"
        == str(read.problem(("image", "mode"), "mode", "unknown mode", "use L"))
    )  # fmt: skip
    assert (
        "f.yaml:8:3: steps[0].resize: deprecated"
        == str(read.problem(("steps", 0, "resize"), "old", "deprecated", of_key=True))
    )  # fmt: skip
    assert (
        "f.yaml:4:24: image.'two words'[1][1]: odd"
        == str(read.problem(("image", "two words", 1, 1), "odd", "odd"))
    )  # fmt: skip
    assert Problem("f.yaml", 2, 1, "odd", "odd") == read.problem((), "odd", "odd")


# Files


def test_a_file_is_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: 1\n")

    read = read_document(path, CONFIG_LIMITS)

    assert (str(path), {"a": 1}) == (read.file, read.value)
    assert read == read_document(str(path), CONFIG_LIMITS)


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path):
    path = tmp_path / "a.yaml"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)

    with pytest.raises(InvalidDocument) as caught:
        read_document(path, CONFIG_LIMITS)

    assert f"{path}:1:1: the file is larger than 1,048,576 bytes" == str(caught.value)


def refusal_of(path: str | os.PathLike[str]) -> str:
    with pytest.raises(SourceError) as caught:
        read_document(path, CONFIG_LIMITS)
    return str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "a.yaml"

    assert f"{path}: no such file; check the path" == refusal_of(path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path):
    fifo = tmp_path / "fifo.yaml"
    os.mkfifo(fifo)

    assert f"{fifo}: not a regular file; save it as one and name that" == refusal_of(fifo)
    assert "/dev/zero: not a regular file; save it as one and name that" == refusal_of("/dev/zero")
    assert f"{tmp_path}: a folder; name a YAML file in it" == refusal_of(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_a_path_that_cannot_be_opened_is_told(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    end = "check the path and its permissions"

    assert f"{loop}: cannot be read (too many levels of symbolic links); {end}" == refusal_of(loop)
    assert f"a\0b: cannot be read (embedded null byte); {end}" == refusal_of("a\0b")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(CONFIG_LIMITS.max_bytes + 1)
    tracemalloc.start()
    with pytest.raises(InvalidDocument) as caught:
        read_document(path, CONFIG_LIMITS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert f"{path}:1:1: the file is larger than 1,048,576 bytes" == str(caught.value)
    assert peak < 100_000
