"""Files and folders -> every wrong mean and std in their source code and configs."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from imgnorm.checks.ignore import MARK, chosen, not_ignored
from imgnorm.checks.lint.data import json_pairs, toml_pairs, yaml_pairs
from imgnorm.checks.lint.fix import Fix, fixed
from imgnorm.checks.lint.judge import Judged, judged
from imgnorm.checks.lint.pair import Pair
from imgnorm.checks.lint.python import comments_in, pairs_in
from imgnorm.checks.reports import grouped, plural, summary
from imgnorm.documents.document import open_at_once
from imgnorm.errors import InvalidDocument, Problem, SourceError

MAX_BYTES = 1 << 20  # of one file; configs and source code are smaller

_READERS: dict[str, Callable[[bytes, str], list[Pair]]] = {
    ".py": pairs_in,
    ".yaml": yaml_pairs,
    ".yml": yaml_pairs,
    ".json": json_pairs,
    ".toml": toml_pairs,
}
_NOT_ENTERED = {"__pycache__", "node_modules", "site-packages", "venv"}


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
    for file in _files(paths):
        try:
            data = _content(file)

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
    reader = _READERS[os.path.splitext(file)[1].lower()]
    lowered = data.lower()
    if b"ormaliz" not in lowered and not (b"mean" in lowered and b"std" in lowered):
        return []
    try:
        pairs = reader(data, file)
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


def _content(file: str) -> bytes:
    try:
        with open(file, "rb", opener=open_at_once) as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({os.strerror(error.errno or 0).lower()})") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES:,} bytes")
    return data


def _files(paths: Sequence[str]) -> Iterator[str]:
    """Every file, once. All paths are checked before the first file is read."""
    found: dict[str, None] = {}
    for path in paths:
        found.update(dict.fromkeys(_below(path) if _is_folder(path) else [_known(path)]))
    return iter(found)


def reads(path: str) -> bool:
    """Whether lint reads files with this suffix."""
    return os.path.splitext(path)[1].lower() in _READERS


def _is_folder(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file or folder; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise SourceError(
            f"{path}: cannot be read ({reason}); check the path and its permissions"
        ) from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise SourceError(f"{path}: not a regular file; name a file or a folder")
    return stat.S_ISDIR(mode)


def _known(path: str) -> str:
    if not reads(path):
        raise SourceError(f"{path}: not a file that lint reads; it reads {', '.join(_READERS)}")
    return path


def _below(root: str) -> list[str]:
    """The files of a folder that can hold numbers, sorted. Links to folders are not followed."""
    found, waiting = [], [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if folder == root:
                reason = (error.strerror or "").lower()
                raise SourceError(
                    f"{root}: cannot be read ({reason}); check the path and its permissions"
                ) from error
            continue  # as git does with folders that it may not enter
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if _entered(entry):
                    waiting.append(entry.path)
            elif reads(entry.name) and entry.is_file():
                found.append(entry.path)
    if not found:
        raise SourceError(f"{root}: no Python, YAML, JSON or TOML file in it; check the path")
    return sorted(found)


def _entered(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.name not in _NOT_ENTERED
