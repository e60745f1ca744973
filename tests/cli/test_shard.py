"""`--shard env/N`: the part comes from a cluster's environment, or is refused; never a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgnorm.cli.shard import Shard, shard_of


def array(task: int, first: int, last: int, step: int = 1) -> dict[str, str]:
    """The variables that Slurm sets for a task of `sbatch --array=FIRST-LAST:STEP`."""
    tasks = range(first, last + 1, step)
    numbers = {"ID": task, "MIN": tasks[0], "MAX": tasks[-1], "COUNT": len(tasks), "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(number) for name, number in numbers.items()}


@pytest.mark.parametrize("first", [0, 1, 1001])
def test_each_task_of_an_array_has_a_part_of_its_own(first):
    """Whatever number the array begins with."""
    last = first + 127
    parts = [shard_of("env/128", array(task, first, last)) for task in range(first, last + 1)]

    assert list(range(1, 129)) == [part.index for part in parts]
    assert f"18 of 128, from SLURM_ARRAY_TASK_ID {first + 17}" == str(parts[17])


def test_each_process_of_a_group_has_a_part_of_its_own():
    for rank in range(4):
        part = Shard(rank + 1, 4, f"RANK {rank}")

        assert part == shard_of("env/4", {"RANK": str(rank)})
        assert part == shard_of("env/4", {"RANK": str(rank), "WORLD_SIZE": "4"})


@pytest.mark.parametrize(
    ("value", "part"), [("2/4", (2, 4)), ("1/1", (1, 1)), ("007/010", (7, 10))]
)
def test_a_part_that_is_written_out_is_what_it_says(value, part):
    """Whatever the environment says."""
    assert Shard(*part) == shard_of(value, {**array(3, 0, 7), "RANK": "5"})


@pytest.mark.parametrize(
    "environment",
    [
        array(17, 0, 127) | {"RANK": "17"},
        array(17, 0, 127) | {"RANK": "17", "WORLD_SIZE": "128"},
        array(17, 0, 127) | {"RANK": "0", "WORLD_SIZE": "1"},  # torchrun with one process a task
    ],
)
def test_an_array_decides_before_a_rank(environment):
    assert Shard(18, 128, "SLURM_ARRAY_TASK_ID 17") == shard_of("env/128", environment)


@pytest.mark.parametrize(
    "value", ["", "4", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "²/4", "1 /4", "a/b"]
)
def test_what_is_no_part_is_refused(value):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message follows
        shard_of(value, {})

    assert f"{value!r} is not a shard; give I/N with I from 1 to N, as in 2/4" == str(caught.value)


@pytest.mark.parametrize("value", ["env", "env/", "env/0", "env/x", "env/4/2", "env/-4"])
def test_the_number_of_parts_is_always_written(value):
    """So that a task that runs again is the same part, however many run beside it."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message follows
        shard_of(value, array(1, 1, 4))

    assert f"{value!r} is not a shard; give env/N, as in env/128" == str(caught.value)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "neither SLURM_ARRAY_TASK_ID nor RANK is set, so env/128 is no part; give it itself, as in 1/128"),
        (array(17, 17, 17), "the Slurm array has 1 task, not 128; submit it with --array=1-128, or, to measure this part alone, give it itself: 18/128 if the whole array is 0-127, 17/128 if the whole array is 1-128"),
        (array(0, 0, 0), "the Slurm array has 1 task, not 128; submit it with --array=1-128, or, to measure this part alone, give it itself: 1/128 if the whole array is 0-127"),
        (array(128, 128, 128), "the Slurm array has 1 task, not 128; submit it with --array=1-128, or, to measure this part alone, give it itself: 128/128 if the whole array is 1-128"),
        (array(2000, 2000, 2000), "the Slurm array has 1 task, not 128; submit it with --array=1-128, or, to measure this part alone, give it itself: I/128"),
        (array(3, 1, 129), "the Slurm array has 129 tasks, not 128; submit it with --array=1-128, or, to measure this part alone, give it itself: 4/128 if the whole array is 0-127, 3/128 if the whole array is 1-128"),
        (array(4, 0, 254, 2), "the 128 tasks of the Slurm array are numbered 0 to 254, with gaps; submit it without a step, as --array=1-128"),
        (array(4, 1, 128) | {"SLURM_ARRAY_TASK_ID": "129"}, "SLURM_ARRAY_TASK_ID is 129, and the array has only 1 to 128"),
        (array(4, 1, 128) | {"SLURM_ARRAY_TASK_ID": "four"}, "SLURM_ARRAY_TASK_ID is 'four', and not a number; give the part itself, as in 1/128"),
        (array(4, 1, 128) | {"SLURM_ARRAY_TASK_MIN": ""}, "SLURM_ARRAY_TASK_MIN is '', and not a number; give the part itself, as in 1/128"),
        ({"SLURM_ARRAY_TASK_ID": "4"}, "SLURM_ARRAY_TASK_MIN is not set; give the part itself, as in 1/128"),
        ({"RANK": "128"}, "RANK is 128, and 128 parts have only 0 to 127"),
        ({"RANK": "-1"}, "RANK is '-1', and not a number; give the part itself, as in 1/128"),
        ({"RANK": "3", "WORLD_SIZE": "8"}, "WORLD_SIZE is 8, not 128; write env/8, or start 128 processes"),
        (array(17, 0, 127) | {"RANK": "3"}, "SLURM_ARRAY_TASK_ID 17 is part 18, but RANK 3 is part 4; unset one of them, or give the part itself, as in 18/128"),
        (array(17, 0, 127) | {"RANK": "3", "WORLD_SIZE": "8"}, "WORLD_SIZE is 8, not 128; write env/8, or start 128 processes"),
    ],
)  # fmt: skip
def test_a_part_that_is_not_certain_is_refused(environment, message):
    """A task that is submitted again by itself is an array of one: 17 less its _MIN would be part 1."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message follows
        shard_of("env/128", environment)

    assert message == str(caught.value)


def test_the_parts_of_an_array_merge_to_the_whole(command, whole, monkeypatch):
    """One line for all tasks; each says which part it was."""
    for task in (7, 8):
        for name, value in array(task, 7, 8).items():
            monkeypatch.setenv(name, value)
        ended = command("stats", "d", "--shard", "env/2", "-o", f"part-{task}.yaml")

        assert 0 == ended.code
        assert f"shard    {task - 6} of 2, from SLURM_ARRAY_TASK_ID {task}\n" in ended.err
        assert "" == command("stats", "d", "--shard", "env/2", "-q").err
    command("stats", "d", "-o", "whole.yaml")
    command("merge", "part-8.yaml", "part-7.yaml", "-o", "merged.yaml")

    assert Path("whole.yaml").read_bytes() == Path("merged.yaml").read_bytes()


def test_a_task_that_is_submitted_again_by_itself_writes_nothing(command, whole, monkeypatch):
    for name, value in array(17, 17, 17).items():
        monkeypatch.setenv(name, value)
    ended = command("stats", "d", "--shard", "env/128", "-o", "part-17.yaml")

    assert (2, "") == (ended.code, ended.out)
    assert (
        "Invalid value for '--shard': the Slurm array has 1 task, not 128; submit it with --array=1-128, or, "
        "to measure this part alone, give it itself: 18/128 if the whole array is 0-127, 17/128 if the whole "
        "array is 1-128 (see `imgnorm stats --help`)\n"
    ) == ended.err
    assert not Path("part-17.yaml").exists()
