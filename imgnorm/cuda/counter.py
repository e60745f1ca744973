"""Images packed in a buffer -> tallies, counted on a device in integers.

`DeviceCounter` sends the images of a buffer to the device and has a kernel count them. It sends smaller
batches where the device runs out of memory, and counts an image on the CPU that does not fit alone. JPEG
files are decoded on the device first. `Counts` keeps the results on the device until they are taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from imgnorm.cuda.errors import cuda_errors_translated, is_cuda_error
from imgnorm.cuda.kernel import kernel_for
from imgnorm.errors import DeviceError
from imgnorm.pixels.buffer import PackedFile, PackedImages
from imgnorm.pixels.each import EachImage
from imgnorm.pixels.images import cross_sums_of, sums_of_powers
from imgnorm.pixels.overview import OverviewCounter
from imgnorm.settings import Mode, channels_of, scale_of
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import CrossSums, ImageSums
from imgnorm.tally.tally import Counted, Tally

_BINS = 256
_MOST_IMAGES = 1 << 16
"""Images whose sums stay on the device. Then they are fetched, so that memory does not grow."""
_CPU = torch.device("cpu")


class Placed(NamedTuple):  # made faster than a dataclass, once for each image
    """One image, and where its bytes are in the buffer."""

    start: int
    end: int
    image: PackedImages | PackedFile
    name: str


_Batch = tuple[Sequence[Placed], Tensor, Tensor]
"""Images of one mode, and the histogram and the sums that a kernel gives for them."""


class FileDecoder(Protocol):
    """Decodes JPEG files on a device: `nvjpeg.NvJpeg`."""

    @property
    def name(self) -> str:
        """The decoder's name, version and device, for stats files."""

    def pixels_of(self, files: Sequence[Tensor]) -> list[Tensor]:
        """uint8, (C, H, W), of each file.

        Raises:
            RuntimeError: one of them cannot be decoded, or the device failed.
        """


