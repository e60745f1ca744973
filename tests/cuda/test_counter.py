"""Buffers of images are counted on a device as on the CPU, also where it runs out of memory or fails."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from counting import sums_of
from devices import CPU, CUDA_ERROR, DEVICES, OUT_OF_MEMORY, Failing, Pixels, noise, wrong_by_one
from hypothesis import given, settings
from hypothesis import strategies as st

from imgnorm.cuda.counter import _CPU as COUNTED_HERE
from imgnorm.cuda.counter import DeviceCounter, DeviceState
from imgnorm.errors import DeviceError
from imgnorm.pixels.buffer import PackedImages
from imgnorm.settings import Mode
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import CrossSums
from imgnorm.tally.tally import Counted, Tally


def some_images(seed: int = 1, images: int = 40) -> list[tuple[Mode, Pixels]]:
    """Gray and RGB ones, mixed, of 1 to 900 pixels."""
    chance = random.Random(seed)
    modes: list[Mode] = [chance.choice(["L", "RGB"]) for _ in range(images)]
    return [(mode, noise(i, chance.randint(1, 900), mode)) for i, mode in enumerate(modes)]


def buffer_of(images: Sequence[tuple[Mode, Pixels]]) -> tuple[bytearray, list[PackedImages]]:
    """As a worker packs them: RGB with a byte of padding after each pixel."""
    packed = [
        PackedImages(m, len(p), 1 if m == "L" else 4, m, "PNG", (len(p), 1), [""])
        for m, p in images
    ]
    padded = [p if m == "L" else np.insert(p, 3, 77, axis=1) for m, p in images]
    return bytearray(b"".join(p.tobytes() for p in padded)), packed


def expected(images: Sequence[tuple[Mode, Pixels]]) -> Tally:
    """From NumPy's int64 histograms of each image, as a worker on the CPU adds them up."""
    tally = Tally()
    for mode, pixels in images:
        rows = [np.bincount(channel, minlength=256) for channel in pixels.T]
        histogram = Histogram(tuple(tuple(row.tolist()) for row in rows))
        sums = sums_of(np.stack(rows)[np.newaxis])
        each = [(len(c), sum(c.tolist()), sum(x * x for x in c.tolist())) for c in pixels.T]
        pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
        cross_sums = CrossSums(*(tuple(one[i] * one[j] for one in each) for i, j in pairs))
        tally += Tally({mode: Counted(1, histogram, sums, {mode: 1}, {"PNG": 1}, cross_sums)})
    return tally


def counted(
    images: Sequence[tuple[Mode, Pixels]],
    *,
    state: DeviceState | None = None,
    device: torch.device = CPU,
    per_tray: int = 7,
) -> Tally:
    counter = DeviceCounter(device, state or DeviceState())
    for start in range(0, len(images), per_tray):
        buffer, packed = buffer_of(images[start : start + per_tray])
        counter.count("all", buffer, packed)
        buffer[:] = bytes(len(buffer))  # as the next images would
    return taken(counter)["all"]


def taken(counter: DeviceCounter) -> dict[str, Tally]:
    """Without what follows from names and sizes; tests/cuda/test_device.py compares whole files."""
    return {
        group: replace(
            tally,
            counted={mode: replace(one, overview=None) for mode, one in tally.counted.items()},
        )
        for group, tally in counter.taken().items()
    }


def test_pieces_of_a_batch_add_up(monkeypatch):
    """A piece ends in the middle of an image, or holds many."""
    monkeypatch.setattr("imgnorm.cuda.kernel._PIECE", 100)
    images = some_images()

    assert expected(images) == counted(images, per_tray=40)


def test_a_kernel_that_counts_wrong_is_found_out(monkeypatch):
    """Histogram and sums are counted apart; where they differ, neither is trusted."""
    images = [("L", np.full((5, 1), 7, np.uint8))]
    monkeypatch.setattr("imgnorm.cuda.counter.kernel_for", lambda device: (wrong_by_one, "wrong"))
    with pytest.raises(DeviceError) as caught:
        counted(images)

    assert (
        "the device counted wrong: its histograms hold [(6, 42, 294)], but its images [(5, 35, 245)] "
        "(pixels, sum and sum of squares of each channel); use cpu, and have the device checked"
        == str(caught.value)
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("per_tray", [1, 2, 7, 40])
def test_trays_of_any_size_give_the_tally_of_the_cpu(per_tray, device):
    images = some_images()

    assert expected(images) == counted(images, per_tray=per_tray, device=torch.device(device))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 5_000))
def test_a_batch_of_any_size_gives_the_tally_of_the_cpu(seed, images, most):
    some = some_images(seed, images)

    assert expected(some) == counted(some, state=DeviceState(most))


def test_groups_are_kept_apart():
    images = some_images()
    counter = DeviceCounter(CPU, DeviceState())
    for group, part in (("a", images[:10]), ("b", images[10:30]), ("a", images[30:])):
        counter.count(group, *buffer_of(part))

    assert {
        "a": expected([*images[:10], *images[30:]]),
        "b": expected(images[10:30]),
    } == taken(counter)


