"""Published constants: value, convention, source and how far to trust them; the known wrong ones too.

One table for `imgnorm presets`, for `normalize: {preset: …}`, for the rules and for `explain`. Values
are RGB (or gray) in ToTensor's [0, 1], with the digits that were published. Nobody can measure these
datasets here but MNIST: `verified` is MNIST alone, and `quoted` says what others have published.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from typing import Literal

from imgnorm.errors import SourceError
from imgnorm.wording import cut, nearest, printable

Mark = Literal["verified", "quoted", "disputed", "wrong"]
Field = Literal["mean", "std"]
ConventionName = Literal[
    "pooled",
    "image_weighted",
    "mean_of_image_std",
    "mean_of_image_std_correction_1",
    "scaling",
    "unknown",
]

MARKS: dict[Mark, str] = {
    "verified": "computed by a test of ours from the data, exactly, and equal",
    "quoted": "published, and consistent with what else is known; not measured by us",
    "disputed": "published, but sources contradict each other or do not say how",
    "wrong": "published, and not what Normalize needs; listed so that it is recognized",
}
CONVENTIONS: dict[ConventionName, str] = {
    "pooled": "over all pixels of all images, population",
    "image_weighted": "pooled, with the same weight for every image",
    "mean_of_image_std": "the average of per-image stds, correction 0",
    "mean_of_image_std_correction_1": "the average of per-image stds, correction 1",
    "scaling": "a choice, not a statistic",
    "unknown": "nobody says how it was computed",
}

FLOAT32_NOISE = 1e-6
"""Loops in float32 differ from one another in the seventh decimal: no reason to call a set another."""

LEAST_DIGITS = 0.00051
"""Numbers of fewer than three decimals are within rounding of too many sets to say anything by."""


@dataclass(frozen=True)
class Numbers:
    """What somebody wrote, and how precisely: the number of digits given decides what it can equal."""

    values: tuple[float, ...]  # in [0, 1]
    tolerance: float  # half of the last digit

    def same(self, other: Numbers) -> bool:
        """Equal when both are rounded to the digits of the less precise; gray may be replicated."""
        tolerance = max(self._reach, other._reach) * (1 + 1e-6)
        ours = self.values
        if len(ours) > 1 == len(other.values) and len(set(ours)) == 1:
            ours = ours[:1]
        return len(ours) == len(other.values) and all(
            abs(a - b) <= tolerance for a, b in zip(ours, other.values, strict=True)
        )

    @property
    def _reach(self) -> float:
        """With few digits rounding would reach too many sets: those must be equal as they stand."""
        return (
            max(self.tolerance, FLOAT32_NOISE) if self.tolerance <= LEAST_DIGITS else FLOAT32_NOISE
        )

    @property
    def decimals(self) -> int:
        """How many were given, of values in [0, 1]."""
        return round(-math.log10(2 * self.tolerance)) if self.tolerance else 17

    @property
    def reversed(self) -> Numbers:
        return Numbers(self.values[::-1], self.tolerance)


def numbers_of(values: Sequence[float], *, unit: float = 1.0) -> Numbers:
    """Values in 0..unit as Numbers. The list's longest decimal counts: 0.201 may have been 0.2010."""
    decimals = max((_decimals(repr(float(v)).removesuffix(".0")) for v in values), default=0)
    return Numbers(tuple(value / unit for value in values), 0.5 * 10.0**-decimals / unit)


def numbers_in(texts: Sequence[str], *, unit: float = 1.0) -> Numbers:
    """The same from text, whose trailing zeros count.

    Raises:
        ValueError: one of the texts is not a number.
    """
    values = tuple(float(text) / unit for text in texts)
    decimals = max((_decimals(text) for text in texts), default=0)
    return Numbers(values, 0.5 * 10.0**-decimals / unit)


def _decimals(text: str) -> int:
    exponent = Decimal(text).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0  # NaN and Inf have none


@dataclass(frozen=True)
class Preset:
    """One published set of constants."""

    name: str  # as in `normalize: {preset: cifar10}`
    dataset: str  # the key of the data or weights it was made for: cifar10
    title: str  # for people: CIFAR-10, train
    mean: tuple[float, ...]  # RGB or gray, in [0, 1]
    std: tuple[float, ...]
    convention: ConventionName
    mark: Mark
    source: str  # who published it
    remark: str = ""  # of a wrong set: what is wrong with it
    use: str | None = None  # of a wrong set: the preset with the right numbers, where one is known
    of_weights: bool = False  # belongs to pretrained weights, and may be right for any data
    mean_tolerance: float = 0.00005  # half of the last digit published
    std_tolerance: float = 0.00005

    def numbers(self, field: Field) -> Numbers:
        if field == "mean":
            return Numbers(self.mean, self.mean_tolerance)
        return Numbers(self.std, self.std_tolerance)


