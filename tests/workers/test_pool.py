"""A scan reads the catalogue while it counts, and one pass over an archive is all that an archive needs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from counting import encoded, noise

from imgnorm.settings import Digits, ImageSettings
from imgnorm.sources.source import Entry, Ignored, Listing, Reread, Source, Unit, Unread
from imgnorm.tally.skipped import Reason, Skipped, Unreadable
from imgnorm.tally.tally import Tally
from imgnorm.workers.executor import Work
from imgnorm.workers.pool import in_processes
from imgnorm.workers.this_process import in_this_process

PICTURES = [encoded(noise(5, 7, seed=seed)) for seed in range(12)]


class Shelf(Source):
    """Units without names, of which each has the same pictures. What it does is written to a file."""

    kind = "shelf"
    ref = "shelf"

    def __init__(self, log: Path, units: int = 1, pause_s: float = 0.0) -> None:
        self.log = str(log)
        self.count = units
        self.pause_s = pause_s

    def units(self) -> Iterator[Unit]:
        for number in range(self.count):
            yield Unit(f"box{number}")

    def images(self, unit: Unit) -> Iterator[Entry]:
        self.note("read" if unit.names is None else "read part", unit.id)
        names = unit.names if unit.names is not None else self.names(unit)
        for name in names:
            yield Unread(name, lambda name=name: self.picture(name))
        if unit.names is None:
            yield Ignored({"suffix": 1})
            yield Skipped(f"{unit.id}/link.png", Reason.ARCHIVE_ENTRY_UNSAFE, "a hard link")

    def listed(self, unit: Unit) -> Listing:
        self.note("listed", unit.id)
        skipped = (Skipped(f"{unit.id}/link.png", Reason.ARCHIVE_ENTRY_UNSAFE, "a hard link"),)
        return Listing(Unit(unit.id, self.names(unit), places=range(12)), skipped, {"suffix": 1})

    def picture(self, name: str) -> bytes:
        time.sleep(self.pause_s)
        return PICTURES[int(name[-2:])]

    def names(self, unit: Unit) -> list[str]:
        return [f"{unit.id}/{index:02}" for index in range(12)]

    def note(self, *words: str) -> None:
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(" ".join([str(os.getpid()), *words]) + "\n")

    @property
    def notes_(self) -> list[str]:
        lines = Path(self.log).read_text(encoding="utf-8").splitlines()
        return [line.partition(" ")[2] for line in lines]


class Divisible(Shelf):
    """The rest of a unit can be read by others."""

    def images(self, unit: Unit) -> Iterator[Entry]:
        return _Ahead(self, unit) if unit.names is None else super().images(unit)

    def rest(self, entries: Iterator[Entry]) -> Unit | None:
        assert isinstance(entries, _Ahead)
        return entries.rest()


class _Ahead(Iterator[Entry]):
    def __init__(self, source: Shelf, unit: Unit) -> None:
        self.unit = unit
        self.left = list(Shelf.images(source, unit))
        self.left.reverse()

    def __next__(self) -> Entry:
        if not self.left:
            raise StopIteration
        if isinstance(self.left[-1], _LateSkipped):
            time.sleep(0.3)
        return self.left.pop()

    def rest(self) -> Unit:
        unread = [one.name for one in reversed(self.left) if isinstance(one, Unread)]
        self.left = [one for one in self.left if not isinstance(one, Unread)]
        return Unit(self.unit.id, unread, places=range(len(unread)))


class Doubtful(Shelf):
    """The end of each unit shows that it should have been listed."""

    def images(self, unit: Unit) -> Iterator[Entry]:
        yield from super().images(unit)
        if unit.names is None:
            raise Reread


class Gone(Shelf):
    def images(self, unit: Unit) -> Iterator[Entry]:
        if unit.id == "box1":
            raise Unreadable(Reason.VANISHED, "No such file or directory")
        yield from super().images(unit)


class Deadly(Shelf):
    """The process that reads the picture 05 of box 1 ends."""

    def picture(self, name: str) -> bytes:
        if name == "box1/05":
            os._exit(3)
        return super().picture(name)


class Reluctant(Divisible):
    """What a unit skips takes longer than a job, and comes at its end."""

    def images(self, unit: Unit) -> Iterator[Entry]:
        if unit.names is not None:
            return super().images(unit)
        ahead = _Ahead(self, unit)
        ahead.left[:0] = [_LateSkipped(index) for index in range(3)]
        return ahead


class _LateSkipped(Skipped):
    """One that takes 0.3 s to find."""

    def __init__(self, index: int) -> None:
        super().__init__(f"late/{2 - index}", Reason.CORRUPT, "late")


class Truncated(Shelf):
    """Units with names; of box 1 only the first five pictures still exist."""

    def units(self) -> Iterator[Unit]:
        return (Unit(f"box{n}", self.names(Unit(f"box{n}"))) for n in range(self.count))

    def images(self, unit: Unit) -> Iterator[Entry]:
        names = [one for one in unit.names or () if not ("box1" in one and one[-2:] > "04")]
        return (Unread(name, lambda name=name: self.picture(name)) for name in names)


class Refusing(Truncated):
    """Box 1 cannot be opened."""

    def images(self, unit: Unit) -> Iterator[Entry]:
        for name in unit.names or ():
            if name.startswith("box1"):
                raise Unreadable(Reason.UNREADABLE, "no permission")
            yield Unread(name, lambda name=name: self.picture(name))


class Knowing(Truncated):
    """Says that the third picture of each box is broken, without reading it."""

    def images(self, unit: Unit) -> Iterator[Entry]:
        for name in unit.names or ():
            if name.endswith("02"):
                yield Skipped(name, Reason.CORRUPT, "known to be broken")
            else:
                yield Unread(name, lambda name=name: self.picture(name))


class ById(Truncated):
    """Reads by the id of the unit."""

    def images(self, unit: Unit) -> Iterator[Entry]:
        for name in unit.names or ():
            assert name.startswith(f"{unit.id}/")
            yield Unread(name, lambda name=name: self.picture(name))


class Unlisted(Shelf):
    """Has no `listed` of its own."""

    def listed(self, unit: Unit) -> Listing:
        return Source.listed(self, unit)


def here(source: Source) -> Tally:
    """In this process, as a source that workers cannot have."""
    count = in_this_process(source, Work(Digits(ImageSettings("RGB"))))
    return count((one for one in source.units() if isinstance(one, Unit)), lambda progress: None)


def scanned(
    source: Source, workers: int = 2, max_pixels: int = 10**8, timeout_s: float = 30
) -> Tally:
    work = Work(Digits(ImageSettings("RGB"), max_pixels), timeout_s, workers)
    with in_processes(source, work) as count:
        return count(
            (one for one in source.units() if isinstance(one, Unit)), lambda progress: None
        )


def expected(source: Shelf) -> Tally:
    """Every box, listed and read picture by picture in this process."""
    from imgnorm.pixels.count import Counting, UnitEntries, count

    whole = Tally()
    for unit in source.units():
        entries = UnitEntries(source, unit)
        whole += count(entries, Counting(Digits(ImageSettings("RGB"), 10**6))).tally
    return whole


def alike(tally: Tally) -> tuple[object, ...]:
    """What must not depend on who counted what."""
    skipped = sorted((one.name, one.reason, one.detail) for one in tally.skipped)
    return (
        tally.counted,
        skipped,
        tally.ignored,
        tally.names,
        tally.names_sum % 2**256,
        tally.counted_sum % 2**256,
    )


@pytest.mark.parametrize("kind", [Shelf, Divisible, Doubtful])
@pytest.mark.parametrize("units", [1, 2, 5])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_way_to_share_units_gives_the_same(
    kind: type[Shelf], units: int, workers: int, tmp_path: Path
) -> None:
    reference = expected(Shelf(tmp_path / "log", units))

    assert alike(reference) == alike(scanned(kind(tmp_path / "log", units), workers))
    slow = kind(tmp_path / "log", units, pause_s=0.01)
    assert alike(reference) == alike(scanned(slow, workers))


@pytest.mark.parametrize("kind", [Truncated, Refusing, Knowing, ById, Unlisted, Gone])
def test_this_process_and_workers_count_the_same(kind: type[Shelf], tmp_path: Path) -> None:
    tallies = [
        here(kind(tmp_path / "log", 3)),
        scanned(kind(tmp_path / "log", 3)),
        scanned(kind(tmp_path / "log", 3, pause_s=0.02), 3),
    ]

    assert alike(tallies[0]) == alike(tallies[1]) == alike(tallies[2])


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        (Truncated, [f"box1/{index:02}" for index in range(5, 12)]),
        (Refusing, [f"box1/{index:02}" for index in range(12)]),
        (Knowing, [f"box{number}/02" for number in range(3)]),
        (ById, []),
    ],
)
def test_every_name_of_a_unit_is_counted_or_skipped_once(
    kind: type[Shelf], lost: list[str], tmp_path: Path
) -> None:
    tally = scanned(kind(tmp_path / "log", 3))

    assert lost == sorted(one.name for one in tally.skipped)
    assert (36, 36 - len(lost)) == (tally.names, tally.images)


class Wrong(Truncated):
    """Gives other pictures than it was asked for."""

    def images(self, unit: Unit) -> Iterator[Entry]:
        return (Unread("box9/00", lambda: PICTURES[0]) for _ in unit.names or ())


def test_a_source_that_gives_other_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"gives .*box9/00.*, but was asked for 'box0/0\d'"):
        scanned(Wrong(tmp_path / "log"))


def test_what_is_handed_back_is_counted_once_however_long_the_end_takes(tmp_path: Path) -> None:
    tally = scanned(Reluctant(tmp_path / "log", pause_s=0.03))

    assert (12, 12) == (tally.images, tally.names)
    assert ["late/0", "late/1", "late/2"] == sorted(
        one.name for one in tally.skipped if one.name.startswith("late")
    )


def test_a_small_unit_is_read_once_and_never_listed(tmp_path: Path) -> None:
    """On a busy machine it may seem to take long, but not each time."""
    sources = [Shelf(tmp_path / str(number)) for number in range(8)]
    for source in sources:
        scanned(source)
        if ["read box0"] == source.notes_:
            return

    raise AssertionError([source.notes_ for source in sources])


def test_a_unit_that_takes_long_is_divided_where_others_are_idle(tmp_path: Path) -> None:
    source = Divisible(tmp_path / "log", pause_s=0.03)
    scanned(source)

    assert "read box0" == source.notes_[0]
    assert {"read part box0"} == set(source.notes_[1:])
    workers = {line.split()[0] for line in Path(source.log).read_text().splitlines()}
    assert 2 == len(workers)


def test_a_stream_that_takes_long_is_listed_where_others_are_idle(tmp_path: Path) -> None:
    source = Shelf(tmp_path / "log", pause_s=0.03)
    scanned(source)

    assert ["read box0", "listed box0"] == source.notes_[:2]
    assert {"read part box0"} == set(source.notes_[2:])


def test_what_must_be_forgotten_is_listed_and_counted_once(tmp_path: Path) -> None:
    source = Doubtful(tmp_path / "log", 3)

    assert 36 == scanned(source).images
    assert 3 == sum(line.startswith("listed") for line in source.notes_)


def test_a_unit_that_is_gone_is_skipped_by_its_id(tmp_path: Path) -> None:
    tally = scanned(Gone(tmp_path / "log", 3))

    assert 24 == tally.images
    lost = [one for one in tally.skipped if one.reason is Reason.VANISHED]
    assert [Skipped("box1", Reason.VANISHED, "No such file or directory")] == lost


@pytest.mark.parametrize("workers", [1, 2])
def test_a_picture_that_kills_its_process_costs_itself(workers: int, tmp_path: Path) -> None:
    tally = scanned(Deadly(tmp_path / "log", 3), workers)

    assert 35 == tally.images
    (lost,) = (one for one in tally.skipped if one.reason is Reason.WORKER_DIED)
    assert "box1/05" == lost.name
    assert 36 == tally.names


def test_the_catalogue_is_read_while_units_are_counted(tmp_path: Path) -> None:
    """Not before: a billion names do not fit into memory."""
    source = Shelf(tmp_path / "log", 3)
    done_when_asked: list[int] = []
    done = 0

    def units() -> Iterator[Unit]:
        for number in range(400):
            done_when_asked.append(done)
            yield Unit(f"box{number}")

    def on_progress(progress: object) -> None:
        nonlocal done
        done = progress.done  # type: ignore[attr-defined]

    with in_processes(source, Work(Digits(ImageSettings("RGB")), workers=2)) as count:
        tally = count(units(), on_progress)

    assert 400 * 12 == tally.images
    assert 0 == done_when_asked[0]
    assert done_when_asked[-1] > 300 * 12


def test_a_few_huge_images_do_not_delay_the_others(tmp_path: Path) -> None:
    """A job ends after half a second, and its worker hands the rest back."""
    source = Shelf(tmp_path / "log", pause_s=0.2)
    unit = Unit("box0", source.names(Unit("box0")))
    with in_processes(source, Work(Digits(ImageSettings("RGB")), workers=2)) as count:
        count([unit], lambda progress: None)

    lines = [line.split() for line in Path(source.log).read_text().splitlines()]
    by_worker = {pid: sum(line[0] == pid for line in lines) for pid, *_ in lines}
    assert 2 == len(by_worker)
    assert min(by_worker.values()) > 1


def test_no_more_workers_are_started_than_there_is_work_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgnorm.workers import pool

    started: list[int] = []
    real = pool.WorkQueue
    monkeypatch.setattr(
        pool,
        "WorkQueue",
        lambda workers, job, **options: started.append(workers) or real(workers, job, **options),
    )
    source = Shelf(tmp_path / "log")
    for unit in (Unit("box0", source.names(Unit("box0"))[:3]), Unit("box0", bytes=100_000)):
        with in_processes(source, Work(Digits(ImageSettings("RGB")), workers=8)) as count:
            count([unit], lambda progress: None)

    assert [3, 2] == started


def test_the_files_of_a_folder_are_counted_in_large_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job for each of its units would cost the main process more than tiny images cost a worker."""
    from imgnorm.sources.folder import FolderSource
    from imgnorm.workers import pool

    (tmp_path / "a.png").write_bytes(PICTURES[0])
    given: list[bool] = []
    real = pool.WorkQueue

    def queue(workers: int, job: tuple[int, int], *, joins_units: bool) -> object:
        given.append(joins_units)
        return real(workers, job, joins_units=joins_units)

    monkeypatch.setattr(pool, "WorkQueue", queue)
    assert 1 == scanned(FolderSource(str(tmp_path))).images

    assert [True] == given
