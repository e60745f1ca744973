"""Ten million names: what they cost in memory and in the main process. Only with `--heavy`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
NAMES = 10_000_000
MEMORY = 200 << 20
MAIN_US = 4.0  # of CPU, for a name


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="adds memory up as Linux reports it")
def test_ten_million_names_cost_little(monkeypatch):
    """In folders of at most 100,000, which are generated while they are walked; nothing is decoded."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from meter import family, proportional_bytes

    program = [sys.executable, str(SCRIPTS / "contestants.py"), "names", str(NAMES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    peak = 0
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(proportional_bytes, family(process.pid))))
            time.sleep(0.1)
        assert process.stdout
        main_s = float(process.stdout.read())

    assert 0 == process.returncode
    assert peak <= MEMORY
    assert main_s / NAMES * 1e6 <= MAIN_US
