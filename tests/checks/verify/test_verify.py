"""Is a stats file still true? Names, a sample, or every integer."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imgnorm
from imgnorm.checks.verify import sample as spotcheck
from imgnorm.cli import run
from imgnorm.errors import IncompatibleStats, InvalidDocument, SourceError

ROOT = Path(__file__).parents[3]
SHAPES = ROOT / "examples" / "shapes"


def save(
    path: Path, level: float, rng: np.random.Generator, size: tuple[int, int] = (12, 10)
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(rng.normal(level, 30, (*size, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """80 small images in two classes below data/, measured into stats.yaml."""
    folder = tmp_path_factory.mktemp("measured")
    rng = np.random.default_rng(0)
    for i in range(80):
        save(folder / "data" / "ab"[i % 2] / f"{i:03d}.png", 60 + i, rng)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        measure(folder)
    return folder


@pytest.fixture
def here(measured, tmp_path, monkeypatch) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_units(monkeypatch) -> None:
    """Units of about eight files, so that the shards of 80 images all have some."""
    monkeypatch.setattr("imgnorm.sources.names._MIN_RUN", 4)
    monkeypatch.setattr("imgnorm.sources.names._ENDS", 3)


def measure(here: Path, *options: str) -> None:
    arguments = ["stats", "data", "-o", "stats.yaml", "--force", "-q", "--workers", "1", *options]
    assert run(arguments) in (0, 3)


def verify(*arguments: object, **options) -> imgnorm.Verification:
    return imgnorm.verify("stats.yaml", *arguments, workers=1, **options)


def describe(found: imgnorm.Verification) -> list[str]:
    return [f"{p.rule}: {p.message}" for p in found.problems]


def test_a_config_is_answered_with_what_to_give_instead(here):
    """Otherwise all its keys would be reported as unknown."""
    lines = ["format: imgnorm-pipeline/1", "source: {kind: folder, path: data}", "normalize: {}"]
    (here / "p.yaml").write_text("\n".join(lines))
    got = "p.yaml:1:9: format: expected 'imgnorm-stats/1'; got 'imgnorm-pipeline/1', a pipeline config"

    with pytest.raises(InvalidDocument) as caught:
        imgnorm.verify("p.yaml")
    hint = "measure it with `imgnorm stats p.yaml -o stats.yaml`, and give that file"
    assert f"{got}\n    {hint}" == str(caught.value)

    (here / "p.yaml").write_text("\n".join([*lines[:2], "normalize: {stats: stats.yaml}"]))
    with pytest.raises(InvalidDocument) as caught:
        imgnorm.verify("p.yaml")
    assert f"{got}\n    give the stats file that it names, stats.yaml" == str(caught.value)


def test_every_finding_has_a_page(here, capsys):
    assert 0 == run(["verify", "--explain", "moved"])
    assert capsys.readouterr().out.startswith(
        "moved (error): the averages of the images' numbers\n"
    )
    assert 2 == run(["verify", "--explain", "move"])
    assert "there is no rule 'move'; did you mean 'moved'?" in capsys.readouterr().err


@pytest.mark.parametrize("sample", [1, 30, 80, 1000, "all"])
def test_a_file_is_true_of_the_data_that_it_was_measured_from(here, sample):
    found = verify(sample=sample)

    assert ((), False) == (found.problems, found.stale)
    assert (sample if sample in (1, 30) else 80) == found.measured
    assert (found.seed is None) == (sample not in (1, 30))


@pytest.mark.parametrize(
    "options",
    [
        ["--limit", "50"],
        ["--shard", "2/3"],
        ["--per-class"],
        ["--mode", "L"],
        ["--resize", "8", "--center-crop", "6"],
        ["--limit", "50", "--shard", "1/2"],
        ["--limit", "50", "--shard", "2/2"],
        ["--shard", "2/3", "--keep-names"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("sample", [10, "all"])
def test_what_was_measured_is_what_is_verified(here, small_units, options, sample):
    measure(here, *options)

    assert () == verify(sample=sample).problems


def test_a_new_name_shows_in_its_class(here):
    shutil.copy("data/a/000.png", "data/a/new.png")
    found = verify(sample=10)

    assert [
        (
            "names: source.listing_sha256: listing changed: 81 names now, 80 then; "
            "classes: a 41 now, 40 then"
        )
    ] == describe(found)
    assert found.stale
    assert (
        "measure again: `imgnorm stats data -o stats.yaml --force`; with --keep-names, verify lists "
        "the names that come and go"
    ) == found.problems[0].hint


def test_a_name_that_went_shows_in_its_class(here):
    Path("data/b/001.png").unlink()

    assert [
        (
            "names: source.listing_sha256: listing changed: 79 names now, 80 then; "
            "classes: b 39 now, 40 then"
        )
    ] == describe(verify(sample=10))


def test_a_renamed_image_shows(here):
    Path("data/b/001.png").rename("data/b/renamed.png")

    assert [
        "names: source.listing_sha256: listing changed: 80 names as then, but not the same ones"
    ] == describe(verify(sample=10))


def test_a_broken_image_that_went_shows(here):
    """It was not counted, but it was among the names."""
    Path("data/a/zz.png").write_bytes(b"")
    measure(here)
    Path("data/a/zz.png").unlink()

    assert [
        "names: source.listing_sha256: listing changed: 80 names as then, but not the same ones"
    ] == describe(verify(sample=10))


def test_an_image_that_broke_is_found_if_the_sample_has_it(here):
    """The sample is the same for the same seed."""
    for path in Path("data/a").iterdir():
        path.write_bytes(b"")
    found = verify(sample=4)

    assert found.stale
    assert all(word in describe(found)[0] for word in ("unreadable now", "(empty-file)"))
    assert verify(sample=4) == found


def test_an_image_that_was_mended_is_found(here):
    broken = Path("data/a/000.png")
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    measure(here)

    assert () == verify(sample=10).problems
    broken.write_bytes(whole)

    assert ["skipped: skipped: skipped then, but readable now: a/000.png"] == describe(
        verify(sample=10)
    )


def test_a_link_that_leads_nowhere_is_found_without_a_sample(here):
    Path("data/a/zz.png").symlink_to("nowhere")
    found = verify(sample=1)

    assert ["skipped: skipped: found now, but unreadable: a/zz.png (dangling-link)"] == describe(
        found
    )


def test_brighter_images_are_found_by_a_sample(here, monkeypatch):
    """Measured on the level of one: the images' means have a std of 23 levels."""
    for path in Path("data").rglob("*.png"):
        pixels = np.asarray(Image.open(path)).astype(int)
        Image.fromarray(np.clip(pixels + 60, 0, 255).astype(np.uint8)).save(path)
    monkeypatch.setattr(spotcheck, "_compare_with_counts", lambda *arguments: None)
    found = verify(sample=60)

    assert {"moved"} == {problem.rule for problem in found.problems}
    assert "mean: mean (each image with the same weight) moved: R by +0.2" in describe(found)[0]
    assert " σ)" in describe(found)[0]


