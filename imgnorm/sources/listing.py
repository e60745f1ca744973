"""The units of a source in their order, and the names of all images at once.

Ordinary measuring goes from unit to unit. A limit or a random sample needs all names: that costs memory for
every name, and lists archives before they are read.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, groupby
from operator import itemgetter

from imgnorm.sources.names import encoded, name_bytes
from imgnorm.sources.source import Ignored, Source, Unit
from imgnorm.tally.names import names_sum
from imgnorm.tally.skipped import Skipped, Unreadable


class Catalogue:
    """The units of a source, or those of some of its shards. Iterate it once.

    Unit k, counted from 0, belongs to shard (k mod N) + 1; what lies outside of all units, to the first.

    Args:
        total: into how many shards the source is divided.
        shards: whose units these are, counted from 1.

    Attributes:
        skipped: what cannot be read outside of all units; complete after the iteration, as are the others.
        ignored: entries outside of all units that are not images, by rule.
        sha256: the digest of all units of all shards: of the id of each, and of the number and the CRC-32 of
            its names, or its bytes. "" without shards.
    """

    def __init__(self, source: Source, total: int = 1, shards: Collection[int] = (1,)) -> None:
        self.source = source
        self.skipped: list[Skipped] = []
        self.ignored: Counter[str] = Counter()
        self.sha256 = ""
        self._total = total
        self._shards = set(shards)

    def __iter__(self) -> Iterator[Unit]:
        digest = None
        if self._total > 1:
            from hashlib import sha256  # loads OpenSSL, which takes 2 ms

            digest = sha256()
        takes_outside = 1 in self._shards
        place = 0
        for entry in self.source.units():
            if isinstance(entry, Unit):
                number = place % self._total + 1
                place += 1
                if digest:
                    digest.update(b"%b\0%b\n" % (name_bytes(entry.id), entry.content.encode()))
                if number in self._shards:
                    yield entry
            elif isinstance(entry, Skipped):
                if takes_outside:
                    self.skipped.append(entry)
            elif isinstance(entry, Ignored):
                if takes_outside:
                    self.ignored.update(entry.rules)
            else:
                raise TypeError(
                    f"{self.source!r}: units() gives {entry!r:.100}; expected an imgnorm.Unit"
                )
        self.sha256 = digest.hexdigest() if digest else ""


def names_sum_of(units: Iterable[Unit]) -> int:
    """`tally.names.names_sum` of all names of these units."""
    return sum(names_sum(encoded(unit.names or ())) for unit in units)


class AllNames:
    """All images of some units, in the order of their names as bytes.

    Args:
        units: those of the catalogue, or some of them if it was read before.

    Attributes:
        units: with names.
        order: the position of each image, counted through all units.
        skipped: what cannot be read, by the listing alone.
        ignored: entries that are not images, by rule.
    """

    def __init__(self, catalogue: Catalogue, units: Iterable[Unit] | None = None) -> None:
        source = catalogue.source
        self.units: list[Unit] = []
        self.skipped: list[Skipped] = []
        self.ignored: Counter[str] = Counter()
        for unit in catalogue if units is None else units:
            self._add(source, unit)
        self.skipped += catalogue.skipped
        self.ignored += catalogue.ignored
        self._ends = list(accumulate(map(len, self.units)))
        self.order: Sequence[int] = range(len(self))
        if not source.in_order:
            names = [name_bytes(name) for unit in self.units for name in unit.names or ()]
            self.order = array("Q", sorted(self.order, key=names.__getitem__))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[str]:
        return map(self.name, range(len(self)))

    def name(self, index: int) -> str:
        return self.name_at(self.order[index])

    def name_at(self, position: int) -> str:
        unit, place = self._place_of(position)
        names = self.units[unit].names
        assert names is not None
        return names[place]

    def only(self, indices: Iterable[int]) -> list[Unit]:
        """The images at these indices, as units."""
        return [*self.at(sorted(self.order[index] for index in indices))]

    def at(self, positions: Iterable[int]) -> Iterator[Unit]:
        """The images at these positions, counted through all units, in this order."""
        for unit, group in groupby(map(self._place_of, positions), key=itemgetter(0)):
            yield self.units[unit].only([place for _, place in group])

    def _place_of(self, position: int) -> tuple[int, int]:
        """A unit, and the place of an image in it."""
        unit = bisect_right(self._ends, position)
        return unit, position - (self._ends[unit - 1] if unit else 0)

    def _add(self, source: Source, unit: Unit) -> None:
        try:
            listing = source.listed(unit)
        except Unreadable as fault:
            self.skipped.append(fault.skipped(unit.id))
            return
        self.units.append(listing.unit)
        self.skipped += listing.skipped
        self.ignored.update(listing.ignored)


def all_names_of(source: Source) -> AllNames:
    """All images of a source.

    Raises:
        SourceError: the source as a whole cannot be measured.
    """
    source.open()
    return AllNames(Catalogue(source))
