"""Problems with the order of a pipeline's transforms, where each transform alone is correct."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from imgnorm.documents.document import Document
from imgnorm.errors import Problem, Rule
from imgnorm.pipeline.augmentations import NORMALIZE, TENSOR_STEPS, Api, transforms_of
from imgnorm.pipeline.structure import api_of
from imgnorm.settings import STEPS

# What an image may be between two steps, in the order in which the tensor steps change it.
_FORMS = {"pil": "PIL images", "uint8": "uint8 tensors", "float": "float tensors"}
# Of a tensor step: the form that it takes, and the form that it makes.
_TRANSITIONS = {
    "ToTensor": ("pil", "float"),
    "ToImage": ("pil", "uint8"),
    "ToDtype": ("uint8", "float"),
}

# Transforms that change neither height nor width.
_KEEPS_SIZE = {
    *("AugMix", "AutoAugment", "ColorJitter", "ElasticTransform", "GaussianBlur", "GaussianNoise"),
    *("Grayscale", "Identity", "JPEG", "Normalize", "RGB", "RandAugment", "RandomAdjustSharpness"),
    *("RandomAutocontrast", "RandomChannelPermutation", "RandomEqualize", "RandomErasing"),
    *("RandomGrayscale", "RandomHorizontalFlip", "RandomInvert", "RandomPerspective"),
    *("RandomPhotometricDistort", "RandomPosterize", "RandomSolarize", "RandomVerticalFlip"),
    *("ToDtype", "ToImage", "ToTensor", "TrivialAugmentWide"),
}

_Fault = tuple[str, str, str]  # the id of a rule, message, hint


_NEEDS_V2 = Rule(
    "needs-v2",
    "16-bit images with api v2",
    "torchvision's ToTensor does not scale mode I;16, and wraps its values at 32768. v2's ToDtype "
    "scales them.",
    "image: {mode: I;16}\napi: v1",
    "image: {mode: I;16}\napi: v2",
)


def order_problems(document: Document) -> Iterator[Problem]:
    """Checks each list whose transforms are all known, whatever else is wrong with the document."""
    value = document.value
    if not isinstance(value, dict):
        return
    api, image = api_of(value), value.get("image")
    if api == "v1" and isinstance(image, dict) and image.get("mode") == "I;16":
        yield document.problem(
            ("image", "mode"),
            _NEEDS_V2.id,
            "16-bit images have no v1 transform: ToTensor does not scale mode I;16",
            "write `api: v2`",
        )
    preprocess = _sound_steps(value.get("preprocess"), STEPS)
    known = (*transforms_of(api), *TENSOR_STEPS[api], NORMALIZE)
    augment = _sound_steps(value.get("augment"), known)
    if augment is not None:
        yield from _form_problems(document, augment, api)
        yield from _crop_problems(document, preprocess, augment)


def _sound_steps(entries: Any, known: Collection[str]) -> list[dict[str, Any]] | None:
    """A list's entries if each is one known transform with arguments, else None."""
    if entries is None:
        return []
    sound = isinstance(entries, list) and all(
        isinstance(entry, dict)
        and len(entry) == 1
        and all(name in known and isinstance(a, dict) for name, a in entry.items())
        for entry in entries
    )
    return entries if sound else None


_NORMALIZED_TWICE = Rule(
    "normalized-twice",
    "Normalize once",
    "Normalizing twice gives values that no network was trained with. Some models, torchvision's detection "
    "models among them, normalize their images themselves: lint warns of another Normalize before them.",
    "augment:\n  - ToTensor: {}\n  - Normalize: {}\n  - Normalize: {}",
    "augment:\n  - ToTensor: {}\n  - Normalize: {}",
)


def _form_problems(
    document: Document, augment: list[dict[str, Any]], api: Api
) -> Iterator[Problem]:
    """Follows the form that an image has before each step."""
    names = [next(iter(entry)) for entry in augment]
    form = "pil"
    for index, name in enumerate(names):
        before, after = names[:index], names[index + 1 :]
        fault = None
        if name in TENSOR_STEPS[api]:
            fault = _tensor_step_fault(name, form, before, after, api)
            form = max(form, _TRANSITIONS[name][1], key=_rank)
        elif name == NORMALIZE and name in before:
            fault = _NORMALIZED_TWICE.id, "Normalize is given twice", "keep one"
        elif form not in _takes(name, api):
            fault = _transform_fault(name, form, before, after, api)
        if fault:
            rule, message, hint = fault
            yield document.problem(("augment", index, name), rule, message, hint, of_key=True)


_BEFORE_TENSOR = Rule(
    "before-tensor",
    "transforms of tensors after the tensor step",
    "The transform does not work on PIL images (or on uint8 tensors), but stands before the step that "
    "makes what it needs.",
    "augment:\n  - RandomErasing: {}\n  - ToTensor: {}",
    "augment:\n  - ToTensor: {}\n  - RandomErasing: {}",
)

_TENSOR_STEP_TWICE = Rule(
    "tensor-step-twice",
    "each tensor step once",
    "The image is a tensor already.",
    "augment:\n  - ToTensor: {}\n  - ToTensor: {}",
    "augment:\n  - ToTensor: {}",
)


