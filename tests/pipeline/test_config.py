"""Pipeline configs: reading, building, writing and measuring agree with one another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torchvision.datasets import ImageFolder

import imgnorm
from imgnorm.checks.validate import validate
from imgnorm.cli import commands, run
from imgnorm.constants.presets import PRESETS
from imgnorm.datasets.torchvision import TorchvisionSource
from imgnorm.documents import reader
from imgnorm.errors import InvalidDocument, TransformError
from imgnorm.measuring.measure import call_facts
from imgnorm.pipeline import config
from imgnorm.pipeline.pipeline import Augmentation
from imgnorm.pipeline.targets.torchvision import pipeline_module
from imgnorm.settings import CenterCrop, Resize, conflicts

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SHAPES = ROOT / "examples" / "shapes"
GRAY = "{mean: [0.5], std: [0.25]}"
RGB = "{mean: [0.5, 0.4, 0.3], std: [0.25, 0.2, 0.15]}"


def written(folder: Path, **parts: str) -> Path:
    """A config with these parts instead of the simplest ones."""
    plain = {"source": f"{{kind: folder, path: {SHAPES}}}", "normalize": RGB}
    lines = [f"{key}: {value}" for key, value in (plain | parts).items()]
    path = folder / "pipeline.yaml"
    path.write_text("\n".join(["format: imgnorm-pipeline/1", *lines, ""]))
    return path


def module_of(path: Path, **options: float) -> dict:
    """What the module that `emit` writes defines."""
    text = pipeline_module(*config.read_normalized(path), **options)
    names: dict = {}
    exec(compile(text, "transforms.py", "exec"), names)
    return names


def command(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imgnorm", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert 0 == done.returncode, done.stderr


def photo(mode: str = "RGB", size: tuple[int, int] = (70, 60)) -> Image.Image:
    generator = np.random.default_rng(5)
    if mode == "I;16":
        return Image.fromarray(generator.integers(0, 65536, size[::-1], dtype=np.uint16))
    shape = size[::-1] if mode == "L" else (*size[::-1], len(mode))
    return Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))


def seeded(transform, image: Image.Image) -> torch.Tensor:
    torch.manual_seed(3)
    return transform(image)


# Reading


def test_a_pipeline_holds_what_the_file_says(tmp_path):
    path = written(
        tmp_path,
        source="{kind: torchvision, name: CIFAR10, root: ../data, split: test}",
        preprocess="[{Resize: {size: [20, 30]}}, {CenterCrop: {size: 16}}]",
        augment="[{RandomCrop: {size: 16, padding: 2}}]",
        api="v2",
    )

    pipeline = config.read_pipeline(path)

    root = str(tmp_path.parent / "data")
    assert {"source": "torchvision:CIFAR10", "root": root, "split": "test"} == pipeline.source
    assert (Resize((20, 30)), CenterCrop(16)) == pipeline.preprocess
    assert (Augmentation("RandomCrop", {"size": 16, "padding": 2}),) == pipeline.augment
    assert ("auto", "v2") == (pipeline.mode, pipeline.api)


def test_a_preset_is_its_numbers(tmp_path):
    built = imgnorm.build(written(tmp_path, normalize="{preset: cifar10}"))
    *_, normalize = built.eval.transforms

    assert list(PRESETS["cifar10"].mean) == normalize.mean
    assert list(PRESETS["cifar10"].std) == normalize.std


def test_paths_are_relative_to_the_config_and_nothing_in_them_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/elsewhere")
    path = written(
        tmp_path, source="{kind: list, path: ~/$HOME/names.txt}", normalize="{stats: ../s.yaml}"
    )

    pipeline = config.read_pipeline(path)

    assert str(tmp_path / "~" / "$HOME" / "names.txt") == pipeline.source["source"]
    assert str(tmp_path.parent / "s.yaml") == pipeline.stats_path
    assert pipeline.listed


@pytest.mark.parametrize("named", ["shapes.tar", "sha*.tar", "{shapes,more}.tar"])
def test_an_archive_and_a_pattern_of_them_are_measured(tmp_path, named):
    """Relative to the config, as a folder is."""
    (tmp_path / "configs").mkdir()
    shutil.make_archive(str(tmp_path / "shapes"), "tar", ROOT / "examples" / "shapes")
    shutil.make_archive(str(tmp_path / "more"), "tar", ROOT / "examples" / "shapes" / "circle")
    path = tmp_path / "configs" / "p.yaml"
    path.write_text(
        "format: imgnorm-pipeline/1\n"
        f"source: {{kind: archive, path: '../{named}'}}\n"
        "normalize: {stats: stats.yaml}\n"
    )
    output = tmp_path / "configs" / "stats.yaml"

    assert 0 == run(["stats", str(path), "-o", str(output), "-q", "--workers", "1"])
    assert (32 if "more" in named else 24) == imgnorm.read_stats(output).images
    assert () == validate([str(path), str(output)]).problems
    assert () == imgnorm.verify(output, path, sample=3, workers=1).problems


@pytest.mark.parametrize("named", ["a.npy", "b.npz/x", "a*.npy"])
def test_arrays_are_measured_and_built_for(tmp_path, named):
    """PIL images hold uint8 and uint16 arrays, so one pipeline works for both."""
    images = np.random.default_rng(3).integers(0, 256, (6, 8, 9, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "b.npz", x=images)
    path = written(
        tmp_path, source=f"{{kind: array, path: '{named}'}}", normalize="{stats: s.yaml}"
    )
    output = tmp_path / "s.yaml"

    assert 0 == run(["stats", str(path), "-o", str(output), "-q", "--workers", "1"])
    stats = imgnorm.read_stats(output)
    assert images.astype(np.int64).sum((0, 1, 2)).tolist() == list(
        stats.measurement.pixels.moments().total
    )
    assert () == validate([str(path), str(output)]).problems
    tensors = torch.stack([imgnorm.build(path).eval(Image.fromarray(one)) for one in images])
    assert tensors.mean().abs() < 1e-6


def test_a_layout_is_for_arrays_and_one_that_there_is(tmp_path):
    fine = written(tmp_path, source="{kind: array, path: a.npy, layout: NCHW}")
    assert "NCHW" == config.read_pipeline(fine).source["layout"]

    for source in (
        "{kind: array, path: a.npy, layout: NWHC}",
        "{kind: folder, path: a, layout: HW}",
    ):
        with pytest.raises(InvalidDocument, match="layout"):
            config.read_pipeline(written(tmp_path, source=source))


@pytest.mark.parametrize(
    ("kind", "there"), [("folder", "a.npy"), ("array", "images"), ("archive", "images")]
)
def test_a_source_of_another_kind_is_refused(tmp_path, capsys, kind, there):
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 9), np.uint8))
    shutil.copytree(ROOT / "examples" / "shapes" / "circle", tmp_path / "images" / "circle")
    path = written(tmp_path, source=f"{{kind: {kind}, path: {there}}}")

    assert 2 == run(["stats", str(path), "-q"])
    is_kind = "array" if there == "a.npy" else "folder"
    assert (
        f"{path}: {tmp_path / there} is not a source of kind '{kind}'; write `kind: {is_kind}`, or another "
        "path\n"
    ) == capsys.readouterr().err


def test_nothing_is_downloaded_for_a_folder(tmp_path, capsys):
    path = written(tmp_path, source="{kind: folder, path: .}")

    assert 2 == run(["stats", str(path), "--download"])
    assert "--download is for torchvision:NAME; leave it out" in capsys.readouterr().err


def test_a_config_of_torchvision_may_be_downloaded():
    """It once ended in a traceback."""
    assert [] == [*conflicts(call_facts(TorchvisionSource("MNIST", "data"), download=True))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format: imgnorm-pipeline/1\n", "imgnorm-pipeline/1"),
        ("{mean: [0.5], 'format': \"imgnorm-stats/1\"}", "imgnorm-stats/1"),
        ("image: {format: inner}\nformat: outer", "outer"),
        ("[format, x]", ""),
        ("mean: [0.5", ""),
        ("format: [imgnorm-stats/1]", ""),
        ("{" * 1000, ""),
        ("", ""),
    ],
)
def test_the_format_is_found_without_reading_on(text, said):
    assert said == reader.declared_format(text.encode())


# The three agree


@pytest.mark.parametrize("api", ["v1", "v2"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_is_measured_is_what_the_transforms_see(tmp_path, api, mode):
    """Pixel for pixel: the histogram of what reaches Normalize is the one that was measured."""
    source = tmp_path / "images" / "class"
    source.mkdir(parents=True)
    for index, size in enumerate([(70, 60), (41, 90), (56, 56)]):
        photo(size=size).save(source / f"{index}.png")
    path = written(
        tmp_path,
        source="{kind: folder, path: images}",
        image=f"{{mode: {mode}}}",
        preprocess="[{Resize: {size: 48}}, {CenterCrop: {size: [40, 56]}}]",
        normalize="{stats: stats.yaml}",
        api=api,
    )
    command(tmp_path, "stats", "pipeline.yaml", "-o", "stats.yaml")
    stats = imgnorm.read_stats(tmp_path / "stats.yaml")
    evaluate = imgnorm.build(path).eval
    *before, _ = evaluate.transforms
    seen = [
        torch.stack([step_through(before, image) for image, _ in [item]])
        for item in ImageFolder(tmp_path / "images")
    ]
    levels = [(pixels * 255).round().to(torch.int64) for pixels in seen]

    for channel, counts in enumerate(stats.measurement.histogram.counts):
        values = torch.cat([pixels[:, channel].flatten() for pixels in levels])
        assert counts == tuple(torch.bincount(values, minlength=256).tolist())


def step_through(steps: list, image: Image.Image) -> torch.Tensor:
    for step in steps:
        image = step(image)
    return image


AUGMENTATIONS = {
    "v1": "[{RandomCrop: {size: 32, padding: [4, 2], padding_mode: reflect}}, "
    "{RandomRotation: {degrees: 20, interpolation: bilinear, fill: 3}}, "
    "{AutoAugment: {policy: cifar10}}, {ColorJitter: {brightness: [0.5, 1.5], hue: 0.1}}, "
    "{ToTensor: {}}, {Normalize: {}}, {RandomErasing: {p: 1, value: random, scale: [0.02, 0.2]}}]",
    "v2": "[{RandomResizedCrop: {size: 32, interpolation: nearest-exact, antialias: null}}, "
    "{RandomPhotometricDistort: {p: 1}}, {JPEG: {quality: [20, 90]}}, {ToImage: {}}, "
    "{RandomZoomOut: {fill: [1, 2, 3], side_range: [1.0, 1.5], p: 1}}, {ToDtype: {}}, "
    "{GaussianNoise: {sigma: 0.05, clip: true}}]",
}


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_the_module_does_what_the_built_pipeline_does(tmp_path, api):
    path = written(
        tmp_path, preprocess="[{Resize: {size: 40}}]", augment=AUGMENTATIONS[api], api=api
    )
    built, module = imgnorm.build(path), module_of(path)

    assert torch.equal(seeded(built.train, photo()), seeded(module["train_transform"], photo()))
    assert torch.equal(built.eval(photo()), module["eval_transform"](photo()))


def test_what_is_not_written_comes_last(tmp_path):
    path = written(tmp_path, augment="[{ToImage: {}}, {RandomErasing: {p: 1}}]", api="v2")

    steps = [type(step).__name__ for step in imgnorm.build(path).train.transforms]

    assert ["ToImage", "RandomErasing", "ToDtype", "Normalize"] == steps


def test_normalize_stands_where_it_is_written(tmp_path):
    path = written(tmp_path, augment="[{ToTensor: {}}, {Normalize: {}}, {RandomErasing: {}}]")

    steps = [type(step).__name__ for step in imgnorm.build(path).train.transforms]

    assert ["ToTensor", "Normalize", "RandomErasing"] == steps


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_mode_l_makes_every_image_gray_and_leaves_gray_ones_alone(tmp_path, api):
    path = written(tmp_path, image="{mode: L}", normalize=GRAY, api=api)
    evaluate = imgnorm.build(path).eval
    gray = photo().convert("L")

    assert (1, 60, 70) == evaluate(photo()).shape
    assert torch.equal(evaluate(gray), evaluate(photo()))


def test_16_bit_images_are_scaled_by_65535(tmp_path):
    path = written(tmp_path, image="{mode: I;16}", normalize=GRAY, api="v2")
    image = photo("I;16")
    expected = (np.asarray(image).astype(np.float64) / 65535 - 0.5) / 0.25

    seen = imgnorm.build(path).eval(image)[0].numpy()

    # float32 has 24 bits; the values are at most 2
    assert np.abs(expected - seen).max() < 1e-6


def test_an_emitted_module_is_formatted_as_ruff_does(tmp_path):
    for api in ("v1", "v2"):
        path = written(tmp_path, augment=AUGMENTATIONS[api], api=api)
        module = tmp_path / f"{api}.py"
        module.write_text(pipeline_module(*config.read_normalized(path)))
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--isolated", str(tmp_path)],
        capture_output=True,
        text=True,
    )

    assert 0 == done.returncode, done.stdout


def test_a_file_name_never_becomes_code(tmp_path):
    path = written(tmp_path)
    text = pipeline_module(
        *config.read_normalized(path), config_path='"""\nimport os\n', module_path="\nx = 1"
    )
    names: dict = {}
    exec(compile(text, "transforms.py", "exec"), names)

    assert "os" not in names
    assert "x" not in names


