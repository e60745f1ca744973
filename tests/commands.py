"""How a command line ends that runs in this process: see the fixture `command`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Ended]


def files() -> list[str]:
    """What lies in the current folder beside `d`, the folder of images."""
    return sorted(name for name in os.listdir() if name != "d")
