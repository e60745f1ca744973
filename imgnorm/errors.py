"""What imgnorm raises.

ImgnormError                 the command exits 2: the work could not be done, nothing was written
├── SourceError              the folder, list or dataset cannot be measured
├── OutputError              a result cannot be written where it was asked for
├── InvalidDocument          a YAML file has faults (carries all of them)
├── IncompatibleStats        these measurements or settings do not belong together
├── TransformError           no transform can be made from these stats
├── ModelError               a network or its checkpoint cannot be used for what was asked
├── FoldError                a normalization cannot be absorbed exactly
├── DeviceError              a CUDA device is not there, or failed
├── MissingDependency        a package is absent or broken (the message says what to install)
└── TooManySkipped           more images were skipped than allowed: a failed check, exit 1

A caller's bug (wrong type, wrong value of an argument) is a plain TypeError or ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "DeviceError",
    "FoldError",
    "ImgnormError",
    "IncompatibleStats",
    "InvalidDocument",
    "MissingDependency",
    "ModelError",
    "OutputError",
    "Problem",
    "SourceError",
    "TooManySkipped",
    "TransformError",
]

Severity = Literal["error", "warning", "info"]


class ImgnormError(Exception):
    """The root of all that imgnorm raises on purpose; its text says where, what, and what to do."""


class SourceError(ImgnormError):
    """The folder, list or dataset cannot be measured."""


class OutputError(ImgnormError):
    """A result cannot be written where it was asked for."""


class IncompatibleStats(ImgnormError):
    """These measurements or settings do not belong together."""


class TransformError(ImgnormError):
    """No transform can be made from these stats."""


class ModelError(ImgnormError):
    """A network, its checkpoint or what runs through it cannot be used for what was asked."""


class FoldError(ImgnormError):
    """A normalization cannot be absorbed into a network's weights exactly."""


class DeviceError(ImgnormError):
    """A CUDA device is not there, or failed."""


class MissingDependency(ImgnormError):
    """A package is absent or broken."""


class TooManySkipped(ImgnormError):
    """More images were skipped than the caller allowed."""


@dataclass(frozen=True)
class Problem:
    """One fault of a document, at its place."""

    file: str  # as the user named it
    line: int  # from 1
    column: int  # from 1
    rule: str  # the id of the rule that found it
    message: str  # lower case, with the offending value
    hint: str | None = None  # what to do
    severity: Severity = "error"

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: {self.message}"
        return f"{text}\n    {self.hint}" if self.hint else text


class InvalidDocument(ImgnormError):
    """A YAML file has faults; `problems` holds all of them, in line order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True)
class Rule:
    """One thing that validate and lint look for."""

    id: str  # as on the command line: known-wrong
    severity: Severity
    summary: str  # half a line
    explanation: str  # one paragraph, for `--explain RULE` and the documentation
    bad: str  # an example in YAML that breaks it
    good: str  # the same, mended
