"""`imgnorm emit`: what is printed, written and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Command, Ended, files

from imgnorm.pipeline.targets import TARGETS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def measured(command: Command, whole: Path) -> str:
    command("stats", "d", "-o", "s.yaml")
    return "s.yaml"


def test_emit_writes_what_it_prints(command, measured):
    printed = command("emit", measured)
    written = command("emit", measured, "-o", "transforms.py")

    assert (0, "") == (printed.code, printed.err)
    assert Ended(0, "", "wrote    transforms.py\n") == written
    assert printed.out == Path("transforms.py").read_text()


def test_a_module_that_is_up_to_date_passes_the_check(command, measured):
    command("emit", measured, "-o", "t.py", "--api", "v2")

    assert Ended(0, "", "") == command("emit", measured, "-o", "t.py", "--api", "v2", "--check")


@pytest.mark.parametrize("stale", ["edited", "other options", "missing"])
def test_a_module_that_is_not_up_to_date_fails_the_check_and_is_left_alone(
    command, measured, stale
):
    if stale != "missing":
        command("emit", measured, "-o", "t.py")
    if stale == "edited":
        text = Path("t.py").read_text()
        Path("t.py").write_text(text.replace("0.2836", "0.2837"))
    before = files()
    options = ["--api", "v2"] if stale == "other options" else []

    ended = command("emit", measured, "-o", "t.py", "--check", *options)

    state = "does not exist" if stale == "missing" else "is not what `imgnorm emit` writes now"
    remedy = "run the same command without --check"
    remedy += "" if stale == "missing" else " and with --force"
    assert Ended(1, "", f"t.py: {state}; {remedy}\n") == ended
    assert before == files()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], "none.yaml: no such file; check the path"),
        (["d"], "d: a folder; name a YAML file in it"),
        (["s.yaml", "-o", "old.py"], "old.py: exists already, and imgnorm did not write it; replace it with --force --force, or name another file"),
        (["s.yaml", "-o", "old.py", "--force"], "old.py: exists already, and imgnorm did not write it; replace it with --force --force, or name another file"),
        (["s.yaml", "-o", "d/a/1.png", "--force"], "d/a/1.png: exists already, and imgnorm did not write it; replace it with --force --force, or name another file"),
        (["s.yaml", "-o", "d"], "d: is a folder; name a file in it"),
        (["s.yaml", "-o", ""], "'': is not a file; name one, or leave the option out and use `>`"),
        (["s.yaml", "--check"], "--check needs -o: the module to compare (see `imgnorm emit --help`)"),
        (["s.yaml", "-o", "d", "--check"], "d: is not a regular file; name one"),
        (["s.yaml", "-o", "./s.yaml", "--force"], "-o names the stats file itself; give the module its own (see `imgnorm emit --help`)"),
        (["flat.yaml"], "flat.yaml: channel L is constant (std 0): normalizing would divide by 0; look at the images, or allow it with an eps (such as --eps 1e-3)"),
        (["s.yaml", "--eps", "nan"], "s.yaml: eps is nan; it must be above 0 and at most 1"),
        (["deep.yaml", "--api", "v1"], "deep.yaml: 16-bit stats have no v1 transform: ToTensor does not scale mode I;16, and wraps its values at 32768; use api v2 (--api v2)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_what_emit_cannot_do_is_told_in_one_line(command, measured, arguments, message):
    Path("old.py").write_text("old")
    Path("flat.yaml").write_text("format: imgnorm-stats/1\nmean: [0.5]\nstd: [0.0]\n")
    Path("deep.yaml").write_text("format: imgnorm-stats/1\nmean: [0.5]\nstd: [0.1]\nscale: 65535\n")
    before = {name: Path(name).read_bytes() for name in files()}

    assert Ended(2, "", f"{message}\n") == command("emit", *arguments)
    assert before == {name: Path(name).read_bytes() for name in files()}


def test_force_replaces_a_module_and_twice_any_file(command, measured):
    command("emit", measured, "-o", "t.py", "--api", "v2")

    assert Ended(0, "", "wrote    t.py\n") == command("emit", measured, "-o", "t.py", "--force")
    assert (
        command("emit", measured).out.replace("transforms.py", "t.py") == Path("t.py").read_text()
    )
    Path("t.py").write_text("mine")
    assert 0 == command("emit", measured, "-o", "t.py", "--force", "--force").code
    assert "mine" != Path("t.py").read_text()


def test_eps_makes_a_constant_channel_usable(command, whole):
    Path("flat.yaml").write_text("format: imgnorm-stats/1\nmean: [0.5]\nstd: [0.0]\n")

    assert "\nSTD = (0.01,)\n" in command("emit", "flat.yaml", "--eps", "1e-2").out


def test_to_alone_lists_the_targets(command):
    listed = command("emit", "--to")

    assert (0, "") == (listed.code, listed.err)
    assert ["target", "torchvision", *TARGETS] == [
        line.split()[0] for line in listed.out.splitlines()
    ]


def test_a_file_of_another_framework_is_written_and_checked(command, measured):
    for target in TARGETS:
        arguments = ["emit", measured, "--to", target, "-o", f"{target}.out"]

        assert Ended(0, "", f"wrote    {target}.out\n") == command(*arguments)
        assert Ended(0, "", "") == command(*arguments, "--check")
        assert Ended(0, "", f"wrote    {target}.out\n") == command(*arguments, "--force")
        assert 1 == command(*arguments, "--eps", "1", "--check").code


def test_json_is_merged_into_a_file_and_checked(command, measured):
    Path("c.json").write_text('{"size": 224}')
    arguments = ["emit", measured, "--to", "hf", "--into", "c.json"]

    stale = "c.json: is not what `imgnorm emit` writes now; run the same command without --check\n"
    assert Ended(1, "", stale) == command(*arguments, "--check")
    assert Ended(0, "", "wrote    c.json\n") == command(*arguments)
    assert Ended(0, "", "") == command(*arguments, "--check")
    assert 224 == json.loads(Path("c.json").read_text())["size"]
    refused = (
        "c.json: exists already, and imgnorm did not write it; replace it with --force --force, or name "
        "another file, or keep what is in it with --into c.json\n"
    )
    assert Ended(2, "", refused) == command(
        "emit", measured, "--to", "hf", "-o", "c.json", "--force"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "tim"], "--to: there is no target 'tim'; did you mean 'timm'?"),
        (["--to", "paddle"], "--to: there is no target 'paddle'; `imgnorm emit --to` lists them"),
        (["--to", "hf", "--api", "v2"], "--api: is torchvision's, and the target is hf; leave api out"),
        (["--to", "keras", "--into", "c.json"], ("--into: takes JSON, and keras is not; the targets that are: "
            "timm, hf, open_clip, albumentations, json")),
        (["--to", "hf", "--into", "c.json", "-o", "d.json"], "-o: --into names the file already; leave -o out"),
        (["--to", "hf", "--into", "c.json", "--force"],
            "--force does nothing here: --into keeps all else in the file"),
        (["--to", "onnx"], "--to onnx is binary: name a file with -o"),
        (["--to", "timm", "-o", "f.py"], "-o: the file of timm ends in .json, not .py, as config.json"),
        (["-o", "f.yml"], "-o: the file of torchvision ends in .py, not .yaml, as transforms.py"),
        (["--to", "hf", "--into", "locked.json"], "locked.json: is read-only; make it writable first"),
        (["--to", "hf", "--into", "none.json"], "none.json: no such file; write a new one with -o"),
    ],
)  # fmt: skip
def test_targets_are_refused_in_a_sentence(command, measured, arguments, message):
    Path("c.json").write_text("{}")
    Path("locked.json").write_text("{}")
    Path("locked.json").chmod(0o444)
    ended = command("emit", measured, *arguments)

    assert (2, "") == (ended.code, ended.out)
    assert message == ended.err.strip().removesuffix(" (see `imgnorm emit --help`)")


def test_a_config_has_no_other_target(command, measured):
    Path("p.yaml").write_bytes((ROOT / "configs" / "cifar10.yaml").read_bytes())
    ended = command("emit", "p.yaml", "--to", "hf")

    message = "p.yaml: a config becomes a module of torchvision; give hf its stats file\n"
    assert Ended(2, "", message) == ended
