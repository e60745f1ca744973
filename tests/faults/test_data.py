"""Hostile names, numbers and images: right digits or a name in the list, and nothing else happens."""

from __future__ import annotations

import ast
import io
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from injection import environment, folder_of, here, imgnorm, needs_linux, needs_posix, noise
from PIL import Image

import imgnorm as library
from imgnorm.errors import SourceError
from imgnorm.pipeline.targets.torchvision import stats_module
from imgnorm.stats.measurement import ClassStats
from imgnorm.tally.moments import Moments

pytestmark = needs_posix

OLD = b"# Written by imgnorm. old bytes\n"
PLAIN = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii:strict",
}
HOSTILE = [
    "new\nline",
    "tab\tand\x1b[31m",
    "emoji 🙂",
    "日本語",
    "é",
    "undecodable \udcff\udcfe",
    'quote\'s "and" `ticks`',
    "back\\slash",
    "-rf",
    "--force",
    "$(touch pwned)",
    "; touch pwned;",
    "%s %d {0}",
    " spaces ",
    "#comment",
    "line\u2028separator\u2029\x85",
    '"""; import os; os.mkdir("pwned"); """',
    "'''",
    "rtl \u202e",
    "null",
    "~",
    "<<: *a",
]


# ── names ──


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each hostile name as a class folder, with a good image and a bad one of that name."""
    data = tmp_path_factory.mktemp("hostile") / "data"
    for index, name in enumerate(HOSTILE):
        try:
            (data / name).mkdir(parents=True)
            noise(index).save(data / name / f"{name}.png")
            (data / name / f"{name} bad.png").write_bytes(b"not an image")
        except (OSError, UnicodeError):
            pytest.skip("this file system takes no such names")
    return data


@needs_linux
@pytest.mark.parametrize(
    "locale",
    [PLAIN, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "latin-1:strict"}, {"LC_ALL": "C.UTF-8"}],
    ids=["C", "POSIX", "latin-1", "UTF-8"],
)
def test_the_locale_changes_no_byte_of_the_files(
    hostile: Path, tmp_path: Path, locale: dict[str, str]
) -> None:
    """Names are bytes: how a file shows them does not depend on the locale."""
    files = []
    for number, changes in enumerate([{"PYTHONUTF8": "1"}, locale]):
        paths = [tmp_path / f"stats{number}.yaml", tmp_path / f"rejects{number}.jsonl"]
        ended = imgnorm(
            "stats", "data", "-v", "--per-class", "-o", paths[0], "--rejects", paths[1],
            cwd=hostile.parent, **changes,
        )  # fmt: skip

        assert 3 == ended.returncode
        assert "Traceback" not in ended.stderr
        assert "UnicodeEncodeError" not in ended.stderr
        files.append([path.read_bytes() for path in paths])
    assert files[0] == files[1]
    stats = library.read_stats(tmp_path / "stats1.yaml")
    assert stats.measurement is not None
    assert len(HOSTILE) == stats.images == len(stats.skipped) == len(stats.measurement.classes)


def test_every_skipped_image_has_a_line_of_its_own(hostile: Path) -> None:
    """A name must not end its line, nor send commands to the terminal."""
    ended = imgnorm("stats", "data", "-v", "-q", cwd=hostile.parent)

    listed = [line for line in ended.stdout.split("\n") if line.startswith("skipped  ")]
    assert len(HOSTILE) == len(listed)
    assert all(line.endswith(": not-an-image (starts with b'not an i')") for line in listed)
    assert not any(character < " " for character in ended.stdout.replace("\n", ""))


def test_a_hostile_name_of_a_missing_source_is_one_message(tmp_path: Path) -> None:
    for name in HOSTILE:
        ended = here("stats", tmp_path / name)
        assert (2, "") == (ended.returncode, ended.stdout), name
        assert "no such file or folder" in ended.stderr, name
    ended = imgnorm("merge", "--", *HOSTILE, cwd=tmp_path, **PLAIN)  # a terminal of ASCII
    assert (2, "") == (ended.returncode, ended.stdout)
    assert len(HOSTILE) == ended.stderr.count(": no such file; check the path\n")


# ── emitted modules ──

ALLOWED = (
    ast.Module, ast.Expr, ast.Constant, ast.Import, ast.ImportFrom, ast.alias, ast.Assign, ast.Name,
    ast.Store, ast.Load, ast.Tuple, ast.List, ast.Call, ast.Attribute, ast.keyword, ast.ListComp,
    ast.comprehension, ast.BinOp, ast.Div, ast.UnaryOp, ast.USub,
)  # fmt: skip
HARMLESS_CALLS = {
    "zip", "transforms.Compose", "transforms.Resize", "transforms.CenterCrop", "transforms.ToTensor",
    "transforms.Normalize", "transforms.Grayscale", "v2.Compose", "v2.Resize", "v2.CenterCrop",
    "v2.ToImage", "v2.ToDtype", "v2.Normalize", "v2.Grayscale",
}  # fmt: skip
WATCHED = """
import sys
from pathlib import Path
import torch
from torchvision import transforms
from torchvision.transforms import v2
v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
programs = [compile(path.read_text("utf-8"), str(path), "exec") for path in sorted(Path(sys.argv[1]).iterdir())]
allowed = iter(programs)
def hook(event, arguments):
    if event == "exec":
        assert arguments[0] is current, event
    if event == "open":
        assert not (arguments[2] or 0) & 3 and arguments[1] in (None, "r", "rb"), arguments
    assert not event.startswith(("subprocess", "os.", "socket", "shutil", "ctypes", "compile")), event
    if event == "import":
        assert arguments[0].split(".")[0] in ("torch", "torchvision"), arguments
