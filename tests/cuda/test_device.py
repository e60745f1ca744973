"""A whole measurement with a device gives the file of the CPU; the CPU takes the place of a device."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting import sums_of
from devices import CPU, CUDA_ERROR, DEVICES, OUT_OF_MEMORY, Failing, Pixels, noise
from injection import Leaving, Sleepy, Starved, Suicidal, needs_posix
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import imgnorm
from imgnorm.cli import run
from imgnorm.cuda import device as gpu
from imgnorm.cuda.counter import DeviceCounter
from imgnorm.errors import DeviceError, SourceError
from imgnorm.pixels.buffer import FoundDevice, PackedImages, Sender
from imgnorm.pixels.images import count_arrays
from imgnorm.settings import CHANNELS, Mode
from imgnorm.tally.tally import Tally

ROOT = Path(__file__).parents[2]


def sent_arrays(batch: int, images: np.ndarray, mode: Mode) -> Tally:
    """The tally of an array that goes through a `Sender`."""
    sender = Sender(gpu.CudaDevice(CPU, batch))
    sender.add("", images, mode)
    return sender.taken()[""]


@pytest.mark.parametrize("writable", [True, False])
def test_arrays_are_counted_as_on_the_cpu(writable):
    images = np.random.default_rng(8).integers(0, 256, (50, 12, 10, 3), np.uint8)
    images.flags.writeable = writable

    assert count_arrays(images, "RGB") == sent_arrays(1 << 9, images, "RGB")


def test_arrays_of_many_channels_are_counted_as_numpy_counts():
    images = np.random.default_rng(9).integers(0, 256, (6, 5, 4, 13), np.uint8)
    found = sent_arrays(1 << 6, images, "C13").counted["C13"]
    rows = [[np.bincount(band.ravel(), minlength=256) for band in i.T] for i in images]

    assert np.sum(rows, axis=0).tolist() == [list(c) for c in found.histogram.counts]
    assert sums_of(np.array(rows)) == found.sums


# ── a whole measurement: the same file, byte for byte ──


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a device; without CUDA, "cuda" uses the same classes on CPU tensors."""
    if request.param == "cpu":
        monkeypatch.setattr(gpu, "find", lambda name: FoundDevice(CPU, "cpu, as a device"))
    return "cuda"


@pytest.fixture
def cpu_as_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find", lambda name: FoundDevice(CPU, "cpu, as a device"))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gray, RGB, palette and 16-bit images of many sizes in two classes, some of them broken."""
    folder = tmp_path_factory.mktemp("gpu") / "data"
    for index in range(60):
        path = folder / "ab"[index % 2] / f"{index:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        mode: Mode = "L" if index % 3 == 0 else "RGB"
        width, height = 1 + index * 7 % 90, 1 + index * 5 % 70
        shape = (height, width, len(CHANNELS[mode]))
        pixels = noise(index, height * width, mode).reshape(shape)
        image = Image.fromarray(pixels[..., 0] if mode == "L" else pixels)
        if index % 10 == 7:
            image = image.convert("P")
        image.save(
            path.with_suffix(".png" if index % 4 else ".jpg" if image.mode != "P" else ".gif")
        )
    for index in range(3):
        deep = np.random.default_rng(index).integers(0, 65536, (9, 11), np.uint16)
        Image.fromarray(deep).save(folder / "a" / f"deep{index}.png")
    whole = (folder / "a" / "002.png").read_bytes()
    (folder / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "empty.jpg").write_bytes(b"")
    (folder / "b" / "text.jpg").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def on_the_cpu(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, bytes]:
    """The exit code and the stats file of the whole folder."""
    return stats_file(tmp_path_factory.mktemp("cpu"), mixed)


