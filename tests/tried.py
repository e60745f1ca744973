"""Every file that `imgnorm emit --to` writes, with images through its framework and through Normalize.

What tests/pipeline/test_targets.py and scripts/make_target_table share.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import applied
import numpy as np
import torch
from applied import Array
from torchvision.transforms.functional import normalize

import imgnorm
from imgnorm.pipeline.targets import TARGETS
from imgnorm.settings import Kind, channels_of, mode_of, scale_of
from imgnorm.stats.stats import Stats

NAMES = ("torchvision", *TARGETS)

PACKAGES = "IMGNORM_TARGETS"
"""The environment variable with the folder that holds the packages which are not in this environment."""
_OTHERS = (
    "transformers tokenizers huggingface_hub safetensors regex httpx httpcore anyio h11 idna certifi typer "
    "hf-xet filelock fsspec requests open_clip_torch ftfy wcwidth albumentations==2.0.8 albucore==0.0.24 "
    "stringzilla simsimd pydantic opencv-python-headless scipy kornia kornia_rs keras namex optree ml_dtypes "
    "h5py absl-py rich openvino mmengine-lite addict yapf termcolor platformdirs mmcv-lite<2.2 mmpretrain "
    "importlib_metadata<9 zipp einops mat4py model-index ordered_set mmdet pycocotools terminaltables shapely "
    "mmsegmentation prettytable matplotlib markdown six python-dateutil pyparsing cycler kiwisolver contourpy "
    "fonttools"
)

HOW_TO_INSTALL = f"pip install --no-deps --target FOLDER {_OTHERS}; set {PACKAGES}=FOLDER (900 MB)"

_KINDS: tuple[Kind, ...] = ("8-bit", "16-bit", "float")


def stats_of(channels: int, kind: Kind) -> Stats:
    mode = mode_of(channels, kind)
    mean = tuple(0.4914 - i / 50 for i in range(channels))
    std = tuple(0.2470 - i / 100 for i in range(channels))
    unit = 40 if kind == "float" else 1
    means, stds = tuple(unit * m for m in mean), tuple(unit * s for s in std)
    return Stats(channels_of(mode), means, stds, scale_of(mode), mode)


KINDS = {
    f"{channels} of {kind}": stats_of(channels, kind)
    for kind in _KINDS
    for channels in (1, 3, 4, 13)
}


def image_of(stats: Stats) -> Array:
    random = np.random.default_rng(0)
    shape = (20, 24, len(stats.mean))
    if stats.of_floats:
        return random.normal(20, 20, shape).astype(np.float32)
    return random.integers(0, stats.scale + 1, shape).astype(
        {255: np.uint8, 65535: np.uint16}[stats.scale]
    )


def expected(stats: Stats, image: Array) -> Array:
    """By torchvision's Normalize, in float64."""
    unit = torch.from_numpy(np.moveaxis(image.astype(np.float64) / stats.scale, -1, 0).copy())
    return np.asarray(normalize(unit, stats.mean, stats.std))


def rounding(stats: Stats) -> float:
    """What float32 may differ by: of a value, a mean and a quotient, each rounded once or twice."""
    largest = 100 if stats.of_floats else 1
    return 2 * 2**-23 * (largest + max(map(abs, stats.mean))) / min(stats.std)


def takes(target: str, stats: Stats) -> bool:
    known = TARGETS.get(target)
    if known is None:
        return True
    count = not known.channels or len(stats.mean) in known.channels
    return count and stats.scale in known.kinds


def api_of(target: str, stats: Stats) -> str | None:
    return "v2" if target == "torchvision" and stats.scale == 65535 else None


def written_to(folder: Path, target: str) -> dict[str, Stats]:
    """For each kind of images that a target takes a folder with its file and an image."""
    done = {}
    for number, stats in enumerate(KINDS.values()):
        if takes(target, stats):
            place = folder / f"{number:02}"
            place.mkdir(parents=True)
            file = TARGETS[target].file if target in TARGETS else "transforms.py"
            made = imgnorm.emit(stats, to=target, api=api_of(target, stats))
            (place / file).write_bytes(made.data)
            np.save(place / "image.npy", image_of(stats))
            done[f"{number:02}"] = stats
    return done


def differences(folder: Path, done: dict[str, Stats]) -> Iterator[tuple[float, float]]:
    """The largest difference from Normalize of each kind, and what rounding may make."""
    for place, stats in done.items():
        found = np.load(folder / place / "normalized.npy")
        wanted = expected(stats, np.load(folder / place / "image.npy"))
        assert wanted.shape == found.shape
        yield float(np.abs(wanted - found).max()), rounding(stats)


def apply_elsewhere(target: str, folder: Path, packages: str) -> str | None:
    """`applied.apply_all` in a process that has other packages; the version of the target's package.

    Args:
        packages: a folder, or several as in PATH.
    """
    root = str(Path(imgnorm.__file__).parents[1])
    path = os.pathsep.join([packages, root])
    done = subprocess.run(
        [sys.executable, applied.__file__, target, folder],
        env={**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout.split()[-1] if done.stdout.split() else None


def row(target: str) -> str:
    """The first columns of a target's row in docs/targets.md, which the code decides."""
    known = TARGETS.get(target)
    if known is None:
        return "| `torchvision` | train_transform, eval_transform | 0..1 | RGB | "
    values = "0..255" if known.takes_pixels else "0..1"
    return f"| `{target}` | {known.keys} | {values} | {known.takes_order} | "
