"""The environment that scripts/ run in: `.venv` of the checkout, or the folder in IMGNORM_VENV.

It holds the packages that pyproject.toml asks for, in the versions of constraints.txt, and a digest
of both files: while it fits, nothing is installed. The checkout's own code comes first on the path,
so that several checkouts may use one environment.

Run as a program, by the environment's Python, it runs imgnorm and installs torch when imgnorm first
imports it. Old Pythons must be able to read this file, hence the quoted annotations.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 10)
DIGEST = "imgnorm-digest.txt"


def set_up(*extras: str) -> Path:
    """The Python of an environment with these extras of pyproject.toml, made or updated if need be."""
    if sys.version_info < OLDEST:
        running = "Python {}.{}".format(*sys.version_info)
        fail(f"{running} is too old: use 3.10 or newer, such as `python3.12 {sys.argv[0]}`")
    place = Path(os.environ.get("IMGNORM_VENV") or ROOT / ".venv").expanduser().absolute()
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    asked = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    digest = hashlib.sha256(asked).hexdigest()
    note = place / DIGEST  # the digest, then the extras; missing while something is installed
    known = note.read_text().split() if note.exists() else []
    wanted = sorted({*extras, *known[1:]})
    if python.exists() and known == [digest, *wanted]:
        return python
    ours = (place / "pyvenv.cfg").exists()
    if place.exists() and not ours and not (place.is_dir() and not any(place.iterdir())):
        fail(f"{place} is not an environment: move it, or set IMGNORM_VENV to another folder")
    size = "5 GB, minutes" if "torch" in wanted else "0.2 GB, less than a minute"
    say(f"installing {' and '.join(['imgnorm', *wanted])} in {place} (once: {size})")
    if not (known and python.exists()):
        clear = ["--clear"] * (ours and not python.exists())
        call(sys.executable, "-I", "-m", "venv", *clear, str(place))
    note.unlink(missing_ok=True)
    target = f".[{','.join(wanted)}]" if wanted else "."
    call(str(python), "-I", "-m", "pip", "install", "-q", "-c", "constraints.txt", "-e", target)
    note.write_text(" ".join([digest, *wanted]))
    return python


def run(python: Path, *arguments: str) -> NoReturn:
    """Become a program of the environment, with this checkout's code first on its path."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command, variables = [str(python), *arguments], {**os.environ, "PYTHONPATH": path}
    if os.name == "posix":
        os.execve(command[0], command, variables)
    sys.exit(subprocess.call(command, env=variables))


def enter(script: str, *extras: str) -> None:
    """Run the rest of a script in the environment's Python, unless this is it."""
    python = set_up(*extras)
    if sys.executable != str(python):
        run(python, script, *sys.argv[1:])


def call(*command: str) -> None:
    """Run a step of the set-up in the checkout; what it prints goes to standard error."""
    if subprocess.call(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr):
        fail("this step failed, see above; check the network and the disk, then run this again")


def fail(text: str) -> NoReturn:
    say(text)
    sys.exit(2)


def say(text: str) -> None:
    print(f"imgnorm: {text}", file=sys.stderr, flush=True)


class TorchInstaller:
    """The last finder of modules: Python asks it for torch only if no other finder has found it."""

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> "ModuleSpec | None":
        if name not in ("torch", "torchvision"):
            return None
        sys.meta_path.remove(self)
        say("this needs torch and torchvision, which are not installed yet")
        set_up("torch")
        importlib.invalidate_caches()
        return importlib.util.find_spec(name)


if __name__ == "__main__":
    import runpy

    here = Path(__file__).parent  # the user's code must not import the scripts as modules
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here.resolve()]
    sys.meta_path.append(TorchInstaller())
    runpy.run_module("imgnorm", run_name="__main__", alter_sys=True)
