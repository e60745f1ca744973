"""What `imgnorm validate` says about the files in tests/cases, and how fast."""

from __future__ import annotations

import ast
import os
import random
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import imgnorm
from imgnorm.checks.reports import REPORTERS, page, text
from imgnorm.checks.rules import PAGES, RULES
from imgnorm.checks.validate import Validated, validate
from imgnorm.errors import SourceError
from imgnorm.stats.file import merge_files
from imgnorm.tally.skipped import Reason, Skipped

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"
VALID = sorted((CASES / "valid").glob("*.yaml"))
INVALID = sorted((CASES / "invalid").glob("*.yaml"))
SOUND = """\
format: imgnorm-pipeline/1
source: {kind: torchvision, name: CIFAR10, root: data}
image: {mode: RGB}
augment:
  - RandomCrop: {size: 32, padding: 4}
  - RandomHorizontalFlip: {}
normalize: {mean: [0.4914, 0.4822, 0.4465], std: [0.2470, 0.2435, 0.2616]}
"""


def command(*arguments: str, cwd: Path = CASES) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imgnorm", "validate", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
    )


@pytest.fixture
def in_cases(monkeypatch):
    monkeypatch.chdir(CASES / "invalid")


# Cases


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_file_gets_exactly_this_report(path, in_cases):
    expected = path.with_suffix(".expected").read_text(encoding="utf-8")

    assert expected == text(validate([path.name]).problems) + "\n"


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_valid_file_gets_none(path):
    assert () == validate([str(path)]).problems


def test_the_shipped_configs_are_valid():
    found = validate([str(ROOT / "configs")])

    assert () == found.problems
    assert 10 == len(found.files)


def test_every_rule_has_a_case_that_breaks_it():
    reported = "".join(path.read_text(encoding="utf-8") for path in CASES.rglob("*.expected"))
    without = [rule for rule in RULES if f"[{rule}]: " not in reported]

    assert ["build"] == without  # it takes torch, and has its own tests below


def test_every_problem_of_a_case_is_about_a_rule_with_a_page():
    reported = {problem.rule for path in INVALID for problem in validate([str(path)]).problems}

    assert set() == reported - set(RULES)
    assert all(page(RULES[rule]).startswith(f"{rule} (") for rule in reported)


