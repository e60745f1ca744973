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


def result_of(
    source: Source | StreamingSource,
    provenance: Provenance,
    rest: Listing,
    names: Sequence[str],
    tallies: Mapping[str, Tally],
    settings: ImageSettings,
    *,
    found: int,
    estimate: Estimate | None = None,
    per_class: bool = False,
    keep_names: bool = False,
) -> Stats:
    """The stats of what was counted.

    Args:
        provenance: where it comes from, without the images that were counted.
        rest: what was found and not looked at.
        names: those that were looked at, sorted.
        tallies: one for each class with `per_class`, else one.
        found: how many names the whole listing has.

    Raises:
        SourceError: no image was counted, or their modes do not belong together.
    """
    whole = sum(tallies.values(), Tally())
    if whole.has_other_floats:
        whole = whole.of_floats()
        tallies = {group: tally.of_floats() for group, tally in tallies.items()}
    mode = mode_of_whole(whole, settings)
    too_deep = () if mode == "I;16" else whole.names_16bit
    skipped = sorted(
        (*rest.skipped, *whole.skipped, *map(_too_deep, too_deep)),
        key=lambda one: name_bytes(one.name),
    )
    if mode is None:
        unlike = _unlike_message(source, whole) if whole.counted else None
        raise SourceError(unlike or no_image_message(source.ref, "counted", skipped))
    # Not those of `rest`: a name that a list has twice is skipped there, and counted once.
    uncounted = {*(one.name for one in whole.skipped), *too_deep}
    kept = [name for name in names if name not in uncounted] if uncounted else names
    counted = in_mode(whole.counted, mode)
    as_floats = None
    if provenance.shards and whole.all_divided:  # they are floats if another shard has other floats
        as_floats = in_mode(whole.divided, _float_mode(mode))
    measurement = Measurement(
        images=counted.images,
        pixels=counted.pixels,
        sums=counted.sums,
        modes=counted.modes,
        formats=counted.formats,
        decoders={f: d for f, d in whole.decoders.items() if f in counted.formats},
        source=replace(
            provenance,
            names_sha256=(
                provenance.listing_sha256 if len(kept) == found else names_digest(encoded(kept))
            ),
            images=counted.images,
            names=lines_of(encoded(kept)) if keep_names else None,
        ),
        classes=_classes(
            source, kept, tallies if per_class else {}, mode, as_floats=as_floats is not None
        ),
        skipped=_as_recorded(source, skipped),
        ignored=rest.ignored,
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


def mode_of_whole(whole: Tally, settings: ImageSettings) -> Mode | None:
    """The mode of the whole; None if nothing was counted, or modes that do not belong together."""
    modes = set(whole.counted)
    if settings.mode == "auto":
        return common_mode(modes if modes == {"I;16"} else modes - {"I;16"})
    kinds = {kind_of(mode) for mode in modes}
    if kinds == {"float"}:  # no image file is, so these are arrays
        return _float_mode(settings.mode)
    return settings.mode if len(kinds) == 1 else None


def no_image_message(ref: str, done: str, skipped: Sequence[Skipped]) -> str:
    """The message if every image of a source was skipped.

    Args:
        done: what could be done with none of them: "counted".
    """
    examples = "".join(f"\n  {for_message(s.name)}: {s.reason} ({s.detail})" for s in skipped[:5])
    more = f"\n  and {len(skipped) - 5:,} more" if len(skipped) > 5 else ""
    return (
        f"{as_text(ref)}: no image could be {done}, out of {len(skipped):,}; "
        f"fix the files or the options:{examples}{more}"
    )


def _float_mode(mode: Mode) -> Mode:
    """The mode of floats with the channels of this mode."""
    return mode_of(len(channels_of(mode)), "float")


def _unlike_message(source: Source | StreamingSource, whole: Tally) -> str:
    counts = ", ".join(
        f"{counted.images:,} of mode {mode}" for mode, counted in sorted(whole.counted.items())
    )
    return (
        f"{as_text(source.ref)}: images that do not belong together, {counts}; measure them separately, or "
        "make them alike in the dataset"
    )


def _too_deep(name: str) -> Skipped:
    return Unreadable(
        Reason.UNSUPPORTED_MODE,
        "16-bit grayscale among 8-bit images; measure it separately, with --mode 'I;16'",
    ).skipped(name)


def _as_recorded(
    source: Source | StreamingSource, skipped: Sequence[Skipped]
) -> tuple[Skipped, ...]:
    """What was skipped, with names as text and in the order of a stats file."""
    return tuple(
        sorted(
            (
                replace(one, name=as_text(one.name), member=member_of(source, one.name))
                for one in skipped
            ),
            key=skipped_order,
        )
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
            floats = in_mode(tallies[group].divided, _float_mode(mode)).pixels.moments()
        name, one = as_text(group), ClassStats(count, moments, floats)
        # Two names may be the same as text, if one has a byte that is not UTF-8.
        classes[name] = classes[name] + one if name in classes else one
    return classes
