"""Tallies and their provenance -> Stats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from imgnorm.datasets.source import StreamingSource
from imgnorm.errors import SourceError
from imgnorm.settings import ImageSettings, Mode, channels_of, kind_of, mode_of
from imgnorm.sources.names import as_text, encoded, for_message, member_of, name_bytes
from imgnorm.sources.source import BlockSource, Listing, Source
from imgnorm.stats.measurement import ClassStats, Measurement
from imgnorm.stats.provenance import Provenance
from imgnorm.stats.stats import Stats
from imgnorm.tally.names import lines_of, names_digest
from imgnorm.tally.skipped import Reason, Skipped, Unreadable, skipped_order
from imgnorm.tally.tally import Tally, common_mode, in_mode

if TYPE_CHECKING:
    from imgnorm.stats.estimate import Estimate


def finished(
    source: Source | StreamingSource,
    origin: Provenance,
    aside: Listing,
    names: Sequence[str],
    tallies: Mapping[str, Tally],
    settings: ImageSettings,
    per_class: bool,
    found: int,
    estimate: Estimate | None,
    *,
    keep_names: bool = False,
) -> Stats:
    """The stats of what was counted.

    Args:
        origin: where it comes from, but for the images that were counted.
        aside: what was found and not looked at.
        names: that were looked at, sorted.
        tallies: by class with `per_class`, else one.
        found: how many names the whole listing has.

    Raises:
        SourceError: not one image was counted, or images that do not belong together.
    """
    whole = sum(tallies.values(), Tally())
    if whole.has_other_floats:
        whole = whole.of_floats()
        tallies = {group: tally.of_floats() for group, tally in tallies.items()}
    mode = mode_of_whole(whole, settings)
    too_deep = () if mode == "I;16" else whole.names_16bit
    skipped = sorted(
        (*aside.skipped, *whole.skipped, *map(_too_deep, too_deep)),
        key=lambda s: name_bytes(s.name),
    )
    if mode is None:
        unlike = _unlike(source, whole) if whole.counted else None
        raise SourceError(unlike or none_left(source.ref, "counted", skipped))
    left_out = {*(s.name for s in whole.skipped), *too_deep}  # a name listed twice is counted once
    kept = [name for name in names if name not in left_out] if left_out else names
    counted = in_mode(whole.counted, mode)
    as_floats = None
    if origin.shards and whole.all_divided:  # all at once, the other shards would decide
        as_floats = in_mode(whole.divided, mode_of(len(channels_of(mode)), "float"))
    measurement = Measurement(
        images=counted.images,
        pixels=counted.pixels,
        sums=counted.sums,
        modes=counted.modes,
        formats=counted.formats,
        decoders={f: d for f, d in whole.decoders.items() if f in counted.formats},
        source=replace(
            origin,
            names_sha256=_digest_of(kept, origin, everything=len(kept) == found),
            images=counted.images,
            names=lines_of(encoded(kept)) if keep_names else None,
        ),
        classes=_classes(
            source, kept, tallies if per_class else {}, mode, as_floats=as_floats is not None
        ),
        skipped=tuple(
            sorted(
                (
                    replace(s, name=as_text(s.name), member=member_of(source, s.name))
                    for s in skipped
                ),
                key=skipped_order,
            )
        ),
        ignored=aside.ignored,
        estimate=estimate,
        as_floats=as_floats,
    )
    return Stats.of(
        measurement,
        mode,
        settings.preprocess,
        auto=settings.mode == "auto",
        strict_channels=settings.strict_channels,
    )


def _digest_of(kept: Sequence[str], origin: Provenance, *, everything: bool) -> str:
    return origin.listing_sha256 if everything else names_digest(encoded(kept))


def mode_of_whole(whole: Tally, settings: ImageSettings) -> Mode | None:
    """The mode of the whole; None if nothing was counted."""
    met = set(whole.counted)
    if settings.mode == "auto":
        return common_mode(met if met == {"I;16"} else met - {"I;16"})
    kinds = {kind_of(mode) for mode in met}
    if kinds == {"float"}:  # which no image file is: of as many channels as were asked for
        return mode_of(len(channels_of(settings.mode)), "float")
    return settings.mode if len(kinds) == 1 else None


def _unlike(source: Source | StreamingSource, whole: Tally) -> str:
    counts = ", ".join(
        f"{counted.images:,} of mode {mode}" for mode, counted in sorted(whole.counted.items())
    )
    return (
        f"{as_text(source.ref)}: images that do not belong together, {counts}; measure them apart, or make them "
        "alike in the dataset"
    )


def _too_deep(name: str) -> Skipped:
    return Unreadable(
        Reason.UNSUPPORTED_MODE,
        "16-bit grayscale among 8-bit images; measure it apart, with --mode 'I;16'",
    ).skipped(name)


def none_left(ref: str, done: str, skipped: Sequence[Skipped]) -> str:
    """The message where every image of a source was skipped.

    Args:
        done: what could be done with none of them: counted.
    """
    examples = "".join(f"\n  {for_message(s.name)}: {s.reason} ({s.detail})" for s in skipped[:5])
    more = f"\n  and {len(skipped) - 5:,} more" if len(skipped) > 5 else ""
    return (
        f"{as_text(ref)}: not one of {len(skipped):,} images could be {done}; "
        f"mend the files or the options:{examples}{more}"
    )


def _classes(
    source: Source | StreamingSource,
    kept: Sequence[str],
    tallies: Mapping[str, Tally],
    mode: Mode,
    *,
    as_floats: bool,
) -> dict[str, ClassStats]:
    if isinstance(source, BlockSource):  # arrays have no class folders
        return {}
    images = Counter(map(source.class_of, kept))
    classes: dict[str, ClassStats] = {}
    for group, count in sorted((g, n) for g, n in images.items() if g is not None):
        moments = in_mode(tallies[group].counted, mode).pixels.moments() if tallies else None
        floats = None
        if tallies and as_floats:
            floating = mode_of(len(channels_of(mode)), "float")
            floats = in_mode(tallies[group].divided, floating).pixels.moments()
        name, one = as_text(group), ClassStats(count, moments, floats)
        # Two names may look the same, where one holds a byte that is not UTF-8.
        classes[name] = classes[name] + one if name in classes else one
    return classes
