"""An estimate in a stats file: its keys, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imgnorm.stats.estimate import Estimate, Sample, margins_of
from imgnorm.stats.schema import EstimateModel, MeasuredModel
from imgnorm.tally.moments import Moments
from imgnorm.tally.products import Products

Fault = tuple[tuple[str | int, ...], str]
"""The path of a key, and what is wrong with its value."""

_FACTORS = {
    "count_count": ("count", "count"),
    "count_total": ("count", "total"),
    "count_total_sq": ("count", "total_sq"),
    "total_total": ("total", "total"),
    "total_total_sq": ("total", "total_sq"),
    "total_sq_total_sq": ("total_sq", "total_sq"),
}


def estimate_document(estimate: Estimate) -> dict[str, Any]:
    margins = estimate.margins
    return {
        "tolerance": float(estimate.tolerance),
        "confidence": float(estimate.confidence),
        "images": estimate.images,
        "of": estimate.of,
        "seed": estimate.seed,
        "margin": {"mean": list(margins.mean), "std": list(margins.std)},
    }


def products_document(estimate: Estimate) -> dict[str, Any]:
    return {name: list(sums) for name, sums in vars(estimate.products).items()}


def estimate_in(model: MeasuredModel, moments: Moments, scale: int) -> Estimate | None:
    """The estimate that follows from the file's integers, of a file without faults."""
    if not model.estimate:
        return None
    products = _products(model)
    return _followed(model.estimate, Sample(model.images, moments, products, scale))


def estimate_faults(model: MeasuredModel, moments: Moments, scale: int) -> Iterator[Fault]:
    """What no sample of images gives.

    Args:
        moments: of all pixels, as the histogram has them.
    """
    estimate, products = model.estimate, model.exact.image_products
    if not estimate and not products:
        return
    if not products:
        yield ("estimate",), "has no exact.image_products, from which its margins follow"
        return
    if not estimate:
        yield ("exact", "image_products"), "belongs to an estimate, which is not there"
        return
    if not model.images <= estimate.images < estimate.of:
        message = f"{estimate.images:,} of {estimate.of:,} images; the file counts {model.images:,}"
        yield ("estimate", "images"), message
        return
    too_large = list(_too_large(model, moments))
    if too_large:
        yield from too_large
        return
    try:
        found = _followed(estimate, Sample(model.images, moments, _products(model), scale))
    except ValueError as error:
        yield ("exact", "image_products"), str(error)
        return
    if found.margins.widest > estimate.tolerance:
        message = (
            f"{estimate.tolerance:g} is less than the margins that follow, {found.margins.widest:g}"
        )
        yield ("estimate", "tolerance"), message


def _too_large(model: MeasuredModel, moments: Moments) -> Iterator[Fault]:
    sums = {
        "count": (moments.count,) * len(moments.total),
        "total": moments.total,
        "total_sq": moments.total_sq,
    }
    for name, (a, b) in _FACTORS.items():
        for index, value in enumerate(getattr(model.exact.image_products, name)):
            if value > sums[a][index] * sums[b][index]:
                message = f"more than the product of all {a} and all {b}"
                yield ("exact", "image_products", name, index), message


def _products(model: MeasuredModel) -> Products:
    products = model.exact.image_products
    assert products
    return Products(**{name: tuple(sums) for name, sums in products})


def _followed(estimate: EstimateModel, sample: Sample) -> Estimate:
    """
    Raises:
        ValueError: the products are not those of the images whose sums the file has.
    """
    margins = margins_of(sample, estimate.images, estimate.of, estimate.confidence)
    if margins is None:
        raise ValueError("one image has no margins")
    return Estimate(
        estimate.tolerance,
        estimate.confidence,
        estimate.images,
        estimate.of,
        estimate.seed,
        sample.products,
        margins,
    )
