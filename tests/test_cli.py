"""The command line as a whole: help, version, wrong usage, exit codes."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from commands import Ended
from PIL import Image

import imgnorm
from imgnorm import cli
from imgnorm.cli.help import GroupedCommand

ROOT = Path(__file__).parents[1]

COMMANDS = ("stats", "show", "merge", "emit")


def test_help_names_the_commands_and_every_exit_code(command):
    ended = command("--help")

    assert (0, "") == (ended.code, ended.err)
    for name in (*COMMANDS, "  0  ", "  1  ", "  2  ", "  3  ", "  70 ", "  130 ", "143", "129"):
        assert name in ended.out


def every_command() -> dict[str, click.Command]:
    """The commands by their names: the command line itself, groups, and the commands of groups."""
    found: dict[str, click.Command] = {"imgnorm": cli.commands}
    for name, entry in cli.commands.commands.items():
        found[f"imgnorm {name}"] = entry
        for below, one in getattr(entry, "commands", {}).items():
            found[f"imgnorm {name} {below}"] = one
    return found


EVERY_COMMAND = every_command()


@pytest.mark.parametrize("columns", [50, 80])
def test_help_fits_the_terminal_and_no_sentence_is_cut_off(command, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    for name in EVERY_COMMAND:
        lines = command(*name.split()[1:], "--help").out.splitlines()
        if columns == 80:  # examples and exit codes are not wrapped
            assert [] == [line for line in lines if len(line) > 80], name
        listed = lines[lines.index("Commands:") :] if "Commands:" in lines else []

        assert [] == [line for line in listed if line.endswith("...")], name


def test_every_help_has_examples_that_the_command_takes():
    for name, command in EVERY_COMMAND.items():
        _, found, text = inspect.cleandoc(command.help or "").partition("Examples:\n")
        lines = re.sub(r"\n {6,}", " ", text.partition("\n\n")[0]).splitlines()

        assert found, name
        assert lines, name
        for line in lines:
            words = shlex.split(line.partition(" > ")[0], comments=True)
            below: click.Command = cli.commands
            assert "imgnorm" == words.pop(0)
            while isinstance(below, click.Group) and words:
                below = below.commands[words.pop(0)]
            with suppress(click.exceptions.Exit):  # of `emit --to`, which lists the targets
                below.make_context("imgnorm", words, resilient_parsing="--help" in words)


def test_help_has_each_option_of_a_command_with_groups_in_one_of_them():
    """Add a new option of `imgnorm stats` to a group in cli/stats.py."""
    for name, command in EVERY_COMMAND.items():
        if isinstance(command, GroupedCommand):
            options = [
                one
                for one in command.get_params(click.Context(command))
                if isinstance(one, click.Option) and not one.hidden
            ]
            grouped = [option for group in command.groups.values() for option in group]

            assert sorted(option.opts[-1] for option in options) == sorted(grouped), name


def test_tab_completes_files_and_presets():
    def completed(*words: str) -> set[tuple[str, str]]:
        shell = BashComplete(cli.commands, {}, "imgnorm", "_IMGNORM_COMPLETE")
        found = shell.get_completions(list(words[:-1]), words[-1])
        return {(one.type, one.value) for one in found}

    for name, command in EVERY_COMMAND.items():
        words = name.split()[1:]
        if name != "imgnorm schema" and any(
            isinstance(one, click.Argument) for one in command.params
        ):
            kinds = {kind for kind, _ in completed(*words, "c")}
            assert kinds == ({"plain"} if "presets" in words else {"file"}), name
    assert completed("presets", "show", "cinic") == {("plain", "cinic10")}
    assert ("plain", "--tolerance") in completed("stats", "data", "--to")
    assert {("plain", "torchvision"), ("plain", "timm")} <= completed("emit", "s.yaml", "--to", "t")
    assert completed("stats", "d", "--layout", "NC") == {("plain", "NCHW")}
    assert completed("stats", "torchvision:MNIST", "--root", "d") == {("dir", "d")}
    assert completed("lint", "--select", "length,known-w") == {("plain", "length,known-wrong")}
    assert completed("lint", "--explain", "known-w") == {("plain", "known-wrong")}


def test_wrong_usage_names_the_help_of_the_command(command):
    for words, page in (
        (["stats", "d", "-o"], "imgnorm stats"),
        (["stats", "--tolerance"], "imgnorm stats"),
        (["emit", "-o"], "imgnorm emit"),
        (["presets", "show", "--nothing"], "imgnorm presets show"),
        (["presets", "--nothing", "show"], "imgnorm presets"),
        (["--nothing", "stats"], "imgnorm"),
    ):
        assert command(*words).err.endswith(f" (see `{page} --help`)\n"), words


def test_the_line_that_turns_completion_on_prints_a_script(command):
    (line,) = [line for line in command("--help").out.splitlines() if "eval" in line]
    variable, _, value = line.split("$(")[1].split(" ")[0].partition("=")
    done = subprocess.run(
        [sys.executable, "-m", "imgnorm"],
        env={**os.environ, "PYTHONPATH": str(ROOT), variable: value},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "complete -o nosort -F _imgnorm_completion imgnorm" in done.stdout
    assert "" == done.stderr


def test_without_a_command_the_help_is_shown_and_it_is_wrong_usage(command):
    """On standard error: a script that forgets an argument must not take the help for a result."""
    for name in ([], ["bn"]):
        ended = command(*name)

        assert (2, "") == (ended.code, ended.out)
        assert f"{command(*name, '--help').out}" == ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats"], "missing SOURCE: name a folder of images, an archive, arrays or a pipeline config, or give --dataset"),
        (["show"], "missing STATS_FILE"),
        (["merge", "-o", "s.yaml"], "missing STATS_FILES"),
        (["schema"], "missing pipeline|stats"),
        (["validate"], "missing FILE|FOLDER"),
        (["bn", "calibrate", "m.pt", "--data", "d"], "missing --output"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_in_one_sentence(command, arguments, message):
    name = "imgnorm bn calibrate" if "bn" in arguments else f"imgnorm {arguments[0]}"

    assert Ended(2, "", f"{message} (see `{name} --help`)\n") == command(*arguments)


def test_the_version_is_told(command):
    assert Ended(0, f"imgnorm {imgnorm.__version__}\n", "") == command("--version")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "d", "--bogus"], "No such option '--bogus'"),
        (["frob"], "No such command 'frob'"),
        (["emit", "s.yaml", "--api", "v3"], "Invalid value for '--api': 'v3' is not one of 'v1', 'v2'"),
        (["emit", "s.yaml", "--eps", "0"], "Invalid value for '--eps': 0.0 is not in the range 0<x<=1"),
    ],
)  # fmt: skip
def test_what_click_refuses_ends_with_2_too(command, arguments, message):
    ended = command(*arguments)

    assert (2, "") == (ended.code, ended.out)
    assert ended.err.startswith(message)
    assert ended.err.endswith(" --help`)\n")
    assert 1 == ended.err.count("\n")


def test_the_package_runs_as_a_program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("d")
    Image.new("RGB", (4, 4)).save("d/1.png")
    done = subprocess.run(
        [sys.executable, "-m", "imgnorm", "stats", "d", "-o", "s.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode
    assert ["d", "s.yaml"] == sorted(os.listdir())
    assert done.stderr.endswith("wrote    s.yaml\n")


def test_a_bug_of_ours_has_its_own_exit_code():
    program = (
        "import imgnorm.cli, imgnorm.__main__ as main\n"
        "def run(arguments): raise ZeroDivisionError('oops')\n"
        "imgnorm.cli.run = run\n"
        "main.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 70 == done.returncode
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith(
        "ZeroDivisionError: oops\nthis is a bug in imgnorm, not in your data: please report it\n"
    )