def test_a_pixel_value_that_the_file_does_not_have_is_proof(here):
    """One image of a thousand changes no mean, and 255 does not occur in the file."""
    for path in Path("data").rglob("*.png"):
        pixels = np.asarray(Image.open(path)) // 2
        Image.fromarray(pixels).save(path)
    measure(here)
    for path in Path("data").rglob("*.png"):
        pixels = np.array(Image.open(path))
        pixels[0, 0, 1] = 255
        Image.fromarray(pixels).save(path)

    assert ["pixels: histogram.G: 8 pixels of value 255 in the sample, 0 in the file"] == describe(
        verify(sample=8)
    )


def test_other_modes_and_formats_are_proof(here):
    for path in Path("data").rglob("*.png"):
        image = Image.open(path).convert("L")
        image.save(path, format="BMP")
    found = describe(verify(sample=8))

    assert "modes: modes.L: 8 images in the sample, 0 in the file" in found
    assert "formats: formats.BMP: 8 images in the sample, 0 in the file" in found


def test_a_color_image_among_gray_ones_is_found(here):
    for path in Path("data").rglob("*.png"):
        Image.open(path).convert("L").save(path)
    measure(here)
    rng = np.random.default_rng(1)
    for path in Path("data").rglob("*.png"):
        save(path, 100, rng)
    (mode, *_) = verify(sample=3).problems

    assert ("mode", "image.mode: all L then, but of another mode now: ") == (
        mode.rule,
        mode.message[:49],
    )


def test_sizes_that_must_be_equal_are_proof(here):
    """A file with another crop than the one that it was measured with."""
    measure(here, "--center-crop", "6")
    file = Path("stats.yaml")
    file.write_text(file.read_text().replace("size: 6", "size: 7"))

    assert "pixels: pixels: 36 pixels an image then, 49 in the sample" in describe(verify(sample=5))


