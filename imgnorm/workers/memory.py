"""How much memory there is to spare on this machine, in this container, and who may take it."""

from __future__ import annotations

import threading


class MemoryBudget:
    """What all workers together may take for large images."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._closed = False
        self._changed = threading.Condition()

    def acquire(self, size: int) -> bool:
        """Waits until `size` bytes are free; False if there will never be so many."""
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
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Budgets:
    """Encoded files and decoded pixels apart.

    Who waits for pixels may hold a file, but never the other way round: nobody waits in a circle.
    """

    def __init__(self, total: int) -> None:
        self.file = MemoryBudget(total // 4)
        self.pixels = MemoryBudget(total - total // 4)

    def close(self) -> None:
        self.file.close()
        self.pixels.close()


class Share:
    """What one worker has of the budgets."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets
        self._file = self._pixels = 0

    def ask_for_file(self, size: int) -> bool:
        """Waits until a file of `size` bytes may be read; gives back what the image before it took."""
        self.give_back()
        granted = self._budgets.file.acquire(size)
        self._file = size if granted else 0
        return granted

    def ask_for_pixels(self, size: int) -> bool:
        """Waits until `size` bytes may be taken for pixels; the file stays where it is."""
        self._give_back_pixels()
        granted = self._budgets.pixels.acquire(size)
        self._pixels = size if granted else 0
        return granted

    def give_back(self) -> None:
        self._give_back_pixels()
        size, self._file = self._file, 0
        self._budgets.file.release(size)

    def _give_back_pixels(self) -> None:
        size, self._pixels = self._pixels, 0
        self._budgets.pixels.release(size)
