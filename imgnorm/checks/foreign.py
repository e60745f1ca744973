"""What a file is that imgnorm did not write: for one sentence instead of a fault for each of its keys."""

from __future__ import annotations

import os
import re

from imgnorm.errors import Problem

_SIGNS = tuple(
    (re.compile(pattern, re.MULTILINE), what)
    for pattern, what in (
        (rb'"(?:image_processor_type|feature_extractor_type|image_mean)"', "a Hugging Face config"),
        (rb'"pretrained_cfg"|^(?:aa|crop_pct):', "a timm config"),
        (rb'"preprocess_cfg"', "an open_clip config"),
        (rb"__class_fullname__", "an albumentations pipeline"),
        (rb"^\s*(?:data_preprocessor|img_norm_cfg|_base_)\s*=", "an mmengine config"),
        (rb"^\s*PIXEL_MEAN:", "a Detectron2 config"),
        (rb"\bNormalizeImage\b", "a Paddle config"),
        (rb"""^[\s{"'-]*_target_["']?:|^defaults:""", "a Hydra config"),
    )
)
_SUFFIXES = {
    ".py": "Python",
    ".json": "JSON",
    ".toml": "TOML",
    ".ipynb": "a notebook",
    ".md": "Markdown",
    ".rst": "reStructuredText",
    ".sh": "a shell script",
}


def foreign_problem(file: str, data: bytes, *, faulty: bool) -> Problem | None:
    """The one problem of a file of another program; None if it may be one of imgnorm's.

    Args:
        data: its beginning. Nothing of it is shown.
        faulty: whether the file is YAML that imgnorm refuses, such as one with anchors.
    """
    if b"imgnorm-" in data or all(
        re.search(rb"^%s:" % key, data, re.MULTILINE) for key in (b"source", b"normalize")
    ):
        return None
    suffix = os.path.splitext(file)[1].lower()
    what = next((what for sign, what in _SIGNS if sign.search(data)), _SUFFIXES.get(suffix))
    if what is None:
        if not (faulty and suffix in (".yaml", ".yml") and b":" in data):
            return None
        what = "YAML of another program"
    from imgnorm.checks.lint.files import reads

    message = f"is {what}, neither a pipeline config nor a stats file"
    hint = "`imgnorm lint` reads it, and looks for wrong means and stds" if reads(file) else None
    return Problem(file, 1, 1, "unknown-format", message, hint)
