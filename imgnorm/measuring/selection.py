"""What a source lists -> the names to look at, and what the stats say of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imgnorm.datasets.source import StreamingSource
from imgnorm.errors import SourceError
from imgnorm.sources.files import IMG_EXTENSIONS
from imgnorm.sources.folder import FolderSource
from imgnorm.sources.names import as_text, encoded
from imgnorm.sources.source import Listing, Source
from imgnorm.stats.provenance import Provenance, Shards
from imgnorm.tally.names import lines_of, names_digest

NO_CLASS = ""
_MAX_NAMES_BYTES = 60 << 20  # a stats file has 64 MiB at most


@dataclass(frozen=True)
class Selection:
    """The names to look at."""

    names: Sequence[str]  # if they are all that are listed, the listing's own
    groups: Mapping[str, Sequence[str]]  # the same by class, or all of them under NO_CLASS
    beyond: int  # how many the limit leaves out


def selection_of(
    source: Source,
    listing: Listing,
    *,
    limit: int | None,
    shard: tuple[int, int] | None,
    per_class: bool,
    keep_names: bool,
) -> Selection:
    """
    Raises:
        SourceError: there is nothing to choose from, or not what was asked for.
    """
    if not listing.names and not listing.skipped:
        raise SourceError(_nothing_found(source, listing))
    within, beyond = limited(listing.names, limit)
    names = _shard_of(source, within, shard)
    if per_class:
        _demand_classes(source, within)
    if keep_names:
        _demand_room(source, names)
    return Selection(names, _by_class(source, names) if per_class else {NO_CLASS: names}, beyond)


def limited(names: Sequence[str], limit: int | None) -> tuple[Sequence[str], int]:
    """At most `limit` names, evenly spread so that every class folder is met, and how many are left."""
    if limit is None or limit >= len(names):
        return names, 0
    chosen = [names[i * len(names) // limit] for i in range(limit)]
    return chosen, len(names) - limit


def aside_of(
    listing: Listing, left_out: Mapping[str, int], shard: tuple[int, int] | None
) -> Listing:
    """What was found and not looked at. Every shard sees it, the first one tells: shards add up."""
    if shard and shard[0] > 1:
        return Listing([])
    return Listing([], listing.skipped, {**listing.ignored, **left_out})


def origin_of(
    source: Source | StreamingSource,
    listed: str,
    limit: int | None,
    shard: tuple[int, int] | None,
) -> Provenance:
    """The provenance, as far as it is known before anything is counted.

    Args:
        listed: the digest of all names.
    """
    options: dict[str, str | int] = dict(getattr(source, "options", {}))
    if limit is not None:
        options["limit"] = limit
    return Provenance(
        source.kind,
        as_text(source.ref),
        names_sha256="",
        listing_sha256=listed,
        images=0,
        options=options,
        shards=Shards(shard[1], (shard[0],)) if shard and shard[1] > 1 else None,
    )


def listing_digest(listing: Listing) -> str:
    return names_digest(encoded(listing.names))


def _shard_of(source: Source, names: Sequence[str], shard: tuple[int, int] | None) -> Sequence[str]:
    """Every n-th name, so that each shard meets every class and all shards take about as long."""
    if shard is None:
        return names
    number, of = shard
    if not 1 <= number <= of:
        raise ValueError(f"shard is {shard!r}; expected (i, n) with i from 1 to n")
    if of > len(names):
        raise SourceError(
            f"{as_text(source.ref)}: {len(names):,} images cannot be shared among {of:,} shards; make at "
            f"most {len(names):,}"
        )
    return names[number - 1 :: of]


def _by_class(source: Source, names: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(source.class_of(name) or NO_CLASS, []).append(name)
    return groups


def _demand_classes(source: Source, names: Sequence[str]) -> None:
    if not any(map(source.class_of, names)):
        raise SourceError(
            f"{as_text(source.ref)}: has no class folders; measure it without --per-class"
        )


def _demand_room(source: Source, names: Sequence[str]) -> None:
    size = len(lines_of(encoded(names)).encode()) + len("  ") * len(names) + 1
    if size > _MAX_NAMES_BYTES:
        raise SourceError(
            f"{as_text(source.ref)}: the names of {len(names):,} images take {size:,} bytes, and a stats file "
            f"has room for {_MAX_NAMES_BYTES:,}; measure in shards and merge them with "
            "--drop-names, or leave --keep-names out"
        )


def _nothing_found(source: Source, listing: Listing) -> str:
    import glob

    if isinstance(source, FolderSource):
        within = f"{glob.escape(source.path)}/*"
        if glob.glob(f"{within}.npy"):
            return (
                f"{as_text(source.ref)}: no image files in it, but arrays; if each is one of the images, or many "
                f"of them, name them as '{as_text(source.ref)}/*.npy'"
            )
        for suffix in (".tar", ".tar.gz", ".tgz", ".zip"):
            if glob.glob(within + suffix):
                return (
                    f"{as_text(source.ref)}: no image files in it, but archives; name them as "
                    f"'{as_text(source.ref)}/*{suffix}'"
                )
    passed_over = ", ".join(f"{count:,} {rule}" for rule, count in listing.ignored.items())
    advice = {
        "folder": "for other names, write them to a file and use --list",
        "archive": "name an archive that holds such files, or rename those in it and pack them anew",
    }.get(source.kind)
    return (
        f"{as_text(source.ref)}: no images in it"
        + (f" (passed over: {passed_over})" if passed_over else "")
        + (f"; looked for {' '.join(IMG_EXTENSIONS)}; {advice}" if advice else "")
    )
