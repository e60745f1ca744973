"""`imgnorm bn`: whole runs on small checkpoints, and what users get when something does not fit."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
from devices import needs_cuda
from injection import Running, needs_posix, until
from PIL import Image
from torch import nn

from imgnorm.cli import run
from imgnorm.nn import calibrate, inspect

NETS = """
import os
import signal
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

def choosy(picture):
    raise KeyError("label")

def late():
    import layers_of_test
    return small()

def deadly(picture):
    # Dies at images 3 and 7, like a decoder with a fault, and once, by chance, at image 5.
    corner = picture.getpixel((0, 0))
    if corner in [(3, 3, 3), (7, 7, 7)]:
        os.kill(os.getpid(), signal.SIGKILL)
    if corner == (5, 5, 5) and not os.path.exists("died-once"):
        open("died-once", "w").close()
        os._exit(9)
    return to_tensor(picture)

def in_company(picture):
    # Dies in every process that reads whole batches.
    if torch.utils.data.get_worker_info() is not None:
        os._exit(9)
    return to_tensor(picture)

def exits():
    raise SystemExit(3)

def broken():
    raise FileNotFoundError("config.json")
"""
PIPELINE = """
format: imgnorm-pipeline/1
source: {kind: folder, path: images}
image: {mode: RGB}
preprocess:
  - CenterCrop: {size: 8}
augment:
  - RandomHorizontalFlip: {p: 1.0}
normalize: {mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.3]}
"""
STATS = "format: imgnorm-stats/1\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.25, 0.3]\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model's code, its checkpoint, nine images and constants."""
    monkeypatch.chdir(tmp_path)
    for module in ("nets_of_test", "exits_of_test"):
        monkeypatch.delitem(sys.modules, module, raising=False)  # one that another test imported
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
    """What the library's `calibrate` makes of the same images, decoded by Pillow."""
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
    printed, noted = capsys.readouterr()
    assert "wrote    out.pt\n" == noted
    assert printed.endswith("\n\nfound    9 = 9 counted + 0 skipped + 0 ignored\n")
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
    for name, text in {
        "text.pt": "hello",
        "junk/0.png": "not a picture",
        "exits_of_test.py": "raise SystemExit(0)",
        "constant.yaml": STATS.replace("0.25, 0.3]", "0.25, 0.0]"),
        "pipeline.yaml": PIPELINE,
    }.items():
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "w") as file:
            file.write(text)
    os.mkdir("empty")


