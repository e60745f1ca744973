"""Differences of two measurements: every number against NumPy's or a formula of its own."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import Normalize

import imgnorm
from imgnorm.checks.diff import Difference, diff, jensen_shannon, wasserstein
from imgnorm.cli import run
from imgnorm.errors import IncompatibleStats
from imgnorm.settings import Resize
from imgnorm.stats.measurement import ClassStats
from imgnorm.stats.provenance import Shards
from imgnorm.stats.stats import Stats
from imgnorm.tally.overview import Distribution, End, Overview, Sizes, start_of

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "examples" / "shapes"
RNG = np.random.default_rng


def images(seed: int, number: int, shift: int = 0, channels: int = 3) -> np.ndarray:
    """Images of one size whose brightness varies; (number, 6, 5, channels)."""
    rng = RNG(seed)
    light = rng.integers(40, 160, (number, 1, 1, channels)) + shift
    return (light + rng.integers(0, 60, (number, 6, 5, channels))).astype(np.uint8)


def measured(pixels: np.ndarray) -> Stats:
    return imgnorm.measure(list(pixels))


def with_classes(stats: Stats, **classes: int) -> Stats:
    assert stats.measurement
    one = {name: ClassStats(number) for name, number in classes.items()}
    return replace(stats, measurement=replace(stats.measurement, classes=one))


# The distances


def counts_of(values: np.ndarray, bins: int = 256) -> tuple[int, ...]:
    return tuple(np.bincount(values, minlength=bins).tolist())


def test_the_wasserstein_distance_is_that_of_the_sorted_pixels():
    """It pairs the k-th smallest of both, each value repeated until both are as many."""
    a, b = RNG(1).integers(0, 256, 12), RNG(2).integers(100, 200, 18)
    pairs = zip(sorted(a.tolist() * 3), sorted(b.tolist() * 2), strict=True)
    expected = Fraction(sum(abs(x - y) for x, y in pairs), 36 * 255)

    assert float(expected) == wasserstein(counts_of(a), counts_of(b))
    assert 1 == wasserstein((1,) + (0,) * 255, (0,) * 255 + (1,))


def test_8_and_16_bits_of_the_same_pixels_are_at_no_distance():
    values = RNG(3).integers(0, 256, 50)

    assert 0 == wasserstein(counts_of(values), counts_of(values * 257, 65536))
    assert wasserstein(counts_of(values), counts_of(values[:20])) == (
        wasserstein(counts_of(values * 257, 65536), counts_of(values[:20]))
    )


def test_the_divergence_is_the_entropy_of_both_less_that_of_each():
    """Lin 1991, eq. 4.1, by its other form: H((p + q) / 2) - (H(p) + H(q)) / 2."""

    def entropy(p: np.ndarray) -> float:
        return float(-(p[p > 0] * np.log2(p[p > 0])).sum())

    a, b = RNG(4).integers(0, 200, 999), RNG(5).integers(20, 256, 500)
    p, q = (np.bincount(x, minlength=256) / len(x) for x in (a, b))
    expected = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2

    assert jensen_shannon(counts_of(a), counts_of(b)) == pytest.approx(expected, abs=1e-14)
    assert 1 == jensen_shannon((3, 0), (0, 5))
    assert 0 == jensen_shannon((3, 6), (5, 10))


# What it means for normalization


def test_shift_and_gain_are_what_normalize_leaves_of_the_other_images():
    a, b = images(1, 40), images(2, 50, shift=20)
    stats = measured(a)
    normalize = Normalize(stats.mean, stats.std)
    scaled = torch.from_numpy(b.transpose(0, 3, 1, 2).copy()).double() / 255
    left = normalize(scaled)
    found = diff(stats, measured(b)).channels

    # torch's own rounding, of float64
    assert left.mean((0, 2, 3)).tolist() == pytest.approx([one.shift for one in found], abs=1e-12)
    assert left.std((0, 2, 3), correction=0).tolist() == (
        pytest.approx([one.gain for one in found], abs=1e-12)
    )


def test_quantiles_are_numpys():
    a, b = images(1, 40), images(2, 50, shift=20)
    found = diff(measured(a), measured(b)).channels[1].quantiles["q90"]
    expected = tuple(
        float(np.quantile(x[..., 1].ravel(), 0.9, method="inverted_cdf")) / 255 for x in (a, b)
    )

    assert expected == found


# More than sampling gives?


def standard_errors(pixels: np.ndarray, channel: int) -> tuple[float, float]:
    """Of mean and variance, from each image's own residuals."""
    x = pixels[..., channel].reshape(len(pixels), -1).astype(float) / 255
    mean, variance = x.mean(), x.var()
    e = (x - mean).sum(axis=1)
    g = ((x - mean) ** 2 - variance).sum(axis=1)
    factor = len(x) / (len(x) - 1)
    return tuple(math.sqrt(factor * (r**2).sum()) / x.size for r in (e, g))  # type: ignore[return-value]


