"""How many cores and how much memory this process may use: the machine's, or its container's limits.

Containers and batch systems set limits on control groups. Both versions are read, at every level: the
tightest limit counts (https://docs.kernel.org/admin-guide/cgroup-v2.html,
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from math import ceil

_MEMBERSHIP = "/proc/self/cgroup"
_MOUNTS = "/sys/fs/cgroup"
_UNKNOWN = 4 << 30
"""Bytes to assume where the system does not report any: enough for the largest image allowed by default."""


def usable_cores() -> int:
    """How many cores this process may run on; a quota of one and a half counts as two."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = cgroup_cores()
    return cores if quota is None else max(1, min(cores, ceil(quota)))


def available_memory() -> int:
    """Bytes that can be taken without swapping or being killed."""
    known = [size for size in (_machine_memory(), cgroup_memory()) if size is not None]
    return min(known, default=_UNKNOWN)


def cgroup_cores() -> Fraction | None:
    """How many cores' time the control groups allow; None if they do not limit it."""
    return min((quota for level in _levels("cpu") for quota in _quota_of(level)), default=None)


def cgroup_memory() -> int | None:
    """Bytes that are left until the first limit of a control group; None if there is no limit."""
    return min((left for level in _levels("memory") for left in _left_in(level)), default=None)


def _machine_memory() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _levels(controller: str) -> Iterator[str]:
    """The folders of the groups that this process is in, from its own up to the outermost."""
    try:
        lines = _text_of(_MEMBERSHIP).splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:  # version 2, alone or beside version 1
            mounts = [_MOUNTS, os.path.join(_MOUNTS, "unified")]
        elif controller in controllers.split(","):
            mounts = [os.path.join(_MOUNTS, folder) for folder in (controllers, controller)]
        else:
            continue
        steps = [step for step in group.split("/") if step]
        if ".." in steps:  # a group outside of what this process can see
            steps = []
        for mount in mounts:
            for depth in range(len(steps), -1, -1):
                yield os.path.join(mount, *steps[:depth])


def _left_in(level: str) -> Iterator[int]:
    for limit_file, used_file, prefix in (
        ("memory.max", "memory.current", ""),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        limit = _number_in(os.path.join(level, limit_file))
        used = _number_in(os.path.join(level, used_file))
        if limit is not None and used is not None:
            yield max(0, limit - max(0, used - _file_cache(level, prefix)))


def _file_cache(level: str, prefix: str) -> int:
    """Bytes of cached files, which count as used, but are given up when memory is needed."""
    try:
        lines = _text_of(os.path.join(level, "memory.stat")).splitlines()
        pages = dict(line.split() for line in lines)
        return sum(int(pages[f"{prefix}{kind}_file"]) for kind in ("inactive", "active"))
    except (OSError, ValueError, KeyError):
        return 0


def _quota_of(level: str) -> Iterator[Fraction]:
    try:
        quota, period = _text_of(os.path.join(level, "cpu.max")).split()
        yield Fraction(int(quota), int(period))
    except (OSError, ValueError, ZeroDivisionError):  # "max": no limit
        pass
    micros = _number_in(os.path.join(level, "cpu.cfs_quota_us"))  # -1: no limit
    period_us = _number_in(os.path.join(level, "cpu.cfs_period_us"))
    if micros is not None and period_us and micros > 0:
        yield Fraction(micros, period_us)


def _number_in(path: str) -> int | None:
    try:
        return int(_text_of(path))
    except (OSError, ValueError):  # "max": no limit
        return None


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
