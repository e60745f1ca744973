"""`imgnorm stats`, `show`: what goes to which stream, what is written, and how it ends."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL
import pytest
import yaml
from commands import Command, Ended, files
from PIL import Image

import imgnorm
from imgnorm.errors import OutputError
from imgnorm.stats import file as statsfile
from imgnorm.stats import format as statsformat
from imgnorm.stats.table import table

ROOT = Path(__file__).parents[2]

ROOT = Path(__file__).parents[2]


TABLE = """\
     mean     std  min  max  histogram
R  0.2837  0.3540    7  200  {R}
G  0.0614  0.0240    7   20  {G}
B  0.0876  0.0425    7   30  {B}

images   3 (2 RGB, 1 L; 3 PNG)
pixels   48 in mode RGB; 0..255 becomes 0..1
found    7 = 3 counted + 2 skipped (1 empty-file, 1 not-an-image) + 2 ignored (1 hidden, 1 suffix)
classes  2: 2 a, 1 b
skipped  b/empty.png: empty-file (0 bytes)
skipped  b/text.jpg: not-an-image (starts with b'hello wo')
outliers 1 image is almost black (b/3.png)
"""


BLOCKS = {"R": "██                       █", "G": "▄ █", "B": "▄  █"}


def test_the_table_tells_the_numbers_and_what_they_were_made_of(command, here):
    """R is 10, 200 and 7, each in a third of the pixels: mean 217 / 3 / 255."""
    ended = command("stats", "d", "-q")

    assert Ended(3, TABLE.format(**BLOCKS), "") == ended


def test_what_is_not_the_result_goes_to_standard_error(command, here):
    ended = command("stats", "d", "-o", "s.yaml", "--rejects", "r.jsonl")
    time, *rest = ended.err.splitlines()

    assert (3, TABLE.format(**BLOCKS)) == (ended.code, ended.out)
    assert time.startswith("time     ")
    assert ["wrote    s.yaml", "wrote    r.jsonl"] == rest


def test_what_takes_seconds_to_write_is_announced(command, here, monkeypatch):
    """A scan has ended, and nothing is on the disk yet."""
    monkeypatch.setattr("imgnorm.cli.stats._MANY", 4)  # two skipped images, and two classes
    announced = command("stats", "d", "-o", "s.yaml").err.splitlines()
    command("merge", "s.yaml", "-o", "m.yaml", "-q")

    assert "writing  s.yaml" == announced[0]
    assert "writing  n.yaml" in command("merge", "m.yaml", "-o", "n.yaml").err.splitlines()
    assert "" == command("stats", "d", "-o", "t.yaml", "-q").err


def test_a_list_that_takes_seconds_to_read_is_announced(command, here, monkeypatch):
    """No image is counted before the last line is read."""
    (here / "list.txt").write_text("d/a/1.png\n")
    monkeypatch.setattr("imgnorm.cli.stats._LONG_LIST", 8)

    assert "reading  list.txt" == command("stats", "--list", "list.txt").err.splitlines()[0]
    assert "" == command("stats", "--list", "list.txt", "-q").err


def test_quiet_silences_standard_error_and_changes_nothing_else(command, here):
    loud = command("stats", "d", "-o", "1.yaml")
    quiet = command("stats", "d", "-o", "2.yaml", "-q")

    assert (loud.code, loud.out, "") == quiet
    assert Path("1.yaml").read_bytes() == Path("2.yaml").read_bytes()


def test_json_is_the_content_of_the_file(command, here):
    ended = command("stats", "d", "--json", "-o", "s.yaml", "--per-class")

    printed = json.loads(ended.out)
    (black,) = printed.pop("outliers")

    assert yaml.safe_load(Path("s.yaml").read_text()) == printed
    assert ("almost-black", ["b/3.png"]) == (black["reason"], black["examples"])
    assert 1 == ended.out.count("\n")


def test_verbose_adds_the_conventions_and_the_quantiles(command, here):
    plain = command("stats", "d", "-q").out.splitlines()
    verbose = command("stats", "d", "-q", "-v").out.splitlines()
    added = [line for line in verbose if line not in plain]

    assert [line for line in plain if line not in verbose] == []
    assert [
        "convention                      mean                  std",
        "pooled                          0.2837 0.0614 0.0876  0.3540 0.0240 0.0425",
        "image_weighted                  0.2837 0.0614 0.0876  0.3540 0.0240 0.0425",
        "mean_of_image_std               0.2837 0.0614 0.0876  0.0000 0.0000 0.0000",
        "mean_of_image_std_correction_1  0.2837 0.0614 0.0876  0.0000 0.0000 0.0000",
        "   q01  q10  q25  q50  q75  q90  q99",
        "R    7    7    7   10  200  200  200",
        "G    7    7    7   20   20   20   20",
        "B    7    7    7   30   30   30   30",
        "smallest 4 x 4 (a/1.png)",
        "largest  4 x 4 (a/1.png)",
        "lowest   mean 0.0275 (b/3.png)",
        "highest  mean 0.3268 (a/2.png)",
    ] == added


def test_many_skipped_images_are_listed_in_full_only_when_asked_for(command, here):
    for index in range(30):
        Path(f"d/b/{index:02}.png").touch()

    plain = command("stats", "d", "-q").out.splitlines()
    verbose = command("stats", "d", "-q", "-v").out.splitlines()

    assert "skipped  and 12 more (-v lists them all)" == plain[-2]
    assert 20 == sum(line.startswith("skipped  b/") for line in plain)
    assert 32 == sum(line.startswith("skipped  ") for line in verbose)


def test_no_name_is_longer_in_the_table_than_a_message(command, here):
    Path("names.txt").write_text(f"d/a/1.png\n{'x' * 30_000}.png\n")

    (line,) = [
        line
        for line in command("stats", "names.txt", "--list", "-q", "-v").out.splitlines()
        if line.startswith("skipped")
    ]

    assert line.startswith(f"skipped  {'x' * 1999}…: path-too-long")


def test_a_terminal_without_unicode_gets_a_drawing_in_ascii(here):
    done = subprocess.run(
        [sys.executable, "-m", "imgnorm", "stats", "d", "-q"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii:strict"},
        capture_output=True,
        check=False,
    )

    ascii_blocks = {"R": "@@                       @", "G": "= @", "B": "=  @"}
    assert (3, TABLE.format(**ascii_blocks).encode(), b"") == (
        done.returncode,
        done.stdout,
        done.stderr,
    )


def test_the_result_is_printed_even_if_it_cannot_be_written(command, whole, monkeypatch):
    """Hours of measuring are not thrown away for a disk that has filled up since."""

    def full(path: str, stats: imgnorm.Stats, *, force: bool) -> None:
        raise OutputError(f"{path}: cannot be written (No space left on device); name a place")

    monkeypatch.setattr(statsfile, "write_stats", full)
    ended = command("stats", "d", "--json", "-o", "s.yaml")

    assert 2 == ended.code
    assert 48 == json.loads(ended.out)["pixels"]
    assert "s.yaml: cannot be written (No space left on device); name a place\n" == ended.err


@pytest.mark.parametrize("allowed", ["2", "3", "40%", "40.0%", "100%"])
def test_skipped_images_that_were_allowed_are_fine(command, here, allowed):
    """2 of 5: files that a rule ignores are not images."""
    ended = command("stats", "d", "-o", "s.yaml", "--max-skipped", allowed)

    assert 0 == ended.code
    assert TABLE.format(**BLOCKS) == ended.out
    assert ["s.yaml"] == files()


@pytest.mark.parametrize("allowed", ["0", "1", "0%", "39.9%"])
def test_with_more_skipped_images_than_allowed_no_stats_file_is_written(command, here, allowed):
    """The list of rejects is written nevertheless: it names the files to fix."""
    ended = command("stats", "d", "-o", "s.yaml", "--max-skipped", allowed, "--rejects", "r.jsonl")

    message = (
        f"2 images skipped, more than --max-skipped {allowed}; no stats file was written: fix them, or "
        "allow more\n"
    )
    assert Ended(1, TABLE.format(**BLOCKS), message) == ended
    assert ["r.jsonl"] == files()


def test_without_skipped_images_all_is_fine(command, whole):
    assert 0 == command("stats", "d").code
    assert 0 == command("stats", "d", "--max-skipped", "0").code


def test_rejects_are_json_lines(command, here):
    command("stats", "d", "--rejects", "r.jsonl")

    assert [
        {"name": "b/empty.png", "member": None, "reason": "empty-file", "detail": "0 bytes", "bytes": 0},
        {
            "name": "b/text.jpg",
            "member": None,
            "reason": "not-an-image",
            "detail": "starts with b'hello wo'",
            "bytes": 11,
        },
    ] == [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]  # fmt: skip


def test_rejects_of_a_whole_dataset_are_an_empty_file(command, whole):
    command("stats", "d", "--rejects", "r.jsonl")

    assert "" == Path("r.jsonl").read_text()


def test_only_broken_images_are_no_result(command, here):
    shutil.rmtree("d/a")
    Path("d/b/3.png").unlink()
    Path("s.yaml").write_text("old")

    ended = command("stats", "d", "-o", "s.yaml", "--force", "--force")

    assert (
        Ended(
            2,
            "",
            "d: no image could be counted, out of 2; fix the files or the options:\n"
            "  b/empty.png: empty-file (0 bytes)\n"
            "  b/text.jpg: not-an-image (starts with b'hello wo')\n",
        )
        == ended
    )
    assert "old" == Path("s.yaml").read_text()


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of four images of noise, each class brighter than the one before."""
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(3)
    for level, name in enumerate(("ant", "bee", "cat")):
        os.makedirs(f"zoo/{name}")
        for index in range(4):
            low = 60 * level
            noise = chance.integers(low, low + 99, (8 + index, 9, 3), dtype=np.uint8)
            Image.fromarray(noise).save(f"zoo/{name}/{index}.png")
    return tmp_path


