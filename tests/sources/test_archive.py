"""sources/archive.py: what is packed is measured like what is not, and nothing is short in silence."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from counting import encoded, noise
from PIL import Image

from imgnorm.errors import SourceError
from imgnorm.measuring.measure import SkippedImagesWarning, measure
from imgnorm.measuring.opening import open_named
from imgnorm.pixels.decode import decode
from imgnorm.sources import archivefile, bytestream
from imgnorm.sources.archive import ArchiveSource
from imgnorm.sources.files import MAX_FILE_BYTES
from imgnorm.sources.listing import all_names_of
from imgnorm.sources.names import name_bytes
from imgnorm.sources.paths import matching
from imgnorm.sources.patterns import Patterns
from imgnorm.sources.source import Entry, Ignored, Reread, Unit, Unread
from imgnorm.stats.file import write_stats
from imgnorm.stats.stats import Stats
from imgnorm.tally.names import names_digest
from imgnorm.tally.skipped import Reason, Skipped, Unreadable

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "examples" / "shapes"
ZEROS = bytes(1024)  # the end mark of a tar
FORMATS = ("zip", "tar", "tar.gz")


# ── archives ──


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    Image.frombytes("RGB", (6, 5), random.Random(seed).randbytes(90)).save(file, "PNG")
    return file.getvalue()


THREE = {f"cat/{seed}.png": picture(seed) for seed in range(3)}


def header(
    name: bytes,
    size: int = 0,
    kind: bytes = b"0",
    *,
    digits: bytes = b"",
    magic: bytes = b"ustar\00000",
    prefix: bytes = b"",
    target: bytes = b"",
) -> bytes:
    """One block of a tar, of no program's making."""
    block = bytearray(512)
    block[:100] = name.ljust(100, b"\0")
    block[100:108] = b"0000644\0"
    block[124:136] = digits or b"%011o\0" % size
    block[156:157] = kind
    block[157:257] = target.ljust(100, b"\0")
    block[257:265] = magic
    block[345:500] = prefix.ljust(155, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: bytes, data: bytes, kind: bytes = b"0", **fields: bytes) -> bytes:
    return header(name, len(data), kind, **fields) + data + bytes(-len(data) % 512)


def blocks(members: Mapping[str, bytes]) -> bytes:
    """A tar without its end."""
    return b"".join(member(name.encode(), data) for name, data in members.items())


