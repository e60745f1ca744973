"""Images through the frameworks that `imgnorm emit --to` writes for, each by the file that it wrote.

Images are (H, W, C), with the channels in the measured order; normalized ones are (C, H, W), in that
order again. `python tests/applied.py TARGET FOLDER` does the images of a folder, in a process of its
own, and prints the version of the package.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def module_of(path: Path) -> dict[str, Any]:
    """The names of a Python file."""
    names: dict[str, Any] = {}
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), names)
    return names


def channels_first(image: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))


def as_pil(image: Array) -> Any:
    from PIL import Image

    return Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)


def torchvision(path: Path, image: Array) -> Array:
    import torch

    names = module_of(path)
    transform = names["eval_transform"]
    if image.dtype != np.uint8:
        return np.asarray(transform(torch.from_numpy(channels_first(image))))
    return np.asarray(transform(image if image.shape[-1] > 4 else as_pil(image)))


def timm(path: Path, image: Array) -> Array:
    from timm.data import create_transform, resolve_data_config
    from timm.models._hub import load_cfg_from_json

    height, width, channels = image.shape
    config = load_cfg_from_json(path)["pretrained_cfg"]
    config = {**config, "input_size": (channels, height, width), "crop_pct": 1.0}
    return np.asarray(create_transform(**resolve_data_config(pretrained_cfg=config))(as_pil(image)))


def hf(path: Path, image: Array) -> Array:
    from transformers import ViTImageProcessor

    processor = ViTImageProcessor.from_json_file(str(path))
    given = image if image.shape[-1] in (1, 3) else channels_first(image)
    layout = "channels_last" if given is image else "channels_first"
    found = processor(given, do_resize=False, return_tensors="pt", input_data_format=layout)
    return np.asarray(found["pixel_values"][0])


def open_clip(path: Path, image: Array) -> Array:
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    config = merge_preprocess_dict(PreprocessCfg(), json.loads(path.read_text())["preprocess_cfg"])
    config = merge_preprocess_dict(config, {"size": image.shape[:2]})
    found = np.asarray(image_transform_v2(PreprocessCfg(**config), is_train=False)(as_pil(image)))
    return found[: image.shape[-1]]  # a gray image becomes three equal channels


def open_mmlab(home: str) -> Callable[[Path, Array], Array]:
    """As a config's runner does: read the config, build the data preprocessor, give it what OpenCV reads."""

    def apply(path: Path, image: Array) -> Array:
        import torch
        from mmengine.config import Config

        if home != "mmengine":  # mmcv's compiled operators, which no data preprocessor calls
            sys.modules["mmcv._ext"] = Anything("mmcv._ext")
        _import_alone(_PREPROCESSORS[home])
        config = Config.fromfile(path)
        model = config.get("model", config)
        read = image[..., ::-1] if image.shape[-1] == 3 else image
        tensor = torch.from_numpy(channels_first(read).astype(_TORCH.get(image.dtype, image.dtype)))
        models = importlib.import_module(f"{home}.registry").MODELS
        found = models.build(model["data_preprocessor"])({"inputs": [tensor], "data_samples": None})
        return np.asarray(found["inputs"][0])

    return apply


def _import_alone(module: str) -> None:
    """Without the packages around it, which import every model, and for these packages of years ago."""
    first, *between = module.split(".")[:-1]
    home = importlib.import_module(first)
    name, path = first, Path(home.__path__[0])
    for part in between:
        name, path = f"{name}.{part}", path / part
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(path)]
    importlib.import_module(module)


