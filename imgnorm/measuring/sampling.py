"""Counting images in random order until mean and std are known well enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from imgnorm.errors import SourceError
from imgnorm.measuring.result import mode_of_whole
from imgnorm.progress import Progress
from imgnorm.settings import ImageSettings, scale_of
from imgnorm.sources.listing import AllNames
from imgnorm.stats.estimate import Estimate, Plan, Sample, random_order, until_within
from imgnorm.tally.tally import Tally, in_mode
from imgnorm.workers.executor import Executor


@dataclass(frozen=True)
class Sampled:
    """What was looked at until it was enough."""

    images: int
    tally: Tally
    estimate: Estimate | None  # None if these are all images


def sampled(
    names: AllNames,
    settings: ImageSettings,
    plan: Plan,
    count: Executor,
    on_progress: Callable[[Progress], None],
) -> Sampled:
    """Count as many of these images as the plan asks for.

    Args:
        count: gives the tally of units, which must have cross sums.

    Raises:
        SourceError: they are float images.
    """
    sampling = _Sampling(names, settings, plan, count, on_progress)
    estimate = until_within(plan, len(names), sampling.look, sampling.note_margin)
    return Sampled(len(sampling.taken), sampling.whole, estimate)


class _Sampling:
    """The images taken so far, and what was counted of them."""

    def __init__(
        self,
        names: AllNames,
        settings: ImageSettings,
        plan: Plan,
        count: Executor,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._all = names
        self._order = random_order(len(names), plan.seed)
        self._settings = settings
        self._count = count
        self._on_progress = on_progress
        self.taken: list[int] = []
        self._margin: float | None = None
        self.whole = Tally()

    def look(self, size: int) -> Sample | None:
        """What was counted of the first `size` images; None if none of them could be counted."""
        before = len(self.taken)
        self.taken += islice(self._order, size - before)
        new = self._all.only(self.taken[before:])
        read = self.whole.bytes_read

        def on_progress(progress: Progress) -> None:
            done, bytes_read = before + progress.done, read + progress.bytes_read
            self._on_progress(Progress(done, size, bytes_read, self._margin))

        self.whole += self._count(new, on_progress)
        whole = self.whole.of_floats() if self.whole.has_other_floats else self.whole
        mode = mode_of_whole(whole, self._settings)
        if mode is None:
            return None
        counted = in_mode(whole.counted, mode)
        if not counted.cross_sums:
            raise SourceError(
                f"a tolerance is for pixels in [0, 1]; these images have mode {mode}, whose values "
                "may be anything: measure them all, without --tolerance"
            )
        return Sample(counted.images, counted.pixels.moments(), counted.cross_sums, scale_of(mode))

    def note_margin(self, margin: float) -> None:
        self._margin = margin
