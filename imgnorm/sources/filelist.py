"""A text file that lists images, one path per line."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from imgnorm.errors import SourceError
from imgnorm.sources.files import read_file, way_to_read
from imgnorm.sources.names import name_bytes, runs_of
from imgnorm.sources.patterns import ALL, Patterns
from imgnorm.sources.source import Ignored, Source, Unit
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.wording import cut

STANDARD_INPUT = "-"
"""The path of a list that is read from standard input; its lines are relative to the current folder."""


_BEGINNING = 4096  # a null byte further on is a fault of one line


class ListSource(Source):
    """The images that the text file `path` names, relative to it; their extensions do not matter.

    A unit is a run of the sorted names. Equal lines are found among all names, so all are in memory.
    """

    kind = "list"
    in_order = True

    def __init__(self, path: str, patterns: Patterns = ALL) -> None:
        self.path = path
        self._patterns = patterns
        self.options = patterns.options
        self.ref = path.replace(os.sep, "/")
        self._typed = b""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_typed": b""}  # a worker has the names of its units

    def units(self) -> Iterator[Unit | Skipped | Ignored]:
        """
        Raises:
            SourceError: the list itself cannot be read.
        """
        text = self._text()
        if b"\0" in text[:_BEGINNING]:
            raise SourceError(
                f"{self.path}: is not a text with one path a line: it has null bytes; `find` writes one "
                "without -print0"
            )
        seen: set[str] = set()
        relative: dict[str, str] = {}
        for line in text.removeprefix(b"\xef\xbb\xbf").splitlines():
            if not line.strip():
                continue
            if b"://" in line and (way := way_to_read(os.fsdecode(line))):
                raise SourceError(f"{self.path}: {cut(repr(os.fsdecode(line)), 200)} {way}")
            try:
                name = self._name(os.fsdecode(line), relative)
            except ValueError as error:  # another drive; on Windows, bytes that are not UTF-8
                raise SourceError(
                    f"{self.path}: {cut(repr(line), 200)} is not a path relative to the list ({error}); fix the line"
                ) from error
            if name in seen:
                yield Skipped(name, Reason.DUPLICATE_NAME, "listed more than once")
            seen.add(name)
        ways = (way_to_read(name) for name in seen)
        if seen and all(ways):
            first = min(seen, key=name_bytes)
            raise SourceError(f"{self.path}: {cut(repr(first), 200)} {way_to_read(first)}")
        if not self._patterns.choose_all:
            excluded = {name for name in seen if self._patterns.excludes(name)}
            others = {name for name in seen - excluded if not self._patterns.includes(name)}
            seen -= excluded | others
            yield Ignored(+Counter({"exclude": len(excluded), "include": len(others)}))
        for names in runs_of(sorted(seen, key=name_bytes)):
            yield Unit(names[0], names)

    def read(self, name: str) -> bytes:
        return read_file(os.path.join(self._folder, *name.split("/")))

    @cached_property
    def _folder(self) -> str:
        return os.path.dirname(os.path.realpath(self.path))

    def _text(self) -> bytes:
        """
        Raises:
            SourceError: the list itself cannot be read.
        """
        if self.path == STANDARD_INPUT:
            try:
                self._typed = self._typed or sys.stdin.buffer.read()  # it can be read once only
            except (AttributeError, OSError) as error:  # closed, or no standard input at all
                raise SourceError(
                    "-: standard input cannot be read; write the list to a file and name that"
                ) from error
            return self._typed
        try:
            return read_file(self.path)
        except Unreadable as fault:
            raise SourceError(
                f"{self.path}: cannot be read as a list ({fault.detail}); name a text file with one "
                "path a line"
            ) from fault

    def _name(self, line: str, relative: dict[str, str]) -> str:
        """The path relative to the list, with '/', and never absolute.

        `..` stays as it is: after a link, it is not the folder that the text suggests.

        Args:
            relative: absolute folders of earlier lines -> the same, relative to the list.
        """
        if os.path.isabs(line):
            folder, file = os.path.split(line)
            if folder not in relative:  # following its links takes longer than all else of a line
                relative[folder] = os.path.relpath(os.path.realpath(folder), self._folder)
            line = os.path.join(relative[folder], file)
        steps = line.replace(os.sep, "/").split("/")
        return "/".join(step for step in steps if step not in ("", "."))