def preset(name: str) -> Preset:
    """The constants of that name, to normalize with.

    Raises:
        SourceError: there is none, or it is a known wrong set.
    """
    found = shown_preset(name)
    if found.mark == "wrong":
        other = f"use preset '{found.use}'" if found.use else "measure the data"
        raise SourceError(
            f"preset '{name}' is a known wrong set ({found.remark}); {other}, or write the numbers "
            "out if a checkpoint depends on them"
        )
    return found


def shown_preset(name: str) -> Preset:
    """The entry of that name, whatever its mark.

    Raises:
        SourceError: there is none; the nearest names are in the message.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = dataset_key(name)
    if near in PRESETS:
        names = [near]
    else:
        usable = [p.name for p in PRESETS.values() if p.mark != "wrong"]
        names = nearest(name, usable, at_most=3)
    if names:
        hint = f"did you mean {' or '.join(repr(n) for n in names)}?"
    else:
        hint = "`imgnorm presets` lists them"
    raise SourceError(f"no preset '{cut(printable(name))}'; {hint}")


@lru_cache(maxsize=256)
def matches(field: Field, numbers: Numbers) -> Sequence[Preset]:
    """All presets with these numbers, the most precise agreement first."""
    lengths = {len(numbers.values), 1} if len(set(numbers.values)) == 1 else {len(numbers.values)}
    found = []
    for length in lengths:
        for entry, known in _known(field, length):
            if abs(known.values[0] - numbers.values[0]) < 2 * LEAST_DIGITS and numbers.same(known):
                found.append(entry)
    return tuple(sorted(found, key=lambda p: _distance(numbers.values, p.numbers(field).values)))


@cache
def _known(field: Field, length: int) -> list[tuple[Preset, Numbers]]:
    of_field = ((p, p.numbers(field)) for p in PRESETS.values())
    return [(p, known) for p, known in of_field if len(known.values) == length]


def presets_of(dataset: str) -> list[Preset]:
    """Every entry about a dataset, right and wrong, in the table's order."""
    return [p for p in PRESETS.values() if p.dataset == dataset]


def dataset_key(text: str) -> str | None:
    """What people call a dataset -> its key: 'CIFAR-10', 'Cifar10' and 'cifar_10' are cifar10."""
    return _KEYS.get(re.sub(r"[^a-z0-9]", "", text.lower()))


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=False))


PRESETS: dict[str, Preset] = {}
"""The table, by name."""


def _add(
    name: str,
    title: str,
    mean: str,
    std: str,
    convention: ConventionName,
    source: str,
    *,
    dataset: str | None = None,
    mark: Mark = "quoted",
    remark: str = "",
    use: str | None = None,
    of_weights: bool = False,
) -> None:
    means, stds = numbers_in(mean.split()), numbers_in(std.split())
    PRESETS[name] = Preset(
        name,
        dataset or name,
        title,
        means.values,
        stds.values,
        convention,
        mark,
        source,
        remark,
        use,
        of_weights,
        means.tolerance,
        stds.tolerance,
    )


def _add_wrong(
    name: str,
    right: str | None,
    std: str,
    source: str,
    *,
    convention: ConventionName = "unknown",
    remark: str = "",
    dataset: str = "",
    title: str = "",
    mean: str = "",
) -> None:
    """A wrong set; with `right`, its dataset and (unless given) its mean are those of that preset."""
    if right:
        dataset, title = PRESETS[right].dataset, PRESETS[right].title
    _add(
        name,
        title,
        mean or " ".join(f"{value:.4f}" for value in PRESETS[right or ""].mean),
        std,
        convention,
        source,
        dataset=dataset,
        mark="wrong",
        remark=remark or _IMAGE_STD[convention],
        use=right,
    )


_IMAGE_STD: dict[ConventionName, str] = {
    "mean_of_image_std": "the average of per-image stds; the differences between images are missing",
    "mean_of_image_std_correction_1": (
        "the average of per-image stds from torch.std; the differences between images are missing"
    ),
}
_A0: ConventionName = "mean_of_image_std"
_A1: ConventionName = "mean_of_image_std_correction_1"

