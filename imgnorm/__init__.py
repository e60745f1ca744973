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
    from imgnorm.errors import ImgnormError as ImgnormError
    from imgnorm.measurement import DeviceWarning as DeviceWarning
    from imgnorm.measurement import SkippedImagesWarning as SkippedImagesWarning
    from imgnorm.measurement import SourceWarning as SourceWarning
    from imgnorm.measurement import measure as measure
    from imgnorm.profile import Profile as Profile
    from imgnorm.stats import Stats as Stats
    from imgnorm.stats import merge as merge
    from imgnorm.statsfile import read_stats as read_stats
    from imgnorm.statsfile import write_stats as write_stats
    from imgnorm.transforms import BuiltPipeline as BuiltPipeline
    from imgnorm.transforms import build as build
    from imgnorm.transforms import to_inverse as to_inverse
    from imgnorm.transforms import to_transform as to_transform
    from imgnorm.verification import Verification as Verification
    from imgnorm.verification import verify as verify

_HOMES = {
    "BuiltPipeline": "transforms",
    "DeviceWarning": "measurement",
    "ImgnormError": "errors",
    "Profile": "profile",
    "SkippedImagesWarning": "measurement",
    "SourceWarning": "measurement",
    "Stats": "stats",
    "Verification": "verification",
    "build": "transforms",
    "measure": "measurement",
    "merge": "stats",
    "read_stats": "statsfile",
    "to_inverse": "transforms",
    "to_transform": "transforms",
    "verify": "verification",
    "write_stats": "statsfile",
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
