"""The one place that makes the environment which scripts/ run in.

It is `.venv` of the checkout, or the folder that IMGNORM_VENV names, and may serve many checkouts:
the dependencies are installed there, imgnorm itself is not. A stamp inside it tells what was
installed; while that is what the checkout asks for, a set-up only reads the stamp.

Runs on the standard library alone. An old Python must still be able to read this file in order to
say that it is too old, hence the quoted annotations.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the import of typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

OLDEST = (3, 10)
ROOT = Path(__file__).resolve().parent.parent
STAMP = "imgnorm-stamp.json"
INPUTS = ("pyproject.toml", "constraints.txt")


class SetUpError(Exception):
    """The environment cannot be made; the text says what failed and what to do."""


def run_script(main: "Callable[[list[str]], int]") -> None:
    """Exit with what `main` returns: 2 without an environment, 128 + number after signals."""
    # An exit, unlike a death, takes the installer that is running along.
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    try:
        sys.exit(main(sys.argv[1:]))
    except SetUpError as error:
        say(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def set_up(extras: "Iterable[str]" = (), root: Path = ROOT) -> Path:
    """The Python of an environment that has what `root` asks for, made or updated if need be."""
    if sys.version_info < OLDEST:
        raise SetUpError(
            f"Python {minor_version()} is too old: run it with Python 3.10 or newer, "
            f"for example `python3.12 {sys.argv[0]}`"
        )
    environment = place_of(root)
    wanted = stamp_of(root, extras)
    if is_current(environment, wanted):
        return python_of(environment)
    try:
        with locked(environment) as lock:
            # Another set-up may have done the work while this one waited.
            if not is_current(environment, wanted):
                install(environment, wanted, root, lock)
    except OSError as error:
        raise SetUpError(
            f"the environment in {environment} cannot be written ({error}): "
            "make room there, or set IMGNORM_VENV to another folder"
        ) from error
    return python_of(environment)


def run_module(
    python: Path, arguments: "Sequence[str]", root: Path = ROOT, cwd: "Path | None" = None
) -> int:
    """Become `python -m ARGUMENTS` with the checkout's own code first on its path.

    Where a process can be replaced it is, so signals and exit codes need no passing on.
    """
    # Without -P the user's folder comes first, and an `imgnorm` or `numpy.py` in it is imported.
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []
    command = [str(python), *safe_path, "-m", *arguments]
    variables = {**os.environ, "PYTHONPATH": python_path(root, os.environ.get("PYTHONPATH"))}
    if cwd is not None:
        os.chdir(cwd)
    if os.name == "posix":
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed
                stream.flush()
        os.execve(command[0], command, variables)
    # The program gets Ctrl-C as well and answers it; this process only waits for its exit code.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return subprocess.call(command, env=variables)


def enter(script: str) -> None:
    """Go on with a script in the environment's Python, unless it is this one."""
    try:
        python = str(set_up())
    except SetUpError as error:
        say(str(error))
        sys.exit(2)
    if sys.executable != python:
        os.execv(python, [python, script, *sys.argv[1:]])


def python_path(root: Path, existing: "str | None") -> str:
    return os.pathsep.join([str(root), existing] if existing else [str(root)])


def place_of(root: Path) -> Path:
    named = os.environ.get("IMGNORM_VENV")
    return Path(named).expanduser().absolute() if named else root / ".venv"


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def minor_version() -> str:
    return "{}.{}".format(*sys.version_info)


def stamp_of(root: Path, extras: "Iterable[str]") -> "dict[str, object]":
    """What an environment for `root` has to hold."""
    digests = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in INPUTS}
    return {"python": minor_version(), **digests, "extras": sorted(extras)}


