"""Tasks are cut from units so that all workers finish together, and nothing given out is lost."""

from __future__ import annotations

import pytest

from imgnorm.errors import ImgnormError
from imgnorm.sources.names import NumberedNames, Run
from imgnorm.sources.source import Unit
from imgnorm.workers.work_queue import Report, Task, WorkQueue

MOST = 100


def queue_of(*units: Unit, workers: int = 2, ended: bool = True, joins: bool = False) -> WorkQueue:
    queue = WorkQueue(workers, (1, MOST), joins_units=joins)
    queue.drivers = workers
    for unit in units:
        queue.add(unit)
    if ended:
        queue.end()
    return queue


def run_of_files(start: int, size: int) -> Unit:
    return Unit(str(start), [f"{index:05}.png" for index in range(start, start + size)])


def archive(label: str, size: int) -> Unit:
    """One that has been listed."""
    return Unit(label, [f"{label}/{index:05}.png" for index in range(size)], None, range(size))


def names(task: Task | None) -> list[str]:
    assert task is not None
    return list(task.unit.names or ())


def test_runs_of_files_are_dealt_as_one() -> None:
    """A job for each run of a hundred tiny files would cost more than counting them."""
    runs = [run_of_files(start, 10) for start in range(0, 1000, 10)]
    queue = queue_of(*runs, ended=False, joins=True)

    first = queue.take("a")

    assert [f"{index:05}.png" for index in range(MOST)] == names(first)


def test_tasks_become_smaller_towards_the_end_and_hold_every_name_once() -> None:
    queue = queue_of(run_of_files(0, 500))

    dealt: list[list[str]] = []
    while (left := 500 - sum(map(len, dealt))) > 0:
        dealt.append(names(queue.take("ab"[len(dealt) % 2])))
        assert len(dealt[-1]) <= max(1, min(MOST, left // 6))

    assert [f"{index:05}.png" for index in range(500)] == [name for part in dealt for name in part]
    assert 1 == len(dealt[-1])


def test_numbered_names_stay_small() -> None:
    runs = [
        Unit(str(start), NumberedNames([Run("a.npy", range(start, start + 5), 3)]))
        for start in (0, 5)
    ]

    task = queue_of(*runs, ended=False, joins=True).take("a")

    assert task is not None
    assert isinstance(task.unit.names, NumberedNames)
    assert [f"a.npy/{index:03}" for index in range(10)] == names(task)


def test_a_worker_stays_with_its_archive() -> None:
    queue = queue_of(archive("x.tar", 300), archive("y.tar", 300), ended=False)

    takers = ["a", "b", "a", "b", "b", "a"]
    labels = [names(queue.take(taker))[0][:5] for taker in takers]

    assert ["x.tar", "y.tar", "x.tar", "y.tar", "y.tar", "x.tar"] == labels


def test_one_archive_keeps_all_workers_busy() -> None:
    queue = queue_of(archive("x.tar", 300))

    assert {"x.tar"} == {names(queue.take(taker))[0][:5] for taker in "abab"}


def test_units_that_are_not_joined_are_not_mixed_in_a_task() -> None:
    """Places are those of one archive."""
    queue = queue_of(archive("x.tar", 3), archive("y.tar", 3), workers=1, ended=False)

    assert [3, 3] == [len(names(queue.take("a"))) for _ in range(2)]


def test_a_part_of_an_archive_has_the_places_of_its_images() -> None:
    task = queue_of(archive("x.tar", 300)).take("a")

    assert task is not None
    assert len(task.unit) == len(task.unit.places)


def test_what_is_read_forward_goes_to_one_worker_alone() -> None:
    forward = Unit("z.npz/x", NumberedNames([Run("z.npz/x", range(300), 3)]), forward=True)
    queue = queue_of(forward, ended=False)
    first = queue.take("a")
    assert first is not None

    queue.add(run_of_files(0, 50))
    assert "00000.png" == names(queue.take("b"))[0]
    queue.give_back(first.part(10, 100))
    queue.done()

    assert [f"z.npz/x/{index:03}" for index in range(10, 100)] == names(queue.take("a"))


def test_an_archive_without_names_is_one_task() -> None:
    queue = queue_of(Unit("x.tar"), Unit("y.tar"))

    tasks = [queue.take(taker) for taker in "ab"]

    assert [Unit("x.tar"), Unit("y.tar")] == [task.unit for task in tasks if task]


def test_others_are_others_are_idle_only_when_nothing_is_left_and_nothing_comes() -> None:
    queue = queue_of(Unit("x.tar"), Unit("y.tar"), ended=False)
    queue.take("a")
    assert not queue.others_are_idle()  # b can have y.tar
    queue.take("b")
    assert not queue.others_are_idle()  # more may come
    queue.end()
    assert queue.others_are_idle()

    alone = queue_of(Unit("x.tar"), workers=1)
    alone.take("a")
    assert not alone.others_are_idle()


def test_suspects_come_last_and_alone() -> None:
    """An image must not be skipped because of what others take."""
    queue = queue_of(run_of_files(0, 2), workers=2)
    first, second = queue.take("a"), queue.take("b")
    assert first
    assert second
    queue.give_back(Task(first.unit, alone=True))
    queue.done()
    assert queue._next("a") is None  # b is still at work
    queue.done()

    suspect = queue.take("a")
    assert suspect
    assert suspect.alone


def test_the_end_is_noted_once_after_the_last_report() -> None:
    queue = queue_of(run_of_files(0, 1))
    queue.take("a")
    queue.report(Report(images=1))
    queue.done()

    assert Report(images=1) == queue.outcomes.get_nowait()
    assert queue.outcomes.get_nowait() is None
    assert queue.outcomes.empty()


def test_what_is_given_back_delays_the_end() -> None:
    queue = queue_of(run_of_files(0, 1))
    task = queue.take("a")
    assert task
    queue.give_back(task)
    queue.done()
    assert queue.outcomes.empty()
    queue.take("a")
    queue.done()

    assert queue.outcomes.get_nowait() is None


def test_nothing_to_do_ends_at_once() -> None:
    assert queue_of().outcomes.get_nowait() is None


def test_units_are_not_read_far_ahead() -> None:
    """So memory does not grow with the number of images."""
    queue = queue_of(ended=False)
    added = 0
    while queue.hungry:
        queue.add(run_of_files(added, 10))
        added += 10

    assert 4 * 2 * MOST <= added <= 4 * 2 * MOST + 10


def test_the_last_driver_that_gives_up_fails_the_scan() -> None:
    queue = queue_of(run_of_files(0, 10), workers=2)
    error = ImgnormError("too many open files")
    queue.withdraw("a", error)
    assert queue.outcomes.empty()
    queue.withdraw("b", error)

    assert error is queue.outcomes.get_nowait()
    assert queue.take("c") is None


@pytest.mark.parametrize("refused", [False, True])
def test_a_task_keeps_what_is_known_of_it(refused: bool) -> None:
    task = Task(archive("x.tar", 10), refused=refused, alone=True)

    part = task.part(2, 5)

    assert (refused, True) == (part.refused, part.alone)
    assert [2, 3, 4] == list(part.unit.places)
