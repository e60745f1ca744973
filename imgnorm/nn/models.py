"""Models and checkpoints by the names that users give: torchvision's, their own factory, or a file."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imgnorm._torch import torchvision_module
from imgnorm.datasets.user_code import UserCode
from imgnorm.errors import ModelError
from imgnorm.settings import TORCHVISION
from imgnorm.wording import describe, headline

RAISED_BY_USER_CODE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What a model, its factory or a transform may raise when it gets something unexpected."""

_WRAPPED_IN = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")
"""The prefixes that DistributedDataParallel and torch.compile give to a checkpoint's keys."""
_RAISED_BY_LOADING = (*RAISED_BY_USER_CODE, pickle.UnpicklingError, zipfile.BadZipFile)


@dataclass(frozen=True)
class OpenedModel:
    """A model, and how its file is written again."""

    module: nn.Module
    saved: Callable[[], bytes]  # the content of its file, with the buffers that it has now


@dataclass(frozen=True)
class Checkpoint:
    """A file of tensors."""

    path: str
    content: Any  # as it was loaded: the state_dict, or a mapping that has it under a key
    state: dict[str, Tensor]  # the tensors of the state_dict


def open_model(
    spec: str, *, weights: str | None = None, num_classes: int | None = None
) -> OpenedModel:
    """The model that a user names, with its weights.

    Args:
        spec: "torchvision:NAME"; "package.module:factory", which is imported (from the current folder
            first) and called without arguments; or a TorchScript or torch.export file.
        weights: a checkpoint; refused for a file, which holds its own weights.
        num_classes: for torchvision's models.

    Raises:
        ModelError: it cannot be found, opened or called, or the checkpoint belongs to another model.
    """
    kind = file_kind(spec) if os.path.isfile(spec) else None
    if kind == "checkpoint":
        raise ModelError(
            f"{spec}: is a checkpoint, not a model; name the model that it belongs to, and give it with --weights"
        )
    if kind is not None:
        if weights is not None:
            raise ModelError(f"{spec}: holds its own weights; leave --weights out")
        if num_classes is not None:
            raise ModelError(f"{spec}: has its own classes; leave --num-classes out")
        return _script(spec) if kind == "torchscript" else _exported(spec)
    model = _made(spec, num_classes)
    if weights is None:
        return OpenedModel(model, lambda: _bytes_of(model.state_dict()))
    checkpoint = read_checkpoint(weights)
    _load(model, checkpoint, spec)
    return OpenedModel(model, lambda: _updated(checkpoint, model))


def unwrapped(model: nn.Module) -> nn.Module:
    """The model without wrappers of torch.compile, DataParallel and DistributedDataParallel.

    A compiled model would run its compiled code, which cannot be watched; a parallel one would run on
    copies of its layers, or wait for other processes.

    Raises:
        TypeError: it is not a module.
    """
    while True:
        if not isinstance(model, nn.Module):
            module = ", its module()" if hasattr(model, "module") else ""
            raise TypeError(f"model is a {type(model).__name__}; give a torch.nn.Module{module}")
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def placed(model: nn.Module, device: str) -> None:
    """Move a model to a device; "auto" is CUDA if it is available, else the CPU.

    Raises:
        ModelError: the device cannot be used. It is never replaced by another one.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        model.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"--device {device}: cannot be used ({headline(error)}); name another one"
        ) from error


def file_kind(path: str) -> str:
    """The kind of a file, by the names in its archive: "torchscript", "exported" or "checkpoint"."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        # torch's old format is not an archive. Other faults show when the file is read.
        return "checkpoint"
    if any(name.endswith("/constants.pkl") and "/data/" not in name for name in names) and any(
        "/code/" in name for name in names
    ):
        return "torchscript"
    if any(name.endswith("archive_format") for name in names):
        return "exported"
    return "checkpoint"