def stats_file(folder: Path, *arguments: object) -> tuple[int, bytes]:
    """What the command exits with, and writes."""
    output = folder / "stats.yaml"
    output.unlink(missing_ok=True)
    code = run(["stats", *map(str, arguments), "-q", "-o", str(output)])
    return code, output.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--mode", "RGB"],
        ["--mode", "L"],
        ["--mode", "RGBA"],
        ["--mode", "I;16"],
        ["--resize", "32", "--center-crop", "24"],
        ["--per-class"],
        ["--shard", "2/3"],
    ],
)
def test_a_folder_gives_the_same_file(mixed, tmp_path, device, options, monkeypatch, capsys):
    monkeypatch.setattr("imgnorm.sources.names._MIN_RUN", 4)  # some units for each shard
    monkeypatch.setattr("imgnorm.sources.names._MAX_RUN", 6)
    there = stats_file(tmp_path, mixed, *options, "--device", device)

    assert stats_file(tmp_path, mixed, *options) == there


@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_gives_the_same_file(
    mixed, tmp_path, device, workers, on_the_cpu, capsys
):
    assert on_the_cpu == stats_file(tmp_path, mixed, "--device", device, "--workers", workers)


@pytest.mark.parametrize("batch", [1, 100, 1 << 12])
def test_images_that_have_no_room_on_the_tray_are_counted_by_the_worker(
    mixed, tmp_path, device, batch, on_the_cpu, monkeypatch, capsys
):
    """No batch size changes a digit; --batch-size itself is in megapixels, more than any image here."""
    monkeypatch.setattr("imgnorm.measuring.measure._MEGAPIXEL", batch)

    assert on_the_cpu == stats_file(tmp_path, mixed, "--device", device, "--batch-size", 1)


