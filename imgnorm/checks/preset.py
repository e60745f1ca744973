"""A preset, measured on the data: whoever has it can verify what others only quote."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from imgnorm.constants.explain import comparison
from imgnorm.constants.presets import Preset, dataset_key, preset_entry
from imgnorm.errors import IncompatibleStats, MissingDependency, SourceError
from imgnorm.measuring.measure import measure
from imgnorm.progress import Progress
from imgnorm.settings import TORCHVISION
from imgnorm.stats.stats import Stats
from imgnorm.wording import plural

_TORCHVISION = {
    dataset_key(name): name
    for name in (
        "CIFAR10", "CIFAR100", "CelebA", "EuroSAT", "FGVCAircraft", "FashionMNIST", "Flowers102",
        "Food101", "ImageNet", "Imagenette", "KMNIST", "MNIST", "PCAM", "QMNIST", "STL10", "SVHN",
        "StanfordCars", "USPS",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Verified:
    """What the measurement of a preset's data showed."""

    equal: bool  # by the preset's convention, to all digits that were published
    report: str


def verify_preset(
    name: str,
    root: str | os.PathLike[str],
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Verified:
    """Measure the data of a preset, and compare by the preset's own convention.

    Args:
        root: torchvision's `root`, if it has the dataset there; else a folder of images.

    Raises:
        SourceError: no preset has that name, or there is no data at `root`.
        IncompatibleStats: the preset is no statistic of data, or was measured through other steps.

    Example:
        >>> verify_preset("imagenet-caffe", "data")
        Traceback (most recent call last):
        imgnorm.errors.IncompatibleStats: imagenet-caffe: is a choice, not a statistic of data
    """
    preset = preset_entry(name)
    if preset.convention == "scaling":
        raise IncompatibleStats(f"{preset.name}: is a choice, not a statistic of data")
    source, stats = _measured(preset, os.fspath(root), on_progress)
    if stats.of_floats or len(stats.mean) != len(preset.mean):
        raise IncompatibleStats(
            f"{preset.name}: has {len(preset.mean)} channels, but the images in {source} are {stats.mode}"
        )
    equal, lines = comparison(preset, stats)
    if preset.mark == "wrong":
        lines.append(f"  mark        wrong: {preset.remark}")
    verdict = "verified" if equal else "differs"
    head = f"{preset.name}: {verdict} on {plural(stats.images, 'image')} of {source}"
    if stats.skipped:
        head += f"; {len(stats.skipped):,} skipped"
    return Verified(equal, "\n".join([head, *lines]))


def _measured(
    preset: Preset, root: str, on_progress: Callable[[Progress], None]
) -> tuple[str, Stats]:
    known = _TORCHVISION.get(preset.dataset)
    split = "test" if preset.title.endswith(", test") else "train"
    missing: SourceError | MissingDependency | None = None
    if known:
        try:
            source = TORCHVISION + known
            return source, measure(source, root=root, split=split, on_progress=on_progress)
        except (SourceError, MissingDependency) as error:
            missing = error
    mode = "L" if len(preset.mean) == 1 else "RGB" if len(preset.mean) == 3 else "auto"
    try:
        return root, measure(root, mode=mode, on_progress=on_progress)
    except SourceError as error:
        if isinstance(missing, MissingDependency):
            raise missing from error
        raise SourceError(
            f"{root}: has no images of {preset.title}; name torchvision's root or a folder of images"
        ) from error
