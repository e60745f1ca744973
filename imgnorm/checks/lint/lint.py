"""Files and folders -> every wrong mean and std in their source code and configs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from imgnorm.checks.ignore import MARK, chosen, not_ignored
from imgnorm.checks.lint.files import content_of, files_in, pairs_of
from imgnorm.checks.lint.fix import Fix, fixed
from imgnorm.checks.lint.judge import Judged, judged
from imgnorm.checks.lint.python import comments_in
from imgnorm.checks.reports import grouped, plural, summary
from imgnorm.errors import InvalidDocument, Problem


@dataclass(frozen=True)
class Linted:
    """How many files were read, and the problems in them."""

    problems: tuple[Problem, ...]  # in the order of the files, and of their lines
    files: int  # that were read
    unread: tuple[tuple[str, str], ...]  # name and reason: not Python 3, too large, ...
    fixes: tuple[Fix, ...] = ()  # what would put numbers right; `problems` are those that are left

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
            verb = "fixed" if written else "--fix would fix"
            parts.append(f"{verb} {count} in {plural(len(self.fixes), 'file')}")
        if self.unread:
            parts.append(f"{plural(len(self.unread), 'file')} not read")
        hidden = self.unread or any(problem.severity == "info" for problem in self.problems)
        return "; ".join(parts) + (" (-v shows more)" if hidden and not verbose else "")


def lint(
    paths: Sequence[str],
    *,
    select: Collection[str] | None = None,
    ignore: Collection[str] = (),
    fix: bool = False,
) -> Linted:
    """Look for wrong means and stds in files, and in all files of folders.

    Args:
        select: the ids of the rules to check; None: all.
        ignore: the ids of rules to leave out.
        fix: work out the right numbers, where they are sure. Nothing is written.

    Raises:
        SourceError: a path does not exist, cannot be read, or is a folder without any file to read.
    """
    problems: list[Problem] = []
    unread: list[tuple[str, str]] = []
    fixes: list[Fix] = []
    read = 0
    for file in files_in(paths):
        try:
            data = content_of(file)

            def judge(content: bytes, file: str = file) -> list[Judged]:
                found = {one.problem: one for one in _judged(content, file)}
                return [found[problem] for problem in chosen(found, select, ignore)]

            if fix:
                mended, left = fixed(file, data, judge)
                fixes += [mended] if mended else []
            else:
                left = [one.problem for one in judge(data)]
            problems += left
            read += 1
        except ValueError as error:
            unread.append((file, str(error)))
    return Linted(tuple(grouped(problems)), read, tuple(unread), tuple(fixes))


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
