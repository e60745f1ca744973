"""The commands that scripts/bench compares: `python scripts/contestants.py NAME OPERANDS…` runs one.

Their start-up counts, so each imports only what it needs, inside its function.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

DECODE_CHUNK = 32  # images that a decoding worker gets at once
LOOP_BATCH = 64


def command(name: str, *operands: str) -> list[str]:
    """The command that runs a contestant."""
    return [sys.executable, str(Path(__file__).resolve()), name, *operands]


def decode(folder: str) -> None:
    """Read and decode with Pillow on every core, and count nothing."""
    in_a_pool(decode_all, folder)


def in_a_pool(work: Callable[[list[str]], object], folder: str) -> None:
    names = list(files_under(folder))
    chunks = [names[start : start + DECODE_CHUNK] for start in range(0, len(names), DECODE_CHUNK)]
    method = "fork" if sys.platform == "linux" else "spawn"  # the fastest that is safe
    with multiprocessing.get_context(method).Pool(CORES) as pool:
        for _ in pool.imap_unordered(work, chunks):
            pass


def files_under(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from files_under(entry.path)
            else:
                yield entry.path


def decode_all(names: list[str]) -> None:
    from PIL import Image

    for name in names:
        with open(name, "rb") as file:
            image = Image.open(BytesIO(file.read()))
        image.load()
        if image.mode != "RGB":
            image.convert("RGB")


def decode_turbo(folder: str) -> None:
    """Read and decode with libjpeg-turbo alone: one buffer, no Pillow, no look at the file or its header."""
    in_a_pool(decode_all_turbo, folder)


def decode_all_turbo(names: list[str]) -> None:
    import numpy as np
    import simplejpeg

    buffer = np.empty(4 << 22, np.uint8)
    for name in names:
        with open(name, "rb") as file:
            simplejpeg.decode_jpeg(file.read(), "RGBX", buffer=buffer)


def opencv(folder: str) -> None:
    """What an expert would write: imread and meanStdDev in a pool of processes."""
    import cv2

    cv2.setNumThreads(1)
    in_a_pool(mean_std_all, folder)


def mean_std_all(names: list[str]) -> tuple[int, Any, Any]:
    import cv2
    import numpy as np

    count, total, total_sq = 0, np.zeros(3), np.zeros(3)
    for name in names:
        image = cv2.imread(name)
        mean, std = cv2.meanStdDev(image)
        pixels = image.shape[0] * image.shape[1]
        count += pixels
        total += pixels * mean[:, 0]
        total_sq += pixels * (std[:, 0] ** 2 + mean[:, 0] ** 2)
    return count, total, total_sq


def dali(folder: str, batch_size: str) -> None:
    """DALI's pipeline without a GPU: float32 means of each image, weighted by its pixels."""
    import numpy as np
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def
    def means() -> tuple[Any, ...]:
        encoded, _ = fn.readers.file(files=names, name="files")
        images = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
        mean = fn.reductions.mean(images, axes=(0, 1))
        mean_square = fn.reductions.mean_square(images, axes=(0, 1))
        return mean, mean_square, images.shape()

    names = list(files_under(folder))
    pipeline = means(batch_size=int(batch_size), num_threads=CORES, device_id=None)
    pipeline.build()
    count, total, total_sq = 0, np.zeros(3), np.zeros(3)
    for done in range(0, len(names), int(batch_size)):
        mean, mean_square, shape = (output.as_array() for output in pipeline.run())
        left = len(names) - done  # the last batch is filled up with images of the first
        pixels = shape[:left, 0] * shape[:left, 1]
        count += pixels.sum()
        total += pixels @ mean[:left].astype(np.float64)
        total_sq += pixels @ mean_square[:left].astype(np.float64)


def decode_and_resize(folder: str) -> None:
    in_a_pool(decode_and_resize_all, folder)