@pytest.mark.parametrize(("pixels", "least", "most"), [(1 << 20, 60, 60), (100, 1, 59)])
def test_the_device_counts_all_images_of_8_bits_that_have_room(
    mixed, cpu_as_device, monkeypatch, pixels, least, most
):
    """Else the tests above would compare the CPU with itself."""
    monkeypatch.setattr("imgnorm.measuring.measure._MEGAPIXEL", pixels)
    counting = DeviceCounter.count
    images: list[PackedImages] = []

    def count(self: Any, group: str, buffer: Any, some: Sequence[PackedImages]) -> Any:
        images.extend(some)
        return counting(self, group, buffer, some)

    monkeypatch.setattr(DeviceCounter, "count", count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", imgnorm.SkippedImagesWarning)
        imgnorm.measure(mixed, device="cuda", workers=1)

    assert least <= len(images) <= most


def test_sixteen_bit_images_alone_are_counted_by_the_workers(mixed, tmp_path, device, capsys):
    folder = tmp_path / "deep"
    folder.mkdir()
    for path in mixed.rglob("deep*.png"):
        shutil.copy(path, folder)

    assert stats_file(tmp_path, folder) == stats_file(tmp_path, folder, "--device", device)


def test_an_archive_gives_the_same_file(mixed, tmp_path, device, capsys):
    archive = shutil.make_archive(str(tmp_path / "data"), "tar", mixed)
    there = stats_file(tmp_path, archive, "--device", device)

    assert stats_file(tmp_path, archive) == there


def test_a_list_gives_the_same_file(mixed, tmp_path, device, capsys):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{path}\n" for path in sorted(mixed.rglob("*.*"))))
    there = stats_file(tmp_path, names, "--list", "--device", device)

    assert stats_file(tmp_path, names, "--list") == there


def test_a_config_gives_the_same_file(mixed, tmp_path, device, capsys):
    config = tmp_path / "pipeline.yaml"
    config.write_text(
        f"format: imgnorm-pipeline/1\nsource: {{kind: folder, path: {mixed}}}\n"
        "image: {mode: RGB}\npreprocess: [{Resize: {size: 20}}]\n"
        "normalize: {stats: stats.yaml}\napi: v1\n"
    )

    assert stats_file(tmp_path, config) == stats_file(tmp_path, config, "--device", device)


@pytest.mark.parametrize("options", [[], ["--mode", "RGB"], ["--resize", "16"], ["--per-class"]])
def test_a_torchvision_dataset_gives_the_same_file(tmp_path, device, options, shared_data, capsys):
    given = ["torchvision:MNIST", "--root", shared_data / "mnist", "--split", "test", *options]
    given += ["--limit", "300"] if "--resize" in options else []
    there = stats_file(tmp_path, *given, "--device", device)

    assert stats_file(tmp_path, *given) == there


@pytest.mark.parametrize("channels", [1, 3, 4, 13])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("options", [[], ["--tolerance", "0.02"]])
def test_an_array_file_gives_the_same_file(tmp_path, device, channels, layout, options, capsys):
    options = [*options, "--layout", layout]
    shape = (400, channels, 9, 20) if layout == "NCHW" else (400, 9, 20, channels)
    pixels = np.random.default_rng(channels).integers(0, 256, shape, np.uint8)
    array = tmp_path / "images.npy"
    np.save(array, pixels)
    there = stats_file(tmp_path, array, *options, "--device", device)

    assert stats_file(tmp_path, array, *options) == there


def test_an_array_file_that_is_resized_gives_the_same_file(tmp_path, device, capsys):
    array = tmp_path / "images.npy"
    np.save(array, np.random.default_rng(3).integers(0, 256, (30, 9, 20, 3), np.uint8))
    there = stats_file(tmp_path, array, "--resize", 16, "--device", device)

    assert stats_file(tmp_path, array, "--resize", 16) == there


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_arrays_of_other_types_are_counted_by_the_workers(tmp_path, device, dtype, capsys):
    array = tmp_path / "images.npy"
    np.save(array, np.random.default_rng(3).integers(0, 256, (30, 9, 20, 3)).astype(dtype))

    assert stats_file(tmp_path, array) == stats_file(tmp_path, array, "--device", device)


@pytest.mark.parametrize(("pixels", "expected"), [(1 << 20, 50), (8, 0)])
def test_the_device_counts_the_blocks_of_an_array_that_have_room(
    tmp_path, cpu_as_device, monkeypatch, pixels, expected
):
    """Else the tests of arrays would compare the CPU with itself."""
    monkeypatch.setattr("imgnorm.measuring.measure._MEGAPIXEL", pixels // 8)
    counting = DeviceCounter.count
    images: list[PackedImages] = []

    def count(self: Any, group: str, buffer: Any, some: Sequence[PackedImages]) -> Any:
        images.extend(some)
        return counting(self, group, buffer, some)

    monkeypatch.setattr(DeviceCounter, "count", count)
    array = tmp_path / "images.npy"
    np.save(array, np.zeros((50, 9, 20, 3), np.uint8))
    with nullcontext() if expected else pytest.warns(imgnorm.DeviceWarning, match="counted none"):
        imgnorm.measure(array, device="cuda", workers=1)

    assert expected == sum(len(packed.names) for packed in images)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough images, and similar enough, that an estimate takes only some of them."""
    folder = tmp_path_factory.mktemp("many")
    chance = np.random.default_rng(5)
    for index in range(600):
        mode = "L" if index % 5 == 0 else "RGB"
        pixels = chance.integers(90, 160, (8, 8 + index % 3, len(CHANNELS[mode])), np.uint8)
        image = Image.fromarray(pixels[..., 0] if mode == "L" else pixels)
        image.save(folder / f"{index:03}.png")
    return folder


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--sizes", "sampled", "--seed", "3"],
        ["--sizes", "sampled", "--mode", "L", "--resize", "8"],
    ],
)
def test_an_estimate_gives_the_same_file(many, tmp_path, device, options, capsys):
    """Stage by stage, the device counts what error bars need, too."""
    given = [many, "--tolerance", "0.02", *options]
    there = stats_file(tmp_path, *given, "--device", device)

    assert b"\nestimate:" in there[1]
    assert stats_file(tmp_path, *given) == there


def test_an_estimate_in_more_than_one_stage_counts_no_image_twice(
    many, tmp_path, device, monkeypatch, capsys
):
    taking = DeviceCounter.taken
    calls: list[int] = []

    def taken(self: Any) -> dict[str, Tally]:
        tallies = taking(self)
        calls.append(sum(tally.images for tally in tallies.values()))
        return tallies

    monkeypatch.setattr(DeviceCounter, "taken", taken)
    stats = imgnorm.measure(many, tolerance=0.015, sizes="sampled", device=device, workers=1)

    assert len(calls) > 1
    assert stats.images == sum(calls)
    assert imgnorm.measure(many, tolerance=0.015, sizes="sampled") == stats


def test_the_torchvision_dataset_s_estimate_gives_the_same_file(
    tmp_path, device, shared_data, capsys
):
    given = ["torchvision:MNIST", "--root", shared_data / "mnist", "--split", "test"]
    given += ["--tolerance", "0.02"]
    there = stats_file(tmp_path, *given, "--device", device)

    assert b"\nestimate:" in there[1]
    assert stats_file(tmp_path, *given) == there


def test_a_dataset_that_holds_its_pixels_gives_the_same_stats(device, shared_data):
    from torchvision.datasets import MNIST

    dataset = MNIST(shared_data / "mnist", train=False)

    assert imgnorm.measure(dataset) == imgnorm.measure(dataset, device=device)


# ── what a user's own Python makes ──


def ragged(images: int = 60) -> list[Pixels]:
    chance = random.Random(3)
    sizes = [(chance.randint(1, 40), chance.randint(1, 40)) for _ in range(images)]
    return [bytes_of((*size, 3), index) for index, size in enumerate(sizes)]


def bytes_of(shape: tuple[int, ...], seed: int = 1) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def overwritten() -> Iterator[Pixels]:
    """One buffer for all images, as some readers have."""
    buffer = np.empty((9, 7, 3), np.uint8)
    for index in range(50):
        buffer[:] = bytes_of(buffer.shape, index)
        yield buffer


def read_only() -> Iterator[Pixels]:
    for index in range(30):
        image = bytes_of((9, 7, 3), index)
        image.flags.writeable = False
        yield image


class Classes(TensorDataset):
    """Images of two classes, by turns."""

    classes = ("a", "b")

    def __init__(self) -> None:
        self.targets = [index % 2 for index in range(70)]
        super().__init__(torch.from_numpy(bytes_of((70, 3, 8, 9))), torch.tensor(self.targets))


def planar() -> TensorDataset:
    return TensorDataset(torch.from_numpy(bytes_of((70, 3, 8, 9))), torch.arange(70))


OWN: dict[str, tuple[Any, dict[str, Any]]] = {
    "arrays of all sizes": (ragged, {}),
    "planar tensors": (planar, {}),
    "a Dataset's classes": (Classes, {"per_class": True}),
    "a Dataset's shard": (planar, {"shard": (2, 3)}),
    "a Dataset's estimate": (planar, {"tolerance": 0.1}),
    "batches": (lambda: DataLoader(planar(), batch_size=16), {}),
    "some images of batches": (lambda: DataLoader(planar(), batch_size=16), {"limit": 37}),
    "batches from workers": (lambda: DataLoader(planar(), batch_size=16, num_workers=2), {}),
    "one tensor": (lambda: torch.from_numpy(bytes_of((9, 3, 20, 30))), {}),
    "gray": (lambda: bytes_of((40, 12, 13, 1)), {"mode": "RGB"}),
    "13 channels": (lambda: bytes_of((40, 12, 13, 13)), {"layout": "NHWC"}),
    "planes of 13 channels": (lambda: bytes_of((40, 13, 12, 13)), {"layout": "NCHW"}),
    "gray and RGB in both layouts": (
        lambda: [*ragged(9), *torch.from_numpy(bytes_of((9, 3, 5, 6))), *bytes_of((9, 5, 6, 1))],
        {},
    ),
    "one buffer": (overwritten, {}),
    "read-only arrays": (read_only, {}),
    "mirrored arrays": (lambda: [image[:, ::-1] for image in ragged()], {}),
    "none": (lambda: [bytes_of((5, 6, 3)), bytes_of((0, 5, 6, 3))], {}),
}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each buffer brought to a device; with none, the CPU would be compared with itself."""
    numbers: list[int] = []
    count = DeviceCounter.count

    def counting(self: Any, group: str, buffer: Any, images: Sequence[PackedImages]) -> Any:
        numbers.append(sum(len(image.names) for image in images))
        return count(self, group, buffer, images)

    monkeypatch.setattr(DeviceCounter, "count", counting)
    return numbers


def file_of(stats: Any, folder: Path) -> bytes:
    imgnorm.write_stats(folder / "stats.yaml", stats, force=True)
    return (folder / "stats.yaml").read_bytes()


@pytest.mark.parametrize("large", [1, 1 << 10, 1 << 20])
@pytest.mark.parametrize("what", OWN)
def test_what_python_makes_gives_the_same_file(
    tmp_path, device, sent, monkeypatch, what, large, recwarn
):
    """Large arrays are sent from where they lie, small ones in a buffer."""
    monkeypatch.setattr("imgnorm.pixels.buffer._LARGE", large)
    monkeypatch.setattr("imgnorm.datasets.indexed._UNIT_IMAGES", 9)  # some for each shard
    make, options = OWN[what]
    here = imgnorm.measure(make(), **options)
    assert [] == sent
    there = imgnorm.measure(make(), device=device, **options)

    assert here == there
    assert file_of(here, tmp_path) == file_of(there, tmp_path)
    assert here.images == sum(sent)
    assert [] == list(recwarn)


def test_a_shard_without_images_needs_no_device(device, recwarn):
    assert 0 == imgnorm.measure(planar(), shard=(2, 2), device=device).images
    assert [] == list(recwarn)


@pytest.mark.parametrize("batch", [1, 50, 1000])
def test_batches_of_any_size_hold_what_python_makes(device, sent, monkeypatch, batch):
    monkeypatch.setattr("imgnorm.measuring.measure._MEGAPIXEL", batch)
    batches = [bytes_of((number, 3, 8, 9), number) for number in (1, 40, 2)]
    tensors = [torch.from_numpy(batch) for batch in batches]

    assert imgnorm.measure(tensors) == imgnorm.measure(tensors, device=device, batch_size=1)
    assert len(sent) >= 43 * 72 // max(batch, 72) // 4


def test_what_python_makes_is_counted_as_numpy_counts(device):
    images = bytes_of((40, 3, 17, 19))
    wide = images.astype(np.int64)
    found = imgnorm.measure(torch.from_numpy(images), device=device).measurement.pixels.moments()

    assert tuple(wide.sum((0, 2, 3))) == found.total
    assert tuple((wide * wide).sum((0, 2, 3))) == found.total_sq


@pytest.mark.parametrize(
    "others",
    [
        [Image.fromarray(bytes_of((8, 9, 3)))],
        [bytes_of((8, 9)).astype(np.uint16) * 99],
        [torch.from_numpy(bytes_of((3, 8, 9))) / 255],
        [torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(1))],
    ],
    ids=["PIL", "16 bits", "divided", "floats"],
)
def test_what_the_device_does_not_count_is_counted_on_the_cpu_and_told(device, others):
    with pytest.warns(imgnorm.DeviceWarning, match="counted none") as told:
        there = imgnorm.measure(others, device=device)

    assert imgnorm.measure(others) == there
    assert 1 == len(told)
    assert (
        "the device counted none of these images: it takes 8-bit pixels, from files or as arrays "
        "and tensors, that fit into a batch; the CPU counted all images" == str(told[0].message)
    )


def test_what_a_device_under_auto_does_not_count_goes_without_saying(device, recwarn):
    pictures = [Image.fromarray(bytes_of((8, 9, 3)))]

    assert imgnorm.measure(pictures) == imgnorm.measure(pictures, device="auto")
    assert [] == list(recwarn)


def test_images_of_8_bits_among_others_are_counted_there(device, sent):
    mixed_ = [Image.fromarray(bytes_of((8, 9, 3))), *ragged(20)]

    assert imgnorm.measure(mixed_) == imgnorm.measure(mixed_, device=device)
    assert 20 == sum(sent)


def test_a_factory_gives_the_same_file(tmp_path, device, sent, monkeypatch, capsys):
    (tmp_path / "own_images.py").write_text(
        "import torch\n"
        "def images():\n"
        "    chance = torch.Generator().manual_seed(1)\n"
        "    return [torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8, generator=chance) for _ in range(30)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    given = ["--dataset", "own_images:images"]
    there = stats_file(tmp_path, *given, "--device", device)

    assert stats_file(tmp_path, *given) == there
    assert 30 == sum(sent)


def test_workers_count_what_they_make(cpu_as_device):
    with pytest.raises(SourceError) as caught:
        imgnorm.measure(planar(), device="cuda", workers=2)

    assert (
        "TensorDataset[70]: device does nothing: with workers, the processes that make the images count "
        "them; leave one out, or measure a DataLoader of the dataset" == str(caught.value)
    )
    assert imgnorm.measure(planar()) == imgnorm.measure(planar(), device="auto", workers=2)


def test_a_device_without_memory_for_what_python_makes_changes_no_digit(cpu_as_device, monkeypatch):
    kernel = Failing(OUT_OF_MEMORY, lambda self, pixels, sizes: len(sizes) > 9)
    monkeypatch.setattr("imgnorm.cuda.kernel.image_histograms", kernel)
    with pytest.warns(imgnorm.DeviceWarning, match="ran out of memory: batches were halved"):
        there = imgnorm.measure(planar(), device="cuda")

    assert imgnorm.measure(planar()) == there


def test_a_device_that_fails_under_auto_is_replaced_where_images_can_be_had_again(
    cpu_as_device, monkeypatch
):
    kernel = Failing(RuntimeError(CUDA_ERROR), lambda self, pixels, sizes: True)
    monkeypatch.setattr("imgnorm.cuda.kernel.image_histograms", kernel)
    with pytest.warns(imgnorm.DeviceWarning, match="everything is counted again on the CPU"):
        there = imgnorm.measure(planar(), device="auto")

    assert imgnorm.measure(planar()) == there
    with pytest.raises(DeviceError, match="illegal memory access"):
        imgnorm.measure(overwritten(), device="auto")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_device_that_fails_in_every_thread_leaves_none_waiting(
    cpu_as_device, shared_data, monkeypatch, workers
):
    from torchvision.datasets import MNIST

    kernel = Failing(RuntimeError(CUDA_ERROR), lambda self, pixels, sizes: True)
    monkeypatch.setattr("imgnorm.cuda.kernel.image_histograms", kernel)
    dataset = MNIST(shared_data / "mnist", train=False)

    with pytest.raises(DeviceError, match="illegal memory access"):
        imgnorm.measure(dataset, resize=12, workers=workers, device="cuda")


def test_batches_for_which_this_machine_has_no_memory_are_told(cpu_as_device, monkeypatch):
    def full(*arguments: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("imgnorm.pixels.buffer.mmap.mmap", full)
    with pytest.raises(DeviceError) as caught:
        imgnorm.measure(planar(), device="cuda", batch_size=1)

    assert (
        "cannot reserve 8,388,608 bytes of memory for what is sent to the device (Cannot allocate memory); use "
        "a smaller --batch-size"
    ) == str(caught.value)


@pytest.mark.parametrize(
    "options", [["--resize", "12"], ["--resize", "9x14", "--per-class"], ["--mode", "RGBA"]]
)
def test_a_dataset_in_memory_is_preprocessed_by_threads(
    tmp_path, device, sent, options, shared_data, monkeypatch, capsys
):
    """A worker process would load torch, and the dataset, again."""
    given = ["torchvision:MNIST", "--root", shared_data / "mnist", "--split", "test"]
    given += ["--limit", "600", "--workers", "3", *options]
    here = stats_file(tmp_path, *given)
    assert [] == sent
    monkeypatch.setattr("imgnorm.measuring.routes.in_processes", None)

    assert here == stats_file(tmp_path, *given, "--device", device)
    assert 600 == sum(sent)


@needs_posix
@pytest.mark.parametrize("kind", [Suicidal, Leaving, Starved, Sleepy])
def test_an_image_that_costs_its_worker_is_listed_and_no_other_counted_twice(mixed, kind, device):
    """Images in the buffer of a worker that died are counted once, by the next worker."""
    victim = "b/031.png"
    source = kind(str(mixed), victim)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", imgnorm.SkippedImagesWarning)
        here = imgnorm.measure(source, workers=2, timeout_s=2)
        there = imgnorm.measure(source, workers=2, timeout_s=2, device=device)

    assert victim in [s.name for s in there.skipped]
    assert here == there


def test_real_photos_give_the_same_file(tmp_path, device, shared_data, capsys):
    folder = shared_data / "photos"
    there = stats_file(tmp_path, folder, "--limit", 60, "--device", device)

    assert stats_file(tmp_path, folder, "--limit", 60) == there


# ── errors ──


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """torch answers as on a machine with two devices; nothing is computed there."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    return monkeypatch


@pytest.mark.parametrize("name", ["cuda:2", "cuda:17"])
def test_an_index_that_does_not_exist_is_refused(two_devices, name):
    with pytest.raises(DeviceError) as caught:
        gpu.find(name)

    assert (
        f"device {name}: no such device; torch finds 2, numbered from cuda:0; use cpu or auto"
        == str(caught.value)
    )


def test_a_device_that_does_not_work_is_refused(two_devices):
    def zeros(*shape: int, device: torch.device) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\n")

    two_devices.setattr(torch, "zeros", zeros)
    with pytest.raises(DeviceError) as caught:
        gpu.find("cuda:1")

    why = "CUDA error: no kernel image is available for execution on the device"
    assert f"device cuda:1: {why}; use cpu or auto" == str(caught.value)
    assert FoundDevice(None, f"cpu: {why}") == gpu.find("auto")


def test_torch_without_cuda_says_so(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError) as caught:
        gpu.find("cuda")

    why = f"torch {torch.__version__} is built without CUDA"
    assert f"device cuda: {why}; use cpu or auto" == str(caught.value)
    assert FoundDevice(None, f"cpu: {why}") == gpu.find("auto")


def test_a_driver_that_does_not_work_gives_its_reason(monkeypatch):
    def is_available() -> bool:
        warnings.warn(
            "CUDA initialization: The NVIDIA driver on your system is too old. (Triggered ...)\nmore",
            stacklevel=1,
        )
        return False

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", is_available)

    assert (
        "cpu: CUDA initialization: The NVIDIA driver on your system is too old. (Triggered ...)"
        == gpu.find("auto").description
    )


# ── the command ──


def test_a_device_that_runs_out_of_memory_changes_no_byte_and_is_told_once(
    mixed, tmp_path, on_the_cpu, cpu_as_device, monkeypatch, capsys
):
    kernel = Failing(OUT_OF_MEMORY, lambda self, pixels, sizes: len(sizes) > 1)
    monkeypatch.setattr("imgnorm.cuda.kernel.image_histograms", kernel)
    monkeypatch.setattr("imgnorm.measuring.measure._MEGAPIXEL", 1 << 14)
    capsys.readouterr()
    output = tmp_path / "stats.yaml"
    code = run(["stats", str(mixed), "--device", "cuda", "-o", str(output), "--force"])
    notes = [line for line in capsys.readouterr().err.splitlines() if "memory" in line]

    assert on_the_cpu == (code, output.read_bytes())
    assert 1 == len(notes)
    assert notes[0].startswith(
        "note     device cpu ran out of memory: batches were halved, down to "
    )


def test_a_device_that_fails_under_auto_is_replaced_by_the_cpu(
    mixed, tmp_path, on_the_cpu, cpu_as_device, monkeypatch, capsys
):
    kernel = Failing(RuntimeError(CUDA_ERROR), lambda self, pixels, sizes: self.calls == 2)
    monkeypatch.setattr("imgnorm.cuda.kernel.image_histograms", kernel)
    capsys.readouterr()
    output = tmp_path / "stats.yaml"
    code = run(["stats", str(mixed), "--device", "auto", "-o", str(output), "--force"])
    err = capsys.readouterr().err

    assert on_the_cpu == (code, output.read_bytes())
    assert (
        "note     device cpu: CUDA error: an illegal memory access was encountered; try again, or use "
        "cpu; everything is counted again on the CPU" == err.splitlines()[0]
    )


def test_a_device_that_fails_in_an_estimate_under_auto_is_replaced_by_the_cpu(
    many, tmp_path, cpu_as_device, monkeypatch, capsys
):
    """The CPU begins again with the first image, so none is counted twice."""
    here = stats_file(tmp_path, many, "--tolerance", "0.015", "--sizes", "sampled")
    kernel = Failing(RuntimeError(CUDA_ERROR), lambda self, pixels, sizes: self.calls == 5)
    monkeypatch.setattr("imgnorm.cuda.kernel.image_histograms", kernel)

    assert here == stats_file(
        tmp_path, many, "--tolerance", "0.015", "--sizes", "sampled", "--device", "auto"
    )
    assert 5 <= kernel.calls


def test_a_device_that_fails_ends_the_command_and_nothing_is_written(
    mixed, tmp_path, cpu_as_device, monkeypatch, capsys
):
    kernel = Failing(RuntimeError(CUDA_ERROR), lambda self, pixels, sizes: self.calls == 2)
    monkeypatch.setattr("imgnorm.cuda.kernel.image_histograms", kernel)
    output = tmp_path / "stats.yaml"
    code = run(["stats", str(mixed), "--device", "cuda", "-o", str(output)])

    assert 2 == code
    assert not output.exists()
    assert (
        "",
        "device cpu: CUDA error: an illegal memory access was encountered; try again, or use cpu\n",
    ) == capsys.readouterr()


def test_without_a_device_cuda_exits_2_and_writes_nothing(mixed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    output = tmp_path / "stats.yaml"
    code = run(["stats", str(mixed), "--device", "cuda", "-o", str(output)])

    assert 2 == code
    assert not output.exists()
    assert (
        "",
        "device cuda: torch finds no CUDA device; use cpu or auto\n",
    ) == capsys.readouterr()


def test_without_a_device_auto_counts_on_the_cpu_and_says_so_when_asked(
    mixed, tmp_path, on_the_cpu, monkeypatch, capsys
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "12.8")

    assert on_the_cpu == stats_file(tmp_path, mixed, "--device", "auto")
    capsys.readouterr()
    run(["stats", str(mixed), "--device", "auto", "-v"])

    assert "device   cpu: torch finds no CUDA device" == capsys.readouterr().err.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--batch-size", "4"],
            "--batch-size is for --device cuda or auto; leave it out (see `imgnorm stats --help`)",
        ),
        (
            ["--device", "gpu"],
            (
                "Invalid value for '--device': 'gpu' is not a device; give cpu, cuda, auto, or a number "
                "as in cuda:1 (see `imgnorm stats --help`)"
            ),
        ),
    ],
)
def test_options_that_mean_nothing_are_refused(mixed, capsys, arguments, message):
    assert 2 == run(["stats", str(mixed), *arguments])
    assert message + "\n" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device is 'gpu'; expected cpu, cuda, cuda:N or auto"),
        ({"batch_size": 4}, "batch_size is for device cuda or auto; leave it out"),
        ({"device": "cuda", "batch_size": 0}, "batch_size is 0; it must be above 0"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(mixed, cpu_as_device, options, message):
    with pytest.raises(ValueError, match=r"device|batch_size") as caught:
        imgnorm.measure(mixed, **options)

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("device", "code", "said"),
    [
        ("cuda", 2, "{why}"),
        ("auto", 3, "device   cpu: {why}"),
    ],
)
def test_a_torch_that_cannot_be_imported_is_one_sentence(mixed, device, code, said):
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from imgnorm.cli import run\n"
        f"sys.exit(run(['stats', {str(mixed)!r}, '-v', '--device', {device!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    why = "torch is not installed; install it with `pip install torch torchvision`"

    assert code == done.returncode
    assert said.format(why=why) == done.stderr.splitlines()[0]
