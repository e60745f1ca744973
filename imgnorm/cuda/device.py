"""A CUDA device, found by its name, and the counters that use it."""

from __future__ import annotations

import warnings

import torch

from imgnorm.cuda.counter import DeviceCounter, DeviceState, FileDecoder
from imgnorm.cuda.kernel import kernel_for
from imgnorm.errors import DeviceError
from imgnorm.pixels.buffer import FoundDevice
from imgnorm.wording import headline


def find(name: str) -> FoundDevice:
    """The device of a name: "cuda", "cuda:N"; or "auto", which may be the CPU.

    Raises:
        DeviceError: no such device exists, or it does not work.
    """
    try:
        device = _cuda(name)
    except DeviceError as error:
        if name != "auto":
            raise DeviceError(f"device {name}: {error}; use cpu or auto") from error
        return FoundDevice(None, f"cpu: {error}")
    _, kernel = kernel_for(device)
    return FoundDevice(
        device, f"{device}: {torch.cuda.get_device_name(device)}, counts with {kernel}"
    )


class CudaDevice:
    """One device, and all counters that use it.

    Args:
        batch: how many pixels one counter sends at once.
        file_decoder: decodes JPEGs on the device; without it, the workers decode.
    """

    def __init__(
        self, device: torch.device, batch: int, file_decoder: FileDecoder | None = None
    ) -> None:
        self.batch = batch
        self._device = device
        self._file_decoder = file_decoder
        self._state = DeviceState()
        self._counters: list[DeviceCounter] = []

    @property
    def used(self) -> bool:
        """Whether a device has counted any image."""
        return self._state.used

    def note_use(self) -> None:
        """Notes that a device has counted images: tensors are counted where they lie, which may be another
        device."""
        self._state.used = True

    @property
    def decoded(self) -> int:
        """How many files it has decoded."""
        return sum(counter.decoded for counter in self._counters)

    def counter(self) -> DeviceCounter:
        counter = DeviceCounter(self._device, self._state, file_decoder=self._file_decoder)
        self._counters.append(counter)
        return counter

    def shortage(self) -> str | None:
        """A note about too little memory on the device, shown once, after all is counted."""
        if self._state.most is None:
            return None
        alone = f", and {self._state.on_cpu:,} images were counted on the CPU"
        return (
            f"device {self._device} ran out of memory: batches were halved, down to "
            f"{self._state.most:,} bytes of pixels{alone if self._state.on_cpu else ''}; the digits are "
            "the same"
        )


def _cuda(name: str) -> torch.device:
    with warnings.catch_warnings(record=True) as caught:  # they say why a driver does not work
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if torch.version.cuda is None:
        raise DeviceError(f"torch {torch.__version__} is built without CUDA")
    if not count:
        why = headline(caught[0].message) if caught else "torch finds no CUDA device"
        raise DeviceError(why)
    _, _, index = name.partition(":")
    if index and int(index) >= count:
        raise DeviceError(f"no such device; torch finds {count}, numbered from cuda:0")
    try:
        device = torch.device("cuda", int(index) if index else torch.cuda.current_device())
        torch.zeros(1, device=device).add_(1).cpu()
    except RuntimeError as error:  # taken by another process, or too old for this torch
        raise DeviceError(headline(error)) from error
    return device
