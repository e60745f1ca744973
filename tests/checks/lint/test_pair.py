"""What is found, in which spelling and which kind of file, and what the file says about it."""

from __future__ import annotations

import json

import pytest

from imgnorm.checks.lint.files import pairs_of
from imgnorm.checks.lint.lint import lint
from imgnorm.checks.lint.names import dataset_in
from imgnorm.documents.tree import LINE_BREAK

M, S = "[0.4914, 0.4822, 0.4465]", "[0.2023, 0.1994, 0.2010]"
M255, S255 = "[125.307, 122.961, 113.8575]", "[51.5865, 50.847, 51.255]"
IMAGENET = "[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]"
TV = "import torchvision.transforms as T\nfrom torchvision import datasets\n"


def notebook(*cells):
    return json.dumps(
        {
            "cells": [
                {"cell_type": kind, "source": source.splitlines(keepends=True), "outputs": [{}]}
                for kind, source in cells
            ]
        },
        indent=1,
    )


# CIFAR-10's wrong std, in the file that its name says
SPELLINGS = {
    "mu.py": f"mu, sigma = {M}, {S}",
    "buffer.py": (
        "class A:\n def __init__(self):\n"
        f"  self.register_buffer('mean', torch.tensor({M}).view(1, 3, 1, 1))\n"
        f"  self.register_buffer('std', torch.tensor({S}).view(1, 3, 1, 1))"
    ),
    "new_tensor.py": f"mean = x.new_tensor({M})\nstd = x.new_tensor({S})",
    "constant.py": f"mean = tf.constant({M}, shape=[1, 1, 3])\nstd = tf.constant({S})",
    "offset.py": f"x = normalize_image(x, offset={M}, scale={S})",
    "subtrahend.py": f"NormalizeIntensityd(keys='image', subtrahend={M255}, divisor={S255})",
    "mean_values.py": f"convert(mean_values={M255}, scale_values={S255})",
    "dataclass.py": f"@dataclass\nclass A:\n mean: list = {M}\n std: list = {S}",
    "methods.py": f"class A:\n def f(self):\n  self.mean = {M}\n def g(self):\n  self.std = {S}",
    "options.py": f"p.add_argument('--mean', default={M})\np.add_argument('--std', default={S})",
    "formula.py": f"x = (x - np.array({M})) / np.array({S})",
    "nested.py": "mean = [[[0.4914]], [[0.4822]], [[0.4465]]]\nstd = [[[0.2023]], [[0.1994]], [[0.2010]]]",
    "turned.py": f"BGR_MEAN = {M}\nBGR_STD = {S}\nt = T.Normalize(BGR_MEAN[::-1], BGR_STD[::-1])",
    "by_key.py": f"A = {{'x': {M}}}\nB = {{'x': {S}}}\nt = T.Normalize(A['x'], B['x'])",
    "python2.py": f"print 'x'\ndef f(x):\n    print x\n    return T.Normalize({M}, {S})",
    "newer.py": f"type Pair[T] = tuple[T, T]\ntemplate = t'{{x}}'\nt = T.Normalize({M}, {S})",
    "tags.yaml": f"a: !Lr 3\nb: !!python/tuple [1]\nmean: &m {M}\nstd: !!python/tuple {S}\n",
    "merge.yaml": f"x: &x {{mean: {M}}}\ny:\n  <<: *x\n  std: {S}\n",
    "documents.yaml": f"a: 1\n---\nmean: {M}\nstd: {S}\n",
    "text.yaml": f"mean: ({M[1:-1]})\nstd: '({S[1:-1]})'\n",
    "comments.json": f'{{// the usual\n "mean": {M}, "std": {S},}}',
    "a.toml": f"[data]\nmean = {M} # x\nstd = {S}\nwhen = 1979-05-27T07:32:00Z\n",
    "a.md": f"# Title\n\n```python\nt = T.Normalize({M}, {S})\n```\n",
    "indented.md": f"Title\n\n1. do\n\n   ```yaml\n   mean: {M}\n   std: {S}\n   ```\n",
    "code.rst": f"Title\n\n.. code-block:: python\n   :linenos:\n\n   t = T.Normalize({M}, {S})\n\nend\n",
    "doctest.rst": f"Title\n\n>>> t = T.Normalize({M},\n...                 {S})\nNormalize()\n",
    "options.sh": "python a.py --mean 0.4914 0.4822 0.4465 \\\n  --std 0.2023 0.1994 0.2010\n",
    "a.ipynb": notebook(("markdown", "# ä\n"), ("code", f"%pip install x\ns = 'ä'; t = Normalize({M}, {S})")),
    ".configs/hidden.yaml": f"mean: {M}\nstd: {S}\n",
}  # fmt: skip


