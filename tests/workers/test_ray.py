"""Images counted by the nodes of a Ray cluster."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from injection import Running, Suicidal, folder_of, kill, noise, until

import imgnorm
from imgnorm.errors import ImgnormError, MissingDependency, SourceError
from imgnorm.sources.folder import FolderSource

EMPTY = "IMGNORM_TEST_EMPTY"
ACTOR = b"ray::_Actor"


class SomewhereOnly(FolderSource):
    """Images that are not on every node."""

    def units(self) -> Iterator[Any]:
        if os.environ.get(EMPTY):
            raise SourceError(f"no such folder: {self.path}")
        return super().units()


class Slow(FolderSource):
    """Each image takes a node 0.05 s."""

    def read(self, name: str) -> bytes:
        time.sleep(0.05)
        return super().read(name)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A cluster on this machine: a head that counts nothing, and nodes as each test adds them."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 archives of 40 images that take some milliseconds each."""
    folder = tmp_path_factory.mktemp("tars")
    pictures = []
    for seed in range(8):
        file = BytesIO()
        noise(seed, (300 + seed, 200)).save(file, "PNG")
        pictures.append(file.getvalue())
    for number in range(50):
        with tarfile.open(folder / f"{number:02}.tar", "w") as archive:
            for index in range(40):
                data = pictures[(number + index) % 8]
                member = tarfile.TarInfo(f"{number:02}/{index:03}.png")
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
    return folder


@pytest.fixture(scope="module")
def expected(tars: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The stats file that this machine writes."""
    path = tmp_path_factory.mktemp("expected") / "stats.yaml"
    imgnorm.write_stats(path, imgnorm.measure(f"{tars}/*.tar"))
    return path.read_bytes()


def by_ray(cluster: Any, source: object, **options: Any) -> imgnorm.Stats:
    return imgnorm.measure(source, executor=f"ray:{cluster.address}", **options)


def as_file(stats: imgnorm.Stats, folder: Path) -> bytes:
    imgnorm.write_stats(folder / "stats.yaml", stats)
    return (folder / "stats.yaml").read_bytes()


def actors() -> list[int]:
    """The processes that are actors."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cmdline").read_bytes().startswith(ACTOR):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_missing_ray_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(MissingDependency, match=r"install it with `pip install ray`"):
        imgnorm.measure(folder_of(tmp_path / "d", 2), executor="ray")


def test_images_that_only_this_process_has_are_refused():
    images = np.zeros((2, 4, 4, 3), np.uint8)

    with pytest.raises(
        SourceError, match="executor does nothing: your own Python makes the images"
    ):
        imgnorm.measure(images, executor="ray")


@pytest.mark.heavy
def test_a_cluster_that_is_not_there_is_named(tmp_path):
    pytest.importorskip("ray")

    with pytest.raises(ImgnormError, match=r"no Ray cluster at .127\.0\.0\.1:1."):
        imgnorm.measure(folder_of(tmp_path / "d", 2), executor="ray:127.0.0.1:1")


@pytest.mark.heavy
def test_two_nodes_write_the_bytes_of_one_machine(cluster, tars, expected, tmp_path):
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    table, here = imgnorm.ImageTable(), imgnorm.ImageTable()

    stats = by_ray(cluster, f"{tars}/*.tar", per_image=table)

    assert expected == as_file(stats, tmp_path)
    imgnorm.measure(f"{tars}/*.tar", per_image=here)
    assert list(here) == list(table)


@pytest.mark.heavy
@pytest.mark.parametrize("round_", range(20))
def test_a_node_that_is_lost_costs_time_only(cluster, tars, expected, tmp_path, round_):
    """It is killed in the middle, not drained."""
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    lost = threading.Event()

    def lose(progress: imgnorm.Progress) -> None:
        if progress.done > 100 + 50 * round_ and not lost.is_set():
            lost.set()
            cluster.remove_node(nodes[0], allow_graceful=False)

    stats = by_ray(cluster, f"{tars}/*.tar", on_progress=lose)

    assert lost.is_set()
    assert expected == as_file(stats, tmp_path)


