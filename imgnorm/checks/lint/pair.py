"""A mean and a std that were found in a file, and what the file says about them.

Readers make pairs, judge.py applies the rules to them. A pair holds facts only: None, "" and () mean
that the file does not say it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from imgnorm.constants.findings import Order
from imgnorm.documents.tree import Place

Spread = Literal["std", "variance", "1/std"]

MAX_VALUES = 16  # longer lists are not means or stds of channels


@dataclass(frozen=True)
class NumberText:
    """One number as the file has it: the characters from its place on are `text`.

    So writing other characters in their place changes this number and nothing else. In a notebook,
    too, the place is that in the file, which is JSON, not that in the cell.
    """

    text: str  # on one line; `-0.5` with its sign, where no space is between
    place: Place


@dataclass(frozen=True)
class Written:
    """A list of numbers as it is written in a file. A single number is a list of one.

    `texts` has an entry for each value. It is None where the value is not one number of the file,
    as in `1 / 0.229`; the same entry stands there several times in `[0.5] * 3`. Otherwise
    `float(text) == value`.
    """

    values: tuple[float, ...]
    place: Place
    texts: tuple[NumberText | None, ...]
    divisor: float = 1.0  # 255 in `[x / 255 for x in (125.3, 113.9)]`, 1/255 in `0.485 * 255`

    @property
    def effective(self) -> tuple[float, ...]:
        """The numbers that the program gets."""
        return tuple(value / self.divisor for value in self.values)

    def place_of(self, index: int | None) -> Place:
        """Of one value; None: of the list."""
        text = None if index is None else self.texts[index]
        return text.place if text else self.place

    def divided(self) -> Written:
        """With the division done; 12 digits, so that it adds none of its own."""
        if self.divisor == 1:
            return self
        values = tuple(float(f"{value:.12g}") for value in self.effective)
        return replace(self, values=values, divisor=1.0, texts=(None,) * len(values))


@dataclass(frozen=True)
class Mention:
    """Something that the file names, and where."""

    text: str  # as the file has it, shortened: `cvtColor(…, COLOR_BGR2RGB)`
    place: Place


@dataclass(frozen=True)
class Dataset(Mention):
    """A dataset that the numbers may be for; its text is `CIFAR10`, `CUB200` or `data/tiny-imagenet`.

    How it is known, the surest first:
        built: the transform, or a variable that holds it, is an argument of its constructor
        config: a key of the same config, such as `dataset_type`
        named: in the name of the variable, in a key above, or in `if dataset == "cifar10":`
        nearby: the file builds it, or names its folder, and nothing shows a link to the numbers
    """

    key: str | None  # the presets' name of it; None: they do not know it
    by: Literal["built", "config", "named", "nearby"]


@dataclass(frozen=True)
class Pair:
    """A mean, the std that belongs to it, and what is known from where they stand."""

    mean: Written
    std: Written
    pixels: bool = False  # whether a name or a framework says that they are about images
    unit: float | None = None  # the pixel value that is 1.0, where the framework decides
    order: Order | None = None  # of the images' channels, where the file or the framework decides
    datasets: tuple[Dataset, ...] = ()  # the surest first; several if it flows into several
    spread: Spread = "std"  # what `std` holds: Keras has variances, `(x - mean) * scale` has 1/std
    framework: str = ""  # torchvision, albumentations, mmengine, Keras, ...
    order_by: Mention | None = None  # what in the file decides the order
    stated: Order | None = (
        None  # the order that `emit --to` wrote the file for, if it is another one
    )
    pretrained: Mention | None = None  # weights that the file loads: `weights="DEFAULT"`
    normalizes_inside: Mention | None = None  # a model of the file with a Normalize of its own
    in_model: bool = False  # a buffer of a network, whose weights were trained with it
    before: Place | None = None  # of another normalization, earlier in the same pipeline
    table: Place | None = None  # where the table begins, of which this pair is one entry of several
    cell: int | None = None  # of a notebook, from 1

    @property
    def dataset(self) -> str | None:
        """The key of the surest dataset; None if there is none, or another one is as sure."""
        surest = {found.key for found in self.datasets if found.by == self.datasets[0].by}
        return surest.pop() if len(surest) == 1 and self.datasets[0].by != "nearby" else None


_SUREST = ("built", "config", "named", "nearby")


def each_once(datasets: Iterable[Dataset]) -> list[Dataset]:
    """The first mention of each dataset; of more than a file can be about, some."""
    first: dict[tuple[str, str], Dataset] = {}
    for dataset in datasets:
        first.setdefault((dataset.key or dataset.text, dataset.by), dataset)
    return list(first.values())[:20]


def linked(pair: Pair, *, nearby: Iterable[Dataset]) -> Pair:
    """With its datasets in order, each once; those of the rest of the file where it has none."""
    found = pair.datasets or tuple(replace(mention, by="nearby") for mention in nearby)
    ordered = sorted(found, key=lambda dataset: _SUREST.index(dataset.by))
    return replace(
        pair, datasets=tuple({(d.key or d.text): d for d in reversed(ordered)}.values())[::-1]
    )


def moved(pair: Pair, to: Callable[[Place], Place]) -> Pair:
    """With all its places changed: from those in a part of a file to those in the file."""

    def of_written(written: Written) -> Written:
        texts = tuple(text and NumberText(text.text, to(text.place)) for text in written.texts)
        return replace(written, place=to(written.place), texts=texts)

    def of_mention(mention: Mention | None) -> Mention | None:
        return mention and replace(mention, place=to(mention.place))

    return replace(
        pair,
        mean=of_written(pair.mean),
        std=of_written(pair.std),
        datasets=tuple(replace(found, place=to(found.place)) for found in pair.datasets),
        order_by=of_mention(pair.order_by),
        pretrained=of_mention(pair.pretrained),
        normalizes_inside=of_mention(pair.normalizes_inside),
        before=pair.before and to(pair.before),
        table=pair.table and to(pair.table),
    )
