"""Ready for CI: the pre-commit hook and the GitHub action do what they say."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CASES = ROOT / "tests" / "cases"
TAKEN = (
    "imgnorm: the name belongs to another project on the package index; choose another one for "
    "`name` in pyproject.toml, the only place that has it"
)
HERE = f"{shlex.quote(sys.executable)} -m imgnorm"


def loaded(name: str):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


WRONG_CODE = "MEAN = (0.4914, 0.4822, 0.4465)\nSTD = (0.2023, 0.1994, 0.2010)\n"


@pytest.mark.skipif(shutil.which("git") is None, reason="pre-commit works on git repositories")
@pytest.mark.parametrize(
    ("hook_id", "file", "wrong", "right", "told"),
    [
        (
            "imgnorm-validate",
            "pipeline.yaml",
            (CASES / "invalid" / "duplicate-key.yaml").read_text(),
            (CASES / "valid" / "plainest.yaml").read_text(),
            (
                "pipeline.yaml:3:20: error[duplicate-key]: image.mode: given again (first on line 3)\n"
                "    keep one\n"
            ),
        ),
        (
            "imgnorm-lint",
            "train.py",
            WRONG_CODE,
            WRONG_CODE.replace("0.2023, 0.1994, 0.2010", "0.2470, 0.2435, 0.2616"),
            (
                "train.py:2:7: error[known-wrong]: std: 0.2023, 0.1994, 0.2010 is a wrong std of CIFAR-10, "
                "train, 18 to 23 % too small: the average of per-image stds from torch.std; "
            ),
        ),
    ],
    ids=["validate", "lint"],
)
def test_a_hook_fails_a_commit_and_lets_the_mended_one_pass(
    tmp_path, hook_id, file, wrong, right, told
):
    """The hook that ships, as a local one in the language of the machine: no network is needed."""
    (hook,) = [h for h in loaded(".pre-commit-hooks.yaml") if h["id"] == hook_id]
    hook |= {"language": "system", "entry": hook["entry"].replace("python -I -m imgnorm", HERE, 1)}
    config = {"repos": [{"repo": "local", "hooks": [hook]}]}
    (tmp_path / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / file).write_text(wrong)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        variables = {
            "HOME": str(tmp_path / "home"),
            "PRE_COMMIT_HOME": str(tmp_path / "home" / "pre-commit"),
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True
        )

    assert 0 == run("git", "init", "--quiet").returncode
    assert 0 == run("git", "add", ".").returncode
    failed = run(sys.executable, "-m", "pre_commit", "run")
    (tmp_path / file).write_text(right)
    run("git", "add", ".")
    passed = run(sys.executable, "-m", "pre_commit", "run")

    assert 1 == failed.returncode, failed.stderr
    assert hook["name"] in failed.stdout
    assert told in failed.stdout
    assert 0 == passed.returncode, passed.stdout + passed.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the action's shell is bash")
def test_the_action_annotates_and_fails():
    *_, step = loaded("action.yml")["runs"]["steps"]
    command = step["run"].replace("python -I -m imgnorm", HERE, 1)
    assert {"PATHS", "OPTIONS"} == set(step["env"])

    def run(paths: str, options: str) -> subprocess.CompletedProcess[str]:
        variables = {"PATHS": paths, "OPTIONS": options, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=CASES,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
        )

    warned = run("valid invalid/channel-order.yaml", "")
    strict = run("valid invalid/channel-order.yaml", "--strict")

    assert (0, 1) == (warned.returncode, strict.returncode)
    assert strict.stdout.startswith(
        "::warning file=invalid/channel-order.yaml,line=3,col=19,title="
    )


def test_checking_needs_only_what_the_action_installs():
    program = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['torch', 'torchvision', 'numpy', 'PIL', 'tqdm'])\n"
        "from imgnorm.cli import run\n"
        "sys.exit(run(['validate', 'configs']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert 0 == done.returncode, done.stderr


@pytest.fixture(scope="module")
def check_name():
    """scripts/check_name, which the publishing workflow runs first."""
    loader = SourceFileLoader("check_name", str(ROOT / "scripts" / "check_name"))
    spec = importlib.util.spec_from_loader("check_name", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.version_info < (3, 11), reason="check_name reads pyproject with tomllib")
@pytest.mark.parametrize(
    ("known", "summary", "expected"),
    [
        ({"pip"}, None, (0, "imgnorm: the name is free")),
        (set(), None, (2, "imgnorm: the package index does not answer; try again later")),
        ({"pip", "imgnorm"}, "Exact", (0, "imgnorm: the name is ours")),
        ({"pip", "imgnorm"}, "Resizing", (1, TAKEN)),
        ({"pip", "imgnorm"}, None, (1, TAKEN)),  # no wheel to look into
    ],
)
def test_a_name_of_another_project_is_not_published(check_name, known, summary, expected):
    def pip(*arguments: str) -> bool:
        if arguments[0] == "download" and summary:
            path = Path(arguments[arguments.index("--dest") + 1], "imgnorm-1.whl")
            with zipfile.ZipFile(path, "w") as wheel:
                wheel.writestr(
                    "imgnorm-1.dist-info/METADATA", f"Name: imgnorm\nSummary: {summary}\n"
                )
        return bool(summary) if arguments[0] == "download" else arguments[-1] in known

    assert expected == check_name.verdict("imgnorm", "Exact", pip)


def test_publishing_waits_for_the_name_the_build_and_the_trial():
    workflow = loaded(".github/workflows/publish.yml")
    needs = {job: content.get("needs") for job, content in workflow["jobs"].items()}
    systems = workflow["jobs"]["try"]["strategy"]["matrix"]["os"]
    (*_, refusal) = workflow["jobs"]["name"]["steps"]

    assert {"name": None, "build": "name", "try": "build", "publish": "try"} == needs
    assert ["ubuntu-latest", "macos-latest", "windows-latest"] == systems
    assert "python scripts/check_name" == refusal["run"]
    assert ["v*"] == workflow[True]["push"]["tags"]  # `on` is true to YAML 1.1