def test_no_module_tells_of_a_rule_without_a_page():
    """`--explain`, `--ignore` and SARIF reports know only those that have one."""
    argument = {"problem": 1, "_at_node": 2, "report": 3, "Problem": 3, "add": 1, "Rule": 0}
    reported = {
        cast(ast.Constant, node.args[argument[name]]).value
        for path in sorted((ROOT / "imgnorm").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (name := getattr(node.func, "attr", getattr(node.func, "id", ""))) in argument
        and len(node.args) > argument[name]
        and isinstance(node.args[argument[name]], ast.Constant)
    }

    assert set() == reported - set(PAGES) - {""}  # other functions that are called add
    assert set(PAGES) - set(RULES) - {"modes", "formats"} <= reported  # these two by their keys
    assert len(reported) > 45


def test_problems_are_in_the_order_of_lines():
    for path in INVALID:
        places = [(p.line, p.column) for p in validate([str(path)]).problems]

        assert sorted(places) == places


# Which files


def test_a_folder_is_searched_and_what_is_not_ours_is_passed_over(tmp_path):
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    (tmp_path / "deep" / "a.yml").write_text(SOUND)
    (tmp_path / "deep" / ".hidden" / "b.yaml").write_text(SOUND)
    (tmp_path / "compose.yaml").write_text("services: {web: {image: nginx}}\n")
    (tmp_path / "broken.yaml").write_text("{image: \nformat: imgnorm-pipeline/1")
    (tmp_path / "notes.txt").write_text(SOUND)

    found = validate([str(tmp_path), str(tmp_path / "deep" / "a.yml")])

    assert (str(tmp_path / "broken.yaml"), str(tmp_path / "deep" / "a.yml")) == found.files
    assert ["syntax"] == [problem.rule for problem in found.problems]
    assert (
        "checked  2 files: 1 error, 0 warnings, 0 notes; passed over 1 other YAML file"
    ) == found.summary()


def test_a_path_that_is_not_there_is_no_fault_of_a_file(tmp_path):
    with pytest.raises(SourceError) as caught:
        validate([str(tmp_path / "nowhere.yaml")])

    assert f"{tmp_path / 'nowhere.yaml'}: no such file; check the path" == str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (
            "preprocessor_config.json",
            '{"do_normalize": true, "image_mean": [0.5], "image_processor_type": "ViT"}',
            "a Hugging Face config",
        ),
        ("config.json", '{"architecture": "x", "pretrained_cfg": {}}', "a timm config"),
        ("args.yaml", "aa: rand-m9\nmean: [0.5]\n", "a timm config"),
        ("train.sh", "python train.py --mean 0.5\n", "a shell script"),
        ("other.json", "[1, 2", "JSON"),
        ("r50.py", "data_preprocessor = dict(\n    mean=[123.675])\n", "an mmengine config"),
        ("a.py", "x: int = 1\n", "Python"),
        ("c.yaml", "a: &x {_target_: f}\nb: *x\nc: *x\n", "YAML of another program"),
        ("t.yaml", "norm:\n  _target_: torchvision.transforms.Normalize\n", "a Hydra config"),
        ("d2.yaml", "MODEL:\n  PIXEL_MEAN: &m [103.53]\n  X: *m\n", "a Detectron2 config"),
        (
            "anchors.yaml",
            "a: &x !!python/tuple [1]\nb: *x\n<<: *x\nc: !T 1\n",
            "YAML of another program",
        ),
    ],
)
def test_a_foreign_file_is_told_in_one_sentence(tmp_path, name, content, what):
    path = tmp_path / name
    path.write_text(content)

    assert (
        f"{path}:1:1: error[unknown-format]: is {what}, neither a pipeline config nor a stats file\n"
        "    `imgnorm lint` reads it, and looks for wrong means and stds"
    ) == text(validate([str(path)]).problems)


def test_what_stats_and_merge_write_validate_reads(tmp_path):
    """14 MB, for long names of skipped images: validate used to stop at 12 MiB."""
    path = tmp_path / "stats.yaml"
    Image.new("L", (4, 4), 7).save(tmp_path / "a.png")
    stats = imgnorm.measure(tmp_path)
    skipped = tuple(Skipped(f"{i:04d}/" + "n" * 4000, Reason("corrupt")) for i in range(3500))
    assert stats.measurement is not None
    many = replace(stats, measurement=replace(stats.measurement, skipped=skipped))
    imgnorm.write_stats(path, many)

    assert 12 << 20 < path.stat().st_size
    assert () == validate([str(path)]).problems
    assert 3500 == len(merge_files([path]).skipped)


def test_nothing_of_a_file_that_a_config_names_is_shown(tmp_path):
    """The config may be a stranger's, in a pull request, and CI's log is public."""
    (tmp_path / "secret").write_text("hunter2:x:0:0\n")
    path = tmp_path / "config.yaml"
    for named in ("secret", "../../../../../../../../../etc/passwd"):
        path.write_text(SOUND.replace(SOUND.splitlines()[-1], f"normalize: {{stats: {named}}}"))
        (problem,) = validate([str(path)]).problems

        assert "unsound-stats" == problem.rule
        assert not re.search("hunter2|x:0", f"{problem.message}{problem.hint}")


def test_control_characters_and_long_values_stay_harmless(tmp_path):
    path = tmp_path / "a\x1b[31mb.yaml"
    path.write_text(
        SOUND.replace(SOUND.splitlines()[-1], f'normalize: {{stats: "\\e{"z" * 900_000}"}}')
    )
    found = validate([str(path)])
    for name, reporter in REPORTERS.items():
        report = reporter(found.problems, found.files)

        assert "\x1b" not in report, name
        assert len(report) < 15_000, name


