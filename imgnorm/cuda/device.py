"""The same tally on a CUDA device: workers decode, the device counts, in integers only.

There are two kernels. The plain one is torch's own operations: a pixel's value, its image and its
channel together are the place of one int64 counter, so one `scatter_add_` gives the histograms of all
images of a batch, and their sums follow from them. (Neither `torch.histc`, which counts in float32 and
stops at 2**24, nor `torch.bincount`, which waits for the device to look for the largest value.) It
moves 24 bytes for each value; `gpu_kernel` reads each once, and is taken where it gives the same.

Every operation here is the same on CPU tensors, which is how it is tested without a device.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from imgnorm.errors import DeviceError
from imgnorm.pixels.buffer import Found, PackedFile, PackedImages, Sender
from imgnorm.pixels.images import cross_sums_of, sums_of_powers
from imgnorm.settings import Mode, channels_of, scale_of
from imgnorm.tally.histogram import Histogram
from imgnorm.tally.moments import CrossSums, ImageSums
from imgnorm.tally.tally import Counted, Tally
from imgnorm.wording import headline

_BINS = 256
_PIECE = 1 << 21  # pixels
_MOST_IMAGES = 1 << 16
"""Images whose sums stay on the device; then they are fetched, so that memory does not grow."""
_CPU = torch.device("cpu")


Counting = Callable[[Tensor, Sequence[int], int], tuple[Tensor, Tensor]]
"""`counts_of`, or what gives the same."""


def counts_of(pixels: Tensor, sizes: Sequence[int], planes: int = 1) -> tuple[Tensor, Tensor]:
    """The histogram of all images of a batch, and Σx and Σx² of each.

    Args:
        pixels: uint8, (all pixels, channels), one image after the other; more bytes may lie between
            two pixels.
        sizes: how many pixels each image has.
        planes: where the channels of an image lie one behind the other, how many those are; each is
            then an image of one channel, with a size of its own.

    Returns:
        int64, (channels * planes, 256) and (images, channels * planes, 2).
    """
    shape = len(sizes) // planes, planes * pixels.shape[1], _BINS
    histograms = image_histograms(pixels, sizes).view(shape)
    return histograms.sum(0), powers_of(histograms)


def histograms_of(pixels: Tensor, rows: Tensor, number: int) -> Tensor:
    """How often each value occurs in each row: int64, (number, 256).

    Integers only, so the result depends neither on the device nor on the order of its threads. Needs
    8 bytes a value. Does not wait for the device.

    Args:
        pixels: uint8, of any shape and on any device.
        rows: int64, broadcast to that shape: the row that each pixel is counted in. For images
            (N, C, H, W), `torch.arange(N * C).view(N, C, 1, 1)` keeps all apart.
        number: of rows.
    """
    return _added(_no_counts(number, pixels.device), pixels, rows).view(number, _BINS)


def image_histograms(pixels: Tensor, sizes: Sequence[int]) -> Tensor:
    """The histograms of images of different sizes: int64, (images, channels, 256).

    As above, but counted piece by piece, so that 8 bytes a pixel are enough for a large batch.

    Args:
        pixels: uint8, (all pixels, channels), one image after the other.
        sizes: how many pixels each image has.
    """
    device, number, channels = pixels.device, len(sizes), pixels.shape[1]
    repeats = torch.tensor(sizes, device=_CPU)  # whatever torch.set_default_device says
    if pixels.is_cuda:  # a copy from ordinary memory would wait for the device
        repeats = repeats.pin_memory().to(device, non_blocking=True)
    first_rows = torch.arange(0, number * channels, channels, device=device)
    rows = first_rows.repeat_interleave(repeats, output_size=len(pixels))
    channel = torch.arange(channels, device=device)
    counts = _no_counts(number * channels, device)
    for some, their in zip(torch.split(pixels, _PIECE), torch.split(rows, _PIECE), strict=True):
        _added(counts, some, their[:, None] + channel)
    return counts.view(number, channels, _BINS)


def powers_of(histograms: Tensor) -> Tensor:
    """Σx and Σx² of each histogram: int64, (..., 2).

    Args:
        histograms: int64, (..., 256).
    """
    values = torch.arange(_BINS, device=histograms.device)
    return torch.stack([(histograms * v).sum(-1) for v in (values, values * values)], -1)


def _no_counts(rows: int, device: torch.device) -> Tensor:
    return torch.zeros(rows * _BINS, dtype=torch.int64, device=device)


def _added(counts: Tensor, pixels: Tensor, rows: Tensor) -> Tensor:
    """The same counts, with these pixels."""
    if pixels.dtype != torch.uint8:
        raise TypeError(f"pixels are {pixels.dtype}; expected torch.uint8")
    places = torch.add(pixels, rows, alpha=_BINS).reshape(-1)  # without a copy of wide rows
    one = torch.ones(1, dtype=torch.int64, device=pixels.device)
    return counts.scatter_add_(0, places, one.expand_as(places))


@cache
def counting_on(device: torch.device) -> tuple[Counting, str]:
    """The fastest kernel that is right on this device, and words about it for a person."""
    if device.type != "cuda":
        return counts_of, "torch"
    try:
        from imgnorm.cuda import kernel as gpu_kernel

        _demand_the_same(gpu_kernel.counts_of, device)
    except Exception as error:  # noqa: BLE001 - a compiler, which may raise anything: there is another way
        why = headline(error)
        return counts_of, f"torch, since Triton's kernel does not work ({why})"
    return gpu_kernel.counts_of, f"Triton {gpu_kernel.VERSION}"


def _demand_the_same(counting: Counting, device: torch.device) -> None:
    """Whether it counts as the plain kernel does: noise, equal pixels, images of one pixel and of many.

    Raises:
        ArithmeticError: it does not.
    """
    chance = torch.Generator().manual_seed(0)
    sizes = [1, 5_000, 2_048, 255, 150_000, 3]
    noise = torch.randint(0, 256, (sum(sizes), 4), dtype=torch.uint8, device=_CPU, generator=chance)
    noise[:7_000] = 255
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        there = noise.to(device)
        for channels, planes in ((3, 1), (1, 1), (1, 3)):
            batch = there[:, :channels] if channels > 1 else there[:, 0].contiguous()[:, None]
            found, expected = counting(batch, sizes, planes), counts_of(batch, sizes, planes)
            if not all(map(torch.equal, found, expected)):
                raise ArithmeticError("its counts are not those of torch's own operations")


def find(name: str) -> Found:
    """The device of a name: "cuda", "cuda:N"; or "auto", which may be the CPU.

    Raises:
        DeviceError: there is no such device, or it does not work.
    """
    try:
        device = _cuda(name)
    except DeviceError as error:
        if name != "auto":
            raise DeviceError(f"device {name}: {error}; use cpu or auto") from error
        return Found(None, f"cpu: {error}")
    _, kernel = counting_on(device)
    return Found(device, f"{device}: {torch.cuda.get_device_name(device)}, counts with {kernel}")


def _cuda(name: str) -> torch.device:
    with warnings.catch_warnings(record=True) as caught:  # they tell why a driver does not work
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if torch.version.cuda is None:
        raise DeviceError(f"torch {torch.__version__} is built without CUDA")
    if not count:
        why = headline(caught[0].message) if caught else "torch finds no CUDA device"
        raise DeviceError(why)
    _, _, index = name.partition(":")
    if index and int(index) >= count:
        raise DeviceError(f"there is no such device; torch finds {count}, from cuda:0 on")
    try:
        device = torch.device("cuda", int(index) if index else torch.cuda.current_device())
        torch.zeros(1, device=device).add_(1).cpu()
    except RuntimeError as error:  # taken by another process, too old for this torch
        raise DeviceError(headline(error)) from error
    return device


@contextmanager
def translated(device: torch.device) -> Iterator[None]:
    """A CUDA error becomes a sentence; what else is a RuntimeError is a bug and stays one."""
    try:
        yield
    except RuntimeError as error:
        if not is_cuda_error(error):
            raise
        raise DeviceError(f"device {device}: {headline(error)}; try again, or use cpu") from error


def is_cuda_error(error: RuntimeError) -> bool:
    kinds = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))
    return isinstance(error, kinds) or re.search("CUDA|NVML", str(error)) is not None


@dataclass
class Room:
    """How much goes to the device at once; shared by all that count there."""

    most: int | None = None  # bytes of pixels; None: a whole tray
    used: bool = False  # by anybody
    on_cpu: int = 0  # images that the device had no memory for, alone

    def ran_out(self, size: int) -> None:
        self.most = min(self.most or size, max(1, size // 2))


class FileDecoder(Protocol):
    """Decodes JPEG files on a device: `nvjpeg.NvJpeg`."""

    @property
    def words(self) -> str:
        """Which decoder this is, for stats files."""

    def pixels_of(self, files: Sequence[Tensor]) -> list[Tensor]:
        """uint8, (C, H, W), of each file.

        Raises:
            RuntimeError: one of them cannot be decoded, or the device failed.
        """


class CudaDevice:
    """One device, and all that count on it.

    Args:
        batch: how many pixels one counter sends at once.
        files: decodes JPEGs there; without it, the workers decode.
    """

    def __init__(self, device: torch.device, batch: int, files: FileDecoder | None = None) -> None:
        self.batch = batch
        self._device = device
        self._files = files
        self._room = Room()
        self._counters: list[DeviceCounter] = []

    @property
    def used(self) -> bool:
        """Whether a device has counted any image."""
        return self._room.used

    def note_use(self) -> None:
        """Tensors that lie on a device are counted there, whichever was asked for."""
        self._room.used = True

    @property
    def decoded(self) -> int:
        """How many files it has decoded."""
        return sum(counter.decoded for counter in self._counters)

    def counter(self, *, cross_sums: bool = False) -> DeviceCounter:
        counter = DeviceCounter(self._device, self._room, cross_sums=cross_sums, files=self._files)
        self._counters.append(counter)
        return counter

    def count_arrays(
        self, images: npt.NDArray[np.uint8], mode: Mode, *, cross_sums: bool = False
    ) -> Tally:
        """The tally of images that are an array already, as `count.count_arrays` gives it.

        Args:
            images: (N, H, W, C) with the channels of `mode`. N may be 0.
        """
        sender = Sender(self, cross_sums=cross_sums)
        sender.add("", images, mode)
        return sender.taken().get("", Tally())

    def shortage(self) -> str | None:
        """What a person should know of the device's memory: said once, after all is counted."""
        if self._room.most is None:
            return None
        alone = f", and {self._room.on_cpu:,} images were counted on the CPU"
        return (
            f"device {self._device} ran out of memory: batches were halved, down to "
            f"{self._room.most:,} bytes of pixels{alone if self._room.on_cpu else ''}; the digits are "
            "the same"
        )


