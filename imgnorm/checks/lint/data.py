"""Means and stds in YAML, JSON and TOML: configs of training frameworks and of models."""

from __future__ import annotations

import importlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from imgnorm.checks.lint.names import Named, named, pixels_and_dataset, words_of
from imgnorm.checks.lint.pair import MAX_VALUES, Dataset, NumberText, Pair, Place, Written
from imgnorm.constants.findings import Order
from imgnorm.constants.presets import dataset_key
from imgnorm.documents.document import CONFIG_LIMITS, Path
from imgnorm.documents.reader import parse
from imgnorm.errors import InvalidDocument

Placing = Callable[[Path], Place]

MAX_DEPTH = 64
MAX_JSON_VALUES = 100_000  # a config has hundreds; each is remembered with its place

_OURS = re.compile(rb"^format:[ \t]*[\"']?imgnorm-", re.MULTILINE)
"""In a file of imgnorm's own."""
_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_TUPLE = re.compile(
    rf"[\[(] ?{_NUMBER.pattern}(?: ?, ?{_NUMBER.pattern}){{0,{MAX_VALUES - 1}}} ?,? ?[\])]"
)
"""Numbers in brackets, as text."""
_MAX_TOKEN = 1 << 20  # characters of one scalar in JSON
_JSON_SPACE = re.compile(r"[ \t\r\n]*")
_NEWLINE = re.compile(r"\r\n|\r|\n")
_JSON_SCALAR = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null|NaN|-?Infinity'
)
_JSON_WORDS = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}
_TOML_NUMBER = re.compile(r"[-+]?\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][-+]?\d+)?")


def yaml_pairs(data: bytes, file: str) -> list[Pair]:
    """Every mean with its std in YAML of the subset that imgnorm reads.

    A measured stats file gives none: its numbers follow from counts.

    Raises:
        InvalidDocument: it is one of imgnorm's own files, and has faults.
        ValueError: it is not in the subset, which every YAML reader reads alike.
    """
    try:
        document = parse(data, file, CONFIG_LIMITS)
    except InvalidDocument as error:
        if _OURS.search(data):
            raise
        raise ValueError("not YAML of the subset that imgnorm reads") from error
    return list(_pairs(document.value, document.place))


def json_pairs(data: bytes, file: str) -> list[Pair]:
    """Every mean with its std in JSON.

    Raises:
        ValueError: it is not JSON.
    """
    value, places = _JsonReader(_decoded(data)).read()
    return list(_pairs(value, lambda path: places.get(path, (1, 1))))


def toml_pairs(data: bytes, file: str) -> list[Pair]:
    """Every mean with its std in TOML, which Python reads from 3.11 on.

    Raises:
        ValueError: it is not TOML, or this Python is older.
    """
    if sys.version_info < (3, 11):
        raise ValueError("reading TOML needs Python 3.11")
    toml = importlib.import_module("tomllib")
    text = _decoded(data)
    try:
        value = toml.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("not valid TOML") from error
    return list(_pairs(value, _TomlPlaces(text, value)))


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error


def _pairs(root: Any, place: Placing) -> Iterator[Pair]:
    form = root.get("format") if isinstance(root, dict) else None
    if isinstance(form, str) and form.startswith("imgnorm-stats/"):
        # Its numbers are measured, and it lists the wrong conventions on purpose.
        if "exact" not in root and "histogram" not in root:
            yield from _in_mapping(root, (), root, place, _ConfigContext(pixels=True, unit=1.0))
        return
    waiting: list[tuple[Path, Any, _ConfigContext]] = [((), root, _ConfigContext())]
    while waiting:
        path, value, context = waiting.pop()
        if isinstance(value, dict):
            context = _inside(value, path, context, root)
            yield from _in_mapping(value, path, root, place, context)
            children = [((*path, key), child, context) for key, child in value.items()]
        elif isinstance(value, list):
            children = [((*path, index), child, context) for index, child in enumerate(value)]
        else:
            continue
        waiting.extend(reversed(children))


@dataclass(frozen=True)
class _ConfigContext:
    """What the mappings around a pair say about it."""

    pixels: bool = False
    unit: float | None = None
    order: Order | None = None
    dataset: str | None = None


