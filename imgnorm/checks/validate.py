"""Pipeline configs and stats files -> every problem in them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from imgnorm._torch import torch_needed
from imgnorm.checks.foreign import foreign_problem
from imgnorm.checks.ignore import MARK, chosen, not_ignored
from imgnorm.checks.reports import summary
from imgnorm.checks.rules import RULES
from imgnorm.constants.findings import findings
from imgnorm.constants.presets import preset
from imgnorm.documents.document import (
    CONFIG_LIMITS,
    STATS_LIMITS,
    Document,
    file_names,
    read_bytes,
    read_head,
)
from imgnorm.documents.kinds import as_yaml
from imgnorm.documents.portability import portability_problems
from imgnorm.documents.reader import Reading, declared_format, read_through
from imgnorm.errors import InvalidDocument, Problem, Severity, SourceError
from imgnorm.pipeline.config import PIPELINE_FORMAT, normalization, pipeline_in
from imgnorm.pipeline.numbers import (
    UNUSABLE,
    Outcome,
    estimate_note,
    possible_channels,
    problem_of,
)
from imgnorm.pipeline.order import order_problems
from imgnorm.pipeline.pipeline import Pipeline
from imgnorm.stats.file import stats_in
from imgnorm.stats.format import STATS, STATS_FORMAT
from imgnorm.stats.stats import Stats
from imgnorm.wording import plural

DryRun = Callable[[Document, Pipeline, Stats], Iterable[Problem]]

_OURS = re.compile(rb"imgnorm-(?:pipeline|stats)/")
"""In a file of imgnorm's own."""
_FROM_INTEGERS = {"derived", "impossible"}
"""Rules about integers that belong together, of which a fault in the YAML may hide one."""


