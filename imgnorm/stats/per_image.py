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
from collections import Counter
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
from imgnorm.wording import shown

_ClassOf = Callable[[str], str | None]
_IsRight = Callable[[Any], bool]

_ROWS = 1 << 16  # of a row group of Parquet: this limits the memory
_FIXED = ("name", "class", "format", "mode", "width", "height", "bytes", "pixels")
_EACH = ("mean", "std", "min", "max", "share_zero", "share_full")
_SHA256 = "sha256"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEXTS = ("name", "class", "format", "mode", _SHA256)
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
    width: int  # of the file's image, in pixels: before resizing, cropping and any EXIF rotation
    height: int
    bytes: int | None  # of the file; None if it is no file of its own
    pixels: int  # counted per channel: after resizing and cropping
    mean: tuple[float, ...]  # in [0, 1]; of float images, in their own unit
    std: tuple[float, ...]  # of the population (correction 0), in the same unit; within 1 ulp
    min: tuple[float, ...]  # raw values: 0 to 255, or 65535; of float images, as they are
    max: tuple[float, ...]
    share_zero: tuple[float, ...]  # of the pixels that are 0, in [0, 1]; () for float images
    share_full: tuple[float, ...]  # of those that are 255, or 65535 with 16 bits; () for floats
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
            _, header = next(iter(lines(path)), (1, []))
        channels = tuple(n.removeprefix("mean_") for n in header if n.startswith("mean_"))
        table = cls(sha256=header[-1:] == [_SHA256])
        table.channels = channels
        if header != table._header():
            raise ImgnormError(f"{path}: is not a table that `imgnorm stats --per-image` wrote")
        table._parts = [partial(_rows_of, path, lines, header, len(channels))]
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

    def _header(self) -> list[str]:
        each = [f"{number}_{channel}" for number in _EACH for channel in self.channels]
        return [*_FIXED, *each, *[_SHA256] * self.sha256]


class Filling:
    """Rows on their way into a table, which gets them when all sources are counted."""

    def __init__(self, table: ImageTable) -> None:
        self._table = table
        self._counted: list[tuple[RowSpool, _ClassOf]] = []  # by source

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
        table = self._table
        table.channels = channels_of(mode) if mode else ()
        table._parts = [
            partial(_in_mode, *one, mode, sha256=table.sha256) for one in self._counted if mode
        ]


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
    """The rows, if they are those of the images that the stats count."""
    found = _Sums(stats)
    for row in rows:
        found.add(row)
        yield row
    if found.images != stats.images or not found.same_names:
        raise IncompatibleStats(
            f"the tables have {found.images:,} images, and the stats {stats.images:,}"
            + ("" if found.images != stats.images else " others")
            + "; name one table for each stats file, of the same run"
        )
    if unlike := found.unlike():
        raise IncompatibleStats(
            f"the tables have the names of the stats, and other {', '.join(unlike)}; name one table for each "
            "stats file, of the same run"
        )


class _Sums:
    """What rows say of all images together, beside what the stats say. Integers, so both are equal."""

    def __init__(self, stats: Stats) -> None:
        assert stats.measurement is not None
        self._stats, self._measured = stats, stats.measurement
        self._scale = scale_of(stats.mode) if stats.mode and self._measured.histogram else 0
        self._names = self.images = self._pixels = 0
        self._text = True  # whether all names are as the source has them
        self._kinds: Counter[tuple[Any, ...]] = Counter()  # class, format and mode
        self._least: tuple[float, ...] = ()
        self._greatest: tuple[float, ...] = ()
        self._totals = [0] * len(stats.channels)
        self._ends = [[0, 0] for _ in stats.channels]  # pixels of the least and the greatest value

    def add(self, row: ImageRow) -> None:
        self.images += 1
        self._names += names_sum([row.name.encode()])
        self._text = self._text and "\\x" not in row.name
        self._pixels += row.pixels
        self._kinds[row[1:4]] += 1
        self._least = tuple(map(min, self._least or row.min, row.min))
        self._greatest = tuple(map(max, self._greatest or row.max, row.max))
        if self._scale:
            shares = zip(row.mean, row.share_zero, row.share_full, strict=True)
            for place, (mean, zero, full) in enumerate(shares):
                # Quotients of integers below 2**51, times the divisor, are nearest to the dividend.
                self._totals[place] += round(mean * (row.pixels * self._scale))
                self._ends[place][0] += round(zero * row.pixels)
                self._ends[place][1] += round(full * row.pixels)

    @property
    def same_names(self) -> bool:
        return digest_of(self._names) == self._measured.source.names_sha256 or not self._text

    def unlike(self) -> list[str]:
        """The numbers that are not those of the stats."""
        if not self.images:
            return []
        stats, measured = self._stats, self._measured
        pixels = measured.pixels.moments()
        pairs: dict[str, tuple[Any, Any]] = {
            "pixels": (self._pixels, pixels.count),
            "minima": (self._least, stats.min),
            "maxima": (self._greatest, stats.max),
            "formats": (self._counts_of(1), measured.formats),
            "modes": (self._counts_of(2), measured.modes),
        }
        if measured.histogram:
            counts = measured.histogram.counts
            pairs["means"] = tuple(self._totals), pixels.total
            pairs["shares"] = self._ends, [[one[0], one[-1]] for one in counts]
        if self._text:
            classes = {name: one.images for name, one in measured.classes.items() if name}
            pairs["classes"] = self._counts_of(0), classes
        return [name for name, (found, expected) in pairs.items() if found != expected]

    def _counts_of(self, place: int) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for kind, images in self._kinds.items():
            if kind[place]:
                counts[kind[place]] += images
        return counts


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