class DeviceCounter:
    """Counts trays of pixels on a device; for one thread at a time, with a stream of its own.

    The device is waited for only where memory is used again: until a batch has been copied, before
    the next one takes its place, and for the sums of every 65,536 images; and once at the end.
    """

    def __init__(
        self,
        device: torch.device,
        room: Room,
        *,
        cross_sums: bool = False,
        files: FileDecoder | None = None,
    ) -> None:
        self.decoded = 0  # files
        self._device = device
        self._room = room
        self._files = files
        self._counts = Counts(cross_sums=cross_sums)
        self._stage: Tensor | None = None  # pinned: what the device copies from
        with translated(device):
            on_gpu = device.type == "cuda"
            self._stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]
            self._staged = torch.cuda.Event(blocking=True) if on_gpu else None  # type: ignore[no-untyped-call]

    def count(
        self, group: str, buffer: Any, images: Sequence[PackedImages | PackedFile]
    ) -> list[int]:
        """Adds these images to a group; afterwards the tray may be filled anew.

        Args:
            buffer: a writable buffer that holds the pixels of the images, or their files, one behind
                the other.

        Returns:
            the `index` of each file that the device does not decode; it is not counted.

        Raises:
            DeviceError: the device failed.
        """
        if not images:
            return []
        placed = _placed(images)
        content = torch.frombuffer(buffer, dtype=torch.uint8, count=placed[-1].end)
        files = [p for p in placed if isinstance(p.image, PackedFile)]
        with translated(self._device), self._on_stream():
            self._count(group, content, [p for p in placed if isinstance(p.image, PackedImages)])
            return self._count_files(group, content, files)

    def taken(self) -> dict[str, Tally]:
        """All that was counted, by group; from now on it counts from zero.

        Raises:
            DeviceError: the device failed.
        """
        with translated(self._device), self._on_stream():
            tallies = self._counts.taken()
        self._stage = None  # counters are kept, and torch keeps such memory for the next one
        return tallies

    def _on_stream(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream) if self._stream else nullcontext()

    def _count(self, group: str, pixels: Tensor, placed: Sequence[_Placed]) -> None:
        for part in _parts(placed, self._room.most) if placed else ():
            try:
                found = self._counted(pixels, part, self._device)
            except torch.OutOfMemoryError:
                found = None  # the error holds on to tensors: it goes before the next try
            if found is None:
                self._room.ran_out(part[-1].end - part[0].start)
                if self._stream:
                    torch.cuda.empty_cache()
                if len(part) > 1:
                    self._count(group, pixels, part)
                    continue
                self._room.on_cpu += 1
                found = self._counted(pixels, part, _CPU)
            else:
                self._room.used = True
            self._counts.add(group, found)

    def _count_files(self, group: str, content: Tensor, files: Sequence[_Placed]) -> list[int]:
        """The `index` of each that cannot be decoded there, alone and with all the memory there is."""
        if not files:
            return []
        try:
            pixels = self._decoded(content, files)
            whole = [(p, image) for p, image in zip(files, pixels, strict=True) if _fits(p, image)]
            found = self._counted_planes(whole)
        except RuntimeError as error:
            if is_cuda_error(error) and not isinstance(error, torch.OutOfMemoryError):
                raise
            whole, found = [], None  # the error holds on to tensors: it goes before the next try
        if found is None:
            if self._stream:
                torch.cuda.empty_cache()
            if len(files) == 1:
                return [_index(files[0])]
            # One by one, not by halves: after each failure nvJPEG is set up anew, which takes longest.
            return [index for one in files for index in self._count_files(group, content, [one])]
        counted = [p for p, _ in whole]
        if counted:
            assert self._files is not None
            self._counts.add(group, found)
            self._room.used = True
            self._counts.decoders[group] = {"JPEG": self._files.words}
            self.decoded += len(counted)
        return [_index(p) for p in files if p not in counted]

    def _decoded(self, content: Tensor, files: Sequence[_Placed]) -> list[Tensor]:
        """Their pixels, in memory that nothing else uses.

        It may be memory that was freed a moment ago, which kernels of this stream have still to read:
        nvJPEG's hardware does not wait for a stream, so we do. (pytorch/vision#9606)
        """
        assert self._files is not None
        if self._staged:
            self._staged.record()
            self._staged.synchronize()  # asleep; a stream is waited for at full speed, by 16 threads
        return self._files.pixels_of([content[p.start : p.end] for p in files])

    def _counted_planes(self, images: Sequence[tuple[_Placed, Tensor]]) -> list[_Batch]:
        """As `_counted`, of images whose channels are planes; gray ones may be wanted as RGB."""
        counting, _ = counting_on(self._device)
        found: list[_Batch] = []
        for mode in {p.image.mode: None for p, _ in images}:
            planes = len(channels_of(mode))
            its = [(p, image) for p, image in images if p.image.mode == mode]
            flat = [image.expand(planes, -1, -1).reshape(-1) for _, image in its]
            sizes = [p.image.pixels for p, _ in its for _ in range(planes)]
            whole = flat[0] if len(flat) == 1 else torch.cat(flat)
            found.append(([p.image for p, _ in its], *counting(whole[:, None], sizes, planes)))
        return found

    def _counted(
        self, pixels: Tensor, part: Sequence[_Placed], device: torch.device
    ) -> list[_Batch]:
        """Nothing is added yet, so that a device without memory leaves no half of a batch behind."""
        first = part[0].start
        there = self._sent(pixels[first : part[-1].end], device)
        counting, _ = counting_on(device)
        found: list[_Batch] = []
        for kind in {_kind(p): None for p in part}:
            its = [p for p in part if _kind(p) == kind]
            runs = [there[start - first : end - first] for start, end in _runs(its)]
            flat = runs[0] if len(runs) == 1 else torch.cat(runs)
            sizes = [p.image.pixels for p in its]
            mode, depth, in_planes = kind
            channels = len(channels_of(mode))
            if in_planes:
                each = [size for size in sizes for _ in range(channels)]
                counts = counting(flat[:, None], each, channels)
            else:
                counts = counting(flat.view(-1, depth)[:, :channels], sizes, 1)
            found.append(([p.image for p in its], *counts))
        return found

    def _sent(self, pixels: Tensor, device: torch.device) -> Tensor:
        """The pixels on the device, or under way to it; their place here is free at once."""
        if self._staged is None or device.type == "cpu":
            return pixels
        if pixels.is_pinned():  # a loader's, say: whoever made them may write there again
            there = pixels.to(device, non_blocking=True)
            self._staged.record()
            self._staged.synchronize()
            return there
        self._staged.synchronize()  # the last ones may still be under way
        if self._stage is None or len(self._stage) < len(pixels):
            self._stage = torch.empty(len(pixels), dtype=torch.uint8, device=_CPU, pin_memory=True)
        stage = self._stage[: len(pixels)]
        stage.copy_(pixels)
        there = stage.to(device, non_blocking=True)
        self._staged.record()
        return there


