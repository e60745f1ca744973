"""Which units of a source are measured, and what the stats record about the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imgnorm.errors import SourceError
from imgnorm.sources.listing import AllNames, Catalogue, names_sum_of
from imgnorm.sources.names import as_text, name_bytes
from imgnorm.sources.source import Source, Unit
from imgnorm.stats.provenance import Shards
from imgnorm.tally.names import lines_of

_MAX_NAMES_BYTES = 60 << 20  # a stats file has 64 MiB at most


@dataclass(frozen=True)
class SelectionOptions:
    """The arguments of `measure` that say which images to look at and what to record about them."""

    limit: int | None = None
    shard: tuple[int, int] | None = None  # (i, n), counted from 1
    per_class: bool = False
    keep_names: bool = False

    @property
    def shards(self) -> Shards | None:
        if self.shard is None:
            return None
        number, total = self.shard
        if not 1 <= number <= total:
            raise ValueError(f"shard is {self.shard!r}; expected (i, n) with i from 1 to n")
        return Shards(total, (number,)) if total > 1 else None


@dataclass
class Selection:
    """The units to count.

    Attributes:
        units: to be read once.
        images: how many they have, if that is known.
        names: all names that were chosen from, if they had to be listed.
        names_sum: their digest sum, then; None: the tally will have it.
        limited: whether the limit leaves some out.
    """

    catalogue: Catalogue
    units: Iterable[Unit]
    images: int | None = None
    names: AllNames | None = None
    names_sum: int | None = None
    limited: bool = False

    @property
    def found(self) -> Catalogue | AllNames:
        """Has what was found and is not looked at: `skipped` and `ignored`, once `units` were read."""
        return self.catalogue if self.names is None else self.names

    def looked_at(self) -> Iterator[str]:
        """The names of the chosen images, if `names` are known."""
        return (name for unit in self.units for name in unit.names or ())


def selection_of(source: Source, options: SelectionOptions, *, sample: bool = False) -> Selection:
    """The units that the options choose.

    Args:
        sample: the names are needed: images will be drawn from them.

    Raises:
        SourceError: the source as a whole cannot be measured.
    """
    shards = options.shards
    catalogue = Catalogue(source, *((shards.total, shards.counted) if shards else ()))
    if options.limit is not None:
        return _limited(catalogue, options.limit, options)
    if not (options.keep_names or sample):
        return Selection(catalogue, catalogue)
    names = AllNames(catalogue)
    if options.keep_names:
        _demand_room(source, names)
    return Selection(catalogue, names.units, len(names), names, names_sum_of(names.units))


def spread(images: int, limit: int) -> Iterable[int]:
    """The indices of `limit` of so many sorted names: evenly, so that each class folder has its part."""
    return (i * images // limit for i in range(limit)) if limit < images else range(images)


def nothing_found(source: Source, ignored: Counter[str]) -> SourceError:
    """The error of a source without a single image."""
    passed_over = ", ".join(f"{count:,} {rule}" for rule, count in sorted(ignored.items()))
    hint = source.hint_if_empty()
    if ignored.keys() & source.options.keys():
        hint = "the patterns of include and exclude leave none; change them"
    return SourceError(
        f"{as_text(source.ref)}: no images in it"
        + (f" (passed over: {passed_over})" if passed_over else "")
        + (f"; {hint}" if hint else "")
    )


def _limited(catalogue: Catalogue, limit: int, options: SelectionOptions) -> Selection:
    """Images that are spread over all shards; each counts those of its own units.

    Every shard finds what is not looked at, but only the first records it: the stats of shards add up.
    """
    source, shards = catalogue.source, options.shards
    own = {unit.id for unit in catalogue} if shards else set()
    names = AllNames(Catalogue(source))
    if options.keep_names:
        _demand_room(source, names)
    left_out = max(0, len(names) - limit)
    chosen = names.only(spread(len(names), limit))
    mine = names.units
    if shards:
        chosen = [unit for unit in chosen if unit.id in own]
        mine = [unit for unit in mine if unit.id in own]
    if not shards or 1 in shards.counted:
        names.ignored["limit"] = left_out
    else:
        names.skipped.clear()
        names.ignored.clear()
    images = sum(map(len, chosen))
    return Selection(catalogue, chosen, images, names, names_sum_of(mine), limited=left_out > 0)


def _demand_room(source: Source, names: AllNames) -> None:
    size = len(lines_of(map(name_bytes, names)).encode()) + len("  ") * len(names) + 1
    if size > _MAX_NAMES_BYTES:
        raise SourceError(
            f"{as_text(source.ref)}: the names of {len(names):,} images take {size:,} bytes, and a stats file "
            f"has room for {_MAX_NAMES_BYTES:,}; measure in shards and merge them with "
            "--drop-names, or leave --keep-names out"
        )