# Refusals


def test_build_tells_every_fault(tmp_path):
    path = written(
        tmp_path, normalize="{mean: [0.5, .nan], std: [0.2, 0.2, 0]}", image="{mode: RGB}"
    )

    with pytest.raises(InvalidDocument) as caught:
        imgnorm.build(path)

    assert (
        f"{path}:3:19: normalize.mean: 2 values for 3 channels\n"
        "    give 3 values\n"
        f"{path}:3:25: normalize.mean[1]: nan is not a number\n"
        "    measure the data again, and look for what overflowed\n"
        f"{path}:3:48: normalize.std[2]: 0.0 is not above 0\n"
        "    a constant channel needs a least std, such as 1e-3"
    ) == str(caught.value)


def test_build_tells_what_torchvision_refuses(tmp_path):
    path = written(tmp_path, augment="[{RandomGrayscale: {}}, {RandomRotation: {degrees: -4}}]")

    with pytest.raises(TransformError) as caught:
        imgnorm.build(path)

    assert (
        "RandomRotation: torchvision refuses its arguments: "
        "If degrees is a single number, it must be positive."
    ) == str(caught.value)


def test_a_stats_file_in_the_place_of_a_config_is_told_as_such(tmp_path, capsys):
    """The error is not about the keys that a config lacks."""
    file = str(tmp_path / "s.yaml")
    Path(file).write_text("format: imgnorm-stats/1\nmean: [0.5]\nstd: [0.2]\n")

    assert 2 == run(["stats", file])
    assert capsys.readouterr().err == (
        f"{file}: is a stats file, not a config or data; name what to measure (`imgnorm show` prints the "
        "file, `imgnorm verify` measures its data again)\n"
    )