def test_what_was_taken_is_not_counted_again():
    images = some_images()
    counter = DeviceCounter(CPU, DeviceState())
    counter.count("a", *buffer_of(images[:10]))

    assert {"a": expected(images[:10])} == taken(counter)
    counter.count("a", *buffer_of(images[10:]))
    assert {"a": expected(images[10:])} == taken(counter)
    assert {} == taken(counter)


def test_nothing_on_a_tray_is_nothing_counted():
    counter = DeviceCounter(CPU, DeviceState())
    counter.count("a", b"", [])

    assert {} == taken(counter)


def test_sums_of_images_are_fetched_before_they_pile_up(monkeypatch):
    """Memory on the device does not grow with the number of images, and no digit changes."""
    monkeypatch.setattr("imgnorm.cuda.counter._MOST_IMAGES", 3)
    images = some_images()

    assert expected(images) == counted(images, per_tray=2)


def test_pinned_memory_is_sent_as_it_is_and_free_at_once(monkeypatch):
    """The next batch may be written to it, so the counter waits for the device, here "meta"."""
    counter = DeviceCounter(CPU, DeviceState())
    done: list[str] = []

    class Event:
        def record(self) -> None:
            done.append("record")

        def synchronize(self) -> None:
            done.append("wait")

    pixels = torch.zeros(100, dtype=torch.uint8)
    sending = torch.Tensor.to

    def to(self: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        done.append(f"send {options}")
        return sending(self, *arguments, **options)

    monkeypatch.setattr(counter, "_staged", Event())
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda self: self is pixels)
    monkeypatch.setattr(torch.Tensor, "to", to)
    sent = counter._sent(pixels, torch.device("meta"))

    assert torch.device("meta") == sent.device
    assert ["send {'non_blocking': True}", "record", "wait"] == done
    assert counter._stage is None


@pytest.mark.parametrize("k", range(1, 21))
def test_a_device_that_is_out_of_memory_at_batch_k_changes_no_digit(monkeypatch, k):
    images = some_images(images=80)
    kernel = Failing(OUT_OF_MEMORY, lambda self, pixels, sizes: self.calls == k)
    monkeypatch.setattr("imgnorm.cuda.kernel.image_histograms", kernel)
    state = DeviceState()

    assert expected(images) == counted(images, state=state, per_tray=4)
    assert kernel.calls > k
    assert state.most is not None


@pytest.mark.parametrize("most", [1, 2_000, 5_000])
def test_batches_are_halved_until_they_fit_and_stay_so(monkeypatch, most):
    """As in accelerate's find_executable_batch_size. What does not fit alone is counted on the CPU."""
    images = some_images()
    real = DeviceCounter._counted
    sizes: list[tuple[str, int]] = []

    def fitting(self: Any, pixels: Any, part: Any, device: torch.device) -> Any:
        size = part[-1].end - part[0].start
        where = "here" if device is COUNTED_HERE else "device"
        sizes.append((where, size))
        if where == "device" and size > most:
            raise OUT_OF_MEMORY
        return real(self, pixels, part, device)

    monkeypatch.setattr(DeviceCounter, "_counted", fitting)
    state = DeviceState()

    assert expected(images) == counted(images, state=state, device=torch.device("cpu"), per_tray=40)
    lengths = [len(buffer_of([image])[0]) for image in images]
    alone = [length for length in lengths if length > most]
    assert sorted(alone) == sorted(size for where, size in sizes if where == "here")
    assert len(alone) == state.on_cpu
    tried = [size for where, size in sizes if where == "device"]
    assert tried[0] == sum(lengths)
    assert len(tried) < 3 * len(images)


def test_no_half_of_a_batch_stays_behind(monkeypatch):
    """Gray images are counted before the RGB ones of a batch run out of memory."""
    images = some_images()
    kernel = Failing(
        OUT_OF_MEMORY, lambda self, pixels, sizes: pixels.shape[1] == 3 and len(sizes) > 1
    )
    monkeypatch.setattr("imgnorm.cuda.kernel.image_histograms", kernel)

    assert expected(images) == counted(images, per_tray=40)


def test_a_cuda_error_is_one_sentence(monkeypatch):
    kernel = Failing(RuntimeError(CUDA_ERROR), lambda self, pixels, sizes: self.calls == 3)
    monkeypatch.setattr("imgnorm.cuda.kernel.image_histograms", kernel)
    with pytest.raises(DeviceError) as caught:
        counted(some_images())

    assert (
        "device cpu: CUDA error: an illegal memory access was encountered; try again, or use cpu"
        == str(caught.value)
    )


def test_another_runtime_error_is_a_bug(monkeypatch):
    kernel = Failing(RuntimeError("shape mismatch"), lambda self, pixels, sizes: True)
    monkeypatch.setattr("imgnorm.cuda.kernel.image_histograms", kernel)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        counted(some_images())
