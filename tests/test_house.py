"""The house: a folder is a subject, imports point to the left, and nothing heavy loads too early."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "imgnorm"

ARCHITECTURE = ROOT / "docs" / "architecture.md"
GROUND = ("_torch", "errors", "machine", "output", "progress", "settings", "wording")
ENTRANCES = ("__init__", "__main__")


def rule() -> dict[str, set[str]]:
    """Packages from left to right, and modules with a row of their own: which third parties they load.

    The one list: the table of docs/architecture.md.
    """
    text = ARCHITECTURE.read_text(encoding="utf-8").split("## The import rule")[1]
    rows = re.findall(r"^\| `?([\w.]+)`? \| .* \|(.*)\|$", text.split("\n## ")[0], re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", third)) for name, third in rows[1:]}


THIRD_PARTIES = rule()
PACKAGES = tuple(
    name for name in THIRD_PARTIES if "." not in name and name not in ("ground", "entrances")
)
HEAVY = {"torch", "torchvision", "numpy", "PIL", "yaml", "click", "tqdm"}


def modules() -> dict[str, Path]:
    """Every module by its name below imgnorm: `pixels.decode`; a package's own file is `pixels`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """The absolute names of all modules that a file imports when it runs, in functions too."""
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {_module_of(node.module or "", alias.name) for alias in node.names}
    return names


def _module_of(module: str, name: str) -> str:
    """`from imgnorm.pixels import jpeg` imports a module, `from imgnorm.pixels.jpeg import x` too."""
    whole = f"{module}.{name}"
    return whole if whole.removeprefix("imgnorm.") in MODULES else module


def own_imports(module: str) -> set[str]:
    """Which modules of imgnorm a module imports. `import imgnorm`, for its version, loads none."""
    below = {name for name in imports(MODULES[module]) if name.startswith("imgnorm.")}
    return {name.removeprefix("imgnorm.") for name in below}


def place_of(module: str) -> int:
    """Where a module stands in the rule: imports never point to a higher place."""
    first = module.split(".")[0]
    if first in GROUND:
        return 0
    return 1 + (*PACKAGES, *ENTRANCES).index(first)


def test_every_module_has_its_place():
    """A folder is a subject: what lies beside the packages is the ground and the entrances alone."""
    beside = {name for name, path in MODULES.items() if path.parent == PACKAGE}
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}

    assert {*GROUND, *ENTRANCES} == beside
    assert set(PACKAGES) == folders


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_never_point_to_the_right(module):
    to_the_right = {name for name in own_imports(module) if place_of(name) > place_of(module)}

    assert set() == to_the_right


@pytest.mark.parametrize("module", sorted(MODULES))
def test_third_parties_are_loaded_where_the_table_says(module):
    allowed = THIRD_PARTIES.get(module.split(".")[0], set()) | THIRD_PARTIES.get(module, set())
    top = {name.split(".")[0] for name in imports(MODULES[module])}

    assert set() == top - set(sys.stdlib_module_names) - {"imgnorm"} - allowed


def test_the_table_of_third_parties_has_no_row_too_many():
    """What nobody loads any more is no permission to keep."""
    for row, allowed in THIRD_PARTIES.items():
        inside = [name for name in MODULES if f"{name}.".startswith(f"{row}.")]
        loaded = {name.split(".")[0] for module in inside for name in imports(MODULES[module])}

        assert set() == allowed - loaded, row


