"""Code and configs as they are written for each framework: their facts, and one seeded fault at a time."""

from __future__ import annotations

from imgnorm.checks.lint.files import pairs_of
from imgnorm.checks.lint.lint import lint

M, S = "[0.485, 0.456, 0.406]", "[0.229, 0.224, 0.225]"
M255, S255 = "[123.675, 116.28, 103.53]", "[58.395, 57.12, 57.375]"
BGR255, BGRS255 = "[103.53, 116.28, 123.675]", "[57.375, 57.12, 58.395]"
WRONG = "[0.4914, 0.4822, 0.4465]", "[0.2023, 0.1994, 0.2010]"

TO_255 = (M, M255, "unit")
STD_TO_255 = (S, S255, "unit")  # the mean stays
STD_TO_1 = (S255, S, "unit")
TO_BGR = (M255, BGR255, "channel-order")
SLIP = ("0.229", "0.228", "near-miss")
COPIED = (S, M, "std-equals-mean")
SWAPPED = (f"mean={M}, std={S}", f"mean={S}, std={M}", "swapped")

TV = "from torchvision import datasets, transforms as T\n"
MM = f"mean={M255}, std={S255}"

# name of the file; its text; framework, unit, order, what `std` holds; faults: old, new, the rule
CASES = {
    "torchvision": (
        "a.py",
        f"{TV}t = T.Compose([T.ToTensor(), T.Normalize(mean={M}, std={S})])",
        ("torchvision", 1.0, "RGB", "std"),
        [TO_255, SLIP, COPIED, SWAPPED],
    ),
    "torchvision, by names": (
        "a.py",
        f"{TV}norm = T.Normalize({M}, {S})\nt = T.Compose([T.ToTensor(), norm])",
        ("torchvision", 1.0, "RGB", "std"),
        [TO_255, SLIP],
    ),
    "torchvision, alias": (
        "a.py",
        ("from torchvision.transforms import Compose, Normalize as N, ToTensor\n"
        f"t = Compose([ToTensor(), N({M}, {S})])"),
        ("torchvision", 1.0, "RGB", "std"),
        [TO_255],
    ),
    "torchvision.functional": (
        "a.py",
        ("import torchvision.transforms.functional as F\n"
        f"x = F.normalize(F.to_tensor(image), {M}, {S})"),
        ("torchvision", 1.0, "RGB", "std"),
        [TO_255],
    ),
    "timm config": (
        "config.json",
        f'{{"architecture": "x", "pretrained_cfg": {{"mean": {M}, "std": {S}}}}}',
        ("timm", 1.0, "RGB", "std"),
        [TO_255, SLIP],
    ),
    "timm args": (
        "args.yaml",
        f"crop_pct: 0.9\nmean: {M}\nstd: {S}\n",
        ("timm", 1.0, "RGB", "std"),
        [TO_255],
    ),
    "timm cfg": (
        "a.py",
        f"def _cfg(**kw):\n    return {{'crop_pct': .9, 'mean': {M}, 'std': {S}, **kw}}",
        ("timm", 1.0, "RGB", "std"),
        [TO_255],
    ),
    "open_clip": (
        "open_clip_config.json",
        f'{{"preprocess_cfg": {{"mean": {M}, "std": {S}}}}}',
        ("open_clip", 1.0, "RGB", "std"),
        [TO_255],
    ),
    "Hugging Face": (
        "preprocessor_config.json",
        (f'{{"do_rescale": true, "rescale_factor": 0.00392156862745098, "do_normalize": true, '
        f'"image_mean": {M}, "image_std": {S}}}'),
        ("Hugging Face", 1.0, "RGB", "std"),
        [TO_255, SLIP, ('"do_rescale": true', '"do_rescale": false', "unit")],
    ),
    "Hydra": (
        "a.yaml",
        f"_target_: torchvision.transforms.Normalize\nmean: {M}\nstd: {S}\n",
        ("torchvision", 1.0, "RGB", "std"),
        [TO_255, (S, "[0.229, 0.224]", "length")],
    ),
    "albumentations": (
        "a.py",
        f"import albumentations as A\nt = A.Normalize(mean={M}, std={S}, max_pixel_value=255.0)",
        ("albumentations", 1.0, None, "std"),
        [TO_255, SWAPPED],
    ),
    "albumentations JSON": (
        "a.json",
        (f'{{"transform": {{"__class_fullname__": "Normalize", "mean": {M}, "std": {S}, '
        '"max_pixel_value": 255.0}}'),
        ("albumentations", 1.0, None, "std"),
        [TO_255],
    ),
    "kornia": (
        "a.py",
        f"import kornia as K\nt = K.enhance.Normalize(mean=torch.tensor({M}), std=torch.tensor({S}))",
        ("kornia", None, None, "std"),
        [SLIP, STD_TO_255],
    ),
    "mmengine": (
        "a.py",
        f"data_preprocessor = dict({MM}, bgr_to_rgb=True)",
        ("mmengine", 255.0, "RGB", "std"),
        [(MM, f"mean={M}, std={S}", "unit"), (MM, f"mean={BGR255}, std={BGRS255}", "channel-order")],
    ),
    "mmcv": (
        "a.py",
        f"img_norm_cfg = dict({MM}, to_rgb=True)",
        ("mmengine", 255.0, "RGB", "std"),
        [TO_BGR, STD_TO_1],
    ),
    "Detectron2": (
        "a.yaml",
        ("MODEL:\n  META_ARCHITECTURE: RetinaNet\n"
        f"  PIXEL_MEAN: {BGR255}\n  PIXEL_STD: {BGRS255}\n"),
        ("Detectron2", 255.0, "BGR", "std"),
        [(f"{BGR255}\n  PIXEL_STD: {BGRS255}", f"{M255}\n  PIXEL_STD: {S255}", "channel-order")],
    ),
    "Detectron2 in Python": (
        "a.py",
        f'cfg.INPUT.FORMAT = "RGB"\ncfg.MODEL.PIXEL_MEAN = {M255}\ncfg.MODEL.PIXEL_STD = {S255}',
        ("Detectron2", 255.0, "RGB", "std"),
        [TO_BGR],
    ),
    "MONAI": (
        "a.json",
        f'{{"_target_": "NormalizeIntensityd", "subtrahend": {M255}, "divisor": {S255}}}',
        ("MONAI", None, None, "std"),
        [
            (
                f'{M255}, "divisor": {S255}',
                '[125.307, 122.961, 113.8575], "divisor": [51.5865, 50.847, 51.255]',
                "known-wrong",
            ),
            STD_TO_1,
            ("57.12", "0", "not-usable"),
        ],
    ),
    "LeRobot": (
        "stats.json",
        ('{"observation.images.top": {"mean": [[[0.485]], [[0.456]], [[0.406]]], '
        '"std": [[[0.229]], [[0.224]], [[0.225]]]}}'),
        ("LeRobot", 1.0, "RGB", "std"),
        [("[[0.229]]", "[[0.0]]", "not-usable")],
    ),
    "PaddleDetection": (
        "a.yml",
        f"sample_transforms:\n- NormalizeImage: {{mean: {M}, std: {S}, is_scale: true}}\n",
        ("Paddle", 1.0, None, "std"),
        [TO_255, ("is_scale: true", "is_scale: false", "unit")],
    ),
    "PaddleClas": (
        "a.yaml",
        f"- NormalizeImage:\n    scale: 1.0/255.0\n    mean: {M}\n    std: {S}\n    order: ''\n",
        ("Paddle", 1.0, None, "std"),
        [TO_255],
    ),
    "PaddleSeg": (
        "a.yml",
        f"train_dataset:\n  transforms:\n  - type: Normalize\n    mean: {M}\n    std: {S}\n",
        ("PaddleSeg", 1.0, "RGB", "std"),
        [TO_255],
    ),
    "FFCV": (
        "a.py",
        ("from ffcv.transforms import NormalizeImage\n"
        f"n = NormalizeImage(np.array({M255}), np.array({S255}), np.float32)"),
        ("FFCV", 255.0, "RGB", "std"),
        [(f"{M255}), np.array({S255})", f"{M}), np.array({S})", "unit")],
    ),
    "Keras": (
        "a.py",
        ("from keras import layers\n"
        f"n = layers.Normalization(mean={M}, variance=[0.0524, 0.0502, 0.0506])"),
        ("Keras", None, None, "variance"),
        [
            (
                f"{M}, variance=[0.0524, 0.0502, 0.0506]",
                f"{WRONG[0]}, variance=[0.040925, 0.039760, 0.040401]",
                "known-wrong",
            ),
            ("[0.0524, 0.0502, 0.0506]", S, "unit"),  # not squared
        ],
    ),
    "OpenVINO": (
        "convert.sh",
        "ovc m.onnx --mean_values=[123.675,116.28,103.53] --scale_values=[58.395,57.12,57.375]\n",
        ("OpenVINO", 255.0, None, "std"),
        [("[123.675,116.28,103.53] --scale_values=[58.395,57.12,57.375]",
          "[0.485,0.456,0.406] --scale_values=[0.229,0.224,0.225]", "unit")],
    ),
    "SlowFast": (
        "a.yaml",
        "DATA:\n  MEAN: [0.45, 0.45, 0.45]\n  STD: [0.225, 0.225, 0.225]\n",
        ("SlowFast", 1.0, None, "std"),
        [("[0.225, 0.225, 0.225]", "[57.375, 57.375, 57.375]", "unit")],
    ),
    "segmentation_models": (
        "a.json",
        f'{{"mean": {M}, "std": {S}, "input_space": "RGB", "input_range": [0, 1]}}',
        ("segmentation_models.pytorch", 1.0, "RGB", "std"),
        [TO_255],
    ),
}  # fmt: skip


def facts_in(name, text):
    return [
        (pair.framework, pair.unit, pair.order, pair.spread)
        for pair in pairs_of(text.encode(), name)
        if pair.framework
    ]


def test_each_framework_is_known_by_its_style():
    found = {key: facts_in(name, text)[-1:] for key, (name, text, _, _) in CASES.items()}

    assert {key: [facts] for key, (_, _, facts, _) in CASES.items()} == found


def rules_in(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return {problem.rule for problem in lint([str(path)]).problems if problem.severity != "info"}


def test_what_is_right_is_silent(tmp_path):
    found = {key: rules_in(tmp_path, name, text) for key, (name, text, _, _) in CASES.items()}

    assert {} == {key: rules for key, rules in found.items() if rules}


def test_each_seeded_fault_is_found(tmp_path):
    missed = []
    for key, (name, text, _, faults) in CASES.items():
        for old, new, rule in faults:
            assert old in text, (key, old)
            if rule not in rules_in(tmp_path, name, text.replace(old, new, 1)):
                missed.append((key, rule, rules_in(tmp_path, name, text.replace(old, new, 1))))

    assert [] == missed