# CIFAR-10 and CIFAR-100

_add(
    "cifar10",
    "CIFAR-10, train",
    "0.49139968 0.48215841 0.44653091",
    "0.24703223 0.24348513 0.26158784",
    "pooled",
    "Armour/pytorch-nn-practice utils/meanstd.py; MadryLab/robustness#70; chenyaofo#5",
)
_add(
    "cifar10-255",
    "CIFAR-10, train",
    "0.4914 0.4824 0.4467",
    "0.2471 0.2435 0.2616",
    "pooled",
    "fb.resnet.torch lineage; lightning-bolts",
    dataset="cifar10",
    remark="125.3 123.0 113.9 and 63.0 62.1 66.7, divided by 255: harmless rounding",
)
_add(
    "cifar10-truncated",
    "CIFAR-10, train",
    "0.491 0.482 0.447",
    "0.247 0.243 0.261",
    "pooled",
    "fastai vision/core.py",
    dataset="cifar10",
    remark="truncated, not rounded, to three digits: harmless",
)
_add_wrong(
    "cifar10-image-std-1",
    "cifar10",
    "0.2023 0.1994 0.2010",
    "kuangliu/pytorch-cifar get_mean_and_std; robustness, wide-resnet.pytorch, SCAFFOLD, FFCV",
    convention=_A1,
)
_add_wrong(
    "cifar10-image-std",
    "cifar10",
    "0.2022 0.1993 0.2009",
    "crypdick (richarddecal.com)",
    convention=_A0,
)
_add_wrong(
    "cifar10-typo",
    "cifar10",
    "0.2370 0.2435 0.2616",
    "chatflip/CalculationMeanStd README",
    remark="0.2370 is a typing error for 0.2470",
)
_add_wrong(
    "cifar10-old-readme",
    "cifar10",
    "0.2396 0.2393 0.2414",
    "chatflip/CalculationMeanStd README, an older version",
    remark="not the pooled std; nobody says how it was computed",
)
_add(
    "cifar100",
    "CIFAR-100, train",
    "0.50707516 0.48654887 0.44091784",
    "0.26733429 0.25643846 0.27615047",
    "pooled",
    "weiaicunzai/pytorch-cifar100 conf/global_settings.py",
)
_add(
    "cifar100-255",
    "CIFAR-100, train",
    "0.5071 0.4867 0.4408",
    "0.2675 0.2565 0.2761",
    "pooled",
    "most copied; 129.3 124.1 112.4 and 68.2 65.4 70.4, divided by 255",
    dataset="cifar100",
    remark="rounded before it was divided by 255: harmless",
)
_add(
    "cifar100-test",
    "CIFAR-100, test",
    "0.5089 0.4874 0.4419",
    "0.2683 0.2574 0.2771",
    "pooled",
    "weiaicunzai/pytorch-cifar100 conf/global_settings.py",
    dataset="cifar100",
    remark="of the test split, which training must not see",
)
_add_wrong(
    "cifar100-image-std-1",
    "cifar100",
    "0.2009 0.1984 0.2023",
    "SCAFFOLD-PyTorch",
    convention=_A1,
)
_add_wrong(
    "cifar100-typo",
    "cifar100",
    "0.673 0.2564 0.2762",
    "chatflip/CalculationMeanStd README",
    remark="0.673 is a typing error for 0.2673, and larger than any std of pixels can be",
)

# Gray digits and letters

