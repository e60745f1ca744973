"""The names of all images at once: for what needs them, such as a limit or a random sample.

It costs memory for every name, and lists archives before they are read, so ordinary measuring goes
from unit to unit instead.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby
from operator import itemgetter

from imgnorm.sources.names import encoded, name_bytes
from imgnorm.sources.source import Ignored, Source, Unit
from imgnorm.tally.names import names_sum
from imgnorm.tally.skipped import Skipped, Unreadable


class AllNames:
    """All images of some units, in the order of their names as bytes.

    Attributes:
        units: with names.
        order: the position of each image, counted through all units.
        skipped: what cannot be read, by the listing alone.
        ignored: entries that are not images, by rule.
    """

    def __init__(self, source: Source, entries: Iterable[Unit | Skipped | Ignored]) -> None:
        """
        Args:
            entries: some or all of those of `source.units`.
        """
        self.units: list[Unit] = []
        self.skipped: list[Skipped] = []
        self.ignored: Counter[str] = Counter()
        for entry in entries:
            if isinstance(entry, Skipped):
                self.skipped.append(entry)
            elif isinstance(entry, Ignored):
                self.ignored.update(entry.rules)
            elif entry.names is not None:
                self.units.append(entry)
            else:
                self._list(source, entry)
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

    def names_sum(self) -> int:
        """`tally.names.names_sum` of all names."""
        return sum(names_sum(encoded(unit.names or ())) for unit in self.units)

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

    def _list(self, source: Source, unit: Unit) -> None:
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
    return AllNames(source, source.units())
