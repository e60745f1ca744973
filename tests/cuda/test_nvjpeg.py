"""JPEGs decoded on a device: with the same decoder, the result is the CPU's to the last integer."""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from devices import CPU, needs_cuda
from injection import Suicidal, needs_posix
from PIL import Image

import imgnorm
from imgnorm.cli import run
from imgnorm.cuda import device as gpu
from imgnorm.cuda import nvjpeg
from imgnorm.cuda.counter import DeviceCounter, DeviceState
from imgnorm.errors import DeviceError, MissingDependency, SourceError
from imgnorm.pixels.buffer import FoundDevice, PackedFile
from imgnorm.stats.stats import Stats

ROOT = Path(__file__).parents[2]
DECODER = "nvjpeg by Pillow as a device"


def pillow(files: Sequence[torch.Tensor], *, mode: str, device: torch.device) -> list[torch.Tensor]:
    """As TorchCodec's decode_jpeg: gray stays gray, and all fail if one does."""
    assert mode == "UNCHANGED"
    found = []
    for file in files:
        try:
            with Image.open(BytesIO(file.numpy().tobytes()), formats=("JPEG",)) as picture:
                pixels = torch.from_numpy(np.array(picture))
        except OSError as error:
            raise RuntimeError(f"Failed to decode batch: {error}") from error
        found.append(pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous())
    return found


class Decoder:
    """Pillow in the place of nvJPEG; it fails for the files that `refuses` names."""

    name = DECODER

    def __init__(self, refuses: Any = lambda file: False, error: Any = None) -> None:
        self.decoded = 0
        self.calls: list[int] = []
        self._refuses = refuses
        self._error = error or (lambda: RuntimeError("Failed to decode batch: 3"))

    def pixels_of(self, files: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        self.calls.append(len(files))
        if any(map(self._refuses, files)):
            raise self._error()
        self.decoded += len(files)
        return pillow(files, mode="UNCHANGED", device=CPU)


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> Decoder:
    return set_up(monkeypatch, Decoder())


def set_up(monkeypatch: pytest.MonkeyPatch, decoder: Decoder) -> Decoder:
    monkeypatch.setattr(gpu, "find", lambda name: FoundDevice(CPU, "cpu, as a device"))
    monkeypatch.setattr(nvjpeg, "find_decoder", lambda device: decoder)
    return decoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 ordinary JPEGs, gray and colored, and 10 that the CPU has to look at; PNGs; broken files."""
    root = tmp_path_factory.mktemp("nvjpeg") / "data"
    chance = random.Random(3)
    for index in range(24):
        path = root / "ab"[index % 2] / f"{index:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(
            index, chance.randint(1, 90), chance.randint(1, 90), "L" if index % 3 == 0 else "RGB"
        ).save(
            path,
            quality=90,
            subsampling=0 if index % 3 == 0 else index % 3,
            progressive=index % 5 == 0,
        )
    for index in range(5):
        picture(index, 30, 20 + index, "RGB").save(root / "a" / f"p{index}.png")
        picture(index, 30, 20 + index, "CMYK").save(root / "b" / f"cmyk{index}.jpg")
    whole = (root / "b" / "01.jpg").read_bytes()
    for name, data in {
        "trailing0": whole + b"more",
        "trailing1": whole + bytes(3),
        "rgb": encoded(picture(1, 40, 30, "RGB"), keep_rgb=True),
        "comment": whole[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0" + whole[2:],
        "twice": whole + whole,
    }.items():
        (root / "a" / f"{name}.jpg").write_bytes(data)
    for name, data in {
        "cut": whole[: len(whole) // 2],
        "no-end": whole[:-2],
        "empty": b"",
        "zeros": whole[: len(whole) // 2] + bytes(len(whole) // 2),
    }.items():
        (root / "a" / f"broken-{name}.jpg").write_bytes(data)
    return root


UNUSUAL = 10


def picture(seed: int, width: int, height: int, mode: str) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def stats_file(folder: Path, *arguments: object) -> tuple[int, Stats]:
    """What the command exits with, and writes."""
    output = folder / "stats.yaml"
    output.unlink(missing_ok=True)
    code = run(["stats", *map(str, arguments), "-q", "-o", str(output)])
    return code, imgnorm.read_stats(output)


def decoders_in(stats: Stats) -> dict[str, str]:
    assert stats.measurement is not None
    return dict(stats.measurement.decoders)


def without_decoders(stats: Stats) -> Stats:
    assert stats.measurement is not None
    return replace(stats, measurement=replace(stats.measurement, decoders={}))


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of some files, so that the folder has some for each shard."""
    monkeypatch.setattr("imgnorm.sources.names._MIN_RUN", 4)
    monkeypatch.setattr("imgnorm.sources.names._MAX_RUN", 6)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--mode", "RGB"],
        ["--per-class"],
        ["--shard", "1/3"],
        ["--workers", "1"],
        ["--limit", "9"],
    ],
)
@pytest.mark.usefixtures("small_units")
def test_the_file_is_that_of_the_cpu_but_for_the_decoder(
    folder, tmp_path, decoder, options, capsys
):
    here = stats_file(tmp_path, folder, *options)
    code, there = stats_file(tmp_path, folder, *options, "--decoder", "nvjpeg")

    assert here[0] == code
    assert without_decoders(here[1]) == without_decoders(there)
    assert DECODER in decoders_in(there)["JPEG"].split("; ")
    assert decoders_in(here[1])["PNG"] == decoders_in(there)["PNG"]