def packed(path: Path, members: Mapping[str, bytes]) -> Path:
    """An archive of the format that the suffix says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in members.items():
                file.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@dataclass
class Found:
    """What the entries of some units have."""

    images: dict[str, bytes] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def take(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, Skipped):
                self.skipped.append(entry)
            elif isinstance(entry, Ignored):
                self.ignored.update(entry.rules)
            else:
                assert isinstance(entry, Unread)
                try:
                    data = entry.read()
                except Unreadable as fault:
                    self.skipped.append(fault.skipped(entry.name))
                else:
                    assert isinstance(data, bytes)
                    assert entry.name not in self.images
                    self.images[entry.name] = data

    def sorted(self) -> Found:
        """As the stats file has it: in the order of names."""
        images = {name: self.images[name] for name in sorted(self.images, key=name_bytes)}
        order = [(name_bytes(s.name), s.reason, s.detail, s) for s in self.skipped]
        skipped = [s for *_, s in sorted(order, key=lambda one: one[:3])]
        return Found(images, skipped, +self.ignored)


def listed(source: ArchiveSource) -> Found:
    """The images of all archives, listed first, and read where they lie."""
    found = Found()
    for unit in source.units():
        try:
            listing = source.listed(unit)
        except Unreadable as fault:
            found.skipped.append(fault.skipped(unit.id))
        else:
            found.take([*listing.skipped, Ignored(listing.ignored)])
            found.take(source.images(listing.unit))
    return found.sorted()


def streamed(source: ArchiveSource) -> Found | None:
    """The images of all archives, listed and read in one pass; None if that is not possible."""
    found = Found()
    for unit in source.units():
        try:
            found.take(source.images(unit))
        except Unreadable as fault:
            found.skipped.append(fault.skipped(unit.id))
        except Reread:
            return None
    return found.sorted()


def source_of(*paths: Path) -> ArchiveSource:
    return ArchiveSource("", map(str, paths))


def found_in(*paths: Path) -> Found:
    """The images of archives, and what is skipped and ignored: the same either way."""
    by_places = listed(source_of(*paths))
    assert streamed(source_of(*paths)) in (None, by_places)
    return by_places


def seen(*paths: Path) -> tuple[dict[str, bytes], list[tuple[str, str]], dict[str, int]]:
    """The images with their bytes, what is skipped and why, what is ignored."""
    found = found_in(*paths)
    return found.images, [(s.name, str(s.reason)) for s in found.skipped], found.ignored


def inside(label: str, members: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{label}/{name}": data for name, data in members.items()}


def details(*paths: Path) -> dict[str, str]:
    return {s.name: s.detail for s in all_names_of(source_of(*paths)).skipped}


def measured(source: Path | str, **options: object) -> Stats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedImagesWarning)
        return measure(source, **options)  # type: ignore[arg-type]


# ── whole ones ──


@pytest.mark.parametrize("format_", FORMATS)
def test_an_archive_measures_like_the_folder_of_the_same_files(tmp_path, format_):
    folder = measured(SHAPES, per_class=True, workers=1)
    files = {
        path.relative_to(SHAPES).as_posix(): path.read_bytes()
        for path in SHAPES.rglob("*")
        if path.is_file()
    }

    archive = measured(packed(tmp_path / f"a.{format_}", files), per_class=True, workers=2)

    assert folder.mean == archive.mean
    assert folder.std == archive.std
    assert folder.measurement.histogram == archive.measurement.histogram
    assert folder.measurement.sums == archive.measurement.sums
    assert folder.measurement.classes == archive.measurement.classes
    assert folder.measurement.formats == archive.measurement.formats
    assert ("archive", ()) == (archive.measurement.source.kind, archive.skipped)


@pytest.mark.parametrize("format_", FORMATS)
def test_the_number_of_workers_changes_no_byte(tmp_path, format_):
    for shard in range(3):
        images = {f"{seed:03}.png": picture(seed + 100 * shard) for seed in range(40)}
        shuffled = dict(random.Random(1).sample(sorted(images.items()), len(images)))
        packed(tmp_path / f"s-{shard}.{format_}", shuffled)
    packed(tmp_path / f"s-9.{format_}", {"bad.png": b"no image", **THREE})

    files = []
    for workers in (1, 2):
        stats = measured(f"{tmp_path}/s-*.{format_}", workers=workers)
        write_stats(str(tmp_path / "stats.yaml"), stats)
        files.append((tmp_path / "stats.yaml").read_bytes())

    assert files[0] == files[1]
    assert b"images: 123\n" in files[0]


@pytest.mark.parametrize("format_", FORMATS)
def test_hidden_junk_and_other_suffixes_are_ignored_as_in_a_folder(tmp_path, format_):
    names = [
        ".hidden.png", ".git/a.png", "__MACOSX/cat/._1.png", "@eaDir/b.png", "cat/.c.png",
        "readme.txt", "cat/x/__MACOSX/d.png", "deep/er/é.PNG",
    ]  # fmt: skip
    members = {name: picture(0) for name in names}

    images, skipped, ignored = seen(packed(tmp_path / f"a.{format_}", members))

    assert [f"a.{format_}/deep/er/é.PNG"] == list(images)
    assert ([], {"hidden": 3, "junk": 3, "suffix": 1}) == (skipped, ignored)
    source = source_of(tmp_path / f"a.{format_}")
    assert "deep" == source.class_of(f"a.{format_}/deep/er/é.PNG")


def test_flat_shards_have_no_classes_and_their_labels_are_ignored(tmp_path):
    members = {"0001.jpg": b"x", "0001.cls": b"3", "0001.json": b"{}"}
    source = source_of(packed(tmp_path / "train-0.tar", members))

    listing = all_names_of(source)

    assert ["train-0.tar/0001.jpg"] == list(listing)
    assert {"suffix": 2} == listing.ignored
    assert source.class_of("train-0.tar/0001.jpg") is None


def test_an_archive_is_known_by_its_content(tmp_path):
    for format_ in FORMATS:
        path = packed(tmp_path / f"a.{format_}", THREE).rename(tmp_path / f"{format_}.jpg")

        assert inside(path.name, THREE) == seen(path)[0]


def test_empty_archives_hold_nothing_and_nothing_is_wrong(tmp_path):
    for format_ in FORMATS:
        assert ({}, [], {}) == seen(packed(tmp_path / f"a.{format_}", {}))


def test_members_are_named_without_dots_and_double_slashes(tmp_path):
    path = written(tmp_path / "a.tar", blocks({"./cat//./0.png": THREE["cat/0.png"]}) + ZEROS)

    assert ({"a.tar/cat/0.png": THREE["cat/0.png"]}, [], {}) == seen(path)


@pytest.mark.parametrize("name", ["long/" * 30 + "0.png", "l" * 180 + ".png", "é" * 120 + ".png"])
@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_of_gnu_and_of_pax(tmp_path, name, format_):
    with tarfile.open(tmp_path / "a.tar", "w", format=format_) as tar:
        info = tarfile.TarInfo(name)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))

    assert ({f"a.tar/{name}": b"abc"}, [], {}) == seen(tmp_path / "a.tar")


def test_headers_of_every_age(tmp_path):
    signed = bytearray(header("ü.png".encode("latin-1"), 3))
    signed[148:156] = b" " * 8
    signed[148:156] = b"%06o\0 " % sum(b - 256 if b > 127 else b for b in signed)
    pax = b"16 path=pax.png\n" + b"9 size=3\n"
    data = b"".join([
        member(b"v7.png", b"abc", b"\0", magic=bytes(8)),
        header(b"v7-folder/", 0, b"\0", magic=bytes(8)),
        header(b"folder", 0, b"5"),
        member(b"ustar.png", b"abc", prefix=b"a/b"),
        member(b"gnu.png", b"abc", digits=b"\x80" + bytes(10) + b"\3", magic=b"ustar  \0"),
        member(b"contiguous.png", b"abc", b"7"),
        bytes(signed) + b"abc" + bytes(509),
        member(b"x", pax, b"x"),
        header(b"short.png", 0) + b"abc" + bytes(509),
        header(b"label", 0, b"V"),
        member(b"g", b"18 comment=of all\n", b"g"),
        member(b"last.png", b"abc"),
    ])  # fmt: skip

    images, skipped, _ = seen(written(tmp_path / "a.tar", data + ZEROS))

    assert [] == skipped
    assert [
        "a/b/ustar.png", "contiguous.png", "gnu.png", "last.png", "pax.png", "v7.png", "\udcfc.png",
    ] == [name.removeprefix("a.tar/") for name in images]  # fmt: skip
    assert {b"abc"} == set(images.values())


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_members_are_read_in_whatever_order_they_are_asked_for(tmp_path, format_, order):
    """A worker gets parts of an archive, and others lie between."""
    rng = random.Random(f"{format_} {order}")
    images = {f"{n:03}.jpg": b"%d" % n * rng.choice([1, 99, 9_999]) for n in range(200)}
    names = list(images)
    if order == "shuffled":
        rng.shuffle(names)
    members: dict[str, bytes] = {}
    for name in names:
        members["./" * rng.randrange(2) + name] = images[name]
        members[name[:3] + ".cls"] = b"3"
    path = packed(tmp_path / f"a.{format_}", members)
    source = source_of(path)
    (unit,) = source.units()
    whole = source.listed(unit).unit
    worker = pickle.loads(pickle.dumps(source))

    assert list(inside(path.name, {name: images[name] for name in names})) == whole.names
    middle = sorted(rng.sample(range(200), 99))
    for part in (whole, whole.part(50, 60), whole.part(3, 9), whole.only(middle), whole.only([7])):
        found = Found()
        found.take(worker.images(pickle.loads(pickle.dumps(part))))

        assert {name: images[name[-7:]] for name in part.names or ()} == found.images
        assert ([], {}) == (found.skipped, found.ignored)


@pytest.mark.parametrize("format_", ["tar", "tar.gz"])
def test_attributes_of_all_members_hold_for_those_that_are_read_alone(tmp_path, format_):
    common = member(b"g", b"9 size=3\n", b"g")
    data = b"".join(header(b"%03d.jpg" % n) + b"%03d" % n + bytes(509) for n in range(200))
    data = common + data + ZEROS
    path = written(tmp_path / f"a.{format_}", gzip.compress(data) if format_ == "tar.gz" else data)
    (unit,) = source_of(path).units()
    listed_ = source_of(path).listed(unit).unit
    found = Found()
    found.take(source_of(path).images(listed_.only([100, 199])))

    assert 200 == len(listed_)
    assert [b"100", b"199"] == list(found.images.values())
    assert 200 == len(found_in(path).images)


# ── short counts that the standard library reports as success ──


def test_a_damaged_header_in_the_middle_is_named_and_the_members_behind_it_are_found(tmp_path):
    names = list(THREE)
    data = bytearray(blocks(THREE) + ZEROS)
    second = len(blocks({names[0]: THREE[names[0]]}))
    data[second + 150] ^= 1
    path = written(tmp_path / "a.tar", bytes(data))

    images, skipped, _ = seen(path)

    with tarfile.open(path) as tar:
        assert [names[0]] == tar.getnames()  # what the standard library makes of it
    assert [f"a.tar/{names[0]}", f"a.tar/{names[2]}"] == list(images)
    assert [("a.tar", "archive-corrupt")] == skipped
    assert {"a.tar": f"damaged header at byte {second:,}"} == details(path)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize("end", [b"", bytes(512)])
def test_a_tar_cut_between_two_members_is_named(tmp_path, suffix, end):
    names = list(THREE)
    data = blocks({names[0]: THREE[names[0]]}) + end
    path = written(tmp_path / f"a.{suffix}", gzip.compress(data) if "gz" in suffix else data)

    images, skipped, _ = seen(path)

    assert [f"{path.name}/{names[0]}"] == list(images)
    assert [(path.name, "archive-truncated")] == skipped


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_tars_after_one_another_are_named_and_the_first_one_is_counted(tmp_path, suffix):
    """What tar, tarfile and WebDataset read: to count more would not be what a loader sees."""
    data = (blocks(THREE) + ZEROS) + (blocks({"dog/9.png": picture(9)}) + ZEROS)
    path = written(tmp_path / f"a.{suffix}", gzip.compress(data) if "gz" in suffix else data)

    images, skipped, _ = seen(path)

    assert inside(path.name, THREE) == images
    assert [(path.name, "archive-corrupt")] == skipped
    second = len(blocks(THREE) + ZEROS)
    assert {path.name: f"data follow the end of the archive at byte {second:,}"} == details(path)


def test_a_tar_cut_anywhere_is_named_and_keeps_its_whole_members(tmp_path):
    data = blocks(THREE) + ZEROS
    ends = [len(blocks(dict(list(THREE.items())[:n]))) for n in range(4)]
    for cut in range(512, len(data), 100):
        images, skipped, _ = seen(written(tmp_path / "a.tar", data[:cut]))
        whole = max(n for n in range(4) if n == 0 or ends[n] - 512 < cut)
        whole = sum(f"a.tar/{name}" in images for name in THREE)

        assert {f"a.tar/{name}": THREE[name] for name in list(THREE)[:whole]} == images
        assert ("a.tar", "archive-truncated") in skipped
        # A member whose header is in the file is found, and so it is listed.
        headers = sum(end + 512 <= cut for end in ends[:3])
        assert headers == len(images) + len(skipped) - 1


def test_a_zeroed_header_is_named_and_the_members_behind_it_are_found(tmp_path):
    data = bytearray(blocks(THREE) + ZEROS)
    second = len(blocks({"cat/0.png": THREE["cat/0.png"]}))
    data[second : second + 512] = bytes(512)

    images, skipped, _ = seen(written(tmp_path / "a.tar", bytes(data)))

    assert ["a.tar/cat/0.png", "a.tar/cat/2.png"] == list(images)
    assert [("a.tar", "archive-corrupt")] == skipped


@pytest.mark.parametrize(
    "extension",
    [member(b"././@LongLink", b"x" * 120 + b".png", b"L"), member(b"x", b"9 size=3\n", b"x")],
)
def test_a_long_name_or_attributes_of_no_member_are_named(tmp_path, extension):
    """The member that they belong to was zeroed, and what is behind it up to the end, too."""
    path = written(tmp_path / "a.tar", blocks(THREE) + extension + ZEROS)

    images, skipped, _ = seen(path)

    assert inside("a.tar", THREE) == images
    assert [("a.tar", "archive-corrupt")] == skipped
    start = len(blocks(THREE) + extension)
    assert {"a.tar": f"a zero block in place of a header at byte {start:,}"} == details(path)


def with_attributes(members: Mapping[str, bytes]) -> bytes:
    """A tar without its end, as Python's tarfile packs files that have fractions of a second."""
    parts = []
    for name, data in members.items():
        info = tarfile.TarInfo(name)
        info.size, info.mtime = len(data), 1.5
        parts.append(info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512))
    return b"".join(parts)


