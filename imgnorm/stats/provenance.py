"""Where a measurement comes from: its source, or sources that were merged, and their shards.

A `Provenance` is one source, or several that were merged (`parts`). Digests of names, not the names,
identify its images; the names themselves are optional.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from imgnorm.tally.names import digest_of
from imgnorm.tally.notes import Noted
from imgnorm.tally.tally import joined

MERGED = "merged"  # the kind of a source that was merged from several
NUMBERED = {"torchvision", "dataset", "iterable"}  # kinds that name their images 0, 1, 2, …


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
    listing_sha256: str  # the same of all names, before `limit`; "" for a merged source
    images: int  # counted
    options: Mapping[str, str | int | tuple[str, ...]] = field(default_factory=dict)
    """Those that chose images: split, key, limit, include, exclude."""
    shards: Shards | None = None  # None if all of the source was measured
    units_sha256: str = ""
    """Only with `shards`: the digest of all units of the source, which the shards divide among them.
    `listing_sha256` is then that of the names in these shards. Files of older versions, which divided names,
    have none: their `listing_sha256` is that of all names."""
    parts: tuple[Provenance, ...] = ()  # only if merged; sorted, and none is itself merged
    names: str | None = None  # `lines_of` the names of all counted images, if any were kept
    folders: Mapping[str, Noted] = field(default_factory=dict)
    """Only with `shards`: what the names of folders tell, of which only the whole can be judged."""

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
    def divided_sha256(self) -> str:
        """The digest that all shards of a listing share."""
        return self.units_sha256 or self.listing_sha256

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
    every = [part for source in sources for part in source.sources]
    parts = [part for part in every if not part.shards]
    parts += shards_together(every).values()
    if len(parts) == 1:
        return parts[0]
    if any(part.names is None for part in parts if part.images):
        parts = [replace(part, names=None) for part in parts]
    return Provenance(
        MERGED,
        _refs(parts),
        _added_digests(part.names_sha256 for part in parts),
        "",
        sum(part.images for part in parts),
        parts=tuple(sorted(parts, key=_order)),
    )


def shards_together(sources: Iterable[Provenance]) -> dict[object, Provenance]:
    """The shards among these sources, put together: one source for each `listing_key` them.

    It has no `shards` if each shard was added exactly once.
    """
    shards: dict[object, list[Provenance]] = {}
    for source in sources:
        if source.shards:
            shards.setdefault(listing_key(source), []).append(source)
    return {listing: _put_together(parts) for listing, parts in shards.items()}


def listing_key(part: Provenance) -> object:
    """Equal for the shards of one listing.

    Numbers as names only identify images together with the `ref`; other names do so by themselves.
    """
    total = part.shards and part.shards.total
    ref = part.ref if part.kind in NUMBERED else ""
    return (part.kind, ref, part.divided_sha256, frozenset(part.options.items()), total)


def _put_together(parts: Sequence[Provenance]) -> Provenance:
    first = parts[0]
    assert first.shards
    counted = sorted(number for part in parts if part.shards for number in part.shards.counted)
    shards = Shards(first.shards.total, tuple(counted))
    listing_sha256 = first.listing_sha256
    if first.units_sha256:
        listing_sha256 = _added_digests(part.listing_sha256 for part in parts)
    return Provenance(
        first.kind,
        _refs(parts),
        _added_digests(part.names_sha256 for part in parts),
        listing_sha256,
        sum(part.images for part in parts),
        first.options,
        None if shards.whole else shards,
        "" if shards.whole else first.units_sha256,
        names=_names_together([part for part in parts if part.images]),
        folders=reduce(joined, (part.folders for part in parts), {}),
    )


def _names_together(parts: Sequence[Provenance]) -> str | None:
    lines: list[str] = []
    for part in parts:
        if part.names is None:
            return None
        lines += part.names.split("\n")
    return "\n".join(sorted(lines)) if lines else None


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


def _added_digests(digests: Iterable[str]) -> str:
    return digest_of(sum(int(digest, 16) for digest in digests))