_add(
    "mnist",
    "MNIST, train",
    "0.13066048",
    "0.30810780",
    "pooled",
    "computed: 0.13066047627384286, 0.3081078038564627; published as 0.1307, 0.3081",
    mark="verified",
)
_add_wrong("mnist-image-std-1", "mnist", "0.3015", "SCAFFOLD-PyTorch; SO 59182363", convention=_A1)
_add_wrong("mnist-image-std", "mnist", "0.3013", "crypdick (richarddecal.com)", convention=_A0)
_add_wrong(
    "mnist-old-fastai",
    "mnist",
    "0.15",
    "early fastai mnist_stats",
    mean="0.15",
    remark="neither the mean nor the std of MNIST; nobody says how it was computed",
)
_add(
    "fashion-mnist",
    "FashionMNIST, train",
    "0.2860402",
    "0.3530239",
    "pooled",
    "chatflip/CalculationMeanStd; public compute_dataset_means_stds.py",
)
_add_wrong(
    "fashion-mnist-image-std-1", "fashion-mnist", "0.3205", "SCAFFOLD-PyTorch", convention=_A1
)
_add_wrong(
    "fashion-mnist-image-std",
    "fashion-mnist",
    "0.3203",
    "crypdick (richarddecal.com)",
    convention=_A0,
)
_add(
    "kmnist",
    "KMNIST, train",
    "0.1918",
    "0.3483",
    "pooled",
    "rois-codh lineage",
    remark="pooled is likely, since the average of per-image stds is 0.3383",
)
_add(
    "kmnist-clarena",
    "KMNIST, split not stated",
    "0.1904",
    "0.3475",
    "unknown",
    "CLArena",
    dataset="kmnist",
    mark="disputed",
)
_add_wrong("kmnist-image-std", "kmnist", "0.3383", "crypdick (richarddecal.com)", convention=_A0)
_add_wrong(
    "kmnist-other",
    "kmnist",
    "0.3059",
    "one public repository",
    remark="far below the pooled std; nobody says how it was computed",
)
_add_wrong(
    "qmnist-image-std",
    None,
    "0.3020",
    "crypdick (richarddecal.com)",
    convention=_A0,
    dataset="qmnist",
    title="QMNIST, train",
    mean="0.1308",
)
_EMNIST = "CLArena; lightning-bolts has three digits"
_DIFFER = "lightning-bolts differs in the third digit: "
_add(
    "emnist-balanced",
    "EMNIST balanced",
    "0.1754",
    "0.3336",
    "pooled",
    _EMNIST,
    mark="disputed",
    remark=_DIFFER + "0.175, 0.333",
)
_add(
    "emnist-byclass",
    "EMNIST byclass",
    "0.1751",
    "0.3332",
    "pooled",
    _EMNIST,
    mark="disputed",
    remark=_DIFFER + "0.174, 0.332",
)
_add(
    "emnist-bymerge",
    "EMNIST bymerge",
    "0.1740",
    "0.3310",
    "pooled",
    _EMNIST,
    mark="disputed",
    remark=_DIFFER + "0.174, 0.332",
)
_add("emnist-letters", "EMNIST letters", "0.1722", "0.3310", "pooled", _EMNIST)
_add(
    "emnist-digits",
    "EMNIST digits",
    "0.1736",
    "0.3317",
    "pooled",
    _EMNIST,
    mark="disputed",
    remark=_DIFFER + "0.173, 0.332",
)
_add("emnist-mnist", "EMNIST mnist", "0.173", "0.332", "pooled", "lightning-bolts")
_add_wrong(
    "emnist-image-std-1",
    None,
    "0.3248",
    "SCAFFOLD-PyTorch",
    convention=_A1,
    remark=_IMAGE_STD[_A1] + " (pooled, every split has 0.331 to 0.334)",
    dataset="emnist",
    title="EMNIST, split not stated",
    mean="0.1736",
)
_add_wrong(
    "usps-image-std",
    None,
    "0.2805",
    "crypdick (richarddecal.com)",
    convention=_A0,
    dataset="usps",
    title="USPS, train, 16x16",
    mean="0.2469",
)
_add(
    "usps-28",
    "USPS, resized to 28",
    "0.2473",
    "0.2665",
    "unknown",
    "Richard456/Dann",
    dataset="usps",
    mark="disputed",
    remark="after Resize(28), which lowers the std",
)
_add(
    "omniglot",
    "Omniglot, background",
    "0.9221",
    "0.2681",
    "pooled",
    "chatflip/CalculationMeanStd",
)
_add_wrong(
    "omniglot-image-std", "omniglot", "0.2623", "crypdick (richarddecal.com)", convention=_A0
)

# Small color images

