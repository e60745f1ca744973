"""Merging: exactly the stats of measuring all at once, in any order, or a refusal with every reason."""

from __future__ import annotations

import io
import os
import random
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import imgnorm
from imgnorm.cli import run
from imgnorm.errors import (
    ImgnormError,
    IncompatibleStats,
    InvalidDocument,
    SourceError,
    TransformError,
)
from imgnorm.settings import CHANNELS, CenterCrop, Mode, Resize, scale_of
from imgnorm.sources.names import runs_of
from imgnorm.stats.file import merge_files, read_stats, write_stats
from imgnorm.stats.format import document_of, stats_schema, text_of
from imgnorm.stats.measurement import ClassStats, Measurement
from imgnorm.stats.provenance import Provenance, Shards
from imgnorm.stats.stats import NO_IMAGES, Stats, merge
from imgnorm.stats.table import table
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import UNIT_BITS, ImageSums, Moments
from imgnorm.tally.names import lines_of, names_digest, names_in
from imgnorm.tally.skipped import Reason, Skipped

ROOT = Path(__file__).parents[2]
SHAPES = str(ROOT / "examples" / "shapes")
SQUARE_ROOT_ULP = Fraction(1, 2**52)  # relative: std is promised within 1 ulp

Counts = dict[int, int]  # pixel value -> pixels, in every channel


def state(
    name: str = "a",
    counts: Counts | None = None,
    *,
    mode: Mode = "RGB",
    images: int = 1,
    listing: Sequence[str] | None = None,
    shard: tuple[int, int] | None = None,
    units: str = "units",
    names: Sequence[str] | None = None,
    **changes: object,
) -> Stats:
    """Made-up stats of one source `name`, by default with one image.

    A shard is one of those of the source with these units. Its listing is that of its own units.
    """
    channels, bins = len(CHANNELS[mode]), scale_of(mode) + 1
    row = [0] * bins
    for value, pixels in (counts or {0: 1, 255: 1}).items():
        row[value] = pixels
    unit = 1 << (UNIT_BITS - 2)
    sums = ((images * unit,) * channels, (images * (unit // 3),) * channels)
    counted = [f"{name}-{i}" for i in range(images)] if names is None else names
    listed = counted if listing is None else listing
    source = Provenance(
        "folder",
        name,
        names_digest(n.encode() for n in counted),
        names_digest(n.encode() for n in listed),
        images,
        shards=Shards(shard[1], (shard[0],)) if shard else None,
        units_sha256=names_digest([units.encode()]) if shard else "",
    )
    measurement = Measurement(
        images,
        Histogram((tuple(row),) * channels),
        ImageSums(images, *sums, *sums, 0),
        {mode: images},
        {"PNG": images},
        {"PNG": "Pillow 12.0.0"},
        source,
    )
    of_measurement = {k: v for k, v in changes.items() if k in Measurement.__dataclass_fields__}
    of_stats = {k: v for k, v in changes.items() if k not in of_measurement}
    stats = Stats.of(replace(measurement, **of_measurement), mode, ())  # type: ignore[arg-type]
    return replace(stats, **of_stats)  # type: ignore[arg-type]


def empty(
    shard: tuple[int, int],
    *,
    skipped: Sequence[str] = (),
    mode: Mode | None = None,
    name: str = "d",
    units: str = "units",
    strict_channels: bool = False,
) -> Stats:
    """A shard without images; all that it has are skipped."""
    source = Provenance(
        "folder",
        name,
        names_digest([]),
        names_digest(n.encode() for n in skipped),
        0,
        shards=Shards(shard[1], (shard[0],)),
        units_sha256=names_digest([units.encode()]),
    )
    lost = tuple(Skipped(n, Reason.CORRUPT) for n in skipped)
    measurement = Measurement.without_images(source, skipped=lost, ignored={"hidden": 1})
    return Stats.of(measurement, mode, (), auto=mode is None, strict_channels=strict_channels)


def shards(count: int, name: str = "d") -> list[Stats]:
    return [
        state(name, {i % 256: i + 1, 255: 3}, shard=(i + 1, count), names=[f"{i}.png"])
        for i in range(count)
    ]


def measured(source: str, **options: object) -> Stats:
    return imgnorm.measure(source, workers=1, **options)  # type: ignore[arg-type]


# Equal to measuring all at once


@pytest.fixture
def archives(tmp_path: Path) -> str:
    """The example's images in five archives, each a unit, as a pattern."""
    folder = tmp_path / "archives"
    folder.mkdir()
    images = sorted(path for path in Path(SHAPES).rglob("*.*") if path.is_file())
    for number in range(5):
        with zipfile.ZipFile(folder / f"{number}.zip", "w") as archive:
            for path in images[number::5]:
                archive.write(path, path.relative_to(SHAPES))
    return f"{folder}/*.zip"


@pytest.mark.parametrize("of", [2, 5, 7])
@pytest.mark.parametrize("options", [{}, {"per_class": True, "limit": 11, "resize": 16}])
def test_all_shards_give_the_file_of_an_unsharded_run_byte_for_byte(
    archives, tmp_path, of, options
):
    whole = text_of(measured(archives, **options))
    paths = [str(tmp_path / f"{i}.yaml") for i in range(of)]
    for i, path in enumerate(paths):
        write_stats(path, measured(archives, shard=(i + 1, of), **options))

    assert whole == text_of(merge_files(paths))
    assert whole == text_of(merge_files(paths[::-1]))
    added = read_stats(paths[0])
    for path in paths[1:]:
        added = added + read_stats(path)
    assert whole == text_of(added)


@pytest.fixture
def messy(tmp_path: Path) -> str:
    """Broken images, ignored files, and gray images at every second name; one unit."""
    folder = tmp_path / "messy"
    (folder / "b").mkdir(parents=True)
    for i in range(6):
        mode, color = ("L", 40 * i) if i % 2 else ("RGB", (40 * i, 7, 250))
        Image.new(mode, (3, 2), color).save(folder / "b" / f"{i}.png")  # type: ignore[arg-type]
    (folder / "0-broken.jpg").write_bytes(b"no image")
    (folder / "z-broken.jpg").write_bytes(b"")
    (folder / "b" / "notes.txt").touch()
    (folder / ".hidden").touch()
    (folder / "gone.png").symlink_to("nowhere")
    return str(folder)


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_what_a_listing_passes_over_is_told_once_by_all_shards_together(messy):
    whole = measured(messy)
    parts = [measured(messy, shard=(i, 3)) for i in (1, 2, 3)]

    assert text_of(whole) == text_of(merge(parts))
    assert 11 == sum(part.measurement.found for part in parts if part.measurement)
    assert whole.measurement is not None
    assert {"hidden": 1, "suffix": 1} == whole.measurement.ignored
    assert ["0-broken.jpg", "gone.png", "z-broken.jpg"] == [s.name for s in whole.skipped]


def test_gray_shards_become_rgb_among_others_when_the_mode_was_auto(tmp_path):
    for i in range(6):
        mode, color = ("L", 40 * i) if i % 2 else ("RGB", (40 * i, 7, 250))
        Image.new(mode, (3, 2 + i), color).save(tmp_path / f"{i}.png")  # type: ignore[arg-type]
        with zipfile.ZipFile(tmp_path / f"{i}.zip", "w") as archive:
            archive.write(tmp_path / f"{i}.png", f"{i}.png")
    pattern = f"{tmp_path}/*.zip"
    parts = [measured(pattern, shard=(i, 2)) for i in (1, 2)]

    assert ["RGB", "L"] == [part.mode for part in parts]
    assert text_of(measured(pattern)) == text_of(merge(parts))


def test_gray_classes_become_rgb_among_others_too():
    gray = ClassStats(1, Moments(2, (255,), (65025,)))
    colored = ClassStats(1, Moments(2, (1, 2, 3), (1, 4, 9)))
    a = state("a", mode="L", auto=True, classes={"x": gray, "y": gray})
    b = state("b", auto=True, classes={"x": colored})
    merged = (a + b).measurement

    assert merged is not None
    assert {
        "x": ClassStats(2, Moments(4, (256, 257, 258), (65026, 65029, 65034))),
        "y": ClassStats(1, Moments(2, (255,) * 3, (65025,) * 3)),
    } == merged.classes


def test_gray_found_by_auto_joins_images_that_were_asked_for_as_rgb():
    merged = state("a", mode="L", auto=True) + state("b", mode="RGB")

    assert ("RGB", False) == (merged.mode, merged.auto)


@pytest.mark.parametrize("auto", [False, True])
def test_auto_is_kept_only_if_all_were_auto(auto):
    assert auto == (state("a", auto=True) + state("b", auto=auto)).auto


def test_lists_that_share_a_folder_merge_to_the_digits_and_names_of_one_list(tmp_path):
    for i in range(4):
        Image.new("RGB", (2, 2), (i, 2 * i, 3 * i)).save(tmp_path / f"{i}.png")
    lists = {
        "low": "0.png\n1.png\n",
        "high": "2.png\n3.png\n",
        "all": "3.png\n2.png\n1.png\n0.png\n",
    }
    for name, lines in lists.items():
        (tmp_path / name).write_text(lines)
    low, high, whole = (measured(str(tmp_path / name), listed=True) for name in lists)
    merged = (low + high).measurement

    assert merged is not None
    assert whole.measurement is not None
    assert whole.measurement.source.names_sha256 == merged.source.names_sha256
    assert replace(whole.measurement, source=merged.source) == merged


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_a_name_that_is_listed_twice_is_counted_and_digested_once(tmp_path):
    """It was left out of the digest, since its second mention is listed as skipped."""
    for name in "ab":
        Image.new("L", (1, 1)).save(tmp_path / f"{name}.png")
    (tmp_path / "list").write_text("a.png\nb.png\na.png\n")
    stats = measured(str(tmp_path / "list"), listed=True)
    parts = [measured(str(tmp_path / "list"), listed=True, shard=(i, 2)) for i in (1, 2)]

    assert stats.measurement is not None
    assert names_digest([b"a.png", b"b.png"]) == stats.measurement.source.names_sha256
    assert text_of(stats) == text_of(merge(parts))


@settings(max_examples=200, deadline=None)
@given(data=st.data(), count=st.integers(2, 12))
def test_every_partition_merges_to_the_whole(data, count):
    """Shards are merged in random groups, those in random groups again, in random order.

    Some of them have no images: no unit, or only images that were skipped.
    """
    lost = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    unread = data.draw(st.sets(st.sampled_from(sorted(lost)))) if lost else set()
    names = [f"{i}.png" for i in range(count)]
    groups = [
        empty((i + 1, count), skipped=names[i : i + 1] if i in unread else (), mode="RGB")
        if i in lost
        else one
        for i, one in enumerate(shards(count))
    ]
    row = [0] * 256
    for i in set(range(count)) - lost:
        row[i % 256] += i + 1
        row[255] += 3
    whole = state(
        "d",
        dict(enumerate(row)),
        images=count - len(lost),
        names=[name for i, name in enumerate(names) if i not in lost],
        listing=[name for i, name in enumerate(names) if i not in lost - unread],
        skipped=tuple(Skipped(names[i], Reason.CORRUPT) for i in sorted(unread, key=str)),
        ignored={"hidden": len(lost)} if lost else {},
    )
    groups = data.draw(st.permutations(groups))
    while len(groups) > 1:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(groups) - 1), min_size=0, max_size=4)))
        edges = [0, *cuts, len(groups)]
        parts = [groups[a:b] for a, b in pairwise(edges)]
        groups = [merge(part, allow_missing=True) for part in parts]
        if len(parts) == 1:
            break
        groups = data.draw(st.permutations(groups))

    assert text_of(whole) == text_of(groups[0])


