"""How far a measurement has come, and where its time went: by process and by stage of the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Literal, get_args

Stage = Literal["start", "list", "read", "decode", "preprocess", "count", "merge", "wait"]
_MAIN = "main"


@dataclass(frozen=True)
class Progress:
    """How far a measurement has come: what `on_progress` is called with.

    Example:
        >>> progress = imgnorm.Progress(done=6, total=24, bytes_read=18_000)
        >>> f"{progress.done / progress.total:.0%}"
        '25%'
    """

    done: int  # images counted or skipped
    total: int | None  # None until all are found, in folders and archives
    bytes_read: int
    margin: float | None = None  # how far a mean or std may be off, while an estimate is made
    fraction: float | None = None  # of the work that is done, where the sizes of archives tell
    doing: str = ""  # where these are not the images that are counted: "reading sizes"


class Profile:
    """Where the time of one measurement went; give `measure` an empty one.

    Attributes:
        processes: the seconds of each process: `main`, `fork server`, `worker 1` and so on.
        images: counted.
        jpeg: what decoded ordinary JPEGs, and why, if that was Pillow.
        note: what the table cannot keep apart; empty if nothing.

    Example:
        >>> profile = imgnorm.Profile()
        >>> stats = imgnorm.measure("examples/shapes", workers=1, profile=profile)
        >>> profile.images
        24
        >>> profile.rows()[0]
        ['', 'start', 'list', 'read', 'decode', 'preprocess', 'count', 'merge', 'wait', 'cpu']
    """

    def __init__(self) -> None:
        self.processes: dict[str, Spent] = {}
        self.images = 0
        self.jpeg = ""
        self.note = ""
        self._watch = Stopwatch(process_time())  # without what the program did before

    @classmethod
    def of_command(cls) -> Profile:
        """One whose CPU time of this process counts from its start on, with its imports."""
        profile = cls()
        profile._watch = Stopwatch()
        return profile

    @property
    def lap(self) -> Callable[[Stage], None]:
        """The lap of this process, for the thread that called `measure`."""
        return self._watch.lap

    def add(self, process: str, spent: Spent) -> None:
        self.processes.setdefault(process, Spent()).add(spent)

    def finish(self, images: int) -> None:
        self.images = images
        self.add(_MAIN, self._watch.taken())

    @property
    def main_share(self) -> float:
        """The part of all CPU time that this process took itself, which more workers cannot reduce."""
        whole = sum(spent.cpu_s for spent in self.processes.values())
        return self.processes[_MAIN].cpu_s / whole if whole else 0.0

    def rows(self) -> list[list[str]]:
        """A table: a line for each process and one for their sum, a column for each stage."""
        total = Spent()
        lines = sorted(self.processes.items(), key=lambda line: _place(line[0]))
        for _, spent in lines:
            total.add(spent)
        stages = get_args(Stage)
        table = [["", *stages, "cpu"]]
        for name, spent in [*lines, ("sum", total)]:
            cells = [f"{spent.seconds[s]:.2f}" if s in spent.seconds else "-" for s in stages]
            table.append([name, *cells, f"{spent.cpu_s:.2f}"])
        return table


@dataclass
class Spent:
    """The time that one process spent."""

    seconds: Counter[Stage] = field(default_factory=Counter)
    cpu_s: float = 0.0

    def add(self, other: Spent) -> None:
        self.seconds.update(other.seconds)
        self.cpu_s += other.cpu_s


class Stopwatch:
    """Gives the time since the last lap to the stage of the next one. Not thread-safe: make one per thread."""

    def __init__(self, cpu_before_s: float = 0.0) -> None:
        """
        Args:
            cpu_before_s: CPU time of this process that does not count.
        """
        self._spent = Spent()
        self._last, self._last_cpu = perf_counter(), cpu_before_s

    def lap(self, stage: Stage) -> None:
        now = perf_counter()
        self._spent.seconds[stage] += now - self._last  # type: ignore[assignment]
        self._last = now

    def taken(self) -> Spent:
        """What was spent since the last call; the CPU time is that of the whole process."""
        spent, self._spent = self._spent, Spent()
        now = process_time()
        spent.cpu_s, self._last_cpu = now - self._last_cpu, now
        return spent


def no_lap(stage: Stage) -> None:
    """Stands in for Stopwatch.lap where no profile is asked for."""


def _place(process: str) -> tuple[bool, bool, int, str]:
    """The main process, the fork server, then the workers by number."""
    return process != _MAIN, process.startswith("worker"), len(process), process
