"""`imgnorm bn`: whole runs on small checkpoints, and what users get when something does not fit."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from imgnorm.cli import run
from imgnorm.nn import calibrate, inspect

NETS = """
import torch
from torch import nn
from torchvision.transforms import ToTensor

def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))

def plain():
    return nn.Sequential(nn.Conv2d(3, 4, 3))

def number():
    return 7

to_tensor = ToTensor()

def as_is(picture):
    return picture
"""
STATS = "format: imgnorm-stats/1\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.25, 0.3]\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model's code, its checkpoint, nine images and constants."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_of_test.py").write_text(NETS)
    (tmp_path / "stats.yaml").write_text(STATS)
    folder = tmp_path / "images" / "a"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(9):
        pixels = generator.integers(0, 256, (10, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    torch.manual_seed(0)
    torch.save({"epoch": 3, "model": small().state_dict()}, "ckpt.pt")
    return tmp_path


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))


CALIBRATE = ["bn", "calibrate", "nets_of_test:small", "--weights", "ckpt.pt", "--data", "images"]
WITH_STATS = [*CALIBRATE, "--stats", "stats.yaml", "-o", "out.pt"]


def expected_model() -> nn.Module:
    """By the library, from Pillow's and torch's arithmetic."""
    pixels = [np.asarray(Image.open(f"images/a/{index}.png")) for index in range(9)]
    unit = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div(255)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    model = small()
    model.load_state_dict(torch.load("ckpt.pt")["model"])
    calibrate(model, [unit.sub(mean.view(3, 1, 1)).div(std.view(3, 1, 1))])
    return model


@pytest.mark.parametrize(
    "options", [[], ["--mode", "sequential"], ["--batch-size", "4"], ["--workers", "2"]]
)
def test_a_calibrated_checkpoint_differs_in_nothing_but_the_statistics(place, options, capsys):
    assert 0 == run([*WITH_STATS, *options, "--device", "cpu"]), capsys.readouterr()
    before, after = torch.load("ckpt.pt"), torch.load("out.pt")
    expected = expected_model().state_dict()

    assert 3 == after["epoch"]
    assert list(before["model"]) == list(after["model"])
    for key, value in after["model"].items():
        if "running" in key:
            torch.testing.assert_close(expected[key], value, rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(before["model"][key], value), key
    printed, said = capsys.readouterr()
    assert "wrote    out.pt\n" == said
    assert printed.endswith("\n\nimages   9\n")
    assert "\n1         576 " in printed


def test_a_transform_of_ones_own_is_taken(place):
    options = ["--transform", "nets_of_test:to_tensor", "-o", "out.pt", "-q", "--device", "cpu"]

    assert 0 == run([*CALIBRATE, *options])


def test_torchvisions_models_and_ddp_checkpoints_are_taken(place):
    import torchvision

    model = torchvision.models.mobilenet_v3_small(weights=None, num_classes=2)
    torch.save({f"module.{key}": value for key, value in model.state_dict().items()}, "mobile.pt")
    arguments = ["bn", "calibrate", "torchvision:mobilenet_v3_small", "--weights", "mobile.pt"]
    arguments += ["--num-classes", "2", "--data", "images", "--stats", "stats.yaml", "-o", "m.pt"]

    assert 0 == run([*arguments, "--device", "cpu"])
    assert all(key.startswith("module.") for key in torch.load("m.pt"))
    assert not torch.equal(torch.load("m.pt")["module.features.0.1.running_var"], torch.ones(16))


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_torchscript_file_is_calibrated_whole(place):
    model = small()
    model.load_state_dict(torch.load("ckpt.pt")["model"])
    torch.jit.save(torch.jit.script(model.eval()), "net.ts")
    arguments = ["bn", "calibrate", "net.ts", "--data", "images", "--stats", "stats.yaml"]

    assert 0 == run([*arguments, "-o", "out.ts", "--device", "cpu"])
    torch.testing.assert_close(
        expected_model()[1].running_var,
        dict(torch.jit.load("out.ts").named_buffers())["1.running_var"],
    )


def test_an_exported_program_is_calibrated_whole(place):
    model = small()
    model.load_state_dict(torch.load("ckpt.pt")["model"])
    dims = ({0: torch.export.Dim("n", min=1, max=64)},)
    program = torch.export.export(model.eval(), (torch.zeros(2, 3, 10, 10),), dynamic_shapes=dims)
    torch.export.save(program, "net.pt2")
    arguments = ["bn", "calibrate", "net.pt2", "--data", "images", "--stats", "stats.yaml"]

    assert 0 == run([*arguments, "-o", "out.pt2", "--device", "cpu"])
    torch.testing.assert_close(
        expected_model()[1].running_var, torch.export.load("out.pt2").state_dict["1.running_var"]
    )


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def wrong_files() -> None:
    with open("evil.pt", "wb") as file:
        pickle.dump({"model": Evil()}, file)
    torch.save({"x": Evil(), "w": torch.zeros(3)}, "evil2.pt")
    torch.save({"0.weight": torch.zeros(4, 3, 3, 3), "more": torch.zeros(1)}, "other.pt")
    torch.save([1, 2], "list.pt")
    with open("text.pt", "w") as file:
        file.write("hello")
    with open("images/a/9.png", "wb") as file:
        file.write(b"not a picture")


CODE = (
    "{}: holds more than tensors and plain values, so loading it could run code; save "
    "model.state_dict() instead\n"
)


def replaced(option: str, value: str) -> list[str]:
    arguments = list(WITH_STATS)
    arguments[arguments.index(option) + 1] = value
    return arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (replaced("--weights", "evil.pt"), CODE.format("evil.pt")),
        (replaced("--weights", "evil2.pt"), CODE.format("evil2.pt")),
        (["bn", "inspect", "evil2.pt"], CODE.format("evil2.pt")),
        (
            replaced("--weights", "other.pt"),
            (
                "other.pt: is a checkpoint of another model than nets_of_test:small: 0.bias is missing, 1.weight is "
                "missing, 1.bias is missing and 6 more; name the model that it belongs to\n"
            ),
        ),
        (
            ["bn", "inspect", "list.pt"],
            (
                "list.pt: holds no state_dict, neither alone nor under state_dict, model_state_dict, model; save "
                "model.state_dict()\n"
            ),
        ),
        (
            replaced("calibrate", "ckpt.pt"),
            "ckpt.pt: is a checkpoint, not a model; name the model that it belongs to, and give it with --weights\n",
        ),
        (
            replaced("calibrate", "nets_of_test:number"),
            "nets_of_test:number: gives a int; name a factory that gives a torch.nn.Module\n",
        ),
        (
            replaced("calibrate", "nets_of_test:nothing"),
            (
                "nets_of_test:nothing: cannot be imported (AttributeError: module 'nets_of_test' has no attribute "
                "'nothing'); give package.module:name as Python would import it here\n"
            ),
        ),
        (
            replaced("calibrate", "torchvision:resnet19"),
            "torchvision:resnet19: torchvision has no such model; torchvision.models lists them\n",
        ),
        (
            replaced("--data", "nowhere"),
            "nowhere: no such folder; name a folder of images, or torchvision:NAME\n",
        ),
        (
            WITH_STATS,
            "a/9.png: not-an-image (starts with b'not a pi'); mend or remove it\n",
        ),
        (
            [*CALIBRATE, "--transform", "nets_of_test:as_is", "-o", "out.pt"],
            "a/0.png: the transform gives a PngImageFile; end it with ToTensor\n",
        ),
        (
            [*CALIBRATE, "-o", "out.pt"],
            (
                "give one of --stats and --transform: how images become tensors (see `imgnorm bn calibrate "
                "--help`)\n"
            ),
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_writes_nothing(place, arguments, message, capsys):
    wrong_files()
    code = run(arguments)
    printed, said = capsys.readouterr()

    assert message == said
    assert 2 == code
    assert "" == printed
    assert not os.path.exists("out.pt")
    assert not os.path.exists("pwned")


def test_a_file_that_exists_is_kept(place, capsys):
    assert 2 == run([*CALIBRATE, "--stats", "stats.yaml", "-o", "ckpt.pt"])
    assert "ckpt.pt: exists already; replace it with --force, or name another file\n" == (
        capsys.readouterr().err
    )


def test_a_device_that_is_not_there_is_never_replaced(place, capsys):
    assert 2 == run([*WITH_STATS, "--device", "cuda:99"])
    assert capsys.readouterr().err.startswith("--device cuda:99: cannot be used (")


def test_images_of_different_sizes_are_told(place, capsys):
    Image.new("RGB", (5, 5)).save("images/a/4.png")

    assert 2 == run([*WITH_STATS, "--device", "cpu"])
    assert (
        "a/4.png: becomes (3, 5, 5), others of its batch (3, 10, 10); resize them (measure with --resize and "
        "--center-crop), or use --batch-size 1\n"
    ) == capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--strict"], 1)])
def test_inspect_prints_a_table_and_its_faults(place, arguments, code, capsys):
    assert code == run(["bn", "inspect", "ckpt.pt", *arguments])
    assert (
        "layer  channels  eps  momentum  affine  batches  running_mean  running_var  weight\n"
        "1             4  ?    -         yes           0  0 .. 0        1 .. 1       1 .. 1\n"
        "\n"
        "1: never updated: running_mean is 0 and running_var 1; calibrate it\n"
    ) == capsys.readouterr().out


def test_inspect_of_a_model_tells_eps_and_momentum(place, capsys):
    assert 0 == run(["bn", "inspect", "nets_of_test:small", "--weights", "ckpt.pt"])
    assert "1             4  1e-05       0.1  yes" in capsys.readouterr().out


def test_inspect_of_what_has_no_batchnorm_is_told(place, capsys):
    assert 2 == run(["bn", "inspect", "nets_of_test:plain"])
    assert (
        "Sequential: has no BatchNorm layer; name a model or a checkpoint that has one\n"
        == capsys.readouterr().err
    )


def test_a_calibrated_checkpoint_passes_strict(place):
    assert 0 == run([*WITH_STATS, "--device", "cpu"])

    assert () == inspect(torch.load("out.pt")["model"])[0].faults
    assert 0 == run(["bn", "inspect", "out.pt", "--strict"])
