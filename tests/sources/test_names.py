"""Names as text, and as runs of numbers: the same sequence as the list of them, only smaller."""

from __future__ import annotations

import os
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgnorm.sources.names import NumberedNames, Run, as_text, encoded, name_bytes, runs_of

RUNS = [
    Run("a.npy", range(12), 2),
    Run("100%d/b.npz/x", range(5), 1),
    Run("one.npy", range(1), 0),
    Run(os.fsdecode(b"\xff\xc3\xa9.npy"), range(3, 2000, 7), 4),
]
NAMES = [
    *(f"a.npy/{i:02}" for i in range(12)),
    *(f"100%d/b.npz/x/{i}" for i in range(5)),
    "one.npy",
    *(os.fsdecode(b"\xff\xc3\xa9.npy") + f"/{i:04}" for i in range(3, 2000, 7)),
]
PLACES = st.none() | st.integers(-len(NAMES) - 3, len(NAMES) + 3)
STEPS = st.none() | st.integers(-9, 400).filter(bool)


def test_they_are_the_names():
    names = NumberedNames(RUNS)

    assert NAMES == list(names)
    assert len(NAMES) == len(names)
    assert NAMES == names
    assert NAMES[:-1] != names
    assert [] == NumberedNames([])


def test_their_bytes_are_those_of_the_text():
    wanted = list(map(name_bytes, NAMES))

    assert wanted == list(encoded(NumberedNames(RUNS)))
    assert wanted == list(encoded(NAMES))


@given(start=PLACES, stop=PLACES, step=STEPS, then=st.tuples(PLACES, PLACES, STEPS))
def test_any_part_of_any_part_is_that_of_the_list(start, stop, step, then):
    names = NumberedNames(RUNS)[start:stop:step]

    assert NAMES[start:stop:step] == list(names)
    assert NAMES[start:stop:step][slice(*then)] == list(names[slice(*then)])
    assert NAMES[start:stop:step] == list(pickle.loads(pickle.dumps(names)))


@given(st.integers(-len(NAMES), len(NAMES) - 1))
def test_each_is_found_by_its_place(place):
    assert NAMES[place] == NumberedNames(RUNS)[place]


@pytest.mark.parametrize("place", [len(NAMES), -len(NAMES) - 1])
def test_there_is_none_beyond_the_ends(place):
    with pytest.raises(IndexError):
        NumberedNames(RUNS)[place]


def test_a_million_names_take_no_more_room_than_ten():
    """A task is sent to a worker in a message."""
    few, many = (NumberedNames([Run("a.npy", range(n), 7)])[::3] for n in (10, 1_000_000))

    assert len(pickle.dumps(many)) <= len(pickle.dumps(few)) + 16


def test_undecodable_bytes_are_shown_as_escapes():
    assert r"a\xff\xfeé.jpg" == as_text(os.fsdecode(b"a\xff\xfe\xc3\xa9.jpg"))


def ends(names: list[str]) -> list[str]:
    """The last names of all runs."""
    return [run[-1] for run in runs_of(names)]


@given(st.integers(0, 5000), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_runs_of_names_are_all_names_in_order(count, step):
    names = [f"{n:05}.jpg" for n in range(0, count, step)]
    runs = list(runs_of(names))

    assert names == [name for run in runs for name in run]
    assert all(32 <= len(run) <= 512 for run in runs[:-1])


@given(st.integers(0, 5000))
@settings(max_examples=50, deadline=None)
def test_a_new_name_leaves_the_runs_far_from_it_as_they_are(place):
    """`--shard` divides them, and images may come between two jobs."""
    names = [f"{n:05}.jpg" for n in range(5000)]
    more = [*names[:place], "".join(names[place - 1 : place]) + "x", *names[place:]]
    before, after = ends(names), ends(more)

    assert len(set(before) ^ set(after)) <= 4
    assert {end for end in before if end < names[max(0, place - 1)]} <= {*after}


def test_a_run_has_about_a_hundred_names():
    names = [f"n{n:06}/{n}.jpg" for n in range(100_000)]

    assert 80 < len(names) / len(ends(names)) < 120