def document(command: Command, *arguments: str) -> dict:
    ended = command("stats", *arguments, "--json", "-q")
    assert 0 == ended.code, ended.err
    return json.loads(ended.out)


def test_a_limit_is_spread_over_the_classes_and_recorded(command, zoo):
    found = document(command, "zoo", "--limit", "3")

    assert {"ant": {"images": 1}, "bee": {"images": 1}, "cat": {"images": 1}} == found["classes"]
    assert 3 == found["images"]
    assert 3 == found["source"]["limit"]
    assert {"limit": 9} == found["ignored"]


def test_a_limit_beyond_all_images_is_no_limit(command, zoo):
    assert document(command, "zoo") == document(command, "zoo", "--limit", "12")


def test_each_class_has_the_numbers_of_its_folder_alone(command, zoo):
    found = document(command, "zoo", "--per-class")

    assert ["ant", "bee", "cat"] == list(found["classes"])
    for name, one in found["classes"].items():
        alone = document(command, f"zoo/{name}")
        exact = {key: alone["exact"][key] for key in ("count", "total", "total_sq")}
        assert {
            "images": 4, "mean": alone["mean"], "std": alone["std"], **exact
        } == one  # fmt: skip


def test_the_table_has_a_row_for_each_class(command, zoo):
    lines = command("stats", "zoo", "--per-class", "-q").out.splitlines()
    alone = document(command, "zoo/bee")
    row = next(line for line in lines if line.startswith("bee "))

    assert ["class", "images", "mean", "std"] == lines[-4].split()
    assert ["bee", "4", *(f"{x:.4f}" for x in alone["mean"] + alone["std"])] == row.split()


