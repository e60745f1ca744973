"""torch Datasets and DataLoaders: however they are read, the same bytes."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
    get_worker_info,
)
from torchvision.transforms import v2

import imgnorm
from imgnorm.datasets import loader_workers as loaders
from imgnorm.datasets.items import ItemFormat
from imgnorm.datasets.loader import open_torch
from imgnorm.errors import SourceError
from imgnorm.measuring.measure import call_facts
from imgnorm.measuring.routes import check_options
from imgnorm.tally.moments import Moments
from imgnorm.tally.skipped import Reason

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "examples" / "shapes"
MANY = 100
BYTES = torch.from_numpy(
    np.random.default_rng(5).integers(0, 256, (MANY, 3, 6, 5)).astype(np.uint8)
)


def kills_workers(test):
    """A test whose dataset kills the worker that reads it; torch's handler of SIGCHLD may raise at any line."""
    unraisable = "ignore::pytest.PytestUnraisableExceptionWarning"
    test = pytest.mark.filterwarnings(unraisable)(test)
    return pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")(test)


def power_sums(images: torch.Tensor) -> Moments:
    """Of (N, C, H, W)."""
    wide = images.numpy().astype(np.int64)
    return Moments(
        wide[:, 0].size,
        tuple(wide.sum(axis=(0, 2, 3)).tolist()),
        tuple((wide * wide).sum(axis=(0, 2, 3)).tolist()),
    )


def moments_of(stats: imgnorm.Stats) -> Moments:
    return stats.measurement.histogram.moments()


def bytes_of(stats: imgnorm.Stats, folder: Path) -> bytes:
    path = folder / "stats.yaml"
    imgnorm.write_stats(path, stats)
    assert imgnorm.read_stats(path) == stats
    return path.read_bytes()


class Images(Dataset):
    """(image, label), as `ToTensor` makes them."""

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, index):
        return BYTES[index].float() / 255, index % 3


class Pictures(Images):
    def __getitem__(self, index):
        return Image.fromarray(BYTES[index].permute(1, 2, 0).numpy()), index % 3


class Broken(Images):
    def __getitem__(self, index):
        if index == 41:
            raise ValueError("no image 41")
        return super().__getitem__(index)


class Dying(Images):
    def __getitem__(self, index):
        if index == 41:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class Stream(IterableDataset):
    """Each worker gives all of it, as the documentation of torch warns."""

    def __iter__(self):
        yield from (BYTES[i] for i in range(MANY))


class SizedStream(Stream):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


class Dicts(Images):
    def __getitem__(self, index):
        return {"pixel_values": BYTES[index], "labels": index}


# However it is read


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 64, None])
def test_the_way_it_is_read_never_changes_a_byte(batch_size, workers, tmp_path):
    loader = DataLoader(Images(), batch_size=batch_size, num_workers=workers)

    assert bytes_of(imgnorm.measure(Images()), tmp_path) == bytes_of(
        imgnorm.measure(loader), tmp_path
    )


def test_a_dataset_is_read_by_as_many_workers_as_wanted(tmp_path):
    here, there = imgnorm.measure(Images()), imgnorm.measure(Images(), workers=2)

    assert power_sums(BYTES) == moments_of(here)
    assert bytes_of(here, tmp_path) == bytes_of(there, tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        Pictures(),
        Dicts(),
        DataLoader(Dicts(), batch_size=8, shuffle=True),
        TensorDataset(BYTES),
        DataLoader(TensorDataset(BYTES, torch.arange(MANY)), batch_size=33),
        ConcatDataset([Subset(Images(), range(30)), Subset(Images(), range(30, MANY))]),
        Stream(),
        DataLoader(Stream(), batch_size=16),
        DataLoader(Pictures(), batch_size=9, collate_fn=list),
        DataLoader(Pictures(), batch_size=9, collate_fn=lambda samples: tuple(zip(*samples, strict=True))),
        DataLoader(Images(), batch_sampler=BatchSampler(range(MANY), 9, drop_last=False)),
    ],
    ids=lambda source: type(source).__name__,
)  # fmt: skip
def test_every_dataset_and_loader_has_the_sums_of_its_pixels(source):
    stats = imgnorm.measure(source)

    assert (MANY, ()) == (stats.images, stats.skipped)
    assert power_sums(BYTES) == moments_of(stats)


def test_a_loader_of_gray_images_is_read_as_batches_whatever_their_size():
    """A last batch of 3 images of 28 x 28 looks like one image of 3 channels."""
    gray = BYTES[:, 0]

    stats = imgnorm.measure(DataLoader(TensorDataset(gray), batch_size=97))

    assert power_sums(gray[:, None]) == moments_of(stats)


