"""What commands use: seconds, CPU seconds of all their processes, and memory."""

import itertools
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
SAMPLING_S = 0.02


class CommandError(Exception):
    """A command failed."""


class Times(NamedTuple):
    """Seconds by command, one number for each round."""

    seconds: dict[str, list[float]]
    cpu: dict[str, list[float]]  # user and system, of all its processes


def timed(commands: dict[str, list[str]], rounds: int) -> Times:
    """Runs every command once a round, after a round that only warms the caches.

    Each round begins with another command.
    """
    for command in commands.values():
        finish(command)
    times = Times({name: [] for name in commands}, {name: [] for name in commands})
    order = itertools.cycle(commands)
    for _ in range(rounds):
        for name in itertools.islice(order, len(commands)):
            start = time.perf_counter()
            cpu_before = cpu_of_children()
            finish(commands[name])
            times.seconds[name].append(time.perf_counter() - start)
            times.cpu[name].append(cpu_of_children() - cpu_before)
        next(order)
    return times


def cpu_of_children() -> float:
    """Seconds that all ended children and their ended children took; 0 where the system does not report it."""
    times = os.times()
    return times.children_user + times.children_system


def peak_bytes(command: list[str]) -> int:
    """The largest sum of proportional set sizes over a command and all that it starts."""
    peak = 0
    with started(command) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(proportional_bytes, family(process.pid))))
            time.sleep(SAMPLING_S)
    return peak


def family(pid: int) -> Iterator[int]:
    yield pid
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from family(int(child))
    except OSError:
        return  # it ended while we looked


def proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it ended while we looked
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def finish(command: list[str], stderr: IO[bytes] | None = None) -> None:
    """Run a command to its end.

    Args:
        stderr: where its standard error goes.
    """
    with started(command, stderr) as process:
        process.wait()


@contextmanager
def started(
    command: list[str], stderr: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A running command, with the checkout first among its packages.

    Raises:
        CommandError: it ended with another status than 0.
    """
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    with ExitStack() as stack:
        errors = stderr or stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,  # `python -m` looks there first of all
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode:
            errors.seek(0)
            text = errors.read().decode(errors="replace").strip()
            raise CommandError(f"`{shlex.join(command)}` ended with {process.returncode}\n{text}")