def test_classes_of_a_flat_folder_are_refused(command, zoo):
    assert Ended(
        2, "", "zoo/ant: has no class folders; measure it without --per-class\n"
    ) == command("stats", "zoo/ant", "--per-class")


def test_a_list_measures_what_it_names(command, zoo):
    """Relative to the list, each line a path, whatever the suffix."""
    os.rename("zoo/bee/0.png", "zoo/bee/0.data")
    Path("zoo/some.txt").write_text("ant/1.png\n\nbee/0.data\r\n")
    found = document(command, "zoo/some.txt", "--list")
    pixels = [
        np.asarray(Image.open(f"zoo/{n}")).reshape(-1, 3) for n in ("ant/1.png", "bee/0.data")
    ]
    total = np.concatenate(pixels).astype(np.int64).sum(axis=0)

    assert ("list", "zoo/some.txt") == (found["source"]["kind"], found["source"]["ref"])
    assert total.tolist() == found["exact"]["total"]
    assert 2 == found["images"]


def test_an_image_that_is_listed_twice_is_counted_once_and_named(command, zoo):
    Path("zoo/once.txt").write_text("ant/1.png\n")
    Path("zoo/twice.txt").write_text("ant/1.png\n./ant//./1.png\n")
    once = document(command, "zoo/once.txt", "--list")

    ended = command("stats", "zoo/twice.txt", "--list", "--json", "-q")
    twice = json.loads(ended.out)

    assert 3 == ended.code
    assert [{"name": "ant/1.png", "reason": "duplicate-name"}] == twice["skipped"]
    assert once["source"]["names_sha256"] == twice["source"]["names_sha256"]
    assert once["exact"] == twice["exact"]