def test_imports_make_no_circle():
    graph = {module: own_imports(module) for module in MODULES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above, module])
        if module not in done:
            for below in sorted(graph[module]):
                visit(below, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_begins_with_its_readme(package):
    """8 to 25 lines: what lives there, the way of the data, what it imports, where to add to it."""
    readme = ast.get_docstring(ast.parse((PACKAGE / package / "__init__.py").read_text("utf-8")))

    assert readme is not None
    assert 8 <= len(readme.splitlines()) <= 25


def test_no_two_things_share_a_name():
    """A name means one thing everywhere: classes, functions and constants.

    Not counted: a command of the CLI, which is called as the function that it calls; RULES, which
    every family of rules has; and what a module keeps for itself, but for classes.
    """
    homes: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for name in _names_of(node):
                private = name.startswith("_") and not isinstance(node, ast.ClassDef)
                if not private and not module.startswith("cli") and name != "RULES":
                    homes.setdefault(name, []).append(module)

    assert {} == {name: places for name, places in homes.items() if len(places) > 1}


def _names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def loaded_after(program: str) -> set[str]:
    """Which of the heavy packages a fresh Python has loaded after running `program`."""
    report = f"import sys; print(*({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_imgnorm_loads_nothing():
    assert set() == loaded_after("import imgnorm; imgnorm.__version__")


def test_measuring_a_folder_loads_neither_torch_nor_numpy_nor_pillow_in_this_process():
    program = "import imgnorm; imgnorm.measure('examples/shapes', workers=1)"

    assert set() == loaded_after(program)


def test_measuring_an_archive_loads_neither_torch_nor_numpy_nor_pillow_in_this_process(tmp_path):
    path = shutil.make_archive(str(tmp_path / "shapes"), "tar", ROOT / "examples" / "shapes")
    program = f"import imgnorm; imgnorm.measure({path!r}, workers=1)"

    assert set() == loaded_after(program)


@pytest.mark.parametrize("arguments", [["--help"], ["stats", "--help"], ["bn", "--help"]])
def test_asking_for_help_loads_nothing(arguments):
    assert {"click"} == loaded_after(f"from imgnorm.cli import run; run({arguments})")


def test_a_worker_never_loads_torch():
    program = "import imgnorm.workers.worker, imgnorm.pixels.count"

    assert {"numpy", "PIL"} == loaded_after(program)


def test_reading_a_stats_file_loads_neither_torch_nor_numpy_nor_pillow(tmp_path):
    path = tmp_path / "stats.yaml"
    path.write_text("format: imgnorm-stats/1\nmean: [0.5]\nstd: [0.25]\n")
    program = f"import imgnorm; imgnorm.read_stats({str(path)!r})"

    assert {"yaml"} == loaded_after(program)


@pytest.mark.parametrize(
    "arguments",
    [
        ["presets"],
        ["presets", "show", "cifar10"],
        ["explain", "0.2023", "0.1994", "0.2010"],
        ["lint", "-q", "imgnorm"],
    ],
)
def test_checking_numbers_loads_nothing_heavy(arguments):
    program = f"from imgnorm.cli import run; run({arguments!r})"

    assert loaded_after(program) <= {"click", "yaml"}


def test_rules_and_presets_take_the_standard_library_only():
    """They are the part that others build upon."""
    rules = ("constants.findings", "documents.rules", "stats.faults")
    for module in ("constants.presets", "errors", *rules):
        top = {name.split(".")[0] for name in imports(MODULES[module])}

        assert top <= set(sys.stdlib_module_names) | {"imgnorm"}


def test_checking_configs_loads_neither_torch_nor_numpy_nor_pillow():
    program = "import imgnorm.checks.validate as v; v.validate(['configs'])"

    assert {"yaml"} == loaded_after(program)


def test_tests_lie_as_the_packages_do():
    """tests/pixels/test_jpeg.py tests imgnorm/pixels/jpeg.py; at the top are those about the whole."""
    whole = {
        "browser",
        "checks.lint.packages",
        "ci",
        "damage_sweep",
        "docs",
        "light",
        "examples",
        "families",
        "gpu_check",
        "house",
        "init",
        "readme",
        "recipes",
        "roads",
        "scale",
        "scripts",
        "wheel",
    }
    tests = ROOT / "tests"
    strays = [
        str(path.relative_to(tests))
        for path in sorted(tests.rglob("test_*.py"))
        if path.parent != tests / "faults"
        and ".".join([*path.relative_to(tests).parts[:-1], path.stem.removeprefix("test_")])
        not in {*MODULES, *whole}
    ]

    assert [] == strays
