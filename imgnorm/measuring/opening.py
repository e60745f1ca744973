"""A path, a name or an object that the user gave -> the source that it means."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Any

from imgnorm.errors import SourceError
from imgnorm.settings import LAYOUTS, TORCHVISION, ImageSettings
from imgnorm.sources.files import FORMAT_EXTENSIONS, looks_like_an_image, way_to_read
from imgnorm.sources.folder import FolderSource
from imgnorm.sources.names import as_text
from imgnorm.sources.patterns import ALL, Patterns
from imgnorm.sources.source import Source
from imgnorm.wording import plural

if TYPE_CHECKING:
    from imgnorm.pipeline.pipeline import Pipeline
    from imgnorm.stats.provenance import Provenance

_INSTEAD_OF_IMAGES = "name the folder of the images, or a text file with their paths and --list"


def named_paths(source: Any) -> list[str]:
    """The paths and names that the user gave: one, or a list of them; [] if it is an object."""
    named = source if isinstance(source, (list, tuple)) else [source]
    if all(isinstance(one, (str, os.PathLike)) for one in named):
        return [os.fspath(one) for one in named]
    return []


def open_sources(source: Any, *, listed: bool = False, **options: Any) -> list[Source]:
    """The sources that a list of paths and names means, or one path, name or object.

    Archives that are named one by one, as the shell does with a pattern, are one source, and arrays too.

    Args:
        options: as `open_source` takes them.

    Raises:
        SourceError, TypeError: as `open_source`; or a source is named twice, or lies in another one.
    """
    paths = named_paths(source)
    if len(paths) < 2:
        return [open_source(paths[0] if paths else source, listed=listed, **options)]
    _demand_apart(paths)
    if not listed:
        paths = _with_patterns(paths)
    return [open_source(path, listed=listed, **options) for path in paths]


def _demand_apart(paths: Sequence[str]) -> None:
    """
    Raises:
        SourceError: images would be counted twice.
    """
    from imgnorm.sources.paths import is_pattern, matching

    named: dict[str, str] = {}  # file or folder, without links -> what the user typed
    for path in paths:
        several = is_pattern(path) and not os.path.lexists(path)
        for one in matching(path) if several else [path]:
            real = one if one.startswith(TORCHVISION) else os.path.realpath(one)
            if real in named:
                twice = "" if named[real] == path else f" is also in {as_text(named[real])}, and so"
                raise SourceError(f"{as_text(one)}:{twice} would be counted twice; name it once")
            named[real] = path
    for folder in filter(os.path.isdir, named):
        above = folder
        while above != (above := os.path.dirname(above)):
            if above in named:
                raise SourceError(
                    f"{as_text(named[folder])}: lies in {as_text(named[above])}, so it would be counted twice; "
                    "leave it out"
                )


def _with_patterns(paths: Sequence[str]) -> list[str]:
    """The same paths, but with all archives as one pattern in braces, and all arrays."""
    from imgnorm.sources.archive import SUFFIXES

    ends = (SUFFIXES, (".npy", ".npz"))
    plain = [path for path in paths if os.path.isfile(path) and not set("{},*?[") & set(path)]
    groups = [sorted(path for path in plain if path.lower().endswith(end)) for end in ends]
    groups = [group for group in groups if len(group) > 1]
    joined = {path for group in groups for path in group}
    return [path for path in paths if path not in joined] + [*map(_pattern_of, groups)]


def _common_start(texts: Sequence[str]) -> str:
    return os.path.commonprefix(texts)  # noqa: RUF071 - texts, not the folders of paths


def _pattern_of(paths: Sequence[str]) -> str:
    """The pattern that `sources.paths.matching` turns into these paths: "train-{000..127}.tar".

    Args:
        paths: two or more, sorted, without characters that have a meaning in patterns.
    """
    before = re.sub("[A-Za-z0-9]*$", "", _common_start(paths))
    rest = [path[len(before) :] for path in paths]
    after = _common_start([text[::-1] for text in rest])[::-1].lstrip(ascii_letters + digits)
    words = [text[: len(text) - len(after)] for text in rest]
    first, last = words[0], words[-1]
    if first.isdecimal() and last.isdecimal() and len(words) > 2:
        run = range(int(first), int(last) + 1)
        if words == [f"{number:0{len(first)}d}" for number in run]:
            return f"{before}{{{first}..{last}}}{after}"
    return f"{before}{{{','.join(words)}}}{after}"


def open_source(
    source: str | os.PathLike[str] | Source | Any,
    *,
    key: str | int | None = None,
    layout: str | None = None,
    patterns: Patterns = ALL,
    **where: Any,
) -> Source:
    """The source that a path, a name, or an object that yields images means.

    Args:
        where: further options of `open_named`.

    Raises:
        SourceError: the path or name does not exist, or cannot be measured.
        TypeError: the object does not yield images.
    """
    if not isinstance(source, (str, os.PathLike)):
        if not patterns.choose_all and isinstance(source, Source):
            raise ValueError("include and exclude are for paths; choose in units() of the source")
        return open_object(source, key=key, layout=layout)
    return open_named(source, layout=layout, patterns=patterns, **where)


def open_named(
    source: str | os.PathLike[str],
    *,
    listed: bool = False,
    root: str | os.PathLike[str] = "data",
    split: str = "train",
    download: bool = False,
    layout: str | None = None,
    patterns: Patterns = ALL,
) -> Source:
    """The source that a path or a name means.

    Args:
        patterns: which of its files are chosen.

    Raises:
        SourceError: it does not exist, or cannot be measured.
    """
    path = os.fspath(source)
    if layout not in (None, *LAYOUTS):
        raise ValueError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    opened: Source
    if path.startswith(TORCHVISION):
        from imgnorm.datasets.torchvision import TorchvisionSource

        opened = TorchvisionSource(
            path.removeprefix(TORCHVISION), os.fspath(root), split, download=download
        )
    elif listed:
        opened = _open_list(path, patterns)
    elif os.path.isdir(path):
        opened = FolderSource(path, patterns)
    else:
        opened = _open_file(path, layout, patterns)
    if layout is not None and not opened.in_blocks:
        raise SourceError(f"{as_text(path)}: --layout is for .npy and .npz files; leave it out")
    return opened


def open_again(
    origin: Provenance,
    *,
    root: str | os.PathLike[str] = "data",
    layout: str | None = None,
) -> Source:
    """The source of a stats file, where its path leads now: one that has a path or a name.

    Raises:
        SourceError: it does not exist, or cannot be measured.
    """
    from imgnorm.sources.filelist import STANDARD_INPUT

    ref = ref_now(origin)
    if origin.kind == "list" and ref == STANDARD_INPUT:
        raise SourceError(f"{ref}: was a list on standard input, which is gone")
    return open_named(
        TORCHVISION + ref if origin.kind == "torchvision" else ref,
        listed=origin.kind == "list",
        root=root,
        split=str(origin.options.get("split", "train")),
        layout=layout,
        patterns=patterns_of(origin),
    )


def ref_now(origin: Provenance) -> str:
    """The path or name of a source of a stats file: of several, the first that exists."""
    refs = [origin.ref] if isinstance(origin.ref, str) else origin.ref
    return next((ref for ref in refs if os.path.exists(ref)), refs[0])


def patterns_of(origin: Provenance) -> Patterns:
    """The patterns that chose the files of a source of a stats file."""
    given = {name: origin.options.get(name, ()) for name in ("include", "exclude")}
    return Patterns(**{name: one for name, one in given.items() if isinstance(one, tuple)})


def open_object(
    source: Any, *, key: str | int | None, layout: str | None, ref: str | None = None
) -> Source:
    """The source that a Dataset, a DataLoader or an iterable means.

    Args:
        ref: what messages and the stats file call it; by default, its class.

    Raises:
        SourceError: its images have no order, as those of a dict.
        TypeError: it does not yield images.
    """
    if isinstance(source, Source):
        for name in ("kind", "ref"):
            if not isinstance(getattr(source, name, None), str):
                raise TypeError(
                    f"{source!r}: has no {name}; give it a text: what the stats file calls it"
                )
        return source
    from imgnorm.datasets.items import ItemFormat
    from imgnorm.datasets.iterables import open_iterable

    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    if isinstance(key, str) and key.lstrip("-").isdecimal():  # from the command line
        key = int(key)
    item_format = ItemFormat(key, layout)
    if "torch" in sys.modules:  # a Dataset cannot exist without it
        from imgnorm.datasets.loader import open_torch

        of_torch = open_torch(source, item_format, ref)
        if of_torch is not None:
            return of_torch
    return open_iterable(source, item_format, ref)


def source_of(pipeline: Pipeline, *, download: bool = False) -> Source:
    """The source that a pipeline config names.

    Raises:
        SourceError: it does not exist, or is of another kind than the config says.
    """
    opened = open_named(**pipeline.source, listed=pipeline.listed, download=download)
    if opened.kind != pipeline.kind:
        raise SourceError(
            f"{pipeline.file}: {as_text(opened.ref)} is not a source of kind {pipeline.kind!r}; write "
            f"`kind: {opened.kind}`, or another path"
        )
    return opened


def names_a_config(source: str) -> bool:
    """Whether a source that the user named is a pipeline config."""
    return source.endswith((".yaml", ".yml")) and not os.path.isdir(source)


def _open_list(path: str, patterns: Patterns) -> Source:
    from imgnorm.sources.filelist import STANDARD_INPUT, ListSource

    if path == STANDARD_INPUT:
        return ListSource(path, patterns)
    if not path or "\0" in path or not os.path.lexists(path):
        raise SourceError(
            f"{as_text(path) or repr(path)}: no such list; name a text file with one path a line"
        )
    return ListSource(path, patterns)


def _open_file(path: str, layout: str | None, patterns: Patterns) -> Source:
    """The source that a file means. The imports are here, since a folder does not need them."""
    from imgnorm.sources.archive import ArchiveSource, is_archive
    from imgnorm.sources.arrays import ArrayFileSource, array_in, is_array_file
    from imgnorm.sources.paths import is_pattern, matching

    file, member = array_in(path)
    if not path or "\0" in path or not os.path.lexists(file):
        if "://" in path and (way := way_to_read(path)):
            raise SourceError(f"{as_text(path)}: {way}")
        if is_pattern(file) and "\0" not in path:
            return _open_many(path, matching(file), member, layout, patterns)
        raise SourceError(
            f"{as_text(path) or repr(path)}: no such file or folder; name a folder of images, an archive, an "
            f"array, a list (with --list) or {TORCHVISION}NAME"
        )
    if os.path.islink(file) and not os.path.exists(file):
        raise SourceError(
            f"{as_text(path)}: a link to a file that does not exist; get that file, or fix the link"
        )
    if way := way_to_read(path):
        raise SourceError(f"{as_text(path)}: {way}")
    if not os.path.isdir(file) and is_array_file(file):
        return ArrayFileSource(path, [file], layout, member)
    if is_archive(path):
        return ArchiveSource(path, [path], patterns)
    if looks_like_an_image(path) or path.lower().endswith(FORMAT_EXTENSIONS):
        raise SourceError(f"{as_text(path)}: an image file; {_INSTEAD_OF_IMAGES}")
    if os.path.isfile(path) and not os.path.getsize(path):
        raise SourceError(
            f"{as_text(path)}: an empty file (0 bytes); get it again, or make it again"
        )
    raise SourceError(
        f"{as_text(path)}: is neither a folder nor a zip, tar, tar.gz, .npy or .npz; if it lists one path a "
        "line, add --list; for other files, docs/recipes.md shows how a Dataset of yours reads them"
    )


def _open_many(
    path: str, paths: list[str], member: str | None, layout: str | None, patterns: Patterns
) -> Source:
    """The source that a pattern of files means: of arrays or of archives.

    Args:
        paths: what the pattern matches.
        member: the array in each .npz file.
    """
    from imgnorm.sources.archive import SUFFIXES, ArchiveSource
    from imgnorm.sources.arrays import ArrayFileSource, is_array_file

    if all(map(looks_like_an_image, paths)):
        files = plural(len(paths), "image file")
        raise SourceError(f"{as_text(path)}: {files}; {_INSTEAD_OF_IMAGES}")
    if way := way_to_read(paths[0]):
        raise SourceError(f"{as_text(paths[0])}: {way}")
    first = paths[0].lower()
    # Files may be far away, and this process may measure only some of them.
    if first.endswith((".npy", ".npz")) or (
        not first.endswith(SUFFIXES) and is_array_file(paths[0])
    ):
        return ArrayFileSource(path, paths, layout, member)
    return ArchiveSource(path, paths, patterns)


def with_frames(source: Source, settings: ImageSettings) -> Source:
    """The source in which the frames that the settings ask for are images."""
    if not settings.frames:
        return source
    from imgnorm.pixels.frames import FramesSource  # imports Pillow

    if isinstance(source, FramesSource):
        return source
    return FramesSource(source, settings.frames)