def _inside(
    mapping: Mapping[str, Any], path: Path, context: _ConfigContext, root: Any
) -> _ConfigContext:
    key = next((step for step in reversed(path) if isinstance(step, str)), "")
    pixels, dataset = pixels_and_dataset(words_of(key)[:8])
    if pixels or key == "NormalizeImage":
        context = replace(context, pixels=True)
    for name in ("dataset", "dataset_name"):
        if isinstance(named_here := mapping.get(name), str):
            dataset = dataset_key(named_here) or dataset
    if dataset:
        context = replace(context, dataset=dataset)
    if key in ("pretrained_cfg", "default_cfg", "preprocess_cfg") or "crop_pct" in mapping:
        return replace(context, pixels=True, unit=1.0, order="RGB")  # timm, open_clip
    if "image_mean" in mapping:
        turned = {"image_mode", "channel_order", "do_flip_channel_order"} & mapping.keys()
        order: Order | None = None if turned else "RGB"
        return replace(context, pixels=True, unit=_unit_of_processor(mapping), order=order)
    if key == "NormalizeImage" and mapping.get("is_scale") is True:  # Paddle
        return replace(context, unit=1.0)
    for name in ("to_rgb", "bgr_to_rgb"):  # mmcv, mmengine
        if isinstance(flag := mapping.get(name), bool):
            # False means nothing: not converted, or RGB from the start.
            context = replace(context, pixels=True, order="RGB" if flag else None)
    form = root.get("format") if isinstance(root, dict) else None
    if isinstance(form, str) and form.startswith("imgnorm-pipeline/") and path == ("normalize",):
        return replace(context, pixels=True, unit=1.0, order="RGB", dataset=_source_of(root))
    return context


def _unit_of_processor(mapping: Mapping[str, Any]) -> float | None:
    """The pixel value that is 1.0 when a Hugging Face image processor normalizes; None if unknown."""
    factor = mapping.get("rescale_factor")
    if mapping.get("do_rescale") is False and mapping.get("do_normalize") is True:
        return 255.0
    if isinstance(factor, float) and math.isclose(factor, 1 / 255, rel_tol=1e-3):
        return 1.0
    return None


def _source_of(root: Mapping[str, Any]) -> str | None:
    source = root.get("source")
    name = source.get("name") if isinstance(source, dict) else None
    return name if isinstance(name, str) else None


def _in_mapping(
    mapping: Mapping[str, Any], path: Path, root: Any, place: Placing, context: _ConfigContext
) -> Iterator[Pair]:
    roles: dict[str, dict[str, tuple[Named, str]]] = {}
    for key in mapping:
        name = named(key)
        if name:
            roles.setdefault(name.stem, {})[name.role] = (name, key)
    for both in roles.values():
        if len(both) < 2:
            continue
        (name, mean_key), (_, std_key) = both["mean"], both["std"]
        mean = _written(mapping[mean_key], (*path, mean_key), place)
        std = _written(mapping[std_key], (*path, std_key), place)
        if not mean or not std:
            continue
        order = context.order
        if name.stem == "pixel" and isinstance(root, dict):
            order = _detectron_order(root) or order
        dataset = name.dataset or context.dataset
        datasets = (Dataset(dataset, mean.place, dataset, "named"),) if dataset else ()
        yield Pair(mean, std, context.pixels or name.pixels, context.unit, order, datasets)


def _detectron_order(root: Mapping[str, Any]) -> Order | None:
    given = root.get("INPUT")
    form = given.get("FORMAT") if isinstance(given, dict) else None
    return "RGB" if form == "RGB" else "BGR" if form == "BGR" else None


def _written(value: Any, path: Path, place: Placing) -> Written | None:
    """A list of numbers, which yacs and mmcv also write as text: "(0.485, 0.456, 0.406)"."""
    if isinstance(value, str):
        if len(value) > 400 or not _TUPLE.fullmatch(value):
            return None
        values = tuple(float(part) for part in _NUMBER.findall(value))
        return Written(values, place(path), (None,) * len(values))
    if not isinstance(value, list) or not 0 < len(value) <= MAX_VALUES:
        return None
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value):
        return None
    try:
        values = tuple(float(item) for item in value)
    except OverflowError:
        return None
    texts = tuple(NumberText(repr(item), place((*path, i))) for i, item in enumerate(value))
    return Written(values, place(path), texts)


