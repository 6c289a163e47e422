"""What the main process and the worker processes of a data loader have in common."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

__all__ = [
    "SharedCounts",
    "shared_with_forks",
]

#: The number of worker processes whose counts are kept apart
_MAX_WORKERS = 127


def shared_with_forks(shape: Sequence[int], value: int, *, dtype: torch.dtype) -> Tensor:
    """Make a tensor that processes share with those that they fork.

    It lies in an anonymous map: ordinary memory, which takes neither a file descriptor nor room in ``/dev/shm``. Where
    it is sent to a process that is spawned, torch moves it to where both can read it.

    :param shape: its shape
    :param value: its value
    :param dtype: its type

    :returns: shape: shape

    :raises OSError: if there is not so much memory
    """
    size = math.prod(shape)
    memory = mmap.mmap(-1, size * dtype.itemsize)
    return torch.frombuffer(memory, dtype=dtype, count=size).view(*shape).fill_(value)


class SharedCounts:
    """Numbers to which worker processes add, each in a place of its own, so that nothing is lost.

    :param size: how many numbers there are
    """

    def __init__(self, size: int = 1) -> None:
        """Begin at zero."""
        # the main process has the first place
        self._values = shared_with_forks((1 + _MAX_WORKERS, size), 0, dtype=torch.long)
        # what was counted on a device, by the position of the number
        self._elsewhere: dict[int, Tensor] = {}

    def add(self, *amounts: int | Tensor) -> None:
        """Add to each number.

        :param amounts: what is added. For a number on another device nobody waits before the totals are asked for.
        """
        worker = get_worker_info()
        place = 0 if worker is None else 1 + worker.id % _MAX_WORKERS
        for position, amount in enumerate(amounts):
            if isinstance(amount, Tensor) and amount.device.type != "cpu":
                self._elsewhere[position] = self._elsewhere.get(position, 0) + amount
            else:
                self._values[place, position] += amount

    def totals(self) -> list[int]:
        """Tell the numbers, of all processes together."""
        while self._elsewhere:
            position, amount = self._elsewhere.popitem()
            self._values[0, position] += int(amount)
        totals: list[int] = self._values.sum(dim=0).tolist()
        return totals

    def estimate(self) -> list[int]:
        """Tell the numbers without a look at other workers, whose pace differs from run to run.

        :returns: the totals, where a worker takes all workers to have added as much as it has itself
        """
        worker = get_worker_info()
        if worker is None:
            return self.totals()
        own = self._values[0] + worker.num_workers * self._values[1 + worker.id % _MAX_WORKERS]
        numbers: list[int] = own.tolist()
        return numbers

    def reset(self, *totals: int) -> None:
        """Begin anew.

        :param totals: the numbers at which to begin
        """
        self._elsewhere.clear()
        self._values.zero_()
        self._values[0] = torch.tensor(totals)
