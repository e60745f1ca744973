"""The command `imgnorm`: signals and exit codes around the commands of `imgnorm.cli`."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from contextlib import ExitStack, suppress
from types import FrameType


class _SignalReceived(BaseException):
    """A signal asked this process to end. Not an Exception, so that no handler on the way catches it."""


_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_parent = os.getpid()
_received = 0  # the signal that asked this process to end
_done = False


def main() -> None:
    """Run the command line; `imgnorm --help` lists the exit codes."""
    global _done, _received
    gc.set_threshold(50_000)  # imports make hardly any garbage, and looking for it takes 10 ms
    sys.unraisablehook = _stop_later
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _stop)
    try:
        try:
            with ExitStack() as stack:
                if sys.argv[1:2] == ["stats"]:  # its workers take longest to start
                    from imgnorm.workers.forkserver import starting_early

                    stack.enter_context(starting_early())
                from imgnorm.cli import run

                code = run(sys.argv[1:])
            if _received:  # TorchScript turns what is raised below it into an error of its own
                raise _SignalReceived
            if sys.stdout is not None:
                sys.stdout.flush()
            _done = True
        except BrokenPipeError:  # `| head`: the reader has closed its end
            _drop_output()
            code = 141
        except OSError as error:
            if sys.stdout is None or not _output_failed(error):
                raise
            _drop_output()
            _complain(f"standard output: cannot be written ({error.strerror}); send it elsewhere")
            code = 74  # EX_IOERR of sysexits.h, which Windows lacks
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the outermost edge: a bug gets its exit code, too
        if isinstance(error, KeyboardInterrupt):  # raised by a user's own code: the same as Ctrl-C
            _received = _received or signal.SIGINT
        # Python turns what is raised in __set_name__ into a RuntimeError: ask for the signal, not the type.
        if _received:
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


def _stop(number: int, frame: FrameType | None) -> None:
    global _received
    if os.getpid() != _parent:  # a process that a user's DataLoader forked: only the parent reports
        os._exit(0)
    if _received or _done:  # the second signal, or nothing is left to clean up: leave now
        os._exit(128 + number)
    _received = number
    if hasattr(signal, "SIGCHLD"):
        # torch's handler would report that its workers end, as they must.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    raise _SignalReceived


def _stop_later(unraisable: sys.UnraisableHookArgs) -> None:
    """Sends the signal again if it came in a destructor or in a weak reference's callback.

    Python drops what is raised there
    (https://docs.python.org/3/library/sys.html#sys.unraisablehook).
    """
    global _received
    if not isinstance(unraisable.exc_value, _SignalReceived):
        sys.__unraisablehook__(unraisable)
        return
    from threading import Timer

    number, _received = _received, 0
    again = Timer(0.01, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _output_failed(error: OSError) -> bool:
    # Unbuffered output: a flush would not fail again.
    if error.filename is None and error.errno in _WRITE_ERRORS:
        return True
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _drop_output() -> None:
    """Drops what is still buffered for standard output, or Python would complain at exit."""
    if sys.stdout is not None:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