def test_differences_are_counted_in_standard_errors_of_the_images():
    a, b = images(1, 60), images(2, 80, shift=5)
    (one, *_) = diff(measured(a), measured(b)).channels
    mine, theirs = standard_errors(a, 0), standard_errors(b, 0)
    x, y = a[..., 0] / 255, b[..., 0] / 255
    expected = [
        abs(y.mean() - x.mean()) / math.hypot(mine[0], theirs[0]),
        abs(y.var() - x.var()) / math.hypot(mine[1], theirs[1]),
    ]

    assert expected == pytest.approx(one.errors, rel=1e-9)


def test_draws_of_the_same_images_are_rarely_told_apart():
    """At most 1 in 100 by intent; of 200 pairs, 8 or more would be a chance of 1 in 1,000."""
    pairs = [(measured(images(2 * k, 40)), measured(images(2 * k + 1, 60))) for k in range(200)]

    assert 8 > sum(diff(a, b).by_chance is False for a, b in pairs)


def test_a_shift_of_all_images_is_told_from_chance():
    found = diff(measured(images(1, 200)), measured(images(2, 200, shift=20)))

    assert not found.by_chance
    assert {"shift"} == {problem.rule for problem in found.problems}
    assert {"info"} == {problem.severity for problem in found.problems}


def test_few_images_and_files_without_cross_sums_cannot_tell(tmp_path):
    many, few = measured(images(1, 60)), measured(images(2, 29))
    assert many.measurement
    old = replace(many, measurement=replace(many.measurement, cross_sums=None))

    assert diff(many, few).by_chance is None
    assert "the second file has fewer than 30 images" == diff(many, few).basis
    assert diff(old, many).by_chance is None
    assert diff(old, many).basis.startswith("the first file is of an older imgnorm")
    written = ROOT / "tests" / "cases" / "stats" / "older-whole.yaml"  # by imgnorm 0.1
    assert diff(written, imgnorm.measure(SHAPES)).basis.startswith("the first file is of an older")


def test_the_same_names_of_files_are_noted_and_numbers_are_no_names():
    """Before and after a change of how images are read, nothing is chance."""
    before = imgnorm.measure(SHAPES)
    after = imgnorm.measure(SHAPES, preprocess=[Resize(8)])

    assert diff(before, after).same_names
    assert "names    the files have the same names; if they are the same files, no" in str(
        diff(before, after)
    )
    assert not diff(measured(images(1, 40)), measured(images(2, 40))).same_names


def test_a_small_change_of_files_of_the_same_names_is_not_called_chance(tmp_path):
    """Read in another way, say: no images were drawn."""

    def files(pixels: np.ndarray) -> Stats:
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / f"{number}.png")
        return imgnorm.measure(tmp_path)

    before, after = files(images(1, 40)), files(images(1, 40, shift=1))
    found = diff(before, after)

    assert max(error for one in found.channels for error in one.errors) < found.allowed
    assert (True, None) == (found.same_names, found.by_chance)
    assert found.to_dict()["by_chance"] is None
    assert "chance " not in str(found).replace("is chance", "")
    assert diff(before, files(images(1, 40, shift=90))).by_chance is False


def test_equal_numbers_are_said_to_be_equal():
    a = measured(images(1, 40))
    text = str(diff(a, a))

    assert "equal    means, stds and histograms are the same in both files" in text
    assert "through" not in text
    assert "chance   " not in text
    flipped = measured(images(1, 40)[:, ::-1])
    assert "equal    means, stds" in str(diff(a, flipped))
    assert "equal  " not in str(diff(a, measured(images(2, 40))))


# What cannot be compared