def test_an_image_folder_has_the_integers_of_the_folder():
    folder = imgnorm.measure(SHAPES, mode="RGB", per_class=True)
    to_tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    for transform in (None, torchvision.transforms.ToTensor(), to_tensor):
        dataset = torchvision.datasets.ImageFolder(SHAPES, transform)
        stats = imgnorm.measure(dataset, per_class=True)

        assert (folder.mean, folder.std) == (stats.mean, stats.std)
        assert folder.measurement.histogram == stats.measurement.histogram
        assert folder.measurement.sums == stats.measurement.sums
        assert folder.measurement.classes == stats.measurement.classes
        assert folder.measurement.source.names_sha256 == stats.measurement.source.names_sha256


def test_the_transform_that_follows_gives_mean_0_and_std_1():
    stats = imgnorm.measure(DataLoader(Images(), batch_size=10))

    normalize = imgnorm.to_transform(stats).transforms[-1]
    normalized = normalize(BYTES.double() / 255)
    assert normalized.mean((0, 2, 3)).tolist() == pytest.approx(
        [0] * 3, abs=1e-6
    )  # float32 constants
    assert normalized.std((0, 2, 3), correction=0).tolist() == pytest.approx([1] * 3, abs=1e-6)


# torchvision's own


@pytest.mark.parametrize("transform", [None, torchvision.transforms.ToTensor()])
def test_an_instance_of_mnist_has_the_integers_of_its_name(shared_data, transform):
    root = shared_data / "mnist"
    dataset = torchvision.datasets.MNIST(root, train=False, transform=transform)

    stats = imgnorm.measure(dataset, per_class=True)

    by_name = imgnorm.measure("torchvision:MNIST", root=root, split="test", per_class=True)
    assert by_name.measurement.histogram == stats.measurement.histogram
    assert by_name.measurement.sums == stats.measurement.sums
    assert by_name.measurement.classes == stats.measurement.classes
    assert ("dataset", "MNIST[10000]") == (
        stats.measurement.source.kind,
        stats.measurement.source.ref,
    )


class Held(torchvision.datasets.VisionDataset):
    """Like CIFAR10: an array whose slices are the images."""

    asked = 0

    def __init__(self, transform=None) -> None:
        super().__init__(None, transform=transform)
        self.data = BYTES.permute(0, 2, 3, 1).numpy()

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, index):
        type(self).asked += 1
        image = Image.fromarray(self.data[index])
        return (self.transform(image) if self.transform else image), 0


@pytest.mark.parametrize(("transform", "asked"), [(None, 3), (v2.RandomHorizontalFlip(), MANY + 1)])
def test_pixels_are_taken_from_the_array_only_where_no_transform_stands(
    transform, asked, monkeypatch
):
    monkeypatch.setattr(Held, "__module__", "torchvision.datasets.cifar")
    monkeypatch.setattr(Held, "asked", 0)

    stats = imgnorm.measure(Held(transform))

    assert asked == Held.asked
    assert power_sums(BYTES) == moments_of(stats)


@pytest.mark.parametrize(
    ("transform", "refused"),
    [
        (None, None),
        (v2.RandomHorizontalFlip(), "timeout_s .*; and device "),
    ],
)
def test_options_are_refused_unless_the_pixels_are_in_memory(transform, refused, monkeypatch):
    monkeypatch.setattr(Held, "__module__", "torchvision.datasets.cifar")
    dataset = Held(transform)
    facts = call_facts(dataset, timeout_s=1.0, workers=2, device="cuda", limit=3)

    with pytest.raises(SourceError, match=refused) if refused else nullcontext():
        check_options(open_torch(dataset, ItemFormat()), facts)


# What is left out


def test_what_drop_last_drops_is_counted_and_told():
    loader = DataLoader(Images(), batch_size=7, drop_last=True)

    with pytest.warns(imgnorm.SourceWarning) as caught:
        stats = imgnorm.measure(loader)

    assert (98, {"drop-last": 2}, 100) == (
        stats.images,
        dict(stats.measurement.ignored),
        stats.measurement.found,
    )
    assert (
        "Images[100]: drop_last=True left 2 images out, which these numbers lack; measure with "
        "drop_last=False" == str(caught[0].message)
    )


def test_drop_last_is_told_of_a_stream_too():
    with pytest.warns(imgnorm.SourceWarning) as caught:
        stats = imgnorm.measure(DataLoader(Stream(), batch_size=7, drop_last=True))

    assert 98 == stats.images
    assert (
        "Stream: drop_last=True drops up to 6 images of each worker, and these numbers lack them; measure "
        "with drop_last=False" == str(caught[0].message)
    )


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
@pytest.mark.parametrize("batch_size", [None, 10])
def test_a_stream_that_ends_early_lists_what_did_not_come(batch_size):
    stats = imgnorm.measure(DataLoader(SizedStream(103), batch_size=batch_size))

    assert [(name, Reason.VANISHED) for name in ("100", "101", "102")] == [
        (s.name, s.reason) for s in stats.skipped
    ]
    assert "103 images were promised, and 100 came" == stats.skipped[0].detail


