"""A profile shows where the time went, by stage and process, and changes no result."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from imgnorm import Profile, measure
from imgnorm.measuring import measure as measurement
from imgnorm.pixels.buffer import FoundDevice
from imgnorm.progress import Spent, Stage, Stopwatch
from imgnorm.settings import Resize
from imgnorm.stats.format import text_of

SHAPES = Path(__file__).parents[1] / "examples" / "shapes"


def test_every_process_and_step_of_a_folder_is_told():
    profile = Profile()
    measure(SHAPES, workers=2, preprocess=[Resize(16)], profile=profile)

    forked = {"fork server"} if sys.platform == "linux" else set()
    workers = set(profile.processes) - {"main"} - forked
    assert {"main"} | forked < set(profile.processes)
    assert workers <= {"worker 1", "worker 2"}  # a worker that is ready too late gets no job
    assert {"start", "list", "merge", "wait"} == set(profile.processes["main"].seconds)
    whole = sum(profile.processes.values(), start=_Sum())
    assert set(get_args(Stage)) == set(whole.seconds)
    assert 24 == profile.images
    assert 0 < profile.main_share < 1


class _Sum(Spent):
    def __add__(self, other: Spent) -> _Sum:
        self.add(other)
        return self


def test_finding_a_device_is_no_listing(monkeypatch):
    """It imports torch, which takes longer than listing many thousands of files."""

    def found_slowly(name: str) -> FoundDevice:
        time.sleep(0.3)
        return FoundDevice(None, name)

    monkeypatch.setattr(measurement, "find_device", found_slowly)
    profile = Profile()
    measure(SHAPES, workers=1, device="auto", profile=profile)

    assert profile.processes["main"].seconds["start"] >= 0.3


def test_the_time_of_a_program_before_it_measures_is_not_told():
    """A notebook's, say; the command counts its imports, too."""
    began = time.process_time()
    while time.process_time() < began + 0.1:
        pass
    before = time.process_time()
    profile, command = Profile(), Profile.of_command()
    for one in (profile, command):
        measure(SHAPES, workers=1, profile=one)

    assert profile.processes["main"].cpu_s <= time.process_time() - before
    assert command.processes["main"].cpu_s >= before


def test_steps_of_a_process_are_disjoint_and_make_up_its_time(tmp_path):
    for number in range(40):
        Image.fromarray(np.full((400, 400, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    profile = Profile()

    measure(tmp_path, workers=1, profile=profile)

    main, worker = profile.processes["main"].seconds, profile.processes["worker 1"].seconds
    assert all(seconds >= 0 for seconds in (main + worker).values())
    # The worker starts after main began and ends before main does. Its driver measures its start, until
    # it hears of it; on a busy machine, the worker has begun to wait for its first job by then.
    assert sum(worker.values()) - worker["start"] <= sum(main.values())
    assert worker["decode"] > worker["read"]


def test_who_decodes_jpegs_is_told():
    auto, pillow = Profile(), Profile()
    measure(SHAPES, workers=1, profile=auto)
    measure(SHAPES, workers=1, profile=pillow, decoder="pillow")

    simplejpeg = pytest.importorskip("simplejpeg")
    assert f"simplejpeg {simplejpeg.__version__}" == auto.jpeg
    assert "Pillow: as requested" == pillow.jpeg


@pytest.mark.parametrize("decoder", ["auto", "pillow"])
@pytest.mark.parametrize("profile", [None, Profile()], ids=["plain", "profiled"])
def test_neither_the_decoder_nor_a_profile_changes_a_byte(decoder, profile):
    expected = text_of(measure(SHAPES, workers=1))

    assert expected == text_of(measure(SHAPES, workers=1, decoder=decoder, profile=profile))


def test_a_stopwatch_gives_each_step_what_passed_since_the_last():
    watch = Stopwatch()
    watch.lap("read")
    watch.lap("decode")
    watch.lap("read")
    first, second = watch.taken(), watch.taken()

    assert ["read", "decode"] == list(first.seconds)
    assert {} == second.seconds
    assert min(first.seconds.values()) >= 0
    assert first.cpu_s > second.cpu_s >= 0


def test_a_decoder_that_is_not_known_is_refused():
    with pytest.raises(
        ValueError, match=r"^decoder is 'dali'; expected one of auto, pillow, nvjpeg$"
    ):
        measure(SHAPES, decoder="dali")
