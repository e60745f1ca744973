"""The files that other frameworks read mean and std from: `imgnorm emit --to TARGET`.

    Stats -> target.py: the numbers in the target's unit and channel order -> its render -> the file

- `target.py` has `Target`, what a file of this package says of its framework, and `render`, which makes
  the file. Units and channel orders are not repeated here: they are in constants/frameworks.py, by which
  lint judges the same files.
- `jsonfile.py` writes JSON, and puts values into a JSON file that exists.
- `torchvision.py` writes a Python module with the transforms, for configs, too.
- Each other module is one framework, with a `render` that makes text, bytes or a mapping.

A new target is a module with a `Target`, a line in `TARGETS`, and in tests/applied.py the few
lines that normalize an image with its file through the framework itself.
"""

from imgnorm.pipeline.targets.albumentations import ALBUMENTATIONS
from imgnorm.pipeline.targets.detectron2 import DETECTRON2
from imgnorm.pipeline.targets.hf import HF
from imgnorm.pipeline.targets.json import JSON
from imgnorm.pipeline.targets.keras import KERAS
from imgnorm.pipeline.targets.kornia import KORNIA
from imgnorm.pipeline.targets.mmengine import MMDET, MMENGINE, MMPRETRAIN, MMSEG
from imgnorm.pipeline.targets.onnx import ONNX
from imgnorm.pipeline.targets.open_clip import OPEN_CLIP
from imgnorm.pipeline.targets.openvino import OPENVINO
from imgnorm.pipeline.targets.timm import TIMM

TARGETS = {
    target.name: target
    for target in (
        TIMM, HF, OPEN_CLIP, MMENGINE, MMPRETRAIN, MMDET, MMSEG, DETECTRON2, ALBUMENTATIONS, KORNIA, KERAS,
        OPENVINO, ONNX, JSON,
    )
}  # fmt: skip
"""By the name that --to takes."""