def read_stamp(environment: Path) -> "dict[str, object] | None":
    """What the environment holds; None if it is not ours or its installation was interrupted."""
    try:
        stamp = json.loads((environment / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def extras_in(stamp: "dict[str, object] | None") -> "set[str]":
    extras = (stamp or {}).get("extras")
    return {str(extra) for extra in extras} if isinstance(extras, list) else set()


def is_current(environment: Path, wanted: "dict[str, object]") -> bool:
    """True if all that is wanted is installed; more extras than that do no harm."""
    stamp = read_stamp(environment)
    if stamp is None or not python_of(environment).exists():
        return False
    same = all(stamp.get(key) == wanted[key] for key in ("python", *INPUTS))
    return same and extras_in(stamp) >= extras_in(wanted)


def install(environment: Path, wanted: "dict[str, object]", root: Path, lock: int) -> None:
    """Make the environment hold what is wanted; the stamp is written last."""
    stamp = read_stamp(environment)
    extras = sorted(extras_in(stamp) | extras_in(wanted))
    check_place(environment, stamp)
    if python_of(environment).exists():
        say(f"updating the environment in {environment} (it can take minutes) ...")
    else:
        say(
            f"creating the environment in {environment} (once; torch is large: several minutes) ..."
        )
    (environment / STAMP).unlink(missing_ok=True)

    other_python = stamp is not None and stamp.get("python") != wanted["python"]
    if other_python or not python_of(environment).exists():
        create(environment, lock, *(["--clear"] if stamp is not None else []))
    target = "." + (f"[{','.join(extras)}]" if extras else "")
    pip = pip_of(environment, lock)
    run([*pip("install"), target, "-c", "constraints.txt"], root, lock)
    # The checkout's own code is run, also by other checkouts that share this environment.
    run([*pip("uninstall"), "imgnorm"], root, lock)

    partial = environment / f"{STAMP}.{os.getpid()}"
    partial.write_text(json.dumps({**wanted, "extras": extras}, indent=1) + "\n", encoding="utf-8")
    partial.replace(environment / STAMP)


def check_place(environment: Path, stamp: "dict[str, object] | None") -> None:
    """Refuse a folder that somebody else may need: nothing of theirs is changed or deleted."""
    if not environment.exists() or stamp is not None:
        return
    if not environment.is_dir() or not (environment / "pyvenv.cfg").exists():
        if environment.is_dir() and not any(environment.iterdir()):
            return
        raise SetUpError(
            f"{environment} is not a virtual environment: "
            "move it away, or set IMGNORM_VENV to another folder"
        )
    version = version_in((environment / "pyvenv.cfg").read_text(encoding="utf-8"))
    if version != minor_version():
        raise SetUpError(
            f"{environment} belongs to Python {version} and this is Python {minor_version()}: "
            "delete it, or set IMGNORM_VENV to another folder"
        )


def version_in(pyvenv_cfg: str) -> str:
    for line in pyvenv_cfg.splitlines():
        key, _, value = line.partition("=")
        if key.strip() in ("version", "version_info"):
            return ".".join(value.strip().split(".")[:2])
    return "unknown"


def create(environment: Path, lock: int, *options: str) -> None:
    from importlib.util import find_spec

    # Debian's Python has `venv` without `ensurepip`, and would leave half an environment behind.
    if find_spec("venv") is None or find_spec("ensurepip") is None:
        raise SetUpError(
            f"{sys.executable} has no venv module: install it "
            "(`apt install python3-venv` on Debian and Ubuntu), or use another Python"
        )
    run([sys.executable, "-I", "-m", "venv", *options, str(environment)], None, lock)


def pip_of(environment: Path, lock: int) -> "Callable[[str], list[str]]":
    """From a subcommand to the start of its command line: uv if there is one, else pip."""
    from shutil import which

    python = str(python_of(environment))
    uv = which("uv")
    if uv:
        return lambda subcommand: [uv, "pip", subcommand, "--quiet", "--python", python]
    # -I: what PYTHONPATH holds is not installed here, though pip would count it as such.
    pip = [python, "-I", "-m", "pip"]
    if succeeded([*pip, "--version"]):
        quiet = ["--quiet", "--disable-pip-version-check"]
        yes = {"uninstall": ["--yes"]}
        return lambda subcommand: [*pip, subcommand, *quiet, *yes.get(subcommand, [])]
    create(environment, lock)  # an interrupted creation left no pip; this adds it
    if succeeded([*pip, "--version"]):
        return pip_of(environment, lock)
    raise SetUpError(
        f"{environment}: has no pip that works; delete this folder, and run this again"
    )


def succeeded(command: "Sequence[str]") -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run(command: "Sequence[str]", cwd: "Path | None", lock: int) -> None:
    """Run a command of the set-up; on failure, show the end of what it said."""
    # The child keeps the lock: if this process is killed, nobody else writes until it has ended.
    inherited = (lock,) if os.name == "posix" else ()
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=inherited,
        check=False,
    )
    if done.returncode != 0:
        last_lines = done.stdout.decode(errors="replace").rstrip().splitlines()[-15:]
        sys.stderr.write("".join(f"    {line}\n" for line in last_lines))
        tool = "venv" if "venv" in command else "uv" if Path(command[0]).stem == "uv" else "pip"
        raise SetUpError(
            f"{tool} failed (exit code {done.returncode}; its last lines are above): "
            "see to it that the network is up and the disk has 8 GB to spare, then run this again"
        )


@contextlib.contextmanager
def locked(environment: Path) -> "Iterator[int]":
    """One set-up of an environment at a time. The lock dies with its last process."""
    environment.parent.mkdir(parents=True, exist_ok=True)
    with open(environment.with_name(environment.name + ".lock"), "a+b") as file:
        if not try_lock(file):
            say(f"waiting for another set-up of {environment} ...")
            wait_for_lock(file)
        yield file.fileno()


if sys.platform == "win32":
    import msvcrt
    import time

    def try_lock(file: "BinaryIO") -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def wait_for_lock(file: "BinaryIO") -> None:
        while not try_lock(file):
            time.sleep(0.2)

else:
    import fcntl

    def try_lock(file: "BinaryIO") -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def wait_for_lock(file: "BinaryIO") -> None:
        fcntl.flock(file, fcntl.LOCK_EX)


def say(text: str) -> None:
    print(f"imgnorm: {text}", file=sys.stderr, flush=True)
