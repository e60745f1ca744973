"""A table with a row for each counted image: `stats --per-image`, and the same from Python.

Rows are in the order of their names, as UTF-8. Their numbers follow from each image's own integers, so they
are the same for any number of workers; the tables of shards join to the bytes of the table of the whole.
"""

from __future__ import annotations

import csv
import heapq
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import IO, Any, NamedTuple

from imgnorm.errors import ImgnormError, IncompatibleStats, MissingDependency, OutputError
from imgnorm.output import WRITTEN_BY, whole_file
from imgnorm.settings import Mode, channels_of, kind_of, scale_of
from imgnorm.stats.stats import Stats
from imgnorm.tally.moments import Moments
from imgnorm.tally.names import digest_of, names_sum
from imgnorm.tally.rows import Row, name_order
from imgnorm.tally.spool import RowSpool
from imgnorm.tally.tally import GRAY, TakeRows

_ClassOf = Callable[[str], str | None]

_ROWS = 1 << 16  # of a row group of Parquet: this limits the memory
_FIXED = ("name", "class", "format", "mode", "width", "height", "bytes", "pixels")
_EACH = ("mean", "std", "min", "max", "share_zero", "share_full")
_SHA256 = "sha256"
_FORMULA = re.compile(r"(\./)*[=+\-@\t\r\n]")
"""How a text begins that a spreadsheet would run as a formula; with "./" in front, which changes no path,
it runs none (https://owasp.org/www-community/attacks/CSV_Injection)."""


class ImageRow(NamedTuple):
    """One counted image. Numbers of channels are tuples, with one for each channel of the measurement.

    Gray images among RGB ones have three equal channels, as the measurement counts them.

    Example:
        >>> table = imgnorm.ImageTable()
        >>> stats = imgnorm.measure("examples/shapes", per_image=table)
        >>> first = next(iter(table))
        >>> first.name, first.width, first.height, first.mode
        ('circle/bmp.bmp', 24, 24, 'RGB')
    """

    name: str  # as in the stats file: a relative path with '/', or a number
    class_: str | None  # the class folder, or the dataset's class; the column `class`
    format: str  # JPEG, PNG, ...; NPY or array for pixels that are no image file
    mode: str  # of the file itself, by Pillow's name: P, CMYK, ...
    width: (
        int  # of the file's image, in pixels: before resizing and cropping, and any EXIF rotation
    )
    height: int
    bytes: int | None  # of the file; None if it is no file of its own
    pixels: int  # counted per channel: after resizing and cropping
    mean: tuple[float, ...]  # in [0, 1]; of float images, in their own unit
    std: tuple[float, ...]  # of the population (correction 0), in the same unit; within 1 ulp
    min: tuple[float, ...]  # raw values: 0 to 255, or 65535; of float images, as they are
    max: tuple[float, ...]
    share_zero: tuple[float, ...]  # of the pixels that are 0, in [0, 1]; () for float images
    share_full: tuple[
        float, ...
    ]  # of the pixels that are 255, or 65535 with 16 bits; () for float images
    sha256: str | None  # of the file, in hexadecimal, if asked for


