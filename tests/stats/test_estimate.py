"""Error bars: what they are computed from, when a sample is enough, and how often they hold."""

from __future__ import annotations

import json
import math
import random
import re
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from itertools import islice
from types import ModuleType

import pytest
from blocks import ROOT, blocks_of

import imgnorm
from imgnorm.errors import IncompatibleStats, InvalidDocument
from imgnorm.measuring.measure import measure
from imgnorm.pipeline.targets.torchvision import stats_module
from imgnorm.settings import SizesOption
from imgnorm.stats import file as statsfile
from imgnorm.stats import format as statsformat
from imgnorm.stats.estimate import (
    Estimate,
    Margins,
    Plan,
    Sample,
    linearised,
    margins_of,
    percent,
    random_order,
    t_quantile,
    until_within,
)
from imgnorm.stats.stats import Stats
from imgnorm.stats.table import table, with_margin
from imgnorm.tally.moments import CrossSums, Moments

IMAGES = 600


# ── the order ──


def test_the_order_has_every_number_once():
    assert list(range(1000)) == sorted(random_order(1000, 5))
    assert [] == list(random_order(0, 5))


def test_the_order_is_the_same_for_ever():
    """It follows from the seed in the file, also years later and on another machine."""
    assert [8, 7, 5, 4, 1, 3, 9, 2, 0, 6] == list(random_order(10, 0))
    assert [1, 8, 0, 4, 6, 7, 2, 9, 3, 5] == list(random_order(10, 1))


def test_the_order_costs_what_is_taken_of_it():
    first = list(islice(random_order(10**15, 2), 5))

    assert 5 == len(set(first))


def test_every_image_is_as_likely_to_be_taken():
    """Each of 20 in a sample of 5, in 4,000 draws: 1,000 times, give or take 6 standard errors."""
    taken = [0] * 20
    for seed in range(4000):
        for index in islice(random_order(20, seed), 5):
            taken[index] += 1

    assert all(abs(count - 1000) < 6 * math.sqrt(4000 * 0.25 * 0.75) for count in taken)


# ── the margins ──


@pytest.mark.parametrize(
    ("tail", "freedom", "quantile"),  # from tables
    [(0.025, 30, 2.0423), (0.005, 120, 2.6174), (0.0005, 120, 3.3735), (0.0005, 30, 3.646)],
)
def test_the_quantile_is_students(tail, freedom, quantile):
    assert t_quantile(tail, freedom) == pytest.approx(quantile, rel=2e-3)  # the expansion's error


def sample_of(images: Sequence[tuple[int, int, int]]) -> Sample:
    """Gray images by count, total and total_sq."""
    n, t, q = zip(*images, strict=True)
    pairs = [(n, n), (n, t), (n, q), (t, t), (t, q), (q, q)]
    cross_sums = CrossSums(*((sum(a * b for a, b in zip(x, y, strict=True)),) for x, y in pairs))
    return Sample(len(images), Moments(sum(n), (sum(t),), (sum(q),)), cross_sums, 255)


def margins_by_hand(
    images: Sequence[tuple[int, int, int]], of: int, confidence: float
) -> tuple[float, float]:
    """From the residual of each image, in rational numbers."""
    m = len(images)
    n = [Fraction(image[0]) for image in images]
    t = [Fraction(image[1], 255) for image in images]
    q = [Fraction(image[2], 255**2) for image in images]
    mean, second = sum(t) / sum(n), sum(q) / sum(n)
    variance = second - mean**2
    e = [b - mean * a for a, b in zip(n, t, strict=True)]
    g = [c - 2 * mean * b + (2 * mean**2 - second) * a for a, b, c in zip(n, t, q, strict=True)]
    assert sum(e) == sum(g) == 0
    error = (1 - confidence) / 2  # mean and std of one channel
    student = t_quantile(error / 2, m - 1)
    unseen = math.log(2 / error) / (-math.log(1 - m / of) * of)
    weight = math.sqrt(sum(a * a for a in n) / m) / (sum(n) / m)
    d = max(mean, 1 - mean)

    def half(residuals: list[Fraction], farthest: Fraction) -> float:
        spread = sum(r * r for r in residuals) / (m - 1)
        se = math.sqrt((1 - Fraction(m, of)) / m * spread) / (sum(n) / m)
        return student * se + unseen * weight * farthest

    of_variance = half(g, max(d**2 - variance, variance))
    std = math.sqrt(variance)
    low, high = math.sqrt(max(0, variance - of_variance)), math.sqrt(variance + of_variance)
    return half(e, d), max(std - low, high - std)


