"""A source's images as batches of tensors, with the same pixels that `imgnorm stats` counts."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from math import ceil
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, multiprocessing
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.signal_handling import _set_SIGCHLD_handler

from imgnorm.errors import SourceError
from imgnorm.measuring.result import no_image_message
from imgnorm.nn.models import RAISED_BY_USER_CODE
from imgnorm.pixels.jpeg import jpeg_decoder_of
from imgnorm.pixels.load import Loader, picture_of
from imgnorm.settings import MAX_PIXELS, ImageSettings, Mode
from imgnorm.sources.listing import AllNames, all_names_of
from imgnorm.sources.names import as_text, name_bytes
from imgnorm.sources.source import Block, Blocks, Entry, FileFrame, Source, Unit, Unread, entries_of
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.wording import clause, describe

if TYPE_CHECKING:
    from PIL.Image import Image

_AHEAD = 2
"""Batches that each worker prepares in advance."""
_STOPPING = {signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])}


class Batches:
    """All images of a source, always in the same order. Can be iterated more than once.

    The order is that of the names, or for archives that in which they hold their images. An image that
    cannot be read is left out from then on and listed in `skipped`. So is an image that kills its
    worker: after a death, the images that were being read are tried one by one.

    Args:
        source: one that gives images one by one.
        transform: from PIL image to tensor.
        mode: what each image is converted to before the transform. None: what torchvision's own
            loaders give: RGB for files, a dataset's own image for torchvision's datasets.
        workers: processes that decode; 0: this one, which an image that crashes its decoder then
            ends.

    Raises:
        SourceError: the source has no images, or does not give them one by one. While iterating: no
            image could be read, the transform fails, images of one batch differ in size, or workers
            die, but not because of a certain image.
    """

    def __init__(
        self,
        source: Source,
        transform: Callable[[Any], Tensor],
        *,
        mode: Mode | None,
        batch_size: int = 64,
        workers: int = 0,
    ) -> None:
        if source.once or source.made_here:
            raise SourceError(
                f"{as_text(source.ref)}: its images cannot be read one by one; give the images themselves"
            )
        names = all_names_of(source)
        if not names and not names.skipped:
            raise SourceError(f"{as_text(source.ref)}: has no images; name a source that has some")
        self.ignored: Mapping[str, int] = names.ignored
        as_they_lie = any(unit.places or unit.forward for unit in names.units)
        order = range(len(names)) if as_they_lie else names.order
        self._images = _Images(source, names, order, transform, mode)
        self._lost: dict[str, Skipped] = {}  # while they were read
        self._batch_size = batch_size
        self._workers = workers

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Every image that was left out so far, in the order of their names."""
        images = self._images
        lost = (*images.names.skipped, *self._lost.values())
        return tuple(
            replace(one, name=as_text(one.name), member=images.source.member_of(one.name))
            for one in sorted(lost, key=lambda one: name_bytes(one.name))
        )

    def __len__(self) -> int:
        """The number of batches, unless more images turn out to be unreadable."""
        return ceil((len(self._images.names) - len(self._lost)) / self._batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        images = self._readable()
        nothing, unexplained = True, False  # unexplained: the last death was not due to an image
        while images.order:
            done = 0
            try:
                for batch in self._loaded(images):
                    if isinstance(batch, SourceError):
                        raise batch
                    done += 1
                    self._lost.update((one.name, one) for one in batch.skipped)
                    if batch.images is not None:
                        nothing = False
                        yield batch.images
                break
            except (RuntimeError, EOFError, OSError) as error:
                # A worker died, or its batch was lost.
                left = replace(images, order=images.order[done * self._batch_size :])
                found = self._deadly(left)
                if unexplained and not (found or done):  # for the second time, at the same batch
                    raise SourceError(
                        f"{as_text(left.source.ref)}: decoding processes die, but not because of a certain "
                        f"image ({clause(error)}); try fewer --workers, or 0"
                    ) from error
                images, unexplained = replace(left, fatal={**left.fatal, **found}), not found
        if nothing:
            raise SourceError(no_image_message(self._images.source.ref, "read", self.skipped))

    def _loaded(self, images: _Images) -> Iterator[_Batch | SourceError]:
        loader: DataLoader[Any] = DataLoader(
            images,
            batch_size=self._batch_size,
            num_workers=self._workers,
            prefetch_factor=_AHEAD if self._workers else None,
            collate_fn=_stacked,
            worker_init_fn=images.begin_worker,
        )
        if self._workers:
            _find_death_by_waiting()
        with _signals_blocked():
            batches = iter(loader)
        try:
            yield from batches
        except BaseException:  # GeneratorExit, too
            for worker in getattr(batches, "_workers", ()):
                worker.terminate()  # DataLoader would wait for up to five seconds for its batch
            raise

    def _deadly(self, left: _Images) -> dict[str, Skipped]:
        """The images that kill a process, of those that the workers may have been reading."""
        ahead = (self._workers * _AHEAD + 1) * self._batch_size
        return _tried_alone(replace(left, order=left.order[:ahead]))

    def _readable(self) -> _Images:
        images = self._images
        if not self._lost:
            return images
        order = [at for at in images.order if images.names.name_at(at) not in self._lost]
        return replace(images, order=order)


@dataclass(frozen=True)
class _Batch:
    images: Tensor | None  # (N, C, H, W); None if none could be read
    skipped: tuple[Skipped, ...]


_Item = tuple[str, Tensor] | Skipped | SourceError
"""What becomes of an image. Faults are returned: a raised one reaches the parent with a traceback in its
message."""


@dataclass(frozen=True)
class _Images(Dataset[Any]):
    source: Source
    names: AllNames
    order: Sequence[int]  # the positions of the images in `names`
    transform: Callable[[Any], Tensor]
    mode: Mode | None
    # Those that kill a process that reads them.
    fatal: Mapping[str, Skipped] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.order)

    def __getitems__(self, indices: Sequence[int]) -> list[_Item]:
        """The images of one batch; DataLoader prefers it to __getitem__."""
        units = self.names.at(self.order[index] for index in indices)
        return [item for unit in units for item in self._items(unit)]

    def begin_worker(self, worker: int) -> None:
        _set_signals()
        self.source.open()

    def _items(self, unit: Unit) -> Iterator[_Item]:
        """The images of a unit, in the order of its names."""
        assert unit.names is not None
        deadly = [place for place, name in enumerate(unit.names) if name in self.fatal]
        start = 0
        for stop in (*deadly, len(unit)):
            if start < stop:
                yield from self._read(unit.part(start, stop))
            if stop < len(unit):
                yield self.fatal[unit.names[stop]]
            start = stop + 1

    def _read(self, unit: Unit) -> Iterator[_Item]:
        for entry in entries_of(self.source, unit):
            for name, read in _one_by_one(entry):
                yield self._item(name, read)

    def _item(self, name: str, read: Callable[[], bytes | FileFrame | Image | Block]) -> _Item:
        size: int | None = None
        try:
            found = read()
            size = len(found) if isinstance(found, bytes) else None
            picture = self._picture(found)
        except Unreadable as fault:
            return fault.skipped(name, size)
        except MemoryError:
            return Skipped(name, Reason.OUT_OF_MEMORY, "not enough memory to decode it", size)
        try:
            tensor = self.transform(picture)
        except RAISED_BY_USER_CODE as error:
            return SourceError(
                f"{as_text(name)}: the transform fails ({describe(error)}); give one that "
                f"takes {picture.mode} images"
            )
        if not isinstance(tensor, Tensor):
            return SourceError(
                f"{as_text(name)}: the transform returned something of type {type(tensor).__name__}; end it "
                "with ToTensor"
            )
        return name, tensor

    def _picture(self, found: bytes | FileFrame | Image | Block) -> Image:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about metadata and palettes
            if self.mode is None and not isinstance(found, (bytes, FileFrame)):
                return picture_of(found) if isinstance(found, Block) else found
            settings = ImageSettings(self.mode or "RGB")
            loader = Loader(settings, MAX_PIXELS, jpeg=_this_thread().jpeg)
            decoded = loader.load(Unread("", lambda: found))
            assert decoded  # no device decodes it
            return decoded.picture