@pytest.mark.parametrize("packing", [blocks, with_attributes])
def test_every_flipped_byte_of_a_header_is_noticed_or_harmless(tmp_path, packing):
    """Headers that repeat the one before included."""
    data = packing(THREE) + ZEROS
    second = len(packing({"cat/0.png": THREE["cat/0.png"]}))
    headers = data.index(b"cat/1.png", second) + 512 - second
    assert headers == (512 if packing is blocks else 3 * 512)
    for place in range(second, second + headers):
        for flip in (0x01, 0x55):
            flipped = bytearray(data)
            flipped[place] ^= flip
            images, skipped, _ = seen(written(tmp_path / "a.tar", bytes(flipped)))

            assert ("a.tar", "archive-corrupt") in skipped or inside("a.tar", THREE) == images


@pytest.mark.parametrize("text", [b"0 path=x\n", b"x path=x\n", b" path=x\n", b"9 path=xx"])
def test_attributes_without_their_length_are_named_at_once(tmp_path, text):
    """Without a limit, they would be read again and again."""
    path = written(tmp_path / "a.tar", member(b"x", text, b"x") + blocks(THREE) + ZEROS)

    images, skipped, _ = seen(path)

    assert inside("a.tar", THREE) == images
    assert [("a.tar", "archive-corrupt")] == skipped


def test_a_gzip_stream_cut_anywhere_is_named(tmp_path):
    whole = gzip.compress(blocks(THREE) + ZEROS)
    for cut in range(len(whole) - 1, 300, -50):
        images, skipped, _ = seen(written(tmp_path / "a.tar.gz", whole[:cut]))

        assert ("a.tar.gz", "archive-truncated") in skipped
        assert images.items() <= inside("a.tar.gz", THREE).items()


def test_a_wrong_checksum_of_a_gzip_stream_leaves_no_member_to_trust(tmp_path):
    whole = bytearray(gzip.compress(blocks(THREE) + ZEROS))
    whole[-8] ^= 1

    images, skipped, _ = seen(written(tmp_path / "a.tar.gz", bytes(whole)))

    assert {} == images
    assert ["a.tar.gz", *inside("a.tar.gz", THREE)] == [name for name, _ in skipped]
    assert {"archive-corrupt"} == {reason for _, reason in skipped}


def test_gzip_streams_after_one_another_are_one_as_gzip_says(tmp_path):
    data = blocks(THREE) + ZEROS
    halves = gzip.compress(data[:700]) + gzip.compress(data[700:])
    path = tmp_path / "a.tar.gz"

    assert (inside(path.name, THREE), [], {}) == seen(written(path, halves + bytes(100)))
    assert [(path.name, "archive-corrupt")] == seen(written(path, halves + b"garbage"))[1]


def test_padding_to_a_record_is_no_fault(tmp_path):
    path = written(tmp_path / "a.tar", blocks(THREE) + bytes(1 << 20))

    assert (inside("a.tar", THREE), [], {}) == seen(path)


# ── hostile ones ──


@pytest.mark.parametrize(
    "name",
    ["../../evil.png", "/etc/evil.png", "cat/../../evil.png", "..\\evil.png", "C:\\evil.png", "a/..",
     "\\\\host\\evil.png"],
)  # fmt: skip
@pytest.mark.parametrize("format_", FORMATS)
def test_names_that_lead_outside_are_listed_and_not_read(tmp_path, format_, name):
    path = packed(tmp_path / f"a.{format_}", {name: b"x", **THREE})
    if format_ == "zip":  # zipfile itself changes names
        data = path.read_bytes()
        assert name.encode() in data

    images, skipped, _ = seen(path)

    assert inside(path.name, THREE) == images
    assert [(f"{path.name}/{name}", "archive-entry-unsafe")] == skipped


def test_links_devices_pipes_and_sparse_files_of_a_tar_are_listed(tmp_path):
    kinds = {"1": "a hard link", "2": "a symbolic link", "3": "a character device",
             "4": "a block device", "6": "a named pipe"}  # fmt: skip
    data = b"".join(header(f"{kind}.png".encode(), 0, kind.encode()) for kind in kinds)
    old_gnu = member(b"S.png", b"abc", b"S", magic=b"ustar  \0")
    pax = member(b"p", b"23 GNU.sparse.size=999\n", b"x") + member(b"p.png", b"abc")
    data += old_gnu + pax + header(b"data", 0, b"2") + member(b"odd.png", b"abc", b"Z")
    path = written(tmp_path / "a.tar", data + blocks(THREE) + ZEROS)

    images, skipped, _ = seen(path)

    assert inside("a.tar", THREE) == images
    assert {"archive-entry-unsafe"} == {reason for _, reason in skipped}
    assert {
        **{f"a.tar/{kind}.png": f"{what}, not a file" for kind, what in kinds.items()},
        "a.tar/S.png": "a sparse file; pack it without --sparse",
        "a.tar/p.png": "a sparse file; pack it without --sparse",
        "a.tar/data": "a symbolic link, not a file",  # images may lie behind it
        "a.tar/odd.png": "a member of unknown type 'Z'",
    } == details(path)