def test_the_order_of_different_sources_changes_no_byte():
    parts = [
        state(str(i), {i: i + 1}, skipped=(Skipped(f"x{i}", Reason.CORRUPT),)) for i in range(9)
    ]
    expected = text_of(merge(parts))
    for seed in range(20):
        shuffled = random.Random(seed).sample(parts, len(parts))

        assert expected == text_of(merge(shuffled))
        halves = merge(shuffled[:4]) + merge(shuffled[4:])
        assert expected == text_of(halves)


def test_a_part_without_cross_sums_leaves_the_whole_without_them():
    """Files of imgnorm 0.1 have none; a sum of some images would be wrong of all."""
    circles, squares = (imgnorm.measure(ROOT / "examples/shapes" / c) for c in ("circle", "square"))
    assert circles.measurement
    old = replace(circles, measurement=replace(circles.measurement, cross_sums=None))
    both, without = merge([circles, squares]), merge([old, squares])
    assert both.measurement
    assert without.measurement

    assert both.measurement.cross_sums
    assert replace(both.measurement, cross_sums=None) == without.measurement


def test_merging_one_file_gives_that_file(tmp_path):
    path = tmp_path / "a.yaml"
    write_stats(path, measured(SHAPES))

    assert path.read_text(encoding="utf-8") == text_of(merge_files([path]))


def test_a_merged_file_tells_its_sources_and_is_read_back(tmp_path):
    path = tmp_path / "all.yaml"
    merged = state("b") + state("a", images=2)
    write_stats(path, merged)

    assert merged == read_stats(path)
    assert merged.measurement is not None
    assert ("merged", ("a", "b"), 3) == (
        merged.measurement.source.kind,
        merged.measurement.source.ref,
        merged.measurement.source.images,
    )


def test_shards_that_different_machines_called_differently_still_make_a_whole():
    here, there = shards(2)
    elsewhere = replace(there.measurement.source, ref="/mnt/d")  # type: ignore[union-attr]
    moved = replace(there, measurement=replace(there.measurement, source=elsewhere))  # type: ignore[type-var]
    merged = merge([moved, here]).measurement

    assert merged is not None
    assert ("folder", ("/mnt/d", "d"), None) == (
        merged.source.kind,
        merged.source.ref,
        merged.source.shards,
    )


# Counts beyond what machines count in


