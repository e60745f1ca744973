"""How much memory there is to spare on this machine, in this container."""

from __future__ import annotations

import os
from pathlib import Path

from imgnorm import cgroup

_UNKNOWN = (
    4 << 30
)  # where the system does not tell: enough for the largest image allowed by default


def available_memory() -> int:
    """Bytes that can be taken without swapping or being killed: the machine's, or the cgroup's."""
    known = [size for size in (_machine(), cgroup.memory_left()) if size is not None]
    return min(known, default=_UNKNOWN)


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