def test_what_cannot_be_compared_is_said(tmp_path):
    rgb = measured(images(1, 40))
    gray = measured(images(1, 40, channels=1))
    deep = measured((images(1, 40, channels=1) * np.uint16(257)).astype(np.uint16))
    floats = measured(images(1, 40).astype(np.float32) / 7)
    constants = Stats(("R", "G", "B"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    assert ("channels: only the first file has L; only the second file has R, G, B",) == (
        diff(gray, rgb).unlike[:1]
    )
    assert () == diff(gray, rgb).channels
    with pytest.raises(IncompatibleStats, match="has no channel to compare with a"):
        diff(gray, rgb, fail_over=0.1)
    (one,) = diff(gray, deep).channels
    assert (0, None, 0) == (one.wasserstein, one.jensen_shannon, one.shift)
    assert "Jensen-Shannon: one file has values of 8 bits, the other of 16" in (
        diff(gray, deep).unlike
    )
    assert diff(rgb, floats).unlike[0].startswith("means and stds: those of the second file are of")
    assert 3 == len(diff(floats, floats).channels)
    assert diff(floats, floats).channels[0].wasserstein is None
    assert 3 == len(diff(constants, rgb).channels)
    assert {} == diff(constants, rgb).counts
    for found in (diff(gray, rgb), diff(rgb, floats), diff(constants, rgb), diff(gray, deep)):
        assert str(found).startswith("first ")
        assert json.loads(json.dumps(found.to_dict()))


def test_a_constant_channel_is_an_endless_shift_and_null_in_json():
    flat, varied = measured(np.full((40, 2, 2, 1), 9, np.uint8)), measured(images(1, 40, 0, 1))
    (one,) = diff(flat, varied).channels

    assert (math.inf, math.inf) == (one.shift, one.gain)
    assert diff(flat, varied).to_dict()["channels"][0]["shift"] is None
    assert (0, 1) == (diff(flat, flat).channels[0].shift, diff(flat, flat).channels[0].gain)


def test_parts_without_images_are_refused(tmp_path):
    stats = imgnorm.measure(SHAPES)
    empty = imgnorm.measure(SHAPES, shard=(40, 40))
    with pytest.raises(IncompatibleStats, match="a part without images"):
        diff(stats, empty)


# What else was counted


def test_classes_that_come_go_and_move_are_told():
    a = with_classes(measured(images(1, 400)), cat=100, dog=100, owl=200)
    b = with_classes(measured(images(2, 400)), cat=104, dog=196, elk=100)
    found = {one.name: one for one in diff(a, b).classes}

    assert ["cat", "dog", "elk", "owl"] == list(found)
    assert [False, True] == [found[name].moved for name in ("cat", "dog")]
    assert ((0, 100), (200, 0)) == (found["elk"].images, found["owl"].images)
    assert "only in the second: elk (100)" in str(diff(a, b))
    assert "1 of 2 moved by more than chance, as a share of the images: dog 25 ->" in (
        " ".join(str(diff(a, b)).split())
    )


def test_means_of_classes_are_compared_in_stds_of_the_first():
    a = imgnorm.measure(SHAPES, per_class=True)
    b = imgnorm.measure(SHAPES, per_class=True, mode="RGB", preprocess=[Resize(4)])
    found = diff(a, b).classes[0]
    means = [stats.classes["circle"].mean for stats in (a, b)]
    shifts = [(y - x) / std for x, y, std in zip(*means, a.std, strict=True)]

    assert max(shifts, key=abs) == found.shift


def test_counts_of_kinds_and_settings_are_side_by_side():
    whole, circles = imgnorm.measure(SHAPES), imgnorm.measure(SHAPES / "circle", mode="L")
    found = diff(whole, circles)

    assert (whole.measurement.formats["PNG"], circles.measurement.formats["PNG"]) == (
        found.counts["formats"]["PNG"]
    )
    assert {"mode": ("RGB", "L")} == found.settings
    assert ["settings"] == [problem.rule for problem in found.problems]


def with_sizes(stats: Stats, *sizes: tuple[int, int]) -> Stats:
    def one(width: int, height: int) -> Sizes:
        end = (End(width * height, 1, f"{width}.png", (width, height)),)
        edges = [Distribution({start_of(edge): 1}) for edge in (width, height)]
        return Sizes(*edges, smallest=end, largest=end)

    assert stats.measurement
    first, *others = (one(*size) for size in sizes)
    overview = Overview(sum(others, first))
    return replace(stats, measurement=replace(stats.measurement, overview=overview))


def test_sizes_that_changed_are_shown():
    stats = measured(images(1, 3))
    a = with_sizes(stats, (8, 6), (10, 10), (500, 375))
    b = with_sizes(stats, (8, 6), (600, 400), (640, 480))

    assert {
        "smallest": ("8 x 6", "8 x 6"),
        "median": ("10 x 10", "~608 x ~400"),  # 576 to 639, and 384 to 415
        "largest": ("500 x 375", "640 x 480"),
    } == diff(a, b).sizes
    assert "sizes    median 10 x 10 -> ~608 x ~400, largest 500 x 375 -> 640 x 480" in (
        str(diff(a, b))
    )


def test_images_of_one_size_have_it_as_their_median():
    """Sizes are counted in ranges: 32 to 35, for example."""
    a, b = (measured(images(seed, 3).repeat(7, axis=2)) for seed in (1, 2))

    assert ("35 x 6", "35 x 6") == diff(a, b).sizes["median"]


def test_shards_are_named_so_that_nothing_is_taken_for_lost():
    def shard(number: int) -> Stats:
        stats = imgnorm.measure(SHAPES)
        assert stats.measurement
        source = replace(stats.measurement.source, shards=Shards(2, (number,)))
        return replace(stats, measurement=replace(stats.measurement, source=source))

    one, two = shard(1), shard(2)
    found = diff(one, two)

    assert {"shards": ("shard 1 of 2", "shard 2 of 2")} == found.settings
    assert "shards: shard 1 of 2; now shard 2 of 2" in str(found)
    assert "a shard has only some of them" in " ".join(found.unlike)
    assert ("shard 1 of 2", "all of them") == diff(one, imgnorm.measure(SHAPES)).settings["shards"]
    assert {} == diff(one, one).settings
    assert "shard" not in " ".join(diff(one, one).unlike)


def test_names_with_commas_estimates_and_single_images_read_well():
    a = with_classes(measured(images(1, 40)), **{"cat, black": 20, "dog": 20})
    b = with_classes(measured(images(2, 1)), dog=1)
    assert b.measurement
    b = replace(b, measurement=replace(b.measurement, ignored={"tolerance": 1364}))
    text = str(diff(a, b))

    assert 'only in the first: "cat, black" (20)' in text
    assert "second   b: 1 image of " in text
    assert "ignored  not drawn for the estimate 0 -> 1,364" in text


def test_quantiles_are_whole_levels_of_8_bits_and_tenths_of_16():
    def quantiles(a: Stats, b: Stats) -> list[str]:
        return str(diff(a, b)).split("quantiles")[1].split("\n")[2].split()[1:]

    eight = measured(images(1, 40, channels=1))
    deep = measured(images(1, 40, channels=1).astype(np.uint16) * 257 + np.uint16(100))

    assert ["+0"] * 7 == quantiles(eight, eight)
    assert ["+0.4"] * 7 == quantiles(eight, deep)  # 100 / 257


def test_a_table_of_images_is_no_stats_file():
    with pytest.raises(IncompatibleStats, match="x\\.csv: a table of images, not a stats file; "):
        diff("x.csv", measured(images(1, 2)))


# fail_over, and the command


def test_fail_over_is_about_shift_and_gain():
    a, b = measured(images(1, 40)), measured(images(2, 40, shift=3))
    largest = max(max(abs(one.shift), abs(one.gain - 1)) for one in diff(a, b).channels)

    assert not diff(a, b, fail_over=largest).failed
    assert diff(a, b, fail_over=largest * 0.999).failed
    assert diff(a, b, fail_over=0).failed
    assert not diff(a, a, fail_over=0).failed
    for wrong in (math.nan, math.inf, -1, 10**400, "x", "0.1", [0.1]):
        with pytest.raises(ValueError, match="expected a number from 0 on"):
            diff(a, b, fail_over=wrong)


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "-1", "x"])
@pytest.mark.parametrize("kind", ["yaml", "csv"])
def test_wrong_values_of_fail_over_are_wrong_usage_in_a_line(files, capsys, value, kind):
    assert 2 == run(["diff", f"a.{kind}", f"b.{kind}", f"--fail-over={value}"])
    printed = capsys.readouterr()
    assert "" == printed.out
    assert 1 == printed.err.count("\n")
    assert printed.err.startswith("Invalid value for '--fail-over': ")


