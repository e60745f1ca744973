"""A source that workers cannot have is counted in this process, to the same integers."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from stores import Database, database_of

import imgnorm
from imgnorm.errors import SourceError
from imgnorm.sources.folder import FolderSource
from imgnorm.stats.format import text_of
from imgnorm.workers.this_process import reason_to_stay

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "examples" / "shapes"
PROGRAM = """
import imgnorm

class InMemory(imgnorm.Source):
    kind = ref = "memory"

    def __init__(self, files):
        self.files = files

    def units(self):
        yield imgnorm.Unit("all", names=sorted(self.files))

    def read(self, name):
        return self.files[name]

    def class_of(self, name):
        return name.partition("/")[0]
"""


def unpicklable() -> type[Database]:
    class Local(Database):
        pass

    return Local


def test_workers_have_what_they_can_import():
    assert reason_to_stay(FolderSource(".")) is None
    assert reason_to_stay(Database("images.db")) is None
    assert (reason_to_stay(unpicklable()("images.db")) or "").startswith("it cannot be pickled (")


@pytest.mark.parametrize(
    "options",
    [{}, {"per_class": True}, {"limit": 7}, {"tolerance": 0.2}, {"decoder": "pillow"}, {"max_pixels": 6000}],
    ids=lambda options: "-".join(options),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
def test_one_process_counts_what_workers_count(tmp_path, options):
    database = database_of(SHAPES, tmp_path / "images.db")
    seen: list[imgnorm.Progress] = []
    with pytest.warns(imgnorm.SourceWarning, match=r"^images\.db: one process counts all images, "):
        here = imgnorm.measure(unpicklable()(database), on_progress=seen.append, **options)

    assert text_of(imgnorm.measure(Database(database), **options)) == text_of(here)
    assert len(here.skipped) + here.images == seen[-1].done == seen[-1].total


def test_workers_that_are_asked_for_are_not_replaced(tmp_path):
    database = database_of(SHAPES, tmp_path / "images.db")

    with pytest.raises(SourceError) as caught:
        imgnorm.measure(unpicklable()(database), workers=2)

    assert str(caught.value).startswith(
        "images.db: workers cannot have this source: it cannot be pickled ("
    )
    assert str(caught.value).endswith("leave what is open out of its state, or leave workers out")


def test_a_class_in_the_program_itself_needs_no_module(tmp_path):
    """As in a notebook. Importing the program once more, in each worker, would measure again."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (255, 0, 51)).save(file, "PNG")
    program = tmp_path / "program.py"
    program.write_text(
        f"{PROGRAM}\nprint(imgnorm.measure(InMemory({{'red/1.png': {file.getvalue()!r}}})).mean)\n"
    )
    done = subprocess.run(
        [sys.executable, program],
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "(1.0, 0.0, 0.2)\n" == done.stdout
    assert (
        f"{program}:19: SourceWarning: memory: one process counts all images, since workers cannot have "
        "this source: InMemory is defined in the program itself; move it to a module of its own"
    ) == done.stderr.splitlines()[0]
