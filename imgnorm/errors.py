"""What imgnorm raises on purpose, and what its checks find.

ImgnormError                 the command exits 2: the work could not be done, nothing was written
├── SourceError              the folder, list or dataset cannot be measured
├── OutputError              a result cannot be written where it was asked for
├── InvalidDocument          a YAML file has faults (carries all of them)
├── IncompatibleStats        these measurements or settings do not belong together
├── TransformError           no transform can be made from these stats
├── ModelError               a network or its checkpoint cannot be used for what was asked
├── FoldError                a normalization cannot be absorbed exactly
├── DeviceError              a CUDA device is missing, or failed
├── MissingDependency        a package is missing or broken (the message says what to install)
├── TooManySkipped           more images were skipped than allowed: a failed check, exit 1
└── NotesFound               something was lost or left out, and `strict` forbids it: a failed check, exit 1

Warnings, of class UserWarning, are about a measurement that goes on: DeviceWarning, SkippedImagesWarning
and SourceWarning.

A caller's bug (wrong type, wrong value of an argument) is a plain TypeError or ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from imgnorm.wording import harmless, printable

__all__ = [
    "DeviceError",
    "FoldError",
    "ImgnormError",
    "IncompatibleStats",
    "InvalidDocument",
    "MissingDependency",
    "ModelError",
    "NotesFound",
    "OutputError",
    "Problem",
    "SourceError",
    "TooManySkipped",
    "TransformError",
]


class ImgnormError(Exception):
    """The root of all that imgnorm raises on purpose; its text says where, what, and what to do.

    Example:
        >>> try:
        ...     imgnorm.measure("no-such-folder")
        ... except imgnorm.ImgnormError as error:
        ...     print(str(error).partition(";")[0])
        no-such-folder: no such file or folder
    """


class SourceError(ImgnormError):
    """The folder, list or dataset cannot be measured.

    Example:
        >>> try:
        ...     imgnorm.measure("no-such-folder")
        ... except imgnorm.errors.SourceError:
        ...     print("nothing to measure")
        nothing to measure
    """


class OutputError(ImgnormError):
    """A result cannot be written where it was asked for.

    Example:
        >>> stats = imgnorm.measure("examples/shapes")
        >>> try:
        ...     imgnorm.write_stats("no-such-folder/stats.yaml", stats)
        ... except imgnorm.errors.OutputError as error:
        ...     print(str(error).partition(" ")[0])
        no-such-folder/stats.yaml:
    """


class IncompatibleStats(ImgnormError):
    """These measurements or settings do not belong together.

    Example:
        >>> half = imgnorm.measure("examples/shapes", shard=(1, 2))
        >>> try:
        ...     imgnorm.merge([half])
        ... except imgnorm.errors.IncompatibleStats:
        ...     print("shard 2 is missing")
        shard 2 is missing
    """


class TransformError(ImgnormError):
    """No transform can be made from these stats.

    Example:
        >>> constant = imgnorm.Stats(mean=(0.5,), std=(0.0,), channels=("L",))
        >>> try:
        ...     imgnorm.to_transform(constant)
        ... except imgnorm.errors.TransformError:
        ...     print("it would divide by 0")
        it would divide by 0
    """


class ModelError(ImgnormError):
    """A network, its checkpoint or what runs through it cannot be used for what was asked.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
        >>> try:
        ...     imgnorm.nn.calibrate(model, [torch.zeros(2, 1, 8, 8)])  # one channel, not three
        ... except imgnorm.errors.ModelError:
        ...     print("the images do not fit the model")
        the images do not fit the model
    """


class FoldError(ImgnormError):
    """A normalization cannot be absorbed into a network's weights exactly.

    Example:
        >>> import torch
        >>> stats = imgnorm.measure("examples/shapes")
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1))
        >>> try:
        ...     imgnorm.nn.fold_input_norm(model, stats)
        ... except imgnorm.errors.FoldError:
        ...     print("zero padding would mean black, not the mean")
        zero padding would mean black, not the mean
    """


class DeviceError(ImgnormError):
    """A CUDA device is missing, or failed.

    Example:
        >>> try:
        ...     imgnorm.measure("examples/shapes", device="cuda:99")
        ... except imgnorm.errors.DeviceError:
        ...     print("no such device")
        no such device
    """


class MissingDependency(ImgnormError):
    """A package is missing or broken; the message says what to install.

    Example:
        >>> stats = imgnorm.measure("examples/shapes")
        >>> try:
        ...     transform = imgnorm.to_transform(stats)  # needs torch and torchvision
        ... except imgnorm.errors.MissingDependency as error:
        ...     print(error)
    """


class NotesFound(ImgnormError):
    """There is something to note about the images that were counted, and `strict` makes that a failure.

    Example:
        >>> try:
        ...     imgnorm.measure("examples/shapes", strict=True)
        ... except imgnorm.errors.NotesFound as error:
        ...     print(str(error).partition(";")[0])
        1 note, and strict allows none, so nothing was written: alpha (1)
    """


class TooManySkipped(ImgnormError):
    """More images were skipped than allowed: the command raises it for `--max-skipped`.

    In Python, `Stats.skipped` lists them, and the caller decides.

    Example:
        >>> stats = imgnorm.measure("examples/shapes")
        >>> if len(stats.skipped) > 10:
        ...     raise imgnorm.errors.TooManySkipped(f"{len(stats.skipped)} images skipped")
    """


class InvalidDocument(ImgnormError):
    """A YAML file has faults; `problems` holds all of them, in line order. The text has the first 20 lines.

    Example:
        >>> with open("stats.yaml", "w") as file:
        ...     _ = file.write("format: imgnorm-stats/1\\nmean: [0.5]\\nstd: [0.2, 0.3]\\n")
        >>> try:
        ...     imgnorm.read_stats("stats.yaml")
        ... except imgnorm.errors.InvalidDocument as error:
        ...     print(len(error.problems), error.problems[0].file)
        1 stats.yaml
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column)))
        lines = "\n".join(map(str, self.problems)).split("\n")
        if len(lines) > _MAX_LINES:
            lines[_MAX_LINES - 1 :] = [f"and more: {len(self.problems):,} problems in all"]
        super().__init__("\n".join(lines))


