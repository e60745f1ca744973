"""Exact per-channel statistics of image datasets, and the transforms that use them.

Example:
    stats = imgnorm.measure("data/train")
    imgnorm.write_stats("stats.yaml", stats)
    transform = imgnorm.to_transform(imgnorm.read_stats("stats.yaml"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from imgnorm.checks.verify.verify import Verification as Verification
    from imgnorm.checks.verify.verify import verify as verify
    from imgnorm.errors import ImgnormError as ImgnormError
    from imgnorm.measuring.measure import DeviceWarning as DeviceWarning
    from imgnorm.measuring.measure import SkippedImagesWarning as SkippedImagesWarning
    from imgnorm.measuring.measure import SourceWarning as SourceWarning
    from imgnorm.measuring.measure import measure as measure
    from imgnorm.pipeline.transforms import BuiltPipeline as BuiltPipeline
    from imgnorm.pipeline.transforms import build as build
    from imgnorm.pipeline.transforms import to_inverse as to_inverse
    from imgnorm.pipeline.transforms import to_transform as to_transform
    from imgnorm.progress import Profile as Profile
    from imgnorm.stats.file import read_stats as read_stats
    from imgnorm.stats.file import write_stats as write_stats
    from imgnorm.stats.stats import Stats as Stats
    from imgnorm.stats.stats import merge as merge

_HOMES = {
    "BuiltPipeline": "pipeline.transforms",
    "DeviceWarning": "measuring.measure",
    "ImgnormError": "errors",
    "Profile": "progress",
    "SkippedImagesWarning": "measuring.measure",
    "SourceWarning": "measuring.measure",
    "Stats": "stats.stats",
    "Verification": "checks.verify.verify",
    "build": "pipeline.transforms",
    "measure": "measuring.measure",
    "merge": "stats.stats",
    "read_stats": "stats.file",
    "to_inverse": "pipeline.transforms",
    "to_transform": "pipeline.transforms",
    "verify": "checks.verify.verify",
    "write_stats": "stats.file",
}

__all__ = [
    "BuiltPipeline",
    "DeviceWarning",
    "ImgnormError",
    "Profile",
    "SkippedImagesWarning",
    "SourceWarning",
    "Stats",
    "Verification",
    "__version__",
    "build",
    "measure",
    "merge",
    "read_stats",
    "to_inverse",
    "to_transform",
    "verify",
    "write_stats",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562): `import imgnorm` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'imgnorm' has no attribute {name!r}")
    value = getattr(import_module(f"imgnorm.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
