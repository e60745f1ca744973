"""Stats: a finished measurement with its provenance, or constants that somebody wrote down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from imgnorm.errors import IncompatibleStats
from imgnorm.estimate import Estimate
from imgnorm.histogram import QUANTILES, Histogram
from imgnorm.image import CHANNELS, SCALE, Mode, Resize, Step
from imgnorm.moments import Convention, ImageSums, Moments
from imgnorm.reasons import Skipped
from imgnorm.tally import Counted, in_mode

MERGED = "merged"
"""The kind of a source that several sources were merged into."""


@dataclass(frozen=True)
class ClassStats:
    """One class of the dataset."""

    images: int
    moments: Moments | None = None  # with `per_class`

    def __add__(self, other: ClassStats) -> ClassStats:
        both = self.moments and other.moments and self.moments + other.moments
        return ClassStats(self.images + other.images, both)

    def replicated(self, channels: int) -> ClassStats:
        """The same grayscale images as `convert("RGB")` shows them."""
        if self.moments is None:
            return self
        gray = self.moments
        wide = Moments(gray.count, gray.total * channels, gray.total_sq * channels)
        return ClassStats(self.images, wide)


@dataclass(frozen=True)
class Shards:
    """Which shards of one listing were measured, while there are others."""

    of: int  # how many there are
    counted: tuple[int, ...]  # from 1, sorted; a shard that was added twice stands there twice

    @property
    def missing(self) -> list[int]:
        return sorted(set(range(1, self.of + 1)) - set(self.counted))

    @property
    def whole(self) -> bool:
        return self.counted == tuple(range(1, self.of + 1))

    def __str__(self) -> str:
        several = "s" if len(self.counted) > 1 else ""
        return f"shard{several} {ranges(self.counted)} of {self.of:,}"


@dataclass(frozen=True)
class Provenance:
    """Where a measurement comes from."""

    kind: str  # folder, list, torchvision; MERGED, with `parts`
    ref: str | tuple[str, ...]  # what the user called it; several, sorted, after a merge
    names_sha256: str  # names_digest of the names of all counted images
    listing_sha256: str  # of all names, before `limit` and shard; "" of a merged source
    images: int  # that were counted
    options: Mapping[str, str | int] = field(
        default_factory=dict
    )  # that chose images: split, limit
    shards: Shards | None = None  # None if all of the listing was measured
    parts: tuple[Provenance, ...] = ()  # of a merged source, sorted; none of them is merged itself

    @property
    def sources(self) -> tuple[Provenance, ...]:
        return self.parts or (self,)

    @property
    def called(self) -> str:
        """The `ref` as a person reads it."""
        return self.ref if isinstance(self.ref, str) else ", ".join(self.ref)

    @property
    def sharded(self) -> tuple[Provenance, ...]:
        """The sources of which shards are missing, or were added twice."""
        return tuple(source for source in self.sources if source.shards)

    @property
    def incomplete(self) -> list[str]:
        """What there is of each source of which shards are missing, for a person."""
        return [
            f"of {source.called!r}, only {source.shards}"
            for source in self.sharded
            if source.shards and source.shards.missing
        ]


@dataclass(frozen=True)
class Measurement:
    """What was counted, exactly."""

    images: int
    histogram: Histogram
    sums: ImageSums
    modes: Mapping[str, int]  # as the files have them -> images
    formats: Mapping[str, int]
    decoders: Mapping[str, str]  # format -> library and version
    source: Provenance
    classes: Mapping[str, ClassStats] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)  # rule -> entries
    estimate: Estimate | None = None  # where these are only a sample of the images, its error bars

    @property
    def found(self) -> int:
        return self.images + len(self.skipped) + sum(self.ignored.values())

    def conventions(self) -> dict[str, Convention]:
        return self.sums.conventions()

    def quantiles(self) -> dict[str, tuple[int, ...]]:
        """By name (q01 … q99), raw pixel values."""
        return {name: self.histogram.quantile(q) for name, q in QUANTILES.items()}


@dataclass(frozen=True)
class Stats:
    """Per-channel mean and std for ToTensor's [0, 1]: pooled over all pixels, population."""

    channels: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: int = 255  # the pixel value that ToTensor makes 1.0
    mode: Mode | None = None  # the images' mode; None in constants that do not tell
    preprocess: tuple[Step, ...] = ()  # between loading and ToTensor
    measurement: Measurement | None = None  # None in constants
    auto: bool = False  # `mode` is what mode "auto" found; with others it may become RGB

    @classmethod
    def of(
        cls,
        measurement: Measurement,
        mode: Mode,
        preprocess: tuple[Step, ...],
        *,
        auto: bool = False,
    ) -> Stats:
        moments = measurement.histogram.moments()
        scale = SCALE[mode]
        return cls(
            CHANNELS[mode],
            moments.mean(scale=scale),
            moments.std(scale=scale),
            scale,
            mode,
            preprocess,
            measurement,
            auto,
        )

    def __add__(self, other: Stats) -> Stats:
        """One measurement of all images of both; of shards, what is still missing is noted.

        Raises:
            IncompatibleStats: they do not belong together, or count the same images.
        """
        if not isinstance(other, Stats):
            return NotImplemented
        return merge([self, other], allow_missing=True)

    @property
    def images(self) -> int:
        """How many images were counted; 0 in constants."""
        return self.measurement.images if self.measurement else 0

    @property
    def estimate(self) -> Estimate | None:
        """How far mean and std may be from the exact ones; None where they are exact, or constants."""
        return self.measurement.estimate if self.measurement else None

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What was found and could not be counted, with its reason."""
        return self.measurement.skipped if self.measurement else ()


def channel_names(count: int) -> tuple[str, ...]:
    """The names that constants without `channels` get."""
    by_count: dict[int, Sequence[str]] = {1: "L", 3: "RGB", 4: "RGBA"}
    return tuple(by_count.get(count, [f"c{i}" for i in range(count)]))


def names_digest(names: Iterable[bytes]) -> str:
    """The sum of each name's SHA-256, modulo 2**256: the same in any order, and digests add up.

    Other names give another sum, short of a chance of 2**-256. It does not resist an attacker, who
    could find names for a wanted sum (Wagner's generalized birthday); nobody gains from that here.
    """
    return _hexadecimal(int.from_bytes(sha256(name).digest(), "big") for name in names)


def _added_digests(digests: Iterable[str]) -> str:
    return _hexadecimal(int(digest, 16) for digest in digests)


def _hexadecimal(numbers: Iterable[int]) -> str:
    return f"{sum(numbers) % (1 << 256):064x}"


def ranges(numbers: Sequence[int]) -> str:
    """ "1-3, 7": sorted numbers, for a person."""
    texts: list[str] = []
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            first, last = numbers[start], numbers[end - 1]
            texts.append(f"{first}" if first == last else f"{first}-{last}")
            start = end
    return ", ".join(texts)


def merge(
    parts: Iterable[Stats],
    *,
    labels: Iterable[str] | None = None,
    allow_missing: bool = False,
    allow_overlap: bool = False,
) -> Stats:
    """One measurement of all that the parts counted, exactly; their order changes nothing.

    All shards of a listing give the stats of measuring it at once.

    Args:
        labels: what messages call each part, in their order; by default, its source.
        allow_missing: shards may be missing; the result tells which it has.
        allow_overlap: images may be counted more than once.

    Raises:
        IncompatibleStats: the parts do not belong together; with everything that is against it.
        ValueError: there are no parts.
    """
    labelled = (
        ((None, part) for part in parts) if labels is None else zip(labels, parts, strict=True)
    )
    return _Merge(labelled).result(allow_missing=allow_missing, allow_overlap=allow_overlap)


def combined(sources: Iterable[Provenance]) -> Provenance:
    """The sources as one: shards of one listing put together, all others side by side."""
    parts: list[Provenance] = []
    shards: dict[object, list[Provenance]] = {}
    for source in sources:
        for part in source.sources:
            if part.shards:
                shards.setdefault(_listing_of(part), []).append(part)
            else:
                parts.append(part)
    parts += map(_put_together, shards.values())
    if len(parts) == 1:
        return parts[0]
    return Provenance(
        MERGED,
        _refs(parts),
        _added_digests(part.names_sha256 for part in parts),
        "",
        sum(part.images for part in parts),
        parts=tuple(sorted(parts, key=_order)),
    )


def _put_together(parts: Sequence[Provenance]) -> Provenance:
    """Shards of one listing as one source, which is whole when none is missing and none is double."""
    first = parts[0]
    assert first.shards
    counted = sorted(number for part in parts if part.shards for number in part.shards.counted)
    shards = Shards(first.shards.of, tuple(counted))
    return Provenance(
        first.kind,
        _refs(parts),
        _added_digests(part.names_sha256 for part in parts),
        first.listing_sha256,
        sum(part.images for part in parts),
        first.options,
        None if shards.whole else shards,
    )


def _refs(parts: Iterable[Provenance]) -> str | tuple[str, ...]:
    refs: set[str] = set()
    for part in parts:
        refs.update([part.ref] if isinstance(part.ref, str) else part.ref)
    return refs.pop() if len(refs) == 1 else tuple(sorted(refs))


def _order(part: Provenance) -> tuple[object, ...]:
    ref = [part.ref] if isinstance(part.ref, str) else list(part.ref)
    shards = (part.shards.of, part.shards.counted) if part.shards else ()
    options = sorted((key, str(option)) for key, option in part.options.items())
    digests = (part.listing_sha256, part.names_sha256)
    return (part.kind, ref, options, shards, digests, part.images)


def _listing_of(part: Provenance) -> object:
    """Equal for the shards that make up one whole."""
    of = part.shards and part.shards.of
    return (part.kind, part.listing_sha256, frozenset(part.options.items()), of)


def _names_of(part: Provenance, digest: str) -> object:
    """Equal where the same names mean the same images."""
    if part.kind == "torchvision":  # its names are numbers, which every dataset has
        return (digest, part.ref, part.options.get("split"))
    return digest


@dataclass(frozen=True)
class _Part:
    """What must fit, of one part; its sums are added up already."""

    label: str
    mode: Mode
    auto: bool
    preprocess: tuple[Step, ...]
    source: Provenance
    decoders: Mapping[str, str]
    per_class: bool | None  # None if there are no classes


class _Merge:
    """Adds parts up one by one, so that memory does not grow with them, and judges them at the end."""

    def __init__(self, labelled: Iterable[tuple[str | None, Stats]]) -> None:
        self._parts: list[_Part] = []
        self._counted: dict[Mode, Counted] = {}
        self._classes: dict[Mode, dict[str, ClassStats]] = {}
        self._skipped: list[Skipped] = []
        self._ignored: dict[str, int] = {}
        self._faults: list[str] = []
        self._only: Stats | None = None
        for label, stats in labelled:
            self._take(label, stats)
        if not self._parts and not self._faults:
            raise ValueError("there is nothing to merge")

    def result(self, *, allow_missing: bool, allow_overlap: bool) -> Stats:
        source = combined(part.source for part in self._parts)
        faults = [*self._faults, *self._unlike()]
        if not allow_overlap:
            faults += _overlaps(self._parts)
        if not allow_missing:
            faults += _gaps(self._parts, source)
        if faults:
            raise IncompatibleStats("\n".join(faults))
        if self._only:
            return self._only
        mode = _common_mode(self._parts)
        assert mode
        counted = in_mode(self._counted, mode)
        measurement = Measurement(
            images=counted.images,
            histogram=counted.histogram,
            sums=counted.sums,
            modes=counted.modes,
            formats=counted.formats,
            decoders=_decoders(self._parts),
            source=source,
            classes=self._classes_in_mode(mode),
            skipped=tuple(sorted(self._skipped, key=skipped_order)),
            ignored=self._ignored,
        )
        auto = all(part.auto for part in self._parts)
        return Stats.of(measurement, mode, self._parts[0].preprocess, auto=auto)

    def _take(self, label: str | None, stats: Stats) -> None:
        measured, mode = stats.measurement, stats.mode
        if measured is None or mode is None:
            self._faults.append(
                f"{label or 'constants'}: holds constants, written by hand; only measurements merge, so "
                "leave it out"
            )
            return
        if measured.estimate:
            self._faults.append(
                f"{label or _label(measured.source)}: an estimate ({measured.estimate}); only exact "
                "measurements merge, so measure it again without --tolerance"
            )
            return
        self._only = None if self._parts else stats
        with_moments = {one.moments is not None for one in measured.classes.values()}
        self._parts.append(
            _Part(
                label or _label(measured.source),
                mode,
                stats.auto,
                stats.preprocess,
                measured.source,
                measured.decoders,
                all(with_moments) if with_moments else None,
            )
        )
        counted = Counted(
            measured.images, measured.histogram, measured.sums, measured.modes, measured.formats
        )
        there = self._counted.get(mode)
        self._counted[mode] = there + counted if there else counted
        classes = self._classes.setdefault(mode, {})
        for name, one in measured.classes.items():
            classes[name] = classes[name] + one if name in classes else one
        self._skipped += measured.skipped
        for rule, entries in measured.ignored.items():
            self._ignored[rule] = self._ignored.get(rule, 0) + entries

    def _classes_in_mode(self, mode: Mode) -> dict[str, ClassStats]:
        classes = dict(self._classes.get(mode, {}))
        if mode == "RGB":
            for name, gray in self._classes.get("L", {}).items():
                one = gray.replicated(len(CHANNELS[mode]))
                classes[name] = classes[name] + one if name in classes else one
        return dict(sorted(classes.items()))

    def _unlike(self) -> Iterator[str]:
        """Where the settings that decide digits differ."""
        if not self._parts:
            return
        if _common_mode(self._parts) is None:
            yield from _mode_faults(self._parts)
        first = self._parts[0]
        for part in self._parts[1:]:
            if part.preprocess != first.preprocess:
                yield (
                    f"{part.label}: measured {_through(part.preprocess)}, but {first.label} "
                    f"{_through(first.preprocess)}; measure both with the same --resize and --center-crop"
                )
        yield from _decoder_faults(self._parts)
        with_classes = [part for part in self._parts if part.per_class is not None]
        for part in with_classes[1:]:
            if part.per_class != with_classes[0].per_class:
                a, b = (part, with_classes[0])[:: 1 if part.per_class else -1]
                yield (
                    f"{a.label}: has mean and std of each class, but {b.label} has not; measure both "
                    "with --per-class, or neither"
                )


def skipped_order(skipped: Skipped) -> tuple[str, str]:
    """How a stats file sorts them, whatever was measured together and whatever merged."""
    return skipped.name, skipped.reason.value


def _label(source: Provenance) -> str:
    shards = f", {source.shards}" if source.shards else ""
    return f"{source.kind} {source.called!r}{shards}"


def _through(steps: Sequence[Step]) -> str:
    return f"through {', '.join(map(repr, steps))}" if steps else "at native sizes"


def _common_mode(parts: Sequence[_Part]) -> Mode | None:
    """The mode that measuring all at once would give; None if there is none.

    Gray images become RGB among RGB ones, where mode "auto" found that all of a part are gray: with
    `--mode L` some of them may have been colored.
    """
    modes = {part.mode for part in parts}
    if len(modes) == 1:
        return modes.pop()
    if modes == {"L", "RGB"} and all(part.auto for part in parts if part.mode == "L"):
        return "RGB"
    return None


def _mode_faults(parts: Sequence[_Part]) -> Iterator[str]:
    deep = [part for part in parts if part.mode == "I;16"]
    others = [part for part in parts if part.mode != "I;16"]
    for part in deep if others else ():
        yield (
            f"{part.label}: 16-bit grayscale (mode I;16), but {others[0].label} is 8-bit "
            f"({others[0].mode}); the scales of their values differ, so keep them apart"
        )
    colored = (part for part in others if part.mode == "RGB")
    reference = next(colored, others[0] if others else None)
    for part in others:
        if reference and _common_mode([reference, part]) is None:
            yield (
                f"{part.label}: measured in mode {_mode_asked(part)}, but {reference.label} in "
                f"{_mode_asked(reference)}; measure both with the same --mode"
            )


def _mode_asked(part: _Part) -> str:
    return f"{part.mode} (auto)" if part.auto else f"{part.mode} (--mode {part.mode})"


_LOSSLESS = {"BMP", "GIF", "PNG", "PPM"}  # formats whose decoders agree in every digit
_BETWEEN = "; "  # of several decoders of one format


def _decoder_faults(parts: Sequence[_Part]) -> Iterator[str]:
    """Decoders whose digits may differ: of lossy formats, and of what resized."""
    resized = any(isinstance(step, Resize) for part in parts for step in part.preprocess)
    first: dict[str, tuple[str, str]] = {}  # format, or Resize -> library, label
    for part in parts:
        for format_, decoders in sorted(part.decoders.items()):
            for decoder in decoders.split(_BETWEEN):
                pillow, _, library = decoder.partition(", ")
                relevant = {} if format_ in _LOSSLESS else {format_: library or pillow}
                if resized:
                    relevant["Resize"] = pillow
                for what, by in relevant.items():
                    there, label = first.setdefault(what, (by, part.label))
                    if there != by:
                        yield (
                            f"{part.label}: {what} by {by}, but {label} by {there}, whose digits may "
                            "differ; measure both with the same versions"
                        )


def _decoders(parts: Sequence[_Part]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for part in parts:
        for format_, decoders in part.decoders.items():
            found.setdefault(format_, set()).update(decoders.split(_BETWEEN))
    return {format_: _BETWEEN.join(sorted(found[format_])) for format_ in sorted(found)}


def _overlaps(parts: Sequence[_Part]) -> Iterator[str]:
    """Images that two parts count, as far as digests tell.

    Seen: the same listing, or the same set of names, twice. Not seen: listings that differ and still
    share images, as a folder and a folder inside it do.
    """
    listings: dict[object, tuple[_Part, Provenance]] = {}  # the first of each to be met
    shards: dict[object, tuple[_Part, Provenance]] = {}
    names: dict[object, tuple[_Part, Provenance]] = {}
    sharded: dict[object, tuple[_Part, Provenance]] = {}
    for part in parts:
        for source in part.source.sources:
            here = (part, source)
            listed = listings.setdefault(_names_of(source, source.listing_sha256), here)
            same = [names.setdefault(_names_of(source, source.names_sha256), here)]
            if not source.shards or _listing_of(source) != _listing_of(listed[1]):
                same.append(listed)
            else:
                listing = _listing_of(source)
                same += (shards.setdefault((listing, i), here) for i in source.shards.counted)
            other = next((one for one in same if one[0] is not part), None)
            if other:
                yield _overlap(part, source, *other)
            elif source.shards:
                key = (source.kind, source.ref, source.shards.of, frozenset(source.options.items()))
                before, its = sharded.setdefault(key, here)
                if its.listing_sha256 != source.listing_sha256 and before is not part:
                    yield (
                        f"{part.label}: counts {_extent(source)}, but of other names than {before.label}, "
                        "so the source changed between them; measure all shards again, or count what "
                        "they share twice with --allow-overlap"
                    )


def _overlap(part: _Part, source: Provenance, other: _Part, its: Provenance) -> str:
    return (
        f"{part.label}: counts {_extent(source)}, of which {other.label} counts {_extent(its)}; leave "
        "one out, or count them twice with --allow-overlap"
    )


def _extent(source: Provenance) -> str:
    which = str(source.shards) if source.shards else f"all {source.images:,} images"
    limit = f" within --limit {source.options['limit']}" if "limit" in source.options else ""
    return f"{which}{limit} of {source.called!r}"


def _gaps(parts: Sequence[_Part], whole: Provenance) -> Iterator[str]:
    for source in whole.sharded:
        assert source.shards
        missing = source.shards.missing
        if not missing:
            continue
        label = next(
            part.label
            for part in parts
            for one in part.source.sharded
            if _listing_of(one) == _listing_of(source)
        )
        verb = "are" if len(missing) > 1 else "is"
        several = "s" if len(missing) > 1 else ""
        yield (
            f"{label}: shard{several} {ranges(missing)} of {source.shards.of:,} of {source.called!r} "
            f"{verb} missing; add the file{several}, or go on without with --allow-missing"
        )
