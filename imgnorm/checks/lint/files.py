"""Which files are read, and by which reader."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from imgnorm.checks.lint.data import json_pairs, toml_pairs, yaml_pairs
from imgnorm.checks.lint.pair import Pair
from imgnorm.checks.lint.python import pairs_in
from imgnorm.checks.lint.text import markdown_pairs, notebook_pairs, rst_pairs, shell_pairs
from imgnorm.constants.findings import Order
from imgnorm.documents.document import open_at_once
from imgnorm.errors import SourceError

MAX_BYTES = 1 << 20  # of one file; configs and source code are smaller
_MAX_NOTEBOOK = 16 << 20  # with its outputs, which are not looked at

_READERS: dict[str, Callable[[bytes, str], list[Pair]]] = {
    ".py": pairs_in,
    ".yaml": yaml_pairs,
    ".yml": yaml_pairs,
    ".json": json_pairs,
    ".toml": toml_pairs,
    ".ipynb": notebook_pairs,
    ".md": markdown_pairs,
    ".rst": rst_pairs,
    ".sh": shell_pairs,
}
_NOT_ENTERED = {
    "__pycache__", "node_modules", "site-packages", "venv", ".git", ".hg", ".svn", ".tox", ".nox",
    ".cache", ".eggs", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints",
}  # fmt: skip

# Most files are neither about images nor about numbers, and parsing takes most of the time.
_NUMBER_NEAR = rb"[\s\S]{0,80}?(?:\.\d|[\[(]\s*\d+\s*,\s*\d|-\s+\d|[:=]\s*\d)"
_NORMALIZES = re.compile(rb"(?i:normaliz)" + _NUMBER_NEAR + rb"|\d?\.\d+,\s*\d?\.\d+,\s*\d?\.\d+")
_MEANS = re.compile(rb"(?i:mean|\bmu|offset|subtrahend)" + _NUMBER_NEAR)
_STDS = re.compile(rb"(?i:std|sigma|scale|divisor|\bvar|norm_val)" + _NUMBER_NEAR)

_WRITTEN_FOR = re.compile(
    rb"[Ww]ritten by imgnorm for (\S+) images, (?:values in 0\.\.(\d+)|float values as they are)\."
)


def _is_worth_reading(data: bytes) -> bool:
    """Whether a name of a mean and one of a std have a number behind them, or decimals stand in a row."""
    return bool(_NORMALIZES.search(data) or (_MEANS.search(data) and _STDS.search(data)))


def pairs_of(data: bytes, file: str) -> list[Pair]:
    """Every mean with its std in a file.

    Raises:
        InvalidDocument: it is one of imgnorm's own files, and has faults.
        ValueError: the file is not what its extension says, or beyond the limits.
    """
    if not _is_worth_reading(data):
        return []
    pairs = _READERS[os.path.splitext(file)[1].lower()](data, file)
    said = {found.groups() for found in _WRITTEN_FOR.finditer(data)}
    return [_as_written(pair, *next(iter(said))) for pair in pairs] if len(said) == 1 else pairs


def _as_written(pair: Pair, order: bytes, largest: bytes | None) -> Pair:
    """With what `emit --to` wrote into the file, where its framework leaves the unit or the order open."""
    orders: dict[bytes, Order] = {b"RGB": "RGB", b"BGR": "BGR"}
    stated = orders.get(order)
    as_opencv: Order | None = "BGR" if pair.framework == "mmengine" and stated else None
    taken = pair.order or as_opencv or stated
    pair = replace(pair, order=taken, stated=stated if taken != stated else None)
    if largest is None:  # floats can be anything
        return replace(pair, pixels=False, unit=None)
    unit = float(largest)
    if pair.framework == "albumentations" and pair.unit is None:
        return replace(pair, pixels=True, unit=255.0)  # another max_pixel_value than that of `emit`
    as_read = pair.unit == 255 < unit  # a framework that divides nothing, and 16-bit images
    return replace(pair, pixels=True, unit=unit if pair.unit is None or as_read else pair.unit)


def content_of(file: str) -> bytes:
    """
    Raises:
        ValueError: the file cannot be read, or is too large.
    """
    most = _MAX_NOTEBOOK if file.lower().endswith(".ipynb") else MAX_BYTES
    try:
        with open(file, "rb", opener=open_at_once) as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise ValueError(f"cannot be read ({os.strerror(error.errno or 0).lower()})") from error
    if len(data) > most:
        raise ValueError(f"larger than {most:,} bytes")
    return data


def files_in(paths: Sequence[str]) -> Iterator[str]:
    """Every file that can hold numbers, once: of a folder all that are in it, in the order of their names.

    Raises:
        SourceError: a path does not exist, cannot be read, or is a folder without any file to read.
    """
    found: dict[str, None] = {}
    for path in paths:
        found.update(dict.fromkeys(_below(path) if _is_folder(path) else [_known(path)]))
    return iter(found)


def reads(path: str) -> bool:
    """Whether lint reads files with this extension."""
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
        raise SourceError(
            f"{root}: no file in it that lint reads ({', '.join(_READERS)}); check the path"
        )
    return sorted(found)


def _entered(entry: os.DirEntry[str]) -> bool:
    """Hidden folders can hold configs: `.github`, `.mim/configs` of OpenMMLab's wheels."""
    return entry.name not in _NOT_ENTERED and not entry.name.startswith(".venv")