class _ThisThread(threading.local):
    """What each thread needs one of."""

    def __init__(self) -> None:
        self.jpeg, _ = jpeg_decoder_of("auto")


@cache
def _this_thread() -> _ThisThread:
    return _ThisThread()


def _one_by_one(
    entry: Entry,
) -> Iterator[tuple[str, Callable[[], bytes | FileFrame | Image | Block]]]:
    """The images of an entry, and what reads each."""
    if isinstance(entry, Unread):
        yield entry.name, entry.read
    elif isinstance(entry, Blocks):
        read = cache(entry.read)
        for index, name in enumerate(entry.names):
            yield name, partial(_image_in, read, index)


def _image_in(read: Callable[[], Block], index: int) -> Block:
    """One image of a block."""
    block = read()
    start = index * block.strides[0]
    return replace(
        block,
        names=[block.names[index]],
        data=memoryview(block.data).cast("B")[start:],
        shape=(1, *block.shape[1:]),
    )


def _stacked(items: list[_Item]) -> _Batch | SourceError:
    """One batch, or the first thing that is wrong with it as a whole."""
    tensors: list[Tensor] = []
    skipped: list[Skipped] = []
    for item in items:
        if isinstance(item, SourceError):
            return item
        if isinstance(item, Skipped):
            skipped.append(item)
            continue
        name, tensor = item
        if tensors and tensor.shape != tensors[0].shape:
            return SourceError(
                f"{as_text(name)}: becomes {tuple(tensor.shape)}, but others of its batch become "
                f"{tuple(tensors[0].shape)}; resize them (measure with --resize and --center-crop), or use --batch-size 1"
            )
        tensors.append(tensor)
    return _Batch(torch.stack(tensors) if tensors else None, tuple(skipped))