def test_resized_images_are_hinted_at_where_sizes_are_not_known(here):
    for path in Path("data").rglob("*.png"):
        image = Image.open(path)
        image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(path)
    found = verify(sample=1)
    sizes = [p for p in found.problems if p.rule == "sizes"]

    assert [("pixels: 120 pixels an image then, 480 in the sample", "warning")] == [
        (p.message, p.severity) for p in sizes
    ]


def test_all_images_must_match_exactly(here):
    """One level of one pixel, of 9,600 pixels in 80 images."""
    path = Path("data/a/000.png")
    pixels = np.array(Image.open(path))
    pixels[0, 0, 2] += 1
    Image.fromarray(pixels).save(path)
    found = verify(sample="all")
    places = [p.message.split(":")[0] for p in found.problems]

    assert [
        "mean",
        "std",
        "exact.total",
        "exact.total_sq",
        "exact.image_sums.mean",
        "histogram.B",
    ] == places
    assert {"differs"} == {p.rule for p in found.problems}
    assert found.stale
    value = int(pixels[0, 0, 2]) - 1
    assert f"pixels of value {value} then" in found.problems[-1].message


def test_all_images_tell_what_was_skipped_then_and_is_now(here):
    Path("data/a/000.png").write_bytes(b"")
    measure(here)
    save(Path("data/a/000.png"), 100, np.random.default_rng(2))
    Path("data/b/001.png").write_bytes(b"")
    found = describe(verify(sample="all"))

    assert "skipped: skipped: unreadable now: b/001.png (empty-file)" in found
    assert "skipped: skipped: skipped then, but not now: a/000.png (empty-file)" in found


def test_another_decoder_is_a_warning_and_proves_nothing(here):
    text = Path("stats.yaml").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("decoders:")]
    Path("stats.yaml").write_text(text.replace(line, 'decoders: {PNG: "zlib 0.1"}'))
    found = verify(sample=10)

    assert not found.stale
    (problem,) = found.problems
    assert ("decoders", "warning") == (problem.rule, problem.severity)
    assert problem.message.startswith("decoders.PNG: zlib 0.1 then, ")


def test_names_that_were_kept_tell_which_came_and_which_went(here):
    measure(here, "--keep-names")
    for index in (0, 2, 4, 6):
        os.remove(f"data/a/{index:03d}.png")
    for name in ("x", "y", "z"):
        shutil.copy("data/b/001.png", f"data/b/{name}\n.png")

    (message,) = [text for text in describe(verify(sample=5)) if text.startswith("names: ")]
    assert (
        "names: source.listing_sha256: listing changed: 79 names now, 80 then; new: 'b/x\\\\n.png', "
        "'b/y\\\\n.png', 'b/z\\\\n.png'; gone: 'a/000.png', 'a/002.png', 'a/004.png', 'a/006.png'; "
        "classes: a 36 now, 40 then, b 43 now, 40 then"
    ) == message
    assert (
        "measure again: `imgnorm stats data --keep-names -o stats.yaml --force`"
        == verify(sample=5).problems[0].hint
    )


def test_names_of_a_shard_tell_only_which_went(here, small_units):
    measure(here, "--keep-names", "--shard", "1/2")
    os.remove("data/a/000.png")

    (message,) = [text for text in describe(verify(sample=5)) if text.startswith("names: ")]
    assert "; gone: 'a/000.png'" in message
    assert "new" not in message


