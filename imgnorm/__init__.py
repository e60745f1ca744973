"""Exact per-channel statistics of image datasets, and the transforms that use them.

Example:
    stats = imgnorm.measure("data/train")
    imgnorm.write_stats("stats.yaml", stats)
    transform = imgnorm.to_transform(imgnorm.read_stats("stats.yaml"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from imgnorm import errors as errors
    from imgnorm import nn as nn
    from imgnorm.checks.diff import Difference as Difference
    from imgnorm.checks.diff import diff as diff
    from imgnorm.checks.lint.explained import ExplainedPair as ExplainedPair
    from imgnorm.checks.lint.explained import explain_file as explain_file
    from imgnorm.checks.lint.lint import Linted as Linted
    from imgnorm.checks.lint.lint import lint as lint
    from imgnorm.checks.shared_images import SharedImages as SharedImages
    from imgnorm.checks.shared_images import shared_images as shared_images
    from imgnorm.checks.validate import Validated as Validated
    from imgnorm.checks.validate import validate as validate
    from imgnorm.checks.verify.verify import Verification as Verification
    from imgnorm.checks.verify.verify import verify as verify
    from imgnorm.constants.explain import Explanation as Explanation
    from imgnorm.constants.explain import explain as explain
    from imgnorm.errors import DeviceWarning as DeviceWarning
    from imgnorm.errors import ImgnormError as ImgnormError
    from imgnorm.errors import Problem as Problem
    from imgnorm.errors import SkippedImagesWarning as SkippedImagesWarning
    from imgnorm.errors import SourceWarning as SourceWarning
    from imgnorm.measuring.measure import measure as measure
    from imgnorm.pipeline.emit import Emitted as Emitted
    from imgnorm.pipeline.emit import emit as emit
    from imgnorm.pipeline.transforms import BuiltPipeline as BuiltPipeline
    from imgnorm.pipeline.transforms import build as build
    from imgnorm.pipeline.transforms import to_inverse as to_inverse
    from imgnorm.pipeline.transforms import to_transform as to_transform
    from imgnorm.progress import Profile as Profile
    from imgnorm.progress import Progress as Progress
    from imgnorm.report.page import write_report as write_report
    from imgnorm.sources.source import Source as Source
    from imgnorm.sources.source import Unit as Unit
    from imgnorm.sources.source import Unread as Unread
    from imgnorm.stats.file import read_stats as read_stats
    from imgnorm.stats.file import write_stats as write_stats
    from imgnorm.stats.per_image import ImageRow as ImageRow
    from imgnorm.stats.per_image import ImageTable as ImageTable
    from imgnorm.stats.stats import Stats as Stats
    from imgnorm.stats.stats import merge as merge
    from imgnorm.tally.skipped import Reason as Reason
    from imgnorm.tally.skipped import Skipped as Skipped
    from imgnorm.tally.skipped import Unreadable as Unreadable

_HOMES = {
    "build": "pipeline.transforms",
    "BuiltPipeline": "pipeline.transforms",
    "DeviceWarning": "errors",
    "diff": "checks.diff",
    "Difference": "checks.diff",
    "emit": "pipeline.emit",
    "Emitted": "pipeline.emit",
    "explain": "constants.explain",
    "explain_file": "checks.lint.explained",
    "ExplainedPair": "checks.lint.explained",
    "Explanation": "constants.explain",
    "ImageRow": "stats.per_image",
    "ImageTable": "stats.per_image",
    "ImgnormError": "errors",
    "lint": "checks.lint.lint",
    "Linted": "checks.lint.lint",
    "measure": "measuring.measure",
    "merge": "stats.stats",
    "Problem": "errors",
    "Profile": "progress",
    "Progress": "progress",
    "read_stats": "stats.file",
    "Reason": "tally.skipped",
    "shared_images": "checks.shared_images",
    "SharedImages": "checks.shared_images",
    "Skipped": "tally.skipped",
    "SkippedImagesWarning": "errors",
    "Source": "sources.source",
    "SourceWarning": "errors",
    "Stats": "stats.stats",
    "to_inverse": "pipeline.transforms",
    "to_transform": "pipeline.transforms",
    "Unit": "sources.source",
    "Unread": "sources.source",
    "Unreadable": "tally.skipped",
    "validate": "checks.validate",
    "Validated": "checks.validate",
    "Verification": "checks.verify.verify",
    "verify": "checks.verify.verify",
    "write_report": "report.page",
    "write_stats": "stats.file",
}

_MODULES = ("errors", "nn")

__all__ = ["__version__", *_MODULES, *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562): `import imgnorm` itself costs nothing."""
    if name in _MODULES:
        return import_module(f"imgnorm.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'imgnorm' has no attribute {name!r}")
    value = getattr(import_module(f"imgnorm.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
