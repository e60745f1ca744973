"""How messages show values, names and exceptions."""

from __future__ import annotations

import pytest

from imgnorm.wording import clause, cut, describe, headline, nearest, printable

LONG = "x" * 301


@pytest.mark.parametrize(("length", "expected"), [(60, "x" * 60), (61, "x" * 59 + "…")])
def test_what_is_long_is_cut_to_sixty_characters(length, expected):
    assert expected == cut("x" * length)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("äöü 'a\\b'", "äöü 'a\\b'"),
        ("ä\n\t\x1b\u2028\udc80\ud800", "ä\\n\\t\\x1b\\u2028\\x80\\ud800"),
    ],
)
def test_only_what_cannot_be_printed_is_escaped(text, expected):
    assert expected == printable(text)


@pytest.mark.parametrize(
    ("error", "of_clause", "of_describe", "of_headline"),
    [
        (OSError("no\n  such\tdisk."), "no such disk.", "OSError: no such disk.", "no"),
        (
            RuntimeError("CUDA error.\nSet X=1"),
            "CUDA error. Set X=1",
            "RuntimeError: CUDA error. Set X=1",
            "CUDA error",
        ),
        (KeyError(), "KeyError", "KeyError", "KeyError"),
        (ValueError("\x1b[2J"), "\\x1b[2J", "ValueError: \\x1b[2J", "\\x1b[2J"),
        (ValueError(LONG), LONG[:299] + "…", f"ValueError: {LONG[:299]}…", LONG[:299] + "…"),
    ],
)
def test_an_exception_is_one_line_of_at_most_300_characters(
    error, of_clause, of_describe, of_headline
):
    assert of_clause == clause(error)
    assert of_describe == describe(error)
    assert of_headline == headline(error)


KNOWN = ("RandomHorizontalFlip", "RandomVerticalFlip", "Resize", "center_crop")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("RandomHorizontallFlip", ["RandomHorizontalFlip"]),
        ("resise", ["Resize"]),
        ("Center-Crop", ["center_crop"]),
        ("xyz", []),
        ("", []),
    ],
)
def test_the_nearest_name_is_found(word, meant):
    assert meant == nearest(word, KNOWN)


def test_a_name_that_differs_in_case_and_dashes_only_is_alone():
    assert ["cifar-10"] == nearest("CIFAR_10", ["cifar-100", "cifar-10", "cifar-11"], at_most=3)


def test_several_come_the_nearest_first():
    assert ["cifar-10", "cifar-100"] == nearest("cifar-1", ["cifar-100", "cifar-10"], at_most=3)
