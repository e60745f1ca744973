"""Float images are counted exactly: every sum equals the sum of fractions, whatever the floats are."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import imgnorm
from imgnorm.checks.validate import validate
from imgnorm.constants.explain import explain
from imgnorm.errors import IncompatibleStats, InvalidDocument
from imgnorm.nn import InputNorm
from imgnorm.pipeline.targets.torchvision import stats_module
from imgnorm.pixels import floats as floatcount
from imgnorm.pixels.floats import FloatCounter, count_floats
from imgnorm.stats.file import parse_stats
from imgnorm.stats.format import text_of
from imgnorm.stats.measurement import ClassStats, Measurement
from imgnorm.stats.provenance import Provenance
from imgnorm.stats.stats import Stats, merge
from imgnorm.stats.table import table
from imgnorm.tally.moments import UNIT_BITS, ImageSums, Moments
from imgnorm.tally.names import names_digest
from imgnorm.tally.skipped import Reason, Skipped
from imgnorm.tally.tally import Counted, Tally

Images = npt.NDArray[np.floating]
SHAPES = str(Path(__file__).parents[2] / "examples" / "shapes")
DTYPES = ("<f2", "<f4", "<f8", ">f4", ">f8")


def counted(images: Images) -> Counted:
    (one,) = count_floats(images).counted.values()
    return one


def moments(images: Images) -> Moments:
    return counted(images).pixels.moments()


def fractions(images: Images) -> list[list[Fraction]]:
    """The values of each channel."""
    return [[Fraction(float(v)) for v in images[..., c].ravel()] for c in range(images.shape[3])]


def assert_exact(images: Images) -> None:
    found = moments(images)
    unit = Fraction(1, 1 << found.unit_bits)
    for channel, values in enumerate(fractions(images)):
        assert sum(values) == found.total[channel] * unit
        assert sum(v * v for v in values) == found.total_sq[channel] * unit**2
        assert len(values) == found.count


@st.composite
def batches(draw: st.DrawFn) -> Images:
    """Of every dtype, from the smallest denormal to the largest value, mixed as hypothesis likes."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(arrays.array_shapes(min_dims=4, max_dims=4, max_side=4))
    width = 8 * dtype.itemsize
    values = st.floats(allow_nan=False, allow_infinity=False, width=width)
    return draw(arrays.arrays(dtype, shape, elements=values))


# Exact


@given(batches())
@settings(max_examples=200, deadline=None)
def test_sums_of_any_floats_are_those_of_fractions(images):
    assert_exact(images)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e-3])
def test_sums_of_ordinary_floats_are_those_of_fractions(dtype, scale):
    noise = np.random.default_rng(0).standard_normal((3, 11, 13, 3))

    assert_exact((noise * scale).astype(dtype))


@pytest.mark.parametrize("block", [16, 100, 1 << 16])
def test_images_larger_than_a_block_are_exact(monkeypatch, block):
    monkeypatch.setattr(floatcount, "_BLOCK", block)
    noise = np.random.default_rng(1).random((2, 31, 33, 2))

    assert_exact(noise)
    assert_exact(noise.astype(np.float32))


@pytest.mark.parametrize(
    ("mean", "std", "dtype"),
    [(1e8, 1.0, "f8"), (1e6, 1e-3, "f8"), (1e4, 0.05, "f4"), (-1e15, 0.5, "f8")],
)
def test_a_small_spread_at_a_large_mean_does_not_cancel(mean, std, dtype):
    """A sum of squares in float64 gives a negative variance here."""
    images = (mean + std * np.random.default_rng(2).standard_normal((4, 16, 16, 1))).astype(dtype)
    (values,) = fractions(images)
    true_mean = sum(values) / len(values)
    variance = sum(v * v for v in values) / len(values) - true_mean**2
    found = moments(images)

    assert (float(true_mean),) == found.mean()
    ulp = Fraction(math.ulp(found.std()[0]))
    assert (Fraction(found.std()[0]) - ulp) ** 2 <= variance
    assert variance <= (Fraction(found.std()[0]) + ulp) ** 2


@pytest.mark.parametrize("value", [5e-324, 1e-310, 2.0**-480, 2.0**-481, 1e300, 1.7e308, -1e-200])
def test_denormals_and_huge_values_are_exact_beside_ordinary_ones(value):
    images = np.array([value, 0.1, -3.0, value]).reshape(1, 2, 2, 1)

    assert_exact(images)


