"""Reading and writing stats files, and merging them.

A file is written whole or not at all. Reading takes the integers of a file, computes the stats that
follow from them, and refuses the file if any other number in it differs from those.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from imgnorm.documents.document import STATS_LIMITS, Document
from imgnorm.documents.kinds import check
from imgnorm.documents.writer import values_in
from imgnorm.errors import ImgnormError, InvalidDocument, OutputError, SourceError
from imgnorm.output import write_whole
from imgnorm.stats.faults import derived_problems, file_problems
from imgnorm.stats.format import STATS, STATS_FORMAT, document_of, read_content, record_of, text_of
from imgnorm.stats.stats import Stats, merge

_TABLE, _REPORT = "a table of images", "a report"
_OTHER_RESULTS = {".csv": _TABLE, ".parquet": _TABLE, ".html": _REPORT, ".htm": _REPORT}


def write_stats(path: str | os.PathLike[str], stats: Stats, *, force: bool = True) -> None:
    """Write a stats file, whole or not at all.

    The same stats give the same bytes.

    Args:
        force: replace an existing file.

    Raises:
        OutputError: it cannot be written, or it exists and `force` is false.

    Example:
        >>> stats = imgnorm.measure("examples/shapes")
        >>> imgnorm.write_stats("stats.yaml", stats)
        >>> imgnorm.read_stats("stats.yaml") == stats
        True
    """
    content = document_of(stats)
    data = text_of(stats, content).encode()
    file = os.fspath(path)
    sizes = (
        (len(data), STATS_LIMITS.max_bytes, "bytes"),
        (values_in(content), STATS_LIMITS.max_nodes, "values"),
    )
    for size, most, of_what in sizes:
        if size > most:
            measured = stats.measurement
            named = measured and any(one.names is not None for one in measured.source.sources)
            advice = (
                "leave the names out: stats without --keep-names, merge with --drop-names"
                if named
                else "fix or remove the skipped images, which it lists, or leave --per-class out"
            )
            raise OutputError(
                f"{file}: would take {size:,} {of_what}, but a stats file has at most {most:,}; {advice}"
            )
    write_whole(file, data, force=force)


def read_stats(path: str | os.PathLike[str]) -> Stats:
    """Read a stats file, or constants: a file with only `format`, `mean` and `std`.

    Raises:
        SourceError: the file does not exist, cannot be read, or is a table of images or a report by its name.
        InvalidDocument: it is not a stats file, or its numbers do not follow from its integers.

    Example:
        >>> from pathlib import Path
        >>> text = "format: imgnorm-stats/1\\nmean: [0.5, 0.4, 0.3]\\nstd: [0.25, 0.2, 0.15]\\n"
        >>> _ = Path("constants.yaml").write_text(text)
        >>> stats = imgnorm.read_stats("constants.yaml")
        >>> stats.mean, stats.measurement
        ((0.5, 0.4, 0.3), None)
    """
    from imgnorm.documents.reader import read_document  # here, because writing does not need PyYAML

    try:
        return stats_in(read_document(path, STATS_LIMITS, STATS))
    except InvalidDocument as error:
        file = os.fspath(path)
        if what := _OTHER_RESULTS.get(os.path.splitext(file)[1].lower()):
            raise SourceError(
                f"{file}: is {what}, not a stats file; name the stats file"
            ) from error
        raise


def parse_stats(data: bytes, file: str) -> Stats:
    """Like `read_stats`, from bytes; `file` is their name in problems."""
    from imgnorm.documents.reader import parse

    return stats_in(parse(data, file, STATS_LIMITS, STATS))


def merge_files(paths: Sequence[str | os.PathLike[str]], **allowed: bool) -> Stats:
    """`merge` of stats files. They are read one after the other, so memory does not grow with them.

    Args:
        allowed: the options of `merge`.

    Raises:
        ImgnormError: files cannot be read (the message lists all of these), or do not belong together.
    """
    labels = [os.fspath(path) for path in paths]
    return merge(_each_read(labels), labels=labels, **allowed)


def stats_in(document: Document) -> Stats:
    """The stats in a document that was read from a stats file.

    Raises:
        InvalidDocument: it is not a stats file, or its numbers do not follow from its integers.
    """
    _refuse_a_config(document)
    check(document, record_of(document.value))
    problems = file_problems(document)
    if not problems:
        measurement, given = read_content(document.value)
        stats = Stats.of(measurement, **given) if measurement else Stats(**given)
        if stats.measurement:
            rounded = stats.measurement.rounded_std() if stats.images else ()
            older: dict[tuple[str | int, ...], float] = {
                ("conventions", "image_weighted", "std", i): one for i, one in enumerate(rounded)
            }
            problems = derived_problems(document, document_of(stats), older)
    if problems:
        raise InvalidDocument(problems)
    return stats


def _each_read(paths: Sequence[str]) -> Iterator[Stats]:
    faults: list[str] = []
    for path in paths:
        try:
            stats = read_stats(path)
        except ImgnormError as error:
            faults.append(str(error))
        else:
            if not faults:  # files after a fault are only read to report their faults
                yield stats
    if faults:
        raise ImgnormError("\n".join(faults))


def _refuse_a_config(document: Document) -> None:
    """One problem for a pipeline config, instead of one for each of its keys.

    Raises:
        InvalidDocument: the document is a pipeline config.
    """
    value = document.value
    given = value.get("format") if isinstance(value, dict) else None
    if not isinstance(given, str) or not given.startswith("imgnorm-pipeline/"):
        return
    normalize = value.get("normalize")
    named = normalize.get("stats") if isinstance(normalize, dict) else None
    message = f"expected {STATS_FORMAT!r}; got {given!r}, a pipeline config"
    hint = f"measure it with `imgnorm stats {document.file} -o stats.yaml`, and give that file"
    if isinstance(named, str):
        path = os.path.normpath(os.path.join(os.path.dirname(document.file), named))
        hint = f"give the stats file that it names, {path}"
    raise InvalidDocument([document.problem(("format",), "wrong-value", message, hint)])