@dataclass(frozen=True)
class _Placed:
    """An image and its bytes on the tray."""

    start: int
    end: int
    image: PackedImages | PackedFile


def _kind(placed: _Placed) -> tuple[Mode, int, bool]:
    """What images share that are counted at once."""
    return placed.image.mode, placed.image.depth, placed.image.planes


def _index(placed: _Placed) -> int:
    assert isinstance(placed.image, PackedFile)
    return placed.image.index


def _fits(placed: _Placed, image: Tensor) -> bool:
    """Whether a decoder found what the file's header says; it may have turned the image, as EXIF says."""
    channels = 1 if placed.image.file_mode == "L" else 3
    alike = image.dtype == torch.uint8 and image.ndim == 3 and len(image) == channels
    return alike and image[0].numel() == placed.image.pixels


def _placed(images: Sequence[PackedImages | PackedFile]) -> list[_Placed]:
    each = [one for image in images for one in image.each()]
    ends = accumulate(image.bytes for image in each)
    return [_Placed(end - i.bytes, end, i) for end, i in zip(ends, each, strict=True)]


def _parts(placed: Sequence[_Placed], most: int | None) -> Iterator[Sequence[_Placed]]:
    """Neighbours of at most so many bytes together, or one that is larger."""
    begin = 0
    for index, one in enumerate(placed):
        if index > begin and most is not None and one.end - placed[begin].start > most:
            yield placed[begin:index]
            begin = index
    yield placed[begin:]


