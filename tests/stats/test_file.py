"""Stats files: what is written is read back equal, and what was changed by hand is refused."""

from __future__ import annotations

import copy
import math
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import imgnorm
from imgnorm.errors import InvalidDocument, OutputError, SourceError
from imgnorm.settings import CHANNELS, CenterCrop, Mode, Resize, scale_of
from imgnorm.stats import file as statsfile
from imgnorm.stats.file import parse_stats, read_stats, write_stats
from imgnorm.stats.format import document_of, text_of
from imgnorm.stats.measurement import ClassStats, Measurement
from imgnorm.stats.provenance import Provenance
from imgnorm.stats.stats import Stats
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import UNIT_BITS, ImageSums
from imgnorm.tally.skipped import Reason, Skipped

FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # safe_load in C, 10 times as fast
SHAPES = Path(__file__).parents[2] / "examples" / "shapes"

# What some YAML reader, of this version or that, takes for something else than text.
HOSTILE = [
    *("no", "No", "on", "off", "y", "n", "Y", "N", "true", "null", "Null", "~", "", " ", "a "),
    *("1", "1e3", "0o17", "017", "0x1F", "1_000", "1:30", "12:30:45", ".5", ".inf", ".nan", "NaN"),
    *("2024-01-01", "+1", "-1", "<<", "=", "a: b", "a:", ": a", "#x", "a #b", "- a", "? a", "-"),
    *("[a]", "{a: b}", "a, b", "&a", "*a", "!a", "!!int 1", "|", ">", "%a", "@a", "`a`", "---"),
    *("'", '"', "'a'", '"a"', '\\"', "\\", "a\\nb", "a\nb", "\n", "a\r\nb", "\t", "a\tb", "\0"),
    *(
        "\x85",
        "a\x85b",
        "\u2028",
        "\u2029",
        "\ufeff",
        "\x7f",
        "\x1b[31m",
        "é",
        "日本",
        "😀",
        "a" * 250,
    ),
    *("\ufffe", "\uffff", "\U0010ffff", "../up", "/abs", "C:\\x", "a/b.png", "format", "exact"),
]
HARMLESS = {"NaN", "a, b", "a" * 250, "a/b.png", "/abs", "format", "exact"}

texts = st.sampled_from(HOSTILE) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=0, max_size=12
)


def measured(
    mode: Mode = "RGB",
    *,
    seed: int = 0,
    images: int = 7,
    names: tuple[str, ...] = (),
    one_pixel: int = 0,
    preprocess: tuple[Resize | CenterCrop, ...] = (),
) -> Stats:
    """Random counts instead of a measurement, with `names` wherever a text is possible."""
    chance = random.Random(seed)
    channels, bins = len(CHANNELS[mode]), scale_of(mode) + 1
    pixels = chance.randrange(1, 10 ** chance.randrange(1, 14))
    parts = [_split(chance, pixels, bins, channels) for _ in range(2)]
    classes = {}
    if names:
        # Two classes have all the pixels; others have images, and nothing was counted apart.
        classes = {name: ClassStats(0) for name in names}
        for name, part in zip(["one", "two"], parts, strict=True):
            classes[name] = ClassStats(1, part.moments())
    unit = images << UNIT_BITS
    measurement = Measurement(
        images=images,
        pixels=parts[0] + parts[1],
        sums=ImageSums(
            images,
            *(tuple(chance.randrange(unit) for _ in range(channels)) for _ in range(4)),
            one_pixel,  # type: ignore[call-arg]
        ),
        modes={"P": 2, mode: images - 2},
        formats={"PNG": images},
        decoders={"PNG": "Pillow 13.0.0", "WEBP": "Pillow 13.0.0, libwebp 1.6.0"},
        source=Provenance(
            "folder",
            (*names, "data")[0],
            "0" * 64,
            "1" * 64,
            images,
            {"split": "train", "limit": 9},
        ),
        classes=dict(sorted(classes.items())),
        skipped=tuple(Skipped(name, chance.choice(list(Reason))) for name in names),
        ignored={"hidden": 3},
    )
    return Stats.of(measurement, mode, preprocess)


