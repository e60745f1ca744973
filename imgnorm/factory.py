""" "package.module:factory" -> what the user's own code makes. It runs that code: never from a config."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from imgnorm.errors import SourceError


def made_by(name: str) -> Any:
    """What `factory()` of `package.module` gives, or the thing of that name if it is none to call.

    The module is looked for as by `python -m`: in the current folder first.

    Raises:
        SourceError: there is no such module or factory, or the user's code failed.
    """
    module_name, _, attributes = name.partition(":")
    dotted = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
    if not re.fullmatch(f"{dotted}:{dotted}", name):
        raise SourceError(
            f"--dataset {name}: expected package.module:factory, as in project.data:train_set"
        )
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _run(name, "importing it", lambda: _imported(name, module_name))
    found: Any = module
    for attribute in attributes.split("."):
        found = _attribute(name, found, attribute)
    if isinstance(found, type) or not _yields_images(found):
        if not callable(found):
            raise SourceError(f"--dataset {name}: is of type {type(found).__name__}, not a factory")
        found = _run(name, "calling it", found)
    if found is None:
        raise SourceError(f"--dataset {name}: gave None; return the Dataset")
    return found


@contextmanager
def exits_refused(name: str) -> Iterator[None]:
    """While the user's code hands out images: its `sys.exit(0)` would be our success, with nothing written.

    Raises:
        SourceError: it called `sys.exit`.
    """
    try:
        yield
    except SystemExit as error:
        raise _failure(name, "reading it", error) from error


def _yields_images(found: Any) -> bool:
    return any(hasattr(type(found), method) for method in ("__getitem__", "__iter__"))


def _imported(name: str, module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise SourceError(
                f"--dataset {name}: there is no module {error.name}, neither in this folder nor installed"
            ) from error
        raise


def _attribute(name: str, owner: Any, attribute: str) -> Any:
    try:
        return getattr(owner, attribute)
    except AttributeError as error:
        raise SourceError(
            f"--dataset {name}: {getattr(owner, '__name__', owner)} has no {attribute}"
        ) from error


def _run(name: str, doing: str, step: Callable[[], Any]) -> Any:
    try:
        return step()
    except SourceError:
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise _failure(name, doing, error) from error


def _failure(name: str, doing: str, error: BaseException) -> SourceError:
    text = " ".join(str(error).split())[:300]
    return SourceError(
        f"--dataset {name}: {doing} raised {type(error).__name__}{f': {text}' if text else ''}"
        f"{_place(error)}"
    )


def _place(error: BaseException) -> str:
    """The line of the user's code that raised."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and frame.filename != __file__
    ]
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
