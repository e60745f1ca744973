"""Measurements -> one measurement, exactly, or a message with every reason why they do not merge."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from imgnorm.errors import IncompatibleStats
from imgnorm.settings import (
    KINDS,
    NVJPEG,
    Mode,
    Resize,
    Step,
    channels_of,
    frames_text,
    kind_of,
    mode_of,
)
from imgnorm.stats.measurement import ClassStats, Measurement
from imgnorm.stats.notes import worth_noting
from imgnorm.stats.overlaps import MergePart, gaps, overlaps
from imgnorm.stats.provenance import Provenance, combined
from imgnorm.tally.notes import Noted
from imgnorm.tally.skipped import Skipped, skipped_order
from imgnorm.tally.tally import (
    BETWEEN,
    DIVIDED,
    GRAY,
    Counted,
    add_to,
    common_mode,
    in_mode,
    joined,
    joined_decoders,
)

if TYPE_CHECKING:
    from imgnorm.stats.stats import Stats

_ANY: Mode = "auto"  # of a part without images, which would have shown it
_LOSSLESS = {"BMP", "GIF", "PNG", "PPM"}  # every decoder gives the same pixels


class Merger:
    """Adds parts up one by one, so that memory does not grow with their number; checks them at the end."""

    def __init__(self) -> None:
        self._parts: list[MergePart] = []
        self._counted: dict[Mode, Counted] = {}
        self._classes: dict[Mode, dict[str, ClassStats]] = {}
        self._skipped: list[Skipped] = []
        self._ignored: Counter[str] = Counter()
        self._notes: dict[str, Noted] = {}
        self._ignore_outliers: set[str] = set()
        self._faults: list[str] = []
        self._only: Measurement | None = None

    def add(self, label: str | None, stats: Stats) -> None:
        """Adds what one part counted, and its settings. What cannot be merged is refused by `result`.

        Args:
            label: the name of the part in messages; the default is its source.
        """
        measured = stats.measurement
        if measured is None:
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
        self._only = None if self._parts else measured
        self._skipped += measured.skipped
        self._ignored.update(measured.ignored)
        add_to(self._notes, measured.notes)
        self._ignore_outliers.update(measured.ignore_outliers)
        mode = stats.mode or _ANY
        with_moments = {one.moments is not None for one in measured.classes.values()}
        self._parts.append(
            MergePart(
                label or _label(measured.source),
                mode,
                stats.auto,
                stats.preprocess,
                measured.source,
                measured.decoders,
                all(with_moments) if with_moments else None,
                stats.strict_channels,
                stats.frames,
                DIVIDED in measured.formats,
            )
        )
        if not measured.images:
            return
        counted = Counted(
            measured.images,
            measured.pixels,
            measured.sums,
            measured.modes,
            measured.formats,
            measured.cross_sums,
            measured.overview,
        )
        add_to(self._counted, {mode: counted})
        add_to(self._classes.setdefault(mode, {}), measured.classes)

    def result(
        self, *, allow_missing: bool, allow_overlap: bool, allow_decoders: bool
    ) -> tuple[Measurement, dict[str, Any]]:
        """One measurement of all parts, and its settings, as `Stats.of` takes them.

        Raises:
            IncompatibleStats: the parts do not belong together; the message lists every reason.
            ValueError: there are no parts.
        """
        if not self._parts and not self._faults:
            raise ValueError("there is nothing to merge")
        source = combined(part.source for part in self._parts)
        faults = [*self._faults, *self._unlike()]
        if not allow_decoders:
            faults += _decoder_faults(self._parts)
        if not allow_overlap:
            faults += dict.fromkeys(overlaps(self._parts))  # once, if a file has two such sources
        if not allow_missing:
            faults += gaps(self._parts, source)
        faults += _empty_faults(source) if self._parts else ()
        if faults:
            raise IncompatibleStats("\n".join(faults))
        asked = (part.mode for part in self._parts if part.mode != _ANY)  # without images
        mode = _mode_of_all(self._with_images) or next(asked, None)
        first = self._parts[0]
        settings = {
            "mode": mode,
            "preprocess": first.preprocess,
            "auto": all(part.auto for part in self._parts),
            "strict_channels": first.strict_channels,
            "frames": first.frames,
        }
        return self._only or self._measurement(mode, source), settings

    @property
    def _with_images(self) -> list[MergePart]:
        return [part for part in self._parts if part.source.images]

    def _measurement(self, mode: Mode | None, source: Provenance) -> Measurement:
        source, notes = _judged(source)
        found: dict[str, Any] = {
            "skipped": tuple(sorted(self._skipped, key=skipped_order)),
            "ignored": dict(self._ignored),
            "notes": joined(self._notes, notes),
        }
        if not source.images:
            return Measurement.without_images(source, **found)
        assert mode
        counted = in_mode(self._counted, mode)
        gray = self._classes.get(GRAY.get(mode, ""), {})
        channels = len(channels_of(mode))
        classes = joined(
            self._classes.get(mode, {}),
            {name: one.replicated(channels) for name, one in gray.items()},
        )
        return Measurement(
            images=counted.images,
            pixels=counted.pixels,
            sums=counted.sums,
            modes=counted.modes,
            formats=counted.formats,
            decoders=dict(sorted(joined_decoders(part.decoders for part in self._parts).items())),
            source=source,
            classes=dict(sorted(classes.items())),
            cross_sums=counted.cross_sums,
            overview=counted.overview,
            ignore_outliers=tuple(sorted(self._ignore_outliers)),
            **found,
        )

    def _unlike(self) -> Iterator[str]:
        """Messages about settings that decide digits and differ between the parts."""
        if not self._parts:
            return
        yield from _mode_faults(self._with_images)
        yield from _mode_asked_faults(self._parts)
        first = self._parts[0]
        for part in self._parts[1:]:
            if part.preprocess != first.preprocess:
                yield (
                    f"{part.label}: measured {_after(part.preprocess)}, but {first.label} "
                    f"{_after(first.preprocess)}; measure both with the same --resize and --center-crop"
                )
        for part in self._parts[1:]:
            if part.strict_channels != first.strict_channels:
                a, b = (part, first)[:: 1 if part.strict_channels else -1]
                yield (
                    f"{a.label}: skips images of other channels, but {b.label} converts them; measure "
                    "both with --strict-channels, or neither"
                )
        for part in self._parts[1:]:
            if part.frames != first.frames:
                yield (
                    f"{part.label}: measured with --frames {frames_text(part.frames)}, but {first.label} with "
                    f"--frames {frames_text(first.frames)}; measure both with the same --frames"
                )
        yield from _choice_faults(self._parts)
        with_classes = [part for part in self._parts if part.per_class is not None]
        for part in with_classes[1:]:
            if part.per_class != with_classes[0].per_class:
                a, b = (part, with_classes[0])[:: 1 if part.per_class else -1]
                yield (
                    f"{a.label}: has mean and std of each class, but {b.label} does not; measure both "
                    "with --per-class, or neither"
                )


def _judged(source: Provenance) -> tuple[Provenance, dict[str, Noted]]:
    """The source, and what the folders tell of those of its sources of which no shard is missing."""
    notes: dict[str, Noted] = {}
    for one in source.sources:
        if not one.shards:
            notes = joined(notes, worth_noting(one.folders, one.images))
    if source.parts:
        parts = (one if one.shards else replace(one, folders={}) for one in source.parts)
        return replace(source, parts=tuple(parts)), notes
    return source if source.shards else replace(source, folders={}), notes


def _choice_faults(parts: Sequence[MergePart]) -> Iterator[str]:
    """Messages about shards of one source of which other files were chosen."""
    first: dict[object, tuple[str, MergePart]] = {}
    for part in parts:
        for source in part.source.sharded:
            assert source.shards
            options = source.options
            chosen = " ".join(
                f"--{name} {shlex.quote(pattern)}"
                for name in ("include", "exclude")
                for pattern in cast("tuple[str, ...]", options.get(name, ()))
            )
            key = (source.kind, source.ref, source.shards.total)
            before, other = first.setdefault(key, (chosen, part))
            if before != chosen:
                yield (
                    f"{part.label}: measured with {chosen or 'all files'}, but {other.label} with "
                    f"{before or 'all files'}; measure all shards with the same --include and --exclude"
                )


def _label(source: Provenance) -> str:
    shards = f", {source.shards}" if source.shards else ""
    return f"{source.kind} {source.called!r}{shards}"


def _after(steps: Sequence[Step]) -> str:
    return f"after {', '.join(map(repr, steps))}" if steps else "at native sizes"


def _empty_faults(whole: Provenance) -> Iterator[str]:
    """Messages about sources of which no part has an image: measuring them at once is refused, too."""
    for source in whole.sources:
        if not source.images and not source.shards:
            yield (
                f"{source.called}: no image could be counted in any of its shards; fix the files or the "
                "options, and measure them again"
            )


def _mode_of_all(parts: Sequence[MergePart]) -> Mode | None:
    """The mode that measuring all parts at once would give; None if there is none.

    A gray part becomes RGB beside an RGB part only if mode "auto" found it to be gray: with `--mode L`,
    some of its images may have been colored.
    """
    modes = {part.mode for part in parts}
    asked_for = {part.mode for part in parts if part.mode == "L" and not part.auto}
    return None if asked_for and asked_for != modes else common_mode(modes)


def _mode_faults(parts: Sequence[MergePart]) -> Iterator[str]:
    if not parts or _mode_of_all(parts):
        return
    kind = min((kind_of(part.mode) for part in parts), key=KINDS.index)
    others = [part for part in parts if kind_of(part.mode) == kind]
    for part in parts:
        if kind_of(part.mode) == "float" and others[0].were_floats:
            yield (
                f"{part.label}: float, but {others[0].label} was counted as 8-bit images, since all of "
                "its floats were k/255; measure both in one run, which counts all as floats"
            )
        elif kind_of(part.mode) != kind:
            what = "16-bit grayscale" if part.mode == "I;16" else kind_of(part.mode)
            yield (
                f"{part.label}: {what} (mode {part.mode}), but {others[0].label} is {kind} "
                f"({others[0].mode}); the scales of their values differ, so keep them apart"
            )
    colored = (part for part in others if part.mode == "RGB")
    reference = next(colored, others[0])
    for part in others:
        if _mode_of_all([reference, part]) is None:
            yield (
                f"{part.label}: measured in mode {_mode_asked(part)}, but {reference.label} in "
                f"{_mode_asked(reference)}; measure both with the same --mode"
            )


def _mode_asked_faults(parts: Sequence[MergePart]) -> Iterator[str]:
    """Messages about parts without images that were to be measured in another mode."""
    asked = [part for part in parts if not part.source.images and part.mode != _ANY]
    counted = sorted((p for p in parts if p.source.images), key=lambda p: p.mode in GRAY.values())
    for part in asked:
        like = (counted or asked)[0]
        if like.mode not in (part.mode, mode_of(len(channels_of(part.mode)), "float")):
            yield (
                f"{part.label}: measured in mode {_mode_asked(part)}, but {like.label} in "
                f"{_mode_asked(like)}; measure both with the same --mode"
            )


def _mode_asked(part: MergePart) -> str:
    return f"{part.mode} (auto)" if part.auto else f"{part.mode} (--mode {part.mode})"


def _decoder_faults(parts: Sequence[MergePart]) -> Iterator[str]:
    """Messages about decoders whose pixels may differ: those of lossy formats, and all that resized.

    The CPU decodes what a device does not. So a part may name both, while another names one of them.
    """
    resized = any(isinstance(step, Resize) for part in parts for step in part.preprocess)
    first: dict[str, tuple[str, str]] = {}  # format, or Resize -> library, label
    for part in parts:
        for format_, decoders in sorted(part.decoders.items()):
            several = decoders.split(BETWEEN)
            with_device = any(decoder.startswith(NVJPEG) for decoder in several)
            for decoder in several:
                pillow, _, library = decoder.partition(", ")
                of_device = decoder.startswith(NVJPEG)
                what = format_ if of_device or not with_device else f"{format_} beside {NVJPEG}"
                relevant = {} if format_ in _LOSSLESS else {what: library or pillow}
                if resized:
                    relevant["Resize"] = pillow
                for what, by in relevant.items():
                    before, label = first.setdefault(what, (by, part.label))
                    if before != by:
                        yield (
                            f"{part.label}: {what} by {by}, but {label} by {before}, whose digits may "
                            "differ; measure both with the same versions, or merge them anyway "
                            "with --allow-decoders"
                        )
