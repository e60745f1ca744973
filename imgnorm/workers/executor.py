"""What counts the units of a source: units in, a tally out. Worker processes are one executor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgnorm.progress import Profile, Progress
from imgnorm.settings import TIMEOUT_S, Decoder, Digits
from imgnorm.sources.source import Unit
from imgnorm.tally.tally import TakeRows, Tally

if TYPE_CHECKING:
    from imgnorm.pixels.buffer import Device


@dataclass(frozen=True)
class Work:
    """What is to be counted of each image, and with what: this decides the seconds.

    It changes no digit, except the decoder "nvjpeg".
    """

    digits: Digits
    timeout_s: float = TIMEOUT_S  # for one image
    workers: int | None = None  # None: the cores that this process may use
    decoder: Decoder = "auto"
    device: Device | None = None  # counts what others have decoded; None: they count it themselves
    profile: Profile | None = None  # records where the time went
    cluster: str | None = None  # the address of a Ray cluster whose nodes count; None: this machine
    each: Callable[[Tally], None] | None = None
    """Is called with the tally of each image by itself; its `names_sum` says of which one."""
    take_rows: TakeRows | None = None
    """Takes the rows of images while they are being counted; None: they are in the tally of the whole."""


Executor = Callable[[Iterable[Unit], Callable[[Progress], None]], Tally]
"""The tally of some units of a source. It is called once or more often, for example for a sample.

The tally depends on the images only, not on how the work was shared. The units are an iterator, which
is read while the first of them are being counted.
"""
