"""The house: three tiers, imports that never point up or in a circle, and nothing heavy too early."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "imgnorm"

PLAIN, PIXEL, TORCH, EDGE = range(4)
TIERS = {
    PLAIN: (
        "augmentations board calls cgroup choosing config cores document emit errors estimate estimatefile "
        "estimating explain factory finishing floats histogram image lint lint.data lint.pair lint.python measured "
        "memory merging moments nearest nursery output presets process products profile provenance pulse reasons "
        "rejects reports rules rules.numbers rules.order rules.portability rules.reading "
        "rules.rule rules.stats rules.structure rules.truth sampling scan silencing sources sources.archive "
        "sources.arrayfile sources.arrays sources.filelist sources.files sources.folder "
        "sources.layout sources.npy sources.numbered sources.patterns sources.rules sources.tape sources.tar sources.zip stats "
        "statsfaults statsfile statsmodel statstext table tally tray typed validate wire wording worker"
    ),
    PIXEL: (
        "arraycount count damage decode floatcount formats item_count items jpeg load pictures planes "
        "preprocess sender sources.iterables"
    ),
    TORCH: (
        "datasets gpu gpu_kernel gpu_tensors loaders nvjpeg nn nn.batches nn.calibration nn.folding nn.image_norm nn.input_norm "
        "nn.inspection nn.models nn.pooled nn.population torchvision_pair transforms trial"
    ),
    EDGE: (
        "__init__ __main__ cli cli_bn cli_checks cli_numbers cli_options counting differences listings "
        "measurement opening recount spotcheck terminal verification"
    ),
}
TIER_OF = {module: tier for tier, modules in TIERS.items() for module in modules.split()}
THIRD_PARTY = {
    PLAIN: {"yaml", "pydantic"},
    PIXEL: {"numpy", "PIL", "simplejpeg"},
    TORCH: {"torch", "torchvision", "torchcodec", "triton"},
    EDGE: {"click", "tqdm"},
}
# A worker loads the pixel tier when it starts to count: the only steps up, made at run time.
STEPS_UP = {("worker", step) for step in ("arraycount", "count", "decode", "jpeg", "planes")}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


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
            names.add(node.module or "")
    return names


def own(name: str) -> str:
    return name.removeprefix("imgnorm").removeprefix(".") or "__init__"


def test_every_module_has_its_tier():
    assert sorted(TIER_OF) == sorted(modules())


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_never_point_up(module):
    up = [
        own(name)
        for name in imports(modules()[module])
        if name.split(".")[0] == "imgnorm"
        and TIER_OF[own(name)] > TIER_OF[module]
        and (module, own(name)) not in STEPS_UP
        and own(name) != "__init__"  # the version: a line, no import
    ]

    assert up == []


@pytest.mark.parametrize("module", sorted(modules()))
def test_packages_are_met_in_their_tier_or_above(module):
    allowed = set().union(*(THIRD_PARTY[tier] for tier in range(TIER_OF[module] + 1)))
    known = set().union(*THIRD_PARTY.values())
    top = {name.split(".")[0] for name in imports(modules()[module])}
    foreign = top - set(sys.stdlib_module_names) - {"imgnorm"}

    assert set() == foreign - allowed
    assert foreign <= known


def test_imports_make_no_circle():
    graph = {
        module: {own(n) for n in imports(path) if n.split(".")[0] == "imgnorm"} - {"__init__"}
        for module, path in modules().items()
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above, module])
        if module not in done:
            for below in sorted(graph[module]):
                visit(below, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def loaded_after(program: str) -> set[str]:
    """Which of the heavy packages a fresh Python has loaded after running `program`."""
    report = "import sys; print(*({'torch', 'torchvision', 'numpy', 'PIL', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_imgnorm_loads_nothing():
    assert loaded_after("import imgnorm; imgnorm.__version__") == set()


def test_measuring_a_folder_loads_neither_torch_nor_numpy_nor_pillow_in_this_process():
    program = "import imgnorm; imgnorm.measure('examples/shapes', workers=1)"

    assert loaded_after(program) == set()


def test_measuring_an_archive_loads_neither_torch_nor_numpy_nor_pillow_in_this_process(tmp_path):
    path = shutil.make_archive(str(tmp_path / "shapes"), "tar", ROOT / "examples" / "shapes")
    program = f"import imgnorm; imgnorm.measure({path!r}, workers=1)"

    assert loaded_after(program) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["stats", "--help"], ["bn", "--help"]])
def test_asking_for_help_loads_nothing(arguments):
    assert loaded_after(f"from imgnorm.cli import run; run({arguments})") == set()


def test_a_worker_never_loads_torch():
    assert loaded_after("import imgnorm.workers.worker, imgnorm.pixels.count") == {"numpy", "PIL"}


def test_reading_a_stats_file_loads_neither_torch_nor_numpy_nor_pillow(tmp_path):
    path = tmp_path / "stats.yaml"
    path.write_text("format: imgnorm-stats/1\nmean: [0.5]\nstd: [0.25]\n")
    program = f"import imgnorm; imgnorm.read_stats({str(path)!r})"

    assert loaded_after(program) == {"pydantic"}


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

    assert loaded_after(program) == set()


def test_rules_and_presets_take_the_standard_library_only():
    """They are the part that others build upon."""
    for module in ("presets", "rules", "rules.numbers", "rules.reading", "rules.rule"):
        top = {name.split(".")[0] for name in imports(modules()[module])}

        assert top <= set(sys.stdlib_module_names) | {"imgnorm"}


def test_checking_configs_loads_neither_torch_nor_numpy_nor_pillow():
    program = "import imgnorm.checks.validate; imgnorm.checks.validate.validate(['configs'])"

    assert loaded_after(program) == {"pydantic"}


def test_a_test_module_is_named_after_what_it_tests():
    """tests/test_x.py tests imgnorm/x.py; the others are about the whole."""
    whole = {
        "ci",
        "docs",
        "examples",
        "gpu_check",
        "house",
        "init",
        "merge",
        "readme",
        "scripts",
        "wheel",
    }
    named = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    named = {name for name in named if not name.startswith("faults_")}
    flat = {module.replace(".", "_").removeprefix("sources_") for module in modules()}

    assert named - flat <= whole