def test_the_mean_of_the_largest_floats_does_not_overflow():
    largest = np.finfo(np.float64).max
    found = moments(np.full((1, 2, 2, 1), largest))

    assert ((largest,), (0.0,)) == (found.mean(), found.std())


def test_one_image_of_integers_in_floats_has_the_sums_of_the_integers():
    images = np.arange(12.0).reshape(1, 2, 2, 3)
    whole = images.astype(np.int64)

    assert (
        Moments(4, tuple(whole.sum((0, 1, 2))), tuple((whole**2).sum((0, 1, 2))))
        == moments(images)
    )  # fmt: skip


@given(batches(), st.randoms())
@settings(max_examples=50, deadline=None)
def test_neither_order_nor_batches_change_the_tally(images, random):
    one_by_one = [count_floats(images[i : i + 1], [str(i)]) for i in range(len(images))]
    random.shuffle(one_by_one)

    assert count_floats(images) == reduce(add, one_by_one)


def test_the_unit_is_the_largest_whatever_was_added_on_the_way():
    """Two odd numbers add up to an even one: the unit of the sum is larger than theirs."""
    parts = [np.full((1, 1, 1, 1), v) for v in (0.25, 0.75, 1.0)]
    at_once = counted(np.concatenate(parts))

    assert at_once.pixels == reduce(add, (counted(part).pixels for part in parts))
    assert Moments(3, (8,), (26,), 2) == at_once.pixels.moments()
    assert Moments(2, (2,), (2,), 1) == moments(np.full((1, 1, 2, 1), 0.5))


def test_layout_and_byte_order_in_memory_do_not_matter():
    images = np.random.default_rng(3).random((3, 5, 7, 3)).astype(np.float32)
    wanted = count_floats(images)

    assert wanted == count_floats(images.astype(">f4"))
    assert wanted == count_floats(np.asfortranarray(images))
    assert wanted == count_floats(images.transpose(0, 3, 1, 2).copy().transpose(0, 2, 3, 1))
    assert wanted == count_floats(images.astype(np.float64))
    assert wanted == count_floats(images[::-1, :, ::-1])


@pytest.mark.parametrize(
    ("channels", "mode"), [(1, "F"), (2, "C2;F"), (3, "RGB;F"), (4, "RGBA;F"), (13, "C13;F")]
)
def test_channels_tell_the_mode(channels, mode):
    tally = count_floats(np.zeros((2, 3, 3, channels), np.float32), format_="NPY")

    assert {mode} == set(tally.counted)
    assert {mode: 2} == tally.counted[mode].modes
    assert {"NPY": 2} == tally.counted[mode].formats


def test_the_range_is_that_of_the_values_and_zero_has_no_sign():
    images = np.array([[-0.0, 2.5], [0.0, -1.0]]).reshape(2, 1, 1, 2)
    pixels = counted(images).pixels

    assert ((0.0, -1.0), (0.0, 2.5)) == (pixels.minimum(), pixels.maximum())
    assert "0.0" == repr(pixels.minimum()[0])


# Per-image conventions


