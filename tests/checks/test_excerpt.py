"""The line that a problem is about: any line of any file, in any width."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from imgnorm.checks.excerpt import excerpt, text_lines
from imgnorm.wording import cells


def test_the_mark_is_below_the_word_the_list_or_the_string():
    line = "std: [0.5, 0.25]  # 'a b' 0.5"

    assert ["  1 | std: [0.5, 0.25]  # 'a b' 0.5", "    |      ^^^^^^^^^^^"] == excerpt(
        [line], 1, 6, 80
    )
    assert "    | ^^^" == excerpt([line], 1, 1, 80)[1]
    assert "    |                     ^^^^^" == excerpt([line], 1, 21, 80)[1]
    assert "    |                           ^^^" == excerpt([line], 1, 27, 80)[1]


def test_tabs_wide_letters_and_commands_to_a_terminal_keep_the_mark_in_its_place():
    assert ["  1 |     x: 1", "    |     ^"] == excerpt(["\tx: 1"], 1, 2, 80)
    assert ["  1 | 平均: 1", "    |       ^"] == excerpt(["平均: 1"], 1, 5, 80)
    assert ["  1 | \\x1b[31m: 1", "    |           ^"] == excerpt(["\x1b[31m: 1"], 1, 8, 80)


def test_a_place_that_is_not_there_shows_nothing():
    for line, column in ((0, 1), (2, 1), (1, 0), (1, 5)):
        assert [] == excerpt(["abcd"], line, column, 80)


@given(st.text(), st.integers(1, 400), st.integers(40, 200))
def test_any_line_fits_and_the_mark_is_below_it(text, column, columns):
    text = (text * 20)[:400]
    shown = excerpt([text], 1, column, columns)

    assert bool(shown) == (column <= len(text))
    for line in shown:
        assert cells(line) <= columns
        assert line.isprintable()
    if shown:
        assert shown[1].endswith("^")


def test_what_is_no_text_has_no_lines(tmp_path):
    (tmp_path / "binary").write_bytes(b"a\0b")
    (tmp_path / "text").write_bytes("\ufeffa\r\nb\rc\n\xe9".encode() + b"\xff")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo")

    assert ["a", "b", "c", "é\ufffd"] == [*text_lines(str(tmp_path / "text"))]
    for name in ("binary", "missing", "fifo", ".", "no\0name"):
        assert [] == [*text_lines(str(tmp_path / name))]
