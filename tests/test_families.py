"""scripts/fold_models: the BatchNorm layers of twelve families of timm's models. Only with `--heavy`."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A float32 has 2**-24 = 6e-8; the sums of up to a hundred layers are rounded in another place.
ROUNDING = 5e-6


@pytest.mark.heavy
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning")
def test_the_table_of_folded_models_is_what_the_script_prints(monkeypatch, capsys):
    """Whatever is not folded is named with the reason; what is gives the outputs of the model."""
    pytest.importorskip("timm")
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.setattr(sys, "argv", ["fold_models"])
    runpy.run_path(str(ROOT / "scripts" / "fold_models"))["main"]()
    printed = capsys.readouterr().out
    committed = (ROOT / "benchmarks" / "FOLDING.md").read_text()

    assert facts(committed) == facts(printed)
    assert 12 == len(errors(printed))
    assert max(errors(printed)) <= ROUNDING


def errors(text: str) -> list[float]:
    return [float(error) for error in re.findall(r"\| ([0-9.e-]+) \|$", text, re.MULTILINE)]


def facts(text: str) -> list[str]:
    """The table without its last column, and the layers that are left."""
    lines = [line for line in text.splitlines() if line.startswith(("| ", "- "))]
    return [line.rpartition(" | ")[0] if line.startswith("|") else line for line in lines]
