from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from imgnorm.checks.rules import RULES as ALL_RULES
from imgnorm.constants import findings as numbers
from imgnorm.constants.findings import Finding, findings
from imgnorm.constants.presets import PRESETS

RULES = {rule.id: ALL_RULES[rule.id] for rule in numbers.RULES}

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def describe(found: list[Finding]) -> list[str]:
    return [f"{f.rule} {f.severity} {f.field}[{f.index}]: {f.message} | {f.hint}" for f in found]


def of_example(text: str) -> list[Finding]:
    config = yaml.safe_load(text)
    dataset = config.get("source", {}).get("name")
    return findings(config["normalize"]["mean"], config["normalize"]["std"], dataset=dataset)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_finds_its_bad_example_and_nothing_in_its_good_one(rule):
    bad = of_example(RULES[rule].bad)

    assert {rule} == {finding.rule for finding in bad}
    assert {RULES[rule].severity} == {finding.severity for finding in bad}
    assert [] == of_example(RULES[rule].good)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_explained(rule):
    assert rule == RULES[rule].id
    assert len(RULES[rule].explanation) > 80
    assert "\n" not in RULES[rule].explanation


@pytest.mark.parametrize(
    ("mean", "std", "options", "expected"),
    [
        (
            *((0.5, 0.4), (0.2, 0.2)),
            {"channels": 3},
            [
                "length error mean[None]: 2 values for 3 channels | give 3 values",
                "length error std[None]: 2 values for 3 channels | give 3 values",
            ],
        ),
        (
            *((), (0.2,)),
            {},
            ["length error mean[None]: no values | give one for each channel"],
        ),
        (
            *((0.5, float("nan")), (float("inf"), -0.25)),
            {},
            [
                "not-usable error mean[1]: nan is not a number | measure the data again, and look for what overflowed",
                "not-usable error std[0]: inf is infinite | measure the data again, and look for what overflowed",
                "not-usable error std[1]: -0.25 is not above 0 | None",
            ],
        ),
        (
            *((0.1307,), (0,)),
            {},
            [
                "not-usable error std[0]: 0 is not above 0 | a constant channel needs a least std, such as 1e-3"
            ],
        ),
        (
            *((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
            {},
            [
                "unit error mean[None]: 123.675, 116.28, 103.53 is for 0..255, this field for 0..1 | divide by 255: 0.4850, 0.4560, 0.4060",
                "unit error std[None]: 58.395, 57.12, 57.375 is for 0..255, this field for 0..1 | divide by 255: 0.2290, 0.2240, 0.2250",
            ],
        ),
        (
            *IMAGENET,
            {"unit": 255},
            [
                "unit error mean[None]: 0.485, 0.456, 0.406 is for 0..1, this field for 0..255 | multiply by 255: 123.675, 116.280, 103.530",
                "unit error std[None]: 0.229, 0.224, 0.225 is for 0..1, this field for 0..255 | multiply by 255: 58.395, 57.120, 57.375",
            ],
        ),
        (  # one of the two
            *((123.675, 116.28, 103.53), (0.229, 0.224, 0.225)),
            {"unit": 255},
            [
                "unit error std[None]: 0.229, 0.224, 0.225 is for 0..1, this field for 0..255 | multiply by 255: 58.395, 57.120, 57.375"
            ],
        ),
        (
            *((0.229, 0.224, 0.225), (0.229, 0.224, 0.225)),
            {},
            [
                "std-equals-mean error mean[None]: 0.229, 0.224, 0.225 is a copy of std | the mean of ImageNet-1k, torchvision's weights is 0.485, 0.456, 0.406"
            ],
        ),
        (  # the hint has as many digits as the file
            *((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577117)),
            {},
            [
                "near-miss warning std[None]: 0.26862954, 0.26130258, 0.27577117 is nearly the std of OpenAI CLIP weights, less than 0.1 % off | write 0.26862954, 0.26130258, 0.27577711, or say in a comment where the numbers are from"
            ],
        ),
        (
            *((0.5, 1354.4), (0.2, 0.2)),
            {},
            ["out-of-range error mean[1]: 1354.4 is not within 0..1 | None"],
        ),
        (
            *IMAGENET[::-1],
            {},
            [
                "swapped error mean[None]: 0.229, 0.224, 0.225 is the std of ImageNet-1k, torchvision's weights, and std its mean | exchange mean and std"
            ],
        ),
        (
            *((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
            {},
            [
                "known-wrong error std[None]: 0.2023, 0.1994, 0.2010 is a wrong std of CIFAR-10, train, 18 to 23 % too small: the average of per-image stds from torch.std; the differences between images are missing (https://github.com/libffcv/ffcv/pull/322) | if this is CIFAR-10: use 0.2470, 0.2435, 0.2616 (preset cifar10); else measure with `imgnorm stats`; checkpoints that were trained with the old numbers need them"
            ],
        ),
        (  # in 0..255 and BGR, so are the right numbers
            *((113.8575, 122.961, 125.307), (51.255, 50.847, 51.5865)),
            {"unit": 255, "order": "BGR"},
            [
                "known-wrong error std[None]: 51.255, 50.847, 51.5865 is a wrong std of CIFAR-10, train, 18 to 23 % too small: the average of per-image stds from torch.std; the differences between images are missing (https://github.com/libffcv/ffcv/pull/322) | if this is CIFAR-10: use 66.705, 62.089, 62.993 (preset cifar10); else measure with `imgnorm stats`; checkpoints that were trained with the old numbers need them"
            ],
        ),
        (
            *((0.1307,) * 3, (0.3015,) * 3),
            {},
            [
                "known-wrong error std[None]: 0.3015, 0.3015, 0.3015 is a wrong std of MNIST, train, 2 % too small: the average of per-image stds from torch.std; the differences between images are missing | if this is MNIST: use 0.3081, 0.3081, 0.3081 (preset mnist); else measure with `imgnorm stats`; checkpoints that were trained with the old numbers need them"
            ],
        ),
        (  # the wrong list may be the mean
            *((108.32, 116.746, 104.094), (68.5005, 66.6322, 70.3232)),
            {"unit": 255},
            [
                "known-wrong error mean[None]: 108.32, 116.746, 104.094 is a wrong mean of OpenAI CLIP weights, off by up to 0.21 stds: 108.32 is a typing error for 122.77 in the first value, in 0..255 (https://github.com/facebookresearch/LaViLa/issues/15) | if this is for OpenAI CLIP weights: use 122.771, 116.746, 104.094 (preset clip); else measure with `imgnorm stats`; checkpoints that were trained with the old numbers need them"
            ],
        ),
        (
            *((0.3444, 0.3803, 0.4078), (0.0914, 0.0651, 0.0552)),
            {},
            [
                "known-wrong error std[None]: 0.0914, 0.0651, 0.0552 is a wrong std of EuroSAT RGB: the average of per-image stds; the differences between images are missing | no pooled std of it is published that we know of: measure with `imgnorm stats`; checkpoints that were trained with the old numbers need them"
            ],
        ),
        (
            *((0.406, 0.456, 0.485), (0.225, 0.224, 0.229)),
            {},
            [
                "channel-order warning mean[None]: 0.406, 0.456, 0.485 and std are in BGR order (ImageNet-1k, torchvision's weights), this field in RGB | write 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225"
            ],
        ),
        (
            *((123.675, 116.28, 103.53), (1, 1, 1)),
            {"unit": 255, "order": "BGR"},
            [
                "channel-order warning mean[None]: 123.675, 116.28, 103.53 is in RGB order (ImageNet-1k, torchvision's weights), this field in BGR | write 103.53, 116.28, 123.675"
            ],
        ),
        (
            *((0.485, 0.456, 0.406), (0.225, 0.224, 0.229)),
            {},
            [
                "channel-order warning std[None]: 0.225, 0.224, 0.229 is in BGR order (ImageNet-1k, torchvision's weights), but mean in RGB | write 0.229, 0.224, 0.225"
            ],
        ),
        (
            *((0.61, 0.52, 0.43), (0.61, 0.52, 0.43)),
            {},
            ["std-equals-mean error std[None]: 0.61, 0.52, 0.43 is a copy of mean | None"],
        ),
        (  # one std for all channels is a scale: one note, however large it is
            *((127.502231,) * 3, (127.502231,) * 3),
            {"unit": 255},
            [
                "convention info mean[None]: 127.502231 with std 127.502231 is a convention, not a statistic | right for weights that were trained with it; `imgnorm stats` measures the data's own"
            ],
        ),
        (
            *((0.52, 0.48, 0.41), (0.0039, 0.0039, 0.0039)),
            {},
            [
                "convention info mean[None]: 0.52, 0.48, 0.41 with std 0.0039 is a convention, not a statistic | right for weights that were trained with it; `imgnorm stats` measures the data's own"
            ],
        ),
        (  # one value of six
            *((0.485, 0.456, 0.406), (0.229, 0.224, 0.255)),
            {},
            [
                "near-miss warning std[None]: 0.229, 0.224, 0.255 is nearly the std of ImageNet-1k, torchvision's weights, 13 % too large | write 0.229, 0.224, 0.225, or say in a comment where the numbers are from"
            ],
        ),
        (  # the std of the weights, and a mean by hand
            *((124.0, 116.5, 103.5), (58.395, 57.12, 57.375)),
            {"unit": 255},
            [
                "near-miss warning mean[None]: 124.0, 116.5, 103.5 is nearly the mean of ImageNet-1k, torchvision's weights, off by up to 0.0056 stds | write 123.675, 116.280, 103.530, or say in a comment where the numbers are from"
            ],
        ),
        (
            *((0.5071, 0.4865, 0.4409), (0.229, 0.224, 0.225)),
            {},
            [
                "other-dataset warning mean[None]: 0.5071, 0.4865, 0.4409 is the mean of CIFAR-100, train, but std that of ImageNet-1k, torchvision's weights | take both from the dataset that this is, or from the weights that it starts from"
            ],
        ),
        (  # the right numbers are those of the data
            *((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
            {"dataset": "CUB200"},
            [
                "known-wrong error std[None]: 0.2023, 0.1994, 0.2010 is a wrong std of CIFAR-10, train, 18 to 23 % too small: the average of per-image stds from torch.std; the differences between images are missing (https://github.com/libffcv/ffcv/pull/322) | these are numbers of CIFAR-10, not of CUB-200-2011: use mean 0.4856, 0.4994, 0.4324, std 0.2322, 0.2277, 0.2659 (preset cub200); checkpoints that were trained with the old numbers need them"
            ],
        ),
        (
            *((0.462,), (0.6298,)),
            {},
            [
                "out-of-range error std[0]: 0.6298 is impossible: pixels with mean 0.462 have a std of at most 0.4986 | None"
            ],
        ),
        (
            *CIFAR10,
            {"dataset": "CIFAR-100"},
            [
                "other-dataset warning mean[None]: 0.4914, 0.4822, 0.4465 is the mean of CIFAR-10, train, not of CIFAR-100: mean off by up to 0.059 stds, std 5 to 8 % too small | use mean 0.5071, 0.4865, 0.4409, std 0.2673, 0.2564, 0.2762 (preset cifar100)"
            ],
        ),
        (
            *IMAGENET,
            {"dataset": "cifar10"},
            [
                "other-dataset info mean[None]: 0.485, 0.456, 0.406 belongs to weights: ImageNet-1k, torchvision's weights | right for a network that starts from such weights; else use mean 0.4914, 0.4822, 0.4465, std 0.2470, 0.2435, 0.2616 (preset cifar10)"
            ],
        ),
        (
            *((127.5,), (127.5,)),
            {"unit": 255},
            [
                "convention info mean[None]: 127.5 with std 127.5 is a convention, not a statistic | right for weights that were trained with it; `imgnorm stats` measures the data's own"
            ],
        ),
    ],
)
def test_each_fault_is_told_whole(mean, std, options, expected):
    assert expected == describe(findings(mean, std, **options))


@pytest.mark.parametrize(
    ("mean", "std", "options"),
    [
        (*CIFAR10, {"dataset": "cifar10", "channels": 3}),
        (*CIFAR10, {"dataset": "data of my own"}),
        (*IMAGENET, {}),
        ((0.5, 0.48, 0.41), (0.5,), {}),  # one value stands for all
        ((0, 0, 0), (1, 1, 1), {}),
        ((0, 0, 0), (255, 255, 255), {}),
        ((103.53, 116.28, 123.675), (1, 1, 1), {"unit": 255, "order": "BGR"}),
        ((0.3,), (0.3,), {}),  # right for some gray data, and only two digits
        ((0.5,), (0.5,), {"channels": 1, "dataset": "mnist"}),
        ((0.15,), (0.14,), {}),
        (
            (0.9221,),
            (0.2681,),
            {},
        ),  # Omniglot is black and white: the largest possible std, rounded
        ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), {"dataset": "CIFAR100"}),
        ((33000.0,), (16000.0,), {"unit": 65535}),
        ((123.68, 116.78, 103.94), (0.017, 0.018, 0.017), {"unit": 255}),  # a scale to multiply by
    ],
)
def test_nothing_is_said_of_what_may_be_right(mean, std, options):
    found = [f for f in findings(mean, std, **options) if f.rule != "convention"]

    assert [] == found


@pytest.mark.parametrize("name", [p.name for p in PRESETS.values() if p.mark != "wrong"])
def test_no_usable_preset_is_called_wrong(name):
    entry = PRESETS[name]

    assert [] == [
        f for f in findings(entry.mean, entry.std, dataset=entry.dataset) if f.severity == "error"
    ]


@pytest.mark.parametrize("name", [p.name for p in PRESETS.values() if p.mark == "wrong"])
@pytest.mark.parametrize("unit", [1, 255])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_every_wrong_preset_is_found_in_each_unit_and_order(name, unit, order):
    entry = PRESETS[name]
    if unit == 255 and entry.name == "mnist-old-fastai":
        pytest.skip("38.25 was never published")
    way = 1 if order == "RGB" else -1
    mean = [round(value * unit, 4) for value in entry.mean[::way]]
    std = [round(value * unit, 4) for value in entry.std[::way]]
    found = findings(mean, std, unit=unit, order=order, dataset=entry.dataset)

    assert ["known-wrong"] == [finding.rule for finding in found]
    if entry.use and unit == 1:  # the hint has the right numbers
        right = [float(n) for n in re.findall(r"\d\.\d+", (found[0].hint or "").split("(")[0])]
        fixed = {"mean": mean, "std": std, found[0].field: right}
        again = findings(**fixed, order=order, dataset=entry.dataset)

        assert [] == again


some_numbers = st.lists(
    st.one_of(st.floats(), st.integers(), st.sampled_from([0, 0.5, 1, 127.5, 0.485, 10**400])),
    max_size=5,
)


@settings(max_examples=300, deadline=None)
@given(
    some_numbers,
    some_numbers,
    st.sampled_from([None, 1, 3]),
    st.sampled_from([1.0, 255.0, 65535.0]),
    st.sampled_from(["RGB", "BGR"]),
)
def test_any_numbers_give_findings_and_nothing_else(mean, std, channels, unit, order):
    for finding in findings(mean, std, channels=channels, unit=unit, order=order):
        given_values = mean if finding.field == "mean" else std

        assert finding.rule in RULES
        assert finding.index is None or finding.index < len(given_values)
        assert "\n" not in finding.message
