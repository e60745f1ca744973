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
    picture = 'alt="b/3.png"'

    assert picture in Path("report.html").read_text()
    command("report", "s.yaml", "--force", "--no-thumbnails")
    assert picture not in Path("report.html").read_text()
    assert "1 image is almost black (b/3.png)" in Path("report.html").read_text()
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


def test_a_report_has_a_name_of_its_kind_and_does_not_depend_on_that_of_the_stats(command, whole):
    command("stats", "d", "-o", "s.yaml", "--per-image", "i.csv", "--report", "a.html")
    Path("s.yaml").rename("other name.yaml")
    command("report", "other name.yaml", "-o", "b.HTM")
    table = Path("i.csv").read_bytes()

    assert Path("a.html").read_bytes() == Path("b.HTM").read_bytes()
    for arguments in (
        ("report", "other name.yaml", "-o", "i.csv", "--force"),
        ("stats", "d", "--report", "i.csv", "--force"),
    ):
        assert Ended(2, "", "i.csv: a report is an .html file; name one\n") == command(*arguments)
    said = (
        "i.csv: exists already, and is a table of images; replace it with --force --force, or name "
        "another file\n"
    )
    assert Ended(2, "", said) == command("stats", "d", "-o", "i.csv", "--force")
    assert table == Path("i.csv").read_bytes()
    assert 0 == command("stats", "d", "--per-image", "i.csv", "--force", "-q").code


def test_a_file_that_is_another_result_is_called_by_its_name(command, whole):
    command("stats", "d", "--per-image", "i.csv", "--report", "a.html")
    for name, what in (("i.csv", "a table of images"), ("a.html", "a report")):
        said = f"{name}: is {what}, not a stats file; name the stats file\n"

        assert Ended(2, "", said) == command("report", name, "-o", "b.html")


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
