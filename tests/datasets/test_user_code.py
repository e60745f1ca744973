"""--dataset package.module:factory: the user's own code, run on purpose and never by a config."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from injection import here, imgnorm

from imgnorm.datasets.user_code import UserCode
from imgnorm.errors import SourceError

ROOT = Path(__file__).parents[2]
CODE = """
import sys
import numpy, torch
from torch.utils.data import DataLoader, Dataset

print("importing")
PIXELS = torch.arange(4 * 3 * 2 * 2, dtype=torch.uint8).reshape(4, 3, 2, 2)

class Images(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"left": PIXELS[index], "right": PIXELS[index] + 1}

class Broken(Images):
    def __getitem__(self, index):
        if index == 2:
            raise OSError("the disk is gone")
        return super().__getitem__(index)

class Slow(Images):
    def __getitem__(self, index):
        import time
        print("reading", file=sys.stderr, flush=True)
        time.sleep(30)

ready = Images()

class Namespace:
    images = staticmethod(Images)

def images():
    print("made")
    return Images()

def loader():
    return DataLoader(Images(), batch_size=3, drop_last=True)

def frames():
    for image in PIXELS:
        yield image, 0

def slow():
    return DataLoader(Slow(), num_workers=2)

def arrays():
    return [numpy.zeros((2, 28, 28), numpy.uint8)]

def nothing():
    pass

def fails():
    raise RuntimeError("no\\nsuch data")

def leaves():
    sys.exit(3)

number = 7

class Leaves(Images):
    def __getitem__(self, index):
        sys.exit(0)

def frames_and_leaves():
    yield PIXELS[0]
    sys.exit(0)

def class_itself():
    return Images

def seven():
    return 7

def text():
    return b"images"

def resized(size):
    return Images()

class Uncounted(Images):
    def __len__(self):
        raise OSError("the disk is gone")

def interrupted():
    raise KeyboardInterrupt

def interrupted_later():
    yield PIXELS[0]
    raise KeyboardInterrupt
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command looks for modules here first
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "__init__.py").write_text("")
    (tmp_path / "project" / "data.py").write_text(CODE)
    (tmp_path / "project" / "broken.py").write_text("def oops(:\n")
    (tmp_path / "project" / "needs.py").write_text("import a_package_that_is_not_there\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "project"]:
        del sys.modules[name]


def measured(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return here("stats", *arguments, cwd=project)


@pytest.mark.parametrize(
    ("factory", "options", "images", "total"),
    [
        ("images", ["--key", "left"], 4, [312, 376, 440]),
        ("Images", ["--key", "right"], 4, [328, 392, 456]),
        ("ready", ["--key", "left", "--workers", "2"], 4, [312, 376, 440]),
        ("Namespace.images", ["--key", "left", "--limit", "2"], 2, None),
        ("frames", [], 4, [312, 376, 440]),
        ("frames", ["--key", "0"], 4, [312, 376, 440]),
        ("arrays", ["--layout", "NHW"], 2, [0]),
    ],
)
def test_what_a_factory_makes_is_measured(project, factory, options, images, total):
    """What the user's code prints does not mix with the result."""
    ended = measured(project, "--dataset", f"project.data:{factory}", *options, "--json")

    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert images == document["images"]
    assert total is None or total == document["exact"]["total"]
    assert f"project.data:{factory}" == document["source"]["ref"]


@pytest.mark.parametrize("factory", ["interrupted", "interrupted_later"])
def test_an_interrupt_of_the_users_own_is_as_good_as_ctrl_c(project, factory):
    """Code that sets Python's own handler of Ctrl-C again gets KeyboardInterrupt."""
    ended = imgnorm(
        "stats", "--dataset", f"project.data:{factory}", "-q", "-o", "s.yaml", cwd=project
    )

    assert (130, "stopped by SIGINT") == (ended.returncode, ended.stderr.splitlines()[-1])
    assert "Traceback" not in ended.stderr
    assert not (project / "s.yaml").exists()


def test_what_a_loader_drops_is_noted(project):
    options = ["--dataset", "project.data:loader", "--key", "left", "-o", "s.yaml"]
    ended = imgnorm("stats", *options, cwd=project)

    assert 0 == ended.returncode
    assert (
        "note     project.data:loader: drop_last=True left 1 image out, which these numbers lack; measure "
        "with drop_last=False\n" in ended.stderr
    )
    assert "found    4 = 3 counted + 0 skipped + 1 ignored (1 drop-last)" in ended.stdout
    assert (project / "s.yaml").exists()


def test_a_broken_item_is_skipped_by_name_and_told_by_the_exit_code(project):
    ended = measured(project, "--dataset", "project.data:Broken", "--key", "left", "-q")

    assert 3 == ended.returncode
    assert "skipped  2: corrupt (OSError: the disk is gone)\n" in ended.stdout
    allowed = measured(
        project, "--dataset", "project.data:Broken", "--key", "left", "--max-skipped", "1"
    )
    assert 0 == allowed.returncode


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data", "--dataset data: expected package.module:name, as in project.data:train_set"),
        ("a b:c", "--dataset a b:c: expected package.module:name, as in project.data:train_set"),
        (
            "projekt.data:images",
            "--dataset projekt.data:images: there is no module projekt, neither in this folder nor installed",
        ),
        (
            "project.date:images",
            (
                "--dataset project.date:images: there is no module project.date, neither in this folder nor "
                "installed"
            ),
        ),
        (
            "project.needs:images",
            (
                "--dataset project.needs:images: importing it raised ModuleNotFoundError: No module named "
                "'a_package_that_is_not_there' ({project}/project/needs.py:1)"
            ),
        ),
        (
            "project.broken:oops",
            (
                "--dataset project.broken:oops: importing it raised SyntaxError: invalid syntax (broken.py, line 1) "
                "({project}/project/broken.py:1)"
            ),
        ),
        (
            "project.data:image",
            "--dataset project.data:image: project.data has no image",
        ),
        (
            "project.data:number",
            "--dataset project.data:number: is of type int; name something that can be called",
        ),
        (
            "project.data:nothing",
            "--dataset project.data:nothing: returned None; return the Dataset",
        ),
        (
            "project.data:fails",
            (
                "--dataset project.data:fails: calling it raised RuntimeError: no such data "
                "({project}/project/data.py:54)"
            ),
        ),
        (
            "project.data:leaves",
            "--dataset project.data:leaves: calling it raised SystemExit: 3 ({project}/project/data.py:57)",
        ),
        (
            "project.data:Leaves",
            "--dataset project.data:Leaves: reading it raised SystemExit: 0 ({project}/project/data.py:63)",
        ),
        (
            "project.data:frames_and_leaves",
            (
                "--dataset project.data:frames_and_leaves: reading it raised SystemExit: 0 "
                "({project}/project/data.py:67)"
            ),
        ),
        (
            "project.data:resized",
            (
                "--dataset project.data:resized: calling it raised TypeError: resized() missing 1 required "
                "positional argument: 'size'; name a factory that takes no arguments"
            ),
        ),
        *(
            (
                f"project.data:{factory}",
                (
                    f"--dataset project.data:{factory}: returned something of type {kind}; return a Dataset, a "
                    "DataLoader or another iterable of images"
                ),
            )
            for factory, kind in (("class_itself", "type"), ("seven", "int"), ("text", "bytes"))
        ),
        (
            "project.data:Uncounted",
            (
                "Uncounted: does not report how many images it has (OSError: the disk is gone); give it a __len__, "
                "or measure it as an iterable"
            ),
        ),
        (
            "project.data:arrays",
            (
                "project.data:arrays: the first item is an array of shape (2, 28, 28), not HWC of 1, 3 or 4 "
                'channels; give layout="NHW" or "HWC" or "CHW" (--layout)'
            ),
        ),
    ],
)
def test_what_cannot_be_made_is_told_in_a_sentence(project, name, message):
    ended = measured(project, "--dataset", name, "-o", "s.yaml", "-q")

    told = [line for line in ended.stderr.splitlines() if line not in ("importing", "made")]
    assert (2, [message.replace("{project}", str(project))]) == (ended.returncode, told)
    assert not (project / "s.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--dataset", "a:b"], "give SOURCE or --dataset, one of them"),
        (
            ["-q"],
            "missing SOURCE: name a folder of images, an archive, arrays or a pipeline config, or give --dataset",
        ),
        (["x", "--key", "image"], "--key is for Datasets and iterables; leave it out"),
        (["--dataset", "a:b", "--root", "x"], "--root is for torchvision:NAME; leave it out"),
        (["--dataset", "a:b", "--list"], "--list is for a text file of paths; leave it out"),
    ],
)
def test_options_that_do_nothing_are_refused(tmp_path, arguments, message):
    ended = measured(tmp_path, *arguments)

    expected = f"{message} (see `imgnorm stats --help`)\n"
    assert (2, "", expected) == (ended.returncode, ended.stdout, ended.stderr)


