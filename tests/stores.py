"""A source of one's own, as a user writes it: encoded images in a SQLite database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import imgnorm

RUN = 5


class Database(imgnorm.Source):
    """The table `images`, with columns `name` and `file`."""

    kind = "sqlite"
    in_order = True  # TEXT is compared as bytes

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.ref = os.path.basename(self.path)
        self.database: sqlite3.Connection | None = None

    def open(self) -> None:
        self.database = sqlite3.connect(self.path)

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "database": None}

    def units(self) -> Iterator[imgnorm.Unit]:
        assert self.database
        rows = self.database.execute("SELECT name FROM images ORDER BY name")
        names = (name for (name,) in rows)
        while run := list(islice(names, RUN)):
            yield imgnorm.Unit(run[0], names=run)

    def read(self, name: str) -> bytes:
        assert self.database
        found = self.database.execute("SELECT file FROM images WHERE name = ?", [name]).fetchone()
        if found is None:
            raise imgnorm.Unreadable(imgnorm.Reason.VANISHED, "no such row")
        return found[0]

    def class_of(self, name: str) -> str | None:
        return name.partition("/")[0]


def database_of(folder: Path, path: Path) -> Path:
    """All files of a folder of classes, in a database."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE images (name TEXT PRIMARY KEY, file BLOB)")
        rows = [
            (file.relative_to(folder).as_posix(), file.read_bytes()) for file in folder.glob("*/*")
        ]
        database.executemany("INSERT INTO images VALUES (?, ?)", rows)
    return path