def read_checkpoint(path: str) -> Checkpoint:
    """A state_dict, alone or under the key `state_dict`, `model_state_dict` or `model`.

    No code in the file is run.

    Raises:
        ModelError: it cannot be read, holds more than tensors and plain values, or has no state_dict.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: is not a file of tensors and plain values that torch.save wrote, and loading "
            "anything else could run code; save model.state_dict()"
        ) from error
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; name a checkpoint") from error
    except _RAISED_BY_LOADING as error:
        raise _unreadable(path, error) from error
    state = content
    if isinstance(content, Mapping):
        state = next(
            (content[key] for key in _WRAPPED_IN if isinstance(content.get(key), Mapping)), content
        )
    if not isinstance(state, Mapping) or not any(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(
            f"{path}: holds no state_dict, neither alone nor under {', '.join(_WRAPPED_IN)}; save "
            "model.state_dict()"
        )
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    return Checkpoint(path, content, tensors)


def _made(spec: str, num_classes: int | None) -> nn.Module:
    if spec.startswith(TORCHVISION):
        models = torchvision_module("models")
        name = spec.removeprefix(TORCHVISION)
        if name not in models.list_models():
            raise ModelError(
                f"{spec}: torchvision has no such model; torchvision.models lists them"
            )
        arguments = {} if num_classes is None else {"num_classes": num_classes}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about initial weights, which are replaced
            made: nn.Module = models.get_model(name, weights=None, **arguments)
        return made
    code = UserCode(spec, ModelError)
    if not code.is_well_formed:
        raise ModelError(
            f"{spec}: no such file, and not a model; give {TORCHVISION}NAME, package.module:factory, or a "
            "TorchScript or torch.export file"
        )
    if num_classes is not None:
        raise ModelError(
            f"{spec}: --num-classes is for torchvision's models; let the factory set it"
        )
    model = code.made()
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{spec}: returned something of type {type(model).__name__}; name a factory that returns a "
            "torch.nn.Module"
        )
    return model


def _load(model: nn.Module, checkpoint: Checkpoint, spec: str) -> None:
    wanted = model.state_dict()
    keys = _keys(checkpoint, wanted)
    state = {key: checkpoint.state[theirs] for key, theirs in keys.items()}
    wrong = [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    wrong += [
        f"{key} is missing"
        for key in wanted
        # Checkpoints of torch before 0.4.1 have none; load_state_dict accepts that.
        if key not in state and not key.endswith("num_batches_tracked")
    ]
    wrong += [f"{key} is unknown" for key in state if key not in wanted]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(
            f"{checkpoint.path}: is a checkpoint of another model than {spec}: {', '.join(wrong[:3])}{more}; "
            "name the model that it belongs to"
        )
    model.load_state_dict(state)


def _updated(checkpoint: Checkpoint, model: nn.Module) -> bytes:
    """The checkpoint with the model's running statistics, and everything else unchanged."""
    buffers = dict(model.named_buffers(remove_duplicate=False))
    for key, theirs in _keys(checkpoint, model.state_dict()).items():
        if key in buffers:
            _copy(checkpoint.path, theirs, buffers[key], checkpoint.state[theirs])
    return _bytes_of(checkpoint.content)


def _copy(path: str, key: str, new: Tensor, old: Tensor) -> None:
    overflows = torch.isfinite(new).all() and not torch.isfinite(new.to(old.dtype)).all()
    if overflows:
        raise ModelError(
            f"{path}: {key} is {old.dtype}, which cannot hold {float(new.abs().max()):.3g}; save the "
            "checkpoint in float32"
        )
    old.copy_(new)


def _keys(checkpoint: Checkpoint, wanted: Mapping[str, Tensor]) -> dict[str, str]:
    """The checkpoint's keys by the model's keys: without a wrapper's prefix, if the model has none."""
    keys = {key: key for key in checkpoint.state}
    while not set(keys) & set(wanted):
        prefix = next((p for p in _WRAPPERS if keys and all(k.startswith(p) for k in keys)), None)
        if prefix is None:
            break
        keys = {key.removeprefix(prefix): theirs for key, theirs in keys.items()}
    return keys


def _bytes_of(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _script(path: str) -> OpenedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, but the user has such a file
        try:
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        except _RAISED_BY_LOADING as error:
            raise _unreadable(path, error) from error

    def saved() -> bytes:
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(module.cpu(), buffer)
        return buffer.getvalue()

    return OpenedModel(module, saved)


def _exported(path: str) -> OpenedModel:
    try:
        program = torch.export.load(path)
        module = program.module()
    except _RAISED_BY_LOADING as error:
        raise _unreadable(path, error) from error

    def saved() -> bytes:
        for key, buffer in module.named_buffers():
            if key in program.state_dict:
                program.state_dict[key].copy_(buffer)
        file = io.BytesIO()
        torch.export.save(program, file)
        return file.getvalue()

    return OpenedModel(module, saved)


def _unreadable(path: str, error: Exception) -> ModelError:
    return ModelError(f"{path}: cannot be read ({describe(error)}); name a file that torch wrote")
