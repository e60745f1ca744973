"""Which framework takes a mean and a std, and what it and its settings make of them.

A table, not code; the units and orders are in constants/frameworks.py. `facts_of` looks at what stands beside the numbers (keywords of a call, keys of a
mapping), at the class or function that takes them, and at the key above. A function of Python and a
`_target_` of Hydra are the same to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from imgnorm.constants.findings import Order
from imgnorm.constants.frameworks import FRAMEWORKS


@dataclass(frozen=True)
class Facts:
    """What a framework says about a mean and a std that it is given."""

    framework: str = ""
    pixels: bool = False
    unit: float | None = None
    order: Order | None = None
    order_key: str = ""  # what beside the numbers decides the order: `to_rgb`


@dataclass(frozen=True)
class _Form:
    """How a framework's numbers are recognized: all that is given must hold."""

    framework: str
    target: str = ""  # a pattern of the class or function, or of the key right above
    above: str = ""  # a pattern of the key right above
    beside: frozenset[str] = frozenset()  # one of these keys is in the same mapping or call
    root: frozenset[str] = frozenset()  # one of these keys is at the top of the file


_RGB: Order = "RGB"
_BGR: Order = "BGR"

# The first that fits counts.
_FORMS = (
    _Form("timm", above="pretrained_cfg|default_cfg"),
    _Form("open_clip", above="preprocess_cfg"),
    _Form("timm", beside=frozenset({"crop_pct"})),
    _Form(
        "Hugging Face",
        beside=frozenset({"do_rescale", "rescale_factor", "do_normalize", "image_processor_type"}),
    ),
    _Form("Hugging Face", beside=frozenset({"feature_extractor_type"})),
    _Form(
        "torchvision detection", target=r"torchvision\.models\.detection\..*",
        beside=frozenset({"image_mean"}),
    ),
    _Form("torchvision", target=r"torchvision\..*\b[Nn]ormalize(Video)?"),
    _Form("albumentations", target=r"(albumentations\..*)?\bNormalize", beside=frozenset({"max_pixel_value"})),
    _Form("albumentations", target=r"albumentations\..*\bNormalize"),
    _Form("kornia", target=r"kornia\..*\b[Nn]ormalize"),
    _Form("MONAI", target=r"(monai\..*)?\bNormalizeIntensityd?"),
    _Form("FFCV", target=r"ffcv\..*\bNormalizeImage"),
    _Form("DALI", target=r"(.*\.)?(crop_mirror_normalize|CropMirrorNormalize)"),
    _Form("fastai", target=r"(.*\.)?Normalize\.from_stats"),
    _Form("Keras", target=r"(keras|tensorflow)\..*\bNormalization|Normalization"),
    _Form("ultralytics", target=r"(ultralytics\..*)?\bclassify_(transforms|augmentations)"),
    _Form("mmengine", beside=frozenset({"to_rgb", "bgr_to_rgb", "rgb_to_bgr", "to_bgr"})),
    _Form("mmengine", above="data_preprocessor"),
    _Form("Paddle", target="NormalizeImage"),
    _Form("PaddleSeg", target="Normalize", root=frozenset({"train_dataset", "val_dataset"})),
    _Form("segmentation_models.pytorch", beside=frozenset({"input_space", "input_range"})),
    _Form("Detectron2", above="MODEL", beside=frozenset({"PIXEL_MEAN"})),
    _Form("SlowFast", above="DATA", beside=frozenset({"MEAN"})),
    _Form("OpenVINO", beside=frozenset({"mean_values"})),
    _Form("LeRobot", above=r"observation\.images?\b.*"),
    _Form("TFLite", target="NormalizationOptions|NormalizationOptionsT"),
    _Form("imgnorm", beside=frozenset({"imgnorm"})),
)  # fmt: skip

