"""How much memory there is to spare on this machine, in this container, and who may take it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

_UNKNOWN = (
    4 << 30
)  # where the system does not tell: enough for the largest image allowed by default


def available_memory() -> int:
    """Bytes that can be taken without swapping or being killed: the machine's, or the cgroup's."""
    known = [size for size in (_machine(), _cgroup()) if size is not None]
    return min(known, default=_UNKNOWN)


class MemoryBudget:
    """What all workers together may take for large images."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._closed = False
        self._changed = threading.Condition()

    def acquire(self, size: int) -> bool:
        """Waits until `size` bytes are free; False if there will never be so many."""
        with self._changed:
            if size > self._total:
                return False
            self._changed.wait_for(lambda: self._closed or self._taken + size <= self._total)
            self._taken += size
            return True

    def release(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup() -> int | None:
    """What the tightest control group above this process leaves (version 2)."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    left = []
    for group in groups:
        if not group.startswith("0::"):
            continue
        folder = Path("/sys/fs/cgroup") / group[3:].lstrip("/")
        for level in (folder, *folder.parents):
            left += _left_in(level)
    return min(left, default=None)


def _left_in(folder: Path) -> list[int]:
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        return [] if limit == "max" else [max(0, int(limit) - used)]
    except (OSError, ValueError):
        return []