@dataclass
class DeviceState:
    """What all counters of one device share."""

    most: int | None = None  # bytes of pixels that it takes at once; None: a whole buffer
    used: bool = False  # it has counted an image
    on_cpu: int = 0  # images that it had no memory for, even alone

    def out_of_memory(self, size: int) -> None:
        """Notes that it had no memory for `size` bytes of pixels: halves what it gets."""
        self.most = min(self.most or size, max(1, size // 2))


class DeviceCounter:
    """Counts buffers of images on a device. Not thread-safe: make one per thread. It has its own stream.

    It waits for the device only where memory is used again (a batch must have been copied before the
    next one takes its place), for the sums of every 65,536 images, and once at the end.
    """

    def __init__(
        self,
        device: torch.device,
        state: DeviceState,
        *,
        file_decoder: FileDecoder | None = None,
    ) -> None:
        """
        Args:
            file_decoder: decodes JPEG files on the device; without it, none may be in a buffer.
        """
        self.decoded = 0  # files that the device has decoded
        self._device = device
        self._state = state
        self._file_decoder = file_decoder
        self._counts = Counts()
        self._stage: Tensor | None = None  # pinned memory, from which the device copies
        with cuda_errors_translated(device):
            on_gpu = device.type == "cuda"
            self._stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
            self._staged = torch.cuda.Event(blocking=True) if on_gpu else None  # type: ignore[no-untyped-call]

    def count(
        self, group: str, buffer: Any, images: Sequence[PackedImages | PackedFile]
    ) -> list[int]:
        """Adds these images to a group; afterwards the buffer may be filled again.

        Args:
            buffer: a writable buffer with the pixels of the images, or their files, one behind the other.

        Returns:
            the `index` of each file that the device does not decode; it is not counted.

        Raises:
            DeviceError: the device failed.
        """
        if not images:
            return []
        places = places_of(images)
        content = torch.frombuffer(buffer, dtype=torch.uint8, count=places[-1].end)
        files = [p for p in places if isinstance(p.image, PackedFile)]
        with cuda_errors_translated(self._device), self._on_stream():
            self._count(group, content, [p for p in places if isinstance(p.image, PackedImages)])
            return self._count_files(group, content, files)

    def taken(self) -> dict[str, Tally]:
        """All that was counted, by group; from now on it counts from zero.

        Raises:
            DeviceError: the device failed.
        """
        with cuda_errors_translated(self._device), self._on_stream():
            tallies = self._counts.taken()
        self._stage = None  # counters are kept; torch keeps this memory for the next one
        return tallies

    def _on_stream(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream) if self._stream else nullcontext()

    def _count(self, group: str, pixels: Tensor, placed: Sequence[Placed]) -> None:
        for part in _parts(placed, self._state.most) if placed else ():
            try:
                found = self._counted(pixels, part, self._device)
            except torch.OutOfMemoryError:
                found = None  # the error keeps tensors alive: try again only when it is gone
            if found is None:
                self._state.out_of_memory(part[-1].end - part[0].start)
                if self._stream:
                    torch.cuda.empty_cache()
                if len(part) > 1:
                    self._count(group, pixels, part)
                    continue
                self._state.on_cpu += 1
                found = self._counted(pixels, part, _CPU)
            else:
                self._state.used = True
            self._counts.add(group, found)

    def _count_files(self, group: str, content: Tensor, files: Sequence[Placed]) -> list[int]:
        """The `index` of each file that cannot be decoded there, alone and with all memory free."""
        if not files:
            return []
        try:
            pixels = self._decoded(content, files)
            whole = [(p, image) for p, image in zip(files, pixels, strict=True) if _fits(p, image)]
            found = self._counted_planes(whole)
        except RuntimeError as error:
            if is_cuda_error(error) and not isinstance(error, torch.OutOfMemoryError):
                raise
            whole, found = [], None  # the error keeps tensors alive: try again only when it is gone
        if found is None:
            if self._stream:
                torch.cuda.empty_cache()
            if len(files) == 1:
                return [_index(files[0])]
            # One by one, not by halves: after each failure nvJPEG is set up anew, which takes longest.
            return [index for one in files for index in self._count_files(group, content, [one])]
        counted = [p for p, _ in whole]
        if counted:
            assert self._file_decoder is not None
            self._counts.add(group, found)
            self._state.used = True
            self._counts.decoders[group] = {"JPEG": self._file_decoder.name}
            self.decoded += len(counted)
        return [_index(p) for p in files if p not in counted]

    def _decoded(self, content: Tensor, files: Sequence[Placed]) -> list[Tensor]:
        """The pixels of each file, in memory that nothing else uses.

        That memory may have been freed a moment ago, while kernels of this stream are still to read it.
        nvJPEG's hardware does not wait for a stream, so this method does. (pytorch/vision#9606)
        """
        assert self._file_decoder is not None
        if self._staged:
            self._staged.record()
            self._staged.synchronize()  # sleeps; Stream.synchronize() keeps a core busy in each thread
        return self._file_decoder.pixels_of([content[p.start : p.end] for p in files])

    def _counted_planes(self, images: Sequence[tuple[Placed, Tensor]]) -> list[_Batch]:
        """Like `_counted`, for images whose channels are planes; gray ones may be wanted as RGB."""
        kernel, _ = kernel_for(self._device)
        found: list[_Batch] = []
        for mode in {p.image.mode: None for p, _ in images}:
            planes = len(channels_of(mode))
            alike = [(p, image) for p, image in images if p.image.mode == mode]
            flat = [image.expand(planes, -1, -1).reshape(-1) for _, image in alike]
            sizes = [p.image.pixels for p, _ in alike for _ in range(planes)]
            pixels = flat[0] if len(flat) == 1 else torch.cat(flat)
            found.append(([p for p, _ in alike], *kernel(pixels[:, None], sizes, planes)))
        return found

    def _counted(
        self, pixels: Tensor, part: Sequence[Placed], device: torch.device
    ) -> list[_Batch]:
        """Adds nothing to the counts yet: if the device runs out of memory, no half of a batch is added."""
        first = part[0].start
        sent = self._sent(pixels[first : part[-1].end], device)
        kernel, _ = kernel_for(device)
        found: list[_Batch] = []
        for kind in {_kind(p): None for p in part}:
            alike = [p for p in part if _kind(p) == kind]
            runs = [sent[start - first : end - first] for start, end in _runs(alike)]
            flat = runs[0] if len(runs) == 1 else torch.cat(runs)
            sizes = [p.image.pixels for p in alike]
            mode, depth, in_planes = kind
            channels = len(channels_of(mode))
            if in_planes:
                plane_sizes = [size for size in sizes for _ in range(channels)]
                counts = kernel(flat[:, None], plane_sizes, channels)
            else:
                counts = kernel(flat.view(-1, depth)[:, :channels], sizes, 1)
            found.append((alike, *counts))
        return found

    def _sent(self, pixels: Tensor, device: torch.device) -> Tensor:
        """The pixels on the device, or on their way to it; their memory here may be written to at once."""
        if self._staged is None or device.type == "cpu":
            return pixels
        if pixels.is_pinned():  # by a DataLoader, say: its owner may write there again
            sent = pixels.to(device, non_blocking=True)
            self._staged.record()
            self._staged.synchronize()
            return sent
        self._staged.synchronize()  # the last pixels may still be on their way
        if self._stage is None or len(self._stage) < len(pixels):
            self._stage = torch.empty(len(pixels), dtype=torch.uint8, device=_CPU, pin_memory=True)
        stage = self._stage[: len(pixels)]
        stage.copy_(pixels)
        sent = stage.to(device, non_blocking=True)
        self._staged.record()
        return sent


class Counts:
    """What was counted, by group and mode; it stays on the device until it is taken."""

    def __init__(self) -> None:
        self.decoders: dict[str, dict[str, str]] = {}  # group -> format -> decoder
        self._modes: dict[tuple[str, Mode], _ModeCounts] = {}
        self._unfetched = 0  # images whose sums are on the device

    def add(self, group: str, found: Sequence[_Batch]) -> None:
        for images, histogram, powers in found:
            mode = images[0].image.mode
            if (group, mode) not in self._modes:
                self._modes[group, mode] = _ModeCounts(mode)
            self._modes[group, mode].add(images, histogram, powers)
            self._unfetched += len(images)
        if self._unfetched >= _MOST_IMAGES:
            self._fetch()

    def taken(self) -> dict[str, Tally]:
        """All of it, by group, once the device is done; from now on it counts from zero."""
        tallies: dict[str, Tally] = {}
        self._fetch()
        for (group, mode), counts in self._modes.items():
            counted = Tally({mode: counts.counted()}, decoders=self.decoders.get(group, {}))
            tallies[group] = tallies.get(group, Tally()) + counted
        self._modes.clear()
        self.decoders.clear()
        return tallies

    def _fetch(self) -> None:
        for counts in self._modes.values():
            counts.fetch()
        self._unfetched = 0


class _ModeCounts:
    """What was counted of one group in one mode."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._file_modes: Counter[str] = Counter()
        self._formats: Counter[str] = Counter()
        # By device: images that the device has no memory for are counted, and kept, on the CPU.
        self._histograms: dict[torch.device, Tensor] = {}
        self._unfetched: list[tuple[Sequence[Placed], Tensor]] = []
        self._sums: ImageSums | None = None
        self._pixels = 0
        self._powers: npt.NDArray[Any] = np.zeros((len(channels_of(mode)), 2), object)
        self._cross_sums = CrossSums.zero(len(channels_of(mode)))
        self._overview = OverviewCounter(mode)

    def add(self, images: Sequence[Placed], histogram: Tensor, powers: Tensor) -> None:
        """
        Args:
            histogram: int64, (channels, 256), of all images together; it is kept, and added to.
            powers: int64, (images, channels, 2).
        """
        self._unfetched.append((images, powers))
        if histogram.device in self._histograms:
            self._histograms[histogram.device] += histogram
        else:
            self._histograms[histogram.device] = histogram

    def fetch(self) -> None:
        """Waits for the sums of images that are still on the device."""
        if not self._unfetched:
            return
        images = [one for some, _ in self._unfetched for one in some]
        powers = np.concatenate([powers.cpu().numpy() for _, powers in self._unfetched])
        self._unfetched.clear()
        self._file_modes.update(one.image.file_mode for one in images)
        self._formats.update(one.image.format for one in images)
        pixels = np.array([one.image.pixels for one in images], np.int64)
        each = EachImage(
            self._mode,
            [one.name for one in images],
            [(one.image.format, one.image.file_mode, *one.image.size, None, "") for one in images],
            pixels[:, None],
            powers[:, :, 0],
            powers[:, :, 1],
        )
        self._overview.add(each, [one.image.size for one in images])
        sums = sums_of_powers(each.pixels, each.total, each.total_sq, scale_of(self._mode))
        self._sums = sums if self._sums is None else self._sums + sums
        self._pixels += int(pixels.sum())
        self._powers += powers.sum(axis=0)
        self._cross_sums += cross_sums_of(each.pixels, each.total, each.total_sq)

    def counted(self) -> Counted:
        assert self._sums is not None
        histogram = Histogram.zero(len(channels_of(self._mode)), _BINS)
        for on_device in self._histograms.values():
            histogram += Histogram(tuple(tuple(c) for c in on_device.cpu().tolist()))
        self._check_sums(histogram)
        return Counted(
            self._sums.images,
            histogram,
            self._sums,
            dict(self._file_modes),
            dict(self._formats),
            self._cross_sums,
            self._overview.overview(),
        )

    def _check_sums(self, histogram: Histogram) -> None:
        """Compares, for each channel, the histogram and the images' sums, which are counted apart.

        Raises:
            DeviceError: they differ, so neither can be trusted.
        """
        moments = histogram.moments()
        found = [
            (sum(counts), total, total_sq)
            for counts, total, total_sq in zip(
                histogram.counts, moments.total, moments.total_sq, strict=True
            )
        ]
        expected = [(self._pixels, *powers) for powers in self._powers.tolist()]
        if found != expected:
            raise DeviceError(
                f"the device counted wrong: its histograms hold {found}, but its images {expected} "
                "(pixels, sum and sum of squares of each channel); use cpu, and have the device checked"
            )


def _kind(placed: Placed) -> tuple[Mode, int, bool]:
    """What images have in common that are counted at once."""
    return placed.image.mode, placed.image.depth, placed.image.planes


def _index(placed: Placed) -> int:
    assert isinstance(placed.image, PackedFile)
    return placed.image.index


def _fits(placed: Placed, image: Tensor) -> bool:
    """Whether a decoded image is as the file's header says, but for a rotation that EXIF asks for."""
    channels = 1 if placed.image.file_mode == "L" else 3
    alike = image.dtype == torch.uint8 and image.ndim == 3 and len(image) == channels
    return alike and image[0].numel() == placed.image.pixels


def places_of(images: Sequence[PackedImages | PackedFile]) -> list[Placed]:
    """Each of the images of a buffer."""
    places: list[Placed] = []
    start = 0
    for one in images:
        size = one.bytes // len(one.names)
        for name in one.names:
            places.append(Placed(start, start + size, one, name))
            start += size
    return places


def _parts(placed: Sequence[Placed], most: int | None) -> Iterator[Sequence[Placed]]:
    """Neighbours of at most `most` bytes together, or one image that is larger."""
    begin = 0
    for index, one in enumerate(placed):
        if index > begin and most is not None and one.end - placed[begin].start > most:
            yield placed[begin:index]
            begin = index
    yield placed[begin:]


def _runs(placed: Sequence[Placed]) -> list[tuple[int, int]]:
    """Start and end of each run of images whose bytes follow one another."""
    runs: list[tuple[int, int]] = []
    for one in placed:
        if runs and runs[-1][1] == one.start:
            runs[-1] = runs[-1][0], one.end
        else:
            runs.append((one.start, one.end))
    return runs