@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
def test_a_stream_that_comes_whole_from_each_worker_is_told():
    loader = DataLoader(SizedStream(MANY), batch_size=10, num_workers=2)

    with pytest.warns(imgnorm.SourceWarning) as caught:
        stats = imgnorm.measure(loader)

    assert 2 * MANY == stats.images
    assert (
        "SizedStream[100]: 100 images were promised, and 200 came; each worker gives all of an "
        "IterableDataset that does not ask get_worker_info()" in [str(w.message) for w in caught]
    )


def test_a_stream_of_unknown_length_from_workers_is_told():
    """torch warns about it only if the stream has a length."""
    with pytest.warns(imgnorm.SourceWarning) as caught:
        stats = imgnorm.measure(DataLoader(Stream(), batch_size=10, num_workers=2))

    assert 2 * MANY == stats.images
    (warning,) = caught
    assert (
        "Stream: each of the 2 workers gives all of it, unless it asks get_worker_info() for its part; if it "
        "does not, every image is counted 2 times: measure with num_workers=0"
    ) == str(warning.message)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_that_can_come_only_once_needs_no_note(workers):
    with warnings.catch_warnings():
        warnings.simplefilter("error", imgnorm.SourceWarning)
        stats = imgnorm.measure(DataLoader(Stream(), batch_size=10, num_workers=workers))

    assert MANY == stats.images


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_a_collate_that_loses_images_is_found_out():
    def first_of(samples):
        return default_collate(samples[:1])

    stats = imgnorm.measure(DataLoader(Images(), batch_size=10, collate_fn=first_of))

    assert (10, 90) == (stats.images, len(stats.skipped))


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
@pytest.mark.parametrize("workers", [None, 2])
def test_an_item_that_raises_is_skipped(workers):
    stats = imgnorm.measure(Broken(), workers=workers)

    kept = torch.cat([BYTES[:41], BYTES[42:]])
    assert power_sums(kept) == moments_of(stats)
    assert [("41", Reason.CORRUPT, "ValueError: no image 41")] == [
        (s.name, s.reason, s.detail) for s in stats.skipped
    ]


# What ends it


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_raises_is_told_in_a_sentence(workers):
    loader = DataLoader(Broken(), batch_size=10, num_workers=workers)

    with pytest.raises(SourceError) as caught:
        imgnorm.measure(loader)

    assert (
        "Broken[100]: failed after 40 images: ValueError: no image 41; measure the dataset itself, which "
        "skips and lists such images" == str(caught.value)
    )


class Verbose(Images):
    def __getitem__(self, index):
        raise ValueError("no image\nof this name")


def test_all_lines_of_what_a_worker_raises_are_told():
    with pytest.raises(
        SourceError, match="failed after 0 images: ValueError: no image of this name; "
    ):
        imgnorm.measure(DataLoader(Verbose(), batch_size=10, num_workers=1))


class Optimist:
    """A batch sampler whose length is an estimate."""

    def __iter__(self):
        return iter([[0, 1], [2]])

    def __len__(self):
        return 4


def test_batches_that_a_sampler_promised_and_that_did_not_come_are_listed():
    with pytest.warns(imgnorm.SkippedImagesWarning):
        stats = imgnorm.measure(DataLoader(Images(), batch_sampler=Optimist()))

    assert 3 == stats.images
    assert ["len() is 4, but 2 came"] * 2 == [one.detail for one in stats.skipped]


DIED = (
    r"a worker of the DataLoader died( \(Killed\))?; if it was short of memory, use fewer workers or smaller "
    r"batches, else look into the dataset with num_workers=0"
)


@kills_workers
def test_a_worker_that_dies_is_told_in_a_sentence():
    with pytest.raises(SourceError, match=rf"^Dying\[100\]: (failed after \d+ images: )?{DIED}$"):
        # One worker: torch may raise the death of a second one anywhere, even after this block.
        imgnorm.measure(DataLoader(Dying(), batch_size=10, num_workers=1))


class Doomed(Images):
    def __getitem__(self, index):
        if get_worker_info():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@kills_workers
