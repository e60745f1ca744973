from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from imgnorm.cli import run
from imgnorm.constants.explain import description, explain, presets_table
from imgnorm.constants.presets import PRESETS
from imgnorm.stats.file import write_stats
from imgnorm.stats.measurement import Measurement
from imgnorm.stats.provenance import Provenance
from imgnorm.stats.stats import Stats
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import ImageSums

KUANGLIU = """\
0.2023 0.1994 0.2010 is the std of CIFAR-10, train
  preset      cifar10-image-std-1
  mean        0.4914 0.4822 0.4465
  std         0.2023 0.1994 0.2010
  convention  mean_of_image_std_correction_1: the average of per-image stds, correction 1
  mark        wrong: the average of per-image stds from torch.std; the differences between images are missing
  source      kuangliu/pytorch-cifar get_mean_and_std; robustness, wide-resnet.pytorch, SCAFFOLD, FFCV
  use         mean 0.4914 0.4822 0.4465, std 0.2470 0.2435 0.2616 (preset cifar10)"""


def answers_of(*given: Any, **options: Any) -> list[str]:
    return list(map(str, explain(*given, **options).answers))


def test_a_mean_with_a_slip_beside_a_known_std_is_named():
    (answer,) = answers_of(["0.229", "0.224", "0.225"], mean=["0.485", "0.465", "0.406"])

    assert (
        "  but         mean 0.485 0.465 0.406 is not that of this set: it has 0.465 for 0.456"
        in (answer.splitlines())
    )


@pytest.mark.parametrize(
    ("std", "mean", "fits"),
    [
        (
            "57.375 57.12 58.395",
            "103.53 116.28 123.675",
            "mmengine, Detectron2, DALI, OpenVINO, TFLite (0..255, BGR)",
        ),
        (
            "58.395 57.12 57.375",
            "123.675 116.28 103.53",
            "FFCV, mmengine, DALI, OpenVINO, TFLite (0..255, RGB)",
        ),
        ("0.225 0.224 0.229", "0.406 0.456 0.485", "albumentations, Paddle (0..1, BGR)"),
    ],
)
def test_the_frameworks_that_take_such_numbers_are_named(std, mean, fits):
    (answer,) = answers_of(std.split(), mean=mean.split())

    assert f"  fits        {fits}" == answer.splitlines()[-1]


def first_lines(answers: list[str]) -> list[str]:
    return [answer.splitlines()[0] for answer in answers]


def test_a_known_wrong_set_is_explained_whole():
    assert [KUANGLIU] == answers_of(["0.2023", "0.1994", "0.2010"])


@pytest.mark.parametrize(
    ("mean", "whose"),
    [
        ("0.485 0.456 0.406", ": it is that of ImageNet-1k, torchvision's weights"),
        ("0.1 0.2 0.3", ""),
    ],
)
def test_a_mean_that_does_not_belong_to_it_is_said_so(mean, whose):
    (answer,) = answers_of(["0.2023", "0.1994", "0.2010"], mean=mean.split())
    first, but, *rest = answer.splitlines()

    assert KUANGLIU.splitlines() == [first, *rest]
    assert f"  but         mean {mean} is not that of this set{whose}" == but


def test_the_mean_that_belongs_to_it_changes_nothing():
    mean = ["0.4914", "0.4822", "0.4465"]

    assert [KUANGLIU] == answers_of(["0.2023", "0.1994", "0.2010"], mean=mean)