sys.addaudithook(hook)
for current in programs:
    names = {}
    exec(current, names)
    assert {"MEAN", "STD", "train_transform", "eval_transform", "inverse_transform"} <= set(names)
print(len(programs), "modules")
"""


def assert_harmless(source: str) -> None:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        assert isinstance(node, ALLOWED), ast.dump(node)
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) in HARMLESS_CALLS
        if isinstance(node, ast.Import):
            assert ["torch"] == [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            assert node.module in ("torchvision", "torchvision.transforms")
    texts = [
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]
    assert ["Normalization of one dataset. Written by imgnorm; do not edit."] == texts


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules of stats with hostile names, paths and numbers."""
    folder = tmp_path_factory.mktemp("modules")
    data = folder_of(folder / "data", 4)
    measured = library.measure(data, resize=16, center_crop=(8, 12))
    assert measured.measurement is not None
    made = folder / "made"
    made.mkdir()
    for index, name in enumerate([*HOSTILE, "x" * 100_000, "🙂" * 5000, "\n" * 2000]):
        source = replace(
            measured.measurement.source, ref=name, kind=name, options={"split": name, "limit": 2}
        )
        stats = replace(measured, measurement=replace(measured.measurement, source=source))
        if index % 2:
            numbers = (5e-324, 0.1 + 0.2, 1.0)
            stats = replace(stats, mean=numbers, std=numbers)
        for api in ("v1", "v2"):
            module = stats_module(
                stats,
                stats_path=f"{name[:200]}/{name[:200]}.yaml",
                module_path=f"{name[:200]}.py",
                api=api,  # type: ignore[arg-type]
                eps=1e-3 if index % 3 else None,
            )
            (made / f"{index:02}{api}.py").write_bytes(module.encode())
    return made


def test_no_text_of_a_stats_file_becomes_code(modules: Path) -> None:
    for path in sorted(modules.iterdir()):
        assert_harmless(path.read_text("utf-8"))


def test_importing_a_module_only_makes_transforms(modules: Path, tmp_path: Path) -> None:
    """Watched by an audit hook: no file written, no process started, nothing else imported."""
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED, modules], cwd=tmp_path, env=environment(),
        capture_output=True, text=True,
    )  # fmt: skip

    assert (0, f"{len(os.listdir(modules))} modules\n") == (ended.returncode, ended.stdout), ended
    assert [] == os.listdir(tmp_path)