def _tensor_step_fault(
    name: str, form: str, before: list[str], after: list[str], api: Api
) -> _Fault | None:
    """What is wrong with a ToTensor, ToImage or ToDtype at this place."""
    takes, _ = _TRANSITIONS[name]
    if name in before:
        return _TENSOR_STEP_TWICE.id, f"{name} is given twice", "keep one"
    if form == "pil" and takes != "pil":
        maker = next(step for step in TENSOR_STEPS[api] if _TRANSITIONS[step][1] == takes)
        follows = any(step in TENSOR_STEPS[api] for step in after)
        hint = f"put it after {maker}" if follows else f"write `- {maker}: {{}}` before it"
        return _BEFORE_TENSOR.id, _mismatch(name, [takes], form), hint
    return None


_NO_TENSOR_STEP = Rule(
    "no-tensor-step",
    "a tensor step before transforms of tensors",
    "The pipeline itself appends ToTensor (v2: ToImage and ToDtype) and Normalize at the end. A transform "
    "that works on tensors only needs them before it, so write them out there.",
    "augment:\n  - RandomErasing: {}",
    "augment:\n  - ToTensor: {}\n  - Normalize: {}\n  - RandomErasing: {}",
)

_AFTER_TENSOR = Rule(
    "after-tensor",
    "transforms of images before the tensor step",
    "The transform does not work on float tensors (or on tensors at all), but stands after the step that "
    "makes them.",
    "augment:\n  - ToTensor: {}\n  - RandomPosterize: {bits: 4}",
    "augment:\n  - RandomPosterize: {bits: 4}\n  - ToTensor: {}",
)


def _transform_fault(name: str, form: str, before: list[str], after: list[str], api: Api) -> _Fault:
    """Where a transform belongs that does not take the form it gets."""
    takes = _takes(name, api)
    message = _mismatch(name, takes, form)
    tensor_steps = [step for step in before if step in TENSOR_STEPS[api]]
    too_early = next((s for s in tensor_steps if _TRANSITIONS[s][1] not in takes), None)
    if too_early and _rank(form) > min(map(_rank, takes)):
        return _AFTER_TENSOR.id, message, f"put it before {too_early}"
    tensor_steps = [step for step in after if step in TENSOR_STEPS[api]]
    maker = next((s for s in tensor_steps if _TRANSITIONS[s][1] in takes), None)
    if maker:
        return _BEFORE_TENSOR.id, message, f"put it after {maker}"
    steps = ", ".join(f"`- {step}: {{}}`" for step in _steps_to(takes, form, api))
    return _NO_TENSOR_STEP.id, message, f"write {steps} before it"


def _mismatch(name: str, takes: Collection[str], form: str) -> str:
    wanted = " or ".join(_FORMS[s] for s in _FORMS if s in takes)
    return f"{name} takes {wanted}, but gets {_FORMS[form]} here"


def _takes(name: str, api: Api) -> frozenset[str]:
    return frozenset({"float"}) if name == NORMALIZE else transforms_of(api)[name].takes


def _steps_to(takes: Collection[str], form: str, api: Api) -> Iterator[str]:
    """The tensor steps that turn a form into one that is taken."""
    for step in TENSOR_STEPS[api]:
        before, after = _TRANSITIONS[step]
        if form == before and form not in takes:
            yield step
            form = after


def _rank(form: str) -> int:
    return list(_FORMS).index(form)


_CROP_LARGER_THAN_IMAGE = Rule(
    "crop-larger-than-image",
    "crops no larger than the image",
    "After the step before, the image may be smaller than this crop. RandomCrop then fails (an error); "
    "CenterCrop fills the rest with black, which is measured, too (a warning).",
    "preprocess:\n  - Resize: {size: 224}\n  - CenterCrop: {size: 256}",
    "preprocess:\n  - Resize: {size: 256}\n  - CenterCrop: {size: 224}",
)


def _crop_problems(
    document: Document, preprocess: list[dict[str, Any]] | None, augment: list[dict[str, Any]]
) -> Iterator[Problem]:
    """Follows the least height and width that an image has after each step, as far as they are known."""
    least: tuple[int, int] | None = None
    last = ""  # the step that left this size
    steps = [("preprocess", i, e) for i, e in enumerate(preprocess or [])]
    steps += [("augment", i, e) for i, e in enumerate(augment)]
    for where, index, entry in steps:
        name, arguments = next(iter(entry.items()))
        size = _pair(arguments.get("size"))
        if name in ("CenterCrop", "RandomCrop") and size is not None:
            room = _padded(least, arguments) if name == "RandomCrop" else least
            pads = arguments.get("pad_if_needed") is True
            if room is not None and not pads and (size[0] > room[0] or size[1] > room[1]):
                fails = name == "RandomCrop"
                what = "fails" if fails else "fills the rest with black"
                assert least is not None
                yield document.problem(
                    (where, index, name, "size"),
                    _CROP_LARGER_THAN_IMAGE.id,
                    f"{size[0]}x{size[1]} from an image that may be only {least[0]}x{least[1]} after "
                    f"{last}: {name} {what}",
                    "use a smaller crop, or resize to a larger size",
                    severity="error" if fails else "warning",
                )
            least, last = size, name
        elif name in ("RandomResizedCrop", "Resize") and size and not arguments.get("max_size"):
            least, last = size, name
        elif name not in _KEEPS_SIZE:
            least = None


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
    # torchvision's order. 1: all sides; 2: left and right, top and bottom; 4: left, top, right, bottom.
    left, top, right, bottom = (padding * 4)[:4] if len(padding) in (1, 2, 4) else (0, 0, 0, 0)
    return least[0] + top + bottom, least[1] + left + right


RULES = tuple(page for page in globals().values() if isinstance(page, Rule))
