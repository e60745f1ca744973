"""What lint finds in packages of others: exactly the findings that were judged, and few false ones."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from imgnorm.checks.lint.lint import lint

JUDGED = json.loads(Path(__file__).with_name("packages.json").read_text(encoding="utf-8"))
"""Packages with the version that was looked at. Each error and warning in them has the verdicts of two readers
who did not see each other's: true (right, and worth acting on), true-no-action, or false."""


def test_no_reader_calls_a_finding_false_and_most_are_worth_acting_on():
    verdicts = [finding["verdicts"] for finding in JUDGED["findings"]]

    assert len(JUDGED["packages"]) >= 20
    assert not [given for given in verdicts if "false" in given]
    assert sum(first == "true" for first, _ in verdicts) >= 0.95 * len(verdicts)
    assert sum(second == "true" for _, second in verdicts) >= 0.8 * len(verdicts)


@pytest.mark.heavy
@pytest.mark.parametrize("package", JUDGED["packages"])
def test_a_package_gives_the_findings_that_were_judged(package, tmp_path):
    version = JUDGED["packages"][package]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(tmp_path), f"{package}=={version}"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip(f"{package} {version} cannot be downloaded")
    (wheel,) = tmp_path.glob("*.whl")
    root = tmp_path / "package"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(root)
    found = {
        (Path(file).relative_to(root).as_posix(), line, problem.rule)
        for problem in lint([str(root)]).problems
        if problem.severity != "info"
        for file, line, _ in ((problem.file, problem.line, problem.column), *problem.also)
    }
    judged = {
        (finding["file"], finding["line"], finding["rule"])
        for finding in JUDGED["findings"]
        if finding["package"] == package
    }

    assert judged == found
