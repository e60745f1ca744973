"""Networks and checkpoints as users name them: torchvision's, a factory of their own, or a file."""

from __future__ import annotations

import io
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from imgnorm.errors import ModelError
from imgnorm.torchvision_pair import torchvision_module

TORCHVISION = "torchvision:"
_WRAPPED_IN = ("state_dict", "model_state_dict", "model")
_DDP = "module."
_RAISED_BY_LOADING = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class OpenedModel:
    """A network, and how its file is written again."""

    module: nn.Module
    saved: Callable[[], bytes]  # what it was read from, with the buffers as they are now


@dataclass(frozen=True)
class Checkpoint:
    """A file of tensors."""

    path: str
    content: Any  # as it was loaded: `state`, or a mapping around it
    state: dict[str, Tensor]


def open_model(
    spec: str, *, weights: str | None = None, num_classes: int | None = None
) -> OpenedModel:
    """The network that a user means, with its weights.

    Args:
        spec: "torchvision:NAME"; "package.module:factory", which is imported, with the current
            folder first, and called without arguments; or a TorchScript or torch.export file.
        weights: a checkpoint; required for the first two, refused for a file, which holds its own.
        num_classes: for torchvision's models.

    Raises:
        ModelError: it cannot be found, opened or called, or the checkpoint is another model's.
    """
    kind = file_kind(spec) if os.path.isfile(spec) else None
    if kind == "checkpoint":
        raise ModelError(
            f"{spec}: is a checkpoint, not a model; name the model that it belongs to, and give it with --weights"
        )
    if kind is not None:
        if weights is not None:
            raise ModelError(f"{spec}: holds its own weights; leave --weights out")
        return _script(spec) if kind == "torchscript" else _exported(spec)
    model = _made(spec, num_classes)
    if weights is None:
        return OpenedModel(model, lambda: _bytes_of(model.state_dict()))
    checkpoint = read_checkpoint(weights)
    _load(model, checkpoint, spec)
    return OpenedModel(model, lambda: _updated(checkpoint, model))


def placed(model: nn.Module, device: str | None) -> None:
    """Move a model to a device: the one that is asked for, else CUDA where there is one.

    Raises:
        ModelError: there is no such device here. It is never replaced by another one.
    """
    wanted = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model.to(torch.device(wanted))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"--device {wanted}: cannot be used ({reason}); name another one"
        ) from error


def file_kind(path: str) -> str:
    """What a file is: "torchscript", "exported" or "checkpoint", judged by the names in its archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "checkpoint"  # torch's old format is no archive; reading it says what is wrong
    if any(name.endswith("/constants.pkl") and "/data/" not in name for name in names) and any(
        "/code/" in name for name in names
    ):
        return "torchscript"
    if any(name.endswith("archive_format") for name in names):
        return "exported"
    return "checkpoint"


def read_checkpoint(path: str) -> Checkpoint:
    """A state_dict, alone or under `state_dict`, `model_state_dict` or `model`. Runs nothing in it.

    Raises:
        ModelError: it cannot be read, holds more than tensors and plain values, or no state_dict.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, before it is refused or read
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than tensors and plain values, so loading it could run code; save "
            "model.state_dict() instead"
        ) from error
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
            warnings.simplefilter("ignore")  # how the weights begin does not matter here
            made: nn.Module = models.get_model(name, weights=None, **arguments)
        return made
    module, colon, factory = spec.partition(":")
    if not colon or not module or not factory:
        raise ModelError(
            f"{spec}: no such file, and not a model; give {TORCHVISION}NAME, package.module:factory, or a "
            "TorchScript or torch.export file"
        )
    if num_classes is not None:
        raise ModelError(
            f"{spec}: --num-classes is for torchvision's models; let the factory set it"
        )
    model = imported(spec)()
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{spec}: gives a {type(model).__name__}; name a factory that gives a torch.nn.Module"
        )
    return model


def imported(spec: str) -> Callable[..., Any]:
    """The callable "package.module:name", looked for in the current folder first. Runs its code.

    Raises:
        ModelError: it cannot be imported, or is not callable.
    """
    module, _, name = spec.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = getattr(import_module(module), name)
    except Exception as error:
        raise ModelError(
            f"{spec}: cannot be imported ({type(error).__name__}: {' '.join(str(error).split())}); give "
            "package.module:name as Python would import it here"
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise ModelError(f"{spec}: is a {type(found).__name__}; name something that can be called")
    result: Callable[..., Any] = found
    return result


def _load(model: nn.Module, checkpoint: Checkpoint, spec: str) -> None:
    state = {_plain(key): value for key, value in checkpoint.state.items()}
    wanted = model.state_dict()
    wrong = [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    wrong += [f"{key} is missing" for key in wanted if key not in state]
    wrong += [f"{key} is unknown" for key in state if key not in wanted]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(
            f"{checkpoint.path}: is a checkpoint of another model than {spec}: {', '.join(wrong[:3])}{more}; "
            "name the model that it belongs to"
        )
    model.load_state_dict(state)


def _updated(checkpoint: Checkpoint, model: nn.Module) -> bytes:
    """The checkpoint with the model's buffers, and all else in it as it was."""
    buffers = dict(model.named_buffers())
    for key, tensor in checkpoint.state.items():
        if _plain(key) in buffers:
            tensor.copy_(buffers[_plain(key)])
    return _bytes_of(checkpoint.content)


def _plain(key: str) -> str:
    """A key without what DistributedDataParallel puts in front."""
    return key.removeprefix(_DDP)


def _bytes_of(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _script(path: str) -> OpenedModel:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # torch.jit is deprecated: the user's format, not our choice
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
    reason = " ".join(str(error).split())[:200]
    return ModelError(
        f"{path}: cannot be read ({type(error).__name__}: {reason}); name a file that torch wrote"
    )