_add(
    "svhn",
    "SVHN, train",
    "0.4376821 0.4437697 0.4728044",
    "0.19803012 0.20101562 0.19703614",
    "pooled",
    "more than ten public repositories, with eight digits",
)
_add_wrong(
    "svhn-image-std-1",
    "svhn",
    "0.1201 0.1231 0.1052",
    "very common; = crypdick's 0.12003 0.12308 0.10515 times sqrt(1024/1023)",
    convention=_A1,
)
_add_wrong(
    "svhn-image-std",
    "svhn",
    "0.12003 0.12308 0.10515",
    "crypdick (richarddecal.com)",
    convention=_A0,
)
_add(
    "stl10",
    "STL10, train",
    "0.4467 0.4398 0.4066",
    "0.26034098 0.25657727 0.27126738",
    "pooled",
    "two independent public scripts agree in eight digits",
)
_add(
    "stl10-bolts",
    "STL10, split not stated",
    "0.43 0.42 0.39",
    "0.27 0.26 0.27",
    "unknown",
    "lightning-bolts",
    dataset="stl10",
    mark="disputed",
)
_add_wrong(
    "stl10-image-std",
    "stl10",
    "0.2241 0.2215 0.2239",
    "copied widely; = crypdick (richarddecal.com)",
    convention=_A0,
)
_add(
    "cinic10",
    "CINIC-10, train",
    "0.47889522 0.47227842 0.43047404",
    "0.24205776 0.23828046 0.25874835",
    "pooled",
    "many federated learning repositories",
    remark="pooled is likely, not stated",
)
_add(
    "tiny-imagenet",
    "Tiny ImageNet, train",
    "0.4802 0.4481 0.3975",
    "0.2770 0.2691 0.2821",
    "pooled",
    "more than ten public repositories",
)
_add(
    "tiny-imagenet-viper",
    "Tiny ImageNet, train",
    "0.4802 0.4481 0.3975",
    "0.2764 0.2689 0.2816",
    "unknown",
    "ViPER",
    dataset="tiny-imagenet",
    mark="disputed",
)
_add_wrong(
    "tiny-imagenet-image-std",
    "tiny-imagenet",
    "0.2302 0.2265 0.2262",
    "more than ten public repositories",
    convention=_A0,
    remark=_IMAGE_STD[_A0] + " (which correction is not stated)",
)

# Photographs

_add(
    "imagenet",
    "ImageNet-1k, torchvision's weights",
    "0.485 0.456 0.406",
    "0.229 0.224 0.225",
    "mean_of_image_std",
    "fb.resnet.torch; pytorch/vision#1439, PR #1965",
    of_weights=True,
    remark=(
        "averaged over a random subset that is lost, after Resize(256) and CenterCrop(224); keep it "
        "for weights that were trained with it"
    ),
)
_add(
    "imagenet-224",
    "ImageNet-1k, train, Resize(256) and CenterCrop(224)",
    "0.4845 0.4541 0.4025",
    "0.2724 0.2637 0.2761",
    "pooled",
    "pytorch/vision#1439",
    dataset="imagenet",
    remark="pooled by its size; the thread does not say",
)
_add(
    "imagenet-native",
    "ImageNet-1k, train, native sizes",
    "0.4803 0.4569 0.4083",
    "0.2806 0.2736 0.2877",
    "pooled",
    "pytorch/vision#1439",
    dataset="imagenet",
    mark="disputed",
    remark="pooled by its size; the thread calls it sqrt(mean var)",
)
_add(
    "imagenet-native-image-weighted",
    "ImageNet-1k, train, native sizes",
    "0.4812 0.4575 0.4079",
    "0.2832 0.2761 0.2895",
    "image_weighted",
    "chatflip/CalculationMeanStd",
    dataset="imagenet",
)
_add(
    "imagenet-caffe",
    "ImageNet-1k, Caffe's weights",
    "0.485020 0.457957 0.407604",
    "0.003922 0.003922 0.003922",
    "scaling",
    "detectron2 (BGR 103.939 116.779 123.68, std 1, in 0..255)",
    dataset="imagenet",
    of_weights=True,
    remark="std is 1/255, so that the values span 0..255 again; the real std is folded into the first layer",
)
_add(
    "inception",
    "Inception, TF mode, ViT on ImageNet-21k, SigLIP",
    "0.5 0.5 0.5",
    "0.5 0.5 0.5",
    "scaling",
    "timm IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD",
    of_weights=True,
    remark="maps [0, 1] to [-1, 1]; right for weights that were trained with it",
)
_add(
    "dpn",
    "DPN weights",
    "0.486275 0.458824 0.407843",
    "0.234824 0.234824 0.234824",
    "scaling",
    "timm IMAGENET_DPN_MEAN, IMAGENET_DPN_STD (124 117 104 and 1/(0.0167*255))",
    of_weights=True,
)
_add(
    "clip",
    "OpenAI CLIP weights",
    "0.48145466 0.4578275 0.40821073",
    "0.26862954 0.26130258 0.27577711",
    "pooled",
    "timm, open_clip, Hugging Face; openai/CLIP#20 (of WebImageText)",
    of_weights=True,
    remark="pooled by its size, not stated",
)
_add_wrong(
    "clip-lavila",
    "clip",
    "0.26862954 0.26130258 0.27577711",
    "LaViLa#15",
    mean="0.4248 0.4578 0.4082",
    remark="108.32 is a typing error for 122.77 in the first value, in 0..255",
)
_add(
    "dinov3-sat493m",
    "DINOv3 weights of sat493m",
    "0.430 0.411 0.296",
    "0.213 0.156 0.143",
    "unknown",
    "timm eva.py; torchgeo-bench PR #81",
    of_weights=True,
)
_add(
    "kinetics",
    "Kinetics, torchvision's weights",
    "0.43216 0.394666 0.37645",
    "0.22803 0.22145 0.216989",
    "unknown",
    "torchvision _presets.py; 3D-ResNets-PyTorch#82",
    of_weights=True,
    remark="of a small random subset; per-frame averages in the same lineage",
)
_add(
    "celeba",
    "CelebA, aligned, 178x218",
    "0.5063 0.4258 0.3832",
    "0.3107 0.2904 0.2897",
    "pooled",
    "arpytanshu/vit-celeb confirms it to 0.0005",
)
for _number, _std in enumerate(
    (
        "0.2632 0.2424 0.2385",
        "0.2644 0.2436 0.2397",
        "0.2660 0.2452 0.2414",
        "0.2669 0.2455 0.2410",
    ),
    start=1,
):
    _add_wrong(
        f"celeba-image-std-{_number}",
        "celeba",
        _std,
        "public repositories",
        convention=_A0,
        remark=_IMAGE_STD[_A0] + " (resized; which correction is not stated)",
    )
