"""OpenMMLab: data_preprocessor in a config of mmengine, mmpretrain, mmdet and mmseg."""

from __future__ import annotations

from functools import partial

from imgnorm.pipeline.targets.target import Normalization, Target, list_lines


def _render(numbers: Normalization, *, kind: str, flag: str, in_model: bool) -> str:
    inside = "        " if in_model else "    "
    lines = [
        *([] if in_model else ["data_preprocessor = dict("]),
        *(["model = dict(", "    data_preprocessor=dict("] if in_model else []),
        f'{inside}type="{kind}",',
        *list_lines(f"{inside}mean=", numbers.mean, ","),
        *list_lines(f"{inside}std=", numbers.std, ","),
        *([f"{inside}{flag}=True,"] if numbers.order == "RGB" else []),
        *(["    )", ")"] if in_model else [")"]),
    ]
    flips = f"Images are BGR, as OpenCV reads them: {flag} makes RGB of them first."
    more = [flips] if numbers.order == "RGB" else []
    return "\n".join([*numbers.comments(*more), "", *lines, ""])


def _target(
    name: str, kind: str, flag: str = "bgr_to_rgb", *, in_model: bool, few: bool = False
) -> Target:
    return Target(
        name,
        "mmengine",
        "normalization.py",
        f"data_preprocessor: mean, std, {flag}",
        partial(_render, kind=kind, flag=flag, in_model=in_model),
        channels=(1, 3) if few else (),
        order="RGB",
    )


MMENGINE = _target("mmengine", "ImgDataPreprocessor", in_model=True, few=True)
MMPRETRAIN = _target("mmpretrain", "ClsDataPreprocessor", "to_rgb", in_model=False)
MMDET = _target("mmdet", "DetDataPreprocessor", in_model=True, few=True)
MMSEG = _target("mmseg", "SegDataPreProcessor", in_model=True)