@pytest.fixture
def spelled(tmp_path):
    for name, text in SPELLINGS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_wrong_set_is_found_in_every_spelling_and_kind_of_file(spelled):
    done = lint([str(spelled)])
    found = {p.file.removeprefix(f"{spelled}/") for p in done.problems if p.rule == "known-wrong"}
    found |= {place[0].removeprefix(f"{spelled}/") for p in done.problems for place in p.also}

    assert SPELLINGS.keys() == found
    assert () == done.unread


def test_a_number_stands_exactly_where_it_is_said_to():
    """So that another can be written in its place."""
    for name, text in SPELLINGS.items():
        lines = LINE_BREAK.split(text)
        pairs = pairs_of(text.encode(), name)
        assert pairs, name
        for written in (written for pair in pairs for written in (pair.mean, pair.std)):
            for value, number in zip(written.values, written.texts, strict=True):
                assert number is not None, name
                line, column = number.place
                there = lines[line - 1][column - 1 :]
                assert (True, value) == (there.startswith(number.text), float(number.text)), name


def test_a_cell_of_a_notebook_is_named():
    (pair, *_) = pairs_of(SPELLINGS["a.ipynb"].encode(), "a.ipynb")

    assert 2 == pair.cell


def datasets_of(text, name="a.py"):
    return [(d.key or d.text, d.by) for d in pairs_of(text.encode(), name)[-1].datasets]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (f"datasets.CIFAR10('.', transform=T.Normalize({IMAGENET}))", ["cifar10"]),
        (f"t = T.Compose([T.ToTensor(), T.Normalize({IMAGENET})])\nChairs200('.', t)", ["Chairs200"]),
        (
            (f"n = T.Normalize({IMAGENET})\nt = T.Compose([n])\n"
            "datasets.ImageFolder('data/tiny-imagenet-200/train', transform=t)"),
            ["tiny-imagenet"],
        ),
        (
            (f"def get():\n    return T.Compose([T.Normalize({IMAGENET})])\n"
            "a = datasets.SVHN('.', transform=get())\nb = datasets.CIFAR10('.', transform=get())"),
            ["svhn", "cifar10"],
        ),
        (
            ("if name == 'a':\n    t = None\n    datasets.SVHN('.', transform=t)\n"
            f"else:\n    t = T.Normalize({IMAGENET})\n    datasets.CIFAR10('.', transform=t)"),
            ["cifar10"],
        ),
        (
            (f"t = T.Normalize({IMAGENET})\ndatasets.CIFAR10('.', transform=t)\n"
            "t = None\ndatasets.SVHN('.', transform=t)"),
            ["cifar10"],
        ),
        (
            (f"class A:\n    def __init__(self):\n        self.t = T.Normalize({IMAGENET})\n"
            "    def get(self):\n        return datasets.CIFAR10('.', transform=self.t)"),
            ["cifar10"],
        ),
        (
            ("def get():\n    ts = [T.ToTensor()]\n"
            f"    ts.append(T.Normalize({IMAGENET}))\n    return CIFAR100('.', transform=T.Compose(ts))"),
            ["cifar100"],
        ),
    ],
)  # fmt: skip
def test_a_transform_is_followed_into_the_dataset_that_gets_it(code, expected):
    assert sorted((key, "built") for key in expected) == sorted(datasets_of(TV + code))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.py", f"dataset_type = 'CIFAR10'\nd = dict(mean={M255}, std={S255})", ("cifar10", "config")),
        ("a.py", f"SVHN_MEAN, SVHN_STD = {M}, {S}", ("svhn", "named")),
        ("a.py", f"if args.dataset == 'svhn':\n    m = T.Normalize({M}, {S})", ("svhn", "named")),
        ("train_svhn.py", f"t = T.Normalize({M}, {S})", ("svhn", "nearby")),
        ("a.yaml", f"dataset: svhn\nmean: {M}\nstd: {S}\n", ("svhn", "config")),
        (
            "a.yaml",
            f"dataset:\n  name: ImageNetDataset\n  image_root: ./dataset/chairs/\n  t:\n  - N: {{mean: {M}, std: {S}}}\n",
            ("./dataset/chairs/", "config"),
        ),
        (
            "a.yaml",
            ("_target_: torchvision.datasets.CIFAR10\ntransform:\n"
            f"  _target_: torchvision.transforms.Normalize\n  mean: {M}\n  std: {S}\n"),
            ("cifar10", "built"),
        ),
    ],
)  # fmt: skip
def test_a_dataset_is_known_by_what_stands_around_the_numbers(name, text, expected):
    assert expected == datasets_of(text, name)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("./data/tiny-imagenet-200/train", "tiny-imagenet"),
        ("train_cifar10_resnet", "cifar10"),
        ("CIFAR-100", "cifar100"),
        ("mini-imagenet", None),
        ("imagenet_r", None),
        ("imagenet100", None),
        ("cifar10-to-svhn", None),
        ("clips_per_video", None),
    ],
)
def test_a_dataset_is_read_from_a_longer_name(text, expected):
    assert expected == dataset_in(text)