def drawn(count: int, seed: int) -> list[tuple[int, int, int]]:
    rng = random.Random(seed)
    images = []
    for _ in range(count):
        pixels = [rng.randrange(256) for _ in range(rng.randrange(1, 30))]
        images.append((len(pixels), sum(pixels), sum(x * x for x in pixels)))
    return images


@pytest.mark.parametrize("confidence", [0.5, 0.99])
@pytest.mark.parametrize(("count", "of"), [(50, 60), (300, 100_000)])
def test_margins_are_those_of_the_residuals(count, of, confidence):
    images = drawn(count, count)
    mean, std = margins_by_hand(images, of, confidence)

    margins = margins_of(sample_of(images), count, of, confidence)

    assert margins is not None
    # Four digits, rounded up.
    assert mean * (1 - 1e-9) <= margins.mean[0] <= mean * 1.001
    assert std * (1 - 1e-9) <= margins.std[0] <= std * 1.001


def test_images_that_could_not_be_counted_widen_the_margins():
    sample = sample_of(drawn(300, 1))
    all_counted = margins_of(sample, 300, 10_000, 0.99)
    some_skipped = margins_of(sample, 600, 20_000, 0.99)

    assert all_counted is not None
    assert all_counted == some_skipped


def test_alike_images_are_not_taken_for_all_there_are():
    """300 equal images say nothing about the others, which may be white, and many."""
    margins = margins_of(sample_of([(10, 1000, 100_000)] * 300), 300, 10**6, 0.99)

    assert margins is not None
    assert margins.mean[0] > math.log(400) / 300 * 0.6 * 0.99
    assert margins.std[0] > 0.05


def test_one_image_has_no_margins():
    assert margins_of(sample_of(drawn(1, 1)), 1, 10, 0.9) is None


def test_sums_of_other_images_are_refused():
    images = drawn(300, 1)
    sample = Sample(300, sample_of(images).moments, CrossSums.zero(1), 255)

    with pytest.raises(ValueError, match="not those of the same images"):
        margins_of(sample, 300, 1000, 0.9)


# ── when it is enough ──


def looks_of(plan: Plan, of: int, sizes: SizesOption, enough_at: int | None = None) -> list[int]:
    looks: list[int] = []

    def look(size: int) -> Estimate | None:
        looks.append(size)
        margins = Margins((plan.tolerance,), (0.0,), unseen=0.0)
        return Estimate(0.1, 0.9, size, of, 0, margins) if size == enough_at else None

    assert bool(enough_at) == bool(until_within(plan, of, sizes, look))
    return looks


def test_looks_are_at_sizes_that_nothing_but_the_plan_decides():
    assert [200, 220, 242, 267, 294] == looks_of(Plan(0.1), 10**6, "exact", 294)
    assert [200, 250, 313, 392] == looks_of(Plan(0.1), 10**6, "sampled", 392)


@pytest.mark.parametrize("of", [1, 7, 199, 200])
def test_few_images_are_not_looked_at(of):
    assert [] == looks_of(Plan(0.9, 0.01), of, "sampled")


def test_where_no_sample_is_enough_there_is_no_estimate():
    assert [200, 250] == looks_of(Plan(1e-9), 260, "sampled")


def test_no_sample_is_enough_where_a_percent_may_be_unseen():
    images = drawn(700, 3)

    def first_enough(confidence: float) -> int:
        plan = Plan(0.3, confidence)
        found = until_within(
            plan, 10**6, "sampled", lambda n: linearised(plan, n, 10**6, sample_of(images[:n]))
        )
        assert found
        return found.images

    assert (392, 613) == (first_enough(0.9), first_enough(0.99))


def test_few_that_were_counted_are_not_enough():
    assert linearised(Plan(0.9), 300, 10**6, sample_of(drawn(199, 1))) is None
    assert linearised(Plan(0.9), 300, 10**6, sample_of(drawn(200, 1)))


# ── how often it holds ──