def test_sizes_are_edges_or_height_x_width(command, zoo):
    found = document(command, "zoo", "--resize", "20X30", "--center-crop", "16x24")

    assert [
        {"Resize": {"size": [20, 30]}},
        {"CenterCrop": {"size": [16, 24]}},
    ] == found["image"]["preprocess"]
    assert 12 * 16 * 24 == found["pixels"]
    assert 12 * 5 * 5 == document(command, "zoo", "--resize", "7", "--center-crop", "5")["pixels"]


def test_the_table_tells_what_the_images_went_through(command, zoo):
    lines = command("stats", "zoo", "--resize", "20", "--center-crop", "16x24", "-q").out.split(
        "\n"
    )

    assert "after    Resize(size=20), CenterCrop(size=(16, 24))" in lines


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_the_mode_is_what_was_asked_for(command, zoo, mode):
    found = document(command, "zoo", "--mode", mode)

    assert list(mode) == found["channels"]
    assert {"RGB": 12} == found["modes"]


def test_the_number_of_workers_changes_no_byte(command, zoo):
    command("stats", "zoo", "-o", "1.yaml", "--workers", "1")
    command("stats", "zoo", "-o", "3.yaml", "--workers", "3")

    assert Path("1.yaml").read_bytes() == Path("3.yaml").read_bytes()


def test_images_with_more_pixels_than_allowed_are_skipped(command, zoo):
    ended = command("stats", "zoo", "--max-pixels", "90", "-q")

    assert 3 == ended.code
    assert (
        "skipped  ant/3.png: too-large (9x11 is 99 pixels; the limit is 90 (--max-pixels))"
    ) in ended.out.splitlines()
    assert "found    12 = 9 counted + 3 skipped (3 too-large) + 0 ignored" in ended.out


def test_a_torchvision_dataset_is_measured_by_its_name(command, shared_data):
    root = str(shared_data / "mnist")
    found = document(command, "torchvision:MNIST", "--root", root, "--split", "test")

    assert 10000 == found["images"]
    assert ("torchvision", "MNIST", "test") == tuple(
        found["source"][key] for key in ("kind", "ref", "split")
    )
    assert 784 * 10000 == found["pixels"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MNITS", "torchvision:MNITS: torchvision has no such dataset; did you mean MNIST"),
        ("mnist", "torchvision:mnist: torchvision has no such dataset; did you mean MNIST?\n"),
        ("", "torchvision:: torchvision has no such dataset; torchvision.datasets lists them\n"),
        ("MNIST", "torchvision:MNIST: cannot be opened below --root data with --split train ("),
    ],
)
def test_a_torchvision_dataset_that_is_not_there_is_told(command, here, name, message):
    ended = command("stats", f"torchvision:{name}")

    assert (2, "") == (ended.code, ended.out)
    assert ended.err.startswith(message)


def test_a_folder_whose_name_starts_with_a_dash_is_given_after_two(command, whole):
    os.rename("d", "-d")

    assert 0 == command("stats", "-q", "-o", "-s.yaml", "--", "-d").code
    assert 0 == command("show", "--", "-s.yaml").code
    assert 0 == command("emit", "-o", "-t.py", "--", "-s.yaml").code
    assert ["-d", "-s.yaml", "-t.py"] == files()


def test_names_in_any_script_reach_the_table_and_the_file(command, whole):
    os.rename("d/a", "d/käfer 虫 😀")
    ended = command("stats", "d", "-o", "s.yaml")

    assert "classes  2: 1 b, 2 käfer 虫 😀" in ended.out
    assert {"b", "käfer 虫 😀"} == set(yaml.safe_load(Path("s.yaml").read_text())["classes"])


