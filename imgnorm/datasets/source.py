"""Protocols of sources whose images Python objects make: pixels in memory, a Dataset's items, a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from imgnorm.sources.source import Listing, Readable, Source
from imgnorm.tally.tally import Tally

if TYPE_CHECKING:
    from imgnorm.pixels.buffer import Device
    from imgnorm.progress import Progress
    from imgnorm.settings import ImageSettings, Limits


@runtime_checkable
class ArraySource(Source, Protocol):
    """Images that may be pixels in memory already: those are counted in this process, without a copy."""

    def holds_pixels(self, settings: ImageSettings) -> bool:
        """Whether it has the pixels that these settings ask for, so that `count` may be called."""

    def pictures(self) -> Readable | None:
        """The images of these pixels, for threads of this process to convert and preprocess; None if the
        pixels are not in memory.
        """

    def count(
        self,
        names: Sequence[str],
        *,
        cross_sums: bool = False,
        device: Device | None = None,
        threads: int = 1,
    ) -> Tally:
        """The tally of these images, as they are."""


@runtime_checkable
class CountingSource(Source, Protocol):
    """Images that a user's own Python makes: counted in this process, where that Python is."""

    def check(self, settings: ImageSettings) -> None:
        """
        Raises:
            SourceError: its items are not images, or not images that these settings ask for.
        """

    def tallies(
        self,
        groups: Mapping[str, Sequence[str]],
        settings: ImageSettings,
        limits: Limits,
        on_progress: Callable[[Progress], None],
        *,
        cross_sums: bool = False,
        device: Device | None = None,
    ) -> dict[str, Tally]:
        """The tally of each group of names."""


@dataclass(frozen=True)
class StreamResult:
    """What was read from a stream."""

    listing: Listing  # the names that came; what did not come is skipped, or ignored by a rule
    tally: Tally
    limited: bool  # whether the limit ended it
    notes: tuple[str, ...]  # for the user: what the numbers do not show


@runtime_checkable
class StreamingSource(Protocol):
    """Images that come one after the other, once, and are counted as they come."""

    @property
    def kind(self) -> str: ...

    @property
    def ref(self) -> str: ...

    def class_of(self, name: str) -> str | None: ...

    def read_all(
        self,
        settings: ImageSettings,
        limits: Limits,
        limit: int | None,
        on_progress: Callable[[Progress], None],
        device: Device | None = None,
    ) -> StreamResult:
        """All images, or the first `limit`."""
