"""Counting images in random order until mean and std are known well enough.

The order depends on what is known of the images' sizes. If those of all images are known (`headers.py`), images
are drawn in proportion to them, and `stats.betting` bounds mean and std of all images, whatever they are. If
not, every image is as likely as another, and the interval is the linearised one of `stats.estimate`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

from imgnorm.errors import SourceError
from imgnorm.measuring.headers import KnownSizes, known_sizes
from imgnorm.measuring.result import mode_of_whole
from imgnorm.measuring.routes import executing
from imgnorm.progress import Progress
from imgnorm.settings import Mode, channels_of, kind_of, scale_of
from imgnorm.sources.listing import AllNames
from imgnorm.sources.names import as_text
from imgnorm.sources.source import Source
from imgnorm.stats.estimate import (
    Bounds,
    Estimate,
    Plan,
    Sample,
    linearised,
    random_order,
    until_within,
)
from imgnorm.tally.rows import Row, rows_in
from imgnorm.tally.tally import GRAY, Tally, in_mode
from imgnorm.workers.executor import Executor, Work


@dataclass(frozen=True)
class Sampled:
    """What was looked at until it was enough."""

    images: int  # counted or skipped
    tally: Tally
    estimate: Estimate | None  # None if these are all images


def sampled(
    source: Source,
    names: AllNames,
    plan: Plan,
    work: Work,
    on_progress: Callable[[Progress], None],
) -> Sampled:
    """Count as many images of a source as the plan asks for.

    Raises:
        SourceError: they are float images; or sizes are to be exact, and nothing shows them.

    Warns:
        SourceWarning: there are too many headers to read them all.
    """
    if work.digits.settings.frames and len({*names}) < len(names):
        raise SourceError(
            f"{as_text(source.ref)}: a frame and a file have the same name, such as a.gif#2; rename the "
            "file, or measure all images, without --tolerance"
        )
    known = known_sizes(source, names, plan.sizes, work, on_progress)
    if known:  # a device does not count each image by itself
        work = replace(work, digits=replace(work.digits, per_image=True), device=None)
    with executing(source, work, len(names)) as count:
        sampling = _Sampling(source, names, plan, known, work, count, on_progress)
        estimate = until_within(
            plan,
            known.images if known else len(names),
            "exact" if known else "sampled",
            sampling.look,
        )
        if estimate is None:
            sampling.take(len(names))
            return Sampled(len(names), sampling.whole, None)
    unreadable = known.unreadable if known else ()
    whole = sampling.whole + Tally(skipped=unreadable)
    return Sampled(estimate.images + len(unreadable), whole, estimate)


class _Sampling:
    """The images taken so far, and what was counted of them."""

    def __init__(
        self,
        source: Source,
        names: AllNames,
        plan: Plan,
        known: KnownSizes | None,
        work: Work,
        count: Executor,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._source = source
        self._all = names
        self._plan = plan
        self._known = known
        self._settings = work.digits.settings
        self._count = count
        self._on_progress = on_progress
        pixels = known and known.pixels
        self._order = random_order(len(names), plan.seed)
        if pixels:
            from imgnorm.stats.betting import weighted_order  # imports NumPy

            self._order = weighted_order(pixels, plan.seed)
        self._taken: list[int] = []
        self._names: list[str] = []  # of these images
        self._rows: dict[str, list[Row]] = {}  # several of an image whose mode is not yet known
        self._margin: float | None = None
        self.whole = Tally()

    def take(self, size: int) -> None:
        """Count further images until these are the first `size`."""
        before = len(self._taken)
        new = [*islice(self._order, size - before)]
        read = self.whole.bytes_read

        def on_progress(progress: Progress) -> None:
            done, bytes_read = before + progress.done, read + progress.bytes_read
            self._on_progress(Progress(done, size, bytes_read, self._margin))

        tally = self._count(self._all.only(new), on_progress)
        for row in (row for data in tally.rows for row in rows_in(data)):
            self._rows.setdefault(row.name, []).append(row)
        self.whole += replace(tally, rows=())
        self._taken += new
        self._names += map(self._all.name, new)

    def look(self, size: int) -> Estimate | None:
        """What the first `size` images tell of all; None if too few of them could be counted.

        Raises:
            SourceError: they are float images.
        """
        self.take(size)
        whole = self.whole.of_floats() if self.whole.has_other_floats else self.whole
        mode = mode_of_whole(whole, self._settings)
        if mode is None:
            return None
        if kind_of(mode) == "float":
            raise SourceError(
                f"a tolerance is for pixels in [0, 1]; these images have mode {mode}, whose values "
                "may be anything: measure them all, without --tolerance"
            )
        estimate: Estimate | None
        if self._known:
            self._demand_one_kind(mode)
            bounds = self._bounds(self._known, mode)
            estimate = Estimate.bounded(self._plan, size, len(self._all), bounds)
        else:
            found = in_mode(whole.counted, mode)
            assert found.cross_sums  # of integer pixels
            moments = found.pixels.moments()
            sample = Sample(found.images, moments, found.cross_sums, scale_of(mode))
            estimate = linearised(self._plan, size, len(self._all), sample)
        if estimate:
            self._margin = estimate.margins.widest
        return estimate

    def _demand_one_kind(self, mode: Mode) -> None:
        """
        Raises:
            SourceError: one image of another kind, among those that are left, would change what is counted.
        """
        auto = self._settings.mode == "auto" and not self._source.in_blocks
        if auto and kind_of(mode) == "16-bit":
            raise SourceError(
                f"{as_text(self._source.ref)}: has images of 16 bits, and mode auto would skip all of them for one "
                "image of 8 bits, which a sample may not have; give --mode 'I;16'"
            )

    def _row(self, name: str, mode: Mode) -> Row | None:
        """That of an image in the mode of the whole; None if it could not be counted."""
        for row in self._rows.get(name, ()):
            if row.mode == mode:
                return row
            if row.mode == GRAY.get(mode):
                channels = len(channels_of(mode))
                return row._replace(total=row.total * channels, total_sq=row.total_sq * channels)
        return None

    def _bounds(self, known: KnownSizes, mode: Mode) -> Bounds:
        from imgnorm.stats.betting import Drawn, bounds_of  # imports NumPy

        scale = scale_of(mode)
        images: list[tuple[list[float], list[float]] | None] = []
        for index, name in zip(self._taken, self._names, strict=True):
            row = self._row(name, mode)
            # Of another size than its header says: as little is known of it as if it could not be read.
            if row is None or not known.is_of(index, row.pixels):
                images.append(None)
                continue
            mean = [total / (row.pixels * scale) for total in row.total]
            images.append((mean, [total / (row.pixels * scale**2) for total in row.total_sq]))
        shares = list(map(known.share, self._taken))
        drawn = Drawn.of(shares, images, len(channels_of(mode)))
        # With one that is colored among those that are left, mode "auto" makes RGB of all.
        may_be_rgb = self._settings.mode == "auto" and mode == GRAY["RGB"]
        return bounds_of(drawn, self._plan, len(channels_of("RGB")) if may_be_rgb else None)