def test_stats_of_a_config_refuse_options_that_the_config_has(tmp_path):
    path = written(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "imgnorm", "stats", str(path), "--resize", "32"],
        capture_output=True,
        text=True,
    )

    assert (2, "") == (done.returncode, done.stdout)
    assert (
        f"--resize: {path} says it; change it there, or leave --resize out "
        "(see `imgnorm stats --help`)\n"
    ) == done.stderr


def test_emit_refuses_an_api_beside_that_of_the_config(tmp_path):
    path = written(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "imgnorm", "emit", str(path), "--api", "v2"],
        capture_output=True,
        text=True,
    )

    assert (2, "") == (done.returncode, done.stdout)
    assert (
        f"--api: {path} says it; change it there, or leave --api out (see `imgnorm emit --help`)\n"
    ) == done.stderr


def test_an_emitted_module_is_checked_against_its_config(tmp_path):
    written(tmp_path)
    command(tmp_path, "emit", "pipeline.yaml", "-o", "transforms.py")
    command(tmp_path, "emit", "pipeline.yaml", "-o", "transforms.py", "--check")
    written(tmp_path, augment="[{RandomHorizontalFlip: {}}]")

    with pytest.raises(AssertionError, match="is not what `imgnorm emit` writes now"):
        command(tmp_path, "emit", "pipeline.yaml", "-o", "transforms.py", "--check")