class Anything(ModuleType):
    """A module that has whatever one looks for."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return object()


_TORCH = {np.dtype(np.uint16): np.dtype(np.int32)}
_PREPROCESSORS = {
    "mmengine": "mmengine.model",
    "mmpretrain": "mmpretrain.models.utils.data_preprocessor",
    "mmdet": "mmdet.models.data_preprocessors.data_preprocessor",
    "mmseg": "mmseg.models.data_preprocessor",
}


def detectron2(path: Path, image: Array) -> Array:
    """By the rule of its source, for it is in no package index.

    detectron2/data/detection_utils.py turns RGB into BGR if INPUT.FORMAT says so;
    detectron2/modeling/meta_arch/rcnn.py computes (x - pixel_mean) / pixel_std of float32 tensors.
    """
    import torch
    import yaml

    config = yaml.safe_load(path.read_text())
    flips = config["INPUT"]["FORMAT"] == "BGR"
    read = torch.from_numpy(channels_first(image[..., ::-1] if flips else image))
    mean = torch.tensor(config["MODEL"]["PIXEL_MEAN"]).view(-1, 1, 1)
    std = torch.tensor(config["MODEL"]["PIXEL_STD"]).view(-1, 1, 1)
    found = (read - mean) / std
    return np.asarray(found.flip(0) if flips else found)


def albumentations(path: Path, image: Array) -> Array:
    import albumentations as a

    transform = a.from_dict(json.loads(path.read_text()))
    given = image.astype(np.float32) if image.dtype == np.uint16 else image
    return channels_first(transform(image=given)["image"].reshape(image.shape))


def unit_floats(image: Array) -> Array:
    """In 0..1, as float32."""
    scale = {np.uint8: 255, np.uint16: 65535}.get(image.dtype.type, 1)
    return image.astype(np.float32) / np.float32(scale)


def kornia(path: Path, image: Array) -> Array:
    import torch

    given = torch.from_numpy(channels_first(unit_floats(image)))[None]
    return np.asarray(module_of(path)["normalize"](given)[0])


def keras(path: Path, image: Array) -> Array:
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    normalize = module_of(path)["normalize"]
    return channels_first(np.asarray(normalize(image[None].astype(np.float32)).detach())[0])


def openvino(path: Path, image: Array) -> Array:
    import openvino
    from openvino import opset13

    shape = [1, image.shape[-1], *image.shape[:2]]
    given = opset13.parameter(shape, np.float32)
    model = openvino.Model([opset13.result(given)], [given])
    normalized = module_of(path)["with_normalization"](model)
    compiled = openvino.Core().compile_model(normalized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled(channels_first(image)[None].astype(np.float32))[0][0])


def onnx(path: Path, image: Array) -> Array:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = channels_first(image)[None].astype(np.float32)
    return np.asarray(session.run(None, {"images": given})[0][0])


def plain_json(path: Path, image: Array) -> Array:
    """By what its keys say."""
    values = json.loads(path.read_text())
    given = image / np.float32(values["scale"])
    return channels_first((given - np.array(values["mean"])) / np.array(values["std"]))


# The package that does it, and how. None: it is done by the rule.
APPLIED: dict[str, tuple[str | None, Callable[[Path, Array], Array]]] = {
    "torchvision": ("torchvision", torchvision),
    "timm": ("timm", timm),
    "hf": ("transformers", hf),
    "open_clip": ("open_clip_torch", open_clip),
    "mmengine": ("mmengine-lite", open_mmlab("mmengine")),
    "mmpretrain": ("mmpretrain", open_mmlab("mmpretrain")),
    "mmdet": ("mmdet", open_mmlab("mmdet")),
    "mmseg": ("mmsegmentation", open_mmlab("mmseg")),
    "detectron2": (None, detectron2),
    "albumentations": ("albumentations", albumentations),
    "kornia": ("kornia", kornia),
    "keras": ("keras", keras),
    "openvino": ("openvino", openvino),
    "onnx": ("onnxruntime", onnx),
    "json": (None, plain_json),
}


def version_of(package: str) -> str | None:
    """None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def apply_all(target: str, folder: Path) -> None:
    """Each `KIND/image.npy` of a folder, by the other file beside it, into `KIND/normalized.npy`."""
    _, function = APPLIED[target]
    for image in sorted(folder.glob("*/image.npy")):
        (file,) = set(image.parent.iterdir()) - {image}
        np.save(image.parent / "normalized.npy", function(file, np.load(image)))


if __name__ == "__main__":
    apply_all(sys.argv[1], Path(sys.argv[2]))
    package = APPLIED[sys.argv[1]][0]
    print(version_of(package) if package else "")
