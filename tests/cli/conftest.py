"""What the tests of commands share: a folder with images."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with images in `d`: two that are RGB, one that is gray, two that are none."""
    monkeypatch.chdir(tmp_path)
    for name, mode, colour in (
        ("a/1.png", "RGB", (10, 20, 30)),
        ("a/2.png", "RGB", (200, 20, 30)),
        ("b/3.png", "L", 7),
    ):
        path = Path("d", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (4, 4), colour).save(path)
    Path("d/b/empty.png").touch()
    Path("d/b/text.jpg").write_text("hello world")
    Path("d/.hidden").touch()
    Path("d/notes.txt").touch()
    return tmp_path


@pytest.fixture
def whole(here: Path) -> Path:
    """The same without the two that are none."""
    Path("d/b/empty.png").unlink()
    Path("d/b/text.jpg").unlink()
    return here
