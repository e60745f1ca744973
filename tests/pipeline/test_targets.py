"""What `emit --to` writes: each framework normalizes by it as torchvision's Normalize does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import applied
import numpy as np
import pytest
import torch
from torchvision.transforms.functional import normalize

import imgnorm
from imgnorm.errors import TransformError
from imgnorm.pipeline.targets import TARGETS, jsonfile
from imgnorm.settings import mode_of, scale_of
from imgnorm.stats.stats import Stats

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "targets.md"
FOLDER = "IMGNORM_TARGETS"
INSTALL = (
    "transformers tokenizers huggingface_hub safetensors regex httpx httpcore anyio h11 idna certifi typer "
    "hf-xet filelock fsspec requests open_clip_torch ftfy wcwidth albumentations==2.0.8 albucore==0.0.24 "
    "stringzilla simsimd pydantic opencv-python-headless scipy kornia kornia_rs keras namex optree ml_dtypes "
    "h5py absl-py rich openvino mmengine-lite addict yapf termcolor platformdirs mmcv-lite<2.2 mmpretrain "
    "importlib_metadata<9 zipp einops mat4py model-index ordered_set mmdet pycocotools terminaltables shapely "
    "mmsegmentation prettytable matplotlib"
)
"""What the heavy test needs beside this environment; together they have 900 MB."""

LIGHT = ("torchvision", "timm", "detectron2", "onnx", "json")
NAMES = ("torchvision", *TARGETS)


def stats_of(channels: int, kind: str) -> Stats:
    mode = mode_of(channels, kind)
    mean = tuple(0.4914 - i / 50 for i in range(channels))
    std = tuple(0.2470 - i / 100 for i in range(channels))
    unit = 40 if kind == "float" else 1
    names = imgnorm.settings.channels_of(mode)
    return Stats(
        names, tuple(unit * m for m in mean), tuple(unit * s for s in std), scale_of(mode), mode
    )


KINDS = {
    f"{channels} of {kind}": stats_of(channels, kind)
    for kind in ("8-bit", "16-bit", "float")
    for channels in (1, 3, 4, 13)
}


def image_of(stats: Stats) -> applied.Array:
    random = np.random.default_rng(0)
    shape = (20, 24, len(stats.mean))
    if stats.of_floats:
        return random.normal(20, 20, shape).astype(np.float32)
    return random.integers(0, stats.scale + 1, shape).astype(
        {255: np.uint8, 65535: np.uint16}[stats.scale]
    )


def expected(stats: Stats, image: applied.Array) -> applied.Array:
    """By torchvision's Normalize, in float64."""
    unit = torch.from_numpy(np.moveaxis(image.astype(np.float64) / stats.scale, -1, 0).copy())
    return np.asarray(normalize(unit, stats.mean, stats.std))


def rounding(stats: Stats) -> float:
    """What float32 may differ by: of a value, a mean and a quotient, each rounded once or twice."""
    largest = 100 if stats.of_floats else 1
    return 2 * 2**-23 * (largest + max(map(abs, stats.mean))) / min(stats.std)


def takes(target: str, stats: Stats) -> bool:
    known = TARGETS.get(target)
    if known is None:
        return True
    count = not known.channels or len(stats.mean) in known.channels
    return count and stats.scale in known.kinds


def api_of(target: str, stats: Stats) -> str | None:
    return "v2" if target == "torchvision" and stats.scale == 65535 else None


def written_to(folder: Path, target: str) -> dict[str, Stats]:
    """For each kind of images that a target takes a folder with its file and an image."""
    done = {}
    for number, stats in enumerate(KINDS.values()):
        if takes(target, stats):
            place = folder / f"{number:02}"
            place.mkdir(parents=True)
            file = TARGETS[target].file if target in TARGETS else "transforms.py"
            made = imgnorm.emit(stats, to=target, api=api_of(target, stats))
            (place / file).write_bytes(made.data)
            np.save(place / "image.npy", image_of(stats))
            done[f"{number:02}"] = stats
    return done


def differences(folder: Path, done: dict[str, Stats]) -> Iterator[tuple[float, float]]:
    """The largest difference from Normalize of each kind, and what rounding may make."""
    for place, stats in done.items():
        found = np.load(folder / place / "normalized.npy")
        wanted = expected(stats, np.load(folder / place / "image.npy"))
        assert wanted.shape == found.shape
        yield float(np.abs(wanted - found).max()), rounding(stats)


@pytest.mark.parametrize("target", LIGHT)
def test_the_file_normalizes_as_torchvision_does(tmp_path, target):
    package, _ = applied.APPLIED[target]
    if package and applied.version_of(package) is None:
        pytest.skip(f"{package} is not installed")
    done = written_to(tmp_path, target)
    applied.apply_all(target, tmp_path)

    assert [] == [(d, most) for d, most in differences(tmp_path, done) if d > most]


def test_what_a_target_cannot_express_is_refused_in_a_sentence():
    refused = {}
    for target in TARGETS:
        for kind, stats in KINDS.items():
            if takes(target, stats):
                continue
            with pytest.raises(TransformError) as caught:
                imgnorm.emit(stats, to=target)
            refused[target, kind] = str(caught.value)

    assert (
        "timm takes 8-bit images with 1 or 3 channels, and these are 16-bit images with 4; choose another "
        "target (`imgnorm emit --to` lists them)"
    ) == refused["timm", "4 of 16-bit"]
    assert (
        "mmdet takes images with 1 or 3 channels, and these are 8-bit images with 13; choose another target "
        "(`imgnorm emit --to` lists them)"
    ) == refused["mmdet", "13 of 8-bit"]


