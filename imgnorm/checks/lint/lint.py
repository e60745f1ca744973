"""Files and folders -> every wrong mean and std in their source code and configs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from imgnorm.checks.ignore import MARK, chosen, not_ignored
from imgnorm.checks.lint.files import content_of, files_in, pairs_of
from imgnorm.checks.lint.fix import Fix, fixed
from imgnorm.checks.lint.judge import Judged, judged
from imgnorm.checks.lint.python import comments_in
from imgnorm.checks.reports import grouped, summary
from imgnorm.documents.document import file_names
from imgnorm.errors import InvalidDocument, Problem
from imgnorm.wording import plural


@dataclass(frozen=True)
class Linted:
    """How many files were read, and the problems in them.

    Example:
        >>> found = imgnorm.lint("configs")
        >>> found.problems, found.unread
        ((), ())
    """

    problems: tuple[Problem, ...]  # in the order of the files, and of their lines
    files: int  # that were read
    unread: tuple[tuple[str, str], ...]  # name and reason: not Python 3, too large, ...
    fixes: tuple[Fix, ...] = ()  # what would put numbers right; `problems` are those that are left
    fixable: int = 0  # of the problems, where `fix` was not asked for

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        problems = [problem.to_dict() for problem in self.problems]
        return {**vars(self), "problems": problems, "fixes": [fix.to_dict() for fix in self.fixes]}

    def summary(self, *, verbose: bool = True, written: bool = False) -> str:
        """One line: `checked  3 files: 1 error, 0 warnings, 0 notes; 2 files not read`.

        Equal problems in several places count once.

        Args:
            verbose: whether the notes and the names of the files that were not read have been shown.
            written: whether the fixes have been written.
        """
        parts = [summary(self.files, self.problems)]
        if self.fixes:
            count = plural(sum(fix.count for fix in self.fixes), "problem")
            where = f"{count} in {plural(len(self.fixes), 'file')}"
            parts.append(
                f"fixed {where}" if written else f"that is after --fix, which would fix {where}"
            )
        if self.unread:
            parts.append(f"{plural(len(self.unread), 'file')} not read")
        hidden = self.unread or any(problem.severity == "info" for problem in self.problems)
        return "; ".join(parts) + (" (-v shows more)" if hidden and not verbose else "")


def lint(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    select: Collection[str] | None = None,
    ignore: Collection[str] = (),
    fix: bool = False,
) -> Linted:
    """Look for wrong means and stds in source code and configs: files, and all files of folders.

    Nothing is printed or written, and no code is imported or run.

    Args:
        paths: a file or a folder, or several.
        select: the ids of the rules to check; None: all.
        ignore: the ids of rules to leave out.
        fix: work out the right numbers, where they are sure. Nothing is written.

    Raises:
        SourceError: a path does not exist, cannot be read, or is a folder without any file to read.

    Example:
        >>> with open("train.py", "w") as file:
        ...     _ = file.write("Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))\\n")
        >>> [(problem.line, problem.rule) for problem in imgnorm.lint("train.py").problems]
        [(1, 'known-wrong')]
    """
    problems: list[Problem] = []
    unread: list[tuple[str, str]] = []
    fixes: list[Fix] = []
    read = fixable = 0
    for file in files_in(file_names(paths)):
        try:
            data = content_of(file)

            def judge(content: bytes, file: str = file) -> list[Judged]:
                found = {one.problem: one for one in _judged(content, file)}
                return [found[problem] for problem in chosen(found, select, ignore)]

            if fix:
                mended, left = fixed(file, data, judge)
                fixes += [mended] if mended else []
            else:
                found = judge(data)
                left = [one.problem for one in found]
                fixable += sum(bool(one.edits) for one in found)
            problems += left
            read += 1
        except ValueError as error:
            unread.append((file, str(error)))
    return Linted(tuple(grouped(problems)), read, tuple(unread), tuple(fixes), fixable)


def _judged(data: bytes, file: str) -> list[Judged]:
    """
    Raises:
        ValueError: the file is not what its suffix says.
    """
    try:
        pairs = pairs_of(data, file)
    except InvalidDocument as error:
        return [Judged(problem) for problem in error.problems]
    found = {one.problem: one for one in judged(pairs, file)}
    shown = not_ignored(found, _commented(data, file) if MARK in data else (), file)
    return [found.get(problem, Judged(problem)) for problem in shown]


def _commented(data: bytes, file: str) -> list[str]:
    """The lines in which to look for ignore comments; Python's hold nothing but their comments."""
    if file.lower().endswith(".py"):
        return comments_in(data)
    return data.decode(errors="replace").splitlines()
