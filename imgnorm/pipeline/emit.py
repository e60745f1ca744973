"""Stats, or a pipeline config -> the source of a self-contained Python module, or another framework's file.

The other frameworks are in targets/.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgnorm.errors import SourceError, TransformError
from imgnorm.output import read_whole
from imgnorm.pipeline.augmentations import Api
from imgnorm.pipeline.steps import (
    Call,
    Member,
    Name,
    default_api,
    pipeline_steps,
    steps_of,
    usable_std,
)
from imgnorm.pipeline.targets import TARGETS
from imgnorm.pipeline.targets.target import Target
from imgnorm.settings import frames_text
from imgnorm.stats.stats import Stats
from imgnorm.wording import cut, nearest, plural, printable

if TYPE_CHECKING:
    from imgnorm.pipeline.pipeline import Pipeline

_LONGEST = 1000  # characters of a comment
_WIDTH = 88  # ruff's default
_TORCHVISION = "torchvision"


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
    def text(self) -> str:
        """The content of the file.

        Raises:
            UnicodeDecodeError: the target is binary, as onnx is.
        """
        return self.data.decode()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return {"to": self.to, "text": self.text}

    def __str__(self) -> str:
        return self.text


def emit(
    of: Stats | str | os.PathLike[str],
    *,
    to: str = _TORCHVISION,
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
    target = None if to == _TORCHVISION else _target_of(to)
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


def targets_table() -> str:
    """All targets: what the file is usually called, the unit and the order of its numbers, and its keys."""
    rows = [["target", "file", "for values in", "order", "what it holds"]]
    rows += [[_TORCHVISION, "transforms.py", "0..1", "RGB", "train_transform, eval_transform, …"]]
    rows += [
        [one.name, one.file, "0..255" if one.takes_pixels else "0..1", one.takes_order, one.keys]
        for one in TARGETS.values()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(map(str.ljust, row, widths)).rstrip()  # columns of text
        for row in rows
    )


def _target_of(name: str) -> Target:
    if name in TARGETS:
        return TARGETS[name]
    near = nearest(name, [_TORCHVISION, *TARGETS])
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
    seen = _seen(path, os.fspath(into or output or target.file))
    about = _origin(stats)
    if stats.preprocess:
        steps = ", ".join(map(str, stats.preprocess))
        about.append(f"The images were measured after {steps}: resize them so here, too.")
    about += _command(*seen, eps, f" --to {target.name}", into=into is not None)
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


def stats_module(
    stats: Stats,
    *,
    api: Api | None = None,
    eps: float | None = None,
    stats_path: str = "stats.yaml",
    module_path: str = "transforms.py",
) -> str:
    """The source of a module with MEAN, STD, train_transform, eval_transform and inverse_transform.

    It is formatted as ruff does by default. No text of a stats file ever becomes code.

    Args:
        api: None: `default_api`.
        eps: the least std; needed if a channel is constant.
        stats_path: the stats file, for the header.
        module_path: the module's own file, for the header.

    Raises:
        TransformError: see `steps_of` and `usable_std`.
    """
    api = api or default_api(stats)
    steps = steps_of(stats, api)
    header = [*_header(stats), *_command(*_seen(stats_path, module_path), eps, f" --api {api}")]
    module = _module(api)
    note = [
        "# Random augmentation goes in front of these steps, in your own code, as in",
        f"# `{module}.Compose([{module}.RandomCrop(32, 4), *train_transform.transforms])`.",
    ]
    return _module_text(stats, header, note, steps, steps, api, eps)


def pipeline_module(
    pipeline: Pipeline,
    stats: Stats,
    *,
    eps: float | None = None,
    config_path: str = "pipeline.yaml",
    module_path: str = "transforms.py",
) -> str:
    """The same for a pipeline config, with its augmentation in train_transform.

    Args:
        stats: what the config normalizes with.
        eps: the least std; needed if a channel is constant.
        config_path: the config, for the header.
        module_path: the module's own file, for the header.

    Raises:
        TransformError: see `pipeline_steps` and `usable_std`.
    """
    train, evaluation = pipeline_steps(pipeline, stats)
    seen, module = _seen(config_path, module_path)
    header = [f"Pipeline: {seen!r}.", *_header(stats), *_command(seen, module, eps, "")]
    return _module_text(stats, header, [], train, evaluation, pipeline.api, eps)


def _seen(path: str, module_path: str) -> tuple[str, str]:
    """The path of a file relative to the module's folder, and the module's file name."""
    folder, module = os.path.split(os.path.abspath(module_path))
    # `..` after a symbolic link is the parent of the folder that it points to: resolve both folders.
    file_folder, name = os.path.split(os.path.abspath(path))
    path = os.path.join(os.path.realpath(file_folder), name)
    try:
        seen = os.path.relpath(path, os.path.realpath(folder))
    except ValueError:  # another drive
        seen = path
    return seen.replace(os.sep, "/"), module


def _module_text(
    stats: Stats,
    header: list[str],
    note: list[str],
    train: list[Call],
    evaluation: list[Call],
    api: Api,
    eps: float | None,
) -> str:
    std = usable_std(stats, eps)
    return "\n".join(
        [
            '"""Normalization of one dataset. Written by imgnorm; do not edit."""',
            "",
            *(f"# {printable(line)}" for line in header),
            "",
            *(["import torch"] if api == "v2" else []),
            "from torchvision import transforms"
            if api == "v1"
            else "from torchvision.transforms import v2",
            "",
            *_constant("MEAN", stats.mean),
            *_constant("STD", std),
            "",
            *note,
            *_compose("train_transform", train, api),
            "",
            *_compose("eval_transform", evaluation, api),
            "",
            f"# From normalized tensors back to {_unit(stats)}.",
            f"inverse_transform = {_module(api)}.Normalize(",
            "    mean=[-mean / std for mean, std in zip(MEAN, STD, strict=True)],",
            "    std=[1 / std for std in STD],",
            ")",
            "",
        ]
    )


def _origin(stats: Stats, values: str = "") -> list[str]:
    """Where the numbers come from."""
    lines = []
    measured = stats.measurement
    if measured:
        options = "".join(
            f", {key} {' '.join(value) if isinstance(value, tuple) else value}"
            for key, value in measured.source.options.items()
        )
        pixels = measured.pixels.moments().count
        lines.append(
            cut(f"Measured: {measured.source.kind} {measured.source.called!r}{options}:", _LONGEST)
        )
        lines += [cut(f"Incomplete: {part}.", _LONGEST) for part in measured.source.incomplete]
        frames = f"frames {frames_text(stats.frames)}, " if stats.frames else ""
        lines.append(
            f"{plural(measured.images, 'image')}, {plural(pixels, 'pixel')}, mode {stats.mode}, {frames}"
            f"{len(measured.skipped):,} skipped."
        )
        lines.append(f"Mean and std are pooled over all pixels, population{values}.")
        if measured.estimate:
            lines.append(
                f"They are an estimate ({measured.estimate}), not exact: any may be off by "
                f"{measured.estimate.margins.widest:g}."
            )
    else:
        lines.append(f"Constants that were written by hand, not measured{values}.")
    return lines


def _header(stats: Stats) -> list[str]:
    lines = _origin(stats, f", for {_values(stats)}")
    if stats.of_floats:
        lines.append(
            "The transforms take float tensors, (C, H, W), and leave their unit alone: no ToTensor."
        )
    if stats.mode == "L":
        lines.append("They hold for one gray channel, which the transforms make.")
    if stats.mode in ("RGBA", "I;16"):
        lines.append(
            f"For images in PIL mode {stats.mode}: ImageFolder's default loader makes RGB of them; give it "
            + ("loader=PIL.Image.open." if stats.mode == "I;16" else "one that converts to RGBA.")
        )
    return lines


def _unit(stats: Stats) -> str:
    return "the unit of the data" if stats.of_floats else "[0, 1]"


def _values(stats: Stats) -> str:
    return "float values as they are" if stats.of_floats else "values in [0, 1]"


def _command(
    path: str, module_path: str, eps: float | None, options: str, *, into: bool = False
) -> list[str]:
    options += f" --eps {eps!r}" if eps is not None else ""
    where, force = ("--into", "") if into else ("-o", " --force")
    command = f"imgnorm emit {_shell_word(path)} {where} {_shell_word(module_path)}{options}{force}"
    return ["Regenerate it in this folder:", f"  {command}"]


def _shell_word(path: str) -> str:
    path = f"./{path}" if path.startswith("-") else path
    if path.isprintable():
        return shlex.quote(path)
    return "$'" + "".join(_shell_character(character) for character in path) + "'"


def _shell_character(character: str) -> str:
    """As bash, zsh and POSIX.1-2024 read it in $'...'."""
    if character.isprintable() and character not in "'\\":
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def _constant(name: str, values: tuple[float, ...]) -> list[str]:
    numbers = [repr(float(value)) for value in values]
    line = f"{name} = ({', '.join(numbers)}{',' if len(numbers) == 1 else ''})"
    if len(line) <= _WIDTH:
        return [line]
    return [f"{name} = (", *(f"    {number}," for number in numbers), ")"]


def _compose(name: str, steps: list[Call], api: Api) -> list[str]:
    lines = [line for step in steps for line in _call(step, api)]
    return [f"{name} = {_module(api)}.Compose(", "    [", *lines, "    ]", ")"]


def _call(step: Call, api: Api) -> list[str]:
    """The lines of an item of a list, broken as ruff breaks them."""
    opening = f"        {_module(api)}.{step.name}("
    arguments = [f"{key}={_argument(value, api)}" for key, value in step.arguments.items()]
    joined = ", ".join(arguments)
    if len(f"{opening}{joined}),") <= _WIDTH:
        return [f"{opening}{joined}),"]
    if len(joined) + 12 <= _WIDTH:
        return [opening, f"            {joined}", "        ),"]
    return [opening, *(f"            {argument}," for argument in arguments), "        ),"]


def _argument(value: object, api: Api) -> str:
    if isinstance(value, Member):
        return f"{_module(api)}.{value.enum}.{value.value.upper().replace('-', '_')}"
    if isinstance(value, str) and not isinstance(value, Name):
        return f'"{value}"'  # one of torchvision's choices, so there is nothing to escape
    return str(value)


def _module(api: Api) -> str:
    return "transforms" if api == "v1" else "v2"
