"""How much memory all workers together may take for large files and images."""

from __future__ import annotations

import threading


class MemoryBudget:
    """Bytes that several threads share."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._closed = False
        self._changed = threading.Condition()

    def acquire(self, size: int) -> bool:
        """Waits until `size` bytes are free; False if the whole budget is smaller."""
        with self._changed:
            if size > self._total:
                return False
            self._changed.wait_for(lambda: self._closed or self._taken + size <= self._total)
            self._taken += size
            return True

    def release(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Ends all waiting, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Budgets:
    """One budget for encoded files, another for decoded pixels.

    A worker that waits for pixels may hold a file. One that waits for a file holds nothing. So no
    two workers can wait for each other.
    """

    def __init__(self, total: int) -> None:
        self.file = MemoryBudget(total // 4)
        self.pixels = MemoryBudget(total - total // 4)

    def close(self) -> None:
        self.file.close()
        self.pixels.close()


class Share:
    """The part of the budgets that one worker holds."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._file = self._pixels = 0

    def ask_for_file(self, size: int) -> bool:
        """Releases what the previous image took, then waits until a file of `size` bytes may be read."""
        self.release()
        granted = self._budgets.file.acquire(size)
        self._file = size if granted else 0
        return granted

    def ask_for_pixels(self, size: int) -> bool:
        """Waits until `size` bytes may be taken for pixels; the file's share is kept."""
        self._release_pixels()
        granted = self._budgets.pixels.acquire(size)
        self._pixels = size if granted else 0
        return granted

    def release(self) -> None:
        self._release_pixels()
        size, self._file = self._file, 0
        self._budgets.file.release(size)

    def _release_pixels(self) -> None:
        size, self._pixels = self._pixels, 0
        self._budgets.pixels.release(size)
