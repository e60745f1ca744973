"""What a source lists -> the names to look at, and what the stats record about the others."""

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
"""The group of all names, if classes are not counted separately, and of names without a class."""
_MAX_NAMES_BYTES = 60 << 20  # a stats file has 64 MiB at most


@dataclass(frozen=True)
class SelectionOptions:
    """The arguments of `measure` that say which names to look at and what to record about them."""

    limit: int | None = None
    shard: tuple[int, int] | None = None  # (i, n), counted from 1
    per_class: bool = False
    keep_names: bool = False


@dataclass(frozen=True)
class Selection:
    """The names to look at."""

    names: Sequence[str]  # if they are all that are listed, the listing's own
    groups: Mapping[str, Sequence[str]]  # the same by class, or all of them under NO_CLASS
    beyond: int  # how many the limit leaves out


def selection_of(source: Source, listing: Listing, options: SelectionOptions) -> Selection:
    """The names of a listing that the options choose.

    Raises:
        SourceError: the listing is empty, or does not have what the options ask for.
    """
    if not listing.names and not listing.skipped:
        raise SourceError(_nothing_found(source, listing))
    within, beyond = limited(listing.names, options.limit)
    names = _shard_of(source, within, options.shard)
    if options.per_class:
        _demand_classes(source, within)
    if options.keep_names:
        _demand_room(source, names)
    groups = _by_class(source, names) if options.per_class else {NO_CLASS: names}
    return Selection(names, groups, beyond)


def limited(names: Sequence[str], limit: int | None) -> tuple[Sequence[str], int]:
    """At most `limit` names, and how many are left out.

    They are spread evenly over the sorted names, so that each class folder has its part of them.
    """
    if limit is None or limit >= len(names):
        return names, 0
    chosen = [names[i * len(names) // limit] for i in range(limit)]
    return chosen, len(names) - limit


def rest_of(
    listing: Listing, left_out: Mapping[str, int], shard: tuple[int, int] | None
) -> Listing:
    """What was found and not looked at.

    Every shard finds it, but only the first one records it: the stats of shards add up.

    Args:
        left_out: names that an option leaves out: the option, and how many.
    """
    if shard and shard[0] > 1:
        return Listing([])
    return Listing([], listing.skipped, {**listing.ignored, **left_out})


def provenance_of(
    source: Source | StreamingSource,
    listing_sha256: str,
    limit: int | None,
    shard: tuple[int, int] | None,
) -> Provenance:
    """The provenance, as far as it is known before the images are counted.

    Args:
        listing_sha256: the digest of all names.
    """
    options: dict[str, str | int] = dict(getattr(source, "options", {}))
    if limit is not None:
        options["limit"] = limit
    return Provenance(
        source.kind,
        as_text(source.ref),
        names_sha256="",
        listing_sha256=listing_sha256,
        images=0,
        options=options,
        shards=Shards(shard[1], (shard[0],)) if shard and shard[1] > 1 else None,
    )


def listing_digest(listing: Listing) -> str:
    """The digest of all names of a listing."""
    return names_digest(encoded(listing.names))


def _shard_of(source: Source, names: Sequence[str], shard: tuple[int, int] | None) -> Sequence[str]:
    """Every n-th name, so that each shard has images of every class and takes about as long."""
    if shard is None:
        return names
    number, total = shard
    if not 1 <= number <= total:
        raise ValueError(f"shard is {shard!r}; expected (i, n) with i from 1 to n")
    if total > len(names):
        raise SourceError(
            f"{as_text(source.ref)}: {len(names):,} images cannot be split into {total:,} shards; make "
            f"at most {len(names):,}"
        )
    return names[number - 1 :: total]


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
                f"{as_text(source.ref)}: no image files in it, but arrays; if each holds one image or "
                f"many, name them as '{as_text(source.ref)}/*.npy'"
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
        "archive": "name an archive that holds such files, or rename those in it and pack them again",
    }.get(source.kind)
    return (
        f"{as_text(source.ref)}: no images in it"
        + (f" (passed over: {passed_over})" if passed_over else "")
        + (f"; looked for {' '.join(IMG_EXTENSIONS)}; {advice}" if advice else "")
    )