def _runs(placed: Sequence[_Placed]) -> list[tuple[int, int]]:
    """Where bytes follow one another: begin and end of each run."""
    runs: list[tuple[int, int]] = []
    for one in placed:
        if runs and runs[-1][1] == one.start:
            runs[-1] = runs[-1][0], one.end
        else:
            runs.append((one.start, one.end))
    return runs


_Batch = tuple[Sequence[PackedImages | PackedFile], Tensor, Tensor]
"""Images of one mode, and what `counts_of` gives of them."""


class Counts:
    """What was counted, by group and mode; on the device, until it is taken."""

    def __init__(self, *, cross_sums: bool) -> None:
        self.decoders: dict[str, dict[str, str]] = {}  # of each group, by format
        self._cross_sums = cross_sums
        self._kinds: dict[tuple[str, Mode], _Kind] = {}
        self._unfetched = 0  # images whose sums are on the device

    def add(self, group: str, found: Sequence[_Batch]) -> None:
        for images, histogram, powers in found:
            mode = images[0].mode
            if (group, mode) not in self._kinds:
                self._kinds[group, mode] = _Kind(mode, cross_sums=self._cross_sums)
            self._kinds[group, mode].add(images, histogram, powers)
            self._unfetched += len(images)
        if self._unfetched >= _MOST_IMAGES:
            self._fetch()

    def taken(self) -> dict[str, Tally]:
        """All of it, by group, once the device is done; from now on it counts from zero."""
        tallies: dict[str, Tally] = {}
        self._fetch()
        for (group, mode), kind in self._kinds.items():
            counted = Tally({mode: kind.counted()}, decoders=self.decoders.get(group, {}))
            tallies[group] = tallies.get(group, Tally()) + counted
        self._kinds.clear()
        self.decoders.clear()
        return tallies

    def _fetch(self) -> None:
        for kind in self._kinds.values():
            kind.fetch()
        self._unfetched = 0


