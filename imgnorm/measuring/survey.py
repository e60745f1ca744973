"""What measuring would look at, and about how long it would take: before hours are spent."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from random import Random
from time import perf_counter
from typing import Any

from imgnorm.errors import SourceError
from imgnorm.measuring.measure import Prepared, prepared
from imgnorm.measuring.result import no_image_message
from imgnorm.measuring.routes import executing
from imgnorm.measuring.selection import nothing_found, spread
from imgnorm.sources.listing import AllNames, Catalogue
from imgnorm.sources.names import as_text
from imgnorm.sources.source import Source, Unit
from imgnorm.tally.tally import Tally
from imgnorm.wording import in_bytes, in_time, plural, shown

_OPENED = 8  # archives
_FIRST = 8  # images
_ENOUGH_S = 2.0
_GROWTH = 4  # of a sample, over the one before
_MOST = 1 << 16  # images
_NAMED = 5  # extensions, modes or formats


@dataclass(frozen=True)
class Survey:
    """What a source has, and about how long measuring it takes. Surveys of several sources add up.

    Attributes:
        images: found, and within the limit.
        archives, opened: how many there are, and of how many the images were counted.
        extensions: of the names that were listed -> images; "" for names without one.
        bytes: of the files, the archives or the arrays.
        bytes_exact: false if `bytes` is what the sample has, times as many.
        seconds: about how long measuring takes here.
        sample: images that were measured to know that.
        skipped: those of them that could not be counted.
        modes, formats: of the others -> images.
    """

    images: int = 0
    archives: int = 0
    opened: int = 0
    extensions: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    bytes_exact: bool = True
    seconds: float = 0.0
    sample: int = 0
    skipped: int = 0
    modes: Mapping[str, int] = field(default_factory=dict)
    formats: Mapping[str, int] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether `images` is exact: all archives were opened."""
        return self.archives == self.opened

    def __add__(self, other: Survey) -> Survey:
        def both(name: str) -> Any:
            mine, others = getattr(self, name), getattr(other, name)
            if isinstance(mine, bool):
                return mine and others
            return (
                mine + others if isinstance(mine, (int, float)) else Counter(mine) + Counter(others)
            )

        return Survey(*map(both, vars(self)))

    def __str__(self) -> str:
        """Lines for a terminal."""
        found = f"{'' if self.exact else 'about '}{self.images:,} images"
        if self.archives:
            opened = "" if self.exact else f", of which {self.opened:,} were opened"
            found += f" in {self.archives:,} archive{'s' * (self.archives != 1)}{opened}"
        if any(self.extensions):
            found += f" ({_most(self.extensions)})"
        if self.bytes:
            found += f", {'' if self.bytes_exact else 'about '}{in_bytes(self.bytes)}"
        kinds = "; ".join(map(_most, (self.modes, self.formats)))
        return "\n".join(
            (
                f"found    {found}",
                f"sample   {self.sample:,} measured: {kinds}; {self.skipped:,} skipped",
                f"time     about {in_time(self.seconds)} for all",
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return dict(vars(self))


def survey(source: Any, **options: Any) -> Survey:
    """Look at what `measure` would look at, for a few seconds.

    All names are listed, of archives those of 8; then images that are spread over all are measured for
    about two seconds.

    Args:
        source, options: as `imgnorm.measure` takes them.

    Raises:
        ImgnormError, ValueError, TypeError: as `imgnorm.measure`; or the images come only once, or an
            estimate is asked for.
    """
    call = prepared(source, **options)
    if call.plan:
        raise SourceError(
            "a dry run says how long all images take, and a tolerance takes as few as it needs; leave "
            "one of the two out"
        )
    surveys = [_survey(one, call) for one in call.sources]
    return sum(surveys[1:], surveys[0])


def _survey(source: Source, call: Prepared) -> Survey:
    if source.once:
        raise SourceError(
            f"{as_text(source.ref)}: its images come once, and a dry run would take some of them away"
        )
    started = perf_counter()
    source.open()
    shards = call.options.shards
    catalogue = Catalogue(source, *((shards.total, shards.counted) if shards else ()))
    units = list(catalogue)
    archives = [unit for unit in units if unit.names is None]
    opened = [archives[place] for place in spread(len(archives), _OPENED)]
    closed = {id(unit) for unit in archives}.difference(map(id, opened))
    names = AllNames(catalogue, (unit for unit in units if id(unit) not in closed))
    if not names:
        raise nothing_found(source, names.ignored)
    ids = {unit.id for unit in opened}
    in_opened = sum(len(unit) for unit in names.units if unit.id in ids)
    found = len(names) + round(in_opened * (_times_all(opened, archives) - 1))
    listing_s = perf_counter() - started

    images = min(found, call.options.limit or found)
    looked_at = spread(len(names), images)
    tally, sample, rate = _sample(source, names, call, images)
    if not tally.images:
        raise SourceError(no_image_message(source.ref, "counted", tally.skipped))
    sizes = [unit.bytes for unit in units]
    exact = None not in sizes and images == found
    return Survey(
        images,
        len(archives),
        len(opened),
        Counter(os.path.splitext(names.name(place))[1].lower() for place in looked_at),
        sum(filter(None, sizes)) if exact else round(tally.bytes_read / sample * images),
        exact or sample == images,
        listing_s + images / rate,
        sample,
        len(tally.skipped),
        sum((Counter(one.modes) for one in tally.counted.values()), Counter()),
        sum((Counter(one.formats) for one in tally.counted.values()), Counter()),
    )


def _times_all(opened: list[Unit], archives: list[Unit]) -> float:
    """How many times as much all archives have as those that were opened: by bytes, if they are known."""
    bytes_opened, bytes_all = (sum(unit.bytes or 0 for unit in some) for some in (opened, archives))
    if bytes_opened:
        return bytes_all / bytes_opened
    return len(archives) / max(1, len(opened))


def _sample(
    source: Source, names: AllNames, call: Prepared, images: int
) -> tuple[Tally, int, float]:
    """What was counted of some images, how many these are, and how many are counted in a second.

    The first samples are small, and workers are only being started; so the fastest one tells the rate.
    """
    chosen = Random(0).sample(range(len(names)), min(images, len(names), _MOST))
    whole, done, size = Tally(), 0, _FIRST
    spent, rate = 0.0, 1e-9  # images a second
    with executing(source, call.work, len(chosen)) as count:
        while done < len(chosen) and spent < _ENOUGH_S:
            batch = chosen[done : done + size]
            started = perf_counter()
            whole += count(names.only(batch), lambda progress: None)
            seconds = perf_counter() - started
            done, spent = done + len(batch), spent + seconds
            rate = max(rate, len(batch) / seconds)
            size = max(1, min(size * _GROWTH, ceil(rate * _ENOUGH_S)))
    return whole, done, rate


def _most(counts: Mapping[str, int]) -> str:
    """The most frequent ones: "18 RGB, 3 L"."""
    most = Counter(counts).most_common(_NAMED if len(counts) > _NAMED + 1 else None)
    left = sum(counts.values()) - sum(count for _, count in most)
    named = [f"{count:,} {shown(name) or 'without extension'}" for name, count in most]
    return ", ".join(named + [plural(left, "other")] * bool(left))