# The configs that ship


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_builds_and_runs(path):
    _, stats = config.read_normalized(path)
    mode = stats.mode or "RGB"
    built = imgnorm.build(path)
    module = module_of(path)
    size = (300, 280) if path.stem == "imagenet" else (96, 96)
    image = photo(mode, size)

    for transform in (built.train, built.eval):
        seen = seeded(transform, image)
        assert len(stats.channels) == seen.shape[0]
        assert torch.float32 == seen.dtype
        assert bool(seen.isfinite().all())
    assert torch.equal(seeded(module["train_transform"], image), seeded(built.train, image))


def test_the_shipped_stats_are_those_of_the_example_images(tmp_path):
    """Other releases of libjpeg may round the last digits differently."""
    shipped = imgnorm.read_stats(ROOT / "configs" / "stats" / "shapes.yaml")
    command(ROOT, "stats", "configs/folder.yaml", "-o", str(tmp_path / "shapes.yaml"))
    measured = imgnorm.read_stats(tmp_path / "shapes.yaml")

    assert pytest.approx(shipped.mean, abs=1e-3) == measured.mean
    assert pytest.approx(shipped.std, abs=1e-3) == measured.std
    assert measured.preprocess == shipped.preprocess


# The table and the schema


def test_the_table_is_that_of_the_installed_torchvision():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_transform_table", "--check"],
        capture_output=True,
        text=True,
    )

    assert (0, "") == (done.returncode, done.stderr)


def test_a_table_that_is_out_of_date_is_noticed(tmp_path, monkeypatch, capsys):
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    loader = SourceFileLoader("make_table", str(ROOT / "scripts" / "make_transform_table"))
    make_table = module_from_spec(spec_from_loader("make_table", loader))
    loader.exec_module(make_table)
    stored = json.loads(make_table.TABLE.read_text())
    now = json.loads(make_table.TABLE.read_text())
    now["v1"]["RandomCrop"]["random"] = False

    differences = list(make_table.differing(stored, now, ""))

    assert ["v1.RandomCrop.random is true, torchvision has false"] == differences


@pytest.mark.parametrize("kind", ["pipeline", "stats"])
def test_the_committed_schema_is_the_printed_one(kind):
    printed = CliRunner().invoke(commands, ["schema", kind], catch_exceptions=False).output

    assert printed == (ROOT / "imgnorm" / kind / "schema.json").read_text()
