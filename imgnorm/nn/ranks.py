"""Work that every process of torch.distributed does, and what all of them find."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from imgnorm.errors import ImgnormError, ModelError
from imgnorm.wording import describe

_Found = TypeVar("_Found")


class Ranks:
    """The processes that work together; this one alone, unless torch.distributed is initialized.

    Args:
        group: a part of the processes; all of them by default.

    Raises:
        ValueError: this process is not in the group.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        together = dist.is_available() and dist.is_initialized()
        self._count = dist.get_world_size(group) if together else 1
        self._group = group
        if self._count < 0:
            raise ValueError(
                "this process is not in process_group; call it on the ranks of the group"
            )

    def each(self, work: Callable[[], _Found]) -> list[_Found]:
        """What `work` gives on every rank, in their order: the same list on each.

        What it gives is sent, so its tensors should be on the CPU. If it fails on one rank, none waits
        for it: it fails on all.

        Raises:
            ModelError: it has failed on another rank.
        """
        if self._count == 1:
            return [work()]
        try:
            own = work()
        except Exception as error:
            self._gathered(
                (None, str(error) if isinstance(error, ImgnormError) else describe(error))
            )
            raise
        answers = self._gathered((own, ""))
        for rank, (_, fault) in enumerate(answers):
            if fault:
                raise ModelError(f"rank {rank}: {fault}")
        return [found for found, _ in answers]

    def _gathered(self, own: tuple[_Found, str]) -> list[tuple[_Found, str]]:
        answers: list[tuple[_Found, str]] = [own] * self._count
        dist.all_gather_object(answers, own, group=self._group)
        return answers
