"""scripts/gpu_check: its checks and measurements run, on CPU tensors, and its exit codes are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
import torch

from imgnorm import gpu
from imgnorm.errors import MissingDependency
from imgnorm.tray import Found

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "gpu_check"
CPU = torch.device("cpu")

gpu_needed = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def loaded() -> ModuleType:
    loader = SourceFileLoader("gpu_check", str(SCRIPT))
    spec = spec_from_loader("gpu_check", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@contextmanager
def limited(device: torch.device, size: int) -> Iterator[None]:
    """As the script's, for a device that is the CPU."""
    kernel = gpu.image_histograms

    def image_histograms(pixels: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        if device_is_counting and 8 * pixels.numel() > size:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kernel(pixels, sizes)

    counted = gpu.DeviceCounter._counted
    device_is_counting = True

    def on(self: object, pixels: object, part: object, where: torch.device) -> object:
        nonlocal device_is_counting
        device_is_counting = where is not gpu._CPU
        return counted(self, pixels, part, where)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "image_histograms", image_histograms)
        patch.setattr(gpu.DeviceCounter, "_counted", on)
        yield


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, which takes the CPU for the device that it looks for."""
    module = loaded()
    found = Found(torch.device("cpu"), "cpu, as a device")
    refused = gpu.find

    def find(name: str) -> Found:
        return refused(name) if name == "cuda:99" else found

    monkeypatch.setattr(gpu, "find", find)
    monkeypatch.setattr(module, "limited", limited)
    monkeypatch.setattr(module.nvjpeg, "find", lambda device: module.PillowDecoder())
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    return module


def test_without_a_device_it_says_so_and_exits_2():
    done = subprocess.run(
        [sys.executable, SCRIPT],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 2 == done.returncode
    assert "" == done.stdout
    assert done.stderr.startswith("device cuda: ")
    assert done.stderr.endswith("; use cpu or auto: nothing was checked\n")
    assert 1 == len(done.stderr.splitlines())


def test_every_check_passes_where_the_device_is_the_cpu(script, monkeypatch, tmp_path, capsys):
    """But for the one of whole measurements, which another test runs."""
    quick = [check for check in script.CHECKS if check is not script.check_road]
    monkeypatch.setattr(script, "CHECKS", quick)

    assert 0 == script.checked("cuda", CPU, tmp_path)
    assert 10 == capsys.readouterr().out.count("| passed |")


def test_without_torchcodec_its_checks_are_told_apart_from_failures(
    script, monkeypatch, tmp_path, capsys
):
    def find(device: torch.device) -> None:
        raise MissingDependency("needs torchcodec")

    monkeypatch.setattr(script.nvjpeg, "find", find)
    monkeypatch.setattr(script, "CHECKS", [script.check_nvjpeg])
    monkeypatch.setattr(script, "MEASUREMENTS", [script.measure_decoding, script.measure_blocks])

    assert 0 == script.main()
    out = capsys.readouterr().out
    assert "the same | not run: needs torchcodec |" in out
    assert "| measure_decoding | not run: needs torchcodec | - |" in out
    assert "| measure_blocks | not run: counts with torch | - |" in out


def test_a_wrong_count_fails_its_checks_and_exits_1(script, monkeypatch, capsys):
    right = gpu._added

    def wrong(counts: torch.Tensor, pixels: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        counts[7] += 1
        return right(counts, pixels, rows)

    monkeypatch.setattr(gpu, "_added", wrong)
    monkeypatch.setattr(script, "CHECKS", [script.check_kernel, script.check_streams])
    monkeypatch.setattr(script, "MEASUREMENTS", [])

    assert 1 == script.main()
    out = capsys.readouterr().out
    assert 2 == out.count("| FAILED |")
    assert out.endswith("2 failed\n")


def test_a_measurement_that_fails_does_not_lose_the_others(script, monkeypatch, capsys):
    def failing(*arguments: object) -> Iterator[object]:
        yield script.Row("one", "1 s")
        raise torch.OutOfMemoryError("CUDA out of memory")

    def working(*arguments: object) -> Iterator[object]:
        yield script.Row("two", "2 s", "at most 3 s")

    monkeypatch.setattr(script, "CHECKS", [])
    monkeypatch.setattr(script, "MEASUREMENTS", [failing, working])

    assert 1 == script.main()
    out = capsys.readouterr().out
    assert "| one | 1 s | - |\n| failing | FAILED | - |\n| two | 2 s | at most 3 s |\n" in out
    assert out.endswith("1 failed\n")


def test_every_measurement_prints_its_rows(script, monkeypatch, tmp_path, capsys):
    few = {"kernel": 30_000, "tray": 4_000, "photos": 4, "tiny images": 60, "decoded": 20}
    monkeypatch.setattr(script, "SIZES", few)
    monkeypatch.setattr(script, "EDGES", {"photos": 64, "tiny images": 16})
    monkeypatch.setattr(script, "ROUNDS", 1)
    monkeypatch.setattr(script, "command", lambda images, options: 1.0)
    monkeypatch.setattr(script, "DIFFERENT", 3)

    assert 0 == script.measured("cuda", CPU, tmp_path)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]

    assert 38 == len(rows)
    assert all(3 == row.count(" | ") + 1 for row in rows)
    assert sum("at most 1 times the CPU" in row for row in rows) == 2
    assert sum("at most 0.2 times the CPU" in row for row in rows) == 2
    assert sum("at least 100 Gpixel/s" in row for row in rows) == 1


def test_a_rehearsal_takes_the_cpu_and_does_little(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--device", "cpu"])
    monkeypatch.setattr(
        script, "checked", lambda name, device, folder: int((name, device) != ("cuda", CPU))
    )
    monkeypatch.setattr(script, "measured", lambda name, device, folder: 0)

    assert 0 == script.main()
    assert capsys.readouterr().out.startswith("a rehearsal: the CPU in the place of a device")
    assert script.SIZES["photos"] == 40


def test_the_command_that_is_timed_measures_the_folder(script, tmp_path):
    images = script.folder_of(tmp_path / "images", 50, 8)

    assert 50 == len(list(images.iterdir()))
    assert script.command(images, {"device": "cpu"}) > 0
    with pytest.raises(subprocess.CalledProcessError):
        script.command(tmp_path / "nothing", {"device": "cpu"})


def test_whole_measurements_are_checked_without_pydantic_and_the_like(tmp_path):
    """A machine with a GPU has torch, NumPy and Pillow; more cannot be installed everywhere."""
    program = (
        "import sys\n"
        "for name in ('pydantic', 'simplejpeg', 'click', 'tqdm', 'yaml', 'pytest'):\n"
        "    sys.modules[name] = None\n"
        "from importlib.machinery import SourceFileLoader\n"
        f"script = SourceFileLoader('gpu_check', {str(SCRIPT)!r}).load_module()\n"
        "import torch\n"
        "from pathlib import Path\n"
        "from imgnorm import gpu\n"
        "cpu = torch.device('cpu')\n"
        "gpu.find = lambda name: gpu.Found(cpu, 'cpu')\n"
        "script.CHECKS = [script.check_road]\n"
        f"sys.exit(script.checked('cuda', cpu, Path({str(tmp_path)!r})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ("", 0) == (done.stderr, done.returncode)
    assert 1 == done.stdout.count("| passed |")


@pytest.mark.gpu
@gpu_needed
def test_all_is_well_on_the_device():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)

    assert ("", 0) == (done.stderr, done.returncode)
