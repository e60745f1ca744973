"""The value of `--shard`: I/N, or env/N, where the environment of a cluster's job says which part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from imgnorm.wording import plural

_ARRAY = "SLURM_ARRAY_TASK_"
_NUMBER = r"0*(\d{1,9})"


@dataclass(frozen=True)
class Shard:
    """Part `index` of `total`, counted from 1."""

    index: int
    total: int
    found: str = ""  # where the index was found: RANK 3

    def __str__(self) -> str:
        return f"{self.index} of {self.total}, from {self.found}"


def shard_of(value: str, environment: Mapping[str, str]) -> Shard:
    """The part that I/N or env/N names.

    env/N takes I from the place of a task in its Slurm array, or else from RANK, and only where it is
    certain that the array or the group has exactly N. A task that is submitted once more by itself is
    an array of one, with other numbers: it is refused, since no variable says which part it was.

    Raises:
        ValueError: it names no part, or none for certain.
    """
    found = re.fullmatch(rf"(env|{_NUMBER})/{_NUMBER}", value, re.ASCII)
    total = int(found[3]) if found else 0
    if found and total:
        if found[1] == "env":
            return _from_environment(total, environment)
        if 1 <= int(found[2]) <= total:
            return Shard(int(found[2]), total)
    form = (
        "env/N, as in env/128" if value.startswith("env") else "I/N with I from 1 to N, as in 2/4"
    )
    raise ValueError(f"{value!r} is not a shard; give {form}")


def _from_environment(total: int, environment: Mapping[str, str]) -> Shard:
    array = _place_in_array(total, environment) if f"{_ARRAY}ID" in environment else None
    # torchrun sets RANK 0 of WORLD_SIZE 1 for a task that has one process.
    ranked = "RANK" in environment and not (array and environment.get("WORLD_SIZE") == "1")
    rank = _place_in_group(total, environment) if ranked else None
    if array and rank and array.index != rank.index:
        raise ValueError(
            f"{array.found} is part {array.index}, but {rank.found} is part {rank.index}; unset one of "
            f"them, or give the part itself, as in {array.index}/{total}"
        )
    part = array or rank
    if part is None:
        raise ValueError(
            f"neither {_ARRAY}ID nor RANK is set, so env/{total} is no part; give it itself, as in "
            f"1/{total}"
        )
    return part


def _place_in_array(total: int, environment: Mapping[str, str]) -> Shard:
    task, first, last, count = (
        _number(_ARRAY + name, total, environment) for name in ("ID", "MIN", "MAX", "COUNT")
    )
    if count != total:
        again = [
            f"{task + 1 - start}/{total} if the whole array is {start}-{start + total - 1}"
            for start in (0, 1)
            if 1 <= task + 1 - start <= total
        ]
        raise ValueError(
            f"the Slurm array has {plural(count, 'task')}, not {total:,}; submit it with "
            f"--array=1-{total}, or, to measure this part alone, give it itself: "
            + (", ".join(again) or f"I/{total}")
        )
    if last - first + 1 != total:
        raise ValueError(
            f"the {total:,} tasks of the Slurm array are numbered {first} to {last}, with gaps; submit it "
            f"without a step, as --array=1-{total}"
        )
    if not first <= task <= last:
        raise ValueError(f"{_ARRAY}ID is {task}, and the array has only {first} to {last}")
    return Shard(task - first + 1, total, f"{_ARRAY}ID {task}")


def _place_in_group(total: int, environment: Mapping[str, str]) -> Shard:
    if "WORLD_SIZE" in environment:
        size = _number("WORLD_SIZE", total, environment)
        if size != total:
            raise ValueError(
                f"WORLD_SIZE is {size}, not {total}; write env/{size}, or start {total} processes"
            )
    rank = _number("RANK", total, environment)
    if rank >= total:
        raise ValueError(f"RANK is {rank}, and {total} parts have only 0 to {total - 1}")
    return Shard(rank + 1, total, f"RANK {rank}")


def _number(name: str, total: int, environment: Mapping[str, str]) -> int:
    value = environment.get(name)
    if value is None:
        raise ValueError(f"{name} is not set; give the part itself, as in 1/{total}")
    if not re.fullmatch(_NUMBER, value, re.ASCII):
        raise ValueError(
            f"{name} is {value!r}, and not a number; give the part itself, as in 1/{total}"
        )
    return int(value)
