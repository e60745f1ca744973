"""Means and stds in YAML, JSON and TOML: configs of training frameworks and of models."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from imgnorm.checks.lint.frameworks import ARGUMENT_KEYS, TARGET_KEYS, Facts, facts_of
from imgnorm.checks.lint.names import (
    Named,
    dataset_in,
    named,
    pixels_and_dataset,
    spread_of,
    words_of,
)
from imgnorm.checks.lint.pair import (
    MAX_VALUES,
    Dataset,
    Mention,
    NumberText,
    Pair,
    Written,
    each_once,
    linked,
)
from imgnorm.constants.presets import dataset_key
from imgnorm.documents.document import CONFIG_LIMITS
from imgnorm.documents.reader import parse
from imgnorm.documents.tree import (
    MAX_DEPTH,
    MAX_NODES,
    NUMBER,
    Lines,
    Node,
    Place,
    json_tree,
    plain,
    toml_tree,
    yaml_trees,
)

_OURS = re.compile(rb"^format:[ \t]*[\"']?imgnorm-", re.MULTILINE)
"""In a file of imgnorm's own."""
_TUPLE = re.compile(
    rf"[\[(] ?{NUMBER.pattern}(?: ?, ?{NUMBER.pattern}){{0,{MAX_VALUES - 1}}} ?,? ?[\])]"
)
"""Numbers in brackets, as text, as yacs and mmcv write them: "(0.485, 0.456, 0.406)"."""
_DATASET_KEYS = ("dataset", "dataset_name", "dataset_type", "data_name", "DATASET", "DATASETS")
_NAME_KEYS = (*TARGET_KEYS, "NAME", "TRAIN")
_FOLDER_KEYS = (
    "image_root", "data_root", "dataset_root", "dataset_dir", "data_dir", "data_path", "img_dir",
    "train_dir", "root",
)  # fmt: skip


def yaml_pairs(data: bytes, file: str) -> list[Pair]:
    """Every mean with its std in YAML. A measured stats file gives none: its numbers follow from counts.

    Raises:
        InvalidDocument: it is one of imgnorm's own files, and has faults.
        ValueError: it is not YAML, or beyond the limits.
    """
    if _OURS.search(data):
        parse(data, file, CONFIG_LIMITS)
    text = decoded(data)
    lines = Lines(text)
    return [pair for root in yaml_trees(text) for pair in pairs_in_tree(root, lines)]


def json_pairs(data: bytes, file: str) -> list[Pair]:
    """Every mean with its std in JSON.

    Raises:
        ValueError: it is not JSON, or beyond the limits.
    """
    text = decoded(data)
    return pairs_in_tree(json_tree(text), Lines(text))


def toml_pairs(data: bytes, file: str) -> list[Pair]:
    """Every mean with its std in TOML.

    Raises:
        ValueError: it is not TOML, or beyond the limits.
    """
    text = decoded(data)
    return pairs_in_tree(toml_tree(text), Lines(text))


def pairs_in_tree(root: Node, lines: Lines) -> list[Pair]:
    """Every mean with its std in one document; its places are those in `lines`."""
    return _Search(root, lines).pairs()


def decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8") from error


@dataclass(frozen=True)
class _Context:
    """What the mappings around a node say about the numbers in it."""

    key: str = ""  # right above
    target: str = ""  # the class that gets what is inside as its arguments
    pixels: bool = False
    datasets: tuple[Dataset, ...] = ()
    holder: Node | None = None  # the mapping or list that holds this one