@pytest.mark.parametrize(
    ("source", "image", "values", "expected"),
    [
        ("{kind: torchvision, name: CIFAR10}", "auto", 2, "2 values for 3 channels"),
        ("{kind: torchvision, name: CIFAR10}", "auto", 4, "4 values for 3 channels"),
        ("{kind: torchvision, name: MNIST}", "auto", 3, "3 values for 1 channel"),
        ("{kind: torchvision, name: MNIST}", "RGB", 3, None),
        ("{kind: torchvision, name: CIFAR10}", "L", 1, None),
        ("{kind: folder, path: data}", "auto", 2, "2 values for 1, 3 or 4 channels"),
        ("{kind: folder, path: data}", "auto", 4, None),
    ],
)
def test_no_images_have_two_channels_and_those_of_a_dataset_are_known(
    tmp_path, source, image, values, expected
):
    path = tmp_path / "config.yaml"
    mean, std = [0.4711, 0.4822, 0.4465, 1][:values], [0.2371, 0.2435, 0.2616, 1][:values]
    path.write_text(
        f"format: imgnorm-pipeline/1\nsource: {source}\nimage: {{mode: {image}}}\n"
        f"normalize: {{mean: {mean}, std: {std}}}\n"
    )
    found = [p.message for p in validate([str(path)]).problems if p.rule == "length"]

    assert found == (
        [f"normalize.{key}: {expected}" for key in ("mean", "std")] if expected else []
    )


def test_constants_in_a_file_need_the_channels_of_the_images_too(tmp_path):
    path, stats = tmp_path / "config.yaml", tmp_path / "stats.yaml"
    stats.write_text("format: imgnorm-stats/1\nmean: [0.5, 0.4]\nstd: [0.2, 0.2]\n")
    path.write_text(
        "format: imgnorm-pipeline/1\nsource: {kind: folder, path: data}\n"
        "normalize: {stats: stats.yaml}\n"
    )
    (problem,) = validate([str(path)]).problems

    assert f"normalize.stats: {stats} has 2 values for 1, 3 or 4 channels" == problem.message


def test_a_stats_file_of_many_configs_is_read_once(tmp_path, monkeypatch):
    from imgnorm.pipeline import config

    reads = []
    original = config.read_stats
    monkeypatch.setattr(config, "read_stats", lambda file: reads.append(file) or original(file))
    (tmp_path / "stats.yaml").write_text(
        "format: imgnorm-stats/1\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.21, 0.22]\n"
    )
    for name in "abc":
        lines = [*SOUND.splitlines()[:2], "normalize: {stats: stats.yaml}", ""]
        (tmp_path / f"{name}.yaml").write_text("\n".join(lines))

    assert () == validate([str(tmp_path)]).problems
    assert [str(tmp_path / "stats.yaml")] == reads


# The command


def test_exit_codes_and_streams(tmp_path):
    sound = tmp_path / "sound.yaml"
    sound.write_text(SOUND)
    warned = command("invalid/channel-order.yaml")
    results = {
        "sound": command(str(sound)),
        "warned": warned,
        "strict": command("invalid/channel-order.yaml", "--strict"),
        "info": command("invalid/convention.yaml", "--strict"),
        "error": command("invalid/unit.yaml", "-q"),
        "ignored": command("invalid/unit.yaml", "--ignore", "unit,out-of-range"),
        "selected": command("invalid/unit.yaml", "--select", "syntax", "--select", "empty"),
        "missing": command("nowhere.yaml"),
        "nothing": command("--strict"),
    }

    codes = {name: done.returncode for name, done in results.items()}

    assert {
        "sound": 0,
        "warned": 0,
        "strict": 1,
        "info": 0,
        "error": 1,
        "ignored": 0,
        "selected": 0,
        "missing": 2,
        "nothing": 2,
    } == codes
    assert ("", "checked  1 file: 0 errors, 0 warnings, 0 notes\n") == (
        results["sound"].stdout,
        results["sound"].stderr,
    )
    assert "checked  1 file: 0 errors, 1 warning, 0 notes\n" == warned.stderr
    assert "" == results["error"].stderr
    assert "nowhere.yaml: no such file; check the path\n" == results["missing"].stderr
    assert "missing FILE|FOLDER (see `imgnorm validate --help`)\n" == results["nothing"].stderr


