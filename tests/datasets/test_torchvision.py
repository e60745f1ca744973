"""torchvision's datasets: the real MNIST if its files are here, and small classes in the layouts of others."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

import imgnorm
from imgnorm.datasets.torchvision import TorchvisionSource
from imgnorm.errors import MissingDependency, SourceError
from imgnorm.pixels.count import Counting, UnitEntries, count
from imgnorm.pixels.formats import decoder_of
from imgnorm.progress import Profile
from imgnorm.settings import CenterCrop, Digits, ImageSettings, Resize
from imgnorm.sources.source import Unit
from imgnorm.tally.moments import Moments
from imgnorm.tally.skipped import Unreadable
from imgnorm.tally.tally import Tally, total_of
from imgnorm.workers.executor import Work


def power_sums(images: np.ndarray) -> Moments:
    """Of (N, H, W, C)."""
    wide = images.astype(np.int64)
    return Moments(
        wide[..., 0].size,
        tuple(wide.sum(axis=(0, 1, 2)).tolist()),
        tuple((wide * wide).sum(axis=(0, 1, 2)).tolist()),
    )


def moments_of(stats: imgnorm.Stats) -> Moments:
    assert stats.measurement is not None
    return stats.measurement.histogram.moments()


# The real one


@pytest.fixture
def mnist_root(shared_data: Path) -> Path:
    return shared_data / "mnist"


def mnist_images(root: Path, part: str) -> np.ndarray:
    data = (root / "MNIST" / "raw" / f"{part}-images-idx3-ubyte").read_bytes()
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28, 1)


def mnist_labels(root: Path, part: str) -> np.ndarray:
    data = (root / "MNIST" / "raw" / f"{part}-labels-idx1-ubyte").read_bytes()
    return np.frombuffer(data, np.uint8, offset=8)


def test_mnist_has_the_mean_and_std_that_it_is_known_for(mnist_root):
    stats = imgnorm.measure("torchvision:MNIST", root=mnist_root)

    assert (60000, ("L",), ()) == (stats.images, stats.channels, stats.skipped)
    assert stats.mean == pytest.approx((0.1306604762738429,), rel=0, abs=2.0**-55)  # 1 ulp
    assert stats.std == pytest.approx((0.3081078038564627,), rel=0, abs=2.0**-54)  # 1 ulp
    assert power_sums(mnist_images(mnist_root, "train")) == moments_of(stats)


def test_the_test_split_is_another_measurement(mnist_root):
    stats = imgnorm.measure("torchvision:MNIST", root=mnist_root, split="test")

    assert 10000 == stats.images
    assert power_sums(mnist_images(mnist_root, "t10k")) == moments_of(stats)
    assert {"split": "test"} == dict(stats.measurement.source.options)


def test_gray_asked_for_as_rgb_is_three_equal_channels(mnist_root):
    stats = imgnorm.measure("torchvision:MNIST", root=mnist_root, split="test", mode="RGB")

    replicated = np.repeat(mnist_images(mnist_root, "t10k"), 3, axis=3)
    assert ("R", "G", "B") == stats.channels
    assert power_sums(replicated) == moments_of(stats)


def test_each_class_of_mnist_has_the_sums_of_its_images(mnist_root):
    stats = imgnorm.measure("torchvision:MNIST", root=mnist_root, split="test", per_class=True)

    images, labels = mnist_images(mnist_root, "t10k"), mnist_labels(mnist_root, "t10k")
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    expected = {
        f"{digit} - {name}": (int((labels == digit).sum()), power_sums(images[labels == digit]))
        for digit, name in enumerate(names)
    }
    assert expected == {
        name: (of_class.images, of_class.moments)
        for name, of_class in stats.measurement.classes.items()
    }
    assert power_sums(images) == moments_of(stats)


def test_a_limit_is_spread_over_the_dataset(mnist_root):
    stats = imgnorm.measure("torchvision:MNIST", root=mnist_root, split="test", limit=100)

    assert power_sums(mnist_images(mnist_root, "t10k")[::100]) == moments_of(stats)
    assert {"limit": 9900} == dict(stats.measurement.ignored)


# Small ones in every layout


class Dataset:
    """What torchvision's datasets have in common."""

    data: Any
    classes = ("cat", "dog")

    def __init__(self, root: str, train: bool = True) -> None:
        self.root = root

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.picture(index), 0

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(np.asarray(self.data[index]))


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)


