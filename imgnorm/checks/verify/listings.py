"""The sources of a stats file as they are now, and whether they hold the same names as then."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from imgnorm.checks.verify.findings import Findings, Request, faults_of, some_of
from imgnorm.datasets.source import StreamingSource
from imgnorm.documents.document import Path
from imgnorm.errors import IncompatibleStats, SourceError
from imgnorm.measuring.opening import (
    names_a_config,
    open_named,
    open_source,
    source_of,
)
from imgnorm.measuring.routes import refuse_idle
from imgnorm.measuring.selection import limited, listing_digest
from imgnorm.pipeline.config import read_pipeline
from imgnorm.settings import TORCHVISION, Limits
from imgnorm.sources.names import as_text, for_message, name_bytes
from imgnorm.sources.source import Listing, Source
from imgnorm.stats.measurement import Measurement
from imgnorm.stats.provenance import Provenance
from imgnorm.tally.names import names_in
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.wording import printable

_PAIRS = 200_000  # up to this many names, two new ones are searched for
_NAMED_BY_A_USER = ("folder", "list", "archive", "array", "torchvision")
"""Kinds of sources that a path or a name opens; the others are Python objects."""


@dataclass(frozen=True)
class Part:
    """One source of the file, as it is now."""

    origin: Provenance
    source: Source
    listing: Listing
    counted: Sequence[str]  # the names that should be counted: by limit and shard, not skipped then


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
    opened = _opened(request, origin, source)
    refuse_idle(opened, request.settings, Limits(request.max_pixels, request.timeout_s))
    listing = opened.listing()
    limit = origin.options.get("limit")
    chosen, _ = limited(listing.names, limit if isinstance(limit, int) else None)
    names = (
        [name for i in origin.shards.counted for name in chosen[i - 1 :: origin.shards.total]]
        if origin.shards
        else chosen
    )
    skipped_then = {
        s.name for s in request.measured.skipped if s.reason is not Reason.DUPLICATE_NAME
    }
    counted = (
        [name for name in names if as_text(name) not in skipped_then] if skipped_then else names
    )
    return Part(origin, opened, listing, counted)


def compare_names(findings: Findings, measured: Measurement, part: Part, index: int | None) -> None:
    """Find names that came or went, and images that the listing itself skips: dangling links, for example.

    Args:
        index: the part's place in the file; None if the file has one source.
    """
    path: Path = ("source",) if index is None else ("source", "parts", index)
    now, then = listing_digest(part.listing), part.origin.listing_sha256
    if now != then:
        message = f"listing changed: {_counts_of(part)}"
        difference = int(now, 16) - int(then, 16)
        named = _kept_change(part) or _named_change(
            part.listing.names, measured.skipped, difference
        )
        if index is None:
            named += _class_changes(measured, part)
        message += "".join(f"; {one}" for one in named)
        findings.add((*path, "listing_sha256"), "names", message)
    if part.origin.shards and 1 not in part.origin.shards.counted:
        return  # what the listing skips was counted with the first shard
    known = {s.name for s in measured.skipped}
    fresh = [s for s in part.listing.skipped if as_text(s.name) not in known]
    if fresh:
        findings.add(("skipped",), "skipped", f"found now, but unreadable: {faults_of(fresh)}")


def _opened(
    request: Request, origin: Provenance, source: str | os.PathLike[str] | Source | None
) -> Source:
    root, split = request.root, str(origin.options.get("split", "train"))
    if source is None:
        return _named_by_the_file(request, origin, root, split)
    if not isinstance(source, (str, os.PathLike)):
        opened = open_source(source, key=origin.options.get("key"), layout=request.layout)
        if isinstance(opened, StreamingSource):
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
    return open_named(path, listed=listed, root=root, split=split, layout=request.layout)


def _named_by_the_file(request: Request, origin: Provenance, root: str, split: str) -> Source:
    refs = [origin.ref] if isinstance(origin.ref, str) else origin.ref
    ref = next((ref for ref in refs if os.path.exists(ref)), refs[0])
    if origin.kind not in _NAMED_BY_A_USER and not os.path.exists(ref):
        raise IncompatibleStats(
            f"{request.file}: was measured from a source of kind {origin.kind!r}, which cannot be opened by "
            "its name; call imgnorm.verify with the source itself"
        )
    ref = TORCHVISION + ref if origin.kind == "torchvision" else ref
    try:
        return open_named(
            ref, listed=origin.kind == "list", root=root, split=split, layout=request.layout
        )
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
    gone = kept - {name_bytes(name) for name in part.listing.names}
    # With shards or a limit, a name that the file does not count may have existed then, too.
    all_kept = not origin.shards and "limit" not in origin.options
    fresh = [name for name in part.counted if name_bytes(name) not in kept] if all_kept else []
    return [
        f"{what}: {some_of([repr(for_message(name)) for name in names])}"
        for what, names in (("new", fresh), ("gone", sorted(map(os.fsdecode, gone))))
        if names
    ]


def _named_change(names: Sequence[str], skipped: Sequence[Skipped], difference: int) -> list[str]:
    """The one or two names that explain a difference of digests.

    The digest of a listing is the sum of its names' digests modulo 2^256, so a new name adds its own
    digest and a removed one takes it away.
    """
    difference %= 1 << 256

    def number(name: str) -> int:
        return int.from_bytes(sha256(name_bytes(name)).digest(), "big")

    for one in skipped:  # the only names that the file holds
        if number(one.name) == -difference % (1 << 256):
            return [f"{printable(one.name)!r} is gone"]
    few = len(names) <= _PAIRS
    seen: dict[int, str] = {}
    for name in names:
        value = number(name)
        if value == difference:
            return [f"{for_message(name)!r} is new"]
        other = seen.get((difference - value) % (1 << 256))
        if other is not None:
            pair = [repr(for_message(n)) for n in (other, name)]
            return [f"{' and '.join(pair)} are new"]
        if few:
            seen[value] = name
    return []


def _class_changes(measured: Measurement, part: Part) -> list[str]:
    now: dict[str, int] = {}
    for name in part.counted:
        group = part.source.class_of(name)
        if group is not None:
            now[as_text(group)] = now.get(as_text(group), 0) + 1
    then = {name: one.images for name, one in measured.classes.items()}
    changed = [
        f"{printable(name)} {now.get(name, 0):,} now, {then.get(name, 0):,} then"
        for name in sorted({*now, *then})
        if now.get(name, 0) != then.get(name, 0)
    ]
    return [f"classes: {some_of(changed)}"] if changed else []
