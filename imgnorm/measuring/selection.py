"""Which units of a source are measured, and what the stats record about the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from imgnorm.errors import SourceError
from imgnorm.sources.listing import AllNames
from imgnorm.sources.names import as_text, encoded, name_bytes
from imgnorm.sources.source import Ignored, Source, Unit
from imgnorm.stats.provenance import Shards
from imgnorm.tally.names import lines_of, names_sum
from imgnorm.tally.skipped import Skipped

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


class Catalogue:
    """The units of a source, or those of some shards. Iterate it once.

    Unit k, counted from 0, belongs to shard (k mod N) + 1; what lies outside of all units, to the first.

    Attributes:
        found: how many units the source has, of all shards; complete after the iteration.
        sha256: after the iteration, the digest of all units: of their ids, and of how many names or bytes
            each has. Shards of the same catalogue have the same. "" without shards.
    """

    def __init__(self, source: Source, shards: Shards | None = None) -> None:
        self.found = 0
        self._source = source
        self._shards = shards
        self.sha256 = ""

    def __iter__(self) -> Iterator[Unit | Skipped | Ignored]:
        shards = self._shards
        total = shards.total if shards else 1
        counted = set(shards.counted if shards else (1,))
        digest = None
        if shards:
            from hashlib import sha256  # loads OpenSSL, which takes 2 ms

            digest = sha256()
        for entry in self._source.units():
            if not isinstance(entry, Unit):
                if 1 in counted:
                    yield entry
                continue
            number = self.found % total + 1
            self.found += 1
            if digest:
                size = entry.bytes or 0 if entry.names is None else len(entry)
                digest.update(b"%b\0%d\n" % (name_bytes(entry.id), size))
            if number in counted:
                yield entry
        self.sha256 = digest.hexdigest() if digest else ""


@dataclass
class Selection:
    """The units to count.

    Attributes:
        units: to be read once.
        images: how many they have, if that is known.
        names: all names that were chosen from, if they had to be listed.
        beyond: how many images the limit leaves out.
        skipped, ignored: what was found and is not looked at; complete after `units` were read.
    """

    catalogue: Catalogue
    units: Iterable[Unit] = ()
    images: int | None = None
    names: AllNames | None = None
    names_sum: int | None = None  # of the names that were chosen from; None: the tally has it
    beyond: int = 0
    limited: bool = False  # whether the limit leaves some out
    skipped: list[Skipped] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

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
    if options.limit is not None:
        return _limited(source, options.limit, options)
    selection = Selection(Catalogue(source, shards))
    if not (options.keep_names or sample):
        selection.units = _noting(selection)
        return selection
    names = AllNames(source, selection.catalogue)
    if options.keep_names:
        _demand_room(source, names)
    _note_listing(selection, names)
    selection.names_sum = names.names_sum()
    selection.units, selection.images = names.units, len(names)
    return selection


def spread(images: int, limit: int) -> Iterable[int]:
    """The indices of `limit` of so many sorted names: evenly, so that each class folder has its part."""
    return (i * images // limit for i in range(limit)) if limit < images else range(images)


def nothing_found(source: Source, ignored: Counter[str]) -> SourceError:
    """The error of a source without a single image."""
    passed_over = ", ".join(f"{count:,} {rule}" for rule, count in sorted(ignored.items()))
    hint = source.hint_if_empty()
    return SourceError(
        f"{as_text(source.ref)}: no images in it"
        + (f" (passed over: {passed_over})" if passed_over else "")
        + (f"; {hint}" if hint else "")
    )


def _noting(selection: Selection) -> Iterator[Unit]:
    """The units of the catalogue; notes what lies outside of them."""
    for entry in selection.catalogue:
        if isinstance(entry, Unit):
            yield entry
        elif isinstance(entry, Skipped):
            selection.skipped.append(entry)
        else:
            selection.ignored.update(entry.rules)


def _note_listing(selection: Selection, names: AllNames) -> None:
    selection.names = names
    selection.skipped += names.skipped
    selection.ignored.update(names.ignored)


def _limited(source: Source, limit: int, options: SelectionOptions) -> Selection:
    """Images that are spread over all shards; each counts those of its own units.

    Every shard finds what is not looked at, but only the first records it: the stats of shards add up.
    """
    shards = options.shards
    own = Catalogue(source, shards)
    own_ids = {entry.id for entry in own if isinstance(entry, Unit)} if shards else set()
    selection = Selection(own)
    names = AllNames(source, Catalogue(source) if shards else own)
    if options.keep_names:
        _demand_room(source, names)
    if shards is None or 1 in shards.counted:
        _note_listing(selection, names)
        selection.beyond = max(0, len(names) - limit)
    selection.names, selection.limited = names, len(names) > limit
    chosen = names.only(spread(len(names), limit))
    selection.units = [unit for unit in chosen if not shards or unit.id in own_ids]
    selection.images = sum(map(len, selection.units))
    selection.names_sum = sum(
        names_sum(encoded(unit.names or ()))
        for unit in names.units
        if not shards or unit.id in own_ids
    )
    return selection


def _demand_room(source: Source, names: AllNames) -> None:
    size = len(lines_of(map(name_bytes, names)).encode()) + len("  ") * len(names) + 1
    if size > _MAX_NAMES_BYTES:
        raise SourceError(
            f"{as_text(source.ref)}: the names of {len(names):,} images take {size:,} bytes, and a stats file "
            f"has room for {_MAX_NAMES_BYTES:,}; measure in shards and merge them with "
            "--drop-names, or leave --keep-names out"
        )