class LikeCifar10(Dataset):  # (N, H, W, C)
    data = pixels(12, 5, 4, 3)
    targets = [0, 1, 1] * 4
    images = data


class LikeSvhn(Dataset):  # (N, C, H, W)
    data = pixels(12, 3, 5, 4)
    labels = np.array([1, 0, 0] * 4)
    images = data.transpose(0, 2, 3, 1)

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self.data[index].transpose(1, 2, 0))


class LikeStl10(LikeSvhn):
    """Its unlabeled images have the label -1."""

    labels = np.array([1, 0, -1] * 4)


class LikeMnist(Dataset):  # (N, H, W), a tensor
    data = torch.from_numpy(pixels(12, 5, 4))
    targets = torch.tensor([0, 0, 1] * 4)
    images = data.numpy()[..., np.newaxis]

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self.data[index].numpy())


class AmbiguousLayout(Dataset):  # (N, 3, H, 3): only its images show which axis is the channel
    data = pixels(12, 3, 4, 3)
    images = data.transpose(0, 2, 3, 1)

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self.data[index].transpose(1, 2, 0))


HELD = [LikeCifar10, LikeSvhn, LikeStl10, LikeMnist, AmbiguousLayout]


class Turned(LikeMnist):
    """Gives its images transposed: they are not the slices of its array."""

    data = pixels(12, 5, 5)
    images = data.transpose(0, 2, 1)[..., np.newaxis]

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self.data[index].T.copy())


class OddInTheMiddle(LikeMnist):
    """First and last image are those of the array, but one between is not."""

    images = LikeMnist.images.copy()
    images[6] = 0

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index, :, :, 0])


class Wide(Dataset):
    """uint16 data that is shown in 8 bits."""

    data = pixels(12, 5, 4).astype(np.uint16) * 200
    images = (data >> 8).astype(np.uint8)[..., np.newaxis]

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray((self.data[index] >> 8).astype(np.uint8))


class Paired(Dataset):
    """data that is a list of paths, as of ImageFolder."""

    data = [f"{i}.png" for i in range(12)]  # noqa: RUF012
    images = pixels(12, 5, 4, 3)

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index])


SHOWN = [Turned, OddInTheMiddle, Wide, Paired]


@pytest.fixture
def source_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TorchvisionSource]:
    def made(kind: type, split: str = "train", root: str = "data") -> TorchvisionSource:
        monkeypatch.setattr(torchvision.datasets, "CIFAR10", kind)
        return TorchvisionSource("CIFAR10", root, split)

    return made


def units_of(source: TorchvisionSource) -> list[Unit]:
    units = list(source.units())
    assert all(isinstance(unit, Unit) for unit in units)
    return units  # type: ignore[return-value]


def names_of(source: TorchvisionSource) -> list[str]:
    return [name for unit in units_of(source) for name in unit.names or ()]


def read_one_by_one(source: TorchvisionSource, settings: ImageSettings) -> Tally:
    """As a worker process reads them: the dataset itself makes the images."""
    counting = Counting(Digits(settings, 10**6), source.class_of)
    alone = [unit.part(i, i + 1) for unit in units_of(source) for i in range(len(unit))]
    return total_of(count(UnitEntries(source, unit), counting).tally for unit in alone)


def in_memory(source: TorchvisionSource, settings: ImageSettings) -> str:
    """What is counted of a source whose pixels are in memory: its array, or PIL images made of it."""
    executor = source.executor(Work(Digits(settings), workers=1))
    if executor is None:
        return "nothing"
    tally = executor(source.units(), lambda progress: None)
    formats = {format_ for counted in tally.counted.values() for format_ in counted.formats}
    assert len(formats) <= 1
    return formats.pop() if formats else "PIL"


