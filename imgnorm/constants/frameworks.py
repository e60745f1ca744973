"""What each framework does with a mean and a std: the unit and the channel order that it fixes.

Read in each framework's own source. lint judges numbers by it, `explain` says which framework's files
given numbers fit, and `emit --to` writes them so.
"""

from __future__ import annotations

from dataclasses import dataclass

from imgnorm.constants.findings import Order


@dataclass(frozen=True)
class Framework:
    """What a framework expects of a mean and a std in its files and calls."""

    unit: float | None  # the pixel value that is 1.0; None: the images' own
    order: Order | None = None  # None: the images' own
    usual_order: Order | None = None  # where a file says nothing else
    usual_unit: float | None = None  # that of the images that people give it


FRAMEWORKS = {
    "torchvision": Framework(1.0, "RGB"),
    "torchvision detection": Framework(1.0, "RGB"),
    "timm": Framework(1.0, "RGB"),
    "open_clip": Framework(1.0, "RGB"),
    "Hugging Face": Framework(1.0, "RGB"),
    "albumentations": Framework(1.0),
    "fastai": Framework(1.0, "RGB"),
    "ultralytics": Framework(1.0, "RGB"),
    "Paddle": Framework(1.0),
    "PaddleSeg": Framework(1.0, "RGB"),
    "SlowFast": Framework(1.0, usual_order="RGB"),
    "LeRobot": Framework(1.0, "RGB"),
    "mmengine": Framework(255.0),
    "Detectron2": Framework(255.0, usual_order="BGR"),
    "FFCV": Framework(255.0, "RGB"),
    "DALI": Framework(255.0),
    "OpenVINO": Framework(255.0),
    "TFLite": Framework(255.0),
    "Keras": Framework(None, usual_unit=255.0),
    "kornia": Framework(None, usual_unit=1.0),
    "ONNX": Framework(None, usual_unit=255.0),
    "imgnorm": Framework(None, usual_unit=1.0),
    "MONAI": Framework(None),
    "segmentation_models.pytorch": Framework(None),
}


def frameworks_for(unit: float, order: Order) -> list[str]:
    """The frameworks that take numbers in this unit and order, those that fix both first."""
    fitting = [
        (name, framework)
        for name, framework in FRAMEWORKS.items()
        if framework.unit == unit and order == (framework.order or framework.usual_order or order)
    ]
    return [name for name, _ in sorted(fitting, key=lambda one: one[1].order is None)]