@pytest.mark.parametrize(
    ("given", "mean", "expected"),
    [
        ("0.2470 0.2435 0.2616", None, ["0.2470 0.2435 0.2616 is the std of CIFAR-10, train"]),
        ("0.4914 0.4822 0.4465", None, ["0.4914 0.4822 0.4465 is the mean of CIFAR-10, train"]),
        (
            "51.5865 50.847 51.255",
            None,
            ["51.5865 50.847 51.255 is the std of CIFAR-10, train"],
        ),
        (
            "0.225 0.224 0.229",
            None,
            ["0.225 0.224 0.229 is the std of ImageNet-1k, torchvision's weights, in BGR order"],
        ),
        ("0.3081 0.3081 0.3081", None, ["0.3081 0.3081 0.3081 is the std of MNIST, train"]),
        ("0.15", "0.15", ["0.15 is the std of MNIST, train"]),
        (
            "0.5 0.5 0.5",
            None,
            [
                "0.5 0.5 0.5 is the std of Inception, TF mode, ViT on ImageNet-21k, SigLIP",
                "0.5 0.5 0.5 is the mean of Inception, TF mode, ViT on ImageNet-21k, SigLIP",
            ],
        ),
        (
            "0.3310",  # more than one dataset has it
            None,
            [
                "0.3310 is the std of EMNIST bymerge",
                "0.3310 is the std of EMNIST letters",
            ],
        ),
        (  # with the mean, one dataset is left
            "0.3310",
            "0.1722",
            ["0.3310 is the std of EMNIST letters"],
        ),
        (  # a scale is nobody's, if the mean does not say whose
            "0.00392 0.00392 0.00392",
            "0.52 0.48 0.41",
            ["0.00392 0.00392 0.00392 is 1/255: a scale, not a std; 0..1 becomes 0..255"],
        ),
        (
            "1 1 1",
            "103.53 116.28 123.675",
            ["1 1 1 is the std of ImageNet-1k, Detectron2's weights, in BGR order"],
        ),
        (
            "1.0 1.0 1.0",
            "103.939 116.779 123.68",
            ["1.0 1.0 1.0 is the std of ImageNet-1k, VGG's and Caffe's weights, in BGR order"],
        ),
        ("1 1 1", None, ["1 1 1 is a scale of 1, not a std: only the mean is subtracted"]),
        ("1 1 1", "0 0 0", ["1 1 1 with mean 0 0 0 is the identity: no value changes"]),
        ("255", "0", ["255 is 255: a scale, not a std; 0..255 becomes 0..1"]),
        (
            "0.25 0.25 0.25",
            "0.5 0.5 0.5",
            [
                "0.25 0.25 0.25 is one value for all channels: a scale, not a std of images; 0..1 becomes -2..2"
            ],
        ),
        (
            "4.367 4.464 4.444",
            "-2.118 -2.036 -1.804",
            [
                "4.367 4.464 4.444 with mean -2.118 -2.036 -1.804 is the inverse of ImageNet-1k, torchvision's weights: it gives 0..1 back"
            ],
        ),
        (
            "0.017125 0.017507 0.017429",
            "-2.1179 -2.0357 -1.8044",
            [
                "0.017125 0.017507 0.017429 with mean -2.1179 -2.0357 -1.8044 is the inverse of ImageNet-1k, torchvision's weights: it gives 0..255 back"
            ],
        ),
        (
            "4.367 4.464 4.444",
            "0 0 0",
            [
                "4.367 4.464 4.444 is 1/std of ImageNet-1k, torchvision's weights: the first of two steps back to 0..1"
            ],
        ),
        (
            "1 1 1",
            "-0.485 -0.456 -0.406",
            [
                "1 1 1 with mean -0.485 -0.456 -0.406 adds the mean of ImageNet-1k, torchvision's weights: the second of two steps back to 0..1"
            ],
        ),
        (
            "4.367 4.464 4.444",
            None,
            [
                "4.367 4.464 4.444 is 1/std of ImageNet-1k, torchvision's weights: the std of its inverse, whose mean is -2.118 -2.036 -1.804"
            ],
        ),
        (
            "-2.118 -2.036 -1.804",
            None,
            [
                "-2.118 -2.036 -1.804 is -mean/std of ImageNet-1k, torchvision's weights: the mean of its inverse, whose std is 4.367 4.464 4.444"
            ],
        ),
        (
            "0.6298",
            "0.462",
            [
                "out-of-range (error): std 0.6298 is impossible: pixels with mean 0.462 have a std of at most 0.4986"
            ],
        ),
        (
            "0.485 0.456 0.406",
            "0.229 0.224 0.225",
            [
                "swapped (error): mean 0.229, 0.224, 0.225 is the std of ImageNet-1k, torchvision's weights, and std its mean"
            ],
        ),
        (
            "0.2024 0.1994 0.2010",
            None,
            ["0.2024 0.1994 0.2010 is nearly the std of CIFAR-10, train: 0.2024 for 0.2023"],
        ),
        (
            "58.395 57.12 57.735",
            None,
            [
                "58.395 57.12 57.735 is nearly the std of ImageNet-1k, torchvision's weights: 57.735 for 57.375"
            ],
        ),
        ("0.3082", "0.1307", ["0.3082 is nearly the std of MNIST, train: 0.3082 for 0.3081"]),
        ("0.3082", None, []),  # any number is near one of them
        ("0.2024 0.1994 0.2011", None, []),  # two digits differ
        ("0.25 0.24 0.26", None, []),  # too few digits
        ("0.017 0.017 0.017", None, []),  # three equal numbers are no 1/std of three different ones
        ("0 0 0", None, ["0 0 0 is the mean of the identity"]),
        ("0 0 0.1", None, ["not-usable (error): std 0.0 is not above 0"]),
        ("1354.4 1118.2 1042.9", None, []),
    ],
)
def test_a_set_is_told_by_its_digits(given, mean, expected):
    answers = answers_of(given.split(), mean=mean.split() if mean else None)

    assert expected == first_lines(answers)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_explains_itself(name):
    entry = PRESETS[name]
    answers = answers_of(list(map(str, entry.std)), mean=list(map(str, entry.mean)))

    assert any(entry.title in line for line in first_lines(answers))