def test_an_image_at_which_a_worker_dies_costs_itself():
    with pytest.warns(imgnorm.SkippedImagesWarning):
        stats = imgnorm.measure(Dying(), workers=2)

    assert MANY - 1 == stats.images
    ((name, reason),) = [(one.name, one.reason) for one in stats.skipped]
    assert ("41", Reason.WORKER_DIED) == (name, reason)
    kept = [index for index in range(MANY) if index != 41]
    assert power_sums(BYTES[kept]) == moments_of(stats)
    with pytest.raises(SourceError, match=rf"^Doomed\[100\]: {DIED}$"):
        imgnorm.measure(Doomed(), workers=2)


class BrokenAndDying(Images):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 0:
            raise ValueError("no image 0")
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


@kills_workers
@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_a_worker_that_dies_beside_broken_images_does_not_die_at_each(monkeypatch):
    monkeypatch.setattr("imgnorm.datasets.indexed._JOB_IMAGES", 2)
    stats = imgnorm.measure(BrokenAndDying(), workers=2)

    assert 2 == stats.images
    assert [Reason.CORRUPT, Reason.WORKER_DIED] == [one.reason for one in stats.skipped]


@kills_workers
@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_a_worker_that_dies_costs_few_other_processes(monkeypatch):
    """Where processes are not forked, each imports torch."""
    made: list[int] = []
    loader = loaders._loader

    def counted(work, *arguments, **options):
        made.append(len(work))
        return loader(work, *arguments, **options)

    monkeypatch.setattr(loaders, "_loader", counted)
    stats = imgnorm.measure(Dying(), workers=2)

    assert MANY - 1 == stats.images
    # All jobs; the names of the first job; the one that dies, alone, and those behind it; the other jobs.
    assert [2, 64, 64 - 41, 64 - 42, 1] == made


class Sleepy(Images):
    def __getitem__(self, index):
        import time

        time.sleep(60)


@pytest.mark.parametrize(
    ("loader", "expected"),
    [
        (
            DataLoader(Pictures(), batch_size=4),
            (
                "Pictures[100]: failed after 0 images: its dataset gives PIL images, which torch cannot batch; "
                "measure the dataset itself"
            ),
        ),
        (
            DataLoader(
                torchvision.datasets.ImageFolder(SHAPES, torchvision.transforms.ToTensor()),
                batch_size=4,
            ),
            (
                "ImageFolder[24]: failed after 0 images: its images differ in size, which torch cannot batch; "
                "measure the dataset itself, or use batch_size=1"
            ),
        ),
        (
            DataLoader(Sleepy(), batch_size=4, num_workers=1, timeout=1),
            (
                "Sleepy[100]: failed after 0 images: a worker of the DataLoader gave nothing within its `timeout`; "
                "raise it, or find out why"
            ),
        ),
        (
            DataLoader(TensorDataset(torch.arange(50)), batch_size=4),
            (
                "TensorDataset[50]: the first item is int64 of shape (4,); pixels are uint8, uint16 or float: "
                "convert them in the dataset, or, if these are labels, name the image with `key=` (--key)"
            ),
        ),
        (
            DataLoader(TensorDataset(BYTES.permute(0, 2, 3, 1)), batch_size=4),
            (
                "TensorDataset[100]: the first item is a tensor of shape (4, 6, 5, 3), not CHW of 1, 3 or 4 "
                'channels; give layout="NHWC" or "NCHW" (--layout)'
            ),
        ),
    ],
)
def test_what_a_loader_cannot_give_is_told_in_a_sentence(loader, expected):
    with pytest.raises(SourceError) as caught:
        imgnorm.measure(loader)

    assert expected == str(caught.value)


@pytest.mark.parametrize("option", [{"workers": 2}, {"shard": (1, 2)}, {"per_class": True}])
def test_options_that_a_loader_cannot_follow_are_refused(option):
    with pytest.raises(SourceError, match=rf"^Images\[100\]: {next(iter(option))} "):
        imgnorm.measure(DataLoader(Images()), **option)


# Merging


def test_datasets_of_one_name_and_length_are_taken_for_one_unless_told():
    half, other = imgnorm.measure(Images()), imgnorm.measure(Images())

    with pytest.raises(imgnorm.ImgnormError, match=r"counts all 100 images of 'Images\[100\]'"):
        _ = half + other
    assert 200 == imgnorm.merge([half, other], allow_overlap=True).images


def test_datasets_of_other_names_merge_though_their_names_are_numbers(monkeypatch):
    monkeypatch.setattr("imgnorm.datasets.indexed._UNIT_IMAGES", 30)
    first = imgnorm.measure(Images(), shard=(1, 2))
    second = imgnorm.measure(Dicts(), shard=(2, 2))

    assert (60, 40) == (first.images, second.images)
    assert ["only shard 2 of 2 of 'Dicts[100]'", "only shard 1 of 2 of 'Images[100]'"] == (
        (first + second).measurement.source.incomplete
    )