def _find_death_by_waiting() -> None:
    """Remove torch's handler of SIGCHLD, which raises anywhere in this process: in the model, even.

    DataLoader then checks its workers every five seconds while it waits for a batch. The handler is
    not set again, since it may still know a dead worker after the iteration has ended.
    """
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        _set_SIGCHLD_handler()  # torch sets it once per process: do it now, so that it does not later
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals while a process starts. It inherits that, until `_set_signals` has set handlers."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tried_alone(images: _Images) -> dict[str, Skipped]:
    """The images that kill the process that reads them, twice: among others, and alone."""
    found = {}
    following = range(len(images))
    while following:
        last, code = _read_elsewhere(images, following)
        if code and (code := _read_elsewhere(images, range(last, last + 1))[1]):
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            detail = f"the process that decoded it ended, twice: {how}"
            name = images.names.name_at(images.order[last])
            found[name] = Skipped(name, Reason.WORKER_DIED, detail)
        following = range(last + 1, len(images))
    return found


def _read_elsewhere(images: _Images, indices: range) -> tuple[int, int]:
    """Read images in another process: the last index that it began, and its exit code, 0 if it survived."""
    context = multiprocessing.get_context()
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=_read, args=(images, indices, writing), daemon=True)
    with _signals_blocked():
        process.start()
    writing.close()
    last = indices[0]
    try:
        with suppress(EOFError):
            while True:
                last = reading.recv()
        process.join()
        assert process.exitcode is not None
        return last, process.exitcode
    finally:
        process.kill()
        process.join()
        reading.close()


def _read(images: _Images, indices: range, writing: Connection) -> None:
    images.begin_worker(0)
    torch.set_num_threads(1)  # as DataLoader does: after a fork, the parent's threads do not exist
    for index in indices:
        writing.send(index)
        images.__getitems__([index])


def _set_signals() -> None:
    """Set what signals do in a worker. A signal may reach all processes, and only the parent reacts.

    Terminated, a worker exits with code 0, or torch would make the parent report it as an error.
    """
    for number in _STOPPING - {signal.SIGINT}:
        signal.signal(number, lambda number, frame: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
