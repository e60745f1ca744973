"""One fork server for all measurements of a test process: starting one takes most of a small one's time."""

from __future__ import annotations

import os

import pytest

from imgnorm.workers import forkserver
from imgnorm.workers.forkserver import ForkServer, import_path

start_own = forkserver.start_server

_IN_OUR_FOLDER = """
import os
real = os.fork
def fork():
    os.chdir("/proc/{pid}/cwd")
    return real()
os.fork = fork
"""
"""A worker begins in the folder in which its parent is now, not in which its fork server was started."""


class SharedServer(ForkServer):
    """A fork server that measurements do not end."""

    def abandon(self) -> None:
        """Another measurement needs it."""

    def close(self) -> None:
        """Another measurement needs it."""

    def end(self) -> None:
        super().close()


_servers: list[tuple[object, SharedServer]] = []  # at most one, with its surroundings


def start_shared() -> ForkServer | None:
    """In place of `forkserver.start_server`: the last one, if a new one would find the same surroundings."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    surroundings = (import_path(), environment)
    if _servers and _servers[0][0] == surroundings and _servers[0][1]._process.poll() is None:
        return _servers[0][1]
    end_shared()
    with pytest.MonkeyPatch.context() as patch:
        begin = _IN_OUR_FOLDER.format(pid=os.getpid())
        command = forkserver.python_command
        patch.setattr(forkserver, "python_command", lambda program: command(begin + program))
        _servers.append((surroundings, SharedServer()))
    return _servers[0][1]


def end_shared() -> None:
    while _servers:
        _servers.pop()[1].end()
