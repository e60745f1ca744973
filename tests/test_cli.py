"""The command line as a whole: help, version, wrong usage, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Ended
from PIL import Image

import imgnorm
from imgnorm import cli

ROOT = Path(__file__).parents[1]

COMMANDS = ("stats", "show", "merge", "emit")


def test_help_names_the_commands_and_every_exit_code(command):
    ended = command("--help")

    assert (0, "") == (ended.code, ended.err)
    for name in (*COMMANDS, "  0  ", "  1  ", "  2  ", "  3  ", "  70 ", "  130 ", "143", "129"):
        assert name in ended.out


def every_command() -> list[list[str]]:
    """The arguments that name each command, the command line itself and commands of groups included."""
    names: list[list[str]] = [[]]
    for name, entry in cli.commands.commands.items():
        names += [[name], *([name, below] for below in getattr(entry, "commands", ()))]
    return names


@pytest.mark.parametrize("name", every_command(), ids=" ".join)
def test_help_fits_a_terminal_of_80_columns_and_no_sentence_is_cut_off(command, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = command(*name, "--help").out.splitlines()

    assert [] == [line for line in lines if len(line) > 80]
    listed = lines[lines.index("Commands:") :] if "Commands:" in lines else []
    assert [] == [line for line in listed if line.endswith("...")]


@pytest.mark.parametrize("name", [[], ["stats"], ["show"], ["emit"]])
def test_without_arguments_the_help_is_shown_and_it_is_wrong_usage(command, name):
    """On standard error: a script that forgets an argument must not take the help for a result."""
    ended = command(*name)

    assert (2, "") == (ended.code, ended.out)
    assert f"{command(*name, '--help').out}" == ended.err


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
