"""Emitted modules: formatted, harmless, and the same transform as `to_transform` gives."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.datasets import ImageFolder

import imgnorm
from imgnorm.errors import TransformError
from imgnorm.pipeline.augmentations import Api
from imgnorm.pipeline.targets.torchvision import stats_module
from imgnorm.settings import CHANNELS, CenterCrop, Mode, Resize, scale_of
from imgnorm.stats.file import parse_stats, write_stats
from imgnorm.stats.format import text_of
from imgnorm.stats.measurement import Measurement
from imgnorm.stats.provenance import Provenance
from imgnorm.stats.stats import Stats
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import ImageSums

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "examples" / "shapes"


def measured(
    mode: Mode = "RGB",
    *,
    file_mode: str | None = None,
    preprocess: tuple[Resize | CenterCrop, ...] = (),
    ref: str = "data/train",
    options: dict[str, str | int | tuple[str, ...]] | None = None,
) -> Stats:
    """Stats of an image with every pixel value in it, once."""
    channels, bins = len(CHANNELS[mode]), scale_of(mode) + 1
    unit = (1 << 159,) * channels
    measurement = Measurement(
        images=1,
        pixels=Histogram(tuple((1 + c, *[1] * (bins - 1 - c), *[0] * c) for c in range(channels))),
        sums=ImageSums(1, unit, unit, unit, unit, 0),
        modes={file_mode or mode: 1},
        formats={"PNG": 1},
        decoders={},
        source=Provenance("folder", ref, "0" * 64, "0" * 64, 1, options or {}),
    )
    return Stats.of(measurement, mode, preprocess)


KINDS: dict[str, tuple[Stats, Api, float | None]] = {
    f"{name}-{api}{'-eps' if eps else ''}": (stats, api, eps)
    for name, stats in {
        "L": measured("L"),
        "RGB": measured(),
        "RGBA": measured("RGBA"),
        "I;16": measured("I;16"),
        "L of RGB": measured("L", file_mode="RGB"),
        "RGB of L": measured("RGB", file_mode="L"),
        "resized": measured(preprocess=(Resize(40), CenterCrop(32))),
        "resized to a shape": measured(preprocess=(Resize((224, 320)), CenterCrop((200, 300)))),
        "constants": Stats(("R", "G", "B"), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "5 constants": Stats(tuple("abcde"), (1 / 3,) * 5, (1 / 7,) * 5),
        "tiny constants": Stats(("L",), (1e-5,), (1e-30,)),
        "a constant channel": Stats(("R", "G", "B"), (0.5, 0.5, 0.0), (0.1, 0.1, 0.0)),
    }.items()
    for api in ("v1", "v2")
    for eps in (None, 1e-3)
    if (name != "I;16" or api == "v2") and (name != "a constant channel" or eps)
}  # fmt: skip
kinds = pytest.mark.parametrize(("stats", "api", "eps"), KINDS.values(), ids=KINDS)


def executed(source: str) -> ModuleType:
    module = ModuleType("emitted")
    exec(compile(source, "emitted.py", "exec"), module.__dict__)
    return module


def regenerated(folder: Path, source: str, module: str = "t.py") -> str:
    """The module, after the command in its header has been run in its folder."""
    (command,) = (
        line.removeprefix("#   ") for line in source.splitlines() if line.startswith("#   imgnorm ")
    )
    (folder / module).write_text("# Written by imgnorm, and stale")
    python = f"'{sys.executable}' -m imgnorm"
    subprocess.run(
        ["bash", "-c", command.replace("imgnorm", python, 1)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    return (folder / module).read_text()


def header(source: str) -> list[str]:
    return [line for line in source.splitlines() if line.startswith("# ")]


# The source


@kinds
def test_ruff_has_nothing_to_format_in_any_module(stats, api, eps):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", "-"],
        input=stats_module(stats, api=api, eps=eps),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stdout)


def test_ruff_has_nothing_to_find_in_any_module(tmp_path):
    """With its own rules, and with those that this project has chosen."""
    for name, (stats, api, eps) in KINDS.items():
        (tmp_path / f"{name.replace(' ', '_').replace(';', '').replace('-', '_')}.py").write_text(
            stats_module(stats, api=api, eps=eps)
        )
    outputs = []
    for configured in (
        ["--isolated"],
        ["--config", str(ROOT / "pyproject.toml"), "--ignore", "N999"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "-q", *configured, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        outputs.append(done.stdout + done.stderr)

    assert ["", ""] == outputs


@kinds
def test_a_module_imports_torch_and_torchvision_only_and_does_nothing_else(stats, api, eps):
    tree = ast.parse(stats_module(stats, api=api, eps=eps))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    module = "transforms" if api == "v1" else "v2"

    assert imported == ({"torchvision"} if api == "v1" else {"torch", "torchvision"})
    assert {ast.Expr, ast.Import, ast.ImportFrom, ast.Assign} >= set(map(type, tree.body))
    assert {name for name in called if not name.startswith(f"{module}.")} == {"zip"}


@kinds
def test_a_module_has_the_digits_of_the_stats(stats, api, eps):
    module = executed(stats_module(stats, api=api, eps=eps))

    assert stats.mean == module.MEAN
    assert tuple(max(std, eps or 0) for std in stats.std) == module.STD


# The transforms


def picture(mode: str) -> Image.Image:
    """70 x 50 pixels of noise."""
    noise = np.random.default_rng(0).integers(0, 1 << 16, (50, 70, 4), dtype=np.uint16)
    if mode == "I;16":
        return Image.fromarray(noise[..., 0])
    return Image.fromarray((noise >> 8).astype(np.uint8), "RGBA").convert(mode)


@kinds
def test_a_module_transforms_as_to_transform_does(stats, api, eps):
    module = executed(stats_module(stats, api=api, eps=eps))
    ours = imgnorm.to_transform(stats, api=api, eps=eps)
    file_mode = next(iter(stats.measurement.modes)) if stats.measurement else "RGB"
    image = picture(file_mode)
    if len(stats.channels) == 5:  # no PIL image has five channels
        assert repr(ours.transforms[:-1]) == repr(module.train_transform.transforms[:-1])
        return
    if stats.measurement is None and len(stats.channels) == 1:
        image = picture("L")

    assert torch.equal(ours(image), module.train_transform(image))
    assert torch.equal(ours(image), module.eval_transform(image))


@kinds
def test_the_inverse_brings_back_what_was_normalized(stats, api, eps):
    module = executed(stats_module(stats, api=api, eps=eps))
    values = torch.linspace(0, 1, 256).repeat(len(stats.channels), 1).unsqueeze(1)
    tensors = module.eval_transform.transforms[-1](values)

    # float32 has 24 bits; dividing by the smallest std here (1e-3) loses up to 10 of them.
    tolerance = 1e-6 if min(module.STD) > 0.01 else 1e-4
    assert (module.inverse_transform(tensors) - values).abs().max() < tolerance
    assert torch.equal(
        module.inverse_transform(tensors), imgnorm.to_inverse(stats, api=api, eps=eps)(tensors)
    )


# What is refused


def test_16_bit_stats_have_no_v1_module_and_are_given_that_of_v2():
    """ToTensor makes of mode I;16 an int16 tensor of raw values."""
    assert stats_module(measured("I;16")) == stats_module(measured("I;16"), api="v2")
    assert stats_module(measured("L")) == stats_module(measured("L"), api="v1")
    with pytest.raises(TransformError) as caught:
        stats_module(measured("I;16"), api="v1")

    assert (
        "16-bit stats have no v1 transform: ToTensor does not scale mode I;16, and wraps its values "
        "at 32768; use api v2 (--api v2)"
    ) == str(caught.value)


def test_constant_channels_are_refused_by_name():
    stats = Stats(("R", "G", "B"), (0.5, 0.5, 0.0), (0.0, 0.1, 0.0))

    with pytest.raises(TransformError) as caught:
        stats_module(stats)

    assert (
        "channels R, B are constant (std 0): normalizing would divide by 0; look at the images, or "
        "allow it with an eps (such as --eps 1e-3)"
    ) == str(caught.value)


def test_eps_is_the_least_std():
    stats = Stats(("R", "G", "B"), (0.5, 0.5, 0.0), (0.25, 0.001, 0.0))

    assert (0.25, 0.01, 0.01) == executed(stats_module(stats, eps=0.01)).STD


@pytest.mark.parametrize("eps", [0.0, -1.0, 2.0, float("nan"), float("inf")])
def test_an_eps_that_makes_no_sense_is_refused(eps):
    with pytest.raises(TransformError) as caught:
        stats_module(measured(), eps=eps)

    assert f"eps is {eps!r}; it must be above 0 and at most 1" == str(caught.value)


# The header


def test_the_header_says_what_was_measured_and_how_to_make_it_again():
    stats = measured("RGBA", options={"split": "train", "limit": 10, "exclude": ("masks", "*.gif")})

    assert [
        "# Measured: folder 'data/train', split train, limit 10, exclude masks *.gif:",
        "# 1 image, 256 pixels, mode RGBA, 0 skipped.",
        "# Mean and std are pooled over all pixels, population, for values in [0, 1].",
        "# For images in PIL mode RGBA: ImageFolder's default loader makes RGB of them; give it one that converts to RGBA.",
        "# Regenerate it in this folder:",
        "#   imgnorm emit stats.yaml -o transforms.py --api v2 --eps 0.001 --force",
        "# Random augmentation goes in front of these steps, in your own code, as in",
        "# `v2.Compose([v2.RandomCrop(32, 4), *train_transform.transforms])`.",
        "# From normalized tensors back to [0, 1].",
    ] == header(stats_module(stats, api="v2", eps=1e-3))


def test_the_header_names_the_frames_that_were_measured():
    stats = replace(measured(), frames=10)

    assert "# 1 image, 256 pixels, mode RGB, frames every:10, 0 skipped." in header(
        stats_module(stats)
    )


def test_constants_are_not_called_a_measurement():
    """A number that was typed in may be pooled over anything."""
    assert [
        "# Constants that were written by hand, not measured, for values in [0, 1].",
        "# Regenerate it in this folder:",
    ] == header(stats_module(Stats(("L",), (0.5,), (0.5,))))[:2]


PATHS = [
    ("stats.yaml", "t.py"),
    ('a b/it\'s "$HOME" `x`;#.yaml', "my module.py"),
    ("stäts é 日本 😀.yaml", "t.py"),
    ("back\\slash.yaml", "t.py"),
    ("-o.yaml", "-t.py"),
    ("line\nbreak\x1b\x85\u2028.yaml", "t.py"),
    ("out/../stats.yaml", "out/t.py"),
    ("d" * 200 + "/" + "e" * 200 + "/" + "f" * 200 + "/" + "g" * 200 + "/" + "h" * 250, "out/t.py"),
    ("linked/stats.yaml", "linked/t.py"),
    ("stats.yaml", "linked/t.py"),
]


@pytest.mark.parametrize(("stats_path", "module_path"), PATHS, ids=ascii)
def test_the_command_in_the_header_makes_the_same_module(
    tmp_path, monkeypatch, stats_path, module_path
):
    monkeypatch.chdir(tmp_path)
    os.makedirs("out")
    os.makedirs("far/away")
    os.symlink("far/away", "linked")
    os.makedirs(os.path.dirname(stats_path) or ".", exist_ok=True)
    stats = Stats(("L",), (0.5,), (1e-4,))
    write_stats(stats_path, stats)
    source = stats_module(stats, stats_path=stats_path, module_path=module_path, api="v2", eps=1e-3)
    folder, module = os.path.split(module_path)

    assert source == regenerated(tmp_path / folder, source, module)


def test_a_name_that_is_not_utf_8_is_written_as_its_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stats = Stats(("L",), (0.5,), (0.5,))
    name = os.fsdecode(b"caf\xe9'.yaml")
    try:
        write_stats(name, stats)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    source = stats_module(stats, stats_path=name, module_path="t.py", api="v1", eps=None)

    assert "$'caf\\xe9\\x27.yaml'" in source
    assert source == regenerated(tmp_path, source)


@pytest.mark.parametrize(
    "text",
    [
        "a\nimport os",
        "a\r\nimport os",
        "a\x0cimport os",
        "a\x85import os",
        "a\u2028import os",
        "'''\"\"\"",
        "\\",
        "a\\\nimport os",
        "#",
        "{MEAN}",
        "%s",
        "\0",
        "\ufeff",
        "\u202e",
        "x" * 5000,
        "# -*- coding: utf-7 -*-",
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_no_text_of_a_stats_file_becomes_code(text):
    """A stats file may come from anywhere; importing the module must not run its text."""
    honest = measured()
    stats = measured(ref=text, options={"split": text, "limit": 3})
    stats = replace(
        stats, measurement=replace(stats.measurement, source=replace(stats.measurement.source, kind=text))
    )  # fmt: skip
    stats = parse_stats(text_of(stats).encode(), "hostile.yaml")
    source = stats_module(
        stats, stats_path=text.replace("\0", ""), module_path=text.replace("\0", "")
    )

    assert ast.dump(ast.parse(stats_module(honest))) == ast.dump(ast.parse(source.encode()))
    assert all(line.isprintable() for line in source.split("\n"))


# On real images


def normalized(folder: Path, transform: object) -> tuple[list[float], list[float]]:
    """Mean and std per channel over all pixels, in float64, as a training loop would see them."""
    dataset = ImageFolder(str(folder), transform=transform)
    # Images of any size: pixels in a row, channel by channel.
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=64,
        collate_fn=lambda items: torch.cat([i.flatten(1) for i, _ in items], 1),
    )
    count, total, total_sq = 0, torch.zeros(()), torch.zeros(())
    for batch in loader:
        pixels = batch.double()
        count += pixels.shape[1]
        total = total + pixels.sum(1)
        total_sq = total_sq + (pixels**2).sum(1)
    mean = total / count
    return mean.tolist(), (total_sq / count - mean**2).sqrt().tolist()


def assert_standard(mean: list[float], std: list[float]) -> None:
    # The transform computes in float32, which rounds each pixel by 2**-24 of its value; those
    # errors have either sign, and their average is far below the effect of a wrong digit.
    assert max(map(abs, mean)) < 1e-6
    assert max(abs(s - 1) for s in std) < 1e-6


@pytest.mark.parametrize("api", ["v1", "v2"])
@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "L"}, {"resize": 40, "center_crop": 32}, {"resize": (30, 50), "mode": "L"}],
    ids=str,
)
def test_the_examples_come_out_with_mean_0_and_std_1(options, api):
    stats = imgnorm.measure(SHAPES, workers=1, **options)
    module = executed(stats_module(stats, api=api))

    mean, std = normalized(SHAPES, module.train_transform)

    assert len(stats.channels) == len(mean)
    assert_standard(mean, std)


def test_a_gray_set_measured_as_rgb_comes_out_in_three_channels(tmp_path):
    """Datasets such as MNIST give gray images, but many networks take three channels."""
    (tmp_path / "a").mkdir()
    for index in range(3):
        picture("L").rotate(90 * index).save(tmp_path / "a" / f"{index}.png")
    stats = imgnorm.measure(tmp_path, mode="RGB", workers=1)
    module = executed(stats_module(stats))

    assert 3 == module.train_transform.transforms[0].num_output_channels
    assert (3, 50, 70) == tuple(module.train_transform(picture("L")).shape)
    assert_standard(*normalized(tmp_path, module.train_transform))


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_a_module_for_mode_l_gives_one_channel_whatever_the_loader_gives(tmp_path, api):
    """ImageFolder's loader makes RGB of gray images; what else was in the folder decides nothing."""
    picture("L").save(tmp_path / "a.png")
    measured = imgnorm.measure(tmp_path, mode="L", workers=1)
    for stats in (measured, replace(measured, measurement=None)):
        module = executed(stats_module(stats, api=api))
        shapes = {tuple(module.eval_transform(picture(mode)).shape) for mode in ("L", "RGB", "P")}

        assert {(1, 50, 70)} == shapes


