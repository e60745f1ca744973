"""Where a worker is, in memory that it shares with its parent."""

from __future__ import annotations

import mmap
import os
import struct
import sys
from contextlib import ExitStack

from imgnorm.pixels.buffer import BufferSize

_PULSE = struct.Struct("<q")
PAGE_BYTES = 1 << 16
"""A multiple of what every system maps at least: other things may lie behind it."""


class Heartbeat:
    """Where a worker is, in memory that it shares with its parent: survives any way to die."""

    def __init__(self, handle: int | str) -> None:
        """
        Args:
            handle: a file descriptor of one page; on Windows, the name of a shared mapping.
        """
        if isinstance(handle, int):
            self._memory = mmap.mmap(handle, mmap.PAGESIZE)
        else:
            self._memory = mmap.mmap(-1, mmap.PAGESIZE, tagname=handle)  # type: ignore[call-arg]

    def at(self, job: int, index: int) -> None:
        _PULSE.pack_into(self._memory, 0, job << 20 | index)

    def still_alive(self) -> None:
        """Still at the same name, but not stuck."""
        (breaths,) = _PULSE.unpack_from(self._memory, _PULSE.size)
        _PULSE.pack_into(self._memory, _PULSE.size, breaths + 1)

    def state(self) -> bytes:
        """Differs from the last one unless the worker is stuck, or has nothing to do."""
        return self._memory[: 2 * _PULSE.size]

    def last(self) -> tuple[int, int]:
        """The number of the job, and the index of the name that is being read."""
        (value,) = _PULSE.unpack_from(self._memory, 0)
        return value >> 20, value & (1 << 20) - 1


def page(stack: ExitStack, behind: int = 0) -> int:
    """The handle of an empty page that a child inherits; closed with the stack.

    Args:
        behind: how many bytes of other use follow it.
    """
    if hasattr(os, "memfd_create"):  # needs no folder for temporary files, which may be full
        handle = os.memfd_create("imgnorm-pulse")
    else:
        import tempfile  # and half a dozen modules with it

        with tempfile.TemporaryFile() as file:
            file.write(bytes(PAGE_BYTES))
            file.flush()
            handle = os.dup(file.fileno())
    stack.callback(os.close, handle)
    os.truncate(handle, PAGE_BYTES + behind)
    if sys.platform != "win32" and handle <= 2:
        # Ours, where our own input or output is closed; the child's 0, 1 and 2 are pipes.
        import fcntl

        handle = fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 3)
        stack.callback(os.close, handle)
    return handle


def buffer_memory(handle: int | str, size: BufferSize) -> mmap.mmap:
    """The memory behind a worker's pulse.

    Args:
        handle: the pulse's.
    """
    if isinstance(handle, int):
        return mmap.mmap(handle, size.bytes, offset=PAGE_BYTES)
    return mmap.mmap(-1, size.bytes, tagname=f"{handle}-tray")  # type: ignore[call-arg]