@pytest.mark.parametrize(
    ("before", "order", "by"),
    [
        ("x = cv2.cvtColor(cv2.imread(p), cv2.COLOR_BGR2RGB)", "RGB", "cvtColor(…, COLOR_BGR2RGB)"),
        ("x = cv2.imread(p)", "BGR", "cv2.imread(…)"),
        ("x = cv2.imread(p, cv2.IMREAD_GRAYSCALE)", None, None),
        ("x = cv2.imread(p)[:, :, ::-1]", None, None),
        ("x = cv2.imread(p)\ny = Image.open(p)", None, None),
        ("x = Image.open(p)", "RGB", "Image.open(…)"),
        ("def show(x):\n    plt.imshow(cv2.cvtColor(x, cv2.COLOR_BGR2RGB))", None, None),
    ],
)
def test_the_order_of_the_channels_is_what_the_file_does(before, order, by):
    code = f"import cv2\nfrom PIL import Image\n{before}\nmean, std = {M}, {S}"
    (pair,) = pairs_of(code.encode(), "a.py")

    assert (order, by) == (pair.order, pair.order_by and pair.order_by.text)


def test_entries_of_one_table_are_known_as_such():
    text = f"T = {{'a': {{'mean': {M}, 'std': {S}}}, 'b': {{'mean': {M255}, 'std': {S255}}}}}"

    for name in ("a.py", "a.yaml"):
        tables = [
            pair.table
            for pair in pairs_of(text.replace("T = ", "T: ", name != "a.py").encode(), name)
        ]
        assert [(1, 4 if name == "a.yaml" else 5)] * 2 == tables


def test_the_rest_of_a_file_is_evidence():
    code = (
        f"{TV}from torchvision.models.detection import fasterrcnn_resnet50_fpn\n"
        "model = fasterrcnn_resnet50_fpn(weights='DEFAULT')\n"
        f"t = T.Compose([T.Normalize({IMAGENET}), T.Normalize({IMAGENET})])"
    )
    first, second = pairs_of(code.encode(), "a.py")

    assert "fasterrcnn_resnet50_fpn(…)" == first.normalizes_inside.text
    assert "weights='DEFAULT'" == first.pretrained.text
    assert (None, (5, 16)) == (first.before, second.before)


def test_numbers_that_are_to_fail_are_left_alone():
    assert [] == pairs_of(
        b"with pytest.raises(ValueError):\n    T.Normalize([0.1, 0.2], [0.3])", "a.py"
    )


def test_json_without_a_framework_is_about_pixels(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"mean": [0.5, 0.5, 0.5], "std": [0, 0, 0]}')

    assert {"not-usable"} == {problem.rule for problem in lint([str(path)]).problems}


def test_yaml_is_read_within_bounds():
    """Aliases in aliases are as many values as they stand for."""
    bomb = "mean: [0.5]\n" + "".join(
        f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9) if n else '{std: 0.1}'}]\n" for n in range(9)
    )
    with pytest.raises(ValueError, match="more than 200,000 values"):
        pairs_of(bomb.encode(), "a.yaml")


def test_outputs_do_not_count_as_the_source_of_a_notebook():
    text = json.loads(SPELLINGS["a.ipynb"])
    text["cells"][1]["outputs"] = [{"data": {"image/png": "x" * 2_000_000}}]

    assert pairs_of(json.dumps(text).encode(), "a.ipynb")
