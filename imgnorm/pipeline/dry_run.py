"""A pipeline's train transform, built and run on a generated image (`validate --build`).

What torchvision refuses becomes a problem at its line of the config.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image

from imgnorm._torch import torchvision_module
from imgnorm.documents.document import Document, Path
from imgnorm.errors import Problem, TransformError
from imgnorm.pipeline.pipeline import Pipeline
from imgnorm.pipeline.steps import Call, pipeline_steps
from imgnorm.pipeline.transforms import built_step
from imgnorm.settings import CHANNELS, Mode, scale_of
from imgnorm.stats.stats import Stats
from imgnorm.wording import clause

_SIZE = (640, 480)
_RUNS = 8  # each with its own seed: many transforms act with probability 0.5


def dry_run_problems(document: Document, pipeline: Pipeline, stats: Stats) -> Iterator[Problem]:
    """What torchvision refuses to build, or to do with a generated image of 640x480.

    Raises:
        MissingDependency: torchvision cannot be imported.
    """
    module = torchvision_module("transforms" if pipeline.api == "v1" else "transforms.v2")
    names = {"MEAN": list(stats.mean), "STD": [max(std, 1e-3) for std in stats.std]}
    try:
        train, _ = pipeline_steps(pipeline, stats)
    except TransformError as error:
        yield document.problem(("api",), "build", str(error))
        return
    built: list[tuple[Path, Any]] = []
    refused = False
    for step, path in zip(train, _places(train, pipeline), strict=True):
        try:
            built.append((path, built_step(module, step, names)))
        except TransformError as error:
            refused = True
            message = str(error).removeprefix(f"{step.name}: ") if path else str(error)
            yield document.problem(path, "build", message, of_key=bool(path))
    if not refused:
        yield from _run_problems(document, built, stats.image_mode or "RGB")


def _places(train: list[Call], pipeline: Pipeline) -> list[Path]:
    """The place of each step of the train transform in the config; () for a step that imgnorm adds."""
    head = [("preprocess", i, type(s).__name__) for i, s in enumerate(pipeline.preprocess)]
    body = [("augment", i, a.name) for i, a in enumerate(pipeline.augment)]
    written = [*head, *body]
    added = len(train) - len(written)
    first = next(
        i
        for i in range(added + 1)
        if [step.name for step in train[i : i + len(written)]] == [name for _, _, name in written]
    )
    return [*[()] * first, *written, *[()] * (added - first)]


def _run_problems(
    document: Document, built: list[tuple[Path, Any]], mode: Mode
) -> Iterator[Problem]:
    with torch.random.fork_rng(devices=[]):
        for seed in range(_RUNS):
            torch.manual_seed(seed)
            image: Any = _generated(mode)
            for path, transform in built:
                try:
                    image = transform(image)
                except Exception as error:  # noqa: BLE001 - torchvision may raise anything
                    size = f"{_SIZE[0]}x{_SIZE[1]}"
                    message = f"fails on a generated {mode} image of {size}: {clause(error)}"
                    yield document.problem(path, "build", message, of_key=bool(path))
                    return


def _generated(mode: Mode) -> Image.Image:
    """Noise, so that every channel has more than one value."""
    high = scale_of(mode) + 1
    values = torch.randint(0, high, (_SIZE[1], _SIZE[0], len(CHANNELS[mode])))
    if mode == "I;16":
        return Image.frombytes("I;16", _SIZE, values.numpy().astype("<u2").tobytes())
    return Image.frombytes(mode, _SIZE, values.to(torch.uint8).numpy().tobytes())
