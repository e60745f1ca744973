"""Where the time of a measurement went, step by step and process by process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Literal, get_args

Step = Literal["start", "list", "read", "decode", "preprocess", "count", "merge", "wait"]
_MAIN = "main"


@dataclass
class Spent:
    """What one process spent."""

    seconds: Counter[Step] = field(default_factory=Counter)
    cpu_s: float = 0.0

    def add(self, other: Spent) -> None:
        self.seconds.update(other.seconds)
        self.cpu_s += other.cpu_s


class Stopwatch:
    """What was done since the last lap belongs to the step of the next one; of one thread."""

    def __init__(self, cpu_before_s: float = 0.0) -> None:
        """
        Args:
            cpu_before_s: the CPU time of this process that is not told.
        """
        self._spent = Spent()
        self._last, self._last_cpu = perf_counter(), cpu_before_s

    def lap(self, step: Step) -> None:
        now = perf_counter()
        self._spent.seconds[step] += now - self._last  # type: ignore[assignment]
        self._last = now

    def taken(self) -> Spent:
        """All that was spent since it was last taken; CPU time is that of the whole process."""
        spent, self._spent = self._spent, Spent()
        now = process_time()
        spent.cpu_s, self._last_cpu = now - self._last_cpu, now
        return spent


def no_lap(step: Step) -> None:
    """In place of Stopwatch.lap where nobody asks."""


class Profile:
    """The time of one measurement; filled by `measure`, which is given an empty one."""

    def __init__(self) -> None:
        self.processes: dict[str, Spent] = {}
        self.images = 0
        self.jpeg = ""  # who decoded ordinary JPEGs
        self.note = ""  # what cannot be told apart
        self._watch = Stopwatch(process_time())  # what a program did before is not its time

    @classmethod
    def of_command(cls) -> Profile:
        """Tells the CPU time of the process from its start on, imports included."""
        profile = cls()
        profile._watch = Stopwatch()
        return profile

    @property
    def lap(self) -> Callable[[Step], None]:
        """For the process that measures; of the thread that called `measure`."""
        return self._watch.lap

    def add(self, process: str, spent: Spent) -> None:
        self.processes.setdefault(process, Spent()).add(spent)

    def finish(self, images: int) -> None:
        self.images = images
        self.add(_MAIN, self._watch.taken())

    @property
    def main_share(self) -> float:
        """The part of all CPU time that the measuring process took itself: what more workers leave."""
        whole = sum(spent.cpu_s for spent in self.processes.values())
        return self.processes[_MAIN].cpu_s / whole if whole else 0.0

    def rows(self) -> list[list[str]]:
        """A table: a line for each process and one for their sum, a column for each step."""
        total = Spent()
        names = sorted(self.processes, key=lambda name: (name != _MAIN, len(name), name))
        lines = [(name, self.processes[name]) for name in names]
        for _, spent in lines:
            total.add(spent)
        steps = get_args(Step)
        table = [["", *steps, "cpu"]]
        for name, spent in [*lines, ("sum", total)]:
            cells = [f"{spent.seconds[s]:.2f}" if s in spent.seconds else "-" for s in steps]
            table.append([name, *cells, f"{spent.cpu_s:.2f}"])
        return table


@dataclass(frozen=True)
class Progress:
    """How far a scan has come."""

    done: int  # images counted or skipped
    total: int | None  # None if nobody knows
    bytes_read: int
    margin: float | None = None  # of an estimate, so far: how far a mean or std may be off
