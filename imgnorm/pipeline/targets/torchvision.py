"""torchvision: the source of a Python module with the transforms, for stats or for a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgnorm.pipeline.augmentations import Api
from imgnorm.pipeline.header import command_lines, origin_lines, seen_from
from imgnorm.pipeline.steps import (
    Call,
    Member,
    Name,
    default_api,
    pipeline_steps,
    steps_of,
    usable_std,
)
from imgnorm.stats.stats import Stats
from imgnorm.wording import printable

if TYPE_CHECKING:
    from imgnorm.pipeline.pipeline import Pipeline

_WIDTH = 88  # ruff's default


def stats_module(
    stats: Stats,
    *,
    api: Api | None = None,
    eps: float | None = None,
    stats_path: str | None = "stats.yaml",
    module_path: str = "transforms.py",
) -> str:
    """The source of a module with MEAN, STD, train_transform, eval_transform and inverse_transform.

    It is formatted as ruff does by default. No text of a stats file ever becomes code.

    Args:
        api: None: `default_api`.
        eps: the least std; needed if a channel is constant.
        stats_path: the stats file, for the header; None: the header has no command.
        module_path: the module's own file, for the header.

    Raises:
        TransformError: see `steps_of` and `usable_std`.
    """
    api = api or default_api(stats)
    steps = steps_of(stats, api)
    header = _header(stats)
    if stats_path is not None:
        header += command_lines(*seen_from(stats_path, module_path), eps, f" --api {api}")
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
    seen, module = seen_from(config_path, module_path)
    header = [f"Pipeline: {seen!r}.", *_header(stats), *command_lines(seen, module, eps, "")]
    return _module_text(stats, header, [], train, evaluation, pipeline.api, eps)


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
    lines = origin_lines(stats, f", for {_values(stats)}")
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
