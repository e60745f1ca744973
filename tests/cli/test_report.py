"""`imgnorm report`, and `imgnorm stats --report`."""

from __future__ import annotations

from pathlib import Path

from commands import Ended


def test_a_report_is_the_same_from_the_images_and_from_the_file(command, whole):
    command("stats", "d", "-o", "s.yaml", "--report", "a.html")
    done = command("report", "s.yaml", "-o", "b.html")

    assert Ended(0, "", "wrote    b.html\n") == done
    assert Path("a.html").read_bytes() == Path("b.html").read_bytes()


def test_thumbnails_are_shown_where_the_images_are_unless_they_are_unwanted(command, whole):
    command("stats", "d", "-o", "s.yaml", "--report", "report.html")
    picture = 'alt="a/1.png"'

    assert picture in Path("report.html").read_text()
    command("report", "s.yaml", "--force", "--no-thumbnails")
    assert picture not in Path("report.html").read_text()
    assert (
        "3 images are of one color (a/1.png, a/2.png, b/3.png)" in Path("report.html").read_text()
    )
    command("report", "s.yaml", "--force")
    assert picture in Path("report.html").read_text()
    Path("d").rename("elsewhere")
    command("report", "s.yaml", "--force")
    assert picture not in Path("report.html").read_text()


def test_a_report_replaces_nothing_without_force(command, whole):
    command("stats", "d", "-o", "s.yaml")
    command("report", "s.yaml")
    said = "report.html: exists already; replace it with --force, or name another file\n"

    assert Ended(2, "", said) == command("report", "s.yaml")
    assert 0 == command("report", "s.yaml", "--force").code


def test_what_cannot_be_reported_is_one_sentence(command, whole):
    Path("c.yaml").write_text("format: imgnorm-stats/1\nmean: [0.5]\nstd: [0.25]\n")
    said = command("report", "c.yaml")

    assert (
        Ended(
            2,
            "",
            "c.yaml: constants, written by hand, say nothing about images; measure the images with `imgnorm "
            "stats`, and report that\n",
        )
        == said
    )


def test_files_that_are_the_same_are_refused_before_the_images_are_read(command, whole):
    said = command("stats", "d", "-o", "s.yaml", "--report", "./s.yaml")

    assert (2, "") == (said.code, said.out)
    assert said.err.startswith("-o and --report name the same file; give each its own")
