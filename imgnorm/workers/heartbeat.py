"""Memory that a worker process shares with its parent: its heartbeat, and pixels for a device.

The first `PAGE_BYTES` hold the heartbeat: the image that the worker is at. The parent can read it
however the worker ended. Behind it lies the buffer for pixels, if a device counts them.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from contextlib import ExitStack

from imgnorm.pixels.buffer import BufferSize

_NUMBER = struct.Struct("<q")
_INDEX_BITS = 20
PAGE_BYTES = 1 << 16
"""A multiple of `mmap.ALLOCATIONGRANULARITY` on every system, as the offset of a mapping must be."""


class Heartbeat:
    """Where a worker is: two numbers in shared memory.

    The first is the job and the index of the name in it, the second counts signs of life.
    """

    def __init__(self, handle: int | str) -> None:
        """
        Args:
            handle: a file descriptor from `shared_page`; on Windows, the name of a shared mapping.
        """
        if isinstance(handle, int):
            self._memory = mmap.mmap(handle, mmap.PAGESIZE)
        else:
            self._memory = mmap.mmap(-1, mmap.PAGESIZE, tagname=handle)  # type: ignore[call-arg]

    def begin(self, job: int, index: int) -> None:
        """The worker begins the name at this index of a job."""
        _NUMBER.pack_into(self._memory, 0, job << _INDEX_BITS | index)

    def still_alive(self) -> None:
        """The worker is at the same name, but makes progress."""
        (count,) = _NUMBER.unpack_from(self._memory, _NUMBER.size)
        _NUMBER.pack_into(self._memory, _NUMBER.size, count + 1)

    def state(self) -> bytes:
        """Equal to an earlier state only if the worker hangs, or has nothing to do."""
        return self._memory[: 2 * _NUMBER.size]

    def last(self) -> tuple[int, int]:
        """The job that the worker was at last, and the index of the name in it."""
        (value,) = _NUMBER.unpack_from(self._memory, 0)
        return value >> _INDEX_BITS, value & (1 << _INDEX_BITS) - 1


def shared_page(stack: ExitStack, behind: int = 0) -> int:
    """A file descriptor of empty memory that a child process inherits; closed with the stack.

    Args:
        behind: bytes for other use behind the heartbeat.
    """
    if hasattr(os, "memfd_create"):  # needs no folder for temporary files, which may be full
        handle = os.memfd_create("imgnorm-heartbeat")
    else:
        import tempfile  # imports half a dozen modules

        with tempfile.TemporaryFile() as file:
            file.write(bytes(PAGE_BYTES))
            file.flush()
            handle = os.dup(file.fileno())
    stack.callback(os.close, handle)
    os.truncate(handle, PAGE_BYTES + behind)
    if sys.platform != "win32" and handle <= 2:
        # Possible where our own standard streams are closed; in the child, 0, 1 and 2 are pipes.
        import fcntl

        handle = fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, 3)
        stack.callback(os.close, handle)
    return handle


def buffer_memory(handle: int | str, size: BufferSize) -> mmap.mmap:
    """The memory for pixels, behind the heartbeat.

    Args:
        handle: the heartbeat's.
    """
    if isinstance(handle, int):
        return mmap.mmap(handle, size.bytes, offset=PAGE_BYTES)
    return mmap.mmap(-1, size.bytes, tagname=f"{handle}-pixels")  # type: ignore[call-arg]