def test_what_is_written_says_for_which_unit_and_order():
    rgb = KINDS["3 of 8-bit"]
    silent = [
        name
        for name, target in TARGETS.items()
        if f"Written by imgnorm for {target.takes_order} images, values in "
        f"{'0..255' if target.takes_pixels else '0..1'}.".encode()
        not in imgnorm.emit(rgb, to=name).data[:1000]
    ]

    assert [] == silent


def test_digits_move_in_decimals():
    stats = Stats(("R", "G", "B"), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    text = imgnorm.emit(stats, to="keras").text

    assert "mean=[123.675, 116.28, 103.53]" in text
    assert "variance=[3409.976025, 3262.6944, 3291.890625]" in text


@pytest.mark.parametrize("target", [name for name in NAMES if name != "onnx"])
def test_python_is_formatted_and_yaml_and_json_are_read(tmp_path, target):
    """No text of a stats file becomes code: the header is in comments, or one text."""
    made = imgnorm.emit(KINDS["3 of 8-bit"], to=target).text
    if target in TARGETS and TARGETS[target].is_json:
        assert isinstance(json.loads(made), dict)
    elif target == "detectron2":
        import yaml

        assert {"MODEL", "INPUT"} == set(yaml.safe_load(made))
    else:
        command = [sys.executable, "-m", "ruff", "format", "--isolated", "--check", "-"]
        done = subprocess.run(command, input=made, text=True, capture_output=True)

        assert 0 == done.returncode, done.stderr


PROCESSOR = """\
{
    "crop_size": {"height": 224, "width": 224},
    "do_normalize": false,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [
        0.5,
        0.5,
        0.5
    ],
    "scale": 1e-05,
    "name": "caf\\u00e9"
}"""
MERGED = """\
{
    "crop_size": {"height": 224, "width": 224},
    "do_normalize": true,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [
        0.229,
        0.224,
        0.225
    ],
    "scale": 1e-05,
    "name": "caf\\u00e9",
    "imgnorm": "NOTE",
    "do_rescale": true,
    "rescale_factor": 0.00392156862745098
}"""


def test_json_keeps_all_else_as_it_is(tmp_path):
    stats = Stats(("R", "G", "B"), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    path = tmp_path / "preprocessor_config.json"
    path.write_bytes(PROCESSOR.encode())
    first = imgnorm.emit(stats, to="hf", into=path)
    path.write_bytes(first.data)

    assert MERGED == re.sub(r'"Written by imgnorm for RGB images.*"', '"NOTE"', first.text)
    assert first == imgnorm.emit(stats, to="hf", into=path)


@pytest.mark.parametrize(
    ("present", "merged"),
    [
        ("{}", '{"a": {"x": [1, 2]}, "b": 3}'),
        ('{"b":1,"a":{"y":0}}', '{"b":3,"a":{"y":0, "x": [1, 2]}}'),
        ('{"a": {"x": {}}, "b": {"c": 1}}', '{"a": {"x": [1, 2]}, "b": 3}'),
        (
            '{\r\n\t"c": 5\r\n}\r\n',
            (
                '{\r\n\t"c": 5,\r\n\t"a": {\r\n\t\t"x": [\r\n\t\t\t1,\r\n\t\t\t2\r\n\t\t]\r\n\t},'
                '\r\n\t"b": 3\r\n}\r\n'
            ),
        ),
    ],
)
def test_json_is_merged_in_its_own_form(present, merged):
    assert merged == jsonfile.merged_json(present, {"a": {"x": [1, 2]}, "b": 3})


PIPELINE = {
    "__version__": "2.0.8",
    "transform": {
        "__class_fullname__": "Compose",
        "p": 1.0,
        "transforms": [
            {"__class_fullname__": "HorizontalFlip", "p": 0.5},
            {"__class_fullname__": "Normalize", "p": 1.0, "mean": [0], "std": [1]},
        ],
    },
}


def test_the_normalize_of_a_pipeline_of_albumentations_takes_the_numbers(tmp_path):
    path = tmp_path / "pipeline.json"
    path.write_text(json.dumps(PIPELINE))
    stats = KINDS["3 of 8-bit"]
    found = json.loads(imgnorm.emit(stats, to="albumentations", into=path).text)
    *others, last = found["transform"]["transforms"]

    assert PIPELINE["transform"]["transforms"][:1] == others
    assert (list(stats.mean), 255.0, 1.0) == (last["mean"], last["max_pixel_value"], last["p"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[1]", "is not a JSON object, which takes keys"),
        ("{", "is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        ('{"transform": {"transforms": []}}', "has no transform Normalize, where one takes the numbers"),
    ],
)  # fmt: skip
def test_a_file_without_a_place_for_the_numbers_is_refused(tmp_path, text, why):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(imgnorm.errors.SourceError) as caught:
        imgnorm.emit(KINDS["3 of 8-bit"], to="albumentations", into=path)

    assert f"{path}: {why}" == str(caught.value)
