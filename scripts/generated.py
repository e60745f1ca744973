"""A folder that is generated while it is walked, to measure what a scan costs beside reading and decoding."""

import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from io import BytesIO
from types import SimpleNamespace
from typing import Any, NamedTuple
from zlib import crc32

from PIL import Image

from imgnorm.sources import folder
from imgnorm.sources.folder import FolderSource
from imgnorm.sources.source import Ignored, Unit
from imgnorm.tally.skipped import Skipped

MOST_IN_A_FOLDER = 100_000
ROOT = "generated"


class GeneratedSource(FolderSource):
    """This many images of one pixel each, which need no decoding, in folders of at most 100,000."""

    def __init__(self, count: int) -> None:
        super().__init__(ROOT)
        self.count = count

    def units(self) -> Iterator[Unit | Skipped | Ignored]:
        folder.os = _System(self.count)  # type: ignore[assignment,attr-defined]
        yield from super().units()

    def read(self, name: str) -> Any:
        return _PIXEL


class GeneratedFiles(GeneratedSource):
    """The same names, of small JPEGs of 64 sizes and brightnesses."""

    def read(self, name: str) -> bytes:
        return _files()[crc32(name.encode()) % _FILES]


@cache
def _files() -> list[bytes]:
    found = []
    for number in range(_FILES):
        image = Image.effect_noise((16 + number, 20 + 2 * number), 5 + number).convert("RGB")
        file = BytesIO()
        image.point(lambda value, number=number: value * (64 + number) // 128).save(file, "JPEG")
        found.append(file.getvalue())
    return found


class _System(SimpleNamespace):
    """The module `os`, for the walk of the generated folder."""

    def __init__(self, count: int) -> None:
        super().__init__(sep="/", path=os.path, count=count)

    def stat(self, path: str) -> SimpleNamespace:
        return SimpleNamespace(st_dev=1, st_ino=hash(path), st_mode=stat.S_IFDIR)

    def scandir(self, path: str) -> "nullcontext[Iterator[_Entry]]":
        folders = -(-self.count // MOST_IN_A_FOLDER)
        if path == ROOT:
            return nullcontext(_Entry(f"class-{i}", True) for i in range(folders))
        first = int(path.rpartition("-")[2]) * MOST_IN_A_FOLDER
        last = min(first + MOST_IN_A_FOLDER, self.count)
        return nullcontext(_Entry(f"{i:09}.jpg", False) for i in range(last - 1, first - 1, -1))


class _Entry(NamedTuple):
    """What scandir gives."""

    name: str
    folder: bool

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return not self.folder

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self.folder

    def is_symlink(self) -> bool:
        return False


_PIXEL = Image.new("RGB", (1, 1))
_FILES = 64
