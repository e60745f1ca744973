"""What a pipeline config says, once it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from imgnorm.pipeline.augmentations import Api
from imgnorm.settings import Mode, Step


@dataclass(frozen=True)
class Augmentation:
    """A torchvision transform of the train pipeline, with plain arguments."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Pipeline:
    """A config that has no fault in itself; the files it names are not looked at."""

    file: str  # as the user named it
    kind: str  # of the source
    source: Mapping[str, str]  # what `measure` calls them: source, root, split, layout
    listed: bool  # the source is a list of files
    mode: Mode | Literal["auto"]
    preprocess: tuple[Step, ...]
    augment: tuple[Augmentation, ...]
    stats_path: str | None  # None: mean and std are in the config, or a preset's
    mean: tuple[float, ...]
    std: tuple[float, ...]
    api: Api