def test_an_unknown_rule_is_named_with_its_neighbour():
    done = command("valid", "--ignore", "known-wrongs")

    assert (2, "") == (done.returncode, done.stdout)
    assert (
        "Invalid value for '--ignore': there is no rule 'known-wrongs'; did you mean 'known-wrong'? "
        "(see `imgnorm validate --help`)\n"
    ) == done.stderr


def test_explain_prints_the_page_of_a_rule():
    done = command("--explain", "two-normalizations")

    assert (0, "") == (done.returncode, done.stderr)
    assert (
        "two-normalizations (error): one way to normalize\n"
        "\n"
        "`normalize` has more than one of a stats file, a preset, and a mean and a std. Nothing\n"
        "says which of them counts.\n"
        "\n"
        "wrong:\n"
        "    normalize: {stats: stats.yaml, mean: [0.5], std: [0.25]}\n"
        "\n"
        "right:\n"
        "    normalize: {stats: stats.yaml}\n"
    ) == done.stdout


# Speed and weight


SLACK = 5
"""What is hostile takes less than a second; other processes may take the processor away."""


@pytest.mark.parametrize("path", ["configs", "tests/cases"])
def test_checking_loads_neither_torch_nor_numpy_nor_pillow(path):
    program = (
        "import sys; sys.argv[1:] = ['validate', sys.argv[1], '-q']\n"
        "from imgnorm.cli import run; run(sys.argv[1:])\n"
        "print(sorted({'torch', 'torchvision', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "[]" == done.stdout.splitlines()[-1]


# --build

BUILDS = {
    "[{RandomHorizontalFlip: {}}, {RandomRotation: {degrees: -4}}]": (
        "f.yaml:3:40: error[build]: augment[1].RandomRotation: torchvision refuses its arguments: "
        "If degrees is a single number, it must be positive."
    ),
    "[{RandomCrop: {size: 1000}}]": (
        "f.yaml:3:12: error[build]: augment[0].RandomCrop: fails on a generated RGB image of 640x480: "
        "Required crop size (1000, 1000) is larger than input image size (480, 640)"
    ),
    "[{RandomCrop: {size: 400}}, {ToTensor: {}}, {RandomErasing: {}}]": "",
}


@pytest.mark.parametrize("augment", BUILDS)
def test_build_tells_what_torchvision_says_at_its_line(augment, tmp_path, monkeypatch):

    monkeypatch.chdir(tmp_path)
    lines = [*SOUND.splitlines()[:2], f"augment: {augment}", SOUND.splitlines()[-1], ""]
    (tmp_path / "f.yaml").write_text("\n".join(lines))

    problems = validate("f.yaml", build=True).problems

    assert BUILDS[augment] == text(problems)


def test_the_shipped_configs_and_what_has_everything_in_it_build():
    everything = (f"valid/{name}.yaml" for name in ("everything-v1", "everything-v2", "preset"))
    done = command(*everything, "../../configs", "--build")

    assert (0, "") == (done.returncode, done.stdout), done.stderr


# Bad input


def kinds_of(found: Validated) -> set[str]:
    return {problem.rule for problem in found.problems} - set(RULES)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_told_about_and_never_crash(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_bytes(data)

    assert set() == kinds_of(validate([str(path)]))


SCALARS = st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["v2", "RGB", "I;16", "random"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["size", "kind", "mean", "std", "stats", "mode", "Resize", "RandomCrop", "ToTensor"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
KEYS = ["source", "image", "preprocess", "augment", "normalize", "api", "mean", "std", "exact"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["imgnorm-pipeline/1", "imgnorm-stats/1"]),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6),
)
def test_random_configs_are_told_about_and_never_crash(tmp_path_factory, kind, content):
    import yaml

    path = tmp_path_factory.getbasetemp() / "random_config.yaml"
    path.write_text(yaml.safe_dump({"format": kind, **content}), encoding="utf-8")

    assert set() == kinds_of(validate([str(path)]))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bomb", b"a: &a [x]\n" + b"".join(b"b%d: [*a, *a]\n" % i for i in range(5000))),
        ("merge-bomb", b"a: &a {x: 1}\n" + b"b: {<<: [*a, *a]}\n" * 5000),
        ("deep", b"[" * 10_000),
        ("deep-block", b"".join(b" " * i + b"a:\n" for i in range(1300))),
        ("large", b"# " + b"x" * (100 << 20)),
        ("digits", b"mean: [" + b"9" * 100_000 + b"]"),
        ("base-60", b"mean: " + b"1:30" * 10_000 + b"\n"),
        ("nul", b"\0" * 100_000),
        ("commas", b"[" + b"," * 100_000),
        ("keys", b"".join(b"k%d: 1\n" % i for i in range(30_000))),
    ],
)
@pytest.mark.parametrize("kind", ["", "imgnorm-pipeline/1", "imgnorm-stats/1"])
def test_hostile_files_take_little_time(tmp_path, name, data, kind):
    path = tmp_path / f"{name}.yaml"
    path.write_bytes((f"format: {kind}\n".encode() if kind else b"") + data)

    started = time.process_time()
    found = validate([str(path)])
    taken = time.process_time() - started

    assert set() == kinds_of(found)
    assert found.count("error") > 0
    assert taken < 1 * SLACK