class _Search:
    """Finds the pairs of one document."""

    def __init__(self, root: Node, lines: Lines) -> None:
        self._root = root
        self._lines = lines
        self._found: list[tuple[Pair, Node | None]] = []  # with the mapping or list above its own
        self._mentioned: list[Dataset] = []
        self._top = {key: _flat(node) for key, node in _items(root)}

    def pairs(self) -> list[Pair]:
        form = self._top.get("format")
        if isinstance(form, str) and form.startswith("imgnorm-"):
            self._ours(form)
        else:
            self._walk()
        held = Counter(holder.place for _, holder in self._found if holder)
        pairs = (
            replace(pair, table=holder.place) if holder and held[holder.place] > 1 else pair
            for pair, holder in self._found
        )
        nearby = each_once(self._mentioned)
        return [linked(pair, nearby=nearby) for pair in pairs]

    def _ours(self, form: str) -> None:
        """A config's normalize, or a stats file without counts, which others wrote."""
        facts = Facts("imgnorm", True, 1.0, "RGB")
        if form.startswith("imgnorm-stats/"):
            if "exact" not in self._top and "histogram" not in self._top:
                self._mapping(self._root, _Context(), facts)
            return
        source = self._top.get("source")
        name = source.get("name") if isinstance(source, dict) else None
        for key, node in _items(self._root):
            if key == "normalize":
                datasets = (_dataset(name, node, "config"),) if isinstance(name, str) else ()
                self._mapping(node, _Context(key=key, datasets=datasets), facts)

    def _walk(self) -> None:
        waiting: list[tuple[Node, _Context, int]] = [(self._root, _Context(), 0)]
        count = 0
        while waiting:
            node, context, depth = waiting.pop()
            count += 1
            if count > MAX_NODES or depth > MAX_DEPTH:  # of aliases in aliases
                raise ValueError(f"more than {MAX_NODES:,} values")
            if isinstance(node.value, dict):
                context = self._inside(node, context)
                self._mapping(node, context)
                children = [
                    (child, replace(context, key=key, holder=node), depth + 1)
                    for key, child in node.value.items()
                    if isinstance(child.value, (dict, list))
                ]
            elif isinstance(node.value, list):
                inside = replace(context, holder=node)
                children = [
                    (child, inside, depth + 1)
                    for child in node.value
                    if isinstance(child.value, (dict, list))
                ]
            else:
                continue
            waiting.extend(reversed(children))

    def _inside(self, node: Node, context: _Context) -> _Context:
        """What is known inside a mapping."""
        mapping = node.value
        assert isinstance(mapping, dict)
        pixels, dataset = pixels_and_dataset(words_of(context.key)[:8])
        found = [Dataset(context.key, node.place, dataset, "named")] if dataset else []
        target = next((str(plain(mapping[key])) for key in TARGET_KEYS if key in mapping), "")
        if not target and context.key in ARGUMENT_KEYS:
            target = context.target
        found += _mentioned(mapping, target)
        self._mentioned += found
        return replace(
            context,
            target=target,
            pixels=context.pixels or pixels,
            datasets=(*found, *context.datasets),
        )

    def _mapping(self, node: Node, context: _Context, facts: Facts | None = None) -> None:
        """The pairs among the keys of one mapping."""
        roles: dict[str, dict[str, tuple[Named, str]]] = {}
        mapping = node.value
        assert isinstance(mapping, dict)
        for key in mapping:
            name = named(key)
            if not name:
                continue
            there = roles.setdefault(name.stem, {})
            if name.role == "mean" or "std" not in there or name.word.startswith("std"):
                there[name.role] = (name, key)  # beside a std, `scale` is something else
        for both in roles.values():
            if len(both) == 2:
                (mean, mean_key), (std, std_key) = both["mean"], both["std"]
                means, stds = mapping[mean_key], mapping[std_key]
                many, others = dict(_items(means)), dict(_items(stds))
                for key in (key for key in many if key in others):
                    inside = self._inside(Node({}, node.place, ""), replace(context, key=key))
                    self._pair(mapping, many[key], others[key], mean, std, inside, facts, means)
                self._pair(mapping, means, stds, mean, std, context, facts, context.holder)

    def _pair(
        self,
        mapping: Mapping[str, Node],
        mean_node: Node,
        std_node: Node,
        mean_name: Named,
        std_name: Named,
        context: _Context,
        facts: Facts | None,
        holder: Node | None,
    ) -> None:
        spread = spread_of(mean_name, std_name)
        mean, std = self._written(mean_node), self._written(std_node)
        if not mean or not std or not spread:
            return
        if facts is None:
            given = {key: plain(value) for key, value in mapping.items()}
            facts = facts_of(given, target=context.target, above=context.key, root=self._top)
        own = [Dataset(mean_name.stem, mean.place, mean_name.dataset, "named")]
        datasets = (*(own if mean_name.dataset else ()), *context.datasets)
        known = mean_name.pixels or context.pixels or facts.pixels
        alone = not isinstance(mean_node.value, list) or not isinstance(std_node.value, list)
        if alone and isinstance(mean_node.value, float) and not known:
            return  # may be the mean and std of anything: of initial weights, of a price
        exact = context.holder is None and {"mean", "std"} <= mapping.keys()
        pair = Pair(
            mean,
            std,
            known or (exact and len(mean.values) == len(std.values) == 3),
            facts.unit,
            facts.order,
            datasets,
            spread,
            facts.framework,
            self._order_by(mapping, facts),
        )
        self._found.append((pair, holder))

    def _order_by(self, mapping: Mapping[str, Node], facts: Facts) -> Mention | None:
        node = mapping.get(facts.order_key)
        if not facts.order or not facts.order_key:
            return None
        if facts.order_key == "INPUT.FORMAT":
            node = dict(_items(dict(_items(self._root))["INPUT"]))["FORMAT"]
        text = f"{facts.order_key}: {facts.order if node is None else node.text}"
        return Mention(text, (node or self._root).place)

    def _written(self, node: Node) -> Written | None:
        """The numbers of a list, of a list as text, of one number, or of a nested list: [[[0.5]], …]."""
        if isinstance(node.value, str):
            return self._listed_in_text(node)
        nodes = node.value if isinstance(node.value, list) else [node]
        if not 0 < len(nodes) <= MAX_VALUES:
            return None
        for _ in range(2):
            nodes = [
                item.value[0] if isinstance(item.value, list) and len(item.value) == 1 else item
                for item in nodes
            ]
        values = [item.value for item in nodes]
        if not all(isinstance(value, float) for value in values):
            return None
        texts = tuple(self._number_at(item.place, item.text) for item in nodes)
        return Written(tuple(map(float, values)), node.place, texts)  # type: ignore[arg-type]

    def _listed_in_text(self, node: Node) -> Written | None:
        text = str(node.value)
        if len(text) > 400 or not _TUPLE.fullmatch(text):
            return None
        line, column = node.place
        column += node.text.find(text[0])  # behind the quotes of JSON and TOML
        numbers = list(NUMBER.finditer(text))
        texts = []
        for number in numbers:
            for quote in (0, 1):  # YAML's place is that of the quotes
                place = (line, column + quote + number.start())
                found = self._number_at(place, number[0])
                if found:
                    break
            texts.append(found)
        return Written(tuple(float(n[0]) for n in numbers), node.place, tuple(texts))

    def _number_at(self, place: Place, text: str) -> NumberText | None:
        fits = NUMBER.fullmatch(text) and self._lines.has(place, text)
        return NumberText(text, place) if fits else None