def _rows_of(path: str, lines: _Lines, header: Sequence[str], channels: int) -> Iterator[ImageRow]:
    rules = [(column, *_EXPECTED[column.partition("_")[0]]) for column in header]
    with _read(path):
        for line, values in islice(lines(path), 1, None):
            fault = _fault(rules, values)
            if not fault:
                row = _row(values, channels)
                fault = _unordered(row)
            if fault:
                raise ImgnormError(
                    f"{path}:{line}: {fault}; write the table again, or leave it out"
                )
            yield row


def _fault(rules: Sequence[tuple[str, _IsRight, str]], values: Sequence[Any]) -> str | None:
    """What is wrong with a line, value by value.

    Args:
        rules: for each column its name, and the two that `_EXPECTED` has.
    """
    if len(values) != len(rules):
        return f"has {len(values)} columns; expected {len(rules)}"
    for (column, is_right, expected), value in zip(rules, values, strict=True):
        if not is_right(value):
            is_ = "empty" if value is None else shown(str(value))
            return f"{column} is {is_}; expected {expected}"
    return None


def _unordered(row: ImageRow) -> str | None:
    """What is wrong with a row whose values are right, each by itself."""
    if len(row.share_zero) != len(row.share_full) or None in row.share_zero + row.share_full:
        return "some shares are empty, and others are not"
    scales = (255, 65535) if row.share_zero else (1,)
    if not any(_within(row, scale) for scale in scales):
        return "a mean or std is not that of values from min to max"
    return None


def _within(row: ImageRow, scale: int) -> bool:
    """Whether values from min to max, of which `scale` is 1.0, can have these means and stds."""
    for mean, std, least, greatest in zip(row.mean, row.std, row.min, row.max, strict=True):
        rounding = 1e-6 * max(1, abs(least), abs(greatest))
        far = (greatest - least) / 2 + rounding
        if not (least - rounding <= mean * scale <= greatest + rounding and std * scale <= far):
            return False
    return scale == 1 or (min(row.min) >= 0 and max(row.max) <= scale)


def _is_real(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_whole(value: object, least: int = 1) -> bool:
    return type(value) is int and least <= value < 1 << 63


_TEXT = (lambda value: type(value) is str and value != "", "a text")
_WHOLE = (_is_whole, "a whole number above 0")
_REAL = (_is_real, "a number")
_EXPECTED: dict[str, tuple[_IsRight, str]] = {
    **dict.fromkeys(("name", "format", "mode"), _TEXT),
    "class": (lambda value: value is None or type(value) is str, "a text"),
    **dict.fromkeys(("width", "height", "pixels"), _WHOLE),
    "bytes": (lambda value: value is None or _is_whole(value, 0), "a whole number"),
    **dict.fromkeys(("mean", "min", "max"), _REAL),
    "std": (lambda value: _is_real(value) and value >= 0, "a number from 0 on"),
    "share": (
        lambda value: value is None or (_is_real(value) and 0 <= value <= 1),
        "a number from 0 to 1",
    ),
    _SHA256: (
        lambda value: type(value) is str and bool(_DIGEST.fullmatch(value)),
        "64 hexadecimal digits",
    ),
}
"""How a column's name begins -> what its values are."""


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


_Lines = Callable[[str], Iterator[tuple[int, Sequence[Any]]]]
"""A path -> the header, then the values of each row; with the numbers of their lines, from 1 on."""


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


def _lines_of_csv(path: str) -> Iterator[tuple[int, Sequence[Any]]]:
    with open(path, encoding="utf-8-sig", newline="") as file:  # Excel writes a mark at the start
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        yield 1, header
        texts = [name in _TEXTS for name in header]
        for line in reader:
            cells = zip(line, texts, strict=False)
            values = [text or None if is_text else _number(text) for text, is_text in cells]
            for place, text in enumerate(values[:2]):
                if isinstance(text, str) and text.startswith("./") and _FORMULA.match(text):
                    values[place] = text[2:]
            yield reader.line_num, values + line[len(values) :]


def _number(text: str) -> float | str | None:
    """A text that is none stays as it is."""
    try:
        return (int(text) if text.isdecimal() else float(text)) if text else None
    except ValueError:
        return text


def _write_parquet(file: IO[bytes], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    arrow, parquet = _pyarrow()
    whole = iter(rows)
    first = list(islice(whole, _ROWS))
    shares = [place for place, name in enumerate(header) if name.startswith("share_")]
    floats = bool(first) and first[0][shares[0]] is None

    def type_of(name: str) -> Any:
        if name in _TEXTS:
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


def _lines_of_parquet(path: str) -> Iterator[tuple[int, Sequence[Any]]]:
    _, parquet = _pyarrow()
    with parquet.ParquetFile(path) as file:
        yield 1, file.schema_arrow.names
        batches = file.iter_batches(1 << 12)
        columns = ((column.to_pylist() for column in batch.columns) for batch in batches)
        rows = (row for batch in columns for row in zip(*batch, strict=True))
        yield from enumerate(rows, 2)


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