@needs_linux
def test_the_command_emits_for_hostile_paths(hostile: Path, tmp_path: Path) -> None:
    """A class folder, its stats file and its module, all of that name."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name in HOSTILE:
        stats, module = folder / f"{name}.yaml", folder / f"{name}.py"
        options = ["-o", stats, "--max-skipped", "1", "-q", "--workers", "1"]
        first = here("stats", *options, "--", name, cwd=hostile)
        second = here("emit", stats, "-o", module)

        assert (0, 0) == (first.returncode, second.returncode), first.stderr + second.stderr
        assert_harmless(module.read_text("utf-8"))
    assert 2 * len(HOSTILE) == len(os.listdir(folder))
    assert sorted(HOSTILE) == sorted(os.listdir(hostile))


# ── nothing to count ──

LOOKED_FOR = (
    "looked for .jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp; for other names, write them to a file "
    "and use --list"
)
ALL_BAD = (
    "no image could be counted, out of 2; fix the files or the options:\n"
    "  empty.png: empty-file (0 bytes)\n"
    "  text.jpg: not-an-image (starts with b'hello')"
)


def _empty(folder: Path) -> None:
    folder.mkdir()


def _only_bad(folder: Path) -> None:
    folder.mkdir()
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("hello")


def _only_ignored(folder: Path) -> None:
    folder.mkdir()
    (folder / ".hidden.png").touch()
    (folder / "notes.txt").touch()


def _missing(folder: Path) -> None:
    pass


def _a_file(folder: Path) -> None:
    noise(1).save(folder, "PNG")


PACK_ANEW = "name an archive that holds such files, or rename those in it and pack them again"


def _no_bytes(file: Path) -> None:
    file.touch()


def _empty_archive(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_no_bytes, "an empty file (0 bytes); get it again, or make it again"),
        (
            _empty_archive,
            f"no images in it (passed over: 1 suffix); {LOOKED_FOR.partition(';')[0]}; {PACK_ANEW}",
        ),
        (_empty, f"no images in it; {LOOKED_FOR}"),
        (_only_ignored, f"no images in it (passed over: 1 hidden, 1 suffix); {LOOKED_FOR}"),
        (_only_bad, ALL_BAD),
        (
            _missing,
            "no such file or folder; name a folder of images, an archive, an array, a list (with --list) or torchvision:NAME",
        ),
        (
            _a_file,
            "is neither a folder nor a zip, tar, tar.gz, .npy or .npz; if it lists one path a line, add --list; for other files, docs/recipes.md shows how a Dataset of yours reads them",
        ),
    ],
)
def test_nothing_to_count_is_one_message_and_no_file(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "data")
    output = tmp_path / "out" / "stats.yaml"
    output.parent.mkdir()
    output.write_bytes(OLD)
    ended = here("stats", "data", "-o", output, "--force", cwd=tmp_path)

    assert (2, "", f"data: {message}\n") == (ended.returncode, ended.stdout, ended.stderr)
    assert {"stats.yaml": OLD} == {path.name: path.read_bytes() for path in output.parent.iterdir()}
    ended = here("stats", "data", "-o", output.with_name("other.yaml"), cwd=tmp_path)
    assert 2 == ended.returncode
    assert ["stats.yaml"] == os.listdir(output.parent)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_pixels_that_are_no_numbers_are_listed(tmp_path: Path, bad: float) -> None:
    folder = folder_of(tmp_path / "data", 2)
    pixels = np.full((10, 10), 0.5, np.float32)
    pixels[3, 4:6] = bad
    Image.fromarray(pixels).save(folder / "bad.tif")
    path = tmp_path / "stats.yaml"
    ended = here("stats", folder, "-o", path, "-q")

    assert 3 == ended.returncode
    assert (
        "skipped  bad.tif: nonfinite-pixels (2 of 100 pixels are NaN or Inf)"
        == ended.stdout.splitlines()[-1]
    )
    assert not any(word in path.read_text().lower() for word in (".nan", ": nan", ".inf", ": inf"))


# ── sizes and modes ──


@pytest.mark.parametrize(
    ("size", "format_"),
    [
        ((1, 1), "png"),
        ((1, 1), "jpg"),
        ((100_000, 1), "png"),
        ((1, 100_000), "png"),
        ((65_500, 1), "jpg"),
        ((1, 65_500), "jpg"),
        ((1_000_000, 1), "png"),
    ],
)
def test_extreme_shapes_are_counted(tmp_path: Path, size: tuple[int, int], format_: str) -> None:
    noise(3, size, "L").save(tmp_path / f"image.{format_}", quality=100)
    stats = library.measure(tmp_path)

    with Image.open(tmp_path / f"image.{format_}") as picture:
        expected = tuple(np.bincount(np.asarray(picture).ravel(), minlength=256).tolist())
    assert stats.measurement is not None
    assert (expected,) == stats.measurement.histogram.counts


@pytest.mark.parametrize("size", [(1, 1), (7, 5)])
def test_constant_images_have_std_zero_and_no_transform(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """Normalizing would divide by 0."""
    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("RGB", size, (10, 20, 30)).save(folder / "image.png")
    path = tmp_path / "stats.yaml"
    assert 0 == here("stats", folder, "-o", path).returncode
    stats = library.read_stats(path)
    ended = here("emit", path, "-o", tmp_path / "transforms.py")

    assert tuple(float(Fraction(value, 255)) for value in (10, 20, 30)) == stats.mean
    assert (0.0, 0.0, 0.0) == stats.std
    assert (2, "") == (ended.returncode, ended.stdout)
    assert "channels R, G, B are constant (std 0): normalizing would divide by 0" in ended.stderr
    assert ["data", "stats.yaml"] == sorted(os.listdir(tmp_path))


MIXED = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"]


def mixed(folder: Path) -> list[Path]:
    """An image of each mode of MIXED."""
    paths = []
    for index, mode in enumerate(MIXED):
        picture = noise(index, (6, 5)).convert("RGB").convert("L" if mode == "LA" else mode)
        paths.append(folder / f"{index}.{'tif' if mode == 'CMYK' else 'png'}")
        picture.convert(mode).save(paths[-1])
    return paths


def test_a_mix_of_modes_is_counted_as_rgb_and_reported(tmp_path: Path) -> None:
    """1, 3 and 4 channels, palette and CMYK: each as torchvision's loader would show it."""
    shown = []
    for path in mixed(tmp_path):
        with Image.open(path) as read:
            shown.append(np.asarray(read.convert("RGB")).reshape(-1, 3))
    ended = here("stats", tmp_path, "-q")
    stats = library.measure(tmp_path)

    pixels = np.concatenate(shown)
    assert stats.measurement is not None
    assert tuple(
        tuple(np.bincount(pixels[:, channel], minlength=256).tolist()) for channel in range(3)
    ) == (stats.measurement.histogram.counts)
    assert dict.fromkeys(MIXED, 1) == dict(stats.measurement.modes)
    assert "images   7 (1 1, 1 CMYK, 1 L, 1 LA, 1 P, 1 RGB, 1 RGBA; 6 PNG, 1 TIFF)" in ended.stdout