class _Kind:
    """What was counted of one group in one mode."""

    def __init__(self, mode: Mode, *, cross_sums: bool) -> None:
        self._mode = mode
        self._file_modes: Counter[str] = Counter()
        self._formats: Counter[str] = Counter()
        # By device: images that it has no memory for are counted, and kept, on the CPU.
        self._histograms: dict[torch.device, Tensor] = {}
        self._unfetched: list[tuple[list[int], Tensor]] = []
        self._sums: ImageSums | None = None
        self._pixels = 0
        self._powers: npt.NDArray[Any] = np.zeros((len(channels_of(mode)), 2), object)
        self._cross_sums = CrossSums.zero(len(channels_of(mode))) if cross_sums else None

    def add(
        self, images: Sequence[PackedImages | PackedFile], histogram: Tensor, powers: Tensor
    ) -> None:
        """
        Args:
            histogram: int64, (channels, 256), of all of them; it is kept, and added to.
            powers: int64, (images, channels, 2).
        """
        self._file_modes.update(image.file_mode for image in images)
        self._formats.update(image.format for image in images)
        self._unfetched.append(([image.pixels for image in images], powers))
        if histogram.device in self._histograms:
            self._histograms[histogram.device] += histogram
        else:
            self._histograms[histogram.device] = histogram

    def fetch(self) -> None:
        """Waits for the sums of images that are still on the device."""
        if not self._unfetched:
            return
        pixels = np.array([size for sizes, _ in self._unfetched for size in sizes], np.int64)
        powers = np.concatenate([powers.cpu().numpy() for _, powers in self._unfetched])
        self._unfetched.clear()
        each = pixels[:, None], powers[:, :, 0], powers[:, :, 1]
        sums = sums_of_powers(*each, scale_of(self._mode))
        self._sums = sums if self._sums is None else self._sums + sums
        self._pixels += int(pixels.sum())
        self._powers += powers.sum(axis=0)
        if self._cross_sums is not None:
            self._cross_sums += cross_sums_of(*each)

    def counted(self) -> Counted:
        assert self._sums is not None
        histogram = Histogram.zero(len(channels_of(self._mode)), _BINS)
        for its in self._histograms.values():
            histogram += Histogram(tuple(tuple(c) for c in its.cpu().tolist()))
        self._demand_that_it_adds_up(histogram)
        return Counted(
            self._sums.images,
            histogram,
            self._sums,
            dict(self._file_modes),
            dict(self._formats),
            self._cross_sums,
        )

    def _demand_that_it_adds_up(self, histogram: Histogram) -> None:
        """Of each channel, the histogram and the images' sums, which are counted apart, tell one story.

        Raises:
            DeviceError: they do not, so that neither can be trusted.
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
                "(pixels, sum and sum of squares of each channel); use cpu, and have the device looked at"
            )