@pytest.mark.parametrize("kind", HELD)
def test_an_array_in_any_layout_is_counted_as_it_is(kind, source_of):
    stats = imgnorm.measure(source_of(kind))

    assert power_sums(kind.images) == moments_of(stats)
    assert {"array": 12} == dict(stats.measurement.formats)
    assert kind.images.shape[3] == len(stats.channels)


@pytest.mark.parametrize("kind", HELD)
@pytest.mark.parametrize("mode", ["auto", "RGB"])
def test_array_and_images_give_the_same_sums(kind, mode, source_of):
    stats = imgnorm.measure(source_of(kind), mode=mode)

    (counted,) = read_one_by_one(source_of(kind), ImageSettings(mode)).counted.values()
    if counted.histogram.channels < len(stats.channels):
        counted = counted.replicated(len(stats.channels))
    assert counted.histogram == stats.measurement.histogram
    assert counted.sums == stats.measurement.sums


@pytest.mark.parametrize("kind", SHOWN)
def test_an_array_that_is_not_what_the_dataset_shows_is_left_alone(kind, source_of):
    source = source_of(kind)
    mode = "L" if kind.images.shape[3] == 1 else "RGB"

    assert "nothing" == in_memory(source, ImageSettings())
    assert power_sums(kind.images) == (
        read_one_by_one(source, ImageSettings()).counted[mode].histogram.moments()
    )


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        (LikeCifar10, ImageSettings("auto"), True),
        (LikeCifar10, ImageSettings("RGB"), True),
        (LikeCifar10, ImageSettings("L"), False),
        (LikeCifar10, ImageSettings("RGBA"), False),
        (LikeMnist, ImageSettings("auto"), True),
        (LikeMnist, ImageSettings("L"), True),
        (LikeMnist, ImageSettings("RGB"), True),
        (LikeMnist, ImageSettings("I;16"), False),
        (LikeMnist, ImageSettings("L", (Resize(3),)), False),
        (LikeCifar10, ImageSettings("RGB", (CenterCrop(3),)), False),
    ],
)
def test_the_array_is_used_only_where_it_is_what_was_asked_for(kind, settings, expected, source_of):
    assert ("array" if expected else "PIL") == in_memory(source_of(kind), settings)


def test_images_that_are_converted_and_resized_go_through_pillow(source_of):
    settings = ImageSettings("L", (Resize((3, 2)),))
    small = [
        np.asarray(Image.fromarray(i).convert("L").resize((2, 3), Image.Resampling.BILINEAR))
        for i in LikeCifar10.images
    ]

    counted = read_one_by_one(source_of(LikeCifar10), settings).counted["L"]

    assert power_sums(np.stack(small)[..., np.newaxis]) == counted.histogram.moments()
    assert {"PIL": 12} == dict(counted.formats)


@pytest.fixture
def cifar10_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files in the layout of torchvision's own class: 20 images to train, of which 10 to test."""
    images = pixels(20, 32, 32, 3)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    meta = pickle.dumps({"label_names": ["cat", "dog"]})
    rows = images.transpose(0, 3, 1, 2).reshape(20, -1)
    parts = [
        pickle.dumps({"data": rows[i : i + 10], "labels": [i % 2 for i in range(10)]})
        for i in (0, 10)
    ]
    for name, data in (("meta", meta), ("one", parts[0]), ("two", parts[1])):
        (folder / name).write_bytes(data)
    kind = torchvision.datasets.CIFAR10
    sums = [hashlib.md5(part).hexdigest() for part in parts]
    monkeypatch.setattr(kind, "train_list", [["one", sums[0]], ["two", sums[1]]])
    monkeypatch.setattr(kind, "test_list", [["two", sums[1]]])
    described = {"filename": "meta", "key": "label_names", "md5": hashlib.md5(meta).hexdigest()}
    monkeypatch.setattr(kind, "meta", described)
    return tmp_path


