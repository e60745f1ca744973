"""Pipeline configs: reading a YAML file, the kinds of its values, and their JSON Schema."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from imgnorm.constants.presets import Preset, preset
from imgnorm.documents.document import CONFIG_LIMITS, Document
from imgnorm.documents.kinds import (
    Choice,
    Key,
    ListOf,
    Number,
    Record,
    Tagged,
    Text,
    ValueKind,
    check,
    parsed_by,
)
from imgnorm.documents.reader import read_document
from imgnorm.errors import InvalidDocument, Problem, SourceError
from imgnorm.pipeline.augmentations import NORMALIZE, TENSOR_STEPS, Api, schema_of, transforms_of
from imgnorm.pipeline.numbers import Outcome, constant_problems, read_once, reference_problems
from imgnorm.pipeline.order import order_problems
from imgnorm.pipeline.pipeline import Augmentation, Pipeline
from imgnorm.pipeline.structure import structure_problems
from imgnorm.settings import (
    CHANNELS,
    LAYOUTS,
    MODES,
    STEPS,
    TORCHVISION,
    Step,
    channel_names,
    frames_of,
    scale_of,
)
from imgnorm.sources.patterns import Patterns
from imgnorm.stats.file import read_stats
from imgnorm.stats.format import STATS_FORMAT
from imgnorm.stats.outliers import ALL_REASONS, REASONS
from imgnorm.stats.stats import Stats

PIPELINE_FORMAT = "imgnorm-pipeline/1"


def read_pipeline(path: str | os.PathLike[str]) -> Pipeline:
    """Read a config.

    Raises:
        SourceError: the file does not exist, cannot be read, or is a stats file.
        InvalidDocument: the file has faults; the error holds all of them.
    """
    document = read_document(path, CONFIG_LIMITS)
    if isinstance(document.value, dict) and document.value.get("format") == STATS_FORMAT:
        raise SourceError(
            f"{document.file}: is a stats file, not a config or data; name what to measure (`imgnorm show` "
            "prints the file, `imgnorm verify` measures its data again)"
        )
    return pipeline_in(document)


def read_normalized(path: str | os.PathLike[str]) -> tuple[Pipeline, Stats]:
    """Read a config, and the numbers that it normalizes with: its own, or those of its stats file.

    Raises:
        SourceError: the config does not exist or cannot be read.
        InvalidDocument: the config has faults, its stats file is missing or has faults, or the two do
            not belong together.
    """
    document = read_document(path, CONFIG_LIMITS)
    pipeline = pipeline_in(document)
    problems, stats = normalization(document, pipeline)
    if problems or stats is None:
        raise InvalidDocument(problems)
    return pipeline, stats


def pipeline_in(document: Document) -> Pipeline:
    """The pipeline that a document describes.

    Raises:
        InvalidDocument: the document has faults; the error holds all of them.
    """
    problems: list[Problem] = []
    try:
        check(document, CONFIG)
    except InvalidDocument as error:
        problems += error.problems
    problems += structure_problems(document)
    problems += (p for p in order_problems(document) if p.severity == "error")
    if problems:
        raise InvalidDocument(problems)
    return _pipeline(document, CONFIG.read(document.value))


def normalization(
    document: Document,
    pipeline: Pipeline,
    cache: dict[str, Outcome] | None = None,
) -> tuple[list[Problem], Stats | None]:
    """The stats that a pipeline normalizes with, and what is wrong with them.

    Args:
        cache: the stats files that were read before, by path; many configs may share one.
    """
    if pipeline.stats_path is None:
        mean, std, mode = pipeline.mean, pipeline.std, pipeline.mode
        problems = [*constant_problems(document, pipeline)]
        if problems:
            return problems, None
        if mode == "auto":
            names = channel_names(len(mean))
            return [], Stats(names, mean, std, preprocess=pipeline.preprocess)
        return [], Stats(CHANNELS[mode], mean, std, scale_of(mode), mode, pipeline.preprocess)
    cache = {} if cache is None else cache
    outcome = read_once(pipeline.stats_path, cache, read_stats)
    problems = [*reference_problems(document, pipeline, outcome)]
    return problems, None if problems or not isinstance(outcome, Stats) else outcome


def pipeline_schema() -> dict[str, Any]:
    """The config's JSON Schema, for editors."""
    content = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Config",
        "description": "An image pipeline: what is measured, and what becomes torchvision transforms.",
        **CONFIG.schema(),
    }
    properties = content["properties"]
    properties["normalize"]["oneOf"] = [
        {"required": ["stats"], "properties": dict.fromkeys(["preset", "mean", "std"], False)},
        {"required": ["preset"], "properties": dict.fromkeys(["stats", "mean", "std"], False)},
        {"required": ["mean", "std"], "properties": dict.fromkeys(["stats", "preset"], False)},
    ]
    properties["preprocess"]["items"] = {"oneOf": [_step_schema(name) for name in STEPS]}
    content["allOf"] = [
        {
            "if": {"properties": {"api": {"const": "v2"}}, "required": ["api"]},
            "then": {"properties": {"augment": {"items": {"oneOf": [*_entry_schemas("v2")]}}}},
            "else": {"properties": {"augment": {"items": {"oneOf": [*_entry_schemas("v1")]}}}},
        }
    ]
    return content


def _source(kind: str, *keys: Key) -> Record:
    return Record(Key("kind", Choice(kind)), *keys)


def _files(kind: str, path: Key) -> Record:
    patterns = ListOf(Text().that(parsed_by(lambda text: Patterns((text,)))), 1)
    include = "Only files that one of these patterns matches are measured: 'train/**'."
    exclude = "Files, and all in folders, that one of these patterns matches are left out: masks."
    return _source(
        kind,
        path,
        Key("include", patterns, default=None, about=include),
        Key("exclude", patterns, default=None, about=exclude),
    )


