"""torchvision, or the sentence that says how to get one that works."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from imgnorm.errors import MissingDependency
from imgnorm.wording import clause


def torchvision_module(name: str) -> Any:
    """The module `torchvision.<name>`.

    Raises:
        MissingDependency: it cannot be imported, most often because torch and torchvision were built
            apart (`operator torchvision::nms does not exist`).
    """
    try:
        return import_module(f"torchvision.{name}")
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingDependency(
            f"torchvision cannot be imported ({clause(error)}); torch and torchvision "
            "must be a pair: install both anew with `pip install --force-reinstall torch torchvision`"
        ) from error
