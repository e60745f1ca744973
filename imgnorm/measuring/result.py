"""Tallies and their provenance -> Stats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from imgnorm.errors import SourceError
from imgnorm.settings import ImageSettings, Mode, channels_of, kind_of, mode_of
from imgnorm.sources.names import as_text, name_bytes
from imgnorm.sources.source import Source
from imgnorm.stats.measurement import ClassStats, Measurement
from imgnorm.stats.notes import is_of_folders, worth_noting
from imgnorm.stats.provenance import Provenance
from imgnorm.stats.stats import Stats
from imgnorm.tally.moments import Moments
from imgnorm.tally.names import digest_of, lines_of, names_sum
from imgnorm.tally.skipped import Reason, Skipped, Unreadable, skipped_order
from imgnorm.tally.tally import GRAY, ClassTally, Tally, add_to, common_mode, in_mode
from imgnorm.wording import printable

if TYPE_CHECKING:
    from imgnorm.stats.estimate import Estimate


def result_of(
    source: Source,
    provenance: Provenance,
    whole: Tally,
    settings: ImageSettings,
    *,
    skipped: Sequence[Skipped] = (),
    ignored: Mapping[str, int] | None = None,
    estimate: Estimate | None = None,
    names: Iterable[str] | None = None,
) -> Stats:
    """The stats of what was counted.

    Args:
        provenance: where it comes from, without the images that were counted.
        whole: all that was counted.
        skipped, ignored: what was found, and is not in the tally.
        names: those that were looked at, if the stats are to keep those that were counted.

    Raises:
        SourceError: no image was counted, or their modes do not belong together.
    """
    if whole.has_other_floats:
        whole = whole.of_floats()
    mode = mode_of_whole(whole, settings)
    too_deep = () if mode == "I;16" else whole.names_16bit
    lost = sorted(
        (*skipped, *whole.skipped, *map(_too_deep, too_deep)),
        key=lambda one: name_bytes(one.name),
    )
    if mode is None and (whole.counted or not provenance.shards):
        unlike = _unlike_message(source, whole) if whole.counted else None
        raise SourceError(unlike or no_image_message(source.ref, "counted", lost))
    uncounted_sum = names_sum(map(name_bytes, too_deep)) if too_deep else 0  # it loads OpenSSL
    kept = None
    if names is not None:
        # Not those of `skipped`: a name that a list has twice is skipped there, and counted once.
        uncounted = {*(one.name for one in whole.skipped), *too_deep}
        kept = lines_of(name_bytes(name) for name in names if name not in uncounted)
    source_counted = replace(
        provenance,
        names_sha256=digest_of(whole.counted_sum - uncounted_sum),
        images=0 if mode is None else in_mode(whole.counted, mode).images,
        names=kept,
    )
    folders = {kind: noted for kind, noted in whole.notes.items() if is_of_folders(kind)}
    notes = {kind: noted for kind, noted in whole.notes.items() if kind not in folders}
    if provenance.shards:
        source_counted = replace(source_counted, folders=folders)
    else:
        notes |= worth_noting(folders, source_counted.images)
    recorded = _as_recorded(source, lost)
    rules = dict(sum(map(Counter, (whole.ignored, ignored or {})), Counter[str]()))
    auto = settings.mode == "auto"
    stats_of = partial(
        Stats.of,
        preprocess=settings.preprocess,
        auto=auto,
        strict_channels=settings.strict_channels,
        frames=settings.frames,
    )
    if mode is None:
        measurement = Measurement.without_images(source_counted, skipped=recorded, ignored=rules)
        return stats_of(measurement, None if auto else settings.mode)
    counted = in_mode(whole.counted, mode)
    measurement = Measurement(
        images=counted.images,
        pixels=counted.pixels,
        sums=counted.sums,
        modes=counted.modes,
        formats=counted.formats,
        decoders={f: d for f, d in whole.decoders.items() if f in counted.formats},
        source=source_counted,
        classes=_classes(whole.classes, Counter(map(source.class_of, too_deep)), mode),
        skipped=recorded,
        ignored=rules,
        notes=notes,
        cross_sums=counted.cross_sums,
        estimate=estimate,
        overview=None if estimate else counted.overview,
    )
    return stats_of(measurement, mode)


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
    examples = "".join(f"\n  {printable(s.name)}: {s.reason} ({s.detail})" for s in skipped[:5])
    more = f"\n  and {len(skipped) - 5:,} more" if len(skipped) > 5 else ""
    return (
        f"{as_text(ref)}: no image could be {done}, out of {len(skipped):,}; "
        f"fix the files or the options:{examples}{more}"
    )


def _float_mode(mode: Mode) -> Mode:
    """The mode of floats with the channels of this mode."""
    return mode_of(len(channels_of(mode)), "float")


def _unlike_message(source: Source, whole: Tally) -> str:
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


def _as_recorded(source: Source, skipped: Sequence[Skipped]) -> tuple[Skipped, ...]:
    """What was skipped, with names as text and in the order of a stats file."""
    return tuple(
        sorted(
            (
                replace(one, name=as_text(one.name), member=source.member_of(one.name))
                for one in skipped
            ),
            key=skipped_order,
        )
    )


def _classes(
    tallies: Mapping[str, ClassTally], too_deep: Mapping[str | None, int], mode: Mode
) -> dict[str, ClassStats]:
    classes: dict[str, ClassStats] = {}
    for group, tally in sorted(tallies.items()):
        images = tally.images - too_deep.get(group, 0)
        if images <= 0:
            continue
        one = ClassStats(images, _moments_in(tally.moments, mode))
        # Two names may be the same as text, if one has a byte that is not UTF-8.
        name = as_text(group)
        add_to(classes, {name: one})
    return classes


def _moments_in(moments: Mapping[Mode, Moments], mode: Mode) -> Moments | None:
    """Those of all images of this mode, with the gray ones as color; None if they were not counted."""
    gray = moments.get(GRAY.get(mode, ""))
    own = moments.get(mode)
    if gray is None:
        return own
    gray = gray.replicated(len(channels_of(mode)))
    return own + gray if own else gray