def _split(chance: random.Random, pixels: int, bins: int, channels: int) -> Histogram:
    """`pixels` pixels in each channel, on up to twelve values."""
    rows = []
    for _ in range(channels):
        row = [0] * bins
        cuts = sorted(chance.randrange(pixels + 1) for _ in range(chance.randrange(12)))
        for low, high in zip([0, *cuts], [*cuts, pixels], strict=True):
            row[chance.randrange(bins)] += high - low
        rows.append(tuple(row))
    return Histogram(tuple(rows))


def refusal(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(InvalidDocument) as caught:
        parse_stats(data, "f.yaml")
    return str(caught.value)


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all numbers."""
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    elif not isinstance(value, str):
        yield path


def value_at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def node_at(text: str, path: tuple[str | int, ...]) -> yaml.Node:
    """The YAML node of a value, by PyYAML alone."""
    node = yaml.compose(text, yaml.SafeLoader)
    for key in path:
        if isinstance(node, yaml.MappingNode):
            (node,) = (value for name, value in node.value if name.value == key)
        else:
            node = node.value[key]
    return node


def edited(text: str, path: tuple[str | int, ...], new: object) -> str:
    """The text with one scalar replaced, as an editor would do it."""
    node = node_at(text, path)
    return f"{text[: node.start_mark.index]}{new}{text[node.end_mark.index :]}"


def place(text: str, path: tuple[str | int, ...]) -> str:
    mark = node_at(text, path).start_mark
    return f"f.yaml:{mark.line + 1}:{mark.column + 1}"


# Round trip


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_what_is_written_is_read_back_equal_and_written_again_the_same(tmp_path, mode):
    stats = measured(mode, names=("a", "b"), preprocess=(Resize(256), CenterCrop((224, 192))))

    write_stats(tmp_path / "1.yaml", stats)
    write_stats(tmp_path / "2.yaml", read_stats(tmp_path / "1.yaml"))

    assert stats == read_stats(tmp_path / "1.yaml")
    assert (tmp_path / "1.yaml").read_bytes() == (tmp_path / "2.yaml").read_bytes()


def test_a_real_measurement_comes_back_equal(tmp_path):
    stats = imgnorm.measure(SHAPES, per_class=True, resize=40, center_crop=32, workers=1)

    write_stats(tmp_path / "s.yaml", stats)

    assert stats == read_stats(tmp_path / "s.yaml")


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["L", "RGB", "RGBA"]),
    st.integers(0, 2**32),
    st.integers(2, 10**12),
    st.lists(texts, max_size=6, unique=True).map(tuple),
    st.booleans(),
)
@example("RGB", 0, 2, tuple(HOSTILE), False)
def test_no_histogram_and_no_name_is_lost_or_taken_for_something_else(
    mode, seed, images, names, one_pixel
):
    stats = measured(mode, seed=seed, images=images, names=names, one_pixel=int(one_pixel))
    text = text_of(stats)

    read = yaml.load(text, FastLoader)

    assert stats == parse_stats(text.encode(), "f.yaml")
    assert document_of(stats) == read
    assert list(stats.mean + stats.std) == read["mean"] + read["std"]
    assert {float} == {type(number) for number in read["mean"] + read["std"]}
    assert text.splitlines() == text.removesuffix("\n").split("\n")


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
def test_16_bit_histograms_come_back_too(seed):
    stats = measured("I;16", seed=seed)

    assert stats == parse_stats(text_of(stats).encode(), "f.yaml")


@pytest.mark.parametrize("value", [1e-5, 5e-324, 1e-7 / 3, 2.0**-52, 1.0, 0.0])
def test_every_yaml_reader_sees_a_float_as_a_float(value):
    """YAML 1.1 reads 1e-05 as text: a float needs a dot and a signed exponent."""
    text = text_of(Stats(("L",), (value,), (value,)))

    assert [value] == yaml.safe_load(text)["mean"]
    assert [value] == yaml.load(text, yaml.BaseLoader)["mean"] or "." in text.split("mean: ")[1]
    assert (value,) == parse_stats(text.encode(), "f.yaml").mean


@pytest.mark.parametrize("text", [t for t in HOSTILE if t not in HARMLESS])
def test_a_text_that_any_reader_could_misread_is_quoted(text):
    """YAML 1.1 in other languages reads y and n as booleans, 1:30 as 90, and more."""
    line = next(
        line for line in text_of(measured(names=(text,))).splitlines() if line.startswith("  ref: ")
    )

    assert line.startswith(('  ref: "', "  ref: '"))


def test_the_smallest_counts_and_the_largest_come_back():
    for count in (1, 2**31, 2**53 + 1, 2**64 + 1, 10**30):
        histogram = Histogram(((count, *[0] * 254, 3),))
        base = measured("L").measurement
        stats = Stats.of(replace(base, pixels=histogram), "L", ())

        assert stats == parse_stats(text_of(stats).encode(), "f.yaml")


def test_nan_is_never_written(tmp_path):
    path = tmp_path / "s.yaml"
    stats = Stats(("L",), (math.nan,), (0.5,))

    with pytest.raises(ValueError, match=r"^a file cannot hold NaN or Inf: nan$"):
        write_stats(path, stats)

    assert [] == list(tmp_path.iterdir())


def test_the_file_says_in_its_first_line_what_the_numbers_are():
    assert (
        "# Written by imgnorm. mean and std are for ToTensor's [0, 1]: "
        "pooled over all pixels, population."
    ) == text_of(measured()).splitlines()[0]


def test_a_file_tells_neither_when_nor_where_it_was_made(tmp_path, monkeypatch):
    """The same images give the same bytes on every machine, in every folder, on every day."""
    texts = []
    for place in ("here", "over there"):
        folder = tmp_path / place
        shutil.copytree(SHAPES, folder / "shapes")
        monkeypatch.chdir(folder)
        texts.append(text_of(imgnorm.measure("shapes", workers=1)))

    assert texts[0] == texts[1]
    assert str(tmp_path) not in texts[0]
    assert os.uname().nodename not in texts[0]


# Writing


def test_a_place_that_takes_no_file_is_named(tmp_path):
    path = tmp_path / "none" / "s.yaml"

    with pytest.raises(OutputError) as caught:
        write_stats(path, measured())

    assert f"{path}: cannot be written (No such file or directory); name a place that can" == str(
        caught.value
    )


# Numbers changed by hand

TEXT = text_of(measured(names=("cat",), preprocess=(Resize((40, 50)),)))
DOCUMENT = yaml.load(TEXT, FastLoader)
NUMBERS = [
    path
    for path in leaves(DOCUMENT)
    if path[0] != "histogram" or value_at(DOCUMENT, path) or not path[2] % 50
]
# Facts that nothing else in the file repeats.
FREE = {
    ("source", "limit"),
    ("ignored", "hidden"),
    ("image", "preprocess", 0, "Resize", "size", 0),
    ("image", "preprocess", 0, "Resize", "size", 1),
}
DERIVED = ("mean", "std", "pixels", "min", "max", "quantiles", "conventions")


def nudged(number: float) -> float:
    """The smallest change."""
    return number + 1 if isinstance(number, int) else math.nextafter(number, 2)


@pytest.mark.parametrize("path", [p for p in NUMBERS if p[0] in DERIVED], ids=str)
def test_a_number_that_does_not_follow_from_the_integers_is_refused_at_its_place(path):
    original = value_at(DOCUMENT, path)
    changed = nudged(original)
    dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)[1:]

    assert (
        f"{place(TEXT, path)}: {dotted}: {changed!r} does not follow from the file's integers, "
        f"which give {original!r}\n    measure again; do not edit these numbers by hand"
    ) == refusal(edited(TEXT, path, repr(changed)))


def test_every_number_is_tied_to_the_others():
    """All of them, one at a time: histogram bins, sums, classes, the number of images …"""
    slipped = set()
    for path in NUMBERS:
        changed = copy.deepcopy(DOCUMENT)
        value_at(changed, path[:-1])[path[-1]] = nudged(value_at(DOCUMENT, path))
        try:
            parse_stats(yaml.dump(changed, sort_keys=False).encode(), "f.yaml")
        except InvalidDocument:
            continue
        slipped.add(path)

    # One unit of 2**-160 more is below the last digit of what is computed from these sums.
    tiny = {path for path in slipped if path[:2] == ("exact", "image_sums")}
    # A class may have fewer images than it seems: images beside the class folders are in none.
    assert FREE <= slipped
    assert {
        p for p in slipped - FREE - tiny if not (p[0] == "classes" and p[2] == "images")
    } == set()


HAND_MADE = """\
format: imgnorm-stats/1
channels: [L]
mean: [0.5]
std: [0.5]
scale: 255
image: {mode: L, preprocess: []}
images: 2
pixels: 8
min: [0]
max: [255]
quantiles: {q01: [0], q10: [0], q25: [0], q50: [0], q75: [255], q90: [255], q99: [255]}
conventions:
  image_weighted: {mean: [0.5], std: [0.5]}
  mean_of_image_std: {mean: [0.5], std: [0.0]}
  mean_of_image_std_correction_1: {mean: [0.5], std: [0.0]}
modes: {L: 2}
formats: {PNG: 2}
decoders: {PNG: Pillow}
source: {kind: folder, ref: data, listing_sha256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, names_sha256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}
classes:
  cat: {images: 1, mean: [0.0], std: [0.0], count: 4, total: [0], total_sq: [0]}
  dog: {images: 1, mean: [1.0], std: [0.0], count: 4, total: [1020], total_sq: [260100]}
skipped: []
ignored: {}
exact:
  count: 8
  total: [1020]
  total_sq: [260100]
  image_sums: {unit_bits: 160, mean: [MEAN], mean_sq: [MEAN], std: [0], std_1: [0], one_pixel: 0}
histogram:
  L: [4, ZEROS, 4]
""".replace("MEAN", str(1 << 160)).replace("ZEROS", ", ".join("0" * 254))
NOT_EDITED = "\n    measure again; do not edit these numbers by hand"


def test_a_file_that_follows_the_rules_may_come_from_anywhere():
    """One black and one white image of four pixels; worked out by hand."""
    assert (0.5,) == parse_stats(HAND_MADE.encode(), "f.yaml").std


def test_equal_pixels_have_no_std_and_what_imgnorm_0_1_wrote_of_them_is_read(tmp_path):
    """An image's own mean and mean of squares are rounded: 10 / 255 leaves about 1e-10."""
    Image.new("RGB", (1, 1), (10, 11, 12)).save(tmp_path / "a.png")
    stats = imgnorm.measure(tmp_path, workers=1)
    text = text_of(stats)
    older = "[{!r}, {!r}, {!r}]".format(*stats.measurement.rounded_std())

    assert (0.0, 0.0, 0.0) == stats.conventions["image_weighted"].std
    assert max(stats.measurement.rounded_std()) > 0
    assert text.count("std: [0.0, 0.0, 0.0]") >= 2
    place = text.index("image_weighted")
    changed = text[:place] + text[place:].replace("[0.0, 0.0, 0.0]", older, 1)
    assert stats == parse_stats(changed.encode(), "f.yaml")


# The path that is changed; its new value; each problem with its path (None: the changed one).
CHANGES: list[tuple[tuple[str | int, ...], object, list[tuple[Any, str]]]] = [
    (("mean", 0), ".nan", [(None, "mean[0]: .nan is not in [0, 1]")]),
    (("mean", 0), "x", [(None, "mean[0]: expected a number; got 'x' (text)")]),
    (("mean",), "[0.5, 0.5]", [(None, "mean: [0.5, 0.5] does not follow from the file's integers, which give [0.5]")]),
    (("scale",), 65535, [(None, "scale: 65535 does not follow from the file's integers, which give 255")]),
    (
        ("channels", 0),
        "R",
        [(("channels",), "channels: mode L has ['L']")],
    ),
    (
        ("images",),
        3,
        [
            (("modes",), "modes: 2 images in all; images is 3"),
            (("formats",), "formats: 2 images in all; images is 3"),
        ],
    ),
    (("images",), 0, [(None, "images: expected at least 1; got 0")]),
    (("pixels",), 8.5, [(None, "pixels: expected a whole number; got 8.5")]),
    (("modes", "L"), 1, [(("modes",), "modes: 1 images in all; images is 2")]),
    (("modes", "L"), -1, [(None, "modes.L: expected at least 0; got -1")]),
    (("formats", "PNG"), 3, [(("formats",), "formats: 3 images in all; images is 2")]),
    (("source", "kind"), 1, [(None, "source.kind: expected text; got 1")]),
    (("classes", "dog", "images"), 2, [(("classes",), "classes: 3 images in all; images is 2")]),
    (("classes", "dog", "count"), 0, [
        (("classes", "dog", "mean"), "classes.dog.mean: [1.0] does not follow from the integers below"),
        (("classes", "dog", "std"), "classes.dog.std: [0.0] does not follow from the integers below"),
        (None, "classes.dog.count: 0 does not follow from the integers below"),
        (("classes", "dog", "total"), "classes.dog.total: [1020] does not follow from the integers below"),
        (("classes", "dog", "total_sq"), "classes.dog.total_sq: [260100] does not follow from the integers below"),
    ]),
    (
        ("classes", "dog", "total_sq", 0),
        260099,
        [(None, "classes.dog.total_sq[0]: 260099 is not the sum of the squares of 4 pixel values that add up to 1020")],
    ),
    (
        ("classes", "dog", "total", 0),
        10**300,
        [(("classes", "dog", "total_sq", 0), f"classes.dog.total_sq[0]: 260100 is not the sum of the squares of 4 pixel values that add up to 1{'0' * 58}…")],
    ),
    (("exact", "count"), 9, [(None, "exact.count: 9 does not follow from the file's integers, which give 8")]),
    (("exact", "total", 0), 1021, [(None, "exact.total[0]: 1021 does not follow from the file's integers, which give 1020")]),
    (("exact", "image_sums", "unit_bits"), 161, [(None, "exact.image_sums.unit_bits: expected 160; got 161")]),
    (("exact", "image_sums", "mean", 0), -1, [(None, "exact.image_sums.mean[0]: -1 is not the sum of 2 numbers in [0, 1]")]),
    (("exact", "image_sums", "std", 0), 1 << 162, [(None, f"exact.image_sums.std[0]: {1 << 162} is not the sum of 2 numbers in [0, 1]")]),
    (("exact", "image_sums", "std"), "[0, 0]", [(None, "exact.image_sums.std: 2 values for 1 channels")]),
    (
        ("exact", "image_sums", "one_pixel"),
        1,
        [
            (
                ("conventions", "mean_of_image_std_correction_1"),
                "conventions.mean_of_image_std_correction_1: {'mean': [0.5], 'std': [0.0]} does not follow from the integers below",
            )
        ],
    ),
    (("histogram", "L", 0), -4, [(None, "histogram.L[0]: expected at least 0; got -4")]),
    (("histogram", "L"), "[0, 0]", [(None, "histogram.L: counts no pixel")]),
    (("histogram", "L"), str([1] * 257), [(None, "histogram.L: 257 pixel values; mode L has 256")]),
    (
        ("histogram", "L", 255),
        5,
        [
            (("mean", 0), "mean[0]: 0.5 does not follow from the file's integers, which give 0.5555555555555556"),
            (("std", 0), "std[0]: 0.5 does not follow from the file's integers, which give 0.49690399499995325"),
            (("pixels",), "pixels: 8 does not follow from the file's integers, which give 9"),
            (("quantiles", "q50", 0), "quantiles.q50[0]: 0 does not follow from the file's integers, which give 255"),
            (("exact", "count"), "exact.count: 8 does not follow from the file's integers, which give 9"),
            (("exact", "total", 0), "exact.total[0]: 1020 does not follow from the file's integers, which give 1275"),
            (("exact", "total_sq", 0), "exact.total_sq[0]: 260100 does not follow from the file's integers, which give 325125"),
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "new", "problems"), CHANGES, ids=lambda value: str(value)[:40] if value else ""
)
def test_a_change_by_hand_is_told_with_all_that_contradicts_it(path, new, problems):
    """Where one number decides many, the integers are taken as right."""
    text = edited(HAND_MADE, path, new)

    reported = refusal(text).replace(NOT_EDITED, "").splitlines()

    assert [f"{place(text, where or path)}: {message}" for where, message in problems] == reported


def test_channels_that_do_not_have_the_same_number_of_pixels_are_refused():
    """A black pixel more in one channel changes no sum, and perhaps no quantile."""
    text = TEXT
    counts = DOCUMENT["histogram"]["G"]
    pixels = sum(counts)

    assert (
        f"{place(text, ('histogram', 'G'))}: histogram.G: counts {pixels + 1:,} pixels; "
        f"exact.count is {pixels:,}{NOT_EDITED}"
    ) == refusal(edited(text, ("histogram", "G", 0), counts[0] + 1))


def test_an_unknown_reason_is_named():
    text = edited(HAND_MADE, ("skipped",), "[{name: a.png, reason: too-lazy}]")

    assert (
        f"{place(text, ('skipped', 0, 'reason'))}: skipped[0].reason: unknown reason 'too-lazy'"
    ) == refusal(text)


# Constants


def constants(text: str) -> Stats:
    return parse_stats(("format: imgnorm-stats/1\n" + text).encode(), "f.yaml")


def test_three_lines_are_enough():
    assert Stats(("R", "G", "B"), (0.5, 0.25, 0.0), (0.1, 0.2, 1.0)) == constants(
        "mean: [0.5, 0.25, 0]\nstd: [0.1, 2e-1, 1]\n"
    )


@pytest.mark.parametrize(
    ("count", "names"),
    [(1, "L"), (2, ("c0", "c1")), (3, "RGB"), (4, "RGBA"), (5, ("c0", "c1", "c2", "c3", "c4"))],
)
def test_channels_without_names_get_the_usual_ones(count, names):
    assert tuple(names) == constants(f"mean: {[0.5] * count}\nstd: {[0.5] * count}\n").channels


def test_channels_may_be_named():
    """Near infrared has no letter."""
    stats = constants("channels: [NIR, red]\nmean: [0.5, 0.5]\nstd: [0.5, 0.5]\n")

    assert ("NIR", "red") == stats.channels


def test_constants_come_back_equal(tmp_path):
    stats = constants(
        "mean: [0.5]\nstd: [0.5]\nscale: 65535\n"
        "image: {mode: 'I;16', preprocess: [{Resize: {size: [3, 4]}}, {CenterCrop: {size: 2}}]}\n"
    )
    stats = replace(stats, channels=("depth",))

    write_stats(tmp_path / "s.yaml", stats)

    assert (Resize((3, 4)), CenterCrop(2)) == stats.preprocess
    assert stats == read_stats(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mean: [123.675, 0.5, 103.53]\nstd: [58.395, 0.1, 0.1]",
            (
                "f.yaml:2:7: mean: 123.675, 0.5, 103.53 is not in [0, 1]\n"
                "f.yaml:3:6: std: 58.395, 0.1, 0.1 is not in [0, 1]"
            ),
        ),
        (
            "mean: [123.675, 116.28, 103.53]\nstd: [58.395, 57.12, 57.375]",
            (
                "f.yaml:2:7: mean: 123.675, 116.28, 103.53 is not in [0, 1]\n"
                "    divide by 255: 0.4850, 0.4560, 0.4060\n"
                "f.yaml:3:6: std: 58.395, 57.12, 57.375 is not in [0, 1]\n"
                "    divide by 255: 0.2290, 0.2240, 0.2250"
            ),
        ),
        ("mean: [300]\nstd: [-0.1]", "f.yaml:2:8: mean[0]: 300.0 is not in [0, 1]\nf.yaml:3:7: std[0]: -0.1 is not in [0, 1]"),
        ("mean: [.nan]\nstd: [.inf]", "f.yaml:2:8: mean[0]: .nan is not in [0, 1]\nf.yaml:3:7: std[0]: .inf is not in [0, 1]"),
        ("mean: [0.5, 0.5]\nstd: [0.5]", "f.yaml:3:6: std: 1 values for 2 channels"),
        (
            "channels: [R, G, B]\nmean: [0.5]\nstd: [0.5]",
            "f.yaml:3:7: mean: 1 values for 3 channels\nf.yaml:4:6: std: 1 values for 3 channels",
        ),
        ("mean: []\nstd: [0.5]", "f.yaml:2:7: mean: expected at least 1 item; got 0"),
        ("mean: 0.5\nstd: ['0.5']", "f.yaml:2:7: mean: expected a list; got 0.5\nf.yaml:3:7: std[0]: expected a number; got '0.5' (text)"),
        ("mean: [0.5]", "f.yaml:1:1: std: missing key"),
        ("mean: [0.5]\nstd: [0.5]\nchanels: [L]", "f.yaml:4:1: chanels: unknown key\n    did you mean 'channels'?"),
        ("mean: [0.5]\nstd: [0.5]\nmean: [0.4]", "f.yaml:4:1: mean: given again (first on line 2)\n    keep one"),
        ("mean: [0.5]\nstd: [0.5]\nscale: 256", "f.yaml:4:8: scale: expected one of 255, 65535; got 256"),
        ("mean: [0.5]\nstd: [0.5]\nimage: {mode: rgb}", "f.yaml:4:15: image.mode: expected one of 'L', 'RGB', 'RGBA', 'I;16'; got 'rgb'\n    did you mean 'RGB'?"),
        ("mean: [0.5]\nstd: [0.5]\nimage: {mode: RGB}", "f.yaml:1:1: channels: mode RGB has ['R', 'G', 'B']"),
        ("mean: [0.5]\nstd: [0.5]\nimage: {mode: 'I;16'}", "f.yaml:1:1: scale: 255; in mode I;16 it is 65535"),
        ("mean: [0.5]\nstd: [0.5]\nimage: {mode: L, preprocess: [{Resize: {size: -3}}]}", "f.yaml:4:47: image.preprocess[0].Resize.size: expected edges of at least 1; got -3"),
        ("mean: [0.5]\nstd: [0.5]\nimage: {mode: L, preprocess: [{}]}", "f.yaml:4:31: image.preprocess[0]: expected one step: Resize or CenterCrop"),
        ("mean: [0.5]\nstd: [0.5]\nimage: {mode: L, preprocess: [{Rezise: {size: 3}}]}", "f.yaml:4:32: image.preprocess[0].Rezise: unknown key\n    did you mean 'Resize'?"),
    ],
)  # fmt: skip
def test_constants_that_nobody_can_mean_are_refused(text, message):
    with pytest.raises(InvalidDocument) as caught:
        constants(text)

    assert message == str(caught.value)