def _path(what: str) -> Key:
    return Key("path", Text(), about=f"{what}, relative to this file.")


LAYOUT = Choice(*LAYOUTS)
MODE = Choice(*MODES)
_SOURCES = {
    "folder": _files("folder", _path("The folder")),
    "list": _files("list", _path("A text file with one path a line")),
    "archive": _files("archive", _path("A zip, tar or tar.gz, or a pattern of many")),
    "array": _source(
        "array",
        _path("A .npy or .npz file, one array of it as in x.npz/train, or a pattern of many"),
        Key(
            "layout",
            LAYOUT,
            default=None,
            about="Which dimension is which, if the shape does not show it.",
        ),
    ),
    "torchvision": _source(
        "torchvision",
        Key("name", Text(), about="As torchvision.datasets calls it: CIFAR10."),
        Key(
            "root", Text(), default="data", about="Where the dataset lives, relative to this file."
        ),
        Key("split", Text(), default="train", about="train, test, or what its `split` accepts."),
    ),
}
SOURCE_KINDS = tuple(_SOURCES)
"""Kinds of sources that a path or a name opens: folder, list, archive, array, torchvision."""

_NUMBERS = ListOf(Number(finite=False), 1)
_NORMALIZE = Record(
    Key("stats", Text(), default=None, about="A stats file, relative to this file."),
    Key("preset", Text(), default=None, about="Published constants: see `imgnorm presets`."),
    Key("mean", _NUMBERS, default=None, about="Per channel, in [0, 1]."),
    Key("std", _NUMBERS, default=None, about="Per channel, in [0, 1], pooled over all pixels."),
)
_IMAGE = Record(
    Key("mode", MODE, default="auto", about="What each image is converted to."),
    Key(
        "frames",
        Text().that(parsed_by(frames_of)),
        default="first",
        about="Which frames or pages of each file are measured: first, all, or every:N.",
    ),
)
CONFIG = Record(
    Key("format", Choice(PIPELINE_FORMAT)),
    Key("source", Tagged("kind", _SOURCES)),
    Key("image", _IMAGE, default=SimpleNamespace(mode="auto", frames="first")),
    Key(
        "preprocess",
        ListOf(ValueKind()),
        default=(),
        about="Resize and CenterCrop, before the images are measured and in both transforms.",
    ),
    Key("augment", ListOf(ValueKind()), default=(), about="In the train transform only."),
    Key("normalize", _NORMALIZE),
    Key(
        "ignore_outliers",
        ListOf(Choice(ALL_REASONS, *REASONS)),
        default=(),
        about="Reasons for which `imgnorm stats` names no images that stand out.",
    ),
    Key(
        "api",
        Choice("v1", "v2"),
        default="v1",
        about="torchvision.transforms, or torchvision.transforms.v2.",
    ),
)


def _pipeline(document: Document, config: SimpleNamespace) -> Pipeline:
    folder, numbers = os.path.dirname(document.file), config.normalize
    constants: Preset | SimpleNamespace = preset(numbers.preset) if numbers.preset else numbers
    return Pipeline(
        file=document.file,
        kind=config.source.kind,
        source=_source_arguments(config.source, folder),
        listed=config.source.kind == "list",
        mode=config.image.mode,
        frames=frames_of(config.image.frames),
        preprocess=tuple(map(_step, config.preprocess)),
        augment=tuple(Augmentation(*next(iter(entry.items()))) for entry in config.augment),
        stats_path=_seen_from(folder, numbers.stats) if numbers.stats is not None else None,
        mean=tuple(constants.mean or ()),
        std=tuple(constants.std or ()),
        api=config.api,
        ignore_outliers=config.ignore_outliers,
    )


def _source_arguments(source: SimpleNamespace, folder: str) -> dict[str, Any]:
    """A source as arguments of `open_named`."""
    if source.kind == "torchvision":
        root = _seen_from(folder, source.root)
        return {"source": TORCHVISION + source.name, "root": root, "split": source.split}
    arguments: dict[str, Any] = {"source": _seen_from(folder, source.path)}
    if source.kind != "array":
        arguments["patterns"] = Patterns(source.include or (), source.exclude or ())
    if source.kind == "array" and source.layout is not None:
        arguments["layout"] = source.layout
    return arguments


def _seen_from(folder: str, path: str) -> str:
    """A path that is relative to the config's folder, relative to the working directory."""
    return os.path.normpath(os.path.join(folder, path)) if path else path


def _step(entry: dict[str, Any]) -> Step:
    name, arguments = next(iter(entry.items()))
    size = arguments["size"]
    return STEPS[name](size if isinstance(size, int) else (size[0], size[1]))


def _step_schema(name: str) -> dict[str, Any]:
    edge = {"type": "integer", "minimum": 1}
    size = {"oneOf": [edge, {"type": "array", "items": edge, "minItems": 2, "maxItems": 2}]}
    return _one_key(name, _arguments_schema({"size": size}, ["size"]))


def _entry_schemas(api: Api) -> Iterator[dict[str, Any]]:
    for name, transform in transforms_of(api).items():
        properties = {
            key: {"anyOf": [schema_of(kind) for kind in parameter.types]}
            for key, parameter in transform.parameters.items()
        }
        required = [key for key, p in transform.parameters.items() if p.required]
        yield _one_key(name, _arguments_schema(properties, required))
    for name in (*TENSOR_STEPS[api], NORMALIZE):
        yield _one_key(name, _arguments_schema({}, []))


def _one_key(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return _arguments_schema({name: value}, [name])


def _arguments_schema(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    needed = {"required": required} if required else {}
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **needed,
    }