def test_counts_beyond_64_bits_are_written_and_read_back(tmp_path):
    path = tmp_path / "stats.yaml"
    stats = state("a", {3: 2**64, 200: 2**70 + 1})
    write_stats(path, stats)

    assert stats == read_stats(path)


def test_white_16_bit_images_of_2_200_000_000_pixels_do_not_wrap():
    """65535² · 2.2e9 is beyond int64."""
    pixels = 2_200_000_000
    merged = merge(state(str(i), {65535: pixels}, mode="I;16") for i in range(20))

    assert merged.measurement is not None
    assert (
        Moments(20 * pixels, (20 * pixels * 65535,), (20 * pixels * 65535**2,))
        == merged.measurement.histogram.moments()
    )
    assert ((1.0,), (0.0,)) == (merged.mean, merged.std)


# The digest of names


def test_the_digest_of_names_is_the_sum_of_their_sha_256():
    names = [b"a", b"b/c.png", "ü".encode()]
    wanted = sum(int(sha256(name).hexdigest(), 16) for name in names) % 2**256

    assert f"{wanted:064x}" == names_digest(names) == names_digest(reversed(names))
    assert "0" * 64 == names_digest([])


# Refusals


def refusal(*parts: Stats, **allowed: bool) -> str:
    with pytest.raises(IncompatibleStats) as caught:
        merge(
            parts,
            labels=[f"{letter}.yaml" for letter, _ in zip("abcdef", parts, strict=False)],
            **allowed,
        )
    return str(caught.value)


def test_16_bit_images_are_not_merged_into_8_bit_ones():
    assert (
        "b.yaml: 16-bit grayscale (mode I;16), but a.yaml is 8-bit (RGB); the scales of their values "
        "differ, so keep them apart"
    ) == refusal(state("a", auto=True), state("b", {0: 1}, mode="I;16", auto=True))


def test_different_modes_are_refused():
    assert (
        "a.yaml: measured in mode L (--mode L), but b.yaml in RGB (auto); measure both with the same "
        "--mode\n"
        "c.yaml: measured in mode RGBA (--mode RGBA), but b.yaml in RGB (auto); measure both with the "
        "same --mode"
    ) == refusal(
        state("a", mode="L"),
        state("b", auto=True),
        state("c", mode="RGBA"),
        state("d", mode="L", auto=True),
    )


def test_different_steps_are_refused():
    assert (
        "b.yaml: measured after Resize(size=8), CenterCrop(size=4), but a.yaml at native sizes; "
        "measure both with the same --resize and --center-crop"
    ) == refusal(state("a"), state("b", preprocess=(Resize(8), CenterCrop(4))))


def test_decoders_of_lossy_formats_must_be_the_same():
    a, b = (
        state(n, formats={"JPEG": 1}, decoders={"JPEG": f"Pillow 1{i}.0, libjpeg-turbo 3.{i}"})
        for i, n in enumerate("ab")
    )
    assert (
        "b.yaml: JPEG by libjpeg-turbo 3.1, but a.yaml by libjpeg-turbo 3.0, whose digits may differ; "
        "measure both with the same versions, or merge them anyway with --allow-decoders"
    ) == refusal(a, b)


def test_decoders_of_lossless_formats_need_not_be_the_same():
    merged = state("a") + state("b", decoders={"PNG": "Pillow 11.3.0"})
    again = merged + state("c", decoders={"PNG": "Pillow 13.0.0", "BMP": "Pillow 13.0.0"})

    assert again.measurement is not None
    assert {
        "BMP": "Pillow 13.0.0",
        "PNG": "Pillow 11.3.0; Pillow 12.0.0; Pillow 13.0.0",
    } == again.measurement.decoders


def test_what_resized_must_be_the_same():
    a, b = (
        state(n, preprocess=(Resize(8),), decoders={"PNG": f"Pillow 1{i}.0"})
        for i, n in enumerate("ab")
    )
    assert (
        "b.yaml: Resize by Pillow 11.0, but a.yaml by Pillow 10.0, whose digits may differ; measure "
        "both with the same versions, or merge them anyway with --allow-decoders"
    ) == refusal(a, b)


def test_classes_with_and_without_moments_are_refused():
    with_moments = {"x": ClassStats(1, Moments(1, (0,) * 3, (0,) * 3))}
    message = (
        "a.yaml: has mean and std of each class, but b.yaml does not; measure both with --per-class, or "
        "neither"
    )

    a, b = state("a", classes=with_moments), state("b", classes={"x": ClassStats(1)})
    assert message == refusal(a, b)
    assert message.replace("a.yaml", "B").replace("b.yaml", "a.yaml").replace(
        "B", "b.yaml"
    ) == refusal(b, a)


def test_strict_and_converted_channels_are_refused():
    message = (
        "a.yaml: skips images of other channels, but b.yaml converts them; measure both with "
        "--strict-channels, or neither"
    )

    assert message == refusal(state("a", strict_channels=True), state("b"))
    assert (state("a", strict_channels=True) + state("b", strict_channels=True)).strict_channels


def test_constants_are_refused():
    constants = Stats(("L",), (0.5,), (0.5,))

    message = "b.yaml: holds constants, written by hand; only measurements merge, so leave it out"
    assert message == refusal(state("a"), constants)
    assert message.replace("b.yaml", "a.yaml") == refusal(constants)


def test_missing_shards_are_refused_and_noted_when_allowed():
    parts = shards(9)
    several = [parts[i] for i in (0, 2, 3, 4, 7)]

    assert (
        "a.yaml: shards 2, 6-7, 9 of 9 of 'd' are missing; add the files, or continue with "
        "--allow-missing"
    ) == refusal(*several)
    assert (
        "a.yaml: shard 1 of 9 of 'd' is missing; add the file, or continue with --allow-missing"
    ) == refusal(merge(parts[1:], allow_missing=True))
    merged = merge(several, allow_missing=True).measurement
    assert merged is not None
    assert Shards(9, (1, 3, 4, 5, 8)) == merged.source.shards


def test_a_shard_twice_is_refused_and_noted_when_allowed():
    first, second = shards(2)
    message = (
        "c.yaml: counts images that a.yaml also counts (shard 1 of 2 of 'd'); leave one out, or "
        "count them twice with --allow-overlap"
    )

    assert message == refusal(first, second, first)
    with pytest.raises(IncompatibleStats):
        first + first
    with pytest.raises(
        IncompatibleStats,
        match=r"^a\.yaml: is given twice, and counts shard 1 of 2 of 'd'; leave one out, ",
    ):
        merge([first, second, first], labels=["a.yaml", "b.yaml", "a.yaml"])
    merged = merge([first, second, first], allow_overlap=True).measurement
    assert merged is not None
    assert (Shards(2, (1, 1, 2)), 3) == (merged.source.shards, merged.images)


def test_what_is_no_stats_is_refused():
    with pytest.raises(
        TypeError, match=r"^expected Stats, not 'a\.yaml'; read files with imgnorm\.read_stats$"
    ):
        merge(["a.yaml"])  # type: ignore[list-item]


