"""`imgnorm lint --fix`: a file with a seeded fault becomes, byte for byte, the file without it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from imgnorm.checks.lint.fix import Fix, write_fixes
from imgnorm.checks.lint.lint import lint
from imgnorm.cli import run
from imgnorm.constants.presets import PRESETS
from imgnorm.errors import OutputError

SETS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "svhn": "SVHN", "stl10": "STL10"}
WRONG = {
    "cifar10": ("0.2023", "0.1994", "0.2010"),
    "cifar100": ("0.2009", "0.1984", "0.2023"),
    "svhn": ("0.1201", "0.1231", "0.1052"),
    "stl10": ("0.2241", "0.2215", "0.2239"),
}
FORMATS = {
    "train.py": (
        "from torchvision import transforms as T, datasets\r\n"
        "# ä: ({MEAN}) and ({STD}) stay in comments\r\n"
        "t = T.Compose([\r\n    T.ToTensor(),\r\n    T.Normalize(\r\n"
        "        mean=({MEAN}),  # as published\r\n        std=[{STD}],\r\n    ),\r\n])\r\n"
        "data = datasets.{NAME}('data', transform=t)\r\n"
    ),
    "constants.py": "\ufeff{NAME}_MEAN, {NAME}_STD = ({MEAN}), ({STD})  # keep\n",
    "config.yaml": (
        "dataset: {name}\n# comments stay\nnormalize:  # both\n  mean: [{MEAN}]   # aligned\n"
        "  std: &std\n{LINES}"
    ),
    "config.json": '{{\n\t"dataset": "{name}",\n\t"mean": [ {MEAN} ],\n\t"std": [ {STD} ]\n}}',
    "config.toml": 'dataset = "{name}"\nmean = [{MEAN}] # a\nstd = [\n  {STD},\n] # b\n',
    "README.md": (
        "# {NAME}\n\nIn prose ({STD}) stays.\n\n```python\nfrom torchvision import transforms as T\n"
        "{NAME}_MEAN = ({MEAN})\n{NAME}_STD = ({STD})\n```\n"
    ),
    "guide.rst": (
        "{NAME}\n=====\n\n.. code-block:: python\n\n    {NAME}_MEAN = ({MEAN})\n    {NAME}_STD = ({STD})\n"
    ),
    "train.ipynb": (
        '{{"cells": [{{"cell_type": "code", "execution_count": null, "metadata": {{}}, "outputs": [],\n'
        ' "source": ["# \\"ä\\"\\n", "{NAME}_MEAN = ({MEAN})\\n", "{NAME}_STD = ({STD})"]}}],\n'
        ' "metadata": {{}}, "nbformat": 4, "nbformat_minor": 5}}\n'
    ),
}


def text_of(form: str, name: str, mean: list[str], std: list[str]) -> str:
    return FORMATS[form].format(
        name=name,
        NAME=SETS[name],
        MEAN=", ".join(mean),
        STD=", ".join(std),
        LINES="".join(f"  - {value}\n" for value in std),
    )


def right_numbers(name: str, unit: int) -> tuple[list[str], list[str]]:
    digits = 4 if unit == 1 else 1
    preset = PRESETS[name]
    return tuple([f"{v * unit:.{digits}f}" for v in values] for values in (preset.mean, preset.std))


@pytest.mark.parametrize("form", FORMATS)
def test_a_seeded_fault_is_put_right_byte_for_byte(form, tmp_path):
    chance = random.Random(form)
    failures = []
    for name, wrong in WRONG.items():
        for fault in ("known-wrong", "other-dataset", "std-equals-mean"):
            unit = 1 if form == "train.py" else chance.choice([1, 255])
            mean, std = right_numbers(name, unit)
            right = text_of(form, name, mean, std)
            if fault == "known-wrong":
                std = [f"{float(v) * unit:.{4 if unit == 1 else 1}f}" for v in wrong]
            elif fault == "other-dataset":
                other = chance.choice([one for one in SETS if one != name])
                mean, std = right_numbers(other, unit)
            else:
                std = mean
            seeded = text_of(form, name, mean, std)
            path = tmp_path / form
            path.write_bytes(seeded.encode())
            found = lint([str(path)])
            fixed = lint([str(path)], fix=True)
            write_fixes(fixed.fixes)
            # Comments and prose have the seeded numbers still.
            expected = with_its_prose(right, seeded)
            left = [p.rule for p in lint([str(path)], fix=True).problems]
            if (
                fault not in [p.rule for p in found.problems]
                or path.read_bytes() != expected.encode()
                or left
            ):
                failures.append((name, fault, unit, found.problems, path.read_text()))

    assert [] == failures


def with_its_prose(right: str, seeded: str) -> str:
    """The right file, with the lines in which numbers are not code as they were."""
    pairs = zip(right.split("\n"), seeded.split("\n"), strict=True)
    return "\n".join(old if "stay" in old else new for new, old in pairs)


CIFAR10 = "CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)\nCIFAR10_STD = "


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("(.2023, .1994, .201)", "(.247, .2435, .2616)"),  # .201 had lost its last zero
        ("(0.2023, 0.1994, 0.2010)", "(0.2470, 0.2435, 0.2616)"),
        (
            "[x / 255 for x in (51.5865, 50.847, 51.255)]",
            "[x / 255 for x in (62.9932, 62.0887, 66.7049)]",
        ),
        (
            "np.array([0.2023, 0.1994, 0.2010]) * 255 / 255",
            "np.array([0.2470, 0.2435, 0.2616]) * 255 / 255",
        ),
    ],
)
def test_the_digits_are_those_of_the_file(before, after, tmp_path):
    path = tmp_path / "f.py"
    path.write_text(CIFAR10 + before)
    write_fixes(lint([str(path)], fix=True).fixes)

    assert CIFAR10 + after == path.read_text()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (
            "Normalize([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])",
            "Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])",
        ),
        (
            "Normalize([0.229, 0.224, 0.225], [0.485, 0.456, 0.406])",
            "Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])",
        ),
        (
            "Normalize([0.406, 0.456, 0.485], [0.225, 0.224, 0.229])",
            "Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])",
        ),
    ],
)
def test_what_the_framework_decides_needs_no_dataset(wrong, right, tmp_path):
    before = "import torchvision.transforms as T\nt = T.Compose([T.ToTensor(), T."
    path = tmp_path / "f.py"
    path.write_text(f"{before}{wrong}])\n")
    write_fixes(lint([str(path)], fix=True).fixes)

    assert f"{before}{right}])\n" == path.read_text()


def test_no_digit_is_lost_to_another_unit(tmp_path):
    path = tmp_path / "preprocessor_config.json"
    text = '{"do_normalize": true, "image_mean": [%s], "image_std": [0.26862954, 0.26130258, 0.27577711]}'
    path.write_text(text % "122.7709383, 116.7460125, 104.09373615")
    write_fixes(lint([str(path)], fix=True).fixes)

    assert text % "0.48145466, 0.4578275, 0.40821073" == path.read_text()


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (
            "a.py",
            "dict(mean=[103.53, 116.280, 123.675], std=[57.375, 57.12, 5.8395e1], bgr_to_rgb=True)\n",
            "dict(mean=[123.675, 116.280, 103.53], std=[5.8395e1, 57.12, 57.375], bgr_to_rgb=True)\n",
        ),
        (
            "preprocessor_config.json",
            (
                '{"do_normalize": true, "image_mean": [0.26862954, 0.26130258, 0.27577711],\n'
                ' "image_std": [0.48145466, 0.4578275, 0.40821073]}'
            ),
            (
                '{"do_normalize": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],\n'
                ' "image_std": [0.26862954, 0.26130258, 0.27577711]}'
            ),
        ),
    ],
)
def test_numbers_in_the_wrong_place_are_moved_as_they_are_written(name, before, after, tmp_path):
    path = tmp_path / name
    path.write_text(before)
    write_fixes(lint([str(path)], fix=True).fixes)

    assert after == path.read_text()


@pytest.mark.parametrize(
    "source",
    [
        "T.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))",  # of which data?
        "CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)\nCIFAR10_STD = (0.2023, 1994e-4, 0.2010)",
        (  # one literal for two datasets
            "M, S = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)\n"
            "STATS = {'cifar10': {'mean': M, 'std': S}, 'cifar100': {'mean': M, 'std': S}}"
        ),
        (  # weights may want OpenCV's images with these numbers
            "import cv2\nimage_mean, image_std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]\n"
            "images = [(cv2.imread(f) / 255 - image_mean) / image_std for f in files]"
        ),
        (  # does the image that is turned get these numbers?
            "import cv2\nimage_mean, image_std = [0.406, 0.456, 0.485], [0.225, 0.224, 0.229]\n"
            "image = cv2.cvtColor(cv2.imread(f), cv2.COLOR_BGR2RGB)"
        ),
        "SVHN_MEAN = (0.4377, 0.4438, 0.4728)\nSVHN_STD = (0.2023, 0.1994, 0.2010)",
        f"{CIFAR10}(0.2023, 0.1994, 0.2010)  # imgnorm: ignore[known-wrong]",
    ],
)
def test_what_is_not_sure_stays(source, tmp_path):
    path = tmp_path / "f.py"
    path.write_text(source)

    assert () == lint([str(path)], fix=True).fixes


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("b.py").write_text(CIFAR10 + "(0.2023, 0.1994, 0.2010)  # ä", encoding="utf-8")
    Path("c.json").write_text(
        json.dumps(
            {"dataset": "svhn", "mean": [0.4377, 0.4438, 0.4728], "std": [0.1201, 0.1231, 0.1052]}
        )
    )
    return tmp_path


def test_diff_shows_what_fix_writes(project, capsys):
    assert 1 == run(["lint", ".", "--diff"])
    shown = capsys.readouterr()
    assert 0 == run(["lint", ".", "--fix"])
    fixed = capsys.readouterr()
    again = run(["lint", "."])

    assert shown.out.startswith(
        "--- a/b.py\n+++ b/b.py\n@@ -1,2 +1,2 @@\n CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)\n"
        "-CIFAR10_STD = (0.2023, 0.1994, 0.2010)  # ä\n\\ No newline at end of file\n"
        "+CIFAR10_STD = (0.2470, 0.2435, 0.2616)  # ä\n\\ No newline at end of file\n--- a/c.json\n"
    )
    counted = "checked  2 files: 0 errors, 0 warnings, 0 notes"
    assert f"{counted}; that is after --fix, which would fix 2 problems in 2 files\n" == shown.err
    assert ("", f"{counted}; fixed 2 problems in 2 files\n") == (fixed.out, fixed.err)
    assert 0 == again
    assert "(0.2470, 0.2435, 0.2616)  # ä" in Path("b.py").read_text(encoding="utf-8")


def test_no_file_is_written_if_one_of_them_has_changed(project):
    fixes = lint(["."], fix=True).fixes
    Path("c.json").write_text("{}")
    with pytest.raises(OutputError) as caught:
        write_fixes(fixes)

    assert "./c.json: has changed while it was read; run the command again" == str(caught.value)
    assert "0.2023" in Path("b.py").read_text(encoding="utf-8")


def test_a_diff_of_a_file_without_a_last_line_break_can_be_applied():
    fix = Fix("a.py", b"1\n2", b"1\n3", 1)

    assert (
        "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,2 @@\n 1\n-2\n\\ No newline at end of file\n"
        "+3\n\\ No newline at end of file\n"
    ) == fix.diff()


def test_diff_and_fix_exclude_each_other(project, capsys):
    assert 2 == run(["lint", ".", "--diff", "--fix"])
    assert "--diff shows what --fix would write; give one of them" in capsys.readouterr().err


def test_the_problems_that_can_be_fixed_are_counted(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("cifar10 = Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))\n")
    assert (lint(path).fixable, lint(path, fix=True).fixable) == (1, 0)
    write_fixes(lint(path, fix=True).fixes)
    assert lint(path).fixable == 0
