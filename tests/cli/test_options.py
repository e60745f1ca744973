"""The options that commands share, and what their help says."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from imgnorm.tally.skipped import Allowance

ROOT = Path(__file__).parents[2]

DEFAULTS: dict[str, dict[str, str | None]] = {
    "stats": {
        "--dataset": "none",
        "--key": "the first of a tuple",
        "--list": None,
        "--include": "all",
        "--exclude": None,
        "--root": "data",
        "--split": "train",
        "--download": None,
        "--layout": "what the shape shows",
        "--mode": "auto",
        "--strict-channels": None,
        "--frames": "first",
        "--resize": "native sizes",
        "--center-crop": "no crop",
        "--workers": "the cores this process may use",
        "--device": "cpu",
        "--batch-size": "8",
        "--decoder": "auto",
        "--limit": "all",
        "--shard": "all",
        "--per-class": None,
        "--keep-names": None,
        "--tolerance": "look at all, exactly",
        "--confidence": "0.99",
        "--seed": "0",
        "--sizes": "exact",
        "--dry-run": None,
        "--max-skipped": "any number, exit 3",
        "--strict": None,
        "--max-pixels": "178956970",
        "--timeout": "30.0",
        "--rejects": "",
        "--report": None,
        "--json": None,
        "-o, --output": "only print",
        "--force": None,
        "-q, --quiet": None,
        "--profile": None,
        "--ray": "this machine",
        "-v, --verbose": None,
        "-h, --help": None,
    },
    "show": {"-v, --verbose": None, "-h, --help": None},
    "merge": {
        "-o, --output": "only print",
        "--force": None,
        "--allow-missing": None,
        "--allow-overlap": None,
        "--allow-decoders": None,
        "--drop-names": None,
        "--json": None,
        "-q, --quiet": None,
        "-v, --verbose": None,
        "-h, --help": None,
    },
    "emit": {
        "-o, --output": "print it",
        "--to": "torchvision",
        "--into": None,
        "--api": "what a pipeline config says, else v1",
        "--eps": "refuse constant channels",
        "--check": None,
        "--force": None,
        "-h, --help": None,
    },
}  # None: a flag, which is off; "": the help does not name what is done without it


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_option_with_its_default(command, name, flag):
    ended = command(name, flag)
    _, _, listed = re.sub(r"\n\n\w+:\n", "\n\f\n", ended.out).partition("\f\n")
    listed, _, _ = listed.replace("\f\n", "").partition("\n\n")
    found: dict[str, str | None] = {}
    for line in listed.splitlines():
        text = line.strip()
        if line.startswith("  -"):
            option = text.split("  ")[0]
            key = " ".join(part for part in option.split(" ") if part.startswith("-"))
            found[key] = text
        else:
            found[key] += " " + text
    defaults = {
        key: text.split("[default: ")[1].split("]")[0].split(";")[0] if "[default: " in text else None
        for key, text in found.items()
    }  # fmt: skip

    assert (0, "") == (ended.code, ended.err)
    assert {key: value or None for key, value in DEFAULTS[name].items()} == defaults


@pytest.mark.parametrize("percent", ["0.57%", "0.29%", "1.1%"])
def test_a_percentage_of_skipped_images_is_exact(percent):
    """0.57% of 10,000 is 57; in floats it is a little less."""
    exactly = int(Fraction(percent[:-1]) * 100)

    assert Allowance.parse(percent).covers(exactly, 10_000)
    assert not Allowance.parse(percent).covers(exactly + 1, 10_000)
