"""What all tests share."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sharedserver
from commands import Command, Ended

from imgnorm.workers import forkserver
from imgnorm.workers.process import WorkerProcess

if TYPE_CHECKING:
    from imgnorm import Stats

# Processes that tests start compile our modules once, not each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--heavy", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--heavy"):
        for item in items:
            if "heavy" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes; run with --heavy"))


@pytest.fixture(scope="session", autouse=True)
def shared_fork_server() -> Iterator[None]:
    """All measurements in this process fork their workers from one server."""
    if sys.platform != "linux":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forkserver, "start_server", sharedserver.start_shared)
        yield
    sharedserver.end_shared()


@pytest.fixture(scope="session", autouse=True)
def covered_workers() -> Iterator[None]:
    """Workers that have nothing to do are asked to end, not killed, so that they write what they have run."""
    if "COVERAGE_PROCESS_CONFIG" not in os.environ:
        yield
        return
    kill = WorkerProcess.kill

    def end(self: WorkerProcess) -> None:
        if self._busy or self._started_at is not None:
            kill(self)
        else:
            self._to.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkerProcess, "kill", end)
        yield


@pytest.fixture
def own_fork_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each measurement starts a fork server and ends it, as it does outside of these tests."""
    monkeypatch.setattr(forkserver, "start_server", sharedserver.start_own)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images that no license lets us ship; see CONTRIBUTING.md."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"no {_SHARED_DATA}")
    return _SHARED_DATA


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in this process."""

    def run(*arguments: str | Path) -> Ended:
        from imgnorm import cli

        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 images of one color each, in two classes: a set whose mean takes many images to find."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("estimate") / "plain"
    draw = random.Random(7).random
    for index in range(600):
        path = folder / f"c{index % 2}" / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        color = tuple(int(256 * draw()) for _ in "RGB")
        Image.new("RGB", (4, 4), color).save(path)
    return folder


@pytest.fixture(scope="session")
def estimated(plain: Path) -> Stats:
    """Their stats, estimated from a sample."""
    from imgnorm import measure

    return measure(plain, tolerance=0.06, workers=1)


@pytest.fixture(scope="session")
def linearised(plain: Path) -> Stats:
    """The same, where sizes are sampled, too."""
    from imgnorm import measure

    return measure(plain, tolerance=0.06, sizes="sampled", workers=1)