def test_a_dataset_is_no_source_of_a_config(project):
    """A config is data: nothing in it may run code."""
    config = project / "pipeline.yaml"
    config.write_text(
        "format: imgnorm-pipeline/1\nsource: {kind: dataset, path: project.data:images}\n"
    )

    ended = measured(project, "pipeline.yaml")

    assert 2 == ended.returncode
    assert "importing" not in ended.stdout + ended.stderr


def test_the_help_says_that_code_is_run(project):
    ended = measured(project, "--help")

    assert "runs its code" in " ".join(ended.stdout.split())


def to_all(process: subprocess.Popen[str], number: int) -> None:
    """As a terminal or a batch system does it."""
    os.killpg(process.pid, number)


def to_the_command(process: subprocess.Popen[str], number: int) -> None:
    os.kill(process.pid, number)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(
    ("name", "code", "send"), [("SIGINT", 130, to_all), ("SIGTERM", 143, to_the_command)]
)
def test_a_signal_ends_the_users_workers_too(project, name, code, send):
    # A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "imgnorm", "stats", "--dataset", "project.data:slow"],
            cwd=project,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stderr is not None
    while process.stderr.readline() != "reading\n":  # until a worker is at work
        assert process.poll() is None
    started = time.monotonic()

    send(process, getattr(signal, name))
    _, err = process.communicate(timeout=30)

    told = [line for line in err.splitlines() if line != "reading"]
    assert (code, [f"stopped by {name}"]) == (process.returncode, told)
    assert time.monotonic() - started < 15  # of 30 s of work
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def code(name: str) -> UserCode:
    return UserCode(name, SourceError, "--dataset")


def test_a_factory_in_this_process_gives_the_very_object(monkeypatch, tmp_path):
    (tmp_path / "very_own_data.py").write_text("images = [1]\n\ndef make():\n    return images\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    assert code("very_own_data:images").dataset() is code("very_own_data:make").dataset()
    with pytest.raises(SourceError, match=r"has no other$"):
        code("very_own_data:other").dataset()