class ImageTable:
    """A row for each counted image, in the order of their names. It may be read several times.

    Give `measure` an empty one, which is filled; or read one from a file. Rows are kept in a temporary
    file, about 200 bytes each, so that memory does not grow with them.

    Args:
        sha256: with the digest of each image's file.

    Attributes:
        channels: the names of the channels.
        sha256: whether rows have digests.

    Example:
        >>> table = imgnorm.ImageTable()
        >>> stats = imgnorm.measure("examples/shapes", per_image=table)
        >>> darkest = min(table, key=lambda image: sum(image.mean))
        >>> darkest.name
        'circle/jpeg-progressive.jpg'
        >>> table.write("images.csv")
        >>> list(imgnorm.ImageTable.read("images.csv")) == list(table)
        True
    """

    def __init__(self, *, sha256: bool = False) -> None:
        self.sha256 = sha256
        self.channels: tuple[str, ...] = ()
        self._parts: list[Callable[[], Iterable[ImageRow]]] = []  # each in order
        self._counted: list[tuple[RowSpool, _ClassOf]] = []  # by source, while they are measured

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> ImageTable:
        """The table in a file that `write` or `imgnorm stats --per-image` wrote.

        Raises:
            ImgnormError: it cannot be read, or is no such table; while iterating: a row is damaged.
            MissingDependency: it is Parquet, and pyarrow is not installed.
        """
        path = os.fspath(path)
        lines = _kind_of(path).lines
        with _read(path):
            header = next(iter(lines(path)), [])
        channels = tuple(n.removeprefix("mean_") for n in header if n.startswith("mean_"))
        table = cls(sha256=header[-1:] == [_SHA256])
        table.channels = channels
        if header != table._header():
            raise ImgnormError(f"{path}: is not a table that `imgnorm stats --per-image` wrote")
        table._parts = [partial(_rows_of, path, lines, len(channels))]
        return table

    @classmethod
    def joined(cls, tables: Sequence[ImageTable], stats: Stats) -> ImageTable:
        """The table of a whole, from those of its parts.

        Args:
            stats: those of the whole, merged from those of the parts.

        Raises:
            IncompatibleStats: the tables do not belong together; while iterating: they do not have the
                rows of exactly the images that the stats count.
        """
        if len({table.sha256 for table in tables if table.channels}) > 1:
            raise IncompatibleStats("some tables have digests of the files, and others have none")
        whole = cls(sha256=any(table.sha256 for table in tables))
        whole.channels = stats.channels if stats.mode else ()
        gray = channels_of(GRAY[stats.mode]) if stats.mode in GRAY else None
        for table in tables:
            if table.channels not in ((), whole.channels, gray):
                raise IncompatibleStats(
                    f"a table has the channels {', '.join(table.channels)}, and the stats "
                    f"{', '.join(whole.channels)}; name the tables of these stats files"
                )
        parts = [_replicated(table, len(whole.channels)) for table in tables]
        whole._parts = [lambda: _checked(_merged(part() for part in parts), stats)]
        return whole

    def write(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the table to a .csv or .parquet file, whole or not at all.

        In a CSV file, "./" stands before a name or class that a spreadsheet would run as a formula, as
        "=1+1.png": it is the same path. `read` takes it away again.

        Args:
            force: replace a file that exists.

        Raises:
            OutputError: the file cannot be written.
            MissingDependency: it is Parquet, and pyarrow is not installed.
        """
        path = os.fspath(path)
        with whole_file(path, force=force) as file:
            _kind_of(path).write(file, self._header(), map(_flat, self))

    def __iter__(self) -> Iterator[ImageRow]:
        return _merged(part() for part in self._parts)

    def clear(self) -> None:
        """Forget all rows."""
        self._parts, self._counted, self.channels = [], [], ()

    def begin(self, class_of: _ClassOf) -> TakeRows:
        """What takes the rows of one source.

        Args:
            class_of: the class of a name, as the source has it.
        """
        spool = RowSpool()
        self._counted.append((spool, class_of))
        return spool.take

    def finish(self, mode: Mode | None) -> None:
        """All sources are counted; the whole has this mode, or no images."""
        counted, self._counted = self._counted, []
        if mode is not None:
            self.channels = channels_of(mode)
            self._parts = [partial(_in_mode, *one, mode, sha256=self.sha256) for one in counted]

    def _header(self) -> list[str]:
        each = [f"{number}_{channel}" for number in _EACH for channel in self.channels]
        return [*_FIXED, *each, *[_SHA256] * self.sha256]


def is_table(path: str) -> bool:
    """Whether the name of a file is that of a table."""
    return os.path.splitext(path)[1].lower() in _KINDS


def check_table_path(path: str | os.PathLike[str]) -> None:
    """Check, before the work, that a table can be written as the name of its file says.

    Raises:
        OutputError: the name ends in neither .csv nor .parquet.
        MissingDependency: it is Parquet, and pyarrow is not installed.
    """
    if _kind_of(os.fspath(path)) is _PARQUET:
        _pyarrow()


def _in_mode(
    rows: Iterable[Row], class_of: _ClassOf, mode: Mode, *, sha256: bool
) -> Iterator[ImageRow]:
    """The rows that count in a measurement of this mode."""
    kind, channels, scale = kind_of(mode), len(channels_of(mode)), scale_of(mode)
    for row in rows:
        if kind_of(row.mode) != kind:
            continue
        pixels = row.pixels
        if kind == "float":
            moments = Moments(pixels, row.total, row.total_sq, row.unit_bits)
            mean, std = moments.mean(), moments.std()
        else:
            most = pixels * scale
            mean = tuple([total / most for total in row.total])
            # A quotient of integers is rounded once, and its root once more: within 1 ulp.
            std = tuple(
                [
                    math.sqrt((pixels * total_sq - total * total) / (most * most))
                    for total, total_sq in zip(row.total, row.total_sq, strict=True)
                ]
            )
        zero = tuple([count / pixels for count in row.zeros])
        full = tuple([count / pixels for count in row.full])
        each = [mean, std, row.least, row.greatest, zero, full]
        if len(row.total) != channels:  # gray
            each = [one * channels for one in each]
        class_ = class_of(row.name)
        names = name_order(row.name).decode(), class_ and name_order(class_).decode()
        digest = row.file.sha256 if sha256 else None
        yield ImageRow._make((*names, *row.file[:5], pixels, *each, digest))


def _merged(parts: Iterable[Iterable[ImageRow]]) -> Iterator[ImageRow]:
    """In the order of names; those of equal names in an order of their own, whatever the order of the parts."""
    several = [*parts]
    if len(several) == 1:
        yield from several[0]
        return
    rows = heapq.merge(*several, key=lambda row: row.name.encode())
    for _, alike in groupby(rows, key=itemgetter(0)):
        yield from sorted(alike, key=repr)


def _replicated(table: ImageTable, channels: int) -> Callable[[], Iterator[ImageRow]]:
    """The rows of a table, in which gray images have as many channels as the whole."""
    if len(table.channels) == channels:
        return lambda: iter(table)

    def rows() -> Iterator[ImageRow]:
        for row in table:
            yield row._replace(**{name: getattr(row, name) * channels for name in _EACH})

    return rows


def _checked(rows: Iterable[ImageRow], stats: Stats) -> Iterator[ImageRow]:
    total = count = 0
    text = True  # whether all names are as the source has them
    for row in rows:
        total += names_sum([row.name.encode()])
        count += 1
        text = text and "\\x" not in row.name
        yield row
    assert stats.measurement is not None
    same = digest_of(total) == stats.measurement.source.names_sha256 or not text
    if count != stats.images or not same:
        raise IncompatibleStats(
            f"the tables have {count:,} images, and the stats {stats.images:,}"
            + ("" if count != stats.images else " others")
            + "; name one table for each stats file, of the same run"
        )


def _flat(row: ImageRow) -> list[Any]:
    """Its values as columns."""
    shares = row.share_zero + row.share_full or (None,) * (2 * len(row.mean))
    digest = [] if row.sha256 is None else [row.sha256]
    return [*row[:8], *row.mean, *row.std, *row.min, *row.max, *shares, *digest]


def _row(values: Sequence[Any], channels: int) -> ImageRow:
    """The row in a line."""
    numbers = values[8 : 8 + 6 * channels]
    each = [tuple(numbers[i : i + channels]) for i in range(0, 6 * channels, channels)]
    shares = [() if one[:1] == (None,) else one for one in each[4:]]
    digest = values[8 + 6 * channels] if len(values) > 8 + 6 * channels else None
    return ImageRow._make([*values[:8], *each[:4], *shares, digest])


def _rows_of(path: str, lines: _Lines, channels: int) -> Iterator[ImageRow]:
    with _read(path):
        for values in islice(lines(path), 1, None):
            yield _row(values, channels)


@contextmanager
def _read(path: str) -> Iterator[None]:
    """Errors of what reads a table, in our words."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ImgnormError(f"{path}: cannot be read ({reason})") from error
    except (ValueError, TypeError, IndexError, csv.Error) as error:  # pyarrow's are ValueErrors
        raise ImgnormError(f"{path}: is damaged, or no table of images ({error})") from error


_Lines = Callable[[str], Iterator[Sequence[Any]]]
"""A path -> the header, then the values of each row."""


class _Kind(NamedTuple):
    """How a table lies in a file."""

    write: Callable[[IO[bytes], Sequence[str], Iterable[Sequence[Any]]], None]
    lines: _Lines


def _kind_of(path: str) -> _Kind:
    ending = os.path.splitext(path)[1].lower()
    if ending not in _KINDS:
        raise OutputError(f"{path}: a table of images is a .csv or a .parquet file; name one")
    return _KINDS[ending]


def _write_csv(file: IO[bytes], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    for name, class_, *others in rows:
        # Before Python 3.13, only a character of the line's end has a text quoted.
        line = quoting if "\r" in name else writer
        line.writerow((_harmless(name), class_ and _harmless(class_), *others))
    text.detach()


def _harmless(text: str) -> str:
    return f"./{text}" if _FORMULA.match(text) else text


def _lines_of_csv(path: str) -> Iterator[Sequence[Any]]:
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        yield header
        numbers = [name not in ("name", "class", "format", "mode", _SHA256) for name in header]
        for line in reader:
            cells = zip(line, numbers, strict=True)
            values = [_number(text) if number else text or None for text, number in cells]
            for place in (0, 1):
                text = values[place]
                if isinstance(text, str) and text.startswith("./") and _FORMULA.match(text):
                    values[place] = text[2:]
            yield values


def _number(text: str) -> float | None:
    if not text:
        return None
    return int(text) if text.isdecimal() else float(text)


def _write_parquet(file: IO[bytes], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    arrow, parquet = _pyarrow()
    whole = iter(rows)
    first = list(islice(whole, _ROWS))
    shares = [place for place, name in enumerate(header) if name.startswith("share_")]
    floats = bool(first) and first[0][shares[0]] is None
    texts = {"name", "class", "format", "mode", _SHA256}

    def type_of(name: str) -> Any:
        if name in texts:
            return arrow.string()
        real = name.startswith(("mean_", "std_", "share_"))
        real = real or (floats and name.startswith(("min_", "max_")))
        return arrow.float64() if real else arrow.int64()

    mark = {"written_by": WRITTEN_BY}
    schema = arrow.schema([(name, type_of(name)) for name in header], metadata=mark)
    with parquet.ParquetWriter(file, schema) as writer:
        while first:
            columns = zip(*first, strict=True)
            arrays = [
                arrow.array(column, field.type)
                for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            first = list(islice(whole, _ROWS))


def _lines_of_parquet(path: str) -> Iterator[Sequence[Any]]:
    _, parquet = _pyarrow()
    with parquet.ParquetFile(path) as file:
        yield file.schema_arrow.names
        for batch in file.iter_batches(1 << 12):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependency(
            "Parquet files need pyarrow, which is not installed; install it with `pip install pyarrow`, or "
            "write a .csv file"
        ) from error
    return pyarrow, parquet


_PARQUET = _Kind(_write_parquet, _lines_of_parquet)
_KINDS = {".csv": _Kind(_write_csv, _lines_of_csv), ".parquet": _PARQUET}
