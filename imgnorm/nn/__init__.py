"""Normalization inside a model: as its first layer, in its weights, in its BatchNorm layers.

    input_norm.py    mean and std of a dataset as a layer: InputNorm, to_batchnorm
    image_norm.py    an image, or a vector, normalized by itself
    folding.py       a normalization moved into the weights of the layer next to it
    tracing.py       a model as torch.fx sees it: which layers run, and whose output goes where
    channelwise.py   what a BatchNorm layer does: a scale and a shift per channel, and then something else
    inspection.py    the BatchNorm layers of a model or checkpoint, and their faults
    calibration.py   BatchNorm's running statistics recomputed over a whole dataset
    population.py    BatchNorm layers that keep such statistics while a model trains
    activations.py   what the last two share: inputs of BatchNorm layers, pooled in float64
    ranks.py         calibration in several processes: what all of them find
    models.py        models and checkpoints by the names that users give on the command line
    batches.py       a source's images as batches of tensors, for calibration

To calibrate: `models` opens a model and `batches` a source; each batch runs through the model while
`activations.Watch` pools what reaches every BatchNorm layer; the pooled mean and variance become
running_mean and running_var; `models` writes the file again.

It may import torch, and the packages from the ground to measuring. All of its modules load torch, so the
names below load on first use.

A new public class or function: its own module if it is a new subject, its name in `_HOMES` and below
TYPE_CHECKING, an example in its docstring, and a line in docs/normalization.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from imgnorm._torch import torch_needed

if TYPE_CHECKING:
    from imgnorm.nn.calibration import Calibration as Calibration
    from imgnorm.nn.calibration import calibrate as calibrate
    from imgnorm.nn.folding import FoldedInput as FoldedInput
    from imgnorm.nn.folding import fold_batchnorm as fold_batchnorm
    from imgnorm.nn.folding import fold_input_norm as fold_input_norm
    from imgnorm.nn.folding import unfolded as unfolded
    from imgnorm.nn.image_norm import LpNormalize as LpNormalize
    from imgnorm.nn.image_norm import PerImageStandardize as PerImageStandardize
    from imgnorm.nn.input_norm import InputNorm as InputNorm
    from imgnorm.nn.input_norm import to_batchnorm as to_batchnorm
    from imgnorm.nn.inspection import inspect as inspect
    from imgnorm.nn.population import PopulationBatchNorm1d as PopulationBatchNorm1d
    from imgnorm.nn.population import PopulationBatchNorm2d as PopulationBatchNorm2d
    from imgnorm.nn.population import PopulationBatchNorm3d as PopulationBatchNorm3d
    from imgnorm.nn.population import convert as convert
    from imgnorm.nn.population import revert as revert

_HOMES = {
    "Calibration": "calibration",
    "FoldedInput": "folding",
    "InputNorm": "input_norm",
    "LpNormalize": "image_norm",
    "PerImageStandardize": "image_norm",
    "PopulationBatchNorm1d": "population",
    "PopulationBatchNorm2d": "population",
    "PopulationBatchNorm3d": "population",
    "calibrate": "calibration",
    "convert": "population",
    "fold_batchnorm": "folding",
    "fold_input_norm": "folding",
    "inspect": "inspection",
    "revert": "population",
    "to_batchnorm": "input_norm",
    "unfolded": "folding",
}

__all__ = [*_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Load a public name on first use, as `imgnorm` itself does."""
    if name not in _HOMES:
        raise AttributeError(f"module 'imgnorm.nn' has no attribute {name!r}")
    with torch_needed():
        module = import_module(f"imgnorm.nn.{_HOMES[name]}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOMES)