_UnitRule = Callable[[Any, "float | None"], "float | None"]
_UNITS: dict[str, dict[str, _UnitRule]] = {
    "Paddle": {
        "is_scale": lambda value, _: {True: 1.0, False: 255.0}.get(value),
        "scale": lambda value, unit: unit if _is_255th(value) else 255.0 if value == 1 else None,
    },
    "Hugging Face": {
        "rescale_factor": lambda value, unit: (
            unit if _is_255th(value) else 255.0 if value == 1 else None
        ),
        "do_rescale": lambda value, unit: 255.0 if value is False else unit,
    },
    "albumentations": {
        "max_pixel_value": lambda value, unit: unit if value in (255, 65535) else None,
        "normalization": lambda value, unit: unit if value == "standard" else None,
    },
    "segmentation_models.pytorch": {
        "input_range": lambda value, _: {"[0, 1]": 1.0, "[0, 255]": 255.0}.get(_range(value)),
    },
    "imgnorm": {
        "unit": lambda value, _: {"0..1": 1.0, "0..255": 255.0, "0..65535": 65535.0}.get(value),
    },
    "DALI": {"scale": lambda value, unit: unit if value == 1 else None},
}
"""What the keys beside the numbers make of a framework's unit."""
_ORDERS: dict[str, Callable[[Any], Order | None]] = {
    "to_rgb": lambda value: _RGB if value is True else None,
    "bgr_to_rgb": lambda value: _RGB if value is True else None,
    "to_bgr": lambda value: _BGR if value is True else None,
    "rgb_to_bgr": lambda value: _BGR if value is True else None,
    "input_space": lambda value: value if value in (_RGB, _BGR) else None,
    "FORMAT": lambda value: value if value in (_RGB, _BGR) else None,
    "do_flip_channel_order": lambda value: _RGB if value is False else None,
    "image_mode": lambda value: _RGB if value == "RGB" else None,
    "channel_order": lambda value: value if value in (_RGB, _BGR) else None,
}
"""What a key beside the numbers says of the order. None: nothing, not even what the framework fixes."""

_DETECTRON2 = {
    "GeneralizedRCNN", "ProposalNetwork", "RetinaNet", "FCOS", "PanopticFPN", "SemanticSegmentor",
}  # fmt: skip
"""Architectures of Detectron2's own, whose images are BGR unless INPUT.FORMAT says otherwise."""

TARGET_KEYS = (
    "_target_", "__class_fullname__", "class_path", "class_name", "type", "op_type", "name",
)  # fmt: skip
"""Keys that name the class of a mapping. The arguments stand beside it, or in one of ARGUMENT_KEYS."""
ARGUMENT_KEYS = {"init_args", "config", "params", "kwargs", "args", "transform"}

NORMALIZE_INSIDE = re.compile(
    r"torchvision\.models\.detection\.(?:\w+\.)?"
    r"(?:(?:faster|mask|keypoint)rcnn_\w+|(?:retinanet|ssd\w*|fcos)_\w+|\w*RCNN|RetinaNet|SSD|FCOS)"
)
"""Models whose GeneralizedRCNNTransform normalizes with ImageNet's numbers."""


def facts_of(
    given: Mapping[str, Any],
    *,
    target: str = "",
    above: str = "",
    root: Mapping[str, Any] | None = None,
) -> Facts:
    """What is known about numbers from what stands beside them.

    Args:
        given: the values of the keys or keywords beside them; `None` where a value is not known.
        target: the class or function that takes them, with its module if that is known.
        above: the key of the mapping that holds them.
        root: the keys at the top of the file.
    """
    form = next((form for form in _FORMS if _fits(form, given, target, above, root or {})), None)
    facts = Facts()
    if form:
        known = FRAMEWORKS[form.framework]
        facts = Facts(form.framework, True, known.unit, known.order)
        for key, unit in _UNITS.get(form.framework, {}).items():
            if key in given:
                facts = replace(facts, unit=unit(given[key], facts.unit))
        if given.get("do_rescale") is False and given.get("do_normalize") is not True:
            facts = replace(facts, unit=None)
    for key, order in _ORDERS.items():
        if key in given:
            facts = replace(facts, order=order(given[key]), order_key=key)
            if facts.order:
                break
    if facts.framework == "Detectron2" and root:
        facts = _detectron2(facts, given, root)
    return facts


def _fits(
    form: _Form, given: Mapping[str, Any], target: str, above: str, root: Mapping[str, Any]
) -> bool:
    return (
        (not form.target or any(re.fullmatch(form.target, name) for name in (target, above)))
        and (not form.above or bool(re.fullmatch(form.above, above)))
        and (not form.beside or not form.beside.isdisjoint(given))
        and (not form.root or not form.root.isdisjoint(root))
    )


def _detectron2(facts: Facts, given: Mapping[str, Any], root: Mapping[str, Any]) -> Facts:
    image = root.get("INPUT")
    order = image.get("FORMAT") if isinstance(image, Mapping) else None
    if order in (_RGB, _BGR):
        return replace(facts, order=order, order_key="INPUT.FORMAT")
    own = given.get("META_ARCHITECTURE") in _DETECTRON2 and "_BASE_" not in root
    return replace(facts, order=_BGR, order_key="META_ARCHITECTURE") if own else facts


def _is_255th(value: Any) -> bool:
    if isinstance(value, str):  # Paddle's "1.0/255.0"
        return bool(re.fullmatch(r"1\.?0?/255\.?0?", value.replace(" ", "")))
    return isinstance(value, float) and math.isclose(value, 1 / 255, rel_tol=1e-3)


def _range(value: Any) -> str:
    """`[0, 255]`, whether its numbers are whole or floats."""
    return str(value).replace(".0", "") if isinstance(value, (list, tuple)) else ""
