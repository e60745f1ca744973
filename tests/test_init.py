"""The public names: complete, loaded on first use, the same in whatever order they are used."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import imgnorm
from imgnorm import errors, nn

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "before",
    [
        "imgnorm.read_stats",
        "imgnorm.SkippedImagesWarning",
        "import imgnorm.measuring.measure",
        "from imgnorm.measuring.opening import open_source",
        "from imgnorm import cli; cli.run(['stats', 'examples/shapes', '-q'])",
    ],
)
def test_measure_is_the_function_whatever_was_used_before(before):
    """Python puts a module that it imports into its package, in the place of what has its name."""
    program = f"import imgnorm; {before}; print(imgnorm.measure('examples/shapes', limit=2).images)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert "" == done.stderr
    assert "2" == done.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", imgnorm.__all__)
def test_every_public_name_is_there(name):
    assert getattr(imgnorm, name) is not None
    assert name in dir(imgnorm)


@pytest.mark.parametrize("package", [imgnorm, nn])
def test_type_checkers_see_every_public_name(package):
    """They do not run `__getattr__`."""
    source = Path(str(package.__file__)).read_text(encoding="utf-8")
    seen = set(re.findall(r"^    from [\w.]+ import \w+ as (\w+)$", source, re.MULTILINE))

    assert set() == set(package.__all__) ^ (seen | ({"__version__"} & set(package.__all__)))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError) as caught:
        imgnorm.meassure  # noqa: B018 - looked up, not used

    assert "module 'imgnorm' has no attribute 'meassure'" == str(caught.value)


def public_things() -> dict[str, Any]:
    """What imgnorm, imgnorm.nn and imgnorm.errors say that they have: all else is private."""
    named = {f"imgnorm.{name}": getattr(imgnorm, name) for name in imgnorm.__all__}
    named |= {f"imgnorm.nn.{name}": getattr(nn, name) for name in nn.__all__}
    named |= {f"imgnorm.errors.{name}": getattr(errors, name) for name in errors.__all__}
    return {name: thing for name, thing in named.items() if callable(thing)}


# The example of Source defines a class that no worker can import, as a program or a notebook does.
@pytest.mark.filterwarnings("ignore:.*workers cannot have this:imgnorm.errors.SourceWarning")
@pytest.mark.parametrize("name", sorted(public_things()))
def test_every_public_name_has_an_example_that_runs(name, tmp_path, monkeypatch):
    """The examples find the folders examples/ and configs/ of the checkout, and may write files."""
    for folder in ("examples", "configs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    tests = doctest.DocTestFinder().find(public_things()[name], name, globs={"imgnorm": imgnorm})
    runner, told = doctest.DocTestRunner(), []
    attempted = [runner.run(test, out=told.append).attempted for test in sorted(tests)]

    assert attempted[0] > 0  # its own; those of its methods and properties follow
    assert not told, "".join(told)


def test_what_the_checks_return_is_plain_values_for_json(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = "Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))"
    Path("wrong.py").write_text(f"CIFAR10('data', transform={wrong})\n")
    Path("wrong.yaml").write_text("format: imgnorm-stats/1\nmean: [2]\nstd: [0.5]\n")
    stats = imgnorm.measure(ROOT / "examples" / "shapes")
    imgnorm.write_stats("stats.yaml", stats)
    found: list[Any] = [
        imgnorm.lint("wrong.py", fix=True),
        imgnorm.validate(["wrong.yaml", Path("stats.yaml")]),
        imgnorm.verify("stats.yaml", ROOT / "examples" / "shapes" / "circle"),
        imgnorm.explain("0.2023, 0.1994, 0.2010", mean=(0.4914, 0.4822, 0.4465)),
        imgnorm.emit(stats),
        *imgnorm.explain_file(Path("wrong.py"), stats="stats.yaml"),
    ]
    plain = [json.loads(json.dumps(one.to_dict())) for one in found]

    assert "known-wrong" == imgnorm.lint(Path("wrong.py")).to_dict()["problems"][0]["rule"]
    assert [("wrong.py", 1)] == [(fix["file"], fix["count"]) for fix in plain[0]["fixes"]]
    assert ["wrong.yaml", "stats.yaml"] == plain[1]["files"]
    assert plain[2]["stale"]
    assert "names" in {problem["rule"] for problem in plain[2]["problems"]}
    assert "cifar10-image-std-1" == plain[3]["answers"][0]["facts"]["preset"]
    assert found[4].text == plain[4]["text"]
    assert "wrong.py:1: " == plain[5]["where"]
