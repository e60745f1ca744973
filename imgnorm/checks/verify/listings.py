"""The sources of a stats file as they are now, and whether they hold the same names as then."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from imgnorm.checks.verify.findings import Findings, Request, faults_of, some_of
from imgnorm.documents.document import Path
from imgnorm.errors import IncompatibleStats, SourceError
from imgnorm.measuring.measure import call_facts
from imgnorm.measuring.opening import (
    names_a_config,
    open_again,
    open_named,
    open_source,
    patterns_of,
    ref_now,
    source_of,
    with_frames,
)
from imgnorm.measuring.routes import check_options
from imgnorm.measuring.selection import spread
from imgnorm.pipeline.config import SOURCE_KINDS, read_pipeline
from imgnorm.sources.filelist import STANDARD_INPUT
from imgnorm.sources.listing import AllNames, Catalogue, all_names_of, names_sum_of
from imgnorm.sources.names import as_text, name_bytes
from imgnorm.sources.source import Source
from imgnorm.stats.measurement import Measurement
from imgnorm.stats.provenance import Provenance
from imgnorm.tally.names import digest_of, names_in
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.wording import printable


@dataclass(frozen=True)
class Part:
    """One source of the file, as it is now; of shards, their units only."""

    origin: Provenance
    source: Source
    names: AllNames
    counted: Sequence[int]  # indices in `names`: within the limit, and not skipped then
    skipped: Sequence[Skipped]  # what the listing itself finds to be unreadable


def listed(
    request: Request, origin: Provenance, source: str | os.PathLike[str] | Source | None
) -> Part:
    """What a source of the file holds now.

    Raises:
        SourceError: it does not exist, or cannot be read.
        IncompatibleStats: it cannot be compared with the file.
    """
    if source is not None and request.measured.source.parts:
        raise IncompatibleStats(
            f"{request.file}: was merged from {len(request.measured.source.parts):,} sources, which one SOURCE "
            "cannot replace; leave SOURCE out, or verify the files that were merged"
        )
    opened = with_frames(_opened(request, origin, source), request.settings)
    check_options(opened, call_facts(opened, timeout_s=request.timeout_s))
    opened.open()
    shards = (origin.shards.total, origin.shards.counted) if origin.shards else ()
    names = AllNames(Catalogue(opened, *shards))
    counted, skipped = _within_limit(opened, origin, names)
    skipped_then = {
        s.name for s in request.measured.skipped if s.reason is not Reason.DUPLICATE_NAME
    }
    if skipped_then:
        counted = [i for i in counted if as_text(names.name(i)) not in skipped_then]
    return Part(origin, opened, names, counted, skipped)


def compare_names(findings: Findings, measured: Measurement, part: Part, index: int | None) -> None:
    """Find names that came or went, and images that the listing itself skips: dangling links, for example.

    Args:
        index: the part's place in the file; None if the file has one source.
    """
    path: Path = ("source",) if index is None else ("source", "parts", index)
    if digest_of(names_sum_of(part.names.units)) != part.origin.listing_sha256:
        message = f"listing changed: {_counts_of(part)}"
        named = _kept_change(part)
        if index is None:
            named += _class_changes(measured, part)
        message += "".join(f"; {one}" for one in named)
        hint = findings.remedy
        if part.origin.names is None:
            hint += "; with --keep-names, verify lists the names that come and go"
        findings.add((*path, "listing_sha256"), "names", message, hint=hint)
    known = {s.name for s in measured.skipped}
    fresh = [s for s in part.skipped if as_text(s.name) not in known]
    if fresh:
        fresh.sort(key=lambda one: name_bytes(one.name))
        findings.add(("skipped",), "skipped", f"found now, but unreadable: {faults_of(fresh)}")


def _within_limit(
    source: Source, origin: Provenance, names: AllNames
) -> tuple[Sequence[int], Sequence[Skipped]]:
    """What the file should count by its limit, and what its listing should have skipped.

    A limit spreads over the names of all shards, and then the first shard has all that is skipped.
    """
    limit = origin.options.get("limit")
    if not isinstance(limit, int):
        return range(len(names)), names.skipped
    if origin.shards is None:
        return [*spread(len(names), limit)], names.skipped
    everything = all_names_of(source)
    chosen = {everything.name(i) for i in spread(len(everything), limit)}
    counted = [i for i, name in enumerate(names) if name in chosen]
    return counted, everything.skipped if 1 in origin.shards.counted else ()


def _opened(
    request: Request, origin: Provenance, source: str | os.PathLike[str] | Source | None
) -> Source:
    root, split = request.root, str(origin.options.get("split", "train"))
    if source is None:
        return _named_by_the_file(request, origin)
    if not isinstance(source, (str, os.PathLike)):
        key = origin.options.get("key")
        assert not isinstance(key, tuple)
        opened = open_source(source, key=key, layout=request.layout)
        if opened.once:
            raise IncompatibleStats(
                f"{request.file}: a stream without names cannot be compared with it; measure it again"
            )
        return opened
    path = os.fspath(source)
    if names_a_config(path):
        if request.layout is not None:
            raise SourceError(f"--layout: {path} says it; change it there, or leave --layout out")
        return source_of(read_pipeline(path))
    listed = origin.kind == "list" and os.path.isfile(path)
    return open_named(
        path,
        listed=listed,
        root=root,
        split=split,
        layout=request.layout,
        patterns=patterns_of(origin),
    )


def _named_by_the_file(request: Request, origin: Provenance) -> Source:
    ref = ref_now(origin)
    if origin.kind not in SOURCE_KINDS and not os.path.exists(ref):
        raise IncompatibleStats(
            f"{request.file}: was measured from a source of kind {origin.kind!r}, which cannot be opened by "
            "its name; call imgnorm.verify with the source itself"
        )
    if origin.kind == "list" and ref == STANDARD_INPUT:
        raise IncompatibleStats(
            f"{request.file}: was measured from a list on standard input, which is gone; write that list to a "
            "file in the folder where it was measured, and name it: `imgnorm verify FILE LIST`"
        )
    try:
        return open_again(origin, root=request.root, layout=request.layout)
    except SourceError as error:
        raise SourceError(
            f"{error}\n    {request.file} was measured from this source; go to the folder where its path is "
            "right, or name the source as it is called here: `imgnorm verify FILE SOURCE`"
        ) from error


def _counts_of(part: Part) -> str:
    now, then = len(part.counted), part.origin.images
    if now == then:
        return f"{now:,} names as then, but not the same ones"
    return f"{now:,} names now, {then:,} then"


def _kept_change(part: Part) -> list[str]:
    """The names that came and went, if the file keeps its names (`--keep-names`)."""
    origin = part.origin
    if origin.names is None:
        return []
    kept = set(names_in(origin.names))
    # An image that is in another shard now is not gone.
    everything = part.names
    if origin.shards:
        everything = all_names_of(part.source)
    gone = kept.difference(map(name_bytes, everything))
    # With shards or a limit, a name that the file does not count may have existed then, too.
    all_kept = not origin.shards and "limit" not in origin.options
    found = map(part.names.name, part.counted if all_kept else ())
    fresh = [name for name in found if name_bytes(name) not in kept]
    return [
        f"{what}: {some_of([repr(printable(name)) for name in names])}"
        for what, names in (("new", fresh), ("gone", sorted(map(os.fsdecode, gone))))
        if names
    ]


def _class_changes(measured: Measurement, part: Part) -> list[str]:
    groups = map(part.source.class_of, map(part.names.name, part.counted))
    now = Counter(as_text(group) for group in groups if group is not None)
    then = {name: one.images for name, one in measured.classes.items()}
    changed = [
        f"{printable(name)} {now[name]:,} now, {then.get(name, 0):,} then"
        for name in sorted({*now, *then})
        if now[name] != then.get(name, 0)
    ]
    return [f"classes: {some_of(changed)}"] if changed else []