def test_cifar10_itself_is_counted_from_its_files(cifar10_root):
    images = pixels(20, 32, 32, 3)

    stats = imgnorm.measure("torchvision:CIFAR10", root=cifar10_root, per_class=True)
    tested = imgnorm.measure("torchvision:CIFAR10", root=cifar10_root, split="test")

    assert power_sums(images) == moments_of(stats)
    assert power_sums(images[10:]) == moments_of(tested)
    assert {"cat": power_sums(images[::2]), "dog": power_sums(images[1::2])} == {
        name: of_class.moments for name, of_class in stats.measurement.classes.items()
    }


def test_fakedata_is_counted_in_worker_processes():
    """Images that exist only when asked for; a worker opens the dataset itself."""
    dataset = torchvision.datasets.FakeData()
    images = np.stack([np.asarray(dataset[index][0]) for index in range(0, 1000, 250)])

    stats = imgnorm.measure("torchvision:FakeData", limit=4, workers=1)

    assert power_sums(images) == moments_of(stats)
    assert ({"PIL": 4}, {"PIL": decoder_of("PIL")}, {"limit": 4}) == (
        dict(stats.measurement.formats),
        dict(stats.measurement.decoders),
        dict(stats.measurement.source.options),
    )


# Pixels in memory that are not what was asked for


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker would import torch and load the dataset again."""

    def in_processes(*args: object, **options: object) -> None:
        pytest.fail("a worker process was about to start")

    monkeypatch.setattr("imgnorm.measuring.routes.in_processes", in_processes)


def seen_through(dataset: Any, *steps: Any) -> np.ndarray:
    """What torchvision's own transforms make of a dataset, (N, H, W, C)."""
    through = torchvision.transforms.Compose(steps)
    images = np.stack([np.asarray(through(image)) for image, _ in dataset])
    return images.reshape(*images.shape[:3], -1)


THROUGH = {
    "resized": ({"resize": 20}, (torchvision.transforms.Resize(20),)),
    "enlarged, unevenly": ({"resize": (40, 33)}, (torchvision.transforms.Resize((40, 33)),)),
    "padded": ({"center_crop": 41}, (torchvision.transforms.CenterCrop(41),)),
    "resized and cropped": (
        {"resize": 24, "center_crop": (17, 22)},
        (torchvision.transforms.Resize(24), torchvision.transforms.CenterCrop((17, 22))),
    ),
    "in gray": ({"mode": "L"}, (lambda image: image.convert("L"),)),
    "in color": (
        {"mode": "RGB", "resize": 20},
        (lambda image: image.convert("RGB"), torchvision.transforms.Resize(20)),
    ),
}


@pytest.mark.parametrize(("options", "steps"), THROUGH.values(), ids=THROUGH)
def test_mnist_is_seen_through_torchvisions_own_transforms(options, steps, mnist_root, no_worker):
    stats = imgnorm.measure("torchvision:MNIST", root=mnist_root, split="test", **options)

    dataset = torchvision.datasets.MNIST(mnist_root, train=False)
    assert power_sums(seen_through(dataset, *steps)) == moments_of(stats)
    assert (10000, {"L": 10000}) == (stats.images, dict(stats.measurement.modes))


@pytest.mark.parametrize(("options", "steps"), THROUGH.values(), ids=THROUGH)
def test_cifar10_is_seen_through_torchvisions_own_transforms(
    options, steps, cifar10_root, no_worker
):
    dataset = torchvision.datasets.CIFAR10(cifar10_root)
    named = imgnorm.measure("torchvision:CIFAR10", root=cifar10_root, **options)
    given = imgnorm.measure(dataset, **options)

    assert power_sums(seen_through(dataset, *steps)) == moments_of(named) == moments_of(given)
    assert named.measurement.sums == given.measurement.sums