@pytest.mark.heavy
def test_an_actor_that_is_killed_costs_time_only(cluster, tars, expected, tmp_path):
    cluster.add_node(num_cpus=1)
    killed: list[int] = []

    def lose(progress: imgnorm.Progress) -> None:
        if progress.done > 500 and not killed:
            killed.extend(actors())
            for pid in killed:
                kill(pid, signal.SIGKILL)

    stats = by_ray(cluster, f"{tars}/*.tar", on_progress=lose)

    assert 1 == len(killed)
    assert expected == as_file(stats, tmp_path)


@pytest.mark.heavy
def test_a_node_that_joins_is_used(cluster, tmp_path):
    cluster.add_node(num_cpus=1)
    folder = str(folder_of(tmp_path / "d", 400))
    most = 0

    def join(progress: imgnorm.Progress) -> None:
        nonlocal most
        if not most:
            cluster.add_node(num_cpus=1)
        most = max(most, len(actors()))

    stats = by_ray(cluster, Slow(folder), on_progress=join)

    assert 2 == most
    assert imgnorm.measure(folder) == stats


@pytest.mark.heavy
def test_an_image_that_kills_its_worker_is_skipped_once(cluster, tmp_path):
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    source = Suicidal(str(folder_of(tmp_path / "d", 40)), victim="a/00006")
    with pytest.warns(imgnorm.errors.SkippedImagesWarning):
        alone = imgnorm.measure(source, workers=2)
    with pytest.warns(imgnorm.errors.SkippedImagesWarning):
        stats = by_ray(cluster, source)

    assert [("a/00006.png", "worker-died")] == [(s.name, s.reason) for s in stats.skipped]
    assert alone == stats


@pytest.mark.heavy
def test_what_ray_says_of_a_lost_actor_is_not_part_of_the_result(cluster, tars):
    cluster.add_node(num_cpus=1)
    with Running("stats", f"{tars}/*.tar", "--ray", f"{cluster.address}", "--json") as run:
        until(lambda: bool(actors()), timeout=60)
        time.sleep(1)
        for pid in actors():
            kill(pid, signal.SIGKILL)
        ended = run.end()

    assert 0 == ended.returncode
    assert 2000 == json.loads(ended.stdout)["images"]


@pytest.mark.heavy
def test_an_actor_that_ray_ends_for_want_of_memory_is_lost_and_named(cluster, tmp_path):
    """Ray has another exception for it than for an actor that dies."""
    little = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "300"}
    node = cluster.add_node(num_cpus=1, env_vars=little)

    with pytest.raises(ImgnormError, match=rf"^node {node.node_ip_address}: .* lost 5 times"):
        by_ray(cluster, folder_of(tmp_path / "d", 2))


@pytest.mark.heavy
def test_an_actor_that_cannot_be_ended_hides_no_result(cluster, tmp_path, monkeypatch):
    """So it is with one that Ray never started, and with a cluster that is gone."""
    import ray

    def fail(actor: object) -> None:
        raise ray.exceptions.RaySystemError("Actor creation cancelled.")

    cluster.add_node(num_cpus=1)
    monkeypatch.setattr(ray, "kill", fail)

    assert 2 == by_ray(cluster, folder_of(tmp_path / "d", 2)).images


@pytest.mark.heavy
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_leaves_no_file_and_no_process(
    cluster, tars, tmp_path, number, code
):
    cluster.add_node(num_cpus=1)
    address, out = f"{cluster.address}", tmp_path / "stats.yaml"
    with Running("stats", f"{tars}/*.tar", "--ray", address, "-o", out) as run:
        until(lambda: bool(actors()), timeout=60)
        time.sleep(random.Random(3).uniform(0.5, 1.5))
        run.send(number)
        ended = run.end()

    assert code == ended.returncode
    assert f"stopped by {number.name}\n" == ended.stderr
    assert [] == [*tmp_path.iterdir()]
    until(lambda: not actors())


@pytest.mark.heavy
def test_a_node_without_the_images_is_named(cluster, tmp_path):
    node = cluster.add_node(num_cpus=1, env_vars={EMPTY: "1"})

    with pytest.raises(SourceError) as refused:
        by_ray(cluster, SomewhereOnly(str(folder_of(tmp_path / "d", 4))))

    assert (
        f"{tmp_path}/d: node {node.node_ip_address} does not have the same images (no such folder: "
        f"{tmp_path}/d); Ray needs them at the same path on every node, on a shared file system"
    ) == str(refused.value)