def test_a_fail_over_that_holds_says_what_changed_most(files, capsys):
    changes = {
        f"{what} of {one.channel}": abs(change)
        for one in files.channels
        for what, change in (("mean", one.shift), ("std", one.gain - 1))
    }
    name = max(changes, key=lambda name: changes[name])

    assert 0 == run(["diff", "a.yaml", "b.yaml", "--fail-over", "9", "--format", "github"])
    assert capsys.readouterr().err == (
        f"within   --fail-over 9: of 6 means and stds, the {name} changed most, by {changes[name]:.3g}\n"
    )
    assert 0 == run(["diff", "a.yaml", "b.yaml", "--fail-over", "9", "-q"])
    assert "" == capsys.readouterr().err
    assert 0 == run(["diff", "a.yaml", "a.yaml", "--fail-over=-0"])
    assert "within   --fail-over 0: none of 6 means and stds changed\n" == capsys.readouterr().err
    assert "" == files.verdict


def test_a_channel_of_one_file_is_not_judged_and_the_verdict_says_so():
    four, three = measured(images(1, 40, channels=4)), measured(images(1, 40))
    few = replace(three, channels=four.channels[:3])
    found = diff(four, few, fail_over=9)

    assert (f"channels: only the first file has {four.channels[3]}",) == found.unlike[:1]
    assert found.verdict.endswith(f"; not judged: only the first file has {four.channels[3]}")


