"""What a terminal shows, and that nothing else changes: width, colors, severities, the command as typed."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from imgnorm import measure
from imgnorm.cli import run
from imgnorm.cli.screen import columns_of, has_colors, laid_out
from imgnorm.stats.table import table
from imgnorm.wording import cells

SHAPES = Path(__file__).parents[2] / "examples" / "shapes"
ESCAPES = re.compile(r"\x1b\[[\d;]*m")


class Terminal(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        self.seek(0)
        return self.read()


@pytest.fixture
def looked_at(monkeypatch):
    """The code and what is on a terminal of so many columns after a command."""
    for name in ("NO_COLOR", "FORCE_COLOR", "CI", "IMGNORM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def run_there(columns: int, *arguments: str) -> tuple[int, str]:
        screen = Terminal()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLUMNS", str(columns))
            patch.setattr(sys, "stdout", screen)
            patch.setattr(sys, "stderr", screen)
            code = run(arguments)
        return code, screen.text()

    return run_there


def test_colors_are_for_terminals_that_nobody_logs(monkeypatch):
    def colored(stream: io.TextIOBase, **variables: str) -> bool:
        with monkeypatch.context() as patch:
            for name in ("NO_COLOR", "FORCE_COLOR", "CI"):
                patch.delenv(name, raising=False)
            patch.setenv("TERM", "xterm")
            for name, value in variables.items():
                patch.setenv(name, value)
            return has_colors(stream)

    assert colored(Terminal())
    assert not colored(io.StringIO())
    assert not colored(Terminal(), NO_COLOR="1")
    assert not colored(Terminal(), NO_COLOR="1", FORCE_COLOR="1")
    assert not colored(Terminal(), TERM="dumb")
    assert not colored(Terminal(), CI="true")
    assert colored(Terminal(), CI="true", FORCE_COLOR="1")
    assert colored(io.StringIO(), FORCE_COLOR="1")


def test_only_a_terminal_has_a_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")

    assert columns_of(io.StringIO()) is None
    assert columns_of(None) is None
    assert 100 == columns_of(Terminal())
    monkeypatch.setenv("COLUMNS", "7")
    assert 20 == columns_of(Terminal())
    monkeypatch.setenv("COLUMNS", "wide")
    assert 80 == columns_of(Terminal())


def test_every_text_fits_the_terminal_and_has_the_words_of_a_pipe(looked_at, command, whole):
    Path("long.py").write_text(
        f"std = {' ' * 300}Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))\n"
    )
    for arguments in (
        ["stats", "d", "-q", "-v"],
        ["presets"],
        ["presets", "show", "cifar10"],
        ["explain", "0.2023", "0.1994", "0.2010"],
        ["stats"],
        ["show", "nowhere.yaml"],
        ["lint", "long.py"],
    ):
        code, text = looked_at(80, *arguments)
        plain = ESCAPES.sub("", text)
        ended = command(*arguments)

        assert ended.code == code
        assert "\x1b[" in text
        assert "\x1b[" not in ended.out + ended.err
        assert [] == [line for line in plain.splitlines() if cells(line) > 80], arguments
        if arguments[0] not in ("lint", "presets"):  # which show more, and less
            assert (ended.out + ended.err).split() == plain.split()


def test_a_narrow_terminal_has_a_shorter_histogram_or_none(looked_at, whole):
    for columns, bins in ((80, 32), (50, 16), (40, 8), (30, None), (20, None)):
        _, text = looked_at(columns, "stats", "d", "-q")
        title, *_ = ESCAPES.sub("", text).splitlines()

        assert (bins is not None) == ("histogram" in title), columns
        if bins is not None:
            assert max(map(cells, text.split("\n\n")[0].splitlines()[1:])) <= columns
    # what is drawn is the same histogram, in fewer bins
    stats = measure(SHAPES)
    for columns, bins in ((None, 32), (61, 32), (60, 16), (45, 16), (44, 8)):
        drawn = table(stats, columns=columns).splitlines()[1][29:]
        counts = stats.measurement.histogram.rebinned(bins)[0]

        assert [bool(count) for count in counts] == [c != " " for c in drawn.ljust(bins)]


def test_a_problem_is_shown_with_its_severity_and_its_line(
    looked_at, command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(
        "format: imgnorm-pipeline/1\nsource: {kind: foldr, path: d}\nnormalize: {preset: cifar10}\n"
    )
    code, text = looked_at(80, "validate", "c.yaml", "-q")

    assert 1 == code
    assert ESCAPES.sub("", text) == (
        "c.yaml:2:16: error[wrong-value]: source.kind: expected one of 'folder', 'list',\n"
        "    'archive', 'array', 'torchvision'; got 'foldr'\n"
        "  2 | source: {kind: foldr, path: d}\n"
        "    |                ^^^^^\n"
        "    did you mean 'folder'?\n"
    )
    assert "\x1b[1mc.yaml:2:16\x1b[0m: \x1b[31merror[wrong-value]:\x1b[0m" in text
    assert command("validate", "c.yaml", "-q").out == (
        "c.yaml:2:16: error[wrong-value]: source.kind: expected one of 'folder', 'list', 'archive', 'array', "
        "'torchvision'; got 'foldr'\n    did you mean 'folder'?\n"
    )


def test_a_file_that_a_command_wants_to_read_is_shown_where_it_is_wrong(
    looked_at, command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text("format: imgnorm-stats/1\nmean: [0.5, x]\nstd: [0.2, 0.2]\n")
    code, text = looked_at(80, "show", "s.yaml")

    assert 2 == code
    assert ESCAPES.sub("", text) == (
        "s.yaml:2:13: error[wrong-type]: mean[1]: expected a number; got 'x' (text)\n"
        "  2 | mean: [0.5, x]\n"
        "    |             ^\n"
    )
    assert (
        command("show", "s.yaml").err == "s.yaml:2:13: mean[1]: expected a number; got 'x' (text)\n"
    )


def test_the_next_step_is_for_who_looks(looked_at, command, whole):
    _, measured = looked_at(80, "stats", "d")
    _, written = looked_at(80, "stats", "d", "-o", "s.yaml")

    assert "`-o stats.yaml` keeps these numbers" in measured
    assert "`imgnorm emit s.yaml -o transforms.py` writes the transforms" in written
    assert "next" not in command("stats", "d").err


def test_the_next_step_is_one_that_works(looked_at, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.arange(48, dtype=np.float32).reshape(4, 2, 2, 3)
    np.save("flat.npy", np.full((4, 2, 2, 3), 7, np.uint8))
    np.save("normalized.npy", rows / 24 - 1)
    np.save("plain.npy", rows.astype(np.uint8))

    def next_of(*arguments: str) -> str:
        code, text = looked_at(200, "stats", "--layout", "NHWC", *arguments)
        assert 0 == code
        return "".join(re.findall(r"next +(.*)", ESCAPES.sub("", text)))

    assert "`imgnorm emit s.yaml -o transforms.py`" in next_of("plain.npy", "-o", "s.yaml")
    assert (
        next_of("plain.npy", "--shard", "1/2", "-o", "p1.yaml")
        == "`imgnorm merge` adds the stats files of all parts up"
    )
    assert next_of("plain.npy", "--shard", "1/2").endswith("for `imgnorm merge`")
    for name in ("flat", "normalized"):
        assert not next_of(f"{name}.npy", "-o", f"{name}.yaml")
        assert "emit" not in next_of(f"{name}.npy")


def test_labels_of_eight_letters_are_labels(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for label, code in (("outliers", 33), ("smallest", 2), ("estimate", 2), ("verified", 2)):
        first, second = laid_out(
            f"{label} 1 image is of one color (0); look at it", Terminal()
        ).split("\n")

        assert first.startswith(f"\x1b[{code}m{label} \x1b[0m1 image")
        assert second.startswith(" " * 9)
        assert second[9] != " "


def test_hints_have_the_command_as_it_was_typed(command, monkeypatch):
    monkeypatch.setenv("IMGNORM_PROGRAM", "./scripts/imgnorm")

    assert "(see `./scripts/imgnorm stats --help`)" in command("stats").err
    assert "Usage: ./scripts/imgnorm stats " in command("stats", "--help").out
    assert "`./scripts/imgnorm presets` lists them" in command("presets", "show", "qqqq").err


def test_the_table_of_targets_breaks_its_last_column(looked_at):
    _, whole = looked_at(200, "emit", "--to")
    _, broken = looked_at(90, "emit", "--to")
    first, *rows = broken.rstrip("\n").split("\n")
    start = first.index("what it holds")

    assert max(map(len, rows)) <= 90 < max(map(len, whole.split("\n")))
    assert whole.split() == broken.split()
    assert {" " * start} == {row[:start] for row in rows if row.startswith(" ")}
