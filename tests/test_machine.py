"""A container's limits, as the kernel reports them, in both versions of control groups."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import pytest

from imgnorm import machine

GIB = 1 << 30
V2 = "0::/system.slice/docker.scope/job\n"
V1 = "12:cpu,cpuacct:/docker/abc\n7:memory:/docker/abc\n1:name=systemd:/docker/abc\n"


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Writes files as the kernel does: `kernel(membership, {path: text})`."""

    def shown(membership: str, files: dict[str, str]) -> None:
        (tmp_path / "membership").write_text(membership)
        for path, text in files.items():
            file = tmp_path / "cgroup" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")

    monkeypatch.setattr(machine, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(machine, "_MOUNTS", tmp_path / "cgroup")
    return shown


def version_2(path: str, limit: str, used: int, *, inactive: int = 0, active: int = 0) -> dict:
    stat = f"anon 5\ninactive_anon 3\nactive_file {active}\ninactive_file {inactive}\nslab 1"
    return {
        f"{path}memory.max": limit,
        f"{path}memory.current": str(used),
        f"{path}memory.stat": stat,
    }


def version_1(path: str, limit: int, used: int, *, inactive: int = 0, active: int = 0) -> dict:
    stat = f"inactive_file 1\nactive_file 1\ntotal_inactive_file {inactive}\ntotal_active_file {active}"
    return {
        f"{path}memory.limit_in_bytes": str(limit),
        f"{path}memory.usage_in_bytes": str(used),
        f"{path}memory.stat": stat,
    }


# ── memory ──


def test_the_tightest_limit_above_this_process_counts(kernel):
    kernel(
        V2,
        version_2("system.slice/docker.scope/job/", "max", 1)
        | version_2("system.slice/docker.scope/", str(3 * GIB), GIB)
        | version_2("system.slice/", str(9 * GIB), 2 * GIB),
    )

    assert 2 * GIB == machine.cgroup_memory()


def test_the_limits_of_version_1_count_too(kernel):
    kernel(V1, version_1("memory/docker/abc/", 2 * GIB, GIB))

    assert GIB == machine.cgroup_memory()


def test_a_container_of_version_1_that_sees_itself_as_the_root(kernel):
    """Docker mounts the container's own group in the place of the outermost one."""
    kernel(V1, version_1("memory/", 2 * GIB, GIB) | {"cpu/cpu.cfs_quota_us": "150000"})

    assert GIB == machine.cgroup_memory()


@pytest.mark.parametrize("version", [1, 2])
def test_files_that_the_kernel_keeps_for_later_take_no_memory(kernel, version):
    """After a pass over a dataset they fill a container up to its limit: the next run must still work."""
    files: dict[str, str] = (
        version_1("memory/", 4 * GIB, 4 * GIB - 4096, inactive=2 * GIB, active=GIB)
        if version == 1
        else version_2("", str(4 * GIB), 4 * GIB - 4096, inactive=2 * GIB, active=GIB)
    )
    kernel(V1 if version == 1 else "0::/\n", files)

    assert 3 * GIB + 4096 == machine.cgroup_memory()


def test_more_taken_than_allowed_leaves_nothing(kernel):
    kernel("0::/\n", version_2("", str(GIB), 2 * GIB))

    assert 0 == machine.cgroup_memory()


def test_a_version_1_group_without_a_limit_leaves_what_the_machine_has(kernel):
    """Where there is no limit, the kernel writes a number larger than any memory."""
    kernel(V1, version_1("memory/docker/abc/", 9223372036854771712, GIB))
    left = machine.cgroup_memory()

    assert left is not None
    assert left > 1 << 60
    assert machine.available_memory() < 1 << 60


# ── cores ──


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("150000 100000", 2), ("50000 100000", 1), ("400000 100000", 4), ("6400000 100000", 64)],
)
def test_a_quota_of_version_2_is_the_default_number_of_workers(
    kernel, monkeypatch, quota, expected
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64), raising=False)
    kernel(V2, {"system.slice/cpu.max": quota, "system.slice/docker.scope/cpu.max": "max 100000"})

    assert expected == machine.usable_cores()


@pytest.mark.parametrize(
    ("quota", "expected"), [("150000", 2), ("-1", 64), ("250000", 3), ("9900000", 64)]
)
def test_a_quota_of_version_1_is_the_default_number_of_workers(
    kernel, monkeypatch, quota, expected
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64), raising=False)
    folder = "cpu,cpuacct/docker/abc"
    kernel(V1, {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": "100000"})

    assert expected == machine.usable_cores()


def test_the_tightest_quota_counts_though_it_is_not_the_nearest(kernel):
    kernel(V2, {"system.slice/cpu.max": "30000 20000", f"{V2[4:-1]}/cpu.max": "40000 20000"})

    assert Fraction(3, 2) == machine.cgroup_cores()


# ── what else a kernel may write ──


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("", {}),
        ("0::/\n", {}),
        ("0::/../../other\n", {}),
        ("no such line\n::\n", {}),
        ("0::/\n", {"memory.max": "a lot", "memory.current": "1", "cpu.max": "max"}),
        ("0::/\n", {"memory.max": "5", "cpu.max": "1 0"}),
        ("0::/\n", {"cpu.max": ""}),
    ],
)
def test_what_cannot_be_understood_limits_nothing(kernel, membership, files):
    kernel(membership, files)

    assert (None, None) == (machine.cgroup_memory(), machine.cgroup_cores())


def test_a_system_without_control_groups_limits_nothing(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(machine, "_MEMBERSHIP", tmp_path / "missing")

    assert (None, None) == (machine.cgroup_memory(), machine.cgroup_cores())
    assert machine.available_memory() > 0
    assert machine.usable_cores() > 0


def test_statistics_of_memory_that_are_missing_count_as_no_cache(kernel):
    files = version_2("", str(2 * GIB), GIB, inactive=GIB)
    del files["memory.stat"]
    kernel("0::/\n", files)

    assert GIB == machine.cgroup_memory()