def test_a_profile_is_printed_on_standard_error_even_if_quiet(command, whole):
    plain, profiled = command("stats", "d", "-q"), command("stats", "d", "-q", "--profile")

    assert plain.out == profiled.out
    head, columns, *rows, made_with = profiled.err.splitlines()
    versions = f"imgnorm {imgnorm.__version__}, Python {platform.python_version()}, NumPy {np.__version__}, "
    assert made_with.startswith(f"{versions}Pillow {PIL.__version__}, {platform.system()} ")
    assert re.fullmatch(r".*, \d+ cores?", made_with)
    assert re.fullmatch(
        r"profile  3 images in \d+\.\d\d s; main took \d+\.\d% of the CPU time; seconds by step:",
        head,
    )
    steps = "start list read decode preprocess count merge wait cpu"
    assert steps.split() == columns.split()
    fork_server = {"fork server"} if sys.platform == "linux" else set()
    assert {"main", "sum", "worker"} | fork_server == {
        re.match(r"fork server|\w+", row)[0] for row in rows
    }


def test_a_profile_tells_who_decoded_jpegs_if_there_are_any(command, whole):
    Image.new("RGB", (4, 4)).save("d/a/4.jpg")

    assert command("stats", "d", "--profile", "-q").err.splitlines()[-1].startswith("JPEG by ")
    assert "JPEG" not in command("stats", "d/b", "--profile", "-q").err


SEE = " (see `imgnorm stats --help`)"


SIZE = "is not a size; give 256, or HEIGHTxWIDTH as in 224x320"


ALLOWANCE = "is neither a number of images nor a percentage; give 10, or 0.5%"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            (["d", option, size], f"Invalid value for '{option}': '{size}' {SIZE}{SEE}")
            for option in ("--resize", "--center-crop")
            for size in ("0", "-3", "3x", "x3", "3x4x5", "3x0", "axb", "1.5", "", "²", "1e3", "3 x 4")
        ),
        *(
            (["d", "--max-skipped", text], f"Invalid value for '--max-skipped': '{text}' {ALLOWANCE}{SEE}")
            for text in ("-1", "x", "", "%", "1.5", "-1%", "nan%", "inf%", "5%%")
        ),
        (["d", "--limit", "0"], f"Invalid value for '--limit': 0 is not in the range x>=1.{SEE}"),
        (["d", "--workers", "0"], f"Invalid value for '--workers': 0 is not in the range x>=1.{SEE}"),
        (["d", "--workers", "two"], f"Invalid value for '--workers': 'two' is not a valid integer range.{SEE}"),
        (["d", "--ray", ""], f"Invalid value for '--ray': is empty; give auto, or the address of a cluster{SEE}"),
        (["d", "--max-pixels", "0"], f"Invalid value for '--max-pixels': 0 is not in the range x>=1.{SEE}"),
        (["d", "--timeout", "0"], f"Invalid value for '--timeout': 0.0 is not in the range 0<x<=86400.{SEE}"),
        (["d", "--mode", "rgb"], f"Invalid value for '--mode': 'rgb' is not one of 'auto', 'L', 'RGB', 'RGBA', 'I;16'.{SEE}"),
        (["d", "d"], "d: would be counted twice; name it once"),
        (["d", "d/a", "--limit", "3"], f"--limit is for one source; leave it out, or name one: a folder above them, or a list of their files{SEE}"),
        (["d", "c.yaml"], f"a pipeline config says what is measured; name it alone{SEE}"),
        (["d", "-o", "x", "--rejects", "x"], f"-o and --rejects name the same file; give each its own{SEE}"),
        (["d", "-o", "x", "--rejects", "./d/../x"], f"-o and --rejects name the same file; give each its own{SEE}"),
        (["torchvision:MNIST", "--decoder", "pillow"], f"--decoder does nothing: a torchvision dataset opens its images itself; leave it out{SEE}"),
        (["none"], "none: no such file or folder; name a folder of images, an archive, an array, a list (with --list) or torchvision:NAME"),
        (["none", "--list"], "none: no such list; name a text file with one path a line"),
        (["d", "--list"], "d: cannot be read as a list (not a regular file); name a text file with one path a line"),
        (["old"], "old: is neither a folder nor a zip, tar, tar.gz, .npy or .npz; if it lists one path a line, add --list; for other files, docs/recipes.md shows how a Dataset of yours reads them"),
        (["d/*/*.png"], "d/*/*.png: 4 image files; name the folder of the images, or a text file with their paths and --list"),
        (["d/a/1.png"], "d/a/1.png: an image file; name the folder of the images, or a text file with their paths and --list"),
        (["hollow"], "hollow: no images in it (passed over: 1 suffix); looked for .jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp; for other names, write them to a file and use --list"),
        (["d", "-o", "old"], "old: exists already, and imgnorm did not write it; replace it with --force --force, or name another file"),
        (["d", "--rejects", "old"], "old: exists already, and imgnorm did not write it; replace it with --force --force, or name another file"),
        (["d", "-o", "d"], "d: is a folder; name a file in it"),
        (["d", "-o", ""], "'': is not a file; name one, or leave the option out and use `>`"),
        (["d", "-o", "none/s.yaml"], "none/s.yaml: its folder does not exist; create it first"),
        (["d", "-o", "/dev/null"], "/dev/null: is not a regular file; name one, or leave the option out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_usage_is_told_in_one_line_before_any_work(
    command, here, monkeypatch, arguments, message
):
    Path("old").write_text("old")
    os.mkdir("hollow")
    Path("hollow/notes.txt").touch()

    assert Ended(2, "", f"{message}\n") == command("stats", *arguments)
    assert ["hollow", "old"] == files()
    assert "old" == Path("old").read_text()