def test_only_ordinary_whole_files_go_to_the_device_and_the_rest_is_told(
    folder, tmp_path, decoder, capsys
):
    code = run(["stats", str(folder), "--decoder", "nvjpeg", "-o", str(tmp_path / "stats.yaml")])
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]

    assert 3 == code
    assert 24 == decoder.decoded
    assert [
        f"note     {UNUSUAL} of {24 + UNUSUAL} JPEGs were decoded on the CPU: nvJPEG does not take them, or their markers do not show that they are whole"
    ] == notes


def test_the_stats_name_the_decoder_alone_where_it_decoded_all(tmp_path, decoder, recwarn):
    (tmp_path / "a.jpg").write_bytes(encoded(picture(1, 20, 10, "RGB")))
    stats = imgnorm.measure(tmp_path, decoder="nvjpeg")

    assert stats.measurement is not None
    assert {"JPEG": DECODER} == stats.measurement.decoders
    assert [] == list(recwarn)


@pytest.mark.parametrize("batch", [1, 2_000, 1 << 20])
def test_what_has_no_room_on_the_tray_is_decoded_by_the_worker(
    folder, tmp_path, decoder, batch, monkeypatch, capsys
):
    here = stats_file(tmp_path, folder)
    monkeypatch.setattr("imgnorm.measuring.measure._MEGAPIXEL", batch)
    there = stats_file(tmp_path, folder, "--decoder", "nvjpeg", "--batch-size", 1)

    assert without_decoders(here[1]) == without_decoders(there[1])
    assert (24 if batch == 1 << 20 else 0) <= decoder.decoded <= 24


def test_files_that_the_device_refuses_are_decoded_by_the_workers(
    folder, tmp_path, monkeypatch, capsys
):
    decoder = set_up(monkeypatch, Decoder(refuses=lambda file: len(file) % 3 == 0))
    here = stats_file(tmp_path, folder, "--per-class")
    there = stats_file(tmp_path, folder, "--per-class", "--decoder", "nvjpeg")

    assert 0 < decoder.decoded < 24
    assert without_decoders(here[1]) == without_decoders(there[1])