def test_a_shard_of_what_is_counted_whole_is_refused():
    first, second = shards(2)
    message = (
        "b.yaml: counts images that a.yaml also counts (shard 1 of 2 of 'd' and all 2 images of "
        "'d'); leave one out, or count them twice with --allow-overlap"
    )

    assert message == refusal(first + second, first, allow_missing=True)
    assert message.replace("shard 1 of 2 of 'd' and all 2 images of 'd'", "X").replace(
        "X", "all 2 images of 'd' and shard 1 of 2 of 'd'"
    ) == refusal(first, first + second, allow_missing=True)


def test_all_shards_of_what_is_counted_whole_are_refused_whatever_it_is_called():
    """The digest of all names follows from all shards. From some, only the source's name is left."""
    first, second, third = shards(3)
    whole = first + second + third
    moved = replace(whole.measurement.source, ref="/mnt/d")  # type: ignore[union-attr]
    whole = replace(whole, measurement=replace(whole.measurement, source=moved))  # type: ignore[type-var]

    assert (
        "b.yaml: counts images that a.yaml also counts (shard 1 of 3 of 'd' and all 3 images of "
        "'/mnt/d'); leave one out, or count them twice with --allow-overlap"
    ) == refusal(whole, first, second, third).splitlines()[0]
    assert 5 == merge([whole, first, second], allow_missing=True).images


def test_a_limit_makes_no_other_source():
    first, _ = shards(2)
    limited = state("d", images=3)
    source = replace(limited.measurement.source, options={"limit": 3})  # type: ignore[union-attr]
    limited = replace(limited, measurement=replace(limited.measurement, source=source))  # type: ignore[type-var]

    assert "b.yaml: counts images that a.yaml also counts (shard 1 of 2 of 'd' and" in refusal(
        limited, first, allow_missing=True
    )


def test_all_shards_of_other_images_with_the_same_name_are_added():
    """Two users call their folder `train`: all shards of one show that it is not the other."""
    assert 3 == merge([state("d", names=["other.png"]), *shards(2)]).images


def test_shards_of_other_numbers_are_refused():
    a = state("d", names=["x"], shard=(1, 3))
    b = state("d", names=["y"], shard=(2, 2))

    assert (
        "b.yaml: counts images that a.yaml also counts (shard 2 of 2 of 'd' and shard 1 of 3 of "
        "'d'); leave one out, or count them twice with --allow-overlap"
    ) == refusal(a, b, allow_missing=True)


def test_shards_from_before_and_after_a_change_are_refused():
    a = state("d", units="x y", names=["x"], shard=(1, 2))
    b = state("d", units="w x y", names=["x", "y"], shard=(2, 2), images=2)

    assert (
        "b.yaml: counts shard 2 of 2 of 'd', but a.yaml was measured from a listing with other names or sizes, so "
        "the source has changed; measure all shards again, or count what they share twice with "
        "--allow-overlap"
    ) == refusal(a, b, allow_missing=True)


def test_the_same_names_twice_are_refused_even_inside_a_merged_file():
    a, b = state("a"), state("b")
    copy = state("copy", names=["a-0"])

    assert (
        "b.yaml: counts images that a.yaml also counts (all 1 image of 'copy' and all 1 image of "
        "'a'); leave one out, or count them twice with --allow-overlap"
    ) == refusal(a + b, copy)
    assert 3 == merge([a + b, copy], allow_overlap=True).images


def test_the_same_names_are_found_though_one_run_skipped_some():
    listing = ["x", "y"]
    a = state("d", listing=listing, names=["x"])
    b = state("d", listing=listing, names=listing, images=2)

    assert (
        "b.yaml: counts images that a.yaml also counts (all 2 images of 'd' and all 1 image of 'd'); "
        "leave one out, or count them twice with --allow-overlap"
    ) == refusal(a, b)


# Images that two different listings share, where the names were kept


def with_names(name: str, names: Sequence[str], kind: str = "folder", ref: str = "") -> Stats:
    stats = state(name, images=len(names), names=names)
    source = replace(
        stats.measurement.source,  # type: ignore[union-attr]
        kind=kind,
        ref=ref or name,
        names=lines_of(n.encode() for n in names),
    )
    return replace(stats, measurement=replace(stats.measurement, source=source))  # type: ignore[type-var]


def test_names_that_two_files_share_are_counted_and_named():
    a = with_names("a", [f"{i}.png" for i in range(5)])
    b = with_names("b", [f"{i}.png" for i in range(4, 8)])
    c = with_names("c", [f"{i}.png" for i in range(9)])

    assert (
        "b.yaml: counts 1 image that a.yaml also counts: '4.png'; leave one out, or count them twice "
        "with --allow-overlap\n"
        "c.yaml: counts 5 images that a.yaml also counts: '0.png', '1.png', '2.png' and 2 more; leave one "
        "out, or count them twice with --allow-overlap\n"
        "c.yaml: counts 4 images that b.yaml also counts: '4.png', '5.png', '6.png' and 1 more; leave one "
        "out, or count them twice with --allow-overlap"
    ) == refusal(a, b, c)
    assert 18 == merge([a, b, c], allow_overlap=True).images


def test_names_inside_merged_files_are_seen():
    a, b, c = (with_names(n, names) for n, names in (("a", "xy"), ("b", "vw"), ("c", "uw")))

    assert (
        "b.yaml: counts 1 image that a.yaml also counts: 'w'; leave one out, or count them twice with "
        "--allow-overlap"
    ) == refusal(a + b, c)


def test_names_are_seen_only_where_both_files_kept_them():
    a, b = with_names("a", ["x", "y"]), state("b", names=["y", "z"], images=2)

    assert 4 == (a + b).images
    assert [None, None] == [part.names for part in (a + b).measurement.source.parts]  # type: ignore[union-attr]


def test_a_folder_inside_another_one_is_seen_by_its_paths():
    """Names are relative to the folder: one image can have two names, and two images the same name."""
    outer = with_names("outer", ["val/1.png", "train/1.png", "1.png"], ref="data")
    inner = with_names("inner", ["1.png", "2.png"], ref="data/train/")
    listed = with_names("listed", ["2.png", "3.png"], "list", "data/train/names.txt")
    beside = with_names("beside", ["1.png"], ref="data/training")

    assert (
        "b.yaml: counts 1 image that a.yaml also counts: '1.png'; leave one out, or count them twice "
        "with --allow-overlap"
    ) == refusal(outer, inner)
    assert (
        "b.yaml: counts 1 image that a.yaml also counts: '2.png'; leave one out, or count them twice "
        "with --allow-overlap"
    ) == refusal(inner, listed)
    assert 5 == merge([outer, listed]).images
    assert 2 == refusal(outer, inner, beside).count("counts 1 image that")


def test_numbers_for_names_mean_an_image_of_their_own_dataset_only():
    a = with_names("a", ["1", "2"], "dataset", "CIFAR10[9]")
    b = with_names("b", ["2", "3"], "dataset", "SVHN[9]")

    assert 4 == merge([a, b]).images
    assert "b.yaml: counts 1 image that a.yaml also counts: '2'" in refusal(
        a, with_names("b", ["2", "3"], "dataset", "CIFAR10[9]")
    )


