"""Names of images: as bytes, as text, and numbered ones that take no memory each.

A name is a `str` as Python has it from the file system. `name_bytes` is what is sorted and hashed,
`as_text` what is stored, and `wording.printable` what messages print.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import overload
from zlib import crc32

from imgnorm.tally.names import names_sum
from imgnorm.tally.tally import ClassTally, Tally

_MIN_RUN, _MAX_RUN = 32, 512
_ENDS = 0x3F  # one name in 64 ends a run

name_bytes: Callable[[str], bytes] = os.fsencode
"""What the file system stores for a name, whatever this process's locale."""


def as_text(name: str) -> str:
    """A name as text that can be printed and stored anywhere; undecodable bytes become \\xNN."""
    return name_bytes(name).decode("utf-8", "backslashreplace")


def encoded(names: Sequence[str]) -> Iterable[bytes]:
    """The names as bytes, as `name_bytes` makes them."""
    return names.encoded() if isinstance(names, NumberedNames) else map(name_bytes, names)


def runs_of(names: Iterable[str]) -> Iterator[list[str]]:
    """Runs of names, of about 100, which go to the same shard.

    A run ends where the names say so, not after a fixed number: so a new name moves only the ends near
    it, and tomorrow's runs are today's.
    """
    run: list[str] = []
    for name in names:
        run.append(name)
        if len(run) < _MIN_RUN:
            continue
        if len(run) == _MAX_RUN or not crc32(name_bytes(name)) & _ENDS:
            yield run
            run = []
    if run:
        yield run


def looked_at(
    tally: Tally,
    names: Sequence[str],
    class_of: Callable[[str], str | None],
    *,
    again: bool = False,
) -> Tally:
    """The tally of a job, with what follows from the names of its images: digests and classes.

    Args:
        names: of all images that were looked at; those in `tally.skipped` were not counted.
        again: they were looked at before, and taken for counted.
    """
    lost = [one.name for one in tally.skipped]
    classes = Counter(map(class_of, () if again else names))
    classes.subtract(map(class_of, lost))
    whole = 0 if again else names_sum(encoded(names))
    return replace(
        tally,
        classes={
            **tally.classes,
            **{
                name: replace(tally.classes.get(name, ClassTally()), images=images)
                for name, images in classes.items()
                if name is not None
            },
        },
        names=0 if again else len(names),
        names_sum=whole,
        counted_sum=whole - names_sum(encoded(lost)),
    )


@dataclass(frozen=True)
class Run:
    """Images of one array, `a.npy/007`, `a.npy/009`, or of a stream, `007`."""

    key: str  # the array's name; "" for a stream
    numbers: range  # of these images in it, ascending; not empty
    digits: int  # in the number of each of its images; 0: the array is one image, with its name

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, index: int) -> str:
        return f"{self._before}{self.numbers[index]:0{self.digits}d}" if self.digits else self.key

    def names(self) -> Iterable[str]:
        if not self.digits:
            return [self.key]
        return map(f"{self._before.replace('%', '%%')}%0{self.digits}d".__mod__, self.numbers)

    def encoded(self) -> Iterable[bytes]:
        if not self.digits:
            return [name_bytes(self.key)]
        before = name_bytes(self._before).replace(b"%", b"%%")
        return map((before + b"%%0%dd" % self.digits).__mod__, self.numbers)

    @property
    def _before(self) -> str:
        return f"{self.key}/" if self.key else ""


class NumberedNames(Sequence[str]):
    """The names of all images of some runs, made when they are read. A slice is as small and quick."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.runs = tuple(runs)
        self._ends = list(accumulate(map(len, self.runs)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[str]:
        for run in self.runs:
            yield from run.names()

    def encoded(self) -> Iterator[bytes]:
        for run in self.runs:
            yield from run.encoded()

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> NumberedNames: ...

    def __getitem__(self, index: int | slice) -> str | NumberedNames:
        places = range(len(self))[index]
        if isinstance(places, int):
            run = bisect_right(self._ends, places)
            return self.runs[run].name(places - self._ends[run])
        if places.step < 0:
            alone = (self._part(range(place, place + 1)) for place in places)
            return NumberedNames(run for one in alone for run in one.runs)
        return self._part(places)

    def _part(self, places: range) -> NumberedNames:
        runs: list[Run] = []
        index = bisect_right(self._ends, places.start)
        while places:
            run, end = self.runs[index], self._ends[index]
            start = end - len(run)
            count = len(range(places.start, min(end, places.stop), places.step))
            if count == len(run):
                runs.append(run)
            elif count:
                last = places[count - 1]
                numbers = run.numbers[places.start - start : last - start + 1 : places.step]
                runs.append(replace(run, numbers=numbers))
            places = places[count:]
            index += 1
        return NumberedNames(runs)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (list, tuple, NumberedNames)):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    def __repr__(self) -> str:
        return f"NumberedNames({self.runs!r})"
