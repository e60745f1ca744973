"""Counting on a device gives the integers that NumPy gives; the kernel and its road on CPU tensors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imgnorm import gpu
from imgnorm.count import ModeCounter, count_arrays
from imgnorm.errors import DeviceError
from imgnorm.image import CHANNELS, Mode
from imgnorm.tally import Tally
from imgnorm.tray import Packed

CPU = torch.device("cpu")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ],
    ),
]
CUDA_ERROR = (
    "CUDA error: an illegal memory access was encountered\n"
    "CUDA kernel errors might be asynchronously reported at some other API call.\n"
)

Pixels = npt.NDArray[np.uint8]


def noise(seed: int, pixels: int, mode: Mode) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (pixels, len(CHANNELS[mode])), np.uint8)


def some_images(seed: int = 1, images: int = 40) -> list[tuple[Mode, Pixels]]:
    """Gray and RGB ones, mixed, of 1 to 900 pixels."""
    chance = random.Random(seed)
    modes: list[Mode] = [chance.choice(["L", "RGB"]) for _ in range(images)]
    return [(mode, noise(i, chance.randint(1, 900), mode)) for i, mode in enumerate(modes)]


def tray_of(images: Sequence[tuple[Mode, Pixels]]) -> tuple[bytearray, list[Packed]]:
    packed = [Packed(mode, len(p), mode, "PNG") for mode, p in images]
    return bytearray(b"".join(p.tobytes() for _, p in images)), packed


def expected(images: Sequence[tuple[Mode, Pixels]]) -> Tally:
    """From NumPy's int64 histograms of each image, by the way of a worker on the CPU."""
    counters: dict[Mode, ModeCounter] = {}
    for mode, pixels in images:
        counter = counters.setdefault(mode, ModeCounter(mode))
        row = [np.bincount(channel, minlength=256) for channel in pixels.T]
        counter.add_rows(np.concatenate(row).reshape(1, -1))
        counter.modes[mode] += 1
        counter.formats["PNG"] += 1
    return Tally({mode: counter.counted() for mode, counter in counters.items()})


def counted(
    images: Sequence[tuple[Mode, Pixels]],
    *,
    room: gpu.Room | None = None,
    device: torch.device = CPU,
    per_tray: int = 7,
) -> Tally:
    counter = gpu.DeviceCounter(device, room or gpu.Room())
    for start in range(0, len(images), per_tray):
        tray, packed = tray_of(images[start : start + per_tray])
        counter.count("all", tray, packed)
        tray[:] = bytes(len(tray))  # as the next images would
    return counter.tallies()["all"]


# ── the kernel ──


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (1, 1, 1, 1), (64, 3, 32, 32), (2, 4, 100, 3)])
def test_a_histogram_of_each_image_and_channel_is_numpys(shape, device):
    images = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    N, C, _, _ = shape
    rows = torch.arange(N * C, device=device).view(N, C, 1, 1)
    found = gpu.histograms_of(torch.from_numpy(images).to(device), rows, N * C)

    assert torch.int64 == found.dtype
    assert [
        np.bincount(images[n, c].ravel(), minlength=256).tolist()
        for n in range(N)
        for c in range(C)
    ] == found.tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_channels_last_images_take_the_same_kernel(device):
    images = np.random.default_rng(6).integers(0, 256, (5, 9, 11, 3), np.uint8)
    rows = torch.arange(15, device=device).view(5, 1, 1, 3)
    found = gpu.histograms_of(torch.from_numpy(images).to(device), rows, 15)

    assert [
        np.bincount(images[n, ..., c].ravel(), minlength=256).tolist()
        for n in range(5)
        for c in range(3)
    ] == found.tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_more_than_2_to_the_24_equal_pixels_are_all_counted(device):
    """float32 stops there: that is why torch.histc is not used."""
    pixels = torch.full(((1 << 24) + 5,), 7, dtype=torch.uint8, device=device)
    found = gpu.histograms_of(pixels, torch.zeros(1, dtype=torch.int64, device=device), 1)

    assert (1 << 24) + 5 == int(found[0, 7]) == int(found.sum())


def test_only_uint8_is_counted():
    with pytest.raises(TypeError) as caught:
        gpu.histograms_of(torch.zeros(3), torch.zeros(1, dtype=torch.int64), 1)

    assert "pixels are torch.float32; expected torch.uint8" == str(caught.value)


def test_the_powers_of_a_histogram_are_those_of_its_pixels():
    pixels = noise(3, 10_000, "RGB").astype(np.int64)
    histograms = gpu.image_histograms(torch.from_numpy(pixels.astype(np.uint8)), [10_000])

    assert [pixels.sum(0).tolist(), (pixels**2).sum(0).tolist()] == gpu.powers_of(histograms)[
        0
    ].T.tolist()


def test_powers_do_not_wrap_at_32_bits():
    """2**40 white pixels: Σx² is 7e16."""
    histogram = torch.zeros(256, dtype=torch.int64)
    histogram[255] = 1 << 40

    assert [255 << 40, 255 * 255 << 40] == gpu.powers_of(histogram).tolist()


# ── trays ──


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("per_tray", [1, 2, 7, 40])
def test_trays_of_any_size_give_the_tally_of_the_cpu(per_tray, device):
    images = some_images()

    assert expected(images) == counted(images, per_tray=per_tray, device=torch.device(device))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 5_000))
def test_a_batch_of_any_size_gives_the_tally_of_the_cpu(seed, images, most):
    some = some_images(seed, images)

    assert expected(some) == counted(some, room=gpu.Room(most))


