"""The pydantic models of the stats file, and the JSON Schema that follows from them.

The names and docstrings of the models are part of the schema.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from imgnorm.documents.models import Fault, as_yaml
from imgnorm.stats.estimate import PLAN_FAULTS
from imgnorm.stats.provenance import MERGED

STATS_FORMAT = "imgnorm-stats/1"


def _known_format(text: str) -> str:
    if text == STATS_FORMAT:
        return text
    newer = re.fullmatch(r"imgnorm-stats/\d+", text)
    remedy = "; upgrade imgnorm, which is older than the file" if newer else ""
    raise ValueError(f"expected {STATS_FORMAT!r}; got {text!r}{remedy}")


def _in_unit(value: float) -> float:
    if not math.isfinite(value):
        raise Fault(f"{as_yaml(value)} is not in [0, 1]", rule="not-usable")
    if not 0 <= value <= 255:
        raise ValueError(f"{value!r} is not in [0, 1]")
    return value  # values above 1 are reported for the list as a whole


def _all_in_unit(values: list[float]) -> list[float]:
    if max(values) <= 1:
        return values
    listed = ", ".join(f"{value:g}" for value in values)
    divided = ", ".join(f"{value / 255:.4f}" for value in values)
    hint = f"divide by 255: {divided}" if min(values) > 1 else None
    raise Fault(f"{listed} is not in [0, 1]", rule="unit", hint=hint)


_Numbers = Annotated[
    list[Annotated[float, AfterValidator(_in_unit)]],
    Field(min_length=1),
    AfterValidator(_all_in_unit),
]
_Floats = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)]
_OfArrays = Annotated[
    str, Field(pattern=r"^(F|(RGB|RGBA);(16|F)|C(2|[5-9]|[1-9][0-9]{1,3})(;16|;F)?)$")
]
_Integers = Annotated[list[int], Field(min_length=1)]
_Natural = Annotated[int, Field(ge=0)]
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_UnitBits = Annotated[int, Field(ge=0, le=1074)]  # the smallest float64 is 2**-1074


class _StatsFileModel(BaseModel):
    # Built on first use: most checks are of configs, and use no stats file.
    model_config = ConfigDict(strict=True, extra="forbid", defer_build=True)


class SizeModel(_StatsFileModel):
    size: int | Annotated[list[int], Field(min_length=2, max_length=2)]

    @field_validator("size")
    @classmethod
    def _positive(cls, size: int | list[int]) -> int | list[int]:
        if any(edge < 1 for edge in ([size] if isinstance(size, int) else size)):
            raise ValueError(f"expected edges of at least 1; got {size}")
        return size


class StepModel(_StatsFileModel):
    Resize: SizeModel | None = None
    CenterCrop: SizeModel | None = None

    @model_validator(mode="after")
    def _one(self) -> StepModel:
        if (self.Resize is None) == (self.CenterCrop is None):
            raise ValueError("expected one step: Resize or CenterCrop")
        return self


class ImageModel(_StatsFileModel):
    mode: Literal["L", "RGB", "RGBA", "I;16"] | _OfArrays
    auto: Literal[True] | None = None
    strict_channels: Literal[True] | None = None
    preprocess: list[StepModel] = []


class ConstantsModel(_StatsFileModel):
    format: Annotated[str, AfterValidator(_known_format)]
    channels: list[str] | None = None
    mean: _Numbers
    std: _Numbers
    scale: Literal[255, 65535] = 255
    image: ImageModel | None = None


class FloatConstantsModel(_StatsFileModel):
    """Constants for float values that are in a unit of their own."""

    format: Annotated[str, AfterValidator(_known_format)]
    channels: list[str] | None = None
    mean: _Floats
    std: _Floats
    scale: Literal[1]
    image: ImageModel | None = None


class ConventionModel(_StatsFileModel):
    mean: _Numbers
    std: _Numbers


class FloatConventionModel(_StatsFileModel):
    mean: _Floats
    std: _Floats


class ShardsModel(_StatsFileModel):
    of: Annotated[int, Field(gt=1)]
    counted: _Integers
    units_sha256: _Digest | None = None  # before units were divided among shards, names were


class SourceModel(_StatsFileModel):
    kind: str
    ref: str | Annotated[list[str], Field(min_length=2)]
    split: str | None = None
    key: str | None = None
    limit: _Natural | None = None
    shards: ShardsModel | None = None
    listing_sha256: _Digest
    names_sha256: _Digest


class SourcePartModel(SourceModel):
    images: _Natural


class MergedModel(_StatsFileModel):
    kind: str
    parts: Annotated[list[SourcePartModel], Field(min_length=2)]
    names_sha256: _Digest


def _source_tag(source: Any) -> str:
    return MERGED if isinstance(source, dict) and source.get("kind") == MERGED else "measured"


class ClassModel(_StatsFileModel):
    images: _Natural
    mean: _Numbers | None = None
    std: _Numbers | None = None
    count: _Natural | None = None
    total: _Integers | None = None
    total_sq: _Integers | None = None


class FloatClassModel(_StatsFileModel):
    images: _Natural
    mean: _Floats | None = None
    std: _Floats | None = None
    unit_bits: _UnitBits = 0
    count: _Natural | None = None
    total: _Integers | None = None
    total_sq: _Integers | None = None


class SkippedModel(_StatsFileModel):
    name: str
    reason: str


class ImageSumsModel(_StatsFileModel):
    unit_bits: Literal[160]
    mean: _Integers
    mean_sq: _Integers
    std: _Integers
    std_1: _Integers
    one_pixel: _Natural


_Counts = Annotated[list[_Natural], Field(min_length=1)]


class ProductsModel(_StatsFileModel):
    count_count: _Counts
    count_total: _Counts
    count_total_sq: _Counts
    total_total: _Counts
    total_total_sq: _Counts
    total_sq_total_sq: _Counts


class ExactModel(_StatsFileModel):
    count: _Natural
    total: _Integers
    total_sq: _Integers
    image_sums: ImageSumsModel
    image_products: ProductsModel | None = None


def _valid_in_plan(name: str) -> AfterValidator:
    """The check of a field of `Plan`."""

    def checked(value: Any) -> Any:
        if message := PLAN_FAULTS[name](value):
            raise ValueError(message)
        return value

    return AfterValidator(checked)


class EstimateModel(_StatsFileModel):
    tolerance: Annotated[float, _valid_in_plan("tolerance")]
    confidence: Annotated[float, _valid_in_plan("confidence")]
    images: Annotated[int, Field(gt=0)]
    of: Annotated[int, Field(gt=0)]
    seed: Annotated[int, _valid_in_plan("seed")]
    margin: ConventionModel


class FloatExactModel(ExactModel):
    unit_bits: _UnitBits


class AsFloatsModel(_StatsFileModel):
    min: _Floats
    max: _Floats
    exact: FloatExactModel
    classes: dict[str, FloatClassModel]


class EmptyImageModel(_StatsFileModel):
    """The mode is only known if it was asked for."""

    mode: Literal["L", "RGB", "RGBA", "I;16"] | _OfArrays | None = None
    auto: Literal[True] | None = None
    strict_channels: Literal[True] | None = None
    preprocess: list[StepModel] = []

    @model_validator(mode="after")
    def _mode_or_auto(self) -> EmptyImageModel:
        if (self.mode is None) != bool(self.auto):
            raise ValueError("expected mode, or auto")
        return self


_Source = Annotated[
    Annotated[SourceModel, Tag("measured")] | Annotated[MergedModel, Tag(MERGED)],
    Discriminator(_source_tag),
]


class EmptyModel(_StatsFileModel):
    """A part of a source in which no image was counted."""

    format: Annotated[str, AfterValidator(_known_format)]
    image: EmptyImageModel
    images: Literal[0]
    source: _Source
    skipped: list[SkippedModel]
    ignored: dict[str, _Natural]


class CountedModel(_StatsFileModel):
    """The keys that every measurement of images has."""

    image: ImageModel
    images: Annotated[int, Field(gt=0)]
    pixels: _Natural
    modes: dict[str, _Natural]
    formats: dict[str, _Natural]
    decoders: dict[str, str]
    source: _Source
    skipped: list[SkippedModel]
    ignored: dict[str, _Natural]
    names: Annotated[list[str], Field(min_length=1)] | None = None


class MeasuredModel(CountedModel):
    format: Annotated[str, AfterValidator(_known_format)]
    channels: list[str]
    mean: _Numbers
    std: _Numbers
    estimate: EstimateModel | None = None
    scale: Literal[255, 65535]
    min: _Integers
    max: _Integers
    quantiles: dict[str, list[int]]
    conventions: dict[str, ConventionModel]
    classes: dict[str, ClassModel]
    exact: ExactModel
    as_floats: AsFloatsModel | None = None
    histogram: dict[str, list[_Natural]]


class FloatMeasuredModel(CountedModel):
    format: Annotated[str, AfterValidator(_known_format)]
    channels: list[str]
    mean: _Floats
    std: _Floats
    scale: Literal[1]
    min: _Floats
    max: _Floats
    conventions: dict[str, FloatConventionModel]
    classes: dict[str, FloatClassModel]
    exact: FloatExactModel


def stats_schema() -> dict[str, Any]:
    """The stats file's JSON Schema, for editors: measured or constants, of integer or float pixels.

    Or a part without images.
    """
    from pydantic.json_schema import models_json_schema

    kinds: list[tuple[type[BaseModel], Literal["validation"]]]
    models = (MeasuredModel, ConstantsModel, FloatMeasuredModel, FloatConstantsModel, EmptyModel)
    kinds = [(model, "validation") for model in models]
    references, content = models_json_schema(kinds, ref_template="#/$defs/{model}")
    measured, constants, float_measured, float_constants, empty = (references[k] for k in kinds)
    integers = {"anyOf": [{"required": ["exact"]}, {"required": ["histogram"]}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "imgnorm stats file",
        "if": {"properties": {"images": {"const": 0}}, "required": ["images"]},
        "then": empty,
        "else": {
            "if": {"properties": {"scale": {"const": 1}}, "required": ["scale"]},
            "then": {"if": integers, "then": float_measured, "else": float_constants},
            "else": {"if": integers, "then": measured, "else": constants},
        },
        **content,
    }
