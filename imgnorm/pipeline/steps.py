"""The steps of a transform, as calls of torchvision by name.

emit.py writes them into a module, transforms.py makes the objects: so both do the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from imgnorm.errors import TransformError
from imgnorm.pipeline.augmentations import NORMALIZE, Api, transforms_of
from imgnorm.stats.stats import NO_IMAGES, Stats

if TYPE_CHECKING:
    from imgnorm.pipeline.pipeline import Augmentation, Pipeline

_GRAY_MODES = {"1", "L", "LA", "La"}


@dataclass(frozen=True)
class Call:
    """A torchvision transform by name. Its arguments are plain values, `Name` or `Member`."""

    name: str
    arguments: dict[str, Any]


class Name(str):
    """An argument that is a name in the emitted module: MEAN, STD, torch.float32."""


@dataclass(frozen=True)
class Member:
    """An argument that is a member of an enum of torchvision.transforms."""

    enum: str
    value: str


def default_api(stats: Stats) -> Api:
    """v1, which every torchvision has; v2 for 16-bit stats, which v1 cannot scale."""
    return "v1" if stats.of_floats or stats.scale == 255 else "v2"


def steps_of(stats: Stats, api: Api) -> list[Call]:
    """The steps from a loaded PIL image to a normalized tensor. The last is Normalize.

    For float stats it is the only one: they were measured on tensors, in a unit of their own.

    Raises:
        TransformError: v1 for 16-bit stats.
    """
    tensor_steps = _tensor_steps(stats, api)
    return [*_conversion(stats), *_preprocess_steps(stats), *tensor_steps]


def pipeline_steps(pipeline: Pipeline, stats: Stats) -> tuple[list[Call], list[Call]]:
    """The steps of a config's train transform, and those of its eval transform.

    Raises:
        TransformError: v1 for 16-bit stats.
    """
    tensor_steps = _tensor_steps(stats, pipeline.api)
    head = [Call("Grayscale", {})] if pipeline.mode == "L" else _conversion(stats)
    head += _preprocess_steps(replace(stats, preprocess=pipeline.preprocess))
    placed = {step.name: step for step in tensor_steps}
    augment = [
        placed.pop(a.name) if a.name in placed else _augmentation(a, pipeline.api)
        for a in pipeline.augment
    ]
    return [*head, *augment, *placed.values()], [*head, *tensor_steps]


def usable_std(stats: Stats, eps: float | None) -> tuple[float, ...]:
    """The std to divide by: max(std, eps).

    Raises:
        TransformError: eps is not in (0, 1], a channel is constant and eps is None, or there are no
            images.
    """
    if not stats.std:
        raise TransformError(NO_IMAGES)
    if eps is not None:
        if not 0 < eps <= 1:
            raise TransformError(f"eps is {eps!r}; it must be above 0 and at most 1")
        return tuple(max(std, eps) for std in stats.std)
    constant = [name for name, std in zip(stats.channels, stats.std, strict=True) if std == 0]
    if constant:
        are = "channels {} are" if len(constant) > 1 else "channel {} is"
        raise TransformError(
            f"{are.format(', '.join(constant))} constant (std 0): normalizing would divide by 0; look at "
            "the images, or allow it with an eps (such as --eps 1e-3)"
        )
    return stats.std


def _conversion(stats: Stats) -> list[Call]:
    """Grayscale, if the loader's image may not be in the mode that was measured.

    ImageFolder's loader makes RGB of gray images, so for mode L it is always there.
    """
    if stats.mode == "L":
        return [Call("Grayscale", {})]
    measured = stats.measurement
    if stats.mode == "RGB" and measured and set(measured.modes) <= _GRAY_MODES:
        return [Call("Grayscale", {"num_output_channels": 3})]
    return []


def _augmentation(augmentation: Augmentation, api: Api) -> Call:
    parameters = transforms_of(api)[augmentation.name].parameters
    arguments = {
        key: Member(enum, value) if (enum := parameters[key].enum) and value is not None else value
        for key, value in augmentation.arguments.items()
    }
    return Call(augmentation.name, arguments)


def _preprocess_steps(stats: Stats) -> list[Call]:
    return [Call(type(step).__name__, {"size": step.size}) for step in stats.preprocess]


def _tensor_steps(stats: Stats, api: Api) -> list[Call]:
    normalize = Call(NORMALIZE, {"mean": Name("MEAN"), "std": Name("STD")})
    if stats.of_floats:
        return [normalize]
    if api == "v1" and stats.scale != 255:
        raise TransformError(
            "16-bit stats have no v1 transform: ToTensor does not scale mode I;16, and wraps its values "
            "at 32768; use api v2 (--api v2)"
        )
    if api == "v1":
        return [Call("ToTensor", {}), normalize]
    to_dtype = Call("ToDtype", {"dtype": Name("torch.float32"), "scale": True})
    return [Call("ToImage", {}), to_dtype, normalize]
