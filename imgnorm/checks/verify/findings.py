"""What verify was asked for, and what it found: each difference at its line of the stats file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from imgnorm.checks.verify.rules import RULES
from imgnorm.documents.document import Document, Path
from imgnorm.errors import Problem
from imgnorm.measuring.opening import names_a_config
from imgnorm.pipeline.config import SOURCE_KINDS
from imgnorm.progress import Progress
from imgnorm.settings import (
    TORCHVISION,
    ImageSettings,
    Resize,
    channels_of,
    frames_text,
    kind_of,
    mode_of,
)
from imgnorm.sources.source import Source
from imgnorm.stats.measurement import Measurement
from imgnorm.stats.provenance import MERGED, Provenance
from imgnorm.stats.stats import Stats
from imgnorm.tally.skipped import Skipped
from imgnorm.wording import printable

_NAMED = 5  # names in a message; of further ones it gives the number
_SEVERITIES = {rule.id: rule.severity for rule in RULES}


@dataclass(frozen=True)
class Request:
    """The stats file, and how the caller wants it verified."""

    file: str  # as the user named it
    stats: Stats
    measured: Measurement  # of these stats
    root: str
    layout: str | None
    max_pixels: int
    timeout_s: float
    workers: int | None
    on_progress: Callable[[Progress], None]

    @property
    def settings(self) -> ImageSettings:
        """The settings of the measurement. Auto stays auto, so that a new color image is noticed."""
        mode = self.stats.mode
        assert mode is not None
        if kind_of(mode) == "float":  # users ask for float arrays by their channels: F as L
            mode = mode_of(len(channels_of(mode)), "8-bit")
        return ImageSettings(
            "auto" if self.stats.auto else mode,
            self.stats.preprocess,
            self.stats.strict_channels,
            self.stats.frames,
        )

    def remedy(self, source: str | os.PathLike[str] | Source | None) -> str:
        """The command that measures the data again, for a hint."""
        origin, file = self.measured.source, shlex.quote(self.file)
        if origin.kind == MERGED or origin.shards:
            return f"measure its parts again, and merge them: `imgnorm merge ... -o {file} --force`"
        named = os.fspath(source) if isinstance(source, (str, os.PathLike)) else _called(origin)
        options = ["--list"] if origin.kind == "list" else []
        of_python = origin.kind not in SOURCE_KINDS
        if of_python:
            if ":" not in named:  # not a factory
                return (
                    "measure it again with imgnorm.measure, and write it with imgnorm.write_stats"
                )
            options = ["--key", str(origin.options["key"])] if "key" in origin.options else []
        if not names_a_config(named):
            if not self.stats.auto:
                options += ["--mode", str(self.settings.mode)]
            options += _step_options(self.stats)
            options += ["--layout", self.layout] if self.layout else []
            if self.stats.frames:
                options += ["--frames", frames_text(self.stats.frames)]
            for name in ("include", "exclude"):
                patterns = origin.options.get(name, ())
                assert isinstance(patterns, tuple)
                options += [word for one in patterns for word in (f"--{name}", one)]
            if "split" in origin.options and origin.options["split"] != "train":
                options += ["--split", str(origin.options["split"])]
        if self.stats.strict_channels:
            options.append("--strict-channels")
        if "limit" in origin.options:
            options += ["--limit", str(origin.options["limit"])]
        if any(one.moments for one in self.measured.classes.values()):
            options.append("--per-class")
        if origin.names is not None:
            options.append("--keep-names")
        subject = ["--dataset", named] if of_python else [named]
        command = shlex.join(["imgnorm", "stats", *subject, *options])
        return f"measure again: `{command} -o {file} --force`"


class Findings:
    """Collects the differences, each at the line of the stats file that it contradicts."""

    def __init__(self, document: Document, remedy: str) -> None:
        self._document = document
        self.remedy = remedy  # the hint of a finding that has none of its own
        self._problems: list[Problem] = []

    def add(self, path: Path, rule: str, message: str, *, hint: str = "") -> None:
        problem = self._document.problem(path, rule, message, hint or self.remedy, of_key=True)
        self._problems.append(replace(problem, severity=_SEVERITIES[rule]))

    def sorted(self) -> tuple[Problem, ...]:
        return tuple(sorted(self._problems, key=lambda p: (p.line, p.column)))


def compare_decoders(findings: Findings, then: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether the same libraries decode as then; if not, that alone may change digits."""
    other = [name for name in sorted(now) if name in then and now[name] != then[name]]
    for name in other:
        findings.add(
            ("decoders", name),
            "decoders",
            f"{then[name]} then, {now[name]} now: this alone may change pixels by one level",
        )
    return not other


def faults_of(skipped: Sequence[Skipped]) -> str:
    return some_of([f"{printable(s.name)} ({s.reason})" for s in skipped])


def some_of(texts: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(texts) - _NAMED:,} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more


def _step_options(stats: Stats) -> list[str]:
    options: list[str] = []
    for step in stats.preprocess:
        size = str(step.size) if isinstance(step.size, int) else f"{step.size[0]}x{step.size[1]}"
        options += ["--resize" if isinstance(step, Resize) else "--center-crop", size]
    return options


def _called(origin: Provenance) -> str:
    """What a user names on the command line."""
    ref = origin.ref if isinstance(origin.ref, str) else origin.ref[0]
    return TORCHVISION + ref if origin.kind == "torchvision" else ref
