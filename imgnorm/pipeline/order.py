"""What is wrong with the order of a pipeline's transforms, each of which is fine by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from imgnorm.documents.document import Document, Path
from imgnorm.errors import Problem, Rule
from imgnorm.pipeline.augmentations import NORMALIZE, TENSOR_STEPS, Api, transforms_of
from imgnorm.pipeline.structure import api_of
from imgnorm.settings import STEPS

_STATES = {"pil": "PIL images", "uint8": "uint8 tensors", "float": "float tensors"}


def order_problems(document: Document) -> Iterator[Problem]:
    """For lists whose transforms are all known; whatever else is wrong with the document."""
    value = document.value
    if not isinstance(value, dict):
        return
    api, image = api_of(value), value.get("image")
    if api == "v1" and isinstance(image, dict) and image.get("mode") == "I;16":
        yield document.problem(
            ("image", "mode"),
            "needs-v2",
            "16-bit images have no v1 transform: ToTensor does not scale mode I;16",
            "write `api: v2`",
        )
    preprocess = _sound_steps(value.get("preprocess"), STEPS)
    known = (*transforms_of(api), *TENSOR_STEPS[api], NORMALIZE)
    augment = _sound_steps(value.get("augment"), known)
    if augment is not None:
        yield from _stage_problems(document, augment, api)
        yield from _crop_problems(document, preprocess, augment)


def _sound_steps(entries: Any, known: Collection[str]) -> list[dict[str, Any]] | None:
    """A list's entries, if each is one known transform with arguments; None if not."""
    if entries is None:
        return []
    sound = isinstance(entries, list) and all(
        isinstance(entry, dict)
        and len(entry) == 1
        and all(name in known and isinstance(a, dict) for name, a in entry.items())
        for entry in entries
    )
    return entries if sound else None


def _stage_problems(
    document: Document, augment: list[dict[str, Any]], api: Api
) -> Iterator[Problem]:
    names = [next(iter(entry)) for entry in augment]
    tensor_steps = TENSOR_STEPS[api]
    state, normalized = "pil", False
    for index, name in enumerate(names):
        path: Path = ("augment", index, name)

        def found(rule: str, message: str, hint: str, path: Path = path) -> Problem:
            return document.problem(path, rule, message, hint, of_key=True)

        later = [step for step in names[index:] if step in tensor_steps]
        if name in tensor_steps:
            before, after = _transition(name)
            if name in names[:index]:
                yield found("tensor-step-twice", f"{name} is here again", "keep one")
            elif state == "pil" != before:
                message = f"{name} takes {_STATES[before]}, and has {_STATES[state]} here"
                makes = next(s for s in tensor_steps if _transition(s)[1] == before)
                hint = (
                    f"put it after {makes}" if later[1:] else f"write `- {makes}: {{}}` before it"
                )
                yield found("before-tensor", message, hint)
            if _rank(after) > _rank(state):
                state = after
        elif name == NORMALIZE and normalized:
            yield found("normalize-twice", "Normalize is here again", "keep one")
        elif state not in (takes := _takes(name, api)):
            wants = " or ".join(_STATES[s] for s in _STATES if s in takes)
            message = f"{name} takes {wants}, and has {_STATES[state]} here"
            leaves = [step for step in names[:index] if step in tensor_steps]
            left = next((step for step in leaves if _transition(step)[1] not in takes), None)
            comes = next((step for step in later if _transition(step)[1] in takes), None)
            if left and state not in takes and _rank(state) > min(map(_rank, takes)):
                yield found("after-tensor", message, f"put it before {left}")
            elif comes:
                yield found("before-tensor", message, f"put it after {comes}")
            else:
                steps = ", ".join(f"`- {step}: {{}}`" for step in _steps_to(takes, state, api))
                yield found("no-tensor-step", message, f"write {steps} before it")
        normalized = normalized or name == NORMALIZE


def _takes(name: str, api: Api) -> frozenset[str]:
    return frozenset({"float"}) if name == NORMALIZE else transforms_of(api)[name].takes


def _transition(step: str) -> tuple[str, str]:
    return {
        "ToTensor": ("pil", "float"),
        "ToImage": ("pil", "uint8"),
        "ToDtype": ("uint8", "float"),
    }[step]


def _steps_to(takes: Collection[str], state: str, api: Api) -> Iterator[str]:
    """The tensor steps that are missing between a state and one that is taken."""
    for step in TENSOR_STEPS[api]:
        before, after = _transition(step)
        if state == before and state not in takes:
            yield step
            state = after


def _rank(state: str) -> int:
    return list(_STATES).index(state)