def test_images_of_other_channels_are_named_when_the_channels_are_strict(tmp_path: Path) -> None:
    """Gray photos among RGB ones may be right in one dataset, and a mistake in another."""
    folder, path = tmp_path / "data", tmp_path / "stats.yaml"
    folder.mkdir()
    pictures = mixed(folder)
    shown = []
    for index in (3, 4):  # P and RGB
        with Image.open(pictures[index]) as read:
            shown.append(np.asarray(read.convert("RGB")).reshape(-1, 3))
    strict = ("stats", folder, "--mode", "RGB", "--strict-channels", "-q", "-o", path)
    ended = here(*strict)
    stats = library.read_stats(path)
    failed = here(*strict, "--force", "--max-skipped", "0")
    checked = here("verify", path, folder, "--sample", "all")

    pixels = np.concatenate(shown)
    assert stats.measurement is not None
    assert stats.measurement.histogram is not None
    assert tuple(
        tuple(np.bincount(pixels[:, channel], minlength=256).tolist()) for channel in range(3)
    ) == (stats.measurement.histogram.counts)
    assert stats.strict_channels
    assert 3 == ended.returncode
    assert [
        "skipped  0.png: channel-mismatch (1 channel (1), not the 3 of mode RGB)",
        "skipped  1.png: channel-mismatch (1 channel (L), not the 3 of mode RGB)",
        "skipped  2.png: channel-mismatch (2 channels (LA), not the 3 of mode RGB)",
        "skipped  5.png: channel-mismatch (4 channels (RGBA), not the 3 of mode RGB)",
        "skipped  6.tif: channel-mismatch (4 channels (CMYK), not the 3 of mode RGB)",
    ] == ended.stdout.splitlines()[-5:]
    assert 1 == failed.returncode
    assert "5 images skipped, more than --max-skipped 0; no stats file was written" in failed.stderr
    assert (0, f"verified {path}: true (all images measured again)\n") == (
        checked.returncode,
        checked.stderr,
    )