def test_per_image_sums_are_those_of_fractions():
    images = np.random.default_rng(4).standard_normal((5, 3, 4, 2)).astype(np.float32)
    unit = 1 << UNIT_BITS
    sums = counted(images).sums
    for channel in range(2):
        means, squares, variances = [], [], []
        for image in images:
            values = [Fraction(float(v)) for v in image[..., channel].ravel()]
            means.append(sum(values) / 12)
            squares.append(sum(v * v for v in values) / 12)
            variances.append(squares[-1] - means[-1] ** 2)

        assert sum(m * unit // 1 for m in means) == sums.mean[channel]
        assert sum(q * unit // 1 for q in squares) == sums.mean_sq[channel]
        roots = [math.isqrt(v * unit * unit // 1) for v in variances]
        assert sum(roots) == sums.std[channel]
        roots = [math.isqrt(v * unit * unit * 12 / 11 // 1) for v in variances]
        assert sum(roots) == sums.std_1[channel]


def test_images_of_one_pixel_have_no_std_with_correction_1():
    sums = counted(np.array([0.5, 1.5]).reshape(2, 1, 1, 1)).sums

    assert ImageSums(2, (2 << UNIT_BITS,), (5 << UNIT_BITS - 1,), (0,), (0,), 2) == sums


def test_constant_images_have_no_std_that_shows():
    conventions = counted(np.full((3, 4, 4, 1), 0.1)).sums.conventions()

    assert {(0.0,)} == {convention.std for convention in conventions.values()}


# What is not counted


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_image_with_a_pixel_that_is_no_number_is_skipped_and_the_others_count(bad):
    images = np.random.default_rng(5).random((3, 4, 4, 3))
    images[1, 2, 3, 0] = bad
    images[1, 0, 0, 2] = bad
    tally = count_floats(images, ["a", "b", "c"])
    detail = "2 of 48 pixel values are NaN or Inf"

    assert (Skipped("b", Reason.NONFINITE_PIXELS, detail),) == tally.skipped
    assert count_floats(images[::2], ["a", "c"]).counted == tally.counted


def test_images_without_a_name_are_named_by_their_number():
    counter = FloatCounter(1)
    for _ in range(2):
        counter.add(np.full((1, 1, 1, 1), math.nan))

    assert ["0", "1"] == [s.name for s in counter.tally().skipped]


def test_no_images_are_an_empty_tally():
    assert Tally() == count_floats(np.zeros((0, 4, 4, 3)))


def test_images_without_pixels_are_skipped():
    skipped = (Skipped("0", Reason.ZERO_AREA, "it has no pixels"),)

    assert Tally(skipped=skipped) == count_floats(np.zeros((1, 0, 4, 3)))


def test_what_is_no_batch_of_float_images_is_a_callers_bug():
    with pytest.raises(TypeError, match="images are int64; give float16, float32 or float64"):
        count_floats(np.zeros((1, 2, 2, 1), np.int64))
    with pytest.raises(TypeError, match=r"images are 3-dimensional; give \(N, H, W, C\)"):
        count_floats(np.zeros((2, 2, 1)))


# Stats of floats, and their file


def stats_of(images: Images, name: str = "a") -> Stats:
    tally = count_floats(images)
    ((mode, one),) = tally.counted.items()
    digest = names_digest([name.encode()])
    source = Provenance("array", name, digest, digest, one.images)
    classes = {"one": ClassStats(one.images, one.pixels.moments())}
    measurement = Measurement(
        one.images, one.pixels, one.sums, one.modes, one.formats, {}, source, classes
    )
    return Stats.of(measurement, mode, ())


def noise(*shape: int, scale: float = 1.0) -> Images:
    return np.random.default_rng(6).standard_normal(shape) * scale


@given(batches())
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read_back_equal_and_written_again_the_same(images):
    stats = stats_of(images)
    text = text_of(stats)
    back = parse_stats(text.encode(), "f.yaml")

    assert stats == back
    assert text == text_of(back)


@given(batches(), st.data())
@settings(max_examples=30, deadline=None)
def test_merging_is_measuring_at_once(images, data):
    cut = data.draw(st.integers(0, len(images)))
    parts = [part for part in (images[:cut], images[cut:]) if len(part)]
    stats = [stats_of(part, name) for part, name in zip(parts, "ab", strict=False)]
    merged, whole = merge(reversed(stats)), stats_of(images)

    assert whole.measurement.pixels == merged.measurement.pixels
    assert whole.measurement.sums == merged.measurement.sums
    assert whole.measurement.classes == merged.measurement.classes
    assert (whole.mean, whole.std) == (merged.mean, merged.std)


def test_floats_are_not_merged_with_8_bit_images():
    rgb = imgnorm.measure(SHAPES, workers=1, per_class=True)
    with pytest.raises(IncompatibleStats) as caught:
        merge([stats_of(noise(1, 2, 2, 3)), rgb], labels=["f.yaml", "i.yaml"])

    assert (
        "f.yaml: float (mode RGB;F), but i.yaml is 8-bit (RGB); the scales of their values differ, so "
        "keep them apart"
    ) == str(caught.value)


def test_other_channels_are_not_merged():
    with pytest.raises(IncompatibleStats) as caught:
        merge([stats_of(noise(1, 2, 2, 3)), stats_of(noise(1, 2, 2, 2), "b")], labels=["a", "b"])

    assert (
        "b: measured in mode C2;F (--mode C2;F), but a in RGB;F (--mode RGB;F); measure both with the "
        "same --mode"
    ) == str(caught.value)


WRONG = [
    ("mean: [", "mean: [9", "derived"),
    ("  unit_bits: ", "  unit_bits: 1", "impossible"),
    ("  total: [", "  total: [9", "impossible"),
    ("  total_sq: [", "  total_sq: [9", "impossible"),
    ("min: [", "min: [9", "impossible"),
    ("pixels: ", "pixels: 9", "derived"),
    ("    std_1: [", "    std_1: [9999", "impossible"),
    ("scale: 1", "scale: 255", "unknown-key"),
    ('mode: "RGB;F"', "mode: RGB", "unit"),
    ('mode: "RGB;F"', 'mode: "C9;F"', "channels"),
    ("\n  count: 60", "\n  count: 0", "impossible"),
]


@pytest.mark.parametrize(("there", "wrong", "rule"), WRONG)
def test_a_change_by_hand_is_refused(there, wrong, rule):
    text = text_of(stats_of(np.abs(noise(3, 4, 5, 3))))
    assert there in text
    with pytest.raises(InvalidDocument) as caught:
        parse_stats(text.replace(there, wrong, 1).encode(), "f.yaml")

    assert rule in {problem.rule for problem in caught.value.problems}


def test_numbers_that_no_float_can_hold_are_refused_without_a_traceback():
    text = text_of(stats_of(np.abs(noise(3, 4, 5, 1))))
    long = "9" * 1200
    with pytest.raises(InvalidDocument) as caught:
        parse_stats(text.replace("  total: [", f"  total: [{long}").encode(), "f.yaml")

    assert {"impossible"} == {problem.rule for problem in caught.value.problems}


def test_constants_for_floats_may_lie_anywhere(tmp_path):
    text = "format: imgnorm-stats/1\nmean: [-3.5, 1000.0]\nstd: [0.001, 250.0]\nscale: 1\n"
    path = tmp_path / "constants.yaml"
    path.write_text(text)
    stats = parse_stats(text.encode(), "f.yaml")

    assert ((-3.5, 1000.0), (0.001, 250.0), True) == (stats.mean, stats.std, stats.of_floats)
    assert () == validate([str(path)]).problems


def test_constants_for_floats_must_still_be_usable(tmp_path):
    path = tmp_path / "constants.yaml"
    path.write_text("format: imgnorm-stats/1\nmean: [5.0]\nstd: [0.0]\nscale: 1\n")

    assert ["not-usable"] == [p.rule for p in validate([str(path)]).problems]


def test_a_measured_file_of_floats_raises_no_alarm(tmp_path):
    path = tmp_path / "stats.yaml"
    imgnorm.write_stats(path, stats_of(noise(3, 4, 5, 3, scale=1e4)))

    assert () == validate([str(path)]).problems


def test_a_pipeline_of_images_refuses_stats_of_floats(tmp_path):
    imgnorm.write_stats(tmp_path / "stats.yaml", stats_of(noise(3, 4, 5, 3)))
    config = tmp_path / "pipeline.yaml"
    config.write_text(
        "format: imgnorm-pipeline/1\nsource: {kind: folder, path: x}\nnormalize: {stats: stats.yaml}\n"
    )
    (problem,) = validate([str(config)]).problems

    assert "other-mode" == problem.rule
    assert (
        f"normalize.stats: {tmp_path}/stats.yaml was measured on arrays of mode RGB;F, but a pipeline starts from PIL images"
        == problem.message
    )


def test_the_table_has_no_histogram_and_says_what_values_outside_0_and_1_mean():
    told = table(stats_of(noise(2, 4, 4, 1, scale=100)), verbose=True)

    assert "histogram" not in told
    assert "q50" not in told
    assert "in mode F; floats as they are" in told
    assert "not [0, 1]: mean and std are for these values" in told
    assert "not [0, 1]" not in table(stats_of(np.abs(np.tanh(noise(2, 4, 4, 1)))))


@pytest.mark.parametrize("api", ["v1", "v2"])
def test_every_transform_of_floats_leaves_their_unit_alone(api, tmp_path):
    images = noise(8, 5, 6, 3, scale=10) + 7
    stats = stats_of(images)
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    scope: dict[str, object] = {}
    exec(stats_module(stats, api=api), scope)
    for normalize in (
        scope["eval_transform"],
        imgnorm.to_transform(stats, api=api),
        InputNorm.of(stats),
    ):
        normalized = normalize(batch).double()  # type: ignore[operator]

        assert torch.allclose(normalized.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-6)
        assert torch.allclose(
            normalized.std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-6
        )


def test_numbers_above_1_are_compared_with_floats_as_they_are():
    stats = stats_of(noise(3, 8, 8, 1, scale=50))
    (answer,) = explain(f"{stats.std[0]:.5g}", stats=stats).answers

    assert answer.what.startswith(f"{stats.std[0]:.5g} is the std of the stats: pooled")
