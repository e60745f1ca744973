"""Names of images: as bytes, as text, and numbered ones that take no memory each.

A name is a `str` as Python has it from the file system. `name_bytes` is what is sorted and hashed,
`as_text` what is stored, `for_message` what is printed.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import overload

from imgnorm.wording import printable

name_bytes: Callable[[str], bytes] = os.fsencode
"""What the file system stores for a name, whatever this process's locale."""


def as_text(name: str) -> str:
    """A name as text that can be printed and stored anywhere; undecodable bytes become \\xNN."""
    return name_bytes(name).decode("utf-8", "backslashreplace")


def for_message(name: str) -> str:
    """A name as messages print it: on one line, and harmless to a terminal."""
    return printable(as_text(name))


def member_of(source: object, name: str) -> str | None:
    """The part of a name that lies inside an archive, if it does."""
    # Not isinstance: with a protocol, it takes 0.1 ms each time.
    shard_of = getattr(source, "shard_of", None)
    return None if shard_of is None else as_text(name[len(shard_of(name)) + 1 :]) or None


def encoded(names: Sequence[str]) -> Iterable[bytes]:
    """The names as bytes, as `name_bytes` makes them."""
    return names.encoded() if isinstance(names, NumberedNames) else map(name_bytes, names)


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