_add(
    "celeba-resized",
    "CelebA, resized",
    "0.5063 0.4258 0.3832",
    "0.2967 0.2766 0.2765",
    "unknown",
    "public repositories",
    dataset="celeba",
    mark="disputed",
    remark="pooled after a resize, by its size; nobody says",
)
_add(
    "places365",
    "Places365, train, 256x256",
    "0.4578 0.4414 0.4078",
    "0.2692 0.2670 0.2851",
    "pooled",
    "chatflip/CalculationMeanStd",
    remark="the official code uses ImageNet's",
)
_add(
    "caltech101",
    "Caltech101",
    "0.5487 0.5313 0.5050",
    "0.3205 0.3152 0.3273",
    "image_weighted",
    "chatflip/CalculationMeanStd",
)
_add(
    "voc",
    "PASCAL VOC 2007 and 2012",
    "0.4541 0.4336 0.4016",
    "0.2749 0.2721 0.2852",
    "image_weighted",
    "chatflip/CalculationMeanStd",
)
_add_wrong(
    "food101-image-std",
    None,
    "0.2335 0.2442 0.2422",
    "crypdick (richarddecal.com)",
    convention=_A0,
    dataset="food101",
    title="Food101, train",
    mean="0.5450 0.4435 0.3436",
)
_add(
    "cityscapes",
    "Cityscapes, train",
    "0.2869 0.3251 0.2839",
    "0.1870 0.1902 0.1872",
    "unknown",
    "public repositories",
    mark="disputed",
    remark="cityscapes-bisenet is incompatible with it",
)
_add(
    "cityscapes-bisenet",
    "Cityscapes, train, through BiSeNet's pipeline",
    "0.3257 0.3690 0.3223",
    "0.2112 0.2148 0.2115",
    "unknown",
    "BiSeNet#189",
    dataset="cityscapes",
    mark="disputed",
    remark="cityscapes is incompatible with it",
)
_add_wrong(
    "eurosat-image-std",
    None,
    "0.0914 0.0651 0.0552",
    "crypdick (richarddecal.com)",
    convention=_A0,
    dataset="eurosat",
    title="EuroSAT RGB",
    mean="0.3444 0.3803 0.4078",
)

_KEYS = {re.sub(r"[^a-z0-9]", "", p.dataset): p.dataset for p in PRESETS.values()} | {
    "fmnist": "fashion-mnist",
    "imagenet1k": "imagenet",
    "ilsvrc2012": "imagenet",
    "tinyimagenet200": "tiny-imagenet",
    "vocdetection": "voc",
    "vocsegmentation": "voc",
}
