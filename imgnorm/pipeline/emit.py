"""Stats, or a pipeline config -> the file that torchvision or another framework takes them from: targets/."""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from imgnorm.errors import SourceError, TransformError
from imgnorm.output import read_whole
from imgnorm.pipeline.augmentations import Api
from imgnorm.pipeline.header import command_lines, origin_lines, seen_from
from imgnorm.pipeline.targets import TARGETS
from imgnorm.pipeline.targets.target import Target
from imgnorm.pipeline.targets.torchvision import pipeline_module, stats_module
from imgnorm.stats.stats import Stats
from imgnorm.wording import nearest

TO_TORCHVISION = "torchvision"


@dataclass(frozen=True)
class Emitted:
    """What `emit` makes; `str()` of it is its text.

    Example:
        >>> emitted = imgnorm.emit(imgnorm.Stats(("L",), (0.5,), (0.25,)))
        >>> [line for line in str(emitted).splitlines() if line.startswith(("MEAN", "STD"))]
        ['MEAN = (0.5,)', 'STD = (0.25,)']
    """

    to: str  # the target
    data: bytes  # of the file

    @property
    def is_binary(self) -> bool:
        """Whether the file is no text: ONNX."""
        return self.to in TARGETS and TARGETS[self.to].is_binary

    @property
    def text(self) -> str:
        """The content of the file.

        Raises:
            ValueError: it is binary; `data` has it.
        """
        if self.is_binary:
            raise ValueError(f"{self.to} is binary: take `data`")
        return self.data.decode()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them; of a binary file `base64` in place of `text`."""
        if self.is_binary:
            return {"to": self.to, "base64": b64encode(self.data).decode()}
        return {"to": self.to, "text": self.text}

    def __str__(self) -> str:
        return repr(self) if self.is_binary else self.text


def emit(
    of: Stats | str | os.PathLike[str],
    *,
    to: str = TO_TORCHVISION,
    api: Api | None = None,
    eps: float | None = None,
    output: str | os.PathLike[str] | None = None,
    into: str | os.PathLike[str] | None = None,
) -> Emitted:
    """The transforms for stats, a stats file or a pipeline config, as a Python module, or another target.

    The module has MEAN, STD, train_transform, eval_transform and inverse_transform, and imports torch
    and torchvision only. The other targets are files that a framework reads, in its own keys, unit and
    channel order. Nothing is written.

    Args:
        of: stats, or the path of a stats file or a config.
        to: the target: "torchvision", or one of those that `imgnorm emit --to` lists.
        api: of torchvision: "v1" (torchvision.transforms) or "v2" (torchvision.transforms.v2); None: what
            the config says; else v1, and v2 for 16-bit stats, which v1 cannot scale.
        eps: the least std in 0..1; needed if a channel is constant.
        output: the file that this is for: its header has the command that makes it again. None: as the
            target's file is usually called.
        into: a JSON file that exists: what is made is this file with the target's keys in it.

    Raises:
        SourceError: the file cannot be read, or `into` is not a JSON object with a place for the keys.
        InvalidDocument: the file has faults.
        TransformError: the target cannot express these stats; see `steps_of` and `usable_std`.
        MissingDependency: the target needs a package that is not installed.
        ValueError: `api` is given for a config, which has its own, or for another target; there is no
            such target, or it is not JSON and `into` is given.

    Example:
        >>> emitted = imgnorm.emit("configs/cifar10.yaml")
        >>> "RandomCrop(size=32, padding=4)" in emitted.text
        True
        >>> print(imgnorm.emit(imgnorm.Stats(("L",), (0.5,), (0.25,)), to="mmpretrain"))
        # Written by imgnorm for gray images, values in 0..255.
        # Constants that were written by hand, not measured.
        # Regenerate it in this folder:
        #   imgnorm emit stats.yaml -o normalization.py --to mmpretrain --force
        <BLANKLINE>
        data_preprocessor = dict(
            type="ClsDataPreprocessor",
            mean=[127.5],
            std=[63.75],
        )
        <BLANKLINE>
    """
    target = None if to == TO_TORCHVISION else _target_of(to)
    if api is not None and target:
        raise ValueError(f"api: is torchvision's, and the target is {to}; leave api out")
    if into is not None and not (target and target.is_json):
        known = ", ".join(one.name for one in TARGETS.values() if one.is_json)
        raise ValueError(f"into: takes JSON, and {to} is not; the targets that are: {known}")

    def of_stats(stats: Stats, path: str = "stats.yaml") -> bytes:
        if target:
            return _file(target, stats, path, eps, output, into)
        return stats_module(stats, api=api, eps=eps, stats_path=path, module_path=module).encode()

    module = os.fspath(output or "transforms.py")
    if isinstance(of, Stats):
        return Emitted(to, of_stats(of))
    from imgnorm.documents.document import STATS_LIMITS, read_bytes
    from imgnorm.documents.reader import declared_format
    from imgnorm.pipeline.config import read_normalized
    from imgnorm.stats.file import parse_stats

    path = os.fspath(of)
    data = read_bytes(path, STATS_LIMITS)
    try:
        if not declared_format(data).startswith("imgnorm-pipeline/"):
            return Emitted(to, of_stats(parse_stats(data, path), path))
        if target:
            raise TransformError(
                f"a config becomes a module of torchvision; give {to} its stats file"
            )
        if api is not None:
            raise ValueError(f"api: {path} says it; change it there, or leave api out")
        read = read_normalized(path)
        text = pipeline_module(*read, eps=eps, config_path=path, module_path=module)
        return Emitted(to, text.encode())
    except TransformError as error:
        raise TransformError(f"{path}: {error}") from error


def targets_table(columns: int | None = None) -> str:
    """All targets: what the file is usually called, the unit and the order of its numbers, and its keys.

    Args:
        columns: the width in which the keys are broken at spaces; None: each row is one line.
    """
    rows = [["target", "file", "for values in", "order", "what it holds"]]
    rows += [[TO_TORCHVISION, "transforms.py", "0..1", "RGB", "train_transform, eval_transform"]]
    rows += [
        [one.name, one.file, "0..255" if one.takes_pixels else "0..1", one.takes_order, one.keys]
        for one in TARGETS.values()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for *others, keys in rows:
        start = "  ".join([*map(str.ljust, others, widths), ""])
        room = max(20, columns - len(start)) if columns else len(keys)
        first, *more = wrap(keys, room, break_long_words=False, break_on_hyphens=False)
        lines += [start + first, *(" " * len(start) + one for one in more)]
    return "\n".join(lines)


def _target_of(name: str) -> Target:
    if name in TARGETS:
        return TARGETS[name]
    near = nearest(name, [TO_TORCHVISION, *TARGETS])
    hint = f"did you mean {near[0]!r}?" if near else "`imgnorm emit --to` lists them"
    raise ValueError(f"to: there is no target {name!r}; {hint}")


def _file(
    target: Target,
    stats: Stats,
    path: str,
    eps: float | None,
    output: str | os.PathLike[str] | None,
    into: str | os.PathLike[str] | None,
) -> bytes:
    """The file of a target other than torchvision."""
    seen = seen_from(path, os.fspath(into or output or target.file))
    about = origin_lines(stats)
    if stats.preprocess:
        steps = ", ".join(map(str, stats.preprocess))
        about.append(f"The images were measured after {steps}: resize them so here, too.")
    about += command_lines(*seen, eps, f" --to {target.name}", into=into is not None)
    numbers = target.normalization(stats, eps=eps, about=about)
    present = None if into is None else _present(os.fspath(into))
    try:
        return target.file_of(numbers, present)
    except ValueError as error:
        raise SourceError(f"{into}: {error}") from error


def _present(path: str) -> bytes:
    found = read_whole(path)
    if found is None:
        raise SourceError(f"{path}: no such file; write a new one with -o")
    return found
