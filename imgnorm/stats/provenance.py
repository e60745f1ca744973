"""Where a measurement comes from: its sources and their shards, and the images that two sources share.

A `Provenance` is one source, or several that were merged (`parts`). Digests of names, not the names,
identify its images; the names themselves are optional.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from imgnorm.tally.names import digest_of

MERGED = "merged"  # the kind of a source that was merged from several
_NUMBERED = {"torchvision", "dataset", "iterable"}  # kinds that name their images 0, 1, 2, …
_NAMED = 3  # shared names in a message


@dataclass(frozen=True)
class Shards:
    """Which shards of a listing were measured, if not each exactly once."""

    total: int  # how many shards the listing was cut into
    counted: tuple[int, ...]  # from 1, sorted; a shard that was added twice appears twice

    @property
    def missing(self) -> list[int]:
        return sorted(set(range(1, self.total + 1)) - set(self.counted))

    @property
    def whole(self) -> bool:
        return self.counted == tuple(range(1, self.total + 1))

    def __str__(self) -> str:
        several = "s" if len(self.counted) > 1 else ""
        return f"shard{several} {ranges(self.counted)} of {self.total:,}"


@dataclass(frozen=True)
class Provenance:
    """The source, or the merged sources, of a measurement."""

    kind: str  # folder, list, archive, array, torchvision, dataset, iterable; MERGED, with `parts`
    ref: str | tuple[str, ...]  # what the user called it; after a merge several, sorted
    names_sha256: str  # names_digest of the names of all counted images
    listing_sha256: str  # the same of all names, before `limit` and shard; "" for a merged source
    images: int  # counted
    options: Mapping[str, str | int] = field(default_factory=dict)
    """Those that chose images: split, key, limit."""
    shards: Shards | None = None  # None if all of the listing was measured
    parts: tuple[Provenance, ...] = ()  # only if merged; sorted, and none is itself merged
    names: str | None = None  # `lines_of` the names of all counted images, if they were kept

    @property
    def sources(self) -> tuple[Provenance, ...]:
        return self.parts or (self,)

    @property
    def without_names(self) -> Provenance:
        """The same source without the names of its images."""
        return replace(self, names=None, parts=tuple(part.without_names for part in self.parts))

    @property
    def called(self) -> str:
        """The `ref` in a message."""
        return self.ref if isinstance(self.ref, str) else ", ".join(self.ref)

    @property
    def sharded(self) -> tuple[Provenance, ...]:
        """The sources with shards that are missing, or were added twice."""
        return tuple(source for source in self.sources if source.shards)

    @property
    def incomplete(self) -> list[str]:
        """For each source with missing shards, a message about which shards were measured."""
        return [
            f"only {source.shards} of {source.called!r}"
            for source in self.sharded
            if source.shards and source.shards.missing
        ]


class Counting(Protocol):
    """A part of a merge, as far as messages about overlaps need it."""

    @property
    def label(self) -> str:
        """The name of the part in messages."""

    @property
    def source(self) -> Provenance: ...


def _added_digests(digests: Iterable[str]) -> str:
    return digest_of(sum(int(digest, 16) for digest in digests))


def ranges(numbers: Sequence[int]) -> str:
    """ "1-3, 7": sorted numbers in a message."""
    texts: list[str] = []
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            first, last = numbers[start], numbers[end - 1]
            texts.append(f"{first}" if first == last else f"{first}-{last}")
            start = end
    return ", ".join(texts)


def combined(sources: Iterable[Provenance]) -> Provenance:
    """The sources as one source. Shards of one listing become one part; other sources stay parts."""
    parts: list[Provenance] = []
    shards: dict[object, list[Provenance]] = {}
    for source in sources:
        for part in source.sources:
            if part.shards:
                shards.setdefault(_listing_of(part), []).append(part)
            else:
                parts.append(part)
    parts += map(_put_together, shards.values())
    if len(parts) == 1:
        return parts[0]
    if any(part.names is None for part in parts):
        parts = [replace(part, names=None) for part in parts]
    return Provenance(
        MERGED,
        _refs(parts),
        _added_digests(part.names_sha256 for part in parts),
        "",
        sum(part.images for part in parts),
        parts=tuple(sorted(parts, key=_order)),
    )


def _put_together(parts: Sequence[Provenance]) -> Provenance:
    """Shards of one listing as one source; it has no `shards` if each shard was added exactly once."""
    first = parts[0]
    assert first.shards
    counted = sorted(number for part in parts if part.shards for number in part.shards.counted)
    shards = Shards(first.shards.total, tuple(counted))
    return Provenance(
        first.kind,
        _refs(parts),
        _added_digests(part.names_sha256 for part in parts),
        first.listing_sha256,
        sum(part.images for part in parts),
        first.options,
        None if shards.whole else shards,
        names=_names_together(parts),
    )


def _names_together(parts: Sequence[Provenance]) -> str | None:
    lines: list[str] = []
    for part in parts:
        if part.names is None:
            return None
        lines += part.names.split("\n")
    return "\n".join(sorted(lines))


def _refs(parts: Iterable[Provenance]) -> str | tuple[str, ...]:
    refs: set[str] = set()
    for part in parts:
        refs.update([part.ref] if isinstance(part.ref, str) else part.ref)
    return refs.pop() if len(refs) == 1 else tuple(sorted(refs))


def _order(part: Provenance) -> tuple[object, ...]:
    ref = [part.ref] if isinstance(part.ref, str) else list(part.ref)
    shards = (part.shards.total, part.shards.counted) if part.shards else ()
    options = sorted((key, str(option)) for key, option in part.options.items())
    digests = (part.listing_sha256, part.names_sha256)
    return (part.kind, ref, options, shards, digests, part.images)


def _listing_of(part: Provenance) -> object:
    """Equal for the shards of one listing.

    Numbers as names only identify images together with the `ref`; other names do so by themselves.
    """
    total = part.shards and part.shards.total
    ref = part.ref if part.kind in _NUMBERED else ""
    return (part.kind, ref, part.listing_sha256, frozenset(part.options.items()), total)


def _names_of(part: Provenance, digest: str) -> object:
    """Equal where the same names mean the same images."""
    if part.kind in _NUMBERED:
        return (digest, part.kind, part.ref, part.options.get("split"), part.options.get("key"))
    return digest


def overlaps(parts: Sequence[Counting]) -> Iterator[str]:
    """Messages about images that two parts count.

    Digests show that two parts have the same listing, or the same set of names. Different listings can
    share images, too, such as those of a folder and of a folder inside it: that is found only where
    both parts keep their names.
    """
    reported: set[tuple[int, int]] = set()
    for fault, pair in _overlaps_by_digest(parts):
        reported.add(pair)
        yield fault
    for (one, other), names in sorted(_shared_names(parts).items()):
        if (one, other) not in reported:
            some = ", ".join(map(repr, sorted(names)[:_NAMED]))
            more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
            several = "s" if len(names) > 1 else ""
            yield (
                f"{parts[one].label}: counts {len(names):,} image{several} that {parts[other].label} "
                f"also counts: {some}{more}; leave one out, or count them twice with --allow-overlap"
            )


def _shared_names(parts: Sequence[Counting]) -> dict[tuple[int, int], list[str]]:
    """The names that two parts share, by the indices of the later part and of the earlier one."""
    sources = [
        (place, source, _folder_of(source))
        for place, part in enumerate(parts)
        for source in part.source.sources
        if source.names is not None
    ]
    folders = {folder for _, _, folder in sources if folder is not None}
    nested = any(_lies_in(a, b) for a in folders for b in folders if a != b)
    by_name: dict[object, dict[str, tuple[int, ...]]] = {}
    by_path: dict[str, tuple[int, ...]] = {}
    shared: dict[tuple[int, int], list[str]] = {}
    for index, (place, source, folder) in enumerate(sources):
        owners = by_name.setdefault(_names_of(source, ""), {})
        alone = (index,)
        for name in (source.names or "").split("\n"):
            found = owners.setdefault(name, alone)
            if found is not alone:
                owners[name] = (*found, index)
            others = [i for i in found if i != index and not _related(folder, sources[i][2])]
            if nested and folder is not None:
                path = posixpath.join(folder, name)
                found = by_path.setdefault(path, alone)
                if found is not alone:
                    by_path[path] = (*found, index)
                others += (i for i in found if i != index and _related(folder, sources[i][2]))
            for other in {sources[i][0] for i in others} - {place}:
                shared.setdefault((place, other), []).append(name)
    return shared


def _folder_of(source: Provenance) -> str | None:
    """The folder to which the names are relative, if the source has one."""
    if source.kind not in ("folder", "list") or not isinstance(source.ref, str):
        return None
    return posixpath.normpath(
        source.ref if source.kind == "folder" else posixpath.dirname(source.ref) or "."
    )


def _related(a: str | None, b: str | None) -> bool:
    """Whether one folder lies inside the other, so that equal names mean different images.

    The same folder twice does not count: its equal names are the same images.
    """
    return a is not None and b is not None and a != b and (_lies_in(a, b) or _lies_in(b, a))


def _lies_in(inner: str, outer: str) -> bool:
    if outer == ".":
        return not inner.startswith(("/", ".."))
    return inner.startswith(outer.rstrip("/") + "/")


def _overlaps_by_digest(parts: Sequence[Counting]) -> Iterator[tuple[str, tuple[int, int]]]:
    places = {id(part): place for place, part in enumerate(parts)}
    listings: dict[object, tuple[Counting, Provenance]] = {}  # each with the first part that has it
    shards: dict[object, tuple[Counting, Provenance]] = {}
    names: dict[object, tuple[Counting, Provenance]] = {}
    sharded: dict[object, tuple[Counting, Provenance]] = {}
    for part in parts:
        for source in part.source.sources:
            here = (part, source)
            listed = listings.setdefault(_names_of(source, source.listing_sha256), here)
            same = [names.setdefault(_names_of(source, source.names_sha256), here)]
            if not source.shards or _listing_of(source) != _listing_of(listed[1]):
                same.append(listed)
            else:
                listing = _listing_of(source)
                same += (shards.setdefault((listing, i), here) for i in source.shards.counted)
            other = next((one for one in same if one[0] is not part), None)
            if other:
                yield _overlap(part, source, *other), (places[id(part)], places[id(other[0])])
            elif source.shards:
                key = (
                    source.kind,
                    source.ref,
                    source.shards.total,
                    frozenset(source.options.items()),
                )
                before, its = sharded.setdefault(key, here)
                if its.listing_sha256 != source.listing_sha256 and before is not part:
                    message = (
                        f"{part.label}: counts {_extent(source)}, but {before.label} was measured from a "
                        "listing with other names, so the source has changed; measure all shards again, or "
                        "count what they share twice with --allow-overlap"
                    )
                    yield message, (places[id(part)], places[id(before)])


def _overlap(part: Counting, source: Provenance, other: Counting, its: Provenance) -> str:
    if part.label == other.label:
        return (
            f"{part.label}: is given twice, and counts {_extent(source)}; leave one out, or count them twice "
            "with --allow-overlap"
        )
    extents = dict.fromkeys([_extent(source), _extent(its)])  # each once
    return (
        f"{part.label}: counts images that {other.label} also counts ({' and '.join(extents)}); leave "
        "one out, or count them twice with --allow-overlap"
    )


def _extent(source: Provenance) -> str:
    which = (
        str(source.shards)
        if source.shards
        else f"all {source.images:,} image{'s' * (source.images != 1)}"
    )
    limit = f" within --limit {source.options['limit']}" if "limit" in source.options else ""
    return f"{which}{limit} of {source.called!r}"


def gaps(parts: Sequence[Counting], whole: Provenance) -> Iterator[str]:
    """Messages about missing shards, each for a part that has other shards of the same listing."""
    for source in whole.sharded:
        assert source.shards
        missing = source.shards.missing
        if not missing:
            continue
        label = next(
            part.label
            for part in parts
            for one in part.source.sharded
            if _listing_of(one) == _listing_of(source)
        )
        verb = "are" if len(missing) > 1 else "is"
        several = "s" if len(missing) > 1 else ""
        yield (
            f"{label}: shard{several} {ranges(missing)} of {source.shards.total:,} of {source.called!r} "
            f"{verb} missing; add the file{several}, or continue with --allow-missing"
        )