def test_a_message_shows_the_digits_that_differ():
    def constants(mean: float, std: float) -> Stats:
        return Stats(("L",), (mean,), (std,))

    def messages(mean: float, std: float, fail_over: float) -> list[str]:
        found = diff(constants(0.5, 0.25), constants(mean, std), fail_over=fail_over)
        return [one.message.partition("channel L: ")[2] for one in found.problems]

    assert [
        "0.500001, 0.500000 in a: a shift of +4e-06 stds, more than --fail-over 0",
        "0.250001, 0.250000 in a: 1.000004 times, more than --fail-over 0",
    ] == messages(0.500001, 0.250001, 0)
    assert [
        "0.5125, 0.5000 in a: a shift of +0.050004 stds, more than --fail-over 0.05",
        "0.2625, 0.2500 in a: 1.050004 times, more than --fail-over 0.05",
    ] == messages(0.512501, 0.262501, 0.05)


def test_an_estimate_fails_only_beyond_its_error_bars(tmp_path):
    """The bounds are reached by the farthest values that the margins allow."""
    exact = measured(images(1, 900))
    np.save(tmp_path / "b.npy", images(2, 900, shift=9))
    about = imgnorm.measure(tmp_path / "b.npy", layout="NHWC", tolerance=0.02)
    margins = about.estimate.margins
    (one, *_) = diff(exact, about).channels
    (back, *_) = diff(about, exact).channels
    shift, gain = (abs(one.mean[1] - one.mean[0]) / exact.std[0], one.std[1] / exact.std[0])

    assert shift + one.margins[0] == (
        pytest.approx((abs(one.mean[1] - one.mean[0]) + margins.mean[0]) / exact.std[0])
    )
    assert gain + one.margins[1] == pytest.approx((one.std[1] + margins.std[0]) / exact.std[0])
    assert back.gain + back.margins[1] == (
        pytest.approx(exact.std[0] / (about.std[0] - margins.std[0]))
    )
    certain = max(
        max(abs(c.shift) - c.margins[0], abs(c.gain - 1) - c.margins[1])
        for c in diff(exact, about).channels
    )
    assert not diff(exact, about, fail_over=certain).failed
    assert diff(exact, about, fail_over=certain * 0.99).failed
    assert "; above it by less than the error bars of an estimate: " in (
        diff(exact, about, fail_over=certain).verdict
    )
    assert "estimate shifts are within" in str(diff(exact, about))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Difference:
    monkeypatch.chdir(tmp_path)
    imgnorm.write_stats("a.yaml", measured(images(1, 40)))
    imgnorm.write_stats("b.yaml", measured(images(2, 40, shift=9)))
    return diff("a.yaml", "b.yaml", fail_over=0.1)


def test_the_command_prints_what_the_function_returns(files, capsys):
    assert 1 == run(["diff", "a.yaml", "b.yaml", "--fail-over", "0.1", "--format", "json"])
    assert json.loads(json.dumps(files.to_dict())) == json.loads(capsys.readouterr().out)
    assert 0 == run(["diff", "a.yaml", "b.yaml"])
    assert str(diff("a.yaml", "b.yaml")) + "\n" == capsys.readouterr().out


@pytest.mark.parametrize("report", ["github", "sarif", "junit"])
def test_reports_for_ci_name_the_line_of_the_second_file(files, capsys, report):
    line = next(p.line for p in files.problems if p.severity == "error")

    assert "mean: [" in Path("b.yaml").read_text().splitlines()[line - 1]
    assert 1 == run(["diff", "a.yaml", "b.yaml", "--fail-over", "0.1", "--format", report])
    written = capsys.readouterr().out
    assert "b.yaml" in written
    assert "validate" not in written
    assert "more than --fail-over 0.1" in written