CODE = (
    "{}: is not a file of tensors and plain values that torch.save wrote, and loading anything else "
    "could run code; save model.state_dict()\n"
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
                "missing, 1.bias is missing and 5 more; name the model that it belongs to\n"
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
        (replaced("--weights", "gone.pt"), "gone.pt: no such file; name a checkpoint\n"),
        (
            replaced("calibrate", "nets_of_test:exits"),
            "nets_of_test:exits: calling it raised SystemExit: 3 ({place}/nets_of_test.py:46)\n",
        ),
        (
            replaced("calibrate", "nets_of_test:number"),
            "nets_of_test:number: returned something of type int; name a factory that returns a torch.nn.Module\n",
        ),
        (
            replaced("calibrate", "nets_of_test:nothing"),
            "nets_of_test:nothing: nets_of_test has no nothing\n",
        ),
        (
            replaced("calibrate", "torchvision:resnet19"),
            "torchvision:resnet19: torchvision has no such model; torchvision.models lists them\n",
        ),
        (
            replaced("--data", "nowhere"),
            (
                "nowhere: no such file or folder; name a folder of images, an archive, an array, a list (with --list) or "
                "torchvision:NAME\n"
            ),
        ),
        (
            replaced("calibrate", "nets_of_test:broken"),
            (
                "nets_of_test:broken: calling it raised FileNotFoundError: config.json "
                "({place}/nets_of_test.py:49)\n"
            ),
        ),
        (
            replaced("calibrate", "exits_of_test:net"),
            "exits_of_test:net: importing it raised SystemExit: 0 ({place}/exits_of_test.py:1)\n",
        ),
        (
            [*CALIBRATE, "--transform", "nets_of_test:choosy", "-o", "out.pt"],
            "a/0.png: the transform fails (KeyError: 'label'); give one that takes RGB images\n",
        ),
        (
            replaced("--data", "empty"),
            "empty: has no images; name a source that has some\n",
        ),
        (
            replaced("--data", "junk"),
            (
                "junk: no image could be read, out of 1; fix the files or the options:\n"
                "  0.png: not-an-image (starts with b'not a pi')\n"
            ),
        ),
        (
            [*WITH_STATS, "--root", "elsewhere"],
            ("--root is for torchvision:NAME; leave it out (see `imgnorm bn calibrate --help`)\n"),
        ),
        (
            [*CALIBRATE, "--transform", "nets_of_test:to_tensor", "--eps", "1e-3", "-o", "out.pt"],
            "--eps is for --stats; leave it out (see `imgnorm bn calibrate --help`)\n",
        ),
        (
            [*replaced("--data", "pipeline.yaml"), "--split", "test"],
            (
                "--stats: pipeline.yaml says it; change it there, or leave --stats out (see `imgnorm bn calibrate --help`)\n"
            ),
        ),
        (
            replaced("--stats", "constant.yaml"),
            (
                "channel B is constant (std 0): normalizing would divide by 0; look at the images, or allow it "
                "with an eps (such as --eps 1e-3)\n"
            ),
        ),
        (
            [*WITH_STATS, "--rejects", "out.pt"],
            (
                "-o and --rejects name the same file; give each its own (see `imgnorm bn calibrate "
                "--help`)\n"
            ),
        ),
        (
            [*CALIBRATE, "--transform", "nets_of_test:as_is", "-o", "out.pt"],
            "a/0.png: the transform returned something of type PngImageFile; end it with ToTensor\n",
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
    printed, noted = capsys.readouterr()

    assert message.replace("{place}", str(place)) == noted
    assert 2 == code
    assert "" == printed
    assert not os.path.exists("out.pt")
    assert not os.path.exists("pwned")


def test_a_file_that_exists_is_kept(place, capsys):
    assert 2 == run([*CALIBRATE, "--stats", "stats.yaml", "-o", "ckpt.pt"])
    assert (
        "ckpt.pt: exists already, and imgnorm did not write it; replace it with --force --force, or "
        "name another file\n"
    ) == capsys.readouterr().err


def test_a_device_that_is_not_there_is_never_replaced(place, capsys):
    assert 2 == run([*WITH_STATS, "--device", "cuda:99"])
    assert capsys.readouterr().err.startswith("--device cuda:99: cannot be used (")


def test_images_of_different_sizes_are_told(place, capsys):
    Image.new("RGB", (5, 5)).save("images/a/4.png")

    assert 2 == run([*WITH_STATS, "--device", "cpu"])
    assert (
        "a/4.png: becomes (3, 5, 5), but others of its batch become (3, 10, 10); resize them (measure with --resize and "
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


def break_an_image() -> None:
    with open("images/a/4.png", "wb") as file:
        file.write(b"not a picture")
    os.symlink("nowhere.png", "images/a/link.png")


def expected_without(lost: int) -> torch.Tensor:
    pixels = [np.asarray(Image.open(f"images/a/{i}.png")) for i in range(9) if i != lost]
    unit = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div(255)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    model = small()
    model.load_state_dict(torch.load("ckpt.pt")["model"])
    calibrate(model, [unit.sub(mean.view(3, 1, 1)).div(std.view(3, 1, 1))])
    return model[1].running_var


LOST = (
    "found    10 = 8 counted + 2 skipped (1 dangling-link, 1 not-an-image) + 0 ignored\n"
    "skipped  a/4.png: not-an-image (starts with b'not a pi')\n"
    "skipped  a/link.png: dangling-link (a link to nothing)\n"
)


@pytest.mark.parametrize("mode", ["one-pass", "sequential"])
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("batch_size", ["1", "3", "64"])
def test_a_broken_image_costs_itself_and_never_the_run(place, mode, workers, batch_size, capsys):
    break_an_image()
    options = ["--mode", mode, "--workers", workers, "--batch-size", batch_size, "--device", "cpu"]

    assert 3 == run([*WITH_STATS, *options, "--rejects", "rejects.jsonl"])
    printed, noted = capsys.readouterr()
    assert printed.endswith(f"\n\n{LOST}")
    assert "wrote    out.pt\nwrote    rejects.jsonl\n" == noted
    with open("rejects.jsonl") as file:
        rejects = [json.loads(line) for line in file]
    assert [("a/4.png", "not-an-image", 13), ("a/link.png", "dangling-link", None)] == [
        (one["name"], one["reason"], one["bytes"]) for one in rejects
    ]
    torch.testing.assert_close(
        expected_without(4), torch.load("out.pt")["model"]["1.running_var"], rtol=1e-6, atol=0
    )


@pytest.fixture
def impatient(monkeypatch):
    """DataLoader looks for dead workers every 0.2 s instead of 5 s: a default that no option reaches."""
    waiting = torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data
    assert len(waiting.__defaults__) == 1
    monkeypatch.setattr(waiting, "__defaults__", (0.2,))


def mark_corners() -> None:
    for index in range(9):
        picture = Image.open(f"images/a/{index}.png")
        picture.putpixel((0, 0), (index, index, index))
        picture.save(f"images/a/{index}.png")


@needs_posix
@pytest.mark.parametrize("mode", ["one-pass", "sequential"])
@pytest.mark.parametrize(("workers", "batch_size"), [("1", "1"), ("2", "2"), ("2", "64")])
def test_an_image_that_kills_its_decoder_costs_itself(
    place, mode, workers, batch_size, capsys, impatient
):
    mark_corners()
    options = ["--transform", "nets_of_test:deadly", "--device", "cpu", "-o", "out.pt"]
    options += ["--mode", mode, "--workers", workers, "--batch-size", batch_size]

    assert 3 == run([*CALIBRATE, *options])
    detail = "worker-died (the process that decoded it ended, twice: signal 9)"
    assert capsys.readouterr().out.endswith(
        "\n\nfound    9 = 7 counted + 2 skipped (2 worker-died) + 0 ignored\n"
        f"skipped  a/3.png: {detail}\nskipped  a/7.png: {detail}\n"
    )
    assert os.path.exists("died-once")
    kept = [np.asarray(Image.open(f"images/a/{index}.png")) for index in (0, 1, 2, 4, 5, 6, 8)]
    model = small()
    model.load_state_dict(torch.load("ckpt.pt")["model"])
    calibrate(model, [torch.from_numpy(np.stack(kept)).permute(0, 3, 1, 2).float().div(255)])
    torch.testing.assert_close(
        model[1].running_var, torch.load("out.pt")["model"]["1.running_var"], rtol=1e-6, atol=0
    )


@needs_posix
def test_processes_that_die_at_no_image_end_the_run_and_tell(place, capsys, impatient):
    options = ["--transform", "nets_of_test:in_company", "--device", "cpu", "-o", "out.pt"]

    assert 2 == run([*CALIBRATE, *options])
    assert re.fullmatch(
        r"images: decoding processes die, but not because of a certain image \(DataLoader worker .*\); try "
        r"fewer --workers, or 0\n",
        capsys.readouterr().err,
    )
    assert not os.path.exists("out.pt")


@pytest.mark.parametrize(("allowed", "code"), [("2", 0), ("20%", 0), ("1", 1)])
def test_max_skipped_says_how_many_are_fine(place, allowed, code, capsys):
    break_an_image()

    assert code == run([*WITH_STATS, "--device", "cpu", "--max-skipped", allowed])
    printed, noted = capsys.readouterr()
    assert printed.endswith(LOST)
    if code:
        assert (
            "2 images skipped, more than --max-skipped 1; no checkpoint was written: fix them, or allow "
            "more\n"
        ) == noted
    assert os.path.exists("out.pt") is (code == 0)


def test_a_pipeline_config_is_its_source_and_its_eval_transform(place):
    """Cropped, not flipped, and normalized."""
    os.mkdir("configs")
    with open("configs/pipeline.yaml", "w") as file:
        file.write(PIPELINE.replace("path: images", "path: ../images"))
    arguments = replaced("--data", "configs/pipeline.yaml")
    del arguments[arguments.index("--stats") : arguments.index("--stats") + 2]

    assert 0 == run([*arguments, "--device", "cpu"])
    pixels = [np.asarray(Image.open(f"images/a/{index}.png")) for index in range(9)]
    unit = torch.from_numpy(np.stack(pixels)[:, 1:9, 1:9]).permute(0, 3, 1, 2).float().div(255)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    model = small()
    model.load_state_dict(torch.load("ckpt.pt")["model"])
    calibrate(model, [unit.sub(mean.view(3, 1, 1)).div(std.view(3, 1, 1))])
    for what in ("mean", "var"):
        torch.testing.assert_close(
            model.state_dict()[f"1.running_{what}"],
            torch.load("out.pt")["model"][f"1.running_{what}"],
        )


def test_the_frames_that_a_config_asks_for_are_images(place, capsys):
    first, *others = (Image.open(f"images/a/{index}.png") for index in range(4))
    os.mkdir("moving")
    first.save("moving/a.webp", save_all=True, append_images=others, lossless=True)
    with open("pipeline.yaml", "w") as file:
        file.write(
            PIPELINE.replace("path: images", "path: moving").replace(
                "mode: RGB", "mode: RGB, frames: all"
            )
        )
    arguments = replaced("--data", "pipeline.yaml")
    del arguments[arguments.index("--stats") : arguments.index("--stats") + 2]

    assert 0 == run([*arguments, "--device", "cpu"])
    assert "found    4 = 4 counted" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["zip", "gztar", "list"])
def test_archives_and_lists_give_what_their_folder_gives(place, kind):
    options = ["--device", "cpu", "--mode", "sequential", "--workers", "1"]
    if kind == "list":
        with open("names.txt", "w") as file:
            file.writelines(f"images/a/{index}.png\n" for index in range(9))
        other = [*replaced("--data", "names.txt"), "--list"]
    else:
        other = replaced("--data", shutil.make_archive("packed", kind, "images"))
    other[other.index("out.pt")] = "other.pt"

    assert 0 == run([*WITH_STATS, *options])
    assert 0 == run([*other, *options])
    folder, packed = torch.load("out.pt")["model"], torch.load("other.pt")["model"]
    assert all(torch.equal(value, packed[key]) for key, value in folder.items())


def test_no_batch_size_changes_a_byte_of_a_sequential_checkpoint(place):
    written = []
    for batch_size in ("1", "4", "64"):
        options = ["--mode", "sequential", "--batch-size", batch_size, "--device", "cpu"]
        assert 0 == run([*WITH_STATS, *options, "--force", "--force"])
        with open("out.pt", "rb") as file:
            written.append(file.read())

    assert 1 == len(set(written))


@pytest.mark.parametrize(
    ("wrap", "keys"),
    [
        (lambda state: state, ""),
        (lambda state: {"state_dict": state}, ""),
        (lambda state: {"model_state_dict": state}, ""),
        (lambda state: {"model": state, "optimizer": {"lr": 0.1}}, ""),
        (lambda state: {"state_dict": state}, "module."),
        (lambda state: state, "_orig_mod."),
        (lambda state: state, "module._orig_mod."),
    ],
)
def test_every_way_to_save_a_checkpoint_is_read_and_kept(place, wrap, keys):
    state = {f"{keys}{key}": value for key, value in small().state_dict().items()}
    before = wrap(state)
    torch.save(before, "ckpt.pt")

    assert 0 == run([*WITH_STATS, "--device", "cpu"])
    after = torch.load("out.pt")
    assert list(before) == list(after)
    (inner,) = (
        s for s in (after, *after.values()) if isinstance(s, dict) and f"{keys}0.weight" in s
    )
    assert list(state) == list(inner)
    assert not torch.equal(state[f"{keys}1.running_var"], inner[f"{keys}1.running_var"])


def test_a_model_with_a_part_called_module_keeps_its_name(place):
    with open("named_of_test.py", "w") as file:
        file.write(
            "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n"
            "        super().__init__()\n        self.module = nn.BatchNorm2d(3)\n\n"
            "    def forward(self, images):\n        return self.module(images)\n"
        )
    torch.save({f"module.{key}": v for key, v in nn.BatchNorm2d(3).state_dict().items()}, "n.pt")
    arguments = replaced("calibrate", "named_of_test:Net")
    arguments[arguments.index("--weights") + 1] = "n.pt"

    assert 0 == run([*arguments, "--device", "cpu"])
    assert "module.running_var" in torch.load("out.pt")


def test_a_checkpoint_from_before_batches_were_tracked_is_read(place):
    state = small().state_dict()
    del state["1.num_batches_tracked"]
    torch.save(state, "ckpt.pt")

    assert 0 == run([*WITH_STATS, "--device", "cpu"])
    assert list(state) == list(torch.load("out.pt"))


def test_what_a_checkpoint_s_dtype_cannot_hold_is_told(place, capsys):
    state = {
        key: v.half() if v.is_floating_point() else v for key, v in small().state_dict().items()
    }
    state["0.weight"] *= 3e3
    torch.save(state, "ckpt.pt")

    assert 2 == run([*WITH_STATS, "--device", "cpu"])
    noted = capsys.readouterr().err
    assert re.fullmatch(
        r"ckpt\.pt: 1\.running_var is torch\.float16, which cannot hold [\d.e+]+; save the checkpoint in "
        r"float32\n",
        noted,
    )
    assert not os.path.exists("out.pt")


def test_code_that_imports_when_it_is_called_finds_what_lies_here(place):
    (place / "layers_of_test.py").write_text("")

    assert 0 == run([*replaced("calibrate", "nets_of_test:late"), "--device", "cpu"])


SLOW = """
import time
from torch import nn
from torchvision.transforms import ToTensor

def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

def to_tensor(picture):
    open("begun", "w").close()
    time.sleep(0.2)
    return ToTensor()(picture)
"""


@needs_posix
@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize(
    ("number", "workers", "scripted"),
    [  # each two of them together
        (signal.SIGINT, "0", False),
        (signal.SIGINT, "2", True),
        (signal.SIGTERM, "0", True),
        (signal.SIGTERM, "2", False),
    ],
)
def test_a_stopped_calibration_says_so_and_leaves_nothing(place, number, workers, scripted):
    (place / "slow_of_test.py").write_text(SLOW)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    torch.save(net.state_dict(), "net.pt")
    torch.jit.save(torch.jit.script(net), "net.ts")
    model = ["net.ts"] if scripted else ["slow_of_test:net", "--weights", "net.pt"]
    arguments = ["bn", "calibrate", *model, "--data", "images", "-o", "out.pt", "--batch-size", "1"]
    arguments += ["--transform", "slow_of_test:to_tensor", "--workers", workers, "--device", "cpu"]
    before = sorted(os.listdir())
    with Running(*arguments) as running:
        until(lambda: os.path.exists("begun"), timeout=60)
        running.send(number, group=True)
        done = running.end()
        left = running.processes()

    assert (128 + number, f"stopped by {number.name}\n") == (done.returncode, done.stderr)
    assert [] == left
    assert sorted([*before, "begun"]) == sorted(set(os.listdir()) - {"__pycache__"})


@pytest.mark.gpu
@needs_cuda
def test_a_gpu_is_used_where_there_is_one(place):
    assert 0 == run([*WITH_STATS, "--mode", "sequential"])
    on_gpu = torch.load("out.pt")["model"]
    assert 0 == run([*WITH_STATS, "--mode", "sequential", "--device", "cpu", "--force", "--force"])

    assert "cpu" == str(on_gpu["1.running_var"].device)
    torch.testing.assert_close(  # the GPU's convolutions round to TF32, with 10 bits
        torch.load("out.pt")["model"]["1.running_var"], on_gpu["1.running_var"], rtol=2e-3, atol=0
    )
