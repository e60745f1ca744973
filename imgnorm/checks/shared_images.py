"""Two tables of images -> the images that lie in both, by the digest of their files.

What lies in train and in val leaks: the model is judged by what it has seen. A digest tells equal bytes; an
image that was encoded again, resized or cropped has another one, and is not found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from imgnorm.checks.diff import fail_over_of
from imgnorm.errors import IncompatibleStats, Problem
from imgnorm.stats.per_image import ImageTable
from imgnorm.wording import plural, shown

_LISTED = 20


@dataclass(frozen=True)
class SharedImages:
    """The images of a second table that lie in a first one, too; `str()` of it is what the command prints.

    Example:
        >>> tables = [imgnorm.ImageTable(sha256=True) for _ in range(2)]
        >>> for table, folder in zip(tables, ("examples/shapes", "examples/shapes/circle")):
        ...     _ = imgnorm.measure(folder, per_image=table)
        >>> imgnorm.shared_images(*tables).shared
        8
    """

    names: tuple[str, str]  # of the two files
    images: tuple[int, int]
    shared: int  # images of the second whose file, byte for byte, is in the first
    pairs: tuple[tuple[str, str], ...]
    """The name in the first (the first of them, if there are several) and in the second; at most `limit`."""
    fail_over: float | None  # as given
    problems: tuple[Problem, ...]  # one for each pair

    @property
    def failed(self) -> bool:
        """Whether more images are shared than `fail_over` allows."""
        return any(problem.severity == "error" for problem in self.problems)

    @property
    def verdict(self) -> str:
        """A line about a `fail_over` that holds; else ""."""
        if self.fail_over is None or self.failed:
            return ""
        return f"within   --fail-over {self.fail_over:g}: {self.shared:,} of {plural(self.images[1], 'image')}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return {**vars(self), "problems": [problem.to_dict() for problem in self.problems]}

    def __str__(self) -> str:
        named = [f"  {shown(second)} = {shown(first)}" for first, second in self.pairs[:_LISTED]]
        more = self.shared - len(named)
        lines = [
            f"first    {shown(self.names[0])}: {plural(self.images[0], 'image')}",
            f"second   {shown(self.names[1])}: {plural(self.images[1], 'image')}",
            f"shared   {self.shared:,} of the second lie in the first, byte for byte{':' * bool(named)}",
        ]
        return "\n".join([*lines, *named, *([f"  and {more:,} more"] if more else [])])


def shared_images(
    a: ImageTable | str | os.PathLike[str],
    b: ImageTable | str | os.PathLike[str],
    *,
    fail_over: float | None = None,
    limit: int = 1000,
) -> SharedImages:
    """Find the images of one table that lie in another: those of val that are in train.

    The tables are those of `imgnorm stats --per-image`, with digests (`--per-image-sha256`). The first is
    held as its digests and names: about 250 bytes an image.

    Args:
        a, b: tables, or the paths of their files. Images of b are looked for in a.
        fail_over: the largest part of b's images (0: none, 0.01: 1 %) that may lie in a without problems
            of severity "error".
        limit: how many of them are named.

    Raises:
        ImgnormError: a table cannot be read.
        IncompatibleStats: a table has no digests.
        ValueError: `fail_over` is below 0, or no number.

    Example:
        >>> table = imgnorm.ImageTable(sha256=True)
        >>> stats = imgnorm.measure("examples/shapes", per_image=table)
        >>> imgnorm.shared_images(table, table, limit=1).pairs
        (('circle/bmp.bmp', 'circle/bmp.bmp'),)
    """
    fail_over = fail_over_of(fail_over)
    known: dict[bytes, str] = {}
    (name_a, rows), (name_b, others) = _digests(a, "a"), _digests(b, "b")
    images = [0, 0]
    for name, digest in rows:
        images[0] += 1
        known.setdefault(digest, name)
    pairs, problems, shared = [], [], 0
    for line, (name, digest) in enumerate(others, 2):  # the first line has the titles
        images[1] += 1
        if digest and digest in known:
            shared += 1
            if shared <= limit:
                pairs.append((known[digest], name))
                message = f"{name} is {known[digest]} in {name_a}, byte for byte"
                problems.append(Problem(name_b, line, 1, "shared", message, severity="info"))
    if fail_over is not None and shared > fail_over * images[1]:
        problems = [replace(problem, severity="error") for problem in problems]
    return SharedImages(
        (name_a, name_b),
        (images[0], images[1]),
        shared,
        tuple(pairs),
        fail_over,
        tuple(problems),
    )


def _digests(
    table: ImageTable | str | os.PathLike[str], name: str
) -> tuple[str, Iterator[tuple[str, bytes]]]:
    """The name of a table, and the name and digest of each image; an empty one of what is no file."""
    if not isinstance(table, ImageTable):
        name = os.fspath(table)
        table = ImageTable.read(name)
    if not table.sha256:
        raise IncompatibleStats(
            f"{name}: has no digests of the files; measure it with --per-image-sha256"
        )
    return name, ((row.name, bytes.fromhex(row.sha256 or "")) for row in table)
