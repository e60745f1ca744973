"""The in-process executor: units in, a tally out, by one thread or by several."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import sleep

import pytest
from PIL import Image

from imgnorm.datasets.counter import Found
from imgnorm.datasets.executor import ItemExecutor, jobs_of
from imgnorm.progress import Progress
from imgnorm.settings import Digits, ImageSettings
from imgnorm.sources.names import encoded
from imgnorm.sources.source import Unit
from imgnorm.tally.names import names_sum
from imgnorm.tally.skipped import Reason, Unreadable
from imgnorm.tally.tally import ClassTally, Tally
from imgnorm.workers.executor import Work


class Slow:
    """Images that take a while; every hundredth cannot be read."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self.read_names: list[str] = []
        self.threads: set[str] = set()

    def images_of(self, names: Sequence[str]) -> Iterator[tuple[Sequence[str], Found]]:
        for name in names:
            sleep(self.seconds)
            self.read_names.append(name)
            self.threads.add(threading.current_thread().name)
            found: Found = Image.new("L", (2, 1), int(name) % 100)
            if name.endswith("99"):
                found = Unreadable(Reason.CORRUPT, "broken")
            yield [name], found


NAMES = [str(number) for number in range(2000)]
UNITS = [Unit("a", NAMES[:300]), Unit("b", NAMES[300:])]
BROKEN = [name for name in NAMES if name.endswith("99")]
WORK = Work(Digits(ImageSettings()))


def parity(name: str) -> str | None:
    """A class for even and odd names; the last has none."""
    return None if name == NAMES[-2] else ("even", "odd")[int(name) % 2]


def counting(images: Slow, threads: int = 1, work: Work = WORK) -> ItemExecutor:
    in_memory = threads > 1
    return ItemExecutor(images.images_of, parity, work, 256, in_memory, threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_progress_is_told_until_all_is_done(threads):
    told: list[Progress] = []

    tally = counting(Slow(), threads)(iter(UNITS), told.append)

    assert (1980, BROKEN) == (tally.images, [one.name for one in tally.skipped])
    assert sorted(progress.done for progress in told) == [progress.done for progress in told]
    assert Progress(2000, 2000, 0) == told[-1]


@pytest.mark.parametrize("per_class", [False, True])
def test_any_number_of_threads_gives_the_same_tally(per_class):
    work = Work(Digits(ImageSettings(), per_class=per_class))
    one, three = (counting(Slow(), threads, work)(UNITS, lambda p: None) for threads in (1, 3))

    assert one == three


def test_the_tally_has_the_names_and_classes_of_what_was_looked_at():
    tally = counting(Slow())(UNITS, lambda p: None)

    assert (2000, names_sum(encoded(NAMES))) == (tally.names, tally.names_sum)
    assert names_sum(encoded([n for n in NAMES if n not in BROKEN])) == tally.counted_sum
    assert {"even": ClassTally(999), "odd": ClassTally(980)} == dict(tally.classes)


def test_each_class_has_the_moments_of_its_images_if_they_are_asked_for():
    tally = counting(Slow(), work=Work(Digits(ImageSettings(), per_class=True)))(
        UNITS, lambda p: None
    )

    found = {name: (one.images, one.moments["L"].total) for name, one in tally.classes.items()}
    even, odd = (
        [int(n) % 100 for n in NAMES if parity(n) == class_ and n not in BROKEN]
        for class_ in ("even", "odd")
    )
    assert {"even": (999, (2 * sum(even),)), "odd": (980, (2 * sum(odd),))} == found
    assert 1980 == tally.images


def test_a_users_python_is_read_by_the_thread_that_calls():
    images = Slow()

    counting(images)(UNITS, lambda p: None)

    assert {threading.current_thread().name} == images.threads
    assert NAMES == images.read_names


@pytest.mark.parametrize("threads", [1, 2])
def test_each_image_has_a_tally_of_its_own_if_that_is_asked_for(threads):
    each: dict[int, int] = {}

    def note(tally: Tally) -> None:
        each[tally.names_sum] = tally.images

    counting(Slow(), threads, replace(WORK, each=note))(UNITS, lambda p: None)

    assert {names_sum(encoded([name])): int(name not in BROKEN) for name in NAMES} == each


def test_jobs_have_the_names_of_several_units_or_of_one_class():
    jobs = list(jobs_of(UNITS, 256))

    assert [*[256] * 7, 208] == [len(job.names) for job in jobs]
    assert NAMES == [name for job in jobs for name in job.names]
    assert {(256, "even"), (231, "even"), (256, "odd"), (232, "odd"), (1, None)} == {
        (len(job.names), job.class_) for job in jobs_of(UNITS, 256, parity)
    }


def test_an_interrupt_stops_all_threads():
    """They abandon their job, and begin no other."""
    images = Slow(0.002)

    def interrupted(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        counting(images, 2)(UNITS, interrupted)

    assert 256 <= len(images.read_names) < len(NAMES)


def test_an_image_for_which_there_is_no_memory_is_skipped(monkeypatch):
    def starved(*arguments: object, **options: object) -> object:
        raise MemoryError

    monkeypatch.setattr("imgnorm.pixels.load.decoded_picture", starved)
    tally = counting(Slow())([Unit("a", NAMES[:3])], lambda p: None)

    assert 0 == tally.images
    assert [Reason.OUT_OF_MEMORY] * 3 == [one.reason for one in tally.skipped]