@pytest.mark.parametrize("comment", ["1,", " 1_", "1:", ".", "-", "0x"])
def test_what_looks_like_numbers_takes_no_quadratic_time(tmp_path, comment):
    """Numbers with commas between them were looked at again from each comma on: for minutes."""
    path = tmp_path / "comment.yaml"
    path.write_text(SOUND + "#" + comment * (900_000 // len(comment)))

    started = time.process_time()
    validate([str(path)])

    assert time.process_time() - started < 1 * SLACK


BULK = 12 << 20  # a stats file may have 64 MiB, but what costs most is the number of values
BULKY = {
    "line breaks": "\n" * BULK,
    "comments": "#\n" * (BULK // 2),
    "text": "x: '" + "a" * BULK + "'\n",
    "list": "x: [" + "1," * (BULK // 2) + "]\n",
    "list that is short enough": "x: [" + "1," * 390_000 + "]\n",
    "mappings": "skipped:\n" + "- {name: a, reason: corrupt}\n" * 400_000,
    "short lists": "x:\n" + "  a: [1]\n" * (BULK // 9),
    "a histogram": "histogram:\n  R: [" + ", ".join(["1234567"] * 1_090_000) + "]\n",
}
MOST_VALUES = ("list", "mappings")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc")
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.heavy] * (n in MOST_VALUES)) for n in BULKY],
)
def test_a_stats_file_that_anybody_sent_takes_seconds(tmp_path, name):
    """In a process of its own, for its memory: less than 1.3 s, or 5 s for 2,000,000 values."""
    path = tmp_path / "bulky.yaml"
    head = "format: imgnorm-stats/1\nmean: [0.5]\nstd: [0.25]\n"
    path.write_text((head + BULKY[name])[:BULK])
    program = (
        "import sys, time; from imgnorm.checks.validate import validate; validate(sys.argv[1:]);"
        "status = dict(line.split(':') for line in open('/proc/self/status'));"
        "print(time.process_time(), status['VmHWM'].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    seconds, kilobytes = map(float, done.stdout.split())

    assert seconds < (5 if name in MOST_VALUES else 1.3) * SLACK
    assert kilobytes < 300_000


def test_random_damage_to_a_config_never_crashes(tmp_path):
    chance = random.Random(7)
    path = tmp_path / "damaged.yaml"
    for _ in range(300):
        data = bytearray(SOUND.encode())
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)

        assert set() == kinds_of(validate([str(path)]))
