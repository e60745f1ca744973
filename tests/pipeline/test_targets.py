"""What `emit --to` writes: each framework normalizes by it as torchvision's Normalize does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import applied
import pytest
import tried
from tried import NAMES

import imgnorm
from imgnorm.checks.lint.explained import explain_file
from imgnorm.checks.lint.lint import lint
from imgnorm.constants.frameworks import FRAMEWORKS
from imgnorm.errors import TransformError
from imgnorm.pipeline.targets import TARGETS, jsonfile
from imgnorm.settings import CenterCrop, Resize
from imgnorm.stats.stats import Stats

TABLE = Path(__file__).parents[2] / "docs" / "targets.md"
LIGHT = ("torchvision", "timm", "detectron2", "onnx", "json")
HEAVY = tuple(name for name in NAMES if name not in LIGHT)
IMAGENET = Stats(("R", "G", "B"), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("target", LIGHT)
def test_the_file_normalizes_as_torchvision_does(tmp_path, target):
    package, _ = applied.APPLIED[target]
    if package and applied.version_of(package) is None:
        pytest.skip(f"{package} is not installed")
    done = tried.written_to(tmp_path, target)
    applied.apply_all(target, tmp_path)

    assert [] == [(d, most) for d, most in tried.differences(tmp_path, done) if d > most]


@pytest.mark.heavy
@pytest.mark.parametrize("target", HEAVY)
def test_the_file_normalizes_so_in_the_framework_itself(tmp_path, target):
    if tried.PACKAGES not in os.environ:
        pytest.skip(f"needs other packages: {tried.HOW_TO_INSTALL}")
    done = tried.written_to(tmp_path, target)
    tried.apply_elsewhere(target, tmp_path, os.environ[tried.PACKAGES])

    assert [] == [(d, most) for d, most in tried.differences(tmp_path, done) if d > most]


def test_the_table_in_the_docs_has_the_targets():
    """scripts/make_target_table writes it, from what the two tests above find."""
    rows = re.findall(r"^\| `(\w+)` \| .* \|$", TABLE.read_text(), re.MULTILINE)

    assert list(NAMES) == rows
    for line in (tried.row(name) for name in NAMES):
        assert f"\n{line}" in TABLE.read_text()


def test_what_a_target_cannot_express_is_refused_in_a_sentence():
    refused = {}
    for target in TARGETS:
        for kind, stats in tried.KINDS.items():
            if tried.takes(target, stats):
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
    rgb = tried.KINDS["3 of 8-bit"]
    silent = [
        name
        for name, target in TARGETS.items()
        if f"Written by imgnorm for {target.takes_order} images, values in "
        f"{'0..255' if target.takes_pixels else '0..1'}.".encode()
        not in imgnorm.emit(rgb, to=name).data[:1000]
    ]

    assert [] == silent


def test_digits_move_in_decimals():
    text = imgnorm.emit(IMAGENET, to="keras").text

    assert "mean=[123.675, 116.28, 103.53]" in text
    assert "variance=[3409.976025, 3262.6944, 3291.890625]" in text


@pytest.mark.parametrize("target", [name for name in NAMES if name != "onnx"])
def test_python_is_formatted_and_yaml_and_json_are_read(tmp_path, target):
    """No text of a stats file becomes code: the header is in comments, or one text."""
    made = imgnorm.emit(tried.KINDS["3 of 8-bit"], to=target).text
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
    path = tmp_path / "preprocessor_config.json"
    path.write_bytes(PROCESSOR.encode())
    first = imgnorm.emit(IMAGENET, to="hf", into=path)
    path.write_bytes(first.data)

    assert MERGED == re.sub(r'"Mean and std written by imgnorm for RGB.*"', '"NOTE"', first.text)
    assert first == imgnorm.emit(IMAGENET, to="hf", into=path)


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


def test_timm_makes_a_model_of_the_merged_config(tmp_path):
    timm = pytest.importorskip("timm")
    path = tmp_path / "config.json"
    present = {"architecture": "resnet10t", "num_classes": 7, "pretrained_cfg": {"crop_pct": 1.0}}
    path.write_text(json.dumps(present))
    path.write_bytes(imgnorm.emit(IMAGENET, to="timm", into=path).data)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=False)
    found = timm.data.resolve_model_data_config(model)

    assert (7, 1.0) == (model.num_classes, found["crop_pct"])
    assert [*IMAGENET.mean, *IMAGENET.std] == [*found["mean"], *found["std"]]


def test_timm_takes_the_numbers_from_a_file_without_pretrained_cfg(tmp_path):
    timm = pytest.importorskip("timm")
    path = tmp_path / "config.json"
    present = {
        "architecture": "resnet10t",
        "num_classes": 7,
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "input_size": [3, 64, 64],
    }
    path.write_text(json.dumps(present))
    path.write_bytes(imgnorm.emit(IMAGENET, to="timm", into=path).data)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=False)
    found = timm.data.resolve_model_data_config(model)

    assert (7, (3, 64, 64)) == (model.num_classes, tuple(found["input_size"]))
    assert [*IMAGENET.mean, *IMAGENET.std] == [*found["mean"], *found["std"]]


def test_the_image_processor_in_a_file_of_several_takes_the_numbers(tmp_path):
    path = tmp_path / "processor_config.json"
    present = {"image_processor": {"size": 9, "image_mean": [0.5]}, "processor_class": "x"}
    path.write_text(json.dumps(present))
    found = json.loads(imgnorm.emit(IMAGENET, to="hf", into=path).text)

    assert {"image_processor", "processor_class"} == set(found)
    assert (9, [*IMAGENET.mean]) == tuple(
        found["image_processor"][key] for key in ("size", "image_mean")
    )


NO_OBJECTS = ("[]", "[1]", '"text"', "3", "true", "null")


@pytest.mark.parametrize(
    ("target", "key"),
    [("timm", "pretrained_cfg"), ("open_clip", "preprocess_cfg"), ("hf", "image_processor")],
)
def test_what_is_no_object_is_never_replaced(tmp_path, target, key):
    path = tmp_path / "x.json"
    told = []
    for value in NO_OBJECTS:
        path.write_text(f'{{"{key}": {value}, "z": 1}}')
        with pytest.raises(imgnorm.errors.SourceError) as caught:
            imgnorm.emit(IMAGENET, to=target, into=path)
        told.append(str(caught.value))

    assert [f"{path}: has {one} as {key!r}, which must be an object" for one in NO_OBJECTS] == told


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('{"a": 1, // of mine\n "b": 2}', "JSON has no comments: remove them"),
        ('{"a": 1,}', "remove the comma behind the last value"),
        ('{"a": [1,]}', "remove the comma behind the last value"),
    ],
)
def test_a_file_that_is_nearly_json_is_refused_with_a_hint(tmp_path, text, hint):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(imgnorm.errors.SourceError, match=f"is not JSON .*; {hint}$"):
        imgnorm.emit(IMAGENET, to="hf", into=path)


@pytest.mark.parametrize("target", ["json", "kornia"])
def test_the_scale_of_values_in_0_1_is_said(target):
    said = [
        imgnorm.emit(tried.KINDS[f"3 of {kind}"], to=target).text for kind in ("8-bit", "16-bit")
    ]

    assert ["255", "65535"] == [re.search(r"(?:\"scale\": |divided by )(\d+)", t)[1] for t in said]


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
    stats = tried.KINDS["3 of 8-bit"]
    found = json.loads(imgnorm.emit(stats, to="albumentations", into=path).text)
    *others, last = found["transform"]["transforms"]

    assert PIPELINE["transform"]["transforms"][:1] == others
    assert (list(stats.mean), 255.0, 1.0) == (last["mean"], last["max_pixel_value"], last["p"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[1]", "is not a JSON object, which takes keys"),
        ("{", "is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        ("\ufeff{}", "begins with a byte order mark; save it as UTF-8 without one"),
        ('{"a": 1, "b": {"a": 1, "a": 2}}', "has the key 'a' twice in one object; remove one"),
        ('{"transform": {"transforms": []}}', "has no transform Normalize, where one takes the numbers"),
    ],
)  # fmt: skip
def test_a_file_without_a_place_for_the_numbers_is_refused(tmp_path, text, why):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(imgnorm.errors.SourceError) as caught:
        imgnorm.emit(tried.KINDS["3 of 8-bit"], to="albumentations", into=path)

    assert f"{path}: {why}" == str(caught.value)


def test_the_other_frameworks_in_the_docs_have_the_units_that_lint_goes_by():
    rows = re.findall(
        r"^\| ([\w. ]+?)(?: \(.*?\))? \| .* \| ((?:255 )?m, (?:255 )?s).* \| (.*) \| .* \|$",
        TABLE.read_text().partition("## More frameworks")[2],
        re.MULTILINE,
    )
    known = {name: FRAMEWORKS[name] for name, *_ in rows if name in FRAMEWORKS}

    assert {"Paddle", "PaddleSeg", "FFCV", "ultralytics", "SlowFast", "LeRobot"} <= set(known)
    for name, numbers, order in rows:
        unit, usual = (known[name].unit, known[name].order) if name in known else (None, None)
        assert unit in (None, 255.0 if numbers.startswith("255") else 1.0), name
        assert order.startswith(usual or ""), name


READ_BY_LINT = [name for name in NAMES if name != "onnx"]  # which is binary


def with_numbers(
    target: str, mean: Sequence[float], std: Sequence[float], stats: Stats = IMAGENET
) -> str:
    """What is written for stats, with other numbers in its place."""
    if target == "torchvision":
        text = imgnorm.emit(stats).text
        for old, new in ((stats.mean, mean), (stats.std, std)):
            text = text.replace(", ".join(map(repr, old)), ", ".join(map(repr, new)))
        return text
    numbers = TARGETS[target].normalization(stats)
    changed = replace(numbers, mean=tuple(mean), std=tuple(std))
    return TARGETS[target].file_of(changed).decode()


def kept(folder: Path, target: str, text: str) -> str:
    """The one file of a folder."""
    for old in folder.iterdir():
        old.unlink()
    path = folder / (TARGETS[target].file if target in TARGETS else "transforms.py")
    path.write_text(text)
    return str(path)


def rules_in(folder: Path, target: str, text: str) -> set[str]:
    return {problem.rule for problem in lint([kept(folder, target, text)]).problems}


def changes(
    target: str, stats: Stats
) -> Iterator[tuple[set[str], Sequence[float], Sequence[float]]]:
    """The rules that name a change, and the numbers: none, from the last channel to the first, another unit."""
    known = TARGETS[target].normalization(stats) if target in TARGETS else stats
    factor = 1 / 255 if target in TARGETS and TARGETS[target].takes_pixels else 255
    yield set(), known.mean, known.std
    yield {"channel-order"}, known.mean[::-1], known.std[::-1]
    mean, std = ([round(one * factor, 9) for one in values] for values in (known.mean, known.std))
    yield {"unit"}, mean, std


def test_lint_reads_what_is_written_and_names_what_is_changed(tmp_path):
    """--fix then writes what was there, but for Keras, whose squares get more digits than they had."""
    unnamed = []
    for target in READ_BY_LINT:
        (_, mean, std), *changed = changes(target, IMAGENET)
        right = with_numbers(target, mean, std)
        unnamed += [(target, found)] if (found := rules_in(tmp_path, target, right)) else []
        for rules, other_mean, other_std in changed:
            path = kept(tmp_path, target, with_numbers(target, other_mean, other_std))
            unnamed += [(target, rules)] if {p.rule for p in lint([path]).problems} != rules else []
            (mended,) = lint([path], fix=True).fixes

            assert target == "keras" or right == mended.after.decode()

    assert [] == unnamed


def test_explain_reads_what_is_written_and_names_what_is_changed(tmp_path):
    """Here of numbers that nobody has published: those of the stats."""
    stats = tried.KINDS["3 of 8-bit"]
    unnamed = []
    for target in READ_BY_LINT:
        for rules, mean, std in changes(target, stats):
            path = kept(tmp_path, target, with_numbers(target, mean, std, stats))
            (found,) = explain_file(path, stats)
            told = str(found.explanation)
            known = "is the std of the stats" in told and "is the mean of the stats" in told
            named = {rule for rule in ("channel-order", "unit") if f"{rule} (error)" in told}
            unnamed += [] if known and named == rules else [(target, rules, told)]

    assert [] == unnamed


def test_lint_and_explain_find_nothing_wrong_with_any_kind_of_images(tmp_path):
    wrong = []
    for target in READ_BY_LINT:
        for kind, stats in tried.KINDS.items():
            if not tried.takes(target, stats):
                continue
            text = imgnorm.emit(stats, to=target, api=tried.api_of(target, stats)).text
            path = kept(tmp_path, target, text)
            (found,) = explain_file(path, stats)
            told = str(found)
            clean = "is the std of the stats" in told and not re.search(
                r"\((error|warning)\)", told
            )
            wrong += [] if clean and not lint([path]).problems else [(target, kind, told)]

    assert [] == wrong


def test_a_binary_file_is_data(monkeypatch):
    made = imgnorm.emit(IMAGENET, to="onnx")

    assert made.data == b64decode(made.to_dict()["base64"])
    with pytest.raises(ValueError, match="onnx is binary: take `data`"):
        _ = made.text
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        imgnorm.errors.MissingDependency, match="install it with `pip install onnx`"
    ):
        imgnorm.emit(IMAGENET, to="onnx")


def test_the_sizes_at_which_images_were_measured_are_named():
    resized = replace(IMAGENET, preprocess=(Resize(256), CenterCrop(224)))
    line = "# The images were measured after Resize(size=256), CenterCrop(size=224): resize them so here, too."

    assert line in imgnorm.emit(resized, to="kornia").text.splitlines()


STATED = {
    "detectron2": ("FORMAT: BGR", "FORMAT: RGB", "channel-order"),
    "json": ('"unit": "0..1"', '"unit": "0..255"', "unit"),
    "kornia": ("values in 0..1.", "values in 0..255.", "unit"),
    "keras": ("for RGB images", "for BGR images", "channel-order"),
    "hf": ('"do_rescale": true', '"do_rescale": false', "unit"),
    "mmengine": ("bgr_to_rgb=True", "bgr_to_rgb=False", "channel-order"),
    "mmpretrain": ("to_rgb=True", "to_rgb=False", "channel-order"),
    "mmdet": ("        bgr_to_rgb=True,\n", "", "channel-order"),
    "mmseg": ("bgr_to_rgb=True", "bgr_to_rgb=False", "channel-order"),
    "albumentations": ('"max_pixel_value": 255.0', '"max_pixel_value": 1.0', "unit"),
}


@pytest.mark.parametrize("target", STATED)
def test_lint_goes_by_what_the_file_states(tmp_path, target):
    old, new, rule = STATED[target]
    text = imgnorm.emit(IMAGENET, to=target).text

    assert text.count(old) == 1
    assert {rule} == rules_in(tmp_path, target, text.replace(old, new))


CHANGED = {
    **STATED,
    "hf": ('"rescale_factor": 0.00392156862745098', '"rescale_factor": 1.0', "unit"),
}


def test_lint_and_explain_name_changed_settings_for_numbers_that_nobody_published(tmp_path):
    unnamed = []
    stats = tried.KINDS["3 of 8-bit"]
    for target, (old, new, rule) in CHANGED.items():
        text = imgnorm.emit(stats, to=target).text
        path = kept(tmp_path, target, text.replace(old, new))
        (found,) = explain_file(path, stats)
        explained = f"{rule} (" in str(found.explanation)
        linted = target == "keras" or rule in {problem.rule for problem in lint([path]).problems}
        unnamed += [] if text.count(old) == 1 and explained and linted else [(target, str(found))]

    assert [] == unnamed
