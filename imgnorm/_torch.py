"""torch and torchvision, or the sentence that says how to install them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from imgnorm.errors import MissingDependency
from imgnorm.wording import clause

INSTALL = "install it with `pip install torch torchvision`"


def is_missing(error: BaseException) -> bool:
    """Whether an import failed because torch or torchvision is not installed."""
    return isinstance(error, ModuleNotFoundError) and error.name in ("torch", "torchvision")


@contextmanager
def torch_needed(package: str = "torch") -> Iterator[None]:
    """Stands around imports of torch or torchvision, and of modules that import them.

    Raises:
        MissingDependency: one of them is not installed or is broken, most often because torch and
            torchvision were built apart (`operator torchvision::nms does not exist`).
    """
    try:
        yield
    except (ImportError, RuntimeError, OSError) as error:
        if is_missing(error):
            raise MissingDependency(f"{error.name} is not installed; {INSTALL}") from error  # type: ignore[union-attr]
        raise MissingDependency(
            f"{package} cannot be imported ({clause(error)}); torch and torchvision must be a pair: "
            "install both anew with `pip install --force-reinstall torch torchvision`"
        ) from error


def torchvision_module(name: str) -> Any:
    """The module `torchvision.<name>`.

    Raises:
        MissingDependency: see `torch_needed`.
    """
    with torch_needed("torchvision"):
        return import_module(f"torchvision.{name}")