HOSTILE_NAMES = [
    b"plain.png", b"new\nline", b"back\\slash \\x41", b" space at both ends ", b"\xff\xfe.png", "é🙂".encode(),
    "\u2028\x85\ufeff".encode(), b"- [1, 2]: {a}", b"#", b"---", b"'\"", b"  ", b"\t",
]  # fmt: skip


def test_any_names_are_kept_written_and_read_back(tmp_path):
    stats = state("d", images=len(HOSTILE_NAMES))
    source = replace(
        stats.measurement.source,  # type: ignore[union-attr]
        names=lines_of(HOSTILE_NAMES),
        names_sha256=names_digest(HOSTILE_NAMES),
    )
    stats = replace(stats, measurement=replace(stats.measurement, source=source))  # type: ignore[type-var]
    both = stats + with_names("e", ["x", "y"])
    for one in (stats, both):
        write_stats(tmp_path / "stats.yaml", one)
        back = read_stats(tmp_path / "stats.yaml")

        assert text_of(one) == text_of(back)
        assert one.measurement.source == back.measurement.source  # type: ignore[union-attr]
    assert sorted(HOSTILE_NAMES) == sorted(names_in(source.names or ""))


@given(st.lists(st.binary(min_size=1, max_size=9).filter(lambda b: b"\0" not in b), min_size=1))
def test_lines_are_names_again(names):
    lines = lines_of(names)

    assert sorted(names) == sorted(names_in(lines))
    assert len(names) == len(lines.split("\n"))


def test_names_that_are_not_those_of_the_digest_are_refused(tmp_path):
    path = tmp_path / "stats.yaml"
    path.write_text(text_of(with_names("a", ["x", "y"])).replace("\n  y\n", "\n  z\n"))
    with pytest.raises(InvalidDocument) as caught:
        read_stats(path)

    digest = with_names("a", ["x", "y"]).measurement.source.names_sha256  # type: ignore[union-attr]
    assert f"names[0]: not those of the source, whose digest is {digest[:8]}..." in str(
        caught.value
    )
    path.write_text(text_of(with_names("a", ["x", "y"])).replace("- |-", "- a\n- |-"))
    with pytest.raises(InvalidDocument, match="names: names of 2 sources; the file has 1"):
        read_stats(path)


def test_names_are_kept_on_request_and_shards_merge_to_the_same_bytes(tmp_path, capsys):
    paths = [str(tmp_path / f"{i}.yaml") for i in range(3)]
    assert 0 == run(["stats", SHAPES, "--keep-names", "-q", "-o", paths[0]])
    for i in (1, 2):
        assert 0 == run(
            ["stats", SHAPES, "--keep-names", "-q", "--shard", f"{i}/2", "-o", paths[i]]
        )
    merged = merge_files(paths[1:])
    names = sorted(str(p.relative_to(SHAPES)) for p in Path(SHAPES).rglob("*.*"))

    assert Path(paths[0]).read_text() == text_of(merged)
    assert names == merged.measurement.source.names.split("\n")  # type: ignore[union-attr]
    assert 0 == run(["stats", SHAPES, "-q", "-o", str(tmp_path / "nameless.yaml")])
    for parts, of in ((paths[1:], "shards"), (paths[:1], "one")):
        output = str(tmp_path / f"{of}.yaml")
        assert 0 == run(["merge", *parts, "--drop-names", "-q", "-o", output])
        assert Path(output).read_text() == (tmp_path / "nameless.yaml").read_text()
    whole = imgnorm.measure(ROOT / "examples", keep_names=True, limit=5)
    assert 29 == merge([merged, whole], allow_overlap=True).images
    with pytest.raises(IncompatibleStats, match="counts 5 images that folder"):
        merged + whole


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (
            [1],
            {},
            "keep_names needs names, and these images come one after the other without any",
        ),
        (
            SHAPES,
            {"tolerance": 0.1},
            "keep_names is for merging, and an estimate does not merge; leave it out, or tolerance",
        ),
    ],
)
def test_names_that_cannot_be_kept_are_refused(source, options, message):
    with pytest.raises((SourceError, ValueError), match=message):
        imgnorm.measure(source, keep_names=True, **options)


def test_names_that_no_stats_file_can_hold_are_refused_before_the_scan(tmp_path, monkeypatch):
    monkeypatch.setattr("imgnorm.measuring.selection._MAX_NAMES_BYTES", 300)
    with pytest.raises(SourceError) as caught:
        imgnorm.measure(SHAPES, keep_names=True)

    size = sum(len(str(p.relative_to(SHAPES))) + 3 for p in Path(SHAPES).rglob("*.*"))
    assert (
        f"images take {size} bytes, and a stats file has room for 300; measure in shards and merge them with "
        "--drop-names, or leave --keep-names out" == str(caught.value).partition("24 ")[2]
    )


def test_names_are_counted_in_the_bytes_that_a_stats_file_takes(tmp_path, monkeypatch):
    """Six bytes of UTF-8 take six bytes, and a byte that is not a character takes four: \\xNN."""
    for name in (b"\xe6\x97\xa5\xe6\x9c\xac.png", b"\xff.png"):
        shutil.copy(Path(SHAPES, "circle", "png.png"), os.path.join(os.fsencode(tmp_path), name))
    monkeypatch.setattr("imgnorm.measuring.selection._MAX_NAMES_BYTES", 23)

    with pytest.raises(SourceError, match="the names of 2 images take 24 bytes"):
        imgnorm.measure(tmp_path, keep_names=True)


def test_datasets_whose_names_are_numbers_are_told_apart():
    a, b = state("MNIST"), state("FashionMNIST", names=["MNIST-0"])
    parts = []
    for stats, split in ((a, "train"), (b, "train"), (a, "test")):
        source = replace(stats.measurement.source, kind="torchvision", options={"split": split})  # type: ignore[union-attr]
        parts.append(replace(stats, measurement=replace(stats.measurement, source=source)))  # type: ignore[type-var]

    assert 3 == merge(parts).images
    with pytest.raises(IncompatibleStats):
        merge([*parts, parts[0]])


def test_everything_that_is_against_it_is_told_at_once():
    a, b, _ = shards(3)
    message = refusal(a, replace(b, preprocess=(CenterCrop(3),)), a, state("e", mode="L"))

    assert ["d.yaml", "b.yaml", "c.yaml", "a.yaml"] == [
        line.partition(":")[0] for line in message.splitlines()
    ]


def test_nothing_is_a_callers_bug():
    with pytest.raises(ValueError, match="there is nothing to merge"):
        merge([])


def test_stats_add_up_with_stats_only():
    with pytest.raises(TypeError, match="unsupported operand"):
        state() + 1  # type: ignore[operator]


# Shards without images


