"""A pipeline config, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from imgnorm.pipeline.augmentations import Api
from imgnorm.settings import Mode, Step


@dataclass(frozen=True)
class Augmentation:
    """A transform of the train pipeline."""

    name: str  # torchvision's
    arguments: Mapping[str, Any]  # plain values, as in YAML


@dataclass(frozen=True)
class Pipeline:
    """A config without faults. The files that it names have not been looked at."""

    file: str  # as the user named it
    kind: str  # the source's: folder, list, archive, array, torchvision
    source: Mapping[str, Any]  # arguments of `open_named`: source, root, split, layout, patterns
    listed: bool  # the source is a list of files
    mode: Mode | Literal["auto"]
    frames: int  # as in ImageSettings
    preprocess: tuple[Step, ...]
    augment: tuple[Augmentation, ...]
    stats_path: str | None  # None: mean and std are in the config, or are a preset's
    mean: tuple[float, ...]  # empty if the config names a stats file; so is std
    std: tuple[float, ...]
    api: Api
    ignore_outliers: tuple[str, ...] = ()  # reasons, as `measure` takes them
