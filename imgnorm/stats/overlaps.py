"""Why the sources of measurements do not merge: images that two of them count, or missing shards."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from imgnorm.settings import Mode, Step
from imgnorm.stats.provenance import NUMBERED, Provenance, listing_key, ranges, shards_together
from imgnorm.wording import plural

_NAMED = 3  # shared names in a message


@dataclass(frozen=True)
class MergePart:
    """What is compared between the parts; the sums of a part are added up at once."""

    label: str  # its name in messages
    mode: Mode  # or "auto", if it has no images, and they would have shown their mode
    auto: bool
    preprocess: tuple[Step, ...]
    source: Provenance
    decoders: Mapping[str, str]
    per_class: bool | None  # None if there are no classes
    strict_channels: bool
    frames: int
    were_floats: bool  # its images came as floats, and were counted as 8-bit images


def overlaps(parts: Sequence[MergePart]) -> Iterator[str]:
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


def gaps(parts: Sequence[MergePart], whole: Provenance) -> Iterator[str]:
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
            if listing_key(one) == listing_key(source)
        )
        verb = "are" if len(missing) > 1 else "is"
        several = "s" if len(missing) > 1 else ""
        yield (
            f"{label}: shard{several} {ranges(missing)} of {source.shards.total:,} of {source.called!r} "
            f"{verb} missing; add the file{several}, or continue with --allow-missing"
        )


def _shared_names(parts: Sequence[MergePart]) -> dict[tuple[int, int], list[str]]:
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


def _overlaps_by_digest(parts: Sequence[MergePart]) -> Iterator[tuple[str, tuple[int, int]]]:
    places = {id(part): place for place, part in enumerate(parts)}
    together = shards_together(source for part in parts for source in part.source.sources)
    # Each with the first part that has it.
    listings: dict[object, tuple[MergePart, Provenance]] = {}
    shards: dict[object, tuple[MergePart, Provenance]] = {}
    names: dict[object, tuple[MergePart, Provenance]] = {}
    refs: dict[object, tuple[MergePart, Provenance]] = {}
    sharded: dict[object, tuple[MergePart, Provenance]] = {}
    for part in parts:
        for source in part.source.sources:
            here, listing, ref = (part, source), listing_key(source), _ref_of(source)
            whole = together.get(listing, source)
            same = []
            if source.images:
                same.append(names.setdefault(_names_of(source, source.names_sha256), here))
            # The digest of all names follows from all shards only.
            digests = [source.divided_sha256, *([] if whole.shards else [whole.listing_sha256])]
            for digest in digests:
                listed = listings.setdefault(_names_of(source, digest), here)
                if not source.shards or listing_key(listed[1]) != listing:
                    same.append(listed)
            if source.shards:
                same += (shards.setdefault((listing, i), here) for i in source.shards.counted)
            in_part = bool(source.units_sha256 and whole.shards)
            if in_part or not source.shards:  # nothing but the ref shows that they are one source
                refs.setdefault((ref, in_part), here)
                same += filter(None, [refs.get((ref, not in_part))])
            other = next((one for one in same if one[0] is not part), None)
            if other:
                yield _overlap(part, source, *other), (places[id(part)], places[id(other[0])])
            elif source.shards:
                before, its = sharded.setdefault(ref, here)
                if its.divided_sha256 != source.divided_sha256 and before is not part:
                    message = _changed(part, source, before, its)
                    yield message, (places[id(part)], places[id(before)])


def _changed(part: MergePart, source: Provenance, before: MergePart, its: Provenance) -> str:
    """The message about shards of one source that it was divided into in two ways."""
    if bool(source.units_sha256) != bool(its.units_sha256):
        old, new = (part, before) if its.units_sha256 else (before, part)
        return (
            f"{old.label}: was measured by an older imgnorm, which divided images differently from "
            f"{new.label}; measure all shards again with one version"
        )
    return (
        f"{part.label}: counts {_extent(source)}, but {before.label} was measured from a listing with "
        "other names or sizes, so the source has changed; measure all shards again, or count what they "
        "share twice with --allow-overlap"
    )


def _overlap(part: MergePart, source: Provenance, other: MergePart, its: Provenance) -> str:
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
    which = str(source.shards) if source.shards else f"all {plural(source.images, 'image')}"
    limit = f" within --limit {source.options['limit']}" if "limit" in source.options else ""
    return f"{which}{limit} of {source.called!r}"


def _names_of(part: Provenance, digest: str) -> object:
    """Equal where the same names mean the same images."""
    if part.kind in NUMBERED:
        return (digest, part.kind, part.ref, part.options.get("split"), part.options.get("key"))
    return digest


def _ref_of(source: Provenance) -> object:
    """Equal for what the user called the same."""
    options = {key: option for key, option in source.options.items() if key != "limit"}
    return (source.kind, source.ref, frozenset(options.items()))