def _items(node: Node) -> list[tuple[str, Node]]:
    return list(node.value.items()) if isinstance(node.value, dict) else []


def _flat(node: Node) -> Any:
    """A value with the scalars inside it, one level deep."""
    return {key: plain(value) for key, value in _items(node)} or plain(node)


def _mentioned(mapping: Mapping[str, Node], target: str) -> list[Dataset]:
    """The datasets that the keys of a mapping name, folders first."""
    found = [
        _dataset(folder, mapping[key], "config")
        for key in _FOLDER_KEYS
        if key in mapping and isinstance(folder := mapping[key].value, str) and folder
    ]
    for key in _DATASET_KEYS:
        node = mapping.get(key)
        if node is None:
            continue
        inside = dict(_items(node))
        if inside:
            found += _mentioned(inside, "")
            node = next((inside[name] for name in _NAME_KEYS if name in inside), None)
        text = plain(node)
        text = text[0] if isinstance(text, list) and text else text
        if isinstance(text, str) and text and node:
            found.append(_dataset(text, node, "config"))
    name = target.rsplit(".")[-1]
    if not found and name and (dataset_key(name) or name.endswith("Dataset")):
        node = next(mapping[key] for key in TARGET_KEYS if key in mapping)
        found.append(Dataset(name, node.place, dataset_in(name), "built"))
    elif not found and dataset_key(name.removesuffix("DataModule")):
        node = next(mapping[key] for key in TARGET_KEYS if key in mapping)
        found.append(
            Dataset(name, node.place, dataset_key(name.removesuffix("DataModule")), "config")
        )
    return found


def _dataset(text: str, node: Node, by: Any) -> Dataset:
    name = text.rsplit(".")[-1] if "/" not in text else text
    return Dataset(text[:80], node.place, dataset_key(name) or dataset_in(text), by)
