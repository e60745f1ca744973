"""The command `imgnorm`: signals and exit codes around the commands of cli.py."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from contextlib import ExitStack, suppress
from types import FrameType


class _Stopped(BaseException):
    """A signal asked us to end; not an Exception, so that nothing swallows it on the way out."""


_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_parent = os.getpid()
_received = 0  # the signal that asked us to end
_done = False


def _stop(number: int, frame: FrameType | None) -> None:
    global _received
    if (
        os.getpid() != _parent
    ):  # a process that a user's DataLoader forked: the parent speaks for it
        os._exit(0)
    if _received or _done:  # asked twice, or nothing is left to tidy up: leave now
        os._exit(128 + number)
    _received = number
    if hasattr(signal, "SIGCHLD"):  # torch complains there that its workers end, which they shall
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    raise _Stopped


def _stop_later(unraisable: sys.UnraisableHookArgs) -> None:
    """A signal that came in a destructor or a weak reference's callback, where Python drops what is
    raised: it comes again, a little later."""
    global _received
    if not isinstance(unraisable.exc_value, _Stopped):
        sys.__unraisablehook__(unraisable)
        return
    from threading import Timer

    number, _received = _received, 0
    again = Timer(0.01, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def main() -> None:
    """Run the command line; the exit codes are those of `imgnorm --help`."""
    global _done, _received
    gc.set_threshold(50_000)  # what is imported is no garbage: looking through it takes 10 ms
    sys.unraisablehook = _stop_later
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _stop)
    try:
        try:
            with ExitStack() as stack:
                if _is_to_measure(sys.argv[1:]):
                    from imgnorm.workers.forkserver import opened_early

                    stack.enter_context(opened_early())
                from imgnorm.cli import run

                code = run(sys.argv[1:])
            if _received:  # TorchScript makes an error of its own of what is raised below it
                raise _Stopped
            if sys.stdout is not None:
                sys.stdout.flush()
            _done = True
        except BrokenPipeError:  # `| head`: the reader has seen enough
            _drop_output()
            code = 141
        except OSError as error:
            if sys.stdout is None or not _output_failed(error):
                raise
            _drop_output()
            _complain(f"standard output: cannot be written ({error.strerror}); send it elsewhere")
            code = 2
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the outermost edge: a bug still gets its exit code
        if isinstance(error, KeyboardInterrupt):  # raised by a user's own code: as good as Ctrl-C
            _received = _received or signal.SIGINT
        if _received:  # or what Python made of _Stopped: a RuntimeError, if it came in __set_name__
            code = 128 + _received
            _complain(f"stopped by {signal.Signals(_received).name}")
        else:
            import traceback

            _complain(
                f"{traceback.format_exc()}this is a bug in imgnorm, not in your data: please report it"
            )
            code = 70
        _drop_output()
    sys.exit(code)


_IN_MEMORY = "CIFAR10 CIFAR100 EMNIST FashionMNIST KMNIST MNIST QMNIST SEMEION STL10 SVHN USPS"
"""torchvision's sets whose pixels this process holds and counts itself."""


def _is_to_measure(arguments: list[str]) -> bool:
    """Whether it looks as if workers will be wanted; they take longest to start."""
    without = {"--dataset", "--help", "-h", *(f"torchvision:{one}" for one in _IN_MEMORY.split())}
    return arguments[:1] == ["stats"] and len(arguments) > 1 and not without & set(arguments)


def _output_failed(error: OSError) -> bool:
    if error.filename is None and error.errno in _WRITE_ERRORS:  # unbuffered: told only once
        return True
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _drop_output() -> None:
    """What is still buffered for standard output goes nowhere, or Python would complain at exit."""
    if sys.stdout is not None:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
