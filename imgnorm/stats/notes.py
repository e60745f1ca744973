"""Notes about images that are counted: each kind in one sentence, with what to do.

A note follows from what adds up: the counts of tally/notes.py, the files that a rule ignores, the greatest
pixel value. What folders are called is judged where all shards of a source are together.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from imgnorm.settings import kind_of
from imgnorm.sources.files import FORMAT_EXTENSIONS
from imgnorm.stats.measurement import Measurement
from imgnorm.tally.notes import (
    ALPHA,
    DEPTH,
    FRAMES,
    FURTHER_FRAMES,
    MASK,
    MASK_LIKE,
    NO_MASK,
    ROTATION,
    SPLIT,
    THUMBNAIL,
    Noted,
    kind_of_name,
)
from imgnorm.wording import plural, shown

NORMALIZED = (
    "the values look normalized already (some are below 0, and every mean is near it); if they are, leave "
    "Normalize out of the transform while you measure"
)
"""The note about stats that `looks_normalized`."""

_OF_FOLDERS = (SPLIT, MASK, MASK_LIKE, NO_MASK, THUMBNAIL)
_EXTENSION = "suffix ."  # how the rules against files with another image's extension begin
_BITS = "bits"  # how many the values of 16-bit images need, where they are fewer
_EXCLUDE = "exclude"  # patterns that leave nothing out; also the rule of what they leave out
_ARCHIVES = (".tar", ".gz", ".tgz", ".zip")
_DEPTHS = (8, 10, 12, 14, 15)


@dataclass(frozen=True)
class Note:
    """What is lost, left out or odd, and what to do.

    Example:
        >>> for note in imgnorm.measure("examples/shapes").notes:
        ...     print(note.kind, note.images, note.examples)
        alpha 1 ('triangle/png-alpha.png',)
    """

    kind: str  # as the stats file calls it: "frames", "alpha", "suffix .heic"
    images: int  # or files
    examples: tuple[str, ...]  # at most three names
    text: str  # for people

    def __str__(self) -> str:
        return self.text


def is_of_folders(kind: str) -> bool:
    """Whether it is about the names of folders, which all shards of a source tell together."""
    return kind.startswith(_OF_FOLDERS)


def worth_noting(folders: Mapping[str, Noted], images: int) -> dict[str, Noted]:
    """What the folders of a whole source tell, without what is usual.

    Usual are one split alone, folders of thumbnails or masks alone, and masks that are no masks but a class.

    Args:
        images: of the source.
    """
    splits = {kind: noted for kind, noted in folders.items() if kind.startswith(SPLIT)}
    kept = splits if len(splits) > 1 else {}
    masks, alike = (folders.get(kind, Noted(0)).images for kind in (MASK, MASK_LIKE))
    if 10 * alike >= 9 * masks > 0 and masks < images and NO_MASK not in folders:
        kept |= {kind: folders[kind] for kind in (MASK, MASK_LIKE)}
    if 0 < folders.get(THUMBNAIL, Noted(0)).images < images:
        kept[THUMBNAIL] = folders[THUMBNAIL]
    return kept


def counts_of(measured: Measurement, mode: str | None) -> dict[str, Noted]:
    """All notes about a measurement, by kind, as the stats file has it."""
    counts = dict(measured.notes)
    for rule, files in measured.ignored.items():
        if rule.startswith(_EXTENSION):
            counts[rule] = Noted(files)
    if mode and measured.images and kind_of(mode) == "16-bit":
        bits = _highest(measured).bit_length()
        if bits in _DEPTHS and _highest(measured) >= 15 << bits - 4:
            counts[f"{_BITS} {bits}"] = Noted(measured.images)
    return dict(sorted(counts.items()))


def counted_in(counts: Mapping[str, Noted]) -> dict[str, Noted]:
    """Those of `counts_of` that do not follow from other numbers of the stats file."""
    return {
        kind: noted
        for kind, noted in counts.items()
        if not kind.startswith((_EXTENSION, f"{_BITS} "))
    }


def notes_of(measured: Measurement, mode: str | None) -> tuple[Note, ...]:
    """All notes about a measurement, in sentences."""
    counts = counts_of(measured, mode)
    if _idle_patterns(measured):
        counts[_EXCLUDE] = Noted(0)
    splits = {kind: noted for kind, noted in counts.items() if kind.startswith(SPLIT)}
    if splits:  # one note
        first, *others = splits.values()
        counts = {kind: noted for kind, noted in counts.items() if kind not in splits}
        counts[SPLIT] = sum(others, first)
    notes = []
    for kind, noted in counts.items():
        sentence = _SENTENCES.get(kind.partition(" ")[0])
        if sentence:
            text = sentence(kind, counts | splits, measured)
            notes.append(Note(kind, noted.images, noted.examples, text))
    return tuple(notes)


_Sentence = Callable[[str, Mapping[str, Noted], Measurement], str]


def _frames(kind: str, counts: Mapping[str, Noted], measured: Measurement) -> str:
    further = counts[FURTHER_FRAMES].images
    return (
        f"{_files(counts[kind])} more frames or pages than the first, {further:,} in all, which are not "
        f"counted {_some(counts[kind])}; --frames all measures them"
    )


def _depth(kind: str, counts: Mapping[str, Noted], measured: Measurement) -> str:
    return (
        f"{_files(counts[kind])} more than 8 bits a channel, counted as the 8 bits that ImageFolder gives "
        f"{_some(counts[kind])}; if your loader keeps them all, measure what it gives, with --dataset"
    )


def _alpha(kind: str, counts: Mapping[str, Noted], measured: Measurement) -> str:
    return (
        f"{_files(counts[kind])} transparency, dropped as ImageFolder does {_some(counts[kind])}; "
        "--mode RGBA keeps it"
    )


def _rotation(kind: str, counts: Mapping[str, Noted], measured: Measurement) -> str:
    return (
        f"{_files(counts[kind])} an EXIF orientation, not applied, as in ImageFolder {_some(counts[kind])}; "
        "turn the files, if they should be upright (it changes mean and std only where you crop)"
    )


def _other_images(kind: str, counts: Mapping[str, Noted], measured: Measurement) -> str:
    noted = counts[kind]
    what = {
        MASK: "masks or labels, by their folder and their colors",
        THUMBNAIL: "thumbnails, by their folder",
    }[kind]
    return (
        f"{noted.images:,} of {measured.images:,} images are {what} {_some(noted)}; leave them out with "
        f"{_without(noted, kind)}"
    )


def _split(kind: str, counts: Mapping[str, Noted], measured: Measurement) -> str:
    splits = {one: noted for one, noted in counts.items() if one.startswith(f"{SPLIT} ")}
    described = ", ".join(f"{noted.images:,} of {one.split()[1]}" for one, noted in splits.items())
    kept = f"{SPLIT} train" if f"{SPLIT} train" in splits else next(iter(splits))
    excluded = [_without(noted, one) for one, noted in splits.items() if one != kept]
    return (
        f"several splits are counted together, {described}; a transform takes its numbers from the training "
        f"images alone: {' '.join(excluded)}"
    )


def _suffix(kind: str, counts: Mapping[str, Noted], measured: Measurement) -> str:
    extension, files = kind.split()[1], counts[kind].images
    left_out = f"{plural(files, 'file')} with another file extension ({extension})"
    if extension in FORMAT_EXTENSIONS:
        return (
            f"{left_out}, left out as in ImageFolder; --include '*{extension}' measures them, with one --include "
            "more for each other extension"
        )
    return f"{left_out}, left out, since such files are not read; convert them to PNG or JPEG"


def _bits(kind: str, counts: Mapping[str, Noted], measured: Measurement) -> str:
    bits = int(kind.split()[1])
    return (
        f"no value is above {_highest(measured):,}: {bits}-bit data in 16 bits, and mean and std are parts of "
        f"65535; if your loader divides by {(1 << bits) - 1}, multiply them by {65535 / ((1 << bits) - 1):.6g}"
    )


def _exclude(kind: str, counts: Mapping[str, Noted], measured: Measurement) -> str:
    patterns = " ".join(f"--exclude {shlex.quote(shown(one))}" for one in _idle_patterns(measured))
    return (
        f"{patterns} leaves nothing out; patterns are for names inside the source, capital letters matter, and "
        "there are no braces"
    )


def _idle_patterns(measured: Measurement) -> tuple[str, ...]:
    """The patterns of `--exclude`, if the whole of a source was looked at and they match nothing in it."""
    source = measured.source
    if measured.ignored.get(_EXCLUDE) or source.parts or source.shards:
        return ()
    found = source.options.get("exclude", ())
    return found if isinstance(found, tuple) else ()


_SENTENCES: dict[str, _Sentence] = {
    FRAMES: _frames,
    DEPTH: _depth,
    ALPHA: _alpha,
    ROTATION: _rotation,
    MASK: _other_images,
    THUMBNAIL: _other_images,
    SPLIT: _split,
    "suffix": _suffix,
    _BITS: _bits,
    _EXCLUDE: _exclude,
}


def _highest(measured: Measurement) -> int:
    return int(max(measured.pixels.maximum()))


def _files(noted: Noted) -> str:
    return "1 file has" if noted.images == 1 else f"{noted.images:,} files have"


def _some(noted: Noted) -> str:
    more = ", …" if noted.images > len(noted.examples) else ""
    return f"({', '.join(map(shown, noted.examples))}{more})"


def _without(noted: Noted, kind: str) -> str:
    """What leaves out the folder that shows that an image is of this kind, as the shell takes it."""
    parts = noted.examples[0].split("/") if noted.examples else []
    name = next((part for part in parts if kind_of_name(part) == kind), "PATTERN")
    plain = (c if c.isprintable() and c not in "[]*?\\!" else "?" for c in name)
    pattern = shlex.quote("".join(plain))
    # Patterns choose inside of archives.
    return f"a source without {pattern}" if name.endswith(_ARCHIVES) else f"--exclude {pattern}"