@pytest.mark.parametrize("kind", HELD)
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        ImageSettings("auto", (Resize(3), CenterCrop(4))),
        ImageSettings("L"),
        ImageSettings("RGBA"),
        ImageSettings("RGB", strict_channels=True),
        ImageSettings("I;16"),  # of none: all are skipped
    ],
    ids=str,
)
def test_threads_count_what_a_worker_would(kind, workers, settings, source_of, no_worker):
    """In a worker, the dataset itself makes the images."""
    source, work = source_of(kind), Work(Digits(settings), workers=workers)
    expected = read_one_by_one(source_of(kind), settings)

    executor = source.executor(work)
    assert executor
    tally = executor(source.units(), lambda progress: None)

    assert 12 == tally.images + len(tally.skipped) == tally.names
    if in_memory(source, settings) == "array":  # gray arrays are not copied to be counted as RGB
        assert 12 == tally.images
    else:
        assert expected == tally


def test_a_sample_a_shard_and_classes_are_of_the_preprocessed_images(
    cifar10_root, no_worker, monkeypatch
):
    monkeypatch.setattr("imgnorm.datasets.indexed._UNIT_IMAGES", 5)
    shown = torchvision.datasets.CIFAR10(cifar10_root)
    small = seen_through(shown, torchvision.transforms.Resize(8))
    options = {"root": cifar10_root, "resize": 8}

    classes = imgnorm.measure("torchvision:CIFAR10", per_class=True, **options).measurement.classes
    second = imgnorm.measure("torchvision:CIFAR10", shard=(2, 3), **options)
    few = imgnorm.measure("torchvision:CIFAR10", limit=4, **options)

    assert {"cat": power_sums(small[::2]), "dog": power_sums(small[1::2])} == {
        name: of_class.moments for name, of_class in classes.items()
    }
    assert power_sums(small[5:10]) == moments_of(second)
    assert power_sums(small[::5]) == moments_of(few)


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"max_pixels": 1000, "resize": 8}, "32x32 is 1,024 pixels; the limit is 1,000"),
        ({"max_pixels": 1100, "resize": 40}, "resizing 32x32 to 40x40 makes 1,600 pixels"),
    ],
)
def test_too_large_images_are_named_one_by_one(options, detail, cifar10_root, no_worker):
    with pytest.raises(SourceError) as caught:
        imgnorm.measure("torchvision:CIFAR10", root=cifar10_root, **options)

    assert f"00: too-large ({detail}" in str(caught.value)


def test_a_decoder_is_refused(source_of):
    with pytest.raises(ValueError, match="decoder does nothing: a torchvision dataset opens its"):
        imgnorm.measure(source_of(LikeCifar10), decoder="pillow")


def test_opening_the_dataset_is_part_of_the_start(monkeypatch, source_of):
    """Importing torch takes seconds, which are not part of listing."""
    source = source_of(LikeCifar10)
    monkeypatch.setattr(source, "open", lambda: sleep(0.3))
    profile = Profile()

    imgnorm.measure(source, resize=3, profile=profile)

    seconds = profile.processes["main"].seconds
    assert seconds["start"] >= 0.3 > seconds["list"]


@pytest.mark.parametrize("options", [{}, {"resize": 8}], ids=["as it is", "resized"])
def test_the_label_of_a_dataset_in_memory_is_no_image(options, cifar10_root):
    """Its pixels were once counted instead of the images that `key` names."""
    dataset = torchvision.datasets.CIFAR10(cifar10_root)

    assert (
        imgnorm.measure(dataset, **options).mean == imgnorm.measure(dataset, key=0, **options).mean
    )
    with pytest.raises(SourceError, match="the first item is an int, not an image"):
        imgnorm.measure(dataset, key=1, **options)


# Names and classes


def test_names_are_indices_whose_order_as_text_is_their_order(source_of):
    names = names_of(source_of(LikeCifar10))

    assert [f"{i:02d}" for i in range(12)] == names == sorted(names)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (LikeCifar10, ["cat", "dog", "dog"]),
        (LikeSvhn, ["dog", "cat", "cat"]),
        (LikeMnist, ["cat", "cat", "dog"]),
        (LikeStl10, ["dog", "cat", None]),
        (AmbiguousLayout, [None, None, None]),
    ],
)
def test_a_class_is_the_name_of_the_label(kind, expected, source_of):
    source = source_of(kind)

    assert expected == [source.class_of(name) for name in ("00", "01", "02")]