def test_a_shard_without_a_unit_is_a_part_without_images(tmp_path):
    path = tmp_path / "part.yaml"
    part = measured(SHAPES, shard=(2, 3), resize=8)
    write_stats(path, part)

    assert part == read_stats(path)
    assert (0, (), (), ()) == (part.images, part.channels, part.mean, part.std)
    assert (None, True, (Resize(8),)) == (part.mode, part.auto, part.preprocess)
    assert text_of(measured(SHAPES, resize=8)) == text_of(
        merge(part if i == 2 else measured(SHAPES, shard=(i, 3), resize=8) for i in (1, 2, 3))
    )


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_a_shard_whose_images_are_all_skipped_is_a_part_without_images(archives, tmp_path):
    """Measuring at once skips them too, and lists them."""
    broken = Path(archives).with_name("1.zip")
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("x.png", b"no image")
    (Path(archives).with_name("2.zip")).write_bytes(b"no archive")
    paths = [str(tmp_path / f"{i}.yaml") for i in range(5)]
    for i, path in enumerate(paths):
        write_stats(path, measured(archives, shard=(i + 1, 5), mode="L", keep_names=True))
    parts = [read_stats(path) for path in paths]

    assert [True, False, False, True, True] == [part.images > 0 for part in parts]
    assert [["1.zip/x.png"], ["2.zip"]] == [[s.name for s in part.skipped] for part in parts[1:3]]
    assert {"L"} == {part.mode for part in parts}
    assert text_of(measured(archives, mode="L", keep_names=True)) == text_of(merge_files(paths))


def test_a_part_without_images_is_a_file_without_numbers_of_pixels(tmp_path):
    path = tmp_path / "part.yaml"
    write_stats(path, empty((2, 3), skipped=["x.png"], mode="L"))

    assert (
        path.read_text()
        == f"""\
# Written by imgnorm. A part without images: merge it with the other parts of its source.
format: imgnorm-stats/1
image:
  mode: L
  preprocess: []
images: 0
source:
  kind: folder
  ref: d
  shards:
    of: 3
    counted: [2]
    units_sha256: {names_digest([b"units"])}
  listing_sha256: "{names_digest([b"x.png"])}"
  names_sha256: "{"0" * 64}"
skipped:
- {{name: x.png, reason: corrupt}}
ignored: {{hidden: 1}}
"""
    )


def test_the_schema_knows_parts_without_images():
    schema = jsonschema.Draft202012Validator(stats_schema())
    whole, part = (document_of(stats) for stats in (state(), empty((2, 3))))

    assert [] == [*schema.iter_errors(whole), *schema.iter_errors(part)]
    for broken in ({**part, "mean": [0.5]}, {**whole, "images": 0}):
        assert not schema.is_valid(broken)


def test_a_part_without_images_fits_parts_of_any_mode_and_decoder():
    first = state("d", shard=(1, 3), auto=True, decoders={"JPEG": "A"}, formats={"JPEG": 1})
    none = empty((2, 3), skipped=["y.png"])
    third = state("d", mode="L", shard=(3, 3), auto=True, names=["z"])
    merged = merge([none, third, first])

    assert ("RGB", True, 2) == (merged.mode, merged.auto, merged.images)
    assert ["y.png"] == [one.name for one in merged.skipped]
    assert merged.measurement is not None
    assert {"hidden": 1} == merged.measurement.ignored


def test_a_part_without_images_keeps_the_names_of_the_others():
    first, second = shards(2)
    source = replace(first.measurement.source, names="0.png")  # type: ignore[union-attr]
    first = replace(first, measurement=replace(first.measurement, source=source))  # type: ignore[type-var]
    merged = merge([first, empty((2, 2))])
    several = merge([first, empty((2, 2)), with_names("e", ["x", "y"])])

    assert merged.measurement is not None
    assert "0.png" == merged.measurement.source.names
    assert several.measurement is not None
    assert ["0.png", "x\ny"] == [one.names for one in several.measurement.source.sources]
    assert second.images == 1


def test_parts_without_images_and_with_other_sources_are_read_back(tmp_path):
    merged = merge(
        [empty((2, 3)), with_names("e", ["x", "y"]), empty((1, 2), name="f", units="f")],
        allow_missing=True,
    )
    none = merge([empty((2, 3)), empty((1, 2), name="f", units="f", mode="L")], allow_missing=True)
    for stats in (merged, none):
        write_stats(tmp_path / "part.yaml", stats)

        assert stats == read_stats(tmp_path / "part.yaml")
    assert (2, 0, "L", False) == (merged.images, none.images, none.mode, none.auto)


def test_parts_without_images_add_up_to_a_part_without_images_and_never_to_a_whole():
    parts = [empty((i, 3), skipped=[f"{i}.png"]) for i in (1, 2, 3)]
    two = parts[2] + parts[0]

    assert two.measurement is not None
    assert (0, Shards(3, (1, 3))) == (two.images, two.measurement.source.shards)
    assert ["1.png", "3.png"] == [one.name for one in two.skipped]
    assert (
        "d: no image could be counted in any of its shards; fix the files or the options, and measure "
        "them again"
    ) == refusal(*parts)
    assert "d: no image could be counted" in refusal(two, parts[1], state("e"))


def test_shards_without_images_are_missed_and_counted_twice_as_others_are():
    first, _ = shards(2)
    none = empty((2, 2))

    assert (
        "a.yaml: shard 2 of 2 of 'd' is missing; add the file, or continue with --allow-missing"
    ) == refusal(first)
    assert (
        "c.yaml: counts images that a.yaml also counts (shard 2 of 2 of 'd'); leave one out, or count "
        "them twice with --allow-overlap"
    ) == refusal(none, first, none)


def test_other_settings_are_refused_without_images_too():
    """Images of other channels may be why none was counted."""
    first, second = shards(2)
    none = empty((2, 2), mode="L", strict_channels=True)

    assert (
        "b.yaml: measured in mode L (--mode L), but a.yaml in RGB (--mode RGB); measure both with the "
        "same --mode\n"
        "b.yaml: skips images of other channels, but a.yaml converts them; measure both with "
        "--strict-channels, or neither"
    ) == refusal(first, none)
    assert (
        "b.yaml: measured after CenterCrop(size=3), but a.yaml at native sizes; measure both with the "
        "same --resize and --center-crop"
    ) == refusal(first, replace(empty((2, 2)), preprocess=(CenterCrop(3),)))
    assert (
        "c.yaml: measured in mode RGB (--mode RGB), but b.yaml in L (--mode L); measure both with the "
        "same --mode"
    ) == refusal(
        *(empty((i, 4), mode=mode) for i, mode in enumerate([None, "L", "RGB"], 1)),
        allow_missing=True,
    )
    assert second.images == 1


@pytest.mark.parametrize("mode", [None, "RGB"])
def test_a_part_without_images_fits_floats(mode):
    floats = imgnorm.measure([np.full((2, 2, 3), 0.3, "float32")], layout="HWC")
    source = replace(
        floats.measurement.source,  # type: ignore[union-attr]
        kind="folder",
        shards=Shards(2, (1,)),
        units_sha256=names_digest([b"units"]),
    )
    floats = replace(
        floats, auto=mode is None, measurement=replace(floats.measurement, source=source)
    )  # type: ignore[type-var]

    assert ("RGB;F", floats.mean) == ((floats + empty((2, 2), mode=mode)).mode, floats.mean)