def _crop_problems(
    document: Document, preprocess: list[dict[str, Any]] | None, augment: list[dict[str, Any]]
) -> Iterator[Problem]:
    """Follows the least height and width that an image has after each step, where that is known."""
    least: tuple[int, int] | None = None
    by = ""
    steps = [("preprocess", i, e) for i, e in enumerate(preprocess or [])]
    steps += [("augment", i, e) for i, e in enumerate(augment)]
    for where, index, entry in steps:
        name, arguments = next(iter(entry.items()))
        size = _pair(arguments.get("size"))
        if name in ("CenterCrop", "RandomCrop") and size is not None:
            room = _padded(least, arguments) if name == "RandomCrop" else least
            pads = arguments.get("pad_if_needed") is True
            if room is not None and not pads and (size[0] > room[0] or size[1] > room[1]):
                what = "fails" if name == "RandomCrop" else "fills what is missing with black"
                assert least is not None
                problem = document.problem(
                    (where, index, name, "size"),
                    "crop-larger-than-image",
                    f"{size[0]}x{size[1]} from an image that {by} may leave at "
                    f"{least[0]}x{least[1]}: {name} {what}",
                    "crop no more than there is, or resize to more",
                )
                yield problem if name == "RandomCrop" else replace(problem, severity="warning")
            least, by = size, name
        elif name in ("RandomResizedCrop", "Resize") and size and not arguments.get("max_size"):
            least, by = size, name
        elif name not in _KEEPS_SIZE:
            least = None


_KEEPS_SIZE = {
    *("AugMix", "AutoAugment", "ColorJitter", "ElasticTransform", "GaussianBlur", "GaussianNoise"),
    *("Grayscale", "Identity", "JPEG", "Normalize", "RGB", "RandAugment", "RandomAdjustSharpness"),
    *("RandomAutocontrast", "RandomChannelPermutation", "RandomEqualize", "RandomErasing"),
    *("RandomGrayscale", "RandomHorizontalFlip", "RandomInvert", "RandomPerspective"),
    *("RandomPhotometricDistort", "RandomPosterize", "RandomSolarize", "RandomVerticalFlip"),
    *("ToDtype", "ToImage", "ToTensor", "TrivialAugmentWide"),
}


def _pair(size: Any) -> tuple[int, int] | None:
    edges = size if isinstance(size, list) else [size]
    if len(edges) not in (1, 2) or not all(type(edge) is int for edge in edges):
        return None
    return edges[0], edges[-1]


def _padded(least: tuple[int, int] | None, arguments: Mapping[str, Any]) -> tuple[int, int] | None:
    if least is None:
        return None
    padding = arguments.get("padding") or 0
    padding = padding if isinstance(padding, list) else [padding]
    if not all(type(edge) is int for edge in padding):
        return None
    # torchvision's order: one for all sides; left and right, top and bottom; left, top, right, bottom
    left, top, right, bottom = (padding * 4)[:4] if len(padding) in (1, 2, 4) else (0, 0, 0, 0)
    return least[0] + top + bottom, least[1] + left + right


RULES = (
    Rule(
        "needs-v2",
        "error",
        "16-bit images with api v2",
        "torchvision's ToTensor does not scale mode I;16, and wraps its values at 32768. v2's ToDtype "
        "scales them.",
        "image: {mode: I;16}\napi: v1",
        "image: {mode: I;16}\napi: v2",
    ),
    Rule(
        "no-tensor-step",
        "error",
        "a tensor for what works on tensors",
        "The pipeline itself appends ToTensor (v2: ToImage and ToDtype) and Normalize to the end. What "
        "works on tensors only needs them before it, so they are written out there.",
        "augment:\n  - RandomErasing: {}",
        "augment:\n  - ToTensor: {}\n  - Normalize: {}\n  - RandomErasing: {}",
    ),
    Rule(
        "before-tensor",
        "error",
        "what works on tensors behind the tensor step",
        "The transform does not work on PIL images (or on uint8 tensors), and stands before the step that "
        "makes what it needs.",
        "augment:\n  - RandomErasing: {}\n  - ToTensor: {}",
        "augment:\n  - ToTensor: {}\n  - RandomErasing: {}",
    ),
    Rule(
        "after-tensor",
        "error",
        "what works on images before the tensor step",
        "The transform does not work on float tensors (or on tensors at all), and stands behind the step "
        "that makes one.",
        "augment:\n  - ToTensor: {}\n  - RandomPosterize: {bits: 4}",
        "augment:\n  - RandomPosterize: {bits: 4}\n  - ToTensor: {}",
    ),
    Rule(
        "tensor-step-twice",
        "error",
        "each tensor step once",
        "The image is a tensor already.",
        "augment:\n  - ToTensor: {}\n  - ToTensor: {}",
        "augment:\n  - ToTensor: {}",
    ),
    Rule(
        "normalize-twice",
        "error",
        "Normalize once",
        "Normalizing what is normalized gives values that no network has been trained for.",
        "augment:\n  - ToTensor: {}\n  - Normalize: {}\n  - Normalize: {}",
        "augment:\n  - ToTensor: {}\n  - Normalize: {}",
    ),
    Rule(
        "crop-larger-than-image",
        "error",
        "crops no larger than the image",
        "The step before leaves less than this crop takes. RandomCrop then fails (an error); CenterCrop "
        "fills the rest with black, which is measured, too (a warning).",
        "preprocess:\n  - Resize: {size: 224}\n  - CenterCrop: {size: 256}",
        "preprocess:\n  - Resize: {size: 256}\n  - CenterCrop: {size: 224}",
    ),
)