@needs_posix
def test_a_refused_file_that_kills_its_worker_is_listed_alone(folder, monkeypatch):
    """It comes back twice: from the device, then from its dead worker."""
    decoder = set_up(monkeypatch, Decoder(refuses=lambda file: True))
    source = Suicidal(str(folder), "b/07.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        here = imgnorm.measure(source, workers=2)
        there = imgnorm.measure(source, workers=2, decoder="nvjpeg")

    assert decoder.calls
    assert here == there


@pytest.mark.parametrize(
    "found",
    [
        lambda image: image[:, :-1],
        lambda image: image.float(),
        lambda image: image[:1].expand(2, -1, -1),
        lambda image: image.flatten(),
    ],
)
def test_pixels_that_are_not_those_of_the_header_are_not_counted(
    folder, tmp_path, decoder, found, monkeypatch, capsys
):
    decode = decoder.pixels_of
    monkeypatch.setattr(decoder, "pixels_of", lambda files: [found(one) for one in decode(files)])
    here = stats_file(tmp_path, folder)
    there = stats_file(tmp_path, folder, "--decoder", "nvjpeg")

    assert here == there


def test_an_image_that_is_turned_as_exif_says_is_counted(
    folder, tmp_path, decoder, monkeypatch, capsys
):
    decode = decoder.pixels_of
    monkeypatch.setattr(
        decoder, "pixels_of", lambda files: [i.transpose(1, 2) for i in decode(files)]
    )
    here = stats_file(tmp_path, folder)
    there = stats_file(tmp_path, folder, "--decoder", "nvjpeg")

    assert without_decoders(here[1]) == without_decoders(there[1])


@pytest.mark.parametrize("fewer", [1, 3])
def test_a_device_without_memory_gets_one_file_after_the_other(
    folder, tmp_path, monkeypatch, fewer, capsys
):
    decoder = Decoder()
    decode = decoder.pixels_of

    def pixels_of(files: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        if len(files) > fewer:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(files)

    monkeypatch.setattr(decoder, "pixels_of", pixels_of)
    set_up(monkeypatch, decoder)
    here = stats_file(tmp_path, folder)
    there = stats_file(tmp_path, folder, "--decoder", "nvjpeg")

    assert without_decoders(here[1]) == without_decoders(there[1])
    assert 24 == decoder.decoded


def test_a_device_that_fails_ends_the_command_and_nothing_is_written(
    folder, tmp_path, monkeypatch, capsys
):
    failing = Decoder(
        lambda file: True, lambda: RuntimeError("Failed to synchronize CUDA stream: 719")
    )
    set_up(monkeypatch, failing)
    output = tmp_path / "stats.yaml"

    assert 2 == run(["stats", str(folder), "--decoder", "nvjpeg", "-o", str(output)])
    assert not output.exists()
    assert (
        "",
        "device cpu: Failed to synchronize CUDA stream: 719; try again, or use cpu\n",
    ) == capsys.readouterr()


def test_an_archive_is_decoded_on_the_device_too(folder, tmp_path, decoder, capsys):
    import shutil

    archive = shutil.make_archive(str(tmp_path / "data"), "tar", folder)
    here = stats_file(tmp_path, archive)
    there = stats_file(tmp_path, archive, "--decoder", "nvjpeg")

    assert 24 == decoder.decoded
    assert without_decoders(here[1]) == without_decoders(there[1])


def test_an_estimate_is_decoded_on_the_device_too(tmp_path, decoder, capsys):
    chance = np.random.default_rng(5)
    for index in range(600):
        pixels = chance.integers(90, 160, (8, 8 + index % 3, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index:03}.jpg", quality=95)
    given = [tmp_path, "--tolerance", "0.02"]
    there = stats_file(tmp_path, *given, "--decoder", "nvjpeg")

    assert there[1].estimate is not None
    assert 200 <= decoder.decoded < 600
    here = stats_file(tmp_path, *given, "--sizes", "sampled")
    assert without_decoders(here[1]) == without_decoders(there[1])


def test_real_photos_give_the_file_of_the_cpu(tmp_path, decoder, shared_data, capsys):
    given = [shared_data / "photos", "--limit", 60]
    here = stats_file(tmp_path, *given)
    there = stats_file(tmp_path, *given, "--decoder", "nvjpeg")

    assert 0 < decoder.decoded
    assert without_decoders(here[1]) == without_decoders(there[1])


@pytest.mark.usefixtures("small_units")
def test_merging_with_other_decoders_is_refused_unless_told(folder, tmp_path, decoder, capsys):
    parts = []
    for number, options in ((1, []), (2, ["--decoder", "nvjpeg"])):
        parts.append(str(tmp_path / f"{number}.yaml"))
        run(["stats", str(folder), "--shard", f"{number}/2", "-q", "-o", parts[-1], *options])
    capsys.readouterr()

    assert 2 == run(["merge", *parts])
    err = capsys.readouterr().err
    assert f"JPEG by {DECODER}, but {parts[0]} by libjpeg-turbo" in err
    assert "merge them anyway with --allow-decoders" in err
    whole = tmp_path / "whole.yaml"
    assert 0 == run(["merge", *parts, "--allow-decoders", "-q", "-o", str(whole)])
    assert DECODER in decoders_in(imgnorm.read_stats(whole))["JPEG"].split("; ")


def test_shards_of_one_device_merge_though_only_one_has_files_for_the_cpu(
    folder, tmp_path, decoder, capsys
):
    """Files that the device leaves to the CPU are part of its method."""
    parts = []
    for name in "ab":
        parts.append(str(tmp_path / f"{name}.yaml"))
        run(["stats", str(folder / name), "--decoder", "nvjpeg", "-q", "-o", parts[-1]])
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.jpg").write_bytes(encoded(picture(9, 20, 10, "RGB")))
    parts.append(str(tmp_path / "x.yaml"))
    run(["stats", str(tmp_path / "more"), "--decoder", "nvjpeg", "-q", "-o", parts[-1]])

    assert DECODER == decoders_in(imgnorm.read_stats(parts[-1]))["JPEG"]
    assert "; " in decoders_in(imgnorm.read_stats(parts[0]))["JPEG"]
    assert 0 == run(["merge", *parts, "-q"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--resize", "32", "--center-crop", "24"],
            "--resize is not done by --decoder nvjpeg; leave it out, or let the workers decode",
        ),
        (["--mode", "L"], "--mode must be auto or RGB with --decoder nvjpeg, which cannot convert"),
        (
            ["--device", "cpu"],
            "--decoder nvjpeg gives other digits than the CPU, so it needs --device cuda",
        ),
        (
            ["--device", "auto"],
            "--decoder nvjpeg gives other digits than the CPU, so it needs --device cuda",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(folder, decoder, options, message, capsys):
    assert 2 == run(["stats", str(folder), "--decoder", "nvjpeg", *options])
    assert f"{message} (see `imgnorm stats --help`)\n" == capsys.readouterr().err


def test_what_holds_no_files_is_refused(tmp_path, decoder):
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 5, 3), np.uint8))
    with pytest.raises(
        SourceError, match=r"decoder does nothing: these are pixels already; leave it out$"
    ):
        imgnorm.measure(tmp_path / "x.npy", decoder="nvjpeg")
    with pytest.raises(SourceError, match="decoder does nothing: your own Python decodes"):
        imgnorm.measure([np.zeros((4, 5, 3), np.uint8)], decoder="nvjpeg")


def test_without_a_device_it_exits_2(folder, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")

    assert 2 == run(["stats", str(folder), "--decoder", "nvjpeg"])
    assert "device cuda: torch finds no CUDA device; use cpu or auto\n" == capsys.readouterr().err


NEEDS = "--decoder nvjpeg needs torchcodec 0.17 or newer, built for CUDA"
REMEDY = "install it with `pip install torchcodec`, or leave the decoder out"


def test_without_torchcodec_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(MissingDependency) as caught:
        nvjpeg.find_decoder(CPU)

    why = "import of torchcodec halted; None in sys.modules"
    assert f"{NEEDS}, which cannot be imported ({why}); {REMEDY}" == str(caught.value)


def fake(monkeypatch: pytest.MonkeyPatch, version: str, decode: Any) -> None:
    """torchcodec, and a device that it decodes on."""
    there = SimpleNamespace(__version__=version, decoders=SimpleNamespace(decode_jpeg=decode))
    monkeypatch.setitem(sys.modules, "torchcodec", there)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")


@pytest.mark.parametrize("version", ["0.9.1", "0.16.0+cu130"])
def test_a_torchcodec_that_writes_too_early_is_refused(monkeypatch, version):
    fake(monkeypatch, version, pillow)
    with pytest.raises(MissingDependency) as caught:
        nvjpeg.find_decoder(CPU)

    assert f"{NEEDS}; this is {version}; {REMEDY}" == str(caught.value)


def test_the_decoder_is_called_by_its_version_and_its_device(monkeypatch):
    fake(monkeypatch, "0.17.0+cu130", pillow)

    assert "nvjpeg by torchcodec 0.17.0+cu130 on NVIDIA H100" == nvjpeg.find_decoder(CPU).name


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda image: image.flip(0), "a sample differs from Pillow's by 64.0 levels on average"),
        (lambda image: image[:, 1:], "a sample became torch.uint8 of shape (3, 42, 61)"),
    ],
)
def test_a_decoder_of_wrong_pixels_is_refused(monkeypatch, wrong, why):
    fake(monkeypatch, "0.17.0", lambda *a, **k: [wrong(image) for image in pillow(*a, **k)])
    with pytest.raises(DeviceError) as caught:
        nvjpeg.find_decoder(CPU)

    assert f"nvJPEG does not work on cpu ({why}); leave out --decoder nvjpeg" == str(caught.value)


@pytest.mark.gpu
@needs_cuda
def test_on_a_device_pixels_are_about_those_of_pillow():
    """nvjpeg.find_decoder compares samples; skipped where torchcodec is missing."""
    pytest.importorskip("torchcodec")

    assert nvjpeg.find_decoder(torch.device("cuda", 0)).name.startswith("nvjpeg by torchcodec ")


def test_a_batch_is_decoded_at_once():
    decoder = Decoder()
    counter = DeviceCounter(CPU, DeviceState(), file_decoder=decoder)
    files = [encoded(picture(seed, 9, 5 + seed, "RGB")) for seed in range(5)]
    packed = [
        PackedFile(index, len(file), "RGB", 9 * (5 + index), "RGB", (9, 5 + index), ("",))
        for index, file in enumerate(files)
    ]

    assert [] == counter.count("a", bytearray(b"".join(files)), packed)
    assert [5] == decoder.calls
    assert 5 == counter.decoded == counter.taken()["a"].images


def test_measuring_on_the_cpu_does_not_load_torchcodec():
    program = (
        "import sys, imgnorm; imgnorm.measure('examples/shapes', workers=1)\n"
        "print('torchcodec' in sys.modules or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "False\n" == done.stdout