def test_force_replaces_a_file(command, whole):
    command("stats", "d/a", "-o", "s.yaml")
    old = Path("s.yaml").read_text()

    assert 0 == command("stats", "d", "-o", "s.yaml", "--force").code
    assert old != Path("s.yaml").read_text()
    assert Path("s.yaml").read_text().startswith("# Written by imgnorm")


@pytest.mark.parametrize("flags", [[], ["-v"]])
def test_show_prints_the_table_of_stats_again(command, whole, flags):
    measured = command("stats", "d", "-o", "s.yaml", *flags)

    assert Ended(0, measured.out, "") == command("show", "s.yaml", *flags)


def test_show_lists_what_was_skipped_by_name_and_reason(command, here):
    """The details are in the list of rejects: they depend on the machine and on options of speed."""
    measured = command("stats", "d", "-o", "s.yaml").out
    for detail in (" (0 bytes)", " (starts with b'hello wo')"):
        measured = measured.replace(detail, "")

    assert Ended(0, measured, "") == command("show", "s.yaml")


def test_show_of_constants_says_that_they_are_constants(command, here):
    Path("c.yaml").write_text("format: imgnorm-stats/1\nmean: [0.1307]\nstd: [0.3081]\n")

    assert Ended(
        0, "     mean     std\nL  0.1307  0.3081\n\nconstants, written by hand\n", ""
    ) == command("show", "c.yaml")


def test_show_tells_every_fault_of_a_file_at_its_place(command, here):
    Path("c.yaml").write_text("format: imgnorm-stats/1\nmean: [x]\nstd: 0.3\nscales: 255\n")

    assert Ended(
        2,
        "",
        "c.yaml:2:8: mean[0]: expected a number; got 'x' (text)\n"
        "c.yaml:3:6: std: expected a list; got 0.3\n"
        "c.yaml:4:1: scales: unknown key\n"
        "    did you mean 'scale'?\n",
    ) == command("show", "c.yaml")


@pytest.mark.parametrize("option", ["--root x", "--split test", "--download"])
def test_options_that_would_do_nothing_are_refused(command, whole, option):
    name = option.split()[0]
    message = f"{name} is for torchvision:NAME; leave it out (see `imgnorm stats --help`)\n"

    assert Ended(2, "", message) == command("stats", "d", *option.split())


def test_the_command_writes_shows_and_refuses_to_merge(command, plain, estimated, tmp_path):
    path = tmp_path / "s.yaml"
    measured = command("stats", plain, "--tolerance", "0.06", "-o", path)

    assert (0, table(estimated) + "\n") == measured[:2]
    assert statsformat.text_of(estimated) == path.read_text(encoding="utf-8")
    assert (0, table(estimated) + "\n", "") == command("show", path)
    std = [f"{value:.6f}" for value in estimated.std]
    assert (
        f"\n  an estimate ({estimated.estimate})\n" in command("explain", *std, "--stats", path)[1]
    )
    refusal = (
        f"{path}: an estimate (99 %, guaranteed, {estimated.images} of 600 images); only exact measurements "
        "merge, so measure it again without --tolerance\n"
    )
    assert (2, "", refusal) == command("merge", path)


