"""What a target is, and the numbers as it takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from imgnorm.constants.frameworks import FRAMEWORKS
from imgnorm.errors import TransformError
from imgnorm.pipeline.steps import usable_std
from imgnorm.pipeline.targets.jsonfile import merged_json, read_json, text_of_json
from imgnorm.stats.stats import Stats
from imgnorm.wording import printable

_WIDTH = 88  # ruff's default
_KINDS = {255: "8-bit images", 65535: "16-bit images", 1: "float images"}


@dataclass(frozen=True)
class Normalization:
    """A mean and a std in the unit and the channel order in which a target takes them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    unit: str  # of the values that they are for: "0..1", "0..255", "as they are"
    order: str  # of the channels: "RGB", "BGR", "gray", "13 channels"
    scale: int  # the pixel value that is 1.0; 1 for floats
    about: tuple[str, ...]  # where they come from, a line each

    @property
    def gray(self) -> bool:
        return len(self.mean) == 1

    @property
    def written_for(self) -> str:
        """For a comment or a key: `RGB images, values in 0..255`."""
        values = "float values as they are" if self.scale == 1 else f"values in {self.unit}"
        return f"{self.order} images, {values}"

    def comments(self, *more: str) -> list[str]:
        """Lines of a comment of Python or YAML."""
        lines = [f"Written by imgnorm for {self.written_for}.", *more, *self.about]
        return [f"# {printable(line)}".rstrip() for line in lines]

    def note(self) -> str:
        """The same as the value of a key, for files without comments."""
        lines = (f"Written by imgnorm for {self.written_for}.", *self.about)
        return " ".join(printable(line).strip() for line in lines)


@dataclass(frozen=True)
class Target:
    """A file that a framework reads mean and std from."""

    name: str  # what --to takes
    framework: str  # its row in FRAMEWORKS, which fixes unit and channel order
    file: str  # how the file is usually called; JSON merges into a file that exists
    keys: str  # what the numbers are called in it
    render: Callable[[Normalization], str | bytes | dict[str, Any]]
    channels: tuple[int, ...] = ()  # how many it takes; (): any number
    kinds: tuple[int, ...] = tuple(_KINDS)  # of images, by their scale
    order: str = ""  # that which the file itself asks for, if the framework leaves it open
    placed: Callable[[dict[str, Any], Mapping[str, Any]], Mapping[Any, Any]] | None = None
    """Where the values belong in the content of a JSON file that exists, if not at the top; a ValueError
    says why they have no place in it."""

    @property
    def is_json(self) -> bool:
        return self.file.endswith(".json")

    @property
    def is_binary(self) -> bool:
        return self.file.endswith(".onnx")

    @property
    def takes_pixels(self) -> bool:
        """Whether mean and std are those of the pixel values, which nothing has divided."""
        known = FRAMEWORKS[self.framework]
        return (known.unit or known.usual_unit) == 255

    @property
    def takes_order(self) -> str:
        """The order of three channels."""
        known = FRAMEWORKS[self.framework]
        return self.order or known.order or known.usual_order or "RGB"

    def normalization(
        self, stats: Stats, *, eps: float | None = None, about: Sequence[str] = ()
    ) -> Normalization:
        """The numbers of stats as this target takes them.

        Args:
            eps: the least std; needed if a channel is constant.
            about: where the numbers come from, a line each.

        Raises:
            TransformError: the target cannot express such stats, or see `usable_std`.
        """
        std, mean = usable_std(stats, eps), stats.mean
        self._demand_possible(stats)
        factor = stats.scale if self.takes_pixels else 1
        order, unit = _order(stats), f"0..{factor}" if stats.scale > 1 else "as they are"
        mean, std = _times(mean, factor), _times(std, factor)
        if order == "RGB" and self.takes_order == "BGR":
            order, mean, std = "BGR", mean[::-1], std[::-1]
        return Normalization(mean, std, unit, order, stats.scale, tuple(about))

    def _demand_possible(self, stats: Stats) -> None:
        count = len(stats.mean)
        if stats.scale in self.kinds and (not self.channels or count in self.channels):
            return
        kinds = "images" if len(self.kinds) == len(_KINDS) else _KINDS[self.kinds[0]]
        many = f" with {' or '.join(map(str, self.channels))} channels" if self.channels else ""
        raise TransformError(
            f"{self.name} takes {kinds}{many}, and these are {_KINDS[stats.scale]} with {count}; choose "
            "another target (`imgnorm emit --to` lists them)"
        )

    def file_of(self, numbers: Normalization, present: bytes | None = None) -> bytes:
        """The file with these numbers.

        Args:
            present: a JSON file; all else in it is kept as it is.

        Raises:
            MissingDependency: a package that writes it is not installed.
            ValueError: see `merged_json`; or the present file has no place for the numbers.
        """
        made = self.render(numbers)
        if isinstance(made, bytes):
            return made
        if isinstance(made, str):
            return made.encode()
        if present is None:
            return text_of_json(made).encode()
        text, values = read_json(present)
        # Not `Written by imgnorm`, by which one --force replaces a whole file.
        made["imgnorm"] = f"Mean and std w{made['imgnorm'].removeprefix('W')}"
        return merged_json(text, self.placed(made, values) if self.placed else made).encode()


def _times(values: Sequence[float], factor: int) -> tuple[float, ...]:
    """In decimals, so that 0.485 becomes 123.675 and not 123.67499999999998."""
    if factor == 1:
        return tuple(map(float, values))
    return tuple(float(Decimal(repr(float(value))) * factor) for value in values)


def _order(stats: Stats) -> str:
    if len(stats.mean) == 1:
        return "gray"
    names = "".join(stats.channels)
    return names if names in ("RGB", "RGBA") else f"{len(stats.mean)}-channel"


def list_lines(start: str, values: Sequence[float], end: str = "") -> list[str]:
    """A list of numbers between `start` and `end`, broken as ruff breaks it; YAML reads it, too."""
    numbers = [repr(float(value)) for value in values]
    line = f"{start}[{', '.join(numbers)}]{end}"
    if len(line) <= _WIDTH:
        return [line]
    indent = start[: len(start) - len(start.lstrip())]
    return [f"{start}[", *(f"{indent}    {number}," for number in numbers), f"{indent}]{end}"]