def decode_and_resize_all(names: list[str]) -> None:
    from PIL import Image

    for name in names:
        with open(name, "rb") as file:
            image = Image.open(BytesIO(file.read())).convert("RGB")
        width, height = image.size
        scale = 256 / min(width, height)
        image = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        image.crop((left, top, left + 224, top + 224))


def pixels_of(shape: str) -> Any:
    import numpy as np

    one = np.random.default_rng(0).integers(0, 256, 1 << 16, np.uint8)
    return np.resize(one, [int(edge) for edge in shape.split(",")])


def copy(shape: str) -> None:
    images = pixels_of(shape)
    for _ in range(10):
        images.copy()


def count(shape: str) -> None:
    from imgnorm import measure

    images = pixels_of(shape)
    for _ in range(10):
        measure(images)


def names(count: str) -> None:
    from generated import GeneratedSource

    from imgnorm import Profile, measure

    profile = Profile()
    assert measure(GeneratedSource(int(count)), profile=profile).images == int(count)
    print(f"{profile.processes['main'].cpu_s:.1f}")


def loop_over_crops(folder: str) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

    steps = Compose([Resize(256), CenterCrop(224), ToTensor()])
    pasted_loop(ImageFolder(folder, transform=steps), LOOP_BATCH)


def loop_over_folder(folder: str, batch_size: str) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import ToTensor

    pasted_loop(ImageFolder(folder, transform=ToTensor()), int(batch_size))


def loop_over_mnist(root: str) -> None:
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    pasted_loop(MNIST(root, train=True, transform=ToTensor()), LOOP_BATCH)


def cifar(root: str, **options: Any) -> Any:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets import cifar as module

    module.check_integrity = lambda path, md5: True  # noise has a digest of its own
    return CIFAR10(root, **options)


def measure_cifar(root: str) -> None:
    import imgnorm

    imgnorm.measure(cifar(root))


def loop_over_cifar(root: str) -> None:
    from torchvision.transforms import ToTensor

    pasted_loop(cifar(root, transform=ToTensor()), LOOP_BATCH)


def loop_over_array(path: str) -> None:
    import numpy as np
    from torch.utils.data import Dataset
    from torchvision.transforms import ToTensor

    class Images(Dataset[Any]):
        def __init__(self) -> None:
            self.images = np.load(path, mmap_mode="r")
            self.transform = ToTensor()

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            return self.transform(np.array(self.images[index])), 0

    pasted_loop(Images(), LOOP_BATCH)


def pasted_loop(dataset: Any, batch_size: int) -> None:
    """The loop of many forum answers, with its mistake: every batch gets the same weight."""
    import torch
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, batch_size=batch_size, num_workers=CORES)
    channels_sum, channels_squared_sum, batches = torch.zeros(1), torch.zeros(1), 0
    for images, _ in loader:
        channels_sum = channels_sum + torch.mean(images, dim=[0, 2, 3])
        channels_squared_sum = channels_squared_sum + torch.mean(images**2, dim=[0, 2, 3])
        batches += 1
    mean = channels_sum / batches
    std = (channels_squared_sum / batches - mean**2) ** 0.5
    print(mean, std)


def load_yaml(folder: str) -> None:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted(Path(folder).iterdir()):
        yaml.load(path.read_bytes(), loader)


CONTESTANTS: dict[str, Callable[..., None]] = {
    "copy": copy,
    "count": count,
    "dali": dali,
    "decode": decode,
    "decode-and-resize": decode_and_resize,
    "decode-turbo": decode_turbo,
    "load-yaml": load_yaml,
    "loop-over-array": loop_over_array,
    "loop-over-cifar": loop_over_cifar,
    "loop-over-crops": loop_over_crops,
    "loop-over-folder": loop_over_folder,
    "loop-over-mnist": loop_over_mnist,
    "measure-cifar": measure_cifar,
    "names": names,
    "opencv": opencv,
}

if __name__ == "__main__":
    CONTESTANTS[sys.argv[1]](*sys.argv[2:])