# Files that are none


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "f.yaml:1:1: the file is empty"),
        (b"# only a comment\n", "f.yaml:1:1: the file is empty"),
        (b"[]", "f.yaml:1:1: expected a mapping; got a list"),
        (b"mean: [0.5]\nstd: [0.5]\n", "f.yaml:1:1: format: missing key"),
        (
            b"format: imgnorm-stats/2\nmean: [0.5]\nstd: [0.5]\n",
            "f.yaml:1:9: format: expected 'imgnorm-stats/1'; got 'imgnorm-stats/2'; upgrade imgnorm, which is older than the file",
        ),
        (b"\x89PNG\r\n\x1a\n\0\0", "f.yaml:1:1: byte 0x89 is not UTF-8\n    save the file as UTF-8"),
        (b"mean: [0.5\n", "f.yaml:2:1: not valid YAML: did not find expected ',' or ']' while parsing a flow sequence that starts on line 1"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_stats_is_refused(data, message):
    assert message == refusal(data)


def test_a_path_that_is_no_file_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("folder")
    os.mkfifo("fifo")
    reported = []
    for path in ("missing.yaml", "folder", "fifo"):
        with pytest.raises(SourceError) as caught:
            read_stats(path)
        reported.append(str(caught.value))

    assert [
        "missing.yaml: no such file; check the path",
        "folder: a folder; name a YAML file in it",
        "fifo: not a regular file; save it as one and name that",
    ] == reported


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, len(HAND_MADE) - 1),
    st.sampled_from(list("09-.e[]{},:\n\"'#x é")),
)
def test_one_wrong_character_never_ends_in_a_traceback(index, character):
    """And the numbers that are read are the numbers that were written."""
    text = f"{HAND_MADE[:index]}{character}{HAND_MADE[index + 1 :]}"
    try:
        stats = parse_stats(text.encode(), "f.yaml")
    except InvalidDocument:
        return

    assert ((0.5,), (0.5,)) == (stats.mean, stats.std)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (
            {"keep_names": True},
            "leave the names out: stats without --keep-names, merge with --drop-names",
        ),
        ({}, "fix or remove the skipped images, which it lists, or leave --per-class out"),
    ],
)
def test_a_file_that_nobody_could_read_is_not_written(tmp_path, monkeypatch, options, advice):
    stats = imgnorm.measure(SHAPES, limit=3, **options)
    monkeypatch.setattr(statsfile, "STATS_LIMITS", replace(statsfile.STATS_LIMITS, max_bytes=99))
    path, size = tmp_path / "s.yaml", len(text_of(stats).encode())
    with pytest.raises(OutputError) as caught:
        write_stats(path, stats)

    assert f"{path}: would take {size:,} bytes, but a stats file has at most 99; {advice}" == str(
        caught.value
    )
    assert not path.exists()


def test_a_file_of_too_many_values_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(statsfile, "STATS_LIMITS", replace(statsfile.STATS_LIMITS, max_nodes=900))
    stats = imgnorm.measure(SHAPES, limit=3, shard=(1, 1))
    path = tmp_path / "s.yaml"
    with pytest.raises(
        OutputError, match=f"^{path}: would take 1,2.. values, .* has at most 900; fix"
    ):
        write_stats(path, stats)

    assert not path.exists()