@pytest.mark.parametrize(
    ("mode", "counted"), [("L", ["1", "L"]), ("RGB", ["P", "RGB"]), ("RGBA", ["CMYK", "RGBA"])]
)
@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_strict_channels_are_those_of_any_mode(
    tmp_path: Path, mode: str, counted: list[str]
) -> None:
    opened = [Image.open(path) for path in mixed(tmp_path)]
    in_files = library.measure(tmp_path, mode=mode, strict_channels=True)
    in_python = library.measure(opened, mode=mode, strict_channels=True)

    assert in_files.measurement is not None
    assert in_python.measurement is not None
    assert dict.fromkeys(counted, 1) == dict(in_files.measurement.modes)
    assert dict.fromkeys(counted, 1) == dict(in_python.measurement.modes)


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_gray_arrays_are_not_shown_as_rgb_when_the_channels_are_strict(tmp_path: Path) -> None:
    gray = np.zeros((2, 4, 4), np.uint8)
    colored = np.ones((4, 4, 3), np.uint8)
    np.save(tmp_path / "gray.npy", gray)
    of_both = library.measure([gray[0], colored], mode="RGB", strict_channels=True)

    assert (1, 3) == (of_both.images, of_both.measurement.pixels.channels)  # type: ignore[union-attr]
    assert [("0", "channel-mismatch")] == [(s.name, s.reason.value) for s in of_both.skipped]
    with pytest.raises(SourceError, match="has mode L, and arrays are not converted to RGB"):
        library.measure(tmp_path / "gray.npy", mode="RGB", strict_channels=True, layout="NHW")


def test_strict_channels_need_a_mode(tmp_path: Path) -> None:
    mixed(tmp_path)
    ended = here("stats", tmp_path, "--strict-channels")

    assert (2, "") == (ended.returncode, ended.stdout)
    assert (
        "--strict-channels needs a --mode that says which channels are right, such as RGB "
        "(see `imgnorm stats --help`)\n" == ended.stderr
    )
    with pytest.raises(
        ValueError, match="strict_channels needs a mode that says which channels are right"
    ):
        library.measure(tmp_path, strict_channels=True)


def test_the_mean_is_pooled_over_pixels_not_averaged_over_images(tmp_path: Path) -> None:
    """A large dark image and a small bright one: 51.5, where an average of means gives 125.0."""
    Image.new("L", (20, 20), 50).save(tmp_path / "large.png")
    Image.new("L", (2, 2), 200).save(tmp_path / "small.png")
    stats = library.measure(tmp_path)

    mean = Fraction(400 * 50 + 4 * 200, 404)
    assert (float(mean / 255),) == stats.mean
    assert stats.measurement is not None
    assert (float(Fraction(125, 255)),) == stats.measurement.conventions()["image_weighted"].mean


# ── the way it runs ──


