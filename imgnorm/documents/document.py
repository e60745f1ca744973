"""A YAML document in memory, and the bytes of its file.

`Document` knows a file's value and the line and column of every part of it. `DocumentLimits` says
how much is read of a file. reader.py makes documents from bytes.
"""

from __future__ import annotations

import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from imgnorm.errors import InvalidDocument, Problem, Severity, SourceError
from imgnorm.wording import cut

Path = tuple[str | int, ...]

MAX_PROBLEMS = 1000  # more would be a hostile file, and its report larger than the file

_NAME = re.compile(r"[\w?*<-]{1,60}")  # a key that messages show without quotes


@dataclass(frozen=True)
class DocumentLimits:
    """How much of a file is read before it is refused."""

    max_bytes: int
    max_nodes: int  # mappings, lists and scalars; keys count too
    max_depth: int  # mappings and lists inside one another


CONFIG_LIMITS = DocumentLimits(max_bytes=1 << 20, max_nodes=20_000, max_depth=16)
STATS_LIMITS = DocumentLimits(max_bytes=64 << 20, max_nodes=4_000_000, max_depth=16)
"""For all commands alike: what one writes, every other reads."""


@dataclass(frozen=True)
class Document:
    """A YAML file's value, and the place of each part of it."""

    file: str  # as the user named it
    value: Any  # dict, list, str, int, float, bool or None; must not be changed
    _places: Places = field(repr=False, compare=False)

    def place(self, path: Sequence[str | int], *, of_key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at `path`, or of its key.

        A path that does not exist has the place of its nearest ancestor that does.
        """
        value, entry, key_entry = self.value, 0, 0
        for step in path:
            children = self._places.children(entry, value)
            if isinstance(children, dict):
                if step not in children:
                    return self._places[entry]
                key_entry = children[step]
                entry = key_entry + 1
            else:
                if not isinstance(step, int) or not 0 <= step < len(children):
                    return self._places[entry]
                entry = key_entry = children[step]
            value = value[step]
        return self._places[key_entry if of_key else entry]

    def problem(
        self,
        path: Sequence[str | int],
        rule: str,
        message: str,
        hint: str | None = None,
        *,
        of_key: bool = False,
        severity: Severity = "error",
    ) -> Problem:
        """A problem at the place of `path`. Its message begins with the path: `image.mode: …`."""
        line, column = self.place(path, of_key=of_key)
        return Problem(self.file, line, column, rule, with_path(path, message), hint, severity)


def file_names(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """One path, or several, as a list of texts."""
    if isinstance(paths, (str, os.PathLike)):
        return [os.fspath(paths)]
    return [os.fspath(path) for path in paths]


def read_bytes(path: str | os.PathLike[str], limits: DocumentLimits) -> bytes:
    """A file's bytes. A file that is too large is not read at all.

    Raises:
        SourceError: the file does not exist, is not a regular file, or cannot be read.
        InvalidDocument: it is larger than the limit.
    """
    file = os.fspath(path)
    with _opened(file) as stream:
        if os.fstat(stream.fileno()).st_size > limits.max_bytes:
            raise InvalidDocument([Problem(file, 1, 1, "limit", too_many_bytes(limits))])
        return stream.read(limits.max_bytes + 1)


def read_head(path: str | os.PathLike[str], limits: DocumentLimits) -> bytes:
    """The first bytes of a file; one more than allowed if it is too large, which `parse` then refuses.

    Raises:
        SourceError: the file does not exist, is not a regular file, or cannot be read.
    """
    with _opened(os.fspath(path)) as stream:
        return stream.read(limits.max_bytes + 1)


def open_at_once(file: str, flags: int) -> int:
    """An opener that does not wait for the writer of a FIFO and does not take over a terminal."""
    return os.open(file, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def too_many_bytes(limits: DocumentLimits) -> str:
    """The message about a file with too many bytes."""
    return f"the file is larger than {limits.max_bytes:,} bytes"


class Places:
    """The places of all nodes: two flat arrays in the order of the file, 12 bytes per node.

    A mapping is followed by its first key, then by that key's value, then by the second key and so
    on; a list is followed by its items. Looking up a path goes from child to child. The entries of
    the children of a container are remembered.
    """

    def __init__(self) -> None:
        self.marks = array("Q")  # line << 32 | column, from 0
        self.spans = array("I")  # how many entries a node takes, with everything inside it
        self._children: dict[int, dict[str, int] | Sequence[int]] = {}

    def __getitem__(self, entry: int) -> tuple[int, int]:
        mark = self.marks[entry]
        return (mark >> 32) + 1, (mark & 0xFFFFFFFF) + 1

    def children(self, entry: int, value: object) -> dict[str, int] | Sequence[int]:
        """The entries of a mapping's keys, by key, or of a list's items."""
        if not isinstance(value, (dict, list)):
            return ()
        if isinstance(value, list) and self.spans[entry] == len(value) + 1:
            return range(entry + 1, entry + 1 + len(value))
        found = self._children.get(entry)
        if found is None:
            if isinstance(value, dict):
                found = dict(zip(value, self._steps(entry, keys=True), strict=True))
            else:
                found = array("I", self._steps(entry, keys=False))
            self._children[entry] = found
        return found

    def keep(self, entry: int, keys: dict[str, int]) -> None:
        """Sets the entries of a mapping's keys, where some keys of the file are not in the value."""
        self._children[entry] = keys

    def _steps(self, entry: int, *, keys: bool) -> Iterator[int]:
        end = entry + self.spans[entry]
        child = entry + 1
        while child < end:
            yield child
            child += keys  # from a key to its value
            child += self.spans[child]


def with_path(path: Sequence[str | int], message: str) -> str:
    """The message with the path before it: `image.mode: …`."""
    steps = (
        f"[{step}]"
        if isinstance(step, int)
        else f".{step if _NAME.fullmatch(step) else repr(cut(step))}"
        for step in path
    )
    dotted = "".join(steps).removeprefix(".")
    return f"{dotted}: {message}" if dotted else message


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    try:
        with open(file, "rb", opener=open_at_once) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise SourceError(f"{file}: not a regular file; save it as one and name that")
            yield stream
    except FileNotFoundError as error:
        raise SourceError(f"{file}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise SourceError(f"{file}: a folder; name a YAML file in it") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        message = f"{file}: cannot be read ({reason}); check the path and its permissions"
        raise SourceError(message) from error