class DeviceWarning(UserWarning):
    """The device could not do everything that it was asked for; the CPU did the rest.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", imgnorm.DeviceWarning)  # rather fail than be slow
        ...     stats = imgnorm.measure("examples/shapes", device="auto")
    """


class SkippedImagesWarning(UserWarning):
    """Some images were not counted; `stats.skipped` names them.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", imgnorm.SkippedImagesWarning)
        ...     stats = imgnorm.measure("examples/shapes", max_pixels=6_000)
        >>> stats.images, len(stats.skipped)
        (20, 4)
    """


class SourceWarning(UserWarning):
    """Something about the source that cannot be seen in the numbers.

    Example:
        >>> import warnings
        >>> import numpy
        >>> image = numpy.array([[-1.0, 1.0], [0.5, -0.5]], dtype="float32")
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always", imgnorm.SourceWarning)
        ...     stats = imgnorm.measure([image])
        >>> "look normalized already" in str(caught[0].message)
        True
    """


_MAX_LINES = 20  # of an InvalidDocument's text

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Problem:
    """One fault of a document, at its place.

    Example:
        >>> print(imgnorm.Problem("config.yaml", 3, 5, "unknown-key", "std: missing", hint="add it"))
        config.yaml:3:5: std: missing
            add it
    """

    file: str  # as the user named it
    line: int  # from 1
    column: int  # from 1
    rule: str  # the id of the rule that found it
    message: str  # lower case, with the offending value
    hint: str | None = None  # what to do
    severity: Severity = "error"
    also: tuple[tuple[str, int, int], ...] = ()  # file, line and column of equal faults

    def __post_init__(self) -> None:
        """Values of a stranger's file may be long, and may hold commands to a terminal."""
        object.__setattr__(self, "message", harmless(self.message))
        if self.hint is not None:
            object.__setattr__(self, "hint", harmless(self.hint))

    def to_dict(self) -> dict[str, Any]:
        """Its fields as plain values; without `also`, if there is nothing else."""
        return {key: value for key, value in vars(self).items() if key != "also" or value}

    def __str__(self) -> str:
        text = f"{printable(self.file)}:{self.line}:{self.column}: {self.message}"
        return f"{text}\n    {self.hint}" if self.hint else text


@dataclass(frozen=True)
class Rule:
    """One kind of fault that validate and lint look for."""

    id: str  # as on the command line: known-wrong
    summary: str  # half a line
    explanation: str  # one paragraph, for `--explain RULE` and the documentation
    bad: str  # an example in YAML that breaks it
    good: str  # the same, fixed
    severity: Severity = "error"
    alone: bool = False  # about one value: what else the file holds, or lacks, does not matter
