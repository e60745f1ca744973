"""What workers may take together: never more than the budget, and no two wait for each other."""

from __future__ import annotations

import random
import threading
import time

import pytest

from imgnorm import measure
from imgnorm.workers import work_queue, worker
from imgnorm.workers.memory import Budgets, MemoryBudget, Share

MIB = 1 << 20


def test_more_than_there_is_is_refused_at_once():
    budget = MemoryBudget(10)

    assert not budget.acquire(11)
    assert budget.acquire(10)


def test_a_file_may_take_a_quarter_and_pixels_the_rest():
    share = Share(Budgets(100))

    assert [True, False] == [share.ask_for_file(size) for size in (25, 26)]
    assert [True, False] == [share.ask_for_pixels(size) for size in (75, 76)]


def test_the_next_file_gives_back_what_the_image_before_it_took():
    """Otherwise a worker with pixels would wait for one with a file, which waits for the pixels."""
    budgets = Budgets(100)
    first, second = Share(budgets), Share(budgets)
    assert first.ask_for_file(20)
    assert first.ask_for_pixels(75)
    assert first.ask_for_file(20)

    assert second.ask_for_pixels(75)


class Watched(MemoryBudget):
    """A budget that remembers the most that was taken."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.most = 0

    def acquire(self, size: int) -> bool:
        granted = super().acquire(size)
        self.most = max(self.most, self._taken)
        return granted


@pytest.mark.parametrize("seed", range(3))
def test_many_workers_never_take_more_than_there_is_and_all_get_done(seed):
    budgets = Budgets(0)
    budgets.file, budgets.pixels = Watched(100), Watched(300)
    finished = []

    def work(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        share = Share(budgets)
        for _ in range(60):
            if chance.random() < 0.7:
                share.ask_for_file(chance.randrange(1, 101))
            share.ask_for_pixels(chance.randrange(1, 301))
            time.sleep(0.0002)
        share.release()
        finished.append(number)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert list(range(16)) == sorted(finished)
    assert 0 < budgets.file.most <= 100
    assert 0 < budgets.pixels.most <= 300


@pytest.mark.filterwarnings("ignore::imgnorm.SkippedImagesWarning")
@pytest.mark.parametrize(("spare", "images"), [(1000 * MIB, 2), (4 * 60 * MIB, 1)])
def test_a_large_file_is_read_only_if_there_is_memory_for_it(tmp_path, monkeypatch, spare, images):
    """Its bytes count, not only its pixels."""
    from PIL import Image

    Image.new("L", (8, 8), 3).save(tmp_path / "small.png")
    Image.new("L", (9000, 9000), 3).save(tmp_path / "large.bmp")
    size = (tmp_path / "large.bmp").stat().st_size
    assert size > worker.FREE_BYTES
    monkeypatch.setattr(work_queue, "available_memory", lambda: spare)
    stats = measure(tmp_path, workers=1)

    assert images == stats.images
    expected = f"reading takes about {size >> 20} MiB, more than this machine has to spare"
    assert [("large.bmp", expected)] * (2 - images) == [(s.name, s.detail) for s in stats.skipped]