@pytest.mark.parametrize(
    "labels",
    [
        [["a.xml"]] * 12,  # as of Cityscapes
        ["000000.txt"] * 12,  # as of Kitti
        torch.zeros(12, 8),  # as of QMNIST
        [7] * 12,  # beyond the names
    ],
)
def test_labels_that_name_no_class_are_no_classes(labels, source_of, monkeypatch):
    monkeypatch.setattr(LikeCifar10, "targets", labels)

    assert source_of(LikeCifar10).class_of("03") is None


def test_classes_are_refused_where_there_are_none(source_of):
    with pytest.raises(SourceError) as caught:
        imgnorm.measure(source_of(AmbiguousLayout), per_class=True)

    assert "CIFAR10: has no class folders; measure it without --per-class" == str(caught.value)


def test_an_empty_dataset_is_refused(source_of):
    class Empty(LikeCifar10):
        data = pixels(0, 5, 4, 3)

    with pytest.raises(SourceError, match=r"^CIFAR10: no images in it"):
        imgnorm.measure(source_of(Empty))


def test_a_source_travels_without_pixels_and_never_downloads_again(source_of):
    source = TorchvisionSource("MNIST", "somewhere", "test", download=True)

    data = pickle.dumps(source)
    again = pickle.loads(data)

    assert ("MNIST", "somewhere", "test", False) == (
        again.ref,
        again.root,
        again.split,
        again.download,
    )
    opened = source_of(LikeCifar10)
    assert "array" == in_memory(opened, ImageSettings())
    assert len(pickle.dumps(opened)) < 200


# What goes wrong


@pytest.mark.parametrize(
    "error",
    [
        OSError("image file is truncated (4 bytes not processed)"),
        SyntaxError("broken PNG file"),  # Pillow's PNG reader raises it while loading
        ValueError("not enough image data"),
    ],
)
def test_an_image_that_the_dataset_cannot_load_costs_one_image(error, source_of):
    class Broken(Paired):
        def picture(self, index: int) -> Image.Image:
            if index in (0, 5):
                raise error
            return super().picture(index)

    tally = read_one_by_one(source_of(Broken), ImageSettings())

    assert 10 == tally.images
    assert [("00", f"corrupt: {error}"), ("05", f"corrupt: {error}")] == [
        (s.name, f"{s.reason}: {s.detail}") for s in tally.skipped
    ]


def test_an_image_that_the_dataset_cannot_load_says_why(source_of):
    class Broken(Paired):
        def picture(self, index: int) -> Image.Image:
            raise OSError("cannot identify\nimage file 'x.png'")

    with pytest.raises(Unreadable) as caught:
        source_of(Broken).read("00")

    assert "corrupt: cannot identify image file 'x.png'" == str(caught.value)


