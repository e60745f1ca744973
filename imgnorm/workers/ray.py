"""The executor of a Ray cluster: units go to nodes as these get free, and tallies come back.

Each node has one actor, which stays: its worker processes (pool.py) use all cores of the node, and an
image that ends its worker ends nothing else. An actor is given as many units at a time as keep it
busy for some seconds. If it is lost, its units go to another node: nothing of them was added yet, so
no image is counted twice. Nodes that join while images are counted are used, too.

Ray's own terms are those of https://docs.ray.io/en/latest/ray-core/actors.html
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from time import monotonic, sleep
from typing import Any, NoReturn

from imgnorm.errors import ImgnormError, MissingDependency, SourceError
from imgnorm.progress import Progress
from imgnorm.sources.names import as_text
from imgnorm.sources.source import Source, Unit
from imgnorm.tally.tally import Tally, TallySum
from imgnorm.wording import clause, one_line
from imgnorm.workers.executor import Executor, Work
from imgnorm.workers.pool import in_processes

_PLACE = re.compile(r"(?:ray://)?\[?([^/]+?)\]?:(\d{1,5})", re.ASCII)
_CONNECT_S = 20.0
CALL_S = 5.0
"""How long one call of an actor should take. A lost node costs as much; a call costs milliseconds."""
_POLL_S = 1.0
_LOOK_FOR_NODES_S = 5.0
_MAX_WAIT_S = 600.0
"""For the first node that is free."""
_MAX_LOSSES = 5
"""So often may the same units be lost, or an actor be lost while it starts: then that is no chance."""


@contextmanager
def in_cluster(source: Source, work: Work, address: str) -> Iterator[Executor]:
    """An executor on all nodes of a Ray cluster; its actors live as long as the context.

    Args:
        work: `workers` are those of each node.
        address: as `ray.init` takes it: "auto", "HOST:PORT" or "ray://HOST:PORT".

    Raises:
        MissingDependency: ray is not installed.
        SourceError: a node does not have the same images.
        ImgnormError: there is no such cluster, or a node cannot start.
    """
    ray = _ray()
    own = not ray.is_initialized()
    if own:
        _connect(ray, address)
    cluster = _Cluster(ray, source, work)
    try:
        yield cluster.scan
    finally:
        cluster.close()
        if own:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingDependency(
            f"ray cannot be imported ({clause(error)}); install it with `pip install ray`"
        ) from error
    return ray


def _connect(ray: Any, address: str) -> None:
    place = _PLACE.fullmatch(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if place:  # ray itself tries for ten minutes
            socket.create_connection((place[1], int(place[2])), _CONNECT_S).close()
        ray.init(address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ImgnormError(
            f"no Ray cluster at {address!r} ({clause(error)}); start one with `ray start --head`, give "
            "the address of one, or set RAY_AUTH_MODE as it was set where the cluster was started"
        ) from error
    finally:
        if on_sigterm and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # ray has set its own


class _Actor:
    """What runs on a node: the same workers as on a single machine."""

    def start(self, folder: str, path: list[str], pickled: bytes) -> Unit | None:
        """Get ready, and return the first unit of the source as this node sees it.

        Args:
            folder: the current one of the command, to which paths are relative.
            path: where Python finds the module of the source's class.
            pickled: the source, and the work.
        """
        sys.path += [one for one in path if one not in sys.path]
        try:
            os.chdir(folder)
        except OSError as error:
            raise SourceError(f"no folder {as_text(folder)} ({error.strerror})") from error
        try:
            source, work = pickle.loads(pickled)
        except ImportError as error:
            raise ImgnormError(f"{clause(error)}; install it on every node") from error
        source.open()
        self._count = ExitStack().enter_context(in_processes(source, work, sys.maxsize))
        return _first_unit(source)

    def count(self, units: list[Unit]) -> Tally:
        return self._count(units, lambda progress: None)


def _first_unit(source: Source) -> Unit | None:
    return next((unit for unit in source.units() if isinstance(unit, Unit)), None)


@dataclass
class _Call:
    """What an actor is asked to count."""

    units: list[Unit]
    losses: int = 0  # how often the actor that had it was lost


@dataclass
class _Node:
    """A node and its actor, which is starting, ready (without a future) or counting (with a call)."""

    address: str
    actor: Any
    future: Any  # of what it is doing
    size: int  # how many units a call has
    call: _Call | None = None
    since: float = 0.0

    def begin(self, call: _Call) -> None:
        self.call, self.since = call, monotonic()
        self.future = self.actor.count.remote(call.units)

    def end(self) -> None:
        """Also fit the size of the next call to the time that this one took."""
        assert self.call is not None
        seconds = max(monotonic() - self.since, 0.001)
        fitting = int(len(self.call.units) * CALL_S / seconds)
        self.size = max(1, min(4 * self.size, fitting))
        self.call = self.future = None


class _Cluster:
    """The nodes of a cluster, and what they do."""

    def __init__(self, ray: Any, source: Source, work: Work) -> None:
        self._ray = ray
        self._source = source
        self._work = work
        self._nodes: dict[str, _Node] = {}  # by Ray's id
        self._failed_starts: Counter[str] = Counter()
        self._lost: deque[_Call] = deque()
        self._look_at = 0.0
        first = _first_unit(source)
        self._first = first and _seen(first)

    def scan(self, units: Iterable[Unit], on_progress: Callable[[Progress], None]) -> Tally:
        """
        Raises:
            SourceError, ImgnormError: see `in_cluster`.
        """
        rest, whole = iter(units), TallySum(self._work.take_rows)
        give_up_at = monotonic() + _MAX_WAIT_S
        while True:
            self._look_for_nodes()
            for node in self._nodes.values():
                if node.future is None and (call := self._next(rest, node.size)):
                    node.begin(call)
            if any(node.call for node in self._nodes.values()):
                give_up_at = monotonic() + _MAX_WAIT_S
            elif call := self._next(rest, 1):
                self._lost.append(call)
            else:
                return whole.tally()
            if monotonic() > give_up_at:
                raise ImgnormError(
                    f"no node of the cluster was free for {_MAX_WAIT_S:g} s; see `ray status`"
                )
            self._wait(whole)
            on_progress(Progress(whole.names, None, whole.bytes_read))

    def close(self) -> None:
        """End the actors; their workers end with them."""
        for node in self._nodes.values():
            # One that never started cannot be ended, nor can one of a cluster that is gone.
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(node.actor)

    def _next(self, rest: Iterator[Unit], size: int) -> _Call | None:
        if self._lost:
            return self._lost.popleft()
        units = [*islice(rest, size)]
        return _Call(units) if units else None

    def _look_for_nodes(self) -> None:
        """Start an actor on each node that has none."""
        if monotonic() < self._look_at:
            return
        self._look_at = monotonic() + _LOOK_FOR_NODES_S
        for found in self._ray.nodes():
            id_, cores = found["NodeID"], int(found["Resources"].get("CPU", 0))
            if found["Alive"] and cores and id_ not in self._nodes:
                self._nodes[id_] = self._started(id_, found["NodeManagerAddress"], cores)

    def _started(self, id_: str, address: str, cores: int) -> _Node:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(id_, soft=False)
        options = {"num_cpus": cores, "scheduling_strategy": where}
        actor = self._ray.remote(**options)(_Actor).remote()
        work = replace(self._work, workers=self._work.workers or cores, take_rows=None)
        pickled = pickle.dumps((self._source, work))
        starting = actor.start.remote(os.getcwd(), sys.path, pickled)
        return _Node(address, actor, starting, cores)

    def _wait(self, whole: TallySum) -> None:
        """Wait for some node, but not for long, and take what it has done."""
        nodes = {node.future: id_ for id_, node in self._nodes.items() if node.future}
        if not nodes:
            sleep(_POLL_S)
            return
        errors = self._ray.exceptions
        for future in self._ray.wait([*nodes], num_returns=1, timeout=_POLL_S)[0]:
            node = self._nodes[nodes[future]]
            try:
                found = self._ray.get(future)
            except errors.RayTaskError as error:
                self._fail(node, error)
            except errors.RayError as error:  # the actor, its node, or the tally that it had made
                self._lose(nodes[future], error)
            else:
                if node.call:
                    whole.add(found)
                    node.end()
                else:
                    self._compare(node, found)

    def _compare(self, node: _Node, first: Unit | None) -> None:
        if (first and _seen(first)) != self._first:
            self._refuse(node, "the first of them differ")
        node.future = None

    def _refuse(self, node: _Node, reason: str) -> NoReturn:
        raise SourceError(
            f"{as_text(self._source.ref)}: node {node.address} does not have the same images "
            f"({reason}); Ray needs them at the same path on every node, on a shared file system"
        )

    def _fail(self, node: _Node, error: Any) -> NoReturn:
        """Raise what an actor raised."""
        if not isinstance(error.cause, ImgnormError):
            raise error
        if node.call is None and isinstance(error.cause, SourceError):
            self._refuse(node, clause(error.cause))
        raise type(error.cause)(f"node {node.address}: {error.cause}") from error

    def _lose(self, id_: str, error: Exception) -> None:
        """Forget an actor that died, and give what it was counting to another one."""
        node = self._nodes.pop(id_)
        self._look_at = 0.0
        if node.call is None:
            self._failed_starts[id_] += 1
            losses, doing = self._failed_starts[id_], "starting"
            remedy = "is the same imgnorm installed on every node, for Ray's Python?"
        else:
            node.call.losses += 1
            self._lost.append(node.call)
            losses, doing = node.call.losses, f"counting {as_text(node.call.units[0].id)}"
            remedy = "see the logs of Ray on that node"
        if losses >= _MAX_LOSSES:
            reason = str(error).strip().splitlines()[-1]  # after Ray's traceback
            raise ImgnormError(
                f"node {node.address}: its actor was lost {losses} times while {doing} "
                f"({one_line(reason)}); {remedy}"
            ) from error


def _seen(unit: Unit) -> tuple[str, list[str] | None, int | None]:
    """What two nodes that see the same images agree on."""
    return unit.id, None if unit.names is None else [*unit.names], unit.bytes