class _JsonReader:
    """JSON with the place of each value, which the json module does not give.

    A loop instead of recursion, so that a deep document cannot exhaust the stack.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._line, self._line_start = 1, 0
        self._places: dict[Path, Place] = {}

    def read(self) -> tuple[Any, dict[Path, Place]]:
        root: Any = None
        open_: list[tuple[Any, Path]] = []  # containers and their paths
        path: Path = ()
        while True:
            value, place, opens = self._value()
            self._places[path] = place
            if len(self._places) > MAX_JSON_VALUES:
                raise ValueError(f"more than {MAX_JSON_VALUES:,} values")
            if not open_:
                root = value
            elif isinstance(open_[-1][0], list):
                open_[-1][0].append(value)
            else:
                open_[-1][0][path[-1]] = value
            if opens:
                if len(open_) == MAX_DEPTH:
                    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
                open_.append((value, path))
            while open_:  # go to the next value
                container, outer = open_[-1]
                closing = "]" if isinstance(container, list) else "}"
                if self._skip(closing):
                    open_.pop()
                    continue
                if container and not self._skip(","):
                    raise ValueError("not valid JSON")
                if isinstance(container, list):
                    path = (*outer, len(container))
                else:
                    path = (*outer, self._key())
                break
            else:
                self._space()
                if self._position != len(self._text):
                    raise ValueError("not valid JSON")
                return root, self._places

    def _value(self) -> tuple[Any, Place, bool]:
        self._space()
        place = (self._line, self._position - self._line_start + 1)
        if self._skip("["):
            return [], place, True
        if self._skip("{"):
            return {}, place, True
        return self._scalar(), place, False

    def _scalar(self) -> Any:
        token = _JSON_SCALAR.match(self._text, self._position)
        if not token or len(token[0]) > _MAX_TOKEN:
            raise ValueError("not valid JSON")
        self._position = token.end()
        text = token[0]
        if text[0] == '"':
            return json.loads(text, strict=False)
        if text in _JSON_WORDS:
            return _JSON_WORDS[text]
        return float(text)

    def _key(self) -> str:
        self._space()
        if self._text[self._position : self._position + 1] != '"':
            raise ValueError("not valid JSON")
        key = self._scalar()
        if not self._skip(":"):
            raise ValueError("not valid JSON")
        return str(key)

    def _skip(self, character: str) -> bool:
        self._space()
        found = self._text.startswith(character, self._position)
        self._position += found
        return found

    def _space(self) -> None:
        space = _JSON_SPACE.match(self._text, self._position)
        assert space is not None  # the pattern matches the empty string, too
        for newline in _NEWLINE.finditer(space[0]):
            self._line += 1
            self._line_start = self._position + newline.end()
        self._position = space.end()


class _TomlPlaces:
    """The place of `key = value`: the first one not yet taken with this key and this value.

    tomllib gives no places, so the text is searched.
    """

    def __init__(self, text: str, root: Any) -> None:
        self._text = text
        self._root = root
        self._found: dict[Path, Place] = {}
        self._taken: set[int] = set()

    def __call__(self, path: Path) -> Place:
        if path and isinstance(path[-1], int):
            path = path[:-1]
        if path not in self._found:
            self._found[path] = self._search(path)
        return self._found[path]

    def _search(self, path: Path) -> Place:
        value = self._root
        for step in path:
            value = value[step]
        key = re.escape(str(path[-1]))
        for match in re.finditer(rf"(?<![\w-])[\"']?{key}[\"']?[ \t]*=[ \t]*", self._text):
            end = self._text.find("]", match.end())
            listed = re.sub(r"#[^\n]*", "", self._text[match.end() : end])
            numbers = [float(number.replace("_", "")) for number in _TOML_NUMBER.findall(listed)]
            if match.start() not in self._taken and numbers == value:
                self._taken.add(match.start())
                before = self._text[: match.end()]
                return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        return 1, 1