def test_the_table_of_a_part_without_images_has_no_numbers():
    part = empty((3, 50), skipped=["x.png"])

    assert (
        "0 images: shard 3 of 50 of 'd'\n\n"
        "found    2 = 0 counted + 1 skipped (1 corrupt) + 1 ignored (1 hidden)\n"
        "skipped  x.png: corrupt"
    ) == table(part)
    assert "0 images: shards 2-3 of 50 of 'd'\n" in table(part + empty((2, 50)), verbose=True)


@pytest.mark.parametrize(
    "command",
    [
        ["emit", "part.yaml"],
        ["emit", "part.yaml", "--eps", "1e-3"],
        ["verify", "part.yaml"],
        ["explain", "0.2470", "--stats", "part.yaml"],
    ],
)
def test_commands_that_need_numbers_refuse_a_part_without_images(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_stats("part.yaml", empty((3, 50)))

    assert 2 == run(command)
    printed = capsys.readouterr()
    assert "" == printed.out
    assert (
        "part.yaml: a part without images has no mean and std; merge it with the other parts of its "
        "source\n"
    ) == printed.err


def test_a_config_that_normalizes_with_a_part_without_images_is_refused(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_stats("part.yaml", empty((3, 50)))
    Path("config.yaml").write_text(
        "format: imgnorm-pipeline/1\nsource: {kind: folder, path: d}\nimage: {mode: RGB}\n"
        "normalize: {stats: part.yaml}\n"
    )

    assert 0 == run(["validate", "part.yaml"])
    capsys.readouterr()
    assert 1 == run(["validate", "config.yaml"])
    assert (
        "config.yaml:4:20: error[unsound-stats]: normalize.stats: part.yaml: a part without images has no mean "
        "and std\n    merge it with the other parts of its source\n"
    ) in capsys.readouterr().out


def test_layers_and_transforms_refuse_a_part_without_images():
    part = empty((3, 50))
    of_torch = (imgnorm.nn.InputNorm.of, imgnorm.nn.to_batchnorm)
    for use in (imgnorm.to_transform, imgnorm.to_inverse, *of_torch):
        with pytest.raises(TransformError) as caught:
            use(part)

        assert NO_IMAGES == str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  mode: L\n", "", "image: expected mode, or auto"),
        ("  mode: L\n", "  mode: L\n  auto: true\n", "image: expected mode, or auto"),
        ("images: 0\n", "images: 0\nmean: [0.5]\n", "mean: unknown key"),
        (
            "  shards:\n    of: 3\n    counted: [2]\n",
            "",
            "source: no images, though it is not one of several shards",
        ),
        ("counted: [2]", "counted: [4]", "source.shards.counted[0]: shard 4 of 3 does not exist"),
        ("reason: corrupt", "reason: bad", "skipped[0].reason: unknown reason 'bad'"),
    ],
)
def test_files_that_no_part_without_images_can_have_are_refused(tmp_path, old, new, message):
    part = empty((2, 3), skipped=["x.png"], mode="L")
    source = replace(part.measurement.source, units_sha256="")  # type: ignore[union-attr]
    part = replace(part, measurement=replace(part.measurement, source=source))  # type: ignore[type-var]

    assert message in damaged(tmp_path, old, new, part)


# A change between the jobs of two shards


Change = Callable[[Path], object]


def after_a_change(source: str, folder: Path, change: Change) -> str | None:
    """Why two shards do not merge, if the source changes between them; None if they do.

    Both merge without the change.
    """
    first, second = (measured(source, shard=(i, 2)) for i in (1, 2))
    assert (first + second).images > max(first.images, second.images) > 0
    change(folder)
    second = measured(source, shard=(2, 2))
    try:
        return write_stats(folder.with_suffix(".yaml"), merge([first, second]))
    except IncompatibleStats as error:
        return str(error)


def the_source_has_changed(source: str) -> str:
    kind = "archive" if source.endswith(".zip") else "folder"
    return (
        f"{kind} {source!r}, shard 2 of 2: counts shard 2 of 2 of {source!r}, but {kind} {source!r}, shard 1 "
        "of 2 was measured from a listing with other names or sizes, so the source has changed; measure all shards "
        "again, or count what they share twice with --allow-overlap\n"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: shutil.copy(folder / "0.zip", folder / "5.zip"),
        lambda folder: (folder / "0.zip").unlink(),
        lambda folder: (folder / "0.zip").rename(folder / "9.zip"),
        lambda folder: zipfile.ZipFile(folder / "0.zip", "a").writestr("more.txt", b"1"),
    ],
    ids=["added", "removed", "renamed", "resized"],
)
def test_merge_notices_archives_that_were_changed_between_two_shards(archives, change):
    message = after_a_change(archives, Path(archives).parent, change)

    assert message is not None
    assert message.startswith(the_source_has_changed(archives))


@pytest.fixture
def runs(tmp_path: Path) -> list[list[str]]:
    """The runs of files that are the units of the folder `runs`."""
    names = [f"{i:03}.png" for i in range(0, 600, 2)]
    (tmp_path / "runs").mkdir()
    out = io.BytesIO()
    for i, name in enumerate(names):
        out.seek(0)
        Image.new("L", (1, 1), i % 256).save(out, "PNG")
        (tmp_path / "runs" / name).write_bytes(out.getvalue())
    found = list(runs_of(names))
    assert len(found) > 2
    return found


def moved(names: Sequence[str], old: int, new: str) -> Change:
    return lambda folder: (folder / names[old]).rename(folder / new)


@pytest.mark.parametrize(
    "what", ["added", "removed", "renamed", "first of a run", "to another run"]
)
def test_merge_notices_files_that_were_changed_between_two_shards(tmp_path, runs, what):
    first, second = runs[0], runs[1]
    changes: dict[str, Change] = {
        "added": lambda folder: shutil.copy(folder / first[5], folder / "005.png"),
        "removed": lambda folder: (folder / first[5]).unlink(),
        "renamed": moved(first, 5, first[5].replace(".png", "x.png")),
        "first of a run": moved(second, 0, second[0].replace(".png", "x.png")),
        "to another run": moved(first, 5, second[5].replace(".png", "x.png")),
    }
    source = str(tmp_path / "runs")
    message = after_a_change(source, tmp_path / "runs", changes[what])

    assert message is not None
    assert message.startswith(the_source_has_changed(source))


def test_shards_of_two_folders_that_only_begin_alike_do_not_merge(tmp_path):
    for folder, names in (("a", "0ab9"), ("b", "0xy9")):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.new("L", (1, 1), ord(name)).save(tmp_path / folder / f"{name}.png")
    parts = [measured(str(tmp_path / folder), shard=(i, 2)) for i, folder in ((1, "a"), (2, "b"))]

    with pytest.raises(IncompatibleStats, match=r"shard 2 of 2 of .* is missing"):
        merge(parts)


def test_merge_does_not_notice_other_pixels_but_verify_does(tmp_path, runs, capsys):
    def change(folder: Path) -> None:
        shutil.copy(folder / runs[0][9], folder / runs[0][5])

    assert after_a_change(str(tmp_path / "runs"), tmp_path / "runs", change) is None
    assert 1 == run(["verify", str(tmp_path / "runs.yaml"), "--sample", "all", "-q"])
    assert "[differs]: mean: " in capsys.readouterr().out


