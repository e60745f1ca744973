"""A difference of two measurements -> the table on the screen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from imgnorm.stats.estimate import percent
from imgnorm.stats.table import aligned
from imgnorm.wording import cut, plural, printable, shown

if TYPE_CHECKING:
    from imgnorm.checks.diff import ClassDifference, Difference

_LISTED = 5  # classes, or kinds, of a line
_MOST_CHANNELS = 16
_COUNTED = {("ignored", "tolerance"): "not drawn for the estimate"}


def difference_table(found: Difference) -> str:
    """What differs, and what it means for normalization."""
    lines = [
        f"{label:<9}{shown(name)}: {_number_of(images)}{shown(source)}"
        for label, name, source, images in zip(
            ("first", "second"), found.names, found.sources, found.images, strict=True
        )
    ]
    if found.channels:
        lines += [
            "",
            *_channels(found),
            "",
            *_meaning(found),
            *_estimated(found),
            *_sampling(found),
        ]
    lines += ["", *_counted(found)]
    return "\n".join(lines).rstrip("\n")


def _number_of(images: int) -> str:
    return f"{plural(images, 'image')} of " if images else ""


def _channels(found: Difference) -> Iterator[str]:
    few = found.channels[:_MOST_CHANNELS]
    titles = ["", "mean", "shift", "std", "times", "Wasserstein", "JS bits"]
    rows = [
        [
            one.channel,
            f"{_number(one.mean[0])} -> {_number(one.mean[1])}",
            f"{one.shift:+.4f}",
            f"{_number(one.std[0])} -> {_number(one.std[1])}",
            f"{one.gain:.4f}",
            *(
                "" if distance is None else f"{distance:.4f}"
                for distance in (one.wasserstein, one.jensen_shannon)
            ),
        ]
        for one in few
    ]
    yield from aligned([titles, *rows])
    if any(one.quantiles for one in few):
        yield ""
        yield "quantiles of the pixels, by how much they moved, in 0..255"
        deep = any(
            not _of_8_bits(v) for one in few for both in one.quantiles.values() for v in both
        )
        form = "+.1f" if deep else "+.0f"
        moved = [
            [one.channel, *(format(255 * (b - a), form) for a, b in one.quantiles.values())]
            for one in few
        ]
        yield from aligned([["", *few[0].quantiles], *moved])
    if len(few) < len(found.channels):
        yield f"and {len(found.channels) - len(few)} more channels (--format json has them all)"


def _of_8_bits(value: float) -> bool:
    return abs(255 * value - round(255 * value)) < 1e-6


def _number(value: float) -> str:
    """Four decimals in [0, 1], more of small numbers."""
    small = value and abs(value) < 0.01
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}" if small else f"{value:.4f}"


def _meaning(found: Difference) -> Iterator[str]:
    if _equal(found):
        same = all(one.wasserstein == 0 for one in found.channels)
        yield f"equal    {'means, stds and histograms' if same else 'means and stds'} are the same in both files"
        return
    shifts = [one.shift for one in found.channels]
    gains = [one.gain for one in found.channels]
    yield (
        "through  Normalize with the first mean and std, the second images have mean "
        f"{_range(shifts, '+.4f')} and std {_range(gains, '.4f')}, not 0 and 1"
    )


def _range(values: Sequence[float], digits: str) -> str:
    low, high = min(values), max(values)
    same = format(low, digits) == format(high, digits)
    return format(low, digits) if same else f"{low:{digits}} to {high:{digits}}"


def _estimated(found: Difference) -> Iterator[str]:
    widest = [
        max(margins) for margins in zip(*(one.margins for one in found.channels), strict=True)
    ]
    if any(widest):
        yield f"estimate shifts are within {widest[0]:.2g} of the exact ones, and times within {widest[1]:.2g}"


def _sampling(found: Difference) -> Iterator[str]:
    if _equal(found):
        return
    if found.by_chance is not None:
        yield f"chance   {_judgement(found)} {found.basis}"
    elif not found.same_names:
        yield f"chance   unknown: {found.basis}"
    if found.same_names:
        yield "names    the files have the same names; if they are the same files, no change is chance"


def _equal(found: Difference) -> bool:
    return all((one.shift, one.gain) == (0, 1) for one in found.channels)


def verdict(found: Difference) -> str:
    if found.fail_over is None or found.failed:
        return ""
    names: list[str] = []
    changes: list[float] = []
    margins: list[float] = []
    for one in found.channels:
        names += [f"mean of {one.channel}", f"std of {one.channel}"]
        changes += [abs(one.shift), abs(one.gain - 1)]
        margins += one.margins
    largest = max(changes)
    told = f"within   --fail-over {found.fail_over:g}: none of {len(names)} means and stds changed"
    if largest:
        told = (
            f"within   --fail-over {found.fail_over:g}: of {len(names)} means and stds, the "
            f"{names[changes.index(largest)]} changed most, by {largest:.3g}"
        )
    spared = [
        f"{name} ({change:.3g} ± {margin:.2g})"
        for name, change, margin in zip(names, changes, margins, strict=True)
        if change > found.fail_over
    ]
    if spared:
        told += f"; above it by less than the error bars of an estimate: {_listed(spared)}"
    alone = [one for one in found.unlike if one.startswith("channels: ")]
    return "; ".join([told, *(f"not judged: {one.removeprefix('channels: ')}" for one in alone)])


def _judgement(found: Difference) -> str:
    errors = {
        f"{field} of {one.channel}": error
        for one in found.channels
        for field, error in zip(("mean", "std"), one.errors or (), strict=False)
    }
    largest = max(errors, key=lambda name: errors[name])
    draws = "pairs of random draws of the same images differ"
    verdict = f"possible: {draws} as much"
    if not found.by_chance:
        verdict = f"exceeded: {percent(found.confidence)} of {draws} by less"
    return (
        f"{verdict}. The {largest} moved by {errors[largest]:.1f} standard errors; "
        f"up to {found.allowed:.1f} are possible."
    )


def _counted(found: Difference) -> Iterator[str]:
    for key, (before, after) in found.settings.items():
        yield f"options  {key}: {printable(before)}; now {printable(after)}"
    yield from _classes(found)
    for kind, counts in found.counts.items():
        changed = [
            f"{_COUNTED.get((kind, name)) or _named(name)} {text}"
            for name, both in counts.items()
            if (text := _moved(both, found.images))
        ]
        if changed:
            yield f"{kind:<9}{_listed(changed)}"
    sizes = [f"{key} {a} -> {b}" for key, (a, b) in found.sizes.items() if a != b]
    if sizes:
        yield f"sizes    {', '.join(sizes)}"
    for one in found.unlike:
        yield f"unlike   {one}"


def _moved(both: tuple[int, int], images: tuple[int, int]) -> str:
    """How a share of the images moved, "75 -> 80 %"; "" if it did not. Of small shares, the images."""
    shares = [f"{100 * n / total:.3g}" for n, total in zip(both, images, strict=True)]
    if shares[0] == shares[1]:
        return ""
    if min(both) == 0:
        return f"{both[0]:,} -> {both[1]:,}"
    return f"{shares[0]} -> {shares[1]} %"


def _classes(found: Difference) -> Iterator[str]:
    both = [one for one in found.classes if all(one.images)]
    for side in (0, 1):
        alone = [one for one in found.classes if one.images[side] and not one.images[1 - side]]
        if alone:
            names = _listed([f"{_named(one.name)} ({one.images[side]:,})" for one in alone])
            yield f"classes  {len(alone):,} only in the {('first', 'second')[side]}: {names}"
    moved = sorted(
        (one for one in both if one.moved), key=lambda one: -abs(one.share[1] - one.share[0])
    )
    if moved:
        shares = [
            f"{_named(c.name)} {100 * c.share[0]:.3g} -> {100 * c.share[1]:.3g} %" for c in moved
        ]
        yield f"classes  {len(moved):,} of {len(both):,} moved by more than chance, as a share of the images: {_listed(shares)}"
    elif both:
        yield f"classes  {len(both):,} in both; no share of the images moved by more than chance"
    shifted = sorted((one for one in both if one.shift), key=_by_shift)
    if shifted:
        shifts = [f"{_named(one.name)} {one.shift:+.3g}" for one in shifted]
        yield f"classes  their means moved by, in stds of the first: {_listed(shifts)}"


def _named(name: str) -> str:
    """In a list with commas, a name that has one stands in quotes."""
    name = printable(name)
    return f'"{name}"' if "," in name else name


def _by_shift(one: ClassDifference) -> float:
    return -abs(one.shift or 0)


def _listed(texts: Sequence[str]) -> str:
    more = f", and {len(texts) - _LISTED:,} more" if len(texts) > _LISTED else ""
    return ", ".join(cut(text, 80) for text in texts[:_LISTED]) + more
