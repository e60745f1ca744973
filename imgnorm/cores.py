"""How many cores this process may use, on this machine, in this container."""

from __future__ import annotations

import os
from math import ceil

from imgnorm import machine as cgroup


def usable_cores() -> int:
    """Those that it is not kept from; a quota of one and a half is two."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cgroup.cpus()
    return cores if quota is None else max(1, min(cores, ceil(quota)))