@pytest.fixture(scope="module")
def error_bars() -> ModuleType:
    loader = SourceFileLoader("error_bars", str(ROOT / "scripts" / "error_bars"))
    spec = spec_from_loader("error_bars", loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules["error_bars"] = module  # its dataclasses look for it
    loader.exec_module(module)
    return module


def assert_held_as_often_as_it_says(printed: str, lines: int) -> None:
    """All that are guaranteed. The others are printed to show that they need not."""
    first, _, _, *rows = printed.splitlines()
    seeds = int(first.split()[4].replace(",", ""))

    assert lines == len(rows)
    for row in rows:
        held, _ = (float(p) / 100 for p in re.findall(r"([\d.]+)%", row))
        noise = 3 * math.sqrt(0.99 * 0.01 / seeds)
        assert held >= 0.99 - noise, row


def test_the_intervals_of_hard_sets_hold(error_bars, capsys, monkeypatch):
    """A few of them, each day."""
    monkeypatch.setattr(error_bars, "GENERATED", 2000)
    error_bars.main(["--tolerance", "0.05", "--seeds", "12"])

    assert_held_as_often_as_it_says(capsys.readouterr().out, 14)


@pytest.mark.heavy
def test_the_intervals_of_hard_sets_hold_and_the_docs_say_how_often(error_bars, capsys):
    error_bars.main([])
    printed = capsys.readouterr().out

    assert_held_as_often_as_it_says(printed, 14)
    assert ("console", f"$ ./scripts/error_bars\n{printed}") in blocks_of(
        ROOT / "docs" / "estimates.md"
    )


@pytest.mark.heavy
def test_the_intervals_of_real_images_hold(error_bars, shared_data, monkeypatch, capsys):
    monkeypatch.chdir(shared_data)
    sources = ["cifar10-jpeg", "photos", "torchvision:MNIST"]
    error_bars.main([*sources, "--root", "mnist", "--tolerance", "0.02"])
    printed = capsys.readouterr().out

    assert_held_as_often_as_it_says(printed, 3)
    assert ("text", printed) in blocks_of(ROOT / "docs" / "estimates.md")


# ── the file ──


def test_a_file_is_read_back_whole(estimated):
    text = statsformat.text_of(estimated)

    assert estimated == statsfile.parse_stats(text.encode(), "s.yaml")
    assert (
        f"# An estimate (99 %, guaranteed, {estimated.images} of 600 images), not exact.\n" in text
    )
    assert "  sizes: exact\n  bounds:\n" in text


def test_a_file_of_sampled_sizes_is_read_back_whole(linearised):
    """Its keys are those of 0.1.0, which had no others."""
    text = statsformat.text_of(linearised)

    assert linearised == statsfile.parse_stats(text.encode(), "s.yaml")
    assert "\n# An estimate (99 %, if sizes are like those seen, " in text
    assert not {"sizes", "bounds"} & statsformat.document_of(linearised)["estimate"].keys()


def test_a_measurement_of_all_says_nothing_of_estimates(plain):
    content = statsformat.document_of(measure(plain))

    assert "estimate" not in content


def edited(stats: Stats, edit: Callable[[dict], object]) -> list[str]:
    content = statsformat.document_of(stats)
    edit(content)
    with pytest.raises(InvalidDocument) as caught:
        statsfile.parse_stats(json.dumps(content).encode(), "s.yaml")
    return [problem.message for problem in caught.value.problems]


def test_numbers_that_do_not_follow_are_refused(estimated):
    images = estimated.images

    def wrong(key: str, value: object) -> list[str]:
        return edited(estimated, lambda content: content["estimate"].update({key: value}))

    assert any("does not follow" in message for message in wrong("sizes", None))
    assert any(
        "does not follow" in message
        for message in wrong("margin", {"mean": [0, 0, 0], "std": [0, 0, 0]})
    )
    assert [
        f"estimate.images: 199 of 600 images; the file counts {images}",
    ] == wrong("images", 199)
    assert [f"estimate.images: {images} of {images} images; the file counts {images}"] == wrong(
        "of", images
    )
    assert "tolerance is 5" in wrong("tolerance", 5)[0]
    assert "confidence is 1" in wrong("confidence", 1)[0]
    assert "seed is -1" in wrong("seed", -1)[0]
    assert (
        f"estimate.tolerance: 0.001 is less than the margins that follow, "
        f"{estimated.estimate.margins.widest:g}"
    ) in wrong("tolerance", 0.001)


def test_bounds_that_are_none_are_refused(estimated):
    def bounds(content: dict) -> list:
        return content["estimate"]["bounds"]["mean"]

    assert [
        "estimate.bounds.mean[1]: expected the lower end, then the upper; got [0.6, 0.5]"
    ] == edited(estimated, lambda content: bounds(content).__setitem__(1, [0.6, 0.5]))
    assert ["estimate.bounds.mean: 2 values for 3 channels"] == edited(
        estimated, lambda content: bounds(content).pop()
    )
    assert ["estimate.tolerance: 0.06 is less than the margins that follow, 0.2"] == edited(
        estimated, lambda content: bounds(content).__setitem__(0, [0.3, 0.7])
    )
    assert any(
        "mean[0]: 0.49" in message and "does not follow" in message
        for message in edited(estimated, lambda content: bounds(content).__setitem__(0, [0.5, 0.6]))
    )


def test_products_that_no_images_have_are_refused(linearised):
    estimated = linearised

    assert any(
        "does not follow" in message
        for message in edited(estimated, lambda content: content["estimate"].update(of=601))
    )

    def cross_sums(content: dict) -> dict:
        return content["exact"]["image_products"]

    assert ["estimate: has no exact.image_products, from which its margins follow"] == edited(
        estimated, lambda content: content["exact"].pop("image_products")
    )

    def without_estimate(content: dict) -> None:
        content.pop("estimate")
        cross_sums(content)["total_total"][1] = 0

    wrong = "exact.image_products: the sums and the cross sums are not those of the same images"

    assert [wrong] == edited(
        estimated, lambda content: cross_sums(content)["total_total"].__setitem__(1, 0)
    )
    assert [wrong] == edited(estimated, without_estimate)
    assert any(
        "total_total_sq[0]: more than the product of all total and all total_sq" in message
        for message in edited(
            estimated,
            lambda content: cross_sums(content)["total_total_sq"].__setitem__(0, 10**20),
        )
    )
    assert ["exact.image_products.count_count: 2 values for 3 channels"] == edited(
        estimated, lambda content: cross_sums(content)["count_count"].pop()
    )


def test_estimates_do_not_merge(plain, estimated):
    message = (
        f"folder '{plain}': an estimate (99 %, guaranteed, {estimated.images} of 600 images); only exact "
        "measurements merge, so measure it again without --tolerance"
    )
    for parts in ([estimated], [estimated, measure(plain)]):
        with pytest.raises(IncompatibleStats) as caught:
            imgnorm.merge(parts)

        assert message == str(caught.value)


def test_a_module_says_what_it_was_made_of(estimated):
    widest = estimated.estimate.margins.widest

    assert (
        f"# They are an estimate (99 %, guaranteed, {estimated.images} of 600 images), not exact: any may be "
        f"off by {widest:g}.\n"
    ) in stats_module(estimated)


@pytest.mark.parametrize(
    ("value", "margin", "text"),
    [
        (0.49139, 0.0019, "0.4914 ± 0.0019"),
        (0.5, 0.01481, "0.5000 ± 0.0149"),
        (0.5, 0.0002, "0.50000 ± 0.00020"),
        (0.5, 0.000123, "0.50000 ± 0.00013"),
        (0.0, 0.0, "0.0000 ± 0.0000"),
    ],
)
def test_a_margin_is_rounded_up(value, margin, text):
    assert text == with_margin(value, margin, "±")


def test_the_table_shows_error_bars(estimated):
    shown = table(estimated)
    margins = estimated.estimate.margins

    for mean, its, std, stds in zip(
        estimated.mean, margins.mean, estimated.std, margins.std, strict=True
    ):
        assert f"{with_margin(mean, its, '±')}  {with_margin(std, stds, '±')}" in shown
    assert f"   (99 %, guaranteed, {estimated.images} of 600 images)" == shown.splitlines()[4]
    assert "\nestimate --tolerance 0.06 --confidence 0.99 --seed 0 --sizes exact\n" in shown
    assert " +/- 0.0" in table(estimated, unicode=False)


@pytest.mark.parametrize(
    ("confidence", "text"),
    [
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.1 + 0.2, "30 %"),
        (1e-7, "1e-05 %"),
        (0.999999999999, "99.9999999999 %"),
        (0.9999999999999999, "99.99999999999999 %"),
    ],
)
def test_a_confidence_below_1_is_never_100_percent(confidence, text):
    assert text == percent(confidence)


def test_margins_know_their_widest():
    assert 0.4 == Margins((0.1, 0.2), (0.4, 0.3), 0.01).widest
