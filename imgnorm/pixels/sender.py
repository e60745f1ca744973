"""Pixels in the memory of this process -> a device that counts them."""

from __future__ import annotations

import mmap
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from imgnorm.errors import DeviceError
from imgnorm.pixels.batch import Device, Packed, Tray, TraySize
from imgnorm.settings import Mode
from imgnorm.tally.tally import Tally

_LARGE = 1 << 20
"""Arrays of so many bytes are sent from where they lie; smaller ones wait on a tray for one another."""


class Sender:
    """Has a device count; for one thread at a time.

    Attributes:
        tray: takes images for `send`, as a worker's does.
    """

    def __init__(self, device: Device, *, products: bool = False) -> None:
        """
        Raises:
            DeviceError: there is no memory for a batch.
        """
        size = TraySize(4 * device.batch)
        try:
            self._memory = mmap.mmap(-1, size.bytes)  # none is taken before it is written to
        except OSError as error:
            raise DeviceError(
                f"there are no {size.bytes:,} bytes of memory for what is sent to the device "
                f"({error.strerror}); use a smaller --batch-size"
            ) from error
        self.tray = Tray(self._memory, size)
        self.device = device
        self._counter = device.counter(products=products)
        self._group = ""  # of what lies on the tray

    def add(self, group: str, images: npt.NDArray[np.uint8], mode: Mode) -> None:
        """
        Args:
            images: (N, H, W, C) with the channels of `mode`, in any layout in memory; they may change
                afterwards. N may be 0.

        Raises:
            DeviceError: the device failed.
        """
        if group != self._group:
            self.send(self._group)
            self._group = group
        at_once = max(1, self.device.batch // max(1, images.shape[1] * images.shape[2]))
        for start in range(0, len(images), at_once):
            self._add(images[start : start + at_once], mode)

    def send(self, group: str) -> None:
        """What lies on the tray is of this group, and is counted.

        Raises:
            DeviceError: the device failed.
        """
        self._counter.count(group, self._memory, self.tray.cleared())

    def taken(self) -> Mapping[str, Tally]:
        """All that was sent, by group; from now on it counts from zero.

        Raises:
            DeviceError: the device failed.
        """
        self.send(self._group)
        return self._counter.taken()

    def _add(self, images: npt.NDArray[np.uint8], mode: Mode) -> None:
        number, height, width, channels = images.shape
        planes = images.transpose(0, 3, 1, 2)
        in_planes = channels > 1 and planes.flags.c_contiguous
        dense = planes if in_planes else np.ascontiguousarray(images)
        packed = Packed(mode, height * width, channels, mode, "array", number, in_planes)
        if packed.bytes < _LARGE and self.tray.put(packed, lambda: dense.reshape(-1).data):
            if self.tray.full:
                self.send(self._group)
            return
        if not dense.flags.writeable:  # torch would warn, though it only reads
            dense = dense.copy()
        self._counter.count(self._group, dense, [packed])
