"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Command, Ended
from injection import compiled

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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


@pytest.fixture(scope="module")
def quick_workers() -> Iterator[None]:
    """Those that this process starts find their modules compiled, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", compiled())
        yield