def test_16_bit_images_are_scaled_by_65535(tmp_path):
    pixels = []
    for index in range(4):
        noise = np.random.default_rng(index).integers(0, 60000, (31, 17), dtype=np.uint16)
        Image.fromarray(noise).save(tmp_path / f"{index}.png")
        pixels.append(noise)
    stats = imgnorm.measure(tmp_path, workers=1)
    module = executed(stats_module(stats, api="v2"))
    tensors = torch.stack(
        [module.train_transform(Image.open(path)) for path in sorted(tmp_path.glob("*.png"))]
    ).double()

    assert "I;16" == stats.mode
    # float64 of 2,108 pixels: the last digits of NumPy's own sum may differ.
    assert np.mean(np.stack(pixels) / 65535) == pytest.approx(stats.mean[0], rel=1e-14)
    assert_standard([tensors.mean().item()], [tensors.std(correction=0).item()])


def test_cifar_10_comes_out_with_mean_0_and_std_1(shared_data):
    folder = shared_data / "cifar10-jpeg"
    stats = imgnorm.measure(folder)

    assert_standard(*normalized(folder, executed(stats_module(stats)).train_transform))


def test_photographs_of_any_size_come_out_with_mean_0_and_std_1(shared_data, tmp_path):
    os.symlink(shared_data / "photos", tmp_path / "all")
    stats = imgnorm.measure(tmp_path)

    assert 125 == stats.images
    assert_standard(*normalized(tmp_path, executed(stats_module(stats)).train_transform))


def test_mnist_comes_out_with_mean_0_and_std_1(shared_data):
    root = shared_data / "mnist"
    stats = imgnorm.measure("torchvision:MNIST", root=root)
    dataset = torchvision.datasets.MNIST(root)
    pixels = (dataset.data.numpy() / 255 - stats.mean) / stats.std
    module = executed(stats_module(stats))

    assert (0.1306604762738429, 0.3081078038564627) == pytest.approx(
        (*stats.mean, *stats.std), rel=1e-15
    )
    assert_standard([pixels.mean()], [pixels.std()])
    for index in range(0, 60000, 6007):
        image, _ = dataset[index]
        # float32 against float64
        assert np.abs(module.train_transform(image)[0].numpy() - pixels[index]).max() < 1e-6