def refusal(name: str, root: Path | str = "data", **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        imgnorm.measure(f"torchvision:{name}", root=root, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar10", "did you mean CIFAR10?"),
        ("mnist", "did you mean MNIST?"),
        ("Food11", "did you mean Food101?"),
        ("Imagenete", "did you mean Imagenette or ImageNet?"),
        ("", "torchvision.datasets lists them"),
        ("qqqqqqqqqq", "torchvision.datasets lists them"),
        ("os", "torchvision.datasets lists them"),
        ("__all__", "torchvision.datasets lists them"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_ones(name, hint, monkeypatch):
    known = ("CIFAR10", "MNIST", "Food101", "Imagenette", "ImageNet", "SVHN")  # of any version
    monkeypatch.setattr(torchvision.datasets, "__all__", known)

    assert f"torchvision:{name}: torchvision has no such dataset; {hint}" == refusal(name)


def test_a_function_of_torchvision_datasets_is_no_dataset():
    message = refusal("wrap_dataset_for_transforms_v2")

    assert message.startswith("torchvision:wrap_dataset_for_transforms_v2: torchvision has no such")


def test_missing_files_are_told_with_root_and_split(tmp_path):
    expected = (
        f"torchvision:MNIST: cannot be opened below --root {tmp_path} with --split train "
        "(Dataset not found. You can use download=True to download it); "
        "check both, or add --download"
    )
    assert expected == refusal("MNIST", tmp_path)


def test_a_split_that_the_dataset_does_not_have_is_refused(tmp_path):
    expected = "torchvision:MNIST: has no split 'val'; choose train or test"
    assert expected == refusal("MNIST", tmp_path, split="val")


def test_a_split_that_the_dataset_refuses_is_told_in_its_words(tmp_path):
    expected = (
        f"torchvision:STL10: cannot be opened below --root {tmp_path} with --split val "
        "(Unknown value 'val' for argument split. Valid values are "
        "{'train', 'test', 'unlabeled', 'train+unlabeled'}.); check both, or add --download"
    )
    message = refusal("STL10", tmp_path, split="val")

    assert expected.partition("{")[0] == message.partition("{")[0]  # a set, in any order
    assert expected.partition("}")[2] == message.partition("}")[2]


def test_emnist_has_two_parts_to_its_split(tmp_path, monkeypatch):
    asked: dict[str, Any] = {}

    class LikeEmnist(LikeMnist):
        def __init__(self, root: str, split: str, train: bool = True, download: bool = False):
            asked.update(split=split, train=train, download=download)

    monkeypatch.setattr(torchvision.datasets, "EMNIST", LikeEmnist)
    for split, expected in (
        ("letters/test", {"split": "letters", "train": False, "download": False}),
        ("letters/train", {"split": "letters", "train": True, "download": False}),
        ("letters", {"split": "letters", "train": True, "download": False}),
    ):
        imgnorm.measure("torchvision:EMNIST", root=tmp_path, split=split)

        assert expected == asked

    expected_message = "torchvision:EMNIST: has no split 'val'; choose train or test"
    assert expected_message == refusal("EMNIST", tmp_path, split="letters/val")


def test_a_download_is_asked_for_only_if_the_user_did(monkeypatch):
    asked: list[bool] = []

    class Downloading(LikeCifar10):
        def __init__(self, root: str, train: bool = True, download: bool = False) -> None:
            asked.append(download)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Downloading)
    imgnorm.measure("torchvision:CIFAR10")
    imgnorm.measure("torchvision:CIFAR10", download=True)

    assert [False, True] == asked


def test_arguments_that_a_class_passes_on_to_its_parent_are_found(monkeypatch):
    asked: dict[str, Any] = {}

    class Parent(LikeCifar10):
        def __init__(self, root: str, split: str = "train", download: bool = False) -> None:
            asked.update(root=root, split=split)

    class Child(Parent):
        def __init__(self, flavour: str = "plain", **kwargs: Any) -> None:
            super().__init__(**kwargs)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Child)
    imgnorm.measure("torchvision:CIFAR10", root="here", split="extra")

    assert {"root": "here", "split": "extra"} == asked


def test_a_dataset_of_videos_is_refused(source_of):
    class Videos(Paired):
        def __getitem__(self, index: int) -> tuple[Any, int]:
            return torch.zeros(3, 4), 0

    with pytest.raises(SourceError) as caught:
        imgnorm.measure(source_of(Videos))

    expected = "torchvision:CIFAR10: its items are not images; choose an image dataset"
    assert expected == str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operator torchvision::nms\n  does not exist"),  # one for CUDA, one for CPU
        ModuleNotFoundError("No module named 'torchvision'"),
        OSError("libcudart.so.13: cannot open shared object file"),
    ],
)
def test_a_torchvision_that_cannot_be_imported_is_answered_with_what_to_install(error, monkeypatch):
    def broken(name: str) -> Any:
        raise error

    monkeypatch.setattr("imgnorm._torch.import_module", broken)
    with pytest.raises(MissingDependency) as caught:
        imgnorm.measure("torchvision:MNIST")

    reason = str(error).replace("\n ", "")
    expected = (
        f"torchvision cannot be imported ({reason}); torch and torchvision must be a pair: install "
        "both anew with `pip install --force-reinstall torch torchvision`"
    )
    assert expected == str(caught.value)