def test_the_progress_of_measuring_all_again_counts_what_is_skipped(here, small_units):
    for group in "ab":
        Path(f"data/{group}/cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for shard in (1, 2):
        measure(here, "--shard", f"{shard}/2")
        shutil.move("stats.yaml", f"{shard}.yaml")
    shutil.copytree("data", "more")
    run(["stats", "more", "-o", "3.yaml", "-q", "--workers", "1"])
    parts = ["1.yaml", "2.yaml", "3.yaml", "--allow-overlap"]
    assert 0 == run(["merge", *parts, "-o", "stats.yaml", "-q"])
    seen = []

    imgnorm.verify("stats.yaml", sample="all", workers=1, on_progress=seen.append)

    assert (164, 164) == (seen[-1].done, seen[-1].total)
    assert all(one.done <= one.total for one in seen)


@pytest.mark.parametrize("sample", [10, "all"])
def test_merged_sources_are_verified_each(here, sample):
    shutil.copytree(SHAPES, "shapes")
    assert 0 == run(["stats", "shapes", "-o", "b.yaml", "-q", "--workers", "1"])
    shutil.move("stats.yaml", "a.yaml")
    assert 0 == run(["merge", "a.yaml", "b.yaml", "-o", "stats.yaml", "-q"])

    assert () == verify(sample=sample).problems
    Path("shapes/circle/new.png").write_bytes(Path("data/a/000.png").read_bytes())
    names = [p for p in verify(sample=10).problems if p.rule == "names"]
    assert ["source.parts[1].listing_sha256: listing changed: 25 names now, 24 then"] == [
        p.message for p in names
    ]
    with pytest.raises(IncompatibleStats) as caught:
        verify("data")
    assert str(caught.value).startswith("stats.yaml: was merged from 2 sources, which one SOURCE")


def measure_shards(*shards: str) -> None:
    for shard in shards:
        run(["stats", "data", "-o", f"{shard[0]}.yaml", "--shard", shard, "-q", "--workers", "1"])
    files = [f"{shard[0]}.yaml" for shard in shards]
    run(["merge", *files, "-o", "stats.yaml", "--allow-missing", "--force", "-q"])


@pytest.mark.parametrize("sample", [10, "all"])
def test_shards_that_are_missing_are_not_asked_for(here, small_units, sample):
    measure_shards("1/3", "3/3")

    assert () == verify(sample=sample).problems


def test_a_change_shows_in_its_own_shard_alone(here, small_units):
    measure(here, "--shard", "1/2", "--keep-names")
    own = imgnorm.read_stats("stats.yaml").measurement.source.names.split("\n")
    foreign = [f"a/{i:03d}.png" for i in range(0, 80, 2) if f"a/{i:03d}.png" not in own]
    stale = []
    for name in (own[1], foreign[1]):
        Path("data", name).rename(f"data/{name[:-4]}_.png")
        stale.append(verify(sample=1).stale)
        Path(f"data/{name[:-4]}_.png").rename(Path("data", name))

    assert [True, False] == stale


def test_an_image_that_breaks_in_another_shard_is_not_reported(here, small_units):
    """What the listing itself skips belongs to the first shard."""
    measure_shards("2/2")
    Path("data/a/zz.png").symlink_to("nowhere")

    assert () == verify(sample=1).problems
    measure_shards("1/2")
    Path("data/b/zz.png").symlink_to("nowhere")
    assert ["skipped: skipped: found now, but unreadable: b/zz.png (dangling-link)"] == describe(
        verify(sample=1)
    )


def test_shards_of_an_older_version_are_refused(here):
    """They divided the names, not the units, so nothing shows which images they are of."""
    measure(here, "--shard", "1/2")
    text = Path("stats.yaml").read_text()
    Path("stats.yaml").write_text(re.sub(r",? *units_sha256: \S+", "", text))

    with pytest.raises(IncompatibleStats) as caught:
        verify()
    assert (
        "stats.yaml: counts shard 1 of 2 of 'data', measured by an older imgnorm, which divided images "
        "differently; merge all of its shards and verify the whole, or measure again"
    ) == str(caught.value)


def test_a_part_without_images_is_refused(here):
    measure(here, "--shard", "9/9")

    with pytest.raises(IncompatibleStats) as caught:
        verify()
    assert (
        "stats.yaml: a part without images has no mean and std; merge it with the other parts of its source"
        == str(caught.value)
    )


@pytest.mark.parametrize("format_", ["zip", "tar", "gztar"])
def test_archives_are_verified_in_place(here, format_):
    archive = shutil.make_archive("packed", format_, "data")
    name = Path(archive).name
    run(["stats", name, "-o", "stats.yaml", "--force", "-q", "--workers", "1"])

    assert () == verify(sample=10).problems
    assert () == verify(sample="all").problems


def test_lists_are_verified_as_lists(here):
    Path("list.txt").write_text("data/a/000.png\ndata/b/001.png\ndata/b/001.png\n")
    run(["stats", "list.txt", "--list", "-o", "stats.yaml", "--force", "-q", "--workers", "1"])

    assert () == verify(sample=1).problems
    Path("list.txt").write_text("data/a/000.png\n")
    found = verify(sample=1)
    assert found.stale
    assert "measure again: `imgnorm stats data/list.txt --list -o s" not in str(
        found.problems[0].hint
    )
    assert "imgnorm stats list.txt --list" in str(found.problems[0].hint)


def test_sixteen_bit_images_are_verified(here):
    rng = np.random.default_rng(3)
    for path in Path("data/a").rglob("*.png"):
        Image.fromarray(rng.integers(0, 60_000, (5, 6)).astype(np.uint16)).save(path)
    shutil.rmtree("data/b")
    measure(here)

    assert () == verify(sample=20).problems


def test_a_pipeline_config_can_be_the_source(here):
    Path("configs").mkdir()
    Path("configs/p.yaml").write_text(
        "format: imgnorm-pipeline/1\nsource: {kind: folder, path: ../data}\n"
        "preprocess: [{Resize: {size: 8}}]\nnormalize: {stats: ../stats.yaml}\n"
    )
    assert 0 == run(["stats", "configs/p.yaml", "-o", "stats.yaml", "--force", "-q"])

    assert () == verify("configs/p.yaml", sample=10).problems
    assert () == verify(sample=10).problems


def test_a_config_that_is_not_there_is_told_as_a_file(here):
    with pytest.raises(SourceError) as caught:
        verify("configs/p.yaml")

    assert "configs/p.yaml: no such file; check the path" == str(caught.value)


def test_a_dataset_of_torchvision_is_verified(tmp_path, monkeypatch):
    pytest.importorskip("torchvision")
    from torchvision import datasets

    monkeypatch.chdir(tmp_path)
    made = datasets.FakeData(size=30, image_size=(3, 8, 8))
    assert len(made) == 30
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_alone = ["--limit", "20", "--workers", "1"]
        code = run(["stats", "torchvision:FakeData", "-o", "stats.yaml", "-q", *run_alone])

    assert 0 == code
    assert () == verify(sample=5).problems


class Pictures:
    """A Dataset of 30 images; some of them cannot be made."""

    def __init__(self, *broken: int, brighter: int = 0) -> None:
        self.broken = broken
        self.brighter = brighter

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> Image.Image:
        if index in self.broken:
            raise ValueError("broken")
        return Image.new("L", (3, 2), index + self.brighter)


@pytest.mark.parametrize("workers", [None, 2])
def test_a_dataset_is_verified_as_an_object(tmp_path, workers):
    pytest.importorskip("torch")
    file = tmp_path / "stats.yaml"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imgnorm.write_stats(file, imgnorm.measure(Pictures(3)))
    whole, broken, brighter = (
        imgnorm.verify(file, dataset, sample=20, workers=workers)
        for dataset in (Pictures(3), Pictures(3, *range(4, 30)), Pictures(3, brighter=100))
    )

    assert () == whole.problems
    assert describe(broken)[0].startswith(
        "skipped: skipped: counted then, but unreadable now: 05 (corrupt), 07 ("
    )
    assert {"pixels", "moved"} == {problem.rule for problem in brighter.problems}
    assert ["skipped: skipped: skipped then, but readable now: 03"] == describe(
        imgnorm.verify(file, Pictures(), sample=20, workers=workers)
    )


@pytest.fixture
def arrays(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(5).integers(0, 256, (40, 3, 9, 3), dtype=np.uint8)
    gray = images.transpose(0, 2, 3, 1).reshape(40, 9, 9)
    np.save("clear.npy", gray)
    np.save("either.npy", images)  # of 3 x 9 pixels or of 9 x 3
    np.savez("many.npz", x=gray, y=np.arange(40))
    return tmp_path


def measure_arrays(*arguments: str) -> None:
    assert 0 == run(["stats", *arguments, "-o", "stats.yaml", "--force", "-q", "--workers", "1"])


@pytest.mark.parametrize("sample", [10, "all"])
@pytest.mark.parametrize("named", ["clear.npy", "many.npz/x", "cle*.npy"])
def test_arrays_are_verified_by_the_name_they_were_measured_by(arrays, named, sample):
    measure_arrays(named)

    assert () == verify(sample=sample).problems


def test_arrays_whose_shape_does_not_tell_need_their_layout(arrays):
    measure_arrays("either.npy", "--layout", "NCHW")

    with pytest.raises(SourceError):
        verify(sample=5)
    assert () == verify(sample=5, layout="NCHW").problems
    (first, *_) = verify(sample="all", layout="NHWC").problems
    assert "imgnorm stats either.npy --layout NHWC -o stats.yaml --force" in str(first.hint)


def test_a_config_of_arrays_says_their_layout(arrays):
    Path("p.yaml").write_text(
        "format: imgnorm-pipeline/1\nsource: {kind: array, path: either.npy, layout: NCHW}\n"
        "normalize: {stats: stats.yaml}\n"
    )
    measure_arrays("p.yaml")

    assert () == verify("p.yaml", sample=5).problems
    with pytest.raises(SourceError) as caught:
        verify("p.yaml", sample=5, layout="NHWC")
    assert "--layout: p.yaml says it; change it there, or leave --layout out" == str(caught.value)


def test_constants_cannot_be_verified(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("stats.yaml").write_text("format: imgnorm-stats/1\nmean: [0.5]\nstd: [0.25]\n")

    assert 2 == run(["verify", "stats.yaml"])
    assert (
        "stats.yaml: holds constants, and does not say which images they are from; measure the images "
        "with `imgnorm stats`, or compare with `imgnorm explain NUMBERS --stats FILE`\n"
    ) == capsys.readouterr().err


def test_a_source_that_is_not_there_is_said_so(here):
    Path("data").rename("moved")
    with pytest.raises(SourceError) as caught:
        verify()

    assert (
        "data: no such file or folder; name a folder of images, an archive, an array, a list (with --list) or "
        "torchvision:NAME\n    stats.yaml was measured from this source; go to the folder where its path is "
        "right, or name the source as it is called here: `imgnorm verify FILE SOURCE`"
    ) == str(caught.value)
    assert () == verify("moved", sample=5).problems


def test_an_empty_folder_is_stale(here):
    shutil.rmtree("data")
    Path("data").mkdir()

    assert [
        (
            "names: source.listing_sha256: listing changed: 0 names now, 80 then; "
            "classes: a 0 now, 40 then, b 0 now, 40 then"
        )
    ] == describe(verify())


def test_the_command_tells_and_exits(here, capsys):
    capsys.readouterr()

    assert 0 == run(["verify", "stats.yaml", "--sample", "10"])
    captured = capsys.readouterr()
    assert ("", "verified stats.yaml: true (10 of 80 images measured again, seed 0)\n") == captured
    Path("data/b/001.png").rename("data/b/renamed.png")
    assert 1 == run(["verify", "stats.yaml", "--sample", "10", "--seed", "3", "--format", "json"])
    captured = capsys.readouterr()
    (problem,) = json.loads(captured.out)
    assert ("names", "error") == (problem["rule"], problem["severity"])
    lines = Path("stats.yaml").read_text().splitlines()
    assert lines[problem["line"] - 1][problem["column"] - 1 :].startswith("listing_sha256")
    assert captured.err == "verified stats.yaml: stale (10 of 80 images measured again, seed 3)\n"


@pytest.mark.parametrize("sample", ["0", "-1", "some", "1.5", "٣", "9" * 13])
def test_a_sample_is_a_number_or_all(here, sample, capsys):
    assert 2 == run(["verify", "stats.yaml", f"--sample={sample}"])
    assert "is neither 'all' nor a number of images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--sample", "all", "--seed", "3"],
            "--seed decides which images a sample has; leave it out",
        ),
        (["data", "--root", "elsewhere"], "--root is for torchvision:NAME; leave it out"),
        (["--layout", "NHWC"], "data: --layout is for .npy and .npz files; leave it out"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(here, arguments, said, capsys):
    assert 2 == run(["verify", "stats.yaml", *arguments])
    assert said in capsys.readouterr().err


def test_the_order_of_work_and_its_sharing_change_nothing(here):
    Path("data/a/000.png").write_bytes(b"")
    found = [imgnorm.verify("stats.yaml", sample=40, workers=workers, seed=5) for workers in (1, 3)]

    assert found[0] == found[1]


def test_other_seeds_draw_other_images(here):
    Path("data/a/000.png").write_bytes(b"")
    caught = [verify(sample=40, seed=seed).stale for seed in range(5)]

    assert {True, False} == set(caught)


def test_verifying_loads_neither_torch_nor_numpy_nor_pillow_in_this_process(tmp_path):
    program = (
        "import imgnorm, sys\n"
        f"imgnorm.write_stats({str(tmp_path / 's.yaml')!r}, imgnorm.measure({str(SHAPES)!r}, workers=1))\n"
        f"imgnorm.verify({str(tmp_path / 's.yaml')!r}, sample=3, workers=1)\n"
        "print(*({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "\n" == done.stdout


def test_unchanged_data_is_true_whatever_the_sample(here):
    """Every finding, not the averages alone: samples of a skewed set."""
    rng = np.random.default_rng(4)
    for i, path in enumerate(sorted(Path("data").rglob("*.png"))):
        save(path, 255 if i % 8 == 0 else 0, rng, size=(40, 40) if i % 8 == 0 else (4, 4))
    measure(here)
    found = [verify(sample=random.Random(s).randint(1, 70), seed=s) for s in range(4)]

    assert not any(one.stale for one in found)
