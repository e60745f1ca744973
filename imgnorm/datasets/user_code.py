"""The user's own code, named as "package.module:name". It is run here: configs may never name it."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from imgnorm._torch import INSTALL, is_missing
from imgnorm.errors import ImgnormError
from imgnorm.wording import describe

_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


@dataclass(frozen=True)
class UserCode:
    """Something in the user's own code."""

    name: str  # package.module:name; the name may have dots, too
    fault: type[ImgnormError]  # the exception to raise when it fails
    option: str = ""  # the option that named it: messages begin with it

    @property
    def is_well_formed(self) -> bool:
        return re.fullmatch(f"{_DOTTED}:{_DOTTED}", self.name) is not None

    def imported(self) -> Any:
        """The object of that name. Like `python -m`, it looks for the module in the current folder first.

        The folder stays first in Python's path: the code may import more when it is called.

        Raises:
            fault: the module or the name does not exist, or importing it failed.
        """
        if not self.is_well_formed:
            raise self._error("expected package.module:name, as in project.data:train_set")
        here = os.getcwd()
        if sys.path[:1] != [here]:
            sys.path.insert(0, here)
        module, _, attributes = self.name.partition(":")
        found = self._run("importing", lambda: self._module(module))
        for attribute in attributes.split("."):
            found = self._attribute(found, attribute)
        return found

    def function(self) -> Callable[..., Any]:
        """The callable object of that name.

        Raises:
            fault: it does not exist, or is not callable.
        """
        return self._function(self.imported())

    def made(self) -> Any:
        """What the factory of that name returns.

        Raises:
            fault: it does not exist, or failed.
        """
        return self._run("calling", self.function())

    def dataset(self) -> Any:
        """What the factory of that name returns; or the object of that name, if it yields images itself.

        Raises:
            fault: it does not exist, or failed.
        """
        found = self.imported()
        if isinstance(found, type) or not _yields_images(found):
            found = self._run("calling", self._function(found))
        if found is None:
            raise self._error("returned None; return the Dataset")
        return found

    @contextmanager
    def exits_refused(self) -> Iterator[None]:
        """Refuses `sys.exit` while images are read: `sys.exit(0)` in the user's code would end the command
        with success, though nothing was written.

        Raises:
            fault: the code called `sys.exit`.
        """
        try:
            yield
        except SystemExit as error:
            raise self._failure("reading", error) from error

    def _module(self, module: str) -> Any:
        try:
            return import_module(module)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{module}.".startswith(f"{error.name}."):
                raise self._error(
                    f"there is no module {error.name}, neither in this folder nor installed"
                ) from error
            raise

    def _attribute(self, owner: Any, attribute: str) -> Any:
        try:
            return getattr(owner, attribute)
        except AttributeError as error:
            raise self._error(f"{getattr(owner, '__name__', owner)} has no {attribute}") from error

    def _function(self, found: Any) -> Callable[..., Any]:
        if not callable(found):
            raise self._error(
                f"is of type {type(found).__name__}; name something that can be called"
            )
        function: Callable[..., Any] = found
        return function

    def _run(self, doing: str, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except self.fault:
            raise
        except (Exception, SystemExit) as error:  # a user's code may raise anything
            raise self._failure(doing, error) from error

    def _failure(self, doing: str, error: BaseException) -> ImgnormError:
        what = f"{doing} it raised {describe(error)}"
        place = _place(error)
        if doing == "calling" and isinstance(error, TypeError) and not place:
            return self._error(f"{what}; name a factory that takes no arguments")
        if is_missing(error):
            return self._error(f"{what}; {INSTALL}")
        return self._error(f"{what}{place}")

    def _error(self, what: str) -> ImgnormError:
        return self.fault(f"{f'{self.option} {self.name}'.strip()}: {what}")


def _yields_images(found: Any) -> bool:
    return any(hasattr(type(found), method) for method in ("__getitem__", "__iter__"))


def _place(error: BaseException) -> str:
    """The line of the user's code that raised, in brackets."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and frame.filename != __file__
    ]
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
