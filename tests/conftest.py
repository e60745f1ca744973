"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images that no licence lets us ship; see CONTRIBUTING.md."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"no {_SHARED_DATA}")
    return _SHARED_DATA


@pytest.fixture(autouse=True)
def _pillow_s_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """decode() sets Pillow's global limit, which is fine in a worker process only."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