def test_links_and_devices_of_a_zip_are_listed(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name, mode in (("link.png", 0o120777), ("device.png", 0o060600)):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            file.writestr(info, "/etc/passwd")
        for name, data in THREE.items():
            file.writestr(name, data)

    images, skipped, _ = seen(tmp_path / "a.zip")

    assert inside("a.zip", THREE) == images
    assert [
        ("a.zip/device.png", "archive-entry-unsafe"),
        ("a.zip/link.png", "archive-entry-unsafe"),
    ] == skipped


@pytest.mark.parametrize("format_", FORMATS)
def test_of_members_with_one_name_the_last_is_counted(tmp_path, format_):
    """So does unpacking: `tar --append` replaces files like this."""
    path = tmp_path / f"a.{format_}"
    old, new = picture(1), picture(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if format_ == "zip":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("a.png", old)
                file.writestr("z.png", old)
                file.writestr("a.png", new)
        else:
            data = blocks({"a.png": old, "z.png": old}) + blocks({"./a.png": new}) + ZEROS
            path.write_bytes(gzip.compress(data) if format_ == "tar.gz" else data)

    images, skipped, _ = seen(path)
    stats = measured(path, workers=1)

    assert {f"{path.name}/a.png": new, f"{path.name}/z.png": old} == images
    assert [(f"{path.name}/a.png", "duplicate-name")] == skipped
    assert (2, 3) == (stats.images, stats.measurement.found)
    assert (
        names_digest(name.encode() for name in sorted(images))
        == stats.measurement.source.names_sha256
    )


def test_a_gzip_bomb_is_named_and_costs_little(tmp_path, monkeypatch):
    monkeypatch.setattr(bytestream, "FREE_EXPANSION", 1 << 24)
    bomb = header(b"bomb.png", MAX_FILE_BYTES + 512)
    packer = zlib.compressobj(9, wbits=31)
    data = packer.compress(blocks(THREE) + bomb)
    for _ in range(200):
        data += packer.compress(bytes(1 << 20))
    path = written(tmp_path / "a.tar.gz", data + packer.flush())

    started = time.process_time()
    images, skipped, _ = seen(path)

    assert inside(path.name, THREE) == images
    assert [
        (path.name, "archive-entry-unsafe"),
        (f"{path.name}/bomb.png", "archive-entry-unsafe"),
    ] == skipped
    assert time.process_time() - started < 5


def zip_member(name: bytes, data: bytes, **changes: int) -> tuple[bytes, list[int | bytes]]:
    """A local header with its data, and the record for the directory but for the offset."""
    body = data if changes.get("method", 8) == 0 else zlib.compress(data)[2:-4]
    crc, size = changes.get("crc", zlib.crc32(data)), changes.get("size", len(data))
    packed_size = changes.get("packed", len(body))
    method, flags = changes.get("method", 8), changes.get("flags", 0)
    shared = (flags, method, 0, 33, crc, packed_size, size, len(name))
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, *shared[:-1], shared[-1], 0) + name + body
    return local, [name, *shared]


def zip_of(*members: tuple[bytes, list[int | bytes]], starts: list[int] | None = None) -> bytes:
    body, directory = b"", b""
    for index, (local, (name, *shared)) in enumerate(members):
        start = starts[index] if starts else len(body)
        directory += struct.pack("<4s2H", b"PK\1\2", 20, 20)
        directory += struct.pack("<4H3L5H2L", *shared, 0, 0, 0, 0, 0, start) + name
        body += local
    counts = (len(members), len(members), len(directory), len(body))
    return body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *counts, 0)


GOOD = zip_member(b"good.png", picture(7))


@pytest.mark.parametrize(
    ("bad", "reason", "detail"),
    [
        (zip_member(b"bad.png", b"x", flags=1), "archive-encrypted", "it needs a password"),
        (zip_member(b"bad.png", b"x", method=9), "archive-unsupported-compression", "compressed by method 9"),
        (zip_member(b"bad.png", b"x", method=0, size=2), "archive-corrupt", "1 bytes cannot expand to 2"),
        (zip_member(b"bad.png", bytes(9), size=9999), "archive-corrupt", "5 bytes cannot expand to 9,999"),
        (zip_member(b"bad.png", bytes(9), size=MAX_FILE_BYTES + 1), "too-large-file",
         "2,147,483,649 bytes; the limit is 2,147,483,648"),
    ],
)  # fmt: skip
def test_members_of_a_zip_that_the_directory_gives_away(tmp_path, bad, reason, detail):
    path = written(tmp_path / "a.zip", zip_of(bad, GOOD))

    images, skipped, _ = seen(path)

    assert {"a.zip/good.png": picture(7)} == images
    assert [("a.zip/bad.png", reason)] == skipped
    assert {"a.zip/bad.png": detail} == details(path)