def test_no_way_to_run_changes_a_byte(tmp_path: Path) -> None:
    """Neither the number of workers, nor the order in which files were made, nor a second run."""
    parts: list[tuple[str, bytes]] = []
    for index in range(60):
        data = io.BytesIO()
        noise(index, (index % 7 + 1, 9), ["L", "RGB", "RGBA"][index % 3]).save(data, "PNG")
        parts.append((f"{'abc'[index % 3]}/{index}.png", data.getvalue()))
    parts.append(("a/broken.png", b"\x89PNG\r\n\x1a\n"))
    found = set()
    for workers in (1, 2, 4, 4):
        folder = tmp_path / f"made for {workers}"
        shutil.rmtree(folder, ignore_errors=True)
        random.Random(workers).shuffle(parts)
        for name, content in parts:
            path = folder / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        output = tmp_path / "stats.yaml"
        ended = here(
            "stats", "data", "--per-class", "--workers", str(workers), "-o", output, "--force",
            cwd=folder,
        )  # fmt: skip
        assert 3 == ended.returncode
        found.add(output.read_bytes())
    assert 1 == len(found)


def test_the_order_of_a_list_changes_no_byte(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "data", 12)
    names = [str(path.relative_to(folder)) for path in folder.rglob("*.png")]
    found = set()
    for seed in range(3):
        random.Random(seed).shuffle(names)
        (folder / "names").write_text("\n".join(names) + "\n")
        ended = here("stats", "names", "--list", "-o", tmp_path / f"{seed}.yaml", cwd=folder)
        assert 0 == ended.returncode
        found.add((tmp_path / f"{seed}.yaml").read_bytes())
    listed = library.read_stats(tmp_path / "0.yaml")

    assert 1 == len(found)
    assert library.measure(folder).mean == listed.mean


# ── noise of C libraries ──


def test_only_our_own_words_are_on_the_terminal(tmp_path: Path) -> None:
    """libtiff, libpng and libjpeg write warnings about damaged files straight to standard error."""
    chance = random.Random(39)
    folder = tmp_path / "data"
    folder.mkdir()
    noise(0).save(folder / "good.png")
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("tif", {"compression": "tiff_lzw"}),
        ("tif", {"compression": "jpeg"}),
        ("tif", {"compression": "tiff_deflate"}),
        ("tif", {}),
        ("png", {}),
        ("jpg", {}),
        ("jpg", {"progressive": True}),
        ("webp", {}),
    ]
    for index, (format_, options) in enumerate(kinds * 12):
        data = io.BytesIO()
        noise(index, (64, 48)).save(data, Image.registered_extensions()[f".{format_}"], **options)
        damaged = bytearray(data.getvalue())
        for _ in range(chance.randrange(1, 30)):
            damaged[chance.randrange(8, len(damaged))] = chance.randrange(256)
        if index % 3 == 0:
            del damaged[chance.randrange(20, len(damaged)) :]
        (folder / f"{index:03}.{format_}").write_bytes(damaged)
    quiet = imgnorm("stats", folder, "-q")
    loud = imgnorm("stats", folder, "-o", tmp_path / "stats.yaml")

    assert (3, "") == (quiet.returncode, quiet.stderr)
    assert ["time", "wrote"] == [line.split()[0] for line in loud.stderr.splitlines()]
    stats = library.read_stats(tmp_path / "stats.yaml")
    assert len(kinds) * 12 + 1 == stats.images + len(stats.skipped)


def test_classes_whose_names_look_the_same_are_added_up(tmp_path):
    """One folder's name has the byte FF, the other's the four characters that stand for it."""
    for folder in (b"\xff", rb"\xff"):
        (tmp_path / os.fsdecode(folder)).mkdir()
        Image.new("L", (2, 2), 255).save(tmp_path / os.fsdecode(folder) / "white.png")

    stats = library.measure(tmp_path, per_class=True)

    assert stats.measurement
    assert {
        r"\xff": ClassStats(2, Moments(8, (8 * 255,), (8 * 255**2,)))
    } == stats.measurement.classes