# Parts of an older imgnorm, which divided names


CASES = ROOT / "tests" / "cases" / "stats"


def test_parts_of_an_older_imgnorm_merge_with_each_other_as_before(tmp_path):
    first, second = (read_stats(CASES / f"older-part-{i}.yaml") for i in (1, 2))
    whole = (CASES / "older-whole.yaml").read_text()

    assert whole == text_of(merge([second, first]))
    for i, part in ((1, first), (2, second)):
        write_stats(tmp_path / "part.yaml", part)
        assert (CASES / f"older-part-{i}.yaml").read_text() == (tmp_path / "part.yaml").read_text()
    assert (
        "a.yaml: shard 2 of 2 of 'examples/shapes' is missing; add the file, or continue with "
        "--allow-missing"
    ) == refusal(first)
    assert (
        "b.yaml: counts images that a.yaml also counts (all 24 images of 'examples/shapes' and shard 1 of "
        "2 of 'examples/shapes'); leave one out, or count them twice with --allow-overlap"
    ) == refusal(first, read_stats(CASES / "older-whole.yaml"), allow_missing=True)


def test_parts_of_an_older_imgnorm_are_refused_beside_new_ones():
    """They divide the images differently, so together they would count some twice, and others never."""
    old = read_stats(CASES / "older-part-1.yaml")
    new = measured(SHAPES, shard=(2, 2), resize=8)
    source = replace(new.measurement.source, ref="examples/shapes")  # type: ignore[union-attr]
    new = replace(new, measurement=replace(new.measurement, source=source))  # type: ignore[type-var]
    messages = [
        refusal(old, new, allow_missing=True, allow_decoders=True),
        refusal(new, old, allow_missing=True, allow_decoders=True),
    ]

    assert [
        f"{a}.yaml: was measured by an older imgnorm, which divided images differently from {b}.yaml; measure "
        "all shards again with one version"
        for a, b in ("ab", "ba")
    ] == messages


# Shards


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_impossible_shards_are_a_callers_bug(shard):
    with pytest.raises(ValueError, match="expected \\(i, n\\) with i from 1 to n"):
        measured(SHAPES, shard=shard)


def test_the_only_shard_is_the_whole():
    assert text_of(measured(SHAPES)) == text_of(measured(SHAPES, shard=(1, 1)))


# Files


def damaged(tmp_path: Path, old: str, new: str, stats: Stats) -> str:
    """What reading says of a stats file with one edit, without its name."""
    text = text_of(stats)
    assert text.count(old) >= 1
    path = tmp_path / "s.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InvalidDocument) as caught:
        read_stats(path)
    return str(caught.value).replace(str(path), "s.yaml")


def test_shards_that_cannot_be_are_refused(tmp_path):
    part = shards(3)[1]

    assert "s.yaml:40:15: source.shards.counted[0]: shard 4 of 3 does not exist" == damaged(
        tmp_path, "counted: [2]", "counted: [4]", part
    )
    assert "source.shards.of: expected at least 2; got 1" in damaged(
        tmp_path, "of: 3", "of: 1", part
    )


def test_a_merged_files_digest_must_follow_from_its_parts(tmp_path):
    merged = state("a") + state("b")
    digest = merged.measurement.source.names_sha256  # type: ignore[union-attr]
    other = digest.translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))

    assert "does not follow from the file's integers" in damaged(tmp_path, digest, other, merged)
    assert "source.parts: 3 images in all, but the file counts 2" in damaged(
        tmp_path, "images: 1}", "images: 2}", merged
    )


def test_a_digest_is_64_hexadecimal_digits(tmp_path):
    stats = state("a")
    digest = stats.measurement.source.names_sha256  # type: ignore[union-attr]

    assert "source.listing_sha256: expected text that matches ^[0-9a-f]{64}$" in damaged(
        tmp_path, digest, "abc", stats
    )


def test_every_file_that_cannot_be_read_is_told(tmp_path):
    good, bad, gone = (str(tmp_path / name) for name in ("good.yaml", "bad.yaml", "gone.yaml"))
    write_stats(good, state("a"))
    Path(bad).write_text("format: imgnorm-stats/9\n")
    with pytest.raises(ImgnormError) as caught:
        merge_files([gone, good, bad])
    lines = str(caught.value).splitlines()

    assert f"{gone}: no such file; check the path" == lines[0]
    assert lines[1].startswith(f"{bad}:1:")


# The command


@pytest.fixture
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shard files 1.yaml and 2.yaml, and the whole in whole.yaml."""
    first, second = shards(2)
    for name, stats in {"1": first, "2": second, "whole": first + second}.items():
        write_stats(tmp_path / f"{name}.yaml", stats)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_writes_the_whole(halves, capsys):
    assert 0 == run(["merge", "2.yaml", "1.yaml", "-o", "all.yaml"])
    assert "wrote    all.yaml\n" == capsys.readouterr().err
    assert (halves / "whole.yaml").read_bytes() == (halves / "all.yaml").read_bytes()


def test_the_command_replaces_a_file_only_when_told(halves, capsys):
    assert 2 == run(["merge", "1.yaml", "2.yaml", "-o", "1.yaml"])
    assert (
        "1.yaml: exists already; replace it with --force, or name another file\n"
        == capsys.readouterr().err
    )
    assert 0 == run(["merge", "1.yaml", "2.yaml", "-o", "1.yaml", "--force", "-q"])
    assert "" == capsys.readouterr().err
    assert (halves / "whole.yaml").read_bytes() == (halves / "1.yaml").read_bytes()


def test_the_command_refuses_with_code_2_and_writes_nothing(halves, capsys):
    assert 2 == run(["merge", "1.yaml", "-o", "all.yaml"])
    assert (
        "1.yaml: shard 2 of 2 of 'd' is missing; add the file, or continue with --allow-missing\n"
        == capsys.readouterr().err
    )
    assert not (halves / "all.yaml").exists()


def test_an_incomplete_merge_says_so_in_table_and_module(halves, capsys):
    assert 0 == run(["merge", "1.yaml", "--allow-missing", "-q", "-o", "part.yaml"])
    assert "\npartial  only shard 1 of 2 of 'd'\n" in capsys.readouterr().out
    assert 0 == run(["emit", "part.yaml"])
    assert "\n# Incomplete: only shard 1 of 2 of 'd'.\n" in capsys.readouterr().out


def test_the_command_counts_twice_when_told(halves, capsys):
    assert 0 == run(
        ["merge", "whole.yaml", "1.yaml", "--allow-overlap", "--allow-missing", "--json"]
    )
    assert '"images": 3,' in capsys.readouterr().out


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/", "a/b", "-1/2", "1/2/3", "1/²"])
def test_the_command_refuses_what_is_no_shard(shard, capsys):
    assert 2 == run(["stats", SHAPES, f"--shard={shard}"])
    assert (
        f"Invalid value for '--shard': {shard!r} is not a shard; give I/N with I from 1 to N, as in 2/4 "
        "(see `imgnorm stats --help`)\n"
    ) == capsys.readouterr().err