@pytest.mark.parametrize(
    ("bad", "reason", "detail"),
    [
        (zip_member(b"bad.png", b"xyz", crc=5), "archive-corrupt", "its checksum is wrong"),
        (zip_member(b"bad.png", bytes(99), size=98), "archive-corrupt",
         "it does not expand to the 98 bytes of the directory"),
        ((GOOD[0], zip_member(b"badx.png", picture(7))[1]), "archive-corrupt",
         "its local header has another name"),
        ((zip_member(b"bad.png", picture(7), crc=1)[0], zip_member(b"bad.png", picture(7))[1]),
         "archive-corrupt", "its local header contradicts the directory"),
        ((b"PK??" + GOOD[0][4:], zip_member(b"bad.png", picture(7))[1]), "archive-corrupt",
         "no local header at byte 0"),
    ],
)  # fmt: skip
def test_members_of_a_zip_that_reading_finds_out(tmp_path, bad, reason, detail):
    name = "a.zip/" + bad[1][0].decode()
    members = (bad, GOOD)
    if bad[0][:4] == b"PK??":  # the good one in front, so that the file starts like a zip
        members, detail = (GOOD, bad), detail.replace("byte 0", f"byte {len(GOOD[0]):,}")
    path = written(tmp_path / "a.zip", zip_of(*members))
    assert name in all_names_of(source_of(path))

    found = found_in(path)

    assert [Skipped(name, Reason(reason), detail)] == found.skipped
    assert {"a.zip/good.png": picture(7)} == found.images


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_the_other_compressions_that_python_knows(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as file:
        for name, data in THREE.items():
            file.writestr(name, data)

    assert (inside("a.zip", THREE), [], {}) == seen(tmp_path / "a.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_data_of_a_zip_are_never_counted(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as file:
        file.writestr("a.png", picture(1))
    whole = (tmp_path / "a.zip").read_bytes()
    for place in range(35, whole.index(b"PK\1\2")):
        flipped = bytearray(whole)
        flipped[place] ^= 0x10
        images = found_in(written(tmp_path / "b.zip", bytes(flipped))).images

        assert {picture(1)} >= set(images.values())


def test_a_zip_of_overlapping_members_is_refused_at_once(tmp_path):
    """Fifield's bomb: 10,000 names for the same 2 MB, each of which expands to 2 GB."""
    kernel = zip_member(b"0.png", bytes(1 << 20))
    many = [(b"", [b"%d.png" % n, *kernel[1][1:-1], len(b"%d.png" % n)]) for n in range(1, 10_000)]
    path = written(tmp_path / "a.zip", zip_of(kernel, *many, starts=[0] * 10_000))

    started = time.process_time()
    images, skipped, _ = seen(path)

    assert {} == images
    assert 10_000 == len(skipped)
    assert {"it overlaps another member"} == set(details(path).values())
    assert time.process_time() - started < 5


def test_members_that_quote_one_another_are_refused(tmp_path):
    inner, outer = zip_member(b"in.png", picture(1)), b""
    outer, record = zip_member(b"out.png", inner[0], method=0)
    start = len(outer) - len(inner[0])
    data = zip_of((outer, record), (b"", inner[1]), starts=[0, start])

    images, skipped, _ = seen(written(tmp_path / "a.zip", data))

    assert {"a.zip/in.png": picture(1)} == images
    assert [("a.zip/out.png", "archive-corrupt")] == skipped


def test_damaged_zips_are_named(tmp_path):
    whole = packed(tmp_path / "a.zip", THREE).read_bytes()
    all_ = inside("a.zip", THREE)
    count = whole[:-12] + b"\x09\0" + whole[-10:]
    nested = zip_of(zip_member(b"in.zip", whole, method=0), GOOD)
    path = tmp_path / "a.zip"
    cases = {
        whole[:-30]: ({}, "archive-truncated", "its directory, which is at its end, is missing"),
        nested[: -len(whole) // 3]: ({}, "archive-truncated", "its directory, which is at its end, is missing"),
        whole + b"rest": (all_, "archive-corrupt", "4 bytes follow the end of the archive"),
        whole + whole: (all_, "archive-corrupt", f"{len(whole):,} bytes in front of the archive"),
        count: (all_, "archive-corrupt", "its directory holds 3 members, its end says 9"),
        whole[:-2] + b"\x05\0": (all_, "archive-truncated", "its comment is cut off"),
    }  # fmt: skip
    for data, (images, reason, detail) in cases.items():
        found = seen(written(path, data))

        assert (images, [("a.zip", reason)]) == found[:2], detail
        assert {"a.zip": detail} == details(path)


def test_a_zip_of_the_64_bit_kind(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name, data in THREE.items():
            with file.open(name, "w", force_zip64=True) as stream:
                stream.write(data)
    whole = (tmp_path / "a.zip").read_bytes()
    end = whole.rindex(b"PK\5\6")
    count, size, start = struct.unpack_from("<H2L", whole, end + 10)
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    wide += struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    path = written(tmp_path / "b.zip", whole[:end] + wide + last)

    assert (inside("a.zip", THREE), [], {}) == seen(tmp_path / "a.zip")
    assert (inside("b.zip", THREE), [], {}) == seen(path)


def test_random_bytes_in_archives_end_in_faults_never_in_exceptions(tmp_path):
    rng = random.Random(5)
    whole = {format_: packed(tmp_path / f"a.{format_}", THREE).read_bytes() for format_ in FORMATS}
    for round_ in range(600):
        format_ = FORMATS[round_ % 3]
        data = bytearray(whole[format_])
        for _ in range(rng.choice([1, 3, 30])):
            data[rng.randrange(4, len(data))] = rng.choice([0, 255, rng.randrange(256)])
        found_in(written(tmp_path / f"b.{format_}", bytes(data)))


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, the rest cut off, blocks put in, doubled, taken out or swapped, wrong checksums, absurd sizes.

    An even number of blocks is never taken out: that may be a whole member, and nothing shows that it is missing.
    """
    start = rng.randrange(len(data) // 512) * 512
    block, behind = data[start : start + 512], data[start + 512 :]
    bits = bytearray(data)
    for _ in range(rng.choice([1, 1, 5, 50])):
        bits[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    sizes = [b"7" * 11, b"9" * 11, b"-0000000001", b"\xff" * 12, b"\x80" + b"\xff" * 11, bytes(12)]
    field = bytearray(block.ljust(512, b"\0"))
    field[124:136] = rng.choice(sizes).ljust(12, b"\0")
    field[rng.randrange(150, 512)] ^= rng.choice([0, 0, 0, 1, 32])
    field[148:156] = b" " * 8
    field[148:156] = rng.choice([b"%06o\0 " % sum(field)] * 3 + [b"0123456\0"])
    return rng.choice([
        bytes(bits), bytes(bits), bytes(bits),
        data[: rng.randrange(len(data))],
        data[:start] + rng.choice([bytes(512), rng.randbytes(512), data[:512]]) + block + behind,
        data[:start] + data[start : start + 512 * rng.randint(1, 5)] + block + behind,
        data[:start] + rng.choice([behind, behind[1024:]]),
        data[:start] + behind[:512] + block + behind[512:],
        data[:start] + bytes(field) + behind,
        data + rng.choice([b"x", data, rng.randbytes(512)]),
    ])  # fmt: skip


@pytest.mark.parametrize("format_", FORMATS)
def test_no_damage_makes_a_count_short_in_silence(tmp_path, format_):
    """Each run ends soon; unless something is skipped, or ignored by its new name, all is there."""
    images = {f"cat/{seed}.png": picture(seed) for seed in range(8)}
    whole = packed(tmp_path / f"a.{format_}", images).read_bytes()
    if format_ == "tar":  # no padding, of which blocks could be taken out, too
        whole = blocks(images) + ZEROS
    for seed in range(700):
        data = damaged(whole, random.Random(f"{format_} {seed}"))
        path = written(tmp_path / f"b.{format_}", data)

        started = time.process_time()
        found = found_in(path)
        counted = set()
        for name, content in found.images.items():
            with suppress(Unreadable):
                decode(content, "RGB", max_pixels=100, reserve=lambda size: None)
                counted.add(name)

        assert time.process_time() - started < 5
        reported = found.skipped or found.ignored or len(counted) < len(found.images)
        assert reported or inside(f"b.{format_}", images).keys() == counted, seed


@pytest.mark.parametrize(
    ("name", "damaged_name"),
    [("cat/0.png", "cat/0.pno"), ("cat/0.png", "cat/..png"), ("cat/0.png", ".at/0.png")],
)
def test_a_name_that_is_damaged_in_the_directory_hides_no_image(tmp_path, name, damaged_name):
    """A rule would pass over it; the name that lies beside the image is whole."""
    files = {name: picture(0), "cat/1.png": picture(1), "cat/2.txt": b"a note"}
    data = packed(tmp_path / "a.zip", files).read_bytes()
    at = data.rindex(name.encode())
    path = written(tmp_path / "b.zip", data[:at] + damaged_name.encode() + data[at + len(name) :])

    found = found_in(path)

    assert ["cat/1.png"] == [one.partition("/")[2] for one in found.images]
    (skipped,) = found.skipped
    assert (Reason.ARCHIVE_CORRUPT, "its local header has another name") == (
        skipped.reason,
        skipped.detail,
    )
    assert {"suffix": 1} == found.ignored


@pytest.mark.parametrize("format_", FORMATS)
def test_what_patterns_leave_out_of_an_archive_is_ignored_and_not_damaged(tmp_path, format_):
    names = ["cat/0.png", "cat/1.png", "masks/0.png", "masks/1.txt", "note.txt"]
    path = packed(tmp_path / f"a.{format_}", {name: picture(0) for name in names})
    chosen = {
        Patterns(exclude=("masks",)): {"exclude": 2, "suffix": 1},
        Patterns(include=("cat/**",), exclude=("0.png",)): {"exclude": 2, "include": 2},
    }

    found = {patterns: listed(ArchiveSource("", [str(path)], patterns)) for patterns in chosen}

    assert chosen == {patterns: one.ignored for patterns, one in found.items()}
    assert [[], []] == [one.skipped for one in found.values()]
    assert [2, 1] == [len(one.images) for one in found.values()]


@pytest.mark.parametrize("format_", FORMATS)
def test_the_command_creates_nothing_and_runs_nothing(tmp_path, format_):
    """F40: hostile names, links and a payload; the only new file is the one asked for."""
    target = tmp_path / "elsewhere"
    target.mkdir()
    names = {f"../elsewhere/{n}.png": b"evil" for n in range(3)}
    names |= {str(target / "absolute.png"): b"evil", "run.py.png": b"import os; os.abort()"}
    path = packed(tmp_path / f"a.{format_}", {**names, **THREE})
    if format_ == "tar":
        link = header(b"link", 0, b"2", target=os.fsencode(target))
        path.write_bytes(link + member(b"link/through.png", b"evil") + path.read_bytes())
    before = sorted(tmp_path.rglob("*"))

    command = [sys.executable, "-m", "imgnorm", "stats", path, "-o", tmp_path / "stats.yaml"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )

    assert 3 == done.returncode, done.stderr
    assert sorted([*before, tmp_path / "stats.yaml"]) == sorted(tmp_path.rglob("*"))
    assert b"archive-entry-unsafe" in (tmp_path / "stats.yaml").read_bytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
def test_a_pipe_among_the_shards_is_named_and_never_waited_for(tmp_path):
    packed(tmp_path / "a.tar", THREE)
    os.mkfifo(tmp_path / "b.tar")
    (tmp_path / "c.tar").mkdir()
    written(tmp_path / "d.tar", b"")
    written(tmp_path / "e.tar", b"version https://git-lfs.github.com/spec/v1\n")
    written(tmp_path / "f.tar", b"<html>404</html>" * 99)

    images, skipped, _ = seen(*sorted(tmp_path.iterdir()))

    assert inside("a.tar", THREE) == images
    assert [
        ("b.tar", "not-a-regular-file"),
        ("c.tar", "not-a-regular-file"),
        ("d.tar", "empty-file"),
        ("e.tar", "git-lfs-pointer"),
        ("f.tar", "archive-corrupt"),
    ] == skipped


def test_an_archive_that_changes_after_listing_is_not_counted(tmp_path):
    path = packed(tmp_path / "a.tar", THREE)
    source = source_of(path)
    (unit,) = source.units()
    entries = source.images(source.listed(unit).unit)
    elsewhere = pickle.loads(pickle.dumps(source)).images(source.listed(unit).unit)
    next(entries).read()

    with path.open("ab") as file:
        file.write(bytes(512))

    for images in (entries, elsewhere):
        with pytest.raises(Unreadable, match="the archive changed while it was measured"):
            next(images).read()


@pytest.mark.parametrize("format_", FORMATS)
def test_an_archive_that_changes_while_it_is_streamed_is_read_again(tmp_path, format_):
    path = packed(tmp_path / f"a.{format_}", THREE)
    source = source_of(path)
    (unit,) = source.units()
    entries = source.images(unit)
    next(entries).read()

    os.utime(path, ns=(1, 1))

    with pytest.raises(Reread):
        next(entries)


def test_a_second_listing_forgets_the_first(tmp_path):
    path = packed(tmp_path / "a.tar", {"2.png": picture(2), "1.png": picture(1)})
    source = source_of(path)
    listed(source)

    packed(path, {f"{n}.png": picture(n) for n in range(9)})

    assert 9 == len(listed(source).images)
    assert picture(8) == listed(source).images["a.tar/8.png"]


# ── many at once ──


def test_braces_and_globs_name_the_same_shards(tmp_path):
    for number in range(12):
        packed(tmp_path / f"train-{number:03}.tar", {f"{number}.png": picture(number)})

    for pattern in (
        "train-*.tar", "train-{000..011}.tar", "train-0{00..09}.tar", "train-{000,001,0{02..11}}.tar",
        "train-0[01]?.tar", "train-{011..000}.tar",
    ):  # fmt: skip
        source = ArchiveSource(f"{tmp_path}/{pattern}", matching(f"{tmp_path}/{pattern}"))
        count = 10 if "0{00..09}" in pattern else 12

        assert [f"train-{n:03}.tar/{n}.png" for n in range(count)] == list(all_names_of(source))
        assert f"{tmp_path}/{pattern}" == source.ref


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("tar", "archive"), ("tar.gz", "archive"), ("TGZ", "archive"), ("zip", "archive"),
     ("npy", "array"), ("npz", "array")],
)  # fmt: skip
def test_a_pattern_is_known_by_its_suffix_and_no_file_is_opened(
    tmp_path, monkeypatch, suffix, kind
):
    """One shard of many measures few of them, and the others may be far away."""
    for n in range(3):
        (tmp_path / f"{n}.{suffix}").touch()
    opened: list[object] = []
    monkeypatch.setattr(os, "open", lambda path, *_: opened.append(path))

    assert kind == open_named(f"{tmp_path}/*.{suffix}").kind
    assert kind == open_named(f"{tmp_path}/{{0..2}}.{suffix}").kind
    assert [] == opened


def test_a_pattern_of_another_suffix_is_known_by_its_first_file(tmp_path):
    packed(tmp_path / "a.tar", THREE).rename(tmp_path / "1.shard")
    (tmp_path / "1.array").write_bytes(b"\x93NUMPY\1\0")

    assert "archive" == open_named(f"{tmp_path}/*.shard").kind
    assert "array" == open_named(f"{tmp_path}/*.array").kind


def test_patterns_without_archives(tmp_path):
    packed(tmp_path / "t-1.tar", THREE)
    for pattern, message in {
        "x-*.tar": "{0}/x-*.tar: no such file or folder, and no file matches this pattern; check its "
        "folders, and quote it so that the shell does not expand it",
        "t-{0..3}.tar": "{0}/t-0.tar: no such file (3 of the 4 that {0}/t-{{0..3}}.tar names are "
        "missing); get it, or name only the files that exist",
        "t-{0..99999999}.tar": "{{0..99999999}}: names more than 1,000,000 files; name fewer at once, "
        "and merge their stats",
        "t-{a..z}{1..99999}.tar": "{0}/t-{{a..z}}{{1..99999}}.tar: names more than 1,000,000 files; name "
        "fewer at once, and merge their stats",
        "t-{0..}.tar": "{0}/t-{{0..}}.tar: {{0..}} is not a range; write it like {{000..127}}, {{a..k}} or "
        "{{a,b,c}}",
        "t-{a..2}.tar": "{0}/t-{{a..2}}.tar: {{a..2}} is not a range; write it like {{000..127}}, {{a..k}} or "
        "{{a,b,c}}",
    }.items():
        with pytest.raises(SourceError) as caught:
            measure(f"{tmp_path}/{pattern}")

        assert message.format(tmp_path) == str(caught.value)


def test_ranges_of_letters_are_those_of_the_shell(tmp_path):
    for letter in "abcXY":
        packed(tmp_path / f"t-{letter}.tar", {"1.png": picture(1)})

    def files(pattern):
        return [Path(path).name for path in matching(f"{tmp_path}/{pattern}")]

    assert ["t-a.tar", "t-b.tar", "t-c.tar"] == files("t-{a..c}.tar")
    assert ["t-Y.tar", "t-X.tar"] == files("t-{Y..X}.tar")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    path = packed(tmp_path / "a[1]{2,3}.tar", THREE)

    stats = measured(path, workers=1)

    assert 3 == stats.images


def test_what_is_no_archive_is_said_so(tmp_path):
    path = written(tmp_path / "a.tar", b"text")

    with pytest.raises(SourceError) as caught:
        measure(path)

    assert (
        f"{path}: is neither a folder nor a zip, tar, tar.gz, .npy or .npz; if it lists one path a line, add --list; for other files, docs/recipes.md shows how a Dataset of yours reads them"
    ) == str(caught.value)


def test_a_link_to_nothing_among_the_shards_is_named(tmp_path):
    packed(tmp_path / "a.tar", THREE)
    (tmp_path / "b.tar").symlink_to("gone.tar")

    images, skipped, _ = seen(*map(Path, matching(f"{tmp_path}/*.tar")))

    assert inside("a.tar", THREE) == images
    assert [("b.tar", "dangling-link")] == skipped
    assert {"b.tar": "a link to nothing"} == details(tmp_path / "b.tar")


def test_what_cannot_be_measured_alone_is_said_with_what_to_do(tmp_path):
    (tmp_path / "link.tar").symlink_to("gone.tar")
    (tmp_path / "empty.tar").touch()
    packed(tmp_path / "texts.tar", {"a.txt": b"text"})
    for file, message in {
        "link.tar": "a link to a file that does not exist; get that file, or fix the link",
        "empty.tar": "an empty file (0 bytes); get it again, or make it again",
        "texts.tar": "no images in it (passed over: 1 suffix); looked for .jpg .jpeg .png .ppm .bmp .pgm .tif "
        ".tiff .webp; name an archive that holds such files, or rename those in it and pack them again",
    }.items():
        with pytest.raises(SourceError) as caught:
            measure(tmp_path / file)

        assert f"{tmp_path / file}: {message}" == str(caught.value)


def test_a_file_that_may_not_be_read_is_said_with_what_to_do(tmp_path, monkeypatch):
    path = packed(tmp_path / "a.tar", THREE)

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(SourceError) as caught:
        measure(path)

    assert (
        f"{path}: cannot be read (Permission denied); check its permissions, and that its storage works"
    ) == str(caught.value)


def test_archives_of_one_name_are_told_apart_by_their_folders(tmp_path):
    paths = []
    for folder in ("a/x", "b/x", "c"):
        (tmp_path / folder).mkdir(parents=True)
        paths.append(packed(tmp_path / folder / "t.tar", {"0.png": picture(len(paths))}))
    (tmp_path / "d").mkdir()
    paths.append(packed(tmp_path / "d" / "u.tar", {"0.png": picture(9)}))

    images, _, _ = seen(*paths)

    assert ["a/x/t.tar/0.png", "b/x/t.tar/0.png", "c/t.tar/0.png", "u.tar/0.png"] == list(images)
    assert [picture(0), picture(1), picture(2), picture(9)] == list(images.values())


def test_names_are_sorted_by_their_bytes_across_shards(tmp_path):
    for name in ("a.tar", "a.tar-b", "a", "ab.tar"):
        data = blocks({"z.png": b"1", "é.png": b"2", "b/c.png": b"3"}) + ZEROS
        written(tmp_path / name, data)

    names = list(all_names_of(source_of(*tmp_path.iterdir())))

    assert 12 == len(names)
    assert sorted(names, key=os.fsencode) == names


def test_a_reject_tells_the_member(tmp_path):
    members = {"cat/bad.png": b"no image", **THREE}
    path = written(tmp_path / "a.tar", blocks(members))

    skipped = measured(path, workers=1).skipped

    assert [("a.tar", None), ("a.tar/cat/bad.png", "cat/bad.png")] == [
        (s.name, s.member) for s in skipped
    ]


# ── in one pass ──


def unit_of(source: ArchiveSource) -> Unit:
    (unit,) = source.units()
    return unit


@pytest.mark.parametrize("format_", FORMATS)
def test_an_archive_is_opened_once_to_list_and_read_it(tmp_path, monkeypatch, format_):
    paths = [packed(tmp_path / f"{n:02}.{format_}", {f"{n}.png": picture(n)}) for n in range(50)]
    opened: list[str] = []
    open_ = archivefile.open_regular
    monkeypatch.setattr(
        archivefile, "open_regular", lambda path: opened.append(path) or open_(path)
    )
    source = source_of(*paths)
    units = list(source.units())
    assert [] == opened

    found = Found()
    found.take(source.images(units[7]))
    assert ([str(paths[7])], [picture(7)]) == (opened, list(found.images.values()))

    found.take(source.images(source.listed(units[8]).unit))
    assert [str(paths[7]), str(paths[8])] == opened
    assert [f"{n:02}.{format_}" for n in range(50)] == [unit.id for unit in units]
    assert [path.stat().st_size for path in paths] == [unit.bytes for unit in units]


@pytest.mark.parametrize("format_", ["tar", "tar.gz"])
def test_a_second_member_of_one_name_makes_the_stream_forget_the_first(tmp_path, format_):
    data = blocks({"a.png": picture(1), "z.png": picture(2)}) + blocks({"./a.png": picture(3)})
    data += ZEROS
    path = written(tmp_path / f"a.{format_}", gzip.compress(data) if format_ == "tar.gz" else data)
    entries = source_of(path).images(Unit(path.name))

    assert ["a.png", "z.png"] == [next(entries).name.partition("/")[2] for _ in range(2)]
    with pytest.raises(Reread):
        next(entries)


@pytest.mark.parametrize("size", [100, MAX_FILE_BYTES + 1, 1 << 40])
def test_a_member_that_is_cut_within_a_whole_gzip_stream_is_listed_as_in_a_tar(tmp_path, size):
    data = blocks(THREE) + header(b"cut.png", digits=b"\x80" + size.to_bytes(11, "big")) + b"png"
    written(tmp_path / "a.tar", data)
    path = written(tmp_path / "a.tar.gz", gzip.compress(data))

    found, in_tar = found_in(path), found_in(tmp_path / "a.tar")
    assert [
        ("a.tar", "it ends without its end mark, which is two zero blocks", len(data)),
        ("a.tar/cut.png", f"the archive ends within its {size:,} bytes", size),
    ] == [(s.name, s.detail, s.bytes) for s in in_tar.skipped]
    assert [s.detail for s in in_tar.skipped] == [s.detail for s in found.skipped]
    assert [path.stat().st_size, size] == [s.bytes for s in found.skipped]


def test_a_wrong_checksum_at_the_end_of_a_stream_makes_it_forget_all(tmp_path):
    whole = bytearray(gzip.compress(blocks(THREE) + ZEROS))
    whole[-8] ^= 1
    path = written(tmp_path / "a.tar.gz", bytes(whole))

    with pytest.raises(Reread):
        Found().take(source_of(path).images(Unit("a.tar.gz")))


@pytest.mark.parametrize("format_", FORMATS)
def test_a_fault_of_the_storage_makes_a_stream_start_again(tmp_path, monkeypatch, format_):
    path = packed(tmp_path / f"a.{format_}", {"1.png": os.urandom(1 << 20), "2.png": b"2"})
    source = source_of(path)
    entries = source.images(unit_of(source))
    first = next(entries)

    def failing(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", failing)
        with pytest.raises(Unreadable, match="read-error"):
            first.read()
    with pytest.raises(Reread):
        next(entries)
    with pytest.raises(Reread):
        source.rest(entries)


@pytest.mark.parametrize("format_", ["tar", "zip"])
@pytest.mark.parametrize("given", range(10))
def test_the_rest_of_a_stream_goes_to_other_workers(tmp_path, format_, given):
    """And what is skipped or ignored in it stays with the stream."""
    members = {f"{n}.png": picture(n) for n in range(9)}
    members |= {"../evil.png": b"x", "8.txt": b"x", ".8.png": b"x"}
    path = packed(tmp_path / f"a.{format_}", members)
    if format_ == "tar":
        path.write_bytes(path.read_bytes() + b"x")
    source = source_of(path)
    whole = listed(source)
    entries = source.images(unit_of(source))
    found, elsewhere = Found(), Found()
    found.take(itertools.islice(entries, given))

    rest = source.rest(entries)
    found.take(entries)
    if rest.names:
        elsewhere.take(pickle.loads(pickle.dumps(source)).images(pickle.loads(pickle.dumps(rest))))

    assert (given if given < 9 else 9) == len(found.images)
    assert rest is not None
    assert 9 - min(given, 9) == len(rest)
    assert ([], {}) == (elsewhere.skipped, elsewhere.ignored)
    both = Found(found.images | elsewhere.images, found.skipped, found.ignored)
    assert whole == both.sorted()
    assert 9 == len(whole.images)
    assert (1 + (format_ == "tar"), 2) == (len(whole.skipped), sum(whole.ignored.values()))


def test_the_rest_of_a_tar_that_repeats_a_name_must_be_read_again(tmp_path):
    data = blocks(THREE) + blocks({"cat/0.png": picture(9)}) + ZEROS
    source = source_of(written(tmp_path / "a.tar", data))
    entries = source.images(unit_of(source))
    next(entries).read()

    with pytest.raises(Reread):
        source.rest(entries)


def test_a_gzip_stream_has_no_rest_for_others(tmp_path):
    source = source_of(packed(tmp_path / "a.tar.gz", THREE))
    entries = source.images(unit_of(source))
    next(entries).read()

    assert source.rest(entries) is None
    assert 2 == len(list(entries)) - 1  # and it goes on


def test_copies_of_an_archive_are_the_same_archive(tmp_path):
    """On several machines, for example: the version has no inode."""
    path = packed(tmp_path / "a.tar", THREE)
    (tmp_path / "b").mkdir()
    copy = Path(shutil.copy2(path, tmp_path / "b" / "a.tar"))
    source, elsewhere = source_of(path), source_of(copy)
    unit = source.listed(unit_of(source)).unit
    found = Found()
    found.take(elsewhere.images(unit))

    assert unit == elsewhere.listed(unit_of(elsewhere)).unit
    assert inside("a.tar", THREE) == found.images


def test_the_places_of_members_take_eight_bytes_each(tmp_path):
    images = {f"{n:05}.png": b"" for n in range(10_000)}
    source = source_of(written(tmp_path / "a.tar", blocks(images) + ZEROS))
    places = source.listed(unit_of(source)).unit.places

    assert 80_000 <= len(pickle.dumps(places)) < 81_000


def test_an_archive_that_expands_beyond_two_tebibytes_has_places_too():
    assert [1 << 63, 1 << 64] == archivefile._compact([1 << 63, 1 << 64])


# ── bombs ──


@pytest.mark.parametrize("format_", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    ("start", "reason", "megabytes"),
    [
        (b"", "not-an-image: starts with zeros only", 30),
        (
            encoded(noise(4, 4)),
            "archive-entry-unsafe: it expands more than 100 times; unpack it, and measure the file",
            180,
        ),
    ],
    ids=["zeros", "a PNG and zeros"],
)
def test_a_small_archive_that_expands_to_a_gigabyte_takes_little_memory(
    tmp_path, format_, start, reason, megabytes
):
    """Its first bytes, or how far it expands, show that it is no image; the rest is not expanded."""
    zeros, pieces = bytes(16 << 20), 63

    def pack(data: bytes) -> bytes:
        packer = zlib.compressobj(9, wbits=-15)
        return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)

    body = pack(start) + pack(zeros) * pieces + zlib.compressobj(9, wbits=-15).flush()
    size, checksum = len(start) + len(zeros) * pieces, zlib.crc32(start)
    for _ in range(pieces):
        checksum = zlib.crc32(zeros, checksum)
    if format_ == "zip":
        _, record = zip_member(b"bomb.png", b"", crc=checksum, packed=len(body), size=size)
        local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, *record[1:], 0) + b"bomb.png" + body
        data = zip_of((local, record), GOOD)
    else:
        trailer = struct.pack("<2L", checksum, size)
        data = gzip.compress(header(b"bomb.png", size))
        data += b"\x1f\x8b\x08" + bytes(7) + body + trailer
        data += gzip.compress(bytes(-size % 512) + blocks(THREE) + ZEROS)
    path = written(tmp_path / f"a.{format_}", data)
    assert path.stat().st_size < 1 << 20
    program = (
        "import re, sys\n"
        "from imgnorm.sources.archive import ArchiveSource\n"
        "from imgnorm.tally.skipped import Unreadable\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = peak()\n"
        "source = ArchiveSource('', [sys.argv[1]])\n"
        "for image in source.images(*source.units()):\n"
        "    try: image.read()\n"
        "    except Unreadable as fault: print(fault)\n"
        "    except AttributeError: pass\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )

    fault, kilobytes = done.stdout.splitlines()
    assert reason == fault
    assert int(kilobytes) < megabytes << 10


# ── in workers ──


def test_a_slow_search_in_a_stream_is_no_stuck_image(tmp_path):
    """The worker shows signs of life while it passes over what others count."""
    signs = []
    path = packed(tmp_path / "a.tar.gz", {f"{n}.png": os.urandom(1 << 20) for n in range(8)})
    source = source_of(path)
    unit = source.listed(unit_of(source)).unit
    source.keep_alive(lambda: signs.append(1))
    worker = source_of(path)
    worker.keep_alive(lambda: signs.append(1))

    next(worker.images(unit.only([7]))).read()

    assert len(signs) > 8


def test_a_source_that_reports_to_its_process_can_be_sent_to_another(tmp_path):
    """What it calls while it seeks belongs to one process, and stays behind."""
    source = source_of(packed(tmp_path / "a.tar", THREE))
    unit = source.listed(unit_of(source)).unit
    source.keep_alive(lambda: None)  # cannot be pickled

    assert THREE["cat/0.png"] == next(pickle.loads(pickle.dumps(source)).images(unit)).read()


def test_handles_are_closed(tmp_path):
    paths = [packed(tmp_path / f"{n}.{format_}", THREE) for n in range(9) for format_ in FORMATS]
    paths += [written(tmp_path / "x.tar", b""), written(tmp_path / "x.zip", b"PK\3\4 no more")]
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    source = source_of(*paths)
    listed(source)
    streamed(source)

    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after - before <= 2
    del source
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before