@pytest.mark.parametrize("text", ["nan", "inf", "abc", "0,5"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="is not a number"):
        explain([text])


def measured() -> Stats:
    """Two gray images of two pixels: 0 and 255, and 102 twice."""
    counts = [0] * 256
    counts[0], counts[102], counts[255] = 1, 2, 1
    halves = round(0.5 * 2**160), round(0.4 * 2**160)
    squares = 2**159 + round(0.16 * 2**160)
    root = round(0.5**0.5 * 2**160)
    sums = ImageSums(2, (sum(halves),), (squares,), (2**159,), (root,), 0)
    source = Provenance("folder", "data", "0" * 64, "0" * 64, 2)
    one = Measurement(2, Histogram((tuple(counts),)), sums, {"L": 2}, {"PNG": 2}, {}, source)
    return Stats.of(one, "L", ())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0.3571", ["0.3571 is the std of the stats: pooled (also image_weighted)"]),
        ("0.25", ["0.25 is the std of the stats: mean_of_image_std"]),
        ("0.3536", ["0.3536 is the std of the stats: mean_of_image_std_correction_1"]),
        ("0.1275", ["0.1275 is the std of the stats: variance"]),
        ("0.45", ["0.45 is the mean of the stats: pooled (also image_weighted)"]),
        ("8290.6875", ["8290.6875 is the std of the stats: variance in 0..255"]),
        ("0.2999", ["0.2999 matches no convention of the stats"]),
    ],
)
def test_a_stats_file_tells_its_convention(given, expected):
    answers = answers_of([given], stats=measured())

    assert expected == first_lines(answers)


def test_the_listing_has_every_preset_and_says_what_marks_mean():
    lines = presets_table().splitlines()

    assert list(PRESETS) == [line.split()[0] for line in lines[1 : len(PRESETS) + 1]]
    assert "quoted: published, and consistent with what else is known; not measured by us" in lines


def test_a_preset_names_the_other_sets_of_its_dataset():
    assert (
        "  others      cifar100-255 (quoted), cifar100-test (quoted), cifar100-image-std-1 (wrong), "
        "cifar100-typo (wrong)"
    ) == description(PRESETS["cifar100"]).splitlines()[-1]


# The commands


