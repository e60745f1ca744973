"""scripts/gpu_check: its checks and measurements run, on CPU tensors, and its exit codes are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
import torch
from devices import needs_cuda

from imgnorm.cuda import device as gpu
from imgnorm.cuda import kernel as kernels
from imgnorm.cuda.counter import _CPU as COUNTED_HERE
from imgnorm.cuda.counter import DeviceCounter
from imgnorm.errors import MissingDependency
from imgnorm.pixels.buffer import FoundDevice

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "gpu_check"
CPU = torch.device("cpu")


def loaded() -> ModuleType:
    loader = SourceFileLoader("gpu_check", str(SCRIPT))
    spec = spec_from_loader("gpu_check", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@contextmanager
def limited(device: torch.device, size: int) -> Iterator[None]:
    """Like the script's `limited`, for a device that is the CPU."""
    kernel = kernels.image_histograms

    def image_histograms(pixels: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
        if device_is_counting and 8 * pixels.numel() > size:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kernel(pixels, sizes)

    counted = DeviceCounter._counted
    device_is_counting = True

    def on(self: object, pixels: object, part: object, where: torch.device) -> object:
        nonlocal device_is_counting
        device_is_counting = where is not COUNTED_HERE
        return counted(self, pixels, part, where)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "image_histograms", image_histograms)
        patch.setattr(DeviceCounter, "_counted", on)
        yield


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, which finds the CPU as its device."""
    module = loaded()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # OpenMP's do not survive a fork
    found = FoundDevice(torch.device("cpu"), "cpu, as a device")
    refused = gpu.find

    def find(name: str) -> FoundDevice:
        return refused(name) if name == "cuda:99" else found

    monkeypatch.setattr(gpu, "find", find)
    monkeypatch.setattr(module, "limited", limited)
    monkeypatch.setattr(module.nvjpeg, "find_decoder", lambda device: module.PillowDecoder())
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    yield module
    torch.set_num_threads(threads)


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
    """Except the check of whole measurements, which another test runs."""
    quick = [check for check in script.CHECKS if check is not script.check_measure]
    monkeypatch.setattr(script, "CHECKS", quick)
    monkeypatch.setattr(script, "MEASUREMENTS", [])

    assert 0 == script.all_steps("cuda", tmp_path)
    out = capsys.readouterr().out
    assert 12 == out.count("| passed |")
    assert 1 == out.count("| not run: needs a CUDA device |")


def test_without_torchcodec_its_checks_are_told_apart_from_failures(
    script, monkeypatch, tmp_path, capsys
):
    def find(device: torch.device) -> None:
        raise MissingDependency("needs torchcodec")

    monkeypatch.setattr(script.nvjpeg, "find_decoder", find)
    monkeypatch.setattr(script, "CHECKS", [script.check_nvjpeg])
    monkeypatch.setattr(script, "MEASUREMENTS", [script.measure_decoding, script.measure_blocks])

    assert 0 == script.main()
    out = capsys.readouterr().out
    assert "the same | not run: needs torchcodec |" in out
    assert "| measure_decoding | not run: needs torchcodec | - |" in out
    assert "| measure_blocks | not run: counts with torch | - |" in out


def test_a_wrong_count_fails_its_checks_and_exits_1(script, monkeypatch, capsys):
    right = kernels._add_pixels

    def wrong(counts: torch.Tensor, pixels: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        counts[7] += 1
        return right(counts, pixels, rows)

    monkeypatch.setattr(kernels, "_add_pixels", wrong)
    monkeypatch.setattr(script, "CHECKS", [script.check_kernel, script.check_streams])
    monkeypatch.setattr(script, "MEASUREMENTS", [])

    assert 1 == script.main()
    out = capsys.readouterr().out
    assert 1 == out.count("| FAILED: AssertionError |")
    assert 1 == out.count("| FAILED: DeviceError: the device counted wrong: its histograms hold ")
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
    assert (
        "| one | 1 s | - |\n| failing | FAILED: OutOfMemoryError: CUDA out of memory | - |\n"
        "| two | 2 s | at most 3 s |\n" in out
    )
    assert out.endswith("1 failed\n")


def test_a_step_that_crashes_or_hangs_costs_its_own_row(script, monkeypatch, capfd):
    def crashing(*arguments: object) -> Iterator[object]:
        yield script.Row("begun", "1 s")
        os.kill(os.getpid(), signal.SIGSEGV)

    def hanging(*arguments: object) -> None:
        time.sleep(600)

    def working(*arguments: object) -> Iterator[object]:
        yield script.Row("two", "2 | 3 s")

    monkeypatch.setattr(script, "STEP_S", 2)
    monkeypatch.setattr(script, "CHECKS", [hanging])
    monkeypatch.setattr(script, "MEASUREMENTS", [crashing, working])

    assert 1 == script.main()
    out, err = capfd.readouterr()
    assert "|  | FAILED: it did not end in time |" in out
    assert f"| crashing | FAILED: its process ended with -{signal.SIGSEGV:d} | - |\n" in out
    assert "| two | 2 / 3 s | - |\n" in out
    assert "2 failed\n" == out.rpartition("; ")[2]
    assert "Segmentation fault" in err


def test_when_all_time_is_spent_the_other_steps_have_a_row_each(script, monkeypatch, capsys):
    monkeypatch.setattr(script, "WHOLE_S", 0)
    monkeypatch.setattr(script, "CHECKS", [script.check_kernel, script.check_large])
    monkeypatch.setattr(script, "MEASUREMENTS", [script.measure_kernels])

    assert 1 == script.main()
    out = capsys.readouterr().out
    assert 1 == out.count("FAILED: it did not end in time")
    assert 2 == out.count("FAILED: no time was left for it")
    assert out.endswith("3 failed\n")


def test_every_measurement_prints_its_rows(script, monkeypatch, tmp_path, capsys):
    few = {"kernel": 30_000, "buffer": 4_000, "photos": 4, "tiny images": 60, "decoded": 20}
    monkeypatch.setattr(script, "SIZES", few)
    monkeypatch.setattr(script, "EDGES", {"photos": 64, "tiny images": 16})
    monkeypatch.setattr(script, "ROUNDS", 1)
    monkeypatch.setattr(script, "command", lambda images, options: 1.0)
    monkeypatch.setattr(script, "DIFFERENT", 3)

    monkeypatch.setattr(script, "CHECKS", [])

    assert 0 == script.all_steps("cuda", tmp_path)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]

    assert 40 == len(rows)
    assert all(3 == row.count(" | ") + 1 for row in rows)
    assert sum("at most 1 times the CPU" in row for row in rows) == 2
    assert sum("at most 0.2 times the CPU" in row for row in rows) == 2
    assert sum("at least 100 Gpixel/s" in row for row in rows) == 1


def test_a_rehearsal_takes_the_cpu_and_does_little(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--device", "cpu"])
    monkeypatch.setattr(script, "all_steps", lambda name, folder: int(name != "cuda"))

    assert 0 == script.main()
    assert CPU == gpu.find("cuda").device
    assert capsys.readouterr().out.startswith("a rehearsal: the CPU in the place of a device")
    assert script.SIZES["photos"] == 40


def test_the_command_that_is_timed_measures_the_folder(script, tmp_path):
    images = script.folder_of(tmp_path / "images", 50, 8)

    assert 50 == len(list(images.iterdir()))
    assert script.command(images, {"device": "cpu"}) > 0
    with pytest.raises(subprocess.CalledProcessError):
        script.command(tmp_path / "nothing", {"device": "cpu"})


ONE_CHECK = """
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
loader = SourceFileLoader("gpu_check", sys.argv.pop(1))
script = module_from_spec(spec_from_loader("gpu_check", loader))
loader.exec_module(script)
script.CHECKS, script.MEASUREMENTS = [script.check_measure], []
sys.exit(script.main())
"""


@pytest.mark.parametrize(
    ("start", "passed"),
    [
        (["-c", ONE_CHECK, SCRIPT], 1),
        pytest.param([SCRIPT], 12, marks=pytest.mark.heavy, id="all"),
    ],
)
def test_it_runs_without_simplejpeg_and_the_like(tmp_path, start, passed):
    """A machine with a GPU has torch, NumPy and Pillow; more cannot be installed everywhere."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in 'simplejpeg torchcodec click tqdm yaml pytest onnx'.split():\n"
        "    sys.modules[name] = None\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *start, "--device", "cpu"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.endswith(" s; all passed\n"), done.stdout + done.stderr
    assert 0 == done.returncode
    assert passed == 1 or (
        "; no simplejpeg: Pillow decodes on the CPU, which takes longer; no torchcodec: no nvJPEG\n"
        in done.stdout
    )
    assert passed == done.stdout.count("| passed |")


@pytest.mark.gpu
@needs_cuda
def test_all_is_well_on_the_device():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)

    assert ("", 0) == (done.stderr, done.returncode)
