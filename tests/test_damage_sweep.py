"""scripts/damage_sweep: what damage is found in which format, and that docs/reliability.md has its table."""

from __future__ import annotations

import re
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType

import pytest
from blocks import ROOT

UNDETECTED = {"BMP", "PPM", "TIFF, uncompressed"}
"""Formats in which zeros are pixels like others."""
RARELY = {"WebP", "WebP, alpha", "TIFF, LZW, palette"}
"""Formats whose whole files may end in zeros, so that a short tail of them means nothing."""


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    loader = SourceFileLoader("damage_sweep", str(ROOT / "scripts" / "damage_sweep"))
    spec = spec_from_loader("damage_sweep", loader)
    assert spec is not None
    module = module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    return module


def wrong_in(table: str) -> dict[str, int]:
    """How many files of each format are counted with other pixels."""
    rows = re.findall(r"^\| (.*?) \| (\d.*) \|$", table, re.MULTILINE)
    return {name: sum(map(int, re.findall(r"(\d+) of", cells))) for name, cells in rows}


def test_damage_of_every_format_is_found_where_the_docs_say_so(sweep, capfd):
    sweep.main(["--images", "1"])
    found = wrong_in(capfd.readouterr().out)
    documented = wrong_in((ROOT / "docs" / "reliability.md").read_text())

    assert UNDETECTED | RARELY == {name for name, wrong in documented.items() if wrong}
    assert set(found) - {"AVIF", "AVIF, alpha"} <= set(documented)
    assert UNDETECTED <= {name for name, wrong in found.items() if wrong} <= UNDETECTED | RARELY


@pytest.mark.heavy
def test_the_table_in_the_docs_is_what_the_script_prints(sweep, capfd):
    sweep.main([])

    assert capfd.readouterr().out in (ROOT / "docs" / "reliability.md").read_text()
