"""What a Python file as a whole says about its images: decoders, datasets, pretrained weights, models."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from imgnorm.checks.lint.frameworks import NORMALIZE_INSIDE
from imgnorm.checks.lint.names import dataset_in
from imgnorm.checks.lint.pair import Dataset, Mention, Pair, each_once
from imgnorm.checks.lint.values import Evaluator, last_name, name_of, nodes_in
from imgnorm.constants.findings import Order
from imgnorm.constants.presets import dataset_key

_USUAL = {
    "A": "albumentations", "F": "torchvision.transforms.functional", "T": "torchvision.transforms",
    "albumentations": "albumentations", "cv2": "cv2", "datasets": "torchvision.datasets",
    "torchvision": "torchvision", "transforms": "torchvision.transforms",
    "v2": "torchvision.transforms.v2",
}  # fmt: skip
"""What a name stands for in a piece of code that imports nothing, such as an example in a document."""
_READ_BGR = re.compile(r"cv2\.(imread|imdecode|VideoCapture)|mmcv\.(imread|imfrombytes)")
_READ_RGB = re.compile(
    r"PIL\.Image\.open|torchvision\.io\.\w+|torchvision\.datasets\.\w+|imageio(\.v\d)?\.imread|"
    r"skimage\.io\.imread|matplotlib\.(pyplot|image)\.imread|decord\.VideoReader|"
    r"simplejpeg\.decode_jpeg|tensorflow\.(io|image)\.decode_\w+"
)
_TO_SHOW = {"imshow", "imwrite", "show", "savefig", "imsave"}
_NOT_DATASETS = {
    "DataLoader", "Compose", "Subset", "Lambda", "ConcatDataset", "partial", "RandomApply",
    "Trainer", "BatchTransform",
}  # fmt: skip
_TAKES_TRANSFORM = re.compile(r"(\w+_)?(transforms?|tfms?|preprocess|augmentations?|aug)(_\w+)?")
_DATASET_NAMES = re.compile(r"dataset(_(name|type))?|data_name|dset", re.IGNORECASE)
_FOLDER_NAMES = re.compile(r"(data|image|img|dataset|train)_?(root|dir|path|folder)|root", re.I)


class Names:
    """What imported names stand for."""

    def __init__(self, statements: Iterable[ast.stmt]) -> None:
        self._modules: dict[str, str] = {}
        self._all_of: list[str] = []  # `from torchvision.transforms import *`
        for node in statements:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.asname or alias.name.split(".")[0]
                    self._modules[name] = alias.name if alias.asname else name
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name == "*":
                        self._all_of.append(node.module or "")
                    else:
                        home = "." * node.level + (node.module or "")
                        self._modules[alias.asname or alias.name] = f"{home}.{alias.name}"
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute):
                for target in node.targets:  # Normalize = transforms.Normalize
                    if isinstance(target, ast.Name) and node.value.attr[:1].isupper():
                        self._modules.setdefault(target.id, self.home(node.value))

    def home(self, function: ast.expr) -> str:
        """The full name of a function, by the imports: torchvision.transforms.Normalize."""
        parts: list[str] = []
        while isinstance(function, ast.Attribute):
            parts.append(function.attr)
            function = function.value
        if not isinstance(function, ast.Name):
            return ".".join(["", *reversed(parts)])
        first = self._modules.get(function.id)
        if first is None and not parts and len(self._all_of) == 1:
            first = f"{self._all_of[0]}.{function.id}"
        if first is None and not self._all_of:
            first = _USUAL.get(function.id)
        return ".".join([first or function.id, *reversed(parts)])

    def imports(self, module: str) -> bool:
        return any(f"{home}.".startswith(f"{module}.") for home in self._modules.values())


class Evidence:
    """What is known of all pairs of a file, and of those that say nothing themselves."""

    def __init__(self, tree: ast.Module, names: Names, evaluator: Evaluator, file: str) -> None:
        self._names = names
        self._place = evaluator.place_of
        self.datasets: list[Dataset] = []
        self.root: dict[str, Any] = {}  # of a Detectron2 config: {"INPUT": {"FORMAT": "RGB"}}
        self._pretrained: Mention | None = None
        self._inside: Mention | None = None
        self._reads: dict[Order, list[Mention]] = {"RGB": [], "BGR": []}
        self._turns: dict[Order, list[Mention]] = {"RGB": [], "BGR": []}
        self._flips = False
        nodes = nodes_in(tree)
        shown = _lines_of_showing(nodes)
        for node in nodes:
            if isinstance(node, ast.Call):
                self._note_call(node)
            elif isinstance(node, (ast.Attribute, ast.Name)):
                if node.lineno not in shown:
                    self._note_color(node)
            elif isinstance(node, ast.Subscript):
                if isinstance(node.slice, ast.Tuple) and node.slice.elts:
                    self._flips |= ast.unparse(node.slice.elts[-1]) in ("::-1", "[2, 1, 0]")
            elif isinstance(node, ast.Assign):
                self._note_assigned(node)
        of_file = dataset_in(os.path.splitext(os.path.basename(file))[0])
        if of_file:
            self.datasets.append(Dataset(os.path.basename(file), (1, 1), of_file, "nearby"))
        self.datasets = each_once(self.datasets)
        self._order, self._order_by = self._order_of_images()

    def added_to(self, pair: Pair) -> Pair:
        """A pair with what is known from the rest of the file."""
        by_default = pair.framework in ("torchvision", "fastai") and not pair.order_by
        if pair.order is None or by_default:
            order, order_by = self._order, self._order_by
            if order is None and by_default:
                order = None if self._names.imports("cv2") else pair.order
            pair = replace(pair, order=order, order_by=order_by)
        inside = self._inside if pair.framework in ("torchvision", "albumentations") else None
        configured = (dataset for dataset in self.datasets if dataset.by == "config")
        return replace(
            pair,
            datasets=(*pair.datasets, *configured),
            pretrained=self._pretrained,
            normalizes_inside=inside,
        )

    def dataset_of(self, call: ast.Call, *, transformed: bool = False) -> Dataset | None:
        """The dataset that a call constructs; None if it constructs none.

        Args:
            transformed: whether a transform is known to be among the arguments.
        """
        home = self._names.home(call.func)
        name = home.rpartition(".")[2]
        if not name[:1].isupper() or name in _NOT_DATASETS:
            return None
        key = dataset_key(name) or dataset_key(name.removesuffix("Dataset"))
        known = key or name.endswith(("Dataset", "Folder")) or ".datasets." in f".{home}"
        takes = any(k.arg and _TAKES_TRANSFORM.fullmatch(k.arg) for k in call.keywords)
        if transformed and call.args:
            takes |= bool(re.search(r"^['\"]|root|path|dir\b", ast.unparse(call.args[0])))
        if not known and not takes:
            return None
        if "ransform" in name or name.endswith(("Module", "Weights")):
            return None
        place = self._place(call)
        if not key:
            for node in ast.walk(call):  # ImageFolder("data/tiny-imagenet-200/train")
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    in_path = dataset_in(node.value) if " " not in node.value else None
                    if in_path:
                        return Dataset(node.value[:80], place, in_path, "built")
        return Dataset(name, place, key, "built")

    def _note_call(self, node: ast.Call) -> None:
        home = self._names.home(node.func)
        name = home.rpartition(".")[2]
        reads = _READ_BGR if home.startswith(("cv2.", "mmcv.")) else _READ_RGB
        if reads.fullmatch(home):
            order: Order = "BGR" if reads is _READ_BGR else "RGB"
            flags = " ".join(
                ast.unparse(part) for part in node.args[1:] + [k.value for k in node.keywords]
            )
            if "COLOR_RGB" in flags or "'rgb'" in flags:
                order = "RGB"
            elif reads is _READ_BGR and ("GRAY" in flags or "UNCHANGED" in flags or "-1" in flags):
                return
            self._reads[order].append(Mention(f"{ast.unparse(node.func)}(…)", self._place(node)))
        if NORMALIZE_INSIDE.fullmatch(home):
            self._inside = self._inside or Mention(f"{name}(…)", self._place(node))
        self._note_pretrained(node, name)
        dataset = self.dataset_of(node)
        if dataset:
            self.datasets.append(replace(dataset, by="nearby"))
        if name == "add_argument" and node.args and isinstance(node.args[0], ast.Constant):
            option = str(node.args[0].value).lstrip("-").replace("-", "_")
            for keyword in node.keywords:
                if keyword.arg == "default":
                    self._note_text(option, keyword.value)

    def _note_pretrained(self, node: ast.Call, name: str) -> None:
        for keyword in node.keywords:
            text = f"{keyword.arg}={ast.unparse(keyword.value)}"
            loads = keyword.arg == "weights" and name[:1].islower() and text != "weights=None"
            if text == "pretrained=True" or loads:
                place = self._place(keyword.value)
                self._pretrained = self._pretrained or Mention(text[:60], place)
        if name == "from_pretrained":
            self._pretrained = self._pretrained or Mention("from_pretrained(…)", self._place(node))

    def _note_color(self, node: ast.Attribute | ast.Name) -> None:
        name = name_of(node) or ""
        if name.startswith(("COLOR_BGR2RGB", "COLOR_RGB2BGR")):
            order: Order = "RGB" if name.startswith("COLOR_BGR2RGB") else "BGR"
            self._turns[order].append(Mention(f"cvtColor(…, {name})", self._place(node)))

    def _note_assigned(self, node: ast.Assign) -> None:
        target = node.targets[0]
        name = name_of(target) or ""
        if (
            name == "FORMAT"
            and isinstance(target, ast.Attribute)
            and name_of(target.value) == "INPUT"
            and isinstance(node.value, ast.Constant)
        ):
            self.root["INPUT"] = {"FORMAT": node.value.value}
        else:
            self._note_text(name, node.value)

    def _note_text(self, name: str, value: ast.expr) -> None:
        """`dataset_type = "CIFAR10"`, `data_root = "data/cub"`, an option's default."""
        if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
            return
        text = value.value
        folder = _FOLDER_NAMES.fullmatch(name)
        if not text or not (folder or _DATASET_NAMES.fullmatch(name)):
            return
        key = dataset_key(text) or dataset_in(text)
        if name == "dataset_type":
            self.datasets.append(Dataset(text, self._place(value), key, "config"))
        elif key or folder:
            self.datasets.append(Dataset(text[:80], self._place(value), key, "nearby"))

    def _order_of_images(self) -> tuple[Order | None, Mention | None]:
        """The order in which images reach a transform, if everything in the file agrees on it."""
        reads, turns = self._reads, self._turns
        if turns["RGB"] and not turns["BGR"] and not self._flips:
            return "RGB", turns["RGB"][0]
        if turns["RGB"] or turns["BGR"] or self._flips:
            return None, None
        for order, other in (("RGB", "BGR"), ("BGR", "RGB")):
            if reads[order] and not reads[other]:  # type: ignore[index]
                return order, reads[order][0]  # type: ignore[index,return-value]
        return None, None


def _lines_of_showing(nodes: Iterable[ast.AST]) -> set[int]:
    """The lines of functions that show or write images, where colors are turned for that."""
    shown = [n.lineno for n in nodes if isinstance(n, ast.Call) and last_name(n.func) in _TO_SHOW]
    found: set[int] = set()
    for node in nodes if shown else ():
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            found.update(lines if any(line in lines for line in shown) else ())
    return found
