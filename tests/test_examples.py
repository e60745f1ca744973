"""The example images: small, whole, varied, and exactly what `scripts/make_examples` draws; the notebook."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import comparable
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SHAPES = ROOT / "examples" / "shapes"
IMAGES = sorted(path for path in SHAPES.rglob("*") if path.is_file())


def make_examples(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "make_examples", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHAPES, tmp_path / "shapes"))


def test_the_folder_holds_what_the_script_makes():
    check = make_examples("--check")

    assert (0, "") == (check.returncode, check.stderr)


def test_the_script_draws_the_same_images_again(tmp_path):
    make_examples(tmp_path)

    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.p?m")}

    # PPM and PGM have no encoder that could differ: their bytes are the pixels.
    assert {path: (SHAPES / path).read_bytes() for path in again} == again
    assert {Path("circle/ppm.ppm"), Path("triangle/pgm.pgm")} == set(again)


def test_one_changed_level_in_a_lossless_image_is_noticed(copied):
    path = copied / "circle" / "png.png"
    with Image.open(path) as image:
        red, green, blue = image.getpixel((3, 4))
        image.putpixel((3, 4), (red + 1, green, blue))
        image.save(path)

    check = make_examples("--check", copied)

    assert 1 == check.returncode
    assert (
        f"{path}: pixels differ by up to 1 levels, 0.00 on average; "
        "remake it with `scripts/make_examples`\n"
    ) == check.stderr


def test_the_tolerance_for_jpeg_does_not_hide_another_drawing(copied):
    path = copied / "circle" / "jpeg-q95-444.jpg"
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path, quality=95, subsampling=0)

    check = make_examples("--check", copied)

    assert 1 == check.returncode
    assert check.stderr.startswith(f"{path}: pixels differ by up to ")


def test_missing_and_foreign_files_are_named(copied):
    (copied / "square" / "png.png").rename(copied / "square" / "zebra.png")

    check = make_examples("--check", copied)

    assert 1 == check.returncode
    assert (
        f"{copied}/square/png.png: missing; make it with `scripts/make_examples`\n"
        f"{copied}/square/zebra.png: not one of the examples; remove it\n"
    ) == check.stderr


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_image_is_whole_and_of_8_bits(path):
    with Image.open(path) as image:
        image.load()

        assert image.mode in {"L", "P", "RGB", "RGBA", "CMYK"}
        assert getattr(image, "n_frames", 1) == 1


def test_the_set_is_small_enough_to_ship():
    assert sum(path.stat().st_size for path in IMAGES) < 150_000


def test_the_set_covers_what_a_loader_meets():
    met = set()
    for path in IMAGES:
        with Image.open(path) as image:
            met.add((image.format, image.mode))

    assert {
        ("BMP", "RGB"),
        ("JPEG", "CMYK"),
        ("JPEG", "L"),
        ("JPEG", "RGB"),
        ("PNG", "L"),
        ("PNG", "P"),
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PPM", "L"),
        ("PPM", "RGB"),
        ("TIFF", "RGB"),
        ("WEBP", "RGB"),
    } == met


def test_the_set_has_class_folders_odd_sizes_and_progressive_jpegs():
    sizes, progressive = set(), 0
    for path in IMAGES:
        with Image.open(path) as image:
            sizes.add(image.size)
            progressive += "progressive" in image.info

    assert {"circle", "square", "triangle"} == {path.parent.name for path in IMAGES}
    assert any(width % 2 and height % 2 for width, height in sizes)
    assert 2 == progressive


def test_the_notebook_shows_what_its_cells_show():
    """Remade by scripts/run_notebook. Of a picture, only that it is one: its digits are libjpeg's."""
    pytest.importorskip("torchvision")
    script = runpy.run_path(str(ROOT / "scripts" / "run_notebook"))
    notebook = json.loads(script["NOTEBOOK"].read_text(encoding="utf-8"))
    kept = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]

    def shown(outputs: list) -> str:
        text = json.dumps(outputs, ensure_ascii=False)
        return comparable(re.sub(r'"image/svg\+xml": \["<svg .*?"\]', '"image/svg+xml"', text))

    assert list(map(shown, kept)) == list(map(shown, script["outputs_of"](notebook)))
