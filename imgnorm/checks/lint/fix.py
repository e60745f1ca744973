"""Files with the right numbers written into them: in memory, as a diff, or on the disk."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from imgnorm.checks.lint.judge import Edit, Judged
from imgnorm.errors import OutputError, Problem
from imgnorm.output import check_output, read_whole, write_whole
from imgnorm.wording import printable

_ROUNDS = 4  # a number may need its unit first, and then its value
_LINE_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Fix:
    """A file before and after its numbers were put right."""

    file: str
    before: bytes
    after: bytes
    count: int  # of the problems that are gone

    def to_dict(self) -> dict[str, Any]:
        """The file's name, how many problems are gone, and the diff."""
        return {"file": self.file, "count": self.count, "diff": self.diff()}

    def diff(self) -> str:
        """A unified diff, as `git apply` and `patch` take it."""
        old, new = (data.decode().splitlines(keepends=True) for data in (self.before, self.after))
        name = printable(self.file.removeprefix("./"))
        lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for line in lines
        )


def fixed(
    file: str, data: bytes, judge: Callable[[bytes], Sequence[Judged]]
) -> tuple[Fix | None, list[Problem]]:
    """The file with every number put right whose right value is sure, and the problems that are left.

    None if nothing is to be done, or if the file would not be clean of these problems afterwards.

    Args:
        judge: content -> problems, each with the edits that fix it.
    """
    found = judge(data)
    first, after = [one.problem for one in found], data
    for _ in range(_ROUNDS):
        edits = {edit for one in found for edit in one.edits}
        if not edits:
            break
        try:
            after = _written(after, edits)
            found = judge(after)
        except ValueError:  # not UTF-8, or no longer what its suffix says
            return None, first
    left = [one.problem for one in found]
    if after == data or any(one.edits for one in found) or len(left) >= len(first):
        return None, first
    return Fix(file, data, after, len(first) - len(left)), left


def write_fixes(fixes: Sequence[Fix]) -> None:
    """Write all files, each whole; none, if one of them cannot be written or has changed meanwhile.

    Raises:
        OutputError: a file cannot be written.
    """
    for fix in fixes:
        check_output(fix.file, force=2)  # it changes what the user wrote
        if read_whole(fix.file) != fix.before:
            raise OutputError(f"{fix.file}: has changed while it was read; run the command again")
    for fix in fixes:
        write_whole(fix.file, fix.after)


def _written(data: bytes, edits: Iterable[Edit]) -> bytes:
    """
    Raises:
        ValueError: the file is not UTF-8, or a number does not stand where it was found.
    """
    mark = "\ufeff" if data.startswith(b"\xef\xbb\xbf") else ""
    text = data.decode("utf-8-sig")
    starts = [0, *(found.end() for found in _LINE_BREAK.finditer(text))]
    for edit in sorted(edits, key=lambda edit: edit.place, reverse=True):
        line, column = edit.place
        start = starts[line - 1] + column - 1
        end = start + len(edit.old)
        if text[start:end] != edit.old:
            raise ValueError(f"{edit.old} does not stand in line {line}")
        text = text[:start] + edit.new + text[end:]
    return (mark + text).encode()