def test_explain_takes_pasted_code_and_all_numbers_after_mean(capsys):
    pasted = ["explain", "(0.2023,", "0.1994,", "0.2010)"]

    assert 0 == run([*pasted, "--mean", "0.4914", "0.4822", "0.4465"])
    assert (f"{KUANGLIU}\n", "") == capsys.readouterr()


def test_explain_exits_1_when_nothing_is_known(capsys):
    assert 1 == run(["explain", "0.7", "0.1"])
    assert (
        "0.7 0.1: nothing is known about these numbers; `imgnorm presets` lists what is\n",
        "",
    ) == capsys.readouterr()


def test_explain_takes_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text("data_preprocessor = dict(mean=[0.45], std=[0.3], to_rgb=True)\n")
    Path("none.py").write_text("x = 1\n")

    assert 0 == run(["explain", "a.py"])
    heading, *_, fault, hint = capsys.readouterr().out.splitlines()
    assert "a.py:1: mmengine, 0..255, RGB" == heading
    assert "unit (error): std: 0.3 is for 0..1, this field for 0..255" == fault
    assert "  multiply by 255: 76.500" == hint
    assert 1 == run(["explain", "none.py"])
    assert "none.py: no mean with a std in it\n" == capsys.readouterr().out
    assert 2 == run(["explain", "a.py", "--mean", "0.4"])
    write_stats("stats.yaml", measured())
    assert 2 == run(["explain", "stats.yaml"])
    refused = "stats.yaml: its numbers are measured; `imgnorm show` prints them\n"
    assert capsys.readouterr().err.endswith(refused)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["abc"],
            "'abc' is not a number; give numbers such as 0.2470 (see `imgnorm explain --help`)\n",
        ),
        (
            ["()"],
            "no numbers; give one for each channel, such as 0.2470 (see `imgnorm explain --help`)\n",
        ),
        (
            ["0.2", "--mean", "0.4", "0.5"],
            "2 numbers for the mean, 1 for the std (see `imgnorm explain --help`)\n",
        ),
        (["0.2", "--stats", "absent.yaml"], "absent.yaml: no such file; check the path\n"),
    ],
)
def test_explain_refuses_wrong_usage(capsys, arguments, message):
    assert 2 == run(["explain", *arguments])
    assert ("", message) == capsys.readouterr()


def test_explain_reads_a_stats_file(tmp_path, capsys):
    path = tmp_path / "stats.yaml"
    path.write_text("format: imgnorm-stats/1\nmean: [0.41]\nstd: [0.29]\n")

    assert 0 == run(["explain", "0.290", "--mean", "0.41", "--stats", str(path)])
    assert (
        f"0.290 is the std of {path}: pooled\n"
        "  over all pixels of all images, population: what Normalize needs\n\n"
        f"mean 0.4100 is the mean of {path}\n"
    ) == capsys.readouterr().out


def test_presets_lists_and_shows(capsys):
    assert 0 == run(["presets"])
    assert f"{presets_table()}\n" == capsys.readouterr().out
    assert 0 == run(["presets", "show", "mnist"])
    assert f"{description(PRESETS['mnist'])}\n" == capsys.readouterr().out
    assert 2 == run(["presets", "show", "mnits"])
    assert "no preset 'mnits'; did you mean 'mnist' or 'kmnist' or 'mvit'?\n" == (
        capsys.readouterr().err
    )


def test_negative_numbers_need_no_dashes_before_them(capsys):
    inverse = "the mean of its inverse, whose std is 4.367 4.464 4.444"

    assert 0 == run(["explain", "-2.118", "-2.036,", "-1.804"])
    assert inverse in capsys.readouterr().out


def test_a_name_of_a_stats_file_cannot_disturb_the_report(tmp_path, capsys):
    path = Path(tmp_path, "a b.yaml")
    path.write_text("format: imgnorm-stats/1\nmean: [0.41]\nstd: [0.29]\n")

    assert 0 == run(["explain", "0.290", "--stats", str(path)])
    assert f"0.290 is the std of {path}: pooled" in capsys.readouterr().out
