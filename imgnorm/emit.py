"""Stats -> the source of a self-contained Python module, and the steps that such a transform takes."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import Literal

from imgnorm.errors import TransformError
from imgnorm.stats import Stats

Api = Literal["v1", "v2"]
_WIDTH = 88  # ruff's default
_GRAY_MODES = {"1", "L", "LA", "La"}


@dataclass(frozen=True)
class Call:
    """A torchvision transform by name, with plain arguments; a str argument is a Python expression."""

    name: str
    arguments: dict[str, int | bool | str | tuple[int, int]]


def steps_of(stats: Stats, api: Api) -> list[Call]:
    """What turns a loaded PIL image into a normalized tensor; the last step is Normalize.

    Raises:
        TransformError: v1 for 16-bit stats.
    """
    if api == "v1" and stats.scale != 255:
        raise TransformError(
            "16-bit stats have no v1 transform: ToTensor does not scale mode I;16, and wraps its values "
            "at 32768; use api v2 (--api v2)"
        )
    steps = [*_conversion(stats)]
    steps += [Call(type(step).__name__, {"size": step.size}) for step in stats.preprocess]
    if api == "v1":
        steps.append(Call("ToTensor", {}))
    else:
        steps.append(Call("ToImage", {}))
        steps.append(Call("ToDtype", {"dtype": "torch.float32", "scale": True}))
    steps.append(Call("Normalize", {"mean": "MEAN", "std": "STD"}))
    return steps


def usable_std(stats: Stats, eps: float | None) -> tuple[float, ...]:
    """The std to divide by: max(std, eps).

    Raises:
        TransformError: a channel is constant and there is no eps.
    """
    if eps is not None:
        if not 0 < eps <= 1:
            raise TransformError(f"eps is {eps!r}; it must be above 0 and at most 1")
        return tuple(max(std, eps) for std in stats.std)
    constant = [name for name, std in zip(stats.channels, stats.std, strict=True) if std == 0]
    if constant:
        raise TransformError(
            f"channel {', '.join(constant)} is constant (std 0): normalizing would divide by 0; look at "
            "the images, or allow it with an eps (--eps 1e-3, say)"
        )
    return stats.std


def emit(
    stats: Stats,
    *,
    api: Api = "v1",
    eps: float | None = None,
    stats_path: str = "stats.yaml",
    module_path: str = "transforms.py",
) -> str:
    """The source of a module with MEAN, STD, train_transform, eval_transform and inverse_transform.

    Formatted as ruff does by default. Whatever a stats file holds, no text of it becomes code.

    Args:
        eps: the least std; needed where a channel is constant.
        stats_path: the stats file as seen from the module's folder, for its header.
        module_path: the module's own file name, for its header.

    Raises:
        TransformError: see `steps_of` and `usable_std`.
    """
    steps = steps_of(stats, api)
    std = usable_std(stats, eps)
    return "\n".join(
        [
            '"""Normalization of one dataset. Written by imgnorm; do not edit."""',
            "",
            *_header(stats, api, eps, stats_path, module_path),
            "",
            *(["import torch"] if api == "v2" else []),
            "from torchvision import transforms"
            if api == "v1"
            else "from torchvision.transforms import v2",
            "",
            *_constant("MEAN", stats.mean),
            *_constant("STD", std),
            "",
            "# Put random augmentation in front of these steps.",
            *_compose("train_transform", steps, api),
            "",
            *_compose("eval_transform", steps, api),
            "",
            "# From normalized tensors back to [0, 1].",
            f"inverse_transform = {_module(api)}.Normalize(",
            "    mean=[-mean / std for mean, std in zip(MEAN, STD, strict=True)],",
            "    std=[1 / std for std in STD],",
            ")",
            "",
        ]
    )


def emit_for(
    stats: Stats, *, stats_path: str, module_path: str | None, api: Api, eps: float | None
) -> str:
    """`emit` with a header that tells, in the module's own folder, where the stats file is."""
    folder, module = os.path.split(os.path.abspath(module_path or "transforms.py"))
    # A shell takes `..` of a linked folder for the parent of the folder it links to.
    stats_folder, stats_name = os.path.split(os.path.abspath(stats_path))
    stats_path = os.path.join(os.path.realpath(stats_folder), stats_name)
    try:
        seen_from_there = os.path.relpath(stats_path, os.path.realpath(folder))
    except ValueError:  # another drive
        seen_from_there = stats_path
    seen_from_there = seen_from_there.replace(os.sep, "/")
    return emit(stats, api=api, eps=eps, stats_path=seen_from_there, module_path=module)


def _conversion(stats: Stats) -> list[Call]:
    """Grayscale, where the loader's image is not in the mode that was measured."""
    if not stats.measurement:
        return []
    all_gray = set(stats.measurement.modes) <= _GRAY_MODES
    if stats.mode == "L" and not all_gray:
        return [Call("Grayscale", {})]
    if stats.mode == "RGB" and all_gray:
        return [Call("Grayscale", {"num_output_channels": 3})]
    return []


def _header(
    stats: Stats, api: Api, eps: float | None, stats_path: str, module_path: str
) -> list[str]:
    lines = []
    measured = stats.measurement
    if measured:
        options = "".join(f", {key} {value}" for key, value in measured.source.options.items())
        pixels = measured.histogram.moments().count
        lines.append(_cut(f"Measured: {measured.source.kind} {measured.source.called!r}{options}:"))
        lines += [_cut(f"Incomplete: {part}.") for part in measured.source.incomplete]
        lines.append(
            f"{measured.images:,} images, {pixels:,} pixels, mode {stats.mode}, "
            f"{len(measured.skipped):,} skipped."
        )
        lines.append("Mean and std are pooled over all pixels, population, for values in [0, 1].")
    else:
        lines.append("Constants that were written by hand, not measured, for values in [0, 1].")
    if stats.mode == "L":
        lines.append("They hold for one gray channel, and for three that are equal.")
    if stats.mode in ("RGBA", "I;16"):
        lines.append(
            f"For images in PIL mode {stats.mode}: ImageFolder's default loader makes RGB of them; give it "
            + ("loader=PIL.Image.open." if stats.mode == "I;16" else "one that converts to RGBA.")
        )
    options = f" --eps {eps!r}" if eps is not None else ""
    lines.append("Regenerate it in this folder:")
    lines.append(
        f"  imgnorm emit {_shell_word(stats_path)} -o {_shell_word(module_path)} --api {api}{options} --force"
    )
    return [f"# {_one_line(line)}" for line in lines]


def _cut(text: str) -> str:
    return text if len(text) <= 1000 else text[:997] + "..."


def _one_line(text: str) -> str:
    """Printable characters only: none of a name can end the comment."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def _shell_word(path: str) -> str:
    path = f"./{path}" if path.startswith("-") else path
    if path.isprintable():
        return shlex.quote(path)
    return "$'" + "".join(_shell_character(character) for character in path) + "'"


def _shell_character(character: str) -> str:
    """As bash, zsh and POSIX 2024 read it in $'...'."""
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
    module = _module(api)
    calls = [
        f"{module}.{step.name}({', '.join(f'{key}={value}' for key, value in step.arguments.items())})"
        for step in steps
    ]
    return [
        f"{name} = {module}.Compose(",
        "    [",
        *(f"        {call}," for call in calls),
        "    ]",
        ")",
    ]


def _module(api: Api) -> str:
    return "transforms" if api == "v1" else "v2"
