"""Images in memory are counted by threads, which stop when they are interrupted."""

from __future__ import annotations

from time import sleep

import pytest
from PIL import Image

from imgnorm.datasets.threads import counting_in_threads
from imgnorm.progress import Progress
from imgnorm.settings import ImageSettings, Limits


class Slow:
    """Images that take a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.read_names: list[str] = []

    def read(self, name: str) -> Image.Image:
        sleep(self.seconds)
        self.read_names.append(name)
        return Image.new("L", (2, 1), int(name) % 256)


NAMES = [str(number) for number in range(2000)]


def counting(pictures: Slow, threads: int):
    return counting_in_threads(
        pictures, ImageSettings(), Limits(), threads=threads, cross_sums=False, profile=None
    )


def test_progress_is_told_until_all_is_done():
    told: list[Progress] = []

    tallies = counting(Slow(0), 2)({"a": NAMES[:300], "b": NAMES[300:]}, told.append)

    assert [300, 1700] == [tally.images for tally in tallies.values()]
    assert sorted(progress.done for progress in told) == [progress.done for progress in told]
    assert Progress(2000, 2000, 0) == told[-1]


def test_an_interrupt_stops_all_threads():
    """They abandon their job, and begin no other."""
    pictures = Slow(0.002)

    def interrupted(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        counting(pictures, 2)({"all": NAMES}, interrupted)

    assert 256 <= len(pictures.read_names) < len(NAMES)
