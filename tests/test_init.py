"""The public names: complete, loaded on first use, the same in whatever order they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import imgnorm

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "before",
    [
        "imgnorm.read_stats",
        "imgnorm.SkippedImagesWarning",
        "import imgnorm.measuring.measure",
        "from imgnorm.measuring.opening import open_source",
        "from imgnorm import cli; cli.run(['stats', 'examples/shapes', '-q'])",
    ],
)
def test_measure_is_the_function_whatever_was_used_before(before):
    """Python puts a module that it imports into its package, in the place of what has its name."""
    program = f"import imgnorm; {before}; print(imgnorm.measure('examples/shapes', limit=2).images)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert "" == done.stderr
    assert "2" == done.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", imgnorm.__all__)
def test_every_public_name_is_there(name):
    assert getattr(imgnorm, name) is not None
    assert name in dir(imgnorm)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError) as caught:
        imgnorm.meassure  # noqa: B018 - looked up, not used

    assert "module 'imgnorm' has no attribute 'meassure'" == str(caught.value)