def test_the_command_takes_confidence_and_seed(command, plain):
    code, out, _ = command(
        "stats", plain, "--tolerance", "0.06", "--confidence", "0.9", "--seed", "5", "--json"
    )
    estimate = json.loads(out)["estimate"]

    assert (0, 0.06, 0.9, 5, 600) == (
        code,
        *(estimate[key] for key in ("tolerance", "confidence", "seed", "of")),
    )


def test_the_command_says_when_it_took_all_images(command):
    code, out, err = command("stats", ROOT / "examples" / "shapes", "--tolerance", "0.1")

    assert (0, False) == (code, "±" in out)
    assert (
        "exact    no estimate: all images were looked at, since fewer are not enough for "
        "--tolerance 0.1\n"
    ) in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--confidence", "0.9"], "--confidence is for --tolerance; leave it out, or give both"),
        (["--seed", "1"], "--seed is for --tolerance; leave it out, or give both"),
        (
            ["--tolerance", "5"],
            (
                "Invalid value for '--tolerance': tolerance is 5; expected more than 0 and less "
                "than 1, since mean and std are in [0, 1]; if it is for [0, 255], give 0.02"
            ),
        ),
        (
            ["--tolerance", "0.1", "--limit", "9"],
            "--tolerance takes as many images as it needs; leave --limit out",
        ),
        (
            ["--tolerance", "0.1", "--shard", "1/2"],
            "--shard is for merging, and an estimate does not merge; leave it out, or --tolerance",
        ),
        (
            ["--tolerance", "0.1", "--keep-names"],
            "--keep-names is for merging, and an estimate does not merge; leave it out, or --tolerance",
        ),
        (
            ["--tolerance", "0.1", "--per-class"],
            (
                "--tolerance is about the whole, and takes too few images of each class for --per-class; "
                "leave one out"
            ),
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(command, plain, options, message):
    assert (2, "", f"{message} (see `imgnorm stats --help`)\n") == command("stats", plain, *options)


def test_strict_fails_for_notes_and_writes_nothing(command, here):
    """A config chooses the files and frames; notes are in JSON, and change no exit code by themselves."""
    folder = here / "lossy"
    folder.mkdir()
    frames = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (0, 51, 255)]
    frames[0].save(folder / "pages.tif", save_all=True, append_images=frames[1:])
    Image.new("RGBA", (4, 4), (9, 9, 9, 9)).save(folder / "clear.png")
    source = "{kind: folder, path: lossy, exclude: ['*.png']}"
    (here / "c.yaml").write_text(
        f"format: imgnorm-pipeline/1\nsource: {source}\nimage: {{frames: all}}\nnormalize: {{stats: s.yaml}}\n"
    )
    strict = command("stats", "lossy", "--strict", "-o", "s.yaml", "-q")
    notes = json.loads(command("stats", "lossy", "--json", "-q").out)["notes"]
    chosen = command("stats", "c.yaml", "--strict", "-o", "s.yaml", "-q")
    both = command("stats", "c.yaml", "--exclude", "*.tif")

    assert (1, 2) == (strict.code, strict.out.count("\nnote     "))
    assert (
        "2 notes, and strict allows none, so nothing was written: alpha (1), frames (1); change the data or "
        "the options as they say, or leave strict out\n"
    ) == strict.err
    assert {"alpha": 1, "frames": 1, "further-frames": 2} == {
        kind: note["images"] for kind, note in notes.items()
    }
    assert (0, "") == (chosen.code, chosen.err)
    assert "found    4 = 3 counted + 0 skipped + 1 ignored (1 exclude)\n" in chosen.out
    assert 0 == command("validate", "c.yaml").code
    assert 0 == command("verify", "s.yaml", "c.yaml").code
    assert (2, "--exclude: c.yaml says it; change it there, or leave --exclude out") == (
        both.code,
        both.err.partition(" (")[0],
    )
