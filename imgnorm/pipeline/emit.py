"""Stats, or a pipeline config -> the source of a self-contained Python module."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgnorm.errors import TransformError
from imgnorm.pipeline.augmentations import Api
from imgnorm.pipeline.steps import Call, Member, Name, pipeline_steps, steps_of, usable_std
from imgnorm.stats.stats import Stats
from imgnorm.wording import cut, printable

if TYPE_CHECKING:
    from imgnorm.pipeline.pipeline import Pipeline

_LONGEST = 1000  # characters of a comment
_WIDTH = 88  # ruff's default


@dataclass(frozen=True)
class Emitted:
    """What `emit` makes; `str()` of it is its text.

    Example:
        >>> emitted = imgnorm.emit(imgnorm.Stats(("L",), (0.5,), (0.25,)))
        >>> [line for line in str(emitted).splitlines() if line.startswith(("MEAN", "STD"))]
        ['MEAN = (0.5,)', 'STD = (0.25,)']
    """

    text: str  # of the file

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return {**vars(self)}

    def __str__(self) -> str:
        return self.text


def emit(
    of: Stats | str | os.PathLike[str],
    *,
    api: Api | None = None,
    eps: float | None = None,
    output: str | os.PathLike[str] = "transforms.py",
) -> Emitted:
    """The transforms for stats, a stats file or a pipeline config, as a Python module.

    It has MEAN, STD, train_transform, eval_transform and inverse_transform, and imports torch and
    torchvision only. Nothing is written.

    Args:
        of: stats, or the path of a stats file or a config.
        api: "v1" (torchvision.transforms) or "v2" (torchvision.transforms.v2); None: what the config
            says, else v1.
        eps: the least std; needed if a channel is constant.
        output: the file that the text is for: its header has the command that makes it again.

    Raises:
        SourceError: the file cannot be read.
        InvalidDocument: the file has faults.
        TransformError: see `steps_of` and `usable_std`.
        ValueError: `api` is given for a config, which has its own.

    Example:
        >>> emitted = imgnorm.emit("configs/cifar10.yaml")
        >>> "RandomCrop(size=32, padding=4)" in emitted.text
        True
    """
    module = os.fspath(output)
    if isinstance(of, Stats):
        return Emitted(stats_module(of, api=api or "v1", eps=eps, module_path=module))
    from imgnorm.documents.document import STATS_LIMITS, read_bytes
    from imgnorm.documents.reader import declared_format
    from imgnorm.pipeline.config import read_normalized
    from imgnorm.stats.file import parse_stats

    path = os.fspath(of)
    data = read_bytes(path, STATS_LIMITS)
    try:
        if not declared_format(data).startswith("imgnorm-pipeline/"):
            stats = parse_stats(data, path)
            text = stats_module(
                stats, api=api or "v1", eps=eps, stats_path=path, module_path=module
            )
            return Emitted(text)
        if api is not None:
            raise ValueError(f"api: {path} says it; change it there, or leave api out")
        read = read_normalized(path)
        return Emitted(pipeline_module(*read, eps=eps, config_path=path, module_path=module))
    except TransformError as error:
        raise TransformError(f"{path}: {error}") from error


def stats_module(
    stats: Stats,
    *,
    api: Api = "v1",
    eps: float | None = None,
    stats_path: str = "stats.yaml",
    module_path: str = "transforms.py",
) -> str:
    """The source of a module with MEAN, STD, train_transform, eval_transform and inverse_transform.

    It is formatted as ruff does by default. No text of a stats file ever becomes code.

    Args:
        eps: the least std; needed if a channel is constant.
        stats_path: the stats file, for the header.
        module_path: the module's own file, for the header.

    Raises:
        TransformError: see `steps_of` and `usable_std`.
    """
    steps = steps_of(stats, api)
    header = [*_header(stats), *_command(*_seen(stats_path, module_path), eps, f" --api {api}")]
    note = "# Put random augmentation in front of these steps."
    return _module_text(stats, header, [note], steps, steps, api, eps)


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


def _header(stats: Stats) -> list[str]:
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
        lines.append(
            f"{measured.images:,} images, {pixels:,} pixels, mode {stats.mode}, "
            f"{len(measured.skipped):,} skipped."
        )
        lines.append(f"Mean and std are pooled over all pixels, population, for {_values(stats)}.")
        if measured.estimate:
            lines.append(
                f"They are an estimate ({measured.estimate}), not exact: any may be off by "
                f"{measured.estimate.margins.widest:g}."
            )
    else:
        lines.append(f"Constants that were written by hand, not measured, for {_values(stats)}.")
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


def _command(path: str, module_path: str, eps: float | None, options: str) -> list[str]:
    options += f" --eps {eps!r}" if eps is not None else ""
    command = f"imgnorm emit {_shell_word(path)} -o {_shell_word(module_path)}{options} --force"
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