def test_groups_are_kept_apart():
    images = some_images()
    counter = gpu.DeviceCounter(CPU, gpu.Room())
    for group, part in (("a", images[:10]), ("b", images[10:30]), ("a", images[30:])):
        counter.count(group, *tray_of(part))

    assert {
        "a": expected([*images[:10], *images[30:]]),
        "b": expected(images[10:30]),
    } == counter.tallies()


def test_nothing_on_a_tray_is_nothing_counted():
    counter = gpu.DeviceCounter(CPU, gpu.Room())
    counter.count("a", b"", [])

    assert {} == counter.tallies()


def test_sums_of_images_are_fetched_before_they_pile_up(monkeypatch):
    """Memory on the device does not grow with the number of images, and no digit changes."""
    monkeypatch.setattr(gpu, "_MOST_IMAGES", 3)
    images = some_images()

    assert expected(images) == counted(images, per_tray=2)


def test_arrays_are_counted_as_on_the_cpu():
    images = np.random.default_rng(8).integers(0, 256, (50, 12, 10, 3), np.uint8)

    assert count_arrays(images, "RGB") == gpu.CudaDevice(CPU, 1 << 9).count_arrays(images, "RGB")


# ── no memory ──


class Failing:
    """The kernel, but for some of its calls."""

    def __init__(self, error: Exception, when: Any) -> None:
        self.calls = 0
        self.sizes: list[int] = []
        self._error = error
        self._when = when
        self._kernel = gpu.image_histograms

    def __call__(self, pixels: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        self.calls += 1
        self.sizes.append(pixels.numel())
        if self._when(self, pixels, sizes):
            raise self._error
        return self._kernel(pixels, sizes)


OUT_OF_MEMORY = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has"
)


@pytest.mark.parametrize("k", range(1, 21))
def test_a_device_that_is_out_of_memory_at_batch_k_changes_no_digit(monkeypatch, k):
    images = some_images()
    kernel = Failing(OUT_OF_MEMORY, lambda self, pixels, sizes: self.calls == k)
    monkeypatch.setattr(gpu, "image_histograms", kernel)
    room = gpu.Room()

    assert expected(images) == counted(images, room=room, per_tray=4)
    assert kernel.calls > k
    assert room.most is not None


@pytest.mark.parametrize("most", [1, 2_000, 5_000])
def test_batches_are_halved_until_they_fit_and_stay_so(monkeypatch, most):
    """As in accelerate's find_executable_batch_size. What does not fit alone is counted on the CPU."""
    images = some_images()
    real = gpu.DeviceCounter._counted
    sizes: list[tuple[str, int]] = []

    def fitting(self: Any, pixels: Any, part: Any, device: torch.device) -> Any:
        size = part[-1].end - part[0].start
        where = "elsewhere" if device is gpu._CPU else "device"
        sizes.append((where, size))
        if where == "device" and size > most:
            raise OUT_OF_MEMORY
        return real(self, pixels, part, device)

    monkeypatch.setattr(gpu.DeviceCounter, "_counted", fitting)
    room = gpu.Room()

    assert expected(images) == counted(images, room=room, device=torch.device("cpu"), per_tray=40)
    alone = [i.nbytes for _, i in images if i.nbytes > most]
    assert sorted(alone) == sorted(size for where, size in sizes if where == "elsewhere")
    assert len(alone) == room.on_cpu
    tried = [size for where, size in sizes if where == "device"]
    assert tried[0] == sum(i.nbytes for _, i in images)
    assert len(tried) < 3 * len(images)


def test_no_half_of_a_batch_stays_behind(monkeypatch):
    """Gray images are counted before the RGB ones of a batch run out of memory."""
    images = some_images()
    kernel = Failing(
        OUT_OF_MEMORY, lambda self, pixels, sizes: pixels.shape[1] == 3 and len(sizes) > 1
    )
    monkeypatch.setattr(gpu, "image_histograms", kernel)

    assert expected(images) == counted(images, per_tray=40)


# ── errors ──


def test_a_cuda_error_is_one_sentence(monkeypatch):
    kernel = Failing(RuntimeError(CUDA_ERROR), lambda self, pixels, sizes: self.calls == 3)
    monkeypatch.setattr(gpu, "image_histograms", kernel)
    with pytest.raises(DeviceError) as caught:
        counted(some_images())

    assert (
        "device cpu: CUDA error: an illegal memory access was encountered; try again, or use cpu"
        == str(caught.value)
    )


def test_another_runtime_error_is_a_bug(monkeypatch):
    kernel = Failing(RuntimeError("shape mismatch"), lambda self, pixels, sizes: True)
    monkeypatch.setattr(gpu, "image_histograms", kernel)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        counted(some_images())


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """torch as it answers on a machine with two; nothing is computed there."""
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
        f"device {name}: there is no such device; torch finds 2, from cuda:0 on; use cpu or auto"
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
    assert gpu.Found(None, f"cpu: {why}") == gpu.find("auto")


def test_torch_without_cuda_says_so(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError) as caught:
        gpu.find("cuda")

    why = f"torch {torch.__version__} is built without CUDA"
    assert f"device cuda: {why}; use cpu or auto" == str(caught.value)
    assert gpu.Found(None, f"cpu: {why}") == gpu.find("auto")


def test_a_driver_that_does_not_work_gives_its_reason(monkeypatch):
    def is_available() -> bool:
        import warnings

        warnings.warn(
            "CUDA initialization: The NVIDIA driver on your system is too old. (Triggered ...)\nmore",
            stacklevel=1,
        )
        return False

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", is_available)

    assert (
        "cpu: CUDA initialization: The NVIDIA driver on your system is too old. (Triggered ...)"
        == gpu.find("auto").words
    )