@dataclass(frozen=True)
class Validated:
    """The files that were checked, and the problems in them.

    Example:
        >>> found = imgnorm.validate("configs")
        >>> found.problems, len(found.files)
        ((), 10)
    """

    problems: tuple[Problem, ...]  # in the order of the files, and of their lines
    files: tuple[str, ...]  # that were checked
    passed_over: int  # YAML files that are not imgnorm's

    def count(self, severity: Severity) -> int:
        """How many of the problems are an "error", a "warning" or an "info"."""
        return sum(problem.severity == severity for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return {**vars(self), "problems": [problem.to_dict() for problem in self.problems]}

    def summary(self) -> str:
        """One line: `checked  3 files: 1 error, 0 warnings, 0 notes; passed over 2 other YAML files`."""
        others = f"; passed over {plural(self.passed_over, 'other YAML file')}"
        return summary(len(self.files), self.problems) + (others if self.passed_over else "")


def validate(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    select: Collection[str] | None = None,
    ignore: Collection[str] = (),
    skip_others: bool = False,
    build: bool = False,
) -> Validated:
    """Check pipeline configs and stats files, and all of those in folders.

    Nothing is printed or written, and wrong files raise nothing: their problems are the result.

    Args:
        paths: a file or a folder, or several.
        select: the ids of the rules to check; None: all.
        ignore: the ids of rules to leave out.
        skip_others: pass over files that are not imgnorm's even if they are named, not only in
            folders.
        build: build each pipeline that has no error, too, and run it on a generated image. Only this
            loads torch.

    Raises:
        SourceError: a path does not exist or cannot be read.
        MissingDependency: torch or torchvision is missing, which `build` needs.

    Example:
        >>> with open("wrong.yaml", "w") as file:
        ...     _ = file.write("format: imgnorm-stats/1\\nmean: [0.5]\\nstd: [0.2, 0.3]\\n")
        >>> [problem.rule for problem in imgnorm.validate("wrong.yaml").problems]
        ['channels']
    """
    dry_run: DryRun | None = None
    if build:
        with torch_needed():
            from imgnorm.pipeline.dry_run import dry_run_problems as dry_run
    read: dict[str, Outcome] = {}
    problems: list[Problem] = []
    checked: list[str] = []
    passed_over = 0
    for file, named in _files(file_names(paths)):
        data = read_head(file, CONFIG_LIMITS)
        kind = _kind_of(data)
        if not kind and (skip_others or not named) and not _OURS.search(data):
            passed_over += 1
            continue
        checked.append(file)
        found = _checked(file, data, kind, read, dry_run)
        lines = data.decode(errors="replace").splitlines() if MARK in data else ()
        problems += chosen(not_ignored(found, lines, file), select, ignore)
    return Validated(tuple(problems), tuple(checked), passed_over)


def _files(paths: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Each file once, and whether the user named it."""
    seen: set[str] = set()
    for path in paths:
        found: Iterable[str] = _below(path) if os.path.isdir(path) else [path]
        for file in found:
            if os.path.realpath(file) not in seen:
                seen.add(os.path.realpath(file))
                yield file, file == path


def _below(folder: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        reason = (error.strerror or "").lower()
        raise SourceError(
            f"{error.filename}: cannot be read ({reason}); check the path and its permissions"
        ) from error

    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(here, name)
            if name.endswith((".yaml", ".yml")) and os.path.isfile(path):
                yield path


def _kind_of(data: bytes) -> str:
    """The file's `format` if it is one of imgnorm's, else ""."""
    kind = declared_format(data[: CONFIG_LIMITS.max_bytes])
    if kind.startswith("imgnorm-"):
        return kind
    head = _OURS.search(data[:4096])  # a fault in the syntax may stand before the key
    return head[0].decode() if head and not kind else ""


def _checked(
    file: str, data: bytes, kind: str, read: dict[str, Outcome], dry_run: DryRun | None
) -> list[Problem]:
    try:
        if kind.startswith("imgnorm-stats"):
            if len(data) > CONFIG_LIMITS.max_bytes:
                data = read_bytes(file, STATS_LIMITS)
            reading = read_through(data, file, STATS_LIMITS, STATS)
            found = _stats_problems(reading, read)
        else:
            ours = kind.startswith("imgnorm-pipeline")
            foreign = None if ours else foreign_problem(file, data, faulty=False)
            if foreign:
                return [foreign]
            reading = read_through(data, file, CONFIG_LIMITS)
            if reading.problems and not ours:
                foreign = foreign_problem(file, data, faulty=True)
                return [foreign] if foreign else list(reading.problems)
            if reading.document is None:
                return list(reading.problems)
            if not ours:
                return [_unknown_format(reading.document)]
            found = _pipeline_problems(
                reading.document, read, None if reading.problems else dry_run
            )
    except InvalidDocument as error:
        return list(error.problems)
    if reading.problems:
        return [*reading.problems, *_no_consequences(found, reading)]
    if len(data) > CONFIG_LIMITS.max_bytes:  # too large to be written by hand
        return found
    return [*found, *portability_problems(data, file)]


def _no_consequences(found: Iterable[Problem], reading: Reading) -> Iterator[Problem]:
    """The problems that would remain if the YAML's own faults were fixed, as far as that is known."""
    document = reading.document
    assert document is not None
    rules = {problem.rule for problem in reading.problems}
    lacking = rules & {"merge-key", "alias", "key-not-text"} or reading.ended_in
    places = {(p.line, p.column) for p in reading.problems}
    places |= {
        document.place(path, of_key=key) for path in reading.ended_in for key in (True, False)
    }
    blanked = {p.line for p in reading.problems if p.rule == "control-character"}
    for problem in found:
        if (problem.line, problem.column) in places or problem.line in blanked:
            continue
        if RULES[problem.rule].alone or not (lacking or problem.rule in _FROM_INTEGERS):
            yield problem


def _stats_problems(reading: Reading, read: dict[str, Outcome]) -> list[Problem]:
    document = reading.document
    path = os.path.normpath(reading.problems[0].file if document is None else document.file)
    if document is None:
        read[path] = error = InvalidDocument(reading.problems)
        raise error
    try:
        stats = stats_in(document)
    except InvalidDocument as faults:
        read[path] = InvalidDocument([*reading.problems, *faults.problems])
        return list(faults.problems)
    read[path] = InvalidDocument(reading.problems) if reading.problems else stats
    if stats.estimate:
        return [estimate_note(document, stats, ("estimate",))]
    if stats.measurement:  # they follow from integers, which `stats_in` has checked
        return []
    found = findings(stats.mean, stats.std, channels=len(stats.channels))
    if stats.of_floats:  # their unit is unknown
        found = [finding for finding in found if finding.rule in UNUSABLE]
    return [problem_of(document, (), finding) for finding in found]


def _pipeline_problems(
    document: Document, read: dict[str, Outcome], dry_run: DryRun | None
) -> list[Problem]:
    problems = _number_problems(document)
    problems += (p for p in order_problems(document) if p.severity != "error")
    try:
        pipeline = pipeline_in(document)
    except InvalidDocument as error:
        return [*problems, *error.problems]
    stats = None
    if pipeline.stats_path is not None:
        unusable, stats = normalization(document, pipeline, read)
        problems += unusable
        if stats and stats.estimate:
            path = ("normalize", "stats")
            problems.append(estimate_note(document, stats, path, pipeline.stats_path))
    elif dry_run:
        _, stats = normalization(document, pipeline)  # its problems are in the list already
    if dry_run and stats and all(p.severity != "error" for p in problems):
        problems += dry_run(document, pipeline, stats)
    return problems


def _number_problems(document: Document) -> list[Problem]:
    """What the rules about numbers find, if mean and std are lists of numbers.

    Other faults of the config do not matter here, so it works on the plain document.
    """
    value = document.value
    numbers = value.get("normalize") if isinstance(value, dict) else None
    if not isinstance(numbers, dict):
        return []
    mean: Any = numbers.get("mean")
    std: Any = numbers.get("std")
    named = numbers.get("preset")
    if isinstance(named, str):
        with suppress(SourceError):  # unknown or wrong, which another rule reports
            known = preset(named)
            mean, std = list(known.mean), list(known.std)
    if not (_are_numbers(mean) and _are_numbers(std)):
        return []
    image, source = value.get("image"), value.get("source")
    mode: Any = image.get("mode") if isinstance(image, dict) else None
    name = source.get("name") if isinstance(source, dict) else None
    dataset = name if isinstance(name, str) else None
    channels = possible_channels(mode, dataset, len(mean))
    found = findings(mean, std, channels=channels, dataset=dataset)
    placed = (problem_of(document, ("normalize",), finding) for finding in found)
    return list(dict.fromkeys(placed))  # a preset's mean and std stand at one place


def _are_numbers(values: Any) -> bool:
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    )


def _unknown_format(document: Document) -> Problem:
    value = document.value
    hint = f"write `format: {PIPELINE_FORMAT}` or `format: {STATS_FORMAT}`"
    if isinstance(value, dict) and "format" in value:
        message = f"{as_yaml(value['format'])} is neither a pipeline config nor a stats file"
        return document.problem(("format",), "unknown-format", message, hint)
    message = "has no format, so it is neither a pipeline config nor a stats file"
    return document.problem((), "unknown-format", message, hint)
